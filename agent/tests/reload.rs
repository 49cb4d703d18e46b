//! A running agent whose configuration is changed: real process, real video, real detector, real broker.

// Helpers of a test may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::SystemTime;

use common::{Running, heard, mosquitto, sample_video, wait_for};

use picket_agent::store::AgentStore;
use picket_shared::codec;
use picket_shared::event::{Event, EventKind};
use picket_shared::status::{Stats, Twin};
use rustix::process::Signal;

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

fn camera(name: &str, start_s: u32, more: &str) -> String {
    let video = sample_video();
    let video = video.display();
    format!("[[camera]]\nname = \"{name}\"\nsource = \"file:{video}\"\nstart_s = {start_s}\nrepeat = true\n{more}\n")
}

#[test]
fn cameras_are_added_changed_and_removed_while_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (_broker, port) = mosquitto(dir.path());
    let (_heard, mut lines) = heard(port, &["picket/v1/+/+/m/stats", "picket/v1/+/+/twin"]);

    let head = format!(
        "site = \"s\"\nnode = \"n\"\ndata_dir = \"{}\"\n[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\n",
        at("agent").display()
    );
    let write = |cameras: &str| std::fs::write(at("agent.toml"), format!("{head}{cameras}")).unwrap();
    let stays = camera("stays", 2, "");
    write(&[stays.clone(), camera("gone", 10, ""), camera("changes", 20, "")].concat());
    let log = std::fs::File::create(at("log")).unwrap();
    let agent = Command::new(env!("CARGO_BIN_EXE_picket-agent"))
        .args(["run", "--config"])
        .arg(at("agent.toml"))
        .stderr(log)
        .spawn();
    let mut agent = Running(agent.unwrap());
    let log = || std::fs::read_to_string(at("log")).unwrap();

    let mut twin: Option<Twin> = None;
    let mut next_stats = || loop {
        let line = lines.next().unwrap_or_else(|| panic!("the broker is gone: {}", log()));
        let (topic, payload) = line.split_once(' ').unwrap();
        if topic.ends_with("twin") {
            twin = Some(serde_json::from_str(payload).unwrap());
        } else {
            return (serde_json::from_str::<Stats>(payload).unwrap(), twin.clone());
        }
    };
    let seen = |stats: &Stats, names: &[&str]| {
        let of = |name: &str| stats.cameras.iter().find(|c| c.camera.as_str() == name);
        stats.cameras.len() == names.len() && names.iter().all(|name| of(name).is_some_and(|c| c.tracks > 2))
    };
    let before = loop {
        let (stats, _) = next_stats();
        if seen(&stats, &["stays", "gone", "changes"]) {
            break stats;
        }
    };

    // A file that is wrong changes nothing, and says why.
    write(&camera("stays", 2, "sauce = 1"));
    agent.signal(Signal::HUP);
    wait_for("the refusal", || log().contains("not taken, the old one stays").then_some(()));
    assert!(log().contains("unknown key \"sauce\"; did you mean"), "{}", log());

    let changed_ms = now_ms();
    write(&[stays, camera("changes", 30, ""), camera("added", 40, "")].concat());
    agent.signal(Signal::HUP);
    let (after, twin) = loop {
        let (stats, twin) = next_stats();
        if seen(&stats, &["stays", "changes", "added"]) {
            break (stats, twin.unwrap());
        }
    };
    let frames = |stats: &Stats, name: &str| stats.cameras.iter().find(|c| c.camera.as_str() == name).unwrap().frames;
    assert!(frames(&after, "stays") > frames(&before, "stays"), "it goes on counting");
    assert_eq!(twin.cameras.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["stays", "changes", "added"]);
    assert!(log().contains("begun=2 ended=2 kept=1"), "{}", log());
    agent.signal(Signal::TERM);
    assert!(wait_for("the agent's end", || agent.0.try_wait().unwrap()).success(), "{}", log());

    let store = AgentStore::look(&at("agent").join("store")).unwrap();
    let mut events: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    for stored in store.events() {
        let event: Event = codec::decode(&stored.unwrap().bytes).unwrap();
        events.entry(event.camera.to_string()).or_default().push(event);
    }
    let ids = |name: &str| events[name].iter().map(|event| event.id.to_string()).collect::<BTreeSet<_>>();
    let goes_on = |id: &String| {
        let mut times = events["stays"].iter().filter(|event| event.id.to_string() == *id).map(|e| e.frame_time_ms);
        times.next().unwrap() < changed_ms && times.next_back().is_some_and(|last| last > changed_ms)
    };
    assert!(ids("stays").iter().any(goes_on), "a track lived through the change");
    assert!(events["gone"].iter().all(|event| event.frame_time_ms <= changed_ms + 2_000));
    for (name, events) in &events {
        let of = |kind: EventKind| events.iter().filter(|e| e.kind == kind).map(|e| e.id.clone()).collect::<Vec<_>>();
        assert_eq!(of(EventKind::New).len(), of(EventKind::End).len(), "each event of {name} has its end");
    }
    let all: BTreeSet<_> = events.keys().flat_map(|name| ids(name)).collect();
    assert_eq!(all.len(), events.keys().map(|name| ids(name).len()).sum::<usize>(), "no two cameras share an id");
}
