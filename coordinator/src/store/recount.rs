//! The lanes of a damaged archive, counted anew from the entries that could be saved. Pure.
//!
//! A watermark is never higher than what is really there. What lies in a hole is told apart: an agent that was acknowledged
//! it will not send it again, and it becomes a gap of the archive; what may not have been acknowledged stays a hole, and is
//! sent again or passed over by the next batch's base.

use std::collections::BTreeMap;

use picket_shared::limits::AHEAD_EVENTS_MAX;
use picket_shared::wire::GapCause;

use crate::archive::{Entry, LaneId, LaneRow, NodeRow, What};
use picket_shared::ids::NodeId;

/// What was seen of each lane so far.
#[derive(Debug, Default)]
pub(super) struct Recount {
    lanes: BTreeMap<LaneId, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Inclusive ranges that are here, by their first; apart from each other.
    here: BTreeMap<u64, u64>,
    /// Sequences in them that are gaps, and the last of these.
    missed: u64,
    gap_last: u64,
    events: u64,
}

/// What belongs into the archive beside the entries that were saved.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) lanes: BTreeMap<LaneId, LaneRow>,
    pub(super) nodes: BTreeMap<NodeId, NodeRow>,
    pub(super) gaps: Vec<Entry>,
}

impl Recount {
    /// Takes an entry into account.
    pub(super) fn take(&mut self, entry: &Entry) {
        let id = LaneId { node: entry.node.clone(), boot: entry.boot };
        let seen = self.lanes.entry(id).or_default();
        match entry.what {
            What::Event { seq, .. } | What::Unreadable { seq, .. } => {
                seen.events += 1;
                seen.add(seq, seq);
            }
            What::Gap { from, to, .. } => {
                seen.missed = seen.missed.saturating_add((to - from).saturating_add(1));
                seen.gap_last = seen.gap_last.max(to);
                seen.add(from, to);
            }
        }
    }

    /// The rows, and the gaps to add at `archive_time_ms`. `nodes` are the rows of nodes with retired boots.
    pub(super) fn count(self, mut nodes: BTreeMap<NodeId, NodeRow>, archive_time_ms: u64) -> Counted {
        let mut counted = Counted::default();
        nodes.values_mut().for_each(|row| row.events = 0);
        for (id, mut seen) in self.lanes {
            if let Some(row) = nodes.get_mut(&id.node).filter(|row| id.boot <= row.retired) {
                row.events += seen.events;
                continue;
            }
            for (from, to) in seen.settle() {
                let what = What::Gap { from, to, cause: GapCause::Unknown };
                counted.gaps.push(Entry { node: id.node.clone(), boot: id.boot, archive_time_ms, what });
            }
            counted.lanes.insert(id, seen.row());
        }
        counted.nodes = nodes;
        counted
    }
}

impl Seen {
    fn add(&mut self, from: u64, to: u64) {
        let (mut from, mut to) = (from, to);
        if let Some((&first, &last)) = self.here.range(..=from).next_back().filter(|(_, last)| **last + 1 >= from) {
            (from, to) = (first, to.max(last));
        }
        while let Some((&first, &last)) =
            self.here.range(from..).next().filter(|(first, _)| **first <= to.saturating_add(1))
        {
            to = to.max(last);
            self.here.remove(&first);
        }
        self.here.insert(from, to);
    }

    /// Fills the holes that were acknowledged for sure, and returns them: nothing is taken in that far ahead of what was
    /// acknowledged, and no gap above it.
    fn settle(&mut self) -> Vec<(u64, u64)> {
        let top = self.here.last_key_value().map_or(0, |(_, to)| *to);
        let sure = top.saturating_sub(AHEAD_EVENTS_MAX).max(self.gap_last);
        let (mut holes, mut next) = (Vec::new(), 1);
        for (&from, &to) in &self.here {
            if from > next && next <= sure {
                holes.push((next, sure.min(from - 1)));
            }
            next = to + 1;
        }
        for &(from, to) in &holes {
            self.missed += to - from + 1;
            self.add(from, to);
        }
        holes
    }

