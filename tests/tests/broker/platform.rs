//! A flight that is ordered by leases: the real coordinator with a site plan, two couriers, and the platform's program and MQTT
//! order of the one that stands in.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use picket_agent::platform::Config;
use picket_shared::duty::How;
use picket_shared::mqtt::{self, LinkEvent, LinkOptions};
use picket_shared::platform::{Action, PlatformOrder};
use picket_shared::topics::Topic;
use picket_simulation::soak::site::{MOSQUITTO, Site};
use picket_simulation::soak::victim::Victim;
use picket_tests::{binary, wait_for};

use crate::couriers::{Parts, id, start, url};
use crate::rig::WITHIN;

const PLAN: &str = "
[[station]]
name = \"a\"
node = \"a\"
[[station.cover]]
node = \"b\"
how = \"flight\"
goal = \"52.0116,4.3571,30\"
[[station.cover.camera]]
name = \"belly\"
source = \"synthetic:\"
[[station]]
name = \"b\"
node = \"b\"
";
const HOOK: &str = "#!/bin/sh
echo \"$PICKET_ACTION $PICKET_STATION $PICKET_HOME $PICKET_HOW $PICKET_GOAL $PICKET_EPOCH\" >>\"$1\"
";

#[test]
fn who_stands_in_by_flight_goes_under_a_lease_and_leaves_when_the_home_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::set(dir.path(), binary("picket-simulation").parent().unwrap(), MOSQUITTO).unwrap();
    let config = dir.path().join("coordinator.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + PLAN).unwrap();
    let _broker = Victim::start(site.mosquitto()).unwrap();
    let _coordinator = Victim::start(site.coordinator()).unwrap();
    let (hook, out) = (dir.path().join("hook"), dir.path().join("flights"));
    std::fs::write(&hook, HOOK).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let exec = vec![hook.display().to_string(), out.display().to_string()];
    let platform = Config { exec, mqtt: true, ..Config::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (link, mut said) = runtime.block_on(async {
        let filters = vec![Topic::Platform(id("b")).render(&site.site)];
        let (client_id, will) = ("controller".into(), None);
        mqtt::open(LinkOptions { broker: url(&site), client_id, will, filters, payload_bytes_max: 10_000, tls: None })
    });
    let mut orders = |action: Action| loop {
        match runtime.block_on(async { tokio::time::timeout(WITHIN, said.recv()).await.unwrap().unwrap() }) {
            LinkEvent::Message { payload, .. } => {
                let order: PlatformOrder = serde_json::from_slice(&payload).unwrap();
                assert_eq!(order.action, action, "{order:?}");
                return order;
            }
            LinkEvent::Up(_) | LinkEvent::Down(_) => {}
        }
    };

    let a = start("a", dir.path(), &site, Parts::default());
    let b = start("b", dir.path(), &site, Parts { platform, ..Parts::default() });
    wait_for("b to know what to cover", WITHIN, || b.seen.lock().unwrap().prepared.then_some(()));
    // A station is granted to its home before anybody can stand in for it.
    wait_for("a's lease", WITHIN, || a.seen.lock().unwrap().online.then_some(()));
    std::thread::sleep(std::time::Duration::from_secs(3));
    drop(a);
    let fell = Instant::now();
    let go = orders(Action::Go);
    println!("ordered to go {:?} after the home fell", fell.elapsed());
    assert_eq!((go.station.as_str(), go.how, go.goal.as_deref()), ("a", Some(How::Flight), Some("52.0116,4.3571,30")));
    let back = start("a", dir.path(), &site, Parts::default());
    let leave = orders(Action::Leave);
    assert_eq!((leave.epoch, leave.home), (go.epoch, Some(id("a"))));
    let expect = |action: &str| format!("{action} a a flight 52.0116,4.3571,30 {}\n", go.epoch);
    let done = || std::fs::read_to_string(&out).is_ok_and(|done| done == expect("go") + &expect("leave"));
    wait_for("the program to have done both", WITHIN, || done().then_some(()));
    drop((back, b, link));
}
