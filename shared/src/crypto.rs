//! Digests, secrets from the system's randomness, and their comparison. Only this file knows ring; signatures will live
//! here too.

use ring::rand::SecureRandom;
use ring::{hmac, rand};

/// The SHA-256 of some bytes, in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes; check that /dev/urandom is there")]
pub struct NoRandom;

/// A new secret of so many random bytes, in hexadecimal.
pub fn secret_hex<const BYTES: usize>() -> Result<String, NoRandom> {
    let mut bytes = [0; BYTES];
    rand::SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether two secrets are the same. How long it takes says nothing of where they differ: their authentication codes are
/// compared, and ring does that in constant time.
pub fn same_secret(one: &[u8], other: &[u8]) -> bool {
    // Which key it is does not matter: a code is never shown.
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"picket: same secret");
    hmac::verify(&key, one, hmac::sign(&key, other).as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
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
    fn the_digest_is_the_standard_one() {
        // FIPS 180-2, appendix B.1.
        let expect = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(super::sha256_hex(b"abc"), expect);
    }
}
