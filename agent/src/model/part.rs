//! A blob that is on its way, as two files: its bytes, where each chunk has its place from the beginning, and which chunks are
//! there. What the second says is there is there, after a power cut too: bytes are durable before they are noted.
//!
//! It checks lengths and digests of what it is told to hold; what that is, and whether it is wanted, is decided elsewhere.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use picket_shared::chunks::Chunks;
use picket_shared::crypto::Digest;
use picket_shared::keyfile::{self, KeyfileError};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::fetch::Size;

/// Chunks are noted after so many: half a MiB of the largest is fetched again after a crash at most.
const NOTE_CHUNKS: u32 = 8;

/// Why the disk does not hold it, in a sentence with what to do.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// It refuses.
    #[error("{0} cannot be written ({1}); check the room on its disk, and its owner")]
    Disk(PathBuf, io::Error),
    /// The note beside it cannot be written.
    #[error(transparent)]
    Note(#[from] KeyfileError),
}

/// Which chunks of which blob are in the file beside.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    sha256: String,
    length: u64,
    chunk_bytes: u32,
    chunks: String,
}

/// A blob that is on its way.
pub struct Part {
    sha256: String,
    size: Size,
    path: PathBuf,
    file: File,
    chunks: Chunks,
    unnoted: u32,
}

impl Part {
    /// Opens the blob of this digest at this path, with as much of it as is there; what is there of another goes.
    pub fn open(path: &Path, sha256: &str, size: Size) -> Result<Part, PartError> {
        let disk = |error: io::Error| PartError::Disk(path.to_owned(), error);
        let total = size.chunks();
        let noted = keyfile::read_open(&note_path(path)).ok().and_then(|text| serde_json::from_str::<Note>(&text).ok());
        let same =
            |note: &Note| (&*note.sha256, note.length, note.chunk_bytes) == (sha256, size.length, size.chunk_bytes);
        let noted = noted.filter(same).and_then(|note| Chunks::of_hex(total, &note.chunks));
        let there = std::fs::metadata(path).is_ok_and(|about| about.len() == size.length);
        let chunks = noted.filter(|_| there);
        if chunks.is_none() {
            remove(path)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(disk)?;
        if chunks.is_none() {
            // All of its room now, lest the disk be full before its end.
            match fallocate(&file, FallocateFlags::empty(), 0, size.length) {
                // A file system that cannot promise room says so when there is none.
                Err(Errno::OPNOTSUPP) => file.set_len(size.length).map_err(disk)?,
                taken => taken.map_err(|error| disk(error.into()))?,
            }
            file.sync_all().map_err(disk)?;
        }
        let chunks = chunks.unwrap_or_else(|| Chunks::none(total));
        let part = Part { sha256: sha256.to_owned(), size, path: path.to_owned(), file, chunks, unnoted: 0 };
        part.note()?;
        Ok(part)
    }

    /// Which chunks are there.
    pub fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// Puts a chunk in its place, whose length must be right.
    pub fn write(&mut self, index: u32, bytes: &[u8]) -> Result<(), PartError> {
        let offset = u64::from(index) * u64::from(self.size.chunk_bytes);
        let right = self.size.bytes_of(index) == Some(bytes.len() as u64);
        assert!(right, "a chunk's length is checked where it comes in");
        self.file.write_all_at(bytes, offset).map_err(|error| PartError::Disk(self.path.clone(), error))?;
        if self.chunks.add(index) {
            self.unnoted += 1;
        }
        if self.unnoted >= NOTE_CHUNKS || self.chunks.is_whole() {
            self.note_durably()?;
        }
        Ok(())
    }

    /// The SHA-256 of all that is in the file, in hexadecimal.
    pub fn digest(&self) -> Result<String, PartError> {
        digest_of(&self.path).map_err(|error| PartError::Disk(self.path.clone(), error))
    }

    /// Where the bytes are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes both files.
    pub fn discard(self) -> Result<(), PartError> {
        remove(&self.path)
    }

    fn note_durably(&mut self) -> Result<(), PartError> {
        self.file.sync_data().map_err(|error| PartError::Disk(self.path.clone(), error))?;
        self.note()?;
        self.unnoted = 0;
        Ok(())
    }

    fn note(&self) -> Result<(), PartError> {
        let Size { length, chunk_bytes } = self.size;
        let note = Note { sha256: self.sha256.clone(), length, chunk_bytes, chunks: self.chunks.to_hex() };
        let text = serde_json::to_vec(&note).expect("texts and numbers");
        Ok(keyfile::write_open(&note_path(&self.path), &text)?)
    }
}

/// Removes a blob that was on its way, where there is one.
pub fn remove(path: &Path) -> Result<(), PartError> {
    keyfile::remove(&note_path(path))?;
    Ok(keyfile::remove(path)?)
}

/// The SHA-256 of a file, in hexadecimal, a block at a time.
pub fn digest_of(path: &Path) -> io::Result<String> {
    Ok(Digest::of_reader(&mut File::open(path)?)?.to_string())
}

fn note_path(path: &Path) -> PathBuf {
    path.with_added_extension("chunks")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size() -> Size {
        Size { length: 1_250, chunk_bytes: 100 }
    }

    fn blob() -> Vec<u8> {
        (0..1_250u32).map(|n| (n * 7 % 251) as u8).collect()
    }

    fn write(part: &mut Part, index: u32) {
        let blob = blob();
        let from = index as usize * 100;
        part.write(index, &blob[from..(from + 100).min(blob.len())]).unwrap();
    }

    #[test]
    fn a_blob_goes_on_after_a_crash_with_what_was_noted_and_is_whole_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("part");
        let sha256 = picket_shared::crypto::sha256_hex(&blob());
        let mut part = Part::open(&path, &sha256, size()).unwrap();
        (0..NOTE_CHUNKS + 2).for_each(|index| write(&mut part, index));
        drop(part);
        let mut part = Part::open(&path, &sha256, size()).unwrap();
        assert_eq!(part.chunks().missing(9), [(NOTE_CHUNKS, 12)], "what was not noted is fetched again");
        (NOTE_CHUNKS..13).for_each(|index| write(&mut part, index));
        assert_eq!(part.digest().unwrap(), sha256);
        assert_eq!(std::fs::read(part.path()).unwrap(), blob());
        assert!(Part::open(&path, &sha256, size()).unwrap().chunks().is_whole());
        part.discard().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_there_of_another_blob_or_is_damaged_is_not_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("part");
        let fill = || {
            let mut part = Part::open(&path, "aa", size()).unwrap();
            (0..NOTE_CHUNKS).for_each(|index| write(&mut part, index));
            assert_eq!(part.chunks().held(), NOTE_CHUNKS);
        };
        let held = |sha256: &str, size: Size| Part::open(&path, sha256, size).unwrap().chunks().held();
        fill();
        assert_eq!(held("aa", size()), NOTE_CHUNKS);
        assert_eq!(held("bb", size()), 0);
        fill();
        assert_eq!(held("aa", Size { chunk_bytes: 50, ..size() }), 0);
        fill();
        File::options().write(true).open(&path).unwrap().set_len(7).unwrap();
        assert_eq!(held("aa", size()), 0, "its bytes are gone");
        fill();
        std::fs::write(note_path(&path), "{\"sha256\":\"aa\"").unwrap();
        assert_eq!(held("aa", size()), 0, "its note is damaged");
        assert_eq!(std::fs::read(&path).unwrap(), vec![0; 1_250]);
    }
}
