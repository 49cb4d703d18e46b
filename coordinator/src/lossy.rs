//! Whether messages get lost or come late at this site, from the heartbeats' own numbers and times. Pure.
//!
//! It says nothing of any node: one that is silent adds nothing here. TCP hides loss as lateness, so both count.

use picket_shared::limits::HEARTBEAT_MS;

/// A heartbeat that comes later than this after its due time was held up on the way.
const LATE_MS: u64 = HEARTBEAT_MS / 2;
/// More than this part lost or late: the line is lossy. A site with 1 % is not.
const LOSSY_PART: f64 = 0.02;
/// After so long a heartbeat weighs half.
const HALF_LIFE_MS: f64 = 20_000.0;
/// Fewer heartbeats than this say nothing.
const HEARTBEATS_MIN: f64 = 10.0;
/// Nor does one alone that was lost or late: while there are few, it would be a large part of them.
const AMISS_MIN: f64 = 1.5;

/// What the line is like.
#[derive(Debug, Clone, Default)]
pub struct Quality {
    due: f64,
    amiss: f64,
    counted_ms: u64,
}

impl Quality {
    /// A heartbeat came, `steps` numbers after the last one of the same run and `gap_ms` later.
    pub fn heartbeat(&mut self, now_ms: u64, steps: u64, gap_ms: u64) {
        self.fade(now_ms);
        // Who stood still for long says that of itself, and nothing of the line.
        let lost = steps.saturating_sub(1).min(5) as f64;
        let late = gap_ms > steps.saturating_mul(HEARTBEAT_MS).saturating_add(LATE_MS);
        self.due += lost + 1.0;
        self.amiss += lost + f64::from(u8::from(late));
    }

    /// Whether messages get lost or come late.
    pub fn is_lossy(&self) -> bool {
        self.due >= HEARTBEATS_MIN && self.amiss > LOSSY_PART * self.due && self.amiss >= AMISS_MIN
    }

    fn fade(&mut self, now_ms: u64) {
        let factor = 0.5f64.powf(now_ms.saturating_sub(self.counted_ms) as f64 / HALF_LIFE_MS);
        self.counted_ms = now_ms;
        self.due *= factor;
        self.amiss *= factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three nodes for two minutes, of whose heartbeats every so many'th is lost, or late.
    fn lossy(lost_every: u64, late_every: u64) -> bool {
        let mut quality = Quality::default();
        let mut steps = 1;
        for beat in 1..=360u64 {
            if lost_every > 0 && beat % lost_every == 0 {
                steps += 1;
                continue;
            }
            let late_ms = if late_every > 0 && beat % late_every == 0 { 600 } else { 0 };
            quality.heartbeat(beat * HEARTBEAT_MS / 3, steps, steps * HEARTBEAT_MS + late_ms);
            steps = 1;
        }
        quality.is_lossy()
    }

    #[test]
    fn a_line_is_lossy_when_many_heartbeats_are_lost_or_late() {
        for (lost_every, late_every, expect) in
            [(0, 0, false), (200, 0, false), (20, 0, true), (5, 0, true), (0, 200, false), (0, 10, true)]
        {
            assert_eq!(lossy(lost_every, late_every), expect, "{lost_every} {late_every}");
        }
    }

    #[test]
    fn one_that_is_late_at_the_beginning_says_nothing() {
        let mut quality = Quality::default();
        for beat in 1..=60 {
            quality.heartbeat(beat * HEARTBEAT_MS / 3, 1, HEARTBEAT_MS + if beat == 12 { 900 } else { 0 });
            assert!(!quality.is_lossy(), "{beat}");
        }
    }

    #[test]
    fn one_long_silence_is_no_quality_of_the_line_and_is_forgotten() {
        let mut quality = Quality::default();
        (1..60).for_each(|beat| quality.heartbeat(beat * HEARTBEAT_MS, 1, HEARTBEAT_MS));
        quality.heartbeat(90_000, 1, 30_000);
        (91..200).for_each(|beat| quality.heartbeat(beat * HEARTBEAT_MS, 1, HEARTBEAT_MS));
        assert!(!quality.is_lossy());
    }
}
