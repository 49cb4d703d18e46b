//! Makes what one camera's frames go through, and starts its source. It keeps no list of cameras.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use picket_shared::event::Precision;
use picket_shared::ids::{Boot, CameraId, NodeId, StationId};
use picket_shared::status::DetectorTwin;

use crate::capture::{self, Mailbox};
use crate::config::{Camera, Config};
use crate::cover::settings::{Borrowed, Station};
use crate::detect::{Detector, Thresholds};
use crate::gate::Gate;
use crate::learn::tap::Taps;
use crate::mask::Mask;
use crate::model::peek::Peeks;
use crate::observe::{self, Observer};
use crate::pipeline::{Change, Stage};
use crate::sinks::Sinks;
use crate::steady::SteadyClock;
use crate::track::{self, Tracker};

/// Cameras that may begin within one boot, those of others too. Their trackers share its track numbers, each taking every
/// so many'th.
const CAMERAS_PER_BOOT_MAX: usize = 1 << 16;

/// What every camera of this run has in common.
pub struct Stages {
    /// Where frames wait.
    pub mailbox: Mailbox,
    /// The frame path's ear.
    pub changes: Sender<Change>,
    /// This device.
    pub node: NodeId,
    /// This run.
    pub boot: Boot,
    /// What looks at the frames.
    pub detector: DetectorTwin,
    /// What is done with pictures.
    pub sinks: Arc<Sinks>,
    /// Where frames can be had together with what was found in them.
    pub peeks: Peeks,
    /// Who learns from what they see.
    pub learn: Option<Taps>,
    /// End each of this station's cameras after this many frames.
    pub frames_max: Option<u64>,
}

/// What a station has in common for all of its cameras.
pub(super) struct Ground<'a> {
    pub(super) station: StationId,
    pub(super) track: &'a track::Config,
    pub(super) observe: &'a observe::Config,
    pub(super) thresholds: Thresholds,
    /// It is this agent's own.
    own: bool,
}

impl<'a> Ground<'a> {
    pub(super) fn own(config: &'a Config) -> Ground<'a> {
        Ground {
            station: config.station(),
            track: &config.track,
            observe: &config.observe,
            thresholds: config.detector.thresholds(),
            own: true,
        }
    }

    pub(super) fn of(name: &StationId, station: &'a Station) -> Ground<'a> {
        let Station { track, observe, thresholds, .. } = station;
        Ground { station: name.clone(), track, observe, thresholds: *thresholds, own: false }
    }
}

impl Stages {
    /// The stage of one of this station's cameras.
    pub(super) fn own(&self, ground: &Ground, camera: &Camera, slot: usize) -> Result<Stage, String> {
        let (model, precision) = (self.detector.model.clone(), self.detector.precision);
        self.stage(ground, camera, &camera.name, (model, precision, None), slot)
    }

    /// The stage of one of another station's cameras; `detector` is its own model, where that is not this agent's.
    pub(super) fn borrowed(
        &self,
        ground: &Ground,
        Borrowed { told, camera, .. }: &Borrowed,
        detector: Option<Detector>,
        slot: usize,
    ) -> Result<Stage, String> {
        let twin = detector.as_ref().map_or_else(|| self.detector.clone(), Detector::twin);
        self.stage(ground, camera, told, (twin.model, twin.precision, detector), slot)
    }

    fn stage(
        &self,
        ground: &Ground,
        camera: &Camera,
        told: &CameraId,
        (model, precision, detector): (String, Precision, Option<Detector>),
        slot: usize,
    ) -> Result<Stage, String> {
        if slot >= CAMERAS_PER_BOOT_MAX {
            return Err(format!("{CAMERAS_PER_BOOT_MAX} cameras have begun since the start; restart the agent"));
        }
        let who = observe::Identity {
            node: self.node.clone(),
            boot: self.boot,
            station: ground.station.clone(),
            camera: told.clone(),
            model,
            precision,
        };
        Ok(Stage {
            mask: Mask::new(&camera.mask().polygons),
            gate: Gate::new(camera.gate.clone()),
            detector,
            thresholds: ground.thresholds,
            // Cameras share the boot's track numbers, because an event's id is its track's.
            tracker: Tracker::numbered(ground.track.clone(), slot as u64 + 1, CAMERAS_PER_BOOT_MAX as u64),
            size_px: None,
            observer: Observer::new(who, camera.scene()?, ground.observe.clone()),
            clock: SteadyClock::default(),
            tap: self.sinks.camera(camera, *told == camera.name),
            peeks: self.peeks_of(ground, camera),
            learn: self.learn.as_ref().filter(|_| ground.own).map(|taps| taps.camera(slot)),
            meter: Arc::default(),
        })
    }

    /// Others' ground shows nobody anything; and where no pictures of events are kept, none are to try models by.
    fn peeks_of(&self, ground: &Ground, camera: &Camera) -> Peeks {
        let Peeks { trial, hard } = self.peeks.clone();
        let (trial, hard) = (Some(trial).filter(|_| ground.own), Some(hard).filter(|_| ground.own && camera.snapshots));
        Peeks { trial: trial.unwrap_or_default(), hard: hard.unwrap_or_default() }
    }

    /// Starts a source.
    pub(super) fn start(&self, camera: &Camera, slot: usize, frames_max: Option<u64>) -> capture::Camera {
        capture::start(slot, camera.name.clone(), camera.capture(), frames_max, self.mailbox.clone())
    }

    pub(super) fn tell(&self, change: Change) {
        // A frame path that has ended has no cameras to change.
        let _ = self.changes.send(change);
    }
}
