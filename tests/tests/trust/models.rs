//! What a device is told to run, from the owner's keys to the device, with the real programs and a real broker: what is not
//! signed as the root asks goes nowhere, and what is arrives again after every loss, with its time renewed and under every key.

use std::fs;
use std::process::{Command, Output};
use std::time::Instant;

use picket_shared::calendar::unix_s;
use picket_shared::codec;
use picket_shared::exit::Exit;
use picket_shared::ids::StationId;
use picket_shared::model::{Assignment, Facts, Outcome, Root, Trusted, verify};
use picket_shared::mqtt::LinkEvent;
use picket_shared::topics::Topic;
use picket_shared::trust::identity::Identity;
use picket_shared::trust::verifier::Verifier;
use picket_simulation::soak::killer::Deed;
use picket_tests::{binary, run_within, text, wait_for};

use super::ended_by;
use super::rig::{Peer, Rig, WITHIN, node, site};

/// A device that hears what it is assigned, and judges it as an agent does.
struct Device {
    peer: Peer,
    verifier: Verifier,
    identity: Identity,
    trusted: Trusted,
}

impl Device {
    fn new(rig: &Rig, identity: Identity) -> Device {
        let topic = Topic::ModelAssignment(node("a")).render(&site());
        let mut peer = rig.connect("a", Some(identity.tls()), &[&topic]);
        peer.until_up();
        let root = identity.model_root().unwrap().expect("the door told the root");
        let trusted = Trusted::begin(Root::anchor(&root).unwrap());
        let verifier = Verifier::closed(site(), &identity.membership().unwrap().orders);
        Device { peer, verifier, identity, trusted }
    }

    /// Judges the next assignment that is not older than this.
    fn next(&mut self, number: u64) -> (Assignment, Outcome) {
        let topic = Topic::ModelAssignment(node("a"));
        loop {
            let LinkEvent::Message { payload, .. } = self.peer.next() else { continue };
            let message = match self.verifier.open(&topic, &payload, unix_s()) {
                Ok(message) => message.into_owned(),
                Err(("replayed", _)) => continue,
                Err(refusal) => panic!("{refusal:?}"),
            };
            let assignment: Assignment = codec::decode(&message).unwrap();
            if assignment.number < number {
                continue;
            }
            let (station, orders) = (StationId::new("gate").unwrap(), self.identity.membership().unwrap().orders.key);
            let facts = Facts {
                node: &node("a"),
                station: &station,
                orders: Some(&orders),
                arch: std::env::consts::ARCH,
                providers: &["cpu".to_owned()],
                memory_bytes: 1 << 30,
                runtime_api: 24,
                learns: None,
            };
            let outcome = verify(&self.trusted, &assignment, &facts, unix_s());
            self.trusted = outcome.trusted.clone();
            return (assignment, outcome);
        }
    }
}

/// The owner's machine: no coordinator, no configuration.
fn owner(args: &[&str]) -> Output {
    run_within(Command::new(binary("picket-coordinator")).arg("model").args(args), WITHIN)
}

/// Beside the running coordinator.
fn at_site(rig: &Rig, args: &[&str]) -> Output {
    rig.command(&[&["model"], args].concat())
}

