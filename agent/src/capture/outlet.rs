//! What every kind of source is given: where its frames go, what it tells of itself, and when it must stop.
//!
//! All counting of frames happens here, once for every kind. Nothing here starts anything or decides what follows an end.

use std::io::PipeReader;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use picket_shared::exit::Exit;
use picket_shared::ids::CameraId;
use rustix::event::{PollFd, PollFlags};

use super::frozen::Frozen;
use super::mailbox::{Mailbox, Pace};
use super::process::wait;
use super::{Config, Snapshot, State};
use crate::frame::Frame;

/// Longest error that is told: a sentence must fit on a line of a log, and sixteen of them in one status message.
pub(crate) const ERROR_CHARS_MAX: usize = 280;
/// Longest form that is told: a camera's own name may be in it.
pub(crate) const FORMAT_CHARS_MAX: usize = 64;

/// What a source's thread tells those who hold its [`super::Camera`].
#[derive(Default)]
pub(super) struct Status {
    pub(super) snapshot: Snapshot,
    /// Exit code and sentence of a source that failed for good.
    pub(super) failure: Option<(Exit, String)>,
    /// Slots of the mailbox that get a copy of each frame.
    pub(super) shares: Vec<usize>,
    /// When the thread comes back from where it waits, at the latest; absent while it waits for the frame path.
    pub(super) back_by: Option<Instant>,
}

/// Shared between the thread and its handle.
#[derive(Clone, Default)]
pub(super) struct Board(Arc<Mutex<Status>>);

impl Board {
    pub(super) fn lock(&self) -> MutexGuard<'_, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn back_by(&self, when: Option<Instant>) {
        self.lock().back_by = when;
    }

    pub(super) fn fail(&self, exit: Exit, sentence: String) {
        tracing::error!("{sentence}");
        let mut status = self.lock();
        status.snapshot.state = State::Failed;
        status.snapshot.wrong(&sentence);
        status.failure = Some((exit, sentence));
    }
}

impl Snapshot {
    /// Counts an error and keeps it.
    pub(super) fn wrong(&mut self, sentence: &str) {
        self.errors += 1;
        self.last_error = Some(sentence.chars().take(ERROR_CHARS_MAX).collect());
    }
}

/// How one run of a source came to its end. Reasons are sentences, each with its remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The agent stops.
    Stopped,
    /// As many frames as were asked for have come.
    Enough,
    /// The video ended, as far as one can see.
    Clean,
    /// The decoder, the camera or the video is broken.
    Broken(String),
    /// Nothing came for too long.
    Stalled(String),
    /// The decoder cannot be started here, now or later.
    NoDecoder(String),
}

/// One source's way out.
pub(super) struct Outlet {
    pub(super) index: usize,
    pub(super) name: CameraId,
    pub(super) config: Config,
    pub(super) frames_max: Option<u64>,
    pub(super) mailbox: Mailbox,
    pub(super) board: Board,
    /// Hangs up when the source is to stop.
    pub(super) stop: PipeReader,
    /// Absent where the same picture again is no news: files, folders, drawn scenes.
    pub(super) frozen: Option<Frozen>,
    /// What [`Frozen`] counts from.
    pub(super) started: Instant,
}

impl Outlet {
    /// A buffer for the next frame.
    pub(super) fn buffer(&self) -> Frame {
        self.mailbox.buffer(self.index)
    }

    /// Hands a frame over, and says when there is a reason to end. At [`super::Pace::Max`] this waits for its taker.
    pub(super) fn deliver(&mut self, frame: Frame) -> Result<(), End> {
        let frames = self.count(&frame);
        self.share(&frame);
        // At this pace it waits as long as the frame path likes, which is watched by itself.
        if self.config.pace == Pace::Max {
            self.board.back_by(None);
        }
        if !self.mailbox.put(self.index, frame, self.config.pace) {
            return Err(End::Stopped);
        }
        self.due();
        if self.is_enough(frames) { Err(End::Enough) } else { Ok(()) }
    }

