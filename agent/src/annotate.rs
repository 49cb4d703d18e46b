//! Draws detections onto pictures, and does so for files: the command `detect FILE…`.
//!
//! The picture that was read is never overwritten. Nothing here decides what a detection is.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use embedded_graphics::mono_font::ascii::{FONT_6X10, FONT_10X20};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyleBuilder};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Baseline, Text};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use picket_shared::exit::{Exit, Failure};
use serde::Serialize;

use crate::detect::{Config, Detector};
use crate::frame::{Area, Detection, Frame};
use crate::pictures;

const JPEG_QUALITY: u8 = 90;

pub(crate) const COLOR: Rgb888 = Rgb888::new(255, 196, 0);
pub(crate) const INK: Rgb888 = Rgb888::BLACK;
/// From this height on lines are thicker and letters larger.
const LARGE_ROWS: u32 = 480;
/// No coordinate is drawn farther out than this, in pixels.
const OUTSIDE_MAX: f32 = 2.0 * pictures::SIDE_PX_MAX as f32;

/// Draws each box with its score, the surest last, so that it lies on top.
pub fn draw(frame: &mut Frame, detections: &[Detection]) {
    let mut label = String::new();
    for Detection { area, score } in detections.iter().rev() {
        label.clear();
        let _ = write!(label, "{score:.2}");
        draw_box(frame, area, &label);
    }
}

/// Draws one box with a label. What lies outside the picture is cut off.
pub(crate) fn draw_box(frame: &mut Frame, area: &Area, label: &str) {
    let (stroke, font) = pen(frame);
    let letters = MonoTextStyleBuilder::new().font(font).text_color(INK).background_color(COLOR).build();
    let style = PrimitiveStyle::with_stroke(COLOR, stroke);
    let mut canvas = Canvas(frame);
    // The canvas cuts off what lies outside; the bound is for the arithmetic on the way.
    let at = |v: f32| v.round().clamp(-OUTSIDE_MAX, OUTSIDE_MAX) as i32;
    let corner = |x, y| Point::new(at(x), at(y));
    let top_left = corner(area.x1, area.y1);
    let bottom_right = corner(area.x2, area.y2) - Point::new(1, 1);
    let Ok(()) = Rectangle::with_corners(top_left, bottom_right).into_styled(style).draw(&mut canvas);
    // Above the box where there is room, else inside it.
    let rows = font.character_size.height as i32;
    let above = Point::new(top_left.x, if top_left.y >= rows { top_left.y - rows } else { top_left.y });
    let Ok(_) = Text::with_baseline(label, above, letters, Baseline::Top).draw(&mut canvas);
}

/// How thick lines and how large letters are in such a picture.
pub(crate) fn pen(frame: &Frame) -> (u32, &'static MonoFont<'static>) {
    if frame.height < LARGE_ROWS { (1, &FONT_6X10) } else { (2, &FONT_10X20) }
}

/// A frame to draw on.
pub(crate) struct Canvas<'f>(pub(crate) &'f mut Frame);

impl OriginDimensions for Canvas<'_> {
    fn size(&self) -> Size {
        Size::new(self.0.width, self.0.height)
    }
}

impl DrawTarget for Canvas<'_> {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        let bounds = self.bounding_box();
        for Pixel(point, color) in pixels {
            if bounds.contains(point) {
                let at = (point.y as usize * self.0.width as usize + point.x as usize) * 3;
                self.0.rgb[at..at + 3].copy_from_slice(&[color.r(), color.g(), color.b()]);
            }
        }
        Ok(())
    }
}

/// What `detect` says of one file with `--json`: one line each.
#[derive(Debug, Serialize)]
struct Report<'a> {
    file: &'a Path,
    written: &'a Path,
    persons: usize,
    /// Letterbox, inference and decoding.
    ms: f64,
    /// `[x1, y1, x2, y2]` in pixels of the picture.
    boxes: Vec<[f32; 4]>,
    scores: Vec<f32>,
}

/// Detects in pictures (JPEG, PNG), writes each with its boxes into `out_dir` as `<name>.detected.jpg` or `.png`, and
/// prints one line each. A picture that cannot be used is told at once; the others are still done, and the end is a
/// failure.
pub fn detect_files(files: &[PathBuf], out_dir: &Path, config: &Config, json: bool) -> Result<(), Failure> {
    let targets = targets(files, out_dir)?;
    let mut detector = Detector::load(config)?;
    std::fs::create_dir_all(out_dir).map_err(|e| unwritable(out_dir, &e))?;
    let mut found = Vec::new();
    let mut unusable = Vec::new();
    for (file, target) in files.iter().zip(&targets) {
        match detect_file(&mut detector, file, &mut found) {
            Ok((frame, took)) => {
                write_picture(frame, target, &found)?;
                print(&Report::of(file, target, took, &found), json)?;
            }
            Err(sentence) => {
                tracing::error!("{sentence}");
                unusable.push(sentence);
            }
        }
    }
    match &unusable[..] {
        [] => Ok(()),
        [only] if files.len() == 1 => Err(Failure::new(Exit::Source, only)),
        [first, ..] => {
            let (bad, all) = (unusable.len(), files.len());
            Err(Failure::new(Exit::Source, format!("{bad} of {all} pictures could not be used; the first: {first}")))
        }
    }
}

