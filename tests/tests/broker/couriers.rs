//! Agents without cameras in threads of their own: the agent's courier over real sockets, with a watcher that says it could
//! cover anything, and notes what it is asked to.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use picket_agent::courier::{Courier, Route, Watcher};
use picket_agent::credentials::Credentials;
use picket_agent::duty::Order;
use picket_agent::gossip::{self, Gossip};
use picket_agent::node::{Facts, Identity, Input, Node};
use picket_agent::platform::{self, Platform};
use picket_agent::recorder::Recorder;
use picket_agent::store::{AgentStore, Config};
use picket_shared::calendar::unix_ms;
use picket_shared::duty::Sight;
use picket_shared::ids::{NodeId, StationId};
use picket_shared::mqtt::BrokerUrl;
use picket_simulation::sensor;
use picket_simulation::soak::site::Site;

/// What a courier was asked to do, and what it says of itself.
#[derive(Default)]
pub struct Seen {
    pub prepared: bool,
    pub covers: u32,
    pub online: bool,
    pub refused: u64,
}

struct Ready {
    station: StationId,
    seen: Arc<Mutex<Seen>>,
}

impl Watcher for Ready {
    fn facts(&mut self, _: &Recorder, _: &Node) -> Facts {
        let all = [self.station.clone(), StationId::new("a").unwrap()];
        let sights = all.clone().map(|station| (station, Sight::Watching)).into();
        Facts { capacity_fps: 100, ready: all.into(), sights, ..Facts::default() }
    }

    fn order(&mut self, order: Order) -> Option<Input> {
        let mut seen = self.seen.lock().unwrap();
        match order {
            Order::Prepare(duties) => seen.prepared = !duties.is_empty(),
            Order::Cover(_) => seen.covers += 1,
            _ => {}
        }
        None
    }
}

/// An agent without cameras, in a thread of its own, until it is dropped.
pub struct Running {
    pub seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

pub fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// How it is built.
#[derive(Default)]
pub struct Parts {
    pub gossip: gossip::Config,
    pub platform: platform::Config,
}

pub fn start(name: &'static str, dir: &Path, site: &Site, parts: Parts) -> Running {
    let (seen, over) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
    let (shared, ended) = (Arc::clone(&seen), Arc::clone(&over));
    let route = Route { site: site.site.clone(), broker: url(site), fallback: vec![], tls: None };
    let opened = AgentStore::open(&dir.join(name), &Config::default(), unix_ms() / 1000, 1).unwrap();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (node, boot) = (id(name), opened.1.boot);
            let (twin, duty) = (sensor::twin(&node), sensor::duty(&node));
            let twin_station = twin.station.clone();
            let identity = Identity { node: node.clone(), boot, salt: 1, pid: std::process::id(), twin, duty };
            let spoken = Gossip::start(&parts.gossip, &route.site, &node).await.unwrap();
            let credentials = Credentials::none(route.site.clone());
            let watcher = Ready { station: twin_station, seen: Arc::clone(&shared) };
            let mut courier = Courier::start(Instant::now(), route, identity, credentials, opened, watcher).unwrap();
            if let Some(gossip) = spoken {
                courier.speaks_with_neighbours(gossip);
            }
            courier.carried_by(Platform::start(&parts.platform).unwrap());
            while !ended.load(Relaxed) {
                if let Ok(turned) = tokio::time::timeout(Duration::from_millis(50), courier.turn()).await {
                    turned.unwrap();
                }
                let mut seen = shared.lock().unwrap();
                seen.online = courier.is_online();
                seen.refused = courier.gossip_refused();
            }
        });
    };
    Running { seen, over, thread: Some(std::thread::spawn(work)) }
}

pub fn url(site: &Site) -> BrokerUrl {
    BrokerUrl::try_from(site.broker(site.mqtt_port)).unwrap()
}
