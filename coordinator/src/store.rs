//! The archive on disk: keys and values over [`picket_shared::store`]. Decides nothing.
//!
//! | key | value |
//! |---|---|
//! | `e` + number | one [`Entry`] |
//! | `l` + node + 0 + boot | its [`LaneRow`] |
//! | `n` + node | its [`NodeRow`] |
//! | `boot` | this coordinator's last boot |
//!
//! Numbers are 8 bytes, the highest first, so that keys are in the order of the numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use picket_shared::codec::{self, CodecError};
use picket_shared::ids::{Boot, NodeId};
use picket_shared::store::{Batch, Store, StoreError};
use picket_shared::wire::Wire;

use crate::archive::{Commit, Entry, LaneId, LaneRow, NodeRow, Recovered, What};

/// The archive's directory below the data directory.
const DIRECTORY: &str = "archive";
const ENTRY: u8 = b'e';
const LANE: u8 = b'l';
const NODE: u8 = b'n';
const BOOT: &[u8] = b"boot";

/// An open archive.
pub struct Archive {
    store: Store,
    dir: PathBuf,
}

impl Archive {
    /// Opens the archive below `data_dir`, creating it where absent.
    pub fn open(data_dir: &Path) -> Result<Archive, StoreError> {
        let dir = data_dir.join(DIRECTORY);
        Ok(Archive { store: Store::open(&dir)?, dir })
    }

    /// Opens the archive below `data_dir` only where there is one.
    pub fn open_existing(data_dir: &Path) -> Result<Archive, StoreError> {
        let dir = data_dir.join(DIRECTORY);
        if !dir.is_dir() {
            return Err(StoreError::Denied(dir, "there is no archive".into()));
        }
        Archive::open(data_dir)
    }

    /// Begins a new boot: a number that this archive never gave before, durable before it is used.
    /// See [`Boot::after`] for `salt`.
    pub fn begin_boot(&self, now_s: u64, salt: u32) -> Result<Boot, StoreError> {
        let last = match self.store.get(BOOT)? {
            Some(bytes) => Some(Boot(u64::from_be_bytes(bytes.try_into().map_err(|_| self.damaged("its boot"))?))),
            None => None,
        };
        let boot = Boot::after(last, now_s, salt);
        let mut batch = Batch::default();
        batch.put(BOOT, &boot.0.to_be_bytes());
        self.store.write(batch)?;
        self.store.sync()?;
        Ok(boot)
    }

