//! Where a frame can be had from the frame path together with what was found in it: a window with room for one, that is open
//! only while somebody looks.
//!
//! The frame path waits for nobody: where the window is shut, or the last frame was not taken yet, it reads two numbers and
//! goes on. What it copies has been through the privacy masks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::frame::{Detection, Frame};

/// A frame, and what was found in it.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// The masked frame.
    pub frame: Frame,
    /// The detections in it, the surest first.
    pub found: Vec<Detection>,
    /// Processor time of the network.
    pub run_cpu: Duration,
}

/// One window. Clones are the same.
#[derive(Clone, Default)]
pub struct Peek(Arc<Shared>);

#[derive(Default)]
struct Shared {
    open: AtomicBool,
    there: Mutex<Option<Look>>,
    arrived: Condvar,
}

impl Peek {
    /// Shows a frame where somebody looks and has taken the one before.
    pub fn show(&self, frame: &Frame, found: &[Detection], run_cpu: Duration) {
        if !self.0.open.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut there) = self.0.there.try_lock() else { return };
        if there.is_none() {
            *there = Some(Look { frame: frame.clone(), found: found.to_vec(), run_cpu });
            drop(there);
            self.0.arrived.notify_one();
        }
    }

    /// Whether somebody waits for a frame.
    pub fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Relaxed)
    }

    /// The next frame that is shown from now on, if one is shown in time. The window is open meanwhile, and shut afterwards.
    pub fn take(&self, within: Duration) -> Option<Look> {
        let mut there = self.0.there.lock().unwrap_or_else(PoisonError::into_inner);
        *there = None;
        self.0.open.store(true, Ordering::Relaxed);
        let waited = self.0.arrived.wait_timeout_while(there, within, |there| there.is_none());
        self.0.open.store(false, Ordering::Relaxed);
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }
}

/// The windows of the frame path.
#[derive(Clone, Default)]
pub struct Peeks {
    /// For a candidate that looks at the same frames.
    pub trial: Peek,
    /// For frames that are hard to judge.
    pub hard: Peek,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(taken_ms: u64) -> Frame {
        Frame { taken_ms, width: 1, height: 1, rgb: vec![0; 3] }
    }

    #[test]
    fn who_looks_gets_the_next_frame_and_nothing_is_kept_for_who_does_not() {
        let peek = Peek::default();
        peek.show(&frame(1), &[], Duration::ZERO);
        assert!(peek.take(Duration::ZERO).is_none(), "it was shown before anybody looked");
        let other = peek.clone();
        let looking = std::thread::spawn(move || other.take(Duration::from_secs(20)));
        while !peek.is_open() {
            std::thread::yield_now();
        }
        // The window is opened under the lock that the one who waits gives up.
        while peek.is_open() {
            peek.show(&frame(2), &[], Duration::ZERO);
        }
        assert_eq!(looking.join().unwrap().unwrap().frame.taken_ms, 2);
        peek.show(&frame(3), &[], Duration::ZERO);
        assert!(!peek.is_open() && peek.take(Duration::ZERO).is_none());
    }
}
