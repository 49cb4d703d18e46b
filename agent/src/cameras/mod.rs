//! The cameras of a running agent: begins them, ends them, and follows a changed configuration.
//!
//! A camera has three parts that must agree: a source that fills its slot of the mailbox, a stage of the frame path that
//! empties it, and what is watched of both. What changes is decided by `reload`; nothing here looks at frames.

use std::path::PathBuf;
use std::sync::Arc;

use picket_shared::audit::{Act, AuditLog, Note};
use picket_shared::calendar::unix_s;
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::CameraId;
use picket_shared::status::DetectorTwin;

use crate::config::{Config, Overrides};
use crate::courier::Watcher;
use crate::cover::settings;
use crate::duty::Order;
use crate::facts::Watch;
use crate::node::{Facts, Input, Node};
use crate::pipeline::{Change, Stage};
use crate::privacy::describe;
use crate::recorder::Recorder;
use crate::reload::{self, Plan};

mod cover;
mod stages;

use cover::Covers;
use stages::Ground;
pub use stages::Stages;

/// Cameras that are watched here: this station's, and those of stations that are covered.
pub struct Cameras {
    stages: Stages,
    config: Config,
    /// The configuration's file, and what the command line says over it.
    file: Option<(PathBuf, Overrides)>,
    watch: Watch,
    covers: Covers,
    /// Why others cannot be told what this station consists of.
    untold: Option<String>,
    audit: Arc<AuditLog>,
}

impl Cameras {
    /// No cameras yet.
    pub fn new(
        stages: Stages,
        config: Config,
        file: Option<(PathBuf, Overrides)>,
        watch: Watch,
        audit: Arc<AuditLog>,
    ) -> std::io::Result<Cameras> {
        let covers = Covers::new(&config, &stages.detector.model)?;
        let untold = settings::tell(&config, &stages.detector.model).1;
        Ok(Cameras { stages, config, file, watch, covers, untold, audit })
    }

    /// Begins the cameras of the first configuration.
    pub fn begin(&mut self) -> Result<(), Failure> {
        self.follow(&self.config.clone(), &Plan { begin: self.config.cameras.clone(), ..Plan::default() })
    }

    /// What is watched, from outside.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Stops every camera; their decoders are gone when this returns.
    pub fn stop(&mut self) {
        self.watch.stop_cameras();
    }

    /// Reads the configuration again, follows what it says of cameras, and gives the names of those that are watched now.
    /// One that is wrong is told and not followed.
    pub fn reload(&mut self) -> Vec<Input> {
        let read = match &self.file {
            Some((path, overrides)) => Config::read(Some(path), overrides),
            None => {
                Err(Failure::new(Exit::Config, "there is no configuration file to read again; start with --config"))
            }
        };
        let followed = read.and_then(|new| {
            let plan = reload::plan(&self.config, &new);
            let running = Config { cameras: new.cameras, ..self.config.clone() };
            self.note(&running)?;
            self.follow(&running, &plan).map(|()| (running, plan))
        });
        match followed {
            Ok((running, plan)) => {
                let Plan { end, begin, kept, waiting } = plan;
                tracing::info!(begun = begin.len(), ended = end.len(), kept, "configuration read again");
                if !waiting.is_empty() {
                    tracing::warn!("what changed in {} takes effect at the next start", waiting.join(", "));
                }
                self.watch.reloaded(None);
                self.config = running;
                // A cover may share a camera that has ended, and what it may open may be open now.
                self.cover_again();
                let (duty, untold) = settings::tell(&self.config, &self.stages.detector.model);
                self.untold = untold;
                vec![self.watched(), Input::Duty(Box::new(duty))]
            }
            Err(failure) => {
                let sentence = format!("the configuration was read again and not taken, the old one stays: {failure}");
                // Where even this cannot be written down, the health says so.
                let note = Note::detail(format!("not taken: {failure}"));
                let _ = self.audit.record(unix_s(), Act::Reloaded, &note);
                tracing::error!("{sentence}");
                self.watch.reloaded(Some(sentence));
                Vec::new()
            }
        }
    }

