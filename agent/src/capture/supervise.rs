//! Keeps one source going: starts its decoder, hands its pictures to the mailbox, and decides what follows each end.
//!
//! What a stall, a crash, a broken file or the end of a video means is decided by [`after`], which is pure; the thread
//! around it obeys. A file ends or fails for good, a stream is tried again for ever. Sentences that leave here have been
//! made free of secrets.

use std::cell::Cell;
use std::io::{self, PipeReader};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use picket_shared::exit::Exit;
use picket_shared::ids::CameraId;
use rustix::event::{PollFd, PollFlags};

use super::explain::explain;
use super::mailbox::Mailbox;
use super::ppm::{Pictures, PpmError};
use super::process::{Cut, Decoder, Ended, command_line, wait};
use super::source::Source;
use super::{Config, Snapshot, State};

/// Bounds of the wait before a decoder is started again. The upper one keeps a returning camera from waiting long for its
/// agent; the jitter keeps the cameras of a building from being asked in one second.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// A run that lasted this long was a good one: the next wait begins small again.
const GOOD_RUN: Duration = Duration::from_secs(20);

/// What a source's thread tells those who hold its [`super::Camera`].
#[derive(Default)]
pub(super) struct Status {
    pub(super) snapshot: Snapshot,
    /// Exit code and sentence of a source that failed for good.
    pub(super) failure: Option<(Exit, String)>,
}

/// Shared between the thread and its handle.
#[derive(Clone, Default)]
pub(super) struct Board(Arc<Mutex<Status>>);

impl Board {
    pub(super) fn lock(&self) -> MutexGuard<'_, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fail(&self, exit: Exit, sentence: String) {
        tracing::error!("{sentence}");
        let mut status = self.lock();
        status.snapshot.state = State::Failed;
        status.snapshot.errors += 1;
        status.snapshot.last_error = Some(sentence.clone());
        status.failure = Some((exit, sentence));
    }
}

/// One source under supervision.
pub(super) struct Supervisor {
    pub(super) index: usize,
    pub(super) name: CameraId,
    pub(super) config: Config,
    pub(super) source: Source,
    pub(super) frames_max: Option<u64>,
    pub(super) mailbox: Mailbox,
    pub(super) board: Board,
    /// Hangs up when the source is to stop.
    pub(super) stop: PipeReader,
    /// A file that repeats has come to its end: from now on it plays from its beginning.
    pub(super) begun_anew: Cell<bool>,
}

