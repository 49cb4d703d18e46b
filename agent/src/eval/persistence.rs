//! Tells people from flicker without any truth: by whether the tracker can follow them.
//!
//! The rule: all detections of a sequence, also those with low scores, are given to a tracker that begins a track with
//! any of them. A track is taken for a person if it was seen in [`HITS_MIN`] frames or more, in at least half of the
//! frames between its first and its last, and at least once with the score from which the station's own tracker begins
//! a track: without that, whatever stays at a low score (a sign, a part of somebody) would count, and the threshold
//! would come out as low as can be. Its detections are correct, those of all other tracks wrong. What is sure, stays,
//! and is no person is taken for one: only labels could tell.

use std::collections::HashMap;

use super::metrics::boxes::{FrameScores, Judged};
use crate::frame::Detection;
use crate::track::{self, Tracker};

/// Frames in which a track must be seen: one second of a common camera at ten frames a second.
pub const HITS_MIN: u32 = 10;
/// Most tracks at once while also clutter has tracks.
const TRACKS_MAX: usize = 400;

/// One track as seen so far, in frames.
struct Seen {
    hits: u32,
    first: usize,
    last: usize,
    score_top: f32,
}

/// Takes a sequence in.
pub struct Persistence {
    tracker: Tracker,
    /// The score that a person's track has had at least once.
    score_sure: f32,
    /// Track and score of each detection, frame by frame.
    frames: Vec<Vec<(u64, f32)>>,
    tracks: HashMap<u64, Seen>,
}

impl Persistence {
    /// Follows with the station's own tracker, but for the scores that begin and keep tracks, which are `least`.
    pub fn new(config: &track::Config, least: f32) -> Persistence {
        let score_sure = config.score_new;
        let config = track::Config {
            score_low: least,
            score_high: least,
            score_new: least,
            tracks_max: TRACKS_MAX,
            ..config.clone()
        };
        Persistence { tracker: Tracker::new(config), score_sure, frames: Vec::new(), tracks: HashMap::new() }
    }

    /// Takes the next frame in.
    pub fn frame(&mut self, taken_ms: u64, found: &[Detection]) {
        let now = self.frames.len();
        let tracks = self.tracker.step(taken_ms, found);
        let seen = tracks.iter().filter(|track| track.last_seen_ms == taken_ms && track.score > 0.0);
        let seen: Vec<(u64, f32)> = seen.map(|track| (track.id, track.score)).collect();
        for (id, score) in &seen {
            let track = self.tracks.entry(*id).or_insert(Seen { hits: 0, first: now, last: now, score_top: 0.0 });
            track.hits += 1;
            track.last = now;
            track.score_top = track.score_top.max(*score);
        }
        self.frames.push(seen);
    }

    /// Each frame, judged by the whole sequence.
    pub fn judge(&self) -> Vec<FrameScores> {
        let person = |id: &u64| {
            let Seen { hits, first, last, score_top } = self.tracks[id];
            hits >= HITS_MIN && hits as usize * 2 > last - first && score_top >= self.score_sure
        };
        let frame = |seen: &Vec<(u64, f32)>| {
            let mut judged: Vec<Judged> =
                seen.iter().map(|(id, score)| Judged { score: *score, correct: person(id) }).collect();
            judged.sort_by(|a, b| b.score.total_cmp(&a.score));
            FrameScores { people: judged.iter().filter(|judged| judged.correct).count(), judged }
        };
        self.frames.iter().map(frame).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::random::Random;
    use crate::eval::threshold::{Objective, choose};
    use crate::frame::Area;

    fn at(x: f32, y: f32, score: f32) -> Detection {
        Detection { area: Area { x1: x, y1: y, x2: x + 20.0, y2: y + 50.0 }, score }
    }

    fn judged(frames: &[Vec<Detection>]) -> Vec<FrameScores> {
        let mut persistence = Persistence::new(&track::Config::default(), 0.05);
        frames.iter().enumerate().for_each(|(at, found)| persistence.frame(1_000 + at as u64 * 100, found));
        persistence.judge()
    }

    #[test]
    fn whoever_is_followed_is_a_person_from_the_first_frame_on() {
        // Walks through 12 frames, sure in one of them and not seen in another; something sure flickers at one place for
        // 4; something stays all the time and is never sure.
        let frames: Vec<Vec<Detection>> = (0..12)
            .map(|frame| {
                let walker = (frame != 6).then(|| at(frame as f32 * 2.0, 0.0, if frame == 8 { 0.5 } else { 0.2 }));
                let flicker = (frame < 4).then(|| at(500.0, 300.0, 0.8));
                walker.into_iter().chain(flicker).chain([at(500.0, 0.0, 0.3)]).collect()
            })
            .collect();
        let people: Vec<usize> = judged(&frames).iter().map(|frame| frame.people).collect();
        assert_eq!(people, [1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1]);
        let nine: Vec<Vec<Detection>> = (0..9).map(|_| vec![at(0.0, 0.0, 0.9)]).collect();
        assert!(judged(&nine).iter().all(|frame| frame.people == 0), "nine frames are not ten");
    }

    #[test]
    fn the_threshold_comes_out_between_walkers_and_flicker() {
        let mut random = Random::new(4, 4);
        let frames: Vec<Vec<Detection>> = (0..200)
            .map(|frame| {
                let mut found: Vec<Detection> = (0..3)
                    .map(|who| {
                        at(frame as f32 + who as f32 * 90.0, 60.0 * who as f32, 0.5 + 0.4 * random.unit() as f32)
                    })
                    .collect();
                // Somewhere else in each frame.
                let somewhere = at(600.0 * random.unit() as f32, 300.0 + 300.0 * random.unit() as f32, 0.0);
                found.push(Detection { score: 0.1 + 0.3 * random.unit() as f32, ..somewhere });
                found
            })
            .collect();
        let choice = choose(&judged(&frames), Objective::F1, 0.1, 0.05, 25, 1).unwrap();
        assert!((0.38..=0.52).contains(&choice.threshold) && choice.value > 0.97, "{choice:?}");
    }
}
