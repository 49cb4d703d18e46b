//! The stores that are measured: ours, and those that others use, each as its documentation says it is durable.
//!
//! All keep the same events under their sequences. The only file that knows redb and SQLite; and sled, which ours are
//! built on, to show what its own `flush()` costs and promises.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use picket_agent::node::NewEvent;
use picket_agent::store::{self, AgentStore};
use picket_coordinator::archive::{Commit, Entry, LaneId, LaneRow, What};
use picket_coordinator::store::Archive;
use picket_shared::event::Class;
use picket_shared::ids::{Boot, NodeId};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use rusqlite::Connection;
use serde_bytes::ByteBuf;

const NOW_S: u64 = 1_700_000_000;
const EVENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("events");

/// A store under measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// The agent's.
    Agent,
    /// The coordinator's.
    Archive,
    /// redb with its durable commit, which is its default.
    Redb,
    /// SQLite with a write-ahead log and `synchronous=FULL`.
    Sqlite,
    /// sled with `flush()`: a power cut takes what it says is there.
    SledFlush,
    /// Bytes at the end of a file and `fdatasync`: the limit of the disk.
    RawFile,
}

impl Peer {
    /// In the order of the tables.
    pub(super) const ALL: [Peer; 6] =
        [Peer::Agent, Peer::Archive, Peer::Redb, Peer::Sqlite, Peer::SledFlush, Peer::RawFile];

    /// Its name in the tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Peer::Agent => "picket agent's store",
            Peer::Archive => "picket archive",
            Peer::Redb => "redb, durable commit",
            Peer::Sqlite => "SQLite, WAL, FULL",
            Peer::SledFlush => "sled flush: NOT durable",
            Peer::RawFile => "a file, fdatasync",
        }
    }

    /// Opens it in an existing folder of its own, to append.
    pub(super) fn open(self, dir: &Path) -> anyhow::Result<Box<dyn Log>> {
        Ok(match self {
            Peer::Agent => {
                let (store, found) = AgentStore::open(dir, &roomy(), NOW_S, 0)?;
                Box::new(OfAgent { store, boot: found.boot })
            }
            Peer::Archive => {
                let (mut archive, _) = Archive::open(dir, NOW_S)?;
                let boot = archive.begin_boot(NOW_S, 0)?;
                Box::new(OfArchive { archive, lane: LaneId { node: NodeId::new("gate-3")?, boot } })
            }
            Peer::Redb => Box::new(Database::create(dir.join("redb"))?),
            Peer::Sqlite => Box::new(sqlite(dir)?),
            Peer::SledFlush => Box::new(sled::Config::new().path(dir).flush_every_ms(None).open()?),
            Peer::RawFile => Box::new(OpenOptions::new().create(true).append(true).open(dir.join("log"))?),
        })
    }

    /// Opens it anew as its program would after a crash: how many events there are, and the last. Ours look at each event
    /// there is; the others count as they do it best. `None` where there is nothing to measure.
    pub(super) fn recover(self, dir: &Path) -> anyhow::Result<Option<(u64, u64)>> {
        Ok(match self {
            Peer::Agent => {
                let (_, found) = AgentStore::open(dir, &roomy(), NOW_S, 0)?;
                let (_, lane) = found.lanes.last().context("the boot that was written")?;
                anyhow::ensure!(lane.gaps.is_empty(), "there are gaps: {:?}", lane.gaps);
                Some((lane.stored, lane.stored))
            }
            Peer::Archive => {
                let (_, found) = Archive::open(dir, NOW_S)?;
                anyhow::ensure!(found.problems.is_empty(), "{:?}", found.problems);
                Some((found.lanes.values().map(LaneRow::events).sum(), found.last))
            }
            Peer::Redb => {
                let database = Database::open(dir.join("redb"))?;
                let table = database.begin_read()?.open_table(EVENTS)?;
                Some((table.len()?, table.last()?.map_or(0, |(seq, _)| seq.value())))
            }
            Peer::Sqlite => {
                let last = "SELECT count(*), max(seq) FROM events";
                Some(
                    sqlite(dir)?
                        .query_row(last, [], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64)))?,
                )
            }
            Peer::SledFlush | Peer::RawFile => None,
        })
    }
}

