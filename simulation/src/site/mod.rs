//! One seeded site: who watches what, with the real cores of agents and coordinators, on a network, clocks and machines that
//! fail.
//!
//! First it is unkind for a while, as a [`Scenario`] says, then it heals; and then each station must be watched by its own
//! node again. What must hold at each step is judged by the `referee`, what was really watched is in `coverage`. Beside
//! delivery's `world` it has no disks and no events, and time runs a little differently for each process. It holds no rule
//! of the product; it only performs effects.

use std::collections::BTreeMap;
use std::rc::Rc;

use fastrand::Rng;
use picket_coordinator::leader::row::Row;
use picket_coordinator::swarm::Rules;
use picket_shared::backoff::Backoff;
use picket_shared::duty::{Epoch, How};
use picket_shared::ids::{NodeId, SiteId, StationId};
use picket_shared::topics::Topic;

use crate::schedule::{Schedule, Trace};

mod acts;
mod agent;
mod body;
pub mod clock;
mod coordinator;
pub mod coverage;
pub mod filters;
pub mod ground;
mod links;
pub mod net;
pub mod picture;
pub mod referee;
pub mod report;
pub mod scenario;

use acts::Troubles;
use agent::{AgentLife, Right};
use body::Body;
use coordinator::CoordinatorLife;
use coverage::{Cause, Coverage};
use ground::{Ground, station_of};
use net::{Net, Packet, Traffic, Who};
use referee::Referee;
use scenario::Scenario;

/// Holes count from here on: by now everybody has begun, and a leader is settled.
pub const COUNTS_FROM_MS: u64 = 15_000;
/// After healing all must be as it should be within this: the longest hold-down, and a minute.
pub const HEALING_MS_MAX: u64 = 180_000;
/// It is as it should be when it has been for so long.
const CALM_MS: u64 = 10_000;
/// More happenings than this in one millisecond are a loop.
const STEPS_AT_ONCE_MAX: u32 = 100_000;
/// A node that has had a connection for so long, and watches, is not taken over from rightly.
const THERE_MS: u64 = 2_000;

/// What will happen, and when.
pub type Due = Vec<(u64, Happening)>;

/// Something that happens at a site.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Happening {
    /// A client's packet reaches the broker, on this connection.
    AtBroker(Who, u64, Packet),
    /// A message reaches a client, on this connection.
    AtClient(Who, u64, Topic, Rc<[u8]>),
    /// A client hears that its connection is over.
    LinkLost(Who, u64),
    /// The broker hears that a connection is over.
    SessionEnds(Who, u64),
    /// The broker looks whether it has heard of a client since then.
    KeepAlive(Who, u64, u64),
    /// A client looks whether it had an answer since then.
    Unanswered(Who, u64, u64),
    /// A client of this life tries to connect.
    Connect(Who, u64),
    /// A process starts.
    Start(Who),
    /// The alarm that a core of this life has set.
    Wake(Who, u64),
    /// A coordinator of this life looks who leads.
    Look(usize, u64),
    /// The first frame of a station, or the arrival there, since this order.
    Sees(usize, StationId, u64),
    /// The act with this index is done, for the so many'th time.
    Act(usize, usize),
    /// What was done to this one ends, if nothing else was done since.
    Undo(Option<Who>, u64),
    /// Some node's connection breaks.
    Drop,
    /// A second has passed.
    Second,
    /// From here on nothing fails.
    Heal,
}

/// What a run showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What drew the details.
    pub seed: u64,
    /// The same seed gives the same number.
    pub trace_hash: u64,
    /// Things that happened.
    pub steps: u64,
    /// How long the site lived, in its own time.
    pub lived_ms: u64,
    /// How long it was unkind.
    pub unkind_ms: u64,
    /// From the healing until all was as it should be.
    pub healing_ms: u64,
    /// Who really watched what.
    pub coverage: Coverage,
    /// Covers that began while the station's own node was connected and watched, and nobody covered it.
    pub false_takeovers: u64,
    /// Those that began while it watched and could not be heard.
    pub unheard_takeovers: u64,
    /// Covers that began.
    pub covers: u64,
    /// Platforms that began to act.
    pub acts: u64,
    /// Messages from before something that the receiver knew; all were refused.
    pub stale_refused: u64,
    /// What agents sent and received, all together.
    pub agents: (Traffic, Traffic),
    /// What coordinators sent and received, all together.
    pub coordinators: (Traffic, Traffic),
    /// Times that somebody began to lead.
    pub leaders: u64,
}

