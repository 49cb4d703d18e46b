//! What is refused, and by which word: a table of attacks, each as one change of what an honest site says. Names in quotes are
//! those of the conformance suite of The Update Framework, where it asks the same.

use super::*;

type Change = fn(&mut Case);

/// Each with the word that it is refused by.
const ATTACKS: &[(&str, &str, Change)] = &[
    // ---- Who says it ----
    ("an assignment to a device that nobody enrolled", "model_unsigned", |case| case.enrolled = false),
    ("an assignment for another node", "model_station", |case| case.assignment.node = NodeId::new("gate-4").unwrap()),
    ("an assignment for another station", "model_station", |case| {
        case.assignment.station = StationId::new("yard").unwrap();
    }),
    ("a device that was moved to another station", "model_station", |case| {
        case.station = StationId::new("yard").unwrap();
    }),
    // ---- The release's signatures ----
    ("\"test_unsigned_metadata\": a release without a signature", "model_unsigned", |case| {
        case.envelope().signatures.clear();
    }),
    ("a forged release: changed after it was signed", "model_signature", |case| {
        let at = case.envelope().payload.len() / 2;
        case.envelope().payload[at] ^= 1;
    }),
    ("a release of a stranger's keys", "model_threshold", |case| case.release_by(&[6])),
    ("a release with a stranger's key beside one of the owner's", "model_threshold", |case| case.release_by(&[0, 6])),
    ("\"test_snapshot_threshold\": under the threshold", "model_threshold", |case| case.release_by(&[0])),
    ("\"test_duplicate_keys\": one key signs twice", "model_signature", |case| {
        case.release_by(&[0]);
        let again = case.envelope().signatures[0].clone();
        case.envelope().signatures.push(again);
    }),
    ("one good signature and a false one by another of the owner's keys", "model_signature", |case| {
        case.release_by(&[0, 1]);
        case.envelope().signatures[1].signature[5] ^= 1;
    }),
    ("a signature of one of the owner's keys under another's name", "model_signature", |case| {
        let other = case.keys[2].public().id();
        case.envelope().signatures[1].key = other;
    }),
    ("a stolen coordinator key alone: a release by the orders key", "model_threshold", |case| {
        case.assignment.release = Some(signed(&manifest(4), &[&case.orders]));
    }),
    ("a stolen coordinator key alone: its own root in the chain", "model_root_signature", |case| {
        let mine = root(2, 1, &[&case.orders]);
        case.assignment.roots.push(signed(&mine, &[&case.orders]));
        case.assignment.release = Some(signed(&manifest(4), &[&case.orders]));
    }),
    ("a root, signed as such, said to be a release", "model_signature", |case| {
        let first = root(1, 2, &[&case.keys[0], &case.keys[1], &case.keys[2]]);
        case.assignment.release = Some(signed(&first, &[&case.keys[0], &case.keys[1]]));
    }),
    ("a head's manifest in the place of a release", "model_signature", |case| {
        case.assignment.release = Some(signed(&head(9), &[&case.keys[0], &case.keys[1]]));
    }),
    // ---- What was signed ----
    ("a signed release that is no JSON", "model_malformed", |case| {
        case.assignment.release = Some(forced::<Manifest>("{", &[&case.keys[0], &case.keys[1]]));
    }),
    ("a signed release with a rule that this program does not know", "model_malformed", |case| {
        let text = serde_json::to_string(&manifest(3)).unwrap().replacen('{', "{\"embargo\":true,", 1);
        case.assignment.release = Some(forced::<Manifest>(&text, &[&case.keys[0], &case.keys[1]]));
    }),
    ("a release of 2^40 bytes", "model_malformed", |case| {
        let length = manifest(3).file.length;
        let text = serde_json::to_string(&manifest(3)).unwrap();
        let text = text.replacen(&format!("\"length\":{length}"), "\"length\":1099511627776", 1);
        case.assignment.release = Some(forced::<Manifest>(&text, &[&case.keys[0], &case.keys[1]]));
    }),
    ("a signed release that is larger than any", "model_malformed", |case| {
        let text = serde_json::to_string(&manifest(3)).unwrap() + &" ".repeat(MODEL_MANIFEST_BYTES_MAX);
        case.assignment.release = Some(forced::<Manifest>(&text, &[&case.keys[0], &case.keys[1]]));
    }),
    // ---- Old news ----
    ("\"test_new_timestamp_version_rollback\": an assignment of before", "model_replayed", |case| {
        case.assignment.number = 9;
        case.seen();
        case.assignment.number = 8;
    }),
    ("\"test_targets_rollback\": a release of before", "model_rollback", |case| {
        case.seen();
        case.assignment.number += 1;
        case.release(|manifest| manifest.counter = 2);
    }),
    ("a release of before, by a coordinator that begins to count anew", "model_rollback", |case| {
        case.seen();
        case.orders = SecretKey::generate().unwrap();
        case.assignment.head = None;
        case.release(|manifest| manifest.counter = 2);
    }),
    ("\"test_timestamp_expired\": an assignment whose time is over", "model_expired", |case| {
        case.now_s = case.assignment.expires_s;
    }),
    ("an assignment whose time is over, to a clock that was set back", "model_expired", |case| {
        case.assignment.issued_s = NOW_S + YEAR_S / 2;
        case.assignment.expires_s = case.assignment.issued_s + 60;
        case.seen();
        case.assignment.number += 1;
        (case.assignment.issued_s, case.assignment.expires_s) = (NOW_S, NOW_S + 60);
        case.now_s = 0;
    }),
    ("\"test_targets_expired\": a release whose time is over", "model_expired", |case| {
        case.release(|manifest| manifest.expires_s = NOW_S);
    }),
    // ---- Roots ----
    ("\"test_root_expired\": a root whose time is over", "model_root_expired", |case| {
        case.trusted.root.expires_s = NOW_S;
    }),
    ("an old root that is said to be the next", "model_root_version", |case| {
        let again = case.assignment.roots[0].clone();
        case.assignment.roots.push(again);
    }),
    ("a root whose version is two more", "model_root_version", |case| {
        case.second_root(|root| root.version = 3, &[0, 1, 3, 4]);
    }),
    ("a root after one that the device never saw", "model_root_gap", |case| {
        case.assignment.root_from = 3;
    }),
    (
        "\"1-of-1-key-rotation-fail-not-signed-with-old-key\": a root by its own keys alone",
        "model_root_signature",
        |case| {
            case.second_root(|_| {}, &[3, 4, 5]);
        },
    ),
    (
        "\"1-of-1-key-rotation-fail-not-signed-with-new-key\": a root by the old keys alone",
        "model_root_signature",
        |case| {
            case.second_root(|_| {}, &[0, 1, 2]);
        },
    ),
    ("a root with a threshold of nothing", "model_root_signature", |case| {
        let text = serde_json::to_string(&root(2, 2, &[&case.keys[3], &case.keys[4]])).unwrap();
        let text = text.replace("\"threshold\":2", "\"threshold\":0");
        case.assignment.roots.push(forced::<Root>(&text, &[&case.keys[0], &case.keys[1]]));
    }),
    ("a root that names one key twice", "model_root_signature", |case| {
        let key = String::from(case.keys[3].public());
        let text = format!("{{\"version\":2,\"expires_s\":1900000000,\"threshold\":2,\"keys\":[\"{key}\",\"{key}\"]}}");
        case.assignment.roots.push(forced::<Root>(&text, &[&case.keys[0], &case.keys[1], &case.keys[3]]));
    }),
    ("a release by keys that a new root has retired", "model_threshold", |case| {
        case.second_root(|_| {}, &[0, 1, 3, 4]);
    }),
    ("a release by keys of a root that is not in the chain", "model_threshold", |case| case.release_by(&[3, 4])),
    // ---- Heads ----
    ("a head that nobody signed", "model_unsigned", |case| {
        case.assignment.head.as_mut().unwrap().signatures.clear();
    }),
    ("a head by the owner's keys, where the site's is asked for", "model_threshold", |case| {
        case.assignment.head = Some(signed(&head(2), &[&case.keys[0], &case.keys[1]]));
    }),
    ("a head by another site's coordinator", "model_threshold", |case| {
        case.assignment.head = Some(signed(&head(2), &[&case.keys[6]]));
    }),
    ("a forged head", "model_signature", |case| {
        case.assignment.head.as_mut().unwrap().payload[3] ^= 1;
    }),
    ("mixed: a head of another model file", "model_mixed", |case| {
        case.head(|head| head.base = Digest::of(b"another model"));
    }),
    ("mixed: a head of another model's name", "model_mixed", |case| {
        case.head(|head| head.name = ModelName::new("vehicle").unwrap());
    }),
    ("mixed: a head without a release", "model_mixed", |case| case.assignment.release = None),
    ("a head for a release that lets nobody replace it", "model_delegation", |case| {
        case.release(|manifest| manifest.delegation = None);
    }),
    ("a head of another shape", "model_delegation", |case| case.head(|head| head.file = Artifact::plain(&[1; 16]))),
    ("a head of before", "model_rollback", |case| {
        case.seen();
        case.assignment.number += 1;
        case.head(|head| head.counter = 1);
    }),
    ("a head whose time is over", "model_expired", |case| case.head(|head| head.expires_s = NOW_S)),
    // ---- The device ----
    ("wrong hardware: another processor", "model_hardware", |case| case.arch = "riscv64"),
    ("wrong hardware: no such provider", "model_hardware", |case| {
        case.release(|manifest| manifest.needs.providers = vec!["tensorrt".into(), "cuda".into()]);
    }),
    ("wrong hardware: too little memory", "model_hardware", |case| case.memory_bytes = 1 << 20),
    ("a runtime that is too old", "model_runtime", |case| case.runtime_api = 19),
    ("more models than a device counts", "model_names", |case| {
        let name = |n: usize| (ModelName::new(format!("m{n}")).unwrap(), 1);
        case.trusted.counters = (0..MODEL_NAMES_MAX).map(name).collect();
    }),
];

