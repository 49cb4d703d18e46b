//! Holds PROTOCOL.md and the golden bytes of protocol version 1 to the code. Old bytes must decode for ever; a change that
//! breaks them is a new version, not a new golden file.

// Helpers of a test may unwrap as tests do.
#![allow(clippy::unwrap_used)]

#[path = "protocol/learning.rs"]
mod learning;
#[path = "protocol/models.rs"]
mod models;

use std::collections::BTreeSet;

use picket_shared::audit::Head;
use picket_shared::codec::{decode, encode};
use picket_shared::crypto::SecretKey;
use picket_shared::duty::{Duty, Epoch, Heartbeat, Holding, How, Lease, Leases, Sight, Standby, StandbyDuty};
use picket_shared::event::{Crossing, Direction, Event, EventKind, Precision};
use picket_shared::ids::{Boot, CameraId, EventId, LineId, NodeId, SiteId, StationId, ZoneId};
use picket_shared::limits;
use picket_shared::picture::{PictureOrder, PicturePart, PictureState, Stage, What};
use picket_shared::platform::{Action, PlatformOrder};
use picket_shared::status::{CameraStats, Crossed, DetectorTwin, Health, LearnStats, SinkStats, Stats, Twin, UpDown};
use picket_shared::topics::Topic;
use picket_shared::trust::orders::OrdersChain;
use picket_shared::trust::roster::{Member, Roster};
use picket_shared::trust::seal::{SEAL_BYTES_MAX, SEAL_JSON_BYTES_MAX};
use picket_shared::view::{Change, ChangeKind, Guard, Liveness, NodeView, Recent, SeenEvent, Site, StationView};
use picket_shared::wire::{Ack, EventBatch, Gap, GapCause, Wire};
use serde_bytes::ByteBuf;

const PAGE: &str = include_str!("../PROTOCOL.md");

fn event() -> Event {
    Event {
        id: EventId::new("gate-3-1700000000-42").unwrap(),
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
        precision: Precision::Int8,
        covering_for: Some(StationId::new("yard").unwrap()),
        epoch: 9,
        dwell_times_ms: vec![],
        loitering_zones: vec![],
        crossings: vec![],
        count: None,
    }
}

/// With all that an event of an older agent does not have.
fn observed() -> Event {
    let line = LineId::new("kerb").unwrap();
    let crossing = Crossing { line, direction: Direction::RightToLeft, frame_time_ms: 1_700_000_002_000 };
    Event {
        dwell_times_ms: vec![1_200, 900],
        loitering_zones: vec![ZoneId::new("door").unwrap()],
        crossings: vec![crossing],
        count: Some(7),
        ..event()
    }
}

fn batch() -> EventBatch {
    let events = vec![ByteBuf::from(encode(&event()).unwrap()), ByteBuf::from(vec![1, 2, 3])];
    EventBatch { boot: Boot(1_700_000_000), base: 5, first: 7, events, gap: None }
}

fn gap() -> EventBatch {
    let gap = Gap { from: 7, to: 70_000, cause: GapCause::TelemetryDropped };
    EventBatch { first: 7, events: vec![], gap: Some(gap), ..batch() }
}

fn ack() -> Ack {
    Ack { boot: Boot(1_700_000_000), watermark: 300, holes: vec![(302, 302), (310, 315)] }
}

fn heartbeat() -> Heartbeat {
    let (station, epoch) = (StationId::new("gate").unwrap(), Epoch::new(3, 7));
    Heartbeat {
        boot: Boot(1_700_000_000),
        number: 12,
        leader: 3,
        capacity_fps: 40,
        holdings: vec![Holding { station, epoch, provisional: false, sight: Sight::Watching }],
        ready: vec![StationId::new("yard").unwrap()],
        unheard: vec![NodeId::new("yard-1").unwrap()],
    }
}

fn leases() -> Leases {
    let (station, epoch) = (StationId::new("gate").unwrap(), Epoch::new(3, 7));
    Leases {
        node: NodeId::new("gate-3").unwrap(),
        leader: 3,
        boot: Boot(1_700_000_000),
        number: 12,
        turn: 1,
        leases: vec![Lease { station, epoch, act_after_ms: 1_500 }],
    }
}

fn standby() -> Standby {
    let duty = StandbyDuty {
        station: StationId::new("yard").unwrap(),
        home: NodeId::new("yard-1").unwrap(),
        ranks: vec![NodeId::new("gate-3").unwrap()],
        how: How::Flight,
        cameras: Some("[[camera]]".into()),
        goal: Some("52.1,4.3,30".into()),
    };
    Standby { leader: 3, duties: vec![duty] }
}

