//! Rice's code for the distances between places (Rice and Plaunt, 1971): a distance `d` is `d >> m` ones, a zero, and the lower
//! `m` bits of `d`. The most significant bit comes first, and the last byte is filled with zeros.
//!
//! Reading takes nothing on trust: it stops at the first place that cannot be, by name.

/// The largest `m`: distances are below a head's parameters.
pub const RICE_MAX: u8 = 20;

/// Why bytes are not places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RiceError {
    /// An `m` above [`RICE_MAX`].
    #[error("a Rice parameter of {0}; at most {RICE_MAX}")]
    Parameter(u8),
    /// The bytes end before the last place does.
    #[error("the places end before their last one")]
    Overrun,
    /// A place beyond the end.
    #[error("a place beyond the head's end")]
    Place,
    /// More bytes than the places need, or ones in the bits that fill the last byte.
    #[error("something follows the last place")]
    Trailing,
}

/// The bits that places above each other need under an `m`.
fn bits(places: &[u32], m: u8) -> u64 {
    distances(places).map(|distance| u64::from(distance >> m) + 1 + u64::from(m)).sum()
}

fn distances(places: &[u32]) -> impl Iterator<Item = u32> + '_ {
    let mut next = 0;
    places.iter().map(move |&place| {
        let distance = place - next;
        next = place + 1;
        distance
    })
}

/// Writes places, each above the one before, and says under which `m`: the one that needs the fewest bits.
pub fn write(places: &[u32]) -> (u8, Vec<u8>) {
    let m = (0..=RICE_MAX).min_by_key(|m| bits(places, *m)).expect("there are some");
    let (mut bytes, mut waiting, mut held) = (Vec::with_capacity((bits(places, m) / 8 + 1) as usize), 0u64, 0u32);
    let mut put = |value: u64, width: u32| {
        waiting = waiting << width | value;
        held += width;
        while held >= 8 {
            held -= 8;
            bytes.push((waiting >> held) as u8);
        }
    };
    for distance in distances(places) {
        let mut ones = distance >> m;
        while ones >= 32 {
            put(0xFFFF_FFFF, 32);
            ones -= 32;
        }
        put((1 << (ones + 1)) - 2, ones + 1);
        put(u64::from(distance) & ((1 << m) - 1), u32::from(m));
    }
    put(0, (8 - bits(places, m) % 8) as u32 % 8);
    (m, bytes)
}

/// Reads `count` places below `end`, and hands each to `take` in order.
pub fn read(bytes: &[u8], m: u8, count: usize, end: usize, mut take: impl FnMut(usize)) -> Result<(), RiceError> {
    if m > RICE_MAX {
        return Err(RiceError::Parameter(m));
    }
    let mut bits = Bits { bytes, waiting: 0, held: 0 };
    let mut next = 0usize;
    for _ in 0..count {
        let ones = bits.ones((end >> m) as u32 + 1)?;
        let distance = (u64::from(ones) << m) as usize | bits.take(u32::from(m))? as usize;
        let place = next + distance;
        if place >= end {
            return Err(RiceError::Place);
        }
        take(place);
        next = place + 1;
    }
    let rest_is_filling = bits.bytes.is_empty() && bits.held < 8 && bits.waiting == 0;
    if rest_is_filling { Ok(()) } else { Err(RiceError::Trailing) }
}

/// What is still to be read: the next `held` bits stand at the top of `waiting`, and zeros below them.
struct Bits<'a> {
    bytes: &'a [u8],
    waiting: u64,
    held: u32,
}

