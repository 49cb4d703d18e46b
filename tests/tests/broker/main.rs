//! What brokers and networks do to a delivery: one fault a test, over Debian's mosquitto, with real processes. After each one
//! every stored event is in the archive exactly once, and no window was ever exceeded.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod couriers;
mod fallback;
mod neighbours;
mod platform;
mod proxy;
mod rig;

use std::time::Duration;

use picket_shared::codec;
use picket_shared::limits::PACKET_BYTES_MAX;
use picket_shared::mqtt::RECEIVED_PACKET_BYTES_MAX;
use picket_shared::topics::Topic;
use picket_shared::wire::Ack;
use picket_simulation::soak::killer::Deed;
use picket_simulation::soak::site::MOSQUITTO;
use picket_simulation::soak::victim::Victim;

use proxy::Proxy;
use rig::{Rig, WITHIN, node, publish, said_within};

/// A broker without limits of its own.
const OPEN: &str = "listener 1883\nallow_anonymous true\n";
const UP: &str = "connected to";

/// One outbox, a fault in the middle of its work, and more work after it.
fn nothing_is_lost(mosquitto: &str, trouble: impl FnOnce(&mut Rig)) {
    let mut rig = Rig::start(mosquitto);
    rig.outbox("edge", rig.site.mqtt_port);
    rig.until_archived(100);
    trouble(&mut rig);
    rig.until_archived(100);
    rig.finish();
}

/// As [`nothing_is_lost`], with a network between outbox and broker.
fn nothing_is_lost_over(trouble: impl FnOnce(&mut Rig, &Proxy)) {
    let mut rig = Rig::start(MOSQUITTO);
    let proxy = Proxy::start(rig.site.mqtt_port);
    rig.outbox("edge", proxy.port);
    rig.until_archived(100);
    trouble(&mut rig, &proxy);
    rig.until_archived(100);
    rig.finish();
}

fn stop_and_start_the_broker(rig: &mut Rig) {
    let before = rig.said("edge", UP);
    rig.broker.ask_to_stop().unwrap();
    picket_tests::wait_for("mosquitto to stop", WITHIN, || rig.broker.ended().unwrap());
    rig.broker = Victim::start(rig.site.mosquitto()).unwrap();
    rig.until_said("edge", UP, before);
}

#[test]
fn a_broker_that_restarts_and_has_forgotten_everything() {
    nothing_is_lost(MOSQUITTO, |rig| {
        stop_and_start_the_broker(rig);
        stop_and_start_the_broker(rig);
        assert!(rig.said("edge", "closed the connection") >= 2, "{}", rig.log("edge"));
    });
}

#[test]
fn a_broker_that_restarts_and_remembers_old_sessions_and_old_acks() {
    let dir = tempfile::tempdir().unwrap();
    let place = format!("user root\npersistence true\npersistence_location {}/\n", dir.path().display());
    nothing_is_lost(&format!("{OPEN}{place}"), |rig| {
        stop_and_start_the_broker(rig);
        rig.until_archived(50);
        stop_and_start_the_broker(rig);
    });
    assert!(dir.path().join("mosquitto.db").is_file(), "it did remember");
}

#[test]
fn a_broker_that_is_killed_three_times() {
    nothing_is_lost(MOSQUITTO, |rig| {
        for _ in 0..3 {
            let before = rig.said("edge", UP);
            assert!(rig.broker.hit(Deed::Kill, std::time::Instant::now()).unwrap());
            rig.broker.revive().unwrap();
            rig.until_said("edge", UP, before);
        }
    });
}

#[test]
fn a_link_that_stands_and_carries_nothing() {
    nothing_is_lost_over(|rig, proxy| {
        proxy.swallow();
        rig.until_said("edge", "answers no more, though the connection stands", 0);
        rig.until_said("edge", "does not answer", 0);
        proxy.heal();
        rig.until_said("edge", UP, 1);
    });
}

#[test]
fn a_broker_that_stands_still_until_its_nodes_have_given_it_up() {
    nothing_is_lost(MOSQUITTO, |rig| {
        let forever = std::time::Instant::now() + WITHIN;
        assert!(rig.broker.hit(Deed::Freeze, forever).unwrap());
        rig.until_said("edge", "answers no more, though the connection stands", 0);
        rig.broker.revive().unwrap();
        rig.until_said("edge", UP, 1);
    });
}

