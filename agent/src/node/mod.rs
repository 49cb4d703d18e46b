//! The agent's root state machine: what the camera path, the store and the broker report goes in, what must be done comes
//! out.
//!
//! Pure: no clock, no sockets, no files. The shell (`app.rs`) and the simulation both drive it. An event is told only after
//! the store said that it is durable. Bad remote input becomes [`Effect::Reject`] and a counter.

use std::collections::{BTreeMap, BTreeSet};

use picket_shared::audit::Head;
use picket_shared::backoff::scatter;
use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::duty::{Duty, Heartbeat, Leases, Sight, Standby};
use picket_shared::event::{Class, Event};
use picket_shared::ids::{Boot, CameraId, NodeId, StationId};
use picket_shared::limits::{DEAD_LETTER_BYTES_MAX, HEARTBEAT_MS, STATS_MS};
use picket_shared::model::{LearnedState, Learns};
use picket_shared::status::{self, CameraStats, Health, LearnStats, Stats, Twin, UpDown};
use picket_shared::topics::Topic;
use picket_shared::wire::{Ack, Gap, GapCause, Wire};

use crate::duty::{Duties, Memory, Order};
use crate::model::{self, Models};
use crate::outbox::{Lane, Outbox, Send};

mod models;
mod namesake;
#[cfg(test)]
mod tests;

pub use models::ModelInput;
use namesake::Namesake;

/// Events waiting for the disk. At one event a second and camera, a disk may be stuck for minutes before one is lost.
pub const UNSTORED_EVENTS_MAX: u64 = 1_024;

/// What happens to a node.
#[derive(Debug, Clone)]
pub enum Input {
    /// The frame path has something to tell.
    Observed(Box<Event>),
    /// The store made this boot durable up to this sequence.
    Stored(Boot, u64),
    /// The store gave these up: there is no room for all that is owed. Where they were never stored, the
    /// [`Input::Stored`] that covers them follows.
    Lost(Boot, Gap),
    /// The connection to the broker is made; whatever was on its way is lost.
    LinkUp,
    /// There is no connection.
    LinkDown,
    /// A message for this node.
    Message(Topic, Vec<u8>),
    /// A message was refused before it came here: a constant word, and a sentence.
    Refused(&'static str, String),
    /// A heartbeat that this neighbour said itself, without a broker between. That it did is sure, and nothing else is.
    Neighbour(NodeId, Vec<u8>),
    /// Other cameras are watched from now on.
    Cameras(Vec<CameraId>),
    /// What the own station is to those who stand in for this node.
    Duty(Box<Duty>),
    /// What an earlier run kept by [`Order::Remember`]. Before anything else, or it would count more than what is said now.
    Recalled(Box<Memory>),
    /// What concerns models alone.
    Model(ModelInput),
    /// A batch could not be handed to the client.
    SendRefused(Send),
    /// The answer to [`Effect::Heartbeat`].
    Facts(Box<Facts>),
    /// Time passed.
    Tick,
    /// The agent stops: say goodbye.
    Stop,
}

/// An event on its way to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The boot it belongs to.
    pub boot: Boot,
    /// Its sequence: one more than the last of its boot.
    pub seq: u64,
    /// What it is worth when room is short.
    pub class: Class,
    /// Its encoded form, as it will be sent.
    pub bytes: Vec<u8>,
}

/// What must be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append this event to the store; answer with [`Input::Stored`] once it is durable.
    Store(NewEvent),
    /// Everything of this boot up to here is in the archive: remember it.
    Acked {
        /// The boot.
        boot: Boot,
        /// The watermark.
        upto: u64,
    },
    /// Read these events from the store and publish them as one batch.
    Send(Send),
    /// Publish a status message.
    Publish(Topic, Vec<u8>),
    /// Collect [`Facts`] and put them in.
    Heartbeat,
    /// Change what this node watches.
    Duty(Order),
    /// Change which model it watches with.
    Model(model::Order),
    /// An event that can never be sent: keep it where a person finds it.
    DeadLetter {
        /// Why, as a short constant word.
        reason: &'static str,
        /// The event as JSON, cut at [`DEAD_LETTER_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// Something that came in was refused; it is counted.
    Reject {
        /// A short constant word, the counter's label.
        reason: &'static str,
        /// A sentence.
        detail: String,
        /// How many of this reason there are now.
        count: u64,
    },
}

