//! Compares, after everything has stopped, what the agents' disks hold with what the archive holds: event by event, byte by
//! byte. It opens both stores as their owners would and believes no counter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use picket_agent::store::AgentStore;
use picket_coordinator::archive::What;
use picket_coordinator::store::Archive;
use picket_shared::codec;
use picket_shared::event::Event;
use picket_shared::ids::{Boot, NodeId};
use serde::Serialize;

/// How the two sides compare.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Audit {
    /// Each agent's part, by name.
    pub agents: BTreeMap<String, Balance>,
    /// Entries of the archive that no agent has stored.
    pub foreign: u64,
    /// Ranges that the coordinator gave up as missed.
    pub gaps: u64,
    /// From the frame to the archive, of every event, ascending.
    #[serde(skip)]
    pub latencies_ms: Vec<u64>,
}

/// One agent's part.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Balance {
    /// Events on the agent's disk.
    pub stored: u64,
    /// Of these, in the archive at least once, with the same bytes.
    pub delivered: u64,
    /// Of these, in the archive more than once.
    pub duplicated: u64,
    /// Of these, in the archive with other bytes.
    pub changed: u64,
}

impl Audit {
    /// Whether every stored event is in the archive exactly once, and nothing else is.
    pub fn balances(&self) -> bool {
        let each = |balance: &Balance| {
            balance.stored > 0 && balance.delivered == balance.stored && balance.duplicated == 0 && balance.changed == 0
        };
        self.foreign == 0 && self.gaps == 0 && !self.agents.is_empty() && self.agents.values().all(each)
    }

    /// A latency that this share of the events did not exceed.
    pub fn latency_ms(&self, share: f64) -> u64 {
        let last = self.latencies_ms.len().saturating_sub(1);
        self.latencies_ms.get((last as f64 * share).round() as usize).copied().unwrap_or(0)
    }
}

/// An agent's store.
#[derive(Debug, Clone)]
pub struct Stored {
    /// What the balance is to be called.
    pub name: String,
    /// The node whose events it holds.
    pub node: NodeId,
    /// Its directory.
    pub dir: PathBuf,
}

/// Opens both sides, of which none may be running, and compares. `heard` is called once with each (node, boot, sequence)
/// of the archive.
pub fn compare(archive: &Path, stores: &[Stored], mut heard: impl FnMut(&NodeId, Boot, u64)) -> anyhow::Result<Audit> {
    let archive = Archive::open_existing(archive).context("the archive")?;
    let mut audit = Audit::default();
    let mut arrived: BTreeMap<(NodeId, Boot, u64), (u64, Vec<u8>)> = BTreeMap::new();
    for item in archive.entries() {
        let (_, entry) = item.context("the archive")?;
        match entry.what {
            What::Event { seq, bytes } => {
                if let Ok(event) = codec::decode::<Event>(&bytes) {
                    audit.latencies_ms.push(entry.archive_time_ms.saturating_sub(event.frame_time_ms));
                }
                let node = entry.node.clone();
                let times = arrived.entry((entry.node, entry.boot, seq)).or_default();
                // A double must not make up for one that is missing.
                if times.0 == 0 {
                    heard(&node, entry.boot, seq);
                }
                *times = (times.0 + 1, bytes.into_vec());
            }
            What::Unreadable { .. } => audit.foreign += 1,
            What::Gap { .. } => audit.gaps += 1,
        }
    }
    audit.latencies_ms.sort_unstable();
    for Stored { name, node, dir } in stores {
        let store = AgentStore::look(dir).with_context(|| name.clone())?;
        let mut balance = Balance::default();
        for event in store.events() {
            let event = event.with_context(|| name.clone())?;
            balance.stored += 1;
            let (times, bytes) = arrived.remove(&(node.clone(), event.boot, event.seq)).unwrap_or_default();
            balance.delivered += u64::from(times > 0 && bytes == event.bytes);
            balance.changed += u64::from(times > 0 && bytes != event.bytes);
            balance.duplicated += u64::from(times > 1);
        }
        audit.agents.insert(name.clone(), balance);
    }
    audit.foreign += arrived.len() as u64;
    Ok(audit)
}
