//! Makes weights cheap to send, with as little loss as their effect allows: pruning and weight sharing of Han, Mao and Dally,
//! "Deep Compression" (2016), without training anew, and a grid for each output's weights, which loses less.
//!
//! What comes out is a release of its own: an ordinary ONNX file, and the same file in few bytes, alone or as a difference
//! from one that the receiver has. [`picket_shared::compress`] has the coder. Pure.

mod kmeans;

#[cfg(test)]
mod tests;

pub use kmeans::cluster;
use picket_shared::compress::{self, Segment, Weights, scale, scale_byte};

use crate::graph::tensors::{Place, Role, places};

/// Tensors of fewer weights stay as they are: their codes would cost more than they save.
const WEIGHTS_MIN: usize = 257;
/// Most steps from zero to an output's largest weight.
const STEPS_MAX: f32 = 2000.0;
/// How much of a step more than half one it takes to leave zero, or a number: what is nearer to zero costs fewer bits.
const DEAD: f32 = 0.1;
/// Weights for which a step of the grid is what was asked for; larger tensors stand more, smaller ones less.
const TYPICAL_WEIGHTS: f32 = 100_000.0;
/// How much coarser the grid of gates is, and how much finer that of depthwise weights.
const GATE: f32 = 2.0;
const DEPTHWISE: f32 = 0.13;

/// How weights get few values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Whole steps of a grid, for each output's weights one: so many times their root mean square, for tensors of typical size.
    Grid(f32),
    /// 255 steps for each output's weights.
    Int8,
    /// So many values for each tensor, by k-means.
    Clusters(usize),
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// How weights get few values.
    pub method: Method,
    /// The share of each tensor's weights, the smallest ones, that become zero: 0 to 1. Of differences, what stays as it was.
    pub prune: f32,
}

/// A release in few bytes.
#[derive(Debug)]
pub struct Compressed {
    /// The release: what decoding gives.
    pub file: Vec<u8>,
    /// What travels.
    pub packed: Vec<u8>,
    /// Weights that were given few values.
    pub weights: usize,
    /// How many of them, or of their differences, are zero.
    pub zeros: usize,
    /// Weights that the model stores in 16 bits.
    pub halves: usize,
    /// The weights' signal to what was lost of it, in decibels; infinite where nothing was.
    pub snr_db: f64,
}

/// Compresses a model. The error is the end of a sentence that begins with its name.
pub fn model(bytes: &[u8], base: Option<&[u8]>, settings: Settings) -> Result<Compressed, String> {
    let found = |bytes| places(bytes).ok_or("is no ONNX file that can be read; export it anew");
    let here = found(bytes)?;
    if let Some(base) = base
        && (base.len() != bytes.len() || found(base)? != here)
    {
        return Err("has other tensors than its base; compress it without one".into());
    }
    let large = |place: &Place| place.at.len() / if place.halves { 2 } else { 4 } >= WEIGHTS_MIN;
    pack(bytes, base, &here.into_iter().filter(large).collect::<Vec<_>>(), settings)
}

/// Compresses a head: 32-bit floats and nothing else.
pub fn head(bytes: &[u8], base: Option<&[u8]>, settings: Settings) -> Result<Compressed, String> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(4) || base.is_some_and(|base| base.len() != bytes.len()) {
        return Err("is no head of 32-bit numbers, or another one than its base".into());
    }
    let dims = vec![1, bytes.len() / 4];
    let all = Place { name: "head".into(), dims, halves: false, role: Role::Plain, at: 0..bytes.len() };
    pack(bytes, base, &[all], settings)
}

