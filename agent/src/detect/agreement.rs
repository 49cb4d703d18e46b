//! How far two detectors agree on the same frames: the measure of the precision gate.
//!
//! The boxes of one are taken for the truth. A box of the other matches one of them at an intersection over union of at
//! least 0.5, each at most once, the surest first, as the PASCAL VOC evaluation (Everingham et al., 2010) has it. Pure.

use serde::{Deserialize, Serialize};

use crate::frame::Detection;

/// Least overlap of two boxes that are the same person.
const IOU_MIN: f32 = 0.5;
/// From this score on the second detector's boxes are asked for, so that its average precision sees its whole ranking.
pub const RANKED_SCORE_MIN: f32 = 0.05;
/// Boxes of the truth below which nothing can be said: one box more or less would decide.
pub const BOXES_MIN: u64 = 20;
/// Least agreement of a model with its reference.
pub const AGREEMENT_MIN: f64 = 0.85;

/// How far two detectors agree. Shares and precisions are 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Frames that both saw.
    pub frames: u64,
    /// Boxes of the first.
    pub boxes_a: u64,
    /// Boxes of the second.
    pub boxes_b: u64,
    /// Boxes of the second that are one of the first's.
    pub matched: u64,
    /// The part of the first's boxes that the second has too.
    pub share_a: f64,
    /// The part of the second's boxes that the first has too.
    pub share_b: f64,
    /// The lower of the two shares: what the gate asks for.
    pub agreement: f64,
    /// Average precision of the second against the first at an overlap of 0.5, over all recalls.
    pub ap50: f64,
    /// The mean difference of their counts in a frame, whichever has more.
    pub count_off_mean: f64,
}

impl Agreement {
    /// Why a model of this agreement is not activated, as the end of a sentence; `None` where it is.
    pub fn refusal(&self, agreement_min: f64) -> Option<String> {
        let Agreement { frames, boxes_a, boxes_b, .. } = self;
        if *boxes_a < BOXES_MIN {
            return Some(format!(
                "cannot be judged by {frames} frames with {boxes_a} people in them; give frames with at least {BOXES_MIN}"
            ));
        }
        // Not a number is no agreement.
        if self.agreement >= agreement_min {
            return None;
        }
        Some(format!(
            "agrees with the reference to {:.3} on {frames} frames, and agreement_min is {agreement_min}: it has {:.1} % of \
             {boxes_a} boxes, and {:.1} % of its own {boxes_b} are right; use the reference, or a model of higher precision",
            self.agreement,
            100.0 * self.share_a,
            100.0 * self.share_b
        ))
    }
}

/// Takes frame after frame.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    frames: u64,
    boxes_a: u64,
    boxes_b: u64,
    matched: u64,
    count_off: u64,
    /// Score and rightness of each of the second's boxes.
    ranked: Vec<(f32, bool)>,
    taken: Vec<bool>,
}

impl Judge {
    /// One frame: what each found, the surest first; the first at `score_min` and above, the second from
    /// [`RANKED_SCORE_MIN`] on.
    pub fn add(&mut self, a: &[Detection], b: &[Detection], score_min: f32) {
        self.taken.clear();
        self.taken.resize(a.len(), false);
        let mut counted = 0;
        for found in b {
            let near = |at: &usize| (a[*at].area.iou(&found.area), *at);
            let free = (0..a.len()).filter(|at| !self.taken[*at]).map(|at| near(&at));
            let best = free.filter(|(iou, _)| *iou >= IOU_MIN).max_by(|a, b| a.0.total_cmp(&b.0));
            if let Some((_, at)) = best {
                self.taken[at] = true;
            }
            self.ranked.push((found.score, best.is_some()));
            if found.score >= score_min {
                counted += 1;
                self.matched += u64::from(best.is_some());
            }
        }
        self.frames += 1;
        self.boxes_a += a.len() as u64;
        self.boxes_b += counted;
        self.count_off += counted.abs_diff(a.len() as u64);
    }

    /// The verdict over all frames.
    pub fn verdict(mut self) -> Agreement {
        // Nothing found by one alone is no agreement, and nothing by both is one.
        let share = |matched: u64, of: u64, other: u64| match (of, other) {
            (0, 0) => 1.0,
            (0, _) => 0.0,
            _ => matched as f64 / of as f64,
        };
        let share_a = share(self.matched, self.boxes_a, self.boxes_b);
        let share_b = share(self.matched, self.boxes_b, self.boxes_a);
        Agreement {
            frames: self.frames,
            boxes_a: self.boxes_a,
            boxes_b: self.boxes_b,
            matched: self.matched,
            share_a,
            share_b,
            agreement: share_a.min(share_b),
            ap50: average_precision(&mut self.ranked, self.boxes_a),
            count_off_mean: if self.frames > 0 { self.count_off as f64 / self.frames as f64 } else { 0.0 },
        }
    }
}

