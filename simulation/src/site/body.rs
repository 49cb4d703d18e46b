//! What every process of a site has: a machine with its clocks, a life, and what waits for it while it stands still.

use std::collections::VecDeque;
use std::rc::Rc;

use fastrand::Rng;
use picket_shared::topics::Topic;

use super::clock::Clock;
use super::scenario::{Clocks, What};

const HOUR_MS: i64 = 3_600_000;

/// A message, or the end of the connection.
pub(super) type Waiting = Option<(Topic, Rc<[u8]>)>;

/// A process and its machine.
pub(super) struct Body {
    /// Counts lives: what belongs to an earlier one is void.
    pub(super) life: u64,
    pub(super) alive: bool,
    /// Nothing of it runs.
    pub(super) paused: bool,
    pub(super) clock: Clock,
    pub(super) alarm_ms: u64,
    pub(super) inbox: VecDeque<Waiting>,
    /// It tries to connect when it goes on.
    pub(super) connects: bool,
    /// What is being done to it, and which time that is.
    pub(super) trouble: Option<What>,
    pub(super) ticket: u64,
    /// Since when the broker and it could hear each other.
    pub(super) there_since_ms: Option<u64>,
}

impl Body {
    /// A machine whose clocks are wrong by what is drawn.
    pub(super) fn draw(rng: &mut Rng, clocks: &Clocks) -> Body {
        let (drift, hours) = (i64::from(clocks.drift_ppm), i64::from(clocks.wrong_hours));
        let clock =
            Clock { born_ms: 0, drift_ppm: rng.i64(-drift..=drift), ahead_ms: rng.i64(-hours..=hours) * HOUR_MS };
        Body {
            life: 0,
            alive: false,
            paused: false,
            clock,
            alarm_ms: u64::MAX,
            inbox: VecDeque::new(),
            connects: false,
            trouble: None,
            ticket: 0,
            there_since_ms: None,
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.alive && !self.paused
    }

    /// A new life begins.
    pub(super) fn begin(&mut self, now_ms: u64) {
        (self.life, self.alive, self.alarm_ms) = (self.life + 1, true, u64::MAX);
        self.clock.born_ms = now_ms;
    }

    /// It dies.
    pub(super) fn end(&mut self) {
        (self.life, self.alive, self.paused, self.connects) = (self.life + 1, false, false, false);
        self.inbox.clear();
    }
}
