//! The models of all nodes of a site: hears what they say, gives rollouts their turns, and shows both. It works beside the core, as
//! the desk does, and only where this coordinator leads; what is decided is decided in [`super::rollout`].

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use picket_shared::clock::Now;
use picket_shared::ids::{NodeId, SiteId, StationId};
use picket_shared::learn::lineage::Lineage;
use picket_shared::model::rollouts::{Course, ModelsView};
use picket_shared::topics::Topic;

use super::ledger::{Known, Turned};
use super::registry::{Registry, RegistryError};
use super::reports::{self, Reports};
use super::rollout::Rollout;
use super::view;
use crate::learn::learner::{Path, Release};
use crate::swarm::{Presence, Refusal};

/// How often rollouts have their turn, in milliseconds.
pub const LOOK_MS: u64 = 2_000;
/// Releases that wait for the disk.
const RELEASED_MAX: usize = 4;

/// All models of a site.
pub struct Fleet {
    dir: PathBuf,
    site: SiteId,
    /// Whether Home Assistant is told of the nodes.
    discovery: bool,
    /// Whether it is given buttons too, by which people say what the last event was.
    buttons: bool,
    /// When it is time for the next turn, on the monotonic clock.
    look_ms: u64,
    /// Under whose lead what follows was said.
    leader: u32,
    reports: Reports,
    /// Something was heard that is not in the copy yet.
    heard: bool,
    /// The registry's state at the last turn.
    state: Option<String>,
    rollouts: Vec<Rollout>,
    /// What was shown, but for its time.
    shown: Option<ModelsView>,
    /// What Home Assistant was told of each node.
    updates: BTreeMap<NodeId, Vec<u8>>,
    problems: Vec<String>,
    /// How learned heads are released; nothing where they are not.
    heads: Option<Heads>,
    /// Releases that are not in the registry yet.
    released: VecDeque<Release>,
    /// What the learner is to know of them, and whether it was told.
    path: (Path, bool),
}

/// How learned heads are released.
#[derive(Debug, Clone, PartialEq)]
pub struct Heads {
    /// Which heads.
    pub lineage: Lineage,
    /// Stations that try one first; where none of them learns, one of ten of those that do.
    pub canaries: Vec<StationId>,
}

impl Fleet {
    /// One for the registry in this folder, which may be made later.
    pub fn new(dir: &std::path::Path, site: SiteId, discovery: bool) -> Fleet {
        Fleet {
            dir: dir.to_owned(),
            site,
            discovery,
            buttons: false,
            look_ms: 0,
            leader: 0,
            reports: Reports::new(),
            heard: true,
            state: None,
            rollouts: Vec::new(),
            shown: None,
            updates: BTreeMap::new(),
            problems: Vec::new(),
            heads: None,
            released: VecDeque::new(),
            path: (Path::default(), true),
        }
    }

    /// The same where learned heads are released, or are not.
    pub fn releasing(self, heads: Option<Heads>) -> Fleet {
        Fleet { heads, ..self }
    }

    /// The learner has a head that is fit to be released. What cannot be written now is at a later turn.
    pub fn release(&mut self, release: Release) {
        let ours = self.heads.as_ref().is_some_and(|heads| heads.lineage == release.lineage);
        if ours && !self.released.contains(&release) {
            self.released.push_back(release);
            // An older one that was never written is nobody's loss.
            self.released.drain(..self.released.len().saturating_sub(RELEASED_MAX));
        }
    }

    /// What the learner is to know of releases, where that is news; `take` says whether it was told.
    pub fn tell_learner(&mut self, take: impl FnOnce(Path) -> bool) {
        let (path, told) = &mut self.path;
        *told = *told || take(path.clone());
    }

    /// One that gives Home Assistant buttons too, where it is told of nodes at all: what they say is learned from.
    pub fn with_buttons(self, buttons: bool) -> Fleet {
        Fleet { buttons, ..self }
    }

    /// A node says how its models are.
    pub fn hear(&mut self, node: &NodeId, payload: &[u8]) -> Result<(), Refusal> {
        self.heard |= reports::hear(&mut self.reports, node, payload)?;
        Ok(())
    }

    /// Nothing that was said is certain to stand at the broker.
    pub fn say_again(&mut self) {
        (self.look_ms, self.shown) = (0, None);
        self.updates.clear();
    }

    /// What is wrong, in a sentence each.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// How many rollouts, of models and of heads, go how.
    pub fn courses(&self) -> BTreeMap<Course, u64> {
        let mut courses = BTreeMap::new();
        self.rollouts.iter().for_each(|rollout| *courses.entry(rollout.course).or_default() += 1);
        courses
    }

