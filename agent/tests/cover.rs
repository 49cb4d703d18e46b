//! An agent that covers another's station and has not the time for both: it looks at its own cameras less often, says so, and
//! both end with the cover. Real process, real detector, real broker; the coordinator and the other node are the test's words.

// Helpers of a test may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::time::Instant;

use common::{LONG, Running, mosquitto};
use picket_agent::config::Config;
use picket_agent::cover::settings;
use picket_shared::codec;
use picket_shared::duty::{Epoch, Heartbeat, How, Lease, Leases, Standby, StandbyDuty};
use picket_shared::ids::{NodeId, SiteId, StationId};
use picket_shared::limits::PACKET_BYTES_MAX;
use picket_shared::mqtt::{self, BrokerUrl, Link, LinkEvent, LinkOptions};
use picket_shared::status::{Health, Stats};
use picket_shared::topics::Topic;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;

const LEADER: u32 = 1;
const SAYS: &str = "looked at less often while another is covered";
/// More frames than any processor looks at, so that time is short without a neighbour too, and that alone is not said.
const CAMERA: &str = "[[camera]]\nname = \"main\"\nsource = \"synthetic:?people=6&fps=240&size=320x240\"\n";

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn station(name: &str) -> StationId {
    StationId::new(name).unwrap()
}

/// What the rest of the site says to agent `b`, whose station is `yard`: that it may have to cover `gate`, and its leases.
struct Site {
    site: SiteId,
    covers: bool,
    link: Link,
    events: Receiver<LinkEvent>,
    runtime: Runtime,
    health: Option<Health>,
}

impl Site {
    fn open(port: u16) -> Site {
        let site = SiteId::new("s").unwrap();
        let topics = [Topic::Heartbeat(node("b")), Topic::Stats(node("b")), Topic::Health(node("b"))];
        let filters = topics.map(|topic| topic.render(&site)).to_vec();
        let broker = BrokerUrl::try_from(format!("mqtt://127.0.0.1:{port}")).unwrap();
        let (client_id, payload_bytes_max) = ("site".into(), PACKET_BYTES_MAX);
        let options = LinkOptions { broker, client_id, will: None, filters, payload_bytes_max, tls: None };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (link, events) = runtime.block_on(async { mqtt::open(options) });
        Site { site, covers: false, link, events, runtime, health: None }
    }

    fn say(&self, topic: Topic, payload: Vec<u8>) {
        self.link.publish(&topic.render(&self.site), payload, topic.retained(), false).unwrap();
    }

    fn say_beforehand(&self) {
        let (home, ranks, how) = (node("a"), vec![node("b")], How::Camera);
        let duty = StandbyDuty { station: station("gate"), home, ranks, how, cameras: None, goal: None };
        self.say(Topic::Standby(node("b")), codec::encode(&Standby { leader: LEADER, duties: vec![duty] }).unwrap());
        let config = format!("node = \"a\"\nstation = \"gate\"\n{CAMERA}");
        let config: Config = picket_shared::config::parse(&config).unwrap();
        let (duty, untold) = settings::tell(&config, "0123456789ab");
        assert_eq!(untold, None);
        self.say(Topic::Duty(node("a")), codec::encode(&duty).unwrap());
    }

    fn answer(&self, beat: &Heartbeat) {
        let lease =
            |name: &str, count| Lease { station: station(name), epoch: Epoch::new(LEADER, count), act_after_ms: 0 };
        let leases = [lease("yard", 1), lease("gate", 2)].into_iter().take(1 + usize::from(self.covers)).collect();
        let (boot, number) = (beat.boot, beat.number);
        let answer = Leases { node: node("b"), leader: LEADER, boot, number, turn: 0, leases };
        self.say(Topic::Leases(node("b")), codec::encode(&answer).unwrap());
    }

    /// The agent's next statistics; meanwhile its heartbeats are answered.
    fn stats(&mut self) -> Stats {
        loop {
            let next = self.runtime.block_on(async { tokio::time::timeout(LONG, self.events.recv()).await });
            match next.expect("the agent speaks").unwrap() {
                LinkEvent::Up(_) => self.say_beforehand(),
                LinkEvent::Down(why) => println!("{why}"),
                LinkEvent::Message { topic, payload } => match Topic::parse(&self.site, &topic).unwrap() {
                    Topic::Heartbeat(_) => self.answer(&codec::decode(&payload).unwrap()),
                    Topic::Health(_) => self.health = serde_json::from_slice(&payload).ok(),
                    _ => return serde_json::from_slice(&payload).unwrap(),
                },
            }
        }
    }

    fn says_so(&self) -> bool {
        self.health.iter().flat_map(|health| &health.problems).any(|problem| problem.contains(SAYS))
    }

    /// Waits for statistics that are so, and gives them.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&Site, &Stats) -> bool) -> Stats {
        let began = Instant::now();
        loop {
            let stats = self.stats();
            if holds(self, &stats) {
                return stats;
            }
            assert!(began.elapsed() < LONG, "waited in vain for {what}: {stats:?}, {:?}", self.health);
        }
    }
}

#[test]
fn who_covers_what_it_has_not_the_time_for_looks_at_its_own_less_often_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, port) = mosquitto(dir.path());
    let mut site = Site::open(port);
    let config = format!(
        "site = \"s\"\nnode = \"b\"\nstation = \"yard\"\ndata_dir = \"{}\"\n[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\n\
         [live]\nenabled = false\n[cover]\nsources = [\"synthetic\"]\n{CAMERA}snapshots = false\n",
        dir.path().join("agent").display()
    );
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, config).unwrap();
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let agent =
        Command::new(env!("CARGO_BIN_EXE_picket-agent")).args(["run", "--config"]).arg(path).stderr(log).spawn();
    let _agent = Running(agent.unwrap());

    let mut alone_fps = Vec::new();
    site.until("its own camera to be looked at", |site, stats| {
        assert!(!site.says_so(), "it covers nobody");
        alone_fps.extend(stats.cameras.iter().map(|camera| camera.fps).filter(|fps| *fps > 1.0));
        alone_fps.len() == 4
    });
    alone_fps.sort_by(f32::total_cmp);
    let alone_fps = alone_fps[2];

    site.covers = true;
    let both = site.until("it to look less often, and to say so", |site, stats| {
        let [own, gate] = &stats.cameras[..] else { return false };
        site.says_so() && gate.fps > 1.0 && own.fps < alone_fps * 0.75
    });
    println!("alone {alone_fps} frames/s; {} and {} together", both.cameras[0].fps, both.cameras[1].fps);

    site.covers = false;
    site.until("it to do as before", |site, stats| {
        !site.says_so() && stats.cameras.len() == 1 && stats.cameras[0].fps > alone_fps * 0.75
    });
}
