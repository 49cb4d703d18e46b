//! The demo as people start it: real processes, real video; undisturbed, killed in the middle, and seen in a browser.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use picket_tests::{Running, binary, run_within, sample_video, text, wait_for};
use serde_json::Value;

/// Two demos at once on two cores measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const MEMORY_BYTES_MAX: u64 = 200 * 1024 * 1024;

fn demo(dir: &Path) -> Command {
    let mut command = Command::new(binary("picket-simulation"));
    command.arg("demo").arg("--dir").arg(dir).arg("--video").arg(sample_video());
    command
}

fn report(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn sum(report: &Value, field: &str) -> u64 {
    report["audit"]["agents"].as_object().unwrap().values().map(|balance| balance[field].as_u64().unwrap()).sum()
}

#[test]
fn once_balances_and_stays_small() {
    let _alone = ONE_AT_A_TIME.lock();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("summary.json");
    let mut once = demo(dir.path());
    once.args(["--once", "--frames", "150", "--report"]).arg(&path);
    let output = run_within(&mut once, Duration::from_secs(240));
    assert!(output.status.success(), "{}", text(&output));
    let report = report(&path);
    assert!(sum(&report, "stored") >= 20, "{report}");
    assert_eq!(sum(&report, "stored"), sum(&report, "delivered"));
    assert_eq!((sum(&report, "duplicated"), sum(&report, "changed")), (0, 0));
    for (node, run) in report["runs"].as_object().unwrap() {
        assert_eq!(run["cameras"][0]["frames"], 150, "{node}");
        assert_eq!(run["cameras"][0]["frames_dropped"], 0, "{node}: a file at its own pace drops nothing");
        assert!(run["speed"]["ratio"].as_f64().unwrap() > 0.0);
        assert!(run["resident_bytes_max"].as_u64().unwrap() <= MEMORY_BYTES_MAX, "{node}: {run}");
    }
}

#[test]
fn a_killed_agent_and_a_killed_coordinator_come_back_and_nothing_is_lost_or_doubled() {
    let _alone = ONE_AT_A_TIME.lock();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("summary.json");
    let mut once = demo(dir.path());
    once.args(["--once", "--frames", "300", "--report"]).arg(&path).stdout(Stdio::null());
    let mut running = Running::start(&mut once);

    // In the middle of the work: there is something to lose.
    let log = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    wait_for("the agents to watch", Duration::from_secs(60), || log("agent-2.log").contains("watching").then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    kill("picket-agent", &dir.path().join("agent-2"));
    std::thread::sleep(Duration::from_secs(1));
    kill("picket-coordinator", &dir.path().join("coordinator"));

    let status = wait_for("the demo to end", Duration::from_secs(300), || running.0.try_wait().unwrap());
    assert!(status.success(), "{status}; {}{}", log("coordinator.log"), log("agent-2.log"));
    let report = report(&path);
    assert_eq!(report["restarts"], 2, "both were really killed and came back");
    assert_eq!(log("agent-2.log").matches("watching").count(), 2);
    assert!(sum(&report, "stored") >= 40, "{report}");
    assert_eq!(sum(&report, "stored"), sum(&report, "delivered"));
    assert_eq!((sum(&report, "duplicated"), sum(&report, "changed")), (0, 0));
}

/// Kills the process of this program that was started with this directory in its command line: no other.
fn kill(program: &str, dir: &Path) {
    let pattern = format!("{program} .*{}", dir.display());
    let status = Command::new("pkill").args(["-KILL", "-f", &pattern]).status().unwrap();
    assert!(status.success(), "no process matches {pattern}");
}

#[test]
fn the_dashboard_shows_the_nodes_and_live_events_in_a_browser() {
    let _alone = ONE_AT_A_TIME.lock();
    let dir = tempfile::tempdir().unwrap();
    let (first, said) = (free_port(), dir.path().join("said"));
    let mut live = demo(dir.path());
    live.args(["--port", &first.to_string()]).stdin(Stdio::piped()).stdout(std::fs::File::create(&said).unwrap());
    let mut running = Running(live.spawn().unwrap());

    let screenshot = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard.png");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/dashboard.mjs");
    let url = format!("http://127.0.0.1:{first}/");
    let mut browser = Command::new("node");
    browser.arg(script).args(["--url", &url, "--nodes", "3", "--events", "1", "--timeout-s", "60", "--screenshot"]);
    let output = run_within(browser.arg(&screenshot), Duration::from_secs(120));
    assert!(output.status.success(), "{}", text(&output));
    let seen: Value = serde_json::from_slice(output.stdout.trim_ascii()).unwrap();
    assert_eq!(seen["connection"], "live", "{seen}");
    assert_eq!(seen["nodes"].as_array().unwrap().len(), 3, "{seen}");
    assert!(screenshot.is_file());

    // Somebody types who is to die.
    running.0.stdin.as_mut().unwrap().write_all(b"agent-9\nagent-3\n").unwrap();
    let said = || std::fs::read_to_string(&said).unwrap();
    wait_for("agent-3 to be killed", Duration::from_secs(20), || said().contains("agent-3 is killed").then_some(()));
    assert!(said().contains("there is no agent \"agent-9\""), "{}", said());
}

#[test]
fn a_killed_agent_is_covered_by_a_neighbour_and_the_dashboard_says_so() {
    let _alone = ONE_AT_A_TIME.lock();
    let dir = tempfile::tempdir().unwrap();
    let (first, said) = (free_port(), dir.path().join("said"));
    let mut live = demo(dir.path());
    let out = std::fs::File::create(&said).unwrap();
    let _running = Running::start(live.args(["--port", &first.to_string(), "--kill", "agent-2"]).stdout(out));

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/dashboard.mjs");
    let url = format!("http://127.0.0.1:{first}/");
    let mut browser = Command::new("node");
    browser.arg(script).args(["--url", &url, "--nodes", "3", "--liveness", "any", "--events", "1"]);
    let output =
        run_within(browser.args(["--ground", "arcade:covered", "--timeout-s", "90"]), Duration::from_secs(120));
    assert!(output.status.success(), "{}", text(&output));
    let covered =
        || std::fs::read_to_string(&said).unwrap().contains(" watches arcade in its place after ").then_some(());
    wait_for("the demo to say who watches", Duration::from_secs(20), covered);
    // What the neighbour sees there arrives, under the station's name.
    let log = std::fs::read_to_string(dir.path().join("coordinator.log")).unwrap();
    assert!(!log.contains("stale_epoch"), "{log}");
}

/// A port with two free ones after it, most likely.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().min(65_000)
}
