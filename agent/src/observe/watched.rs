//! One track from its first frame to its last, as the observer knows it: what it has seen of it, and what it has said.
//!
//! It decides whether there is something to say of one track; nothing here knows other tracks.

use picket_shared::event::{BoxPx, Crossing, Direction, Event, EventKind};
use picket_shared::ids::EventId;
use picket_shared::limits::EVENT_CROSSINGS_MAX;

use super::line::Sides;
use super::still::Stillness;
use super::zone::Presence;
use super::{Config, Identity, Scene, Tally, blank};
use crate::frame::Area;
use crate::track::{State, Track};

/// What the default detector sees.
const LABEL: &str = "person";
/// A top score that has grown by this since it was last said is worth an update.
const TOP_SCORE_STEP: f32 = 0.1;
/// Rounding of 32-bit scores: from 0.6 to 0.7 is a step.
const SCORE_ROUNDING: f32 = 1e-4;

/// What was last said of an event.
#[derive(Debug, Clone, Copy)]
struct Said {
    at_ms: u64,
    top_score: f32,
}

/// A crossing of the line with this number.
#[derive(Debug, Clone, Copy)]
struct Crossed {
    line: usize,
    direction: Direction,
    at_ms: u64,
    told: bool,
}

/// What is known of one track.
pub(super) struct Watched {
    pub(super) track: u64,
    /// It is among the tracks of this step.
    pub(super) present: bool,
    state: State,
    start_ms: u64,
    last_seen_ms: u64,
    score: f32,
    top_score: f32,
    box_px: BoxPx,
    presence: Presence,
    sides: Sides,
    /// The newest crossings, in order.
    crossings: Vec<Crossed>,
    stillness: Stillness,
    /// A zone was entered, left or stayed in for too long, a line was crossed, or it became or stopped being stationary,
    /// since the last word.
    changed: bool,
    /// Absent until the event's `new`.
    said: Option<Said>,
}

impl Watched {
    /// Of which nothing is known but that it is there.
    pub(super) fn new(track: &Track, scene: &Scene) -> Self {
        Self {
            track: track.id,
            present: true,
            state: track.state,
            start_ms: track.start_ms,
            last_seen_ms: track.start_ms,
            score: 0.0,
            top_score: 0.0,
            box_px: [0; 4],
            presence: Presence::new(&scene.zones),
            sides: Sides::default(),
            crossings: Vec::new(),
            stillness: Stillness::default(),
            changed: false,
            said: None,
        }
    }

    /// Whether an event of it is open.
    pub(super) fn is_told(&self) -> bool {
        self.said.is_some()
    }

    /// Whether it is more than a guess.
    pub(super) fn is_believed(&self) -> bool {
        self.state != State::Tentative
    }

    /// Whether it is in the zone of this number.
    pub(super) fn is_in(&self, zone: usize) -> bool {
        self.presence.is_in(zone)
    }

    /// Where it was last seen.
    pub(super) fn box_px(&self) -> BoxPx {
        self.box_px
    }

    /// The score in this frame.
    pub(super) fn score(&self) -> f32 {
        self.score
    }

