//! The thread that a teacher looks on: at one frame in a while, at the lowest priority and within a share of one processor. What it
//! says goes to the thread that learns. It decides nothing, and nobody waits for it: without it everything else goes on.
//!
//! The frame path copies a frame only after the teacher has asked for one, so there is never more than one of them here.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fs, io};

use picket_shared::crypto::sha256_hex;
use serde::Serialize;

use super::miner;
use super::share::{LOOK, Share, sleep_until};
use super::tap::Job;
use super::teacher::{Config, Terms, teach};
use crate::detect::{self, Backbone, DetectError, Detector};
use crate::frame::{Detection, Frame};

/// Failures of the runtime one after the other, after which the teacher is given up.
const FAILURES_MAX: u32 = 3;
/// Starts that ended before the teacher had looked at anything, after which it is not loaded again.
const ATTEMPTS_MAX: u32 = 2;
/// How long the end waits for a frame that the teacher is looking at. A model may take longer, and then nobody waits.
const END_MAX: Duration = Duration::from_secs(5);
/// Counts the starts; below the folder of learning, while the teacher has not looked at anything.
const ATTEMPTS: &str = "teacher.attempts";

/// What people see of a teacher. Counts are of this run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    /// The first digits of its model's SHA-256; nothing before it is loaded.
    pub model: Option<String>,
    /// Frames that it looked at.
    pub frames: u64,
    /// Times that it should have looked, and was still at the frame before or at rest.
    pub frames_missed: u64,
    /// Frames that it could not look at.
    pub frames_refused: u64,
    /// Candidates that it took for a person.
    pub people: u64,
    /// And for nobody.
    pub nobody: u64,
    /// Labels that the thread that learns had no room for.
    pub passed_over: u64,
    /// Its processor time, in milliseconds.
    pub cpu_ms: u64,
    /// Why there is none, in a sentence.
    pub problem: Option<String>,
}

/// A frame that both have looked at: the device already, the teacher next.
pub(super) struct Shown {
    camera: usize,
    backbone: Arc<Backbone>,
    picture: Frame,
    frame: miner::Frame,
}

/// Where the frame path hands over a frame when the teacher asks for one. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Lectern {
    asks: Arc<AtomicBool>,
    frames: SyncSender<Box<Shown>>,
}

impl Lectern {
    /// Hands over a frame if the teacher asks for one, and if there is anything in it that could be said something of.
    pub(super) fn offer(&self, camera: usize, backbone: &Arc<Backbone>, picture: &Frame, frame: &miner::Frame) {
        if frame.seen.is_empty() || !self.asks.load(Ordering::Relaxed) || !self.asks.swap(false, Ordering::AcqRel) {
            return;
        }
        let (backbone, picture, frame) = (Arc::clone(backbone), picture.clone(), frame.clone());
        // There is room, since it has asked; or it has ended meanwhile.
        let _ = self.frames.try_send(Box::new(Shown { camera, backbone, picture, frame }));
    }
}

#[cfg(test)]
impl Lectern {
    /// One whose teacher asks for the next frame as soon as it has one, and what it is handed.
    pub(super) fn always_asked() -> (Lectern, impl FnMut() -> Option<Frame>) {
        let (frames, given) = sync_channel(1);
        let asks = Arc::new(AtomicBool::new(true));
        let lectern = Lectern { asks: Arc::clone(&asks), frames };
        let next = move || {
            let shown: Option<Box<Shown>> = given.try_recv().ok();
            asks.store(true, Ordering::Relaxed);
            shown.map(|shown| shown.picture)
        };
        (lectern, next)
    }
}

