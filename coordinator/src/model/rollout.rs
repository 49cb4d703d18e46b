//! One release on its way to many stations, group after group: who is told next, when the next group's turn has come, and when
//! nobody else is told any more.
//!
//! Pure. What stands on record and what nodes say comes in, the names of those who are to be assigned the release come out; the
//! shell assigns, and makes this durable. It decides nothing on a device: each judges a release on its own frames, and a
//! rollout only listens to what came of that.
//!
//! The terms are those of fleets that push software (Eclipse hawkBit's rollouts: groups, a threshold of success and one of
//! errors; AWS IoT jobs: a least number before a share counts).

use std::collections::{BTreeMap, BTreeSet};

use picket_shared::ids::{NodeId, StationId};
use picket_shared::model::ModelState;
use picket_shared::model::rollouts::{Course, Stage};
use serde::{Deserialize, Serialize};

pub use super::goal::{Goal, LearnedGoal, ReleaseGoal};
use super::record::{LearnedRef, Wish};

/// Groups of one rollout.
pub const GROUPS_MAX: usize = 16;
/// Characters that are kept of what a device says of why a release does not run there.
pub const DETAIL_CHARS_MAX: usize = 200;
/// How long a station must have run a release at most before the next group's turn: a week.
pub const SOAK_S_MAX: u64 = 7 * DAY_S;

const DAY_S: u64 = 24 * 60 * 60;
const DAY_MIN: u16 = 24 * 60;
/// Stations whose turn comes together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// What people call it; the first one has the canaries.
    pub name: String,
    /// Its nodes.
    pub nodes: Vec<NodeId>,
}

/// When the next group's turn comes, and when nobody's does. Shares are 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// Least share of a group's members that run the release before the next group is told.
    pub success_min: f64,
    /// Largest share of those that came to an end that may have refused it or gone back.
    pub failures_max: f64,
    /// So many must have come to an end, or all that count, before a group is judged good; and a share of failures is one of so many
    /// at least, or of all that count.
    pub sample_min: u32,
    /// How long a group must have run it, in seconds, before the next one is told.
    pub soak_s: u64,
}

impl Default for Terms {
    fn default() -> Self {
        Terms { success_min: 0.9, failures_max: 0.1, sample_min: 5, soak_s: 60 }
    }
}

/// A part of each day, by the minute of the day in UTC: from the first to before the second, over midnight where that is lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Daily {
    from_min: u16,
    to_min: u16,
}

impl Daily {
    /// Whether this second since 1970 is in it.
    pub fn holds(self, now_s: u64) -> bool {
        let minute = (now_s % DAY_S / 60) as u16;
        match self.from_min <= self.to_min {
            true => (self.from_min..self.to_min).contains(&minute),
            false => minute >= self.from_min || minute < self.to_min,
        }
    }
}

impl std::fmt::Display for Daily {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [from, to] = [self.from_min, self.to_min].map(|minute| format!("{:02}:{:02}", minute / 60, minute % 60));
        write!(f, "{from}-{to}")
    }
}

impl std::str::FromStr for Daily {
    type Err = String;

    fn from_str(text: &str) -> Result<Daily, String> {
        let minute = |text: &str| {
            let (hours, minutes) = text.split_once(':')?;
            let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
            (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
        };
        let parsed = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        match parsed {
            Some((from_min, to_min)) if from_min != to_min && to_min < DAY_MIN => Ok(Daily { from_min, to_min }),
            _ => Err(format!("\"{text}\" is no part of a day; write it as 22:00-05:30, in UTC")),
        }
    }
}

impl TryFrom<String> for Daily {
    type Error = String;

    fn try_from(text: String) -> Result<Daily, String> {
        text.parse()
    }
}

impl From<Daily> for String {
    fn from(daily: Daily) -> String {
        daily.to_string()
    }
}

/// When stations may be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Not before then, seconds since 1970.
    pub not_before_s: u64,
    /// Only in this part of each day.
    pub daily: Option<Daily>,
}

impl Schedule {
    fn is_open(&self, now_s: u64) -> bool {
        now_s >= self.not_before_s && self.daily.is_none_or(|daily| daily.holds(now_s))
    }
}

/// One station of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// The station that the node watches.
    pub station: StationId,
    /// The assignment that this rollout gave it; none where it has not been told.
    pub number: Option<u64>,
    /// When the device had last spoken by its own clock when it was told, seconds since 1970.
    pub heard_s: u64,
    /// How far it is.
    pub stage: Stage,
    /// Since when, seconds since 1970.
    pub since_s: u64,
    /// Why it does not run there: a constant word.
    pub reason: Option<String>,
    /// The same in a sentence.
    pub detail: Option<String>,
    /// A person went on in spite of its failure.
    pub excused: bool,
    /// It is to be told once more, under a new number.
    pub anew: bool,
    /// What it found, where it compared a learned head with what it judged by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
}

