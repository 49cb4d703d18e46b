//! The observer, by scripted tracks and by any tracks.

use std::collections::BTreeMap;

use super::watched::{clamped, foot};
use super::*;
use crate::frame::{Area, Detection};
use crate::polygon::Polygon;
use crate::track::{self, State, Tracker};
use picket_shared::event::Crossing;
use picket_shared::limits::{CAMERA_LINES_MAX, EVENT_CROSSINGS_MAX, EVENT_ZONES_MAX};
use proptest::prelude::*;

const SIZE: (u32, u32) = (640, 480);
const FRAME_MS: u64 = 100;

fn identity() -> Identity {
    Identity {
        node: NodeId::new("node-1").unwrap(),
        boot: Boot(1_700_000_000),
        station: StationId::new("gate").unwrap(),
        camera: CameraId::new("cam").unwrap(),
        model: "0123456789ab".into(),
        precision: Precision::Fp32,
    }
}

fn zone(name: &str, x1: f64, x2: f64) -> Zone {
    let polygon = Polygon::new(vec![[x1, 0.0], [x2, 0.0], [x2, 1.0], [x1, 1.0]]).unwrap();
    Zone::new(ZoneId::new(name).unwrap(), polygon)
}

/// From the picture's lower edge to its upper: `left_to_right` is to the picture's right.
fn upright(name: &str, x: f64) -> Line {
    Line { name: LineId::new(name).unwrap(), from: [x, 1.0], to: [x, 0.0] }
}

fn scene(zones: Vec<Zone>, lines: Vec<Line>) -> Scene {
    Scene { zones: Zones::new(zones).unwrap(), lines: Lines::new(lines).unwrap() }
}

fn observer(config: Config) -> Observer {
    let zones = vec![zone("left", 0.0, 0.5), zone("right", 0.5, 1.0)];
    Observer::new(identity(), scene(zones, vec![]), config)
}

/// A confirmed track with its foot at `x`.
fn seen(id: u64, x: f32, score: f32) -> Track {
    let area = Area { x1: x - 20.0, y1: 300.0, x2: x + 20.0, y2: 400.0 };
    Track { id, area, score, state: State::Confirmed, hits: 3, start_ms: 900, last_seen_ms: 1_000 }
}

fn joined(zones: &[ZoneId]) -> String {
    zones.iter().map(ZoneId::as_str).collect::<Vec<_>>().join("+")
}

/// An event in a few words: when, what, top score, zones now and ever, `S` where stationary.
fn shown(event: &Event) -> String {
    let kind = format!("{:?}", event.kind).to_lowercase();
    let (current, entered) = (joined(&event.current_zones), joined(&event.entered_zones));
    let still = if event.stationary { " S" } else { "" };
    format!("{} {kind} {:.2} {current}/{entered}{still}", event.frame_time_ms, event.top_score)
}

/// Steps through frames of one track each, `None` where it is gone, and shows what is told.
fn told(observer: &mut Observer, frames: &[Option<Track>]) -> Vec<String> {
    let mut out = Vec::new();
    for (n, track) in frames.iter().enumerate() {
        let now_ms = 1_000 + n as u64 * FRAME_MS;
        observer.step(now_ms, SIZE, track.as_slice(), &mut out);
    }
    out.iter().map(shown).collect()
}

