//! Rollouts on the command line. It writes into the registry, beside a coordinator that runs and gives them their turns.

use std::collections::{BTreeMap, BTreeSet};

use clap::Subcommand;
use picket_shared::calendar::unix_s;
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::{ModelName, NodeId, StationId};

use super::command::{TrialArgs, registry, said, wrong};
use super::ledger::{Order, Start};
use super::record::ReleaseRef;
use super::registry::Registry;
use super::reports;
use super::rollout::{Daily, Group, Rollout, Schedule, Terms};
use super::view;
use crate::config::{Config, Flags};

/// What can be done with rollouts.
#[derive(Subcommand)]
pub enum RolloutCommand {
    /// Bring a release to many nodes, group after group: the canaries first
    Start(Box<StartArgs>),
    /// Every rollout and how far each of its stations is: one JSON object a line
    Status {
        /// Only this one
        number: Option<u64>,
        /// Which coordinator
        #[command(flatten)]
        flags: Flags,
    },
    /// Tell nobody else for a while
    Pause(OrderArgs),
    /// Go on; after a halt what failed is excused, and who refused, or saw too little at any time, is told once more
    Resume(OrderArgs),
    /// Tell nobody else any more; who runs the release goes on with it
    Abort(OrderArgs),
    /// Hold a station to what it runs: no rollout and no assignment gives it another release
    Pin(PinArgs),
    /// Let go of it
    Unpin(PinArgs),
}

/// Which rollout.
#[derive(clap::Args)]
pub struct OrderArgs {
    /// Its number; by default the only one that is open
    number: Option<u64>,
    /// Which coordinator
    #[command(flatten)]
    flags: Flags,
}

/// Which station.
#[derive(clap::Args)]
pub struct PinArgs {
    /// Its name
    station: StationId,
    /// Which coordinator
    #[command(flatten)]
    flags: Flags,
}

/// What a rollout is begun with.
#[derive(clap::Args)]
pub struct StartArgs {
    /// The model
    name: ModelName,
    /// Which release
    counter: u64,
    /// A head of the site's own, by its counter
    #[arg(long)]
    head: Option<u64>,
    /// Nodes that try it first
    #[arg(long, value_name = "NODE", value_delimiter = ',', required = true)]
    canary: Vec<NodeId>,
    /// Nodes of the next group, as a,b,c; once for each group
    #[arg(long, value_name = "NODES")]
    wave: Vec<String>,
    /// Shares of all other nodes that have it after each further group, in percent: 10,50,100. Where no --wave is named it is 100
    #[arg(long, value_name = "PERCENT", value_delimiter = ',')]
    rest: Vec<u32>,
    /// Least share of a group that must run it before the next group is told, 0 to 1
    #[arg(long, default_value_t = Terms::default().success_min)]
    success: f64,
    /// Largest share of those that came to an end that may have failed, 0 to 1; more halts the rollout
    #[arg(long, default_value_t = Terms::default().failures_max)]
    failures: f64,
    /// So many must have come to an end, or all of a group, before it is judged
    #[arg(long, default_value_t = Terms::default().sample_min)]
    sample: u32,
    /// How long a group must have run it before the next one is told
    #[arg(long, default_value_t = Terms::default().soak_s)]
    soak_seconds: u64,
    /// Nobody is told before then, seconds since 1970
    #[arg(long, default_value_t = 0)]
    not_before: u64,
    /// Nodes are told only in this part of each day, UTC: 22:00-05:30
    #[arg(long)]
    daily: Option<Daily>,
    /// How it is tried
    #[command(flatten)]
    trial: TrialArgs,
    /// Which coordinator
    #[command(flatten)]
    flags: Flags,
}

/// Does what was asked.
pub fn run(command: &RolloutCommand) -> Result<(), Failure> {
    match command {
        RolloutCommand::Start(args) => start(args),
        RolloutCommand::Status { number, flags } => status(&registry(&Config::read(flags)?)?, *number),
        RolloutCommand::Pause(args) => order(args, Order::Pause),
        RolloutCommand::Resume(args) => order(args, Order::Resume),
        RolloutCommand::Abort(args) => order(args, Order::Abort),
        RolloutCommand::Pin(args) => pin(args, true),
        RolloutCommand::Unpin(args) => pin(args, false),
    }
}

fn start(args: &StartArgs) -> Result<(), Failure> {
    let config = Config::read(&args.flags)?;
    let registry = registry(&config)?;
    let stations = stations(&config, &registry)?;
    let groups = groups(args, stations.keys())?;
    if let Some(stranger) = groups.iter().flat_map(|group| &group.nodes).find(|node| !stations.contains_key(*node)) {
        return Err(wrong(format!("{stranger} was never heard of; check its name, or write it into the site plan")));
    }
    let start = Start {
        release: ReleaseRef { name: args.name.clone(), counter: args.counter },
        head: args.head,
        trial: args.trial.terms()?,
        groups,
        terms: Terms {
            success_min: args.success,
            failures_max: args.failures,
            sample_min: args.sample,
            soak_s: args.soak_seconds,
        },
        schedule: Schedule { not_before_s: args.not_before, daily: args.daily },
        stations,
    };
    let rollout = registry.begin_rollout(start, unix_s())?;
    let groups: Vec<String> =
        rollout.groups.iter().map(|group| format!("{} {}", group.name, group.nodes.len())).collect();
    eprintln!("picket-coordinator: rollout {} of {} has begun: {}", rollout.number, rollout.goal, groups.join(", "));
    said(&serde_json::to_string(&view::rollout(&rollout)).expect("names and numbers"))
}

