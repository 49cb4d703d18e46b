//! Rollouts by what is promised of them: who is told when, what halts them, and that nobody is told who must not be.

use proptest::prelude::*;

use picket_shared::crypto::Digest;
use picket_shared::ids::ModelName;
use picket_shared::learn::lineage::{HeadShape, Lineage};
use picket_shared::model::{LearnedState, ModelPhase, RunningModel, TrialTerms};

use super::*;
use crate::model::record::ReleaseRef;

const NOW_S: u64 = 1_800_000_000;

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn station(name: &str) -> StationId {
    StationId::new(format!("at-{name}")).unwrap()
}

fn goal() -> Goal {
    Goal::Release(ReleaseGoal {
        release: ReleaseRef { name: ModelName::new("person").unwrap(), counter: 7 },
        head: None,
        file: Digest([7; 32]),
        head_file: None,
        trial: TrialTerms::default(),
    })
}

/// What a device says.
fn says(phase: ModelPhase, reason: Option<&str>, number: u64, file: u8) -> ModelState {
    let sha256 = Digest([file; 32]);
    ModelState {
        time: NOW_S,
        phase,
        active: Some(RunningModel { name: None, counter: 0, sha256, head: None }),
        candidate: None,
        bytes: 0,
        bytes_wanted: 0,
        slots: vec![],
        trial: None,
        swap_gap_ms: None,
        reason: reason.map(Into::into),
        detail: reason.map(|word| format!("a sentence of {word}")),
        root: 1,
        assignment: number,
        counters: BTreeMap::new(),
        learned: None,
    }
}

fn committed(number: u64) -> ModelState {
    says(ModelPhase::Idle, None, number, 7)
}

fn rolled_back(number: u64) -> ModelState {
    says(ModelPhase::RolledBack, Some("model_trial_agreement"), number, 1)
}

/// A site that assigns what a rollout asks for.
struct Bench {
    rollout: Rollout,
    now_s: u64,
    number: u64,
    pinned: BTreeSet<StationId>,
    reports: BTreeMap<NodeId, ModelState>,
    wishes: BTreeMap<NodeId, (Wish, u64)>,
    down: BTreeSet<NodeId>,
}

impl Bench {
    fn new(groups: &[&[&str]], terms: Terms, schedule: Schedule) -> Bench {
        let group = |(at, nodes): (usize, &&[&str])| Group {
            name: if at == 0 { "canary".into() } else { format!("wave-{at}") },
            nodes: nodes.iter().map(|name| node(name)).collect(),
        };
        let groups = groups.iter().enumerate().map(group).collect();
        let of = |node: &NodeId| station(node.as_str());
        let rollout = Rollout::new((1, NOW_S), goal(), groups, (terms, schedule), of).unwrap();
        let (reports, wishes) = Default::default();
        let (pinned, down) = Default::default();
        Bench { rollout, now_s: NOW_S, number: 100, pinned, reports, wishes, down }
    }

    /// One turn: who is told.
    fn turn(&mut self) -> Vec<String> {
        let (reports, wishes, down) = (&self.reports, &self.wishes, &self.down);
        let turns = self.rollout.step(self.now_s, &self.pinned, |node| Seen {
            report: reports.get(node),
            wish: wishes.get(node).map(|(wish, number)| (wish, *number)),
            reachable: !down.contains(node),
            learned: None,
        });
        let mut told = Vec::new();
        for Turn { node, anew } in turns {
            let wish = self.rollout.wish(&node).unwrap();
            let same = self.wishes.get(&node).filter(|(before, _)| *before == wish && !anew).map(|(_, number)| *number);
            self.number += 1;
            let number = same.unwrap_or(self.number);
            self.wishes.insert(node.clone(), (wish, number));
            self.rollout.told(&node, number, self.now_s, self.reports.get(&node));
            told.push(node.to_string());
        }
        told
    }

    fn number_of(&self, name: &str) -> u64 {
        self.rollout.members[&node(name)].number.unwrap_or(0)
    }

