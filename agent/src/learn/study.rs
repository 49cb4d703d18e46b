//! The thread that learns: it runs the student over its log, at the lowest priority and within its share of one processor. What it
//! says goes to the courier, and only after it is durable. It decides nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use picket_shared::calendar::unix_ms;
use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::ids::{Boot, NodeId};
use picket_shared::log::Log;
use picket_shared::model::{LearnedManifest, LearnedState, Learns};
use picket_shared::topics::Topic;
use tokio::sync::mpsc;

use super::Config;
use super::judge::Bench;
use super::mailbox::Mailbox;
use super::record::Record;
use super::share::{LOOK, Share};
use super::status::Status;
use super::student::{Effect, Input, Student, Terms};
use super::tap::{Job, Taps};
use super::teaching::{self, Teaching};
use crate::detect::{self, Backbone};

/// Frames, and what a teacher says of them, that wait to be learned from.
pub const JOBS_MAX: usize = 32;
/// What may wait for the courier; what there is no room for is said again later.
const WORDS_MAX: usize = 8;
/// How soon a disk that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often the status is written, where it changed.
const SHOW: Duration = Duration::from_secs(1);
/// A log of so many bytes more than its beginning begins anew.
const LOG_GROWTH_MAX: u64 = 4 * 1024 * 1024;
/// Networks whose examples are kept; those of the one that was learned over longest ago go.
const LOGS_MAX: usize = 4;

/// What the status is called, below the folder of learning.
pub const STATUS: &str = "status.json";

/// The folder of learning below a data directory.
pub fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("learn")
}

/// The thread, as seen from outside. It ends with this.
pub struct Study {
    taps: Taps,
    mailbox: Mailbox,
    /// What is to be said, in this order.
    pub words: mpsc::Receiver<(Topic, Vec<u8>)>,
    shown: Arc<Mutex<Shown>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// The second detector that is learned from, where there is one.
    teaching: Option<Teaching>,
}

#[derive(Default)]
struct Shown {
    status: Status,
    problem: Option<String>,
    learned: Option<(LearnedState, Learns)>,
}

impl Study {
    /// Goes on where the log of this network ends. Without a network that shows what it saw, it waits for one. `detector` is the
    /// device's own, which a teacher runs beside.
    pub fn start(
        config: &Config,
        detector: &detect::Config,
        (node, boot): (NodeId, Boot),
        data_dir: &Path,
        backbone: Option<Arc<Backbone>>,
    ) -> io::Result<Study> {
        let terms = Terms {
            node,
            boot,
            rate: config.rate,
            held_out_percent: config.held_out_percent,
            held_out_min: config.held_out_min,
            confirmed_leave: config.confirmed_leave,
            seed: fastrand::u64(..),
        };
        let ((jobs, given), (say, words)) = (sync_channel(JOBS_MAX), mpsc::channel(WORDS_MAX));
        let teaching = config.teacher.as_ref();
        let teaching = teaching.map(|teacher| Teaching::start(teacher, detector, folder(data_dir), jobs.clone()));
        let teaching = teaching.transpose()?;
        let lectern = teaching.as_ref().map(Teaching::lectern);
        let taps = Taps { bench: Bench::default(), jobs, passed_over: Arc::new(AtomicU64::new(0)), lectern };
        let (shown, stop) = (Arc::<Mutex<Shown>>::default(), Arc::new(AtomicBool::new(false)));
        let mailbox = Mailbox::default();
        let mut desk = Desk {
            terms,
            folder: folder(data_dir),
            begun: Instant::now(),
            work: None,
            bench: taps.bench.clone(),
            mailbox: mailbox.clone(),
            say,
            shown: Arc::clone(&shown),
            stop: Arc::clone(&stop),
            passed_over: Arc::clone(&taps.passed_over),
            online: false,
            teacher: teaching.as_ref().map(Teaching::status),
        };
        if backbone.is_none() {
            let sentence = "learn is enabled, and the model shows nothing to learn from; use the built-in one, or one that \
                            picket-agent model expose made";
            lock(&shown).problem = Some(sentence.into());
        }
        let cpu_percent = config.cpu_percent;
        let work = move || {
            let mut share = Share::begin(cpu_percent);
            if let Some(backbone) = backbone {
                desk.open(backbone);
            }
            desk.run(&given, &mut share);
        };
        let thread = Some(std::thread::Builder::new().name("learn".into()).spawn(work)?);
        Ok(Study { taps, mailbox, words, shown, stop, thread, teaching })
    }

    /// Where the frame path hands over what it saw.
    pub fn taps(&self) -> Taps {
        self.taps.clone()
    }

    /// Hands over what was said to this node.
    pub fn hear(&self, topic: Topic, payload: Vec<u8>) {
        self.mailbox.hear(topic, payload);
    }

    /// Hands over a release that was fetched.
    pub fn release(&self, manifest: Box<LearnedManifest>, file: Vec<u8>) {
        self.mailbox.release(manifest, file);
    }

