//! Learned heads on a real registry: who tries one first, what halts it, that going back reaches all at once, and that whoever dies
//! in between comes to the same end.

use std::collections::BTreeMap;

use picket_shared::learn::lineage::{HeadShape, Lineage};
use picket_shared::limits::HEAD_NORM_MAX;
use picket_shared::model::decode::decode;
use picket_shared::model::rollouts::{Course, Stage};
use picket_shared::model::{LearnedState, Learns, ModelPhase, ModelState};

use super::rollouts::{at, named};
use super::*;
use crate::learn::learner::{Path as Told, Release};
use crate::learn::record::bytes_of;
use crate::model::fleet::{self, Fleet, Heads};
use crate::model::learned::{HEADS_MAX, Learner, PATIENCE_S, ROLLOUTS_MAX, SILENCE_S};
use crate::model::ledger::{Known, Start};
use crate::model::record::LearnedRef;
use crate::model::rollout::{Group, Rollout, Schedule, Terms};
use crate::model::view;

fn backbone() -> Digest {
    Digest::of(b"a network")
}

fn lineage() -> Lineage {
    Lineage { fleet_epoch: 1, backbone: backbone().to_string(), shape: HeadShape::logistic(3) }
}

fn release(version: u64) -> Release {
    Release { lineage: lineage(), version, head: vec![version as f32, 0.5, -1.0, 0.0], revert_of: None }
}

fn learned(version: u64) -> LearnedRef {
    LearnedRef { lineage: lineage().id(), version }
}

fn learner(name: &str) -> Learner {
    Learner { node: named(name), station: at(name), judges: true }
}

/// What a device says of a head.
fn says(number: u64, version: u64, phase: ModelPhase) -> ModelState {
    let compared = matches!(phase, ModelPhase::Idle | ModelPhase::RolledBack) && version > 0;
    let state = LearnedState {
        backbone: backbone(),
        version,
        phase,
        used: 0,
        judges: true,
        reason: (phase == ModelPhase::RolledBack).then(|| "model_learned_lost".to_owned()),
        detail: (phase == ModelPhase::RolledBack).then(|| "it loses 0.3000 ± 0.0500 on 40 examples".to_owned()),
        samples: if compared { 40 } else { 0 },
        difference: compared.then_some(if phase == ModelPhase::Idle { -0.1 } else { 0.3 }),
        error: compared.then_some(0.05),
    };
    ModelState {
        time: NOW_S,
        phase: ModelPhase::Idle,
        active: None,
        candidate: None,
        bytes: 0,
        bytes_wanted: 0,
        slots: vec![],
        trial: None,
        swap_gap_ms: None,
        reason: None,
        detail: None,
        root: 1,
        assignment: number,
        counters: BTreeMap::new(),
        learned: Some(state),
    }
}

/// A site whose stations learn.
struct Site {
    bench: Bench,
    learners: Vec<Learner>,
    said: BTreeMap<NodeId, ModelState>,
    now_s: u64,
}

impl Site {
    fn new(names: &[&str]) -> Site {
        let learners = names.iter().map(|name| learner(name)).collect();
        Site { bench: Bench::new(), learners, said: BTreeMap::new(), now_s: NOW_S }
    }

    fn take(&self, release: &Release) -> bool {
        self.bench.registry.take_learned(release).unwrap()
    }

    /// A turn, as a coordinator that has just begun would make it.
    fn turn(&self) -> Option<Rollout> {
        self.turn_with(&[])
    }

    fn turn_with(&self, canaries: &[StationId]) -> Option<Rollout> {
        self.bench.registry.turn_learned(&lineage(), canaries, &self.learners, self.now_s).unwrap();
        let known = |node: &NodeId| Known { report: self.said.get(node), reachable: true };
        self.bench.registry.turn_rollouts(self.now_s, known).unwrap().expect("nobody has the lock").rollouts.pop()
    }

    /// Who is assigned this head.
    fn told(&self, version: u64) -> Vec<String> {
        let records = self.bench.registry.records().unwrap().into_iter();
        records.filter(|record| record.learned == Some(learned(version))).map(|r| r.node.to_string()).collect()
    }

    fn says(&mut self, name: &str, version: u64, phase: ModelPhase) {
        let number = self.bench.number(name);
        self.said.insert(named(name), says(number, version, phase));
    }

    fn all_say(&mut self, version: u64, phase: ModelPhase) {
        for name in self.told(version) {
            self.says(&name, version, phase);
        }
    }
}

