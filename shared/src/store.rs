//! A durable, checked key-value store: sled, with what sled leaves out.
//!
//! * Durable means `flush()` **and** `fdatasync` on the database file: sled's flush alone leaves the bytes in the page
//!   cache and a power cut loses them.
//! * Each value carries a CRC-32 of its key and bytes; a value that does not match is an error, never data.
//! * A panic inside sled on a damaged file becomes an error.
//!
//! Keys and their meaning belong to `agent/src/store.rs` and `coordinator/src/store.rs`.

use std::fs::File;
use std::io;
use std::ops::RangeBounds;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// sled keeps larger values in a file each; ours never are that large.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 - 64;

/// The format of keys and values that this build writes.
const FORMAT: u8 = 1;
const FORMAT_KEY: &[u8] = b"format";
/// sled's own page cache. Events are written once and read once, soon after.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// What can go wrong with a store, each with what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("the store {0} is in use by another process; stop that one, or give this one its own data directory")]
    InUse(PathBuf),
    /// No space left.
    #[error("the disk that holds {0} is full; free some space")]
    Full(PathBuf),
    /// The directory or file cannot be written.
    #[error(
        "the store {0} cannot be written ({1}); check that the directory exists, its owner, and that the disk is not mounted read-only"
    )]
    Denied(PathBuf, String),
    /// The file is damaged.
    #[error("the store {0} is damaged ({1}); move the directory away and start again to begin a new one")]
    Damaged(PathBuf, String),
    /// Written by a newer program.
    #[error("the store {0} has format {1} and this build knows up to {FORMAT}; upgrade the program")]
    Newer(PathBuf, u8),
    /// A value that does not fit.
    #[error("a value of {0} bytes does not fit the store's {VALUE_BYTES_MAX}")]
    ValueTooLarge(usize),
    /// Anything else from the disk.
    #[error("the disk that holds {0} answers: {1}")]
    Disk(PathBuf, String),
}

/// An atomic set of changes.
#[derive(Default)]
pub struct Batch {
    inner: sled::Batch,
    too_large: Option<usize>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        if value.len() > VALUE_BYTES_MAX {
            self.too_large = Some(value.len());
        }
        let mut stored = Vec::with_capacity(4 + value.len());
        stored.extend_from_slice(&crc(key, value).to_be_bytes());
        stored.extend_from_slice(value);
        self.inner.insert(key, stored);
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &[u8]) {
        self.inner.remove(key);
    }
}

/// An open store. Closing it does not make anything durable; [`Store::sync`] does.
pub struct Store {
    /// Absent while [`Store::reopen`] could not open it.
    open: Option<Open>,
    dir: PathBuf,
}

struct Open {
    db: sled::Db,
    /// The file that sled appends to, opened a second time only to sync it.
    file: File,
}

impl Store {
    /// Opens the store in `dir`, creating both where absent.
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        let mut store = Store { open: None, dir: dir.to_owned() };
        store.reopen()?;
        Ok(store)
    }

    /// Opens the store anew. After one failed write sled refuses every other for good, even when the disk has room again;
    /// this is the way back. What was not synced may be there or not, as after a crash.
    pub fn reopen(&mut self) -> Result<(), StoreError> {
        // The old one holds the lock.
        self.open = None;
        let dir = self.dir.clone();
        let io_error = |error: io::Error| of_io(&dir, &error);
        std::fs::create_dir_all(&dir).map_err(io_error)?;
        let config = sled::Config::new().path(&dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = guarded(&dir, || config.open())?;
        let file = File::open(dir.join("db")).map_err(io_error)?;
        self.open = Some(Open { db, file });
        match self.get(FORMAT_KEY)?.as_deref() {
            Some([FORMAT]) => Ok(()),
            Some([newer]) => Err(StoreError::Newer(dir, *newer)),
            Some(_) => Err(StoreError::Damaged(dir, "its format number is unreadable".into())),
            None => {
                let mut first = Batch::default();
                first.put(FORMAT_KEY, &[FORMAT]);
                self.write(first)?;
                self.sync()?;
                // A new file is durable only once its directory entry is.
                File::open(&dir).and_then(|entry| entry.sync_all()).map_err(io_error)
            }
        }
    }

    /// Applies all changes or none. They can be read at once and are durable after the next [`Store::sync`].
    pub fn write(&self, batch: Batch) -> Result<(), StoreError> {
        if let Some(bytes) = batch.too_large {
            return Err(StoreError::ValueTooLarge(bytes));
        }
        let db = &self.opened()?.db;
        guarded(&self.dir, || db.apply_batch(batch.inner))
    }

    /// Makes every earlier write survive a power cut.
    pub fn sync(&self) -> Result<(), StoreError> {
        let Open { db, file } = self.opened()?;
        guarded(&self.dir, || db.flush())?;
        file.sync_data().map_err(|error| of_io(&self.dir, &error))
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let db = &self.opened()?.db;
        let found = guarded(&self.dir, || db.get(key))?;
        found.map(|stored| self.checked(key, &stored)).transpose()
    }

    /// The keys and values of a range, in order. The first error is the last item.
    pub fn range<'a>(
        &'a self,
        keys: impl RangeBounds<Vec<u8>> + 'a,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + 'a {
        let mut items = self.opened().map(|open| open.db.range(keys)).map_err(Some);
        let mut failed = false;
        std::iter::from_fn(move || {
            if failed {
                return None;
            }
            let items = match &mut items {
                Ok(items) => items,
                Err(closed) => return closed.take().map(Err),
            };
            let item = guarded(&self.dir, || items.next().transpose()).transpose()?;
            let item = item.and_then(|(key, stored)| Ok((key.to_vec(), self.checked(&key, &stored)?)));
            failed = item.is_err();
            Some(item)
        })
    }

    /// Bytes on disk.
    pub fn size_on_disk_bytes(&self) -> u64 {
        self.opened().ok().and_then(|open| open.db.size_on_disk().ok()).unwrap_or(0)
    }

    fn opened(&self) -> Result<&Open, StoreError> {
        self.open
            .as_ref()
            .ok_or_else(|| StoreError::Disk(self.dir.clone(), "the store is closed after an error".into()))
    }

    fn checked(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, StoreError> {
        match stored.split_first_chunk::<4>() {
            Some((sum, value)) if u32::from_be_bytes(*sum) == crc(key, value) => Ok(value.to_vec()),
            _ => Err(StoreError::Damaged(self.dir.clone(), "a value does not match its checksum".into())),
        }
    }
}

fn crc(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

/// Runs a call into sled; its error and its panic both become ours. sled panics on some damaged files.
fn guarded<T>(dir: &Path, call: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(of_sled(dir, error)),
        Err(_) => Err(StoreError::Damaged(dir.to_owned(), "sled gave up on it".into())),
    }
}

fn of_sled(dir: &Path, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) => of_io(dir, &error),
        sled::Error::Corruption { .. } => StoreError::Damaged(dir.to_owned(), error.to_string()),
        other => StoreError::Disk(dir.to_owned(), other.to_string()),
    }
}

