//! A site of real processes for one test: mosquitto, the coordinator, and outboxes that run the agent's own store, core and
//! shell. Everything ends with it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use picket_shared::codec;
use picket_shared::ids::{Boot, NodeId};
use picket_shared::limits::{PACKET_BYTES_MAX, WINDOW_EVENTS_MAX};
use picket_shared::mqtt::{self, BrokerUrl, LinkEvent, LinkOptions};
use picket_shared::status::Stats;
use picket_shared::topics::Topic;
use picket_shared::wire::EventBatch;
use picket_simulation::demo::audit::{self, Audit, Stored};
use picket_simulation::soak::ledger::Account;
use picket_simulation::soak::site::{Site, free_port};
use picket_simulation::soak::victim::{Plan, Victim};
use picket_tests::{binary, wait_for};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// For a machine that is busy with something else.
pub const WITHIN: Duration = Duration::from_secs(120);
/// Faster than any camera, so that everything is full when trouble comes.
const RATE_HZ: u64 = 50;

/// What a reader at the broker heard of one node.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    pub boot: Option<Boot>,
    pub stats: Option<Stats>,
    /// The most events that any batch showed to be on their way without an ack.
    pub window_max: u64,
}

pub struct Rig {
    pub site: Site,
    pub broker: Victim,
    /// A second broker and its port, which everybody goes to where the first cannot be reached.
    pub second: Option<(u16, Victim)>,
    pub coordinator: Victim,
    outboxes: Vec<(Stored, Victim)>,
    heard: Arc<Mutex<Heard>>,
    runtime: Runtime,
    // Dropped last: the processes write into it.
    _dir: TempDir,
}

pub fn node() -> NodeId {
    NodeId::new("edge").unwrap()
}

impl Rig {
    /// Starts a broker with this configuration and the coordinator.
    pub fn start(mosquitto: &str) -> Rig {
        Rig::begin(mosquitto, false)
    }

    /// Starts two brokers, and a coordinator that knows both.
    pub fn start_two(mosquitto: &str) -> Rig {
        Rig::begin(mosquitto, true)
    }

    fn begin(mosquitto: &str, two: bool) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let programs = binary("picket-simulation").parent().unwrap().to_owned();
        let site = Site::set(dir.path(), &programs, mosquitto).unwrap();
        let broker = Victim::start(site.mosquitto()).unwrap();
        let second = two.then(|| second(&site));
        let coordinator = Victim::start(site.coordinator()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let heard = Arc::default();
        runtime.spawn(listen(site.clone(), Arc::clone(&heard)));
        let rig = Rig { site, broker, second, coordinator, outboxes: Vec::new(), heard, runtime, _dir: dir };
        wait_for("the coordinator", WITHIN, || (rig.metric("broker_up") == 1).then_some(()));
        rig
    }

    /// Starts an outbox that reaches the broker at this port.
    pub fn outbox(&mut self, name: &str, port: u16) {
        self.outbox_of(name, node(), port);
    }

    /// The same for a node of another name.
    pub fn outbox_of(&mut self, name: &str, node: NodeId, port: u16) {
        let mut plan = self.site.outbox(name, &node, RATE_HZ, port);
        if let Some((port, _)) = self.second {
            plan.args.extend(["--fallback".into(), self.site.broker(port).into()]);
        }
        let stored = Stored { name: name.into(), node, dir: self.site.outbox_dir(name).join("store") };
        self.outboxes.push((stored, Victim::start(plan).unwrap()));
    }

    /// One of the outboxes.
    pub fn process(&mut self, name: &str) -> &mut Victim {
        &mut self.outboxes.iter_mut().find(|(stored, _)| stored.name == name).unwrap().1
    }

    /// A metric of the coordinator; 0 where it does not answer.
    pub fn metric(&self, name: &str) -> u64 {
        self.runtime.block_on(self.site.metrics()).map_or(0, |metrics| metrics.get(name))
    }

