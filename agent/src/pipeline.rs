//! The frame path from the mailbox to the events: mask → gate → detect → track → observe, for all cameras on one thread.
//!
//! One thread runs one inference session for all streams; cameras take turns. It drops nothing: a frame that it takes is
//! either gated (counted) or detected. It stores and sends nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use picket_shared::event::Event;

use crate::capture::{Mailbox, NoFrame};
use crate::detect::Detector;
use crate::frame::{Detection, Frame};
use crate::gate::{Gate, Verdict};
use crate::mask::Mask;
use crate::observe::{Observer, Tally};
use crate::steady::SteadyClock;
use crate::track::{self, State, Tracker};

/// How long the thread sleeps at most when no frame comes, before it shows that it is alive.
const IDLE: Duration = Duration::from_millis(200);

/// What one camera's frames go through, with its own state.
pub struct Stage {
    /// Privacy zones.
    pub mask: Mask,
    /// The motion test.
    pub gate: Gate,
    /// The tracker.
    pub tracker: Tracker,
    /// What is worth telling.
    pub observer: Observer,
    /// What durations are counted by.
    pub clock: SteadyClock,
    /// What has been counted.
    pub meter: Arc<Meter>,
}

/// Counters of one camera's frame path, read by others while it runs.
#[derive(Debug, Default)]
pub struct Meter {
    counts: Mutex<Counts>,
    tally: Mutex<Tally>,
}

/// See [`picket_shared::status::CameraStats`] for the meanings.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Frames that the gate kept back.
    pub frames_gated: u64,
    /// Frames that were detected.
    pub frames_detected: u64,
    /// Frames that the detector refused.
    pub frames_refused: u64,
    /// Boxes found.
    pub detections: u64,
    /// Tracks begun and confirmed.
    pub tracks: u64,
    /// Confirmed tracks in the last frame.
    pub persons_now: u32,
    /// Time spent in `session.run`.
    pub inference: Duration,
    /// What the tracker has counted.
    pub tracker: track::Counts,
    /// Times that the wall clock has jumped.
    pub clock_jumps: u64,
}

impl Meter {
    /// The counters now.
    pub fn read(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is counted of zones and lines now.
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What came and could not be used, by a constant word; what never happened is left out.
    pub fn bad_input(&self) -> BTreeMap<String, u64> {
        let (counts, tracks) = (self.read(), self.tally().tracks_refused);
        let track::Counts { tracks_refused, detections_refused, detections_over, .. } = counts.tracker;
        let all = [
            ("frame", counts.frames_refused),
            ("detection", detections_refused),
            ("detection_over", detections_over),
            ("track", tracks),
            ("track_over", tracks_refused),
            ("clock_jump", counts.clock_jumps),
        ];
        all.into_iter().filter(|(_, count)| *count > 0).map(|(word, count)| (word.to_owned(), count)).collect()
    }

    /// Remembers a tally; it is copied only where it has changed.
    fn note(&self, tally: &Tally) {
        let mut noted = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        if *noted != *tally {
            noted.clone_from(tally);
        }
    }

    fn add(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What the thread shows while it works.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Set from outside to end it.
    pub stop: AtomicBool,
    /// Grows as long as it is alive, frames or not.
    pub beats: AtomicU64,
}

/// How fast the frame path was, against the raw limit of the same session in the same thread.
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
}

/// The frame path of one agent.
pub struct Pipeline {
    /// Where frames come from.
    pub mailbox: Mailbox,
    /// The detector, shared by all cameras.
    pub detector: Detector,
    /// The stages, by the camera's index in the mailbox.
    pub stages: Vec<Stage>,
    /// The process's start, for [`Speed::first_detection_ms`].
    pub started: Instant,
    /// Raw runs to measure before the first frame and after the last; 0 measures nothing.
    pub raw_runs: u32,
    /// What they took so far.
    pub raw: Raw,
}

impl Pipeline {
    /// Runs the detector alone for a while. On the thread that will run the path, and before the
    /// cameras start, lest their first frames wait for it.
    pub fn measure_raw_limit(&mut self) {
        self.raw.measure(&mut self.detector, self.raw_runs);
    }

