//! What one release is, and what it asks for: TUF's targets role. The owner signs it away from every network. Pure.
//!
//! A file is named by its SHA-256 and exact length, and offered in several encodings, each with its own. A manifest may hand
//! on a narrow right: to replace its head, by whoever signs the site's orders, within a shape and a norm that it states.

use serde::{Deserialize, Serialize};

use super::envelope::Document;
use crate::crypto::Digest;
use crate::event::Precision;
use crate::ids::ModelName;
use crate::limits::{
    MODEL_BYTES_MAX, MODEL_CHUNK_BYTES_MAX, MODEL_CHUNK_BYTES_MIN, MODEL_ENCODINGS_MAX, MODEL_MANIFEST_BYTES_MAX,
    MODEL_PART_BYTES_MAX, NAME_CHARS_MAX,
};

/// Names of encodings. A device passes over one that it does not know: a newer program may offer more.
pub mod coding {
    /// The file as it is.
    pub const FULL: &str = "full";
    /// The file, compressed by Zstandard (RFC 8878).
    pub const ZSTD: &str = "zstd";
    /// What changes another file, which the device has, into this one.
    pub const DELTA: &str = "delta";
    /// Weights pruned, shared and coded by Huffman's method (Han et al., Deep Compression, 2016).
    pub const DEEP: &str = "deep";
}

/// One way to get a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoding {
    /// How: a word of [`coding`], or of a newer program.
    pub coding: String,
    /// The file that it builds on, and that the device must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Digest>,
    /// The digest of the bytes that travel.
    pub sha256: Digest,
    /// How many they are.
    pub length: u64,
}

/// A file: what its bytes are in the end, whichever way they came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Their digest.
    pub sha256: Digest,
    /// How many there are, exactly.
    pub length: u64,
    /// The ways to get it; at least one needs no other file.
    pub encodings: Vec<Encoding>,
}

/// What a candidate must reach on a device's own frames, beside the model that it replaces. Shares are 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floors {
    /// Least agreement of the two models' boxes.
    pub agreement_min: f64,
    /// Least average precision at an overlap of 0.5, with the other model's boxes for the truth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ap50_min: Option<f64>,
    /// Largest mean difference of their counts in a frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count_off_mean_max: Option<f64>,
}

/// What a device must have. An empty list asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Needs {
    /// One of these processors, as Rust names them: `x86_64`, `aarch64`.
    pub arch: Vec<String>,
    /// One of these execution providers: `cpu`, `cuda`, `tensorrt`.
    pub providers: Vec<String>,
    /// So much memory altogether.
    pub memory_bytes: u64,
    /// The ONNX Runtime of this minor version or a later one: 20 is 1.20.
    pub runtime_api: u32,
}

/// That the site may replace the head by one of its own, and how far that goes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegation {
    /// How many 32-bit numbers such a head has, exactly.
    pub numbers: u64,
    /// The largest Euclidean norm of them all.
    pub norm_max: f64,
}

/// One release of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The model.
    pub name: ModelName,
    /// Which release of it: each has a higher number than all before, and a device never goes back.
    pub counter: u64,
    /// From then on no device takes it anew, seconds since 1970. One that runs it goes on.
    pub expires_s: u64,
    /// The size of the pieces that its files travel in; only the last one is smaller.
    pub chunk_bytes: u32,
    /// The ONNX file.
    pub file: Artifact,
    /// The head that it starts with, where its head is an input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Artifact>,
    /// The calibration table for INT8 engines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Artifact>,
    /// The labels, one a line, where they are not in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Artifact>,
    /// The family of its layout, in the words of `[detector] layout`; where it is absent the file says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Width and height of its input, in pixels, where they are fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<[u32; 2]>,
    /// What its numbers are computed in.
    pub precision: Precision,
    /// What it must reach.
    pub floors: Floors,
    /// What it needs.
    #[serde(default)]
    pub needs: Needs,
    /// That its head may be replaced; where it is absent, by nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation: Option<Delegation>,
}

/// A head in the place of the one that a release came with. It is signed by the site's orders key, and holds only for the
/// release that delegates it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadManifest {
    /// The model whose head it is.
    pub name: ModelName,
    /// Which of its heads: each has a higher number than all before that the same key signed.
    pub counter: u64,
    /// From then on no device takes it anew, seconds since 1970.
    pub expires_s: u64,
    /// The size of the pieces that it travels in.
    pub chunk_bytes: u32,
    /// The ONNX file that it belongs to.
    pub base: Digest,
    /// The numbers, little-endian, 32 bits each.
    pub file: Artifact,
}

impl Artifact {
    /// A file that is offered as it is, and in no other way.
    pub fn plain(bytes: &[u8]) -> Artifact {
        let (sha256, length) = (Digest::of(bytes), bytes.len() as u64);
        let full = Encoding { coding: coding::FULL.into(), from: None, sha256, length };
        Artifact { sha256, length, encodings: vec![full] }
    }

