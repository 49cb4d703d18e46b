//! Updates a second that one core of a coordinator takes in: ours in memory, ours as it runs (each update durable before it is
//! acknowledged), and Flower's legacy server over gRPC, for heads of the same size in the same run.
//!
//! Ours are measured without a broker: what MQTT costs is not in them. Flower's clients and its gRPC are, so its figure by the core
//! counts the server's processor time alone.

mod ours;
mod peer;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use picket_shared::learn::lineage::HeadShape;
use serde::Serialize;

/// Stations that speak in turn.
const STATIONS: usize = 32;
/// The heads: about a thousand, ten thousand and a hundred thousand numbers.
const SHAPES: [(u32, u32); 3] = [(99, 10), (999, 10), (999, 100)];

/// The learning's part of the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct LearnOptions {
    /// Where the log of learning is made: the disk that is measured
    #[arg(long, default_value = "target")]
    pub learn_dir: PathBuf,
    /// Times that each row is measured, in turn; the median is quoted
    #[arg(long, default_value_t = 3)]
    pub learn_rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    pub learn_s: f64,
    /// Flower's clients, each a process
    #[arg(long, default_value_t = 8)]
    pub learn_clients: usize,
    /// Where the figures go, as JSON
    #[arg(long, default_value = "target/bench-learn.json")]
    pub learn_out: PathBuf,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Rate {
    /// Bytes of one update's payload.
    bytes: usize,
    /// By the clock.
    per_s: f64,
    /// By the processor time of whoever takes them in.
    per_core_s: f64,
}

/// One size of a head.
#[derive(Debug, Serialize)]
struct Row {
    parameters: usize,
    stations: usize,
    in_memory: Rate,
    with_log: Rate,
    flower: Option<Rate>,
}

/// The figures.
#[derive(Debug, Serialize)]
struct Figures {
    flower_version: Option<String>,
    flower_clients: usize,
    rows: Vec<Row>,
}

/// Measures, prints a table and writes the figures.
pub fn run(options: &LearnOptions) -> anyhow::Result<()> {
    anyhow::ensure!(options.learn_clients > 0, "--learn-clients is 0; give it 1 or more");
    anyhow::ensure!((0.1..=600.0).contains(&options.learn_s), "--learn-s is {}; give it 0.1 to 600", options.learn_s);
    std::fs::create_dir_all(&options.learn_dir)?;
    let python = peer::python();
    if python.is_none() {
        eprintln!("learn: SKIPPED: Flower is not here; simulation/prepare/prepare.sh bench brings it");
    }
    let seconds = Duration::from_secs_f64(options.learn_s);
    let (mut rows, mut flower_version) = (Vec::new(), None);
    for (inputs, classes) in SHAPES {
        let shape = HeadShape::softmax(inputs, classes);
        let (mut in_memory, mut with_log, mut flower) = (Vec::new(), Vec::new(), Vec::new());
        for round in 1..=options.learn_rounds.max(1) {
            eprintln!("learn: {} parameters, round {round}", shape.parameters());
            // In turn, so that what else this machine does meets all of them.
            in_memory.push(ours::in_memory(shape, STATIONS, seconds)?);
            with_log.push(ours::with_log(shape, STATIONS, seconds, &options.learn_dir)?);
            if let Some(python) = &python {
                let (version, rate) = peer::run(python, shape.parameters(), options.learn_clients)?;
                flower_version = Some(version);
                flower.push(rate);
            }
        }
        let flower = (!flower.is_empty()).then(|| median(flower));
        let (in_memory, with_log) = (median(in_memory), median(with_log));
        rows.push(Row { parameters: shape.parameters(), stations: STATIONS, in_memory, with_log, flower });
    }
    let figures = Figures { flower_version, flower_clients: options.learn_clients, rows };
    show(&figures);
    let out = &options.learn_out;
    if let Some(parent) = out.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(out, serde_json::to_vec_pretty(&figures)?).with_context(|| format!("the figures {}", out.display()))
}

/// Of a few measurements the one in the middle, by updates per second of a core.
fn median(mut rates: Vec<Rate>) -> Rate {
    rates.sort_by(|a, b| a.per_core_s.total_cmp(&b.per_core_s));
    rates.swap_remove(rates.len() / 2)
}

fn show(figures: &Figures) {
    println!("\nupdates of {STATIONS} stations; by the core: of whoever takes them in");
    println!("{:<12} {:<28} {:>10} {:>12} {:>14} {:>10}", "parameters", "", "bytes", "updates/s", "per core and s", "");
    for row in &figures.rows {
        let flower = format!(
            "Flower {}, {} clients",
            figures.flower_version.as_deref().unwrap_or_default(),
            figures.flower_clients
        );
        let rows = [
            ("picket, in memory", Some(row.in_memory)),
            ("picket, with its log", Some(row.with_log)),
            (&*flower, row.flower),
        ];
        for (what, rate) in rows {
            let Some(Rate { bytes, per_s, per_core_s }) = rate else { continue };
            let times = row.flower.map(|flower| format!("{:.1} x", per_core_s / flower.per_core_s)).unwrap_or_default();
            println!("{:<12} {what:<28} {bytes:>10} {per_s:>12.0} {per_core_s:>14.0} {times:>10}", row.parameters);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_update_is_taken_in_durable_and_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let shape = HeadShape::softmax(9, 3);
        let short = Duration::from_millis(50);
        for rate in [ours::in_memory(shape, 5, short).unwrap(), ours::with_log(shape, 5, short, dir.path()).unwrap()] {
            assert!(rate.per_s > 0.0 && rate.per_core_s > 0.0 && rate.bytes > 30, "{rate:?}");
        }
    }
}
