//! Begins and ends the cameras of stations that are covered. When that is to be is decided in `duty`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use picket_shared::duty::Sight;
use picket_shared::ids::{CameraId, StationId};
use picket_shared::limits::SOURCES_MAX;

use super::Cameras;
use super::stages::Ground;
use crate::config::Config;
use crate::cover::models::{Models, Place};
use crate::cover::settings::{self, Station, local_name};
use crate::cover::standby::Lookout;
use crate::detect::{self, Detector};
use crate::duty::Assignment;
use crate::pipeline::Change;

/// Others' models lie here below the data directory, unless configured elsewhere.
const MODELS_FOLDER: &str = "models";

/// The stations that this node stands by for, and those that it covers.
pub(super) struct Covers {
    lookout: Lookout,
    active: BTreeMap<StationId, Active>,
    /// Why a station could not be covered, by what is said of it.
    unready: BTreeMap<StationId, String>,
}

/// One station that is covered.
struct Active {
    assignment: Assignment,
    cameras: Vec<CameraId>,
    /// What is not as it should be.
    problem: Option<String>,
}

impl Covers {
    /// `model` is the digest of this agent's own.
    pub(super) fn new(config: &Config, model: &str) -> std::io::Result<Covers> {
        let folder = config.cover.models.clone().unwrap_or_else(|| config.data_dir.join(MODELS_FOLDER));
        let lookout = Lookout::start(Models::new(model.to_owned(), folder), config.detector.clone())?;
        Ok(Covers { lookout, active: BTreeMap::new(), unready: BTreeMap::new() })
    }

    /// This agent's own model is another from here on.
    pub(super) fn own_is(&self, model: &str) {
        self.lookout.own_is(model);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    pub(super) fn ready(&self) -> BTreeSet<StationId> {
        self.lookout.ready()
    }

    /// A cover whose cameras could not be begun sees nothing.
    pub(super) fn sights(&self, sights: &mut BTreeMap<StationId, Sight>) {
        for station in self.active.keys() {
            sights.entry(station.clone()).or_insert(Sight::Blind);
        }
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let active = self.active.values().filter_map(|active| active.problem.clone());
        let unready =
            self.unready.iter().map(|(name, why)| format!("station {name} could not be covered from here: {why}"));
        active.chain(unready).collect()
    }

    /// All that may have to be covered.
    pub(super) fn prepare(&mut self, assignments: Vec<Assignment>, config: &Config) {
        self.unready.clear();
        let mut stations = BTreeMap::new();
        for assignment in assignments {
            let name = assignment.standby.station.clone();
            match settings::understand(&assignment, config) {
                Ok(station) => drop(stations.insert(name, station)),
                Err(why) => {
                    tracing::warn!("station {name} could not be covered from here: {why}");
                    self.unready.insert(name, why);
                }
            }
        }
        self.lookout.look_at(stations);
    }
}

impl Cameras {
    /// Frames a second beside those that this station's cameras need at least.
    pub(super) fn capacity_fps(&self) -> u16 {
        let own = self.config.cameras.len() as f64 * self.config.cover.fps_min;
        let spare = self.watch.device_fps().map_or(0.0, |fps| fps - own);
        spare.clamp(0.0, f64::from(u16::MAX)) as u16
    }

    /// Watches a station too. Where that fails, it is told, and the station is blind.
    pub(super) fn cover(&mut self, assignment: &Assignment) {
        let (name, home) = (&assignment.standby.station, &assignment.standby.home);
        self.uncover(name);
        let begun = settings::understand(assignment, &self.config).and_then(|station| self.begin_cover(name, &station));
        let (cameras, problem) = match begun {
            Ok((cameras, problem)) => {
                tracing::info!(cameras = cameras.len(), "covering station {name} for {home}");
                (cameras, problem)
            }
            Err(why) => (Vec::new(), Some(format!("station {name} cannot be covered: {why}"))),
        };
        if let Some(problem) = &problem {
            tracing::warn!("{problem}");
        }
        self.covers.active.insert(name.clone(), Active { assignment: assignment.clone(), cameras, problem });
    }

    pub(super) fn uncover(&mut self, name: &StationId) {
        if let Some(active) = self.covers.active.remove(name) {
            active.cameras.iter().for_each(|camera| self.end(camera));
            tracing::info!("station {name} is covered no more");
        }
    }

    /// What this device may open has changed.
    pub(super) fn cover_again(&mut self) {
        let again: Vec<Assignment> = self.covers.active.values().map(|active| active.assignment.clone()).collect();
        again.iter().for_each(|assignment| self.cover(assignment));
    }

    fn begin_cover(&mut self, name: &StationId, station: &Station) -> Result<(Vec<CameraId>, Option<String>), String> {
        let mut taken: BTreeSet<CameraId> = self.watch.names().cloned().collect();
        if taken.len() + station.cameras.len() > SOURCES_MAX {
            let more = station.cameras.len();
            return Err(format!("{more} cameras more are above the {SOURCES_MAX} that an agent may have"));
        }
        let (model, problem) = self.model_of(name, station);
        let first = self.stages.mailbox.opened();
        let ground = Ground::of(name, station);
        let mut planned = Vec::new();
        for (slot, borrowed) in (first..).zip(&station.cameras) {
            let mut borrowed = borrowed.clone();
            borrowed.camera.name = local_name(name.as_str(), &borrowed.told, &taken);
            taken.insert(borrowed.camera.name.clone());
            let load = |model| Detector::load(model).map_err(|failure| failure.sentence);
            let detector = model.as_ref().map(load).transpose()?;
            let stage = self.stages.borrowed(&ground, &borrowed, detector, slot)?;
            planned.push((borrowed, stage));
        }
        let mut cameras = Vec::new();
        for (borrowed, stage) in planned {
            let (slot, meter) = (self.stages.mailbox.open(), Arc::clone(&stage.meter));
            self.stages.tell(Change::Add(slot, Box::new(stage)));
            let shared = borrowed.shared.as_ref().and_then(|own| self.watch.share(own, slot));
            let source = shared.unwrap_or_else(|| self.stages.start(&borrowed.camera, slot, None));
            self.watch.add(borrowed.camera.name.clone(), name.clone(), slot, meter, source);
            cameras.push(borrowed.camera.name);
        }
        Ok((cameras, problem))
    }

    /// The station's own model where it is another than this agent's; and what is wrong, where it cannot be had.
    fn model_of(&self, name: &StationId, station: &Station) -> (Option<detect::Config>, Option<String>) {
        let other = |model: &str| (Some(self.config.detector.for_other(model)), None);
        match self.covers.lookout.place(name) {
            // As long as nobody has looked, most likely it is the same.
            None | Some(Place::Own) if self.stages.detector.model == station.model => (None, None),
            Some(Place::BuiltIn) => other(detect::BUILTIN_NAME),
            Some(Place::File(path)) => other(&path.to_string_lossy()),
            _ => {
                let (own, theirs) = (&self.stages.detector.model, &station.model);
                let what = format!(
                    "station {name} is watched with the model {own} in place of its own, {theirs}, which is not on this \
                     device; put it into the folder of cover.models"
                );
                (None, Some(what))
            }
        }
    }
}
