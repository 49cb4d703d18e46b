//! Whole cores under hostile sequences of messages. An input is a tape of steps; whatever stands on it, a core goes on,
//! keeps its bounds, and says nothing that its record does not bear out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use picket_agent::duty::Order;
use picket_agent::node::{self, Facts, Node};
use picket_agent::outbox::{Lane, Send};
use picket_coordinator::archive::{Commit, MemoryArchive, What};
use picket_coordinator::coordinator::{Coordinator, Effect, Identity, Input};
use picket_coordinator::intake::{BOOTS_PER_NODE_MAX, PENDING_EVENTS_MAX};
use picket_coordinator::plan::Station;
use picket_coordinator::swarm::Rules;
use picket_shared::clock::Now;
use picket_shared::codec::{decode, encode};
use picket_shared::duty::{Epoch, Heartbeat, Holding, How, Leases, Sight};
use picket_shared::ids::{Boot, NodeId, SiteId, StationId};
use picket_shared::limits::{BATCH_EVENTS_MAX, NODES_MAX, PACKET_BYTES_MAX};
use picket_shared::topics::Topic;
use picket_shared::wire::{Ack, EventBatch, Gap, GapCause};
use serde_bytes::ByteBuf;

use super::{Verdict, seeds};

/// Steps of one input. A hostile peer has more time, but each of its messages meets the same core.
const STEPS_MAX: usize = 256;
/// Numbers at the edges of what sequences, boots and times may be.
const NUMBERS: [u64; 20] = [
    0,
    1,
    2,
    3,
    5,
    16,
    17,
    63,
    64,
    65,
    127,
    128,
    129,
    u32::MAX as u64,
    (1 << 53) - 1,
    u64::MAX / 2,
    u64::MAX - 129,
    u64::MAX - 16,
    u64::MAX - 1,
    u64::MAX,
];

/// Stations of the plan.
const STATIONS: u64 = 4;

/// One step: what to do, with whom, and bytes to do it with.
type Step<'a> = (u8, u8, &'a [u8]);

/// A step as a piece of tape, for the seeds.
pub(super) fn step(op: u8, who: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[op, who][..], &length, bytes].concat()
}

pub(super) fn steps(mut tape: &[u8]) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    while let ([op, who, high, low, rest @ ..], true) = (tape, steps.len() < STEPS_MAX) {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        steps.push((*op, *who, &rest[..length]));
        tape = &rest[length..];
    }
    steps
}

/// The number that a byte stands for: an edge, or itself and small.
pub(super) fn number(bytes: &[u8], at: usize) -> u64 {
    let byte = bytes.get(at).copied().unwrap_or(1);
    NUMBERS.get(usize::from(byte)).copied().unwrap_or(u64::from(byte))
}

fn broken(what: impl std::fmt::Display) -> String {
    what.to_string()
}

// ---- The coordinator ------------------------------------------------------------------------------------------------

/// A coordinator with its archive, and a disk that answers when the tape says so.
struct Site {
    core: Coordinator,
    archive: MemoryArchive,
    under_way: Option<Arc<Commit>>,
    now: Now,
    taken: BTreeSet<(NodeId, Boot, u64)>,
    /// To whom each station was granted, by epoch, since this coordinator began.
    granted: BTreeMap<(StationId, Epoch), NodeId>,
    stopped: bool,
}

/// The first nodes' stations, which anybody can cover.
fn rules() -> Rules {
    let station = |n: u64| Station {
        name: station(n),
        node: NodeId::new(node_name(n)).unwrap(),
        priority: n as i32,
        position: None,
        covers: vec![],
    };
    Rules { stations: (0..STATIONS).map(station).collect(), anyone: Some(How::Camera) }
}

fn station(number: u64) -> StationId {
    StationId::new(node_name(number)).unwrap()
}

fn identity() -> Identity {
    Identity { site: SiteId::new("yard").unwrap(), pid: 1, boot: Boot(1), name: NodeId::new("main").unwrap() }
}

