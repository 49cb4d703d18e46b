//! Where every layout puts what it decoded: one place that judges numbers, and that bounds the work behind it.
//!
//! A number that cannot be (not finite, a score that is no probability, edges crossed or far outside) is dropped and
//! counted. More candidates than suppression looks at are cut to the surest, and counted. Never allocates once warm.

use crate::detect::nms::CANDIDATES_MAX;
use crate::detect::preprocess::Letterbox;
use crate::frame::Detection;

/// A corner farther outside than this many pictures is not a box that was cut off, but nonsense.
const OUTSIDE_MAX: f32 = 1.0;

/// What became of the candidates of one picture that are no detections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Dropped because a number in them cannot be, or announced and not there.
    pub rejected: u64,
    /// Dropped because there were too many surer ones.
    pub cut: u64,
}

/// The numbers of one output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Numbers<'a> {
    /// 32-bit floating point.
    F32(&'a [f32]),
    /// 64-bit integers.
    I64(&'a [i64]),
    /// 32-bit integers.
    I32(&'a [i32]),
}

impl<'a> Numbers<'a> {
    /// The floating point numbers; none where they are of another type.
    pub(super) fn floats(self) -> &'a [f32] {
        match self {
            Numbers::F32(numbers) => numbers,
            _ => &[],
        }
    }

    /// How many there are.
    pub(super) fn len(self) -> usize {
        match self {
            Numbers::F32(numbers) => numbers.len(),
            Numbers::I64(numbers) => numbers.len(),
            Numbers::I32(numbers) => numbers.len(),
        }
    }

    /// A whole number at a place: a class, or a count. `None` where there is none, or it is not whole.
    pub(super) fn whole(self, at: usize) -> Option<usize> {
        match self {
            Numbers::F32(numbers) => {
                let number = *numbers.get(at)?;
                let fits = (0.0..=1e6).contains(&number) && number.fract() == 0.0;
                fits.then_some(number as usize)
            }
            Numbers::I64(numbers) => usize::try_from(*numbers.get(at)?).ok(),
            Numbers::I32(numbers) => usize::try_from(*numbers.get(at)?).ok(),
        }
    }
}

/// Takes the candidates of one picture.
pub(super) struct Sink<'a> {
    pub(super) lies: &'a Letterbox,
    pub(super) score_min: f32,
    pub(super) found: &'a mut Vec<Detection>,
    pub(super) tally: Tally,
}

impl Sink<'_> {
    /// Whether a candidate of this score is wanted; one whose score is no probability is counted.
    #[inline]
    pub(super) fn wants(&mut self, score: f32) -> bool {
        // A score that is not a number compares as false both ways.
        if (0.0..=1.0).contains(&score) {
            return score >= self.score_min;
        }
        self.tally.rejected += 1;
        false
    }

    /// Counts what was announced and is not there.
    pub(super) fn missing(&mut self, expected: usize, there: usize) {
        self.tally.rejected += expected.saturating_sub(there) as u64;
    }

    /// Adds a wanted candidate, its corners (x1, y1, x2, y2) as parts of the model's picture.
    pub(super) fn push(&mut self, corners: [f32; 4], score: f32) {
        self.takes(corners, score);
    }

    /// As [`Sink::push`], and says whether it is a detection.
    pub(super) fn takes(&mut self, corners: [f32; 4], score: f32) -> bool {
        let [x1, y1, x2, y2] = corners;
        let inside = |corner: &f32| (-OUTSIDE_MAX..=1.0 + OUTSIDE_MAX).contains(corner);
        if !corners.iter().all(inside) || x2 <= x1 || y2 <= y1 {
            self.tally.rejected += 1;
            return false;
        }
        let area = self.lies.to_source(corners);
        // Nothing is left of a box in the margin around the frame.
        if area.width() <= 0.0 || area.height() <= 0.0 {
            return false;
        }
        if self.found.len() >= 2 * CANDIDATES_MAX {
            self.cut();
        }
        self.found.push(Detection { area, score });
        true
    }

    /// As [`Sink::push`], from pixels of the model's picture.
    pub(super) fn push_px(&mut self, [x1, y1, x2, y2]: [f32; 4], score: f32) {
        let (width, height) = (self.lies.target.0 as f32, self.lies.target.1 as f32);
        self.push([x1 / width, y1 / height, x2 / width, y2 / height], score);
    }

    /// As [`Sink::push_px`], from the centre and the sides.
    pub(super) fn push_centred_px(&mut self, [x, y, width, height]: [f32; 4], score: f32) {
        self.push_px(corners_of([x, y, width, height]), score);
    }

    /// Keeps the surest half of a full list: each cut is linear, and happens once in as many candidates.
    fn cut(&mut self) {
        self.found.select_nth_unstable_by(CANDIDATES_MAX - 1, |a, b| b.score.total_cmp(&a.score));
        self.tally.cut += (self.found.len() - CANDIDATES_MAX) as u64;
        self.found.truncate(CANDIDATES_MAX);
    }
}

