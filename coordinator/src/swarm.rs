//! The nodes of a site: what they say of themselves, whether they live, and, where this coordinator leads, who watches what.
//! Pure.
//!
//! It joins the evidence (`liveness`, `lossy`) with the decisions (`line`), and keeps what people are shown of both. It
//! takes nothing on trust: what is garbage, too large or from one node too many is refused with a reason.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, VecDeque};

use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::duty::{Duty, Heartbeat, How};
use picket_shared::ids::{NodeId, StationId};
use picket_shared::limits::{CAMERA_LINES_MAX, EVENT_ZONES_MAX, NODES_MAX, RECENT_CHANGES_MAX, SOURCES_MAX};
use picket_shared::status::{self, CameraStats, Health, Stats, Twin, UpDown};
use picket_shared::view::{Change, ChangeKind, Liveness, StationView};

use crate::line::{Line, Standing, Word};
use crate::liveness::Witness;
use crate::lossy::Quality;
use crate::plan;
use crate::view::NodeState;

/// A constant word for a counter, and the detail.
pub type Refusal = (&'static str, String);

/// A node, its station where it has said it, and whether it is not down.
pub type Presence<'a> = (&'a NodeId, Option<&'a StationId>, bool);

/// The site plan and what is assumed without one.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The stations of the plan.
    pub stations: Vec<plan::Station>,
    /// Where the plan names nobody for a station, anybody can cover it in this way.
    pub anyone: Option<How>,
}

/// All nodes ever heard of.
pub struct Swarm {
    rules: Rules,
    nodes: BTreeMap<NodeId, NodeState>,
    quality: Quality,
    /// Here while this coordinator leads.
    line: Option<Line>,
    /// The highest leader that a node has heard of, where that is not this one.
    outranked_by: Option<u32>,
    changes: VecDeque<Change>,
    /// When a node's liveness may change next: until then, and where nothing is heard, none needs to be looked at.
    due_ms: u64,
}

