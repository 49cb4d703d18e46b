//! Collects what only the shell can know about a running agent: counters of the cameras, memory, what is wrong; and tells
//! systemd that it is alive.
//!
//! It reads; it changes nothing but the cameras' on and off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use picket_shared::duty::Sight;
use picket_shared::exit::Failure;
use picket_shared::ids::{CameraId, StationId};
use picket_shared::status::CameraStats;
use sd_notify::NotifyState;

use crate::capture::{Camera, State};
use crate::courier::Watcher;
use crate::node::{Facts, Node};
use crate::pipeline::{Counts, Meter, Pulse};
use crate::recorder::Recorder;
use crate::sinks::Sinks;
use crate::watchdog::{Capture, Watchdog};

/// How much of a worker's time inference may take when another's cameras are counted in: letterbox, tracks and events take
/// the rest.
const INFERENCE_SHARE: f64 = 0.85;
/// How much a new measurement of the time that inference takes counts against those before.
const INFERENCE_WEIGHT: f64 = 0.3;
/// A camera is short of time when more than the first share of its frames is dropped, until it is less than the second.
const DROPPED_SHARES: (f32, f32) = (0.1, 0.05);

/// The cameras and the frame path, as seen from outside.
pub struct Watch {
    cameras: Vec<Watched>,
    /// What inference takes for a frame, smoothed.
    inference_ms: Option<f64>,
    pulse: Arc<Pulse>,
    watchdog: Watchdog,
    sinks: Arc<Sinks>,
    /// Why the configuration was not taken in the last time that it was read again.
    reload_refused: Option<String>,
}

struct Watched {
    name: CameraId,
    station: StationId,
    slot: usize,
    camera: Camera,
    meter: Arc<Meter>,
    /// At the last heartbeat.
    before: (Instant, Counts),
    frames_before: u64,
    dropped_before: u64,
    fps_in: f32,
    fps: f32,
    inference_ms: f32,
    /// Many of its frames are dropped.
    short: bool,
}

impl Watch {
    /// A watch over no cameras yet.
    pub fn new(pulse: Arc<Pulse>, sinks: Arc<Sinks>) -> Self {
        let watchdog = Watchdog::default();
        Watch { cameras: Vec::new(), inference_ms: None, pulse, sinks, watchdog, reload_refused: None }
    }

    /// Watches one camera more: its name, whose station it shows, its slot in the mailbox, what its frame path counts, and
    /// its source.
    pub fn add(&mut self, name: CameraId, station: StationId, slot: usize, meter: Arc<Meter>, camera: Camera) {
        let before = (Instant::now(), meter.read());
        let (frames_before, dropped_before) = (camera.snapshot().frames, 0);
        let (fps_in, fps, inference_ms, short) = (0.0, 0.0, 0.0, false);
        self.cameras.push(Watched {
            name,
            station,
            slot,
            camera,
            before,
            frames_before,
            dropped_before,
            meter,
            fps_in,
            fps,
            inference_ms,
            short,
        });
    }

    /// The same source as a camera that is watched, for another slot.
    pub fn share(&self, name: &CameraId, slot: usize) -> Option<Camera> {
        self.cameras.iter().find(|watched| watched.name == *name).map(|watched| watched.camera.share(slot))
    }

    /// The names of all cameras.
    pub fn names(&self) -> impl Iterator<Item = &CameraId> {
        self.cameras.iter().map(|watched| &watched.name)
    }

    /// How far each station is.
    pub fn sights(&self) -> BTreeMap<StationId, Sight> {
        let mut states: BTreeMap<StationId, Vec<State>> = BTreeMap::new();
        for watched in &self.cameras {
            states.entry(watched.station.clone()).or_default().push(watched.camera.snapshot().state);
        }
        states.into_iter().map(|(station, states)| (station, sight(&states))).collect()
    }

    /// Frames a second that the workers could look at, as measured; nothing until one was looked at.
    pub fn device_fps(&self) -> Option<f64> {
        let workers = self.pulse.beats.len() as f64;
        self.inference_ms.map(|inference_ms| workers * 1000.0 / inference_ms * INFERENCE_SHARE)
    }

    /// Whether frames of a station's cameras are dropped for want of time.
    pub fn is_short_of_time(&self, station: &StationId) -> bool {
        self.cameras.iter().any(|watched| watched.station == *station && watched.short)
    }

    /// Stops a camera and forgets it; gives its slot.
    pub fn remove(&mut self, name: &CameraId) -> Option<usize> {
        let index = self.cameras.iter().position(|watched| watched.name == *name)?;
        let mut watched = self.cameras.remove(index);
        watched.camera.stop();
        Some(watched.slot)
    }

    /// Remembers how reading the configuration again went: a problem until it goes well.
    pub fn reloaded(&mut self, refused: Option<String>) {
        self.reload_refused = refused;
    }

