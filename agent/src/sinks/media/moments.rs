//! Which pictures of an event are worth keeping: its best one, and a short clip from a little before it to its end.
//!
//! Pure. Pictures wait, encoded, in a ring that is bounded in time and bytes; events that happen at once share them. Times
//! are milliseconds of a clock that never jumps.

use std::collections::VecDeque;
use std::sync::Arc;

use picket_shared::ids::EventId;

use crate::sinks::Shot;

/// Events of one camera that pictures are kept of at once.
const OPEN_MAX: usize = 128;
/// A picture is better than the best one by this, or it is not worth writing: ten of an event at most.
const SCORE_STEP: f32 = 0.05;

/// Bounds of what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// How long before an event's first word its clip begins.
    pub(crate) before_ms: u64,
    /// The longest clip.
    pub(crate) clip_ms_max: u64,
    /// The bytes that may wait.
    pub(crate) ring_bytes_max: usize,
}

/// What is to be kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Keep {
    /// The best picture of this event so far.
    Best(EventId, Arc<Shot>),
    /// The clip of this event, oldest picture first; all of one size.
    Clip(EventId, Vec<Arc<Shot>>),
}

/// What waits of one camera.
pub(crate) struct Moments {
    bounds: Bounds,
    ring: VecDeque<(u64, Arc<Shot>)>,
    ring_bytes: usize,
    open: Vec<Open>,
    cut: u64,
}

struct Open {
    id: EventId,
    /// Where its clip begins.
    from_ms: u64,
    /// The score of its best picture.
    best: Option<f32>,
    clipped: bool,
}

impl Moments {
    /// Nothing waits yet.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Moments { bounds, ring: VecDeque::new(), ring_bytes: 0, open: Vec::new(), cut: 0 }
    }

    /// Whether pictures of events are wanted now.
    pub(crate) fn anything_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// An event is told of. Its end makes its clip.
    pub(crate) fn hear(&mut self, now_ms: u64, id: &EventId, ended: bool, out: &mut Vec<Keep>) {
        let known = self.open.iter().position(|open| open.id == *id);
        match (known, ended) {
            (None, false) if self.open.len() < OPEN_MAX => {
                let from_ms = now_ms.saturating_sub(self.bounds.before_ms);
                self.open.push(Open { id: id.clone(), from_ms, best: None, clipped: false });
            }
            (None, false) => self.cut += 1,
            (Some(index), true) => {
                let open = self.open.swap_remove(index);
                if !open.clipped {
                    self.clip(&open, out);
                }
            }
            _ => {}
        }
    }

    /// Whether a picture with these events' people in it, each with its score, would be the best of one of them.
    pub(crate) fn is_better(&self, seen: &[(EventId, f32)]) -> bool {
        self.open.iter().any(|open| open.better(seen).is_some())
    }

    /// Takes a picture in.
    pub(crate) fn take(&mut self, now_ms: u64, shot: &Arc<Shot>, seen: &[(EventId, f32)], out: &mut Vec<Keep>) {
        for open in &mut self.open {
            if let Some(score) = open.better(seen) {
                open.best = Some(score);
                out.push(Keep::Best(open.id.clone(), Arc::clone(shot)));
            }
        }
        self.ring_bytes += shot.jpeg.len();
        self.ring.push_back((now_ms, Arc::clone(shot)));
        let mut open = std::mem::take(&mut self.open);
        for open in open.iter_mut().filter(|open| !open.clipped) {
            if now_ms.saturating_sub(open.from_ms) >= self.bounds.clip_ms_max {
                open.clipped = true;
                self.clip(open, out);
            }
        }
        self.open = open;
        self.forget(now_ms);
    }

    /// The camera has gone: every clip ends.
    pub(crate) fn finish(&mut self, out: &mut Vec<Keep>) {
        for open in std::mem::take(&mut self.open).iter().filter(|open| !open.clipped) {
            self.clip(open, out);
        }
    }

    /// Pictures and events that were given up because too much waited.
    pub(crate) fn cut(&self) -> u64 {
        self.cut
    }

    fn clip(&self, open: &Open, out: &mut Vec<Keep>) {
        let until_ms = open.from_ms.saturating_add(self.bounds.clip_ms_max);
        let within = self.ring.iter().filter(|(at_ms, _)| (open.from_ms..=until_ms).contains(at_ms));
        let mut shots: Vec<Arc<Shot>> = within.map(|(_, shot)| Arc::clone(shot)).collect();
        // A camera that changed its size meanwhile: the newer part.
        if let Some(size) = shots.last().map(|shot| shot.size) {
            let other = shots.iter().rposition(|shot| shot.size != size);
            shots.drain(..other.map_or(0, |index| index + 1));
        }
        if !shots.is_empty() {
            out.push(Keep::Clip(open.id.clone(), shots));
        }
    }

    fn forget(&mut self, now_ms: u64) {
        let waiting = self.open.iter().filter(|open| !open.clipped).map(|open| open.from_ms).min();
        let before_ms = now_ms.saturating_sub(self.bounds.before_ms);
        let oldest_ms = waiting.map_or(before_ms, |from_ms| from_ms.min(before_ms));
        while let Some((at_ms, shot)) = self.ring.front() {
            let over = self.ring_bytes > self.bounds.ring_bytes_max;
            if *at_ms >= oldest_ms && !over {
                return;
            }
            self.cut += u64::from(*at_ms >= oldest_ms);
            self.ring_bytes -= shot.jpeg.len();
            self.ring.pop_front();
        }
    }
}

