//! The soak: a real broker, the real coordinator and real outboxes, killed and frozen every few seconds; beside them a naive
//! publisher in the same trouble. At the end everything is brought back, drained, stopped and compared, byte by byte.
//!
//! It only kills, brings back and counts: no process is told anything that it would not be told at a site.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::NodeId;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::demo::audit::{self, Stored};

pub mod killer;
pub mod ledger;
pub mod naive;
pub mod outbox;
pub mod report;
pub mod site;
pub mod victim;

use killer::{Blow, Deed, Killer, Target};
use ledger::Account;
use report::{Naive, Report};
use site::{MOSQUITTO, Site};
use victim::Victim;

/// How often processes are looked after.
const LOOK: Duration = Duration::from_millis(50);
/// How often a line is printed and counters are read.
const PROGRESS: Duration = Duration::from_secs(5);
/// What a process may take to start, or to stop when it owes nothing.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);
/// The naive publishers' name for a reader.
const READER: &str = "naive-reader";
const HIT: &str = "naive, killed too";
const SPARED: &str = "naive, never killed";

/// The command line of the soak.
#[derive(Debug, Clone, clap::Args)]
pub struct SoakOptions {
    /// Agents without cameras, and as many naive publishers
    #[arg(long, default_value_t = 20)]
    pub agents: usize,
    /// How long there are faults
    #[arg(long, default_value_t = 5.0)]
    pub minutes: f64,
    /// Events a second, of each agent and each naive publisher
    #[arg(long, default_value_t = 20)]
    pub rate_hz: u64,
    /// What the faults are drawn from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The longest that delivering the rest may take, in seconds
    #[arg(long, default_value_t = 240)]
    pub drain_timeout_s: u64,
    /// Write the report to this file, as JSON
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Keep everything in this directory instead of a temporary one
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// Runs the soak. It fails unless the sums balance, and unless the naive publishers lost something: else the faults were none.
pub async fn run(options: SoakOptions) -> anyhow::Result<()> {
    let mut temporary = tempfile::Builder::new().prefix("picket-soak-").tempdir().context("a temporary directory")?;
    let dir = options.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let soaked = soak(&options, &dir).await;
    if soaked.is_err() {
        // The error speaks of logs in it.
        temporary.disable_cleanup(true);
        eprintln!("picket-simulation: logs and data are kept in {}", dir.display());
    }
    soaked
}

async fn soak(options: &SoakOptions, dir: &Path) -> anyhow::Result<()> {
    if options.agents == 0 || options.rate_hz == 0 {
        let sentence = "--agents and --rate-hz must be at least 1".to_owned();
        return Err(Failure::new(Exit::Config, sentence).into());
    }
    std::fs::create_dir_all(dir)?;
    let programs = std::env::current_exe()?.parent().context("a program lies in a directory")?.to_owned();
    let mut rig = Rig::start(options, Site::set(dir, &programs, MOSQUITTO)?).await?;
    rig.trouble(options).await?;
    rig.drain(Duration::from_secs(options.drain_timeout_s)).await?;
    let report = rig.audit(options)?;
    print!("{report}");
    if let Some(path) = &options.report {
        report.write(path)?;
    }
    if !report.balances() {
        bail!("what the agents stored and what the archive has do not balance");
    }
    if report.naive_lost() == 0 {
        bail!("the naive publishers lost nothing, so this soak has shown nothing; give it more --minutes");
    }
    Ok(())
}

/// Everything that runs.
struct Rig {
    site: Site,
    broker: Victim,
    coordinator: Victim,
    outboxes: Vec<(String, Victim)>,
    /// With their names, and whether they are killed when the outbox beside them is.
    naive: Vec<(String, bool, Victim)>,
    reader: Victim,
    interrupted: Signal,
    blows: BTreeMap<String, u64>,
    /// Of the coordinator's earlier lives, and of this one.
    duplicates: (u64, u64),
    fault_seconds: f64,
    drain_seconds: f64,
}

impl Rig {
    async fn start(options: &SoakOptions, site: Site) -> anyhow::Result<Rig> {
        let interrupted = signal(SignalKind::interrupt())?;
        let broker = Victim::start(site.mosquitto())?;
        let mut coordinator = Victim::start(site.coordinator())?;
        let until = Instant::now() + START;
        while site.metrics().await.is_none_or(|metrics| metrics.get("broker_up") == 0) {
            coordinator.look(Instant::now())?;
            if Instant::now() > until {
                bail!("the coordinator did not start within {START:?}: {}", coordinator.last_line());
            }
            tokio::time::sleep(LOOK).await;
        }
        let reader = Victim::start(site.naive(READER, true, options.rate_hz))?;
        let outbox = |i: usize| {
            let node = NodeId::new(format!("outbox-{i}"))?;
            let plan = site.outbox(node.as_str(), &node, options.rate_hz, site.mqtt_port);
            anyhow::Ok((node.to_string(), Victim::start(plan)?))
        };
        let naive = |i: usize| {
            let name = format!("naive-{i}");
            anyhow::Ok((name.clone(), i.is_multiple_of(2), Victim::start(site.naive(&name, false, options.rate_hz))?))
        };
        let outboxes = (0..options.agents).map(outbox).collect::<anyhow::Result<_>>()?;
        let naive = (0..options.agents).map(naive).collect::<anyhow::Result<_>>()?;
        Ok(Rig {
            site,
            broker,
            coordinator,
            outboxes,
            naive,
            reader,
            interrupted,
            blows: BTreeMap::new(),
            duplicates: (0, 0),
            fault_seconds: 0.0,
            drain_seconds: 0.0,
        })
    }

