//! What is known of one boot while the store is open, and how its gaps grow together.
//!
//! Pure: numbers only. What it says is what the rows say, or the store is opened again.

use std::collections::BTreeMap;

use picket_shared::event::Class;
use picket_shared::store::Reach;
use picket_shared::wire::{Gap, GapCause};

use super::retention::{Total, index};
use super::rows::GAP_COST_BYTES;
use crate::outbox;

/// One boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lane {
    /// The archive has everything up to here.
    pub(super) acked: u64,
    /// Everything up to here is here, was here, or is a gap.
    pub(super) stored: u64,
    /// What is gone and not acknowledged, by its first sequence.
    pub(super) gaps: BTreeMap<u64, Gap>,
    /// Events up to `acked`, and above it; each by class.
    pub(super) kept: [Total; 2],
    pub(super) owed: [Total; 2],
    /// Nothing of a class is kept, or owed, below these.
    pub(super) kept_from: [u64; 2],
    pub(super) owed_from: [u64; 2],
}

/// A change of gaps that can be undone: these rows went, and this one came.
pub(super) struct Joined {
    pub(super) gone: Vec<Gap>,
    pub(super) come: Gap,
}

impl Lane {
    /// Takes an event into account.
    pub(super) fn count(&mut self, seq: u64, class: Class, cost: u64) {
        self.stored = self.stored.max(seq);
        let of = if seq <= self.acked { &mut self.kept } else { &mut self.owed };
        of[index(class)].add(cost);
    }

    /// What it owes, with the rows of its gaps.
    pub(super) fn owed_bytes(&self) -> u64 {
        self.owed.iter().map(|total| total.bytes).sum::<u64>() + self.gaps.len() as u64 * GAP_COST_BYTES
    }

    /// Nothing of it is left to keep or to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.gaps.is_empty() && self.kept.iter().chain(&self.owed).all(|total| total.events == 0)
    }

    /// How far it reaches.
    pub(super) fn reach(&self) -> Reach {
        Reach { acked: self.acked, stored: self.stored }
    }

    /// What the outbox is told.
    pub(super) fn to_outbox(&self) -> outbox::Lane {
        let acked = self.acked.min(self.stored);
        let above = |gap: &&Gap| gap.to > acked;
        let gaps = self.gaps.values().filter(above).map(|gap| Gap { from: gap.from.max(acked + 1), ..*gap }).collect();
        outbox::Lane { acked, stored: self.stored, gaps }
    }

    /// Adds a gap. One of the same cause that it touches becomes one with it; and a lack of room for confirmed events takes
    /// in the telemetry that went before, so that rows do not pile up.
    pub(super) fn join(&mut self, gap: Gap) -> Joined {
        let like = |other: &Gap| {
            other.cause == gap.cause || (gap.cause == GapCause::Full && other.cause == GapCause::TelemetryDropped)
        };
        let mut come = gap;
        let mut gone = Vec::new();
        let before = self.gaps.range(..gap.from).next_back().map(|(_, gap)| *gap);
        if let Some(before) = before.filter(|before| before.to + 1 == gap.from && like(before)) {
            come.from = before.from;
            gone.push(before);
        }
        if let Some(after) = self.gaps.get(&(gap.to + 1)).copied().filter(like) {
            come.to = after.to;
            gone.push(after);
        }
        let joined = Joined { gone, come };
        for gap in &joined.gone {
            self.gaps.remove(&gap.from);
        }
        self.gaps.insert(come.from, come);
        self.stored = self.stored.max(come.to);
        joined
    }

    /// Takes back what [`Lane::join`] did last.
    pub(super) fn part(&mut self, joined: &Joined) {
        self.gaps.remove(&joined.come.from);
        self.gaps.extend(joined.gone.iter().map(|gap| (gap.from, *gap)));
    }

    /// The parts of `from..=to` that are no known gap.
    pub(super) fn unexplained(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let (mut parts, mut next) = (Vec::new(), from);
        let before = self.gaps.range(..from).next_back().map(|(_, gap)| gap);
        for gap in before.into_iter().chain(self.gaps.range(from..).map(|(_, gap)| gap)) {
            if gap.from > to {
                break;
            }
            if gap.from > next {
                parts.push((next, gap.from - 1));
            }
            next = next.max(gap.to.saturating_add(1));
        }
        if next <= to {
            parts.push((next, to));
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use GapCause::{Full, StoreLost, TelemetryDropped};

    fn lane(gaps: &[(u64, u64, GapCause)]) -> Lane {
        let mut lane = Lane::default();
        for &(from, to, cause) in gaps {
            lane.join(Gap { from, to, cause });
        }
        lane
    }

    fn gaps(lane: &Lane) -> Vec<(u64, u64, GapCause)> {
        lane.gaps.values().map(|gap| (gap.from, gap.to, gap.cause)).collect()
    }

    #[test]
    fn gaps_that_touch_grow_together_where_the_cause_allows() {
        for (given, expect) in [
            (
                &[(3, 3, TelemetryDropped), (5, 5, TelemetryDropped)][..],
                &[(3, 3, TelemetryDropped), (5, 5, TelemetryDropped)][..],
            ),
            (
                &[(3, 3, TelemetryDropped), (5, 5, TelemetryDropped), (4, 4, TelemetryDropped)],
                &[(3, 5, TelemetryDropped)],
            ),
            (&[(3, 3, TelemetryDropped), (5, 5, TelemetryDropped), (4, 4, Full)], &[(3, 5, Full)]),
            (&[(3, 3, StoreLost), (4, 4, TelemetryDropped)], &[(3, 3, StoreLost), (4, 4, TelemetryDropped)]),
        ] {
            assert_eq!(gaps(&lane(given)), expect);
        }
    }

    #[test]
    fn a_join_can_be_taken_back() {
        let mut lane = lane(&[(3, 3, TelemetryDropped), (5, 6, TelemetryDropped)]);
        let before = gaps(&lane);
        let joined = lane.join(Gap { from: 4, to: 4, cause: Full });
        assert_eq!(gaps(&lane), [(3, 6, Full)]);
        lane.part(&joined);
        assert_eq!(gaps(&lane), before);
    }

    #[test]
    fn what_no_gap_explains_is_found() {
        let lane = lane(&[(3, 5, StoreLost), (8, 8, Full)]);
        for (from, to, expect) in
            [(1, 10, &[(1, 2), (6, 7), (9, 10)][..]), (3, 5, &[]), (4, 6, &[(6, 6)]), (9, 9, &[(9, 9)]), (6, 5, &[])]
        {
            assert_eq!(lane.unexplained(from, to), expect, "{from}..={to}");
        }
    }
}
