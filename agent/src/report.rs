//! What one run of an agent did, as a JSON file: for the demo, the bench, and whoever compares two machines.

use std::path::Path;

use picket_shared::exit::{Exit, Failure};
use picket_shared::status::CameraStats;
use serde::{Deserialize, Serialize};

use crate::facts::{Watch, memory_bytes};
use crate::node::Node;
use crate::pipeline::Speed;

/// The figures of one run. Counters are this run's alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The frame path against the raw limit.
    pub speed: Speed,
    /// Each camera.
    pub cameras: Vec<CameraStats>,
    /// Events made durable.
    pub events_stored: u64,
    /// Events that could not be stored.
    pub events_lost: u64,
    /// Events sent more than once.
    pub events_resent: u64,
    /// Events of all boots that the archive does not have yet.
    pub events_owed: u64,
    /// The most memory that was resident.
    pub resident_bytes_max: u64,
}

impl Report {
    /// The figures now.
    pub fn of(node: &Node, watch: &Watch, speed: Speed) -> Report {
        Report {
            speed,
            cameras: watch.stats(),
            events_stored: node.stored(),
            events_lost: node.lost(),
            events_resent: node.resent(),
            events_owed: node.owed(),
            resident_bytes_max: memory_bytes("VmHWM:"),
        }
    }

    /// Writes it.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(self).expect("figures have string keys and no failing serialiser");
        std::fs::write(path, text).map_err(|error| {
            let sentence = format!("the report {} cannot be written ({error}); name another place", path.display());
            Failure::new(Exit::Disk, sentence)
        })
    }
}