    fn says(&mut self, name: &str, state: impl Fn(u64) -> ModelState) {
        let number = self.number_of(name);
        self.reports.insert(node(name), state(number));
    }

    fn stage(&self, name: &str) -> Stage {
        self.rollout.members[&node(name)].stage
    }
}

fn strict() -> Terms {
    Terms { success_min: 1.0, failures_max: 0.0, sample_min: 1, soak_s: 0 }
}

#[test]
fn a_good_release_reaches_the_canary_then_each_wave_and_the_rollout_is_done() {
    let terms = Terms { soak_s: 60, ..strict() };
    let mut bench = Bench::new(&[&["a"], &["b", "c"], &["d"]], terms, Schedule::default());
    assert_eq!(bench.turn(), ["a"]);
    assert!(bench.turn().is_empty(), "nobody is told twice, and no wave before the canary passed");
    for phase in [ModelPhase::Fetching, ModelPhase::Trial, ModelPhase::Probation] {
        bench.says("a", |number| says(phase, None, number, 1));
        assert!(bench.turn().is_empty(), "{phase:?}");
    }
    bench.says("a", committed);
    assert!(bench.turn().is_empty(), "it has not run it for long enough");
    bench.now_s += 59;
    assert!(bench.turn().is_empty());
    bench.now_s += 1;
    assert_eq!(bench.turn(), ["b", "c"]);
    bench.says("b", committed);
    bench.says("c", committed);
    assert!(bench.turn().is_empty());
    bench.now_s += 60;
    assert_eq!(bench.turn(), ["d"]);
    bench.says("d", committed);
    bench.turn();
    bench.now_s += 60;
    assert!(bench.turn().is_empty());
    assert_eq!((bench.rollout.course, bench.rollout.is_open()), (Course::Done, false));
    assert_eq!(bench.rollout.pause().unwrap_err(), "rollout 1 is done already");
}

#[test]
fn a_bad_release_halts_at_its_canary_and_says_why() {
    for (state, stage) in [
        (rolled_back as fn(u64) -> ModelState, Stage::RolledBack),
        (|number| says(ModelPhase::Refused, Some("model_hardware"), number, 1), Stage::Refused),
    ] {
        let mut bench = Bench::new(&[&["a"], &["b"]], strict(), Schedule::default());
        bench.turn();
        bench.says("a", state);
        assert!(bench.turn().is_empty());
        assert_eq!((bench.stage("a"), bench.rollout.course), (stage, Course::Halted));
        let word = bench.rollout.members[&node("a")].reason.clone().unwrap();
        assert!(bench.rollout.why.contains(&format!("a sentence of {word}")), "{}", bench.rollout.why);
        bench.now_s += 1_000_000;
        assert!(bench.turn().is_empty(), "and it stays so");
    }
}

#[test]
fn a_release_that_fails_after_it_was_committed_halts_too() {
    let mut bench = Bench::new(&[&["a"], &["b"], &["c"]], strict(), Schedule::default());
    bench.turn();
    bench.says("a", committed);
    assert_eq!(bench.turn(), ["b"]);
    bench.says("a", |number| says(ModelPhase::RolledBack, Some("model_load"), number, 1));
    bench.says("b", committed);
    assert!(bench.turn().is_empty());
    assert_eq!(bench.rollout.course, Course::Halted);
}

#[test]
fn few_failures_of_many_do_not_halt_and_one_more_does() {
    let wave: Vec<String> = (0..20).map(|n| format!("w{n}")).collect();
    let wave: Vec<&str> = wave.iter().map(String::as_str).collect();
    let terms = Terms { success_min: 0.5, failures_max: 0.1, sample_min: 10, soak_s: 0 };
    let mut bench = Bench::new(&[&["a"], &wave, &["z"]], terms, Schedule::default());
    bench.turn();
    bench.says("a", committed);
    assert_eq!(bench.turn().len(), 20);
    // One of one that came to an end: but a share is one of ten at least.
    bench.says("w0", rolled_back);
    assert!(bench.turn().is_empty());
    assert_eq!(bench.rollout.course, Course::Running);
    bench.says("w1", rolled_back);
    bench.turn();
    assert_eq!(bench.rollout.course, Course::Halted, "two of ten");
    assert!(bench.rollout.why.contains("2 of 2"), "{}", bench.rollout.why);
    bench.rollout.resume().unwrap();
    assert!(bench.turn().is_empty());
    assert_eq!((bench.rollout.course, bench.stage("w0")), (Course::Running, Stage::RolledBack), "they are excused");
    for name in &wave[2..11] {
        bench.says(name, committed);
        assert!(bench.turn().is_empty(), "nine have come to an end, of ten that are asked for");
    }
    bench.says(wave[11], committed);
    assert_eq!(bench.turn(), ["z"]);
}