impl Swarm {
    /// A swarm of which only these names are known.
    pub fn new<'a>(now: Now, rules: Rules, known: impl Iterator<Item = &'a NodeId>) -> Swarm {
        let nodes = known.map(|id| (id.clone(), NodeState::unheard(now))).collect();
        Swarm {
            rules,
            nodes,
            quality: Quality::default(),
            line: None,
            outranked_by: None,
            changes: VecDeque::new(),
            due_ms: 0,
        }
    }

    /// Every node, by name.
    pub fn nodes(&self) -> &BTreeMap<NodeId, NodeState> {
        &self.nodes
    }

    /// Every node, its station where it has said it, and whether it is not down.
    pub fn presences(&self) -> impl Iterator<Item = Presence<'_>> {
        self.nodes.iter().map(|(id, node)| {
            let station = node.twin.as_ref().map(|twin| &twin.station);
            (id, station, node.pulse.liveness != Liveness::Down)
        })
    }

    /// Begins to decide who watches what, under this epoch.
    pub fn lead(&mut self, now: Now, leader: u32, out: &mut Vec<Word>) {
        let mut line = Line::new(now, leader, &self.rules.stations, self.rules.anyone);
        for (node, state) in &self.nodes {
            state.twin.iter().for_each(|twin| line.belongs(now, &twin.station, node));
            state.duty.iter().for_each(|duty| line.duty(node, duty));
        }
        self.line = Some(line);
        let why = "took the lead".to_owned();
        let (time, change) = (now.unix_ms as f64 / 1000.0, ChangeKind::Leader);
        let change = Change { time, change, node: None, station: None, epoch: u64::from(leader), why };
        self.changed(change, out);
    }

    /// Decides nothing any more.
    pub fn follow(&mut self) {
        self.line = None;
    }

    /// A node's health, its will, or a retained copy of either.
    pub fn health(&mut self, now: Now, id: NodeId, payload: &[u8]) -> Result<(), Refusal> {
        let health: Health = status::read(payload)?;
        let node = self.node(now, id)?;
        node.pulse.health(now, &health);
        if health.status == UpDown::Up {
            node.namesake.heard(now, health.boot);
        }
        node.problems = health.problems;
        let due_ms = node.due_ms(now);
        self.due_ms = self.due_ms.min(due_ms);
        Ok(())
    }

    /// What a node is.
    pub fn twin(&mut self, now: Now, id: NodeId, payload: &[u8]) -> Result<(), Refusal> {
        let twin: Twin = status::read(payload)?;
        if let Some(line) = &mut self.line {
            line.belongs(now, &twin.station, &id);
        }
        self.node(now, id)?.twin = Some(twin);
        Ok(())
    }

    /// What a node says of its station.
    pub fn duty(&mut self, now: Now, id: NodeId, payload: &[u8]) -> Result<(), Refusal> {
        let duty: Duty = codec::decode(payload).map_err(|error| (error.word(), format!("{error}, from {id}")))?;
        if let Some(line) = &mut self.line {
            line.duty(&id, &duty);
        }
        self.node(now, id)?.duty = Some(duty);
        Ok(())
    }

    /// How a node does.
    pub fn stats(&mut self, now: Now, id: NodeId, payload: &[u8]) -> Result<(), Refusal> {
        let stats: Stats = status::read(payload)?;
        check_stats(&id, &stats)?;
        let node = self.node(now, id)?;
        node.pulse.heartbeat(now, stats.boot);
        node.namesake.heard(now, stats.boot);
        node.stats = Some(stats);
        let due_ms = node.due_ms(now);
        self.due_ms = self.due_ms.min(due_ms);
        Ok(())
    }

    /// A node is there, and asks for its leases. What it holds is in the answer, which follows what this changed.
    pub fn heartbeat(&mut self, now: Now, id: NodeId, payload: &[u8], out: &mut Vec<Word>) -> Result<(), Refusal> {
        let beat: Heartbeat = codec::decode(payload).map_err(|error| (error.word(), format!("{error}, from {id}")))?;
        let (boot, known) = (beat.boot, beat.leader);
        self.node(now, id.clone())?.namesake.heard(now, boot);
        let Some(line) = &mut self.line else {
            let node = self.node(now, id)?;
            node.pulse.heartbeat(now, boot);
            let due_ms = node.due_ms(now);
            self.due_ms = self.due_ms.min(due_ms);
            return Ok(());
        };
        if known > line.leader() {
            self.outranked_by = self.outranked_by.max(Some(known));
            return Err(("outranked", format!("{id} has heard of leader {known}, and this one is {}", line.leader())));
        }
        let taken = match line.heartbeat(now, &id, beat) {
            Ok(quality) => {
                quality.into_iter().for_each(|(steps, gap_ms)| self.quality.heartbeat(now.mono_ms, steps, gap_ms));
                Ok(())
            }
            // A claim that is refused is a sign of life all the same, and the answer puts it right.
            Err(refusal @ ("stale_epoch" | "future_epoch", _)) => {
                // Somebody else grants under this leader's epoch: only a higher one can be told from that.
                let taken = (refusal.0 == "future_epoch").then(|| line.leader());
                self.outranked_by = self.outranked_by.max(taken);
                Err(refusal)
            }
            Err(refusal) => return Err(refusal),
        };
        if let Some(node) = self.nodes.get_mut(&id) {
            node.pulse.heartbeat(now, boot);
            self.due_ms = self.due_ms.min(node.due_ms(now));
        }
        self.decide(now, out);
        let answer = self.line.as_mut().and_then(|line| line.answer(now, &id));
        out.extend(answer.map(Word::Leases));
        taken
    }

    /// Time has passed, or something was heard. True where what people are shown has changed.
    pub fn tick(&mut self, now: Now, out: &mut Vec<Word>) -> bool {
        let before = out.len();
        if now.mono_ms < self.due_ms {
            self.decide(now, out);
            return out.len() > before;
        }
        let lossy = self.quality.is_lossy();
        let mut changes = Vec::new();
        for (id, node) in &mut self.nodes {
            let unheard_by = || self.line.as_ref().map_or(0, |line| line.unheard_by(id));
            // Counting is for those of whom nothing is heard, and those are few.
            let unheard_by = if node.pulse.is_silent(now) { unheard_by() } else { 0 };
            node.pulse.tick(now, Witness { lossy, unheard_by });
            if node.shown.replace(node.pulse.liveness) != Some(node.pulse.liveness) {
                let change = match node.pulse.liveness {
                    Liveness::Up => ChangeKind::Up,
                    Liveness::Suspect => ChangeKind::Suspect,
                    Liveness::Down => ChangeKind::Down,
                };
                let (time, why) = (now.unix_ms as f64 / 1000.0, node.pulse.why.clone());
                changes.push(Change { time, change, node: Some(id.clone()), station: None, epoch: 0, why });
            }
        }
        self.due_ms = self.nodes.values().map(|node| node.due_ms(now)).min().unwrap_or(u64::MAX);
        let stirred = !changes.is_empty();
        if let Some(line) = self.line.as_mut().filter(|_| stirred) {
            line.stir();
        }
        changes.into_iter().for_each(|change| self.changed(change, out));
        self.decide(now, out);
        stirred || out.len() > before
    }

    /// When time alone would change something next, on the monotonic clock.
    pub fn next_wakeup(&self) -> Option<u64> {
        let pulses = Some(self.due_ms).filter(|_| !self.nodes.is_empty());
        pulses.into_iter().chain(self.line.as_ref().and_then(Line::next_wakeup)).min()
    }

    /// For `deaf_ms` nothing could be heard, and the nodes may need `return_ms` to connect again.
    pub fn excuse(&mut self, now: Now, deaf_ms: u64, return_ms: u64) {
        self.nodes.values_mut().for_each(|node| node.pulse.excuse(now, deaf_ms, return_ms));
        if let Some(line) = &mut self.line {
            line.excuse(now, deaf_ms);
        }
    }

    /// A connection was made: what was said before may be lost.
    pub fn say_again(&mut self) {
        if let Some(line) = &mut self.line {
            line.say_again();
        }
    }

    /// Every station, by name; nothing where this coordinator does not lead.
    pub fn stations(&self) -> Vec<StationView> {
        self.line.as_ref().map(Line::view).unwrap_or_default()
    }

    /// The leader's epoch; 0 where this coordinator does not lead.
    pub fn leader(&self) -> u32 {
        self.line.as_ref().map_or(0, Line::leader)
    }

    /// Takes the highest leader that a node has heard of since the last time, where that is not this one.
    pub fn outranked_by(&mut self) -> Option<u32> {
        self.outranked_by.take()
    }

    /// The newest changes, newest first.
    pub fn changes(&self) -> Vec<Change> {
        self.changes.iter().cloned().collect()
    }

    /// What is wrong with the line, in a sentence each.
    pub fn problems(&self) -> Vec<String> {
        self.line.as_ref().map(Line::problems).unwrap_or_default()
    }

    /// The node's state, new where it was never heard of and there is room.
    pub fn node(&mut self, now: Now, id: NodeId) -> Result<&mut NodeState, Refusal> {
        let full = self.nodes.len() >= NODES_MAX;
        match self.nodes.entry(id) {
            Slot::Occupied(known) => Ok(known.into_mut()),
            Slot::Vacant(slot) if full => {
                Err(("too_many_nodes", format!("{} is one node more than {NODES_MAX}", slot.key())))
            }
            Slot::Vacant(slot) => {
                self.due_ms = now.mono_ms;
                Ok(slot.insert(NodeState::unheard(now)))
            }
        }
    }

    fn decide(&mut self, now: Now, out: &mut Vec<Word>) {
        let Some(line) = &mut self.line else { return };
        let nodes = &self.nodes;
        let witnessed = |id: &NodeId| match nodes.get(id) {
            None => (Standing::Down, "was never heard of".to_owned()),
            Some(node) => (standing(now, node), format!("is {}: {}", word(node.pulse.liveness), node.pulse.why)),
        };
        let mut words = Vec::new();
        line.decide(now, &witnessed, &mut words);
        for word in words {
            match word {
                Word::Change(change) => self.changed(change, out),
                other => out.push(other),
            }
        }
    }

    fn changed(&mut self, change: Change, out: &mut Vec<Word>) {
        self.changes.truncate(RECENT_CHANGES_MAX - 1);
        self.changes.push_front(change.clone());
        out.push(Word::Change(change));
    }
}

fn standing(now: Now, node: &NodeState) -> Standing {
    match node.pulse.liveness {
        Liveness::Down => Standing::Down,
        Liveness::Suspect => Standing::Suspect,
        Liveness::Up if node.pulse.is_steady(now) => Standing::Steady,
        Liveness::Up => Standing::Unsteady,
    }
}

fn word(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Up => "up",
        Liveness::Suspect => "suspect",
        Liveness::Down => "down",
    }
}

fn check_stats(id: &NodeId, stats: &Stats) -> Result<(), Refusal> {
    if stats.cameras.len() > SOURCES_MAX {
        return Err(("refused", format!("{} cameras in the statistics of {id}", stats.cameras.len())));
    }
    if stats.cameras.iter().any(|camera| !camera.fps.is_finite() || !camera.inference_ms.is_finite()) {
        return Err(("refused", format!("a number out of range in the statistics of {id}")));
    }
    let full = |camera: &CameraStats| camera.zones.len() > EVENT_ZONES_MAX || camera.lines.len() > CAMERA_LINES_MAX;
    if stats.cameras.iter().any(full) {
        return Err(("refused", format!("more zones or lines than a camera may have in the statistics of {id}")));
    }
    Ok(())
}