    fn row(&self) -> LaneRow {
        let watermark = self.here.first_key_value().filter(|(from, _)| **from <= 1).map_or(0, |(_, to)| *to);
        let ahead = self.here.iter().map(|(from, to)| (*from, *to)).filter(|(from, _)| *from > watermark).collect();
        LaneRow { watermark, ahead, missed: self.missed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::ids::Boot;
    use picket_shared::wire::Wire;
    use serde_bytes::ByteBuf;

    fn entry(boot: u64, what: What) -> Entry {
        Entry { node: NodeId::new("a").unwrap(), boot: Boot(boot), archive_time_ms: 1, what }
    }

    fn event(boot: u64, seq: u64) -> Entry {
        entry(boot, What::Event { seq, bytes: ByteBuf::from(vec![1]) })
    }

    fn gap(from: u64, to: u64) -> Entry {
        entry(1, What::Gap { from, to, cause: GapCause::Full })
    }

    fn row(watermark: u64, ahead: &[(u64, u64)], missed: u64) -> LaneRow {
        LaneRow { watermark, ahead: ahead.to_vec(), missed }
    }

    #[test]
    fn a_watermark_is_what_is_there_and_only_what_was_acknowledged_for_sure_is_given_up() {
        let events = |seqs: &[std::ops::RangeInclusive<u64>]| -> Vec<Entry> {
            seqs.iter().cloned().flatten().map(|seq| event(1, seq)).collect()
        };
        let with = |mut entries: Vec<Entry>, gap: Entry| {
            entries.push(gap);
            entries
        };
        for (entries, expect, given_up) in [
            (events(&[1..=5]), row(5, &[], 0), vec![]),
            (events(&[3..=5, 1..=2]), row(5, &[], 0), vec![]),
            // May not have been acknowledged: the agent is asked.
            (events(&[1..=5, 8..=9]), row(5, &[(8, 9)], 0), vec![]),
            (events(&[2..=9]), row(0, &[(2, 9)], 0), vec![]),
            // 128 below what is there: acknowledged.
            (events(&[1..=5, 8..=200]), row(200, &[], 2), vec![(6, 7)]),
            (events(&[1..=5, 100..=200]), row(72, &[(100, 200)], 67), vec![(6, 72)]),
            // Below a gap.
            (with(events(&[1..=2, 5..=6, 10..=11]), gap(7, 8)), row(8, &[(10, 11)], 4), vec![(3, 4)]),
        ] {
            let mut recount = Recount::default();
            entries.iter().for_each(|entry| recount.take(entry));
            let counted = recount.count(BTreeMap::new(), 9);
            let (_, found) = counted.lanes.first_key_value().unwrap();
            assert_eq!(*found, expect);
            assert_eq!(found.check(), Ok(()));
            let gaps = counted.gaps.iter().map(|entry| match entry.what {
                What::Gap { from, to, .. } => (from, to),
                _ => unreachable!(),
            });
            assert_eq!(gaps.collect::<Vec<_>>(), given_up);
        }
    }

    #[test]
    fn a_retired_boot_stays_retired_and_is_counted() {
        let mut recount = Recount::default();
        [event(1, 1), event(1, 2), event(2, 1)].iter().for_each(|entry| recount.take(entry));
        let node = NodeId::new("a").unwrap();
        let retired = NodeRow { retired: Boot(1), events: 50, missed: 3 };
        let counted = recount.count([(node.clone(), retired)].into(), 9);
        assert_eq!(counted.nodes, [(node, NodeRow { retired: Boot(1), events: 2, missed: 3 })].into());
        assert_eq!(counted.lanes.into_values().collect::<Vec<_>>(), [row(1, &[], 0)]);
    }
}
