//! Damaged copies of a real store: whatever a disk does to the files, nothing that was owed goes missing in silence, no
//! value is wrong, nothing panics, and the agent goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use picket_shared::event::Class;
use picket_shared::ids::Boot;

use super::{AgentStore, Config, UNCOUNTED};
use crate::node::NewEvent;

const COPIES: u64 = 160;

/// What was stored, and how far each boot was acknowledged.
#[derive(Default)]
struct Truth {
    events: BTreeMap<(Boot, u64), Vec<u8>>,
    acked: BTreeMap<Boot, u64>,
}

fn new_event(boot: Boot, seq: u64, rng: &mut Rng) -> NewEvent {
    let class = if seq % 4 == 1 { Class::Confirmed } else { Class::Telemetry };
    let mut bytes = vec![0; rng.usize(200..500)];
    rng.fill(&mut bytes);
    NewEvent { boot, seq, class, bytes }
}

/// Three boots: one half acknowledged, one that owes everything, and one that has begun.
fn build(dir: &Path) -> Truth {
    let mut truth = Truth::default();
    let mut rng = Rng::with_seed(7);
    for (now_s, events, acked) in [(1_000, 2_400, 1_200), (2_000, 1_600, 0), (3_000, 417, 0)] {
        let (mut memory, found) = AgentStore::open(&dir.join("store"), &Config::default(), now_s, 0).unwrap();
        assert!(found.problems.is_empty(), "{:?}", found.problems);
        let sequences: Vec<u64> = (1..=events).collect();
        for some in sequences.chunks(10) {
            let some: Vec<NewEvent> = some.iter().map(|&seq| new_event(found.boot, seq, &mut rng)).collect();
            memory.append(now_s, &some).unwrap();
            truth.events.extend(some.into_iter().map(|event| ((event.boot, event.seq), event.bytes)));
        }
        memory.acked(found.boot, acked).unwrap();
        truth.acked.insert(found.boot, acked);
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

fn files_of(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    all.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix)).collect()
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

/// One thing that a disk, or a person, does to the files. Its name.
fn damage(dir: &Path, kind: u64, rng: &mut Rng) -> &'static str {
    let store = dir.join("store");
    let db = store.join("db");
    match kind {
        0..=2 => {
            change(&db, rng, |bytes, rng| bytes.truncate(rng.usize(..bytes.len())));
            "db truncated"
        }
        3..=5 => {
            change(&db, rng, |bytes, rng| flip(bytes, rng));
            "db flipped"
        }
        6..=8 => {
            change(&db, rng, |bytes, rng| {
                for _ in 0..rng.usize(1..5) {
                    let at = rng.usize(..bytes.len()) / 4096 * 4096;
                    let end = bytes.len().min(at + 4096);
                    bytes[at..end].fill(0);
                }
            });
            "db pages zeroed"
        }
        9 => {
            let _ = fs::remove_file(&db);
            "db missing"
        }
        10 => {
            files_of(&store, "snap.").iter().for_each(|path| fs::remove_file(path).unwrap());
            "snapshot missing"
        }
        11 => {
            files_of(&store, "snap.").iter().for_each(|path| change(path, rng, |bytes, rng| flip(bytes, rng)));
            "snapshot flipped"
        }
        12 => {
            let _ = fs::remove_file(store.join("conf"));
            "conf missing"
        }
        13 => {
            change(&store.join("conf"), rng, |bytes, rng| flip(bytes, rng));
            "conf flipped"
        }
        14 => {
            let _ = fs::remove_dir_all(store.join("blobs"));
            "blobs missing"
        }
        15 => {
            change(&dir.join("store.extent"), rng, |bytes, rng| flip(bytes, rng));
            "extent flipped"
        }
        16 => {
            change(&dir.join("store.extent"), rng, |bytes, rng| bytes.truncate(rng.usize(..bytes.len())));
            "extent truncated"
        }
        17 => {
            let _ = fs::remove_file(dir.join("store.extent"));
            "extent missing"
        }
        18 => {
            change(&db, rng, |bytes, _| bytes.clear());
            fs::write(&db, b"").unwrap();
            "db emptied"
        }
        _ => {
            let _ = fs::remove_dir_all(&store);
            "store missing"
        }
    }
}

#[derive(Debug, Default)]
struct Sum {
    whole: u64,
    set_aside: u64,
    told: u64,
    /// Damage to the database and no extent: how much is lost cannot be known, and a gap says that.
    uncounted: u64,
    /// No database and no extent: that is a new device, and nobody can tell otherwise.
    new: u64,
}

