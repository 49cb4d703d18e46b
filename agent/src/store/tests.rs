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
fn an_extent_that_is_gone_is_a_problem_and_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    let boot = {
        let (mut memory, found) = open(dir.path(), 1);
        fill(&mut memory, found.boot, 1..=10);
        found.boot
    };
    std::fs::remove_file(dir.path().join("store.extent")).unwrap();
    let (memory, found) = open(dir.path(), 2);
    assert_eq!(found.lanes, [(boot, lane(0, 10, &[]))]);
    assert!(found.problems.len() == 1 && found.problems[0].contains("store.extent"), "{:?}", found.problems);
    drop(memory);
    assert!(open(dir.path(), 3).1.problems.is_empty());
}

#[test]
fn damage_while_running_is_told_by_the_next_append_and_the_boot_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut memory, found) = open(dir.path(), 1);
    let boot = found.boot;
    fill(&mut memory, boot, 1..=10);
    lose(&memory, boot, [4, 9, 10]);
    memory.reopen().unwrap();
    assert_eq!(memory.problems().len(), 1);
    let lost = memory.append(1, &[event(boot, 11, Class::Confirmed, 0)]).unwrap();
    let gap = |from, to| (boot, Gap { from, to, cause: GapCause::StoreLost });
    assert_eq!(lost, [gap(4, 4), gap(9, 10)]);
    assert_eq!(left(&memory).len(), 8);
    assert_eq!(memory.append(1, &[]).unwrap(), [], "once");
}
