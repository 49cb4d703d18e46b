//! The broker, and the network between it and everybody: sessions, wills, retained messages, subscriptions; and all that
//! goes wrong with them: loss, delay, copies, paths that are open one way only, connections that only one end knows to be dead.
//!
//! It decides what arrives where and when, and how each end finds out that the other is gone. The world keeps the time.
//! Each direction of a connection keeps its order, as TCP does; those of different connections overtake each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use fastrand::Rng;
use picket_shared::ids::SiteId;
use picket_shared::topics::Topic;

use super::filters::{at_least_once, of_nodes};
use super::scenario::Air;
use super::{Due, Happening};

/// After so long without a packet the broker cuts a client: 1.4 to 1.7 times the keep-alive of 5 s, as mosquitto does.
const KEEP_ALIVE_MS: std::ops::Range<u64> = 7_000..8_500;
/// After so long without an answer to its ping a client gives its connection up.
const UNANSWERED_MS: std::ops::Range<u64> = 5_000..10_000;
/// The end of a connection is seen by the other end after this, where the path is open.
const FIN_MS: std::ops::Range<u64> = 1..20;
/// Packets that wait for a path to open, in each direction: what a socket and a client's queue hold.
const HELD_MAX: usize = 256;
/// TCP sends again after this, and doubles it each time.
const RETRANSMISSION_MS: u64 = 200;
const RETRANSMISSIONS_MAX: u32 = 6;
/// A copy comes so much later at most.
const REPLAY_MS_MAX: u64 = 20_000;

/// A client of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// The agent with this index.
    Agent(usize),
    /// The coordinator with this index.
    Coordinator(usize),
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Packet {
    /// A message.
    Publish(Topic, Rc<[u8]>),
    /// Beside what it always listens to, it listens to these and no others.
    Listen(BTreeSet<Topic>),
}

/// What a client tells the broker when it connects.
pub struct Introduction {
    /// What is published in its name when it is lost.
    pub will: (Topic, Rc<[u8]>),
    /// What it listens to as long as it is connected.
    pub always: BTreeSet<Topic>,
    /// What it listens to beside, until it says something else.
    pub more: BTreeSet<Topic>,
}

/// Messages and bytes, topics included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages.
    pub messages: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Traffic {
    fn add(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
    }
}

/// Why a connection cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// Refused at once.
    Refused,
    /// No answer.
    Silent,
}

struct Session {
    number: u64,
    will: (Topic, Rc<[u8]>),
    always: BTreeSet<Topic>,
    more: BTreeSet<Topic>,
}

/// One client's end, and the path to it.
struct End {
    /// The connection that the client believes in.
    session: Option<u64>,
    up_open: bool,
    down_open: bool,
    /// Nothing of it runs.
    still: bool,
    silent_since_ms: Option<u64>,
    unanswered_since_ms: Option<u64>,
    held_up: VecDeque<Packet>,
    held_down: VecDeque<(Topic, Rc<[u8]>)>,
    up_last_ms: u64,
    down_last_ms: u64,
    sent: Traffic,
    received: Traffic,
}

/// The broker and the network.
pub struct Net {
    site: SiteId,
    rng: Rng,
    /// How bad it is now.
    pub air: Air,
    up: bool,
    made: u64,
    ends: BTreeMap<Who, End>,
    sessions: BTreeMap<Who, Session>,
    listeners: BTreeMap<Topic, BTreeSet<Who>>,
    coordinators: Vec<Who>,
    retained: BTreeMap<Topic, Rc<[u8]>>,
}

impl Net {
    /// A broker that nobody has reached yet.
    pub fn new(site: SiteId, seed: u64, air: Air, clients: impl Iterator<Item = Who>) -> Net {
        let end = || End {
            session: None,
            up_open: true,
            down_open: true,
            still: false,
            silent_since_ms: None,
            unanswered_since_ms: None,
            held_up: VecDeque::new(),
            held_down: VecDeque::new(),
            up_last_ms: 0,
            down_last_ms: 0,
            sent: Traffic::default(),
            received: Traffic::default(),
        };
        let ends: BTreeMap<Who, End> = clients.map(|who| (who, end())).collect();
        let coordinators = ends.keys().copied().filter(|who| matches!(who, Who::Coordinator(_))).collect();
        let (sessions, listeners, retained) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Net {
            site,
            rng: Rng::with_seed(seed),
            air,
            up: true,
            made: 0,
            ends,
            sessions,
            listeners,
            coordinators,
            retained,
        }
    }

