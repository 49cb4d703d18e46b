//! An agent's part of a world: its core, its disk, its lives.

use picket_agent::node::{self, Effect, Input, Node};
use picket_agent::outbox::Send;
use picket_shared::codec;
use picket_shared::ids::Boot;
use picket_shared::topics::Topic;
use picket_shared::wire::EventBatch;
use serde_bytes::ByteBuf;

use super::{EPOCH_UNIX_MS, NEVER_MS, World};
use crate::bus::{Client, Will};
use crate::disk::{AgentDisk, Synced};
use crate::schedule::Happening;
use crate::sensor;

pub(super) struct AgentLife {
    /// Counts lives: what belongs to an earlier one is void.
    life: u64,
    disk: AgentDisk,
    pub(super) alive: Option<Alive>,
    syncing: bool,
    alarm_ms: u64,
    tracks: u64,
    resent: u64,
    /// How far its calendar clock is off.
    pub(super) clock_ms: i64,
}

pub(super) struct Alive {
    node: Node,
    boot: Boot,
    will: Will,
}

impl Default for AgentLife {
    fn default() -> Self {
        let (alive, disk) = (None, AgentDisk::default());
        AgentLife { life: 0, disk, alive, syncing: false, alarm_ms: NEVER_MS, tracks: 0, resent: 0, clock_ms: 0 }
    }
}

impl AgentLife {
    pub(super) fn resent_so_far(&self) -> u64 {
        self.resent + self.alive.as_ref().map_or(0, |alive| alive.node.resent())
    }

    /// What it leaves with the broker; nothing where it is dead.
    pub(super) fn will(&self) -> Option<Will> {
        self.alive.as_ref().map(|alive| alive.will.clone())
    }
}

impl World {
    pub(super) fn owed(&self, index: usize) -> u64 {
        self.agents[index].alive.as_ref().map_or(1, |alive| alive.node.owed())
    }

    pub(super) fn sense(&mut self, index: usize) -> Result<(), String> {
        if self.healed {
            return Ok(());
        }
        let pause = 1 + self.rng.u64(..self.plan.event_every_ms * 2);
        self.after(pause, Happening::Sense(index));
        let Some(Alive { boot, .. }) = &self.agents[index].alive else { return Ok(()) };
        let boot = *boot;
        self.agents[index].tracks += 1;
        let (track, time_ms) = (self.agents[index].tracks, EPOCH_UNIX_MS + self.now_ms);
        let event = sensor::event(&mut self.rng, &self.names[index], boot, track, time_ms);
        self.agent(index, Input::Observed(Box::new(event)))
    }

    pub(super) fn message_to_agent(&mut self, index: usize, topic: Topic, payload: Vec<u8>) -> Result<(), String> {
        self.agent(index, Input::Message(topic, payload))
    }

    pub(super) fn agent_link(&mut self, index: usize, up: bool) -> Result<(), String> {
        self.agent(index, if up { Input::LinkUp } else { Input::LinkDown })
    }

    pub(super) fn wake_agent(&mut self, index: usize, life: u64) -> Result<(), String> {
        if self.agents[index].life != life {
            return Ok(());
        }
        self.agents[index].alarm_ms = NEVER_MS;
        self.agent(index, Input::Tick)
    }

    /// One step of an agent, and its effects; it may die between any two of them.
    fn agent(&mut self, index: usize, input: Input) -> Result<(), String> {
        let now = self.now(self.agents[index].clock_ms);
        let Some(Alive { node, .. }) = &mut self.agents[index].alive else { return Ok(()) };
        let mut effects = Vec::new();
        node.step(now, input, &mut effects);
        let wakeup_ms = node.next_wakeup_ms();
        if node.owed() > 0 {
            self.owing.insert(index);
        } else {
            self.owing.remove(&index);
        }
        let life = self.agents[index].life;
        for effect in effects {
            if self.rng.f64() < self.faults.crash {
                return self.crash(Client::Agent(index));
            }
            self.perform(index, effect)?;
            // It may have died while it answered the effect; what it still wanted died with it.
            if self.agents[index].life != life {
                return Ok(());
            }
        }
        // One alarm at a time: the earliest. A later one is set again when this one rings.
        let agent = &mut self.agents[index];
        if wakeup_ms < agent.alarm_ms {
            agent.alarm_ms = wakeup_ms;
            self.at(wakeup_ms, Happening::Wake(Client::Agent(index), life));
        }
        Ok(())
    }

