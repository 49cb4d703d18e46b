//! How old things are: by the time that has passed, and not by what the clock says.
//!
//! A device without a battery-backed clock wakes up in 1970, and clocks are put right by years or wrong by hours. Nothing
//! young may be forgotten for that. So a store counts its own life in seconds: while the agent runs, by a clock that only
//! goes forward; from one run to the next, by the difference of the wall clock where that is believable. What errs, errs
//! towards keeping longer, and the limit in bytes holds whatever the clock does.

use std::time::Instant;

/// A difference between two runs that is larger, or negative, says more about the clock than about the time: it counts as
/// no time at all.
const OFF_S_MAX: u64 = 30 * 24 * 3600;

/// The life of a store.
pub(super) struct Life {
    age_at_start_s: u64,
    started: Instant,
}

impl Life {
    /// A life that goes on at `now_s` seconds since 1970; `last` is what [`Life::encode`] last wrote.
    pub(super) fn go_on(last: Option<Lived>, now_s: u64) -> Life {
        let age_at_start_s = last.map_or(0, |last| {
            let off_s = now_s.checked_sub(last.wall_s).filter(|off_s| *off_s <= OFF_S_MAX);
            last.age_s + off_s.unwrap_or(0)
        });
        Life { age_at_start_s, started: Instant::now() }
    }

    /// Seconds that the store has lived.
    pub(super) fn age_s(&self) -> u64 {
        self.age_at_start_s + self.started.elapsed().as_secs()
    }

    /// The row that is written with each commit.
    pub(super) fn encode(&self, now_s: u64) -> Vec<u8> {
        [self.age_s().to_be_bytes(), now_s.to_be_bytes()].concat()
    }
}

/// What was known when the store was last written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lived {
    /// Seconds of life.
    pub(super) age_s: u64,
    /// Seconds since 1970, by the clock of then.
    pub(super) wall_s: u64,
}

impl Lived {
    pub(super) fn decode(value: &[u8]) -> Option<Lived> {
        let (age, wall) = value.split_first_chunk::<8>()?;
        Some(Lived { age_s: u64::from_be_bytes(*age), wall_s: super::rows::number(wall)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_believable_difference_of_the_clock_counts() {
        const DAY: u64 = 24 * 3600;
        const TODAY: u64 = 1_800_000_000;
        let last = |wall_s| Some(Lived { age_s: 1000, wall_s });
        for (last, now_s, expect) in [
            (None, TODAY, 0),
            (last(TODAY), TODAY, 1000),
            (last(TODAY), TODAY + DAY, 1000 + DAY),
            // An hour back, and a clock that was lost.
            (last(TODAY), TODAY - 3600, 1000),
            (last(TODAY), 0, 1000),
            // A clock that was set at last, after a life in 1970.
            (last(60), TODAY, 1000),
            (last(TODAY), TODAY + 31 * DAY, 1000),
        ] {
            assert_eq!(Life::go_on(last, now_s).age_s(), expect, "{last:?} {now_s}");
        }
        let life = Life::go_on(last(TODAY), TODAY);
        assert_eq!(Lived::decode(&life.encode(TODAY)), last(TODAY));
    }
}
