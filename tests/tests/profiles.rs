//! Every profile of `firmware-configs/` is one that the program it is for accepts, and runs with.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use picket_agent::config::{Config as AgentConfig, Overrides};
use picket_coordinator::config::{Config as CoordinatorConfig, Flags};
use picket_tests::{binary, run_within, text};

/// The kinds of device that there must be a profile for.
const KINDS: [&str; 6] =
    ["jetson-nano", "jetson-orin-nano", "jetson-agx-orin", "raspberry-pi-5", "drone-companion", "x86"];
const PATIENCE: Duration = Duration::from_secs(120);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-configs")
}

/// The files of this name, one a device kind.
fn profiles(name: &str) -> Vec<PathBuf> {
    let kinds = std::fs::read_dir(folder()).unwrap().map(|kind| kind.unwrap().path().join(name));
    kinds.filter(|path| path.is_file()).collect()
}

#[test]
fn every_agent_profile_is_accepted_and_each_kind_of_device_has_one() {
    let profiles = profiles("agent.toml");
    for kind in KINDS {
        assert!(profiles.contains(&folder().join(kind).join("agent.toml")), "{kind} has no profile");
    }
    for path in profiles {
        AgentConfig::read(Some(&path), &Overrides::default()).unwrap();
    }
}

#[test]
fn every_coordinator_profile_is_accepted() {
    let profiles = profiles("coordinator.toml");
    assert!(!profiles.is_empty());
    for path in profiles {
        CoordinatorConfig::read(&Flags { config: Some(path), ..Flags::default() }).unwrap();
    }
}

#[test]
fn a_key_that_is_not_known_is_refused_in_every_table_of_every_profile() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    for profile in profiles("agent.toml") {
        let text = std::fs::read_to_string(&profile).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let heads = lines.iter().enumerate().filter(|(_, line)| line.starts_with('['));
        for at in std::iter::once(0).chain(heads.map(|(at, _)| at + 1)) {
            let mut lines = lines.clone();
            lines.insert(at, "colour_of_the_case = 1");
            std::fs::write(&path, lines.join("\n")).unwrap();
            let refused = AgentConfig::read(Some(&path), &Overrides::default());
            let sentence = refused.expect_err(&format!("{} line {at}", profile.display())).to_string();
            assert!(sentence.contains("colour_of_the_case"), "{sentence}");
        }
    }
}

/// The whole program, with everything of the profile but its cameras and its disk. Providers that are not here are passed over,
/// as on a device whose runtime lacks them.
#[test]
fn the_agent_runs_with_every_profile() {
    let runs = profiles("agent.toml").into_iter().map(|profile| {
        let dir = tempfile::tempdir().unwrap();
        let mut agent = Command::new(binary("picket-agent"));
        // Nobody is in the scene, so nothing waits for a coordinator.
        agent.args(["run", "--source", "synthetic:?people=0", "--frames", "3", "--config"]).arg(&profile);
        let output = run_within(agent.arg("--data-dir").arg(dir.path()), PATIENCE);
        assert!(output.status.success(), "{}: {}", profile.display(), text(&output));
        text(&output)
    });
    assert!(runs.filter(|said| said.contains("watching")).count() >= KINDS.len());
}
