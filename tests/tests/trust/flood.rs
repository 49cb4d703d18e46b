//! A member that has gone mad, and one that is hostile: a flood of malformed messages beside a healthy agent, and messages
//! that are made to cost memory. Everything is refused by name and counted, nothing of it fills a log or the memory, and the
//! healthy one loses nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use picket_coordinator::store::Archive;
use picket_shared::limits::{BATCH_BYTES_MAX, HEARTBEAT_BYTES_MAX, PACKET_BYTES_MAX};
use picket_shared::mqtt::PublishError;
use picket_shared::topics::Topic;
use picket_tests::{sample_video, wait_for};

use super::forged::{Tap, refused_by_agent, refused_by_coordinator, signer};
use super::knock;
use super::rig::{OBSERVER, Peer, Rig, WITHIN, node, site};
use picket_shared::crypto::SecretKey;
use picket_shared::trust::seal::{self, Mark};

/// What a flood is: so many messages a second.
const FLOOD_PER_S: u64 = 10_000;
/// The short form; `PICKET_FLOOD_S=20`, or `make flood`, is the long one.
const FLOOD_S: u64 = 2;
/// What the coordinator and the agent may have at most, all in all.
const COORDINATOR_BYTES_MAX: u64 = 256 * 1024 * 1024;
const AGENT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Lines that a flood may add to a log: one where a count of a reason doubles.
const LINES_MAX: usize = 300;

