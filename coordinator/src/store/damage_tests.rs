//! Damaged copies of a real archive: no watermark is higher than what is there, no entry is wrong, nothing panics, and the
//! coordinator goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use picket_shared::ids::{Boot, NodeId};
use serde_bytes::ByteBuf;

use super::Archive;
use crate::archive::{Commit, Entry, LaneId, LaneRow, What};

const COPIES: u64 = 60;
const NODES: [&str; 3] = ["a", "b", "c"];

type Truth = BTreeMap<(LaneId, u64), ByteBuf>;

fn lane(node: &str) -> LaneId {
    LaneId { node: NodeId::new(node).unwrap(), boot: Boot(7) }
}

fn event(id: &LaneId, seq: u64, rng: &mut Rng) -> Entry {
    let mut bytes = vec![0; rng.usize(200..500)];
    rng.fill(&mut bytes);
    let what = What::Event { seq, bytes: ByteBuf::from(bytes) };
    Entry { node: id.node.clone(), boot: id.boot, archive_time_ms: 1, what }
}

/// Three nodes that send in turn.
fn build(dir: &Path) -> Truth {
    let (mut truth, mut rng) = (Truth::new(), Rng::with_seed(3));
    let (mut archive, _) = Archive::open(dir, 1).unwrap();
    archive.begin_boot(1, 0).unwrap();
    let (mut first, mut seqs) = (1, BTreeMap::<&str, u64>::new());
    for round in 0..400 {
        let node = NODES[round % NODES.len()];
        let (id, seq) = (lane(node), seqs.entry(node).or_default());
        let entries: Vec<Entry> = (1..=10).map(|step| event(&id, *seq + step, &mut rng)).collect();
        *seq += 10;
        let lanes = vec![(id.clone(), LaneRow { watermark: *seq, ..LaneRow::default() })];
        for (at, entry) in entries.iter().enumerate() {
            let What::Event { bytes, .. } = &entry.what else { unreachable!() };
            truth.insert((id.clone(), *seq - 9 + at as u64), bytes.clone());
        }
        archive.commit(&Commit { first, entries, lanes, retired: vec![] }).unwrap();
        first += 10;
    }
    truth
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let (file, to) = (file.as_ref().unwrap().path(), to.join(file.as_ref().unwrap().file_name()));
        if file.is_dir() {
            copy(&file, &to);
        } else {
            fs::copy(&file, &to).unwrap();
        }
    }
}

fn snapshots(dir: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(dir).into_iter().flatten().map(|file| file.unwrap().path());
    all.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("snap.")).collect()
}

fn change(path: &Path, rng: &mut Rng, how: impl FnOnce(&mut Vec<u8>, &mut Rng)) {
    let mut bytes = fs::read(path).unwrap_or_default();
    if !bytes.is_empty() {
        how(&mut bytes, rng);
        fs::write(path, bytes).unwrap();
    }
}

fn flip(bytes: &mut [u8], rng: &mut Rng) {
    for _ in 0..1 << rng.u32(0..7) {
        let at = rng.usize(..bytes.len());
        bytes[at] ^= 1 << rng.u32(0..8);
    }
}

fn zero(bytes: &mut [u8], rng: &mut Rng) {
    for _ in 0..rng.usize(1..5) {
        let at = rng.usize(..bytes.len()) / 4096 * 4096;
        let end = bytes.len().min(at + 4096);
        bytes[at..end].fill(0);
    }
}

fn damage(dir: &Path, kind: u64, rng: &mut Rng) -> &'static str {
    let store = dir.join("archive");
    let db = store.join("db");
    match kind {
        0..=2 => change(&db, rng, |bytes, rng| bytes.truncate(rng.usize(..bytes.len()))),
        3..=5 => change(&db, rng, |bytes, rng| flip(bytes, rng)),
        6..=8 => change(&db, rng, |bytes, rng| zero(bytes, rng)),
        9 => drop(fs::remove_file(&db)),
        10 => snapshots(&store).iter().for_each(|path| fs::remove_file(path).unwrap()),
        11 => snapshots(&store).iter().for_each(|path| change(path, rng, |bytes, rng| flip(bytes, rng))),
        12 => drop(fs::remove_file(store.join("conf"))),
        13 => change(&store.join("conf"), rng, |bytes, rng| flip(bytes, rng)),
        14 => drop(fs::remove_file(dir.join("archive.extent"))),
        _ => drop(fs::remove_dir_all(&store)),
    }
    ["truncated", "flipped", "zeroed", "db", "snapshot", "snapshot", "conf", "conf", "extent", "store"]
        [[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9][kind as usize]]
}

