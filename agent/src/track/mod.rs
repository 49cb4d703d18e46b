//! Tracks: which detections of successive frames are the same object.
//!
//! ByteTrack's two-stage association (Zhang et al., 2022): detections with a high score are matched with all tracks first,
//! then those with a low score with the tracks that are left, so that a person half hidden is not lost. Matching is by
//! the overlap with the place that a Kalman filter expects. A step means that a detector has looked at a frame; frames
//! that the gate let go are not stepped. Same input, same output. Nothing here knows who anybody is.

pub(crate) mod assign;
mod kalman;

use picket_shared::config::within;
use serde::{Deserialize, Serialize};

use self::assign::Assigner;
use self::kalman::{BoxFilter, SIDE_PX_MIN};
use crate::frame::{Area, Detection};

/// Detections of one frame that are looked at, the best first: as many as the detector gives candidates.
pub const DETECTIONS_MAX: usize = 100;
/// Edges farther out than this cannot be meant, and would make areas overflow: twice the largest picture.
const COORDINATE_PX_MAX: f32 = 131_072.0;
/// A track seen in one step is looked for in the next even where that comes later than `lost_ms`, or a slow detector
/// would never confirm one. After a gap longer than this it is another scene.
const GAP_MS_MAX: u64 = 10_000;

/// How detections become tracks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Score from which a detection is matched first, and alone can find a lost track again. Too high breaks tracks of
    /// people seen badly; too low lets clutter pull tracks away.
    pub score_high: f32,
    /// Score from which a detection can keep a track. Too high loses people half hidden; too low keeps tracks on clutter.
    pub score_low: f32,
    /// Score from which a detection that no track wants begins one. Too high misses people; too low begins false tracks.
    pub score_new: f32,
    /// Least overlap (IoU) of a high detection with a confirmed track. Too high breaks tracks of fast people at low
    /// frame rates; too low swaps neighbours.
    pub iou_high_min: f32,
    /// The same for a low detection. Too high loses people half hidden; too low lets clutter keep tracks.
    pub iou_low_min: f32,
    /// The same for a high detection with a tentative track. Too high never confirms fast people; too low confirms
    /// flicker.
    pub iou_tentative_min: f32,
    /// Consecutive frames that confirm a track. Too high is late and misses people who pass quickly; too low confirms
    /// flicker.
    pub hits_min: u32,
    /// How long a track that is not seen is kept. Too high joins different people who pass the same place; too low gives
    /// one person several tracks.
    pub lost_ms: u64,
    /// The frame interval at which the Kalman filter's noise is one step's. Too high trusts the expected place too much
    /// and loses people who turn; too low trusts each box too much and crosses people who meet.
    pub nominal_interval_ms: u64,
    /// Most tracks at once. Too high costs time (cubically); too low begins no track for people in a crowd.
    pub tracks_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            score_high: 0.4,
            score_low: 0.1,
            score_new: 0.45,
            iou_high_min: 0.2,
            iou_low_min: 0.5,
            iou_tentative_min: 0.3,
            hits_min: 3,
            lost_ms: 2_000,
            nominal_interval_ms: 100,
            tracks_max: 100,
        }
    }
}

impl Config {
    /// Refuses values that cannot be meant, naming the key and its range.
    pub fn check(&self) -> Result<(), String> {
        within("track.score_low", self.score_low, 0.01..=1.0)?;
        within("track.score_high", self.score_high, self.score_low..=1.0)?;
        within("track.score_new", self.score_new, self.score_high..=1.0)?;
        within("track.iou_high_min", self.iou_high_min, 0.01..=0.95)?;
        within("track.iou_low_min", self.iou_low_min, 0.01..=0.95)?;
        within("track.iou_tentative_min", self.iou_tentative_min, 0.01..=0.95)?;
        within("track.hits_min", self.hits_min, 1..=100)?;
        within("track.lost_ms", self.lost_ms, 0..=600_000)?;
        within("track.nominal_interval_ms", self.nominal_interval_ms, 1..=10_000)?;
        within("track.tracks_max", self.tracks_max, 1..=500)
    }
}

/// How certain a track is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Seen in each frame so far, and not often enough to be believed. Missed once, it is gone.
    Tentative,
    /// Believed, and seen in this frame.
    Confirmed,
    /// Believed, and not seen in this frame.
    Lost,
}

/// One object over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Track {
    /// Its number: ascending in order of beginning, never used again by this tracker.
    pub id: u64,
    /// Where it is, in pixels of the source; expected, not seen, while it is lost.
    pub area: Area,
    /// The score of this frame's detection; 0 while it is lost.
    pub score: f32,
    /// How certain it is.
    pub state: State,
    /// Frames in which it was seen.
    pub hits: u32,
    /// The time of its first frame.
    pub start_ms: u64,
    /// The time of the last frame in which it was seen.
    pub last_seen_ms: u64,
}

