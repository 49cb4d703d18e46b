//! A whole agent whose model gives what cannot be, and ten thousand candidates: it says how many of both in the camera's
//! `bad_input`, to the last box, and follows what is left.

use std::process::Command;

use picket_agent::report::Report;

use crate::onnx::Model;
use crate::{rows, saved};

/// Cells of a picture of 480 pixels, three boxes each: 14,175.
const BOXES: usize = 3 * (60 * 60 + 30 * 30 + 15 * 15);
/// Of them: with a number that is none, far too large, and of a score that is no probability.
const NONSENSE: usize = 3 * 1_000;
/// As many as suppression looks at.
const LOOKED_AT: usize = 1024;
const FRAMES: u64 = 20;

#[test]
fn what_a_model_gives_and_cannot_be_is_counted_in_the_cameras_bad_input() {
    let dir = tempfile::tempdir().unwrap();
    let row = |at: usize| match at {
        0..1_000 => [f32::NAN, 240.0, 32.0, 64.0, 0.9, 0.9],
        1_000..2_000 => [240.0, 240.0, 1e9, 1e9, 0.9, 0.9],
        2_000..3_000 => [240.0, 240.0, 32.0, 64.0, 0.9, f32::INFINITY],
        3_000..4_000 => [0.0; 6],
        _ => [240.0, 240.0, 32.0, 64.0, 0.9, 0.9],
    };
    let boxes: Vec<_> = (0..BOXES).map(row).collect();
    let given: Vec<(usize, &[f32])> = boxes.iter().map(|row| &row[..]).enumerate().collect();
    let data = rows(BOXES, 6, 0.0, &given);
    let model = Model::of_picture(480, 480).says("names", "{0: 'person'}").gives("output", &[1, BOXES as i64, 6], data);
    let model = saved(dir.path(), &model).model;
    let report = dir.path().join("report.json");
    let config = dir.path().join("agent.toml");
    let text = format!(
        "node = \"n\"\ndata_dir = \"{}\"\n[mqtt]\nbroker = \"mqtt://127.0.0.1:9\"\n[live]\nenabled = false\n[detector]\n\
         model = \"{model}\"\n[[camera]]\nname = \"c\"\nsource = \"synthetic:\"\npace = \"max\"\nsnapshots = false\n\
         gate = {{ enabled = false }}\n",
        dir.path().join("data").display()
    );
    std::fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_picket-agent"))
        .args(["run", "--frames", &FRAMES.to_string(), "--drain-timeout-s", "0", "--config"])
        .arg(&config)
        .arg("--report")
        .arg(&report)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Report = serde_json::from_slice(&std::fs::read(report).unwrap_or_else(|_| panic!("{said}"))).unwrap();
    let camera = &report.cameras[0];
    assert_eq!(camera.frames_detected, FRAMES, "{camera:?}");
    let expect =
        [("detection", NONSENSE as u64 * FRAMES), ("detection_over", (BOXES - 4_000 - LOOKED_AT) as u64 * FRAMES)];
    let counted: Vec<_> = camera.bad_input.iter().map(|(word, count)| (&**word, *count)).collect();
    assert_eq!(counted, expect);
    assert_eq!((camera.detections, camera.tracks), (FRAMES, 1), "the one person is followed");
    assert!(said.contains("boxes so far whose numbers cannot be; check it with model inspect"), "{said}");
}
