//! Rollouts on a real registry: what stands there after each turn, whoever dies in between, and what people are shown of it.

use std::collections::BTreeMap;

use picket_shared::model::rollouts::{Course, ModelsView, Stage};
use picket_shared::model::{ModelPhase, ModelState, RunningModel};
use serde_json::Value;

use super::*;
use crate::model::fleet::{self, Fleet};
use crate::model::ledger::{Known, Order, ROLLOUTS_MAX, Start};
use crate::model::rollout::{Group, Rollout, Schedule, Terms};
use crate::model::view;

const NODES: [&str; 4] = ["a", "b", "c", "d"];

pub(super) fn named(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(super) fn at(name: &str) -> StationId {
    StationId::new(format!("at-{name}")).unwrap()
}

fn start(counter: u64, groups: &[&[&str]]) -> Start {
    let group = |(n, nodes): (usize, &&[&str])| Group {
        name: format!("group-{n}"),
        nodes: nodes.iter().map(|name| named(name)).collect(),
    };
    Start {
        release: person(counter),
        head: None,
        trial: TrialTerms::default(),
        groups: groups.iter().enumerate().map(group).collect(),
        terms: Terms { soak_s: 0, ..Terms::default() },
        schedule: Schedule::default(),
        stations: NODES.map(|name| (named(name), at(name))).into(),
    }
}

fn says(phase: ModelPhase, number: u64, manifest: &Manifest) -> ModelState {
    let runs = RunningModel {
        name: Some(manifest.name.clone()),
        counter: manifest.counter,
        sha256: manifest.file.sha256,
        head: manifest.head.as_ref().map(|head| head.sha256),
    };
    let own = RunningModel { name: None, counter: 0, sha256: Digest([1; 32]), head: None };
    let reason = (phase == ModelPhase::RolledBack).then(|| "model_trial_agreement".to_owned());
    ModelState {
        time: NOW_S,
        phase,
        active: Some(if phase == ModelPhase::Idle { runs } else { own }),
        candidate: None,
        bytes: 30,
        bytes_wanted: 120,
        slots: vec![],
        trial: None,
        swap_gap_ms: None,
        detail: reason.as_ref().map(|_| "it agrees to 0.100, and 0.85 is asked for".to_owned()),
        reason,
        root: 1,
        assignment: number,
        counters: BTreeMap::new(),
        learned: None,
    }
}

type Said = BTreeMap<NodeId, ModelState>;

impl Bench {
    fn turn(&self, said: &Said) -> Rollout {
        let known = |node: &NodeId| Known { report: said.get(node), reachable: true };
        self.registry.turn_rollouts(NOW_S, known).unwrap().expect("nobody has the lock").rollouts.pop().unwrap()
    }

    /// Who was assigned this release, by name.
    fn told(&self, counter: u64) -> Vec<String> {
        let records = self.registry.records().unwrap().into_iter();
        records.filter(|record| record.wish.release == Some(person(counter))).map(|r| r.node.to_string()).collect()
    }

    pub(super) fn number(&self, name: &str) -> u64 {
        self.registry.records().unwrap().iter().find(|record| record.node == named(name)).unwrap().number
    }
}

#[test]
fn a_rollout_goes_through_the_registry_and_lives_through_every_restart() {
    let bench = Bench::new();
    let manifest = bench.publish(3);
    assert!(sentence(bench.registry.begin_rollout(start(9, &[&["a"]]), NOW_S)).contains("no release person 9"));
    let begun = bench.registry.begin_rollout(start(3, &[&["a"], &["b", "c"]]), NOW_S).unwrap();
    assert_eq!((begun.number, begun.course, bench.told(3).len()), (1, Course::Running, 0));
    let mut said = Said::new();
    bench.turn(&said);
    assert_eq!(bench.told(3), ["a"]);
    assert_eq!(bench.registry.records().unwrap()[0].wish.station, at("a"));
    let before = bench.number("a");
    // Every turn begins with what is on the disk: a coordinator that was killed does the same.
    bench.turn(&said);
    assert_eq!((bench.told(3).len(), bench.number("a")), (1, before));
    said.insert(named("a"), says(ModelPhase::Idle, before, &manifest));
    bench.turn(&said);
    assert_eq!(bench.told(3), ["a", "b", "c"]);
    for name in ["b", "c"] {
        said.insert(named(name), says(ModelPhase::Idle, bench.number(name), &manifest));
    }
    let done = bench.turn(&said);
    assert_eq!(done.course, Course::Done);
    assert_eq!(bench.registry.rollout(1).unwrap(), done);
    assert!(sentence(bench.registry.order_rollout(1, Order::Pause)).contains("is done already"));
    assert!(sentence(bench.registry.rollout(7)).contains("no rollout 7"));
}

#[test]
fn who_dies_after_a_node_was_assigned_and_before_that_was_noted_assigns_nobody_else_and_nothing_else() {
    let bench = Bench::new();
    bench.publish(3);
    bench.registry.begin_rollout(start(3, &[&["a"], &["b"]]), NOW_S).unwrap();
    let file = bench.at("models/rollouts/1.json");
    let before = std::fs::read(&file).unwrap();
    bench.turn(&Said::new());
    let number = bench.number("a");
    // As if it had died in between.
    std::fs::write(&file, before).unwrap();
    let after = bench.turn(&Said::new());
    assert_eq!((bench.told(3), bench.number("a")), (vec!["a".to_owned()], number));
    assert_eq!(after.members[&named("a")].number, Some(number));
}

#[test]
fn a_release_that_fails_at_its_canary_goes_nowhere_else_until_a_person_says_so() {
    let bench = Bench::new();
    let manifest = bench.publish(3);
    bench.registry.begin_rollout(start(3, &[&["a"], &["b"]]), NOW_S).unwrap();
    bench.turn(&Said::new());
    let said = Said::from([(named("a"), says(ModelPhase::RolledBack, bench.number("a"), &manifest))]);
    let halted = bench.turn(&said);
    assert_eq!((halted.course, bench.told(3)), (Course::Halted, vec!["a".to_owned()]));
    assert!(halted.why.contains("it agrees to 0.100"), "{}", halted.why);
    bench.registry.order_rollout(1, Order::Abort).unwrap();
    bench.turn(&said);
    assert_eq!(bench.told(3), ["a"]);
    assert!(sentence(bench.registry.order_rollout(1, Order::Resume)).contains("is aborted already"));
}

#[test]
fn a_revoked_release_ends_its_rollout_and_one_that_cannot_be_assigned_halts_it() {
    let bench = Bench::new();
    bench.publish(3);
    bench.registry.begin_rollout(start(3, &[&["a"], &["b"]]), NOW_S).unwrap();
    bench.turn(&Said::new());
    bench.registry.revoke(&person(3), NOW_S).unwrap();
    let ended = bench.turn(&Said::new());
    assert_eq!((ended.course, ended.why.as_str()), (Course::Aborted, "its release was revoked"));
    assert!(bench.told(3).is_empty());
    // One whose document is gone.
    bench.publish(4);
    bench.registry.begin_rollout(start(4, &[&["b"]]), NOW_S).unwrap();
    std::fs::remove_file(bench.at("models/releases/person/4.json")).unwrap();
    let halted = bench.turn(&Said::new());
    assert_eq!(halted.course, Course::Halted);
    assert!(halted.why.contains("b cannot be told: there is no release person 4"), "{}", halted.why);
}

#[test]
fn a_later_rollout_takes_the_place_of_an_earlier_one_however_far_that_was_noted() {
    let bench = Bench::new();
    bench.publish(3);
    std::fs::write(bench.at("model.onnx"), b"the second model").unwrap();
    bench.publish(4);
    bench.registry.begin_rollout(start(3, &[&["a"], &["b"]]), NOW_S).unwrap();
    bench.registry.begin_rollout(start(3, &[&["d"]]), NOW_S).unwrap();
    let file = bench.at("models/rollouts/1.json");
    let before = std::fs::read(&file).unwrap();
    bench.registry.begin_rollout(start(4, &[&["b"], &["a"]]), NOW_S).unwrap();
    let courses = |bench: &Bench| bench.registry.rollouts().unwrap().iter().map(|r| r.course).collect::<Vec<_>>();
    assert_eq!(courses(&bench), [Course::Superseded, Course::Running, Course::Running]);
    // Who died before it was noted finds it out.
    std::fs::write(&file, before).unwrap();
    bench.turn(&Said::new());
    assert_eq!(courses(&bench)[0], Course::Superseded);
    assert_eq!((bench.told(3), bench.told(4)), (vec!["d".to_owned()], vec!["b".to_owned()]));
}

#[test]
fn a_pinned_station_keeps_its_release_whoever_says_otherwise() {
    let bench = Bench::new();
    let manifest = bench.publish(3);
    assert!(bench.registry.pin(&at("b"), true).unwrap() && !bench.registry.pin(&at("b"), true).unwrap());
    bench.registry.begin_rollout(start(3, &[&["a"], &["b", "c"]]), NOW_S).unwrap();
    bench.turn(&Said::new());
    let said = Said::from([(named("a"), says(ModelPhase::Idle, bench.number("a"), &manifest))]);
    let turned = bench.turn(&said);
    assert_eq!((bench.told(3), turned.members[&named("b")].stage), (vec!["a".into(), "c".into()], Stage::Pinned));
    let by_hand = Wish { station: at("b"), ..wish(Some(person(3))) };
    assert!(sentence(bench.registry.assign(named("b"), by_hand.clone(), NOW_S)).contains("rollout unpin at-b"));
    assert!(sentence(bench.registry.begin_rollout(start(3, &[&["b"]]), NOW_S)).contains("every canary is pinned"));
    bench.registry.pin(&at("b"), false).unwrap();
    bench.registry.assign(named("b"), by_hand, NOW_S).unwrap();
}

#[test]
fn only_so_many_rollouts_are_kept_and_an_open_one_always_is() {
    let bench = Bench::new();
    bench.publish(3);
    for _ in 0..ROLLOUTS_MAX + 3 {
        bench.registry.begin_rollout(start(3, &[&["a"]]), NOW_S).unwrap();
    }
    let kept = bench.registry.rollouts().unwrap();
    assert_eq!((kept.len(), kept.last().unwrap().number), (ROLLOUTS_MAX, ROLLOUTS_MAX as u64 + 3));
    assert_eq!(kept.iter().filter(|rollout| rollout.is_open()).count(), 1);
}

#[test]
fn a_turn_waits_for_who_has_the_lock_and_a_damaged_file_is_said() {
    let bench = Bench::new();
    bench.publish(3);
    bench.registry.begin_rollout(start(3, &[&["a"]]), NOW_S).unwrap();
    let lock = std::fs::File::open(bench.at("models/lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(bench.registry.turn_rollouts(NOW_S, |_| Known::default()).unwrap(), None);
    drop(lock);
    assert!(bench.registry.turn_rollouts(NOW_S, |_| Known::default()).unwrap().is_some());
    std::fs::write(bench.at("models/rollouts/1.json"), b"{").unwrap();
    assert!(sentence(bench.registry.turn_rollouts(NOW_S, |_| Known::default())).contains("is damaged"));
    std::fs::remove_file(bench.at("models/rollouts/1.json")).unwrap();
    std::fs::write(bench.at("models/pins.json"), b"{").unwrap();
    assert!(sentence(bench.registry.pins()).contains("pins.json is damaged"));
}

/// What is published, as JSON by its topic.
fn shown(fleet: &mut Fleet, mono_ms: u64, up: bool) -> BTreeMap<Topic, Value> {
    let nodes: Vec<(NodeId, StationId)> = NODES.map(|name| (named(name), at(name))).into();
    let nodes = nodes.iter().map(|(node, station)| (node, Some(station), up));
    let said = fleet.look(Now { mono_ms, unix_ms: NOW_S * 1000 }, 1, nodes);
    said.into_iter().map(|(topic, payload)| (topic, serde_json::from_slice(&payload).unwrap())).collect()
}

#[test]
fn the_fleet_hears_tells_and_shows() {
    let bench = Bench::new();
    let manifest = bench.publish(3);
    let mut fleet =
        Fleet::new(&bench.at("models"), picket_shared::ids::SiteId::new("yard").unwrap(), true).with_buttons(true);
    let hear = |fleet: &mut Fleet, name: &str, state: &ModelState| {
        fleet.hear(&named(name), &serde_json::to_vec(state).unwrap()).unwrap();
    };
    hear(&mut fleet, "a", &says(ModelPhase::Refused, 0, &manifest));
    bench.registry.begin_rollout(start(3, &[&["a"], &["b"]]), NOW_S).unwrap();
    let first = shown(&mut fleet, 0, true);
    assert_eq!(bench.told(3), ["a"]);
    let view: ModelsView = serde_json::from_value(first[&Topic::ViewModels].clone()).unwrap();
    assert_eq!((view.rollouts[0].groups[0].pending, view.stations.len()), (1, 4));
    // Home Assistant learns of those that have said what they run.
    let discovery = &first[&Topic::HomeAssistantUpdate(named("a"))];
    assert_eq!(discovery["state_topic"], "picket/v1/yard/view/update/a");
    assert!(discovery.get("command_topic").is_none(), "nobody is given a second way to change a device");
    // Its buttons say what was seen, and when they were pressed; whoever reads them is the operator that the broker lets say it.
    for (person, word) in [(true, "true"), (false, "false")] {
        let button = &first[&Topic::HomeAssistantButton(named("a"), person)];
        assert_eq!(button["command_topic"], "picket/v1/yard/coordinator/labels/operator-homeassistant");
        let said = button["command_template"].as_str().unwrap().replace("{{ now().timestamp() }}", "1000.25");
        let name = picket_shared::ids::OperatorName::new("homeassistant").unwrap();
        let read = picket_shared::learn::operator::OperatorLabels::read(said.as_bytes(), &name, 1_001.0).unwrap();
        let last = read.last.unwrap();
        assert_eq!((last.node, last.person.to_string().as_str()), (named("a"), word));
        assert_eq!(button["retain"], false);
    }
    let update = |shown: &BTreeMap<Topic, Value>| shown[&Topic::ViewUpdate(named("a"))].clone();
    assert_eq!(
        (&update(&first)["installed_version"], &update(&first)["latest_version"]),
        (&"own".into(), &"person 3".into())
    );
    assert_eq!(update(&first)["in_progress"], false);
    assert!(!first.contains_key(&Topic::ViewUpdate(named("b"))));
    assert!(shown(&mut fleet, 1, true).is_empty(), "it does not look all the time");
    assert!(shown(&mut fleet, fleet::LOOK_MS, true).is_empty(), "and says nothing twice");

    hear(&mut fleet, "a", &says(ModelPhase::Fetching, bench.number("a"), &manifest));
    let fetching = shown(&mut fleet, 2 * fleet::LOOK_MS, true);
    assert_eq!(
        (&update(&fetching)["in_progress"], &update(&fetching)["update_percentage"]),
        (&true.into(), &25.0.into())
    );
    assert!(!fetching.contains_key(&Topic::HomeAssistantUpdate(named("a"))));
    hear(&mut fleet, "a", &says(ModelPhase::RolledBack, bench.number("a"), &manifest));
    let halted = shown(&mut fleet, 3 * fleet::LOOK_MS, true);
    assert!(update(&halted)["release_summary"].as_str().unwrap().contains("it agrees to 0.100"));
    assert_eq!(fleet.courses(), [(Course::Halted, 1)].into());
    assert!(fleet.problems()[0].contains("rollout 1 of person 3 has halted"), "{:?}", fleet.problems());
    // The command line is seen, and everything is said again on a new connection.
    bench.registry.order_rollout(1, Order::Resume).unwrap();
    assert!(shown(&mut fleet, 4 * fleet::LOOK_MS, true).contains_key(&Topic::ViewModels));
    assert!(fleet.problems().is_empty());
    fleet.say_again();
    let again = shown(&mut fleet, 4 * fleet::LOOK_MS + 1, true);
    assert!(again.contains_key(&Topic::HomeAssistantUpdate(named("a"))) && again.contains_key(&Topic::ViewModels));
    let saved = crate::model::reports::saved(&bench.at("models")).unwrap();
    assert_eq!(saved[&named("a")].state.as_ref().unwrap().phase, ModelPhase::RolledBack);
    assert_eq!(saved[&named("b")].station, Some(at("b")));
}

#[test]
fn a_site_of_the_most_nodes_with_much_to_say_fits_one_packet() {
    let mut view = ModelsView { time: 1.5, rollouts: vec![], stations: vec![] };
    let manifest = Bench::new().publish(3);
    let state = says(ModelPhase::RolledBack, 7, &manifest);
    let mut reports = crate::model::reports::Reports::new();
    for n in 0..picket_shared::limits::NODES_MAX {
        let node = NodeId::new(format!("{n:a>48}")).unwrap();
        let state = ModelState { detail: Some("x".repeat(200)), ..state.clone() };
        crate::model::reports::hear(&mut reports, &node, &serde_json::to_vec(&state).unwrap()).unwrap();
    }
    let pins = Default::default();
    view.stations = view::stations(view::Known { rollouts: &[], records: &[], pins: &pins, reports: &reports });
    let payload = view::payload(view);
    assert!(payload.len() <= picket_shared::limits::PACKET_BYTES_MAX - 1024, "{}", payload.len());
    let read: ModelsView = serde_json::from_slice(&payload).unwrap();
    assert_eq!(read.stations.len(), picket_shared::limits::NODES_MAX);
}

#[test]
fn a_site_of_the_most_nodes_is_told_in_turns_and_one_turn_is_no_long_wait() {
    let bench = Bench::new();
    bench.publish(3);
    let names: Vec<String> = (0..picket_shared::limits::NODES_MAX).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    bench.registry.begin_rollout(start(3, &[&names]), NOW_S).unwrap();
    let mut turns = 0;
    while bench.registry.records().unwrap().len() < names.len() {
        let began = std::time::Instant::now();
        bench.turn(&Said::new());
        turns += 1;
        if turns % 16 == 0 {
            println!("{} nodes are told, the last turn took {:?}", 16 * turns, began.elapsed());
        }
        assert!(turns <= names.len() / 16, "each turn tells as many as it may");
    }
    let began = std::time::Instant::now();
    bench.turn(&Said::new());
    println!("a turn of {} nodes in which nothing has changed: {:?}", names.len(), began.elapsed());
}
