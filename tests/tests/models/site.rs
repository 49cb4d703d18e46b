//! A site whose owner signs models and whose orders key assigns them, and what its devices say of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use picket_shared::calendar::unix_s;
use picket_shared::codec;
use picket_shared::crypto::{Digest, SecretKey};
use picket_shared::event::Precision;
use picket_shared::ids::{ModelName, StationId};
use picket_shared::limits::PACKET_BYTES_MAX;
use picket_shared::model::{Artifact, Assignment, Envelope, Floors, Manifest, ModelState, Needs, Root, TrialTerms};
use picket_shared::mqtt::{self, Link, LinkEvent, LinkOptions};
use picket_shared::status::{Stats, Twin};
use picket_shared::topics::Topic;
use picket_shared::trust::signer::Signer;
use picket_simulation::soak::victim::Victim;
use picket_tests::{binary, run_within, sample_video, text, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use crate::rig::{self, OBSERVER, Rig, WITHIN, node};

/// A release with its files.
pub struct Release {
    manifest: Manifest,
    files: Vec<Vec<u8>>,
}

/// A model that works as the built-in one does and is another file, with its head.
pub fn release(counter: u64, what: &str) -> Release {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/models");
    let mut model = std::fs::read(models.join("centernet_u8_384x288_top100_w16.onnx")).unwrap();
    // The field doc_string of an ONNX file, again.
    model.extend([0x32, what.len() as u8]);
    model.extend(what.as_bytes());
    let head = std::fs::read(models.join("centernet_person.head.f32")).unwrap();
    Release { manifest: manifest(counter, &model, &head), files: vec![model, head] }
}

fn manifest(counter: u64, model: &[u8], head: &[u8]) -> Manifest {
    Manifest {
        name: ModelName::new("person").unwrap(),
        counter,
        expires_s: unix_s() + 86_400,
        chunk_bytes: 65_536,
        file: Artifact::plain(model),
        head: Some(Artifact::plain(head)),
        calibration: None,
        labels: None,
        family: Some("centernet".into()),
        input: None,
        precision: Precision::Fp16,
        floors: Floors { agreement_min: 0.8, ap50_min: None, count_off_mean_max: None },
        needs: Needs::default(),
        delegation: None,
    }
}

impl Release {
    pub fn with_a_head_that_finds_nobody(mut self) -> Release {
        let numbers = self.files[1].len() / 4;
        let head: Vec<u8> =
            (0..numbers).flat_map(|n| if n + 1 == numbers { -30f32 } else { 0.0 }.to_le_bytes()).collect();
        self.manifest = manifest(self.manifest.counter, &self.files[0], &head);
        self.files[1] = head;
        self
    }

    /// As events and twins name it.
    pub fn digest(&self) -> String {
        self.manifest.file.sha256.short()
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len() as u64).sum()
    }
}

/// `picket-coordinator model` on a machine of the owner's: no coordinator, no configuration.
#[track_caller]
pub fn owner(args: &[&str]) {
    let output = run_within(Command::new(binary("picket-coordinator")).arg("model").args(args), WITHIN);
    assert!(output.status.success(), "{args:?}: {}", text(&output));
}

/// What one device said last.
#[derive(Default)]
struct Said {
    state: Option<ModelState>,
    /// All that it said of its models, with the moment.
    states: Vec<(Instant, ModelState)>,
    twin: Option<Twin>,
    /// When, and how many frames had been looked at.
    frames: Vec<(Instant, u64)>,
}

pub struct Site {
    pub rig: Rig,
    pub agents: BTreeMap<String, Victim>,
    owner: SecretKey,
    orders: Signer,
    link: Link,
    said: Arc<Mutex<BTreeMap<String, Said>>>,
}

impl Site {
    /// Starts a site with these devices, which watch.
    pub fn start(nodes: &[&str]) -> Site {
        let rig = Rig::start_with("[model]\nbytes_per_s = 1000000\n");
        let owner = SecretKey::generate().unwrap();
        let root = Root { version: 1, expires_s: unix_s() + 86_400, threshold: 1, keys: vec![owner.public()] };
        let mut envelope = Envelope::of(&root).unwrap();
        envelope.sign::<Root>(&owner);
        std::fs::write(rig.at("root.json"), envelope.to_file::<Root>()).unwrap();
        Site::run(rig, owner, nodes, sample)
    }

    /// Starts a site whose owner uses the command line, with these devices: they know his root by the file `root.json`.
    pub fn of_owner(tables: &str, nodes: &[&str]) -> Site {
        Site::of_owner_watching(tables, nodes, sample)
    }

