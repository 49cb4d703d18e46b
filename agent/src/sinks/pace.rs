//! How often: lets things through at a rate, whatever rate they come at.
//!
//! Pure. Times are the frames' own, so that a clock which jumps only lets one through early.

/// Most pictures a second that any sink takes.
pub(super) const FPS_MAX: f64 = 60.0;
/// Fewest pictures a second: one a minute.
pub(super) const FPS_MIN: f64 = 1.0 / 60.0;

/// The interval of a rate, in milliseconds.
pub(super) fn interval_ms(fps: f64) -> u64 {
    (1000.0 / fps.clamp(FPS_MIN, FPS_MAX)) as u64
}

/// Lets one through each interval, on average: one that came a little late does not put off those that follow.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    due_ms: Option<u64>,
}

impl Pace {
    /// Whether one that comes now goes through.
    pub(super) fn lets(&mut self, now_ms: u64, interval_ms: u64) -> bool {
        let next = match self.due_ms {
            // Another interval than the one before, or a clock that was set back.
            Some(due_ms) if due_ms > now_ms.saturating_add(interval_ms) => now_ms,
            Some(due_ms) if due_ms > now_ms => return false,
            // After a pause it begins anew: what did not come in it is not made up for.
            Some(due_ms) => due_ms.max(now_ms.saturating_sub(interval_ms)),
            None => now_ms,
        };
        self.due_ms = Some(next.saturating_add(interval_ms));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_on_average() {
        for (name, every_ms, tremble_ms, interval, expect) in [
            ("slower than the rate", 500, 0, 100, 20),
            ("as fast as the rate, trembling", 100, 30, 100, 100),
            ("a little faster", 80, 0, 100, 100),
            ("much faster", 13, 5, 100, 100),
            ("never", 100, 0, u64::MAX, 1),
        ] {
            let mut pace = Pace::default();
            let times = (0..10_000 / every_ms).map(|n| 50 + n * every_ms + (n * 7 % 3) * tremble_ms / 2);
            let through = times.filter(|now_ms| pace.lets(*now_ms, interval)).count() as i64;
            assert!((through - expect).abs() <= 2, "{name}: {through}");
        }
    }

    #[test]
    fn neither_a_pause_nor_a_clock_that_jumps_makes_a_burst_or_a_silence() {
        let mut pace = Pace::default();
        let through: Vec<u64> = [0, 50, 100, 100_000, 100_010, 100_020, 90, 100, 150, 190, 290]
            .into_iter()
            .filter(|now_ms| pace.lets(*now_ms, 100))
            .collect();
        assert_eq!(through, [0, 100, 100_000, 100_010, 90, 190, 290]);
        let mut pace = Pace::default();
        assert!(pace.lets(1_000, 60_000));
        assert!(!pace.lets(1_100, 60_000));
        assert!(pace.lets(1_200, 100), "the rate was raised");
    }
}
