//! Rollouts from the owner's keys to three real devices, through the command line alone: a good release goes to the canary first
//! and then to everybody, though the coordinator is killed on the way; one that finds nobody halts at its canary.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use picket_shared::crypto::Digest;
use picket_shared::model::{ModelPhase, ModelState};
use picket_shared::mqtt::LinkEvent;
use picket_simulation::soak::killer::Deed;
use picket_tests::{binary, run_within, text, wait_for};
use serde_json::Value;

use super::site::{Site, owner};

/// Three devices that try a model on two processors, one after the other.
const LONG: Duration = Duration::from_secs(300);

/// `picket-agent model compress`: a release in few bytes, and what travels of it.
fn compress(site: &Site, args: &[&str]) {
    let mut command = Command::new(binary("picket-agent"));
    let made = run_within(command.current_dir(site.rig.dir.path()).args(["model", "compress"]).args(args), LONG);
    assert!(made.status.success(), "{}", text(&made));
}

/// Packs and signs on the owner's machine, and publishes beside the coordinator. `offers` are other ways to get the model.
pub(super) fn publish(site: &Site, counter: &str, model: &str, head: &str, offers: &[&str]) {
    let at = |name: &str| site.rig.at(name).to_str().unwrap().to_owned();
    let (document, model, head, key) = (at(&format!("{counter}.json")), at(model), at(head), at("one.pem"));
    let mut pack = vec!["pack", &model, "--name", "person", "--counter", counter, "--out", &document, "--head", &head];
    pack.extend(["--agreement", "0.7", "--chunk-kib", "32", "--precision", "fp16"]);
    let offers: Vec<String> = offers
        .iter()
        .map(|offer| {
            let (coding, files) = offer.split_once('=').unwrap();
            let files: Vec<String> = files.split(':').map(at).collect();
            format!("{coding}={}", files.join(":"))
        })
        .collect();
    offers.iter().for_each(|offer| pack.extend(["--as", offer]));
    owner(&pack);
    owner(&["sign", &document, "--key", &key]);
    let travels = offers.iter().map(|offer| offer.split_once('=').unwrap().1.split(':').next().unwrap());
    let mut args = vec!["publish", &document, "--file", &model, "--file", &head];
    travels.for_each(|file| args.extend(["--file", file]));
    site.model(&args);
}

/// The rollout of this number, as the command line shows it, and each of its stations.
pub(super) fn status(site: &Site, number: u64) -> (Value, Vec<Value>) {
    let said = site.model(&["rollout", "status", &number.to_string()]);
    let mut lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    (lines.next().unwrap(), lines.filter(|line| line["rollout"] == number).collect())
}

pub(super) fn until_course(site: &Site, number: u64, course: &str) -> Value {
    wait_for(
        &format!("rollout {number} to be {course}; the coordinator says {}", site.rig.log("coordinator")),
        LONG,
        || {
            let (rollout, _) = status(site, number);
            (rollout["course"] == course).then_some(rollout)
        },
    )
}

fn runs(counter: u64) -> impl Fn(&ModelState) -> bool {
    move |state| {
        state.phase == ModelPhase::Idle && state.active.as_ref().is_some_and(|active| active.counter == counter)
    }
}

pub(super) fn told(state: &ModelState) -> bool {
    state.assignment > 0
}

