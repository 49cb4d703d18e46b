//! Where models and what is known of them lie on the disk: `<data_dir>/models`.
//!
//! | file | what |
//! |---|---|
//! | `record.json` | the [`Record`] |
//! | `trusted` | what was seen of documents, which no rollback of a model rolls back |
//! | `a.onnx`, `b.onnx` | the slots, each with `.head.f32`, `.calibration` and `.labels` beside it |
//! | `part`, `part.chunks` | the blob that is on its way |
//! | `frames/` | frames that are hard to judge |
//!
//! What is written is durable before it is said to be. It decides nothing.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use picket_shared::codec;
use picket_shared::crypto::Digest;
use picket_shared::keyfile::{self, KeyfileError};
use picket_shared::limits::{MODEL_BYTES_MAX, MODEL_TRUSTED_BYTES_MAX};
use picket_shared::model::{Artifact, Envelope, Root, Trusted};
use picket_shared::trust::identity::Identity;

use super::part;
use super::record::{Place, RECORD_VERSION, Record, Release, Slot};
use super::{Config, What};
use crate::detect;

/// The folder below the data directory.
const FOLDER: &str = "models";

/// The folder of models.
#[derive(Debug, Clone)]
pub struct Shelf {
    dir: PathBuf,
}

/// What was found at the start.
#[derive(Debug)]
pub struct Found {
    /// What runs, and what is under way.
    pub record: Record,
    /// What was seen of documents; nothing, where no model is taken from anybody.
    pub trusted: Option<Trusted>,
    /// What is wrong, in a sentence each.
    pub problems: Vec<String>,
}

impl Shelf {
    /// The folder below this data directory, which is made where there is none.
    pub fn open(data_dir: &Path) -> Result<Shelf, KeyfileError> {
        let dir = data_dir.join(FOLDER);
        keyfile::make_dir(&dir)?;
        Ok(Shelf { dir })
    }

    /// The folder below this data directory, as it is.
    pub fn at(data_dir: &Path) -> Shelf {
        Shelf { dir: data_dir.join(FOLDER) }
    }

    /// What is there. A record that cannot be read is set aside, and the factory's model runs.
    pub fn find(&self, config: &Config) -> Found {
        let mut problems = Vec::new();
        let record = self.record().unwrap_or_else(|sentence| {
            let path = self.dir.join("record.json");
            let _ = fs::rename(&path, path.with_extension("json.damaged"));
            problems.push(format!("{sentence}; it is set aside, and the configuration's own model runs"));
            Record::default()
        });
        let trusted = self.trusted().and_then(|kept| match (anchor(config)?, kept) {
            (Some(root), kept) => Trusted::anchored(kept, root).map(Some),
            (None, Some(kept)) => Ok(Some(kept)),
            (None, None) => Ok(self.told()?.map(Trusted::begin)),
        });
        let trusted = trusted.unwrap_or_else(|sentence| {
            problems.push(format!("{sentence}; no model is taken from anybody meanwhile"));
            None
        });
        Found { record, trusted, problems }
    }

    /// The root that the device was told when it was enrolled: where it begins, and no way past what it has seen since.
    fn told(&self) -> Result<Option<Root>, String> {
        let data_dir = self.dir.parent().expect("the folder lies below the data directory");
        let told = Identity::below(data_dir).model_root().map_err(|error| error.to_string())?;
        told.map(|envelope| Root::anchor(&envelope)).transpose().map_err(|error| error.to_string())
    }

    /// The record; the default one, where there is none. The error is a sentence.
    pub fn record(&self) -> Result<Record, String> {
        let path = self.dir.join("record.json");
        let text = match keyfile::read_open(&path) {
            Err(KeyfileError::Missing(_)) => return Ok(Record::default()),
            read => read.map_err(|error| error.to_string())?,
        };
        let record: Record =
            serde_json::from_str(&text).map_err(|error| format!("{} cannot be read ({error})", path.display()))?;
        match record.version {
            RECORD_VERSION => Ok(record),
            other => Err(format!("{} is of version {other}, and this program knows {RECORD_VERSION}", path.display())),
        }
    }

