//! Learning against the real detector: a head of zeros changes no detection, what a head costs for a frame, and how much memory a
//! station takes that knows all it can know.
//!
//! It has a test binary of its own, because an allocator is a whole process's.

// A test may unwrap; clippy's own exception knows only functions that are marked as tests.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use picket_agent::detect::{self, Backbone, Detector, Rescore};
use picket_agent::frame::{Area, Detection};
use picket_agent::learn::examples::{HELD_OUT_MAX, KEPT_MAX, WAITING_MAX};
use picket_agent::learn::features::inputs;
use picket_agent::learn::judge::{Bench, Head, Judge, Seen};
use picket_agent::learn::miner::Frame;
use picket_agent::learn::student::{Effect, Input, Student, Terms};
use picket_agent::pictures;
use picket_agent::track::{State, Track};
use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::ids::{Boot, EventId, NodeId};
use picket_shared::learn::label::{Label, Labels};
use picket_shared::learn::lineage::{HeadKind, HeadShape, Lineage};
use picket_shared::learn::message::HeadFull;
use picket_shared::random::SplitMix64;
use picket_shared::topics::Topic;

/// What a station's learning may take at once, of a network that shows 128 features.
const PEAK_BYTES_MAX: usize = 6 * 1024 * 1024;

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    /// Only what this thread takes is counted: tests run beside each other.
    static COUNTS: Cell<bool> = const { Cell::new(false) };
}

fn taken(bytes: usize) {
    if COUNTS.try_with(Cell::get).unwrap_or(false) {
        let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
        PEAK.fetch_max(now, Ordering::Relaxed);
    }
}

fn given(bytes: usize) {
    if COUNTS.try_with(Cell::get).unwrap_or(false) {
        NOW.fetch_sub(bytes, Ordering::Relaxed);
    }
}

// SAFETY: each call goes to the system's allocator unchanged; the counters are atomics that allocate nothing.
#[allow(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        given(layout.size());
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // Both may be there at once.
        taken(bytes);
        let moved = unsafe { System.realloc(place, layout, bytes) };
        given(layout.size());
        moved
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

fn head(backbone: &Arc<Backbone>, shape: HeadShape, width: f32) -> Head {
    let mut random = SplitMix64::new(3);
    let numbers = (0..shape.parameters()).map(|_| (random.normals()[0] as f32) * width).collect();
    Head { backbone: Arc::clone(backbone), shape, numbers }
}

fn found(detector: &mut Detector, frame: &picket_agent::frame::Frame, judge: Option<&mut Judge>) -> Vec<Detection> {
    let mut found = Vec::new();
    match judge {
        Some(judge) => detector.detect_judged(frame, judge, &mut found).unwrap(),
        None => detector.detect(frame, &mut found).unwrap(),
    };
    found
}

#[test]
fn a_head_of_zeros_changes_no_detection_and_another_one_does() {
    let mut detector = Detector::load(&detect::Config::default()).unwrap_or_else(|failure| panic!("{failure}"));
    let backbone = Arc::clone(detector.backbone().unwrap());
    let shape = HeadShape::logistic(inputs(backbone.features) as u32);
    assert_eq!((backbone.features, shape.inputs), (128, 137));
    let (bench, mut people) = (Bench::default(), 0);
    let mut judge = Judge::new(bench.clone());
    for name in ["wide.png", "tall.png", "same.png"] {
        let frame = pictures::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)).unwrap();
        bench.seat(None);
        let alone = found(&mut detector, &frame, None);
        people += alone.len();
        assert_eq!(found(&mut detector, &frame, Some(&mut judge)), alone, "{name}: without a head");
        bench.seat(Some(head(&backbone, shape, 0.0)));
        assert_eq!(found(&mut detector, &frame, Some(&mut judge)), alone, "{name}: a head of zeros");
        // One that takes everybody for nobody, by its bias.
        let mut nobody = head(&backbone, shape, 0.0);
        *nobody.numbers.last_mut().unwrap() = -20.0;
        bench.seat(Some(nobody));
        assert_eq!(found(&mut detector, &frame, Some(&mut judge)), [], "{name}");
    }
    assert!(people > 0);
}

