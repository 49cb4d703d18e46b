//! Tests of the agent's memory over a real disk.

use super::*;
use crate::outbox;
use picket_shared::store::UNSYNCED_MAX;

fn open(dir: &Path, now_s: u64) -> (AgentStore, Found) {
    open_with(dir, &Config::default(), now_s)
}

fn open_with(dir: &Path, config: &Config, now_s: u64) -> (AgentStore, Found) {
    AgentStore::open(&dir.join("store"), config, now_s, 0).unwrap()
}

fn event(boot: Boot, seq: u64, class: Class, bytes: usize) -> NewEvent {
    NewEvent { boot, seq, class, bytes: [&seq.to_be_bytes()[..], &vec![7; bytes]].concat() }
}

fn fill(memory: &mut AgentStore, boot: Boot, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        assert_eq!(memory.append(100, &[event(boot, seq, Class::Confirmed, 0)]).unwrap(), []);
    }
}

fn left(memory: &AgentStore) -> Vec<(Boot, u64)> {
    memory.events().map(|event| event.unwrap()).map(|event| (event.boot, event.seq)).collect()
}

fn lane(acked: u64, stored: u64, gaps: &[(u64, u64, GapCause)]) -> outbox::Lane {
    outbox::Lane { acked, stored, gaps: gaps.iter().map(|&(from, to, cause)| Gap { from, to, cause }).collect() }
}

#[test]
fn each_opening_begins_a_boot_and_finds_what_is_owed() {
    let dir = tempfile::tempdir().unwrap();
    let first = {
        let (mut memory, found) = open(dir.path(), 100);
        assert_eq!((found.boot, found.lanes.len()), (Boot(100 << 20), 0));
        fill(&mut memory, found.boot, 1..=5);
        memory.acked(found.boot, 2).unwrap();
        found.boot
    };
    // The clock went back; the boot must not.
    let (memory, found) = open(dir.path(), 50);
    assert_eq!(found.boot, Boot((100 << 20) + 1));
    assert_eq!(found.lanes, [(first, lane(2, 5, &[]))]);
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    assert_eq!(memory.read(first, 3, 10).unwrap().len(), 3);
    assert_eq!(memory.events().count(), 5);
}

#[test]
fn boots_without_events_do_not_pile_up() {
    let dir = tempfile::tempdir().unwrap();
    for now_s in 0..5 {
        open(dir.path(), now_s);
    }
    let store = Store::open(&dir.path().join("store"), rows::STEPS, 0).unwrap();
    assert_eq!(store.range(all(rows::BOOT)).count(), 1);
}

/// Removes events behind the store's back.
fn lose(memory: &AgentStore, boot: Boot, seqs: impl IntoIterator<Item = u64>) {
    let mut damage = Batch::default();
    seqs.into_iter().for_each(|seq| damage.remove(&event_key(boot, seq)));
    memory.store.write(damage).unwrap();
}

#[test]
fn a_missing_event_above_the_watermark_is_a_gap_until_it_is_acknowledged_and_one_below_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let boot = {
        let (mut memory, found) = open(dir.path(), 1);
        fill(&mut memory, found.boot, 1..=10);
        memory.acked(found.boot, 4).unwrap();
        lose(&memory, found.boot, [2, 7, 8]);
        found.boot
    };
    let expect = lane(4, 10, &[(7, 8, GapCause::StoreLost)]);
    let (memory, found) = open(dir.path(), 2);
    assert_eq!(found.lanes, [(boot, expect.clone())]);
    assert!(found.problems[0].contains("up to 2 events"), "{:?}", found.problems);
    assert!(found.problems[0].contains("store.damaged-2"), "{:?}", found.problems);
    assert_eq!(memory.read(boot, 5, 10).unwrap().len(), 2, "a batch stops at the gap");
    drop(memory);
    let (mut memory, found) = open(dir.path(), 3);
    assert_eq!((found.lanes, found.problems), (vec![(boot, expect)], vec![]));
    memory.acked(boot, 8).unwrap();
    drop(memory);
    let (_, found) = open(dir.path(), 4);
    assert_eq!(found.lanes, [(boot, lane(8, 10, &[]))]);
}

