//! One pass over a source: a reader, a bounded queue of frames, and workers that each have a detector.
//!
//! This is the arrangement whose bottleneck is looked for: who waits for whom is measured along with the time. The
//! boxes do not depend on the number of workers. It judges nothing.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use picket_shared::exit::{Exit, Failure};

use super::degrade::Degradation;
use super::score::Found;
use super::source::Source;
use crate::detect::{DetectError, Detector};
use crate::frame::{Detection, Frame};

/// Frames in the queue for each worker: one to begin with at once, one in reserve.
const QUEUE_FRAMES_PER_WORKER: usize = 2;
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// What a pass does.
pub struct Plan<'a> {
    /// What progress is told under.
    pub what: &'a str,
    /// Where frames come from.
    pub source: &'a Source,
    /// Frames to pass at most.
    pub frames_max: Option<usize>,
    /// Frames to look at, by index and name.
    pub wanted: &'a (dyn Fn(usize, &str) -> bool + Sync),
    /// How much longer each frame takes to read: a slow camera, disk or network.
    pub delay: Duration,
    /// What is done to the frames.
    pub degradation: Degradation,
    /// The seed of what is random in it.
    pub seed: u64,
}

/// One frame that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// From 0.
    pub index: usize,
    /// The picture's file; empty in a video.
    pub name: String,
    /// When it was taken, by the source.
    pub taken_ms: u64,
    /// What was found.
    pub found: Vec<Detection>,
}

/// What a pass gave.
#[derive(Debug)]
pub struct Pass {
    /// Frames in their order.
    pub seen: Vec<Seen>,
    /// Frames that could not be used, each with its reason.
    pub refused: Vec<String>,
    /// Frames that the source passed, looked at or not.
    pub passed: usize,
    /// From the first frame in the reader's hand to the last one finished.
    pub seconds: f64,
    /// Part of the time that the reader waited for room in the queue, 0 to 1.
    pub reader_waited: f64,
    /// Part of their time that the workers waited for a frame, 0 to 1.
    pub workers_waited: f64,
}

impl<'a> Found<'a> {
    /// What was found in a frame, to be scored.
    pub fn of(seen: &'a Seen) -> Found<'a> {
        Found { index: seen.index, name: &seen.name, detections: &seen.found }
    }
}

impl Pass {
    /// Frames a second.
    pub fn fps(&self) -> f64 {
        if self.seconds > 0.0 { self.seen.len() as f64 / self.seconds } else { 0.0 }
    }
}

struct Item {
    index: usize,
    name: String,
    frame: Frame,
}

/// What workers share.
struct Bench<'a> {
    plan: &'a Plan<'a>,
    used: SyncSender<Frame>,
    seen: Mutex<Vec<Seen>>,
    refused: Mutex<Vec<String>>,
    waited: Mutex<Duration>,
    progress: Progress<'a>,
}

