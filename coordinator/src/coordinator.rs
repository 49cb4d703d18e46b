//! The root state machine: everything that happens comes in as an [`Input`], everything that is to be done goes out as an
//! [`Effect`]. Pure and deterministic: the shell and the simulation run this same code.
//!
//! It takes nothing on trust: a message that is garbage, too large or from one node too many is counted and left.

use std::collections::BTreeMap;
use std::sync::Arc;

use picket_shared::audit::Head;
use picket_shared::backoff::others_return_ms;
use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::ids::{Boot, CameraId, EventId, NodeId, SiteId, StationId};
use picket_shared::status::{self, Health, Stats, UpDown};
use picket_shared::topics::Topic;
use picket_shared::view::{Liveness, StationView};
use picket_shared::wire::{Ack, EventBatch};

use crate::archive::{Commit, Missed, Recovered, What};
use crate::intake::Intake;
use crate::lead::{Given, Heard, Lead};
use crate::line::Word;
use crate::swarm::{Presence, Refusal, Rules, Swarm};
use crate::view::{self, Newest, VIEW_MS_MIN};

mod shown;

/// A commit that failed is tried again after this long: a full disk does not empty itself sooner.
pub const COMMIT_RETRY_MS: u64 = 1_000;
/// A wake-up that comes later than this was not late by chance: the process was stopped, or the machine slept.
const LATE_MS: u64 = 1_000;

/// Who this coordinator is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its site.
    pub site: SiteId,
    /// Its process.
    pub pid: u32,
    /// Its run over its archive.
    pub boot: Boot,
    /// Its name among the coordinators of the site.
    pub name: NodeId,
}

impl Identity {
    /// The health that this coordinator publishes, or leaves with the broker as its will.
    pub fn health(&self, now: Now, status: UpDown, leader: u32, problems: Vec<String>) -> Health {
        let (time, epoch) = (now.unix_ms / 1000, u64::from(leader));
        let (pid, boot, name) = (self.pid, self.boot, Some(self.name.clone()));
        Health { status, pid, time, boot, epoch, problems, goodbye: false, audit: None, name }
    }
}

/// Everything that can happen.
#[derive(Debug, Clone)]
pub enum Input {
    /// The broker can be reached; what was published before may be lost.
    LinkUp,
    /// It cannot, with the reason.
    LinkDown(String),
    /// A message.
    Message {
        /// Its topic.
        topic: String,
        /// Its bytes.
        payload: Vec<u8>,
    },
    /// A message was refused before it came here: a constant word, and a sentence.
    Refused(&'static str, String),
    /// The commit under way is durable.
    Committed,
    /// It is not, with the reason; part of it may be on the disk all the same.
    CommitFailed(String),
    /// This coordinator leads under this epoch, and may believe so until then on the monotonic clock. Said again to go on.
    Lead {
        /// Higher than every leader's before.
        epoch: u32,
        /// Until when.
        until_ms: u64,
    },
    /// Another leads.
    Follow,
    /// Time has passed.
    Tick,
    /// Come to an end: finish what is under way, say goodbye.
    Stop,
}

/// Everything that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make this durable and answer [`Input::Committed`] or [`Input::CommitFailed`]. One at a time.
    Commit(Arc<Commit>),
    /// Publish; retained where [`Topic::retained`] says so.
    Publish {
        /// Where.
        topic: Topic,
        /// What.
        payload: Vec<u8>,
    },
    /// A node has heard of a leader with this epoch, which is higher than ours: lead under a higher one, or not at all.
    Outranked(u32),
    /// A message, or part of it, was refused.
    Reject {
        /// A constant word, for a counter.
        reason: &'static str,
        /// What exactly, for the log.
        detail: String,
        /// How many of this reason there are now.
        count: u64,
    },
    /// The end has come. So many entries are in no archive; their agents hold them still.
    Stopped {
        /// How many.
        unarchived: usize,
    },
}

/// What is counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters {
    /// Events in the archive.
    pub events_archived: u64,
    /// Of them, those that this build cannot read.
    pub events_unreadable: u64,
    /// Events that came again.
    pub events_duplicate: u64,
    /// Events that never came and never will, by cause.
    pub events_missed: Missed,
    /// Archive entries that the disk lost.
    pub entries_lost: u64,
    /// Entries that wait to become durable.
    pub entries_waiting: u64,
    /// Commits made durable.
    pub commits: u64,
    /// Commits that failed, each attempt.
    pub commits_failed: u64,
    /// Messages refused, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Nodes by what is believed of them.
    pub nodes: BTreeMap<Liveness, u64>,
    /// Who watches what.
    pub stations: Vec<StationView>,
    /// The broker can be reached.
    pub link_up: bool,
    /// What is wrong, in a sentence each.
    pub problems: Vec<String>,
}

