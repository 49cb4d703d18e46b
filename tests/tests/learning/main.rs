//! Stations that learn while they watch: a real coordinator and three real agents over a real mosquitto with certificates, a real video,
//! and persons who say what events were. Whoever is killed, nothing changes but time.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, dead_code)]

mod released;
#[path = "../trust/rig.rs"]
mod rig;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use picket_shared::codec;
use picket_shared::learn::message::{HeadFull, HeadUpdate, LearnAck};
use picket_shared::learn::view::Learning;
use picket_shared::limits::PACKET_BYTES_MAX;
use picket_shared::model::ModelState;
use picket_shared::mqtt::{self, Link, LinkEvent, LinkOptions};
use picket_shared::topics::Topic;
use picket_shared::trust::seal;
use picket_shared::view::SeenEvent;
use picket_simulation::soak::killer::Deed;
use picket_simulation::soak::victim::Victim;
use picket_tests::{binary, run_within, sample_video, text};
use serde_json::Value;

use rig::{OBSERVER, Rig, WITHIN};

const NODES: [&str; 3] = ["a", "b", "c"];
/// Events that one person's word is asked for at once.
const AT_ONCE: usize = 24;

/// What was heard at the broker.
#[derive(Default)]
struct Heard {
    /// Events that ended, by node: the name, and whether it was on the left of the picture.
    events: BTreeMap<String, BTreeMap<String, bool>>,
    /// Every update, as it was said.
    updates: Vec<(String, HeadUpdate)>,
    acks: BTreeMap<String, LearnAck>,
    versions: Vec<u64>,
    view: Option<Learning>,
    /// What each device last said of its models and heads.
    models: BTreeMap<String, ModelState>,
}

struct Site {
    rig: Rig,
    agents: BTreeMap<&'static str, Victim>,
    heard: Arc<Mutex<Heard>>,
    labelled: BTreeSet<String>,
    _link: Link,
}

/// The network of all devices.
fn backbone() -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/models/centernet_u8_384x288_top100_w16.onnx");
    picket_shared::crypto::sha256_hex(&std::fs::read(file).unwrap())
}

impl Site {
    fn start() -> Site {
        Site::start_with("", |_| {})
    }

    /// Starts a site whose agents learn with these keys too, after this was done beside its coordinator.
    fn start_with(keys: &str, prepare: impl FnOnce(&Rig)) -> Site {
        let rig = Rig::start_with(&format!("[learn]\nenabled = true\nbackbone = \"{}\"\n", backbone()));
        prepare(&rig);
        let heard = Arc::<Mutex<Heard>>::default();
        let link = listen(&rig, Arc::clone(&heard));
        let mut site = Site { rig, agents: BTreeMap::new(), heard, labelled: BTreeSet::new(), _link: link };
        for (number, name) in NODES.into_iter().enumerate() {
            site.rig.device(name);
            let config = site.rig.at(&format!("{name}.toml"));
            // Each begins elsewhere in the video, so that they see different things at once.
            let text = format!(
                "site = \"yard\"\nnode = \"{name}\"\nstation = \"gate-{name}\"\ndata_dir = \"{}\"\n[live]\nenabled = false\n\
                 [learn]\nenabled = true\nheld_out_percent = 40\nheld_out_min = 6\n{keys}\
                 [[camera]]\nname = \"main\"\nsource = \"file:{}\"\nrepeat = true\nstart_s = {}.0\n",
                site.rig.at(name).display(),
                sample_video().display(),
                number * 20,
            );
            std::fs::write(&config, text).unwrap();
            let agent = site.rig.start_agent(name, &["--config", config.to_str().unwrap()]);
            site.agents.insert(name, agent);
        }
        site
    }

    /// Says what the events were that nobody said anything of, by the coordinator's command line: whoever is on the left is somebody.
    fn label(&mut self) {
        let mut said: BTreeMap<bool, Vec<String>> = BTreeMap::new();
        for (event, person) in self.heard.lock().unwrap().events.values().flatten() {
            let of = said.entry(*person).or_default();
            if of.len() < AT_ONCE && self.labelled.insert(event.clone()) {
                of.push(event.clone());
            }
        }
        for (person, events) in said.into_iter().filter(|(_, events)| !events.is_empty()) {
            let word = if person { "confirm" } else { "reject" };
            let mut args = vec!["learn", word, "--who", "anna"];
            args.extend(events.iter().map(String::as_str));
            let done = self.rig.command(&args);
            if !done.status.success() {
                // It was only just started again: the order was withdrawn, and is given again.
                assert!(text(&done).contains("no coordinator took the order"), "{}", text(&done));
                self.labelled.retain(|event| !events.contains(event));
            }
        }
    }

