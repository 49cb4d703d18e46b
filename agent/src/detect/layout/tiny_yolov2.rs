//! Tiny YOLOv2 (Redmon, Farhadi, "YOLO9000", 2017), the detector of the ONNX model zoo: [1, 5·(5+classes), rows, columns]
//! over cells of 32 pixels, five anchors a cell, everything as logits.

use super::classes::Numbering;
use super::input::{Input, Scaling};
use super::sink::{Numbers, Sink, sigmoid};
use super::{Decoder, Element, Family, Reading, Signature, fits};

pub(super) const KNOWN: &str = "one output f32 [1,125,height/32,width/32] (VOC) or [1,425,height/32,width/32] (COCO)";

const STRIDE: u32 = 32;
const ANCHORS: usize = 5;
/// Widths and heights in cells, as the published models have them.
type Anchors = [[f32; 2]; ANCHORS];
const VOC: Anchors = [[1.08, 1.19], [3.42, 4.41], [6.63, 11.38], [9.42, 5.11], [16.62, 10.52]];
const COCO: Anchors =
    [[0.57273, 0.677385], [1.87446, 2.06253], [3.33843, 5.47434], [7.88282, 3.52778], [9.77052, 9.16828]];

pub(super) fn recognise(signature: &Signature, input: &Input) -> Vec<Reading> {
    read(signature, input).into_iter().collect()
}

fn read(signature: &Signature, input: &Input) -> Option<Reading> {
    let output = signature.only_output().filter(|_| signature.inputs.len() == 1)?;
    let [1, channels, rows, columns] = *output.shape_of(Element::F32)? else { return None };
    let of = |cells: i64, pixels: u32| pixels.is_multiple_of(STRIDE) && cells == i64::from(pixels / STRIDE);
    if !of(rows, input.height) || !of(columns, input.width) {
        return None;
    }
    // Other counts have anchors of their own, which no shape tells.
    let (classes, anchors) = match channels {
        125 => (20, VOC),
        425 => (80, COCO),
        _ => return None,
    };
    Some(Reading {
        family: Family::TinyYolov2,
        name: "tiny-yolov2",
        outputs: vec![output.name.clone()],
        extras: Vec::new(),
        numbering: Numbering::Count(classes),
        scaling: Scaling::BYTES,
        suppress: true,
        decoder: Decoder::TinyYolov2(TinyYolov2 { columns: fits(columns)?, rows: fits(rows)?, classes, anchors }),
    })
}

/// One model of the family.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TinyYolov2 {
    columns: usize,
    rows: usize,
    classes: usize,
    anchors: Anchors,
}

impl TinyYolov2 {
    pub(super) fn decode(&self, output: Numbers, person: usize, sink: &mut Sink) {
        let (numbers, cells, channels) = (output.floats(), self.columns * self.rows, 5 + self.classes);
        if numbers.len() != ANCHORS * channels * cells {
            return sink.missing(ANCHORS * cells, 0);
        }
        for (planes, [width, height]) in numbers.chunks_exact(channels * cells).zip(&self.anchors) {
            let at = |channel: usize, cell: usize| planes[channel * cells + cell];
            for cell in 0..cells {
                let object = sigmoid(at(4, cell));
                if !sink.wants(object) {
                    continue;
                }
                let classes = (0..self.classes).map(|class| at(5 + class, cell));
                let most = classes.clone().fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = classes.map(|logit| (logit - most).exp()).sum();
                let score = object * (at(5 + person, cell) - most).exp() / sum;
                if sink.wants(score) {
                    let (column, row) = ((cell % self.columns) as f32, (cell / self.columns) as f32);
                    let stride = STRIDE as f32;
                    let x = (column + sigmoid(at(0, cell))) * stride;
                    let y = (row + sigmoid(at(1, cell))) * stride;
                    let sides = [at(2, cell).exp() * width * stride, at(3, cell).exp() * height * stride];
                    sink.push_centred_px([x, y, sides[0], sides[1]], score);
                }
            }
        }
    }
}
