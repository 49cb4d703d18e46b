//! Bytes on the wire and in the store: one version byte, then one CBOR item with numbered fields.
//!
//! Only this file knows serde_cbor. Bytes are capped before they are parsed, nothing is decoded to a dynamic value,
//! trailing bytes are refused, and every refusal says why. Decoding never panics, and never allocates more than four times
//! what such a message may have.

use crate::wire::Wire;

/// The version this build writes, and the newest that it reads.
pub const VERSION: u8 = 1;

/// Why bytes are not a message, or a message cannot become bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// No bytes at all.
    #[error("the message is empty")]
    Empty,
    /// More bytes than such a message may have.
    #[error("the message has {bytes} bytes and may have {bytes_max}")]
    TooLarge {
        /// Bytes seen.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// Written by a newer program.
    #[error("the message is of version {0} and this build reads up to {VERSION}; upgrade this side")]
    NewerVersion(u8),
    /// Not CBOR, not this message, or bytes left over.
    #[error("the message cannot be read: {0}")]
    Malformed(String),
    /// Readable, and still nonsense.
    #[error("the message breaks a rule: {0}")]
    Refused(String),
}

impl CodecError {
    /// A short constant word for a counter's label.
    pub fn word(&self) -> &'static str {
        match self {
            CodecError::Empty => "empty",
            CodecError::TooLarge { .. } => "too_large",
            CodecError::NewerVersion(_) => "newer_version",
            CodecError::Malformed(_) => "malformed",
            CodecError::Refused(_) => "refused",
        }
    }
}

/// Writes a message: the version byte, then the CBOR item.
pub fn encode<T: Wire>(message: &T) -> Result<Vec<u8>, CodecError> {
    message.check().map_err(CodecError::Refused)?;
    let mut bytes = vec![VERSION];
    let mut serializer = serde_cbor::Serializer::new(serde_cbor::ser::IoWrite::new(&mut bytes)).packed_format();
    message.serialize(&mut serializer).map_err(|e| CodecError::Malformed(e.to_string()))?;
    cap(&bytes, T::BYTES_MAX)?;
    look_over(&bytes[1..], T::ITEMS_MAX).map_err(|what| CodecError::Malformed(what.into()))?;
    Ok(bytes)
}

/// Reads a message that [`encode`] wrote, of this version or an older one.
pub fn decode<T: Wire>(bytes: &[u8]) -> Result<T, CodecError> {
    cap(bytes, T::BYTES_MAX)?;
    let (&version, item) = bytes.split_first().ok_or(CodecError::Empty)?;
    match version {
        VERSION => {}
        0 => return Err(CodecError::Malformed("version 0 was never used".into())),
        newer => return Err(CodecError::NewerVersion(newer)),
    }
    look_over(item, T::ITEMS_MAX).map_err(|what| CodecError::Malformed(what.into()))?;
    let message: T = serde_cbor::from_slice(item).map_err(|e| CodecError::Malformed(e.to_string()))?;
    message.check().map_err(CodecError::Refused)?;
    Ok(message)
}

/// Whether no array, map or string claims more than the bytes behind it can hold, and there are no more items than may be.
/// serde reserves room for the claim, up to 1 MiB, before it reads the first element; and a byte of CBOR may be 24 in memory.
/// Items are walked head by head (RFC 8949, section 3); what is wrong in another way is for the parser to say.
fn look_over(mut rest: &[u8], items_max: usize) -> Result<(), &'static str> {
    const UNTRUE: &str = "a length goes beyond the end";
    let mut items = 0;
    while let Some((&head, after)) = rest.split_first() {
        let (kind, short) = (head >> 5, head & 0x1f);
        let bytes = match short {
            24..=27 => 1 << (short - 24),
            _ => 0,
        };
        items += 1;
        if items > items_max {
            return Err("it has more items than such a message may have");
        }
        let (argument, after) = after.split_at_checked(bytes).ok_or(UNTRUE)?;
        let claimed = argument.iter().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
        // 31 opens an item of no stated length, or closes it.
        let claimed = if short < 24 { u64::from(short) } else { claimed };
        let bytes_min = match kind {
            2..=4 => claimed,
            5 => claimed.saturating_mul(2),
            _ => 0,
        };
        if bytes_min > after.len() as u64 {
            return Err(UNTRUE);
        }
        // The bytes of a string are no heads; the elements of an array are.
        rest = if matches!(kind, 2 | 3) { &after[bytes_min as usize..] } else { after };
    }
    Ok(())
}

/// Whether a JSON text may have more values than `items_max`: each but the first follows a comma. The commas in its texts
/// count too, so the bound must be far above what is right. It is for a look before serde makes values of a text: a value of
/// four bytes may take sixty in memory.
pub fn json_is_crowded(text: &[u8], items_max: usize) -> bool {
    text.iter().filter(|&&byte| byte == b',').nth(items_max - 1).is_some()
}

/// The same for a TOML text: a value follows a comma, an equals sign, a bracket or a line's end, and a point makes a table in a
/// key, where it is no number's.
pub fn toml_is_crowded(text: &str, items_max: usize) -> bool {
    let (mut values, mut points) = (0, 0);
    for byte in text.bytes() {
        match byte {
            b',' | b'=' | b'[' | b'{' | b'\n' => values += 1,
            b'.' => points += 1,
            _ => {}
        }
    }
    // A value has one point at most.
    usize::max(values, points) > items_max
}

