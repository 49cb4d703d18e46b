//! One seeded world: agents' and a coordinator's real cores on a bus and disks that fail, with the checks run at each step.
//!
//! Everything happens at a virtual time, in an order that the seed alone decides. First the world is unkind for a while,
//! then it heals, and everything owed must arrive. It holds no rule of the product; it only performs effects.

use fastrand::Rng;
use picket_agent::node::{self, Node};
use picket_agent::outbox::Send;
use picket_coordinator::archive::{Commit, MemoryArchive};
use picket_coordinator::coordinator::{self, Coordinator};
use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::ids::{Boot, NodeId, SiteId};
use picket_shared::topics::Topic;
use picket_shared::wire::{Ack, EventBatch};
use serde_bytes::ByteBuf;

use crate::bus::{Bus, Client, Parcel};
use crate::check::Ledger;
use crate::disk::AgentDisk;
use crate::faults::Faults;
use crate::schedule::{Happening, Schedule, Trace};
use crate::sensor;

/// Virtual time begins here, so that nothing works only because a clock was 0.
const EPOCH_UNIX_MS: u64 = 1_800_000_000_000;
/// A healed world that owes anything after this long will owe it for ever.
const HEALING_MS_MAX: u64 = 600_000;
/// More happenings than this in one millisecond are a loop.
const STEPS_AT_ONCE_MAX: u32 = 10_000;
const NEVER_MS: u64 = u64::MAX;

/// A world to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Draws everything.
    pub seed: u64,
    /// How many agents.
    pub agents: usize,
    /// How long it is unkind.
    pub unkind_ms: u64,
    /// Mean time between two events of an agent.
    pub event_every_ms: u64,
    /// The faults.
    pub faults: Faults,
}

impl Plan {
    /// A plan whose faults the seed draws.
    pub fn of_seed(seed: u64) -> Plan {
        let mut rng = Rng::with_seed(seed);
        let faults = Faults::draw(&mut rng);
        Plan { seed, agents: rng.usize(1..=5), unkind_ms: 60_000, event_every_ms: rng.u64(20..400), faults }
    }
}

/// What a run showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Of everything that happened, in order: the same seed gives the same number.
    pub trace_hash: u64,
    /// Things that happened.
    pub steps: u64,
    /// Events that were durable on an agent, all of which the archive has once.
    pub events: usize,
    /// Events that agents sent more than once.
    pub resent: u64,
    /// Events that arrived again and were not counted again.
    pub duplicates: u64,
    /// Processes that died and came back.
    pub crashes: u64,
}

/// The name of an agent.
pub fn node_name(index: usize) -> NodeId {
    NodeId::new(format!("n{index}")).expect("a letter and digits are a name")
}

/// Runs a plan to its end. The error names what was broken, and the seed.
pub fn run(plan: &Plan) -> Result<Outcome, String> {
    World::new(plan).run().map_err(|what| format!("seed {}: {what} (faults: {:?})", plan.seed, plan.faults))
}

struct AgentLife {
    /// Counts lives: what belongs to an earlier one is void.
    life: u64,
    disk: AgentDisk,
    alive: Option<(Node, Boot)>,
    syncing: bool,
    alarm_ms: u64,
    tracks: u64,
    resent: u64,
}

impl AgentLife {
    fn resent_so_far(&self) -> u64 {
        self.resent + self.alive.as_ref().map_or(0, |(node, _)| node.resent())
    }
}

struct CoordinatorLife {
    life: u64,
    archive: MemoryArchive,
    alive: Option<Coordinator>,
    alarm_ms: u64,
    duplicates: u64,
}

struct World {
    now_ms: u64,
    rng: Rng,
    plan: Plan,
    faults: Faults,
    bus: Bus,
    agents: Vec<AgentLife>,
    coordinator: CoordinatorLife,
    schedule: Schedule,
    ledger: Ledger,
    trace: Trace,
    crashes: u64,
    healed: bool,
}

