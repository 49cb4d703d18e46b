//! A parcel for one receiver and one time: X25519 (RFC 7748), HKDF-SHA256 (RFC 5869) and ChaCha20-Poly1305 (RFC 8439), with a
//! new key on both sides. Who carries it sees its length and no more, and when the receiver's key is gone nobody opens it again.
//!
//! Who sent it is not proved here: the sender signs what he says.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::SystemRandom;

use super::NoRandom;

/// Bytes of each side's public key.
pub const PARCEL_KEY_BYTES: usize = 32;
/// Bytes that sealing adds to a part.
pub const PARCEL_OVERHEAD_BYTES: usize = 16;
const INFO: &[u8] = b"picket parcel v1";

/// One side's key, for one parcel.
pub struct ParcelKey {
    private: EphemeralPrivateKey,
    public: [u8; PARCEL_KEY_BYTES],
}

/// What both sides seal and open by.
pub struct Parcel(LessSafeKey);

impl ParcelKey {
    /// A new key.
    pub fn generate() -> Result<ParcelKey, NoRandom> {
        let private = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).map_err(|_| NoRandom)?;
        let public = private.compute_public_key().map_err(|_| NoRandom)?;
        let public = public.as_ref().try_into().expect("an X25519 key has 32 bytes");
        Ok(ParcelKey { private, public })
    }

    /// What the other side is told.
    pub fn public(&self) -> [u8; PARCEL_KEY_BYTES] {
        self.public
    }

    /// What the two agree on for this request. `receiver` says whose key is whose; both must name the same. Nothing where
    /// `other` is no key.
    pub fn agree(
        self,
        other: &[u8; PARCEL_KEY_BYTES],
        receiver: &[u8; PARCEL_KEY_BYTES],
        about: &str,
    ) -> Option<Parcel> {
        let sender = if *receiver == self.public { other } else { &self.public };
        let context = [INFO, receiver, sender, about.as_bytes()];
        let derive = |shared: &[u8]| {
            let key = Salt::new(HKDF_SHA256, &[]).extract(shared);
            let okm = key.expand(&context, &CHACHA20_POLY1305).expect("a key is shorter than HKDF gives");
            Parcel(LessSafeKey::new(UnboundKey::from(okm)))
        };
        agree_ephemeral(self.private, &UnparsedPublicKey::new(&X25519, other), derive).ok()
    }
}

impl Parcel {
    /// Seals a part. Each number is for one part and never for another: the key is for one parcel only.
    pub fn seal(&self, number: u32, part: &[u8]) -> Vec<u8> {
        let mut sealed = part.to_vec();
        self.0
            .seal_in_place_append_tag(nonce(number), Aad::empty(), &mut sealed)
            .expect("a part is far shorter than the cipher's limit");
        sealed
    }

    /// Opens a part; nothing where it is not the part of this number.
    pub fn open(&self, number: u32, sealed: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = sealed.to_vec();
        let length = self.0.open_in_place(nonce(number), Aad::empty(), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

fn nonce(number: u32) -> Nonce {
    let mut bytes = [0; 12];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_receiver_opens_a_parcel_and_only_as_it_was_sent() {
        let (receiver, sender, other) =
            (ParcelKey::generate().unwrap(), ParcelKey::generate().unwrap(), ParcelKey::generate().unwrap());
        let (to, from) = (receiver.public(), sender.public());
        let sealed = sender.agree(&to, &to, "request 1").unwrap();
        let parts: Vec<_> = (0..2).map(|number| sealed.seal(number, b"a face")).collect();
        assert!(parts.iter().all(|part| part.len() == 6 + PARCEL_OVERHEAD_BYTES && !part.starts_with(b"a face")));
        assert_ne!(parts[0], parts[1]);
        let opened = receiver.agree(&from, &to, "request 1").unwrap();
        assert_eq!(opened.open(1, &parts[1]).unwrap(), b"a face");
        assert_eq!(opened.open(0, &parts[1]), None, "a part has its place");
        let mut changed = parts[0].clone();
        changed[0] ^= 1;
        assert_eq!(opened.open(0, &changed), None);
        assert_eq!(other.agree(&from, &to, "request 1").unwrap().open(0, &parts[0]), None, "another key");
        // A key that lies on no curve point of use gives nothing.
        assert!(ParcelKey::generate().unwrap().agree(&[0; 32], &to, "request 1").is_none());
    }

    #[test]
    fn another_request_has_another_key() {
        let (receiver, sender) = (ParcelKey::generate().unwrap(), ParcelKey::generate().unwrap());
        let (to, from) = (receiver.public(), sender.public());
        let sealed = sender.agree(&to, &to, "request 1").unwrap().seal(0, b"x");
        assert_eq!(receiver.agree(&from, &to, "request 2").unwrap().open(0, &sealed), None);
    }
}
