//! The log's files: a line is appended and synced before [`AuditLog::record`] returns. A lock beside them keeps apart the
//! programs that write, because the command line works beside a running agent or coordinator.
//!
//! A file that is full becomes `audit.log.1`, the one before that `audit.log.2`, and the oldest goes; the chain runs on through
//! all of them. A last line without its end is cut off and told; a log that is damaged otherwise is set aside, as
//! `audit.log.damaged`, and told for as long as that line is kept.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::chain::{Chain, Fault, Line};
use super::damper::Damper;
use super::{Act, Head, LINE_BYTES_MAX, Note};
use crate::crypto::{hex, sha256};

/// The newest file's name below a data directory.
pub const FILE: &str = "audit.log";
/// One file: some 4,000 lines.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Files, the newest included: years of a device that is asked once a day.
pub const FILES_MAX: usize = 8;
/// Who asked is nobody's affair but the owner's.
const MODE: u32 = 0o600;

/// Why something was not written down, and so is not done; or why the log cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The disk refuses.
    #[error("the audit log {0} cannot be read or written ({1}); make room, or check its owner")]
    Disk(PathBuf, String),
    /// The chain is broken.
    #[error("the audit log {0} is not as it was written: {1}")]
    Fault(PathBuf, Fault),
}

/// What a look at a whole log found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The first line that is kept.
    pub first: Option<u64>,
    /// The last line.
    pub head: Option<Head>,
    /// Bytes of an unfinished last line, which the next one to write cuts off.
    pub torn_bytes: usize,
}

/// A log that lines are added to. Whoever shares it writes one after the other.
#[derive(Debug)]
pub struct AuditLog {
    dir: PathBuf,
    file_bytes_max: u64,
    /// The newest file's length and head, as this program last saw them.
    seen: Mutex<Option<(u64, Head)>>,
    damper: Mutex<Damper>,
    /// What is wrong with it: until a line is written, or for good.
    problems: Mutex<(Option<String>, Option<String>)>,
}

impl AuditLog {
    /// The log below this data directory. It is looked through, and healed where it must be.
    pub fn open(data_dir: &Path, now_s: u64) -> Result<AuditLog, AuditError> {
        let log = AuditLog::lazily(data_dir);
        fs::create_dir_all(data_dir).map_err(|error| log.disk(&error))?;
        let _lock = log.lock()?;
        match log.newest_file_is_sound()? {
            Ok(()) => {}
            Err(anew @ Fault::BeginsAnew(..)) => log.is_damaged(&anew),
            Err(fault) => {
                log.is_damaged(&fault);
                log.set_aside(&fault, now_s)?;
            }
        }
        Ok(log)
    }

    /// The same for a program that has other work than this: where the log cannot be opened, that is a problem of its own, and each
    /// line is tried anew.
    pub fn open_or_later(data_dir: &Path, now_s: u64) -> AuditLog {
        AuditLog::open(data_dir, now_s).unwrap_or_else(|error| {
            tracing::error!("{error}; no picture leaves meanwhile");
            let log = AuditLog::lazily(data_dir);
            log.problems.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(error.to_string());
            log
        })
    }

    /// The same without a look at what is there.
    fn lazily(data_dir: &Path) -> AuditLog {
        let (seen, damper, problems) = Default::default();
        AuditLog { dir: data_dir.to_owned(), file_bytes_max: FILE_BYTES_MAX, seen, damper, problems }
    }

    fn is_damaged(&self, fault: &Fault) {
        let sentence = format!("the audit log is not as it was written: {fault}; see `audit verify`");
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(sentence);
    }

