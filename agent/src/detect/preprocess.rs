//! Fits a frame into the model's picture: the letterbox, and the way back.
//!
//! The frame is scaled to fit with its aspect kept, centred, and the rest is the family's margin: black for the default
//! model, with which that is the most accurate of the usual choices, by a hair. Never allocates once warm.

use super::halve::Halver;
use super::scale::Scaler;
use crate::frame::{Area, Frame};

/// Longest side of a frame, in pixels: 8K cameras have 7,680.
pub const FRAME_SIDE_MAX: u32 = 8192;

/// Why a frame is not looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No pixels, or too many.
    #[error("the frame is {0} x {1} pixels, and a side may have 1 to {FRAME_SIDE_MAX}")]
    Size(u32, u32),
    /// Not three bytes for each pixel.
    #[error("the frame has {bytes} bytes, and its size asks for {expected}")]
    Bytes {
        /// Bytes in the buffer.
        bytes: usize,
        /// Bytes by width and height.
        expected: usize,
    },
}

/// How a frame lies in the model's picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Letterbox {
    /// Width and height of the frame.
    pub source: (u32, u32),
    /// Width and height of the model's picture.
    pub target: (u32, u32),
    /// Width and height of the scaled frame in it.
    pub inner: (u32, u32),
    /// Its left and upper edge.
    pub offset: (u32, u32),
}

impl Letterbox {
    /// Fits a frame of one size into a picture of another; neither may be empty.
    pub fn fit(source: (u32, u32), target: (u32, u32)) -> Letterbox {
        let scale = (f64::from(target.0) / f64::from(source.0)).min(f64::from(target.1) / f64::from(source.1));
        // At least one pixel, for a frame that is all width or all height.
        let scaled = |side: u32, most: u32| ((f64::from(side) * scale + 0.5) as u32).clamp(1, most);
        let inner = (scaled(source.0, target.0), scaled(source.1, target.1));
        Letterbox { source, target, inner, offset: ((target.0 - inner.0) / 2, (target.1 - inner.1) / 2) }
    }

    /// A box in parts of the model's picture (x1, y1, x2, y2; 0 to 1) in pixels of the frame, cut at its edges.
    pub fn to_source(&self, corners: [f32; 4]) -> Area {
        let back = |part: f32, target: u32, offset: u32, inner: u32, source: u32| {
            ((part * target as f32 - offset as f32) * source as f32 / inner as f32).clamp(0.0, source as f32)
        };
        let x = |part| back(part, self.target.0, self.offset.0, self.inner.0, self.source.0);
        let y = |part| back(part, self.target.1, self.offset.1, self.inner.1, self.source.1);
        Area { x1: x(corners[0]), y1: y(corners[1]), x2: x(corners[2]), y2: y(corners[3]) }
    }
}

/// Fits frames, and keeps what it needs for that.
#[derive(Debug, Default)]
pub struct Preprocessor {
    halver: Halver,
    scaler: Scaler,
    /// What was halved last, and what is halved into next.
    halves: [Vec<u8>; 2],
}

impl Preprocessor {
    /// Fills `picture` (`width * height * 3` bytes, RGB by rows) with the frame in its letterbox, and what lies around
    /// it with bytes of `margin`.
    pub fn letterbox(
        &mut self,
        frame: &Frame,
        target: (u32, u32),
        margin: u8,
        picture: &mut [u8],
    ) -> Result<Letterbox, FrameError> {
        let source = (frame.width, frame.height);
        if [source.0, source.1].iter().any(|side| *side == 0 || *side > FRAME_SIDE_MAX) {
            return Err(FrameError::Size(source.0, source.1));
        }
        let expected = source.0 as usize * source.1 as usize * 3;
        if frame.rgb.len() != expected {
            return Err(FrameError::Bytes { bytes: frame.rgb.len(), expected });
        }
        assert_eq!(picture.len(), target.0 as usize * target.1 as usize * 3, "the picture is the model's input");
        let letterbox = Letterbox::fit(source, target);
        if source == target {
            picture.copy_from_slice(&frame.rgb);
            return Ok(letterbox);
        }
        fill_margin(picture, &letterbox, margin);
        self.scale(frame, place(picture, &letterbox), letterbox.inner);
        Ok(letterbox)
    }

    /// Scales a frame into rows of pixels. As long as it is at least twice as large it is halved, which costs a quarter of
    /// what scaling by any number does.
    fn scale<'a>(&mut self, frame: &Frame, rows: impl Iterator<Item = &'a mut [u8]>, inner: (u32, u32)) {
        let sides = |(width, height): (u32, u32)| (width as usize, height as usize);
        let (mut size, inner) = (sides((frame.width, frame.height)), sides(inner));
        let Preprocessor { halver, scaler, halves: [halved, next] } = self;
        let mut is_halved = false;
        while Halver::can(size) && size.0 >= 2 * inner.0 && size.1 >= 2 * inner.1 {
            let source = if is_halved { &*halved } else { &frame.rgb };
            let half = (size.0 / 2, size.1 / 2);
            if half == inner {
                return halver.halve(source, size, rows);
            }
            next.resize(half.0 * half.1 * 3, 0);
            halver.halve(source, size, next.chunks_exact_mut(half.0 * 3));
            std::mem::swap(halved, next);
            (size, is_halved) = (half, true);
        }
        scaler.scale(if is_halved { halved } else { &frame.rgb }, size, rows, inner);
    }
}

