//! Keeps a flood of refusals from pushing what matters out of the log. Pure.

use std::collections::BTreeMap;

/// Lines of one kind in an hour.
pub(super) const LINES_PER_HOUR_MAX: u64 = 60;

/// Counts what strangers cause, by its kind and the hour.
#[derive(Debug, Default)]
pub(super) struct Damper(BTreeMap<String, (u64, u64)>);

impl Damper {
    /// Whether one more of this kind is written down, and what is said beside it of those that were not, or will not be.
    pub(super) fn lets(&mut self, kind: &str, now_s: u64) -> Option<Option<String>> {
        let hour = now_s / 3_600;
        let (since, count) = self.0.entry(kind.to_owned()).or_insert((hour, 0));
        let before = count.saturating_sub(LINES_PER_HOUR_MAX);
        if *since != hour {
            (*since, *count) = (hour, 1);
            return Some((before > 0).then(|| format!("{before} more were not written down")));
        }
        *count += 1;
        match *count {
            LINES_PER_HOUR_MAX => Some(Some("the others of this hour are only counted".into())),
            count => (count < LINES_PER_HOUR_MAX).then_some(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_costs_so_many_lines_an_hour_and_is_told() {
        let mut damper = Damper::default();
        let told: Vec<_> = (0..1_000).filter_map(|_| damper.lets("a", 7)).collect();
        assert_eq!(told.len() as u64, LINES_PER_HOUR_MAX);
        assert!(told.last().unwrap().as_ref().unwrap().contains("only counted"));
        assert_eq!(damper.lets("b", 7), Some(None), "another kind is not held up");
        assert_eq!(damper.lets("a", 3_607), Some(Some("940 more were not written down".into())));
        assert_eq!(damper.lets("a", 3_608), Some(None));
    }
}
