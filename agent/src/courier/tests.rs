//! The shell by itself: what comes to it goes on, or is counted.

use super::*;
use crate::store::Config;
use picket_shared::duty::Duty;
use picket_shared::event::Precision;
use picket_shared::ids::{SiteId, StationId};
use picket_shared::status::Twin;

struct Blind;

impl Watcher for Blind {
    fn facts(&mut self, _: &Recorder, _: &Node) -> Facts {
        Facts::default()
    }
}

fn identity(boot: Boot) -> Identity {
    let detector = DetectorTwin {
        model: "none".into(),
        layout: "none".into(),
        provider: "none".into(),
        precision: Precision::Fp32,
        workers: 1,
        threads: 0,
        runtime: "none".into(),
        passed_over: BTreeMap::new(),
    };
    let station = StationId::new("gate").unwrap();
    let twin = Twin { version: "0".into(), arch: "none".into(), station, cameras: vec![], detector };
    let duty = Duty { station: twin.station.clone(), settings: String::new(), model: String::new(), need_fps: 1 };
    Identity { node: NodeId::new("edge").unwrap(), boot, salt: 1, pid: 1, twin, duty }
}

fn none() -> Credentials {
    Credentials::none(SiteId::new("yard").unwrap())
}

#[tokio::test]
async fn a_message_on_a_foreign_topic_is_counted_and_goes_no_further() {
    let dir = tempfile::tempdir().unwrap();
    let opened = AgentStore::open(dir.path(), &Config::default(), 1, 0).unwrap();
    let identity = identity(opened.1.boot);
    let (site, fallback) = (SiteId::new("yard").unwrap(), vec![]);
    let route = Route { site, broker: "mqtt://127.0.0.1:1".to_owned().try_into().unwrap(), fallback, tls: None };
    let mut courier = Courier::start(Instant::now(), route, identity, none(), opened, Blind).unwrap();
    for (topic, input) in [("picket/v1/yard/edge/ack", true), ("picket/v1/mill/edge/ack", false), ("else", false)] {
        let event = LinkEvent::Message { topic: topic.into(), payload: vec![] };
        let taken = courier.of_link(event).unwrap();
        assert_eq!(matches!(taken, Input::Message(..)), input, "{topic}");
        courier.step(taken);
    }
    assert_eq!(courier.node.rejected("topic"), 2);
}

#[tokio::test]
async fn an_order_to_move_reaches_the_platform_and_its_failure_the_health() {
    let dir = tempfile::tempdir().unwrap();
    let opened = AgentStore::open(dir.path(), &Config::default(), 1, 0).unwrap();
    let (site, fallback) = (SiteId::new("yard").unwrap(), vec![]);
    let route = Route { site, broker: "mqtt://127.0.0.1:1".to_owned().try_into().unwrap(), fallback, tls: None };
    let mut courier = Courier::start(Instant::now(), route, identity(opened.1.boot), none(), opened, Blind).unwrap();
    let exec = vec!["/bin/false".to_owned()];
    courier.carried_by(Platform::start(&crate::platform::Config { exec, ..Default::default() }).unwrap());
    let leave = |count| Order::Leave(StationId::new("mill").unwrap(), picket_shared::duty::Epoch::new(1, count));
    courier.perform(Effect::Duty(leave(2)));
    courier.perform(Effect::Duty(leave(1)));
    courier.platform.drain().await;
    let Some(Input::Facts(facts)) = courier.perform(Effect::Heartbeat) else { panic!() };
    assert!(facts.problems[0].contains("not told to leave (station mill): /bin/false ended with"), "{facts:?}");
    assert_eq!(facts.refused, [("platform_old_epoch".to_owned(), 1)].into());
}
