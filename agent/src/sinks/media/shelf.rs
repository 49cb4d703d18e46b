//! Keeps the books of a folder of files: how much there is, and what must go so that there is never more than there may be.
//!
//! Pure: whoever holds it deletes what it names, and tells it what became of that. The oldest file goes first.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// A file takes whole blocks of the disk.
const BLOCK_BYTES: u64 = 4096;
/// Most files, however small: a folder with more is slow to read at the next start.
const FILES_MAX: usize = 50_000;

/// How much there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// All files together.
    pub(crate) bytes_max: u64,
    /// How old a file may become, in milliseconds.
    pub(crate) age_ms_max: u64,
}

/// The books.
#[derive(Debug)]
pub(crate) struct Shelf {
    room: Room,
    /// By age, and in order of arrival where two are of one moment.
    files: BTreeMap<(u64, u64), (PathBuf, u64)>,
    places: HashMap<PathBuf, (u64, u64)>,
    bytes: u64,
    arrivals: u64,
}

impl Shelf {
    /// An empty one.
    pub(crate) fn new(room: Room) -> Self {
        Shelf { room, files: BTreeMap::new(), places: HashMap::new(), bytes: 0, arrivals: 0 }
    }

    /// Whether so many bytes could ever be kept.
    pub(crate) fn could_hold(&self, bytes: u64) -> bool {
        blocks(bytes) <= self.room.bytes_max
    }

    /// The file that must be deleted before so many bytes more may be written; it stays in the books until it is said to
    /// be gone. None: there is room.
    pub(crate) fn must_go(&self, now_ms: u64, bytes: u64) -> Option<&Path> {
        let (&(at_ms, _), (path, _)) = self.files.first_key_value()?;
        let full = self.bytes.saturating_add(blocks(bytes)) > self.room.bytes_max || self.files.len() >= FILES_MAX;
        let old = now_ms.saturating_sub(at_ms) > self.room.age_ms_max;
        (full || old).then_some(path)
    }

    /// A file is there, written at that time; one of the same name is no more.
    pub(crate) fn put(&mut self, at_ms: u64, path: PathBuf, bytes: u64) {
        self.gone(&path);
        let place = (at_ms, self.arrivals);
        self.arrivals += 1;
        self.bytes += blocks(bytes);
        self.places.insert(path.clone(), place);
        self.files.insert(place, (path, blocks(bytes)));
    }

    /// A file is no more.
    pub(crate) fn gone(&mut self, path: &Path) {
        if let Some((_, bytes)) = self.places.remove(path).and_then(|place| self.files.remove(&place)) {
            self.bytes -= bytes;
        }
    }

    /// Whether this file is there.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.places.contains_key(path)
    }

    /// The newest files, newest first.
    pub(crate) fn newest(&self) -> impl Iterator<Item = (u64, &Path)> {
        self.files.iter().rev().map(|(&(at_ms, _), (path, _))| (at_ms, path.as_path()))
    }
}

fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOM: Room = Room { bytes_max: 10 * BLOCK_BYTES, age_ms_max: 100 };

    #[test]
    fn the_oldest_goes_when_there_is_no_room_or_it_is_too_old() {
        let mut shelf = Shelf::new(ROOM);
        for (at_ms, name, blocks) in [(20, "b", 4), (10, "a", 4), (30, "c", 1)] {
            shelf.put(at_ms, name.into(), blocks * BLOCK_BYTES - 1);
        }
        let name = |path: Option<&Path>| path.map(|path| path.display().to_string());
        assert_eq!(name(shelf.must_go(30, BLOCK_BYTES)), None, "there is room for one block");
        assert_eq!(name(shelf.must_go(30, BLOCK_BYTES + 1)), Some("a".into()));
        assert_eq!(name(shelf.must_go(110, 0)), None);
        assert_eq!(name(shelf.must_go(111, 0)), Some("a".into()));
        shelf.gone(Path::new("a"));
        assert_eq!(name(shelf.must_go(111, 0)), None);
        assert_eq!(shelf.bytes, 5 * BLOCK_BYTES);
        // Written anew it is as large and as young as it is now.
        shelf.put(40, "b".into(), 1);
        assert_eq!(shelf.bytes, 2 * BLOCK_BYTES);
        assert_eq!(shelf.newest().map(|(_, path)| path.display().to_string()).collect::<Vec<_>>(), ["b", "c"]);
        assert!(shelf.could_hold(ROOM.bytes_max) && !shelf.could_hold(ROOM.bytes_max + 1));
    }

    proptest! {
        #[test]
        fn whoever_obeys_never_has_more_than_there_may_be(
            script in prop::collection::vec((0u64..50, 0u32..12, 0u64..8 * BLOCK_BYTES), 0..200)
        ) {
            let (mut shelf, mut now_ms) = (Shelf::new(ROOM), 1_000);
            for (later_ms, name, bytes) in script {
                now_ms += later_ms;
                while let Some(path) = shelf.must_go(now_ms, bytes).map(Path::to_owned) {
                    shelf.gone(&path);
                }
                // The old file of that name is there until the new one takes its place.
                prop_assert!(shelf.bytes + blocks(bytes) <= ROOM.bytes_max);
                shelf.put(now_ms, name.to_string().into(), bytes);
                prop_assert!(shelf.files.keys().all(|(at_ms, _)| now_ms - at_ms <= ROOM.age_ms_max));
                prop_assert_eq!(shelf.bytes, shelf.files.values().map(|(_, bytes)| bytes).sum::<u64>());
                prop_assert_eq!(shelf.files.len(), shelf.places.len());
            }
        }
    }
}