/// How one run of a decoder came to its end. Reasons are sentences, each with its remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// The agent stops.
    Stopped,
    /// As many frames as were asked for have come.
    Enough,
    /// The video ended, as far as one can see.
    Clean,
    /// The decoder or the video is broken.
    Broken(String),
    /// Nothing came for too long.
    Stalled(String),
    /// The decoder cannot be started here, now or later.
    NoDecoder(String),
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
    match (source, end) {
        (_, End::Stopped | End::Enough) => Next::Over,
        (_, End::NoDecoder(reason)) => Next::Failed(Exit::System, reason.clone()),
        // A file that never gave a picture will not do so next time.
        (Source::File(_), End::Broken(reason) | End::Stalled(reason)) if frames == 0 => {
            Next::Failed(Exit::Source, reason.clone())
        }
        (Source::File(_), End::Clean) if frames == 0 => Next::Failed(
            Exit::Source,
            "it holds no picture that can be shown; check the file, and that start_s is not beyond its end".to_owned(),
        ),
        // Again from the beginning would be the same pictures twice, and most likely the same end.
        (Source::File(_), _) if !repeat => Next::Over,
        (_, End::Stalled(_)) => Next::Again(State::Stalled),
        (_, End::Clean | End::Broken(_)) => Next::Again(State::Retrying),
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
        let _ended = EndOnDrop(&self);
        let mut backoff = Backoff(BACKOFF_MIN);
        loop {
            let (began, frames_before) = (Instant::now(), self.frames());
            let end = self.run_once();
            let frames = self.frames();
            if self.config.repeat && end == End::Clean && frames > frames_before {
                self.begun_anew.set(true);
                continue;
            }
            let state = match after(&self.source, self.config.repeat, frames, &end) {
                Next::Again(state) => state,
                Next::Over => State::Ended,
                Next::Failed(exit, reason) => return self.fail(exit, &reason),
            };
            self.note(&end, state);
            let good = frames > frames_before && (end == End::Clean || began.elapsed() > GOOD_RUN);
            if state == State::Ended || self.stopped_within(backoff.after(good, fastrand::f64())) {
                self.board.lock().snapshot.state = State::Ended;
                return;
            }
            self.board.lock().snapshot.restarts += 1;
        }
    }

    /// One decoder, from its start to its end.
    fn run_once(&self) -> End {
        if self.frames_max.is_some_and(|frames_max| self.frames() >= frames_max) {
            return End::Enough;
        }
        if let Source::File(path) = &self.source
            && let Err(reason) = check_file(path)
        {
            return End::Broken(reason);
        }
        let start_s = if self.begun_anew.get() { 0.0 } else { self.config.start_s };
        let words = command_line(&Config { start_s, ..self.config.clone() }, &self.source);
        let decoder = match Decoder::start(&words, &self.stop, self.due()) {
            Ok(decoder) => decoder,
            Err(error) => return self.cannot_start(&words, &error),
        };
        let mut pictures = Pictures::new(decoder);
        let read = self.deliver(&mut pictures);
        let decoder = pictures.into_input();
        match (decoder.cut(), read) {
            (Some(Cut::Stopped), _) => End::Stopped,
            (Some(Cut::Stalled), _) => {
                let complaints = decoder.finish(false).map(|ended| ended.complaints).unwrap_or_default();
                let timeout_s = self.config.stall_timeout_s;
                End::Stalled(self.explain(&format!("no picture came within {timeout_s} s"), &complaints))
            }
            (None, Ok(end)) if end != End::Clean => end,
            (None, read) => match decoder.finish(true) {
                Ok(ended) => self.judge(read.err(), ended),
                Err(error) => End::Broken(format!("the decoder cannot be waited for ({error})")),
            },
        }
    }

    /// Moves pictures to the mailbox until the stream ends, enough have come, or the agent stops.
    fn deliver(&self, pictures: &mut Pictures<Decoder<'_>>) -> Result<End, PpmError> {
        loop {
            let mut frame = self.mailbox.buffer(self.index);
            if !pictures.read_into(&mut frame)? {
                return Ok(End::Clean);
            }
            frame.taken_ms = now_ms();
            let frames = self.count();
            if !self.mailbox.put(self.index, frame, self.config.pace) {
                return Ok(End::Stopped);
            }
            if self.frames_max.is_some_and(|frames_max| frames >= frames_max) {
                return Ok(End::Enough);
            }
            // Only now: the time that a taker needs is not the decoder's.
            pictures.input_mut().expect_by(self.due());
        }
    }

    /// What the end of a decoder's output means, given its last words.
    fn judge(&self, error: Option<PpmError>, ended: Ended) -> End {
        let ours = self.config.decoder.is_none();
        match error {
            Some(error @ (PpmError::CutHeader | PpmError::CutPixels { .. } | PpmError::Io(_))) => End::Broken(
                self.explain(&format!("{error}; the decoder ended with {}", ended.status), &ended.complaints),
            ),
            Some(error) => End::Broken(self.explain(
                &format!(
                    "the decoder wrote {error}; it must write PPM pictures and nothing else to its standard output"
                ),
                &[],
            )),
            None if !ended.status.success() => {
                End::Broken(self.explain(&format!("the decoder ended with {}", ended.status), &ended.complaints))
            }
            // At its log level ffmpeg says nothing of a sound video; what other decoders say may mean nothing.
            None if ours && !ended.complaints.is_empty() => {
                End::Broken(self.explain("the video has errors", &ended.complaints))
            }
            None => End::Clean,
        }
    }

    /// The error of a command line that could not be started. A program that is not there will not come by waiting.
    fn cannot_start(&self, words: &[String], error: &io::Error) -> End {
        let program = words.first().map_or("", String::as_str);
        let remedy = match (&self.config.decoder, error.kind()) {
            (None, _) => "install it (on Debian: apt install ffmpeg), or set decoder to another one's command line",
            (Some(_), _) => "install it, or correct the first word of decoder",
        };
        let reason = self.config.source.redact(&format!("the decoder {program} cannot be started ({error}); {remedy}"));
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => End::NoDecoder(reason),
            _ => End::Broken(reason),
        }
    }

    /// Secrets go first: in a complaint that was cut they could not be recognised.
    fn explain(&self, what: &str, complaints: &[String]) -> String {
        let source = &self.config.source;
        let complaints: Vec<String> = complaints.iter().map(|line| source.redact(line)).collect();
        explain(&source.redact(what), &complaints)
    }

    fn note(&self, end: &End, state: State) {
        let mut status = self.board.lock();
        status.snapshot.state = state;
        if let End::Broken(reason) | End::Stalled(reason) = end {
            tracing::warn!(camera = %self.name, %state, "{reason}");
            status.snapshot.errors += 1;
            status.snapshot.last_error = Some(reason.clone());
        }
    }

    fn fail(&self, exit: Exit, reason: &str) {
        self.board.fail(exit, format!("camera {}, source {}: {reason}", self.name, self.config.source));
    }

    fn frames(&self) -> u64 {
        self.board.lock().snapshot.frames
    }

    /// Counts one more frame, and gives how many there are.
    fn count(&self) -> u64 {
        let mut status = self.board.lock();
        status.snapshot.state = State::Running;
        status.snapshot.frames += 1;
        status.snapshot.frames
    }

    /// When the next picture is due.
    fn due(&self) -> Instant {
        Instant::now() + Duration::from_secs_f64(self.config.stall_timeout_s)
    }

    fn stopped_within(&self, time: Duration) -> bool {
        wait(&mut [PollFd::new(&self.stop, PollFlags::IN)], Instant::now() + time).unwrap_or(true)
    }
}

