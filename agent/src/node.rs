//! The agent's root state machine: what the camera path, the store and the broker report goes in, what must be done comes
//! out.
//!
//! Pure: no clock, no sockets, no files. The shell (`app.rs`) and the simulation both drive it. An event is told only after
//! the store said that it is durable. Bad remote input becomes [`Effect::Reject`] and a counter.

use std::collections::BTreeMap;

use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::event::{Class, Event};
use picket_shared::ids::{Boot, CameraId, NodeId};
use picket_shared::limits::HEARTBEAT_MS;
use picket_shared::status::{CameraStats, Health, Stats, Twin, UpDown};
use picket_shared::topics::Topic;
use picket_shared::wire::{Ack, Gap};

use crate::outbox::{Lane, Outbox, Send};

/// Events waiting for the disk. At one event a second and camera, a disk may be stuck for minutes before one is lost.
pub const UNSTORED_EVENTS_MAX: u64 = 1_024;

/// What happens to a node.
#[derive(Debug, Clone)]
pub enum Input {
    /// The frame path has something to tell.
    Observed(Box<Event>),
    /// The store made this boot durable up to this sequence.
    Stored(Boot, u64),
    /// The store gave these up: there is no room for all that is owed.
    Lost(Boot, Gap),
    /// The connection to the broker is made; whatever was on its way is lost.
    LinkUp,
    /// There is no connection.
    LinkDown,
    /// A message for this node.
    Message(Topic, Vec<u8>),
    /// Other cameras are watched from now on.
    Cameras(Vec<CameraId>),
    /// A batch could not be handed to the client.
    SendRefused(Send),
    /// The answer to [`Effect::Heartbeat`].
    Facts(Facts),
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
    /// Something that came in was refused; it is counted.
    Reject {
        /// A short constant word, the counter's label.
        reason: &'static str,
        /// A sentence.
        detail: String,
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
}

/// Who a node is, for this run.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its name.
    pub node: NodeId,
    /// This run.
    pub boot: Boot,
    /// Its process.
    pub pid: u32,
    /// What it is.
    pub twin: Twin,
}

/// One agent.
pub struct Node {
    identity: Identity,
    started_ms: u64,
    outbox: Outbox,
    online: bool,
    /// The last sequence given out, and the last that is durable.
    seq: u64,
    stored: u64,
    lost: u64,
    connects: u64,
    rejected: BTreeMap<String, u64>,
    problems: Vec<String>,
    heartbeat_due_ms: u64,
}

impl Node {
    /// A node that begins the boot of `identity` over what the store found.
    pub fn new(now: Now, identity: Identity, found: impl IntoIterator<Item = (Boot, Lane)>) -> Self {
        Node {
            outbox: Outbox::new(identity.boot, found),
            identity,
            started_ms: now.mono_ms,
            online: false,
            seq: 0,
            stored: 0,
            lost: 0,
            connects: 0,
            rejected: BTreeMap::new(),
            problems: Vec::new(),
            heartbeat_due_ms: now.mono_ms,
        }
    }

