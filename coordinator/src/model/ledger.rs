//! Rollouts in the registry: a file for each of them, the stations that are pinned, and one turn of all rollouts that are open.
//! Every file is whole or not there; who is killed between two of them comes to the same end the next time, because assigning the
//! same again changes nothing, and whose place a later rollout took is found out anew at each turn.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};

use picket_shared::ids::{NodeId, StationId};
use picket_shared::keyfile::{self, KeyfileError};
use picket_shared::limits::NODES_MAX;
use picket_shared::model::{ModelState, TrialTerms};

use super::record::{Record, ReleaseRef};
use super::registry::{Registry, RegistryError, disk, refused};
use super::rollout::{Goal, Group, ReleaseGoal, Rollout, Schedule, Seen, Terms};

/// Rollouts that are kept; the oldest of those that are over goes.
pub const ROLLOUTS_MAX: usize = 32;
/// Nodes that are told in one turn: each costs the disk a few syncs, and the coordinator has other things to do.
const TURN_MAX: usize = 16;
/// One rollout's file: a thousand members of some hundred bytes, and a sentence of each that failed.
const ROLLOUT_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// What a person says of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Tell nobody for a while.
    Pause,
    /// Go on, and excuse what failed.
    Resume,
    /// Tell nobody any more.
    Abort,
}

/// What is known of a node beside the registry.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// What it last said of its models.
    pub report: Option<&'a ModelState>,
    /// It is not down.
    pub reachable: bool,
}

/// What a rollout is begun with.
#[derive(Debug, Clone)]
pub struct Start {
    /// The release.
    pub release: ReleaseRef,
    /// A head in the place of its own.
    pub head: Option<u64>,
    /// How it is tried.
    pub trial: TrialTerms,
    /// To whom.
    pub groups: Vec<Group>,
    /// When the next group's turn comes.
    pub terms: Terms,
    /// When anybody may be told.
    pub schedule: Schedule,
    /// The station of each node.
    pub stations: BTreeMap<NodeId, StationId>,
}

/// How everything stands after a turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Turned {
    /// Every rollout that is kept, the oldest first.
    pub rollouts: Vec<Rollout>,
    /// What each node is assigned, by node.
    pub records: Vec<Record>,
    /// Stations that are held to what they run.
    pub pins: BTreeSet<StationId>,
}

impl Registry {
    /// Every rollout that is kept, the oldest first.
    pub fn rollouts(&self) -> Result<Vec<Rollout>, RegistryError> {
        self.numbers("rollouts")?.into_iter().map(|number| self.rollout(number)).collect()
    }

