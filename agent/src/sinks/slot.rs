//! Holds the newest thing of one kind that nobody has taken yet: how pictures go from a thread that must not wait to one
//! that may be slow.
//!
//! What is not taken in time is replaced, and the loss is counted. Things are filled in place and their buffers go round,
//! so that nothing is allocated while it runs. Whoever offers never waits for whoever takes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Why nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Empty {
    /// Nothing came in time; more may come.
    TimedOut,
    /// Nothing will ever come.
    Closed,
}

/// One slot. Clones are the same one.
pub(super) struct Slot<T>(Arc<Shared<T>>);

struct Shared<T> {
    inside: Mutex<Inside<T>>,
    arrived: Condvar,
}

struct Inside<T> {
    newest: Option<T>,
    /// The newest is not to be replaced by what is not urgent.
    urgent: bool,
    spare: Option<T>,
    dropped: u64,
    closed: bool,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Slot(Arc::clone(&self.0))
    }
}

impl<T: Default> Default for Slot<T> {
    fn default() -> Self {
        let inside = Inside { newest: None, urgent: false, spare: None, dropped: 0, closed: false };
        Slot(Arc::new(Shared { inside: Mutex::new(inside), arrived: Condvar::new() }))
    }
}

impl<T: Default> Slot<T> {
    /// Offers what `fill` makes of an older one, whose content is whatever it was last filled with, or of one that was not
    /// taken. Urgent: it stays until it is taken or something urgent follows. `fill` runs under the lock: it moves, and
    /// copies little.
    pub(super) fn offer(&self, urgent: bool, fill: impl FnOnce(&mut T)) {
        let mut inside = self.lock();
        if inside.closed || inside.newest.is_some() {
            inside.dropped += 1;
            if inside.closed || inside.urgent && !urgent {
                return;
            }
        }
        let older = inside.newest.take().or_else(|| inside.spare.take());
        let mut newest = older.unwrap_or_default();
        fill(&mut newest);
        (inside.newest, inside.urgent) = (Some(newest), urgent);
        drop(inside);
        self.0.arrived.notify_one();
    }

    /// Takes the newest; waits for it up to `timeout`. What was offered before the slot was closed is still given.
    pub(super) fn take(&self, timeout: Duration) -> Result<T, Empty> {
        let deadline = Instant::now() + timeout;
        let mut inside = self.lock();
        loop {
            if let Some(newest) = inside.newest.take() {
                return Ok(newest);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if inside.closed || left.is_zero() {
                return Err(if inside.closed { Empty::Closed } else { Empty::TimedOut });
            }
            inside = self.0.arrived.wait_timeout(inside, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives the buffers of what was taken back.
    pub(super) fn recycle(&self, taken: T) {
        self.lock().spare = Some(taken);
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.0.arrived.notify_all();
    }

    /// Whether nothing more comes, though something may still be there to take.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// How many were replaced, or came after the end.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Nothing that is done under the lock can leave it half changed, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Inside<T>> {
        self.0.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn the_newest_is_taken_and_what_it_replaced_is_counted() {
        let slot = Slot::<u32>::default();
        assert_eq!(slot.take(NOW), Err(Empty::TimedOut));
        for number in 1..=3 {
            slot.offer(false, |old| *old = number);
        }
        assert_eq!((slot.take(NOW), slot.dropped()), (Ok(3), 2));
        assert_eq!(slot.take(NOW), Err(Empty::TimedOut));
    }

    #[test]
    fn what_is_urgent_gives_way_only_to_its_like_which_can_see_it() {
        let slot = Slot::<Vec<u32>>::default();
        slot.offer(true, |all| all.push(1));
        slot.offer(false, |all| all.push(2));
        slot.offer(true, |all| all.push(3));
        slot.offer(false, |all| all.push(4));
        assert_eq!((slot.take(NOW), slot.dropped()), (Ok(vec![1, 3]), 3));
        slot.offer(false, |all| all.push(5));
        assert_eq!(slot.take(NOW), Ok(vec![5]));
    }

    #[test]
    fn buffers_go_round() {
        let slot = Slot::<Vec<u32>>::default();
        slot.offer(false, |buffer| buffer.reserve(1000));
        let taken = slot.take(NOW).unwrap();
        let at = taken.as_ptr();
        slot.recycle(taken);
        slot.offer(false, |buffer| assert_eq!(buffer.as_ptr(), at));
    }

    #[test]
    fn the_last_one_is_taken_after_the_end_and_whoever_waits_is_woken() {
        let slot = Slot::<u32>::default();
        let waiting = std::thread::spawn({
            let slot = slot.clone();
            move || (slot.take(Duration::from_secs(60)), slot.take(Duration::from_secs(60)))
        });
        slot.offer(false, |old| *old = 7);
        slot.close();
        assert_eq!(waiting.join().unwrap(), (Ok(7), Err(Empty::Closed)));
        slot.offer(false, |_| panic!("nobody would see it"));
        assert_eq!(slot.dropped(), 1);
    }
}
