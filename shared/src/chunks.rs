//! Which chunks of a blob somebody has, or wants: a set of numbers below a bound, as ranges on the wire and as bits on a disk.
//!
//! Pure. It knows nothing of what is in a chunk.

/// A run of chunks by their numbers, from 0: the first and the last.
pub type Range = (u32, u32);

/// A set of chunks of a blob that has `total` of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunks {
    total: u32,
    held: u32,
    bits: Vec<u64>,
}

const WORD: u32 = u64::BITS;

impl Chunks {
    /// None of so many.
    pub fn none(total: u32) -> Chunks {
        Chunks { total, held: 0, bits: vec![0; total.div_ceil(WORD) as usize] }
    }

    /// How many the blob has.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// How many are in the set.
    pub fn held(&self) -> u32 {
        self.held
    }

    /// Whether all are in it.
    pub fn is_whole(&self) -> bool {
        self.held == self.total
    }

    /// Whether this one is in it.
    pub fn has(&self, index: u32) -> bool {
        index < self.total && self.bits[(index / WORD) as usize] & bit(index) != 0
    }

    /// Adds one; whether it was not there before. One that the blob does not have is not added.
    pub fn add(&mut self, index: u32) -> bool {
        if index >= self.total || self.has(index) {
            return false;
        }
        self.bits[(index / WORD) as usize] |= bit(index);
        self.held += 1;
        true
    }

    /// Takes one away; whether it was there.
    pub fn remove(&mut self, index: u32) -> bool {
        let had = self.has(index);
        if had {
            self.bits[(index / WORD) as usize] &= !bit(index);
            self.held -= 1;
        }
        had
    }

    /// The next one of the set at or after `from`, and after the end again from the beginning.
    pub fn next(&self, from: u32) -> Option<u32> {
        (from..self.total).chain(0..from.min(self.total)).find(|index| self.has(*index))
    }

    /// The runs of chunks that are not in it, at most so many, the first ones.
    pub fn missing(&self, ranges_max: usize) -> Vec<Range> {
        let mut ranges: Vec<Range> = Vec::new();
        for index in (0..self.total).filter(|index| !self.has(*index)) {
            let count = ranges.len();
            match ranges.last_mut() {
                Some((_, to)) if *to + 1 == index => *to = index,
                _ if count == ranges_max => break,
                _ => ranges.push((index, index)),
            }
        }
        ranges
    }

    /// As a text for a file: two hexadecimal digits for eight chunks, the first chunk in the lowest bit.
    pub fn to_hex(&self) -> String {
        let bytes: Vec<u8> = self.bits.iter().flat_map(|word| word.to_le_bytes()).collect();
        crate::crypto::hex(&bytes[..self.total.div_ceil(8) as usize])
    }

    /// The set that such a text says; nothing where it says no set of so many chunks.
    pub fn of_hex(total: u32, text: &str) -> Option<Chunks> {
        let digits = text.as_bytes();
        if digits.len() != 2 * total.div_ceil(8) as usize {
            return None;
        }
        let mut chunks = Chunks::none(total);
        for (at, pair) in digits.chunks_exact(2).enumerate() {
            let byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
            for place in (0..8).filter(|place| byte >> place & 1 == 1) {
                let index = at as u32 * 8 + place;
                if index >= total {
                    return None;
                }
                chunks.add(index);
            }
        }
        Some(chunks)
    }
}

fn bit(index: u32) -> u64 {
    1 << (index % WORD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(total: u32, held: &[u32]) -> Chunks {
        let mut chunks = Chunks::none(total);
        held.iter().for_each(|index| assert!(chunks.add(*index)));
        chunks
    }

    #[test]
    fn known_sets_have_known_gaps() {
        for (total, held, ranges_max, missing) in [
            (5, &[][..], 9, vec![(0, 4)]),
            (5, &[0, 1, 2, 3, 4], 9, vec![]),
            (5, &[2], 9, vec![(0, 1), (3, 4)]),
            (200, &[0, 64, 65, 199], 9, vec![(1, 63), (66, 198)]),
            (9, &[1, 3, 5, 7], 2, vec![(0, 0), (2, 2)]),
            (0, &[], 9, vec![]),
        ] {
            let chunks = of(total, held);
            assert_eq!((chunks.missing(ranges_max), chunks.is_whole()), (missing.clone(), missing.is_empty()));
        }
        let chunks = of(70, &[3, 66]);
        assert_eq!([0, 3, 4, 66, 67, 99].map(|from| chunks.next(from)), [3, 3, 66, 66, 3, 3].map(Some));
        assert_eq!(Chunks::none(70).next(0), None);
    }

    #[test]
    fn what_a_blob_does_not_have_is_never_in_it() {
        let mut chunks = of(3, &[2]);
        assert!(!chunks.add(3) && !chunks.add(u32::MAX) && !chunks.has(64) && !chunks.add(2));
        assert!(!chunks.remove(9) && chunks.remove(2) && !chunks.remove(2));
        assert_eq!(chunks.held(), 0);
        for text in ["", "0", "08", "0g", "0000", "é"] {
            assert_eq!(Chunks::of_hex(3, text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_set_survives_its_text_and_is_what_its_gaps_leave(total in 0u32..300, held in proptest::collection::btree_set(0u32..300, 0..300)) {
            let held: Vec<u32> = held.into_iter().filter(|index| *index < total).collect();
            let chunks = of(total, &held);
            prop_assert_eq!(Chunks::of_hex(total, &chunks.to_hex()), Some(chunks.clone()));
            let mut missing = Chunks::none(total);
            for (from, to) in chunks.missing(usize::MAX) {
                (from..=to).for_each(|index| assert!(missing.add(index)));
            }
            prop_assert!((0..total).all(|index| chunks.has(index) != missing.has(index)));
            prop_assert_eq!(chunks.held() as usize, held.len());
        }
    }
}
