//! What people see of releases on their way: each rollout, and each station with what it runs. Derived, and never read back,
//! like everything of `crate::view`.

use serde::{Deserialize, Serialize};

use super::state::{ModelPhase, TrialFigures};
use crate::ids::{ModelName, NodeId, StationId};

/// How a rollout goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// Group after group.
    Running,
    /// A person stopped it for a while.
    Paused,
    /// Too much failed, and it waits for a person.
    Halted,
    /// A person ended it.
    Aborted,
    /// A later one took its place.
    Superseded,
    /// All have it, but for those that do not count.
    Done,
}

impl Course {
    /// As messages call it.
    pub fn word(self) -> &'static str {
        match self {
            Course::Running => "running",
            Course::Paused => "paused",
            Course::Halted => "halted",
            Course::Aborted => "aborted",
            Course::Superseded => "superseded",
            Course::Done => "done",
        }
    }
}

/// How far a station is in a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Its turn has not come.
    Waiting,
    /// A person holds it to what it runs.
    Pinned,
    /// It has been told, and has not begun.
    Assigned,
    /// It fetches the files.
    Fetching,
    /// It tries them, on stored frames, on live ones, and for the first half minute in their place.
    Trial,
    /// It runs the release.
    Committed,
    /// It tried the release, and went back to what it ran before.
    RolledBack,
    /// It refused the release before it tried it.
    Refused,
    /// Its trial saw too little to judge by; that does not count against the release.
    Unseen,
    /// It has been told, and is down; that does not count against the release.
    Unreachable,
    /// It was told something else since.
    Elsewhere,
}

/// Retained on `…/view/models`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelsView {
    /// Seconds since 1970 when it was made.
    pub time: f64,
    /// The newest rollouts, the newest first.
    pub rollouts: Vec<RolloutView>,
    /// Each node that has said anything of its models, or is assigned one.
    pub stations: Vec<StationModel>,
}

/// One rollout in [`ModelsView`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutView {
    /// Which one.
    pub number: u64,
    /// The model.
    pub model: ModelName,
    /// Which release of it.
    pub counter: u64,
    /// A head of the site's own.
    pub head: Option<u64>,
    /// When it was begun, seconds since 1970.
    pub begun: u64,
    /// How it goes.
    pub course: Course,
    /// Why, in a sentence; empty where it goes on.
    pub why: String,
    /// The group whose turn it is, counted from 0.
    pub group: u64,
    /// Every group, canaries first.
    pub groups: Vec<GroupView>,
}

/// One group in [`RolloutView`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// What people call it.
    pub name: String,
    /// Its members.
    pub members: u64,
    /// Those that run the release.
    pub committed: u64,
    /// Those that refused it or went back, and were not excused.
    pub failed: u64,
    /// Those that have not come to an end.
    pub pending: u64,
    /// Those that do not count: pinned, told something else, unreachable, or with too little to judge by.
    pub aside: u64,
}

/// One node in [`ModelsView`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StationModel {
    /// The node.
    pub node: NodeId,
    /// The station that it watches.
    pub station: StationId,
    /// A person holds it to what it runs.
    pub pinned: bool,
    /// What it runs; `own` where that is what its configuration names, nothing where it has not said.
    pub runs: Option<String>,
    /// What it is to run, in the same form; nothing where it was assigned nothing.
    pub assigned: Option<String>,
    /// How far it is with that, as it says.
    pub phase: Option<ModelPhase>,
    /// The newest rollout that it is in.
    pub rollout: Option<u64>,
    /// How far it is in that.
    pub stage: Option<Stage>,
    /// Share of the files that it has, 0 to 1, while it fetches them.
    pub fetched: Option<f64>,
    /// Why something does not run: a constant word.
    pub reason: Option<String>,
    /// The same in a sentence.
    pub detail: Option<String>,
    /// Its trial under way, or its last one.
    pub trial: Option<TrialFigures>,
}