impl Site {
    fn give(&mut self, input: Input) -> Result<(), String> {
        self.now.mono_ms += 20;
        let mut out = Vec::new();
        self.core.step(self.now, input, &mut out);
        self.core.next_wakeup();
        for effect in out {
            self.perform(effect)?;
        }
        let counters = self.core.counters();
        if counters.nodes.values().sum::<u64>() > NODES_MAX as u64 {
            return Err(broken("more nodes than there may be"));
        }
        if counters.entries_waiting > 2 * (PENDING_EVENTS_MAX + BATCH_EVENTS_MAX) as u64 {
            return Err(format!("{} entries wait", counters.entries_waiting));
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Commit(commit) => self.under_way = Some(commit),
            Effect::Publish { topic, payload } => {
                if payload.len() > PACKET_BYTES_MAX {
                    return Err(format!("{topic:?} with {} bytes", payload.len()));
                }
                match topic {
                    Topic::Ack(node) => {
                        let ack = decode::<Ack>(&payload).map_err(|error| format!("an ack of its own: {error}"))?;
                        self.bears_out(&node, &ack)?;
                    }
                    Topic::Leases(node) => {
                        let said = decode::<Leases>(&payload).map_err(|error| format!("leases of its own: {error}"))?;
                        self.are_nobody_elses(&node, said)?;
                    }
                    _ => {}
                }
            }
            Effect::Reject { reason, detail, count } if reason.is_empty() || detail.is_empty() || count == 0 => {
                return Err(broken("a refusal without a reason"));
            }
            Effect::Reject { .. } | Effect::Outranked(_) => {}
            Effect::Stopped { .. } => self.stopped = true,
        }
        Ok(())
    }

    /// An ack may say no more than what the archive holds.
    fn bears_out(&self, node: &NodeId, ack: &Ack) -> Result<(), String> {
        let lane = self.archive.lanes.iter().find(|(id, _)| id.node == *node && id.boot == ack.boot);
        let durable = lane.map_or(0, |(_, row)| row.watermark);
        if ack.watermark > durable {
            return Err(format!("{node} was told {ack:?} where the archive has {durable}"));
        }
        Ok(())
    }

    /// Whatever nodes claim, no grant is given to two of them.
    fn are_nobody_elses(&mut self, node: &NodeId, said: Leases) -> Result<(), String> {
        for lease in said.leases {
            let to = self.granted.entry((lease.station.clone(), lease.epoch)).or_insert_with(|| node.clone());
            if to != node {
                return Err(format!("{} by {} is {to}'s and {node}'s", lease.station, lease.epoch));
            }
        }
        Ok(())
    }

    fn apply(&mut self, commit: &Commit) -> Result<(), String> {
        for entry in &commit.entries {
            encode(entry).map_err(|error| format!("an entry that cannot be written: {error}"))?;
        }
        for (_, row) in &commit.lanes {
            encode(row).map_err(|error| format!("a row that cannot be written: {error}"))?;
        }
        let last = self.archive.entries.last_key_value().map_or(0, |(number, _)| *number);
        let again = commit.first <= last;
        if commit.first > last + 1 {
            return Err(format!("a commit from {} on, where the archive ends at {last}", commit.first));
        }
        self.archive.apply(commit);
        for entry in commit.entries.iter().filter(|_| !again) {
            if let What::Event { seq, .. } | What::Unreadable { seq, .. } = entry.what
                && !self.taken.insert((entry.node.clone(), entry.boot, seq))
            {
                return Err(format!("sequence {seq} of {} stands in the archive twice", entry.node));
            }
        }
        Ok(())
    }

    fn committed(&mut self) -> Result<(), String> {
        let Some(commit) = self.under_way.take() else { return Ok(()) };
        self.apply(&commit)?;
        self.give(Input::Committed)
    }

    /// The disk fails; some of the commit may be on it, and in this archive all or nothing is.
    fn failed(&mut self, applied: bool) -> Result<(), String> {
        let Some(commit) = self.under_way.take() else { return Ok(()) };
        if applied {
            self.apply(&commit)?;
        }
        self.give(Input::CommitFailed("the disk is full".into()))
    }

    fn restart(&mut self, applied: bool) -> Result<(), String> {
        if let Some(commit) = self.core.commit_in_flight().filter(|_| applied) {
            self.apply(&commit)?;
        }
        let found = self.archive.recover();
        if !found.problems.is_empty() {
            return Err(format!("after a restart: {:?}", found.problems));
        }
        self.core = leading(Coordinator::new(identity(), rules(), found, self.now), self.now);
        self.granted.clear();
        (self.under_way, self.stopped) = (None, false);
        Ok(())
    }
}

