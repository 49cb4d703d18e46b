//! An honest site and one of its devices: what it says becomes a plan, in whatever order it comes, and nothing else does.

mod attacks;
mod learned;

use proptest::prelude::*;

use super::*;
use crate::codec;
use crate::crypto::{Digest, KeyId, PublicKey, SecretKey};
use crate::event::Precision;
use crate::ids::{ModelName, NodeId, StationId};
use crate::limits::{MODEL_ASSIGNMENT_LIFE_S, MODEL_MANIFEST_BYTES_MAX, MODEL_NAMES_MAX};

const NOW_S: u64 = 1_800_000_000;
const YEAR_S: u64 = 365 * 24 * 60 * 60;

fn keys(count: usize) -> Vec<SecretKey> {
    (0..count).map(|_| SecretKey::generate().unwrap()).collect()
}

fn signed<D: Document>(document: &D, by: &[&SecretKey]) -> Envelope {
    let mut envelope = Envelope::of(document).unwrap();
    by.iter().for_each(|key| envelope.sign::<D>(key));
    envelope
}

/// A document that a program of ours would not make, signed.
fn forced<D: Document>(json: &str, by: &[&SecretKey]) -> Envelope {
    let mut envelope = Envelope { payload: json.as_bytes().to_vec().into(), signatures: vec![] };
    by.iter().for_each(|key| envelope.sign::<D>(key));
    envelope
}

fn root(version: u64, threshold: usize, keys: &[&SecretKey]) -> Root {
    Root { version, expires_s: NOW_S + YEAR_S, threshold, keys: keys.iter().map(|key| key.public()).collect() }
}

fn person() -> ModelName {
    ModelName::new("person").unwrap()
}

fn manifest(counter: u64) -> Manifest {
    Manifest {
        name: person(),
        counter,
        expires_s: NOW_S + YEAR_S,
        chunk_bytes: 32 * 1024,
        file: Artifact::plain(b"a model"),
        head: Some(Artifact::plain(&[0; 12])),
        calibration: None,
        labels: None,
        family: None,
        input: None,
        precision: Precision::Fp32,
        floors: Floors { agreement_min: 0.85, ap50_min: None, count_off_mean_max: None },
        needs: Needs {
            arch: vec!["x86_64".into(), "aarch64".into()],
            providers: vec!["cpu".into()],
            memory_bytes: 64 << 20,
            runtime_api: 20,
        },
        delegation: Some(Delegation { numbers: 3, norm_max: 10.0 }),
    }
}

fn head(counter: u64) -> HeadManifest {
    HeadManifest {
        name: person(),
        counter,
        expires_s: NOW_S + YEAR_S,
        chunk_bytes: 32 * 1024,
        base: manifest(1).file.sha256,
        file: Artifact::plain(&[1; 12]),
    }
}

/// An honest site and one of its devices, before anything was said; and what the next assignment to it is.
struct Case {
    /// The model keys: 0 to 2 of the first root, 3 to 5 of the second, 6 of nobody.
    keys: Vec<SecretKey>,
    orders: SecretKey,
    trusted: Trusted,
    assignment: Assignment,
    node: NodeId,
    station: StationId,
    enrolled: bool,
    arch: &'static str,
    providers: Vec<String>,
    memory_bytes: u64,
    runtime_api: u32,
    learns: Option<Learns>,
    now_s: u64,
}

impl Case {
    fn new() -> Case {
        let (keys, orders) = (keys(7), SecretKey::generate().unwrap());
        let first = root(1, 2, &[&keys[0], &keys[1], &keys[2]]);
        let (node, station) = (NodeId::new("gate-3").unwrap(), StationId::new("gate").unwrap());
        let assignment = Assignment {
            node: node.clone(),
            station: station.clone(),
            number: 5,
            issued_s: NOW_S,
            expires_s: NOW_S + MODEL_ASSIGNMENT_LIFE_S,
            not_before_s: 0,
            root_from: 1,
            roots: vec![signed(&first, &[&keys[0], &keys[1]])],
            release: Some(signed(&manifest(3), &[&keys[0], &keys[1]])),
            head: Some(signed(&head(2), &[&orders])),
            trial: TrialTerms::default(),
            learned: None,
            release_number: None,
        };
        Case {
            trusted: Trusted::begin(first),
            keys,
            orders,
            assignment,
            node,
            station,
            enrolled: true,
            arch: "x86_64",
            providers: vec!["cpu".into()],
            memory_bytes: 1 << 30,
            runtime_api: 24,
            learns: None,
            now_s: NOW_S + 1,
        }
    }

