//! What it costs to keep an event for good, and to tell it: our stores against others in the same folder, and our messages
//! against another's.

mod meter;
mod peers;
mod wire;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use picket_shared::codec;
use serde::Serialize;

use self::meter::{Written, disk_bytes};
use self::peers::{Log, Peer};
use self::wire::Wire;

/// As many as the agent's recorder commits at once; and one, for the worst case.
const GROUPS: [usize; 2] = [10, 1];
/// Zones of a measured event: about 400 bytes.
const ZONES: usize = 12;
/// Events of one commit while a store is only filled.
const FILL_EVENTS: usize = 1000;

/// The store's part of the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct StorageOptions {
    /// Where the stores are made: the disk that is measured
    #[arg(long, default_value = "target")]
    pub storage_dir: PathBuf,
    /// Times that each store is measured, in turn; the median is quoted
    #[arg(long, default_value_t = 3)]
    pub storage_rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    pub storage_s: f64,
    /// Events in a store that is opened again
    #[arg(long, default_value_t = 1_000_000)]
    pub storage_events: u64,
    /// Where the figures go, as JSON
    #[arg(long, default_value = "target/bench-storage.json")]
    pub storage_out: PathBuf,
}

/// The figures.
#[derive(Debug, Serialize)]
struct Figures {
    event_bytes: usize,
    /// False where the filesystem counts no bytes, and the bytes of the calls stand in their place.
    bytes_are_of_the_disk: bool,
    peers: Vec<Row>,
    recovery_events: u64,
    wire: Wire,
}

/// One store.
#[derive(Debug, Serialize)]
struct Row {
    store: &'static str,
    /// For each of [`GROUPS`].
    commits: Vec<Commits>,
    recovery_s: Option<f64>,
    size_bytes: Option<u64>,
}

/// What commits of one size cost.
#[derive(Debug, Clone, Serialize)]
struct Commits {
    group: usize,
    events_per_s: f64,
    bytes_per_event_byte: f64,
    #[serde(skip)]
    of_the_disk: bool,
}

/// Measures, prints tables and writes the figures.
pub fn run(options: &StorageOptions) -> anyhow::Result<()> {
    std::fs::create_dir_all(&options.storage_dir)?;
    let parent = tempfile::Builder::new().prefix("picket-storage-").tempdir_in(&options.storage_dir)?;
    let event = |number| codec::encode(&wire::event(number, ZONES));
    let events: Vec<Vec<u8>> = (0..FILL_EVENTS as u64).map(event).collect::<Result<_, _>>()?;
    let event_bytes = events.iter().map(Vec::len).sum::<usize>() / events.len();

    let mut peers = Vec::new();
    let mut taken: Vec<Vec<Vec<Commits>>> = vec![vec![Vec::new(); GROUPS.len()]; Peer::ALL.len()];
    for round in 1..=options.storage_rounds.max(1) {
        for (peer, taken) in Peer::ALL.into_iter().zip(&mut taken) {
            println!("storage: round {round}, {}", peer.name());
            for (group, taken) in GROUPS.into_iter().zip(taken) {
                taken.push(commits(peer, parent.path(), &events, group, options.storage_s)?);
            }
        }
    }
    for (peer, taken) in Peer::ALL.into_iter().zip(taken) {
        let (recovery_s, size_bytes) = recovery(peer, parent.path(), &events, options.storage_events)?.unzip();
        let commits = taken.into_iter().map(median).collect();
        peers.push(Row { store: peer.name(), commits, recovery_s, size_bytes });
    }
    let bytes_are_of_the_disk = peers.iter().flat_map(|row| &row.commits).all(|commits| commits.of_the_disk);
    let wire = wire::measure()?;
    let figures = Figures { event_bytes, bytes_are_of_the_disk, peers, recovery_events: options.storage_events, wire };
    show(&figures);
    write(&figures, &options.storage_out)
}

fn write(figures: &Figures, out: &Path) -> anyhow::Result<()> {
    if let Some(parent) = out.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(out, serde_json::to_vec_pretty(figures)?).with_context(|| format!("the figures {}", out.display()))
}