/// What only the shell can know.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Resident memory.
    pub resident_bytes: u64,
    /// Each camera's counters.
    pub cameras: Vec<CameraStats>,
    /// What is wrong, in a sentence each.
    pub problems: Vec<String>,
    /// How far each station is that this node watches.
    pub sights: BTreeMap<StationId, Sight>,
    /// Frames a second that the device could look at beside those of its own station.
    pub capacity_fps: u16,
    /// Stations of [`Order::Prepare`] that could be covered at once.
    pub ready: BTreeSet<StationId>,
    /// The broker that is connected to.
    pub broker: Option<String>,
    /// Messages that the shell refused before they came here, by reason.
    pub refused: BTreeMap<String, u64>,
    /// How far the audit log reaches.
    pub audit: Option<Head>,
    /// What is learned.
    pub learn: Option<LearnStats>,
    /// How it is with released heads, and what they must fit.
    pub learned: Option<(LearnedState, Learns)>,
}

/// Who a node is, for this run.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its name.
    pub node: NodeId,
    /// This run: the first boot of it.
    pub boot: Boot,
    /// Drawn at random at the start. Boots that begin later in the run take theirs from it.
    pub salt: u32,
    /// Its process.
    pub pid: u32,
    /// What it is.
    pub twin: Twin,
    /// What its station is to others.
    pub duty: Duty,
}

/// One agent.
pub struct Node {
    identity: Identity,
    started_ms: u64,
    outbox: Outbox,
    online: bool,
    /// Heartbeats are said without a broker too.
    neighbourly: bool,
    /// The boot that events are given sequences of now.
    boot: Boot,
    /// What was given to the store of each boot of this run that is not durable to its end, and of the current one.
    given: BTreeMap<Boot, Given>,
    /// Events given a sequence, and those that are durable, in all boots of this run.
    observed: u64,
    stored: u64,
    lost: u64,
    dead: u64,
    given_up: BTreeMap<GapCause, u64>,
    connects: u64,
    rejected: BTreeMap<String, u64>,
    problems: Vec<String>,
    audit: Option<Head>,
    namesake: Namesake,
    duties: Duties,
    orders: Vec<Order>,
    models: Option<Models>,
    heartbeat_due_ms: u64,
    stats_due_ms: u64,
    /// The last step.
    stepped: Now,
}

/// The last sequence of a boot that was given to the store, and the last that is durable.
#[derive(Debug, Clone, Copy, Default)]
struct Given {
    last: u64,
    stored: u64,
}

impl Node {
    /// A node that begins the boot of `identity` over what the store found.
    pub fn new(now: Now, identity: Identity, found: impl IntoIterator<Item = (Boot, Lane)>) -> Self {
        let spread = scatter(identity.node.as_str().bytes().map(u64::from));
        Node {
            outbox: Outbox::new(spread, identity.boot, found),
            started_ms: now.mono_ms,
            online: false,
            neighbourly: false,
            boot: identity.boot,
            given: [(identity.boot, Given::default())].into(),
            observed: 0,
            stored: 0,
            lost: 0,
            dead: 0,
            given_up: BTreeMap::new(),
            connects: 0,
            rejected: BTreeMap::new(),
            problems: Vec::new(),
            audit: None,
            namesake: Namesake::default(),
            duties: Duties::new(now, identity.node.clone(), identity.twin.station.clone(), identity.boot),
            orders: Vec::new(),
            models: None,
            heartbeat_due_ms: now.mono_ms,
            stats_due_ms: now.mono_ms,
            stepped: now,
            identity,
        }
    }

    /// Says heartbeats from now on without a connection too: somebody else than the broker hears them.
    pub fn speaks_with_neighbours(&mut self) {
        self.neighbourly = true;
    }

