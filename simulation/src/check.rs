//! What must hold in every world: no durable event is lost, none is archived twice, nothing is acknowledged too early, and
//! what a disk gave up is told with the cause that it really had.
//!
//! Safety is checked at every step; liveness once the world has healed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use picket_agent::node::NewEvent;
use picket_coordinator::archive::{Commit, Entry, Missed, What};
use picket_shared::ids::{Boot, NodeId};
use picket_shared::limits::AHEAD_EVENTS_MAX;
use picket_shared::wire::{Ack, Gap, GapCause};

/// What became of one sequence.
#[derive(Debug, Default, Clone)]
struct Fate {
    observed_ms: u64,
    /// A hash of its bytes, once it was durable.
    durable: Option<u64>,
    /// Why the disk lost it, if it did; it may have had more than one reason in turn.
    lost: Vec<GapCause>,
    archived_ms: Option<u64>,
    missed: Option<GapCause>,
}

#[derive(Debug, Default)]
struct Lane {
    /// By sequence, less one.
    fates: Vec<Fate>,
    /// The highest that was archived.
    top: u64,
}

/// The fate of every event that an agent was given, and the sums.
#[derive(Debug, Default)]
pub struct Ledger {
    lanes: BTreeMap<NodeId, BTreeMap<Boot, Lane>>,
    in_order: bool,
    events: usize,
    archived: u64,
    missed: Missed,
}

impl Ledger {
    /// An empty ledger. `in_order`: nothing is lost or overtaken on the way, so nothing may be archived out of order.
    pub fn new(in_order: bool) -> Ledger {
        Ledger { in_order, ..Ledger::default() }
    }

    /// An agent gave an event a sequence.
    pub fn observed(&mut self, node: &NodeId, event: &NewEvent, now_ms: u64) -> Result<(), String> {
        if !self.lanes.contains_key(node) {
            self.lanes.insert(node.clone(), BTreeMap::new());
        }
        let boots = self.lanes.get_mut(node).expect("just inserted");
        let lane = boots.entry(event.boot).or_default();
        if event.seq != lane.fates.len() as u64 + 1 {
            return Err(format!("{node} gives boot {} sequence {} after {}", event.boot, event.seq, lane.fates.len()));
        }
        lane.fates.push(Fate { observed_ms: now_ms, ..Fate::default() });
        Ok(())
    }

    /// An agent's disk made an event durable.
    pub fn stored(&mut self, node: &NodeId, event: &NewEvent) -> Result<(), String> {
        self.events += 1;
        let fate = self.fate(node, event.boot, event.seq)?;
        match fate.durable.replace(hash(&event.bytes)) {
            None => Ok(()),
            Some(_) => Err(format!("{node} stored boot {} sequence {} twice", event.boot, event.seq)),
        }
    }

    /// An agent's disk lost these, or gave them up.
    pub fn lost(&mut self, node: &NodeId, boot: Boot, gap: Gap) -> Result<(), String> {
        (gap.from..=gap.to).try_for_each(|seq| {
            self.fate(node, boot, seq)?.lost.push(gap.cause);
            Ok(())
        })
    }

    /// The archive's disk made a commit durable.
    pub fn archived(&mut self, commit: &Commit, now_ms: u64) -> Result<(), String> {
        commit.entries.iter().try_for_each(|entry| self.entry(entry, now_ms))
    }

    fn entry(&mut self, Entry { node, boot, what, .. }: &Entry, now_ms: u64) -> Result<(), String> {
        match what {
            What::Event { seq, bytes } => {
                let named = || format!("{node} boot {boot} sequence {seq}");
                let fate = self.fate(node, *boot, *seq)?;
                if fate.durable != Some(hash(bytes)) {
                    return Err(format!("{} was archived and not durable like this on its agent", named()));
                }
                if fate.archived_ms.replace(now_ms).is_some() || fate.missed.is_some() {
                    return Err(format!("{} was counted twice", named()));
                }
                self.archived += 1;
                self.risen(node, *boot, *seq, *seq)
            }
            What::Gap { from, to, cause } => {
                for seq in *from..=*to {
                    let fate = self.fate(node, *boot, seq)?;
                    if !fate.lost.contains(cause) {
                        return Err(format!(
                            "{node} boot {boot}: {seq} given up as {cause:?}, and it was {:?}",
                            fate.lost
                        ));
                    }
                    if fate.archived_ms.is_some() || fate.missed.replace(*cause).is_some() {
                        return Err(format!("{node} boot {boot}: {seq} given up, and counted before"));
                    }
                }
                *self.missed.entry(*cause).or_default() += to - from + 1;
                self.risen(node, *boot, *from, *to)
            }
            What::Unreadable { seq, .. } => Err(format!("sequence {seq} arrived unreadable")),
        }
    }

