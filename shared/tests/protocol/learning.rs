//! What is said of learning, for the test that holds the page to the code.

use picket_shared::ids::{EventId, NodeId};
use picket_shared::learn::label::{Label, Labels};
use picket_shared::learn::lineage::{HeadShape, Lineage};
use picket_shared::learn::message::{HeadDelta, HeadFull, HeadUpdate, LearnAck, RootSample, RootSamples};
use picket_shared::learn::operator::{LastLabel, OperatorLabel, OperatorLabels};
use picket_shared::learn::packed::Packed;
use picket_shared::learn::view::{CurvePoint, Fate, LearnerView, Learning, Mixing, ReleaseStation, ReleaseView};
use picket_shared::limits;
use picket_shared::model::rollouts::{Course, Stage};

use super::golden as check;

fn lineage() -> Lineage {
    Lineage { fleet_epoch: 1, backbone: "5a".repeat(32), shape: HeadShape::logistic(6) }
}

fn head_update() -> HeadUpdate {
    let change = Packed::of(&[0.0, 0.5, -0.25, 0.0, 0.0, 0.75, 0.1], 4).unwrap();
    let (loss_before, loss_after) = (0.7, 0.61);
    let lineage = lineage().id();
    HeadUpdate { lineage, epoch: 1, seq: 70, base: 300, samples: 40, change, loss_before, loss_after, crc: 0 }.closed()
}

fn head_full() -> HeadFull {
    HeadFull::of(lineage(), 301, &[0.0, 1.0, -2.0, 0.5, 0.25, 0.0, 3.0], Some(250), true)
}

/// With what an older coordinator did not say.
fn released_from() -> HeadFull {
    HeadFull { releases: true, ..head_full() }
}

fn head_delta() -> HeadDelta {
    let change = head_update().change;
    HeadDelta::of(lineage().id(), 301, &head_full().head().unwrap(), 305, change).unwrap()
}

fn root_samples() -> RootSamples {
    let features = [0.5f32, -1.0, 0.0, 2.0, 0.0, 1.0].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let samples = vec![RootSample { features: features.into(), label: 1, operator: "anna".into() }];
    RootSamples { lineage: lineage().id(), epoch: 1, first: 3, samples }
}

fn learn_ack() -> LearnAck {
    LearnAck { lineage: lineage().id(), epoch: 1, seq: 70, samples_epoch: 1, samples: 3 }
}

fn learning() -> Learning {
    let point = CurvePoint { time: 0.0, version: 1, rows: 1, step: 0.0, loss: 0.0, canary: None };
    let station = LearnerView {
        node: NodeId::new("gate-3").unwrap(),
        updates: 1,
        repeated: 0,
        age: 0,
        norm: 0.0,
        clip: 1.0,
        gate: None,
        fate: Fate::Used,
        loss: 0.0,
    };
    Learning {
        time: 0.0,
        lineage: lineage().id(),
        version: 1,
        released: None,
        frozen: false,
        why: String::new(),
        mixing: Mixing::NnmGate,
        root_lacks: String::new(),
        root_samples: vec![],
        curve: vec![point],
        stations: vec![station],
        refused: Default::default(),
        releases: vec![release()],
    }
}

fn release() -> ReleaseView {
    let station = ReleaseStation {
        node: NodeId::new("gate-3").unwrap(),
        canary: true,
        outcome: Stage::Committed,
        samples: 40,
        difference: Some(-0.1),
        error: Some(0.02),
        why: None,
    };
    let (course, why) = (Course::Done, String::new());
    ReleaseView { version: 1, revert_of: None, time: 0.0, course, why, stations: vec![station] }
}

fn labels() -> Labels {
    let event = EventId::new("gate-3-1700000000-42").unwrap();
    let agreed = Label { event: event.clone(), person: false, who: "yard".into() };
    Labels { labels: vec![Label { event, person: true, who: "anna".into() }], agreed: vec![agreed] }
}

fn operator_labels() -> OperatorLabels {
    let Label { event, person, .. } = labels().labels.remove(0);
    let label = OperatorLabel { event, person, who: Some("anna".into()) };
    let last = LastLabel { node: NodeId::new("gate-3").unwrap(), person: true, time: 0.0 };
    OperatorLabels { labels: vec![label], last: Some(last) }
}

