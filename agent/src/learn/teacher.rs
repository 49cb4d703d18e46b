//! What a second, heavier detector says of the candidates of a frame that both have looked at: whom it sees surely is a person, and
//! what the device takes for somebody where it sees nothing is nobody. Of everything between it says nothing. Pure.
//!
//! It looks rarely, at frames that are there anyway; `teaching` is the thread that does that.

use picket_shared::config::within;
use serde::{Deserialize, Serialize};

use super::miner::Frame;
use crate::detect::{self, BUILTIN_NAME};
use crate::frame::{Area, Detection};

/// A candidate is whom the teacher sees where it overlaps him so much; and whom the tracker follows, too.
const SAME_IOU_MIN: f32 = 0.5;
/// What overlaps a candidate so much is near it.
const NEAR_IOU_MIN: f32 = 0.2;
/// A candidate is taken for somebody from this score on: below it nobody would be told of it, and to hear that it is nobody
/// changes little.
const DOUBTED_MIN: f32 = 0.2;
/// Labels of one frame and of one kind.
pub const TAUGHT_AT_ONCE_MAX: usize = 8;
/// What nobody follows belongs to a square of so many pixels of its camera's picture: a stone stays where it is.
const SQUARE_PX: f32 = 64.0;
/// Squares beside each other, at most.
const SQUARES_MAX: f32 = 1000.0;

/// The teacher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A model that the detector could be: `builtin`, or the path of an ONNX file.
    pub model: String,
    /// It looks at one frame of any camera in so many seconds. More often finds more labels, much alike.
    #[serde(default = "every_s")]
    pub every_s: u32,
    /// Whom it gives this score is a person. Lower teaches what is wrong; higher says little.
    #[serde(default = "sure")]
    pub sure: f32,
    /// What has no detection of this score near is nobody. Higher teaches that people who are hard to see are nobody.
    #[serde(default = "unsure")]
    pub unsure: f32,
    /// Processor time that it may take, in parts of a hundred of one processor, beside what learning may.
    #[serde(default = "cpu_percent")]
    pub cpu_percent: f32,
}

fn every_s() -> u32 {
    10
}

fn sure() -> f32 {
    0.6
}

fn unsure() -> f32 {
    0.15
}

fn cpu_percent() -> f32 {
    10.0
}

impl Config {
    /// Refuses values that cannot be meant, naming the key and its range.
    pub fn check(&self) -> Result<(), String> {
        if self.model.is_empty() {
            return Err(format!("learn.teacher.model is empty; write \"{BUILTIN_NAME}\" or the path of an ONNX file"));
        }
        within("learn.teacher.every_s", self.every_s, 1..=3600)?;
        within("learn.teacher.sure", self.sure, 0.0..=1.0)?;
        within("learn.teacher.unsure", self.unsure, 0.0..=1.0)?;
        within("learn.teacher.cpu_percent", self.cpu_percent, 0.1..=100.0)?;
        if self.unsure >= self.sure {
            let (unsure, sure) = (self.unsure, self.sure);
            return Err(format!("learn.teacher.unsure is {unsure} and sure is {sure}; give unsure less than sure"));
        }
        Ok(())
    }

    /// The detector that it is, beside the device's own: on one thread, and with all that it says from `unsure` on.
    pub fn detector(&self, own: &detect::Config) -> detect::Config {
        // What is said of the own model's layout holds for the same file again.
        let alike = if self.model == own.model { own.clone() } else { own.for_other(&self.model) };
        detect::Config { threads: 1, workers: 1, score_min: self.unsure, ..alike }
    }

    /// What it says something by.
    pub fn terms(&self) -> Terms {
        Terms { sure: self.sure, unsure: self.unsure }
    }
}

/// What a teacher says something by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// See [`Config::sure`].
    pub sure: f32,
    /// See [`Config::unsure`].
    pub unsure: f32,
}

/// What a label belongs to, so that all of one thing are held out together, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Somebody who is followed.
    Track(u64),
    /// A square of the picture, counted from the left and from the top: nobody is followed there.
    Square(u32, u32),
}

/// What the teacher says of a candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Taught {
    /// What it belongs to.
    pub whose: Whose,
    /// Somebody is there.
    pub person: bool,
    /// What it was judged by.
    pub features: Vec<f32>,
}

/// The labels that follow from what a teacher detects in a frame.
pub fn teach(frame: &Frame, detections: &[Detection], terms: Terms) -> Vec<Taught> {
    let people = people(frame, detections, terms).into_iter().map(|at| (at, true));
    let nobody = nobody(frame, detections, terms).into_iter().map(|at| (at, false));
    let taught = |(at, person)| Taught { whose: whose(frame, at), person, features: frame.features_of(at).to_vec() };
    people.chain(nobody).map(taught).collect()
}

