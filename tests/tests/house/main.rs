//! The house rules that a compiler does not know: who may import what, what the pure cores hold, how a file begins and
//! ends, and what stands at the top of the tree.
//!
//! The sources are read as text, without comments, literals and, where a rule is about what ships, without tests. Each
//! rule is a function of a path and a text, so that each is also shown to fail.

#![allow(clippy::unwrap_used, reason = "a test's helpers are the test")]

mod source;

use std::fs;
use std::path::{Path, PathBuf};

use source::{begins, code, paths, without_tests, words};

const LINES_ASK: usize = 400;
const LINES_MAX: usize = 600;

type Owns = fn(path: &str) -> bool;

/// A crate, and the only files that may name it.
/// Three have another reader: the writer that the power cut test expects to lose events, because it has sled without what
/// our store adds; the peers that the storage bench compares; and the naive publisher that the soak compares.
const OWNERS: [(&str, Owns); 21] = [
    ("rumqttc", |path| ["shared/src/mqtt.rs", "simulation/src/soak/naive.rs"].contains(&path)),
    ("sled", |path| {
        let compared = ["tests/src/bin/power-cut-writer.rs", "simulation/src/bench/storage/peers.rs"];
        path == "shared/src/store/database.rs" || compared.contains(&path)
    }),
    ("redb", |path| path == "simulation/src/bench/storage/peers.rs"),
    ("rusqlite", |path| path == "simulation/src/bench/storage/peers.rs"),
    ("ort", |path| path == "agent/src/detect/session.rs"),
    ("serde_cbor", |path| path == "shared/src/codec.rs"),
    ("ring", |path| path.starts_with("shared/src/crypto/")),
    ("rcgen", |path| path == "coordinator/src/authority/issue.rs" || path == "agent/src/enrol.rs"),
    ("x509_parser", |path| path == "shared/src/trust/certificate.rs"),
    ("rustls", |path| path == "shared/src/trust/tls.rs"),
    ("tokio_rustls", |path| {
        let strangers = ["tests/tests/trust/knock.rs", "tests/tests/trust/between.rs"];
        let doors = ["coordinator/src/door.rs", "agent/src/enrol.rs"];
        path == "shared/src/trust/tls.rs" || doors.contains(&path) || strangers.contains(&path)
    }),
    ("hyper", |path| path == "coordinator/src/door.rs" || path == "agent/src/enrol.rs"),
    ("roxmltree", |path| path == "agent/src/eval/truth/voc.rs" || path == "agent/src/eval/chart.rs"),
    ("rumqttd", |path| path == "coordinator/src/broker.rs"),
    ("v4l", |path| path == "agent/src/capture/v4l.rs"),
    ("nokhwa", |path| path == "agent/src/capture/camera.rs"),
    ("axum", |path| path.starts_with("agent/src/sinks/") || path.starts_with("coordinator/src/http")),
    ("mavlink", |path| path.starts_with("agent/src/platform/pilot/")),
    ("jpeg_encoder", |path| path == "agent/src/sinks/studio.rs"),
    ("ruzstd", |path| path.starts_with("shared/src/compress/") || path == "shared/src/model/decode.rs"),
    ("zune_jpeg", |path| path == "agent/src/capture/pixels.rs"),
];

/// The two sides speak through `shared` alone, and `shared` knows neither.
const STRANGERS: [(&str, &str); 4] = [
    ("agent/", "picket_coordinator"),
    ("coordinator/", "picket_agent"),
    ("shared/", "picket_agent"),
    ("shared/", "picket_coordinator"),
];