/// A comparison of two heads on a station's own held-out examples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Examples.
    pub samples: u64,
    /// The mean difference of the losses; below zero the new one is better.
    pub difference: Option<f32>,
    /// Its standard error.
    pub error: Option<f32>,
}

/// What is known of one node now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen<'a> {
    /// What it last said of its models; nothing where this coordinator has not heard it.
    pub report: Option<&'a ModelState>,
    /// What it is assigned, and under which number.
    pub wish: Option<(&'a Wish, u64)>,
    /// The learned head that it is assigned.
    pub learned: Option<&'a LearnedRef>,
    /// It is not down.
    pub reachable: bool,
}

/// Somebody whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The node.
    pub node: NodeId,
    /// Under a new number, even where it is assigned the same already.
    pub anew: bool,
}

/// How many of a group are how far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// They run it.
    pub committed: usize,
    /// They refused it or went back, and nobody excused that.
    pub failed: usize,
    /// They have been told, or are to be.
    pub pending: usize,
    /// They do not count: pinned, told something else, unreachable, or with too little to judge by.
    pub aside: usize,
}

impl Tally {
    fn judged(&self) -> usize {
        self.committed + self.failed
    }

    fn eligible(&self) -> usize {
        self.judged() + self.pending
    }
}

/// A rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Which one of this site.
    pub number: u64,
    /// When it was begun, seconds since 1970.
    pub begun_s: u64,
    /// What it brings.
    pub goal: Goal,
    /// To whom, in this order.
    pub groups: Vec<Group>,
    /// On which terms.
    pub terms: Terms,
    /// When.
    pub schedule: Schedule,
    /// How it goes.
    pub course: Course,
    /// Why, in a sentence; empty where it goes on.
    pub why: String,
    /// The group whose turn it is; all before it passed.
    pub group: usize,
    /// Everybody in it.
    pub members: BTreeMap<NodeId, Member>,
}