/// Runs a scenario under a seed to its end. The error names what was broken, and the seed.
pub fn run(scenario: &Scenario, seed: u64) -> Result<Outcome, String> {
    World::new(scenario, seed).run().map_err(|what| format!("seed {seed}: {what}"))
}

struct World {
    now_ms: u64,
    seed: u64,
    rng: Rng,
    scenario: Scenario,
    names: Vec<NodeId>,
    numbers: BTreeMap<StationId, usize>,
    rules: Rules,
    net: Net,
    links: BTreeMap<Who, (Backoff, u64)>,
    agents: Vec<AgentLife>,
    coordinators: Vec<CoordinatorLife>,
    /// The row that says who leads; one for each coordinator, where they were not given the same.
    rows: Vec<Row>,
    troubles: Troubles,
    ground: Ground,
    coverage: Coverage,
    referee: Referee,
    schedule: Schedule<Happening>,
    trace: Trace,
    steps: u64,
    false_takeovers: u64,
    unheard_takeovers: u64,
    covers: u64,
    leaders: u64,
    /// What was to be thought of each grant, when it was made.
    judged: BTreeMap<(StationId, Epoch), Right>,
    healed: bool,
    calm_since_ms: Option<u64>,
}

impl World {
    fn new(scenario: &Scenario, seed: u64) -> World {
        // Not the stream that drew the scenario.
        let mut rng = Rng::with_seed(seed ^ 0x7369_7465_7369_7465);
        let names: Vec<NodeId> = (0..scenario.nodes)
            .map(|n| NodeId::new(format!("n{n}")).expect("a letter and digits are a name"))
            .collect();
        let ground = Ground::new(&mut rng, scenario.nodes, scenario.walkers);
        let flies: Vec<bool> = names.iter().map(|_| rng.f64() < scenario.drones).collect();
        let stations = ground.plan(&names, &flies, scenario.reach);
        let rules = Rules { stations, anyone: (scenario.reach == 0).then_some(How::Camera) };
        let who = (0..scenario.coordinators).map(Who::Coordinator).chain((0..names.len()).map(Who::Agent));
        let who: Vec<Who> = who.collect();
        let body = |rng: &mut Rng| Body::draw(rng, &scenario.clocks);
        let agents: Vec<_> = names.iter().map(|_| AgentLife::new(body(&mut rng))).collect();
        let coordinators = (0..scenario.coordinators).map(|n| CoordinatorLife::new(n, body(&mut rng))).collect();
        let mut world = World {
            now_ms: 0,
            seed,
            numbers: names.iter().enumerate().map(|(n, name)| (station_of(name), n)).collect(),
            rules,
            net: Net::new(site(), rng.u64(..), scenario.air.clone(), who.iter().copied()),
            links: BTreeMap::new(),
            agents,
            coordinators,
            rows: vec![Row::default(); scenario.coordinators],
            troubles: Troubles::new(scenario.acts.len()),
            ground,
            coverage: Coverage::new(names.len(), COUNTS_FROM_MS),
            referee: Referee::new(names.len(), scenario.coordinators, scenario.own_rows),
            schedule: Schedule::default(),
            trace: Trace::default(),
            steps: 0,
            false_takeovers: 0,
            unheard_takeovers: 0,
            covers: 0,
            leaders: 0,
            judged: BTreeMap::new(),
            healed: false,
            calm_since_ms: None,
            names,
            rng,
            scenario: scenario.clone(),
        };
        for who in who {
            let delay_ms = world.rng.u64(..1_500);
            world.after(delay_ms, Happening::Start(who));
        }
        for (index, act) in scenario.acts.iter().enumerate() {
            let mut at_ms = act.at_s.draw_ms(&mut world.rng);
            for time in 0..act.times {
                world.after(at_ms, Happening::Act(index, time));
                at_ms += act.every_s.draw_ms(&mut world.rng);
            }
        }
        world.drop_again();
        world.after(1_000, Happening::Second);
        world.after(scenario.seconds * 1_000, Happening::Heal);
        world
    }

