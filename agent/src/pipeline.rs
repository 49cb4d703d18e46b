//! The frame path from the mailbox to the events: mask → gate → detect → track → observe, for all cameras.
//!
//! Each worker has an inference session of its own, and cameras take turns: a worker takes the next camera that has a frame
//! and is with no other worker. It drops nothing: a frame that it takes is either gated (counted) or detected. It stores
//! and sends nothing.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use picket_shared::event::Event;

use crate::capture::{Mailbox, NoFrame};
use crate::detect::{self, Detector};
use crate::frame::{Detection, Frame};
use crate::gate::{Gate, Verdict};
use crate::mask::Mask;
use crate::observe::{Observer, Tally};
use crate::sinks::Tap;
use crate::steady::SteadyClock;
use crate::track::{self, State, Tracker};

/// How long a worker sleeps at most when no frame comes, before it shows that it is alive.
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
    /// Boxes of the model whose numbers cannot be, and candidates beyond the surest.
    pub outputs: detect::layout::Tally,
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
            ("detection", counts.outputs.rejected + detections_refused),
            ("detection_over", counts.outputs.cut + detections_over),
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

/// What the workers show while they work.
#[derive(Debug)]
pub struct Pulse {
    /// Set from outside to end them.
    pub stop: AtomicBool,
    /// One for each worker; grows as long as it is alive, frames or not.
    pub beats: Vec<AtomicU64>,
}

impl Pulse {
    /// For so many workers.
    pub fn new(workers: usize) -> Pulse {
        Pulse { stop: AtomicBool::default(), beats: (0..workers).map(|_| AtomicU64::default()).collect() }
    }
}

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
    /// Processor time of this process for a frame, beyond what the raw limit takes for one: all that is its own. Decoders
    /// are other processes.
    pub own_cpu_ms: f64,
}

/// The frame path of one agent.
pub struct Pipeline {
    /// Where frames come from.
    pub mailbox: Mailbox,
    /// One for each worker; a worker takes whichever camera's turn it is.
    pub detectors: Vec<Detector>,
    /// Cameras that come and go, the first ones too.
    pub changes: Receiver<Change>,
    /// The process's start, for [`Speed::first_detection_ms`].
    pub started: Instant,
    /// Raw runs of each worker to measure before the first frame and after the last; 0 measures nothing.
    pub raw_runs: u32,
    /// What they took so far.
    pub raw: Raw,
    /// Run the network for each frame and nothing else: the limit of these decoders and this network together.
    pub bare: bool,
}

impl Pipeline {
    /// Runs the detectors alone for a while, all at once. Before the cameras start, lest their first frames wait for it.
    pub fn measure_raw_limit(&mut self) {
        self.raw.measure(&mut self.detectors, self.raw_runs);
    }

    /// Runs until every source has ended or `pulse.stop` is set. The events of a camera come out in order; at the end open
    /// ones are ended.
    pub fn run(mut self, pulse: &Pulse, tell: impl Fn(Event) + Sync) -> Speed {
        let work = Work {
            mailbox: &self.mailbox,
            stages: Mutex::new(Stages { changes: self.changes, by_slot: BTreeMap::new() }),
            pulse,
            tell,
            started: self.started + self.raw.took,
            bare: self.bare,
        };
        let cpu_before = cpu();
        let spells: Vec<Spell> = std::thread::scope(|scope| {
            let start = |(number, detector)| {
                let worker = std::thread::Builder::new().name(format!("frame-path-{number}"));
                worker
                    .spawn_scoped(scope, {
                        let work = &work;
                        move || work.serve(number, detector)
                    })
                    .expect("a process of this size may have a few threads")
            };
            let workers: Vec<_> = self.detectors.iter_mut().enumerate().map(start).collect();
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|fault| resume_unwind(fault))).collect()
        });
        work.finish();
        let mut speed = Speed::of(&spells);
        let cpu_ms = cpu().saturating_sub(cpu_before).as_secs_f64() * 1000.0;
        if self.raw_runs > 0 && speed.frames > 0 {
            self.raw.measure(&mut self.detectors, self.raw_runs);
        }
        speed.compare(&self.raw, cpu_ms);
        speed
    }
}

/// What the workers have in common.
struct Work<'a, Tell> {
    mailbox: &'a Mailbox,
    stages: Mutex<Stages>,
    pulse: &'a Pulse,
    tell: Tell,
    /// The process's start, less what the raw runs took.
    started: Instant,
    bare: bool,
}

/// What one worker did.
#[derive(Debug, Default)]
struct Spell {
    frames: u64,
    first_detection_ms: Option<f64>,
    /// When its first frame was taken, and when its last one was finished.
    clock: Option<(Instant, Instant)>,
}