    /// The same, and this is what a device's camera is.
    pub fn of_owner_watching(tables: &str, nodes: &[&str], camera: impl Fn(&Rig, &str) -> String) -> Site {
        let rig = Rig::start_with(&format!("[model]\nbytes_per_s = 1000000\n{tables}"));
        let (key, root) = (rig.at("one.pem"), rig.at("root.json"));
        owner(&["keygen", key.to_str().unwrap()]);
        owner(&["root", "new", "--key", key.to_str().unwrap(), "--out", root.to_str().unwrap()]);
        let owner = SecretKey::from_pem(&std::fs::read_to_string(key).unwrap()).unwrap();
        let site = Site::run(rig, owner, nodes, camera);
        site.model(&["publish", root.to_str().unwrap()]);
        site
    }

    /// `picket-coordinator model` beside the running coordinator; what it printed.
    #[track_caller]
    pub fn model(&self, args: &[&str]) -> String {
        let output = self.rig.command(&[&["model"], args].concat());
        assert!(output.status.success(), "{args:?}: {}", text(&output));
        text(&output)
    }

    fn run(rig: Rig, owner: SecretKey, nodes: &[&str], camera: impl Fn(&Rig, &str) -> String) -> Site {
        // Its own runs are counted in seconds; nothing of it is said on these topics.
        let orders = Signer::new(rig.authority().orders_key().unwrap(), rig::site(), u64::from(u32::MAX));
        let said = Arc::<Mutex<BTreeMap<String, Said>>>::default();
        let link = listen(&rig, Arc::clone(&said));
        let mut site = Site { rig, agents: BTreeMap::new(), owner, orders, link, said };
        for name in nodes {
            site.rig.device(name);
            let config = site.rig.at(&format!("{name}.toml"));
            let text = site.config(name) + &camera(&site.rig, name);
            std::fs::write(&config, text).unwrap();
            let agent = site.rig.start_agent(name, &["--config", config.to_str().unwrap()]);
            site.agents.insert((*name).to_owned(), agent);
        }
        for name in nodes {
            wait_for(&format!("{name} to watch; its log is {}", site.rig.log(name)), WITHIN, || {
                let said = site.said.lock().unwrap();
                let said = said.get(*name)?;
                (said.twin.is_some() && said.frames.last()?.1 > 0).then_some(())
            });
        }
        site
    }

    fn config(&self, name: &str) -> String {
        format!(
            "site = \"yard\"\nnode = \"{name}\"\nstation = \"gate-{name}\"\ndata_dir = \"{}\"\n[live]\nenabled = false\n\
             [model]\nroot = \"{}\"\nframes_interval_s = 1.0\n\
             [[camera]]\nname = \"main\"\n",
            self.rig.at(name).display(),
            self.rig.at("root.json").display(),
        )
    }

    /// Puts a release where the coordinator sends it from.
    pub fn publish(&self, release: &Release) {
        let folder: PathBuf = self.rig.at("coordinator/models/blobs");
        std::fs::create_dir_all(&folder).unwrap();
        for file in &release.files {
            std::fs::write(folder.join(Digest::of(file).to_string()), file).unwrap();
        }
    }

    /// Assigns it.
    pub fn assign(&self, name: &str, number: u64, release: &Release, trial: TrialTerms) {
        let mut envelope = Envelope::of(&release.manifest).unwrap();
        envelope.sign::<Manifest>(&self.owner);
        let assignment = Assignment {
            node: node(name),
            station: StationId::new(format!("gate-{name}")).unwrap(),
            number,
            issued_s: unix_s(),
            expires_s: unix_s() + 86_400,
            not_before_s: 0,
            root_from: 1,
            roots: vec![],
            release: Some(envelope),
            head: None,
            trial,
            learned: None,
            release_number: None,
        };
        let topic = Topic::ModelAssignment(node(name));
        let sealed = self.orders.sign(&topic, codec::encode(&assignment).unwrap(), unix_s());
        wait_for("room for a message", WITHIN, || {
            self.link.publish(&topic.render(&rig::site()), sealed.clone(), true, false).ok()
        });
    }

    /// Waits until a device says this of its models.
    pub fn until(&self, name: &str, what: &str, is: impl Fn(&ModelState) -> bool) -> ModelState {
        wait_for(&format!("{name}: {what}; it said {:?}", self.state(name)), 3 * WITHIN, || {
            self.state(name).filter(|state| is(state))
        })
    }

    pub fn state(&self, name: &str) -> Option<ModelState> {
        self.said.lock().unwrap().get(name)?.state.clone()
    }

    /// When a device first said this of its models.
    pub fn first(&self, name: &str, is: impl Fn(&ModelState) -> bool) -> Option<Instant> {
        let said = self.said.lock().unwrap();
        said.get(name)?.states.iter().find(|(_, state)| is(state)).map(|(at, _)| *at)
    }

    /// What was heard of a device before now is not what it says now.
    pub fn forget(&self, name: &str) {
        if let Some(said) = self.said.lock().unwrap().get_mut(name) {
            (said.state, said.twin) = (None, None);
        }
    }

