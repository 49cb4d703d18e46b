//! Hostile bytes at every door: what arrives by MQTT, stands in a file, comes from a decoder or with a model.
//!
//! A bounded fuzzer without instruments: it mutates the seeds of `tests/fuzz/seeds/`, keeps what was accepted as further
//! seeds, and repeats exactly for a number (`PICKET_FUZZ_SEED`). It runs for `PICKET_FUZZ_S` seconds, all targets
//! together. Each target says what must hold; no input may make it panic, or take more memory than the target's bound. A
//! failing input is written down, and belongs into the seeds once its cause is gone.
#![allow(clippy::unwrap_used, reason = "a test's helpers are the test")]

mod cores;
mod greed;
mod heap;
mod learn;
mod models;
mod mutate;
mod seeds;
mod texts;
mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastrand::Rng;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

/// Accepted inputs that are kept to be mutated further.
const POOL_MAX: usize = 512;

/// What became of an input: accepted or refused; an error is a broken property.
type Verdict = Result<bool, String>;

/// One door.
struct Target {
    name: &'static str,
    run: fn(&[u8]) -> Verdict,
    /// Bytes that may be held at once, for an input of so many.
    heap_bytes_max: fn(usize) -> usize,
}

/// Every door, in the order of the paths through the product.
const TARGETS: [Target; 35] = [
    Target { name: "ppm", run: texts::ppm, heap_bytes_max: |_| texts::PPM_HEAP_BYTES_MAX },
    Target { name: "onnx", run: texts::onnx, heap_bytes_max: |bytes| 64 * bytes + 64 * KIB },
    Target { name: "truth", run: texts::truth, heap_bytes_max: |bytes| 128 * bytes + 64 * KIB },
    Target { name: "polygon", run: texts::polygon, heap_bytes_max: |bytes| 64 * bytes + 64 * KIB },
    Target { name: "agent-config", run: texts::agent_config, heap_bytes_max: |bytes| 400 * bytes + 256 * KIB },
    Target { name: "coordinator-config", run: texts::coordinator_config, heap_bytes_max: |b| 400 * b + 256 * KIB },
    Target { name: "topic", run: texts::topic, heap_bytes_max: |bytes| 8 * bytes + 64 * KIB },
    Target { name: "broker-url", run: texts::broker_url, heap_bytes_max: |bytes| 8 * bytes + 64 * KIB },
    Target { name: "status", run: texts::status, heap_bytes_max: |bytes| 64 * bytes + 64 * KIB },
    Target { name: "batch", run: wire::batch, heap_bytes_max: |bytes| 48 * bytes + 4 * KIB },
    Target { name: "event", run: wire::event, heap_bytes_max: |bytes| 48 * bytes + 4 * KIB },
    Target { name: "ack", run: wire::ack, heap_bytes_max: |bytes| 48 * bytes + 4 * KIB },
    Target { name: "heartbeat", run: wire::heartbeat, heap_bytes_max: |bytes| 96 * bytes + 4 * KIB },
    Target { name: "gossip", run: wire::gossip, heap_bytes_max: |bytes| 8 * bytes + 4 * KIB },
    Target { name: "seal", run: wire::seal, heap_bytes_max: |bytes| 4 * bytes + 4 * KIB },
    Target { name: "roster", run: wire::roster, heap_bytes_max: |bytes| 64 * bytes + 16 * KIB },
    Target { name: "door", run: texts::door, heap_bytes_max: |bytes| 32 * bytes + 64 * KIB },
    Target { name: "leases", run: wire::leases, heap_bytes_max: |bytes| 96 * bytes + 4 * KIB },
    Target { name: "standby", run: wire::standby, heap_bytes_max: |bytes| 96 * bytes + 4 * KIB },
    Target { name: "picture", run: wire::picture, heap_bytes_max: |bytes| 48 * bytes + 4 * KIB },
    Target { name: "duty", run: wire::duty, heap_bytes_max: |bytes| 48 * bytes + 4 * KIB },
    Target { name: "assignment", run: models::assignment, heap_bytes_max: |bytes| 256 * bytes + 64 * KIB },
    Target { name: "manifest", run: models::manifest, heap_bytes_max: |bytes| 256 * bytes + 64 * KIB },
    Target { name: "envelope", run: models::envelope, heap_bytes_max: |bytes| 64 * bytes + 64 * KIB },
    Target { name: "compressed", run: models::compressed, heap_bytes_max: |bytes| 64 * bytes + 4096 * KIB },
    Target { name: "pieces", run: models::pieces, heap_bytes_max: |bytes| 48 * bytes + 4 * KIB },
    Target { name: "trusted", run: models::trusted, heap_bytes_max: |bytes| 256 * bytes + 16 * KIB },
    Target { name: "neighbour", run: texts::neighbour, heap_bytes_max: |bytes| 400 * bytes + 256 * KIB },
    Target { name: "entry", run: wire::entry, heap_bytes_max: |bytes| 48 * bytes + 4 * KIB },
    Target { name: "row", run: wire::row, heap_bytes_max: |bytes| 48 * bytes + 4 * KIB },
    Target { name: "learn", run: learn::said, heap_bytes_max: |bytes| 96 * bytes + 64 * KIB },
    Target { name: "learn-log", run: learn::logged, heap_bytes_max: |bytes| 96 * bytes + 64 * KIB },
    Target { name: "learner", run: learn::learner, heap_bytes_max: |bytes| 96 * bytes + 4096 * KIB },
    Target { name: "node", run: cores::node, heap_bytes_max: |bytes| 64 * bytes + 4096 * KIB },
    Target { name: "coordinator", run: cores::coordinator, heap_bytes_max: |bytes| 256 * bytes + 64 * 1024 * KIB },
];
const KIB: usize = 1024;

