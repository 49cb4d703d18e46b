//! The gate on the real sample video, with the real decoder and the real detector: what it saves where nothing happens, that
//! it loses no event where something does, and that a change of the light opens it and does not keep it open.
//!
//! Where there is no runtime library or no video, the tests fail and say what to do. `PICKET_GATE_WHOLE=1` looks at the whole
//! video and not only at a part.

// The allowance for tests does not reach the helpers between them.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::sample_video;
use picket_agent::capture::{self, Mailbox, NoFrame, Pace};
use picket_agent::detect::{self, Detector};
use picket_agent::frame::{Area, Frame};
use picket_agent::gate::{self, Gate, Reason, Verdict};
use picket_agent::observe::{self, Identity, Observer, Scene};
use picket_agent::track::{self, Tracker};
use picket_shared::event::{Event, EventKind, Precision};
use picket_shared::ids::{Boot, CameraId, NodeId, StationId};

/// The video's own frame interval.
const FRAME_MS: u64 = 100;
/// Frames between the looks of a gate that has nothing to look at: its floor rate.
const IDLE_FRAMES: u64 = 10;

/// Reads a part of the video through the real capture, with the video's own times.
fn watch(start_s: f64, crop: Option<[u32; 4]>, frames: u64, mut look: impl FnMut(u64, &Frame)) {
    let source = sample_video().to_str().unwrap().to_owned();
    let config = capture::Config { start_s, crop, pace: Pace::Max, ..capture::Config::new(source) };
    let mailbox = Mailbox::new(1);
    let camera = capture::start(0, CameraId::new("c").unwrap(), config, Some(frames), mailbox.clone());
    let mut now_ms = 1_000_000;
    loop {
        match mailbox.take(Duration::from_secs(30)) {
            Ok((_, frame)) => {
                look(now_ms, &frame);
                mailbox.recycle(0, frame);
                now_ms += FRAME_MS;
            }
            Err(NoFrame::Ended) => return,
            Err(NoFrame::TimedOut) => panic!("no frame: {:?}", camera.snapshot()),
        }
    }
}

fn detector() -> Detector {
    Detector::load(&detect::Config::default()).unwrap_or_else(|failure| panic!("{failure}"))
}

/// What comes after the detector, and what came out of it.
struct Follower {
    tracker: Tracker,
    observer: Observer,
    events: Vec<Event>,
}

impl Follower {
    fn new() -> Self {
        let identity = Identity {
            node: NodeId::new("n").unwrap(),
            boot: Boot(1),
            station: StationId::new("square").unwrap(),
            camera: CameraId::new("c").unwrap(),
            model: "0123456789ab".into(),
            precision: Precision::Fp32,
        };
        let observer = Observer::new(identity, Scene::default(), observe::Config::default());
        Self { tracker: Tracker::new(track::Config::default()), observer, events: Vec::new() }
    }

    fn step(&mut self, now_ms: u64, frame: &Frame, found: &[picket_agent::frame::Detection]) {
        let tracks = self.tracker.step(now_ms, found);
        self.observer.step(now_ms, (frame.width, frame.height), tracks, &mut self.events);
    }

    /// The beginnings, in order.
    fn begun(&self) -> Vec<&Event> {
        self.events.iter().filter(|event| event.kind == EventKind::New).collect()
    }
}

/// How many frames went by, and how many were looked at.
#[derive(Debug, Default, Clone, Copy)]
struct Looks {
    frames: u64,
    looked: u64,
}

impl Looks {
    fn saved(&self) -> f64 {
        1.0 - self.looked as f64 / self.frames as f64
    }
}

/// The whole path without a gate, with one, and with one that sees nothing, over the same detections.
fn compare(start_s: f64, crop: Option<[u32; 4]>, frames: u64) -> (Looks, [Follower; 3]) {
    let (mut detector, mut found, mut looks) = (detector(), Vec::new(), Looks::default());
    let mut gate = Gate::new(gate::Config::default());
    let nothing =
        gate::Config { threshold: 200.0, cells_min: 3_072, idle_interval_ms: 60_000, ..gate::Config::default() };
    let mut blind_gate = Gate::new(nothing);
    let (mut always, mut gated, mut blind) = (Follower::new(), Follower::new(), Follower::new());
    watch(start_s, crop, frames, |now_ms, frame| {
        detector.detect(frame, &mut found).unwrap();
        always.step(now_ms, frame, &found);
        looks.frames += 1;
        if gate.decide(now_ms, frame, gated.tracker.alive()) != Verdict::Skip {
            looks.looked += 1;
            gated.step(now_ms, frame, &found);
        }
        if blind_gate.decide(now_ms, frame, blind.tracker.alive()) != Verdict::Skip {
            blind.step(now_ms, frame, &found);
        }
    });
    (looks, [always, gated, blind])
}

fn area([x1, y1, x2, y2]: [u16; 4]) -> Area {
    Area { x1: x1.into(), y1: y1.into(), x2: x2.into(), y2: y2.into() }
}

