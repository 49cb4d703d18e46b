//! What the writer of the power cut test and the test itself must agree on: what an event's bytes are, and how an
//! acknowledgement is written down.

use fastrand::Rng;

/// Bytes of one note: the boot, the sequence.
pub const NOTE_BYTES: usize = 16;

/// The bytes of an event of about 400 bytes, made from its place alone, so that nobody has to remember them.
pub fn event_bytes(boot: u64, seq: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(boot ^ seq.rotate_left(40));
    let bytes = rng.usize(360..440);
    std::iter::repeat_with(|| rng.u8(..)).take(bytes).collect()
}

/// One event's place, as a note.
pub fn note(boot: u64, seq: u64) -> [u8; NOTE_BYTES] {
    let mut note = [0; NOTE_BYTES];
    note[..8].copy_from_slice(&boot.to_be_bytes());
    note[8..].copy_from_slice(&seq.to_be_bytes());
    note
}

/// The places in a list of notes; one that is not complete was not made.
pub fn places(notes: &[u8]) -> Vec<(u64, u64)> {
    let (notes, _) = notes.as_chunks::<NOTE_BYTES>();
    let half = |half: &[u8]| u64::from_be_bytes(half.try_into().expect("half a note has 8 bytes"));
    notes.iter().map(|note| (half(&note[..8]), half(&note[8..]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_survives_the_trip_and_half_a_note_is_none() {
        let notes = [note(1, 2), note(u64::MAX, 0)].concat();
        assert_eq!(places(&notes), [(1, 2), (u64::MAX, 0)]);
        assert_eq!(places(&notes[..NOTE_BYTES + 3]), [(1, 2)]);
        assert_ne!(event_bytes(1, 2), event_bytes(1, 3));
    }
}
