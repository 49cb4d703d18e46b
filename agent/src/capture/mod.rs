//! Capture: where frames come from, and how the newest one of each camera reaches the pipeline.
//!
//! [`start`] runs one source on a thread of its own and gives a [`Camera`] to watch and stop it; frames come out of the
//! [`Mailbox`]. Files and network streams are decoded by a child process; cameras of this machine are read by `v4l` or
//! `camera`, folders of pictures by `images`, and `synthetic` draws. `supervise` keeps each of them going, and `outlet`
//! is what each is given. Nothing here knows what is in a picture.

use std::io::{self, PipeWriter};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::CameraId;
use serde::Deserialize;

pub mod mailbox;
pub mod ppm;
pub mod source;
pub mod synthetic;

mod frozen;
#[cfg_attr(not(any(feature = "v4l", feature = "camera")), allow(dead_code, reason = "there is no camera to ask"))]
mod negotiate;
#[cfg_attr(not(any(feature = "v4l", feature = "camera")), allow(dead_code, reason = "there is no camera to read"))]
mod pixels;

mod outlet;
mod decode;
mod explain;
mod process;
mod images;
#[cfg(feature = "v4l")]
mod v4l;
#[cfg(feature = "camera")]
mod camera;
mod supervise;

pub use mailbox::{Mailbox, NoFrame, Pace};
pub use source::SourceUrl;

pub(crate) use process::{Complaints, wait};

#[cfg(test)]
pub(crate) use outlet::{ERROR_CHARS_MAX, FORMAT_CHARS_MAX};

use frozen::Frozen;
use outlet::{Board, Outlet};
use ppm::SIDE_PX_MAX;
use source::Source;
use supervise::Supervisor;

/// Latest start within a video: a week.
const START_S_MAX: f64 = 7.0 * 86_400.0;
/// Bounds of the stall time-out. A shorter one would kill a decoder that is about to start.
const STALL_TIMEOUT_S: std::ops::RangeInclusive<f64> = 0.1..=3600.0;

/// How much later than it promised a source's thread may come back before it hangs: the machine may be busy.
const LATE_MAX: Duration = Duration::from_secs(10);

/// Bounds of the time after which the same picture is a problem: up to a day.
const FROZEN_TIMEOUT_S: std::ops::RangeInclusive<f64> = 0.0..=86_400.0;

/// One source, as configured.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `file:/path` or a plain path, `rtsp://…`, `http://…`, `https://…`, `v4l:/dev/video0`, `camera:0` or `camera:name`,
    /// `images:/folder`, `synthetic:?people=3`. The last four take what is wanted of them behind a question mark:
    /// `size=1280x720`, `fps=15`, `format=YUYV`.
    pub source: SourceUrl,
    /// What happens while frames come faster than they are taken. A live stream at `max` falls behind.
    #[serde(default)]
    pub pace: Pace,
    /// Where in a file to begin, in seconds.
    #[serde(default)]
    pub start_s: f64,
    /// Play a file again and again; from its beginning after the first time.
    #[serde(default)]
    pub repeat: bool,
    /// The part of the picture to see, in its own pixels: left, top, width, height.
    #[serde(default)]
    pub crop: Option<[u32; 4]>,
    /// How long a picture may take to come before the decoder is started again. Too low restarts a camera that is only
    /// slow to begin; too high leaves a dead one unnoticed.
    #[serde(default = "default_stall_timeout_s")]
    pub stall_timeout_s: f64,
    /// How long a live camera may give the same picture, byte for byte, before that is a problem; 0 never is. Too low
    /// complains of a picture without a sensor's noise; too high leaves a camera that hangs unnoticed.
    #[serde(default = "default_frozen_timeout_s")]
    pub frozen_timeout_s: f64,
    /// Another decoder's command line, in place of ffmpeg's. It writes binary PPM pictures, and nothing else, to its
    /// standard output. `{url}` stands for the URL, or for a file's path; every user of the machine can see it there,
    /// with its password, while the environment variable `PICKET_URL`, which holds the same, can be read by this
    /// program's user alone. Pacing, start and crop are then its own affair.
    #[serde(default)]
    pub decoder: Option<Vec<String>>,
}

pub(crate) fn default_stall_timeout_s() -> f64 {
    10.0
}

pub(crate) fn default_frozen_timeout_s() -> f64 {
    60.0
}

