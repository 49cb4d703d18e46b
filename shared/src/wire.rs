//! The messages between agent and coordinator that are not plain JSON: event batches one way, acks the other.
//!
//! These types are what is on the wire and nothing else; they hold no logic beyond checking their own bounds.
//! Field numbers are the order of the fields: append only.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::ids::Boot;
use crate::limits::{ACK_BYTES_MAX, ACK_HOLES_MAX, BATCH_BYTES_MAX, BATCH_EVENTS_MAX, EVENT_BYTES_MAX};

/// A message with a bound on its size and on what it may hold. [`crate::codec`] enforces both, in both directions.
pub trait Wire: Serialize + DeserializeOwned {
    /// Most bytes, the version byte included.
    const BYTES_MAX: usize;

    /// Most CBOR items, so that a message of many tiny ones does not become many large ones in memory. It leaves room for
    /// what newer writers append.
    const ITEMS_MAX: usize = 512;

    /// Refuses a message that decodes and still makes no sense, in a few words.
    fn check(&self) -> Result<(), String>;
}

/// Why sequences will never come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// The agent said nothing of it: an archive that is gone had acknowledged them.
    #[default]
    Unknown,
    /// The agent's store was damaged, and they were in the part that could not be read.
    StoreLost,
    /// The agent had no room left for what it owed, and gave up its oldest telemetry.
    TelemetryDropped,
    /// The agent had no room left for what it owed, nor any telemetry to give up.
    Full,
    /// The agent's store was damaged, and so was its note of how far it had reached: one sequence, in a boot of its own,
    /// stands for events of earlier boots whose number nobody knows.
    StoreLostUncounted,
}

impl GapCause {
    /// Every cause, in the order of their numbers.
    pub const ALL: [GapCause; 5] = [
        GapCause::Unknown,
        GapCause::StoreLost,
        GapCause::TelemetryDropped,
        GapCause::Full,
        GapCause::StoreLostUncounted,
    ];

    /// A constant word, for a counter's label; the same as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            GapCause::Unknown => "unknown",
            GapCause::StoreLost => "store_lost",
            GapCause::TelemetryDropped => "telemetry_dropped",
            GapCause::Full => "full",
            GapCause::StoreLostUncounted => "store_lost_uncounted",
        }
    }
}

impl Gap {
    /// How many sequences.
    pub fn width(&self) -> u64 {
        self.to - self.from + 1
    }
}

/// Sequences that will never come, told and acknowledged like an event, so that nothing goes missing in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
    /// Why.
    pub cause: GapCause,
}

/// Consecutive events of one boot, each in the exact bytes that the agent's store holds; or, in their place, a gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventBatch {
    /// The boot whose sequence this is.
    pub boot: Boot,
    /// The lowest sequence that the agent can still send of this boot: one more than the highest watermark it was
    /// ever given. A coordinator that never saw what comes before can stop waiting for it.
    pub base: u64,
    /// The sequence of the first event below.
    pub first: u64,
    /// Encoded [`crate::event::Event`]s with the sequences `first`, `first + 1`, …
    pub events: Vec<ByteBuf>,
    /// In place of events: these sequences, which begin at `first`, will never come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}

impl Wire for EventBatch {
    const BYTES_MAX: usize = BATCH_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        if let Some(gap) = &self.gap {
            let fine = self.events.is_empty() && gap.from == self.first && gap.from <= gap.to && gap.to < u64::MAX;
            if !fine {
                return Err(format!(
                    "a gap {}..={} at {} beside {} events",
                    gap.from,
                    gap.to,
                    self.first,
                    self.events.len()
                ));
            }
        } else if self.events.is_empty() || self.events.len() > BATCH_EVENTS_MAX {
            return Err(format!("{} events in a batch of 1 to {BATCH_EVENTS_MAX}", self.events.len()));
        }
        if self.base == 0 || self.first < self.base || self.first.checked_add(self.events.len() as u64).is_none() {
            return Err(format!("sequence {} with base {}", self.first, self.base));
        }
        if self.events.iter().any(|event| event.len() > EVENT_BYTES_MAX) {
            return Err(format!("an event of more than {EVENT_BYTES_MAX} bytes"));
        }
        Ok(())
    }
}

/// What the coordinator's archive holds durably of one boot of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The boot that is acknowledged.
    pub boot: Boot,
    /// Everything up to and including this sequence is in the archive; 0 is nothing.
    pub watermark: u64,
    /// Inclusive ranges above the watermark that are missing below something that has arrived.
    pub holes: Vec<(u64, u64)>,
}

impl Wire for Ack {
    const BYTES_MAX: usize = ACK_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        if self.holes.len() > ACK_HOLES_MAX {
            return Err(format!("{} holes of at most {ACK_HOLES_MAX}", self.holes.len()));
        }
        let mut above = self.watermark;
        for &(from, to) in &self.holes {
            if from <= above || to < from {
                return Err(format!("hole {from}..={to} out of order"));
            }
            above = to;
        }
        Ok(())
    }
}
