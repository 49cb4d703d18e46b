//! Learning, as both sides and the simulation see it: a head over a frozen network, how it is trained, and how what was learned
//! is said. Pure: no clock, no files, no randomness of its own.
//!
//! Modules stand in reading order: `lineage` (of which network and form a head is), `train` (the local steps), `rice` and
//! `packed` (how a change of a head becomes few bytes, and what is kept back of it), `message`, `label` and `operator` (what is on the wire), `view`
//! (what people see). How the changes of many stations become one head is the coordinator's business, in `coordinator/src/learn`.
//!
//! The method is STAR-SGD: one row for each station; see the head of `coordinator/src/learn/star.rs` for its sources.

pub mod label;
pub mod lineage;
pub mod message;
pub mod operator;
pub mod packed;
pub mod rice;
pub mod train;
pub mod view;

/// Of so many coordinates one is sent, the largest, of a head with [`SPARSE_PARAMETERS_MIN`] or more.
pub const SENT_ONE_OF: usize = 10;
/// Of so many one is sent of a smaller head.
pub const SENT_ONE_OF_SMALL: usize = 4;
/// From how many parameters on a head is large.
pub const SPARSE_PARAMETERS_MIN: usize = 2_000;
/// Steps of one local training.
pub const LOCAL_STEPS: usize = 10;
/// How far the own part of a station's head is drawn back to the shared one: Ditto's lambda (Li et al., ICML 2021).
pub const PERSONAL_PULL: f32 = 0.003;

/// How many coordinates of a head of so many parameters are sent.
pub fn sent_max(parameters: usize) -> usize {
    let one_of = if parameters >= SPARSE_PARAMETERS_MIN { SENT_ONE_OF } else { SENT_ONE_OF_SMALL };
    parameters.div_ceil(one_of)
}

/// The CRC-32 (IEEE) of some bytes.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}
