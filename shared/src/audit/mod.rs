//! The audit log: who asked for what, what left, and who changed what, one JSON object a line, each with the digest of the
//! line before. Both sides keep one, in `audit.log` below their data directory, and write there before they act.
//!
//! A chain of digests (as in RFC 6962 and in Schneier and Kelsey's audit logs, 1999) shows that a line was changed, removed or
//! put elsewhere. That lines were cut off the end it cannot show by itself: for that its [`Head`] is told to others in
//! what is signed: a node's is remembered by the coordinator, a coordinator's by each node ([`heads`]).
//!
//! Nobody is named here but those who gave their name when they asked. No address, no picture, no message is kept.

mod chain;
pub mod command;
mod damper;
pub mod heads;
mod log;

pub use chain::{Chain, Fault, Line};
pub use log::{AuditError, AuditLog, Checked, FILE, FILE_BYTES_MAX, FILES_MAX};

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::crypto::{from_hex, hex};

/// Most characters of a name that somebody gave.
pub const WHO_CHARS_MAX: usize = 80;
/// Most characters of what a line says of its act.
pub const DETAIL_CHARS_MAX: usize = 400;
/// One line: all texts full of characters of four bytes.
pub const LINE_BYTES_MAX: usize = 4 * 1024;

/// What is written down. The words are for ever; readers pass over those that they do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// The program begins a run, with these settings of privacy.
    Started,
    /// The configuration was read again, and is followed or not.
    Reloaded,
    /// Other parts of a picture are blacked out than before.
    MasksChanged,
    /// Somebody asks for a picture.
    PictureAsked,
    /// A picture leaves the device.
    PictureSent,
    /// A picture does not leave the device.
    PictureRefused,
    /// A picture that was asked for has come.
    PictureReceived,
    /// Somebody took a picture that had come.
    PictureFetched,
    /// A picture that had come was deleted, because it was old, or there was no room.
    PictureForgotten,
    /// An order from the coordinator is followed.
    OrderTaken,
    /// An order is not followed.
    OrderRefused,
    /// Somebody showed the live view's token.
    LiveLogin,
    /// Somebody looked at what cameras see now, or at what is kept of an event, on the device itself.
    LiveViewed,
    /// Somebody did not show the live view's token.
    LiveRefused,
    /// A device may become one of the site.
    DeviceInvited,
    /// A device has become one of the site, or its certificate was renewed.
    DeviceAdmitted,
    /// What a device was given was taken back.
    DeviceRevoked,
    /// Somebody who is no device was given a certificate.
    ClientAdmitted,
    /// Somebody may act at the page.
    OperatorAdded,
    /// He may no more.
    OperatorRemoved,
    /// An operator orders something at the page.
    OperatorOrdered,
    /// Another key signs orders.
    OrdersKeyRotated,
    /// Another model runs, or is to run.
    ModelChanged,
    /// The audit log of another, a node or a coordinator, has lost lines, or other ones stand there.
    HeadLost,
    /// Somebody takes such a log as it is now.
    HeadAccepted,
    /// The log goes on in a new file.
    LogContinued,
    /// An unfinished last line was cut off: the machine went down while it was written, and what it was for was not done.
    LogHealed,
    /// The log was damaged, is set aside, and begins anew.
    LogDamaged,
}

impl Act {
    /// The word in the log.
    pub fn word(self) -> String {
        let quoted = serde_json::to_string(&self).expect("a word");
        quoted.trim_matches('"').to_owned()
    }
}

/// What a line says beside its act.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// The name that somebody gave.
    pub who: Option<String>,
    /// What it is about: a request, a node, a camera.
    pub about: Option<String>,
    /// Anything else.
    pub detail: Option<String>,
}

impl Note {
    /// About something.
    pub fn about(what: impl fmt::Display) -> Note {
        Note { about: Some(what.to_string()), ..Note::default() }
    }

    /// Nothing but this.
    pub fn detail(detail: impl Into<String>) -> Note {
        Note::default().with(detail)
    }

    /// With this detail.
    pub fn with(self, detail: impl Into<String>) -> Note {
        Note { detail: Some(detail.into()), ..self }
    }

    /// By somebody of this name.
    pub fn by(self, who: impl Into<String>) -> Note {
        Note { who: Some(who.into()), ..self }
    }
}

/// How far a log reaches: its last line's number, and that line's SHA-256 in hexadecimal. Who remembers it can say later
/// whether all before it is as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The line.
    pub number: u64,
    /// Its digest.
    pub digest: String,
}

impl Head {
    /// The head of this line.
    pub fn new(number: u64, digest: [u8; 32]) -> Head {
        Head { number, digest: hex(&digest) }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.digest)
    }
}

impl FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Head, String> {
        let parts = text.split_once(':').and_then(|(number, digest)| {
            Some(Head { number: number.parse().ok()?, digest: from_hex::<32>(digest).map(|bytes| hex(&bytes))? })
        });
        parts.ok_or_else(|| format!("\"{text}\" is no head; write NUMBER:DIGEST as `audit verify` prints it"))
    }
}
