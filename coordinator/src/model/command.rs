//! Models on the command line. What the owner does (keys, roots, packing, signing) works on a machine of his own, without a
//! coordinator; the rest works on a site's registry, beside a running coordinator that sees what has changed.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use picket_shared::calendar::unix_s;
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::{ModelName, NodeId, StationId};
use picket_shared::limits::MODEL_PART_BYTES_MAX;
use picket_shared::model::{Manifest, Root, TrialTerms};
use picket_shared::trust::DAY_S;

use super::offline::{self, Owned, RootTerms, Rotation};
use super::pack::{self, Contents};
use super::record::{ReleaseRef, Wish};
use super::registry::Registry;
use super::rollout_command::{self, RolloutCommand};
use super::{reports, view};
use crate::config::{Config, Flags};

/// What can be done with models.
#[derive(Subcommand)]
pub enum ModelCommand {
    /// Make a model key, for a machine that is on no network; prints its public key
    Keygen {
        /// Where the key goes
        file: PathBuf,
    },
    /// Say whose signatures make a release
    #[command(subcommand)]
    Root(RootCommand),
    /// Make a release out of files: its manifest, to be signed
    Pack(Box<Contents>),
    /// Sign a root or a release with model keys
    Sign {
        /// The root, or the release's manifest
        file: PathBuf,
        /// A key's file
        #[arg(long = "key", value_name = "FILE", required = true)]
        keys: Vec<PathBuf>,
    },
    /// Give a site a signed root or release
    Publish {
        /// The root, or the release's manifest
        document: PathBuf,
        /// A file of the release
        #[arg(long = "file", value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Which coordinator
        #[command(flatten)]
        flags: Flags,
    },
    /// Give a site a head of its own for a release that allows it; the site's orders key signs it
    Head {
        /// The model
        name: ModelName,
        /// Which release
        counter: u64,
        /// The head: little-endian 32-bit numbers
        file: PathBuf,
        /// For how many days it may be taken
        #[arg(long, default_value_t = 90)]
        days: u64,
        /// Which coordinator
        #[command(flatten)]
        flags: Flags,
    },
    /// Say which release a node runs
    Assign(Box<AssignArgs>),
    /// Take a release back from every node, and never assign it again
    Revoke {
        /// The model
        name: ModelName,
        /// Which release
        counter: u64,
        /// Which coordinator
        #[command(flatten)]
        flags: Flags,
    },
    /// Bring a release to many nodes, group after group, and look after how that goes
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Every root, release, head, assignment and rollout, and what each node says that it runs: one JSON object a line
    Status {
        /// Which coordinator
        #[command(flatten)]
        flags: Flags,
    },
}

/// What can be done with roots.
#[derive(Subcommand)]
pub enum RootCommand {
    /// Make an owner's first root
    New {
        /// Where it goes
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// What it shall be
        #[command(flatten)]
        terms: RootTerms,
    },
    /// Make the next root: other members, another threshold, or more time
    Rotate {
        /// Where it goes
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// What changes
        #[command(flatten)]
        rotation: Rotation,
    },
    /// Print a root or a release, and who has signed it
    Show {
        /// The file
        file: PathBuf,
    },
}

/// What a node is assigned.
#[derive(clap::Args)]
pub struct AssignArgs {
    /// The node
    node: NodeId,
    /// The model
    #[arg(required_unless_present = "clear")]
    name: Option<ModelName>,
    /// Which release
    #[arg(required_unless_present = "clear")]
    counter: Option<u64>,
    /// Let the node run what its own configuration says
    #[arg(long, conflicts_with_all = ["name", "counter", "head"])]
    clear: bool,
    /// A head of the site's own, by its counter
    #[arg(long)]
    head: Option<u64>,
    /// The station that it watches; by default what the node says itself, or the site plan, or the node's name
    #[arg(long)]
    station: Option<StationId>,
    /// How it is tried
    #[command(flatten)]
    trial: TrialArgs,
    /// Not to be begun before then, seconds since 1970
    #[arg(long, default_value_t = 0)]
    not_before: u64,
    /// Which coordinator
    #[command(flatten)]
    flags: Flags,
}

