//! A model on its way to real devices: a real coordinator sends it through a real mosquitto with certificates, real agents with
//! a real video fetch it, try it and run it, while they are killed; and one that is no good is given up by them.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, dead_code)]

#[path = "../trust/rig.rs"]
mod rig;
mod crash;
mod killed;
mod rollout;
mod site;

use std::time::{Duration, Instant};

use picket_shared::model::{ModelPhase, TrialTerms};
use picket_simulation::soak::killer::Deed;
use picket_tests::wait_for;

use rig::WITHIN;
use site::{Site, release};

/// Of a candidate that is as good as the one before; the machine may be busy.
fn terms(attempts: u8) -> TrialTerms {
    TrialTerms { shadow_frames: 10, shadow_s_max: 300, agreement_min: None, attempts }
}

#[test]
fn two_devices_are_served_by_one_transmission_though_one_dies_on_the_way() {
    let mut site = Site::start(&["a", "b"]);
    let release = release(1, "good");
    site.publish(&release);
    let began = Instant::now();
    ["a", "b"].iter().for_each(|node| site.assign(node, 1, &release, terms(3)));
    for node in ["a", "b"] {
        site.until(node, "it to be fetched", |state| state.phase == ModelPhase::Fetching && state.bytes > 1_000_000);
    }
    site.agents.get_mut("b").unwrap().hit(Deed::Kill, Instant::now() + WITHIN).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    site.agents.get_mut("b").unwrap().revive().unwrap();
    let runs =
        |state: &picket_shared::model::ModelState| state.active.as_ref().is_some_and(|active| active.counter == 1);
    for node in ["a", "b"] {
        site.until(node, "it to run", runs);
        println!("{node}: assigned, fetched, tried and switched to in {:.1} s", began.elapsed().as_secs_f64());
        site.until_looks_with(node, &release.digest());
        site.until(node, "it to be committed", |state| state.phase == ModelPhase::Idle);
    }
    let (sent, length) = (site.rig.metric("model_sent_bytes_total"), release.bytes());
    println!("{sent} bytes sent for {} in two downloads", 2 * length);
    // Whoever was dead for a while, and lost what it had not noted, may cost some pieces again.
    assert!(sent >= length && sent < 2 * length * 9 / 10, "{sent} bytes sent, of {length}");
    // The cameras were looked at all the while.
    for node in ["a", "b"] {
        let gap_ms = site.until(node, "the gap to be told", |state| state.swap_gap_ms.is_some()).swap_gap_ms.unwrap();
        println!(
            "{node}: {gap_ms:.1} ms from the last frame of the one model to the first of the other, of a camera of 10 a second"
        );
    }
    let (least, stats) = site.least_frames("a", began);
    println!("frames looked at between two statistics, the least of {stats}: {least}");
    assert!(stats > 3 && least > 0, "{least} of {stats}");
    let took = site.rig.log("a").lines().find(|line| line.contains("another model from here on")).unwrap().to_owned();
    println!("{took}");
}

#[test]
fn killed_at_every_state_it_goes_on_and_ends_with_the_model_that_it_should_run() {
    let mut site = Site::start(&["a"]);
    let before = site.looks_with("a");
    let release = release(1, "good");
    site.publish(&release);
    site.assign("a", 1, &release, terms(20));
    for phase in [ModelPhase::Fetching, ModelPhase::Loading, ModelPhase::Trial, ModelPhase::Probation] {
        site.until("a", &format!("{phase:?}"), |state| state.phase == phase);
        site.agents.get_mut("a").unwrap().hit(Deed::Kill, Instant::now() + WITHIN).unwrap();
        site.forget("a");
        site.agents.get_mut("a").unwrap().revive().unwrap();
        // What it begins with is what it ran before, until the candidate has passed.
        let expect = if phase == ModelPhase::Probation { release.digest() } else { before.clone() };
        site.until_looks_with("a", &expect);
    }
    site.until("a", "it to be committed", |state| state.phase == ModelPhase::Idle);
    assert_eq!(site.looks_with("a"), release.digest());
    let said = site.status("a");
    assert!(said.contains("person release 1") && said.contains("slot a"), "{said}");
    // Killed between the two it may say again what it does not know that it said.
    let audited = site.audited("a");
    let has = |words: &str| audited.iter().any(|line| line.starts_with("person release 1 (") && line.ends_with(words));
    assert!(has("and must last") && has("has lasted, and is committed"), "{audited:?}");
}

#[test]
fn a_model_that_finds_nobody_dies_or_hangs_is_given_up_and_the_one_before_watches_on() {
    let site = Site::start(&["a"]);
    let before = site.looks_with("a");
    let blind = release(1, "blind").with_a_head_that_finds_nobody();
    site.publish(&blind);
    let began = Instant::now();
    site.assign("a", 1, &blind, terms(3));
    let state = site.until("a", "it to be given up", |state| state.phase == ModelPhase::RolledBack);
    // By live frames, or by the stored ones where there are enough already.
    let by = ["model_trial_agreement", "model_trial_stored"];
    assert!(by.contains(&state.reason.as_deref().unwrap()), "{state:?}");

    // One whose process dies of it, again and again.
    let good = release(2, "good");
    site.publish(&good);
    // None comes to its end before it is killed.
    site.assign("a", 2, &good, TrialTerms { shadow_frames: 10_000, ..terms(2) });
    for _ in 0..2 {
        let trial = site.trial_of("a");
        site.kill_trial(trial);
        wait_for("its end", WITHIN, || (site.trial_pids("a").iter().all(|pid| *pid != trial)).then_some(()));
    }
    let crashed = |state: &picket_shared::model::ModelState| {
        state.phase == ModelPhase::RolledBack && state.reason.as_deref() == Some("model_trial_crash")
    };
    site.until("a", "it to be given up", crashed);

    // One that says nothing any more.
    let good = release(3, "good too");
    site.publish(&good);
    site.assign("a", 3, &good, TrialTerms { shadow_frames: 10_000, ..terms(1) });
    let looks_at_frames = |state: &picket_shared::model::ModelState| {
        state.phase == ModelPhase::Trial && state.trial.as_ref().is_some_and(|trial| trial.frames > 0)
    };
    site.until("a", "it to be tried", looks_at_frames);
    site.freeze_trial(site.trial_of("a"));
    let hangs = |state: &picket_shared::model::ModelState| {
        state.phase == ModelPhase::RolledBack && state.reason.as_deref() == Some("model_trial_hang")
    };
    site.until("a", "it to be given up", hangs);
    assert!(site.trial_pids("a").is_empty(), "nothing of it is left");
    let audited = site.audited("a");
    let [_, died, hung] = &audited[..] else { panic!("one line for each: {audited:?}") };
    assert!(died.contains("given up") && died.contains("(model_trial_crash)"), "{died}");
    assert!(hung.contains("runs on (model_trial_hang)"), "{hung}");
    assert_eq!(site.looks_with("a"), before);
    let (least, stats) = site.least_frames("a", began);
    println!("frames looked at between two statistics, the least of {stats}: {least}");
    assert!(stats > 10 && least > 0, "the cameras were looked at all the while: {least} of {stats}");
}
