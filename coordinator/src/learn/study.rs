//! The thread that learns: it runs the learner over its log, many messages for each wait for the disk, and does what a person ordered
//! through the command line. What it says goes to the coordinator's task, and only after it is durable. It decides nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::learn::view::Learning;
use tokio::sync::mpsc;

use super::learner::{Effect, Input, Learner, Order, Release, Terms};
use super::log::Log;
use super::record::{Record, bytes_of};

/// Messages that wait to be learned from; more are refused, and said again by whoever said them.
pub const INPUTS_MAX: usize = 256;
/// Messages for one wait for the disk.
const COMMIT_MAX: usize = 64;
/// Answers that wait for the coordinator's task.
const EFFECTS_MAX: usize = 1024;
/// How often the command line's orders are looked for, and the view is made.
const LOOK: Duration = Duration::from_secs(1);
/// How soon a disk that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// A log of so many bytes more than its beginning begins anew.
const LOG_GROWTH_MAX: u64 = 16 * 1024 * 1024;

/// The coordinator's end of it.
pub struct Study {
    inputs: SyncSender<Input>,
}

impl Study {
    /// Hands something over; false where too much waits.
    pub fn hand(&self, input: Input) -> bool {
        self.inputs.try_send(input).is_ok()
    }
}

/// The folder of learning below a data directory.
pub fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("learn")
}

/// Begins to learn where the log ends. `clock` gives the time.
pub fn begin(
    terms: Terms,
    data_dir: &Path,
    clock: impl Fn() -> Now + Send + 'static,
) -> io::Result<(Study, mpsc::Receiver<Effect>)> {
    let folder = folder(data_dir);
    let (log, learner) = open(&terms, &folder)?;
    let (inputs, orders) = sync_channel(INPUTS_MAX);
    let (tell, told) = mpsc::channel(EFFECTS_MAX);
    let desk = Desk { terms, folder, log, learner, clock: Box::new(clock), shown: None, tell };
    std::thread::Builder::new().name("learn".into()).spawn(move || desk.run(&orders))?;
    Ok((Study { inputs }, told))
}

fn open(terms: &Terms, folder: &Path) -> io::Result<(Log, Learner)> {
    let path = folder.join(format!("{}.log", terms.lineage.id()));
    let (log, found) = Log::open(&path)?;
    if found.torn_bytes > 0 {
        tracing::warn!("{} bytes at the end of {} were no record, and are cut off", found.torn_bytes, path.display());
    }
    let records: Result<Vec<Record>, _> = found.records.iter().map(|bytes| codec::decode(bytes)).collect();
    let records = records.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    let learner = Learner::recover(terms.clone(), &records);
    tracing::info!("learning {}: version {}, {} records", learner.lineage(), learner.version(), records.len());
    Ok((log, learner))
}

struct Desk {
    terms: Terms,
    folder: PathBuf,
    log: Log,
    learner: Learner,
    clock: Box<dyn Fn() -> Now + Send>,
    /// What the command line can read now, but for its time.
    shown: Option<Learning>,
    tell: mpsc::Sender<Effect>,
}