#[test]
fn every_attack_is_refused_by_its_name() {
    assert!(ATTACKS.len() >= 40);
    let mut broken = Vec::new();
    for (what, word, attack) in ATTACKS {
        let mut case = Case::new();
        assert!(case.verify().verdict.is_ok(), "before {what}");
        attack(&mut case);
        let outcome = case.verify();
        match outcome.verdict {
            Err(refusal) if refusal.word() == *word => {
                let sentence = refusal.to_string();
                assert!(sentence.len() > 12 && !sentence.contains('\n'), "{what}: {sentence}");
            }
            other => broken.push(format!("{what}: {:?}", other.map(|_| "taken"))),
        }
        // Whatever was refused, nothing was forgotten, and what comes back to the device can be kept.
        assert!(outcome.trusted.root.version >= case.trusted.root.version, "{what}");
        let known = |(name, counter): (&ModelName, &u64)| outcome.trusted.counters[name] >= *counter;
        assert!(case.trusted.counters.iter().all(known), "{what}");
        let kept = codec::encode(&outcome.trusted).unwrap();
        assert_eq!(codec::decode::<Trusted>(&kept).unwrap(), outcome.trusted, "{what}");
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// How roots may follow each other: keys, threshold, who signed, of the one before and the next; the names are those of the
/// conformance suite's `test_root_rotation`.
#[test]
fn roots_follow_each_other_as_the_conformance_suite_has_it() {
    type Step<'a> = (&'a [usize], usize, &'a [usize]);
    let table: &[(&str, Step<'_>, Step<'_>, bool)] = &[
        ("1-of-1-key-rotation", (&[1], 1, &[1]), (&[2], 1, &[2, 1]), true),
        ("1-of-1-key-rotation-unused-signatures", (&[1], 1, &[3, 1, 4]), (&[2], 1, &[3, 2, 1, 4]), true),
        (
            "3-of-5-sign-with-different-keycombos",
            (&[0, 1, 2, 3, 4], 3, &[0, 2, 4]),
            (&[0, 1, 2, 3, 4], 3, &[0, 4, 1]),
            true,
        ),
        ("3-of-5-one-key-rotated", (&[0, 1, 2, 3, 4], 3, &[0, 2, 4]), (&[0, 1, 3, 4, 5], 3, &[0, 4, 1]), true),
        (
            "3-of-5-all-keys-rotated",
            (&[0, 1, 2, 3, 4], 3, &[0, 2, 4]),
            (&[5, 6, 7, 8, 9], 3, &[0, 2, 4, 5, 6, 7]),
            true,
        ),
        ("1-of-3-threshold-increase-to-2-of-3", (&[1, 2, 3], 1, &[1]), (&[1, 2, 3], 2, &[1, 2]), true),
        ("2-of-3-threshold-decrease-to-1-of-3", (&[1, 2, 3], 2, &[1, 2]), (&[1, 2, 3], 1, &[1, 2]), true),
        ("1-of-2-threshold-increase-to-2-of-2", (&[1], 1, &[1]), (&[1, 2], 2, &[1, 2]), true),
        ("1-of-1-key-rotation-fail-not-signed-with-old-key", (&[1], 1, &[1]), (&[2], 1, &[2, 3, 4]), false),
        ("1-of-1-key-rotation-fail-not-signed-with-new-key", (&[1], 1, &[1]), (&[2], 1, &[1, 3, 4]), false),
        (
            "3-of-5-one-key-rotate-fails-not-signed-with-3-new-keys",
            (&[0, 1, 2, 3, 4], 3, &[0, 2, 4]),
            (&[0, 1, 3, 4, 5], 3, &[0, 2, 4]),
            false,
        ),
        (
            "3-of-5-one-key-rotate-fails-not-signed-with-3-old-keys",
            (&[0, 1, 2, 3, 4], 3, &[0, 2, 4]),
            (&[0, 1, 3, 4, 5], 3, &[0, 4, 5]),
            false,
        ),
        (
            "1-of-3-threshold-bump-to-2-of-3-fails-new-threshold-not-reached",
            (&[1, 2, 3], 1, &[1]),
            (&[1, 2, 3], 2, &[2]),
            false,
        ),
        (
            "2-of-3-threshold-decr-to-1-of-3-fails-old-threshold-not-reached",
            (&[1, 2, 3], 2, &[1, 2]),
            (&[1, 2, 3], 1, &[1]),
            false,
        ),
    ];
    let keys = keys(10);
    let of = |numbers: &[usize]| numbers.iter().map(|&number| &keys[number]).collect::<Vec<_>>();
    for (name, before, next, follows) in table {
        let [first, second] = [(1, before), (2, next)]
            .map(|(version, (who, threshold, by))| signed(&root(version, *threshold, &of(who)), &of(by)));
        let first = Root::anchor(&first).unwrap();
        assert_eq!(first.follow(&second).is_ok(), *follows, "{name}");
    }
}
