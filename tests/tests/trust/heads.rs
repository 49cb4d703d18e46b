//! Somebody takes the coordinator's machine and cuts off the end of its audit log: the devices remember how far it reached, and say so.

use std::fs;
use std::process::Command;
use std::time::Instant;

use picket_shared::mqtt::LinkEvent;
use picket_shared::status::Health;
use picket_simulation::soak::killer::Deed;
use picket_tests::{binary, run_within, sample_video, text, wait_for};

use super::rig::{OBSERVER, Peer, Rig, WITHIN};

/// What the device says next of which this holds.
fn until(peer: &mut Peer, is: impl Fn(&[String]) -> bool) -> Vec<String> {
    loop {
        let LinkEvent::Message { payload, .. } = peer.next() else { continue };
        let health: Health = serde_json::from_slice(&payload).unwrap();
        if is(&health.problems) {
            return health.problems;
        }
    }
}

#[test]
fn the_coordinators_own_log_is_remembered_by_devices_and_what_was_cut_off_it_is_told_until_it_is_accepted() {
    let mut rig = Rig::start();
    rig.device("edge");
    let observer = rig.client(OBSERVER);
    let mut peer = rig.connect("observer", Some(observer), &["picket/v1/yard/edge/status/health"]);
    let video = sample_video();
    let config = format!("[[camera]]\nname = \"main\"\nsource = \"file:{}\"\nrepeat = true\n", video.display());
    fs::write(rig.at("edge.toml"), config).unwrap();
    let _agent = rig.start_agent("edge", &["--config", rig.at("edge.toml").to_str().unwrap()]);
    let data = rig.at("edge");
    let audit = |args: &[&str]| {
        let mut command = Command::new(binary("picket-agent"));
        run_within(command.arg("audit").args(args).arg("--data-dir").arg(&data), WITHIN)
    };
    let log = rig.at("coordinator/audit.log");
    let lines = fs::read_to_string(&log).unwrap().lines().count();
    assert!(lines > 3, "it was written down who was admitted");
    wait_for("the device to remember all of the log", WITHIN, || {
        let said = text(&audit(&["heads"]));
        (said.contains("\"node\":\"main\"") && said.contains(&format!("\"{lines}:"))).then_some(())
    });
    let calm = |problems: &[String]| !problems.iter().any(|problem| problem.contains("audit log of the coordinator"));
    until(&mut peer, calm);

    // Its chain is whole, so it says nothing itself.
    rig.coordinator.hit(Deed::Kill, Instant::now()).unwrap();
    let first = fs::read_to_string(&log).unwrap().lines().next().unwrap().to_owned();
    fs::write(&log, first + "\n").unwrap();
    rig.coordinator.revive().unwrap();
    let problems = until(&mut peer, |problems| !calm(problems));
    let told = format!("the audit log of the coordinator main reached line {lines} and now says line 2");
    assert!(problems.iter().any(|problem| problem.contains(&told)), "{problems:?}");
    assert!(rig.command(&["audit", "verify"]).status.success(), "the coordinator itself sees nothing of it");
    let shown = text(&audit(&["show"]));
    assert!(shown.contains("head_lost") && shown.contains("coordinator main"), "{shown}");

    // Somebody looked into it.
    let accepted = audit(&["accept-coordinator", "main"]);
    assert!(accepted.status.success(), "{}", text(&accepted));
    until(&mut peer, calm);
    assert!(text(&audit(&["show"])).contains("head_accepted"));
    let unknown = audit(&["accept-coordinator", "other"]);
    assert!(
        !unknown.status.success() && text(&unknown).contains("nothing is remembered of other"),
        "{}",
        text(&unknown)
    );
}