#[test]
fn each_rule_tells_once() {
    let at = |x: f32| Some(seen(1, x, 0.6));
    let scored = |score: f32| Some(seen(1, 100.0, score));
    let in_state = |state: State| Some(Track { state, ..seen(1, 100.0, 0.6) });
    let lost = Some(Track { state: State::Lost, score: 0.0, ..seen(1, 500.0, 0.6) });
    let quick = Config { inertia_frames: 1, ..Config::default() };
    let brief = Config { update_interval_ms: 300, ..quick.clone() };
    let still = Config { stationary_ms: 200, ..quick.clone() };
    for (name, config, frames, expect) in [
        ("a tentative track", &quick, vec![in_state(State::Tentative); 3], vec![]),
        ("a confirmed one", &quick, vec![at(100.0); 3], vec!["1000 new 0.60 left/left"]),
        ("one never sure enough", &quick, vec![scored(0.49); 3], vec![]),
        (
            "one sure enough later, with its best score while tentative",
            &quick,
            vec![Some(Track { state: State::Tentative, ..seen(1, 100.0, 0.8) }), scored(0.3)],
            vec!["1100 new 0.80 left/left"],
        ),
        (
            "a zone entered and left",
            &quick,
            vec![at(100.0), at(500.0), at(100.0)],
            vec!["1000 new 0.60 left/left", "1100 update 0.60 right/left+right", "1200 update 0.60 left/left+right"],
        ),
        (
            "a tremble on the border",
            &Config::default(),
            vec![at(100.0), at(100.0), at(500.0), at(100.0)],
            vec!["1000 new 0.60 /", "1100 update 0.60 left/left"],
        ),
        (
            "a score that grows by steps",
            &quick,
            vec![scored(0.5), scored(0.59), scored(0.6), scored(0.65), scored(0.7), scored(0.2)],
            vec!["1000 new 0.50 left/left", "1200 update 0.60 left/left", "1400 update 0.70 left/left"],
        ),
        (
            "time that passes",
            &brief,
            vec![at(100.0); 8],
            vec!["1000 new 0.60 left/left", "1300 update 0.60 left/left", "1600 update 0.60 left/left"],
        ),
        (
            "becoming and no longer being stationary",
            &still,
            vec![at(100.0), at(100.0), at(105.0), at(100.0), at(150.0)],
            vec!["1000 new 0.60 left/left", "1200 update 0.60 left/left S", "1400 update 0.60 left/left"],
        ),
        (
            "a lost track's expected place is no news, its end is",
            &quick,
            vec![at(100.0), lost, lost, None, None],
            vec!["1000 new 0.60 left/left", "1300 end 0.60 left/left"],
        ),
        ("a track that ends untold", &quick, vec![scored(0.3), None], vec![]),
        (
            "a number that comes back",
            &quick,
            vec![at(100.0), None, at(100.0)],
            vec!["1000 new 0.60 left/left", "1100 end 0.60 left/left"],
        ),
    ] {
        assert_eq!(told(&mut observer(config.clone()), &frames), expect, "{name}");
    }
}

#[test]
fn an_event_says_what_was_seen() {
    let mut out = Vec::new();
    let mut observer = observer(Config { inertia_frames: 1, ..Config::default() });
    observer.step(1_000, SIZE, &[seen(7, 100.4, 0.6)], &mut out);
    observer.step(1_100, SIZE, &[], &mut out);
    let new = Event {
        id: EventId::new("node-1-1700000000-7").unwrap(),
        kind: EventKind::New,
        station: StationId::new("gate").unwrap(),
        camera: CameraId::new("cam").unwrap(),
        label: "person".into(),
        frame_time_ms: 1_000,
        start_time_ms: 900,
        end_time_ms: None,
        score: 0.6,
        top_score: 0.6,
        box_px: [80, 300, 121, 400],
        current_zones: vec![ZoneId::new("left").unwrap()],
        entered_zones: vec![ZoneId::new("left").unwrap()],
        stationary: false,
        model: "0123456789ab".into(),
        precision: Precision::Fp32,
        covering_for: None,
        epoch: 0,
        dwell_times_ms: vec![0],
        loitering_zones: vec![],
        crossings: vec![],
        count: None,
    };
    let end = Event { kind: EventKind::End, frame_time_ms: 1_100, end_time_ms: Some(1_000), score: 0.0, ..new.clone() };
    assert_eq!(out, [new, end]);
}

#[test]
fn a_crossing_is_told_at_once_and_counted_once() {
    let lines = vec![upright("middle", 0.5), upright("east", 0.75)];
    let mut observer = Observer::new(identity(), scene(vec![], lines), Config::default());
    let mut out = Vec::new();
    // Two people; the other one goes to and fro over the middle, and is never sure enough to be told.
    let walk = [200.0, 240.0, 300.0, 340.0, 400.0, 500.0, 520.0, 340.0, 300.0, 280.0];
    for (n, x) in walk.into_iter().enumerate() {
        let doubtful = seen(2, if n / 2 % 2 == 0 { 300.0 } else { 340.0 }, 0.3);
        observer.step(1_000 + n as u64 * FRAME_MS, SIZE, &[seen(1, x, 0.6), doubtful], &mut out);
    }
    observer.step(2_000, SIZE, &[], &mut out);
    let shown: Vec<String> = out
        .iter()
        .map(|event| {
            let crossed = |Crossing { line, direction, frame_time_ms }: &Crossing| {
                format!("{line}{}{frame_time_ms}", if *direction == Direction::LeftToRight { ">" } else { "<" })
            };
            let crossings: Vec<_> = event.crossings.iter().map(crossed).collect();
            format!("{} {:?} {}", event.frame_time_ms, event.kind, crossings.join(" "))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "1000 New ",
            "1400 Update middle>1300",
            "1600 Update middle>1300 east>1500",
            "1800 Update middle>1300 east>1500 east<1700",
            "1900 Update middle>1300 east>1500 east<1700 middle<1800",
            "2000 End middle>1300 east>1500 east<1700 middle<1800",
        ]
    );
    let both = Crossed { left_to_right: 1, right_to_left: 1 };
    let lines: Vec<_> = observer.tally().lines.iter().map(|(line, crossed)| (line.as_str(), *crossed)).collect();
    assert_eq!(lines, [("east", both), ("middle", both)]);
}

