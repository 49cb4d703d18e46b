//! The registry: one folder with the owner's roots, the releases that they signed, the files by their digests, and what each
//! node was assigned. The command line and the running coordinator both work on it; a lock keeps them apart, and every file
//! is whole or not there, so a crash at any point leaves what was before or what comes after.
//!
//! Nothing is believed for lying here: what is read is checked by the root as a device would check it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use picket_shared::crypto::{SecretKey, secret_hex};
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::{ModelName, NodeId};
use picket_shared::keyfile::{self, KeyfileError};
use picket_shared::limits::{MODEL_ROOTS_MAX, NODES_MAX};
use picket_shared::model::{Artifact, Assignment, Document, Envelope, HeadManifest, Manifest, Root};

use super::record::{LearnedRef, Record, ReleaseRef, Wish, next_number};

/// Releases of one model that are kept.
pub const RELEASES_MAX: usize = 256;
/// Models that a registry has.
pub const MODELS_MAX: usize = 64;

/// Why the registry does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// A file or the disk.
    #[error(transparent)]
    File(#[from] KeyfileError),
    /// What was asked for is not there, or may not be; a sentence with what to do.
    #[error("{0}")]
    Refused(String),
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Failure {
        let exit = match &error {
            RegistryError::File(_) => Exit::Disk,
            RegistryError::Refused(_) => Exit::Denied,
        };
        Failure::new(exit, error.to_string())
    }
}

pub(super) fn refused<T>(sentence: impl Into<String>) -> Result<T, RegistryError> {
    Err(RegistryError::Refused(sentence.into()))
}

/// What a record is to say from now on.
pub(super) struct News {
    /// What a person asked for.
    pub wish: Wish,
    /// The learned head.
    pub learned: Option<LearnedRef>,
    /// The number of before, where only the learned head is news.
    pub wish_number: Option<u64>,
}

/// A site's models.
#[derive(Debug, Clone)]
pub struct Registry {
    dir: PathBuf,
}

impl Registry {
    /// The registry in this folder, which is made where there is none.
    pub fn open(dir: &Path) -> Result<Registry, RegistryError> {
        let registry = Registry { dir: dir.to_owned() };
        for folder in ["", "roots", "releases", "heads", "learned", "blobs", "rollouts", "assignments"] {
            keyfile::make_dir(&registry.at(folder))?;
        }
        Ok(registry)
    }

    /// Where the files of the registry in this folder lie, each named by its SHA-256.
    pub fn blobs_dir(dir: &Path) -> PathBuf {
        dir.join("blobs")
    }

    /// Whether there is one in this folder.
    pub fn exists(dir: &Path) -> bool {
        dir.join("assignments").is_dir()
    }

    /// Another text after every change that nodes are to be told of.
    pub fn state(&self) -> Option<String> {
        keyfile::read_open(&self.at("changed")).ok()
    }

    /// Notes that something has changed. Where a crash comes before it, that is found out a little later.
    pub(super) fn note_change(&self) -> Result<(), RegistryError> {
        let text = secret_hex::<8>().unwrap_or_default();
        Ok(keyfile::write_open(&self.at("changed"), text.as_bytes())?)
    }

    // ---- Roots ------------------------------------------------------------------------------------------------------

    /// The newest root; an error where there is none yet.
    pub fn root(&self) -> Result<Root, RegistryError> {
        let version = match self.numbers("roots")?.last() {
            Some(version) => *version,
            None => {
                return refused("there is no root yet; publish the owner's: `picket-coordinator model publish ROOT`");
            }
        };
        self.read::<Root>(&self.root_path(version))?
            .read()
            .map_err(|error| self.damaged(&self.root_path(version), error))
    }

    /// The newest root as its owner signed it, for a device that is admitted.
    pub fn anchor(&self) -> Result<Option<Envelope>, RegistryError> {
        let newest = self.numbers("roots")?.last().copied();
        newest.map(|version| self.read::<Root>(&self.root_path(version))).transpose()
    }

