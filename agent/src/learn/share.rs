//! A thread's share of one processor: what it took too much is slept off. It measures the thread that it is used on, and no other.

use std::time::{Duration, Instant};

/// The lowest priority that a thread can have.
const NICE: i32 = 19;
/// How soon the end is noticed.
pub(super) const LOOK: Duration = Duration::from_millis(200);

/// What this thread may take, and what it took.
pub(super) struct Share {
    /// Of one processor.
    part: f64,
    begun: Duration,
    before: Duration,
}

impl Share {
    /// From now on the calling thread has the lowest priority, and so many parts of a hundred.
    pub(super) fn begin(percent: f32) -> Share {
        // Where it may not, it goes on without: the share holds in any case.
        let _ = rustix::process::setpriority_process(None, NICE);
        let begun = thread_cpu();
        Share { part: f64::from(percent) / 100.0, begun, before: begun }
    }

    /// The processor time since the beginning.
    pub(super) fn taken(&self) -> Duration {
        thread_cpu().saturating_sub(self.begun)
    }

    /// Sleeps until what was taken since the last rest is within the share, or until the end.
    pub(super) fn rest(&mut self, ended: impl Fn() -> bool) {
        let cpu = thread_cpu();
        let took = cpu.saturating_sub(self.before);
        self.before = cpu;
        sleep_until(Instant::now() + took.mul_f64((1.0 / self.part - 1.0).max(0.0)), ended);
    }
}

/// Sleeps until then, or until the end.
pub(super) fn sleep_until(then: Instant, ended: impl Fn() -> bool) {
    while Instant::now() < then && !ended() {
        std::thread::sleep(LOOK.min(then.saturating_duration_since(Instant::now())));
    }
}

/// The processor time that this thread has taken.
fn thread_cpu() -> Duration {
    let taken = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(taken).unwrap_or_default()
}