impl Desk {
    /// Until nobody hands anything over any more.
    fn run(mut self, inputs: &Receiver<Input>) {
        let mut begun_bytes = self.log.bytes();
        let mut looked: Option<Instant> = None;
        loop {
            let now_ms = (self.clock)().mono_ms;
            let wakeup = self.learner.next_wakeup().map(|at_ms| Duration::from_millis(at_ms.saturating_sub(now_ms)));
            let first = match inputs.recv_timeout(wakeup.unwrap_or(LOOK).min(LOOK)) {
                Ok(input) => Some(input),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let more = std::iter::from_fn(|| inputs.try_recv().ok());
            let mut work: Vec<Input> = first.into_iter().chain(more).take(COMMIT_MAX).collect();
            let look = looked.is_none_or(|at| at.elapsed() >= LOOK);
            if look {
                looked = Some(Instant::now());
                work.extend(self.ordered().map(Input::Order));
            }
            work.push(Input::Tick);
            let mut effects = Vec::new();
            for input in work {
                self.learner.step((self.clock)(), input, &mut effects);
            }
            if look {
                effects.push(Effect::View(self.learner.view((self.clock)())));
            }
            if !self.perform(effects) {
                return;
            }
            if self.log.bytes() > begun_bytes + LOG_GROWTH_MAX {
                let records: Vec<Vec<u8>> = self.learner.snapshot().iter().map(encoded).collect();
                match self.log.begin_anew(&records) {
                    Ok(()) => begun_bytes = self.log.bytes(),
                    Err(error) => tracing::error!("the log of learning cannot begin anew: {error}; check the disk"),
                }
            }
        }
    }

    /// First the log, then everything else. False where nobody listens any more.
    fn perform(&mut self, effects: Vec<Effect>) -> bool {
        let logged = |effect: &Effect| if let Effect::Log(record) = effect { Some(encoded(record)) } else { None };
        let records: Vec<Vec<u8>> = effects.iter().filter_map(logged).collect();
        if let Err(error) = self.log.append(&records) {
            tracing::error!(
                "the log of learning cannot be written: {error}; nothing is learned or acknowledged until it can"
            );
            self.start_over();
            return true;
        }
        for effect in effects {
            match &effect {
                Effect::Log(_) => continue,
                Effect::Release(release) => self.lay_out(release),
                Effect::View(view) => self.show(view),
                _ => {}
            }
            if self.tell.blocking_send(effect).is_err() {
                return false;
            }
        }
        true
    }

    /// What is in memory may not be on the disk: go on with what is.
    fn start_over(&mut self) {
        loop {
            std::thread::sleep(RETRY);
            match open(&self.terms, &self.folder) {
                Ok((log, learner)) => {
                    (self.log, self.learner) = (log, learner);
                    return;
                }
                Err(error) => tracing::error!("the log of learning cannot be opened: {error}"),
            }
            if self.tell.is_closed() {
                return;
            }
        }
    }

    /// Lays a head out for whoever makes signed releases of it: its numbers as floats, the lowest byte first.
    fn lay_out(&self, release: &Release) {
        let name = format!("{}-{}.head", release.lineage.id(), release.version);
        match std::fs::write(self.folder.join(&name), bytes_of(&release.head)) {
            Ok(()) => tracing::info!("head {name} is fit to be released"),
            Err(error) => tracing::error!("head {name} cannot be laid out: {error}"),
        }
    }

    /// For the command line. It is no record: what a crash takes of it is written anew.
    fn show(&mut self, view: &Learning) {
        let untimed = Learning { time: 0.0, ..view.clone() };
        if self.shown.as_ref() == Some(&untimed) {
            return;
        }
        let (path, making) = (self.folder.join(STATUS), self.folder.join("status.making"));
        let bytes = serde_json::to_vec_pretty(view).expect("a view has text keys only");
        match std::fs::write(&making, bytes).and_then(|()| std::fs::rename(&making, &path)) {
            Ok(()) => self.shown = Some(untimed),
            Err(error) => tracing::error!("{} cannot be written: {error}", path.display()),
        }
    }

    /// What the command line left here. It is taken away before it is done: done twice, a revert would go back two.
    fn ordered(&self) -> Option<Order> {
        let path = self.folder.join(ORDER);
        let bytes = std::fs::read(&path).ok()?;
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::error!("{} cannot be removed: {error}; it is not done", path.display());
            return None;
        }
        match serde_json::from_slice(&bytes) {
            Ok(order) => Some(order),
            Err(error) => {
                tracing::error!("{} is no order: {error}", path.display());
                None
            }
        }
    }
}

/// What the learner shows, for `picket-coordinator learn status`.
pub const STATUS: &str = "status.json";
/// What a person orders.
pub const ORDER: &str = "order.json";