/// The coordinator leads: its answers, grants and views are what is looked at.
fn leading(mut core: Coordinator, now: Now) -> Coordinator {
    core.step(now, Input::Lead { epoch: 1, until_ms: u64::MAX }, &mut Vec::new());
    core
}

fn node_name(number: u64) -> String {
    format!("n{number}")
}

fn message(node: u64, what: &str, payload: &[u8]) -> Input {
    Input::Message { topic: format!("picket/v1/yard/{}/{what}", node_name(node)), payload: payload.to_vec() }
}

/// A batch from a few bytes: its numbers are at the edges, its events good, empty or garbage.
fn batch(bytes: &[u8]) -> Option<Vec<u8>> {
    let event = |which: u8| match which % 4 {
        0 => vec![],
        1 => vec![0xff; 9],
        _ => encode(&seeds::event()).unwrap(),
    };
    let (boot, base, first) = (Boot(number(bytes, 0)), number(bytes, 1), number(bytes, 2));
    let causes = GapCause::ALL;
    let cause = causes[bytes.len() % causes.len()];
    let gap = (number(bytes, 3) > 200).then(|| Gap { from: first, to: number(bytes, 4), cause });
    let events = bytes.get(5..).unwrap_or(&[2]).iter().filter(|_| gap.is_none());
    let events = events.take(BATCH_EVENTS_MAX).map(|&which| ByteBuf::from(event(which))).collect();
    encode(&EventBatch { boot, base, first, events, gap }).ok()
}

/// A heartbeat from a few bytes: of any run, with any number, by which a node claims whatever it likes.
fn beat(bytes: &[u8]) -> Option<Vec<u8>> {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(1);
    let claim = |of: &[u8]| {
        let sight = [Sight::Starting, Sight::Watching, Sight::Blind][usize::from(of[0] >> 4) % 3];
        let epoch = Epoch::new(u32::from(of[1] >> 6), u32::from(of[1] & 63));
        let station = station(u64::from(of[0]) % (STATIONS + 1));
        (station.clone(), Holding { station, epoch, provisional: of[0] & 8 != 0, sight })
    };
    let holdings: BTreeMap<_, _> = bytes.get(3..).unwrap_or(&[]).chunks_exact(2).map(claim).collect();
    let ready = (0..STATIONS).filter(|n| byte(2) >> n & 1 != 0).map(station).collect();
    encode(&Heartbeat {
        boot: Boot(number(bytes, 0)),
        number: number(bytes, 1),
        leader: u32::from(byte(2) >> 6),
        capacity_fps: u16::from(byte(2) >> 4 & 3),
        holdings: holdings.into_values().collect(),
        ready,
        unheard: vec![],
    })
    .ok()
}

