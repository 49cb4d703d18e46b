//! The frame path from the mailbox to the events: mask → gate → detect → track → observe, for all cameras on one thread.
//!
//! One thread runs one inference session for all streams; cameras take turns. It drops nothing: a frame that it takes is
//! either gated (counted) or detected. It reads no clock but the frames' own, and stores and sends nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use picket_shared::event::Event;

use crate::capture::{Mailbox, NoFrame};
use crate::detect::Detector;
use crate::frame::{Detection, Frame};
use crate::gate::{Gate, Verdict};
use crate::mask::Mask;
use crate::observe::Observer;
use crate::sinks::Tap;
use crate::track::{State, Tracker};

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
    /// Where pictures go that somebody wants to see.
    pub tap: Tap,
    /// What has been counted.
    pub meter: Arc<Meter>,
}

/// A camera that comes or goes while the frame path runs. It comes before its first frame, and goes after its last.
pub enum Change {
    /// This slot's frames go through this stage from now on.
    Add(usize, Box<Stage>),
    /// No more frames of this slot: its open events end.
    Remove(usize),
}

/// Counters of one camera's frame path, read by others while it runs.
#[derive(Debug, Default)]
pub struct Meter {
    counts: Mutex<Counts>,
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
}

impl Meter {
    /// The counters now.
    pub fn read(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Cameras that come and go, the first ones too.
    pub changes: Receiver<Change>,
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
        let mut stages = Stages::default();
        while !pulse.stop.load(Ordering::Relaxed) {
            pulse.beats.fetch_add(1, Ordering::Relaxed);
            let taken = self.mailbox.take(IDLE);
            // After the frame was taken: its camera came before it did.
            stages.follow(&self.changes, &self.mailbox, &mut events);
            events.drain(..).for_each(&mut tell);
            let (camera, mut frame) = match taken {
                Ok(taken) => taken,
                Err(NoFrame::TimedOut) => continue,
                Err(NoFrame::Ended) => break,
            };
            // What a camera that has gone left behind.
            let Some((stage, last_taken_ms)) = stages.0.get_mut(&camera) else { continue };
            let (began, _) = *clock.get_or_insert_with(|| (Instant::now(), Instant::now()));
            *last_taken_ms = frame.taken_ms;
            stage.pass(&mut self.detector, &mut frame, &mut detections, &mut events);
            events.drain(..).for_each(&mut tell);
            if speed.first_detection_ms == 0.0 {
                let since_start = self.started.elapsed().saturating_sub(self.raw.took);
                speed.first_detection_ms = since_start.as_secs_f64() * 1000.0;
            }
            self.mailbox.recycle(camera, frame);
            speed.frames += 1;
            clock = Some((began, Instant::now()));
        }
        stages.finish(&mut events);
        events.drain(..).for_each(&mut tell);
        if self.raw_runs > 0 && speed.frames > 0 {
            self.measure_raw_limit();
        }
        speed.close(clock, &self.raw);
        speed
    }
}

/// The stages by their slots, each with the time of its last frame.
#[derive(Default)]
struct Stages(BTreeMap<usize, (Box<Stage>, u64)>);

impl Stages {
    /// Takes in who came and who went since the last time.
    fn follow(&mut self, changes: &Receiver<Change>, mailbox: &Mailbox, events: &mut Vec<Event>) {
        for change in changes.try_iter() {
            match change {
                Change::Add(camera, stage) => drop(self.0.insert(camera, (stage, 0))),
                Change::Remove(camera) => {
                    mailbox.close(camera);
                    if let Some((mut stage, last_taken_ms)) = self.0.remove(&camera) {
                        stage.finish(last_taken_ms, events);
                    }
                }
            }
        }
    }

    fn finish(&mut self, events: &mut Vec<Event>) {
        self.0.values_mut().for_each(|(stage, last_taken_ms)| stage.finish(*last_taken_ms, events));
    }
}

impl Stage {
    /// Ends what is open: there will be no more frames.
    fn finish(&mut self, last_taken_ms: u64, events: &mut Vec<Event>) {
        self.observer.finish(last_taken_ms, events);
        self.meter.add(|counts| counts.persons_now = 0);
    }

    fn pass(
        &mut self,
        detector: &mut Detector,
        frame: &mut Frame,
        detections: &mut Vec<Detection>,
        events: &mut Vec<Event>,
    ) {
        let told = events.len();
        self.mask.apply(frame);
        if self.gate.decide(frame.taken_ms, frame, self.tracker.alive()) == Verdict::Skip {
            self.meter.add(|counts| counts.frames_gated += 1);
            return self.tap.look(frame, None, &[]);
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
        let tracks = self.tracker.step(frame.taken_ms, detections);
        let persons_now = tracks.iter().filter(|track| track.state != State::Tentative).count() as u32;
        self.observer.step(frame.taken_ms, (frame.width, frame.height), tracks, events);
        self.tap.look(frame, Some(tracks), &events[told..]);
        let confirmed = self.tracker.counts().tracks_confirmed;
        self.meter.add(|counts| {
            counts.frames_detected += 1;
            counts.detections += detections.len() as u64;
            counts.tracks = confirmed;
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
