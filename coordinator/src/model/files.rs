//! The registry's files: what releases and heads are made of, each under its SHA-256.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use picket_shared::crypto::{Digest, Sha256};
use picket_shared::ids::ModelName;
use picket_shared::keyfile;
use picket_shared::model::{Artifact, Manifest};

use super::record::ReleaseRef;
use super::registry::{Registry, RegistryError, disk, refused};

/// Bytes of all files together.
pub const BLOBS_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;

impl Registry {
    /// Where the file of this digest lies, if it is here.
    pub fn blob(&self, sha256: &Digest) -> Option<PathBuf> {
        let path = self.at(&format!("blobs/{sha256}"));
        path.is_file().then_some(path)
    }

    pub(super) fn take_files(&self, what: &str, artifact: &Artifact, files: &[PathBuf]) -> Result<(), RegistryError> {
        for encoding in &artifact.encodings {
            if self.blob(&encoding.sha256).is_some() {
                continue;
            }
            let same = |path: &&PathBuf| {
                let long = fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == encoding.length);
                long && digest_of(path).is_ok_and(|digest| digest == encoding.sha256)
            };
            let Some(path) = files.iter().find(same) else {
                return refused(format!(
                    "none of the files is the {what} as {} ({} bytes, SHA-256 {}…); name it by --file",
                    encoding.coding,
                    encoding.length,
                    encoding.sha256.short()
                ));
            };
            let mut file = File::open(path).map_err(|error| disk(path, &error))?;
            self.put_blob(&encoding.sha256, &mut file)?;
        }
        Ok(())
    }

    /// Writes a file under its digest: whole and durable, or not at all.
    pub(super) fn put_blob(&self, sha256: &Digest, from: &mut dyn Read) -> Result<(), RegistryError> {
        let (path, part) = (self.at(&format!("blobs/{sha256}")), self.at("blobs/part"));
        if self.blobs_bytes()? > BLOBS_BYTES_MAX {
            return refused(format!(
                "the files take {BLOBS_BYTES_MAX} bytes, which is the most; revoke what nobody runs"
            ));
        }
        let mut write = || {
            // What a crash left is written over.
            let mut file = File::create(&part)?;
            let mut copied = Copied { hasher: Sha256::new(), into: &mut file };
            io::copy(from, &mut copied)?;
            let digest = copied.hasher.finish();
            file.sync_all()?;
            Ok::<_, io::Error>(digest)
        };
        let digest = write().map_err(|error| disk(&part, &error))?;
        if digest != *sha256 {
            return refused(format!("the file for {}… changed while it was read; publish it again", sha256.short()));
        }
        let named = fs::rename(&part, &path).and_then(|()| File::open(self.at("blobs"))?.sync_all());
        named.map_err(|error| disk(&path, &error))
    }

    fn blobs_bytes(&self) -> Result<u64, RegistryError> {
        let dir = self.at("blobs");
        let files = fs::read_dir(&dir).map_err(|error| disk(&dir, &error))?;
        Ok(files.flatten().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum())
    }

    /// Removes files that no release, no head and no learned head names.
    pub(super) fn sweep(&self) -> Result<(), RegistryError> {
        let mut named = BTreeSet::new();
        let mut name = |artifact: &Artifact| named.extend(artifact.encodings.iter().map(|encoding| encoding.sha256));
        for of in self.releases()? {
            let manifest: Manifest = self
                .read::<Manifest>(&self.release_path(&of))?
                .read()
                .map_err(|error| self.damaged(&self.release_path(&of), error))?;
            manifest.artifacts().for_each(|(_, artifact)| name(artifact));
        }
        for model in self.names("heads")?.into_iter().filter_map(|name| ModelName::new(name).ok()) {
            let of = ReleaseRef { name: model, counter: 0 };
            for counter in self.heads(&of.name)? {
                name(&self.head(&of, counter)?.file);
            }
        }
        for manifest in self.all_learned()? {
            name(&manifest.file);
        }
        for blob in self.names("blobs")? {
            if blob.parse().is_ok_and(|digest: Digest| !named.contains(&digest)) {
                keyfile::remove(&self.at(&format!("blobs/{blob}")))?;
            }
        }
        Ok(())
    }
}

/// Hashes what it writes.
struct Copied<'a> {
    hasher: Sha256,
    into: &'a mut File,
}

impl Write for Copied<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.into.write(bytes)?;
        self.hasher.add(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    Digest::of_reader(&mut File::open(path)?)
}
