//! What is said of models, of every kind, and what the page has of it.

use picket_shared::crypto::{Digest, KeyId, PublicKey};
use picket_shared::event::Precision;
use picket_shared::ids::{ModelName, NodeId, StationId};
use picket_shared::learn::lineage::{HeadShape, Lineage};
use picket_shared::limits;
use picket_shared::model::rollouts::{Course, GroupView, ModelsView, RolloutView, Stage, StationModel};
use picket_shared::model::{
    Artifact, Assignment, Chunk, Delegation, Encoding, Envelope, Floors, HeadManifest, HeadSeen, LearnedManifest,
    LearnedSeen, LearnedState, Manifest, ModelPhase, ModelState, Needs, OrdersSeen, Root, RunningModel, Signature,
    SlotState, TrialFigures, TrialTerms, Trusted, Want,
};
use serde_bytes::ByteBuf;

fn model() -> ModelName {
    ModelName::new("person").unwrap()
}

fn envelope() -> Envelope {
    let signature = Signature { key: KeyId([1; 8]), signature: ByteBuf::from(vec![7; 64]) };
    Envelope { payload: ByteBuf::from(vec![1, 2, 3]), signatures: vec![signature] }
}

fn assignment() -> Assignment {
    Assignment {
        node: NodeId::new("gate-3").unwrap(),
        station: StationId::new("gate").unwrap(),
        number: 12,
        issued_s: 1_800_000_000,
        expires_s: 1_800_259_200,
        not_before_s: 0,
        root_from: 2,
        roots: vec![envelope()],
        release: Some(envelope()),
        head: None,
        trial: TrialTerms { shadow_frames: 300, shadow_s_max: 900, agreement_min: Some(0.75), attempts: 3 },
        learned: None,
        release_number: None,
    }
}

/// With what an older coordinator did not say.
fn with_learned() -> Assignment {
    Assignment { learned: Some(envelope()), release_number: Some(11), ..assignment() }
}

fn want() -> Want {
    Want { sha256: Digest([0xab; 32]), ranges: vec![(0, 3), (70, 70)], chunk_bytes: 65_536 }
}

fn chunk() -> Chunk {
    Chunk { index: 70, bytes: ByteBuf::from(vec![9, 8, 7]) }
}

/// What a device keeps on its disk, and a later program must still read.
fn trusted() -> Trusted {
    let root = Root { version: 2, expires_s: 1_900_000_000, threshold: 1, keys: vec![PublicKey([5; 32])] };
    let key = KeyId([1; 8]);
    let orders = OrdersSeen { key, number: 12, issued_s: 1_800_000_000, fresh_until_s: 1_800_259_200 };
    let (counters, heads) = ([(model(), 7)].into(), [(model(), HeadSeen { key, counter: 3 })].into());
    Trusted { root, orders: Some(orders), counters, heads, learned: vec![] }
}

/// The same with what an older device did not keep.
fn with_learned_seen() -> Trusted {
    let (backbone, key) = (Digest([0xab; 32]), KeyId([1; 8]));
    let seen = LearnedSeen { backbone, key, fleet_epoch: 1, counter: 300, issued_s: 1_800_000_000 };
    Trusted { learned: vec![seen], ..trusted() }
}

fn manifest() -> Manifest {
    let (file, head) = (Artifact::plain(&[1]), Artifact::plain(&[2; 8]));
    Manifest {
        name: model(),
        counter: 7,
        expires_s: 1_900_000_000,
        chunk_bytes: 32_768,
        file,
        head: Some(head.clone()),
        calibration: Some(head.clone()),
        labels: Some(head),
        family: Some("centernet".into()),
        input: Some([384, 288]),
        precision: Precision::Fp32,
        floors: Floors { agreement_min: 0.85, ap50_min: Some(0.8), count_off_mean_max: Some(0.5) },
        needs: Needs { arch: vec![], providers: vec![], memory_bytes: 0, runtime_api: 20 },
        delegation: Some(Delegation { numbers: 2, norm_max: 10.0 }),
    }
}

fn state() -> ModelState {
    let running = RunningModel { name: Some(model()), counter: 7, sha256: Digest([0xab; 32]), head: None };
    let slot = SlotState { slot: "a".into(), state: "active".into(), model: Some(running.clone()), attempts: 1 };
    let trial = TrialFigures {
        frames: 1,
        frames_wanted: 1,
        agreement: 1.0,
        count_off_mean: 0.0,
        inference_ms: 1.0,
        inference_ms_before: 1.0,
    };
    ModelState {
        time: 0,
        phase: ModelPhase::Idle,
        active: Some(running),
        candidate: None,
        bytes: 0,
        bytes_wanted: 0,
        slots: vec![slot],
        trial: Some(trial),
        swap_gap_ms: Some(1.0),
        reason: None,
        detail: None,
        root: 1,
        assignment: 12,
        counters: [(model(), 7)].into(),
        learned: Some(LearnedState {
            backbone: Digest([0xab; 32]),
            version: 300,
            phase: ModelPhase::Idle,
            used: 300,
            judges: true,
            reason: None,
            detail: None,
            samples: 40,
            difference: Some(-0.1),
            error: Some(0.02),
        }),
    }
}

fn view() -> ModelsView {
    let group = GroupView { name: "canary".into(), members: 1, committed: 0, failed: 0, pending: 1, aside: 0 };
    let rollout = RolloutView {
        number: 1,
        model: model(),
        counter: 7,
        head: None,
        begun: 0,
        course: Course::Running,
        why: String::new(),
        group: 0,
        groups: vec![group],
    };
    let station = StationModel {
        node: NodeId::new("gate-3").unwrap(),
        station: StationId::new("gate").unwrap(),
        pinned: false,
        runs: None,
        assigned: None,
        phase: None,
        rollout: None,
        stage: Some(Stage::Waiting),
        fetched: None,
        reason: None,
        detail: None,
        trial: None,
    };
    ModelsView { time: 0.0, rollouts: vec![rollout], stations: vec![station] }
}

