//! What stands in the agent's store: keys and values, and how format 1 becomes format 2.
//!
//! | key | value |
//! |---|---|
//! | `b` + boot | how far the archive has it |
//! | `E` + boot + sequence | one [`EventRow`] |
//! | `g` + boot + first | one [`Gap`]: its last sequence, and its cause |
//! | `d` + number | one [`Letter`] |
//! | `life` | see `life.rs` |
//! | `e` + boot + sequence | format 1: the encoded event alone |
//!
//! Numbers are 8 bytes, the highest first, so that keys are in the order of the numbers. It reads and writes nothing itself
//! but in the step between formats.

use picket_shared::codec;
use picket_shared::event::{Class, Event};
use picket_shared::ids::Boot;
use picket_shared::store::{Batch, Step, Store, StoreError, VALUE_BYTES_MAX};
use picket_shared::wire::{Gap, GapCause};

pub(super) const BOOT: u8 = b'b';
pub(super) const EVENT: u8 = b'E';
pub(super) const GAP: u8 = b'g';
pub(super) const LETTER: u8 = b'd';
pub(super) const LIFE: &[u8] = b"life";
const EVENT_1: u8 = b'e';

/// From each format to the next.
pub(super) const STEPS: &[Step] = &[tell_class_and_age];
/// Rows that one batch of a step changes.
const STEP_ROWS: usize = 512;
/// Class, when it was stored, and how old the store was then.
const EVENT_HEAD_BYTES: usize = 13;
/// What an event costs beside its own bytes: its row's key, head and checksum.
const EVENT_COST_BYTES: u64 = 17 + EVENT_HEAD_BYTES as u64 + 4;
/// What a gap costs: its row.
pub(super) const GAP_COST_BYTES: u64 = 32;
const REASON_BYTES_MAX: usize = 255;

/// An event as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EventRow<'a> {
    pub(super) class: Class,
    /// Seconds since 1970, by the device's clock of then.
    pub(super) stored_at_s: u64,
    /// How long the store had lived; see `life.rs`.
    pub(super) age_s: u64,
    pub(super) bytes: &'a [u8],
}

impl<'a> EventRow<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(EVENT_HEAD_BYTES + self.bytes.len());
        value.push(self.class as u8);
        value.extend(self.stored_at_s.to_be_bytes());
        // 136 years of use.
        value.extend(u32::try_from(self.age_s).unwrap_or(u32::MAX).to_be_bytes());
        value.extend(self.bytes);
        value
    }

    pub(super) fn decode(value: &'a [u8]) -> Option<EventRow<'a>> {
        let (head, bytes) = value.split_first_chunk::<EVENT_HEAD_BYTES>()?;
        let class = match head[0] {
            0 => Class::Confirmed,
            1 => Class::Telemetry,
            _ => return None,
        };
        let age_s = u64::from(u32::from_be_bytes(head[9..].try_into().ok()?));
        Some(EventRow { class, stored_at_s: number(&head[1..9])?, age_s, bytes })
    }

    /// What it takes of the bytes that are allowed.
    pub(super) fn cost(&self) -> u64 {
        cost(self.bytes)
    }
}

/// What an event takes of the bytes that are allowed.
pub(super) fn cost(bytes: &[u8]) -> u64 {
    bytes.len() as u64 + EVENT_COST_BYTES
}

/// Something that could not be sent as it was, kept for a person to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Seconds since 1970 when it was put here.
    pub stored_at_s: u64,
    /// Why.
    pub reason: String,
    /// Its first bytes, as many as a row takes.
    pub bytes: Vec<u8>,
}

impl Letter {
    pub(super) fn encode(now_s: u64, reason: &str, bytes: &[u8]) -> Vec<u8> {
        let mut end = reason.len().min(REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let mut value = now_s.to_be_bytes().to_vec();
        value.push(end as u8);
        value.extend(&reason.as_bytes()[..end]);
        value.extend(&bytes[..bytes.len().min(VALUE_BYTES_MAX - value.len())]);
        value
    }

    pub(super) fn decode(value: &[u8]) -> Option<Letter> {
        let (head, rest) = value.split_at_checked(9)?;
        let (reason, bytes) = rest.split_at_checked(head[8].into())?;
        let reason = std::str::from_utf8(reason).ok()?.to_owned();
        Some(Letter { stored_at_s: number(&head[..8])?, reason, bytes: bytes.to_vec() })
    }
}

pub(super) fn boot_key(boot: Boot) -> Vec<u8> {
    [&[BOOT][..], &boot.0.to_be_bytes()].concat()
}

pub(super) fn event_key(boot: Boot, seq: u64) -> Vec<u8> {
    pair_key(EVENT, boot, seq)
}

pub(super) fn gap_key(boot: Boot, from: u64) -> Vec<u8> {
    pair_key(GAP, boot, from)
}

pub(super) fn letter_key(number: u64) -> Vec<u8> {
    [&[LETTER][..], &number.to_be_bytes()].concat()
}

fn pair_key(prefix: u8, boot: Boot, seq: u64) -> Vec<u8> {
    [&[prefix][..], &boot.0.to_be_bytes(), &seq.to_be_bytes()].concat()
}

/// The boot and the sequence in a key.
pub(super) fn pair_of(key: &[u8]) -> Option<(Boot, u64)> {
    let (boot, seq) = key.get(1..)?.split_at_checked(8)?;
    Some((Boot(number(boot)?), number(seq)?))
}

/// Every key of one kind.
pub(super) fn all(prefix: u8) -> std::ops::Range<Vec<u8>> {
    vec![prefix]..vec![prefix + 1]
}

pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

pub(super) fn gap_value(gap: &Gap) -> Vec<u8> {
    [&gap.to.to_be_bytes()[..], &[gap.cause as u8]].concat()
}

pub(super) fn gap_of(from: u64, value: &[u8]) -> Option<Gap> {
    let (to, cause) = value.split_at_checked(8)?;
    let [cause] = cause else { return None };
    let cause = *GapCause::ALL.get(usize::from(*cause))?;
    let to = number(to).filter(|to| *to >= from)?;
    Some(Gap { from, to, cause })
}

/// Format 1 to 2: an event's class and age go with it, so that nothing has to be decoded to forget what is old. Each batch
/// moves its rows from one kind of key to the other, so that an interrupted step goes on where it was.
fn tell_class_and_age(store: &Store, now_s: u64) -> Result<(), StoreError> {
    loop {
        let mut batch = Batch::default();
        let mut moved = 0;
        for item in store.range(all(EVENT_1)).take(STEP_ROWS) {
            let (mut key, bytes) = item?;
            batch.remove(&key);
            let class = codec::decode::<Event>(&bytes).map_or(Class::Confirmed, |event| event.kind.class());
            key[0] = EVENT;
            batch.put(&key, &EventRow { class, stored_at_s: now_s, age_s: 0, bytes: &bytes }.encode());
            moved += 1;
        }
        if moved == 0 {
            return Ok(());
        }
        store.write(batch)?;
    }
}
