//! What people and other systems read: JSON documents that the coordinator derives from what it has taken in.
//!
//! The dashboard, Home Assistant and `mosquitto_sub` read these. They are derived and can be made again; nothing here is
//! the record, and nothing reads them back.

use serde::{Deserialize, Serialize};

use crate::duty::{How, Sight};
use crate::event::{BoxPx, Crossing, Direction, Event, EventKind, Precision};
use crate::ids::{Boot, CameraId, EventId, LineId, NodeId, SiteId, StationId, ZoneId};
use crate::status::{DetectorTwin, Stats};

/// What the coordinator believes of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Liveness {
    /// It said so, and its heartbeats come.
    Up,
    /// It has not said that it is down, and heartbeats are missing.
    Suspect,
    /// It, or the broker in its name, said that it is down; or heartbeats are missing for long.
    Down,
}

/// Retained on `…/view/site`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Whose view this is.
    pub site: SiteId,
    /// Seconds since 1970 when it was made.
    pub time: f64,
    /// Events in the archive.
    pub events_archived: u64,
    /// Events that came again and were not counted again.
    pub events_duplicate: u64,
    /// Events that an agent can no longer send and the archive never had.
    pub events_missed: u64,
    /// Messages refused.
    pub rejected: u64,
    /// Every node ever heard of, by name.
    pub nodes: Vec<NodeView>,
    /// The epoch of the coordinator that leads.
    #[serde(default)]
    pub leader: u32,
    /// Every station, by name: who watches it.
    #[serde(default)]
    pub stations: Vec<StationView>,
    /// The newest changes of who lives and who watches what, newest first; at most
    /// [`crate::limits::RECENT_CHANGES_MAX`].
    #[serde(default)]
    pub changes: Vec<Change>,
}

/// Who stands where, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Guard {
    /// Its own node watches it.
    Home,
    /// Another node watches it.
    Covered,
    /// Nobody does.
    Uncovered,
}

/// One station in [`Site`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StationView {
    /// Its name.
    pub station: StationId,
    /// The node that it belongs to.
    pub home: NodeId,
    /// Who watches it, in a word.
    pub guard: Guard,
    /// Who holds the lease; nobody where it is uncovered.
    pub holder: Option<NodeId>,
    /// The epoch of the last lease; 0 where there was none.
    pub epoch: u64,
    /// How the holder covers it; absent at home.
    pub how: Option<How>,
    /// How far the holder is, as it says.
    pub sight: Option<Sight>,
    /// Seconds since 1970 when that last changed.
    pub since: f64,
    /// Why, in a few words.
    pub why: String,
    /// Who is next in line.
    pub ranks: Vec<NodeId>,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A node lives.
    Up,
    /// A node may be gone.
    Suspect,
    /// A node is gone.
    Down,
    /// A station's own node was granted its lease.
    Granted,
    /// Another node was granted it.
    Takeover,
    /// The own node was granted it again.
    HandBack,
    /// Nobody watches it.
    Uncovered,
    /// A coordinator began to lead.
    Leader,
}

/// On `…/view/change`: a change of who lives and who watches what, with the evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Seconds since 1970.
    pub time: f64,
    /// What.
    pub change: ChangeKind,
    /// Which node.
    pub node: Option<NodeId>,
    /// Which station.
    pub station: Option<StationId>,
    /// The epoch of the lease, or of the leader; 0 where none is meant.
    pub epoch: u64,
    /// Why: the evidence in a few words.
    pub why: String,
}

/// One node in [`Site`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub node: NodeId,
    /// What the coordinator believes of it.
    pub liveness: Liveness,
    /// Seconds since 1970 when liveness last changed.
    pub since: f64,
    /// Why: the evidence in a few words.
    pub why: String,
    /// What it watches; absent until its twin is known.
    pub station: Option<StationId>,
    /// What is wrong with it, in a sentence each.
    pub problems: Vec<String>,
    /// The detector; absent until its twin is known.
    pub detector: Option<DetectorTwin>,
    /// The last statistics.
    pub stats: Option<Stats>,
    /// Events of this node in the archive.
    pub events_archived: u64,
    /// Events of this node that will never come.
    #[serde(default)]
    pub events_missed: u64,
}

