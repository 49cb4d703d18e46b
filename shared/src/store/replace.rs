//! Puts a new store in the place of an old one: after damage, with what can still be read; to compact, with all of it.
//!
//! The new store is made in `<dir>.making` and, once it is whole and durable, named `<dir>.ready`; then the old one makes
//! way and the new one takes its name. A crash at any point leaves one good store, and the next opening finishes or undoes
//! what was begun. A damaged store is kept as `<dir>.damaged-<seconds since 1970>`, at most [`DAMAGED_KEPT_MAX`] of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::database::{self, Batch, Database};
use super::{FORMAT_KEY, Step, Store, StoreError, beside, lock, of_io, parent, sync_dir};

/// Damaged stores that are kept, for whoever wants to look: the newest. They bound what damage can cost in disk space.
pub const DAMAGED_KEPT_MAX: usize = 3;
/// Rows copied in one batch.
const COPY_BYTES: usize = 256 * 1024;

/// What could be saved of a damaged store.
#[derive(Debug)]
pub struct Salvage {
    /// Rows that could be read.
    pub rows: u64,
    /// Where the damaged store is now, once its successor stands.
    pub kept_at: PathBuf,
}

impl Store {
    /// Sets this store aside as damaged, and goes on with a new one that holds every row that can still be read, after
    /// `settle` has put into it what else belongs there. Where this fails, nothing has changed.
    pub fn set_aside<T>(
        &mut self,
        now_s: u64,
        settle: impl FnOnce(&mut Store) -> Result<T, StoreError>,
    ) -> Result<(Salvage, T), StoreError> {
        let from = self.database.take();
        let kept_at = damaged_name(&self.dir, now_s);
        let mut rows = 0;
        let made = self.make(|into| {
            if let Some(from) = from.or_else(|| open_anyhow(&self.dir)) {
                rows = copy(&from, into)?.0;
            }
            if into.get(FORMAT_KEY)?.is_none() {
                // A step finds nothing to do in rows of a later format.
                into.put_format(1)?;
            }
            into.upgrade(now_s)?;
            settle(into)
        })?;
        self.swap(&kept_at).map_err(|error| of_io(&self.dir, &error))?;
        forget_oldest(&self.dir);
        self.reopen(now_s)?;
        Ok((Salvage { rows, kept_at }, made))
    }

    /// Writes the store anew, without the room that removed rows still take. A store that cannot be read whole is left as
    /// it is.
    pub fn compact(&mut self, now_s: u64) -> Result<(), StoreError> {
        self.database = None;
        self.make(|into| copy(&Database::open(&self.dir)?, into)?.1.map_or(Ok(()), Err))?;
        let old = beside(&self.dir, "old");
        self.swap(&old).map_err(|error| of_io(&self.dir, &error))?;
        // A leftover goes at the next opening.
        let _ = fs::remove_dir_all(&old);
        self.reopen(now_s)
    }

