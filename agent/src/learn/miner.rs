//! Finds labels in what the tracker follows, with nobody asked: somebody who was seen surely, missed, and seen surely again was there
//! meanwhile; and what was seen in one frame alone, with nothing near before and after, was nobody. Pure.
//!
//! It also keeps a few looks at everybody who is followed, so that a person's word about an event can be learned from later.

use std::collections::{BTreeMap, VecDeque};

use super::judge::Seen;
use crate::frame::Area;
use crate::track::{State, Track};

/// Frames that are remembered.
const FRAMES_MAX: usize = 8;
/// A gap of more frames is not filled: too much can happen meanwhile.
const GAP_FRAMES_MAX: u64 = 5;
/// So sure somebody must be seen on both sides of a gap.
const SURE_MIN: f32 = 0.5;
/// A candidate is the missed one where it overlaps the expected place so much.
const GAP_IOU_MIN: f32 = 0.5;
/// So many frames before and after a flicker nothing may be near.
const QUIET_FRAMES: u64 = 4;
/// Those after it come within so long. Where frames are rarer, who walks by is elsewhere in the next one, and looks like a flicker. Before
/// it nothing need have been looked at for a while: where nothing moves the gate is closed.
const QUIET_MS_MAX: u64 = 1_000;
/// What is near, by its overlap and its score.
const NEAR: (f32, f32) = (0.2, 0.2);
/// Flickers that are waited for at once.
const FLICKERS_MAX: usize = 16;

/// One frame that was looked at.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// Counts the frames of this camera that were looked at, without a gap.
    pub number: u64,
    /// When it was taken, in milliseconds since 1970.
    pub taken_ms: u64,
    /// The candidates.
    pub seen: Vec<Seen>,
    /// What they were judged by, one after the other, each as many numbers as the next.
    pub features: Vec<f32>,
    /// Who is followed.
    pub tracks: Vec<Track>,
}

impl Frame {
    pub(super) fn features_of(&self, at: usize) -> &[f32] {
        let width = self.features.len() / self.seen.len().max(1);
        &self.features[at * width..(at + 1) * width]
    }

    /// The candidate that a track took. A track's place is that of its candidate, to the last bit.
    fn candidate_of(&self, track: &Track) -> Option<usize> {
        self.seen.iter().position(|seen| seen.area == track.area)
    }
}

/// A label that nobody gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Mined {
    /// Whose track it follows from.
    pub track: u64,
    /// Somebody was there.
    pub person: bool,
    /// What it was judged by.
    pub features: Vec<f32>,
}

/// A few looks at one track.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Looks {
    /// The first sure one, the surest, and the last, as far as there are.
    looks: [Option<(f32, Vec<f32>)>; 3],
}

impl Looks {
    fn take(&mut self, score: f32, features: &[f32]) {
        let new = || Some((score, features.to_vec()));
        match &self.looks {
            [None, ..] => self.looks[0] = new(),
            [_, Some((best, _)), _] if *best >= score => self.looks[2] = new(),
            _ => self.looks[1] = new(),
        }
    }

    /// The surest first.
    pub fn features(self) -> Vec<Vec<f32>> {
        let mut looks: Vec<_> = self.looks.into_iter().flatten().collect();
        looks.sort_by(|a, b| b.0.total_cmp(&a.0));
        looks.into_iter().map(|(_, features)| features).collect()
    }
}

#[derive(Debug, Default)]
struct Followed {
    /// The last frame in which it was seen surely, and where.
    sure: Option<(u64, Area)>,
    looks: Looks,
}

#[derive(Debug)]
struct Flicker {
    number: u64,
    taken_ms: u64,
    track: u64,
    area: Area,
    features: Vec<f32>,
}

/// What is remembered of one camera.
#[derive(Debug, Default)]
pub struct Miner {
    frames: VecDeque<Frame>,
    followed: BTreeMap<u64, Followed>,
    flickers: Vec<Flicker>,
}