    pub fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }

    pub fn account(&self, name: &str) -> Account {
        Account::read(&self.site.outbox_dir(name))
    }

    /// How often a process said this.
    pub fn said(&self, name: &str, what: &str) -> usize {
        self.log(name).matches(what).count()
    }

    /// All that a process has said.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.site.dir.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Waits until a process has said this once more than `before`.
    pub fn until_said(&self, name: &str, what: &str, before: usize) {
        wait_for(&format!("{name} to say \"{what}\""), WITHIN, || (self.said(name, what) > before).then_some(()));
    }

    /// Waits until so many more events are in the archive.
    pub fn until_archived(&self, more: u64) {
        let before = self.metric("events_archived_total");
        let enough = || (self.metric("events_archived_total") >= before + more).then_some(());
        wait_for(&format!("{more} more events in the archive"), WITHIN, enough);
    }

    /// Ends everything well, and compares the stores with the archive.
    pub fn finish(mut self) -> Audit {
        let heard = self.heard();
        for (stored, outbox) in &mut self.outboxes {
            outbox.revive().unwrap();
            let dir = self.site.outbox_dir(&stored.name);
            wait_for("the outbox to take signals", WITHIN, || {
                (Account::read(&dir).ready == Some(outbox.pid())).then_some(())
            });
            outbox.ask_to_stop().unwrap();
            self.runtime.block_on(outbox.wait(WITHIN)).unwrap();
        }
        for process in [&mut self.coordinator, &mut self.broker] {
            process.revive().unwrap();
            process.ask_to_stop().unwrap();
            self.runtime.block_on(process.wait(WITHIN)).unwrap();
        }
        let stores: Vec<Stored> = self.outboxes.iter().map(|(stored, _)| stored.clone()).collect();
        let audit = audit::compare(&self.site.archive(), &stores, |_, _, _| {}).unwrap();
        assert!(audit.balances(), "{audit:?}");
        assert!((1..=WINDOW_EVENTS_MAX).contains(&heard.window_max), "{heard:?}");
        audit
    }
}

/// A broker beside the first, with the same rules, and the coordinator told of it.
fn second(site: &Site) -> (u16, Victim) {
    let port = free_port().unwrap();
    let path = site.dir.join("second.conf");
    std::fs::write(&path, format!("listener {port} 127.0.0.1\nallow_anonymous true\n")).unwrap();
    let first = site.mosquitto();
    let plan =
        Plan { name: "second".into(), args: vec!["-c".into(), path.into()], log: site.dir.join("second.log"), ..first };
    let config = site.dir.join("coordinator.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let both = format!("[mqtt]\nfallback = [\"{}\"]\n", site.broker(port));
    std::fs::write(&config, text.replace("[mqtt]\n", &both)).unwrap();
    (port, Victim::start(plan).unwrap())
}

/// Hears what the node says, as anybody at the broker can.
async fn listen(site: Site, heard: Arc<Mutex<Heard>>) {
    let topics = [Topic::Events(node()), Topic::Stats(node())].map(|topic| topic.render(&site.site));
    let (_link, mut events) = mqtt::open(LinkOptions {
        broker: BrokerUrl::try_from(site.broker(site.mqtt_port)).unwrap(),
        client_id: "listener".into(),
        will: None,
        filters: topics.to_vec(),
        payload_bytes_max: PACKET_BYTES_MAX,
        tls: None,
    });
    while let Some(event) = events.recv().await {
        let LinkEvent::Message { topic, payload } = event else { continue };
        let mut heard = heard.lock().unwrap();
        if topic == topics[1] {
            heard.stats = serde_json::from_slice(&payload).ok();
        } else if let Ok(batch) = codec::decode::<EventBatch>(&payload) {
            heard.boot = Some(batch.boot);
            heard.window_max = heard.window_max.max(batch.first + batch.events.len() as u64 - batch.base);
        }
    }
}

/// Publishes what none of our own clients would; false where the broker closed the connection over it.
pub fn publish(port: u16, topic: &str, payload: &[u8], retain: bool) -> bool {
    let mut broker = TcpStream::connect(("127.0.0.1", port)).unwrap();
    broker.set_read_timeout(Some(WITHIN)).unwrap();
    broker.write_all(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05rogue").unwrap();
    let mut packet = vec![0x30 | u8::from(retain)];
    let mut left = 2 + topic.len() + payload.len();
    while left > 0 {
        packet.push((left % 128) as u8 | if left > 127 { 128 } else { 0 });
        left /= 128;
    }
    packet.extend((topic.len() as u16).to_be_bytes());
    packet.extend(topic.as_bytes());
    packet.extend(payload);
    let ping = b"\xc0\x00";
    let sent = broker.write_all(&packet).and_then(|()| broker.write_all(ping));
    // CONNACK, and the ping's answer once the broker has taken what came before it.
    let mut answer = [0; 6];
    sent.and_then(|()| broker.read_exact(&mut answer)).is_ok_and(|()| answer.ends_with(b"\xd0\x00"))
}

/// Counts over a while how often something was said: for what must not happen often.
pub fn said_within(rig: &Rig, names: &[&str], what: &str, window: Duration) -> usize {
    let count = || names.iter().map(|name| rig.said(name, what)).sum::<usize>();
    let (before, until) = (count(), Instant::now() + window);
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    count() - before
}
