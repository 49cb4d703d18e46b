//! What becomes of weights, alone and against a release before.

use super::*;
use crate::detect::BUILTIN;
use crate::detect::onnx;

const STEP: Settings = Settings { method: Method::Grid(0.45), prune: 0.0 };

#[test]
fn the_default_detector_takes_less_than_a_fifth_and_decodes_to_its_release() {
    let made = model(BUILTIN, None, STEP).unwrap();
    assert!(made.packed.len() < BUILTIN.len() / 5, "{} bytes", made.packed.len());
    assert_eq!(made.file.len(), BUILTIN.len());
    assert_eq!(compress::decode(&made.packed, None, BUILTIN.len()).unwrap(), made.file);
    assert_eq!(onnx::scan(&made.file), onnx::scan(BUILTIN), "all but the weights is as it was");
    assert!(made.snr_db > 20.0, "{}", made.snr_db);
    let roles: Vec<Role> = places(BUILTIN).unwrap().into_iter().map(|place| place.role).collect();
    assert!([Role::Depthwise, Role::Gate, Role::Plain].iter().all(|role| roles.contains(role)));
}

#[test]
fn what_differs_little_from_a_release_travels_in_little_and_arrives_bit_for_bit() {
    let base = model(BUILTIN, None, STEP).unwrap().file;
    // The next training: one tensor moved a little.
    let moved = places(&base).unwrap().into_iter().find(|place| place.at.len() > 50_000).unwrap();
    let mut next = base.clone();
    for (at, weight) in next[moved.at.clone()].as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let was = half::f16::from_le_bytes(*weight).to_f32();
        *weight = half::f16::from_f32(was + 0.001 * ((at % 7) as f32 - 3.0)).to_le_bytes();
    }
    let made = model(&next, Some(&base), Settings { method: Method::Int8, prune: 0.0 }).unwrap();
    assert!(made.packed.len() < moved.at.len(), "{} bytes for {}", made.packed.len(), moved.at.len());
    assert_eq!(compress::decode(&made.packed, Some(&base), base.len()).unwrap(), made.file);
    assert!(made.snr_db > 50.0, "{}", made.snr_db);
    assert!(
        compress::decode(&made.packed, Some(BUILTIN), base.len()).unwrap() != made.file,
        "another base is another file"
    );
    let other = model(&next, Some(&next[1..]), STEP);
    assert!(other.unwrap_err().contains("other tensors than its base"));
    // Nothing moved: nothing travels.
    assert!(model(&base, Some(&base), STEP).unwrap().packed.len() < 3_000);
}

#[test]
fn heads_travel_as_differences_of_which_the_largest_may_do() {
    let bytes = |numbers: &[f32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let old: Vec<f32> = (0..129).map(|n| (n as f32 * 0.37).sin()).collect();
    let new: Vec<f32> = old.iter().enumerate().map(|(n, w)| w + 0.01 * (n as f32 * 1.7).cos().powi(9)).collect();
    let (old, new) = (bytes(&old), bytes(&new));
    let all = head(&new, Some(&old), Settings { method: Method::Int8, prune: 0.0 }).unwrap();
    let largest = head(&new, Some(&old), Settings { method: Method::Int8, prune: 0.9 }).unwrap();
    assert!(all.packed.len() < new.len() / 2 && largest.packed.len() < all.packed.len());
    assert!(largest.zeros >= 116, "{}", largest.zeros);
    assert_eq!(compress::decode(&largest.packed, Some(&old), new.len()).unwrap(), largest.file);
    assert!(head(&new[1..], None, STEP).is_err());
}

#[test]
fn clusters_and_pruning_do_what_they_say() {
    let numbers: Vec<f32> = (0..1000).map(|n| ((n * 37 % 100) as f32 - 50.0) / 100.0).collect();
    let (values, chosen) = kmeans::cluster(&numbers, 16);
    assert_eq!(values.len(), 17, "sixteen, and zero");
    let worst = numbers.iter().zip(&chosen).map(|(n, at)| (n - values[*at as usize]).abs()).fold(0.0, f32::max);
    assert!(worst < 0.04, "{worst}");
    assert!(chosen.iter().zip(&numbers).all(|(at, n)| (values[*at as usize] == 0.0) == (*n == 0.0)));
    let pruned = model(BUILTIN, None, Settings { method: Method::Clusters(32), prune: 0.8 }).unwrap();
    assert!(pruned.zeros as f64 > 0.78 * pruned.weights as f64);
    let whole = model(BUILTIN, None, Settings { method: Method::Clusters(32), prune: 0.0 }).unwrap();
    assert!(pruned.packed.len() * 3 < whole.packed.len() * 2);
}
