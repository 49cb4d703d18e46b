//! What is said of models: by whoever seals assignments, and by whoever signs what may run. Even he must not break a device.

use picket_shared::codec::encode;
use picket_shared::compress::{self, Segment, Weights};
use picket_shared::crypto::{Digest, SecretKey};
use picket_shared::event::Precision;
use picket_shared::ids::{ModelName, NodeId, StationId};
use picket_shared::model::{
    Artifact, Assignment, Chunk, Delegation, Document, Envelope, Facts, Floors, HeadManifest, LearnedManifest, Learns,
    Manifest, Needs, Root, TrialTerms, Trusted, Want, verify,
};

use super::Verdict;
use super::wire::{KEY, message};

const NOW_S: u64 = 1_800_000_000;

fn key() -> SecretKey {
    SecretKey::from_pem(KEY).unwrap()
}

fn root(version: u64) -> Root {
    Root { version, expires_s: NOW_S + 1_000_000, threshold: 1, keys: vec![key().public()] }
}

fn signed<D: Document>(document: &D) -> Envelope {
    let mut envelope = Envelope::of(document).unwrap();
    envelope.sign::<D>(&key());
    envelope
}

fn judged(assignment: &Assignment) -> Verdict {
    let (node, station, orders) = (NodeId::new("n1").unwrap(), StationId::new("gate").unwrap(), key().public());
    let facts = Facts {
        node: &node,
        station: &station,
        orders: Some(&orders),
        arch: "x86_64",
        providers: &["cpu".to_owned()],
        memory_bytes: 1 << 30,
        runtime_api: 24,
        learns: Some(Learns { backbone: Digest::of(b"a network"), inputs: 3 }),
    };
    let before = Trusted::begin(root(1));
    let outcome = verify(&before, assignment, &facts, NOW_S + 1);
    if outcome.trusted.root.version < before.root.version {
        return Err("it went back to an older root".into());
    }
    if encode(&outcome.trusted).is_err() {
        return Err("what is to be remembered cannot be written".into());
    }
    match &outcome.learned {
        Some(Ok(manifest)) if manifest.check().is_err() => {
            return Err("a learned head without its bounds was taken".into());
        }
        Some(Err(refusal)) if refusal.to_string().len() < 12 => return Err(format!("no sentence: {refusal}")),
        _ => {}
    }
    match outcome.verdict {
        Ok(plan) if plan.release.as_ref().is_some_and(|manifest| manifest.check().is_err()) => {
            Err("a release without its bounds became a plan".into())
        }
        Ok(_) => Ok(true),
        Err(refusal) if refusal.to_string().len() < 12 => Err(format!("a refusal without a sentence: {refusal}")),
        Err(_) => Ok(false),
    }
}

pub(super) fn assignment(bytes: &[u8]) -> Verdict {
    match message::<Assignment>(bytes)? {
        Some(assignment) => judged(&assignment),
        None => Ok(false),
    }
}

/// The bytes as they came, signed by enough keys: as a release, as a root, and as a head.
pub(super) fn manifest(bytes: &[u8]) -> Verdict {
    fn of<D: Document>(bytes: &[u8]) -> Result<Envelope, String> {
        let mut envelope = Envelope { payload: bytes.to_vec().into(), signatures: vec![] };
        envelope.sign::<D>(&key());
        if let Ok(document) = envelope.open::<D>(&[key().public()], 1) {
            // Not compared: a number that was read is not always written in the same digits.
            signed(&document).read::<D>().map_err(|error| format!("read, and cannot be read again: {error}"))?;
        }
        Ok(envelope)
    }
    let (release, next, head) = (of::<Manifest>(bytes)?, of::<Root>(bytes)?, of::<HeadManifest>(bytes)?);
    let _ = Root::anchor(&next);
    let honest = honest();
    let as_release = judged(&Assignment { release: Some(release), head: None, ..honest.clone() })?;
    let as_root = judged(&Assignment { roots: vec![honest.roots[0].clone(), next], ..honest.clone() })?;
    let as_head = judged(&Assignment { head: Some(head), ..honest.clone() })?;
    let as_learned = judged(&Assignment { learned: Some(of::<LearnedManifest>(bytes)?), ..honest })?;
    Ok(as_release || as_root || as_head || as_learned)
}

pub(super) fn envelope(bytes: &[u8]) -> Verdict {
    fn trip<D: Document>(text: &str) -> Verdict {
        match Envelope::from_file::<D>(text) {
            Ok(envelope) if envelope.to_file::<D>() == text => Ok(true),
            Ok(_) => Err("two forms of one file are read".into()),
            Err(error) if error.len() < 8 || error.contains('\n') => Err(format!("not one sentence: {error:?}")),
            Err(_) => Ok(false),
        }
    }
    let text = String::from_utf8_lossy(bytes);
    Ok(trip::<Root>(&text)? | trip::<Manifest>(&text)? | trip::<HeadManifest>(&text)?)
}

pub(super) fn pieces(bytes: &[u8]) -> Verdict {
    Ok(message::<Want>(bytes)?.is_some() | message::<Chunk>(bytes)?.is_some())
}

