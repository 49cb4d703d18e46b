//! A SHA-256 as a value: what a file is known by, wherever it lies. In JSON, in CBOR and in a topic it is 64 hexadecimal digits
//! in small letters, and no other form of it is read.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{from_hex, hex, sha256};

/// Digits of a digest that are shown where a whole one would be too long; the same that events call a model by.
const SHORT_DIGITS: usize = 12;

/// The SHA-256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

/// Why a text is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 is 64 hexadecimal digits in small letters")]
pub struct DigestError;

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(sha256(bytes))
    }

    /// The first digits of it, by which events and health name a model.
    pub fn short(&self) -> String {
        hex(&self.0[..SHORT_DIGITS / 2])
    }
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        // One form only: a digest is a topic level and a file name.
        let small = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        from_hex(text).filter(|_| small).map(Digest).ok_or(DigestError)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest {}", self.short())
    }
}

/// The SHA-256 of bytes that come in pieces: a model is not held in memory for it.
#[derive(Clone)]
pub struct Sha256(ring::digest::Context);

impl Sha256 {
    /// Of nothing yet.
    pub fn new() -> Sha256 {
        Sha256(ring::digest::Context::new(&ring::digest::SHA256))
    }

    /// Takes the next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all of them.
    pub fn finish(self) -> Digest {
        Digest(self.0.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Sha256::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_the_digest_of_the_whole() {
        let mut hasher = Sha256::new();
        [&b"a"[..], b"", b"bc"].iter().for_each(|piece| hasher.add(piece));
        assert_eq!(hasher.finish(), Digest::of(b"abc"));
    }

    #[test]
    fn a_digest_has_one_form() {
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let digest = Digest::of(b"abc");
        assert_eq!((digest.to_string().as_str(), digest.short().as_str()), (text, "ba7816bf8f01"));
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(serde_json::to_string(&digest).unwrap(), format!("\"{text}\""));
        for wrong in ["", &text[1..], &text.to_uppercase(), &format!("{text}0")] {
            assert_eq!(wrong.parse::<Digest>(), Err(DigestError), "{wrong}");
        }
    }
}