fn cap(bytes: &[u8], bytes_max: usize) -> Result<(), CodecError> {
    if bytes.len() > bytes_max {
        return Err(CodecError::TooLarge { bytes: bytes.len(), bytes_max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Boot;
    use crate::limits::{ACK_BYTES_MAX, EVENT_BYTES_MAX};
    use crate::wire::{Ack, EventBatch};
    use proptest::prelude::*;
    use serde_bytes::ByteBuf;

    fn ack() -> Ack {
        Ack { boot: Boot(7), watermark: 3, holes: vec![(5, 6)] }
    }

    #[test]
    fn each_kind_of_bad_bytes_has_its_own_error() {
        let good = encode(&ack()).unwrap();
        assert_eq!(decode::<Ack>(&good).unwrap(), ack());

        assert_eq!(decode::<Ack>(&[]), Err(CodecError::Empty));
        let big = vec![VERSION; ACK_BYTES_MAX + 1];
        assert!(matches!(decode::<Ack>(&big), Err(CodecError::TooLarge { .. })));
        let mut newer = good.clone();
        newer[0] = VERSION + 1;
        assert_eq!(decode::<Ack>(&newer), Err(CodecError::NewerVersion(VERSION + 1)));
        assert!(matches!(decode::<Ack>(&good[..good.len() - 1]), Err(CodecError::Malformed(_))));
        let mut trailing = good.clone();
        trailing.push(0);
        assert!(matches!(decode::<Ack>(&trailing), Err(CodecError::Malformed(_))));
        assert!(matches!(decode::<Ack>(b"\x01garbage"), Err(CodecError::Malformed(_))));
        // An array that claims 2^63 elements must fail without an allocation of that size.
        assert!(decode::<Ack>(b"\x01\x9b\x80\x00\x00\x00\x00\x00\x00\x00").is_err());
        for liar in [&b"\x9b\x80\0\0\0\0\0\0\0"[..], b"\xa3\0\x07\x01\x03\x02\x99\xff\xff\0", b"\x5a\0\0\0\x02a"] {
            let expect = CodecError::Malformed("a length goes beyond the end".into());
            assert_eq!(decode::<Ack>(&[&[VERSION], liar].concat()), Err(expect));
        }
        // A thousand nested arrays must not exhaust the stack.
        assert!(decode::<Ack>(&[&[VERSION][..], &[0x81; 1000]].concat()).is_err());
    }

    #[test]
    fn nonsense_is_refused_in_both_directions() {
        let backwards = Ack { holes: vec![(6, 5)], ..ack() };
        assert!(matches!(encode(&backwards), Err(CodecError::Refused(_))));
        let none = EventBatch { boot: Boot(1), base: 1, first: 1, events: vec![], gap: None };
        assert!(matches!(encode(&none), Err(CodecError::Refused(_))));
        let overflow = EventBatch { first: u64::MAX, events: vec![ByteBuf::from(vec![1])], ..none.clone() };
        assert!(matches!(encode(&overflow), Err(CodecError::Refused(_))));
        let big = EventBatch { events: vec![ByteBuf::from(vec![0; EVENT_BYTES_MAX + 1])], ..none };
        assert!(matches!(encode(&big), Err(CodecError::Refused(_))));
    }

    #[test]
    fn a_field_from_the_future_is_passed_over() {
        // {0: 7, 1: 3, 2: [], 3: "new"}: an appended field must not lock old readers out within one version.
        let bytes = b"\x01\xa4\x00\x07\x01\x03\x02\x80\x03\x63new";
        assert_eq!(decode::<Ack>(bytes).unwrap(), Ack { boot: Boot(7), watermark: 3, holes: vec![] });
    }

    /// A message of the same few bytes and fields, in which only the number of items is too large.
    #[test]
    fn more_items_than_a_message_may_have_are_refused_though_each_could_be_passed_over() {
        let with = |items: usize| {
            let appended = vec![0; items];
            let length = (items as u16).to_be_bytes();
            [&b"\x01\xa4\x00\x07\x01\x03\x02\x80\x03\x99"[..], &length, &appended].concat()
        };
        // The map, its four keys, three values and the list that was appended.
        let others = 9;
        let fits = with(Ack::ITEMS_MAX - others);
        assert!(fits.len() < ACK_BYTES_MAX);
        assert_eq!(decode::<Ack>(&fits).unwrap(), Ack { boot: Boot(7), watermark: 3, holes: vec![] });
        let expect = CodecError::Malformed("it has more items than such a message may have".into());
        assert_eq!(decode::<Ack>(&with(Ack::ITEMS_MAX - others + 1)), Err(expect));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<Ack>(&bytes);
            let _ = decode::<EventBatch>(&bytes);
            let _ = decode::<crate::event::Event>(&bytes);
        }

        #[test]
        fn a_batch_survives_the_trip(boot: u64, first in 1u64..1000, sizes in proptest::collection::vec(0usize..64, 1..16)) {
            let events = sizes.into_iter().map(|size| ByteBuf::from(vec![0xab; size])).collect();
            let batch = EventBatch { boot: Boot(boot), base: 1, first, events, gap: None };
            prop_assert_eq!(decode::<EventBatch>(&encode(&batch).unwrap()).unwrap(), batch);
        }
    }
}