/// Retained on `…/view/recent`: the newest events, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recent {
    /// At most [`crate::limits::RECENT_EVENTS_MAX`].
    pub events: Vec<SeenEvent>,
}

/// On `…/view/event`, once the event is in the archive. Field names are Frigate's where the meaning is equal; times are
/// seconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeenEvent {
    /// `new`, `update` or `end`.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// The same from `new` to `end`.
    pub id: EventId,
    /// The node that saw it.
    pub node: NodeId,
    /// The node's boot, with `seq` the event's place in the node's gap-free sequence.
    pub boot: Boot,
    /// See `boot`.
    pub seq: u64,
    /// The place that was watched.
    pub station: StationId,
    /// The camera.
    pub camera: CameraId,
    /// What was seen.
    pub label: String,
    /// When the frame was taken.
    pub frame_time: f64,
    /// When the object was first seen.
    pub start_time: f64,
    /// When it was last seen; present on `end` only.
    pub end_time: Option<f64>,
    /// When the archive took the event in.
    pub archive_time: f64,
    /// The detector's score in this frame.
    pub score: f32,
    /// The highest score so far.
    pub top_score: f32,
    /// `[x1, y1, x2, y2]` in pixels of the source.
    #[serde(rename = "box")]
    pub box_px: BoxPx,
    /// Zones now.
    pub current_zones: Vec<ZoneId>,
    /// Zones so far.
    pub entered_zones: Vec<ZoneId>,
    /// Has not moved for a while.
    pub stationary: bool,
    /// The model that saw it.
    pub model: String,
    /// What the model's numbers were computed in.
    pub precision: Precision,
    /// The station that the node stood in for.
    pub covering_for: Option<StationId>,
    /// The epoch of the lease.
    pub epoch: u64,
    /// Seconds in each of `entered_zones`, in their order.
    #[serde(default)]
    pub dwell_times: Vec<f64>,
    /// Zones now in which it stays longer than they allow.
    #[serde(default)]
    pub loitering_zones: Vec<ZoneId>,
    /// Lines crossed, in order; the newest few.
    #[serde(default)]
    pub crossings: Vec<SeenCrossing>,
    /// Of a crowd: the most people at once so far.
    #[serde(default)]
    pub count: Option<u32>,
}

/// One crossing of a line in [`SeenEvent`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeenCrossing {
    /// The line.
    pub line: LineId,
    /// Which way.
    pub direction: Direction,
    /// The first frame on the new side.
    pub frame_time: f64,
}

impl SeenEvent {
    /// The public form of an archived event.
    pub fn of(event: Event, node: NodeId, boot: Boot, seq: u64, archive_time_ms: u64) -> Self {
        let seconds = |ms: u64| ms as f64 / 1000.0;
        let crossing = |Crossing { line, direction, frame_time_ms }: Crossing| SeenCrossing {
            line,
            direction,
            frame_time: seconds(frame_time_ms),
        };
        SeenEvent {
            kind: event.kind,
            id: event.id,
            node,
            boot,
            seq,
            station: event.station,
            camera: event.camera,
            label: event.label,
            frame_time: seconds(event.frame_time_ms),
            start_time: seconds(event.start_time_ms),
            end_time: event.end_time_ms.map(seconds),
            archive_time: seconds(archive_time_ms),
            score: event.score,
            top_score: event.top_score,
            box_px: event.box_px,
            current_zones: event.current_zones,
            entered_zones: event.entered_zones,
            stationary: event.stationary,
            model: event.model,
            precision: event.precision,
            covering_for: event.covering_for,
            epoch: event.epoch,
            dwell_times: event.dwell_times_ms.into_iter().map(seconds).collect(),
            loitering_zones: event.loitering_zones,
            crossings: event.crossings.into_iter().map(crossing).collect(),
            count: event.count,
        }
    }
}
