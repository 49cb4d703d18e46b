//! Decides whether systemd's watchdog is fed: only while capture, the frame path and control all move.
//!
//! Control moves where it asks here. A camera that is gone is no reason to begin anew, and is told by the health: its thread
//! tries again for ever, and says when it will be heard of next. What no thread comes back from, a driver or a disk, is one
//! where every camera is lost to it; where others still watch, they go on. Nothing here knows a clock or systemd.

/// A camera's thread that waits, as it promised or longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    /// Frames come, or it is being tried again, or it waits for the frame path.
    Moves,
    /// It has not come back from where it waits.
    Hangs,
}

/// What moved the last time.
#[derive(Debug, Default)]
pub struct Watchdog {
    beats: Vec<u64>,
}

impl Watchdog {
    /// Whether to feed it now. `beats` has one count for each worker of the frame path, and each has moved since the last time
    /// that it was fed: one that stands still does not hide behind another. `captures` has the cameras that have not ended.
    pub fn is_fed(&mut self, beats: &[u64], captures: &[Capture]) -> bool {
        // Before the first look, all have moved.
        let moved = beats.iter().zip(&self.beats).all(|(now, before)| now != before);
        let lost = !captures.is_empty() && captures.iter().all(|capture| *capture == Capture::Hangs);
        let fed = moved && !lost;
        if fed {
            self.beats = beats.to_vec();
        }
        fed
    }
}

#[cfg(test)]
mod tests {
    use super::Capture::{Hangs, Moves};
    use super::*;

    #[test]
    fn it_is_fed_while_every_worker_and_some_camera_move() {
        for (before, now, captures, expect) in [
            (&[][..], &[0, 0][..], &[][..], true),
            (&[1, 1], &[2, 9], &[Moves, Moves], true),
            // A worker that stands still, alone or beside another.
            (&[1], &[1], &[Moves], false),
            (&[1, 1], &[2, 1], &[Moves], false),
            // Frames of no camera, because none is there or all have ended, are no fault.
            (&[1], &[2], &[], true),
            // One camera that hangs leaves the others watching; all of them are lost.
            (&[1], &[2], &[Hangs, Moves], true),
            (&[1], &[2], &[Hangs], false),
            (&[1], &[2], &[Hangs, Hangs], false),
        ] {
            let mut watchdog = Watchdog { beats: before.to_vec() };
            assert_eq!(watchdog.is_fed(now, captures), expect, "{before:?} {now:?} {captures:?}");
        }
    }

    #[test]
    fn a_worker_that_moved_once_is_not_fed_for_it_twice() {
        let mut watchdog = Watchdog::default();
        assert!(watchdog.is_fed(&[1, 1], &[]));
        assert!(!watchdog.is_fed(&[2, 1], &[]));
        assert!(!watchdog.is_fed(&[3, 1], &[]));
        assert!(watchdog.is_fed(&[3, 2], &[]));
    }
}
