//! What a packet capture would show: a port that passes everything on and keeps a copy, byte by byte, of each connection and each
//! way. And what in such bytes would be a picture, however it was packed.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use picket_tests::sample_video;

/// Bytes that are looked at together. Signatures and keys are as dense and far shorter; a part of a picture that was asked for is
/// longer.
const DENSE_BYTES: usize = 16 * 1024;
/// Of eight. What is encrypted or compressed has more than 7.9, and text, numbers and CBOR of ours stay below 6.5.
const DENSE_BITS: f64 = 7.5;
/// Five pixels and a bit: with so many equal to a frame's it is that frame.
const RUN_BYTES: usize = 16;
/// Values that a run must have to be like no other: a gray wall is like many things.
const RUN_VALUES_MIN: usize = 8;
const FRAMES: usize = 24;

/// The bytes that came one way.
type Stream = Arc<Mutex<Vec<u8>>>;

/// A port before another one, and all that went through it.
pub struct Capture {
    pub port: u16,
    streams: Arc<Mutex<Vec<Stream>>>,
}

impl Capture {
    pub fn before(upstream: u16) -> Capture {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let streams = Arc::<Mutex<Vec<Stream>>>::default();
        let all = Arc::clone(&streams);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", upstream)) else { continue };
                for stream in [&near, &far] {
                    stream.set_nodelay(true).unwrap();
                }
                for (mut from, mut to) in [(&near, &far), (&far, &near)].map(|(from, to)| (copy(from), copy(to))) {
                    let kept = Stream::default();
                    all.lock().unwrap().push(Arc::clone(&kept));
                    std::thread::spawn(move || {
                        let mut bytes = [0; 16 * 1024];
                        while let Ok(count @ 1..) = from.read(&mut bytes) {
                            kept.lock().unwrap().extend_from_slice(&bytes[..count]);
                            if to.write_all(&bytes[..count]).is_err() {
                                break;
                            }
                        }
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        Capture { port, streams }
    }

    /// Each connection's bytes, each way by itself, as far as they have come.
    pub fn streams(&self) -> Vec<Vec<u8>> {
        self.streams.lock().unwrap().iter().map(|kept| kept.lock().unwrap().clone()).collect()
    }
}

fn copy(stream: &TcpStream) -> TcpStream {
    stream.try_clone().unwrap()
}

/// Knows pictures, and those of the sample video in particular.
pub struct Eye {
    runs: HashSet<[u8; RUN_BYTES]>,
}

impl Eye {
    /// One that has seen frames from all of the sample video.
    pub fn new() -> Eye {
        let frames = frames();
        let aligned = frames.as_chunks::<RUN_BYTES>().0.iter();
        let runs = aligned.filter(|run| run.iter().collect::<HashSet<_>>().len() >= RUN_VALUES_MIN);
        Eye { runs: runs.copied().collect() }
    }

    /// What in these bytes is a picture or may hide one; nothing where all of them are something else.
    pub fn sees(&self, bytes: &[u8]) -> Option<&'static str> {
        let text = [&b"/9j/4AAQ"[..], b"/9j/2w", b"iVBORw0KGgo", b"data:image/", b"data:video/"];
        let raw = [&b"\x89PNG\r\n\x1a\n"[..], b"GIF87a", b"GIF89a", b"ftypisom", b"ftypmp4", b"WEBPVP8", b"AVI LIST"];
        let mut at = (0..bytes.len()).map(|at| &bytes[at..]);
        at.find_map(|rest| {
            let begins = |words: &[&[u8]]| words.iter().any(|word| rest.starts_with(word));
            match rest {
                _ if is_jpeg(rest) => Some("a JPEG picture"),
                _ if begins(&raw) => Some("a picture or a video in its file"),
                _ if begins(&text) => Some("a picture in base64"),
                _ if rest.first_chunk().is_some_and(|run| self.runs.contains(run)) => Some("pixels of a frame"),
                _ => None,
            }
        })
        .or_else(|| {
            let mut windows = bytes.windows(DENSE_BYTES).step_by(DENSE_BYTES / 4);
            windows.any(|window| bits(window) > DENSE_BITS).then_some("what is compressed or sealed")
        })
    }
}

/// Frames of the sample video, as they come to whatever would say them.
pub fn frames() -> Vec<u8> {
    let args = ["-vf", "select=not(mod(n\\,33))", "-fps_mode", "passthrough", "-frames:v", &FRAMES.to_string()];
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-loglevel", "error", "-i"]).arg(sample_video()).args(args);
    let output = ffmpeg.args(["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout.len(), FRAMES * 768 * 576 * 3);
    output.stdout
}

/// Begins as a JPEG file (ITU-T T.81, annex B): the start of an image, a segment, and behind it another marker.
fn is_jpeg(bytes: &[u8]) -> bool {
    let [0xff, 0xd8, 0xff, 0xc0..=0xfe, high, low, ..] = bytes else { return false };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    length >= 2 && matches!(bytes.get(4 + length..6 + length), Some([0xff, 0xc0..=0xfe]))
}

/// Bits of information in a byte, by how often each value comes.
fn bits(bytes: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let share = |count: &u32| f64::from(*count) / bytes.len() as f64;
    counts.iter().filter(|count| **count > 0).map(share).map(|share| -share * share.log2()).sum()
}
