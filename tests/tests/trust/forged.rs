//! A broker that lies: whoever can publish anything under any topic says again what was said, says it elsewhere, changes it, or
//! says it by a key of his own. Each is refused by name and counted on both sides, and what is true goes on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use picket_shared::codec;
use picket_shared::crypto::SecretKey;
use picket_shared::mqtt::LinkEvent;
use picket_shared::status::Stats;
use picket_shared::topics::{Form, Speaker, Topic};
use picket_shared::trust::seal;
use picket_shared::trust::signer::Signer;
use picket_shared::wire::Ack;
use picket_tests::{sample_video, wait_for};

use super::rig::{OBSERVER, Peer, Rig, WITHIN, node, site};

/// What passes over the broker, by topic, the newest last.
pub struct Tap {
    pub peer: Peer,
    pub heard: BTreeMap<Topic, Vec<Vec<u8>>>,
}

impl Tap {
    /// Hears everything that is said at the site.
    pub fn on(rig: &Rig) -> Tap {
        let mut peer = rig.connect("liar", Some(rig.client(OBSERVER)), &["picket/v1/yard/#"]);
        peer.until_up();
        Tap { peer, heard: BTreeMap::new() }
    }

    pub fn listen(&mut self) {
        while let Some(event) = self.peer.pending() {
            if let LinkEvent::Message { topic, payload } = event
                && let Ok(topic) = Topic::parse(&site(), &topic)
            {
                let of_topic = self.heard.entry(topic).or_default();
                if of_topic.last() != Some(&payload) {
                    of_topic.push(payload);
                }
            }
        }
    }

    pub fn publish(&self, topic: &Topic, payload: Vec<u8>) {
        self.peer.link.publish(&topic.render(&site()), payload, false, false).unwrap();
    }

    /// The newest statistics of a node.
    pub fn stats(&mut self, name: &str) -> Option<Stats> {
        self.listen();
        let said = self.heard.get(&Topic::Stats(node(name)))?.last()?;
        serde_json::from_slice(said).ok()
    }
}

pub fn refused_by_coordinator(rig: &Rig, word: &str) -> u64 {
    rig.metric(&format!("messages_rejected_total{{reason=\"{word}\"}}"))
}

pub fn refused_by_agent(tap: &mut Tap, word: &str) -> u64 {
    tap.stats("edge").and_then(|stats| stats.rejected.get(word).copied()).unwrap_or(0)
}

pub fn signer(key: SecretKey) -> Signer {
    // As far ahead as a run can be: nobody may say that it is only late.
    Signer::new(key, site(), u64::MAX)
}

