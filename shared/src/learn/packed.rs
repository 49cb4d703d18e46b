//! A change of a head in few bytes: its largest coordinates as small integers under one scale, and where they are. What is not
//! said, and what rounding takes, is kept back and said later: error feedback (Seide et al., Interspeech 2014; Karimireddy et
//! al., ICML 2019).

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::rice::{self, RiceError};
use crate::limits::HEAD_PARAMETERS_MAX;

/// How a change is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Some coordinates, each a signed byte times the scale; the places in Rice's code.
    #[default]
    SparseInt8,
}

/// A change of a head, as it is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Packed {
    /// Parameters of the head.
    pub parameters: u32,
    /// How the rest is written.
    pub encoding: Encoding,
    /// What a value of 1 is.
    pub scale: f32,
    /// The `m` of [`rice`].
    pub rice: u8,
    /// Where the values belong, in [`rice`]'s code.
    pub places: ByteBuf,
    /// The values, in the order of their places.
    pub values: ByteBuf,
}

/// Why a change cannot be taken. Each has a constant word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackedError {
    /// Of another head than expected.
    #[error("a change of {0} parameters for a head of {1}")]
    Length(usize, usize),
    /// More values than the head has parameters.
    #[error("{0} values for a head of {1} parameters")]
    TooMany(usize, usize),
    /// Infinite, no number, or below zero; or so large that a value under it is.
    #[error("the scale is no number that a value can have")]
    Scale,
    /// What should be packed has a coordinate that is no finite number.
    #[error("a coordinate is not a finite number")]
    NotFinite,
    /// The places are none.
    #[error("{0}")]
    Places(#[from] RiceError),
}

impl PackedError {
    /// A constant word, for a counter.
    pub fn word(&self) -> &'static str {
        match self {
            PackedError::Length(..) => "learn_length",
            PackedError::TooMany(..) => "learn_too_many",
            PackedError::Scale | PackedError::NotFinite => "learn_not_finite",
            PackedError::Places(RiceError::Parameter(_)) => "learn_rice_parameter",
            PackedError::Places(RiceError::Overrun) => "learn_rice_overrun",
            PackedError::Places(RiceError::Place) => "learn_place",
            PackedError::Places(RiceError::Trailing) => "learn_rice_trailing",
        }
    }
}

impl Packed {
    /// The largest `sent_max` coordinates of a change, of equals the first ones. What would round to zero is left out.
    pub fn of(change: &[f32], sent_max: usize) -> Result<Packed, PackedError> {
        if change.len() > HEAD_PARAMETERS_MAX {
            return Err(PackedError::Length(change.len(), HEAD_PARAMETERS_MAX));
        }
        if change.iter().any(|x| !x.is_finite()) {
            return Err(PackedError::NotFinite);
        }
        let scale = change.iter().fold(0.0f32, |max, x| max.max(x.abs())) / 127.0;
        // Of positive floats the bits are in the order of the numbers.
        let size = |place: &u32| std::cmp::Reverse(change[*place as usize].abs().to_bits());
        let mut places: Vec<u32> =
            (0..change.len() as u32).filter(|place| value(change[*place as usize], scale) != 0).collect();
        if places.len() > sent_max && sent_max > 0 {
            places.select_nth_unstable_by_key(sent_max - 1, |place| (size(place), *place));
        }
        places.truncate(sent_max);
        places.sort_unstable();
        let values = places.iter().map(|place| value(change[*place as usize], scale) as u8).collect::<Vec<_>>();
        let (rice, bytes) = rice::write(&places);
        let parameters = change.len() as u32;
        Ok(Packed {
            parameters,
            encoding: Encoding::SparseInt8,
            scale,
            rice,
            places: ByteBuf::from(bytes),
            values: ByteBuf::from(values),
        })
    }

    /// The places and values of a change of a head of so many parameters, in order, each place once and below that number, each
    /// value finite. Nothing that comes is believed.
    pub fn unpack(&self, parameters: usize, mut take: impl FnMut(usize, f32)) -> Result<(), PackedError> {
        if self.parameters as usize != parameters {
            return Err(PackedError::Length(self.parameters as usize, parameters));
        }
        if self.values.len() > parameters {
            return Err(PackedError::TooMany(self.values.len(), parameters));
        }
        if !(self.scale >= 0.0 && (self.scale * 128.0).is_finite()) {
            return Err(PackedError::Scale);
        }
        let mut values = self.values.iter();
        rice::read(&self.places, self.rice, self.values.len(), parameters, |place| {
            let value = values.next().map_or(0, |byte| *byte as i8);
            take(place, f32::from(value) * self.scale);
        })?;
        Ok(())
    }