impl Rollout {
    /// A rollout that has told nobody yet, or why there is none, in a sentence. `stations` names the station of each node.
    pub fn new(
        (number, begun_s): (u64, u64),
        goal: Goal,
        groups: Vec<Group>,
        (terms, schedule): (Terms, Schedule),
        station_of: impl Fn(&NodeId) -> StationId,
    ) -> Result<Rollout, String> {
        if groups.is_empty() || groups.iter().any(|group| group.nodes.is_empty()) {
            return Err("a group has no node in it; name its nodes, or leave it out".into());
        }
        if groups.len() > GROUPS_MAX {
            return Err(format!("there are {} groups, of at most {GROUPS_MAX}; make them larger", groups.len()));
        }
        for (what, share) in [("success", terms.success_min), ("failures", terms.failures_max)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("--{what} is {share}; give it a share from 0 to 1"));
            }
        }
        if terms.soak_s > SOAK_S_MAX {
            return Err(format!("--soak-seconds is {}; give it {SOAK_S_MAX} at most", terms.soak_s));
        }
        let mut members = BTreeMap::new();
        for node in groups.iter().flat_map(|group| &group.nodes) {
            if members.insert(node.clone(), Member::new(station_of(node), begun_s)).is_some() {
                return Err(format!("{node} is in the rollout twice; name it once"));
            }
        }
        let (course, why) = (Course::Running, String::new());
        Ok(Rollout { number, begun_s, goal, groups, terms, schedule, course, why, group: 0, members })
    }

    /// What a node of it is assigned of a release.
    pub fn wish(&self, node: &NodeId) -> Option<Wish> {
        let ReleaseGoal { release, head, trial, .. } = self.goal.release()?.clone();
        let station = self.members.get(node)?.station.clone();
        Some(Wish { station, release: Some(release), head, trial, not_before_s: 0 })
    }

    /// Somebody came later who is to have it too, with the last ones.
    pub fn join(&mut self, now_s: u64, node: NodeId, station: StationId) {
        if self.members.contains_key(&node) {
            return;
        }
        self.groups.last_mut().expect("a rollout has a group").nodes.push(node.clone());
        self.members.insert(node, Member::new(station, now_s));
        if self.course == Course::Done {
            self.course = Course::Running;
        }
    }

    /// Whether it may still tell somebody, now or after a person said so.
    pub fn is_open(&self) -> bool {
        matches!(self.course, Course::Running | Course::Paused | Course::Halted)
    }

    /// Looks at what has come of it, goes on where that is good, and halts where it is not. Those who are to be told now, of
    /// which [`Rollout::told`] is to be said once they are.
    pub fn step<'a>(
        &mut self,
        now_s: u64,
        pinned: &BTreeSet<StationId>,
        seen: impl Fn(&NodeId) -> Seen<'a>,
    ) -> Vec<Turn> {
        if matches!(self.course, Course::Aborted | Course::Superseded) {
            return vec![];
        }
        for (node, member) in &mut self.members {
            member.look(now_s, &self.goal, pinned.contains(&member.station), seen(node));
        }
        if self.course != Course::Running {
            return vec![];
        }
        if let Some(why) = (0..=self.group).find_map(|group| self.fails(group)) {
            (self.course, self.why) = (Course::Halted, why);
            return vec![];
        }
        while self.group + 1 < self.groups.len() && self.passes(now_s, self.group) {
            self.group += 1;
        }
        self.ask_others();
        let last = self.group + 1 == self.groups.len();
        if last && self.passes(now_s, self.group) && (0..=self.group).all(|group| self.tally(group).pending == 0) {
            self.course = Course::Done;
            return vec![];
        }
        if !self.schedule.is_open(now_s) {
            return vec![];
        }
        let turn = |node: &NodeId| {
            let member = self.members.get(node)?;
            (member.stage == Stage::Waiting).then(|| Turn { node: node.clone(), anew: member.anew })
        };
        self.groups[..=self.group].iter().flat_map(|group| &group.nodes).filter_map(turn).collect()
    }

    /// A node was assigned the release under this number.
    pub fn told(&mut self, node: &NodeId, number: u64, now_s: u64, report: Option<&ModelState>) {
        if let Some(member) = self.members.get_mut(node) {
            (member.number, member.anew) = (Some(number), false);
            member.heard_s = report.map_or(0, |report| report.time);
            member.is_at(now_s, Stage::Assigned, (None, None));
        }
    }

    /// The release cannot be assigned any more, for this reason.
    pub fn halt(&mut self, why: String) {
        if self.course == Course::Running {
            (self.course, self.why) = (Course::Halted, why);
        }
    }

    /// A person stops it for a while. The error is a sentence.
    pub fn pause(&mut self) -> Result<(), String> {
        match self.course {
            Course::Running | Course::Paused => {
                (self.course, self.why) = (Course::Paused, "paused by hand".into());
                Ok(())
            }
            _ => Err(self.is_already()),
        }
    }

    /// A person lets it go on. Who saw too little is told once more; after a halt, who refused is too, and what failed is excused.
    pub fn resume(&mut self) -> Result<(), String> {
        if !matches!(self.course, Course::Running | Course::Paused | Course::Halted) {
            return Err(self.is_already());
        }
        let halted = self.course == Course::Halted;
        for member in self.members.values_mut() {
            match member.stage {
                Stage::RolledBack if halted => member.excused = true,
                // What was refused may have been mended; a trial that saw too little may see more.
                Stage::Refused | Stage::Unseen if halted || member.stage == Stage::Unseen => {
                    (member.stage, member.number, member.anew) = (Stage::Waiting, None, true);
                }
                _ => {}
            }
        }
        (self.course, self.why) = (Course::Running, String::new());
        Ok(())
    }

    /// A person ends it: nobody is told any more. Who runs the release goes on with it.
    pub fn abort(&mut self, why: &str) -> Result<(), String> {
        if !self.is_open() {
            return Err(self.is_already());
        }
        (self.course, self.why) = (Course::Aborted, why.to_owned());
        Ok(())
    }

    /// A later rollout takes over, where both have a node.
    pub fn give_way_to(&mut self, later: &Rollout) {
        // Of heads there is one for the whole site.
        let shared = self.goal.learned().is_some() || self.members.keys().any(|node| later.members.contains_key(node));
        if self.is_open() && self.number < later.number && shared && self.goal.competes_with(&later.goal) {
            self.course = Course::Superseded;
            self.why = format!("rollout {} took its place", later.number);
        }
    }

    /// How a group stands.
    pub fn tally(&self, group: usize) -> Tally {
        let mut tally = Tally::default();
        for member in self.groups[group].nodes.iter().filter_map(|node| self.members.get(node)) {
            let counted = match member.stage {
                Stage::Committed => &mut tally.committed,
                Stage::RolledBack | Stage::Refused if !member.excused => &mut tally.failed,
                Stage::Waiting | Stage::Assigned | Stage::Fetching | Stage::Trial => &mut tally.pending,
                Stage::RolledBack | Stage::Refused | Stage::Unseen => &mut tally.aside,
                Stage::Pinned | Stage::Elsewhere | Stage::Unreachable => &mut tally.aside,
            };
            *counted += 1;
        }
        tally
    }

    fn is_already(&self) -> String {
        let said = match self.why.as_str() {
            "" => String::new(),
            why => format!(" ({why})"),
        };
        format!("rollout {} is {} already{said}", self.number, self.course.word())
    }

    /// Whether anybody runs it, failed, or may still come to either.
    pub fn tells(&self) -> bool {
        (0..self.groups.len()).any(|group| self.tally(group).eligible() > 0)
    }

    /// The canaries of a head may all be silent: too little is held out there to tell, or they are down. As many others try it then. A
    /// release of a model stays with those that a person chose to try it.
    fn ask_others(&mut self) {
        if self.goal.learned().is_none() || self.group > 0 || self.tally(0).eligible() > 0 {
            return;
        }
        let mut room = self.groups[0].nodes.len();
        let mut asked = Vec::new();
        for group in &mut self.groups[1..] {
            group.nodes.retain(|node| {
                let next = room > 0 && self.members[node].stage == Stage::Waiting;
                if next {
                    room -= 1;
                    asked.push(node.clone());
                }
                !next
            });
        }
        self.groups[0].nodes.append(&mut asked);
        self.groups.retain(|group| !group.nodes.is_empty());
    }

    /// Why a group is bad enough for nobody else to be told.
    fn fails(&self, group: usize) -> Option<String> {
        let Terms { failures_max, sample_min, .. } = self.terms;
        let (tally, Group { name, nodes }) = (self.tally(group), &self.groups[group]);
        let counted = tally.judged().max(tally.eligible().min(sample_min as usize));
        let failed = |node: &&NodeId| {
            let member = &self.members[*node];
            matches!(member.stage, Stage::RolledBack | Stage::Refused) && !member.excused
        };
        (tally.failed as f64 > failures_max * counted as f64).then(|| {
            let node = nodes.iter().find(failed).expect("some have failed");
            let (judged, failed) = (tally.judged(), tally.failed);
            let why =
                self.members[node].detail.as_deref().or(self.members[node].reason.as_deref()).unwrap_or("unknown");
            format!("of the group {name}, {failed} of {judged} that came to an end failed; {node}: {why}")
        })
    }

    /// Whether the next group's turn has come.
    fn passes(&self, now_s: u64, group: usize) -> bool {
        let Terms { success_min, sample_min, soak_s, .. } = self.terms;
        let tally = self.tally(group);
        let enough = tally.judged() >= tally.eligible().min(sample_min as usize);
        let good = tally.committed as f64 >= success_min * tally.eligible() as f64;
        // Somebody must have run it before it is more than tried: a group of which none can be reached says nothing.
        let proven = group > 0 || tally.committed > 0;
        let committed = self.groups[group].nodes.iter().map(|node| &self.members[node]);
        let committed = committed.filter(|member| member.stage == Stage::Committed);
        enough && good && proven && committed.map(|member| member.since_s).all(|since_s| now_s >= since_s + soak_s)
    }
}