    /// Takes one input and appends what must be done to `out`.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Observed(event) => self.observe(*event, out),
            Input::Lost(boot, gap) => {
                let last = self.given.get(&boot).map_or(u64::MAX, |given| given.last);
                assert!(gap.to <= last, "the store cannot give up what was not given to it");
                *self.given_up.entry(gap.cause).or_default() += self.outbox.lost(boot, gap);
            }
            Input::Stored(boot, upto) => self.made_durable(boot, upto),
            Input::LinkUp => {
                self.online = true;
                self.connects += 1;
                self.outbox.connected();
                if self.outbox.wants_new_boot() {
                    self.begin_boot(now);
                }
                self.duties.online(now, true);
                self.say_health(now, UpDown::Up, out);
                self.say_twin(out);
                self.say_duty(out);
                self.models_online(now, true, out);
                // Not in a second: it is what leases are renewed by.
                self.heartbeat_due_ms = now.mono_ms;
            }
            Input::Duty(duty) => {
                self.identity.duty = *duty;
                self.say_duty(out);
            }
            Input::Recalled(memory) => self.duties.recall(now, *memory, &mut self.orders),
            Input::Cameras(cameras) => {
                self.identity.twin.cameras = cameras;
                self.say_twin(out);
            }
            Input::LinkDown => {
                self.online = false;
                self.duties.online(now, false);
                self.models_online(now, false, out);
                self.outbox.disconnected();
            }
            Input::Message(topic, payload) => self.message(now, &topic, &payload, out),
            Input::Neighbour(node, payload) => match decoded::<Heartbeat>(&payload, "a neighbour's heartbeat") {
                Ok(beat) => self.duties.neighbour_heartbeat(now, &node, beat),
                Err((reason, detail)) => self.reject(reason, detail, out),
            },
            Input::Refused(reason, detail) => self.reject(reason, detail, out),
            Input::Model(input) => self.of_models(now, input, out),
            Input::SendRefused(send) => self.outbox.refused(now.mono_ms, send),
            Input::Facts(facts) => self.say_facts(now, *facts, out),
            Input::Tick => {}
            Input::Stop => {
                self.models_move_on(now, true, out);
                self.say_health(now, UpDown::Down, out);
            }
        }
        if now.mono_ms >= self.heartbeat_due_ms {
            self.heartbeat_due_ms = now.mono_ms + HEARTBEAT_MS;
            out.push(Effect::Heartbeat);
        }
        self.models_move_on(now, false, out);
        self.duties.move_on(now, &mut self.orders);
        out.extend(self.orders.drain(..).map(Effect::Duty));
        while let Some(send) = self.outbox.next(now.mono_ms) {
            out.push(Effect::Send(send));
        }
        self.stepped = now;
    }

    /// When [`Input::Tick`] is due at the latest, on the monotonic clock.
    pub fn next_wakeup_ms(&self) -> u64 {
        let of_models = self.models.as_ref().and_then(|models| models.next_wakeup_ms(self.stepped));
        let wakeups = [self.outbox.next_wakeup_ms(), self.duties.next_wakeup_ms(self.stepped.mono_ms), of_models];
        wakeups.into_iter().flatten().fold(self.heartbeat_due_ms, u64::min)
    }

    /// Events observed and not yet in the archive, of all boots: 0 means that nothing is owed to anybody.
    pub fn owed(&self) -> u64 {
        self.outbox.pending() + (self.observed - self.stored)
    }

    /// Events of this run that were given a sequence.
    pub fn observed(&self) -> u64 {
        self.observed
    }

    /// Events made durable in this run.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Events of this run that could not be stored.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Messages refused for this reason.
    pub fn rejected(&self, reason: &str) -> u64 {
        self.rejected.get(reason).copied().unwrap_or(0)
    }

    /// Events sent more than once in this run.
    pub fn resent(&self) -> u64 {
        self.outbox.resent()
    }

    fn observe(&mut self, mut event: Event, out: &mut Vec<Effect>) {
        event.epoch = self.duties.epoch(&event.station).0;
        event.covering_for = (event.station != self.identity.twin.station).then(|| event.station.clone());
        // The size comes first: an event that does not fit must never hold up those behind it.
        let bytes = match codec::encode(&event) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.dead += 1;
                out.push(Effect::DeadLetter { reason: error.word(), bytes: dead_letter(&event) });
                return;
            }
        };
        if self.observed - self.stored >= UNSTORED_EVENTS_MAX {
            self.lost += 1;
            return;
        }
        let (boot, given) = (self.boot, self.given.get_mut(&self.boot).expect("the current boot is always here"));
        given.last += 1;
        self.observed += 1;
        out.push(Effect::Store(NewEvent { boot, seq: given.last, class: event.kind.class(), bytes }));
    }

    fn made_durable(&mut self, boot: Boot, upto: u64) {
        let given = self.given.get_mut(&boot).expect("the store answers for boots that it was given");
        assert!(upto <= given.last, "the store cannot have what was not given to it");
        assert!(upto >= given.stored, "durable events do not become fewer");
        self.stored += upto - given.stored;
        given.stored = upto;
        if boot != self.boot && given.stored == given.last {
            self.given.remove(&boot);
        }
        self.outbox.stored(boot, upto);
    }

    /// What is observed from here on need not wait behind what was observed before.
    fn begin_boot(&mut self, now: Now) {
        let salt = scatter([u64::from(self.identity.salt), self.boot.0]) as u32;
        let boot = Boot::after(Some(self.boot), now.unix_ms / 1000, salt);
        let before = self.given[&self.boot];
        if before.stored == before.last {
            self.given.remove(&self.boot);
        }
        self.outbox.begin(boot, before.last);
        self.given.insert(boot, Given::default());
        self.boot = boot;
    }

    fn message(&mut self, now: Now, topic: &Topic, payload: &[u8], out: &mut Vec<Effect>) {
        self.duties.heard(now);
        match topic {
            Topic::Ack(node) if *node == self.identity.node => self.ack(now, payload, out),
            Topic::Health(node) if *node == self.identity.node => self.own_health(now, payload, out),
            Topic::Leases(node) | Topic::Standby(node) if *node == self.identity.node => {
                self.of_the_coordinator(now, topic, payload, out);
            }
            Topic::ModelAssignment(node) if *node == self.identity.node => self.model_message(now, topic, payload, out),
            Topic::Blob(_) => self.model_message(now, topic, payload, out),
            Topic::Health(_) | Topic::Heartbeat(_) | Topic::Duty(_) | Topic::CoordinatorHealth => {
                self.of_another(now, topic, payload, out);
            }
            _ => self.reject("topic", format!("{topic:?} is not for this node"), out),
        }
    }

    fn ack(&mut self, now: Now, payload: &[u8], out: &mut Vec<Effect>) {
        let ack = match codec::decode::<Ack>(payload) {
            Ok(ack) => ack,
            Err(error) => return self.reject(error.word(), format!("an ack: {error}"), out),
        };
        match self.outbox.ack(now.mono_ms, &ack) {
            Ok(Some(upto)) => out.push(Effect::Acked { boot: ack.boot, upto }),
            Ok(None) => {}
            Err(error) => self.reject("ack_beyond", error.to_string(), out),
        }
    }

    /// The topic of our own health: what stands there is ours, an earlier run's, or of somebody who has our name.
    fn own_health(&mut self, now: Now, payload: &[u8], out: &mut Vec<Effect>) {
        match status::read::<Health>(payload) {
            // Somebody has cleared what was retained.
            Err(_) if payload.is_empty() => {}
            Err((reason, detail)) => self.reject(reason, detail, out),
            Ok(health) => {
                let (pid, boot) = (self.identity.pid, self.identity.boot);
                if self.namesake.heard(now.mono_ms, (pid, boot), &health) {
                    self.say_health(now, UpDown::Up, out);
                }
            }
        }
    }

    /// What the coordinator grants, and what it says beforehand.
    fn of_the_coordinator(&mut self, now: Now, topic: &Topic, payload: &[u8], out: &mut Vec<Effect>) {
        let taken = match topic {
            Topic::Leases(_) => decoded::<Leases>(payload, "leases")
                .and_then(|leases| self.duties.leases(now, leases, &mut self.orders)),
            _ => decoded::<Standby>(payload, "what to stand by for")
                .and_then(|standby| self.duties.standby(now, standby, &mut self.orders)),
        };
        if let Err((reason, detail)) = taken {
            self.reject(reason, detail, out);
        }
    }

    /// What other nodes say of themselves, and what is said of the coordinator.
    fn of_another(&mut self, now: Now, topic: &Topic, payload: &[u8], out: &mut Vec<Effect>) {
        let taken = match topic {
            // Somebody has cleared what was retained.
            _ if payload.is_empty() => Ok(()),
            Topic::Heartbeat(node) => {
                decoded::<Heartbeat>(payload, "a heartbeat").map(|beat| self.duties.peer_heartbeat(now, node, beat))
            }
            Topic::Duty(node) => {
                decoded::<Duty>(payload, "a duty").map(|duty| self.duties.peer_duty(node, duty, &mut self.orders))
            }
            Topic::Health(node) => {
                status::read::<Health>(payload).map(|health| self.duties.peer_health(now, node, &health))
            }
            _ => status::read::<Health>(payload).map(|health| self.duties.coordinator_health(now, &health)),
        };
        if let Err((reason, detail)) = taken {
            self.reject(reason, detail, out);
        }
    }

    fn reject(&mut self, reason: &'static str, detail: String, out: &mut Vec<Effect>) {
        let count = self.rejected.entry(reason.to_owned()).or_default();
        *count += 1;
        out.push(Effect::Reject { reason, detail, count: *count });
    }

    fn say_health(&self, now: Now, status: UpDown, out: &mut Vec<Effect>) {
        if self.online {
            let health = Health {
                status,
                pid: self.identity.pid,
                time: now.unix_ms / 1000,
                boot: self.identity.boot,
                epoch: self.duties.own_epoch().0,
                problems: self.problems.iter().cloned().chain(self.namesake.problem(&self.identity.node)).collect(),
                goodbye: status == UpDown::Down,
                audit: self.audit.clone(),
                name: None,
            };
            out.push(Effect::Publish(Topic::Health(self.identity.node.clone()), to_json(&health)));
        }
    }

    fn say_twin(&self, out: &mut Vec<Effect>) {
        if self.online {
            let twin = to_json(&self.identity.twin);
            out.push(Effect::Publish(Topic::Twin(self.identity.node.clone()), twin));
        }
    }

    fn say_duty(&self, out: &mut Vec<Effect>) {
        if !self.online {
            return;
        }
        // One that is too large is the configuration's, and covering is the only thing that it hinders.
        if let Ok(duty) = codec::encode(&self.identity.duty) {
            out.push(Effect::Publish(Topic::Duty(self.identity.node.clone()), duty));
        }
    }

    fn say_facts(&mut self, now: Now, mut facts: Facts, out: &mut Vec<Effect>) {
        facts.problems.extend(self.models_watch(now, &facts.cameras, facts.learned.take(), out));
        self.duties.facts(&facts.sights, facts.capacity_fps, &facts.ready);
        let heartbeat = self.duties.heartbeat(now);
        if self.online || self.neighbourly {
            let heartbeat = codec::encode(&heartbeat).expect("a heartbeat of ours keeps its own bounds");
            out.push(Effect::Publish(Topic::Heartbeat(self.identity.node.clone()), heartbeat));
        }
        self.say_stats(now, facts, out);
    }

    fn say_stats(&mut self, now: Now, facts: Facts, out: &mut Vec<Effect>) {
        let namesake_gone = self.namesake.expired(now.mono_ms);
        if facts.problems != self.problems || facts.audit != self.audit || namesake_gone {
            (self.problems, self.audit) = (facts.problems, facts.audit);
            self.say_health(now, UpDown::Up, out);
        }
        if !self.online || now.mono_ms < self.stats_due_ms {
            return;
        }
        // They are said with a heartbeat, and those are not to the millisecond.
        self.stats_due_ms = now.mono_ms + STATS_MS - HEARTBEAT_MS / 2;
        let mut rejected = self.rejected.clone();
        for (reason, count) in facts.refused {
            *rejected.entry(reason).or_default() += count;
        }
        let stats = Stats {
            time: now.unix_ms / 1000,
            boot: self.identity.boot,
            uptime_s: (now.mono_ms - self.started_ms) / 1000,
            resident_bytes: facts.resident_bytes,
            events_stored: self.stored,
            events_acked: self.outbox.acked(),
            events_pending: self.outbox.pending(),
            events_lost: self.lost,
            events_resent: self.outbox.resent(),
            rejected,
            connects: self.connects,
            cameras: facts.cameras,
            outbox: self.outbox.mode(),
            events_backlog: self.outbox.backlog(),
            events_given_up: self.given_up.iter().map(|(cause, count)| (cause.word().into(), *count)).collect(),
            events_dead: self.dead,
            broker: facts.broker,
            learn: facts.learn,
        };
        out.push(Effect::Publish(Topic::Stats(self.identity.node.clone()), to_json(&stats)));
    }
}

/// The will that belongs to [`Node`]'s health.
pub fn will(identity: &Identity, unix_ms: u64) -> Vec<u8> {
    to_json(&Health {
        status: UpDown::Down,
        pid: identity.pid,
        time: unix_ms / 1000,
        boot: identity.boot,
        epoch: 0,
        problems: vec!["the broker lost the connection to this node".into()],
        goodbye: false,
        audit: None,
        name: None,
    })
}

fn dead_letter(event: &Event) -> Vec<u8> {
    let mut bytes = to_json(event);
    bytes.truncate(DEAD_LETTER_BYTES_MAX);
    bytes
}

fn decoded<T: Wire>(payload: &[u8], what: &str) -> Result<T, (&'static str, String)> {
    codec::decode(payload).map_err(|error| (error.word(), format!("{what}: {error}")))
}

fn to_json(message: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("our own status types have string keys and no failing serialiser")
}