    fn run(mut self) -> Result<Outcome, String> {
        let mut steps_now = 0;
        while let Some((at_ms, what)) = self.schedule.take() {
            self.steps += 1;
            steps_now = if at_ms == self.now_ms { steps_now + 1 } else { 0 };
            if steps_now > STEPS_AT_ONCE_MAX {
                return Err(format!("time stands still at {at_ms} ms: somebody wakes up again and again for nothing"));
            }
            self.now_ms = at_ms;
            self.trace.note(at_ms, &what);
            self.happen(what).map_err(|what| format!("at {at_ms} ms: {what}"))?;
            if let Some(since_ms) = self.calm_since_ms.filter(|since_ms| at_ms >= since_ms + CALM_MS) {
                return Ok(self.outcome(since_ms));
            }
        }
        Err("nothing happens any more".into())
    }

    fn outcome(mut self, calm_since_ms: u64) -> Outcome {
        self.coverage.close(self.now_ms);
        let unkind_ms = self.scenario.seconds * 1_000;
        let sum = |clients: &mut dyn Iterator<Item = Who>| {
            clients.map(|who| self.net.traffic(who)).fold(Default::default(), |sum: (Traffic, Traffic), one| {
                let add =
                    |a: Traffic, b: Traffic| Traffic { messages: a.messages + b.messages, bytes: a.bytes + b.bytes };
                (add(sum.0, one.0), add(sum.1, one.1))
            })
        };
        Outcome {
            seed: self.seed,
            trace_hash: self.trace.hash(),
            steps: self.steps,
            lived_ms: self.now_ms,
            unkind_ms,
            healing_ms: calm_since_ms.saturating_sub(unkind_ms),
            false_takeovers: self.false_takeovers,
            unheard_takeovers: self.unheard_takeovers,
            covers: self.covers,
            acts: self.referee.acts,
            stale_refused: self.referee.stale_refused,
            agents: sum(&mut (0..self.agents.len()).map(Who::Agent)),
            coordinators: sum(&mut (0..self.coordinators.len()).map(Who::Coordinator)),
            leaders: self.leaders,
            coverage: self.coverage,
        }
    }

    fn happen(&mut self, what: Happening) -> Result<(), String> {
        let mut due = Due::new();
        match what {
            Happening::AtBroker(who, number, packet) => {
                self.net.at_broker(self.now_ms, who, number, packet, &mut due);
            }
            Happening::AtClient(who, number, topic, payload) => {
                if self.net.at_client(who, number, &topic, &payload) {
                    self.arrive(who, Some((topic, payload)))?;
                }
            }
            Happening::LinkLost(who, number) => self.link_lost(who, number)?,
            Happening::Unanswered(who, number, since_ms) => {
                if self.net.is_unanswered(who, since_ms) {
                    self.link_lost(who, number)?;
                }
            }
            Happening::SessionEnds(who, number) => {
                self.net.end_session(self.now_ms, who, number, &mut due);
                self.is_there(who);
            }
            Happening::KeepAlive(who, number, since_ms) => {
                self.net.keep_alive(self.now_ms, who, number, since_ms, &mut due);
                self.is_there(who);
            }
            Happening::Connect(who, life) => self.connect(who, life)?,
            Happening::Start(who) => self.start(who)?,
            Happening::Wake(who, life) => self.wake(who, life)?,
            Happening::Look(index, life) => self.look_who_leads(index, life)?,
            Happening::Sees(index, station, ticket) => self.sees(index, &station, ticket),
            Happening::Act(index, time) => self.act(index, time)?,
            Happening::Undo(who, ticket) => self.undo(who, ticket)?,
            Happening::Drop => self.drop_somebody(),
            Happening::Second => self.second()?,
            Happening::Heal => self.heal()?,
        }
        self.set(due);
        Ok(())
    }

