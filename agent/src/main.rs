//! `picket-agent`: reads the command line, and ends with a documented exit code and one sentence.

use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use picket_agent::config::{Config, Overrides};
use picket_agent::enrol::{self, Renewed};
use picket_agent::{annotate, app, doctor, eval, learn, model_command, store};
use picket_shared::audit::{Act, AuditLog, Note, command};
use picket_shared::calendar::unix_s;
use picket_shared::exit::{Exit, Failure, report};
use picket_shared::ids::NodeId;
use picket_shared::store::StoreError;
use picket_shared::telemetry;
use picket_shared::trust::token::TOKEN_CHARS_MAX;

/// Sees people on one device's cameras, remembers the events, and tells the site's coordinator.
#[derive(Parser)]
#[command(name = "picket-agent", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the doctor found something, 2 wrong command line, 65 bad model or truth, 66 bad source, 68 coordinator not reached, 69 no usable onnxruntime, \
70 fault of the program, 71 no port or helper program, 74 disk, 75 not finished in time, 77 refused, 78 bad configuration.";

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
    /// Make this device one of its site, by the token that `picket-coordinator enrol` printed
    Enrol {
        /// The token; without it, it is read from the standard input, so that it is in no list of processes and no history
        token: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Renew this device's certificate, once less than a third of its life is left
    Renew {
        /// Renew it whatever is left
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Check everything an agent needs, and say what to do about what is missing
    Doctor(Doctor),
    /// Look into a model, compare two, or make a smaller one
    #[command(subcommand)]
    Model(model_command::Command),
    /// Look into what this station learns
    #[command(subcommand)]
    Learn(LearnCommand),
    /// Look into the audit log: who asked for pictures, what left, who looked, and what was changed
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Look into the store of an agent that does not run
    #[command(subcommand)]
    Store(StoreCommand),
}

#[derive(Subcommand)]
enum LearnCommand {
    /// Print what is learned, as of the last second of an agent that runs: JSON
    Status(Place),
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Check that no line was changed, removed or put elsewhere, and say where
    Verify {
        /// Check also against this head: `picket-coordinator audit heads` has the one that it remembers of this device
        #[arg(long, value_name = "NUMBER:DIGEST")]
        head: Option<picket_shared::audit::Head>,
        #[command(flatten)]
        place: Place,
    },
    /// Write every line, oldest first
    Show(Place),
    /// How far each coordinator's audit log reached, as it said itself: one JSON object a line
    Heads(Place),
    /// Take a coordinator's audit log as it is now, after somebody looked into why it lost lines
    AcceptCoordinator {
        /// The coordinator
        name: NodeId,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Read everything, change nothing, and say what is there: one JSON object a boot
    Verify(Place),
    /// Write every event: one JSON object a line
    Export {
        #[command(flatten)]
        place: Place,
        /// Write what could not be sent as it was, in place of the events
        #[arg(long)]
        dead_letters: bool,
    },
    /// Write the store anew, without the room that forgotten events still take
    Compact(Place),
}

#[derive(Args)]
struct Place {
    /// The configuration file of the agent
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where it remembers
    #[arg(long)]
    data_dir: Option<PathBuf>,
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
    /// Run the network for each frame and nothing else: the limit that a bench compares with
    #[arg(long)]
    bare: bool,
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
    picket_shared::crypto::keep_out_of_dumps();
    picket_shared::keyfile::keep_files_private();
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
                bare: run.bare,
                drain_timeout: Duration::from_secs(run.drain_timeout_s),
                config: run.config.map(|path| (path, run.overrides)),
            };
            runtime.block_on(app::run(config, options))?;
        }
        Command::Detect(detect) => {
            let detector = Config::detector(detect.config.as_deref())?;
            annotate::detect_files(&detect.files, &detect.out, &detector, detect.json)?;
        }
        Command::Eval(options) => eval::command::run(&options)?,
        Command::Calibrate(options) => eval::calibrate::run(&options)?,
        Command::Model(command) => model_command::run(command)?,
        Command::Doctor(doctor) => {
            let config = Config::read(doctor.config.as_deref(), &doctor.overrides)?;
            return Ok(runtime.block_on(doctor::run(&config)));
        }
        Command::Store(command) => look_into(command)?,
        Command::Learn(LearnCommand::Status(place)) => learn_status(place)?,
        Command::Audit(command) => {
            let dir = |place: Place| Config::data_dir_of(place.config.as_deref(), place.data_dir);
            match command {
                AuditCommand::Verify { head, place } => command::verify(&dir(place)?, head.as_ref())?,
                AuditCommand::Show(place) => command::show(&dir(place)?)?,
                AuditCommand::Heads(place) => command::heads(&dir(place)?)?,
                AuditCommand::AcceptCoordinator { name, place } => {
                    command::accept(&dir(place)?, &name, &format!("coordinator {name}"), unix_s())?;
                }
            }
        }
        Command::Enrol { token, place } => {
            let data_dir = Config::data_dir_of(place.config.as_deref(), place.data_dir)?;
            note(&data_dir, "asks to be enrolled")?;
            let member = runtime.block_on(enrol::enrol(&token.map_or_else(read_token, Ok)?, &data_dir))?;
            println!("this device is {} of the site {}; check it with picket-agent doctor", member.node, member.site);
        }
        Command::Renew { now, place } => {
            let data_dir = Config::data_dir_of(place.config.as_deref(), place.data_dir)?;
            match runtime.block_on(enrol::renew(&data_dir, now))? {
                Renewed::New(member) => {
                    note(&data_dir, "has a new certificate")?;
                    println!("{} has a new certificate", member.node);
                }
                Renewed::NotYet(certificate) => println!("not yet: the certificate {}", certificate.left(unix_s())),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes down that this device becomes, or stays, one of its site.
fn note(data_dir: &std::path::Path, what: &str) -> Result<(), Failure> {
    let note = Note::about("this device").with(what);
    let written = AuditLog::open(data_dir, unix_s()).and_then(|log| log.record(unix_s(), Act::DeviceAdmitted, &note));
    written.map(drop).map_err(|error| Failure::new(Exit::Disk, error.to_string()))
}

/// The token from the standard input: one line.
fn read_token() -> anyhow::Result<String> {
    if io::stdin().is_terminal() {
        eprint!("token: ");
    }
    let mut token = String::new();
    io::BufRead::read_line(&mut io::stdin().lock().take(TOKEN_CHARS_MAX as u64 + 2), &mut token)?;
    Ok(token)
}

/// The status as the agent wrote it.
fn learn_status(place: Place) -> anyhow::Result<()> {
    let dir = Config::data_dir_of(place.config.as_deref(), place.data_dir)?;
    let path = learn::study::folder(&dir).join(learn::study::STATUS);
    let text = std::fs::read(&path).map_err(|error| {
        let path = path.display();
        let sentence = format!("{path} cannot be read: {error}; has an agent with [learn] enabled run there?");
        Failure::new(Exit::Disk, sentence)
    })?;
    let mut out = io::stdout().lock();
    match out.write_all(&text).and_then(|()| out.write_all(b"\n")) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn look_into(command: StoreCommand) -> anyhow::Result<()> {
    let disk = |error: StoreError| Failure::new(Exit::Disk, error.to_string());
    let dir = |place: Place| Config::memory_dir_of(place.config.as_deref(), place.data_dir);
    let mut out = BufWriter::new(io::stdout().lock());
    let written = match command {
        StoreCommand::Verify(place) => {
            let dir = dir(place)?;
            let boots = store::verify(&dir).map_err(disk)?;
            let lines = boots.iter().try_for_each(|boot| {
                serde_json::to_writer(&mut out, boot)?;
                writeln!(out)
            });
            let missing: u64 = boots.iter().flat_map(|boot| &boot.missing).map(|gap| gap.to - gap.from + 1).sum();
            if missing > 0 {
                out.flush()?;
                let dir = dir.display();
                let sentence = format!("{missing} events are missing from {dir}; the next start tells them as lost");
                return Err(Failure::new(Exit::Disk, sentence).into());
            }
            lines.and_then(|()| out.flush())
        }
        StoreCommand::Export { place, dead_letters } => {
            store::export(&dir(place)?, dead_letters, &mut out).map_err(disk)?
        }
        StoreCommand::Compact(place) => {
            let now_s = unix_s();
            let (before, after) = store::compact(&dir(place)?, now_s).map_err(disk)?;
            writeln!(out, "{before} bytes before, {after} after").and_then(|()| out.flush())
        }
    };
    match written {
        // The reader has seen enough (`| head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
