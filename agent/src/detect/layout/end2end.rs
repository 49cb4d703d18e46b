//! Models with their suppression inside: rows of corners in pixels, a score and a class's number, in two orders.
//!
//! YOLOv10 and Ultralytics' end-to-end exports: [1,N,6] of x1, y1, x2, y2, score, class. With the picture's number in
//! front, [N,7]: YOLOv7 puts the class before the score, YOLO-NAS behind it.

use super::classes::Numbering;
use super::input::{Colors, Input, Scaling};
use super::sink::{Numbers, Sink};
use super::yolov8;
use super::{Decoder, Element, Family, Reading, Signature, grid};

pub(super) const KNOWN: &str = "one output f32 [1,N,6] or [N,6] (x1,y1,x2,y2,score,class), N no count of cells, or [N,7] with the \
                                picture's number in front";

/// Rows that such a model may give: published ones give 100 to 1,000.
const ROWS_MAX: i64 = 5000;

/// Where in a row things are.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Order {
    name: &'static str,
    columns: usize,
    corners: usize,
    score: usize,
    class: usize,
}

const PLAIN: Order = Order { name: "end2end", columns: 6, corners: 0, score: 4, class: 5 };
const YOLOV7: Order = Order { name: "end2end-yolov7", columns: 7, corners: 1, score: 6, class: 5 };
const YOLO_NAS: Order = Order { name: "end2end-yolo-nas", columns: 7, corners: 1, score: 5, class: 6 };

pub(super) fn recognise(signature: &Signature, input: &Input) -> Vec<Reading> {
    read(signature, input).into_iter().collect()
}

fn read(signature: &Signature, input: &Input) -> Option<Reading> {
    let output = signature.only_output().filter(|_| signature.inputs.len() == 1)?;
    let (rows, columns) = match *output.shape_of(Element::F32)? {
        [1, rows, columns] | [rows, columns] => (rows, columns),
        _ => return None,
    };
    let order = match columns {
        6 => PLAIN,
        // super-gradients names its output so; YOLOv7's own export says "output".
        7 if output.name.contains("flat_predictions") => YOLO_NAS,
        7 => YOLOV7,
        _ => return None,
    };
    let size = (input.width, input.height);
    let of_cells = grid::is_yolo(size, rows) || rows % 3 == 0 && grid::is_yolo(size, rows / 3);
    let says_so = signature.metadata.get("end2end").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    // How many rows there are may depend on the picture.
    if rows > ROWS_MAX || of_cells && !says_so {
        return None;
    }
    Some(Reading {
        family: Family::End2end,
        name: order.name,
        outputs: vec![output.name.clone()],
        extras: Vec::new(),
        numbering: Numbering::Named,
        scaling: if order == YOLO_NAS { Scaling { colors: Colors::Rgb, ..yolov8::SCALING } } else { yolov8::SCALING },
        suppress: false,
        decoder: Decoder::End2end(End2end { order }),
    })
}

/// One model of the family.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct End2end {
    order: Order,
}

impl End2end {
    pub(super) fn decode(&self, output: Numbers, person: usize, sink: &mut Sink) {
        let Order { columns, corners, score, class, .. } = self.order;
        let numbers = output.floats();
        if numbers.len() != output.len() || !numbers.len().is_multiple_of(columns) {
            return sink.missing(1, 0);
        }
        for row in numbers.chunks_exact(columns).take(ROWS_MAX as usize) {
            // Rows without a detection are all 0, which is a low score of class 0.
            if row[class] == person as f32 && sink.wants(row[score]) {
                sink.push_px([row[corners], row[corners + 1], row[corners + 2], row[corners + 3]], row[score]);
            } else if row[class].is_nan() {
                sink.missing(1, 0);
            }
        }
    }
}
