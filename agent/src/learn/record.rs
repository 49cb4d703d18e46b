//! What the log of a device's learning says: each example as it came, and the state whole whenever it must be certain. Field numbers
//! are the order of the fields: append only.

use picket_shared::learn::lineage::Lineage;
use picket_shared::learn::message::RootSample;
use picket_shared::log::RECORD_BYTES_MAX;
use picket_shared::wire::Wire;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::examples::{Example, Waiting};
use super::released::Released;

/// Heads as bytes: floats, the lowest byte first.
pub fn bytes_of(head: &[f32]) -> ByteBuf {
    ByteBuf::from(head.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

/// And back; nothing where it is not of so many finite numbers.
pub fn numbers_of(bytes: &[u8], parameters: usize) -> Option<Vec<f32>> {
    let (words, rest) = bytes.as_chunks::<4>();
    let numbers: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    (rest.is_empty() && numbers.len() == parameters && numbers.iter().all(|x| x.is_finite())).then_some(numbers)
}

/// What may never be said twice with another meaning, and what would be learned anew without it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Of which heads; a fleet epoch of 0 before any head was heard.
    pub lineage: Lineage,
    /// The version of the shared head.
    pub version: u64,
    /// The shared head.
    pub shared: ByteBuf,
    /// The station's own part.
    pub own: ByteBuf,
    /// The version of the shared head in what is judged by.
    pub used_version: u64,
    /// What is judged by.
    pub used: ByteBuf,
    /// What was not said yet.
    pub kept: ByteBuf,
    /// See [`picket_shared::learn::message::HeadUpdate`].
    pub epoch: u64,
    /// The number of the newest update.
    pub seq: u64,
    /// That update, while it is not acknowledged, as it is sent.
    pub pending: Option<ByteBuf>,
    /// The epoch that confirmed samples are counted in.
    pub samples_epoch: u64,
    /// Those up to this number were acknowledged.
    pub samples_acked: u64,
    /// What became of released heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<Released>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// An example came.
    Example(Example),
    /// The looks at an event wait for a person's word.
    Waiting(Waiting),
    /// A sample that a person confirmed is to be sent under this number.
    Confirmed(u64, RootSample),
    /// The state from here on.
    State(Box<State>),
}

impl Wire for Record {
    const BYTES_MAX: usize = RECORD_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        if let Record::Example(example) = self { example.check() } else { Ok(()) }
    }
}
