//! A station's change of the head, read once from how it was sent: its numbers and its length. It knows no station, and is no step.
//! Pure.

use picket_shared::learn::packed::{Packed, PackedError};

use super::sums::norm;

/// A change whose numbers are all finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// As many as the head has.
    pub values: Vec<f32>,
    /// The root of the sum of their squares, summed in their order.
    pub norm: f64,
}

impl Change {
    /// One of these numbers; nothing where one is infinite, or none.
    pub fn of(values: Vec<f32>) -> Option<Change> {
        // Without an early end, so that several are looked at at once.
        let finite = values.iter().fold(true, |finite, x| finite & x.is_finite());
        finite.then(|| Change { norm: norm(&values), values })
    }

    /// One that was sent, of a head of so many parameters.
    pub fn read(packed: &Packed, parameters: usize) -> Result<Change, PackedError> {
        let (mut values, mut squares) = (vec![0.0; parameters], 0.0);
        // Zeros add nothing to a sum of squares, and what is not zero comes in its order: the sum has the same bits as one over all.
        packed.unpack(parameters, |place, value| {
            values[place] = value;
            squares += f64::from(value) * f64::from(value);
        })?;
        Ok(Change { values, norm: squares.sqrt() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::random::SplitMix64;

    #[test]
    fn what_is_read_from_a_message_is_what_its_numbers_are_to_the_last_bit() {
        let mut random = SplitMix64::new(4);
        for (parameters, sent_max) in [(1, 1), (129, 13), (129, 129), (10_010, 1_001)] {
            let values: Vec<f32> = (0..parameters).map(|_| random.normals()[0] as f32).collect();
            let packed = Packed::of(&values, sent_max).unwrap();
            let read = Change::read(&packed, parameters).unwrap();
            let whole = Change::of(packed.to_dense(parameters).unwrap()).unwrap();
            assert_eq!((read.norm.to_bits(), &read.values), (whole.norm.to_bits(), &whole.values));
            assert!(Change::read(&packed, parameters + 1).is_err());
        }
    }

    #[test]
    fn what_is_not_finite_is_no_change() {
        assert_eq!(Change::of(vec![]).unwrap().norm, 0.0);
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(Change::of(vec![1.0, x, 2.0]), None);
        }
    }
}