    /// The newest roots in their order, as an assignment has them, and the version of the first.
    fn chain(&self) -> Result<(u64, Vec<Envelope>), RegistryError> {
        let versions = self.numbers("roots")?;
        let versions = &versions[versions.len().saturating_sub(MODEL_ROOTS_MAX)..];
        let roots = versions.iter().map(|version| self.read::<Root>(&self.root_path(*version)));
        Ok((versions.first().copied().unwrap_or(1), roots.collect::<Result<_, _>>()?))
    }

    /// Takes the owner's next root; the first one is believed for who brings it. Its version.
    pub fn publish_root(&self, envelope: &Envelope) -> Result<u64, RegistryError> {
        let _lock = self.lock()?;
        let root = match self.numbers("roots")?.is_empty() {
            true => Root::anchor(envelope),
            false => {
                let known = self.root()?;
                if self.read::<Root>(&self.root_path(known.version))? == *envelope {
                    return Ok(known.version);
                }
                known.follow(envelope)
            }
        };
        let root =
            root.or_else(|error| refused(format!("{error}; let its owners sign it: `picket-coordinator model sign`")))?;
        keyfile::write_open(&self.root_path(root.version), envelope.to_file::<Root>().as_bytes())?;
        self.note_change()?;
        Ok(root.version)
    }

    fn root_path(&self, version: u64) -> PathBuf {
        self.at(&format!("roots/{version}.json"))
    }

    // ---- Releases ---------------------------------------------------------------------------------------------------

    /// Takes a release that enough of the owner's keys signed, with its files: those that are not here yet are looked for among
    /// `files`.
    pub fn publish(&self, envelope: &Envelope, files: &[PathBuf], now_s: u64) -> Result<Manifest, RegistryError> {
        let root = self.root()?;
        let manifest = self.checked(envelope, &root)?;
        if now_s >= manifest.expires_s {
            return refused(format!("{} {} has expired; pack it anew", manifest.name, manifest.counter));
        }
        let of = ReleaseRef { name: manifest.name.clone(), counter: manifest.counter };
        let _lock = self.lock()?;
        let path = self.release_path(&of);
        if path.exists() && self.read::<Manifest>(&path)?.payload != envelope.payload {
            return refused(format!("there is another release {of} already; give this one the next counter"));
        }
        if self.is_revoked(&of) {
            return refused(format!("{of} was revoked; publish it under the next counter if that was a mistake"));
        }
        keyfile::make_dir(&self.at(&format!("releases/{}", of.name)))?;
        if self.models()?.len() > MODELS_MAX || self.numbers(&format!("releases/{}", of.name))?.len() >= RELEASES_MAX {
            return refused(format!(
                "{MODELS_MAX} models of {RELEASES_MAX} releases each are the most; revoke what nobody runs any more"
            ));
        }
        for (what, artifact) in manifest.artifacts() {
            self.take_files(what, artifact, files)?;
        }
        // The files first: where a release is, all of it is.
        keyfile::write_open(&path, envelope.to_file::<Manifest>().as_bytes())?;
        self.note_change()?;
        Ok(manifest)
    }

    /// The release, if it is here, was not revoked, and its owner signs for it still.
    pub fn release(&self, of: &ReleaseRef) -> Result<(Envelope, Manifest), RegistryError> {
        if self.is_revoked(of) {
            return refused(format!("{of} was revoked"));
        }
        let path = self.release_path(of);
        if !path.exists() {
            return refused(format!("there is no release {of}; `picket-coordinator model status` names them"));
        }
        let envelope = self.read::<Manifest>(&path)?;
        let manifest = self.checked(&envelope, &self.root()?)?;
        Ok((envelope, manifest))
    }

    fn checked(&self, envelope: &Envelope, root: &Root) -> Result<Manifest, RegistryError> {
        envelope.open(&root.keys, root.threshold).or_else(|error| {
            refused(format!(
                "the release is refused by root {}: {error}; let its owners sign it: `picket-coordinator model sign`",
                root.version
            ))
        })
    }

