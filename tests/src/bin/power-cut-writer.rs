//! Writes events until it is killed, and says of each when its store called it durable; or says which are there.
//!
//! `power-cut-writer write|read agent|archive|sled <directory> <seed>`. Standard output is a list of notes
//! (`picket_tests::power_cut`). `agent` and `archive` are the real stores. `sled` is what many a program does: sled with
//! `flush()` and nothing more. The test expects it to lose events, so that it is known to be able to see a loss; this is
//! the one file outside the stores that may know sled.
#![allow(clippy::unwrap_used, reason = "a test's helpers are the test")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;
use picket_agent::node::NewEvent;
use picket_agent::store::{self, AgentStore};
use picket_coordinator::archive::{Commit, Entry, LaneId, LaneRow, What};
use picket_coordinator::store::Archive;
use picket_shared::event::Class;
use picket_shared::ids::{Boot, NodeId};
use picket_tests::power_cut::{event_bytes, note};
use serde_bytes::ByteBuf;

/// A group commit of the recorder takes at most so many.
const GROUP_EVENTS_MAX: u64 = 10;
/// Between two groups, so that a round fits its small disk.
const PAUSE: Duration = Duration::from_millis(2);

/// Writes the events of a boot and returns once they are durable, as far as it knows.
trait Writer {
    fn boot(&self) -> u64;
    fn append(&mut self, first: u64, events: Vec<Vec<u8>>);
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, kind, dir, seed] = &args[..] else { panic!("write|read agent|archive|sled <directory> <seed>") };
    let (dir, seed) = (PathBuf::from(dir), seed.parse().unwrap());
    match what.as_str() {
        "write" => write(&mut *writer(kind, &dir, seed), seed),
        "read" => say(&read(kind, &dir)),
        other => panic!("cannot {other}"),
    }
}

fn write(writer: &mut dyn Writer, seed: u64) {
    let (mut rng, mut next) = (Rng::with_seed(seed), 1);
    loop {
        let count = rng.u64(1..=GROUP_EVENTS_MAX);
        let group = next..next + count;
        let boot = writer.boot();
        writer.append(next, group.clone().map(|seq| event_bytes(boot, seq)).collect());
        say(&group.map(|seq| (boot, seq)).collect::<Vec<_>>());
        next += count;
        std::thread::sleep(PAUSE);
    }
}

fn say(places: &[(u64, u64)]) {
    let notes: Vec<u8> = places.iter().flat_map(|&(boot, seq)| note(boot, seq)).collect();
    std::io::stdout().write_all(&notes).unwrap();
    std::io::stdout().flush().unwrap();
}

fn writer(kind: &str, dir: &Path, seed: u64) -> Box<dyn Writer> {
    let (now_s, salt) = (1_700_000_000, seed as u32);
    match kind {
        "agent" => {
            let (store, found) = AgentStore::open(dir, &store::Config::default(), now_s, salt).unwrap();
            Box::new(Agent { store, boot: found.boot })
        }
        "archive" => {
            let (mut archive, recovered) = Archive::open(dir, now_s).unwrap();
            let boot = archive.begin_boot(now_s, salt).unwrap();
            Box::new(Coordinator { archive, boot, last: recovered.last })
        }
        "sled" => Box::new(Naive::open(dir)),
        other => panic!("no such store: {other}"),
    }
}