/// The thread, as seen from outside. It ends with this.
pub(super) struct Teaching {
    lectern: Lectern,
    status: Arc<Mutex<Status>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Teaching {
    /// Loads the teacher on its thread, so that nobody waits for that either. `own` is the device's own detector, `folder` that of
    /// learning, and what it says goes to `jobs`.
    pub(super) fn start(
        config: &Config,
        own: &detect::Config,
        folder: PathBuf,
        jobs: SyncSender<Job>,
    ) -> io::Result<Teaching> {
        let (frames, given) = sync_channel(1);
        let lectern = Lectern { asks: Arc::default(), frames };
        let (status, stop) = (Arc::<Mutex<Status>>::default(), Arc::<AtomicBool>::default());
        let desk = Desk {
            detector: config.detector(own),
            terms: config.terms(),
            every: Duration::from_secs(config.every_s.into()),
            cpu_percent: config.cpu_percent,
            attempts: folder.join(ATTEMPTS),
            asks: Arc::clone(&lectern.asks),
            given,
            jobs,
            status: Arc::clone(&status),
            stop: Arc::clone(&stop),
        };
        let work = move || {
            if let Err(problem) = desk.run() {
                tracing::error!("{problem}");
                lock(&desk.status).problem = Some(problem);
            }
        };
        let thread = Some(std::thread::Builder::new().name("teacher".into()).spawn(work)?);
        Ok(Teaching { lectern, status, stop, thread })
    }

    /// Where the frame path hands over frames.
    pub(super) fn lectern(&self) -> Lectern {
        self.lectern.clone()
    }

    /// What people see.
    pub(super) fn status(&self) -> Arc<Mutex<Status>> {
        Arc::clone(&self.status)
    }

    /// What is wrong, in a sentence.
    pub(super) fn problem(&self) -> Option<String> {
        let told = lock(&self.status).problem.clone();
        // It ends with this, or it says why.
        let fell = told.is_none() && self.thread.as_ref().is_some_and(JoinHandle::is_finished);
        let fault = "the teacher ended by a fault of its own, and learning goes on without it; see the log, and restart the agent";
        told.or(fell.then(|| fault.to_owned()))
    }
}

impl Drop for Teaching {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + END_MAX;
        sleep_until(deadline, || thread.is_finished());
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}

/// What is in there.
pub(super) fn lock(status: &Mutex<Status>) -> MutexGuard<'_, Status> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Desk {
    detector: detect::Config,
    terms: Terms,
    every: Duration,
    cpu_percent: f32,
    attempts: PathBuf,
    asks: Arc<AtomicBool>,
    given: Receiver<Box<Shown>>,
    jobs: SyncSender<Job>,
    status: Arc<Mutex<Status>>,
    stop: Arc<AtomicBool>,
}

impl Desk {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Until the end, or until the teacher is given up; then the error says why.
    fn run(&self) -> Result<(), String> {
        let mut share = Share::begin(self.cpu_percent);
        let without = "and learning goes on without it";
        let absent = |why: String| format!("the teacher cannot be had, {without}: {why}");
        let attempt = Attempt::begin(&self.attempts, &self.detector).map_err(absent)?;
        let loaded = Detector::load(&self.detector).map_err(|failure| absent(failure.sentence));
        if loaded.is_err() || self.stopped() {
            attempt.end();
        }
        let mut detector = loaded?;
        lock(&self.status).model = Some(detector.twin().model);
        let taught = self.look(&mut share, &attempt, |picture, found| detector.detect(picture, found).map(|_| ()));
        attempt.end();
        taught.map_err(|error| format!("the teacher is given up until the next start, {without}: {error}"))
    }

    /// Looks at frames until the end, or until it has failed too often.
    fn look(
        &self,
        share: &mut Share,
        attempt: &Attempt,
        mut detect: impl FnMut(&Frame, &mut Vec<Detection>) -> Result<(), DetectError>,
    ) -> Result<(), DetectError> {
        let (mut failures, mut due, mut found) = (0, Instant::now(), Vec::new());
        loop {
            lock(&self.status).cpu_ms = share.taken().as_millis() as u64;
            share.rest(|| self.stopped());
            due = self.catch_up(due);
            sleep_until(due, || self.stopped());
            let Some(shown) = self.ask() else { return Ok(()) };
            due = Instant::now() + self.every;
            match detect(&shown.picture, &mut found) {
                Ok(()) => {
                    (failures, _) = (0, attempt.end());
                    self.say(*shown, &found);
                }
                Err(error) => {
                    lock(&self.status).frames_refused += 1;
                    failures += u32::from(matches!(error, DetectError::Run(_)));
                    if failures >= FAILURES_MAX {
                        return Err(error);
                    }
                    tracing::warn!("the teacher did not look at a frame: {error}");
                }
            }
        }
    }

