//! Another node, as heard from here: a hint, never a proof. Pure.

use picket_shared::duty::{Duty, Heartbeat, Holding, Sight};
use picket_shared::ids::{NodeId, StationId};
use picket_shared::limits::HEARTBEAT_MS;
use picket_shared::status::{Health, UpDown};

/// Who was cut off and comes back within this was never gone.
pub(super) const WILL_GRACE_MS: u64 = 500;
/// Silent for so long, it is gone.
const SILENT_MS: u64 = 6 * HEARTBEAT_MS;
/// Silent for so long, it is gone for certain, though messages get lost: one in five would be so, once in ten million.
const SILENT_SURE_MS: u64 = 10 * HEARTBEAT_MS;

/// What was heard.
#[derive(Debug)]
pub(super) struct Peer {
    /// The last sign of life, or when listening began; in the future where it has time to come back.
    heard_ms: u64,
    /// Since when its heartbeats come without a break.
    steady_since_ms: Option<u64>,
    /// The broker, or it itself, said that it is gone, and nothing was heard since.
    left_ms: Option<u64>,
    holdings: Vec<Holding>,
    /// It was heard without a broker, so it can be missed without one.
    pub(super) is_neighbour: bool,
    /// Whom it should hear and does not.
    unheard: Vec<NodeId>,
    pub(super) duty: Option<Duty>,
}

impl Peer {
    pub(super) fn new(now_ms: u64) -> Peer {
        Peer {
            heard_ms: now_ms,
            steady_since_ms: None,
            left_ms: None,
            holdings: Vec::new(),
            is_neighbour: false,
            unheard: Vec::new(),
            duty: None,
        }
    }

    /// It could not be heard until then, or will not be from then on.
    pub(super) fn listen_anew(&mut self, from_ms: u64) {
        self.heard_ms = self.heard_ms.max(from_ms);
    }

    fn silent_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.heard_ms)
    }

    pub(super) fn heartbeat(&mut self, now_ms: u64, beat: Heartbeat) {
        let broken = self.left_ms.is_some() || self.silent_ms(now_ms) >= SILENT_MS / 2;
        self.steady_since_ms = self.steady_since_ms.filter(|_| !broken).or(Some(now_ms));
        (self.heard_ms, self.left_ms) = (now_ms, None);
        (self.holdings, self.unheard) = (beat.holdings, beat.unheard);
    }

    pub(super) fn health(&mut self, now_ms: u64, health: &Health) {
        match health.status {
            UpDown::Up => self.left_ms = None,
            UpDown::Down => self.left_ms = self.left_ms.or(Some(now_ms)),
        }
    }

    /// Heard just now: by the time that it counts as gone, others that fell silent with it do so no more.
    pub(super) fn is_heard(&self, now_ms: u64) -> bool {
        self.silent_ms(now_ms) < SILENT_MS / 2
    }

    pub(super) fn is_gone(&self, now_ms: u64) -> bool {
        self.has_left(now_ms) || self.silent_ms(now_ms) >= SILENT_MS
    }

    /// Whether it is gone by more than a silence that may be chance.
    pub(super) fn is_surely_gone(&self, now_ms: u64) -> bool {
        self.has_left(now_ms) || self.silent_ms(now_ms) >= SILENT_SURE_MS
    }

    /// Whether it is there, and hears nothing of that one.
    pub(super) fn misses(&self, node: &NodeId, now_ms: u64) -> bool {
        !self.is_gone(now_ms) && self.unheard.contains(node)
    }

    fn has_left(&self, now_ms: u64) -> bool {
        self.left_ms.is_some_and(|left_ms| now_ms - left_ms >= WILL_GRACE_MS)
    }

    /// Its claim to a station, while it is there.
    pub(super) fn holding(&self, station: &StationId, now_ms: u64) -> Option<&Holding> {
        self.holdings.iter().find(|held| held.station == *station).filter(|_| !self.is_gone(now_ms))
    }

    pub(super) fn watches(&self, station: &StationId, now_ms: u64) -> bool {
        self.holding(station, now_ms).is_some_and(|held| held.sight != Sight::Blind)
    }

    /// Whether it has been watching this for some time.
    pub(super) fn is_back(&self, station: &StationId, now_ms: u64, steady_ms: u64) -> bool {
        let steady = self.steady_since_ms.is_some_and(|since_ms| now_ms - since_ms >= steady_ms);
        steady && self.watches(station, now_ms)
    }
}
