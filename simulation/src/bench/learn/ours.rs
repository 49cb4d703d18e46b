//! Our coordinator's learning under as many updates as it can take: the learner itself, and the thread that runs it over its log.
//!
//! Updates are made before they are timed. Nothing is left out of what is timed: decoding, every check, the rows, the steps at their
//! usual pace, the head that is said, and the log.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use picket_coordinator::learn::learner::{Effect, Input, Learner, Terms};
use picket_coordinator::learn::record::Record;
use picket_coordinator::learn::study;
use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::ids::NodeId;
use picket_shared::learn::lineage::{HeadShape, Lineage};
use picket_shared::learn::message::HeadUpdate;
use picket_shared::learn::packed::Packed;
use picket_shared::learn::sent_max;
use picket_shared::random::SplitMix64;

use super::Rate;

/// Updates that are made at once.
const MADE: usize = 512;
const UNIX_MS: u64 = 1_800_000_000_000;

fn terms(shape: HeadShape) -> Terms {
    Terms { lineage: Lineage { fleet_epoch: 1, backbone: "ab".repeat(32), shape }, rate: 0.5, trusted: false }
}

/// Stations that say in turn what they learned.
struct Stations {
    terms: Terms,
    changes: Vec<(NodeId, Packed)>,
    said: u64,
}

impl Stations {
    fn new(shape: HeadShape, stations: usize) -> anyhow::Result<Stations> {
        let station = |n: usize| -> anyhow::Result<(NodeId, Packed)> {
            let mut random = SplitMix64::stream(1, n as u64, 0);
            let change: Vec<f32> = (0..shape.parameters()).map(|_| (random.normals()[0] * 0.01) as f32).collect();
            Ok((NodeId::new(format!("n{n:03}"))?, Packed::of(&change, sent_max(change.len()))?))
        };
        let changes = (0..stations).map(station).collect::<Result<_, _>>()?;
        Ok(Stations { terms: terms(shape), changes, said: 0 })
    }

    /// The next updates, from this version of the head, as they come from the broker.
    fn say(&mut self, base: u64) -> anyhow::Result<Vec<Input>> {
        let lineage = self.terms.lineage.id();
        let one = |said: u64| {
            let (node, change) = &self.changes[said as usize % self.changes.len()];
            let update = HeadUpdate {
                lineage,
                epoch: 1,
                seq: said / self.changes.len() as u64 + 1,
                base,
                samples: 32,
                change: change.clone(),
                loss_before: 0.7,
                loss_after: 0.6,
                crc: 0,
            };
            Ok(Input::Update(node.clone(), codec::encode(&update.closed())?))
        };
        let updates = (self.said..self.said + MADE as u64).map(one).collect();
        self.said += MADE as u64;
        updates
    }
}

fn bytes_of(updates: &[Input]) -> usize {
    let bytes = updates.iter().map(|update| if let Input::Update(_, payload) = update { payload.len() } else { 0 });
    bytes.sum::<usize>() / updates.len().max(1)
}

/// The learner alone, for so many seconds of its own.
pub(super) fn in_memory(shape: HeadShape, stations: usize, seconds: Duration) -> anyhow::Result<Rate> {
    let mut stations = Stations::new(shape, stations)?;
    let mut learner = Learner::new(stations.terms.clone());
    let (mut wall, mut cpu) = (Duration::ZERO, Duration::ZERO);
    let (mut taken, mut bytes, mut effects) = (0, 0, Vec::new());
    while wall < seconds {
        let updates = stations.say(learner.version())?;
        bytes = bytes_of(&updates);
        let (begun, cpu_begun) = (Instant::now(), thread_cpu());
        for update in updates {
            // Its clock stands still while updates are made.
            let mono_ms = (wall + begun.elapsed()).as_millis() as u64;
            learner.step(Now { mono_ms, unix_ms: UNIX_MS + mono_ms }, update, &mut effects);
            taken += effects.drain(..).filter(|effect| matches!(effect, Effect::Log(Record::Update { .. }))).count();
        }
        wall += begun.elapsed();
        cpu += thread_cpu().saturating_sub(cpu_begun);
    }
    anyhow::ensure!(taken as u64 == stations.said, "{taken} of {} updates were taken", stations.said);
    anyhow::ensure!(learner.version() > 0, "no step was made");
    Ok(Rate { bytes, per_s: taken as f64 / wall.as_secs_f64(), per_core_s: taken as f64 / cpu.as_secs_f64() })
}