    /// What a client has sent and received so far.
    pub fn traffic(&self, who: Who) -> (Traffic, Traffic) {
        let end = &self.ends[&who];
        (end.sent, end.received)
    }

    /// Whether the broker runs.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Whether this client could talk with the broker now, both ways.
    pub fn reaches(&self, who: Who) -> bool {
        let end = &self.ends[&who];
        self.up && end.up_open && end.down_open
    }

    /// Whether both ends have a connection, and the same, and can use it.
    pub fn connected(&self, who: Who) -> bool {
        let real = self.sessions.get(&who).map(|session| session.number);
        self.reaches(who) && real.is_some() && real == self.ends[&who].session
    }

    /// The connection that the client believes in.
    pub fn session(&self, who: Who) -> Option<u64> {
        self.ends[&who].session
    }

    /// Makes a connection, and sends what is retained for it. Another of the same client ends.
    pub fn connect(
        &mut self,
        now_ms: u64,
        who: Who,
        Introduction { will, always, more }: Introduction,
        out: &mut Due,
    ) -> Result<(), Unreachable> {
        let end = &self.ends[&who];
        if !(end.up_open && end.down_open) {
            return Err(Unreachable::Silent);
        }
        if !self.up {
            return Err(Unreachable::Refused);
        }
        if let Some(number) = self.sessions.get(&who).map(|session| session.number) {
            self.end_session(now_ms, who, number, out);
        }
        self.made += 1;
        let end = self.ends.get_mut(&who).expect("every client has an end");
        (end.session, end.unanswered_since_ms, end.silent_since_ms) = (Some(self.made), None, None);
        (end.held_up, end.held_down) = (VecDeque::new(), VecDeque::new());
        (end.up_last_ms, end.down_last_ms) = (now_ms, now_ms);
        let heard: BTreeSet<Topic> = always.union(&more).cloned().collect();
        self.sessions.insert(who, Session { number: self.made, will, always, more });
        self.subscribe(now_ms, who, heard, out);
        if matches!(who, Who::Coordinator(_)) {
            let theirs = self.retained.iter().filter(|(topic, _)| of_nodes(topic));
            let theirs: Vec<_> = theirs.map(|(topic, payload)| (topic.clone(), payload.clone())).collect();
            theirs.into_iter().for_each(|(topic, payload)| self.down(now_ms, who, topic, payload, out));
        }
        Ok(())
    }

    /// A client sends something; nothing where it has no connection.
    pub fn send(&mut self, now_ms: u64, who: Who, packet: Packet, out: &mut Due) {
        let bytes = match &packet {
            Packet::Publish(topic, payload) => self.bytes(topic, payload),
            Packet::Listen(_) => 0,
        };
        let end = self.ends.get_mut(&who).expect("every client has an end");
        let Some(number) = end.session else { return };
        if bytes > 0 {
            end.sent.add(bytes);
        }
        if !end.up_open {
            if end.held_up.len() < HELD_MAX {
                end.held_up.push_back(packet);
            }
            return;
        }
        let delay_ms = self.hop_ms(false);
        let end = self.ends.get_mut(&who).expect("every client has an end");
        let at_ms = (now_ms + delay_ms).max(end.up_last_ms);
        end.up_last_ms = at_ms;
        if at_ms - now_ms > KEEP_ALIVE_MS.start {
            out.push((now_ms + KEEP_ALIVE_MS.start, Happening::SessionEnds(who, number)));
        }
        out.push((at_ms, Happening::AtBroker(who, number, packet)));
    }

    /// A packet reaches the broker.
    pub fn at_broker(&mut self, now_ms: u64, who: Who, number: u64, packet: Packet, out: &mut Due) {
        let Some(session) = self.sessions.get_mut(&who).filter(|session| session.number == number) else { return };
        match packet {
            Packet::Publish(topic, payload) => self.publish(now_ms, topic, payload, out),
            Packet::Listen(more) => {
                let gone: Vec<Topic> =
                    session.more.difference(&more).filter(|topic| !session.always.contains(topic)).cloned().collect();
                let new: BTreeSet<Topic> =
                    more.difference(&session.more).filter(|topic| !session.always.contains(topic)).cloned().collect();
                session.more = more;
                gone.iter().for_each(|topic| self.unsubscribe(who, topic));
                self.subscribe(now_ms, who, new, out);
            }
        }
    }

