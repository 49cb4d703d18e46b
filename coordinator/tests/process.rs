//! The coordinator as a process, with its embedded broker, a real link, a real disk, and everything that goes wrong.

// All of this file is tests, its helpers too.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::*;
use picket_shared::codec;
use picket_shared::limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, STATUS_BYTES_MAX, WINDOW_EVENTS_MAX};
use picket_shared::mqtt::LinkEvent;
use picket_shared::topics::Topic;
use picket_shared::wire::EventBatch;

fn views() -> Vec<String> {
    [Topic::ViewSite, Topic::ViewRecent, Topic::ViewEvent, Topic::CoordinatorHealth].map(|t| t.render(&site())).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_agents_send_in_any_shape_is_archived_once_acknowledged_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(dir.path(), Ports::free());
    let mut agent = Agent::connect("gate-3", coordinator.ports, views()).await;
    agent.say(Topic::Health(node("gate-3")), health("up")).unwrap();
    // The window is 64 events: it goes out in small batches, the even ones first, and some of it again.
    let batches: Vec<u64> =
        (0..16).filter(|i| i % 2 == 1).chain((0..16).filter(|i| i % 2 == 0)).chain([3, 4, 0]).collect();
    for i in batches {
        agent.send(4 * i + 1, 4 * i + 4).unwrap();
    }
    agent.until("the whole window to be acknowledged", |agent| agent.watermark == WINDOW_EVENTS_MAX).await;

    let good = codec::encode(&EventBatch {
        boot: BOOT,
        base: 1,
        first: 1,
        events: vec![event(&node("gate-3"), 1)],
        gap: None,
    })
    .unwrap();
    let newer = [&[codec::VERSION + 1][..], &good[1..]].concat();
    for (topic, payload) in [
        (Topic::Events(node("gate-3")), b"\x01garbage".to_vec()),
        (Topic::Events(node("gate-3")), newer),
        (Topic::Events(node("gate-3")), vec![1; BATCH_BYTES_MAX + 1]),
        (Topic::Stats(node("gate-3")), vec![b' '; STATUS_BYTES_MAX + 1]),
        (Topic::Twin(node("gate-3")), b"{}".to_vec()),
    ] {
        agent.say(topic, payload).unwrap();
    }
    // Good news after bad: nothing of the above closed the connection or stopped the intake.
    agent.send(65, 66).unwrap();
    agent.until("the events after the garbage", |agent| agent.watermark == 66).await;
    for (reason, count) in [("malformed", 2), ("newer_version", 1), ("too_large", 2)] {
        assert_eq!(coordinator.metric(&format!("messages_rejected_total{{reason=\"{reason}\"}}")), count, "{reason}");
    }
    assert_eq!(coordinator.metric("events_archived_total"), 66);
    assert_eq!(coordinator.metric("events_duplicate_total"), 12);
    assert_eq!(coordinator.metric("nodes{liveness=\"up\"}"), 1);

    let seen =
        |agent: &Agent| agent.json(&Topic::ViewEvent).iter().map(|e| e["seq"].as_u64().unwrap()).collect::<Vec<_>>();
    agent.until("every event in the view", |agent| seen(agent).len() >= 66).await;
    agent
        .until("the site's view", |agent| agent.json(&Topic::ViewSite).iter().any(|site| site["events_archived"] == 66))
        .await;
    agent
        .until("the newest events", |agent| {
            agent.json(&Topic::ViewRecent).last().is_some_and(|recent| recent["events"][0]["seq"] == 66)
        })
        .await;
    let mut sequences = seen(&agent);
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=66).collect::<Vec<_>>(), "each event is shown exactly once");

    assert!(coordinator.stop().success());
    assert_archived(dir.path(), "gate-3", 66);
}

