//! An agent's disk in memory: what is synced survives a crash, what is not may or may not.
//!
//! It does what `picket_agent::store` does on a real disk, without retention; a test of the store holds the real one to
//! the same behaviour.

use std::collections::BTreeMap;

use fastrand::Rng;
use picket_agent::outbox::Lane;
use picket_shared::ids::Boot;

/// The disk of one agent.
#[derive(Debug, Default, Clone)]
pub struct AgentDisk {
    durable: BTreeMap<(Boot, u64), Vec<u8>>,
    acked: BTreeMap<Boot, u64>,
    /// Watermarks are written and not synced.
    acked_unsynced: BTreeMap<Boot, u64>,
    /// Appended to the current boot and not synced: consecutive.
    waiting: Vec<(u64, Vec<u8>)>,
    boot: Option<Boot>,
}

impl AgentDisk {
    /// Begins a boot, as opening the store does.
    pub fn open(&mut self, now_s: u64, salt: u32) -> (Boot, Vec<(Boot, Lane)>) {
        let boot = Boot::after(self.boot, now_s, salt);
        self.boot = Some(boot);
        let mut stored: BTreeMap<Boot, u64> = BTreeMap::new();
        for &(boot, seq) in self.durable.keys() {
            stored.insert(boot, seq);
        }
        let lane = |(boot, stored): (Boot, u64)| {
            let acked = self.acked.get(&boot).copied().unwrap_or(0);
            (boot, Lane { acked, stored, gaps: Vec::new() })
        };
        (boot, stored.into_iter().map(lane).collect())
    }

    /// Takes an event, not durable yet.
    pub fn append(&mut self, seq: u64, bytes: Vec<u8>) {
        self.waiting.push((seq, bytes));
    }

    /// Makes everything durable; the new events, and the last sequence of the boot.
    pub fn sync(&mut self) -> (Vec<(u64, Vec<u8>)>, Option<u64>) {
        let boot = self.boot.expect("a disk is opened before it is written");
        self.acked.append(&mut self.acked_unsynced);
        let events = std::mem::take(&mut self.waiting);
        self.durable.extend(events.iter().map(|(seq, bytes)| ((boot, *seq), bytes.clone())));
        let upto = events.last().map(|(seq, _)| *seq);
        (events, upto)
    }

    /// Remembers a watermark, not durably.
    pub fn acked(&mut self, boot: Boot, upto: u64) {
        self.acked_unsynced.insert(boot, upto);
    }

    /// Reads events back.
    pub fn read(&self, boot: Boot, first: u64, count: u64) -> Vec<Vec<u8>> {
        (first..first + count).filter_map(|seq| self.durable.get(&(boot, seq)).cloned()).collect()
    }

    /// The process dies: of what was not synced, some part from the front reached the disk all the same.
    /// That part is returned, because it is durable now though nobody was told.
    pub fn crash(&mut self, rng: &mut Rng) -> Vec<(u64, Vec<u8>)> {
        let survived = rng.usize(..=self.waiting.len());
        self.waiting.truncate(survived);
        if rng.bool() {
            self.acked_unsynced.clear();
        }
        self.sync().0
    }
}