impl Bits<'_> {
    #[inline]
    fn fill(&mut self) {
        // Eight bytes at once, as long as there are so many.
        if let Some((word, _)) = self.bytes.split_first_chunk::<8>() {
            let taken = (64 - self.held) / 8;
            if taken > 0 {
                let unread = 64 - self.held - 8 * taken;
                self.waiting |= u64::from_be_bytes(*word) >> self.held >> unread << unread;
                self.held += 8 * taken;
                self.bytes = &self.bytes[taken as usize..];
            }
            return;
        }
        while self.held <= 56 {
            let Some((&byte, rest)) = self.bytes.split_first() else { return };
            self.waiting |= u64::from(byte) << (56 - self.held);
            self.held += 8;
            self.bytes = rest;
        }
    }

    #[inline]
    fn skip(&mut self, width: u32) {
        self.waiting = self.waiting.checked_shl(width).unwrap_or(0);
        self.held -= width;
    }

    #[inline]
    fn take(&mut self, width: u32) -> Result<u64, RiceError> {
        if width == 0 {
            return Ok(0);
        }
        self.fill();
        if self.held < width {
            return Err(RiceError::Overrun);
        }
        let value = self.waiting >> (64 - width);
        self.skip(width);
        Ok(value)
    }

    /// How many ones come before the next zero, which is read too. More than `ones_max` lead beyond the end.
    #[inline]
    fn ones(&mut self, ones_max: u32) -> Result<u32, RiceError> {
        let mut ones = 0;
        loop {
            self.fill();
            let run = self.waiting.leading_ones();
            if run < self.held {
                self.skip(run + 1);
                return Ok(ones + run);
            }
            ones += self.held;
            self.skip(self.held);
            if ones > ones_max {
                return Err(RiceError::Place);
            }
            if self.bytes.is_empty() {
                return Err(RiceError::Overrun);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn places(bytes: &[u8], m: u8, count: usize, end: usize) -> Result<Vec<usize>, RiceError> {
        let mut places = Vec::new();
        read(bytes, m, count, end, |place| places.push(place)).map(|()| places)
    }

    proptest! {
        #[test]
        fn places_survive_the_trip(set in proptest::collection::btree_set(0u32..5000, 0..400)) {
            let set: BTreeSet<u32> = set;
            let list: Vec<u32> = set.into_iter().collect();
            let (m, bytes) = write(&list);
            let read: Vec<u32> = places(&bytes, m, list.len(), 5000).unwrap().into_iter().map(|p| p as u32).collect();
            prop_assert_eq!(&read, &list);
            // Not one more, not one fewer, and not one beyond the end.
            if let Some(last) = list.last() {
                prop_assert!(places(&bytes, m, list.len(), *last as usize).is_err());
                prop_assert!(places(&bytes[..bytes.len() - 1], m, list.len(), 5000).is_err());
            }
            let longer = [&bytes[..], &[0]].concat();
            prop_assert_eq!(places(&longer, m, list.len(), 5000), Err(RiceError::Trailing));
        }

        #[test]
        fn any_bytes_are_places_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), m: u8, count in 0usize..500, end in 0usize..3000) {
            if let Ok(read) = places(&bytes, m, count, end) {
                prop_assert_eq!(read.len(), count);
                prop_assert!(read.windows(2).all(|pair| pair[0] < pair[1]) && read.iter().all(|place| *place < end));
            }
        }
    }

    #[test]
    fn each_refusal_has_its_name() {
        assert_eq!(places(&[], RICE_MAX + 1, 0, 10), Err(RiceError::Parameter(RICE_MAX + 1)));
        assert_eq!(places(&[], 0, 1, 10), Err(RiceError::Overrun));
        assert_eq!(places(&[0xFF; 2], 0, 1, 100), Err(RiceError::Overrun));
        assert_eq!(places(&[0xFF; 200], 0, 1, 100), Err(RiceError::Place));
        // Ten ones and a zero: the tenth place of nine.
        assert_eq!(places(&[0xFF, 0xC0], 0, 1, 10), Err(RiceError::Place));
        assert_eq!(places(&[0xFF, 0xC0], 0, 1, 11), Ok(vec![10]));
        assert_eq!(places(&[0xFF, 0xC1], 0, 1, 11), Err(RiceError::Trailing));
        assert_eq!(places(&[0, 0], 0, 1, 11), Err(RiceError::Trailing));
        // A long row of ones, beyond one register.
        let (m, bytes) = write(&[70_000]);
        assert_eq!(places(&bytes, m, 1, 70_001), Ok(vec![70_000]));
        assert_eq!(write(&[]), (0, vec![]));
    }
}
