//! YOLOv5 and YOLOv7: centre and sides in pixels, objectness, then a probability for each class; three boxes a cell.
//! [1, 3·cells, 5+classes].

use super::classes::Numbering;
use super::input::Input;
use super::sink::{Numbers, Sink};
use super::yolov8::SCALING;
use super::{BOXES_MAX, Decoder, Element, Family, Reading, Signature, fits, grid};

pub(super) const KNOWN: &str = "one output f32 [1,3·cells,5+classes], cells as of strides 8, 16, 32";

pub(super) fn recognise(signature: &Signature, input: &Input) -> Vec<Reading> {
    read(signature, input).into_iter().collect()
}

fn read(signature: &Signature, input: &Input) -> Option<Reading> {
    let output = signature.only_output().filter(|_| signature.inputs.len() == 1)?;
    let [1, rows, columns] = *output.shape_of(Element::F32)? else { return None };
    if rows % 3 != 0 || !grid::is_yolo((input.width, input.height), rows / 3) || rows > BOXES_MAX || columns < 6 {
        return None;
    }
    let (rows, classes) = (fits(rows)?, fits(columns - 5)?);
    Some(Reading {
        family: Family::Yolov5,
        name: "yolov5",
        outputs: vec![output.name.clone()],
        extras: Vec::new(),
        numbering: Numbering::Count(classes),
        scaling: SCALING,
        suppress: true,
        decoder: Decoder::Yolov5(Yolov5 { rows, classes }),
    })
}

/// One model of the family.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Yolov5 {
    rows: usize,
    classes: usize,
}

impl Yolov5 {
    pub(super) fn decode(&self, output: Numbers, person: usize, sink: &mut Sink) {
        let (numbers, columns) = (output.floats(), 5 + self.classes);
        if numbers.len() != self.rows * columns {
            return sink.missing(self.rows, 0);
        }
        for row in numbers.chunks_exact(columns) {
            // Both are probabilities: an objectness below the least score leaves the product below it.
            let (object, class) = (row[4], row[5 + person]);
            if sink.wants(object) && sink.wants(class) && sink.wants(object * class) {
                sink.push_centred_px([row[0], row[1], row[2], row[3]], object * class);
            }
        }
    }
}