/// A file that was fetched, as it travelled: alone, and as what changes another one.
pub(super) fn compressed(bytes: &[u8]) -> Verdict {
    let base = base();
    let alone = compress::decode(bytes, None, COMPRESSED_BYTES_MAX);
    let onto = compress::decode(bytes, Some(&base), COMPRESSED_BYTES_MAX);
    for file in [&alone, &onto].into_iter().flatten() {
        if file.len() > COMPRESSED_BYTES_MAX {
            return Err(format!("it became {} bytes, of at most {COMPRESSED_BYTES_MAX}", file.len()));
        }
    }
    match (alone, onto) {
        (Ok(alone), onto) if onto.as_ref() != Ok(&alone) => {
            Err("a file that builds on nothing depends on another".into())
        }
        (_, onto) if onto != compress::decode(bytes, Some(&base), COMPRESSED_BYTES_MAX) => {
            Err("the same bytes became two files".into())
        }
        (_, onto) => Ok(onto.is_ok()),
    }
}

/// As large as what a fuzzer makes; a device says how large the file is that it expects.
const COMPRESSED_BYTES_MAX: usize = 64 * 1024;

fn base() -> Vec<u8> {
    (0..4096u32).flat_map(|n| (n as u16).to_le_bytes()).collect()
}

pub(super) fn trusted(bytes: &[u8]) -> Verdict {
    let Some(trusted) = message::<Trusted>(bytes)? else { return Ok(false) };
    let _ = trusted.is_frozen(NOW_S);
    let _ = Trusted::anchored(Some(trusted), root(3));
    Ok(true)
}

fn release() -> Manifest {
    Manifest {
        name: ModelName::new("person").unwrap(),
        counter: 3,
        expires_s: NOW_S + 1_000_000,
        chunk_bytes: 32_768,
        file: Artifact::plain(b"a model"),
        head: Some(Artifact::plain(&[0; 12])),
        calibration: None,
        labels: None,
        family: Some("centernet".into()),
        input: Some([384, 288]),
        precision: Precision::Fp32,
        floors: Floors { agreement_min: 0.85, ap50_min: Some(0.5), count_off_mean_max: Some(1.0) },
        needs: Needs { arch: vec!["x86_64".into()], providers: vec![], memory_bytes: 0, runtime_api: 20 },
        delegation: Some(Delegation { numbers: 3, norm_max: 10.0 }),
    }
}

fn head() -> HeadManifest {
    let (name, base) = (release().name, release().file.sha256);
    let file = Artifact::plain(&[1; 12]);
    HeadManifest { name, counter: 2, expires_s: NOW_S + 1_000_000, chunk_bytes: 32_768, base, file }
}

fn honest() -> Assignment {
    Assignment {
        node: NodeId::new("n1").unwrap(),
        station: StationId::new("gate").unwrap(),
        number: 7,
        issued_s: NOW_S,
        expires_s: NOW_S + 60_000,
        not_before_s: 0,
        root_from: 1,
        roots: vec![signed(&root(1)), signed(&root(2))],
        release: Some(signed(&release())),
        head: Some(signed(&head())),
        trial: TrialTerms::default(),
        learned: None,
        release_number: None,
    }
}

pub(super) fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let mut seen = Trusted::begin(root(2));
    seen.counters.insert(release().name, 3);
    let numbers = vec![3, 0, 0, 0, 0, 0, -2, 1];
    let weights =
        |from| Segment::Weights(Weights { halves: true, numbers: numbers.clone(), from, ..Weights::default() });
    let packed = |segments: &[Segment]| compress::encode(segments).unwrap();
    vec![
        ("compressed", "deep", packed(&[Segment::Literal(b"before"), weights(None), Segment::Literal(b"after")])),
        ("compressed", "delta", packed(&[Segment::Copy { from: 0, length: 64 }, weights(Some(64))])),
        ("compressed", "literal", packed(&[Segment::Literal(b"nothing but bytes as they are")])),
        ("assignment", "whole", encode(&honest()).unwrap()),
        ("assignment", "cleared", encode(&Assignment { release: None, head: None, ..honest() }).unwrap()),
        ("manifest", "release", serde_json::to_vec(&release()).unwrap()),
        ("manifest", "root", serde_json::to_vec(&root(2)).unwrap()),
        ("manifest", "head", serde_json::to_vec(&head()).unwrap()),
        ("envelope", "release", signed(&release()).to_file::<Manifest>().into_bytes()),
        ("envelope", "root", signed(&root(1)).to_file::<Root>().into_bytes()),
        (
            "pieces",
            "want",
            encode(&Want { sha256: Digest([7; 32]), ranges: vec![(0, 3), (9, 9)], chunk_bytes: 1024 }).unwrap(),
        ),
        ("pieces", "chunk", encode(&Chunk { index: 7, bytes: vec![1, 2, 3].into() }).unwrap()),
        ("trusted", "whole", encode(&seen).unwrap()),
    ]
}
