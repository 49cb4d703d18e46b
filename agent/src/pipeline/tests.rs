//! The frame path as a whole, with the real runtime and model: what is masked reaches nobody, a clock that is set changes no
//! duration, and one camera's bad frames harm no other.
//!
//! Where there is no runtime library, the tests fail and say what to do.

use std::path::Path;

use super::*;
use crate::frame::{Area, Detection, Frame};
use crate::gate::Gate;
use crate::learn::tap::Taps;
use crate::mask::Mask;
use crate::model::peek::Peeks;
use crate::observe::{self, Identity, Line, Lines, Observer, Scene, Zone, Zones};
use crate::pictures;
use crate::polygon::Polygon;
use crate::sinks::Tap;
use crate::steady::SteadyClock;
use crate::track::Tracker;
use crate::{detect, gate, track};
use picket_shared::event::{EventKind, Precision};
use picket_shared::ids::{Boot, CameraId, LineId, NodeId, StationId, ZoneId};

const FRAME_MS: u64 = 100;
const HOUR_MS: u64 = 3_600_000;

fn detector() -> Detector {
    Detector::load(&detect::Config::default()).unwrap_or_else(|failure| panic!("{failure}"))
}

fn picture(name: &str) -> Frame {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name);
    pictures::read(&file).unwrap_or_else(|what| panic!("{name} {what}"))
}

fn crop(frame: &Frame, [left, top, width, height]: [u32; 4]) -> Frame {
    let row = |y: u32| {
        let from = ((top + y) * frame.width + left) as usize * 3;
        &frame.rgb[from..from + width as usize * 3]
    };
    Frame { taken_ms: 0, width, height, rgb: (0..height).flat_map(row).copied().collect() }
}

fn polygon(points: &[[f64; 2]]) -> Polygon {
    Polygon::new(points.to_vec()).unwrap()
}

fn stage(masks: &[Polygon], scene: Scene, config: observe::Config) -> Stage {
    let identity = Identity {
        node: NodeId::new("n").unwrap(),
        boot: Boot(1),
        station: StationId::new("square").unwrap(),
        camera: CameraId::new("c").unwrap(),
        model: "0123456789ab".into(),
        precision: Precision::Fp32,
    };
    Stage {
        mask: Mask::new(masks),
        gate: Gate::new(gate::Config::default()),
        detector: None,
        thresholds: detect::Config::default().thresholds(),
        tracker: Tracker::new(track::Config::default()),
        size_px: None,
        observer: Observer::new(identity, scene, config),
        tap: Tap::closed(),
        peeks: Peeks::default(),
        learn: None,
        clock: SteadyClock::default(),
        meter: Arc::default(),
    }
}

// ---- Privacy ---------------------------------------------------------------------------------------------------------

/// Numbers the pixels that lie in a zone, by points sampled in each: nothing of how the mask itself finds them.
fn covered(frame: &Frame, masks: &[Polygon]) -> Vec<usize> {
    const SAMPLES: u32 = 8;
    let inside = |x: u32, y: u32| {
        (0..SAMPLES * SAMPLES).any(|n| {
            let at = |pixel: u32, n: u32, of: u32| {
                (f64::from(pixel) + (f64::from(n) + 0.5) / f64::from(SAMPLES)) / f64::from(of)
            };
            let point = [at(x, n % SAMPLES, frame.width), at(y, n / SAMPLES, frame.height)];
            masks.iter().any(|mask| mask.contains(point))
        })
    };
    (0..frame.width * frame.height).filter(|n| inside(n % frame.width, n / frame.width)).map(|n| n as usize).collect()
}

/// What reaches the model's input and the gate's memory of one frame and the next, and how often the gate let it through.
fn reached(detector: &mut Detector, masks: &[Polygon], frames: [&Frame; 2]) -> (Vec<Vec<u8>>, Vec<f32>, u64) {
    let mut stage = stage(masks, Scene::default(), observe::Config::default());
    let (mut found, mut events, mut shown) = (Vec::new(), Vec::new(), Vec::new());
    for (n, frame) in frames.into_iter().enumerate() {
        // A second apart, so that the gate's floor rate lets both through.
        let now_ms = 1_000_000 + n as u64 * 1_000;
        stage.pass(now_ms, detector, &mut Frame { taken_ms: now_ms, ..frame.clone() }, &mut found, &mut events);
        shown.push(detector.shown());
    }
    let statistics = stage.gate.statistics().concat();
    (shown, statistics, stage.meter.read().frames_detected)
}

