//! The student: nothing is said before it is durable, no number is used twice, heads are taken only where they surely do not lose, and
//! a crash anywhere changes nothing but time.

use super::*;
use crate::frame::Area;
use crate::learn::examples::Counts;
use crate::learn::features;
use crate::learn::judge::Seen;
use crate::track::{State as TrackState, Track};
use picket_shared::learn::message::{HeadDelta, HeadFull, RootSamples};
use picket_shared::learn::packed::Packed;
use proptest::prelude::*;

mod releases;

const FEATURES: usize = 2;

fn backbone() -> Arc<Backbone> {
    Arc::new(Backbone { sha256: "ab".repeat(32), features: FEATURES })
}

fn terms(held_out_min: usize) -> Terms {
    Terms {
        node: NodeId::new("n").unwrap(),
        boot: Boot(7),
        rate: 0.3,
        held_out_percent: 30,
        held_out_min,
        confirmed_leave: true,
        seed: 5,
    }
}

fn lineage() -> Lineage {
    Lineage { fleet_epoch: 1, backbone: "ab".repeat(32), shape: HeadShape::logistic(inputs(FEATURES) as u32) }
}

/// A student with what its disk has and what it said.
struct Bench {
    student: Student,
    disk: Vec<Record>,
    updates: Vec<HeadUpdate>,
    samples: Vec<RootSamples>,
    seated: Option<Head>,
    refused: Vec<&'static str>,
    now_ms: u64,
    frames: u64,
    tracks: u64,
}

impl Bench {
    fn new(held_out_min: usize) -> Bench {
        let student = Student::recover(terms(held_out_min), backbone(), vec![], at(0));
        let mut bench = Bench {
            student,
            disk: vec![],
            updates: vec![],
            samples: vec![],
            seated: None,
            refused: vec![],
            now_ms: 0,
            frames: 0,
            tracks: 0,
        };
        bench.step(Input::Online(true));
        bench
    }

    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.student.step(at(self.now_ms), input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Keep(records) => self.disk.extend(records),
                Effect::Say(Topic::LearnUpdate(_), bytes) => {
                    let newest = self.disk.iter().rev().find_map(|record| match record {
                        Record::State(state) => Some(state),
                        _ => None,
                    });
                    let pending = newest.and_then(|state| state.pending.clone());
                    assert_eq!(
                        pending.as_deref().map(Vec::as_slice),
                        Some(&bytes[..]),
                        "it is said before it is durable"
                    );
                    self.updates.push(codec::decode(&bytes).unwrap());
                }
                Effect::Say(Topic::LearnSamples(_), bytes) => {
                    let samples: RootSamples = codec::decode(&bytes).unwrap();
                    let on_disk = |sample: &RootSample| {
                        self.disk.iter().any(|record| matches!(record, Record::Confirmed(_, known) if known == sample))
                    };
                    assert!(samples.samples.iter().all(on_disk), "they are said before they are durable");
                    self.samples.push(samples);
                }
                Effect::Seat(head) => self.seated = Some(head),
                Effect::Refused(word, _) => self.refused.push(word),
                Effect::Say(topic, _) => panic!("{topic:?}"),
                Effect::Tell(_) => {}
            }
        }
    }

    fn later(&mut self, ms: u64) {
        self.now_ms += ms;
        self.step(Input::Tick);
    }

    fn hear<T: picket_shared::wire::Wire>(&mut self, topic: Topic, message: &T) {
        self.step(Input::Heard(topic, codec::encode(message).unwrap()));
    }

    fn head(&mut self, version: u64, head: &[f32], frozen: bool) {
        let full = HeadFull::of(lineage(), version, head, None, frozen);
        self.hear(Topic::LearnHead(lineage().id()), &full);
    }

    fn ack(&mut self) {
        let Some(update) = self.updates.last() else { return };
        let (epoch, seq) = (update.epoch, update.seq);
        let ack = LearnAck { lineage: lineage().id(), epoch, seq, samples_epoch: 0, samples: 0 };
        self.hear(Topic::LearnAck(terms(4).node), &ack);
    }

    /// Somebody passes, or nobody does: people show the first feature, others the second.
    fn pass(&mut self, person: bool) -> EventId {
        let track = self.tracks + 1;
        self.tracks = track;
        let area = Area { x1: 10.0, y1: 10.0, x2: 30.0, y2: 70.0 };
        let seen = vec![Seen { area, score: 0.6 }];
        let mut features = vec![0.1f32; 1 + features::GEOMETRY];
        features.extend(if person { [2.0, 0.0] } else { [0.0, 2.0] });
        let state = TrackState::Confirmed;
        let tracks = vec![Track { id: track, area, score: 0.6, state, hits: 5, start_ms: 0, last_seen_ms: 0 }];
        for tracks in [tracks, vec![]] {
            self.frames += 1;
            let (number, taken_ms) = (self.frames, self.frames * 200);
            let frame = Frame { number, taken_ms, seen: seen.clone(), features: features.clone(), tracks };
            self.step(Input::Looked(0, frame));
        }
        EventId::of_track(&terms(4).node, terms(4).boot, track)
    }

    fn label(&mut self, event: &EventId, person: bool) {
        let labels = vec![Label { event: event.clone(), person, who: "anna".into() }];
        self.hear_labels(&Labels { labels, ..Labels::default() });
    }

    fn hear_labels(&mut self, labels: &Labels) {
        self.step(Input::Heard(Topic::LearnLabels(terms(4).node), serde_json::to_vec(labels).unwrap()));
    }

    /// A person says of all these at once what they were.
    fn label_all(&mut self, events: &[EventId], person: bool) {
        let label = |event: &EventId| Label { event: event.clone(), person, who: "anna".into() };
        self.hear_labels(&Labels { labels: events.iter().map(label).collect(), ..Labels::default() });
    }

    /// So many events pass, and a person says what they were.
    fn see(&mut self, count: usize) {
        for n in 0..count {
            let event = self.pass(n % 2 == 0);
            self.label(&event, n % 2 == 0);
        }
    }

    /// Power is cut: what was not durable is gone.
    fn crash(&mut self) {
        let held_out_min = self.student.terms.held_out_min;
        self.student = Student::recover(terms(held_out_min), backbone(), self.disk.clone(), at(self.now_ms));
        self.student.rounds = self.tracks;
        let mut effects = Vec::new();
        self.student.begin(&mut effects);
        self.frames += 10;
        self.step(Input::Online(true));
    }
}