/// What a tracker has counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tracks begun and confirmed.
    pub tracks_confirmed: u64,
    /// Tracks not begun because there were `tracks_max`.
    pub tracks_refused: u64,
    /// Detections that are none: not finite, without an area, or with a score outside 0 to 1.
    pub detections_refused: u64,
    /// Detections beyond the best [`DETECTIONS_MAX`] of a frame.
    pub detections_over: u64,
}

struct Follower {
    track: Track,
    filter: BoxFilter,
    /// Matched in this step.
    matched: bool,
}

/// The tracker of one source.
pub struct Tracker {
    config: Config,
    next_id: u64,
    id_step: u64,
    now_ms: Option<u64>,
    followers: Vec<Follower>,
    counts: Counts,
    assigner: Assigner,
    /// This frame's detections that are some, best first; taken ones become `None`.
    detections: Vec<Option<Detection>>,
    /// Indices of followers and detections that take part in a round of matching.
    candidates: (Vec<usize>, Vec<usize>),
    tracks: Vec<Track>,
}

impl Tracker {
    /// A tracker that numbers its tracks 1, 2, 3 …
    pub fn new(config: Config) -> Self {
        Self::numbered(config, 1, 1)
    }

    /// A tracker that numbers its tracks `first`, `first + step` … Several trackers of one boot share its numbers by
    /// taking different firsts and, as step, how many they are.
    pub fn numbered(config: Config, first: u64, step: u64) -> Self {
        assert!(first > 0 && step > 0, "track numbers begin above 0 and ascend");
        Self {
            config,
            next_id: first,
            id_step: step,
            now_ms: None,
            followers: Vec::new(),
            counts: Counts::default(),
            assigner: Assigner::default(),
            detections: Vec::new(),
            candidates: (Vec::new(), Vec::new()),
            tracks: Vec::new(),
        }
    }

    /// Takes the detections of one frame in, and gives every living track in the order of their numbers. `now_ms` is
    /// the frame's time; where it runs backwards, the times of all tracks are moved back with it.
    pub fn step(&mut self, now_ms: u64, detections: &[Detection]) -> &[Track] {
        self.take_detections(detections);
        let intervals = self.advance_clock(now_ms);
        self.expire(now_ms);
        for follower in &mut self.followers {
            let seen = follower.track.state != State::Lost;
            follower.filter.predict(intervals, seen);
            follower.matched = false;
        }
        let Config { score_high, iou_high_min, iou_low_min, iou_tentative_min, .. } = self.config;
        self.associate(now_ms, |state| state != State::Tentative, |score| score >= score_high, iou_high_min);
        self.associate(now_ms, |state| state != State::Tentative, |score| score < score_high, iou_low_min);
        self.associate(now_ms, |state| state == State::Tentative, |score| score >= score_high, iou_tentative_min);
        self.miss_unmatched();
        self.expire(now_ms);
        self.begin_new(now_ms);
        self.tracks.clear();
        self.tracks.extend(self.followers.iter().map(|follower| follower.track));
        &self.tracks
    }

    /// Whether any track lives, tentative ones included.
    pub fn alive(&self) -> bool {
        !self.followers.is_empty()
    }

    /// What has been counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Forgets all tracks, and goes on with the numbers: for a source that begins anew.
    pub fn clear(&mut self) {
        self.followers.clear();
        self.tracks.clear();
        self.now_ms = None;
    }

    /// Keeps the detections that are some, the best first, and counts the others.
    fn take_detections(&mut self, detections: &[Detection]) {
        let config = &self.config;
        self.detections.clear();
        for &detection in detections {
            if !makes_sense(&detection) {
                self.counts.detections_refused += 1;
            } else if detection.score >= config.score_low {
                self.detections.push(Some(detection));
            }
        }
        // Stable, so that equal scores keep the order in which they came.
        self.detections.sort_by(|a, b| {
            let score = |detection: &Option<Detection>| detection.map_or(0.0, |d| d.score);
            score(b).total_cmp(&score(a))
        });
        self.counts.detections_over += self.detections.len().saturating_sub(DETECTIONS_MAX) as u64;
        self.detections.truncate(DETECTIONS_MAX);
    }