/// What a run of one target came to.
#[derive(Default)]
struct Tally {
    runs: u64,
    accepted: u64,
    heap_bytes_max: usize,
    broken: Option<(Vec<u8>, String)>,
}

/// Tries one input.
fn judge(target: &Target, input: &[u8], tally: &mut Tally) -> bool {
    tally.runs += 1;
    let (verdict, held) = heap::peak_bytes(|| catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    tally.heap_bytes_max = tally.heap_bytes_max.max(held);
    let bound = (target.heap_bytes_max)(input.len());
    let broken = match verdict {
        Ok(Ok(_)) if held > bound => {
            format!("it held {held} bytes for an input of {}, of at most {bound}", input.len())
        }
        Ok(Ok(accepted)) => {
            tally.accepted += u64::from(accepted);
            return accepted;
        }
        Ok(Err(broken)) => broken,
        Err(_) => "it panicked".to_owned(),
    };
    tally.broken.get_or_insert_with(|| (input.to_vec(), broken));
    false
}

/// Fuzzes one target until `end`, on one thread.
fn fuzz(target: &Target, seeds: &[Vec<u8>], seed: u64, end: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut pool = seeds.to_vec();
    let mut rng = Rng::with_seed(seed);
    for input in seeds {
        judge(target, input, &mut tally);
    }
    while tally.broken.is_none() && (!tally.runs.is_multiple_of(16) || Instant::now() < end) {
        let input = mutate::mutate(&mut rng, &pool);
        if judge(target, &input, &mut tally) {
            let place = rng.usize(seeds.len()..POOL_MAX);
            if place < pool.len() { pool[place] = input } else { pool.push(input) }
        }
    }
    tally
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target.name)
}

fn stored_seeds(target: &Target) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn no_hostile_bytes_break_a_door() {
    let (seconds, seed) = (number("PICKET_FUZZ_S", 60), number("PICKET_FUZZ_SEED", 1));
    let each = Duration::from_secs(seconds) / TARGETS.len() as u32;
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let mut broken = Vec::new();
    for target in &TARGETS {
        let seeds = stored_seeds(target);
        let end = Instant::now() + each;
        let tallies: Vec<Tally> = std::thread::scope(|scope| {
            let seeds = &seeds;
            let start = |thread| scope.spawn(move || fuzz(target, seeds, seed.wrapping_mul(1000) + thread, end));
            let running: Vec<_> = (0..threads).map(start).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let sum = |figure: fn(&Tally) -> u64| tallies.iter().map(figure).sum::<u64>();
        let held = tallies.iter().map(|tally| tally.heap_bytes_max).max().unwrap_or(0);
        println!(
            "fuzz {:<20} {:>10} inputs, {:>10} accepted, {:>10} bytes held at most",
            target.name,
            sum(|tally| tally.runs),
            sum(|tally| tally.accepted),
            held
        );
        for (input, what) in tallies.into_iter().filter_map(|tally| tally.broken) {
            let path = std::env::temp_dir().join(format!("picket-fuzz-{}-{seed}", target.name));
            std::fs::write(&path, input).unwrap();
            broken.push(format!("{}: {what}; the input is {}", target.name, path.display()));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_kept_seed_is_judged_as_it_should_be() {
    for target in &TARGETS {
        let (mut tally, seeds) = (Tally::default(), stored_seeds(target));
        let accepted = seeds.iter().filter(|seed| judge(target, seed, &mut tally)).count();
        assert!(tally.broken.is_none(), "{}: {:?}", target.name, tally.broken);
        assert!(accepted > 0, "{}: a fuzzer needs something to begin with that is good", target.name);
    }
}

#[test]
fn the_same_number_gives_the_same_inputs() {
    let pool = vec![b"a good input".to_vec(), vec![0; 100]];
    let inputs = |seed| {
        let mut rng = Rng::with_seed(seed);
        (0..500).map(|_| mutate::mutate(&mut rng, &pool)).collect::<Vec<_>>()
    };
    assert_eq!(inputs(7), inputs(7));
    assert_ne!(inputs(7), inputs(8));
}

#[test]
fn a_door_that_breaks_is_noticed() {
    let broken = |run: fn(&[u8]) -> Verdict| {
        let mut tally = Tally::default();
        judge(&Target { name: "broken", run, heap_bytes_max: |_| KIB }, b"x", &mut tally);
        tally.broken.map(|(_, what)| what)
    };
    assert_eq!(broken(|_| Ok(true)), None);
    assert_eq!(broken(|_| Err("a reason".into())).as_deref(), Some("a reason"));
    assert_eq!(broken(|_| panic!("a door fell off")).as_deref(), Some("it panicked"));
    let greedy = broken(|_| Ok(vec![0u8; 4 * KIB].len() > 3)).unwrap();
    assert!(greedy.starts_with("it held 4096 bytes"), "{greedy}");
}

/// Writes the seeds that are made from the product's own types; what was added by hand stays.
#[test]
#[ignore = "changes the tree: run it when a message has changed"]
fn write_the_seeds() {
    for (target, name, bytes) in seeds::all() {
        let target = TARGETS.iter().find(|known| known.name == target).unwrap();
        std::fs::create_dir_all(folder(target)).unwrap();
        std::fs::write(folder(target).join(name), bytes).unwrap();
    }
}
