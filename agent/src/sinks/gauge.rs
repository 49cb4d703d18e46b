//! How one sink does: its counters and, where something is wrong, a sentence. Written by the sink's thread, read by the
//! heartbeat.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use picket_shared::status::SinkStats;

/// Longest sentence that is told: as long as a source's.
const PROBLEM_CHARS_MAX: usize = 280;

/// What a sink is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// Nobody looks, or nothing came yet.
    #[default]
    Idle,
    /// It takes pictures.
    Running,
    /// Its child has ended, and is started again.
    Retrying,
    /// The disk has no room.
    Full,
    /// It needs somebody.
    Failed,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Running => "running",
            State::Retrying => "retrying",
            State::Full => "full",
            State::Failed => "failed",
        }
    }
}

/// See [`SinkStats`] for the meanings.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    pub(super) pictures: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) restarts: AtomicU64,
    errors: AtomicU64,
    now: Mutex<(State, Option<String>)>,
}

impl Gauge {
    /// One picture more.
    pub(super) fn took(&self, bytes: usize) {
        self.pictures.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// It works; what was wrong is over.
    pub(super) fn well(&self, state: State) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = (state, None);
    }

    /// Something is wrong. It is said in the log once, until it is over or something else is wrong; counted each time.
    pub(super) fn wrong(&self, state: State, who: &str, sentence: &str) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let sentence: String = format!("{who}: {sentence}").chars().take(PROBLEM_CHARS_MAX).collect();
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.1.as_ref() != Some(&sentence) {
            tracing::warn!("{sentence}");
        }
        *now = (state, Some(sentence));
    }

    /// What is wrong now.
    pub(super) fn problem(&self) -> Option<String> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// The counters now.
    pub(super) fn stats(&self, sink: &str, dropped: u64) -> SinkStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SinkStats {
            sink: sink.to_owned(),
            state: self.now.lock().unwrap_or_else(PoisonError::into_inner).0.word().to_owned(),
            pictures: read(&self.pictures),
            pictures_dropped: read(&self.dropped) + dropped,
            bytes: read(&self.bytes),
            restarts: read(&self.restarts),
            errors: read(&self.errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_until_it_is_over_and_counted_each_time() {
        let gauge = Gauge::default();
        gauge.wrong(State::Full, "record", "no room");
        gauge.wrong(State::Full, "record", "no room");
        assert_eq!(gauge.problem().as_deref(), Some("record: no room"));
        gauge.well(State::Running);
        gauge.took(10);
        let stats = gauge.stats("record", 3);
        assert_eq!(gauge.problem(), None);
        assert_eq!((stats.errors, stats.pictures, stats.bytes, stats.pictures_dropped), (2, 1, 10, 3));
        assert_eq!(stats.state, "running");
    }
}