#[test]
fn an_event_lists_its_newest_crossings_and_the_tally_counts_all() {
    let mut observer = Observer::new(
        identity(),
        scene(vec![], vec![upright("middle", 0.5)]),
        Config { inertia_frames: 1, ..Config::default() },
    );
    let mut out = Vec::new();
    for n in 0..21 {
        observer.step(1_000 + n * FRAME_MS, SIZE, &[seen(1, if n % 2 == 0 { 300.0 } else { 340.0 }, 0.6)], &mut out);
    }
    let last = out.last().unwrap();
    assert_eq!(last.crossings.len(), EVENT_CROSSINGS_MAX);
    assert_eq!(last.crossings.last().unwrap().frame_time_ms, 3_000);
    let all = Crossed { left_to_right: 10, right_to_left: 10 };
    assert_eq!(observer.tally().lines.values().copied().collect::<Vec<_>>(), [all]);
}

#[test]
fn who_stays_too_long_loiters_and_the_end_says_how_long_it_was() {
    let square = Zone { dwell_ms: Some(300), ..zone("square", 0.0, 0.5) };
    let config = Config { inertia_frames: 1, ..Config::default() };
    let mut observer = Observer::new(identity(), scene(vec![square, zone("all", 0.0, 1.0)], vec![]), config);
    let at = |x: f32| Some(seen(1, x, 0.6));
    let lost = Some(Track { state: State::Lost, score: 0.0, ..seen(1, 100.0, 0.6) });
    let mut out = Vec::new();
    let frames = [at(100.0), at(90.0), at(110.0), at(100.0), at(80.0), at(400.0), at(400.0), lost, None];
    for (n, track) in frames.iter().enumerate() {
        observer.step(1_000 + n as u64 * FRAME_MS, SIZE, track.as_slice(), &mut out);
    }
    let shown: Vec<_> = out
        .iter()
        .map(|event| {
            let dwelt: Vec<_> = event.dwell_times_ms.iter().map(u64::to_string).collect();
            let loitering = joined(&event.loitering_zones);
            format!(
                "{} {:?} {} {} {loitering}",
                event.frame_time_ms,
                event.kind,
                joined(&event.entered_zones),
                dwelt.join("+")
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "1000 New square+all 0+0 ",
            "1300 Update square+all 300+300 square",
            "1500 Update square+all 400+500 ",
            // Lost is not there: what was seen counts.
            "1800 End square+all 400+600 ",
        ]
    );
}

/// A crowd's event in a few words.
fn crowd_shown(event: &Event) -> String {
    let Event { frame_time_ms, kind, id, count, start_time_ms, end_time_ms, box_px, .. } = event;
    format!("{frame_time_ms} {kind:?} {id} {count:?} {start_time_ms}-{end_time_ms:?} {box_px:?}")
}

#[test]
fn many_at_once_are_one_event_beside_theirs() {
    let square = Zone { crowd_at: Some(2), crowd_ms: 200, ..zone("square", 0.0, 0.5) };
    let config = Config { inertia_frames: 1, ..Config::default() };
    let mut observer = Observer::new(identity(), scene(vec![square], vec![]), config);
    let (mut out, mut counts) = (Vec::new(), Vec::new());
    let (a, b, c) = (seen(3, 100.0, 0.6), seen(4, 200.0, 0.9), seen(5, 150.0, 0.7));
    let guess = Track { state: State::Tentative, ..seen(2, 120.0, 0.9) };
    // The one who is hidden is still there; the one who is only a guess is not.
    let hidden = Track { state: State::Lost, score: 0.0, ..b };
    let frames = [vec![guess, a], vec![a, b], vec![a, b], vec![a, hidden], vec![a, b, c], vec![a], vec![a], vec![a]];
    for (n, tracks) in frames.iter().enumerate() {
        observer.step(1_000 + n as u64 * FRAME_MS, SIZE, tracks, &mut out);
        counts.push(observer.tally().zones.values().sum::<u32>());
    }
    assert_eq!(counts, [1, 2, 2, 2, 3, 1, 1, 1]);
    let crowds: Vec<_> = out.iter().filter(|event| event.label == "crowd").collect();
    assert_eq!(
        crowds.iter().map(|event| crowd_shown(event)).collect::<Vec<_>>(),
        [
            "1300 New node-1-1700000000-4-crowd1 Some(2) 1100-None [80, 300, 220, 400]",
            "1400 Update node-1-1700000000-4-crowd1 Some(3) 1100-None [80, 300, 220, 400]",
            "1600 End node-1-1700000000-4-crowd1 Some(3) 1100-Some(1400) [80, 300, 220, 400]",
        ]
    );
    assert!(crowds.iter().all(|event| joined(&event.current_zones) == "square" && event.top_score == 0.9));
    assert_eq!(crowds[2].dwell_times_ms, [300]);
}

#[test]
fn a_crowd_that_is_there_when_the_agent_stops_is_ended_too() {
    let square = Zone { crowd_at: Some(2), crowd_ms: 0, ..zone("square", 0.0, 0.5) };
    let all = Zone { crowd_at: Some(3), crowd_ms: 0, ..zone("all", 0.0, 1.0) };
    let config = Config { inertia_frames: 1, ..Config::default() };
    let mut observer = Observer::new(identity(), scene(vec![square, all], vec![]), config);
    let mut out = Vec::new();
    observer.step(1_000, SIZE, &[seen(1, 100.0, 0.6), seen(2, 200.0, 0.6)], &mut out);
    out.clear();
    observer.finish(1_500, &mut out);
    let ended: Vec<_> = out.iter().map(|event| (event.id.as_str(), event.kind, event.end_time_ms)).collect();
    let end = |id| (id, EventKind::End, Some(1_000));
    assert_eq!(ended, [end("node-1-1700000000-1"), end("node-1-1700000000-2"), end("node-1-1700000000-2-crowd1")]);
    assert_eq!(observer.tally().zones.values().copied().collect::<Vec<_>>(), [0, 0]);
    out.clear();
    observer.finish(1_600, &mut out);
    assert_eq!(out, []);
}

#[test]
fn a_track_that_is_none_is_counted_and_the_others_are_unharmed() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let with = |area: Area| Track { area, ..seen(1, 100.0, 0.6) };
    let good = seen(1, 100.0, 0.6).area;
    let mut observer = observer(Config { inertia_frames: 1, ..Config::default() });
    let mut out = Vec::new();
    let bad = [
        with(Area { x1: nan, ..good }),
        with(Area { y2: inf, ..good }),
        with(Area { x2: good.x1, ..good }),
        Track { score: nan, ..seen(1, 100.0, 0.6) },
    ];
    for (n, bad) in bad.into_iter().enumerate() {
        observer.step(1_000 + n as u64, SIZE, &[bad, seen(2, 500.0, 0.6)], &mut out);
    }
    observer.step(1_100, (0, 0), &[with(Area { x1: -1e30, y1: -1e30, x2: 1e30, y2: 1e30 })], &mut out);
    assert_eq!(observer.tally().tracks_refused, 4);
    assert_eq!(out.iter().map(shown).next().unwrap(), "1000 new 0.60 right/right");
}