impl Open {
    fn better(&self, seen: &[(EventId, f32)]) -> Option<f32> {
        let (_, score) = seen.iter().find(|(id, _)| *id == self.id)?;
        self.best.is_none_or(|best| *score >= best + SCORE_STEP).then_some(*score)
    }
}

/// The pictures of a clip at a steady rate, by their places: each moment shows the newest there was.
pub(crate) fn steady(taken_ms: &[u64], interval_ms: u64) -> Vec<usize> {
    let Some((first, last)) = taken_ms.first().zip(taken_ms.last()) else { return Vec::new() };
    let mut at = 0;
    (*first..=*last)
        .step_by(interval_ms.max(1) as usize)
        .map(|now_ms| {
            while taken_ms.get(at + 1).is_some_and(|next| *next <= now_ms) {
                at += 1;
            }
            at
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds { before_ms: 300, clip_ms_max: 1_000, ring_bytes_max: 1_000 };

    fn id(number: u64) -> EventId {
        EventId::new(format!("n-1-{number}")).unwrap()
    }

    fn shot(taken_ms: u64) -> Arc<Shot> {
        Arc::new(Shot { at_ms: taken_ms, size: (64, 48), jpeg: vec![0; 10].into() })
    }

    /// What is kept of a script: one picture each 100 ms, with the scores of event 1 in them, and its life.
    fn kept(scores: &[f32], begins: usize, ends: usize) -> Vec<String> {
        let (mut moments, mut out) = (Moments::new(BOUNDS), Vec::new());
        for (n, score) in scores.iter().enumerate() {
            let now_ms = 10_000 + n as u64 * 100;
            if n == begins || n == ends {
                moments.hear(now_ms, &id(1), n == ends, &mut out);
            }
            let seen = if *score > 0.0 { vec![(id(1), *score)] } else { vec![] };
            moments.take(now_ms, &shot(n as u64), &seen, &mut out);
        }
        moments.finish(&mut out);
        let shown = |keep: &Keep| match keep {
            Keep::Best(id, shot) => format!("best {id} {}", shot.at_ms),
            Keep::Clip(id, shots) => {
                format!("clip {id} {}-{}", shots[0].at_ms, shots[shots.len() - 1].at_ms)
            }
        };
        out.iter().map(shown).collect()
    }

    #[test]
    fn the_best_picture_is_kept_as_the_score_rises_and_the_clip_runs_from_before_to_the_end() {
        for (name, scores, begins, ends, expect) in [
            (
                "short",
                &[0.0, 0.0, 0.0, 0.0, 0.5, 0.52, 0.6, 0.4, 0.9, 0.0][..],
                4,
                9,
                &["best n-1-1 4", "best n-1-1 6", "best n-1-1 8", "clip n-1-1 1-8"][..],
            ),
            ("from the first picture on", &[0.7, 0.7, 0.7], 0, 2, &["best n-1-1 0", "clip n-1-1 0-1"]),
            ("the camera goes first", &[0.0, 0.7, 0.7], 1, 99, &["best n-1-1 1", "clip n-1-1 0-2"]),
            (
                "long: the clip ends, the best picture does not",
                &[&[0.5; 12][..], &[0.8, 0.8]].concat(),
                1,
                13,
                &["best n-1-1 1", "clip n-1-1 0-8", "best n-1-1 12"],
            ),
            ("never seen again", &[0.0, 0.0, 0.0], 0, 2, &["clip n-1-1 0-1"]),
        ] {
            assert_eq!(kept(scores, begins, ends), expect, "{name}");
        }
    }

    #[test]
    fn a_clip_is_of_one_size() {
        let (mut moments, mut out) = (Moments::new(BOUNDS), Vec::new());
        moments.hear(0, &id(1), false, &mut out);
        for n in 0..4 {
            let size = if n < 2 { (8, 8) } else { (16, 8) };
            moments.take(n, &Arc::new(Shot { at_ms: n, size, jpeg: vec![0].into() }), &[], &mut out);
        }
        moments.hear(9, &id(1), true, &mut out);
        let [Keep::Clip(_, shots)] = &out[..] else { panic!("{out:?}") };
        assert_eq!(shots.iter().map(|shot| shot.at_ms).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn a_steady_clip_repeats_a_picture_over_a_pause() {
        for (taken_ms, expect) in [
            (&[][..], &[][..]),
            (&[5], &[0]),
            (&[0, 100, 200], &[0, 1, 2]),
            (&[0, 30, 60, 100], &[0, 3]),
            (&[0, 350, 400], &[0, 0, 0, 0, 2]),
        ] {
            assert_eq!(steady(taken_ms, 100), expect, "{taken_ms:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_no_more_waits_than_may(
            script in prop::collection::vec((0u64..400, 0u64..200, any::<bool>(), 0.0f32..1.0), 0..300)
        ) {
            // Four pictures: fewer than come while an event is open.
            let bounds = Bounds { ring_bytes_max: 40, ..BOUNDS };
            let (mut moments, mut out, mut now_ms) = (Moments::new(bounds), Vec::new(), 0);
            for (later_ms, number, ended, score) in script {
                now_ms += later_ms;
                moments.hear(now_ms, &id(number), ended, &mut out);
                moments.take(now_ms, &shot(now_ms), &[(id(number), score)], &mut out);
                prop_assert!(moments.open.len() <= OPEN_MAX);
                prop_assert!(moments.ring_bytes <= bounds.ring_bytes_max);
                prop_assert_eq!(moments.ring_bytes, moments.ring.iter().map(|(_, shot)| shot.jpeg.len()).sum::<usize>());
                let oldest_ms = now_ms.saturating_sub(BOUNDS.clip_ms_max + BOUNDS.before_ms);
                prop_assert!(moments.ring.iter().all(|(at_ms, _)| *at_ms >= oldest_ms));
            }
            for keep in out {
                if let Keep::Clip(_, shots) = keep {
                    prop_assert!(shots[shots.len() - 1].at_ms - shots[0].at_ms <= BOUNDS.clip_ms_max);
                }
            }
        }
    }
}