#[test]
fn a_head_goes_to_a_canary_and_then_to_all_others_and_to_who_comes_later() {
    let mut site = Site::new(&["a", "b", "c"]);
    assert!(site.turn().is_none(), "there is none");
    assert!(site.take(&release(7)) && !site.take(&release(7)) && !site.take(&release(6)));
    let begun = site.turn().unwrap();
    let canary = site.told(7);
    assert_eq!((canary.len(), begun.groups.len(), begun.groups[0].name.as_str()), (1, 2, "canary"));
    assert!(site.turn().unwrap() == begun && site.told(7) == canary, "and the others wait for it");
    site.says(&canary[0], 7, ModelPhase::Fetching);
    assert_eq!(site.turn().unwrap().members[&named(&canary[0])].stage, Stage::Fetching);
    site.says(&canary[0], 7, ModelPhase::Idle);
    site.turn();
    assert_eq!(site.told(7), ["a", "b", "c"]);
    site.all_say(7, ModelPhase::Idle);
    let done = site.turn().unwrap();
    assert_eq!(done.course, Course::Done);
    assert_eq!(done.members[&named("a")].figures.unwrap().samples, 40);
    // Somebody is enrolled later.
    site.learners.push(learner("d"));
    assert_eq!((site.turn().unwrap().course, site.told(7).len()), (Course::Running, 4));
    site.all_say(7, ModelPhase::Idle);
    assert_eq!(site.turn().unwrap().course, Course::Done);
}

#[test]
fn canaries_that_are_named_go_first_and_else_who_can_judge() {
    let mut site = Site::new(&["a", "b", "c"]);
    site.take(&release(7));
    site.turn_with(&[at("b"), at("nowhere")]);
    assert_eq!(site.told(7), ["b"]);
    // The one that cannot judge is never drawn while another can.
    for version in 1..20 {
        let mut site = Site::new(&["a", "b", "c"]);
        site.learners[0].judges = false;
        site.take(&release(version));
        site.turn_with(&[at("nowhere")]);
        assert!(!site.told(version).contains(&"a".to_owned()), "{version}");
    }
    // A person holds the canary.
    site = Site::new(&["a", "b"]);
    site.bench.registry.pin(&at("a"), true).unwrap();
    site.take(&release(7));
    site.turn_with(&[at("a")]);
    assert_eq!(site.told(7), ["b"]);
    site.says("b", 7, ModelPhase::Idle);
    assert_eq!((site.turn().unwrap().course, site.told(7)), (Course::Done, vec!["b".to_owned()]));
}

#[test]
fn a_head_that_loses_at_its_canary_goes_nowhere_else_and_the_next_one_takes_its_place() {
    let mut site = Site::new(&["a", "b", "c"]);
    site.take(&release(7));
    site.turn();
    site.all_say(7, ModelPhase::RolledBack);
    let halted = site.turn().unwrap();
    assert_eq!((halted.course, site.told(7).len()), (Course::Halted, 1));
    assert!(halted.why.contains("it loses 0.3000"), "{}", halted.why);
    let shown = view::releases(&[halted]);
    let station = &shown[0].stations[0];
    assert_eq!((station.canary, station.outcome, station.samples), (true, Stage::RolledBack, 40));
    assert_eq!((station.difference, station.why.as_ref().map(|why| why.contains("it loses"))), (Some(0.3), Some(true)));
    site.take(&release(9));
    site.turn();
    assert_eq!(site.told(9).len(), 1, "from its own canary on");
    let rollouts = site.bench.registry.rollouts().unwrap();
    assert_eq!((rollouts[0].course, rollouts[1].course), (Course::Superseded, Course::Running));
}

