//! What must hold in every world: no durable event is lost, none is archived twice, nothing is acknowledged too early.
//!
//! Safety is checked at every step; liveness once the world has healed.

use std::collections::BTreeMap;

use picket_coordinator::archive::{Commit, MemoryArchive, What};
use picket_shared::ids::{Boot, NodeId};
use picket_shared::wire::Ack;

type Key = (NodeId, Boot, u64);

/// Every event that was ever durable on an agent, and how often the archive took it in.
#[derive(Debug, Default)]
pub struct Ledger {
    durable: BTreeMap<Key, Vec<u8>>,
    archived: BTreeMap<Key, u32>,
}

impl Ledger {
    /// An agent's disk made an event durable.
    pub fn stored(&mut self, node: &NodeId, boot: Boot, seq: u64, bytes: Vec<u8>) -> Result<(), String> {
        match self.durable.insert((node.clone(), boot, seq), bytes) {
            None => Ok(()),
            Some(_) => Err(format!("{node} used boot {boot} sequence {seq} twice")),
        }
    }

    /// The archive's disk made a commit durable.
    pub fn archived(&mut self, commit: &Commit) -> Result<(), String> {
        for entry in &commit.entries {
            match &entry.what {
                What::Event { seq, bytes } => {
                    let key = (entry.node.clone(), entry.boot, *seq);
                    match self.durable.get(&key) {
                        Some(stored) if stored == bytes.as_ref() => {}
                        Some(_) => return Err(format!("{key:?} changed on its way")),
                        None => return Err(format!("{key:?} was archived and never durable on its agent")),
                    }
                    let times = self.archived.entry(key.clone()).or_default();
                    *times += 1;
                    if *times > 1 {
                        return Err(format!("{key:?} was counted {times} times"));
                    }
                }
                What::Gap { from, to, .. } => {
                    return Err(format!("{} boot {}: {from}..={to} given up as missed", entry.node, entry.boot));
                }
                What::Unreadable { seq, .. } => return Err(format!("sequence {seq} arrived unreadable")),
            }
        }
        Ok(())
    }

    /// The coordinator says this: it must be true of what is durable now.
    pub fn acked(&self, node: &NodeId, ack: &Ack) -> Result<(), String> {
        let has = |seq: u64| self.archived.contains_key(&(node.clone(), ack.boot, seq));
        // Below the last watermark everything was checked before, so looking at the top is enough and keeps this cheap.
        let recent = ack.watermark.saturating_sub(2 * picket_shared::limits::AHEAD_EVENTS_MAX);
        match (recent + 1..=ack.watermark).find(|seq| !has(*seq)) {
            Some(seq) => {
                Err(format!("{node} boot {} was acknowledged {}, and {seq} is not durable", ack.boot, ack.watermark))
            }
            None => Ok(()),
        }
    }

    /// After healing: everything that was durable on an agent is in the archive, once.
    pub fn complete(&self, archive: &MemoryArchive) -> Result<(), String> {
        if let Some(key) = self.durable.keys().find(|key| !self.archived.contains_key(*key)) {
            return Err(format!("{key:?} was durable and never arrived"));
        }
        let numbers = archive.entries.len();
        if numbers != self.durable.len() {
            return Err(format!("{} events were durable and the archive has {numbers} entries", self.durable.len()));
        }
        Ok(())
    }

    /// Events that were durable on an agent.
    pub fn events(&self) -> usize {
        self.durable.len()
    }
}
