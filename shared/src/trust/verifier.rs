//! Whether a message was said by who may say it, for the first time, and in time. It knows keys and what was heard; it
//! decides nothing about what the message asks for. Pure.
//!
//! Each signer numbers what it says on a topic by its run and a count. A lower number than the last one is a message of
//! before, said again by somebody who kept it. The same number again is not refused: a broker says the retained message on
//! every connection, and every receiver takes a message twice as once.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::orders::OrdersKey;
use super::roster::{Member, Roster};
use super::seal::{self, Opened, SealError};
use crate::crypto::{KeyId, PublicKey};
use crate::ids::{NodeId, SiteId};
use crate::topics::{Speaker, Topic};

/// Why a message is refused: a constant word, and a sentence.
pub type Refusal = (&'static str, String);

/// Who may say what.
#[derive(Debug, Clone, Default)]
struct Keys {
    /// The key that signs orders.
    orders: Option<PublicKey>,
    /// Those that did.
    retired: Vec<KeyId>,
    devices: BTreeMap<NodeId, Member>,
}

/// What one side checks by.
#[derive(Debug)]
pub struct Verifier {
    site: SiteId,
    /// Nothing where this side belongs to no site's authority: then seals prove nothing to it, and are passed over.
    keys: Option<Keys>,
    /// The last place that was heard, by key and topic. Only of keys that may speak there, so it is bounded by them.
    heard: BTreeMap<(KeyId, Topic), (u64, u64)>,
    /// The latest time that the orders key vouched for.
    trusted_s: u64,
}

impl Verifier {
    /// One that knows no keys, and takes every message as it comes.
    pub fn open_to_all(site: SiteId) -> Verifier {
        Verifier { site, keys: None, heard: BTreeMap::new(), trusted_s: 0 }
    }

    /// One that takes only what is signed, and so far from the key that signs orders.
    pub fn closed(site: SiteId, orders: &OrdersKey) -> Verifier {
        let keys = Keys { orders: Some(orders.key), ..Keys::default() };
        Verifier { keys: Some(keys), ..Verifier::open_to_all(site) }
    }

    /// Whether it takes only what is signed.
    pub fn is_closed(&self) -> bool {
        self.keys.is_some()
    }

    /// From here on these may speak, and nobody else.
    pub fn admit(&mut self, roster: &Roster) {
        if let Some(keys) = &mut self.keys {
            let (newest, before) = roster.orders.keys().split_last().expect("a chain is checked to have one");
            let retired = before.iter().map(|key| key.key.id()).collect();
            *keys = Keys { orders: Some(newest.key), retired, devices: roster.devices.clone() };
        }
        let speaks = |id: KeyId| self.keys.iter().any(|keys| keys.knows(id));
        self.heard = std::mem::take(&mut self.heard).into_iter().filter(|((id, _), _)| speaks(*id)).collect();
    }

    /// The highest place heard of this topic, to be kept over a restart.
    pub fn place(&self, topic: &Topic) -> Option<(u64, u64)> {
        let counted = topic.counted_as();
        self.heard.iter().filter(|((_, of), _)| *of == counted).map(|(_, place)| *place).max()
    }

    /// What an earlier run had heard from the orders key on this topic.
    pub fn recall(&mut self, topic: Topic, place: (u64, u64)) {
        if let Some(key) = self.keys.as_ref().and_then(|keys| keys.orders) {
            self.heard.insert((key.id(), topic.counted_as()), place);
        }
    }

    /// The time by which orders end: this side's calendar, or the latest that the orders key vouched for.
    pub fn time_s(&self, now_s: u64) -> u64 {
        now_s.max(self.trusted_s)
    }

    /// The message itself, if its speaker may say it here and now. `now_s` is this side's calendar.
    pub fn open<'a>(&mut self, topic: &Topic, bytes: &'a [u8], now_s: u64) -> Result<Cow<'a, [u8]>, Refusal> {
        let Some(speaker) = topic.sealed().map(|_| topic.speaker()) else { return Ok(bytes.into()) };
        let Some(keys) = &self.keys else {
            return seal::strip(bytes).map_err(|error| ("seal_malformed", format!("{topic:?}: {error}")));
        };
        let may = keys.of(&speaker)?;
        let text = topic.render(&self.site);
        let opened = match seal::open(|id| may.filter(|key| key.id() == id), &text, bytes) {
            Ok(opened) => opened,
            Err(error) => return Err((keys.word(error), format!("{text}: {error}"))),
        };
        let Opened { key, mark, payload } = opened;
        let place = (mark.run, mark.seq);
        let counted = topic.counted_as();
        let last = self.heard.get(&(key, counted.clone())).copied();
        if let Some(last) = last.filter(|last| place < *last && topic.is_numbered()) {
            return Err(("replayed", format!("{text}: message {} of run {}, after {last:?}", mark.seq, mark.run)));
        }
        // A device may not make it late for others: the time is the coordinator's.
        let vouched_s = if topic.speaker() == Speaker::Coordinator { mark.issued_s } else { 0 };
        self.trusted_s = self.trusted_s.max(vouched_s);
        let now_s = self.time_s(now_s);
        if let Some(expired_s) = mark.expires_s.filter(|expires_s| *expires_s <= now_s) {
            return Err(("expired", format!("{text}: it was an order until {expired_s}, and now is {now_s}")));
        }
        self.heard.insert((key, counted), place);
        Ok(payload)
    }
}

