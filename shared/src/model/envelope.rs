//! A document and the signatures over it: the exact bytes, and by whom. Nothing of the bytes is parsed before enough of those
//! who may sign have signed them. Pure.
//!
//! As a file it is a DSSE envelope (Dead Simple Signing Envelope 1.0, the secure-systems-lab's), on the wire the same in CBOR.
//! What is signed is DSSE's pre-authentication encoding, which holds the kind of the document: a root is never taken for a
//! manifest, nor either for an order.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::crypto::{KeyId, PublicKey, SIGNATURE_BYTES, SecretKey};
use crate::limits::{MODEL_MANIFEST_BYTES_MAX, MODEL_SIGNATURES_MAX};

/// What can be signed.
pub trait Document: Serialize + DeserializeOwned {
    /// Its kind, as DSSE has it. It is signed with the bytes.
    const TYPE: &'static str;
    /// Most bytes of it.
    const BYTES_MAX: usize;

    /// Refuses a document that can be read and still makes no sense, in a few words.
    fn check(&self) -> Result<(), String>;
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Whose.
    pub key: KeyId,
    /// The 64 bytes of Ed25519.
    pub signature: ByteBuf,
}

/// A document as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Its bytes, which are JSON.
    pub payload: ByteBuf,
    /// Who signed them.
    pub signatures: Vec<Signature>,
}

/// Why an envelope is not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Nobody signed it.
    #[error("it is not signed")]
    Unsigned,
    /// A signature by a key that may sign it is false: the bytes, the kind of document, or the signature were changed.
    #[error("its signature by key {0} is false")]
    Signature(KeyId),
    /// A key signed twice, and counts once: whoever wrote that wanted it to count twice.
    #[error("it is signed by key {0} twice")]
    Twice(KeyId),
    /// Too few of those who may sign it did.
    #[error("it is signed by {signed} of the {threshold} keys that it takes")]
    Threshold {
        /// How many did.
        signed: usize,
        /// How many must.
        threshold: usize,
    },
    /// Signed, and not what it should be.
    #[error("it cannot be used: {0}")]
    Malformed(String),
}

/// The envelope as a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dsse {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<DsseSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DsseSignature {
    keyid: KeyId,
    sig: String,
}

impl Envelope {
    /// A document that nobody has signed yet. The error is a few words.
    pub fn of<D: Document>(document: &D) -> Result<Envelope, String> {
        document.check()?;
        let payload = serde_json::to_vec(document).map_err(|error| error.to_string())?;
        if payload.len() > D::BYTES_MAX {
            return Err(format!("{} bytes and at most {}", payload.len(), D::BYTES_MAX));
        }
        Ok(Envelope { payload: payload.into(), signatures: vec![] })
    }

    /// Signs it as a document of this kind; a signature of this key that is there already is replaced.
    pub fn sign<D: Document>(&mut self, key: &SecretKey) {
        let id = key.public().id();
        self.signatures.retain(|signature| signature.key != id);
        let signature = key.sign(&signed_bytes(D::TYPE, &self.payload)).to_vec().into();
        self.signatures.push(Signature { key: id, signature });
    }

    /// The document, if `threshold` of `keys` signed it. What others signed is passed over: a release that was signed before a
    /// key was exchanged stays one.
    pub fn open<D: Document>(&self, keys: &[PublicKey], threshold: usize) -> Result<D, EnvelopeError> {
        self.is_signed::<D>(keys, threshold)?;
        self.read()
    }

