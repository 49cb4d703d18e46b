//! The coordinator's time, which its cores are handed.

use std::time::Duration;

use picket_shared::calendar::unix_ms;
use picket_shared::clock::Now;
use tokio::time::Instant;

/// Time for the core: monotonic since the start, and by the calendar.
#[derive(Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Begins to count now.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// The time.
    pub fn now(self) -> Now {
        Now { mono_ms: self.start.elapsed().as_millis() as u64, unix_ms: unix_ms() }
    }

    /// When the monotonic clock says so.
    pub fn at(self, mono_ms: u64) -> Instant {
        self.start + Duration::from_millis(mono_ms)
    }
}