/// Every node that is known, and its station: as it says itself, as the site plan says, or as it was assigned before.
pub fn stations(config: &Config, registry: &Registry) -> Result<BTreeMap<NodeId, StationId>, Failure> {
    let own = |node: &NodeId| StationId::new(node.as_str()).expect("a node's name is a station's name");
    let records = registry.records()?.into_iter().map(|record| (record.node, record.wish.station));
    let mut stations: BTreeMap<NodeId, StationId> = records.collect();
    for station in &config.stations {
        stations.insert(station.node.clone(), station.name.clone());
    }
    for (node, report) in reports::saved(registry.dir()).map_err(|error| Failure::new(Exit::Disk, error))? {
        let of_before = stations.remove(&node);
        let station = report.station.or(of_before).unwrap_or_else(|| own(&node));
        stations.insert(node, station);
    }
    Ok(stations)
}

/// The groups in their order. `known` is every node that there is.
fn groups<'a>(args: &StartArgs, known: impl Iterator<Item = &'a NodeId>) -> Result<Vec<Group>, Failure> {
    let mut groups = vec![Group { name: "canary".into(), nodes: args.canary.clone() }];
    for (at, nodes) in args.wave.iter().enumerate() {
        let nodes = nodes.split(',').map(|node| NodeId::new(node.trim()));
        let nodes: Vec<NodeId> = nodes.collect::<Result<_, _>>().map_err(|error| wrong(error.to_string()))?;
        groups.push(Group { name: format!("wave-{}", at + 1), nodes });
    }
    let shares: &[u32] = match (&args.rest[..], &args.wave[..]) {
        ([], []) => &[100],
        (shares, _) => shares,
    };
    let grows = shares.windows(2).all(|pair| pair[0] < pair[1]);
    if !grows || shares.iter().any(|share| !(1..=100).contains(share)) {
        return Err(wrong("--rest has shares that grow, from 1 to 100, as in 10,50,100"));
    }
    let named: BTreeSet<&NodeId> = groups.iter().flat_map(|group| &group.nodes).collect();
    let rest: Vec<NodeId> = known.filter(|node| !named.contains(node)).cloned().collect();
    let mut from = 0;
    for share in shares {
        let to = (rest.len() * *share as usize).div_ceil(100);
        if to > from {
            groups.push(Group { name: format!("rest-{share}"), nodes: rest[from..to].to_vec() });
        }
        from = to.max(from);
    }
    Ok(groups)
}

fn status(registry: &Registry, number: Option<u64>) -> Result<(), Failure> {
    let rollouts: Vec<Rollout> = match number {
        Some(number) => vec![registry.rollout(number)?],
        None => registry.rollouts()?,
    };
    let reports = reports::saved(registry.dir()).map_err(|error| Failure::new(Exit::Disk, error))?;
    for rollout in rollouts {
        said(&serde_json::to_string(&view::rollout(&rollout)).expect("names and numbers"))?;
        for group in &rollout.groups {
            for node in &group.nodes {
                let member = &rollout.members[node];
                let state = reports.get(node).and_then(|report| report.state.as_ref());
                let line = serde_json::json!({
                    "rollout": rollout.number,
                    "group": group.name,
                    "node": node,
                    "station": member.station,
                    "stage": member.stage,
                    "since": member.since_s,
                    "reason": member.reason,
                    "detail": member.detail,
                    "excused": member.excused,
                    "compared": member.figures,
                    "trial": state.and_then(|state| state.trial.as_ref()),
                });
                said(&line.to_string())?;
            }
        }
    }
    registry.pins()?.iter().try_for_each(|station| said(&serde_json::json!({ "pinned": station }).to_string()))
}

fn order(args: &OrderArgs, order: Order) -> Result<(), Failure> {
    let registry = registry(&Config::read(&args.flags)?)?;
    let number = match args.number {
        Some(number) => number,
        None => only_open(&registry)?,
    };
    let rollout = registry.order_rollout(number, order)?;
    eprintln!("picket-coordinator: rollout {number} of {} is {}", rollout.goal, rollout.course.word());
    Ok(())
}

fn only_open(registry: &Registry) -> Result<u64, Failure> {
    let open: Vec<u64> = registry.rollouts()?.iter().filter(|rollout| rollout.is_open()).map(|r| r.number).collect();
    match open[..] {
        [number] => Ok(number),
        [] => Err(Failure::new(Exit::Denied, "no rollout is open; `model rollout status` shows those that were")),
        _ => Err(wrong(format!("rollouts {open:?} are open; say which one"))),
    }
}

fn pin(args: &PinArgs, held: bool) -> Result<(), Failure> {
    let changed = registry(&Config::read(&args.flags)?)?.pin(&args.station, held)?;
    let word = if held { "pinned" } else { "not pinned" };
    let before = if changed { "" } else { " already" };
    eprintln!("picket-coordinator: {} is {word}{before}", args.station);
    Ok(())
}
