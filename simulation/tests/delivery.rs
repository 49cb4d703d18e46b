//! The promise of delivery, in many seeded worlds, and in a few named ones.
#![allow(clippy::unwrap_used)]

use picket_simulation::faults::Faults;
use picket_simulation::swarm::run_seeds;
use picket_simulation::world::{Outcome, Plan, run};

const SECOND_MS: u64 = 1_000;
const HOUR_MS: u64 = 3_600 * SECOND_MS;

fn plan(seed: u64, faults: Faults) -> Plan {
    Plan { faults, agents: 3, one_name: false, unkind_ms: 60_000, event_every_ms: 100, outages: vec![], seed }
}

fn world(seed: u64, faults: Faults) -> Outcome {
    run(&plan(seed, faults)).unwrap()
}

/// How long the slowest but one in a hundred of these took, in milliseconds.
fn p99(mut latencies_ms: Vec<u64>) -> u64 {
    latencies_ms.sort_unstable();
    latencies_ms[(latencies_ms.len() * 99).div_ceil(100) - 1]
}

#[test]
fn no_durable_event_is_lost_or_counted_twice_whatever_the_seed_draws() {
    let started = std::time::Instant::now();
    let total = run_seeds(0, 1_000, |_, _, _| ()).unwrap_or_else(|broken| panic!("{broken}"));
    println!("{total}; {:.1} s", started.elapsed().as_secs_f64());
    let hard_enough = total.crashes > 5_000 && total.duplicates > 100_000 && total.missed > 10_000;
    assert!(hard_enough && total.events >= 1_000_000, "the worlds are too kind to prove anything: {total}");
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
fn a_kind_world_repeats_nothing_and_keeps_the_order_of_each_device() {
    let outcome = world(1, Faults::none());
    assert_eq!((outcome.resent, outcome.duplicates, outcome.crashes, outcome.missed), (0, 0, 0, 0));
    assert!(outcome.events > 1_000);
}

#[test]
fn the_order_of_each_device_is_kept_where_all_messages_arrive_whatever_disks_and_clocks_do() {
    let faults = Faults { duplication: 0.5, disk_failure: 0.3, clock_jump_every_ms: 1_000, ..Faults::none() };
    assert!(world(6, Faults { owed_max: 20, ..faults }).missed > 0);
}

#[test]
fn a_bus_that_loses_a_third_and_repeats_half() {
    let faults = Faults { loss: 0.3, duplication: 0.5, delay_ms_max: 3_000, reorder: true, ..Faults::none() };
    let outcome = world(2, faults);
    assert!(outcome.duplicates > 0 && outcome.resent > 0);
}

#[test]
fn a_broker_that_forgets_everything_every_three_seconds() {
    assert!(world(3, Faults { broker_amnesia_every_ms: 3_000, ..Faults::none() }).resent > 0);
}

#[test]
fn processes_that_die_between_any_two_effects() {
    let outcome = world(4, Faults { crash: 0.01, ..Faults::none() });
    assert!(outcome.crashes > 20, "{:?}", outcome.crashes);
}

#[test]
fn disks_that_are_full_every_third_time() {
    assert!(world(5, Faults { disk_failure: 0.3, ..Faults::none() }).events > 1_000);
}

#[test]
fn a_day_offline_is_drained_quickly_and_what_is_new_overtakes_it() {
    let (back_ms, tail_ms) = (24 * HOUR_MS, 600 * SECOND_MS);
    let outages = vec![(SECOND_MS, back_ms)];
    let day =
        Plan { agents: 1, event_every_ms: 1_000, unkind_ms: back_ms + tail_ms, outages, ..plan(7, Faults::none()) };
    let outcome = run(&day).unwrap();
    let old: Vec<_> = outcome.arrivals.iter().filter(|(seen_ms, _)| *seen_ms < back_ms).collect();
    let drained_ms = old.iter().map(|(_, archived_ms)| archived_ms - back_ms.min(*archived_ms)).max().unwrap();
    let live =
        outcome.arrivals.iter().filter(|(seen_ms, _)| (back_ms + 20_000..back_ms + drained_ms).contains(seen_ms));
    let live_ms: Vec<u64> = live.map(|(seen_ms, archived_ms)| archived_ms - seen_ms).collect();
    let (events, seen) = (old.len(), live_ms.len());
    let live_p99_ms = p99(live_ms);
    println!("{events} events of a day drained in {drained_ms} ms; {seen} seen meanwhile, p99 {live_p99_ms} ms");
    assert!(events > 80_000 && seen > 20);
    assert!(drained_ms * 10 < back_ms, "at least ten times faster than they came");
    assert!(live_p99_ms < SECOND_MS, "what is new does not wait behind the backlog");
}

#[test]
fn a_thousand_agents_come_back_without_a_storm() {
    let thousand = |outages, faults| {
        let (agents, unkind_ms, event_every_ms) = (1_000, 60 * SECOND_MS, 5_000);
        run(&Plan { agents, unkind_ms, event_every_ms, outages, ..plan(8, faults) }).unwrap()
    };
    // A broker that restarts in no time, just before the world heals; and one that is away for 40 s.
    let restart = thousand(vec![(59 * SECOND_MS, 59 * SECOND_MS)], Faults::none());
    let away = thousand(vec![(15 * SECOND_MS, 55 * SECOND_MS)], Faults::none());
    for (name, outcome, attempts_max) in [("restart", restart, 600), ("away", away, 800)] {
        let Outcome { attempts_per_s_max, healing_ms, resent, events, busy, steps, .. } = outcome;
        println!(
            "{name}: {events} events, at most {attempts_per_s_max} attempts/s, all in the archive {healing_ms} ms after; \
             {resent} sent again, {busy} refused as busy, {steps} steps"
        );
        assert!(attempts_per_s_max <= attempts_max);
        assert!(healing_ms < 30 * SECOND_MS, "{name}");
        // Those who are back before the coordinator send a batch again every while, to nobody.
        assert!(resent < 2 * events as u64 && steps < 40 * events as u64, "{name}: a storm");
    }
}

#[test]
fn two_agents_of_one_name_lose_nothing_double_nothing_and_are_named_by_all() {
    let two = Plan { agents: 2, one_name: true, unkind_ms: 120_000, ..plan(9, Faults::none()) };
    let outcome = run(&two).unwrap();
    assert_eq!((outcome.agents_named.len(), outcome.coordinator_named), (2, true));
    assert!(outcome.events > 2_000);
}

#[test]
fn clocks_that_jump_by_an_hour() {
    let faults = Faults { clock_jump_every_ms: 500, crash: 0.001, cut_every_ms: 5_000, ..Faults::none() };
    assert!(world(10, faults).events > 1_000);
}

#[test]
fn agents_that_forget_what_was_acknowledged_send_their_history_and_nothing_doubles() {
    let faults = Faults { forgets_acks: true, crash: 0.01, broker_amnesia_every_ms: 5_000, ..Faults::none() };
    let outcome = world(11, faults);
    // The first answer tells them how far the archive is, so it costs a batch of each boot and not the history.
    assert!(outcome.duplicates > 16 * outcome.crashes / 2, "{} after {}", outcome.duplicates, outcome.crashes);
}

#[test]
fn disks_that_have_no_room_and_disks_that_lose_what_they_had_say_so_exactly() {
    let outages = vec![(5_000, 55_000)];
    for (seed, gives_up_newest) in [(12, false), (13, true)] {
        let full = Faults { owed_max: 50, gives_up_newest, loss: 0.1, ..Faults::none() };
        let outcome = run(&Plan { outages: outages.clone(), ..plan(seed, full) }).unwrap();
        assert!(outcome.missed > 500, "{}", outcome.missed);
    }
    let damaged = Faults { damage: 1.0, crash: 0.01, loss: 0.3, cut_every_ms: 1_000, ..Faults::none() };
    let missed = world(14, damaged).missed;
    assert!(missed > 50, "{missed}");
}

#[test]
fn a_link_that_comes_and_goes_does_not_begin_a_boot_each_time() {
    let faults = Faults { cut_every_ms: 500, ..Faults::none() };
    let outcome = run(&Plan { agents: 1, event_every_ms: 20, ..plan(15, faults) }).unwrap();
    assert!(outcome.boots <= 1 + outcome.events / 256, "{} boots of {} events", outcome.boots, outcome.events);
}
