//! Pixels as cameras give them, made into RGB: YUYV, NV12, grey and JPEG.
//!
//! Pure and without state. Colours follow ITU-R BT.601 in the limited range (16 to 235), which UVC cameras and Video4Linux
//! mean by YUV unless they say otherwise. A buffer that is too short for its picture is refused, never read beyond its end.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::ppm::{FRAME_BYTES_MAX, SIDE_PX_MAX, frame_bytes};
use crate::frame::Frame;

/// How pixels lie in a camera's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Planes: brightness, then one pair of colours for each 2x2 pixels.
    Nv12,
    /// Two pixels in four bytes that share their colour.
    Yuyv,
    /// A JPEG picture, which says its own size.
    Mjpeg,
    /// Brightness alone.
    Grey,
}

impl Layout {
    /// Its name, as Video4Linux writes it.
    pub(super) fn fourcc(self) -> &'static str {
        match self {
            Layout::Nv12 => "NV12",
            Layout::Yuyv => "YUYV",
            Layout::Mjpeg => "MJPG",
            Layout::Grey => "GREY",
        }
    }

    /// All of them, the cheapest first that has colours; grey tells people apart worst.
    pub(super) const ALL: [Layout; 4] = [Layout::Nv12, Layout::Yuyv, Layout::Mjpeg, Layout::Grey];
}

/// What a camera's buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) layout: Layout,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Bytes from one row to the next; 0 where rows follow each other without a gap.
    pub(super) stride: u32,
}

/// Why a buffer is no picture.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PixelError {
    #[error(
        "a picture of {width}x{height}, where 1 to {SIDE_PX_MAX} pixels a side and {FRAME_BYTES_MAX} bytes are allowed; \
         choose a smaller size"
    )]
    Size { width: u32, height: u32 },
    #[error("a picture cut off after {bytes} of {bytes_expected} bytes")]
    Short { bytes: usize, bytes_expected: usize },
    #[error("a JPEG picture cut off after {0} bytes")]
    CutJpeg(usize),
    #[error("a damaged JPEG picture ({0})")]
    Jpeg(String),
    #[error("a picture of {width}x{height}, in which the crop {crop:?} does not lie; correct it")]
    Crop { width: u32, height: u32, crop: [u32; 4] },
}

/// Writes the picture into a frame, whose buffer is used again; its time is left alone.
pub(super) fn to_rgb(shape: &Shape, bytes: &[u8], frame: &mut Frame) -> Result<(), PixelError> {
    let Shape { layout, width, height, stride } = *shape;
    if layout == Layout::Mjpeg {
        return jpeg_to_rgb(bytes, frame);
    }
    reserve(width, height, frame)?;
    let (w, h) = (width as usize, height as usize);
    let row_bytes = if layout == Layout::Yuyv { w.div_ceil(2) * 4 } else { w };
    let stride = if stride == 0 { row_bytes } else { stride as usize };
    // Colours of NV12 have half the rows, and each row has the pairs of an even width.
    let colour_bytes = w.div_ceil(2) * 2;
    let bytes_expected = match layout {
        Layout::Nv12 => stride * h + stride * (h.div_ceil(2) - 1) + colour_bytes,
        _ => stride * (h - 1) + row_bytes,
    };
    if stride < row_bytes || bytes.len() < bytes_expected {
        return Err(PixelError::Short { bytes: bytes.len(), bytes_expected });
    }
    for (y, rgb) in frame.rgb.chunks_exact_mut(w * 3).enumerate() {
        let row = &bytes[y * stride..][..row_bytes];
        match layout {
            Layout::Yuyv => yuyv_row(row, rgb),
            Layout::Nv12 => nv12_row(row, &bytes[stride * (h + y / 2)..][..colour_bytes], rgb),
            _ => rgb.chunks_exact_mut(3).zip(row).for_each(|(pixel, &grey)| pixel.fill(grey)),
        }
    }
    Ok(())
}

fn yuyv_row(row: &[u8], rgb: &mut [u8]) {
    let mut block = Block::default();
    for (rgb, fours) in rgb.chunks_mut(3 * BLOCK).zip(row.chunks(2 * BLOCK)) {
        for (pair, four) in fours.chunks_exact(4).enumerate() {
            [block.y[2 * pair], block.u[pair], block.y[2 * pair + 1], block.v[pair]] =
                [four[0], four[1], four[2], four[3]];
        }
        block.write(rgb);
    }
}

