//! Makes people unrecognisable: each box is grown and becomes a mosaic of few cells of few colours. Pure; in place.
//!
//! Why that and not a Gaussian blur: a blur is a filter that can be inverted as far as its noise allows, and fine mosaics are
//! matched against faces (McPherson, Shokri and Shmatikov, "Defeating Image Obfuscation with Deep Learning", 2016, read faces of
//! 8 and more cells). Here a box has at most `CELLS` cells along its longer side, however near somebody stands, so a face has
//! fewer still, below the 7 by 10 at which even familiar ones are known (Sinha et al., "Face Recognition by Humans", 2006); and
//! each cell's mean keeps `LEVEL_BITS` bits of a colour, so that many pictures of one person do not add up to a better one.
//! What is within a cell is gone: two faces of the same means give the same bytes, which a test shows.

use crate::frame::{Area, Frame};

/// By how much a box grows on each side, of its width and height: a detector's box cuts off hands and hair.
pub const GROWTH: f32 = 0.15;
/// Cells along a box's longer side.
const CELLS: usize = 6;
/// A cell is never smaller: in a tiny box there is nothing to see anyway.
const CELL_PX_MIN: usize = 8;
/// What is kept of a cell's mean, of each colour.
const LEVEL_BITS: u32 = 3;

/// Makes what is in these boxes unrecognisable. A frame whose bytes do not fit its size is blackened whole.
pub fn hide(frame: &mut Frame, people: &[Area]) {
    if !frame.is_whole() {
        frame.rgb.fill(0);
        return;
    }
    for area in people {
        let (columns, rows) = grown(area, frame.width, frame.height);
        let side = (columns.len().max(rows.len())).div_ceil(CELLS).max(CELL_PX_MIN);
        for top in rows.clone().step_by(side) {
            for left in columns.clone().step_by(side) {
                let cell = (left..(left + side).min(columns.end), top..(top + side).min(rows.end));
                flatten(frame, cell);
            }
        }
    }
}

type Span = std::ops::Range<usize>;

/// The pixels of a box after it has grown, inside the picture. A number that is none gives the whole side.
fn grown(area: &Area, width: u32, height: u32) -> (Span, Span) {
    let side = |from: f32, to: f32, pixels: u32| {
        let more = (to - from).abs() * GROWTH;
        let (from, to) = (from.min(to) - more, from.max(to) + more);
        if !from.is_finite() || !to.is_finite() {
            return 0..pixels as usize;
        }
        // Float to integer saturates: what lies left of the picture becomes 0.
        (from.floor() as usize).min(pixels as usize)..(to.ceil() as usize).min(pixels as usize)
    };
    (side(area.x1, area.x2, width), side(area.y1, area.y2, height))
}