/// Of each sure detection the candidate that overlaps it best, the surest first.
fn people(frame: &Frame, detections: &[Detection], terms: Terms) -> Vec<usize> {
    let mut sure: Vec<&Detection> = detections.iter().filter(|detection| detection.score >= terms.sure).collect();
    sure.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut found = Vec::new();
    for Detection { area, .. } in sure {
        let best = best(area, frame.seen.iter().map(|seen| &seen.area), SAME_IOU_MIN);
        // One that two people share is one label.
        found.extend(best.filter(|at| !found.contains(at)));
    }
    found.truncate(TAUGHT_AT_ONCE_MAX);
    found
}

/// What is taken for somebody where the teacher sees nothing near, the surest first.
fn nobody(frame: &Frame, detections: &[Detection], terms: Terms) -> Vec<usize> {
    let near = |area: &Area| {
        let sees = |detection: &Detection| detection.score >= terms.unsure && detection.area.iou(area) >= NEAR_IOU_MIN;
        detections.iter().any(sees)
    };
    let score = |at: &usize| frame.seen[*at].score;
    let doubted = |at: &usize| score(at) >= DOUBTED_MIN && !near(&frame.seen[*at].area);
    let mut found: Vec<usize> = (0..frame.seen.len()).filter(doubted).collect();
    found.sort_by(|a, b| score(b).total_cmp(&score(a)));
    found.truncate(TAUGHT_AT_ONCE_MAX);
    found
}

fn whose(frame: &Frame, at: usize) -> Whose {
    let area = &frame.seen[at].area;
    if let Some(track) = best(area, frame.tracks.iter().map(|track| &track.area), SAME_IOU_MIN) {
        return Whose::Track(frame.tracks[track].id);
    }
    let (x, y) = area.foot();
    let square = |px: f32| (px / SQUARE_PX).clamp(0.0, SQUARES_MAX) as u32;
    Whose::Square(square(x), square(y))
}

