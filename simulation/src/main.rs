//! `picket-simulation`: the demo, the bench, and swarms of any seed.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use picket_shared::exit::{Failure, report};
use picket_shared::telemetry;
use picket_simulation::bench::{self, BenchOptions};
use picket_simulation::demo::{self, DemoOptions};
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
    /// What it costs, against the raw limit and against others
    Bench(BenchOptions),
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