    /// What is wrong with it, in a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.0.iter().chain(&problems.1).cloned().collect()
    }

    /// Writes a line, and returns once it is durable. What it says is done after that and not before.
    pub fn record(&self, now_s: u64, act: Act, note: &Note) -> Result<Head, AuditError> {
        let written = self.lock().and_then(|_lock| self.append(now_s, act, note));
        let problem = written.as_ref().err().map(|error| format!("{error}; no picture leaves meanwhile"));
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).0 = problem;
        written
    }

    /// The same for what strangers may cause as often as they like: a flood of them is counted, and costs few lines.
    pub fn record_damped(&self, now_s: u64, act: Act, note: &Note) -> Result<(), AuditError> {
        let kind = act.word();
        let more = self.damper.lock().unwrap_or_else(PoisonError::into_inner).lets(&kind, now_s);
        let Some(more) = more else { return Ok(()) };
        let detail: Vec<String> = note.detail.iter().cloned().chain(more).collect();
        let note = Note { detail: Some(detail.join("; ")).filter(|detail| !detail.is_empty()), ..note.clone() };
        self.record(now_s, act, &note).map(drop)
    }

    /// How far it reaches, other programs' lines included; nothing where it cannot be read, or nothing is in it.
    pub fn head(&self) -> Option<Head> {
        let bytes = fs::metadata(self.newest()).ok()?.len();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref().is_none_or(|(then, _)| *then != bytes) {
            let head = self.tail().ok()?.and_then(|(chain, _)| chain.head())?;
            *seen = Some((bytes, head));
        }
        seen.as_ref().map(|(_, head)| head.clone())
    }

    fn append(&self, now_s: u64, act: Act, note: &Note) -> Result<Head, AuditError> {
        let (mut chain, torn) = match self.tail()? {
            Some((chain, torn)) => (chain, torn),
            None => (self.end_of(&self.numbered(1))?.map(|(chain, _)| chain).unwrap_or_default(), 0),
        };
        let mut lines = Vec::new();
        let mut add = |chain: &mut Chain, act, note: &Note| {
            let line = chain.next(now_s, act, note);
            chain.take(&line).expect("it follows the one before");
            lines.extend_from_slice(&line);
            lines.push(b'\n');
        };
        if torn > 0 {
            add(&mut chain, Act::LogHealed, &Note::detail(format!("{torn} bytes of an unfinished line were cut off")));
        }
        let bytes = fs::metadata(self.newest()).map_or(0, |meta| meta.len());
        if chain.number() > 0 && (bytes == 0 || bytes >= self.file_bytes_max) {
            let kept_from = self.rotate(bytes > 0)?;
            let detail = "the log goes on in a new file; lines from this one on are kept";
            add(&mut chain, Act::LogContinued, &Note::about(kept_from).with(detail));
        }
        add(&mut chain, act, note);
        self.write(&lines, torn as u64)?;
        let head = chain.head().expect("a line was added");
        let bytes = fs::metadata(self.newest()).map_or(0, |meta| meta.len());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((bytes, head.clone()));
        Ok(head)
    }

    /// Appends in place of the last bytes, which are half a line; durable, or not at all.
    fn write(&self, lines: &[u8], torn: u64) -> Result<(), AuditError> {
        let path = self.newest();
        let write = || {
            let new = !path.exists();
            let mut file = OpenOptions::new().create(true).append(true).mode(MODE).open(&path)?;
            let whole = file.metadata()?.len() - torn;
            if torn > 0 {
                file.set_len(whole)?;
            }
            if let Err(error) = file.write_all(lines).and_then(|()| file.sync_all()) {
                // A line that is not durable is for an act that is not done.
                let _ = file.set_len(whole);
                return Err(error);
            }
            if new { File::open(&self.dir)?.sync_all() } else { Ok(()) }
        };
        write().map_err(|error: io::Error| self.disk(&error))
    }

    /// Makes room for a new file where the newest is full, and gives the first line that is kept then.
    fn rotate(&self, full: bool) -> Result<u64, AuditError> {
        if full {
            let moved = || {
                for number in (0..FILES_MAX - 1).rev().filter(|number| self.numbered(*number).exists()) {
                    fs::rename(self.numbered(number), self.numbered(number + 1))?;
                }
                File::open(&self.dir)?.sync_all()
            };
            moved().map_err(|error: io::Error| self.disk(&error))?;
        }
        let oldest = (1..FILES_MAX).rev().map(|number| self.numbered(number)).find(|path| path.exists());
        let first = oldest.map(|path| read_lines(&path, |line| Chain::at(line).map_or(0, |chain| chain.number())));
        let first = first.transpose().map_err(|error| self.disk(&error))?;
        Ok(first.and_then(|(numbers, _)| numbers.front().copied()).unwrap_or(1))
    }

    /// What the newest file ends with, and how many bytes of half a line stand behind that. Nothing where there is none.
    fn tail(&self) -> Result<Option<(Chain, usize)>, AuditError> {
        match self.end_of(&self.newest())? {
            // All of it is half a line: the first of this file.
            Some((chain, torn)) if chain == Chain::default() => {
                let before = self.end_of(&self.numbered(1))?.map(|(chain, _)| chain);
                Ok(Some((before.unwrap_or_default(), torn)))
            }
            end => Ok(end),
        }
    }

    fn end_of(&self, path: &Path) -> Result<Option<(Chain, usize)>, AuditError> {
        let read = || {
            let mut file = File::open(path)?;
            let bytes = file.metadata()?.len();
            file.seek(SeekFrom::Start(bytes.saturating_sub(2 * LINE_BYTES_MAX as u64)))?;
            let mut end = Vec::new();
            file.take(2 * LINE_BYTES_MAX as u64).read_to_end(&mut end)?;
            Ok::<_, io::Error>(end)
        };
        let end = match read() {
            Ok(end) => end,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.disk(&error)),
        };
        let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let last = end[..whole].trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        if whole == 0 {
            return Ok((!end.is_empty()).then(|| (Chain::default(), end.len())));
        }
        let chain = Chain::at(last).map_err(|fault| AuditError::Fault(path.to_owned(), fault))?;
        Ok(Some((chain, end.len() - whole)))
    }

    fn newest_file_is_sound(&self) -> Result<Result<(), Fault>, AuditError> {
        let mut chain = Chain::default();
        let taken = match read_lines(&self.newest(), |line| chain.take(line).map(drop)) {
            Ok((taken, _)) => taken,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Ok(())),
            Err(error) => return Err(self.disk(&error)),
        };
        Ok(taken.into_iter().find(Result::is_err).unwrap_or(Ok(())))
    }

    /// The damaged file is kept as it is, and a new one begins with its digest.
    fn set_aside(&self, fault: &Fault, now_s: u64) -> Result<(), AuditError> {
        let aside = self.dir.join(format!("{FILE}.damaged"));
        let bytes = fs::read(self.newest()).map_err(|error| self.disk(&error))?;
        let digest = hex(&sha256(&bytes));
        let numbers = bytes.split(|byte| *byte == b'\n').filter_map(|line| Chain::at(line).ok());
        let last = numbers.map(|chain| chain.number()).max().unwrap_or(0);
        fs::rename(self.newest(), &aside).map_err(|error| self.disk(&error))?;
        let detail = format!("{fault}; set aside as {}, SHA-256 {digest}", aside.display());
        tracing::error!("the audit log is not as it was written: {detail}");
        let mut line = Chain::default().next(now_s, Act::LogDamaged, &Note::detail(detail));
        // Numbers go on, so that whoever remembers an older head sees that lines are missing and not that time went back.
        let number = format!("{{\"number\":{},", last + 1);
        line = [number.as_bytes(), &line["{\"number\":1,".len()..], &b"\n"[..]].concat();
        self.write(&line, 0)
    }

    /// Looks through a log that may be written meanwhile, changes nothing, and gives every line to `see`. `remembered` is a
    /// head that somebody wrote down elsewhere.
    pub fn check(
        data_dir: &Path,
        remembered: Option<&Head>,
        mut see: impl FnMut(&Line),
    ) -> Result<Checked, AuditError> {
        let log = AuditLog::lazily(data_dir);
        let (mut chain, mut torn_bytes, mut first, mut found) = (Chain::default(), 0, None, None);
        // Who may not lock the log may still read it.
        let _lock = log.lock();
        for path in (0..FILES_MAX).rev().map(|number| log.numbered(number)).filter(|path| path.exists()) {
            let fault = |fault: Fault| AuditError::Fault(path.clone(), fault);
            let read = read_lines(&path, |bytes| {
                let line = chain.take(bytes)?;
                first.get_or_insert(line.number);
                if remembered.is_some_and(|head| head.number == line.number) {
                    found = chain.head();
                }
                see(&line);
                Ok(())
            });
            let (taken, torn) = read.map_err(|error| log.disk(&error))?;
            taken.into_iter().collect::<Result<(), Fault>>().map_err(fault)?;
            if torn > 0 && path != log.newest() {
                return Err(fault(Fault::Unreadable(chain.number())));
            }
            torn_bytes = torn;
        }
        let ends = |fault: Fault| AuditError::Fault(log.newest(), fault);
        chain.ends().map_err(ends)?;
        if let Some(head) = remembered {
            if head.number > chain.number() {
                return Err(ends(Fault::CutOff(chain.number() + 1, head.number)));
            }
            if found.is_some_and(|found| found != *head) {
                return Err(ends(Fault::Rewritten(head.number)));
            }
        }
        Ok(Checked { first, head: chain.head(), torn_bytes })
    }

    fn newest(&self) -> PathBuf {
        self.numbered(0)
    }

    fn numbered(&self, number: usize) -> PathBuf {
        self.dir.join(if number == 0 { FILE.to_owned() } else { format!("{FILE}.{number}") })
    }

    fn lock(&self) -> Result<File, AuditError> {
        let path = self.dir.join(format!("{FILE}.lock"));
        let locked = || {
            let file = OpenOptions::new().create(true).append(true).mode(MODE).open(path)?;
            file.lock()?;
            Ok(file)
        };
        locked().map_err(|error: io::Error| self.disk(&error))
    }

    fn disk<E: std::fmt::Display>(&self, error: &E) -> AuditError {
        AuditError::Disk(self.newest(), error.to_string())
    }
}

/// Does something with each whole line of a file, and gives how many bytes stand behind the last of them. A file has a bound,
/// and what is far beyond it is not ours.
fn read_lines<T>(path: &Path, mut of: impl FnMut(&[u8]) -> T) -> io::Result<(VecDeque<T>, usize)> {
    let mut bytes = Vec::new();
    File::open(path)?.take(4 * FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines = bytes[..whole].strip_suffix(b"\n").map(|lines| lines.split(|byte| *byte == b'\n'));
    Ok((lines.into_iter().flatten().map(&mut of).collect(), bytes.len() - whole))
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
