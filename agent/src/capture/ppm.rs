//! Reads a stream of binary PPM pictures (Netpbm's P6, 8 bits a channel) into frames.
//!
//! The format says its own size before each picture, so no probing is needed and the resolution may change on the way;
//! ffmpeg's `ppm` and GStreamer's `pnmenc` both write it: <https://netpbm.sourceforge.net/doc/ppm.html>. Nothing here waits,
//! retries or knows what feeds it.

use std::io::{self, BufRead, BufReader, Read};

use crate::frame::Frame;

/// Longest side of a picture.
pub const SIDE_PX_MAX: u32 = 8192;
/// Largest picture: 5.5K video. Three such buffers are all that a small device can spare.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest header with its comments; GStreamer's is 45 bytes.
const HEADER_BYTES_MAX: usize = 1024;
/// Read at once. Pixels go through this buffer although that copies them once more: read straight into the frame they came
/// to lie 1 byte further in a page than in the pipe's (768x576: a buffer's 16 less a header's 15), and where that is 1 to
/// 15 bytes, `rep movsb`, with which the kernel copies, took twelve times as long on the Zen 4 where it was measured. What
/// this buffer holds is still in the cache. As large as the decoder's pipe.
const READ_BYTES: usize = 256 * 1024;
/// Bytes shown of what was found in the place of a header.
const SEEN_BYTES_MAX: usize = 32;

/// Why a stream is not, or no longer, a stream of pictures.
#[derive(Debug, thiserror::Error)]
pub enum PpmError {
    /// Something else came where a header should be.
    #[error("not a binary PPM picture (P6): \"{0}\"")]
    Garbage(String),
    /// A PPM, of a kind that nobody asked for.
    #[error("a PPM picture with {0} as its largest value, where 255 is needed")]
    Depth(u32),
    /// Larger than any frame may be, or of no size at all.
    #[error(
        "a picture of {width}x{height}, where 1 to {SIDE_PX_MAX} pixels a side and {FRAME_BYTES_MAX} bytes are allowed"
    )]
    Size {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// The stream ended inside a header.
    #[error("cut off inside a picture's header")]
    CutHeader,
    /// The stream ended inside the pixels.
    #[error("cut off after {bytes} of a picture's {bytes_expected} bytes")]
    CutPixels {
        /// Bytes that came.
        bytes: usize,
        /// Bytes that the header promised.
        bytes_expected: usize,
    },
    /// The stream could not be read.
    #[error("the stream cannot be read ({0})")]
    Io(#[from] io::Error),
}

/// The pictures of a stream, one after the other.
pub struct Pictures<R> {
    input: BufReader<R>,
}

impl<R: Read> Pictures<R> {
    /// Pictures from this stream.
    pub fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(READ_BYTES, input) }
    }

    /// The stream that is read.
    pub fn input_mut(&mut self) -> &mut R {
        self.input.get_mut()
    }

    /// The stream, with what was read ahead thrown away.
    pub fn into_input(self) -> R {
        self.input.into_inner()
    }

    /// Reads the next picture into a frame, whose buffer is used again; its time is left alone. False at the end of the
    /// stream. After an error the stream is useless and the frame holds no picture.
    pub fn read_into(&mut self, frame: &mut Frame) -> Result<bool, PpmError> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(false);
        }
        let mut header = Header { input: &mut self.input, seen: [0; SEEN_BYTES_MAX], bytes: 0 };
        header.magic()?;
        let (width, height) = (header.number()?, header.number()?);
        let depth = header.number()?;
        if depth != 255 {
            return Err(PpmError::Depth(depth));
        }
        let bytes = frame_bytes(width, height).ok_or(PpmError::Size { width, height })?;
        (frame.width, frame.height) = (width, height);
        frame.rgb.resize(bytes, 0);
        self.pixels(&mut frame.rgb)?;
        Ok(true)
    }

    fn pixels(&mut self, pixels: &mut [u8]) -> Result<(), PpmError> {
        let mut filled = 0;
        while filled < pixels.len() {
            let read = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            let bytes = read.len().min(pixels.len() - filled);
            if bytes == 0 {
                return Err(PpmError::CutPixels { bytes: filled, bytes_expected: pixels.len() });
            }
            pixels[filled..filled + bytes].copy_from_slice(&read[..bytes]);
            self.input.consume(bytes);
            filled += bytes;
        }
        Ok(())
    }
}

