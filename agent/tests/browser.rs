//! The live view in a real browser: nothing without the token, a picture that moves with boxes in it, a clip that seeks.

// Helpers of a test may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Running, free_port, sample_video, wait_for};

#[test]
fn a_browser_shows_the_moving_picture_to_whoever_has_the_token_and_seeks_in_a_clip() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let port = free_port();
    let config = format!(
        "node = \"n\"\ndata_dir = \"{}\"\n[mqtt]\nbroker = \"mqtt://127.0.0.1:9\"\n[live]\nlisten = \"127.0.0.1:{port}\"\n\
         [[camera]]\nname = \"yard\"\nsource = \"file:{}\"\nrepeat = true\n",
        at("data").display(),
        sample_video().display()
    );
    std::fs::write(at("agent.toml"), config).unwrap();
    let agent = Command::new(env!("CARGO_BIN_EXE_picket-agent"))
        .args(["run", "--config"])
        .arg(at("agent.toml"))
        .stderr(std::fs::File::create(at("log")).unwrap())
        .spawn();
    let _agent = Running(agent.unwrap());
    let log = || std::fs::read_to_string(at("log")).unwrap();
    wait_for("the live view", || log().contains("live view at http://").then_some(()));
    let token = std::fs::read_to_string(at("data/live.token")).unwrap();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/browser/live.mjs");
    let output = Command::new("node")
        .arg(script)
        .args(["--url", &format!("http://127.0.0.1:{port}/"), "--token", token.trim(), "--camera", "yard"])
        .output()
        .expect("this test needs node: run it by `make test`, which prepares it");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said} {} {}", String::from_utf8_lossy(&output.stderr), log());
}
