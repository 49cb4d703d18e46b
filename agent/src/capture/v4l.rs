//! A camera of this machine through Video4Linux: opens it, agrees on a form, and streams from its mapped buffers.
//!
//! Written against the `v4l` crate, of which these things must be known: it waits for ever unless told otherwise; its
//! slices are a buffer's length and not a picture's; and it gives a frame's bytes only with `next`, which also queues the
//! frame before again, so that nothing may come between two calls of it. Which form is best is not decided here.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use v4l::buffer::{Flags, Type};
use v4l::fraction::Fraction;
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::io::traits::CaptureStream;
use v4l::prelude::MmapStream;
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{Device, Format, FourCC};

use picket_shared::calendar::unix_ms;

use super::negotiate::{Offer, Wish, choose, nearest_size};
use super::outlet::{End, Outlet};
use super::pixels::{self, Layout, Shape};
use super::ppm::frame_bytes;

/// Buffers of a stream: one that is read, and three that a slow moment may fill.
const BUFFERS: u32 = 4;
/// How long the camera is waited for before anybody looks whether the agent stops.
const STOP_POLL_MS: i32 = 100;

/// One stream, from opening the device to its end.
pub(super) fn run(outlet: &mut Outlet, path: &Path, wish: &Wish) -> Result<(), End> {
    let lost = |error: io::Error| End::Broken(format!("{}: {}", path.display(), reason(&error)));
    let device = Device::with_path(path).map_err(lost)?;
    let shape = agree(outlet, &device, wish).map_err(|error| match error {
        Disagreement::System(error) => lost(error),
        Disagreement::Camera(what) => End::Broken(format!("{}: {what}", path.display())),
    })?;
    let mut stream = MmapStream::with_buffers(&device, Type::VideoCapture, BUFFERS).map_err(lost)?;
    let handle = stream.handle();
    let mut due = outlet.due();
    begin(&mut stream, || wait(outlet, &handle, due).map_err(Halt::End)).map_err(|halt| match halt {
        Halt::End(end) => end,
        Halt::System(error) => lost(error),
    })?;
    loop {
        wait(outlet, &handle, due)?;
        let (bytes, meta) = stream.next().map_err(lost)?;
        let bytes = &bytes[..bytes.len().min(meta.bytesused as usize)];
        let torn = meta.flags.contains(Flags::ERROR);
        let mut frame = outlet.buffer();
        match picture(outlet, &shape, bytes, torn, &mut frame) {
            Ok(()) => {
                frame.taken_ms = unix_ms();
                outlet.deliver(frame)?;
                due = outlet.due();
            }
            Err(bad) => {
                outlet.refuse(&bad);
                outlet.mailbox.unused(outlet.index, frame);
            }
        }
    }
}

/// Makes a frame of a buffer; the error is the reason why it is none.
fn picture(
    outlet: &Outlet,
    shape: &Shape,
    bytes: &[u8],
    torn: bool,
    frame: &mut crate::frame::Frame,
) -> Result<(), String> {
    if torn {
        return Err("the driver marked it as damaged".to_owned());
    }
    let whole = if shape.layout == Layout::Mjpeg { pixels::check_jpeg_end(bytes) } else { Ok(()) };
    whole
        .and_then(|()| pixels::to_rgb(shape, bytes, frame))
        .and_then(|()| outlet.config.crop.map_or(Ok(()), |part| pixels::crop(frame, part)))
        .map_err(|error| error.to_string())
}

enum Halt {
    End(End),
    System(io::Error),
}

/// Queues the buffers and starts the stream, without waiting for its first frame, which the library then gives no way to
/// read: it is let go, and a camera's first frame is seldom a good one.
fn begin(stream: &mut MmapStream<'_>, wait: impl FnOnce() -> Result<(), Halt>) -> Result<(), Halt> {
    stream.set_timeout(Duration::ZERO);
    match stream.next() {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
        Err(error) => return Err(Halt::System(error)),
    }
    wait()?;
    CaptureStream::dequeue(stream).map(|_| ()).map_err(Halt::System)
}

/// Waits until a frame is there, or the device is gone: then the next call says so.
fn wait(outlet: &Outlet, handle: &v4l::device::Handle, due: Instant) -> Result<(), End> {
    loop {
        if outlet.stopped() {
            return Err(End::Stopped);
        }
        if Instant::now() >= due {
            return Err(End::Stalled(format!("{}; check the camera and its cable", outlet.stalled())));
        }
        match handle.poll(PollFlags::IN.bits() as i16, STOP_POLL_MS) {
            Ok(0) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return Ok(()),
        }
    }
}

enum Disagreement {
    System(io::Error),
    Camera(String),
}