#[test]
fn finish_ends_what_is_open_and_nothing_comes_after() {
    let mut out = Vec::new();
    let mut observer = observer(Config::default());
    observer.step(1_000, SIZE, &[seen(1, 100.0, 0.6), seen(2, 500.0, 0.6), seen(3, 300.0, 0.3)], &mut out);
    out.clear();
    observer.finish(1_500, &mut out);
    let ended: Vec<_> = out.iter().map(|event| (event.id.as_str(), event.kind, event.end_time_ms)).collect();
    let end = |id| (id, EventKind::End, Some(1_000));
    assert_eq!(ended, [end("node-1-1700000000-1"), end("node-1-1700000000-2")]);
    out.clear();
    observer.step(1_600, SIZE, &[seen(1, 100.0, 0.6)], &mut out);
    observer.finish(1_700, &mut out);
    assert_eq!(out, []);
}

#[test]
fn boxes_and_feet_stay_in_the_picture() {
    for (area, size, expect) in [
        ([-10.0, -5.5, 20.2, 30.0], SIZE, [0, 0, 21, 30]),
        ([600.0, 400.0, 700.0, 500.0], SIZE, [600, 400, 640, 480]),
        ([-9.0, 10.0, -2.0, 20.0], SIZE, [0, 10, 0, 20]),
        ([1.0, 2.0, 1e9, 1e9], (100_000, 100_000), [1, 2, u16::MAX, u16::MAX]),
        ([1.0, 2.0, 3.0, 4.0], (0, 0), [0, 0, 0, 0]),
    ] {
        let area = Area { x1: area[0], y1: area[1], x2: area[2], y2: area[3] };
        assert_eq!(clamped(&area, size), expect, "{area:?}");
        let (x, y) = foot(&area, size);
        assert!(x >= 0.0 && y >= 0.0 && x <= size.0 as f32 && y <= size.1 as f32, "{area:?}");
    }
    // Cut off by the lower edge, and still in the zone that ends there.
    let mut out = Vec::new();
    let cut = Track { area: Area { x1: 80.0, y1: 300.0, x2: 120.0, y2: 520.0 }, ..seen(1, 100.0, 0.6) };
    observer(Config { inertia_frames: 1, ..Config::default() }).step(1_000, SIZE, &[cut], &mut out);
    assert_eq!(joined(&out[0].current_zones), "left");
}

