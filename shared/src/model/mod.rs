//! What may run on a device, who says so, and how it gets there: documents, messages, and the one function that judges them.
//! Pure; files, keys and sockets are the business of both sides.
//!
//! Two must agree. The owner's *model keys* are kept away from every network and sign what may run at all; the site's *orders
//! key*, which the running coordinator has, signs which station runs which of it. So a stolen coordinator can choose only
//! among what the owner signed and a device has not outgrown, and a stolen model key reaches no device.
//!
//! These are the roles of The Update Framework 1.0.33 (TUF) and Uptane 2.1, folded into what a site needs:
//!
//! | here | TUF | Uptane |
//! |---|---|---|
//! | [`Root`] | root | root of the image repository |
//! | [`Manifest`], one for each release | targets | targets of the image repository |
//! | [`HeadManifest`] | targets, delegated by the manifest | the same |
//! | [`LearnedManifest`] | targets, delegated to the site | the same |
//! | [`Assignment`] | snapshot and timestamp in one | targets of the director repository |
//! | [`Trusted`] | the client's trusted metadata | the ECU's |
//! | [`verify()`] | the client workflow, section 5 | full verification |
//!
//! One assignment carries all that is to be believed together, so nobody can mix what was said at different times. Each
//! attack of TUF's section 1.5 is refused by a word of [`Refusal`].

mod assignment;
pub mod decode;
mod envelope;
mod learned;
mod manifest;
mod root;
pub mod rollouts;
mod state;
mod transfer;
mod trusted;
mod verify;

pub use assignment::{Assignment, TrialTerms};
pub use envelope::{Document, Envelope, EnvelopeError, Signature};
pub use learned::{LearnedManifest, Learns};
pub use manifest::{Artifact, Delegation, Encoding, Floors, HeadManifest, Manifest, Needs, coding};
pub use root::{Root, RootError};
pub use state::{LearnedState, ModelPhase, ModelState, RunningModel, SlotState, TrialFigures};
pub use transfer::{Chunk, Want};
pub use trusted::{HeadSeen, LearnedSeen, OrdersSeen, Trusted};
pub use verify::{Facts, Outcome, Plan, Refusal, verify};

#[cfg(test)]
mod tests;