    fn verify(&self) -> Outcome {
        let orders = self.orders.public();
        let facts = Facts {
            node: &self.node,
            station: &self.station,
            orders: self.enrolled.then_some(&orders),
            arch: self.arch,
            providers: &self.providers,
            memory_bytes: self.memory_bytes,
            runtime_api: self.runtime_api,
            learns: self.learns,
        };
        verify(&self.trusted, &self.assignment, &facts, self.now_s)
    }

    /// What the device has seen so far: it takes in what is assigned now.
    fn seen(&mut self) {
        let outcome = self.verify();
        assert!(outcome.verdict.is_ok(), "{:?}", outcome.verdict);
        self.trusted = outcome.trusted;
    }

    fn release(&mut self, change: impl FnOnce(&mut Manifest)) {
        let mut changed = manifest(3);
        change(&mut changed);
        self.assignment.release = Some(signed(&changed, &[&self.keys[0], &self.keys[1]]));
        if self.assignment.head.is_some() {
            let base = changed.file.sha256;
            self.assignment.head = Some(signed(&HeadManifest { base, ..head(2) }, &[&self.orders]));
        }
    }

    fn release_by(&mut self, by: &[usize]) {
        let by: Vec<&SecretKey> = by.iter().map(|&key| &self.keys[key]).collect();
        self.assignment.release = Some(signed(&manifest(3), &by));
    }

    fn head(&mut self, change: impl FnOnce(&mut HeadManifest)) {
        let mut changed = head(2);
        change(&mut changed);
        self.assignment.head = Some(signed(&changed, &[&self.orders]));
    }

    /// Adds a second root, of keys 3 to 5, signed by these.
    fn second_root(&mut self, change: impl FnOnce(&mut Root), by: &[usize]) {
        let mut second = root(2, 2, &[&self.keys[3], &self.keys[4], &self.keys[5]]);
        change(&mut second);
        let by: Vec<&SecretKey> = by.iter().map(|&key| &self.keys[key]).collect();
        self.assignment.roots.push(signed(&second, &by));
    }

    fn envelope(&mut self) -> &mut Envelope {
        self.assignment.release.as_mut().unwrap()
    }
}

#[test]
fn what_an_honest_site_says_becomes_a_plan() {
    let mut case = Case::new();
    let outcome = case.verify();
    let plan = outcome.verdict.unwrap();
    assert_eq!((plan.number, plan.release, plan.head), (5, Some(manifest(3)), Some(head(2))));
    assert_eq!(outcome.trusted.counters[&person()], 3);
    // The same again, and the same release with more time: a broker says the retained message on every connection.
    case.seen();
    case.seen();
    case.assignment.number += 1;
    case.assignment.expires_s += 1;
    case.assignment.issued_s += 1;
    case.seen();
    // Back to what its own configuration says, which needs no signature but the orders key's.
    case.assignment.number += 1;
    (case.assignment.release, case.assignment.head) = (None, None);
    assert_eq!(case.verify().verdict.unwrap().release, None);
}

#[test]
fn a_rotation_is_followed_and_what_new_keys_sign_is_taken() {
    let mut case = Case::new();
    case.second_root(|_| {}, &[0, 1, 3, 4]);
    case.release_by(&[3, 5]);
    case.seen();
    assert_eq!(case.trusted.root.version, 2);
    // A release that both signed was one before the rotation and after it: who is not known is passed over.
    case.release_by(&[0, 1, 3, 4]);
    case.assignment.number += 1;
    assert!(case.verify().verdict.is_ok());
    // A device that knows the newest root needs no chain, and reads none of it.
    case.assignment.roots = vec![Envelope { payload: vec![0].into(), signatures: vec![] }; 2];
    assert!(case.verify().verdict.is_ok());
}

#[test]
fn a_first_root_must_be_whole_and_signed_by_its_own_keys() {
    let keys = keys(3);
    let first = root(1, 2, &[&keys[0], &keys[1]]);
    assert_eq!(Root::anchor(&signed(&first, &[&keys[0], &keys[1]])), Ok(first.clone()));
    for by in [&[&keys[0]][..], &[&keys[0], &keys[2]], &[]] {
        assert!(Root::anchor(&signed(&first, by)).is_err());
    }
}

