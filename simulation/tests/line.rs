//! Who watches what: many seeded sites, every scenario with what it promises, a few exact failures, and the command.
//!
//! What must hold at every step (one actor, no right that has ended, nothing held after an answer without it) is judged in
//! each run by the site's own referee; a broken rule fails the test with its seed.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use picket_simulation::site::coverage::Cause;
use picket_simulation::site::report::Report;
use picket_simulation::site::scenario::Scenario;
use picket_simulation::site::{COUNTS_FROM_MS, Outcome, run};
use picket_simulation::swarm::each_seed;

fn together(seeds: u64, scenario: impl Fn(u64) -> Scenario + Sync) -> (Report, Vec<Outcome>) {
    let (mut report, mut outcomes) = (Report::default(), Vec::new());
    each_seed(
        0,
        seeds,
        |seed| run(&scenario(seed), seed),
        |_, outcome| {
            report.add(&outcome);
            outcomes.push(outcome);
        },
    )
    .unwrap_or_else(|broken| panic!("{broken}"));
    outcomes.sort_by_key(|outcome| outcome.seed);
    (report, outcomes)
}

fn written(text: &str) -> Scenario {
    Scenario::read(&format!("about = \"a test\"\n{text}")).unwrap()
}

/// Ten seeds of a few lines.
fn ten(text: &str) -> (Report, Vec<Outcome>) {
    let scenario = written(text);
    together(10, |_| scenario.clone())
}

fn of_file(name: &str) -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name);
    Scenario::read(&std::fs::read_to_string(&path).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// One thing that is done, from this second on.
fn act(at_s: f64, what: &str, whom: &str, rest: &str) -> String {
    format!("[[act]]\nat_s = {at_s}\ndo = \"{what}\"\nwhom = \"{whom}\"\n{rest}\n")
}

fn sum(outcomes: &[Outcome], of: impl Fn(&Outcome) -> u64) -> u64 {
    outcomes.iter().map(of).sum()
}

#[test]
fn no_rule_is_broken_whatever_the_seed_draws() {
    let started = std::time::Instant::now();
    let (report, outcomes) = together(200, Scenario::draw);
    println!("{}\n{:.1} s", report.table(&Scenario::draw(0)), started.elapsed().as_secs_f64());
    let (acts, stale) = (sum(&outcomes, |run| run.acts), sum(&outcomes, |run| run.stale_refused));
    let hard_enough = report.covers() > 300 && acts > 100 && stale > 50;
    assert!(
        hard_enough,
        "the sites are too kind to prove anything: {} covers, {acts} acts, {stale} stale",
        report.covers()
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 17, 99] {
        let (first, second) = (run(&Scenario::draw(seed), seed).unwrap(), run(&Scenario::draw(seed), seed).unwrap());
        assert_eq!(first, second);
    }
    assert_ne!(run(&Scenario::draw(3), 3).unwrap().trace_hash, run(&Scenario::draw(3), 4).unwrap().trace_hash);
}

#[test]
fn the_command_prints_seed_trace_and_table_and_draws_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str| {
        let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/half_dies.toml");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_picket-simulation"));
        command.arg("run").arg(scenario).args(["--seed", "7", "--record"]).arg(dir.path().join(name));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        let trace = said.lines().find(|line| line.starts_with("seed 7: trace ")).map(str::to_owned);
        (trace.unwrap_or_else(|| panic!("{said}")), said, std::fs::read_to_string(dir.path().join(name)).unwrap())
    };
    let ((first, said, picture), (again, _, same)) = (run("one.svg"), run("two.svg"));
    assert_eq!((first, &picture), (again, &same), "a seed is a run");
    for row in ["nobody watched", "takeover, silence", "false takeovers", "stale-epoch writes", "messages, bytes"] {
        assert!(said.contains(row), "{row}: {said}");
    }
    assert!(picture.starts_with("<svg ") && picture.trim_end().ends_with("</svg>"));
    assert!(picture.contains("nobody watches n"), "ground that nobody watches is in the picture");
}

#[test]
fn every_scenario_keeps_what_it_promises() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() >= 15, "{names:?}");
    for name in names.iter().filter(|name| *name != "thousand_drones.toml") {
        let scenario = of_file(name);
        let seeds = if scenario.seconds > 1_000 { 4 } else { 6 };
        let (report, _) = together(seeds, |_| scenario.clone());
        assert_eq!(report.missed(&scenario.targets), Vec::<String>::new(), "{name}\n{}", report.table(&scenario));
    }
}

