//! A broker that keeps back, repeats, puts elsewhere and invents: what a device loses by it, and what it believes. The device's
//! connection goes through somebody who has the broker's own certificate.

use std::collections::BTreeSet;
use std::time::Duration;

use picket_coordinator::store::Archive;
use picket_shared::codec;
use picket_shared::crypto::SecretKey;
use picket_shared::topics::{Form, Speaker, Topic};
use picket_shared::trust::seal::{self, Mark};
use picket_shared::wire::Ack;
use picket_simulation::soak::victim::Victim;
use picket_tests::{sample_video, wait_for};

use super::between::{Between, Fate, Way};
use super::forged::{Tap, refused_by_agent, refused_by_coordinator, signer};
use super::rig::{Rig, WITHIN, node, site};

/// An agent whose broker is this one, and that watches until it is told to stop.
fn watching(rig: &Rig, between: &Between, args: &[&str]) -> Victim {
    let (url, video) = (between.url(), sample_video());
    let fixed = ["--broker", &url, "--source", video.to_str().unwrap()];
    rig.start_agent("edge", &[&fixed[..], args].concat())
}

fn acked(tap: &mut Tap) -> u64 {
    tap.stats("edge").map_or(0, |stats| stats.events_acked)
}

#[test]
fn a_broker_that_keeps_acks_back_or_lies_about_delivery_costs_no_event() {
    let mut rig = Rig::start();
    let between = Between::stand(&rig, &rig.device("edge"));
    let mut tap = Tap::on(&rig);
    // Nothing that the archive says gets through.
    between.rule(|_, topic| if matches!(topic, Topic::Ack(_)) { Fate::Swallow } else { Fate::Pass });
    let mut agent = watching(&rig, &between, &["--frames", "500", "--drain-timeout-s", "120"]);
    wait_for("events to be in the archive, and their acks to be kept back", WITHIN, || {
        (rig.metric("events_archived_total") > 5 && between.swallowed(Way::ToDevice) > 0).then_some(())
    });
    let again = rig.metric("events_duplicate_total");
    wait_for("what has no ack to be sent again", WITHIN, || {
        (rig.metric("events_duplicate_total") > again).then_some(())
    });
    assert_eq!(acked(&mut tap), 0, "the broker's word is no ack");

    // Every event is taken with a receipt, and goes nowhere.
    between.rule(|_, topic| if matches!(topic, Topic::Events(_)) { Fate::Swallow } else { Fate::Pass });
    let swallowed = || between.swallowed(Way::ToBroker);
    wait_for("events to be taken and lost", WITHIN, || (swallowed() > 0).then_some(()));
    let lost = swallowed();
    wait_for("what the archive has not to be sent again", WITHIN, || (swallowed() > lost).then_some(()));

    // An honest broker again: what was kept back or lost is in the archive, once each, by the two disks.
    between.rule(|_, _| Fate::Pass);
    let status = wait_for("everything to be delivered", 2 * WITHIN, || agent.ended().unwrap());
    assert!(status.success(), "{}", rig.log("edge"));
    rig.coordinator.ask_to_stop().unwrap();
    wait_for("the coordinator to stop", WITHIN, || rig.coordinator.ended().unwrap());
    let audit = Archive::open_existing(&rig.at("coordinator")).unwrap().audit().unwrap();
    let of_edge: Vec<_> = audit.iter().filter(|(id, _)| id.node == node("edge")).map(|(_, lane)| lane).collect();
    assert!(!of_edge.is_empty());
    for lane in of_edge {
        assert!(lane.events > 20 && lane.doubles == 0 && lane.missed == 0 && lane.absent() == 0, "{}", lane.events);
    }
}

/// What the coordinator says to a device by signed messages, whoever hears them.
fn orders() -> Vec<Topic> {
    let to_device = |topic: &Topic| topic.speaker() == Speaker::Coordinator && topic.sealed() == Some(Form::Cbor);
    Topic::one_of_each(&node("edge")).into_iter().filter(to_device).collect()
}

