//! One seeded world: agents' and a coordinator's real cores on a bus and disks that fail, with the checks run at each step.
//!
//! Everything happens at a virtual time, in an order that the seed alone decides. First the world is unkind for a while,
//! then it heals, and everything owed must arrive. It holds no rule of the product; it only performs effects.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use picket_shared::backoff::Backoff;
use picket_shared::clock::Now;
use picket_shared::ids::{NodeId, SiteId};
use picket_shared::topics::Topic;

use crate::bus::{Bus, Client, Parcel, Parcels};
use crate::check::Ledger;
use crate::faults::Faults;
use crate::schedule::{Happening, Schedule, Trace};

mod agent;
mod coordinator;

use agent::AgentLife;
use coordinator::CoordinatorLife;

/// Virtual time begins here, so that nothing works only because a clock was 0.
const EPOCH_UNIX_MS: u64 = 1_800_000_000_000;
/// A healed world that owes anything after this long will owe it for ever.
const HEALING_MS_MAX: u64 = 600_000;
/// More happenings than this in one millisecond are a loop.
const STEPS_AT_ONCE_MAX: u32 = 10_000;
const HOUR_MS: i64 = 3_600_000;
const NEVER_MS: u64 = u64::MAX;

/// A world to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Draws everything.
    pub seed: u64,
    /// How many agents.
    pub agents: usize,
    /// All agents go by one name.
    pub one_name: bool,
    /// How long it is unkind.
    pub unkind_ms: u64,
    /// Mean time between two events of an agent.
    pub event_every_ms: u64,
    /// From when until when the broker is gone.
    pub outages: Vec<(u64, u64)>,
    /// The faults.
    pub faults: Faults,
}

impl Plan {
    /// A plan whose faults the seed draws.
    pub fn of_seed(seed: u64) -> Plan {
        let mut rng = Rng::with_seed(seed);
        let faults = Faults::draw(&mut rng);
        let outages = match rng.u64(..6) {
            // Long enough that agents come back with a backlog.
            0 => vec![(5_000, 5_000 + rng.u64(1_000..50_000))],
            _ => Vec::new(),
        };
        let (agents, event_every_ms) = (rng.usize(1..=5), rng.u64(20..400));
        Plan { seed, agents, one_name: rng.u8(..8) == 0, unkind_ms: 60_000, event_every_ms, outages, faults }
    }

    /// The name of an agent.
    pub fn name(&self, index: usize) -> NodeId {
        let index = if self.one_name { 0 } else { index };
        NodeId::new(format!("n{index}")).expect("a letter and digits are a name")
    }
}

/// What a run showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Of everything that happened, in order: the same seed gives the same number.
    pub trace_hash: u64,
    /// Things that happened.
    pub steps: u64,
    /// Events that were durable on an agent, all of which the archive has once, or as a gap where a disk lost them.
    pub events: usize,
    /// Sequences that disks lost or gave up, in the archive as gaps.
    pub missed: u64,
    /// Events that agents sent more than once.
    pub resent: u64,
    /// Events that arrived again and were not counted again.
    pub duplicates: u64,
    /// Processes that died and came back.
    pub crashes: u64,
    /// Boots that agents began.
    pub boots: usize,
    /// From the healing until nothing was owed.
    pub healing_ms: u64,
    /// The most connections that were attempted again in one second.
    pub attempts_per_s_max: u32,
    /// Batches that the coordinator refused because its disk was behind.
    pub busy: u64,
    /// Agents that said that another has their name.
    pub agents_named: BTreeSet<usize>,
    /// The coordinator said so.
    pub coordinator_named: bool,
    /// Of each archived event, when it was observed and when it was archived, in milliseconds.
    pub arrivals: Vec<(u64, u64)>,
}

/// Runs a plan to its end. The error names what was broken, and the seed.
pub fn run(plan: &Plan) -> Result<Outcome, String> {
    World::new(plan).run().map_err(|what| format!("seed {}: {what} ({plan:?})", plan.seed))
}

struct World {
    now_ms: u64,
    rng: Rng,
    plan: Plan,
    faults: Faults,
    bus: Bus,
    names: Vec<NodeId>,
    agents: Vec<AgentLife>,
    coordinator: CoordinatorLife,
    /// Each client's back-off, and when its connection began.
    links: BTreeMap<Client, (Backoff, u64)>,
    broker_back_ms: u64,
    /// Attempts to connect again, by second.
    attempts: BTreeMap<u64, u32>,
    /// Agents that owe something, as of their last step; a dead one does until it has come back and looked.
    owing: BTreeSet<usize>,
    schedule: Schedule<Happening>,
    ledger: Ledger,
    trace: Trace,
    seen: Outcome,
    healed: bool,
}

