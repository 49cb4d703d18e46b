//! Collects what only the shell can know about a running agent: counters of the cameras, memory, what is wrong; and tells
//! systemd that it is alive.
//!
//! It reads; it changes nothing but the cameras' on and off.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use picket_shared::exit::Failure;
use picket_shared::ids::CameraId;
use picket_shared::status::CameraStats;
use sd_notify::NotifyState;

use crate::capture::{Camera, State};
use crate::courier::Watcher;
use crate::node::{Facts, Node};
use crate::pipeline::{Counts, Meter, Pulse};
use crate::recorder::Recorder;

/// The cameras and the frame path, as seen from outside.
pub struct Watch {
    cameras: Vec<Watched>,
    pulse: Arc<Pulse>,
    beats: u64,
}

struct Watched {
    name: CameraId,
    camera: Camera,
    meter: Arc<Meter>,
    /// At the last heartbeat.
    before: (Instant, Counts),
    fps: f32,
    inference_ms: f32,
}

impl Watch {
    /// A watch over cameras that were just started; the three lists go together.
    pub fn new(names: Vec<CameraId>, meters: Vec<Arc<Meter>>, cameras: Vec<Camera>, pulse: Arc<Pulse>) -> Self {
        let cameras = names.into_iter().zip(meters).zip(cameras).map(|((name, meter), camera)| Watched {
            name,
            camera,
            before: (Instant::now(), meter.read()),
            meter,
            fps: 0.0,
            inference_ms: 0.0,
        });
        Watch { cameras: cameras.collect(), pulse, beats: 0 }
    }

    /// Tells systemd that the agent has started. Nothing happens outside systemd.
    pub fn ready(&self) {
        let _ = sd_notify::notify(&[NotifyState::Ready]);
    }

    /// Each camera's counters, as of the last heartbeat where they are rates.
    pub fn stats(&self) -> Vec<CameraStats> {
        self.cameras.iter().map(Watched::stats).collect()
    }

    /// The first failure, if every camera has failed for good.
    pub fn all_failed(&self) -> Option<Failure> {
        let mut failures: Vec<Option<Failure>> = self.cameras.iter().map(|watched| watched.camera.failure()).collect();
        if failures.iter().all(Option::is_some) { failures.swap_remove(0) } else { None }
    }

    /// Stops every camera; their decoders are gone when this returns.
    pub fn stop_cameras(&mut self) {
        self.cameras.iter_mut().for_each(|watched| watched.camera.stop());
    }
}

impl Watcher for Watch {
    /// Feeds systemd's watchdog, unless the frame path has not moved since the last one.
    fn facts(&mut self, recorder: &Recorder, node: &Node) -> Facts {
        let beats = self.pulse.beats.load(Ordering::Relaxed);
        if beats != self.beats {
            self.beats = beats;
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
        self.cameras.iter_mut().for_each(Watched::measure);
        let mut problems: Vec<String> = self.cameras.iter().filter_map(Watched::problem).collect();
        problems.extend(self.cameras.iter().filter_map(Watched::refusals));
        problems.extend(recorder.problems());
        if node.lost() > 0 {
            problems.push(format!("{} events were lost because the disk took none for too long", node.lost()));
        }
        Facts { resident_bytes: memory_bytes("VmRSS:"), cameras: self.stats(), problems, ..Facts::default() }
    }
}

impl Watched {
    fn measure(&mut self) {
        let (then, before) = self.before;
        let now = self.meter.read();
        let frames = (now.frames_detected - before.frames_detected) as f32;
        let per_frame = |took: Duration| if frames > 0.0 { took.as_secs_f32() * 1000.0 / frames } else { 0.0 };
        self.fps = frames / then.elapsed().as_secs_f32().max(1e-3);
        self.inference_ms = per_frame(now.inference - before.inference);
        self.before = (Instant::now(), now);
    }

    fn problem(&self) -> Option<String> {
        let snapshot = self.camera.snapshot();
        let said = |error: Option<String>| error.unwrap_or_else(|| format!("camera {} gives no frames", self.name));
        matches!(snapshot.state, State::Stalled | State::Retrying | State::Failed).then(|| said(snapshot.last_error))
    }

    fn refusals(&self) -> Option<String> {
        let refused = self.meter.read().frames_refused;
        (refused > 0).then(|| format!("camera {}: the detector refused {refused} frames; see the log", self.name))
    }

    fn stats(&self) -> CameraStats {
        let snapshot = self.camera.snapshot();
        let (counts, tally) = (self.meter.read(), self.meter.tally());
        CameraStats {
            camera: self.name.clone(),
            state: snapshot.state.word().into(),
            frames: snapshot.frames,
            frames_dropped: snapshot.frames_dropped,
            frames_gated: counts.frames_gated,
            frames_detected: counts.frames_detected,
            detections: counts.detections,
            tracks: counts.tracks,
            persons_now: counts.persons_now,
            fps: self.fps,
            inference_ms: self.inference_ms,
            restarts: snapshot.restarts,
            last_error: snapshot.last_error,
            zones: tally.zones,
            lines: tally.lines,
            bad_input: self.meter.bad_input(),
        }
    }
}

/// A line of `/proc/self/status` in bytes, such as `VmRSS:` (resident now) or `VmHWM:` (the most so far); 0 elsewhere.
pub fn memory_bytes(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|text| text.strip_prefix(line));
    let kib = value.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