#[test]
fn an_order_that_comes_again_late_elsewhere_or_from_an_epoch_that_is_over_is_refused_by_name() {
    let rig = Rig::start();
    let (edge, b) = (rig.device("edge"), rig.device("b"));
    let between = Between::stand(&rig, &edge);
    let mut tap = Tap::on(&rig);
    let key = std::fs::read_to_string(rig.at("coordinator/authority/orders-1.key.pem")).unwrap();
    let key = SecretKey::from_pem(&key).unwrap();
    let _agent = watching(&rig, &between, &[]);
    let leases = Topic::Leases(node("edge"));
    wait_for("leases, and events that were acknowledged", WITHIN, || {
        (between.seen(&leases).len() > 3 && acked(&mut tap) > 0).then_some(())
    });
    // As the coordinator would say it, at this place of its count.
    let newest = between.seen(&leases).last().unwrap().1.clone();
    let run = seal::open(|_| Some(key.public()), &leases.render(&site()), &newest).unwrap().mark.run;
    let sealed = |topic: &Topic, run: u64, seq: u64, message: &[u8]| {
        let mark = Mark { run, seq, issued_s: now_s(), expires_s: topic.is_order().then(|| now_s() + 60) };
        seal::seal(&key, &topic.render(&site()), &mark, message)
    };
    let refused = |tap: &mut Tap, word: &str| refused_by_agent(tap, word);
    let until = |tap: &mut Tap, word: &str, count: u64, what: &str| {
        wait_for(&format!("{what}: {count} of {word}"), WITHIN, || (refused(tap, word) >= count).then_some(()));
    };

    // Each kind: a newer one, which counts whatever is in it, and then the one before it. As a broker does that held it back.
    // Far above the true count, of which nothing may be believed to be old afterwards: so in an epoch that never was.
    let all = orders();
    assert!(all.len() >= 8, "{all:?}");
    for (topic, far) in all.iter().zip(1u64..) {
        // What the coordinator itself says goes on in its own run.
        let said_now = between.seen(topic).last().map(|(_, bytes)| bytes.clone());
        if let Some(said) = said_now {
            let before = refused(&mut tap, "replayed");
            let first = between.seen(topic).first().unwrap().1.clone();
            if first != said {
                between.say(topic, &first);
                until(&mut tap, "replayed", before + 1, &format!("an old one on {topic:?}"));
            }
            continue;
        }
        let before = refused(&mut tap, "replayed");
        between.say(topic, &sealed(topic, run, far * 10 + 1, b"\x01\xa0"));
        between.say(topic, &sealed(topic, run, far * 10, b"\x01\xa0"));
        until(&mut tap, "replayed", before + 1, &format!("a late one on {topic:?}"));
        // An epoch that is over, with a count as high as it likes.
        between.say(topic, &sealed(topic, run - 1, u64::MAX, b"\x01\xa0"));
        until(&mut tap, "replayed", before + 2, &format!("one of an earlier epoch on {topic:?}"));
    }
    let before = refused(&mut tap, "replayed");
    between.say(&leases, &sealed(&leases, run - 1, u64::MAX, b"\x01\xa0"));
    until(&mut tap, "replayed", before + 1, "leases of an earlier epoch");

    // Each kind on the topic of each other, and the same kind as it was said to another device.
    let before = refused(&mut tap, "signature");
    let mut said = 0;
    for topic in &all {
        for other in all.iter().filter(|other| *other != topic) {
            between.say(other, &sealed(topic, run, u64::MAX - 1, b"\x01\xa0"));
            said += 1;
        }
    }
    for topic in Topic::one_of_each(&node("b")).iter().filter(|topic| topic.speaker() == Speaker::Coordinator) {
        let mine = all.iter().find(|mine| std::mem::discriminant(*mine) == std::mem::discriminant(topic));
        if let Some(mine) = mine.filter(|mine| *mine != topic) {
            between.say(mine, &sealed(topic, run, u64::MAX - 1, b"\x01\xa0"));
            said += 1;
        }
    }
    until(&mut tap, "signature", before + said, "crosswise");

    // An ack that the archive gave to b, and one for edge that says more than edge ever stored.
    let (mine, of_b) = (Topic::Ack(node("edge")), Topic::Ack(node("b")));
    let boot = tap.stats("edge").unwrap().boot;
    let everything = codec::encode(&Ack { boot, watermark: u64::MAX - 1, holes: vec![] }).unwrap();
    let before = refused(&mut tap, "signature");
    between.say(&mine, &sealed(&of_b, run, u64::MAX - 1, &everything));
    until(&mut tap, "signature", before + 1, "an ack for b");
    let owed = tap.stats("edge").unwrap().events_acked;
    let by_b = signer(b.key().unwrap());
    let before = refused(&mut tap, "foreign_key");
    between.say(&mine, &by_b.sign(&mine, everything.clone(), now_s()));
    until(&mut tap, "foreign_key", before + 1, "an ack that b invents");
    assert_eq!(refused(&mut tap, "ack_beyond"), 0, "none of them was even read");
    // Whoever has the coordinator's key can say more, and no more is believed than can be true.
    let (_, truth) = between.seen(&mine).pop().unwrap();
    let mark = seal::open(|_| Some(key.public()), &mine.render(&site()), &truth).unwrap().mark;
    between.say(&mine, &seal::seal(&key, &mine.render(&site()), &mark, &everything));
    until(&mut tap, "ack_beyond", 1, "an ack of more than there is");

    // After all that the device takes what is true.
    wait_for("more events to be acknowledged", WITHIN, || (acked(&mut tap) >= owed + 10).then_some(()));
}