    /// Makes the successor: whole, durable and closed, under the name `ready`.
    fn make<T>(&self, fill: impl FnOnce(&mut Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let making = beside(&self.dir, "making");
        let io_error = |error: io::Error| of_io(&self.dir, &error);
        remove(&making).map_err(io_error)?;
        let filled = Store::scratch(&making, self.steps).and_then(|mut into| {
            let value = fill(&mut into)?;
            into.sync()?;
            Ok(value)
        });
        let filled = filled.and_then(|value| {
            sync_dir(&making).map_err(io_error)?;
            fs::rename(&making, beside(&self.dir, "ready")).map_err(io_error)?;
            Ok(value)
        });
        if filled.is_err() {
            let _ = fs::remove_dir_all(&making);
        }
        filled
    }

    fn swap(&self, old: &Path) -> io::Result<()> {
        let parent = parent(&self.dir);
        // The successor's name is durable before the old one makes way, and the whole of it before anything is written.
        sync_dir(parent)?;
        if self.dir.exists() {
            fs::rename(&self.dir, old)?;
        }
        fs::rename(beside(&self.dir, "ready"), &self.dir)?;
        sync_dir(parent)
    }
}

/// Shows `look` a copy of the store in `dir`, which stays as it is: opening changes a store, a damaged one above all.
pub fn inspect<T>(
    dir: &Path,
    steps: &'static [Step],
    look: impl FnOnce(&mut Store) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let io_error = |error: io::Error| of_io(dir, &error);
    let ready = beside(dir, "ready");
    let from = if dir.exists() { dir } else { &ready };
    if !from.exists() {
        return Err(StoreError::Denied(dir.to_owned(), "there is no store".into()));
    }
    let _lock = lock(dir)?;
    // Where a leftover of it is removed by the next opening; or, on a disk that takes nothing, elsewhere.
    let beside = beside(dir, "making");
    let elsewhere = std::env::temp_dir().join(format!("picket-{}", std::process::id()));
    let copied = copy_files(from, &beside).map(|()| &beside);
    let copied = copied.or_else(|_| copy_files(from, &elsewhere).map(|()| &elsewhere)).map_err(io_error);
    let seen = copied.and_then(|copy| {
        let mut store = Store::scratch(copy, steps).map_err(|error| error.at(dir))?;
        store.upgrade(0).and_then(|()| look(&mut store)).map_err(|error| error.at(dir))
    });
    let _ = (fs::remove_dir_all(&beside), fs::remove_dir_all(&elsewhere));
    seen
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    remove(to)?;
    fs::create_dir(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        let to = to.join(file.file_name());
        if file.file_type()?.is_dir() {
            copy_files(&file.path(), &to)?;
        } else {
            fs::copy(file.path(), &to)?;
        }
    }
    Ok(())
}

/// Finishes, or undoes, what a crash interrupted.
pub(super) fn finish(dir: &Path) -> io::Result<()> {
    let ready = beside(dir, "ready");
    if ready.exists() && !dir.exists() {
        fs::rename(&ready, dir)?;
    }
    // Where the old store still stands nothing was written to the new one: it can be made again.
    for leftover in ["ready", "making", "old"] {
        remove(&beside(dir, leftover))?;
    }
    Ok(())
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Opens a damaged database by every means there is: as it is; without sled's index, which it can build again from the
/// log; and without its settings.
fn open_anyhow(dir: &Path) -> Option<Database> {
    if !Database::exists(dir) {
        return None;
    }
    let aside = |prefix: &str| {
        for file in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if name.starts_with(prefix) {
                let _ = fs::rename(file.path(), dir.join(format!("unused-{name}")));
            }
        }
    };
    Database::open(dir)
        .or_else(|error| {
            if matches!(error, StoreError::InUse(_)) {
                // A panic left it locked, by this process: a copy is not.
                let db = dir.join(database::FILE);
                let copy = dir.join("copy");
                let _ = fs::copy(&db, &copy).and_then(|_| fs::rename(&copy, &db));
            }
            Database::open(dir)
        })
        .or_else(|_| {
            aside("snap.");
            Database::open(dir)
        })
        .or_else(|_| {
            aside("conf");
            Database::open(dir)
        })
        .ok()
}

/// Copies what can be read; how many rows, and why there may be others.
fn copy(from: &Database, into: &Store) -> Result<(u64, Option<StoreError>), StoreError> {
    let (mut rows, mut bytes, mut batch) = (0, 0, Batch::default());
    let trouble = from.salvage(|key, value| {
        batch.put(key, value);
        rows += 1;
        bytes += key.len() + value.len();
        if bytes > COPY_BYTES {
            bytes = 0;
            into.write(std::mem::take(&mut batch))?;
        }
        Ok(())
    })?;
    into.write(batch)?;
    Ok((rows, trouble))
}

/// A name that no other damaged store has.
fn damaged_name(dir: &Path, now_s: u64) -> PathBuf {
    let name = |seconds: u64| beside(dir, &format!("damaged-{seconds}"));
    let free = (now_s..).find(|&seconds| !name(seconds).exists());
    name(free.expect("there are not that many"))
}

fn forget_oldest(dir: &Path) {
    let prefix = beside(dir, "damaged-");
    let prefix = prefix.file_name().unwrap_or_default().to_string_lossy();
    let mut kept: Vec<(u64, PathBuf)> = fs::read_dir(parent(dir))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            Some((name.strip_prefix(&*prefix)?.parse().ok()?, file.path()))
        })
        .collect();
    kept.sort_unstable();
    let surplus = kept.len().saturating_sub(DAMAGED_KEPT_MAX);
    for (_, path) in kept.drain(..surplus) {
        if let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!("{} cannot be removed: {error}", path.display());
        }
    }
}