    /// Kills and freezes for as long as was asked for.
    async fn trouble(&mut self, options: &SoakOptions) -> anyhow::Result<()> {
        let began = Instant::now();
        let until = began + Duration::from_secs_f64(options.minutes * 60.0);
        let mut killer = Killer::new(options.seed, options.agents);
        let mut blow = killer.next().expect("a killer never ends");
        let mut due = began + Duration::from_millis(blow.after_ms);
        let mut print = began + PROGRESS;
        while Instant::now() < until {
            tokio::select! {
                _ = self.interrupted.recv() => bail!("interrupted"),
                () = tokio::time::sleep(LOOK) => {}
            }
            let now = Instant::now();
            self.look(now)?;
            if now >= due {
                self.strike(blow).await?;
                blow = killer.next().expect("a killer never ends");
                due += Duration::from_millis(blow.after_ms);
            }
            if now >= print {
                print += PROGRESS;
                self.progress(began).await;
            }
        }
        self.fault_seconds = began.elapsed().as_secs_f64();
        Ok(())
    }

    fn everybody(&mut self) -> impl Iterator<Item = &mut Victim> {
        let outboxes = self.outboxes.iter_mut().map(|(_, victim)| victim);
        let naive = self.naive.iter_mut().map(|(.., victim)| victim);
        [&mut self.broker, &mut self.coordinator, &mut self.reader].into_iter().chain(outboxes).chain(naive)
    }

    fn look(&mut self, now: Instant) -> anyhow::Result<()> {
        self.everybody().try_for_each(|victim| victim.look(now))
    }

    async fn strike(&mut self, blow: Blow) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_millis(blow.for_ms);
        let (who, victim) = match blow.target {
            Target::Broker => ("broker", &mut self.broker),
            Target::Coordinator => {
                self.read_counters().await;
                ("coordinator", &mut self.coordinator)
            }
            Target::Agent(i) => {
                if let (_, true, naive) = &mut self.naive[i] {
                    naive.hit(blow.deed, until)?;
                }
                ("agent", &mut self.outboxes[i].1)
            }
        };
        if victim.hit(blow.deed, until)? {
            let deed = if blow.deed == Deed::Kill { "killed" } else { "frozen" };
            *self.blows.entry(format!("{who} {deed}")).or_default() += 1;
            if (blow.target, blow.deed) == (Target::Coordinator, Deed::Kill) {
                self.duplicates = (self.duplicates.0 + self.duplicates.1, 0);
            }
        }
        Ok(())
    }

    /// What the coordinator has archived; nothing where it is down.
    async fn read_counters(&mut self) -> Option<u64> {
        let metrics = self.site.metrics().await?;
        self.duplicates.1 = self.duplicates.1.max(metrics.get("events_duplicate_total"));
        Some(metrics.get("events_archived_total"))
    }

    async fn progress(&mut self, began: Instant) {
        let archived = self.read_counters().await.map_or("down".into(), |archived| archived.to_string());
        let blows: u64 = self.blows.values().sum();
        println!("{:>5.0} s  {blows:>4} blows  archived {archived:>9}", began.elapsed().as_secs_f64());
    }

