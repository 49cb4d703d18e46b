//! What is said about learning: a station's change of the head one way, the head the other, samples that a person confirmed, and
//! acks of both. These types are what is on the wire and nothing else; field numbers are the order of the fields: append only.
//!
//! A message does not say whose it is: its topic does, and the seal vouches for that.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::lineage::{Lineage, LineageId};
use super::packed::Packed;
use crate::crypto::sha256;
use crate::limits::{
    HEAD_BYTES_MAX, HEAD_DELTA_BYTES_MAX, HEAD_INPUTS_MAX, HEAD_SCALE_PARAMETERS, HEAD_UPDATE_BYTES_MAX,
    LEARN_ACK_BYTES_MAX, NAME_CHARS_MAX, ROOT_SAMPLES_BYTES_MAX, ROOT_SAMPLES_MAX,
};
use crate::wire::Wire;

/// What a station learned since the head that it began from. The newest (epoch, seq) of a station is its row at the coordinator;
/// the same one again, or an older one, changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadUpdate {
    /// Of which heads.
    pub lineage: LineageId,
    /// Counts the times that the device lost its learning state. It is on the disk before anything is said under it.
    pub epoch: u64,
    /// Counts the updates of this epoch from 1.
    pub seq: u64,
    /// The version of the head that it began from.
    pub base: u64,
    /// Labelled samples behind it.
    pub samples: u32,
    /// The change.
    pub change: Packed,
    /// The mean loss over its newest samples before the local steps.
    pub loss_before: f32,
    /// And after them.
    pub loss_after: f32,
    /// The CRC-32 over everything above: [`HeadUpdate::checksum`]. Where nothing is signed, it is all that tells a changed place.
    pub crc: u32,
}

impl HeadUpdate {
    /// The same with its checksum.
    pub fn closed(mut self) -> HeadUpdate {
        self.crc = self.checksum();
        self
    }

    /// The CRC-32 (IEEE) over the fields in their order: numbers with the highest byte first, floats by their bits.
    pub fn checksum(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.lineage.0);
        for number in [self.epoch, self.seq, self.base] {
            crc.update(&number.to_be_bytes());
        }
        let change = &self.change;
        for number in
            [self.samples, change.parameters, change.encoding as u32, change.scale.to_bits(), change.rice.into()]
        {
            crc.update(&number.to_be_bytes());
        }
        crc.update(&change.places);
        crc.update(&change.values);
        crc.update(&self.loss_before.to_bits().to_be_bytes());
        crc.update(&self.loss_after.to_bits().to_be_bytes());
        crc.finalize()
    }
}

impl Wire for HeadUpdate {
    const BYTES_MAX: usize = HEAD_UPDATE_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        match self.seq {
            0 => Err("updates are counted from 1".into()),
            _ => Ok(()),
        }
    }
}

/// The shared head, whole: signed bytes, each times the scale of its block of [`HEAD_SCALE_PARAMETERS`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadFull {
    /// Of which heads, in full: a device finds by it whether its own network is meant.
    pub lineage: Lineage,
    /// Its version. Versions of a lineage only rise, also where an earlier head is taken back.
    pub version: u64,
    /// A float for each block, the lowest byte first.
    pub scales: ByteBuf,
    /// A signed byte for each parameter.
    pub values: ByteBuf,
    /// The SHA-256 of what [`HeadFull::head`] gives, as floats with the lowest byte first.
    pub sha256: ByteBuf,
    /// The version that was taken back to, where one was.
    pub revert_of: Option<u64>,
    /// Nothing is learned now: updates are not wanted.
    pub frozen: bool,
    /// Heads of this lineage come as releases on the path of models, and only those are judged by; this one is learned from.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub releases: bool,
}

/// Why bytes are no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Of another number of parameters, or blocks, or with a change that cannot be.
    #[error("the head is not of the form of its lineage")]
    Form,
    /// Infinite, or no number.
    #[error("a parameter of the head is not a finite number")]
    NotFinite,
    /// Something else comes out than the coordinator put in.
    #[error("the head is not the one that its digest says")]
    Digest,
    /// A delta against another version than the one that is there.
    #[error("the delta is against another head")]
    Base,
}

impl HeadFull {
    /// A head as it is said, and so as devices will have it: rounded.
    pub fn of(lineage: Lineage, version: u64, head: &[f32], revert_of: Option<u64>, frozen: bool) -> HeadFull {
        let (mut scales, mut values) = (Vec::new(), Vec::with_capacity(head.len()));
        for block in head.chunks(HEAD_SCALE_PARAMETERS) {
            let scale = block.iter().fold(0.0f32, |max, x| max.max(x.abs())) / 127.0;
            scales.extend(scale.to_le_bytes());
            values.extend(block.iter().map(|x| if scale > 0.0 { (x / scale).round() as i8 as u8 } else { 0 }));
        }
        let (scales, values) = (ByteBuf::from(scales), ByteBuf::from(values));
        let (sha256, releases) = (ByteBuf::new(), false);
        let mut full = HeadFull { lineage, version, scales, values, sha256, revert_of, frozen, releases };
        full.sha256 = digest(&full.numbers()).to_vec().into();
        full
    }