#[test]
fn a_configured_root_goes_forward_and_never_back() {
    let keys = keys(2);
    let of = |version, key: &SecretKey| root(version, 1, &[key]);
    let kept = Trusted { counters: [(person(), 4)].into(), ..Trusted::begin(of(2, &keys[0])) };
    let anchored = |root: Root| Trusted::anchored(Some(kept.clone()), root);
    assert_eq!(anchored(of(1, &keys[1])), Ok(kept.clone()));
    assert_eq!(anchored(of(2, &keys[0])), Ok(kept.clone()));
    assert_eq!(anchored(of(3, &keys[1])).unwrap(), Trusted { root: of(3, &keys[1]), ..kept.clone() });
    assert!(anchored(of(2, &keys[1])).unwrap_err().contains("differ"));
    assert_eq!(Trusted::anchored(None, of(2, &keys[0])).unwrap(), Trusted::begin(of(2, &keys[0])));
}

#[test]
fn a_device_that_hears_nothing_new_says_so_and_goes_on() {
    let mut case = Case::new();
    assert!(!case.trusted.is_frozen(NOW_S + YEAR_S), "nothing was assigned yet");
    case.seen();
    let until_s = case.assignment.expires_s;
    assert!(!case.trusted.is_frozen(until_s - 1) && case.trusted.is_frozen(until_s));
    // What comes late is no news.
    case.now_s = until_s;
    assert_eq!(case.verify().verdict.unwrap_err().word(), "model_expired");
    assert!(case.verify().trusted.is_frozen(until_s));
    assert_eq!(Refusal::Frozen.word(), "model_frozen");
}

/// Whoever stole the orders key may count it to its end; a new key ends that, as "test_new_timestamp_fast_forward_recovery" has
/// it.
#[test]
fn a_new_orders_key_begins_to_count_anew() {
    let mut case = Case::new();
    case.assignment.number = u64::MAX;
    case.head(|head| head.counter = (1 << 53) - 1);
    case.seen();
    case.orders = SecretKey::generate().unwrap();
    case.assignment.number = 1;
    case.head(|head| head.counter = 1);
    case.seen();
    assert_eq!(case.trusted.orders.unwrap().number, 1);
    assert_eq!(case.trusted.counters[&person()], 3, "what the owner signed is not counted anew");
}

#[test]
fn a_file_is_measured_before_it_is_hashed() {
    let artifact = Artifact::plain(b"a model");
    let word = |bytes: &[u8]| artifact.admits("model", bytes).map_err(|refusal| refusal.word());
    assert_eq!(word(b"a model"), Ok(()));
    assert_eq!(word(b"a mode"), Err("model_length"), "too short");
    assert_eq!(word(b"a model."), Err("model_length"), "too long");
    assert_eq!(word(b"a modem"), Err("model_digest"));
    assert_eq!(word(b""), Err("model_length"));
}