    /// Every release that is here, by model and counter.
    pub fn releases(&self) -> Result<Vec<ReleaseRef>, RegistryError> {
        let mut found = Vec::new();
        for name in self.models()? {
            let counters = self.numbers(&format!("releases/{name}"))?;
            found.extend(counters.into_iter().map(|counter| ReleaseRef { name: name.clone(), counter }));
        }
        Ok(found)
    }

    fn models(&self) -> Result<Vec<ModelName>, RegistryError> {
        let mut names: Vec<ModelName> =
            self.names("releases")?.into_iter().filter_map(|name| ModelName::new(name).ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Takes a release back: nodes that run it go back to what their own configuration says, nobody is assigned it again, and
    /// its files go. How many nodes ran it.
    pub fn revoke(&self, of: &ReleaseRef, now_s: u64) -> Result<usize, RegistryError> {
        let _lock = self.lock()?;
        if !self.release_path(of).exists() && !self.is_revoked(of) {
            return refused(format!("there is no release {of}; `picket-coordinator model status` names them"));
        }
        keyfile::write_open(&self.revoked_path(of), format!("{now_s}\n").as_bytes())?;
        self.end_rollouts_of(of)?;
        let mut nodes = 0;
        for record in self.records()?.into_iter().filter(|record| record.wish.release.as_ref() == Some(of)) {
            let wish = Wish { release: None, head: None, not_before_s: 0, ..record.wish };
            let news = News { wish, learned: record.learned, wish_number: None };
            self.write_record(record.node, news, now_s)?;
            nodes += 1;
        }
        keyfile::remove(&self.release_path(of))?;
        self.sweep()?;
        self.note_change()?;
        Ok(nodes)
    }

    fn is_revoked(&self, of: &ReleaseRef) -> bool {
        self.revoked_path(of).exists()
    }

    pub(super) fn release_path(&self, of: &ReleaseRef) -> PathBuf {
        self.at(&format!("releases/{}/{}.json", of.name, of.counter))
    }

    fn revoked_path(&self, of: &ReleaseRef) -> PathBuf {
        self.at(&format!("releases/{}/{}.revoked", of.name, of.counter))
    }

    // ---- Heads ------------------------------------------------------------------------------------------------------

    /// Takes a head for a release that lets the site replace its own. It is signed when it is assigned, by the key that signs
    /// orders then. Its counter.
    pub fn publish_head(&self, of: &ReleaseRef, bytes: &[u8], expires_s: u64) -> Result<HeadManifest, RegistryError> {
        let (_, manifest) = self.release(of)?;
        if !manifest.delegation.is_some_and(|delegation| delegation.admits(bytes)) {
            return refused(format!(
                "this is no head that {of} lets the site replace: it asks for so many finite numbers, of so small a norm"
            ));
        }
        let _lock = self.lock()?;
        let folder = format!("heads/{}", of.name);
        keyfile::make_dir(&self.at(&folder))?;
        let before = self.numbers(&folder)?;
        if before.len() >= RELEASES_MAX {
            return refused(format!("{RELEASES_MAX} heads of {} are here, which is the most", of.name));
        }
        let file = Artifact::plain(bytes);
        let (name, base, chunk_bytes) = (of.name.clone(), manifest.file.sha256, manifest.chunk_bytes);
        let counter = before.last().copied().unwrap_or(0) + 1;
        let head = HeadManifest { name, counter, expires_s, chunk_bytes, base, file };
        self.put_blob(&head.file.sha256, &mut &*bytes)?;
        let json = serde_json::to_vec(&head).expect("names, numbers and texts");
        keyfile::write_open(&self.head_path(of, counter), &json)?;
        Ok(head)
    }

    /// A head's manifest.
    pub fn head(&self, of: &ReleaseRef, counter: u64) -> Result<HeadManifest, RegistryError> {
        let path = self.head_path(of, counter);
        if !path.exists() {
            return refused(format!(
                "there is no head {counter} of {}; `picket-coordinator model status` names them",
                of.name
            ));
        }
        let head: HeadManifest =
            serde_json::from_str(&keyfile::read_open(&path)?).map_err(|error| self.damaged(&path, error))?;
        head.check().map_err(|error| self.damaged(&path, error))?;
        Ok(head)
    }

    /// Counters of the heads of one model.
    pub fn heads(&self, name: &ModelName) -> Result<Vec<u64>, RegistryError> {
        self.numbers(&format!("heads/{name}"))
    }

    pub(super) fn head_path(&self, of: &ReleaseRef, counter: u64) -> PathBuf {
        self.at(&format!("heads/{}/{counter}.json", of.name))
    }

    // ---- Assignments ------------------------------------------------------------------------------------------------

    /// Assigns a node what it shall run. The same again changes nothing; a station that is pinned keeps its release.
    pub fn assign(&self, node: NodeId, wish: Wish, now_s: u64) -> Result<Record, RegistryError> {
        let _lock = self.lock()?;
        if self.pins()?.contains(&wish.station) {
            let keeps = self.record(&node)?.is_some_and(|record| record.wish.release == wish.release);
            if !keeps {
                let station = &wish.station;
                return refused(format!(
                    "{station} is pinned to what it runs; `picket-coordinator model rollout unpin {station}` lets go of it"
                ));
            }
        }
        self.assign_under_lock(node, wish, false, now_s)
    }

    /// The same for who has the lock, whoever is pinned; under a new number, where it is to be said `anew`.
    pub(super) fn assign_under_lock(
        &self,
        node: NodeId,
        wish: Wish,
        anew: bool,
        now_s: u64,
    ) -> Result<Record, RegistryError> {
        self.root()?;
        if let Some(of) = &wish.release {
            self.assignable(of, wish.head, now_s)?;
        }
        match self.record(&node)? {
            Some(record) if record.wish == wish && !anew => Ok(record),
            before => {
                self.check_room(before.as_ref())?;
                let learned = before.and_then(|before| before.learned);
                self.write_record(node, News { wish, learned, wish_number: None }, now_s)
            }
        }
    }

    /// Whether another node may be assigned something, where there is nothing on record of it yet.
    pub(super) fn check_room(&self, before: Option<&Record>) -> Result<(), RegistryError> {
        match before.is_none() && self.records()?.len() >= NODES_MAX {
            true => refused(format!("{NODES_MAX} nodes are assigned, which is the most")),
            false => Ok(()),
        }
    }

    /// A release, where it can be assigned with this head now.
    pub(super) fn assignable(&self, of: &ReleaseRef, head: Option<u64>, now_s: u64) -> Result<Manifest, RegistryError> {
        let (_, manifest) = self.release(of)?;
        if now_s >= manifest.expires_s {
            return refused(format!("{of} has expired, and no device would take it; publish a newer release"));
        }
        if let Some(counter) = head
            && self.head(of, counter)?.base != manifest.file.sha256
        {
            return refused(format!("head {counter} belongs to another release of {} than {of}", of.name));
        }
        Ok(manifest)
    }

    /// Gives a record its time anew, where it is stale.
    pub fn renew(&self, node: &NodeId, now_s: u64) -> Result<Option<Record>, RegistryError> {
        let _lock = self.lock()?;
        let root = self.root()?.version;
        match self.record(node)? {
            Some(record) if record.is_stale(root, now_s) => {
                let news = News { wish: record.wish, learned: record.learned, wish_number: None };
                self.write_record(record.node, news, now_s).map(Some)
            }
            record => Ok(record),
        }
    }

    /// Everything that is on record, by node.
    pub fn records(&self) -> Result<Vec<Record>, RegistryError> {
        let stems = self.names("assignments")?;
        let nodes = stems.iter().filter_map(|name| NodeId::new(name.strip_suffix(".json")?).ok());
        let mut records: Vec<Record> =
            nodes.filter_map(|node| self.record(&node).transpose()).collect::<Result<_, _>>()?;
        records.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(records)
    }

    pub(super) fn record(&self, node: &NodeId) -> Result<Option<Record>, RegistryError> {
        let path = self.record_path(node);
        match keyfile::read_open(&path) {
            Err(KeyfileError::Missing(_)) => Ok(None),
            text => serde_json::from_str(&text?).map(Some).map_err(|error| self.damaged(&path, error)),
        }
    }

    /// Under a number of its own. The count is durable before the record is, so that no number comes twice.
    pub(super) fn write_record(&self, node: NodeId, news: News, now_s: u64) -> Result<Record, RegistryError> {
        let path = self.at("number");
        let last = keyfile::read_open(&path).ok().and_then(|text| text.trim().parse().ok());
        let last = match last {
            Some(last) => last,
            // Lost or damaged: what is on record was counted by it.
            None => self.records()?.iter().map(|record| record.number).max().unwrap_or(0),
        };
        let number = next_number(last, now_s);
        keyfile::write_open(&path, format!("{number}\n").as_bytes())?;
        let News { wish, learned, wish_number } = news;
        let record = Record { node, wish, number, issued_s: now_s, root: self.root()?.version, learned, wish_number };
        let json = serde_json::to_vec_pretty(&record).expect("names, numbers and texts");
        keyfile::write_open(&self.record_path(&record.node), &json)?;
        self.note_change()?;
        Ok(record)
    }

    pub(super) fn record_path(&self, node: &NodeId) -> PathBuf {
        self.at(&format!("assignments/{node}.json"))
    }

    /// The message of a record: the same bytes for the same record. `orders` signs the heads.
    pub fn assignment(&self, record: &Record, orders: &SecretKey) -> Result<Assignment, RegistryError> {
        let (root_from, roots) = self.chain()?;
        let release = record.wish.release.as_ref().map(|of| self.release(of)).transpose()?;
        let head = match (&record.wish.release, record.wish.head) {
            (Some(of), Some(counter)) => {
                let mut envelope = Envelope::of(&self.head(of, counter)?).or_else(refused)?;
                envelope.sign::<HeadManifest>(orders);
                Some(envelope)
            }
            _ => None,
        };
        let learned =
            record.learned.map(|of| self.signed_learned(of, record.expires_s(), orders)).transpose()?.flatten();
        Ok(Assignment {
            node: record.node.clone(),
            station: record.wish.station.clone(),
            number: record.number,
            issued_s: record.issued_s,
            expires_s: record.expires_s(),
            not_before_s: record.wish.not_before_s,
            root_from,
            roots,
            release: release.map(|(envelope, _)| envelope),
            head,
            trial: record.wish.trial,
            learned,
            release_number: record.wish_number,
        })
    }

    // ---- The folder -------------------------------------------------------------------------------------------------

    pub(super) fn read<D: Document>(&self, path: &Path) -> Result<Envelope, RegistryError> {
        Envelope::from_file::<D>(&keyfile::read_open(path)?).map_err(|error| self.damaged(path, error))
    }

    pub(super) fn damaged(&self, path: &Path, error: impl std::fmt::Display) -> RegistryError {
        KeyfileError::Content(path.to_owned(), format!("is damaged ({error}); publish it again")).into()
    }

    /// Names in a folder, in no order; none where there is no such folder.
    pub(super) fn names(&self, folder: &str) -> Result<Vec<String>, RegistryError> {
        let dir = self.at(folder);
        match fs::read_dir(&dir) {
            Ok(files) => Ok(files.flatten().map(|file| file.file_name().to_string_lossy().into_owned()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
            Err(error) => Err(disk(&dir, &error)),
        }
    }

    /// Files of a folder that are called by a number, in their order.
    pub(super) fn numbers(&self, folder: &str) -> Result<Vec<u64>, RegistryError> {
        let names = self.names(folder)?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub(super) fn lock(&self) -> Result<File, RegistryError> {
        let path = self.at("lock");
        let open = || {
            let file = File::options().create(true).append(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        open().map_err(|error: io::Error| disk(&path, &error))
    }

    /// The lock, where nobody has it.
    pub(super) fn try_lock(&self) -> Result<Option<File>, RegistryError> {
        let path = self.at("lock");
        let file = File::options().create(true).append(true).open(&path).map_err(|error| disk(&path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(disk(&path, &error)),
        }
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

pub(super) fn disk(path: &Path, error: &io::Error) -> RegistryError {
    KeyfileError::Disk(path.to_owned(), error.to_string()).into()
}