fn nv12_row(row: &[u8], colours: &[u8], rgb: &mut [u8]) {
    let mut block = Block::default();
    let blocks = rgb.chunks_mut(3 * BLOCK).zip(row.chunks(BLOCK)).zip(colours.chunks(BLOCK));
    for ((rgb, light), colours) in blocks {
        block.y[..light.len()].copy_from_slice(light);
        for (pair, colour) in colours.chunks_exact(2).enumerate() {
            (block.u[pair], block.v[pair]) = (colour[0], colour[1]);
        }
        block.write(rgb);
    }
}

/// Pixels that are converted together: as many as let the compiler do it with the processor's vectors.
const BLOCK: usize = 32;

/// Some pixels of a row; two neighbours share a colour.
#[derive(Default)]
struct Block {
    y: [u8; BLOCK],
    u: [u8; BLOCK / 2],
    v: [u8; BLOCK / 2],
}

impl Block {
    /// Writes as many pixels as there is room for. BT.601's factors in 1/64, whose rounding is at most one level off; no
    /// product or sum but the last reaches beyond 16 bits, and that one saturates.
    fn write(&self, rgb: &mut [u8]) {
        let (mut red, mut green, mut blue) = ([0; BLOCK], [0; BLOCK], [0; BLOCK]);
        for pair in 0..BLOCK / 2 {
            let (u, v) = (i16::from(self.u[pair]).wrapping_sub(128), i16::from(self.v[pair]).wrapping_sub(128));
            let to_red = 102i16.wrapping_mul(v);
            let to_green = (-25i16).wrapping_mul(u).wrapping_sub(52i16.wrapping_mul(v));
            let to_blue = 129i16.wrapping_mul(u);
            for at in [2 * pair, 2 * pair + 1] {
                // 74.5 times the light above black, and a half to round.
                let y = i16::from(self.y[at]);
                let light = 74i16.wrapping_mul(y.wrapping_sub(16)).wrapping_add(y >> 1).wrapping_add(24);
                let level = |colour: i16| (light.saturating_add(colour) >> 6).clamp(0, 255) as u8;
                (red[at], green[at], blue[at]) = (level(to_red), level(to_green), level(to_blue));
            }
        }
        for (at, pixel) in rgb.chunks_exact_mut(3).enumerate().take(BLOCK) {
            pixel.copy_from_slice(&[red[at], green[at], blue[at]]);
        }
    }
}

fn jpeg_to_rgb(bytes: &[u8], frame: &mut Frame) -> Result<(), PixelError> {
    let damaged = |error: &dyn std::fmt::Debug| PixelError::Jpeg(plainly(&format!("{error:?}")));
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_max_width(SIDE_PX_MAX as usize)
        .set_max_height(SIDE_PX_MAX as usize);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| damaged(&error))?;
    let (width, height) = decoder.info().map_or((0, 0), |info| (info.width.into(), info.height.into()));
    reserve(width, height, frame)?;
    decoder.decode_into(&mut frame.rgb).map_err(|error| damaged(&error))
}

/// Whether a JPEG is there to its end marker. What a camera pads it with behind that does not count.
pub(super) fn check_jpeg_end(bytes: &[u8]) -> Result<(), PixelError> {
    let padding = bytes.iter().rev().take_while(|&&byte| byte == 0).count();
    if bytes[..bytes.len() - padding].ends_with(&[0xff, 0xd9]) { Ok(()) } else { Err(PixelError::CutJpeg(bytes.len())) }
}

/// Cuts a part out of a picture, in place: left, top, width, height.
pub(super) fn crop(frame: &mut Frame, part: [u32; 4]) -> Result<(), PixelError> {
    let [x, y, width, height] = part;
    let within = |from: u32, size: u32, whole: u32| from.checked_add(size).is_some_and(|end| end <= whole);
    if !within(x, width, frame.width) || !within(y, height, frame.height) {
        return Err(PixelError::Crop { width: frame.width, height: frame.height, crop: part });
    }
    let (row_bytes, stride) = (width as usize * 3, frame.width as usize * 3);
    for row in 0..height as usize {
        let from = (y as usize + row) * stride + x as usize * 3;
        frame.rgb.copy_within(from..from + row_bytes, row * row_bytes);
    }
    frame.rgb.truncate(height as usize * row_bytes);
    (frame.width, frame.height) = (width, height);
    Ok(())
}

