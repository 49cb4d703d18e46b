//! `picket-coordinator`: runs a site's coordinator, or looks into its archive.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use picket_coordinator::authority::command::{self, AuthorityCommand};
use picket_coordinator::config::{Config, Flags};
use picket_coordinator::learn::command::{self as learn_command, LearnCommand};
use picket_coordinator::model::command::{self as model, ModelCommand};
use picket_coordinator::operators::command::{self as operators, OperatorCommand};
use picket_coordinator::pictures::command::{self as pictures, PictureCommand};
use picket_coordinator::store::Archive;
use picket_coordinator::{app, view};
use picket_shared::audit;
use picket_shared::exit::{self, Exit, Failure};
use picket_shared::ids::NodeId;

/// Takes in what a site's agents saw, keeps it once and for good, and shows it.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 fine, 2 command line, 65 doubles in the archive or a damaged file, 70 a defect, 71 a port, \
    74 the disk, 77 refused, 78 the configuration."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the coordinator
    Run {
        #[command(flatten)]
        flags: Flags,
    },
    /// Make a token that admits one device, once
    Enrol {
        /// The device's name: its node's
        name: NodeId,
        /// For how long it admits
        #[arg(long, default_value_t = 60)]
        minutes: u64,
        /// Where the device reaches this coordinator's door, as host:port; by default [enrolment] door
        #[arg(long, value_name = "HOST:PORT")]
        url: Option<String>,
        #[command(flatten)]
        flags: Flags,
    },
    /// Take back everything that a device was given
    Revoke {
        /// The device's name
        name: NodeId,
        /// Where the list for brokers, crl.pem, goes
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        #[command(flatten)]
        flags: Flags,
    },
    /// Look after who belongs to the site
    #[command(subcommand)]
    Authority(AuthorityCommand),
    /// Ask devices for pictures, and take what came
    #[command(subcommand)]
    Picture(PictureCommand),
    /// Look into the audit log: who asked for pictures, who was admitted and taken back
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Look after what all stations learn together
    #[command(subcommand)]
    Learn(LearnCommand),
    /// Look after who may act at the page
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Look after which models may run, and where
    #[command(subcommand)]
    Model(ModelCommand),
    /// Look into the archive of a coordinator that does not run
    #[command(subcommand)]
    Archive(ArchiveCommand),
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Check that no line was changed, removed or put elsewhere, and say where
    Verify {
        /// Check also against this head, that an earlier `verify` printed
        #[arg(long, value_name = "NUMBER:DIGEST")]
        head: Option<audit::Head>,
        #[command(flatten)]
        flags: Flags,
    },
    /// Write every line, oldest first
    Show {
        #[command(flatten)]
        flags: Flags,
    },
    /// How far each node's audit log reached, as it said itself: one JSON object a line
    Heads {
        #[command(flatten)]
        flags: Flags,
    },
    /// Take a node's audit log as it is now, after somebody looked into why it lost lines
    Accept {
        /// The node
        node: NodeId,
        #[command(flatten)]
        flags: Flags,
    },
}

#[derive(Subcommand)]
enum ArchiveCommand {
    /// Count the entries of each node and boot anew: one JSON object a line
    List(Place),
    /// Write every readable event in the order of arrival: one JSON object a line
    Export(Place),
}

#[derive(clap::Args)]
struct Place {
    /// Where the archive lives
    #[arg(long, value_name = "DIR", default_value_os_t = Config::default().data_dir)]
    data_dir: PathBuf,
}

fn main() -> ExitCode {
    picket_shared::telemetry::start();
    picket_shared::crypto::keep_out_of_dumps();
    picket_shared::keyfile::keep_files_private();
    let ended = match Arguments::parse().command {
        Command::Run { flags } => run(&flags),
        Command::Enrol { name, minutes, url, flags } => {
            command::enrol(&flags, &name, minutes, url.as_deref()).map_err(Into::into)
        }
        Command::Revoke { name, out, flags } => command::revoke(&flags, &name, out.as_deref()).map_err(Into::into),
        Command::Learn(command) => learn_command::run(&command),
        Command::Authority(command) => command::run(&command).map_err(Into::into),
        Command::Picture(command) => pictures::run(&command).map_err(Into::into),
        Command::Audit(command) => audit(&command).map_err(Into::into),
        Command::Operator(command) => operators::run(&command).map_err(Into::into),
        Command::Model(command) => model::run(&command).map_err(Into::into),
        Command::Archive(ArchiveCommand::List(place)) => list(&place.data_dir),
        Command::Archive(ArchiveCommand::Export(place)) => export(&place.data_dir),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report("picket-coordinator", error.downcast_ref::<Failure>(), &format!("{error:#}")),
    }
}

fn run(flags: &Flags) -> anyhow::Result<()> {
    let config = Config::read(flags)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        app::run(config, shutdown).await
    })
}

fn audit(command: &AuditCommand) -> Result<(), Failure> {
    let dir = |flags: &Flags| Ok::<_, Failure>(Config::read(flags)?.data_dir);
    match command {
        AuditCommand::Verify { head, flags } => audit::command::verify(&dir(flags)?, head.as_ref()),
        AuditCommand::Show { flags } => audit::command::show(&dir(flags)?),
        AuditCommand::Heads { flags } => audit::command::heads(&dir(flags)?),
        AuditCommand::Accept { node, flags } => {
            audit::command::accept(&dir(flags)?, node, node.as_str(), picket_shared::calendar::unix_s())
        }
    }
}

fn list(data_dir: &Path) -> anyhow::Result<()> {
    let archive = Archive::open_existing(data_dir).map_err(app::disk_failure)?;
    let rows = archive.lanes().map_err(app::disk_failure)?;
    let audit = archive.audit().map_err(app::disk_failure)?;
    let mut out = BufWriter::new(io::stdout().lock());
    for (id, lane) in &audit {
        let line = serde_json::json!({
            "node": id.node,
            "boot": id.boot,
            "events": lane.events,
            "doubles": lane.doubles,
            "missed": lane.missed,
            "absent": lane.absent(),
            "last_seq": lane.last,
            "watermark": rows.get(id).map(|row| row.watermark),
        });
        if !put(&mut out, &line)? {
            return Ok(());
        }
    }
    let doubles: u64 = audit.values().map(|lane| lane.doubles).sum();
    match doubles {
        0 => Ok(out.flush()?),
        n => Err(Failure::new(Exit::Data, format!("{n} events stand in the archive twice; please report this")).into()),
    }
}

fn export(data_dir: &Path) -> anyhow::Result<()> {
    let archive = Archive::open_existing(data_dir).map_err(app::disk_failure)?;
    let mut out = BufWriter::new(io::stdout().lock());
    for item in archive.entries() {
        let (_, entry) = item.map_err(app::disk_failure)?;
        if let Some(event) = view::seen(&entry)
            && !put(&mut out, &event)?
        {
            return Ok(());
        }
    }
    Ok(out.flush()?)
}

/// Writes one line; false where the reader has gone (`| head`).
fn put(out: &mut impl Write, line: &impl serde::Serialize) -> anyhow::Result<bool> {
    let mut bytes = view::json(line);
    bytes.push(b'\n');
    match out.write_all(&bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}