#[test]
fn the_configuration_is_complete_and_its_nonsense_refused() {
    let parse = |text: &str| picket_shared::config::parse::<Config>(text);
    assert!(parse("").unwrap().check().is_ok());
    for (text, expect) in [
        ("score_start = nan", "observe.score_start is NaN; give it 0.01 to 1"),
        ("update_interval_ms = 1", "observe.update_interval_ms is 1; give it 100 to 3600000"),
        ("inertia_frames = 0", "observe.inertia_frames is 0;"),
        ("stationary_ms = 99999999999", "observe.stationary_ms is 99999999999;"),
        ("stationary_fraction = -0.2", "observe.stationary_fraction is -0.2;"),
    ] {
        let error = parse(text).unwrap().check().unwrap_err();
        assert!(error.starts_with(expect), "{text}: {error}");
    }
    assert!(parse("stationary = 3").unwrap_err().contains("did you mean \"stationary_"));
}

/// Holds a stream of events to everything that an event's life promises.
#[derive(Default)]
struct Law {
    open: BTreeMap<String, Event>,
    ended: Vec<String>,
}

impl Law {
    fn hold(&mut self, events: &[Event], now_ms: u64, size: (u32, u32)) -> Result<(), TestCaseError> {
        for event in events {
            let id = event.id.as_str().to_owned();
            prop_assert!(!self.ended.contains(&id), "{id}: a word after its end");
            let before = self.open.insert(id.clone(), event.clone());
            prop_assert_eq!(before.is_none(), event.kind == EventKind::New, "{}: one new, and first", id);
            prop_assert_eq!(event.frame_time_ms, now_ms);
            prop_assert!(event.start_time_ms <= event.frame_time_ms);
            prop_assert!(event.score <= event.top_score && (0.0..=1.0).contains(&event.top_score));
            let [x1, y1, x2, y2] = event.box_px.map(u32::from);
            prop_assert!(x1 <= x2 && x2 <= size.0 && y1 <= y2 && y2 <= size.1);
            prop_assert_eq!(event.dwell_times_ms.len(), event.entered_zones.len());
            prop_assert!(event.loitering_zones.iter().all(|zone| event.current_zones.contains(zone)));
            prop_assert_eq!(event.label == "crowd", event.count.is_some());
            let within = |ms: u64| event.start_time_ms <= ms && ms <= event.frame_time_ms;
            prop_assert!(event.crossings.iter().all(|crossing| within(crossing.frame_time_ms)));
            prop_assert!(event.current_zones.iter().all(|zone| event.entered_zones.contains(zone)));
            if let Some(before) = before {
                prop_assert!(before.top_score <= event.top_score);
                prop_assert!(event.entered_zones.starts_with(&before.entered_zones));
                prop_assert!(before.count <= event.count);
                if event.label == "person" {
                    let dwelt = before.dwell_times_ms.iter().zip(&event.dwell_times_ms);
                    prop_assert!(dwelt.into_iter().all(|(before, now)| before <= now), "dwelling is not taken back");
                }
            }
            prop_assert!(picket_shared::codec::encode(event).is_ok());
            prop_assert_eq!(event.end_time_ms.is_some(), event.kind == EventKind::End);
            if let Some(end_ms) = event.end_time_ms {
                prop_assert!(event.start_time_ms <= end_ms && end_ms <= event.frame_time_ms);
                self.open.remove(&id);
                self.ended.push(id);
            }
        }
        Ok(())
    }
}

