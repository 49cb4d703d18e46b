//! A durable, checked key-value store that outlives a full disk, a power cut and a damaged file.
//!
//! What stands in a store, and what its loss means, belongs to `agent/src/store/` and `coordinator/src/store.rs`. Beside
//! the directory `<dir>` of a store lie `<dir>.lock` (one process at a time), `<dir>.ballast` (see `ballast.rs`),
//! `<dir>.extent` (see [`Extent`]) and the damaged stores that were set aside (see `replace.rs`).

mod ballast;
mod database;
mod extent;
mod replace;

use std::cell::Cell;
use std::fs::{File, TryLockError};
use std::io;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use ballast::BALLAST_BYTES;
use ballast::Ballast;
pub use database::Batch;
use database::Database;
pub use extent::{EXTENT_LANES_MAX, Extent, Reach, UNSYNCED_MAX};
pub use replace::{DAMAGED_KEPT_MAX, Salvage, inspect};

/// sled keeps larger values in a file each; ours never are that large.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 - 64;

const FORMAT_KEY: &[u8] = b"format";
/// How long a lock may be held by a child that is just being started, and how often that is looked at.
const LOCK_WAIT_MAX: Duration = Duration::from_millis(500);
const LOCK_POLL: Duration = Duration::from_millis(2);

/// Brings a store of one format to the next, at `now_s` seconds since 1970. A power cut may end it anywhere; it is then
/// run again from its beginning.
pub type Step = fn(&Store, now_s: u64) -> Result<(), StoreError>;

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
    #[error("the store {0} is damaged ({1}); the next start sets it aside and saves what can be read")]
    Damaged(PathBuf, String),
    /// Written by a newer program.
    #[error("the store {0} has format {1} and this build knows up to {2}; upgrade the program")]
    Newer(PathBuf, u8, u8),
    /// A value that does not fit.
    #[error("a value of {0} bytes does not fit the store's {VALUE_BYTES_MAX}")]
    ValueTooLarge(usize),
    /// Anything else from the disk.
    #[error("the disk that holds {0} answers: {1}")]
    Disk(PathBuf, String),
}

impl StoreError {
    /// The same of another place: what is wrong with a copy is wrong with the original.
    fn at(self, dir: &Path) -> StoreError {
        let dir = dir.to_owned();
        match self {
            StoreError::InUse(_) => StoreError::InUse(dir),
            StoreError::Full(_) => StoreError::Full(dir),
            StoreError::Denied(_, what) => StoreError::Denied(dir, what),
            StoreError::Damaged(_, what) => StoreError::Damaged(dir, what),
            StoreError::Newer(_, format, known) => StoreError::Newer(dir, format, known),
            StoreError::Disk(_, what) => StoreError::Disk(dir, what),
            StoreError::ValueTooLarge(bytes) => StoreError::ValueTooLarge(bytes),
        }
    }
}

/// A store, open or not. Closing it does not make anything durable; [`Store::sync`] does.
pub struct Store {
    dir: PathBuf,
    /// One step for each format but the first: the store's format is one more than their number.
    steps: &'static [Step],
    database: Option<Database>,
    /// Absent in a store that is only being made, to take another's place.
    ballast: Option<Ballast>,
    upgraded: bool,
    /// The last write found no room.
    was_full: Cell<bool>,
    /// Held as long as this is.
    _lock: Option<File>,
}

impl Store {
    /// Opens the store in `dir`, creating it where absent, and brings it to the newest format.
    pub fn open(dir: &Path, steps: &'static [Step], now_s: u64) -> Result<Store, StoreError> {
        let mut store = Store::claim(dir, steps)?;
        store.reopen(now_s)?;
        Ok(store)
    }

    /// Takes the place of a store for this process, and leaves the store closed.
    pub fn claim(dir: &Path, steps: &'static [Step]) -> Result<Store, StoreError> {
        let io_error = |error: io::Error| of_io(dir, &error);
        std::fs::create_dir_all(parent(dir)).map_err(io_error)?;
        let lock = lock(dir)?;
        replace::finish(dir).map_err(io_error)?;
        let ballast = Some(Ballast::new(beside(dir, "ballast")));
        Ok(Store {
            dir: dir.to_owned(),
            steps,
            database: None,
            ballast,
            upgraded: false,
            was_full: Cell::new(false),
            _lock: Some(lock),
        })
    }

    /// A store without a lock and a ballast of its own, to be filled and put in another's place.
    fn scratch(dir: &Path, steps: &'static [Step]) -> Result<Store, StoreError> {
        let database = Some(Database::open(dir)?);
        Ok(Store {
            dir: dir.to_owned(),
            steps,
            database,
            ballast: None,
            upgraded: false,
            was_full: Cell::new(false),
            _lock: None,
        })
    }

    /// Opens the store anew. After one failed write sled refuses every other for good, even when the disk has room again;
    /// this is the way back. What was not synced may be there or not, as after a crash.
    ///
    /// On a full disk the ballast gives its room, so that a store that is there can always be opened.
    pub fn reopen(&mut self, now_s: u64) -> Result<(), StoreError> {
        self.database = None;
        let existed = Database::exists(&self.dir);
        let mut opened = Database::open(&self.dir);
        if existed && matches!(opened, Err(StoreError::Full(_))) && self.ballast.as_mut().is_some_and(Ballast::drop_it)
        {
            opened = Database::open(&self.dir);
        }
        self.database = Some(opened?);
        let upgraded = self.upgrade(now_s);
        if upgraded.is_err() {
            self.database = None;
        }
        upgraded?;
        // A ballast that cannot be made now is asked for again by what needs it.
        let _ = self.ballast.as_mut().map(Ballast::make);
        Ok(())
    }

