//! The whole agent, detector and all, and the coordinator over Debian's mosquitto with the shipped configuration, through the
//! broker's sudden death. `broker/` has every other fault, on agents without cameras.
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::{Duration, Instant};

use picket_shared::ids::NodeId;
use picket_simulation::demo::audit::{self, Stored};
use picket_simulation::soak::killer::Deed;
use picket_simulation::soak::site::{MOSQUITTO, Site};
use picket_simulation::soak::victim::Victim;
use picket_tests::{Running, binary, sample_video, wait_for};

const WITHIN: Duration = Duration::from_secs(120);

#[test]
fn every_event_arrives_once_though_the_broker_is_killed_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let site = Site::set(dir.path(), binary("picket-agent").parent().unwrap(), MOSQUITTO).unwrap();
    let mut broker = Victim::start(site.mosquitto()).unwrap();
    let coordinator = Victim::start(site.coordinator()).unwrap();
    let mut agent = Command::new(binary("picket-agent"));
    agent.args(["run", "--frames", "100", "--drain-timeout-s", "60", "--broker", &site.broker(site.mqtt_port)]);
    agent.args(["--site", site.site.as_str(), "--node", "edge"]);
    agent.arg("--data-dir").arg(at("agent")).arg("--source").arg(sample_video());
    let log = std::fs::File::create(at("agent.log")).unwrap();
    let mut agent = Running::start(agent.stderr(log));

    let said = || std::fs::read_to_string(at("agent.log")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let archived = || runtime.block_on(site.metrics()).map_or(0, |metrics| metrics.get("events_archived_total"));
    wait_for("the first event in the archive", WITHIN, || (archived() > 0).then_some(()));
    assert!(broker.hit(Deed::Kill, Instant::now()).unwrap());
    wait_for("the agent to notice", WITHIN, || said().contains("closed the connection").then_some(()));
    broker.revive().unwrap();
    let status = wait_for("the agent to have delivered", WITHIN, || agent.0.try_wait().unwrap());
    assert!(status.success(), "{}", said());
    assert!(said().matches("connected to").count() >= 2, "the agent found the broker again: {}", said());
    drop(coordinator);

    let stored = Stored { name: "agent".into(), node: NodeId::new("edge").unwrap(), dir: at("agent/store") };
    let audit = audit::compare(&site.archive(), &[stored], |_, _, _| {}).unwrap();
    assert!(audit.balances() && audit.agents["agent"].stored > 5, "{audit:?}");
}
