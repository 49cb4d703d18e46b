//! Prints what the pure part of the frame path costs per frame: `cargo run --release -p picket-agent --example core_cost`.

use std::hint::black_box;
use std::time::Instant;

use picket_agent::frame::{Area, Detection, Frame};
use picket_agent::gate::{self, Gate};
use picket_agent::mask::Mask;
use picket_agent::observe::{self, Identity, Observer, Scene};
use picket_agent::polygon::Polygon;
use picket_agent::track::{self, Tracker};
use picket_shared::event::Precision;
use picket_shared::ids::{Boot, CameraId, NodeId, StationId};

const WIDTH: u32 = 768;
const HEIGHT: u32 = 576;
const FRAME_MS: u64 = 40;

fn main() -> anyhow::Result<()> {
    // A picture with something in it, so that no branch is always the same.
    let shade = |n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8;
    let rgb = (0..WIDTH * HEIGHT * 3).map(shade).collect();
    let mut frame = Frame { taken_ms: 0, width: WIDTH, height: HEIGHT, rgb };

    let zone = vec![[0.0, 0.0], [0.4, 0.1], [0.3, 0.5], [0.1, 0.4]];
    let mut mask = Mask::new(&[Polygon::new(zone).map_err(anyhow::Error::msg)?]);
    let mut gate = Gate::new(gate::Config::default());
    print_cost("mask, one zone of an eighth of the picture", 2_000, |_| mask.apply(black_box(&mut frame)));
    print_cost("gate, 768 x 576", 2_000, |n| {
        black_box(gate.decide(n * FRAME_MS, black_box(&frame), false));
    });

    let identity = Identity {
        node: NodeId::new("node")?,
        boot: Boot(1),
        station: StationId::new("station")?,
        camera: CameraId::new("camera")?,
        model: "0123456789ab".into(),
        precision: Precision::Fp32,
    };
    for people in [5, 20, 100] {
        let mut tracker = Tracker::new(track::Config::default());
        let mut observer = Observer::new(identity.clone(), Scene::default(), observe::Config::default());
        let (mut detections, mut events) = (Vec::new(), Vec::new());
        print_cost(&format!("track and observe, {people} people"), 2_000, |n| {
            walk(n, people, &mut detections);
            events.clear();
            let tracks = tracker.step(n * FRAME_MS, &detections);
            observer.step(n * FRAME_MS, (WIDTH, HEIGHT), tracks, &mut events);
            assert_eq!(tracks.len(), people as usize, "every person is one track");
        });
    }
    Ok(())
}

/// People who go to and fro in rows, close enough that boxes overlap.
fn walk(n: u64, people: u32, detections: &mut Vec<Detection>) {
    detections.clear();
    detections.extend((0..people).map(|person| {
        let (row, column) = (person / 10, person % 10);
        let sway = 30.0 * (n as f32 / 25.0 + person as f32).sin();
        let (x, y) = (column as f32 * 70.0 + 30.0 + sway, row as f32 * 45.0);
        Detection { area: Area { x1: x, y1: y, x2: x + 30.0, y2: y + 80.0 }, score: 0.6 }
    }));
}

fn print_cost(name: &str, rounds: u64, mut once: impl FnMut(u64)) {
    let mut taken_us: Vec<f64> = (0..rounds)
        .map(|n| {
            let began = Instant::now();
            once(n);
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    taken_us.sort_by(f64::total_cmp);
    let at = |share: f64| taken_us[(share * (taken_us.len() - 1) as f64) as usize];
    println!("{name}: median {:.1} µs, 99 % under {:.1} µs", at(0.5), at(0.99));
}