/// The area under the curve of precision over recall, where precision is made to fall only.
fn average_precision(ranked: &mut [(f32, bool)], truths: u64) -> f64 {
    if truths == 0 {
        return if ranked.is_empty() { 1.0 } else { 0.0 };
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut right, mut precisions) = (0u64, Vec::new());
    for (at, (_, is_right)) in ranked.iter().enumerate() {
        if *is_right {
            right += 1;
            precisions.push(right as f64 / (at + 1) as f64);
        }
    }
    let (mut most, mut sum) = (0.0, 0.0);
    for precision in precisions.iter().rev() {
        most = f64::max(most, *precision);
        sum += most;
    }
    sum / truths as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Area;

    fn at(x: f32, score: f32) -> Detection {
        Detection { area: Area { x1: x, y1: 0.0, x2: x + 10.0, y2: 10.0 }, score }
    }

    fn judged(frames: &[(&[Detection], &[Detection])]) -> Agreement {
        let mut judge = Judge::default();
        frames.iter().for_each(|(a, b)| judge.add(a, b, 0.3));
        judge.verdict()
    }

    #[test]
    fn known_frames_give_known_shares() {
        let three: &[Detection] = &[at(0.0, 0.9), at(20.0, 0.8), at(40.0, 0.7)];
        for (a, b, share_a, share_b, off, what) in [
            (three, three, 1.0, 1.0, 0.0, "the same"),
            (three, &three[..2], 2.0 / 3.0, 1.0, 1.0, "one is lost"),
            (&three[..2], three, 1.0, 2.0 / 3.0, 1.0, "one is invented"),
            (
                three,
                &[at(2.0, 0.9), at(24.0, 0.8), at(90.0, 0.7)],
                1.0 / 3.0,
                1.0 / 3.0,
                0.0,
                "one near, one too far off",
            ),
            (&three[..1], &[at(0.0, 0.9), at(1.0, 0.8)], 1.0, 0.5, 1.0, "two for one"),
            (three, &[], 0.0, 0.0, 3.0, "nothing found"),
            (&[], three, 0.0, 0.0, 3.0, "all invented"),
            (&[], &[], 1.0, 1.0, 0.0, "nobody there"),
            (three, &[at(0.0, 0.9), at(20.0, 0.2)], 1.0 / 3.0, 1.0, 2.0, "below the threshold is not found"),
        ] {
            let Agreement { share_a: a_share, share_b: b_share, count_off_mean, agreement, .. } = judged(&[(a, b)]);
            let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
            assert!(near(a_share, share_a) && near(b_share, share_b), "{what}: {a_share} {b_share}");
            assert!(near(agreement, share_a.min(share_b)) && near(count_off_mean, off), "{what}");
        }
    }

    #[test]
    fn the_average_precision_is_the_one_of_the_books() {
        let truth: &[Detection] = &[at(0.0, 0.9), at(20.0, 0.9), at(40.0, 0.9)];
        for (b, expect) in [
            (vec![at(0.0, 0.9), at(20.0, 0.8), at(40.0, 0.1)], 1.0),
            // Right, wrong, right: precisions 1 and 2/3 at recalls 1/3 and 2/3.
            (vec![at(0.0, 0.9), at(90.0, 0.8), at(20.0, 0.7)], (1.0 + 2.0 / 3.0) / 3.0),
            // A wrong one in front lowers all: 1/2, 2/3 and 3/4, and the highest behind each counts.
            (vec![at(90.0, 0.9), at(0.0, 0.8), at(20.0, 0.7), at(40.0, 0.6)], 0.75),
            (vec![], 0.0),
        ] {
            let ap50 = judged(&[(truth, &b)]).ap50;
            assert!((ap50 - expect).abs() < 1e-9, "{ap50}, expected {expect}");
        }
        // The ranking goes over frames.
        let two = judged(&[(truth, &[at(90.0, 0.9)]), (truth, truth)]);
        assert!((two.ap50 - 3.0 * 0.75 / 6.0).abs() < 1e-9, "{}", two.ap50);
        assert_eq!((two.frames, two.boxes_a, two.boxes_b, two.matched), (2, 6, 4, 3));
    }

    #[test]
    fn too_little_to_judge_by_and_too_little_agreement_are_refused() {
        let people: Vec<_> = (0..20).map(|n| at(n as f32 * 20.0, 0.9)).collect();
        let few = judged(&[(&people[..19], &people[..19])]);
        assert!(few.refusal(0.85).unwrap().contains("cannot be judged by 1 frames with 19 people"));
        assert_eq!(judged(&[(&people, &people)]).refusal(0.85), None);
        assert_eq!(judged(&[(&people, &people[..17])]).refusal(0.85), None);
        let lost = judged(&[(&people, &people[..16])]).refusal(0.85).unwrap();
        assert!(lost.contains("to 0.800 on 1 frames") && lost.contains("80.0 % of 20 boxes"), "{lost}");
        let unknown = Agreement { agreement: f64::NAN, ..judged(&[(&people, &people)]) };
        assert!(unknown.refusal(0.85).is_some());
    }
}