/// How a release is tried.
#[derive(clap::Args)]
pub struct TrialArgs {
    /// Frames that a device looks at with it beside the model before
    #[arg(long, default_value_t = TrialTerms::default().shadow_frames)]
    shadow_frames: u32,
    /// For how many seconds at most
    #[arg(long, default_value_t = TrialTerms::default().shadow_s_max)]
    shadow_seconds: u32,
    /// Least agreement with the model before, 0 to 1, where the site asks for more than the release
    #[arg(long)]
    agreement: Option<f64>,
    /// How often it is loaded at most before it is given up
    #[arg(long, default_value_t = TrialTerms::default().attempts)]
    attempts: u8,
}

impl TrialArgs {
    /// What was asked for, if that can be met.
    pub(super) fn terms(&self) -> Result<TrialTerms, Failure> {
        let trial = TrialTerms {
            shadow_frames: self.shadow_frames,
            shadow_s_max: self.shadow_seconds,
            agreement_min: self.agreement,
            attempts: self.attempts,
        };
        trial.check().map_err(wrong)?;
        Ok(trial)
    }
}

pub(super) fn wrong(sentence: impl Into<String>) -> Failure {
    Failure::new(Exit::Config, sentence)
}

pub(super) fn registry(config: &Config) -> Result<Registry, Failure> {
    Ok(Registry::open(&config.models_dir())?)
}

/// Does what was asked.
pub fn run(command: &ModelCommand) -> Result<(), Failure> {
    match command {
        ModelCommand::Keygen { file } => {
            let public = offline::keygen(file)?;
            said(&String::from(public))?;
            eprintln!(
                "picket-coordinator: {} holds model key {}; keep it off every network",
                file.display(),
                public.id()
            );
            Ok(())
        }
        ModelCommand::Root(command) => root(command),
        ModelCommand::Pack(contents) => {
            absent(&contents.out)?;
            let release = Owned::Release(pack::pack(contents, unix_s())?);
            release.write(&contents.out)?;
            eprintln!("picket-coordinator: {} waits for signatures: `model sign`", contents.out.display());
            said(&release.shown().to_string())
        }
        ModelCommand::Sign { file, keys } => {
            let mut document = Owned::read(file)?;
            document.sign(keys)?;
            document.write(file)?;
            said(&document.shown().to_string())
        }
        ModelCommand::Publish { document, files, flags } => publish(document, files, &Config::read(flags)?),
        ModelCommand::Head { name, counter, file, days, flags } => {
            let registry = registry(&Config::read(flags)?)?;
            let bytes = pack::bytes(file, MODEL_PART_BYTES_MAX)?;
            let of = ReleaseRef { name: name.clone(), counter: *counter };
            let head = registry.publish_head(&of, &bytes, unix_s() + days.clamp(&1, &3_650) * DAY_S)?;
            eprintln!("picket-coordinator: head {} of {of} can be assigned", head.counter);
            Ok(())
        }
        ModelCommand::Assign(args) => assign(args),
        ModelCommand::Revoke { name, counter, flags } => {
            let of = ReleaseRef { name: name.clone(), counter: *counter };
            let nodes = registry(&Config::read(flags)?)?.revoke(&of, unix_s())?;
            eprintln!(
                "picket-coordinator: {of} is revoked; {nodes} nodes go back to what their own configuration says"
            );
            Ok(())
        }
        ModelCommand::Rollout(command) => rollout_command::run(command),
        ModelCommand::Status { flags } => status(&registry(&Config::read(flags)?)?),
    }
}