/// Opens a damaged copy, holds what it says to the truth, and goes on with it.
fn hold(dir: &Path, truth: &Truth, what: &str, sum: &mut Sum) {
    let store = dir.join("store");
    let new = fs::read_dir(&store).map_or(0, Iterator::count) == 0 && !dir.join("store.extent").exists();
    let (mut memory, found) =
        AgentStore::open(&store, &Config::default(), 4_000, 0).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut readable = BTreeSet::new();
    for event in memory.events() {
        let event = event.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(truth.events.get(&(event.boot, event.seq)), Some(&event.bytes), "{what}: a wrong value");
        readable.insert((event.boot, event.seq));
    }
    let newest = *truth.acked.keys().last().unwrap();
    assert!(found.boot > newest || what.contains("extent"), "{what}: boot {} after {newest}", found.boot);
    let told = |boot: Boot, seq: u64| {
        let lane = found.lanes.iter().find(|(of, _)| *of == boot);
        lane.is_some_and(|(_, lane)| {
            lane.acked >= seq || (lane.stored >= seq && lane.gaps.iter().any(|gap| (gap.from..=gap.to).contains(&seq)))
        })
    };
    let owed = truth.events.keys().filter(|(boot, seq)| *seq > truth.acked[boot] && !readable.contains(&(*boot, *seq)));
    let silent: Vec<_> = owed.clone().filter(|(boot, seq)| !told(*boot, *seq)).collect();
    let lost = owed.count();
    let uncounted = found.lanes.iter().any(|(boot, lane)| *boot != found.boot && lane.gaps == [UNCOUNTED]);
    if new {
        sum.new += 1;
    } else if uncounted {
        assert!(what.contains("extent"), "{what}: it could have been counted");
        sum.uncounted += 1;
    } else {
        assert!(
            silent.is_empty(),
            "{what}: {} silent losses, first {:?}; {:?}",
            silent.len(),
            silent[0],
            found.problems
        );
        sum.told += u64::from(lost > 0);
        sum.whole += u64::from(lost == 0);
    }
    assert!(lost == 0 || new || !found.problems.is_empty(), "{what}: {lost} lost and no problem");
    sum.set_aside += u64::from(!files_of(dir, "store.damaged-").is_empty());

    let some: Vec<_> = (1..=5).map(|seq| new_event(found.boot, seq, &mut Rng::with_seed(seq))).collect();
    memory.append(4_000, &some).unwrap_or_else(|error| panic!("{what}: {error}"));
    drop(memory);
    let (memory, again) =
        AgentStore::open(&store, &Config::default(), 5_000, 0).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(again.problems.is_empty(), "{what}: not clean at the second opening: {:?}", again.problems);
    for (boot, lane) in &found.lanes {
        let lane_again = again.lanes.iter().find(|(of, _)| of == boot).map(|(_, lane)| lane);
        assert_eq!(lane_again, Some(lane), "{what}: what is owed changed");
    }
    let now: BTreeSet<_> = memory.events().map(|event| event.unwrap()).map(|event| (event.boot, event.seq)).collect();
    readable.extend(some.iter().map(|event| (event.boot, event.seq)));
    assert_eq!(now, readable, "{what}");
}

#[test]
fn damaged_copies_lose_nothing_in_silence() {
    // In memory where there is such a place: nothing here depends on a real disk, and hundreds of syncs do.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let pristine = dir.path().join("pristine");
    fs::create_dir(&pristine).unwrap();
    let truth = build(&pristine);
    let mut sum = Sum::default();
    for seed in 0..COPIES {
        let mut rng = Rng::with_seed(seed);
        let at = dir.path().join(format!("copy-{seed}"));
        copy(&pristine, &at);
        let mut what = format!("seed {seed}: {}", damage(&at, seed % 20, &mut rng));
        if seed >= COPIES / 2 {
            let kind = rng.u64(0..20);
            what = format!("{what}, {}", damage(&at, kind, &mut rng));
        }
        hold(&at, &truth, &what, &mut sum);
        fs::remove_dir_all(&at).unwrap();
    }
    println!("{COPIES} damaged copies: {sum:?}");
    assert!(sum.told > 30 && sum.whole > 10, "the damage was too little, or too much, to show anything: {sum:?}");
}