fn at(ms: u64) -> Now {
    Now { mono_ms: ms, unix_ms: 1_800_000_000_000 + ms }
}

fn zero() -> Vec<f32> {
    lineage().shape.beginning()
}

#[test]
fn it_learns_with_the_site_by_one_update_at_a_time_and_says_the_confirmed_samples() {
    let mut bench = Bench::new(4);
    bench.see(40);
    assert!(bench.updates.is_empty() && bench.samples.is_empty(), "no head was heard: nobody knows of what");
    bench.head(3, &zero(), false);
    bench.see(40);
    bench.later(20_000);
    assert_eq!(bench.updates.len(), 1);
    let update = bench.updates[0].clone();
    assert_eq!((update.seq, update.base, update.lineage), (1, 3, lineage().id()));
    assert!(update.loss_after < update.loss_before && update.crc == update.checksum());
    // It is said again, and nothing newer before it is acknowledged.
    bench.see(60);
    bench.later(15_000);
    bench.later(15_000);
    assert!(bench.updates.len() >= 2 && bench.updates.iter().all(|again| *again == update));
    let said = bench.updates.len();
    bench.ack();
    bench.later(20_000);
    assert_eq!(bench.updates[said].seq, 2);
    let first = &bench.samples[0];
    assert_eq!((first.first, first.samples.len()), (1, 16));
    assert_eq!(first.samples[1].label, 0);
    assert_eq!(first.samples[0].numbers(inputs(FEATURES)).unwrap()[9], 2.0);
}

#[test]
fn a_frozen_site_learns_nothing_and_a_station_alone_learns_for_itself() {
    let mut bench = Bench::new(4);
    bench.see(80);
    bench.later(20_000);
    assert!(bench.student.own.iter().any(|x| *x != 0.0));
    assert!(bench.seated.as_ref().unwrap().numbers.iter().any(|x| *x != 0.0), "{:?}", bench.student.status());
    let mut frozen = Bench::new(4);
    frozen.head(3, &zero(), true);
    frozen.see(80);
    frozen.later(20_000);
    assert!(frozen.updates.is_empty() && frozen.student.own.iter().all(|x| *x == 0.0));
    frozen.head(4, &zero(), false);
    frozen.later(20_000);
    assert!(!frozen.updates.is_empty() && frozen.updates.iter().all(|update| update.seq == 1));
}