/// Agrees with the camera on a form, and tells which.
fn agree(outlet: &Outlet, device: &Device, wish: &Wish) -> Result<Shape, Disagreement> {
    let camera = |what: String| Err(Disagreement::Camera(what));
    let offers = offers(device, wish).map_err(Disagreement::System)?;
    let Some(offer) = choose(wish, &offers) else {
        let known: Vec<_> = device.enum_formats().unwrap_or_default().iter().map(|f| f.fourcc.to_string()).collect();
        let wanted = wish.layout.map_or("NV12, YUYV, MJPG or GREY", Layout::fourcc);
        return camera(format!(
            "it gives no {wanted} in a size that can be used, only {}; name another device",
            known.join(", ")
        ));
    };
    let wanted = Format::new(offer.width, offer.height, fourcc(offer.layout));
    // The driver may change whatever it likes, and says what it made of it.
    let got = device.set_format(&wanted).map_err(Disagreement::System)?;
    let Some(layout) = layout(got.fourcc) else {
        return camera(format!("it was asked for {} and gives {}; name another device", wanted.fourcc, got.fourcc));
    };
    if frame_bytes(got.width, got.height).is_none() {
        return camera(pixels::PixelError::Size { width: got.width, height: got.height }.to_string());
    }
    // Not every driver knows rates; then it goes at its own.
    let fps = device.set_params(&Parameters::new(interval(wish.fps))).ok().map(|got| rate(&got.interval));
    let rate = fps.filter(|fps| *fps > 0.0).map_or(String::new(), |fps| format!(", {}/s", (fps * 10.0).round() / 10.0));
    outlet.chosen(format!("{} {}x{}{rate}", got.fourcc, got.width, got.height));
    Ok(Shape { layout, width: got.width, height: got.height, stride: got.stride })
}

/// What the camera offers in the layouts that we read.
fn offers(device: &Device, wish: &Wish) -> io::Result<Vec<Offer>> {
    let mut offers = Vec::new();
    for description in device.enum_formats()? {
        let Some(layout) = layout(description.fourcc) else { continue };
        let mut sizes: Vec<(u32, u32)> = Vec::new();
        for size in device.enum_framesizes(description.fourcc).unwrap_or_default() {
            sizes.push(match size.size {
                FrameSizeEnum::Discrete(size) => (size.width, size.height),
                FrameSizeEnum::Stepwise(s) => nearest_size(
                    wish.size,
                    [s.min_width, s.max_width, s.step_width],
                    [s.min_height, s.max_height, s.step_height],
                ),
            });
        }
        if sizes.is_empty() {
            // A driver that lists no sizes takes what it is asked for, or says what it made of it.
            sizes.push(wish.size);
        }
        for (width, height) in sizes {
            let intervals = device.enum_frameintervals(description.fourcc, width, height).unwrap_or_default();
            let rates = intervals.iter().map(|offered| match &offered.interval {
                FrameIntervalEnum::Discrete(interval) => rate(interval),
                FrameIntervalEnum::Stepwise(range) => rate(&range.min),
            });
            let fps_max = rates.reduce(f64::max);
            offers.push(Offer { layout, width, height, fps_max });
        }
    }
    Ok(offers)
}

/// Frames a second of an interval; 0 of one that is none.
fn rate(interval: &Fraction) -> f64 {
    if interval.numerator == 0 { 0.0 } else { f64::from(interval.denominator) / f64::from(interval.numerator) }
}

fn interval(fps: f64) -> Fraction {
    Fraction::new(1000, (fps * 1000.0).round() as u32)
}

fn fourcc(layout: Layout) -> FourCC {
    let mut name = [0; 4];
    name.copy_from_slice(layout.fourcc().as_bytes());
    FourCC::new(&name)
}

fn layout(fourcc: FourCC) -> Option<Layout> {
    // JPEG is what a few drivers call the same thing.
    let repr = if &fourcc.repr == b"JPEG" { b"MJPG" } else { &fourcc.repr };
    Layout::ALL.into_iter().find(|layout| layout.fourcc().as_bytes() == repr)
}

/// A system error as a sentence with its remedy.
fn reason(error: &io::Error) -> String {
    let remedy = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::NXIO) => {
            "there is no such device; check the cable, and its name with: ls /dev/video*"
        }
        Some(Errno::NODEV) => "the device is gone; check the cable",
        Some(Errno::ACCESS | Errno::PERM) => {
            "it may not be opened; put this program's user into the group video: usermod -aG video USER"
        }
        Some(Errno::BUSY) => "another program uses it; stop that, or name another device",
        Some(Errno::NOTTY | Errno::INVAL) => "it is no camera that can stream; name another device",
        Some(Errno::NOSPC) => "the USB bus has no room for it; use another port, or ask for a smaller size or rate",
        _ => return format!("it failed ({error}); check the cable"),
    };
    format!("{remedy} ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_rates_and_errors_are_translated() {
        for (name, expect) in [(b"YUYV", Some(Layout::Yuyv)), (b"JPEG", Some(Layout::Mjpeg)), (b"H264", None)] {
            assert_eq!(layout(FourCC::new(name)), expect);
        }
        for known in Layout::ALL {
            assert_eq!(layout(fourcc(known)), Some(known));
        }
        assert_eq!(rate(&Fraction::new(0, 30)), 0.0);
        assert!((rate(&interval(12.5)) - 12.5).abs() < 1e-9);
        for (errno, expect) in
            [(Errno::NOENT, "ls /dev/video*"), (Errno::BUSY, "another program uses it"), (Errno::IO, "it failed")]
        {
            assert!(reason(&errno.into()).contains(expect));
        }
    }
}