/// The places whose exact bytes are there. Bytes that are not those of their place end the process: worse than a loss.
fn read(kind: &str, dir: &Path) -> Vec<(u64, u64)> {
    let events: Vec<(u64, u64, Vec<u8>)> = match kind {
        "agent" => {
            // As after a real power cut: the agent starts, and so a boot begins.
            let (store, _) = AgentStore::open(dir, &store::Config::default(), 1_800_000_000, 0).unwrap();
            let event = |event: store::StoredEvent| (event.boot.0, event.seq, event.bytes);
            store.events().map(|item| event(item.unwrap())).collect()
        }
        "archive" => {
            let (archive, recovered) = Archive::open(dir, 1_800_000_000).unwrap();
            assert!(recovered.problems.is_empty() && recovered.lost == 0, "{:?}", recovered.problems);
            let event = |entry: Entry| match entry.what {
                What::Event { seq, bytes } => (entry.boot.0, seq, bytes.into_vec()),
                other => panic!("nobody wrote {other:?}"),
            };
            archive.entries().map(|item| event(item.unwrap().1)).collect()
        }
        "sled" => Naive::read(dir),
        other => panic!("no such store: {other}"),
    };
    let place = |(boot, seq, bytes): (u64, u64, Vec<u8>)| {
        assert!(bytes == event_bytes(boot, seq), "event {seq} of boot {boot} has other bytes");
        (boot, seq)
    };
    events.into_iter().map(place).collect()
}

struct Agent {
    store: AgentStore,
    boot: Boot,
}

impl Writer for Agent {
    fn boot(&self) -> u64 {
        self.boot.0
    }

    fn append(&mut self, first: u64, events: Vec<Vec<u8>>) {
        let event = |(seq, bytes)| NewEvent { boot: self.boot, seq, class: Class::Confirmed, bytes };
        let events: Vec<NewEvent> = (first..).zip(events).map(event).collect();
        let given_up = self.store.append(1_700_000_000, &events).unwrap();
        assert!(given_up.is_empty(), "the small disk is full: {given_up:?}");
    }
}

struct Coordinator {
    archive: Archive,
    boot: Boot,
    last: u64,
}

impl Writer for Coordinator {
    fn boot(&self) -> u64 {
        self.boot.0
    }

    fn append(&mut self, first: u64, events: Vec<Vec<u8>>) {
        let node = NodeId::new("gate-3").unwrap();
        let entry = |(seq, bytes)| {
            let what = What::Event { seq, bytes: ByteBuf::from(bytes) };
            Entry { node: node.clone(), boot: self.boot, archive_time_ms: 5, what }
        };
        let entries: Vec<Entry> = (first..).zip(events).map(entry).collect();
        let row = LaneRow { watermark: first + entries.len() as u64 - 1, ..LaneRow::default() };
        let lanes = vec![(LaneId { node: node.clone(), boot: self.boot }, row)];
        let count = entries.len() as u64;
        self.archive.commit(&Commit { first: self.last + 1, entries, lanes, retired: vec![] }).unwrap();
        self.last += count;
    }
}

/// sled as its documentation has it: `flush()` returns when "all dirty IO buffers" are on the disk.
struct Naive {
    db: sled::Db,
    boot: u64,
}

impl Naive {
    fn open(dir: &Path) -> Naive {
        let db = sled::Config::new().path(dir).flush_every_ms(None).open().unwrap();
        let last = db.last().unwrap().map_or(0, |(key, _)| u64::from_be_bytes(key[..8].try_into().unwrap()));
        // The files themselves are given: what is lost is lost after this.
        std::fs::File::open(dir.join("db")).unwrap().sync_all().unwrap();
        std::fs::File::open(dir).unwrap().sync_all().unwrap();
        Naive { db, boot: last + 1 }
    }

    fn read(dir: &Path) -> Vec<(u64, u64, Vec<u8>)> {
        let db = sled::Config::new().path(dir).flush_every_ms(None).open().unwrap();
        let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
        let event = |(key, value): (sled::IVec, sled::IVec)| (number(&key[..8]), number(&key[8..]), value.to_vec());
        db.iter().map(|item| event(item.unwrap())).collect()
    }
}

impl Writer for Naive {
    fn boot(&self) -> u64 {
        self.boot
    }

    fn append(&mut self, first: u64, events: Vec<Vec<u8>>) {
        let mut batch = sled::Batch::default();
        for (seq, bytes) in (first..).zip(events) {
            batch.insert(&note(self.boot, seq), bytes);
        }
        self.db.apply_batch(batch).unwrap();
        self.db.flush().unwrap();
    }
}