#[test]
fn a_head_that_loses_is_not_judged_by_and_one_that_wins_is() {
    let mut bench = Bench::new(10);
    bench.see(100);
    bench.student.own.fill(0.0);
    let (mut good, mut bad) = (zero(), zero());
    (good[9], good[10]) = (1.5, -1.5);
    (bad[9], bad[10]) = (-1.5, 1.5);
    bench.student.used = zero();
    bench.seated = None;
    bench.head(3, &bad, false);
    assert!(bench.seated.is_none(), "{:?}", bench.student.status());
    assert!(bench.student.status().why.contains("stays"));
    bench.head(4, &good, false);
    let seated = bench.seated.clone().unwrap().numbers;
    assert!((seated[9] - 1.5).abs() < 0.02);
    assert_eq!(bench.student.status().used_version, 4);
    // Gone back to: judged by its own numbers, whatever the coordinator wants.
    bench.head(5, &bad, false);
    assert_eq!(bench.student.status().used_version, 4);
    // With too few examples held out nothing is changed.
    let mut young = Bench::new(50);
    young.see(20);
    young.head(3, &good, false);
    assert!(young.seated.is_none() && young.student.status().why.contains("are needed"));
}

/// The events that are held out of which this is known.
fn held_out(bench: &Bench, person: bool) -> Vec<EventId> {
    let known = bench.student.examples.held_out().filter(|example| example.person == person);
    known.map(|example| example.event.clone()).collect()
}

#[test]
fn a_head_that_nothing_speaks_for_any_more_is_given_up_for_the_network_alone() {
    let mut bench = Bench::new(10);
    bench.see(100);
    let mut good = zero();
    (good[9], good[10]) = (1.5, -1.5);
    (bench.student.own, bench.student.used) = (vec![0.0; zero().len()], zero());
    bench.head(3, &good, false);
    assert!((bench.seated.as_ref().unwrap().numbers[9] - 1.5).abs() < 0.02);
    let people = held_out(&bench, true);
    bench.label_all(&people, false);
    assert_eq!(bench.seated.as_ref().unwrap().numbers, zero());
    let status = bench.student.status();
    assert_eq!((status.used_version, status.given_up), (0, 1));
    assert!(status.why.contains("0 people and"), "{}", status.why);
    // It is so after power was cut. He was wrong, and says so: a head that surely does not lose is judged by again.
    bench.crash();
    assert_eq!(bench.seated.as_ref().unwrap().numbers, zero());
    bench.label_all(&people, true);
    bench.head(4, &good, false);
    assert_eq!((bench.student.status().used_version, bench.student.status().given_up), (4, 0));
}

#[test]
fn a_device_that_begins_gives_up_a_head_that_nothing_speaks_for() {
    let mut bench = Bench::new(50);
    bench.see(10);
    bench.later(6_000);
    let mut state = bench.student.state();
    (state.used, state.used_version) = (bytes_of(&vec![0.5; zero().len()]), 2);
    bench.disk.push(Record::State(Box::new(state)));
    bench.crash();
    assert_eq!((bench.student.status().used_version, bench.student.status().given_up), (0, 1));
    assert_eq!(bench.seated.as_ref().unwrap().numbers, zero());
}