#[test]
fn a_thousand_drones_of_which_fifty_fall_at_once() {
    let scenario = of_file("thousand_drones.toml");
    let (report, _) = together(1, |_| scenario.clone());
    println!("{}", report.table(&scenario));
    assert_eq!(report.missed(&scenario.targets), Vec::<String>::new());
    assert_eq!(report.holes_ms(Cause::Crash).len(), 50, "each of them was covered");
}

#[test]
fn a_connection_that_breaks_under_an_actor_hands_its_act_on_and_never_doubles_it() {
    let coverer = act(35.0, "drop", "coverer", "times = 8\nevery_s = 9");
    let clocks = "[clocks]\ndrift_ppm = 10000\n";
    let (_, outcomes) =
        ten(&format!("seconds = 120\ndrones = 1.0\n{clocks}{}{coverer}", act(20.0, "kill", "node", "")));
    assert!(sum(&outcomes, |run| run.acts) > 15);
}

#[test]
fn who_stands_still_acts_no_more() {
    let still = act(35.0, "pause", "coverer", "for_s = 20");
    let (_, outcomes) = ten(&format!("seconds = 90\ndrones = 1.0\n{}{still}", act(20.0, "kill", "node", "")));
    assert!(sum(&outcomes, |run| run.acts) >= 20);
}

#[test]
fn a_new_leader_leaves_a_cover_where_it_is() {
    let leader = act(35.0, "power", "leader", "");
    let (_, outcomes) = ten(&format!("seconds = 70\ncoordinators = 2\n{}{leader}", act(20.0, "kill", "node", "")));
    for outcome in outcomes {
        let fallen = outcome.coverage.stations.iter().enumerate().find(|(n, it)| !it.watchers.contains(n)).unwrap().1;
        assert_eq!((outcome.covers, fallen.holes.len()), (1, 1), "seed {}: {:?}", outcome.seed, fallen.spans);
    }
}

#[test]
fn a_new_leader_takes_nothing_from_anybody_before_it_has_heard_them() {
    let (_, outcomes) = ten(&format!("seconds = 60\ncoordinators = 2\n{}", act(20.0, "power", "leader", "")));
    assert_eq!(sum(&outcomes, |run| run.covers), 0);
    assert_eq!(sum(&outcomes, |run| run.leaders), 20);
}

#[test]
fn a_leader_that_finds_no_broker_listens_first_when_it_does() {
    let broker = act(20.0, "kill", "broker", "for_s = 20");
    let restart = act(21.0, "kill", "coordinators", "for_s = 2");
    let (_, outcomes) = ten(&format!("seconds = 90\n{broker}{restart}"));
    assert_eq!(sum(&outcomes, |run| run.false_takeovers), 0);
}

#[test]
fn a_coordinator_that_stood_still_alone_never_grants_an_epoch_twice() {
    let fall = act(30.0, "kill", "node", "for_s = 50");
    let (_, outcomes) = ten(&format!("seconds = 120\n{fall}{}", act(45.0, "pause", "leader", "for_s = 30")));
    assert_eq!(sum(&outcomes, |run| run.false_takeovers), 0);
}

#[test]
fn two_who_both_believe_that_they_lead_are_harmless() {
    let scenario = of_file("two_leaders.toml");
    let (report, outcomes) = together(10, |_| scenario.clone());
    assert!(sum(&outcomes, |run| run.stale_refused) > 100);
    assert_eq!(report.missed(&scenario.targets), Vec::<String>::new());
}

#[test]
fn of_two_coordinators_with_a_row_each_one_stands_back() {
    let scenario = of_file("two_rows.toml");
    let (report, _) = together(20, |_| scenario.clone());
    assert_eq!(report.missed(&scenario.targets), Vec::<String>::new(), "{}", report.table(&scenario));
}

#[test]
fn a_leader_that_lost_the_broker_and_sees_the_row_gives_it_back() {
    let scenario = of_file("deaf_leader.toml");
    let (report, outcomes) = together(10, |_| scenario.clone());
    assert_eq!(sum(&outcomes, |run| run.leaders), 20, "each time a second one led");
    assert_eq!(report.missed(&scenario.targets), Vec::<String>::new(), "{}", report.table(&scenario));
}

