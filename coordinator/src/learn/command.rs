//! `picket-coordinator learn`: shows what is learned, and leaves an order for the coordinator that runs, which does it within a second
//! or two. It learns nothing itself.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use clap::Subcommand;
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::{EventId, NodeId};
use picket_shared::keyfile;

use super::learner::Order;
use super::study::{ORDER, STATUS, folder};
use crate::config::{Config, Flags};

/// How long a running coordinator has to take an order.
const TAKEN_MAX: Duration = Duration::from_secs(5);
const TAKEN_LOOK: Duration = Duration::from_millis(50);

/// What can be asked and ordered.
#[derive(Debug, Subcommand)]
pub enum LearnCommand {
    /// Print what is learned: JSON
    Status(Flags),
    /// Learn nothing more
    Freeze(Flags),
    /// Learn again
    Unfreeze(Flags),
    /// Go back to the release before the last, as a new version, and learn nothing more
    Revert(Flags),
    /// Take a station out of learning
    Out {
        /// Its node
        node: NodeId,
        /// Where the coordinator keeps what it knows
        #[command(flatten)]
        flags: Flags,
    },
    /// Take it in again
    In {
        /// Its node
        node: NodeId,
        /// Where the coordinator keeps what it knows
        #[command(flatten)]
        flags: Flags,
    },
    /// Say that somebody was there: the devices learn from it
    Confirm(Saying),
    /// Say that nobody was there: the devices learn from it
    Reject(Saying),
}

/// What a person says of events.
#[derive(Debug, clap::Args)]
pub struct Saying {
    /// The events, as the page and `view/event` name them
    #[arg(required = true)]
    events: Vec<EventId>,
    /// Who says so
    #[arg(long)]
    who: String,
    /// Where the coordinator keeps what it knows
    #[command(flatten)]
    flags: Flags,
}

/// Does it.
pub fn run(command: &LearnCommand) -> anyhow::Result<()> {
    match command {
        LearnCommand::Status(flags) => status(flags),
        LearnCommand::Freeze(flags) => order(flags, &Order::Freeze),
        LearnCommand::Unfreeze(flags) => order(flags, &Order::Unfreeze),
        LearnCommand::Revert(flags) => order(flags, &Order::Revert),
        LearnCommand::Out { node, flags } => order(flags, &Order::Out(node.clone())),
        LearnCommand::In { node, flags } => order(flags, &Order::In(node.clone())),
        LearnCommand::Confirm(saying) => label(saying, true),
        LearnCommand::Reject(saying) => label(saying, false),
    }
}

fn label(Saying { events, who, flags }: &Saying, person: bool) -> anyhow::Result<()> {
    let said = super::order::label(events, person, who).map_err(|sentence| Failure::new(Exit::Config, sentence))?;
    order(flags, &said)
}

fn status(flags: &Flags) -> anyhow::Result<()> {
    let path = folder(&Config::read(flags)?.data_dir).join(STATUS);
    let text = std::fs::read(&path).map_err(|error| {
        let sentence =
            format!("{} cannot be read: {error}; does a coordinator with [learn] enabled run there?", path.display());
        Failure::new(Exit::Disk, sentence)
    })?;
    let mut out = io::stdout().lock();
    match out.write_all(&text).and_then(|()| out.write_all(b"\n")) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn order(flags: &Flags, order: &Order) -> anyhow::Result<()> {
    let folder = folder(&Config::read(flags)?.data_dir);
    let path = folder.join(ORDER);
    let missing = || {
        let sentence = format!("{} is not there; does a coordinator with [learn] enabled run there?", folder.display());
        Failure::new(Exit::Disk, sentence)
    };
    if !folder.is_dir() {
        return Err(missing().into());
    }
    keyfile::write_open(&path, &serde_json::to_vec(order)?)
        .map_err(|error| Failure::new(Exit::Disk, error.to_string()))?;
    let until = Instant::now() + TAKEN_MAX;
    while path.exists() {
        if Instant::now() >= until {
            let _ = std::fs::remove_file(&path);
            return Err(Failure::new(Exit::Disk, "no coordinator took the order; it is withdrawn").into());
        }
        std::thread::sleep(TAKEN_LOOK);
    }
    Ok(())
}