/// The coordinator.
pub struct Coordinator {
    me: Identity,
    intake: Intake,
    swarm: Swarm,
    newest: Newest,
    lead: Lead,
    /// When its health must be said again, whether it changed or not.
    say_again_ms: u64,
    words: Vec<Word>,
    link_up: bool,
    link_changed_ms: u64,
    course: Course,
    /// When a failed commit is tried again.
    retry_ms: Option<u64>,
    disk_problem: Option<String>,
    archive_problems: Vec<String>,
    /// Why another broker than the first is used.
    fallback_problem: Option<String>,
    /// What is wrong with audit logs.
    audit_problems: Vec<String>,
    audit_head: Option<Head>,
    /// Why nodes are not told which model they run.
    model_problems: Vec<String>,
    rejected: BTreeMap<&'static str, u64>,
    unreadable: u64,
    lost: u64,
    commits: u64,
    commits_failed: u64,
    site_view: Retained,
    recent_view: Retained,
}

#[derive(PartialEq)]
enum Course {
    Running,
    Stopping,
    Stopped,
}

/// A retained view: rewritten when it changed, and not too often.
#[derive(Default)]
struct Retained {
    changed: bool,
    not_before_ms: u64,
}

impl Retained {
    fn is_due(&mut self, now: Now) -> bool {
        let due = self.changed && now.mono_ms >= self.not_before_ms;
        if due {
            *self = Retained { changed: false, not_before_ms: now.mono_ms + VIEW_MS_MIN };
        }
        due
    }
}

impl Coordinator {
    /// A coordinator that goes on where its archive ends.
    /// It follows until it is told to lead.
    pub fn new(me: Identity, rules: Rules, recovered: Recovered, now: Now) -> Coordinator {
        let intake = Intake::new(&recovered);
        let swarm = Swarm::new(now, rules, intake.nodes().map(|(id, _)| id));
        let mut newest = Newest::default();
        recovered.recent.iter().filter_map(view::seen).for_each(|event| newest.push(event));
        Coordinator {
            lead: Lead::new(now, me.boot),
            me,
            intake,
            swarm,
            newest,
            say_again_ms: 0,
            words: Vec::new(),
            link_up: false,
            link_changed_ms: now.mono_ms,
            course: Course::Running,
            retry_ms: None,
            disk_problem: None,
            archive_problems: recovered.problems,
            fallback_problem: None,
            audit_problems: Vec::new(),
            audit_head: None,
            model_problems: vec![],
            rejected: BTreeMap::new(),
            unreadable: recovered.unreadable,
            lost: recovered.lost,
            commits: 0,
            commits_failed: 0,
            site_view: Retained { changed: true, not_before_ms: 0 },
            recent_view: Retained { changed: true, not_before_ms: 0 },
        }
    }

