//! `picket-simulation run`: reads a scenario, runs it under its seeds, and prints one table; draws one run as a picture.
//!
//! A broken rule ends it with the seed, and so does a target that was missed.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args;

use crate::site::report::Report;
use crate::site::scenario::Scenario;
use crate::site::{self, Outcome, picture};
use crate::swarm;

/// Largest scenario file: they have a few lines.
const SCENARIO_BYTES_MAX: u64 = 64 * 1024;
/// Up to so many seeds each has a line of its own.
const FEW: u64 = 10;
/// Seeds between two lines of progress.
const PROGRESS_SEEDS: u64 = 200;

/// What to run.
#[derive(Args)]
pub struct RunOptions {
    /// The scenario; see simulation/scenarios. Without one, each seed draws its own site and fault mix
    scenario: Option<PathBuf>,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Draw the first seed's run into this SVG file
    #[arg(long)]
    record: Option<PathBuf>,
}

/// Runs it. The error is a broken rule with its seed, or the promises that were not kept.
pub fn run(options: &RunOptions) -> anyhow::Result<()> {
    let (started, first) = (Instant::now(), options.seed);
    let written = options.scenario.as_ref().map(read).transpose()?;
    let of_seed = |seed| written.clone().unwrap_or_else(|| Scenario::draw(seed));
    let scenario = of_seed(first);
    println!("{}", scenario.about);
    let mut report = Report::default();
    let mut drawn: Option<Outcome> = None;
    let ran = swarm::each_seed(
        first,
        options.seeds,
        |seed| site::run(&of_seed(seed), seed),
        |seed, outcome| {
            report.add(&outcome);
            if options.seeds <= FEW {
                println!("{outcome}");
            } else if report.runs() % PROGRESS_SEEDS == 0 {
                println!("{} of {}, {} s", report.runs(), options.seeds, started.elapsed().as_secs());
            }
            if seed == first {
                drawn = Some(outcome);
            }
        },
    );
    ran.map_err(anyhow::Error::msg)?;
    println!("{}", report.table(&scenario));
    println!("{} seeds from {first} in {:.1} s", report.runs(), started.elapsed().as_secs_f64());
    if let (Some(path), Some(outcome)) = (&options.record, drawn) {
        let svg = picture::svg(&scenario.about, &outcome.coverage, outcome.lived_ms, outcome.unkind_ms);
        std::fs::write(path, svg).with_context(|| format!("{} cannot be written; check its folder", path.display()))?;
        println!("seed {first} is drawn in {}", path.display());
    }
    match report.missed(&scenario.targets) {
        missed if missed.is_empty() => Ok(()),
        missed => anyhow::bail!("{}", missed.join("; ")),
    }
}

fn read(path: &PathBuf) -> anyhow::Result<Scenario> {
    let named = || format!("the scenario {}", path.display());
    let bytes = std::fs::metadata(path).with_context(named)?.len();
    anyhow::ensure!(bytes <= SCENARIO_BYTES_MAX, "{} has {bytes} bytes, and is no scenario", named());
    let text = std::fs::read_to_string(path).with_context(named)?;
    Scenario::read(&text).map_err(anyhow::Error::msg).with_context(named)
}
