//! An agent's part of a site: its core, and a device that does what the core orders: it listens, prepares, covers after a
//! while, and moves its platform.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use picket_agent::duty::{Memory, Order};
use picket_agent::node::{self, Effect, Facts, Input, Node};
use picket_shared::codec;
use picket_shared::duty::{Duty, Heartbeat, Leases, Sight, Standby};
use picket_shared::ids::{NodeId, StationId};
use picket_shared::topics::Topic;

use super::body::Body;
use super::coverage::Cause;
use super::filters;
use super::ground::station_of;
use super::net::{Introduction, Packet, Who};
use super::referee::Expected;
use super::{Happening, THERE_MS, World};
use crate::disk::AgentDisk;
use crate::sensor;

pub(super) struct AgentLife {
    pub(super) body: Body,
    disk: AgentDisk,
    /// What it stands by for, as its disk keeps it.
    kept: Option<Box<Memory>>,
    node: Option<(Node, Rc<[u8]>)>,
    listens: BTreeSet<Topic>,
    ready: BTreeSet<StationId>,
    /// Its own camera gives frames.
    sees: bool,
    /// No camera that it has open gives any.
    pub(super) blind: bool,
    pub(super) covers: BTreeMap<StationId, Covering>,
    /// What it really watches.
    watches: BTreeSet<StationId>,
    tickets: u64,
    /// Answers and what is said beforehand that its core refused.
    refused: u64,
}

/// A station that the device watches for another.
pub(super) struct Covering {
    /// Tells this order from one before.
    ticket: u64,
    /// The platform must be there to see it.
    moves: bool,
    sees: bool,
    /// The platform's order to go, and whether it has come there.
    gone: Option<(u64, bool)>,
}

/// What is to be thought of somebody who begins to cover a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// Nobody watches it, or it has gone from one cover to the next.
    Needed,
    /// Its own node watches it, and could not be heard.
    Unheard,
    /// Its own node watches it, and is connected.
    Wrong,
}

impl AgentLife {
    pub(super) fn new(body: Body) -> AgentLife {
        AgentLife {
            body,
            disk: AgentDisk::default(),
            kept: None,
            node: None,
            listens: BTreeSet::new(),
            ready: BTreeSet::new(),
            sees: false,
            blind: false,
            covers: BTreeMap::new(),
            watches: BTreeSet::new(),
            tickets: 0,
            refused: 0,
        }
    }

    /// What it tells the broker when it connects: its will, and what it listens to.
    pub(super) fn introduction(&self, name: &NodeId) -> Introduction {
        let (_, will) = self.node.as_ref().expect("only the living connect");
        let will = (Topic::Health(name.clone()), will.clone());
        Introduction { will, always: filters::of_agent(name), more: self.listens.clone() }
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// What it would see, were the platform where it is to be.
    fn in_sight(&self, own: &StationId) -> BTreeMap<StationId, Sight> {
        let sight = |sees: bool| match (self.blind, sees) {
            (true, _) => Sight::Blind,
            (false, true) => Sight::Watching,
            (false, false) => Sight::Starting,
        };
        let covers = self.covers.iter().map(|(station, cover)| (station.clone(), sight(cover.sees)));
        covers.chain([(own.clone(), sight(self.sees))]).collect()
    }
}

impl World {
    pub(super) fn start_agent(&mut self, index: usize) -> Result<(), String> {
        let (now_ms, name) = (self.now_ms, self.names[index].clone());
        let (salt, later_salt) = (self.rng.u32(..), self.rng.u32(..));
        let need_fps = self.scenario.need_fps;
        let agent = &mut self.agents[index];
        agent.body.begin(now_ms);
        let now = agent.body.clock.now(now_ms);
        let (boot, lanes) = agent.disk.open(now.unix_ms / 1000, salt);
        let identity = node::Identity {
            node: name.clone(),
            boot,
            salt: later_salt,
            pid: 1000 * (index as u32 + 1) + agent.body.life as u32,
            twin: sensor::twin(&name),
            duty: Duty { need_fps, ..sensor::duty(&name) },
        };
        let will = node::will(&identity, now.unix_ms).into();
        agent.node = Some((Node::new(now, identity, lanes), will));
        (agent.sees, agent.listens, agent.ready) = (false, BTreeSet::new(), BTreeSet::new());
        let ticket = agent.ticket();
        self.referee.agent_begins(index, boot);
        let own_ms = self.scenario.start_s.draw_ms(&mut self.rng);
        self.after(own_ms, Happening::Sees(index, station_of(&name), ticket));
        if let Some(kept) = self.agents[index].kept.clone() {
            self.referee.standby(index, &kept.standby);
            self.agent(index, Input::Recalled(kept))?;
        }
        self.agent(index, Input::Tick)
    }

