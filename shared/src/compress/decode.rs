//! Makes a file out of segments. No bytes make it panic, or make room for more than it was told to expect.

use std::io::Read;

use ruzstd::decoding::StreamingDecoder;

use super::{MAGIC, RUNS, SEGMENTS_MAX, SHARED_VALUES_MAX, flag, huffman, kind, scale};

/// Why bytes are no file; goes on after what they are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Another beginning.
    #[error("is no compressed model of this version")]
    NotOurs,
    /// More bytes are needed.
    #[error("is cut short")]
    CutShort,
    /// It would become longer, or shorter, than it says or than is allowed.
    #[error("has another length than it should have")]
    Length,
    /// It builds on a file that is not there, or on bytes that this has not.
    #[error("builds on a file that is not here")]
    Base,
    /// Numbers that nobody writes.
    #[error("is damaged")]
    Damaged,
}

/// The file that these bytes stand for, of at most `bytes_max` bytes. `base` is the file that differences build on.
pub fn decode(bytes: &[u8], base: Option<&[u8]>, bytes_max: usize) -> Result<Vec<u8>, DecodeError> {
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(DecodeError::NotOurs)?;
    let length = number(&mut rest)?;
    let (unpacked, packed, segments) = (number(&mut rest)?, number(&mut rest)?, number(&mut rest)?);
    if length > bytes_max {
        return Err(DecodeError::Length);
    }
    // Beside the file's own bytes there are a byte for each group, half a byte for each symbol, and the shared values.
    if segments > SEGMENTS_MAX || unpacked > bytes_max.saturating_mul(2).saturating_add(64 * 1024) {
        return Err(DecodeError::Damaged);
    }
    let packed = take(&mut rest, packed)?;
    let literals = unzstd(packed, unpacked)?;
    if literals.len() != unpacked {
        return Err(DecodeError::Damaged);
    }
    let mut file = File { literals: &literals, base, length, out: Vec::new() };
    for _ in 0..segments {
        file.segment(&mut rest)?;
    }
    match (file.out.len() == length, rest.is_empty() && file.literals.is_empty()) {
        (true, true) => Ok(file.out),
        (false, _) => Err(DecodeError::Length),
        (true, false) => Err(DecodeError::Damaged),
    }
}

/// A file that grows.
struct File<'a> {
    literals: &'a [u8],
    base: Option<&'a [u8]>,
    length: usize,
    out: Vec<u8>,
}