fn root(command: &RootCommand) -> Result<(), Failure> {
    let (out, envelope) = match command {
        RootCommand::Show { file } => return said(&Owned::read(file)?.shown().to_string()),
        RootCommand::New { out, terms } => (out, offline::new_root(terms, unix_s())?),
        RootCommand::Rotate { out, rotation } => (out, offline::rotate_root(rotation, unix_s())?),
    };
    absent(out)?;
    let followed = match command {
        RootCommand::Rotate { rotation, .. } => offline::root(&rotation.root)?.follow(&envelope).map(drop),
        _ => Root::anchor(&envelope).map(drop),
    };
    let document = Owned::Root(envelope);
    document.write(out)?;
    match followed {
        Ok(()) => eprintln!("picket-coordinator: {} is signed by all that it takes", out.display()),
        Err(error) => eprintln!("picket-coordinator: {} waits for signatures ({error}): `model sign`", out.display()),
    }
    said(&document.shown().to_string())
}

fn absent(path: &Path) -> Result<(), Failure> {
    match path.exists() {
        true => Err(wrong(format!("{} is there already; name another file by --out", path.display()))),
        false => Ok(()),
    }
}

fn publish(document: &Path, files: &[PathBuf], config: &Config) -> Result<(), Failure> {
    let registry = registry(config)?;
    match Owned::read(document)? {
        Owned::Root(envelope) => {
            let version = registry.publish_root(&envelope)?;
            eprintln!("picket-coordinator: root {version} is the newest here; nodes are told with their assignments");
        }
        Owned::Release(envelope) => {
            let manifest: Manifest = registry.publish(&envelope, files, unix_s())?;
            eprintln!("picket-coordinator: {} {} can be assigned", manifest.name, manifest.counter);
        }
    }
    Ok(())
}

fn assign(args: &AssignArgs) -> Result<(), Failure> {
    let config = Config::read(&args.flags)?;
    let registry = registry(&config)?;
    let of_node = || StationId::new(args.node.as_str()).expect("a node's name is a station's name");
    let known = || rollout_command::stations(&config, &registry).map(|mut known| known.remove(&args.node));
    let station = match &args.station {
        Some(station) => station.clone(),
        None => known()?.unwrap_or_else(of_node),
    };
    let release = args.name.clone().zip(args.counter).map(|(name, counter)| ReleaseRef { name, counter });
    let wish = Wish { station, release, head: args.head, trial: args.trial.terms()?, not_before_s: args.not_before };
    let record = registry.assign(args.node.clone(), wish, unix_s())?;
    let what = record.wish.release.as_ref().map_or("what its own configuration says".to_owned(), ToString::to_string);
    eprintln!(
        "picket-coordinator: {} at the station {} runs {what} (assignment {})",
        record.node, record.wish.station, record.number
    );
    Ok(())
}

fn status(registry: &Registry) -> Result<(), Failure> {
    let now_s = unix_s();
    let mut lines = Vec::new();
    if let Some(envelope) = registry.anchor()? {
        lines.push(Owned::Root(envelope).shown());
    }
    for of in registry.releases()? {
        let problem = registry.release(&of).map_or_else(|error| Some(error.to_string()), |_| None);
        lines.push(serde_json::json!({ "release": of, "problem": problem, "heads": registry.heads(&of.name)? }));
    }
    for record in registry.records()? {
        let fresh = now_s < record.expires_s();
        let mut line = serde_json::json!({ "fresh": fresh, "expires_s": record.expires_s() });
        line["assignment"] = serde_json::to_value(&record).expect("names and numbers");
        lines.push(line);
    }
    let rollouts = registry.rollouts()?;
    for rollout in &rollouts {
        lines.push(serde_json::json!({ "rollout": view::rollout(rollout) }));
    }
    let (records, pins) = (registry.records()?, registry.pins()?);
    let reports = reports::saved(registry.dir()).map_err(|error| Failure::new(Exit::Disk, error))?;
    let known = view::Known { rollouts: &rollouts, records: &records, pins: &pins, reports: &reports };
    for station in view::stations(known) {
        lines.push(serde_json::json!({ "node": station }));
    }
    lines.iter().try_for_each(|line| said(&line.to_string()))
}

/// The reader may have seen enough (`| head`).
pub(super) fn said(line: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Disk, format!("the output cannot be written ({error})")))
        }
        _ => Ok(()),
    }
}