/// The rows of the scaled frame's place in the picture.
fn place<'a>(picture: &'a mut [u8], letterbox: &Letterbox) -> impl Iterator<Item = &'a mut [u8]> {
    let (left, top) = (letterbox.offset.0 as usize * 3, letterbox.offset.1 as usize);
    let (width, height) = (letterbox.inner.0 as usize * 3, letterbox.inner.1 as usize);
    let rows = picture.chunks_exact_mut(letterbox.target.0 as usize * 3).skip(top).take(height);
    rows.map(move |row| &mut row[left..left + width])
}

/// Fills what lies around the scaled frame.
fn fill_margin(picture: &mut [u8], letterbox: &Letterbox, margin: u8) {
    let row = letterbox.target.0 as usize * 3;
    let (left, top) = (letterbox.offset.0 as usize * 3, letterbox.offset.1 as usize);
    let (right, bottom) = (left + letterbox.inner.0 as usize * 3, top + letterbox.inner.1 as usize);
    picture[..top * row].fill(margin);
    picture[bottom * row..].fill(margin);
    if letterbox.inner.0 < letterbox.target.0 {
        for row in picture[top * row..bottom * row].chunks_exact_mut(row) {
            row[..left].fill(margin);
            row[right..].fill(margin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(width: u32, height: u32, value: u8) -> Frame {
        Frame { taken_ms: 0, width, height, rgb: vec![value; width as usize * height as usize * 3] }
    }

    #[test]
    fn a_frame_is_fitted_centred() {
        for (source, target, inner, offset) in [
            ((768, 576), (384, 288), (384, 288), (0, 0)),
            ((1280, 720), (384, 288), (384, 216), (0, 36)),
            ((300, 400), (384, 288), (216, 288), (84, 0)),
            ((10, 10), (384, 288), (288, 288), (48, 0)),
            ((1, 1), (384, 288), (288, 288), (48, 0)),
            ((8192, 1), (384, 288), (384, 1), (0, 143)),
            ((1, 8192), (384, 288), (1, 288), (191, 0)),
            ((8192, 8192), (384, 288), (288, 288), (48, 0)),
        ] {
            assert_eq!(Letterbox::fit(source, target), Letterbox { source, target, inner, offset });
        }
    }

    #[test]
    fn the_frame_fills_its_place_and_the_rest_is_margin() {
        let mut preprocessor = Preprocessor::default();
        // What the last frame left behind must not show.
        let mut picture = vec![9; 384 * 288 * 3];
        for (width, height) in
            [(768, 576), (1280, 720), (300, 400), (1, 1), (8192, 1), (1, 8192), (8192, 8192), (384, 216)]
        {
            let margin = (width % 256) as u8;
            let lies = preprocessor.letterbox(&frame(width, height, 200), (384, 288), margin, &mut picture).unwrap();
            for (at, pixel) in picture.chunks_exact(3).enumerate() {
                let (x, y) = (at as u32 % 384, at as u32 / 384);
                let within = |at: u32, from: u32, length: u32| at >= from && at < from + length;
                let inside = within(x, lies.offset.0, lies.inner.0) && within(y, lies.offset.1, lies.inner.1);
                assert_eq!(pixel, [if inside { 200 } else { margin }; 3], "{width} x {height} at {x}, {y}");
            }
        }
    }

    #[test]
    fn a_frame_of_the_right_size_is_taken_as_it_is() {
        let mut same = frame(384, 288, 0);
        same.rgb.iter_mut().enumerate().for_each(|(at, value)| *value = (at * 7) as u8);
        let mut picture = vec![9; 384 * 288 * 3];
        Preprocessor::default().letterbox(&same, (384, 288), 0, &mut picture).unwrap();
        assert_eq!(picture, same.rgb);
    }

    #[test]
    fn a_frame_without_pixels_with_too_many_or_with_the_wrong_bytes_is_refused() {
        let mut short = frame(4, 4, 0);
        short.rgb.pop();
        for (frame, expect) in [
            (frame(0, 10, 0), FrameError::Size(0, 10)),
            (frame(10, 0, 0), FrameError::Size(10, 0)),
            (frame(FRAME_SIDE_MAX + 1, 1, 0), FrameError::Size(8193, 1)),
            (Frame { width: u32::MAX, height: u32::MAX, ..frame(1, 1, 0) }, FrameError::Size(u32::MAX, u32::MAX)),
            (short, FrameError::Bytes { bytes: 47, expected: 48 }),
        ] {
            let refused = Preprocessor::default().letterbox(&frame, (384, 288), 0, &mut vec![0; 384 * 288 * 3]);
            assert_eq!(refused, Err(expect));
        }
    }

    proptest! {
        #[test]
        fn the_way_back_undoes_the_way_there(
            width in 1u32..8193, height in 1u32..8193, x in 0.0f32..1.0, y in 0.0f32..1.0
        ) {
            let lies = Letterbox::fit((width, height), (384, 288));
            let (x, y) = (x * width as f32, y * height as f32);
            let there = |at: f32, source: u32, inner: u32, offset: u32, target: u32| {
                (at * inner as f32 / source as f32 + offset as f32) / target as f32
            };
            let u = there(x, width, lies.inner.0, lies.offset.0, 384);
            let v = there(y, height, lies.inner.1, lies.offset.1, 288);
            let back = lies.to_source([u, v, u, v]);
            // The frame's own resolution: a float has 24 bits, the farthest offset counts for a few of them.
            let near = |a: f32, b: f32, source: u32, inner: u32| (a - b).abs() <= 1e-3 + 1e-3 * source as f32 / inner as f32;
            prop_assert!(near(back.x1, x, width, lies.inner.0), "{} {}", back.x1, x);
            prop_assert!(near(back.y1, y, height, lies.inner.1), "{} {}", back.y1, y);
        }
    }
}
