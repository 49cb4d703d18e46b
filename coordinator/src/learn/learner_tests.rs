//! The learner: what it says, what it refuses by which name, and that a crash anywhere is no crash.

use super::*;
use picket_shared::learn::lineage::HeadShape;
use picket_shared::learn::message::RootSample;
use picket_shared::learn::packed::Packed;
use picket_shared::random::SplitMix64;
use proptest::prelude::*;

const INPUTS: u32 = 5;

fn terms() -> Terms {
    let shape = HeadShape::logistic(INPUTS);
    Terms { lineage: Lineage { fleet_epoch: 1, backbone: "ab".repeat(32), shape }, rate: 0.5, trusted: false }
}

fn node(n: usize) -> NodeId {
    NodeId::new(format!("n{n}")).unwrap()
}

fn at(ms: u64) -> Now {
    Now { mono_ms: ms, unix_ms: 1_800_000_000_000 + ms }
}

fn change(seed: u64, width: f64) -> Packed {
    let mut random = SplitMix64::new(seed);
    let change: Vec<f32> = (0..=INPUTS).map(|_| (random.normals()[0] * 0.1 * width) as f32 + 0.05).collect();
    Packed::of(&change, 6).unwrap()
}

fn update(seq: u64, base: u64, change: Packed) -> HeadUpdate {
    let lineage = terms().lineage.id();
    HeadUpdate { lineage, epoch: 1, seq, base, samples: 8, change, loss_before: 0.7, loss_after: 0.6, crc: 0 }.closed()
}

fn said(n: usize, update: &HeadUpdate) -> Input {
    Input::Update(node(n), codec::encode(update).unwrap())
}

fn samples(n: usize, first: u64, count: usize, label: u8) -> Input {
    let x = if label == 1 { 1.0f32 } else { -1.0 };
    let features = (0..INPUTS).flat_map(|_| x.to_le_bytes()).collect::<Vec<u8>>();
    let sample = |k| RootSample { features: features.clone().into(), label, operator: format!("o{}", k % 4) };
    let (lineage, samples) = (terms().lineage.id(), (0..count).map(sample).collect());
    Input::Samples(node(n), codec::encode(&RootSamples { lineage, epoch: 1, first, samples }).unwrap())
}

/// A learner with what its disk has.
struct Bench {
    learner: Learner,
    disk: Vec<Record>,
    now_ms: u64,
    effects: Vec<Effect>,
}

impl Bench {
    fn new() -> Bench {
        Bench { learner: Learner::new(terms()), disk: Vec::new(), now_ms: 0, effects: Vec::new() }
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        self.now_ms += 300;
        self.learner.step(at(self.now_ms), input, &mut self.effects);
        let effects = std::mem::take(&mut self.effects);
        let records = effects.iter().filter_map(|effect| match effect {
            // Through the bytes that the log would have.
            Effect::Log(record) => Some(codec::decode(&codec::encode(record).unwrap()).unwrap()),
            _ => None,
        });
        self.disk.extend(records);
        effects
    }

    fn refused(&mut self, input: Input) -> Vec<&'static str> {
        let effects = self.step(input);
        effects
            .iter()
            .filter_map(|effect| if let Effect::Refused(word, _) = effect { Some(*word) } else { None })
            .collect()
    }

    fn crash(&mut self) {
        self.learner = Learner::recover(terms(), &self.disk);
    }

    fn with_root(mut self) -> Bench {
        for n in 0..4 {
            for (turn, label) in [(0u64, 0), (1, 1)] {
                for part in 0..2 {
                    self.step(samples(n, 1 + turn * 28 + part * 14, 14, label));
                }
            }
        }
        self
    }
}

fn state(learner: &Learner) -> (u64, Vec<u32>, Vec<Record>) {
    let bits = learner.head().iter().map(|x| x.to_bits()).collect();
    (learner.version(), bits, learner.snapshot())
}