#[test]
fn heads_that_are_not_for_this_device_are_refused_by_name() {
    let mut bench = Bench::new(4);
    let topic = || Topic::LearnHead(lineage().id());
    let of = |lineage: Lineage| {
        let mut head = lineage.shape.beginning();
        head[0] = 1.27;
        HeadFull::of(lineage, 9, &head, None, false)
    };
    bench.hear(topic(), &of(Lineage { fleet_epoch: 2, ..lineage() }));
    bench.hear(topic(), &of(Lineage { backbone: "cd".repeat(32), ..lineage() }));
    bench.hear(topic(), &of(Lineage { shape: HeadShape::logistic(4), ..lineage() }));
    bench.hear(topic(), &of(Lineage { shape: HeadShape::softmax(inputs(FEATURES) as u32, 2), ..lineage() }));
    bench.hear(topic(), &of(lineage()));
    let mut changed = of(Lineage { fleet_epoch: 2, ..lineage() });
    (changed.version, changed.values[0]) = (10, 3);
    bench.hear(topic(), &changed);
    bench.step(Input::Heard(topic(), vec![1, 2, 3]));
    assert_eq!(bench.refused, ["head_backbone", "head_shape", "head_shape", "head_old", "head", "malformed"]);
    assert_eq!((bench.student.version, bench.student.lineage.fleet_epoch), (9, 2));
    // A newer one as a change, by its base.
    bench.refused.clear();
    let lineage = Lineage { fleet_epoch: 2, ..lineage() };
    let mut change = vec![0.0; zero().len()];
    change[3] = 0.5;
    let change = Packed::of(&change, 4).unwrap();
    let whole = of(lineage.clone()).head().unwrap();
    let delta = |base, version| HeadDelta::of(lineage.id(), base, &whole, version, change.clone()).unwrap();
    bench.hear(Topic::LearnDelta(lineage.id()), &delta(8, 11));
    assert_eq!((bench.refused.clone(), bench.student.version), (vec!["delta_base"], 9));
    bench.hear(Topic::LearnDelta(lineage.id()), &delta(9, 11));
    assert_eq!((bench.student.version, bench.student.shared[3]), (11, 0.5));
    let foreign = HeadDelta { lineage: self::lineage().id(), ..delta(9, 12) };
    bench.hear(Topic::LearnDelta(lineage.id()), &foreign);
    assert_eq!(bench.refused.last(), Some(&"delta_lineage"));
}

#[test]
fn what_neighbours_agree_on_is_learned_from_and_confirms_nothing() {
    let mut bench = Bench::new(4);
    bench.head(3, &zero(), false);
    let events: Vec<EventId> = (0..40).map(|n| bench.pass(n % 2 == 0)).collect();
    let agreed = |(n, event): (usize, &EventId)| Label { event: event.clone(), person: n % 2 == 0, who: "yard".into() };
    let unknown = Label { event: EventId::new("n-7-99").unwrap(), person: true, who: "yard".into() };
    for some in events.iter().enumerate().map(agreed).chain([unknown]).collect::<Vec<_>>().chunks(30) {
        // It is said again with each that is new.
        (0..2).for_each(|_| bench.hear_labels(&Labels { labels: vec![], agreed: some.to_vec() }));
    }
    bench.later(20_000);
    let Counts { people_agreed, nobody_agreed, held_out, people_confirmed, nobody_confirmed, .. } =
        bench.student.status().examples;
    assert!(people_agreed > 0 && nobody_agreed > 0 && people_agreed + nobody_agreed <= 40);
    assert_eq!((held_out, people_confirmed, nobody_confirmed), (0, 0, 0));
    assert!(bench.updates.iter().all(|update| update.seq == 1) && !bench.updates.is_empty());
    assert_eq!((bench.samples.len(), bench.student.status().labels), (0, 0));
    assert!(bench.refused.is_empty());
    // A person's word stands above it.
    let n = (0..40).find(|n| !bench.student.examples.holds_out(&events[*n])).unwrap();
    bench.label(&events[n], n % 2 != 0);
    bench.hear_labels(&Labels { labels: vec![], agreed: vec![agreed((n, &events[n]))] });
    assert_eq!(bench.student.examples.said(&events[n]), Some((n % 2 != 0, "anna")));
    let counts = bench.student.status().examples;
    assert_eq!(counts.people_agreed + counts.nobody_agreed, people_agreed + nobody_agreed - 1);
}

