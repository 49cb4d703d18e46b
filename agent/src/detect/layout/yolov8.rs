//! YOLOv8, YOLOv9 and YOLO11 as Ultralytics exports them: centre and sides in pixels, then a probability for each class;
//! no objectness. Either way round: [1, 4+classes, cells], or transposed.

use super::classes::Numbering;
use super::input::{Input, Scaling};
use super::sink::{Numbers, Sink};
use super::{BOXES_MAX, Decoder, Element, Family, Reading, Signature, fits, grid};

pub(super) const KNOWN: &str =
    "one output f32 [1,4+classes,cells] or [1,cells,4+classes], cells as of strides 8, 16, 32";

/// YOLO's gray margin.
pub(super) const SCALING: Scaling = Scaling { margin: 114, ..Scaling::UNIT };

pub(super) fn recognise(signature: &Signature, input: &Input) -> Vec<Reading> {
    read(signature, input).into_iter().collect()
}

fn read(signature: &Signature, input: &Input) -> Option<Reading> {
    let output = signature.only_output().filter(|_| signature.inputs.len() == 1)?;
    let [1, rows, columns] = *output.shape_of(Element::F32)? else { return None };
    let is_cells = |side: i64| grid::is_yolo((input.width, input.height), side);
    // A model has more cells than numbers for each, but for toys.
    let (cells, numbers, transposed) = match (is_cells(columns), is_cells(rows)) {
        (true, _) => (columns, rows, false),
        (false, true) => (rows, columns, true),
        (false, false) => return None,
    };
    if cells > BOXES_MAX || numbers < 5 {
        return None;
    }
    let (cells, classes) = (fits(cells)?, fits(numbers - 4)?);
    Some(Reading {
        family: Family::Yolov8,
        name: if transposed { "yolov8-transposed" } else { "yolov8" },
        outputs: vec![output.name.clone()],
        extras: Vec::new(),
        numbering: Numbering::Count(classes),
        scaling: SCALING,
        suppress: true,
        decoder: Decoder::Yolov8(Yolov8 { cells, classes, transposed }),
    })
}

/// One model of the family.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Yolov8 {
    cells: usize,
    classes: usize,
    transposed: bool,
}

impl Yolov8 {
    pub(super) fn decode(&self, output: Numbers, person: usize, sink: &mut Sink) {
        let (numbers, columns) = (output.floats(), 4 + self.classes);
        if numbers.len() != self.cells * columns {
            return sink.missing(self.cells, 0);
        }
        if self.transposed {
            for row in numbers.chunks_exact(columns) {
                let score = row[4 + person];
                if sink.wants(score) {
                    sink.push_centred_px([row[0], row[1], row[2], row[3]], score);
                }
            }
            return;
        }
        let plane = |at: usize| &numbers[at * self.cells..(at + 1) * self.cells];
        let (x, y, width, height) = (plane(0), plane(1), plane(2), plane(3));
        for (at, &score) in plane(4 + person).iter().enumerate() {
            if sink.wants(score) {
                sink.push_centred_px([x[at], y[at], width[at], height[at]], score);
            }
        }
    }
}