/// Centre and sides as corners.
pub(super) fn corners_of([x, y, width, height]: [f32; 4]) -> [f32; 4] {
    [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
}

/// The logistic function.
pub(super) fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Area;
    use proptest::prelude::*;

    /// Decodes one box of a 1280 x 720 frame: the picture has 36 rows of margin above and below it.
    fn decode(corners: [f32; 4], score: f32) -> (Vec<Area>, u64) {
        let lies = Letterbox::fit((1280, 720), (384, 288));
        let mut found = vec![];
        let mut sink = Sink { lies: &lies, score_min: 0.3, found: &mut found, tally: Tally::default() };
        if sink.wants(score) {
            sink.push(corners, score);
        }
        let rejected = sink.tally.rejected;
        (found.iter().map(|detection| detection.area).collect(), rejected)
    }

    #[test]
    fn a_box_comes_back_in_pixels_of_the_frame_and_cut_at_its_edges() {
        for (corners, expect) in [
            ([0.0, 0.125, 1.0, 0.875], Some([0.0, 0.0, 1280.0, 720.0])),
            ([0.25, 0.25, 0.5, 0.75], Some([320.0, 120.0, 640.0, 600.0])),
            ([-0.5, 0.0, 0.25, 1.0], Some([0.0, 0.0, 320.0, 720.0])),
            // Wholly in the margin.
            ([0.25, 0.0, 0.5, 0.1], None),
        ] {
            let (found, rejected) = decode(corners, 0.9);
            let expect: Vec<_> = expect.map(|[x1, y1, x2, y2]| Area { x1, y1, x2, y2 }).into_iter().collect();
            assert_eq!((found, rejected), (expect, 0));
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_dropped_and_counted() {
        let fine = [0.25, 0.25, 0.5, 0.75];
        for (corners, score, expect) in [
            (fine, 0.3, (1, 0)),
            (fine, 0.29, (0, 0)),
            (fine, 1.0, (1, 0)),
            (fine, f32::NAN, (0, 1)),
            (fine, f32::INFINITY, (0, 1)),
            (fine, 1.5, (0, 1)),
            (fine, -0.5, (0, 1)),
            ([f32::NAN, 0.25, 0.5, 0.75], 0.9, (0, 1)),
            ([0.25, 0.25, f32::INFINITY, 0.75], 0.9, (0, 1)),
            ([0.25, 0.25, 0.5, 1e30], 0.9, (0, 1)),
            ([-1.5, 0.25, 0.5, 0.75], 0.9, (0, 1)),
            ([0.5, 0.25, 0.25, 0.75], 0.9, (0, 1)),
            ([0.25, 0.75, 0.5, 0.75], 0.9, (0, 1)),
            // Not looked at below the threshold.
            ([f32::NAN; 4], 0.0, (0, 0)),
        ] {
            let (found, rejected) = decode(corners, score);
            assert_eq!((found.len(), rejected), expect, "{corners:?} {score}");
        }
    }

    #[test]
    fn of_more_candidates_than_are_looked_at_the_surest_stay_and_the_rest_are_counted() {
        let lies = Letterbox::fit((100, 100), (100, 100));
        let mut found = vec![];
        let mut sink = Sink { lies: &lies, score_min: 0.0, found: &mut found, tally: Tally::default() };
        for at in 0..10_000 {
            // In an order that is neither rising nor falling.
            sink.push([0.1, 0.1, 0.9, 0.9], ((at * 7919) % 10_000) as f32 / 10_000.0);
        }
        let cut = sink.tally.cut as usize;
        assert!(found.len() <= 2 * CANDIDATES_MAX && found.capacity() <= 4 * CANDIDATES_MAX, "{}", found.capacity());
        assert_eq!(cut + found.len(), 10_000);
        found.sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
        assert_eq!(found[CANDIDATES_MAX - 1].score, (10_000 - CANDIDATES_MAX) as f32 / 10_000.0);
    }

    #[test]
    fn a_whole_number_is_read_from_any_type_and_nothing_else_is() {
        for (numbers, expect) in [
            (Numbers::F32(&[2.0]), Some(2)),
            (Numbers::I64(&[2]), Some(2)),
            (Numbers::I32(&[2]), Some(2)),
            (Numbers::F32(&[2.5]), None),
            (Numbers::F32(&[-1.0]), None),
            (Numbers::F32(&[f32::NAN]), None),
            (Numbers::F32(&[f32::INFINITY]), None),
            (Numbers::I64(&[-1]), None),
            (Numbers::I32(&[i32::MIN]), None),
            (Numbers::I64(&[]), None),
        ] {
            assert_eq!(numbers.whole(0), expect, "{numbers:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_model_says_a_box_lies_in_the_frame(
            bits in prop::collection::vec(any::<u32>(), 0..64), score in -0.5f32..1.5,
            width in 1u32..8193, height in 1u32..8193
        ) {
            let lies = Letterbox::fit((width, height), (384, 288));
            let mut found = vec![];
            let mut sink = Sink { lies: &lies, score_min: 0.0, found: &mut found, tally: Tally::default() };
            // Half of them near enough to pass.
            let number = |bits: &u32| Some(f32::from_bits(*bits)).map(|v| if v.is_sign_negative() { v } else { v.fract() });
            let numbers: Vec<f32> = bits.iter().filter_map(number).collect();
            for corners in numbers.as_chunks::<4>().0 {
                if sink.wants(score) {
                    sink.push(*corners, score);
                }
            }
            for Detection { area, score } in found {
                prop_assert!((0.0..=1.0).contains(&score));
                prop_assert!(area.x1 >= 0.0 && area.x1 < area.x2 && area.x2 <= width as f32, "{area:?}");
                prop_assert!(area.y1 >= 0.0 && area.y1 < area.y2 && area.y2 <= height as f32, "{area:?}");
            }
        }
    }
}
