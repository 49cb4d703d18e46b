//! Many seeded worlds, on as many threads as there are cores. A seed that fails is named, and replays alone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::world::{Outcome, Plan, run};

/// What many worlds showed together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Total {
    /// Worlds run to their end.
    pub seeds: u64,
    /// See [`Outcome::events`].
    pub events: u64,
    /// See [`Outcome::missed`].
    pub missed: u64,
    /// See [`Outcome::resent`].
    pub resent: u64,
    /// See [`Outcome::duplicates`].
    pub duplicates: u64,
    /// See [`Outcome::crashes`].
    pub crashes: u64,
    /// See [`Outcome::boots`].
    pub boots: u64,
    /// See [`Outcome::steps`].
    pub steps: u64,
    /// The longest [`Outcome::healing_ms`].
    pub healing_ms_max: u64,
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.events += outcome.events as u64;
        self.missed += outcome.missed;
        self.resent += outcome.resent;
        self.duplicates += outcome.duplicates;
        self.crashes += outcome.crashes;
        self.boots += outcome.boots as u64;
        self.steps += outcome.steps;
        self.healing_ms_max = self.healing_ms_max.max(outcome.healing_ms);
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Total { seeds, events, missed, resent, duplicates, crashes, boots, steps, healing_ms_max } = self;
        write!(
            f,
            "{seeds} worlds, {steps} steps: {events} events durable, 0 lost, 0 counted twice; {missed} given up by disks \
             and told; {resent} sent again, {duplicates} duplicates refused, {crashes} crashes, {boots} boots; at most \
             {} s from healing to the last event",
            healing_ms_max / 1000
        )
    }
}

/// Runs the worlds of these seeds. `progress` hears of each that ended well. The error is that of the lowest seed that
/// failed before all threads had stopped.
pub fn run_seeds(from: u64, seeds: u64, progress: impl Fn(&Total, u64, &Outcome) + Sync) -> Result<Total, String> {
    let mut total = Total::default();
    each_seed(
        from,
        seeds,
        |seed| run(&Plan::of_seed(seed)),
        |seed, outcome| {
            total.add(&outcome);
            progress(&total, seed, &outcome);
        },
    )?;
    Ok(total)
}

/// Does a piece of work for each of these seeds, on as many threads as there are cores; what comes out is handed over one at
/// a time, in no order. The error is that of the lowest seed that failed before all threads had stopped.
pub fn each_seed<T>(
    from: u64,
    seeds: u64,
    work: impl Fn(u64) -> Result<T, String> + Sync,
    done: impl FnMut(u64, T) + Send,
) -> Result<(), String> {
    let (next, failed) = (AtomicU64::new(from), AtomicBool::new(false));
    let end = from.saturating_add(seeds);
    let (done, failures) = (Mutex::new(done), Mutex::new(Vec::new()));
    let thread = || {
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                break;
            }
            match work(seed) {
                Ok(outcome) => done.lock().unwrap_or_else(PoisonError::into_inner)(seed, outcome),
                Err(broken) => {
                    failed.store(true, Ordering::Relaxed);
                    failures.lock().unwrap_or_else(PoisonError::into_inner).push((seed, broken));
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(thread);
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.into_iter().min().map_or(Ok(()), |(_, broken)| Err(broken))
}