    /// The model that its cameras are watched with, as its twin says.
    pub fn looks_with(&self, name: &str) -> String {
        wait_for("a twin", WITHIN, || Some(self.said.lock().unwrap().get(name)?.twin.as_ref()?.detector.model.clone()))
    }

    pub fn until_looks_with(&self, name: &str, digest: &str) {
        wait_for(&format!("{name} to look with {digest}"), WITHIN, || (self.looks_with(name) == digest).then_some(()));
    }

    /// The least number of frames that a device looked at between two of its statistics since then, and how many of these there
    /// were.
    pub fn least_frames(&self, name: &str, since: Instant) -> (u64, usize) {
        let said = self.said.lock().unwrap();
        let frames: Vec<u64> =
            said[name].frames.iter().filter(|(at, _)| *at >= since).map(|(_, frames)| *frames).collect();
        let between: Vec<u64> = frames.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
        (between.iter().copied().min().unwrap_or(0), between.len())
    }

    /// `picket-agent model status` on the device.
    pub fn status(&self, name: &str) -> String {
        let mut command = Command::new(binary("picket-agent"));
        text(&run_within(command.args(["model", "status", "--data-dir"]).arg(self.rig.at(name)), WITHIN))
    }

    /// What the device's audit log says of its models, oldest first, and the log itself is whole.
    pub fn audited(&self, name: &str) -> Vec<String> {
        let audit = |what: &str| {
            let mut command = Command::new(binary("picket-agent"));
            run_within(command.args(["audit", what, "--data-dir"]).arg(self.rig.at(name)), WITHIN)
        };
        assert!(audit("verify").status.success());
        let shown = String::from_utf8(audit("show").stdout).unwrap();
        let lines = shown.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let of_models = lines.filter(|line| line["act"] == "model_changed");
        of_models
            .map(|line| format!("{} {}", line["about"].as_str().unwrap(), line["detail"].as_str().unwrap()))
            .collect()
    }

    /// The process that a candidate is tried in.
    pub fn trial_of(&self, name: &str) -> u32 {
        wait_for("a trial", WITHIN, || self.trial_pids(name).first().copied())
    }

    pub fn trial_pids(&self, name: &str) -> Vec<u32> {
        let agent = self.agents[name].pid().to_string();
        let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // After the name in brackets: state, parent.
            let (_, rest) = stat.rsplit_once(") ")?;
            let mut words = rest.split(' ');
            let (state, parent) = (words.next()?, words.next()?);
            let words = std::fs::read(entry.path().join("cmdline")).ok()?;
            let is_trial = parent == agent && state != "Z" && words.ends_with(b"\0model\0try\0");
            is_trial.then(|| entry.file_name().to_str()?.parse().ok()).flatten()
        });
        pids.collect()
    }

    pub fn kill_trial(&self, pid: u32) {
        signal(pid, Signal::KILL);
    }

    pub fn freeze_trial(&self, pid: u32) {
        signal(pid, Signal::STOP);
    }
}

/// The sample video, again and again.
fn sample(_: &Rig, _: &str) -> String {
    format!("source = \"file:{}\"\nrepeat = true\n", sample_video().display())
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in self.agents.keys() {
                eprintln!("---- {name} ----\n{}\n{:?}", self.rig.log(name), self.state(name));
            }
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// Hears all that devices say of themselves.
fn listen(rig: &Rig, said: Arc<Mutex<BTreeMap<String, Said>>>) -> Link {
    let _in = rig.runtime.enter();
    let (link, mut events) = mqtt::open(LinkOptions {
        broker: rig.url(),
        client_id: "observer".into(),
        will: None,
        filters: ["model/state", "twin", "m/stats"].map(|what| format!("picket/v1/yard/+/{what}")).to_vec(),
        payload_bytes_max: PACKET_BYTES_MAX,
        tls: Some(rig.client(OBSERVER)),
    });
    rig.runtime.spawn(async move {
        while let Some(event) = events.recv().await {
            let LinkEvent::Message { topic, payload } = event else { continue };
            let mut said = said.lock().unwrap();
            match Topic::parse(&rig::site(), &topic) {
                Ok(Topic::ModelState(node)) => {
                    let said = said.entry(node.to_string()).or_default();
                    said.state = serde_json::from_slice(&payload).ok();
                    said.states.extend(said.state.clone().map(|state| (Instant::now(), state)));
                }
                Ok(Topic::Twin(node)) => {
                    said.entry(node.to_string()).or_default().twin = serde_json::from_slice(&payload).ok()
                }
                Ok(Topic::Stats(node)) => {
                    let stats: Stats = serde_json::from_slice(&payload).unwrap();
                    let frames = stats.cameras.iter().map(|camera| camera.frames_detected + camera.frames_gated).sum();
                    said.entry(node.to_string()).or_default().frames.push((Instant::now(), frames));
                }
                _ => {}
            }
        }
    });
    link
}