impl World {
    fn new(plan: &Plan) -> World {
        let idle = || AgentLife {
            life: 0,
            disk: AgentDisk::default(),
            alive: None,
            syncing: false,
            alarm_ms: NEVER_MS,
            tracks: 0,
            resent: 0,
        };
        let archive = MemoryArchive::default();
        let mut world = World {
            now_ms: 0,
            // Not the stream that drew the faults.
            rng: Rng::with_seed(plan.seed ^ 0x7069_636b_6574),
            faults: plan.faults.clone(),
            bus: Bus::default(),
            agents: (0..plan.agents).map(|_| idle()).collect(),
            coordinator: CoordinatorLife { life: 0, archive, alive: None, alarm_ms: NEVER_MS, duplicates: 0 },
            schedule: Schedule::default(),
            ledger: Ledger::default(),
            trace: Trace::default(),
            crashes: 0,
            healed: false,
            plan: plan.clone(),
        };
        world.after(0, Happening::Restart(Client::Coordinator));
        for index in 0..plan.agents {
            world.after(0, Happening::Restart(Client::Agent(index)));
            world.after(1, Happening::Sense(index));
        }
        for (every_ms, what) in
            [(plan.faults.cut_every_ms, Happening::Cut), (plan.faults.broker_amnesia_every_ms, Happening::Amnesia)]
        {
            if every_ms > 0 {
                world.after(every_ms, what);
            }
        }
        world.after(plan.unkind_ms, Happening::Heal);
        world
    }

    fn run(mut self) -> Result<Outcome, String> {
        let (mut steps, mut steps_now) = (0, 0);
        while let Some((at_ms, what)) = self.schedule.take() {
            steps += 1;
            steps_now = if at_ms == self.now_ms { steps_now + 1 } else { 0 };
            if steps_now > STEPS_AT_ONCE_MAX {
                return Err(format!("time stands still at {at_ms} ms: somebody wakes up again and again for nothing"));
            }
            self.now_ms = at_ms;
            self.trace.note(at_ms, &what);
            self.happen(what)?;
            if self.healed {
                if self.owed() == 0 {
                    break;
                }
                if self.now_ms > self.plan.unkind_ms + HEALING_MS_MAX {
                    return Err(format!("{} events still owed long after the world healed", self.owed()));
                }
            }
        }
        self.ledger.complete(&self.coordinator.archive)?;
        let duplicates =
            self.coordinator.duplicates + self.coordinator.alive.as_ref().map_or(0, |c| c.counters().events_duplicate);
        Ok(Outcome {
            trace_hash: self.trace.hash,
            steps,
            events: self.ledger.events(),
            resent: self.agents.iter().map(AgentLife::resent_so_far).sum(),
            duplicates,
            crashes: self.crashes,
        })
    }

    /// What agents owe. A dead one owes something until it has come back and looked.
    fn owed(&self) -> u64 {
        self.agents.iter().map(|agent| agent.alive.as_ref().map_or(1, |(node, _)| node.owed())).sum()
    }

    fn happen(&mut self, what: Happening) -> Result<(), String> {
        match what {
            Happening::Sense(index) => self.sense(index),
            Happening::Arrive(parcel) => self.arrive(parcel),
            Happening::Synced(index, life) => self.synced(index, life),
            Happening::Committed(commit, life, fine) => self.committed(&commit, life, fine),
            Happening::Wake(Client::Agent(index), life) if self.agents[index].life == life => {
                self.agents[index].alarm_ms = NEVER_MS;
                self.agent(index, node::Input::Tick)
            }
            Happening::Wake(Client::Coordinator, life) if self.coordinator.life == life => {
                self.coordinator.alarm_ms = NEVER_MS;
                self.coordinate(coordinator::Input::Tick)
            }
            Happening::Wake(..) => Ok(()),
            Happening::Restart(client) => self.restart(client),
            Happening::Connect(client) => self.connect(client),
            Happening::Cut => {
                let client = self.anyone();
                self.again(self.faults.cut_every_ms, Happening::Cut);
                self.cut(client)
            }
            Happening::Amnesia => {
                self.again(self.faults.broker_amnesia_every_ms, Happening::Amnesia);
                self.bus.forget().into_iter().try_for_each(|client| self.lost_connection(client))
            }
            Happening::Heal => {
                self.faults = Faults::none();
                self.healed = true;
                Ok(())
            }
        }
    }

