//! Learned heads in the registry: the learner's releases with their files, which of them a node is assigned, and the rollouts that
//! bring them to the stations: a few that try one first, and then all others. Every file is whole or not there, and a step that was
//! cut off is done again at the next turn.
//!
//! It learns nothing and judges nothing: a station commits a head, or does not, by its own held-out examples.

use std::collections::BTreeMap;

use picket_shared::crypto::{Digest, SecretKey, sha256};
use picket_shared::ids::{NodeId, StationId};
use picket_shared::keyfile::{self, KeyfileError};
use picket_shared::learn::lineage::{Lineage, LineageId};
use picket_shared::limits::MODEL_CHUNK_BYTES_MAX;
use picket_shared::model::rollouts::Course;
use picket_shared::model::{Artifact, Document, Encoding, Envelope, LearnedManifest, TrialTerms, coding};

use super::goal::{Goal, LearnedGoal};
use super::record::{LearnedRef, Record, Wish};
use super::registry::{News, Registry, RegistryError, refused};
use super::rollout::{Group, Rollout, Schedule, Terms};
use super::step::{Step, step};
use crate::learn::learner::Release;
use crate::learn::record::bytes_of;

/// Heads of one lineage that are kept: the newest, and those that somebody is still assigned.
pub const HEADS_MAX: usize = 16;
/// Rollouts of heads that are kept; the oldest of those that are over goes.
pub const ROLLOUTS_MAX: usize = 8;
/// A rollout that is not through after so long gives way to a newer head: somebody never comes to an end with it.
pub const PATIENCE_S: u64 = 600;
/// It does after so long where all were asked and nobody can tell, or be reached.
pub const SILENCE_S: u64 = 60;
/// Of so many stations one tries a head before all others.
const CANARY_ONE_OF: usize = 10;
/// Half of a group must take a head, and not much more than a third may find that it loses: stations differ, and one that loses keeps
/// what it has.
const TERMS: Terms = Terms { success_min: 0.5, failures_max: 0.34, sample_min: 3, soak_s: 0 };

/// A station that learns what is released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learner {
    /// Its node.
    pub node: NodeId,
    /// The station.
    pub station: StationId,
    /// It can compare heads.
    pub judges: bool,
}

/// A head as it is offered: its file, and what travels instead where the one before is known.
struct Offer {
    artifact: Artifact,
    file: Vec<u8>,
    delta: Option<Vec<u8>>,
}

impl Registry {
    /// Takes a release of the learner, where it is newer than all that are here; whether it was.
    pub fn take_learned(&self, release: &Release) -> Result<bool, RegistryError> {
        let _lock = self.lock()?;
        let id = release.lineage.id();
        let newest = self.newest_learned(id)?;
        if newest.as_ref().is_some_and(|newest| newest.counter >= release.version) {
            return Ok(false);
        }
        let Offer { artifact, file, delta } = self.offer(release, newest)?;
        let manifest = LearnedManifest {
            lineage: release.lineage.clone(),
            counter: release.version,
            // It is good for as long as the assignment that it is said with.
            expires_s: 0,
            chunk_bytes: MODEL_CHUNK_BYTES_MAX as u32,
            revert_of: release.revert_of,
            file: artifact,
        };
        manifest.check().or_else(|what| refused(format!("head {} is not released: {what}", release.version)))?;
        manifest
            .numbers(&file)
            .or_else(|refusal| refused(format!("head {} is not released: {refusal}", release.version)))?;
        for bytes in [Some(file), delta].into_iter().flatten() {
            self.put_blob(&Digest::of(&bytes), &mut &bytes[..])?;
        }
        keyfile::make_dir(&self.at(&folder(id)))?;
        let json = serde_json::to_vec(&manifest).expect("numbers and texts");
        keyfile::write_open(&self.at(&path(id, release.version)), &json)?;
        self.forget_learned(id)?;
        self.note_change()?;
        Ok(true)
    }

