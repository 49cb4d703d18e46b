//! Keeps one source going: runs it, and decides what follows each end.
//!
//! What a stall, a crash, a broken file or the end of a video means is decided by [`after`], which is pure; the thread
//! around it obeys. What is finite ends or fails for good, what is live is tried again for ever. Sentences that leave here
//! have been made free of secrets.

use std::time::{Duration, Instant};

use picket_shared::exit::Exit;

use super::outlet::{End, Outlet};
use super::source::Source;
use super::{State, decode, images, synthetic};

/// Bounds of the wait before a source is started again. The upper one keeps a returning camera from waiting long for its
/// agent; the jitter keeps the cameras of a building from being asked in one second.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// A run that lasted this long was a good one: the next wait begins small again.
const GOOD_RUN: Duration = Duration::from_secs(20);

/// One source under supervision.
pub(super) struct Supervisor {
    pub(super) outlet: Outlet,
    pub(super) source: Source,
    /// What repeats has come to its end: from now on it plays from its beginning.
    pub(super) begun_anew: bool,
    #[cfg(feature = "camera")]
    pub(super) worker: super::camera::Worker,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Start again after a wait, in this state until the next frame.
    Again(State),
    /// Over, with all that there was.
    Over,
    /// Over, and somebody must do something.
    Failed(Exit, String),
}

/// Decides what follows the end of a run. `frames` is how many have come in all runs together.
fn after(source: &Source, repeat: bool, frames: u64, end: &End) -> Next {
    match end {
        End::Stopped | End::Enough => Next::Over,
        End::NoDecoder(reason) => Next::Failed(Exit::System, reason.clone()),
        // A file that never gave a picture will not do so next time.
        End::Broken(reason) | End::Stalled(reason) if source.is_finite() && frames == 0 => {
            Next::Failed(Exit::Source, reason.clone())
        }
        End::Clean if source.is_finite() && frames == 0 => Next::Failed(
            Exit::Source,
            "it holds no picture that can be shown; check the file, and that start_s is not beyond its end".to_owned(),
        ),
        // Again from the beginning would be the same pictures twice, and most likely the same end.
        _ if source.is_finite() && !repeat => Next::Over,
        End::Stalled(_) => Next::Again(State::Stalled),
        End::Clean | End::Broken(_) => Next::Again(State::Retrying),
    }
}

/// The waits between runs.
struct Backoff(Duration);

impl Backoff {
    /// The wait after a run. `chance` is 0 to 1.
    fn after(&mut self, good: bool, chance: f64) -> Duration {
        if good {
            self.0 = BACKOFF_MIN;
        }
        let wait = self.0.mul_f64(0.5 + 0.5 * chance);
        self.0 = (self.0 * 2).min(BACKOFF_MAX);
        wait
    }
}

impl Supervisor {
    /// Runs the source to its end, and tells the mailbox. The board is written first, so that whoever hears of the end
    /// finds its reason.
    pub(super) fn run(self) {
        let mut supervisor = EndOnDrop(self);
        supervisor.0.run_to_the_end();
    }

    fn run_to_the_end(&mut self) {
        let mut backoff = Backoff(BACKOFF_MIN);
        loop {
            let (began, frames_before) = (Instant::now(), self.outlet.frames());
            let end = self.run_once();
            let frames = self.outlet.frames();
            if self.outlet.config.repeat && end == End::Clean && frames > frames_before {
                self.begun_anew = true;
                continue;
            }
            let state = match after(&self.source, self.outlet.config.repeat, frames, &end) {
                Next::Again(state) => state,
                Next::Over => State::Ended,
                Next::Failed(exit, reason) => return self.fail(exit, &reason),
            };
            let good = frames > frames_before && (end == End::Clean || began.elapsed() > GOOD_RUN);
            let wait = backoff.after(good, fastrand::f64());
            self.note(&end, state, wait);
            if state == State::Ended || self.outlet.stopped_within(wait) {
                let mut status = self.outlet.board.lock();
                (status.snapshot.state, status.snapshot.retry_at) = (State::Ended, None);
                return;
            }
            let mut status = self.outlet.board.lock();
            status.snapshot.restarts += 1;
            status.snapshot.retry_at = None;
        }
    }

    /// One run of the source, from its start to its end.
    fn run_once(&mut self) -> End {
        let outlet = &mut self.outlet;
        // A device that cannot be opened and does not say so has hung.
        outlet.due();
        if outlet.is_enough(outlet.frames()) {
            return End::Enough;
        }
        let ran = match &self.source {
            Source::File(_) | Source::Stream(_) => decode::run(outlet, &self.source, self.begun_anew),
            Source::Images(folder, fps) => images::run(outlet, folder, *fps),
            Source::Synthetic(scene) => synthetic::run(outlet, scene),
            #[cfg(feature = "v4l")]
            Source::V4l(path, wish) => guarded(|| super::v4l::run(outlet, path, wish)),
            #[cfg(feature = "camera")]
            Source::Camera(which, wish) => guarded(|| super::camera::run(outlet, which, wish, &mut self.worker)),
            #[cfg(not(all(feature = "v4l", feature = "camera")))]
            _ => unreachable!("what this build cannot play was refused with its configuration"),
        };
        ran.err().unwrap_or(End::Clean)
    }

