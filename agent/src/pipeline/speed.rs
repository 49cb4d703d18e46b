//! How fast the frame path is, against the raw limit of the same sessions. It measures; nothing is decided by it.

use std::time::{Duration, Instant};

use super::Spell;
use crate::detect::Detector;

/// How fast the frame path was, against the raw limit of the same sessions.
#[derive(Debug, Default, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct Speed {
    /// Frames through the whole path.
    pub frames: u64,
    /// From the first frame taken to the last one finished.
    pub seconds: f64,
    /// Frames a second through the whole path.
    pub path_fps: f64,
    /// Calls of `session.run` a second in a tight loop, before and after: the raw limit.
    pub raw_fps: f64,
    /// `path_fps / raw_fps`.
    pub ratio: f64,
    /// From the start of the process to the first frame's detections, without the raw runs.
    pub first_detection_ms: f64,
    /// Processor time of this process for a frame, in all threads, less that in `session.run`: all that is its own.
    /// Decoders are other processes. It is measured around each call, because the network itself takes longer beside
    /// decoders than in a tight loop, and a machine's pace drifts by more than all of this. Where the model has more than
    /// one thread, the others' share of it counts as our own.
    pub own_cpu_ms: f64,
    /// Processor time in `session.run` for a frame.
    pub network_cpu_ms: f64,
    /// The same in the tight loop.
    pub raw_cpu_ms: f64,
}

/// Calls of `session.run` in a tight loop, by all workers at once, and what they took.
#[derive(Debug, Default)]
pub struct Raw {
    runs: u32,
    pub(super) took: Duration,
    /// Processor time, of all workers together.
    cpu: Duration,
}

impl Raw {
    pub(super) fn measure(&mut self, detectors: &mut [Detector], runs: u32) {
        let (began, cpu_before) = (Instant::now(), cpu());
        std::thread::scope(|scope| {
            for detector in &mut *detectors {
                scope.spawn(move || {
                    for _ in 0..runs {
                        if let Err(error) = detector.run_raw() {
                            return tracing::warn!("the raw limit was not measured: {error}");
                        }
                    }
                });
            }
        });
        self.runs += runs * detectors.len() as u32;
        self.took += began.elapsed();
        self.cpu += cpu().saturating_sub(cpu_before);
    }
}

impl Speed {
    /// `cpu` is what this process took for all frames.
    pub(super) fn of(spells: &[Spell], cpu: Duration) -> Speed {
        let clocks = || spells.iter().filter_map(|spell| spell.clock);
        let began = clocks().map(|(began, _)| began).min();
        let ended = clocks().map(|(_, ended)| ended).max();
        let seconds = began.zip(ended).map_or(0.0, |(began, ended)| (ended - began).as_secs_f64());
        let frames = spells.iter().map(|spell| spell.frames).sum::<u64>();
        let network_cpu = spells.iter().map(|spell| spell.network_cpu).sum::<Duration>();
        let for_each = |cpu: Duration| per(cpu.as_secs_f64() * 1000.0, frames as f64);
        let first = spells.iter().filter_map(|spell| spell.first_detection_ms).min_by(f64::total_cmp);
        let path_fps = per(frames as f64, seconds);
        Speed {
            frames,
            seconds,
            path_fps,
            first_detection_ms: first.unwrap_or(0.0),
            own_cpu_ms: for_each(cpu.saturating_sub(network_cpu)),
            network_cpu_ms: for_each(network_cpu),
            ..Speed::default()
        }
    }

    pub(super) fn compare(&mut self, raw: &Raw) {
        self.raw_fps = per(f64::from(raw.runs), raw.took.as_secs_f64());
        self.ratio = per(self.path_fps, self.raw_fps);
        self.raw_cpu_ms = per(raw.cpu.as_secs_f64() * 1000.0, f64::from(raw.runs));
    }
}

/// The processor time that this process has taken.
pub(super) fn cpu() -> Duration {
    let taken = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(taken).unwrap_or_default()
}

/// So much for each of so many; nothing where there are none.
fn per(amount: f64, of: f64) -> f64 {
    if of > 0.0 { amount / of } else { 0.0 }
}