#[test]
fn an_end_that_the_database_forgot_is_known_from_outside_it() {
    let dir = tempfile::tempdir().unwrap();
    let boot = {
        let (mut memory, found) = open(dir.path(), 1);
        fill(&mut memory, found.boot, 1..=10);
        lose(&memory, found.boot, 6..=10);
        found.boot
    };
    let (_, found) = open(dir.path(), 2);
    assert_eq!(found.lanes, [(boot, lane(0, 10, &[(6, 10, GapCause::StoreLost)]))]);
}

#[test]
fn a_boot_that_lost_everything_is_told_as_one_gap() {
    let dir = tempfile::tempdir().unwrap();
    let boot = {
        let (mut memory, found) = open(dir.path(), 1);
        fill(&mut memory, found.boot, 1..=10);
        memory.acked(found.boot, 3).unwrap();
        found.boot
    };
    std::fs::remove_dir_all(dir.path().join("store")).unwrap();
    let (_, found) = open(dir.path(), 0);
    assert_eq!(found.lanes, [(boot, lane(3, 10, &[(4, 10, GapCause::StoreLost)]))]);
    assert!(found.boot > boot, "a boot is never given twice");
}

#[test]
fn after_a_reboot_of_the_machine_the_loss_is_an_upper_bound() {
    let dir = tempfile::tempdir().unwrap();
    let boot = {
        let (mut memory, found) = open(dir.path(), 1);
        fill(&mut memory, found.boot, 1..=10);
        found.boot
    };
    let path = dir.path().join("store.extent");
    rewrite_kernel_boot(&path);
    // Nothing is damaged: nothing is lost.
    let (memory, found) = open(dir.path(), 2);
    assert_eq!((found.lanes, found.problems), (vec![(boot, lane(0, 10, &[]))], vec![]));
    drop(memory);
    rewrite_kernel_boot(&path);
    std::fs::remove_dir_all(dir.path().join("store")).unwrap();
    let (_, again) = open(dir.path(), 3);
    // The last boot may have stored as many as were not synced.
    let last = (found.boot, lane(0, UNSYNCED_MAX, &[(1, UNSYNCED_MAX, GapCause::StoreLost)]));
    assert_eq!(again.lanes, [(boot, lane(0, 10, &[(1, 10, GapCause::StoreLost)])), last]);
}

/// Makes both slots look as if another boot of the kernel had written them.
fn rewrite_kernel_boot(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let starts: Vec<usize> = (0..bytes.len() - 8).filter(|&at| bytes[at..].starts_with(b"PKTEXT1\0")).collect();
    assert_eq!(starts.len(), 2);
    for at in starts {
        let count = u32::from_be_bytes(bytes[at + 12..at + 16].try_into().unwrap()) as usize;
        bytes[at + 24] ^= 1;
        let sum = crc32fast::hash(&bytes[at + 12..at + 48 + 24 * count]);
        bytes[at + 8..at + 12].copy_from_slice(&sum.to_be_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn an_empty_directory_is_no_store_that_has_lost_anything() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("store")).unwrap();
    let (_, found) = open(dir.path(), 1);
    assert!(found.problems.is_empty() && found.lanes.is_empty(), "{found:?}");
}

#[test]
fn an_extent_that_is_gone_is_told_as_a_loss_that_cannot_be_counted() {
    let dir = tempfile::tempdir().unwrap();
    let boot = {
        let (mut memory, found) = open(dir.path(), 1);
        fill(&mut memory, found.boot, 1..=10);
        found.boot
    };
    std::fs::remove_file(dir.path().join("store.extent")).unwrap();
    let (memory, found) = open(dir.path(), 2);
    let [(first, whole), (own, uncounted)] = &found.lanes[..] else { panic!("{:?}", found.lanes) };
    assert_eq!((*first, whole), (boot, &lane(0, 10, &[])));
    assert_eq!((uncounted.stored, &uncounted.gaps[..]), (1, &[UNCOUNTED][..]));
    assert!(boot < *own && *own < found.boot, "it is told in a boot of its own");
    assert!(found.problems.len() == 1 && found.problems[0].contains("store.extent"), "{:?}", found.problems);
    drop(memory);
    let (_, again) = open(dir.path(), 3);
    assert!(again.problems.is_empty(), "{:?}", again.problems);
    assert_eq!(again.lanes, found.lanes, "it is owed until it is acknowledged, and told once");
}

#[test]
fn damage_while_running_is_told_by_the_next_append_and_the_boot_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut memory, found) = open(dir.path(), 1);
    let boot = found.boot;
    fill(&mut memory, boot, 1..=10);
    lose(&memory, boot, [4, 9, 10]);
    memory.broken.set(true);
    memory.reopen().unwrap();
    assert_eq!(memory.problems().len(), 1);
    let lost = memory.append(1, &[event(boot, 11, Class::Confirmed, 0)]).unwrap();
    let gap = |from, to| (boot, Gap { from, to, cause: GapCause::StoreLost });
    assert_eq!(lost, [gap(4, 4), gap(9, 10)]);
    assert_eq!(left(&memory).len(), 8);
    assert_eq!(memory.append(1, &[]).unwrap(), [], "once");
}

