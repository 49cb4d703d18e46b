//! Good inputs to begin with, made from the product's own types.

use std::collections::BTreeMap;

use picket_agent::config::Config;
use picket_agent::cover::settings;
use picket_agent::node::Identity;
use picket_coordinator::archive::{Entry, LaneRow, NodeRow, What};
use picket_shared::codec::encode;
use picket_shared::crypto::SecretKey;
use picket_shared::duty::{Duty, Epoch, Heartbeat, Holding, How, Lease, Leases, Sight, Standby, StandbyDuty};
use picket_shared::event::{Event, EventKind, Precision};
use picket_shared::ids::{Boot, CameraId, EventId, NodeId, SiteId, StationId, ZoneId};
use picket_shared::status::{CameraStats, DetectorTwin, Health, Mode, Stats, Twin, UpDown};
use picket_shared::trust::orders::OrdersChain;
use picket_shared::trust::roster::{Member, Roster};
use picket_shared::trust::seal::{self, Mark};
use picket_shared::wire::{Ack, EventBatch, Gap, GapCause};
use serde_bytes::ByteBuf;

use super::cores::step;
use super::wire::{KEY, SEALED_ON};
use super::{learn, models};

const MARK: Mark = Mark { run: 7, seq: 9, issued_s: 1_800_000_000, expires_s: Some(1_900_000_000) };

/// An event with every field.
pub(super) fn event() -> Event {
    Event {
        id: EventId::new("n1-7-1").unwrap(),
        kind: EventKind::End,
        station: StationId::new("gate").unwrap(),
        camera: CameraId::new("front").unwrap(),
        label: "person".into(),
        frame_time_ms: 1_700_000_005_250,
        start_time_ms: 1_700_000_001_000,
        end_time_ms: Some(1_700_000_005_000),
        score: 0.625,
        top_score: 0.9,
        box_px: [10, 20, 110, 320],
        current_zones: vec![ZoneId::new("door").unwrap()],
        entered_zones: vec![ZoneId::new("path").unwrap(), ZoneId::new("door").unwrap()],
        stationary: true,
        model: "0123456789ab".into(),
        precision: Precision::Fp32,
        covering_for: Some(StationId::new("yard").unwrap()),
        epoch: 9,
        dwell_times_ms: vec![],
        loitering_zones: vec![],
        crossings: vec![],
        count: None,
    }
}

fn detector() -> DetectorTwin {
    DetectorTwin {
        model: "0123456789ab".into(),
        layout: "centernet".into(),
        provider: "cpu".into(),
        precision: Precision::Fp32,
        workers: 1,
        threads: 1,
        runtime: "1.24.4".into(),
        passed_over: BTreeMap::from([("cuda".into(), "no library".into())]),
    }
}

fn twin() -> Twin {
    let (station, cameras) = (StationId::new("gate").unwrap(), vec![CameraId::new("front").unwrap()]);
    Twin { version: "0.1.0".into(), arch: "x86_64".into(), station, cameras, detector: detector() }
}

fn duty() -> Duty {
    Duty { station: twin().station, settings: String::new(), model: "0123456789ab".into(), need_fps: 5 }
}

fn heartbeat() -> Vec<u8> {
    let station = StationId::new("gate").unwrap();
    let epoch = Epoch::new(1, 1);
    let holdings = vec![Holding { station: station.clone(), epoch, provisional: false, sight: Sight::Watching }];
    let (ready, unheard) = (vec![StationId::new("yard").unwrap()], vec![NodeId::new("n3").unwrap()]);
    encode(&Heartbeat { boot: Boot(7), number: 1, leader: 1, capacity_fps: 20, holdings, ready, unheard }).unwrap()
}

fn sealed(payload: &[u8]) -> Vec<u8> {
    seal::seal(&SecretKey::from_pem(KEY).unwrap(), SEALED_ON, &MARK, payload)
}

fn sealed_object() -> Vec<u8> {
    seal::seal_json(&SecretKey::from_pem(KEY).unwrap(), SEALED_ON, &MARK, &health(UpDown::Up))
}

