//! A coordinator's part of a site: its core, and the row that says who leads.

use std::collections::BTreeSet;

use picket_coordinator::archive::Recovered;
use picket_coordinator::coordinator::{Coordinator, Effect, Identity, Input};
use picket_coordinator::leader::row::Candidate;
use picket_coordinator::leader::{LEADER_LOOK, LEADER_MARGIN, LEADER_TTL};
use picket_coordinator::line::SETTLE_MS;
use picket_coordinator::view;
use picket_shared::codec;
use picket_shared::duty::{Heartbeat, Leases};
use picket_shared::ids::{Boot, NodeId};
use picket_shared::status::UpDown;
use picket_shared::topics::Topic;

use super::body::Body;
use super::net::{Introduction, Packet, Who};
use super::scenario::What;
use super::{Happening, World, site};

pub(super) struct CoordinatorLife {
    pub(super) body: Body,
    index: u64,
    name: String,
    core: Option<Coordinator>,
    candidate: Candidate,
    /// A leader that somebody has heard of: it must lead above that.
    above: u32,
    /// Under which epoch it leads, and until when on its clock.
    lead: Option<(u32, u64)>,
    /// When it began to, in the world's time.
    lead_since_ms: u64,
    /// It goes on believing that it leads, and cannot see the row.
    pub(super) deluded: bool,
    rejected: Vec<&'static str>,
}

impl CoordinatorLife {
    pub(super) fn new(index: usize, body: Body) -> CoordinatorLife {
        let name = format!("c{index}");
        let candidate = Candidate::new(&name);
        CoordinatorLife {
            body,
            index: index as u64,
            name,
            core: None,
            candidate,
            above: 0,
            lead: None,
            lead_since_ms: 0,
            deluded: false,
            rejected: vec![],
        }
    }

    fn identity(&self) -> Identity {
        Identity {
            site: site(),
            pid: 1,
            boot: Boot(self.body.life << 8 | self.index),
            name: NodeId::new(format!("c{}", self.index)).expect("a name"),
        }
    }

    /// What it tells the broker when it connects: its will. What it listens to the broker knows.
    pub(super) fn introduction(&self, now_ms: u64) -> Introduction {
        let will = self.identity().health(self.body.clock.now(now_ms), UpDown::Down, 0, Vec::new());
        let will = (Topic::CoordinatorHealth, view::json(&will).into());
        Introduction { will, always: BTreeSet::new(), more: BTreeSet::new() }
    }

    fn leads_at(&self, mono_ms: u64) -> Option<u32> {
        let epoch = self.lead.filter(|(_, until_ms)| mono_ms < *until_ms).map(|(epoch, _)| epoch);
        epoch.filter(|_| self.core.as_ref().is_some_and(|core| core.leads_under() == epoch))
    }
}

impl World {
    pub(super) fn start_coordinator(&mut self, index: usize) -> Result<(), String> {
        let (now_ms, rules) = (self.now_ms, self.rules.clone());
        let life = &mut self.coordinators[index];
        life.body.begin(now_ms);
        (life.candidate, life.above, life.lead) = (Candidate::new(&life.name), 0, None);
        let now = life.body.clock.now(now_ms);
        life.core = Some(Coordinator::new(life.identity(), rules, Recovered::default(), now));
        self.referee.coordinator_begins(index);
        self.look_who_leads(index, self.coordinators[index].body.life)
    }

    pub(super) fn end_coordinator(&mut self, index: usize) {
        let life = &mut self.coordinators[index];
        (life.core, life.lead, life.deluded) = (None, None, false);
    }

    /// Whether this one runs and leads now.
    pub(super) fn leads(&self, index: usize) -> bool {
        let life = &self.coordinators[index];
        life.body.runs() && life.leads_at(life.body.clock.mono_ms(self.now_ms)).is_some()
    }

    /// Whether it has led for long enough to take anything from anybody.
    pub(super) fn is_settled(&self, index: usize) -> bool {
        self.leads(index) && self.now_ms >= self.coordinators[index].lead_since_ms + SETTLE_MS
    }

    /// Which row it looks at.
    pub(super) fn row_of(&self, index: usize) -> usize {
        if self.scenario.own_rows { index } else { 0 }
    }

