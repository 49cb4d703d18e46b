//! NanoDet and NanoDet-Plus (Lyu, 2020 and 2021): class probabilities, then for each side of the box a distribution over
//! distances in strides (Li et al., "Generalized Focal Loss", 2020). [1, cells, classes + 4·bins].

use super::classes::Numbering;
use super::grid::{self, Cell};
use super::input::{Colors, Input, Scaling};
use super::sink::{Numbers, Sink};
use super::{BOXES_MAX, Decoder, Element, Family, Reading, Signature, fits};

pub(super) const KNOWN: &str = "one output f32 [1,cells,classes+4·bins] with 8 or 11 bins, cells of strides 8, 16, 32 \
                                and, for Plus, 64; input BGR";

/// What the published configurations use: `reg_max` 7 and 10.
const BINS: [i64; 2] = [8, 11];

/// Blue first, ImageNet's mean and spread in that order.
const SCALING: Scaling =
    Scaling { colors: Colors::Bgr, mean: [103.53, 116.28, 123.675], std: [57.375, 57.12, 58.395], margin: 0 };

struct Generation {
    name: &'static str,
    strides: &'static [u32],
    /// Where in its cell a box begins to be measured.
    centre: f32,
}

const GENERATIONS: [Generation; 2] = [
    Generation { name: "nanodet-plus", strides: &[8, 16, 32, 64], centre: 0.0 },
    Generation { name: "nanodet", strides: &[8, 16, 32], centre: 0.5 },
];

pub(super) fn recognise(signature: &Signature, input: &Input) -> Vec<Reading> {
    let mut readings = Vec::new();
    for generation in &GENERATIONS {
        readings.extend(BINS.iter().filter_map(|bins| read(signature, input, generation, *bins)));
    }
    readings
}

fn read(signature: &Signature, input: &Input, generation: &Generation, bins: i64) -> Option<Reading> {
    let output = signature.only_output().filter(|_| signature.inputs.len() == 1)?;
    let [1, rows, columns] = *output.shape_of(Element::F32)? else { return None };
    let size = (input.width, input.height);
    if grid::count(size, generation.strides) != rows || rows > BOXES_MAX {
        return None;
    }
    let classes = fits(columns.saturating_sub(4 * bins))?;
    let cells = grid::cells(size, generation.strides);
    Some(Reading {
        family: Family::Nanodet,
        name: generation.name,
        outputs: vec![output.name.clone()],
        extras: Vec::new(),
        numbering: Numbering::Count(classes),
        scaling: SCALING,
        suppress: true,
        decoder: Decoder::Nanodet(Nanodet { cells, classes, bins: fits(bins)?, centre: generation.centre }),
    })
}

/// One model of the family.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Nanodet {
    cells: Vec<Cell>,
    classes: usize,
    bins: usize,
    centre: f32,
}

impl Nanodet {
    pub(super) fn decode(&self, output: Numbers, person: usize, sink: &mut Sink) {
        let (numbers, columns) = (output.floats(), self.classes + 4 * self.bins);
        if numbers.len() != self.cells.len() * columns {
            return sink.missing(self.cells.len(), 0);
        }
        for (row, cell) in numbers.chunks_exact(columns).zip(&self.cells) {
            let score = row[person];
            if !sink.wants(score) {
                continue;
            }
            let (x, y) = ((cell.x + self.centre) * cell.stride, (cell.y + self.centre) * cell.stride);
            let mut sides = row[self.classes..].chunks_exact(self.bins).map(|bins| expected(bins) * cell.stride);
            let mut side = || sides.next().unwrap_or(f32::NAN);
            let [left, top, right, bottom] = [side(), side(), side(), side()];
            sink.push_px([x - left, y - top, x + right, y + bottom], score);
        }
    }
}

/// The mean of the softmax over the bins' numbers 0, 1, 2, …
fn expected(bins: &[f32]) -> f32 {
    let most = bins.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (number, bin) in bins.iter().enumerate() {
        let weight = (bin - most).exp();
        sum += weight;
        weighted += weight * number as f32;
    }
    weighted / sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_the_mean_of_the_distribution() {
        let flat = [0.5; 8];
        assert_eq!(expected(&flat), 3.5);
        let mut sharp = [-50.0; 8];
        sharp[5] = 50.0;
        assert_eq!(expected(&sharp), 5.0);
        // ln 3 against ln 1: three parts of the one, one of the other.
        let mut two = [-50.0; 8];
        (two[2], two[3]) = (3f32.ln(), 0.0);
        assert!((expected(&two) - 2.25).abs() < 1e-6);
        assert!(expected(&[f32::NAN; 8]).is_nan() && expected(&[f32::INFINITY; 8]).is_nan());
    }
}