pub(crate) fn golden() {
    check("head_update", include_str!("../golden/v1/head_update.hex"), &head_update());
    check("head_full", include_str!("../golden/v1/head_full.hex"), &head_full());
    check("head_full_releases", include_str!("../golden/v1/head_full_releases.hex"), &released_from());
    check("head_delta", include_str!("../golden/v1/head_delta.hex"), &head_delta());
    check("root_samples", include_str!("../golden/v1/root_samples.hex"), &root_samples());
    check("learn_ack", include_str!("../golden/v1/learn_ack.hex"), &learn_ack());
}

pub(crate) fn cbor() -> Vec<(&'static str, String)> {
    vec![
        ("### HeadUpdate", serde_json::to_string(&head_update()).unwrap()),
        ("### Packed", serde_json::to_string(&head_update().change).unwrap()),
        ("### HeadFull", serde_json::to_string(&released_from()).unwrap()),
        ("### Lineage", serde_json::to_string(&lineage()).unwrap()),
        ("### HeadShape", serde_json::to_string(&lineage().shape).unwrap()),
        ("### HeadDelta", serde_json::to_string(&head_delta()).unwrap()),
        ("### RootSamples", serde_json::to_string(&root_samples()).unwrap()),
        ("### RootSample\n", serde_json::to_string(&root_samples().samples[0]).unwrap()),
        ("### LearnAck", serde_json::to_string(&learn_ack()).unwrap()),
    ]
}

pub(crate) fn json() -> Vec<(&'static str, String)> {
    vec![
        ("Learning", serde_json::to_string(&learning()).unwrap()),
        ("CurvePoint", serde_json::to_string(&learning().curve[0]).unwrap()),
        ("LearnerView", serde_json::to_string(&learning().stations[0]).unwrap()),
        ("ReleaseView", serde_json::to_string(&release()).unwrap()),
        ("ReleaseStation", serde_json::to_string(&release().stations[0]).unwrap()),
        ("Labels", serde_json::to_string(&labels()).unwrap()),
        ("Label", serde_json::to_string(&labels().labels[0]).unwrap()),
        ("OperatorLabels", serde_json::to_string(&operator_labels()).unwrap()),
        ("OperatorLabel", serde_json::to_string(&operator_labels().labels[0]).unwrap()),
        ("LastLabel", serde_json::to_string(&operator_labels().last).unwrap()),
    ]
}

pub(crate) fn limits() -> Vec<(&'static str, usize)> {
    vec![
        ("HEAD_PARAMETERS_MAX", limits::HEAD_PARAMETERS_MAX),
        ("HEAD_INPUTS_MAX", limits::HEAD_INPUTS_MAX),
        ("HEAD_CLASSES_MAX", limits::HEAD_CLASSES_MAX),
        ("HEAD_SCALE_PARAMETERS", limits::HEAD_SCALE_PARAMETERS),
        ("HEAD_NORM_MAX", limits::HEAD_NORM_MAX),
        ("HEAD_UPDATE_BYTES_MAX", limits::HEAD_UPDATE_BYTES_MAX),
        ("HEAD_BYTES_MAX", limits::HEAD_BYTES_MAX),
        ("HEAD_DELTA_BYTES_MAX", limits::HEAD_DELTA_BYTES_MAX),
        ("ROOT_SAMPLES_MAX", limits::ROOT_SAMPLES_MAX),
        ("ROOT_SAMPLES_BYTES_MAX", limits::ROOT_SAMPLES_BYTES_MAX),
        ("LEARN_ACK_BYTES_MAX", limits::LEARN_ACK_BYTES_MAX),
        ("LABELS_MAX", limits::LABELS_MAX),
        ("AGREED_MAX", limits::AGREED_MAX),
        ("LABELS_BYTES_MAX", limits::LABELS_BYTES_MAX),
        ("LAST_LABEL_S_MAX", limits::LAST_LABEL_S_MAX as usize),
    ]
}
