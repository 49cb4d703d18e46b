//! The archive on disk: keys and values over [`picket_shared::store`]. Decides nothing.
//!
//! | key | value |
//! |---|---|
//! | `e` + number | one [`Entry`] |
//! | `l` + node + 0 + boot | its [`LaneRow`] |
//! | `n` + node | its [`NodeRow`] |
//! | `boot` | this coordinator's last boot |
//!
//! Numbers are 8 bytes, the highest first, so that keys are in the order of the numbers. A damaged archive is set aside, and
//! a new one begun with what could be saved of it.

mod recount;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use picket_shared::codec::{self, CodecError};
use picket_shared::ids::{Boot, NodeId};
use picket_shared::store::{Batch, Extent, Reach, Step, Store, StoreError};
use picket_shared::wire::Wire;

use crate::archive::{Commit, Entry, LaneId, LaneRow, NodeRow, Recovered, What};
use recount::Recount;

/// The archive's directory below the data directory.
const DIRECTORY: &str = "archive";
const ENTRY: u8 = b'e';
const LANE: u8 = b'l';
const NODE: u8 = b'n';
const BOOT: &[u8] = b"boot";

/// Keys and values are of the first format.
const STEPS: &[Step] = &[];
/// The extent's one lane: the archive's own numbers.
const NUMBERS: u64 = 0;
/// Entries that one batch renumbers.
const RENUMBERED_MAX: usize = 256;

/// An open archive.
pub struct Archive {
    store: Store,
    extent: Extent,
    /// The number of the last entry.
    last: u64,
}

impl Archive {
    /// Opens the archive below `data_dir` at `now_s` seconds since 1970, creating it where absent, and says what a
    /// coordinator needs to go on. Everything is read once; what is damaged is set aside and begun anew with the rest.
    pub fn open(data_dir: &Path, now_s: u64) -> Result<(Archive, Recovered), StoreError> {
        let dir = data_dir.join(DIRECTORY);
        let mut archive = Archive { store: Store::claim(&dir, STEPS)?, extent: Extent::open(&dir), last: 0 };
        // A new archive's extent is made before its database, so that one without the other is a loss and no beginning.
        let blind = archive.store.exists() && archive.extent.is_lost();
        if !archive.store.exists() && archive.extent.is_lost() {
            archive.note(0, 0)?;
            archive.extent.sync()?;
        }
        let reached = archive.extent.lanes().get(&NUMBERS).map_or(0, |reach| reach.stored);
        let found = archive.store.reopen(now_s).and_then(|()| recover(&archive.store));
        let why = match found {
            Ok(found) if found.problems.is_empty() && found.last >= reached => {
                return archive.go_on(found, blind);
            }
            Ok(found) => found.problems.into_iter().next().unwrap_or("it ends earlier than it did before".into()),
            Err(StoreError::Damaged(_, why)) => why,
            Err(other) => return Err(other),
        };
        let highest = archive.extent.highest();
        let settle = |new: &mut Store| settle(new, reached, highest, now_s);
        let (salvage, mut found) = archive.store.set_aside(now_s, settle)?;
        let (at, lost) = (salvage.kept_at.display(), found.lost);
        found.problems.push(format!(
            "the archive {} was damaged ({why}): {lost} of its entries are lost, and the damaged one is kept as {at}",
            dir.display()
        ));
        archive.go_on(found, blind)
    }

    fn go_on(mut self, mut found: Recovered, blind: bool) -> Result<(Archive, Recovered), StoreError> {
        // Before there were extents there was none to lose.
        let blind = blind && !self.store.upgraded();
        if let Some(problem) = self.extent.problem().filter(|_| found.last > 0 || blind) {
            found.problems.push(format!("{problem}: had the database lost its end just now, nobody would know"));
        }
        self.last = found.last;
        self.note(self.extent.highest(), 0)?;
        self.extent.sync()?;
        Ok((self, found))
    }

    /// Opens the archive below `data_dir` only where there is one, and as it is.
    pub fn open_existing(data_dir: &Path) -> Result<Archive, StoreError> {
        let dir = data_dir.join(DIRECTORY);
        if !dir.is_dir() {
            return Err(StoreError::Denied(dir, "there is no archive".into()));
        }
        Ok(Archive { store: Store::open(&dir, STEPS, 0)?, extent: Extent::open(&dir), last: 0 })
    }

