//! What a head judges a candidate by: what the network itself says, where and how large it is, and what the network saw of it. Pure.
//!
//! Everything is brought to about the size of one, so that one learning rate fits all: the squares of all inputs together are about
//! six, and a step of the default rate stays far below where it would overshoot. What is learned with these numbers is learned for
//! them: whoever changes anything here begins a new fleet epoch.

use picket_shared::learn::lineage::LOGIT_UNIT;
use picket_shared::learn::train::dot;

use crate::frame::{Area, Detection};

/// Inputs that say where and how large a candidate is.
pub const GEOMETRY: usize = 8;
/// Beyond this a logit is no surer.
const LOGIT_MAX: f32 = 8.0;
/// The length that the network's features are brought to.
const LENGTH: f32 = 2.0;
/// A feature vector shorter than this is none.
const LENGTH_MIN: f32 = 1e-6;
/// A side is no smaller a part of the picture.
const SIDE_MIN: f32 = 0.002;

/// Inputs of a head over a network that shows so many features.
pub fn inputs(features: usize) -> usize {
    1 + GEOMETRY + features
}

/// The logit of a score.
pub fn logit(score: f32) -> f32 {
    let score = score.clamp(1e-6, 1.0 - 1e-6);
    (score / (1.0 - score)).ln()
}

/// A score with this added to its logit. Nothing added, it is the same to the last bit.
pub fn moved(score: f32, by: f32) -> f32 {
    if by == 0.0 { score } else { 1.0 / (1.0 + (-(logit(score) + by)).exp()) }
}

/// What a network saw, as it gave it: rows of so many numbers. A model may give fewer than it announced, and no numbers among them.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// All of them, one after the other.
    pub numbers: &'a [f32],
    /// Numbers in one.
    pub width: usize,
}

impl<'a> Rows<'a> {
    /// One row; nothing where it is not there whole, or not finite.
    fn row(&self, row: usize) -> Option<&'a [f32]> {
        let of_row = self.numbers.get(row * self.width..(row + 1) * self.width)?;
        of_row.iter().all(|x| x.is_finite()).then_some(of_row)
    }
}

/// Appends the inputs of candidate number `at` of a picture of this size, always as many as a head has. The candidates come with the
/// network's own scores, the surest first; what the network saw of this one is in that row, and of a row that is none it saw nothing.
pub fn describe(candidates: &[Detection], at: usize, size_px: (u32, u32), seen: Rows, row: usize, out: &mut Vec<f32>) {
    let end = out.len() + inputs(seen.width);
    let Detection { area, score } = candidates[at];
    out.push(logit(score).clamp(-LOGIT_MAX, LOGIT_MAX) / LOGIT_UNIT);
    out.extend(geometry(&area, &candidates[..at], size_px));
    if let Some(of_row) = seen.row(row) {
        let length = dot(of_row, of_row).sqrt();
        let scale = if length > LENGTH_MIN && length.is_finite() { LENGTH / length } else { 0.0 };
        out.extend(of_row.iter().map(|x| x * scale));
    }
    out.resize(end, 0.0);
}

fn geometry(area: &Area, surer: &[Detection], (width_px, height_px): (u32, u32)) -> [f32; GEOMETRY] {
    let (across, down) = (width_px.max(1) as f32, height_px.max(1) as f32);
    let (width, height) = ((area.width() / across).max(SIDE_MIN), (area.height() / down).max(SIDE_MIN));
    let (foot_x, foot_y) = area.foot();
    let cut = area.x1 <= 0.5 || area.y1 <= 0.5 || area.x2 >= across - 0.5 || area.y2 >= down - 0.5;
    let (whole, mut overlap, mut inside) = (area.width() * area.height(), 0.0f32, 0.0f32);
    for Detection { area: other, .. } in surer {
        // Most are elsewhere, and need no more than this.
        let apart =
            whole <= 0.0 || other.x1 >= area.x2 || other.x2 <= area.x1 || other.y1 >= area.y2 || other.y2 <= area.y1;
        if !apart {
            let common = common(area, other);
            overlap = overlap.max(other.iou(area));
            inside = inside.max(common / whole);
        }
    }
    [
        foot_x / across - 0.5,
        foot_y / down - 0.5,
        (height.ln() + 2.0) / 2.0,
        (width.ln() + 3.0) / 2.0,
        (area.height().max(1.0) / area.width().max(1.0)).ln().clamp(-3.0, 3.0) - 0.9,
        if cut { 0.5 } else { 0.0 },
        overlap,
        inside,
    ]
}

