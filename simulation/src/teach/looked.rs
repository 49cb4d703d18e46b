//! What the real detector makes of pictures: its candidates with what a head judges them by. Once for each picture: what was found is
//! kept in a file, under the picture's digest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use picket_agent::detect::{Backbone, Config, Detector, Rescore};
use picket_agent::frame::{Area, Detection, Frame};
use picket_agent::learn::features::{Rows, describe, inputs};
use picket_agent::learn::judge::CANDIDATE_SCORE_MIN;
use picket_shared::crypto::sha256;
use picket_shared::learn::checksum;

/// A candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// As the network gives it.
    pub detection: Detection,
    /// What a head judges it by.
    pub inputs: Vec<f32>,
}

/// A detector that looks once.
pub struct Eye {
    detector: Detector,
    /// Of the network: what it found is of no use to another.
    backbone: Arc<Backbone>,
    path: PathBuf,
    known: BTreeMap<[u8; 32], Vec<Candidate>>,
}

/// Takes candidates with what they are judged by, and changes nothing.
#[derive(Default)]
struct Witness(Vec<Candidate>);

impl Rescore for Witness {
    fn rescore(
        &mut self,
        backbone: &Arc<Backbone>,
        size_px: (u32, u32),
        candidates: &mut [Detection],
        rows: &[usize],
        seen: &[f32],
    ) {
        let width = backbone.features;
        for (at, row) in rows.iter().enumerate().take(candidates.len()) {
            let mut inputs = Vec::new();
            describe(candidates, at, size_px, Rows { numbers: seen, width }, *row, &mut inputs);
            self.0.push(Candidate { detection: candidates[at], inputs });
        }
    }

    fn score_min(&self) -> f32 {
        CANDIDATE_SCORE_MIN
    }
}

impl Eye {
    /// Opens the default detector, and what it has found before.
    pub fn open(path: &Path) -> anyhow::Result<Eye> {
        let detector = Detector::load(&Config::default()).map_err(|failure| anyhow::anyhow!(failure.sentence))?;
        let backbone = Arc::clone(detector.backbone().context("the default model shows what it saw")?);
        let known = std::fs::read(path).ok().and_then(|bytes| parse(&bytes, &backbone)).unwrap_or_default();
        Ok(Eye { detector, backbone, path: path.to_owned(), known })
    }

    /// What a head judges by: so many numbers.
    pub fn inputs(&self) -> usize {
        inputs(self.backbone.features)
    }

    /// The candidates of a frame, the surest first.
    pub fn look(&mut self, frame: &Frame) -> anyhow::Result<Vec<Candidate>> {
        let size = [frame.width.to_le_bytes(), frame.height.to_le_bytes()].concat();
        let digest = sha256(&[&size[..], &frame.rgb].concat());
        if let Some(known) = self.known.get(&digest) {
            return Ok(known.clone());
        }
        let mut witness = Witness::default();
        self.detector.detect_judged(frame, &mut witness, &mut Vec::new())?;
        self.known.insert(digest, witness.0.clone());
        Ok(witness.0)
    }

    /// Keeps what was found.
    pub fn keep(&self) -> anyhow::Result<()> {
        if let Some(parent) = self.path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&self.path, written(&self.known, &self.backbone))
            .with_context(|| self.path.display().to_string())
    }
}

/// The network's digest, then for each picture its digest, the number of its candidates, and of each the score, four edges and the
/// inputs; at the end the CRC-32. All numbers with the lowest byte first.
fn written(known: &BTreeMap<[u8; 32], Vec<Candidate>>, backbone: &Backbone) -> Vec<u8> {
    let mut bytes = backbone.sha256.clone().into_bytes();
    for (digest, candidates) in known {
        bytes.extend(digest);
        bytes.extend((candidates.len() as u32).to_le_bytes());
        for Candidate { detection: Detection { area, score }, inputs } in candidates {
            let first = [*score, area.x1, area.y1, area.x2, area.y2];
            bytes.extend(first.iter().chain(inputs).flat_map(|number| number.to_le_bytes()));
        }
    }
    let crc = checksum(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

/// And back; nothing where it is of another network, or not whole.
fn parse(bytes: &[u8], backbone: &Backbone) -> Option<BTreeMap<[u8; 32], Vec<Candidate>>> {
    let (bytes, crc) = bytes.split_last_chunk::<4>()?;
    let mut rest = bytes.strip_prefix(backbone.sha256.as_bytes())?;
    if checksum(bytes) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (mut known, width) = (BTreeMap::new(), 5 + inputs(backbone.features));
    while !rest.is_empty() {
        let (digest, after) = rest.split_first_chunk::<32>()?;
        let (count, after) = after.split_first_chunk::<4>()?;
        let (numbers, after) = after.split_at_checked(u32::from_le_bytes(*count) as usize * width * 4)?;
        let numbers: Vec<f32> = numbers.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let candidate = |numbers: &[f32]| {
            let area = Area { x1: numbers[1], y1: numbers[2], x2: numbers[3], y2: numbers[4] };
            Candidate { detection: Detection { area, score: numbers[0] }, inputs: numbers[5..].to_vec() }
        };
        known.insert(*digest, numbers.chunks_exact(width).map(candidate).collect());
        rest = after;
    }
    Some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_read_as_it_was_written_and_nothing_else_is() {
        let backbone = Backbone { sha256: "ab".repeat(32), features: 3 };
        let area = Area { x1: 1.0, y1: 2.0, x2: 3.5, y2: 9.0 };
        let candidate = Candidate { detection: Detection { area, score: 0.25 }, inputs: vec![0.5; inputs(3)] };
        let known = BTreeMap::from([([1; 32], vec![candidate.clone(), candidate]), ([2; 32], vec![])]);
        let bytes = written(&known, &backbone);
        assert_eq!(parse(&bytes, &backbone), Some(known));
        assert_eq!(parse(&bytes, &Backbone { sha256: "cd".repeat(32), features: 3 }), None);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(parse(&changed, &backbone), None, "byte {at}");
            assert_eq!(parse(&bytes[..at], &backbone), None, "{at} bytes");
        }
    }
}