#[test]
fn a_network_of_a_few_kib_a_second_costs_no_memory() {
    nothing_is_lost_over(|rig, proxy| {
        let memory = |rig: &Rig| rig.account("edge").memory_bytes_max;
        picket_tests::wait_for("the memory to be measured", WITHIN, || (memory(rig) > 0).then_some(()));
        let before = memory(rig);
        // Fifty events a second make about 8 KiB.
        proxy.throttle(4 * 1024);
        rig.until_archived(200);
        let after = memory(rig);
        assert!(after < before + 16 * 1024 * 1024, "{before} bytes before, {after} after");
        proxy.heal();
    });
}

#[test]
fn a_megabyte_to_either_side_is_refused_and_costs_no_connection() {
    nothing_is_lost(OPEN, |rig| {
        let (big, site, port) = (vec![1; 1024 * 1024], rig.site.site.clone(), rig.site.mqtt_port);
        for topic in [Topic::Ack(node()), Topic::Events(node()), Topic::Health(node())] {
            assert!(publish(port, &topic.render(&site), &big, false));
        }
        let too_large = "messages_rejected_total{reason=\"too_large\"}";
        picket_tests::wait_for("the coordinator to count both", WITHIN, || (rig.metric(too_large) == 2).then_some(()));
        let refused = |rig: &Rig| rig.heard().stats.and_then(|stats| stats.rejected.get("too_large").copied());
        picket_tests::wait_for("the agent to count both", WITHIN, || (refused(rig) == Some(2)).then_some(()));
        rig.until_archived(50);
        assert_eq!((rig.said("edge", UP), rig.said("coordinator", UP)), (1, 1));
    });
}

#[test]
fn a_retained_megabyte_is_refused_and_is_no_endless_loop() {
    let mut rig = Rig::start(OPEN);
    let (big, site, port) = (vec![1; 1024 * 1024], rig.site.site.clone(), rig.site.mqtt_port);
    for topic in [Topic::Ack(node()), Topic::Twin(node())] {
        assert!(publish(port, &topic.render(&site), &big, true));
    }
    rig.coordinator.hit(Deed::Kill, std::time::Instant::now()).unwrap();
    rig.coordinator.revive().unwrap();
    // Before the edge says anything that takes the place of what is retained.
    rig.until_said("coordinator", "a message of 1048576 bytes", 0);
    rig.outbox("edge", port);
    rig.until_archived(100);
    assert_eq!((rig.said("edge", UP), rig.said("coordinator", UP)), (1, 2));
    assert_eq!(rig.said("edge", "a message of 1048576 bytes"), 1);
    rig.finish();
}

#[test]
fn a_retained_message_beyond_every_limit_is_named_and_waited_for() {
    let mut rig = Rig::start(OPEN);
    let (topic, port) = (Topic::Ack(node()).render(&rig.site.site), rig.site.mqtt_port);
    // Its first ack would take the message's place.
    rig.coordinator.hit(Deed::Kill, std::time::Instant::now()).unwrap();
    assert!(publish(port, &topic, &vec![1; RECEIVED_PACKET_BYTES_MAX + 1], true));
    rig.outbox("edge", port);
    let sentence = format!("at most {RECEIVED_PACKET_BYTES_MAX} are taken; find who publishes it");
    rig.until_said("edge", &sentence, 2);
    // With the pause that doubles, and not as fast as it can.
    assert!(said_within(&rig, &["edge"], &sentence, Duration::from_secs(4)) <= 5);
    // What a person then does: clear it.
    assert!(publish(port, &topic, &[], true));
    rig.coordinator.revive().unwrap();
    rig.until_archived(100);
    rig.finish();
}

