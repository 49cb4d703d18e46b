//! The cameras of a running agent: begins them, ends them, and follows a changed configuration.
//!
//! A camera has three parts that must agree: a source that fills its slot of the mailbox, a stage of the frame path that
//! empties it, and what is watched of both. What changes is decided by `reload`; nothing here looks at frames.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::{Boot, CameraId};
use picket_shared::status::DetectorTwin;

use crate::capture::{self, Mailbox};
use crate::config::{Camera, Config, Overrides};
use crate::facts::Watch;
use crate::gate::Gate;
use crate::mask::Mask;
use crate::observe::{self, Observer};
use crate::pipeline::{Change, Stage};
use crate::reload::{self, Plan};
use crate::sinks::Sinks;
use crate::steady::SteadyClock;
use crate::track::Tracker;

/// Cameras that may begin within one boot. Their trackers share its track numbers, each taking every so many'th.
const CAMERAS_PER_BOOT_MAX: usize = 4096;

/// What every camera of this run has in common.
pub struct Cameras {
    /// Where frames wait.
    pub mailbox: Mailbox,
    /// The frame path's ear.
    pub changes: Sender<Change>,
    /// This run.
    pub boot: Boot,
    /// What looks at the frames.
    pub detector: DetectorTwin,
    /// What is done with pictures.
    pub sinks: Arc<Sinks>,
    /// End each camera after this many frames.
    pub frames_max: Option<u64>,
}

impl Cameras {
    /// Begins the cameras of the first configuration.
    pub fn begin(&self, config: &Config, watch: &mut Watch) -> Result<(), Failure> {
        self.follow(config, &Plan { begin: config.cameras.clone(), ..Plan::default() }, watch)
    }

    /// Reads the configuration again, follows what it says of cameras, and gives the names of those that are watched now.
    /// One that is wrong is told and not followed.
    pub fn reload(
        &self,
        config: &mut Config,
        file: Option<&(PathBuf, Overrides)>,
        watch: &mut Watch,
    ) -> Option<Vec<CameraId>> {
        let read = match file {
            Some((path, overrides)) => Config::read(Some(path), overrides),
            None => {
                Err(Failure::new(Exit::Config, "there is no configuration file to read again; start with --config"))
            }
        };
        let followed = read.and_then(|new| {
            let plan = reload::plan(config, &new);
            self.follow(config, &plan, watch).map(|()| (new, plan))
        });
        match followed {
            Ok((new, plan)) => {
                let Plan { end, begin, kept, waiting } = plan;
                tracing::info!(begun = begin.len(), ended = end.len(), kept, "configuration read again");
                if !waiting.is_empty() {
                    tracing::warn!("what changed in {} takes effect at the next start", waiting.join(", "));
                }
                watch.reloaded(None);
                config.cameras = new.cameras;
                Some(config.cameras.iter().map(|camera| camera.name.clone()).collect())
            }
            Err(failure) => {
                let sentence = format!("the configuration was read again and not taken, the old one stays: {failure}");
                tracing::error!("{sentence}");
                watch.reloaded(Some(sentence));
                None
            }
        }
    }

    /// Goes from the running configuration to the planned one. An error changes nothing.
    fn follow(&self, config: &Config, plan: &Plan, watch: &mut Watch) -> Result<(), Failure> {
        let first = self.mailbox.opened();
        let stages: Vec<Stage> = (first..)
            .zip(&plan.begin)
            .map(|(slot, camera)| self.stage(config, camera, slot))
            .collect::<Result<_, String>>()
            .map_err(|what| Failure::new(Exit::Config, what))?;
        // New slots open before old ones close, lest the frame path take the moment between for its end; an old source
        // ends before its successor begins, because a device may be opened once only.
        let mut begun = Vec::new();
        for stage in stages {
            let (slot, meter) = (self.mailbox.open(), Arc::clone(&stage.meter));
            self.tell(Change::Add(slot, Box::new(stage)));
            begun.push((slot, meter));
        }
        for name in &plan.end {
            if let Some(slot) = watch.remove(name) {
                self.tell(Change::Remove(slot));
            }
        }
        for (camera, (slot, meter)) in plan.begin.iter().zip(begun) {
            let (name, mailbox) = (camera.name.clone(), self.mailbox.clone());
            let source = capture::start(slot, name.clone(), camera.capture(), self.frames_max, mailbox);
            watch.add(name, slot, meter, source);
        }
        Ok(())
    }

    fn stage(&self, config: &Config, camera: &Camera, slot: usize) -> Result<Stage, String> {
        if slot >= CAMERAS_PER_BOOT_MAX {
            return Err(format!("{CAMERAS_PER_BOOT_MAX} cameras have begun since the start; restart the agent"));
        }
        let who = observe::Identity {
            node: config.node.clone(),
            boot: self.boot,
            station: config.station(),
            camera: camera.name.clone(),
            model: self.detector.model.clone(),
            precision: self.detector.precision,
        };
        Ok(Stage {
            mask: Mask::new(&camera.mask().polygons),
            gate: Gate::new(camera.gate.clone()),
            // Cameras share the boot's track numbers, because an event's id is its track's.
            tracker: Tracker::numbered(config.track.clone(), slot as u64 + 1, CAMERAS_PER_BOOT_MAX as u64),
            observer: Observer::new(who, camera.scene()?, config.observe.clone()),
            clock: SteadyClock::default(),
            tap: self.sinks.camera(camera),
            meter: Arc::default(),
        })
    }

    fn tell(&self, change: Change) {
        // A frame path that has ended has no cameras to change.
        let _ = self.changes.send(change);
    }
}
