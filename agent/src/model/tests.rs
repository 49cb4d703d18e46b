//! The core of models with a shell that answers every order in no time, is killed between any two, and lies where a test says.

mod heads;

use std::collections::{BTreeMap, VecDeque};

use picket_shared::chunks::Chunks;
use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::crypto::{Digest, SecretKey};
use picket_shared::event::Precision;
use picket_shared::ids::{CameraId, ModelName, NodeId, StationId};
use picket_shared::model::decode;
use picket_shared::model::{
    Artifact, Assignment, Chunk, Envelope, Floors, Manifest, ModelPhase, ModelState, Needs, Root, TrialTerms, Trusted,
};
use picket_shared::status::{CameraStats, DetectorTwin};

use super::models::{HANG_MS, PROBATION_MS};
use super::record::{Phase, Place, Record, Slot};
use super::shelf::Found;
use super::verdict::Seen;
use super::*;
use crate::detect::agreement::Judge;
use crate::frame::{Area, Detection};

const NOW_S: u64 = 1_800_000_000;
const ATTEMPTS: u8 = 3;

/// A site's keys, and one device of it.
struct Bench {
    owner: SecretKey,
    orders: SecretKey,
    models: Models,
    now_ms: u64,
    /// What is on the disk: the record, what was seen, and whole files.
    disk: (Record, Option<Trusted>),
    files: BTreeMap<(u8, u8), Digest>,
    waiting: VecDeque<Order>,
    said: Option<ModelState>,
    /// What the frame path looks with, by its slot.
    looks: Place,
    /// How far the candidate agrees on live frames.
    agrees: f64,
    /// The candidate says nothing any more.
    hangs: bool,
    /// Its process dies.
    crashes: bool,
    frames: u64,
    /// What the audit log would say, in the order of the disk.
    noted: Vec<String>,
}

fn node() -> NodeId {
    NodeId::new("edge").unwrap()
}

fn device() -> Device {
    Device {
        node: node(),
        station: StationId::new("gate").unwrap(),
        arch: "x86_64".into(),
        providers: vec!["cpu".into()],
        memory_bytes: 1 << 32,
        runtime_api: 24,
        factory: Some(Digest::of(b"factory")),
    }
}

fn manifest(counter: u64, file: &[u8]) -> Manifest {
    Manifest {
        name: ModelName::new("person").unwrap(),
        counter,
        expires_s: NOW_S + 1_000_000,
        chunk_bytes: 1024,
        file: Artifact::plain(file),
        head: Some(Artifact::plain(b"a head of its own")),
        calibration: None,
        labels: None,
        family: Some("centernet".into()),
        input: None,
        precision: Precision::Fp32,
        floors: Floors { agreement_min: 0.8, ap50_min: None, count_off_mean_max: None },
        needs: Needs::default(),
        delegation: None,
    }
}

/// A file of some chunks.
fn file(byte: u8) -> Vec<u8> {
    vec![byte; 5_000]
}

fn seen(agreement: f64) -> Seen {
    let at = |n: usize| Area { x1: n as f32 * 50.0, y1: 0.0, x2: n as f32 * 50.0 + 20.0, y2: 40.0 };
    let people: Vec<Detection> = (0..20).map(|n| Detection { area: at(n), score: 0.9 }).collect();
    let mut judge = Judge::default();
    (0..40).for_each(|_| judge.add(&people, &people[..(agreement * 20.0) as usize], 0.3));
    Seen { agreement: judge.verdict(), candidate_ms: 15.0, active_ms: 15.0, resident_bytes: 100 << 20 }
}

