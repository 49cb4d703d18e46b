//! Tests of the store: what is read back, refused, and survives.

use super::*;
use std::path::Path;

const NEW: &[Step] = &[];

fn open(dir: &Path) -> Result<Store, StoreError> {
    Store::open(&dir.join("store"), NEW, 0)
}

fn put(store: &Store, key: &[u8], value: &[u8]) {
    let mut batch = Batch::default();
    batch.put(key, value);
    store.write(batch).unwrap();
}

#[test]
fn what_was_written_is_read_back_in_order_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path()).unwrap();
        for i in [3u8, 1, 2] {
            put(&store, &[b'k', i], &[i; 10]);
        }
        store.sync().unwrap();
    }
    let store = open(dir.path()).unwrap();
    let keys: Vec<_> = store.range(vec![b'k']..vec![b'l']).map(|item| item.unwrap().0[1]).collect();
    assert_eq!(keys, [1, 2, 3]);
    assert_eq!(store.get(b"k\x02").unwrap(), Some(vec![2; 10]));
    assert_eq!(store.get(b"none").unwrap(), None);
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let _store = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(StoreError::InUse(_))));
}

#[test]
fn a_child_that_is_just_being_started_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    // As the copy that a child has between fork and exec.
    let copy = File::open(beside(&dir.path().join("store"), "lock")).unwrap();
    copy.lock().unwrap();
    let child = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        drop(copy);
    });
    open(dir.path()).unwrap();
    child.join().unwrap();
}

#[test]
fn a_value_that_changed_on_disk_is_an_error_and_not_data() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    put(&store, b"k", b"value");
    let database = store.opened().unwrap();
    database.tamper(b"k", |stored| stored[6] ^= 1);
    assert!(matches!(store.get(b"k"), Err(StoreError::Damaged(..))));
    // The right bytes under the wrong key are as wrong.
    put(&store, b"l", b"other");
    let mut moved = Vec::new();
    database.tamper(b"l", |stored| moved = stored.clone());
    put(&store, b"k", b"value");
    database.tamper(b"k", |stored| *stored = moved);
    assert!(matches!(store.get(b"k"), Err(StoreError::Damaged(..))));
}

#[test]
fn a_newer_format_a_large_value_and_a_bad_place_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path()).unwrap();
        put(&store, FORMAT_KEY, &[2]);
        let mut batch = Batch::default();
        batch.put(b"k", &vec![0; VALUE_BYTES_MAX + 1]);
        assert!(matches!(store.write(batch), Err(StoreError::ValueTooLarge(_))));
        store.sync().unwrap();
    }
    assert!(matches!(open(dir.path()), Err(StoreError::Newer(_, 2, 1))));

    let file = dir.path().join("a-file");
    std::fs::write(&file, b"").unwrap();
    assert!(Store::open(&file.join("below"), NEW, 0).is_err());
}

fn reach(stored: u64) -> Reach {
    Reach { acked: 0, stored }
}

#[test]
fn an_extent_is_read_back_and_its_other_slot_is_never_far_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let path = dir.path().join("store.extent");
    for slot in [0, 1] {
        let mut extent = Extent::open(&store);
        let before = extent.lanes().get(&7).map_or(0, |reach| reach.stored);
        for stored in before..=before + 1000 {
            extent.note(9, [(7, reach(stored))].into_iter(), 1).unwrap();
        }
        // A commit of many events.
        extent.note(9, [(7, reach(before + 3000))].into_iter(), 2000).unwrap();
        drop(extent);
        let whole = Extent::open(&store);
        assert_eq!((whole.lanes()[&7].stored, whole.highest(), whole.slack()), (before + 3000, 9, 0));
        assert_eq!(whole.problem(), None);
        drop(whole);
        let mut bytes = std::fs::read(&path).unwrap();
        let starts: Vec<usize> = (0..bytes.len() - 8).filter(|&at| bytes[at..].starts_with(b"PKTEXT1")).collect();
        bytes[starts[slot] + 30] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let half = Extent::open(&store);
        assert!(half.lanes()[&7].stored + UNSYNCED_MAX >= before + 3000, "{:?}", half.lanes());
        assert_eq!(half.slack(), UNSYNCED_MAX, "the damaged slot may have been the newer one");
        assert!(half.problem().is_some());
    }
    std::fs::write(&path, b"no extent").unwrap();
    let none = Extent::open(&store);
    assert!(none.problem().is_some() && none.lanes().is_empty());
}

#[test]
fn a_crash_between_any_two_steps_of_a_replacement_leaves_one_good_store() {
    let (here, making, ready, old) = ("store", "store.making", "store.ready", "store.old");
    for (stands, expect) in [
        (&[(here, "old"), (making, "half")][..], "old"),
        (&[(here, "old"), (ready, "new")], "old"),
        (&[(old, "old"), (ready, "new")], "new"),
        (&[(old, "old"), (here, "new")], "new"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for (place, what) in stands {
            let store = Store::open(&dir.path().join(place), NEW, 0).unwrap();
            put(&store, b"k", what.as_bytes());
            store.sync().unwrap();
        }
        let store = open(dir.path()).unwrap();
        assert_eq!(store.get(b"k").unwrap().as_deref(), Some(expect.as_bytes()), "{stands:?}");
        for place in [making, ready, old] {
            assert!(!dir.path().join(place).exists(), "{place} of {stands:?}");
        }
    }
}

#[test]
fn only_the_newest_damaged_stores_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    put(&store, b"k", b"v");
    for now_s in [5, 5, 9, 10, 11] {
        let (salvage, ()) = store.set_aside(now_s, |_| Ok(())).unwrap();
        assert_eq!(salvage.rows, 2, "the row, and the format's");
        assert!(salvage.kept_at.is_dir());
    }
    assert_eq!(store.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
    let mut kept: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("damaged"))
        .collect();
    kept.sort();
    assert_eq!(kept, ["store.damaged-10", "store.damaged-11", "store.damaged-9"]);
}

#[test]
fn a_replacement_that_cannot_be_finished_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    put(&store, b"k", b"v");
    store.sync().unwrap();
    let failed: Result<(Salvage, ()), _> = store.set_aside(1, |new| Err(new.damaged("no")));
    assert!(failed.is_err());
    store.reopen(0).unwrap();
    assert_eq!(store.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
    assert!(!dir.path().join("store.making").exists());
}
