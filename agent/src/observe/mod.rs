//! From tracks to events: what is worth telling, and when.
//!
//! An event is the life of one confirmed track: one `new`, any number of `update`s, one `end`. Everything that could
//! flicker has an inertia. Nothing here stores or sends, and nothing here looks at pixels.

mod still;
mod zone;

use picket_shared::config::within;
use picket_shared::event::{BoxPx, Event, EventKind, Precision};
use picket_shared::ids::{Boot, CameraId, EventId, NodeId, StationId};
use serde::Deserialize;

use self::still::Stillness;
use self::zone::Presence;
pub use self::zone::{Zone, Zones};
use crate::frame::Area;
use crate::track::{State, Track};

/// What the default detector sees.
const LABEL: &str = "person";
/// A top score that has grown by this since it was last said is worth an update.
const TOP_SCORE_STEP: f32 = 0.1;
/// Rounding of 32-bit scores: from 0.6 to 0.7 is a step.
const SCORE_ROUNDING: f32 = 1e-4;

/// When something is worth telling.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The score that a track must once reach to become an event. Too high misses people; too low tells of clutter.
    pub score_start: f32,
    /// Longest silence about an open event. Too high leaves readers with an old box; too low floods them.
    pub update_interval_ms: u64,
    /// Frames in a row before a zone is entered or left, or a still object has moved. Too high is late and misses short
    /// visits; too low tells of every tremble.
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

/// What was last said of an event.
#[derive(Debug, Clone, Copy)]
struct Said {
    at_ms: u64,
    top_score: f32,
}

/// What is known of one track.
struct Watched {
    track: u64,
    start_ms: u64,
    last_seen_ms: u64,
    score: f32,
    top_score: f32,
    box_px: BoxPx,
    presence: Presence,
    stillness: Stillness,
    /// A zone was entered or left, or it became or stopped being stationary, since the last word.
    changed: bool,
    /// Absent until the event's `new`.
    said: Option<Said>,
    /// It is among the tracks of this step.
    present: bool,
}

/// The observer of one source.
pub struct Observer {
    identity: Identity,
    zones: Zones,
    config: Config,
    watched: Vec<Watched>,
    /// The highest track number seen: one at or under it that is not watched has ended, and must not begin again.
    track_max: u64,
}

impl Observer {
    /// An observer that has seen nothing yet.
    pub fn new(identity: Identity, zones: Zones, config: Config) -> Self {
        Self { identity, zones, config, watched: Vec::new(), track_max: 0 }
    }

    /// Takes the tracks of one frame in, and appends what is worth telling to `out`, in the order of the tracks, ends
    /// last. `now_ms` is the frame's time, `frame_size` its width and height in pixels. Tracks are numbered from 1, and
    /// new ones have higher numbers than all before them, as [`crate::track::Tracker`] gives them; others are passed
    /// over.
    pub fn step(&mut self, now_ms: u64, frame_size: (u32, u32), tracks: &[Track], out: &mut Vec<Event>) {
        self.watched.iter_mut().for_each(|watched| watched.present = false);
        for track in tracks {
            let Some(index) = self.watch(track) else { continue };
            let watched = &mut self.watched[index];
            watched.present = true;
            watched.look(now_ms, frame_size, track, &self.zones, &self.config);
            if let Some(kind) = watched.worth_telling(now_ms, track.state, &self.config) {
                out.push(watched.tell(now_ms, kind, &self.identity, &self.zones));
            }
        }
        self.end(now_ms, out, |watched| !watched.present);
    }

    /// Ends every open event: the source has ended, or the agent stops. Tracks seen so far stay ended.
    pub fn finish(&mut self, now_ms: u64, out: &mut Vec<Event>) {
        self.end(now_ms, out, |_| true);
    }

    /// Where a track is watched, from its first frame on.
    fn watch(&mut self, track: &Track) -> Option<usize> {
        let known = self.watched.iter().position(|watched| watched.track == track.id);
        if known.is_some() || track.id <= self.track_max {
            return known;
        }
        self.track_max = track.id;
        self.watched.push(Watched {
            track: track.id,
            start_ms: track.start_ms,
            last_seen_ms: track.start_ms,
            score: 0.0,
            top_score: 0.0,
            box_px: [0; 4],
            presence: Presence::new(&self.zones),
            stillness: Stillness::default(),
            changed: false,
            said: None,
            present: true,
        });
        Some(self.watched.len() - 1)
    }