/// The part of the picture that both cover, in square pixels.
fn common(area: &Area, other: &Area) -> f32 {
    let inner = Area {
        x1: area.x1.max(other.x1),
        y1: area.y1.max(other.y1),
        x2: area.x2.min(other.x2),
        y2: area.y2.min(other.y2),
    };
    inner.width() * inner.height()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn described(candidates: &[Detection], at: usize, seen: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        describe(candidates, at, (640, 480), Rows { numbers: seen, width: seen.len() }, 0, &mut out);
        out
    }

    #[test]
    fn what_it_is_judged_by_is_of_one_size_whatever_the_network_gives() {
        let area = Area { x1: 300.0, y1: 100.0, x2: 340.0, y2: 220.0 };
        let candidates = [Detection { area, score: 0.9 }, Detection { area, score: 0.5 }];
        let weak = described(&candidates, 1, &[0.1, 0.0, 0.2]);
        let strong = described(&candidates, 1, &[10.0, 0.0, 20.0]);
        assert_eq!(weak.len(), inputs(3));
        assert!(weak.iter().zip(&strong).all(|(a, b)| (a - b).abs() < 1e-5));
        assert_eq!(weak[0], 0.0, "even odds");
        assert_eq!((weak[7], weak[8]), (1.0, 1.0), "it lies under a surer one");
        assert_eq!(
            described(&candidates, 0, &[0.0; 3])[7..],
            [0.0; 5],
            "the surest lies under nobody; and nothing was seen"
        );
    }

    #[test]
    fn of_a_row_that_is_none_nothing_was_seen() {
        let area = Area { x1: 300.0, y1: 100.0, x2: 340.0, y2: 220.0 };
        let candidates = [Detection { area, score: 0.9 }];
        let of_row = |numbers: &[f32], row| {
            let mut out = vec![7.0];
            describe(&candidates, 0, (640, 480), Rows { numbers, width: 2 }, row, &mut out);
            assert_eq!(out.len(), 1 + inputs(2), "{numbers:?}");
            out[1 + inputs(0)..].to_vec()
        };
        assert_eq!(of_row(&[0.0, 1.0, 3.0, 0.0], 1), [2.0, 0.0]);
        assert_eq!(of_row(&[f32::NAN, 1.0, 3.0, 0.0], 1), [2.0, 0.0], "another row is none");
        for numbers in [&[][..], &[0.0, 1.0, 3.0], &[0.0, 1.0, 3.0, f32::NAN], &[0.0, 1.0, f32::INFINITY, 0.0]] {
            assert_eq!(of_row(numbers, 1), [0.0, 0.0], "{numbers:?}");
        }
    }

    #[test]
    fn nothing_added_changes_nothing() {
        for score in [0.0f32, 0.01, 0.3, 0.5, 0.999_99, 1.0] {
            assert_eq!(moved(score, 0.0), score);
            assert!(moved(score, 1.0) >= score.min(0.999) && moved(score, -1.0) <= score.max(0.001));
        }
        assert!((moved(0.5, 1.0) - 0.731).abs() < 1e-3);
    }

    proptest! {
        #[test]
        fn whatever_a_network_gives_is_finite_and_bounded(
            corners in prop::array::uniform4(-100.0f32..1000.0), score in 0.0f32..=1.0, seen in prop::collection::vec(prop::num::f32::ANY, 4)
        ) {
            let [x1, y1, x2, y2] = corners;
            let candidates = [Detection { area: Area { x1, y1, x2, y2 }, score }; 2];
            let out = described(&candidates, 1, &seen);
            prop_assert!(out.iter().all(|x| x.is_finite() && x.abs() < 10.0), "{out:?}");
        }
    }
}