    /// Runs until every source has ended or `pulse.stop` is set. Events come out in order; at the end open ones are ended.
    pub fn run(mut self, pulse: &Pulse, mut tell: impl FnMut(Event)) -> Speed {
        let (mut detections, mut events) = (Vec::new(), Vec::new());
        let mut speed = Speed::default();
        let mut clock: Option<(Instant, Instant)> = None;
        while !pulse.stop.load(Ordering::Relaxed) {
            pulse.beats.fetch_add(1, Ordering::Relaxed);
            let (camera, mut frame) = match self.mailbox.take(IDLE) {
                Ok(taken) => taken,
                Err(NoFrame::TimedOut) => continue,
                Err(NoFrame::Ended) => break,
            };
            let (began, _) = *clock.get_or_insert_with(|| (Instant::now(), Instant::now()));
            let mono_ms = self.started.elapsed().as_millis() as u64;
            self.stages[camera].pass(mono_ms, &mut self.detector, &mut frame, &mut detections, &mut events);
            events.drain(..).for_each(&mut tell);
            if speed.first_detection_ms == 0.0 {
                let since_start = self.started.elapsed().saturating_sub(self.raw.took);
                speed.first_detection_ms = since_start.as_secs_f64() * 1000.0;
            }
            self.mailbox.recycle(camera, frame);
            speed.frames += 1;
            clock = Some((began, Instant::now()));
        }
        self.stages.iter_mut().for_each(|stage| stage.finish(&mut events));
        events.drain(..).for_each(&mut tell);
        if self.raw_runs > 0 && speed.frames > 0 {
            self.measure_raw_limit();
        }
        speed.close(clock, &self.raw);
        speed
    }
}

impl Stage {
    /// Ends what is open: there will be no more frames.
    fn finish(&mut self, events: &mut Vec<Event>) {
        let told = events.len();
        self.observer.finish(self.clock.now_ms(), events);
        events[told..].iter_mut().for_each(|event| self.clock.to_wall(event));
        self.meter.add(|counts| counts.persons_now = 0);
        self.meter.note(self.observer.tally());
    }

    fn pass(
        &mut self,
        mono_ms: u64,
        detector: &mut Detector,
        frame: &mut Frame,
        detections: &mut Vec<Detection>,
        events: &mut Vec<Event>,
    ) {
        self.mask.apply(frame);
        let now_ms = self.clock.tick(frame.taken_ms, mono_ms);
        if self.gate.decide(now_ms, frame, self.tracker.alive()) == Verdict::Skip {
            self.meter.add(|counts| counts.frames_gated += 1);
            return;
        }
        let timing = match detector.detect(frame, detections) {
            Ok(timing) => timing,
            Err(error) => {
                self.meter.add(|counts| counts.frames_refused += 1);
                let refused = self.meter.read().frames_refused;
                // A camera that gives nothing else must not flood the log.
                if refused.is_power_of_two() {
                    tracing::warn!("a frame was not detected ({refused} so far): {error}");
                }
                return;
            }
        };
        let tracks = self.tracker.step(now_ms, detections);
        let persons_now = tracks.iter().filter(|track| track.state != State::Tentative).count() as u32;
        let told = events.len();
        self.observer.step(now_ms, (frame.width, frame.height), tracks, events);
        events[told..].iter_mut().for_each(|event| self.clock.to_wall(event));
        self.meter.note(self.observer.tally());
        let (tracker, clock_jumps) = (self.tracker.counts(), self.clock.jumps());
        self.meter.add(|counts| {
            counts.frames_detected += 1;
            counts.detections += detections.len() as u64;
            counts.tracks = tracker.tracks_confirmed;
            counts.tracker = tracker;
            counts.clock_jumps = clock_jumps;
            counts.persons_now = persons_now;
            counts.inference += timing.run;
        });
    }
}

/// Calls of `session.run` in a tight loop, and what they took.
#[derive(Debug, Default)]
pub struct Raw {
    runs: u32,
    took: Duration,
}

impl Raw {
    fn measure(&mut self, detector: &mut Detector, runs: u32) {
        let began = Instant::now();
        for _ in 0..runs {
            if let Err(error) = detector.run_raw() {
                return tracing::warn!("the raw limit was not measured: {error}");
            }
        }
        self.runs += runs;
        self.took += began.elapsed();
    }
}

impl Speed {
    fn close(&mut self, clock: Option<(Instant, Instant)>, raw: &Raw) {
        let rate = |count: f64, seconds: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
        self.seconds = clock.map_or(0.0, |(began, ended)| (ended - began).as_secs_f64());
        self.path_fps = rate(self.frames as f64, self.seconds);
        self.raw_fps = rate(f64::from(raw.runs), raw.took.as_secs_f64());
        self.ratio = rate(self.path_fps, self.raw_fps);
    }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