#[test]
fn where_canaries_cannot_tell_as_many_others_try_it_and_where_nobody_can_the_next_head_comes_soon() {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let mut site = Site::new(&names);
    site.bench.registry.pin(&at("g"), true).unwrap();
    site.take(&release(7));
    for told in [1, 2, 4, 6] {
        let rollout = site.turn().unwrap();
        assert_eq!((site.told(7).len(), rollout.group, rollout.course), (told, 0, Course::Running));
        assert_eq!(site.turn().unwrap(), rollout, "they are waited for");
        site.all_say(7, ModelPhase::Waiting);
    }
    // All but the one that a person holds were asked.
    let silent = site.turn().unwrap();
    assert!(site.told(7).len() == 6 && silent.groups[0].nodes.len() == 6 && !silent.tells());
    site.take(&release(8));
    site.now_s += SILENCE_S - 1;
    site.turn();
    assert!(site.told(8).is_empty());
    // One of them can tell by now.
    let first = site.told(7)[0].clone();
    site.says(&first, 7, ModelPhase::Idle);
    assert_eq!(site.turn().unwrap().course, Course::Done, "whoever cannot tell keeps nobody waiting");
    site.turn();
    assert_eq!(site.told(8).len(), 1);
    site.bench.registry.pin(&at("g"), false).unwrap();
    // They are silent about the next one too, and then the only one of four that can tell finds that it loses.
    for told in [1, 2] {
        assert_eq!(site.told(8).len(), told);
        site.all_say(8, ModelPhase::Waiting);
        site.turn();
    }
    site.all_say(8, ModelPhase::Waiting);
    let one = site.told(8)[0].clone();
    site.says(&one, 8, ModelPhase::RolledBack);
    assert_eq!((site.turn().unwrap().course, site.told(8).len()), (Course::Halted, 4));
    // About the one after that nobody says anything.
    site.take(&release(9));
    for _ in 0..8 {
        site.turn();
        site.all_say(9, ModelPhase::Waiting);
    }
    assert_eq!(site.told(9).len(), 7);
    site.take(&release(10));
    site.now_s += SILENCE_S;
    site.turn();
    assert_eq!(site.told(10).len(), 1);
}

#[test]
fn a_newer_head_waits_for_one_under_way_but_not_for_ever_and_going_back_waits_for_nobody() {
    let mut site = Site::new(&["a", "b", "c"]);
    site.take(&release(7));
    site.turn();
    site.take(&release(8));
    site.take(&release(9));
    site.turn();
    assert!(site.told(9).is_empty(), "seven is under way");
    site.now_s += PATIENCE_S;
    site.turn();
    assert_eq!((site.told(8).len(), site.told(9).len()), (0, 1), "the newest");
    let back = Release { head: release(7).head, revert_of: Some(7), ..release(10) };
    assert!(site.take(&back));
    let begun = site.turn().unwrap();
    assert_eq!((site.told(10), begun.groups.len()), (vec!["a".into(), "b".into(), "c".into()], 1));
    assert!(!view::releases(&[begun])[0].stations[0].canary);
    site.all_say(10, ModelPhase::Idle);
    assert_eq!(site.turn().unwrap().course, Course::Done);
}

#[test]
fn a_head_and_a_release_go_their_own_ways_and_one_assignment_carries_both() {
    let mut site = Site::new(&["gate-3"]);
    site.bench.publish(3);
    let (node, station) = (named("gate-3"), StationId::new("gate").unwrap());
    site.learners[0].station = station.clone();
    let start = Start {
        release: person(3),
        head: None,
        trial: TrialTerms::default(),
        groups: vec![Group { name: "canary".into(), nodes: vec![node.clone()] }],
        terms: Terms::default(),
        schedule: Schedule::default(),
        stations: [(node.clone(), station.clone())].into(),
    };
    site.bench.registry.begin_rollout(start, NOW_S).unwrap();
    site.turn();
    let number = site.bench.number("gate-3");
    site.take(&release(7));
    site.turn();
    let record = site.bench.registry.records().unwrap().remove(0);
    assert_eq!((record.wish.release.clone(), record.learned), (Some(person(3)), Some(learned(7))));
    assert!(record.number > number && record.wish_number == Some(number));
    let courses = |site: &Site| site.bench.registry.rollouts().unwrap().iter().map(|r| r.course).collect::<Vec<_>>();
    assert_eq!(courses(&site), [Course::Running, Course::Running], "neither takes the other's place");

    // A device takes both out of one message.
    let assignment = site.bench.registry.assignment(&record, &site.bench.orders).unwrap();
    let orders = site.bench.orders.public();
    let facts = Facts {
        node: &node,
        station: &station,
        orders: Some(&orders),
        arch: "x86_64",
        providers: &["cpu".to_owned()],
        memory_bytes: 1 << 30,
        runtime_api: 24,
        learns: Some(Learns { backbone: backbone(), inputs: 3 }),
    };
    let outcome = verify(&site.bench.trusted, &assignment, &facts, NOW_S);
    assert_eq!(outcome.verdict.unwrap().number, number, "to who tries the release it is the same one");
    let manifest = outcome.learned.unwrap().unwrap();
    let path = site.bench.registry.blob(&manifest.file.sha256).expect("its file can be fetched");
    assert_eq!(manifest.numbers(&std::fs::read(path).unwrap()).unwrap(), release(7).head);
    assert!(manifest.expires_s == record.expires_s() && picket_shared::codec::encode(&assignment).is_ok());

    // Another release leaves the head where it is; so does one that is taken back, and time.
    site.bench.registry.revoke(&person(3), NOW_S).unwrap();
    let record = site.bench.registry.records().unwrap().remove(0);
    assert_eq!((record.wish.release, record.learned, record.wish_number), (None, Some(learned(7)), None));
    let renewed = site.bench.registry.renew(&node, NOW_S + MODEL_ASSIGNMENT_LIFE_S).unwrap().unwrap();
    assert!(renewed.number > record.number && renewed.learned == Some(learned(7)));
    // A head that is gone holds nothing up.
    std::fs::remove_file(site.bench.at(&format!("models/learned/{}/7.json", lineage().id()))).unwrap();
    assert_eq!(site.bench.registry.assignment(&renewed, &site.bench.orders).unwrap().learned, None);
}