    /// How it is with released heads, as far as that is durable; nothing before there is a network to learn over.
    pub fn learned(&self) -> Option<(LearnedState, Learns)> {
        lock(&self.shown).learned.clone()
    }

    /// There is a connection, or none.
    pub fn online(&self, online: bool) {
        self.mailbox.online(online);
    }

    /// What is wrong, in a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let own = lock(&self.shown).problem.clone();
        own.into_iter().chain(self.teaching.as_ref().and_then(Teaching::problem)).collect()
    }

    /// What people see.
    pub fn status(&self) -> Status {
        lock(&self.shown).status.clone()
    }
}

impl Drop for Study {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn lock(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The student with its log.
struct Work {
    student: Student,
    log: Log,
    path: PathBuf,
    begun_bytes: u64,
}

struct Desk {
    terms: Terms,
    folder: PathBuf,
    begun: Instant,
    work: Option<Work>,
    bench: Bench,
    mailbox: Mailbox,
    say: mpsc::Sender<(Topic, Vec<u8>)>,
    shown: Arc<Mutex<Shown>>,
    stop: Arc<AtomicBool>,
    passed_over: Arc<AtomicU64>,
    online: bool,
    /// What people see of the teacher, where there is one.
    teacher: Option<Arc<Mutex<teaching::Status>>>,
}

impl Desk {
    fn now(&self) -> Now {
        Now { mono_ms: self.begun.elapsed().as_millis() as u64, unix_ms: unix_ms() }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Begins, or goes on, with a network. A disk that cannot be read is waited for.
    fn open(&mut self, backbone: Arc<Backbone>) {
        // By its first digits: a name that a person can compare with the model's.
        let path = self.folder.join(format!("{}.log", &backbone.sha256[..16.min(backbone.sha256.len())]));
        while !self.stopped() {
            match Log::open(&path) {
                Ok((log, found)) => {
                    if found.torn_bytes > 0 {
                        tracing::warn!(
                            "{} bytes at the end of {} were no record, and are cut off",
                            found.torn_bytes,
                            path.display()
                        );
                    }
                    let records = found.records.iter().map(|bytes| codec::decode::<Record>(bytes));
                    let (records, unreadable): (Vec<_>, Vec<_>) = records.partition(Result::is_ok);
                    if !unreadable.is_empty() {
                        tracing::warn!(
                            "{} records of {} say nothing, and are passed over",
                            unreadable.len(),
                            path.display()
                        );
                    }
                    let records = records.into_iter().flatten().collect();
                    let mut student = Student::recover(self.terms.clone(), backbone, records, self.now());
                    let mut effects = Vec::new();
                    student.begin(&mut effects);
                    student.step(self.now(), Input::Online(self.online), &mut effects);
                    let begun_bytes = log.bytes();
                    forget_others(&self.folder, &path);
                    self.work = Some(Work { student, log, path, begun_bytes });
                    self.perform(effects);
                    // What was said so far was to another network's student, or to none.
                    self.mailbox.again();
                    lock(&self.shown).problem = None;
                    return;
                }
                Err(error) => self.complain(&path, &error),
            }
        }
    }

    /// Waits a moment, too.
    fn complain(&self, path: &Path, error: &io::Error) {
        let sentence = format!(
            "nothing is learned: {} cannot be read or written ({error}); check its owner and the disk",
            path.display()
        );
        if lock(&self.shown).problem.replace(sentence.clone()).as_ref() != Some(&sentence) {
            tracing::error!("{sentence}");
        }
        std::thread::sleep(RETRY);
    }

    /// Until the end.
    fn run(&mut self, jobs: &Receiver<Job>, share: &mut Share) {
        let (mut shown, mut shown_at) = (None, None::<Instant>);
        while !self.stopped() {
            let wakeup_ms = self.work.as_ref().map(|work| work.student.next_wakeup_ms(self.now()));
            let wait = wakeup_ms.map(|at| Duration::from_millis(at.saturating_sub(self.now().mono_ms)));
            let first = match jobs.recv_timeout(wait.unwrap_or(LOOK).min(LOOK)) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let more = std::iter::from_fn(|| jobs.try_recv().ok());
            for job in first.into_iter().chain(more).take(JOBS_MAX).collect::<Vec<_>>() {
                self.take(job);
            }
            // After the frames: it is the student of their network that it is said to.
            for input in self.mailbox.take() {
                if let Input::Online(online) = input {
                    self.online = online;
                }
                self.step(input);
            }
            self.step(Input::Tick);
            self.begin_anew();
            if shown_at.is_none_or(|at| at.elapsed() >= SHOW) {
                shown_at = Some(Instant::now());
                self.show(&mut shown, share.taken());
            }
            // Meanwhile frames go by, and none waits.
            share.rest(|| self.stopped());
        }
        if let Some(work) = &mut self.work {
            let mut effects = Vec::new();
            work.student.finish(&mut effects);
            self.perform(effects);
        }
        self.show(&mut None, share.taken());
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Looked(camera, backbone, frame) => {
                // Another model has taken the frame path over.
                if self.work.as_ref().is_none_or(|work| **work.student.backbone() != *backbone) {
                    self.step_out();
                    self.open(backbone);
                }
                self.step(Input::Looked(camera, *frame));
            }
            Job::Taught(camera, backbone, taught) => self.step(Input::Taught(camera, backbone, taught)),
        }
    }

    /// Leaves what is learned over the network of before, whole.
    fn step_out(&mut self) {
        if let Some(work) = &mut self.work {
            let mut effects = Vec::new();
            work.student.finish(&mut effects);
            self.perform(effects);
        }
        self.work = None;
        lock(&self.shown).learned = None;
        self.bench.seat(None);
    }

    fn step(&mut self, input: Input) {
        let now = self.now();
        let Some(work) = &mut self.work else { return };
        let mut effects = Vec::new();
        work.student.step(now, input, &mut effects);
        self.perform(effects);
    }

    /// In their order: what is to be kept is durable before anything that follows.
    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Keep(records) => {
                    let encode = |record| codec::encode(record).expect("what is learned keeps the bounds of a record");
                    let records: Vec<Vec<u8>> = records.iter().map(encode).collect();
                    if !self.keep(&records) {
                        return;
                    }
                }
                Effect::Say(topic, payload) => drop(self.say.try_send((topic, payload))),
                Effect::Seat(head) => self.bench.seat(Some(head)),
                Effect::Refused(word, sentence) => {
                    let refused = self.work.as_ref().map(|work| work.student.status().refused);
                    let count = refused.and_then(|refused| refused.get(word).copied()).unwrap_or(1);
                    if count.is_power_of_two() {
                        tracing::warn!(word, "refused ({count} so far): {sentence}");
                    }
                }
                Effect::Tell(sentence) => tracing::info!("{sentence}"),
            }
        }
    }

    /// Until the disk takes it; false where the end comes before.
    fn keep(&mut self, records: &[Vec<u8>]) -> bool {
        while let Some(work) = &mut self.work {
            let Err(error) = work.log.append(records) else {
                lock(&self.shown).problem = None;
                return true;
            };
            let path = work.path.clone();
            self.complain(&path, &error);
            if self.stopped() {
                return false;
            }
            // Half of a record may stand there: it is cut off before anything follows it.
            if let (Ok((log, _)), Some(work)) = (Log::open(&path), &mut self.work) {
                work.log = log;
            }
        }
        false
    }

    fn begin_anew(&mut self) {
        let Some(work) = &mut self.work else { return };
        if work.log.bytes() <= work.begun_bytes + LOG_GROWTH_MAX {
            return;
        }
        let encode = |record| codec::encode(record).expect("what is learned keeps the bounds of a record");
        let records: Vec<Vec<u8>> = work.student.snapshot().iter().map(encode).collect();
        match work.log.begin_anew(&records) {
            Ok(()) => work.begun_bytes = work.log.bytes(),
            Err(error) => {
                tracing::error!("{} cannot begin anew: {error}; check the disk", work.path.display());
                // Not at every turn.
                work.begun_bytes = work.log.bytes();
            }
        }
    }

    /// For the command line. It is no record: what a crash takes of it is written anew.
    fn show(&self, shown: &mut Option<Status>, cpu: Duration) {
        let Some(work) = &self.work else { return };
        let status = Status {
            frames_passed_over: self.passed_over.load(Ordering::Relaxed),
            cpu_ms: cpu.as_millis() as u64,
            teacher: self.teacher.as_ref().map(|status| teaching::lock(status).clone()),
            ..work.student.status()
        };
        {
            let mut shown = lock(&self.shown);
            (shown.status, shown.learned) = (status.clone(), work.student.learned());
        }
        let unclocked = Status { cpu_ms: 0, ..status.clone() };
        if shown.as_ref() == Some(&unclocked) {
            return;
        }
        let (path, making) = (self.folder.join(STATUS), self.folder.join("status.making"));
        let bytes = serde_json::to_vec_pretty(&status).expect("a status has text keys only");
        match std::fs::write(&making, bytes).and_then(|()| std::fs::rename(&making, &path)) {
            Ok(()) => *shown = Some(unclocked),
            Err(error) => tracing::warn!("{} cannot be written: {error}", path.display()),
        }
    }
}

/// Removes the logs of networks that nothing was learned over for longest.
fn forget_others(folder: &Path, current: &Path) {
    let Ok(files) = std::fs::read_dir(folder) else { return };
    let mut logs: Vec<_> = files
        .flatten()
        .map(|file| file.path())
        .filter(|path| path != current && path.extension().is_some_and(|end| end == "log"))
        .filter_map(|path| Some((std::fs::metadata(&path).ok()?.modified().ok()?, path)))
        .collect();
    logs.sort_unstable();
    for (_, path) in logs.iter().rev().skip(LOGS_MAX - 1) {
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!("{} cannot be removed: {error}", path.display());
        }
    }
}

#[cfg(test)]
#[path = "study_tests.rs"]
mod tests;