    fn sense(&mut self, index: usize) -> Result<(), String> {
        if self.healed {
            return Ok(());
        }
        let pause = 1 + self.rng.u64(..self.plan.event_every_ms * 2);
        self.after(pause, Happening::Sense(index));
        let Some((_, boot)) = &self.agents[index].alive else { return Ok(()) };
        let boot = *boot;
        self.agents[index].tracks += 1;
        let (track, time_ms) = (self.agents[index].tracks, EPOCH_UNIX_MS + self.now_ms);
        let event = sensor::event(&mut self.rng, &node_name(index), boot, track, time_ms);
        self.agent(index, node::Input::Observed(Box::new(event)))
    }

    fn arrive(&mut self, parcel: Parcel) -> Result<(), String> {
        if self.bus.connection(parcel.to) != Some(parcel.connection) {
            return Ok(());
        }
        match parcel.to {
            Client::Agent(index) => self.agent(index, node::Input::Message(parcel.topic, parcel.payload)),
            Client::Coordinator => {
                let topic = parcel.topic.render(&site());
                self.coordinate(coordinator::Input::Message { topic, payload: parcel.payload })
            }
        }
    }

    /// One step of an agent, and its effects; it may die between any two of them.
    fn agent(&mut self, index: usize, input: node::Input) -> Result<(), String> {
        let now = Now { mono_ms: self.now_ms, unix_ms: EPOCH_UNIX_MS + self.now_ms };
        let Some((node, _)) = &mut self.agents[index].alive else { return Ok(()) };
        let mut effects = Vec::new();
        node.step(now, input, &mut effects);
        let wakeup_ms = node.next_wakeup_ms();
        for effect in effects {
            if self.rng.f64() < self.faults.crash {
                return self.crash(Client::Agent(index));
            }
            self.perform_agent(index, effect)?;
        }
        // One alarm at a time: the earliest. A later one is set again when this one rings.
        let agent = &mut self.agents[index];
        if wakeup_ms < agent.alarm_ms {
            agent.alarm_ms = wakeup_ms;
            let life = agent.life;
            self.at(wakeup_ms, Happening::Wake(Client::Agent(index), life));
        }
        Ok(())
    }

    fn perform_agent(&mut self, index: usize, effect: node::Effect) -> Result<(), String> {
        let me = Client::Agent(index);
        let agent = &mut self.agents[index];
        match effect {
            node::Effect::Store(event) => {
                agent.disk.append(event.seq, event.bytes);
                if !agent.syncing {
                    agent.syncing = true;
                    let (life, pause) = (agent.life, self.rng.u64(1..200));
                    self.after(pause, Happening::Synced(index, life));
                }
            }
            node::Effect::Acked { boot, upto } => agent.disk.acked(boot, upto),
            node::Effect::Send(Send { boot, base, first, count, gap }) => {
                let events: Vec<_> = agent.disk.read(boot, first, count).into_iter().map(ByteBuf::from).collect();
                if events.len() as u64 != count {
                    return Err(format!(
                        "n{index} would send {first}+{count} of boot {boot}, and has {}",
                        events.len()
                    ));
                }
                let batch = codec::encode(&EventBatch { boot, base, first, events, gap }).map_err(|e| e.to_string())?;
                self.publish(me, Topic::Events(node_name(index)), batch);
            }
            node::Effect::Publish(topic, payload) => self.publish(me, topic, payload),
            node::Effect::Heartbeat => {
                self.agent(index, node::Input::Facts(node::Facts::default()))?;
            }
            node::Effect::Reject { reason, detail } => return Err(format!("n{index} rejected {reason}: {detail}")),
        }
        Ok(())
    }