/// What learning gives, without the releases: how soon one follows another is counted from the start of the program.
fn learned(learner: &Learner) -> (u64, Vec<u32>, Vec<Record>) {
    let (version, bits, records) = state(learner);
    let unreleased = |record: Record| match record {
        Record::Head { version, head, frozen, .. } => Some(Record::Head { version, head, frozen, released: None }),
        Record::Kept { .. } => None,
        other => Some(other),
    };
    (version, bits, records.into_iter().filter_map(unreleased).collect())
}

#[test]
fn an_update_is_logged_before_it_is_acknowledged_and_enough_of_them_move_the_head() {
    let mut bench = Bench::new();
    let effects = bench.step(said(0, &update(1, 0, change(1, 1.0))));
    let ack = LearnAck { lineage: terms().lineage.id(), epoch: 1, seq: 1, samples_epoch: 0, samples: 0 };
    assert!(effects.contains(&Effect::Ack(node(0), ack)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Log(Record::Update { .. }))));
    // The first thing that is said is the head from which all begin.
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Full(full) if full.version == 0)));
    let effects = bench.step(said(1, &update(1, 0, change(2, 1.0))));
    assert_eq!(bench.learner.version(), 1);
    let Some(Effect::Full(full)) = effects.iter().find(|effect| matches!(effect, Effect::Full(_))) else { panic!() };
    let error =
        full.head().unwrap().iter().zip(bench.learner.head()).fold(0.0f32, |max, (a, b)| max.max((a - b).abs()));
    assert!(full.version == 1 && error < 0.01, "{error}");
    assert_eq!(bench.learner.view(at(0)).stations.len(), 2);
}

#[test]
fn each_bad_update_is_refused_by_its_name_and_leaves_no_trace() {
    let mut bench = Bench::new();
    bench.step(said(0, &update(5, 0, change(1, 1.0))));
    let before = state(&bench.learner);
    let good = update(6, 0, change(2, 1.0));
    let with = |changed: &dyn Fn(&mut HeadUpdate)| {
        let mut update = good.clone();
        changed(&mut update);
        update.closed()
    };
    for (update, word) in [
        (with(&|u| u.lineage.0[0] ^= 1), "learn_lineage"),
        (with(&|u| u.base = 1), "learn_future"),
        (with(&|u| u.change = Packed::of(&[1.0; 7], 7).unwrap()), "learn_length"),
        (with(&|u| u.change.values = vec![1; 7].into()), "learn_too_many"),
        (with(&|u| u.change.scale = f32::INFINITY), "learn_not_finite"),
        (with(&|u| u.loss_before = f32::NAN), "learn_not_finite"),
        (with(&|u| u.change.rice = 21), "learn_rice_parameter"),
        (with(&|u| u.change.places = vec![].into()), "learn_rice_overrun"),
        (with(&|u| u.change.places = vec![0xFF; 9].into()), "learn_place"),
        (with(&|u| u.change.places = vec![0; 9].into()), "learn_rice_trailing"),
        (HeadUpdate { samples: 9, ..good.clone() }, "learn_crc"),
    ] {
        assert_eq!(bench.refused(said(1, &update)), [word]);
        assert_eq!(state(&bench.learner), before, "{word}");
    }
    assert_eq!(bench.refused(Input::Update(node(1), b"\x01garbage".to_vec())), ["malformed"]);
    assert_eq!(bench.refused(said(0, &update(5, 0, change(1, 1.0)))), [""; 0]);
    assert_eq!(bench.refused(said(0, &update(4, 0, change(1, 1.0)))), [""; 0]);
    assert_eq!(bench.learner.view(at(0)).stations[0].repeated, 2);
    assert_eq!(bench.learner.view(at(0)).refused["learn_not_finite"], 2);
}

