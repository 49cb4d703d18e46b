//! Writes a file as a row of segments.

use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::huffman;
use super::{MAGIC, RUNS, SHARED_VALUES_MAX, flag, kind};

/// A part of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Segment<'a> {
    /// Bytes as they are.
    Literal(&'a [u8]),
    /// Bytes of the other file.
    Copy {
        /// Where they begin there.
        from: usize,
        /// How many they are.
        length: usize,
    },
    /// Weights.
    Weights(Weights),
}

/// Weights that share values: each is its group's scale times the value that its number stands for, and, as a difference,
/// the other file's weight in the same place on top.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights {
    /// Whether each has 16 bits in the file, not 32.
    pub halves: bool,
    /// Where the other file's weights begin, if these are differences.
    pub from: Option<usize>,
    /// Scales of groups of equally many weights, by [`super::scale`]; empty where there are none.
    pub scales: Vec<u8>,
    /// What the numbers stand for; empty where they stand for themselves.
    pub values: Vec<f32>,
    /// A number for each weight: an index into `values`, or a whole number.
    pub numbers: Vec<i32>,
}

/// The file in few bytes; `None` where weights have more values than may be shared, or groups of different sizes.
pub fn encode(segments: &[Segment]) -> Option<Vec<u8>> {
    let (mut rows, mut literals, mut length) = (Vec::new(), Vec::new(), 0usize);
    for segment in segments {
        match segment {
            Segment::Literal(bytes) => {
                rows.push(kind::LITERAL);
                number(&mut rows, bytes.len());
                literals.extend_from_slice(bytes);
                length += bytes.len();
            }
            Segment::Copy { from, length: bytes } => {
                rows.push(kind::COPY);
                number(&mut rows, *from);
                number(&mut rows, *bytes);
                length += bytes;
            }
            Segment::Weights(weights) => {
                weigh(weights, &mut rows, &mut literals)?;
                length += weights.numbers.len() * if weights.halves { 2 } else { 4 };
            }
        }
    }
    let packed = compress_to_vec(&literals[..], CompressionLevel::Fastest);
    let mut file = MAGIC.to_vec();
    for count in [length, literals.len(), packed.len(), segments.len()] {
        number(&mut file, count);
    }
    file.extend(packed);
    file.extend(rows);
    Some(file)
}

/// One segment of weights. What Zstandard makes smaller, scales and lengths of codes, goes to the literals.
fn weigh(weights: &Weights, rows: &mut Vec<u8>, literals: &mut Vec<u8>) -> Option<()> {
    let linear = weights.values.is_empty();
    let first = if linear { weights.numbers.iter().min().copied().unwrap_or(0) } else { 0 };
    let last = weights.numbers.iter().max().copied().unwrap_or(0);
    let values =
        if linear { usize::try_from(i64::from(last) - i64::from(first) + 1).ok()? } else { weights.values.len() };
    let groups = weights.scales.len().max(1);
    let numbers = weights.numbers.len();
    if values == 0 || values > SHARED_VALUES_MAX || numbers == 0 || !numbers.is_multiple_of(groups) {
        return None;
    }
    let symbols: Option<Vec<u16>> = weights.numbers.iter().map(|number| u16::try_from(number - first).ok()).collect();
    let symbols = symbols?;
    let zero = match linear {
        true => usize::try_from(-i64::from(first)).ok().filter(|zero| *zero < values),
        false => weights.values.iter().position(|value| *value == 0.0),
    };
    let plain = coded(&symbols, values);
    let in_runs = zero.map(|zero| coded(&runs(&symbols, zero as u16, values as u16), values + RUNS));
    let shorter = in_runs.filter(|(lengths, bits)| bits.len() + lengths.len() / 2 < plain.1.len() + plain.0.len() / 2);
    let zero = zero.filter(|_| shorter.is_some());
    let (lengths, bits) = shorter.unwrap_or(plain);
    let mut flags = 0;
    for (said, what) in [
        (weights.halves, flag::HALVES),
        (weights.from.is_some(), flag::DELTA),
        (!weights.scales.is_empty(), flag::SCALED),
        (linear, flag::LINEAR),
        (zero.is_some(), flag::RUNS),
    ] {
        flags |= if said { what } else { 0 };
    }
    rows.extend([kind::WEIGHTS, flags]);
    number(rows, groups);
    number(rows, numbers / groups);
    if let Some(from) = weights.from {
        number(rows, from);
    }
    number(rows, values);
    match linear {
        true => number(rows, ((first << 1) ^ (first >> 31)) as u32 as usize),
        false => literals.extend(weights.values.iter().flat_map(|value| value.to_le_bytes())),
    }
    if let Some(zero) = zero {
        number(rows, zero);
    }
    number(rows, bits.len());
    literals.extend(&weights.scales);
    literals.extend(lengths.chunks(2).map(|pair| pair[0] | pair.get(1).unwrap_or(&0) << 4));
    rows.extend(bits);
    Some(())
}

fn coded(symbols: &[u16], alphabet: usize) -> (Vec<u8>, Vec<u8>) {
    let mut counts = vec![0; alphabet];
    symbols.iter().for_each(|symbol| counts[usize::from(*symbol)] += 1);
    let lengths = huffman::lengths(&counts);
    let bits = huffman::written(symbols, &lengths);
    (lengths, bits)
}

/// The same with rows of zeros written as powers of two of them.
fn runs(symbols: &[u16], zero: u16, first: u16) -> Vec<u16> {
    let mut out = Vec::with_capacity(symbols.len());
    for row in symbols.chunk_by(|a, b| (*a == zero) == (*b == zero)) {
        let mut left = if row[0] == zero { row.len() } else { 0 };
        if left == 0 {
            out.extend_from_slice(row);
        }
        while left > 0 {
            let power = (left.ilog2() as usize).min(RUNS);
            out.push(if power == 0 { zero } else { first + power as u16 - 1 });
            left -= 1 << power;
        }
    }
    out
}

/// Seven bits a byte, the lowest first.
fn number(bytes: &mut Vec<u8>, mut value: usize) {
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