impl Miner {
    /// Takes the next frame. Labels go to `mined`; tracks that have ended, with the looks at them, to `ended`.
    pub fn look(&mut self, frame: Frame, mined: &mut Vec<Mined>, ended: &mut Vec<(u64, Looks)>) {
        if self.frames.back().is_some_and(|last| last.number + 1 != frame.number) {
            // Frames are missing between: nothing is certain of what was near meanwhile.
            self.frames.clear();
            self.flickers.clear();
            self.followed.values_mut().for_each(|followed| followed.sure = None);
        }
        for track in &frame.tracks {
            match (track.state, frame.candidate_of(track)) {
                (State::Confirmed, Some(at)) => self.follow(&frame, track, at, mined),
                (State::Tentative, Some(at)) if track.hits == 1 => self.suspect(&frame, track, at),
                _ => {}
            }
        }
        self.settle(&frame, mined);
        let gone = |id: &u64| !frame.tracks.iter().any(|track| track.id == *id);
        let over: Vec<u64> = self.followed.keys().copied().filter(gone).collect();
        ended.extend(over.into_iter().filter_map(|id| Some((id, self.followed.remove(&id)?.looks))));
        self.frames.push_back(frame);
        if self.frames.len() > FRAMES_MAX {
            self.frames.pop_front();
        }
    }

    /// The looks at a track that is followed now.
    pub fn looks(&self, track: u64) -> Option<&Looks> {
        self.followed.get(&track).map(|followed| &followed.looks)
    }

    /// The tracks that are followed now.
    pub fn tracks(&self) -> impl Iterator<Item = u64> {
        self.followed.keys().copied()
    }

    fn follow(&mut self, frame: &Frame, track: &Track, at: usize, mined: &mut Vec<Mined>) {
        let followed = self.followed.entry(track.id).or_default();
        followed.looks.take(track.score, frame.features_of(at));
        if track.score < SURE_MIN {
            return;
        }
        let before = followed.sure.replace((frame.number, track.area));
        let Some((number, area)) = before.filter(|(number, _)| frame.number - number <= GAP_FRAMES_MAX) else { return };
        for missed in self.frames.iter().filter(|missed| missed.number > number) {
            let part = (missed.number - number) as f32 / (frame.number - number) as f32;
            let place = between(&area, &track.area, part);
            let near = |at: &usize| missed.seen[*at].area.iou(&place);
            let best = (0..missed.seen.len()).max_by(|a, b| near(a).total_cmp(&near(b)));
            // Whoever else stands there would be taken for this one.
            let taken = |area: &Area| {
                missed.tracks.iter().any(|other| {
                    other.id != track.id && other.state == State::Confirmed && other.area.iou(area) > GAP_IOU_MIN
                })
            };
            if let Some(at) = best.filter(|at| near(at) >= GAP_IOU_MIN && !taken(&missed.seen[*at].area)) {
                let features = missed.features_of(at).to_vec();
                mined.push(Mined { track: track.id, person: true, features });
            }
        }
    }

    /// Somebody was seen for the first time; perhaps nobody.
    fn suspect(&mut self, frame: &Frame, track: &Track, at: usize) {
        let near = |earlier: &Frame| earlier.seen.iter().any(|seen| is_near(&track.area, &seen.area, seen.score));
        let early = self.frames.iter().filter(|earlier| earlier.number + QUIET_FRAMES >= frame.number);
        let (mut known, mut busy) = (0, false);
        early.for_each(|earlier| (known, busy) = (known + 1, busy || near(earlier)));
        if known == QUIET_FRAMES && !busy && self.flickers.len() < FLICKERS_MAX {
            let (number, area, features) = (frame.number, track.area, frame.features_of(at).to_vec());
            self.flickers.push(Flicker { number, taken_ms: frame.taken_ms, track: track.id, area, features });
        }
    }

