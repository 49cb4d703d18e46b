//! What people and machines get wrong, tried on the real binaries: each ends with one sentence that names the remedy and
//! with the documented exit code, or goes on and says so. Nothing panics.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use picket_tests::{Running, binary, run_within, sample_video, text, wait_for};

const WITHIN: Duration = Duration::from_secs(60);

fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// A short run that no broker hears.
fn agent(dir: &Path, config: &str) -> Output {
    let path = write(dir, "agent.toml", format!("data_dir = \"{}\"\n{config}", dir.join("data").display()).as_bytes());
    let mut command = Command::new(binary("picket-agent"));
    command.args(["run", "--frames", "3", "--drain-timeout-s", "0", "--broker", "mqtt://127.0.0.1:9"]);
    run_within(command.arg("--config").arg(path), WITHIN)
}

fn camera(source: &Path) -> String {
    format!("[[camera]]\nname = \"front\"\nsource = \"{}\"\npace = \"max\"\n", source.display())
}

fn assert_ends(output: &Output, code: i32, parts: &[&str]) {
    let said = text(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(parts.iter().all(|part| last.contains(part)), "the last line should have {parts:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_source_that_is_missing_empty_or_no_video() {
    let dir = tempfile::tempdir().unwrap();
    let video = std::fs::read(sample_video()).unwrap();
    let mut other_codec = video[..400_000].to_vec();
    let codecs: Vec<usize> =
        (0..4096).filter(|&at| matches!(&other_codec[at..at + 4], b"div3" | b"DIV3" | b"XVID" | b"MJPG")).collect();
    assert!(!codecs.is_empty(), "the sample names its codec in its header");
    codecs.into_iter().for_each(|at| other_codec[at..at + 4].copy_from_slice(b"ZZZZ"));
    for (source, parts) in [
        (dir.path().join("none.avi"), ["none.avi", "check the path"]),
        (write(dir.path(), "empty.avi", b""), ["empty.avi", "empty"]),
        (write(dir.path(), "text.avi", b"this is no video\n"), ["text.avi", "video"]),
        (write(dir.path(), "other.avi", &other_codec), ["other.avi", "codec"]),
        (dir.path().to_owned(), ["is a directory", "file"]),
    ] {
        assert_ends(&agent(dir.path(), &camera(&source)), 66, &parts);
    }
}

#[test]
fn a_truncated_video_is_watched_as_far_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let video = std::fs::read(sample_video()).unwrap();
    let source = write(dir.path(), "cut.avi", &video[..300_000]);
    let report = dir.path().join("report.json");
    let mut command = Command::new(binary("picket-agent"));
    command.args(["run", "--broker", "mqtt://127.0.0.1:9", "--drain-timeout-s", "0", "--source"]).arg(&source);
    command.arg("--data-dir").arg(dir.path().join("data")).arg("--report").arg(&report);
    let output = run_within(&mut command, WITHIN);
    assert!(output.status.success(), "{}", text(&output));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert!(report["cameras"][0]["frames"].as_u64().unwrap() > 3, "{report}");
}

#[test]
fn a_runtime_library_that_is_missing_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let garbage = write(dir.path(), "libonnxruntime.so.9", b"not a library");
    for (library, parts) in
        [(dir.path().join("none.so"), ["none.so", "library"]), (garbage, ["libonnxruntime.so.9", "library"])]
    {
        let config = format!("[detector]\nlibrary = \"{}\"\n{}", library.display(), camera(&sample_video()));
        assert_ends(&agent(dir.path(), &config), 69, &parts);
    }
}

#[test]
fn a_model_that_is_missing_damaged_or_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let builtin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/models/centernet_u8_384x288_top100_w16.onnx");
    let whole = std::fs::read(builtin).unwrap();
    // The output's name inside the file: the shapes stay, and nobody knows the layout any more.
    let mut renamed = whole.clone();
    let at: Vec<usize> = renamed.windows(6).enumerate().filter(|(_, w)| *w == b"scores").map(|(at, _)| at).collect();
    at.into_iter().for_each(|at| renamed[at..at + 6].copy_from_slice(b"sc0res"));
    for (model, parts) in [
        (dir.path().join("none.onnx"), ["none.onnx", "check"]),
        (write(dir.path(), "empty.onnx", b""), ["empty.onnx", "empty"]),
        (write(dir.path(), "cut.onnx", &whole[..whole.len() / 2]), ["cut.onnx", "cut short"]),
        (write(dir.path(), "text.onnx", b"hello, this is not a model at all"), ["text.onnx", "ONNX"]),
        (write(dir.path(), "unknown.onnx", &renamed), ["unknown.onnx", "[100,4]"]),
    ] {
        let config = format!("[detector]\nmodel = \"{}\"\n{}", model.display(), camera(&sample_video()));
        assert_ends(&agent(dir.path(), &config), 65, &parts);
    }
}