    /// Writes down what is about to be followed, and that other parts of pictures are masked, where they are.
    fn note(&self, new: &Config) -> Result<(), Failure> {
        let ((_, before), (whole, masks)) = (describe(&self.config), describe(new));
        let changed = (before != masks).then(|| (Act::MasksChanged, Note::detail(&masks)));
        for (act, note) in [(Act::Reloaded, Note::detail(whole))].into_iter().chain(changed) {
            let written = self.audit.record(unix_s(), act, &note);
            written.map_err(|error| Failure::new(Exit::Disk, error.to_string()))?;
        }
        Ok(())
    }

    /// Goes from the running configuration to the planned one. An error changes nothing.
    fn follow(&mut self, config: &Config, plan: &Plan) -> Result<(), Failure> {
        let (first, ground) = (self.stages.mailbox.opened(), Ground::own(config));
        let stages: Vec<Stage> = (first..)
            .zip(&plan.begin)
            .map(|(slot, camera)| self.stages.own(&ground, camera, slot))
            .collect::<Result<_, String>>()
            .map_err(|what| Failure::new(Exit::Config, what))?;
        // New slots open before old ones close, lest the frame path take the moment between for its end; an old source
        // ends before its successor begins, because a device may be opened once only.
        let mut begun = Vec::new();
        for stage in stages {
            let (slot, meter) = (self.stages.mailbox.open(), Arc::clone(&stage.meter));
            self.stages.tell(Change::Add(slot, Box::new(stage)));
            begun.push((slot, meter));
        }
        for name in &plan.end {
            self.end(name);
        }
        for (camera, (slot, meter)) in plan.begin.iter().zip(begun) {
            let source = self.stages.start(camera, slot, self.stages.frames_max);
            self.watch.add(camera.name.clone(), config.station(), slot, meter, source);
        }
        Ok(())
    }

    fn end(&mut self, name: &CameraId) {
        if let Some(slot) = self.watch.remove(name) {
            self.stages.tell(Change::Remove(slot));
        }
    }

    fn watched(&self) -> Input {
        Input::Cameras(self.watch.names().cloned().collect())
    }
}

/// Longest reason that is repeated of what the detector was to be and is not.
const REASON_CHARS_MAX: usize = 280;

/// What the detector was to run on, or to run, and what it does in its place; see [`DetectorTwin::passed_over`].
fn passed_over(twin: &DetectorTwin) -> impl Iterator<Item = String> {
    twin.passed_over.iter().map(|(what, why)| {
        let why: String = why.chars().take(REASON_CHARS_MAX).collect();
        match what.strip_prefix("model ") {
            Some(model) => format!("the model {model} is not used, and its reference is: {why}"),
            None => format!("the provider {what} cannot be had, and {} is used: {why}", twin.provider),
        }
    })
}

impl Watcher for Cameras {
    fn switched(&mut self, detector: &DetectorTwin) {
        self.stages.detector = detector.clone();
        self.untold = settings::tell(&self.config, &detector.model).1;
        self.covers.own_is(&detector.model);
        // A station that was watched with the model of before has its own again.
        self.cover_again();
    }

    fn facts(&mut self, recorder: &Recorder, node: &Node) -> Facts {
        let mut facts = self.watch.facts(recorder, node);
        facts.ready = self.covers.ready();
        facts.capacity_fps = self.capacity_fps();
        self.covers.sights(&mut facts.sights);
        facts.problems.extend(passed_over(&self.stages.detector));
        facts.problems.extend(self.untold.clone());
        facts.problems.extend(self.covers.problems());
        if !self.covers.is_empty() && self.watch.is_short_of_time(&self.config.station()) {
            facts.problems.push("this station's cameras are looked at less often while another is covered".into());
        }
        facts
    }

    fn order(&mut self, order: Order) -> Option<Input> {
        match order {
            Order::Prepare(assignments) => self.covers.prepare(assignments, &self.config),
            Order::Cover(assignment) => {
                self.cover(&assignment);
                return Some(self.watched());
            }
            Order::Uncover(station) => {
                self.uncover(&station);
                return Some(self.watched());
            }
            // These are no cameras' affair: the connection hears, and the platform goes.
            Order::Listen(_) | Order::Go(..) | Order::Leave(..) | Order::Remember(_) => {}
        }
        None
    }
}
