//! The one place where an agent is put together, read like a boot log: detector, store, frame path, cameras, broker; then
//! the loop; then the same in reverse.
//!
//! It decides nothing about frames or delivery; that is `pipeline.rs` and `node.rs`, which `courier.rs` drives.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use picket_shared::audit::{Act, AuditLog, Note};
use picket_shared::calendar::unix_s;
use picket_shared::event::Event;
use picket_shared::exit::{Exit, Failure};
use picket_shared::status::Twin;
use picket_shared::trust::identity::Identity as Enrolled;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::cameras::{Cameras, Stages};
use crate::capture::Mailbox;
use crate::config::{Config, Overrides};
use crate::courier::{Courier, Finished, Route};
use crate::cover::settings;
use crate::credentials::Credentials;
use crate::facts::Watch;
use crate::gossip::Gossip;
use crate::learn::study::Study;
use crate::model::frames::Frames;
use crate::model::peek::Peeks;
use crate::model::shelf::Shelf;
use crate::model::steward::Steward;
use crate::model::{Models, start};
use crate::node::Identity;
use crate::pipeline::{Pipeline, Pulse, Raw, Speed};
use crate::platform::Platform;
use crate::privacy::{Clerk, describe};
use crate::report::Report;
use crate::sinks::Sinks;
use crate::store::AgentStore;

/// Events between the frame path and the core. The core only hands them on, so this is hardly ever more than one frame's.
const OBSERVED_MAX: usize = 256;

/// "masks " and their digest.
const MASKS_CHARS: usize = 18;

/// What `run` was asked for beside the configuration.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// End after this many frames of each camera.
    pub frames_max: Option<u64>,
    /// Write what was done here, as JSON, at the end.
    pub report: Option<PathBuf>,
    /// Measure the raw limit of the detector with this many runs before and after.
    pub raw_runs: u32,
    /// Run the network for each frame and nothing else.
    pub bare: bool,
    /// How long to wait, after the last frame, for the archive to have everything.
    pub drain_timeout: Duration,
    /// The configuration's file, to be read again on SIGHUP, and what the command line says over it.
    pub config: Option<(PathBuf, Overrides)>,
}

