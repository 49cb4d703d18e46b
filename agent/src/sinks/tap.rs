//! Where sinks get their pictures from the frame path: a frame is taken over when the path is done with it, at most as
//! often as anybody wants one.
//!
//! It runs on the frame path: it copies no pixel (the frame's buffer is changed for an older one), waits for nobody, and
//! where nobody wants a picture it reads two numbers. What it takes has been through the privacy masks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use picket_shared::event::{Event, EventKind};
use picket_shared::ids::EventId;

use super::asked::Asks;
use super::pace::Pace;
use super::slot::Slot;
use crate::detect::Thresholds;
use crate::frame::{Area, Detection, Frame};
use crate::track::{State, Track};

/// From this score on what may be a person is hidden, though it is none for anybody else: ByteTrack's lower threshold.
const FAINT_SCORE_MIN: f32 = 0.1;
/// News of events that wait with one picture. A picture thread that is so far behind has lost more than these.
const NEWS_MAX: usize = 256;

/// A frame with what was found in it.
#[derive(Debug, Default)]
pub(super) struct Picture {
    /// The masked frame.
    pub(super) frame: Option<Frame>,
    /// Who was seen in it.
    pub(super) marks: Vec<Mark>,
    /// What was told of events, also in frames before this one that were not taken.
    pub(super) news: Vec<News>,
    /// Nothing moved: it looks like the picture before.
    pub(super) still: bool,
    /// Where people are, or may be: all tracks, seen or only expected, and all detections, faint ones too. Of a still picture,
    /// those of the last one that the detector looked at.
    pub(super) people: Vec<Area>,
}

/// One person in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mark {
    /// The track's number.
    pub(super) track: u64,
    /// Where.
    pub(super) area: Area,
    /// How sure the detector is.
    pub(super) score: f32,
}

/// What was told of one event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct News {
    pub(super) id: EventId,
    pub(super) ended: bool,
    pub(super) score: f32,
}

/// What the sinks of one camera want.
#[derive(Debug)]
pub(super) struct Wish {
    /// The interval of those that always want pictures; [`u64::MAX`] where there are none.
    pub(super) always_ms: u64,
    /// The interval of those that look now and then.
    pub(super) live_ms: u64,
    /// How many look.
    pub(super) viewers: AtomicUsize,
    /// Pictures that were taken over.
    pub(super) taken: AtomicU64,
    /// Events are worth a picture of their own.
    pub(super) events: bool,
    /// Who asked for a picture as it is now.
    pub(super) asks: Asks,
}

impl Wish {
    fn interval_ms(&self) -> u64 {
        let looked_at = self.viewers.load(Ordering::Relaxed) > 0 || self.asks.any();
        let live_ms = if looked_at { self.live_ms } else { u64::MAX };
        self.always_ms.min(live_ms)
    }
}

/// The frame path's end of one camera's sinks.
pub struct Tap(Option<Open>);

struct Open {
    slot: Slot<Picture>,
    wish: Arc<Wish>,
    pace: Pace,
    /// Boxes of this frame's detections; of the last frame that the detector looked at.
    detected: Vec<Area>,
    people: Vec<Area>,
}

impl Tap {
    /// For a camera without sinks.
    pub fn closed() -> Tap {
        Tap(None)
    }

    pub(super) fn open(slot: Slot<Picture>, wish: Arc<Wish>) -> Tap {
        Tap(Some(Open { slot, wish, pace: Pace::default(), detected: Vec::new(), people: Vec::new() }))
    }

    /// What the detector is to look with: where pictures are taken, people are hidden whom it is hardly sure of.
    pub fn lowered(&self, thresholds: Thresholds) -> Thresholds {
        let score_min = if self.0.is_some() { thresholds.score_min.min(FAINT_SCORE_MIN) } else { thresholds.score_min };
        Thresholds { score_min, ..thresholds }
    }

    /// Takes in what was found in the frame that is looked at next, the surest first, and leaves those of at least this score.
    pub fn sift(&mut self, detections: &mut Vec<Detection>, score_min: f32) {
        if let Some(open) = &mut self.0 {
            open.detected.clear();
            open.detected.extend(detections.iter().map(|detection| detection.area));
            detections.truncate(detections.partition_point(|detection| detection.score >= score_min));
        }
    }