impl Member {
    fn new(station: StationId, since_s: u64) -> Member {
        let (number, heard_s, stage) = (None, 0, Stage::Waiting);
        let (reason, detail, excused, anew, figures) = Default::default();
        Member { station, number, heard_s, stage, since_s, reason, detail, excused, anew, figures }
    }

    fn is_at(&mut self, now_s: u64, stage: Stage, (reason, detail): (Option<&String>, Option<&String>)) {
        if self.stage != stage {
            (self.stage, self.since_s) = (stage, now_s);
        }
        let cut = |text: &String| text.chars().take(DETAIL_CHARS_MAX).collect::<String>();
        (self.reason, self.detail) = (reason.map(cut), detail.map(cut));
    }

    /// How far it is, by what is known now.
    fn look(&mut self, now_s: u64, goal: &Goal, pinned: bool, seen: Seen<'_>) {
        let nothing = (None, None);
        let Some(number) = self.number else {
            return self.is_at(now_s, if pinned { Stage::Pinned } else { Stage::Waiting }, nothing);
        };
        if goal.is_elsewhere(&seen) {
            return self.is_at(now_s, Stage::Elsewhere, nothing);
        }
        let Some(report) = seen.report else {
            // Not heard since this coordinator began: what was known before stands.
            if !seen.reachable && matches!(self.stage, Stage::Assigned | Stage::Fetching) {
                self.is_at(now_s, Stage::Unreachable, nothing);
            }
            return;
        };
        let stage = match goal.stage(number, self.heard_s, report) {
            // One that is gone in the middle of a trial may be gone because of it, and keeps its group waiting.
            Stage::Assigned | Stage::Fetching if !seen.reachable => Stage::Unreachable,
            stage => stage,
        };
        if let Some(found) = goal.learned().and_then(|goal| goal.figures(report)) {
            let (samples, difference, error) = (found.samples, found.difference, found.error);
            self.figures = Some(Figures { samples, difference, error });
        }
        let says_why = matches!(stage, Stage::RolledBack | Stage::Refused | Stage::Unseen);
        self.is_at(now_s, stage, if says_why { goal.why(report) } else { nothing });
    }
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