/// CBOR and other bytes that promise or hide more than they are, with the word that refuses each.
fn bombs(bytes_max: usize) -> Vec<(&'static str, Vec<u8>)> {
    let message = |item: &[u8]| [&[1][..], item].concat();
    vec![
        ("malformed", message(&[0x81; 2000])),
        ("malformed", message(&[&[0xa1, 0x00][..]; 600].concat())),
        ("malformed", message(b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff")),
        ("malformed", message(b"\xbb\x00\x00\x00\x00\xff\xff\xff\xff")),
        ("malformed", message(b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff")),
        // The same field twice; a field twice by two encodings of its number.
        ("malformed", message(b"\xa2\x00\x07\x00\x07")),
        ("malformed", message(b"\xa2\x00\x07\x18\x00\x07")),
        ("malformed", message(b"\xa0\x00")),
        // As many tiny items as there is room for.
        (
            "malformed",
            message(&[&[0xa4, 0x00, 1, 0x01, 1, 0x02, 1, 0x03, 0x9f][..], &vec![0x40; bytes_max - 64]].concat()),
        ),
        ("newer_version", vec![2, 0xa0]),
        ("too_large", vec![1; bytes_max + 1]),
    ]
}

#[test]
fn bombs_of_a_member_and_of_whoever_has_the_orders_key_are_refused_by_name() {
    let rig = Rig::start();
    let b = rig.device("b");
    rig.device("edge");
    let orders = std::fs::read_to_string(rig.at("coordinator/authority/orders-1.key.pem")).unwrap();
    let orders = SecretKey::from_pem(&orders).unwrap();
    let mut tap = Tap::on(&rig);
    let _agent = rig.start_agent("edge", &["--source", sample_video().to_str().unwrap()]);
    wait_for("the agent to be heard", WITHIN, || tap.stats("edge"));
    let of_b = signer(b.key().unwrap());
    for (topic, bytes_max) in
        [(Topic::Events(node("b")), BATCH_BYTES_MAX), (Topic::Heartbeat(node("b")), HEARTBEAT_BYTES_MAX)]
    {
        for (number, (word, bomb)) in bombs(bytes_max).into_iter().enumerate() {
            let before = refused_by_coordinator(&rig, word);
            let what = format!("bomb {number} ({word}) on {topic:?}");
            // Said again, because a device that was enrolled this moment is a stranger for a second.
            wait_for(&what, WITHIN, || {
                tap.publish(&topic, of_b.sign(&topic, bomb.clone(), 0));
                std::thread::sleep(Duration::from_millis(300));
                (refused_by_coordinator(&rig, word) > before).then_some(())
            });
        }
    }
    // JSON, deep and wide, in the name of b and with its seal.
    let topic = Topic::Stats(node("b"));
    let deep = format!("{{\"cameras\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let wide = format!("{{\"cameras\":[{}1]}}", "1,".repeat(20_000));
    let twice = "{\"time\":1.0,\"time\":2.0}".to_owned();
    for text in [deep, wide, twice] {
        let before = refused_by_coordinator(&rig, "malformed");
        tap.publish(&topic, of_b.sign(&topic, text.into_bytes(), 0));
        wait_for("JSON", WITHIN, || (refused_by_coordinator(&rig, "malformed") > before).then_some(()));
    }

    // The agent, told by the coordinator's own key; the next true word has a higher place.
    let topic = Topic::Leases(node("edge"));
    for (number, (word, bomb)) in bombs(picket_shared::limits::LEASES_BYTES_MAX).into_iter().enumerate() {
        let before = refused_by_agent(&mut tap, word);
        wait_for(&format!("bomb {number} ({word}) on {topic:?}"), WITHIN, || {
            tap.listen();
            let newest = tap.heard.get(&topic)?.last()?.clone();
            if let Ok(opened) = seal::open(|_| Some(orders.public()), &topic.render(&site()), &newest) {
                let mark = Mark { seq: opened.mark.seq + 1, ..opened.mark };
                tap.publish(&topic, seal::seal(&orders, &topic.render(&site()), &mark, &bomb));
            }
            std::thread::sleep(Duration::from_millis(300));
            (refused_by_agent(&mut tap, word) > before).then_some(())
        });
    }

    // Larger than any packet: the link refuses it, and what a hostile client sends all the same costs him his connection.
    let large = vec![7; PACKET_BYTES_MAX + 1];
    assert_eq!(tap.peer.link.publish("picket/v1/yard/b/events", large, false, true), Err(PublishError::TooLarge));
    assert!(rig.coordinator.memory_bytes_max() < COORDINATOR_BYTES_MAX, "{}", rig.coordinator.memory_bytes_max());
}

/// Says it, however long the client needs to take it.
fn say(peer: &Peer, topic: &str, payload: &[u8]) {
    while let Err(error) = peer.link.publish(topic, payload.to_vec(), false, true) {
        assert_eq!(error, PublishError::Busy, "the flood must go on");
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn a_flood_of_garbage_beside_a_healthy_agent_costs_it_nothing() {
    let seconds: u64 = std::env::var("PICKET_FLOOD_S").map_or(FLOOD_S, |text| text.parse().unwrap());
    if seconds == FLOOD_S {
        println!("the flood lasts {FLOOD_S} s here; `make flood` makes it 20 s");
    }
    let mut rig = Rig::start();
    let b = rig.device("b");
    rig.device("edge");
    let mut flooder = rig.connect("liar", Some(rig.client(OBSERVER)), &[]);
    flooder.until_up();
    let video = sample_video();
    let frames = (100 + 10 * seconds).to_string();
    let args = ["--source", video.to_str().unwrap(), "--frames", &frames, "--drain-timeout-s", "120"];
    let mut agent = rig.start_agent("edge", &args);
    wait_for("events of the healthy one", WITHIN, || (rig.metric("events_archived_total") > 0).then_some(()));
    let lines = |rig: &Rig| rig.log("coordinator").lines().count() + rig.log("edge").lines().count();
    let before = lines(&rig);

    // To both sides: nothing at all, garbage, half a seal, a seal of nobody, one that is false, and true seals of nonsense.
    let (honest_b, stranger) = (signer(b.key().unwrap()), signer(SecretKey::generate().unwrap()));
    let text = |topic: &Topic| topic.render(&site());
    let mut messages = Vec::new();
    for topic in
        [Topic::Events(node("b")), Topic::Heartbeat(node("b")), Topic::Stats(node("b")), Topic::Ack(node("edge"))]
    {
        let nonsense = b"{\"garbage\":1}".to_vec();
        let signed = honest_b.sign(&topic, nonsense.clone(), 0);
        let mut changed = signed.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        for payload in [
            nonsense.clone(),
            vec![0xff; 200],
            vec![0xd2, 0x84, 0x41],
            stranger.sign(&topic, nonsense, 0),
            changed,
            signed,
        ] {
            messages.push((text(&topic), payload));
        }
    }
    let began = Instant::now();
    let total = FLOOD_PER_S * seconds;
    for (sent, (topic, payload)) in (0..total).zip(messages.iter().cycle()) {
        say(&flooder, topic, payload);
        // No faster than it is said to be.
        if sent.is_multiple_of(500) {
            let due = Duration::from_secs_f64(sent as f64 / FLOOD_PER_S as f64);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    let took = began.elapsed();
    let status = wait_for("the healthy one to have delivered everything", 2 * WITHIN, || agent.ended().unwrap());
    assert!(status.success(), "{}", rig.log("edge"));
    let refused = refusals(&rig);
    println!(
        "{total} malformed messages in {took:?}, {:.0} a second; the coordinator refused {refused:?} and had {} MiB at most",
        total as f64 / took.as_secs_f64(),
        rig.coordinator.memory_bytes_max() >> 20
    );
    for word in ["unsigned", "seal_malformed", "foreign_key", "signature"] {
        assert!(refused.get(word).is_some_and(|count| *count > total / 100), "{word}: {refused:?}");
    }
    let more = lines(&rig) - before;
    assert!(more < LINES_MAX, "{more} lines of log for a flood");
    assert!(rig.coordinator.memory_bytes_max() < COORDINATOR_BYTES_MAX, "{}", rig.coordinator.memory_bytes_max());
    assert!(agent.memory_bytes_max() < AGENT_BYTES_MAX);

    // What the agent stored is in the archive, once each: by the two disks, and not by a counter.
    rig.coordinator.ask_to_stop().unwrap();
    wait_for("the coordinator to stop", WITHIN, || rig.coordinator.ended().unwrap());
    let audit = Archive::open_existing(&rig.at("coordinator")).unwrap().audit().unwrap();
    let of_edge: Vec<_> = audit.iter().filter(|(id, _)| id.node == node("edge")).map(|(_, lane)| lane).collect();
    assert!(!of_edge.is_empty());
    for lane in of_edge {
        assert!(
            lane.events > 20 && lane.doubles == 0 && lane.missed == 0 && lane.absent() == 0,
            "{} events",
            lane.events
        );
    }
}

/// A line of log where a count doubles and no more, exactly: for what comes over the broker, and for who knocks at the door.
#[test]
fn what_is_refused_again_and_again_is_a_line_of_log_where_its_count_doubles() {
    let rig = Rig::start();
    let mut liar = rig.connect("liar", Some(rig.client(OBSERVER)), &[]);
    liar.until_up();
    (0..300).for_each(|_| say(&liar, "picket/v1/yard/nobody/events", b"from nobody"));
    let refused = || refusals(&rig).get("not_enrolled").copied().filter(|count| *count >= 300);
    wait_for("all to be refused", WITHIN, refused);
    let request = b"GET / HTTP/1.1\r\nHost: door\r\n\r\n";
    for _ in 0..40 {
        let answer = rig.runtime.block_on(knock::raw(rig.door_port, rig.stranger(), request)).unwrap();
        assert!(answer.contains("404"), "{answer}");
    }
    let log = rig.log("coordinator");
    let counts = |before: &str| -> Vec<u64> {
        let told = log.lines().filter_map(|line| line.split_once(before)?.1.split_once(" so far)")?.0.parse().ok());
        told.collect()
    };
    assert_eq!(counts("refused (not_enrolled, "), [1, 2, 4, 8, 16, 32, 64, 128, 256], "{log}");
    assert_eq!(counts("(no_such_path, "), [1, 2, 4, 8, 16, 32], "{log}");
}

/// How many messages the coordinator refused, by reason.
fn refusals(rig: &Rig) -> BTreeMap<String, u64> {
    let of = |line: &str| {
        let (word, count) = line.strip_prefix("picket_messages_rejected_total{reason=\"")?.split_once("\"} ")?;
        Some((word.to_owned(), count.parse().ok()?))
    };
    rig.metrics().lines().filter_map(of).collect()
}