    /// How a release is fetched: whole, and by who has the newest one before it as a step from that. What is gone back to is the same
    /// file again, so that who took it before knows it.
    fn offer(&self, release: &Release, newest: Option<LearnedManifest>) -> Result<Offer, RegistryError> {
        let read = |of: &LearnedManifest| std::fs::read(self.blob(&of.file.sha256)?).ok();
        let lineage = release.lineage.id();
        if let Some(version) = release.revert_of
            && let Some(file) = self.learned(LearnedRef { lineage, version })?.as_ref().and_then(read)
        {
            return Ok(Offer { artifact: Artifact::plain(&file), file, delta: None });
        }
        let newest = newest.and_then(|newest| Some((newest.file.sha256, read(&newest)?)));
        let step = newest.and_then(|(from, before)| Some((from, step(&before, &release.head)?)));
        let Some((from, Step { file, delta })) = step else {
            let file = bytes_of(&release.head).into_vec();
            return Ok(Offer { artifact: Artifact::plain(&file), file, delta: None });
        };
        let mut artifact = Artifact::plain(&file);
        let (sha256, length) = (Digest::of(&delta), delta.len() as u64);
        artifact.encodings.push(Encoding { coding: coding::DELTA.into(), from: Some(from), sha256, length });
        Ok(Offer { artifact, file, delta: Some(delta) })
    }

    /// A head, if it is here.
    pub fn learned(&self, of: LearnedRef) -> Result<Option<LearnedManifest>, RegistryError> {
        let path = self.at(&path(of.lineage, of.version));
        let text = match keyfile::read_open(&path) {
            Err(KeyfileError::Missing(_)) => return Ok(None),
            text => text?,
        };
        let read = serde_json::from_str::<LearnedManifest>(&text).map_err(|error| error.to_string());
        let checked = read.and_then(|manifest| manifest.check().map(|()| manifest));
        checked.map(Some).map_err(|error| self.damaged(&path, error))
    }

    /// The newest of a lineage.
    pub fn newest_learned(&self, lineage: LineageId) -> Result<Option<LearnedManifest>, RegistryError> {
        match self.numbers(&folder(lineage))?.last() {
            Some(&version) => self.learned(LearnedRef { lineage, version }),
            None => Ok(None),
        }
    }

    /// Every head that is here.
    pub(super) fn all_learned(&self) -> Result<Vec<LearnedManifest>, RegistryError> {
        let mut found = Vec::new();
        for lineage in self.names("learned")?.iter().filter_map(|name| name.parse::<LineageId>().ok()) {
            for version in self.numbers(&folder(lineage))? {
                found.extend(self.learned(LearnedRef { lineage, version })?);
            }
        }
        Ok(found)
    }

    /// The head as an assignment has it, until then; nothing where it is not here any more, which holds up no release.
    pub(super) fn signed_learned(
        &self,
        of: LearnedRef,
        expires_s: u64,
        orders: &SecretKey,
    ) -> Result<Option<Envelope>, RegistryError> {
        let Some(manifest) = self.learned(of)? else { return Ok(None) };
        let mut envelope = Envelope::of(&LearnedManifest { expires_s, ..manifest }).or_else(refused)?;
        envelope.sign::<LearnedManifest>(orders);
        Ok(Some(envelope))
    }

    /// Assigns a node a head, whatever else it runs, for who has the lock; under a new number, where it is to be said `anew`.
    pub(super) fn assign_learned(
        &self,
        node: NodeId,
        station: StationId,
        of: LearnedRef,
        anew: bool,
        now_s: u64,
    ) -> Result<Record, RegistryError> {
        if self.learned(of)?.is_none() {
            return refused(format!("{of} is not here any more"));
        }
        let before = self.record(&node)?;
        if let Some(record) = before.as_ref().filter(|record| record.learned == Some(of) && !anew) {
            return Ok(record.clone());
        }
        self.check_room(before.as_ref())?;
        let wish_number = before.as_ref().map(|record| record.wish_number.unwrap_or(record.number));
        let own = Wish { station, release: None, head: None, trial: TrialTerms::default(), not_before_s: 0 };
        let wish = before.map_or(own, |record| record.wish);
        self.write_record(node, News { wish, learned: Some(of), wish_number }, now_s)
    }

    /// Begins the rollout of the newest head where its time has come, and takes those in who came later; nothing where the command
    /// line is at work here, and that comes later. `canaries` are the stations that try it first, where the site names some.
    pub fn turn_learned(
        &self,
        lineage: &Lineage,
        canaries: &[StationId],
        learners: &[Learner],
        now_s: u64,
    ) -> Result<(), RegistryError> {
        let Some(_lock) = self.try_lock()? else { return Ok(()) };
        let id = lineage.id();
        let Some(newest) = self.newest_learned(id)? else { return Ok(()) };
        let mut rollouts = self.rollouts()?;
        let last = rollouts.iter_mut().rev().find_map(|rollout| {
            let version = rollout.goal.learned().filter(|goal| goal.learned.lineage == id)?.learned.version;
            Some((version, rollout))
        });
        match last {
            Some((version, rollout)) if version == newest.counter => {
                let was = rollout.members.len();
                if rollout.course != Course::Superseded {
                    learners.iter().for_each(|one| rollout.join(now_s, one.node.clone(), one.station.clone()));
                }
                if rollout.members.len() != was { self.write_rollout(rollout) } else { Ok(()) }
            }
            // Going back is urgent; whatever else is new waits until what is under way has come to its end.
            Some((_, rollout)) if newest.revert_of.is_none() && is_under_way(rollout, now_s) => Ok(()),
            _ => self.begin_learned(&newest, canaries, learners, (now_s, &mut rollouts)),
        }
    }

