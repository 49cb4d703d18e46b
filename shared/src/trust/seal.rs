//! One message, signed: COSE_Sign1 (RFC 9052) with EdDSA over the exact bytes, and with the topic as external data, so that
//! what was said on one topic cannot be said again on another. Pure; who may sign what is `verifier.rs`.
//!
//! A CBOR message travels inside its seal. A JSON message stays readable to everybody: its seal stands in a last member,
//! `"seal"`, and covers the text as it is without that member (a detached payload). Only one form of each is written and
//! read, so that nothing beyond a few bytes is parsed before the signature was checked.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use coset::cbor::Value;
use coset::{CoseSign1, CoseSign1Builder, Header, HeaderBuilder, Label, TaggedCborSerializable, iana};

use crate::crypto::{KeyId, PublicKey, SIGNATURE_BYTES, SecretKey};

/// Bytes that a seal adds to a CBOR message at most.
pub const SEAL_BYTES_MAX: usize = 160;
/// Bytes that a seal adds to a JSON message at most.
pub const SEAL_JSON_BYTES_MAX: usize = 256;
/// COSE_Sign1 begins with tag 18 and an array of four. A message of ours without a seal begins with its version or with `{`.
const BEGINS: [u8; 2] = [0xd2, 0x84];
/// Bytes of the protected headers at most.
const HEADERS_BYTES_MAX: usize = 80;
/// Headers for private use (RFC 9052, section 1.4): below -65536.
const RUN: i64 = -70_001;
const SEQ: i64 = -70_002;
/// CWT claims in a header (RFC 9597), and of them the expiry and the time of issue (RFC 8392).
const CLAIMS: i64 = 15;
const EXPIRES: i64 = 4;
const ISSUED: i64 = 6;
/// What stands before and after the seal in a JSON message.
const MEMBER: &[u8] = b",\"seal\":\"";
const MEMBER_ENDS: &[u8] = b"\"}";

/// A message's place among all that its signer says on its topic, and when that was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The signer's run: it grows with each.
    pub run: u64,
    /// Counts the messages of that run.
    pub seq: u64,
    /// Seconds since 1970, by the signer's clock.
    pub issued_s: u64,
    /// When it is no order any more; for ever where it says nothing.
    pub expires_s: Option<u64>,
}

/// A message whose signature was checked.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// Whose signature.
    pub key: KeyId,
    /// Its place.
    pub mark: Mark,
    /// What was said.
    pub payload: std::borrow::Cow<'a, [u8]>,
}

/// Why a seal is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is none.
    #[error("it is not signed")]
    Missing,
    /// It has another form than ours.
    #[error("its seal is damaged")]
    Malformed,
    /// Nobody who may say this has that key.
    #[error("it is signed by key {0}, which may not say this")]
    Key(KeyId),
    /// The bytes, the topic or the key are others than those that were signed.
    #[error("its signature by key {0} is false: it was changed, or said on another topic")]
    Signature(KeyId),
}

/// Whether a message has a seal around it or in it.
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(&BEGINS) || json_parts(bytes).is_some()
}

/// Seals a CBOR message for a topic.
pub fn seal(key: &SecretKey, topic: &str, mark: &Mark, payload: &[u8]) -> Vec<u8> {
    let builder = CoseSign1Builder::new().protected(headers(key, mark)).payload(payload.to_vec());
    written(builder.create_signature(topic.as_bytes(), |message| key.sign(message).to_vec()))
}

/// Seals a JSON object for a topic, in the object.
pub fn seal_json(key: &SecretKey, topic: &str, mark: &Mark, object: &[u8]) -> Vec<u8> {
    let builder = CoseSign1Builder::new().protected(headers(key, mark));
    let sign = |message: &[u8]| key.sign(message).to_vec();
    let seal = BASE64.encode(written(builder.create_detached_signature(object, topic.as_bytes(), sign)));
    let open = object.strip_suffix(b"}").expect("a status message of ours is an object with members");
    [open, MEMBER, seal.as_bytes(), MEMBER_ENDS].concat()
}

