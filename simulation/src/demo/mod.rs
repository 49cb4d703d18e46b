//! The demo: one coordinator with its embedded broker and three agents, as separate processes, on a real video.
//!
//! It starts the real binaries, brings back what dies as systemd would, shows what they say over MQTT, and with `--once`
//! compares at the end what the agents stored with what the archive has. It takes no part in their work.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use picket_shared::exit::{Exit, Failure};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

pub mod audit;
pub mod kill;
mod members;
pub mod process;
pub mod stage;
pub mod summary;
pub mod watch;

use kill::{Deed, Killing};
use process::{Ended, Supervised};
use stage::{Mode, Ports, Stage};
use summary::Summary;
use watch::Watch;

/// How often the status lines are drawn again.
const DRAW: Duration = Duration::from_millis(500);
/// What the coordinator may take to stop.
const STOPPING: Duration = Duration::from_secs(10);

/// The command line of the demo.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoOptions {
    /// Run without a screen for a fixed number of frames, then report and compare
    #[arg(long)]
    pub once: bool,
    /// Frames of each agent with --once
    #[arg(long, default_value_t = 300)]
    pub frames: u64,
    /// The video; by default the sample that `make demo` prepares
    #[arg(long)]
    pub video: Option<PathBuf>,
    /// First of three ports on 127.0.0.1: dashboard, MQTT, MQTT over WebSocket. By default 18830, with --once free ones
    #[arg(long)]
    pub port: Option<u16>,
    /// Keep everything in this directory instead of a temporary one
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Write the report of --once to this file, as JSON
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Kill this agent once all stations are watched, show who stands in, and bring it back after half a minute; without it,
    /// type an agent's name while the demo runs
    #[arg(long, value_name = "AGENT", conflicts_with = "once", value_parser = stage::AREAS.map(|area| area.node))]
    pub kill: Option<String>,
    /// With --once, the longest that everything may take, in seconds
    #[arg(long, default_value_t = 600)]
    pub timeout_s: u64,
}

/// Runs the demo. With `once` it fails unless every stored event is in the archive exactly once.
pub async fn run(options: DemoOptions) -> anyhow::Result<()> {
    let mut temporary = tempfile::Builder::new().prefix("picket-demo-").tempdir().context("a temporary directory")?;
    let dir = options.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let played = play(options, &dir).await;
    if played.is_err() {
        // The error speaks of logs in it.
        temporary.disable_cleanup(true);
        eprintln!("picket-simulation: logs and data are kept in {}", dir.display());
    }
    played
}

async fn play(options: DemoOptions, dir: &Path) -> anyhow::Result<()> {
    let began = Instant::now();
    let ports = match options.port {
        Some(first) => Ports::from(first)?,
        None if options.once => Ports::free()?,
        None => Ports::from(18830)?,
    };
    let mode = if options.once { Mode::Once { frames: options.frames } } else { Mode::Live };
    let stage = Stage::set(dir, &stage::video(options.video.as_deref())?, ports, mode)?;

    let mut coordinator = Supervised::start(stage.coordinator())?;
    stage.wait_for_dashboard(&mut coordinator).await?;
    println!("dashboard    {}", stage.dashboard_url());
    println!("broker       mqtt://127.0.0.1:{}  (mosquitto_sub -p {0} -t 'picket/v1/#' -v)", ports.mqtt);
    println!("data         {}", dir.display());
    if !options.once && options.kill.is_none() {
        println!("type the name of an agent, and Enter, to kill it; it is brought back after half a minute");
    }
    let mut agents = stage.agents().into_iter().map(Supervised::start).collect::<anyhow::Result<Vec<_>>>()?;
    let mut watch = Watch::open(ports.mqtt, stage::AREAS.map(|area| area.node).to_vec());

    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut draw = tokio::time::interval(DRAW);
    let mut killing = options.kill.as_deref().map(Killing::new);
    let mut typed = (!options.once).then(listen_to_keys);
    let deadline = options.once.then(|| began + Duration::from_secs(options.timeout_s));
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            () = watch.listen() => {}
            line = next_line(&mut typed) => match stage::AREAS.iter().find(|area| area.node == line.trim()) {
                Some(area) => killing = Some(Killing::now(area.node)),
                None => watch.say(&format!("there is no agent \"{}\"; there are agent-1, agent-2 and agent-3", line.trim())),
            },
            _ = draw.tick() => {
                watch.draw();
                if let Some((killing, site)) = killing.as_mut().zip(watch.view()) {
                    let (deed, words) = killing.look(Instant::now(), site);
                    let agent = agents.iter_mut().find(|agent| agent.name == killing.agent());
                    if let Some((agent, deed)) = agent.zip(deed) {
                        match deed {
                            Deed::Kill => agent.kill()?,
                            Deed::Revive => agent.revive()?,
                        }
                    }
                    if let Some(words) = words {
                        watch.say(&words);
                    }
                }
                if let Ended::For(code) = coordinator.look()? {
                    bail!("the coordinator ended with code {code}");
                }
                let mut done = 0;
                for agent in &mut agents {
                    match agent.look()? {
                        Ended::Running => {}
                        Ended::For(0) => done += 1,
                        Ended::For(code) => bail!("{} ended with code {code}; its log is {}", agent.name, agent.log.display()),
                    }
                }
                if done == agents.len() {
                    break;
                }
                if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                    let sentence = format!("the demo did not finish within {} s; see the logs in {}", options.timeout_s, dir.display());
                    return Err(Failure::new(Exit::Unfinished, sentence).into());
                }
            }
        }
    }
    watch.rest();
    let restarts: u32 = agents.iter().chain([&coordinator]).map(|process| process.restarts).sum();
    for agent in &mut agents {
        agent.stop(STOPPING).await?;
    }
    coordinator.stop(STOPPING).await?;
    if !options.once {
        return Ok(());
    }
    let audit = audit::compare(&stage.coordinator_dir(), &stage.stores(), |_, _, _| {})?;
    let summary = Summary::of(&stage, audit, restarts, began.elapsed())?;
    print!("{summary}");
    if let Some(path) = &options.report {
        summary.write(path)?;
    }
    if !summary.balances() {
        bail!("what the agents stored and what the archive has do not balance");
    }
    Ok(())
}

/// What a person types. Its thread waits for a key until the process ends: a terminal cannot be read in any other way.
fn listen_to_keys() -> mpsc::Receiver<String> {
    let (tell, typed) = mpsc::channel(8);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if tell.blocking_send(line).is_err() {
                return;
            }
        }
    });
    typed
}

/// Never returns where nobody types, so that it can stand in a `select!`.
async fn next_line(typed: &mut Option<mpsc::Receiver<String>>) -> String {
    if let Some(lines) = typed
        && let Some(line) = lines.recv().await
    {
        return line;
    }
    *typed = None;
    std::future::pending().await
}
