//! What the archive holds: entries in the order of their arrival, and for each lane how far it goes.
//!
//! Plain data between the core, which decides, and the store, which writes. The archive is deliberately not keyed by
//! (node, boot, sequence): if the intake ever took an event in twice, both would stand here for an audit to see.

use std::collections::{BTreeMap, VecDeque};

use picket_shared::ids::{Boot, NodeId};
use picket_shared::limits::{AHEAD_EVENTS_MAX, EVENT_BYTES_MAX, RECENT_EVENTS_MAX};
use picket_shared::wire::{GapCause, Wire};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// One boot of one node, with its own sequence that begins at 1 and has no gaps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneId {
    /// The node.
    pub node: NodeId,
    /// Its boot.
    pub boot: Boot,
}

/// What happened to a sequence, or a range of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// An event, in the exact bytes that the agent's store holds.
    Event {
        /// Its sequence.
        seq: u64,
        /// An encoded [`picket_shared::event::Event`].
        bytes: ByteBuf,
    },
    /// Bytes that this build cannot read. Kept, because refusing them would block the lane for ever; never shown.
    Unreadable {
        /// Their sequence.
        seq: u64,
        /// As they came.
        bytes: ByteBuf,
    },
    /// The agent can no longer send these, and they never came.
    Gap {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
        /// Why.
        #[serde(default)]
        cause: GapCause,
    },
}

/// One entry of the archive. Fields are numbered by their order here: append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The node that sent it.
    pub node: NodeId,
    /// The boot whose sequence `what` speaks of.
    pub boot: Boot,
    /// When the commit that holds it was made, in milliseconds since 1970.
    pub archive_time_ms: u64,
    /// What arrived.
    pub what: What,
}

impl Wire for Entry {
    /// The event, the node's name, and four numbers.
    const BYTES_MAX: usize = EVENT_BYTES_MAX + 256;

    fn check(&self) -> Result<(), String> {
        match &self.what {
            What::Gap { from, to, .. } if from > to => Err(format!("gap {from}..={to} out of order")),
            _ => Ok(()),
        }
    }
}

/// How far a lane goes, as kept beside the entries and in one transaction with them. Append only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRow {
    /// Everything up to and including this sequence is in the archive, as an event or as a gap.
    pub watermark: u64,
    /// Inclusive ranges above it that are in the archive too.
    pub ahead: Vec<(u64, u64)>,
    /// How many sequences up to the watermark are gaps.
    pub missed: u64,
}

impl LaneRow {
    /// Events of this lane in the archive.
    pub fn events(&self) -> u64 {
        let ahead: u64 = self.ahead.iter().map(|(from, to)| to - from + 1).sum();
        (self.watermark - self.missed).saturating_add(ahead)
    }
}

impl Wire for LaneRow {
    /// At most every second sequence ahead stands alone, at 19 bytes a range.
    const BYTES_MAX: usize = 64 + 19 * (AHEAD_EVENTS_MAX as usize / 2 + 1);

    fn check(&self) -> Result<(), String> {
        let mut above = self.watermark;
        for &(from, to) in &self.ahead {
            if from <= above || to < from || to > self.watermark.saturating_add(AHEAD_EVENTS_MAX) {
                return Err(format!("range {from}..={to} out of order"));
            }
            above = to;
        }
        if self.missed > self.watermark {
            return Err(format!("{} of {} sequences missed", self.missed, self.watermark));
        }
        Ok(())
    }
}

/// What is left of a node's oldest boots once their lanes are gone. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Nothing of this boot or an earlier one is taken in any more.
    pub retired: Boot,
    /// Events of those boots in the archive.
    pub events: u64,
    /// Sequences of those boots that never came.
    pub missed: u64,
}

impl Wire for NodeRow {
    const BYTES_MAX: usize = 64;

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// One transaction: all of it becomes durable, or none. Doing it again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The archive number of the first entry; the others follow without a gap. Numbers begin at 1.
    pub first: u64,
    /// The entries.
    pub entries: Vec<Entry>,
    /// The lanes that these entries change, as they are after them.
    pub lanes: Vec<(LaneId, LaneRow)>,
    /// Lanes that go, and what stays of their node.
    pub retired: Vec<(LaneId, NodeRow)>,
}

/// How many sequences will never come, by cause.
pub type Missed = BTreeMap<GapCause, u64>;