/// Checks a message's seal. `keys` gives the key of this name, where its owner may speak on this topic.
pub fn open<'a>(
    keys: impl Fn(KeyId) -> Option<PublicKey>,
    topic: &str,
    bytes: &'a [u8],
) -> Result<Opened<'a>, SealError> {
    if bytes.starts_with(&BEGINS) {
        let sign1 = read(bytes)?;
        let (key, mark) = meaning(&sign1)?;
        let public = keys(key).ok_or(SealError::Key(key))?;
        let verify = |signature: &[u8], message: &[u8]| public.verify(message, signature).then_some(()).ok_or(());
        if sign1.payload.is_none() {
            return Err(SealError::Malformed);
        }
        sign1.verify_signature(topic.as_bytes(), verify).map_err(|()| SealError::Signature(key))?;
        let payload = sign1.payload.expect("just looked at").into();
        return Ok(Opened { key, mark, payload });
    }
    let (object, seal) = json_parts(bytes).ok_or(SealError::Missing)?;
    let sign1 = read(&BASE64.decode(seal).map_err(|_| SealError::Malformed)?)?;
    let (key, mark) = meaning(&sign1)?;
    let public = keys(key).ok_or(SealError::Key(key))?;
    if sign1.payload.is_some() {
        return Err(SealError::Malformed);
    }
    let verify = |signature: &[u8], message: &[u8]| public.verify(message, signature).then_some(()).ok_or(());
    sign1.verify_detached_signature(&object, topic.as_bytes(), verify).map_err(|()| SealError::Signature(key))?;
    Ok(Opened { key, mark, payload: object.into() })
}

/// The message of a seal that nobody checks: for who knows no keys.
pub fn strip(bytes: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, SealError> {
    if bytes.starts_with(&BEGINS) {
        return read(bytes)?.payload.map(Into::into).ok_or(SealError::Malformed);
    }
    Ok(json_parts(bytes).map_or(bytes.into(), |(object, _)| object.into()))
}

/// The object without its seal, and the seal.
fn json_parts(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let rest = bytes.strip_prefix(b"{").and(bytes.strip_suffix(MEMBER_ENDS))?;
    let from = rest.len().saturating_sub(SEAL_JSON_BYTES_MAX);
    let at = from + rest[from..].windows(MEMBER.len()).rposition(|window| window == MEMBER)?;
    Some(([&rest[..at], b"}"].concat(), &rest[at + MEMBER.len()..]))
}

fn headers(key: &SecretKey, mark: &Mark) -> Header {
    let number = |number: u64| Value::Integer(number.into());
    let issued = (Value::Integer(ISSUED.into()), number(mark.issued_s));
    let expires = mark.expires_s.map(|at_s| (Value::Integer(EXPIRES.into()), number(at_s)));
    HeaderBuilder::new()
        .algorithm(iana::Algorithm::EdDSA)
        .key_id(key.public().id().0.to_vec())
        .value(CLAIMS, Value::Map(expires.into_iter().chain([issued]).collect()))
        .value(RUN, number(mark.run))
        .value(SEQ, number(mark.seq))
        .build()
}

fn written(builder: CoseSign1Builder) -> Vec<u8> {
    builder.build().to_tagged_vec().expect("byte strings and small numbers can always be written")
}

/// Reads a COSE_Sign1 of exactly our form. What is parsed beyond byte strings is a few bytes of headers, so hostile input
/// finds no memory here.
fn read(bytes: &[u8]) -> Result<CoseSign1, SealError> {
    has_our_form(bytes).ok_or(SealError::Malformed)?;
    CoseSign1::from_tagged_slice(bytes).map_err(|_| SealError::Malformed)
}

/// Tag and array; protected headers, not many; no others; a payload, or null in its place; a signature; nothing after it.
fn has_our_form(bytes: &[u8]) -> Option<()> {
    let rest = bytes.strip_prefix(&BEGINS)?;
    let (headers, rest) = byte_string(rest)?;
    let rest = rest.strip_prefix(&[0xa0]).filter(|_| headers.len() <= HEADERS_BYTES_MAX)?;
    let rest = match rest.strip_prefix(&[0xf6]) {
        Some(rest) => rest,
        None => byte_string(rest)?.1,
    };
    let (signature, rest) = byte_string(rest)?;
    (signature.len() == SIGNATURE_BYTES && rest.is_empty()).then_some(())
}

/// A byte string of stated length (RFC 8949, section 3.1), and what follows it.
fn byte_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&head, rest) = bytes.split_first()?;
    let long = match head {
        0x40..=0x57 => return rest.split_at_checked(usize::from(head - 0x40)),
        0x58..=0x5a => 1 << (head - 0x58),
        _ => return None,
    };
    let (length, rest) = rest.split_at_checked(long)?;
    rest.split_at_checked(length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
}