    /// Whether `threshold` of `keys` signed it as a document of this kind.
    pub fn is_signed<D: Document>(&self, keys: &[PublicKey], threshold: usize) -> Result<(), EnvelopeError> {
        self.check().map_err(EnvelopeError::Malformed)?;
        if self.payload.len() > D::BYTES_MAX {
            return Err(EnvelopeError::Malformed(format!("{} bytes, of at most {}", self.payload.len(), D::BYTES_MAX)));
        }
        if self.signatures.is_empty() {
            return Err(EnvelopeError::Unsigned);
        }
        let message = signed_bytes(D::TYPE, &self.payload);
        let mut signed = Vec::new();
        for Signature { key, signature } in &self.signatures {
            let Some(public) = keys.iter().find(|public| public.id() == *key) else { continue };
            if signed.contains(key) {
                return Err(EnvelopeError::Twice(*key));
            }
            if !public.verify(&message, signature) {
                return Err(EnvelopeError::Signature(*key));
            }
            signed.push(*key);
        }
        // A threshold of nothing would be met by anybody.
        match signed.len() >= threshold.max(1) {
            true => Ok(()),
            false => Err(EnvelopeError::Threshold { signed: signed.len(), threshold }),
        }
    }

    /// The document, whoever signed it: for who has checked that, or cannot because the keys are in it.
    pub fn read<D: Document>(&self) -> Result<D, EnvelopeError> {
        if self.payload.len() > D::BYTES_MAX {
            return Err(EnvelopeError::Malformed(format!("{} bytes, of at most {}", self.payload.len(), D::BYTES_MAX)));
        }
        let read = serde_json::from_slice(&self.payload);
        let document: D = read.map_err(|error| EnvelopeError::Malformed(error.to_string()))?;
        document.check().map_err(EnvelopeError::Malformed)?;
        Ok(document)
    }

    /// Whether it keeps its bounds.
    pub fn check(&self) -> Result<(), String> {
        let (bytes, signatures) = (self.payload.len(), self.signatures.len());
        if bytes > MODEL_MANIFEST_BYTES_MAX {
            return Err(format!("a document of {bytes} bytes, of at most {MODEL_MANIFEST_BYTES_MAX}"));
        }
        if signatures > MODEL_SIGNATURES_MAX {
            return Err(format!("{signatures} signatures, of at most {MODEL_SIGNATURES_MAX}"));
        }
        let whole = |signature: &Signature| signature.signature.len() == SIGNATURE_BYTES;
        if self.signatures.iter().all(whole) { Ok(()) } else { Err("a signature that is cut".into()) }
    }

    /// The text of its file.
    pub fn to_file<D: Document>(&self) -> String {
        let signature = |of: &Signature| DsseSignature { keyid: of.key, sig: BASE64.encode(&of.signature) };
        let dsse = Dsse {
            payload: BASE64.encode(&self.payload),
            payload_type: D::TYPE.to_owned(),
            signatures: self.signatures.iter().map(signature).collect(),
        };
        serde_json::to_string(&dsse).expect("texts alone") + "\n"
    }

    /// Reads the text of a file that [`Envelope::to_file`] wrote; no other form of it is read. The error is a few words.
    pub fn from_file<D: Document>(text: &str) -> Result<Envelope, String> {
        let dsse: Dsse = serde_json::from_str(text).map_err(|error| format!("is no DSSE envelope ({error})"))?;
        if dsse.payload_type != D::TYPE {
            return Err(format!("is a document of the kind {:?}, and not {}", dsse.payload_type, D::TYPE));
        }
        let bytes = |text: &str| BASE64.decode(text).map_err(|_| "has a text that is no base64".to_owned());
        let signature =
            |of: &DsseSignature| Ok::<_, String>(Signature { key: of.keyid, signature: bytes(&of.sig)?.into() });
        let signatures = dsse.signatures.iter().map(signature).collect::<Result<_, _>>()?;
        let envelope = Envelope { payload: bytes(&dsse.payload)?.into(), signatures };
        envelope.check().map_err(|what| format!("has {what}"))?;
        if envelope.to_file::<D>() != text {
            return Err("was written by another program, or edited; take the file as it was made".into());
        }
        Ok(envelope)
    }
}

/// DSSE's pre-authentication encoding: `DSSEv1`, then length and bytes of the kind and of the document.
fn signed_bytes(kind: &str, payload: &[u8]) -> Vec<u8> {
    [format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_the_pre_authentication_encoding_of_dsse() {
        // The example of the DSSE specification, protocol.md.
        let bytes = signed_bytes("http://example.com/HelloWorld", b"hello world");
        assert_eq!(bytes, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }
}