    fn note(&self, end: &End, state: State, wait: Duration) {
        let mut status = self.outlet.board.lock();
        status.snapshot.state = state;
        status.snapshot.frozen_ms = 0;
        status.snapshot.retry_at = (state != State::Ended).then(|| Instant::now() + wait);
        if let End::Broken(reason) | End::Stalled(reason) = end {
            tracing::warn!(camera = %self.outlet.name, %state, "{reason}");
            status.snapshot.wrong(reason);
        }
    }

    fn fail(&self, exit: Exit, reason: &str) {
        let Outlet { name, config, board, .. } = &self.outlet;
        board.fail(exit, format!("camera {name}, source {}: {reason}", config.source));
    }
}

/// A camera's library may panic where a driver says something unforeseen, as v4l does when a stream cannot be stopped:
/// that ends the run and not the source.
#[cfg(any(feature = "v4l", feature = "camera"))]
fn guarded(run: impl FnOnce() -> Result<(), End>) -> Result<(), End> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(End::Broken("the camera's library gave up on its driver; check the cable".to_owned())))
}

/// Tells the mailbox that nothing more comes, also when the thread dies of a broken promise of its own.
struct EndOnDrop(Supervisor);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Exit::Software, "its thread has panicked; please report it");
        }
        self.0.outlet.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::negotiate::Wish;

    #[test]
    fn what_follows_an_end_depends_on_the_source_and_on_what_came_before() {
        let file = Source::File("/v.avi".into());
        let stream = Source::Stream("rtsp");
        let camera = Source::V4l("/dev/video0".into(), Wish::default());
        let folder = Source::Images("/pictures".into(), None);
        let broken = End::Broken("x".into());
        let stalled = End::Stalled("x".into());
        let failed = |exit| Next::Failed(exit, "x".into());
        for (source, repeat, frames, end, expect) in [
            // A file, once.
            (&file, false, 0, &broken, failed(Exit::Source)),
            (&file, false, 0, &stalled, failed(Exit::Source)),
            (&file, false, 9, &broken, Next::Over),
            (&file, false, 9, &stalled, Next::Over),
            (&file, false, 9, &End::Clean, Next::Over),
            // A file for ever, which is no better when it never played.
            (&file, true, 0, &broken, failed(Exit::Source)),
            (&file, true, 9, &broken, Next::Again(State::Retrying)),
            (&file, true, 9, &stalled, Next::Again(State::Stalled)),
            (&file, true, 9, &End::Clean, Next::Again(State::Retrying)),
            // A camera may be off for a year.
            (&stream, false, 0, &broken, Next::Again(State::Retrying)),
            (&stream, false, 0, &stalled, Next::Again(State::Stalled)),
            (&stream, false, 0, &End::Clean, Next::Again(State::Retrying)),
            (&stream, false, 9, &End::Clean, Next::Again(State::Retrying)),
            (&camera, false, 0, &broken, Next::Again(State::Retrying)),
            (&camera, false, 9, &stalled, Next::Again(State::Stalled)),
            // A folder is as finite as a file.
            (&folder, true, 9, &broken, Next::Again(State::Retrying)),
            // Whatever it is.
            (&stream, false, 9, &End::NoDecoder("x".into()), failed(Exit::System)),
            (&file, true, 9, &End::NoDecoder("x".into()), failed(Exit::System)),
            (&stream, true, 9, &End::Stopped, Next::Over),
            (&file, true, 9, &End::Enough, Next::Over),
        ] {
            assert_eq!(after(source, repeat, frames, end), expect, "{source:?} {repeat} {frames} {end:?}");
        }
        for source in [&file, &folder] {
            assert!(matches!(after(source, true, 0, &End::Clean), Next::Failed(Exit::Source, _)));
        }
    }

    #[test]
    fn the_wait_doubles_to_its_bound_is_jittered_and_begins_small_after_a_good_run() {
        let mut backoff = Backoff(BACKOFF_MIN);
        assert_eq!(backoff.after(false, 0.0), BACKOFF_MIN / 2);
        assert_eq!(backoff.after(false, 1.0), BACKOFF_MIN * 2);
        for _ in 0..20 {
            assert!(backoff.after(false, 1.0) <= BACKOFF_MAX);
        }
        assert_eq!(backoff.after(false, 1.0), BACKOFF_MAX);
        assert_eq!(backoff.after(true, 1.0), BACKOFF_MIN);
    }
}
