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