#[test]
fn a_delegated_head_has_its_shape_and_its_norm() {
    let delegation = Delegation { numbers: 3, norm_max: 5.0 };
    let bytes = |numbers: &[f32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    assert!(delegation.admits(&bytes(&[3.0, -4.0, 0.0])));
    for wrong in [&[3.0, -4.1, 0.0][..], &[3.0, 4.0], &[0.0; 4], &[f32::NAN, 0.0, 0.0], &[f32::INFINITY, 0.0, 0.0]] {
        assert!(!delegation.admits(&bytes(wrong)), "{wrong:?}");
    }
    assert!(!delegation.admits(&bytes(&[0.0; 3])[..11]) && !delegation.admits(&[]));
}

#[test]
fn a_manifest_that_makes_no_sense_is_not_written() {
    let encoding = |coding: &str, from, bytes: &[u8]| Encoding {
        coding: coding.into(),
        from,
        sha256: Digest::of(bytes),
        length: bytes.len() as u64,
    };
    let refused = |change: &dyn Fn(&mut Manifest)| {
        let mut changed = manifest(1);
        change(&mut changed);
        Envelope::of(&changed).expect_err("a manifest that makes no sense")
    };
    assert!(refused(&|m| m.counter = 0).contains("release 0"));
    assert!(refused(&|m| m.counter = 1 << 53).contains("2^53"));
    assert!(refused(&|m| m.chunk_bytes = 100).contains("pieces of 100"));
    assert!(refused(&|m| m.chunk_bytes = 1 << 20).contains("pieces"));
    assert!(refused(&|m| m.file.length = 0).contains("0 bytes"));
    assert!(refused(&|m| m.file.encodings.clear()).contains("0 encodings"));
    assert!(refused(&|m| m.file.encodings[0].sha256 = Digest::of(b"x")).contains("as another file"));
    assert!(refused(&|m| m.file.encodings = vec![encoding("../x", None, b"x")]).contains("proper name"));
    let only = Some(Digest::of(b"old"));
    assert!(refused(&|m| m.file.encodings = vec![encoding("delta", only, b"x")]).contains("who has no other"));
    let itself = Some(manifest(1).file.sha256);
    assert!(refused(&|m| m.file.encodings.push(encoding("delta", itself, b"x"))).contains("from itself"));
    assert!(refused(&|m| m.floors.agreement_min = 1.5).contains("shares"));
    assert!(refused(&|m| m.floors.agreement_min = f64::NAN).contains("shares"));
    assert!(refused(&|m| m.input = Some([0, 288])).contains("input"));
    assert!(refused(&|m| m.head = None).contains("where there is none"));
    assert!(refused(&|m| m.delegation.as_mut().unwrap().numbers = 4).contains("4 numbers"));
    assert!(refused(&|m| m.delegation.as_mut().unwrap().norm_max = f64::INFINITY).contains("norm"));
    assert!(refused(&|m| m.needs.arch = vec![String::new()]).contains("without a name"));
}

#[test]
fn an_envelope_survives_its_file_and_no_other_form_of_it_is_read() {
    let keys = keys(1);
    let envelope = signed(&manifest(1), &[&keys[0]]);
    let text = envelope.to_file::<Manifest>();
    assert_eq!(Envelope::from_file::<Manifest>(&text).as_ref(), Ok(&envelope));
    assert!(Envelope::from_file::<Root>(&text).unwrap_err().contains("of the kind"));
    assert!(Envelope::from_file::<Manifest>(&text.replace(":", ": ")).unwrap_err().contains("edited"));
    assert!(Envelope::from_file::<Manifest>(&text[..40]).unwrap_err().contains("no DSSE"));
}

/// Documents as they come out of their files, opened by who knows the owner's two keys.
fn opens<D: Document>(text: &[u8], keys: &[PublicKey]) -> bool {
    let text = std::str::from_utf8(text).ok();
    let envelope = text.and_then(|text| Envelope::from_file::<D>(text).ok());
    envelope.is_some_and(|envelope| envelope.open::<D>(keys, keys.len()).is_ok())
}

fn flipped(bytes: &[u8], at: usize, bit: u8) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[at % bytes.len()] ^= 1 << bit;
    changed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_byte_of_a_signed_document_is_changed_it_is_refused(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let keys = keys(2);
        let (by, public): (Vec<_>, Vec<_>) = keys.iter().map(|key| (key, key.public())).unzip();
        let texts = [
            signed(&root(1, 2, &by), &by).to_file::<Root>().into_bytes(),
            signed(&manifest(1), &by).to_file::<Manifest>().into_bytes(),
            signed(&head(1), &by).to_file::<HeadManifest>().into_bytes(),
        ];
        let at = at.index(1 << 16);
        prop_assert!(opens::<Root>(&texts[0], &public) && !opens::<Root>(&flipped(&texts[0], at, bit), &public));
        prop_assert!(opens::<Manifest>(&texts[1], &public) && !opens::<Manifest>(&flipped(&texts[1], at, bit), &public));
        prop_assert!(
            opens::<HeadManifest>(&texts[2], &public) && !opens::<HeadManifest>(&flipped(&texts[2], at, bit), &public)
        );
        // The same on the wire, where the envelope is a part of a message.
        let case = Case::new();
        let mut release = case.assignment.release.clone().unwrap();
        let at = at % (release.payload.len() + 128);
        match at.checked_sub(release.payload.len()) {
            None => release.payload[at] ^= 1 << bit,
            Some(at) => release.signatures[at / 64].signature[at % 64] ^= 1 << bit,
        }
        let changed = Case { assignment: Assignment { release: Some(release), ..case.assignment }, ..case };
        prop_assert!(changed.verify().verdict.is_err());
    }

    #[test]
    fn whatever_order_assignments_come_in_a_device_ends_with_the_same(
        order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle(),
        counters in prop::collection::vec((0usize..3, 1u64..9), 6),
        again in prop::collection::vec(0usize..6, 0..4),
    ) {
        let mut case = Case::new();
        case.second_root(|_| {}, &[0, 1, 3, 4]);
        let chain = case.assignment.roots.clone();
        let by: Vec<&SecretKey> = [0, 1, 3, 4].iter().map(|&key| &case.keys[key]).collect();
        let said: Vec<Assignment> = counters.iter().enumerate().map(|(n, &(name, counter))| {
            let name = ModelName::new(["a", "b", "person"][name]).unwrap();
            let release = signed(&Manifest { name, ..manifest(counter) }, &by);
            Assignment {
                number: n as u64 + 1,
                issued_s: NOW_S + n as u64,
                // The first ones were said before the rotation.
                roots: chain[..if n < 3 { 1 } else { 2 }].to_vec(),
                release: Some(release),
                head: None,
                ..case.assignment.clone()
            }
        }).collect();
        let mut ends = |order: &[usize]| {
            case.trusted = Trusted::begin(root(1, 2, &[&case.keys[0], &case.keys[1], &case.keys[2]]));
            for &n in order {
                case.assignment = said[n].clone();
                case.trusted = case.verify().trusted;
            }
            case.trusted.clone()
        };
        let straight = ends(&(0..6).collect::<Vec<_>>());
        prop_assert_eq!(straight.root.version, 2);
        prop_assert_eq!(straight.orders.unwrap().number, 6);
        let order: Vec<usize> = order.into_iter().chain(again).collect();
        prop_assert_eq!(ends(&order), straight);
    }

    #[test]
    fn no_bytes_make_an_envelope_panic(payload in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,200}") {
        let key = SecretKey::generate().unwrap();
        let mut envelope = Envelope { payload: payload.into(), signatures: vec![] };
        envelope.sign::<Manifest>(&key);
        let _ = envelope.open::<Manifest>(&[key.public()], 1);
        let _ = Root::anchor(&envelope);
        let _ = Envelope::from_file::<Root>(&text);
    }
}