    /// Brings everybody back, lets the outboxes deliver what they have, and stops everything.
    async fn drain(&mut self, within: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        self.everybody().try_for_each(Victim::revive)?;
        for (name, victim) in &mut self.outboxes {
            while Account::read(&self.site.outbox_dir(name)).ready != Some(victim.pid()) {
                victim.look(Instant::now())?;
                if began.elapsed() > START {
                    bail!("{name} did not start within {START:?}: {}", victim.last_line());
                }
                tokio::time::sleep(LOOK).await;
            }
            victim.ask_to_stop()?;
        }
        let mut print = began + PROGRESS;
        for i in 0..self.outboxes.len() {
            while self.outboxes[i].1.ended()?.is_none() && began.elapsed() < within {
                self.broker.look(Instant::now())?;
                self.coordinator.look(Instant::now())?;
                tokio::time::sleep(LOOK).await;
                if Instant::now() >= print {
                    print += PROGRESS;
                    self.progress(began).await;
                }
            }
            self.outboxes[i].1.wait(Duration::ZERO).await?;
        }
        self.drain_seconds = began.elapsed().as_secs_f64();
        for (.., victim) in &mut self.naive {
            victim.ask_to_stop()?;
        }
        for (.., victim) in &mut self.naive {
            victim.wait(STOP).await?;
        }
        self.read_counters().await;
        for victim in [&mut self.reader, &mut self.coordinator, &mut self.broker] {
            victim.ask_to_stop()?;
            victim.wait(STOP).await?;
        }
        Ok(())
    }

    fn audit(&self, options: &SoakOptions) -> anyhow::Result<Report> {
        let of = |name: &String| Stored {
            name: name.clone(),
            node: NodeId::new(name.clone()).expect("it was one before"),
            dir: self.site.outbox_dir(name).join("store"),
        };
        let stores: Vec<Stored> = self.outboxes.iter().map(|(name, _)| of(name)).collect();
        let accounts: BTreeMap<&str, Account> =
            self.outboxes.iter().map(|(name, _)| (&name[..], Account::read(&self.site.outbox_dir(name)))).collect();
        let mut witnessed: BTreeMap<(&str, u64), u64> = BTreeMap::new();
        let audit = audit::compare(&self.site.archive(), &stores, |node, boot, seq| {
            if let Some((&name, account)) = accounts.get_key_value(node.as_str())
                && account.stored.get(&boot.0).is_some_and(|upto| seq <= *upto)
            {
                *witnessed.entry((name, boot.0)).or_default() += 1;
            }
        })?;
        let mut report = Report {
            seed: options.seed,
            agents: options.agents,
            rate_hz: options.rate_hz,
            fault_seconds: self.fault_seconds,
            blows: self.blows.clone(),
            naive: self.naive_sums()?,
            ..Report::default()
        };
        let picket = &mut report.picket;
        for balance in audit.agents.values() {
            picket.stored += balance.stored;
            picket.archived += balance.delivered;
            picket.doubles += balance.duplicated;
            picket.changed += balance.changed;
            picket.lost += balance.stored - balance.delivered - balance.changed;
        }
        (picket.foreign, picket.gaps) = (audit.foreign, audit.gaps);
        for (name, account) in &accounts {
            for (boot, upto) in &account.stored {
                picket.witnessed += upto;
                picket.witnessed_lost += upto.saturating_sub(witnessed.get(&(*name, *boot)).copied().unwrap_or(0));
            }
            picket.resent += account.resent;
            picket.not_stored += account.lost;
            picket.agent_memory_bytes_max = picket.agent_memory_bytes_max.max(account.memory_bytes_max);
        }
        picket.duplicates_refused = self.duplicates.0 + self.duplicates.1;
        picket.drain_seconds = self.drain_seconds;
        (picket.latency_p50_ms, picket.latency_p99_ms) = (audit.latency_ms(0.5), audit.latency_ms(0.99));
        picket.coordinator_memory_bytes_max = self.coordinator.memory_bytes_max();
        picket.broker_memory_bytes_max = self.broker.memory_bytes_max();
        Ok(report)
    }

    fn naive_sums(&self) -> anyhow::Result<BTreeMap<String, Naive>> {
        let read = |name: &str| {
            let path = self.site.naive_file(name);
            std::fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let received = read(READER)?;
        let (mut once, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for id in received.lines() {
            if !once.insert(id) {
                twice.insert(id);
            }
        }
        let mut sums: BTreeMap<String, Naive> = BTreeMap::new();
        for (name, hit, _) in &self.naive {
            let sum = sums.entry(if *hit { HIT } else { SPARED }.to_owned()).or_default();
            sum.publishers += 1;
            for id in read(name)?.lines() {
                sum.said_delivered += 1;
                sum.received += u64::from(once.contains(id));
                sum.lost += u64::from(!once.contains(id));
                sum.twice += u64::from(twice.contains(id));
            }
        }
        Ok(sums)
    }
}
