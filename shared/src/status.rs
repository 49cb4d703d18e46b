//! What a node says of itself, as JSON: health (also its will), twin (what it is), statistics (how it does).
//!
//! Integrators read these with `mosquitto_sub`; names and units are part of the protocol. Nothing here is a promise of
//! delivery: statistics may be lost, and the next ones replace them.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::audit::Head;
use crate::codec::json_is_crowded;
use crate::event::Precision;
use crate::ids::{Boot, CameraId, LineId, NodeId, StationId, ZoneId};
use crate::limits::{STATUS_BYTES_MAX, STATUS_ITEMS_MAX};

/// Reads a status message; or why it is refused, as a constant word and a sentence.
pub fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, (&'static str, String)> {
    match payload.len() {
        0 => Err(("empty", "an empty status message".into())),
        bytes if bytes > STATUS_BYTES_MAX => Err(("too_large", format!("a status message of {bytes} bytes"))),
        _ if json_is_crowded(payload, STATUS_ITEMS_MAX) => {
            Err(("malformed", format!("a status message of more than {STATUS_ITEMS_MAX} values")))
        }
        _ => serde_json::from_slice(payload).map_err(|error| ("malformed", format!("a status message: {error}"))),
    }
}

/// Up or down, as thin-edge.io's health topics say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpDown {
    /// Connected and working.
    Up,
    /// Stopped, or lost: the broker says this for a client that is gone.
    Down,
}

/// Retained on `…/status/health`; with `status: down` it is the client's will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Up or down.
    pub status: UpDown,
    /// The process.
    pub pid: u32,
    /// Seconds since 1970 when this was written.
    pub time: u64,
    /// The run of the agent over its store; for a coordinator, its own.
    pub boot: Boot,
    /// The epoch of the lease the node holds; 0 where no lease was needed.
    pub epoch: u64,
    /// What is wrong, in a sentence each; empty when all is well.
    #[serde(default)]
    pub problems: Vec<String>,
    /// With `status: down`: it says so itself. Absent from a will, which the broker sends for a client that is lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub goodbye: bool,
    /// How far the audit log reaches: whoever remembers it can tell later that lines were cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Head>,
    /// Of a coordinator, which one it is: each has a log of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<NodeId>,
}

/// Retained on `…/twin`: what changes only when somebody changes the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Twin {
    /// The program's version.
    pub version: String,
    /// `x86_64`, `aarch64`.
    pub arch: String,
    /// The station that this node watches.
    pub station: StationId,
    /// The cameras by name.
    pub cameras: Vec<CameraId>,
    /// The detector.
    pub detector: DetectorTwin,
}

/// What the detector turned out to be: measured when the session was built, never taken from configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetectorTwin {
    /// First 12 hexadecimal digits of the model file's SHA-256.
    pub model: String,
    /// The recognised output layout.
    pub layout: String,
    /// The execution provider in effect.
    pub provider: String,
    /// What the numbers are computed in.
    pub precision: Precision,
    /// Inference threads.
    pub threads: usize,
    /// The runtime library's version.
    pub runtime: String,
    /// Providers that were configured before this one and could not be had, with the reason; and, as `model …`, a model
    /// that the precision gate refused, where its reference runs in its place.
    pub passed_over: BTreeMap<String, String>,
    /// Frames of different cameras that are looked at at once, each in a session of its own.
    #[serde(default = "one")]
    pub workers: usize,
}

fn one() -> usize {
    1
}

/// On `…/m/stats`, every heartbeat: counters since the boot began, unless the name says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Seconds since 1970.
    pub time: u64,
    /// The boot that the counters belong to.
    pub boot: Boot,
    /// Seconds since the agent started.
    pub uptime_s: u64,
    /// Resident memory now.
    pub resident_bytes: u64,
    /// Events made durable.
    pub events_stored: u64,
    /// Events under the coordinator's watermark, of this run.
    pub events_acked: u64,
    /// Events stored and not yet acknowledged, of all boots.
    pub events_pending: u64,
    /// Events that could not be stored (disk full for longer than the buffer lasts).
    pub events_lost: u64,
    /// Events sent again because no ack came.
    pub events_resent: u64,
    /// Messages refused, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Times that the broker connection was made.
    pub connects: u64,
    /// Each camera.
    pub cameras: Vec<CameraStats>,
    /// What the outbox is at. An agent from before there was a word for it is taken for live.
    #[serde(default)]
    pub outbox: Mode,
    /// Of the pending events, those from before the last long absence or the last start: they do not hold up what is new.
    #[serde(default)]
    pub events_backlog: u64,
    /// Stored events that the device gave up before the archive had them, by the word of [`crate::wire::GapCause`].
    #[serde(default)]
    pub events_given_up: BTreeMap<String, u64>,
    /// Events that could not be written as one (too large), and went to the dead letters.
    #[serde(default)]
    pub events_dead: u64,
    /// The broker that the node is connected to, as `mqtt://host:port`.
    #[serde(default)]
    pub broker: Option<String>,
    /// What it learns; absent where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learn: Option<LearnStats>,
}

