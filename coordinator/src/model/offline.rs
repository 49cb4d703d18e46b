//! The owner's part, on a machine that needs no coordinator and no network: keys, roots, and signatures. A key lies in a PEM
//! file that only its owner may read, and is read for nothing but to sign.

use std::path::{Path, PathBuf};

use picket_shared::crypto::{KeyId, PublicKey, SecretKey};
use picket_shared::exit::{Exit, Failure};
use picket_shared::keyfile::{self, KeyfileError};
use picket_shared::model::{Document, Envelope, Manifest, Root};
use picket_shared::trust::DAY_S;

fn wrong(sentence: impl Into<String>) -> Failure {
    Failure::new(Exit::Config, sentence)
}

fn file(error: KeyfileError) -> Failure {
    Failure::new(Exit::Disk, error.to_string())
}

/// Makes a key, in a file that must not be there yet.
pub fn keygen(path: &Path) -> Result<PublicKey, Failure> {
    if path.exists() {
        return Err(wrong(format!(
            "{} is there already, and a key is never written over; name another file",
            path.display()
        )));
    }
    let key = SecretKey::generate().map_err(|error| Failure::new(Exit::System, error.to_string()))?;
    keyfile::write_secret(path, key.to_pem().as_bytes()).map_err(file)?;
    Ok(key.public())
}

/// The key of a file.
pub fn key(path: &Path) -> Result<SecretKey, Failure> {
    let text = keyfile::read_secret(path).map_err(file)?;
    SecretKey::from_pem(&text).map_err(|error| wrong(format!("{} {error}", path.display())))
}

fn keys(paths: &[PathBuf]) -> Result<Vec<SecretKey>, Failure> {
    paths.iter().map(|path| key(path)).collect()
}

/// What a root shall be.
#[derive(Debug, clap::Args)]
pub struct RootTerms {
    /// A key's file; it becomes a member, and signs
    #[arg(long = "key", value_name = "FILE", required = true)]
    pub keys: Vec<PathBuf>,
    /// Another member's public key, as keygen printed it; he signs later, by `model sign`
    #[arg(long = "member", value_name = "PUBLIC_KEY")]
    pub members: Vec<String>,
    /// How many members must sign a release, and the next root
    #[arg(long)]
    pub threshold: Option<usize>,
    /// For how many days it holds
    #[arg(long, default_value_t = 730)]
    pub days: u64,
}

fn member(text: &str) -> Result<PublicKey, Failure> {
    PublicKey::try_from(text.to_owned()).map_err(|what| wrong(format!("--member {text}: {what}")))
}

fn expiry(days: u64, now_s: u64) -> Result<u64, Failure> {
    // Nobody plans for longer, and a typing error would.
    match days {
        1..=3_650 => Ok(now_s + days * DAY_S),
        _ => Err(wrong(format!("--days is {days}; give it 1 to 3650"))),
    }
}

/// The first root of an owner.
pub fn new_root(terms: &RootTerms, now_s: u64) -> Result<Envelope, Failure> {
    let signers = keys(&terms.keys)?;
    let mut members: Vec<PublicKey> = signers.iter().map(SecretKey::public).collect();
    for text in &terms.members {
        members.push(member(text)?);
    }
    let threshold = terms.threshold.unwrap_or(members.len().min(2));
    let root = Root { version: 1, expires_s: expiry(terms.days, now_s)?, threshold, keys: members };
    signed(&root, &signers)
}

/// What changes from one root to the next.
#[derive(Debug, clap::Args)]
pub struct Rotation {
    /// The root before
    pub root: PathBuf,
    /// A key's file that signs; a new member's too
    #[arg(long = "key", value_name = "FILE", required = true)]
    pub keys: Vec<PathBuf>,
    /// A new member's public key, as keygen printed it
    #[arg(long = "add", value_name = "PUBLIC_KEY")]
    pub add: Vec<String>,
    /// The id of a member that is one no more
    #[arg(long = "remove", value_name = "KEY_ID")]
    pub remove: Vec<String>,
    /// How many members must sign; as before where it is not said
    #[arg(long)]
    pub threshold: Option<usize>,
    /// For how many days it holds
    #[arg(long, default_value_t = 730)]
    pub days: u64,
}

