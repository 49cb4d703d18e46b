//! Files of weights in few bytes: what a thin link carries in place of a model.
//!
//! After Han, Mao and Dally, "Deep Compression" (2016): weights are pruned, those that are left share few values, and what
//! they share is coded by Huffman's method. A file is written as a row of segments: bytes as they are (together through
//! Zstandard), bytes of another file that the receiver has, and weights, alone or as differences from that file's weights.
//!
//! What is lost is lost before a file is written in this way: **the release is what [`decode`] gives**, bit for bit, and its
//! digest is taken from that. Each weight is one product and, as a difference, one sum of 32-bit floats, rounded to its own
//! width at the end: the same bits on every processor. [`decode`] knows nothing of models, takes bytes from anybody, and
//! makes room only for what it was told to expect. Pure.

mod decode;
mod encode;
mod huffman;

#[cfg(test)]
mod tests;

pub use decode::{DecodeError, decode, unzstd};
pub use encode::{Segment, Weights, encode};

/// What such a file begins with; the last is the version of the format.
const MAGIC: &[u8; 4] = b"PKC1";
/// Values that weights of one segment share, at most.
pub const SHARED_VALUES_MAX: usize = 4096;
/// Segments of a file.
const SEGMENTS_MAX: usize = 200_000;
/// Symbols for rows of zeros: the first stands for two of them, each next one for twice as many.
const RUNS: usize = 12;

/// Kinds of segments.
mod kind {
    pub(super) const LITERAL: u8 = 0;
    pub(super) const COPY: u8 = 1;
    pub(super) const WEIGHTS: u8 = 2;
}

/// What is said of weights.
mod flag {
    /// They have 16 bits, not 32.
    pub(super) const HALVES: u8 = 1;
    /// They are differences from the other file's.
    pub(super) const DELTA: u8 = 2;
    /// Each group has a scale.
    pub(super) const SCALED: u8 = 4;
    /// The shared values are whole numbers that follow each other.
    pub(super) const LINEAR: u8 = 8;
    /// One of them is zero, and rows of it have symbols of their own.
    pub(super) const RUNS: u8 = 16;
    pub(super) const ALL: u8 = 31;
}

/// The scale that a byte stands for: four in an octave, from 2^-40 on. It is the step of a grid, which need not be exact.
pub fn scale(byte: u8) -> f32 {
    f32::from_bits((((127 - 40) << 2) + u32::from(byte)) << 21)
}

/// The byte of the smallest scale that is not below `wanted`.
pub fn scale_byte(wanted: f32) -> u8 {
    (0..=u8::MAX).find(|byte| scale(*byte) >= wanted).unwrap_or(u8::MAX)
}
