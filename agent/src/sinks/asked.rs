//! Somebody asked for a picture of a camera as it is now: his place until the camera's picture thread has one for him.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use crate::privacy::Given;

/// Who waits at one camera. More are turned away.
const WAITING_MAX: usize = 8;

/// One who waits.
#[derive(Debug)]
pub(super) struct Ask {
    /// He may see people as they are.
    pub(super) clear: bool,
    answer: SyncSender<Given>,
}

impl Ask {
    /// Gives him what he asked for. He may have gone.
    pub(super) fn answer(self, given: Given) {
        let _ = self.answer.try_send(given);
    }
}

/// All who wait at one camera.
#[derive(Debug, Default)]
pub(super) struct Asks {
    count: AtomicUsize,
    waiting: Mutex<Vec<Ask>>,
}

impl Asks {
    /// Waits from here on; nothing where too many do.
    pub(super) fn add(&self, clear: bool) -> Option<Receiver<Given>> {
        let (answer, answered) = sync_channel(1);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING_MAX {
            return None;
        }
        waiting.push(Ask { clear, answer });
        self.count.store(waiting.len(), Ordering::Relaxed);
        Some(answered)
    }

    /// Whether somebody waits.
    pub(super) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Those who wait, to be answered now.
    pub(super) fn take(&self) -> Vec<Ask> {
        self.count.store(0, Ordering::Relaxed);
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