/// Bytes of a picture; `None` where it is empty or too large.
pub(super) fn frame_bytes(width: u32, height: u32) -> Option<usize> {
    let sides = 1..=SIDE_PX_MAX;
    let bytes = width as usize * height as usize * 3;
    (sides.contains(&width) && sides.contains(&height) && bytes <= FRAME_BYTES_MAX).then_some(bytes)
}

struct Header<'a, R> {
    input: &'a mut BufReader<R>,
    seen: [u8; SEEN_BYTES_MAX],
    bytes: usize,
}

impl<R: Read> Header<'_, R> {
    fn magic(&mut self) -> Result<(), PpmError> {
        if self.byte()? != b'P' || self.byte()? != b'6' {
            return Err(self.garbage());
        }
        Ok(())
    }

    /// The number that stands next, after white space and comments; the one white space behind it is taken too.
    fn number(&mut self) -> Result<u32, PpmError> {
        let mut number = None;
        loop {
            let byte = match self.byte()? {
                b'#' => self.comment()?,
                byte => byte,
            };
            match (byte, number) {
                (b'0'..=b'9', _) => {
                    // Saturated numbers are far beyond every limit, so they are refused as too large.
                    let before: u32 = number.unwrap_or(0);
                    number = Some(before.saturating_mul(10).saturating_add(u32::from(byte - b'0')));
                }
                (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, Some(number)) => return Ok(number),
                (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, None) => {}
                _ => return Err(self.garbage()),
            }
        }
    }

    /// Passes over a comment and gives the line end, which counts as white space.
    fn comment(&mut self) -> Result<u8, PpmError> {
        loop {
            let byte = self.byte()?;
            if matches!(byte, b'\n' | b'\r') {
                return Ok(byte);
            }
        }
    }

    fn byte(&mut self) -> Result<u8, PpmError> {
        if self.bytes == HEADER_BYTES_MAX {
            return Err(self.garbage());
        }
        let byte = *self.input.fill_buf()?.first().ok_or(PpmError::CutHeader)?;
        self.input.consume(1);
        if let Some(place) = self.seen.get_mut(self.bytes) {
            *place = byte;
        }
        self.bytes += 1;
        Ok(byte)
    }

    /// What was seen, with what lies behind it as far as it is already here.
    fn garbage(&mut self) -> PpmError {
        let known = self.bytes.min(SEEN_BYTES_MAX);
        let ahead = &self.input.buffer()[..self.input.buffer().len().min(SEEN_BYTES_MAX - known)];
        let seen = [&self.seen[..known], ahead].concat();
        let text = seen.escape_ascii().to_string();
        // A URL is cut here, since half of one could not be recognised as holding a password.
        PpmError::Garbage(text.split("://").next().unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn empty() -> Frame {
        Frame { taken_ms: 0, width: 0, height: 0, rgb: Vec::new() }
    }

    /// Gives its bytes in pieces of these sizes, over and over.
    struct Pieces<'a> {
        bytes: &'a [u8],
        sizes: &'a [usize],
        turn: usize,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = self.sizes[self.turn % self.sizes.len()].min(self.bytes.len()).min(buffer.len());
            self.turn += 1;
            let (piece, rest) = self.bytes.split_at(size);
            buffer[..size].copy_from_slice(piece);
            self.bytes = rest;
            Ok(size)
        }
    }

    fn read_all(bytes: &[u8], sizes: &[usize]) -> (Vec<Frame>, Option<PpmError>) {
        let mut pictures = Pictures::new(Pieces { bytes, sizes, turn: 0 });
        let (mut frames, mut frame) = (Vec::new(), empty());
        loop {
            match pictures.read_into(&mut frame) {
                Ok(true) => frames.push(frame.clone()),
                Ok(false) => return (frames, None),
                Err(error) => return (frames, Some(error)),
            }
        }
    }

    #[test]
    fn headers_of_all_writers_are_read_and_the_resolution_may_change() {
        let stream = b"P6\n2 1\n255\nabcdef\
            P6\n# Created by GStreamer\n1 2\n255\nghijkl\
            P6 1\t1#width\r\n255 \n\n\n";
        let (frames, error) = read_all(stream, &[7]);
        assert!(error.is_none(), "{error:?}");
        let seen: Vec<_> = frames.iter().map(|f| (f.width, f.height, f.rgb.as_slice())).collect();
        assert_eq!(seen, [(2, 1, &b"abcdef"[..]), (1, 2, b"ghijkl"), (1, 1, b"\n\n\n")]);
    }

    #[test]
    fn what_is_not_a_picture_is_refused_with_what_was_seen() {
        let long_comment = [b"P6\n#".as_slice(), &[b'x'; 2000]].concat();
        for (bytes, expect) in [
            (b"Setting pipeline to PAUSED ...\n".as_slice(), "Setting pipeline to PAUSED"),
            (b"P5\n1 1\n255\nx", "P5\\n1 1"),
            (b"P6\n-1 1\n255\n", "P6\\n-1 1"),
            (b"P6\n1 1\n65535\nxxxxxx", "65535"),
            (b"P6\n0 1\n255\n", "0x1"),
            (b"P6\n8193 1\n255\n", "8193x1"),
            (b"P6\n8192 8192\n255\n", "8192x8192"),
            (b"P6\n99999999999999999999 1\n255\n", "4294967295x1"),
            (b"P6\n1 1\n25", "inside a picture's header"),
            (b"P6\n2 2\n255\nabc", "after 3 of a picture's 12 bytes"),
            (&long_comment, "P6\\n#xxxx"),
        ] {
            let (frames, error) = read_all(bytes, &[64]);
            assert!(frames.is_empty());
            let sentence = error.unwrap().to_string();
            assert!(sentence.contains(expect), "{sentence:?} should say {expect:?}");
        }
        let (_, error) = read_all(b"error: rtsp://user:secret@host", &[64]);
        assert_eq!(error.unwrap().to_string(), "not a binary PPM picture (P6): \"error: rtsp\"");
    }

    #[test]
    fn a_buffer_of_the_same_size_is_used_again() {
        let stream = b"P6\n2 1\n255\nabcdefP6\n2 1\n255\nghijkl";
        let mut pictures = Pictures::new(&stream[..]);
        let mut frame = empty();
        assert!(pictures.read_into(&mut frame).unwrap());
        let place = frame.rgb.as_ptr();
        assert!(pictures.read_into(&mut frame).unwrap());
        assert_eq!((frame.rgb.as_ptr(), frame.rgb.as_slice()), (place, &b"ghijkl"[..]));
    }

    fn frames() -> impl Strategy<Value = Vec<(u32, u32, u8)>> {
        proptest::collection::vec((1u32..60, 1u32..60, any::<u8>()), 0..5)
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_frames(
            shapes in frames(),
            sizes in proptest::collection::vec(1usize..6000, 1..8),
            comment in "(#[ -~]{0,20}\n)?",
        ) {
            let mut stream = Vec::new();
            let mut expect = Vec::new();
            for (width, height, first) in shapes {
                let rgb: Vec<u8> = (0..width * height * 3).map(|i| first.wrapping_add(i as u8)).collect();
                stream.extend_from_slice(format!("P6\n{comment}{width} {height}\n255\n").as_bytes());
                stream.extend_from_slice(&rgb);
                expect.push(Frame { taken_ms: 0, width, height, rgb });
            }
            let (got, error) = read_all(&stream, &sizes);
            prop_assert!(error.is_none(), "{:?}", error);
            prop_assert_eq!(got, expect);
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(
            header in "(P6)?[ \n0-9#]{0,12}",
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let (_, _) = read_all(&[header.as_bytes(), &bytes].concat(), &[5]);
        }
    }
}