    /// Makes a commit durable: all of it or nothing.
    pub fn commit(&self, commit: &Commit) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for (number, entry) in (commit.first..).zip(&commit.entries) {
            batch.put(&entry_key(number), &encoded(entry));
        }
        for (id, row) in &commit.lanes {
            batch.put(&lane_key(id), &encoded(row));
        }
        for (id, row) in &commit.retired {
            batch.remove(&lane_key(id));
            batch.put(&node_key(&id.node), &encoded(row));
        }
        self.store.write(batch)?;
        self.store.sync()
    }

    /// Reads the whole archive once and says what a coordinator needs to go on.
    pub fn recover(&self) -> Result<Recovered, StoreError> {
        let nodes: Result<BTreeMap<NodeId, NodeRow>, StoreError> = self
            .prefix(NODE)
            .map(|item| {
                let (key, value) = item?;
                let node = name(&key[1..]).ok_or_else(|| self.damaged("a node's name"))?;
                Ok((node, self.decoded(&value)?))
            })
            .collect();
        Recovered::gather(self.lanes()?, nodes?, self.entries())
    }

    /// All entries with their numbers, in order. The first error is the last item.
    pub fn entries(&self) -> impl Iterator<Item = Result<(u64, Entry), StoreError>> + '_ {
        self.prefix(ENTRY).map(|item| {
            let (key, value) = item?;
            let number = key[1..].try_into().map_err(|_| self.damaged("an entry's number"))?;
            Ok((u64::from_be_bytes(number), self.decoded(&value)?))
        })
    }

    /// All lanes.
    pub fn lanes(&self) -> Result<BTreeMap<LaneId, LaneRow>, StoreError> {
        self.prefix(LANE)
            .map(|item| {
                let (key, value) = item?;
                let id = lane_of(&key[1..]).ok_or_else(|| self.damaged("a lane's name"))?;
                Ok((id, self.decoded(&value)?))
            })
            .collect()
    }

    /// Counts the entries of each lane anew, without a look at what the intake noted of them.
    pub fn audit(&self) -> Result<BTreeMap<LaneId, LaneAudit>, StoreError> {
        let mut lanes: BTreeMap<LaneId, (LaneAudit, BTreeSet<u64>)> = BTreeMap::new();
        for item in self.entries() {
            let (_, entry) = item?;
            let (audit, seen) = lanes.entry(LaneId { node: entry.node, boot: entry.boot }).or_default();
            match entry.what {
                What::Gap { from, to, .. } => audit.missed = audit.missed.saturating_add(to - from + 1),
                What::Event { seq, .. } | What::Unreadable { seq, .. } => {
                    audit.events += 1;
                    audit.doubles += u64::from(!seen.insert(seq));
                    audit.last = audit.last.max(seq);
                }
            }
        }
        Ok(lanes.into_iter().map(|(id, (audit, _))| (id, audit)).collect())
    }

    /// Bytes on disk.
    pub fn size_bytes(&self) -> u64 {
        self.store.size_on_disk_bytes()
    }

    fn prefix(&self, prefix: u8) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + '_ {
        // `boot` and `format` are no numbered keys; each prefix is followed by a name or a number.
        self.store.range(vec![prefix]..vec![prefix + 1])
    }

    fn decoded<T: Wire>(&self, value: &[u8]) -> Result<T, StoreError> {
        codec::decode(value).map_err(|error| match error {
            CodecError::NewerVersion(version) => StoreError::Newer(self.dir.clone(), version),
            other => self.damaged(&other.to_string()),
        })
    }

    fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged(self.dir.clone(), format!("{what} cannot be read"))
    }
}

/// What stands in the archive of one lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaneAudit {
    /// Entries that are events, doubles included.
    pub events: u64,
    /// Of them, those whose sequence stands in an earlier entry too: always 0, or the intake failed.
    pub doubles: u64,
    /// Sequences that are noted as never come.
    pub missed: u64,
    /// The highest sequence.
    pub last: u64,
}

impl LaneAudit {
    /// Sequences up to the last one of which nothing is known: neither event nor gap.
    pub fn absent(&self) -> u64 {
        self.last.saturating_sub(self.events - self.doubles).saturating_sub(self.missed)
    }
}

fn encoded<T: Wire>(value: &T) -> Vec<u8> {
    codec::encode(value).expect("the intake keeps the bounds of what it archives")
}

fn entry_key(number: u64) -> Vec<u8> {
    [&[ENTRY][..], &number.to_be_bytes()].concat()
}

fn lane_key(id: &LaneId) -> Vec<u8> {
    [&[LANE][..], id.node.as_str().as_bytes(), &[0], &id.boot.0.to_be_bytes()].concat()
}

fn node_key(node: &NodeId) -> Vec<u8> {
    [&[NODE][..], node.as_str().as_bytes()].concat()
}

fn lane_of(bytes: &[u8]) -> Option<LaneId> {
    let (rest, boot) = bytes.split_last_chunk::<8>()?;
    Some(LaneId { node: name(rest.strip_suffix(&[0])?)?, boot: Boot(u64::from_be_bytes(*boot)) })
}

