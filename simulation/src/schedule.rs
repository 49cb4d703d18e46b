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

/// Everything that is still to happen.
#[derive(Default)]
pub struct Schedule {
    queue: BinaryHeap<Reverse<Due>>,
    order: u64,
}

impl Schedule {
    /// Sets something.
    pub fn set(&mut self, at_ms: u64, what: Happening) {
        self.order += 1;
        self.queue.push(Reverse(Due { at_ms, order: self.order, what }));
    }

    /// The next thing, and when it happens.
    pub fn take(&mut self) -> Option<(u64, Happening)> {
        self.queue.pop().map(|Reverse(due)| (due.at_ms, due.what))
    }
}

struct Due {
    at_ms: u64,
    order: u64,
    what: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Due {
    fn key(&self) -> (u64, u64) {
        (self.at_ms, self.order)
    }
}

/// A hash of everything that happened.
#[derive(Default)]
pub struct Trace(DefaultHasher);

impl Trace {
    /// Takes in one happening.
    pub fn note(&mut self, at_ms: u64, what: &Happening) {
        at_ms.hash(&mut self.0);
        std::mem::discriminant(what).hash(&mut self.0);
        match what {
            Happening::Sense(index) => index.hash(&mut self.0),
            Happening::Arrive(parcel) => parcel.hash(&mut self.0),
            Happening::Synced(index, life) => (index, life).hash(&mut self.0),
            Happening::Committed(commit, life, fine) => {
                (commit.first, commit.entries.len(), life, fine).hash(&mut self.0)
            }
            Happening::Wake(client, life) => (client, life).hash(&mut self.0),
            Happening::Restart(client) | Happening::Connect(client) => client.hash(&mut self.0),
            Happening::Outage(until_ms) => until_ms.hash(&mut self.0),
            Happening::Cut | Happening::Amnesia | Happening::ClockJump | Happening::Heal => {}
        }
    }

    /// The same seed gives the same number.
    pub fn hash(&self) -> u64 {
        self.0.finish()
    }
}