    fn end(&mut self, now_ms: u64, out: &mut Vec<Event>, ended: impl Fn(&Watched) -> bool) {
        let (identity, zones) = (&self.identity, &self.zones);
        self.watched.retain_mut(|watched| {
            let ended = ended(watched);
            if ended && watched.said.is_some() {
                watched.score = 0.0;
                out.push(watched.tell(now_ms, EventKind::End, identity, zones));
            }
            !ended
        });
    }
}

impl Watched {
    /// Takes one frame in. Where the track is only expected, not seen, its place is no news.
    fn look(&mut self, now_ms: u64, frame_size: (u32, u32), track: &Track, zones: &Zones, config: &Config) {
        // Both move together where the tracker's clock was set back.
        self.start_ms = track.start_ms;
        self.last_seen_ms = track.last_seen_ms;
        self.score = 0.0;
        let edges = [track.area.x1, track.area.y1, track.area.x2, track.area.y2];
        let finite = edges.iter().chain([&track.score]).all(|number| number.is_finite());
        if track.state == State::Lost || !finite || track.area.width() == 0.0 || track.area.height() == 0.0 {
            return;
        }
        self.score = track.score.clamp(0.0, 1.0);
        self.top_score = self.top_score.max(self.score);
        self.box_px = clamped(&track.area, frame_size);
        let foot_px = foot(&track.area, frame_size);
        let share = |px: f32, of: u32| f64::from(px) / f64::from(of.max(1));
        let foot_share = [share(foot_px.0, frame_size.0), share(foot_px.1, frame_size.1)];
        self.changed |= self.presence.stand(zones, foot_share, config.inertia_frames);
        self.changed |= self.stillness.stand(now_ms, foot_px, track.area.height(), config);
    }

    /// What there is to say after this frame.
    fn worth_telling(&self, now_ms: u64, state: State, config: &Config) -> Option<EventKind> {
        let Some(said) = self.said else {
            let begun = state == State::Confirmed && self.top_score >= config.score_start;
            return begun.then_some(EventKind::New);
        };
        let grown = self.top_score + SCORE_ROUNDING >= said.top_score + TOP_SCORE_STEP;
        // A word from the future was said before the clock was set back: it is time for another.
        let silent = now_ms.checked_sub(said.at_ms).is_none_or(|ago| ago >= config.update_interval_ms);
        (self.changed || grown || silent).then_some(EventKind::Update)
    }

    /// Puts it into words, and remembers that it was said.
    fn tell(&mut self, now_ms: u64, kind: EventKind, identity: &Identity, zones: &Zones) -> Event {
        self.said = Some(Said { at_ms: now_ms, top_score: self.top_score });
        self.changed = false;
        let start_time_ms = self.start_ms.min(now_ms);
        let end_time_ms = self.last_seen_ms.clamp(start_time_ms, now_ms);
        Event {
            id: EventId::of_track(&identity.node, identity.boot, self.track),
            kind,
            station: identity.station.clone(),
            camera: identity.camera.clone(),
            label: LABEL.to_owned(),
            frame_time_ms: now_ms,
            start_time_ms,
            end_time_ms: (kind == EventKind::End).then_some(end_time_ms),
            score: self.score,
            top_score: self.top_score,
            box_px: self.box_px,
            current_zones: self.presence.current(zones),
            entered_zones: self.presence.entered(zones),
            stationary: self.stillness.stationary(),
            model: identity.model.clone(),
            precision: identity.precision,
            covering_for: None,
            epoch: 0,
        }
    }
}

/// The pixels that a box touches, inside the picture.
fn clamped(area: &Area, (width, height): (u32, u32)) -> BoxPx {
    // Float to integer saturates, so that no edge leaves the type; the picture is the tighter bound.
    let edge = |px: f32, of: u32| u32::from(px as u16).min(of) as u16;
    [
        edge(area.x1.floor(), width),
        edge(area.y1.floor(), height),
        edge(area.x2.ceil(), width),
        edge(area.y2.ceil(), height),
    ]
}

/// Where it stands, in pixels: the middle of the lowest row of pixels that the picture shows of it. A person cut off by
/// the picture's lower edge stands in the zone that ends there.
fn foot(area: &Area, (width, height): (u32, u32)) -> (f32, f32) {
    let (x, y) = area.foot();
    let inside = |px: f32, of: u32| px.min(of as f32 - 0.5).max(0.0);
    (inside(x, width), inside(y - 0.5, height))
}

#[cfg(test)]
mod tests;
