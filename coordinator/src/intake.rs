//! Exactly once: decides of each event that arrives whether the archive has it, takes it in, or refuses it, and what may
//! be acknowledged.
//!
//! A lane (one boot of one node) is judged by what has arrived, so that nothing is archived twice while a commit is under
//! way; it is acknowledged by what is durable, so that an agent never forgets what a power cut could still take. A
//! commit takes everything that has gathered since the last one, and there is one at a time: an idle archive answers at
//! once, a busy one in larger groups, and no timer is needed. Pure: no clock, no disk, no network.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use picket_shared::codec;
use picket_shared::event::Event;
use picket_shared::ids::{Boot, NodeId};
use picket_shared::limits::{ACK_HOLES_MAX, AHEAD_EVENTS_MAX};
use picket_shared::wire::{Ack, EventBatch, Gap, GapCause};

use crate::archive::{Commit, Entry, LaneId, LaneRow, Missed, NodeRow, Recovered, What};

/// Events that wait for the commit under way to end. At most 16 MiB, and two seconds of 2,000 events each; beyond it
/// batches are refused and agents send them again.
pub const PENDING_EVENTS_MAX: usize = 4096;
/// Boots of one node that are told apart. An agent that restarts every minute while it is cut off fills this in 17
/// hours; then the oldest boot is closed for good and what is still to come from it is refused.
pub const BOOTS_PER_NODE_MAX: usize = 1024;

/// What became of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Say this at once: the batch brought nothing new, so no commit will follow that says it.
    pub ack: Option<Ack>,
    /// Why some or all of it was refused: a constant word for a counter, and the detail.
    pub refused: Option<(&'static str, String)>,
}

/// What a finished commit means.
#[derive(Debug)]
pub struct Durable {
    /// The commit, now in the archive.
    pub commit: Arc<Commit>,
    /// What may now be said, to whom.
    pub acks: Vec<(NodeId, Ack)>,
}

/// The lanes of all nodes, and what waits to be committed.
#[derive(Debug, Default)]
pub struct Intake {
    nodes: BTreeMap<NodeId, Node>,
    /// The number of the last entry that was given to a commit.
    last: u64,
    pending: Vec<Entry>,
    touched: BTreeSet<LaneId>,
    retiring: Vec<(LaneId, NodeRow)>,
    in_flight: Option<Arc<Commit>>,
    duplicates: u64,
    missed: Missed,
}

#[derive(Debug, Default)]
struct Node {
    lanes: BTreeMap<Boot, Lane>,
    retired: Option<NodeRow>,
    events: u64,
    missed: u64,
}

/// What has arrived of a lane, durable or not, and what is durable.
#[derive(Debug, Default)]
struct Lane {
    watermark: u64,
    ahead: BTreeSet<u64>,
    missed: u64,
    durable: LaneRow,
}

impl Intake {
    /// An intake that goes on where the archive ends.
    pub fn new(recovered: &Recovered) -> Intake {
        let mut intake = Intake { last: recovered.last, missed: recovered.missed.clone(), ..Intake::default() };
        for (id, row) in &recovered.nodes {
            let node = intake.nodes.entry(id.clone()).or_default();
            node.events = row.events;
            node.missed = row.missed;
            node.retired = Some(row.clone());
        }
        for (id, row) in &recovered.lanes {
            let node = intake.nodes.entry(id.node.clone()).or_default();
            node.events += row.events();
            node.missed = node.missed.saturating_add(row.missed);
            node.lanes.insert(id.boot, Lane::of(row));
        }
        intake
    }