#[track_caller]
fn fine(output: Output) -> String {
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

#[test]
fn a_release_reaches_its_device_as_its_owner_signed_it_and_in_no_other_way() {
    let mut rig = Rig::start();
    let at = |name: &str| rig.at(name).to_str().unwrap().to_owned();
    let (one, two, three) = (at("one.pem"), at("two.pem"), at("three.pem"));
    let (root, next, model, release) = (at("root.json"), at("root-2.json"), at("model.onnx"), at("release.json"));
    for key in [&one, &two, &three] {
        fine(owner(&["keygen", key]));
    }
    fine(owner(&["root", "new", "--key", &one, "--key", &two, "--out", &root]));
    fs::write(&model, b"not looked into before a device does").unwrap();
    fine(owner(&["pack", &model, "--name", "person", "--counter", "1", "--out", &release]));

    // Nothing is assigned that enough of the owner's keys did not sign; the coordinator's own counts for nothing here.
    ended_by(
        &at_site(&rig, &["assign", "a", "person", "1", "--station", "gate"]),
        Exit::Denied,
        "there is no root yet",
    );
    fine(at_site(&rig, &["publish", &root]));
    let publish = ["publish", release.as_str(), "--file", model.as_str()];
    ended_by(&at_site(&rig, &publish), Exit::Denied, "it is not signed");
    fine(owner(&["sign", &release, "--key", &one]));
    ended_by(&at_site(&rig, &publish), Exit::Denied, "signed by 1 of the 2 keys");
    let orders = rig.at("coordinator/authority/orders-1.key.pem");
    fine(owner(&["sign", &release, "--key", orders.to_str().unwrap()]));
    ended_by(&at_site(&rig, &publish), Exit::Denied, "signed by 1 of the 2 keys");
    fine(owner(&["sign", &release, "--key", &two]));
    fine(at_site(&rig, &publish));
    ended_by(&at_site(&rig, &["assign", "a", "person", "2"]), Exit::Denied, "no release person 2");

    let mut device = Device::new(&rig, rig.device("a"));
    fine(at_site(&rig, &["assign", "a", "person", "1", "--station", "gate"]));
    let (first, outcome) = device.next(0);
    let manifest = outcome.verdict.unwrap().release.unwrap();
    assert_eq!((manifest.name.as_str(), manifest.counter, manifest.file.length), ("person", 1, 36));
    assert!(first.expires_s > unix_s());

    // A broker that forgot it is told again, by a coordinator that was killed and has read it from its disk.
    rig.restart_broker();
    let (again, outcome) = device.next(0);
    assert_eq!((again.number, outcome.verdict.is_ok()), (first.number, true));
    assert!(rig.coordinator.hit(Deed::Kill, Instant::now()).unwrap());
    rig.coordinator.revive().unwrap();
    rig.restart_broker();
    let (again, outcome) = device.next(0);
    assert_eq!((again.number, outcome.verdict.is_ok()), (first.number, true));

    // A new root comes with an assignment of its own, once the release is signed for it.
    let public = fs::read_to_string(&root).unwrap();
    assert!(public.contains("payloadType"));
    let shown: serde_json::Value = serde_json::from_str(&fine(owner(&["root", "show", &root]))).unwrap();
    let gone = shown["members"][0].as_str().unwrap();
    fine(owner(&[
        "root",
        "rotate",
        &root,
        "--remove",
        gone,
        "--key",
        &one,
        "--key",
        &two,
        "--threshold",
        "1",
        "--out",
        &next,
    ]));
    fine(at_site(&rig, &["publish", &next]));
    let (renewed, outcome) = device.next(first.number + 1);
    assert!(outcome.verdict.is_ok(), "{:?}", outcome.verdict);
    assert_eq!((renewed.roots.len(), device.trusted.root.version), (2, 2));

    // Another orders key seals the same, and devices that follow it take it.
    fine(rig.command(&["authority", "rotate"]));
    fine(rig.renew("a", true));
    device.verifier = Verifier::closed(site(), &device.identity.membership().unwrap().orders);
    let sealed_by_it = wait_for("the assignment under the new key", WITHIN, || {
        let LinkEvent::Message { payload, .. } = device.peer.next() else { return None };
        device
            .verifier
            .open(&Topic::ModelAssignment(node("a")), &payload, unix_s())
            .ok()
            .map(|message| message.into_owned())
    });
    assert_eq!(codec::decode::<Assignment>(&sealed_by_it).unwrap().number, renewed.number);

    // Taken back, from a coordinator that runs and sees it: by an order that is numbered and sealed like every other.
    let said = fine(rig.command(&["model", "revoke", "person", "1"]));
    assert!(said.contains("1 nodes go back"), "{said}");
    let (_, outcome) = device.next(renewed.number + 1);
    assert_eq!(outcome.verdict.unwrap().release, None);
    let status = fine(rig.command(&["model", "status"]));
    assert!(status.contains("\"fresh\":true") && !status.contains("\"counter\":1"), "{status}");
    ended_by(&rig.command(&["model", "assign", "a", "person", "1"]), Exit::Denied, "was revoked");

    // Keys are read by nobody else, and are in no log.
    let logs = ["coordinator", "mosquitto"].map(|name| rig.log(name)).concat();
    for key in [&one, &two] {
        let secret = fs::read_to_string(key).unwrap().lines().nth(1).unwrap().to_owned();
        assert!(!logs.contains(&secret));
    }
}