#[test]
fn a_teacher_sees_the_masked_picture_and_no_other() {
    let (mut detector, wide) = (detector(), picture("wide.png"));
    let (mut found, mut events) = (Vec::new(), Vec::new());
    let mut seen = |masks: &[Polygon]| {
        let (taps, mut next) = Taps::taught();
        let mut stage =
            Stage { learn: Some(taps.camera(0)), ..stage(masks, Scene::default(), observe::Config::default()) };
        stage.pass(1_000_000, &mut detector, &mut wide.clone(), &mut found, &mut events);
        next().unwrap()
    };
    assert_eq!(seen(&[]).rgb, wide.rgb);
    let strip = polygon(&[[0.0, 0.9], [1.0, 0.9], [1.0, 1.0], [0.0, 1.0]]);
    let masked = seen(std::slice::from_ref(&strip));
    let hidden = covered(&wide, &[strip]);
    assert!(hidden.len() > 100 && hidden.iter().all(|pixel| masked.rgb[pixel * 3..pixel * 3 + 3] == [0, 0, 0]));
    assert_ne!(masked.rgb, vec![0; masked.rgb.len()]);
}

#[test]
fn no_masked_pixel_reaches_the_tensor_or_the_gate() {
    let mut detector = detector();
    let rectangle = |x1: f64, y1: f64, x2: f64, y2: f64| polygon(&[[x1, y1], [x2, y1], [x2, y2], [x1, y2]]);
    let slanted = polygon(&[[0.13, 0.07], [0.91, 0.32], [0.55, 0.93]]);
    let star = polygon(&[[0.5, 0.0], [0.8, 0.9], [0.0, 0.35], [1.0, 0.35], [0.2, 0.9]]);
    let sliver = polygon(&[[0.3, -0.2], [0.32, -0.2], [0.71, 1.2], [0.69, 1.2]]);
    let (wide, tall, same) = (picture("wide.png"), picture("tall.png"), picture("same.png"));
    for (name, frame, masks) in [
        ("scaled, level edges", &wide, vec![rectangle(0.2, 0.3, 0.7, 0.8)]),
        ("scaled, slanting edges", &wide, vec![slanted.clone()]),
        ("letterboxed at the sides", &tall, vec![slanted.clone(), rectangle(0.6, 0.6, 1.5, 1.5)]),
        ("taken as it is", &same, vec![star.clone()]),
        ("thin, over the edges", &wide, vec![sliver.clone()]),
        ("an odd crop", &crop(&wide, [7, 3, 101, 77]), vec![slanted.clone(), sliver.clone()]),
        ("an odd and narrow crop", &crop(&tall, [5, 11, 33, 151]), vec![star]),
        ("a crop of one row", &crop(&wide, [1, 9, 97, 1]), vec![rectangle(0.33, 0.0, 0.66, 1.0)]),
        ("a very small crop, scaled up", &crop(&wide, [40, 40, 5, 3]), vec![slanted]),
        ("all of it", &same, vec![rectangle(-0.5, -0.5, 1.5, 1.5)]),
    ] {
        let covered = covered(frame, &masks);
        assert!(!covered.is_empty(), "{name} would prove nothing");
        let with = |canary: &dyn Fn(usize) -> [u8; 3]| {
            let mut frame = frame.clone();
            covered.iter().for_each(|&n| frame.rgb[n * 3..n * 3 + 3].copy_from_slice(&canary(n)));
            frame
        };
        // Black is what the mask itself makes; the others shout, in one colour and in noise.
        let (black, loud) = (with(&|_| [0; 3]), with(&|_| [255, 0, 255]));
        let noise = with(&|n| [n.wrapping_mul(2_654_435_761) as u8, (n >> 3) as u8 ^ 0xa5, 255 - n as u8]);
        let expect = reached(&mut detector, &masks, [&black, &black]);
        assert_eq!(expect.2, 2, "{name}: both frames are looked at");
        assert!(reached(&mut detector, &masks, [&loud, &noise]) == expect, "{name}: a masked pixel came through");
        // And without a mask they would be seen.
        let bare = reached(&mut detector, &[], [&loud, &noise]);
        assert!(bare.0 != expect.0 && bare.1 != expect.1, "{name}: the canary is not seen even without a mask");
    }
}

