//! `picket-simulation`: the demo, the bench, the soak, and swarms of any seed.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use picket_shared::exit::{Failure, report};
use picket_shared::telemetry;
use picket_simulation::bench::{self, BenchOptions};
use picket_simulation::demo::{self, DemoOptions};
use picket_simulation::soak::naive::NaiveOptions;
use picket_simulation::soak::outbox::OutboxOptions;
use picket_simulation::soak::{self, SoakOptions};
use picket_simulation::world;

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
    /// The frame path of one agent against the raw limit of its detector
    Bench(BenchOptions),
    /// A site of real processes that are killed every few seconds, beside a naive publisher in the same trouble
    Soak(SoakOptions),
    /// One agent without cameras, as the soak starts it
    #[command(hide = true)]
    Outbox(OutboxOptions),
    /// One naive publisher or its reader, as the soak starts them
    #[command(hide = true)]
    Naive(NaiveOptions),
    /// Seeded worlds of agents and a coordinator on failing buses and disks
    Swarm(Swarm),
}

#[derive(Args)]
struct Swarm {
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
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
        Command::Swarm(swarm) => run_seeds(&swarm),
    }
}

fn run_seeds(swarm: &Swarm) -> anyhow::Result<()> {
    for seed in swarm.seed..swarm.seed.saturating_add(swarm.seeds) {
        let plan = world::Plan::of_seed(seed);
        let outcome = world::run(&plan).map_err(anyhow::Error::msg)?;
        println!(
            "seed {seed}: {} events of {} agents, each in the archive once; {} sent again, {} duplicates refused, {} crashes, \
             {} steps, trace {:016x}",
            outcome.events,
            plan.agents,
            outcome.resent,
            outcome.duplicates,
            outcome.crashes,
            outcome.steps,
            outcome.trace_hash
        );
    }
    Ok(())
}