#[test]
fn a_configuration_that_cannot_be_meant() {
    let dir = tempfile::tempdir().unwrap();
    let front = camera(&sample_video());
    for (config, parts) in [
        (format!("broker = \"x\"\n{front}"), ["unknown key \"broker\"", "agent.toml"]),
        (format!("[detector]\nthread = 2\n{front}"), ["unknown key \"thread\"", "\"threads\""]),
        (format!("[detector]\nscore_min = -0.5\n{front}"), ["score_min", "0"]),
        (format!("[detector]\nthreads = 100000\n{front}"), ["threads", "100000"]),
        (format!("{front}start_s = -3.0\n"), ["start_s is -3", "front"]),
        ("site = [".to_owned(), ["line 2", "agent.toml"]),
    ] {
        assert_ends(&agent(dir.path(), &config), 78, &parts);
    }
    let mut nowhere = Command::new(binary("picket-agent"));
    nowhere.args(["run", "--config", "/nowhere/agent.toml"]);
    assert_ends(&run_within(&mut nowhere, WITHIN), 78, &["/nowhere/agent.toml", "check the path"]);
}

#[test]
fn a_site_plan_that_cannot_be_meant_is_refused_and_what_it_leaves_without_cover_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    // Where the plan is fine, the port ends it.
    let start = |plan: &str| {
        let path = write(dir.path(), "coordinator.toml", plan.as_bytes());
        let mut command = Command::new(binary("picket-coordinator"));
        command.args(["run", "--mqtt-port", "18933", "--http-port", &port, "--websocket-port", "18934", "--config"]);
        run_within(command.arg(path).arg("--data-dir").arg(dir.path().join("data")), WITHIN)
    };
    let station = |name: &str, node: &str, by: &[&str]| {
        let covers: String = by.iter().map(|by| format!("[[station.cover]]\nnode = \"{by}\"\n")).collect();
        format!("[[station]]\nname = \"{name}\"\nnode = \"{node}\"\n{covers}")
    };
    for (plan, parts) in [
        (station("gate", "a", &["nobody"]), ["\"nobody\"", "has no station in the plan"]),
        (station("gate", "a", &["a"]), ["\"gate\"", "is its own node"]),
        (station("gate", "a", &[]) + &station("gate", "b", &[]), ["\"gate\"", "twice"]),
        (station("gate", "a", &[]) + &station("yard", "a", &[]), ["\"a\"", "has two stations"]),
    ] {
        assert_ends(&start(&plan), 78, &parts);
    }
    let circle = station("gate", "a", &["b"]) + &station("yard", "b", &["c"]) + &station("dock", "c", &["a"]);
    let said = text(&start(&circle));
    assert!(!said.contains("the site plan:"), "each is covered by another: {said}");
    let said = text(&start(
        &(circle + &station("mill", "d", &[]) + &station("weir", "e", &["f"]) + &station("lock", "f", &["e"])),
    ));
    assert!(said.contains("station mill is an island: nobody covers it"), "{said}");
    assert!(said.contains("e and f can cover only each other"), "{said}");
}

#[test]
fn a_place_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "file", b"");
    let run = |program: &str, data_dir: &Path| {
        let mut command = Command::new(binary(program));
        command.arg("run").arg("--data-dir").arg(data_dir);
        if program == "picket-agent" {
            command.arg("--source").arg(sample_video());
        } else {
            command.args(["--mqtt-port", "18930", "--http-port", "18931", "--websocket-port", "18932"]);
        }
        run_within(&mut command, WITHIN)
    };
    assert_ends(&run("picket-agent", &file.join("below")), 74, &["below cannot be read or written", "check"]);
    assert_ends(&run("picket-coordinator", &file.join("below")), 74, &["archive cannot be written", "check"]);
}