    fn upgrade(&mut self, now_s: u64) -> Result<(), StoreError> {
        let newest = 1 + self.steps.len() as u8;
        let known = match self.get(FORMAT_KEY)?.as_deref() {
            Some(&[format]) if format == newest => return Ok(()),
            Some(&[format]) if format > newest => return Err(StoreError::Newer(self.dir.clone(), format, newest)),
            Some(&[format]) if format > 0 => format,
            Some(_) => return Err(self.damaged("its format number is unreadable")),
            None if self.range(..).next().is_none() => newest,
            None => return Err(self.damaged("its format number is missing")),
        };
        for format in known..newest {
            // A store that is only being made holds what was saved of another, whose owner says so.
            if self.ballast.is_some() {
                tracing::info!("the store {} goes from format {format} to {}", self.dir.display(), format + 1);
            }
            self.steps[usize::from(format) - 1](self, now_s)?;
            // What the step did is durable before it counts as done.
            self.sync()?;
            self.put_format(format + 1)?;
            self.upgraded = true;
        }
        if known == newest {
            self.put_format(newest)?;
        }
        // A new file is durable only once its directory entry is.
        sync_dir(&self.dir).map_err(|error| of_io(&self.dir, &error))
    }

    fn put_format(&self, format: u8) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.put(FORMAT_KEY, &[format]);
        self.write(batch)?;
        self.sync()
    }

    /// Whether there is one already: this process, or an earlier one, has begun to make it. An empty directory is none.
    pub fn exists(&self) -> bool {
        std::fs::read_dir(&self.dir).is_ok_and(|mut files| files.next().is_some())
    }

    /// Whether this program found it in an older format.
    pub fn upgraded(&self) -> bool {
        self.upgraded
    }

    /// Closes it, without making anything durable.
    pub fn close(&mut self) {
        self.database = None;
    }

    /// Makes sure that there is a ballast, and room beside it after a write that found none. To be called before what may
    /// be put off is written, so that it never uses up the room that opening needs, and so that a full disk is found full
    /// without a failed write: sled does not go on after one.
    pub fn make_room(&mut self) -> Result<(), StoreError> {
        let Some(ballast) = &mut self.ballast else { return Ok(()) };
        let made = ballast.make().and_then(|()| if self.was_full.get() { ballast.probe() } else { Ok(()) });
        made.map_err(|error| of_io(&self.dir, &error))?;
        self.was_full.set(false);
        Ok(())
    }

    /// Applies all changes or none. They can be read at once and are durable after the next [`Store::sync`].
    pub fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.heed(self.opened()?.write(batch))
    }

    /// Makes every earlier write survive a power cut.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.heed(self.opened()?.sync())
    }

    fn heed(&self, written: Result<(), StoreError>) -> Result<(), StoreError> {
        if matches!(written, Err(StoreError::Full(_))) {
            self.was_full.set(true);
        }
        written
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.opened()?.get(key)
    }

    /// The keys and values of a range, in order. The first error is the last item.
    pub fn range<'a>(
        &'a self,
        keys: impl RangeBounds<Vec<u8>> + 'a,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + 'a {
        let mut items = self.opened().map(|database| database.range(keys)).map_err(Some);
        std::iter::from_fn(move || match &mut items {
            Ok(items) => items.next(),
            Err(closed) => closed.take().map(Err),
        })
    }

    /// The last key of a range.
    pub fn last(&self, keys: impl RangeBounds<Vec<u8>>) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.opened()?.rows(keys, true).next().transpose()?.map(|(key, _)| key))
    }

    /// Bytes on disk.
    pub fn size_on_disk_bytes(&self) -> u64 {
        self.opened().map_or(0, Database::size_bytes)
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// An error that says what is damaged here.
    pub fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged(self.dir.clone(), what.into())
    }

    fn opened(&self) -> Result<&Database, StoreError> {
        let closed = || StoreError::Disk(self.dir.clone(), "the store is closed after an error".into());
        self.database.as_ref().ok_or_else(closed)
    }
}

/// The path of what belongs to a store and lies beside its directory.
fn beside(dir: &Path, what: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    dir.with_file_name(name)
}

fn parent(dir: &Path) -> &Path {
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// One process at a time. The lock goes with the file, or with the process.
///
/// A child that this process is just starting has its own copies of all files until it becomes another program, and so holds
/// a lock that was let go a moment ago. That passes; another process that runs on the store does not.
fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = beside(dir, "lock");
    let made = File::options().create(true).truncate(false).write(true).open(&path);
    // Somebody who may only read may still look.
    let file = made.or_else(|error| File::open(&path).map_err(|_| error)).map_err(|error| of_io(dir, &error))?;
    let until = Instant::now() + LOCK_WAIT_MAX;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOCK_POLL),
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(of_io(dir, &error)),
        }
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn of_io(dir: &Path, error: &io::Error) -> StoreError {
    let dir = dir.to_owned();
    let text = error.to_string();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full(dir),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory => {
            StoreError::Denied(dir, text)
        }
        // sled finds what it reads shorter than its own index says.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => StoreError::Damaged(dir, text),
        _ if database::is_locked(error) => StoreError::InUse(dir),
        _ => StoreError::Disk(dir, text),
    }
}

#[cfg(test)]
mod tests;
