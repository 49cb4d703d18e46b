//! An INT8 model as a station makes it: `model quantize` on frames of the sample video, by the real quantiser; then the
//! precision gate on other frames of it, also after the file was ruined; then an agent that is to run the ruined one.
//!
//! The quantiser's Python is prepared by `make test`; where it could not be, this is skipped and says so.

use std::path::Path;
use std::process::Command;

use picket_agent::detect::{Config, Detector};
use picket_shared::crypto::sha256_hex;
use picket_shared::event::Precision;
use picket_shared::exit::Exit;
use picket_shared::status::Twin;
use serde_json::Value;

use crate::common::{Running, cache, heard, mosquitto, sample_video, skipped, wait_for};
use crate::onnx::{fields, message};

/// An element type of tensors, by ONNX.
const INT8: u8 = 3;

/// So many frames at even distances of five seconds, from a moment of the video on.
fn cut(folder: &Path, start_s: u32, count: u32) {
    std::fs::create_dir(folder).unwrap();
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-loglevel", "error", "-ss", &start_s.to_string(), "-i"]).arg(sample_video());
    ffmpeg.args(["-vf", "fps=0.2", "-frames:v", &count.to_string(), "-q:v", "2"]).arg(folder.join("%02d.jpg"));
    assert!(ffmpeg.status().expect("ffmpeg, which `make test` prepares").success());
}

/// The model with every eight-bit weight set to nothing: it loads and runs, and finds nobody.
fn ruined(model: &[u8]) -> Vec<u8> {
    let mut emptied = 0;
    let mut tensor = |body: &[u8]| {
        let parts = fields(body);
        // Field 2 is the element type, a whole number of one byte here; field 9 holds the elements.
        let eight_bits = parts.iter().any(|(field, whole, _)| *field == 2 && whole.last() == Some(&INT8));
        let parts = parts.iter().map(|(field, whole, raw)| match field {
            9 if eight_bits && raw.len() > 100 => {
                emptied += 1;
                message(9, &[&vec![0; raw.len()]])
            }
            _ => whole.to_vec(),
        });
        message(5, &[&parts.collect::<Vec<_>>().concat()])
    };
    let mut graph = |body: &[u8]| {
        let parts = fields(body).into_iter();
        let parts = parts.map(|(field, whole, body)| if field == 5 { tensor(body) } else { whole.to_vec() });
        message(7, &[&parts.collect::<Vec<_>>().concat()])
    };
    let parts = fields(model).into_iter();
    let parts = parts.map(|(field, whole, body)| if field == 7 { graph(body) } else { whole.to_vec() });
    let bytes = parts.collect::<Vec<_>>().concat();
    assert!(emptied > 30, "{emptied} weights were found");
    bytes
}

#[test]
fn a_model_quantised_on_this_stations_frames_is_accepted_and_a_ruined_one_falls_back_in_health() {
    let pins = include_str!("../../quantizer/requirements.txt");
    let home = cache().join(format!("quantizer-{}", &sha256_hex(pins.as_bytes())[..12]));
    if !home.join("ready").is_file() {
        return skipped(&format!(
            "no quantiser in {}; run the tests by `make test`, which prepares it",
            home.display()
        ));
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    // Judged by frames that no range was measured on.
    cut(&dir.path().join("measured"), 0, 12);
    cut(&dir.path().join("judged"), 2, 15);
    let (measured, judged, int8) = (at("measured"), at("judged"), at("int8.onnx"));
    let model = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_picket-agent")).arg("model").args(args).output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        println!("model {}: {out}{err}", args.join(" "));
        (output.status.code().unwrap(), out, err)
    };

    let (code, out, err) = model(&["quantize", "builtin", "--frames", &measured, "--out", &int8]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("by 12 frames, its head ") && out.contains("model compare builtin"), "{out}");
    let (code, out, err) = model(&["inspect", &int8, "--json"]);
    let seen: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, seen["graph"]["precision"].as_str()), (0, Some("int8")), "{out} {err}");
    let bytes = std::fs::read(&int8).unwrap();
    assert!(bytes.len() < 2_700_000, "a byte for a weight, of the two before: {}", bytes.len());

    let ruined_bytes = ruined(&bytes);
    let broken = at("ruined.onnx");
    std::fs::write(&broken, ruined_bytes).unwrap();
    std::fs::copy(at("int8.head.f32"), at("ruined.head.f32")).unwrap();

    let (code, out, err) = model(&["compare", "builtin", &int8, "--frames", &judged, "--json"]);
    let seen: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &seen["refused"]), (0, &Value::Null), "{out} {err}");
    assert!(seen["agreement"].as_f64().unwrap() >= 0.85 && seen["boxes_a"].as_u64().unwrap() > 60, "{out}");
    let (code, out, err) = model(&["compare", "builtin", &broken, "--frames", &judged, "--json"]);
    assert_eq!(code, Exit::Data as i32, "{out} {err}");
    assert!(err.contains("agrees with the reference to 0.000") && err.contains("use the reference"), "{err}");

    // An agent's start with the sound one.
    let gated = |model: &str| Config {
        model: model.into(),
        reference: Some("builtin".into()),
        frames: Some(judged.clone().into()),
        ..Config::default()
    };
    let twin = Detector::load(&gated(&int8)).unwrap_or_else(|failure| panic!("{failure}")).twin();
    assert_eq!((twin.precision, twin.passed_over.len()), (Precision::Int8, 0));
    assert_eq!(twin.model, sha256_hex(&bytes)[..12]);
    let reference = Detector::load(&Config::default()).unwrap_or_else(|failure| panic!("{failure}")).twin().model;

    // And a whole agent that is to run the ruined one: it says so aloud, watches with the reference, and its health has why.
    let (_broker, port) = mosquitto(dir.path());
    let (_heard, mut lines) = heard(port, &["picket/v1/+/+/twin"]);
    let config = format!(
        "node = \"n\"\ndata_dir = \"{}\"\n[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\n[detector]\nmodel = \"{broken}\"\n\
         reference = \"builtin\"\nframes = \"{judged}\"\n[live]\nenabled = false\n[[camera]]\nname = \"c\"\nsource = \
         \"synthetic:\"\nsnapshots = false\n",
        at("data")
    );
    std::fs::write(at("agent.toml"), config).unwrap();
    let log = std::fs::File::create(at("log")).unwrap();
    let agent = Command::new(env!("CARGO_BIN_EXE_picket-agent"))
        .args(["run", "--config", &at("agent.toml")])
        .stderr(log)
        .spawn();
    let _agent = Running(agent.unwrap());
    let log = || std::fs::read_to_string(at("log")).unwrap();
    wait_for("the refusal", || log().contains("; running the reference builtin").then_some(()));
    let line = lines.next().unwrap_or_else(|| panic!("{}", log()));
    let twin: Twin = serde_json::from_str(line.split_once(' ').unwrap().1).unwrap();
    assert_eq!((&twin.detector.model, twin.detector.precision), (&reference, Precision::Fp32), "the reference runs");
    let why = &twin.detector.passed_over[&format!("model {broken}")];
    assert!(why.contains("agrees with the reference to 0.000"), "{why}");
}