/// A device's learning in [`Stats`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnStats {
    /// The version of the shared head that it learns from.
    pub version: u64,
    /// The version of the shared head in what it judges by.
    pub used_version: u64,
    /// Examples that persons gave a label.
    pub confirmed: u32,
    /// Examples that got theirs from the tracker.
    pub tracked: u32,
    /// And from cameras that see the same ground.
    #[serde(default)]
    pub agreed: u32,
    /// And from a second detector on the device.
    #[serde(default)]
    pub taught: u32,
    /// Of all, those that heads are compared by and that are never trained on.
    pub held_out: u32,
    /// Updates that the coordinator has, of this run.
    pub acked: u64,
    /// Times that a head was taken to judge by, in this run.
    pub taken: u64,
    /// Times that one was not, because it might have lost.
    pub kept: u64,
}

/// What an agent's outbox is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Connected, and what is new goes out as it comes.
    #[default]
    Live,
    /// There is no connection: events are kept.
    Offline,
    /// Connected, and older events are on their way behind the new ones.
    CatchingUp,
    /// The store has given something up since the archive last took anything: there is no room left.
    Full,
}

/// One camera's part of [`Stats`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CameraStats {
    /// Its name.
    pub camera: CameraId,
    /// `starting`, `running`, `stalled`, `retrying`, `ended` or `failed`.
    pub state: String,
    /// Frames that arrived.
    pub frames: u64,
    /// Frames that a newer one replaced before the pipeline took them.
    pub frames_dropped: u64,
    /// Frames that the gate judged not worth a detection.
    pub frames_gated: u64,
    /// Frames that went through the detector.
    pub frames_detected: u64,
    /// Boxes found.
    pub detections: u64,
    /// Tracks begun.
    pub tracks: u64,
    /// People in the picture now.
    pub persons_now: u32,
    /// Detections a second, over the last heartbeat.
    pub fps: f32,
    /// Mean of `session.run` over the last heartbeat.
    pub inference_ms: f32,
    /// Times that the source was started anew.
    pub restarts: u64,
    /// The last error, if there was one.
    pub last_error: Option<String>,
    /// Frames that arrived a second, over the last heartbeat.
    #[serde(default)]
    pub fps_in: f32,
    /// In what form frames come, as the camera or the decoder says it.
    #[serde(default)]
    pub format: Option<String>,
    /// Frames that came damaged or cut off, and were passed over or seen as far as they could be decoded.
    #[serde(default)]
    pub frames_bad: u64,
    /// Frames that were the same, byte for byte, as the one before.
    #[serde(default)]
    pub frames_frozen: u64,
    /// Seconds until the source is started again, while it waits for that.
    #[serde(default)]
    pub retry_in_s: Option<f32>,
    /// People in each zone now.
    #[serde(default)]
    pub zones: BTreeMap<ZoneId, u32>,
    /// Crossings of each line, as told in events.
    #[serde(default)]
    pub lines: BTreeMap<LineId, Crossed>,
    /// What came and could not be used as it was, and was passed over or set right, by a constant word: `frame` `detection`
    /// `detection_over` `track` `track_over` `clock_jump`.
    #[serde(default)]
    pub bad_input: BTreeMap<String, u64>,
    /// What is done with its pictures, each way by itself.
    #[serde(default)]
    pub sinks: Vec<SinkStats>,
}

/// How often a line was crossed each way; see [`crate::event::Direction`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crossed {
    /// From the line's left to its right.
    pub left_to_right: u64,
    /// From the line's right to its left.
    pub right_to_left: u64,
}

/// One way that a camera's pictures take on the device: its part of [`CameraStats`]. Pictures stay there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkStats {
    /// `live`, `snapshots`, `clips`, `record` or `restream`.
    pub sink: String,
    /// `idle` (nobody looks), `running`, `retrying` (its child is started again), `full` (no room on the disk) or `failed`.
    pub state: String,
    /// Pictures that it took.
    pub pictures: u64,
    /// Pictures that a newer one replaced before it took them.
    pub pictures_dropped: u64,
    /// What it wrote or sent.
    pub bytes: u64,
    /// Times that its child process was started again after something was wrong.
    pub restarts: u64,
    /// Times that something was wrong.
    pub errors: u64,
}