fn duty() -> Duty {
    let station = StationId::new("yard").unwrap();
    Duty { station, settings: "[[camera]]".into(), model: "0123456789ab".into(), need_fps: 10 }
}

fn picture_order() -> PictureOrder {
    PictureOrder {
        who: "M. Jansen".into(),
        why: "a bag was left".into(),
        what: What::Picture,
        event: None,
        camera: Some(CameraId::new("front").unwrap()),
        moment_ms: Some(1_700_000_000_000),
        clear: false,
        until_s: 1_700_000_600,
        key: ByteBuf::from([7; 32]),
        missing: vec![1, 2],
        done: false,
    }
}

fn picture_state() -> PictureState {
    PictureState {
        stage: Stage::Successful,
        reason: None,
        detail: None,
        media: Some("image/jpeg".into()),
        bytes: 70_000,
        digest: Some(ByteBuf::from([1; 32])),
        taken_ms: 1_700_000_001_000,
        blurred: true,
        key: Some(ByteBuf::from([2; 32])),
    }
}

fn picture_part() -> PicturePart {
    PicturePart { number: 1, sealed: ByteBuf::from([3; 20]) }
}

fn platform_order() -> PlatformOrder {
    PlatformOrder {
        time: 1_700_000_000,
        action: Action::Go,
        station: StationId::new("yard").unwrap(),
        epoch: Epoch::new(3, 7).0,
        home: Some(NodeId::new("yard-1").unwrap()),
        how: Some(How::Flight),
        goal: Some("52.1,4.3,30".into()),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn golden<T: Wire + PartialEq + std::fmt::Debug>(name: &str, text: &str, expect: &T) {
    let bytes = unhex(text);
    let now: String = encode(expect).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(decode::<T>(&bytes).as_ref(), Ok(expect), "{name}: old bytes must still be read; today's are {now}");
    assert_eq!(encode(expect).unwrap(), bytes, "{name}: today's bytes {now} differ from version 1's");
}

#[test]
fn the_golden_bytes_of_version_1_are_read_and_written() {
    golden("event", include_str!("golden/v1/event.hex"), &event());
    golden("observed", include_str!("golden/v1/observed.hex"), &observed());
    golden("batch", include_str!("golden/v1/batch.hex"), &batch());
    golden("gap", include_str!("golden/v1/gap.hex"), &gap());
    golden("ack", include_str!("golden/v1/ack.hex"), &ack());
    golden("heartbeat", include_str!("golden/v1/heartbeat.hex"), &heartbeat());
    golden("leases", include_str!("golden/v1/leases.hex"), &leases());
    golden("standby", include_str!("golden/v1/standby.hex"), &standby());
    golden("duty", include_str!("golden/v1/duty.hex"), &duty());
    golden("picture_order", include_str!("golden/v1/picture_order.hex"), &picture_order());
    golden("picture_state", include_str!("golden/v1/picture_state.hex"), &picture_state());
    golden("picture_part", include_str!("golden/v1/picture_part.hex"), &picture_part());
    models::golden();
    learning::golden();
}

#[test]
fn the_golden_order_to_a_platform_is_read_and_written() {
    let golden = include_str!("golden/v1/platform.json").trim();
    assert_eq!(serde_json::from_str::<PlatformOrder>(golden).unwrap(), platform_order());
    assert_eq!(serde_json::to_string(&platform_order()).unwrap(), golden);
    for action in [Action::Go, Action::Leave] {
        assert_eq!(serde_json::to_string(&action).unwrap(), format!("\"{}\"", action.word()));
    }
}

#[test]
fn the_page_names_every_topic_and_whether_it_is_retained() {
    let rows: BTreeSet<(String, bool)> = table("## Topics")
        .into_iter()
        .map(|row| (row[0].replace("<site>", "yard").replace("<node>", "gate-3"), row[1] == "yes"))
        .map(|(topic, retained)| (topic.replace("<digest>", &"ab".repeat(32)), retained))
        .map(|(topic, retained)| (topic.replace("<lineage>", &"ab".repeat(8)), retained))
        .map(|(topic, retained)| (topic.replace("<id>", "0a1b2c").replace("<operator>", "anna"), retained))
        .collect();
    let site = SiteId::new("yard").unwrap();
    let topics = Topic::one_of_each(&NodeId::new("gate-3").unwrap());
    let expect = topics.iter().map(|topic| (topic.render(&site), topic.retained())).collect();
    assert_eq!(rows, expect);
}

#[test]
fn the_page_numbers_every_field_of_every_cbor_message() {
    for (heading, json) in [
        ("### EventBatch", serde_json::to_string(&gap()).unwrap()),
        ("### Gap", serde_json::to_string(&gap().gap).unwrap()),
        ("### Event\n", serde_json::to_string(&observed()).unwrap()),
        ("### Crossing", serde_json::to_string(&observed().crossings[0]).unwrap()),
        ("### Ack", serde_json::to_string(&ack()).unwrap()),
        ("### Heartbeat", serde_json::to_string(&heartbeat()).unwrap()),
        ("### Holding", serde_json::to_string(&heartbeat().holdings[0]).unwrap()),
        ("### Leases", serde_json::to_string(&leases()).unwrap()),
        ("### Lease\n", serde_json::to_string(&leases().leases[0]).unwrap()),
        ("### Standby\n", serde_json::to_string(&standby()).unwrap()),
        ("### StandbyDuty", serde_json::to_string(&standby().duties[0]).unwrap()),
        ("### Duty", serde_json::to_string(&duty()).unwrap()),
        ("### PictureOrder", serde_json::to_string(&picture_order()).unwrap()),
        ("### PictureState", serde_json::to_string(&picture_state()).unwrap()),
        ("### PicturePart", serde_json::to_string(&picture_part()).unwrap()),
    ]
    .into_iter()
    .chain(models::cbor())
    .chain(learning::cbor())
    {
        let fields = keys_in_order(&json);
        let expect: Vec<_> = fields.iter().enumerate().map(|(i, key)| (i.to_string(), key.clone())).collect();
        let rows: Vec<_> = table(heading).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
        assert_eq!(rows, expect, "{heading}");
    }
}

#[test]
fn the_page_lists_every_field_of_every_json_message() {
    let detector = DetectorTwin {
        model: String::new(),
        layout: String::new(),
        provider: String::new(),
        precision: Precision::Fp32,
        workers: 1,
        threads: 1,
        runtime: String::new(),
        passed_over: Default::default(),
    };
    let station = StationId::new("gate").unwrap();
    let sink = SinkStats {
        sink: String::new(),
        state: String::new(),
        pictures: 0,
        pictures_dropped: 0,
        bytes: 0,
        restarts: 0,
        errors: 0,
    };
    let camera = CameraStats {
        camera: CameraId::new("front").unwrap(),
        state: String::new(),
        frames: 0,
        frames_dropped: 0,
        frames_gated: 0,
        frames_detected: 0,
        detections: 0,
        tracks: 0,
        persons_now: 0,
        fps: 0.0,
        inference_ms: 0.0,
        restarts: 0,
        last_error: None,
        fps_in: 0.0,
        format: None,
        frames_bad: 0,
        frames_frozen: 0,
        retry_in_s: None,
        zones: Default::default(),
        lines: Default::default(),
        bad_input: Default::default(),
        sinks: vec![sink.clone()],
    };
    let stats = Stats {
        time: 0,
        boot: Boot(1),
        uptime_s: 0,
        resident_bytes: 0,
        events_stored: 0,
        events_acked: 0,
        events_pending: 0,
        events_lost: 0,
        events_resent: 0,
        rejected: Default::default(),
        connects: 0,
        cameras: vec![camera.clone()],
        outbox: Default::default(),
        events_backlog: 0,
        events_given_up: Default::default(),
        events_dead: 0,
        broker: None,
        learn: Some(LearnStats::default()),
    };
    let node = NodeId::new("gate-3").unwrap();
    let node_view = NodeView {
        node: node.clone(),
        liveness: Liveness::Up,
        since: 0.0,
        why: String::new(),
        station: Some(station.clone()),
        problems: vec![],
        detector: Some(detector.clone()),
        stats: Some(stats.clone()),
        events_archived: 0,
        events_missed: 0,
    };
    let health = Health {
        status: UpDown::Up,
        pid: 1,
        time: 0,
        boot: Boot(1),
        epoch: 0,
        problems: vec![],
        goodbye: false,
        audit: None,
        name: None,
    };
    let site = Site {
        site: SiteId::new("yard").unwrap(),
        time: 0.0,
        events_archived: 0,
        events_duplicate: 0,
        events_missed: 0,
        rejected: 0,
        nodes: vec![node_view.clone()],
        leader: 1,
        stations: vec![],
        changes: vec![],
    };
    let post = StationView {
        station: station.clone(),
        home: node.clone(),
        guard: Guard::Home,
        holder: None,
        epoch: 0,
        how: None,
        sight: None,
        since: 0.0,
        why: String::new(),
        ranks: vec![],
    };
    let why = String::new();
    let change = Change { time: 0.0, change: ChangeKind::Up, node: None, station: None, epoch: 0, why };
    let head = Head { number: 7, digest: "ab".repeat(32) };
    let health = Health { goodbye: true, audit: Some(head.clone()), name: Some(node.clone()), ..health };
    let key = SecretKey::generate().unwrap();
    let member = Member { key: Some(key.public()), revoked: vec![key.public().id()] };
    let orders = OrdersChain::begin(&SiteId::new("yard").unwrap(), &key, 0);
    let roster = Roster { number: 1, orders, devices: [(node.clone(), member)].into() };
    let twin = Twin { version: String::new(), arch: String::new(), station, cameras: vec![], detector };
    let seen = SeenEvent::of(observed(), node.clone(), Boot(1), 1, 0);
    let expect: Vec<(&str, String)> = vec![
        ("Health", serde_json::to_string(&health).unwrap()),
        ("AuditHead", serde_json::to_string(&head).unwrap()),
        ("Twin", serde_json::to_string(&twin).unwrap()),
        ("Stats", serde_json::to_string(&stats).unwrap()),
        ("LearnStats", serde_json::to_string(&LearnStats::default()).unwrap()),
        ("CameraStats", serde_json::to_string(&camera).unwrap()),
        ("Crossed", serde_json::to_string(&Crossed::default()).unwrap()),
        ("PlatformOrder", serde_json::to_string(&platform_order()).unwrap()),
        ("SinkStats", serde_json::to_string(&sink).unwrap()),
        ("Site", serde_json::to_string(&site).unwrap()),
        ("NodeView", serde_json::to_string(&node_view).unwrap()),
        ("StationView", serde_json::to_string(&post).unwrap()),
        ("Roster", serde_json::to_string(&roster).unwrap()),
        ("Member", serde_json::to_string(&roster.devices[&node]).unwrap()),
        ("OrdersKey", serde_json::to_string(roster.orders.newest()).unwrap()),
        ("Change", serde_json::to_string(&change).unwrap()),
        ("Recent", serde_json::to_string(&Recent { events: vec![seen.clone()] }).unwrap()),
        ("SeenEvent", serde_json::to_string(&seen).unwrap()),
        ("SeenCrossing", serde_json::to_string(&seen.crossings[0]).unwrap()),
    ];
    let expect: Vec<_> = expect.into_iter().chain(learning::json()).chain(models::json()).collect();
    let rows = table("## JSON messages");
    assert_eq!(rows.len(), expect.len());
    for (row, (name, json)) in rows.iter().zip(&expect) {
        assert_eq!(row[0], *name);
        let fields: Vec<&str> = row[1].split(' ').collect();
        assert_eq!(fields, keys_in_order(json), "{name}");
    }
}

#[test]
fn the_page_states_every_limit() {
    let rows: Vec<(String, String)> =
        table("## Limits").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let expect = [
        ("NAME_CHARS_MAX", limits::NAME_CHARS_MAX),
        ("EVENT_ID_CHARS_MAX", limits::EVENT_ID_CHARS_MAX),
        ("EVENT_BYTES_MAX", limits::EVENT_BYTES_MAX),
        ("EVENT_ZONES_MAX", limits::EVENT_ZONES_MAX),
        ("CAMERA_LINES_MAX", limits::CAMERA_LINES_MAX),
        ("EVENT_CROSSINGS_MAX", limits::EVENT_CROSSINGS_MAX),
        ("BATCH_EVENTS_MAX", limits::BATCH_EVENTS_MAX),
        ("BATCH_BYTES_MAX", limits::BATCH_BYTES_MAX),
        ("WINDOW_EVENTS_MAX", limits::WINDOW_EVENTS_MAX as usize),
        ("AHEAD_EVENTS_MAX", limits::AHEAD_EVENTS_MAX as usize),
        ("ACK_HOLES_MAX", limits::ACK_HOLES_MAX),
        ("ACK_BYTES_MAX", limits::ACK_BYTES_MAX),
        ("HEARTBEAT_MS", limits::HEARTBEAT_MS as usize),
        ("LEASE_TTL_MS", limits::LEASE_TTL_MS as usize),
        ("LEASE_MARGIN_MS", limits::LEASE_MARGIN_MS as usize),
        ("HOLDINGS_MAX", limits::HOLDINGS_MAX),
        ("STANDBY_DUTIES_MAX", limits::STANDBY_DUTIES_MAX),
        ("RANKS_MAX", limits::RANKS_MAX),
        ("NEIGHBOURS_MAX", limits::NEIGHBOURS_MAX),
        ("HEARTBEAT_BYTES_MAX", limits::HEARTBEAT_BYTES_MAX),
        ("GOSSIP_BYTES_MAX", limits::GOSSIP_BYTES_MAX),
        ("LEASES_BYTES_MAX", limits::LEASES_BYTES_MAX),
        ("STANDBY_BYTES_MAX", limits::STANDBY_BYTES_MAX),
        ("DUTY_BYTES_MAX", limits::DUTY_BYTES_MAX),
        ("STATS_MS", limits::STATS_MS as usize),
        ("STATUS_BYTES_MAX", limits::STATUS_BYTES_MAX),
        ("STATUS_ITEMS_MAX", limits::STATUS_ITEMS_MAX),
        ("SOURCES_MAX", limits::SOURCES_MAX),
        ("NODES_MAX", limits::NODES_MAX),
        ("RECENT_EVENTS_MAX", limits::RECENT_EVENTS_MAX),
        ("RECENT_CHANGES_MAX", limits::RECENT_CHANGES_MAX),
        ("PACKET_BYTES_MAX", limits::PACKET_BYTES_MAX),
        ("PICTURE_WHO_CHARS_MAX", limits::PICTURE_WHO_CHARS_MAX),
        ("PICTURE_WHY_CHARS_MAX", limits::PICTURE_WHY_CHARS_MAX),
        ("PICTURE_LIFE_S_MAX", limits::PICTURE_LIFE_S_MAX as usize),
        ("PICTURE_ORDER_BYTES_MAX", limits::PICTURE_ORDER_BYTES_MAX),
        ("PICTURE_STATE_BYTES_MAX", limits::PICTURE_STATE_BYTES_MAX),
        ("PICTURE_BYTES_MAX", limits::PICTURE_BYTES_MAX),
        ("PICTURE_PART_BYTES_MAX", limits::PICTURE_PART_BYTES_MAX),
        ("PICTURE_PARTS_MAX", limits::PICTURE_PARTS_MAX),
        ("ROSTER_BYTES_MAX", limits::ROSTER_BYTES_MAX),
        ("ROSTER_ITEMS_MAX", limits::ROSTER_ITEMS_MAX),
        ("SEAL_BYTES_MAX", SEAL_BYTES_MAX),
        ("SEAL_JSON_BYTES_MAX", SEAL_JSON_BYTES_MAX),
    ];
    let expect = expect.into_iter().chain(models::limits()).chain(learning::limits());
    let expect: Vec<_> = expect.map(|(name, value)| (name.to_owned(), value.to_string())).collect();
    assert_eq!(rows, expect);
}

#[test]
fn what_a_cause_is_called_is_the_same_everywhere() {
    for (number, cause) in GapCause::ALL.into_iter().enumerate() {
        assert_eq!(serde_json::to_string(&cause).unwrap(), format!("\"{}\"", cause.word()));
        assert!(PAGE.contains(&format!("{number} `{}`", cause.word())), "{cause:?}");
    }
}

#[test]
fn the_fullest_statistics_and_the_longest_event_fit_their_messages() {
    let name = |n: usize| format!("{n:a>width$}", width = limits::NAME_CHARS_MAX);
    let sink = SinkStats {
        sink: "snapshots".into(),
        state: "retrying".into(),
        pictures: u64::MAX,
        pictures_dropped: u64::MAX,
        bytes: u64::MAX,
        restarts: u64::MAX,
        errors: u64::MAX,
    };
    let camera = |n: usize| CameraStats {
        camera: CameraId::new(name(n)).unwrap(),
        state: "x".repeat(16),
        frames: u64::MAX,
        frames_dropped: u64::MAX,
        frames_gated: u64::MAX,
        frames_detected: u64::MAX,
        detections: u64::MAX,
        tracks: u64::MAX,
        persons_now: u32::MAX,
        fps: 1.234_567_8,
        inference_ms: 1.234_567_8,
        restarts: u64::MAX,
        last_error: Some("e".repeat(300)),
        fps_in: 1.234_567_8,
        format: Some("f".repeat(64)),
        frames_bad: u64::MAX,
        frames_frozen: u64::MAX,
        retry_in_s: Some(1.234_567_8),
        zones: (0..limits::EVENT_ZONES_MAX).map(|n| (ZoneId::new(name(n)).unwrap(), 500)).collect(),
        lines: (0..limits::CAMERA_LINES_MAX)
            .map(|n| (LineId::new(name(n)).unwrap(), Crossed { left_to_right: 1 << 40, right_to_left: 1 << 40 }))
            .collect(),
        bad_input: (0..6).map(|n| (format!("{n:a>16}"), u64::MAX)).collect(),
        sinks: vec![sink.clone(); 5],
    };
    let cameras: Vec<_> = (0..limits::SOURCES_MAX).map(camera).collect();
    let bytes = serde_json::to_vec(&cameras).unwrap().len();
    assert!(bytes + 2048 < limits::STATUS_BYTES_MAX, "the cameras alone are {bytes} bytes");

    let zones: Vec<_> = (0..limits::EVENT_ZONES_MAX).map(|n| ZoneId::new(name(n)).unwrap()).collect();
    let crossing = |n| Crossing {
        line: LineId::new(name(n)).unwrap(),
        direction: Direction::RightToLeft,
        frame_time_ms: u64::MAX,
    };
    let longest = Event {
        id: EventId::new("i".repeat(limits::EVENT_ID_CHARS_MAX)).unwrap(),
        station: StationId::new(name(1)).unwrap(),
        camera: CameraId::new(name(2)).unwrap(),
        label: name(3),
        model: name(4),
        covering_for: Some(StationId::new(name(5)).unwrap()),
        epoch: u64::MAX,
        current_zones: zones.clone(),
        entered_zones: zones.clone(),
        loitering_zones: zones,
        dwell_times_ms: vec![u64::MAX; limits::EVENT_ZONES_MAX],
        crossings: (0..limits::EVENT_CROSSINGS_MAX).map(crossing).collect(),
        count: Some(u32::MAX),
        ..event()
    };
    assert!(encode(&longest).is_ok(), "{:?}", encode(&longest));
    let too_many = Event { crossings: vec![crossing(0); limits::EVENT_CROSSINGS_MAX + 1], ..event() };
    assert!(encode(&too_many).is_err());
    let seen = SeenEvent::of(longest, NodeId::new(name(6)).unwrap(), Boot(u64::MAX), u64::MAX, u64::MAX);
    let recent = serde_json::to_vec(&Recent { events: vec![seen; limits::RECENT_EVENTS_MAX] }).unwrap();
    assert!(recent.len() + 1024 < limits::PACKET_BYTES_MAX, "the newest events are {} bytes", recent.len());
}

#[test]
fn statistics_of_an_older_agent_are_still_read() {
    let old = r#"{"time":1,"boot":1,"uptime_s":1,"resident_bytes":1,"events_stored":1,"events_acked":1,"events_pending":0,
        "events_lost":0,"events_resent":0,"rejected":{},"connects":1,"cameras":[]}"#;
    let stats: Stats = serde_json::from_str(old).unwrap();
    assert_eq!((stats.outbox, stats.events_backlog, stats.events_dead), (picket_shared::status::Mode::Live, 0, 0));
}

/// The rows of the first table below a heading, without back-ticks, heading row left out.
fn table(heading: &str) -> Vec<Vec<String>> {
    let at = PAGE.find(heading).unwrap_or_else(|| panic!("PROTOCOL.md has no {heading}"));
    let lines = PAGE[at..].lines().skip_while(|line| !line.starts_with('|'));
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|cell| cell.replace('`', "").trim().to_owned()).collect();
    lines.take_while(|line| line.starts_with('|')).skip(2).map(cells).collect()
}

/// The keys of the outermost object, in the order written.
fn keys_in_order(json: &str) -> Vec<String> {
    let (mut keys, mut depth, mut chars) = (Vec::new(), 0, json.chars());
    while let Some(c) = chars.next() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            '"' => {
                let text: String = chars.by_ref().take_while(|c| *c != '"').collect();
                if depth == 1 && chars.clone().next() == Some(':') {
                    keys.push(text);
                }
            }
            _ => {}
        }
    }
    keys
}
