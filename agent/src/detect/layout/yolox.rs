//! YOLOX (Ge et al., 2021) as its own exporter leaves it: offsets in cells and logarithms of sides in strides, then
//! objectness and classes, both probabilities. [1, cells, 5+classes]; takes blue first, 0 to 255.

use super::classes::Numbering;
use super::grid::{self, Cell};
use super::input::{Colors, Input, Scaling};
use super::sink::{Numbers, Sink};
use super::{BOXES_MAX, Decoder, Element, Family, Reading, Signature, fits};

pub(super) const KNOWN: &str = "one output f32 [1,cells,5+classes], cells of strides 8, 16, 32; input BGR 0 to 255";

const STRIDES: [u32; 3] = [8, 16, 32];
const SCALING: Scaling = Scaling { colors: Colors::Bgr, margin: 114, ..Scaling::BYTES };

pub(super) fn recognise(signature: &Signature, input: &Input) -> Vec<Reading> {
    read(signature, input).into_iter().collect()
}

fn read(signature: &Signature, input: &Input) -> Option<Reading> {
    let output = signature.only_output().filter(|_| signature.inputs.len() == 1)?;
    let [1, rows, columns] = *output.shape_of(Element::F32)? else { return None };
    let size = (input.width, input.height);
    if grid::count(size, &STRIDES) != rows || rows > BOXES_MAX || columns < 6 {
        return None;
    }
    let classes = fits(columns - 5)?;
    Some(Reading {
        family: Family::Yolox,
        name: "yolox",
        outputs: vec![output.name.clone()],
        extras: Vec::new(),
        numbering: Numbering::Count(classes),
        scaling: SCALING,
        suppress: true,
        decoder: Decoder::Yolox(Yolox { cells: grid::cells(size, &STRIDES), classes }),
    })
}

/// One model of the family.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Yolox {
    cells: Vec<Cell>,
    classes: usize,
}

impl Yolox {
    pub(super) fn decode(&self, output: Numbers, person: usize, sink: &mut Sink) {
        let (numbers, columns) = (output.floats(), 5 + self.classes);
        if numbers.len() != self.cells.len() * columns {
            return sink.missing(self.cells.len(), 0);
        }
        for (row, cell) in numbers.chunks_exact(columns).zip(&self.cells) {
            let (object, class) = (row[4], row[5 + person]);
            if sink.wants(object) && sink.wants(class) && sink.wants(object * class) {
                let (x, y) = ((row[0] + cell.x) * cell.stride, (row[1] + cell.y) * cell.stride);
                let (width, height) = (row[2].exp() * cell.stride, row[3].exp() * cell.stride);
                sink.push_centred_px([x, y, width, height], object * class);
            }
        }
    }
}
