//! Agreement: who vouches for whom, when nobody may say anything, and that a node speaks of no other's events.

use super::*;
use picket_shared::event::{Event, EventKind, Precision};
use picket_shared::ids::{Boot, NodeId};
use proptest::prelude::*;

fn spot(name: &str) -> Spot {
    Spot {
        station: StationId::new(name).unwrap(),
        camera: CameraId::new("main").unwrap(),
        zone: ZoneId::new("door").unwrap(),
    }
}

/// One message of a track of the node `n-<station>`: seconds, score, in the zone, and at its end for how long it was there.
fn event(station: &str, track: u64, at_s: f64, score: f32, here: bool, end_dwell_s: Option<f64>) -> SeenEvent {
    let (node, zone) = (NodeId::new(format!("n-{station}")).unwrap(), ZoneId::new("door").unwrap());
    let ms = |seconds: f64| (seconds * 1000.0) as u64;
    let event = Event {
        id: EventId::of_track(&node, Boot(7), track),
        kind: if end_dwell_s.is_some() { EventKind::End } else { EventKind::Update },
        station: StationId::new(station).unwrap(),
        camera: CameraId::new("main").unwrap(),
        label: "person".into(),
        frame_time_ms: ms(at_s),
        start_time_ms: ms(at_s),
        end_time_ms: end_dwell_s.map(|_| ms(at_s)),
        score,
        top_score: score,
        box_px: [0, 0, 10, 10],
        current_zones: if here { vec![zone.clone()] } else { vec![] },
        entered_zones: if end_dwell_s.is_some() { vec![zone] } else { vec![] },
        stationary: false,
        model: "ab".repeat(6),
        precision: Precision::Fp32,
        covering_for: None,
        epoch: 0,
        dwell_times_ms: end_dwell_s.map(ms).into_iter().collect(),
        loitering_zones: vec![],
        crossings: vec![],
        count: None,
    };
    SeenEvent::of(event, node, Boot(7), 1, 0)
}

/// One who is in the zone from then on, for so many seconds.
fn stay(station: &str, track: u64, from_s: f64, for_s: f64, score: f32) -> [SeenEvent; 2] {
    [event(station, track, from_s, score, true, None), event(station, track, from_s + for_s, score, true, Some(for_s))]
}

struct Bench {
    agreement: Agreement,
    now_s: u64,
}

impl Bench {
    /// Both have watched since second 0; it is second 100.
    fn new() -> Bench {
        let overlap = Overlap { one: spot("gate"), other: spot("yard") };
        let mut bench = Bench { agreement: Agreement::new(&[overlap]), now_s: 0 };
        assert_eq!(bench.until(100, |_| true), []);
        bench
    }

    fn look(&mut self, events: &[SeenEvent]) {
        events.iter().for_each(|event| self.agreement.look(event));
    }

    /// Time passes; what was said meanwhile: of whose track, whether it is a person, and who says so.
    fn until(&mut self, second: u64, watches: impl Fn(&Spot) -> bool) -> Vec<(String, bool, String)> {
        let mut labels = Vec::new();
        while self.now_s < second {
            self.now_s += 1;
            let now = Now { mono_ms: self.now_s * 1000, unix_ms: self.now_s * 1000 };
            labels.extend(self.agreement.tick(now, &watches));
        }
        labels.into_iter().map(|label| (label.event.to_string(), label.person, label.who)).collect()
    }
}

fn says(event: &str, person: bool, who: &str) -> (String, bool, String) {
    (event.into(), person, who.into())
}

#[test]
fn whom_one_saw_hardly_and_a_neighbour_surely_was_there_and_it_is_said_once() {
    let mut bench = Bench::new();
    bench.look(&stay("gate", 1, 90.0, 5.0, 0.35));
    bench.look(&stay("yard", 9, 92.0, 5.0, 0.9));
    // It is not said before the neighbour's events can have come.
    assert_eq!(bench.until(104, |_| true), []);
    assert_eq!(bench.until(120, |_| true), [says("n-gate-7-1", true, "yard")]);
    // What comes again changes nothing.
    bench.look(&stay("gate", 1, 90.0, 5.0, 0.35));
    assert_eq!(bench.until(140, |_| true), []);
}

#[test]
fn whom_a_neighbour_that_watched_did_not_see_was_nobody() {
    let mut bench = Bench::new();
    bench.look(&stay("yard", 3, 90.0, 5.0, 0.8));
    // A glance can be missed.
    bench.look(&stay("yard", 4, 97.0, 1.0, 0.8));
    assert_eq!(bench.until(120, |_| true), [says("n-yard-7-3", false, "gate")]);
}

