//! Changes the workers' detectors for others while frames pass: each worker takes its new one between two frames, and none
//! waits for another. What that costs a worker is measured, and is a matter of microseconds: the new ones are loaded before,
//! and the old ones end elsewhere.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::detect::Detector;

/// Detectors to be changed to: one for each worker.
pub struct Swap {
    /// The new ones, loaded.
    pub detectors: Vec<Detector>,
    /// Hears when all workers have theirs. It is dropped unheard where the frame path ends before.
    pub done: Sender<Swapped>,
    /// Hears, at the first frame that a new one has looked at, how long that is after the last one before: of any worker and any
    /// camera, and so with the time that a camera takes to give the next frame.
    pub gap: Sender<Duration>,
}

/// All workers have changed.
pub struct Swapped {
    /// The old detectors.
    pub old: Vec<Detector>,
    /// What the change took the worker that it took longest, from the end of a frame until it was ready for the next one.
    pub took: Duration,
}

/// Where workers look between two frames.
#[derive(Default)]
pub(super) struct Exchange {
    /// Counts the changes, so that a worker sees with one number whether there is one for it.
    count: AtomicU64,
    under_way: Mutex<Option<UnderWay>>,
    /// When a network looked at a frame last, in microseconds of the frame path's clock; 0 is never.
    looked_us: AtomicU64,
    /// Whether somebody waits for the first frame after a change, and who.
    is_awaited: AtomicBool,
    awaits: Mutex<Option<Sender<Duration>>>,
}

struct UnderWay {
    new: Vec<Option<Detector>>,
    old: Vec<Detector>,
    took: Duration,
    done: Sender<Swapped>,
}

impl Exchange {
    /// Begins a change. One that is under way ends: its sender is dropped.
    pub(super) fn begin(&self, swap: Swap) {
        let new = swap.detectors.into_iter().map(Some).collect();
        *lock(&self.under_way) = Some(UnderWay { new, old: Vec::new(), took: Duration::ZERO, done: swap.done });
        *lock(&self.awaits) = Some(swap.gap);
        self.is_awaited.store(true, Ordering::Release);
        self.count.fetch_add(1, Ordering::Release);
    }

    /// Changes a worker's detector where there is a new one for it. `seen` is how many changes it has seen.
    pub(super) fn take(&self, worker: usize, seen: &mut u64, detector: &mut Detector) {
        let count = self.count.load(Ordering::Acquire);
        if count == *seen {
            return;
        }
        let began = Instant::now();
        *seen = count;
        let mut under_way = lock(&self.under_way);
        let Some(change) = under_way.as_mut() else { return };
        let Some(new) = change.new.get_mut(worker).and_then(Option::take) else { return };
        change.old.push(std::mem::replace(detector, new));
        change.took = change.took.max(began.elapsed());
        if change.new.iter().all(Option::is_none)
            && let Some(UnderWay { old, took, done, .. }) = under_way.take()
        {
            // Who does not wait any more has no use for them.
            let _ = done.send(Swapped { old, took });
        }
    }

    /// A worker that has seen so many changes has looked at a frame, at this time of the frame path's clock.
    pub(super) fn looked(&self, seen: u64, now: Duration) {
        let now_us = now.as_micros() as u64;
        let before_us = self.looked_us.swap(now_us, Ordering::Relaxed);
        if self.is_awaited.load(Ordering::Acquire) && seen == self.count.load(Ordering::Acquire) {
            self.is_awaited.store(false, Ordering::Release);
            // Where no frame was looked at before there is no gap.
            if let Some(awaits) = lock(&self.awaits).take().filter(|_| before_us > 0) {
                let _ = awaits.send(Duration::from_micros(now_us.saturating_sub(before_us)));
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
