//! The precision gate on real models: the built-in one, made to compute in eight bits by these tests, well and badly.
//!
//! Behind each convolution stand a `QuantizeLinear` and a `DequantizeLinear` with that convolution's measured range
//! (`ranges.txt`, least and greatest by node, over the reference's pictures): what a quantiser does to activations. With
//! ranges eight times as wide it is what happens when calibration goes wrong.

use std::path::{Path, PathBuf};
use std::process::Command;

use picket_agent::detect::precision::compare;
use picket_agent::detect::{Config, Detector};
use picket_shared::event::Precision;
use picket_shared::exit::Exit;

use crate::onnx::{fields, message, node, number, text};

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The built-in model with its activations in eight bits; `stretch` makes every step so much too wide.
fn eight_bits(stretch: f32) -> Vec<u8> {
    let ranges = std::fs::read_to_string(here("tests/layouts/ranges.txt")).unwrap();
    let range = |output: &str| {
        let line = ranges.lines().find(|line| line.split(' ').next() == Some(output))?;
        let mut numbers = line.split(' ').skip(1).map(|number| number.parse::<f32>().unwrap());
        Some((numbers.next().unwrap().min(0.0), numbers.next().unwrap().max(0.0)))
    };
    let model = std::fs::read(here("models/centernet_u8_384x288_top100_w16.onnx")).unwrap();
    let mut quantised = 0;
    let mut graph_of = |graph: &[u8]| {
        let mut parts = Vec::new();
        for (field, whole, body) in fields(graph) {
            let is_node = field == 1;
            let parts_of = if is_node { fields(body) } else { Vec::new() };
            let value = |wanted: u64| {
                let found = parts_of.iter().find(|(field, ..)| *field == wanted);
                found.map(|(.., value)| std::str::from_utf8(value).unwrap().to_owned()).unwrap_or_default()
            };
            let output = value(2);
            let Some((least, most)) = range(&output).filter(|_| value(4) == "Conv") else {
                parts.extend_from_slice(whole);
                continue;
            };
            let [raw, steps, scale, zero] = ["raw", "steps", "scale", "zero"].map(|what| format!("{output}_{what}"));
            let renamed =
                parts_of.iter().map(|(field, whole, _)| if *field == 2 { text(2, &raw) } else { whole.to_vec() });
            parts.extend(message(1, &[&renamed.collect::<Vec<_>>().concat()]));
            parts.extend(message(1, &[&node("QuantizeLinear", &[&raw, &scale, &zero], &steps, &[])]));
            parts.extend(message(1, &[&node("DequantizeLinear", &[&steps, &scale, &zero], &output, &[])]));
            let step = (most - least).max(1e-6) / 255.0;
            let zero_point = (-least / step).round().clamp(0.0, 255.0) as u8;
            parts.extend(message(
                5,
                &[&[number(2, 1), text(8, &scale), message(9, &[&(step * stretch).to_le_bytes()])].concat()],
            ));
            parts.extend(message(5, &[&[number(2, 2), text(8, &zero), message(9, &[&[zero_point]])].concat()]));
            quantised += 1;
        }
        parts
    };
    let parts = fields(&model).into_iter().map(|(field, whole, body)| match field {
        7 => message(7, &[&graph_of(body)]),
        _ => whole.to_vec(),
    });
    let bytes = parts.collect::<Vec<_>>().concat();
    assert!(quantised > 80, "{quantised} convolutions were found");
    bytes
}

/// A model with the built-in head beside it, as `model quantize` leaves it.
fn saved(dir: &Path, name: &str, bytes: &[u8]) -> String {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    std::fs::copy(here("models/centernet_person.head.f32"), path.with_extension("head.f32")).unwrap();
    path.to_str().unwrap().into()
}

/// The reference's pictures, and each of them mirrored: enough people to judge by.
pub(crate) fn frames(dir: &Path) -> PathBuf {
    let folder = dir.join("frames");
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["same.png", "wide.png", "tall.png"] {
        let frame = picket_agent::pictures::read(&here("tests/reference").join(name)).unwrap();
        let mut picture = image::RgbImage::from_raw(frame.width, frame.height, frame.rgb).unwrap();
        picture.save(folder.join(name)).unwrap();
        image::imageops::flip_horizontal_in_place(&mut picture);
        picture.save(folder.join(format!("mirrored-{name}"))).unwrap();
    }
    folder
}