#[test]
fn a_coordinator_that_lost_its_row_leads_above_whatever_nodes_know() {
    let scenario = of_file("lost_row.toml");
    let (report, outcomes) = together(10, |_| scenario.clone());
    assert_eq!(report.missed(&scenario.targets), Vec::<String>::new(), "{}", report.table(&scenario));
    assert!(outcomes.iter().all(|run| run.leaders >= 3), "once under an epoch that had been, and once above it");
    // As where the coordinator before had been started several times.
    let again = act(30.0, "kill", "coordinators", "for_s = 1\ntimes = 3\nevery_s = 5");
    let lost = act(60.0, "lose", "coordinators", "for_s = 2");
    let fall = act(90.0, "kill", "node", "");
    let (_, outcomes) = ten(&format!("seconds = 120\n{again}{lost}{fall}"));
    assert_eq!(sum(&outcomes, |run| run.covers), 10);
    assert!(outcomes.iter().all(|run| run.leaders >= 6));
}

#[test]
fn a_node_that_flaps_has_its_station_back_later_each_time() {
    let scenario = of_file("flapping.toml");
    let (report, outcomes) = together(10, |_| scenario.clone());
    // Ten falls: its station goes to and fro twice, and then stays where it is.
    assert!(report.covers() <= 3 * outcomes.len() as u64, "{}", report.covers());
}

#[test]
fn where_messages_get_lost_a_connection_that_breaks_is_no_death() {
    let (report, _) = ten("seconds = 600\n[air]\nloss = 0.15\ndrop_every_s = 60");
    // About 800 connections broke.
    assert!(report.covers() <= 150, "{}", report.covers());
}

#[test]
fn who_is_cut_off_or_hears_nothing_stands_in_for_nobody() {
    for what in ["cut", "deafen"] {
        // For longer than a dead link may stay unnoticed: until then it seems as if all others were gone.
        let scenario = written(&format!("seconds = 80\n{}", act(25.0, what, "node", "for_s = 12")));
        for outcome in together(30, |_| scenario.clone()).1 {
            assert!(outcome.covers <= 1, "{what}, seed {}: {} covers", outcome.seed, outcome.covers);
        }
    }
}

#[test]
fn who_stood_still_stands_in_for_nobody_when_it_goes_on() {
    let (_, outcomes) = ten(&format!("seconds = 100\n{}", act(25.0, "pause", "node", "for_s = 60")));
    assert_eq!((sum(&outcomes, |run| run.false_takeovers), sum(&outcomes, |run| run.covers)), (0, 10));
}

#[test]
fn with_the_coordinator_gone_lost_heartbeats_are_no_death() {
    let gone = act(20.0, "kill", "coordinators", "");
    let (_, outcomes) = ten(&format!("seconds = 900\n[air]\nloss = 0.2\n{gone}"));
    assert!(sum(&outcomes, |run| run.false_takeovers) <= 2, "{}", sum(&outcomes, |run| run.false_takeovers));
}

#[test]
fn messages_that_come_twice_and_late_change_nothing() {
    let kill = act(25.0, "kill", "node", "for_s = 20");
    let (_, outcomes) =
        ten(&format!("seconds = 120\ncoordinators = 2\n[air]\nduplication = 0.5\nreplay = 0.5\n{kill}"));
    assert_eq!(sum(&outcomes, |run| run.false_takeovers), 0);
}

#[test]
fn while_the_broker_is_away_everybody_watches_on() {
    let (_, outcomes) = ten(&format!("seconds = 100\n{}", act(20.0, "kill", "broker", "for_s = 40")));
    assert_eq!(sum(&outcomes, |run| run.coverage.uncovered_ms()), 0);
}

#[test]
fn where_there_is_not_room_for_all_the_important_stations_are_watched() {
    let scenario = of_file("half_dies.toml");
    let (_, outcomes) = together(10, |_| scenario.clone());
    for outcome in outcomes {
        // A station's number is its priority.
        let stations = outcome.coverage.stations.iter().enumerate();
        let (covered, bare): (Vec<_>, Vec<_>) =
            stations.filter(|(n, it)| !it.watchers.contains(n)).partition(|(_, it)| !it.watchers.is_empty());
        let least = covered.iter().map(|(n, _)| n).min().unwrap();
        assert!(bare.iter().all(|(n, _)| n < least), "seed {}: {bare:?}", outcome.seed);
        assert!(outcome.lived_ms > COUNTS_FROM_MS);
    }
}