#[test]
fn what_does_not_count_against_a_release_neither_halts_it_nor_proves_it() {
    let unseen = |number| says(ModelPhase::RolledBack, Some("model_trial_unseen"), number, 1);
    let mut bench = Bench::new(&[&["a", "b", "c"], &["d"]], strict(), Schedule::default());
    bench.turn();
    bench.says("a", unseen);
    bench.down.insert(node("b"));
    bench.says("c", |number| says(ModelPhase::Fetching, None, number, 1));
    bench.down.insert(node("c"));
    assert!(bench.turn().is_empty(), "nobody has proven it");
    assert_eq!(
        [bench.stage("a"), bench.stage("b"), bench.stage("c")],
        [Stage::Unseen, Stage::Unreachable, Stage::Unreachable]
    );
    assert_eq!(bench.rollout.course, Course::Running);
    // Who is lost in the middle of a trial may be lost because of it.
    bench.says("c", |number| says(ModelPhase::Trial, None, number, 1));
    bench.down.remove(&node("b"));
    bench.says("b", committed);
    assert!(bench.turn().is_empty());
    assert_eq!(bench.stage("c"), Stage::Trial);
    bench.says("c", committed);
    assert_eq!(bench.turn(), ["d"]);
    // Somebody lets it look again, when there is more to see.
    bench.rollout.pause().unwrap();
    bench.rollout.resume().unwrap();
    assert_eq!(bench.turn(), ["a"]);
}

#[test]
fn a_pinned_station_is_never_told_until_it_is_let_go() {
    let mut bench = Bench::new(&[&["a"], &["b"], &["c"]], strict(), Schedule::default());
    bench.pinned.insert(station("b"));
    bench.turn();
    bench.says("a", committed);
    assert_eq!(bench.turn(), ["c"], "a wave of which all are pinned keeps nobody waiting");
    assert_eq!(bench.stage("b"), Stage::Pinned);
    bench.pinned.clear();
    assert_eq!(bench.turn(), ["b"]);
}

#[test]
fn pause_abort_and_a_later_rollout_leave_nobody_newly_told() {
    let ways: [fn(&mut Rollout); 3] = [
        |rollout| rollout.pause().unwrap(),
        |rollout| rollout.abort("enough").unwrap(),
        |rollout| {
            let later = Rollout { number: 2, ..rollout.clone() };
            rollout.give_way_to(&later);
            assert!(rollout.why.contains("rollout 2"));
        },
    ];
    for stop in ways {
        let mut bench = Bench::new(&[&["a"], &["b"]], strict(), Schedule::default());
        bench.turn();
        bench.says("a", committed);
        stop(&mut bench.rollout);
        assert!(bench.turn().is_empty(), "{:?}", bench.rollout.course);
        let paused = bench.rollout.course == Course::Paused;
        assert_eq!(bench.rollout.resume().is_ok(), paused);
        assert_eq!(bench.turn().is_empty(), !paused);
    }
    let bench = Bench::new(&[&["a"]], strict(), Schedule::default());
    let mut elsewhere = Bench::new(&[&["b"]], strict(), Schedule::default()).rollout;
    elsewhere.give_way_to(&Rollout { number: 2, ..bench.rollout });
    assert_eq!(elsewhere.course, Course::Running, "they have no node in common");
}

