//! Releases that crash the runtime, signed and rolled out like any other: one dies whenever it is run, and so in its trial; one is
//! as good as what it replaces until it sees a white picture, and so takes the agent with it once it runs. Each stays with its
//! canary, and nobody says so but the devices.
//!
//! Both do what no runtime catches: they divide a whole number by zero, which on x86-64 is SIGFPE.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use picket_shared::model::{ModelPhase, ModelState};
use picket_simulation::soak::killer::Deed;
use picket_tests::{run_within, sample_video, skipped, text, wait_for};

use super::rig::{Rig, WITHIN};
use super::rollout::{publish, status, told, until_course};
use super::site::Site;

const SIGFPE: i32 = 8;
/// How often a candidate may be begun with.
const ATTEMPTS: i32 = 2;
/// What a candidate's attempts and its trial may take on two processors, while three devices watch.
const LONG: Duration = Duration::from_secs(300);

/// When a model divides by zero.
#[derive(Clone, Copy, PartialEq)]
enum Dies {
    Always,
    OnWhite,
}

/// A whole number of a protocol buffer.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A field that is a number.
fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A field that is a message or a text.
fn message(field: u64, body: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(body.len() as u64), body.to_vec()].concat()
}

/// `GraphProto.node`.
fn node(kind: &str, inputs: &[&str], output: &str, attribute: Option<(&str, u64)>) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| message(1, name.as_bytes())).collect();
    let attribute = attribute.map_or_else(Vec::new, |(name, value)| {
        // An integer, as attributes number what they are.
        message(5, &[message(1, name.as_bytes()), number(3, value), number(20, 2)].concat())
    });
    message(1, &[inputs, message(2, output.as_bytes()), message(4, kind.as_bytes()), attribute].concat())
}

/// `GraphProto.initializer`: one number of this kind.
fn constant(name: &str, kind: u64, bytes: [u8; 4]) -> Vec<u8> {
    message(5, &[number(2, kind), message(8, name.as_bytes()), message(9, &bytes)].concat())
}

/// The built-in model with one bias that comes out of a division, and is what it was wherever that has a result.
fn crashing(dies: Dies) -> Vec<u8> {
    // `TensorProto.DataType`.
    let (float, int32) = (1, 6);
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/models");
    let model = fs::read(models.join("centernet_u8_384x288_top100_w16.onnx")).unwrap();
    let (before, graph, after) = split(&model, 7);
    // The name of the tensor itself; nodes have it elsewhere.
    let [name, other] = ["B_4", "b_4"].map(|name| message(8, name.as_bytes()));
    let at = graph.windows(name.len()).position(|window| window == name).expect("the model has that bias");
    let mut graph = graph.to_vec();
    graph[at..at + other.len()].copy_from_slice(&other);
    let what = if dies == Dies::Always { "darkest" } else { "white" };
    let more = [
        constant("white", int32, 255i32.to_le_bytes()),
        constant("coarse", int32, 16i32.to_le_bytes()),
        constant("nothing", float, 0f32.to_le_bytes()),
        node("Cast", &["image"], "pixels", Some(("to", int32))),
        node("ReduceMin", &["pixels"], "darkest", Some(("keepdims", 0))),
        node("Sub", &[what, "darkest"], "contrast", None),
        node("Div", &["contrast", "coarse"], "zero", None),
        node("Div", &["white", "zero"], "quotient", None),
        node("Cast", &["quotient"], "number", Some(("to", float))),
        node("Mul", &["number", "nothing"], "added", None),
        node("Add", &["b_4", "added"], "B_4", None),
    ];
    graph.extend(more.concat());
    [before, &message(7, &graph), after].concat()
}

/// What stands before a message's field, in it, and after it.
fn split(bytes: &[u8], field: u64) -> (&[u8], &[u8], &[u8]) {
    fn take(rest: &mut &[u8]) -> u64 {
        let length = rest.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
        let (head, tail) = rest.split_at(length);
        *rest = tail;
        head.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
    }
    let mut rest = bytes;
    loop {
        let begins = bytes.len() - rest.len();
        let tag = take(&mut rest);
        let value = take(&mut rest);
        if tag & 7 == 2 {
            let (body, after) = rest.split_at(value as usize);
            if tag >> 3 == field {
                return (&bytes[..begins], body, after);
            }
            rest = after;
        }
    }
}

/// A camera that plays a folder of pictures of its own again and again: what is put there is seen the next time.
fn camera(rig: &Rig, name: &str) -> String {
    let folder = rig.at(&format!("{name}-pictures"));
    fs::create_dir(&folder).unwrap();
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-loglevel", "error", "-i"]).arg(sample_video());
    ffmpeg.args(["-vf", "fps=5,scale=384:288", "-frames:v", "40", "-q:v", "3"]).arg(folder.join("%03d.jpg"));
    let made = run_within(&mut ffmpeg, WITHIN);
    assert!(made.status.success(), "{}", text(&made));
    format!("source = \"images:{}?fps=5\"\nrepeat = true\n", folder.display())
}