/// One colour for all of a cell.
fn flatten(frame: &mut Frame, (columns, rows): (Span, Span)) {
    let (stride, pixels) = (frame.width as usize * 3, (columns.len() * rows.len()) as u64);
    if pixels == 0 {
        return;
    }
    let mut sums = [0u64; 3];
    for row in rows.clone() {
        for pixel in frame.rgb[row * stride..][columns.start * 3..columns.end * 3].chunks_exact(3) {
            sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u64::from(*value));
        }
    }
    let colour = sums.map(|sum| {
        let step = 8 - LEVEL_BITS;
        // The middle of its level.
        ((sum / pixels) as u8 >> step << step) | (1 << (step - 1))
    });
    for row in rows {
        for pixel in frame.rgb[row * stride..][columns.start * 3..columns.end * 3].chunks_exact_mut(3) {
            pixel.copy_from_slice(&colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: (u32, u32) = (160, 120);

    fn frame(pixel: impl Fn(u32, u32) -> [u8; 3]) -> Frame {
        let (width, height) = SIZE;
        let rgb = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| pixel(x, y)).collect();
        Frame { taken_ms: 0, width, height, rgb }
    }

    fn at(frame: &Frame, x: usize, y: usize) -> [u8; 3] {
        frame.rgb[(y * frame.width as usize + x) * 3..][..3].try_into().unwrap()
    }

    const PERSON: Area = Area { x1: 40.0, y1: 20.0, x2: 80.0, y2: 100.0 };

    #[test]
    fn nothing_of_a_person_survives_but_a_few_colours_and_all_around_is_as_it_was() {
        // A canary: every pixel of the picture is another one than its neighbours.
        let canary = frame(|x, y| [(x * 7 + y * 3) as u8, (x * y) as u8, (x ^ y) as u8]);
        let mut hidden = canary.clone();
        hide(&mut hidden, &[PERSON]);
        let mut colours = std::collections::BTreeSet::new();
        for y in 0..120 {
            for x in 0..160 {
                // 15 % of 40 and of 80 pixels on each side.
                if (34..86).contains(&x) && (8..112).contains(&y) {
                    colours.insert(at(&hidden, x, y));
                } else {
                    assert_eq!(at(&hidden, x, y), at(&canary, x, y), "{x} {y}");
                }
            }
        }
        assert!(colours.len() <= CELLS * CELLS, "{}", colours.len());
        assert!(colours.iter().flatten().all(|value| value % 32 == 16), "{colours:?}");
    }

    #[test]
    fn two_faces_of_the_same_means_are_one_and_the_same_afterwards() {
        let faces = [|x: u32, y: u32| (x + y).is_multiple_of(2), |x: u32, _: u32| x.is_multiple_of(2)].map(|white| {
            let mut face = frame(|x, y| if white(x, y) { [220, 180, 160] } else { [40, 30, 20] });
            hide(&mut face, &[PERSON]);
            // What is around the box is not the face.
            (34..86).flat_map(|x| (8..112).map(move |y| (x, y))).map(|(x, y)| at(&face, x, y)).collect::<Vec<_>>()
        });
        assert_eq!(faces[0], faces[1]);
    }

    #[test]
    fn who_stands_near_has_no_more_cells_than_who_is_far() {
        for (x1, y1, x2, y2) in [(0.0, 0.0, 160.0, 120.0), (10.0, 10.0, 20.0, 30.0), (-50.0, -50.0, 400.0, 300.0)] {
            let mut hidden = frame(|x, y| [(x * 7 + y * 3) as u8, (x * y) as u8, (x ^ y) as u8]);
            let area = Area { x1, y1, x2, y2 };
            hide(&mut hidden, &[area]);
            let (columns, rows) = grown(&area, SIZE.0, SIZE.1);
            let colours: std::collections::BTreeSet<_> =
                columns.flat_map(|x| rows.clone().map(move |y| (x, y))).map(|(x, y)| at(&hidden, x, y)).collect();
            assert!(colours.len() <= CELLS * CELLS, "{area:?} {}", colours.len());
        }
    }

    #[test]
    fn what_cannot_be_placed_is_hidden_whole() {
        let mut broken = Frame { taken_ms: 0, width: 9, height: 9, rgb: vec![7; 30] };
        hide(&mut broken, &[]);
        assert_eq!(broken.rgb, [0; 30]);
        let mut nan = frame(|x, y| [x as u8, y as u8, 0]);
        hide(&mut nan, &[Area { x1: f32::NAN, y1: 0.0, x2: 1.0, y2: f32::INFINITY }]);
        assert!(nan.rgb.iter().all(|value| value % 32 == 16));
    }

    proptest! {
        #[test]
        fn any_box_in_any_picture_is_no_panic(
            width in 0u32..40, height in 0u32..40, boxes in prop::collection::vec(prop::array::uniform4(-1e6f32..1e6), 0..4)
        ) {
            let mut frame = Frame { taken_ms: 0, width, height, rgb: vec![1; (width * height * 3) as usize] };
            let people: Vec<_> = boxes.into_iter().map(|[x1, y1, x2, y2]| Area { x1, y1, x2, y2 }).collect();
            hide(&mut frame, &people);
        }
    }
}