    /// Looks at the row, as the shell's task does once a second.
    pub(super) fn look_who_leads(&mut self, index: usize, life: u64) -> Result<(), String> {
        let now_ms = self.now_ms;
        let apart = self.coordinators[index].body.trouble == Some(What::Estrange);
        let reaches = self.net.reaches(Who::Coordinator(index)) || !self.net.is_up() || apart;
        let row = self.row_of(index);
        let it = &mut self.coordinators[index];
        if it.body.life != life || !it.body.alive {
            return Ok(());
        }
        let mono_ms = it.body.clock.mono_ms(now_ms);
        let again_ms = it.body.clock.world_ms(mono_ms + LEADER_LOOK.as_millis() as u64);
        if !it.body.paused {
            // The row is on the same network as the broker, but for whoever is estranged.
            let epoch = if it.deluded {
                it.lead.map(|(epoch, _)| epoch)
            } else if reaches {
                let row = &mut self.rows[row];
                if it.core.as_ref().is_some_and(|core| core.wants_the_lead(it.body.clock.now(now_ms))) {
                    let next = it.candidate.look(row, it.above, mono_ms).map_err(|_| "no epoch is left")?;
                    *row = next.clone().unwrap_or_else(|| row.clone());
                    it.candidate.led(next.as_ref())
                } else {
                    *row = it.candidate.release(row).unwrap_or_else(|| row.clone());
                    None
                }
            } else {
                None
            };
            let until_ms = mono_ms + (LEADER_TTL - LEADER_MARGIN).as_millis() as u64;
            let before = it.lead;
            it.lead = epoch.map(|epoch| (epoch, until_ms));
            if before.map(|(epoch, _)| epoch) != epoch {
                it.lead_since_ms = now_ms;
                self.referee.coordinator_begins(index);
                self.leaders += u64::from(epoch.is_some());
            }
            let input = epoch.map_or(Input::Follow, |epoch| Input::Lead { epoch, until_ms });
            self.coordinate(index, input)?;
        }
        self.at(again_ms, Happening::Look(index, life));
        Ok(())
    }

    pub(super) fn coordinator_link(&mut self, index: usize, up: bool) -> Result<(), String> {
        self.coordinate(index, if up { Input::LinkUp } else { Input::LinkDown("cut".into()) })
    }

    pub(super) fn message_to_coordinator(&mut self, index: usize, topic: &Topic, payload: &[u8]) -> Result<(), String> {
        let life = &self.coordinators[index];
        if life.deluded && *topic == Topic::CoordinatorHealth {
            // Else it would give way to whoever says there that it leads under a higher epoch.
            return Ok(());
        }
        let leader = life.leads_at(life.body.clock.mono_ms(self.now_ms));
        let mut ended = false;
        if let (Topic::Heartbeat(node), Some(leader)) = (topic, leader) {
            let beat: Heartbeat = codec::decode(payload).map_err(|error| error.to_string())?;
            ended = self.referee.claims_what_has_ended(index, leader, self.number(node), &beat);
        }
        self.coordinators[index].rejected.clear();
        self.coordinate(index, Input::Message { topic: topic.render(&site()), payload: payload.to_vec() })?;
        let rejected = &self.coordinators[index].rejected;
        if ended && rejected.is_empty() {
            return Err(format!("coordinator {index} accepted a claim on {topic:?} that a later grant has ended"));
        }
        self.referee.stale_refused += u64::from(ended);
        Ok(())
    }

    /// One step of a coordinator, and its effects.
    pub(super) fn coordinate(&mut self, index: usize, input: Input) -> Result<(), String> {
        let life = &mut self.coordinators[index];
        let now = life.body.clock.now(self.now_ms);
        let Some(core) = &mut life.core else { return Ok(()) };
        let mut effects = Vec::new();
        core.step(now, input, &mut effects);
        let wakeup_ms = core.next_wakeup();
        for effect in effects {
            match effect {
                Effect::Publish { topic, payload } => self.say(index, topic, payload)?,
                Effect::Outranked(leader) => {
                    let above = &mut self.coordinators[index].above;
                    *above = leader.max(*above);
                }
                Effect::Reject { reason, detail, .. } => {
                    let known = ["repeated", "earlier_run", "stale_epoch", "outranked", "view_too_large"];
                    let again = self.referee.keeps_no_books() && reason == "future_epoch";
                    if !known.contains(&reason) && !again {
                        return Err(format!("coordinator {index} rejected {reason}: {detail}"));
                    }
                    self.coordinators[index].rejected.push(reason);
                }
                Effect::Commit(_) | Effect::Stopped { .. } => return Err("nothing is observed, and committed".into()),
            }
        }
        if let Some(wakeup_ms) = wakeup_ms {
            self.alarm(Who::Coordinator(index), wakeup_ms);
        }
        Ok(())
    }

    fn say(&mut self, index: usize, topic: Topic, payload: Vec<u8>) -> Result<(), String> {
        let life = &self.coordinators[index];
        if life.leads_at(life.body.clock.mono_ms(self.now_ms)).is_none() {
            return Err(format!("coordinator {index} does not lead, and says {topic:?}"));
        }
        if let Topic::Leases(node) = &topic {
            let leases: Leases = codec::decode(&payload).map_err(|error| error.to_string())?;
            let (agent, agents, now_ms) = (self.number(node), &self.agents, self.now_ms);
            let live = |n: usize| agents[n].body.runs().then(|| agents[n].body.clock.mono_ms(now_ms));
            let numbers = &self.numbers;
            let granted = self.referee.answers(index, agent, |station| numbers[station], live, &leases)?;
            for (station, epoch) in granted {
                let right = self.judge(agent, &station);
                self.judged.insert((station, epoch), right);
            }
        }
        self.publish(Who::Coordinator(index), Packet::Publish(topic, payload.into()));
        Ok(())
    }

    fn number(&self, node: &NodeId) -> usize {
        self.numbers[&super::station_of(node)]
    }
}