/// From here on it sees nothing but white.
fn blind(site: &Site, name: &str) {
    let (white, folder) = (site.rig.at("white.jpg"), site.rig.at(&format!("{name}-pictures")));
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "color=white:s=384x288", "-frames:v", "1"]);
    let made = run_within(ffmpeg.arg(&white), WITHIN);
    assert!(made.status.success(), "{}", text(&made));
    for picture in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        // Never half of one.
        fs::copy(&white, picture.with_extension("new")).unwrap();
        fs::rename(picture.with_extension("new"), &picture).unwrap();
    }
}

/// Publishes such a model under this counter, and begins its rollout.
fn roll_out(site: &Site, counter: &str, dies: Dies, canary: &str) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/models");
    let (model, head) = (format!("crash-{counter}.onnx"), format!("crash-{counter}.head.f32"));
    fs::write(site.rig.at(&model), crashing(dies)).unwrap();
    fs::copy(models.join("centernet_person.head.f32"), site.rig.at(&head)).unwrap();
    publish(site, counter, &model, &head, &[]);
    let attempts = ATTEMPTS.to_string();
    let terms = ["--shadow-frames", "10", "--shadow-seconds", "280", "--attempts", &attempts];
    site.model(&[&["rollout", "start", "person", counter, "--canary", canary][..], &terms].concat());
}

fn given_up(state: &ModelState, word: &str) -> bool {
    state.phase == ModelPhase::RolledBack && state.reason.as_deref() == Some(word)
}

#[test]
fn a_release_that_crashes_stays_with_its_canary_also_where_it_takes_the_agent_with_it() {
    if std::env::consts::ARCH != "x86_64" {
        return skipped("a model that crashes: on this processor a division by zero has a result");
    }
    let mut site = Site::of_owner_watching("", &["a", "b", "c"], camera);
    let before = site.looks_with("a");
    let listed = || site.model(&["status"]).matches("\"runs\":\"own\"").count();
    wait_for("the coordinator to list its devices", LONG, || (listed() == 3).then_some(()));

    // One that is never run to its end: its trial's process dies, and the cameras of the device know nothing of it.
    let began = Instant::now();
    roll_out(&site, "1", Dies::Always, "a");
    let halted = until_course(&site, 1, "halted");
    println!("a release that crashes in its trial: halted after {:.0} s", began.elapsed().as_secs_f64());
    let state = site.state("a").unwrap();
    assert!(given_up(&state, "model_trial_crash"), "{state:?}");
    let detail = state.detail.unwrap();
    assert!(detail.contains("signal: 8 (SIGFPE)") && detail.contains(&format!("{ATTEMPTS} attempts")), "{detail}");
    assert!(halted["why"].as_str().unwrap().contains("1 of 1"), "{halted}");
    assert!(site.agents.get_mut("a").unwrap().ended().unwrap().is_none(), "the agent itself lives");
    assert_eq!(site.looks_with("a"), before);
    let (least, stats) = site.least_frames("a", began);
    assert!(stats > 2 && least > 0, "the camera was looked at all the while: {least} of {stats}");
    assert!(!["b", "c"].iter().any(|name| site.first(name, told).is_some()), "nobody else is told");
    site.model(&["rollout", "abort"]);

    // One that passes its trial, and kills the agent at the first white picture, and at each start after that.
    roll_out(&site, "2", Dies::OnWhite, "b");
    wait_for(&format!("b to run it; its log is {}", site.rig.log("b")), LONG, || {
        site.state("b").filter(|state| state.phase == ModelPhase::Probation)
    });
    blind(&site, "b");
    let mut crashes = 0;
    let state = wait_for("b to give it up", LONG, || {
        let agent = site.agents.get_mut("b").unwrap();
        if let Some(status) = agent.ended().unwrap() {
            assert_eq!(status.signal(), Some(SIGFPE), "{status}");
            crashes += 1;
            // As the unit's Restart= would.
            agent.hit(Deed::Kill, Instant::now()).unwrap();
            agent.revive().unwrap();
        }
        site.state("b").filter(|state| given_up(state, "model_crash"))
    });
    assert_eq!(crashes, ATTEMPTS, "{state:?}");
    assert!(state.detail.unwrap().contains(&format!("the agent began with it {ATTEMPTS} times")));
    let halted = until_course(&site, 2, "halted");
    assert!(halted["why"].as_str().unwrap().contains("b: it did not last"), "{halted}");
    site.until_looks_with("b", &before);
    let (_, stations) = status(&site, 2);
    for station in stations.iter().filter(|station| station["node"] != "b") {
        assert_eq!(station["stage"], "waiting", "{station}");
    }
    for name in ["a", "c"] {
        let told_of_it = |state: &ModelState| state.counters.values().any(|counter| *counter == 2);
        assert_eq!(site.first(name, told_of_it), None, "{name}");
    }
    // What ran before sees the white pictures too, and lives.
    let since = Instant::now();
    wait_for("b to look at frames", WITHIN, || {
        Some(site.least_frames("b", since)).filter(|(least, count)| *least > 0 && *count > 1)
    });
    assert!(site.agents.get_mut("b").unwrap().ended().unwrap().is_none());
}