    /// Takes one frame in. Where the track is only expected, not seen, its place is no news. False where it is said to be
    /// seen, and its box or score is none.
    pub(super) fn look(
        &mut self,
        now_ms: u64,
        frame_size: (u32, u32),
        track: &Track,
        scene: &Scene,
        config: &Config,
    ) -> bool {
        self.state = track.state;
        // Both move together where the tracker's clock was set back.
        self.start_ms = track.start_ms;
        self.last_seen_ms = track.last_seen_ms;
        self.score = 0.0;
        if track.state == State::Lost {
            return true;
        }
        let edges = [track.area.x1, track.area.y1, track.area.x2, track.area.y2];
        let finite = edges.iter().chain([&track.score]).all(|number| number.is_finite());
        if !finite || track.area.width() == 0.0 || track.area.height() == 0.0 {
            return false;
        }
        self.score = track.score.clamp(0.0, 1.0);
        self.top_score = self.top_score.max(self.score);
        self.box_px = clamped(&track.area, frame_size);
        let foot_px = foot(&track.area, frame_size);
        let share = |px: f32, of: u32| f64::from(px) / f64::from(of.max(1));
        let foot_share = [share(foot_px.0, frame_size.0), share(foot_px.1, frame_size.1)];
        self.changed |= self.presence.stand(now_ms, &scene.zones, foot_share, config.inertia_frames);
        self.changed |= self.stillness.stand(now_ms, foot_px, track.area.height(), config);
        let (crossings, changed) = (&mut self.crossings, &mut self.changed);
        self.sides.stand(now_ms, &scene.lines, foot_share, config.inertia_frames, |line, direction, at_ms| {
            *changed = true;
            if crossings.len() == EVENT_CROSSINGS_MAX {
                crossings.remove(0);
            }
            crossings.push(Crossed { line, direction, at_ms, told: false });
        });
        true
    }

    /// What there is to say after this frame.
    pub(super) fn worth_telling(&self, now_ms: u64, state: State, config: &Config) -> Option<EventKind> {
        let Some(said) = self.said else {
            let begun = state == State::Confirmed && self.top_score >= config.score_start;
            return begun.then_some(EventKind::New);
        };
        let grown = self.top_score + SCORE_ROUNDING >= said.top_score + TOP_SCORE_STEP;
        // A word from the future was said before the clock was set back: it is time for another.
        let silent = now_ms.checked_sub(said.at_ms).is_none_or(|ago| ago >= config.update_interval_ms);
        (self.changed || grown || silent).then_some(EventKind::Update)
    }

    /// Puts it into words, remembers that it was said, and counts what it has crossed since.
    pub(super) fn tell(
        &mut self,
        now_ms: u64,
        kind: EventKind,
        identity: &Identity,
        scene: &Scene,
        tally: &mut Tally,
    ) -> Event {
        self.said = Some(Said { at_ms: now_ms, top_score: self.top_score });
        self.changed = false;
        let lines = scene.lines.as_slice();
        for crossed in self.crossings.iter_mut().filter(|crossed| !crossed.told) {
            tally.cross(&lines[crossed.line].name, crossed.direction);
            crossed.told = true;
        }
        let start_time_ms = self.start_ms.min(now_ms);
        let end_time_ms = self.last_seen_ms.clamp(start_time_ms, now_ms);
        let crossing = |crossed: &Crossed| Crossing {
            line: lines[crossed.line].name.clone(),
            direction: crossed.direction,
            frame_time_ms: crossed.at_ms.clamp(start_time_ms, now_ms),
        };
        Event {
            id: EventId::of_track(&identity.node, identity.boot, self.track),
            label: LABEL.to_owned(),
            start_time_ms,
            end_time_ms: (kind == EventKind::End).then_some(end_time_ms),
            score: if kind == EventKind::End { 0.0 } else { self.score },
            top_score: self.top_score,
            box_px: self.box_px,
            current_zones: self.presence.current(&scene.zones),
            entered_zones: self.presence.entered(&scene.zones),
            stationary: self.stillness.stationary(),
            dwell_times_ms: self.presence.dwell_times_ms(),
            loitering_zones: self.presence.loitering(&scene.zones),
            crossings: self.crossings.iter().map(crossing).collect(),
            ..blank(now_ms, kind, identity)
        }
    }
}

/// The pixels that a box touches, inside the picture.
pub(super) fn clamped(area: &Area, (width, height): (u32, u32)) -> BoxPx {
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
pub(super) fn foot(area: &Area, (width, height): (u32, u32)) -> (f32, f32) {
    let (x, y) = area.foot();
    let inside = |px: f32, of: u32| px.min(of as f32 - 0.5).max(0.0);
    (inside(x, width), inside(y - 0.5, height))
}
