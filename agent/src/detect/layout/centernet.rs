//! CenterNet (Zhou, Wang, Krähenbühl, "Objects as Points", 2019) with its peaks picked inside the graph.
//!
//! Takes RGB bytes [1, height, width, 3]; gives corners as parts of the picture, and scores. Two forms: all cells, and
//! the best N with their features, where the class head comes in as an input so that it can be replaced.

use super::{BOXES_MAX, Element, Outputs, Port, SIDE_MAX, Signature};
use crate::detect::preprocess::Letterbox;
use crate::frame::Detection;

/// What a refusal says of this family.
pub(super) const KNOWN: &str = "CenterNet (input image u8 [1,height,width,3]; outputs boxes f32 [1,A,4] and scores f32 \
                                [1,A], or boxes [N,4], scores [N] and features [N,C] with inputs cls_w f32 [1,C,1,1] \
                                and cls_b f32 [1])";

/// A corner farther outside than this many pictures is not a box that was cut off, but nonsense.
const OUTSIDE_MAX: f32 = 1.0;

/// One model of the family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CenterNet {
    /// Width and height of the picture that it takes.
    pub picture: (u32, u32),
    /// Boxes that it gives.
    pub boxes: usize,
    /// Weights of the head that it takes, and features of each box; `None` where the head is inside.
    pub head: Option<usize>,
}

pub(super) fn recognise(signature: &Signature) -> Option<CenterNet> {
    let [1, height, width, 3] = shape(signature.input("image")?, Element::U8)?[..] else { return None };
    let boxes = shape(signature.output("boxes")?, Element::F32)?;
    let scores = shape(signature.output("scores")?, Element::F32)?;
    let (count, head) = match (boxes, scores) {
        ([1, count, 4], [1, scored]) if count == scored && signature.inputs.len() == 1 => (*count, None),
        ([count, 4], [scored]) if count == scored && signature.inputs.len() == 3 => {
            let [1, weights, 1, 1] = shape(signature.input("cls_w")?, Element::F32)?[..] else { return None };
            let [1] = shape(signature.input("cls_b")?, Element::F32)?[..] else { return None };
            let features = shape(signature.output("features")?, Element::F32)?;
            let known = features == [*count, weights] && (1..=BOXES_MAX).contains(&weights);
            (*count, Some(usize::try_from(weights).ok().filter(|_| known)?))
        }
        _ => return None,
    };
    let fits = [width, height].iter().all(|side| (1..=SIDE_MAX).contains(side)) && (1..=BOXES_MAX).contains(&count);
    let side = |side: i64| u32::try_from(side).ok().filter(|_| fits);
    Some(CenterNet { picture: (side(width)?, side(height)?), boxes: usize::try_from(count).ok()?, head })
}

fn shape(port: &Port, element: Element) -> Option<&[i64]> {
    (port.element == element).then_some(&port.shape)
}

impl CenterNet {
    /// See [`super::Layout::decode`].
    pub(super) fn decode(&self, outputs: Outputs, lies: &Letterbox, score_min: f32, found: &mut Vec<Detection>) -> u64 {
        let there = outputs.scores.len().min(outputs.boxes.len() / 4);
        let mut rejected = self.boxes.saturating_sub(there) as u64;
        for (corners, &score) in outputs.boxes.as_chunks::<4>().0.iter().zip(outputs.scores).take(self.boxes) {
            // A score that is not a number compares as false both ways.
            if !(0.0..=1.0).contains(&score) {
                rejected += 1;
                continue;
            }
            if score < score_min {
                continue;
            }
            let [x1, y1, x2, y2] = *corners;
            let inside = |corner: &f32| (-OUTSIDE_MAX..=1.0 + OUTSIDE_MAX).contains(corner);
            if !corners.iter().all(inside) || x2 <= x1 || y2 <= y1 {
                rejected += 1;
                continue;
            }
            let area = lies.to_source(*corners);
            // Nothing is left of a box in the black around the frame.
            if area.width() > 0.0 && area.height() > 0.0 {
                found.push(Detection { area, score });
            }
        }
        rejected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Area;
    use proptest::prelude::*;

    fn layout(boxes: usize) -> CenterNet {
        CenterNet { picture: (384, 288), boxes, head: None }
    }

    /// Decodes one box of a 1280 x 720 frame: the picture has 36 black rows above and below it.
    fn decode(corners: [f32; 4], score: f32) -> (Vec<Area>, u64) {
        let lies = Letterbox::fit((1280, 720), (384, 288));
        let mut found = vec![];
        let rejected = layout(1).decode(Outputs { boxes: &corners, scores: &[score] }, &lies, 0.3, &mut found);
        (found.iter().map(|detection| detection.area).collect(), rejected)
    }

    #[test]
    fn a_box_comes_back_in_pixels_of_the_frame_and_cut_at_its_edges() {
        for (corners, expect) in [
            ([0.0, 0.125, 1.0, 0.875], Some([0.0, 0.0, 1280.0, 720.0])),
            ([0.25, 0.25, 0.5, 0.75], Some([320.0, 120.0, 640.0, 600.0])),
            ([-0.5, 0.0, 0.25, 1.0], Some([0.0, 0.0, 320.0, 720.0])),
            // Wholly in the black.
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
    fn boxes_that_were_announced_and_are_not_there_are_counted() {
        let lies = Letterbox::fit((384, 288), (384, 288));
        for (boxes, scores, expect) in
            [(8, 2, (2, 1)), (8, 1, (1, 2)), (7, 3, (1, 2)), (0, 0, (0, 3)), (40, 10, (3, 0))]
        {
            let mut found = vec![];
            let corners: Vec<f32> = [0.25, 0.25, 0.5, 0.75].into_iter().cycle().take(boxes).collect();
            let outputs = Outputs { boxes: &corners, scores: &vec![0.9; scores] };
            let rejected = layout(3).decode(outputs, &lies, 0.3, &mut found);
            assert_eq!((found.len(), rejected), expect, "{boxes} numbers, {scores} scores");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_model_says_a_box_lies_in_the_frame(
            bits in prop::collection::vec(any::<u32>(), 0..64), scores in prop::collection::vec(-0.5f32..1.5, 0..16),
            width in 1u32..8193, height in 1u32..8193
        ) {
            let boxes: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
            // Half of them near enough to pass.
            let boxes: Vec<f32> = boxes.iter().map(|v| if v.is_sign_negative() { *v } else { v.fract() }).collect();
            let mut found = vec![];
            let lies = Letterbox::fit((width, height), (384, 288));
            let rejected = layout(16).decode(Outputs { boxes: &boxes, scores: &scores }, &lies, 0.0, &mut found);
            prop_assert!(found.len() as u64 + rejected <= 16);
            for Detection { area, score } in found {
                prop_assert!((0.0..=1.0).contains(&score));
                prop_assert!(area.x1 >= 0.0 && area.x1 < area.x2 && area.x2 <= width as f32, "{area:?}");
                prop_assert!(area.y1 >= 0.0 && area.y1 < area.y2 && area.y2 <= height as f32, "{area:?}");
            }
        }
    }
}
