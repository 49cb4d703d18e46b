//! `picket-simulation`: the demo, the bench, the soak, and swarms of any seed.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use picket_shared::exit::{Failure, report};
use picket_shared::telemetry;
use picket_simulation::bench::{self, BenchOptions};
use picket_simulation::demo::{self, DemoOptions};
use picket_simulation::learn::{self, LearnOptions};
use picket_simulation::retrain::{self, RetrainOptions};
use picket_simulation::scenarios::{self, RunOptions};
use picket_simulation::soak::naive::NaiveOptions;
use picket_simulation::soak::outbox::OutboxOptions;
use picket_simulation::soak::{self, SoakOptions};
use picket_simulation::swarm;
use picket_simulation::teach::{self, TeachOptions};

/// Shows Picket at work, measures it, and runs its cores in seeded worlds.
#[derive(Parser)]
#[command(name = "picket-simulation", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A coordinator and three agents on a real video
    Demo(DemoOptions),
    /// What it costs, against the raw limit and against others
    Bench(BenchOptions),
    /// A site of real processes that are killed every few seconds, beside a naive publisher in the same trouble
    Soak(SoakOptions),
    /// One agent without cameras, as the soak starts it
    #[command(hide = true)]
    Outbox(OutboxOptions),
    /// One naive publisher or its reader, as the soak starts them
    #[command(hide = true)]
    Naive(NaiveOptions),
    /// STAR-SGD against what others do, honest and attacked, in simulated time
    Learn(LearnOptions),
    /// What operators' words are worth on real pictures with the real detector
    Teach(TeachOptions),
    /// What training anew buys when a network is to be small
    Retrain(RetrainOptions),
    /// Seeded worlds of agents and a coordinator on failing buses and disks
    Swarm(Swarm),
    /// A scenario of who watches what, under any seeds: one table, and a picture
    Run(RunOptions),
}

#[derive(Args)]
struct Swarm {
    /// The first seed
    #[arg(long, default_value_t = 0, alias = "seed")]
    from: u64,
    /// How many seeds
    #[arg(long, default_value_t = 1)]
    seeds: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::start();
    match execute(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report("picket-simulation", error.downcast_ref::<Failure>(), &format!("{error:#}")),
    }
}

fn execute(command: Command) -> anyhow::Result<()> {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    match command {
        Command::Demo(options) => runtime()?.block_on(demo::run(options)),
        Command::Bench(options) => runtime()?.block_on(bench::run(options)),
        Command::Soak(options) => runtime()?.block_on(soak::run(options)),
        Command::Outbox(options) => runtime()?.block_on(soak::outbox::run(options)),
        Command::Naive(options) => runtime()?.block_on(soak::naive::run(options)),
        Command::Learn(options) => learn::run(&options),
        Command::Teach(options) => teach::run(&options),
        Command::Retrain(options) => retrain::run(&options),
        Command::Swarm(swarm) => run_seeds(&swarm),
        Command::Run(options) => scenarios::run(&options),
    }
}

/// Worlds between two lines of progress.
const PROGRESS_SEEDS: u64 = 500;

fn run_seeds(order: &Swarm) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    let few = order.seeds <= 10;
    let total = swarm::run_seeds(order.from, order.seeds, |total, seed, outcome| {
        if few {
            println!(
                "seed {seed}: {} events, {} given up, {} duplicates refused, {} crashes, {} steps, trace {:016x}",
                outcome.events, outcome.missed, outcome.duplicates, outcome.crashes, outcome.steps, outcome.trace_hash
            );
        } else if total.seeds % PROGRESS_SEEDS == 0 {
            println!("{} of {}, {} s: {} events", total.seeds, order.seeds, started.elapsed().as_secs(), total.events);
        }
    });
    println!("{} in {} s", total.map_err(anyhow::Error::msg)?, started.elapsed().as_secs());
    Ok(())
}