/// Commits groups of this size for so many seconds, in a new store.
fn commits(peer: Peer, parent: &Path, events: &[Vec<u8>], group: usize, seconds: f64) -> anyhow::Result<Commits> {
    let dir = tempfile::tempdir_in(parent)?;
    let mut log = peer.open(dir.path())?;
    let (before, began) = (Written::now()?, Instant::now());
    let (mut count, mut bytes) = (0u64, 0u64);
    while began.elapsed() < Duration::from_secs_f64(seconds) {
        let at = count as usize % (events.len() - group);
        log.append(count + 1, &events[at..at + group])?;
        count += group as u64;
        bytes += events[at..at + group].iter().map(|event| event.len() as u64).sum::<u64>();
    }
    let took = began.elapsed().as_secs_f64();
    // What the store holds back is part of the price.
    drop(log);
    let (written, of_the_disk) = Written::now()?.since(before);
    let (events_per_s, bytes_per_event_byte) = (count as f64 / took, written as f64 / bytes as f64);
    Ok(Commits { group, events_per_s, bytes_per_event_byte, of_the_disk })
}

/// Fills a store, and opens it again: seconds, and bytes on the disk.
fn recovery(peer: Peer, parent: &Path, events: &[Vec<u8>], count: u64) -> anyhow::Result<Option<(f64, u64)>> {
    if matches!(peer, Peer::SledFlush | Peer::RawFile) {
        return Ok(None);
    }
    println!("storage: {count} events into {}", peer.name());
    let dir = tempfile::tempdir_in(parent)?;
    fill(&mut *peer.open(dir.path())?, events, count)?;
    let size_bytes = disk_bytes(dir.path())?;
    let began = Instant::now();
    let found = peer.recover(dir.path())?;
    let took = began.elapsed().as_secs_f64();
    anyhow::ensure!(found == Some((count, count)), "{} found {found:?} of {count} events", peer.name());
    Ok(Some((took, size_bytes)))
}

fn fill(log: &mut dyn Log, events: &[Vec<u8>], count: u64) -> anyhow::Result<()> {
    let mut next = 1;
    while next <= count {
        let group = (count + 1 - next).min(events.len() as u64);
        log.append(next, &events[..group as usize])?;
        next += group;
    }
    Ok(())
}

/// Of a few measurements the one in the middle, by events per second.
fn median(mut commits: Vec<Commits>) -> Commits {
    commits.sort_by(|a, b| a.events_per_s.total_cmp(&b.events_per_s));
    commits.swap_remove(commits.len() / 2)
}

fn show(figures: &Figures) {
    let counted = if figures.bytes_are_of_the_disk { "to the disk" } else { "by calls: this filesystem counts none" };
    println!("\nevents of {} bytes; bytes written {counted}, per byte of events", figures.event_bytes);
    let recovery = format!("opened with {}", figures.recovery_events);
    println!(
        "{:<26} {:>12} {:>8} {:>12} {:>8} {:>22} {:>10}",
        "", "10: events/s", "bytes", "1: events/s", "bytes", recovery, "MiB"
    );
    for row in &figures.peers {
        print!("{:<26}", row.store);
        for commits in &row.commits {
            print!(" {:>12.0} {:>8.1}", commits.events_per_s, commits.bytes_per_event_byte);
        }
        match (row.recovery_s, row.size_bytes) {
            (Some(seconds), Some(bytes)) => println!(" {seconds:>20.2} s {:>10.0}", bytes as f64 / 1_048_576.0),
            _ => println!(" {:>22} {:>10}", "-", "-"),
        }
    }
    let wire = &figures.wire;
    println!("\nbytes on the wire for one event of {} bytes, topic and MQTT header included", wire.event_bytes);
    for (what, bytes) in [
        ("picket, one in a batch", wire.batch_of_1),
        ("picket, 4 in a batch", wire.batch_of_4),
        ("picket, 16 in a batch", wire.batch_of_16),
        ("picket, public JSON", wire.public_json),
        ("Frigate's JSON", wire.frigate_json),
    ] {
        println!("{what:<26} {bytes:>12.0}");
    }
}