    /// The way back after an error: see [`Store::reopen`]. An archive that turns out to be damaged stays closed until the
    /// program starts again, because what was acknowledged would have to be taken back.
    pub fn reopen(&mut self, now_s: u64) -> Result<(), StoreError> {
        self.store.reopen(now_s)?;
        let last = self.store.last(vec![ENTRY]..vec![ENTRY + 1])?.and_then(|key| number_of(&key));
        if last.unwrap_or(0) < self.last {
            self.store.close();
            return Err(self.store.damaged("it ends earlier than it did before"));
        }
        Ok(())
    }

    /// Begins a new boot: a number that this archive never gave before, durable before it is used.
    /// See [`Boot::after`] for `salt`.
    pub fn begin_boot(&mut self, now_s: u64, salt: u32) -> Result<Boot, StoreError> {
        let stored = match self.store.get(BOOT)? {
            Some(bytes) => u64::from_be_bytes(bytes.try_into().map_err(|_| self.store.damaged("its boot"))?),
            None => 0,
        };
        let last = Some(stored.max(self.extent.highest())).filter(|last| *last > 0);
        let boot = Boot::after(last.map(Boot), now_s, salt);
        let mut batch = Batch::default();
        batch.put(BOOT, &boot.0.to_be_bytes());
        self.store.write(batch)?;
        self.store.sync()?;
        self.note(boot.0, 0)?;
        self.extent.sync()?;
        Ok(boot)
    }

    /// Makes a commit durable: all of it or nothing.
    pub fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        self.store.make_room()?;
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
        self.store.sync()?;
        self.last = self.last.max((commit.first + commit.entries.len() as u64).saturating_sub(1));
        self.note(self.extent.highest(), commit.entries.len() as u64)
    }

    fn note(&mut self, highest: u64, entries: u64) -> Result<(), StoreError> {
        let reach = Reach { acked: 0, stored: self.last };
        self.extent.note(highest, [(NUMBERS, reach)].into_iter(), entries)
    }

    /// All entries with their numbers, in order. The first error is the last item.
    pub fn entries(&self) -> impl Iterator<Item = Result<(u64, Entry), StoreError>> + '_ {
        entries(&self.store)
    }

    /// All lanes.
    pub fn lanes(&self) -> Result<BTreeMap<LaneId, LaneRow>, StoreError> {
        lanes(&self.store)
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
}

/// Reads the whole archive once and says what a coordinator needs to go on.
fn recover(store: &Store) -> Result<Recovered, StoreError> {
    Recovered::gather(lanes(store)?, nodes(store)?, entries(store))
}

/// Gives an archive that was saved from a damaged one its order back: entries without gaps in their numbers, and lanes that
/// say what is really there.
fn settle(new: &Store, reached: u64, highest: u64, now_s: u64) -> Result<Recovered, StoreError> {
    let (mut recount, mut batch, mut batched) = (Recount::default(), Batch::default(), 0);
    let (mut next, mut last) = (1, 0);
    for item in entries(new) {
        let (number, entry) = item?;
        recount.take(&entry);
        last = number;
        if number != next {
            batch.remove(&entry_key(number));
            batch.put(&entry_key(next), &encoded(&entry));
            batched += 1;
        }
        next += 1;
        if batched >= RENUMBERED_MAX {
            batched = 0;
            new.write(std::mem::take(&mut batch))?;
        }
    }
    let lost = reached.max(last) - (next - 1);
    for id in lanes(new)?.keys() {
        batch.remove(&lane_key(id));
    }
    let counted = recount.count(nodes(new)?, now_s * 1000);
    for (number, gap) in (next..).zip(&counted.gaps) {
        batch.put(&entry_key(number), &encoded(gap));
    }
    counted.lanes.iter().for_each(|(id, row)| batch.put(&lane_key(id), &encoded(row)));
    counted.nodes.iter().for_each(|(node, row)| batch.put(&node_key(node), &encoded(row)));
    if new.get(BOOT)?.is_none() && highest > 0 {
        batch.put(BOOT, &highest.to_be_bytes());
    }
    new.write(batch)?;
    let found = recover(new)?;
    Ok(Recovered { lost, ..found })
}

