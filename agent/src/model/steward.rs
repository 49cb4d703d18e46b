//! Carries out the orders of [`super::Models`] that take time: a thread for the disk, one for each trial, and one for each model
//! that is loaded to run. It keeps their waits away from the frame path and from the network.
//!
//! It decides nothing: what it is told to do it does or says why not, and a disk that refuses the record is tried again until it
//! takes it, because nothing may go on before.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use picket_shared::crypto::Digest;
use picket_shared::keyfile;
use picket_shared::model::decode::{choose, decode};
use picket_shared::model::{Encoding, Trusted};

use super::fetch::Size;
use super::part::{self, Part};
use super::peek::Peeks;
use super::record::{Place, Record, Release, Slot};
use super::shelf::{Shelf, read_bounded};
use super::trial::Trial;
use super::trial::candidate::Task;
use super::{News, Order, Trying, Wanted, What};
use crate::detect::{self, Detector, onnx};
use crate::pipeline::{Change, Swap};

/// After a disk that refused.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What everybody here needs.
struct Common {
    shelf: Shelf,
    /// What the configuration says of the detector.
    factory: detect::Config,
    peeks: Peeks,
    changes: Sender<Change>,
    answer: Box<dyn Fn(News) + Send + Sync>,
    problem: Mutex<Option<String>>,
    /// The agent ends: a disk that refuses is not waited for any more.
    ending: AtomicBool,
}

/// The handle on all of them.
pub struct Steward {
    common: Arc<Common>,
    /// Not bounded by itself: chunks are, by who orders them, and of the rest there is one at a time.
    orders: Option<Sender<Order>>,
    disk: Option<JoinHandle<()>>,
    trial: Option<Trial>,
}

impl Steward {
    /// Starts the disk's thread. `answer` is called from any thread.
    pub fn start(
        shelf: Shelf,
        factory: detect::Config,
        peeks: Peeks,
        changes: Sender<Change>,
        answer: impl Fn(News) + Send + Sync + 'static,
    ) -> io::Result<Steward> {
        let (answer, problem) = (Box::new(answer), Mutex::default());
        let ending = AtomicBool::new(false);
        let common = Arc::new(Common { shelf, factory, peeks, changes, answer, problem, ending });
        let (orders, ordered) = channel();
        let mut work = Work { common: Arc::clone(&common), part: None };
        let disk = std::thread::Builder::new().name("models".into()).spawn(move || work.run(&ordered))?;
        Ok(Steward { common, orders: Some(orders), disk: Some(disk), trial: None })
    }

    /// Carries an order out, or begins to.
    pub fn order(&mut self, order: Order) {
        match order {
            Order::Try(slot, release, active, running) => self.begin_trial(slot, &release, active, running.as_deref()),
            Order::StopTrial => self.trial = None,
            Order::Load(place, release) => self.load(place, release.as_deref()),
            order => {
                let orders = self.orders.as_ref().expect("orders end only when the steward is dropped");
                // The thread ends only after this sender is gone.
                let _ = orders.send(order);
            }
        }
    }

    /// What is wrong with the disk, in a sentence.
    pub fn problem(&self) -> Option<String> {
        self.common.problem().clone()
    }

    fn begin_trial(&mut self, slot: Slot, release: &Release, active: Place, running: Option<&Release>) {
        // One that is on its way to its end must not speak for the next one.
        self.trial = None;
        let common = Arc::clone(&self.common);
        let task = Task {
            candidate: common.shelf.detector(&common.factory, Place::Slot(slot), Some(release)),
            digest: release.manifest.file.sha256.short(),
            active: common.shelf.detector(&common.factory, active, running),
            frames: common.shelf.frames(),
        };
        let (shelf, release) = (common.shelf.clone(), release.clone());
        let ready = move || shelf.check(slot, &release);
        let tell = move |trying| (common.answer)(News::Trial(trying));
        match Trial::start(task, self.common.peeks.trial.clone(), ready, tell) {
            Ok(trial) => self.trial = Some(trial),
            Err(error) => {
                let what = format!("there is no thread for it: {error}");
                (self.common.answer)(News::Trial(Trying::Crashed(what)));
            }
        }
    }

