//! Bytes that are no models, and models that hide something.

use super::*;
use proptest::prelude::*;

/// A small model of the CenterNet family: `agent/tests/import` has it run.
const SMALL: &str = include_str!("../../tests/import/centernet.json");

fn tfjs(json: &str) -> Source {
    // As many numbers as the small model's weights name, none of them zero.
    let weights =
        (0..2_000u16).map(|n| half::f16::from_f32(0.01 * f32::from(n % 50) - 0.2)).flat_map(half::f16::to_le_bytes);
    let wanted = tensorflow::weight_files(json.as_bytes()).map_or(0, |_| bytes_of(json));
    Source::Tfjs { json: json.into(), weights: weights.take(wanted).collect() }
}

fn bytes_of(json: &str) -> usize {
    let model: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let weights = model["weightsManifest"][0]["weights"].as_array().cloned().unwrap_or_default();
    let size = |weight: &serde_json::Value| {
        let sides = weight["shape"].as_array().cloned().unwrap_or_default();
        let elements: u64 = sides.iter().map(|side| side.as_u64().unwrap_or(0)).product();
        elements as usize * if weight["dtype"] == "int32" { 4 } else { 2 }
    };
    weights.iter().map(size).sum()
}

fn refused(json: &str) -> String {
    import(&tfjs(json), &Options::default()).map(|made| made.family).unwrap_err().to_string()
}

#[test]
fn the_small_model_is_of_our_form() {
    let made = import(&tfjs(SMALL), &Options { input: Some((64, 32)) }).unwrap();
    assert_eq!((made.family, made.head.len()), ("CenterNet", 9));
    let scan = crate::detect::onnx::scan(&made.onnx).unwrap();
    assert_eq!((scan.opsets, scan.ir_version), (vec![(String::new(), 13)], 8));
    let again = import(&tfjs(SMALL), &Options { input: Some((64, 32)) }).unwrap();
    assert_eq!(again.onnx, made.onnx, "the same bytes each time");
}

#[test]
fn what_cannot_be_imported_is_said_in_one_sentence() {
    for (json, expect) in [
        ("{", "is no JSON"),
        (r#"{"format":"layers-model"}"#, "is no graph model"),
        (r#"{"format":"graph-model"}"#, "has no weightsManifest"),
        (r#"{"weightsManifest":[],"modelTopology":{"node":[]}}"#, "is of no family"),
        (r#"{"weightsManifest":[{"weights":[{"name":"w","shape":[1],"dtype":"float32"}]}]}"#, "bytes are missing"),
        (
            r#"{"weightsManifest":[{"weights":[{"name":"w","shape":[1099511627776],"dtype":"float32"}]}]}"#,
            "shape is too large",
        ),
        // Weights without sides: then nothing is the convolution of the boxes.
        (&SMALL.replace("\"ws\", \"shape\": [1, 1, 8, 4]", "\"ws\", \"shape\": []"), "is of no family"),
        (&SMALL.replace("\"Relu6\"", "\"CustomOp\""), "is an operator that the import does not know"),
        (&SMALL.replace("\"stem\", \"w1\"", "\"swish\", \"w1\""), "is part of a ring"),
        (
            &SMALL.replace("\"SAME\"", "\"ODD\"").replace("U0FNRQ==", "T0REIQ=="),
            "has padding that the import does not know",
        ),
        (&SMALL.replace("\"w1\", \"b1\"", "\"nothing\", \"b1\""), "reads nothing, which is not there"),
    ] {
        let said = refused(json);
        assert!(said.contains(expect), "{said:?} has no {expect:?}");
    }
    let odd = import(&tfjs(SMALL), &Options { input: Some((65, 32)) }).map(|made| made.family);
    assert!(odd.unwrap_err().to_string().contains("multiples of 32"));
}

#[test]
fn weights_lie_beside_the_model_and_nowhere_else() {
    let named = |name: &str| weight_files(format!(r#"{{"weightsManifest":[{{"paths":["{name}"]}}]}}"#).as_bytes());
    assert_eq!(named("group1-shard1of1.bin"), Ok(vec!["group1-shard1of1.bin".to_owned()]));
    for name in ["../key", "/etc/passwd", "a/b", ".", "..", "", "c:x", "a\\\\b"] {
        assert!(named(name).is_err(), "{name}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0..SMALL.len(), with in any::<u8>()) {
        let _ = import(&Source::Frozen(bytes.clone()), &Options::default());
        let _ = import(&Source::Tfjs { json: bytes.clone(), weights: bytes }, &Options::default());
        let mut json = SMALL.as_bytes().to_vec();
        json[at] = with;
        if let Ok(json) = std::str::from_utf8(&json) {
            let _ = import(&tfjs(json), &Options::default());
        }
    }
}