/// What a coordinator knows when it starts: gathered from what the store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The number of the next entry, less one.
    pub last: u64,
    /// Every lane.
    pub lanes: BTreeMap<LaneId, LaneRow>,
    /// Every node with retired boots.
    pub nodes: BTreeMap<NodeId, NodeRow>,
    /// Sequences that will never come, by cause.
    pub missed: Missed,
    /// The newest events, oldest first, at most [`RECENT_EVENTS_MAX`].
    pub recent: VecDeque<Entry>,
    /// Entries that this build cannot read.
    pub unreadable: u64,
    /// Archive numbers that should be there and are not.
    pub lost: u64,
    /// What is wrong with the archive, in a sentence each.
    pub problems: Vec<String>,
}

impl Recovered {
    /// Goes through the whole archive in order. Numbers must have no gaps, and each lane must have as many events as its
    /// row says; what does not hold becomes a problem, because a damaged disk is for a person to judge.
    pub fn gather<E>(
        lanes: BTreeMap<LaneId, LaneRow>,
        nodes: BTreeMap<NodeId, NodeRow>,
        entries: impl IntoIterator<Item = Result<(u64, Entry), E>>,
    ) -> Result<Recovered, E> {
        let mut found = Recovered { lanes, nodes, ..Recovered::default() };
        let mut events: BTreeMap<NodeId, u64> = BTreeMap::new();
        let mut missed: BTreeMap<NodeId, u64> = BTreeMap::new();
        for item in entries {
            let (number, entry) = item?;
            let absent = number.saturating_sub(found.last + 1);
            if absent > 0 {
                found.lost += absent;
                found.problems.push(format!("archive entries {} to {} are missing", found.last + 1, number - 1));
            }
            found.last = number;
            match entry.what {
                What::Gap { from, to, cause } => {
                    let width = (to - from).saturating_add(1);
                    for count in [missed.entry(entry.node).or_default(), found.missed.entry(cause).or_default()] {
                        *count = count.saturating_add(width);
                    }
                    continue;
                }
                What::Unreadable { .. } => found.unreadable += 1,
                What::Event { .. } => {}
            }
            match events.get_mut(&entry.node) {
                Some(count) => *count += 1,
                None => drop(events.insert(entry.node.clone(), 1)),
            }
            if matches!(entry.what, What::Event { .. }) {
                if found.recent.len() == RECENT_EVENTS_MAX {
                    found.recent.pop_front();
                }
                found.recent.push_back(entry);
            }
        }
        let mut expected: BTreeMap<&NodeId, u64> = found.nodes.iter().map(|(node, row)| (node, row.events)).collect();
        for (lane, row) in &found.lanes {
            *expected.entry(&lane.node).or_default() += row.events();
        }
        for node in events.keys() {
            expected.entry(node).or_default();
        }
        for (node, expect) in expected {
            let have = events.get(node).copied().unwrap_or(0);
            if have != expect {
                found.problems.push(format!("the archive has {have} events of {node} and its lanes say {expect}"));
            }
        }
        let mut expected: BTreeMap<&NodeId, u64> = missed.keys().map(|node| (node, 0)).collect();
        let rows = found.lanes.iter().map(|(lane, row)| (&lane.node, row.missed));
        for (node, count) in rows.chain(found.nodes.iter().map(|(node, row)| (node, row.missed))) {
            let expect = expected.entry(node).or_default();
            *expect = expect.saturating_add(count);
        }
        for (node, expect) in expected {
            let have = missed.get(node).copied().unwrap_or(0);
            if have != expect {
                found
                    .problems
                    .push(format!("the archive has gaps of {have} events of {node} and its lanes say {expect}"));
            }
        }
        Ok(found)
    }
}

/// An archive without a disk, for the simulation and for tests of the cores.
#[derive(Debug, Clone, Default)]
pub struct MemoryArchive {
    /// Entries by number.
    pub entries: BTreeMap<u64, Entry>,
    /// Every lane.
    pub lanes: BTreeMap<LaneId, LaneRow>,
    /// Every node with retired boots.
    pub nodes: BTreeMap<NodeId, NodeRow>,
}

impl MemoryArchive {
    /// Does what the store does with a commit.
    pub fn apply(&mut self, commit: &Commit) {
        self.entries.extend((commit.first..).zip(commit.entries.iter().cloned()));
        self.lanes.extend(commit.lanes.iter().cloned());
        for (lane, row) in &commit.retired {
            self.lanes.remove(lane);
            self.nodes.insert(lane.node.clone(), row.clone());
        }
    }

