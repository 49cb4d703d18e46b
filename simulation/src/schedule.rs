//! What will happen, in the order of virtual time, and the hash of what has. Equal times happen in the order they were set,
//! so the order depends on nothing but the seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use picket_coordinator::archive::Commit;

use crate::bus::{Client, Parcel};

/// Something that happens in a world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A camera of this agent saw something.
    Sense(usize),
    /// A message reaches its client.
    Arrive(Parcel),
    /// The disk of the agent's life has synced.
    Synced(usize, u64),
    /// The disk of the coordinator's life has committed, or failed to.
    Committed(Arc<Commit>, u64, bool),
    /// The alarm that a core of this life has set.
    Wake(Client, u64),
    /// A process starts.
    Restart(Client),
    /// A process reaches the broker.
    Connect(Client),
    /// Somebody is cut off from the broker.
    Cut,
    /// The broker forgets everything.
    Amnesia,
    /// The broker is gone until then, and has forgotten everything.
    Outage(u64),
    /// Somebody's calendar clock jumps.
    ClockJump,
    /// From here on nothing fails.
    Heal,
}

impl Hash for Happening {
    fn hash<S: Hasher>(&self, state: &mut S) {
        std::mem::discriminant(self).hash(state);
        match self {
            Happening::Sense(index) => index.hash(state),
            Happening::Arrive(parcel) => parcel.hash(state),
            Happening::Synced(index, life) => (index, life).hash(state),
            // Its entries are a function of what arrived.
            Happening::Committed(commit, life, fine) => (commit.first, commit.entries.len(), life, fine).hash(state),
            Happening::Wake(client, life) => (client, life).hash(state),
            Happening::Restart(client) | Happening::Connect(client) => client.hash(state),
            Happening::Outage(until_ms) => until_ms.hash(state),
            Happening::Cut | Happening::Amnesia | Happening::ClockJump | Happening::Heal => {}
        }
    }
}

/// Everything that is still to happen.
pub struct Schedule<H> {
    queue: BinaryHeap<Reverse<Due<H>>>,
    order: u64,
}

impl<H> Default for Schedule<H> {
    fn default() -> Self {
        Schedule { queue: BinaryHeap::new(), order: 0 }
    }
}

impl<H> Schedule<H> {
    /// Sets something.
    pub fn set(&mut self, at_ms: u64, what: H) {
        self.order += 1;
        self.queue.push(Reverse(Due { at_ms, order: self.order, what }));
    }

    /// The next thing, and when it happens.
    pub fn take(&mut self) -> Option<(u64, H)> {
        self.queue.pop().map(|Reverse(due)| (due.at_ms, due.what))
    }
}

struct Due<H> {
    at_ms: u64,
    order: u64,
    what: H,
}

impl<H> PartialEq for Due<H> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<H> Eq for Due<H> {}

impl<H> PartialOrd for Due<H> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<H> Ord for Due<H> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl<H> Due<H> {
    fn key(&self) -> (u64, u64) {
        (self.at_ms, self.order)
    }
}

/// A hash of everything that happened.
#[derive(Default)]
pub struct Trace(DefaultHasher);

impl Trace {
    /// Takes in one happening.
    pub fn note(&mut self, at_ms: u64, what: &impl Hash) {
        (at_ms, what).hash(&mut self.0);
    }

    /// The same seed gives the same number.
    pub fn hash(&self) -> u64 {
        self.0.finish()
    }
}
