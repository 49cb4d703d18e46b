//! What this device runs, what it may run next, and how far that is: the one thing that must be on the disk before anything is
//! done about it. From it alone an agent that was killed at any moment knows what to load.
//!
//! Pure. The shell keeps it in a file; `mod.rs` moves it on.

use std::collections::BTreeMap;

use picket_shared::crypto::Digest;
use picket_shared::model::{HeadManifest, Manifest, RunningModel, TrialTerms};
use serde::{Deserialize, Serialize};

/// The version of the record that this build writes.
pub const RECORD_VERSION: u32 = 1;

/// One of the two places for a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Slot; 2] = [Slot::A, Slot::B];

    /// As files and messages call it.
    pub fn word(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }
}

/// Where a model lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// What the configuration says: always there to go back to.
    #[default]
    Factory,
    /// A release.
    Slot(Slot),
}

/// A release as it is in a slot, whole and looked over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// What the owner signed.
    pub manifest: Manifest,
    /// A head in the place of the manifest's own.
    pub head: Option<HeadManifest>,
}

impl Release {
    /// The digest of the head that belongs to it.
    pub fn head(&self) -> Option<Digest> {
        let own = self.manifest.head.as_ref().map(|artifact| artifact.sha256);
        self.head.as_ref().map(|head| head.file.sha256).or(own)
    }

    /// Whether both would do the same: the same files.
    pub fn is_like(&self, other: &Release) -> bool {
        let files = |of: &Release| {
            let Manifest { file, calibration, labels, .. } = &of.manifest;
            let beside = [calibration, labels].map(|artifact| artifact.as_ref().map(|artifact| artifact.sha256));
            (file.sha256, of.head(), beside)
        };
        files(self) == files(other)
    }

    /// As messages call it.
    pub fn running(&self) -> RunningModel {
        let Manifest { name, counter, file, .. } = &self.manifest;
        RunningModel { name: Some(name.clone()), counter: *counter, sha256: file.sha256, head: self.head() }
    }
}

/// How far a candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its files are fetched.
    Fetch,
    /// Its files are whole: it is tried beside the active one, in a process of its own.
    Trial,
    /// It is the active one, and the one before is gone back to where it does not last.
    Probation,
}

/// A candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// The assignment's number.
    pub number: u64,
    /// What it is; absent where the configuration's own model is gone back to.
    pub release: Option<Release>,
    /// How it is tried.
    pub trial: TrialTerms,
    /// Not to be tried before, seconds since 1970.
    pub not_before_s: u64,
    /// Where it lies.
    pub place: Place,
    /// How far it is.
    pub phase: Phase,
    /// How often it was begun to be loaded in this phase.
    pub attempts: u8,
}

/// How the last candidate ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The assignment's number.
    pub number: u64,
    /// What it was.
    pub model: Option<RunningModel>,
    /// Why it was not committed: a constant word, and a sentence.
    pub why: Option<(String, String)>,
    /// Whether it was refused before it was tried.
    pub refused: bool,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// What runs.
    pub active: Place,
    /// What ran before, until the active one has lasted.
    pub previous: Place,
    /// What is in the slots, whole.
    pub slots: BTreeMap<Slot, Release>,
    /// What is under way.
    pub work: Option<Work>,
    /// How the work before ended.
    pub last: Option<Ended>,
}

impl Default for Record {
    fn default() -> Self {
        let (active, previous) = Default::default();
        Record { version: RECORD_VERSION, active, previous, slots: BTreeMap::new(), work: None, last: None }
    }
}

impl Record {
    /// What is in a place; nothing in the factory's, which the configuration knows.
    pub fn release(&self, place: Place) -> Option<&Release> {
        match place {
            Place::Factory => None,
            Place::Slot(slot) => self.slots.get(&slot),
        }
    }

    /// A slot that is neither run nor gone back to.
    pub fn free(&self) -> Slot {
        let taken = [self.active, self.previous];
        let free = Slot::ALL.into_iter().find(|slot| !taken.contains(&Place::Slot(*slot)));
        // Outside a probation nothing is gone back to but what runs.
        free.unwrap_or(match self.active {
            Place::Slot(Slot::A) => Slot::B,
            _ => Slot::A,
        })
    }

    /// An agent starts. What it loads is [`Record::active`] afterwards; whether the record has changed, and so must be durable
    /// before that. A candidate that did not last is given up here, and each start of one on probation is an attempt.
    pub fn start(&mut self) -> bool {
        let before = self.clone();
        let whole = |record: &Record, place: Place| place == Place::Factory || record.release(place).is_some();
        if !whole(self, self.active) {
            self.active = if whole(self, self.previous) { self.previous } else { Place::Factory };
            self.end("model_slot", "the slot that it was to be loaded from is empty".into(), true);
            // It may be assigned again by the very same word.
            self.last.iter_mut().for_each(|last| last.number = 0);
        }
        if let Some(work) = self.work.as_mut().filter(|work| work.phase == Phase::Probation) {
            if work.attempts >= work.trial.attempts {
                let (starts, most) = (work.attempts, work.trial.attempts);
                let what = format!("it did not last: the agent began with it {starts} times, of at most {most}");
                self.go_back("model_crash", what);
            } else {
                work.attempts += 1;
            }
        }
        if self.active == Place::Factory {
            self.previous = Place::Factory;
        }
        *self != before
    }

    /// The active model could not be loaded; what is to be loaded in its place, if there is anything.
    pub fn failed_to_load(&mut self, why: &str) -> Option<Place> {
        match self.active {
            Place::Factory => None,
            Place::Slot(slot) => {
                self.go_back("model_load", format!("it could not be loaded: {why}"));
                if self.active == Place::Slot(slot) {
                    (self.active, self.previous) = (Place::Factory, Place::Factory);
                }
                Some(self.active)
            }
        }
    }

    /// The candidate runs; what ran before is remembered.
    pub fn switch(&mut self) {
        let work = self.work.as_mut().expect("only a candidate is switched to");
        (work.phase, work.attempts) = (Phase::Probation, 1);
        (self.previous, self.active) = (self.active, work.place);
    }

    /// The candidate has lasted.
    pub fn commit(&mut self) {
        let work = self.work.take().expect("only a candidate is committed");
        self.previous = self.active;
        self.last = Some(Ended {
            number: work.number,
            model: work.release.as_ref().map(Release::running),
            why: None,
            refused: false,
        });
    }

    /// The candidate has not: what ran before runs again.
    pub fn go_back(&mut self, word: &str, what: String) {
        self.active = self.previous;
        self.end(word, what, false);
    }

    /// The candidate is given up.
    pub fn end(&mut self, word: &str, what: String, refused: bool) {
        let (number, model) = match self.work.take() {
            Some(work) => (work.number, work.release.as_ref().map(Release::running)),
            None => (self.last.as_ref().map_or(0, |last| last.number), None),
        };
        self.last = Some(Ended { number, model, why: Some((word.to_owned(), what)), refused });
    }
}