/// Files, or folders, that decide and do nothing else.
const CORES: [&str; 103] = [
    "agent/src/capture/frozen",
    "agent/src/capture/negotiate",
    "agent/src/capture/pixels",
    "agent/src/capture/ppm",
    "agent/src/compress",
    "agent/src/detect/agreement",
    "agent/src/detect/layout",
    "agent/src/detect/nms",
    "agent/src/detect/onnx",
    "agent/src/graph",
    "agent/src/import",
    "agent/src/detect/provider",
    "agent/src/duty",
    "agent/src/eval/chart",
    "agent/src/eval/degrade",
    "agent/src/eval/metrics",
    "agent/src/eval/persistence",
    "agent/src/eval/random",
    "agent/src/eval/report",
    "agent/src/eval/score",
    "agent/src/eval/settings",
    "agent/src/eval/threshold",
    "agent/src/eval/truth",
    "agent/src/frame",
    "agent/src/gate",
    "agent/src/gossip/ear",
    "agent/src/learn/examples",
    "agent/src/learn/features",
    "agent/src/learn/judge",
    "agent/src/learn/lesson",
    "agent/src/learn/miner",
    "agent/src/learn/post",
    "agent/src/learn/record",
    "agent/src/learn/student",
    "agent/src/learn/teacher",
    "agent/src/mask",
    "agent/src/model/assign",
    "agent/src/model/change",
    "agent/src/model/fetch",
    "agent/src/model/models",
    "agent/src/model/record",
    "agent/src/model/say",
    "agent/src/model/verdict",
    "agent/src/node",
    "agent/src/observe",
    "agent/src/outbox",
    "agent/src/pictures/sequence",
    "agent/src/platform/pilot/flight",
    "agent/src/platform/pilot/goal",
    "agent/src/platform/pilot/vehicle",
    "agent/src/platform/orders",
    "agent/src/polygon",
    "agent/src/privacy/blur",
    "agent/src/privacy/desk",
    "agent/src/reload",
    "agent/src/sinks/live/range",
    "agent/src/sinks/media/moments",
    "agent/src/sinks/media/shelf",
    "agent/src/sinks/pace",
    "agent/src/sinks/words",
    "agent/src/steady",
    "agent/src/surgery",
    "agent/src/track",
    "agent/src/watchdog",
    "coordinator/src/coordinator",
    "coordinator/src/intake",
    "coordinator/src/lead",
    "coordinator/src/leader/row",
    "coordinator/src/learn/agreement",
    "coordinator/src/learn/change",
    "coordinator/src/learn/learner",
    "coordinator/src/learn/peers",
    "coordinator/src/learn/root",
    "coordinator/src/learn/said",
    "coordinator/src/learn/star",
    "coordinator/src/learn/sums",
    "coordinator/src/learn/voice",
    "coordinator/src/line",
    "coordinator/src/liveness",
    "coordinator/src/lossy",
    "coordinator/src/model/blobs",
    "coordinator/src/model/record",
    "coordinator/src/model/rollout",
    "coordinator/src/model/step",
    "coordinator/src/model/view",
    "coordinator/src/namesake",
    "coordinator/src/plan",
    "coordinator/src/swarm",
    "coordinator/src/view",
    "shared/src/audit/chain",
    "shared/src/audit/damper",
    "shared/src/backoff",
    "shared/src/brokers",
    "shared/src/chunks",
    "shared/src/compress",
    "shared/src/gossip",
    "shared/src/learn",
    "shared/src/random",
    "shared/src/redact",
    "shared/src/model",
    "shared/src/trust/door",
    "shared/src/trust/orders",
    "shared/src/trust/token",
];

/// What a core is handed, or never needs: clocks, randomness, files, sockets, threads, processes, async.
const IMPURE_WORDS: [&str; 6] = ["Instant", "SystemTime", "async", "await", "fastrand", "tokio"];
const IMPURE_PATHS: [&str; 5] = ["std::env", "std::fs", "std::net", "std::process", "std::thread"];

/// Where what is said of people is written down: what they did, and never what they look like. A picture travels in
/// `shared/src/picture.rs` alone, and in a batch each event has the bytes of an event.
const SAYS_OF_PEOPLE: [&str; 7] = [
    "shared/src/duty.rs",
    "shared/src/event.rs",
    "shared/src/gossip.rs",
    "shared/src/platform.rs",
    "shared/src/status.rs",
    "shared/src/view.rs",
    "shared/src/wire.rs",
];
/// What pixels or a description of somebody's looks would stand in. A box has four numbers.
const ROOM_FOR_LOOKS: [&str; 6] = ["Vec<u8>", "Vec<f32>", "Vec<f64>", "[u8;", "Bytes", "ByteBuf"];

/// What may stand at the top of the tree, beside names that begin with a dot.
const TOP: [&str; 13] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "NOTICE",
    "README.md",
    "agent",
    "coordinator",
    "firmware-configs",
    "shared",
    "simulation",
    "systemd",
    "tests",
];

// ---- The rules ------------------------------------------------------------------------------------------------------

fn owners(path: &str, text: &str) -> Vec<String> {
    let paths = paths(&words(&code(text)));
    let named = |name: &str| paths.iter().any(|path| begins(path, name));
    OWNERS
        .iter()
        .filter(|(name, may)| named(name) && !may(path))
        .map(|(name, _)| format!("may not use {name}"))
        .collect()
}

fn strangers(path: &str, text: &str) -> Vec<String> {
    let words = words(&code(text));
    let met = |name: &str| words.iter().any(|word| word == name);
    let ours = STRANGERS.iter().filter(|(side, _)| path.starts_with(side));
    ours.filter(|(_, name)| met(name)).map(|(_, name)| format!("may not know {name}")).collect()
}

