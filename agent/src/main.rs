//! `picket-agent`: reads the command line, and ends with a documented exit code and one sentence.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use picket_agent::config::{Config, Overrides};
use picket_agent::{annotate, app, doctor, eval};
use picket_shared::exit::{Failure, report};
use picket_shared::telemetry;

/// Sees people on one device's cameras, remembers the events, and tells the site's coordinator.
#[derive(Parser)]
#[command(name = "picket-agent", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the doctor found something, 2 wrong command line, 65 bad model or truth, 66 bad source, 69 no usable onnxruntime, \
70 fault of the program, 71 no port or helper program, 74 disk, 75 not finished in time, 78 bad configuration.";

#[derive(Subcommand)]
enum Command {
    /// Watch the configured cameras until told to stop
    Run(Run),
    /// Find people in pictures, and write the pictures with boxes drawn in
    Detect(Detect),
    /// Measure accuracy and speed on labelled frames: MOTChallenge, Town Centre, Pascal VOC or CSV
    Eval(eval::command::Options),
    /// Choose this station's threshold, from labelled frames or from what the tracker can follow
    Calibrate(eval::calibrate::Options),
    /// Check everything an agent needs, and say what to do about what is missing
    Doctor(Doctor),
}

#[derive(Args)]
struct Run {
    /// The configuration file
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    /// End after this many frames of each camera, once the archive has every event
    #[arg(long)]
    frames: Option<u64>,
    /// Write figures of the run to this file, as JSON
    #[arg(long)]
    report: Option<PathBuf>,
    /// Measure the detector's raw limit with this many runs before and after
    #[arg(long, default_value_t = 0)]
    raw_runs: u32,
    /// How long to wait for the archive after the last frame, in seconds
    #[arg(long, default_value_t = 30)]
    drain_timeout_s: u64,
}

#[derive(Args)]
struct Detect {
    /// JPEG or PNG pictures
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Where the pictures with boxes go
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// Print one JSON object a picture
    #[arg(long)]
    json: bool,
    /// A configuration file whose [detector] is used
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Args)]
struct Doctor {
    /// The configuration file
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::start();
    match execute(cli.command) {
        Ok(code) => code,
        Err(error) => report("picket-agent", error.downcast_ref::<Failure>(), &format!("{error:#}")),
    }
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    // One thread drives the core, another the connection; the frame path and the disk have threads of their own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match command {
        Command::Run(run) => {
            let config = Config::read(run.config.as_deref(), &run.overrides)?;
            let options = app::RunOptions {
                frames_max: run.frames,
                report: run.report,
                raw_runs: run.raw_runs,
                drain_timeout: Duration::from_secs(run.drain_timeout_s),
            };
            runtime.block_on(app::run(config, options))?;
        }
        Command::Detect(detect) => {
            let detector = Config::detector(detect.config.as_deref())?;
            annotate::detect_files(&detect.files, &detect.out, &detector, detect.json)?;
        }
        Command::Eval(options) => eval::command::run(&options)?,
        Command::Calibrate(options) => eval::calibrate::run(&options)?,
        Command::Doctor(doctor) => {
            let config = Config::read(doctor.config.as_deref(), &doctor.overrides)?;
            return Ok(runtime.block_on(doctor::run(&config)));
        }
    }
    Ok(ExitCode::SUCCESS)
}