fn meaning(sign1: &CoseSign1) -> Result<(KeyId, Mark), SealError> {
    let header = &sign1.protected.header;
    let number = |value: &Value| value.as_integer().and_then(|number| u64::try_from(number).ok());
    let of = |label: i64| header.rest.iter().find(|(name, _)| *name == Label::Int(label)).map(|(_, value)| value);
    let mark = || {
        let claims = of(CLAIMS)?.as_map()?;
        let claim = |label: i64| claims.iter().find(|(name, _)| *name == Value::Integer(label.into()));
        Some(Mark {
            run: number(of(RUN)?)?,
            seq: number(of(SEQ)?)?,
            issued_s: number(&claim(ISSUED)?.1)?,
            expires_s: match claim(EXPIRES) {
                Some((_, at_s)) => Some(number(at_s)?),
                None => None,
            },
        })
    };
    let eddsa = header.alg == Some(coset::RegisteredLabelWithPrivate::Assigned(iana::Algorithm::EdDSA));
    let key = header.key_id.as_slice().try_into().ok().filter(|_| eddsa);
    match (key, mark()) {
        (Some(key), Some(mark)) => Ok((KeyId(key), mark)),
        _ => Err(SealError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "picket/v1/yard/gate-3/duty";

    fn key() -> SecretKey {
        SecretKey::generate().unwrap()
    }

    fn mark() -> Mark {
        Mark { run: u64::MAX, seq: u64::MAX, issued_s: u64::MAX, expires_s: Some(u64::MAX) }
    }

    #[test]
    fn a_seal_is_opened_by_its_key_on_its_topic_and_adds_no_more_than_it_may() {
        let key = key();
        let known = |id| (id == key.public().id()).then(|| key.public());
        for (payload, mark) in [(&b"\x01\xa0"[..], mark()), (&[7; 70_000], Mark { expires_s: None, ..mark() })] {
            let sealed = seal(&key, TOPIC, &mark, payload);
            assert!(is_sealed(&sealed) && sealed.len() - payload.len() <= SEAL_BYTES_MAX, "{}", sealed.len());
            let opened = open(known, TOPIC, &sealed).unwrap();
            assert_eq!((opened.key, opened.mark, &*opened.payload), (key.public().id(), mark, payload));
            assert_eq!(strip(&sealed).unwrap(), payload);
            assert_eq!(
                open(known, "picket/v1/yard/gate-3/events", &sealed).unwrap_err().to_string().split(' ').next(),
                Some("its")
            );
        }
    }

    #[test]
    fn a_sealed_object_stays_an_object_that_anybody_reads() {
        let key = key();
        let object = br#"{"status":"down","problems":["a \",\"seal\":\" in a text"]}"#;
        let sealed = seal_json(&key, TOPIC, &mark(), object);
        assert!(sealed.len() - object.len() <= SEAL_JSON_BYTES_MAX, "{}", sealed.len());
        let read: serde_json::Value = serde_json::from_slice(&sealed).unwrap();
        assert_eq!(read["status"], "down");
        let opened = open(|_| Some(key.public()), TOPIC, &sealed).unwrap();
        assert_eq!(&*opened.payload, object);
        assert_eq!(strip(&sealed).unwrap(), &object[..]);
        assert_eq!(strip(object).unwrap(), &object[..]);
        assert_eq!(open(|_| Some(key.public()), TOPIC, object), Err(SealError::Missing));
    }

    #[test]
    fn whatever_is_changed_is_refused() {
        let key = key();
        let known = |id| (id == key.public().id()).then(|| key.public());
        let object = br#"{"status":"down"}"#;
        for sealed in [seal(&key, TOPIC, &mark(), b"\x01\xa0"), seal_json(&key, TOPIC, &mark(), object)] {
            for at in 0..sealed.len() {
                for bit in 0..8 {
                    let mut changed = sealed.clone();
                    changed[at] ^= 1 << bit;
                    assert!(open(known, TOPIC, &changed).is_err(), "bit {bit} of byte {at}");
                }
                assert!(open(known, TOPIC, &sealed[..at]).is_err(), "{at} bytes");
            }
            let longer = [&sealed[..], b" "].concat();
            assert!(open(known, TOPIC, &longer).is_err());
        }
        let other = super::tests::key();
        let sealed = seal(&other, TOPIC, &mark(), b"\x01");
        assert_eq!(open(known, TOPIC, &sealed), Err(SealError::Key(other.public().id())));
        assert_eq!(open(|_| Some(key.public()), TOPIC, &sealed), Err(SealError::Signature(other.public().id())));
    }

    #[test]
    fn more_headers_than_ours_are_not_parsed_though_they_are_signed() {
        let key = key();
        let signed = |extra: i64| {
            let mut header = headers(&key, &mark());
            header.rest.extend((0..extra).map(|n| (Label::Int(-80_000 - n), Value::Null)));
            let builder = CoseSign1Builder::new().protected(header).payload(vec![1]);
            written(builder.create_signature(TOPIC.as_bytes(), |message| key.sign(message).to_vec()))
        };
        let opened = |bytes: &[u8]| open(|_| Some(key.public()), TOPIC, bytes).map(|opened| opened.mark);
        assert_eq!(opened(&signed(0)), Ok(mark()));
        assert_eq!(opened(&signed(20)), Err(SealError::Malformed));
    }

    #[test]
    fn no_other_form_is_parsed() {
        let key = key();
        let sealed = seal(&key, TOPIC, &mark(), b"\x01");
        let signature = sealed[sealed.len() - 66..].to_vec();
        let with = |headers: &[u8], unprotected: &[u8], payload: &[u8]| {
            let head = [&BEGINS[..], &[0x58, headers.len() as u8], headers, unprotected, payload, &signature].concat();
            open(|_| Some(key.public()), TOPIC, &head).map(|opened| opened.mark)
        };
        // Too many headers; headers that nobody signed; a payload of no stated length; a null payload.
        let nested = [&[0x81; 90][..], &[0]].concat();
        assert_eq!(with(&nested, &[0xa0], b"\x41\x01"), Err(SealError::Malformed));
        assert_eq!(with(&[0xa0], &[0xa1, 0x01, 0x27], b"\x41\x01"), Err(SealError::Malformed));
        assert_eq!(with(&[0xa0], &[0xa0], b"\x5f\x41\x01\xff"), Err(SealError::Malformed));
        assert_eq!(with(&[0xa0], &[0xa0], b"\xf6"), Err(SealError::Malformed));
        assert_eq!(with(&[0xa0], &[0xa0], b"\x5a\xff\xff\xff\xff"), Err(SealError::Malformed));
    }
}