#[test]
fn what_a_broker_forges_repeats_or_changes_is_refused_by_name_on_both_sides() {
    let rig = Rig::start();
    let (edge, b) = (rig.device("edge"), rig.device("b"));
    let orders = std::fs::read_to_string(rig.at("coordinator/authority/orders-1.key.pem")).unwrap();
    let mut tap = Tap::on(&rig);
    let _agent = rig.start_agent("edge", &["--source", sample_video().to_str().unwrap()]);
    let said = |topic: &Topic| topic.sealed().is_some();
    let of_edge: Vec<Topic> = Topic::one_of_each(&node("edge")).into_iter().filter(said).collect();
    // Of models nobody speaks where none is assigned, nor of heads where nothing is learned; pictures have a test of their own.
    let unspoken = |topic: &Topic| {
        matches!(topic, Topic::Platform(_) | Topic::Standby(_) | Topic::CoordinatorHealth)
            || matches!(topic, Topic::ModelAssignment(_) | Topic::ModelWant(_) | Topic::ModelState(_) | Topic::Blob(_))
            || matches!(topic, Topic::PictureOrder(..) | Topic::PictureState(..) | Topic::PicturePart(..))
            || matches!(topic, Topic::LearnUpdate(_) | Topic::LearnSamples(_) | Topic::LearnAck(_))
            || matches!(topic, Topic::LearnHead(_) | Topic::LearnDelta(_) | Topic::LearnLabels(_))
    };
    let spoken = |topic: &&Topic| !unspoken(topic);
    wait_for("both sides to have said something of each kind, and some of it twice", WITHIN, || {
        tap.listen();
        let heard = |topic: &&Topic| tap.heard.get(*topic).map_or(0, Vec::len);
        let twice = [Topic::Heartbeat(node("edge")), Topic::Events(node("edge")), Topic::Leases(node("edge"))];
        let all = of_edge.iter().filter(spoken).all(|topic| heard(&topic) > 0);
        (all && twice.iter().all(|topic| heard(&topic) > 2)).then_some(())
    });

    let honest_b = signer(b.key().unwrap());
    let stranger = signer(SecretKey::generate().unwrap());
    for topic in of_edge.iter().filter(spoken) {
        let by_coordinator = topic.speaker() == Speaker::Coordinator;
        let newest = tap.heard[topic].last().unwrap().clone();
        let message = seal::strip(&newest).unwrap().into_owned();
        let mut cases = vec![
            ("unsigned", message.clone()),
            ("foreign_key", honest_b.sign(topic, message.clone(), 0)),
            ("foreign_key", stranger.sign(topic, message.clone(), 0)),
            ("signature", changed(topic, &newest)),
            ("seal_malformed", [&[0xd2, 0x84], &newest[..]].concat()),
        ];
        let older = tap.heard[topic].first().unwrap();
        cases.extend((tap.heard[topic].len() > 1).then(|| ("replayed", older.clone())));
        let elsewhere = of_edge
            .iter()
            .filter(spoken)
            .find(|other| *other != topic && other.speaker() == topic.speaker() && other.sealed() == topic.sealed());
        cases.extend(elsewhere.map(|other| ("signature", tap.heard[other].last().unwrap().clone())));
        for (word, forged) in cases {
            let count = |rig: &Rig, tap: &mut Tap| match by_coordinator {
                true => refused_by_agent(tap, word),
                false => refused_by_coordinator(rig, word),
            };
            let before = count(&rig, &mut tap);
            tap.publish(topic, forged);
            wait_for(&format!("{word} on {topic:?}"), WITHIN, || (count(&rig, &mut tap) > before).then_some(()));
        }
    }

    // Somebody else's name, and a name that nobody has.
    let events = Topic::Events(node("c"));
    tap.publish(&events, honest_b.sign(&events, vec![1], 0));
    wait_for("a name that is not enrolled", WITHIN, || {
        (refused_by_coordinator(&rig, "not_enrolled") > 0).then_some(())
    });

    // After all that, what is true goes on, and nothing that was forged was believed.
    goes_on(&mut tap);
    assert_eq!(refused_by_agent(&mut tap, "ack_beyond"), 0);

    // A revoked device is nobody from then on, whatever the broker still lets in.
    let heartbeat = Topic::Heartbeat(node("b"));
    assert!(rig.command(&["revoke", "b"]).status.success());
    wait_for("b to be refused", WITHIN, || {
        tap.publish(&heartbeat, honest_b.sign(&heartbeat, vec![1], 0));
        (refused_by_coordinator(&rig, "revoked_key") > 0).then_some(())
    });

    // So is a key that signed orders before.
    assert!(rig.command(&["authority", "rotate"]).status.success());
    let retired = signer(SecretKey::from_pem(&orders).unwrap());
    let topic = Topic::Ack(node("edge"));
    let ack =
        codec::encode(&Ack { boot: tap.stats("edge").unwrap().boot, watermark: u64::MAX, holes: vec![] }).unwrap();
    wait_for("the agent to have followed to the new key", WITHIN, || {
        (edge.membership().unwrap().orders.number == 2).then_some(())
    });
    tap.publish(&topic, retired.sign(&topic, ack, 0));
    wait_for("the old key to be refused", WITHIN, || (refused_by_agent(&mut tap, "retired_key") > 0).then_some(()));
    goes_on(&mut tap);
    assert_eq!(refused_by_agent(&mut tap, "ack_beyond"), 0, "it was not even read");
}

/// Ten more events are acknowledged.
fn goes_on(tap: &mut Tap) {
    let acked = |tap: &mut Tap| tap.stats("edge").map_or(0, |stats| stats.events_acked);
    let before = acked(tap);
    let since = Instant::now();
    wait_for("events to be acknowledged", WITHIN, || (acked(tap) >= before + 10).then_some(()));
    println!("ten more events were acknowledged within {:?}", Duration::max(since.elapsed(), Duration::ZERO));
}

/// A message with one bit of what it says turned round.
fn changed(topic: &Topic, sealed: &[u8]) -> Vec<u8> {
    let mut changed = sealed.to_vec();
    match topic.sealed() {
        Some(Form::Json) => {
            // A digit of the time: the object stays an object.
            let at = sealed.windows(7).position(|window| window == b"\"time\":");
            let at = at.map_or_else(|| sealed.iter().position(|byte| *byte == b'"').unwrap() + 1, |at| at + 7);
            changed[at] ^= 1;
        }
        _ => {
            // The signature is the last 64 bytes, and behind two of head the payload ends.
            let at = changed.len() - 64 - 3;
            changed[at] ^= 1;
        }
    }
    changed
}
