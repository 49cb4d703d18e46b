//! What a node says of its models, as JSON: what it runs, fetches and tries, and why not. People and rollouts read it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::crypto::Digest;
use crate::ids::ModelName;

/// How far a node is with its assignment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelPhase {
    /// There is nothing to do: it runs what it should, or was assigned nothing.
    #[default]
    Idle,
    /// Pieces are fetched.
    Fetching,
    /// The files are whole, and are looked over.
    Checking,
    /// It waits for the time that the assignment says.
    Waiting,
    /// The candidate is loaded, or its engine built.
    Loading,
    /// It looks at frames beside the model that it would replace.
    Trial,
    /// It was good enough, and is loaded for the cameras.
    Switching,
    /// It runs, and is given up where it does not last.
    Probation,
    /// The assignment was refused, with the reason.
    Refused,
    /// The candidate was given up, with the reason, and the model before runs.
    RolledBack,
}

/// A model on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningModel {
    /// Its name; absent where it is the configuration's own and no release.
    pub name: Option<ModelName>,
    /// Which release; 0 where it is none.
    pub counter: u64,
    /// The ONNX file.
    pub sha256: Digest,
    /// The head in effect, where there is one.
    pub head: Option<Digest>,
}

/// One of the two places for a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotState {
    /// `a` or `b`.
    pub slot: String,
    /// `empty`, `fetching`, `staged`, `trial`, `active`, `previous` or `bad`.
    pub state: String,
    /// What is in it.
    pub model: Option<RunningModel>,
    /// How often it was begun to be loaded.
    pub attempts: u8,
}

/// How a trial goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialFigures {
    /// Frames that both models have seen.
    pub frames: u64,
    /// Frames that they shall see.
    pub frames_wanted: u64,
    /// Agreement of their boxes so far, 0 to 1.
    pub agreement: f64,
    /// Mean difference of their counts in a frame.
    pub count_off_mean: f64,
    /// Mean time of the candidate for a frame.
    pub inference_ms: f64,
    /// The same of the model that it would replace.
    pub inference_ms_before: f64,
}

/// How a node is with the heads that its site learned and released. `phase` is `idle` where it judges by that version or was
/// assigned none, `fetching`, `waiting` for held-out examples to compare it on, `rolled_back` where it loses on them, or `refused`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearnedState {
    /// The file of the network that it learns over.
    pub backbone: Digest,
    /// The release that this is about; 0 where it was assigned none.
    pub version: u64,
    /// How far it is with that.
    pub phase: ModelPhase,
    /// The release that it judges by; 0 where by none.
    pub used: u64,
    /// It has enough held-out examples to compare heads by.
    pub judges: bool,
    /// Why it does not judge by it: a constant word.
    pub reason: Option<String>,
    /// The same in a sentence.
    pub detail: Option<String>,
    /// Held-out examples that it was compared on; 0 where it was not.
    pub samples: u64,
    /// The mean of its loss on them less that of what was judged by: below zero it is better.
    pub difference: Option<f32>,
    /// The standard error of that mean.
    pub error: Option<f32>,
}

/// Retained on `…/model/state`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelState {
    /// Seconds since 1970.
    pub time: u64,
    /// How far it is.
    pub phase: ModelPhase,
    /// What it runs.
    pub active: Option<RunningModel>,
    /// What it may run next.
    pub candidate: Option<RunningModel>,
    /// Bytes of the candidate's files that are here.
    pub bytes: u64,
    /// Bytes that they have.
    pub bytes_wanted: u64,
    /// The two places.
    pub slots: Vec<SlotState>,
    /// The trial under way, or the last one.
    pub trial: Option<TrialFigures>,
    /// Between the last frame that the model before looked at and the first one of what runs now, where it was changed since the
    /// agent began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap_gap_ms: Option<f64>,
    /// Why something was refused or given up, or that the news has stopped: a constant word.
    pub reason: Option<String>,
    /// The same in a sentence.
    pub detail: Option<String>,
    /// The version of the root that it knows; 0 where it knows none.
    pub root: u64,
    /// The number of the last assignment that it took in.
    pub assignment: u64,
    /// The highest release that it was told of, of each model.
    pub counters: BTreeMap<ModelName, u64>,
    /// How it is with released heads; absent where it does not learn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<LearnedState>,
}