#[test]
fn who_dies_between_any_two_writes_comes_to_the_same_end() {
    // All that a crash can leave: each file as it was before or as it is after, in the order of the writes.
    let whole = || {
        let site = Site::new(&["a", "b"]);
        site.take(&release(7));
        site.turn();
        site
    };
    let end = |mut site: Site| {
        site.take(&release(7));
        site.turn();
        site.all_say(7, ModelPhase::Idle);
        site.turn();
        site.all_say(7, ModelPhase::Idle);
        let last = site.turn().unwrap();
        (site.told(7), last.course, site.bench.registry.rollouts().unwrap().len())
    };
    let expect = end(whole());
    assert_eq!(expect, (vec!["a".to_owned(), "b".to_owned()], Course::Done, 1));
    let gone: [&[&str]; 5] = [
        &["learned", "blobs", "rollouts", "assignments", "number"],
        &["learned", "rollouts", "assignments", "number"],
        &["rollouts", "assignments", "number"],
        &["assignments", "number"],
        &["assignments"],
    ];
    for gone in gone {
        let site = whole();
        for name in gone {
            let path = site.bench.at("models").join(name);
            match path.is_dir() {
                true => {
                    std::fs::remove_dir_all(&path).unwrap();
                    std::fs::create_dir(&path).unwrap();
                }
                false => std::fs::remove_file(&path).unwrap(),
            }
        }
        // The rollout as it was before it noted whom it told.
        if let Ok(mut rollout) = site.bench.registry.rollout(1) {
            rollout.members.values_mut().for_each(|member| (member.stage, member.number) = (Stage::Waiting, None));
            let json = serde_json::to_vec(&rollout).unwrap();
            std::fs::write(site.bench.at("models/rollouts/1.json"), json).unwrap();
        }
        assert_eq!(end(site), expect, "{gone:?}");
    }
}

#[test]
fn what_is_no_head_is_not_taken_and_only_so_many_are_kept() {
    let mut site = Site::new(&["a"]);
    for head in [vec![0.0; 3], vec![f32::NAN, 0.0, 0.0, 0.0], vec![HEAD_NORM_MAX as f32 * 2.0, 0.0, 0.0, 0.0]] {
        let refused = site.bench.registry.take_learned(&Release { head, ..release(7) });
        assert!(refused.unwrap_err().to_string().contains("head 7 is not released"));
    }
    let all = 3 * HEADS_MAX as u64;
    for version in 1..=all {
        site.take(&release(version));
        site.now_s += PATIENCE_S;
        site.turn();
    }
    let kept = std::fs::read_dir(site.bench.at(&format!("models/learned/{}", lineage().id()))).unwrap().count();
    assert!(kept <= HEADS_MAX + ROLLOUTS_MAX, "{kept}");
    assert!(site.bench.registry.rollouts().unwrap().len() <= ROLLOUTS_MAX);
    assert_eq!(site.told(all), ["a"]);
    let newest = site.bench.registry.learned(learned(all)).unwrap().unwrap();
    assert!(site.bench.registry.blob(&newest.file.sha256).is_some());
    assert!(site.bench.registry.blob(&Digest::of(&bytes_of(&release(1).head))).is_none(), "its file is gone too");
}

