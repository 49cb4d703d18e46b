//! The database under a store: sled, with each value checked and each panic turned into an error.
//!
//! The only file that knows sled. It holds no format, no ballast and no policy: see `mod.rs`.
//!
//! * Durable means `flush()` **and** `fdatasync` on the database file: sled's flush alone leaves the bytes in the page
//!   cache and a power cut loses them.
//! * Each value carries a CRC-32 of its key and bytes; a value that does not match is an error, never data.
//! * sled panics on some damaged files. The panic ends here, and is not printed.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use super::{StoreError, VALUE_BYTES_MAX, of_io};

/// sled's own page cache. Events are written once and read once, soon after.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// How long sled's threads may take to let go of a database that was closed, and how often that is looked at.
const LET_GO_MAX: Duration = Duration::from_secs(3);
const LET_GO_POLL: Duration = Duration::from_millis(2);
/// The name of the file that sled appends to.
pub(super) const FILE: &str = "db";

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

/// A key, and its value unless that does not match its checksum.
pub(super) type Row = (Vec<u8>, Option<Vec<u8>>);

/// An open database. Closing it does not make anything durable; [`Database::sync`] does.
pub(super) struct Database {
    /// Absent only while it is being dropped.
    db: Option<sled::Db>,
    /// The file that sled appends to, opened a second time only to sync it.
    file: File,
    dir: PathBuf,
}

impl Database {
    /// Opens the database in `dir`, creating both where absent.
    pub(super) fn open(dir: &Path) -> Result<Database, StoreError> {
        std::fs::create_dir_all(dir).map_err(|error| of_io(dir, &error))?;
        let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let until = Instant::now() + LET_GO_MAX;
        let db = loop {
            match guarded(dir, || config.open()) {
                // The caller holds the place, so it is this process that held the database a moment ago: sled's threads let
                // go of it when they come to it.
                Err(StoreError::InUse(_)) if Instant::now() < until => std::thread::sleep(LET_GO_POLL),
                opened => break opened?,
            }
        };
        let file = File::open(dir.join(FILE)).map_err(|error| of_io(dir, &error))?;
        Ok(Database { db: Some(db), file, dir: dir.to_owned() })
    }

    /// Whether there is a database in `dir`.
    pub(super) fn exists(dir: &Path) -> bool {
        dir.join(FILE).exists()
    }

    /// Applies all changes or none. They can be read at once and are durable after the next [`Database::sync`].
    pub(super) fn write(&self, batch: Batch) -> Result<(), StoreError> {
        if let Some(bytes) = batch.too_large {
            return Err(StoreError::ValueTooLarge(bytes));
        }
        guarded(&self.dir, || self.db().apply_batch(batch.inner))
    }

