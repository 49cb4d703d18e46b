//! A site that learns, for the tests beside this file: a real coordinator and real agents over a real mosquitto with certificates, a
//! real video that each begins elsewhere, persons who say what events were, and somebody who hears all that is said of it.
//!
//! Frames are few and small, so that many agents fit on two processors; nothing else is smaller than it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use picket_coordinator::store::Archive;
use picket_shared::codec;
use picket_shared::crypto::Digest;
use picket_shared::learn::message::{HeadFull, HeadUpdate, LearnAck};
use picket_shared::learn::view::{Fate, Learning, ReleaseView};
use picket_shared::limits::PACKET_BYTES_MAX;
use picket_shared::model::rollouts::Course;
use picket_shared::model::{ModelState, Want};
use picket_shared::mqtt::{self, Link, LinkEvent, LinkOptions};
use picket_shared::status::{Health, UpDown};
use picket_shared::topics::Topic;
use picket_shared::trust::seal;
use picket_shared::view::SeenEvent;
use picket_simulation::soak::killer::Deed;
use picket_simulation::soak::victim::Victim;
use picket_tests::{binary, run_within, sample_video, text, wait_for};
use serde_json::Value;

use super::yard::{self, OBSERVER, Rig, WITHIN};

/// Events that one person's word is asked for at once.
const AT_ONCE: usize = 24;
/// The frames that agents see: the detector's own size.
const FRAME_PX: (u32, u32) = (384, 288);
const FRAMES_PER_S: u32 = 5;
/// The sample video is so long.
const VIDEO_S: usize = 79;

/// What was heard at the broker.
#[derive(Default)]
pub struct Heard {
    /// Events that ended, by node: the name, and whether it was on the left of the picture.
    pub events: BTreeMap<String, BTreeMap<String, bool>>,
    /// Every update, as it was said.
    pub updates: Vec<(String, HeadUpdate)>,
    /// The newest word on each node's updates.
    pub acks: BTreeMap<String, LearnAck>,
    /// Acks that were lower than one before, in a sentence each.
    pub went_back: Vec<String>,
    /// Heads, in the order in which they were said.
    pub versions: Vec<u64>,
    pub view: Option<Learning>,
    /// Nodes whose row counted in a step.
    pub used: BTreeSet<String>,
    /// What each node says of itself.
    pub healths: BTreeMap<String, Health>,
    /// What each node last said of its models and heads.
    pub models: BTreeMap<String, ModelState>,
    /// Files that each node asked for.
    pub wanted: BTreeSet<(String, Digest)>,
}

pub struct Site {
    pub rig: Rig,
    pub nodes: Vec<&'static str>,
    agents: BTreeMap<&'static str, Victim>,
    heard: Arc<Mutex<Heard>>,
    labelled: BTreeSet<String>,
    _link: Link,
}