    /// Judges each event of a batch, or the gap that stands in their place.
    pub fn take(&mut self, id: &NodeId, batch: EventBatch) -> Taken {
        if self.pending.len() + batch.events.len() > PENDING_EVENTS_MAX {
            return Taken::refuse("busy", format!("{PENDING_EVENTS_MAX} events wait for the archive"));
        }
        let boot = batch.boot;
        if let Err(refused) = self.open_lane(id, boot) {
            return refused;
        }
        let lane = self.nodes.get_mut(id).and_then(|node| node.lanes.get_mut(&boot)).expect("the lane was just opened");
        let waiting = self.pending.len();
        let mut arrived = |what| self.pending.push(Entry { node: id.clone(), boot, archive_time_ms: 0, what });

        for (from, to) in lane.skip_to(batch.base) {
            arrived(What::Gap { from, to, cause: GapCause::Unknown });
        }
        let mut refused = None;
        match batch.gap {
            // What comes before it is on its way still: to step over that would be to miss it.
            Some(Gap { from, .. }) if from > lane.watermark.saturating_add(1) => {
                refused = Some(("ahead", format!("a gap at {from} of {id}, whose watermark is {}", lane.watermark)));
            }
            Some(Gap { to, cause, .. }) => {
                for (from, to) in lane.skip_to(to.saturating_add(1)) {
                    arrived(What::Gap { from, to, cause });
                }
            }
            None => {}
        }
        // In this order, because the open range may not be asked for what follows the highest sequence there is.
        for (bytes, seq) in batch.events.into_iter().zip(batch.first..) {
            if lane.has(seq) {
                self.duplicates += 1;
            } else if seq > lane.watermark.saturating_add(AHEAD_EVENTS_MAX) {
                refused = Some(("ahead", format!("sequence {seq} of {id}, whose watermark is {}", lane.watermark)));
                break;
            } else {
                lane.add(seq);
                let readable = codec::decode::<Event>(&bytes).is_ok();
                arrived(if readable { What::Event { seq, bytes } } else { What::Unreadable { seq, bytes } });
            }
        }
        let nothing_new = self.pending.len() == waiting;
        let ack = (nothing_new || refused.is_some()).then(|| lane.ack(boot));
        if !nothing_new {
            self.touched.insert(LaneId { node: id.clone(), boot });
        }
        Taken { ack, refused }
    }

    /// The next commit, if there is something to commit and none is under way. It takes in all that waits.
    pub fn begin_commit(&mut self, archive_time_ms: u64) -> Option<Arc<Commit>> {
        if self.in_flight.is_some() || (self.pending.is_empty() && self.retiring.is_empty()) {
            return None;
        }
        let mut entries = std::mem::take(&mut self.pending);
        for entry in &mut entries {
            entry.archive_time_ms = archive_time_ms;
        }
        let row = |id: LaneId| {
            let lane = self.nodes.get(&id.node).and_then(|node| node.lanes.get(&id.boot));
            let row = lane.expect("a lane with something to commit is not retired").row();
            (id, row)
        };
        let lanes = std::mem::take(&mut self.touched).into_iter().map(row).collect();
        let retired = std::mem::take(&mut self.retiring);
        let commit = Arc::new(Commit { first: self.last + 1, entries, lanes, retired });
        self.last += commit.entries.len() as u64;
        self.in_flight = Some(commit.clone());
        Some(commit)
    }

    /// The commit under way: to be tried again exactly as it is when the disk failed, because part of it may be there.
    pub fn in_flight(&self) -> Option<Arc<Commit>> {
        self.in_flight.clone()
    }

    /// The commit under way is durable: from here on its events are acknowledged.
    pub fn finish_commit(&mut self) -> Durable {
        let commit = self.in_flight.take().expect("the store answers once for each commit");
        for entry in &commit.entries {
            let node = self.nodes.get_mut(&entry.node).expect("nodes are never forgotten");
            match entry.what {
                What::Gap { from, to, cause } => {
                    for count in [&mut node.missed, self.missed.entry(cause).or_default()] {
                        *count = count.saturating_add((to - from).saturating_add(1));
                    }
                }
                _ => node.events += 1,
            }
        }
        let mut acks = Vec::with_capacity(commit.lanes.len());
        for (id, row) in &commit.lanes {
            let node = self.nodes.get_mut(&id.node).expect("nodes are never forgotten");
            if let Some(lane) = node.lanes.get_mut(&id.boot) {
                lane.durable = row.clone();
                acks.push((id.node.clone(), lane.ack(id.boot)));
            }
        }
        Durable { commit, acks }
    }

    /// For each node the ack of its newest boot, so that agents can go on after this side was away.
    pub fn newest_acks(&self) -> impl Iterator<Item = (&NodeId, Ack)> {
        let newest = |(id, node): (_, &Node)| node.lanes.last_key_value().map(|(boot, lane)| (id, lane.ack(*boot)));
        self.nodes.iter().filter_map(newest)
    }

