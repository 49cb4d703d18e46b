//! Where the coordinator is gone: who stands in for whom by the ranks that were told beforehand, and when that ends. Pure.

use picket_shared::clock::Now;
use picket_shared::ids::{NodeId, StationId};
use picket_shared::limits::{HEARTBEAT_MS, HOLDINGS_MAX, LINK_NOTICED_MS};

use super::hold::Cover;
use super::peer::Peer;
use super::{COORDINATOR_GONE_MS, Duties, HOME_STEADY_MS, Order, RANK_STEP_MS, peer};

/// Nobody at all was heard for so long: that may be this node's own link.
const NOBODY_MS: u64 = 3 * HEARTBEAT_MS;
/// For longer than that, and the link still stands: it is not the link.
const NOBODY_SURE_MS: u64 = LINK_NOTICED_MS + HEARTBEAT_MS;

impl Duties {
    /// A message of any kind came, so the link brings some.
    pub fn heard(&mut self, now: Now) {
        if self.may_be_deaf(now.mono_ms) {
            self.listen_anew(now.mono_ms, 0);
        }
        self.heard_ms = now.mono_ms;
    }

    /// What could not be heard until now is nobody's silence, and the others may need `return_ms` to connect again.
    pub(super) fn listen_anew(&mut self, now_ms: u64, return_ms: u64) {
        self.peers.values_mut().for_each(|peer| peer.listen_anew(now_ms + return_ms));
        self.answered_ms = self.answered_ms.max(now_ms + return_ms);
        self.heard_ms = now_ms;
    }

    fn may_be_deaf(&self, now_ms: u64) -> bool {
        let silent_ms = now_ms.saturating_sub(self.heard_ms);
        self.online_ms.is_some() && (NOBODY_MS..NOBODY_SURE_MS).contains(&silent_ms)
    }

    pub(super) fn coordinator_is_gone(&self, now_ms: u64) -> bool {
        let left = self.coordinator_left_ms.is_some_and(|left_ms| now_ms - left_ms >= peer::WILL_GRACE_MS);
        self.can_hear(now_ms) && (left || now_ms.saturating_sub(self.answered_ms) >= COORDINATOR_GONE_MS)
    }

    /// Whether silence means anything: there is a connection, or neighbours are heard without one. Of several neighbours one
    /// must be left, because where all fall silent at once it is this node that is cut off. Of only one nobody can tell, and
    /// two who watch are better than none.
    fn can_hear(&self, now_ms: u64) -> bool {
        let mut neighbours = self.peers.values().filter(|peer| peer.is_neighbour);
        let only = neighbours.clone().count() == 1;
        self.online_ms.is_some() || only || neighbours.any(|peer| peer.is_heard(now_ms))
    }

    /// Covers what nobody watches, the first in line first.
    pub(super) fn stand_in(&mut self, now_ms: u64, out: &mut Vec<Order>) {
        if self.may_be_deaf(now_ms) {
            return;
        }
        let stations: Vec<StationId> = self.standby.keys().cloned().collect();
        for station in stations {
            if self.covers.contains_key(&station) || !self.ready.contains(&station) {
                continue;
            }
            let duty = &self.standby[&station];
            let home = self.peers.get(&duty.home);
            // Without a connection only those can be missed who are heard without one.
            let missed = |home: &Peer| self.online_ms.is_some() || home.is_neighbour;
            let gone = home.is_some_and(missed) && self.is_missed(&duty.home, now_ms);
            let watched = self.peers.values().any(|peer| peer.watches(&station, now_ms));
            let Some(rank) = duty.ranks.iter().position(|node| *node == self.me).filter(|_| gone && !watched) else {
                self.deserted_ms.remove(&station);
                continue;
            };
            let since_ms = *self.deserted_ms.entry(station.clone()).or_insert(now_ms);
            let need_fps = home.and_then(|home| home.duty.as_ref()).map_or(1, |duty| duty.need_fps);
            let room = self.spare_fps() >= need_fps && self.covers.len() + 1 < HOLDINGS_MAX;
            if room && now_ms - since_ms >= rank as u64 * RANK_STEP_MS {
                self.deserted_ms.remove(&station);
                self.cover(&station, self.number + 1, out);
            }
        }
    }

    /// Whether a node is gone, by two kinds of evidence: a few heartbeats may be lost, and then the answers to ours are too.
    fn is_missed(&self, node: &NodeId, now_ms: u64) -> bool {
        let others = || self.peers.values().any(|other| other.misses(node, now_ms));
        self.peers.get(node).is_some_and(|peer| peer.is_surely_gone(now_ms) || peer.is_gone(now_ms) && others())
    }

    /// Ends what is covered without a lease where its own node is back, or somebody with a better right has it.
    pub(super) fn stand_down(&mut self, now_ms: u64, out: &mut Vec<Order>) {
        let over = |(station, cover): (&StationId, &Cover)| {
            if cover.hold.is_leased(now_ms) {
                return None;
            }
            let duty = self.standby.get(station)?;
            let back = self.peers.get(&duty.home).is_some_and(|home| home.is_back(station, now_ms, HOME_STEADY_MS));
            let rank = |node: &NodeId| duty.ranks.iter().position(|ranked| ranked == node).unwrap_or(usize::MAX);
            let mine = rank(&self.me);
            let better = self.peers.iter().any(|(node, peer)| {
                *node != duty.home
                    && peer.holding(station, now_ms).is_some_and(|held| !held.provisional || rank(node) < mine)
            });
            (back || better).then(|| station.clone())
        };
        let over: Vec<StationId> = self.covers.iter().filter_map(over).collect();
        over.iter().for_each(|station| self.uncover(station, out));
    }

    fn spare_fps(&self) -> u16 {
        let need = |station: &StationId| {
            let home = self.standby.get(station).and_then(|duty| self.peers.get(&duty.home));
            home.and_then(|home| home.duty.as_ref()).map_or(1, |duty| duty.need_fps)
        };
        self.covers.keys().fold(self.capacity_fps, |spare, station| spare.saturating_sub(need(station)))
    }
}