#[test]
fn it_loses_no_event_of_the_sample_video() {
    let whole = std::env::var_os("PICKET_GATE_WHOLE").is_some();
    // The lawn, which nobody walks over for 52 seconds and then some do; and the square, where always somebody is.
    let (lawn, square) = if whole { ((0.0, 795), (0.0, 795)) } else { ((46.0, 130), (0.0, 40)) };
    for (name, crop, (start_s, frames), saved_min) in
        [("the lawn", Some([0, 352, 400, 224]), lawn, 0.3), ("the whole picture", None, square, 0.0)]
    {
        let (looks, [always, gated, blind]) = compare(start_s, crop, frames);
        println!("{name}: {looks:?}, {:.1} % saved, {} events", looks.saved() * 100.0, always.begun().len());
        assert_eq!(looks.frames, frames);
        assert!(looks.saved() >= saved_min, "{name}: {looks:?}");
        assert!(!always.begun().is_empty(), "{name} would prove nothing");
        // Each event that there is without the gate is there with it, at the same time and place.
        let mut left: Vec<&Event> = gated.begun();
        for event in always.begun() {
            let same = |other: &&Event| {
                other.frame_time_ms.abs_diff(event.frame_time_ms) <= FRAME_MS
                    && area(other.box_px).iou(&area(event.box_px)) > 0.3
            };
            let found = left.iter().position(same);
            let found = found.unwrap_or_else(|| panic!("{name}: the gate lost {event:?}"));
            left.remove(found);
        }
        let lost = saved_min > 0.0;
        assert_eq!(blind.begun().len() < always.begun().len(), lost, "{name}: a gate that sees nothing loses events");
        assert!(left.is_empty(), "{name}: the gate made events that are none: {left:?}");
    }
}

/// The square without people: of each pixel the median over the video.
fn empty_square() -> Frame {
    const EVERY: usize = 53;
    let (mut kept, mut n) = (Vec::new(), 0);
    watch(0.0, None, 795, |_, frame| {
        if n % EVERY == 0 {
            kept.push(frame.clone());
        }
        n += 1;
    });
    let mut empty = kept[0].clone();
    let mut values = vec![0; kept.len()];
    for (at, pixel) in empty.rgb.iter_mut().enumerate() {
        values.iter_mut().zip(&kept).for_each(|(value, frame)| *value = frame.rgb[at]);
        values.sort_unstable();
        *pixel = values[values.len() / 2];
    }
    empty
}

/// The picture in another light, with a sensor's noise of some levels: the mean of three even ones, as good as normal.
fn as_seen(picture: &Frame, light: f32, noise: i32, seed: &mut u64) -> Frame {
    let mut draw = || {
        // Knuth's MMIX generator.
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) as i32 % (2 * noise + 1) - noise
    };
    let mut seen = picture.clone();
    for value in &mut seen.rgb {
        let bright = (f32::from(*value) * light) as i32;
        *value = (bright + (draw() + draw() + draw()) / 3).clamp(0, 255) as u8;
    }
    seen
}

#[test]
fn a_static_scene_costs_the_floor_rate_and_a_change_of_the_light_is_over_soon() {
    let (mut detector, mut gate, mut found) = (detector(), Gate::new(gate::Config::default()), Vec::new());
    let (mut path, mut seed) = (Follower::new(), 1);
    let empty = empty_square();
    // A minute as it is, half a minute after the lamp went on, half a minute after it went off again; another two seconds
    // each are left to the change itself. A camera's noise is drawn for some frames, which then take turns.
    let lights = [(1.0, 600), (1.35, 300), (0.7, 300)];
    let mut now_ms = 1_000_000;
    for (light, frames) in lights {
        let drawn: Vec<Frame> = (0..8).map(|_| as_seen(&empty, light, 6, &mut seed)).collect();
        let (mut looks, mut reasons, mut gap, mut gap_max) = (Looks::default(), Vec::new(), 0, 0);
        for n in 0..frames {
            let frame = &drawn[(n * 5 + n / 8) as usize % drawn.len()];
            gap += 1;
            looks.frames += 1;
            if let Verdict::Detect { reason } = gate.decide(now_ms, frame, path.tracker.alive()) {
                detector.detect(frame, &mut found).unwrap();
                path.step(now_ms, frame, &found);
                looks.looked += 1;
                (gap_max, gap) = (gap_max.max(gap), 0);
                reasons.push((n, reason));
            }
            now_ms += FRAME_MS;
        }
        let settled: Vec<_> = reasons.iter().filter(|(n, _)| *n >= 20).collect();
        println!("light {light}: {looks:?}, {:.1} % saved; first {:?}", looks.saved() * 100.0, &reasons[..4]);
        assert!(looks.saved() >= 0.7, "light {light}: {looks:?} {reasons:?}");
        assert!(gap_max <= IDLE_FRAMES, "light {light}: {gap_max} frames without a look");
        assert!(settled.iter().all(|(_, reason)| *reason == Reason::Idle), "light {light}: {settled:?}");
        let opened = reasons[0].0 == 0 && matches!(reasons[0].1, Reason::SceneChange | Reason::Motion);
        assert_eq!(opened, light != 1.0, "light {light}: a change of the light is noticed at once: {reasons:?}");
    }
    assert!(path.begun().is_empty(), "nobody is there");
}
