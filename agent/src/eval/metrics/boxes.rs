//! Detections against a truth: precision, recall, average precision, and count accuracy in both of its forms.
//!
//! A frame is judged once, over all scores; a threshold then only cuts the list, because a surer detection chooses its
//! truth first. The choice is COCO's (Lin et al., "Microsoft COCO", 2014): by falling score, each detection takes the
//! free truth that it overlaps most, from an IoU of 0.5 on; what is left over lies in an ignored region, or is wrong.

use serde::Serialize;

use super::{IOU_MIN, in_ignored};
use crate::eval::truth::TruthBox;
use crate::frame::Detection;

/// One detection, judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// The detector's score.
    pub score: f32,
    /// It is a person that no surer detection had found.
    pub correct: bool,
}

/// One frame, judged.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FrameScores {
    /// People to be found.
    pub people: usize,
    /// Detections by falling score, without those in ignored regions.
    pub judged: Vec<Judged>,
}

impl FrameScores {
    /// Judges the detections of one frame.
    pub fn of(truth: &[TruthBox], found: &[Detection]) -> FrameScores {
        let mut by_score: Vec<&Detection> = found.iter().collect();
        by_score.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut free: Vec<&TruthBox> = truth.iter().filter(|marked| !marked.ignore).collect();
        let people = free.len();
        let mut judged = Vec::with_capacity(found.len());
        for detection in by_score {
            let overlaps = free.iter().enumerate().map(|(at, marked)| (at, marked.area.iou(&detection.area)));
            let best = overlaps.filter(|(_, iou)| *iou >= IOU_MIN).max_by(|a, b| a.1.total_cmp(&b.1));
            if let Some((at, _)) = best {
                free.swap_remove(at);
            } else if in_ignored(truth, &detection.area) {
                continue;
            }
            judged.push(Judged { score: detection.score, correct: best.is_some() });
        }
        FrameScores { people, judged }
    }

    /// Detections from this score on, and how many of them are correct.
    pub fn counts(&self, score_min: f32) -> (usize, usize) {
        let found = self.judged.partition_point(|judged| judged.score >= score_min);
        (found, self.judged[..found].iter().filter(|judged| judged.correct).count())
    }
}

/// Sums over frames at one threshold, from which every figure follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Frames.
    pub frames: u64,
    /// People to be found.
    pub people: u64,
    /// Detections.
    pub found: u64,
    /// Detections that are people.
    pub correct: u64,
    /// Over all frames, by how much the number of detections missed the number of people.
    pub count_error: u64,
}

impl Counts {
    /// The sums at a threshold.
    pub fn of<'a>(frames: impl IntoIterator<Item = &'a FrameScores>, score_min: f32) -> Counts {
        let mut counts = Counts::default();
        for frame in frames {
            let (found, correct) = frame.counts(score_min);
            counts.add(frame.people, found, correct);
        }
        counts
    }

    /// Adds a frame.
    pub fn add(&mut self, people: usize, found: usize, correct: usize) {
        self.frames += 1;
        self.people += people as u64;
        self.found += found as u64;
        self.correct += correct as u64;
        self.count_error += people.abs_diff(found) as u64;
    }

    /// Share of detections that are people; none where nothing was found.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.correct, self.found)
    }

    /// Share of people that were found; none where there was nobody. This is the count accuracy of people correctly
    /// recognised: false alarms do not lower it.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.correct, self.people)
    }

    /// Harmonic mean of precision and recall: 2 · correct / (found + people).
    pub fn f1(&self) -> Option<f64> {
        ratio(2 * self.correct, self.found + self.people)
    }

    /// Count accuracy by count error: 1 − Σ|n̂ − n| / Σn over frames, with n people and n̂ detections. Below 0 where
    /// the errors are more than the people; none where there was nobody. Misses and false alarms of one frame cancel.
    pub fn count_accuracy(&self) -> Option<f64> {
        ratio(self.count_error, self.people).map(|error| 1.0 - error)
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A point of the precision–recall curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// The least score.
    pub score: f32,
    /// Share of people found from this score on.
    pub recall: f64,
    /// Share of detections from this score on that are people.
    pub precision: f64,
}

/// Precision and recall as the threshold falls, one point a detection of any frame; empty where there is nobody to find.
pub fn curve(frames: &[FrameScores]) -> Vec<Point> {
    let people: usize = frames.iter().map(|frame| frame.people).sum();
    let mut judged: Vec<Judged> = frames.iter().flat_map(|frame| &frame.judged).copied().collect();
    // Stable, so that equal scores keep the order of the frames, as COCO's tools do.
    judged.sort_by(|a, b| b.score.total_cmp(&a.score));
    if people == 0 {
        judged.clear();
    }
    let mut correct = 0;
    let point = |(at, judged): (usize, &Judged)| {
        correct += usize::from(judged.correct);
        Point {
            score: judged.score,
            recall: correct as f64 / people as f64,
            precision: correct as f64 / (at + 1) as f64,
        }
    };
    judged.iter().enumerate().map(point).collect()
}