    /// The change as a whole head.
    pub fn to_dense(&self, parameters: usize) -> Result<Vec<f32>, PackedError> {
        let mut dense = vec![0.0; parameters];
        self.unpack(parameters, |place, value| dense[place] = value)?;
        Ok(dense)
    }
}

/// A coordinate under a scale. A scale of zero has no coordinates but zero.
fn value(x: f32, scale: f32) -> i8 {
    if scale > 0.0 { (x / scale).round() as i8 } else { 0 }
}

/// What was not said yet. It must be on the disk before what was taken from it is published.
#[derive(Debug, Clone, PartialEq)]
pub struct Feedback {
    kept: Vec<f32>,
}

impl Feedback {
    /// Nothing is kept back yet of a head of so many parameters.
    pub fn new(parameters: usize) -> Feedback {
        Feedback { kept: vec![0.0; parameters] }
    }

    /// What an earlier run kept back; nothing where it is not finite.
    pub fn restore(kept: Vec<f32>) -> Option<Feedback> {
        kept.iter().all(|x| x.is_finite()).then_some(Feedback { kept })
    }

    /// What is kept back.
    pub fn kept(&self) -> &[f32] {
        &self.kept
    }

    /// Packs a change together with what was kept back before, and keeps back what that does not say. A change that cannot be
    /// packed changes nothing.
    pub fn pack(&mut self, change: &[f32], sent_max: usize) -> Result<Packed, PackedError> {
        if change.len() != self.kept.len() {
            return Err(PackedError::Length(change.len(), self.kept.len()));
        }
        let whole: Vec<f32> = change.iter().zip(&self.kept).map(|(change, kept)| change + kept).collect();
        let packed = Packed::of(&whole, sent_max)?;
        self.kept = whole;
        let kept = &mut self.kept;
        packed.unpack(change.len(), |place, value| kept[place] -= value).expect("what was packed can be unpacked");
        Ok(packed)
    }