fn cores(path: &str, text: &str) -> Vec<String> {
    let stem = path.trim_end_matches(".rs");
    let is_core = |core: &str| stem.strip_prefix(core).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if stem.ends_with("tests") || !CORES.iter().any(|core| is_core(core)) {
        return Vec::new();
    }
    let words = words(&without_tests(&code(text)));
    let paths = paths(&words);
    let said = IMPURE_WORDS.iter().filter(|impure| words.iter().any(|word| word == *impure));
    let reached = IMPURE_PATHS.iter().filter(|impure| paths.iter().any(|path| begins(path, impure)));
    said.chain(reached).map(|impure| format!("is a pure core and holds {impure}")).collect()
}

fn looks(path: &str, text: &str) -> Vec<String> {
    if !SAYS_OF_PEOPLE.contains(&path) {
        return Vec::new();
    }
    let text = without_tests(&code(text));
    // Declarations of fields only: what a function makes of a message has all its bytes.
    let fields = text.lines().filter(|line| line.trim_start().starts_with("pub ") && line.trim_end().ends_with(','));
    // What holds whole events, and how long somebody stayed in each zone.
    let known =
        [("shared/src/wire.rs", "pub events: Vec<ByteBuf>"), ("shared/src/view.rs", "pub dwell_times: Vec<f64>")];
    let fields = fields.filter(|field| !known.iter().any(|(of, said)| path == *of && field.contains(said)));
    let fields: Vec<&str> = fields.collect();
    let there = ROOM_FOR_LOOKS.iter().filter(|room| fields.iter().any(|field| field.contains(*room)));
    there.map(|room| format!("says of people what they did, and has room for how they look ({room})")).collect()
}

fn form(_: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if !text.starts_with("//! ") {
        broken.push("does not open with what it is for (//!)".to_owned());
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        broken.push(format!("has {lines} lines, of at most {LINES_MAX}"));
    }
    broken
}

fn top(names: &[String]) -> Vec<String> {
    let fine = |name: &str| TOP.contains(&name) || name.starts_with('.') || name == "target";
    names
        .iter()
        .filter(|name| !fine(name))
        .map(|name| format!("{name} does not belong at the top of the tree"))
        .collect()
}

