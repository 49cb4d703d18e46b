//! How a program ends: documented exit codes, and one sentence with the remedy.
//!
//! Codes follow sysexits.h, so that systemd's `RestartPreventExitStatus=` can name them. Code 2 is clap's, for a wrong
//! command line.

use std::process::ExitCode;

/// Exit codes of every Picket program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// A model or data file is damaged or of an unknown kind.
    Data = 65,
    /// A source (video, camera, picture) is missing or cannot be played.
    Source = 66,
    /// Another machine that is needed cannot be reached.
    Unreachable = 68,
    /// The inference runtime library is missing or cannot be used.
    Runtime = 69,
    /// A broken promise of the program itself: please report it.
    Software = 70,
    /// A port cannot be bound, or a helper program cannot be started.
    System = 71,
    /// The disk: full, read-only, damaged, or the store is in use by another process.
    Disk = 74,
    /// The work was not finished in time; running it again goes on.
    Unfinished = 75,
    /// Refused: a token, a certificate, or whoever answered is not the right one.
    Denied = 77,
    /// The configuration is wrong: starting again will not help.
    Config = 78,
}

/// An end that a person must do something about: what is wrong and what to do, in one sentence.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub struct Failure {
    /// The process's exit code.
    pub exit: Exit,
    /// The sentence.
    pub sentence: String,
}

impl Failure {
    /// An end with this code and sentence.
    pub fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, sentence: sentence.into() }
    }
}

/// The last thing a `main` does: prints one line for a failure and gives its code.
/// `failure` is the [`Failure`] where the error was one, `shown` the error as text.
pub fn report(program: &str, failure: Option<&Failure>, shown: &str) -> ExitCode {
    eprintln!("{program}: {shown}");
    ExitCode::from(failure.map_or(Exit::Software, |failure| failure.exit) as u8)
}
