//! What a simulated agent sees and says of itself. Only its amount matters to delivery, so its content is drawn.

use fastrand::Rng;
use picket_shared::duty::Duty;
use picket_shared::event::{Event, EventKind, Precision};
use picket_shared::ids::{Boot, CameraId, EventId, NodeId, StationId};
use picket_shared::status::{DetectorTwin, Twin};

/// An event of a track.
pub fn event(rng: &mut Rng, node: &NodeId, boot: Boot, track: u64, time_ms: u64) -> Event {
    let mut side = || rng.u16(..1000);
    let box_px = [side(), side(), side(), side()];
    // As tracks go: most of what is told of one is telemetry.
    let kind = [EventKind::New, EventKind::Update, EventKind::Update, EventKind::End][rng.usize(..4)];
    Event {
        id: EventId::of_track(node, boot, track),
        kind,
        station: StationId::new("gate").expect("a constant name"),
        camera: CameraId::new("front").expect("a constant name"),
        label: "person".into(),
        frame_time_ms: time_ms,
        start_time_ms: time_ms,
        end_time_ms: None,
        score: rng.f32(),
        top_score: rng.f32(),
        box_px,
        current_zones: vec![],
        entered_zones: vec![],
        stationary: false,
        model: "simulated".into(),
        precision: Precision::Fp32,
        covering_for: None,
        epoch: 0,
        dwell_times_ms: vec![],
        loitering_zones: vec![],
        crossings: vec![],
        count: None,
    }
}

/// What its station is to others.
pub fn duty(node: &NodeId) -> Duty {
    Duty { station: station(node), settings: String::new(), model: "simulated".into(), need_fps: 1 }
}

/// What a simulated agent is.
pub fn twin(node: &NodeId) -> Twin {
    let detector = DetectorTwin {
        model: "simulated".into(),
        layout: "none".into(),
        provider: "none".into(),
        precision: Precision::Fp32,
        workers: 1,
        threads: 0,
        runtime: "none".into(),
        passed_over: Default::default(),
    };
    let station = station(node);
    Twin { version: "0".into(), arch: "none".into(), station, cameras: vec![], detector }
}

/// Each node has a station of its own.
fn station(node: &NodeId) -> StationId {
    StationId::new(node.as_str()).expect("a node's name is a station's name")
}