    /// What dies with the process.
    pub(super) fn end_agent(&mut self, index: usize) {
        let agent = &mut self.agents[index];
        (agent.node, agent.sees) = (None, false);
        agent.covers.clear();
        self.referee.agent_ends(index);
    }

    pub(super) fn agent_link(&mut self, index: usize, up: bool) -> Result<(), String> {
        self.agent(index, if up { Input::LinkUp } else { Input::LinkDown })
    }

    pub(super) fn message_to_agent(&mut self, index: usize, topic: Topic, payload: &[u8]) -> Result<(), String> {
        let own = station_of(&self.names[index]);
        let expected = match &topic {
            Topic::Leases(_) => {
                let leases: Leases = codec::decode(payload).map_err(|error| error.to_string())?;
                self.referee.leases(index, &own, &leases)
            }
            Topic::Standby(_) => {
                let standby: Standby = codec::decode(payload).map_err(|error| error.to_string())?;
                self.referee.standby(index, &standby)
            }
            _ => Expected::default(),
        };
        let refused = self.agents[index].refused;
        self.agent(index, Input::Message(topic, payload.to_vec()))?;
        let agent = &self.agents[index];
        let covers = agent.covers.keys().cloned().collect();
        self.referee.took(index, &expected, agent.refused > refused, &covers)
    }

    /// One step of an agent, and its effects.
    pub(super) fn agent(&mut self, index: usize, input: Input) -> Result<(), String> {
        let now = self.agents[index].body.clock.now(self.now_ms);
        let Some((node, _)) = &mut self.agents[index].node else { return Ok(()) };
        let mut effects = Vec::new();
        node.step(now, input, &mut effects);
        let wakeup_ms = node.next_wakeup_ms();
        for effect in effects {
            self.perform(index, effect)?;
        }
        self.alarm(Who::Agent(index), wakeup_ms);
        Ok(())
    }

    fn perform(&mut self, index: usize, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Publish(topic, payload) => {
                if matches!(topic, Topic::Heartbeat(_)) {
                    let beat: Heartbeat = codec::decode(&payload).map_err(|error| error.to_string())?;
                    let mono_ms = self.agents[index].body.clock.mono_ms(self.now_ms);
                    self.referee.heartbeat(index, &beat, mono_ms)?;
                }
                self.publish(Who::Agent(index), Packet::Publish(topic, payload.into()));
            }
            Effect::Heartbeat => {
                let agent = &self.agents[index];
                let facts = Facts {
                    sights: agent.in_sight(&station_of(&self.names[index])),
                    capacity_fps: self.scenario.capacity_fps,
                    ready: agent.ready.clone(),
                    ..Facts::default()
                };
                self.agent(index, Input::Facts(Box::new(facts)))?;
            }
            Effect::Duty(order) => self.order(index, order)?,
            Effect::Reject { reason, detail, .. } => {
                // What overtook each other, or came again, or from a leader before.
                if !reason.starts_with("lease_") && reason != "standby_of_an_old_leader" {
                    return Err(format!("agent {index} rejected {reason}: {detail}"));
                }
                self.agents[index].refused += 1;
            }
            // Nothing is observed here.
            Effect::Store(_) | Effect::Acked { .. } | Effect::Send(_) | Effect::Model(_) => {}
            Effect::DeadLetter { reason, .. } => return Err(format!("agent {index} has a dead letter: {reason}")),
        }
        Ok(())
    }