    /// The time since the last step, in nominal intervals.
    fn advance_clock(&mut self, now_ms: u64) -> f64 {
        let nominal_ms = self.config.nominal_interval_ms;
        let last_ms = self.now_ms.replace(now_ms).unwrap_or(now_ms);
        let elapsed_ms = match now_ms.checked_sub(last_ms) {
            Some(elapsed_ms) => elapsed_ms,
            None => {
                // The clock was set back: as far as anybody knows, one interval has passed.
                let back_ms = (last_ms - now_ms).saturating_add(nominal_ms);
                for Follower { track, .. } in &mut self.followers {
                    track.start_ms = track.start_ms.saturating_sub(back_ms);
                    track.last_seen_ms = track.last_seen_ms.saturating_sub(back_ms);
                }
                nominal_ms
            }
        };
        elapsed_ms as f64 / nominal_ms as f64
    }

    /// Drops the tracks that have not been seen for too long.
    fn expire(&mut self, now_ms: u64) {
        let lost_ms = self.config.lost_ms;
        self.followers.retain(|Follower { track, .. }| {
            let kept_ms = if track.state == State::Lost { lost_ms } else { lost_ms.max(GAP_MS_MAX) };
            now_ms.saturating_sub(track.last_seen_ms) <= kept_ms
        });
    }

    /// One round of matching, between the tracks and the detections that take part and are still free.
    fn associate(
        &mut self,
        now_ms: u64,
        takes_state: impl Fn(State) -> bool,
        takes_score: impl Fn(f32) -> bool,
        iou_min: f32,
    ) {
        let (rows, columns) = &mut self.candidates;
        rows.clear();
        columns.clear();
        let free = self.followers.iter().enumerate();
        let free = free.filter(|(_, follower)| !follower.matched && takes_state(follower.track.state));
        rows.extend(free.map(|(index, _)| index));
        let wanted = self.detections.iter().enumerate();
        let wanted = wanted.filter(|(_, detection)| detection.is_some_and(|d| takes_score(d.score)));
        columns.extend(wanted.map(|(index, _)| index));
        let (rows, columns) = &self.candidates;
        let benefit = |row: usize, column: usize| {
            let detection = self.detections[columns[column]].expect("only detections still there were chosen");
            f64::from(self.followers[rows[row]].filter.area().iou(&detection.area) - iou_min)
        };
        for &(row, column) in self.assigner.solve(rows.len(), columns.len(), benefit) {
            let detection = self.detections[columns[column]].take().expect("a column is given once");
            let follower = &mut self.followers[rows[row]];
            follower.filter.correct(&detection.area);
            self.counts.tracks_confirmed += u64::from(follower.hit(now_ms, &detection, self.config.hits_min));
        }
    }

    /// What was not seen in this frame: a tentative track is gone, a confirmed one is lost.
    fn miss_unmatched(&mut self) {
        self.followers.retain(|follower| follower.matched || follower.track.state != State::Tentative);
        for follower in self.followers.iter_mut().filter(|follower| !follower.matched) {
            follower.track.state = State::Lost;
            follower.track.score = 0.0;
            follower.track.area = follower.filter.area();
        }
    }

    /// Begins a track for each good detection that no track wanted.
    fn begin_new(&mut self, now_ms: u64) {
        for detection in self.detections.iter().flatten().filter(|d| d.score >= self.config.score_new) {
            if self.followers.len() >= self.config.tracks_max {
                self.counts.tracks_refused += 1;
                continue;
            }
            let track = Track {
                id: self.next_id,
                area: detection.area,
                score: detection.score,
                state: State::Tentative,
                hits: 0,
                start_ms: now_ms,
                last_seen_ms: now_ms,
            };
            self.next_id += self.id_step;
            let mut follower = Follower { track, filter: BoxFilter::new(&detection.area), matched: true };
            self.counts.tracks_confirmed += u64::from(follower.hit(now_ms, detection, self.config.hits_min));
            self.followers.push(follower);
        }
    }
}

impl Follower {
    /// Writes down that it was seen. True where that confirms it.
    fn hit(&mut self, now_ms: u64, detection: &Detection, hits_min: u32) -> bool {
        let was_tentative = self.track.state == State::Tentative;
        let hits = self.track.hits.saturating_add(1);
        let state = if was_tentative && hits < hits_min { State::Tentative } else { State::Confirmed };
        self.matched = true;
        self.track =
            Track { area: detection.area, score: detection.score, state, hits, last_seen_ms: now_ms, ..self.track };
        was_tentative && state == State::Confirmed
    }
}

/// Whether a detection is one: finite edges in reach of a picture, sides that a filter can use, a score that is one.
fn makes_sense(detection: &Detection) -> bool {
    let Detection { area, score } = detection;
    let edges = [area.x1, area.y1, area.x2, area.y2];
    edges.into_iter().all(|edge| edge.abs() <= COORDINATE_PX_MAX)
        && area.width() >= SIDE_PX_MIN
        && area.height() >= SIDE_PX_MIN
        && (0.0..=1.0).contains(score)
}

#[cfg(test)]
mod tests;
