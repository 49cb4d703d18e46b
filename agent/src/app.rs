//! The one place where an agent is put together, read like a boot log: detector, store, broker, cameras, frame path; then
//! the loop that drives the core; then the same in reverse.
//!
//! It decides nothing about frames or delivery; that is `pipeline.rs` and `node.rs`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use picket_shared::clock::Now;
use picket_shared::event::Event;
use picket_shared::exit::{Exit, Failure};
use picket_shared::mqtt::{self, Link, LinkEvent, LinkOptions};
use picket_shared::status::Twin;
use picket_shared::topics::Topic;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::cameras::Cameras;
use crate::capture::Mailbox;
use crate::config::{Config, Overrides};
use crate::detect::Detector;
use crate::facts::Watch;
use crate::node::{self, Effect, Identity, Input, Node};
use crate::pipeline::{Pipeline, Pulse, Raw, Speed};
use crate::recorder::{Outlet, Recorder, Request};
use crate::reload::{self, Plan};
use crate::report::Report;
use crate::store::AgentStore;

/// Events between the frame path and the core. The core only hands them on, so this is hardly ever more than one frame's.
const OBSERVED_MAX: usize = 256;
/// What the broker may take to hear the last words.
const GOODBYE: Duration = Duration::from_millis(500);

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
    /// The configuration's file, to be read again on SIGHUP, and what the command line says over it.
    pub config: Option<(PathBuf, Overrides)>,
}

/// Runs an agent until its sources have ended or it is told to stop.
pub async fn run(config: Config, options: RunOptions) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut told_to_stop = Stop::listen()?;
    let mut told_to_reload = signal(SignalKind::hangup())?;

    let detector = Detector::load(&config.detector)?;
    let detector_twin = detector.twin();
    tracing::info!(
        model = detector_twin.model,
        layout = detector_twin.layout,
        provider = detector_twin.provider,
        "detector ready"
    );

    let (store, found) =
        AgentStore::open(&config.data_dir.join("store"), &config.store, unix_ms() / 1000, fastrand::u32(..))
            .map_err(|error| Failure::new(Exit::Disk, error.to_string()))?;
    let twin = Twin {
        version: env!("CARGO_PKG_VERSION").into(),
        arch: std::env::consts::ARCH.into(),
        station: config.station(),
        cameras: config.cameras.iter().map(|camera| camera.name.clone()).collect(),
        detector: detector_twin.clone(),
    };
    let identity = Identity { node: config.node.clone(), boot: found.boot, pid: std::process::id(), twin };
    let owed: u64 = found.lanes.iter().map(|(_, lane)| lane.stored - lane.acked).sum();
    tracing::info!(boot = found.boot.0, owed, "store open");

    let (link, mut link_events) = mqtt::open(LinkOptions {
        broker: config.mqtt.broker.clone(),
        client_id: format!("picket-{}-{}", config.site, config.node),
        will: Some((Topic::Health(config.node.clone()).render(&config.site), node::will(&identity, unix_ms()))),
        filters: vec![Topic::Ack(config.node.clone()).render(&config.site)],
    });
    // Not bounded by itself: the recorder answers each of its bounded requests at most once.
    let (answer, mut answers) = mpsc::unbounded_channel();
    let outlet = Outlet { link: link.clone(), site: config.site.clone(), node: config.node.clone() };
    let answer = move |input| drop(answer.send(input));
    let recorder = Recorder::start(store, outlet, answer).context("the recorder's thread")?;

    let (mailbox, pulse) = (Mailbox::new(0), Arc::new(Pulse::default()));
    let (changes, changed) = std::sync::mpsc::channel();
    let (raw_runs, raw) = (options.raw_runs, Raw::default());
    let pipeline = Pipeline { mailbox: mailbox.clone(), detector, changes: changed, started, raw_runs, raw };
    let FramePath { measured, begin, mut observed, ended: mut frame_path_ended } =
        run_pipeline(pipeline, Arc::clone(&pulse))?;
    measured.await.context("the frame path ended by a fault of its own")?;

    let cameras =
        Cameras { mailbox, changes, boot: identity.boot, detector: detector_twin, frames_max: options.frames_max };
    let mut watch = Watch::new(Arc::clone(&pulse));
    cameras.follow(&config, &Plan { begin: config.cameras.clone(), ..Plan::default() }, &mut watch)?;
    let _ = begin.send(());
    let mut shell = Shell {
        node: Node::new(now(started), identity, found.lanes),
        watch,
        cameras,
        recorder,
        link,
        config,
        started,
        effects: Vec::new(),
    };
    shell.watch.ready();
    tracing::info!("watching");

    let mut speed: Option<Speed> = None;
    let mut drain_until = None;
    loop {
        if speed.is_some() {
            let deadline = *drain_until.get_or_insert_with(|| Instant::now() + options.drain_timeout);
            if observed.is_empty() && (shell.node.owed() == 0 || Instant::now() >= deadline) {
                break;
            }
        }
        let wakeup = started + Duration::from_millis(shell.node.next_wakeup_ms());
        let input = tokio::select! {
            () = told_to_stop.wait() => break,
            _ = told_to_reload.recv() => shell.reload(&options),
            event = link_events.recv() => match event {
                Some(event) => shell.of_link(event),
                None => anyhow::bail!("the connection's task ended"),
            },
            Some(input) = answers.recv() => Some(input),
            Some(event) = observed.recv() => Some(Input::Observed(Box::new(event))),
            ended = &mut frame_path_ended, if speed.is_none() => {
                speed = Some(ended.context("the frame path ended by a fault of its own")?);
                if let Some(failure) = shell.watch.all_failed() {
                    return Err(failure.into());
                }
                None
            }
            () = tokio::time::sleep_until(wakeup.into()) => Some(Input::Tick),
        };
        shell.step(input.unwrap_or(Input::Tick));
    }

    // In reverse: cameras, frame path, what it still had to tell, the disk, the last words.
    shell.watch.stop_cameras();
    pulse.stop.store(true, Ordering::Relaxed);
    while let Some(event) = observed.recv().await {
        shell.step(Input::Observed(Box::new(event)));
    }
    let speed = match speed {
        Some(speed) => speed,
        None => frame_path_ended.await.context("the frame path ended by a fault of its own")?,
    };
    shell.finish(&options, speed, &mut answers, &mut link_events).await
}