#[test]
fn a_newer_head_is_offered_as_a_step_from_the_one_before_and_going_back_is_the_same_file_again() {
    let site = Site::new(&["a"]);
    let lineage = Lineage { shape: HeadShape::logistic(299), ..lineage() };
    let head = |turn: u32| (0..300).map(|n| ((n * 7 + turn) as f32 * 0.37).sin() * 0.01 + n as f32 * 0.01).collect();
    let take = |version: u64, turn: u32, revert_of: Option<u64>| {
        let release = Release { lineage: lineage.clone(), version, head: head(turn), revert_of };
        assert!(site.bench.registry.take_learned(&release).unwrap());
        site.bench.registry.learned(LearnedRef { lineage: lineage.id(), version }).unwrap().unwrap()
    };
    let blob = |digest: &Digest| std::fs::read(site.bench.registry.blob(digest).unwrap()).unwrap();
    let first = take(7, 0, None);
    assert_eq!(first.file.encodings.len(), 1, "there is nothing before it");
    let second = take(8, 1, None);
    let [full, delta] = &second.file.encodings[..] else { panic!("{second:?}") };
    assert_eq!(
        (full.sha256, delta.from, delta.coding.as_str()),
        (second.file.sha256, Some(first.file.sha256), "delta")
    );
    assert!(delta.length * 2 < full.length, "{} of {}", delta.length, full.length);
    let (before, whole) = (blob(&first.file.sha256), blob(&full.sha256));
    let stepped =
        decode(&second.file, delta, blob(&delta.sha256), |from| (*from == first.file.sha256).then(|| before.clone()));
    assert_eq!(stepped, Ok(whole.clone()));
    let wanted: Vec<f32> = head(1);
    assert!(second.numbers(&whole).unwrap().iter().zip(wanted).all(|(got, x)| (got - x).abs() < 0.001));
    // The very bits, though what the learner kept was never rounded.
    let third = take(9, 2, None);
    assert_eq!(third.file.encodings[1].from, Some(second.file.sha256));
    let back = take(10, 1, Some(8));
    assert_eq!((back.file.sha256, back.file.encodings.len(), back.revert_of), (second.file.sha256, 1, Some(8)));
    // The one before cannot be read: whole, then.
    std::fs::remove_file(site.bench.registry.blob(&back.file.sha256).unwrap()).unwrap();
    assert_eq!(take(11, 3, None).file.encodings.len(), 1);
    assert_eq!(take(12, 1, Some(8)).file.encodings.len(), 2, "its file is gone, and it is a step like any other");
}

#[test]
fn the_fleet_takes_the_learners_releases_and_tells_it_what_came_of_them() {
    let site = Site::new(&[]);
    let heads = Heads { lineage: lineage(), canaries: vec![] };
    let yard = picket_shared::ids::SiteId::new("yard").unwrap();
    let mut fleet = Fleet::new(&site.bench.at("models"), yard.clone(), false).releasing(Some(heads));
    let mut mono_ms = 0;
    let mut look = |fleet: &mut Fleet| {
        mono_ms += fleet::LOOK_MS;
        let nodes = ["a", "b"].map(|name| (named(name), at(name)));
        let nodes = nodes.iter().map(|(node, station)| (node, Some(station), true));
        let unix_ms = NOW_S * 1000 + mono_ms;
        drop(fleet.look(Now { mono_ms, unix_ms }, 1, nodes));
    };
    fleet.release(release(7));
    fleet.release(Release { lineage: Lineage { fleet_epoch: 2, ..lineage() }, ..release(9) });
    look(&mut fleet);
    assert!(site.told(7).is_empty(), "nobody has said that it learns");
    for name in ["a", "b"] {
        let state = serde_json::to_vec(&says(0, 0, ModelPhase::Idle)).unwrap();
        fleet.hear(&named(name), &state).unwrap();
    }
    look(&mut fleet);
    let canary = site.told(7);
    assert_eq!(canary.len(), 1, "{:?}", fleet.problems());
    let mut told = Vec::new();
    fleet.tell_learner(|_| false);
    fleet.tell_learner(|path: Told| {
        told.push(path);
        true
    });
    fleet.tell_learner(|_| unreachable!("it was told that already"));
    assert!(told[0].is_open && told[0].releases[0].version == 7);
    let number = site.bench.number(&canary[0]);
    let state = serde_json::to_vec(&says(number, 7, ModelPhase::RolledBack)).unwrap();
    fleet.hear(&named(&canary[0]), &state).unwrap();
    look(&mut fleet);
    assert!(fleet.problems()[0].contains("the learned head 7 has halted"), "{:?}", fleet.problems());
    fleet.tell_learner(|path| path.releases[0].course == Course::Halted);
    // Where the site releases nothing, nothing is taken.
    let mut closed = Fleet::new(&site.bench.at("models"), yard, false);
    closed.release(release(11));
    look(&mut closed);
    closed.tell_learner(|path| !path.is_open);
    assert!(site.bench.registry.learned(learned(11)).unwrap().is_none());
}