    /// One of them.
    pub fn rollout(&self, number: u64) -> Result<Rollout, RegistryError> {
        let path = self.at(&format!("rollouts/{number}.json"));
        let mut text = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(ROLLOUT_BYTES_MAX + 1).read_to_end(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                refused(format!("there is no rollout {number}; `picket-coordinator model rollout status` names them"))
            }
            Err(error) => Err(disk(&path, &error)),
            Ok(_) if text.len() as u64 > ROLLOUT_BYTES_MAX => {
                let what = format!("has more than {ROLLOUT_BYTES_MAX} bytes; is it the right file?");
                Err(KeyfileError::Content(path, what).into())
            }
            Ok(_) => serde_json::from_slice(&text).map_err(|error| {
                KeyfileError::Content(path, format!("is damaged ({error}); remove it, and begin the rollout again"))
                    .into()
            }),
        }
    }

    /// Begins a rollout, which takes the place of every open one that it has a node in common with.
    pub fn begin_rollout(&self, start: Start, now_s: u64) -> Result<Rollout, RegistryError> {
        let _lock = self.lock()?;
        let Start { release, head, trial, groups, terms, schedule, stations } = start;
        let manifest = self.assignable(&release, head, now_s)?;
        let head_file = match head {
            Some(counter) => Some(self.head(&release, counter)?.file.sha256),
            None => manifest.head.as_ref().map(|head| head.sha256),
        };
        let goal = Goal::Release(ReleaseGoal { release, head, file: manifest.file.sha256, head_file, trial });
        let mut before = self.rollouts()?;
        let number = before.last().map_or(0, |last| last.number) + 1;
        let own = |node: &NodeId| StationId::new(node.as_str()).expect("a node's name is a station's name");
        let station_of = |node: &NodeId| stations.get(node).cloned().unwrap_or_else(|| own(node));
        let rollout = Rollout::new((number, now_s), goal, groups, (terms, schedule), station_of).or_else(refused)?;
        if rollout.members.len() > NODES_MAX {
            return refused(format!("{} nodes are more than the {NODES_MAX} of a site", rollout.members.len()));
        }
        let pinned = self.pins()?;
        let canaries = &rollout.groups[0].nodes;
        if canaries.iter().all(|node| pinned.contains(&rollout.members[node].station)) {
            return refused("every canary is pinned, and none would ever try the release; name others, or unpin one");
        }
        self.make_room(&before, |goal| goal.release().is_some(), ROLLOUTS_MAX)?;
        self.begin(&rollout, &mut before)?;
        Ok(rollout)
    }

    /// Writes it, and takes the place of those before it.
    pub(super) fn begin(&self, rollout: &Rollout, before: &mut [Rollout]) -> Result<(), RegistryError> {
        self.write_rollout(rollout)?;
        for older in before {
            let was = older.clone();
            older.give_way_to(rollout);
            if *older != was {
                self.write_rollout(older)?;
            }
        }
        self.note_change()
    }

    /// Does what a person says of a rollout.
    pub fn order_rollout(&self, number: u64, order: Order) -> Result<Rollout, RegistryError> {
        let _lock = self.lock()?;
        let mut rollout = self.rollout(number)?;
        let done = match order {
            Order::Pause => rollout.pause(),
            Order::Resume => rollout.resume(),
            Order::Abort => rollout.abort("aborted by hand"),
        };
        done.or_else(refused)?;
        self.write_rollout(&rollout)?;
        self.note_change()?;
        Ok(rollout)
    }

    /// Ends the open rollouts of a release that is taken back.
    pub(super) fn end_rollouts_of(&self, of: &ReleaseRef) -> Result<(), RegistryError> {
        for mut rollout in self.rollouts()? {
            if rollout.goal.release().is_some_and(|goal| goal.release == *of)
                && rollout.abort("its release was revoked").is_ok()
            {
                self.write_rollout(&rollout)?;
            }
        }
        Ok(())
    }

    /// Stations that are held to what they run.
    pub fn pins(&self) -> Result<BTreeSet<StationId>, RegistryError> {
        let path = self.at("pins.json");
        match keyfile::read_open(&path) {
            Err(KeyfileError::Missing(_)) => Ok(BTreeSet::new()),
            text => serde_json::from_str(&text?).map_err(|error| {
                KeyfileError::Content(path, format!("is damaged ({error}); remove it, and pin the stations again"))
                    .into()
            }),
        }
    }

    /// Holds a station to what it runs, or lets go of it; whether that changed anything.
    pub fn pin(&self, station: &StationId, held: bool) -> Result<bool, RegistryError> {
        let _lock = self.lock()?;
        let mut pins = self.pins()?;
        let changed = if held { pins.insert(station.clone()) } else { pins.remove(station) };
        if pins.len() > NODES_MAX {
            return refused(format!("{NODES_MAX} stations are pinned, which is the most"));
        }
        if changed {
            keyfile::write_open(&self.at("pins.json"), &serde_json::to_vec(&pins).expect("names"))?;
            self.note_change()?;
        }
        Ok(changed)
    }

    /// One turn of all rollouts, by what is known of the nodes now; nothing where the command line is at work here, and the
    /// turn comes later.
    pub fn turn_rollouts<'a>(
        &self,
        now_s: u64,
        known: impl Fn(&NodeId) -> Known<'a>,
    ) -> Result<Option<Turned>, RegistryError> {
        let Some(_lock) = self.try_lock()? else { return Ok(None) };
        let mut rollouts = self.rollouts()?;
        let pins = self.pins()?;
        let mut records: BTreeMap<NodeId, Record> =
            self.records()?.into_iter().map(|record| (record.node.clone(), record)).collect();
        let mut left = TURN_MAX;
        for at in 0..rollouts.len() {
            let (before, later) = rollouts.split_at_mut(at + 1);
            let rollout = &mut before[at];
            let was = rollout.clone();
            later.iter().for_each(|later| rollout.give_way_to(later));
            let turns = rollout.step(now_s, &pins, |node| {
                let Known { report, reachable } = known(node);
                let record = records.get(node);
                let wish = record.map(|record| (&record.wish, record.number));
                Seen { report, reachable, wish, learned: record.and_then(|record| record.learned.as_ref()) }
            });
            for turn in turns {
                if left == 0 {
                    break;
                }
                left -= 1;
                let told = match (&rollout.goal, rollout.wish(&turn.node)) {
                    (Goal::Learned(goal), _) => {
                        let station = rollout.members[&turn.node].station.clone();
                        self.assign_learned(turn.node.clone(), station, goal.learned, turn.anew, now_s)
                    }
                    (_, wish) => {
                        let wish = wish.expect("it is a member whose turn it is");
                        self.assign_under_lock(turn.node.clone(), wish, turn.anew, now_s)
                    }
                };
                match told {
                    Ok(record) => {
                        rollout.told(&turn.node, record.number, now_s, known(&turn.node).report);
                        records.insert(turn.node, record);
                    }
                    Err(RegistryError::Refused(why)) => {
                        rollout.halt(format!("{} cannot be told: {why}", turn.node));
                        break;
                    }
                    Err(error) => {
                        // What was assigned until now is not forgotten for it.
                        self.write_rollout(rollout)?;
                        return Err(error);
                    }
                }
            }
            if *rollout != was {
                self.write_rollout(rollout)?;
            }
        }
        Ok(Some(Turned { rollouts, records: records.into_values().collect(), pins }))
    }

    pub(super) fn write_rollout(&self, rollout: &Rollout) -> Result<(), RegistryError> {
        let json = serde_json::to_vec(rollout).expect("names, numbers and texts");
        Ok(keyfile::write_open(&self.at(&format!("rollouts/{}.json", rollout.number)), &json)?)
    }

    /// Room for one more of a kind.
    pub(super) fn make_room(
        &self,
        rollouts: &[Rollout],
        of_kind: impl Fn(&Goal) -> bool,
        most: usize,
    ) -> Result<(), RegistryError> {
        let kind: Vec<&Rollout> = rollouts.iter().filter(|rollout| of_kind(&rollout.goal)).collect();
        let surplus = (kind.len() + 1).saturating_sub(most);
        let over: Vec<&&Rollout> = kind.iter().filter(|rollout| !rollout.is_open()).take(surplus).collect();
        if over.len() < surplus {
            return refused(format!("{most} rollouts are open, which is the most; abort one"));
        }
        for rollout in over {
            keyfile::remove(&self.at(&format!("rollouts/{}.json", rollout.number)))?;
        }
        Ok(())
    }
}
