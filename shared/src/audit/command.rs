//! The log on the command line, the same on both sides: whether it is as it was written, what is in it, and how far those of
//! others reached.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::{Act, AuditError, AuditLog, Checked, Head, Note, heads};
use crate::exit::{Exit, Failure};
use crate::ids::NodeId;
use crate::keyfile::KeyfileError;

/// What is wrong with a log, as an end of the program.
pub fn failure(error: AuditError) -> Failure {
    let exit = if matches!(error, AuditError::Fault(..)) { Exit::Data } else { Exit::Disk };
    Failure::new(exit, error.to_string())
}

/// Checks the log below this data directory, and prints what it found.
pub fn verify(data_dir: &Path, remembered: Option<&Head>) -> Result<(), Failure> {
    let Checked { first, head, torn_bytes } = AuditLog::check(data_dir, remembered, |_| {}).map_err(failure)?;
    let line =
        serde_json::json!({ "first": first, "head": head.map(|head| head.to_string()), "torn_bytes": torn_bytes });
    if torn_bytes > 0 {
        eprintln!("the last line is half a line of {torn_bytes} bytes: the next one to write cuts it off, and says so");
    }
    said(writeln!(io::stdout(), "{line}"))
}

/// Prints every line; what is wrong with them is the end of it.
pub fn show(data_dir: &Path) -> Result<(), Failure> {
    let (mut out, mut written) = (BufWriter::new(io::stdout().lock()), Ok(()));
    let checked = AuditLog::check(data_dir, None, |line| {
        if written.is_ok() {
            written = serde_json::to_writer(&mut out, line).map_err(Into::into).and_then(|()| writeln!(out));
        }
    });
    said(written.and_then(|()| out.flush()))?;
    checked.map(drop).map_err(failure)
}

/// Prints how far the logs of others reached, as they said themselves.
pub fn heads(data_dir: &Path) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = heads::of(data_dir).map_err(disk)?.into_iter().try_for_each(|(who, of)| {
        let lost = of.lost.map(|lost| lost.to_string());
        writeln!(out, "{}", serde_json::json!({ "node": who, "head": of.head.to_string(), "lost": lost }))
    });
    said(written)
}

/// Takes somebody's log as it is now, and writes that down; `about` is what this log calls him.
pub fn accept(data_dir: &Path, who: &NodeId, about: &str, now_s: u64) -> Result<(), Failure> {
    let log = AuditLog::open(data_dir, now_s).map_err(failure)?;
    log.record(now_s, Act::HeadAccepted, &Note::about(about)).map_err(failure)?;
    match heads::accept(data_dir, who).map_err(disk)? {
        true => Ok(()),
        false => Err(Failure::new(Exit::Denied, format!("nothing is remembered of {who}; `audit heads` lists who is"))),
    }
}

fn disk(error: KeyfileError) -> Failure {
    Failure::new(Exit::Disk, error.to_string())
}

/// The reader may have seen enough (`| head`).
fn said(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Disk, format!("the output cannot be written ({error})")))
        }
        _ => Ok(()),
    }
}