/// Where each picture goes; two that would go to the same place are refused before anything is written.
fn targets(files: &[PathBuf], out_dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut seen = HashSet::new();
    let target = |file: &PathBuf| {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let png = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
        let target = out_dir.join(format!("{stem}.detected.{}", if png { "png" } else { "jpg" }));
        if seen.insert(target.clone()) {
            return Ok(target);
        }
        let (file, target) = (file.display(), target.display());
        Err(Failure::new(Exit::Source, format!("{file} would overwrite another one's {target}; do them one by one")))
    };
    files.iter().map(target).collect()
}

fn detect_file(detector: &mut Detector, file: &Path, found: &mut Vec<Detection>) -> Result<(Frame, Duration), String> {
    let frame = pictures::read(file).map_err(|what| format!("the picture {} {what}", file.display()))?;
    let timing = detector.detect(&frame, found).map_err(|e| format!("the picture {}: {e}", file.display()))?;
    Ok((frame, timing.preprocess + timing.run + timing.decode))
}

fn write_picture(mut frame: Frame, target: &Path, found: &[Detection]) -> Result<(), Failure> {
    draw(&mut frame, found);
    let (width, height, color) = (frame.width, frame.height, ExtendedColorType::Rgb8);
    let write = |file: File| {
        let mut file = BufWriter::new(file);
        let written = if target.extension().is_some_and(|extension| extension == "png") {
            PngEncoder::new(&mut file).write_image(&frame.rgb, width, height, color)
        } else {
            JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY).write_image(&frame.rgb, width, height, color)
        };
        written.map_err(io::Error::other)?;
        file.flush()
    };
    File::create(target).and_then(write).map_err(|e| unwritable(target, &e))
}

impl<'a> Report<'a> {
    fn of(file: &'a Path, written: &'a Path, took: Duration, found: &[Detection]) -> Self {
        Report {
            file,
            written,
            persons: found.len(),
            ms: (took.as_secs_f64() * 1e5).round() / 1e2,
            boxes: found.iter().map(|Detection { area, .. }| [area.x1, area.y1, area.x2, area.y2]).collect(),
            scores: found.iter().map(|detection| detection.score).collect(),
        }
    }
}

fn print(report: &Report, json: bool) -> Result<(), Failure> {
    let line = if json {
        serde_json::to_string(report).map_err(|e| Failure::new(Exit::Software, e.to_string()))?
    } else {
        let Report { file, written, persons, ms, .. } = report;
        format!("{}: {persons} persons, {ms} ms, written to {}", file.display(), written.display())
    };
    match writeln!(io::stdout().lock(), "{line}") {
        // Whoever reads has seen enough; the pictures are still written.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Disk, format!("standard output cannot be written ({e}); check where it goes")))
        }
        _ => Ok(()),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::new(Exit::Disk, format!("{path} cannot be written ({error}); choose another directory or free some space"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn black(width: u32, height: u32) -> Frame {
        Frame { taken_ms: 0, width, height, rgb: vec![0; width as usize * height as usize * 3] }
    }

    fn at(frame: &Frame, x: u32, y: u32) -> [u8; 3] {
        let at = (y as usize * frame.width as usize + x as usize) * 3;
        [frame.rgb[at], frame.rgb[at + 1], frame.rgb[at + 2]]
    }

    fn detection(x1: f32, y1: f32, x2: f32, y2: f32) -> Detection {
        Detection { area: Area { x1, y1, x2, y2 }, score: 0.87 }
    }

    #[test]
    fn a_box_is_drawn_on_its_edges_with_its_score_above() {
        let mut frame = black(200, 150);
        draw(&mut frame, &[detection(20.0, 30.0, 60.0, 120.0)]);
        let color = [COLOR.r(), COLOR.g(), COLOR.b()];
        for (x, y, expect) in [
            (20, 30, color),
            (59, 119, color),
            (59, 30, color),
            (40, 119, color),
            (60, 60, [0; 3]),
            (40, 60, [0; 3]),
            (40, 120, [0; 3]),
            (20, 20, color),
            (20, 19, [0; 3]),
            // The point between the digits of 0.87 is ink.
            (28, 27, [0; 3]),
            (90, 25, [0; 3]),
        ] {
            assert_eq!(at(&frame, x, y), expect, "{x}, {y}");
        }
    }

    #[test]
    fn a_box_beyond_the_picture_is_cut_and_never_a_panic() {
        for (width, height) in [(1, 1), (200, 150), (640, 480)] {
            let mut frame = black(width, height);
            let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1e9, 1e9, -5.0, 0.0, 150.0];
            for x1 in odd {
                for y2 in odd {
                    draw(&mut frame, &[detection(x1, -7.0, 300.0, y2), detection(3.0, y2, x1, x1)]);
                }
            }
        }
    }

    #[test]
    fn a_picture_goes_beside_none_and_over_none() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let out = Path::new("out");
        let fine = targets(&paths(&["a/x.jpg", "x.png", "y.JPEG", "noname"]), out).unwrap();
        let expect = ["out/x.detected.jpg", "out/x.detected.png", "out/y.detected.jpg", "out/noname.detected.jpg"];
        assert_eq!(fine, paths(&expect));
        let refused = targets(&paths(&["a/x.jpg", "b/x.jpg"]), out).unwrap_err();
        assert!(refused.sentence.contains("b/x.jpg would overwrite"), "{refused}");
    }
}