    /// What was seen of documents; nothing, where nothing was. The error is a sentence.
    pub fn trusted(&self) -> Result<Option<Trusted>, String> {
        let path = self.dir.join("trusted");
        match read_bounded(&path, MODEL_TRUSTED_BYTES_MAX as u64) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{} cannot be read ({error})", path.display())),
            Ok(bytes) => codec::decode(&bytes).map(Some).map_err(|error| {
                let path = path.display();
                format!(
                    "{path}: {error}; if it is damaged, remove it, and what was assigned before may be assigned again"
                )
            }),
        }
    }

    /// Makes both durable: first what was seen, because what follows from it must not outlive it.
    pub fn keep(&self, record: &Record, trusted: Option<&Trusted>) -> Result<(), KeyfileError> {
        if let Some(trusted) = trusted {
            let bytes = codec::encode(trusted).expect("what was seen keeps its own bounds");
            keyfile::write_open(&self.dir.join("trusted"), &bytes)?;
        }
        let text = serde_json::to_vec(record).expect("a record has string keys and no failing serialiser");
        keyfile::write_open(&self.dir.join("record.json"), &text)
    }

    /// Where a file of a slot is.
    pub fn path(&self, slot: Slot, what: What) -> PathBuf {
        let end = match what {
            What::Model => "onnx",
            // As a head beside a model is called everywhere.
            What::Head => "head.f32",
            What::Calibration => "calibration",
            What::Labels => "labels",
        };
        self.dir.join(format!("{}.{end}", slot.word()))
    }

    /// Where a blob is that is on its way.
    pub fn part(&self) -> PathBuf {
        self.dir.join("part")
    }

    /// Where frames are that are hard to judge.
    pub fn frames(&self) -> PathBuf {
        self.dir.join("frames")
    }

    /// Whether a file of a slot is there, whole.
    pub fn has(&self, slot: Slot, what: What, artifact: &Artifact) -> bool {
        let path = self.path(slot, what);
        let long = fs::metadata(&path).is_ok_and(|about| about.is_file() && about.len() == artifact.length);
        long && part::digest_of(&path).is_ok_and(|sha256| sha256 == artifact.sha256.to_string())
    }

    /// Whether a release is in its slot as it was put there, and nothing else with it. The error is a sentence.
    pub fn check(&self, slot: Slot, release: &Release) -> Result<(), String> {
        for wanted in super::files(slot, &release.manifest, release.head.as_ref()) {
            if !self.has(slot, wanted.what, &wanted.artifact) {
                let path = self.path(slot, wanted.what);
                return Err(format!("{} is not what was put there; check the disk", path.display()));
            }
        }
        Ok(())
    }

    /// Removes what lies beside the model of a slot: a head of before would be taken for that of the next one.
    pub fn clear_beside(&self, slot: Slot) -> Result<(), KeyfileError> {
        let beside = [What::Head, What::Calibration, What::Labels];
        beside.into_iter().try_for_each(|what| keyfile::remove(&self.path(slot, what)))
    }

    /// The bytes of the model of this digest, where a slot has it or it is the factory's.
    pub fn model(&self, digest: &Digest, factory: &detect::Config) -> Option<Vec<u8>> {
        let slots = Slot::ALL.map(|slot| self.path(slot, What::Model));
        let of_slot = || slots.iter().filter_map(|path| read_bounded(path, MODEL_BYTES_MAX as u64).ok());
        let own = detect::model_bytes(factory).ok().filter(|bytes| Digest::of(bytes) == *digest).map(Cow::into_owned);
        own.or_else(|| of_slot().find(|bytes| Digest::of(bytes) == *digest))
    }

    /// How to load what is in a place.
    pub fn detector(&self, factory: &detect::Config, place: Place, release: Option<&Release>) -> detect::Config {
        let (Place::Slot(slot), Some(release)) = (place, release) else { return factory.clone() };
        let manifest = &release.manifest;
        let mut config = factory.for_other(&self.path(slot, What::Model).to_string_lossy());
        config.workers = factory.workers;
        // What is no family of ours is refused where the release is looked over.
        config.layout = manifest.family.as_deref().and_then(detect::layout::Family::of_word);
        config.input.size = manifest.input;
        config.labels = manifest.labels.as_ref().map(|_| self.path(slot, What::Labels));
        config.tensorrt.calibration = manifest.calibration.as_ref().map(|_| self.path(slot, What::Calibration));
        config
    }
}

/// The root that is configured.
fn anchor(config: &Config) -> Result<Option<Root>, String> {
    let Some(path) = &config.root else { return Ok(None) };
    let wrong = |what: String| format!("model.root: {} {what}", path.display());
    let text = keyfile::read_open(path).map_err(|error| format!("model.root: {error}"))?;
    let envelope = Envelope::from_file::<Root>(&text).map_err(wrong)?;
    Root::anchor(&envelope).map(Some).map_err(|error| wrong(format!("cannot be used: {error}")))
}

/// Reads a file of at most so many bytes.
pub fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}
