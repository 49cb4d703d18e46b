//! The log on the command line, the same on both sides: whether it is as it was written, and what is in it.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::{AuditError, AuditLog, Checked, Head};
use crate::exit::{Exit, Failure};

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

/// The reader may have seen enough (`| head`).
fn said(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Disk, format!("the output cannot be written ({error})")))
        }
        _ => Ok(()),
    }
}