/// Today's bytes are those of version 1.
pub(crate) fn golden() {
    super::golden("assignment", include_str!("../golden/v1/assignment.hex"), &assignment());
    super::golden("assignment_learned", include_str!("../golden/v1/assignment_learned.hex"), &with_learned());
    super::golden("trusted_learned", include_str!("../golden/v1/trusted_learned.hex"), &with_learned_seen());
    super::golden("want", include_str!("../golden/v1/want.hex"), &want());
    super::golden("chunk", include_str!("../golden/v1/chunk.hex"), &chunk());
    super::golden("trusted", include_str!("../golden/v1/trusted.hex"), &trusted());
}

/// Headings, and a message of each.
pub(crate) fn cbor() -> Vec<(&'static str, String)> {
    vec![
        ("### Assignment", serde_json::to_string(&with_learned()).unwrap()),
        ("### Envelope", serde_json::to_string(&envelope()).unwrap()),
        ("### Signature", serde_json::to_string(&envelope().signatures[0]).unwrap()),
        ("### TrialTerms", serde_json::to_string(&assignment().trial).unwrap()),
        ("### Want", serde_json::to_string(&want()).unwrap()),
        ("### Chunk", serde_json::to_string(&chunk()).unwrap()),
    ]
}

/// Names, and a message of each.
pub(crate) fn json() -> Vec<(&'static str, String)> {
    let (manifest, state) = (manifest(), state());
    let head = HeadManifest {
        name: model(),
        counter: 1,
        expires_s: 0,
        chunk_bytes: 1024,
        base: Digest([0; 32]),
        file: Artifact::plain(&[0]),
    };
    let lineage = Lineage { fleet_epoch: 1, backbone: "5a".repeat(32), shape: HeadShape::logistic(6) };
    let learned = LearnedManifest {
        lineage,
        counter: 2,
        expires_s: 0,
        chunk_bytes: 1024,
        revert_of: Some(1),
        file: Artifact::plain(&[0; 28]),
    };
    let encoding = Encoding { from: Some(Digest([0; 32])), ..manifest.file.encodings[0].clone() };
    vec![
        ("ModelsView", serde_json::to_string(&view()).unwrap()),
        ("RolloutView", serde_json::to_string(&view().rollouts[0]).unwrap()),
        ("GroupView", serde_json::to_string(&view().rollouts[0].groups[0]).unwrap()),
        ("StationModel", serde_json::to_string(&view().stations[0]).unwrap()),
        ("Root", serde_json::to_string(&trusted().root).unwrap()),
        ("Manifest", serde_json::to_string(&manifest).unwrap()),
        ("Artifact", serde_json::to_string(&manifest.file).unwrap()),
        ("Encoding", serde_json::to_string(&encoding).unwrap()),
        ("Floors", serde_json::to_string(&manifest.floors).unwrap()),
        ("Needs", serde_json::to_string(&manifest.needs).unwrap()),
        ("Delegation", serde_json::to_string(&manifest.delegation).unwrap()),
        ("HeadManifest", serde_json::to_string(&head).unwrap()),
        ("LearnedManifest", serde_json::to_string(&learned).unwrap()),
        ("ModelState", serde_json::to_string(&state).unwrap()),
        ("LearnedState", serde_json::to_string(&state.learned).unwrap()),
        ("RunningModel", serde_json::to_string(&state.active).unwrap()),
        ("SlotState", serde_json::to_string(&state.slots[0]).unwrap()),
        ("TrialFigures", serde_json::to_string(&state.trial).unwrap()),
    ]
}

/// Limits, as the page states them.
pub(crate) fn limits() -> Vec<(&'static str, usize)> {
    vec![
        ("MODEL_BYTES_MAX", limits::MODEL_BYTES_MAX),
        ("MODEL_PART_BYTES_MAX", limits::MODEL_PART_BYTES_MAX),
        ("MODEL_KEYS_MAX", limits::MODEL_KEYS_MAX),
        ("MODEL_SIGNATURES_MAX", limits::MODEL_SIGNATURES_MAX),
        ("MODEL_ROOT_BYTES_MAX", limits::MODEL_ROOT_BYTES_MAX),
        ("MODEL_ROOTS_MAX", limits::MODEL_ROOTS_MAX),
        ("MODEL_MANIFEST_BYTES_MAX", limits::MODEL_MANIFEST_BYTES_MAX),
        ("MODEL_ENCODINGS_MAX", limits::MODEL_ENCODINGS_MAX),
        ("MODEL_NAMES_MAX", limits::MODEL_NAMES_MAX),
        ("MODEL_LEARNED_MAX", limits::MODEL_LEARNED_MAX),
        ("MODEL_ASSIGNMENT_BYTES_MAX", limits::MODEL_ASSIGNMENT_BYTES_MAX),
        ("MODEL_ASSIGNMENT_LIFE_S", limits::MODEL_ASSIGNMENT_LIFE_S as usize),
        ("MODEL_CHUNK_BYTES_MIN", limits::MODEL_CHUNK_BYTES_MIN),
        ("MODEL_CHUNK_BYTES_MAX", limits::MODEL_CHUNK_BYTES_MAX),
        ("MODEL_CHUNK_MESSAGE_BYTES_MAX", limits::MODEL_CHUNK_MESSAGE_BYTES_MAX),
        ("MODEL_WANT_RANGES_MAX", limits::MODEL_WANT_RANGES_MAX),
        ("MODEL_WANT_BYTES_MAX", limits::MODEL_WANT_BYTES_MAX),
    ]
}
