//! Flower's legacy server with its FedAvg and clients in processes of their own; see `flower.py`. Where Flower is not installed it is
//! left out, aloud.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::Rate;

/// The program.
const PROGRAM: &str = include_str!("flower.py");
/// What it is installed from: its digest is in the name of where.
const PINS: &[u8] = include_bytes!("../../../prepare/flower.txt");
/// Rounds that are timed, of all clients each.
const ROUNDS: usize = 60;

/// What it says of itself.
#[derive(Debug, Deserialize)]
struct Said {
    version: String,
    updates_per_s: f64,
    updates_per_core_s: f64,
}

/// The Python that `make bench` prepares.
pub(super) fn python() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    let folder = format!("flower-{}", &picket_shared::crypto::sha256_hex(PINS)[..12]);
    let home = cache.join("picket").join(folder);
    home.join("ready").is_file().then(|| home.join("bin/python"))
}

/// Its version, and how many updates of so many 32-bit floats it takes in.
pub(super) fn run(python: &Path, parameters: usize, clients: usize) -> anyhow::Result<(String, Rate)> {
    let dir = tempfile::Builder::new().prefix("picket-flower-").tempdir()?;
    std::fs::write(dir.path().join("flower.py"), PROGRAM)?;
    let mut command = Command::new(python);
    // It keeps files about itself below the home directory.
    command.current_dir(dir.path()).env("FLWR_HOME", dir.path()).arg("flower.py");
    command.args(["--parameters", &parameters.to_string(), "--clients", &clients.to_string()]);
    command.args(["--rounds", &ROUNDS.to_string()]);
    let output = command.stdin(Stdio::null()).output().context("Flower's Python")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("Flower ended with {}: {}", output.status, said.lines().next_back().unwrap_or_default());
    }
    let said: Said = serde_json::from_slice(&output.stdout).context("Flower's figures")?;
    let rate = Rate { bytes: 4 * parameters, per_s: said.updates_per_s, per_core_s: said.updates_per_core_s };
    Ok((said.version, rate))
}