    /// Loads a model for all workers, lets them change to it, and waits until they have.
    fn load(&self, place: Place, release: Option<&Release>) {
        let (common, release) = (Arc::clone(&self.common), release.cloned());
        let work = move || {
            let (gap, first_frame) = channel();
            let loaded = common.load(place, release.as_ref(), gap);
            (common.answer)(loaded.unwrap_or_else(News::NotSwitched));
            // A camera may give no frame for long; a later change, or the end of the frame path, ends this.
            if let Ok(gap) = first_frame.recv() {
                let gap_us = gap.as_micros() as u64;
                tracing::info!(gap_us, "the first frame was looked at with it, so long after the last one before");
                (common.answer)(News::Gap(gap));
            }
        };
        if let Err(error) = std::thread::Builder::new().name("model-load".into()).spawn(work) {
            (self.common.answer)(News::NotSwitched(format!("there is no thread for it: {error}")));
        }
    }
}

/// What was ordered is done to its end.
impl Drop for Steward {
    fn drop(&mut self) {
        self.common.ending.store(true, Ordering::Relaxed);
        self.trial = None;
        self.orders = None;
        let _ = self.disk.take().map(JoinHandle::join);
    }
}

impl Common {
    fn problem(&self) -> MutexGuard<'_, Option<String>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, place: Place, release: Option<&Release>, gap: Sender<Duration>) -> Result<News, String> {
        if let (Place::Slot(slot), Some(release)) = (place, release) {
            self.shelf.check(slot, release)?;
        }
        let config = self.shelf.detector(&self.factory, place, release);
        let detectors = Detector::load_workers(&config).map_err(|failure| failure.sentence)?;
        let twin = detectors[0].twin();
        let (done, swapped) = channel();
        let ended = |_| "the frame path has ended".to_owned();
        self.changes.send(Change::Swap(Swap { detectors, done, gap })).map_err(|_| ended(()))?;
        let swapped = swapped.recv().map_err(|_| ended(()))?;
        // The old ones end here, and not on the frame path.
        drop(swapped.old);
        let (model, took_us) = (&twin.model, swapped.took.as_micros() as u64);
        tracing::info!(model, took_us, "the cameras are watched with another model from here on");
        Ok(News::Switched(Box::new(twin)))
    }
}

/// The disk's thread.
struct Work {
    common: Arc<Common>,
    part: Option<(Part, Encoding)>,
}

impl Work {
    fn run(&mut self, ordered: &Receiver<Order>) {
        while let Ok(order) = ordered.recv() {
            match order {
                Order::Keep(number, record, trusted) => {
                    self.keep(&record, trusted.as_deref());
                    (self.common.answer)(News::Kept(number));
                }
                Order::Open(wanted, avoid) => {
                    let opened = self.open(&wanted, &avoid);
                    (self.common.answer)(opened);
                }
                Order::Write(index, bytes) => {
                    let taken = self.write(index, &bytes);
                    (self.common.answer)(News::Written(index, taken));
                }
                Order::Install(wanted) => {
                    let installed = self.install(&wanted);
                    (self.common.answer)(installed);
                }
                Order::Discard => self.discard(),
                Order::Listen(_) | Order::ListenHead(_) | Order::Learn(..) | Order::Want(_) | Order::Say(_) => {}
                Order::Try(..) | Order::StopTrial | Order::Load(..) => {}
            }
        }
    }

    fn keep(&self, record: &Record, trusted: Option<&Trusted>) {
        while let Err(error) = self.common.shelf.keep(record, trusted) {
            let sentence = format!("{error}; models wait for it");
            tracing::error!("{sentence}");
            *self.common.problem() = Some(sentence);
            if self.common.ending.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(RETRY_AFTER);
        }
        *self.common.problem() = None;
    }

    fn open(&mut self, wanted: &Wanted, avoid: &[Digest]) -> News {
        let Wanted { slot, what, artifact, chunk_bytes, .. } = wanted;
        let shelf = &self.common.shelf;
        // The model is the first of its files.
        let cleared = if *what == What::Model { shelf.clear_beside(*slot) } else { Ok(()) };
        if let Err(error) = cleared {
            return News::Unfit(None, "model_disk", error.to_string());
        }
        if shelf.has(*slot, *what, artifact) || self.copy_from_elsewhere(wanted) {
            return News::Here;
        }
        let has = |digest: &Digest| shelf.model(digest, &self.common.factory).is_some();
        let Some(encoding) = choose(artifact, avoid, has) else {
            let what = "it is offered in no form that this device can use".to_owned();
            return News::Unfit(None, "model_encoding", what);
        };
        let size = Size { length: encoding.length, chunk_bytes: *chunk_bytes };
        match Part::open(&shelf.part(), &encoding.sha256.to_string(), size) {
            Ok(part) => {
                let chunks = part.chunks().clone();
                self.part = Some((part, encoding.clone()));
                News::Opened(encoding.clone(), chunks)
            }
            Err(error) => News::Unfit(None, "model_disk", error.to_string()),
        }
    }