impl Bench {
    fn new() -> Bench {
        let (owner, orders) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let root = Root { version: 1, expires_s: NOW_S + 1_000_000, threshold: 1, keys: vec![owner.public()] };
        let disk = (Record::default(), Some(Trusted::begin(root)));
        let found = Found { record: disk.0.clone(), trusted: disk.1.clone(), problems: vec![] };
        let mut models = Models::new(found, device(), 7);
        models.orders_by(Some(orders.public()));
        let mut bench = Bench {
            owner,
            orders,
            models,
            now_ms: 1_000,
            disk,
            files: BTreeMap::new(),
            waiting: VecDeque::new(),
            said: None,
            looks: Place::Factory,
            agrees: 1.0,
            hangs: false,
            crashes: false,
            frames: 0,
            noted: vec![],
        };
        bench.begin();
        bench
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, unix_ms: NOW_S * 1000 + self.now_ms }
    }

    fn act(&mut self, act: impl FnOnce(&mut Models, Now, &mut Vec<Order>)) {
        let (now, mut out) = (self.now(), Vec::new());
        act(&mut self.models, now, &mut out);
        self.waiting.extend(out);
    }

    fn begin(&mut self) {
        self.act(|models, now, out| {
            models.online(now, true, out);
            models.begin(now, out);
        });
    }

    fn assignment(&self, number: u64, release: Option<&Manifest>) -> Vec<u8> {
        let release = release.map(|manifest| {
            let mut envelope = Envelope::of(manifest).unwrap();
            envelope.sign::<Manifest>(&self.owner);
            envelope
        });
        codec::encode(&Assignment {
            node: node(),
            station: StationId::new("gate").unwrap(),
            number,
            issued_s: NOW_S,
            expires_s: NOW_S + 10_000,
            not_before_s: 0,
            root_from: 1,
            roots: vec![],
            release,
            head: None,
            trial: TrialTerms { shadow_frames: 30, shadow_s_max: 600, agreement_min: None, attempts: ATTEMPTS },
            learned: None,
            release_number: None,
        })
        .unwrap()
    }

    fn assign(&mut self, number: u64, release: Option<&Manifest>) -> Result<(), &'static str> {
        let payload = self.assignment(number, release);
        let mut judged = Ok(());
        self.act(|models, now, out| judged = models.assignment(now, &payload, out).map_err(|(word, _)| word));
        judged
    }

    fn news(&mut self, news: News) {
        self.act(|models, now, out| models.news(now, news, out));
    }

    /// Carries out one order; false, where there is none.
    fn one(&mut self) -> bool {
        let Some(order) = self.waiting.pop_front() else { return false };
        match order {
            Order::Keep(number, record, trusted) => {
                let change = change::between(&self.disk.0, &record);
                self.noted.extend(change.map(|change| format!("{} {}", change.model, change.what)));
                self.disk = (*record, trusted.map(|trusted| *trusted).or(self.disk.1.take()));
                self.news(News::Kept(number));
            }
            Order::Open(wanted, avoid) => {
                let here = self.files.get(&(wanted.slot as u8, wanted.what as u8)) == Some(&wanted.artifact.sha256);
                let encoding = decode::choose(&wanted.artifact, &avoid, |_| false).unwrap().clone();
                let total = encoding.length.div_ceil(u64::from(wanted.chunk_bytes)) as u32;
                self.news(if here { News::Here } else { News::Opened(encoding, Chunks::none(total)) });
            }
            Order::Want(want) => {
                let length = if want.chunk_bytes == 1024 { 5_000 } else { 0 };
                for index in want.ranges.iter().flat_map(|(from, to)| *from..=*to) {
                    let bytes = match index {
                        0 if self.is_head(&want.sha256) => 17,
                        _ => (length - index as usize * 1024).min(1024),
                    };
                    let chunk = Chunk { index, bytes: vec![0; bytes].into() };
                    self.act(|models, now, out| models.chunk(now, &want.sha256, chunk, out).unwrap());
                }
            }
            Order::Write(index, _) => self.news(News::Written(index, true)),
            Order::Install(wanted) => {
                self.files.insert((wanted.slot as u8, wanted.what as u8), wanted.artifact.sha256);
                self.news(News::Here);
            }
            Order::Try(..) if self.hangs => {}
            Order::Try(..) if self.crashes => self.news(News::Trial(Trying::Crashed("signal 11".into()))),
            Order::Try(..) => {
                let seen = seen(self.agrees);
                for trying in [Trying::Loading, Trying::Loaded, Trying::Stored(None), Trying::Idle, Trying::Seen(seen)]
                {
                    self.news(News::Trial(trying));
                }
            }
            Order::Load(place, _) => {
                self.looks = place;
                let twin = DetectorTwin {
                    model: "0123456789ab".into(),
                    layout: "l".into(),
                    provider: "cpu".into(),
                    precision: Precision::Fp32,
                    threads: 1,
                    runtime: "1.24.4".into(),
                    passed_over: BTreeMap::new(),
                    workers: 1,
                };
                self.news(News::Switched(Box::new(twin)));
                self.news(News::Gap(Duration::from_millis(7)));
            }
            Order::Say(state) => self.said = Some(*state),
            Order::Listen(_) | Order::ListenHead(_) | Order::Learn(..) | Order::Discard | Order::StopTrial => {}
        }
        true
    }

    fn is_head(&self, sha256: &Digest) -> bool {
        *sha256 == Digest::of(b"a head of its own")
    }

    /// Lets time pass, while frames are looked at.
    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.frames += 20;
        let camera = CameraStats { frames_detected: self.frames, ..nothing_counted() };
        self.act(|models, now, out| {
            models.cameras(now, &[camera], out);
            models.move_on(now, out);
        });
    }

    /// Until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..200 {
            while self.one() {}
            self.pass(1_000);
        }
        while self.one() {}
    }

    /// The agent is killed, and begins again with what is on the disk.
    fn restart(&mut self) {
        let mut record = self.disk.0.clone();
        if record.start() {
            self.disk.0 = record.clone();
        }
        self.looks = record.active;
        let found = Found { record, trusted: self.disk.1.clone(), problems: vec![] };
        self.models = Models::new(found, device(), 8);
        self.models.orders_by(Some(self.orders.public()));
        self.waiting.clear();
        self.frames = 0;
        self.begin();
    }

    fn word(&self) -> Option<String> {
        self.models.record().last.clone()?.why.map(|(word, _)| word)
    }
}