    /// Handles one input and appends what is to be done.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        self.excuse_own_pause(now);
        if self.lead.lapse(now) {
            self.swarm.follow();
        }
        match input {
            Input::LinkUp => self.link_came_up(now, out),
            Input::LinkDown(_) => {
                if self.link_up {
                    self.link_changed_ms = now.mono_ms;
                }
                self.link_up = false;
                self.lead.link(now, false);
            }
            Input::Message { .. } if self.course != Course::Running => {}
            Input::Message { topic, payload } => self.message(now, &topic, payload, out),
            Input::Refused(reason, detail) => self.reject(reason, detail, out),
            Input::Committed => self.committed(now, out),
            Input::CommitFailed(why) => self.commit_failed(now, why, out),
            Input::Lead { epoch, until_ms } => self.take_the_lead(now, epoch, until_ms, out),
            Input::Follow => {
                self.lead.follow();
                self.swarm.follow();
            }
            Input::Tick => {}
            Input::Stop => self.course = Course::Stopping,
        }
        self.whatever_is_due(now, out);
    }

    /// When [`Input::Tick`] is wanted, on the monotonic clock, if nothing happens before. Later is fine, never is not.
    pub fn next_wakeup(&self) -> Option<u64> {
        let leads = self.lead.is_held();
        let view = |view: &Retained| (self.link_up && leads && view.changed).then_some(view.not_before_ms);
        let silence = self.swarm.next_wakeup().filter(|_| self.link_up);
        let says = |at_ms: u64| (self.link_up && leads).then_some(at_ms);
        let (fresh, again) = (says(self.site_fresh_until_ms()), says(self.say_again_ms));
        let views = [view(&self.site_view), view(&self.recent_view), fresh, again];
        silence.into_iter().chain(self.lead.until_ms()).chain(views.into_iter().flatten()).chain(self.retry_ms).min()
    }

    /// The epoch that it leads under.
    pub fn leads_under(&self) -> Option<u32> {
        self.lead.epoch()
    }

    /// Whether it should have the lead, where it can. One that hears nobody gives it back.
    pub fn wants_the_lead(&self, now: Now) -> bool {
        self.lead.is_wanted(now)
    }

    /// Whether the broker can be reached.
    pub fn link_is_up(&self) -> bool {
        self.link_up
    }

    /// What is counted.
    pub fn counters(&self) -> Counters {
        let mut nodes: BTreeMap<Liveness, u64> =
            [Liveness::Up, Liveness::Suspect, Liveness::Down].map(|liveness| (liveness, 0)).into();
        for node in self.swarm.nodes().values() {
            *nodes.entry(node.pulse.liveness).or_default() += 1;
        }
        Counters {
            events_archived: self.intake.events_archived(),
            events_unreadable: self.unreadable,
            events_duplicate: self.intake.events_duplicate(),
            events_missed: self.intake.missed().clone(),
            entries_lost: self.lost,
            entries_waiting: self.intake.waiting() as u64,
            commits: self.commits,
            commits_failed: self.commits_failed,
            rejected: self.rejected.clone(),
            nodes,
            stations: self.swarm.stations(),
            link_up: self.link_up,
            problems: self.problems(),
        }
    }

    /// What the nodes that are not down last said of themselves.
    pub fn stats(&self) -> impl Iterator<Item = (&NodeId, &Stats)> {
        let living = self.swarm.nodes().iter().filter(|(_, node)| node.pulse.liveness != Liveness::Down);
        living.filter_map(|(id, node)| Some((id, node.stats.as_ref()?)))
    }

    /// The newest event of one person that this node told of, and that had begun by then, in seconds since 1970.
    pub fn last_event_of(&self, node: &NodeId, by_s: f64) -> Option<EventId> {
        self.newest.last_of(node, by_s)
    }

    /// Whether a camera looks, and what it sees comes here at once.
    pub fn watches(&self, now: Now, station: &StationId, camera: &CameraId) -> bool {
        self.swarm.nodes().values().any(|node| node.watches(now, station, camera))
    }

    /// Every node, its station where it has said it, and whether it is not down.
    pub fn presences(&self) -> impl Iterator<Item = Presence<'_>> {
        self.swarm.presences()
    }

    /// The commit under way: what a crash now leaves open.
    pub fn commit_in_flight(&self) -> Option<Arc<Commit>> {
        self.intake.in_flight()
    }

    /// Says, from the next [`Input::LinkUp`] on, why another broker than the first is used; or that it is the first.
    pub fn on_fallback(&mut self, why: Option<String>) {
        self.fallback_problem = why;
    }

    /// How far this coordinator's audit log reaches, and what is wrong with it and with nodes'. Said with its health.
    pub fn on_audit(&mut self, head: Option<Head>, problems: Vec<String>) {
        self.audit_head = head;
        if self.audit_problems != problems {
            self.audit_problems = problems;
            self.say_again_ms = 0;
        }
    }

    /// What is wrong with what nodes are told of models, in a sentence each.
    pub fn on_models(&mut self, problems: Vec<String>) {
        if self.model_problems != problems {
            self.model_problems = problems;
            self.say_again_ms = 0;
        }
    }

    fn problems(&self) -> Vec<String> {
        let own = self.disk_problem.iter().chain(&self.archive_problems).chain(&self.fallback_problem);
        let own = own.chain(&self.audit_problems).chain(&self.model_problems).cloned();
        let own = own.chain(self.lead.problem());
        own.chain(self.swarm.problems()).collect()
    }

    fn link_came_up(&mut self, now: Now, out: &mut Vec<Effect>) {
        let deaf_ms = if self.link_up { 0 } else { now.mono_ms.saturating_sub(self.link_changed_ms) };
        self.swarm.excuse(now, deaf_ms, others_return_ms(deaf_ms));
        self.link_up = true;
        self.link_changed_ms = now.mono_ms;
        self.lead.link(now, true);
        self.say_all(now, out);
    }

    /// The topic of the coordinator's health: what this one says of itself, or an earlier run, or another coordinator.
    fn coordinators_health(&mut self, now: Now, payload: &[u8], out: &mut Vec<Effect>) {
        let health = match status::read::<Health>(payload) {
            Ok(health) => health,
            // Somebody has cleared what was retained.
            Err(_) if payload.is_empty() => return,
            Err((reason, detail)) => return self.reject(reason, detail, out),
        };
        match self.lead.health(now, &health) {
            Heard::Nothing => {}
            Heard::SayAgain if self.course == Course::Running => self.say_health(now, UpDown::Up, out),
            Heard::SayAgain => {}
            Heard::Yield => self.swarm.follow(),
        }
    }

    fn say_words(&mut self, out: &mut Vec<Effect>) {
        let encoded = "the line keeps the bounds of what it says";
        for word in self.words.drain(..) {
            let (topic, payload) = match word {
                Word::Leases(leases) => (Topic::Leases(leases.node.clone()), codec::encode(&leases).expect(encoded)),
                Word::Standby(node, standby) => (Topic::Standby(node), codec::encode(&standby).expect(encoded)),
                Word::Change(_) if !self.lead.is_held() => continue,
                Word::Change(change) => (Topic::ViewChange, view::json(&change)),
            };
            out.push(Effect::Publish { topic, payload });
        }
    }

    fn take_the_lead(&mut self, now: Now, epoch: u32, until_ms: u64, out: &mut Vec<Effect>) {
        match self.lead.give(now, epoch, until_ms) {
            Given::Same => {}
            Given::Anew => {
                self.swarm.lead(now, epoch, &mut self.words);
                if self.link_up {
                    self.say_all(now, out);
                }
            }
            Given::Yield => self.swarm.follow(),
            Given::Outranked(above) => {
                self.swarm.follow();
                out.push(Effect::Outranked(above));
            }
        }
    }

    /// Everything that stands at the broker, anew: nothing that was said before is certain to stand there.
    fn say_all(&mut self, now: Now, out: &mut Vec<Effect>) {
        if !self.lead.is_held() {
            return;
        }
        self.swarm.say_again();
        self.say_health(now, UpDown::Up, out);
        for (id, ack) in self.intake.newest_acks() {
            out.push(acknowledge(id, &ack));
        }
        self.site_view = Retained { changed: true, not_before_ms: 0 };
        self.recent_view = Retained { changed: true, not_before_ms: 0 };
    }

    fn message(&mut self, now: Now, topic: &str, payload: Vec<u8>, out: &mut Vec<Effect>) {
        let refused = match Topic::parse(&self.me.site, topic) {
            Err(error) => Err(("topic", error.to_string())),
            Ok(Topic::Health(id)) => self.swarm.health(now, id, &payload),
            Ok(Topic::Twin(id)) => self.swarm.twin(now, id, &payload),
            Ok(Topic::Stats(id)) => self.swarm.stats(now, id, &payload),
            Ok(Topic::Duty(id)) => self.swarm.duty(now, id, &payload),
            Ok(Topic::Heartbeat(id)) => self.swarm.heartbeat(now, id, &payload, &mut self.words),
            Ok(Topic::Events(id)) => self.events(now, id, &payload, out),
            // Read by what learns, beside this.
            Ok(Topic::LearnUpdate(id) | Topic::LearnSamples(id)) => self.swarm.node(now, id).map(|_| ()),
            Ok(Topic::LearnHead(_) | Topic::OperatorLabels(_)) => Ok(()),
            // Read by what sends models, beside this.
            Ok(Topic::ModelWant(id) | Topic::ModelState(id)) => self.swarm.node(now, id).map(|_| ()),
            // The filter for all nodes' health brings back what this side says of itself; or another coordinator's will.
            Ok(Topic::CoordinatorHealth) => return self.coordinators_health(now, &payload, out),
            Ok(other) => Err(("topic", format!("{other:?} is not for a coordinator to read"))),
        };
        self.site_view.changed = true;
        out.extend(self.swarm.outranked_by().map(Effect::Outranked));
        if let Err((reason, detail)) = refused {
            self.reject(reason, detail, out);
        }
    }

    fn reject(&mut self, reason: &'static str, detail: String, out: &mut Vec<Effect>) {
        let count = self.rejected.entry(reason).or_default();
        *count += 1;
        out.push(Effect::Reject { reason, detail, count: *count });
        self.site_view.changed = true;
    }

    fn events(&mut self, now: Now, id: NodeId, payload: &[u8], out: &mut Vec<Effect>) -> Result<(), Refusal> {
        let batch: EventBatch =
            codec::decode(payload).map_err(|error| (error.word(), format!("{error}, from {id}")))?;
        self.swarm.node(now, id.clone())?;
        let taken = self.intake.take(&id, batch);
        if let Some(ack) = taken.ack.filter(|_| self.lead.is_held()) {
            out.push(acknowledge(&id, &ack));
        }
        taken.refused.map_or(Ok(()), Err)
    }

    fn committed(&mut self, now: Now, out: &mut Vec<Effect>) {
        let durable = self.intake.finish_commit();
        self.commits += 1;
        self.retry_ms = None;
        let leads = self.lead.is_held();
        out.extend(durable.acks.iter().filter(|_| leads).map(|(id, ack)| acknowledge(id, ack)));
        for entry in &durable.commit.entries {
            self.unreadable += u64::from(matches!(entry.what, What::Unreadable { .. }));
            if let Some(event) = view::seen(entry) {
                let payload = leads.then(|| view::json(&event));
                out.extend(payload.map(|payload| Effect::Publish { topic: Topic::ViewEvent, payload }));
                self.newest.push(event);
                self.recent_view.changed = true;
            }
        }
        self.site_view.changed = true;
        if self.disk_problem.take().is_some() {
            self.say_health(now, UpDown::Up, out);
        }
    }

    fn commit_failed(&mut self, now: Now, why: String, out: &mut Vec<Effect>) {
        self.commits_failed += 1;
        self.retry_ms = Some(now.mono_ms + COMMIT_RETRY_MS);
        if self.disk_problem.replace(why.clone()) != Some(why) {
            self.say_health(now, UpDown::Up, out);
        }
    }

    fn whatever_is_due(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.retry_ms.is_some_and(|retry_ms| now.mono_ms >= retry_ms) {
            self.retry_ms = None;
            out.extend(self.intake.in_flight().map(Effect::Commit));
        }
        out.extend(self.intake.begin_commit(now.unix_ms).map(Effect::Commit));
        if self.link_up {
            let changed = self.swarm.tick(now, &mut self.words);
            self.site_view.changed |= changed || now.mono_ms >= self.site_fresh_until_ms();
            self.say_words(out);
        }
        if self.link_up && self.lead.is_held() {
            if now.mono_ms >= self.say_again_ms {
                self.say_health(now, UpDown::Up, out);
            }
            if self.site_view.is_due(now) {
                let payload = self.site_document(now);
                out.push(Effect::Publish { topic: Topic::ViewSite, payload });
            }
            if self.recent_view.is_due(now) {
                out.push(Effect::Publish { topic: Topic::ViewRecent, payload: self.newest.document() });
            }
        }
        let nothing_more_to_do = self.intake.waiting() == 0 || self.disk_problem.is_some();
        if self.course == Course::Stopping && nothing_more_to_do {
            self.course = Course::Stopped;
            self.say_health(now, UpDown::Down, out);
            out.push(Effect::Stopped { unarchived: self.intake.waiting() });
        }
    }

    /// This process stood still (a debugger, a suspended machine): what came meanwhile waits in the socket, and nobody is
    /// down for that.
    fn excuse_own_pause(&mut self, now: Now) {
        let late_ms = self.next_wakeup().map_or(0, |wanted_ms| now.mono_ms.saturating_sub(wanted_ms));
        if self.link_up && late_ms > LATE_MS {
            self.swarm.excuse(now, late_ms, 0);
        }
    }
}

fn acknowledge(id: &NodeId, ack: &Ack) -> Effect {
    let payload = codec::encode(ack).expect("an ack of ours keeps its own bounds");
    Effect::Publish { topic: Topic::Ack(id.clone()), payload }
}

#[cfg(test)]
#[path = "coordinator_tests.rs"]
mod tests;