fn limits(owed_bytes_max: u64, kept: [(u64, u64); 2]) -> Limits {
    let kept = kept.map(|(bytes_max, age_s_max)| retention::Kept { bytes_max, age_s_max });
    Limits { kept, owed_bytes_max }
}

const FOR_EVER: u64 = u64::MAX;
const DAY: u64 = 24 * 3600;

#[test]
fn what_is_acknowledged_leaves_oldest_first_beyond_its_class_s_bytes_and_what_is_owed_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (mut memory, found) = open(dir.path(), 1);
    let old = found.boot;
    let one = cost(&event(old, 1, Class::Confirmed, 0).bytes);
    memory.limits = limits(FOR_EVER, [(3 * one, FOR_EVER), (one, FOR_EVER)]);
    for seq in 1..=8 {
        let class = if seq % 2 == 1 { Class::Confirmed } else { Class::Telemetry };
        memory.append(1, &[event(old, seq, class, 0)]).unwrap();
    }
    memory.acked(old, 7).unwrap();
    // Confirmed 1 3 5 7, of which 3; telemetry 2 4 6, of which 1; and 8 is owed.
    assert_eq!(left(&memory), [3, 5, 6, 7, 8].map(|seq| (old, seq)));
    drop(memory);

    let (mut memory, found) = open(dir.path(), 2);
    memory.limits = limits(FOR_EVER, [(0, FOR_EVER), (0, FOR_EVER)]);
    fill(&mut memory, found.boot, 1..=2);
    // The new boot is acknowledged first; the old one's last is still owed and must stay.
    memory.acked(found.boot, 2).unwrap();
    assert_eq!(left(&memory), [(old, 8)]);
    memory.acked(old, 8).unwrap();
    assert_eq!(left(&memory), []);
    assert!(!memory.lanes.contains_key(&old), "its row is gone too");
    drop(memory);
    let (_, found) = open(dir.path(), 3);
    assert_eq!((found.lanes, found.problems), (vec![], vec![]));
}