#[test]
fn who_goes_on_after_a_halt_excuses_what_failed_and_tells_what_was_refused_once_more() {
    let mut bench = Bench::new(&[&["a", "b"], &["c"]], strict(), Schedule::default());
    bench.turn();
    let before = bench.number_of("b");
    bench.says("a", rolled_back);
    bench.says("b", |number| says(ModelPhase::Refused, Some("model_digest"), number, 1));
    bench.turn();
    assert_eq!(bench.rollout.course, Course::Halted);
    bench.rollout.resume().unwrap();
    assert_eq!(bench.turn(), ["b"]);
    assert!(bench.number_of("b") > before, "under a number of its own, or the device would not look at it");
    assert_eq!(bench.stage("b"), Stage::Assigned, "what it said of the number before counts no more");
    bench.says("b", committed);
    assert_eq!(bench.turn(), ["c"]);
}

#[test]
fn nobody_is_told_outside_of_the_schedule() {
    let day_s = NOW_S / 86_400 * 86_400;
    let daily: Daily = "22:00-05:30".parse().unwrap();
    for (hour_min, open) in
        [("21:59", false), ("22:00", true), ("23:59", true), ("00:00", true), ("05:29", true), ("05:30", false)]
    {
        let (hour, minute) = hour_min.split_once(':').unwrap();
        let at_s = day_s + hour.parse::<u64>().unwrap() * 3600 + minute.parse::<u64>().unwrap() * 60 + 59;
        assert_eq!(daily.holds(at_s), open, "{hour_min}");
        let mut bench = Bench::new(&[&["a"]], strict(), Schedule { not_before_s: 0, daily: Some(daily) });
        bench.now_s = at_s;
        assert_eq!(bench.turn().is_empty(), !open, "{hour_min}");
    }
    assert_eq!(daily.to_string(), "22:00-05:30");
    assert!("08:00-17:00".parse::<Daily>().unwrap().holds(day_s + 9 * 3600));
    for wrong in ["", "22:00", "22:00-22:00", "24:00-05:00", "05:00-24:00", "5-6", "05:60-06:00", "a:b-c:d"] {
        assert!(wrong.parse::<Daily>().unwrap_err().contains("22:00-05:30"), "{wrong}");
    }
    let mut bench = Bench::new(&[&["a"]], strict(), Schedule { not_before_s: NOW_S + 10, daily: None });
    assert!(bench.turn().is_empty());
    bench.now_s += 10;
    assert_eq!(bench.turn(), ["a"]);
}

#[test]
fn what_a_device_says_is_understood_for_what_it_is() {
    let early = |word| says(ModelPhase::Refused, Some(word), 0, 1);
    let of = |state: ModelState, number: u64| ModelState { assignment: number, ..state };
    for (state, stage) in [
        (committed(101), Stage::Committed),
        (committed(250), Stage::Committed),
        (of(committed(0), 100), Stage::Assigned),
        (says(ModelPhase::Idle, None, 101, 1), Stage::Assigned),
        (says(ModelPhase::Waiting, None, 101, 1), Stage::Assigned),
        (says(ModelPhase::Fetching, None, 101, 1), Stage::Fetching),
        (says(ModelPhase::Checking, None, 101, 1), Stage::Fetching),
        (says(ModelPhase::Loading, None, 101, 1), Stage::Trial),
        (says(ModelPhase::Switching, None, 101, 1), Stage::Trial),
        (says(ModelPhase::Probation, None, 101, 7), Stage::Trial),
        (rolled_back(101), Stage::RolledBack),
        (of(rolled_back(0), 100), Stage::Assigned),
        // Refused before its number was taken in; and by a word that can only be of another one.
        (ModelState { time: NOW_S + 1, ..early("model_station") }, Stage::Refused),
        (early("model_station"), Stage::Assigned),
        (ModelState { time: NOW_S + 1, ..early("model_digest") }, Stage::Assigned),
    ] {
        let mut bench = Bench::new(&[&["a"]], strict(), Schedule::default());
        bench.reports.insert(node("a"), says(ModelPhase::Idle, None, 3, 1));
        bench.turn();
        assert_eq!(bench.number_of("a"), 101);
        bench.reports.insert(node("a"), state.clone());
        bench.turn();
        assert_eq!(bench.stage("a"), stage, "{state:?}");
    }
}

