//! What this device remembers: events by (boot, sequence), and for each boot how far the archive has them.
//!
//! The only file of the agent that knows keys. Events stay after they are acknowledged until there are more than
//! `events_kept_max`; an event that is not acknowledged is never removed. It holds no thread and no policy of when to write:
//! see `recorder.rs`.

use std::path::Path;

use picket_shared::config::within;
use picket_shared::ids::Boot;
use picket_shared::store::{Batch, Store, StoreError};
use picket_shared::wire::{Gap, GapCause};
use serde::Deserialize;

use crate::node::NewEvent;
use crate::outbox::Lane;

const BOOT: u8 = b'b';
const EVENT: u8 = b'e';

/// What is kept on the device.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Events kept after the archive has them. Too high fills the disk (about 1 KiB each); too low leaves nothing to look
    /// up. What the archive does not have is kept whatever this says.
    pub events_kept_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { events_kept_max: 100_000 }
    }
}

impl Config {
    /// Says which value is out of range.
    pub fn check(&self) -> Result<(), String> {
        within("store.events_kept_max", self.events_kept_max, 0..=10_000_000)
    }
}

/// The device's memory.
pub struct AgentStore {
    store: Store,
    events: u64,
    events_kept_max: u64,
    /// Everything before this key is known to be removed.
    oldest: (Boot, u64),
}

/// What opening found.
#[derive(Debug)]
pub struct Found {
    /// The boot that now begins, durable already.
    pub boot: Boot,
    /// Every earlier boot that still has events here.
    pub lanes: Vec<(Boot, Lane)>,
}

/// One event as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// The boot.
    pub boot: Boot,
    /// The sequence in it.
    pub seq: u64,
    /// The encoded event.
    pub bytes: Vec<u8>,
}

impl AgentStore {
    /// Opens the memory in `dir` and begins a boot at `now_s` seconds since 1970; see [`Boot::after`] for `salt`.
    pub fn open(dir: &Path, config: &Config, now_s: u64, salt: u32) -> Result<(AgentStore, Found), StoreError> {
        let events_kept_max = config.events_kept_max;
        let store = Store::open(dir)?;
        let mut boots = Vec::new();
        for item in store.range(vec![BOOT]..vec![BOOT + 1]) {
            let (key, value) = item?;
            boots.push((Boot(number(&key[1..])), number(&value)));
        }
        let boot = Boot::after(boots.last().map(|(boot, _)| *boot), now_s, salt);
        let mut memory = AgentStore { store, events: 0, events_kept_max, oldest: (Boot(0), 0) };
        let mut begin = Batch::default();
        begin.put(&boot_key(boot), &0u64.to_be_bytes());

        let mut lanes = Vec::new();
        for (boot, acked) in boots {
            match memory.scan(boot, acked)? {
                Some(lane) => lanes.push((boot, lane)),
                // A boot without events owes nothing; its row would only grow the list.
                None => begin.remove(&boot_key(boot)),
            }
        }
        memory.store.write(begin)?;
        memory.store.sync()?;
        Ok((memory, Found { boot, lanes }))
    }

    /// Opens the memory in `dir` to read it, without beginning a boot.
    pub fn look(dir: &Path) -> Result<AgentStore, StoreError> {
        Ok(AgentStore { store: Store::open(dir)?, events: 0, events_kept_max: u64::MAX, oldest: (Boot(0), 0) })
    }

    /// Walks the events of a boot: counts them and finds the gaps.
    fn scan(&mut self, boot: Boot, acked: u64) -> Result<Option<Lane>, StoreError> {
        let (mut stored, mut events, mut gaps) = (None, 0, Vec::new());
        for item in self.store.range(event_key(boot, 0)..=event_key(boot, u64::MAX)) {
            let (key, _) = item?;
            let seq = number(&key[9..]);
            // Below the watermark old events are removed on purpose; above it nothing may be missing.
            let expect = stored.map_or(acked + 1, |last: u64| last + 1);
            if seq > expect && seq > acked + 1 {
                gaps.push(Gap { from: expect.max(acked + 1), to: seq - 1, cause: GapCause::StoreLost });
            }
            stored = Some(seq);
            events += 1;
        }
        self.events += events;
        Ok(stored.map(|stored| Lane { acked: acked.min(stored), stored, gaps }))
    }

    /// Appends events, all or none, and makes them durable. Within a boot they are consecutive. What had to be given up to
    /// make room for them is returned.
    pub fn append(&mut self, _now_s: u64, events: &[NewEvent]) -> Result<Vec<(Boot, Gap)>, StoreError> {
        let mut batch = Batch::default();
        for event in events {
            batch.put(&event_key(event.boot, event.seq), &event.bytes);
        }
        self.store.write(batch)?;
        self.store.sync()?;
        self.events += events.len() as u64;
        Ok(Vec::new())
    }

    /// The way back after an error: see [`Store::reopen`].
    pub fn reopen(&mut self) -> Result<(), StoreError> {
        self.store.reopen()
    }

    /// The encoded events `first..first + count` of a boot; shorter where some are missing.
    pub fn read(&self, boot: Boot, first: u64, count: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let keys = event_key(boot, first)..event_key(boot, first.saturating_add(count));
        let mut events = Vec::new();
        for (expect, item) in (first..).zip(self.store.range(keys)) {
            let (key, bytes) = item?;
            if number(&key[9..]) != expect {
                break;
            }
            events.push(bytes);
        }
        Ok(events)
    }

