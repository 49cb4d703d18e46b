//! The built-in model made INT8 from frames of the video, beside itself: time and agreement, by the agent's own commands.
//!
//! Where its quantiser cannot be had the row is left out, aloud. Nothing of it is used by the other rows.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::demo::process::beside_us;

/// One frame of so many is taken: 67 of the sample, of which the quantiser measures 64.
const EVERY: u32 = 12;
/// Frames that are taken at most.
const FRAMES_MAX: u32 = 128;

/// One comparison of both over the frames: what is used here of `picket-agent model compare --json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Int8 {
    /// Frames that both were shown.
    pub(super) frames: u64,
    /// Mean of `session.run` of the built-in model.
    pub(super) ms_a: f64,
    /// The same of the INT8 one.
    pub(super) ms_b: f64,
    /// See `picket_agent::detect::agreement`.
    pub(super) agreement: f64,
    /// Average precision of the INT8 one, the built-in one's boxes taken for true.
    pub(super) ap50: f64,
    /// Why the INT8 one would not be activated.
    pub(super) refused: Option<String>,
}

/// Makes the model in `dir` once, and compares so often.
pub(super) async fn measure(dir: &Path, video: &Path, runs: usize) -> anyhow::Result<Vec<Int8>> {
    let (frames, model) = (dir.join("frames"), dir.join("int8.onnx"));
    std::fs::create_dir(&frames)?;
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-loglevel", "error", "-i"]).arg(video);
    ffmpeg.args(["-vf", &format!("select=not(mod(n\\,{EVERY}))"), "-fps_mode", "passthrough"]);
    ffmpeg.args(["-frames:v", &FRAMES_MAX.to_string(), "-q:v", "2"]).arg(frames.join("%04d.jpg"));
    output(ffmpeg).await?;
    let mut quantize = Command::new(beside_us("picket-agent")?);
    quantize.args(["model", "quantize", "builtin", "--frames"]).arg(&frames).arg("--out").arg(&model);
    output(quantize).await?;
    let mut compared = Vec::new();
    for number in 1..=runs.max(1) {
        eprintln!("frames: INT8, run {number}");
        let mut compare = Command::new(beside_us("picket-agent")?);
        compare.args(["model", "compare", "builtin"]).arg(&model).arg("--frames").arg(&frames).arg("--json");
        // One that would not be activated is a figure too.
        let said = compare.stdin(Stdio::null()).kill_on_drop(true).output().await.context("picket-agent")?;
        compared.push(serde_json::from_slice(&said.stdout).with_context(|| last_line(&said.stderr))?);
    }
    Ok(compared)
}

async fn output(mut command: Command) -> anyhow::Result<()> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let said = command.stdin(Stdio::null()).kill_on_drop(true).output().await.with_context(|| program.clone())?;
    if !said.status.success() {
        bail!("{program} ended with {}: {}", said.status, last_line(&said.stderr));
    }
    Ok(())
}

fn last_line(said: &[u8]) -> String {
    String::from_utf8_lossy(said).lines().next_back().unwrap_or_default().to_owned()
}