/// Takes events in, and returns once they are durable, as far as it knows.
pub(super) trait Log {
    /// Appends events with the sequences from `first` on.
    fn append(&mut self, first: u64, events: &[Vec<u8>]) -> anyhow::Result<()>;
}

struct OfAgent {
    store: AgentStore,
    boot: Boot,
}

impl Log for OfAgent {
    fn append(&mut self, first: u64, events: &[Vec<u8>]) -> anyhow::Result<()> {
        let event = |(seq, bytes): (u64, &Vec<u8>)| NewEvent {
            boot: self.boot,
            seq,
            class: Class::Confirmed,
            bytes: bytes.clone(),
        };
        let events: Vec<NewEvent> = (first..).zip(events).map(event).collect();
        let given_up = self.store.append(NOW_S, &events)?;
        anyhow::ensure!(given_up.is_empty(), "the store gave up {given_up:?}");
        Ok(())
    }
}

/// Room for all that is written: this bench measures the disk and not what is given up when it is short.
fn roomy() -> store::Config {
    store::Config { owed_mib: 8 * 1024, ..store::Config::default() }
}

struct OfArchive {
    archive: Archive,
    lane: LaneId,
}

impl Log for OfArchive {
    fn append(&mut self, first: u64, events: &[Vec<u8>]) -> anyhow::Result<()> {
        let LaneId { node, boot } = &self.lane;
        let entry = |(seq, bytes): (u64, &Vec<u8>)| {
            let what = What::Event { seq, bytes: ByteBuf::from(bytes.clone()) };
            Entry { node: node.clone(), boot: *boot, archive_time_ms: NOW_S * 1000, what }
        };
        let entries = (first..).zip(events).map(entry).collect();
        let row = LaneRow { watermark: first + events.len() as u64 - 1, ..LaneRow::default() };
        let commit = Commit { first, entries, lanes: vec![(self.lane.clone(), row)], retired: vec![] };
        Ok(self.archive.commit(&commit)?)
    }
}

impl Log for Database {
    fn append(&mut self, first: u64, events: &[Vec<u8>]) -> anyhow::Result<()> {
        let mut write = self.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        {
            let mut table = write.open_table(EVENTS)?;
            for (seq, event) in (first..).zip(events) {
                table.insert(seq, event.as_slice())?;
            }
        }
        Ok(write.commit()?)
    }
}

fn sqlite(dir: &Path) -> anyhow::Result<Connection> {
    let connection = Connection::open(dir.join("sqlite"))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, bytes BLOB NOT NULL)",
    )?;
    Ok(connection)
}

impl Log for Connection {
    fn append(&mut self, first: u64, events: &[Vec<u8>]) -> anyhow::Result<()> {
        let write = self.transaction()?;
        {
            let mut insert = write.prepare_cached("INSERT INTO events (seq, bytes) VALUES (?1, ?2)")?;
            for (seq, event) in (first..).zip(events) {
                insert.execute((seq as i64, event))?;
            }
        }
        Ok(write.commit()?)
    }
}

impl Log for sled::Db {
    fn append(&mut self, first: u64, events: &[Vec<u8>]) -> anyhow::Result<()> {
        let mut batch = sled::Batch::default();
        for (seq, event) in (first..).zip(events) {
            batch.insert(&seq.to_be_bytes(), event.as_slice());
        }
        self.apply_batch(batch)?;
        self.flush()?;
        Ok(())
    }
}

impl Log for File {
    fn append(&mut self, _: u64, events: &[Vec<u8>]) -> anyhow::Result<()> {
        self.write_all(&events.concat())?;
        Ok(self.sync_data()?)
    }
}
