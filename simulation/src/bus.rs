//! A broker in memory, no better than a real one at its worst: it loses, repeats, delays, reorders, forgets. As a real one
//! it throws off a client when another comes with its name, and publishes the will of one that is gone.
//!
//! It decides only what arrives where and when; the world keeps the time. Filters are the protocol's own, by topic kind.

use std::collections::BTreeMap;

use fastrand::Rng;
use picket_shared::ids::NodeId;
use picket_shared::topics::Topic;

use crate::faults::Faults;

/// Who is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    /// The agent with this index.
    Agent(usize),
    /// The coordinator.
    Coordinator,
}

/// One message on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

/// A topic and what the broker publishes there, retained, for a client that is lost.
pub type Will = Option<(Topic, Vec<u8>)>;

/// What will arrive, and when.
pub type Parcels = Vec<(u64, Parcel)>;

#[derive(Debug)]
struct Connection {
    number: u64,
    will: Will,
}

/// The broker.
#[derive(Debug)]
pub struct Bus {
    /// Each agent's name, and the agents of each name.
    names: Vec<NodeId>,
    bearers: BTreeMap<NodeId, Vec<usize>>,
    connections: BTreeMap<Client, Connection>,
    made: u64,
    retained: BTreeMap<Topic, Vec<u8>>,
    /// When the last parcel to each arrives, where they keep their order.
    last_ms: BTreeMap<Client, u64>,
}

impl Bus {
    /// A broker for agents with these names.
    pub fn new(names: Vec<NodeId>) -> Bus {
        let mut bearers: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        for (index, name) in names.iter().enumerate() {
            bearers.entry(name.clone()).or_default().push(index);
        }
        let (connections, retained, last_ms) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Bus { names, bearers, connections, made: 0, retained, last_ms }
    }

    /// The client's connection, if it has one.
    pub fn connection(&self, client: Client) -> Option<u64> {
        self.connections.get(&client).map(|connection| connection.number)
    }

    /// Others that go by this client's name and are connected: they are thrown off when it connects.
    pub fn thrown_off_by(&self, client: Client) -> Vec<Client> {
        let Client::Agent(index) = client else { return Vec::new() };
        let bearers = self.bearers[&self.names[index]].iter().map(|&index| Client::Agent(index));
        bearers.filter(|other| *other != client && self.connections.contains_key(other)).collect()
    }

    /// Connects a client, and sends it what is retained for it.
    pub fn connect(&mut self, client: Client, will: Will, now_ms: u64, rng: &mut Rng, faults: &Faults) -> Parcels {
        self.made += 1;
        self.connections.insert(client, Connection { number: self.made, will });
        let mine: Vec<_> = self.retained.iter().filter(|(topic, _)| self.listens(client, topic)).collect();
        let parcel = |(topic, payload): (&Topic, &Vec<u8>)| Parcel {
            to: client,
            connection: self.made,
            topic: topic.clone(),
            payload: payload.clone(),
        };
        let parcels: Vec<Parcel> = mine.into_iter().map(parcel).collect();
        parcels.into_iter().map(|parcel| (self.arrival(client, now_ms, rng, faults), parcel)).collect()
    }

    /// Ends a client's connection; what is on its way to it is lost, and its will is published. Nothing where it had none.
    pub fn cut(&mut self, client: Client, now_ms: u64, rng: &mut Rng, faults: &Faults) -> Option<Parcels> {
        let connection = self.connections.remove(&client)?;
        let Some((topic, payload)) = connection.will else { return Some(Vec::new()) };
        let parcels = self.deliver(&topic, &payload, now_ms, rng, faults);
        self.retained.insert(topic, payload);
        Some(parcels)
    }

    /// Forgets everything; the clients that lose their connection are returned.
    pub fn forget(&mut self) -> Vec<Client> {
        self.retained.clear();
        std::mem::take(&mut self.connections).into_keys().collect()
    }

    /// Takes a message.
    pub fn publish(
        &mut self,
        from: Client,
        topic: Topic,
        payload: Vec<u8>,
        now_ms: u64,
        rng: &mut Rng,
        faults: &Faults,
    ) -> Parcels {
        if !self.connections.contains_key(&from) || rng.f64() < faults.loss {
            return Vec::new();
        }
        let parcels = self.deliver(&topic, &payload, now_ms, rng, faults);
        if topic.retained() {
            self.retained.insert(topic, payload);
        }
        parcels
    }

    fn deliver(&mut self, topic: &Topic, payload: &[u8], now_ms: u64, rng: &mut Rng, faults: &Faults) -> Parcels {
        let mut parcels = Vec::new();
        for to in self.listeners(topic) {
            let Some(connection) = self.connection(to) else { continue };
            let copies = if rng.f64() < faults.duplication { 2 } else { 1 };
            for _ in 0..copies {
                let parcel = Parcel { to, connection, topic: topic.clone(), payload: payload.to_vec() };
                parcels.push((self.arrival(to, now_ms, rng, faults), parcel));
            }
        }
        parcels
    }

    fn arrival(&mut self, to: Client, now_ms: u64, rng: &mut Rng, faults: &Faults) -> u64 {
        // Most messages are quick; some take their time.
        let most = if rng.u8(..10) == 0 { faults.delay_ms_max } else { faults.delay_ms_max / 20 };
        let mut at_ms = now_ms + 1 + rng.u64(..=most);
        if !faults.reorder {
            // The broker hands on one stream to each client, whoever the publishers are.
            let last_ms = self.last_ms.entry(to).or_default();
            at_ms = at_ms.max(*last_ms);
            *last_ms = at_ms;
        }
        at_ms
    }

    fn listeners(&self, topic: &Topic) -> Vec<Client> {
        let agents = |node: &NodeId| self.bearers.get(node).into_iter().flatten().map(|&index| Client::Agent(index));
        match topic {
            Topic::Health(node) => agents(node).chain([Client::Coordinator]).collect(),
            Topic::Ack(node) | Topic::Leases(node) | Topic::Standby(node) => agents(node).collect(),
            Topic::Twin(_) | Topic::Stats(_) | Topic::Heartbeat(_) | Topic::Duty(_) | Topic::Events(_) => {
                vec![Client::Coordinator]
            }
            _ => Vec::new(),
        }
    }

    fn listens(&self, client: Client, topic: &Topic) -> bool {
        self.listeners(topic).contains(&client)
    }
}
