//! Every profile of `firmware-configs/` is one that the program it is for accepts.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use picket_agent::config::{Config as AgentConfig, Overrides};
use picket_coordinator::config::{Config as CoordinatorConfig, Flags};

/// The files of this name, one a device kind.
fn profiles(name: &str) -> Vec<PathBuf> {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-configs");
    let kinds = std::fs::read_dir(configs).unwrap().map(|kind| kind.unwrap().path().join(name));
    kinds.filter(|path| path.is_file()).collect()
}

#[test]
fn every_agent_profile_is_accepted() {
    let profiles = profiles("agent.toml");
    assert!(profiles.len() >= 2, "{profiles:?}");
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