impl Site {
    /// Starts a site with these nodes.
    pub fn start(nodes: &[&'static str]) -> Site {
        Site::start_with(nodes, "", |_| {})
    }

    /// Starts one whose agents learn with these keys too, after this was done beside its coordinator.
    pub fn start_with(nodes: &[&'static str], keys: &str, prepare: impl FnOnce(&Rig)) -> Site {
        let rig = Rig::start_with(&format!("[learn]\nenabled = true\nbackbone = \"{}\"\n", backbone()));
        prepare(&rig);
        let heard = Arc::<Mutex<Heard>>::default();
        let link = listen(&rig, Arc::clone(&heard));
        let video = small_video(rig.dir.path());
        let (nodes, agents, labelled) = (nodes.to_vec(), BTreeMap::new(), BTreeSet::new());
        let mut site = Site { rig, nodes, agents, heard, labelled, _link: link };
        for (number, name) in site.nodes.clone().into_iter().enumerate() {
            site.rig.device(name);
            // Each begins elsewhere in the video, so that they see different things at once.
            let text = format!(
                "site = \"yard\"\nnode = \"{name}\"\nstation = \"gate-{name}\"\ndata_dir = \"{}\"\n[live]\nenabled = false\n\
                 [learn]\nenabled = true\nheld_out_percent = 40\nheld_out_min = 6\n{keys}\
                 [[camera]]\nname = \"main\"\nsource = \"file:{}\"\nrepeat = true\nstart_s = {}.0\nsnapshots = false\n",
                site.rig.at(name).display(),
                video.display(),
                number * VIDEO_S / site.nodes.len(),
            );
            std::fs::write(site.config(name), text).unwrap();
            let agent = site.run(name, &[]);
            site.agents.insert(name, agent);
        }
        site
    }

    fn config(&self, name: &str) -> PathBuf {
        self.rig.at(&format!("{name}.toml"))
    }

    fn run(&self, name: &str, more: &[&str]) -> Victim {
        let config = self.config(name);
        self.rig.start_agent(name, &[&["--config", config.to_str().unwrap()], more].concat())
    }

    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap()
    }

    /// Says what the events were that nobody said anything of, by the coordinator's command line: whoever is on the left is somebody.
    pub fn label(&mut self) {
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
    pub fn until<T>(&mut self, what: &str, ask: impl Fn(&Heard) -> Option<T>) -> T {
        self.until_within(4 * WITHIN, what, ask)
    }

    /// The same for what takes longer.
    pub fn until_within<T>(&mut self, within: Duration, what: &str, ask: impl Fn(&Heard) -> Option<T>) -> T {
        let deadline = Instant::now() + within;
        loop {
            if let Some(answer) = ask(&self.heard()) {
                return answer;
            }
            assert!(Instant::now() < deadline, "waited for {what}: {:?}", self.statuses());
            self.label();
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// `picket-agent learn status` on a device.
    pub fn status(&self, name: &str) -> Value {
        let mut command = Command::new(binary("picket-agent"));
        let done = run_within(command.args(["learn", "status", "--data-dir"]).arg(self.rig.at(name)), WITHIN);
        serde_json::from_slice(&done.stdout).unwrap_or_default()
    }

    pub fn statuses(&self) -> Vec<Value> {
        self.nodes.iter().map(|name| self.status(name)).collect()
    }

    /// Says what events were until this release has come to that end.
    pub fn until_released(&mut self, version: u64, course: Course) -> ReleaseView {
        let of = |view: &Learning| view.releases.iter().find(|release| release.version == version).cloned();
        self.until(&format!("the release {version} to be {course:?}"), |heard| {
            of(heard.view.as_ref()?).filter(|release| release.course == course)
        })
    }

    /// Which release each device judges by, as it says itself.
    pub fn used(&self) -> Vec<u64> {
        self.statuses().iter().map(|status| status["used_version"].as_u64().unwrap_or(u64::MAX)).collect()
    }

    /// Kills an agent, starts it again, and waits until it says that it is there.
    pub fn kill(&mut self, name: &str) {
        let agent = self.agents.get_mut(name).unwrap();
        assert!(agent.hit(Deed::Kill, Instant::now()).unwrap());
        agent.revive().unwrap();
        let pid = agent.pid();
        wait_for(&format!("{name} to be back"), WITHIN, || {
            self.heard().healths.get(name).filter(|health| health.status == UpDown::Up && health.pid == pid).map(drop)
        });
    }

    /// Kills the coordinator, starts it again, and waits for what it shows of learning.
    pub fn kill_coordinator(&mut self) -> Learning {
        assert!(self.rig.coordinator.hit(Deed::Kill, Instant::now()).unwrap());
        self.heard().view = None;
        self.rig.coordinator.revive().unwrap();
        self.until("the coordinator to be back", |heard| heard.view.clone())
    }

    /// Ends everybody, lets each device deliver what it still owes, and looks at the archive: how many events it has, of which none is
    /// missing and none there twice.
    pub fn close(&mut self) -> u64 {
        for agent in self.agents.values() {
            agent.ask_to_stop().unwrap();
        }
        for (name, agent) in &mut self.agents {
            let status = wait_for(&format!("{name} to stop"), WITHIN, || agent.ended().unwrap());
            assert!(status.success(), "{name}: {status}");
        }
        // It succeeds only if the archive has every event.
        let drains = ["--frames", "1", "--drain-timeout-s", "80"];
        let mut draining: Vec<_> = self.nodes.iter().map(|name| (*name, self.run(name, &drains))).collect();
        for (name, agent) in &mut draining {
            let status = wait_for(&format!("{name} to have delivered"), WITHIN, || agent.ended().unwrap());
            assert!(status.success(), "{name}: {status}");
        }
        self.rig.coordinator.ask_to_stop().unwrap();
        wait_for("the coordinator to stop", WITHIN, || self.rig.coordinator.ended().unwrap());
        let audit = Archive::open_existing(&self.rig.at("coordinator")).unwrap().audit().unwrap();
        for name in &self.nodes {
            let lanes: Vec<_> = audit.iter().filter(|(id, _)| id.node == yard::node(name)).collect();
            assert!(lanes.iter().any(|(_, lane)| lane.events > 0), "{name}: {lanes:?}");
            for (id, lane) in lanes {
                assert_eq!((lane.doubles, lane.missed, lane.absent()), (0, 0, 0), "{id:?}: {lane:?}");
            }
        }
        audit.values().map(|lane| lane.events).sum()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.nodes.iter().for_each(|name| eprintln!("---- {name} ----\n{}", self.rig.log(name)));
            // Last: of a long output the middle is cut out.
            self.nodes.iter().zip(self.statuses()).for_each(|(name, status)| eprintln!("{name}: {status}"));
        }
    }
}

/// The owner's root, published where the coordinator looks; devices have it by their enrolment.
pub fn publish_root(rig: &Rig) {
    let (key, root) = (rig.at("owner.pem"), rig.at("root.json"));
    let (key, root) = (key.to_str().unwrap(), root.to_str().unwrap());
    for args in [vec!["keygen", key], vec!["root", "new", "--key", key, "--out", root]] {
        let done = run_within(Command::new(binary("picket-coordinator")).arg("model").args(args), WITHIN);
        assert!(done.status.success(), "{}", text(&done));
    }
    let done = rig.command(&["model", "publish", root]);
    assert!(done.status.success(), "{}", text(&done));
}

/// The network of all devices.
pub fn backbone() -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/models/centernet_u8_384x288_top100_w16.onnx");
    picket_shared::crypto::sha256_hex(&std::fs::read(file).unwrap())
}

/// The sample video in the detector's size, with few frames a second.
fn small_video(dir: &Path) -> PathBuf {
    let video = dir.join("small.avi");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-loglevel", "error", "-i"]).arg(sample_video());
    let (width, height) = FRAME_PX;
    ffmpeg.args(["-vf", &format!("fps={FRAMES_PER_S},scale={width}:{height}"), "-c:v", "mjpeg", "-q:v", "3"]);
    let made = run_within(ffmpeg.arg(&video), WITHIN);
    assert!(made.status.success(), "{}", text(&made));
    video
}

/// Hears all that is said about learning, which events end where, and who is there.
fn listen(rig: &Rig, heard: Arc<Mutex<Heard>>) -> Link {
    let _in = rig.runtime.enter();
    let filters = [
        "+/learn/update",
        "+/learn/ack",
        "coordinator/learn/head/+",
        "view/event",
        "view/learning",
        "+/status/health",
        "+/model/state",
        "+/model/want",
    ];
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
            if let Ok(topic) = Topic::parse(&yard::site(), &topic) {
                heard.lock().unwrap().hear(topic, &payload);
            }
        }
    });
    link
}

