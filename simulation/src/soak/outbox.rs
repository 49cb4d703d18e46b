//! `picket-simulation outbox`: an agent without cameras. Its store, recorder, core and connection are the agent's own, driven
//! by the agent's own shell; only what is seen is made up.
//!
//! It may be killed at any moment. SIGTERM ends the seeing: it then waits for the archive to have everything, and ends.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use picket_agent::courier::{Courier, Route, Watcher};
use picket_agent::credentials::Credentials;
use picket_agent::facts::memory_bytes;
use picket_agent::node::{Facts, Identity, Node};
use picket_agent::recorder::Recorder;
use picket_agent::store::{AgentStore, Config};
use picket_shared::calendar::unix_ms;
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::{Boot, NodeId, SiteId};
use picket_shared::mqtt::BrokerUrl;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::ledger::Ledger;
use crate::sensor;

/// More than any soak makes: the audit wants to see all of them again.
const KEPT_MIB: u32 = 1024;

/// The command line of an outbox.
#[derive(Debug, Clone, clap::Args)]
pub struct OutboxOptions {
    /// Where the store and the ledger are kept
    #[arg(long)]
    pub dir: PathBuf,
    /// The site
    #[arg(long)]
    pub site: SiteId,
    /// This node
    #[arg(long)]
    pub node: NodeId,
    /// The broker
    #[arg(long)]
    pub broker: String,
    /// Another broker, where that one cannot be reached; repeat it for more
    #[arg(long)]
    pub fallback: Vec<String>,
    /// Events a second
    #[arg(long, default_value_t = 20)]
    pub rate_hz: u64,
    /// How long to wait for the archive after SIGTERM, in seconds
    #[arg(long, default_value_t = 300)]
    pub drain_timeout_s: u64,
}

struct Witness {
    ledger: Ledger,
}

impl Watcher for Witness {
    fn facts(&mut self, recorder: &Recorder, node: &Node) -> Facts {
        self.ledger.counts(std::process::id(), node.resent(), node.lost(), memory_bytes("VmHWM:"));
        let problems = recorder.problems().into_iter().collect();
        Facts { resident_bytes: memory_bytes("VmRSS:"), problems, ..Facts::default() }
    }

    fn stored(&mut self, boot: Boot, upto: u64) {
        self.ledger.stored(boot, upto);
    }
}

/// Runs until SIGTERM, and then until the archive has everything.
pub async fn run(options: OutboxOptions) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut terminate = signal(SignalKind::terminate())?;
    let url = |text| BrokerUrl::try_from(text).map_err(|sentence| Failure::new(Exit::Config, sentence));
    let broker = url(options.broker)?;
    let fallback = options.fallback.into_iter().map(url).collect::<Result<_, _>>()?;
    std::fs::create_dir_all(&options.dir).with_context(|| options.dir.display().to_string())?;
    let config = Config { confirmed_mib: KEPT_MIB, telemetry_mib: KEPT_MIB, ..Config::default() };
    let opened = AgentStore::open(&options.dir.join("store"), &config, unix_ms() / 1000, fastrand::u32(..));
    let (store, found) = opened.map_err(|error| Failure::new(Exit::Disk, error.to_string()))?;
    let (node, boot, pid) = (options.node, found.boot, std::process::id());
    let (salt, twin) = (fastrand::u32(..), sensor::twin(&node));
    let identity = Identity { node: node.clone(), boot, salt, pid, twin, duty: sensor::duty(&node) };
    let mut witness = Witness { ledger: Ledger::append_in(&options.dir)? };
    witness.ledger.ready(pid);
    let route = Route { site: options.site, broker, fallback, tls: None };
    let credentials = Credentials::none(route.site.clone());
    let mut courier = Courier::start(started, route, identity, credentials, (store, found), witness)?;

    let mut rng = fastrand::Rng::new();
    let mut sight = tokio::time::interval(Duration::from_nanos(1_000_000_000 / options.rate_hz.max(1)));
    // What a frozen process did not see, it did not see.
    sight.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = 0;
    let mut drain_until: Option<Instant> = None;
    while drain_until.is_none_or(|until| courier.node().owed() > 0 && Instant::now() < until) {
        tokio::select! {
            _ = terminate.recv() => drain_until = Some(Instant::now() + Duration::from_secs(options.drain_timeout_s)),
            _ = sight.tick(), if drain_until.is_none() => {
                seen += 1;
                courier.observed(sensor::event(&mut rng, &node, boot, seen, unix_ms()));
            }
            turned = courier.turn() => turned?,
        }
    }
    let mut finished = courier.finish().await;
    let (node, memory) = (&finished.node, memory_bytes("VmHWM:"));
    finished.watcher.ledger.counts(pid, node.resent(), node.lost(), memory);
    match node.owed() {
        0 => Ok(()),
        owed => {
            Err(Failure::new(Exit::Unfinished, format!("{owed} events are stored and not yet in the archive")).into())
        }
    }
}