fn nothing_counted() -> CameraStats {
    CameraStats {
        camera: CameraId::new("c").unwrap(),
        state: "running".into(),
        frames: 0,
        frames_dropped: 0,
        frames_gated: 0,
        frames_detected: 0,
        detections: 0,
        tracks: 0,
        persons_now: 0,
        fps: 0.0,
        inference_ms: 0.0,
        restarts: 0,
        last_error: None,
        fps_in: 0.0,
        format: None,
        frames_bad: 0,
        frames_frozen: 0,
        retry_in_s: None,
        zones: BTreeMap::new(),
        lines: BTreeMap::new(),
        bad_input: BTreeMap::new(),
        sinks: vec![],
    }
}

#[test]
fn a_release_is_fetched_tried_run_and_committed_and_the_next_one_takes_the_other_slot() {
    let mut bench = Bench::new();
    bench.assign(1, Some(&manifest(1, &file(1)))).unwrap();
    bench.settle();
    let record = bench.models.record();
    assert_eq!((record.active, record.work.is_none(), bench.word()), (Place::Slot(Slot::A), true, None));
    assert_eq!(bench.looks, Place::Slot(Slot::A));
    assert_eq!(&bench.disk.0, record, "and all of it is durable");
    let said = bench.said.clone().unwrap();
    assert_eq!((said.phase, said.assignment, said.root), (ModelPhase::Idle, 1, 1));
    let [runs, lasted] = &std::mem::take(&mut bench.noted)[..] else { panic!("two lines for the audit log") };
    assert!(runs.contains("runs in the place of the configuration's own model, and must last"), "{runs}");
    assert!(runs.starts_with("person release 1 (") && lasted.starts_with("person release 1 ("), "{lasted}");
    assert!(lasted.ends_with("has lasted, and is committed"), "{lasted}");
    assert_eq!((said.active.unwrap().counter, said.swap_gap_ms), (1, Some(7.0)));
    bench.assign(2, Some(&manifest(2, &file(2)))).unwrap();
    bench.settle();
    assert_eq!(bench.looks, Place::Slot(Slot::B));
    // The one before is still there: no byte of it travels again.
    bench.assign(3, Some(&manifest(3, &file(1)))).unwrap();
    let before = bench.files.clone();
    bench.settle();
    assert_eq!((bench.looks, &bench.files), (Place::Slot(Slot::A), &before));
    assert_eq!(bench.said.clone().unwrap().active.unwrap().counter, 3, "the same files, by a newer word");
    bench.assign(4, None).unwrap();
    bench.settle();
    assert_eq!((bench.looks, bench.word()), (Place::Factory, None));
    assert!(bench.noted.last().unwrap().starts_with("the configuration's own model "), "{:?}", bench.noted);
}

#[test]
fn how_a_candidate_ended_is_for_the_audit_log_also_where_it_ended_by_the_start() {
    let mut bench = Bench::new();
    bench.crashes = true;
    bench.assign(1, Some(&manifest(1, &file(1)))).unwrap();
    bench.settle();
    let [given_up] = &std::mem::take(&mut bench.noted)[..] else { panic!("{:?}", bench.noted) };
    assert!(given_up.contains("given up, the configuration's own model runs on (model_trial_crash)"), "{given_up}");

    // It runs, and each start with it ends in a crash.
    bench.crashes = false;
    bench.assign(2, Some(&manifest(2, &file(2)))).unwrap();
    while bench.looks == Place::Factory {
        if !bench.one() {
            bench.pass(1_000);
        }
    }
    let on_disk = bench.disk.0.clone();
    assert_eq!(on_disk.work.as_ref().unwrap().phase, Phase::Probation);
    let mut record = on_disk.clone();
    for _ in 0..=ATTEMPTS {
        record.start();
    }
    let change = change::between(&on_disk, &record).unwrap();
    assert!(change.model.starts_with("person release 2 ("), "{change:?}");
    assert!(change.what.contains("given up, the configuration's own model runs again (model_crash)"), "{change:?}");
    assert_eq!(change::between(&record, &record.clone()), None);
}

