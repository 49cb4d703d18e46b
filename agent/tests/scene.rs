//! A scripted scene, from detections to events: two people cross, and one is hidden meanwhile.

// A test may unwrap; clippy's own exception knows only functions that are marked as tests.
#![allow(clippy::unwrap_used)]

use picket_agent::frame::{Area, Detection, Frame};
use picket_agent::gate::{self, Gate, Verdict};
use picket_agent::observe::{self, Identity, Line, Lines, Observer, Scene, Zone, Zones};
use picket_agent::polygon::Polygon;
use picket_agent::track::{self, Tracker};
use picket_shared::event::{Event, EventKind, Precision};
use picket_shared::ids::{Boot, CameraId, LineId, NodeId, StationId, ZoneId};
use picket_shared::status::Crossed;

const SIZE: (u32, u32) = (640, 480);
const FRAME_MS: u64 = 100;
const FRAMES: usize = 80;

/// One person of the script.
struct Person {
    /// Where the feet are in the first frame, and how they move, in pixels and pixels a frame.
    foot: (f32, f32),
    step: (f32, f32),
    height: f32,
    score: f32,
    /// Frames, from and to, with another score; `None` is no detection at all.
    otherwise: &'static [(usize, usize, Option<f32>)],
}

const PEOPLE: [Person; 2] = [
    // Walks from left to right, in front.
    Person { foot: (60.0, 330.0), step: (6.5, 0.0), height: 140.0, score: 0.85, otherwise: &[] },
    // Walks from right to left, behind: half hidden, wholly hidden for five frames, half hidden; gone from frame 70.
    Person {
        foot: (580.0, 310.0),
        step: (-6.0, 0.2),
        height: 128.0,
        score: 0.7,
        otherwise: &[(33, 38, Some(0.2)), (38, 43, None), (43, 45, Some(0.15)), (70, FRAMES, None)],
    },
];

impl Person {
    fn foot(&self, frame: usize) -> (f32, f32) {
        let n = frame as f32;
        (self.foot.0 + n * self.step.0, self.foot.1 + n * self.step.1)
    }

    fn detection(&self, frame: usize) -> Option<Detection> {
        let other = self.otherwise.iter().find(|(from, to, _)| (*from..*to).contains(&frame));
        let score = other.map_or(Some(self.score), |(_, _, score)| *score)?;
        // A detector's box trembles by a pixel or two.
        let tremble = |salt: usize| ((frame * 7 + salt * 13) % 5) as f32 - 2.0;
        let (x, y) = self.foot(frame);
        let half = self.height * 0.2;
        let area = Area {
            x1: x - half + tremble(1),
            y1: y - self.height + tremble(2),
            x2: x + half + tremble(3),
            y2: y + tremble(4),
        };
        Some(Detection { area, score })
    }
}

fn detections(frame: usize) -> Vec<Detection> {
    PEOPLE.iter().filter_map(|person| person.detection(frame)).collect()
}

fn observer() -> Observer {
    let zone = |name: &str, x1: f64, x2: f64| {
        let polygon = Polygon::new(vec![[x1, 0.0], [x2, 0.0], [x2, 1.0], [x1, 1.0]]).unwrap();
        Zone::new(ZoneId::new(name).unwrap(), polygon)
    };
    let identity = Identity {
        node: NodeId::new("n").unwrap(),
        boot: Boot(1),
        station: StationId::new("square").unwrap(),
        camera: CameraId::new("cam").unwrap(),
        model: "0123456789ab".into(),
        precision: Precision::Fp32,
    };
    // From the picture's lower edge to its upper, in its middle.
    let middle = Line { name: LineId::new("middle").unwrap(), from: [0.5, 1.0], to: [0.5, 0.0] };
    let zones = Zones::new(vec![zone("west", 0.0, 0.5), zone("east", 0.5, 1.0)]).unwrap();
    let lines = Lines::new(vec![middle]).unwrap();
    Observer::new(identity, Scene { zones, lines }, observe::Config::default())
}

