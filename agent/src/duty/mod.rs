//! What this node watches beside its own station: leases, who else is there, and when to stand in without being told. Pure.
//!
//! Its own station a node always watches, with a lease or without. Another one it covers by a lease; where the coordinator
//! is gone, by the ranks that it was told beforehand, provisionally, until somebody who knows better says otherwise. A lease
//! is owned until its time on this node's own clock; after that it goes on watching and acts no more. Nothing here opens a
//! camera or moves a platform: that is done by whoever performs an [`Order`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use picket_shared::backoff::others_return_ms;
use picket_shared::clock::Now;
use picket_shared::duty::{Duty, Epoch, Heartbeat, Holding, Lease, Leases, Sight, Standby, StandbyDuty};
use picket_shared::ids::{Boot, NodeId, StationId};
use picket_shared::limits::{
    HEARTBEAT_MS, HOLDINGS_MAX, LEASE_MARGIN_MS, LEASE_TTL_MS, NEIGHBOURS_MAX, NODES_MAX, STANDBY_DUTIES_MAX,
};
use picket_shared::status::{Health, UpDown};

mod alone;
mod hold;
mod memory;
mod peer;
#[cfg(test)]
mod tests;

use hold::{Cover, Hold};
pub use memory::Memory;
use peer::Peer;

/// The coordinator answers each heartbeat; without an answer for so long it is gone.
pub const COORDINATOR_GONE_MS: u64 = LEASE_TTL_MS;
/// The second in line gives the first so much time to be heard, the third twice as much.
pub const RANK_STEP_MS: u64 = 3_000;
/// A home that came back is heard for so long before a provisional cover ends.
pub const HOME_STEADY_MS: u64 = 5_000;
/// A heart that beats later than this did not do so by chance: the process was stopped, or the machine slept.
const STOOD_STILL_MS: u64 = 2 * HEARTBEAT_MS;
/// Heartbeats on their way: what is answered later than this many beats is of no use, the lease has ended.
const UNANSWERED_MAX: usize = 8;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// Hear these nodes, and no others: their health, heartbeats and duties.
    Listen(BTreeSet<NodeId>),
    /// All that this node may have to cover and knows enough of. Say which of it could be, by [`Duties::facts`].
    Prepare(Vec<Assignment>),
    /// Watch this station too.
    Cover(Box<Assignment>),
    /// Watch it no more.
    Uncover(StationId),
    /// The platform may go there, under this epoch.
    Go(Box<StandbyDuty>, Epoch),
    /// The platform may not stay there.
    Leave(StationId, Epoch),
    /// Keep this over a restart, for [`Duties::recall`].
    Remember(Box<Memory>),
}

/// Everything that it takes to watch another's station.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// How it is covered.
    pub standby: StandbyDuty,
    /// What its own node says of it.
    pub duty: Duty,
}