fn of_io(dir: &Path, error: &io::Error) -> StoreError {
    let dir = dir.to_owned();
    let text = error.to_string();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full(dir),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory => {
            StoreError::Denied(dir, text)
        }
        // sled wraps the lock's refusal in an error of its own making.
        _ if text.contains("could not acquire lock") => StoreError::InUse(dir),
        _ => StoreError::Disk(dir, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &Store, key: &[u8], value: &[u8]) {
        let mut batch = Batch::default();
        batch.put(key, value);
        store.write(batch).unwrap();
    }

    #[test]
    fn what_was_written_is_read_back_in_order_after_opening_again() {
        let dir = tempfile::tempdir().unwrap();
        {
            let store = Store::open(dir.path()).unwrap();
            for i in [3u8, 1, 2] {
                put(&store, &[b'k', i], &[i; 10]);
            }
            store.sync().unwrap();
        }
        let store = Store::open(dir.path()).unwrap();
        let keys: Vec<_> = store.range(vec![b'k']..vec![b'l']).map(|item| item.unwrap().0[1]).collect();
        assert_eq!(keys, [1, 2, 3]);
        assert_eq!(store.get(b"k\x02").unwrap(), Some(vec![2; 10]));
        assert_eq!(store.get(b"none").unwrap(), None);
    }

    #[test]
    fn a_second_process_is_told_that_the_store_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let _store = Store::open(dir.path()).unwrap();
        assert!(matches!(Store::open(dir.path()), Err(StoreError::InUse(_))));
    }

    #[test]
    fn a_value_that_changed_on_disk_is_an_error_and_not_data() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        put(&store, b"k", b"value");
        let mut stored = store.opened().unwrap().db.get(b"k").unwrap().unwrap().to_vec();
        stored[6] ^= 1;
        store.opened().unwrap().db.insert(b"k", stored).unwrap();
        assert!(matches!(store.get(b"k"), Err(StoreError::Damaged(..))));
        // The right bytes under the wrong key are as wrong.
        put(&store, b"k", b"value");
        let moved = store.opened().unwrap().db.get(b"k").unwrap().unwrap();
        store.opened().unwrap().db.insert(b"l", moved).unwrap();
        assert!(matches!(store.get(b"l"), Err(StoreError::Damaged(..))));
    }

    #[test]
    fn a_newer_format_a_large_value_and_a_bad_place_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        {
            let store = Store::open(dir.path()).unwrap();
            put(&store, FORMAT_KEY, &[FORMAT + 1]);
            let mut batch = Batch::default();
            batch.put(b"k", &vec![0; VALUE_BYTES_MAX + 1]);
            assert!(matches!(store.write(batch), Err(StoreError::ValueTooLarge(_))));
            store.sync().unwrap();
        }
        assert!(matches!(Store::open(dir.path()), Err(StoreError::Newer(_, n)) if n == FORMAT + 1));

        let file = dir.path().join("a-file");
        std::fs::write(&file, b"").unwrap();
        assert!(Store::open(&file.join("below")).is_err());
    }

    #[test]
    fn a_damaged_database_is_an_error_and_not_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        {
            let store = Store::open(dir.path()).unwrap();
            for i in 0..2000u32 {
                put(&store, &i.to_be_bytes(), &[i as u8; 100]);
            }
            store.sync().unwrap();
        }
        let path = dir.path().join("db");
        let pristine = std::fs::read(&path).unwrap();
        for seed in 0..40u64 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut bytes = pristine.clone();
            for _ in 0..64 {
                let at = rng.usize(..bytes.len());
                bytes[at] = rng.u8(..);
            }
            std::fs::write(&path, &bytes).unwrap();
            // Opening and reading either work or fail with a sentence; silence about lost keys is the caller's to find,
            // by the gaps in its sequence.
            if let Ok(store) = Store::open(dir.path()) {
                for item in store.range(vec![0]..vec![255]) {
                    if let Err(error) = item {
                        assert!(!error.to_string().is_empty());
                        break;
                    }
                }
            }
        }
    }
}