    fn order(&mut self, index: usize, order: Order) -> Result<(), String> {
        match order {
            Order::Listen(nodes) => {
                let topics: BTreeSet<Topic> = nodes.iter().flat_map(filters::of_another).collect();
                self.agents[index].listens = topics.clone();
                self.publish(Who::Agent(index), Packet::Listen(topics));
            }
            Order::Remember(memory) => self.agents[index].kept = Some(memory),
            Order::Prepare(assignments) => {
                let stations = assignments.into_iter().map(|assignment| assignment.standby.station);
                self.agents[index].ready = stations.collect();
            }
            Order::Cover(assignment) => {
                let station = assignment.standby.station;
                self.count_cover(index, &station);
                let agent = &mut self.agents[index];
                let ticket = agent.ticket();
                let moves = assignment.standby.how.moves();
                let begun = Covering { ticket, moves, sees: false, gone: None };
                if agent.covers.insert(station.clone(), begun).is_some() {
                    return Err(format!("agent {index} is to cover {station}, which it covers"));
                }
                self.begin_to_see(index, station, ticket);
            }
            Order::Uncover(station) => {
                if self.agents[index].covers.remove(&station).is_none() {
                    return Err(format!("agent {index} is to uncover {station}, which it does not cover"));
                }
                self.referee.uncovers(index, &station);
                self.look_again(index, Cause::Other);
            }
            Order::Go(standby, epoch) => {
                let mono_ms = self.agents[index].body.clock.mono_ms(self.now_ms);
                self.referee.go(index, &standby.station, epoch, mono_ms)?;
                let agents = &self.agents;
                self.referee.one_actor(|agent| agents[agent].body.runs())?;
                let ticket = self.agents[index].ticket();
                if let Some(cover) = self.agents[index].covers.get_mut(&standby.station) {
                    cover.gone = Some((ticket, false));
                }
                self.begin_to_see(index, standby.station, ticket);
            }
            Order::Leave(station, _) => {
                self.referee.leave(index, &station);
                if let Some(cover) = self.agents[index].covers.get_mut(&station) {
                    cover.gone = None;
                }
                self.look_again(index, Cause::Other);
            }
        }
        Ok(())
    }

    fn begin_to_see(&mut self, index: usize, station: StationId, ticket: u64) {
        let delay_ms = self.scenario.start_s.draw_ms(&mut self.rng);
        self.after(delay_ms, Happening::Sees(index, station, ticket));
    }

    /// Counts a cover that begins, as it was judged when it was granted, or now where the agent decided by itself.
    fn count_cover(&mut self, index: usize, station: &StationId) {
        self.covers += 1;
        let granted =
            self.referee.lease_of(index, station).and_then(|epoch| self.judged.get(&(station.clone(), epoch)));
        match granted.copied().unwrap_or_else(|| self.judge(index, station)) {
            _ if self.now_ms <= super::COUNTS_FROM_MS => {}
            Right::Needed => {}
            Right::Unheard => self.unheard_takeovers += 1,
            Right::Wrong => self.false_takeovers += 1,
        }
    }

    /// Whether a station, at this moment, needs somebody else than its own node.
    pub(super) fn judge(&self, index: usize, station: &StationId) -> Right {
        let home = &self.agents[self.numbers[station]];
        let covered = self
            .agents
            .iter()
            .enumerate()
            .any(|(other, agent)| other != index && agent.body.runs() && agent.covers.contains_key(station));
        let there = home.body.there_since_ms.is_some_and(|since_ms| self.now_ms >= since_ms + THERE_MS);
        match (home.watches.contains(station) && !covered, there) {
            (false, _) => Right::Needed,
            (true, false) => Right::Unheard,
            (true, true) => Right::Wrong,
        }
    }

    /// The first frame comes, or the platform is there, unless the order was taken back meanwhile.
    pub(super) fn sees(&mut self, index: usize, station: &StationId, ticket: u64) {
        let agent = &mut self.agents[index];
        match agent.covers.get_mut(station) {
            Some(cover) if cover.ticket == ticket => cover.sees = true,
            Some(Covering { gone: Some((of, there)), .. }) if *of == ticket => *there = true,
            Some(_) => return,
            None if station_of(&self.names[index]) == *station && agent.node.is_some() => agent.sees = true,
            None => return,
        }
        self.look_again(index, Cause::Other);
    }

    /// What this agent really watches now, after something changed; if it is less than before, for this cause.
    pub(super) fn look_again(&mut self, index: usize, cause: Cause) {
        let missing = self.missing();
        let cause = missing.filter(|_| cause != Cause::Other).unwrap_or(cause);
        let (own, agent) = (station_of(&self.names[index]), &self.agents[index]);
        let mut watches = BTreeSet::new();
        if agent.body.runs() && !agent.blind {
            let there = |cover: &Covering| cover.sees && (!cover.moves || cover.gone.is_some_and(|(_, there)| there));
            watches.extend(agent.sees.then(|| own.clone()));
            watches.extend(agent.covers.iter().filter(|(_, cover)| there(cover)).map(|(station, _)| station.clone()));
        }
        let before = std::mem::replace(&mut self.agents[index].watches, watches.clone());
        for station in watches.difference(&before) {
            let moved = self.agents[index].covers.get(station).is_some_and(|cover| cover.moves);
            self.coverage.begins(self.now_ms, self.numbers[station], index, missing, moved);
        }
        for station in before.difference(&watches) {
            self.coverage.ends(self.now_ms, self.numbers[station], index, cause);
        }
    }
}