    /// A message arrives at a client. True where that belongs to the connection that it believes in.
    pub fn at_client(&mut self, who: Who, number: u64, topic: &Topic, payload: &[u8]) -> bool {
        let bytes = self.bytes(topic, payload);
        let end = self.ends.get_mut(&who).expect("every client has an end");
        let fits = end.session == Some(number);
        if fits {
            end.received.add(bytes);
        }
        fits
    }

    /// The broker's end of a connection ends: its will is published, and the client hears of it where it can.
    pub fn end_session(&mut self, now_ms: u64, who: Who, number: u64, out: &mut Due) {
        if self.sessions.get(&who).is_none_or(|session| session.number != number) {
            return;
        }
        let session = self.sessions.remove(&who).expect("just seen");
        session.always.union(&session.more).for_each(|topic| self.unsubscribe(who, topic));
        let end = self.ends.get_mut(&who).expect("every client has an end");
        end.held_down.clear();
        if end.session == Some(number) && end.down_open {
            out.push((now_ms + self.rng.u64(FIN_MS), Happening::LinkLost(who, number)));
        }
        let (topic, payload) = session.will;
        self.publish(now_ms, topic, payload, out);
    }

    /// The broker has heard nothing of this client since then, and cuts it, unless it has meanwhile.
    pub fn keep_alive(&mut self, now_ms: u64, who: Who, number: u64, since_ms: u64, out: &mut Due) {
        if self.ends[&who].silent_since_ms == Some(since_ms) {
            self.end_session(now_ms, who, number, out);
        }
    }

    /// Whether the client has had no answer since then.
    pub fn is_unanswered(&self, who: Who, since_ms: u64) -> bool {
        self.ends[&who].unanswered_since_ms == Some(since_ms)
    }

    /// The client's end of a connection ends: it noticed, or it died and its system said so. True where it had one.
    pub fn lose(&mut self, now_ms: u64, who: Who, number: u64, out: &mut Due) -> bool {
        let end = self.ends.get_mut(&who).expect("every client has an end");
        if end.session != Some(number) {
            return false;
        }
        end.session = None;
        end.held_up.clear();
        end.unanswered_since_ms = None;
        if end.up_open && !end.still {
            out.push((now_ms + self.rng.u64(FIN_MS), Happening::SessionEnds(who, number)));
        }
        true
    }

    /// The path to and from a client opens or closes.
    pub fn path(&mut self, now_ms: u64, who: Who, up_open: bool, down_open: bool, out: &mut Due) {
        let end = self.ends.get_mut(&who).expect("every client has an end");
        let opened = (up_open && !end.up_open, down_open && !end.down_open);
        (end.up_open, end.down_open) = (up_open, down_open);
        self.look(now_ms, who, out);
        self.flush(now_ms, who, opened, out);
    }

    /// Nothing of this client runs any more, or it does again.
    pub fn still(&mut self, now_ms: u64, who: Who, still: bool, out: &mut Due) {
        self.ends.get_mut(&who).expect("every client has an end").still = still;
        self.look(now_ms, who, out);
    }

    /// The broker is killed. It has what was retained when it comes back, unless it forgets.
    pub fn broker_dies(&mut self, now_ms: u64, forgets: bool, out: &mut Due) {
        self.up = false;
        self.listeners.clear();
        for (who, session) in std::mem::take(&mut self.sessions) {
            let end = self.ends.get_mut(&who).expect("every client has an end");
            end.held_down.clear();
            if end.session == Some(session.number) && end.down_open {
                out.push((now_ms + self.rng.u64(FIN_MS), Happening::LinkLost(who, session.number)));
            }
        }
        if forgets {
            self.retained.clear();
        }
    }

    /// The broker is back.
    pub fn broker_returns(&mut self) {
        self.up = true;
    }

    /// What each end makes of the other's silence.
    fn look(&mut self, now_ms: u64, who: Who, out: &mut Due) {
        let end = self.ends.get_mut(&who).expect("every client has an end");
        let silent = (end.still || !end.up_open).then_some(now_ms);
        let unanswered = (!end.up_open || !end.down_open).then_some(now_ms);
        end.silent_since_ms = silent.and(end.silent_since_ms.or(silent));
        end.unanswered_since_ms = unanswered.and(end.unanswered_since_ms.or(unanswered));
        let (silent, unanswered) = (end.silent_since_ms == Some(now_ms), end.unanswered_since_ms == Some(now_ms));
        if let Some(session) = self.sessions.get(&who).filter(|_| silent) {
            let at_ms = now_ms + self.rng.u64(KEEP_ALIVE_MS);
            out.push((at_ms, Happening::KeepAlive(who, session.number, now_ms)));
        }
        if let Some(number) = self.ends[&who].session.filter(|_| unanswered) {
            let at_ms = now_ms + self.rng.u64(UNANSWERED_MS);
            out.push((at_ms, Happening::Unanswered(who, number, now_ms)));
        }
    }