    /// Nodes that ever sent events, with their durable events.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeId, u64)> {
        self.nodes.iter().map(|(id, node)| (id, node.events))
    }

    /// Durable events of one node.
    pub fn events(&self, id: &NodeId) -> u64 {
        self.nodes.get(id).map_or(0, |node| node.events)
    }

    /// Durable events of all nodes.
    pub fn events_archived(&self) -> u64 {
        self.nodes.values().map(|node| node.events).sum()
    }

    /// Events of one node that will never come.
    pub fn events_missed_of(&self, id: &NodeId) -> u64 {
        self.nodes.get(id).map_or(0, |node| node.missed)
    }

    /// Events that an agent can no longer send and the archive never had.
    pub fn events_missed(&self) -> u64 {
        self.missed.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The same by cause.
    pub fn missed(&self) -> &Missed {
        &self.missed
    }

    /// Events that came again, since the start.
    pub fn events_duplicate(&self) -> u64 {
        self.duplicates
    }

    /// Entries that are not yet durable.
    pub fn waiting(&self) -> usize {
        self.pending.len() + self.in_flight.as_ref().map_or(0, |commit| commit.entries.len())
    }

    /// Makes sure that the lane exists, retiring the node's oldest where there is no room.
    fn open_lane(&mut self, id: &NodeId, boot: Boot) -> Result<(), Taken> {
        if !self.nodes.contains_key(id) {
            self.nodes.insert(id.clone(), Node::default());
        }
        let node = self.nodes.get_mut(id).expect("just inserted");
        if node.lanes.contains_key(&boot) {
            return Ok(());
        }
        if node.retired.as_ref().is_some_and(|row| boot <= row.retired) {
            return Err(Taken::refuse("boot_too_old", format!("boot {boot} of {id} was closed")));
        }
        if node.lanes.len() >= BOOTS_PER_NODE_MAX {
            let oldest = node.lanes.first_entry().expect("there are lanes");
            if boot < *oldest.key() {
                return Err(Taken::refuse("boot_too_old", format!("boot {boot} of {id}, which has many newer ones")));
            }
            if oldest.get().row() != oldest.get().durable {
                return Err(Taken::refuse("busy", format!("the oldest boot of {id} is being archived")));
            }
            let (retired, lane) = oldest.remove_entry();
            let before = node.retired.take().unwrap_or(NodeRow { retired, events: 0, missed: 0 });
            let events = before.events + lane.durable.events();
            let missed = before.missed.saturating_add(lane.durable.missed);
            let row = NodeRow { retired, events, missed };
            node.retired = Some(row.clone());
            self.retiring.push((LaneId { node: id.clone(), boot: retired }, row));
        }
        node.lanes.insert(boot, Lane::default());
        Ok(())
    }
}

impl Taken {
    fn refuse(word: &'static str, detail: String) -> Taken {
        Taken { ack: None, refused: Some((word, detail)) }
    }
}

impl Lane {
    fn of(row: &LaneRow) -> Lane {
        let ahead = row.ahead.iter().flat_map(|&(from, to)| from..=to).collect();
        Lane { watermark: row.watermark, ahead, missed: row.missed, durable: row.clone() }
    }

    fn row(&self) -> LaneRow {
        let mut ahead: Vec<(u64, u64)> = Vec::new();
        for &seq in &self.ahead {
            match ahead.last_mut() {
                Some((_, to)) if *to + 1 == seq => *to = seq,
                _ => ahead.push((seq, seq)),
            }
        }
        LaneRow { watermark: self.watermark, ahead, missed: self.missed }
    }

    fn has(&self, seq: u64) -> bool {
        seq <= self.watermark || self.ahead.contains(&seq)
    }

    fn add(&mut self, seq: u64) {
        self.ahead.insert(seq);
        self.advance();
    }

    fn advance(&mut self) {
        while self.ahead.first().is_some_and(|&first| first == self.watermark + 1) {
            self.watermark = self.ahead.pop_first().expect("there is a first");
        }
    }

    /// The agent cannot send what is before `base`. Returns the ranges that never came, which are passed over for good. It
    /// looks at what came ahead and not at what did not, so a gap of any width costs the same.
    fn skip_to(&mut self, base: u64) -> Vec<(u64, u64)> {
        if base <= self.watermark.saturating_add(1) {
            return Vec::new();
        }
        let later = self.ahead.split_off(&base);
        let came = std::mem::replace(&mut self.ahead, later);
        let gaps = gaps(self.watermark, came.into_iter().chain([base]));
        self.missed += gaps.iter().map(|(from, to)| to - from + 1).sum::<u64>();
        self.watermark = base - 1;
        self.advance();
        gaps
    }

    /// What is durable, and what is missing: neither durable nor about to be.
    fn ack(&self, boot: Boot) -> Ack {
        let mut holes = gaps(self.watermark, self.ahead.iter().copied());
        holes.truncate(ACK_HOLES_MAX);
        Ack { boot, watermark: self.durable.watermark, holes }
    }
}

/// The inclusive ranges above `watermark` that lie below and between ascending sequences.
fn gaps(watermark: u64, sequences: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut gaps = Vec::new();
    let mut next = watermark + 1;
    for seq in sequences {
        if seq > next {
            gaps.push((next, seq - 1));
        }
        next = seq.saturating_add(1);
    }
    gaps
}

#[cfg(test)]
#[path = "intake_tests.rs"]
pub(crate) mod tests;
