//! `picket-agent model import` and `compress`, as somebody uses them: small models of each family, which the runtime then
//! runs, and the default detector from its npm package, byte for byte, where `make model` has fetched that.

// The allowance for tests does not reach the helpers between them.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use picket_agent::detect::{Config, Provider, inspect, precision};
use picket_shared::compress;
use serde_json::Value;

fn agent(arguments: &[&str]) -> (i32, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_picket-agent")).args(arguments).output().unwrap();
    let said = [out.stdout, out.stderr].concat();
    (out.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(name)
}

/// What constants hold that are no weights.
fn fixed(name: &str, dims: usize) -> Option<Vec<f32>> {
    Some(match name {
        "three" => vec![3.0],
        "sixth" => vec![1.0 / 6.0],
        "four" => vec![4.0],
        "last" => vec![0.0, 2.0, 3.0, 1.0],
        "first" => vec![0.0, 3.0, 1.0, 2.0],
        "around" => vec![0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0],
        "smaller" => vec![4.0, 4.0],
        "parts" => vec![2.0, 8.0],
        "axis" => vec![1.0],
        "scale" => vec![2.0 / 255.0],
        "shift" => vec![1.0],
        "variance" => vec![1.0; dims],
        _ if name.ends_with("/x") => [1.0, 2.0, 0.5][..dims].to_vec(),
        _ if name.ends_with("/s") => vec![0.3; dims],
        _ => return None,
    })
}

/// A small model with its weights beside it.
fn small(dir: &Path, name: &str) -> PathBuf {
    let json = std::fs::read(here(name)).unwrap();
    let model: Value = serde_json::from_slice(&json).unwrap();
    let mut weights = Vec::new();
    for (number, weight) in model["weightsManifest"][0]["weights"].as_array().unwrap().iter().enumerate() {
        let count: u64 = weight["shape"].as_array().unwrap().iter().map(|side| side.as_u64().unwrap()).product();
        let drawn = || (0..count).map(|n| ((n as usize * 7 + number * 3) % 23) as f32 / 40.0 - 0.25).collect();
        for value in fixed(weight["name"].as_str().unwrap(), count as usize).unwrap_or_else(drawn) {
            match weight["dtype"].as_str().unwrap() {
                "int32" => weights.extend((value as i32).to_le_bytes()),
                _ => weights.extend(half::f16::from_f32(value).to_le_bytes()),
            }
        }
    }
    std::fs::write(dir.join("weights.bin"), weights).unwrap();
    std::fs::write(dir.join(name), json).unwrap();
    dir.join(name)
}

#[test]
fn a_model_of_each_family_becomes_one_that_runs() {
    for (name, family, input, picture, numbers) in [
        ("centernet.json", "CenterNet", Some("64x32"), (64, 32), 9),
        ("nanodet.json", "NanoDet", Some("64x64"), (64, 64), 7),
        ("ssd.json", "SSD", None, (300, 300), 7),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (model, out) = (small(dir.path(), name), dir.path().join("made.onnx"));
        let mut arguments = vec!["model", "import", model.to_str().unwrap(), "--out", out.to_str().unwrap()];
        arguments.extend(input.iter().flat_map(|size| ["--input", *size]));
        let (code, said) = agent(&arguments);
        assert_eq!((code, said.contains(family)), (0, true), "{said}");
        let config =
            Config { model: out.to_str().unwrap().into(), providers: vec![Provider::Cpu], ..Config::default() };
        let seen = inspect::inspect(&config).unwrap();
        assert!(seen.failure.is_none(), "{name}: {seen}");
        let text = seen.to_string();
        assert!(text.contains("centernet-top"), "{name}: {text}");
        assert!(text.contains(&format!("{} x {}", picture.0, picture.1)), "{name}: {text}");
        assert_eq!(std::fs::read(dir.path().join("made.head.f32")).unwrap().len(), 4 * numbers, "{name}");
    }
}

#[test]
fn a_yolov8_with_its_head_exposed_finds_what_it_found() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out, labels) = (here("yolov8.onnx"), dir.path().join("exposed.onnx"), dir.path().join("labels.txt"));
    std::fs::write(&labels, "person\nbicycle\ncar\n").unwrap();
    let (code, said) = agent(&["model", "expose", model.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    let (model, out) = (model.to_str().unwrap(), out.to_str().unwrap());
    let config =
        Config { model: model.into(), labels: Some(labels), providers: vec![Provider::Cpu], ..Config::default() };
    let frames = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
    let seen = precision::compare(&config, model, out, &frames, 8).unwrap().agreement;
    assert!(seen.boxes_a > 0 && seen.agreement > 0.99, "{seen:?}");
}

#[test]
fn the_default_detector_comes_out_of_its_package_byte_for_byte() {
    let package = common::cache().join("human-3.3.6");
    if !package.join("centernet.bin").is_file() {
        eprintln!(
            "SKIPPED: the npm package of the default detector is not in {}; make model fetches it",
            package.display()
        );
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (package.join("centernet.json"), dir.path().join("made.onnx"));
    let (code, said) = agent(&["model", "import", model.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let same = |made: PathBuf, kept: &str| std::fs::read(made).unwrap() == std::fs::read(models.join(kept)).unwrap();
    assert!(same(out.clone(), "centernet_u8_384x288_top100_w16.onnx"));
    assert!(same(out.with_extension("head.f32"), "centernet_person.head.f32"));
}

#[test]
fn what_is_no_model_ends_in_a_sentence_and_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("odd.pb");
    std::fs::write(&file, b"name: picket").unwrap();
    let out = dir.path().join("made.onnx");
    let (code, said) = agent(&["model", "import", file.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert!(code == 65 && said.contains("odd.pb"), "{code} {said}");
    assert!(!out.exists());
}

#[test]
fn a_compressed_release_is_a_model_that_agrees_with_the_one_it_is_made_from() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("release.onnx");
    let frames = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
    let (code, said) = agent(&[
        "model",
        "compress",
        "builtin",
        "--out",
        out.to_str().unwrap(),
        "--step",
        "0.9,0.25",
        "--frames",
        frames.to_str().unwrap(),
    ]);
    assert_eq!(code, 0, "{said}");
    let row = |name: &str| -> Vec<f64> {
        let row = said.lines().find(|line| line.starts_with(name)).unwrap();
        row.split_whitespace().skip(2).map(|figure| figure.parse().unwrap()).collect()
    };
    let (coarse, fine) = (row("step 0.9"), row("step 0.25"));
    assert!(coarse[0] < fine[0] && coarse[3] < fine[3], "smaller, and further from it: {said}");
    assert!(fine[2] > 8.0, "more than eight times smaller than 32 bits: {said}");
    assert!(fine[5] > 0.8, "and it agrees: {said}");
    // What travels gives the release, which is an ordinary file.
    let (travels, release) = (std::fs::read(out.with_extension("deep")).unwrap(), std::fs::read(&out).unwrap());
    assert_eq!(compress::decode(&travels, None, release.len()).unwrap(), release);
    let (code, said) = agent(&["model", "inspect", out.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
}