fn entries(store: &Store) -> impl Iterator<Item = Result<(u64, Entry), StoreError>> + '_ {
    prefix(store, ENTRY).map(|item| {
        let (key, value) = item?;
        let number = number_of(&key).ok_or_else(|| unreadable(store, "an entry's number"))?;
        Ok((number, decoded(store, &value)?))
    })
}

fn lanes(store: &Store) -> Result<BTreeMap<LaneId, LaneRow>, StoreError> {
    let lane = |item: Result<(Vec<u8>, Vec<u8>), StoreError>| {
        let (key, value) = item?;
        let id = lane_of(&key[1..]).ok_or_else(|| unreadable(store, "a lane's name"))?;
        Ok((id, decoded(store, &value)?))
    };
    prefix(store, LANE).map(lane).collect()
}

fn nodes(store: &Store) -> Result<BTreeMap<NodeId, NodeRow>, StoreError> {
    let node = |item: Result<(Vec<u8>, Vec<u8>), StoreError>| {
        let (key, value) = item?;
        let node = name(&key[1..]).ok_or_else(|| unreadable(store, "a node's name"))?;
        Ok((node, decoded(store, &value)?))
    };
    prefix(store, NODE).map(node).collect()
}

fn prefix(store: &Store, prefix: u8) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + '_ {
    // `boot` and `format` are no numbered keys; each prefix is followed by a name or a number.
    store.range(vec![prefix]..vec![prefix + 1])
}

fn decoded<T: Wire>(store: &Store, value: &[u8]) -> Result<T, StoreError> {
    codec::decode(value).map_err(|error| match error {
        CodecError::NewerVersion(version) => StoreError::Newer(store.dir().to_owned(), version, codec::VERSION),
        other => unreadable(store, &other.to_string()),
    })
}

fn unreadable(store: &Store, what: &str) -> StoreError {
    store.damaged(&format!("{what} cannot be read"))
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

fn number_of(key: &[u8]) -> Option<u64> {
    key[1..].try_into().ok().map(u64::from_be_bytes)
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
            let (mut archive, _) = Archive::open(dir.path(), 0).unwrap();
            assert_eq!(archive.begin_boot(100, 0).unwrap(), Boot(100 << 20));
            for commit in [&one, &two, &two] {
                archive.commit(commit).unwrap();
            }
        }
        let (mut archive, found) = Archive::open(dir.path(), 0).unwrap();
        assert_eq!(archive.begin_boot(50, 0).unwrap(), Boot((100 << 20) + 1));
        assert_eq!((found.last, found.problems.len(), found.recent.len()), (3, 0, 3));
        assert_eq!(found.lanes, [lane("a", 1, 2), lane("b", 2, 1)].into());
        let numbers: Vec<u64> = archive.entries().map(|item| item.unwrap().0).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }

    #[test]
    fn a_retired_lane_leaves_its_sum() {
        let dir = tempfile::tempdir().unwrap();
        let (mut archive, _) = Archive::open(dir.path(), 0).unwrap();
        archive.commit(&commit(1, vec![event("a", 1, 1)], vec![lane("a", 1, 1)])).unwrap();
        let row = NodeRow { retired: Boot(1), events: 1, missed: 0 };
        let retired = vec![(lane("a", 1, 1).0, row.clone())];
        archive.commit(&Commit { first: 2, entries: vec![], lanes: vec![], retired }).unwrap();
        let found = recover(&archive.store).unwrap();
        assert_eq!(found.nodes, [(NodeId::new("a").unwrap(), row)].into());
        assert!(found.lanes.is_empty() && found.problems.is_empty(), "{:?}", found.problems);
    }

    #[test]
    fn the_audit_finds_doubles_and_absences_that_the_rows_deny() {
        let dir = tempfile::tempdir().unwrap();
        let (mut archive, _) = Archive::open(dir.path(), 0).unwrap();
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

#[cfg(test)]
mod damage_tests;