    /// Makes every earlier write survive a power cut.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        guarded(&self.dir, || self.db().flush())?;
        self.file.sync_data().map_err(|error| of_io(&self.dir, &error))
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = guarded(&self.dir, || self.db().get(key))?;
        found.map(|stored| checked(key, &stored).ok_or_else(|| self.mismatch())).transpose()
    }

    /// The keys and values of a range, in order. The first error is the last item.
    pub(super) fn range<'a>(
        &'a self,
        keys: impl RangeBounds<Vec<u8>> + 'a,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + 'a {
        let mut failed = false;
        let mut rows = self.rows(keys, false);
        std::iter::from_fn(move || {
            if failed {
                return None;
            }
            let item = rows.next()?.and_then(|(key, value)| Ok((key, value.ok_or_else(|| self.mismatch())?)));
            failed = item.is_err();
            Some(item)
        })
    }

    /// The rows of a range, in order or from its end, past values that do not match their checksums. It ends after the
    /// first error of the database itself, and where keys are out of order: a damaged tree may lead in circles.
    pub(super) fn rows<'a>(
        &'a self,
        keys: impl RangeBounds<Vec<u8>> + 'a,
        backwards: bool,
    ) -> impl Iterator<Item = Result<Row, StoreError>> + 'a {
        let mut items = self.db().range(keys);
        let mut last: Option<Vec<u8>> = None;
        let mut ended = false;
        std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let next = || if backwards { items.next_back() } else { items.next() };
            let item = guarded(&self.dir, || next_of(next)).transpose()?;
            let item = item.and_then(|(key, stored)| {
                let in_order =
                    last.as_ref().is_none_or(|last| (last[..] < key[..]) != backwards && last[..] != key[..]);
                if !in_order {
                    return Err(StoreError::Damaged(self.dir.clone(), "its keys are out of order".into()));
                }
                last = Some(key.to_vec());
                Ok((key.to_vec(), checked(&key, &stored)))
            });
            ended = item.is_err();
            Some(item)
        })
    }

    /// Hands over every row whose checksum is right: from the front until reading fails, then from the back until it fails
    /// or meets the front. Returns why something may be missing.
    pub(super) fn salvage(
        &self,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<Option<StoreError>, StoreError> {
        let (mut trouble, mut front) = (None, Bound::Unbounded);
        let mut hand_over = |(key, value): Row, trouble: &mut Option<StoreError>| match value {
            Some(value) => take(&key, &value),
            None => {
                trouble.get_or_insert_with(|| self.mismatch());
                Ok(())
            }
        };
        let mut failed = false;
        for item in self.rows(.., false) {
            match item {
                Ok(row) => {
                    front = Bound::Excluded(row.0.clone());
                    hand_over(row, &mut trouble)?;
                }
                Err(error) => {
                    failed = true;
                    trouble = Some(error);
                }
            }
        }
        if failed {
            for row in self.rows((front, Bound::Unbounded), true).map_while(Result::ok) {
                hand_over(row, &mut trouble)?;
            }
        }
        Ok(trouble)
    }

    /// Bytes on disk.
    pub(super) fn size_bytes(&self) -> u64 {
        guarded(&self.dir, || self.db().size_on_disk()).unwrap_or(0)
    }

    fn db(&self) -> &sled::Db {
        self.db.as_ref().expect("it is there until it is dropped")
    }

    fn mismatch(&self) -> StoreError {
        StoreError::Damaged(self.dir.clone(), "a value does not match its checksum".into())
    }

    /// Puts bytes in place of a stored value, checksum and all: what a failing disk does.
    #[cfg(test)]
    pub(super) fn tamper(&self, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) {
        let mut stored = self.db().get(key).unwrap().unwrap().to_vec();
        change(&mut stored);
        self.db().insert(key, stored).unwrap();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // sled writes once more when it is closed, and may panic there too.
        let db = self.db.take();
        let _ = guarded(&self.dir, || {
            drop(db);
            Ok(())
        });
    }
}

fn next_of<T>(next: impl FnOnce() -> Option<sled::Result<T>>) -> sled::Result<Option<T>> {
    next().transpose()
}

fn checked(key: &[u8], stored: &[u8]) -> Option<Vec<u8>> {
    let (sum, value) = stored.split_first_chunk::<4>()?;
    (u32::from_be_bytes(*sum) == crc(key, value)).then(|| value.to_vec())
}

fn crc(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

thread_local! {
    static IN_SLED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a call into sled; its error and its panic both become ours.
fn guarded<T>(dir: &Path, call: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    quieten();
    let outer = IN_SLED.replace(true);
    let ended = catch_unwind(AssertUnwindSafe(call));
    IN_SLED.set(outer);
    match ended {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(of_sled(dir, error)),
        Err(_) => Err(StoreError::Damaged(dir.to_owned(), "sled gave up on it".into())),
    }
}

/// Keeps panics inside sled, and in the threads it starts, off the standard error: they end as one sentence of ours.
fn quieten() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let of_sled = std::thread::current().name().is_some_and(|name| name.starts_with("sled-"));
            if of_sled || IN_SLED.get() {
                tracing::debug!("inside sled: {panic}");
            } else {
                print(panic);
            }
        }));
    });
}

fn of_sled(dir: &Path, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) => of_io(dir, &error),
        sled::Error::Corruption { .. } => StoreError::Damaged(dir.to_owned(), "sled finds it corrupted".into()),
        // sled says this of a configuration file that holds something else than what this program gives it.
        sled::Error::Unsupported(_) => StoreError::Damaged(dir.to_owned(), "sled cannot make out its settings".into()),
        sled::Error::ReportableBug(_) => StoreError::Damaged(dir.to_owned(), "sled gave up on it".into()),
        other => StoreError::Disk(dir.to_owned(), other.to_string()),
    }
}

/// The error of the lock on the file, which sled wraps in one of its own making.
pub(super) fn is_locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}