#[test]
fn a_port_that_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = Command::new(binary("picket-coordinator"));
    command.args(["run", "--mqtt-port", &port, "--data-dir"]).arg(dir.path());
    assert_ends(&run_within(&mut command, WITHIN), 71, &[&port, "port"]);
}

#[test]
fn a_broker_that_cannot_be_reached_costs_no_event() {
    let dir = tempfile::tempdir().unwrap();
    let config = camera(&sample_video());
    let path = write(
        dir.path(),
        "agent.toml",
        format!("data_dir = \"{}\"\n{config}", dir.path().join("data").display()).as_bytes(),
    );
    let mut command = Command::new(binary("picket-agent"));
    command
        .args(["run", "--frames", "100", "--drain-timeout-s", "1", "--broker", "mqtt://127.0.0.1:9", "--config"])
        .arg(path);
    let output = run_within(&mut command, WITHIN);
    let said = text(&output);
    assert!(said.contains("mqtt://127.0.0.1:9 cannot be reached"), "{said}");
    assert_ends(&output, 75, &["stored and not yet in the archive", "run the agent again"]);
}

#[test]
fn two_agents_over_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let start = || {
        let mut command = Command::new(binary("picket-agent"));
        command.args(["run", "--broker", "mqtt://127.0.0.1:9", "--source"]).arg(sample_video());
        command.arg("--data-dir").arg(dir.path().join("data"));
        command
    };
    let _first = Running::start(start().stderr(std::fs::File::create(&log).unwrap()));
    wait_for("the first agent", WITHIN, || std::fs::read_to_string(&log).unwrap().contains("watching").then_some(()));
    assert_ends(&run_within(&mut start(), WITHIN), 74, &["in use by another process", "data directory"]);
}

#[test]
fn the_doctor_names_everything_that_is_missing_with_its_remedy() {
    let mut command = Command::new(binary("picket-agent"));
    command.args(["doctor", "--source", "/nope.mp4", "--data-dir", "/dev/null/x", "--broker", "mqtt://127.0.0.1:9"]);
    let output = run_within(command.env("ORT_DYLIB_PATH", "/nope.so"), WITHIN);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    for (what, remedy) in [
        ("camera main", "check the path"),
        ("onnxruntime", "ORT_DYLIB_PATH"),
        ("broker", "check that it runs"),
        ("disk", "cannot be written"),
    ] {
        let line = said.lines().find(|line| line.starts_with("FAIL") && line.contains(what));
        assert!(line.is_some_and(|line| line.contains(remedy)), "{what}: {said}");
    }
    assert!(said.lines().any(|line| line.starts_with("ok") && line.contains("decoder")), "{said}");
}

#[test]
fn a_broker_that_refuses_the_agent_is_named_and_events_wait() {
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let broker =
        write(dir.path(), "mosquitto.conf", format!("listener {port} 127.0.0.1\nallow_anonymous false\n").as_bytes());
    let mut mosquitto = Command::new("mosquitto");
    mosquitto.arg("-c").arg(broker).stderr(std::process::Stdio::null());
    let _mosquitto = Running::start(&mut mosquitto);
    wait_for("mosquitto", WITHIN, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    let mut command = Command::new(binary("picket-agent"));
    command.args(["run", "--frames", "100", "--drain-timeout-s", "1", "--source"]).arg(sample_video());
    command.args(["--broker", &format!("mqtt://127.0.0.1:{port}"), "--data-dir"]).arg(dir.path().join("data"));
    let output = run_within(&mut command, WITHIN);
    let said = text(&output);
    assert!(said.contains("refuses this client (NotAuthorized); check its access rules"), "{said}");
    assert_ends(&output, 75, &["stored and not yet in the archive"]);
}

#[test]
fn the_doctor_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary("picket-agent"));
    command.args(["doctor", "--broker", "mqtt://127.0.0.1:9", "--source"]).arg(sample_video());
    let output = run_within(command.arg("--data-dir").arg(dir.path().join("data")), WITHIN);
    assert!(text(&output).lines().any(|line| line.starts_with("ok") && line.contains("disk")), "{}", text(&output));
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "an agent of another user must find no store of this one's"
    );
}
