//! A log: a file that begins with a snapshot and goes on with what happened since. Each record stands behind its length and its
//! CRC-32. What ends in the middle of a record, as after a power cut, is cut off there.
//!
//! A new snapshot is written beside it and takes its name once it is whole and durable, so a crash leaves one or the other.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// One record. A row of the largest head is half a MiB.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Length and checksum.
const FRAME_BYTES: usize = 8;

/// An open log.
pub struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
}

/// What stood in a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The records, in order.
    pub records: Vec<Vec<u8>>,
    /// Bytes at its end that are no record.
    pub torn_bytes: usize,
}

/// Takes a log's bytes apart, up to the first thing that is no record.
pub fn parse(mut bytes: &[u8]) -> Found {
    let mut found = Found::default();
    while let Some((record, rest)) = frame(bytes) {
        found.records.push(record.to_vec());
        bytes = rest;
    }
    found.torn_bytes = bytes.len();
    found
}

fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 || length > RECORD_BYTES_MAX {
        return None;
    }
    let (record, rest) = rest.split_at_checked(length)?;
    (crate::learn::checksum(record) == u32::from_le_bytes(*crc)).then_some((record, rest))
}

fn framed(records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(records.iter().map(|record| record.len() + FRAME_BYTES).sum());
    for record in records {
        bytes.extend((record.len() as u32).to_le_bytes());
        bytes.extend(crate::learn::checksum(record).to_le_bytes());
        bytes.extend(record);
    }
    bytes
}

impl Log {
    /// Opens the log at `path`, creating it where absent, and reads what stands there. What is torn at its end is cut off.
    pub fn open(path: &Path) -> io::Result<(Log, Found)> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = File::options().create(true).append(true).read(true).open(path)?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes)?;
        let found = parse(&bytes);
        let whole = (bytes.len() - found.torn_bytes) as u64;
        if found.torn_bytes > 0 {
            file.set_len(whole)?;
        }
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok((Log { path: path.to_owned(), file, bytes: whole }, found))
    }

    /// Appends records and makes them durable.
    pub fn append(&mut self, records: &[Vec<u8>]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let bytes = framed(records);
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Begins the log anew with these records.
    pub fn begin_anew(&mut self, records: &[Vec<u8>]) -> io::Result<()> {
        let making = self.path.with_extension("making");
        let mut file = File::create(&making)?;
        let bytes = framed(records);
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&making, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        self.file = File::options().append(true).open(&self.path)?;
        self.bytes = bytes.len() as u64;
        Ok(())
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(n: u8) -> Vec<Vec<u8>> {
        (1..=n).map(|n| vec![n; usize::from(n) * 3]).collect()
    }

    /// P14: wherever the end is torn off, what stands before it is read, and what is written next follows it.
    #[test]
    fn a_torn_tail_is_cut_off_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/some.log");
        let all = records(5);
        {
            let (mut log, found) = Log::open(&path).unwrap();
            assert_eq!(found, Found::default());
            log.append(&all).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        let ends: Vec<usize> = (0..=5).map(|n| framed(&all[..n]).len()).collect();
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let kept = ends.iter().filter(|end| **end <= cut).count() - 1;
            let (mut log, found) = Log::open(&path).unwrap();
            assert_eq!((found.records, found.torn_bytes), (all[..kept].to_vec(), cut - ends[kept]));
            log.append(&[vec![99]]).unwrap();
            let (_, found) = Log::open(&path).unwrap();
            assert_eq!(found.records, [&all[..kept], &[vec![99]]].concat());
        }
        // A changed byte ends it too.
        let mut changed = whole.clone();
        changed[ends[2] + FRAME_BYTES] ^= 1;
        assert_eq!(parse(&changed).records, all[..2]);
        assert_eq!(parse(&[0; 64]).records.len(), 0);
        assert_eq!(parse(&[0xFF; 64]).torn_bytes, 64);
    }

    #[test]
    fn a_new_beginning_takes_the_place_of_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.log");
        let (mut log, _) = Log::open(&path).unwrap();
        log.append(&records(9)).unwrap();
        log.begin_anew(&records(2)).unwrap();
        log.append(&[vec![7]]).unwrap();
        let size = log.bytes();
        let (log, found) = Log::open(&path).unwrap();
        assert_eq!(found.records, [records(2), vec![vec![7]]].concat());
        assert_eq!(log.bytes(), size);
    }
}