impl World {
    fn new(plan: &Plan) -> World {
        let names: Vec<NodeId> = (0..plan.agents).map(|index| plan.name(index)).collect();
        // Where every message arrives, and at once.
        let Faults { loss, crash, reorder, cut_every_ms, broker_amnesia_every_ms, .. } = plan.faults;
        let whole = loss == 0.0 && crash == 0.0 && cut_every_ms == 0 && broker_amnesia_every_ms == 0;
        let in_order = whole && !reorder && plan.outages.is_empty() && !plan.one_name;
        let mut world = World {
            now_ms: 0,
            // Not the stream that drew the faults.
            rng: Rng::with_seed(plan.seed ^ 0x7069_636b_6574),
            faults: plan.faults.clone(),
            bus: Bus::new(names.clone()),
            names,
            agents: (0..plan.agents).map(|_| AgentLife::default()).collect(),
            coordinator: CoordinatorLife::default(),
            links: BTreeMap::new(),
            broker_back_ms: 0,
            attempts: BTreeMap::new(),
            owing: (0..plan.agents).collect(),
            schedule: Schedule::default(),
            ledger: Ledger::new(in_order),
            trace: Trace::default(),
            seen: Outcome::default(),
            healed: false,
            plan: plan.clone(),
        };
        world.after(0, Happening::Restart(Client::Coordinator));
        for index in 0..plan.agents {
            // After the coordinator: what is published to nobody is lost.
            world.after(1_000, Happening::Restart(Client::Agent(index)));
            world.after(1, Happening::Sense(index));
        }
        for (every_ms, what) in [
            (plan.faults.cut_every_ms, Happening::Cut),
            (plan.faults.broker_amnesia_every_ms, Happening::Amnesia),
            (plan.faults.clock_jump_every_ms, Happening::ClockJump),
        ] {
            if every_ms > 0 {
                world.after(every_ms, what);
            }
        }
        for &(from_ms, to_ms) in &plan.outages {
            world.after(from_ms, Happening::Outage(to_ms));
        }
        world.after(plan.unkind_ms, Happening::Heal);
        world
    }

    fn run(mut self) -> Result<Outcome, String> {
        let mut steps_now = 0;
        while let Some((at_ms, what)) = self.schedule.take() {
            self.seen.steps += 1;
            steps_now = if at_ms == self.now_ms { steps_now + 1 } else { 0 };
            if steps_now > STEPS_AT_ONCE_MAX {
                return Err(format!("time stands still at {at_ms} ms: somebody wakes up again and again for nothing"));
            }
            self.now_ms = at_ms;
            self.trace.note(at_ms, &what);
            self.happen(what)?;
            if self.healed {
                if self.owing.is_empty() && self.coordinator.alive.is_some() {
                    break;
                }
                if self.now_ms > self.plan.unkind_ms + HEALING_MS_MAX {
                    let owed: Vec<_> = self.owing.iter().map(|&index| (index, self.owed(index))).take(5).collect();
                    return Err(format!("events still owed long after the world healed, by agent: {owed:?}"));
                }
            }
        }
        let counters = self.coordinator.alive.as_ref().expect("it lives to the end").counters();
        self.ledger.complete(counters.events_archived, &counters.events_missed)?;
        self.no_ghosts()?;
        Ok(Outcome {
            trace_hash: self.trace.hash(),
            events: self.ledger.events(),
            missed: self.ledger.missed(),
            boots: self.ledger.boots(),
            resent: self.agents.iter().map(AgentLife::resent_so_far).sum(),
            duplicates: self.coordinator.duplicates + counters.events_duplicate,
            healing_ms: self.now_ms.saturating_sub(self.plan.unkind_ms),
            attempts_per_s_max: self.attempts.values().copied().max().unwrap_or(0),
            arrivals: self.ledger.arrivals(),
            ..self.seen
        })
    }

    /// Nobody sees a second agent of one name where there is none. Brokers keep the order of messages; where they did not,
    /// an earlier run could be taken for one.
    fn no_ghosts(&self) -> Result<(), String> {
        let named = !self.seen.agents_named.is_empty() || self.seen.coordinator_named;
        if named && !self.plan.one_name && !self.plan.faults.reorder {
            return Err("somebody saw two agents of one name, and there was one".into());
        }
        Ok(())
    }

