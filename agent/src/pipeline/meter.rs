//! Counters of one camera's frame path, read by others while it runs. It counts; it decides nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::observe::Tally;
use crate::{detect, track};

/// Counters of one camera's frame path, read by others while it runs.
#[derive(Debug, Default)]
pub struct Meter {
    counts: Mutex<Counts>,
    tally: Mutex<Tally>,
}

/// See [`picket_shared::status::CameraStats`] for the meanings.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Frames that the gate kept back.
    pub frames_gated: u64,
    /// Frames that were detected.
    pub frames_detected: u64,
    /// Frames that the detector refused.
    pub frames_refused: u64,
    /// Boxes found.
    pub detections: u64,
    /// Tracks begun and confirmed.
    pub tracks: u64,
    /// Confirmed tracks in the last frame.
    pub persons_now: u32,
    /// Time spent in `session.run`.
    pub inference: Duration,
    /// Time spent in judging what the network found, where anything is learned.
    pub rescore: Duration,
    /// Boxes of the model whose numbers cannot be, and candidates beyond the surest.
    pub outputs: detect::layout::Tally,
    /// What the tracker has counted.
    pub tracker: track::Counts,
    /// Times that the wall clock has jumped.
    pub clock_jumps: u64,
}

impl Meter {
    /// The counters now.
    pub fn read(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is counted of zones and lines now.
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What came and could not be used, by a constant word; what never happened is left out.
    pub fn bad_input(&self) -> BTreeMap<String, u64> {
        let (counts, tracks) = (self.read(), self.tally().tracks_refused);
        let track::Counts { tracks_refused, detections_refused, detections_over, .. } = counts.tracker;
        let all = [
            ("frame", counts.frames_refused),
            ("detection", counts.outputs.rejected + detections_refused),
            ("detection_over", counts.outputs.cut + detections_over),
            ("track", tracks),
            ("track_over", tracks_refused),
            ("clock_jump", counts.clock_jumps),
        ];
        all.into_iter().filter(|(_, count)| *count > 0).map(|(word, count)| (word.to_owned(), count)).collect()
    }

    /// Remembers a tally; it is copied only where it has changed.
    pub(super) fn note(&self, tally: &Tally) {
        let mut noted = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        if *noted != *tally {
            noted.clone_from(tally);
        }
    }

    pub(super) fn add(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_counted_under_its_own_word_and_what_never_happened_is_left_out() {
        let meter = Meter::default();
        assert!(meter.bad_input().is_empty());
        meter.add(|counts| {
            counts.frames_refused = 1;
            (counts.outputs.rejected, counts.tracker.detections_refused) = (2, 4);
            (counts.outputs.cut, counts.tracker.detections_over) = (8, 16);
            counts.tracker.tracks_refused = 32;
            counts.clock_jumps = 64;
        });
        meter.note(&Tally { tracks_refused: 128, ..Tally::default() });
        let expect = [
            ("clock_jump", 64),
            ("detection", 2 + 4),
            ("detection_over", 8 + 16),
            ("frame", 1),
            ("track", 128),
            ("track_over", 32),
        ];
        assert_eq!(meter.bad_input(), expect.map(|(word, count)| (word.to_owned(), count)).into());
    }
}
