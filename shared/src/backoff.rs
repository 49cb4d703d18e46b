//! How long to wait before trying again, so that many who fail together do not come back together.
//!
//! Pure: the caller draws the random number. Full jitter, as Marc Brooker measured it ("Exponential Backoff and Jitter",
//! AWS Architecture Blog, 2015): each wait is anywhere below a ceiling that doubles.

use std::time::Duration;

/// The first ceiling: a thousand clients of a broker that restarts come back over two seconds.
pub const CEILING_FIRST: Duration = Duration::from_secs(2);
/// The last ceiling: it keeps a returning broker from waiting long for its clients. Below the silence after which a node
/// counts as gone, so that one that has only not come back yet is not taken for dead.
pub const CEILING_LAST: Duration = Duration::from_secs(5);
/// No wait is shorter: a name that does not resolve fails in no time.
pub const WAIT_MIN: Duration = Duration::from_millis(50);
/// A connection that lasted this long was a good one: the next wait begins small again.
pub const GOOD_CONNECTION: Duration = Duration::from_secs(20);

/// The waits of one client.
#[derive(Debug, Clone)]
pub struct Backoff {
    ceiling: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { ceiling: CEILING_FIRST }
    }
}

impl Backoff {
    /// The next wait, by a number from 0 to below 1 that is drawn evenly.
    pub fn next(&mut self, unit: f64) -> Duration {
        let wait = WAIT_MIN + (self.ceiling - WAIT_MIN).mul_f64(unit.clamp(0.0, 1.0));
        self.ceiling = (self.ceiling * 2).min(CEILING_LAST);
        wait
    }

    /// A connection ended that had lasted so long. After a good one the waits begin small again.
    pub fn ended(&mut self, lasted: Duration) {
        if lasted >= GOOD_CONNECTION {
            *self = Backoff::default();
        }
    }
}

/// How long others may need to come back, in milliseconds, after a connection was away here for so long and is back: their
/// broker was the same one, and was as far away. Who was cut off only shortly waits shortly, so that connections that break
/// all the time do not put off for ever what follows from a silence.
pub fn others_return_ms(away_ms: u64) -> u64 {
    away_ms.min(CEILING_LAST.as_millis() as u64)
}

/// A number that depends on all of these and looks like chance: the same ones give the same number, others another.
/// SplitMix64's finaliser (Steele, Lea and Flood, 2014) over each in turn.
pub fn scatter(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().fold(0, |mixed: u64, number| {
        let mut z = (mixed ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_lie_below_a_ceiling_that_doubles_and_ends() {
        let highest = |count: usize| {
            let mut backoff = Backoff::default();
            (0..count).map(|_| backoff.next(1.0).as_secs()).collect::<Vec<_>>()
        };
        assert_eq!(highest(6), [2, 4, 5, 5, 5, 5]);
        let mut backoff = Backoff::default();
        assert_eq!((backoff.next(0.0), backoff.next(-7.0)), (WAIT_MIN, WAIT_MIN), "and none is shorter than the least");
    }

    #[test]
    fn only_a_good_connection_makes_the_waits_small_again() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.next(1.0);
        }
        backoff.ended(GOOD_CONNECTION - Duration::from_millis(1));
        assert_eq!(backoff.next(1.0), CEILING_LAST);
        backoff.ended(GOOD_CONNECTION);
        assert_eq!(backoff.next(1.0), CEILING_FIRST);
    }

    #[test]
    fn a_thousand_first_waits_are_spread_over_two_seconds() {
        let mut tenths = [0; 21];
        for client in 0..1000u64 {
            let unit = scatter([client]) as f64 / u64::MAX as f64;
            tenths[Backoff::default().next(unit).as_millis() as usize / 100] += 1;
        }
        assert!(tenths.iter().all(|clients| *clients < 100), "{tenths:?}");
    }
}