    fn perform(&mut self, index: usize, effect: Effect) -> Result<(), String> {
        let agent = &mut self.agents[index];
        let name = &self.names[index];
        match effect {
            Effect::Store(event) => {
                self.ledger.observed(name, &event, self.now_ms)?;
                agent.disk.append(event);
                if !agent.syncing {
                    agent.syncing = true;
                    let (life, pause) = (agent.life, self.rng.u64(1..200));
                    self.after(pause, Happening::Synced(index, life));
                }
            }
            Effect::Acked { boot, upto } => agent.disk.acked(boot, upto),
            Effect::Send(Send { boot, base, first, count, gap }) => {
                let events: Vec<_> = agent.disk.read(boot, first, count)?.into_iter().map(ByteBuf::from).collect();
                if events.is_empty() && gap.is_none() {
                    return Ok(());
                }
                let batch = codec::encode(&EventBatch { boot, base, first, events, gap }).map_err(|e| e.to_string())?;
                let topic = Topic::Events(name.clone());
                self.publish(Client::Agent(index), topic, batch);
            }
            Effect::Publish(topic, payload) => {
                if matches!(topic, Topic::Health(_)) && String::from_utf8_lossy(&payload).contains("calls itself") {
                    self.seen.agents_named.insert(index);
                }
                self.publish(Client::Agent(index), topic, payload);
            }
            Effect::Heartbeat => self.agent(index, Input::Facts(Box::default()))?,
            Effect::DeadLetter { reason, .. } => return Err(format!("agent {index} has a dead letter: {reason}")),
            // Nobody stands in for anybody here.
            Effect::Duty(_) | Effect::Model(_) => {}
            // An answer that was overtaken by a restart, or by the time.
            Effect::Reject {
                reason: "lease_too_late" | "lease_of_another_run" | "lease_of_an_old_leader" | "lease_from_the_future",
                ..
            } => {}
            Effect::Reject { reason, detail, .. } => return Err(format!("agent {index} rejected {reason}: {detail}")),
        }
        Ok(())
    }

    pub(super) fn synced(&mut self, index: usize, life: u64) -> Result<(), String> {
        let agent = &mut self.agents[index];
        if agent.life != life {
            return Ok(());
        }
        if self.rng.f64() < self.faults.disk_failure {
            self.after(1_000, Happening::Synced(index, life));
            return Ok(());
        }
        agent.syncing = false;
        let synced = agent.disk.sync(&self.faults);
        self.enter(index, &synced)?;
        for (boot, gap) in synced.given_up {
            self.agent(index, Input::Lost(boot, gap))?;
        }
        // It may have died while it heard: then it looks at its disk when it comes back.
        for (boot, upto) in synced.upto {
            if self.agents[index].life == life {
                self.agent(index, Input::Stored(boot, upto))?;
            }
        }
        Ok(())
    }

    /// What a disk did is entered in the ledger before anybody hears of it.
    fn enter(&mut self, index: usize, synced: &Synced) -> Result<(), String> {
        let name = &self.names[index];
        synced.stored.iter().try_for_each(|event| self.ledger.stored(name, event))?;
        synced.given_up.iter().try_for_each(|(boot, gap)| self.ledger.lost(name, *boot, *gap))
    }

    pub(super) fn crash_agent(&mut self, index: usize) -> Result<(), String> {
        let agent = &mut self.agents[index];
        agent.life += 1;
        agent.syncing = false;
        agent.alarm_ms = NEVER_MS;
        let alive = agent.alive.take().expect("only the living die");
        agent.resent += alive.node.resent();
        self.owing.insert(index);
        let synced = agent.disk.crash(&mut self.rng, &self.faults);
        self.enter(index, &synced)
    }

    pub(super) fn restart_agent(&mut self, index: usize) {
        let agent = &self.agents[index];
        let (now, pid) = (self.now(agent.clock_ms), 1000 * (index as u32 + 1) + agent.life as u32);
        let (salt, later_salt) = (self.rng.u32(..), self.rng.u32(..));
        let agent = &mut self.agents[index];
        let (boot, lanes) = agent.disk.open(now.unix_ms / 1000, salt);
        let name = self.names[index].clone();
        let identity = node::Identity {
            node: name.clone(),
            boot,
            salt: later_salt,
            pid,
            twin: sensor::twin(&name),
            duty: sensor::duty(&name),
        };
        let will = Some((Topic::Health(name), node::will(&identity, now.unix_ms)));
        agent.alive = Some(Alive { node: Node::new(now, identity, lanes), boot, will });
    }
}
