//! The one place where an agent is put together, read like a boot log: detector, store, frame path, cameras, broker; then
//! the loop; then the same in reverse.
//!
//! It decides nothing about frames or delivery; that is `pipeline.rs` and `node.rs`, which `courier.rs` drives.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use picket_shared::event::Event;
use picket_shared::exit::{Exit, Failure};
use picket_shared::status::Twin;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::capture::{self, Mailbox};
use crate::config::Config;
use crate::courier::{Courier, Finished, Route, unix_ms};
use crate::detect::Detector;
use crate::facts::Watch;
use crate::gate::Gate;
use crate::mask::Mask;
use crate::node::Identity;
use crate::observe::{self, Observer};
use crate::pipeline::{Meter, Pipeline, Pulse, Raw, Speed, Stage};
use crate::report::Report;
use crate::steady::SteadyClock;
use crate::store::AgentStore;
use crate::track::Tracker;

/// Events between the frame path and the core. The core only hands them on, so this is hardly ever more than one frame's.
const OBSERVED_MAX: usize = 256;

/// What `run` was asked for beside the configuration.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// End after this many frames of each camera.
    pub frames_max: Option<u64>,
    /// Write what was done here, as JSON, at the end.
    pub report: Option<PathBuf>,
    /// Measure the raw limit of the detector with this many runs before and after.
    pub raw_runs: u32,
    /// How long to wait, after the last frame, for the archive to have everything.
    pub drain_timeout: Duration,
}

/// Runs an agent until its sources have ended or it is told to stop.
pub async fn run(config: Config, options: RunOptions) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut told_to_stop = Stop::listen()?;

    let detector = Detector::load(&config.detector)?;
    let detector_twin = detector.twin();
    tracing::info!(
        model = detector_twin.model,
        layout = detector_twin.layout,
        provider = detector_twin.provider,
        "detector ready"
    );

    let (store, found) = AgentStore::open(&config.memory_dir(), &config.store, unix_ms() / 1000, fastrand::u32(..))
        .map_err(|error| Failure::new(Exit::Disk, error.to_string()))?;
    let twin = Twin {
        version: env!("CARGO_PKG_VERSION").into(),
        arch: std::env::consts::ARCH.into(),
        station: config.station(),
        cameras: config.cameras.iter().map(|camera| camera.name.clone()).collect(),
        detector: detector_twin.clone(),
    };
    let (boot, salt, pid) = (found.boot, fastrand::u32(..), std::process::id());
    let identity = Identity { node: config.node.clone(), boot, salt, pid, twin };
    let owed: u64 = found.lanes.iter().map(|(_, lane)| lane.stored - lane.acked).sum();
    tracing::info!(boot = found.boot.0, owed, "store open");

    let mailbox = Mailbox::new(config.cameras.len());
    let stages = stages(&config, &identity, &detector_twin)?;
    let meters: Vec<Arc<Meter>> = stages.iter().map(|stage| Arc::clone(&stage.meter)).collect();
    let pulse = Arc::new(Pulse::default());
    let (raw_runs, raw) = (options.raw_runs, Raw::default());
    let pipeline = Pipeline { mailbox: mailbox.clone(), detector, stages, started, raw_runs, raw };
    let FramePath { measured, mut observed, ended: mut frame_path_ended } = run_pipeline(pipeline, Arc::clone(&pulse))?;
    measured.await.context("the frame path ended by a fault of its own")?;
    let start = |(index, camera): (usize, &crate::config::Camera)| {
        capture::start(index, camera.name.clone(), camera.capture(), options.frames_max, mailbox.clone())
    };
    let cameras: Vec<capture::Camera> = config.cameras.iter().enumerate().map(start).collect();

    let names = config.cameras.iter().map(|camera| camera.name.clone()).collect();
    let watch = Watch::new(names, meters, cameras, Arc::clone(&pulse));
    let route = Route { site: config.site.clone(), broker: config.mqtt.broker.clone() };
    let mut courier = Courier::start(started, route, identity, (store, found), watch)?;
    courier.watcher.ready();
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
            turned = courier.turn() => turned?,
            Some(event) = observed.recv() => courier.observed(event),
            ended = &mut frame_path_ended, if speed.is_none() => {
                speed = Some(ended.context("the frame path ended by a fault of its own")?);
                if let Some(failure) = courier.watcher.all_failed() {
                    return Err(failure.into());
                }
            }
        }
    }

    // In reverse: cameras, frame path, what it still had to tell, the disk, the last words.
    courier.watcher.stop_cameras();
    pulse.stop.store(true, Ordering::Relaxed);
    while let Some(event) = observed.recv().await {
        courier.observed(event);
    }
    let speed = match speed {
        Some(speed) => speed,
        None => frame_path_ended.await.context("the frame path ended by a fault of its own")?,
    };
    let Finished { node, watcher } = courier.finish().await;
    conclude(&options, &Report::of(&node, &watcher, speed))
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

fn stages(
    config: &Config,
    identity: &Identity,
    detector: &picket_shared::status::DetectorTwin,
) -> Result<Vec<Stage>, Failure> {
    let stage = |(index, camera): (usize, &crate::config::Camera)| {
        let who = observe::Identity {
            node: config.node.clone(),
            boot: identity.boot,
            station: config.station(),
            camera: camera.name.clone(),
            model: detector.model.clone(),
            precision: detector.precision,
        };
        let scene = camera.scene().map_err(|what| Failure::new(Exit::Config, what))?;
        Ok(Stage {
            mask: Mask::new(&camera.mask().polygons),
            gate: Gate::new(camera.gate.clone()),
            // Cameras share the boot's track numbers, because an event's id is its track's.
            tracker: Tracker::numbered(config.track.clone(), index as u64 + 1, config.cameras.len() as u64),
            observer: Observer::new(who, scene, config.observe.clone()),
            clock: SteadyClock::default(),
            meter: Arc::default(),
        })
    };
    config.cameras.iter().enumerate().map(stage).collect()
}

/// The frame path's thread, as heard from outside.
struct FramePath {
    /// The raw limit has been measured: cameras may start.
    measured: oneshot::Receiver<()>,
    /// What it has to tell.
    observed: mpsc::Receiver<Event>,
    /// It has ended, with its speed.
    ended: oneshot::Receiver<Speed>,
}

fn run_pipeline(mut pipeline: Pipeline, pulse: Arc<Pulse>) -> anyhow::Result<FramePath> {
    let (tell, observed) = mpsc::channel(OBSERVED_MAX);
    let ((ready, measured), (end, ended)) = (oneshot::channel(), oneshot::channel());
    let work = move || {
        pipeline.measure_raw_limit();
        let _ = ready.send(());
        let speed = pipeline.run(&pulse, |event| drop(tell.blocking_send(event)));
        let _ = end.send(speed);
    };
    std::thread::Builder::new().name("frame-path".into()).spawn(work).context("the frame path's thread")?;
    Ok(FramePath { measured, observed, ended })
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
