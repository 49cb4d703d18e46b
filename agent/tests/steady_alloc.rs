//! Nothing is allocated for a frame in steady state: the real path from the decoder's pipe to the observer, with the heap
//! counted.
//!
//! The runtime is not ours: what `session.run` takes is measured by the same path without everything else, and taken away.
//! It has a test binary of its own, because an allocator is a whole process's.

// A test may unwrap; clippy's own exception knows only functions that are marked as tests.
#![allow(clippy::unwrap_used)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use common::{LONG, started};
use picket_agent::capture::{Config, Pace};
use picket_agent::detect::Detector;
use picket_agent::frame::Frame;
use picket_agent::gate::{self, Gate};
use picket_agent::mask::Mask;
use picket_agent::model::peek::Peeks;
use picket_agent::observe::{self, Identity, Line, Lines, Observer, Scene, Zone, Zones};
use picket_agent::pipeline::{Change, Meter, Pipeline, Pulse, Raw, Stage};
use picket_agent::polygon::Polygon;
use picket_agent::sinks::Tap;
use picket_agent::steady::SteadyClock;
use picket_agent::track::{self, Tracker};
use picket_agent::{detect, pictures};
use picket_shared::event::Precision;
use picket_shared::ids::{Boot, CameraId, LineId, NodeId, StationId, ZoneId};

/// Frames until every buffer has its size and everybody in the picture has an event.
const WARM: u64 = 40;
/// Frames that are counted.
const COUNTED: u64 = 120;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: each call goes to the system's allocator unchanged; the counter is an atomic that allocates nothing.
#[allow(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(place, layout, bytes) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

/// A picture with people in it, as the decoder would write it.
fn write_ppm(place: &Path) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/wide.png");
    let Frame { width, height, rgb, .. } = pictures::read(&file).unwrap();
    let mut bytes = format!("P6\n{width} {height}\n255\n").into_bytes();
    bytes.extend_from_slice(&rgb);
    std::fs::write(place, bytes).unwrap();
}

/// That picture again and again, from a child process.
fn config(picture: &Path) -> Config {
    let play = ["sh", "-c", "while cat \"$PICKET_URL\"; do :; done"].map(String::from).to_vec();
    Config { decoder: Some(play), pace: Pace::Max, ..Config::new(picture.to_str().unwrap()) }
}

/// All that a camera can have but sinks: a mask, the gate, a zone, a line.
fn stage(meter: Arc<Meter>) -> Stage {
    let polygon = |points: &[[f64; 2]]| Polygon::new(points.to_vec()).unwrap();
    let zone = Zone::new(ZoneId::new("square").unwrap(), polygon(&[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]));
    let line = Line { name: LineId::new("door").unwrap(), from: [0.5, 0.0], to: [0.5, 1.0] };
    let scene = Scene { zones: Zones::new(vec![zone]).unwrap(), lines: Lines::new(vec![line]).unwrap() };
    let identity = Identity {
        node: NodeId::new("n").unwrap(),
        boot: Boot(1),
        station: StationId::new("s").unwrap(),
        camera: CameraId::new("yard").unwrap(),
        model: "0123456789ab".into(),
        precision: Precision::Fp32,
    };
    Stage {
        mask: Mask::new(&[polygon(&[[0.0, 0.0], [0.1, 0.0], [0.1, 0.1]])]),
        gate: Gate::new(gate::Config::default()),
        detector: None,
        thresholds: detect::Config::default().thresholds(),
        tracker: Tracker::new(track::Config::default()),
        size_px: None,
        // Nobody moves, so that nothing but an update in between would be told.
        observer: Observer::new(identity, scene, observe::Config { update_interval_ms: 600_000, ..Default::default() }),
        tap: Tap::closed(),
        peeks: Peeks::default(),
        learn: None,
        clock: SteadyClock::default(),
        meter,
    }
}

/// What the frames after the first few took: allocations for each, people seen in the last, and events told of all.
fn run(picture: &Path, bare: bool) -> (f64, u32, usize) {
    let (camera, mailbox) = started(config(picture), None);
    let (tell, changes) = mpsc::channel();
    let meter = Arc::<Meter>::default();
    tell.send(Change::Add(0, Box::new(stage(Arc::clone(&meter))))).unwrap();
    let detectors = Detector::load_workers(&detect::Config::default()).unwrap_or_else(|failure| panic!("{failure}"));
    let pipeline =
        Pipeline { mailbox, detectors, changes, started: Instant::now(), raw_runs: 0, raw: Raw::default(), bare };
    let (pulse, told) = (Pulse::new(1), AtomicUsize::new(0));
    // Neither waiting nor looking allocates.
    let at = |frames: u64| {
        let began = Instant::now();
        while meter.read().frames_detected < frames {
            assert!(began.elapsed() < LONG, "no frame {frames}");
            std::thread::sleep(Duration::from_millis(1));
        }
        (ALLOCATIONS.load(Ordering::Relaxed), meter.read().frames_detected)
    };
    let taken = std::thread::scope(|scope| {
        scope.spawn(|| {
            pipeline.run(&pulse, |_| {
                told.fetch_add(1, Ordering::Relaxed);
            })
        });
        let (before, first) = at(WARM);
        let told_before = told.load(Ordering::Relaxed);
        let (after, last) = at(WARM + COUNTED);
        let persons_now = meter.read().persons_now;
        assert_eq!(told.load(Ordering::Relaxed), told_before, "something was told meanwhile, and that allocates");
        pulse.stop.store(true, Ordering::Relaxed);
        ((after - before) as f64 / (last - first) as f64, persons_now, told_before)
    });
    drop(camera);
    taken
}

#[test]
fn a_frame_of_which_nothing_is_told_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("people.ppm");
    write_ppm(&picture);
    let (of_the_runtime, ..) = run(&picture, true);
    let (of_all, persons_now, told) = run(&picture, false);
    println!("allocations for a frame: {of_the_runtime:.2} by the runtime, {of_all:.2} by all");
    assert!(persons_now > 0 && told > 0, "{persons_now} people, {told} events: everybody had something to do");
    // Both are read in the middle of some frame, so that a part of the runtime's for one frame may be missing.
    assert!((of_all - of_the_runtime).abs() < 0.5, "{of_the_runtime:.2} by the runtime, {of_all:.2} by all");
}