#[test]
fn two_people_who_cross_keep_their_numbers() {
    let mut tracker = Tracker::new(track::Config::default());
    for frame in 0..FRAMES {
        let tracks = tracker.step(frame as u64 * FRAME_MS, &detections(frame)).to_vec();
        let ids: Vec<_> = tracks.iter().map(|track| track.id).collect();
        assert_eq!(ids, [1, 2], "frame {frame}");
        // Hidden or not, each track is where its person is.
        for (track, person) in tracks.iter().zip(&PEOPLE) {
            let (x, y) = (track.area.foot(), person.foot(frame));
            let off_px = (x.0 - y.0).hypot(x.1 - y.1);
            assert!(off_px < 12.0, "frame {frame}: track {} is {off_px} pixels off", track.id);
        }
    }
    assert_eq!(tracker.counts().tracks_confirmed, 2);
}

#[test]
fn the_scene_is_told_in_these_events() {
    let mut tracker = Tracker::new(track::Config::default());
    let mut observer = observer();
    let mut events = Vec::new();
    for frame in 0..FRAMES + 15 {
        let now_ms = frame as u64 * FRAME_MS;
        let found = if frame < FRAMES { detections(frame) } else { vec![] };
        observer.step(now_ms, SIZE, tracker.step(now_ms, &found), &mut events);
    }
    observer.finish((FRAMES as u64 + 15) * FRAME_MS, &mut events);
    assert_eq!(observer.tally().zones.values().sum::<u32>(), 0, "nobody is left");
    let lines: Vec<_> = observer.tally().lines.values().collect();
    assert_eq!(lines, [&Crossed { left_to_right: 1, right_to_left: 1 }], "each went over the middle once");
    let expect = [
        "200 new n-1-1 0.85 west/west",
        "200 new n-1-2 0.70 east/east",
        "4100 update n-1-1 0.85 east/west+east",
        "4500 update n-1-2 0.70 west/east+west",
        "9000 end n-1-2 0.00 west/east+west seen until 6900",
        "9100 update n-1-1 0.00 east/west+east",
        "9500 end n-1-1 0.00 east/west+east seen until 7900",
    ];
    assert_eq!(events.iter().map(shown).collect::<Vec<_>>(), expect);
}

#[test]
fn a_clock_that_jumps_breaks_no_event() {
    const DAY_MS: i64 = 86_400_000;
    for (name, jump_ms) in
        [("a day on", DAY_MS), ("a day back", -DAY_MS), ("a second back", -1_000), ("to 1970", -1_700_000_000_000)]
    {
        let mut tracker = Tracker::new(track::Config::default());
        let mut observer = observer();
        let mut gate = Gate::new(gate::Config::default());
        let mut events = Vec::new();
        let mut passed = 0;
        for number in 0..FRAMES {
            let jump = if (20..40).contains(&number) { jump_ms } else { 0 };
            let now_ms = (1_700_000_000_000 + (number as u64 * FRAME_MS) as i64 + jump) as u64;
            let frame =
                Frame { taken_ms: now_ms, width: 64, height: 48, rgb: vec![(number * 7 % 200) as u8; 64 * 48 * 3] };
            passed += usize::from(gate.decide(now_ms, &frame, tracker.alive()) != Verdict::Skip);
            observer.step(now_ms, SIZE, tracker.step(now_ms, &detections(number)), &mut events);
        }
        observer.finish(1_700_000_000_000 + FRAMES as u64 * FRAME_MS, &mut events);
        assert!(passed >= FRAMES / 2, "{name}: the gate let {passed} frames through");
        let mut open = std::collections::BTreeSet::new();
        for event in &events {
            let id = event.id.to_string();
            match event.kind {
                EventKind::New => assert!(open.insert(id), "{name}: twice new"),
                EventKind::Update => assert!(open.contains(&id), "{name}: an update of none"),
                EventKind::End => {
                    assert!(open.remove(&id), "{name}: an end of none");
                    assert!(event.end_time_ms.unwrap() >= event.start_time_ms, "{name}: {}", shown(event));
                }
            }
        }
        assert!(open.is_empty() && events.len() >= 4, "{name}: {} events, {open:?} open", events.len());
    }
}

/// An event in a few words: when, what, whose, score, zones now and ever, and for an end when it was last seen.
fn shown(event: &Event) -> String {
    let joined = |zones: &[ZoneId]| zones.iter().map(ZoneId::as_str).collect::<Vec<_>>().join("+");
    let kind = format!("{:?}", event.kind).to_lowercase();
    let end = event.end_time_ms.map_or(String::new(), |end_ms| format!(" seen until {end_ms}"));
    let zones = format!("{}/{}", joined(&event.current_zones), joined(&event.entered_zones));
    format!("{} {kind} {} {:.2} {zones}{end}", event.frame_time_ms, event.id, event.score)
}