#[test]
fn a_head_of_the_site_is_part_of_what_must_run() {
    let mut bench = Bench::new(&[&["a"], &["b"]], strict(), Schedule::default());
    let Goal::Release(goal) = &mut bench.rollout.goal else { unreachable!("it brings a release") };
    goal.head_file = Some(Digest([9; 32]));
    bench.turn();
    bench.says("a", committed);
    assert!(bench.turn().is_empty(), "the right file with another head");
    bench.says("a", |number| {
        let mut state = committed(number);
        state.active.as_mut().unwrap().head = Some(Digest([9; 32]));
        state
    });
    assert_eq!(bench.turn(), ["b"]);
}

#[test]
fn who_was_told_something_else_is_left_alone() {
    let mut bench = Bench::new(&[&["a", "b"], &["c"]], strict(), Schedule::default());
    bench.turn();
    let other = Wish { release: None, ..bench.wishes[&node("a")].0.clone() };
    bench.wishes.insert(node("a"), (other, 500));
    bench.says("b", committed);
    assert_eq!(bench.turn(), ["c"]);
    assert_eq!(bench.stage("a"), Stage::Elsewhere);
}

#[test]
fn a_coordinator_that_has_heard_nobody_yet_forgets_nothing() {
    let mut bench = Bench::new(&[&["a"], &["b"]], strict(), Schedule::default());
    bench.turn();
    bench.says("a", committed);
    bench.turn();
    bench.reports.clear();
    bench.down = [node("a"), node("b")].into();
    assert!(bench.turn().is_empty());
    assert_eq!([bench.stage("a"), bench.stage("b")], [Stage::Committed, Stage::Unreachable]);
}

#[test]
fn what_makes_no_sense_is_no_rollout() {
    let new = |groups: &[&[&str]], terms: Terms| {
        let group = |nodes: &&[&str]| Group { name: "g".into(), nodes: nodes.iter().map(|name| node(name)).collect() };
        let groups = groups.iter().map(group).collect();
        let begun =
            Rollout::new((1, NOW_S), goal(), groups, (terms, Schedule::default()), |node| station(node.as_str()));
        begun.map(drop).unwrap_err()
    };
    assert!(new(&[], strict()).contains("no node"));
    assert!(new(&[&["a"], &[]], strict()).contains("no node"));
    assert!(new(&[&["a"], &["b", "a"]], strict()).contains("a is in the rollout twice"));
    assert!(new(&[&["a"]], Terms { success_min: 1.5, ..strict() }).contains("--success is 1.5"));
    assert!(new(&[&["a"]], Terms { failures_max: f64::NAN, ..strict() }).contains("--failures"));
    assert!(new(&[&["a"]], Terms { soak_s: u64::MAX, ..strict() }).contains("--soak-seconds"));
    let names: Vec<String> = (0..=GROUPS_MAX).map(|n| format!("n{n}")).collect();
    let groups: Vec<Vec<&str>> = names.iter().map(|name| vec![name.as_str()]).collect();
    let groups: Vec<&[&str]> = groups.iter().map(Vec::as_slice).collect();
    assert!(new(&groups, strict()).contains("of at most"));
}

/// What may happen to a site under a rollout.
#[derive(Debug, Clone)]
enum Event {
    Says(u8, u8),
    Pin(u8, bool),
    Down(u8, bool),
    Pass(u16),
    Pause,
    Resume,
    Abort,
    Elsewhere(u8),
    Forget,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..12u8, 0..8u8).prop_map(|(node, what)| Event::Says(node, what)),
        1 => (0..12u8, any::<bool>()).prop_map(|(node, held)| Event::Pin(node, held)),
        1 => (0..12u8, any::<bool>()).prop_map(|(node, down)| Event::Down(node, down)),
        2 => (0..2_000u16).prop_map(Event::Pass),
        1 => Just(Event::Pause),
        2 => Just(Event::Resume),
        1 => Just(Event::Abort),
        1 => (0..12u8).prop_map(Event::Elsewhere),
        1 => Just(Event::Forget),
    ]
}