#[test]
fn age_is_what_passed_and_not_what_the_clock_says() {
    const TODAY: u64 = 1_800_000_000;
    let config = Config { confirmed_days: 2, telemetry_days: 1, ..Config::default() };
    for (then, now, expect) in [
        (TODAY, TODAY + DAY - 1, &[1, 2, 3][..]),
        (TODAY, TODAY + DAY, &[1, 3]),
        (TODAY, TODAY + 2 * DAY, &[3]),
        // An hour either way, a clock that was lost, and one that was set after a life in 1970.
        (TODAY, TODAY - 3600, &[1, 2, 3]),
        (TODAY, 0, &[1, 2, 3]),
        (10, TODAY, &[1, 2, 3]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (mut memory, found) = open_with(dir.path(), &config, then);
        let boot = found.boot;
        let classes = [Class::Confirmed, Class::Telemetry, Class::Confirmed];
        for (seq, class) in (1..).zip(classes) {
            memory.append(then, &[event(boot, seq, class, 0)]).unwrap();
        }
        memory.acked(boot, 2).unwrap();
        drop(memory);
        // Nothing is acknowledged or appended any more: opening is enough.
        let (memory, _) = open_with(dir.path(), &config, now);
        let seqs: Vec<u64> = left(&memory).into_iter().map(|(_, seq)| seq).collect();
        assert_eq!(seqs, expect, "{then} {now}");
    }
}

#[test]
fn a_clock_that_jumps_while_running_makes_nothing_old() {
    let dir = tempfile::tempdir().unwrap();
    let (mut memory, found) = open(dir.path(), 10);
    memory.limits = limits(FOR_EVER, [(FOR_EVER, DAY), (FOR_EVER, DAY)]);
    fill(&mut memory, found.boot, 1..=3);
    memory.acked(found.boot, 3).unwrap();
    memory.append(1_800_000_000, &[event(found.boot, 4, Class::Confirmed, 0)]).unwrap();
    memory.age_due = Instant::now();
    memory.retain(true).unwrap();
    assert_eq!(left(&memory).len(), 4);
}

#[test]
fn without_room_for_what_is_owed_telemetry_goes_first_and_all_of_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (mut memory, found) = open(dir.path(), 1);
    let boot = found.boot;
    let one = cost(&event(boot, 1, Class::Confirmed, 400).bytes);
    memory.limits = limits(20 * one, [(0, 0), (0, 0)]);
    let mut told = Vec::new();
    for seq in 1..=60 {
        let class = if seq % 3 == 1 { Class::Confirmed } else { Class::Telemetry };
        told.extend(memory.append(1, &[event(boot, seq, class, 400)]).unwrap());
        let owed: u64 = memory.lanes.values().map(Lane::owed_bytes).sum();
        assert!(owed <= 21 * one, "{owed} after {seq}");
    }
    let here: Vec<u64> = left(&memory).into_iter().map(|(_, seq)| seq).collect();
    let gone: Vec<u64> = told.iter().flat_map(|(_, gap)| gap.from..=gap.to).collect();
    let mut all: Vec<u64> = here.iter().chain(&gone).copied().collect();
    all.sort_unstable();
    assert_eq!(all, (1..=60).collect::<Vec<_>>(), "each is here or told, once");
    let of = |cause| told.iter().filter(|(_, gap)| gap.cause == cause).count();
    assert!(of(GapCause::TelemetryDropped) > 0 && of(GapCause::Full) > 0, "{told:?}");
    let first_full = told.iter().position(|(_, gap)| gap.cause == GapCause::Full).unwrap();
    let before: Vec<u64> = told[..first_full].iter().flat_map(|(_, gap)| gap.from..=gap.to).collect();
    assert!(before.iter().all(|seq| seq % 3 != 1), "no confirmed event goes while there is telemetry: {before:?}");
    // Rows do not pile up, and survive until they are acknowledged.
    let rows = memory.lanes[&boot].gaps.len();
    assert!(rows <= 1 + here.len(), "{rows} rows");
    drop(memory);
    let (mut memory, again) = open(dir.path(), 2);
    let lane = &again.lanes[0].1;
    let persisted: Vec<u64> = lane.gaps.iter().flat_map(|gap| gap.from..=gap.to).collect();
    let mut sorted = gone.clone();
    sorted.sort_unstable();
    assert_eq!((persisted, lane.stored, again.problems), (sorted, 60, vec![]));
    memory.acked(boot, 60).unwrap();
    drop(memory);
    assert_eq!(open(dir.path(), 3).1.lanes.iter().filter(|(_, lane)| !lane.gaps.is_empty()).count(), 0);
}

#[test]
fn the_disk_does_not_grow_with_what_has_gone_through_it() {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (mut memory, found) = open(dir.path(), 1);
    let boot = found.boot;
    memory.limits = limits(1 << 20, [(1 << 20, FOR_EVER), (1 << 20, FOR_EVER)]);
    let mut largest = 0;
    for first in (1..=100_000).step_by(10) {
        let class = |seq| if seq % 4 == 1 { Class::Confirmed } else { Class::Telemetry };
        let some: Vec<_> = (first..first + 10).map(|seq| event(boot, seq, class(seq), 400)).collect();
        memory.append(1, &some).unwrap();
        memory.acked(boot, first + 9).unwrap();
        largest = largest.max(memory.store.size_on_disk_bytes());
    }
    let live: u64 = memory.lanes.values().map(|lane| lane.owed_bytes() + kept_bytes(lane)).sum();
    println!("43 MB through limits of 2 MiB: {live} bytes live, {largest} on the disk at most");
    assert!(live <= 2 << 20);
    // sled gives room back late: it levels off at four to five times, a little above that where others have the processor, and at some
    // MiB where there is little.
    assert!(largest <= 8 * live + COMPACT_BYTES_MIN, "{largest} bytes for {live}");
}

