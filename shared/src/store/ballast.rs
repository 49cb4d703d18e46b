//! Room held back on the disk, so that a store can be opened when others have filled it.
//!
//! sled writes while it opens, and cannot do so on a full disk. The ballast gives its room for that; until there is one
//! again, nothing may be written that can be put off (see [`super::Store::make_room`]). Reading and acknowledging go on.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Opening takes at most one new segment of sled's (512 KiB) and an index of a few bytes a page each time; this is enough
/// for several openings on a disk that stays full.
pub const BALLAST_BYTES: u64 = 2 * 1024 * 1024;

/// The file that holds the room.
pub(super) struct Ballast {
    path: PathBuf,
    there: bool,
}

impl Ballast {
    /// A ballast that is there already, or is made by the next [`Ballast::make`].
    pub(super) fn new(path: PathBuf) -> Ballast {
        let there = fs::metadata(&path).is_ok_and(|file| file.len() == BALLAST_BYTES);
        Ballast { path, there }
    }

    /// Makes it, unless it is there.
    pub(super) fn make(&mut self) -> io::Result<()> {
        if self.there {
            return Ok(());
        }
        let made = fill(&self.path);
        self.there = made.is_ok();
        made
    }

    /// Tries whether there is as much room again beside it.
    pub(super) fn probe(&self) -> io::Result<()> {
        let probe = self.path.with_extension("probe");
        fill(&probe)?;
        fs::remove_file(&probe)
    }

    /// Gives the room back. False where there was none.
    pub(super) fn drop_it(&mut self) -> bool {
        self.there = false;
        fs::remove_file(&self.path).is_ok()
    }
}

fn fill(path: &Path) -> io::Result<()> {
    let filled = File::create(path).and_then(|mut file| {
        let zeros = [0; 64 * 1024];
        for _ in 0..BALLAST_BYTES / zeros.len() as u64 {
            file.write_all(&zeros)?;
        }
        file.sync_all()
    });
    if filled.is_err() {
        let _ = fs::remove_file(path);
    }
    filled
}