#[test]
fn nobody_says_anything_who_cannot_know() {
    let silent = |prepare: &dyn Fn(&mut Bench)| {
        let mut bench = Bench::new();
        prepare(&mut bench);
        assert_eq!(bench.until(130, |_| true), []);
    };
    // The neighbour is blind, or was for a moment.
    let mut bench = Bench::new();
    bench.look(&stay("gate", 1, 101.0, 5.0, 0.9));
    assert_eq!(bench.until(130, |spot| spot.station.as_str() == "gate"), []);
    let mut bench = Bench::new();
    assert_eq!(bench.until(101, |_| false), []);
    bench.look(&stay("gate", 1, 99.0, 5.0, 0.9));
    assert_eq!(bench.until(130, |_| true), []);
    // Both saw him surely; or neither did.
    silent(&|bench| {
        [0.9, 0.8].iter().zip(["gate", "yard"]).for_each(|(s, at)| bench.look(&stay(at, 1, 90.0, 5.0, *s)))
    });
    silent(&|bench| {
        [0.4, 0.3].iter().zip(["gate", "yard"]).for_each(|(s, at)| bench.look(&stay(at, 1, 90.0, 5.0, *s)))
    });
    // The neighbour may have seen another one, who was here too.
    silent(&|bench| {
        bench.look(&stay("gate", 1, 90.0, 5.0, 0.4));
        bench.look(&stay("gate", 2, 91.0, 5.0, 0.9));
        bench.look(&stay("yard", 9, 91.0, 5.0, 0.9));
    });
    // It was elsewhere in the picture; on another camera; on another's duty; no single person; somebody else's event.
    let changes: [fn(&mut SeenEvent); 5] = [
        |event| event.current_zones.clear(),
        |event| event.camera = CameraId::new("side").unwrap(),
        |event| event.covering_for = Some(StationId::new("gate").unwrap()),
        |event| event.label = "crowd".into(),
        |event| event.node = NodeId::new("n-yard").unwrap(),
    ];
    for change in changes {
        silent(&|bench| {
            let mut events = stay("gate", 1, 90.0, 5.0, 0.9);
            events.iter_mut().for_each(change);
            bench.look(&events);
        });
    }
    // It was not asked for long, and what was meanwhile is not known.
    let mut bench = Bench::new();
    bench.now_s = 110;
    bench.look(&stay("gate", 1, 105.0, 5.0, 0.9));
    assert_eq!(bench.until(130, |_| true), []);
}

#[test]
fn who_is_forgotten_cannot_be_missed_by_a_neighbour() {
    let mut bench = Bench::new();
    // Of this one the neighbour saw all, but so many came after him that he is forgotten there.
    bench.look(&stay("yard", 1, 90.0, 5.0, 0.9));
    (0..STAYS_MAX as u64).for_each(|n| bench.look(&stay("yard", 100 + n, 99.0, 1.0, 0.9)));
    bench.look(&stay("gate", 1, 90.0, 5.0, 0.9));
    assert_eq!(bench.until(130, |_| true), []);
    assert!(bench.agreement.overlaps.iter().flatten().all(|side| side.stays.len() <= STAYS_MAX));
}

proptest! {
    /// Whatever comes in whatever order: no event is named twice, none of a camera that is in no overlap; nobody is called nobody whom
    /// the neighbour saw, and nobody is vouched for whom the neighbour did not see surely.
    #[test]
    fn what_is_said_follows_from_what_was_seen(
        stays in prop::collection::vec((0usize..3, 0u32..60, 0u32..8, 1u32..10), 0..40), order: u64
    ) {
        let names = ["gate", "yard", "roof"];
        let mut events: Vec<SeenEvent> = Vec::new();
        for (track, (at, from, long, tenths)) in stays.iter().enumerate() {
            let (from, long, score) = (100.0 + f64::from(*from), f64::from(*long), *tenths as f32 / 10.0);
            events.extend(stay(names[*at], track as u64, from, long, score));
        }
        let mut random = picket_shared::random::SplitMix64::new(order);
        for at in (1..events.len()).rev() {
            events.swap(at, random.below(at + 1));
        }
        let mut bench = Bench::new();
        bench.look(&events);
        bench.look(&events);
        let labels = bench.until(200, |_| true);
        let mut names_said: Vec<&String> = labels.iter().map(|(event, ..)| event).collect();
        names_said.sort();
        names_said.dedup();
        prop_assert_eq!(names_said.len(), labels.len());
        for (event, person, who) in &labels {
            let track: usize = event.rsplit('-').next().unwrap().parse().unwrap();
            let (at, from, long, tenths) = stays[track];
            prop_assert!(at < 2 && *who == names[1 - at]);
            let near = |other: &&(usize, u32, u32, u32)| other.0 == 1 - at && other.1 <= from + long + 2 && from <= other.1 + other.2 + 2;
            let by: Vec<_> = stays.iter().filter(near).collect();
            match person {
                true => prop_assert!(tenths < 5 && by.iter().any(|theirs| theirs.3 >= 5)),
                false => prop_assert!(long >= 3 && by.is_empty()),
            }
        }
    }
}
