//! What comes back, what is refused, and bytes from nobody.

use super::*;
use proptest::prelude::*;

fn weights(numbers: &[i32]) -> Weights {
    Weights { halves: true, numbers: numbers.to_vec(), ..Weights::default() }
}

fn halves(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()
}

#[test]
fn weights_come_back_as_scale_times_value_plus_the_other_files_weight() {
    let numbers = [3, 0, 0, 0, 0, 0, -2, 1];
    let plain =
        encode(&[Segment::Literal(b"before"), Segment::Weights(weights(&numbers)), Segment::Literal(b"!")]).unwrap();
    let file = decode(&plain, None, 100).unwrap();
    assert_eq!((&file[..6], &file[22..]), (&b"before"[..], &b"!"[..]));
    assert_eq!(halves(&file[6..22]), [3.0, 0.0, 0.0, 0.0, 0.0, 0.0, -2.0, 1.0]);
    // Two groups with scales 1/4 and 2, on top of what the other file has.
    let moved = Weights { scales: vec![scale_byte(0.25), scale_byte(2.0)], from: Some(6), ..weights(&numbers) };
    let delta = encode(&[Segment::Copy { from: 0, length: 6 }, Segment::Weights(moved)]).unwrap();
    let next = decode(&delta, Some(&file), 22).unwrap();
    assert_eq!(halves(&next[6..]), [3.75, 0.0, 0.0, 0.0, 0.0, 0.0, -6.0, 3.0]);
    assert_eq!(decode(&delta, None, 22), Err(DecodeError::Base));
    assert_eq!(decode(&delta, Some(&file[..20]), 22), Err(DecodeError::Base));
    // Shared values that are no whole numbers, of 32 bits.
    let shared = Weights { halves: false, values: vec![0.1, -7.5], numbers: vec![1, 0, 0], ..Weights::default() };
    let file = decode(&encode(&[Segment::Weights(shared)]).unwrap(), None, 12).unwrap();
    let floats: Vec<f32> = file.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    assert_eq!(floats, [-7.5, 0.1, 0.1]);
}

#[test]
fn what_a_file_may_not_be_is_refused() {
    let fine = encode(&[Segment::Weights(weights(&[1, 2, 3, 1, 1]))]).unwrap();
    assert_eq!(decode(&fine, None, 10).map(|file| file.len()), Ok(10));
    assert_eq!(decode(&fine, None, 9), Err(DecodeError::Length), "longer than it should become");
    assert_eq!(decode(b"PKC2", None, 10), Err(DecodeError::NotOurs));
    for cut in 4..fine.len() {
        assert!(decode(&fine[..cut], None, 10).is_err(), "{cut}");
    }
    assert_eq!(decode(&[&fine[..], b"x"].concat(), None, 10), Err(DecodeError::Damaged));
    let many: Vec<i32> = (0..=SHARED_VALUES_MAX as i32).collect();
    assert_eq!(encode(&[Segment::Weights(weights(&many))]), None);
}

#[test]
fn a_file_that_says_it_is_a_giant_takes_no_room() {
    // One symbol that needs no thought, for as many weights as a number can say.
    let mut bytes = encode(&[Segment::Weights(weights(&[0; 64]))]).unwrap();
    let at = bytes.windows(3).position(|w| w == [1, 64, 1]).unwrap();
    bytes.splice(at + 1..at + 2, [0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert_eq!(decode(&bytes, None, 1 << 40), Err(DecodeError::Length));
}

#[test]
fn lengths_that_no_codes_have_are_refused() {
    let read = |lengths: &[u8]| huffman::Reader::new(lengths, &[]).is_some();
    assert!(read(&[1, 2, 2]) && read(&[0, 1]) && read(&[1, 1]));
    assert!(!read(&[1, 1, 1]), "more codes than bits can tell apart");
    assert!(!read(&[2, 2, 2]) && !read(&[0, 0]), "bits that would mean nothing");
}

#[test]
fn pruned_weights_take_less_than_a_bit_each() {
    let numbers: Vec<i32> = (0..10_000).map(|n| if n % 50 == 0 { 1 + n / 50 % 3 } else { 0 }).collect();
    let bytes = encode(&[Segment::Weights(weights(&numbers))]).unwrap();
    assert!(bytes.len() < 400, "{} bytes", bytes.len());
    assert_eq!(halves(&decode(&bytes, None, 20_000).unwrap()), numbers.iter().map(|n| *n as f32).collect::<Vec<_>>());
}

#[test]
fn scales_are_four_an_octave_and_never_too_small() {
    assert_eq!(scale(scale_byte(1.0)), 1.0);
    assert_eq!(scale(scale_byte(1.01)), 1.25);
    assert_eq!(scale(0), 2f32.powi(-40));
    for wanted in [1e-9f32, 0.003, 0.7, 12.0] {
        let given = scale(scale_byte(wanted));
        assert!(given >= wanted && given <= 1.26 * wanted, "{wanted} {given}");
    }
}

proptest! {
    #[test]
    fn whatever_numbers_they_are_they_come_back(
        numbers in prop::collection::vec(prop_oneof![4 => Just(0), 1 => -900..900i32], 1..600),
        scale in 100u8..200,
    ) {
        let scaled = Weights { scales: vec![scale], halves: false, ..weights(&numbers) };
        let bytes = encode(&[Segment::Weights(scaled)]).unwrap();
        let file = decode(&bytes, None, 4 * numbers.len()).unwrap();
        let expect: Vec<u8> = numbers.iter().flat_map(|n| (super::scale(scale) * *n as f32).to_le_bytes()).collect();
        prop_assert_eq!(file, expect);
    }

    #[test]
    fn codes_of_any_counts_are_short_enough_and_complete(counts in prop::collection::vec(prop_oneof![Just(0u64), any::<u64>().prop_map(|n| n >> (n % 60))], 2..300)) {
        let lengths = huffman::lengths(&counts);
        if counts.iter().any(|count| *count > 0) {
            prop_assert!(huffman::Reader::new(&lengths, &[]).is_some());
        }
        prop_assert!(counts.iter().zip(&lengths).all(|(count, length)| (*count > 0) == (*length > 0)));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), hit in any::<prop::sample::Index>(), bit in 0..8) {
        let _ = decode(&bytes, Some(&bytes), 1000);
        let _ = decode(&[&MAGIC[..], &bytes].concat(), Some(&bytes), 1000);
        let numbers: Vec<i32> = bytes.iter().map(|byte| i32::from(byte % 7)).chain([0]).collect();
        let moved = Weights { from: Some(0), scales: vec![150], ..weights(&numbers) };
        let mut fine = encode(&[Segment::Literal(&bytes), Segment::Weights(moved)]).unwrap();
        let at = hit.index(fine.len());
        fine[at] ^= 1u8 << bit;
        if let Ok(file) = decode(&fine, Some(&vec![0; 2 * numbers.len()]), 1000) {
            prop_assert!(file.len() <= 1000);
        }
    }
}
