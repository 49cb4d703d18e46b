//! What the log of learning says: each change of a learner's state, and the state itself as the records that make it. Field numbers
//! are the order of the fields: append only.

use picket_shared::ids::NodeId;
use picket_shared::learn::label::Label;
use picket_shared::learn::message::{HeadUpdate, RootSamples};
use picket_shared::wire::Wire;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::log::RECORD_BYTES_MAX;

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// The state as it was: the head, and what is decided about learning.
    Head {
        /// Its version.
        version: u64,
        /// Its numbers.
        head: ByteBuf,
        /// Why nothing is learned; nothing where something is.
        frozen: Option<String>,
        /// The version of the last release.
        released: Option<u64>,
    },
    /// A station as it was.
    Station {
        /// Its node.
        node: NodeId,
        /// Of its newest update.
        epoch: u64,
        /// Its number.
        seq: u64,
        /// Its row, and the version that it began from.
        row: Option<(u64, ByteBuf)>,
        /// No flush has seen it.
        fresh: bool,
        /// Updates taken.
        updates: u64,
        /// A person took it out.
        out: bool,
        /// The loss that it last said.
        loss: f32,
    },
    /// A released head, to go back to.
    Kept {
        /// Its version.
        version: u64,
        /// Its numbers.
        head: ByteBuf,
    },
    /// How far a device's samples were taken.
    Place {
        /// Its node.
        node: NodeId,
        /// Their epoch.
        epoch: u64,
        /// The last one's number.
        number: u64,
    },
    /// A station's update, as it came.
    Update {
        /// Its node.
        node: NodeId,
        /// The update.
        update: HeadUpdate,
    },
    /// Samples, as they came.
    Samples {
        /// Their node.
        node: NodeId,
        /// They.
        samples: RootSamples,
    },
    /// A step of all rows was made.
    Flush {
        /// The SHA-256 of the head after it.
        sha256: ByteBuf,
    },
    /// Nothing is learned from here on, or something again.
    Freeze(Option<String>),
    /// A station was taken out, or in again.
    Out {
        /// Its node.
        node: NodeId,
        /// Out.
        out: bool,
    },
    /// The head of the release before the last takes this one's place, and the last one is forgotten.
    Revert {
        /// The version that it has now.
        version: u64,
    },
    /// A head that stood at the broker takes this one's place.
    Replace {
        /// The version that it has now.
        version: u64,
        /// Its numbers.
        head: ByteBuf,
    },
    /// The head was released.
    Release,
    /// Persons said something of a node's events.
    Labels {
        /// The node.
        node: NodeId,
        /// What they said.
        labels: Vec<Label>,
    },
}

impl Wire for Record {
    const BYTES_MAX: usize = RECORD_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Numbers as bytes, the lowest first.
pub fn bytes_of(head: &[f32]) -> ByteBuf {
    ByteBuf::from(head.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

/// And back.
pub fn numbers_of(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
