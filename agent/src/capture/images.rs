//! Plays a folder of JPEG and PNG pictures in the order of their names, or a sequence of the MOT challenge.
//!
//! A MOT sequence is a folder with a `seqinfo.ini` that says where its pictures are and at what rate they were taken:
//! <https://motchallenge.net/instructions/>. A picture that cannot be read is counted and passed over.

use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use image::{ImageFormat, ImageReader, Limits};

use super::outlet::{End, Outlet};
use super::pixels::{self, Layout, Shape};
use super::ppm::{FRAME_BYTES_MAX, SIDE_PX_MAX, frame_bytes};
use super::synthetic::Clock;
use crate::frame::Frame;

/// Where nothing says at what rate pictures were taken.
const FPS_DEFAULT: f64 = 10.0;
/// Pictures of one folder: nine hours at 30 a second. Their names are held in memory.
const PICTURES_MAX: usize = 1_000_000;
/// Largest file of one picture.
const PICTURE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Largest `seqinfo.ini`; a true one has 150 bytes.
const SEQINFO_BYTES_MAX: u64 = 16 * 1024;
const PNG_MAGIC: &[u8] = b"\x89PNG";

/// Plays the folder once. `fps` is the rate where its source says one.
pub(super) fn run(outlet: &mut Outlet, folder: &Path, fps: Option<f64>) -> Result<(), End> {
    let sequence = Sequence::read(folder).map_err(End::Broken)?;
    let names = pictures(&sequence.folder).map_err(End::Broken)?;
    let fps = fps.or(sequence.fps).unwrap_or(FPS_DEFAULT);
    outlet.chosen(format!("{} pictures, {fps}/s", names.len()));
    let mut clock = Clock::start(fps);
    let mut bytes = Vec::new();
    let mut last_error = None;
    for (number, path) in names.iter().enumerate() {
        let mut frame = outlet.buffer();
        if let Err(reason) = picture(path, &mut bytes, outlet.config.crop, &mut frame) {
            let reason = format!("{}: {reason}", path.display());
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

/// Where the pictures are, and how fast they were taken.
#[derive(Debug, PartialEq)]
struct Sequence {
    folder: PathBuf,
    fps: Option<f64>,
}

impl Sequence {
    fn read(folder: &Path) -> Result<Sequence, String> {
        let path = folder.join("seqinfo.ini");
        if !path.exists() {
            return Ok(Sequence { folder: folder.to_owned(), fps: None });
        }
        let mut text = String::new();
        let file = fs::File::open(&path).and_then(|file| file.take(SEQINFO_BYTES_MAX).read_to_string(&mut text));
        file.map_err(|error| format!("{} cannot be read ({error})", path.display()))?;
        Sequence::parse(folder, &text).map_err(|what| format!("{}: {what}", path.display()))
    }

    fn parse(folder: &Path, text: &str) -> Result<Sequence, String> {
        let value = |key: &str| {
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            pairs
                .map(|(name, value)| (name.trim(), value.trim()))
                .find(|(name, _)| *name == key)
                .map(|(_, value)| value)
        };
        let images = value("imDir").unwrap_or("img1");
        if Path::new(images).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return Err(format!("imDir is \"{images}\" and must be a folder beside it"));
        }
        let fps = value("frameRate").map(|rate| match rate.parse() {
            Ok(fps) if (0.1..=240.0).contains(&fps) => Ok(fps),
            _ => Err(format!("frameRate is \"{rate}\" and must be 0.1 to 240")),
        });
        Ok(Sequence { folder: folder.join(images), fps: fps.transpose()? })
    }
}

/// The pictures of a folder, in the order of their names.
fn pictures(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let is_picture = |path: &PathBuf| {
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
        extension.is_some_and(|extension| ["jpg", "jpeg", "png"].iter().any(|known| extension == *known))
    };
    let shown = folder.display();
    let entries = fs::read_dir(folder).map_err(|error| format!("{shown} cannot be read ({error}); check the path"))?;
    let mut paths: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(is_picture).take(PICTURES_MAX + 1).collect();
    match paths.len() {
        0 => return Err(format!("{shown} holds no .jpg, .jpeg or .png file; name the folder that does")),
        count if count > PICTURES_MAX => {
            return Err(format!("{shown} holds more than {PICTURES_MAX} pictures; split it"));
        }
        _ => paths.sort(),
    }
    Ok(paths)
}

/// Reads one picture into a frame. `bytes` is scratch.
fn picture(path: &Path, bytes: &mut Vec<u8>, crop: Option<[u32; 4]>, frame: &mut Frame) -> Result<(), String> {
    bytes.clear();
    let read = fs::File::open(path).and_then(|file| file.take(PICTURE_BYTES_MAX + 1).read_to_end(bytes));
    read.map_err(|error| format!("it cannot be read ({error})"))?;
    if bytes.len() as u64 > PICTURE_BYTES_MAX {
        return Err(format!("its file is larger than {PICTURE_BYTES_MAX} bytes"));
    }
    if bytes.starts_with(PNG_MAGIC) {
        png(bytes, frame)?;
    } else {
        let shape = Shape { layout: Layout::Mjpeg, width: 0, height: 0, stride: 0 };
        pixels::check_jpeg_end(bytes)
            .and_then(|()| pixels::to_rgb(&shape, bytes, frame))
            .map_err(|error| error.to_string())?;
    }
    crop.map_or(Ok(()), |part| pixels::crop(frame, part)).map_err(|error| error.to_string())
}

fn png(bytes: &[u8], frame: &mut Frame) -> Result<(), String> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png);
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(SIDE_PX_MAX), Some(SIDE_PX_MAX));
    // Sixteen bits a channel and transparency, before both are let go.
    limits.max_alloc = Some(FRAME_BYTES_MAX as u64 * 3);
    reader.limits(limits);
    let picture = reader.decode().map_err(|error| error.to_string())?.into_rgb8();
    let (width, height) = picture.dimensions();
    frame_bytes(width, height).ok_or_else(|| format!("a picture of {width}x{height} is too large"))?;
    (frame.width, frame.height) = (width, height);
    frame.rgb.clear();
    frame.rgb.extend_from_slice(&picture);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_says_where_its_pictures_are_and_how_fast() {
        let parse = |text: &str| Sequence::parse(Path::new("/s"), text);
        let mot = "[Sequence]\nname=MOT17-02\nimDir=img1\nframeRate=30\nseqLength=600\nimWidth=1920\n";
        assert_eq!(parse(mot), Ok(Sequence { folder: "/s/img1".into(), fps: Some(30.0) }));
        assert_eq!(parse(""), Ok(Sequence { folder: "/s/img1".into(), fps: None }));
        for (text, expect) in [
            ("imDir=../../etc", "must be a folder beside it"),
            ("imDir=/etc", "must be a folder beside it"),
            ("frameRate=fast", "frameRate is \"fast\""),
            ("frameRate=0", "must be 0.1 to 240"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expect), "{error}");
        }
    }
}
