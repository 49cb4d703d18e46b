//! A second detector that is learned from, in a running agent: real process, real video, the built-in model as its own teacher. And
//! one that is no model, without which everything else goes on.

// Helpers of a test may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Running, sample_video, wait_for};
use picket_agent::report::Report;
use picket_shared::exit::Exit;
use serde_json::Value;

/// Half of the sample video.
const FRAMES: u64 = 400;

/// What an agent did with the sample video whose configuration has this too: its report, the status of learning, and its log.
fn watched(dir: &Path, teacher: &str) -> (Report, Value, String) {
    let at = |name: &str| dir.join(name);
    let text = format!(
        "node = \"n\"\ndata_dir = \"{}\"\n[mqtt]\nbroker = \"mqtt://127.0.0.1:9\"\n[live]\nenabled = false\n\
         [learn]\nenabled = true\ncpu_percent = 100.0\n[learn.teacher]\n{teacher}\n\
         [[camera]]\nname = \"yard\"\nsource = \"file:{}\"\npace = \"max\"\nsnapshots = false\n\
         [camera.gate]\nenabled = false\n",
        at("data").display(),
        sample_video().display()
    );
    std::fs::write(at("agent.toml"), text).unwrap();
    let agent = Command::new(env!("CARGO_BIN_EXE_picket-agent"))
        .args(["run", "--drain-timeout-s", "0", "--frames", &FRAMES.to_string(), "--config"])
        .arg(at("agent.toml"))
        .arg("--report")
        .arg(at("report.json"))
        .stderr(std::fs::File::create(at("log")).unwrap())
        .spawn();
    let mut agent = Running(agent.unwrap());
    let ended = wait_for("the agent's end", || agent.0.try_wait().unwrap());
    let log = std::fs::read_to_string(at("log")).unwrap();
    // There is no archive here that could have its events.
    assert_eq!(ended.code(), Some(Exit::Unfinished as i32), "{log}");
    let json = |name: &str| serde_json::from_slice(&std::fs::read(at(name)).unwrap()).unwrap();
    let status = json("data/learn/status.json");
    (serde_json::from_value(json("report.json")).unwrap(), status, log)
}

/// Every frame was looked at, whatever else was done.
fn looked_at_all(report: &Report) {
    let camera = &report.cameras[0];
    assert_eq!((camera.frames, camera.frames_detected, camera.frames_dropped), (FRAMES, FRAMES, 0));
}

#[test]
fn a_device_learns_from_what_a_second_detector_says_of_frames_that_it_has() {
    let dir = tempfile::tempdir().unwrap();
    // The same model sees the same: whom it is hardly sure of is taught to be nobody.
    let (report, status, log) =
        watched(dir.path(), "model = \"builtin\"\nevery_s = 1\nsure = 0.6\nunsure = 0.55\ncpu_percent = 100.0");
    println!("{status:#}");
    looked_at_all(&report);
    let count = |of: &Value, key: &str| of[key].as_u64().unwrap_or_else(|| panic!("{key}: {status}"));
    let (teacher, examples) = (&status["teacher"], &status["examples"]);
    // How often depends on how fast the video goes by; which label is kept, on what the tracker has said before.
    assert!(count(teacher, "frames") >= 1, "{status}\n{log}");
    assert!(count(teacher, "frames") < FRAMES / 2, "it looks rarely: {status}");
    let said = count(teacher, "people") + count(teacher, "nobody");
    let kept = count(examples, "people_taught") + count(examples, "nobody_taught");
    assert!((1..=said).contains(&kept), "{status}\n{log}");
    assert_eq!((&teacher["problem"], count(teacher, "frames_refused")), (&Value::Null, 0));
    assert!(teacher["model"].as_str().is_some_and(|model| model.len() == 12), "{status}");
    assert!(!dir.path().join("data/learn/teacher.attempts").exists(), "it was survived");
}

#[test]
fn a_teacher_that_is_no_model_is_told_in_a_sentence_and_everything_else_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("teacher.onnx");
    std::fs::write(&file, b"no model at all").unwrap();
    let (report, status, log) = watched(dir.path(), &format!("model = \"{}\"", file.display()));
    looked_at_all(&report);
    let problem = status["teacher"]["problem"].as_str().unwrap_or_else(|| panic!("{status}"));
    assert!(problem.contains("learning goes on without it: the model "), "{problem}");
    assert!(problem.contains(&file.display().to_string()) && log.contains("the teacher cannot be had"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert!(status["examples"]["people_tracked"].as_u64() > Some(0), "it learns from the tracker: {status}");
    assert_eq!(status["teacher"]["frames"], 0);
    assert!(!dir.path().join("data/learn/teacher.attempts").exists(), "a file that is no model ended nothing");
}

#[test]
fn the_doctor_says_whether_a_teacher_looks_and_as_often_as_it_is_to() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    let said = |teacher: &str| {
        let source = "[[camera]]\nname = \"c\"\nsource = \"synthetic:?people=1\"\nsnapshots = false\n";
        let text = format!("[learn]\nenabled = true\n[learn.teacher]\n{teacher}\n{source}");
        std::fs::write(&file, text).unwrap();
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_picket-agent"));
        let done = doctor.args(["doctor", "--config"]).arg(&file).arg("--data-dir").arg(dir.path()).output().unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        text.lines().find(|line| line.contains(" teacher ")).map(str::to_owned).unwrap_or_else(|| panic!("{text}"))
    };
    let fine = said("model = \"builtin\"\nevery_s = 3600");
    assert!(fine.starts_with("ok ") && fine.contains("ms a frame"), "{fine}");
    // A thousandth of a processor for a frame a second: no machine is that fast.
    let rarely = said("model = \"builtin\"\nevery_s = 1\ncpu_percent = 0.1");
    assert!(rarely.starts_with("warn ") && rarely.contains("and not every 1"), "{rarely}");
    let none = said(&format!("model = \"{}\"", file.display()));
    assert!(none.starts_with("FAIL ") && none.contains(&file.display().to_string()), "{none}");
}