    /// What waited for a path goes on, and ends that belong to nothing are told.
    fn flush(&mut self, now_ms: u64, who: Who, (up, down): (bool, bool), out: &mut Due) {
        let end = self.ends.get_mut(&who).expect("every client has an end");
        let believed = end.session;
        let real = self.sessions.get(&who).map(|session| session.number);
        if up {
            let held = std::mem::take(&mut end.held_up);
            held.into_iter().for_each(|packet| self.send(now_ms, who, packet, out));
            if let Some(number) = real.filter(|_| believed != real) {
                out.push((now_ms + self.rng.u64(FIN_MS), Happening::SessionEnds(who, number)));
            }
        }
        if down {
            let end = self.ends.get_mut(&who).expect("every client has an end");
            let held = std::mem::take(&mut end.held_down);
            held.into_iter().for_each(|(topic, payload)| self.down(now_ms, who, topic, payload, out));
            if let Some(number) = believed.filter(|_| believed != real) {
                out.push((now_ms + self.rng.u64(FIN_MS), Happening::LinkLost(who, number)));
            }
        }
    }

    fn publish(&mut self, now_ms: u64, topic: Topic, payload: Rc<[u8]>, out: &mut Due) {
        let mut hearers: Vec<Who> = self.listeners.get(&topic).into_iter().flatten().copied().collect();
        if of_nodes(&topic) {
            hearers.extend(self.coordinators.iter().copied().filter(|who| self.sessions.contains_key(who)));
        }
        for who in hearers {
            if !at_least_once(&topic) && self.rng.f64() < self.air.loss {
                continue;
            }
            let copies = if self.rng.f64() < self.air.duplication { 2 } else { 1 };
            (0..copies).for_each(|_| self.down(now_ms, who, topic.clone(), payload.clone(), out));
            if self.rng.f64() < self.air.replay {
                let (at_ms, number) = (now_ms + self.rng.u64(..REPLAY_MS_MAX), self.sessions[&who].number);
                out.push((at_ms, Happening::AtClient(who, number, topic.clone(), payload.clone())));
            }
        }
        if topic.retained() {
            self.retained.insert(topic, payload);
        }
    }

    fn down(&mut self, now_ms: u64, who: Who, topic: Topic, payload: Rc<[u8]>, out: &mut Due) {
        let Some(number) = self.sessions.get(&who).map(|session| session.number) else { return };
        let delay_ms = self.hop_ms(at_least_once(&topic));
        let end = self.ends.get_mut(&who).expect("every client has an end");
        if !end.down_open {
            if end.held_down.len() < HELD_MAX {
                end.held_down.push_back((topic, payload));
            }
            return;
        }
        let at_ms = (now_ms + delay_ms).max(end.down_last_ms);
        end.down_last_ms = at_ms;
        out.push((at_ms, Happening::AtClient(who, number, topic, payload)));
    }

    /// Most messages are quick; some take their time.
    fn hop_ms(&mut self, sent_until_heard: bool) -> u64 {
        let drawn_ms = self.air.delay_s.draw_ms(&mut self.rng).max(1);
        let mut delay_ms = if self.rng.u8(..10) == 0 { drawn_ms } else { drawn_ms.div_ceil(10) };
        let part = if sent_until_heard { self.air.loss.max(self.air.retransmission) } else { self.air.retransmission };
        for again in 0..RETRANSMISSIONS_MAX {
            if self.rng.f64() >= part {
                break;
            }
            delay_ms += RETRANSMISSION_MS << again;
        }
        delay_ms
    }

    fn subscribe(&mut self, now_ms: u64, who: Who, topics: BTreeSet<Topic>, out: &mut Due) {
        for topic in topics {
            if let Some(payload) = self.retained.get(&topic).cloned() {
                self.down(now_ms, who, topic.clone(), payload, out);
            }
            self.listeners.entry(topic).or_default().insert(who);
        }
    }

    fn unsubscribe(&mut self, who: Who, topic: &Topic) {
        if let Some(listeners) = self.listeners.get_mut(topic) {
            listeners.remove(&who);
        }
    }

    /// A packet's bytes: topic, payload, and what MQTT puts around them.
    fn bytes(&self, topic: &Topic, payload: &[u8]) -> u64 {
        (topic.render(&self.site).len() + payload.len() + 6) as u64
    }
}