#[test]
fn format_1_becomes_format_2_and_an_interrupted_step_goes_on() {
    use picket_shared::codec;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let boot = Boot(100 << 20);
    // As the program of format 1 wrote it.
    let old_key = |seq: u64| [&b"e"[..], &boot.0.to_be_bytes(), &seq.to_be_bytes()].concat();
    let update = codec::encode(&update()).unwrap();
    {
        let store = Store::open(&path, &[], 1).unwrap();
        let mut batch = Batch::default();
        batch.put(&boot_key(boot), &3u64.to_be_bytes());
        for seq in 1..=700 {
            batch.put(&old_key(seq), if seq == 5 { b"not an event" } else { &update });
        }
        store.write(batch).unwrap();
        // A step that was interrupted: some rows are in the new format already.
        let mut half = Batch::default();
        half.remove(&old_key(1));
        let row = EventRow { class: Class::Telemetry, stored_at_s: 7, age_s: 0, bytes: &update };
        half.put(&event_key(boot, 1), &row.encode());
        store.write(half).unwrap();
        store.sync().unwrap();
    }
    std::fs::remove_file(dir.path().join("store.extent")).unwrap_or_default();
    let (memory, found) = open(dir.path(), 200);
    assert_eq!((found.lanes, found.problems), (vec![(boot, lane(3, 700, &[]))], vec![]));
    let events: Vec<StoredEvent> = memory.events().map(|event| event.unwrap()).collect();
    assert_eq!(events.len(), 700);
    for event in events {
        let (class, bytes) = match event.seq {
            5 => (Class::Confirmed, &b"not an event"[..]),
            _ => (Class::Telemetry, &update[..]),
        };
        let at = if event.seq == 1 { 7 } else { 200 };
        assert_eq!((event.class, event.stored_at_s, &event.bytes[..]), (class, at, bytes), "{}", event.seq);
    }
    assert_eq!(memory.store.range(all(b'e')).count(), 0);
}

fn update() -> picket_shared::event::Event {
    use picket_shared::event::{Event, EventKind, Precision};
    Event {
        id: "n1-7-1".parse().unwrap(),
        kind: EventKind::Update,
        station: "gate".parse().unwrap(),
        camera: "front".parse().unwrap(),
        label: "person".into(),
        frame_time_ms: 1,
        start_time_ms: 1,
        end_time_ms: None,
        score: 0.5,
        top_score: 0.5,
        box_px: [1, 2, 3, 4],
        current_zones: vec![],
        entered_zones: vec![],
        stationary: false,
        model: "0123456789ab".into(),
        precision: Precision::Fp32,
        covering_for: None,
        epoch: 0,
        dwell_times_ms: vec![],
        loitering_zones: vec![],
        crossings: vec![],
        count: None,
    }
}

#[test]
fn dead_letters_are_few_short_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (mut memory, _) = open(dir.path(), 1);
    for number in 0..DEAD_LETTERS_MAX + 5 {
        memory.dead_letter(number, &format!("number {number} ä{}", "ö".repeat(300)), &vec![9; 40_000]).unwrap();
    }
    drop(memory);
    let (mut memory, _) = open(dir.path(), 1);
    memory.dead_letter(500, "the last", b"").unwrap();
    let letters: Vec<Letter> = memory.dead_letters().map(|letter| letter.unwrap()).collect();
    assert_eq!(letters.len() as u64, DEAD_LETTERS_MAX);
    assert!(letters[0].reason.starts_with("number 6 ä") && letters[0].stored_at_s == 6, "{:?}", letters[0].reason);
    assert!(letters[0].bytes.len() > 15_000);
    assert_eq!(letters.last().unwrap().reason, "the last");
}