impl<Tell: Fn(Event) + Sync> Work<'_, Tell> {
    /// One worker, from its first frame to its last.
    fn serve(&self, number: usize, detector: &mut Detector) -> Spell {
        // The agent ends with a worker that fails; others would go on as if nothing had happened.
        let _stop = StopOnPanic(self.pulse);
        let (mut detections, mut events, mut spell) = (Vec::new(), Vec::new(), Spell::default());
        while !self.pulse.stop.load(Ordering::Relaxed) {
            self.pulse.beats[number].fetch_add(1, Ordering::Relaxed);
            let taken = self.mailbox.lend(IDLE);
            // After the frame was taken: its camera came before it did.
            self.follow();
            let (camera, mut frame) = match taken {
                Ok(taken) => taken,
                Err(NoFrame::TimedOut) => continue,
                Err(NoFrame::Ended) => break,
            };
            let began = Instant::now();
            // What a camera that has gone left behind has no stage; it may have gone this moment.
            let seat = self.seat(camera);
            if let Some(stage) = lock(&seat).as_mut() {
                let mono_ms = began.saturating_duration_since(self.started).as_millis() as u64;
                match self.bare {
                    true => stage.pass_bare(detector),
                    false => stage.pass(mono_ms, detector, &mut frame, &mut detections, &mut events),
                }
                // Before anybody else can have a frame of this camera.
                events.drain(..).for_each(&self.tell);
                spell.frames += 1;
                let since_start = || self.started.elapsed().as_secs_f64() * 1000.0;
                spell.first_detection_ms.get_or_insert_with(since_start);
                spell.clock = Some((spell.clock.map_or(began, |(first, _)| first), Instant::now()));
            }
            self.mailbox.recycle(camera, frame);
        }
        spell
    }

    /// Takes in who came and who went since the last time.
    fn follow(&self) {
        let mut stages = lock(&self.stages);
        while let Ok(change) = stages.changes.try_recv() {
            match change {
                Change::Add(camera, stage) => {
                    stages.by_slot.insert(camera, Arc::new(Mutex::new(Some(*stage))));
                }
                Change::Remove(camera) => {
                    self.mailbox.close(camera);
                    if let Some(seat) = stages.by_slot.remove(&camera) {
                        self.end(&seat);
                    }
                }
            }
        }
    }

    fn seat(&self, camera: usize) -> Seat {
        lock(&self.stages).by_slot.get(&camera).map(Arc::clone).unwrap_or_default()
    }

    fn finish(&self) {
        lock(&self.stages).by_slot.values().for_each(|seat| self.end(seat));
    }

    /// Ends what is open of a camera. A worker that has a frame of it finds no stage any more: nothing follows the end.
    fn end(&self, seat: &Seat) {
        let (mut seat, mut events) = (lock(seat), Vec::new());
        if let Some(mut stage) = seat.take() {
            stage.finish(&mut events);
        }
        events.into_iter().for_each(&self.tell);
    }
}

/// The cameras' stages by their slots, and what changes them.
struct Stages {
    changes: Receiver<Change>,
    by_slot: BTreeMap<usize, Seat>,
}

/// Where a camera's stage is, until the camera has gone. Held while a frame passes.
type Seat = Arc<Mutex<Option<Stage>>>;

/// A worker that panics ends the others, and with them the agent.
struct StopOnPanic<'a>(&'a Pulse);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// A worker that panicked while it held the lock ends the agent; the others only have to come to their ends.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn pass_bare(&mut self, detector: &mut Detector) {
        if let Ok(run) = detector.run_raw() {
            self.meter.add(|counts| {
                counts.frames_detected += 1;
                counts.inference += run;
            });
        }
    }

    fn pass(
        &mut self,
        mono_ms: u64,
        detector: &mut Detector,
        frame: &mut Frame,
        detections: &mut Vec<Detection>,
        events: &mut Vec<Event>,
    ) {
        let told = events.len();
        self.mask.apply(frame);
        let now_ms = self.clock.tick(frame.taken_ms, mono_ms);
        if self.gate.decide(now_ms, frame, self.tracker.alive()) == Verdict::Skip {
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
        let tracks = self.tracker.step(now_ms, detections);
        let persons_now = tracks.iter().filter(|track| track.state != State::Tentative).count() as u32;
        self.observer.step(now_ms, (frame.width, frame.height), tracks, events);
        events[told..].iter_mut().for_each(|event| self.clock.to_wall(event));
        self.meter.note(self.observer.tally());
        self.tap.look(frame, Some(tracks), &events[told..]);
        let (tracker, clock_jumps) = (self.tracker.counts(), self.clock.jumps());
        self.meter.add(|counts| {
            counts.frames_detected += 1;
            counts.detections += detections.len() as u64;
            counts.outputs.rejected += timing.tally.rejected;
            counts.outputs.cut += timing.tally.cut;
            counts.tracks = tracker.tracks_confirmed;
            counts.tracker = tracker;
            counts.clock_jumps = clock_jumps;
            counts.persons_now = persons_now;
            counts.inference += timing.run;
        });
    }
}

/// Calls of `session.run` in a tight loop, by all workers at once, and what they took.
#[derive(Debug, Default)]
pub struct Raw {
    runs: u32,
    took: Duration,
    /// Processor time, of all workers together.
    cpu: Duration,
}

impl Raw {
    fn measure(&mut self, detectors: &mut [Detector], runs: u32) {
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
    fn of(spells: &[Spell]) -> Speed {
        let clocks = || spells.iter().filter_map(|spell| spell.clock);
        let began = clocks().map(|(began, _)| began).min();
        let ended = clocks().map(|(_, ended)| ended).max();
        let seconds = began.zip(ended).map_or(0.0, |(began, ended)| (ended - began).as_secs_f64());
        let frames = spells.iter().map(|spell| spell.frames).sum();
        let first = spells.iter().filter_map(|spell| spell.first_detection_ms).min_by(f64::total_cmp);
        let path_fps = rate(frames as f64, seconds);
        Speed { frames, seconds, path_fps, first_detection_ms: first.unwrap_or(0.0), ..Speed::default() }
    }

    /// `cpu_ms` is what this process took for all frames.
    fn compare(&mut self, raw: &Raw, cpu_ms: f64) {
        self.raw_fps = rate(f64::from(raw.runs), raw.took.as_secs_f64());
        self.ratio = rate(self.path_fps, self.raw_fps);
        if raw.runs > 0 && self.frames > 0 {
            self.own_cpu_ms = cpu_ms / self.frames as f64 - raw.cpu.as_secs_f64() * 1000.0 / f64::from(raw.runs);
        }
    }
}

/// The processor time that this process has taken.
fn cpu() -> Duration {
    let taken = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(taken).unwrap_or_default()
}

fn rate(count: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