/// Which of them overlaps an area best, and at least so much.
fn best<'a>(area: &Area, among: impl Iterator<Item = &'a Area>, iou_min: f32) -> Option<usize> {
    let all = among.map(|other| other.iou(area)).enumerate().filter(|(_, iou)| *iou >= iou_min);
    all.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::judge::Seen;
    use crate::track::{State, Track};

    const TERMS: Terms = Terms { sure: 0.6, unsure: 0.15 };

    fn area(x: f32) -> Area {
        Area { x1: x, y1: 0.0, x2: x + 20.0, y2: 60.0 }
    }

    fn track(id: u64, x: f32) -> Track {
        let (state, hits) = (State::Confirmed, 9);
        Track { id, area: area(x), score: 0.9, state, hits, start_ms: 0, last_seen_ms: 0 }
    }

    /// Candidates at these places, each judged by its number.
    fn frame(seen: &[(f32, f32)], tracks: &[Track]) -> Frame {
        Frame {
            number: 1,
            taken_ms: 0,
            seen: seen.iter().map(|(x, score)| Seen { area: area(*x), score: *score }).collect(),
            features: (0..seen.len()).flat_map(|at| [at as f32, 0.5]).collect(),
            tracks: tracks.to_vec(),
        }
    }

    /// Which candidates are taught to be what.
    fn taught(seen: &[(f32, f32)], sees: &[(f32, f32)]) -> Vec<(usize, bool)> {
        let sees: Vec<Detection> = sees.iter().map(|(x, score)| Detection { area: area(*x), score: *score }).collect();
        let taught = teach(&frame(seen, &[]), &sees, TERMS);
        taught.iter().map(|taught| (taught.features[0] as usize, taught.person)).collect()
    }

    #[test]
    fn whom_the_teacher_sees_surely_is_a_person_however_little_the_device_sees_of_him() {
        assert_eq!(taught(&[(100.0, 0.06)], &[(102.0, 0.6)]), [(0, true)]);
        assert_eq!(taught(&[(100.0, 0.06)], &[(102.0, 0.59)]), [], "it is not sure");
        assert_eq!(taught(&[(100.0, 0.06)], &[(107.0, 0.9)]), [], "it is another place");
    }

    #[test]
    fn of_those_who_overlap_one_detection_the_best_alone_is_taught() {
        assert_eq!(taught(&[(104.0, 0.9), (101.0, 0.1), (98.0, 0.9)], &[(100.0, 0.9)]), [(1, true)]);
        // Two detections of one candidate are one label.
        assert_eq!(taught(&[(100.0, 0.9)], &[(101.0, 0.9), (99.0, 0.8)]), [(0, true)]);
    }

    #[test]
    fn what_is_taken_for_somebody_where_the_teacher_sees_nothing_is_nobody() {
        assert_eq!(taught(&[(100.0, 0.2)], &[(300.0, 0.9)]), [(0, false)]);
        assert_eq!(taught(&[(100.0, 0.19)], &[]), [], "it is not taken for somebody");
        assert_eq!(taught(&[(100.0, 0.9)], &[(110.0, 0.15)]), [], "something may be near");
        assert_eq!(taught(&[(100.0, 0.9)], &[(110.0, 0.14)]), [(0, false)], "that is nothing");
        assert_eq!(taught(&[(100.0, 0.9)], &[(115.0, 0.5)]), [(0, false)], "that is not near");
    }

    #[test]
    fn of_one_frame_the_surest_labels_are_taken() {
        let seen: Vec<(f32, f32)> = (0..30).map(|n| (n as f32 * 40.0, 0.3 + n as f32 / 100.0)).collect();
        let nobody: Vec<_> = (22..30).rev().map(|at| (at, false)).collect();
        assert_eq!(taught(&seen, &[]), nobody);
        let sees: Vec<(f32, f32)> = seen.iter().map(|(x, score)| (*x, score + 0.35)).collect();
        let people: Vec<_> = (22..30).rev().map(|at| (at, true)).collect();
        assert_eq!(taught(&seen, &sees), people);
    }

    #[test]
    fn a_label_belongs_to_whoever_is_followed_there_and_else_to_the_place() {
        let frame = frame(&[(100.0, 0.9), (300.0, 0.9), (303.0, 0.9)], &[track(4, 109.0), track(7, 102.0)]);
        let whose: Vec<Whose> = teach(&frame, &[], TERMS).iter().map(|taught| taught.whose).collect();
        assert_eq!(whose, [Whose::Track(7), Whose::Square(4, 0), Whose::Square(4, 0)]);
    }

    #[test]
    fn numbers_that_are_none_and_frames_with_nothing_in_them_hurt_nobody() {
        assert_eq!(taught(&[], &[(100.0, 0.9)]), []);
        let wild = [(f32::NAN, f32::NAN), (f32::INFINITY, f32::INFINITY), (f32::MAX, 0.9), (-f32::MAX, 0.9)];
        assert!(taught(&wild, &wild).len() <= 2 * TAUGHT_AT_ONCE_MAX);
    }

    #[test]
    fn a_teacher_that_cannot_be_meant_is_refused_by_its_key() {
        let read = |text: &str| picket_shared::config::parse::<Config>(text).and_then(|config| config.check());
        assert_eq!(read("model = \"builtin\""), Ok(()));
        for (more, expect) in [
            ("every_s = 0", "learn.teacher.every_s is 0; give it 1 to 3600"),
            ("every_s = 3601", "learn.teacher.every_s is 3601"),
            ("sure = 1.5", "learn.teacher.sure is 1.5; give it 0 to 1"),
            ("sure = nan", "learn.teacher.sure is NaN"),
            ("unsure = -0.5", "learn.teacher.unsure is -0.5"),
            ("cpu_percent = 0.0", "learn.teacher.cpu_percent is 0; give it 0.1 to 100"),
            ("sure = 0.3\nunsure = 0.3", "unsure is 0.3 and sure is 0.3; give unsure less than sure"),
            ("evry_s = 1", "unknown key \"evry_s\"; did you mean \"every_s\"?"),
        ] {
            let refused = read(&format!("model = \"builtin\"\n{more}")).unwrap_err();
            assert!(refused.contains(expect), "{more}: {refused}");
        }
        assert!(read("model = \"\"").unwrap_err().contains("learn.teacher.model is empty"));
        assert!(read("").unwrap_err().contains("model"));
    }

    #[test]
    fn it_is_loaded_as_the_own_model_is_and_says_all_that_it_may_be_asked() {
        let own = detect::Config {
            model: "/m.onnx".into(),
            person_class: Some(3),
            threads: 4,
            workers: 2,
            ..detect::Config::default()
        };
        let config = |model: &str| Config {
            model: model.into(),
            every_s: every_s(),
            sure: sure(),
            unsure: unsure(),
            cpu_percent: cpu_percent(),
        };
        let same = config("/m.onnx").detector(&own);
        assert_eq!((same.person_class, same.threads, same.workers, same.score_min), (Some(3), 1, 1, 0.15));
        let other = config("/t.onnx").detector(&own);
        assert_eq!((other.model.as_str(), other.person_class, other.threads), ("/t.onnx", None, 1));
    }
}
