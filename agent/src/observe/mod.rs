//! From tracks to events: what is worth telling, and when.
//!
//! An event is the life of one confirmed track, or of a crowd in one zone: one `new`, any number of `update`s, one `end`.
//! Everything that could flicker has an inertia. Nothing here stores or sends, and nothing here looks at pixels.

mod crowd;
mod line;
mod still;
mod watched;
mod zone;

use std::collections::BTreeMap;

use picket_shared::config::within;
use picket_shared::event::{Direction, Event, EventKind, Precision};
use picket_shared::ids::{Boot, CameraId, EventId, LineId, NodeId, StationId, ZoneId};
use picket_shared::limits::EVENT_ZONES_MAX;
use picket_shared::status::Crossed;
use serde::{Deserialize, Serialize};

use self::crowd::{Crowd, Gathering, Watch};
pub use self::line::{Line, Lines};
use self::watched::Watched;
pub use self::zone::{Zone, Zones};
use crate::track::Track;

/// What an event of many people at once is called.
const CROWD_LABEL: &str = "crowd";

/// When something is worth telling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The score that a track must once reach to become an event. Too high misses people; too low tells of clutter.
    pub score_start: f32,
    /// Longest silence about an open event. Too high leaves readers with an old box; too low floods them.
    pub update_interval_ms: u64,
    /// Frames in a row before a zone is entered or left, a line is crossed, or a still object has moved. Too high is late
    /// and misses short visits; too low tells of every tremble.
    pub inertia_frames: u32,
    /// How long an object must stay to be stationary. Too high never says so; too low says it of people who wait.
    pub stationary_ms: u64,
    /// How far the foot point may move meanwhile, as a share of the box's height. Too high takes slow people for still;
    /// too low takes the box's tremble for movement.
    pub stationary_fraction: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            score_start: 0.5,
            update_interval_ms: 5_000,
            inertia_frames: 2,
            stationary_ms: 10_000,
            stationary_fraction: 0.2,
        }
    }
}

impl Config {
    /// Refuses values that cannot be meant, naming the key and its range.
    pub fn check(&self) -> Result<(), String> {
        within("observe.score_start", self.score_start, 0.01..=1.0)?;
        within("observe.update_interval_ms", self.update_interval_ms, 100..=3_600_000)?;
        within("observe.inertia_frames", self.inertia_frames, 1..=100)?;
        within("observe.stationary_ms", self.stationary_ms, 100..=3_600_000)?;
        within("observe.stationary_fraction", self.stationary_fraction, 0.01..=10.0)
    }
}

/// Who sees, where, and with what: the part of an event that stays the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The machine.
    pub node: NodeId,
    /// The agent's run.
    pub boot: Boot,
    /// The place.
    pub station: StationId,
    /// The source.
    pub camera: CameraId,
    /// The first 12 hexadecimal digits of the model file's SHA-256.
    pub model: String,
    /// What the model's numbers are computed in.
    pub precision: Precision,
}

/// What is drawn into a source's picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scene {
    /// Where people can be.
    pub zones: Zones,
    /// What they can cross.
    pub lines: Lines,
}

/// What is counted of one source. Made anew only where it is read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// People in each zone now.
    pub zones: BTreeMap<ZoneId, u32>,
    /// Crossings of each line, as told in events.
    pub lines: BTreeMap<LineId, Crossed>,
    /// Tracks that are none: seen, and with a box that is not.
    pub tracks_refused: u64,
}

impl Tally {
    fn of(scene: &Scene) -> Self {
        let zones = scene.zones.as_slice().iter().map(|zone| (zone.name.clone(), 0)).collect();
        let lines = scene.lines.as_slice().iter().map(|line| (line.name.clone(), Crossed::default())).collect();
        Self { zones, lines, tracks_refused: 0 }
    }

    fn cross(&mut self, line: &LineId, direction: Direction) {
        let crossed = self.lines.get_mut(line).expect("a line of the scene is counted from the beginning");
        match direction {
            Direction::LeftToRight => crossed.left_to_right += 1,
            Direction::RightToLeft => crossed.right_to_left += 1,
        }
    }
}

/// The observer of one source.
pub struct Observer {
    identity: Identity,
    scene: Scene,
    config: Config,
    watched: Vec<Watched>,
    /// The highest track number seen: one at or under it that is not watched has ended, and must not begin again.
    track_max: u64,
    /// One for each zone.
    crowds: Vec<Watch>,
    /// Crowds told so far.
    crowds_told: u64,
    tally: Tally,
}

impl Observer {
    /// An observer that has seen nothing yet.
    pub fn new(identity: Identity, scene: Scene, config: Config) -> Self {
        let crowds = vec![Watch::default(); scene.zones.as_slice().len()];
        let tally = Tally::of(&scene);
        Self { identity, scene, config, watched: Vec::new(), track_max: 0, crowds, crowds_told: 0, tally }
    }

    /// Takes the tracks of one frame in, and appends what is worth telling to `out`: in the order of the tracks, then
    /// their ends, then the crowds. `now_ms` is the frame's time, `frame_size` its width and height in pixels. Tracks are
    /// numbered from 1, and new ones have higher numbers than all before them, as [`crate::track::Tracker`] gives them;
    /// others are passed over.
    pub fn step(&mut self, now_ms: u64, frame_size: (u32, u32), tracks: &[Track], out: &mut Vec<Event>) {
        self.watched.iter_mut().for_each(|watched| watched.present = false);
        for track in tracks {
            let Some(index) = self.watch(track) else { continue };
            let watched = &mut self.watched[index];
            watched.present = true;
            self.tally.tracks_refused += u64::from(!watched.look(now_ms, frame_size, track, &self.scene, &self.config));
            if let Some(kind) = watched.worth_telling(now_ms, track.state, &self.config) {
                out.push(watched.tell(now_ms, kind, &self.identity, &self.scene, &mut self.tally));
            }
        }
        self.end(now_ms, out, |watched| !watched.present);
        self.gather(now_ms, out);
    }