/// Sends everything up to `last`, as an agent does: a window beyond the watermark, again after silence, from the
/// watermark on after each new connection. Ends where `done` says so.
async fn deliver(agent: &mut Agent, last: u64, mut done: impl FnMut(&Agent) -> bool) {
    let until = std::time::Instant::now() + PATIENCE;
    let mut next = agent.watermark + 1;
    while !done(agent) {
        assert!(std::time::Instant::now() < until, "delivery does not end: {} of {last}", agent.watermark);
        while next <= last.min(agent.watermark + WINDOW_EVENTS_MAX) {
            let to = (next + BATCH_EVENTS_MAX as u64 - 1).min(last).min(agent.watermark + WINDOW_EVENTS_MAX);
            if agent.send(next, to).is_err() {
                break;
            }
            next = to + 1;
        }
        match agent.next().await {
            Some(LinkEvent::Message { .. }) => next = next.max(agent.watermark + 1),
            Some(LinkEvent::Up(_)) | None => next = agent.watermark + 1,
            Some(LinkEvent::Down(_)) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_mid_stream_it_goes_on_where_the_disk_says() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Ports::free();
    let acked = Arc::new(AtomicU64::new(0));
    for round in 0..12 {
        let coordinator = Coordinator::start(dir.path(), ports);
        let mut agent = Agent::connect("gate-3", ports, vec![]).await;
        agent.watermark = acked.load(Ordering::SeqCst);
        let heard = acked.clone();
        let stream = tokio::spawn(async move {
            deliver(&mut agent, u64::MAX, |agent| {
                heard.store(agent.watermark, Ordering::SeqCst);
                false
            })
            .await;
        });
        let before = acked.load(Ordering::SeqCst);
        wait_for("the stream to run", || acked.load(Ordering::SeqCst) > before + 100);
        tokio::time::sleep(Duration::from_micros(700 * round)).await;
        coordinator.kill();
        stream.abort();
        let _ = stream.await;
        let lane = &archive(dir.path(), "list")[0];
        let [events, watermark] = ["events", "watermark"].map(|key| lane[key].as_u64().unwrap());
        assert_eq!(events, watermark, "entries and watermark are one transaction");
        assert!(events >= acked.load(Ordering::SeqCst), "acknowledged, and not durable");
    }
    let coordinator = Coordinator::start(dir.path(), ports);
    let mut agent = Agent::connect("gate-3", ports, vec![]).await;
    agent.watermark = acked.load(Ordering::SeqCst);
    let last = agent.watermark + 500;
    deliver(&mut agent, last, |agent| agent.watermark == last).await;
    assert!(coordinator.stop().success());
    assert_archived(dir.path(), "gate-3", last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_archive_takes_over_from_a_lost_one_and_says_what_it_never_had() {
    let ports = Ports::free();
    let lost = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(lost.path(), ports);
    let mut agent = Agent::connect("gate-3", ports, vec![]).await;
    deliver(&mut agent, 40, |agent| agent.watermark == 40).await;
    coordinator.kill();
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(dir.path(), ports);
    deliver(&mut agent, 50, |agent| agent.watermark == 50).await;
    assert_eq!(coordinator.metric("events_missed_total{cause=\"unknown\"}"), 40);
    assert_eq!(coordinator.metric("events_archived_total"), 10);
    assert!(coordinator.stop().success());
    let lanes = archive(dir.path(), "list");
    assert_eq!((lanes[0]["missed"].as_u64(), lanes[0]["absent"].as_u64()), (Some(40), Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_node_is_down_at_once_and_the_page_is_told_where_to_look() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(dir.path(), Ports::free());
    let page = coordinator.get("/").unwrap();
    assert!(page.contains("200 OK") && page.contains("content-type: text/html"), "{page}");
    let websocket = format!("ws://127.0.0.1:{}/mqtt", coordinator.ports.websocket);
    assert!(page.contains(&format!("connect-src 'self' {websocket};")), "{page}");
    assert!(coordinator.get("/none").unwrap().contains("404"));
    let config = coordinator.get("/config.json").unwrap();
    let config: serde_json::Value = serde_json::from_str(config.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(config, serde_json::json!({ "site": "yard", "mqtt_websocket_url": websocket }));

    // What a browser says to open the WebSocket.
    let hello = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    let answer = exchange(coordinator.ports.websocket, hello).unwrap().to_lowercase();
    assert!(answer.contains("101 switching") && answer.contains("sec-websocket-protocol: mqtt"), "{answer}");

    let lost = Agent::connect("drone-1", coordinator.ports, vec![]).await;
    lost.say(Topic::Health(node("drone-1")), health("up")).unwrap();
    wait_for("the node to be up", || coordinator.metric("nodes{liveness=\"up\"}") == 1);
    // Its task ends with the runtime's next poll after this, without a goodbye: the broker sends its will.
    drop(lost);
    let mut poke = Agent::connect("gate-3", coordinator.ports, vec![Topic::Ack(node("drone-1")).render(&site())]).await;
    poke.say(Topic::Ack(node("drone-1")), b"anything".to_vec()).unwrap();
    poke.next().await;
    tokio::task::spawn_blocking(move || {
        wait_for("the node to be down", || coordinator.metric("nodes{liveness=\"down\"}") == 1);
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_broker_of_its_own_it_says_goodbye_and_leaves_a_will() {
    // The broker is another coordinator's, so that it outlives the one that is looked at.
    let (host, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = Coordinator::start(host.path(), Ports::free());
    let path = dir.path().join("coordinator.toml");
    let http = Ports::free().http;
    let text = format!(
        "site = \"mill\"\ndata_dir = {:?}\n[mqtt]\nbroker = \"mqtt://127.0.0.1:{}\"\n[http]\nlisten = \"127.0.0.1:{http}\"",
        dir.path(),
        broker.ports.mqtt
    );
    std::fs::write(&path, text).unwrap();
    let health = "picket/v1/mill/coordinator/status/health".to_owned();
    let until = std::time::Instant::now() + PATIENCE;
    let mut ear = Agent::connect("gate-3", broker.ports, vec![health.clone()]).await;
    for (signal_name, code) in [("TERM", Some(0)), ("KILL", None)] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_picket-coordinator"));
        let mut child =
            command.args(["run", "--config"]).arg(&path).stderr(std::process::Stdio::null()).spawn().unwrap();
        for expect in ["up", "down"] {
            loop {
                match ear.next().await {
                    Some(LinkEvent::Message { topic, payload }) if topic == health => {
                        let said: serde_json::Value = serde_json::from_slice(&payload).unwrap();
                        assert_eq!(said["status"], expect, "{signal_name}");
                        break;
                    }
                    _ => assert!(std::time::Instant::now() < until, "waited in vain for {expect} after {signal_name}"),
                }
            }
            if expect == "up" {
                signal(child.id(), signal_name);
            }
        }
        assert_eq!(child.wait().unwrap().code(), code);
    }
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = command(dir.path(), Ports::free());
    let mut child = command.env("NOTIFY_SOCKET", &path).spawn().unwrap();
    for expect in ["READY=1", "STOPPING=1"] {
        let mut said = [0; 64];
        let bytes = socket.recv(&mut said).unwrap();
        assert_eq!(String::from_utf8_lossy(&said[..bytes]).trim(), expect);
        signal(child.id(), "TERM");
    }
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_port_that_is_taken_is_named_with_the_key_to_change() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Ports::free();
    for (port, key) in [(ports.mqtt, "--mqtt-port"), (ports.websocket, "--websocket-port"), (ports.http, "--http-port")]
    {
        let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        let output = run_to_end(command(dir.path(), ports));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(71), "{said}");
        assert!(said.contains(&port.to_string()) && said.contains(key) && !said.contains("panicked"), "{said}");
    }
}

#[test]
fn a_wrong_configuration_ends_with_its_own_code_and_the_nearest_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("coordinator.toml");
    for (text, expect) in [
        ("sight = \"yard\"", "did you mean \"site\"?"),
        ("[mqtt]\nport = -5", "line 2"),
        ("[http]\nlisten = \"here\"", "line 2"),
        ("[mqtt]\nembedded = true\nport = 0", "choose a port"),
    ] {
        std::fs::write(&path, text).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_picket-coordinator"));
        command.args(["run", "--config"]).arg(&path);
        let output = run_to_end(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains(expect) && said.contains("coordinator.toml"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_in_use_and_one_that_is_not_there_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(dir.path(), Ports::free());
    let output = run_to_end(command(dir.path(), Ports::free()));
    assert_eq!(output.status.code(), Some(74));
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use by another process"));
    drop(coordinator);
    let mut list = std::process::Command::new(env!("CARGO_BIN_EXE_picket-coordinator"));
    list.args(["archive", "list", "--data-dir"]).arg(dir.path().join("none"));
    let output = run_to_end(list);
    assert_eq!(output.status.code(), Some(74));
    assert!(!dir.path().join("none").exists());
}

/// A small file system of its own; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(options: &str) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path());
        let output = run_to_end(mount);
        if !output.status.success() {
            // Not by `eprintln!`, which the test harness keeps back of a test that passes.
            let why = String::from_utf8_lossy(&output.stderr);
            let _ = std::io::stderr().write_all(format!("SKIPPED: no tmpfs can be mounted here: {why}\n").as_bytes());
            return None;
        }
        Some(SmallDisk(dir))
    }

    fn path(&self) -> &std::path::Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").args(["-l"]).arg(self.path()).status();
    }
}

#[test]
fn a_read_only_disk_and_a_full_one_are_named_at_the_start() {
    if let Some(disk) = SmallDisk::mount("ro") {
        let output = run_to_end(command(disk.path(), Ports::free()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(74), "{said}");
        assert!(said.contains("read-only") && !said.contains("panicked"), "{said}");
    }
    if let Some(disk) = SmallDisk::mount("size=64k") {
        let _ = std::fs::write(disk.path().join("ballast"), vec![0; 128 << 10]);
        let output = run_to_end(command(disk.path(), Ports::free()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(74), "{said}");
        assert!(said.contains("is full; free some space"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_loses_nothing_and_goes_on_when_there_is_space() {
    let Some(disk) = SmallDisk::mount("size=24m") else { return };
    let coordinator = Coordinator::start(disk.path(), Ports::free());
    let mut agent = Agent::connect("gate-3", coordinator.ports, views()).await;
    let last = 400;
    deliver(&mut agent, last, |agent| agent.watermark >= 100).await;
    let ballast = disk.path().join("ballast");
    let _ = std::fs::write(&ballast, vec![0; 24 << 20]);
    // Sends on until the archive has failed; what is acknowledged then stands still.
    let failed = |c: &Coordinator| c.metric("archive_commits_failed_total") > 1;
    let mut more = last;
    while !failed(&coordinator) {
        more += 400;
        assert!(more < 200_000, "the disk does not fill up");
        deliver(&mut agent, more, |agent| agent.watermark >= more || failed(&coordinator)).await;
    }
    let health = coordinator.get("/healthz").unwrap();
    assert!(health.contains("503") && health.contains("is full; free some space"), "{health}");
    std::fs::remove_file(&ballast).unwrap();
    deliver(&mut agent, more, |agent| agent.watermark == more).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(coordinator.get("/healthz").unwrap().contains("200 OK"));
    agent
        .until("the problem to be told over MQTT, and to be gone", |agent| {
            let told = agent.json(&Topic::CoordinatorHealth);
            let problems = |health: &serde_json::Value| health["problems"].as_array().map_or(0, Vec::len);
            told.iter().any(|health| problems(health) == 1) && told.last().is_some_and(|health| problems(health) == 0)
        })
        .await;
    assert!(coordinator.stop().success());
    assert_archived(disk.path(), "gate-3", more);
}

/// `cargo test --release -p picket-coordinator --test process -- --ignored --nocapture` prints what this disk sustains.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a check"]
async fn events_a_second_with_durable_group_commit() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(dir.path(), Ports::free());
    let (agents, last) = (8, std::env::var("PICKET_BENCH_EVENTS").map_or(5_000, |n| n.parse().unwrap()));

    let mut agent = Agent::connect("one", coordinator.ports, vec![]).await;
    let mut waits = Vec::new();
    let before = coordinator.metric("archive_bytes");
    for seq in 1..=500 {
        let sent = std::time::Instant::now();
        agent.send(seq, seq).unwrap();
        agent.until("the ack", |agent| agent.watermark == seq).await;
        waits.push(sent.elapsed());
    }
    waits.sort_unstable();
    let grown = coordinator.metric("archive_bytes") - before;
    println!(
        "one at a time: event to ack p50 {:?}, p99 {:?}, {} bytes on disk an event",
        waits[250],
        waits[495],
        grown / 500
    );

    let began = std::time::Instant::now();
    let mut work = tokio::task::JoinSet::new();
    for i in 0..agents {
        let ports = coordinator.ports;
        work.spawn(async move {
            let mut agent = Agent::connect(&format!("n{i}"), ports, vec![]).await;
            deliver(&mut agent, last, |agent| agent.watermark == last).await;
        });
    }
    work.join_all().await;
    let seconds = began.elapsed().as_secs_f64();
    let commits = coordinator.metric("archive_commits_total") - 500;
    let bytes = coordinator.metric("archive_bytes") - before - grown;
    let events = agents * last;
    println!(
        "{events} events of {} bytes from {agents} agents in {seconds:.1} s: {:.0} events/s, {commits} commits of {:.0}, {} bytes on disk an event, {} duplicates",
        event(&node("n0"), 1).len(),
        events as f64 / seconds,
        events as f64 / commits as f64,
        bytes / events,
        coordinator.metric("events_duplicate_total"),
    );
    let size = std::time::Instant::now();
    assert!(coordinator.stop().success());
    let listed = archive(dir.path(), "list");
    assert!(listed.iter().all(|lane| lane["doubles"] == 0 && lane["absent"] == 0));
    println!("stopped and audited in {:.1} s", size.elapsed().as_secs_f64());
}
