//! Which model a node runs, and with it everything that is to be believed together: TUF's snapshot and timestamp in one, and
//! Uptane's director. Only what is on the wire; what follows from it is `verify.rs`.

use serde::{Deserialize, Serialize};

use super::envelope::Envelope;
use crate::ids::{NodeId, StationId};
use crate::limits::{MODEL_ASSIGNMENT_BYTES_MAX, MODEL_ASSIGNMENT_LIFE_S, MODEL_ROOTS_MAX};
use crate::wire::Wire;

/// How a candidate is tried before it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrialTerms {
    /// Frames that it looks at beside the model that it replaces; 0 tries it on stored frames alone.
    pub shadow_frames: u32,
    /// How long that may take, in seconds; a camera that gives no frames ends it without a commit.
    pub shadow_s_max: u32,
    /// Least agreement with the model that it replaces, 0 to 1, where the site asks for more than the manifest.
    pub agreement_min: Option<f64>,
    /// How often it is loaded at most before it is given up, crashes and restarts included.
    pub attempts: u8,
}

/// On `…/model/assignment`: what one node runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// To whom.
    pub node: NodeId,
    /// For the station that it watches: a model is made for a place.
    pub station: StationId,
    /// Grows with each assignment of this site, also where only its time was renewed.
    pub number: u64,
    /// When it was said, seconds since 1970.
    pub issued_s: u64,
    /// From then on it is old news.
    pub expires_s: u64,
    /// Not to be begun before then; 0 is at once.
    pub not_before_s: u64,
    /// The version of the first of `roots`.
    pub root_from: u64,
    /// The newest roots, without a gap and in their order, each a [`super::Root`].
    pub roots: Vec<Envelope>,
    /// The release, a [`super::Manifest`]; absent where the node runs what its own configuration says.
    pub release: Option<Envelope>,
    /// A head in the place of the release's own, a [`super::HeadManifest`].
    pub head: Option<Envelope>,
    /// How it is tried.
    pub trial: TrialTerms,
    /// A head that the site learned, a [`super::LearnedManifest`]: beside whatever runs, and apart from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<Envelope>,
    /// The number that the release was said under, where only the learned head is news since: to who tries the release it is the
    /// same assignment still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_number: Option<u64>,
}

impl Default for TrialTerms {
    fn default() -> Self {
        TrialTerms { shadow_frames: 300, shadow_s_max: 900, agreement_min: None, attempts: 3 }
    }
}

impl TrialTerms {
    /// Whether they can be met; the error is a few words.
    pub fn check(&self) -> Result<(), String> {
        if self.attempts == 0 {
            return Err("a trial of no attempts".into());
        }
        match self.agreement_min {
            Some(least) if !(0.0..=1.0).contains(&least) => {
                Err(format!("a trial that asks for an agreement of {least}"))
            }
            _ => Ok(()),
        }
    }
}

impl Wire for Assignment {
    const BYTES_MAX: usize = MODEL_ASSIGNMENT_BYTES_MAX;
    /// Each of 32 roots and three manifests has sixteen signatures.
    const ITEMS_MAX: usize = 4096;

    fn check(&self) -> Result<(), String> {
        if self.roots.len() > MODEL_ROOTS_MAX {
            return Err(format!("{} roots, of at most {MODEL_ROOTS_MAX}", self.roots.len()));
        }
        if self.root_from == 0 || self.root_from.checked_add(self.roots.len() as u64).is_none() {
            return Err(format!("roots from version {}", self.root_from));
        }
        if self.number == 0 {
            return Err("an assignment without a number".into());
        }
        // Whoever has the orders key must not make one that never gets old.
        if self.expires_s.saturating_sub(self.issued_s) > MODEL_ASSIGNMENT_LIFE_S {
            return Err(format!("an assignment for longer than {MODEL_ASSIGNMENT_LIFE_S} s"));
        }
        self.trial.check()?;
        if self.release_number.is_some_and(|number| number == 0 || number > self.number) {
            return Err("a release of a later assignment".into());
        }
        let documents = self.roots.iter().chain(&self.release).chain(&self.head).chain(&self.learned);
        documents.into_iter().try_for_each(Envelope::check)
    }
}