proptest! {
    /// Whatever happens in whatever order: nobody of a group is told before somebody of each group before could prove the
    /// release and enough did, nobody who is pinned, nobody twice under one number, and nobody while it is not running.
    #[test]
    fn nobody_is_told_before_his_turn(
        events in proptest::collection::vec(event(), 1..120),
        success in 0..=10u8, failures in 0..=4u8, sample in 1..4u32,
    ) {
        let names: Vec<String> = (0..12).map(|n| format!("n{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (success_min, failures_max) = (f64::from(success) / 10.0, f64::from(failures) / 10.0);
        let terms = Terms { success_min, failures_max, sample_min: sample, soak_s: 100 };
        let mut bench = Bench::new(&[&names[..2], &names[2..6], &names[6..]], terms, Schedule::default());
        let group_of = |name: &str| match names.iter().position(|known| *known == name).unwrap() { 0..2 => 0, 2..6 => 1, _ => 2 };
        for event in events {
            match event {
                Event::Says(n, what) => bench.says(names[n as usize], |number| match what {
                    0..4 => committed(number),
                    4 => rolled_back(number),
                    5 => says(ModelPhase::Refused, Some("model_hardware"), number, 1),
                    6 => says(ModelPhase::Trial, None, number, 1),
                    _ => says(ModelPhase::RolledBack, Some("model_trial_unseen"), number, 1),
                }),
                Event::Pin(n, true) => drop(bench.pinned.insert(station(names[n as usize]))),
                Event::Pin(n, false) => drop(bench.pinned.remove(&station(names[n as usize]))),
                Event::Down(n, true) => drop(bench.down.insert(node(names[n as usize]))),
                Event::Down(n, false) => drop(bench.down.remove(&node(names[n as usize]))),
                Event::Pass(s) => bench.now_s += u64::from(s),
                Event::Pause => drop(bench.rollout.pause()),
                Event::Resume => drop(bench.rollout.resume()),
                Event::Abort => drop(bench.rollout.abort("enough")),
                Event::Elsewhere(n) => {
                    if let Some((wish, number)) = bench.wishes.get_mut(&node(names[n as usize])) {
                        (wish.release, *number) = (None, *number + 1);
                    }
                }
                Event::Forget => bench.reports.clear(),
            }
            let before = bench.rollout.clone();
            let told = bench.turn();
            prop_assert!(told.is_empty() || before.course == Course::Running, "{:?}", before.course);
            // What has been proven is judged here by itself, from what stands of each member.
            let stands = |group: usize, stages: &[Stage]| {
                let members = bench.rollout.groups[group].nodes.iter().map(|node| &bench.rollout.members[node]);
                members.filter(|member| stages.contains(&member.stage)).count()
            };
            for name in &told {
                prop_assert!(!bench.pinned.contains(&station(name)), "{name} is pinned");
                let member = &before.members[&node(name)];
                prop_assert!(member.number.is_none(), "{name} was told already");
                for group in 0..group_of(name) {
                    let committed = stands(group, &[Stage::Committed]);
                    prop_assert!(before.group > group || group > 0 || committed > 0, "nobody of the canaries runs it");
                    let pending = stands(group, &[Stage::Waiting, Stage::Assigned, Stage::Fetching, Stage::Trial]);
                    let passed_before = before.group > group;
                    prop_assert!(passed_before || committed as f64 >= success_min * (committed + pending) as f64);
                }
            }
            let failed = |group: usize| {
                let nodes = &bench.rollout.groups[group].nodes;
                let members = nodes.iter().map(|node| &bench.rollout.members[node]);
                members.filter(|member| matches!(member.stage, Stage::RolledBack | Stage::Refused) && !member.excused).count()
            };
            if bench.rollout.course == Course::Running && (0..=bench.rollout.group).any(|group| {
                let judged = failed(group) + stands(group, &[Stage::Committed]);
                let pending = stands(group, &[Stage::Waiting, Stage::Assigned, Stage::Fetching, Stage::Trial]);
                let counted = judged.max((judged + pending).min(sample as usize));
                failed(group) as f64 > failures_max * counted as f64
            }) {
                prop_assert!(false, "it goes on in spite of what failed");
            }
            let text = serde_json::to_string(&bench.rollout).unwrap();
            prop_assert_eq!(serde_json::from_str::<Rollout>(&text).unwrap(), bench.rollout.clone());
        }
    }
}

/// What a device says of a learned head.
fn judged(phase: ModelPhase, number: u64) -> ModelState {
    let (reason, detail, samples, difference, error) = Default::default();
    let (version, used, backbone) = (7, 0, Digest([1; 32]));
    let learned =
        Some(LearnedState { backbone, version, phase, used, judges: true, reason, detail, samples, difference, error });
    ModelState { learned, ..says(ModelPhase::Idle, None, number, 1) }
}

proptest! {
    /// Whatever stations say of a head and whoever comes later: each is in one group, none is empty, and nobody is told before he is one
    /// of the canaries or one of them took it.
    #[test]
    fn who_tries_a_head_in_the_place_of_others_is_a_canary(
        says in proptest::collection::vec((0..8u8, 0..5u8), 1..80),
    ) {
        let lineage = Lineage { fleet_epoch: 1, backbone: Digest([1; 32]).to_string(), shape: HeadShape::logistic(3) };
        let goal = LearnedGoal { learned: LearnedRef { lineage: lineage.id(), version: 7 }, revert_of: None };
        let group = |name: &str, nodes: &[&str]| Group { name: name.into(), nodes: nodes.iter().map(|name| node(name)).collect() };
        let groups = vec![group("canary", &["n0"]), group("others", &["n1", "n2", "n3", "n4", "n5"])];
        let terms = (Terms { sample_min: 3, failures_max: 0.34, success_min: 0.5, soak_s: 0 }, Schedule::default());
        let of = |node: &NodeId| station(node.as_str());
        let mut rollout = Rollout::new((1, NOW_S), Goal::Learned(goal), groups, terms, of).unwrap();
        let (mut reports, pinned) = (BTreeMap::new(), BTreeSet::new());
        let mut taken = false;
        for (n, what) in says {
            let name = node(&format!("n{n}"));
            match rollout.members.get(&name) {
                None => rollout.join(NOW_S, name, station("later")),
                Some(member) => {
                    let number = member.number.unwrap_or(0);
                    let phase = [ModelPhase::Idle, ModelPhase::Waiting, ModelPhase::Waiting, ModelPhase::RolledBack];
                    let learnt_no_more = ModelState { learned: None, ..judged(ModelPhase::Idle, number) };
                    let said = phase.get(what as usize).map_or(learnt_no_more, |phase| judged(*phase, number));
                    reports.insert(name, said);
                }
            }
            let seen = |node: &NodeId| Seen { report: reports.get(node), wish: None, reachable: true, learned: None };
            let canaries = (rollout.group > 0).then(|| rollout.groups[0].nodes.clone());
            let turns = rollout.step(NOW_S, &pinned, seen);
            taken |= rollout.groups[0].nodes.iter().any(|node| rollout.members[node].stage == Stage::Committed);
            for Turn { node, .. } in turns {
                prop_assert!(taken || rollout.groups[0].nodes.contains(&node), "{node}: {rollout:?}");
                rollout.told(&node, 100 + u64::from(n), NOW_S, reports.get(&node));
            }
            prop_assert!(canaries.is_none_or(|canaries| canaries == rollout.groups[0].nodes), "the others' turn has come");
            let grouped: Vec<&NodeId> = rollout.groups.iter().flat_map(|group| &group.nodes).collect();
            prop_assert_eq!(grouped.iter().collect::<BTreeSet<_>>().len(), rollout.members.len());
            prop_assert_eq!(grouped.len(), rollout.members.len());
            prop_assert!(rollout.group < rollout.groups.len() && rollout.groups.iter().all(|group| !group.nodes.is_empty()));
        }
    }
}