/// Average precision over all points (Pascal VOC from 2010 on): the area under the curve, once each precision is raised
/// to the best one at the same or a higher recall. None where there is nobody to find.
pub fn average_precision(frames: &[FrameScores]) -> Option<f64> {
    if frames.iter().all(|frame| frame.people == 0) {
        return None;
    }
    let points = curve(frames);
    let (mut area, mut best) = (0.0, 0.0f64);
    for at in (0..points.len()).rev() {
        best = best.max(points[at].precision);
        let before = at.checked_sub(1).map_or(0.0, |before| points[before].recall);
        area += (points[at].recall - before) * best;
    }
    Some(area)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Area;

    fn area(x: f32) -> Area {
        Area { x1: x, y1: 0.0, x2: x + 10.0, y2: 20.0 }
    }

    fn person(x: f32) -> TruthBox {
        TruthBox { area: area(x), id: None, ignore: false }
    }

    fn found(x: f32, score: f32) -> Detection {
        Detection { area: area(x), score }
    }

    fn marks(frame: &FrameScores) -> String {
        frame.judged.iter().map(|judged| if judged.correct { '+' } else { '-' }).collect()
    }

    #[test]
    fn each_person_is_found_once_by_the_surest() {
        let region = TruthBox { area: Area { x1: 100.0, y1: 0.0, x2: 300.0, y2: 90.0 }, id: None, ignore: true };
        for (truth, detections, expect) in [
            (vec![person(0.0)], vec![found(0.0, 0.9), found(1.0, 0.8)], "+-"),
            // By score, whatever the order they come in.
            (vec![person(0.0)], vec![found(0.0, 0.7), found(1.0, 0.8)], "+-"),
            // An overlap of one half, 20/3 of 10 pixels wide, is enough; a little less is not.
            (vec![person(0.0)], vec![found(3.33, 0.9)], "+"),
            (vec![person(0.0)], vec![found(3.34, 0.9)], "-"),
            // The one that it overlaps most; the second takes the other.
            (vec![person(0.0), person(2.0)], vec![found(2.0, 0.9), found(1.0, 0.8)], "++"),
            // In a region nothing is judged; half of a box in it is enough, and any number of boxes.
            (vec![region], vec![found(150.0, 0.9), found(160.0, 0.9), found(95.0, 0.8), found(94.9, 0.7)], "-"),
            // A person in a region is still to be found.
            (vec![region, person(150.0)], vec![found(150.0, 0.9)], "+"),
            (vec![], vec![found(0.0, 0.1)], "-"),
        ] {
            assert_eq!(marks(&FrameScores::of(&truth, &detections)), expect, "{truth:?} {detections:?}");
        }
        assert_eq!(FrameScores::of(&[region, person(0.0)], &[]).people, 1);
    }

    #[test]
    fn figures_of_a_table_counted_by_hand() {
        // Three frames with 2, 1 and 0 people; at 0.5 there are 2+1, 0 and 1 detections, of which 2 are people.
        let frames = [
            FrameScores::of(&[person(0.0), person(50.0)], &[found(0.0, 0.9), found(50.0, 0.6), found(90.0, 0.5)]),
            FrameScores::of(&[person(0.0)], &[found(0.0, 0.4)]),
            FrameScores::of(&[], &[found(0.0, 0.7)]),
        ];
        let counts = Counts::of(&frames, 0.5);
        assert_eq!(counts, Counts { frames: 3, people: 3, found: 4, correct: 2, count_error: 3 });
        assert_eq!((counts.precision(), counts.recall()), (Some(0.5), Some(2.0 / 3.0)));
        assert_eq!((counts.f1(), counts.count_accuracy()), (Some(4.0 / 7.0), Some(0.0)));
        let all = Counts::of(&frames, 0.0);
        assert_eq!((all.correct, all.count_error, all.recall()), (3, 2, Some(1.0)));
        let none = Counts::of(&[], 0.5);
        assert_eq!((none.precision(), none.recall(), none.f1(), none.count_accuracy()), (None, None, None, None));
    }

    #[test]
    fn average_precision_by_hand() {
        let frame = |people, marks: &str| FrameScores {
            people,
            judged: (marks.chars().enumerate())
                .map(|(at, mark)| Judged { score: 0.9 - at as f32 / 100.0, correct: mark == '+' })
                .collect(),
        };
        for (people, marks, expect) in [
            (2, "++", 1.0),
            (2, "+-+", 0.5 + 0.5 * 2.0 / 3.0),
            // The precision of 1/2 is raised to the 2/3 that comes at a higher recall.
            (2, "-++", 2.0 / 3.0),
            (4, "+-+-", 0.25 + 0.25 * 2.0 / 3.0),
            (1, "---", 0.0),
            (1, "", 0.0),
        ] {
            let found = average_precision(&[frame(people, marks)]).unwrap();
            assert!((found - expect).abs() < 1e-12, "{people} {marks}: {found}");
        }
        assert_eq!(average_precision(&[frame(0, "-")]), None);
        assert_eq!(average_precision(&[]), None);
        // Over frames, scores are put in one row.
        let two = [frame(1, "-+"), frame(1, "+")];
        assert_eq!(curve(&two).iter().map(|point| point.recall).collect::<Vec<_>>(), [0.0, 0.5, 1.0]);
    }
}