#[test]
fn killed_after_any_order_it_runs_the_model_of_before_or_the_new_one_and_ends_with_the_new_one() {
    let mut steps = 0;
    loop {
        let mut bench = Bench::new();
        bench.assign(1, Some(&manifest(1, &file(1)))).unwrap();
        bench.settle();
        bench.assign(2, Some(&manifest(2, &file(2)))).unwrap();
        let mut left = steps;
        let mut quiet = 0;
        while left > 0 && quiet < 100 {
            if bench.one() {
                (left, quiet) = (left - 1, 0);
            } else {
                bench.pass(1_000);
                quiet += 1;
            }
        }
        let at_the_end = left > 0;
        bench.restart();
        let record = bench.disk.0.clone();
        let on_probation = record.work.as_ref().is_some_and(|work| work.phase == Phase::Probation);
        let committed = record.work.is_none() && record.active == Place::Slot(Slot::B);
        let expect = if on_probation || committed { Slot::B } else { Slot::A };
        assert_eq!(bench.looks, Place::Slot(expect), "after {steps} orders: {record:?}");
        // A broker says what is retained again.
        bench.assign(2, Some(&manifest(2, &file(2)))).unwrap();
        bench.settle();
        assert_eq!((bench.looks, bench.word()), (Place::Slot(Slot::B), None), "after {steps} orders");
        if at_the_end {
            break;
        }
        steps += 1;
    }
    assert!(steps > 20, "there were only {steps} orders to be killed after");
}

#[test]
fn a_candidate_that_kills_the_agent_is_given_up_by_the_starts_themselves() {
    let mut bench = Bench::new();
    bench.assign(1, Some(&manifest(1, &file(1)))).unwrap();
    let on_probation = |bench: &Bench| bench.disk.0.work.as_ref().is_some_and(|work| work.phase == Phase::Probation);
    while !on_probation(&bench) {
        if !bench.one() {
            bench.pass(1_000);
        }
    }
    let mut starts = 1;
    loop {
        bench.restart();
        if bench.looks == Place::Factory {
            break;
        }
        starts += 1;
    }
    assert_eq!((starts, bench.word().as_deref()), (ATTEMPTS, Some("model_crash")));
    bench.assign(1, Some(&manifest(1, &file(1)))).unwrap();
    bench.settle();
    assert_eq!(bench.looks, Place::Factory, "and it is not tried again because somebody says it again");
    bench.assign(2, Some(&manifest(1, &file(1)))).unwrap();
    bench.settle();
    assert_eq!((bench.looks, bench.said.clone().unwrap().phase), (Place::Factory, ModelPhase::RolledBack));
    bench.assign(3, Some(&manifest(2, &file(2)))).unwrap();
    bench.settle();
    assert_eq!(bench.looks, Place::Slot(Slot::A), "another one is");
}

#[test]
fn a_candidate_whose_trial_kills_the_agent_is_given_up_after_so_many_attempts() {
    let mut bench = Bench::new();
    bench.assign(1, Some(&manifest(1, &file(1)))).unwrap();
    let mut tried = 0;
    for _ in 0..500 {
        match bench.waiting.front() {
            // The agent is gone before anything else of it is done; what was said before is on its disk.
            Some(Order::Try(..)) => {
                tried += 1;
                assert_eq!(
                    bench.disk.0.work.as_ref().map(|work| work.attempts),
                    Some(tried),
                    "counted before it is loaded"
                );
                bench.restart();
            }
            Some(_) => drop(bench.one()),
            None => bench.pass(1_000),
        }
    }
    assert_eq!((tried, bench.word().as_deref()), (ATTEMPTS, Some("model_crash")));
    assert_eq!(bench.looks, Place::Factory);
}

