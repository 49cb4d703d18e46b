//! Digests, authentication codes, signatures, secrets from the system's randomness, and their comparison. Only this folder knows
//! ring. It reads and writes no file: that is `keyfile.rs`.

mod digest;
mod keys;
mod parcel;

pub use digest::{Digest, DigestError, Sha256};
pub use keys::{KeyError, KeyId, PublicKey, SIGNATURE_BYTES, SecretKey};
pub use parcel::{PARCEL_KEY_BYTES, PARCEL_OVERHEAD_BYTES, Parcel, ParcelKey};

use ring::rand::SecureRandom;
use ring::{hmac, rand};

/// No dump of this process is ever written, wherever it crashes, and nobody but root looks into its memory: keys lie there.
/// A child that it starts has passwords of cameras: it has no room for a dump, and can make none; where dumps go to a program
/// (`kernel.core_pattern` with a `|`) that bound does not hold for it.
pub fn keep_out_of_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// The SHA-256 of some bytes, in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&sha256(bytes))
}

/// The SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Bytes in hexadecimal, in small letters.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that exactly so many hexadecimal digits say; nothing where they do not.
pub fn from_hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let digits = text.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = [0; BYTES];
    if digits.len() != 2 * BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(bytes)
}

/// The system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes; check that /dev/urandom is there")]
pub struct NoRandom;

/// A new secret of so many random bytes, in hexadecimal.
pub fn secret_hex<const BYTES: usize>() -> Result<String, NoRandom> {
    random::<BYTES>().map(|bytes| hex(&bytes))
}

/// So many random bytes.
pub fn random<const BYTES: usize>() -> Result<[u8; BYTES], NoRandom> {
    let mut bytes = [0; BYTES];
    rand::SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}

/// Whether two secrets are the same. How long it takes says nothing of where they differ: their authentication codes are
/// compared, and ring does that in constant time.
pub fn same_secret(one: &[u8], other: &[u8]) -> bool {
    // Which key it is does not matter: a code is never shown.
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"picket: same secret");
    hmac::verify(&key, one, hmac::sign(&key, other).as_ref()).is_ok()
}

/// Bytes of an authentication code.
pub const MAC_BYTES: usize = 32;

/// A secret that all of a site share, to sign with by HMAC-SHA256 what needs no more than that one of them said it. Its bytes
/// are never shown again.
#[derive(Clone)]
pub struct MacKey(hmac::Key);

impl MacKey {
    /// The key of these bytes; fewer than 32 could be guessed.
    pub fn new(secret: &[u8]) -> MacKey {
        MacKey(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The code of a message.
    pub fn sign(&self, message: &[u8]) -> [u8; MAC_BYTES] {
        let code = hmac::sign(&self.0, message);
        code.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
    }

    /// Whether this is the code of this message, in constant time.
    pub fn verify(&self, message: &[u8], code: &[u8; MAC_BYTES]) -> bool {
        hmac::verify(&self.0, message, code).is_ok()
    }
}

impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MacKey")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_code_is_the_standard_one_and_belongs_to_its_key_and_message() {
        // RFC 4231, test case 2.
        let key = super::MacKey::new(b"Jefe");
        let message = b"what do ya want for nothing?";
        let code = key.sign(message);
        assert_eq!(super::hex(&code), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert!(key.verify(message, &code));
        assert!(!key.verify(b"what do ya want for nothing!", &code));
        assert!(!super::MacKey::new(b"Jeff").verify(message, &code));
        assert_eq!(format!("{key:?}"), "MacKey");
    }

    #[test]
    fn a_secret_is_new_each_time_and_the_same_as_itself_only() {
        let (one, other) = (super::secret_hex::<32>().unwrap(), super::secret_hex::<32>().unwrap());
        assert_eq!(one.len(), 64);
        assert!(super::same_secret(one.as_bytes(), one.as_bytes()));
        for wrong in [other.as_str(), "", &one[..63], &format!("{one}0")] {
            assert!(!super::same_secret(wrong.as_bytes(), one.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn hexadecimal_says_exactly_so_many_bytes_or_nothing() {
        assert_eq!(super::from_hex::<3>("00fF1a"), Some([0, 255, 26]));
        for wrong in ["", "00ff1", "00ff1a2", "00ff1g", "+0ff1a", "é0ff1"] {
            assert_eq!(super::from_hex::<3>(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_digest_is_the_standard_one() {
        // FIPS 180-2, appendix B.1.
        let expect = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(super::sha256_hex(b"abc"), expect);
    }
}