#[test]
fn a_will_that_is_said_too_early_or_again_is_undone_by_the_next_heartbeat_or_refused() {
    let rig = Rig::start();
    let between = Between::stand(&rig, &rig.device("edge"));
    let mut tap = Tap::on(&rig);
    let mut agent = watching(&rig, &between, &[]);
    let nodes = |rig: &Rig, word: &str| rig.metric(&format!("nodes{{liveness=\"{word}\"}}"));
    let up = |rig: &Rig| wait_for("edge to be up", WITHIN, || (nodes(rig, "up") == 1).then_some(()));
    up(&rig);
    wait_for("events to be acknowledged", WITHIN, || (acked(&mut tap) > 0).then_some(()));
    let health = Topic::Health(node("edge"));
    let (topic, first) = between.wills().pop().expect("the device left a will");
    assert_eq!(topic, health);

    // While it lives: its own words, signed by itself, and so a cover may begin. It goes on all the same, and is up again.
    let before = acked(&mut tap);
    tap.publish(&health, first.clone());
    up(&rig);
    wait_for("events to be acknowledged", WITHIN, || (acked(&mut tap) > before + 3).then_some(()));

    // The device comes back by another connection, with another will: the first one is old from then on, and so is refused.
    assert!(agent.hit(picket_simulation::soak::killer::Deed::Kill, std::time::Instant::now()).unwrap());
    agent.revive().unwrap();
    wait_for("another connection", WITHIN, || (between.wills().len() > 1).then_some(()));
    wait_for("it to be heard of", WITHIN, || {
        tap.listen();
        let states = tap.heard.get(&health)?;
        states.last().filter(|said| String::from_utf8_lossy(said).contains("\"up\"")).map(drop)
    });
    up(&rig);
    let before = refused_by_coordinator(&rig, "replayed");
    tap.publish(&health, first.clone());
    wait_for("the old will to be refused", WITHIN, || {
        (refused_by_coordinator(&rig, "replayed") > before).then_some(())
    });
    // One that was changed, to say of another boot what it says, is not the device's.
    let (_, second) = between.wills().pop().unwrap();
    assert_ne!(first, second);
    let before = refused_by_coordinator(&rig, "signature");
    let forged = String::from_utf8(second).unwrap().replacen("\"time\":1", "\"time\":2", 1);
    tap.publish(&health, forged.into_bytes());
    wait_for("the forged will to be refused", WITHIN, || {
        (refused_by_coordinator(&rig, "signature") > before).then_some(())
    });
    assert_eq!(nodes(&rig, "up"), 1);
    let distinct: BTreeSet<_> = between.wills().into_iter().map(|(_, will)| will).collect();
    assert_eq!(distinct.len(), between.wills().len(), "each connection has its own");
    std::thread::sleep(Duration::from_millis(1));
}

fn now_s() -> u64 {
    picket_shared::calendar::unix_s()
}