    /// Ends every open event: the source has ended, or the agent stops. Tracks seen so far stay ended.
    pub fn finish(&mut self, now_ms: u64, out: &mut Vec<Event>) {
        self.end(now_ms, out, |_| true);
        for (zone, watch) in self.scene.zones.as_slice().iter().zip(&mut self.crowds) {
            let told = watch.crowd.take().filter(|crowd| crowd.told.is_some());
            out.extend(told.map(|crowd| tell_crowd(now_ms, EventKind::End, &crowd, zone, &self.identity)));
        }
        self.tally.zones.values_mut().for_each(|count| *count = 0);
    }

    /// What is seen from here on is seen by this model.
    pub fn looks_with(&mut self, model: &str, precision: Precision) {
        if self.identity.model != model {
            model.clone_into(&mut self.identity.model);
        }
        self.identity.precision = precision;
    }

    /// What is counted.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Where a track is watched, from its first frame on.
    fn watch(&mut self, track: &Track) -> Option<usize> {
        let known = self.watched.iter().position(|watched| watched.track == track.id);
        if known.is_some() || track.id <= self.track_max {
            return known;
        }
        self.track_max = track.id;
        self.watched.push(Watched::new(track, &self.scene));
        Some(self.watched.len() - 1)
    }

    fn end(&mut self, now_ms: u64, out: &mut Vec<Event>, ended: impl Fn(&Watched) -> bool) {
        let (identity, scene, tally) = (&self.identity, &self.scene, &mut self.tally);
        self.watched.retain_mut(|watched| {
            let ended = ended(watched);
            if ended && watched.is_told() {
                out.push(watched.tell(now_ms, EventKind::End, identity, scene, tally));
            }
            !ended
        });
    }

    /// Counts who is in each zone, and tells of crowds.
    fn gather(&mut self, now_ms: u64, out: &mut Vec<Event>) {
        let mut gatherings = [Gathering::default(); EVENT_ZONES_MAX];
        for watched in self.watched.iter().filter(|watched| watched.is_believed()) {
            for (n, gathering) in gatherings.iter_mut().enumerate() {
                if watched.is_in(n) {
                    gathering.join(watched.track, watched.box_px(), watched.score());
                }
            }
        }
        for ((zone, watch), gathering) in self.scene.zones.as_slice().iter().zip(&mut self.crowds).zip(gatherings) {
            *self.tally.zones.get_mut(&zone.name).expect("a zone of the scene is counted from the beginning") =
                gathering.count;
            let nth = self.crowds_told + 1;
            let Some(kind) = watch.look(now_ms, zone, gathering, self.config.update_interval_ms, nth) else { continue };
            self.crowds_told += u64::from(kind == EventKind::New);
            let crowd = watch.crowd.as_ref().expect("what is told of is there");
            out.push(tell_crowd(now_ms, kind, crowd, zone, &self.identity));
            if kind == EventKind::End {
                watch.crowd = None;
            }
        }
    }
}

/// Puts a crowd into words.
fn tell_crowd(now_ms: u64, kind: EventKind, crowd: &Crowd, zone: &Zone, identity: &Identity) -> Event {
    let (track, nth) = crowd.told.expect("a crowd has its name before it is told of");
    let start_time_ms = crowd.start_ms.min(now_ms);
    let end_time_ms = crowd.last_ms.clamp(start_time_ms, now_ms);
    Event {
        id: EventId::of_crowd(&identity.node, identity.boot, track, nth),
        label: CROWD_LABEL.to_owned(),
        start_time_ms,
        end_time_ms: (kind == EventKind::End).then_some(end_time_ms),
        score: if kind == EventKind::End { 0.0 } else { crowd.gathering.score },
        top_score: crowd.top_score,
        box_px: crowd.gathering.box_px,
        current_zones: vec![zone.name.clone()],
        entered_zones: vec![zone.name.clone()],
        dwell_times_ms: vec![end_time_ms - start_time_ms],
        count: Some(crowd.count_max),
        ..blank(now_ms, kind, identity)
    }
}

/// An event of which only is said what all of a source's events have in common.
fn blank(now_ms: u64, kind: EventKind, identity: &Identity) -> Event {
    Event {
        id: EventId::of_track(&identity.node, identity.boot, 0),
        kind,
        station: identity.station.clone(),
        camera: identity.camera.clone(),
        label: String::new(),
        frame_time_ms: now_ms,
        start_time_ms: now_ms,
        end_time_ms: None,
        score: 0.0,
        top_score: 0.0,
        box_px: [0; 4],
        current_zones: Vec::new(),
        entered_zones: Vec::new(),
        stationary: false,
        model: identity.model.clone(),
        precision: identity.precision,
        covering_for: None,
        epoch: 0,
        dwell_times_ms: Vec::new(),
        loitering_zones: Vec::new(),
        crossings: Vec::new(),
        count: None,
    }
}

#[cfg(test)]
mod tests;
