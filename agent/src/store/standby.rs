//! The file that keeps what this node stands by for: beside the database, because a duty is larger than a row may be. It
//! decides nothing; a file that cannot be read is as none, and is said.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use picket_shared::keyfile::{self, KeyfileError};
use picket_shared::limits::{DUTY_BYTES_MAX, STANDBY_BYTES_MAX, STANDBY_DUTIES_MAX};

use crate::duty::Memory;

/// As JSON, what is said in CBOR takes twice as much at most.
const BYTES_MAX: u64 = 2 * (STANDBY_BYTES_MAX + STANDBY_DUTIES_MAX * DUTY_BYTES_MAX) as u64;

/// The file of the memory in `dir`.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.with_added_extension("standby.json")
}

/// What was kept; nothing where nothing was. The error is a sentence.
pub(super) fn read(path: &Path) -> Result<Option<Memory>, String> {
    let sentence = |what: String| {
        format!(
            "{} cannot be used ({what}); until the coordinator says again what to stand by for, this node stands in for nobody",
            path.display()
        )
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(sentence(error.to_string())),
    };
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| sentence(error.to_string()))?;
    let memory: Memory = serde_json::from_str(&text).map_err(|error| sentence(error.to_string()))?;
    memory.check().map_err(sentence)?;
    Ok(Some(memory))
}

/// Keeps it, whole or not at all, and for nobody else to read: it names the neighbours' cameras.
pub(super) fn write(path: &Path, memory: &Memory) -> Result<(), KeyfileError> {
    keyfile::write_secret(path, &serde_json::to_vec(memory).expect("names, numbers and texts"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::duty::{Duty, How, Standby, StandbyDuty};

    fn memory() -> Memory {
        let (station, home) = ("gate".parse().unwrap(), "a".parse().unwrap());
        let ranks = vec!["b".parse().unwrap()];
        let duty = StandbyDuty { station, home, ranks, how: How::Camera, cameras: None, goal: None };
        let told =
            Duty { station: "gate".parse().unwrap(), settings: "x = 1\n".into(), model: "m".into(), need_fps: 5 };
        Memory { standby: Standby { leader: 3, duties: vec![duty] }, duties: [("a".parse().unwrap(), told)].into() }
    }

    #[test]
    fn what_was_kept_is_read_and_what_is_damaged_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(&dir.path().join("memory"));
        assert_eq!(read(&path), Ok(None));
        write(&path, &memory()).unwrap();
        assert_eq!(read(&path), Ok(Some(memory())));
        let mut large = memory();
        large.duties.values_mut().for_each(|duty| duty.model = "m".repeat(9_999));
        std::fs::write(&path, serde_json::to_vec(&large).unwrap()).unwrap();
        assert!(read(&path).unwrap_err().contains("stands in for nobody"));
        std::fs::write(&path, "{").unwrap();
        assert!(read(&path).unwrap_err().contains("cannot be used (EOF"));
    }
}
