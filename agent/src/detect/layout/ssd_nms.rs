//! SSD and its kin with suppression inside, as model zoos give them: boxes, classes and scores of the detections alone.
//!
//! TensorFlow's Object Detection API: y1, x1, y2, x2 as parts of the picture, and a count. ONNX zoo and torchvision: x1,
//! y1, x2, y2, as parts ([1,N,4]) or in pixels ([N,4]), and as many as there are.

use super::classes::Numbering;
use super::input::{Input, Scaling};
use super::sink::{Numbers, Sink};
use super::{BOXES_MAX, Decoder, Element, Family, Port, Reading, Signature};

pub(super) const KNOWN: &str = "outputs detection_boxes [1,N,4], detection_classes [1,N], detection_scores [1,N] and \
                                num_detections [1]; or bboxes or boxes, labels and scores of a model with one input";

/// How four numbers make a box.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Corners {
    PartsRowFirst,
    Parts,
    Pixels,
}

pub(super) fn recognise(signature: &Signature, _: &Input) -> Vec<Reading> {
    if signature.inputs.len() != 1 {
        return Vec::new();
    }
    tensorflow(signature).or_else(|| labelled(signature)).into_iter().collect()
}

fn tensorflow(signature: &Signature) -> Option<Reading> {
    let boxes = signature.output("detection_boxes")?;
    let scores = signature.output("detection_scores")?;
    let classes = signature.output("detection_classes")?;
    let count = signature.output("num_detections")?;
    let ([1, n, 4], [1, m], [1, k]) =
        (boxes.shape_of(Element::F32)?, scores.shape_of(Element::F32)?, &classes.shape[..])
    else {
        return None;
    };
    if n != m || n != k || *n > BOXES_MAX || !is_numbered(classes) || !is_numbered(count) {
        return None;
    }
    let outputs = [boxes, scores, classes, count].map(|port| port.name.clone()).to_vec();
    Some(reading("ssd-tensorflow", outputs, Scaling::BYTES, SsdNms { corners: Corners::PartsRowFirst, counted: true }))
}

fn labelled(signature: &Signature) -> Option<Reading> {
    let boxes = signature.output("bboxes").or_else(|| signature.output("boxes"))?;
    let scores = signature.output("scores")?;
    let labels = signature.output("labels")?;
    let is_list = |port: &Port, rank: usize| port.shape.len() == rank;
    let corners = match boxes.shape_of(Element::F32)? {
        [1, n, 4] if *n <= BOXES_MAX && is_list(scores, 2) && is_list(labels, 2) => Corners::Parts,
        [n, 4] if *n <= BOXES_MAX && is_list(scores, 1) && is_list(labels, 1) => Corners::Pixels,
        _ => return None,
    };
    if scores.element != Element::F32 || !matches!(labels.element, Element::I64 | Element::I32) {
        return None;
    }
    let outputs = [boxes, scores, labels].map(|port| port.name.clone()).to_vec();
    let scaling = if corners == Corners::Pixels { Scaling::UNIT } else { Scaling::IMAGENET };
    Some(reading("ssd-labelled", outputs, scaling, SsdNms { corners, counted: false }))
}

fn is_numbered(port: &Port) -> bool {
    matches!(port.element, Element::F32 | Element::I64 | Element::I32)
}

fn reading(name: &'static str, outputs: Vec<String>, scaling: Scaling, ssd: SsdNms) -> Reading {
    Reading {
        family: Family::Ssd,
        name,
        outputs,
        extras: Vec::new(),
        numbering: Numbering::Named,
        scaling,
        suppress: false,
        decoder: Decoder::SsdNms(ssd),
    }
}

/// One model of the family.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SsdNms {
    corners: Corners,
    /// A fourth output says how many of them count.
    counted: bool,
}

impl SsdNms {
    pub(super) fn decode(&self, outputs: &[Numbers], person: usize, sink: &mut Sink) {
        let (boxes, scores, classes) = (outputs[0].floats().as_chunks::<4>().0, outputs[1].floats(), outputs[2]);
        let there = boxes.len().min(scores.len()).min(classes.len()).min(BOXES_MAX as usize);
        let expected = match self.counted.then(|| outputs[3].whole(0)) {
            Some(None) => return sink.missing(1, 0),
            Some(Some(counted)) => counted.min(BOXES_MAX as usize),
            None => boxes.len().max(scores.len()).max(classes.len()).min(BOXES_MAX as usize),
        };
        sink.missing(expected, there);
        for (at, (corners, &score)) in boxes.iter().zip(scores).take(there.min(expected)).enumerate() {
            match classes.whole(at) {
                None => sink.missing(1, 0),
                Some(class) if class == person && sink.wants(score) => match self.corners {
                    Corners::PartsRowFirst => sink.push([corners[1], corners[0], corners[3], corners[2]], score),
                    Corners::Parts => sink.push(*corners, score),
                    Corners::Pixels => sink.push_px(*corners, score),
                },
                Some(_) => {}
            }
        }
    }
}