    /// Copies a frame for those who look at the same source in another way. They never hold it up.
    fn share(&self, frame: &Frame) {
        // Two at once are rare, and hardly any source is shared at all: the list is copied to hold no lock over pixels.
        let shares = self.board.lock().shares.clone();
        for slot in shares {
            let mut copy = self.mailbox.buffer(slot);
            (copy.taken_ms, copy.width, copy.height) = (frame.taken_ms, frame.width, frame.height);
            copy.rgb.clone_from(&frame.rgb);
            if !self.mailbox.put(slot, copy, Pace::Realtime) {
                self.board.lock().shares.retain(|other| *other != slot);
            }
        }
    }

    /// Nothing more comes.
    pub(super) fn end(&self) {
        self.mailbox.end(self.index);
        let shares = std::mem::take(&mut self.board.lock().shares);
        shares.into_iter().for_each(|slot| self.mailbox.end(slot));
    }

    /// Whether as many frames have come as were asked for.
    pub(super) fn is_enough(&self, frames: u64) -> bool {
        self.frames_max.is_some_and(|frames_max| frames >= frames_max)
    }

    /// Counts one more frame, and gives how many there are.
    fn count(&mut self, frame: &Frame) -> u64 {
        let now_ms = self.started.elapsed().as_millis() as u64;
        let same_ms = self.frozen.as_mut().and_then(|frozen| frozen.look(now_ms, frame));
        let mut status = self.board.lock();
        let snapshot = &mut status.snapshot;
        snapshot.state = State::Running;
        snapshot.frames += 1;
        snapshot.frames_frozen += u64::from(same_ms.is_some());
        snapshot.frozen_ms = same_ms.unwrap_or(0);
        snapshot.frames
    }

    /// Counts a frame that came and is no picture.
    pub(super) fn refuse(&self, reason: &dyn std::fmt::Display) {
        self.damaged(&format!("a frame was passed over: {reason}"));
        self.due();
    }

    /// Counts a frame that came damaged.
    pub(super) fn damaged(&self, sentence: &str) {
        let mut status = self.board.lock();
        let snapshot = &mut status.snapshot;
        snapshot.frames_bad += 1;
        // A camera that gives nothing else must not flood the log.
        if snapshot.frames_bad.is_power_of_two() {
            tracing::warn!(camera = %self.name, "{} bad frames so far; {sentence}", snapshot.frames_bad);
        }
        snapshot.wrong(sentence);
    }

    /// Tells in what form the frames come.
    pub(super) fn chosen(&self, format: String) {
        let format = format.chars().take(FORMAT_CHARS_MAX).collect::<String>();
        let mut status = self.board.lock();
        if status.snapshot.format.as_ref() != Some(&format) {
            tracing::info!(camera = %self.name, "frames come as {format}");
            status.snapshot.format = Some(format);
        }
    }

    /// Frames that have come in all runs together.
    pub(super) fn frames(&self) -> u64 {
        self.board.lock().snapshot.frames
    }

    /// When the next picture is due. The thread is back by then, with it or with the stall.
    pub(super) fn due(&self) -> Instant {
        let due = Instant::now() + Duration::from_secs_f64(self.config.stall_timeout_s);
        self.board.back_by(Some(due));
        due
    }

    /// What is wrong when it did not come by then.
    pub(super) fn stalled(&self) -> String {
        format!("no picture came within {} s", self.config.stall_timeout_s)
    }

    /// Sleeps, but not beyond the order to stop. True if that came.
    pub(super) fn stopped_within(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        self.board.back_by(Some(deadline));
        let stopped = wait(&mut [PollFd::new(&self.stop, PollFlags::IN)], deadline).unwrap_or(true);
        self.due();
        stopped
    }

    /// Whether the order to stop has come.
    #[cfg(any(feature = "v4l", feature = "camera"))]
    pub(super) fn stopped(&self) -> bool {
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut [PollFd::new(&self.stop, PollFlags::IN)], Some(&at_once)).is_ok_and(|ready| ready > 0)
    }
}