    /// Looks at a frame that the path is done with: the tracks after it (none where the gate kept it back), and what was
    /// told because of it. Where a sink wants it, `frame` is another one afterwards, to be recycled like this one.
    pub fn look(&mut self, frame: &mut Frame, tracks: Option<&[Track]>, events: &[Event]) {
        let Some(Open { slot, wish, pace, detected, people }) = &mut self.0 else { return };
        if let Some(tracks) = tracks {
            people.clear();
            people.extend(tracks.iter().map(|track| track.area).chain(detected.drain(..)));
        }
        let urgent = wish.events && !events.is_empty();
        let interval_ms = wish.interval_ms();
        if !urgent && (interval_ms == u64::MAX || !pace.lets(frame.taken_ms, interval_ms)) {
            return;
        }
        wish.taken.fetch_add(1, Ordering::Relaxed);
        slot.offer(urgent, |picture| {
            let older = picture.frame.take();
            picture.frame = Some(std::mem::replace(frame, older.unwrap_or_default()));
            picture.still = tracks.is_none();
            picture.people.clone_from(people);
            picture.marks.clear();
            let seen = tracks.unwrap_or_default().iter().filter(|track| track.state == State::Confirmed);
            picture.marks.extend(seen.map(|track| Mark { track: track.id, area: track.area, score: track.score }));
            let room = NEWS_MAX.saturating_sub(picture.news.len());
            let news =
                |event: &Event| News { id: event.id.clone(), ended: event.kind == EventKind::End, score: event.score };
            picture.news.extend(events.iter().filter(|_| wish.events).take(room).map(news));
        });
    }
}

/// The camera has gone.
impl Drop for Tap {
    fn drop(&mut self) {
        if let Some(open) = &self.0 {
            open.slot.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn frame(taken_ms: u64) -> Frame {
        Frame { taken_ms, width: 1, height: 1, rgb: vec![taken_ms as u8; 3] }
    }

    fn wish(always_ms: u64, viewers: usize) -> Arc<Wish> {
        let (viewers, taken) = (AtomicUsize::new(viewers), AtomicU64::new(0));
        Arc::new(Wish { always_ms, live_ms: 10, viewers, taken, events: true, asks: Asks::default() })
    }

    #[test]
    fn frames_are_taken_over_only_as_often_as_somebody_wants_them() {
        for (always_ms, viewers, expect) in [(u64::MAX, 0, 0), (u64::MAX, 1, 10), (50, 0, 2), (50, 3, 10)] {
            let wish = wish(always_ms, viewers);
            let mut tap = Tap::open(Slot::default(), Arc::clone(&wish));
            (0..100).for_each(|taken_ms| tap.look(&mut frame(taken_ms), None, &[]));
            assert_eq!(wish.taken.load(Ordering::Relaxed), expect, "{always_ms} {viewers}");
        }
    }

    #[test]
    fn a_frame_is_changed_for_an_older_one_and_never_copied() {
        let slot = Slot::default();
        let mut tap = Tap::open(slot.clone(), wish(1, 0));
        let mut given = frame(1);
        let pixels = given.rgb.as_ptr();
        tap.look(&mut given, None, &[]);
        assert!(given.rgb.is_empty(), "there is no older one yet");
        let picture = slot.take(Duration::ZERO).unwrap();
        assert_eq!(picture.frame.as_ref().unwrap().rgb.as_ptr(), pixels);
        slot.recycle(picture);
        let mut given = frame(9);
        tap.look(&mut given, None, &[]);
        assert_eq!(given.rgb.as_ptr(), pixels, "the older one goes back to the source");
    }

    #[test]
    fn whoever_may_be_a_person_is_known_and_only_those_who_surely_are_go_on() {
        let slot = Slot::default();
        let mut tap = Tap::open(slot.clone(), wish(1, 0));
        let thresholds = Thresholds { score_min: 0.3, nms_iou: 0.5 };
        assert_eq!(tap.lowered(thresholds).score_min, FAINT_SCORE_MIN);
        assert_eq!(Tap::closed().lowered(thresholds), thresholds);
        let area = |x1: f32| Area { x1, y1: 0.0, x2: x1 + 1.0, y2: 1.0 };
        let mut found: Vec<_> =
            [0.9, 0.3, 0.2, 0.1].into_iter().map(|score| Detection { area: area(score), score }).collect();
        tap.sift(&mut found, 0.3);
        assert_eq!(found.len(), 2);
        let lost =
            Track { id: 1, area: area(9.0), score: 0.0, state: State::Lost, hits: 5, start_ms: 0, last_seen_ms: 0 };
        tap.look(&mut frame(1), Some(&[lost]), &[]);
        let people = [9.0, 0.9, 0.3, 0.2, 0.1].map(area);
        let picture = slot.take(Duration::ZERO).unwrap();
        assert!(picture.people == people && picture.marks.is_empty(), "{picture:?}");
        // Nothing moved since: they are where they were.
        tap.look(&mut frame(9), None, &[]);
        let picture = slot.take(Duration::ZERO).unwrap();
        assert!(picture.people == people && picture.still);
    }

    #[test]
    fn the_end_of_the_camera_is_the_end_of_the_pictures() {
        let slot = Slot::<Picture>::default();
        drop(Tap::open(slot.clone(), wish(1, 0)));
        assert!(slot.is_closed());
    }
}