#[test]
fn a_good_release_reaches_all_canary_first_and_a_bad_one_halts_at_its_canary() {
    let mut site = Site::of_owner("home_assistant = true\n", &["a", "b", "c"]);
    let before = site.looks_with("a");
    compress(&site, &["builtin", "--out", "r1.onnx"]);
    publish(&site, "1", "r1.onnx", "r1.head.f32", &["deep=r1.deep"]);
    let trial = ["--shadow-frames", "10", "--shadow-seconds", "280", "--soak-seconds", "1"];
    // The registry is new, and the coordinator has not written down yet whom it knows.
    let listed = || site.model(&["status"]).matches("\"runs\":\"own\"").count();
    wait_for("the coordinator to list its devices", LONG, || (listed() == 3).then_some(()));
    let began = Instant::now();
    site.model(&[&["rollout", "start", "person", "1", "--canary", "a"][..], &trial].concat());

    // The coordinator dies while the canary tries it, and goes on where it was.
    wait_for("the canary to try it", LONG, || site.state("a").filter(|state| state.phase == ModelPhase::Trial));
    assert!(!["b", "c"].iter().any(|name| site.first(name, told).is_some()), "nobody else is told yet");
    assert!(site.rig.coordinator.hit(Deed::Kill, Instant::now()).unwrap());
    site.rig.coordinator.revive().unwrap();
    let done = until_course(&site, 1, "done");
    println!(
        "three stations, canary first, with one kill -9 of the coordinator: {:.0} s",
        began.elapsed().as_secs_f64()
    );
    assert_eq!((&done["groups"][0]["committed"], &done["groups"][1]["committed"]), (&1.into(), &2.into()), "{done}");
    let proven = site.first("a", runs(1)).expect("the canary said that it runs it");
    for name in ["b", "c"] {
        assert!(site.first(name, told).unwrap() > proven, "{name} was told before the canary had proven it");
        assert!(runs(1)(&site.state(name).unwrap()));
    }
    // What travelled is the compressed form, once for the canary and once for both others.
    let length = |name: &str| fs::metadata(site.rig.at(name)).unwrap().len();
    let digest = |name: &str| Digest::of(&fs::read(site.rig.at(name)).unwrap()).short();
    assert_eq!(site.looks_with("b"), digest("r1.onnx"));
    println!("r1.onnx has {} bytes, r1.deep {}", length("r1.onnx"), length("r1.deep"));
    let listed = site.model(&["status"]);
    let runs_it = listed.lines().filter(|line| line.contains("\"runs\":\"person 1\"")).count();
    assert_eq!(runs_it, 3, "{listed}");

    // The next one travels as its difference, finds nobody, and stays with its canary.
    compress(&site, &["builtin", "--step", "0.3", "--base", "r1.onnx", "--out", "r2.onnx"]);
    let numbers = length("r1.head.f32") / 4;
    let blind: Vec<u8> = (0..numbers).flat_map(|n| if n + 1 == numbers { -30f32 } else { 0.0 }.to_le_bytes()).collect();
    fs::write(site.rig.at("blind.head.f32"), blind).unwrap();
    publish(&site, "2", "r2.onnx", "blind.head.f32", &["delta=r2.delta:r1.onnx"]);
    let sent = site.rig.metric("model_sent_bytes_total");
    site.model(&[&["rollout", "start", "person", "2", "--canary", "b"][..], &trial].concat());
    let halted = until_course(&site, 2, "halted");
    let sent = site.rig.metric("model_sent_bytes_total") - sent;
    println!("r2.onnx has {} bytes, r2.delta {}, and {sent} were sent", length("r2.onnx"), length("r2.delta"));
    assert!(sent < length("r2.onnx") / 2, "{sent} bytes were sent");
    let why = halted["why"].as_str().unwrap();
    assert!(why.contains("1 of 1") && why.contains("b: "), "{why}");
    let (_, stations) = status(&site, 2);
    let of = |name: &str| stations.iter().find(|station| station["node"] == name).unwrap();
    assert_eq!(
        (&of("b")["stage"], &of("a")["stage"], &of("c")["stage"]),
        (&"rolled_back".into(), &"waiting".into(), &"waiting".into())
    );
    assert!(of("b")["reason"].as_str().unwrap().starts_with("model_trial_"), "{}", of("b"));
    assert_eq!(site.looks_with("b"), digest("r1.onnx"), "what ran before runs on");
    assert_ne!(before, digest("r1.onnx"));

    // People see it: in a browser, in Home Assistant, in the coordinator's health.
    let mut browser = Command::new("node");
    browser.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/dashboard.mjs"));
    let page = format!("http://127.0.0.1:{}/", site.rig.http_port);
    browser.args([
        "--url",
        &page,
        "--nodes",
        "3",
        "--events",
        "0",
        "--rollout",
        "2:halted",
        "--station",
        "b:rolled_back",
    ]);
    let screenshot = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rollout.png");
    let output =
        run_within(browser.args(["--timeout-s", "60", "--screenshot"]).arg(&screenshot), Duration::from_secs(120));
    assert!(output.status.success(), "{}", text(&output));
    let tls = site.rig.client("dashboard");
    let topics = ["homeassistant/update/+/+/config", "picket/v1/yard/view/update/+"];
    let mut home = site.rig.connect("home", Some(tls), &topics);
    let mut heard = std::collections::BTreeMap::new();
    while heard.len() < 6 {
        let LinkEvent::Message { topic, payload } = home.next() else { continue };
        heard.insert(topic, serde_json::from_slice::<Value>(&payload).unwrap());
    }
    for name in ["a", "b", "c"] {
        let config = &heard[&format!("homeassistant/update/picket-yard/{name}/config")];
        let state = &heard[config["state_topic"].as_str().unwrap()];
        assert_eq!(
            (&state["installed_version"], &state["in_progress"]),
            (&"person 1".into(), &false.into()),
            "{state}"
        );
        let latest = if name == "b" { "person 2" } else { "person 1" };
        assert_eq!(state["latest_version"], latest, "{state}");
    }

    // A person ends it, and nobody else is ever told.
    site.model(&["rollout", "abort"]);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(status(&site, 2).0["course"], "aborted");
    for name in ["a", "c"] {
        assert!(runs(1)(&site.state(name).unwrap()));
        assert_eq!(site.first(name, |state| state.counters.values().any(|counter| *counter == 2)), None, "{name}");
    }
}
