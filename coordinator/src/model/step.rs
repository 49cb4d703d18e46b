//! A learned head as what changed since the one before it: eight bits for each number, under one scale. What that rounds away is given
//! up before the head is released, so that who builds on the one before and who fetches it whole have the same bits. Pure. It neither
//! signs nor keeps anything.

use picket_shared::compress::{self, Segment, Weights};

/// So many steps of the scale the largest change is, at most.
const STEPS_MAX: f32 = 127.0;

/// A head that few bytes make of the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The head's numbers, little-endian, 32 bits each.
    pub file: Vec<u8>,
    /// What changes the file before into this one ([`compress::decode`]).
    pub delta: Vec<u8>,
}

/// The nearest to `head` that can be told as a step from the file before; nothing where that saves nothing, where nothing changed, or
/// where one of them is no such head.
pub fn step(before: &[u8], head: &[f32]) -> Option<Step> {
    let (words, rest) = before.as_chunks::<4>();
    if !rest.is_empty() || words.len() != head.len() {
        return None;
    }
    let change: Vec<f32> = head.iter().zip(words).map(|(now, then)| now - f32::from_le_bytes(*then)).collect();
    // A number that is none would be rounded to no change at all, and who looks at heads would never see it.
    if change.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let largest = change.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let byte = compress::scale_byte(largest / STEPS_MAX);
    let numbers = change.iter().map(|x| (x / compress::scale(byte)).round() as i32).collect();
    let weights = Weights { from: Some(0), scales: vec![byte], numbers, ..Weights::default() };
    let delta = compress::encode(&[Segment::Weights(weights)])?;
    let file = compress::decode(&delta, Some(before), before.len()).ok()?;
    (delta.len() < file.len() && file != before).then_some(Step { file, delta })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::record::{bytes_of, numbers_of};
    use picket_shared::random::SplitMix64;

    fn head(parameters: usize, seed: u64, size: f32) -> Vec<f32> {
        let mut random = SplitMix64::new(seed);
        (0..parameters).map(|_| size * (random.unit() as f32 - 0.5)).collect()
    }

    #[test]
    fn a_step_says_a_head_in_few_bytes_and_steps_do_not_drift() {
        for (parameters, bytes_max) in [(138, 300), (10_010, 10_500)] {
            let mut before = bytes_of(&head(parameters, 1, 2.0));
            let mut wanted = numbers_of(&before);
            for turn in 0..20 {
                wanted.iter_mut().zip(head(parameters, 2 + turn, 0.2)).for_each(|(x, change)| *x += change);
                let Step { file, delta } = step(&before, &wanted).unwrap();
                assert!(delta.len() < bytes_max && delta.len() < file.len(), "{} of {}", delta.len(), file.len());
                assert_eq!(compress::decode(&delta, Some(&before), file.len()).unwrap(), file);
                // Half a step of the scale, which is at most a fifth above what 127 steps want.
                let off = numbers_of(&file).iter().zip(&wanted).map(|(got, x)| (got - x).abs()).fold(0.0, f32::max);
                assert!(off < 0.6 * 0.1 * 1.2 / STEPS_MAX, "{off} after {turn} steps");
                before = file.into();
            }
        }
    }

    #[test]
    fn what_is_no_step_is_none() {
        let before = head(138, 1, 2.0);
        let bytes = bytes_of(&before);
        assert_eq!(step(&bytes, &before), None, "nothing changed");
        assert_eq!(step(&bytes, &before[1..]), None, "another form");
        assert_eq!(step(&bytes[1..], &before), None, "no head");
        assert_eq!(step(&[], &[]), None);
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut wrong = head(138, 2, 2.0);
            wrong[7] = x;
            assert_eq!(step(&bytes, &wrong), None, "{x} is not rounded away");
        }
        let mut far = before.clone();
        far[0] = f32::MAX;
        assert!(step(&bytes, &far).is_none_or(|step| numbers_of(&step.file)[1..] == before[1..]));
        assert_eq!(step(&bytes_of(&head(3, 1, 1.0)), &head(3, 2, 1.0)), None, "so few are fewer as they are");
    }
}
