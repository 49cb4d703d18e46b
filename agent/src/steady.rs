//! A clock that does not jump: frame times, with the jumps of the wall clock taken out.
//!
//! A frame carries the wall clock's time, which somebody may set by an hour in the middle of a track. Durations (how long
//! a track was not seen, how long somebody stands in a zone, when the gate must open) are counted by this clock instead;
//! it is told what a monotonic clock said meanwhile. What is told to others has the wall clock's time again. Pure: both
//! times come in.

use picket_shared::event::Event;

/// Where the two clocks disagree by more than this from one frame to the next, the monotonic one is right. Less is a frame
/// that has waited, or a video with times of its own.
const JUMP_MS_MIN: u64 = 2_000;

/// The steady clock of one source.
#[derive(Debug, Clone, Default)]
pub struct SteadyClock {
    /// The last frame, by the wall clock and by the monotonic one.
    last: Option<(u64, u64)>,
    now_ms: u64,
    jumps: u64,
}

impl SteadyClock {
    /// Takes in a frame's time and the monotonic time at which it was looked at, both in milliseconds, and gives the frame's
    /// time by this clock. It begins at the first frame's time and never goes back.
    pub fn tick(&mut self, taken_ms: u64, mono_ms: u64) -> u64 {
        let Some((taken_before_ms, mono_before_ms)) = self.last.replace((taken_ms, mono_ms)) else {
            self.now_ms = taken_ms;
            return taken_ms;
        };
        let really_ms = mono_ms.saturating_sub(mono_before_ms);
        let elapsed_ms = match taken_ms.checked_sub(taken_before_ms) {
            Some(elapsed_ms) if elapsed_ms.abs_diff(really_ms) <= JUMP_MS_MIN => elapsed_ms,
            _ => {
                self.jumps += 1;
                really_ms
            }
        };
        self.now_ms = self.now_ms.saturating_add(elapsed_ms);
        self.now_ms
    }

    /// The last frame's time by this clock.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Times that the wall clock has jumped, or a frame was looked at long after it was taken.
    pub fn jumps(&self) -> u64 {
        self.jumps
    }

    /// Gives an event of the last frame, told by this clock, the wall clock's times as it goes now. What lies between them
    /// stays.
    pub fn to_wall(&self, event: &mut Event) {
        let Some((taken_ms, _)) = self.last else { return };
        let wall = |steady_ms: &mut u64| *steady_ms = taken_ms.saturating_sub(self.now_ms.saturating_sub(*steady_ms));
        wall(&mut event.frame_time_ms);
        wall(&mut event.start_time_ms);
        event.end_time_ms.iter_mut().for_each(wall);
        event.crossings.iter_mut().for_each(|crossing| wall(&mut crossing.frame_time_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn only_jumps_are_taken_out() {
        let t = 100 * HOUR_MS;
        for (name, frames, expect, jumps) in [
            ("no jump", [(t, 0), (t + 100, 100), (t + 200, 200)], [0, 100, 200], 0),
            ("an hour ahead", [(t, 0), (t + HOUR_MS + 100, 100), (t + HOUR_MS + 200, 200)], [0, 100, 200], 1),
            ("an hour back", [(t, 0), (t - HOUR_MS + 100, 100), (t - HOUR_MS + 200, 200)], [0, 100, 200], 1),
            ("a hair back", [(t, 0), (t - 1, 100), (t + 99, 200)], [0, 100, 200], 1),
            (
                "no frame for an hour",
                [(t, 0), (t + HOUR_MS, HOUR_MS), (t + HOUR_MS + 100, HOUR_MS + 100)],
                [0, HOUR_MS, HOUR_MS + 100],
                0,
            ),
            // The process stood still with a frame in its hands: it catches up, and nothing is counted twice.
            (
                "a frame that waited",
                [(t, 0), (t + 100, HOUR_MS), (t + HOUR_MS + 100, HOUR_MS + 100)],
                [0, HOUR_MS, HOUR_MS + 100],
                2,
            ),
            ("a video played fast", [(t, 0), (t + 40, 5), (t + 80, 10)], [0, 40, 80], 0),
            ("a video that begins anew", [(t, 0), (t - 60_000, 40), (t - 59_960, 80)], [0, 40, 80], 1),
        ] {
            let mut clock = SteadyClock::default();
            let ticks = frames.map(|(taken_ms, mono_ms)| clock.tick(taken_ms, mono_ms) - t);
            assert_eq!((ticks, clock.jumps()), (expect, jumps), "{name}");
        }
    }

    proptest! {
        #[test]
        fn it_never_goes_back_and_never_panics(frames in proptest::collection::vec((any::<u64>(), any::<u64>()), 1..50)) {
            let (mut clock, mut before_ms) = (SteadyClock::default(), None);
            for (taken_ms, mono_ms) in frames {
                let now_ms = clock.tick(taken_ms, mono_ms);
                prop_assert!(before_ms.is_none_or(|before_ms| before_ms <= now_ms));
                before_ms = Some(now_ms);
            }
        }
    }
}