/// The root after this one.
pub fn rotate_root(rotation: &Rotation, now_s: u64) -> Result<Envelope, Failure> {
    let before = root(&rotation.root)?;
    let mut members = before.keys.clone();
    for text in &rotation.remove {
        let gone = KeyId::try_from(text.clone()).map_err(|what| wrong(format!("--remove {text}: {what}")))?;
        let count = members.len();
        members.retain(|key| key.id() != gone);
        if members.len() == count {
            return Err(wrong(format!("--remove {text}: the root has no such member; `model root show` names them")));
        }
    }
    for text in &rotation.add {
        members.push(member(text)?);
    }
    let threshold = rotation.threshold.unwrap_or(before.threshold);
    let expires_s = expiry(rotation.days, now_s)?;
    let next = Root { version: before.version + 1, expires_s, threshold, keys: members };
    signed(&next, &keys(&rotation.keys)?)
}

fn signed<D: Document>(document: &D, by: &[SecretKey]) -> Result<Envelope, Failure> {
    let mut envelope = Envelope::of(document).map_err(|what| wrong(format!("that makes {what}")))?;
    by.iter().for_each(|key| envelope.sign::<D>(key));
    Ok(envelope)
}

/// The root in a file, whether or not enough have signed it yet.
pub fn root(path: &Path) -> Result<Root, Failure> {
    let envelope = read::<Root>(path)?;
    envelope.read().map_err(|error| Failure::new(Exit::Data, format!("{}: {error}", path.display())))
}

/// A document's envelope in a file.
pub fn read<D: Document>(path: &Path) -> Result<Envelope, Failure> {
    let text = keyfile::read_open(path).map_err(file)?;
    Envelope::from_file::<D>(&text).map_err(|what| Failure::new(Exit::Data, format!("{} {what}", path.display())))
}

/// Either kind of document that an owner signs.
pub enum Owned {
    /// A root.
    Root(Envelope),
    /// A release.
    Release(Envelope),
}

impl Owned {
    /// Reads a file, whichever kind it holds.
    pub fn read(path: &Path) -> Result<Owned, Failure> {
        let text = keyfile::read_open(path).map_err(file)?;
        if let Ok(envelope) = Envelope::from_file::<Root>(&text) {
            return Ok(Owned::Root(envelope));
        }
        Envelope::from_file::<Manifest>(&text)
            .map(Owned::Release)
            .map_err(|what| Failure::new(Exit::Data, format!("{} {what}", path.display())))
    }

    /// Signs it with these keys, once it is what it should be: nobody signs what he cannot read.
    pub fn sign(&mut self, by: &[PathBuf]) -> Result<(), Failure> {
        let unreadable = |error| Failure::new(Exit::Data, format!("it is not signed: {error}"));
        match self {
            Owned::Root(envelope) => drop(envelope.read::<Root>().map_err(unreadable)?),
            Owned::Release(envelope) => drop(envelope.read::<Manifest>().map_err(unreadable)?),
        }
        for key in keys(by)? {
            match self {
                Owned::Root(envelope) => envelope.sign::<Root>(&key),
                Owned::Release(envelope) => envelope.sign::<Manifest>(&key),
            }
        }
        Ok(())
    }

    /// Writes it where it came from.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = match self {
            Owned::Root(envelope) => envelope.to_file::<Root>(),
            Owned::Release(envelope) => envelope.to_file::<Manifest>(),
        };
        keyfile::write_open(path, text.as_bytes()).map_err(file)
    }

    /// What it says, and by whom, for people and for `jq`.
    pub fn shown(&self) -> serde_json::Value {
        let (Owned::Root(envelope) | Owned::Release(envelope)) = self;
        let document: serde_json::Value = serde_json::from_slice(&envelope.payload).unwrap_or_default();
        let by: Vec<KeyId> = envelope.signatures.iter().map(|signature| signature.key).collect();
        match self {
            Owned::Root(envelope) => {
                let root = envelope.read::<Root>().ok();
                let members: Vec<KeyId> = root.iter().flat_map(|root| root.keys.iter().map(PublicKey::id)).collect();
                let whole = Root::anchor(envelope).is_ok();
                serde_json::json!({ "root": document, "members": members, "signed_by": by, "signed_by_its_own": whole })
            }
            Owned::Release(_) => serde_json::json!({ "release": document, "signed_by": by }),
        }
    }
}
