//! What became of released heads on this device: the one that is judged by, the newest that came, and which were good enough here
//! before. It is a part of what is kept, so that what was committed or refused stays so. Pure; who compares heads is `student`.

use picket_shared::crypto::Digest;
use picket_shared::model::{LearnedState, ModelPhase};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::lesson::Comparison;
use super::record::{bytes_of, numbers_of};

/// Heads that were good enough here, of which one may come back: the coordinator keeps no more to go back to.
const PROVEN_MAX: usize = 8;
/// It loses on this station's own held-out examples.
const LOST: &str = "model_learned_lost";
/// There are too few of those to tell.
const UNSEEN: &str = "model_learned_unseen";

/// What a device decided about a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// What is held out does not tell, because it is too little or speaks for both, or tells only that the own part is better.
    Waits,
    /// It is judged by.
    Taken,
    /// It loses, to the release before it too.
    Lost,
}

/// The newest release that came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its version.
    pub version: u64,
    /// Its numbers; none once it is decided.
    pub head: ByteBuf,
    /// A person went back to it.
    pub is_revert: bool,
    /// What was decided.
    pub verdict: Verdict,
    /// Examples that it was compared on; 0 where it was not.
    pub samples: u64,
    /// The mean difference of the losses, below zero where it is better.
    pub difference: f32,
    /// Its standard error.
    pub error: f32,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Released {
    /// The site releases its heads, and no other is judged by.
    pub is_on: bool,
    /// The version of the release that is judged by; 0 where by none yet.
    pub version: u64,
    /// Its numbers; none where by none.
    pub head: ByteBuf,
    /// The newest that came.
    pub trial: Option<Trial>,
    /// The digests of heads that were good enough here, the newest last.
    pub proven: Vec<Digest>,
}

impl Released {
    /// What an earlier run kept, where its heads have so many numbers.
    pub fn restore(kept: Option<Released>, parameters: usize) -> Released {
        let whole = |head: &ByteBuf| numbers_of(head, parameters).is_some();
        let fits = |kept: &Released| {
            let waits = kept.trial.as_ref().filter(|trial| trial.verdict == Verdict::Waits);
            (kept.version == 0 || whole(&kept.head)) && waits.is_none_or(|trial| whole(&trial.head))
        };
        kept.filter(fits).unwrap_or_default()
    }

    /// The head that the station's own part is added to, where releases are judged by.
    pub fn base(&self, beginning: Vec<f32>) -> Vec<f32> {
        numbers_of(&self.head, beginning.len()).filter(|_| self.version > 0).unwrap_or(beginning)
    }

    /// A release has come, for whom it is news; whether it was.
    pub fn hear(&mut self, version: u64, head: &[f32], is_revert: bool) -> bool {
        self.is_on = true;
        if self.trial.as_ref().is_some_and(|trial| trial.version >= version) {
            return false;
        }
        let (head, verdict) = (bytes_of(head), Verdict::Waits);
        let (samples, difference, error) = (0, 0.0, 0.0);
        self.trial = Some(Trial { version, head, is_revert, verdict, samples, difference, error });
        true
    }

    /// The newest, while nothing is decided.
    fn undecided(&self) -> Option<&Trial> {
        self.trial.as_ref().filter(|trial| self.is_on && trial.verdict == Verdict::Waits)
    }

    /// Whether something is to be decided.
    pub fn is_undecided(&self) -> bool {
        self.undecided().is_some()
    }

    /// The numbers of what is to be decided.
    pub fn candidate(&self, parameters: usize) -> Option<Vec<f32>> {
        numbers_of(&self.undecided()?.head, parameters)
    }

    /// Whether a person went back to a head that was good enough here once: that needs no new verdict. One that never was is judged
    /// as any other, whoever says that he goes back to it.
    pub fn is_known_revert(&self) -> bool {
        let trial = self.trial.as_ref().filter(|trial| trial.is_revert);
        trial.is_some_and(|trial| self.proven.contains(&Digest::of(&trial.head)))
    }

    /// What was decided about the newest, by this comparison where there was one; that nothing was yet, too.
    pub fn decide(&mut self, verdict: Verdict, by: Option<Comparison>) {
        let Some(trial) = &mut self.trial else { return };
        trial.verdict = verdict;
        if let Some(Comparison { samples, difference, error, .. }) = by {
            (trial.samples, trial.difference, trial.error) = (samples as u64, difference, error);
        }
        if verdict == Verdict::Waits {
            return;
        }
        let head = std::mem::take(&mut trial.head);
        if verdict == Verdict::Taken {
            let digest = Digest::of(&head);
            (self.version, self.head) = (trial.version, head);
            self.proven.retain(|known| *known != digest);
            self.proven.push(digest);
            self.proven.drain(..self.proven.len().saturating_sub(PROVEN_MAX));
        }
    }

    /// Whether what is judged by is what a person went back to.
    pub fn is_ordered(&self) -> bool {
        let ordered =
            |trial: &Trial| trial.is_revert && trial.verdict == Verdict::Taken && trial.version == self.version;
        self.is_on && self.trial.as_ref().is_some_and(ordered)
    }

    /// Nothing speaks any more for what is judged by. Where that is the newest release, it is undecided again.
    pub fn give_up(&mut self) {
        let (version, head) = (std::mem::take(&mut self.version), std::mem::take(&mut self.head));
        let taken = |trial: &&mut Trial| trial.verdict == Verdict::Taken && trial.version == version;
        if let Some(trial) = self.trial.as_mut().filter(taken) {
            (trial.verdict, trial.head, trial.samples) = (Verdict::Waits, head, 0);
        }
    }

    /// What the coordinator is told.
    pub fn state(&self, backbone: Digest, judges: bool) -> LearnedState {
        let trial = self.trial.as_ref();
        let (phase, reason, detail) = match trial.map(|trial| (trial, trial.verdict)) {
            None | Some((_, Verdict::Taken)) => (ModelPhase::Idle, None, None),
            Some((Trial { samples, difference, error, .. }, Verdict::Waits)) => {
                let what = match samples {
                    0 => "too few examples are held out to compare it; label more events".to_owned(),
                    _ if difference > error => {
                        format!(
                            "it loses {difference:.4} ± {error:.4} on {samples} examples to what this station learned of its own, and not \
                             to the release before it"
                        )
                    }
                    _ => format!(
                        "{difference:.4} ± {error:.4} on {samples} held-out examples do not tell; label more events"
                    ),
                };
                (ModelPhase::Waiting, Some(UNSEEN), Some(what))
            }
            Some((Trial { samples, difference, error, .. }, Verdict::Lost)) => {
                let what = format!("it loses {difference:.4} ± {error:.4} on {samples} examples of this station's own");
                (ModelPhase::RolledBack, Some(LOST), Some(what))
            }
        };
        let compared = trial.filter(|trial| trial.samples > 0);
        LearnedState {
            backbone,
            version: trial.map_or(0, |trial| trial.version),
            phase,
            used: self.version,
            judges,
            reason: reason.map(Into::into),
            detail,
            samples: compared.map_or(0, |trial| trial.samples),
            difference: compared.map(|trial| trial.difference),
            error: compared.map(|trial| trial.error),
        }
    }
}
