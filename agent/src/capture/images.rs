//! Plays a folder of JPEG and PNG pictures in the order of their names, or a sequence of the MOT challenge.
//!
//! A picture that cannot be read is counted and passed over.

use std::path::Path;

use super::outlet::{End, Outlet};
use super::pixels;
use super::ppm::frame_bytes;
use super::synthetic::Clock;
use crate::frame::Frame;
use crate::pictures::{self, Sequence};

/// Where nothing says at what rate pictures were taken.
const FPS_DEFAULT: f64 = 10.0;

/// Plays the folder once. `fps` is the rate where its source says one.
pub(super) fn run(outlet: &mut Outlet, folder: &Path, fps: Option<f64>) -> Result<(), End> {
    let sequence = Sequence::open(folder).map_err(|error| End::Broken(error.to_string()))?;
    let fps = fps.or(sequence.fps).unwrap_or(FPS_DEFAULT);
    outlet.chosen(format!("{} pictures, {fps}/s", sequence.files.len()));
    let mut clock = Clock::start(fps);
    let mut bytes = Vec::new();
    let mut last_error = None;
    for (number, path) in sequence.files.iter().enumerate() {
        let mut frame = outlet.buffer();
        if let Err(reason) = picture(path, &mut bytes, outlet.config.crop, &mut frame) {
            let reason = format!("{} {reason}", path.display());
            outlet.refuse(&reason);
            last_error = Some(reason);
            continue;
        }
        frame.taken_ms = clock.wait(outlet, number as u64)?;
        outlet.deliver(frame)?;
    }
    match last_error {
        Some(reason) if outlet.frames() == 0 => Err(End::Broken(format!("no picture of it can be read; {reason}"))),
        _ => Ok(()),
    }
}

/// Reads one picture into a frame. `bytes` is scratch; the error is the end of a sentence.
fn picture(path: &Path, bytes: &mut Vec<u8>, crop: Option<[u32; 4]>, frame: &mut Frame) -> Result<(), String> {
    pictures::read_into(path, bytes, frame)?;
    let (width, height) = (frame.width, frame.height);
    // What a camera's frame may have.
    frame_bytes(width, height)
        .ok_or_else(|| format!("has {width}x{height} pixels, which are too many; scale it down"))?;
    crop.map_or(Ok(()), |part| pixels::crop(frame, part)).map_err(|error| format!("cannot be cut: {error}"))
}