fn reserve(width: u32, height: u32, frame: &mut Frame) -> Result<(), PixelError> {
    let bytes = frame_bytes(width, height).ok_or(PixelError::Size { width, height })?;
    (frame.width, frame.height) = (width, height);
    frame.rgb.resize(bytes, 0);
    Ok(())
}

/// The library's words on one line, without the quotes and braces of its own types.
fn plainly(error: &str) -> String {
    error.chars().map(|c| if c.is_control() || "\"{}".contains(c) { ' ' } else { c }).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use proptest::prelude::*;

    fn empty() -> Frame {
        Frame { taken_ms: 0, width: 0, height: 0, rgb: Vec::new() }
    }

    fn shape(layout: Layout, width: u32, height: u32) -> Shape {
        Shape { layout, width, height, stride: 0 }
    }

    fn rgb(shape: &Shape, bytes: &[u8]) -> Vec<u8> {
        let mut frame = empty();
        to_rgb(shape, bytes, &mut frame).unwrap();
        assert!(frame.is_whole());
        frame.rgb
    }

    fn jpeg(width: u32, height: u32, pixel: [u8; 3]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let pixels: Vec<u8> = (0..width * height).flat_map(|_| pixel).collect();
        JpegEncoder::new_with_quality(&mut bytes, 95)
            .encode(&pixels, width, height, image::ExtendedColorType::Rgb8)
            .unwrap();
        bytes
    }

    #[test]
    fn the_primary_colours_come_out_in_every_layout() {
        // Y, U, V of BT.601's limited range, and the RGB that they mean.
        for (yuv, expect) in [
            ([16, 128, 128], [0, 0, 0]),
            ([235, 128, 128], [255, 255, 255]),
            ([81, 90, 240], [255, 0, 0]),
            ([145, 54, 34], [0, 255, 0]),
            ([41, 240, 110], [0, 0, 255]),
            ([0, 128, 128], [0, 0, 0]),
            ([255, 128, 128], [255, 255, 255]),
        ] {
            let [y, u, v] = yuv;
            for (layout, bytes) in [(Layout::Yuyv, vec![y, u, y, v]), (Layout::Nv12, vec![y, y, u, v])] {
                let got = rgb(&shape(layout, 2, 1), &bytes);
                let near = got.iter().zip(expect.iter().cycle()).all(|(a, b)| a.abs_diff(*b) <= 1);
                assert!(near, "{layout:?} {yuv:?} gave {got:?}");
            }
        }
        assert_eq!(rgb(&shape(Layout::Grey, 2, 1), &[7, 200]), [7, 7, 7, 200, 200, 200]);
        let got = rgb(&shape(Layout::Mjpeg, 0, 0), &jpeg(16, 8, [200, 40, 40]));
        assert_eq!(got.len(), 16 * 8 * 3);
        assert!(got.chunks(3).all(|p| p[0].abs_diff(200) < 6 && p[1].abs_diff(40) < 6), "{:?}", &got[..3]);
    }

    #[test]
    fn rows_with_padding_and_odd_sides_are_read() {
        let padded = Shape { stride: 6, ..shape(Layout::Grey, 2, 2) };
        assert_eq!(rgb(&padded, &[1, 2, 9, 9, 9, 9, 3, 4]), [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
        let (white, grey) = (235, 128);
        let yuyv = rgb(&shape(Layout::Yuyv, 3, 1), &[16, grey, 16, grey, white, grey, 0, grey]);
        assert_eq!(yuyv, [0, 0, 0, 0, 0, 0, 255, 255, 255]);
        let nv12 = rgb(&shape(Layout::Nv12, 1, 3), &[16, white, 16, grey, grey, grey, grey]);
        assert_eq!(nv12, [0, 0, 0, 255, 255, 255, 0, 0, 0][..9]);
    }

    #[test]
    fn what_is_no_picture_is_refused_and_says_why() {
        let whole = jpeg(64, 64, [9, 90, 200]);
        let cut = &whole[..whole.len() / 2];
        for (shape, bytes, expect) in [
            (shape(Layout::Yuyv, 4, 2), &[0u8; 15][..], "cut off after 15 of 16 bytes"),
            (shape(Layout::Nv12, 4, 2), &[0; 11], "cut off after 11 of 12 bytes"),
            (Shape { stride: 3, ..shape(Layout::Grey, 4, 1) }, &[0; 90], "cut off"),
            (shape(Layout::Grey, 0, 5), &[0; 9], "a picture of 0x5"),
            (shape(Layout::Grey, 7680, 4320), &[0; 9], "a picture of 7680x4320"),
            (shape(Layout::Mjpeg, 0, 0), &[], "damaged JPEG"),
            (shape(Layout::Mjpeg, 0, 0), b"no picture", "damaged JPEG"),
        ] {
            let error = to_rgb(&shape, bytes, &mut empty()).unwrap_err().to_string();
            assert!(error.contains(expect), "{shape:?}: {error}");
        }
        assert_eq!(check_jpeg_end(cut), Err(PixelError::CutJpeg(cut.len())));
        assert_eq!(check_jpeg_end(&[&whole[..], &[0; 500]].concat()), Ok(()));
        assert_eq!(check_jpeg_end(&[]), Err(PixelError::CutJpeg(0)));
    }

    #[test]
    fn a_crop_is_the_same_pixels_as_in_the_whole_picture() {
        let mut frame = Frame { taken_ms: 5, width: 4, height: 3, rgb: (0..36).collect() };
        crop(&mut frame, [1, 1, 2, 2]).unwrap();
        let expect = [15, 16, 17, 18, 19, 20, 27, 28, 29, 30, 31, 32];
        assert_eq!((frame.width, frame.height, frame.rgb.as_slice()), (2, 2, &expect[..]));
        for part in [[1, 0, 2, 1], [0, 2, 1, 1], [u32::MAX, 0, 2, 1]] {
            assert!(matches!(crop(&mut frame, part), Err(PixelError::Crop { .. })), "{part:?}");
        }
    }

    /// The processor's time of this thread, in milliseconds.
    fn busy_ms() -> f64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e6
    }

    #[test]
    #[ignore = "a measurement: run it alone, with --ignored --nocapture"]
    fn what_a_picture_of_1280x720_costs() {
        const RUNS: u32 = 300;
        let (width, height) = (1280u32, 720u32);
        let noisy: Vec<u8> = (0..width * height * 3).map(|i| (i % 251 / 3 + i / 1280 % 97) as u8).collect();
        let mut photo = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut photo, 85);
        image::ImageEncoder::write_image(encoder, &noisy, width, height, image::ExtendedColorType::Rgb8).unwrap();
        for (layout, bytes) in
            [(Layout::Nv12, &noisy), (Layout::Yuyv, &noisy), (Layout::Grey, &noisy), (Layout::Mjpeg, &photo)]
        {
            let mut frame = empty();
            to_rgb(&shape(layout, width, height), bytes, &mut frame).unwrap();
            let place = frame.rgb.as_ptr();
            let before = busy_ms();
            for _ in 0..RUNS {
                to_rgb(&shape(layout, width, height), std::hint::black_box(bytes), &mut frame).unwrap();
            }
            println!("{layout:?}: {:.2} ms of the processor a picture", (busy_ms() - before) / f64::from(RUNS));
            assert_eq!(frame.rgb.as_ptr(), place, "the buffer is used again");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(
            layout in 0usize..4,
            (width, height, stride) in (0u32..20, 0u32..20, 0u32..50),
            bytes in proptest::collection::vec(any::<u8>(), 0..1500),
        ) {
            let shape = Shape { stride, ..shape(Layout::ALL[layout], width, height) };
            let mut frame = empty();
            if to_rgb(&shape, &bytes, &mut frame).is_ok() {
                prop_assert!(frame.is_whole());
            }
        }

        #[test]
        fn a_jpeg_with_any_byte_changed_is_read_or_refused_without_a_panic(at in 0usize..600, to in any::<u8>()) {
            let mut bytes = jpeg(32, 16, [200, 40, 40]);
            let at = at % bytes.len();
            bytes[at] = to;
            let mut frame = empty();
            if to_rgb(&shape(Layout::Mjpeg, 0, 0), &bytes, &mut frame).is_ok() {
                prop_assert!(frame.is_whole());
            }
        }
    }
}