fn roster() -> Vec<u8> {
    let (key, site) = (SecretKey::from_pem(KEY).unwrap(), SiteId::new("yard").unwrap());
    let orders = OrdersChain::begin(&site, &key, 0);
    let member = Member { key: Some(key.public()), revoked: vec![key.public().id()] };
    let devices = [(NodeId::new("gate-3").unwrap(), member)].into();
    Roster { number: 7, orders, devices }.publish(&site, &key, 1_800_000_000)
}

fn leases() -> Vec<u8> {
    let lease = |station: &str, count| Lease {
        station: StationId::new(station).unwrap(),
        epoch: Epoch::new(1, count),
        act_after_ms: 500,
    };
    let (node, leases) = (NodeId::new("n1").unwrap(), vec![lease("gate", 1), lease("yard", 2)]);
    encode(&Leases { node, leader: 1, boot: Boot(7), number: 1, turn: 0, leases }).unwrap()
}

/// A file of the project.
fn shared(path: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// A message about a picture, in its golden bytes.
fn golden(what: &str) -> Vec<u8> {
    let hex = shared(&format!("shared/tests/golden/v1/picture_{what}.hex"));
    let digits: Vec<u8> = hex.into_iter().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn standby() -> Vec<u8> {
    let node = |name: &str| NodeId::new(name).unwrap();
    let duty = StandbyDuty {
        station: StationId::new("yard").unwrap(),
        home: node("n2"),
        ranks: vec![node("n1"), node("n3")],
        how: How::Preset,
        cameras: Some("[[camera]]\nname = \"dome\"\nsource = \"rtsp://h/\"\n".into()),
        goal: Some("yard".into()),
    };
    encode(&Standby { leader: 1, duties: vec![duty] }).unwrap()
}

/// What the node of this configuration says of its station.
fn told() -> Duty {
    let config = "node = \"n2\"\nstation = \"yard\"\n[[camera]]\nname = \"c\"\nsource = \"rtsp://u:p@h/1\"\n\
                  [[camera.mask]]\npolygon = [[0, 0], [1, 0], [0, 1]]\n[[camera.line]]\nname = \"l\"\nfrom = [0, 0]\nto = [1, 1]\n";
    let config: Config = picket_shared::config::parse(config).unwrap();
    settings::tell(&config, "0123456789ab").0
}

/// The node of the fuzzed sequences: `n1`, in boot 7.
pub(super) fn node_identity() -> Identity {
    Identity { node: NodeId::new("n1").unwrap(), boot: Boot(7), salt: 1, pid: 1, twin: twin(), duty: duty() }
}

fn health(status: UpDown) -> Vec<u8> {
    let problems = vec!["the disk is full".into()];
    serde_json::to_vec(&Health {
        status,
        pid: 1,
        time: 1_700_000_000,
        boot: Boot(7),
        epoch: 0,
        problems,
        goodbye: false,
        audit: None,
        name: None,
    })
    .unwrap()
}

fn stats() -> Vec<u8> {
    let camera = CameraStats {
        camera: CameraId::new("front").unwrap(),
        state: "running".into(),
        frames: 1,
        frames_dropped: 0,
        frames_gated: 0,
        frames_detected: 1,
        detections: 1,
        tracks: 1,
        persons_now: 1,
        fps: 9.5,
        inference_ms: 14.25,
        restarts: 0,
        last_error: None,
        fps_in: 5.0,
        format: Some("1280x720 MJPG, 30/s".to_owned()),
        frames_bad: 1,
        frames_frozen: 0,
        retry_in_s: Some(1.5),
        zones: Default::default(),
        lines: Default::default(),
        bad_input: Default::default(),
        sinks: vec![],
    };
    serde_json::to_vec(&Stats {
        time: 1_700_000_000,
        boot: Boot(7),
        uptime_s: 5,
        resident_bytes: 90_000_000,
        events_stored: 4,
        events_acked: 3,
        events_pending: 1,
        events_lost: 0,
        events_resent: 0,
        rejected: BTreeMap::from([("topic".into(), 1)]),
        connects: 1,
        cameras: vec![camera],
        outbox: Mode::CatchingUp,
        events_backlog: 1,
        events_given_up: BTreeMap::from([("full".into(), 2)]),
        events_dead: 1,
        broker: Some("mqtt://b:1883".into()),
        learn: None,
    })
    .unwrap()
}

fn batch() -> Vec<u8> {
    let events = vec![ByteBuf::from(encode(&event()).unwrap()), ByteBuf::from(vec![1, 2, 3])];
    encode(&EventBatch { boot: Boot(7), base: 1, first: 1, events, gap: None }).unwrap()
}

fn gap() -> Vec<u8> {
    let gap = Gap { from: 3, to: 70, cause: GapCause::TelemetryDropped };
    encode(&EventBatch { boot: Boot(7), base: 3, first: 3, events: vec![], gap: Some(gap) }).unwrap()
}

fn ack() -> Vec<u8> {
    encode(&Ack { boot: Boot(6), watermark: 3, holes: vec![(5, 5), (7, 9)] }).unwrap()
}

fn entry(what: What) -> Vec<u8> {
    let node = NodeId::new("gate-3").unwrap();
    encode(&Entry { node, boot: Boot(7), archive_time_ms: 1_700_000_000_000, what }).unwrap()
}

fn coordinator_tapes() -> [(&'static str, Vec<u8>); 5] {
    let talk = [
        step(7, 0, b""),
        step(0, 1, &health(UpDown::Up)),
        step(1, 1, &serde_json::to_vec(&twin()).unwrap()),
        step(2, 1, &stats()),
        step(3, 1, &batch()),
        step(10, 1, &heartbeat()),
        step(10, 9, &encode(&told()).unwrap()),
        step(9, 0, b""),
        step(3, 1, &gap()),
        step(4, 1, &[7, 1, 3, 0, 0, 2, 2, 2]),
        step(9, 0, b""),
        step(12, 0, &[13, 14]),
        step(0, 1, &health(UpDown::Down)),
    ];
    let disk = [
        step(3, 2, &batch()),
        step(11, 0, b""),
        step(4, 2, &[7, 1, 5, 0, 0, 2]),
        step(13, 1, b""),
        step(4, 2, &[7, 18, 18, 0, 0, 2, 1, 0]),
        step(9, 0, b""),
        step(4, 3, &[9, 2, 2, 255, 18]),
        step(13, 0, b""),
        step(15, 255, b""),
    ];
    let again = [
        step(3, 1, &batch()),
        step(3, 1, &batch()),
        step(9, 0, b""),
        step(3, 1, &batch()),
        step(9, 0, b""),
        step(13, 0, b""),
        step(3, 1, &batch()),
        step(9, 0, b""),
    ];
    let flood = [
        step(3, 2, &batch()),
        step(9, 0, b""),
        step(14, 0, &health(UpDown::Up)),
        step(14, 1, &[3]),
        step(7, 0, b""),
        step(9, 0, b""),
    ];
    // Two nodes watch their own, time passes, and one falls silent; the other covers, and both claim it.
    let beats = |number: u8| [step(10, 16, &[5, number, 0x3f, 0x18, 0]), step(10, 17, &[5, number, 0x3f, 0x19, 0])];
    let line = [
        step(7, 0, b""),
        beats(1).concat(),
        step(1, 1, &serde_json::to_vec(&twin()).unwrap()),
        (2..10).flat_map(beats).collect::<Vec<_>>().concat(),
        step(12, 0, &[13, 14]),
        step(10, 17, &[5, 11, 0x3f, 0x11, 66, 0x10, 67]),
        step(10, 16, &[5, 12, 0x3f, 0x10, 66]),
        step(3, 1, &batch()),
        step(9, 0, b""),
    ];
    let tapes = [("talk", &talk[..]), ("disk", &disk), ("again", &again), ("flood", &flood), ("line", &line)];
    tapes.map(|(name, tape)| (name, tape.concat()))
}

fn node_tape() -> Vec<u8> {
    [
        step(3, 0, b""),
        step(0, 0, &ack()),
        step(5, 0, &[100]),
        step(6, 0, &[90]),
        step(1, 1, &[64]),
        step(1, 2, &[5, 7, 7, 7]),
        step(7, 0, b""),
        step(8, 0, &[13, 3]),
        step(4, 0, b""),
        step(3, 0, b""),
        step(9, 0, b"the disk is full"),
        step(10, 0, b"picket/v1/yard/n1/twin"),
        step(11, 1, &standby()),
        step(11, 3, &encode(&told()).unwrap()),
        step(9, 0, b""),
        step(11, 2, &heartbeat()),
        step(11, 7, &heartbeat()),
        step(11, 0, &leases()),
        step(8, 0, &[13, 3]),
        step(5, 0, &[12]),
        step(1, 0, &[4]),
    ]
    .concat()
}

/// Target, name and bytes of each seed.
fn voc() -> Vec<u8> {
    let corners = "<xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax>";
    let object = format!("<object><name>person</name><difficult>0</difficult><bndbox>{corners}</bndbox></object>");
    format!("<annotation>{object}</annotation>").into_bytes()
}

pub(super) fn all() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let bytes = ByteBuf::from(encode(&event()).unwrap());
    let mut seeds = vec![
        ("ppm", "two", b"P6\n2 1\n255\nabcdefP6 # with a comment\n1 2\n255\nghijkl".to_vec()),
        ("onnx", "plain", shared("agent/tests/reference/plain.onnx")),
        ("onnx", "external", shared("agent/tests/reference/external.onnx")),
        ("truth", "mot", b"1,3,794.2,47.5,71.2,174.8,1,1,0.9\n2,3,10,20,30,40,0,1,1\n".to_vec()),
        ("truth", "csv", b"file,x1,y1,x2,y2,ignore\na.jpg,1,2,30,40,0\nb.jpg,,,,,\n".to_vec()),
        ("truth", "towncentre", b"0,0,1,1,1,2,3,4,10,20,30,40\n".to_vec()),
        ("truth", "seqinfo", b"[Sequence]\nimDir=img1\nframeRate=30\nseqLength=600\n".to_vec()),
        ("truth", "voc", voc()),
        ("polygon", "square", b"[[0.2,0.2],[0.8,0.2],[0.8,0.8],[0.2,0.8]]".to_vec()),
        ("agent-config", "demo", shared("firmware-configs/demo/agent.toml")),
        ("agent-config", "x86", shared("firmware-configs/x86/agent.toml")),
        ("coordinator-config", "x86", shared("firmware-configs/x86/coordinator.toml")),
        ("coordinator-config", "embedded", b"site = \"yard\"\n[mqtt]\nembedded = true\nport = 1884\n".to_vec()),
        ("topic", "ack", b"picket/v1/yard/gate-3/ack".to_vec()),
        ("topic", "view", b"picket/v1/yard/view/site".to_vec()),
        ("broker-url", "plain", b"mqtt://broker.lan:1884".to_vec()),
        ("broker-url", "v6", b"mqtt://[::1]:1883/".to_vec()),
        ("status", "health", health(UpDown::Up)),
        ("status", "twin", serde_json::to_vec(&twin()).unwrap()),
        ("status", "stats", stats()),
        ("batch", "events", batch()),
        ("batch", "gap", gap()),
        ("event", "whole", encode(&event()).unwrap()),
        ("ack", "holes", ack()),
        ("heartbeat", "whole", heartbeat()),
        ("gossip", "signed part", [&b"\x01\x04yard\x06gate-3"[..], &heartbeat()].concat()),
        ("seal", "cbor", sealed(&ack())),
        ("seal", "json", sealed_object()),
        ("roster", "whole", roster()),
        ("leases", "whole", leases()),
        ("standby", "whole", standby()),
        ("picture", "order", golden("order")),
        ("picture", "state", golden("state")),
        ("picture", "part", golden("part")),
        ("duty", "whole", encode(&told()).unwrap()),
        ("neighbour", "told", told().settings.into_bytes()),
        ("neighbour", "planned", b"[[camera]]\nname = \"dome\"\nsource = \"rtsp://h/\"\n".to_vec()),
        ("entry", "event", entry(What::Event { seq: 1, bytes })),
        ("entry", "gap", entry(What::Gap { from: 2, to: 5, cause: GapCause::Full })),
        ("row", "lane", encode(&LaneRow { watermark: 9, ahead: vec![(11, 11), (13, 20)], missed: 2 }).unwrap()),
        ("row", "node", encode(&NodeRow { retired: Boot(3), events: 9, missed: 1 }).unwrap()),
        ("node", "life", node_tape()),
    ];
    seeds.extend(models::seeds());
    seeds.extend(learn::seeds());
    seeds.extend(coordinator_tapes().map(|(name, tape)| ("coordinator", name, tape)));
    seeds
}