pub(super) fn coordinator(tape: &[u8]) -> Verdict {
    let now = Now { mono_ms: 0, unix_ms: 1_700_000_000_000 };
    let core = leading(Coordinator::new(identity(), rules(), MemoryArchive::default().recover(), now), now);
    let (archive, taken, granted) = (MemoryArchive::default(), BTreeSet::new(), BTreeMap::new());
    let mut site = Site { core, archive, under_way: None, now, taken, granted, stopped: false };
    let steps = steps(tape);
    let mut floods = 0;
    for &(op, who, bytes) in &steps {
        let from = u64::from(who % 8);
        match op % 16 {
            0 => site.give(message(from, "status/health", bytes))?,
            1 => site.give(message(from, "twin", bytes))?,
            2 => site.give(message(from, "m/stats", bytes))?,
            3 => site.give(message(from, "events", bytes))?,
            4 | 5 => {
                if let Some(batch) = batch(bytes) {
                    site.give(message(from, "events", &batch))?;
                }
            }
            6 => {
                let topic = String::from_utf8_lossy(bytes).into_owned();
                site.give(Input::Message { topic, payload: bytes.to_vec() })?;
            }
            7 => site.give(Input::LinkUp)?,
            8 => site.give(Input::LinkDown("the broker is gone".into()))?,
            9 => site.committed()?,
            10 if who & 16 != 0 => {
                if let Some(beat) = beat(bytes) {
                    site.give(message(from, "heartbeat", &beat))?;
                }
            }
            10 => site.give(message(from, if who & 8 == 0 { "heartbeat" } else { "duty" }, bytes))?,
            11 => site.failed(who.is_multiple_of(2))?,
            12 => {
                site.now.mono_ms += number(bytes, 0).min(1 << 40);
                site.now.unix_ms = number(bytes, 1).min(1 << 50);
                site.give(Input::Tick)?;
            }
            13 => site.restart(who.is_multiple_of(2))?,
            14 if floods < 2 => {
                floods += 1;
                flood(&mut site, who, bytes)?;
            }
            15 if who == 255 => site.give(Input::Stop)?,
            _ => site.give(Input::Tick)?,
        }
    }
    // Whatever came, what is under way can be ended, and the archive is whole.
    for _ in 0..2 {
        site.committed()?;
    }
    site.restart(true)?;
    let lanes = site.archive.lanes.keys().fold(BTreeMap::<_, usize>::new(), |mut lanes, id| {
        *lanes.entry(&id.node).or_default() += 1;
        lanes
    });
    match lanes.into_iter().find(|&(_, boots)| boots > BOOTS_PER_NODE_MAX) {
        Some((node, boots)) => Err(format!("{boots} boots of {node}")),
        None => Ok(steps.len() > 1 && !site.archive.entries.is_empty()),
    }
}

/// More nodes, or more boots of one node, than there may be.
fn flood(site: &mut Site, who: u8, bytes: &[u8]) -> Result<(), String> {
    for n in 0..NODES_MAX as u64 + 8 {
        if who.is_multiple_of(2) {
            site.give(message(1000 + n, ["status/health", "twin", "m/stats"][usize::from(who) % 3], bytes))?;
        } else {
            let events = vec![ByteBuf::from(encode(&seeds::event()).unwrap())];
            let boot = Boot(number(bytes, 0).saturating_add(3 * n));
            let batch = EventBatch { boot, base: 1, first: 1, events, gap: None };
            site.give(message(u64::from(who % 8), "events", &encode(&batch).unwrap()))?;
        }
        if n.is_multiple_of(64) {
            site.committed()?;
        }
    }
    Ok(())
}

// ---- The node -------------------------------------------------------------------------------------------------------

/// A node with its store: how far each boot is durable, and what is on its way there.
struct Device {
    core: Node,
    now: Now,
    stored: BTreeMap<Boot, u64>,
    waiting: VecDeque<(Boot, u64)>,
    last: Option<Send>,
    covers: BTreeSet<StationId>,
}

