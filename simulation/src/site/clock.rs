//! The clocks of one process: a monotonic one that runs a little fast or slow, and a calendar that may be hours off.
//! Whole numbers only, so that every machine computes the same.

use picket_shared::clock::Now;

/// The world's time begins here, on a calendar that is right.
pub const EPOCH_UNIX_MS: u64 = 1_800_000_000_000;
const MILLION: u64 = 1_000_000;

/// A process's clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// When the process started, in the world's time: its monotonic clock is 0 there.
    pub born_ms: u64,
    /// How much faster it runs than the world's, in millionths.
    pub drift_ppm: i64,
    /// How far the calendar is ahead.
    pub ahead_ms: i64,
}

impl Clock {
    /// What this process takes for now.
    pub fn now(&self, world_ms: u64) -> Now {
        let unix_ms = (EPOCH_UNIX_MS + world_ms).saturating_add_signed(self.ahead_ms);
        Now { mono_ms: self.mono_ms(world_ms), unix_ms }
    }

    /// The monotonic clock.
    pub fn mono_ms(&self, world_ms: u64) -> u64 {
        let rate = MILLION.saturating_add_signed(self.drift_ppm);
        world_ms.saturating_sub(self.born_ms) * rate / MILLION
    }

    /// The first moment of the world at which the monotonic clock shows this, or more.
    pub fn world_ms(&self, mono_ms: u64) -> u64 {
        let rate = MILLION.saturating_add_signed(self.drift_ppm);
        let after = (u128::from(mono_ms) * u128::from(MILLION)).div_ceil(u128::from(rate));
        self.born_ms.saturating_add(u64::try_from(after).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_rings_at_the_first_moment_that_its_clock_shows() {
        for drift_ppm in [-10_000, -200, 0, 200, 10_000] {
            let clock = Clock { born_ms: 777, drift_ppm, ahead_ms: 0 };
            for mono_ms in [0, 1, 999, 5_000, 123_457] {
                let at_ms = clock.world_ms(mono_ms);
                assert!(clock.mono_ms(at_ms) >= mono_ms, "{drift_ppm} {mono_ms}");
                assert!(at_ms == 777 || clock.mono_ms(at_ms - 1) < mono_ms, "{drift_ppm} {mono_ms}");
            }
        }
    }
}