    fn risen(&mut self, node: &NodeId, boot: Boot, from: u64, to: u64) -> Result<(), String> {
        let in_order = self.in_order;
        let lane = self.lane(node, boot)?;
        if in_order && from != lane.top + 1 {
            return Err(format!("{node} boot {boot}: {from} was archived after {}", lane.top));
        }
        lane.top = lane.top.max(to);
        Ok(())
    }

    /// The coordinator says this: it must be true of what is durable now.
    pub fn acked(&self, node: &NodeId, ack: &Ack) -> Result<(), String> {
        let lane = self.lanes.get(node).and_then(|boots| boots.get(&ack.boot));
        let has = |seq: u64| {
            let fate = lane.and_then(|lane| lane.fates.get(seq as usize - 1));
            fate.is_some_and(|fate| fate.archived_ms.is_some() || fate.missed.is_some())
        };
        // Below the last watermark everything was checked before, so looking at the top is enough and keeps this cheap.
        let recent = ack.watermark.saturating_sub(2 * AHEAD_EVENTS_MAX);
        match (recent + 1..=ack.watermark).find(|seq| !has(*seq)) {
            Some(seq) => {
                Err(format!("{node} boot {} was acknowledged {}, and {seq} is not durable", ack.boot, ack.watermark))
            }
            None => Ok(()),
        }
    }

    /// After healing: everything that was durable on an agent is in the archive once, as an event, or where its disk lost
    /// it as a gap; and the coordinator has counted the same.
    pub fn complete(&self, archived: u64, missed: &Missed) -> Result<(), String> {
        for (node, boots) in &self.lanes {
            for (boot, lane) in boots {
                for (seq, fate) in (1..).zip(&lane.fates) {
                    let owed = fate.durable.is_some() || !fate.lost.is_empty();
                    let settled = fate.archived_ms.is_some() || fate.missed.is_some();
                    if owed && !settled {
                        return Err(format!("{node} boot {boot} sequence {seq} never arrived: {fate:?}"));
                    }
                }
            }
        }
        let nothing =
            |missed: &Missed| missed.iter().filter(|(_, n)| **n > 0).map(|(c, n)| (*c, *n)).collect::<Missed>();
        if (self.archived, nothing(&self.missed)) != (archived, nothing(missed)) {
            let (here, there) = ((self.archived, &self.missed), (archived, missed));
            return Err(format!("the sums differ: {here:?} happened, and the coordinator counts {there:?}"));
        }
        Ok(())
    }

    /// Events that were durable on an agent.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Sequences that were given up, in the archive.
    pub fn missed(&self) -> u64 {
        self.missed.values().sum()
    }

    /// Of each archived event, when it was observed and when it was archived.
    pub fn arrivals(&self) -> Vec<(u64, u64)> {
        let fates = self.lanes.values().flat_map(BTreeMap::values).flat_map(|lane| &lane.fates);
        fates.filter_map(|fate| Some((fate.observed_ms, fate.archived_ms?))).collect()
    }

    /// Boots that events were given sequences of.
    pub fn boots(&self) -> usize {
        self.lanes.values().map(BTreeMap::len).sum()
    }

    fn lane(&mut self, node: &NodeId, boot: Boot) -> Result<&mut Lane, String> {
        let lane = self.lanes.get_mut(node).and_then(|boots| boots.get_mut(&boot));
        lane.ok_or_else(|| format!("nobody ever began boot {boot} of {node}"))
    }

    fn fate(&mut self, node: &NodeId, boot: Boot, seq: u64) -> Result<&mut Fate, String> {
        let fate = self.lane(node, boot)?.fates.get_mut(seq as usize - 1);
        fate.ok_or_else(|| format!("{node} boot {boot} never had a sequence {seq}"))
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