/// Tells the mailbox that nothing more comes, also when the thread dies of a broken promise of its own.
struct EndOnDrop<'a>(&'a Supervisor);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Exit::Software, "its thread has panicked; please report it");
        }
        self.0.mailbox.end(self.0.index);
    }
}

/// Finds out what is wrong with a file before a decoder says it in its own words.
fn check_file(path: &Path) -> Result<(), String> {
    let reason = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => "it does not exist; check the path".to_owned(),
        Err(error) => format!("it cannot be read ({error}); check its permissions"),
        Ok(meta) if meta.is_dir() => "it is a directory; name a video file in it".to_owned(),
        Ok(meta) if meta.is_file() && meta.len() == 0 => "it is empty; check that it was copied to its end".to_owned(),
        Ok(_) => return Ok(()),
    };
    Err(reason)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_an_end_depends_on_the_source_and_on_what_came_before() {
        let file = Source::File("/v.avi".into());
        let stream = Source::Stream("rtsp");
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
            // Whatever it is.
            (&stream, false, 9, &End::NoDecoder("x".into()), failed(Exit::System)),
            (&file, true, 9, &End::NoDecoder("x".into()), failed(Exit::System)),
            (&stream, true, 9, &End::Stopped, Next::Over),
            (&file, true, 9, &End::Enough, Next::Over),
        ] {
            assert_eq!(after(source, repeat, frames, end), expect, "{source:?} {repeat} {frames} {end:?}");
        }
        assert!(matches!(after(&file, true, 0, &End::Clean), Next::Failed(Exit::Source, _)));
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
