//! Which coordinator leads a site: a row that only one can hold, with an epoch that grows with every new leader.
//!
//! The default keeps the row in a file: beside the archive for a single coordinator, or in a directory that a standby on the
//! same machine or file server sees too. No two clocks are compared: a standby takes the lead when the row has not changed
//! for a while on its own clock, and a leader that could not change it in time stops by its own. The file decides nothing
//! about stations.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use picket_shared::duty::LEADER_MAX;

use row::{Candidate, Exhausted, Row};

pub mod row;

/// A leader that has not said so again for this long is gone.
pub const LEADER_TTL: Duration = Duration::from_secs(5);
/// By how much earlier a leader takes itself for deposed.
pub const LEADER_MARGIN: Duration = Duration::from_secs(1);
/// How often a leader says so again, and a standby looks.
pub const LEADER_LOOK: Duration = Duration::from_secs(1);
/// The row has a name and three numbers.
const ROW_BYTES_MAX: u64 = 4 * 1024;

/// Why nobody can say who leads.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// The file cannot be read or written.
    #[error("the leader's file {0} cannot be used ({1}); check the path, its rights and the disk")]
    Io(PathBuf, std::io::Error),
    /// It holds something else.
    #[error("the leader's file {0} is damaged ({1}); where no other coordinator runs, remove it")]
    Damaged(PathBuf, String),
    /// No epoch is left.
    #[error("there have been {LEADER_MAX} leaders, and no epoch is left; begin a new site name")]
    Exhausted,
}

/// A place where coordinators settle who leads.
#[async_trait::async_trait]
pub trait LeaderStore: Send {
    /// Takes the lead where it is free, or keeps it, and gives its epoch, which is above `above`; nothing where another
    /// leads. An epoch that was kept is the same; one that was taken is higher than all before it.
    async fn lead(&mut self, above: u32) -> Result<Option<u32>, LeaderError>;

    /// Gives the lead back, so that a standby need not wait.
    async fn release(&mut self);
}

/// The row in a file.
pub struct FileLeader {
    path: PathBuf,
    candidate: Candidate,
    started: Instant,
}

impl FileLeader {
    /// The row in this file, for a coordinator of this name. Names of a site's coordinators differ.
    pub fn new(path: &Path, me: &str) -> FileLeader {
        FileLeader { path: path.to_owned(), candidate: Candidate::new(me), started: Instant::now() }
    }

    fn lead_now(&mut self, above: u32, now: Instant) -> Result<Option<u32>, LeaderError> {
        let path = self.path.clone();
        let io = |error| LeaderError::Io(path.clone(), error);
        let mut file = open(&self.path).map_err(io)?;
        // Held only for the look and the write, by whom it may concern.
        file.lock().map_err(io)?;
        let row = read(&mut file, &self.path)?;
        let now_ms = now.saturating_duration_since(self.started).as_millis() as u64;
        let next = self.candidate.look(&row, above, now_ms).map_err(|Exhausted| LeaderError::Exhausted)?;
        next.iter().try_for_each(|next| write(&mut file, next)).map_err(io)?;
        Ok(self.candidate.led(next.as_ref()))
    }

    fn release_now(&mut self) -> Result<(), LeaderError> {
        if !self.candidate.leads() {
            return Ok(());
        }
        let io = |error| LeaderError::Io(self.path.clone(), error);
        let mut file = open(&self.path).map_err(io)?;
        file.lock().map_err(io)?;
        let row = read(&mut file, &self.path)?;
        self.candidate.release(&row).iter().try_for_each(|row| write(&mut file, row)).map_err(io)
    }
}

#[async_trait::async_trait]
impl LeaderStore for FileLeader {
    async fn lead(&mut self, above: u32) -> Result<Option<u32>, LeaderError> {
        tokio::task::block_in_place(|| self.lead_now(above, Instant::now()))
    }

    async fn release(&mut self) {
        if let Err(error) = tokio::task::block_in_place(|| self.release_now()) {
            tracing::warn!("{error}; a standby waits {} s before it leads", LEADER_TTL.as_secs());
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn read(file: &mut File, path: &Path) -> Result<Row, LeaderError> {
    let mut text = String::new();
    file.take(ROW_BYTES_MAX).read_to_string(&mut text).map_err(|error| LeaderError::Io(path.to_owned(), error))?;
    if text.trim().is_empty() {
        return Ok(Row::default());
    }
    serde_json::from_str(&text).map_err(|error| LeaderError::Damaged(path.to_owned(), error.to_string()))
}

/// In place: the file is shorter than a sector, and whoever reads it holds the lock.
fn write(file: &mut File, row: &Row) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec(row)?;
    bytes.push(b'\n');
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pair {
        _dir: tempfile::TempDir,
        one: FileLeader,
        other: FileLeader,
        start: Instant,
    }

    impl Pair {
        fn new() -> Pair {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("leader");
            let (one, other) = (FileLeader::new(&path, "one"), FileLeader::new(&path, "other"));
            Pair { _dir: dir, one, other, start: Instant::now() }
        }

        fn one(&mut self, s: u64) -> Option<u32> {
            self.one.lead_now(0, self.start + Duration::from_secs(s)).unwrap()
        }

        fn other(&mut self, s: u64) -> Option<u32> {
            self.other.lead_now(0, self.start + Duration::from_secs(s)).unwrap()
        }
    }

    #[test]
    fn one_leads_and_the_other_takes_over_when_it_is_silent() {
        let mut pair = Pair::new();
        for s in 0..20 {
            assert_eq!((pair.one(s), pair.other(s)), (Some(1), None), "{s}");
        }
        // The row last changed at 19 s, and was seen so then.
        assert_eq!(pair.other(23), None);
        assert_eq!(pair.other(24), Some(2));
        assert_eq!(pair.one(25), None, "it stood still, and another leads now");
        assert_eq!(pair.other(26), Some(2));
    }

    #[test]
    fn a_leader_that_stops_leaves_at_once_and_one_that_restarts_goes_on_under_a_higher_epoch() {
        let mut pair = Pair::new();
        assert_eq!((pair.one(0), pair.other(0)), (Some(1), None));
        pair.one.release_now().unwrap();
        assert_eq!((pair.other(1), pair.one(1)), (Some(2), None));
        pair.other = FileLeader::new(&pair.one.path.clone(), "other");
        assert_eq!(pair.other(2), Some(3));
    }

    #[test]
    fn whoever_is_outranked_leads_above_that_or_not_at_all() {
        let mut pair = Pair::new();
        assert_eq!(pair.one.lead_now(40, pair.start).unwrap(), Some(41));
        assert_eq!(pair.other.lead_now(50, pair.start).unwrap(), None);
        assert!(matches!(pair.one.lead_now(LEADER_MAX, pair.start), Err(LeaderError::Exhausted)));
    }

    #[test]
    fn what_is_no_row_is_refused_with_the_remedy() {
        let mut pair = Pair::new();
        std::fs::write(&pair.one.path, "no row").unwrap();
        let sentence = pair.one.lead_now(0, pair.start).unwrap_err().to_string();
        assert!(sentence.contains("is damaged") && sentence.contains("remove it"), "{sentence}");
        pair.one.path = "/nowhere/leader".into();
        assert!(pair.one.lead_now(0, pair.start).unwrap_err().to_string().contains("check the path"));
    }
}