    /// The next frame is due now at the earliest; what was due long before is counted.
    fn catch_up(&self, due: Instant) -> Instant {
        let late = Instant::now().saturating_duration_since(due);
        lock(&self.status).frames_missed += (late.as_secs_f64() / self.every.as_secs_f64()) as u64;
        due + late
    }

    /// Asks for a frame and waits for it; nothing at the end.
    fn ask(&self) -> Option<Box<Shown>> {
        if self.stopped() {
            return None;
        }
        self.asks.store(true, Ordering::Release);
        let shown = loop {
            match self.given.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) if !self.stopped() => {}
                shown => break shown.ok(),
            }
        };
        self.asks.store(false, Ordering::Relaxed);
        shown
    }

    /// Hands over what follows from what the teacher detected.
    fn say(&self, Shown { camera, backbone, frame, .. }: Shown, found: &[Detection]) {
        let taught = teach(&frame, found, self.terms);
        let people = taught.iter().filter(|taught| taught.person).count() as u64;
        let all = taught.len() as u64;
        let full = all > 0 && self.jobs.try_send(Job::Taught(camera, backbone, taught)).is_err();
        let mut status = lock(&self.status);
        status.frames += 1;
        status.people += people;
        status.nobody += all - people;
        status.passed_over += if full { all } else { 0 };
    }
}

/// A start whose teacher has not looked at anything yet. One that kills the agent must not do so for ever: this is counted on the disk
/// before the teacher is loaded.
struct Attempt<'a>(&'a Path);

