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
use crate::detect::Detector;

mod meter;
mod speed;
mod stage;
mod swap;

pub use meter::{Counts, Meter};
use speed::cpu;
pub use speed::{Raw, Speed};
pub use stage::Stage;
use swap::Exchange;
pub use swap::{Swap, Swapped};

/// How long a worker sleeps at most when no frame comes, before it shows that it is alive.
const IDLE: Duration = Duration::from_millis(200);

/// What changes while the frame path runs. A camera comes before its first frame, and goes after its last.
pub enum Change {
    /// This slot's frames go through this stage from now on.
    Add(usize, Box<Stage>),
    /// No more frames of this slot: its open events end.
    Remove(usize),
    /// The workers look with these detectors from the next frame on.
    Swap(Swap),
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
            exchange: Exchange::default(),
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
        let cpu = cpu().saturating_sub(cpu_before);
        let mut speed = Speed::of(&spells, cpu);
        if self.raw_runs > 0 && speed.frames > 0 {
            self.raw.measure(&mut self.detectors, self.raw_runs);
        }
        speed.compare(&self.raw);
        speed
    }
}

/// What the workers have in common.
struct Work<'a, Tell> {
    mailbox: &'a Mailbox,
    stages: Mutex<Stages>,
    exchange: Exchange,
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
    /// Processor time in the network.
    network_cpu: Duration,
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
        let mut changes_seen = 0;
        while !self.pulse.stop.load(Ordering::Relaxed) {
            self.pulse.beats[number].fetch_add(1, Ordering::Relaxed);
            let taken = self.mailbox.lend(IDLE);
            // After the frame was taken: its camera came before it did.
            self.follow();
            self.exchange.take(number, &mut changes_seen, detector);
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
                let network_cpu = match self.bare {
                    true => stage.pass_bare(detector),
                    false => stage.pass(mono_ms, detector, &mut frame, &mut detections, &mut events),
                };
                spell.network_cpu += network_cpu;
                if !network_cpu.is_zero() {
                    self.exchange.looked(changes_seen, self.started.elapsed());
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
                Change::Swap(swap) => self.exchange.begin(swap),
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

#[cfg(test)]
mod tests;