/// The thread of the coordinator over a log in this folder: from an update's hand-over to its acknowledgement.
pub(super) fn with_log(shape: HeadShape, stations: usize, seconds: Duration, folder: &Path) -> anyhow::Result<Rate> {
    let dir = tempfile::Builder::new().prefix("picket-learn-").tempdir_in(folder)?;
    let mut stations = Stations::new(shape, stations)?;
    let began = Instant::now();
    let clock = move || {
        let mono_ms = began.elapsed().as_millis() as u64;
        Now { mono_ms, unix_ms: UNIX_MS + mono_ms }
    };
    let before = threads_named("learn")?;
    let (study, mut told) = study::begin(stations.terms.clone(), dir.path(), clock)?;
    let thread = new_thread("learn", &before)?;
    let (heard, hear) = channel();
    std::thread::spawn(move || {
        while let Some(effect) = told.blocking_recv() {
            if matches!(effect, Effect::Ack(..) | Effect::Full(_) | Effect::Delta(_)) && heard.send(effect).is_err() {
                return;
            }
        }
    });
    let (mut wall, mut cpu, mut bytes, mut said) = (Duration::ZERO, Duration::ZERO, 0, Said::default());
    while wall < seconds {
        let updates = stations.say(said.version)?;
        bytes = bytes_of(&updates);
        said.acks = 0;
        let (begun, cpu_begun) = (Instant::now(), cpu_of(thread)?);
        for update in updates {
            // The coordinator's task refuses where this waits.
            while !study.hand(update.clone()) {
                said.hear(&hear)?;
            }
        }
        while said.acks < MADE {
            said.hear(&hear)?;
        }
        wall += begun.elapsed();
        cpu += cpu_of(thread)?.saturating_sub(cpu_begun);
    }
    let taken = stations.said as f64;
    Ok(Rate { bytes, per_s: taken / wall.as_secs_f64(), per_core_s: taken / cpu.as_secs_f64() })
}

/// What the thread said so far.
#[derive(Default)]
struct Said {
    /// Acknowledgements of this time.
    acks: usize,
    /// Of the newest head.
    version: u64,
}

impl Said {
    fn hear(&mut self, hear: &Receiver<Effect>) -> anyhow::Result<()> {
        match hear.recv_timeout(Duration::from_secs(30)).context("an update was not acknowledged")? {
            Effect::Ack(..) => self.acks += 1,
            Effect::Full(full) => self.version = full.version,
            Effect::Delta(delta) => self.version = delta.version,
            _ => {}
        }
        Ok(())
    }
}

/// The processor time that this thread has taken.
fn thread_cpu() -> Duration {
    let taken = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(taken).unwrap_or_default()
}

/// The kernel's numbers of this process's threads of a name.
fn threads_named(name: &str) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/task")? {
        let entry = entry?;
        // A thread may end while it is looked at.
        let called = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if called.trim_end() == name {
            found.extend(entry.file_name().to_str().and_then(|number| number.parse::<u32>().ok()));
        }
    }
    Ok(found)
}

/// The one that was not there before. A thread takes its name only once it runs.
fn new_thread(name: &str, before: &[u32]) -> anyhow::Result<u32> {
    for _ in 0..1000 {
        if let Some(thread) = threads_named(name)?.into_iter().find(|thread| !before.contains(thread)) {
            return Ok(thread);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("there is no thread {name}")
}

/// The processor time of a thread of this process: the first number of its schedstat, in nanoseconds.
fn cpu_of(thread: u32) -> anyhow::Result<Duration> {
    let text =
        std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).context("the kernel's account")?;
    let nanoseconds = text.split_whitespace().next().and_then(|number| number.parse().ok());
    Ok(Duration::from_nanos(nanoseconds.context("the kernel's account has no number")?))
}