impl Heard {
    fn hear(&mut self, topic: Topic, payload: &[u8]) {
        let opened = || seal::strip(payload).expect("what is said here is sealed").into_owned();
        match topic {
            Topic::LearnUpdate(node) => self.updates.push((node.to_string(), codec::decode(&opened()).unwrap())),
            Topic::LearnAck(node) => {
                let ack: LearnAck = codec::decode(&opened()).unwrap();
                if let Some(before) = self.acks.get(node.as_str())
                    && (ack.epoch, ack.seq) < (before.epoch, before.seq)
                {
                    self.went_back.push(format!("{node}: {before:?}, then {ack:?}"));
                }
                self.acks.insert(node.to_string(), ack);
            }
            Topic::LearnHead(_) => {
                let full: HeadFull = codec::decode(&opened()).unwrap();
                self.versions.push(full.version);
            }
            Topic::ViewLearning => {
                let view: Option<Learning> = serde_json::from_slice(payload).ok();
                let stations = view.iter().flat_map(|view| &view.stations);
                let used =
                    stations.filter(|station| station.fate == Fate::Used).map(|station| station.node.to_string());
                self.used.extend(used);
                self.view = view;
            }
            Topic::ModelState(node) => {
                drop(self.models.insert(node.to_string(), serde_json::from_slice(payload).unwrap()));
            }
            Topic::ModelWant(node) => {
                let want: Want = codec::decode(&opened()).unwrap();
                self.wanted.insert((node.to_string(), want.sha256));
            }
            Topic::ViewEvent => {
                let seen: SeenEvent = serde_json::from_slice(payload).unwrap();
                if seen.label == "person" && seen.end_time.is_some() {
                    let left = u32::from(seen.box_px[0]) < FRAME_PX.0 * 43 / 100;
                    self.events.entry(seen.node.to_string()).or_default().insert(seen.id.to_string(), left);
                }
            }
            Topic::Health(node) => {
                self.healths.extend(serde_json::from_slice(payload).ok().map(|health| (node.to_string(), health)));
            }
            _ => {}
        }
    }
}