#[test]
fn steps_over_many_numbers_are_farther_from_each_other() {
    let shape = HeadShape::softmax(999, 100);
    let lineage = Lineage { shape, ..terms().lineage };
    let mut learner = Learner::new(Terms { lineage: lineage.clone(), ..terms() });
    let change = Packed::of(&vec![0.5; shape.parameters()], 10).unwrap();
    let mut all_say = |seq, ms| {
        for n in 0..16 {
            let update = HeadUpdate { lineage: lineage.id(), ..update(seq, 0, change.clone()) }.closed();
            learner.step(at(ms), said(n, &update), &mut Vec::new());
        }
        (learner.version(), learner.next_wakeup())
    };
    all_say(1, 0);
    let (version, _) = all_say(2, 10_000);
    let rest_ms = FLUSH_MS_MIN * 16 * 100_000 / FLUSH_CELLS as u64;
    assert!(rest_ms > 2 * FLUSH_MS_MIN);
    assert_eq!(all_say(3, 10_000 + rest_ms - 1), (version, Some(10_000 + rest_ms)));
    assert_eq!(all_say(4, 10_000 + rest_ms).0, version + 1);
}

#[test]
fn confirmed_samples_are_taken_once_in_order_and_open_the_gate() {
    let mut bench = Bench::new();
    assert!(bench.learner.view(at(0)).root_lacks.contains("class 0"));
    bench.step(samples(0, 1, 10, 1));
    for again in [samples(0, 1, 10, 1), samples(0, 12, 3, 1)] {
        bench.step(again);
        assert_eq!(bench.learner.view(at(0)).root_samples, [0, 10]);
    }
    let mut bench = Bench::new().with_root();
    let view = bench.learner.view(at(0));
    assert_eq!((view.mixing, &*view.root_lacks), (Mixing::NnmGate, ""));
    // What points against the samples does not count, however often it comes.
    let against = Packed::of(&[-1.0, -1.0, -1.0, -1.0, -1.0, 0.0], 6).unwrap();
    let with = Packed::of(&[1.0, 1.0, 1.0, 1.0, 1.0, 0.0], 6).unwrap();
    bench.step(said(0, &update(1, 0, against)));
    bench.step(said(1, &update(1, 0, with)));
    let stations = bench.learner.view(at(0)).stations;
    assert_eq!((stations[0].fate, stations[1].fate), (Fate::Gated, Fate::Used));
    assert!(bench.learner.head()[0] > 0.5);
}

#[test]
fn a_head_that_is_no_worse_is_released_and_a_revert_is_a_new_version_with_the_same_bits() {
    let mut bench = Bench::new().with_root();
    let with = Packed::of(&[1.0, 1.0, 1.0, 1.0, 1.0, 0.0], 6).unwrap();
    let mut released = Vec::new();
    for seq in 1..6 {
        for n in 0..2 {
            let effects = bench.step(said(n, &update(seq, 0, with.clone())));
            released
                .extend(effects.into_iter().filter_map(|e| if let Effect::Release(r) = e { Some(r) } else { None }));
        }
        bench.now_ms += RELEASE_MS_MIN;
    }
    assert!(released.len() >= 2 && released.windows(2).all(|pair| pair[0].version < pair[1].version));
    let before = released[released.len() - 2].clone();
    let version = bench.learner.version();
    let effects = bench.step(Input::Order(Order::Revert));
    assert_eq!(bench.learner.head(), before.head);
    assert_eq!(bench.learner.version(), version + 1);
    let reverted = effects.iter().any(|e| matches!(e, Effect::Release(r) if r.revert_of == Some(before.version)));
    let told = effects.iter().any(|e| matches!(e, Effect::Full(f) if f.frozen && f.revert_of == Some(before.version)));
    assert!(reverted && told);
    // Frozen: what comes is kept and acknowledged, and moves nothing.
    for n in 0..4 {
        bench.step(said(n, &update(50, 0, with.clone())));
    }
    assert_eq!(bench.learner.version(), version + 1);
    bench.step(Input::Order(Order::Unfreeze));
    assert_eq!(bench.learner.version(), version + 2);
    bench.crash();
    assert_eq!(bench.learner.version(), version + 2);
}