    /// Says what events were until this holds.
    fn until<T>(&mut self, what: &str, ask: impl Fn(&Heard) -> Option<T>) -> T {
        let deadline = Instant::now() + 4 * WITHIN;
        loop {
            if let Some(answer) = ask(&self.heard.lock().unwrap()) {
                return answer;
            }
            assert!(Instant::now() < deadline, "waited for {what}: {:?}", NODES.map(|name| self.status(name)));
            self.label();
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// `picket-agent learn status` on a device.
    fn status(&self, name: &str) -> Value {
        let mut command = Command::new(binary("picket-agent"));
        let done = run_within(command.args(["learn", "status", "--data-dir"]).arg(self.rig.at(name)), WITHIN);
        serde_json::from_slice(&done.stdout).unwrap_or_default()
    }

    fn kill(&mut self, name: &str) {
        let agent = self.agents.get_mut(name).unwrap();
        assert!(agent.hit(Deed::Kill, Instant::now()).unwrap());
        agent.revive().unwrap();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            NODES.iter().for_each(|name| eprintln!("---- {name} ----\n{}", self.rig.log(name)));
        }
    }
}

/// Hears all that is said about learning, and which events end where.
fn listen(rig: &Rig, heard: Arc<Mutex<Heard>>) -> Link {
    let _in = rig.runtime.enter();
    let filters =
        ["+/learn/update", "+/learn/ack", "coordinator/learn/head/+", "view/event", "view/learning", "+/model/state"];
    let (link, mut events) = mqtt::open(LinkOptions {
        broker: rig.url(),
        client_id: "observer".into(),
        will: None,
        filters: filters.map(|filter| format!("picket/v1/yard/{filter}")).to_vec(),
        payload_bytes_max: PACKET_BYTES_MAX,
        tls: Some(rig.client(OBSERVER)),
    });
    rig.runtime.spawn(async move {
        while let Some(event) = events.recv().await {
            let LinkEvent::Message { topic, payload } = event else { continue };
            let Ok(topic) = Topic::parse(&rig::site(), &topic) else { continue };
            let mut heard = heard.lock().unwrap();
            let opened = || seal::strip(&payload).expect("what is said here is sealed").into_owned();
            match topic {
                Topic::LearnUpdate(node) => {
                    heard.updates.push((node.to_string(), codec::decode(&opened()).unwrap()));
                }
                Topic::LearnAck(node) => drop(heard.acks.insert(node.to_string(), codec::decode(&opened()).unwrap())),
                Topic::LearnHead(_) => {
                    let full: HeadFull = codec::decode(&opened()).unwrap();
                    heard.versions.push(full.version);
                }
                Topic::ModelState(node) => {
                    heard.models.insert(node.to_string(), serde_json::from_slice(&payload).unwrap());
                }
                Topic::ViewLearning => heard.view = serde_json::from_slice(&payload).ok(),
                Topic::ViewEvent => {
                    let seen: SeenEvent = serde_json::from_slice(&payload).unwrap();
                    if seen.label == "person" && seen.end_time.is_some() {
                        let left = seen.box_px[0] < 330;
                        heard.events.entry(seen.node.to_string()).or_default().insert(seen.id.to_string(), left);
                    }
                }
                _ => {}
            }
        }
    });
    link
}

#[test]
fn stations_learn_while_they_watch_and_who_is_killed_goes_on_where_it_was() {
    let mut site = Site::start();
    let all_acked = |seq: u64| {
        move |heard: &Heard| {
            NODES
                .iter()
                .all(|name| heard.acks.get(*name).is_some_and(|ack| ack.seq >= seq && ack.epoch > 0))
                .then_some(())
        }
    };
    site.until("every station to have contributed", all_acked(1));
    site.until("the head to have moved", |heard| heard.versions.iter().any(|version| *version > 0).then_some(()));

    // An agent is killed with what it has; it goes on with the numbers that it had.
    let before = site.heard.lock().unwrap().acks["a"].clone();
    site.kill("a");
    let after =
        site.until("it to contribute again", |heard| heard.acks.get("a").filter(|ack| ack.seq > before.seq).cloned());
    assert_eq!(after.epoch, before.epoch, "it lost nothing");

    // The coordinator is killed; its rows and its head go on.
    let (rows, version) = {
        let heard = site.heard.lock().unwrap();
        let view = heard.view.clone().unwrap();
        (
            view.stations.iter().map(|station| (station.node.to_string(), station.updates)).collect::<BTreeMap<_, _>>(),
            view.version,
        )
    };
    assert!(site.rig.coordinator.hit(Deed::Kill, Instant::now()).unwrap());
    site.rig.coordinator.revive().unwrap();
    site.heard.lock().unwrap().view = None;
    let view = site.until("the coordinator to be back", |heard| heard.view.clone());
    assert!(view.version >= version, "{} after {version}", view.version);
    for station in &view.stations {
        let (node, updates) = (station.node.to_string(), station.updates);
        assert!(updates >= rows.get(&node).copied().unwrap_or(0), "{node}: {updates} of {rows:?}");
    }
    let more = site.heard.lock().unwrap().acks.values().map(|ack| ack.seq).max().unwrap() + 1;
    site.until("stations to go on", |heard| heard.acks.values().any(|ack| ack.seq >= more).then_some(()));

    // Devices judge by what was learned.
    let deadline = Instant::now() + 4 * WITHIN;
    while !NODES.iter().all(|name| site.status(name)["version"].as_u64() > Some(0))
        || !NODES.iter().any(|name| site.status(name)["used_version"].as_u64() > Some(0))
    {
        assert!(Instant::now() < deadline, "no head was taken: {:?}", NODES.map(|name| site.status(name)));
        site.label();
        std::thread::sleep(Duration::from_millis(500));
    }
    for name in NODES {
        println!("{name}: {}", site.status(name));
    }

    // One number, one update; each was taken once.
    let heard = site.heard.lock().unwrap();
    let mut known = BTreeMap::new();
    for (node, update) in &heard.updates {
        let first = known.entry((node, update.epoch, update.seq)).or_insert(update);
        assert_eq!(*first, update, "{node} used a number twice");
    }
    for station in &heard.view.as_ref().unwrap().stations {
        let node = station.node.to_string();
        let numbers = known.keys().filter(|(of, ..)| **of == node).count() as u64;
        assert!(station.updates <= numbers, "{node}: {} taken of {numbers}", station.updates);
    }
    let versions = &heard.versions;
    assert!(versions.windows(2).all(|pair| pair[1] >= pair[0]), "{versions:?}");
    let view = heard.view.as_ref().unwrap();
    println!("version {} after {} updates; confirmed {:?}", view.version, known.len(), view.root_samples);
}
