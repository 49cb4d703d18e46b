//! Which model an agent begins with: what the record says, or what is left where that cannot be loaded.
//!
//! Each start with a candidate is counted on the disk before the candidate is loaded, so that one that kills the agent is given
//! up by the starts themselves.

use std::fs;

use picket_shared::crypto::Digest;
use picket_shared::exit::{Exit, Failure};
use picket_shared::status::DetectorTwin;

use super::Device;
use super::record::{Phase, Place};
use super::shelf::{Found, Shelf};
use crate::config::Config;
use crate::detect::{self, Detector, Provider};

/// Loads what is to run, for all workers. What cannot be loaded is given up, down to the configuration's own model; an error is
/// that one's, or that there is no runtime at all.
pub fn load(shelf: &Shelf, factory: &detect::Config, found: &mut Found) -> Result<Vec<Detector>, Failure> {
    if found.record.start() && !keep(shelf, found) {
        // An attempt that is not counted is none.
        if found.record.work.as_ref().is_some_and(|work| work.phase == Phase::Probation) {
            found.record.go_back("model_disk", "the disk does not take that it is begun with".into());
        }
    }
    loop {
        let (place, release) = (found.record.active, found.record.release(found.record.active).cloned());
        let whole = match (place, &release) {
            (Place::Slot(slot), Some(release)) => shelf.check(slot, release),
            _ => Ok(()),
        };
        let config = shelf.detector(factory, place, release.as_ref());
        let loaded =
            whole.map_err(|sentence| Failure::new(Exit::Disk, sentence)).and_then(|()| Detector::load_workers(&config));
        let failure = match loaded {
            // Without a runtime no model can be blamed.
            Err(failure) if failure.exit != Exit::Runtime => failure,
            loaded => return loaded,
        };
        if found.record.failed_to_load(&failure.sentence).is_none() {
            return Err(failure);
        }
        tracing::error!("the assigned model is given up: {failure}");
        keep(shelf, found);
    }
}

fn keep(shelf: &Shelf, found: &mut Found) -> bool {
    match shelf.keep(&found.record, None) {
        Ok(()) => true,
        Err(error) => {
            found.problems.push(error.to_string());
            false
        }
    }
}

/// What this device is, for who judges an assignment.
pub fn device(config: &Config, detector: &DetectorTwin) -> Device {
    let providers = config.detector.providers.iter().chain([&Provider::Cpu]).map(Provider::to_string).collect();
    let minor = detector.runtime.split('.').nth(1).and_then(|minor| minor.parse().ok());
    Device {
        node: config.node.clone(),
        station: config.station(),
        arch: std::env::consts::ARCH.into(),
        providers,
        memory_bytes: memory_bytes(),
        runtime_api: minor.unwrap_or(0),
        factory: detect::model_bytes(&config.detector).ok().map(|bytes| Digest::of(&bytes)),
    }
}

/// All memory of this machine; 0 where it does not say.
fn memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