impl Keys {
    /// The key that a speaker signs with.
    fn of(&self, speaker: &Speaker) -> Result<Option<PublicKey>, Refusal> {
        match speaker {
            Speaker::Coordinator => Ok(self.orders),
            Speaker::Operator(name) => Err(("not_enrolled", format!("the operator {name} has no key at this site"))),
            Speaker::Node(node) => match self.devices.get(node) {
                None => Err(("not_enrolled", format!("{node} is not enrolled at this site"))),
                Some(member) => Ok(member.key),
            },
        }
    }

    fn knows(&self, id: KeyId) -> bool {
        let keys = self.devices.values().filter_map(|member| member.key).chain(self.orders);
        keys.map(|key| key.id()).any(|known| known == id)
    }

    /// What is wrong, more exactly than a seal alone can say.
    fn word(&self, error: SealError) -> &'static str {
        match error {
            SealError::Missing => "unsigned",
            SealError::Malformed => "seal_malformed",
            SealError::Signature(_) => "signature",
            SealError::Key(id) if self.retired.contains(&id) => "retired_key",
            SealError::Key(id) if self.devices.values().any(|member| member.revoked.contains(&id)) => "revoked_key",
            SealError::Key(_) => "foreign_key",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::orders::OrdersChain;
    use super::super::signer::{ORDER_LIFE_S, Signer};
    use super::*;
    use crate::crypto::SecretKey;
    use crate::ids::RequestId;

    const NOW_S: u64 = 1_800_000_000;

    fn key() -> SecretKey {
        SecretKey::generate().unwrap()
    }

    fn site() -> SiteId {
        SiteId::new("yard").unwrap()
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    /// A site with two devices, as one of its receivers knows it.
    struct Bench {
        a: Signer,
        b: Signer,
        orders: Signer,
        roster: Roster,
        verifier: Verifier,
    }

    fn bench() -> Bench {
        let (a, b, orders) = (key(), key(), key());
        let chain = OrdersChain::begin(&site(), &orders, NOW_S);
        let member = |key: &SecretKey| Member { key: Some(key.public()), revoked: vec![] };
        let devices = [(node("a"), member(&a)), (node("b"), member(&b))].into();
        let roster = Roster { number: 1, orders: chain.clone(), devices };
        let mut verifier = Verifier::closed(site(), chain.newest());
        verifier.admit(&roster);
        let signer = |key, run| Signer::new(key, site(), run);
        Bench { a: signer(a, 7), b: signer(b, 9), orders: signer(orders, 3), roster, verifier }
    }

    impl Bench {
        fn open(&mut self, topic: &Topic, bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
            self.verifier.open(topic, bytes, NOW_S).map(Cow::into_owned).map_err(|(word, _)| word)
        }
    }

    #[test]
    fn each_topic_is_spoken_on_by_its_own_key_alone() {
        for topic in Topic::one_of_each(&node("a")) {
            let mut bench = bench();
            let payload = b"{\"x\":1}".to_vec();
            let by_a = bench.a.sign(&topic, payload.clone(), NOW_S);
            let by_b = bench.b.sign(&topic, payload.clone(), NOW_S);
            let by_orders = bench.orders.sign(&topic, payload.clone(), NOW_S);
            let right = match topic.sealed().map(|_| topic.speaker()) {
                Some(Speaker::Node(_)) => (Ok(payload.clone()), Err("foreign_key"), Err("foreign_key")),
                Some(Speaker::Coordinator) => (Err("foreign_key"), Err("foreign_key"), Ok(payload.clone())),
                Some(Speaker::Operator(_)) => panic!("an operator has no key"),
                None => (Ok(payload.clone()), Ok(payload.clone()), Ok(payload.clone())),
            };
            let said = (bench.open(&topic, &by_a), bench.open(&topic, &by_b), bench.open(&topic, &by_orders));
            assert_eq!(said, right, "{topic:?}");
            if topic.sealed().is_some() {
                assert_eq!(bench.open(&topic, &payload), Err("unsigned"), "{topic:?}");
            }
        }
    }

    #[test]
    fn what_was_said_on_one_topic_is_nothing_on_another() {
        let mut bench = bench();
        let duty = bench.a.sign(&Topic::Duty(node("a")), vec![1], NOW_S);
        assert_eq!(bench.open(&Topic::Events(node("a")), &duty), Err("signature"));
        let for_a = bench.orders.sign(&Topic::Standby(node("a")), vec![1], NOW_S);
        assert_eq!(bench.open(&Topic::Standby(node("b")), &for_a), Err("signature"));
    }

    #[test]
    fn what_is_said_again_after_something_newer_is_refused_and_the_same_again_is_not() {
        for topic in Topic::one_of_each(&node("a")).into_iter().filter(|topic| topic.sealed().is_some()) {
            let mut bench = bench();
            let signer = if topic.speaker() == Speaker::Coordinator { &bench.orders } else { &bench.a };
            let [old, new] = [1, 2].map(|n| signer.sign(&topic, format!("{{\"n\":{n}}}").into_bytes(), NOW_S));
            signer.run(20);
            let next_run = signer.sign(&topic, b"{\"n\":3}".to_vec(), NOW_S);
            for bytes in [&old, &new, &new, &next_run] {
                assert!(bench.open(&topic, bytes).is_ok(), "{topic:?}");
            }
            // Two coordinators of one key say how they do, and neither knows of the other's count.
            let refused = if topic.is_numbered() { Err("replayed") } else { Ok(b"{\"n\":1}".to_vec()) };
            assert_eq!(bench.open(&topic, &old), refused, "{topic:?}");
        }
    }

    /// A signer counts all that it says, so an older word is older whichever request it is of; and whoever asks for many pictures
    /// takes the room of one.
    #[test]
    fn what_is_said_of_one_request_is_older_than_what_was_said_of_another_since_and_takes_no_room_of_its_own() {
        let kinds: [fn(NodeId, RequestId) -> Topic; 3] = [Topic::PictureOrder, Topic::PictureState, Topic::PicturePart];
        for of in kinds {
            let mut bench = bench();
            let topic = |n: u32| of(node("a"), RequestId::new(format!("r{n}")).unwrap());
            let signer = if topic(0).speaker() == Speaker::Coordinator { &bench.orders } else { &bench.a };
            let said: Vec<Vec<u8>> = (0..100).map(|n| signer.sign(&topic(n), vec![1], NOW_S)).collect();
            for n in 1..100 {
                assert!(bench.open(&topic(n), &said[n as usize]).is_ok(), "{:?}", topic(n));
            }
            assert_eq!(bench.open(&topic(0), &said[0]), Err("replayed"), "{:?}", topic(0));
            assert_eq!(bench.verifier.heard.len(), 1, "{:?}", topic(0));
            assert_eq!(bench.verifier.place(&topic(7)), bench.verifier.place(&topic(99)));
        }
    }

    #[test]
    fn a_will_comes_after_its_connection_and_before_the_next() {
        let (mut bench, topic) = (bench(), Topic::Health(node("a")));
        let say = |bench: &Bench, what: &str| bench.a.sign(&topic, format!("{{\"x\":\"{what}\"}}").into_bytes(), NOW_S);
        let will = |bench: &Bench| bench.a.will(&topic, b"{\"x\":\"will\"}".to_vec(), NOW_S);
        let first_will = will(&bench);
        let up = say(&bench, "up");
        let problem = say(&bench, "a problem");
        let next_will = will(&bench);
        let up_again = say(&bench, "up again");
        assert!([&up, &problem, &first_will].iter().all(|said| bench.open(&topic, said).is_ok()));
        assert!(bench.open(&topic, &up_again).is_ok());
        assert_eq!(bench.open(&topic, &first_will), Err("replayed"), "it came too late");
        assert!(bench.open(&topic, &next_will).is_ok());
    }

    #[test]
    fn an_order_ends_by_the_latest_time_that_anybody_proved() {
        let mut bench = bench();
        let topic = Topic::Standby(node("a"));
        let order = bench.orders.sign(&topic, vec![1], NOW_S);
        let late = NOW_S + ORDER_LIFE_S;
        assert_eq!(bench.verifier.open(&topic, &order, late).unwrap_err().0, "expired");
        assert!(bench.verifier.open(&topic, &order, late - 1).is_ok());
        // A clock that was never set knows from the coordinator that it is later, and from nobody else.
        let beat = bench.a.sign(&Topic::Heartbeat(node("a")), vec![1], late);
        assert!(bench.open(&Topic::Heartbeat(node("a")), &beat).is_ok() && bench.open(&topic, &order).is_ok());
        let health = bench.orders.sign(&Topic::CoordinatorHealth, b"{\"x\":1}".to_vec(), late);
        assert!(bench.verifier.open(&Topic::CoordinatorHealth, &health, 0).is_ok());
        assert_eq!(bench.verifier.open(&topic, &order, 0).unwrap_err().0, "expired");
    }

    #[test]
    fn a_retired_a_revoked_and_an_unknown_key_are_refused_by_name() {
        let mut bench = bench();
        let (ack, events) = (Topic::Ack(node("a")), Topic::Events(node("a")));
        let (before, of_a) = (bench.orders.sign(&ack, vec![1], NOW_S), bench.a.sign(&events, vec![1], NOW_S));
        assert!(bench.open(&ack, &before).is_ok() && bench.open(&events, &of_a).is_ok());
        let present = key();
        let mut chain = OrdersChain::begin(&site(), &present, NOW_S);
        let new = key();
        chain.add(&site(), &present, new.public(), NOW_S);
        let old = bench.roster.devices[&node("a")].key.unwrap().id();
        let mut roster = Roster { number: 2, orders: chain, ..bench.roster.clone() };
        roster.devices.insert(node("a"), Member { key: None, revoked: vec![old] });
        bench.verifier.admit(&roster);
        assert_eq!(bench.open(&events, &of_a), Err("revoked_key"));
        let retired = Signer::new(present, site(), 99).sign(&ack, vec![1], NOW_S);
        assert_eq!(bench.open(&ack, &retired), Err("retired_key"));
        assert_eq!(bench.open(&ack, &before), Err("foreign_key"));
        assert!(bench.open(&ack, &Signer::new(new, site(), 1).sign(&ack, vec![1], NOW_S)).is_ok(), "it counts anew");
        let stranger = Topic::Events(node("stranger"));
        let said = Signer::new(key(), site(), 1).sign(&stranger, vec![1], NOW_S);
        assert_eq!(bench.open(&stranger, &said), Err("not_enrolled"));
    }

    #[test]
    fn what_an_earlier_run_heard_is_not_heard_again() {
        let (mut bench, topic) = (bench(), Topic::Standby(node("a")));
        let [old, new] = [1, 2].map(|n| bench.orders.sign(&topic, vec![n], NOW_S));
        bench.open(&topic, &new).unwrap();
        let place = bench.verifier.place(&topic).unwrap();
        let mut again = Verifier::closed(site(), bench.roster.orders.newest());
        again.recall(topic.clone(), place);
        assert_eq!(again.open(&topic, &old, NOW_S).unwrap_err().0, "replayed");
        assert!(again.open(&topic, &new, NOW_S).is_ok());
    }

    #[test]
    fn who_knows_no_keys_passes_over_seals() {
        let (bench, topic) = (bench(), Topic::Ack(node("a")));
        let mut open = Verifier::open_to_all(site());
        let sealed = bench.orders.sign(&topic, vec![1, 2], NOW_S);
        assert_eq!(&*open.open(&topic, &sealed, NOW_S).unwrap(), [1, 2]);
        assert_eq!(&*open.open(&topic, &[1, 2], NOW_S).unwrap(), [1, 2]);
        assert_eq!(open.open(&topic, &sealed[..40], NOW_S).unwrap_err().0, "seal_malformed");
    }

    #[test]
    fn a_roster_is_taken_from_who_follows_the_known_key_and_never_an_older_one() {
        let (first, second, other) = (key(), key(), key());
        let mut chain = OrdersChain::begin(&site(), &first, NOW_S);
        let known = chain.newest().clone();
        chain.add(&site(), &first, second.public(), NOW_S);
        let roster = Roster { number: 5, orders: chain, devices: bench().roster.devices };
        let published = roster.publish(&site(), &second, NOW_S);
        let (read, newest) = Roster::read(&site(), &known, 5, &published).unwrap();
        assert_eq!((read, newest.number), (roster.clone(), 2));
        fn word(known: &OrdersKey, number: u64, bytes: &[u8]) -> &'static str {
            Roster::read(&site(), known, number, bytes).unwrap_err().word()
        }
        assert_eq!(word(&known, 6, &published), "roster_old");
        for by in [&first, &other] {
            assert_eq!(word(&known, 0, &roster.publish(&site(), by, NOW_S)), "roster_signature");
        }
        let strange = OrdersChain::begin(&site(), &other, NOW_S);
        assert_eq!(word(strange.newest(), 0, &published), "roster_orders_key");
        let forged = Roster { orders: strange, ..roster };
        assert_eq!(word(&known, 0, &forged.publish(&site(), &other, NOW_S)), "roster_orders_key");
        assert_eq!(word(&known, 0, b"{}"), "roster_malformed");
    }
}