/// Why a message was refused: a constant word, and a sentence.
pub type Refusal = (&'static str, String);

/// What a node holds and stands by for.
pub struct Duties {
    me: NodeId,
    station: StationId,
    boot: Boot,
    number: u64,
    /// Heartbeats that were sent: their numbers and when, the newest last.
    sent: VecDeque<(u64, u64)>,
    leader: u32,
    answered: (u64, u32),
    answered_ms: u64,
    /// The last message of any kind.
    heard_ms: u64,
    /// When it was last looked whether time changed anything.
    moved_ms: u64,
    /// The broker said that the coordinator is gone, and it has not answered since.
    coordinator_left_ms: Option<u64>,
    /// Since when there has been a connection.
    online_ms: Option<u64>,
    /// Since when there has been none, where there is none; otherwise of the last time.
    offline_ms: u64,
    own: Hold,
    covers: BTreeMap<StationId, Cover>,
    standby: BTreeMap<StationId, StandbyDuty>,
    peers: BTreeMap<NodeId, Peer>,
    ready: BTreeSet<StationId>,
    capacity_fps: u16,
    /// Since when a station that it is in line for seems to be watched by nobody.
    deserted_ms: BTreeMap<StationId, u64>,
    /// The highest epoch seen of each station: a site has at most [`NODES_MAX`].
    epochs: BTreeMap<StationId, Epoch>,
}

impl Duties {
    /// A node that watches its own station and knows of no other.
    pub fn new(now: Now, me: NodeId, station: StationId, boot: Boot) -> Duties {
        Duties {
            me,
            station,
            boot,
            number: 0,
            sent: VecDeque::new(),
            leader: 0,
            answered: (0, 0),
            answered_ms: now.mono_ms,
            heard_ms: now.mono_ms,
            moved_ms: now.mono_ms,
            coordinator_left_ms: None,
            online_ms: None,
            offline_ms: now.mono_ms,
            own: Hold::new(Epoch::NONE, Sight::Starting),
            covers: BTreeMap::new(),
            standby: BTreeMap::new(),
            peers: BTreeMap::new(),
            ready: BTreeSet::new(),
            capacity_fps: 0,
            deserted_ms: BTreeMap::new(),
            epochs: BTreeMap::new(),
        }
    }

    /// The epoch of the last lease of its own station.
    pub fn own_epoch(&self) -> Epoch {
        self.own.epoch
    }

    /// The epoch under which this station is watched here.
    pub fn epoch(&self, station: &StationId) -> Epoch {
        self.covers.get(station).map_or(self.own.epoch, |cover| cover.hold.epoch)
    }

    /// There is a connection, or none any more.
    pub fn online(&mut self, now: Now, online: bool) {
        match (online, self.online_ms) {
            (true, None) => {
                self.online_ms = Some(now.mono_ms);
                let away_ms = now.mono_ms.saturating_sub(self.offline_ms);
                self.listen_anew(now.mono_ms, others_return_ms(away_ms));
            }
            (false, Some(_)) => {
                (self.online_ms, self.offline_ms) = (None, now.mono_ms);
                self.listen_anew(now.mono_ms, 0);
            }
            (true, Some(_)) => self.listen_anew(now.mono_ms, 0),
            // An attempt failed. Neighbours that are heard without a connection stay as they are.
            (false, None) => {}
        }
    }

    /// What the shell sees of each station that is watched, what the device could do beside its own, and which stations it
    /// could cover.
    pub fn facts(&mut self, sights: &BTreeMap<StationId, Sight>, capacity_fps: u16, ready: &BTreeSet<StationId>) {
        self.capacity_fps = capacity_fps;
        self.ready = ready.iter().filter(|station| self.standby.contains_key(station)).cloned().collect();
        self.own.sight = sights.get(&self.station).copied().unwrap_or(self.own.sight);
        for (station, cover) in &mut self.covers {
            // What was never begun has no cameras that anybody could see.
            cover.hold.sight = sights.get(station).copied().unwrap_or(cover.hold.sight);
        }
    }

    /// The heartbeat that is due now.
    pub fn heartbeat(&mut self, now: Now) -> Heartbeat {
        self.number += 1;
        if self.sent.len() == UNANSWERED_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((self.number, now.mono_ms));
        let held = |station: &StationId, hold: &Hold| Holding {
            station: station.clone(),
            epoch: hold.epoch,
            provisional: !hold.is_leased(now.mono_ms),
            sight: hold.sight,
        };
        let own = [held(&self.station, &self.own)];
        let holdings = own.into_iter().chain(self.covers.iter().map(|(station, cover)| held(station, &cover.hold)));
        let silent = |(node, peer): (&NodeId, &Peer)| peer.is_gone(now.mono_ms).then(|| node.clone());
        Heartbeat {
            boot: self.boot,
            number: self.number,
            leader: self.leader,
            capacity_fps: self.capacity_fps,
            holdings: holdings.take(HOLDINGS_MAX).collect(),
            ready: self.ready.iter().cloned().collect(),
            unheard: self.peers.iter().filter(|_| self.online_ms.is_some()).filter_map(silent).collect(),
        }
    }

    /// The coordinator's answer to a heartbeat.
    pub fn leases(&mut self, now: Now, leases: Leases, out: &mut Vec<Order>) -> Result<(), Refusal> {
        let Leases { node, leader, boot, number, turn, leases } = leases;
        if node != self.me {
            return Err(("lease_not_ours", format!("leases of {node}")));
        }
        if boot != self.boot {
            return Err(("lease_of_another_run", format!("leases of boot {boot}, and this is {}", self.boot)));
        }
        if leader < self.leader {
            return Err(("lease_of_an_old_leader", format!("leader {leader}, and there has been {}", self.leader)));
        }
        if number > self.number {
            return Err(("lease_from_the_future", format!("an answer to heartbeat {number} of {}", self.number)));
        }
        if leader == self.leader && (number, turn) <= self.answered && self.answered.0 > 0 {
            // It came twice, or was overtaken.
            return Ok(());
        }
        let Some((_, sent_ms)) = self.sent.iter().find(|(sent, _)| *sent == number).copied() else {
            return Err(("lease_too_late", format!("an answer to heartbeat {number} at {}", self.number)));
        };
        self.leader = leader;
        self.answered = (number, turn);
        (self.answered_ms, self.coordinator_left_ms) = (now.mono_ms, None);
        let until_ms = sent_ms + LEASE_TTL_MS - LEASE_MARGIN_MS;
        let mut refused = Ok(());
        let mut held = BTreeSet::new();
        for lease in leases {
            held.insert(lease.station.clone());
            if let Err(refusal) = self.lease(now, lease, until_ms, out) {
                refused = Err(refusal);
            }
        }
        if !held.contains(&self.station) {
            self.own.until_ms = 0;
        }
        // What this leader granted, it can take at once; what it has not heard of, it says nothing of.
        let known = |cover: &Cover| cover.claimed_in <= number || cover.hold.was_leased_by(leader);
        let gone =
            |(station, cover): (&StationId, &Cover)| (!held.contains(station) && known(cover)).then(|| station.clone());
        let gone: Vec<StationId> = self.covers.iter().filter_map(gone).collect();
        gone.iter().for_each(|station| self.uncover(station, out));
        self.move_on(now, out);
        refused
    }

    fn lease(&mut self, now: Now, lease: Lease, until_ms: u64, out: &mut Vec<Order>) -> Result<(), Refusal> {
        let Lease { station, epoch, act_after_ms } = lease;
        if self.epochs.len() >= NODES_MAX && !self.epochs.contains_key(&station) {
            return Err(("lease_of_too_many", format!("{station} is one station more than {NODES_MAX}")));
        }
        let known = self.epochs.entry(station.clone()).or_insert(epoch);
        if epoch < *known {
            return Err(("lease_of_an_old_epoch", format!("{station} by {epoch}, and there has been {known}")));
        }
        *known = epoch;
        let act_from_ms = now.mono_ms + u64::from(act_after_ms);
        let hold = if station == self.station {
            &mut self.own
        } else {
            if !self.covers.contains_key(&station) {
                self.cover(&station, self.number + 1, out);
            }
            &mut self.covers.get_mut(&station).expect("just covered").hold
        };
        // What was done under an earlier grant is done.
        if hold.epoch != epoch && std::mem::take(&mut hold.acting) {
            out.push(Order::Leave(station.clone(), hold.epoch));
        }
        (hold.epoch, hold.act_from_ms) = (epoch, act_from_ms);
        hold.until_ms = until_ms;
        Ok(())
    }

    /// What this node may have to cover.
    pub fn standby(&mut self, now: Now, standby: Standby, out: &mut Vec<Order>) -> Result<(), Refusal> {
        if standby.leader < self.leader {
            return Err((
                "standby_of_an_old_leader",
                format!("leader {}, and there has been {}", standby.leader, self.leader),
            ));
        }
        if standby.leader > self.leader {
            // A new leader counts its answers anew.
            self.answered = (0, 0);
        }
        self.leader = standby.leader;
        let duties = standby.duties.into_iter().filter(|duty| duty.station != self.station && duty.home != self.me);
        let duties = duties.take(STANDBY_DUTIES_MAX).map(|duty| (duty.station.clone(), duty));
        let before = std::mem::replace(&mut self.standby, duties.collect());
        if self.standby == before {
            return Ok(());
        }
        // Who else is in line changes nothing of what it takes.
        let takes = |duty: &StandbyDuty| (duty.home.clone(), duty.how, duty.cameras.clone());
        let known = |of: &BTreeMap<StationId, StandbyDuty>, station: &StationId| of.get(station).map(takes);
        let same = |station: &StationId| known(&self.standby, station) == known(&before, station);
        let prepared = self.standby.len() == before.len() && self.standby.keys().all(same);
        self.ready.retain(same);
        self.deserted_ms.retain(|station, _| self.standby.contains_key(station));
        let heard: BTreeSet<NodeId> = self
            .standby
            .values()
            .flat_map(|duty| std::iter::once(&duty.home).chain(&duty.ranks))
            .filter(|node| **node != self.me)
            .take(NEIGHBOURS_MAX)
            .cloned()
            .collect();
        if !heard.iter().eq(self.peers.keys()) {
            self.peers.retain(|node, _| heard.contains(node));
            for node in &heard {
                self.peers.entry(node.clone()).or_insert_with(|| Peer::new(now.mono_ms));
            }
            out.push(Order::Listen(heard));
        }
        if !prepared {
            self.prepare(out);
        }
        self.remember(out);
        Ok(())
    }

    /// Another node's heartbeat.
    pub fn peer_heartbeat(&mut self, now: Now, node: &NodeId, beat: Heartbeat) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.heartbeat(now.mono_ms, beat);
        }
    }

    /// Another node's heartbeat, as it said it without a broker between.
    pub fn neighbour_heartbeat(&mut self, now: Now, node: &NodeId, beat: Heartbeat) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.is_neighbour = true;
            peer.heartbeat(now.mono_ms, beat);
        }
    }

    /// Another node's health, or its will.
    pub fn peer_health(&mut self, now: Now, node: &NodeId, health: &Health) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.health(now.mono_ms, health);
        }
    }

    /// What another node says of its station.
    pub fn peer_duty(&mut self, node: &NodeId, duty: Duty, out: &mut Vec<Order>) {
        let station = duty.station.clone();
        if self.standby.get(&station).is_none_or(|standby| standby.home != *node) {
            return;
        }
        let Some(peer) = self.peers.get_mut(node) else { return };
        if peer.duty.as_ref() != Some(&duty) {
            peer.duty = Some(duty);
            self.ready.remove(&station);
            self.prepare(out);
            if self.covers.get(&station).is_some_and(|cover| !cover.begun) {
                self.begin(&station, out);
            }
            self.remember(out);
        }
    }

    /// The coordinator's health, or its will.
    pub fn coordinator_health(&mut self, now: Now, health: &Health) {
        self.coordinator_left_ms = match health.status {
            UpDown::Up => None,
            UpDown::Down => self.coordinator_left_ms.or(Some(now.mono_ms)),
        };
    }

    /// Time has passed: leases end, and where the coordinator is gone, this node may have to stand in.
    pub fn move_on(&mut self, now: Now, out: &mut Vec<Order>) {
        let now_ms = now.mono_ms;
        if now_ms.saturating_sub(self.moved_ms) > STOOD_STILL_MS {
            self.listen_anew(now_ms, 0);
        }
        self.moved_ms = now_ms;
        for (station, cover) in &mut self.covers {
            let may = cover.hold.may_act(now_ms);
            match (&cover.standby, cover.hold.acting) {
                (Some(standby), false) if may && standby.how.moves() => {
                    cover.hold.acting = true;
                    out.push(Order::Go(Box::new(standby.clone()), cover.hold.epoch));
                }
                (_, true) if !may => {
                    cover.hold.acting = false;
                    out.push(Order::Leave(station.clone(), cover.hold.epoch));
                }
                _ => {}
            }
        }
        if !self.coordinator_is_gone(now_ms) {
            self.deserted_ms.clear();
            return;
        }
        self.stand_in(now_ms, out);
        self.stand_down(now_ms, out);
    }

    /// When [`Duties::move_on`] is due at the latest, beside the heartbeat.
    pub fn next_wakeup_ms(&self, now_ms: u64) -> Option<u64> {
        let holds = self.covers.values().flat_map(|cover| [cover.hold.until_ms, cover.hold.act_from_ms]);
        holds.filter(|at_ms| *at_ms > now_ms).min()
    }

    fn cover(&mut self, station: &StationId, claimed_in: u64, out: &mut Vec<Order>) {
        let epoch = self.epochs.get(station).copied().unwrap_or(Epoch::NONE);
        // Blind until it has begun: what cannot be begun must not look as if it were watched.
        let hold = Hold::new(epoch, Sight::Blind);
        let standby = self.standby.get(station).cloned();
        self.covers.insert(station.clone(), Cover { hold, standby, claimed_in, begun: false });
        self.begin(station, out);
    }

    fn begin(&mut self, station: &StationId, out: &mut Vec<Order>) {
        let assignment = self.assignment(station);
        let cover = self.covers.get_mut(station).expect("only what is covered is begun");
        if let Some(assignment) = assignment {
            cover.begun = true;
            cover.hold.sight = Sight::Starting;
            out.push(Order::Cover(Box::new(assignment)));
        }
    }

    fn prepare(&self, out: &mut Vec<Order>) {
        out.push(Order::Prepare(self.standby.keys().filter_map(|station| self.assignment(station)).collect()));
    }

    fn assignment(&self, station: &StationId) -> Option<Assignment> {
        let standby = self.standby.get(station)?.clone();
        let duty = self.peers.get(&standby.home)?.duty.clone()?;
        Some(Assignment { standby, duty })
    }

    fn uncover(&mut self, station: &StationId, out: &mut Vec<Order>) {
        let Some(cover) = self.covers.remove(station) else { return };
        if cover.hold.acting {
            out.push(Order::Leave(station.clone(), cover.hold.epoch));
        }
        if cover.begun {
            out.push(Order::Uncover(station.clone()));
        }
    }
}