    fn happen(&mut self, what: Happening) -> Result<(), String> {
        match what {
            Happening::Sense(index) => self.sense(index),
            Happening::Arrive(parcel) => self.arrive(parcel),
            Happening::Synced(index, life) => self.synced(index, life),
            Happening::Committed(commit, life, fine) => self.committed(&commit, life, fine),
            Happening::Wake(Client::Agent(index), life) => self.wake_agent(index, life),
            Happening::Wake(Client::Coordinator, life) => self.wake_coordinator(life),
            Happening::Restart(client) => {
                match client {
                    Client::Agent(index) => self.restart_agent(index),
                    Client::Coordinator => self.restart_coordinator(),
                }
                self.links.remove(&client);
                let pause = self.rng.u64(1..500);
                self.after(pause, Happening::Connect(client));
                Ok(())
            }
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
            Happening::Outage(until_ms) => {
                self.broker_back_ms = until_ms;
                self.bus.forget().into_iter().try_for_each(|client| self.lost_connection(client))
            }
            Happening::ClockJump => {
                self.again(self.faults.clock_jump_every_ms, Happening::ClockJump);
                let (client, clock_ms) = (self.anyone(), HOUR_MS * self.rng.i64(-1..=1));
                match client {
                    Client::Agent(index) => self.agents[index].clock_ms = clock_ms,
                    Client::Coordinator => self.coordinator.clock_ms = clock_ms,
                }
                Ok(())
            }
            Happening::Heal => {
                self.faults = self.faults.healed();
                self.healed = true;
                Ok(())
            }
        }
    }

    fn arrive(&mut self, parcel: Parcel) -> Result<(), String> {
        if self.bus.connection(parcel.to) != Some(parcel.connection) {
            return Ok(());
        }
        match parcel.to {
            Client::Agent(index) => self.message_to_agent(index, parcel.topic, parcel.payload),
            Client::Coordinator => self.message_to_coordinator(&parcel.topic, parcel.payload),
        }
    }

    fn connect(&mut self, client: Client) -> Result<(), String> {
        let will = match client {
            Client::Agent(index) => self.agents[index].will(),
            Client::Coordinator => self.coordinator.alive.as_ref().map(|_| None),
        };
        let Some(will) = will.filter(|_| self.bus.connection(client).is_none()) else { return Ok(()) };
        if self.now_ms < self.broker_back_ms {
            return self.try_again(client);
        }
        for other in self.bus.thrown_off_by(client) {
            self.cut(other)?;
        }
        self.links.entry(client).or_default().1 = self.now_ms;
        let parcels = self.bus.connect(client, will, self.now_ms, &mut self.rng, &self.faults);
        self.deliver(parcels);
        match client {
            Client::Agent(index) => self.agent_link(index, true),
            Client::Coordinator => self.coordinator_link(true),
        }
    }

    fn cut(&mut self, client: Client) -> Result<(), String> {
        let Some(parcels) = self.bus.cut(client, self.now_ms, &mut self.rng, &self.faults) else { return Ok(()) };
        self.deliver(parcels);
        self.lost_connection(client)
    }

    fn lost_connection(&mut self, client: Client) -> Result<(), String> {
        let (backoff, began_ms) = self.links.entry(client).or_default();
        backoff.ended(Duration::from_millis(self.now_ms - *began_ms));
        self.try_again(client)?;
        match client {
            Client::Agent(index) => self.agent_link(index, false),
            Client::Coordinator => self.coordinator_link(false),
        }
    }

    fn try_again(&mut self, client: Client) -> Result<(), String> {
        let unit = self.rng.f64();
        let pause_ms = self.links.entry(client).or_default().0.next(unit).as_millis() as u64;
        *self.attempts.entry((self.now_ms + pause_ms) / 1000).or_default() += 1;
        self.after(pause_ms, Happening::Connect(client));
        Ok(())
    }

    /// A process dies, and comes back after a while.
    fn crash(&mut self, client: Client) -> Result<(), String> {
        self.seen.crashes += 1;
        if let Some(parcels) = self.bus.cut(client, self.now_ms, &mut self.rng, &self.faults) {
            self.deliver(parcels);
        }
        match client {
            Client::Agent(index) => self.crash_agent(index)?,
            Client::Coordinator => self.crash_coordinator()?,
        }
        let pause = self.rng.u64(100..5_000);
        self.after(pause, Happening::Restart(client));
        Ok(())
    }

    fn publish(&mut self, from: Client, topic: Topic, payload: Vec<u8>) {
        let parcels = self.bus.publish(from, topic, payload, self.now_ms, &mut self.rng, &self.faults);
        self.deliver(parcels);
    }

    fn deliver(&mut self, parcels: Parcels) {
        for (at_ms, parcel) in parcels {
            self.at(at_ms, Happening::Arrive(parcel));
        }
    }

    fn anyone(&mut self) -> Client {
        match self.rng.usize(..=self.agents.len()) {
            0 => Client::Coordinator,
            index => Client::Agent(index - 1),
        }
    }

    fn now(&self, clock_ms: i64) -> Now {
        Now { mono_ms: self.now_ms, unix_ms: (EPOCH_UNIX_MS + self.now_ms).saturating_add_signed(clock_ms) }
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
