//! A camera of this machine through nokhwa, which knows the cameras of Linux, macOS and Windows.
//!
//! Its `Camera` may not change threads and waits for a frame as long as the driver likes. So it lives in a worker thread of
//! its own, which is left behind where it hangs; another one is begun only after that has come back.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nokhwa::utils::{ApiBackend, CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType};
use nokhwa::{Camera, NokhwaError, query};

use picket_shared::calendar::unix_ms;

use super::mailbox::Mailbox;
use super::negotiate::{Offer, Wish, choose};
use super::outlet::{End, Outlet};
use super::pixels::{self, Layout, Shape};
use crate::frame::Frame;

/// The forms that we read.
const FORMATS: [FrameFormat; 4] = [FrameFormat::NV12, FrameFormat::YUYV, FrameFormat::MJPEG, FrameFormat::GRAY];
/// How long the camera is waited for before anybody looks whether the agent stops.
const STOP_POLL: Duration = Duration::from_millis(100);
/// How long the worker may take to let the camera go, which it does between two frames.
const LET_GO: Duration = Duration::from_secs(1);

/// The thread of the last run, which may still hang in a driver.
#[derive(Default)]
pub(super) struct Worker(Option<JoinHandle<()>>);

/// What the worker has to say.
enum Word {
    Chosen(String),
    Frame(Frame),
    Bad(String),
    Lost(String),
}

/// One stream, from opening the camera to its end.
pub(super) fn run(outlet: &mut Outlet, which: &str, wish: &Wish, worker: &mut Worker) -> Result<(), End> {
    if !worker.has_let_go() {
        return Err(End::Stalled(
            "its driver hangs and does not let it go; unplug it, or restart this program".to_owned(),
        ));
    }
    let (tell, heard) = sync_channel(1);
    let job = Job { which: which.to_owned(), wish: *wish, index: outlet.index, mailbox: outlet.mailbox.clone(), tell };
    let crop = outlet.config.crop;
    let spawned = thread::Builder::new().name("camera".into()).spawn(move || {
        if let Err(Lost(Some(reason))) = job.work(crop) {
            // Nobody hears it where the run is over already.
            let _ = job.tell.send(Word::Lost(reason));
        }
    });
    worker.0 = Some(spawned.map_err(|error| End::Broken(format!("no thread can be started ({error})")))?);
    let mut due = outlet.due();
    let end = loop {
        if outlet.stopped() {
            break End::Stopped;
        }
        match heard.recv_timeout(STOP_POLL) {
            Ok(Word::Chosen(format)) => outlet.chosen(format),
            Ok(Word::Frame(frame)) => match outlet.deliver(frame) {
                Ok(()) => due = outlet.due(),
                Err(end) => break end,
            },
            Ok(Word::Bad(reason)) => outlet.refuse(&reason),
            Ok(Word::Lost(reason)) => break End::Broken(reason),
            Err(RecvTimeoutError::Disconnected) => break End::Broken("the camera's library gave up".to_owned()),
            Err(RecvTimeoutError::Timeout) if Instant::now() >= due => {
                break End::Stalled(format!("{}; check the camera and its cable", outlet.stalled()));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    };
    drop(heard);
    if end == End::Stopped {
        // Whoever opens it next finds it free.
        worker.has_let_go();
    }
    Err(end)
}

impl Worker {
    /// Waits a little for the last run's thread; false where it still hangs.
    fn has_let_go(&mut self) -> bool {
        let deadline = Instant::now() + LET_GO;
        while self.0.as_ref().is_some_and(|thread| !thread.is_finished()) {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

/// What the worker works with.
struct Job {
    which: String,
    wish: Wish,
    index: usize,
    mailbox: Mailbox,
    tell: SyncSender<Word>,
}

/// The camera is lost, with the reason; without one the run is over and nobody listens.
struct Lost(Option<String>);

impl From<NokhwaError> for Lost {
    fn from(error: NokhwaError) -> Self {
        Lost(Some(format!("{error}; check that it is plugged in, free, and that this program may use it")))
    }
}

impl Job {
    fn work(&self, crop: Option<[u32; 4]>) -> Result<(), Lost> {
        let any = RequestedFormat::with_formats(RequestedFormatType::AbsoluteHighestFrameRate, &FORMATS);
        let mut camera = Camera::new(self.number()?, any)?;
        let offers = camera.compatible_camera_formats()?;
        let known: Vec<Offer> = offers.iter().filter_map(offer).collect();
        let Some(best) = choose(&self.wish, &known) else {
            return Err(Lost(Some("it gives no picture in a form that can be used; name another camera".to_owned())));
        };
        let wanted = offers.into_iter().find(|offered| offer(offered) == Some(best));
        if let Some(wanted) = wanted.filter(|wanted| *wanted != camera.camera_format()) {
            let exact = RequestedFormat::with_formats(RequestedFormatType::Exact(wanted), &FORMATS);
            camera.set_camera_requset(exact)?;
        }
        camera.open_stream()?;
        let got = camera.camera_format();
        let name = camera.info().human_name();
        self.say(Word::Chosen(format!("{} {}, {}/s, {name}", got.format(), got.resolution(), got.frame_rate())))?;
        loop {
            let buffer = camera.frame()?;
            let (size, form) = (buffer.resolution(), buffer.source_frame_format());
            let Some(layout) = layout(form) else {
                return Err(Lost(Some(format!("it gives {form}, which is not read; name another camera"))));
            };
            let shape = Shape { layout, width: size.width(), height: size.height(), stride: 0 };
            let mut frame = self.mailbox.buffer(self.index);
            let read = pixels::to_rgb(&shape, buffer.buffer(), &mut frame)
                .and_then(|()| crop.map_or(Ok(()), |part| pixels::crop(&mut frame, part)));
            frame.taken_ms = unix_ms();
            self.say(read.map_or_else(|bad| Word::Bad(bad.to_string()), |()| Word::Frame(frame)))?;
        }
    }

    fn say(&self, word: Word) -> Result<(), Lost> {
        self.tell.send(word).map_err(|_| Lost(None))
    }

    /// The camera's number, or that of the first whose name holds these words.
    fn number(&self) -> Result<CameraIndex, Lost> {
        if let Ok(number) = self.which.parse() {
            return Ok(CameraIndex::Index(number));
        }
        let cameras = query(ApiBackend::Auto)?;
        let found = cameras.iter().find(|info| info.human_name().contains(&self.which));
        let names: Vec<String> = cameras.iter().map(|info| info.human_name()).collect();
        let missing = || Lost(Some(format!("no camera is named so; there are: {}", names.join(", "))));
        found.map(|info| info.index().clone()).ok_or_else(missing)
    }
}

fn offer(format: &CameraFormat) -> Option<Offer> {
    let (width, height) = (format.width(), format.height());
    Some(Offer { layout: layout(format.format())?, width, height, fps_max: Some(format.frame_rate().into()) })
}

fn layout(format: FrameFormat) -> Option<Layout> {
    match format {
        FrameFormat::NV12 => Some(Layout::Nv12),
        FrameFormat::YUYV => Some(Layout::Yuyv),
        FrameFormat::MJPEG => Some(Layout::Mjpeg),
        FrameFormat::GRAY => Some(Layout::Grey),
        _ => None,
    }
}