#[test]
fn a_stop_that_was_asked_for_is_no_attempt() {
    let mut bench = Bench::new();
    bench.hangs = true;
    bench.assign(1, Some(&manifest(1, &file(1)))).unwrap();
    for _ in 0..3 * ATTEMPTS {
        for _ in 0..20 {
            while bench.one() {}
            bench.pass(500);
        }
        bench.act(|models, _, out| models.stop(out));
        while bench.one() {}
        assert_eq!(bench.disk.0.work.as_ref().map(|work| (work.phase, work.attempts)), Some((Phase::Trial, 0)));
        bench.restart();
    }
    bench.hangs = false;
    bench.settle();
    assert_eq!(bench.looks, Place::Slot(Slot::A));
}

#[test]
fn a_bad_candidate_is_given_up_with_its_reason_and_what_ran_runs_on() {
    for (agrees, hangs, crashes, word) in [
        (0.5, false, false, "model_trial_agreement"),
        (1.0, true, false, "model_trial_hang"),
        (1.0, false, true, "model_trial_crash"),
    ] {
        let mut bench = Bench::new();
        (bench.agrees, bench.hangs, bench.crashes) = (agrees, hangs, crashes);
        bench.assign(1, Some(&manifest(1, &file(1)))).unwrap();
        for _ in 0..2 * u64::from(ATTEMPTS) {
            while bench.one() {}
            // Beyond the longest that may pass without a word while it is loaded.
            bench.pass(models::LOADING_MS_MAX + HANG_MS + PROBATION_MS);
        }
        bench.settle();
        assert_eq!((bench.looks, bench.word().as_deref()), (Place::Factory, Some(word)));
        let said = bench.said.clone().unwrap();
        assert_eq!((said.phase, said.reason.as_deref()), (ModelPhase::RolledBack, Some(word)));
        assert!(bench.models.problems(bench.now())[0].contains(word));
    }
}

#[test]
fn what_is_refused_changes_nothing_of_what_is_under_way() {
    let mut bench = Bench::new();
    bench.assign(5, Some(&manifest(5, &file(1)))).unwrap();
    (0..4).for_each(|_| assert!(bench.one()));
    let before = bench.models.record().clone();
    assert_eq!(bench.assign(4, Some(&manifest(6, &file(2)))), Err("model_replayed"));
    assert_eq!(bench.assign(6, Some(&manifest(4, &file(3)))), Err("model_rollback"));
    let unknown = Manifest { family: Some("of-tomorrow".into()), ..manifest(7, &file(4)) };
    assert_eq!(bench.assign(7, Some(&unknown)), Err("model_family"));
    let mut garbage = Ok(());
    bench.act(|models, now, out| garbage = models.assignment(now, b"\x01what", out).map_err(|(word, _)| word));
    assert_eq!(garbage, Err("malformed"));
    assert_eq!(bench.models.record(), &before);
    while bench.one() {}
    assert_eq!(bench.said.clone().unwrap().reason.as_deref(), Some("malformed"), "and the last refusal is told");
}

#[test]
fn what_was_fetched_in_vain_is_fetched_once_more_and_then_refused() {
    let mut bench = Bench::new();
    bench.assign(1, Some(&manifest(1, &file(1)))).unwrap();
    let mut fetched = 0;
    for _ in 0..100 {
        while let Some(order) = bench.waiting.front() {
            if matches!(order, Order::Install(_)) {
                bench.waiting.pop_front();
                fetched += 1;
                bench.news(News::Torn);
            } else {
                bench.one();
            }
        }
        bench.pass(1_000);
    }
    assert_eq!((fetched, bench.word().as_deref()), (2, Some("model_digest")));
    assert_eq!(bench.said.clone().unwrap().phase, ModelPhase::Refused);
    // By a new number it is fetched again: the sender may have been mended.
    bench.assign(2, Some(&manifest(1, &file(1)))).unwrap();
    bench.settle();
    assert_eq!(bench.looks, Place::Slot(Slot::A));
}

#[test]
fn a_model_that_fails_on_frames_is_taken_back_while_it_is_on_probation() {
    let mut bench = Bench::new();
    bench.assign(1, Some(&manifest(1, &file(1)))).unwrap();
    while bench.looks == Place::Factory {
        if !bench.one() {
            bench.pass(1_000);
        }
    }
    for failed in [0, 50] {
        bench.now_ms += 1_000;
        let camera = CameraStats { bad_input: [("frame".to_owned(), failed)].into(), ..nothing_counted() };
        bench.act(|models, now, out| models.cameras(now, &[camera], out));
    }
    bench.settle();
    assert_eq!((bench.looks, bench.word().as_deref()), (Place::Factory, Some("model_failing")));
}