fn encoded(record: &Record) -> Vec<u8> {
    codec::encode(record).expect("a head's bounds are below a record's")
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::ids::NodeId;
    use picket_shared::learn::lineage::{HeadShape, Lineage};
    use picket_shared::learn::message::{HeadUpdate, LearnAck};
    use picket_shared::learn::packed::Packed;

    fn terms() -> Terms {
        let lineage = Lineage { fleet_epoch: 1, backbone: "cd".repeat(32), shape: HeadShape::logistic(3) };
        Terms { lineage, rate: 0.5, trusted: false }
    }

    fn clock() -> impl Fn() -> Now + Send + 'static {
        let begun = Instant::now();
        move || Now { mono_ms: begun.elapsed().as_millis() as u64, unix_ms: 1_800_000_000_000 }
    }

    fn said(n: usize, seq: u64) -> Input {
        let change = Packed::of(&[0.5, 0.25, 0.0, 0.1], 4).unwrap();
        let lineage = terms().lineage.id();
        let update = HeadUpdate {
            lineage,
            epoch: 1,
            seq,
            base: 0,
            samples: 9,
            change,
            loss_before: 0.7,
            loss_after: 0.6,
            crc: 0,
        };
        Input::Update(NodeId::new(format!("n{n}")).unwrap(), codec::encode(&update.closed()).unwrap())
    }

    fn wait<T>(told: &mut mpsc::Receiver<Effect>, mut find: impl FnMut(&Effect) -> Option<T>) -> T {
        loop {
            let effect = told.blocking_recv().expect("the thread lives");
            if let Some(found) = find(&effect) {
                return found;
            }
        }
    }

    /// Nobody takes the ack, so that whoever says first and writes then never comes to write.
    #[test]
    fn what_is_said_was_written_before() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        let (log, learner) = open(&terms(), &folder).unwrap();
        let ((tell, mut told), clock) = (mpsc::channel(1), Box::new(clock()));
        let mut desk = Desk { terms: terms(), folder, log, learner, clock, shown: None, tell };
        let Input::Update(node, payload) = said(1, 7) else { panic!() };
        let record = Record::Update { node: node.clone(), update: codec::decode(&payload).unwrap() };
        let lineage = terms().lineage.id();
        let ack = Effect::Ack(node, LearnAck { lineage, epoch: 1, seq: 7, samples_epoch: 0, samples: 0 });
        let path = desk.folder.join(format!("{lineage}.log"));
        let working = {
            let record = record.clone();
            std::thread::spawn(move || desk.perform(vec![ack.clone(), ack, Effect::Log(record)]))
        };
        let until = Instant::now() + Duration::from_secs(20);
        let written = || picket_shared::log::parse(&std::fs::read(&path).unwrap()).records;
        while written().is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(written(), [encoded(&record)]);
        assert!(matches!(told.blocking_recv(), Some(Effect::Ack(..))));
        assert!(matches!(told.blocking_recv(), Some(Effect::Ack(..))));
        assert!(working.join().unwrap());
    }

    #[test]
    fn what_was_acknowledged_is_there_after_the_thread_is_gone_and_orders_are_done_once() {
        let dir = tempfile::tempdir().unwrap();
        let version = {
            let (study, mut told) = begin(terms(), dir.path(), clock()).unwrap();
            (0..3).for_each(|n| assert!(study.hand(said(n, 7))));
            let (mut acked, mut version) = (0, 0);
            wait(&mut told, |effect| {
                match effect {
                    Effect::Ack(_, ack) => acked += u32::from(ack.seq == 7),
                    Effect::Full(full) => version = full.version,
                    _ => {}
                }
                (acked == 3 && version > 0).then_some(())
            });
            picket_shared::keyfile::write_open(&folder(dir.path()).join(ORDER), br#""freeze""#).unwrap();
            wait(&mut told, |effect| matches!(effect, Effect::Full(full) if full.frozen).then_some(()));
            assert!(!folder(dir.path()).join(ORDER).exists());
            version
        };
        let (_, learner) = open(&terms(), &folder(dir.path())).unwrap();
        assert!(learner.version() >= version);
        let view = learner.view(clock()());
        assert_eq!((view.frozen, view.stations.len()), (true, 3));
        let status = std::fs::read(folder(dir.path()).join(STATUS)).unwrap();
        assert!(serde_json::from_slice::<picket_shared::learn::view::Learning>(&status).is_ok());
    }
}