#[test]
fn the_fullest_assignment_and_the_longest_memory_fit() {
    let keys = keys(crate::limits::MODEL_KEYS_MAX);
    let by: Vec<&SecretKey> = keys.iter().collect();
    let mut envelope = signed(&root(u64::MAX, 8, &by), &by);
    for n in 0..8u8 {
        let signature = Signature { key: KeyId([n; 8]), signature: vec![1; 64].into() };
        envelope.signatures.push(signature);
    }
    let filled = |bytes: usize| Envelope { payload: vec![b' '; bytes].into(), ..envelope.clone() };
    let full = Assignment {
        roots: vec![filled(crate::limits::MODEL_ROOT_BYTES_MAX); crate::limits::MODEL_ROOTS_MAX],
        release: Some(filled(MODEL_MANIFEST_BYTES_MAX)),
        head: Some(filled(MODEL_MANIFEST_BYTES_MAX)),
        learned: Some(filled(MODEL_MANIFEST_BYTES_MAX)),
        release_number: Some(u64::MAX),
        number: u64::MAX,
        ..Case::new().assignment
    };
    assert!(codec::encode(&full).is_ok(), "{:?}", codec::encode(&full).map(|bytes| bytes.len()));
    let name = |n: usize| ModelName::new(format!("{n:a>48}")).unwrap();
    let seen = HeadSeen { key: KeyId([1; 8]), counter: u64::MAX };
    let (backbone, key) = (Digest([1; 32]), KeyId([1; 8]));
    let learned = LearnedSeen { backbone, key, fleet_epoch: u32::MAX, counter: u64::MAX, issued_s: u64::MAX };
    let orders = OrdersSeen { key: KeyId([1; 8]), number: u64::MAX, issued_s: u64::MAX, fresh_until_s: u64::MAX };
    let trusted = Trusted {
        root: root(u64::MAX, 8, &by),
        orders: Some(orders),
        counters: (0..MODEL_NAMES_MAX).map(|n| (name(n), u64::MAX)).collect(),
        heads: (0..MODEL_NAMES_MAX).map(|n| (name(n), seen)).collect(),
        learned: vec![learned; crate::limits::MODEL_LEARNED_MAX],
    };
    assert!(codec::encode(&trusted).is_ok(), "{:?}", codec::encode(&trusted));
}