/// Runs a pass with as many workers as there are detectors; with none, frames are only read.
pub fn run(plan: &Plan, detectors: &mut [Detector]) -> Result<Pass, Failure> {
    let workers = detectors.len();
    let (queue, frames) = sync_channel(QUEUE_FRAMES_PER_WORKER * workers.max(1));
    let (used, unused) = sync_channel(QUEUE_FRAMES_PER_WORKER * workers.max(1));
    let bench = Bench {
        plan,
        used,
        seen: Mutex::default(),
        refused: Mutex::default(),
        waited: Mutex::default(),
        progress: Progress::new(plan),
    };
    // It goes away with the last worker, however that one ends, so that the reader never waits for nobody.
    let frames = Arc::new(Mutex::new(frames));
    let mut began = None;
    let mut reader_waited = Duration::ZERO;
    let passed = std::thread::scope(|scope| {
        let start = |detector| {
            let (bench, frames) = (&bench, Arc::clone(&frames));
            scope.spawn(move || bench.work(detector, &frames))
        };
        let hands: Vec<_> = detectors.iter_mut().map(start).collect();
        drop(frames);
        let passed = plan.source.read(plan.frames_max, plan.wanted, &mut || unused.try_recv().ok(), &mut |read| {
            began.get_or_insert_with(Instant::now);
            std::thread::sleep(plan.delay);
            match read.frame {
                Err(sentence) => bench.refuse(sentence),
                Ok(frame) if workers == 0 => {
                    bench.keep(read.index, read.name, frame.taken_ms, Vec::new());
                    let _ = bench.used.try_send(frame);
                }
                Ok(frame) => {
                    let full = Instant::now();
                    let item = Item { index: read.index, name: read.name.to_owned(), frame };
                    // A worker that has ended before the queue has failed, and tells why.
                    if queue.send(item).is_err() || hands.iter().any(|hand| hand.is_finished()) {
                        return ControlFlow::Break(());
                    }
                    reader_waited += full.elapsed();
                }
            }
            ControlFlow::Continue(())
        });
        drop(queue);
        let ended = hands.into_iter().map(|hand| match hand.join() {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.fold(passed, |passed, ended| passed.and_then(|passed| ended.map(|()| passed)))
    })?;
    let seconds = began.map_or(0.0, |began| began.elapsed().as_secs_f64());
    let waited = bench.waited.into_inner().unwrap_or_else(PoisonError::into_inner);
    let part = |waited: Duration, of: f64| if of > 0.0 { (waited.as_secs_f64() / of).min(1.0) } else { 0.0 };
    let mut seen = bench.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    seen.sort_by_key(|seen| seen.index);
    Ok(Pass {
        seen,
        refused: bench.refused.into_inner().unwrap_or_else(PoisonError::into_inner),
        passed,
        seconds,
        reader_waited: part(reader_waited, seconds),
        workers_waited: part(waited, seconds * workers as f64),
    })
}

impl Bench<'_> {
    /// One worker, until the queue has ended. A frame that the detector refuses is told; a runtime that fails ends it.
    fn work(&self, detector: &mut Detector, queue: &Mutex<Receiver<Item>>) -> Result<(), Failure> {
        let mut found = Vec::new();
        let mut first = true;
        loop {
            let empty = Instant::now();
            let next = lock(queue).recv();
            // Before the first frame there is nothing to wait for yet.
            if !std::mem::take(&mut first) {
                *lock(&self.waited) += empty.elapsed();
            }
            let Ok(Item { index, name, mut frame }) = next else { return Ok(()) };
            self.plan.degradation.apply(&mut frame, self.plan.seed, index as u64);
            match detector.detect(&frame, &mut found) {
                Ok(_) => self.keep(index, &name, frame.taken_ms, found.clone()),
                Err(DetectError::Frame(why)) => self.refuse(format!("frame {index} {name}: {why}")),
                Err(error) => return Err(Failure::new(Exit::Runtime, error.to_string())),
            }
            // Where nobody wants the buffer back, it is let go.
            let _ = self.used.try_send(frame);
        }
    }

    fn keep(&self, index: usize, name: &str, taken_ms: u64, found: Vec<Detection>) {
        lock(&self.seen).push(Seen { index, name: name.to_owned(), taken_ms, found });
        self.progress.tick();
    }

    fn refuse(&self, sentence: String) {
        tracing::error!("{sentence}; it is left out");
        lock(&self.refused).push(sentence);
        self.progress.tick();
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that is done under these locks can leave them half changed.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells now and then how far a pass is.
struct Progress<'a> {
    plan: &'a Plan<'a>,
    done: AtomicUsize,
    began: Instant,
    told: Mutex<Instant>,
}

impl<'a> Progress<'a> {
    fn new(plan: &'a Plan<'a>) -> Self {
        let began = Instant::now();
        Progress { plan, done: AtomicUsize::new(0), began, told: Mutex::new(began) }
    }

    fn tick(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let mut told = lock(&self.told);
        if told.elapsed() < PROGRESS_EVERY {
            return;
        }
        *told = Instant::now();
        let all = self.plan.source.names().map(<[_]>::len);
        let of = match all.into_iter().chain(self.plan.frames_max).min() {
            Some(all) => format!(" of {all}"),
            None => String::new(),
        };
        let fps = done as f64 / self.began.elapsed().as_secs_f64();
        tracing::info!("{}: {done}{of} frames, {fps:.1} a second", self.plan.what);
    }
}