#[test]
fn a_sound_model_of_eight_bits_passes_and_a_collapsed_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let frames = frames(dir.path());
    let sound = saved(dir.path(), "sound.onnx", &eight_bits(1.0));
    let collapsed = saved(dir.path(), "collapsed.onnx", &eight_bits(8.0));
    let config = Config::default();
    let passes = compare(&config, "builtin", &sound, &frames, 100).unwrap();
    println!("sound: {passes:?}");
    let falls = compare(&config, "builtin", &collapsed, &frames, 100).unwrap();
    println!("collapsed: {falls:?}");
    assert_eq!(passes.refused, None);
    let why = falls.refused.unwrap();
    assert!(why.contains("agrees with the reference to") && why.contains("use the reference"), "{why}");

    // The same at an agent's start: the sound one runs, and in place of the collapsed one the reference does.
    let gated = |model: &str| Config {
        model: model.into(),
        reference: Some("builtin".into()),
        frames: Some(frames.clone()),
        ..Config::default()
    };
    let twin = Detector::load(&gated(&sound)).unwrap_or_else(|failure| panic!("{failure}")).twin();
    assert_eq!((twin.precision, twin.passed_over.len()), (Precision::Int8, 0));
    assert_eq!(twin.model, passes.model_b);
    for (model, frames, expect) in [
        (collapsed.as_str(), frames.clone(), "agrees with the reference to"),
        // Nothing to judge by is no reason to trust it.
        (&sound, dir.path().join("none"), "cannot be read"),
        ("/nowhere.onnx", frames.clone(), "cannot be read"),
    ] {
        let twin = Detector::load(&Config { frames: Some(frames), ..gated(model) }).map(|detector| detector.twin());
        let twin = twin.unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!((&twin.model, twin.precision), (&passes.model_a, Precision::Fp32), "the reference runs");
        let why = &twin.passed_over[&format!("model {model}")];
        assert!(why.contains(expect), "{why}");
    }
    // Without a reference there is nothing to fall back to, and nobody asked.
    assert_eq!(
        Detector::load(&Config { model: collapsed, ..config }).map(|d| d.twin().model).ok(),
        Some(falls.model_b)
    );
}

#[test]
fn the_command_compares_and_inspects_with_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let frames = frames(dir.path());
    let collapsed = saved(dir.path(), "collapsed.onnx", &eight_bits(8.0));
    let agent = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_picket-agent")).arg("model").args(args).output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        (output.status.code(), out, err)
    };
    let folder = frames.to_str().unwrap();
    let (code, out, _) = agent(&["compare", "builtin", "builtin", "--frames", folder, "--json"]);
    let seen: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, seen["agreement"].as_f64(), seen["ap50"].as_f64()), (Some(0), Some(1.0), Some(1.0)));
    let (code, out, err) = agent(&["compare", "builtin", &collapsed, "--frames", folder]);
    assert_eq!(code, Some(Exit::Data as i32), "{err}");
    assert!(out.contains("agreement 0.") && err.contains("agreement_min is 0.85"), "{out} {err}");
    let (code, out, _) = agent(&["inspect", "builtin"]);
    assert!(code == Some(0) && out.contains("centernet-top") && out.contains("head of 128 weights"), "{out}");
    let external = here("tests/reference/external.onnx");
    let (code, out, err) = agent(&["inspect", external.to_str().unwrap(), "--json"]);
    let seen: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, seen["bytes"].as_u64()), (Some(Exit::Data as i32), Some(264)));
    assert!(err.contains("in another file, which is refused"), "{err}");
    let (code, _, err) = agent(&["quantize", &collapsed, "--frames", folder, "--out", "/tmp/never.onnx"]);
    assert!(code == Some(Exit::Data as i32) && err.contains("is quantised already"), "{err}");
    let (code, _, err) = agent(&["quantize", "builtin", "--frames", folder, "--out", "/tmp/never.onnx"]);
    assert!(code == Some(Exit::Source as i32) && err.contains("has 6 frames, and ranges need 8"), "{err}");
}