#[test]
fn what_moves_behind_a_mask_opens_no_gate() {
    let mut detector = detector();
    let masks = [polygon(&[[0.1, 0.1], [0.9, 0.2], [0.8, 0.9], [0.2, 0.8]])];
    let empty = Frame { taken_ms: 0, width: 160, height: 120, rgb: vec![90; 160 * 120 * 3] };
    let covered = covered(&empty, &masks);
    for (masks, expect) in [(&masks[..], 1), (&[], 8)] {
        let mut stage = stage(masks, Scene::default(), observe::Config::default());
        let (mut found, mut events) = (Vec::new(), Vec::new());
        for n in 0..8u64 {
            let mut frame = Frame { taken_ms: 1_000_000 + n * FRAME_MS, ..empty.clone() };
            covered.iter().for_each(|&at| frame.rgb[at * 3..at * 3 + 3].fill((n * 97) as u8));
            stage.pass(n * FRAME_MS, &mut detector, &mut frame, &mut found, &mut events);
        }
        assert_eq!(stage.meter.read().frames_detected, expect, "{} masks", masks.len());
    }
}

// ---- Time ------------------------------------------------------------------------------------------------------------

/// Everything that is told of a person who stands still for some frames, with the wall clock set in the middle.
fn told_with_a_clock_set_by(set_ms: i64, detector: &mut Detector) -> (Vec<Event>, u64) {
    let all = Zone {
        dwell_ms: Some(1_500),
        crowd_at: Some(1),
        crowd_ms: 1_000,
        ..Zone::new(ZoneId::new("all").unwrap(), polygon(&[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))
    };
    let line = Line { name: LineId::new("l").unwrap(), from: [0.0, 0.0], to: [0.0, 1.0] };
    let scene = Scene { zones: Zones::new(vec![all]).unwrap(), lines: Lines::new(vec![line]).unwrap() };
    let config = observe::Config { stationary_ms: 1_800, ..observe::Config::default() };
    let (mut stage, picture) = (stage(&[], scene, config), picture("wide.png"));
    let (mut found, mut events) = (Vec::new(), Vec::new());
    for n in 0..24 {
        let wall_ms = 10 * HOUR_MS + n * FRAME_MS;
        let wall_ms = if n < 9 { wall_ms } else { wall_ms.checked_add_signed(set_ms).unwrap() };
        let mut frame = Frame { taken_ms: wall_ms, ..picture.clone() };
        stage.pass(50_000 + n * FRAME_MS, detector, &mut frame, &mut found, &mut events);
    }
    stage.finish(&mut events);
    let jumps = stage.meter.bad_input().get("clock_jump").copied().unwrap_or(0);
    (events, jumps)
}

#[test]
fn a_clock_set_by_an_hour_ends_nothing_and_makes_nobody_loiter() {
    let mut detector = detector();
    let (expect, jumps) = told_with_a_clock_set_by(0, &mut detector);
    assert_eq!(jumps, 0);
    let kinds = |events: &[Event], kind: EventKind| events.iter().filter(|event| event.kind == kind).count();
    assert!(
        kinds(&expect, EventKind::New) > 1 && expect.iter().any(|event| event.stationary),
        "it would prove nothing"
    );
    assert!(expect.iter().any(|event| !event.loitering_zones.is_empty() && event.label == "person"));
    for set_ms in [HOUR_MS as i64, -(HOUR_MS as i64)] {
        let (mut told, jumps) = told_with_a_clock_set_by(set_ms, &mut detector);
        assert_eq!(jumps, 1);
        // The same is told, only at the new time once the clock was set.
        for event in &mut told {
            if event.frame_time_ms.abs_diff(10 * HOUR_MS) < HOUR_MS / 2 {
                continue;
            }
            let back = |ms: u64| ms.checked_add_signed(-set_ms).unwrap();
            event.frame_time_ms = back(event.frame_time_ms);
            event.start_time_ms = back(event.start_time_ms);
            event.end_time_ms = event.end_time_ms.map(back);
        }
        assert_eq!(told, expect, "the clock set by {set_ms} ms");
    }
}

// ---- Bad input -------------------------------------------------------------------------------------------------------

#[test]
fn one_cameras_bad_frames_are_counted_and_the_other_sees_what_it_would_have_seen() {
    let mut detector = detector();
    let good = picture("wide.png");
    let sized = |width: u32, height: u32, bytes: usize| Frame { taken_ms: 0, width, height, rgb: vec![7; bytes] };
    let mut torn = good.clone();
    torn.rgb.pop();
    let bad = [
        torn,
        sized(0, 0, 0),
        sized(0, 480, 0),
        sized(640, 0, 0),
        sized(u32::MAX, u32::MAX, 3),
        sized(9_000, 1, 27_000),
        sized(640, 480, 0),
    ];
    let mut seen_by = |bad: &[Frame]| {
        let two = || stage(&[], Scene::default(), observe::Config::default());
        let (mut one, mut other) = (two(), two());
        let (mut found, mut events, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..14u64 {
            let now_ms = 1_000_000 + n * FRAME_MS;
            if let Some(frame) = bad.get(n as usize % bad.len().max(1)) {
                // Far enough apart that the gate lets each through.
                let mut frame = Frame { taken_ms: 1_000_000 + n * 2_000, ..frame.clone() };
                one.pass(n * 2_000, &mut detector, &mut frame, &mut found, &mut told);
            }
            let mut frame = Frame { taken_ms: now_ms, ..good.clone() };
            other.pass(n * FRAME_MS, &mut detector, &mut frame, &mut found, &mut events);
        }
        assert_eq!(told, [], "nothing is seen in frames that are none");
        (events, other.meter.read().frames_detected, one.meter.bad_input())
    };
    let (expect, detected, _) = seen_by(&[]);
    assert!(!expect.is_empty() && detected == 14, "it would prove nothing");
    let (events, still_detected, counted) = seen_by(&bad);
    assert_eq!((events, still_detected), (expect, detected));
    assert!(counted["frame"] >= bad.len() as u64, "{counted:?}");
}

/// The picture in the upper left of a larger black one.
fn framed(frame: &Frame, width: u32, height: u32) -> Frame {
    let mut rgb = vec![0; width as usize * height as usize * 3];
    let rows = frame.rgb.chunks_exact(frame.width as usize * 3);
    for (to, from) in rgb.chunks_exact_mut(width as usize * 3).zip(rows) {
        to[..from.len()].copy_from_slice(from);
    }
    Frame { taken_ms: 0, width, height, rgb }
}

#[test]
fn a_picture_of_another_size_is_another_scene_and_nobody_crosses_a_line_by_it() {
    let mut detector = detector();
    let small = picture("wide.png");
    // Whoever stands in the picture comes to stand at two thirds of where he stood, and in the same pixels.
    let large = framed(&small, small.width * 3 / 2, small.height * 3 / 2);
    let lines = [0.3, 0.4, 0.5, 0.6].map(|x| Line {
        name: LineId::new(format!("at-{}", x * 10.0)).unwrap(),
        from: [x, 1.0],
        to: [x, 0.0],
    });
    let scene = Scene { lines: Lines::new(lines.to_vec()).unwrap(), ..Scene::default() };
    let mut stage = stage(&[], scene, observe::Config::default());
    let (mut found, mut told) = (Vec::new(), Vec::new());
    let mut show = |frame: &Frame, times: std::ops::Range<u64>| {
        for n in times {
            let mut frame = Frame { taken_ms: 1_000_000 + n * FRAME_MS, ..frame.clone() };
            stage.pass(n * FRAME_MS, &mut detector, &mut frame, &mut found, &mut told);
        }
        std::mem::take(&mut told)
    };
    let ids = |events: &[Event], kind| -> Vec<String> {
        events.iter().filter(|event| event.kind == kind).map(|event| event.id.to_string()).collect()
    };
    let before = show(&small, 0..8);
    let after = show(&large, 8..16);
    let (begun, ended, begun_anew) =
        (ids(&before, EventKind::New), ids(&after, EventKind::End), ids(&after, EventKind::New));
    assert!(!begun.is_empty() && !begun_anew.is_empty(), "it would prove nothing: {before:?} {after:?}");
    assert_eq!(begun, ended, "each of them ends with the picture that it was in");
    assert!(begun_anew.iter().all(|id| !begun.contains(id)), "{begun:?} {begun_anew:?}");
    assert!(after.iter().all(|event| event.crossings.is_empty()), "nobody has moved: {after:?}");
}

#[test]
fn ten_thousand_candidates_are_bounded_counted_and_followed_where_they_make_sense() {
    let mut stage = stage(&[], Scene::default(), observe::Config::default());
    let place = |n: u64| {
        let (x, y) = ((n % 100) as f32 * 7.0, (n / 100) as f32 * 5.0);
        Area { x1: x, y1: y, x2: x + 30.0, y2: y + 80.0 }
    };
    let detections: Vec<Detection> = (0..10_000u64)
        .map(|n| match n % 4 {
            0 => Detection { area: Area { x2: f32::NAN, ..place(n) }, score: 0.9 },
            1 => Detection { area: Area { x2: 1e30, ..place(n) }, score: 0.9 },
            2 => Detection { area: place(n), score: f32::INFINITY },
            _ => Detection { area: place(n), score: 0.3 + (n % 7) as f32 / 10.0 },
        })
        .collect();
    let mut events = Vec::new();
    for n in 0..5 {
        let tracks = stage.tracker.step(n * FRAME_MS, &detections);
        stage.observer.step(n * FRAME_MS, (768, 576), tracks, &mut events);
    }
    let counts = stage.tracker.counts();
    assert_eq!(counts.detections_refused, 5 * 7_500);
    assert_eq!(counts.detections_over, 5 * (2_500 - track::DETECTIONS_MAX as u64));
    assert!(!events.is_empty() && events.len() <= 5 * track::DETECTIONS_MAX, "{}", events.len());
    assert!(events.iter().all(|event| event.box_px[2] <= 768 && event.box_px[3] <= 576));
}

// ---- Workers ---------------------------------------------------------------------------------------------------------

/// Two workers over so many cameras that never end.
fn two_workers(cameras: usize) -> (Pipeline, std::sync::mpsc::Sender<Change>) {
    let (changes, changed) = std::sync::mpsc::channel();
    let mailbox = Mailbox::new(0);
    for _ in 0..cameras {
        let (slot, mut stage) = (mailbox.open(), stage(&[], Scene::default(), observe::Config::default()));
        stage.tracker = Tracker::numbered(track::Config::default(), slot as u64 + 1, cameras as u64);
        changes.send(Change::Add(slot, Box::new(stage))).unwrap();
    }
    let detectors = vec![detector(), detector()];
    let (started, raw) = (Instant::now(), Raw::default());
    (Pipeline { mailbox, detectors, changes: changed, started, raw_runs: 0, raw, bare: false }, changes)
}

fn people(taken_ms: u64) -> Frame {
    Frame { taken_ms, ..picture("wide.png") }
}

#[test]
fn the_events_of_each_camera_are_in_order_with_several_workers_and_nothing_follows_an_end() {
    let (pipeline, changes) = two_workers(3);
    let (mailbox, pulse) = (pipeline.mailbox.clone(), Pulse::new(2));
    let told: Mutex<Vec<Event>> = Mutex::default();
    let speed = std::thread::scope(|scope| {
        for camera in 0..3 {
            let (mailbox, changes) = (mailbox.clone(), changes.clone());
            scope.spawn(move || {
                for n in 1..=20 {
                    mailbox.put(camera, people(n * FRAME_MS), crate::capture::Pace::Max);
                    if camera == 0 && n == 10 {
                        changes.send(Change::Remove(0)).unwrap();
                    }
                }
                mailbox.end(camera);
            });
        }
        pipeline.run(&pulse, |event| lock(&told).push(event))
    });
    assert!(speed.frames >= 40, "{speed:?}");
    let told = told.into_inner().unwrap();
    let mut lives: BTreeMap<String, Vec<(EventKind, u64)>> = BTreeMap::new();
    for event in &told {
        lives.entry(event.id.to_string()).or_default().push((event.kind, event.frame_time_ms));
    }
    assert!(lives.len() >= 3, "somebody in each camera: {lives:?}");
    for (id, life) in &lives {
        let [(EventKind::New, _), between @ .., (EventKind::End, _)] = &life[..] else { panic!("{id}: {life:?}") };
        assert!(between.iter().all(|(kind, _)| *kind == EventKind::Update), "{id}: {life:?}");
        assert!(life.is_sorted_by_key(|(_, frame_time_ms)| *frame_time_ms), "{id}: {life:?}");
    }
}

#[test]
fn a_worker_that_fails_ends_the_others() {
    let (pipeline, _changes) = two_workers(1);
    let mailbox = pipeline.mailbox.clone();
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let run = || pipeline.run(&Pulse::new(2), |_| panic!("a fault, for a test"));
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err();
        ended.send(failed).unwrap();
    });
    for n in 1..=10 {
        mailbox.put(0, people(n * FRAME_MS), crate::capture::Pace::Realtime);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(end.recv_timeout(Duration::from_secs(60)), Ok(true));
}

#[test]
fn a_worker_that_took_a_frame_before_its_camera_went_finds_no_stage_after_the_end() {
    let (send, changes) = std::sync::mpsc::channel();
    let (mailbox, pulse) = (Mailbox::new(1), Pulse::new(1));
    let work = Work {
        mailbox: &mailbox,
        stages: Mutex::new(Stages { changes, by_slot: BTreeMap::new() }),
        exchange: Exchange::default(),
        pulse: &pulse,
        tell: |_| {},
        started: Instant::now(),
        bare: false,
    };
    send.send(Change::Add(0, Box::new(stage(&[], Scene::default(), observe::Config::default())))).unwrap();
    work.follow();
    // One worker is here: it has the frame, and not the lock yet.
    let seat = work.seat(0);
    assert!(lock(&seat).is_some());
    send.send(Change::Remove(0)).unwrap();
    work.follow();
    assert!(lock(&seat).is_none(), "what it has passes nowhere: the camera's events have ended");
    assert!(lock(&work.seat(0)).is_none());
}

// ---- Another model ---------------------------------------------------------------------------------------------------

/// A model that works as the built-in one does and is another file, with its head.
fn another_model(dir: &Path) -> detect::Config {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut model = std::fs::read(models.join("centernet_u8_384x288_top100_w16.onnx")).unwrap();
    // The field doc_string of an ONNX file, again.
    model.extend(b"\x32\x07another");
    std::fs::write(dir.join("a.onnx"), model).unwrap();
    std::fs::copy(models.join("centernet_person.head.f32"), dir.join("a.head.f32")).unwrap();
    detect::Config { model: dir.join("a.onnx").to_string_lossy().into_owned(), ..detect::Config::default() }
}

#[test]
fn the_workers_change_to_another_model_between_two_frames_and_no_frame_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let config = another_model(dir.path());
    let (pipeline, changes) = two_workers(2);
    let (mailbox, pulse) = (pipeline.mailbox.clone(), Arc::new(Pulse::new(2)));
    let (told, events) = std::sync::mpsc::channel();
    let running = std::thread::spawn({
        let pulse = Arc::clone(&pulse);
        move || pipeline.run(&pulse, |event| drop(told.send(event)))
    });
    let give = |from: u64, to: u64| {
        for n in from..to {
            for camera in 0..2 {
                // Each waits until the one before was taken: none is dropped, whatever the machine is busy with.
                assert!(mailbox.put(camera, people(n * FRAME_MS), crate::capture::Pace::Max));
            }
        }
    };
    give(1, 15);
    let began = Instant::now();
    let detectors: Vec<Detector> = (0..2).map(|_| Detector::load(&config).unwrap()).collect();
    let (loaded, new) = (began.elapsed(), detectors[0].named().0.to_owned());
    let (done, swapped) = std::sync::mpsc::channel();
    let (gap, first) = std::sync::mpsc::channel();
    let last = Instant::now();
    assert!(changes.send(Change::Swap(Swap { detectors, done, gap })).is_ok());
    give(15, 40);
    let swapped = swapped.recv_timeout(Duration::from_secs(60)).unwrap();
    let gap = first.recv_timeout(Duration::from_secs(60)).expect("the first frame with the new model is told of");
    println!("from the last frame of the one to the first of the other: {:.1} ms", gap.as_secs_f64() * 1e3);
    // It is looked for between two frames that were looked at, of which the first was given before the change.
    assert!(gap > Duration::ZERO && gap < last.elapsed() + loaded, "{gap:?}");
    assert!(first.recv().is_err(), "it is told once");
    println!("loaded in {:.0} ms, changed in {} µs", loaded.as_secs_f64() * 1e3, swapped.took.as_micros());
    let old = swapped.old.iter().map(|detector| detector.named().0).collect::<Vec<_>>();
    assert_eq!(old, [detect::builtin_digest(); 2]);
    (0..2).for_each(|camera| mailbox.end(camera));
    let speed = running.join().unwrap();
    assert_eq!((speed.frames, [0, 1].map(|camera| mailbox.dropped(camera))), (2 * 39, [0, 0]));
    let models: Vec<String> = events.try_iter().map(|event| event.model).collect();
    let changed = models.iter().position(|model| *model == new).expect("the new model was told of");
    assert!(changed > 0 && models[..changed].iter().all(|model| model == detect::builtin_digest()), "{models:?}");
    let (late, sent) = std::sync::mpsc::channel();
    let (gap, _first) = std::sync::mpsc::channel();
    drop(changes.send(Change::Swap(Swap { detectors: vec![], done: late, gap })));
    assert!(sent.recv().is_err(), "the frame path has ended");
}