    fn synced(&mut self, index: usize, life: u64) -> Result<(), String> {
        let agent = &mut self.agents[index];
        if agent.life != life {
            return Ok(());
        }
        if self.rng.f64() < self.faults.disk_failure {
            self.after(1_000, Happening::Synced(index, life));
            return Ok(());
        }
        agent.syncing = false;
        let (events, upto) = agent.disk.sync();
        let (_, boot) = agent.alive.as_ref().expect("this life goes on");
        let boot = *boot;
        for (seq, bytes) in events {
            self.ledger.stored(&node_name(index), boot, seq, bytes)?;
        }
        upto.map_or(Ok(()), |upto| self.agent(index, node::Input::Stored(boot, upto)))
    }

    /// One step of the coordinator, and its effects; it may die between any two of them.
    fn coordinate(&mut self, input: coordinator::Input) -> Result<(), String> {
        let now = Now { mono_ms: self.now_ms, unix_ms: EPOCH_UNIX_MS + self.now_ms };
        let Some(core) = &mut self.coordinator.alive else { return Ok(()) };
        let mut effects = Vec::new();
        core.step(now, input, &mut effects);
        let wakeup_ms = core.next_wakeup();
        for effect in effects {
            if self.rng.f64() < self.faults.crash {
                return self.crash(Client::Coordinator);
            }
            match effect {
                coordinator::Effect::Commit(commit) => {
                    let fine = self.rng.f64() >= self.faults.disk_failure;
                    let (life, pause) = (self.coordinator.life, self.rng.u64(1..50));
                    self.after(pause, Happening::Committed(commit, life, fine));
                }
                coordinator::Effect::Publish { topic, payload } => {
                    if let Topic::Ack(node) = &topic {
                        let ack = codec::decode::<Ack>(&payload).map_err(|e| e.to_string())?;
                        self.ledger.acked(node, &ack)?;
                    }
                    self.publish(Client::Coordinator, topic, payload);
                }
                // Events that arrive far ahead of a lost one are refused and come again; nothing else may be.
                coordinator::Effect::Reject { reason: "ahead" | "busy", .. } | coordinator::Effect::Stopped { .. } => {}
                coordinator::Effect::Reject { reason, detail, .. } => {
                    return Err(format!("the coordinator rejected {reason}: {detail}"));
                }
            }
        }
        let life = self.coordinator.life;
        if let Some(wakeup_ms) = wakeup_ms.filter(|wakeup_ms| *wakeup_ms < self.coordinator.alarm_ms) {
            self.coordinator.alarm_ms = wakeup_ms;
            self.at(wakeup_ms, Happening::Wake(Client::Coordinator, life));
        }
        Ok(())
    }

    fn committed(&mut self, commit: &Commit, life: u64, fine: bool) -> Result<(), String> {
        if self.coordinator.life != life {
            return Ok(());
        }
        if !fine {
            return self.coordinate(coordinator::Input::CommitFailed("the disk is full for a moment".into()));
        }
        self.archive(commit)?;
        self.coordinate(coordinator::Input::Committed)
    }

    fn archive(&mut self, commit: &Commit) -> Result<(), String> {
        self.ledger.archived(commit)?;
        self.coordinator.archive.apply(commit);
        Ok(())
    }