    /// Drops flickers that somebody is near to, and tells of those that nobody was near to for long enough.
    fn settle(&mut self, frame: &Frame, mined: &mut Vec<Mined>) {
        self.flickers.retain_mut(|flicker| {
            if flicker.number == frame.number {
                return true;
            }
            let near = frame.seen.iter().any(|seen| is_near(&flicker.area, &seen.area, seen.score))
                || frame.tracks.iter().any(|track| is_near(&flicker.area, &track.area, 1.0));
            if near || frame.taken_ms.saturating_sub(flicker.taken_ms) > QUIET_MS_MAX {
                return false;
            }
            if frame.number < flicker.number + QUIET_FRAMES {
                return true;
            }
            let features = std::mem::take(&mut flicker.features);
            mined.push(Mined { track: flicker.track, person: false, features });
            false
        });
    }
}

fn is_near(area: &Area, other: &Area, score: f32) -> bool {
    let (iou_min, score_min) = NEAR;
    score >= score_min && area.iou(other) >= iou_min
}

/// The place on the way from one to the other.
fn between(from: &Area, to: &Area, part: f32) -> Area {
    let mid = |a: f32, b: f32| a + (b - a) * part;
    Area { x1: mid(from.x1, to.x1), y1: mid(from.y1, to.y1), x2: mid(from.x2, to.x2), y2: mid(from.y2, to.y2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(x: f32) -> Area {
        Area { x1: x, y1: 0.0, x2: x + 20.0, y2: 60.0 }
    }

    fn track(id: u64, x: f32, score: f32, state: State, hits: u32) -> Track {
        Track { id, area: area(x), score, state, hits, start_ms: 0, last_seen_ms: 0 }
    }

    /// A frame with these candidates, each judged by its place and the frame's number.
    fn frame(number: u64, seen: &[(f32, f32)], tracks: &[Track]) -> Frame {
        Frame {
            number,
            taken_ms: number * 200,
            seen: seen.iter().map(|(x, score)| Seen { area: area(*x), score: *score }).collect(),
            features: seen.iter().flat_map(|(x, _)| [*x, number as f32]).collect(),
            tracks: tracks.to_vec(),
        }
    }

    /// What these frames tell.
    fn mined(frames: Vec<Frame>) -> Vec<(u64, bool, Vec<f32>)> {
        let (mut miner, mut mined, mut ended) = (Miner::default(), Vec::new(), Vec::new());
        frames.into_iter().for_each(|frame| miner.look(frame, &mut mined, &mut ended));
        mined.into_iter().map(|Mined { track, person, features }| (track, person, features)).collect()
    }

    fn seen(number: u64, x: f32) -> Frame {
        frame(number, &[(x, 0.9)], &[track(1, x, 0.9, State::Confirmed, 9)])
    }

    #[test]
    fn who_was_missed_between_two_sure_looks_was_there() {
        let missed = |score: f32, x: f32| frame(2, &[(x, score), (300.0, 0.2)], &[track(1, 11.0, 0.0, State::Lost, 9)]);
        let at = |x: f32| vec![(1, true, vec![x, 2.0])];
        assert_eq!(mined(vec![seen(1, 10.0), missed(0.1, 12.0), seen(3, 14.0)]), at(12.0));
        // Found, but hardly.
        let hardly = frame(2, &[(12.0, 0.31)], &[track(1, 12.0, 0.31, State::Confirmed, 9)]);
        assert_eq!(mined(vec![seen(1, 10.0), hardly, seen(3, 14.0)]), at(12.0));
        // Nothing is where it should be; or who is there is another.
        assert_eq!(mined(vec![seen(1, 10.0), missed(0.1, 80.0), seen(3, 14.0)]), vec![]);
        let other = track(2, 12.0, 0.9, State::Confirmed, 5);
        let taken = frame(2, &[(12.0, 0.9)], &[track(1, 11.0, 0.0, State::Lost, 9), other]);
        let back = frame(3, &[(14.0, 0.9)], &[track(1, 14.0, 0.9, State::Confirmed, 9)]);
        assert_eq!(mined(vec![seen(1, 10.0), taken, back]), vec![]);
        // A frame is missing, or it took too long.
        assert_eq!(mined(vec![seen(1, 10.0), frame(3, &[(12.0, 0.1)], &[]), seen(4, 14.0)]), vec![]);
        let mut long: Vec<Frame> = (2..8).map(|n| Frame { number: n, ..missed(0.1, 10.0) }).collect();
        long.insert(0, seen(1, 10.0));
        long.push(seen(8, 10.0));
        assert_eq!(mined(long), vec![]);
    }

    #[test]
    fn what_was_seen_once_with_nothing_near_was_nobody() {
        let quiet = |number| frame(number, &[(300.0, 0.1)], &[]);
        let once = |score| frame(5, &[(40.0, score)], &[track(3, 40.0, score, State::Tentative, 1)]);
        let run = |early: Frame, late: Frame| {
            let mut frames: Vec<Frame> = (1..=3).map(quiet).collect();
            frames.extend([early, once(0.6), quiet(6), quiet(7), quiet(8), late]);
            mined(frames)
        };
        assert_eq!(run(quiet(4), quiet(9)), vec![(3, false, vec![40.0, 5.0])]);
        // Somebody is near, before or after, though hardly seen; or is followed there.
        assert_eq!(run(frame(4, &[(44.0, 0.25)], &[]), quiet(9)), vec![]);
        assert_eq!(run(quiet(4), frame(9, &[(36.0, 0.25)], &[])), vec![]);
        assert_eq!(run(quiet(4), frame(9, &[], &[track(8, 36.0, 0.0, State::Lost, 9)])), vec![]);
        // Frames are rare; but for how long the gate was closed before does not matter.
        let slow = |from: u64, frame: Frame| match frame.number > from {
            true => Frame { taken_ms: frame.taken_ms + 300 * (frame.number - from), ..frame },
            false => frame,
        };
        let frames =
            || [quiet(1), quiet(2), quiet(3), quiet(4), once(0.6), quiet(6), quiet(7), quiet(8), quiet(9)].into_iter();
        assert_eq!(mined(frames().map(|frame| slow(5, frame)).collect()), vec![]);
        let closed =
            |frame: Frame| Frame { taken_ms: frame.taken_ms + if frame.number < 5 { 0 } else { 9_000 }, ..frame };
        assert_eq!(mined(frames().map(closed).collect()), vec![(3, false, vec![40.0, 5.0])]);
        // It is not known what was before.
        assert_eq!(mined(vec![quiet(4), once(0.6), quiet(6), quiet(7), quiet(8), quiet(9)]), vec![]);
        // It stayed.
        let stays = frame(6, &[(40.0, 0.6)], &[track(3, 40.0, 0.6, State::Tentative, 2)]);
        let frames = vec![quiet(1), quiet(2), quiet(3), quiet(4), once(0.6), stays, quiet(7), quiet(8), quiet(9)];
        assert_eq!(mined(frames), vec![]);
    }

    #[test]
    fn of_whoever_is_followed_the_surest_look_comes_first_and_it_ends_with_the_track() {
        let (mut miner, mut mined, mut ended) = (Miner::default(), Vec::new(), Vec::new());
        for (number, score) in [(1, 0.6), (2, 0.9), (3, 0.7), (4, 0.8)] {
            let who = track(7, 10.0, score, State::Confirmed, 5);
            miner.look(frame(number, &[(10.0, score)], &[who]), &mut mined, &mut ended);
        }
        assert_eq!(miner.tracks().collect::<Vec<_>>(), [7]);
        let looks = |looks: &Looks| looks.clone().features().iter().map(|look| look[1]).collect::<Vec<_>>();
        assert_eq!(looks(miner.looks(7).unwrap()), [2.0, 4.0, 1.0]);
        miner.look(frame(5, &[], &[]), &mut mined, &mut ended);
        assert_eq!(ended.len(), 1);
        assert_eq!((ended[0].0, looks(&ended[0].1)), (7, vec![2.0, 4.0, 1.0]));
        assert!(miner.looks(7).is_none());
    }
}
