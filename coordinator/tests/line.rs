//! Who watches what, with the coordinator as a process and nodes that say what agents say: grant, takeover, and a
//! coordinator that is killed in the middle of a cover.

// All of this file is tests, its helpers too.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::*;
use picket_shared::codec;
use picket_shared::duty::{Epoch, Heartbeat, Holding, Lease, Leases, Sight, Standby};
use picket_shared::ids::StationId;
use picket_shared::limits::HEARTBEAT_MS;
use picket_shared::topics::Topic;

const PLAN: &str = "[[station]]\nname = \"gate\"\nnode = \"a\"\n[[station.cover]]\nnode = \"b\"\n\
                    [[station]]\nname = \"yard\"\nnode = \"b\"\n[[station.cover]]\nnode = \"a\"\n";

fn station(name: &str) -> StationId {
    StationId::new(name).unwrap()
}

fn start(dir: &Path, ports: Ports) -> Coordinator {
    let config = dir.join("coordinator.toml");
    std::fs::write(&config, PLAN).unwrap();
    Coordinator::start_with(dir, ports, &["--config", config.to_str().unwrap()])
}

/// A node that asks for its leases and takes up what it is given.
struct Node {
    agent: Agent,
    own: StationId,
    number: u64,
    leader: u32,
    leases: Vec<Lease>,
    standby: Option<Standby>,
}

impl Node {
    async fn connect(name: &str, own: &str, ports: Ports) -> Node {
        let mine = [Topic::Leases(node(name)), Topic::Standby(node(name)), Topic::ViewSite];
        let agent = Agent::connect(name, ports, mine.map(|topic| topic.render(&site())).to_vec()).await;
        Node { agent, own: station(own), number: 0, leader: 0, leases: vec![], standby: None }
    }

    fn beat(&mut self) {
        self.number += 1;
        let mut holdings: Vec<Holding> = self
            .leases
            .iter()
            .map(|lease| Holding {
                station: lease.station.clone(),
                epoch: lease.epoch,
                provisional: false,
                sight: Sight::Watching,
            })
            .collect();
        if holdings.iter().all(|held| held.station != self.own) {
            let (station, epoch) = (self.own.clone(), Epoch::NONE);
            holdings.push(Holding { station, epoch, provisional: true, sight: Sight::Watching });
        }
        let ready = self.standby.iter().flat_map(|standby| &standby.duties).map(|duty| duty.station.clone()).collect();
        let (leader, number, unheard) = (self.leader, self.number, vec![]);
        let beat = Heartbeat { boot: BOOT, number, leader, capacity_fps: 20, holdings, ready, unheard };
        // Between two connections there is nobody to hear it, as with an agent.
        let _ = self.agent.say(Topic::Heartbeat(self.agent.node.clone()), codec::encode(&beat).unwrap());
    }

    fn hear(&mut self) {
        for (topic, payload) in &self.agent.heard {
            match topic {
                Topic::Leases(_) => {
                    let answer: Leases = codec::decode(payload).unwrap();
                    (self.leader, self.leases) = (answer.leader, answer.leases);
                }
                Topic::Standby(_) => self.standby = Some(codec::decode(payload).unwrap()),
                _ => {}
            }
        }
        self.agent.heard.retain(|(topic, _)| *topic == Topic::ViewSite);
    }

    fn holds(&self, name: &str) -> Option<Epoch> {
        self.leases.iter().find(|lease| lease.station == station(name)).map(|lease| lease.epoch)
    }

    fn sees(&self, name: &str) -> Option<serde_json::Value> {
        let site = self.agent.json(&Topic::ViewSite).pop()?;
        site["stations"].as_array()?.iter().find(|view| view["station"] == name).cloned()
    }
}

/// Lets the nodes' hearts beat until that holds.
async fn until(what: &str, nodes: &mut [Node], mut done: impl FnMut(&[Node]) -> bool) {
    let until = Instant::now() + PATIENCE;
    let mut beat = Instant::now();
    while !done(nodes) {
        assert!(Instant::now() < until, "waited in vain for {what}");
        if Instant::now() >= beat {
            beat += Duration::from_millis(HEARTBEAT_MS);
            nodes.iter_mut().for_each(Node::beat);
        }
        for node in nodes.iter_mut() {
            let _ = tokio::time::timeout(Duration::from_millis(20), node.agent.next()).await;
            node.hear();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_gone_is_covered_and_a_coordinator_that_is_killed_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Ports::free();
    let coordinator = start(dir.path(), ports);
    let a = Node::connect("a", "gate", ports).await;
    let b = Node::connect("b", "yard", ports).await;
    let mut nodes = [a, b];
    until("both to have their own, and to know what they stand by for", &mut nodes, |nodes| {
        let ready = nodes.iter().all(|node| node.standby.as_ref().is_some_and(|standby| !standby.duties.is_empty()));
        ready && nodes[0].holds("gate").is_some() && nodes[1].holds("yard").is_some()
    })
    .await;
    let before = nodes[0].holds("gate").unwrap();
    // A leader takes nothing from anybody before all have had time to speak.
    let settled = Instant::now() + Duration::from_secs(8);
    until("the coordinator to be settled", &mut nodes, |_| Instant::now() >= settled).await;

    let [a, b] = nodes;
    drop(a);
    let (gone, mut nodes) = (Instant::now(), [b]);
    until("the other to cover", &mut nodes, |nodes| nodes[0].holds("gate").is_some()).await;
    println!("covered {} ms after the node went", gone.elapsed().as_millis());
    let covering = nodes[0].holds("gate").unwrap();
    assert!(covering > before && nodes[0].holds("yard").is_some());
    until("people to be told", &mut nodes, |nodes| {
        nodes[0].sees("gate").is_some_and(|view| view["guard"] == "covered" && view["holder"] == "b")
    })
    .await;
    let why = nodes[0].sees("gate").unwrap()["why"].as_str().unwrap().to_owned();
    assert!(why.contains("the broker lost its connection") || why.contains("no heartbeat"), "{why}");

    // The embedded broker goes with the coordinator; both come back, and the cover is theirs who have it.
    coordinator.kill();
    let coordinator = start(dir.path(), ports);
    until("the cover to be confirmed by a leader with a higher epoch", &mut nodes, |nodes| {
        nodes[0].holds("gate").is_some_and(|epoch| epoch.leader() > covering.leader())
    })
    .await;
    let lease = nodes[0].leases.iter().find(|lease| lease.station == station("gate")).unwrap();
    assert_eq!(lease.act_after_ms, 0, "who acts goes on acting");

    let back = Node::connect("a", "gate", ports).await;
    let [b] = nodes;
    let mut nodes = [back, b];
    until("the home to have its station back", &mut nodes, |nodes| nodes[0].holds("gate").is_some()).await;
    until("the cover to end", &mut nodes, |nodes| nodes[1].holds("gate").is_none()).await;
    assert!(coordinator.stop().success());
}