#[test]
fn the_shipped_broker_lets_nothing_oversize_in() {
    let limit = MOSQUITTO.lines().find_map(|line| line.strip_prefix("max_packet_size ")).unwrap();
    assert_eq!(limit.parse(), Ok(PACKET_BYTES_MAX), "the configuration states our limit");
    nothing_is_lost(MOSQUITTO, |rig| {
        let (topic, port) = (Topic::Ack(node()).render(&rig.site.site), rig.site.mqtt_port);
        assert!(publish(port, &topic, &vec![1; PACKET_BYTES_MAX - 64 - topic.len()], false));
        assert!(!publish(port, &topic, &vec![1; PACKET_BYTES_MAX], true), "it must be disconnected");
        rig.until_archived(50);
        let refused = |rig: &Rig| rig.heard().stats.map(|stats| stats.rejected);
        picket_tests::wait_for("the one that fits", WITHIN, || refused(rig)?.get("too_large").map(|_| ()));
        assert_eq!(refused(rig).unwrap()["too_large"], 1);
        assert_eq!(rig.said("edge", UP), 1);
    });
}

#[test]
fn acks_that_are_old_or_beyond_what_was_ever_stored() {
    nothing_is_lost(MOSQUITTO, |rig| {
        let (topic, port) = (Topic::Ack(node()).render(&rig.site.site), rig.site.mqtt_port);
        let boot = rig.heard().boot.unwrap();
        for (watermark, holes) in [(5, vec![]), (1, vec![(3, 4)]), (u64::MAX >> 1, vec![]), (0, vec![])] {
            let ack = codec::encode(&Ack { boot, watermark, holes }).unwrap();
            assert!(publish(port, &topic, &ack, true));
        }
        let beyond = |rig: &Rig| rig.heard().stats.and_then(|stats| stats.rejected.get("ack_beyond").copied());
        picket_tests::wait_for("the false ack to be counted", WITHIN, || (beyond(rig) == Some(1)).then_some(()));
    });
}

#[test]
fn a_subscription_that_the_access_rules_forbid_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let rules = |subscribe: bool| {
        let acl = |kind: &str, allow: bool| serde_json::json!({"acltype": kind, "topic": "#", "allow": allow});
        let role = serde_json::json!({"rolename": "all", "acls": [acl("subscribePattern", subscribe), acl("publishClientSend", true),
            acl("publishClientReceive", true), acl("unsubscribePattern", true)]});
        let group = serde_json::json!({"groupname": "anonymous", "roles": [{"rolename": "all"}]});
        serde_json::json!({"roles": [role], "groups": [group], "anonymousGroup": "anonymous", "clients": []})
            .to_string()
    };
    let file = dir.path().join("rules.json");
    let plugin = "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so";
    let conf = format!("{OPEN}user root\nplugin {plugin}\nplugin_opt_config_file {}\n", file.display());
    std::fs::write(&file, rules(true)).unwrap();
    nothing_is_lost(&conf, |rig| {
        std::fs::write(&file, rules(false)).unwrap();
        stop_and_start_the_broker(rig);
        let mine =
            [Topic::Ack, Topic::Health, Topic::Leases, Topic::Standby, Topic::ModelAssignment].map(|of| of(node()));
        let topics = mine.iter().chain([&Topic::CoordinatorHealth]).map(|topic| topic.render(&rig.site.site));
        let topics = topics.collect::<Vec<_>>().join(", ");
        rig.until_said("edge", &format!("lets picket-soak-edge not listen to {topics}; check its access rules"), 0);
        std::fs::write(&file, rules(true)).unwrap();
        stop_and_start_the_broker(rig);
    });
}

#[test]
fn two_agents_of_one_name_do_not_spin_and_lose_nothing() {
    let mut rig = Rig::start(MOSQUITTO);
    for name in ["edge", "twin"] {
        rig.outbox(name, rig.site.mqtt_port);
    }
    for name in ["edge", "twin"] {
        rig.until_said(name, "another client took that name", 1);
    }
    // Each throws the other out; without the growing pause this happens hundreds of times.
    assert!(said_within(&rig, &["edge", "twin"], UP, Duration::from_secs(8)) <= 24);
    let forever = std::time::Instant::now() + WITHIN;
    assert!(rig.process("twin").hit(Deed::Kill, forever).unwrap());
    rig.until_archived(100);
    rig.finish();
}