    /// Takes one input and appends what must be done to `out`.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Observed(event) => self.observe(&event, out),
            Input::Lost(..) => {}
            Input::Stored(_, upto) => {
                assert!(upto <= self.seq, "the store cannot have what was not given to it");
                self.stored = upto;
                self.outbox.stored(upto);
            }
            Input::LinkUp => {
                self.online = true;
                self.connects += 1;
                self.outbox.connected(now.mono_ms);
                self.say_health(now, UpDown::Up, out);
                self.say_twin(out);
            }
            Input::Cameras(cameras) => {
                self.identity.twin.cameras = cameras;
                self.say_twin(out);
            }
            Input::LinkDown => {
                self.online = false;
                self.outbox.disconnected();
            }
            Input::Message(topic, payload) => self.message(now, &topic, &payload, out),
            Input::SendRefused(send) => self.outbox.refused(now.mono_ms, send),
            Input::Facts(facts) => self.say_stats(now, facts, out),
            Input::Tick => {}
            Input::Stop => self.say_health(now, UpDown::Down, out),
        }
        if now.mono_ms >= self.heartbeat_due_ms {
            self.heartbeat_due_ms = now.mono_ms + HEARTBEAT_MS;
            out.push(Effect::Heartbeat);
        }
        while let Some(send) = self.outbox.next(now.mono_ms) {
            out.push(Effect::Send(send));
        }
    }

    /// When [`Input::Tick`] is due at the latest, on the monotonic clock.
    pub fn next_wakeup_ms(&self) -> u64 {
        self.outbox.next_wakeup_ms().map_or(self.heartbeat_due_ms, |wakeup| wakeup.min(self.heartbeat_due_ms))
    }

    /// Events observed and not yet in the archive, of all boots: 0 means that nothing is owed to anybody.
    pub fn owed(&self) -> u64 {
        self.outbox.pending() + (self.seq - self.stored)
    }

    /// Events of this boot that were given a sequence.
    pub fn observed(&self) -> u64 {
        self.seq
    }

    /// Events made durable in this boot.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Events of this boot that could not be stored.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Events sent more than once in this boot.
    pub fn resent(&self) -> u64 {
        self.outbox.resent()
    }

    fn observe(&mut self, event: &Event, out: &mut Vec<Effect>) {
        if self.seq - self.stored >= UNSTORED_EVENTS_MAX {
            self.lost += 1;
            return;
        }
        match codec::encode(event) {
            Ok(bytes) => {
                self.seq += 1;
                let (boot, seq, class) = (self.identity.boot, self.seq, event.kind.class());
                out.push(Effect::Store(NewEvent { boot, seq, class, bytes }));
            }
            Err(error) => {
                self.lost += 1;
                self.reject(error.word(), format!("an event of our own cannot be written: {error}"), out);
            }
        }
    }

    fn message(&mut self, now: Now, topic: &Topic, payload: &[u8], out: &mut Vec<Effect>) {
        if *topic != Topic::Ack(self.identity.node.clone()) {
            return self.reject("topic", format!("{topic:?} is not for this node"), out);
        }
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

    fn reject(&mut self, reason: &'static str, detail: String, out: &mut Vec<Effect>) {
        *self.rejected.entry(reason.to_owned()).or_default() += 1;
        out.push(Effect::Reject { reason, detail });
    }

    fn say_health(&self, now: Now, status: UpDown, out: &mut Vec<Effect>) {
        if self.online {
            let health = Health {
                status,
                pid: self.identity.pid,
                time: now.unix_ms / 1000,
                boot: self.identity.boot,
                epoch: 0,
                problems: self.problems.clone(),
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

    fn say_stats(&mut self, now: Now, facts: Facts, out: &mut Vec<Effect>) {
        if facts.problems != self.problems {
            self.problems = facts.problems;
            self.say_health(now, UpDown::Up, out);
        }
        if !self.online {
            return;
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
            rejected: self.rejected.clone(),
            connects: self.connects,
            cameras: facts.cameras,
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
    })
}

fn to_json(message: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("our own status types have string keys and no failing serialiser")
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::event::{EventKind, Precision};
    use picket_shared::ids::{EventId, StationId};
    use picket_shared::status::DetectorTwin;

    const BOOT: Boot = Boot(7);

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, unix_ms: 1_700_000_000_000 + mono_ms }
    }

    fn node() -> Node {
        let detector = DetectorTwin {
            model: "0123456789ab".into(),
            layout: "centernet".into(),
            provider: "cpu".into(),
            precision: Precision::Fp32,
            threads: 1,
            runtime: "1.24.4".into(),
            passed_over: BTreeMap::new(),
        };
        let station = StationId::new("gate").unwrap();
        let twin = Twin { version: "0".into(), arch: "x86_64".into(), station, cameras: vec![], detector };
        Node::new(at(0), Identity { node: NodeId::new("n1").unwrap(), boot: BOOT, pid: 1, twin }, [])
    }

    fn event() -> Input {
        Input::Observed(Box::new(Event {
            id: EventId::new("n1-7-1").unwrap(),
            kind: EventKind::New,
            station: StationId::new("gate").unwrap(),
            camera: CameraId::new("front").unwrap(),
            label: "person".into(),
            frame_time_ms: 1,
            start_time_ms: 1,
            end_time_ms: None,
            score: 0.5,
            top_score: 0.5,
            box_px: [1, 2, 3, 4],
            current_zones: vec![],
            entered_zones: vec![],
            stationary: false,
            model: "0123456789ab".into(),
            precision: Precision::Fp32,
            covering_for: None,
            epoch: 0,
        }))
    }

    fn step(node: &mut Node, mono_ms: u64, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        node.step(at(mono_ms), input, &mut out);
        out.retain(|effect| !matches!(effect, Effect::Heartbeat));
        out
    }

    #[test]
    fn an_event_is_told_only_after_it_is_durable() {
        let mut node = node();
        step(&mut node, 0, Input::LinkUp);
        let stored = step(&mut node, 1, event());
        assert!(matches!(stored[..], [Effect::Store(NewEvent { seq: 1, .. })]), "{stored:?}");
        assert_eq!(node.owed(), 1);
        let sent = step(&mut node, 2, Input::Stored(BOOT, 1));
        assert_eq!(sent, [Effect::Send(Send { boot: BOOT, base: 1, first: 1, count: 1, gap: None })]);
        let ack = codec::encode(&Ack { boot: BOOT, watermark: 1, holes: vec![] }).unwrap();
        let acked = step(&mut node, 3, Input::Message(Topic::Ack(NodeId::new("n1").unwrap()), ack));
        assert_eq!(acked, [Effect::Acked { boot: BOOT, upto: 1 }]);
        assert_eq!(node.owed(), 0);
    }

    #[test]
    fn a_stuck_disk_costs_the_newest_events_and_never_a_gap_in_the_sequence() {
        let mut node = node();
        for _ in 0..UNSTORED_EVENTS_MAX {
            assert_eq!(step(&mut node, 0, event()).len(), 1);
        }
        assert_eq!(step(&mut node, 0, event()), []);
        assert_eq!(node.lost(), 1);
        step(&mut node, 0, Input::Stored(BOOT, UNSTORED_EVENTS_MAX));
        let next = step(&mut node, 0, event());
        assert!(
            matches!(next[..], [Effect::Store(NewEvent { seq, .. })] if seq == UNSTORED_EVENTS_MAX + 1),
            "{next:?}"
        );
    }

    #[test]
    fn bad_messages_are_counted_by_reason_and_change_nothing() {
        let mut node = node();
        step(&mut node, 0, Input::LinkUp);
        let mine = Topic::Ack(NodeId::new("n1").unwrap());
        let other = Topic::Ack(NodeId::new("n2").unwrap());
        let beyond = codec::encode(&Ack { boot: BOOT, watermark: 5, holes: vec![] }).unwrap();
        for (topic, payload, reason) in [
            (&mine, vec![], "empty"),
            (&mine, b"\x01garbage".to_vec(), "malformed"),
            (&mine, vec![9; 10], "newer_version"),
            (&mine, vec![1; 100_000], "too_large"),
            (&other, beyond.clone(), "topic"),
            (&mine, beyond, "ack_beyond"),
        ] {
            let out = step(&mut node, 1, Input::Message(topic.clone(), payload));
            assert!(matches!(out[..], [Effect::Reject { reason: r, .. }] if r == reason), "{reason}: {out:?}");
            assert_eq!(node.rejected[reason], 1);
        }
    }

    #[test]
    fn the_twin_is_said_again_when_other_cameras_are_watched() {
        let mut node = node();
        let cameras = |name: &str| Input::Cameras(vec![CameraId::new(name).unwrap()]);
        assert_eq!(step(&mut node, 0, cameras("a")), [], "nobody hears it");
        let twin = |out: Vec<Effect>| match out.last() {
            Some(Effect::Publish(Topic::Twin(_), payload)) => serde_json::from_slice::<Twin>(payload).unwrap(),
            _ => panic!("{out:?}"),
        };
        assert_eq!(twin(step(&mut node, 1, Input::LinkUp)).cameras[0].as_str(), "a");
        assert_eq!(twin(step(&mut node, 2, cameras("b"))).cameras[0].as_str(), "b");
    }

    #[test]
    fn heartbeats_come_on_time_and_health_when_a_problem_is_new() {
        let mut node = node();
        step(&mut node, 0, Input::LinkUp);
        let mut out = Vec::new();
        node.step(at(node.next_wakeup_ms()), Input::Tick, &mut out);
        assert_eq!(out, [Effect::Heartbeat]);
        let facts = Facts { problems: vec!["the disk is full".into()], ..Facts::default() };
        let said = step(&mut node, 1, Input::Facts(facts.clone()));
        assert!(matches!(said[..], [Effect::Publish(Topic::Health(_), _), Effect::Publish(Topic::Stats(_), _)]));
        let again = step(&mut node, 2, Input::Facts(facts));
        assert!(matches!(again[..], [Effect::Publish(Topic::Stats(_), _)]));
    }
}