impl File<'_> {
    /// Whether so many bytes still belong to it.
    fn fits(&self, bytes: usize) -> Result<usize, DecodeError> {
        if bytes <= self.length - self.out.len() { Ok(bytes) } else { Err(DecodeError::Length) }
    }

    fn of_base(&self, from: usize, bytes: usize) -> Result<&[u8], DecodeError> {
        let end = from.checked_add(bytes).ok_or(DecodeError::Base)?;
        self.base.and_then(|base| base.get(from..end)).ok_or(DecodeError::Base)
    }

    fn segment(&mut self, rest: &mut &[u8]) -> Result<(), DecodeError> {
        match take(rest, 1)?[0] {
            kind::LITERAL => {
                let bytes = self.fits(number(rest)?)?;
                self.out.extend(take(&mut self.literals, bytes)?);
                Ok(())
            }
            kind::COPY => {
                let (from, bytes) = (number(rest)?, number(rest)?);
                let bytes = self.fits(bytes)?;
                let copied = self.of_base(from, bytes)?.to_vec();
                self.out.extend(copied);
                Ok(())
            }
            kind::WEIGHTS => self.weights(rest),
            _ => Err(DecodeError::Damaged),
        }
    }

    fn weights(&mut self, rest: &mut &[u8]) -> Result<(), DecodeError> {
        let flags = take(rest, 1)?[0];
        let is = |what: u8| flags & what != 0;
        if flags > flag::ALL {
            return Err(DecodeError::Damaged);
        }
        let (groups, each) = (number(rest)?, number(rest)?);
        let width = if is(flag::HALVES) { 2 } else { 4 };
        let count = groups.checked_mul(each).filter(|count| *count > 0).ok_or(DecodeError::Damaged)?;
        let bytes = self.fits(count.checked_mul(width).ok_or(DecodeError::Length)?)?;
        let from = if is(flag::DELTA) { Some(number(rest)?) } else { None };
        let values = number(rest)?;
        if values == 0 || values > SHARED_VALUES_MAX {
            return Err(DecodeError::Damaged);
        }
        let shared: Vec<f32> = if is(flag::LINEAR) {
            let first = u32::try_from(number(rest)?).map_err(|_| DecodeError::Damaged)?;
            let first = i64::from((first >> 1) as i32 ^ -((first & 1) as i32));
            (0..values as i64).map(|at| (first + at) as f32).collect()
        } else {
            take(&mut self.literals, values * 4)?.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        let zero = if is(flag::RUNS) { Some(number(rest)?) } else { None };
        let zero = zero.map(|zero| u16::try_from(zero).ok().filter(|zero| usize::from(*zero) < values));
        let zero = zero.map(|zero| zero.ok_or(DecodeError::Damaged)).transpose()?;
        let payload = number(rest)?;
        let scales: Vec<f32> = match is(flag::SCALED) {
            true => take(&mut self.literals, groups)?.iter().map(|byte| scale(*byte)).collect(),
            false => vec![1.0],
        };
        let alphabet = values + if zero.is_some() { RUNS } else { 0 };
        let nibbles = take(&mut self.literals, alphabet.div_ceil(2))?;
        let lengths: Vec<u8> = nibbles.iter().flat_map(|pair| [pair & 15, pair >> 4]).take(alphabet).collect();
        let mut reader = huffman::Reader::new(&lengths, take(rest, payload)?).ok_or(DecodeError::Damaged)?;
        let base = from.map(|from| self.of_base(from, bytes)).transpose()?.map(<[u8]>::to_vec);
        // How many more zeros a row of them has.
        let mut row = 0usize;
        for at in 0..count {
            let symbol = match (row.checked_sub(1), zero) {
                (Some(left), Some(zero)) => {
                    row = left;
                    zero
                }
                _ => {
                    let symbol = reader.next().ok_or(DecodeError::CutShort)?;
                    match (usize::from(symbol).checked_sub(values), zero) {
                        (Some(power), Some(zero)) => {
                            row = (2 << power) - 1;
                            zero
                        }
                        _ => symbol,
                    }
                }
            };
            let scale = if scales.len() == 1 { scales[0] } else { scales[at / each] };
            let mut weight = scale * shared[usize::from(symbol)];
            if let Some(base) = &base {
                weight += number_at(base, at, width);
            }
            match width {
                2 => self.out.extend(half::f16::from_f32(weight).to_le_bytes()),
                _ => self.out.extend(weight.to_le_bytes()),
            }
        }
        if row == 0 && reader.done() { Ok(()) } else { Err(DecodeError::Damaged) }
    }
}

/// A weight of the other file.
fn number_at(bytes: &[u8], at: usize, width: usize) -> f32 {
    let of = &bytes[at * width..][..width];
    match *of {
        [a, b] => half::f16::from_le_bytes([a, b]).to_f32(),
        [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
        _ => 0.0,
    }
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], DecodeError> {
    let (taken, behind) = rest.split_at_checked(bytes).ok_or(DecodeError::CutShort)?;
    *rest = behind;
    Ok(taken)
}

/// Seven bits a byte, the lowest first.
fn number(rest: &mut &[u8]) -> Result<usize, DecodeError> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(value).map_err(|_| DecodeError::Damaged);
        }
    }
    Err(DecodeError::Damaged)
}

/// What a Zstandard frame (RFC 8878) stands for, which should be of this length: one byte too many shows that it is not, and the
/// rest of a bomb is never unpacked.
pub fn unzstd(mut packed: &[u8], length: usize) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = Vec::new();
    let decoder = StreamingDecoder::new(&mut packed).map_err(|_| DecodeError::Damaged)?;
    decoder.take((length as u64).saturating_add(1)).read_to_end(&mut bytes).map_err(|_| DecodeError::Damaged)?;
    Ok(bytes)
}