    fn numbers(&self) -> Vec<f32> {
        let scales =
            self.scales.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let blocks = self.values.chunks(HEAD_SCALE_PARAMETERS).zip(scales);
        blocks.flat_map(|(block, scale)| block.iter().map(move |byte| f32::from(*byte as i8) * scale)).collect()
    }

    /// The head, checked.
    pub fn head(&self) -> Result<Vec<f32>, HeadError> {
        let parameters = self.lineage.shape.parameters();
        let blocks = parameters.div_ceil(HEAD_SCALE_PARAMETERS);
        if self.values.len() != parameters || self.scales.len() != 4 * blocks {
            return Err(HeadError::Form);
        }
        proven(self.numbers(), &self.sha256)
    }
}

impl Wire for HeadFull {
    const BYTES_MAX: usize = HEAD_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        self.lineage.check()
    }
}

/// A newer head, as its difference from the whole one: each delta is against that, so that one that got lost is not missed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadDelta {
    /// Of which heads.
    pub lineage: LineageId,
    /// The version of the whole head that it is against.
    pub base: u64,
    /// Its version.
    pub version: u64,
    /// The difference.
    pub change: Packed,
    /// The SHA-256 of what [`HeadDelta::head`] gives.
    pub sha256: ByteBuf,
}

impl HeadDelta {
    /// The difference of `change` to the whole head `full`, which is of the version `base`.
    pub fn of(lineage: LineageId, base: u64, full: &[f32], version: u64, change: Packed) -> Option<HeadDelta> {
        let mut delta = HeadDelta { lineage, base, version, change, sha256: ByteBuf::new() };
        delta.sha256 = digest(&delta.numbers(full).ok()?).to_vec().into();
        Some(delta)
    }

    fn numbers(&self, full: &[f32]) -> Result<Vec<f32>, HeadError> {
        let mut head = full.to_vec();
        self.change.unpack(full.len(), |place, value| head[place] += value).map_err(|_| HeadError::Form)?;
        Ok(head)
    }

    /// The head, checked, where `full` is the whole one of the version `version`.
    pub fn head(&self, version: u64, full: &[f32]) -> Result<Vec<f32>, HeadError> {
        if version != self.base {
            return Err(HeadError::Base);
        }
        proven(self.numbers(full)?, &self.sha256)
    }
}

impl Wire for HeadDelta {
    const BYTES_MAX: usize = HEAD_DELTA_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        match self.version > self.base {
            true => Ok(()),
            false => Err(format!("a delta from version {} to {}", self.base, self.version)),
        }
    }
}

fn proven(head: Vec<f32>, sha256: &[u8]) -> Result<Vec<f32>, HeadError> {
    if head.iter().any(|x| !x.is_finite()) {
        return Err(HeadError::NotFinite);
    }
    if digest(&head) != sha256 { Err(HeadError::Digest) } else { Ok(head) }
}

/// The SHA-256 of a head, as floats with the lowest byte first.
pub fn digest(head: &[f32]) -> [u8; 32] {
    sha256(&head.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

/// Samples of one device that a person confirmed: the only ones that leave a device, as features and never as a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RootSamples {
    /// Of which network the features are.
    pub lineage: LineageId,
    /// The device's epoch, as in [`HeadUpdate`].
    pub epoch: u64,
    /// The number of the first sample; a device counts those of an epoch from 1.
    pub first: u64,
    /// They and those that follow.
    pub samples: Vec<RootSample>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RootSample {
    /// The features, floats with the lowest byte first.
    pub features: ByteBuf,
    /// What it is.
    pub label: u8,
    /// Who said so.
    pub operator: String,
}

impl RootSample {
    /// The features as numbers; nothing where they are not so many, or not finite.
    pub fn numbers(&self, inputs: usize) -> Option<Vec<f32>> {
        let floats = self.features.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let floats: Vec<f32> = floats.collect();
        (self.features.len() == 4 * inputs && floats.iter().all(|x| x.is_finite())).then_some(floats)
    }
}

impl Wire for RootSamples {
    const BYTES_MAX: usize = ROOT_SAMPLES_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        if self.samples.is_empty() || self.samples.len() > ROOT_SAMPLES_MAX {
            return Err(format!("{} samples of 1 to {ROOT_SAMPLES_MAX}", self.samples.len()));
        }
        if self.first == 0 || self.first.checked_add(self.samples.len() as u64).is_none() {
            return Err(format!("samples from {}; they are counted from 1", self.first));
        }
        let fits = |sample: &RootSample| {
            sample.operator.len() <= NAME_CHARS_MAX && sample.features.len() <= 4 * HEAD_INPUTS_MAX
        };
        match self.samples.iter().all(fits) {
            true => Ok(()),
            false => Err(format!(
                "an operator's name above {NAME_CHARS_MAX} characters, or above {HEAD_INPUTS_MAX} features"
            )),
        }
    }
}

/// What the coordinator has durably of one device's learning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnAck {
    /// Of which heads.
    pub lineage: LineageId,
    /// The epoch of the newest update; 0 is none.
    pub epoch: u64,
    /// Its number. It is taken, or it was refused for good; the device need not say it again.
    pub seq: u64,
    /// The epoch of the samples; 0 is none.
    pub samples_epoch: u64,
    /// The samples of that epoch up to and including this one are taken, or refused for good.
    pub samples: u64,
}

