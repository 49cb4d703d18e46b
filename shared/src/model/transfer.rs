//! How a file travels: a node says which pieces it lacks, and the coordinator says pieces to all who listen. Only what is on
//! the wire.
//!
//! Pieces are numbered from 0 and, but for the last, of the size that the manifest states. Both messages are sealed, so that
//! a broker that lies can hold a file up and not spoil it.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::crypto::Digest;
use crate::limits::{
    MODEL_BYTES_MAX, MODEL_CHUNK_BYTES_MAX, MODEL_CHUNK_BYTES_MIN, MODEL_CHUNK_MESSAGE_BYTES_MAX, MODEL_WANT_BYTES_MAX,
    MODEL_WANT_RANGES_MAX,
};
use crate::wire::Wire;

/// The most pieces that a file can have.
const CHUNKS_MAX: u32 = (MODEL_BYTES_MAX / MODEL_CHUNK_BYTES_MIN) as u32;

/// On `…/model/want`: what a node still lacks of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The file, as an encoding of the manifest names it.
    pub sha256: Digest,
    /// The pieces, inclusive ranges in order; none says that the node has it and needs nothing more.
    pub ranges: Vec<(u32, u32)>,
    /// The size of the pieces that it counts in: the manifest's, which who sends them need not know.
    pub chunk_bytes: u32,
}

/// On `…/coordinator/blob/<digest>`: one piece of the file of that digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Which.
    pub index: u32,
    /// Its bytes.
    pub bytes: ByteBuf,
}

impl Wire for Want {
    const BYTES_MAX: usize = MODEL_WANT_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        if self.ranges.len() > MODEL_WANT_RANGES_MAX {
            return Err(format!("{} ranges, of at most {MODEL_WANT_RANGES_MAX}", self.ranges.len()));
        }
        let chunk_bytes = self.chunk_bytes as usize;
        if !(MODEL_CHUNK_BYTES_MIN..=MODEL_CHUNK_BYTES_MAX).contains(&chunk_bytes) {
            return Err(format!("pieces of {chunk_bytes} bytes"));
        }
        let mut free = 0;
        for &(from, to) in &self.ranges {
            if from < free || to < from || to >= CHUNKS_MAX {
                return Err(format!("pieces {from}..={to} out of order"));
            }
            free = to + 1;
        }
        Ok(())
    }
}

impl Wire for Chunk {
    const BYTES_MAX: usize = MODEL_CHUNK_MESSAGE_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        if self.index >= CHUNKS_MAX {
            return Err(format!("piece {}, of at most {CHUNKS_MAX}", self.index));
        }
        match self.bytes.len() {
            1..=MODEL_CHUNK_BYTES_MAX => Ok(()),
            bytes => Err(format!("a piece of {bytes} bytes, of 1 to {MODEL_CHUNK_BYTES_MAX}")),
        }
    }
}