    /// What was packed was never sent, and something newer takes its place: it is kept back again.
    pub fn take_back(&mut self, unsent: &Packed) -> Result<(), PackedError> {
        let mut kept = self.kept.clone();
        unsent.unpack(kept.len(), |place, value| kept[place] += value)?;
        self.kept = kept;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix64;
    use proptest::prelude::*;

    fn normals(seed: u64, n: usize) -> Vec<f32> {
        let mut random = SplitMix64::new(seed);
        (0..n).map(|_| random.normals()[0] as f32).collect()
    }

    proptest! {
        /// P9: nothing gets lost on the way, it only comes later.
        #[test]
        fn what_is_said_and_what_is_kept_back_is_what_was_learned(seed: u64, parameters in 1usize..300, sent in 0usize..400, times in 1usize..12) {
            let mut feedback = Feedback::new(parameters);
            let (mut learned, mut said) = (vec![0.0f64; parameters], vec![0.0f64; parameters]);
            for time in 0..times as u64 {
                let change = normals(seed.wrapping_add(time), parameters);
                learned.iter_mut().zip(&change).for_each(|(sum, x)| *sum += f64::from(*x));
                let packed = feedback.pack(&change, sent).unwrap();
                prop_assert!(packed.values.len() <= sent.min(parameters));
                packed.unpack(parameters, |place, value| said[place] += f64::from(value)).unwrap();
            }
            for ((learned, said), kept) in learned.iter().zip(&said).zip(feedback.kept()) {
                let error = (learned - said - f64::from(*kept)).abs();
                prop_assert!(error <= times as f64 * 16.0 * f64::from(f32::EPSILON), "{error}");
            }
        }

        /// P12: any bytes are a change of this head, or are refused.
        #[test]
        fn any_bytes_are_a_change_or_are_refused(scale: f32, rice: u8, places in proptest::collection::vec(any::<u8>(), 0..40), values in proptest::collection::vec(any::<u8>(), 0..60), said in 0u32..60, parameters in 0usize..60) {
            let packed = Packed { parameters: said, encoding: Encoding::SparseInt8, scale, rice, places: places.into(), values: values.into() };
            if let Ok(dense) = packed.to_dense(parameters) {
                prop_assert!(dense.len() == said as usize && dense.iter().all(|x| x.is_finite()));
            }
        }

        #[test]
        fn what_was_packed_is_the_largest_and_comes_back_within_half_a_step(seed: u64, parameters in 1usize..300, sent in 1usize..300) {
            let change = normals(seed, parameters);
            let packed = Packed::of(&change, sent).unwrap();
            let dense = packed.to_dense(parameters).unwrap();
            let smallest_said = change.iter().zip(&dense).filter(|(_, d)| **d != 0.0).map(|(x, _)| x.abs()).fold(f32::MAX, f32::min);
            for (x, d) in change.iter().zip(&dense) {
                if *d != 0.0 {
                    prop_assert!((x - d).abs() <= packed.scale * 0.5001);
                } else {
                    prop_assert!(x.abs() <= smallest_said.max(packed.scale * 0.5001));
                }
            }
        }
    }

    #[test]
    fn what_is_kept_back_stays_bounded_and_comes_out_in_the_end() {
        // One coordinate in ten, for 400 times: the rest piles up to a few changes and no further.
        let mut feedback = Feedback::new(500);
        let (mut worst, mut mean) = (0.0f64, 0.0f64);
        for time in 0..400 {
            let change = normals(time, 500);
            feedback.pack(&change, 50).unwrap();
            let norm = feedback.kept().iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            (worst, mean) =
                (worst.max(norm), mean + change.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt() / 400.0);
        }
        assert!(worst < 10.0 * mean, "{worst} {mean}");
        (0..40).for_each(|_| drop(feedback.pack(&[0.0; 500], 50).unwrap()));
        assert!(feedback.kept().iter().all(|x| x.abs() < 0.05));
    }

    #[test]
    fn what_was_never_sent_is_kept_back_again() {
        let (one, mut feedback) = (normals(3, 40), Feedback::new(40));
        let packed = feedback.pack(&one, 4).unwrap();
        feedback.take_back(&packed).unwrap();
        assert!(feedback.kept().iter().zip(&one).all(|(kept, x)| (kept - x).abs() < 1e-6));
        assert!(Feedback::restore(vec![f32::NAN]).is_none());
        let before = feedback.clone();
        assert_eq!(feedback.pack(&[f32::INFINITY; 40], 4), Err(PackedError::NotFinite));
        assert_eq!(feedback.pack(&[0.0; 39], 4), Err(PackedError::Length(39, 40)));
        assert_eq!(feedback, before);
    }

    #[test]
    fn each_refusal_has_its_name() {
        let good = Packed::of(&[0.0, 1.0, -2.0], 3).unwrap();
        let refused = |packed: Packed, parameters| packed.to_dense(parameters).unwrap_err().word();
        assert_eq!(good.to_dense(3).unwrap(), [0.0, 64.0 * (2.0f32 / 127.0), -2.0]);
        assert_eq!(refused(good.clone(), 4), "learn_length");
        assert_eq!(refused(Packed { values: vec![1; 4].into(), ..good.clone() }, 3), "learn_too_many");
        for scale in [f32::NAN, f32::INFINITY, -1.0, f32::MAX] {
            assert_eq!(refused(Packed { scale, ..good.clone() }, 3), "learn_not_finite");
        }
        assert_eq!(refused(Packed { rice: 99, ..good.clone() }, 3), "learn_rice_parameter");
        assert_eq!(refused(Packed { places: vec![].into(), ..good.clone() }, 3), "learn_rice_overrun");
        assert_eq!(refused(Packed { rice: 0, places: vec![0xF0].into(), ..good.clone() }, 3), "learn_place");
        assert_eq!(refused(Packed { places: vec![0; 9].into(), ..good.clone() }, 3), "learn_rice_trailing");
        assert_eq!(Packed::of(&[0.0; 5], 5).unwrap().to_dense(5).unwrap(), [0.0; 5]);
    }
}
