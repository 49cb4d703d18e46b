//! Keeps one encoder child going, which reads raw pictures: it starts it, feeds it, and starts another one after its end.
//!
//! Where the pictures end up, and what that needs, is the [`Target`]'s affair: a file or a stream. Whatever goes wrong is a
//! sentence in the gauge; the frame path and the other sinks never wait for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use picket_shared::backoff::Backoff;

use super::child::{Child, Ended, Refused};
use super::gauge::{Gauge, State};
use super::slot::{Empty, Slot};
use crate::frame::Frame;

/// How long a child may take for one picture: a slow disk or a slow network, not a stuck one.
const WRITE_MAX: Duration = Duration::from_secs(8);
/// How long a child may take to end its file.
pub(super) const END_MAX: Duration = Duration::from_secs(4);
/// How often the target is asked whether all is well.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Raw pictures of one camera on their way to a child.
pub(super) type Raw = Slot<Frame>;

/// Why a child is not started, or must end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Halt {
    /// Another one is to begin at once.
    Next,
    /// There is no room; a sentence.
    Full(String),
    /// Something is in the way; a sentence.
    Wrong(String),
}

/// How a child is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invocation {
    /// The program and its arguments, which every user of the machine can see.
    pub(super) words: Vec<String>,
    /// A variable that they cannot see.
    pub(super) env: Option<(&'static str, String)>,
}

/// Where a child's pictures end up.
pub(super) trait Target: Send + 'static {
    /// What to start for pictures of this size.
    fn begin(&mut self, size: (u32, u32)) -> Result<Invocation, Halt>;

    /// Whether the child may go on; asked now and then while it runs.
    fn check(&mut self) -> Result<(), Halt> {
        Ok(())
    }

    /// The child has ended.
    fn ended(&mut self) {}

    /// A sentence, with its remedy and without secrets, of what happened and the child's last words.
    fn explain(&self, what: &str, complaints: &[String]) -> Halt;
}

/// Starts the thread.
pub(super) fn start(who: String, target: impl Target, slot: Raw, gauge: Arc<Gauge>) -> io::Result<JoinHandle<()>> {
    let name: String = who.chars().take(15).collect();
    let encoder = Encoder {
        who,
        target,
        slot,
        gauge,
        backoff: Backoff::default(),
        not_before: Instant::now(),
        running: None,
        failed: false,
    };
    std::thread::Builder::new().name(name).spawn(move || encoder.run())
}

struct Encoder<T> {
    who: String,
    target: T,
    slot: Raw,
    gauge: Arc<Gauge>,
    backoff: Backoff,
    not_before: Instant,
    running: Option<Running>,
    /// The last one ended as it should not have.
    failed: bool,
}

struct Running {
    child: Child,
    size: (u32, u32),
    began: Instant,
    checked: Instant,
}

impl<T: Target> Encoder<T> {
    fn run(mut self) {
        loop {
            match self.slot.take(CHECK_EVERY) {
                Ok(frame) => {
                    self.feed(&frame);
                    self.slot.recycle(frame);
                }
                Err(Empty::TimedOut) => {}
                Err(Empty::Closed) => break,
            }
            self.check();
        }
        self.end();
    }