impl Config {
    /// A source with everything else at its default.
    pub fn new(source: impl Into<SourceUrl>) -> Self {
        Self {
            source: source.into(),
            pace: Pace::default(),
            start_s: 0.0,
            repeat: false,
            crop: None,
            stall_timeout_s: default_stall_timeout_s(),
            frozen_timeout_s: default_frozen_timeout_s(),
            decoder: None,
        }
    }

    /// Whether a decoder child plays it.
    pub fn needs_decoder(&self) -> bool {
        matches!(self.source.kind(), Ok(Source::File(_) | Source::Stream(_)))
    }

    /// Refuses what makes no sense, in a sentence. Whether the source is there is found out when it starts.
    pub fn check(&self) -> Result<(), String> {
        let source = self.source.kind()?;
        if !(0.0..=START_S_MAX).contains(&self.start_s) {
            return Err(format!("start_s is {} and must be 0 to {START_S_MAX}", self.start_s));
        }
        if !STALL_TIMEOUT_S.contains(&self.stall_timeout_s) {
            let (least, most) = (STALL_TIMEOUT_S.start(), STALL_TIMEOUT_S.end());
            return Err(format!("stall_timeout_s is {} and must be {least} to {most}", self.stall_timeout_s));
        }
        if !FROZEN_TIMEOUT_S.contains(&self.frozen_timeout_s) {
            let most = FROZEN_TIMEOUT_S.end();
            return Err(format!("frozen_timeout_s is {} and must be 0 to {most}", self.frozen_timeout_s));
        }
        let within = |from: u32, size: u32| size > 0 && from.checked_add(size).is_some_and(|end| end <= SIDE_PX_MAX);
        if let Some([x, y, width, height]) = self.crop
            && !(within(x, width) && within(y, height))
        {
            return Err(format!(
                "crop is [{x}, {y}, {width}, {height}]; it must be [left, top, width, height], not empty, within \
                 {SIDE_PX_MAX} pixels"
            ));
        }
        if !source.is_finite() && self.repeat {
            return Err(format!("repeat is for files and folders, and the source {} does not end", self.source));
        }
        if self.start_s > 0.0 && !matches!(source, Source::File(_)) {
            return Err(format!("start_s is for files, and the source {} is none", self.source));
        }
        match &self.decoder {
            Some(_) if !self.needs_decoder() => {
                Err(format!("decoder is for files and streams, and the source {} needs none", self.source))
            }
            Some(words) if words.first().is_none_or(String::is_empty) => {
                Err("decoder is empty; give a command line as a list of words, or leave it out for ffmpeg".to_owned())
            }
            Some(_) if self.crop.is_some() || self.start_s > 0.0 => {
                Err("crop and start_s are not given to a decoder of your own; write them into its command line"
                    .to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// What a source is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Started for the first time, and no frame has come yet.
    #[default]
    Starting,
    /// Frames come.
    Running,
    /// Frames stopped coming; it is being started again.
    Stalled,
    /// The decoder or the stream ended; it is being started again.
    Retrying,
    /// Over: the file ended, enough frames came, or it was stopped.
    Ended,
    /// Over, and it needs somebody: see [`Camera::failure`].
    Failed,
}

impl State {
    /// The word for it in statistics.
    pub fn word(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Running => "running",
            State::Stalled => "stalled",
            State::Retrying => "retrying",
            State::Ended => "ended",
            State::Failed => "failed",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// How a source does: its part of [`picket_shared::status::CameraStats`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// What it is doing.
    pub state: State,
    /// Frames that arrived.
    pub frames: u64,
    /// Frames that a newer one replaced before they were taken.
    pub frames_dropped: u64,
    /// Times that it was started anew.
    pub restarts: u64,
    /// Times that something was wrong.
    pub errors: u64,
    /// What was wrong the last time, with its remedy and without secrets.
    pub last_error: Option<String>,
    /// Frames that came cut off, damaged or too large. They were passed over, or a decoder showed what it could read of them.
    pub frames_bad: u64,
    /// Frames that are the same, byte for byte, as the one before.
    pub frames_frozen: u64,
    /// For how long the picture has been the same.
    pub frozen_ms: u64,
    /// In what form frames come: the camera's own words, or the decoder's size.
    pub format: Option<String>,
    /// When it is started again, while it waits for that.
    pub retry_at: Option<Instant>,
}

/// A source at work. Dropping it stops it.
pub struct Camera {
    index: usize,
    /// After this the same picture is a problem.
    frozen_timeout: Option<Duration>,
    mailbox: Mailbox,
    board: Board,
    /// Closing it tells the thread to stop, whatever it waits for.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

/// Starts a source that puts its frames into slot `camera_index` of the mailbox, and ends after `frames_max` frames if
/// that is given. Whatever goes wrong is told by the [`Camera`].
pub fn start(camera_index: usize, name: CameraId, config: Config, frames_max: Option<u64>, mailbox: Mailbox) -> Camera {
    let board = Board::default();
    let frozen_s = Some(config.frozen_timeout_s).filter(|seconds| *seconds > 0.0);
    let frozen_timeout = frozen_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let (mailbox_, board_) = (mailbox.clone(), board.clone());
    let mut camera =
        Camera { index: camera_index, frozen_timeout, mailbox: mailbox_, board: board_, stop: None, thread: None };
    let spawned = spawn(camera_index, name.clone(), config, frames_max, mailbox, board.clone());
    match spawned {
        Ok((stop, thread)) => (camera.stop, camera.thread) = (Some(stop), Some(thread)),
        Err(Failure { exit, sentence }) => {
            board.fail(exit, format!("camera {name}: {sentence}"));
            camera.mailbox.end(camera_index);
        }
    }
    camera
}

fn spawn(
    index: usize,
    name: CameraId,
    config: Config,
    frames_max: Option<u64>,
    mailbox: Mailbox,
    board: Board,
) -> Result<(PipeWriter, JoinHandle<()>), Failure> {
    let wrong = |sentence| Failure::new(Exit::Config, sentence);
    let system = |e: io::Error| Failure::new(Exit::System, format!("cannot be started ({e}); free some resources"));
    config.check().map_err(wrong)?;
    let source = config.source.kind().map_err(wrong)?;
    let (stopped, stop) = io::pipe().map_err(system)?;
    let frozen = source.is_live().then(Frozen::default);
    let started = Instant::now();
    let outlet = Outlet { index, name, config, frames_max, mailbox, board, stop: stopped, frozen, started };
    let supervisor = Supervisor {
        outlet,
        source,
        begun_anew: false,
        #[cfg(feature = "camera")]
        worker: camera::Worker::default(),
    };
    let builder = thread::Builder::new().name(format!("capture-{index}"));
    Ok((stop, builder.spawn(move || supervisor.run()).map_err(system)?))
}

impl Camera {
    /// The same source again, for another slot, which gets a copy of each frame: a device is opened once. It ends with the
    /// source, and stopping it stops nothing else.
    pub fn share(&self, slot: usize) -> Camera {
        let (mailbox, board) = (self.mailbox.clone(), self.board.clone());
        let mut status = self.board.lock();
        if matches!(status.snapshot.state, State::Ended | State::Failed) {
            mailbox.end(slot);
        } else {
            status.shares.push(slot);
        }
        drop(status);
        Camera { index: slot, frozen_timeout: self.frozen_timeout, mailbox, board, stop: None, thread: None }
    }

    /// Its counters and state now.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.board.lock().snapshot.clone();
        snapshot.frames_dropped = self.mailbox.dropped(self.index);
        snapshot
    }

    /// Whether it has given the same picture for too long, and for how long.
    pub fn frozen(&self) -> Option<Duration> {
        let same = Duration::from_millis(self.board.lock().snapshot.frozen_ms);
        self.frozen_timeout.filter(|timeout| same >= *timeout).map(|_| same)
    }

    /// Whether its thread hangs in a driver or a disk, and for how long. A source that is gone does not hang: it is waited for
    /// with a bound, and tried again.
    pub fn hangs(&self, now: Instant) -> Option<Duration> {
        let status = self.board.lock();
        let over = matches!(status.snapshot.state, State::Ended | State::Failed);
        let late = now.saturating_duration_since(status.back_by.filter(|_| !over)?);
        (late > LATE_MAX).then_some(late)
    }

    /// Why it failed for good, if it did.
    pub fn failure(&self) -> Option<Failure> {
        self.board.lock().failure.as_ref().map(|(exit, sentence)| Failure::new(*exit, sentence))
    }

    /// Stops it; its decoder is gone when this returns. Again does nothing.
    pub fn stop(&mut self) {
        self.stop = None;
        self.mailbox.end(self.index);
        if let Some(thread) = self.thread.take() {
            // A panic has been told as a failure by the thread itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
