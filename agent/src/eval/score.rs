//! From what a pass saw to every figure of it: boxes, counts, and tracks where there are identities.
//!
//! Tracks are those of the agent's own tracker over the detections from the threshold on, as on the frame path. Pure.

use serde::Serialize;

use super::metrics::boxes::{Counts, FrameScores, average_precision};
use super::metrics::tracks::{Accumulator, TrackScores, Tracked};
use super::truth::{Truth, mot};
use crate::frame::Detection;
use crate::track::{self, State, Tracker};

/// What a sequence needs beside its truth.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// The tracker's configuration.
    pub track: track::Config,
    /// Frames a second.
    pub fps: f64,
}

/// One frame's detections, by its index from 0 and its picture's name.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// From 0.
    pub index: usize,
    /// The picture's file; empty in a video.
    pub name: &'a str,
    /// Detections of any score.
    pub detections: &'a [Detection],
}

/// Numbers of people in one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Heads {
    /// The frame, from 0.
    pub frame: usize,
    /// People in the truth.
    pub people: usize,
    /// Detections from the threshold on.
    pub found: usize,
    /// Confirmed tracks that were seen; none without identities.
    pub tracked: Option<usize>,
}

/// The figures of one pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Sums at the threshold.
    pub counts: Counts,
    /// Count accuracy, first form: people correctly recognised, as a share of all people.
    pub count_accuracy_recognised: Option<f64>,
    /// Count accuracy, second form: 1 − Σ|n̂ − n| / Σn.
    pub count_accuracy_error: Option<f64>,
    /// Share of detections that are people.
    pub precision: Option<f64>,
    /// Share of people that were found.
    pub recall: Option<f64>,
    /// Harmonic mean of the two.
    pub f1: Option<f64>,
    /// Average precision at an IoU of 0.5, over all scores.
    pub ap50: Option<f64>,
    /// Tracks; none without identities.
    pub tracks: Option<TrackScores>,
}

/// A scored pass: its figures, and what plots and files are made from.
#[derive(Debug, Clone)]
pub struct Scored {
    /// The figures.
    pub figures: Figures,
    /// Each frame, judged.
    pub frames: Vec<FrameScores>,
    /// Each frame, counted.
    pub heads: Vec<Heads>,
    /// The tracks in MOTChallenge's columns; empty without identities.
    pub result: String,
}

/// Scores frames in their order. Frames that the truth does not know are passed over.
pub fn score(seen: &[Found], truth: &Truth, score_min: f32, sequence: Option<&Sequence>) -> Scored {
    let mut tracker = sequence.map(|sequence| Tracker::new(sequence.track.clone()));
    let fps = sequence.map_or(1.0, |sequence| sequence.fps);
    let mut accumulator = Accumulator::default();
    let (mut frames, mut heads, mut result) = (Vec::new(), Vec::new(), String::new());
    for Found { index, name, detections } in seen {
        let Some(marked) = truth.of(*index, name) else { continue };
        let frame = FrameScores::of(marked, detections);
        let sure: Vec<Detection> = detections.iter().filter(|d| d.score >= score_min).copied().collect();
        let tracked = tracker.as_mut().map(|tracker| {
            // From a second on, because no camera's clock begins at 0.
            let now_ms = 1_000 + (*index as f64 * 1_000.0 / fps).round() as u64;
            let tracks = tracker.step(now_ms, &sure).iter().filter(|track| track.state == State::Confirmed);
            let tracks: Vec<_> = tracks.collect();
            for track in &tracks {
                mot::write_result(&mut result, *index as u64 + 1, track.id, &track.area, track.score);
            }
            let tracked: Vec<_> = tracks.iter().map(|track| Tracked { id: track.id, area: track.area }).collect();
            accumulator.frame(marked, &tracked);
            tracked.len()
        });
        heads.push(Heads { frame: *index, people: frame.people, found: frame.counts(score_min).0, tracked });
        frames.push(frame);
    }
    let counts = Counts::of(&frames, score_min);
    let figures = Figures {
        counts,
        count_accuracy_recognised: counts.recall(),
        count_accuracy_error: counts.count_accuracy(),
        precision: counts.precision(),
        recall: counts.recall(),
        f1: counts.f1(),
        ap50: average_precision(&frames),
        tracks: tracker.is_some().then(|| accumulator.scores()),
    };
    Scored { figures, frames, heads, result }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Area;

    #[test]
    fn the_tracker_gets_what_the_frame_path_gives_it_and_ap_gets_all() {
        let lines: String = (1..=6).map(|frame| format!("{frame},1,10,10,20,40,1,-1,-1,-1\n")).collect();
        let truth = mot::parse(&lines).unwrap();
        let at = |x: f32, score| Detection { area: Area { x1: x, y1: 10.0, x2: x + 20.0, y2: 50.0 }, score };
        // A person that scores enough, and clutter that does not; a seventh frame that nobody looked at.
        let found = vec![at(10.0, 0.8), at(200.0, 0.29)];
        let seen: Vec<Found> = (0..7).map(|index| Found { index, name: "", detections: &found }).collect();
        // A tracker that would begin a track with anything: the clutter's does not come to it.
        let track = track::Config { score_new: 0.2, score_high: 0.2, ..track::Config::default() };
        let sequence = Sequence { track, fps: 10.0 };
        let Scored { figures, frames, heads, result } = score(&seen, &truth, 0.3, Some(&sequence));
        assert_eq!((frames.len(), frames[0].judged.len()), (6, 2));
        assert_eq!((figures.precision, figures.recall, figures.ap50), (Some(1.0), Some(1.0), Some(1.0)));
        // The tracker confirms in the third frame.
        assert_eq!(heads.iter().map(|h| h.tracked.unwrap()).collect::<Vec<_>>(), [0, 0, 1, 1, 1, 1]);
        assert_eq!(figures.tracks.unwrap().mota, Some(1.0 - 2.0 / 6.0));
        assert!(result.starts_with("3,1,10.00,10.00,20.00,40.00,0.8000,-1,-1,-1\n4,1,"), "{result}");
        let boxes_only = score(&seen, &truth, 0.3, None);
        assert!(boxes_only.figures.tracks.is_none() && boxes_only.result.is_empty());
    }
}
