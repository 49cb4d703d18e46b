//! Agent and coordinator over Debian's mosquitto, as a real site has them, and through its sudden death.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use picket_agent::store::AgentStore;
use picket_coordinator::archive::What;
use picket_coordinator::store::Archive;
use picket_tests::{Running, binary, sample_video, wait_for};

const WITHIN: Duration = Duration::from_secs(90);

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn mosquitto(config: &Path, port: u16) -> Running {
    let running = Running::start(Command::new("mosquitto").arg("-c").arg(config).stderr(Stdio::null()));
    wait_for("mosquitto", WITHIN, || TcpStream::connect(("127.0.0.1", port)).ok());
    running
}

#[test]
fn every_event_arrives_once_though_the_broker_is_killed_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let (port, http) = (free_port(), free_port());
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("mosquitto.conf"), format!("listener {port} 127.0.0.1\nallow_anonymous true\n")).unwrap();
    let config = format!(
        "data_dir = \"{}\"\n[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\n[http]\nlisten = \"127.0.0.1:{http}\"\n",
        at("coordinator").display()
    );
    std::fs::write(at("coordinator.toml"), config).unwrap();

    let mut broker = mosquitto(&at("mosquitto.conf"), port);
    let mut coordinator = Command::new(binary("picket-coordinator"));
    coordinator.args(["run", "--config"]).arg(at("coordinator.toml")).stderr(Stdio::null());
    let coordinator = Running::start(&mut coordinator);
    let mut agent = Command::new(binary("picket-agent"));
    agent.args(["run", "--frames", "100", "--drain-timeout-s", "60", "--broker", &format!("mqtt://127.0.0.1:{port}")]);
    agent.arg("--data-dir").arg(at("agent")).arg("--source").arg(sample_video());
    let log = std::fs::File::create(at("agent.log")).unwrap();
    let mut agent = Running::start(agent.stderr(log));

    std::thread::sleep(Duration::from_secs(4));
    broker.0.kill().unwrap();
    broker.0.wait().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let _broker = mosquitto(&at("mosquitto.conf"), port);

    let status = wait_for("the agent to have delivered", WITHIN, || agent.0.try_wait().unwrap());
    let said = std::fs::read_to_string(at("agent.log")).unwrap();
    assert!(status.success(), "{said}");
    assert!(said.matches("connected to").count() >= 2, "the agent lost the broker and found it again: {said}");
    drop(coordinator);

    let store = AgentStore::look(&at("agent").join("store")).unwrap();
    let stored: BTreeSet<_> = store.events().map(|event| event.unwrap()).map(|e| (e.boot, e.seq, e.bytes)).collect();
    let archive = Archive::open_existing(&at("coordinator")).unwrap();
    let archived: Vec<_> = archive
        .entries()
        .map(|entry| entry.unwrap().1)
        .map(|entry| match entry.what {
            What::Event { seq, bytes } => (entry.boot, seq, bytes.into_vec()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(stored.len() > 5, "{said}");
    assert_eq!(archived.len(), stored.len(), "none is lost and none is double");
    assert_eq!(archived.into_iter().collect::<BTreeSet<_>>(), stored);
}
