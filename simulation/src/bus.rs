//! A broker in memory, no better than a real one at its worst: it loses, repeats, reorders, forgets.
//!
//! It decides only what arrives where and when; the world keeps the time. Filters are the protocol's own, by topic kind.

use std::collections::BTreeMap;

use fastrand::Rng;
use picket_shared::topics::Topic;

use crate::faults::Faults;

/// Who is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// The agent with this index.
    Agent(usize),
    /// The coordinator.
    Coordinator,
}

/// One message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// To whom.
    pub to: Client,
    /// The connection it travels on: a parcel of an earlier one never arrives.
    pub connection: u64,
    /// What about.
    pub topic: Topic,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// The broker.
#[derive(Debug, Default)]
pub struct Bus {
    connections: BTreeMap<Client, u64>,
    made: u64,
    retained: BTreeMap<Topic, Vec<u8>>,
}

impl Bus {
    /// The client's connection, if it has one.
    pub fn connection(&self, client: Client) -> Option<u64> {
        self.connections.get(&client).copied()
    }

    /// Connects a client, and sends it what is retained for it.
    pub fn connect(&mut self, client: Client, rng: &mut Rng, faults: &Faults) -> Vec<(u64, Parcel)> {
        self.made += 1;
        self.connections.insert(client, self.made);
        let mine: Vec<_> = self.retained.iter().filter(|(topic, _)| listens(client, topic)).collect();
        let parcel = |(topic, payload): (&Topic, &Vec<u8>)| Parcel {
            to: client,
            connection: self.made,
            topic: topic.clone(),
            payload: payload.clone(),
        };
        mine.into_iter().map(parcel).map(|parcel| (delay(rng, faults), parcel)).collect()
    }

    /// Ends a client's connection; what is on its way to it is lost.
    pub fn cut(&mut self, client: Client) -> bool {
        self.connections.remove(&client).is_some()
    }

    /// Forgets everything; the clients that lose their connection are returned.
    pub fn forget(&mut self) -> Vec<Client> {
        self.retained.clear();
        std::mem::take(&mut self.connections).into_keys().collect()
    }

    /// Takes a message; what will arrive, and after how long.
    pub fn publish(
        &mut self,
        from: Client,
        topic: Topic,
        payload: Vec<u8>,
        rng: &mut Rng,
        faults: &Faults,
    ) -> Vec<(u64, Parcel)> {
        if !self.connections.contains_key(&from) || rng.f64() < faults.loss {
            return Vec::new();
        }
        let mut parcels = Vec::new();
        for (&to, &connection) in &self.connections {
            if listens(to, &topic) {
                let copies = if rng.f64() < faults.duplication { 2 } else { 1 };
                for _ in 0..copies {
                    let parcel = Parcel { to, connection, topic: topic.clone(), payload: payload.clone() };
                    parcels.push((delay(rng, faults), parcel));
                }
            }
        }
        if topic.retained() {
            self.retained.insert(topic, payload);
        }
        parcels
    }
}

fn delay(rng: &mut Rng, faults: &Faults) -> u64 {
    // Most messages are quick; some take their time and are overtaken.
    let most = if rng.u8(..10) == 0 { faults.delay_ms_max } else { faults.delay_ms_max / 20 };
    1 + rng.u64(..=most)
}

fn listens(client: Client, topic: &Topic) -> bool {
    match (client, topic) {
        (Client::Coordinator, Topic::Health(_) | Topic::Twin(_) | Topic::Stats(_) | Topic::Events(_)) => true,
        (Client::Agent(index), Topic::Ack(node)) => crate::world::node_name(index) == *node,
        _ => false,
    }
}