    /// The other slot may have the same head, or the program the same model built in.
    fn copy_from_elsewhere(&self, wanted: &Wanted) -> bool {
        let (shelf, Wanted { slot, what, artifact, .. }) = (&self.common.shelf, wanted);
        let other = Slot::ALL.into_iter().find(|other| other != slot && shelf.has(*other, *what, artifact));
        let bytes = match (other, what) {
            (Some(other), _) => read_bounded(&shelf.path(other, *what), artifact.length).ok(),
            (None, What::Model) => shelf.model(&artifact.sha256, &self.common.factory),
            (None, _) => None,
        };
        let bytes = bytes.filter(|bytes| artifact.admits("file", bytes).is_ok());
        bytes.is_some_and(|bytes| keyfile::write_open(&shelf.path(*slot, *what), &bytes).is_ok())
    }

    fn write(&mut self, index: u32, bytes: &[u8]) -> bool {
        let Some((part, _)) = &mut self.part else { return false };
        let written = part.write(index, bytes);
        *self.common.problem() = written.as_ref().err().map(|error| format!("{error}; the model waits for it"));
        written.is_ok()
    }

    fn install(&mut self, wanted: &Wanted) -> News {
        let Some((part, encoding)) = self.part.take() else {
            return News::Unfit(None, "model_disk", "what was fetched is gone".into());
        };
        let disk = |error: String| News::Unfit(None, "model_disk", error);
        let unfit = |word: &'static str, what: String| News::Unfit(Some(encoding.sha256), word, what);
        let bytes = match read_bounded(part.path(), encoding.length) {
            Ok(bytes) => bytes,
            Err(error) => return disk(format!("{} cannot be read ({error})", part.path().display())),
        };
        if Digest::of(&bytes) != encoding.sha256 {
            self.part = Some((part, encoding));
            return News::Torn;
        }
        let base = |digest: &Digest| self.common.shelf.model(digest, &self.common.factory);
        let file = match decode(&wanted.artifact, &encoding, bytes, base) {
            Ok(file) => file,
            Err(what) => return unfit("model_encoding", format!("what was fetched {what}")),
        };
        if let Err(refusal) = wanted.artifact.admits(name(wanted.what), &file) {
            return unfit(refusal.word(), refusal.to_string());
        }
        if let Err((word, what)) = look_over(wanted, &file) {
            return News::Unfit(None, word, what);
        }
        let to = self.common.shelf.path(wanted.slot, wanted.what);
        // As it came, it need not be written once more.
        let put = if encoding.sha256 == wanted.artifact.sha256 { fs::rename(part.path(), &to).ok() } else { None };
        let put = match put {
            Some(()) => Ok(()),
            None => keyfile::write_open(&to, &file),
        };
        // It makes the new name durable too, because both lie in one folder.
        match put.map_err(|error| error.to_string()).and_then(|()| part.discard().map_err(|error| error.to_string())) {
            Ok(()) => News::Here,
            Err(error) => disk(error),
        }
    }

    fn discard(&mut self) {
        self.part = None;
        if let Err(error) = part::remove(&self.common.shelf.part()) {
            tracing::warn!("{error}");
        }
    }
}

/// Whether a file may be shown to the runtime: looked through before any of it is used.
fn look_over(wanted: &Wanted, file: &[u8]) -> Result<(), (&'static str, String)> {
    match (wanted.what, &wanted.delegation) {
        (What::Model, _) => {
            let scanned = onnx::scan(file).map_err(|error| ("model_onnx", format!("the model {error}")));
            scanned.map(drop)
        }
        (What::Head, Some(delegation)) if !delegation.admits(file) => Err((
            "model_delegation",
            "the head is larger than the release allows, or holds a number that is none".into(),
        )),
        _ => Ok(()),
    }
}

fn name(what: What) -> &'static str {
    match what {
        What::Model => "model",
        What::Head => "head",
        What::Calibration => "calibration table",
        What::Labels => "list of labels",
    }
}

#[cfg(test)]
#[path = "steward_tests.rs"]
mod tests;