impl Wire for LearnAck {
    const BYTES_MAX: usize = LEARN_ACK_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode, encode};
    use crate::learn::lineage::HeadShape;
    use crate::learn::{packed::Feedback, sent_max};
    use crate::random::SplitMix64;

    fn lineage(shape: HeadShape) -> Lineage {
        Lineage { fleet_epoch: 1, backbone: "ab".repeat(32), shape }
    }

    fn head(parameters: usize) -> Vec<f32> {
        let mut random = SplitMix64::new(4);
        (0..parameters).map(|_| random.normals()[0] as f32).collect()
    }

    #[test]
    fn a_head_comes_back_within_half_a_step_and_its_deltas_are_against_it() {
        let shape = HeadShape::softmax(64, 10);
        let lineage = lineage(shape);
        let exact = head(shape.parameters());
        let full = HeadFull::of(lineage.clone(), 7, &exact, None, false);
        let full: HeadFull = decode(&encode(&full).unwrap()).unwrap();
        let said = full.head().unwrap();
        assert!(exact.iter().zip(&said).all(|(x, y)| (x - y).abs() < 0.02));

        let newer: Vec<f32> = exact.iter().enumerate().map(|(n, x)| x + if n % 7 == 0 { 0.5 } else { 0.0 }).collect();
        let change: Vec<f32> = newer.iter().zip(&said).map(|(x, y)| x - y).collect();
        let delta = HeadDelta::of(lineage.id(), 7, &said, 9, Packed::of(&change, 200).unwrap()).unwrap();
        let delta: HeadDelta = decode(&encode(&delta).unwrap()).unwrap();
        let after = delta.head(7, &said).unwrap();
        assert!(newer.iter().zip(&after).all(|(x, y)| (x - y).abs() < 0.03));
        assert_eq!(delta.head(8, &said), Err(HeadError::Base));
        assert_eq!(delta.head(7, &exact), Err(HeadError::Digest));
        let mut changed = full.clone();
        changed.values[3] ^= 1;
        assert_eq!(changed.head(), Err(HeadError::Digest));
        changed.values.pop();
        assert_eq!(changed.head(), Err(HeadError::Form));
    }

    #[test]
    fn an_update_is_as_small_as_it_should_be_and_a_changed_bit_shows() {
        // With the seal of a site that signs, 160 bytes more.
        for (shape, bytes_max) in [
            (HeadShape::logistic(137), 120),
            (HeadShape::softmax(64, 10), 300),
            (HeadShape::softmax(1000, 10), 1_700),
            (HeadShape::softmax(999, 100), 16_100),
        ] {
            let parameters = shape.parameters();
            let change = Feedback::new(parameters).pack(&head(parameters), sent_max(parameters)).unwrap();
            let lineage = lineage(shape).id();
            let update = HeadUpdate {
                lineage,
                epoch: 1,
                seq: 70,
                base: 300,
                samples: 40,
                change,
                loss_before: 0.7,
                loss_after: 0.61,
                crc: 0,
            };
            let update = update.closed();
            let bytes = encode(&update).unwrap();
            println!("{parameters} parameters: {} bytes", bytes.len());
            assert!(bytes.len() <= bytes_max, "{parameters} parameters: {} bytes", bytes.len());
            let read: HeadUpdate = decode(&bytes).unwrap();
            assert_eq!(read.checksum(), read.crc);
            for at in 0..update.change.places.len().min(40) {
                let mut changed = read.clone();
                changed.change.places[at] ^= 1 << (at % 8);
                assert_ne!(changed.checksum(), changed.crc);
            }
        }
    }
}
