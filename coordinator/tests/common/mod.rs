//! The real binary in its own process, and an agent's side of the link.

#![allow(dead_code, missing_docs, unreachable_pub)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use picket_shared::codec;
use picket_shared::event::{Event, EventKind, Precision};
use picket_shared::ids::{Boot, CameraId, EventId, NodeId, SiteId, StationId};
use picket_shared::mqtt::{self, Link, LinkEvent, LinkOptions, PublishError, Will};
use picket_shared::topics::Topic;
use picket_shared::wire::{Ack, EventBatch};
use serde_bytes::ByteBuf;
use tokio::sync::mpsc::Receiver;

pub const BOOT: Boot = Boot(1_700_000_000);
/// Nothing here takes seconds; this is for a machine that is busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn site() -> SiteId {
    SiteId::new("yard").unwrap()
}

pub fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// Three ports that were free a moment ago.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub mqtt: u16,
    pub websocket: u16,
    pub http: u16,
}

impl Ports {
    pub fn free() -> Ports {
        let held: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let port = |i: usize| held[i].local_addr().unwrap().port();
        Ports { mqtt: port(0), websocket: port(1), http: port(2) }
    }
}

pub fn command(data_dir: &Path, ports: Ports) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_picket-coordinator"));
    command.args(["run", "--site", "yard", "--data-dir"]).arg(data_dir);
    for (flag, port) in
        [("--mqtt-port", ports.mqtt), ("--websocket-port", ports.websocket), ("--http-port", ports.http)]
    {
        command.args([flag, &port.to_string()]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A coordinator's process; killed when dropped.
pub struct Coordinator {
    child: Child,
    pub ports: Ports,
    pub data_dir: PathBuf,
}

impl Coordinator {
    pub fn start(data_dir: &Path, ports: Ports) -> Coordinator {
        Coordinator::start_with(data_dir, ports, &[])
    }

    /// With more on its command line.
    pub fn start_with(data_dir: &Path, ports: Ports, more: &[&str]) -> Coordinator {
        let child = command(data_dir, ports).args(more).spawn().unwrap();
        let started = Coordinator { child, ports, data_dir: data_dir.to_owned() };
        wait_for("the coordinator to be well", || started.get("/healthz").is_some_and(|page| page.contains("200 OK")));
        started
    }

    /// Kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub fn stop(mut self) -> ExitStatus {
        signal(self.child.id(), "TERM");
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A page with its head, if there is an answer.
    pub fn get(&self, path: &str) -> Option<String> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        exchange(self.ports.http, &head).ok()
    }

    /// The value of a metric, labels included in its name.
    pub fn metric(&self, name: &str) -> u64 {
        let page = self.get("/metrics").unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("picket_{name} ")));
        line.unwrap_or("0").parse().unwrap()
    }

    pub fn archive(&self, what: &str) -> Vec<serde_json::Value> {
        archive(&self.data_dir, what)
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Sends a request and reads until the other side closes.
pub fn exchange(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

pub fn run_to_end(mut command: Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
}

/// `picket-coordinator archive list|export`, as JSON lines.
pub fn archive(data_dir: &Path, what: &str) -> Vec<serde_json::Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_picket-coordinator"));
    command.args(["archive", what, "--data-dir"]).arg(data_dir);
    let output = run_to_end(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The archive holds exactly these sequences of the node, each once, all readable.
pub fn assert_archived(data_dir: &Path, name: &str, last: u64) {
    let lanes = archive(data_dir, "list");
    let lane = lanes.iter().find(|lane| lane["node"] == name).expect("the node is in the archive");
    let counts = ["events", "doubles", "missed", "absent", "watermark"].map(|key| lane[key].as_u64().unwrap());
    assert_eq!(counts, [last, 0, 0, 0, last], "events, doubles, missed, absent, watermark of {name}");
    let mut sequences: BTreeMap<u64, u64> = BTreeMap::new();
    for event in archive(data_dir, "export").iter().filter(|event| event["node"] == name) {
        *sequences.entry(event["seq"].as_u64().unwrap()).or_default() += 1;
    }
    assert_eq!(sequences, (1..=last).map(|seq| (seq, 1)).collect(), "{name}");
}

pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An agent's side of the link, driven by the test.
pub struct Agent {
    pub node: NodeId,
    pub link: Link,
    events: Receiver<LinkEvent>,
    /// The highest watermark heard.
    pub watermark: u64,
    /// Everything else heard, by topic.
    pub heard: Vec<(Topic, Vec<u8>)>,
}

impl Agent {
    pub async fn connect(name: &str, ports: Ports, filters: Vec<String>) -> Agent {
        let node = node(name);
        let (link, events) = mqtt::open(LinkOptions {
            broker: format!("mqtt://127.0.0.1:{}", ports.mqtt).try_into().unwrap(),
            client_id: name.into(),
            will: Some(Will::new({
                let topic = Topic::Health(node.clone()).render(&site());
                move || (topic.clone(), health("down"))
            })),
            filters: [vec![Topic::Ack(node.clone()).render(&site())], filters].concat(),
            payload_bytes_max: picket_shared::limits::PACKET_BYTES_MAX,
            tls: None,
        });
        let mut agent = Agent { node, link, events, watermark: 0, heard: vec![] };
        while !matches!(agent.next().await, Some(LinkEvent::Up(_))) {}
        agent
    }

    /// Takes note of the next thing that happens; nothing after half a second of silence.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        let event = tokio::time::timeout(Duration::from_millis(500), self.events.recv()).await.ok()?.unwrap();
        if let LinkEvent::Message { topic, payload } = &event {
            match Topic::parse(&site(), topic) {
                Ok(Topic::Ack(node)) if node == self.node => {
                    let ack: Ack = codec::decode(payload).unwrap();
                    if ack.boot == BOOT {
                        self.watermark = self.watermark.max(ack.watermark);
                    }
                }
                Ok(other) => self.heard.push((other, payload.clone())),
                Err(_) => {}
            }
        }
        Some(event)
    }

    pub async fn until(&mut self, what: &str, mut done: impl FnMut(&Agent) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < until, "waited in vain for {what}");
            self.next().await;
        }
    }

    pub fn say(&self, topic: Topic, payload: Vec<u8>) -> Result<(), PublishError> {
        self.link.publish(&topic.render(&site()), payload, topic.retained(), false)
    }

    /// Sends events `first..=last` of the current boot: at most once, because the ack is what delivery is judged by, and
    /// because a broker's PUBACK makes the ack behind it wait 40 ms for a delayed TCP acknowledgement.
    pub fn send(&self, first: u64, last: u64) -> Result<(), PublishError> {
        let events = (first..=last).map(|seq| event(&self.node, seq)).collect();
        let batch = EventBatch { boot: BOOT, base: self.watermark + 1, first, events, gap: None };
        let topic = Topic::Events(self.node.clone()).render(&site());
        self.link.publish(&topic, codec::encode(&batch).unwrap(), false, true)
    }

    /// Heard JSON of one topic, in order.
    pub fn json(&self, topic: &Topic) -> Vec<serde_json::Value> {
        let of_topic = self.heard.iter().filter(|(have, _)| have == topic);
        of_topic.map(|(_, payload)| serde_json::from_slice(payload).unwrap()).collect()
    }
}

pub fn health(status: &str) -> Vec<u8> {
    format!("{{\"status\":\"{status}\",\"pid\":1,\"time\":1,\"boot\":{},\"epoch\":0}}", BOOT.0).into_bytes()
}

pub fn event(node: &NodeId, seq: u64) -> ByteBuf {
    let event = Event {
        id: EventId::of_track(node, BOOT, seq),
        kind: EventKind::New,
        station: StationId::new("gate").unwrap(),
        camera: CameraId::new("street").unwrap(),
        label: "person".into(),
        frame_time_ms: 1_700_000_000_000 + seq,
        start_time_ms: 1_700_000_000_000,
        end_time_ms: None,
        score: 0.75,
        top_score: 0.875,
        box_px: [10, 20, 30, 40],
        current_zones: vec![],
        entered_zones: vec![],
        stationary: false,
        model: "0123456789ab".into(),
        precision: Precision::Int8,
        covering_for: None,
        epoch: 0,
        dwell_times_ms: vec![],
        loitering_zones: vec![],
        crossings: vec![],
        count: None,
    };
    ByteBuf::from(codec::encode(&event).unwrap())
}
