//! CenterNet (Zhou, Wang, Krähenbühl, "Objects as Points", 2019) with its peaks picked inside the graph.
//!
//! Takes RGB bytes [1, height, width, 3]; gives corners as parts of the picture, and scores. Two forms: all cells, and
//! the best N with their features, where the class head comes in as an input so that it can be replaced.

use super::classes::Numbering;
use super::input::{Input, Scaling};
use super::sink::{Numbers, Sink};
use super::{Decoder, Element, Extra, Family, Reading, Signature, fits};

pub(super) const KNOWN: &str = "input image u8 [1,height,width,3]; outputs boxes f32 [1,A,4] and scores f32 [1,A], or boxes \
                                [N,4], scores [N] and features [N,C] with inputs cls_w f32 [1,C,1,1] and cls_b f32 [1]";

pub(super) fn recognise(signature: &Signature, input: &Input) -> Vec<Reading> {
    read(signature, input).into_iter().collect()
}

fn read(signature: &Signature, input: &Input) -> Option<Reading> {
    if input.name != "image" || input.element != Element::U8 || input.planar {
        return None;
    }
    let boxes = signature.output("boxes")?.shape_of(Element::F32)?;
    let scores = signature.output("scores")?.shape_of(Element::F32)?;
    let (count, name, extras) = match (boxes, scores) {
        ([1, count, 4], [1, scored]) if count == scored && signature.inputs.len() == 1 => {
            (*count, "centernet", Vec::new())
        }
        ([count, 4], [scored]) if count == scored && signature.inputs.len() == 3 => {
            let [1, weights, 1, 1] = signature.input("cls_w")?.shape_of(Element::F32)?[..] else { return None };
            let [1] = signature.input("cls_b")?.shape_of(Element::F32)?[..] else { return None };
            let features = signature.output("features")?.shape_of(Element::F32)?;
            let weights = fits(weights).filter(|_| features == [*count, weights])?;
            (*count, "centernet-top", vec![Extra::HeadWeights(weights), Extra::HeadBias])
        }
        _ => return None,
    };
    Some(Reading {
        family: Family::CenterNet,
        name,
        outputs: vec!["boxes".into(), "scores".into()],
        extras,
        numbering: Numbering::Person,
        // What lies around a frame is black, unless the model was made of one that had it otherwise.
        scaling: Scaling {
            margin: signature.metadata.get("margin").and_then(|gray| gray.parse().ok()).unwrap_or(0),
            ..Scaling::BYTES
        },
        suppress: true,
        decoder: Decoder::CenterNet(CenterNet { boxes: fits(count)? }),
    })
}

/// One model of the family.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CenterNet {
    /// Boxes that it gives.
    boxes: usize,
}

impl CenterNet {
    /// `taken` hears the number of each candidate that became a detection.
    pub(super) fn decode(&self, boxes: Numbers, scores: Numbers, sink: &mut Sink, mut taken: impl FnMut(usize)) {
        let (boxes, scores) = (boxes.floats().as_chunks::<4>().0, scores.floats());
        sink.missing(self.boxes, boxes.len().min(scores.len()));
        for (row, (corners, &score)) in boxes.iter().zip(scores).take(self.boxes).enumerate() {
            if sink.wants(score) && sink.takes(*corners, score) {
                taken(row);
            }
        }
    }
}