/// Any number, the nasty ones often.
fn number() -> impl Strategy<Value = f32> {
    prop_oneof![5 => -50.0f32..700.0, 1 => any::<f32>(), 1 => Just(f32::NAN), 1 => Just(f32::INFINITY)]
}

fn area() -> impl Strategy<Value = Area> {
    let any = (number(), number(), number(), number()).prop_map(|(x1, y1, x2, y2)| Area { x1, y1, x2, y2 });
    // Four places with a tremble, so that tracks come to be confirmed.
    let placed = (0u8..4, -9.0f32..9.0, 0.0f32..9.0).prop_map(|(place, x, y)| {
        let (x, y) = (x + 150.0 * f32::from(place), y + 300.0);
        Area { x1: x, y1: y, x2: x + 60.0, y2: y + 160.0 }
    });
    prop_oneof![1 => any, 5 => placed]
}

fn now_ms() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 5_000u64..8_000, 1 => any::<u64>()]
}

fn track() -> impl Strategy<Value = Track> {
    let state = prop_oneof![Just(State::Tentative), Just(State::Confirmed), Just(State::Lost)];
    let times = (now_ms(), now_ms());
    (0u64..9, area(), number(), state, times).prop_map(|(id, area, score, state, (start_ms, last_seen_ms))| Track {
        id,
        area,
        score,
        state,
        hits: 3,
        start_ms,
        last_seen_ms,
    })
}

/// The longest names there may be, in as many zones as there may be.
fn longest() -> Observer {
    let name = |n: usize| format!("{n:a>48}");
    let busy = |zone: Zone| Zone { dwell_ms: Some(100), crowd_at: Some(2), crowd_ms: 100, ..zone };
    let zones = (0..EVENT_ZONES_MAX).map(|n| busy(zone(&name(n), n as f64 / 20.0, 1.0))).collect();
    let lines = (0..CAMERA_LINES_MAX).map(|n| upright(&name(n), n as f64 / 20.0)).collect();
    let identity = Identity {
        node: NodeId::new(name(1)).unwrap(),
        boot: Boot(u64::MAX),
        station: StationId::new(name(2)).unwrap(),
        camera: CameraId::new(name(3)).unwrap(),
        ..identity()
    };
    let config = Config { inertia_frames: 1, score_start: 0.3, ..Config::default() };
    Observer::new(identity, scene(zones, lines), config)
}

proptest! {
    #[test]
    fn any_detections_become_lawful_events(
        frames in proptest::collection::vec((now_ms(), proptest::collection::vec((area(), number()), 0..8)), 1..40),
    ) {
        let mut tracker = Tracker::new(track::Config::default());
        let (mut observer, mut law, mut out) = (longest(), Law::default(), Vec::new());
        for (now_ms, detections) in frames {
            // Scores in 0 to 1 are too rare among any numbers.
            let scored = |score: f32| if (1.0..700.0).contains(&score) { score / 700.0 } else { score };
            let detections: Vec<_> =
                detections.into_iter().map(|(area, score)| Detection { area, score: scored(score) }).collect();
            out.clear();
            observer.step(now_ms, SIZE, tracker.step(now_ms, &detections), &mut out);
            law.hold(&out, now_ms, SIZE)?;
        }
        out.clear();
        observer.finish(9_000, &mut out);
        law.hold(&out, 9_000, SIZE)?;
        prop_assert!(law.open.is_empty());
    }

    #[test]
    fn any_tracks_become_lawful_events(
        frames in proptest::collection::vec((now_ms(), (0u32..900, 0u32..900), proptest::collection::vec(track(), 0..8)), 1..40),
    ) {
        let (mut observer, mut law, mut out) = (longest(), Law::default(), Vec::new());
        for (now_ms, size, tracks) in frames {
            out.clear();
            observer.step(now_ms, size, &tracks, &mut out);
            // A word about a lost track repeats a box of an earlier frame, which may have been larger.
            law.hold(&out, now_ms, (900, 900))?;
        }
        out.clear();
        observer.finish(9_000, &mut out);
        law.hold(&out, 9_000, (900, 900))?;
        prop_assert!(law.open.is_empty());
    }
}
