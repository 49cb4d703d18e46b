//! What people see of learning: the curve, who contributes, and what was done with each station's row. Derived, and never read
//! back, like everything of `crate::view`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lineage::LineageId;
use crate::ids::NodeId;
use crate::model::rollouts::{Course, Stage};

/// How the rows of all stations become one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mixing {
    /// Clipped and aged, each mixed with its nearest, the extremes of each coordinate left out: for a site without samples that
    /// persons confirmed, or with too few.
    #[default]
    Nnm,
    /// The same of those rows that do not point against what confirmed samples say.
    NnmGate,
    /// Clipped and aged, then the mean: where every station is trusted.
    Clip,
    /// The mean as it comes, for tests.
    Plain,
}

/// What became of a station's row at the last step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// No step was made since it came.
    #[default]
    Waiting,
    /// It counted.
    Used,
    /// It pointed against the confirmed samples.
    Gated,
    /// It began from too old a head.
    Old,
    /// A person took the station out of learning.
    Frozen,
}

/// Retained on `…/view/learning`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learning {
    /// Seconds since 1970 when it was made.
    pub time: f64,
    /// Of which heads.
    pub lineage: LineageId,
    /// The head's version.
    pub version: u64,
    /// The version of the last release.
    pub released: Option<u64>,
    /// Nothing is learned, because a person said so or a release was taken back.
    pub frozen: bool,
    /// Why, in a sentence; empty where nothing is.
    pub why: String,
    /// How rows are mixed now.
    pub mixing: Mixing,
    /// What the confirmed samples lack to be used, in a sentence; empty where nothing.
    pub root_lacks: String,
    /// Confirmed samples by class.
    pub root_samples: Vec<u32>,
    /// The curve, oldest first.
    pub curve: Vec<CurvePoint>,
    /// Each station that ever contributed, by its node.
    pub stations: Vec<LearnerView>,
    /// What was refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// The newest releases of the head, the newest first; none where none are made.
    #[serde(default)]
    pub releases: Vec<ReleaseView>,
}

/// One release of the head in [`Learning`], and what it did to each station.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseView {
    /// The head's version.
    pub version: u64,
    /// The release that a person went back to, where one did.
    pub revert_of: Option<u64>,
    /// When its rollout was begun, seconds since 1970.
    pub time: f64,
    /// How that goes.
    pub course: Course,
    /// Why, in a sentence; empty where it goes on.
    pub why: String,
    /// Each station that is to have it, canaries first.
    pub stations: Vec<ReleaseStation>,
}

/// One station in [`ReleaseView`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseStation {
    /// Its node.
    pub node: NodeId,
    /// It tries it before others do.
    pub canary: bool,
    /// How far it is: `committed` judges by it, `rolled_back` found that it loses, `unseen` keeps what it has for now, `why` says why.
    pub outcome: Stage,
    /// Examples of its own that it was compared on, of which it never learned; 0 before.
    pub samples: u64,
    /// The mean of its loss on them less that of what the station judged by before: below zero it is better.
    pub difference: Option<f32>,
    /// The standard error of that mean.
    pub error: Option<f32>,
    /// Why it does not judge by it, in a sentence.
    pub why: Option<String>,
}

/// One point of the curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Seconds since 1970.
    pub time: f64,
    /// The head's version.
    pub version: u64,
    /// Rows that counted in the step.
    pub rows: u32,
    /// The length of the step.
    pub step: f32,
    /// The mean loss over the newest samples that the stations said before their own steps.
    pub loss: f32,
    /// The share of the confirmed samples kept for this that the head takes for what they are; nothing without them.
    pub canary: Option<f32>,
}

/// One station in [`Learning`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearnerView {
    /// Its node.
    pub node: NodeId,
    /// Updates taken.
    pub updates: u64,
    /// Those that came again or too late.
    pub repeated: u64,
    /// Versions since the head that its row began from.
    pub age: u64,
    /// The row's length.
    pub norm: f32,
    /// What it was multiplied by, to be no longer than the median: 1 where it was not.
    pub clip: f32,
    /// The cosine of the angle to what the confirmed samples say; nothing without them.
    pub gate: Option<f32>,
    /// What became of it.
    pub fate: Fate,
    /// The loss that it last said before its local steps.
    pub loss: f32,
}