    fn wake(&mut self, who: Who, life: u64) -> Result<(), String> {
        let body = self.body_mut(who);
        if body.life != life || !body.runs() {
            return Ok(());
        }
        body.alarm_ms = u64::MAX;
        match who {
            Who::Agent(index) => self.agent(index, picket_agent::node::Input::Tick),
            Who::Coordinator(index) => self.coordinate(index, picket_coordinator::coordinator::Input::Tick),
        }
    }

    /// Sets the alarm of a process to this moment of its own clock, where that is earlier than what is set.
    fn alarm(&mut self, who: Who, mono_ms: u64) {
        let now_ms = self.now_ms;
        let body = self.body_mut(who);
        let at_ms = body.clock.world_ms(mono_ms).max(now_ms);
        if at_ms < body.alarm_ms && body.runs() {
            body.alarm_ms = at_ms;
            let life = body.life;
            self.at(at_ms, Happening::Wake(who, life));
        }
    }

    fn publish(&mut self, who: Who, packet: Packet) {
        let mut due = Due::new();
        self.net.send(self.now_ms, who, packet, &mut due);
        self.set(due);
    }

    fn second(&mut self) -> Result<(), String> {
        self.after(1_000, Happening::Second);
        self.ground.second(&mut self.rng);
        self.coverage.second(self.now_ms, self.ground.seen());
        if !self.healed {
            return Ok(());
        }
        match self.amiss() {
            None => self.calm_since_ms = self.calm_since_ms.or(Some(self.now_ms)),
            Some(what) if self.now_ms > self.scenario.seconds * 1_000 + HEALING_MS_MAX => {
                return Err(format!("long after the site healed {what}"));
            }
            Some(_) => self.calm_since_ms = None,
        }
        Ok(())
    }

    /// What is not as it should be at a site where nothing fails any more.
    fn amiss(&self) -> Option<String> {
        for (station, it) in self.coverage.stations.iter().enumerate() {
            let home_lives = self.agents[station].body.runs();
            let at_home = it.watchers.contains(&station);
            let name = &self.names[station];
            if home_lives && !at_home {
                return Some(format!("{name} does not watch its own station"));
            }
            let mono_ms = self.agents[station].body.clock.mono_ms(self.now_ms);
            let owns = self.referee.owns(station, &station_of(name), mono_ms);
            if home_lives && !owns && self.missing().is_none() {
                return Some(format!("{name} watches its own station without a lease"));
            }
            if it.watchers.is_empty() && !self.scenario.scarce {
                return Some(format!("nobody watches the station of {name}, which is dead"));
            }
            let covers = |agent: &AgentLife| agent.covers.contains_key(&station_of(name)) && agent.body.runs();
            let covered_by: Vec<usize> = (0..self.agents.len()).filter(|n| covers(&self.agents[*n])).collect();
            if covered_by.len() > usize::from(!home_lives) {
                return Some(format!("agents {covered_by:?} cover the station of {name}, which lives: {home_lives}"));
            }
        }
        None
    }

    /// What is missing to decide about a station, if anything.
    fn missing(&self) -> Option<Cause> {
        let decides = |n: usize| self.is_settled(n) && self.net.connected(Who::Coordinator(n));
        match (self.net.is_up(), (0..self.coordinators.len()).any(decides)) {
            (false, _) => Some(Cause::NoBroker),
            (true, false) => Some(Cause::NoCoordinator),
            (true, true) => None,
        }
    }

    fn body(&self, who: Who) -> &Body {
        match who {
            Who::Agent(index) => &self.agents[index].body,
            Who::Coordinator(index) => &self.coordinators[index].body,
        }
    }

    fn body_mut(&mut self, who: Who) -> &mut Body {
        match who {
            Who::Agent(index) => &mut self.agents[index].body,
            Who::Coordinator(index) => &mut self.coordinators[index].body,
        }
    }

    fn set(&mut self, due: Due) {
        due.into_iter().for_each(|(at_ms, what)| self.at(at_ms, what));
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
