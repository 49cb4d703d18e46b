//! The promise of delivery, in many seeded worlds, and in a few named ones.
#![allow(clippy::unwrap_used)]

use picket_simulation::faults::Faults;
use picket_simulation::world::{Outcome, Plan, run};

fn world(seed: u64, faults: Faults) -> Outcome {
    let plan = Plan { faults, agents: 3, unkind_ms: 60_000, event_every_ms: 100, seed };
    run(&plan).unwrap()
}

#[test]
fn no_durable_event_is_lost_or_counted_twice_whatever_the_seed_draws() {
    let (mut events, mut crashes, mut duplicates) = (0, 0, 0);
    for seed in 0..300 {
        let outcome = run(&Plan::of_seed(seed)).unwrap_or_else(|broken| panic!("{broken}"));
        events += outcome.events;
        crashes += outcome.crashes;
        duplicates += outcome.duplicates;
    }
    println!("300 seeds: {events} events, {crashes} crashes, {duplicates} duplicates refused");
    assert!(events > 100_000 && crashes > 1_000 && duplicates > 10_000, "the worlds are too kind to prove anything");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 17, 99] {
        let (first, second) = (run(&Plan::of_seed(seed)).unwrap(), run(&Plan::of_seed(seed)).unwrap());
        assert_eq!(first, second);
    }
    assert_ne!(run(&Plan::of_seed(3)).unwrap().trace_hash, run(&Plan::of_seed(4)).unwrap().trace_hash);
}

#[test]
fn a_kind_world_repeats_nothing() {
    let outcome = world(1, Faults::none());
    assert_eq!((outcome.resent, outcome.duplicates, outcome.crashes), (0, 0, 0));
    assert!(outcome.events > 1_000);
}

#[test]
fn a_bus_that_loses_a_third_and_repeats_half() {
    let outcome = world(2, Faults { loss: 0.3, duplication: 0.5, delay_ms_max: 3_000, ..Faults::none() });
    assert!(outcome.duplicates > 0 && outcome.resent > 0);
}

#[test]
fn a_broker_that_forgets_everything_every_three_seconds() {
    assert!(world(3, Faults { broker_amnesia_every_ms: 3_000, ..Faults::none() }).resent > 0);
}

#[test]
fn processes_that_die_between_any_two_effects() {
    let outcome = world(4, Faults { crash: 0.01, ..Faults::none() });
    assert!(outcome.crashes > 20, "{outcome:?}");
}

#[test]
fn disks_that_are_full_every_third_time() {
    assert!(world(5, Faults { disk_failure: 0.3, ..Faults::none() }).events > 1_000);
}