// ---- The house ------------------------------------------------------------------------------------------------------

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_source_file_keeps_the_rules() {
    let mut found = Vec::new();
    sources(&root(), &mut found);
    let mut broken = Vec::new();
    for file in &found {
        let text = fs::read_to_string(file).unwrap();
        let path = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        for rule in [owners, strangers, cores, looks, form] {
            broken.extend(rule(&path, &text).into_iter().map(|what| format!("{path} {what}")));
        }
        if text.lines().count() > LINES_ASK {
            println!("{path} has {} lines: are there two jobs in it?", text.lines().count());
        }
    }
    assert!(found.len() > 20, "the sources were not found");
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn neither_side_depends_on_the_other() {
    for (side, stranger) in STRANGERS {
        let manifest = fs::read_to_string(root().join(side).join("Cargo.toml")).unwrap();
        assert!(!manifest.contains(&stranger.replace('_', "-")), "{side}Cargo.toml names {stranger}");
    }
}

#[test]
fn the_top_of_the_tree_is_as_drawn() {
    let names = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let broken = top(&names.collect::<Vec<_>>());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

// ---- Each rule can fail ---------------------------------------------------------------------------------------------

fn check(rule: fn(&str, &str) -> Vec<String>, path: &str, text: &str, broken: &[&str]) {
    assert_eq!(rule(path, text), broken, "{path}: {text}");
}

#[test]
fn a_crate_outside_its_file_is_found() {
    for (text, broken) in [
        ("use sled::Db;", &["may not use sled"][..]),
        ("use sled;", &["may not use sled"]),
        ("pub use ::sled::Db;", &["may not use sled"]),
        ("fn f() -> sled::Result<()> { Ok(()) }", &["may not use sled"]),
        ("fn f() -> Option<::sled::Db> { None }", &["may not use sled"]),
        ("use {ring::digest, std::fs};", &["may not use ring"]),
        ("#[cfg(test)]\nmod tests { use serde_cbor::Value; }", &["may not use serde_cbor"]),
        ("// use sled::Db;\n/* ring::x */ fn f() { \"sled::Db\"; r#\"ring::x\"#; 'a'; }", &[]),
        ("fn f<'a>(ring: &'a [u8]) -> &'a u8 { &ring[0] }", &[]),
        ("use crate::{ring::Slot, sort::{self, Key}}; use super::sled_free;", &[]),
        ("use sled as store;", &["may not use sled"]),
        ("fn f<'a>() -> impl Sized + use<'a> { ort::init() }", &["may not use ort"]),
        ("fn f() { '\"'; sled::open(); '\"' }", &["may not use sled"]),
    ] {
        check(owners, "agent/src/app.rs", text, broken);
    }
    check(owners, "shared/src/store/database.rs", "use sled::Db;", &[]);
    check(owners, "shared/src/store/mod.rs", "use sled::Db;", &["may not use sled"]);
    check(owners, "agent/src/mqtt.rs", "use rumqttc::QoS;", &["may not use rumqttc"]);
    check(owners, "shared/src/mqtt.rs", "use rumqttc::QoS;", &[]);
    check(owners, "agent/src/detect/mod.rs", "use ort::session::Session;", &["may not use ort"]);
    check(owners, "coordinator/src/app.rs", "rumqttd::Broker::new(c);", &["may not use rumqttd"]);
}

#[test]
fn a_side_that_knows_the_other_is_found() {
    let text = "use picket_agent::frame::Frame;";
    check(strangers, "coordinator/src/view.rs", text, &["may not know picket_agent"]);
    check(strangers, "shared/src/view.rs", text, &["may not know picket_agent"]);
    check(strangers, "agent/src/main.rs", "use picket_coordinator as c;", &["may not know picket_coordinator"]);
    check(strangers, "agent/src/main.rs", text, &[]);
    check(strangers, "tests/tests/demo.rs", text, &[]);
}

#[test]
fn a_core_that_is_not_pure_is_found() {
    for (text, broken) in [
        ("use std::time::Instant;", &["is a pure core and holds Instant"][..]),
        ("use std::time;\nfn f() { time::SystemTime::now(); }", &["is a pure core and holds SystemTime"]),
        ("use std::{collections::{BTreeMap, VecDeque}, fs::File};", &["is a pure core and holds std::fs"]),
        ("use std::fs as files;", &["is a pure core and holds std::fs"]),
        ("use std::{io, net, thread};", &["is a pure core and holds std::net", "is a pure core and holds std::thread"]),
        ("fn f() { std::fs::read(\"x\"); }", &["is a pure core and holds std::fs"]),
        ("async fn f() {}", &["is a pure core and holds async"]),
        (
            "fn f() { tokio::spawn(x); fastrand::u8(..); }",
            &["is a pure core and holds fastrand", "is a pure core and holds tokio"],
        ),
        ("use std::time::Duration; use std::fmt; // no std::fs, no tokio", &[]),
        ("fn f() {}\n#[cfg(test)]\nmod tests { use std::fs; fn g() { std::thread::yield_now(); } }", &[]),
        ("#[cfg(test)]\nmod tests;\nuse std::fs;", &["is a pure core and holds std::fs"]),
        ("#[cfg(test)]\nmod tests { fn g() { '{'; \"{\"; } }\nuse std::fs;", &["is a pure core and holds std::fs"]),
    ] {
        check(cores, "agent/src/track/mod.rs", text, broken);
        check(cores, "coordinator/src/intake.rs", text, broken);
        check(cores, "agent/src/tracker_shell.rs", text, &[]);
        check(cores, "agent/src/track/tests.rs", text, &[]);
        check(cores, "agent/src/capture/process.rs", text, &[]);
    }
}

#[test]
fn a_message_with_room_for_looks_is_found() {
    let found = ["says of people what they did, and has room for how they look (Vec<f32>)"];
    check(looks, "shared/src/event.rs", "pub struct E {\n    pub face: Vec<f32>,\n}", &found);
    check(
        looks,
        "shared/src/event.rs",
        "pub struct E {\n    pub area: [f32; 4],\n}\npub fn f() -> Vec<u8> { a() }",
        &[],
    );
    check(looks, "shared/src/wire.rs", "    pub events: Vec<ByteBuf>,", &[]);
    check(looks, "shared/src/picture.rs", "    pub sealed: ByteBuf,", &[]);
}

#[test]
fn a_file_out_of_form_is_found() {
    check(form, "a.rs", "use std::fmt;", &["does not open with what it is for (//!)"]);
    let long = "//! What it is for.\n".repeat(LINES_MAX + 1);
    check(form, "a.rs", &long, &["has 601 lines, of at most 600"]);
    check(form, "a.rs", &long[..long.len() / (LINES_MAX + 1) * LINES_MAX], &[]);
}

#[test]
fn a_stray_name_at_the_top_is_found() {
    let names = ["Cargo.toml", ".git", ".clippy.toml", "target", "deny.toml", "scripts"].map(str::to_owned);
    assert_eq!(top(&names).len(), 2);
}
