//! Stations that learn while they watch: a real coordinator and eight real agents over a real mosquitto with certificates, a real
//! video, and persons who say what events were. Whoever is killed, nothing changes but time.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, dead_code)]

mod organic;
mod released;
mod rig;
#[path = "../trust/rig.rs"]
mod yard;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use picket_shared::learn::message::LearnAck;
use picket_shared::learn::view::Learning;

use rig::{Heard, Site};
use yard::WITHIN;

const NODES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Every station's update of this number or a later one is acknowledged.
fn all_acked(least: &BTreeMap<String, u64>) -> impl Fn(&Heard) -> Option<()> {
    move |heard: &Heard| {
        let acked = |name: &&str| {
            let least = least.get(*name).copied().unwrap_or(1);
            heard.acks.get(*name).is_some_and(|ack| ack.seq >= least && ack.epoch > 0)
        };
        NODES.iter().all(acked).then_some(())
    }
}

fn updates_of(view: &Learning) -> BTreeMap<String, u64> {
    view.stations.iter().map(|station| (station.node.to_string(), station.updates)).collect()
}

#[test]
fn eight_stations_learn_while_they_watch_and_who_is_killed_goes_on_where_it_was() {
    let began = Instant::now();
    let mut site = Site::start(&NODES);
    site.until("every station to have contributed", all_acked(&BTreeMap::new()));
    site.until("the head to have moved", |heard| heard.versions.iter().any(|version| *version > 0).then_some(()));
    println!("eight stations have contributed after {:.0} s", began.elapsed().as_secs_f64());

    // Each agent is killed, and twice the coordinator: its rows and its head go on.
    let before: BTreeMap<String, LearnAck> = site.heard().acks.clone();
    for half in NODES.chunks(4) {
        half.iter().for_each(|name| site.kill(name));
        let shown = site.heard().view.clone().unwrap();
        let again = site.kill_coordinator();
        assert!(again.version >= shown.version, "{} after {}", again.version, shown.version);
        let (rows, rows_before) = (updates_of(&again), updates_of(&shown));
        for (node, updates) in rows_before {
            assert!(rows.get(&node).is_some_and(|now| *now >= updates), "{node}: {updates} before, now {rows:?}");
        }
    }
    let version = site.heard().view.as_ref().unwrap().version;
    println!("each was killed once and the coordinator twice, after {:.0} s", began.elapsed().as_secs_f64());

    // Each goes on with the numbers that it had, its row counts, and the head moves on.
    let next = before.iter().map(|(node, ack)| (node.clone(), ack.seq + 1)).collect();
    site.until("every station to contribute again", all_acked(&next));
    site.until("the head to move on", |heard| heard.view.as_ref().filter(|view| view.version > version).map(drop));
    site.until("every row to have counted", |heard| NODES.iter().all(|name| heard.used.contains(*name)).then_some(()));
    for (node, ack) in &site.heard().acks {
        assert_eq!(ack.epoch, before[node].epoch, "{node} lost what it had learned");
    }

    // Devices judge by what was learned.
    let deadline = Instant::now() + 4 * WITHIN;
    loop {
        let statuses = site.statuses();
        let version = |status: &serde_json::Value, of: &str| status[of].as_u64() > Some(0);
        if statuses.iter().all(|status| version(status, "version"))
            && statuses.iter().any(|status| version(status, "used_version"))
        {
            statuses.iter().zip(NODES).for_each(|(status, name)| println!("{name}: {status}"));
            break;
        }
        assert!(Instant::now() < deadline, "no head was taken: {statuses:?}");
        site.label();
        std::thread::sleep(Duration::from_millis(500));
    }
    let events = site.close();
    println!(
        "{events} events in the archive, none missing and none twice, after {:.0} s",
        began.elapsed().as_secs_f64()
    );

    // One number, one update; each was taken once, and no ack went back.
    let heard = site.heard();
    assert!(heard.went_back.is_empty(), "{:?}", heard.went_back);
    let mut known = BTreeMap::new();
    for (node, update) in &heard.updates {
        let first = known.entry((node, update.epoch, update.seq)).or_insert(update);
        assert_eq!(*first, update, "{node} used a number twice");
    }
    let view = heard.view.as_ref().unwrap();
    for (node, updates) in updates_of(view) {
        let numbers = known.keys().filter(|(of, ..)| **of == node).count() as u64;
        assert!(updates <= numbers, "{node}: {updates} taken of {numbers}");
    }
    let versions = &heard.versions;
    assert!(versions.windows(2).all(|pair| pair[1] >= pair[0]), "{versions:?}");
    println!("version {} after {} updates; confirmed {:?}", view.version, known.len(), view.root_samples);
}
