//! How somebody outside the detector may judge its candidates: by what the network saw of them. Nothing here judges.

use std::sync::Arc;

use crate::frame::Detection;

/// A frozen network that shows what it saw of its candidates.
#[derive(Debug, PartialEq, Eq)]
pub struct Backbone {
    /// The SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    /// Features of a candidate.
    pub features: usize,
}

/// Judges candidates by what the network saw of them.
pub trait Rescore {
    /// Changes the scores of the candidates of a picture of this size. `seen` has the features of all that the model gave, one after
    /// the other, and `rows` which of them each candidate has.
    fn rescore(
        &mut self,
        backbone: &Arc<Backbone>,
        size_px: (u32, u32),
        candidates: &mut [Detection],
        rows: &[usize],
        seen: &[f32],
    );

    /// Which candidates are looked at: from this score of the network on.
    fn score_min(&self) -> f32;
}