/// Opens a damaged copy and holds it to the truth. Whether it lost anything.
fn hold(dir: &Path, truth: &Truth, what: &str) -> bool {
    let (mut archive, found) = Archive::open(dir, 2_000).unwrap_or_else(|error| panic!("{what}: {error}"));
    let (mut here, mut given_up) = (BTreeSet::new(), BTreeSet::new());
    for item in archive.entries() {
        let (_, entry) = item.unwrap_or_else(|error| panic!("{what}: {error}"));
        let id = LaneId { node: entry.node, boot: entry.boot };
        match entry.what {
            What::Event { seq, bytes } => {
                assert_eq!(truth.get(&(id.clone(), seq)), Some(&bytes), "{what}: a wrong value");
                assert!(here.insert((id, seq)), "{what}: twice");
            }
            What::Gap { from, to, .. } => given_up.extend((from..=to).map(|seq| (id.clone(), seq))),
            What::Unreadable { .. } => panic!("{what}: made unreadable"),
        }
    }
    for (id, row) in &found.lanes {
        let covered = |seq: &u64| here.contains(&(id.clone(), *seq)) || given_up.contains(&(id.clone(), *seq));
        assert!((1..=row.watermark).all(|seq| covered(&seq)), "{what}: the watermark of {id:?} is too high");
        let ahead: BTreeSet<u64> = row.ahead.iter().flat_map(|&(from, to)| from..=to).collect();
        let above = here.iter().filter(|(of, seq)| of == id && *seq > row.watermark).map(|(_, seq)| *seq);
        assert!(above.eq(ahead.iter().copied()), "{what}: what is ahead of {id:?}");
    }
    let lanes: BTreeSet<&LaneId> = here.iter().map(|(id, _)| id).collect();
    assert!(lanes.iter().all(|id| found.lanes.contains_key(*id)), "{what}: a lane without a row");
    let lost = truth.len() - here.len();
    if lost > 0 {
        assert!(!found.problems.is_empty(), "{what}: {lost} entries lost in silence");
        assert!(found.lost == lost as u64 || what.contains("extent"), "{what}: {lost} lost, {} said", found.lost);
    }
    let boot = archive.begin_boot(5, 0).unwrap();
    assert!(boot > Boot(1 << 20) || what.contains("extent"), "{what}: boot {boot}");
    let (id, mut rng) = (lane("d"), Rng::with_seed(1));
    let lanes = vec![(id.clone(), LaneRow { watermark: 1, ..LaneRow::default() })];
    let entries = vec![event(&id, 1, &mut rng)];
    archive.commit(&Commit { first: found.last + 1, entries, lanes, retired: vec![] }).unwrap();
    drop(archive);
    let (_, again) = Archive::open(dir, 3_000).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((again.last, again.lost, &again.problems), (found.last + 1, 0, &vec![]), "{what}: not clean");
    lost > 0
}

#[test]
fn an_archive_that_lost_its_database_and_its_extent_is_no_new_one() {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (archive, found) = Archive::open(dir.path(), 1).unwrap();
    assert_eq!(found.problems, Vec::<String>::new(), "a new one is");
    drop(archive);
    let (archive, found) = Archive::open(dir.path(), 1).unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
    drop(archive);
    fs::remove_file(dir.path().join("archive.extent")).unwrap();
    fs::remove_file(dir.path().join("archive/db")).unwrap();
    let (_, found) = Archive::open(dir.path(), 2).unwrap();
    assert!(found.problems.iter().any(|problem| problem.contains("archive.extent")), "{:?}", found.problems);
}

#[test]
fn damaged_copies_of_an_archive_claim_nothing_that_is_not_there() {
    // In memory where there is such a place: nothing here depends on a real disk, and hundreds of syncs do.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let pristine = dir.path().join("pristine");
    fs::create_dir(&pristine).unwrap();
    let truth = build(&pristine);
    let mut lossy = 0;
    for seed in 0..COPIES {
        let mut rng = Rng::with_seed(seed);
        let at = dir.path().join(format!("copy-{seed}"));
        copy(&pristine, &at);
        let mut what = format!("seed {seed}: {}", damage(&at, seed % 16, &mut rng));
        if seed >= COPIES / 2 {
            let kind = rng.u64(0..16);
            what = format!("{what}, {}", damage(&at, kind, &mut rng));
        }
        lossy += u64::from(hold(&at, &truth, &what));
        fs::remove_dir_all(&at).unwrap();
    }
    println!("{COPIES} damaged copies, {lossy} with losses");
    assert!(lossy > 15 && lossy < COPIES, "{lossy} of {COPIES}");
}