    /// Tells systemd that the agent has started. Nothing happens outside systemd.
    pub fn ready(&self) {
        let _ = sd_notify::notify(&[NotifyState::Ready]);
    }

    /// Each camera's counters, as of the last heartbeat where they are rates.
    pub fn stats(&self) -> Vec<CameraStats> {
        let with_sinks = |watched: &Watched| CameraStats { sinks: self.sinks.stats(&watched.name), ..watched.stats() };
        self.cameras.iter().map(with_sinks).collect()
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
    /// Feeds systemd's watchdog, unless something has not moved since the last time.
    fn facts(&mut self, recorder: &Recorder, node: &Node) -> Facts {
        let beats: Vec<u64> = self.pulse.beats.iter().map(|beats| beats.load(Ordering::Relaxed)).collect();
        let captures: Vec<Capture> = self.cameras.iter().filter_map(Watched::capture).collect();
        if self.watchdog.is_fed(&beats, &captures) {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
        let ran = self
            .cameras
            .iter_mut()
            .map(Watched::measure)
            .fold((0, Duration::ZERO), |(all, took), (frames, more)| (all + frames, took + more));
        if let (frames @ 1.., took) = ran {
            let ms = took.as_secs_f64() * 1000.0 / frames as f64;
            self.inference_ms = Some(self.inference_ms.map_or(ms, |before| before + (ms - before) * INFERENCE_WEIGHT));
        }
        let mut problems: Vec<String> = self.cameras.iter().filter_map(Watched::problem).collect();
        problems.extend(self.cameras.iter().filter_map(Watched::frozen));
        problems.extend(self.cameras.iter().filter_map(Watched::refusals));
        problems.extend(self.reload_refused.clone());
        problems.extend(self.sinks.problems());
        problems.extend(recorder.problems());
        if node.lost() > 0 {
            problems.push(format!("{} events were lost because the disk took none for too long", node.lost()));
        }
        let (cameras, live) = (self.stats(), self.sinks.live());
        live.inspect(|hub| hub.tell(&cameras));
        let refused = live.into_iter().flat_map(|hub| hub.refused()).map(|(word, count)| (word.to_owned(), count));
        let refused = refused.collect();
        // What could be covered is known to those who begin cameras.
        let (capacity_fps, ready) = Default::default();
        let (resident_bytes, sights) = (memory_bytes("VmRSS:"), self.sights());
        Facts { resident_bytes, cameras, problems, sights, capacity_fps, ready, refused, ..Facts::default() }
    }
}

/// Whether many of so many frames were dropped, where they were before, or were not.
fn is_short(before: bool, arrived: u64, dropped: u64) -> bool {
    let (begins, ends) = DROPPED_SHARES;
    dropped as f32 > arrived as f32 * if before { ends } else { begins }
}

/// What cameras in these states see together.
fn sight(states: &[State]) -> Sight {
    if states.contains(&State::Running) {
        Sight::Watching
    } else if states.contains(&State::Starting) {
        Sight::Starting
    } else {
        Sight::Blind
    }
}

impl Watched {
    /// Frames that were looked at since the last time, and what inference took for them.
    fn measure(&mut self) -> (u64, Duration) {
        let (then, before) = self.before;
        let now = self.meter.read();
        let (frames, took) = (now.frames_detected - before.frames_detected, now.inference - before.inference);
        let snapshot = self.camera.snapshot();
        let (arrived, dropped) =
            (snapshot.frames - self.frames_before, snapshot.frames_dropped.saturating_sub(self.dropped_before));
        let per_second = |count: u64| count as f32 / then.elapsed().as_secs_f32().max(1e-3);
        (self.fps_in, self.fps) = (per_second(arrived), per_second(frames));
        self.inference_ms = if frames > 0 { took.as_secs_f32() * 1000.0 / frames as f32 } else { 0.0 };
        self.short = is_short(self.short, arrived, dropped);
        (self.frames_before, self.dropped_before) = (snapshot.frames, snapshot.frames_dropped);
        self.before = (Instant::now(), now);
        (frames, took)
    }

    /// Whether its thread moves; nothing where it has ended.
    fn capture(&self) -> Option<Capture> {
        let ended = matches!(self.camera.snapshot().state, State::Ended | State::Failed);
        let capture = if self.camera.hangs(Instant::now()).is_some() { Capture::Hangs } else { Capture::Moves };
        (!ended).then_some(capture)
    }

    fn problem(&self) -> Option<String> {
        if let Some(late) = self.camera.hangs(Instant::now()) {
            let (name, late_s) = (&self.name, late.as_secs());
            return Some(format!(
                "camera {name} has hung for {late_s} s in its driver or disk; unplug it, or restart the agent"
            ));
        }
        let snapshot = self.camera.snapshot();
        let said = |error: Option<String>| error.unwrap_or_else(|| format!("camera {} gives no frames", self.name));
        matches!(snapshot.state, State::Stalled | State::Retrying | State::Failed).then(|| said(snapshot.last_error))
    }

    fn frozen(&self) -> Option<String> {
        let seconds = self.camera.frozen()?.as_secs();
        Some(format!("camera {} has given the same picture for {seconds} s; look at it, and restart it", self.name))
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
            fps_in: self.fps_in,
            format: snapshot.format,
            frames_bad: snapshot.frames_bad,
            frames_frozen: snapshot.frames_frozen,
            retry_in_s: snapshot.retry_at.map(|at| at.saturating_duration_since(Instant::now()).as_secs_f32()),
            zones: tally.zones,
            lines: tally.lines,
            bad_input: self.meter.bad_input(),
            sinks: Vec::new(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{ERROR_CHARS_MAX, FORMAT_CHARS_MAX};
    use picket_shared::ids::{Boot, LineId, ZoneId};
    use picket_shared::limits::{CAMERA_LINES_MAX, EVENT_ZONES_MAX, NAME_CHARS_MAX, SOURCES_MAX, STATUS_BYTES_MAX};
    use picket_shared::status::{Crossed, Mode, SinkStats, Stats};
    use picket_shared::wire::GapCause;

    /// Live, snapshots, clips, record, restream.
    const SINKS: usize = 5;

    #[test]
    fn a_camera_is_short_of_time_when_a_tenth_of_its_frames_is_dropped_until_hardly_any_is() {
        for (before, arrived, dropped, expect) in [
            (false, 10, 1, false),
            (false, 10, 2, true),
            (true, 25, 2, true),
            (true, 25, 1, false),
            (true, 0, 0, false),
        ] {
            assert_eq!(is_short(before, arrived, dropped), expect, "{before} {arrived} {dropped}");
        }
    }

    #[test]
    fn a_station_is_seen_where_one_of_its_cameras_gives_frames() {
        use State::{Ended, Failed, Retrying, Running, Stalled, Starting};
        for (states, expect) in [
            (&[Running, Failed][..], Sight::Watching),
            (&[Starting, Retrying], Sight::Starting),
            (&[Stalled, Retrying], Sight::Blind),
            (&[Ended], Sight::Blind),
        ] {
            assert_eq!(sight(states), expect, "{states:?}");
        }
    }

    #[test]
    fn the_statistics_of_as_many_cameras_as_there_may_be_fit_in_a_message() {
        let most = u64::MAX;
        let name = |n: usize| format!("{n:a>width$}", width = NAME_CHARS_MAX);
        let sink = SinkStats {
            sink: "snapshots".into(),
            state: "retrying".into(),
            pictures: most,
            pictures_dropped: most,
            bytes: most,
            restarts: most,
            errors: most,
        };
        let camera = CameraStats {
            camera: CameraId::new("c".repeat(NAME_CHARS_MAX)).unwrap(),
            state: "retrying".into(),
            frames: most,
            frames_dropped: most,
            frames_gated: most,
            frames_detected: most,
            detections: most,
            tracks: most,
            persons_now: u32::MAX,
            fps: 1234.568,
            inference_ms: 1234.568,
            restarts: most,
            last_error: Some("e".repeat(ERROR_CHARS_MAX)),
            fps_in: 1234.568,
            format: Some("f".repeat(FORMAT_CHARS_MAX)),
            frames_bad: most,
            frames_frozen: most,
            retry_in_s: Some(12.34567),
            zones: (0..EVENT_ZONES_MAX).map(|n| (ZoneId::new(name(n)).unwrap(), 500)).collect(),
            lines: (0..CAMERA_LINES_MAX)
                .map(|n| (LineId::new(name(n)).unwrap(), Crossed { left_to_right: 1 << 40, right_to_left: 1 << 40 }))
                .collect(),
            bad_input: (0..6).map(|n| (format!("{n:a>16}"), most)).collect(),
            sinks: vec![sink; SINKS],
        };
        let stats = Stats {
            time: most,
            boot: Boot(most),
            uptime_s: most,
            resident_bytes: most,
            events_stored: most,
            events_acked: most,
            events_pending: most,
            events_lost: most,
            events_resent: most,
            rejected: [("newer_version".to_owned(), most)].into(),
            connects: most,
            cameras: vec![camera; SOURCES_MAX],
            outbox: Mode::CatchingUp,
            events_backlog: most,
            events_given_up: GapCause::ALL.map(|cause| (cause.word().to_owned(), most)).into(),
            events_dead: most,
            broker: Some("b".repeat(300)),
            learn: None,
        };
        let bytes = serde_json::to_vec(&stats).unwrap().len();
        assert!(bytes <= STATUS_BYTES_MAX, "{bytes}");
    }
}
