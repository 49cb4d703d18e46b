//! The same job written in Python with the usual libraries, run and measured beside the agent; see `peer.py`.
//!
//! Where its libraries are not installed it is left out, aloud. It never changes what is measured of the agent.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// The program.
const PROGRAM: &str = include_str!("peer.py");
/// The model and its head, as the agent has them built in.
const MODEL: &[u8] = include_bytes!("../../../../agent/models/centernet_u8_384x288_top100_w16.onnx");
const HEAD: &[u8] = include_bytes!("../../../../agent/models/centernet_person.head.f32");

/// What it says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Peer {
    /// Frames through its loop.
    pub(super) frames: u64,
    /// Messages that it published.
    pub(super) messages: u64,
    /// Frames a second.
    pub(super) path_fps: f64,
    /// Calls of `session.run` a second in a tight loop, before and after.
    pub(super) raw_fps: f64,
    /// One by the other.
    pub(super) ratio: f64,
    /// Processor time for a frame outside of `session.run`. OpenCV decodes in the same process, so it is in it.
    pub(super) cpu_ms_outside_inference: f64,
    /// From its start to the first detection, without the raw loop.
    pub(super) first_detection_ms: f64,
    /// The most memory that was resident.
    pub(super) resident_bytes_max: u64,
}

/// The Python that `make bench` prepares.
pub(super) fn python() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    Some(cache.join("picket/peer/bin/python")).filter(|python| python.is_file())
}

/// Runs it over so many frames of a video, with a broker on this machine at `port`.
pub(super) async fn run(python: &Path, dir: &Path, video: &Path, port: u16, frames: u64) -> anyhow::Result<Peer> {
    let files = [("peer.py", PROGRAM.as_bytes()), ("model.onnx", MODEL), ("head.f32", HEAD)];
    for (name, bytes) in files {
        std::fs::write(dir.join(name), bytes)?;
    }
    let mut command = tokio::process::Command::new(python);
    command.current_dir(dir).args(["peer.py", "--model", "model.onnx", "--head", "head.f32", "--video"]).arg(video);
    command.args(["--port", &port.to_string(), "--frames", &frames.to_string()]);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.context("the peer's Python")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("the peer ended with {}: {}", output.status, said.lines().next_back().unwrap_or_default());
    }
    serde_json::from_slice(&output.stdout).context("the peer's figures")
}