    /// Gives rollouts their turn where it is time, and says what is to be published. For who leads, under this epoch.
    pub fn look<'a>(
        &mut self,
        now: Now,
        leader: u32,
        nodes: impl Iterator<Item = Presence<'a>>,
    ) -> Vec<(Topic, Vec<u8>)> {
        if std::mem::replace(&mut self.leader, leader) != leader {
            self.say_again();
        }
        if now.mono_ms < self.look_ms {
            return vec![];
        }
        self.look_ms = now.mono_ms + LOOK_MS;
        for (node, station, reachable) in nodes {
            self.heard |= reports::see(&mut self.reports, node, station, reachable);
        }
        if !Registry::exists(&self.dir) {
            return vec![];
        }
        let mut problems = Vec::new();
        let said = self.turn(now).unwrap_or_else(|error| {
            // What was not understood is looked at anew.
            self.state = None;
            problems.push(format!("rollouts have no turn: {error}"));
            vec![]
        });
        let halted = self.rollouts.iter().filter(|rollout| rollout.course == Course::Halted);
        problems.extend(
            halted.map(|rollout| format!("rollout {} of {} has halted: {}", rollout.number, rollout.goal, rollout.why)),
        );
        if problems != self.problems {
            problems.iter().for_each(|problem| tracing::error!("{problem}"));
            self.problems = problems;
        }
        said
    }

    fn turn(&mut self, now: Now) -> Result<Vec<(Topic, Vec<u8>)>, String> {
        let registry = Registry::open(&self.dir).map_err(|error| error.to_string())?;
        // Asked for before anything is read: what changes meanwhile is seen the next time.
        let state = registry.state();
        // Time alone moves an open rollout.
        let moves = self.rollouts.iter().any(|rollout| rollout.course == Course::Running) || !self.released.is_empty();
        if !self.heard && !moves && self.shown.is_some() && self.state.is_some() && state == self.state {
            return Ok(vec![]);
        }
        if self.heard {
            reports::save(&self.dir, &self.reports).map_err(|error| error.to_string())?;
            self.heard = false;
        }
        let is_open = self.heads.is_some() && registry.root().is_ok();
        if let Some(heads) = self.heads.as_ref().filter(|_| is_open) {
            let now_s = now.unix_ms / 1000;
            while let Some(release) = self.released.front() {
                match registry.take_learned(release) {
                    Ok(_) | Err(RegistryError::Refused(_)) => drop(self.released.pop_front()),
                    Err(error) => return Err(error.to_string()),
                }
            }
            let learners = reports::learners(&self.reports, &heads.lineage);
            registry
                .turn_learned(&heads.lineage, &heads.canaries, &learners, now_s)
                .map_err(|error| error.to_string())?;
        }
        let reports = &self.reports;
        let known = |node: &NodeId| {
            let report = reports.get(node);
            let reachable = report.is_some_and(|report| report.reachable);
            Known { report: report.and_then(|report| report.state.as_ref()), reachable }
        };
        let turned = registry.turn_rollouts(now.unix_ms / 1000, known).map_err(|error| error.to_string())?;
        let Some(Turned { rollouts, records, pins }) = turned else { return Ok(vec![]) };
        self.state = state;
        tell(&self.rollouts, &rollouts);
        self.rollouts = rollouts;
        let path = Path { is_open, releases: view::releases(&self.rollouts) };
        if self.path.0 != path {
            self.path = (path, false);
        }
        let known = view::Known { rollouts: &self.rollouts, records: &records, pins: &pins, reports: &self.reports };
        let shown = view::document(0.0, known);
        Ok(self.say(now, shown))
    }

    /// What has changed since it was said last.
    fn say(&mut self, now: Now, view: ModelsView) -> Vec<(Topic, Vec<u8>)> {
        let mut said = Vec::new();
        if self.shown.as_ref() == Some(&view) {
            return said;
        }
        for station in &view.stations {
            let node = &station.node;
            let Some(update) = view::update(&view, station).filter(|_| self.discovery) else { continue };
            if self.updates.get(node) == Some(&update) {
                continue;
            }
            if self.updates.insert(node.clone(), update.clone()).is_none() {
                let config = view::discovery(&self.site, node, &station.station);
                said.push((Topic::HomeAssistantUpdate(node.clone()), config));
                for person in [true, false].into_iter().filter(|_| self.buttons) {
                    let button = view::button(&self.site, node, person);
                    said.push((Topic::HomeAssistantButton(node.clone(), person), button));
                }
            }
            said.push((Topic::ViewUpdate(node.clone()), update));
        }
        let time = now.unix_ms as f64 / 1000.0;
        said.push((Topic::ViewModels, view::payload(ModelsView { time, ..view.clone() })));
        self.shown = Some(view);
        said
    }
}

/// The journal keeps how rollouts go.
fn tell(before: &[Rollout], now: &[Rollout]) {
    for rollout in now {
        let was = before.iter().find(|was| was.number == rollout.number);
        if was.is_none_or(|was| (was.course, was.group) != (rollout.course, rollout.group)) {
            let Rollout { number, why, .. } = rollout;
            let (release, course, group) = (&rollout.goal, rollout.course.word(), &rollout.groups[rollout.group].name);
            tracing::info!(number, %release, course, group, why, "rollout");
        }
    }
}