    pub(super) fn check(&self, what: &str, bytes_max: usize) -> Result<(), String> {
        let fits = |length: u64| length > 0 && length <= bytes_max as u64;
        if !fits(self.length) {
            return Err(format!("a {what} of {} bytes, of 1 to {bytes_max}", self.length));
        }
        if self.encodings.is_empty() || self.encodings.len() > MODEL_ENCODINGS_MAX {
            return Err(format!("a {what} in {} encodings, of 1 to {MODEL_ENCODINGS_MAX}", self.encodings.len()));
        }
        for Encoding { coding, from, sha256, length } in &self.encodings {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if coding.is_empty() || coding.len() > NAME_CHARS_MAX || !coding.chars().all(plain) {
                return Err(format!("a {what} in an encoding without a proper name"));
            }
            if !fits(*length) {
                return Err(format!("a {what} as {coding} of {length} bytes, of 1 to {bytes_max}"));
            }
            if coding == coding::FULL && (from.is_some() || *sha256 != self.sha256 || *length != self.length) {
                return Err(format!("a {what} that is offered as it is, and as another file"));
            }
            if *from == Some(self.sha256) {
                return Err(format!("a {what} that is built from itself"));
            }
        }
        let alone = self.encodings.iter().any(|encoding| encoding.from.is_none());
        if alone { Ok(()) } else { Err(format!("a {what} that nobody can get who has no other")) }
    }
}

impl Manifest {
    /// Every file of the release, with what it is called.
    pub fn artifacts(&self) -> impl Iterator<Item = (&'static str, &Artifact)> {
        let beside = [("head", &self.head), ("calibration", &self.calibration), ("labels", &self.labels)];
        let beside = beside.into_iter().filter_map(|(what, artifact)| Some((what, artifact.as_ref()?)));
        std::iter::once(("model", &self.file)).chain(beside)
    }
}

impl Document for Manifest {
    const TYPE: &'static str = "application/vnd.picket.model.manifest.v1+json";
    const BYTES_MAX: usize = MODEL_MANIFEST_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        of_release(self.counter, self.chunk_bytes)?;
        for (what, artifact) in self.artifacts() {
            artifact.check(what, if what == "model" { MODEL_BYTES_MAX } else { MODEL_PART_BYTES_MAX })?;
        }
        let share = |share: f64| (0.0..=1.0).contains(&share);
        let Floors { agreement_min, ap50_min, count_off_mean_max } = self.floors;
        if !share(agreement_min) || !ap50_min.is_none_or(share) || count_off_mean_max.is_some_and(|most| most < 0.0) {
            return Err("floors that no model has; shares are 0 to 1".into());
        }
        let words = self.needs.arch.iter().chain(&self.needs.providers).chain(&self.family);
        if self.needs.arch.len() > 8 || self.needs.providers.len() > 8 {
            return Err("more than 8 processors or providers".into());
        }
        if words.clone().any(|word| word.is_empty() || word.len() > NAME_CHARS_MAX) {
            return Err(format!("a processor, provider or family without a name of 1 to {NAME_CHARS_MAX} characters"));
        }
        if self.input.is_some_and(|sides| sides.iter().any(|side| !(1..=16_384).contains(side))) {
            return Err("an input whose sides are not 1 to 16384 pixels".into());
        }
        match (&self.delegation, &self.head) {
            (None, _) => Ok(()),
            (Some(_), None) => Err("a head that may be replaced where there is none".into()),
            (Some(delegation), Some(head)) => delegation.check(head),
        }
    }
}

impl Document for HeadManifest {
    const TYPE: &'static str = "application/vnd.picket.model.head.v1+json";
    const BYTES_MAX: usize = MODEL_MANIFEST_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        of_release(self.counter, self.chunk_bytes)?;
        self.file.check("head", MODEL_PART_BYTES_MAX)
    }
}

pub(super) fn of_release(counter: u64, chunk_bytes: u32) -> Result<(), String> {
    // JSON readers keep whole numbers up to 2^53.
    if counter == 0 || counter >= 1 << 53 {
        return Err(format!("release {counter}, of 1 to 2^53"));
    }
    let range = MODEL_CHUNK_BYTES_MIN..=MODEL_CHUNK_BYTES_MAX;
    match range.contains(&(chunk_bytes as usize)) {
        true => Ok(()),
        false => Err(format!("pieces of {chunk_bytes} bytes, of {} to {}", range.start(), range.end())),
    }
}

impl Delegation {
    fn check(&self, head: &Artifact) -> Result<(), String> {
        if !self.norm_max.is_finite() || self.norm_max <= 0.0 {
            return Err("a head that may be replaced by one without a norm".into());
        }
        if self.numbers.checked_mul(4) != Some(head.length) {
            return Err(format!("a head of {} bytes that may be replaced by {} numbers", head.length, self.numbers));
        }
        Ok(())
    }

    /// Whether these bytes are a head that was delegated: so many finite numbers, no larger than it says. A head signed by the
    /// orders key alone may change who is taken for a person, and not make the network overflow.
    pub fn admits(&self, head: &[u8]) -> bool {
        let (numbers, rest) = head.as_chunks::<4>();
        let numbers_of = || numbers.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
        let norm = numbers_of().map(|number| number * number).sum::<f64>().sqrt();
        // A sum with a number that is none is none, and is not small enough.
        rest.is_empty() && numbers.len() as u64 == self.numbers && norm <= self.norm_max
    }
}
