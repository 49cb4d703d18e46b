//! The coordinator's part of a world: its core, its archive, its lives.

use picket_coordinator::archive::{Commit, MemoryArchive};
use picket_coordinator::coordinator::{Coordinator, Effect, Identity, Input};
use picket_coordinator::swarm::Rules;
use picket_shared::codec;
use picket_shared::ids::{Boot, NodeId};
use picket_shared::topics::Topic;
use picket_shared::wire::Ack;

use super::{NEVER_MS, World, site};
use crate::bus::Client;
use crate::schedule::Happening;

pub(super) struct CoordinatorLife {
    life: u64,
    archive: MemoryArchive,
    pub(super) alive: Option<Coordinator>,
    alarm_ms: u64,
    /// Duplicates that earlier lives refused.
    pub(super) duplicates: u64,
    /// How far its calendar clock is off.
    pub(super) clock_ms: i64,
}

impl Default for CoordinatorLife {
    fn default() -> Self {
        let archive = MemoryArchive::default();
        CoordinatorLife { life: 0, archive, alive: None, alarm_ms: NEVER_MS, duplicates: 0, clock_ms: 0 }
    }
}

impl World {
    pub(super) fn message_to_coordinator(&mut self, topic: &Topic, payload: Vec<u8>) -> Result<(), String> {
        self.coordinate(Input::Message { topic: topic.render(&site()), payload })
    }

    pub(super) fn coordinator_link(&mut self, up: bool) -> Result<(), String> {
        self.coordinate(if up { Input::LinkUp } else { Input::LinkDown("cut".into()) })
    }

    pub(super) fn wake_coordinator(&mut self, life: u64) -> Result<(), String> {
        if self.coordinator.life != life {
            return Ok(());
        }
        self.coordinator.alarm_ms = NEVER_MS;
        self.coordinate(Input::Tick)
    }

    /// One step of the coordinator, and its effects; it may die between any two of them.
    fn coordinate(&mut self, input: Input) -> Result<(), String> {
        let now = self.now(self.coordinator.clock_ms);
        let Some(core) = &mut self.coordinator.alive else { return Ok(()) };
        let mut effects = Vec::new();
        core.step(now, input, &mut effects);
        let wakeup_ms = core.next_wakeup();
        for effect in effects {
            if self.rng.f64() < self.faults.crash {
                return self.crash(Client::Coordinator);
            }
            match effect {
                Effect::Commit(commit) => {
                    let fine = self.rng.f64() >= self.faults.disk_failure;
                    let (life, pause) = (self.coordinator.life, self.rng.u64(1..50));
                    self.after(pause, Happening::Committed(commit, life, fine));
                }
                Effect::Publish { topic, payload } => self.say(topic, payload)?,
                Effect::Reject { reason: "busy", .. } => self.seen.busy += 1,
                // What arrives far ahead of something lost is refused and comes again; a view of very many nodes is
                // trimmed. Nothing else may be refused.
                Effect::Reject { reason: "ahead" | "view_too_large", .. } | Effect::Stopped { .. } => {}
                // A heartbeat that came twice, or after a later one, or from a run before; and what follows a restart.
                Effect::Reject { reason: "repeated" | "earlier_run" | "stale_epoch" | "outranked", .. } => {}
                Effect::Outranked(leader) => {
                    return Err(format!("a node has heard of leader {leader}, before its time"));
                }
                Effect::Reject { reason, detail, .. } => {
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

    fn say(&mut self, topic: Topic, payload: Vec<u8>) -> Result<(), String> {
        match &topic {
            Topic::Ack(node) => {
                let ack = codec::decode::<Ack>(&payload).map_err(|e| e.to_string())?;
                self.ledger.acked(node, &ack)?;
            }
            Topic::ViewSite if !self.seen.coordinator_named => {
                self.seen.coordinator_named = String::from_utf8_lossy(&payload).contains("call themselves");
            }
            _ => {}
        }
        self.publish(Client::Coordinator, topic, payload);
        Ok(())
    }

    pub(super) fn committed(&mut self, commit: &Commit, life: u64, fine: bool) -> Result<(), String> {
        if self.coordinator.life != life {
            return Ok(());
        }
        if !fine {
            return self.coordinate(Input::CommitFailed("the disk is full for a moment".into()));
        }
        self.archive(commit)?;
        self.coordinate(Input::Committed)
    }

    fn archive(&mut self, commit: &Commit) -> Result<(), String> {
        self.ledger.archived(commit, self.now_ms)?;
        self.coordinator.archive.apply(commit);
        Ok(())
    }

    pub(super) fn crash_coordinator(&mut self) -> Result<(), String> {
        self.coordinator.life += 1;
        self.coordinator.alarm_ms = NEVER_MS;
        let core = self.coordinator.alive.take().expect("only the living die");
        self.coordinator.duplicates += core.counters().events_duplicate;
        // A commit under way reached the disk whole or not at all: the store's transaction is atomic.
        let under_way = core.commit_in_flight().filter(|_| self.rng.bool());
        under_way.map_or(Ok(()), |commit| self.archive(&commit))
    }

    pub(super) fn restart_coordinator(&mut self) {
        let me = Identity {
            site: site(),
            pid: 1,
            boot: Boot(self.coordinator.life + 1),
            name: NodeId::new("main").expect("a name"),
        };
        let (now, recovered) = (self.now(self.coordinator.clock_ms), self.coordinator.archive.recover());
        assert_eq!(recovered.problems, Vec::<String>::new(), "the archive agrees with itself");
        let mut core = Coordinator::new(me, Rules::default(), recovered, now);
        // It has no link yet, so nothing is said.
        core.step(now, Input::Lead { epoch: self.coordinator.life as u32 + 1, until_ms: u64::MAX }, &mut Vec::new());
        self.coordinator.alive = Some(core);
    }
}