    /// What a coordinator that starts on this archive knows.
    pub fn recover(&self) -> Recovered {
        let entries = self.entries.iter().map(|(number, entry)| Ok((*number, entry.clone())));
        let gathered: Result<Recovered, std::convert::Infallible> =
            Recovered::gather(self.lanes.clone(), self.nodes.clone(), entries);
        gathered.unwrap_or_else(|never| match never {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::codec;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn event(name: &str, seq: u64) -> Entry {
        let what = What::Event { seq, bytes: ByteBuf::from(vec![1, 2, 3]) };
        Entry { node: node(name), boot: Boot(7), archive_time_ms: 5, what }
    }

    fn row(watermark: u64) -> LaneRow {
        LaneRow { watermark, ..LaneRow::default() }
    }

    #[test]
    fn entries_and_rows_survive_the_trip_to_bytes() {
        let bytes = ByteBuf::from(vec![9; EVENT_BYTES_MAX]);
        let unreadable = What::Unreadable { seq: u64::MAX, bytes };
        let long = node(&"n".repeat(picket_shared::limits::NAME_CHARS_MAX));
        let largest = Entry { node: long, boot: Boot(u64::MAX), archive_time_ms: u64::MAX, what: unreadable };
        let gap = Entry { what: What::Gap { from: 2, to: 3, cause: GapCause::Full }, ..event("a", 1) };
        for entry in [event("a", 1), gap, largest] {
            assert_eq!(codec::decode::<Entry>(&codec::encode(&entry).unwrap()).unwrap(), entry);
        }
        let watermark = u64::MAX - AHEAD_EVENTS_MAX;
        let ahead = (1..=AHEAD_EVENTS_MAX / 2).map(|i| (watermark + 2 * i, watermark + 2 * i)).collect();
        let widest = LaneRow { watermark, ahead, missed: watermark };
        assert_eq!(codec::decode::<LaneRow>(&codec::encode(&widest).unwrap()).unwrap(), widest);
        let node = NodeRow { retired: Boot(u64::MAX), events: u64::MAX, missed: u64::MAX };
        assert_eq!(codec::decode::<NodeRow>(&codec::encode(&node).unwrap()).unwrap(), node);
    }

    #[test]
    fn a_row_that_makes_no_sense_is_refused() {
        for (watermark, ahead, missed) in [
            (5, vec![(5, 6)], 0),
            (5, vec![(8, 7)], 0),
            (5, vec![(8, 9), (9, 9)], 0),
            (5, vec![(900, 900)], 0),
            (5, vec![], 6),
        ] {
            assert!(LaneRow { watermark, ahead, missed }.check().is_err());
        }
        assert_eq!(LaneRow { watermark: 5, ahead: vec![(7, 8)], missed: 2 }.events(), 5);
    }

    #[test]
    fn gaps_are_counted_by_cause_and_must_be_what_the_lanes_say() {
        let gap = |from, to, cause| Entry { what: What::Gap { from, to, cause }, ..event("a", 1) };
        let entries =
            [gap(1, 3, GapCause::Full), event("a", 4), gap(5, 5, GapCause::StoreLost), gap(6, 7, GapCause::Full)];
        let entries: BTreeMap<u64, Entry> = (1..).zip(entries).collect();
        let found = |missed| {
            let lane = LaneId { node: node("a"), boot: Boot(7) };
            let lanes = [(lane, LaneRow { missed, ..row(7) })].into();
            MemoryArchive { entries: entries.clone(), lanes, ..MemoryArchive::default() }.recover()
        };
        assert_eq!(found(6).missed, [(GapCause::StoreLost, 1), (GapCause::Full, 5)].into());
        assert_eq!(found(6).problems, Vec::<String>::new());
        let sentence = "the archive has gaps of 6 events of a and its lanes say 5".to_owned();
        assert!(found(5).problems.contains(&sentence), "{:?}", found(5).problems);
    }

    #[test]
    fn what_the_disk_lost_is_reported_and_not_passed_over() {
        let lane = LaneId { node: node("a"), boot: Boot(7) };
        let whole = |numbers: &[u64], watermark: u64| {
            let entries = numbers.iter().map(|&number| (number, event("a", number))).collect();
            let lanes = [(lane.clone(), row(watermark))].into();
            MemoryArchive { entries, lanes, ..MemoryArchive::default() }.recover()
        };
        let fine = whole(&[1, 2, 3], 3);
        assert_eq!((fine.last, fine.lost, fine.recent.len(), fine.problems.len()), (3, 0, 3, 0));
        for (numbers, watermark, lost, sentence) in [
            (&[1, 4][..], 4, 2, "archive entries 2 to 3 are missing"),
            (&[1, 2][..], 3, 0, "the archive has 2 events of a and its lanes say 3"),
            (&[1, 2][..], 1, 0, "the archive has 2 events of a and its lanes say 1"),
            (&[][..], 1, 0, "the archive has 0 events of a and its lanes say 1"),
        ] {
            let found = whole(numbers, watermark);
            assert_eq!(found.lost, lost, "{numbers:?}");
            assert!(found.problems.contains(&sentence.to_owned()), "{:?}", found.problems);
        }
    }
}