/// Runs an agent until its sources have ended or it is told to stop.
pub async fn run(config: Config, options: RunOptions) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut told_to_stop = Stop::listen()?;
    let mut told_to_reload = signal(SignalKind::hangup())?;

    let shelf = Shelf::open(&config.data_dir).map_err(|error| Failure::new(Exit::Disk, error.to_string()))?;
    let mut found_models = shelf.find(&config.model);
    let recorded = found_models.record.clone();
    let detectors = start::load(&shelf, &config.detector, &mut found_models)?;
    let detector_twin = detectors[0].twin();
    let device = start::device(&config, &detector_twin);
    tracing::info!(
        model = detector_twin.model,
        layout = detector_twin.layout,
        provider = detector_twin.provider,
        "detector ready"
    );

    let (store, found) = AgentStore::open(&config.memory_dir(), &config.store, unix_s(), fastrand::u32(..))
        .map_err(|error| Failure::new(Exit::Disk, error.to_string()))?;
    let twin = Twin {
        version: env!("CARGO_PKG_VERSION").into(),
        arch: std::env::consts::ARCH.into(),
        station: config.station(),
        cameras: config.cameras.iter().map(|camera| camera.name.clone()).collect(),
        detector: detector_twin.clone(),
    };
    let (boot, salt, pid) = (found.boot, fastrand::u32(..), std::process::id());
    let (duty, _) = settings::tell(&config, &detector_twin.model);
    let identity = Identity { node: config.node.clone(), boot, salt, pid, twin, duty };
    let owed: u64 = found.lanes.iter().map(|(_, lane)| lane.stored - lane.acked).sum();
    tracing::info!(boot = found.boot.0, owed, "store open");

    let audit = Arc::new(audit(&config));

    let (mailbox, pulse) = (Mailbox::new(0), Arc::new(Pulse::new(detectors.len())));
    let study = config.learn.enabled.then(|| {
        let who = (config.node.clone(), boot);
        Study::start(&config.learn, &config.detector, who, &config.data_dir, detectors[0].backbone().cloned())
    });
    let study = study.transpose().context("the thread that learns")?;
    let (changes, changed) = std::sync::mpsc::channel();
    let (raw_runs, raw) = (options.raw_runs, Raw::default());
    let bare = options.bare;
    let pipeline = Pipeline { mailbox: mailbox.clone(), detectors, changes: changed, started, raw_runs, raw, bare };
    let FramePath { measured, begin, mut observed, ended: mut frame_path_ended } =
        run_pipeline(pipeline, Arc::clone(&pulse))?;
    measured.await.context("the frame path ended by a fault of its own")?;

    let sinks = Arc::new(Sinks::open(&config, boot, Some(Arc::clone(&audit))).await);
    let (node, detector, frames_max) = (config.node.clone(), detector_twin, options.frames_max);
    let (peeks, swaps) = (Peeks::default(), changes.clone());
    let frames = Frames::start(shelf.frames(), &config.model, peeks.hard.clone()).context("the thread for frames")?;
    let sinks_of = Arc::clone(&sinks);
    let (of_peeks, learn) = (peeks.clone(), study.as_ref().map(Study::taps));
    let stages = Stages { mailbox, changes, node, boot, detector, sinks: sinks_of, frames_max, peeks: of_peeks, learn };
    let watch = Watch::new(Arc::clone(&pulse), Arc::clone(&sinks));
    let data_dir = config.data_dir.clone();
    let mut cameras = Cameras::new(stages, config.clone(), options.config.clone(), watch, Arc::clone(&audit))
        .context("the standby's thread")?;
    cameras.begin()?;
    let _ = begin.send(());
    let (broker, fallback, tls) = (config.broker(), config.mqtt.fallback.clone(), config.mqtt.tls.clone());
    let route = Route { site: config.site.clone(), broker, fallback, tls };
    let credentials = Credentials::load(Enrolled::below(&config.data_dir), config.site.clone(), boot)?;
    let mut courier = Courier::start(started, route, identity, credentials, (store, found), cameras)?;
    if let Some(gossip) = Gossip::start(&config.gossip, &config.site, &config.node).await? {
        courier.speaks_with_neighbours(gossip);
    }
    courier.carried_by(Platform::start(&config.platform).context("the platform's thread")?);
    let (policy, node) = (config.privacy.clone(), config.node.clone());
    let clerk = Clerk::start(policy, node, &config.data_dir, Arc::clone(&audit), Arc::clone(&sinks));
    courier.answered_by(clerk.context("the clerk's thread")?);
    courier.audited_by(audit, &data_dir);
    if let Some(study) = study {
        courier.learns(study);
    }
    let models = Models::new(found_models, device, salt);
    let factory = config.detector.clone();
    courier
        .runs_models(models, recorded, |answer| Steward::start(shelf, factory, peeks, swaps, answer))
        .context("the thread for models")?;
    courier.watcher.watch().ready();
    tracing::info!("watching");

    let mut speed: Option<Speed> = None;
    let mut drain_until = None;
    loop {
        if speed.is_some() {
            let deadline = *drain_until.get_or_insert_with(|| Instant::now() + options.drain_timeout);
            if observed.is_empty() && (courier.node().owed() == 0 || Instant::now() >= deadline) {
                break;
            }
        }
        tokio::select! {
            () = told_to_stop.wait() => break,
            _ = told_to_reload.recv() => {
                let news = courier.watcher.reload();
                courier.news(news);
            }
            turned = courier.turn() => turned?,
            Some(event) = observed.recv() => courier.observed(event),
            ended = &mut frame_path_ended, if speed.is_none() => {
                speed = Some(ended.context("the frame path ended by a fault of its own")?);
                if let Some(failure) = courier.watcher.watch().all_failed() {
                    return Err(failure.into());
                }
            }
        }
    }

    drop(frames);
    // In reverse: cameras, frame path, what it still had to tell, the disk, the last words, recordings.
    courier.watcher.stop();
    pulse.stop.store(true, Ordering::Relaxed);
    while let Some(event) = observed.recv().await {
        courier.observed(event);
    }
    let speed = match speed {
        Some(speed) => speed,
        None => frame_path_ended.await.context("the frame path ended by a fault of its own")?,
    };
    let Finished { node, watcher } = courier.finish().await;
    tokio::task::spawn_blocking(move || sinks.finish()).await.context("the end of recordings")?;
    conclude(&options, &Report::of(&node, watcher.watch(), speed))
}

