//! Two brokers: everybody goes to the second when the first dies, and back when it has come back, and nothing is lost on the
//! way. Coordinator and outboxes are real processes that speak with each other about none of it.

use std::time::{Duration, Instant};

use picket_shared::ids::NodeId;
use picket_shared::mqtt::{self, BrokerUrl, LinkEvent, LinkOptions};
use picket_shared::status::Health;
use picket_shared::topics::Topic;
use picket_simulation::soak::killer::Deed;
use picket_simulation::soak::site::MOSQUITTO;

use crate::rig::{Rig, WITHIN, node};

/// Who has to find each other at one broker.
const ALL: [&str; 3] = ["coordinator", "edge", "far"];

/// For longer than any test.
fn for_good() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}

/// Two brokers, the coordinator and two nodes, at the first broker; and how often each was connected to each of them.
fn two_brokers() -> (Rig, [String; 2]) {
    let mut rig = Rig::start_two(MOSQUITTO);
    let port = rig.site.mqtt_port;
    let second = rig.second.as_ref().unwrap().0;
    rig.outbox("edge", port);
    rig.outbox_of("far", NodeId::new("far").unwrap(), port);
    rig.until_archived(100);
    let up = [port, second].map(|port| format!("connected to {}", rig.site.broker(port)));
    (rig, up)
}

/// Waits until everybody has been connected there once more than `before`; how long the last one took.
fn all_at(rig: &Rig, up: &str, before: [usize; 3]) -> Duration {
    let began = Instant::now();
    for (name, before) in ALL.into_iter().zip(before) {
        rig.until_said(name, up, before);
    }
    began.elapsed()
}

fn count(rig: &Rig, up: &str) -> [usize; 3] {
    ALL.map(|name| rig.said(name, up))
}

/// What the node's retained health says at a broker.
fn problems(rig: &Rig, port: u16) -> Vec<String> {
    let topic = Topic::Health(node()).render(&rig.site.site);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let heard = runtime.block_on(async {
        let (_link, mut events) = mqtt::open(LinkOptions {
            broker: BrokerUrl::try_from(rig.site.broker(port)).unwrap(),
            client_id: "reader".into(),
            will: None,
            filters: vec![topic],
            payload_bytes_max: 100_000,
            tls: None,
        });
        let health = async {
            loop {
                if let Some(LinkEvent::Message { payload, .. }) = events.recv().await {
                    return serde_json::from_slice::<Health>(&payload).unwrap().problems;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), health).await.ok()
    });
    heard.unwrap_or_default()
}

#[test]
fn everybody_goes_to_the_second_broker_and_back_to_the_first_and_nothing_is_lost() {
    let (mut rig, [first, second]) = two_brokers();
    let second_port = rig.second.as_ref().unwrap().0;
    assert_eq!((count(&rig, &second), rig.metric("problems")), ([0; 3], 0));
    assert!(rig.broker.hit(Deed::Kill, for_good()).unwrap());
    println!("all at the second broker after {:?}", all_at(&rig, &second, [0; 3]));
    rig.until_archived(100);
    let said =
        || problems(&rig, second_port).iter().any(|problem| problem.contains("is used in its place")).then_some(());
    picket_tests::wait_for("the node's health to say it", WITHIN, said);
    assert_eq!(rig.metric("problems"), 1, "and the coordinator's does");

    let before = count(&rig, &first);
    rig.broker.revive().unwrap();
    println!("all back at the first after {:?}", all_at(&rig, &first, before));
    rig.until_archived(100);
    picket_tests::wait_for("nothing to be wrong", WITHIN, || (rig.metric("problems") == 0).then_some(()));

    // The other way round: the second dies while nobody is there, and the first after it.
    let before = count(&rig, &second);
    assert!(rig.second.as_mut().unwrap().1.hit(Deed::Kill, for_good()).unwrap());
    rig.until_archived(100);
    assert!(rig.broker.hit(Deed::Kill, for_good()).unwrap());
    rig.until_said("edge", "cannot be reached", 1);
    rig.second.as_mut().unwrap().1.revive().unwrap();
    println!("all at the second, which came back alone, after {:?}", all_at(&rig, &second, before));
    rig.until_archived(100);
    rig.finish();
}

#[test]
fn a_first_broker_that_stands_still_is_left_too_and_taken_again_only_when_it_answers_for_a_while() {
    let (mut rig, [first, second]) = two_brokers();
    assert!(rig.broker.hit(Deed::Freeze, for_good()).unwrap());
    println!("all at the second broker after {:?}", all_at(&rig, &second, [0; 3]));
    rig.until_archived(100);
    let before = count(&rig, &first);
    rig.broker.revive().unwrap();
    // It answers, and not for long: nobody moves.
    std::thread::sleep(Duration::from_secs(3));
    assert!(rig.broker.hit(Deed::Freeze, for_good()).unwrap());
    rig.until_archived(200);
    assert_eq!(count(&rig, &first), before, "{}", rig.log("edge"));
    rig.broker.revive().unwrap();
    println!("all back at the first after {:?}", all_at(&rig, &first, before));
    rig.until_archived(100);
    rig.finish();
}