    fn feed(&mut self, frame: &Frame) {
        let size = (frame.width, frame.height);
        if self.running.as_ref().is_some_and(|running| running.size != size) {
            self.end();
        }
        if self.running.is_none() && Instant::now() >= self.not_before {
            self.begin(size);
        }
        let Some(running) = &mut self.running else {
            self.gauge.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        match running.child.write(&frame.rgb, Instant::now() + WRITE_MAX) {
            Ok(()) => {
                self.gauge.took(frame.rgb.len());
                // Only now: a child that ends at once has not worked.
                if running.began.elapsed() > CHECK_EVERY {
                    self.gauge.well(State::Running);
                }
            }
            Err(refused) => self.broke(&refused),
        }
    }

    fn begin(&mut self, size: (u32, u32)) {
        let started = self.target.begin(size).and_then(|Invocation { words, env }| {
            let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
            Child::start(&words, &env, 0).map_err(|error| {
                let program = words.first().map_or("", String::as_str);
                Halt::Wrong(format!(
                    "the encoder {program} cannot be started ({error}); install it, or correct encoder"
                ))
            })
        });
        match started {
            Ok(child) => {
                let now = Instant::now();
                self.running = Some(Running { child, size, began: now, checked: now });
                self.gauge.restarts.fetch_add(u64::from(std::mem::take(&mut self.failed)), Ordering::Relaxed);
            }
            Err(halt) => self.halted(halt),
        }
    }

    fn check(&mut self) {
        let Some(running) = &mut self.running else { return };
        if running.checked.elapsed() < CHECK_EVERY {
            return;
        }
        running.checked = Instant::now();
        if let Err(halt) = self.target.check() {
            self.end();
            self.halted(halt);
        }
    }

    /// Ends the child in order: its file is whole.
    fn end(&mut self) {
        let Some(Running { child, began, .. }) = self.running.take() else { return };
        let ended = child.finish(END_MAX);
        self.target.ended();
        self.backoff.ended(began.elapsed());
        match ended {
            Ok(Ended { status, .. }) if status.success() => {}
            Ok(Ended { status, complaints, .. }) => {
                let halt = self.target.explain(&format!("the encoder ended with {status}"), &complaints);
                self.halted(halt);
            }
            Err(error) => self.halted(Halt::Wrong(format!("the encoder cannot be waited for ({error})"))),
        }
    }

    /// The child took no more.
    fn broke(&mut self, refused: &Refused) {
        let Some(Running { child, began, .. }) = self.running.take() else { return };
        let grace = if matches!(refused, Refused::Ended) { END_MAX } else { Duration::ZERO };
        let ended = child.finish(grace);
        self.target.ended();
        self.backoff.ended(began.elapsed());
        let (status, complaints) = ended.map_or((None, Vec::new()), |ended| (Some(ended.status), ended.complaints));
        let what = match (refused, status) {
            (Refused::Stalled, _) => format!("the encoder took no picture within {} s", WRITE_MAX.as_secs()),
            (Refused::System(error), _) => format!("the encoder cannot be written to ({error})"),
            (_, Some(status)) => format!("the encoder ended with {status}"),
            (_, None) => "the encoder ended".to_owned(),
        };
        let halt = self.target.explain(&what, &complaints);
        self.halted(halt);
    }

    fn halted(&mut self, halt: Halt) {
        let (state, sentence) = match halt {
            Halt::Next => return,
            Halt::Full(sentence) => (State::Full, sentence),
            Halt::Wrong(sentence) => (State::Retrying, sentence),
        };
        self.failed = true;
        self.not_before = Instant::now() + self.backoff.next(fastrand::f64());
        self.gauge.wrong(state, &self.who, &sentence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::record::{Config, Segments};
    use std::path::Path;

    /// Width and height of a video, as ffprobe reads them.
    fn size(file: &Path) -> String {
        let words = "-v error -show_entries stream=width,height -of csv=p=0";
        let output = std::process::Command::new("ffprobe").args(words.split(' ')).arg(file).output();
        String::from_utf8_lossy(&output.expect("ffmpeg is here for the decoder's tests").stdout).trim().to_owned()
    }

    /// Feeds pictures until so many were taken.
    fn feed(slot: &Raw, gauge: &Gauge, (width, height): (u32, u32), count: u64) {
        let until = gauge.pictures.load(Ordering::Relaxed) + count;
        let deadline = Instant::now() + Duration::from_secs(60);
        while gauge.pictures.load(Ordering::Relaxed) < until {
            slot.offer(false, |frame| {
                let rgb = vec![100; (width * height * 3) as usize];
                *frame = Frame { taken_ms: 0, width, height, rgb };
            });
            std::thread::sleep(Duration::from_millis(20));
            assert!(Instant::now() < deadline, "{:?}", gauge.problem());
        }
    }

    #[test]
    fn another_size_is_another_file_and_the_end_of_the_camera_ends_the_last_one_in_order() {
        let dir = tempfile::tempdir().unwrap();
        #[derive(serde::Deserialize)]
        struct Camera {
            record: Config,
        }
        let text = format!("record = \"{}/door.mp4\"", dir.path().display());
        let config = picket_shared::config::parse::<Camera>(&text).unwrap().record;
        let (slot, gauge) = (Raw::default(), Arc::new(Gauge::default()));
        let thread =
            start("camera door, record".into(), Segments::new(config), slot.clone(), Arc::clone(&gauge)).unwrap();
        for size in [(64, 48), (97, 65), (64, 48)] {
            feed(&slot, &gauge, size, 10);
        }
        slot.close();
        thread.join().unwrap();
        let mut files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        // An odd size loses a row and a column, which H.264 cannot have.
        assert_eq!(files.iter().map(|file| size(file)).collect::<Vec<_>>(), ["64,48", "96,64", "64,48"]);
        assert_eq!((gauge.problem(), gauge.restarts.load(Ordering::Relaxed)), (None, 0));
    }
}