fn pack(bytes: &[u8], base: Option<&[u8]>, places: &[Place], settings: Settings) -> Result<Compressed, String> {
    let mut segments = Vec::new();
    let mut end = 0;
    let (mut weights, mut zeros) = (0, 0);
    let halves = places.iter().filter(|place| place.halves).map(|place| place.at.len() / 2).sum();
    for place in places {
        literal(bytes, base, end..place.at.start, &mut segments);
        end = place.at.end;
        let same = base.is_some_and(|base| base[place.at.clone()] == bytes[place.at.clone()]);
        if same {
            segments.push(Segment::Copy { from: place.at.start, length: place.at.len() });
            continue;
        }
        let mut numbers = floats(&bytes[place.at.clone()], place.halves);
        if !numbers.iter().all(|number| number.is_finite()) {
            return Err(format!("has a weight in {} that is no number", place.name));
        }
        if let Some(base) = base {
            let before = floats(&base[place.at.clone()], place.halves);
            numbers.iter_mut().zip(before).for_each(|(number, before)| *number -= before);
        }
        let shared = share(&numbers, place, settings);
        let zero = shared.values.iter().position(|value| *value == 0.0).map_or(0, |at| at as i32);
        let has_zero = shared.values.is_empty() || shared.values.contains(&0.0);
        zeros += shared.numbers.iter().filter(|number| has_zero && **number == zero).count();
        weights += numbers.len();
        segments.push(Segment::Weights(Weights { from: base.map(|_| place.at.start), ..shared }));
    }
    literal(bytes, base, end..bytes.len(), &mut segments);
    let packed = compress::encode(&segments).ok_or("has weights that cannot share values; try another setting")?;
    // The release is what the receiver will have, so it is made the same way.
    let file = compress::decode(&packed, base, bytes.len()).map_err(|e| e.to_string())?;
    let (mut signal, mut noise) = (0f64, 0f64);
    for place in places {
        let (was, is) = (floats(&bytes[place.at.clone()], place.halves), floats(&file[place.at.clone()], place.halves));
        for (was, is) in was.iter().zip(is) {
            signal += f64::from(*was).powi(2);
            noise += f64::from(was - is).powi(2);
        }
    }
    Ok(Compressed { file, packed, weights, halves, zeros, snr_db: 10.0 * (signal / noise).log10() })
}

/// Bytes that are no weights: of the other file where it has the same.
fn literal<'a>(bytes: &'a [u8], base: Option<&[u8]>, at: std::ops::Range<usize>, segments: &mut Vec<Segment<'a>>) {
    if at.is_empty() {
        return;
    }
    let (from, length) = (at.start, at.len());
    match base.is_some_and(|base| base.get(at.clone()) == bytes.get(at.clone())) {
        true => segments.push(Segment::Copy { from, length }),
        false => segments.push(Segment::Literal(&bytes[at])),
    }
}

/// Gives few values to a tensor's weights, or to their differences.
fn share(numbers: &[f32], place: &Place, settings: Settings) -> Weights {
    let smallest = threshold(numbers, settings.prune);
    let kept = |number: f32| if number.abs() <= smallest && settings.prune > 0.0 { 0.0 } else { number };
    if let Method::Clusters(count) = settings.method {
        let kept: Vec<f32> = numbers.iter().map(|number| kept(*number)).collect();
        let (values, numbers) = kmeans::cluster(&kept, count);
        return Weights { halves: place.halves, values, numbers, ..Weights::default() };
    }
    let rows = place.dims.first().copied().unwrap_or(1).max(1);
    let each = numbers.len() / rows;
    let relative = match settings.method {
        Method::Grid(step) => Some(match place.role {
            Role::Depthwise => step * DEPTHWISE,
            Role::Gate => step * GATE * (numbers.len() as f32 / TYPICAL_WEIGHTS).sqrt(),
            Role::Plain => step * (numbers.len() as f32 / TYPICAL_WEIGHTS).sqrt(),
        }),
        _ => None,
    };
    let (mut scales, mut steps) = (Vec::with_capacity(rows), Vec::with_capacity(numbers.len()));
    for row in numbers.chunks(each) {
        let largest = row.iter().fold(0f32, |largest, number| largest.max(number.abs()));
        let mean = (row.iter().map(|number| number * number).sum::<f32>() / each as f32).sqrt();
        let wanted = relative.map_or(largest / 127.0, |relative| (mean * relative).max(largest / STEPS_MAX));
        let byte = scale_byte(wanted);
        scales.push(byte);
        let dead = if relative.is_some() { DEAD } else { 0.0 };
        steps.extend(row.iter().map(|number| {
            let step = kept(*number) / scale(byte);
            (step.abs() + 0.5 - dead).floor().copysign(step) as i32
        }));
    }
    Weights { halves: place.halves, scales, numbers: steps, ..Weights::default() }
}

/// The size up to which this share of the numbers lies.
fn threshold(numbers: &[f32], share: f32) -> f32 {
    let mut sizes: Vec<f32> = numbers.iter().map(|number| number.abs()).collect();
    sizes.sort_by(f32::total_cmp);
    let at = (share.clamp(0.0, 1.0) * sizes.len() as f32) as usize;
    at.checked_sub(1).and_then(|at| sizes.get(at)).copied().unwrap_or(0.0)
}

fn floats(bytes: &[u8], halves: bool) -> Vec<f32> {
    match halves {
        true => bytes.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
        false => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
    }
}