impl<'a> Attempt<'a> {
    /// Counts this start; the error is why there may be none.
    fn begin(file: &'a Path, detector: &detect::Config) -> Result<Attempt<'a>, String> {
        let model = sha256_hex(&detect::model_bytes(detector).map_err(|failure| failure.sentence)?);
        let before = fs::read_to_string(file).unwrap_or_default();
        // Of another model it says nothing.
        let of_model = before.trim().split_once(' ').filter(|(of, _)| *of == model);
        let attempts: u32 = of_model.and_then(|(_, attempts)| attempts.parse().ok()).unwrap_or(0);
        let name = file.display();
        if attempts >= ATTEMPTS_MAX {
            return Err(format!(
                "the agent ended {attempts} times before {} had looked at anything; choose a smaller one, or remove {name} to try it \
                 again",
                detector.model
            ));
        }
        let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
        let counted = folder.and_then(|()| fs::write(file, format!("{model} {}\n", attempts + 1)));
        counted.map_err(|error| format!("{name} cannot be written ({error}); check its owner and the disk"))?;
        Ok(Attempt(file))
    }

    /// It was survived.
    fn end(&self) {
        let _ = fs::remove_file(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::preprocess::FrameError;
    use crate::frame::Area;
    use crate::learn::judge::Seen;

    fn lectern() -> (Lectern, Receiver<Box<Shown>>) {
        let (frames, given) = sync_channel(1);
        (Lectern { asks: Arc::default(), frames }, given)
    }

    fn offer(lectern: &Lectern, number: u64, seen: usize) {
        let backbone = Arc::new(Backbone { sha256: "ab".repeat(32), features: 2 });
        let picture = Frame { taken_ms: number, width: 1, height: 1, rgb: vec![7; 3] };
        let seen = vec![Seen { area: Area::default(), score: 0.5 }; seen];
        let features = vec![0.0; 2 * seen.len()];
        lectern.offer(
            3,
            &backbone,
            &picture,
            &miner::Frame { number, taken_ms: number, seen, features, tracks: vec![] },
        );
    }

    #[test]
    fn a_frame_is_handed_over_only_when_it_is_asked_for_and_something_is_in_it() {
        let (lectern, given) = lectern();
        let taken = || given.try_recv().map(|shown| shown.frame.number).ok();
        offer(&lectern, 1, 1);
        assert_eq!(taken(), None, "nobody asked");
        lectern.asks.store(true, Ordering::Relaxed);
        offer(&lectern, 2, 0);
        assert_eq!(taken(), None, "nothing could be said of it");
        (3..9).for_each(|number| offer(&lectern, number, 1));
        assert_eq!((taken(), taken()), (Some(3), None), "one was asked for");
        assert!(!lectern.asks.load(Ordering::Relaxed), "no other is copied");
        // With nobody there it costs nothing, and hurts nobody.
        drop(given);
        lectern.asks.store(true, Ordering::Relaxed);
        offer(&lectern, 9, 1);
    }

    /// How often a teacher looked whose looks come out like this, and what it said in the end.
    fn looked(outcomes: &[Result<(), DetectError>]) -> (usize, Status, Result<(), DetectError>) {
        let dir = tempfile::tempdir().unwrap();
        let (lectern, given) = lectern();
        let (jobs, _learned) = sync_channel(outcomes.len());
        let (every, stop) = (Duration::from_millis(1), Arc::<AtomicBool>::default());
        let (detector, terms) = (detect::Config::default(), Terms { sure: 0.6, unsure: 0.15 });
        let (asks, status, attempts) =
            (Arc::clone(&lectern.asks), Arc::<Mutex<Status>>::default(), dir.path().join(ATTEMPTS));
        let (cpu_percent, ended, told) = (100.0, Arc::clone(&stop), Arc::clone(&status));
        let desk = Desk { detector, terms, every, cpu_percent, attempts, asks, given, jobs, status, stop };
        let mut number = 0;
        let detect = |_: &Frame, found: &mut Vec<Detection>| {
            found.clear();
            number += 1;
            ended.store(number == outcomes.len(), Ordering::Relaxed);
            match &outcomes[number - 1] {
                Ok(()) => Ok(()),
                Err(DetectError::Run(why)) => Err(DetectError::Run(why.clone())),
                Err(_) => Err(DetectError::Frame(FrameError::Size(0, 0))),
            }
        };
        let end = std::thread::scope(|scope| {
            let teacher = scope.spawn(move || {
                let attempt = Attempt::begin(&desk.attempts, &desk.detector).unwrap();
                desk.look(&mut Share::begin(desk.cpu_percent), &attempt, detect)
            });
            while !teacher.is_finished() {
                offer(&lectern, 1, 1);
                std::thread::yield_now();
            }
            teacher.join().unwrap()
        });
        let status = lock(&told).clone();
        (number, status, end)
    }

    #[test]
    fn a_teacher_that_fails_again_and_again_is_given_up_and_one_that_recovers_is_not() {
        let run = || Err(DetectError::Run("out of memory".into()));
        let bad = || Err(DetectError::Frame(FrameError::Size(0, 0)));
        let (number, status, end) = looked(&[run(), run(), run(), Ok(())]);
        assert!(end.is_err_and(|error| error.to_string().contains("out of memory")));
        assert_eq!((number, status.frames, status.frames_refused), (3, 0, 3));
        let (number, status, end) = looked(&[run(), run(), Ok(()), run(), run(), bad(), bad(), bad(), Ok(())]);
        assert!(end.is_ok());
        // One candidate in each, and the teacher sees nothing there.
        assert_eq!((number, status.frames, status.frames_refused, status.nobody), (9, 2, 7, 2));
    }

    #[test]
    fn a_teacher_that_ends_the_agent_is_not_loaded_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("learn").join(ATTEMPTS);
        let builtin = detect::Config::default();
        // Whoever is killed ends nothing.
        (0..ATTEMPTS_MAX).for_each(|_| assert!(Attempt::begin(&file, &builtin).is_ok()));
        let refused = Attempt::begin(&file, &builtin).map(|_| ()).unwrap_err();
        assert!(refused.contains("ended 2 times") && refused.contains("teacher.attempts"), "{refused}");
        // Another model is another matter, and one that was survived counts no more.
        let other = dir.path().join("other.onnx");
        fs::write(&other, b"another").unwrap();
        let other = detect::Config { model: other.display().to_string(), ..builtin.clone() };
        Attempt::begin(&file, &other).map(|attempt| attempt.end()).unwrap();
        assert!(!file.exists());
        assert!(Attempt::begin(&file, &builtin).is_ok());
    }

    #[test]
    fn a_teacher_whose_thread_fell_says_so() {
        let thread = std::thread::spawn(|| panic!("on purpose"));
        let (stop, status) = (Arc::default(), Arc::default());
        let teaching = Teaching { lectern: lectern().0, status, stop, thread: Some(thread) };
        let deadline = Instant::now() + Duration::from_secs(60);
        while teaching.problem().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(teaching.problem().is_some_and(|problem| problem.contains("fault of its own")));
    }
}