#[test]
fn what_a_head_costs_for_a_frame_is_told() {
    let backbone = Arc::new(Backbone { sha256: "ab".repeat(32), features: 128 });
    let mut random = SplitMix64::new(1);
    let seen: Vec<f32> = (0..100 * 128).map(|_| random.normals()[0].max(0.0) as f32).collect();
    let place = |n: usize| Area { x1: n as f32 * 6.0, y1: 10.0, x2: n as f32 * 6.0 + 20.0, y2: 70.0 };
    let all: Vec<Detection> = (0..100).map(|n| Detection { area: place(n), score: 0.9 - n as f32 / 125.0 }).collect();
    let rows: Vec<usize> = (0..100).collect();
    let bench = Bench::default();
    let mut judge = Judge::new(bench.clone());
    for (what, kind) in [("linear", HeadKind::Logistic), ("16 hidden units", HeadKind::Mlp16)] {
        let shape = HeadShape { kind, inputs: 137, classes: 2 };
        bench.seat(Some(head(&backbone, shape, 0.05)));
        let mut least = Duration::MAX;
        for _ in 0..200 {
            let mut candidates = all.clone();
            let begun = Instant::now();
            judge.rescore(&backbone, (640, 480), &mut candidates, &rows, &seen);
            least = least.min(begun.elapsed());
            assert_ne!(candidates, all);
        }
        println!("100 candidates judged by a head, {what}: {:.1} us for a frame", least.as_secs_f64() * 1e6);
    }
}

#[test]
fn a_station_that_knows_all_it_can_keeps_within_its_memory() {
    let (backbone, node) =
        (Arc::new(Backbone { sha256: "ab".repeat(32), features: 128 }), NodeId::new("station").unwrap());
    let terms = Terms {
        node: node.clone(),
        boot: Boot(7),
        rate: 0.3,
        held_out_percent: 20,
        held_out_min: 50,
        confirmed_leave: true,
        seed: 1,
    };
    let shape = HeadShape::logistic(137);
    let lineage = Lineage { fleet_epoch: 1, backbone: backbone.sha256.clone(), shape };
    let full = HeadFull::of(lineage.clone(), 1, &shape.beginning(), None, false);
    let full = codec::encode(&full).unwrap();
    let now = |ms: u64| Now { mono_ms: ms, unix_ms: 1_800_000_000_000 };
    COUNTS.set(true);
    let mut student = Student::recover(terms, Arc::clone(&backbone), Vec::new(), now(0));
    let mut updates = 0;
    let mut step = |student: &mut Student, ms: u64, input: Input| {
        let mut effects = Vec::new();
        student.step(now(ms), input, &mut effects);
        updates += effects.iter().filter(|effect| matches!(effect, Effect::Say(Topic::LearnUpdate(_), _))).count();
    };
    step(&mut student, 0, Input::Online(true));
    step(&mut student, 0, Input::Heard(Topic::LearnHead(lineage.id()), full));
    let mut random = SplitMix64::new(2);
    // Thirty candidates in each frame of four cameras; a new person in each of them, whom somebody says something of.
    for number in 1..=2_000u64 {
        for camera in 0..4usize {
            let place = |n: usize| Area { x1: n as f32 * 20.0, y1: 10.0, x2: n as f32 * 20.0 + 15.0, y2: 60.0 };
            let seen: Vec<Seen> = (0..30).map(|n| Seen { area: place(n), score: 0.6 }).collect();
            let features = (0..30 * 137).map(|_| random.normals()[0] as f32).collect();
            let track = number * 4 + camera as u64;
            let who = Track {
                id: track,
                area: place(3),
                score: 0.6,
                state: State::Confirmed,
                hits: 9,
                start_ms: 0,
                last_seen_ms: 0,
            };
            let frame = Frame { number, taken_ms: 100 * number, seen, features, tracks: vec![who] };
            step(&mut student, number * 50, Input::Looked(camera, frame));
            let label = Label {
                event: EventId::of_track(&node, Boot(7), track),
                person: track.is_multiple_of(3),
                who: "anna".into(),
            };
            let labels = serde_json::to_vec(&Labels { labels: vec![label], agreed: vec![] }).unwrap();
            step(&mut student, number * 50, Input::Heard(Topic::LearnLabels(node.clone()), labels));
        }
    }
    let snapshot = student.snapshot().len();
    COUNTS.set(false);
    let (counts, peak) = (student.status().examples, PEAK.load(Ordering::Relaxed));
    println!("{counts:?}, {updates} updates said; at most {peak} bytes at once");
    let all = counts.people_confirmed + counts.nobody_confirmed;
    assert_eq!((all as usize, counts.held_out as usize), (KEPT_MAX + HELD_OUT_MAX, HELD_OUT_MAX));
    assert!(snapshot > KEPT_MAX + HELD_OUT_MAX + WAITING_MAX && updates > 0);
    assert!(peak < PEAK_BYTES_MAX, "{peak} bytes");
}
