//! What an outbox process writes down beside its store, so that the audit has a second witness of what was durable: a store
//! that forgot an event would otherwise balance with an archive that never saw it.
//!
//! Lines are appended one write at a time: what was written before a kill -9 is there after it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use picket_shared::ids::Boot;

/// The ledger's file below an outbox's directory.
pub const FILE: &str = "ledger";

/// Appends lines.
pub struct Ledger(File);

impl Ledger {
    /// Opens the ledger below `dir` to go on with it.
    pub fn append_in(dir: &Path) -> anyhow::Result<Ledger> {
        let path = dir.join(FILE);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(Ledger(file.with_context(|| format!("the ledger {}", path.display()))?))
    }

    /// This process takes signals from now on.
    pub fn ready(&mut self, pid: u32) {
        self.line(&format!("ready {pid}\n"));
    }

    /// This boot is durable up to here.
    pub fn stored(&mut self, boot: Boot, upto: u64) {
        self.line(&format!("stored {boot} {upto}\n"));
    }

    /// What this process counts, so far.
    pub fn counts(&mut self, pid: u32, resent: u64, lost: u64, memory_bytes: u64) {
        self.line(&format!("counts {pid} {resent} {lost} {memory_bytes}\n"));
    }

    fn line(&mut self, line: &str) {
        // A ledger that cannot be written makes the audit fail; the outbox has nobody else to tell.
        let _ = self.0.write_all(line.as_bytes());
    }
}

/// A ledger as read.
#[derive(Debug, Default)]
pub struct Account {
    /// The process that last said that it is ready.
    pub ready: Option<u32>,
    /// How far each boot was said to be durable.
    pub stored: BTreeMap<u64, u64>,
    /// Events sent again, over all lives, as of each one's last heartbeat.
    pub resent: u64,
    /// Events that could not be stored.
    pub lost: u64,
    /// The most memory that any life had.
    pub memory_bytes_max: u64,
}

impl Account {
    /// Reads the ledger below `dir`; empty where there is none yet.
    pub fn read(dir: &Path) -> Account {
        let mut account = Account::default();
        let mut lives: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for line in std::fs::read_to_string(dir.join(FILE)).unwrap_or_default().lines() {
            let mut words = line.split(' ');
            let word = words.next();
            let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
            match (word, &numbers[..]) {
                (Some("ready"), [pid]) => account.ready = Some(*pid as u32),
                (Some("stored"), [boot, upto]) => drop(account.stored.insert(*boot, *upto)),
                (Some("counts"), [pid, resent, lost, memory]) => {
                    lives.insert(*pid, (*resent, *lost));
                    account.memory_bytes_max = account.memory_bytes_max.max(*memory);
                }
                _ => {}
            }
        }
        account.resent = lives.values().map(|(resent, _)| resent).sum();
        account.lost = lives.values().map(|(_, lost)| lost).sum();
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_lives_are_added_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::append_in(dir.path()).unwrap();
        ledger.ready(1);
        ledger.stored(Boot(7), 3);
        ledger.stored(Boot(7), 9);
        ledger.counts(1, 2, 0, 50);
        ledger.counts(1, 5, 0, 40);
        let mut ledger = Ledger::append_in(dir.path()).unwrap();
        ledger.ready(2);
        ledger.stored(Boot(8), 1);
        ledger.counts(2, 1, 1, 10);
        let account = Account::read(dir.path());
        assert_eq!((account.ready, account.resent, account.lost, account.memory_bytes_max), (Some(2), 6, 1, 50));
        assert_eq!(account.stored, [(7, 9), (8, 1)].into());
    }
}