/// The audit log, which now says that this run begins and with what. One that cannot be written hinders no camera: it stands in
/// the health, and no picture leaves.
fn audit(config: &Config) -> AuditLog {
    let now_s = unix_s();
    let audit = AuditLog::open_or_later(&config.data_dir, now_s);
    let (settings, masks) = describe(config);
    let mut before = None;
    let told = [Act::Started, Act::Reloaded].map(Act::word);
    let _ = AuditLog::check(&config.data_dir, None, |line| {
        if told.contains(&line.act) {
            before = line.detail.clone().filter(|detail| detail.contains("masks ")).or(before.take());
        }
    });
    let changed = before.is_some_and(|before| !before.contains(&masks[..MASKS_CHARS]));
    let changed = changed.then(|| (Act::MasksChanged, Note::detail(&masks)));
    let started = (Act::Started, Note::about(env!("CARGO_PKG_VERSION")).with(settings));
    for (act, note) in [started].into_iter().chain(changed) {
        if let Err(error) = audit.record(now_s, act, &note) {
            tracing::error!("{error}; no picture leaves this device meanwhile");
        }
    }
    audit
}

/// The report, and whether all was done.
fn conclude(options: &RunOptions, report: &Report) -> anyhow::Result<()> {
    if let Some(path) = &options.report {
        report.write(path)?;
    }
    let owed = report.events_owed;
    tracing::info!(stored = report.events_stored, owed, "stopped");
    if options.frames_max.is_some() && owed > 0 {
        let sentence = format!("{owed} events are stored and not yet in the archive; run the agent again to send them");
        return Err(Failure::new(Exit::Unfinished, sentence).into());
    }
    Ok(())
}

/// The frame path's thread, as heard from outside.
struct FramePath {
    /// The raw limit has been measured: cameras may start.
    measured: oneshot::Receiver<()>,
    /// The cameras have started: it may look at them.
    begin: std::sync::mpsc::Sender<()>,
    /// What it has to tell.
    observed: mpsc::Receiver<Event>,
    /// It has ended, with its speed.
    ended: oneshot::Receiver<Speed>,
}

fn run_pipeline(mut pipeline: Pipeline, pulse: Arc<Pulse>) -> anyhow::Result<FramePath> {
    let (tell, observed) = mpsc::channel(OBSERVED_MAX);
    let ((ready, measured), (end, ended)) = (oneshot::channel(), oneshot::channel());
    let (begin, begun) = std::sync::mpsc::channel();
    let work = move || {
        pipeline.measure_raw_limit();
        let _ = ready.send(());
        // Before there is a camera, a mailbox looks as if all had ended.
        let _ = begun.recv();
        let speed = pipeline.run(&pulse, |event| drop(tell.blocking_send(event)));
        let _ = end.send(speed);
    };
    std::thread::Builder::new().name("frame-path".into()).spawn(work).context("the frame path's thread")?;
    Ok(FramePath { measured, begin, observed, ended })
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> std::io::Result<Stop> {
        Ok(Stop { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