    fn begin_learned(
        &self,
        manifest: &LearnedManifest,
        canaries: &[StationId],
        learners: &[Learner],
        (now_s, before): (u64, &mut [Rollout]),
    ) -> Result<(), RegistryError> {
        let pins = self.pins()?;
        let (held, mut free): (Vec<&Learner>, Vec<&Learner>) =
            learners.iter().partition(|learner| pins.contains(&learner.station));
        if free.is_empty() {
            return Ok(());
        }
        let learned = LearnedRef { lineage: manifest.lineage.id(), version: manifest.counter };
        // Who can judge goes first, and each time others do.
        free.sort_by_key(|learner| (!learner.judges, drawn(manifest.counter, &learner.node)));
        let named = |learner: &&&Learner| canaries.contains(&learner.station);
        let first: Vec<&Learner> = match manifest.revert_of {
            // All at once: a person saw what no held-out example shows.
            Some(_) => free.clone(),
            None if free.iter().any(|learner| canaries.contains(&learner.station)) => {
                free.iter().filter(named).copied().collect()
            }
            None => free[..free.len().div_ceil(CANARY_ONE_OF)].to_vec(),
        };
        let others = free.iter().chain(&held).filter(|learner| !first.contains(learner)).copied();
        let group = |name: &str, nodes: Vec<&Learner>| Group {
            name: name.into(),
            nodes: nodes.into_iter().map(|learner| learner.node.clone()).collect(),
        };
        let name = if manifest.revert_of.is_some() { "everyone" } else { "canary" };
        let groups = [group(name, first.clone()), group("others", others.collect())];
        let groups = groups.into_iter().filter(|group| !group.nodes.is_empty()).collect();
        let goal = Goal::Learned(LearnedGoal { learned, revert_of: manifest.revert_of });
        let number = before.last().map_or(0, |last| last.number) + 1;
        let stations: BTreeMap<&NodeId, &StationId> =
            learners.iter().map(|learner| (&learner.node, &learner.station)).collect();
        let station_of = |node: &NodeId| stations[node].clone();
        let rollout = Rollout::new((number, now_s), goal, groups, (TERMS, Schedule::default()), station_of);
        let rollout = rollout.or_else(refused)?;
        self.make_room(before, |goal| goal.learned().is_some(), ROLLOUTS_MAX)?;
        self.begin(&rollout, before)
    }

    /// Removes heads that nobody is assigned and no rollout brings, but for the newest, and files that nothing names.
    fn forget_learned(&self, lineage: LineageId) -> Result<(), RegistryError> {
        let versions = self.numbers(&folder(lineage))?;
        let old = &versions[..versions.len().saturating_sub(HEADS_MAX)];
        if old.is_empty() {
            return Ok(());
        }
        let assigned = self.records()?.into_iter().filter_map(|record| record.learned);
        let brought =
            self.rollouts()?.into_iter().filter_map(|rollout| rollout.goal.learned().map(|goal| goal.learned));
        let named: Vec<LearnedRef> = assigned.chain(brought).collect();
        for &version in old.iter().filter(|version| !named.contains(&LearnedRef { lineage, version: **version })) {
            keyfile::remove(&self.at(&path(lineage, version)))?;
        }
        self.sweep()
    }
}

/// Whether a newer head waits for it.
fn is_under_way(rollout: &Rollout, now_s: u64) -> bool {
    match rollout.course {
        Course::Running => now_s < rollout.begun_s + if rollout.tells() { PATIENCE_S } else { SILENCE_S },
        Course::Paused => true,
        Course::Halted | Course::Aborted | Course::Superseded | Course::Done => false,
    }
}

/// The same for the same head and node, and otherwise like chance.
fn drawn(version: u64, node: &NodeId) -> Digest {
    Digest(sha256(format!("picket canary v1\n{version}\n{node}\n").as_bytes()))
}

fn folder(lineage: LineageId) -> String {
    format!("learned/{lineage}")
}

fn path(lineage: LineageId, version: u64) -> String {
    format!("learned/{lineage}/{version}.json")
}
