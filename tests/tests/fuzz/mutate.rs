//! Makes hostile inputs out of good ones: flipped bits, lengths that lie, pieces moved, doubled, cut, and mixed.

use fastrand::Rng;

/// Longest input that a mutation makes.
const BYTES_MAX: usize = 80 * 1024;
/// Pieces that the readers of this project look for: heads of CBOR items of every kind and size, words and numbers of
/// the texts, tags of protocol buffers.
const WORDS: [&[u8]; 40] = [
    b"\x00",
    b"\x17",
    b"\x18\xff",
    b"\x1a\xff\xff\xff\xff",
    b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x1b\xff\xff\xff\xff\xff\xff\xff\xfe",
    b"\x1b\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x1b\x00\x00\x00\x00\x00\x00\x00\x01",
    b"\x20",
    b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x40",
    b"\x5f",
    b"\x5b\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\x60",
    b"\x7f",
    b"\x7b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x80",
    b"\x81",
    b"\x9f",
    b"\x9b\x00\x00\x00\x01\x00\x00\x00\x00",
    b"\xa0",
    b"\xa1",
    b"\xbf",
    b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xc0",
    b"\xd9\xd9\xf7",
    b"\xf6",
    b"\xf9\x7e\x00",
    b"\xfa\x7f\xc0\x00\x00",
    b"\xff",
    b"18446744073709551615",
    b"-1",
    b"1e999",
    b"null",
    b"\"\\u0000\"",
    b"[[",
    b"/",
    b"\xf0\x9f\x91\x81",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"P6\n8192 2731\n255\n",
];

/// A hostile relative of one of `pool`, or of two.
pub(super) fn mutate(rng: &mut Rng, pool: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = pool[rng.usize(..pool.len())].clone();
    // Mostly one change, so that what stands behind it is still reached.
    for _ in 0..1 + rng.usize(..6).saturating_sub(3) {
        change(rng, &mut bytes, pool);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>, pool: &[Vec<u8>]) {
    let at = rng.usize(..=bytes.len());
    let piece = at..(at + 1 + rng.usize(..16)).min(bytes.len());
    match rng.u8(..12) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
        2 if at < bytes.len() => bytes[at] = rng.u8(..),
        3 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(rng.u8(..4)).wrapping_sub(2),
        4 => bytes.truncate(at),
        5 if at < bytes.len() => drop(bytes.drain(piece)),
        6 if at < bytes.len() => {
            let again = bytes[piece].repeat(1 + rng.usize(..40));
            bytes.splice(at..at, again);
        }
        7 => drop(bytes.splice(at..at, WORDS[rng.usize(..WORDS.len())].iter().copied())),
        8 => {
            let word = WORDS[rng.usize(..WORDS.len())];
            bytes.splice(at..(at + word.len()).min(bytes.len()), word.iter().copied());
        }
        9 => {
            let other = &pool[rng.usize(..pool.len())];
            bytes.splice(at.., other[rng.usize(..=other.len())..].iter().copied());
        }
        10 => bytes.extend((0..1 + rng.usize(..16)).map(|_| rng.u8(..))),
        // Numbers in texts.
        _ => {
            let digits: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at].is_ascii_digit()).collect();
            if let Some(&at) = digits.get(rng.usize(..digits.len().max(1))) {
                let number = [&b"0"[..], b"9999999999", b"-7", b"1e308", b"0.5", b"nan"][rng.usize(..6)];
                bytes.splice(at..at + 1, number.iter().copied());
            }
        }
    }
}
