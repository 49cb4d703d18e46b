//! What an agent saw: the event, in its life `new → update → end`.
//!
//! Names follow Frigate's where the meaning is equal. An event says nothing of who a person is, and holds no pixels.

use serde::{Deserialize, Serialize};

use crate::ids::{CameraId, EventId, LineId, StationId, ZoneId};
use crate::limits::{EVENT_CROSSINGS_MAX, EVENT_ZONES_MAX};
use crate::wire::Wire;

/// Where in its life an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The track is certain enough to be told.
    New,
    /// Something worth telling changed, or time passed.
    Update,
    /// The track is gone; nothing follows under this id.
    End,
}

/// What the numbers in the model were computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    Fp32,
    /// 16-bit floating point.
    Fp16,
    /// 8-bit integers.
    Int8,
}

/// What may be given up first when a device has no room left for what it owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The `new` and the `end` of an event: that somebody came, and went.
    Confirmed,
    /// The `update`s between them: where they were meanwhile. The oldest go first.
    Telemetry,
}

/// Which way a line was crossed. Left and right are those of somebody who stands at the line's `from`, on the picture as it
/// is seen on a screen, and looks to its `to`: of a line drawn from the picture's bottom to its top, who walks towards the
/// picture's right goes from left to right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the line's left to its right.
    LeftToRight,
    /// From the line's right to its left.
    RightToLeft,
}

/// One crossing of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crossing {
    /// The line.
    pub line: LineId,
    /// Which way.
    pub direction: Direction,
    /// The first frame on the new side, in milliseconds since 1970.
    pub frame_time_ms: u64,
}

/// A box in the source's own pixels: `[x1, y1, x2, y2]`, the right and lower edges exclusive.
pub type BoxPx = [u16; 4];

/// One moment in the life of one tracked object, or of a crowd in one zone.
///
/// On the wire fields are numbered by their order here. Append only, and give new ones a `serde(default)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The same from `new` to `end`.
    pub id: EventId,
    /// Where in its life the event is.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// The place that was watched.
    pub station: StationId,
    /// The source that saw it.
    pub camera: CameraId,
    /// What was seen: `person` or `crowd`.
    pub label: String,
    /// When the frame was taken, in milliseconds since 1970 by the node's clock.
    pub frame_time_ms: u64,
    /// The frame time of the track's first frame.
    pub start_time_ms: u64,
    /// The frame time of the track's last frame; present on `end` only.
    pub end_time_ms: Option<u64>,
    /// The detector's score in this frame, 0 to 1.
    pub score: f32,
    /// The highest score so far.
    pub top_score: f32,
    /// Where, in pixels of the source.
    #[serde(rename = "box")]
    pub box_px: BoxPx,
    /// Zones that the foot point is in now.
    pub current_zones: Vec<ZoneId>,
    /// Zones that it has been in, in order of entry.
    pub entered_zones: Vec<ZoneId>,
    /// The object has not moved for a while.
    pub stationary: bool,
    /// The model that saw it: the first 12 hexadecimal digits of the file's SHA-256.
    pub model: String,
    /// What the model's numbers were computed in.
    pub precision: Precision,
    /// The station whose duty the node stood in for; absent on its own duty.
    #[serde(default)]
    pub covering_for: Option<StationId>,
    /// The epoch of the lease under which the station was watched; 0 where no lease was needed.
    #[serde(default)]
    pub epoch: u64,
    /// For how long the foot point has been in each of `entered_zones`, in their order; all visits together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dwell_times_ms: Vec<u64>,
    /// Of the zones that it is in now, those in which it stays longer than the zone allows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loitering_zones: Vec<ZoneId>,
    /// The lines that it has crossed, in order; the newest [`EVENT_CROSSINGS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crossings: Vec<Crossing>,
    /// Of a crowd: the most people at once so far. Absent for a single object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

impl EventKind {
    /// What an event of this kind is worth.
    pub fn class(self) -> Class {
        match self {
            EventKind::New | EventKind::End => Class::Confirmed,
            EventKind::Update => Class::Telemetry,
        }
    }
}

impl Wire for Event {
    const BYTES_MAX: usize = crate::limits::EVENT_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        if self.current_zones.len() > EVENT_ZONES_MAX || self.entered_zones.len() > EVENT_ZONES_MAX {
            return Err(format!("more than {EVENT_ZONES_MAX} zones"));
        }
        if self.loitering_zones.len() > EVENT_ZONES_MAX || self.dwell_times_ms.len() > EVENT_ZONES_MAX {
            return Err(format!("dwell times of more than {EVENT_ZONES_MAX} zones"));
        }
        if self.crossings.len() > EVENT_CROSSINGS_MAX {
            return Err(format!("more than {EVENT_CROSSINGS_MAX} crossings"));
        }
        if self.label.len() > crate::limits::NAME_CHARS_MAX || self.model.len() > crate::limits::NAME_CHARS_MAX {
            return Err("a label or model name that is too long".into());
        }
        if !self.score.is_finite() || !self.top_score.is_finite() {
            return Err("a score that is not a number".into());
        }
        Ok(())
    }
}
