//! Greedy non-maximum suppression: of boxes that overlap, the surest stays.
//!
//! Works in place and never allocates.

use crate::frame::Detection;

/// Boxes that are looked at: the surest ones. The comparison is quadratic, and a picture with more people than this is
/// beyond any layout here.
pub const CANDIDATES_MAX: usize = 1024;

/// Sorts by falling score, and keeps as many as are looked at.
pub fn sort(found: &mut Vec<Detection>) {
    found.sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
    found.truncate(CANDIDATES_MAX);
}

/// Sorts by falling score and drops each box whose intersection over union with a surer one exceeds `iou_max`.
pub fn suppress(found: &mut Vec<Detection>, iou_max: f32) {
    sort(found);
    let mut kept = 0;
    for at in 0..found.len() {
        let candidate = found[at];
        if found[..kept].iter().all(|surer| surer.area.iou(&candidate.area) <= iou_max) {
            found[kept] = candidate;
            kept += 1;
        }
    }
    found.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Area;
    use proptest::prelude::*;

    fn detection(x1: f32, x2: f32, score: f32) -> Detection {
        Detection { area: Area { x1, y1: 0.0, x2, y2: 10.0 }, score }
    }

    #[test]
    fn of_overlapping_boxes_the_surest_stays() {
        for (boxes, iou_max, expect) in [
            (vec![], 0.5, vec![]),
            // Overlap 8 of 12.
            (vec![detection(0.0, 10.0, 0.6), detection(2.0, 12.0, 0.9)], 0.5, vec![0.9]),
            (vec![detection(0.0, 10.0, 0.6), detection(2.0, 12.0, 0.9)], 0.7, vec![0.9, 0.6]),
            // The middle one falls to the first, and can then not take the last with it.
            (
                vec![detection(0.0, 10.0, 0.9), detection(3.0, 13.0, 0.8), detection(6.0, 16.0, 0.7)],
                0.5,
                vec![0.9, 0.7],
            ),
            (vec![detection(0.0, 10.0, 0.5), detection(0.0, 10.0, 0.5)], 0.5, vec![0.5]),
            (vec![detection(0.0, 10.0, 0.5), detection(0.0, 10.0, 0.4)], 1.0, vec![0.5, 0.4]),
        ] {
            let mut found = boxes;
            suppress(&mut found, iou_max);
            assert_eq!(found.iter().map(|d| d.score).collect::<Vec<_>>(), expect);
        }
    }

    #[test]
    fn more_boxes_than_a_picture_can_hold_are_cut_to_the_surest() {
        let mut found: Vec<_> = (0..CANDIDATES_MAX + 10)
            .map(|i| detection(i as f32 * 20.0, i as f32 * 20.0 + 10.0, i as f32 / 2000.0))
            .collect();
        suppress(&mut found, 0.5);
        assert_eq!(found.len(), CANDIDATES_MAX);
        assert_eq!(found.last().map(|d| d.score), Some(10.0 / 2000.0));
    }

    proptest! {
        #[test]
        fn what_stays_does_not_overlap_and_what_goes_overlaps_a_surer_one(
            boxes in prop::collection::vec((0.0f32..100.0, 1.0f32..50.0, 0.0f32..1.0), 0..60), iou_max in 0.0f32..1.0
        ) {
            let all: Vec<_> = boxes.iter().map(|(x, w, score)| detection(*x, x + w, *score)).collect();
            let mut kept = all.clone();
            suppress(&mut kept, iou_max);
            for (i, a) in kept.iter().enumerate() {
                prop_assert!(all.contains(a));
                prop_assert!(kept[i + 1..].iter().all(|b| a.area.iou(&b.area) <= iou_max));
            }
            for gone in all.iter().filter(|d| !kept.contains(d)) {
                prop_assert!(kept.iter().any(|k| k.score >= gone.score && k.area.iou(&gone.area) > iou_max));
            }
        }
    }
}