    /// Remembers a watermark, and removes the oldest acknowledged events beyond the number to keep. Not made durable: a
    /// watermark that is forgotten is told again.
    pub fn acked(&mut self, boot: Boot, upto: u64) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.put(&boot_key(boot), &upto.to_be_bytes());
        let surplus = self.events.saturating_sub(self.events_kept_max);
        let mut removed = 0;
        // Oldest first, and only what lies at or below the watermark that was just given.
        let from = event_key(self.oldest.0, self.oldest.1);
        for item in self.store.range(from..=event_key(boot, upto)).take(surplus as usize) {
            let (key, _) = item?;
            let (of, seq) = (Boot(number(&key[1..9])), number(&key[9..]));
            if of != boot && self.watermark(of)? < seq {
                break;
            }
            batch.remove(&key);
            self.oldest = (of, seq + 1);
            removed += 1;
        }
        self.store.write(batch)?;
        self.events -= removed;
        Ok(())
    }

    /// Every event here, oldest first.
    pub fn events(&self) -> impl Iterator<Item = Result<StoredEvent, StoreError>> + '_ {
        self.store.range(vec![EVENT]..vec![EVENT + 1]).map(|item| {
            let (key, bytes) = item?;
            Ok(StoredEvent { boot: Boot(number(&key[1..9])), seq: number(&key[9..]), bytes })
        })
    }

    fn watermark(&self, boot: Boot) -> Result<u64, StoreError> {
        Ok(self.store.get(&boot_key(boot))?.map_or(0, |value| number(&value)))
    }
}

fn boot_key(boot: Boot) -> Vec<u8> {
    [&[BOOT][..], &boot.0.to_be_bytes()].concat()
}

fn event_key(boot: Boot, seq: u64) -> Vec<u8> {
    [&[EVENT][..], &boot.0.to_be_bytes(), &seq.to_be_bytes()].concat()
}

/// Big-endian, so that keys sort as numbers. Other lengths are another key's and read as 0.
fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::event::Class;

    fn open(dir: &Path, now_s: u64, events_kept_max: u64) -> Result<(AgentStore, Found), StoreError> {
        AgentStore::open(dir, &Config { events_kept_max }, now_s, 0)
    }

    fn fill(memory: &mut AgentStore, boot: Boot, seqs: std::ops::RangeInclusive<u64>) {
        for seq in seqs {
            let (class, bytes) = (Class::Confirmed, seq.to_be_bytes().to_vec());
            memory.append(0, &[NewEvent { boot, seq, class, bytes }]).unwrap();
        }
    }

    #[test]
    fn each_opening_begins_a_boot_and_finds_what_is_owed() {
        let dir = tempfile::tempdir().unwrap();
        let first = {
            let (mut memory, found) = open(dir.path(), 100, 1000).unwrap();
            assert_eq!((found.boot, found.lanes.len()), (Boot(100 << 20), 0));
            fill(&mut memory, found.boot, 1..=5);
            memory.acked(found.boot, 2).unwrap();
            found.boot
        };
        // The clock went back; the boot must not.
        let (memory, found) = open(dir.path(), 50, 1000).unwrap();
        assert_eq!(found.boot, Boot((100 << 20) + 1));
        assert_eq!(found.lanes, [(first, Lane { acked: 2, stored: 5, gaps: vec![] })]);
        assert_eq!(memory.read(first, 3, 10).unwrap().len(), 3);
        assert_eq!(memory.events().count(), 5);
    }

    #[test]
    fn boots_without_events_do_not_pile_up() {
        let dir = tempfile::tempdir().unwrap();
        for now_s in 0..5 {
            open(dir.path(), now_s, 1000).unwrap();
        }
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.range(vec![BOOT]..vec![BOOT + 1]).count(), 1);
    }

    #[test]
    fn a_missing_event_above_the_watermark_is_a_gap_and_one_below_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let boot = {
            let (mut memory, found) = open(dir.path(), 1, 1000).unwrap();
            fill(&mut memory, found.boot, 1..=10);
            memory.acked(found.boot, 4).unwrap();
            let mut damage = Batch::default();
            for seq in [2, 7, 8] {
                damage.remove(&event_key(found.boot, seq));
            }
            memory.store.write(damage).unwrap();
            found.boot
        };
        let (memory, found) = open(dir.path(), 2, 1000).unwrap();
        assert_eq!(
            found.lanes,
            [(boot, Lane { acked: 4, stored: 10, gaps: vec![Gap { from: 7, to: 8, cause: GapCause::StoreLost }] })]
        );
        assert_eq!(memory.read(boot, 5, 10).unwrap().len(), 2, "a batch stops at the gap");
    }

    #[test]
    fn old_events_go_only_when_acknowledged_and_only_the_surplus() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = {
            let (mut memory, found) = open(dir.path(), 1, 3).unwrap();
            fill(&mut memory, found.boot, 1..=4);
            memory.acked(found.boot, 2).unwrap();
            assert_eq!(memory.events().count(), 3, "one of four is surplus");
            let old = found.boot;
            drop(memory);
            let (mut memory, found) = open(dir.path(), 9, 3).unwrap();
            fill(&mut memory, found.boot, 1..=6);
            // The new boot is acknowledged first; the old one's events 3 and 4 are still owed and must stay.
            memory.acked(found.boot, 6).unwrap();
            let left: Vec<_> = memory.events().map(|event| event.unwrap()).map(|e| (e.boot, e.seq)).collect();
            assert!(left.contains(&(old, 3)) && left.contains(&(old, 4)), "{left:?}");
            memory.acked(old, 4).unwrap();
            memory.acked(found.boot, 6).unwrap();
            assert_eq!(memory.events().count(), 3);
            (old, found.boot)
        };
        let (memory, _) = open(dir.path(), 20, 3).unwrap();
        let left: Vec<_> = memory.events().map(|event| event.unwrap()).map(|e| (e.boot, e.seq)).collect();
        assert!(left.iter().all(|(boot, _)| *boot == new), "{old:?} {left:?}");
    }
}
