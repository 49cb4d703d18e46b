//! Whose signatures make a release: the owner's model keys, and how many of them it takes. TUF's root role. Pure.
//!
//! Each root is signed by enough keys of the root before it and by enough of its own, and its version is one more; so a device
//! follows from the root that it knows to the newest one, step by step, and never back.

use serde::{Deserialize, Serialize};

use super::envelope::{Document, Envelope, EnvelopeError};
use crate::crypto::PublicKey;
use crate::limits::{MODEL_KEYS_MAX, MODEL_ROOT_BYTES_MAX};

/// The model keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Counts from 1, without gaps.
    pub version: u64,
    /// From then on nothing new is believed by it, seconds since 1970.
    pub expires_s: u64,
    /// How many of the keys must sign a release, and the root after this one.
    pub threshold: usize,
    /// The keys.
    pub keys: Vec<PublicKey>,
}

/// Why a root is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// The keys of the root before it did not sign it.
    #[error("root {version} is refused: by the keys of the root before, {error}")]
    Before {
        /// Where it stands in the chain.
        version: u64,
        /// What is wrong.
        error: EnvelopeError,
    },
    /// Its own keys did not sign it.
    #[error("root {version} is refused: by its own keys, {error}")]
    Own {
        /// Where it stands in the chain.
        version: u64,
        /// What is wrong.
        error: EnvelopeError,
    },
    /// Its version is not one more than that of the root before it.
    #[error("a root says that it is version {0}, and stands where version {1} belongs")]
    Version(u64, u64),
}

impl Document for Root {
    const TYPE: &'static str = "application/vnd.picket.model.root.v1+json";
    const BYTES_MAX: usize = MODEL_ROOT_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        let (keys, threshold) = (self.keys.len(), self.threshold);
        if keys == 0 || keys > MODEL_KEYS_MAX {
            return Err(format!("{keys} keys, of 1 to {MODEL_KEYS_MAX}"));
        }
        if threshold == 0 || threshold > keys {
            return Err(format!("a threshold of {threshold} for {keys} keys"));
        }
        if self.version == 0 {
            return Err("version 0; the first is 1".into());
        }
        let twice = |at: usize| self.keys[..at].iter().any(|key| key.id() == self.keys[at].id());
        if (0..keys).any(twice) { Err("a key twice".into()) } else { Ok(()) }
    }
}

impl Root {
    /// The root of an envelope that is trusted for where it came from: a file that somebody put on the device, or what the door
    /// of enrolment told. It must be signed by its own keys; that shows that it is whole, and that they exist.
    pub fn anchor(envelope: &Envelope) -> Result<Root, RootError> {
        let own = |version: u64| move |error| RootError::Own { version, error };
        let root: Root = envelope.read().map_err(own(0))?;
        envelope.is_signed::<Root>(&root.keys, root.threshold).map_err(own(root.version))?;
        Ok(root)
    }

    /// The root after this one.
    pub fn follow(&self, envelope: &Envelope) -> Result<Root, RootError> {
        let version = self.version.saturating_add(1);
        let before = |error| RootError::Before { version, error };
        // Nothing of it is read before those who are known have signed it.
        let root: Root = envelope.open(&self.keys, self.threshold).map_err(before)?;
        if root.version != version {
            return Err(RootError::Version(root.version, version));
        }
        let own = |error| RootError::Own { version, error };
        envelope.is_signed::<Root>(&root.keys, root.threshold).map_err(own)?;
        Ok(root)
    }

    /// Whether nothing new is to be believed by it any more.
    pub fn is_expired(&self, now_s: u64) -> bool {
        now_s >= self.expires_s
    }
}
