//! Ed25519 keys: who signs, and how others know who it was. A secret key is never shown but as the PEM text that goes into
//! its file.

use std::fmt;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::{NoRandom, from_hex, hex, random, sha256};

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;
const SEED_BYTES: usize = 32;
/// PKCS#8, version 1, of an Ed25519 key (RFC 8410): what stands before the seed. ring's own writer adds the public key in a
/// form that OpenSSL does not read.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const PEM_TAG: &str = "PRIVATE KEY";

/// Why something is not a key of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No PEM text with one Ed25519 key.
    #[error("holds no Ed25519 key in PEM (PKCS#8)")]
    Form,
}

/// A key to sign with.
pub struct SecretKey {
    seed: [u8; SEED_BYTES],
    pair: Ed25519KeyPair,
}

impl SecretKey {
    /// A new key.
    pub fn generate() -> Result<SecretKey, NoRandom> {
        random().map(SecretKey::of_seed)
    }

    /// The key of a PEM text.
    pub fn from_pem(text: &str) -> Result<SecretKey, KeyError> {
        let block = pem::parse(text).map_err(|_| KeyError::Form)?;
        let seed = block.contents().strip_prefix(&PKCS8_PREFIX[..]).filter(|_| block.tag() == PEM_TAG);
        seed.and_then(|seed| seed.try_into().ok()).map(SecretKey::of_seed).ok_or(KeyError::Form)
    }

    /// The key as a PEM text: for its file and nothing else.
    pub fn to_pem(&self) -> String {
        let der = [&PKCS8_PREFIX[..], &self.seed].concat();
        pem::encode_config(&pem::Pem::new(PEM_TAG, der), pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF))
    }

    /// What others know it by.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes"))
    }

    /// The signature over a message.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.pair.sign(message).as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }

    fn of_seed(seed: [u8; SEED_BYTES]) -> SecretKey {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("every 32 bytes are a seed");
        SecretKey { seed, pair }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey of {}", self.public().id())
    }
}

/// What a signature is checked by. In JSON, 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Whether this key's owner signed this message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }

    /// Its short name.
    pub fn id(&self) -> KeyId {
        let digest = sha256(&self.0);
        KeyId(digest[..8].try_into().expect("a digest has more than 8 bytes"))
    }
}

impl TryFrom<String> for PublicKey {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        from_hex(&text).map(PublicKey).ok_or("a public key is 64 hexadecimal digits")
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        hex(&key.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey {}", self.id())
    }
}

/// The short name of a key: the first 8 bytes of its SHA-256. In JSON, 16 hexadecimal digits. It says which key is meant, and
/// proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(pub [u8; 8]);

impl TryFrom<String> for KeyId {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        from_hex(&text).map(KeyId).ok_or("a key id is 16 hexadecimal digits")
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> String {
        id.to_string()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId {self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_the_standard_ones() {
        // RFC 8032, section 7.1, test 2.
        let seed = from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
        let key = SecretKey::of_seed(seed);
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(String::from(key.public()), public);
        let signature = key.sign(&[0x72]);
        assert!(hex(&signature).starts_with("92a009a9f0d4cab8720e820b5f642540"));
        assert!(key.public().verify(&[0x72], &signature));
        assert!(!key.public().verify(&[0x73], &signature), "another message");
        assert!(!key.public().verify(&[0x72], &signature[..63]), "cut");
        assert!(!SecretKey::generate().unwrap().public().verify(&[0x72], &signature), "another key");
    }

    #[test]
    fn a_key_survives_its_file_and_is_never_shown() {
        let key = SecretKey::generate().unwrap();
        let text = key.to_pem();
        assert_eq!(SecretKey::from_pem(&text).unwrap().public(), key.public());
        let shown = format!("{key:?}");
        assert_eq!(shown, format!("SecretKey of {}", key.public().id()));
        assert!(!shown.contains(&hex(&key.seed)));
        for wrong in ["", "x", &text[..60], &text.replace("PRIVATE", "PUBLIC"), &text.replacen("MC4C", "MC4D", 1)] {
            assert_eq!(SecretKey::from_pem(wrong).unwrap_err(), KeyError::Form, "{wrong}");
        }
    }

    #[test]
    fn a_public_key_and_its_id_survive_json() {
        let key = SecretKey::generate().unwrap().public();
        let json = serde_json::to_string(&(key, key.id())).unwrap();
        assert_eq!(serde_json::from_str::<(PublicKey, KeyId)>(&json).unwrap(), (key, key.id()));
        assert_eq!(key.id().to_string(), hex(&sha256(&key.0))[..16]);
        assert!(serde_json::from_str::<PublicKey>("\"00\"").is_err());
    }
}
