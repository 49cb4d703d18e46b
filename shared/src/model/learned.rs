//! A head that the stations of a site learned together, as a release: what it is, and whether it may be judged by on a device at
//! all. Whether it is any good there the device finds out on its own held-out examples, which is no matter here. Pure.
//!
//! The site's orders key signs it: what is learned is learned at the site, and a head can only change who is taken for a person
//! among what the owner's network finds. It stands beside the release of a model and not below one, because the network that a
//! device came with learns too.

use serde::{Deserialize, Serialize};

use super::envelope::Document;
use super::manifest::{Artifact, of_release};
use super::verify::Refusal;
use crate::crypto::Digest;
use crate::learn::lineage::Lineage;
use crate::limits::{HEAD_NORM_MAX, MODEL_MANIFEST_BYTES_MAX, MODEL_PART_BYTES_MAX};

/// One release of a learned head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnedManifest {
    /// Of which heads: the network, the form, and the fleet's epoch.
    pub lineage: Lineage,
    /// The head's version, which only rises; also where an earlier head is gone back to.
    pub counter: u64,
    /// From then on no device takes it anew, seconds since 1970.
    pub expires_s: u64,
    /// The size of the pieces that it travels in.
    pub chunk_bytes: u32,
    /// The release whose head this is again, where a person went back to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert_of: Option<u64>,
    /// The numbers, little-endian, 32 bits each.
    pub file: Artifact,
}

/// What a device learns over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learns {
    /// The file of the network that it runs.
    pub backbone: Digest,
    /// Features of a candidate.
    pub inputs: u32,
}

impl Document for LearnedManifest {
    const TYPE: &'static str = "application/vnd.picket.model.learned.v1+json";
    const BYTES_MAX: usize = MODEL_MANIFEST_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        of_release(self.counter, self.chunk_bytes)?;
        self.lineage.check()?;
        if self.lineage.fleet_epoch == 0 {
            return Err("a head of the fleet epoch 0; the first is 1".into());
        }
        if self.revert_of.is_some_and(|of| of >= self.counter) {
            return Err("a head that goes back to itself, or to a later one".into());
        }
        self.file.check("head", MODEL_PART_BYTES_MAX)?;
        let bytes = 4 * self.lineage.shape.parameters() as u64;
        if self.file.length == bytes {
            Ok(())
        } else {
            Err(format!("a head of {} bytes, of {bytes}", self.file.length))
        }
    }
}

impl LearnedManifest {
    /// Whether it is a head for what this device learns over; `None` is a device that does not.
    pub fn fits(&self, learns: Option<Learns>) -> Result<(), Refusal> {
        let Learns { backbone, inputs } = learns.ok_or(Refusal::LearnsNothing)?;
        let of = &self.lineage.backbone;
        if !of.eq_ignore_ascii_case(&backbone.to_string()) {
            return Err(Refusal::Network { of: of.clone(), runs: backbone });
        }
        match self.lineage.shape.inputs == inputs && self.lineage.shape.classes == 2 {
            true => Ok(()),
            false => Err(Refusal::Shape { of: self.lineage.shape.inputs, inputs }),
        }
    }

    /// The head's numbers, where these bytes are its file and could have been learned: finite, and no longer than any that was.
    pub fn numbers(&self, bytes: &[u8]) -> Result<Vec<f32>, Refusal> {
        self.file.admits("head", bytes)?;
        let (words, _) = bytes.as_chunks::<4>();
        let numbers: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        let norm = numbers.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        // A sum with a number that is none is none, and is not small enough.
        if norm <= HEAD_NORM_MAX as f64 { Ok(numbers) } else { Err(Refusal::Numbers(norm)) }
    }
}