#[test]
fn a_person_may_look_without_changing_anything() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    assert!(matches!(verify(&store), Err(StoreError::Denied(..))));
    let (mut memory, found) = open(dir.path(), 1);
    fill(&mut memory, found.boot, 1..=10);
    memory.acked(found.boot, 4).unwrap();
    memory.append(1, &[event(found.boot, 11, Class::Telemetry, 0)]).unwrap();
    memory.dead_letter(3, "too large", b"ab").unwrap();
    assert!(matches!(verify(&store), Err(StoreError::InUse(_))), "an agent runs");
    lose(&memory, found.boot, [7]);
    drop(memory);
    let files = || {
        let mut files: Vec<_> = std::fs::read_dir(&store).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files
            .into_iter()
            .filter(|path| path.is_file())
            .map(|path| (std::fs::read(&path).unwrap(), path))
            .collect::<Vec<_>>()
    };
    let before = files();
    let boots = verify(&store).unwrap();
    let [boot] = &boots[..] else { panic!("{boots:?}") };
    assert_eq!((boot.events, boot.acked, boot.stored, boot.undecodable), (10, 4, 11, 10));
    assert_eq!(boot.missing, [Gap { from: 7, to: 7, cause: GapCause::StoreLost }]);
    assert!(boot.telemetry_bytes > 0 && boot.confirmed_bytes > 8 * boot.telemetry_bytes);
    let mut out = Vec::new();
    export(&store, false, &mut out).unwrap().unwrap();
    let lines = String::from_utf8(out).unwrap();
    assert_eq!(lines.lines().count(), 10);
    assert!(lines.lines().last().unwrap().contains("\"seq\":11,\"class\":\"telemetry\",\"stored_at\":1"), "{lines}");
    let mut out = Vec::new();
    export(&store, true, &mut out).unwrap().unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "{\"stored_at\":3,\"reason\":\"too large\",\"bytes_hex\":\"6162\"}\n");
    assert!(files() == before, "looking changed the store");
    assert!(!dir.path().join("store.making").exists());
    // Damage is told, and left as it is.
    let mut bytes = std::fs::read(store.join("db")).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(3);
    std::fs::write(store.join("db"), &bytes).unwrap();
    let told = verify(&store).map(|boots| boots.iter().map(|boot| boot.missing.len()).sum::<usize>());
    assert!(matches!(told, Err(StoreError::Damaged(..)) | Ok(1..)), "{told:?}");
    assert_eq!(std::fs::read(store.join("db")).unwrap(), bytes);
}

/// A store through which so many events went, of which the last hundred stand in it.
fn loose(dir: &Path, events: u64) -> Boot {
    let (mut memory, found) = open(dir, 1);
    for first in (1..events).step_by(500) {
        let some: Vec<_> = (first..first + 500).map(|seq| event(found.boot, seq, Class::Confirmed, 400)).collect();
        memory.append(1, &some).unwrap();
    }
    memory.limits = limits(FOR_EVER, [(0, FOR_EVER); 2]);
    memory.acked(found.boot, events - 100).unwrap();
    memory.retain(true).unwrap();
    found.boot
}

#[test]
fn compaction_keeps_every_event_and_gives_room_back() {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let boot = loose(dir.path(), 20_000);
    let (before, after) = compact(&dir.path().join("store"), 2).unwrap();
    println!("compaction: {before} bytes before, {after} after");
    assert!(after < before / 4, "{before} {after}");
    let (memory, found) = open(dir.path(), 3);
    assert_eq!((found.lanes, found.problems), (vec![(boot, lane(19_900, 20_000, &[]))], vec![]));
    assert_eq!(memory.read(boot, 19_901, 100).unwrap().len(), 100);
}

#[test]
fn a_store_much_larger_than_what_stands_in_it_is_written_anew_when_it_is_opened() {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let boot = loose(dir.path(), 60_000);
    let before = std::fs::metadata(dir.path().join("store/db")).unwrap().len();
    assert!(before > COMPACT_BYTES_MIN, "{before} bytes are not worth it");
    let (memory, found) = open(dir.path(), 3);
    let after = memory.store.size_on_disk_bytes();
    println!("opening: {before} bytes before, {after} after");
    assert!(after < before / 4, "{before} {after}");
    assert_eq!((found.lanes, found.problems), (vec![(boot, lane(59_900, 60_000, &[]))], vec![]));
    assert_eq!(memory.read(boot, 59_901, 100).unwrap().len(), 100);
}
