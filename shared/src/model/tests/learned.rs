//! A learned head beside what runs: what an honest site says is taken, and each attack is refused by its word, without a word
//! against the release that it came with.

use super::*;
use crate::learn::lineage::{HeadShape, Lineage};
use crate::limits::{HEAD_NORM_MAX, MODEL_LEARNED_MAX};

fn backbone() -> Digest {
    Digest::of(b"a network")
}

fn lineage() -> Lineage {
    Lineage { fleet_epoch: 2, backbone: backbone().to_string(), shape: HeadShape::logistic(3) }
}

fn bytes() -> Vec<u8> {
    [0.5f32, -1.0, 2.0, 0.0].iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn learned(counter: u64) -> LearnedManifest {
    LearnedManifest {
        lineage: lineage(),
        counter,
        expires_s: NOW_S + YEAR_S,
        chunk_bytes: 1024,
        revert_of: None,
        file: Artifact::plain(&bytes()),
    }
}

impl Case {
    /// A site that learns, and a device that learns with it.
    fn learning() -> Case {
        let mut case = Case::new();
        case.learns = Some(Learns { backbone: backbone(), inputs: 3 });
        case.learned(|_| {});
        case
    }

    fn learned(&mut self, change: impl FnOnce(&mut LearnedManifest)) {
        let mut changed = learned(7);
        change(&mut changed);
        // Not by `Envelope::of`, which would refuse what an attacker does not.
        self.assignment.learned =
            Some(forced::<LearnedManifest>(&serde_json::to_string(&changed).unwrap(), &[&self.orders]));
    }

    fn next(&mut self, change: impl FnOnce(&mut LearnedManifest)) {
        self.trusted = self.verify().trusted;
        self.assignment.number += 1;
        self.learned(change);
    }
}

type Change = fn(&mut Case);

/// Each with the word that it is refused by.
const ATTACKS: &[(&str, &str, Change)] = &[
    ("a device that nobody enrolled", "model_unsigned", |case| case.enrolled = false),
    ("an assignment for another node", "model_station", |case| case.assignment.node = NodeId::new("gate-4").unwrap()),
    ("a head that nobody signed", "model_unsigned", |case| {
        case.assignment.learned.as_mut().unwrap().signatures.clear();
    }),
    ("a head by the owner's keys, where the site's is asked for", "model_threshold", |case| {
        case.assignment.learned = Some(signed(&learned(7), &[&case.keys[0], &case.keys[1]]));
    }),
    ("a head by another site's coordinator", "model_threshold", |case| {
        case.assignment.learned = Some(signed(&learned(7), &[&case.keys[6]]));
    }),
    ("a forged head", "model_signature", |case| case.assignment.learned.as_mut().unwrap().payload[3] ^= 1),
    ("a release's head, signed as such, said to be a learned one", "model_signature", |case| {
        case.assignment.learned = Some(signed(&head(7), &[&case.orders]));
    }),
    ("a rule that this program does not know", "model_malformed", |case| {
        let text = serde_json::to_string(&learned(7)).unwrap().replacen('{', "{\"embargo\":true,", 1);
        case.assignment.learned = Some(forced::<LearnedManifest>(&text, &[&case.orders]));
    }),
    ("a file that is no such head", "model_malformed", |case| {
        case.learned(|head| head.file = Artifact::plain(&[0; 12]))
    }),
    ("a backbone that is no digest", "model_malformed", |case| case.learned(|head| head.lineage.backbone = "x".into())),
    ("a head of before any fleet", "model_malformed", |case| case.learned(|head| head.lineage.fleet_epoch = 0)),
    ("a head that goes back to a later one", "model_malformed", |case| case.learned(|head| head.revert_of = Some(7))),
    ("an assignment of before", "model_replayed", |case| {
        case.next(|head| head.counter = 8);
        case.trusted = case.verify().trusted;
        case.assignment.number -= 1;
    }),
    ("an assignment whose time is over", "model_expired", |case| case.now_s = case.assignment.expires_s),
    ("a head whose time is over", "model_expired", |case| case.learned(|head| head.expires_s = NOW_S)),
    ("a head of before, by a newer word", "model_rollback", |case| case.next(|head| head.counter = 6)),
    ("a head of a fleet epoch of before", "model_rollback", |case| {
        case.next(|head| (head.lineage.fleet_epoch, head.counter) = (1, 99));
    }),
    ("a device that learns nothing", "model_learned_off", |case| case.learns = None),
    ("a head over another network", "model_learned_network", |case| {
        case.learned(|head| head.lineage.backbone = Digest::of(b"another").to_string());
    }),
    ("a head of another form", "model_learned_shape", |case| case.learns.as_mut().unwrap().inputs = 4),
];

#[test]
fn every_attack_on_a_learned_head_is_refused_by_its_name_and_stops_no_release() {
    for (what, word, attack) in ATTACKS {
        let mut case = Case::learning();
        assert_eq!(case.verify().learned, Some(Ok(learned(7))), "before {what}");
        attack(&mut case);
        let outcome = case.verify();
        let refusal = outcome.learned.expect("one was assigned").expect_err(what);
        assert_eq!(refusal.word(), *word, "{what}: {refusal}");
        assert!(refusal.to_string().len() > 12 && !refusal.to_string().contains('\n'), "{what}: {refusal}");
        let of_the_whole = ["model_replayed", "model_station"].contains(word)
            || !case.enrolled
            || case.now_s >= case.assignment.expires_s;
        assert_eq!(outcome.verdict.is_err(), of_the_whole, "{what}");
        assert!(outcome.trusted.learned.len() >= case.trusted.learned.len(), "{what}");
        let kept = codec::encode(&outcome.trusted).unwrap();
        assert_eq!(codec::decode::<Trusted>(&kept).unwrap(), outcome.trusted, "{what}");
    }
}

#[test]
fn a_release_that_is_refused_stops_no_learned_head() {
    let mut case = Case::learning();
    case.runtime_api = 1;
    let outcome = case.verify();
    assert_eq!(outcome.verdict.unwrap_err().word(), "model_runtime");
    assert_eq!(outcome.learned, Some(Ok(learned(7))));
    // Nor does a device without a release need one.
    (case.assignment.release, case.assignment.head) = (None, None);
    let outcome = case.verify();
    assert_eq!(outcome.verdict.unwrap().release, None);
    assert!(outcome.learned.unwrap().is_ok());
}

#[test]
fn where_only_the_head_is_news_the_release_keeps_its_number() {
    let mut case = Case::learning();
    (case.assignment.number, case.assignment.release_number) = (9, Some(5));
    assert_eq!(case.verify().verdict.unwrap().number, 5);
    assert!(codec::encode(&case.assignment).is_ok());
    case.assignment.release_number = Some(10);
    assert!(codec::encode(&case.assignment).is_err(), "of a later one");
}

#[test]
fn another_orders_key_counts_anew_and_of_many_networks_the_newest_are_remembered() {
    let mut case = Case::learning();
    case.next(|head| head.counter = 9);
    case.trusted = case.verify().trusted;
    case.orders = SecretKey::generate().unwrap();
    case.assignment.head = None;
    case.learned(|head| head.counter = 1);
    assert!(case.verify().learned.unwrap().is_ok());
    for n in 0..2 * MODEL_LEARNED_MAX as u8 {
        case.assignment.issued_s += 1;
        case.next(|head| head.lineage.backbone = Digest::of(&[n]).to_string());
        case.trusted = case.verify().trusted;
    }
    assert_eq!(case.trusted.learned.len(), MODEL_LEARNED_MAX);
    assert!(case.trusted.learned.iter().any(|seen| seen.backbone == Digest::of(&[2 * MODEL_LEARNED_MAX as u8 - 1])));
    assert!(codec::encode(&case.trusted).is_ok());
}

#[test]
fn a_file_that_is_not_the_head_or_that_nobody_learned_is_refused_by_name() {
    let of = |numbers: [f32; 4]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    assert_eq!(learned(7).numbers(&bytes()), Ok(vec![0.5, -1.0, 2.0, 0.0]));
    assert_eq!(learned(7).numbers(&bytes()[4..]).unwrap_err().word(), "model_length");
    assert_eq!(learned(7).numbers(&of([0.5; 4])).unwrap_err().word(), "model_digest");
    for numbers in
        [[f32::NAN, 0.0, 0.0, 0.0], [f32::INFINITY, 0.0, 0.0, 0.0], [HEAD_NORM_MAX as f32 + 1.0, 0.0, 0.0, 0.0]]
    {
        let manifest = LearnedManifest { file: Artifact::plain(&of(numbers)), ..learned(7) };
        assert_eq!(manifest.numbers(&of(numbers)).unwrap_err().word(), "model_learned_numbers", "{numbers:?}");
    }
}
