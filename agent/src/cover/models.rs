//! Finds a model by its digest among those that are on this device. It reads files and loads nothing into the runtime.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::detect;

/// Files of the folder that are looked at. A device has a few models, not a library.
const FILES_MAX: usize = 64;

/// Where a station's model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// It is this agent's own, which is loaded.
    Own,
    /// It is built in.
    BuiltIn,
    /// It is this file.
    File(PathBuf),
    /// It is not on this device.
    Nowhere,
}

/// The digest of this agent's own model, which changes while it runs. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Own(Arc<Mutex<String>>);

impl Own {
    /// It is this one from here on.
    pub fn set(&self, digest: &str) {
        digest.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn is(&self, digest: &str) -> bool {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) == digest
    }
}

/// The models on this device.
#[derive(Debug)]
pub struct Models {
    own: Own,
    folder: PathBuf,
    /// Digests of files, as long as these have not changed.
    known: BTreeMap<PathBuf, (Option<SystemTime>, u64, String)>,
}

impl Models {
    /// `own` is the digest of this agent's own model.
    pub fn new(own: String, folder: PathBuf) -> Models {
        Models { own: Own(Arc::new(Mutex::new(own))), folder, known: BTreeMap::new() }
    }

    /// This agent's own model, to be told when it changes.
    pub fn own(&self) -> Own {
        self.own.clone()
    }

    /// Looks for a model by the first digits of its SHA-256.
    pub fn find(&mut self, digest: &str) -> Place {
        if self.own.is(digest) {
            return Place::Own;
        }
        if digest == detect::builtin_digest() {
            return Place::BuiltIn;
        }
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Place::Nowhere };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let files: Vec<PathBuf> =
            paths.filter(|path| path.extension().is_some_and(|end| end == "onnx")).take(FILES_MAX).collect();
        self.known.retain(|path, _| files.contains(path));
        let found = files.into_iter().find(|path| self.digest(path).is_some_and(|known| known == digest));
        found.map_or(Place::Nowhere, Place::File)
    }

    fn digest(&mut self, path: &Path) -> Option<&str> {
        let about = File::open(path).and_then(|file| file.metadata()).ok()?;
        let (changed, length) = (about.modified().ok(), about.len());
        if self.known.get(path).is_none_or(|(then, before, _)| (*then, *before) != (changed, length)) {
            let digest = detect::file_digest(path).ok()?;
            self.known.insert(path.to_owned(), (changed, length, digest));
        }
        self.known.get(path).map(|(.., digest)| digest.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_found_by_what_is_in_it_whatever_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let mut models = Models::new("00aa11bb22cc".into(), dir.path().join("models"));
        assert_eq!(models.find("00aa11bb22cc"), Place::Own);
        assert_eq!(models.find(detect::builtin_digest()), Place::BuiltIn);
        assert_eq!(models.find("ffffffffffff"), Place::Nowhere);
        std::fs::create_dir(dir.path().join("models")).unwrap();
        let file = dir.path().join("models/gate.onnx");
        std::fs::write(&file, b"one").unwrap();
        std::fs::write(dir.path().join("models/notes.txt"), b"two").unwrap();
        let digest = |bytes: &[u8]| picket_shared::crypto::sha256_hex(bytes)[..12].to_owned();
        assert_eq!(models.find(&digest(b"one")), Place::File(file.clone()));
        assert_eq!(models.find(&digest(b"two")), Place::Nowhere);
        std::fs::write(&file, b"three").unwrap();
        assert_eq!(models.find(&digest(b"one")), Place::Nowhere, "the file has changed");
        assert_eq!(models.find(&digest(b"three")), Place::File(file));
    }
}
