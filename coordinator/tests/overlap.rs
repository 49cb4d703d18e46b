//! Two cameras that see the same ground, and a real coordinator that compares what they say of it.

// All of this file is tests, its helpers too.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use common::*;
use picket_shared::codec;
use picket_shared::event::{Event, EventKind};
use picket_shared::ids::{CameraId, EventId, StationId, ZoneId};
use picket_shared::learn::label::Labels;
use picket_shared::topics::Topic;
use picket_shared::wire::EventBatch;
use serde_bytes::ByteBuf;

fn start(dir: &Path, ports: Ports) -> Coordinator {
    let config = dir.join("coordinator.toml");
    let spot = |station| format!("{{ station = \"{station}\", camera = \"street\", zone = \"door\" }}");
    let text = format!(
        "[learn]\nenabled = true\nbackbone = \"{}\"\n[[learn.overlap]]\none = {}\nother = {}\n",
        "ab".repeat(32),
        spot("gate"),
        spot("yard")
    );
    std::fs::write(&config, text).unwrap();
    Coordinator::start_with(dir, ports, &["--config", config.to_str().unwrap()])
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn twin(station: &str) -> Vec<u8> {
    let detector = serde_json::json!({
        "model": "0123456789ab", "layout": "centernet", "provider": "cpu", "precision": "int8", "threads": 1, "runtime": "1",
        "passed_over": {},
    });
    let twin = serde_json::json!({
        "version": "0", "arch": "x", "station": station, "cameras": ["street"], "detector": detector,
    });
    twin.to_string().into_bytes()
}

fn stats() -> Vec<u8> {
    let camera = serde_json::json!({
        "camera": "street", "state": "running", "frames": 1, "frames_dropped": 0, "frames_gated": 0, "frames_detected": 1,
        "detections": 1, "tracks": 1, "persons_now": 0, "fps": 1.0, "inference_ms": 1.0, "restarts": 0, "last_error": null,
    });
    let stats = serde_json::json!({
        "time": now_ms() / 1000, "boot": BOOT.0, "uptime_s": 1, "resident_bytes": 1, "events_stored": 1, "events_acked": 1,
        "events_pending": 0, "events_lost": 0, "events_resent": 0, "rejected": {}, "connects": 1, "cameras": [camera],
    });
    stats.to_string().into_bytes()
}

/// The beginning and the end of somebody's stay at the door, as events `2 * track - 1` and `2 * track` of the node.
fn stay(node: &Agent, station: &str, track: u64, from_ms: u64, score: f32) {
    let zone = ZoneId::new("door").unwrap();
    let moment = |at_ms: u64, ends: bool| {
        let plain: Event = codec::decode(&event(&node.node, track)).unwrap();
        let end_time_ms = ends.then_some(at_ms);
        let event = Event {
            kind: if ends { EventKind::End } else { EventKind::New },
            station: StationId::new(station).unwrap(),
            camera: CameraId::new("street").unwrap(),
            frame_time_ms: at_ms,
            start_time_ms: from_ms,
            end_time_ms,
            score,
            top_score: score,
            current_zones: vec![zone.clone()],
            entered_zones: vec![zone.clone()],
            dwell_times_ms: vec![at_ms - from_ms],
            ..plain
        };
        ByteBuf::from(codec::encode(&event).unwrap())
    };
    let (first, events) = (2 * track - 1, vec![moment(from_ms, false), moment(from_ms + 4_000, true)]);
    let batch = EventBatch { boot: BOOT, base: 1, first, events, gap: None };
    node.say(Topic::Events(node.node.clone()), codec::encode(&batch).unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_camera_saw_of_the_others_events_is_told_to_the_device_and_is_no_persons_word() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = start(dir.path(), Ports::free());
    let labels = Topic::LearnLabels(node("n-gate"));
    let mut gate = Agent::connect("n-gate", coordinator.ports, vec![labels.render(&site())]).await;
    let yard = Agent::connect("n-yard", coordinator.ports, vec![]).await;
    for (agent, station) in [(&gate, "gate"), (&yard, "yard")] {
        agent.say(Topic::Health(agent.node.clone()), health("up")).unwrap();
        agent.say(Topic::Twin(agent.node.clone()), twin(station)).unwrap();
    }
    let alive = |agent: &Agent| agent.say(Topic::Stats(agent.node.clone()), stats()).unwrap();
    let said = |agent: &Agent| {
        let last = agent.json(&labels).pop()?;
        Some(serde_json::from_value::<Labels>(last).unwrap())
    };
    // One whom this camera saw hardly and the other surely; and now and then one whom nobody else saw: on a busy machine either may
    // be taken for blind for a while.
    stay(&yard, "yard", 1, now_ms() - 30_000, 0.9);
    stay(&gate, "gate", 1, now_ms() - 30_000, 0.35);
    let (mut track, mut next_ms) = (1, 0);
    gate.until("both to be told", |gate| {
        alive(gate);
        alive(&yard);
        if now_ms() >= next_ms {
            (track, next_ms) = (track + 1, now_ms() + 10_000);
            stay(gate, "gate", track, now_ms() + 4_000, 0.8);
        }
        said(gate).is_some_and(|labels| labels.agreed.len() >= 2)
    })
    .await;
    let labels = said(&gate).unwrap();
    assert_eq!(
        (labels.agreed[0].event.clone(), labels.agreed[0].person),
        (EventId::of_track(&gate.node, BOOT, 1), true)
    );
    assert!(labels.agreed[1..].iter().all(|label| !label.person && label.event.node() == Some(node("n-gate"))));
    assert!(labels.agreed.iter().all(|label| label.who == "yard"));
    assert_eq!(labels.labels, []);
    assert!(coordinator.stop().success());
}