fn name(bytes: &[u8]) -> Option<NodeId> {
    NodeId::new(std::str::from_utf8(bytes).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::wire::GapCause;
    use serde_bytes::ByteBuf;

    fn entry(node: &str, boot: u64, what: What) -> Entry {
        Entry { node: NodeId::new(node).unwrap(), boot: Boot(boot), archive_time_ms: 9, what }
    }

    fn event(node: &str, boot: u64, seq: u64) -> Entry {
        entry(node, boot, What::Event { seq, bytes: ByteBuf::from(vec![7; 300]) })
    }

    fn lane(node: &str, boot: u64, watermark: u64) -> (LaneId, LaneRow) {
        (LaneId { node: NodeId::new(node).unwrap(), boot: Boot(boot) }, LaneRow { watermark, ..LaneRow::default() })
    }

    fn commit(first: u64, entries: Vec<Entry>, lanes: Vec<(LaneId, LaneRow)>) -> Commit {
        Commit { first, entries, lanes, retired: vec![] }
    }

    #[test]
    fn what_was_committed_is_there_after_opening_again_and_a_commit_may_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let one = commit(1, vec![event("a", 1, 1), event("b", 2, 1)], vec![lane("a", 1, 1), lane("b", 2, 1)]);
        let two = commit(3, vec![event("a", 1, 2)], vec![lane("a", 1, 2)]);
        {
            let archive = Archive::open(dir.path()).unwrap();
            assert_eq!(archive.begin_boot(100, 0).unwrap(), Boot(100 << 20));
            for commit in [&one, &two, &two] {
                archive.commit(commit).unwrap();
            }
        }
        let archive = Archive::open(dir.path()).unwrap();
        assert_eq!(archive.begin_boot(50, 0).unwrap(), Boot((100 << 20) + 1));
        let found = archive.recover().unwrap();
        assert_eq!((found.last, found.problems.len(), found.recent.len()), (3, 0, 3));
        assert_eq!(found.lanes, [lane("a", 1, 2), lane("b", 2, 1)].into());
        let numbers: Vec<u64> = archive.entries().map(|item| item.unwrap().0).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }

    #[test]
    fn a_retired_lane_leaves_its_sum() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(dir.path()).unwrap();
        archive.commit(&commit(1, vec![event("a", 1, 1)], vec![lane("a", 1, 1)])).unwrap();
        let row = NodeRow { retired: Boot(1), events: 1, missed: 0 };
        let retired = vec![(lane("a", 1, 1).0, row.clone())];
        archive.commit(&Commit { first: 2, entries: vec![], lanes: vec![], retired }).unwrap();
        let found = archive.recover().unwrap();
        assert_eq!(found.nodes, [(NodeId::new("a").unwrap(), row)].into());
        assert!(found.lanes.is_empty() && found.problems.is_empty(), "{:?}", found.problems);
    }

    #[test]
    fn the_audit_finds_doubles_and_absences_that_the_rows_deny() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(dir.path()).unwrap();
        let gap = entry("a", 1, What::Gap { from: 3, to: 4, cause: GapCause::Unknown });
        let entries = vec![event("a", 1, 1), event("a", 1, 2), event("a", 1, 2), gap, event("a", 1, 7)];
        archive.commit(&commit(1, entries, vec![lane("a", 1, 5)])).unwrap();
        let audit = archive.audit().unwrap().into_values().next().unwrap();
        assert_eq!(audit, LaneAudit { events: 4, doubles: 1, missed: 2, last: 7 });
        assert_eq!(audit.absent(), 2);
    }

    #[test]
    fn keys_of_all_kinds_survive_the_trip() {
        for id in [lane("a", 0, 0).0, lane("a.b-c_9", u64::MAX, 0).0] {
            assert_eq!(lane_of(&lane_key(&id)[1..]), Some(id));
        }
        for bytes in [&b""[..], b"a", b"a\x00\x00", b"A\x00\x00\x00\x00\x00\x00\x00\x00\x01"] {
            assert_eq!(lane_of(bytes), None);
        }
    }

    #[test]
    fn an_archive_that_is_only_read_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Archive::open_existing(dir.path()).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