    fn crash(&mut self, client: Client) -> Result<(), String> {
        self.crashes += 1;
        self.bus.cut(client);
        match client {
            Client::Agent(index) => {
                let agent = &mut self.agents[index];
                agent.life += 1;
                agent.syncing = false;
                agent.alarm_ms = NEVER_MS;
                let (node, boot) = agent.alive.take().expect("only the living die");
                agent.resent += node.resent();
                for (seq, bytes) in agent.disk.crash(&mut self.rng) {
                    self.ledger.stored(&node_name(index), boot, seq, bytes)?;
                }
            }
            Client::Coordinator => {
                self.coordinator.life += 1;
                self.coordinator.alarm_ms = NEVER_MS;
                let core = self.coordinator.alive.take().expect("only the living die");
                self.coordinator.duplicates += core.counters().events_duplicate;
                // A commit under way reached the disk whole or not at all: the store's transaction is atomic.
                let under_way = core.commit_in_flight().filter(|_| self.rng.bool());
                if let Some(commit) = under_way {
                    self.archive(&commit)?;
                }
            }
        }
        let pause = self.rng.u64(100..5_000);
        self.after(pause, Happening::Restart(client));
        Ok(())
    }

    fn restart(&mut self, client: Client) -> Result<(), String> {
        let unix_ms = EPOCH_UNIX_MS + self.now_ms;
        match client {
            Client::Agent(index) => {
                let agent = &mut self.agents[index];
                let (boot, lanes) = agent.disk.open(unix_ms / 1000, self.rng.u32(..));
                let identity = node::Identity { node: node_name(index), boot, pid: 1, twin: sensor::twin() };
                let now = Now { mono_ms: self.now_ms, unix_ms };
                agent.alive = Some((Node::new(now, identity, lanes), boot));
            }
            Client::Coordinator => {
                let me = coordinator::Identity { site: site(), pid: 1, boot: Boot(self.coordinator.life + 1) };
                let now = Now { mono_ms: self.now_ms, unix_ms };
                self.coordinator.alive = Some(Coordinator::new(me, self.coordinator.archive.recover(), now));
            }
        }
        let pause = self.rng.u64(1..500);
        self.after(pause, Happening::Connect(client));
        Ok(())
    }

    fn connect(&mut self, client: Client) -> Result<(), String> {
        let alive = match client {
            Client::Agent(index) => self.agents[index].alive.is_some(),
            Client::Coordinator => self.coordinator.alive.is_some(),
        };
        if !alive || self.bus.connection(client).is_some() {
            return Ok(());
        }
        for (delay_ms, parcel) in self.bus.connect(client, &mut self.rng, &self.faults) {
            self.after(delay_ms, Happening::Arrive(parcel));
        }
        match client {
            Client::Agent(index) => self.agent(index, node::Input::LinkUp),
            Client::Coordinator => self.coordinate(coordinator::Input::LinkUp),
        }
    }

    fn cut(&mut self, client: Client) -> Result<(), String> {
        if self.bus.cut(client) { self.lost_connection(client) } else { Ok(()) }
    }

    fn lost_connection(&mut self, client: Client) -> Result<(), String> {
        let pause = self.rng.u64(100..3_000);
        self.after(pause, Happening::Connect(client));
        match client {
            Client::Agent(index) => self.agent(index, node::Input::LinkDown),
            Client::Coordinator => self.coordinate(coordinator::Input::LinkDown("cut".into())),
        }
    }

    fn publish(&mut self, from: Client, topic: Topic, payload: Vec<u8>) {
        for (delay_ms, parcel) in self.bus.publish(from, topic, payload, &mut self.rng, &self.faults) {
            self.after(delay_ms, Happening::Arrive(parcel));
        }
    }

    fn anyone(&mut self) -> Client {
        match self.rng.usize(..=self.agents.len()) {
            0 => Client::Coordinator,
            index => Client::Agent(index - 1),
        }
    }

    fn again(&mut self, every_ms: u64, what: Happening) {
        if every_ms > 0 {
            let pause = 1 + self.rng.u64(..every_ms * 2);
            self.after(pause, what);
        }
    }

    fn after(&mut self, delay_ms: u64, what: Happening) {
        self.at(self.now_ms + delay_ms, what);
    }

    fn at(&mut self, at_ms: u64, what: Happening) {
        self.schedule.set(at_ms.max(self.now_ms), what);
    }
}

fn site() -> SiteId {
    SiteId::new("sim").expect("a constant name")
}
