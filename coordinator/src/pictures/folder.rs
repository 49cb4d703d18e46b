//! Requests for pictures and what came of them, as files: `pictures/<id>/` below the data directory holds `request.json`,
//! `state.json` and the picture. Only the coordinator's user may look in. The command line and the running coordinator both
//! work on them: one writes requests, the other what becomes of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use picket_shared::ids::{CameraId, EventId, NodeId, RequestId};
use picket_shared::keyfile::{self, KeyfileError};
use picket_shared::picture::{Stage, What};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Requests that are kept, whatever their size.
pub const REQUESTS_MAX: usize = 1_000;

/// What somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Which device.
    pub node: NodeId,
    /// Who asks.
    pub who: String,
    /// Why.
    pub why: String,
    /// What.
    pub what: What,
    /// Of this event.
    pub event: Option<EventId>,
    /// Of this camera.
    pub camera: Option<CameraId>,
    /// At this moment, milliseconds since 1970.
    pub moment_ms: Option<u64>,
    /// With people as they are.
    pub clear: bool,
    /// When it was asked, seconds since 1970.
    pub asked_s: u64,
    /// Until when it stands.
    pub until_s: u64,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How far it is.
    pub stage: Stage,
    /// Why it failed, in a word.
    pub reason: Option<String>,
    /// The same in a sentence.
    pub detail: Option<String>,
    /// The picture's file, in the same folder.
    pub file: Option<String>,
    /// Its bytes.
    pub bytes: u32,
    /// Its SHA-256.
    pub digest: Option<String>,
    /// When it was taken, milliseconds since 1970.
    pub taken_ms: u64,
    /// People in it cannot be recognised.
    pub blurred: bool,
}

/// All requests of a site.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// Those below this data directory.
    pub fn below(data_dir: &Path) -> Folder {
        Folder(data_dir.join("pictures"))
    }

    /// Every request, by its id.
    pub fn list(&self) -> Result<Vec<RequestId>, KeyfileError> {
        keyfile::make_dir(&self.0)?;
        let denied = |error: std::io::Error| KeyfileError::Disk(self.0.clone(), error.to_string());
        let names = fs::read_dir(&self.0).map_err(denied)?.flatten();
        let mut ids: Vec<_> =
            names.filter_map(|name| RequestId::new(name.file_name().to_string_lossy()).ok()).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// What was asked.
    pub fn request(&self, id: &RequestId) -> Result<Request, KeyfileError> {
        self.read(id, "request.json")
    }

    /// What became of it; nothing where nobody has looked at it yet.
    pub fn outcome(&self, id: &RequestId) -> Result<Option<Outcome>, KeyfileError> {
        match self.read(id, "state.json") {
            Err(KeyfileError::Missing(_)) => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Keeps a request.
    pub fn ask(&self, id: &RequestId, request: &Request) -> Result<(), KeyfileError> {
        keyfile::make_dir(&self.0)?;
        keyfile::make_dir(&self.of(id))?;
        self.write(id, "request.json", request)
    }

    /// Keeps what became of it.
    pub fn settle(&self, id: &RequestId, outcome: &Outcome) -> Result<(), KeyfileError> {
        self.write(id, "state.json", outcome)
    }

    /// Keeps a picture.
    pub fn put(&self, id: &RequestId, name: &str, bytes: &[u8]) -> Result<(), KeyfileError> {
        keyfile::write_secret(&self.of(id).join(name), bytes)
    }

    /// A picture that came.
    pub fn get(&self, id: &RequestId, name: &str) -> Result<Vec<u8>, KeyfileError> {
        let path = self.of(id).join(name);
        fs::read(&path).map_err(|error| KeyfileError::Disk(path, error.to_string()))
    }

    /// Deletes a request with all that came of it.
    pub fn forget(&self, id: &RequestId) -> Result<(), KeyfileError> {
        let path = self.of(id);
        fs::remove_dir_all(&path).map_err(|error| KeyfileError::Disk(path, error.to_string()))
    }

    /// How many bytes a request takes, and when it changed last.
    pub fn size(&self, id: &RequestId) -> (u64, SystemTime) {
        let files = fs::read_dir(self.of(id)).into_iter().flatten().flatten().filter_map(|file| file.metadata().ok());
        files.fold((0, SystemTime::UNIX_EPOCH), |(bytes, newest), file| {
            (bytes + file.len(), newest.max(file.modified().unwrap_or(SystemTime::UNIX_EPOCH)))
        })
    }

    fn read<T: DeserializeOwned>(&self, id: &RequestId, name: &str) -> Result<T, KeyfileError> {
        let path = self.of(id).join(name);
        let text = keyfile::read_secret(&path)?;
        serde_json::from_str(&text).map_err(|error| KeyfileError::Content(path, format!("is damaged ({error})")))
    }

    fn write(&self, id: &RequestId, name: &str, what: &impl Serialize) -> Result<(), KeyfileError> {
        let json = serde_json::to_vec_pretty(what).expect("names, numbers and texts");
        keyfile::write_secret(&self.of(id).join(name), &json)
    }

    fn of(&self, id: &RequestId) -> PathBuf {
        self.0.join(id.as_str())
    }
}