#[test]
fn what_neighbours_agree_on_is_told_to_the_device_beside_persons_words_and_confirms_nothing() {
    let mut bench = Bench::new();
    let event = |track: u64| picket_shared::ids::EventId::of_track(&node(1), picket_shared::ids::Boot(7), track);
    let label = |track, who: &str| Label { event: event(track), person: true, who: who.into() };
    bench.step(Input::Order(Order::Label(vec![label(1, "anna")])));
    let before = state(&bench.learner);
    let effects = bench.step(Input::Agreed(vec![label(2, "yard")]));
    let expected = Labels { labels: vec![label(1, "anna")], agreed: vec![label(2, "yard")] };
    assert!(effects.contains(&Effect::Labels(node(1), expected.clone())), "{effects:?}");
    // It changes nothing that is kept, counts as no confirmed sample, and is said again with the rest.
    assert_eq!(state(&bench.learner), before);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Log(_))));
    assert_eq!(bench.learner.root.counts(), [0, 0]);
    assert!(bench.step(Input::SayAgain).contains(&Effect::Labels(node(1), expected)));
}

#[test]
fn a_newer_head_at_the_broker_is_taken_and_an_older_one_is_not() {
    let mut bench = Bench::new();
    let full = |version, frozen| HeadFull::of(terms().lineage, version, &[0.5, 0.0, 0.0, 0.0, 0.0, 1.0], None, frozen);
    bench.step(Input::Head(codec::encode(&full(9, false)).unwrap()));
    assert_eq!((bench.learner.version(), bench.learner.head()[5]), (9, 1.0));
    let before = state(&bench.learner);
    bench.step(Input::Head(codec::encode(&full(9, true)).unwrap()));
    let mut changed = full(12, false);
    changed.values[0] ^= 1;
    assert_eq!(bench.refused(Input::Head(codec::encode(&changed).unwrap())), ["learn_head"]);
    let last = full(FOUND_VERSION_MAX + 1, false);
    assert_eq!(bench.refused(Input::Head(codec::encode(&last).unwrap())), ["learn_version"]);
    assert_eq!(state(&bench.learner), before);
    bench.crash();
    assert_eq!(state(&bench.learner), before);
}

#[test]
fn a_station_is_seen_to_be_out_and_in_again_before_the_next_step() {
    let mut bench = Bench::new();
    bench.step(said(1, &update(7, 0, change(1, 1.0))));
    let fate = |bench: &Bench| bench.learner.view(at(bench.now_ms)).stations[0].fate;
    bench.step(Input::Order(Order::Freeze));
    bench.step(Input::Order(Order::Out(node(1))));
    assert_eq!(fate(&bench), Fate::Frozen);
    bench.step(Input::Order(Order::In(node(1))));
    assert_eq!(fate(&bench), Fate::Waiting);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// P5: a crash anywhere, with a snapshot anywhere before it and the unacknowledged said again, equals no crash.
    #[test]
    fn a_crash_anywhere_is_no_crash(seed: u64, snapshot in 0usize..60, crash in 0usize..60, rooted: bool) {
        let begin = || if rooted { Bench::new().with_root() } else { Bench::new() };
        let (mut calm, mut struck, mut random) = (begin(), begin(), SplitMix64::new(seed));
        let mut seqs = [0u64; 6];
        for turn in 0..60 {
            let n = random.below(6);
            seqs[n] += 1;
            let wide = if random.below(5) == 0 { 100.0 } else { 1.0 };
            let base = calm.learner.version().saturating_sub(random.below(3) as u64);
            let update = update(seqs[n], base, change(random.bits(), wide));
            let order = match random.below(12) {
                0 => Some(Order::Out(node(random.below(6)))),
                1 => Some(Order::In(node(random.below(6)))),
                _ => None,
            };
            for bench in [&mut calm, &mut struck] {
                bench.step(said(n, &update));
                order.clone().into_iter().for_each(|order| drop(bench.step(Input::Order(order))));
            }
            if turn == snapshot {
                struck.disk = struck.learner.snapshot();
            }
            if turn == crash {
                struck.crash();
                // It was not acknowledged for all that the device knows.
                struck.step(said(n, &update));
            }
        }
        // What is only shown, such as how often something came again, is no part of it.
        prop_assert_eq!(learned(&calm.learner), learned(&struck.learner));
        let before = state(&struck.learner);
        struck.crash();
        prop_assert_eq!(before, state(&struck.learner));
        prop_assert_eq!(struck.learner.problem(), None);
    }
}