#[test]
fn what_a_teacher_says_is_learned_from_leaves_no_device_and_gives_way_to_a_person() {
    let mut bench = Bench::new(4);
    bench.head(3, &zero(), false);
    let taught = |whose, person, feature| Taught { whose, person, features: vec![feature; inputs(FEATURES)] };
    let event = bench.pass(true);
    let said = vec![taught(Whose::Track(1), false, 0.5), taught(Whose::Square(3, 4), true, 0.25)];
    bench.step(Input::Taught(2, backbone(), said.clone()));
    // It looked at what another model had found.
    let other = Arc::new(Backbone { sha256: "cd".repeat(32), features: FEATURES });
    bench.step(Input::Taught(3, other, said));
    bench.later(20_000);
    let counts = |bench: &Bench| bench.student.status().examples;
    assert_eq!((counts(&bench).people_taught, counts(&bench).nobody_taught), (1, 1));
    assert_eq!((bench.samples.len(), bench.student.status().labels), (0, 0));
    let square = EventId::new("n-square2.3.4.3000000").unwrap();
    assert!(bench.student.examples.all().0.any(|example| example.event == square && example.person));
    assert_eq!((square.node(), bench.student.status().stats().taught), (None, 2));
    // Of the same event, as the tracker's.
    bench.label(&event, true);
    assert_eq!((counts(&bench).people_taught, counts(&bench).nobody_taught), (1, 0));
    bench.later(20_000);
    bench.crash();
    assert_eq!((counts(&bench).people_taught, counts(&bench).nobody_taught), (1, 0));
}

#[test]
fn a_persons_word_is_taken_once_and_one_about_an_unknown_event_is_refused() {
    let mut bench = Bench::new(4);
    let event = bench.pass(true);
    bench.label(&event, true);
    bench.label(&event, true);
    assert_eq!(bench.student.status().labels, 1);
    let counts = bench.student.status().examples;
    assert_eq!((counts.people_confirmed, counts.nobody_confirmed), (1, 0));
    bench.label(&event, false);
    let counts = bench.student.status().examples;
    assert_eq!((counts.people_confirmed, counts.nobody_confirmed), (0, 1));
    bench.label(&EventId::new("n-7-99").unwrap(), true);
    bench.step(Input::Heard(Topic::LearnLabels(terms(4).node), b"{\"labels\":[{}]}".to_vec()));
    assert_eq!(bench.refused, ["label_event", "malformed"]);
    // After a restart an event of before is known, and what was said of it.
    bench.later(6_000);
    bench.crash();
    let again = bench.student.examples.said(&event);
    assert_eq!(again, Some((false, "anna")));
    bench.label(&event, true);
    assert_eq!(bench.student.status().examples.people_confirmed, 1);
}

#[test]
fn an_update_from_a_head_that_the_coordinator_lost_is_learned_again() {
    let mut bench = Bench::new(4);
    bench.head(9, &zero(), false);
    bench.see(24);
    bench.later(20_000);
    let kept = bench.student.feedback.kept().to_vec();
    let change = bench.updates[0].change.to_dense(zero().len()).unwrap();
    bench.head(2, &zero(), false);
    assert!(bench.student.post.pending.is_none());
    let now = bench.student.feedback.kept();
    assert!(now.iter().zip(kept.iter().zip(&change)).all(|(now, (kept, said))| (now - kept - said).abs() < 1e-5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever is cut off, and whenever: a number stands for one update, numbers only rise, and what was acknowledged stays so.
    #[test]
    fn no_number_is_used_twice_whatever_crashes(deeds in prop::collection::vec(0u8..6, 1..40)) {
        let mut bench = Bench::new(4);
        bench.head(1, &zero(), false);
        bench.see(60);
        let mut version = 1;
        for deed in deeds {
            match deed {
                0 => bench.see(12),
                1 => bench.later(11_000),
                2 => bench.later(61_000),
                3 => bench.ack(),
                4 => {
                    version += 1;
                    bench.head(version, &zero(), false);
                }
                _ => bench.crash(),
            }
        }
        let mut known = BTreeMap::new();
        let mut before = (0, 0);
        for update in &bench.updates {
            let place = (update.epoch, update.seq);
            prop_assert!(place >= before, "{place:?} after {before:?}");
            before = place;
            let first = known.entry(place).or_insert_with(|| update.clone());
            prop_assert_eq!(&*first, update, "one number for two updates");
        }
    }

    /// A student that goes on from its own snapshot goes on as if nothing had been.
    #[test]
    fn a_snapshot_is_the_whole_state(events in 10usize..60, acked: bool) {
        let mut bench = Bench::new(4);
        bench.head(1, &zero(), false);
        bench.see(events);
        bench.later(70_000);
        if acked {
            bench.ack();
        }
        let snapshot = bench.student.snapshot();
        let again = Student::recover(terms(4), backbone(), snapshot.clone(), at(0));
        prop_assert_eq!(again.snapshot(), snapshot);
        prop_assert_eq!(again.examples.counts(), bench.student.examples.counts());
    }
}
