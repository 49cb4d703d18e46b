//! What an agent saw: the event, in its life `new → update → end`.
//!
//! Names follow Frigate's where the meaning is equal. An event says nothing of who a person is, and holds no pixels.

use serde::{Deserialize, Serialize};

use crate::ids::{CameraId, EventId, StationId, ZoneId};
use crate::limits::EVENT_ZONES_MAX;
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

/// A box in the source's own pixels: `[x1, y1, x2, y2]`, the right and lower edges exclusive.
pub type BoxPx = [u16; 4];

/// One moment in the life of one tracked object.
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
    /// What was seen: `person`.
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
        if self.label.len() > crate::limits::NAME_CHARS_MAX || self.model.len() > crate::limits::NAME_CHARS_MAX {
            return Err("a label or model name that is too long".into());
        }
        if !self.score.is_finite() || !self.top_score.is_finite() {
            return Err("a score that is not a number".into());
        }
        Ok(())
    }
}
