//! The models of one device: what runs, what may run next, and how it comes to that. Two slots hold releases; what the
//! configuration names is the factory's, which is always there to go back to.
//!
//! Pure, and driven from `node` as `duty` is: assignments and what the shell reports go in, [`Order`]s come out. Whatever an
//! order changes is durable before the order is given ([`Record`]), so an agent that is killed at any moment begins where it
//! was, and a candidate that kills it is given up after so many starts. Who may say what runs is decided by
//! [`picket_shared::model::verify`] alone.
//!
//! ```text
//! fetch, file by file → trial in a process of its own → switch at a frame's end → probation → committed
//!          └ refused          └ given up                       └ what ran before ┘
//! ```
//!
//! A head that the site learned comes on the same assignment and goes its own way (`learned`), to who judges by it.

pub mod fetch;
pub mod frames;
pub mod learned;
pub mod steward;
pub mod part;
pub mod peek;
pub mod record;
pub mod shelf;
pub mod trial;
pub mod verdict;

mod assign;
pub mod change;
mod models;
mod say;
pub mod start;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use picket_shared::chunks::Chunks;
use picket_shared::config::within;
use picket_shared::crypto::Digest;
use picket_shared::ids::{NodeId, StationId};
use picket_shared::model::{
    Artifact, Delegation, Encoding, HeadManifest, LearnedManifest, Manifest, ModelState, Trusted, Want,
};
use picket_shared::status::DetectorTwin;
use serde::Deserialize;

use crate::detect::agreement::Agreement;
pub use models::Models;
use record::{Place, Record, Release, Slot};
use verdict::Seen;

/// The least and the most room for stored frames.
const FRAMES_BYTES: (u64, u64) = (0, 4 * 1024 * 1024 * 1024);

/// Models, as configured.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The file with the root document: whose models may run here. Without it, and without one that came with the enrolment,
    /// no model is taken from anybody.
    pub root: Option<PathBuf>,
    /// Room for frames that are hard to judge, by which candidates are tried; 0 keeps none. They are masked, stay on the
    /// device, and come from cameras that keep pictures of events (`snapshots`).
    pub frames_bytes_max: u64,
    /// At most one such frame in so many seconds.
    pub frames_interval_s: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config { root: None, frames_bytes_max: 32 * 1024 * 1024, frames_interval_s: 60.0 }
    }
}

impl Config {
    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        within("model.frames_bytes_max", self.frames_bytes_max, FRAMES_BYTES.0..=FRAMES_BYTES.1)?;
        within("model.frames_interval_s", self.frames_interval_s, 0.1..=86_400.0)
    }
}

/// Which of a release's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The ONNX file.
    Model,
    /// Its head.
    Head,
    /// The calibration table.
    Calibration,
    /// The labels.
    Labels,
}

/// One file of a release.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The slot that it is for.
    pub slot: Slot,
    /// What it is.
    pub what: What,
    /// Its bytes, and the ways to get them.
    pub artifact: Artifact,
    /// The size of the pieces that it travels in.
    pub chunk_bytes: u32,
    /// A head of the site's own must keep within this.
    pub delegation: Option<Delegation>,
}

/// What must be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// Make this durable; answer with [`News::Kept`] and the same number. What was seen goes first.
    Keep(u64, Box<Record>, Option<Box<Trusted>>),
    /// Hear the blob of this digest, or none.
    Listen(Option<Digest>),
    /// The same for a learned head, which is fetched beside it.
    ListenHead(Option<Digest>),
    /// Hand this learned head to whoever judges by it.
    Learn(Box<LearnedManifest>, Vec<u8>),
    /// Ask for these chunks.
    Want(Want),
    /// Say how it is.
    Say(Box<ModelState>),
    /// Have this file, or begin to fetch it, by another encoding than these. Answer with [`News::Here`], [`News::Opened`] or
    /// [`News::Unfit`].
    Open(Box<Wanted>, Vec<Digest>),
    /// Put this chunk of what is open in its place; answer with [`News::Written`].
    Write(u32, Vec<u8>),
    /// All of it is there: decode it, check it and put it into its slot. Answer with [`News::Here`], [`News::Torn`] or
    /// [`News::Unfit`].
    Install(Box<Wanted>),
    /// Forget what is open.
    Discard,
    /// Try what is in this slot beside what runs; answer with [`News::Trial`].
    Try(Slot, Box<Release>, Place, Option<Box<Release>>),
    /// End the trial, whatever it is at.
    StopTrial,
    /// Load what is in this place, and let it run at the next frame; answer with [`News::Switched`] or [`News::NotSwitched`].
    Load(Place, Option<Box<Release>>),
}

/// What the shell reports.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// Everything up to this number is durable.
    Kept(u64),
    /// The file is in its slot, whole and looked over.
    Here,
    /// It is to be fetched in this encoding, of which these chunks are there.
    Opened(Encoding, Chunks),
    /// The chunk is on the disk, or was not taken by it.
    Written(u32, bool),
    /// What was fetched has another digest than it should.
    Torn,
    /// It cannot be had, or not be used, in this encoding; in none, where none is named. A constant word, and a sentence.
    Unfit(Option<Digest>, &'static str, String),
    /// How the trial goes.
    Trial(Trying),
    /// The model that was to be loaded runs: what it turned out to be.
    Switched(Box<DetectorTwin>),
    /// It has looked at its first frame, so long after the last one that the model before looked at.
    Gap(Duration),
    /// It does not, and what ran before runs on.
    NotSwitched(String),
}

/// How a trial goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Trying {
    /// It is being loaded.
    Loading,
    /// It is loaded, and has been run once.
    Loaded,
    /// On stored frames it agrees so far; nothing, where there are too few of them.
    Stored(Option<Agreement>),
    /// This was seen on live frames.
    Seen(Seen),
    /// No frame has come.
    Idle,
    /// It cannot be loaded, or not be used. A constant word, and a sentence.
    Unfit(&'static str, String),
    /// Its process has ended by itself.
    Crashed(String),
}

/// What this device is, for who judges an assignment.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its name.
    pub node: NodeId,
    /// The station that it watches.
    pub station: StationId,
    /// Its processor, as Rust names it.
    pub arch: String,
    /// The execution providers that are configured; the processor always.
    pub providers: Vec<String>,
    /// Its memory; 0 where nobody knows.
    pub memory_bytes: u64,
    /// The minor version of its ONNX Runtime.
    pub runtime_api: u32,
    /// The digest of the configuration's own model, where it can be read.
    pub factory: Option<Digest>,
}

/// Why an assignment or a chunk is refused: a constant word, and a sentence.
pub type Refused = (&'static str, String);

/// The files of a release, in the order in which they are fetched: the small ones last, because the large one may fail.
fn files(slot: Slot, manifest: &Manifest, head: Option<&HeadManifest>) -> Vec<Wanted> {
    let wanted = |what, artifact: &Artifact, chunk_bytes, delegation| Wanted {
        slot,
        what,
        artifact: artifact.clone(),
        chunk_bytes,
        delegation,
    };
    let own = |what, artifact: &Option<Artifact>| {
        artifact.as_ref().map(|artifact| wanted(what, artifact, manifest.chunk_bytes, None))
    };
    let head = match head {
        Some(head) => Some(wanted(What::Head, &head.file, head.chunk_bytes, manifest.delegation)),
        None => own(What::Head, &manifest.head),
    };
    let model = wanted(What::Model, &manifest.file, manifest.chunk_bytes, None);
    let beside = [head, own(What::Calibration, &manifest.calibration), own(What::Labels, &manifest.labels)];
    std::iter::once(model).chain(beside.into_iter().flatten()).collect()
}
