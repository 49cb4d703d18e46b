//! What a rollout brings: a release of a model that the owner signed, or a head that the site learned; and how far a node is with it,
//! by what it says of itself. Pure.

use picket_shared::crypto::Digest;
use picket_shared::model::rollouts::Stage;
use picket_shared::model::{LearnedState, ModelPhase, ModelState, TrialTerms};
use serde::{Deserialize, Serialize};

use super::record::{LearnedRef, ReleaseRef};
use super::rollout::Seen;

/// Why a device refuses an assignment before it has taken in its number.
const BEFORE_ITS_NUMBER: [&str; 3] = ["model_station", "model_root_missing", "model_unsigned"];
/// A trial that saw too little to judge by: nobody's fault.
const UNSEEN: &str = "model_trial_unseen";

/// What it brings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Goal {
    /// A release of a model.
    Release(ReleaseGoal),
    /// A head that was learned.
    Learned(LearnedGoal),
}

/// A release of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseGoal {
    /// The release.
    pub release: ReleaseRef,
    /// A head of the site's own in the place of the release's, by its counter.
    pub head: Option<u64>,
    /// The ONNX file, by which it is known that a device runs it.
    pub file: Digest,
    /// The head's file, where there is one.
    pub head_file: Option<Digest>,
    /// How it is tried.
    pub trial: TrialTerms,
}

/// A head that was learned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedGoal {
    /// Which one.
    pub learned: LearnedRef,
    /// The release that a person went back to, where one did.
    pub revert_of: Option<u64>,
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Goal::Release(goal) => goal.release.fmt(f),
            Goal::Learned(goal) => goal.learned.fmt(f),
        }
    }
}

impl Goal {
    /// The learned head, where it is one.
    pub fn learned(&self) -> Option<&LearnedGoal> {
        if let Goal::Learned(goal) = self { Some(goal) } else { None }
    }

    /// The release of a model, where it is one.
    pub fn release(&self) -> Option<&ReleaseGoal> {
        if let Goal::Release(goal) = self { Some(goal) } else { None }
    }

    /// Whether both bring the same kind of thing, so that the later one takes the earlier one's place.
    pub(super) fn competes_with(&self, other: &Goal) -> bool {
        self.learned().is_some() == other.learned().is_some()
    }

    /// Whether the node was told something else since.
    pub(super) fn is_elsewhere(&self, seen: &Seen<'_>) -> bool {
        match self {
            Goal::Release(goal) => seen
                .wish
                .is_some_and(|(wish, _)| wish.release.as_ref() != Some(&goal.release) || wish.head != goal.head),
            Goal::Learned(goal) => seen.learned.is_some_and(|learned| *learned != goal.learned),
        }
    }

    /// How far a node is that was told under this number, when it had last spoken at that time.
    pub(super) fn stage(&self, number: u64, heard_s: u64, report: &ModelState) -> Stage {
        match self {
            Goal::Release(goal) => goal.stage(number, heard_s, report),
            Goal::Learned(goal) => goal.stage(number, report),
        }
    }

    /// Why it does not run there, as the node says.
    pub(super) fn why<'a>(&self, report: &'a ModelState) -> (Option<&'a String>, Option<&'a String>) {
        match (self, &report.learned) {
            (Goal::Release(_), _) => (report.reason.as_ref(), report.detail.as_ref()),
            (Goal::Learned(_), Some(state)) => (state.reason.as_ref(), state.detail.as_ref()),
            (Goal::Learned(_), None) => (None, None),
        }
    }
}

impl ReleaseGoal {
    fn stage(&self, number: u64, heard_s: u64, report: &ModelState) -> Stage {
        let runs = report.active.as_ref().is_some_and(|active| {
            active.sha256 == self.file && (self.head_file.is_none() || active.head == self.head_file)
        });
        let word = report.reason.as_deref().unwrap_or("");
        match report.phase {
            // An order that was not even taken in has no number in what is said of it.
            ModelPhase::Refused if report.assignment < number => {
                let of_this = report.time > heard_s && BEFORE_ITS_NUMBER.contains(&word);
                if of_this { Stage::Refused } else { Stage::Assigned }
            }
            _ if report.assignment < number => Stage::Assigned,
            ModelPhase::Idle if runs => Stage::Committed,
            ModelPhase::Idle | ModelPhase::Waiting => Stage::Assigned,
            ModelPhase::Fetching | ModelPhase::Checking => Stage::Fetching,
            ModelPhase::Loading | ModelPhase::Trial | ModelPhase::Switching | ModelPhase::Probation => Stage::Trial,
            ModelPhase::RolledBack if word == UNSEEN => Stage::Unseen,
            ModelPhase::RolledBack => Stage::RolledBack,
            ModelPhase::Refused => Stage::Refused,
        }
    }
}

impl LearnedGoal {
    fn stage(&self, number: u64, report: &ModelState) -> Stage {
        let Some(state) = report.learned.as_ref().filter(|_| report.assignment >= number) else {
            return match report.learned {
                // It learns no more, and has nothing to judge a head by.
                None if report.assignment >= number => Stage::Unseen,
                _ => Stage::Assigned,
            };
        };
        let of_this = state.version == self.learned.version;
        match state.phase {
            // What cannot be read has no version in what is said of it.
            ModelPhase::Refused if of_this || state.version == 0 => Stage::Refused,
            _ if !of_this => Stage::Assigned,
            ModelPhase::Idle => Stage::Committed,
            ModelPhase::Waiting => Stage::Unseen,
            ModelPhase::RolledBack => Stage::RolledBack,
            _ => Stage::Fetching,
        }
    }

    /// What the node's comparison was, where it was of this head.
    pub(super) fn figures<'a>(&self, report: &'a ModelState) -> Option<&'a LearnedState> {
        report.learned.as_ref().filter(|state| state.version == self.learned.version && state.samples > 0)
    }
}
