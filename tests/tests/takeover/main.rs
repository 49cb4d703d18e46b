//! A neighbour stands in, with real processes, a real broker and a real video: kill -9, SIGSTOP, a cut cable, no coordinator,
//! no broker, two coordinators. How long each takeover took is printed; that it came is what is tested, and that nobody acts under an
//! old lease.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod cable;
mod loss;
mod rig;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use picket_coordinator::line::SETTLE_MS;
use picket_shared::duty::Sight;
use picket_shared::status::UpDown;
use picket_shared::view::{ChangeKind, Guard};
use picket_simulation::soak::killer::Deed;
use picket_tests::{run_within, text, wait_for};
use rig::{Rig, digest_of_a, hit, station};

/// Tells how long something took: figures for the README.
fn took(what: &str, since: Instant, until: Instant) {
    println!("{what}: {:.2} s", until.saturating_duration_since(since).as_secs_f64());
}

#[test]
fn a_crashed_node_is_covered_its_cover_too_and_both_have_their_stations_back() {
    let mut rig = Rig::start(1);
    let killed = rig.kill("a");
    let (first, watched) = rig.until_covered("gate", "a", killed);
    took("crash, until the neighbour's first pictures", killed, watched);
    let view = rig.until_seen("gate", Guard::Covered, Some(&first));
    let event = rig.until_event(&first, "gate", killed);
    assert_eq!((event.covering_for, event.camera.as_str()), (Some(station("gate")), "main"));
    assert_eq!(event.epoch, view.epoch, "what it tells has the epoch of its lease");
    assert_eq!(event.model, digest_of_a(&rig), "it looks with the station's own model");

    let (own, second) = if first == "b" { ("yard", "c") } else { ("dock", "b") };
    let killed = rig.kill(&first);
    rig.until(&format!("{second} to watch gate"), |heard| {
        let (_, beat) = heard.beats.get(second).filter(|(at, _)| *at >= killed)?;
        beat.holdings.iter().any(|held| held.station == station("gate") && held.sight == Sight::Watching).then_some(())
    });
    took("the cover crashes too, until the next one's first pictures", killed, Instant::now());
    rig.until_seen("gate", Guard::Covered, Some(second));
    rig.until_seen(own, Guard::Covered, Some(second));

    let back = rig.revive("a");
    rig.revive(&first);
    rig.until_seen("gate", Guard::Home, Some("a"));
    rig.until_seen(own, Guard::Home, Some(&first));
    rig.until_home(second, back);
    took("both back, until each watches its own", back, Instant::now());
    let epochs: Vec<u64> = rig.changes(ChangeKind::HandBack, back).iter().map(|change| change.epoch).collect();
    assert!(epochs.len() == 2 && epochs.iter().all(|epoch| *epoch > view.epoch), "{epochs:?}");
    for change in ["down", "takeover", "up", "hand_back"] {
        let said = format!("\"change\":\"{change}\"");
        let log = rig.log("coordinator-0");
        let evidence = log.lines().any(|line| line.contains(&said) && line.contains("\"why\":\""));
        assert!(evidence, "the journal keeps each transition with its evidence, and {change} is not there: {log}");
    }

    // Where all are gone, that is the first thing that somebody sees.
    for (node, ..) in rig::LINE {
        rig.kill(node);
    }
    rig.until_seen("gate", Guard::Uncovered, None);
    let mut browser = Command::new("node");
    browser.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/dashboard.mjs")).args(["--url", &rig.page(0)]);
    browser.args(["--nodes", "3", "--liveness", "down", "--events", "0", "--ground", "gate:uncovered"]);
    let output = run_within(&mut browser, Duration::from_secs(90));
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_frozen_node_is_covered_and_does_no_harm_when_it_thaws() {
    let mut rig = Rig::start(1);
    let frozen = rig.freeze("a");
    let (by, watched) = rig.until_covered("gate", "a", frozen);
    took("silence, until the neighbour's first pictures", frozen, watched);
    let covered = rig.until_seen("gate", Guard::Covered, Some(&by));
    rig.until_event(&by, "gate", frozen);
    let thawed = rig.revive("a");
    // It wakes up with the lease of before, whose time has passed while it slept.
    rig.until("the thawed node to say that its lease has ended", |heard| {
        let (_, beat) = heard.beats.get("a").filter(|(at, _)| *at >= thawed)?;
        beat.holdings[0].provisional.then_some(())
    });
    let home = rig.until_seen("gate", Guard::Home, Some("a"));
    assert!(home.epoch > covered.epoch);
    rig.until_home(&by, thawed);
    took("thawed, until it has its station back", thawed, Instant::now());
}

#[test]
fn with_the_coordinator_dead_as_well_the_first_in_line_stands_in_and_the_next_coordinator_agrees() {
    let mut rig = Rig::start(1);
    hit(&mut rig.coordinators[0], Deed::Kill);
    std::thread::sleep(Duration::from_secs(2));
    let killed = rig.kill("a");
    let (by, watched) = rig.until_covered("gate", "a", killed);
    took("crash without a coordinator, until the neighbour's first pictures", killed, watched);
    let is_granted = |rig: &Rig| {
        let heard = rig.heard();
        heard.beats[&by].1.holdings.iter().any(|held| held.station == station("gate") && !held.provisional)
    };
    assert!(!is_granted(&rig), "nobody is there to grant it");
    rig.until_event(&by, "gate", killed);
    let back = Instant::now();
    // It knows nothing of before: its grants would count from 1 again, below what nodes know.
    rig.lose_the_row();
    rig.coordinators[0].revive().unwrap();
    rig.until_seen("gate", Guard::Covered, Some(&by));
    wait_for("the lease", rig::WITHIN, || is_granted(&rig).then_some(()));
    assert!(rig.changes(ChangeKind::Uncovered, back).is_empty(), "it is not taken from who watches it");
    rig.revive("a");
    rig.until_seen("gate", Guard::Home, Some("a"));
}

#[test]
fn a_broker_that_dies_moves_no_station() {
    let mut rig = Rig::start(1);
    let killed = hit(&mut rig.broker, Deed::Kill);
    std::thread::sleep(Duration::from_secs(8));
    rig.broker.revive().unwrap();
    let back = Instant::now();
    rig.until("everybody to be heard again", |heard| {
        heard.beats.values().all(|(at, beat)| *at > back && !beat.holdings[0].provisional).then_some(())
    });
    std::thread::sleep(Duration::from_secs(8));
    for kind in [ChangeKind::Takeover, ChangeKind::Uncovered, ChangeKind::HandBack] {
        let changes = rig.changes(kind, killed);
        assert!(changes.is_empty(), "{changes:?}");
    }
    assert!(rig.heard().covered.is_empty());
}

#[test]
fn a_standby_leads_when_the_leader_freezes_and_two_that_believe_they_lead_harm_nobody() {
    let mut rig = Rig::start(2);
    let leader = |rig: &Rig| rig.heard().site.as_ref().unwrap().leader;
    let first = leader(&rig);
    let leading = rig.leading();
    let frozen = hit(&mut rig.coordinators[leading], Deed::Freeze);
    rig.until("the standby to lead", |heard| (heard.site.as_ref()?.leader > first).then_some(()));
    took("the leader freezes, until the standby leads", frozen, Instant::now());
    let killed = rig.kill("a");
    let (by, watched) = rig.until_covered("gate", "a", killed);
    took("crash when the standby has just begun to lead, until the neighbour's first pictures", killed, watched);
    let covered = rig.until_seen("gate", Guard::Covered, Some(&by));
    // The old leader wakes up and believes that it leads, until it hears otherwise.
    let thawed = Instant::now();
    rig.coordinators[leading].revive().unwrap();
    std::thread::sleep(Duration::from_secs(10));
    let heard = rig.heard();
    let (_, beat) = heard.beats.get(&by).filter(|(at, _)| *at > thawed).unwrap();
    let gate = beat.holdings.iter().find(|held| held.station == station("gate")).unwrap();
    assert!(gate.epoch.0 >= covered.epoch && !gate.provisional, "{gate:?}");
    assert!(
        heard.changes.iter().filter(|(at, _)| *at > thawed).all(|(_, change)| change.change != ChangeKind::Uncovered)
    );
    drop(heard);
    rig.revive("a");
    rig.until_seen("gate", Guard::Home, Some("a"));
}

#[test]
fn two_coordinators_with_a_file_each_both_lead_harm_nobody_and_one_stands_back() {
    let mut rig = Rig::start(1);
    let came = Instant::now();
    rig.stranger();
    rig.until("both to have said that they lead", |heard| {
        let leading = heard.coordinators.iter().filter(|health| health.status == UpDown::Up && health.epoch > 0);
        (leading.map(|health| health.boot).collect::<BTreeSet<_>>().len() == 2).then_some(())
    });
    let complains = |n: &usize| rig.problems(*n).contains("give both the same leader.file");
    let stands_back = wait_for("one of them to stand back", rig::WITHIN, || (0..2).find(complains));
    took("a second coordinator leads, until one stands back", came, Instant::now());
    std::thread::sleep(Duration::from_millis(SETTLE_MS + 2_000));
    for kind in [ChangeKind::Takeover, ChangeKind::Uncovered, ChangeKind::HandBack] {
        let changes = rig.changes(kind, came);
        assert!(changes.is_empty(), "{changes:?}");
    }

    let killed = rig.kill("a");
    let (by, watched) = rig.until_covered("gate", "a", killed);
    took("crash after that, until the neighbour's first pictures", killed, watched);
    let covered = rig.until_seen("gate", Guard::Covered, Some(&by));

    // The one that leads goes, and the other finds things as they are.
    let gone = hit(&mut rig.coordinators[1 - stands_back], Deed::Kill);
    let confirmed = rig.until("the cover to be confirmed by the other", |heard| {
        let (_, beat) = heard.beats.get(&by).filter(|(at, _)| *at > gone)?;
        let gate = beat.holdings.iter().find(|held| held.station == station("gate"))?;
        (!gate.provisional && gate.epoch.0 > covered.epoch).then_some(gate.epoch.0)
    });
    assert!(rig.changes(ChangeKind::Uncovered, gone).is_empty(), "it is not taken from who watches it");
    assert_eq!(rig.problems(stands_back).matches("leader.file").count(), 0, "it leads, and nobody contradicts");
    rig.revive("a");
    let home = rig.until_seen("gate", Guard::Home, Some("a"));
    assert!(home.epoch > confirmed);
}