impl Device {
    fn give(&mut self, input: node::Input) -> Result<(), String> {
        self.now.mono_ms += 20;
        let mut out = Vec::new();
        self.core.step(self.now, input, &mut out);
        self.core.next_wakeup_ms();
        self.core.owed();
        if out.len() > 1024 {
            return Err(format!("{} effects of one step", out.len()));
        }
        for effect in out {
            match effect {
                node::Effect::Store(event) => self.waiting.push_back((event.boot, event.seq)),
                node::Effect::Acked { boot, upto } if upto > self.stored(boot) => {
                    return Err(format!("{upto} of boot {boot} is acknowledged where {} is stored", self.stored(boot)));
                }
                node::Effect::Send(send) => self.sent(send)?,
                node::Effect::Duty(order) => self.order(order)?,
                node::Effect::Reject { reason, detail, .. } if reason.is_empty() || detail.is_empty() => {
                    return Err(broken("a refusal without a reason"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A station is begun once and ended once, and a platform goes only to what is covered.
    fn order(&mut self, order: Order) -> Result<(), String> {
        let fine = match &order {
            Order::Cover(assignment) => self.covers.insert(assignment.standby.station.clone()),
            Order::Uncover(station) => self.covers.remove(station),
            Order::Go(standby, _) => standby.how.moves(),
            _ => true,
        };
        if fine { Ok(()) } else { Err(format!("{order:?} where {:?} are covered", self.covers)) }
    }

    fn sent(&mut self, send: Send) -> Result<(), String> {
        let last = send.gap.map_or((send.first + send.count).saturating_sub(1), |gap| gap.to);
        let fine = send.count <= BATCH_EVENTS_MAX as u64 && send.base >= 1 && send.base <= send.first;
        if !fine || (last > self.stored(send.boot) && send.gap.is_none()) {
            return Err(format!("{send:?} where {} is stored", self.stored(send.boot)));
        }
        self.last = Some(send);
        Ok(())
    }

    fn stored(&self, boot: Boot) -> u64 {
        self.stored.get(&boot).copied().unwrap_or(0)
    }

    /// The disk has taken so many more.
    fn store(&mut self, count: u64) -> Result<(), String> {
        for _ in 0..count {
            let Some((boot, seq)) = self.waiting.pop_front() else { break };
            self.stored.insert(boot, seq);
            self.give(node::Input::Stored(boot, seq))?;
        }
        Ok(())
    }
}

pub(super) fn node(tape: &[u8]) -> Verdict {
    let now = Now { mono_ms: 0, unix_ms: 1_700_000_000_000 };
    let gap = Gap { from: 5, to: 6, cause: GapCause::StoreLost };
    let found = [
        (Boot(5), Lane { acked: 3, stored: 9, gaps: vec![gap] }),
        (Boot(6), Lane { acked: 0, stored: 200, gaps: vec![] }),
    ];
    let stored = found.iter().map(|(boot, lane)| (*boot, lane.stored)).collect();
    let core = Node::new(now, seeds::node_identity(), found);
    let mut device = Device { core, now, stored, waiting: VecDeque::new(), last: None, covers: BTreeSet::new() };
    let me = NodeId::new("n1").unwrap();
    let steps = steps(tape);
    let mut acked = false;
    for &(op, who, bytes) in &steps {
        match op % 13 {
            0 => device.give(node::Input::Message(Topic::Ack(me.clone()), bytes.to_vec()))?,
            1 | 2 => {
                let boot = [5, 6, 7, number(bytes, 3)][usize::from(who % 4)];
                let (from, to) = (number(bytes, 1), number(bytes, 2));
                let holes = if bytes.len() > 3 { vec![(from, to)] } else { vec![] };
                if let Ok(ack) = encode(&Ack { boot: Boot(boot), watermark: number(bytes, 0), holes }) {
                    acked = true;
                    device.give(node::Input::Message(Topic::Ack(me.clone()), ack))?;
                }
            }
            3 => device.give(node::Input::LinkUp)?,
            4 => device.give(node::Input::LinkDown)?,
            5 => {
                for _ in 0..number(bytes, 0).min(1100) {
                    device.give(node::Input::Observed(Box::new(seeds::event())))?;
                }
            }
            6 => device.store(number(bytes, 0).min(1100))?,
            7 => {
                if let Some(send) = device.last.take() {
                    device.give(node::Input::SendRefused(send))?;
                }
            }
            8 => {
                device.now.mono_ms += number(bytes, 0).min(1 << 40);
                device.now.unix_ms = number(bytes, 1).min(1 << 50);
                device.give(node::Input::Tick)?;
            }
            9 => {
                let problems = vec![String::from_utf8_lossy(bytes).into_owned()];
                device.give(node::Input::Facts(Box::new(Facts { problems, ..Facts::default() })))?;
            }
            10 => {
                let site = SiteId::new("yard").unwrap();
                if let Ok(topic) = Topic::parse(&site, &String::from_utf8_lossy(bytes)) {
                    device.give(node::Input::Message(topic, bytes.to_vec()))?;
                }
            }
            11 => {
                let (me, other) = (me.clone(), NodeId::new("n2").unwrap());
                if who % 8 == 7 {
                    device.give(node::Input::Neighbour(other, bytes.to_vec()))?;
                    continue;
                }
                let topics = [
                    Topic::Leases(me.clone()),
                    Topic::Standby(me),
                    Topic::Heartbeat(other.clone()),
                    Topic::Duty(other),
                ];
                device.give(node::Input::Message(topics[usize::from(who % 4)].clone(), bytes.to_vec()))?;
            }
            _ => device.give(node::Input::Tick)?,
        }
    }
    Ok(acked && steps.len() > 1)
}