/// The core with everything that its effects need.
struct Shell {
    node: Node,
    watch: Watch,
    cameras: Cameras,
    recorder: Recorder,
    link: Link,
    config: Config,
    started: Instant,
    effects: Vec<Effect>,
}

impl Shell {
    fn of_link(&self, event: LinkEvent) -> Option<Input> {
        match event {
            LinkEvent::Up => {
                tracing::info!("connected to {}", self.config.mqtt.broker);
                Some(Input::LinkUp)
            }
            LinkEvent::Down(reason) => {
                tracing::warn!("{reason}; events are stored and sent later");
                Some(Input::LinkDown)
            }
            LinkEvent::Message { topic, payload } => match Topic::parse(&self.config.site, &topic) {
                Ok(topic) => Some(Input::Message(topic, payload)),
                Err(error) => {
                    tracing::warn!("{error}");
                    None
                }
            },
        }
    }

    /// Reads the configuration again and follows what it says of cameras. One that is wrong is told and not followed.
    fn reload(&mut self, options: &RunOptions) -> Option<Input> {
        let read = match &options.config {
            Some((path, overrides)) => Config::read(Some(path), overrides),
            None => {
                Err(Failure::new(Exit::Config, "there is no configuration file to read again; start with --config"))
            }
        };
        let followed = read.and_then(|new| {
            let plan = reload::plan(&self.config, &new);
            self.cameras.follow(&self.config, &plan, &mut self.watch).map(|()| (new, plan))
        });
        match followed {
            Ok((new, plan)) => {
                let Plan { end, begin, kept, waiting } = plan;
                tracing::info!(begun = begin.len(), ended = end.len(), kept, "configuration read again");
                if !waiting.is_empty() {
                    tracing::warn!("what changed in {} takes effect at the next start", waiting.join(", "));
                }
                self.watch.reloaded(None);
                self.config.cameras = new.cameras;
                Some(Input::Cameras(self.config.cameras.iter().map(|camera| camera.name.clone()).collect()))
            }
            Err(failure) => {
                let sentence = format!("the configuration was read again and not taken, the old one stays: {failure}");
                tracing::error!("{sentence}");
                self.watch.reloaded(Some(sentence));
                None
            }
        }
    }

    fn step(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let mut effects = std::mem::take(&mut self.effects);
            self.node.step(now(self.started), input, &mut effects);
            for effect in effects.drain(..) {
                next = self.perform(effect).or(next);
            }
            self.effects = effects;
        }
    }

    fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Store(event) => self.recorder.request(Request::Store(event)),
            Effect::Acked { boot, upto } => self.recorder.request(Request::Acked(boot, upto)),
            Effect::Send(send) => self.recorder.request(Request::Send(send)),
            Effect::Publish(topic, payload) => {
                let at_most_once = matches!(topic, Topic::Stats(_));
                let text = topic.render(&self.config.site);
                if let Err(error) = self.link.publish(&text, payload, topic.retained(), at_most_once) {
                    // Health and twin are said again on the next connection, statistics at the next heartbeat.
                    tracing::debug!("{text}: {error}");
                }
            }
            Effect::Heartbeat => return Some(Input::Facts(self.watch.facts(&self.recorder, &self.node))),
            Effect::Reject { reason, detail } => tracing::warn!(reason, "refused: {detail}"),
        }
        None
    }

    async fn finish(
        mut self,
        options: &RunOptions,
        speed: Speed,
        answers: &mut mpsc::UnboundedReceiver<Input>,
        link_events: &mut mpsc::Receiver<LinkEvent>,
    ) -> anyhow::Result<()> {
        // Whatever was observed last becomes durable before anybody hears goodbye.
        let deadline = tokio::time::Instant::now() + GOODBYE;
        while self.node.stored() < self.node.observed() {
            match tokio::time::timeout_at(deadline, answers.recv()).await {
                Ok(Some(input)) => self.step(input),
                Ok(None) | Err(_) => break,
            }
        }
        self.step(Input::Stop);
        self.link.close();
        let last_words =
            async { while let Some(LinkEvent::Message { .. } | LinkEvent::Up) = link_events.recv().await {} };
        let _ = tokio::time::timeout(GOODBYE, last_words).await;

        let owed = self.node.owed();
        let report = Report::of(&self.node, &self.watch, speed);
        let Shell { recorder, .. } = self;
        drop(recorder.finish());
        if let Some(path) = &options.report {
            report.write(path)?;
        }
        tracing::info!(stored = report.events_stored, owed, "stopped");
        if options.frames_max.is_some() && owed > 0 {
            let sentence =
                format!("{owed} events are stored and not yet in the archive; run the agent again to send them");
            return Err(Failure::new(Exit::Unfinished, sentence).into());
        }
        Ok(())
    }
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

fn now(started: Instant) -> Now {
    Now { mono_ms: started.elapsed().as_millis() as u64, unix_ms: unix_ms() }
}

fn unix_ms() -> u64 {
    // A clock before 1970 is a clock that was never set.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
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
