//! Of which network and of what form a head is: numbers of two lineages have nothing to do with each other, and are never mixed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::crypto::{from_hex, hex, sha256};
use crate::limits::{HEAD_CLASSES_MAX, HEAD_INPUTS_MAX, HEAD_PARAMETERS_MAX};
use crate::random::SplitMix64;

/// Hidden units of [`HeadKind::Mlp16`].
pub const HIDDEN: usize = 16;
/// Where the answer is yes or no, the first input is what the network itself says: its logit over this, so that it is as large as
/// the other inputs are.
pub const LOGIT_UNIT: f32 = 4.0;

/// What a head computes from a candidate's features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadKind {
    /// One of several classes: `inputs` × `classes` weights, row by row of the inputs, then a bias for each class.
    Softmax,
    /// Yes or no: what is added to the network's own logit ([`LOGIT_UNIT`] times the first input), as a weight for each input,
    /// then the bias. All zero, it says what the network says.
    Logistic,
    /// The same through one hidden layer of [`HIDDEN`] rectified units: `inputs` × 16 weights, row by row of the inputs, 16
    /// biases, 16 weights, one bias.
    Mlp16,
}

/// The form of a head, and so the meaning of each of its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HeadShape {
    /// What it computes.
    pub kind: HeadKind,
    /// Features of a candidate.
    pub inputs: u32,
    /// Classes; 2 where the answer is yes or no.
    pub classes: u32,
}

impl HeadShape {
    /// A head of several classes.
    pub fn softmax(inputs: u32, classes: u32) -> HeadShape {
        HeadShape { kind: HeadKind::Softmax, inputs, classes }
    }

    /// A linear head that says yes or no.
    pub fn logistic(inputs: u32) -> HeadShape {
        HeadShape { kind: HeadKind::Logistic, inputs, classes: 2 }
    }

    /// The same with one hidden layer.
    pub fn mlp16(inputs: u32) -> HeadShape {
        HeadShape { kind: HeadKind::Mlp16, inputs, classes: 2 }
    }

    /// How many numbers the head is.
    pub fn parameters(&self) -> usize {
        let (inputs, classes) = (self.inputs as usize, self.classes as usize);
        match self.kind {
            HeadKind::Softmax => inputs * classes + classes,
            HeadKind::Logistic => inputs + 1,
            HeadKind::Mlp16 => inputs * HIDDEN + 2 * HIDDEN + 1,
        }
    }

    /// Refuses what is no head, or too large a one, in a sentence.
    pub fn check(&self) -> Result<(), String> {
        let inputs = 1..=HEAD_INPUTS_MAX as u32;
        let classes = if self.kind == HeadKind::Softmax { 2..=HEAD_CLASSES_MAX as u32 } else { 2..=2 };
        if !inputs.contains(&self.inputs) || !classes.contains(&self.classes) {
            return Err(format!(
                "a head of {} inputs and {} classes; {inputs:?} and {classes:?} are possible",
                self.inputs, self.classes
            ));
        }
        if self.parameters() > HEAD_PARAMETERS_MAX {
            return Err(format!("a head of {} parameters; at most {HEAD_PARAMETERS_MAX}", self.parameters()));
        }
        Ok(())
    }

    /// Where learning begins: at a head that changes nothing. A linear one is zero; a hidden layer would never leave that, so its
    /// weights, but those behind it, begin at small numbers that are the same everywhere.
    pub fn beginning(&self) -> Vec<f32> {
        let mut head = vec![0.0; self.parameters()];
        if self.kind == HeadKind::Mlp16 {
            let mut random = SplitMix64::stream(u64::from(self.inputs), HIDDEN as u64, 1);
            let (hidden, width) = (self.inputs as usize * HIDDEN, 1.0 / f64::from(self.inputs).sqrt());
            head[..hidden].iter_mut().for_each(|weight| *weight = ((2.0 * random.unit() - 1.0) * width) as f32);
        }
        head
    }
}

/// A family of heads that can be added to each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// Counts the times that a fleet began to learn anew.
    pub fleet_epoch: u32,
    /// The SHA-256 of the file of the frozen network, in hexadecimal.
    pub backbone: String,
    /// The head's form.
    pub shape: HeadShape,
}

impl Lineage {
    /// Refuses what is none, in a sentence.
    pub fn check(&self) -> Result<(), String> {
        if from_hex::<32>(&self.backbone).is_none() {
            return Err("the backbone is not the SHA-256 of a file, 64 hexadecimal digits".into());
        }
        self.shape.check()
    }

    /// Its short name.
    pub fn id(&self) -> LineageId {
        let HeadShape { kind, inputs, classes } = self.shape;
        let kind = match kind {
            HeadKind::Softmax => "softmax",
            HeadKind::Logistic => "logistic",
            HeadKind::Mlp16 => "mlp16",
        };
        let backbone = self.backbone.to_ascii_lowercase();
        let text = format!("picket lineage v1\n{}\n{backbone}\n{kind}\n{inputs}\n{classes}\n", self.fleet_epoch);
        LineageId(*sha256(text.as_bytes()).first_chunk().expect("a digest has more bytes"))
    }
}

/// The name of a lineage: the first 8 bytes of the SHA-256 over the lines `picket lineage v1`, fleet epoch, backbone, kind,
/// inputs, classes. In texts and topics 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineageId(pub [u8; 8]);

impl fmt::Display for LineageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for LineageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that names no lineage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a lineage is 16 small hexadecimal digits")]
pub struct LineageError;

impl FromStr for LineageId {
    type Err = LineageError;
    fn from_str(text: &str) -> Result<LineageId, LineageError> {
        // One lineage, one text: a topic must come back as it went.
        let id = from_hex(text).map(LineageId).ok_or(LineageError)?;
        if id.to_string() == text { Ok(id) } else { Err(LineageError) }
    }
}

impl Serialize for LineageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(self),
            false => serializer.serialize_bytes(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for LineageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LineageId, D::Error> {
        use serde::de::Error;
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return text.parse().map_err(D::Error::custom);
        }
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        let id = bytes.as_slice().try_into().map_err(|_| D::Error::custom("a lineage has 8 bytes"))?;
        Ok(LineageId(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage() -> Lineage {
        Lineage { fleet_epoch: 1, backbone: "ab".repeat(32), shape: HeadShape::logistic(137) }
    }

    #[test]
    fn whatever_differs_makes_another_lineage() {
        let one = lineage();
        let others = [
            Lineage { fleet_epoch: 2, ..one.clone() },
            Lineage { backbone: "ac".repeat(32), ..one.clone() },
            Lineage { shape: HeadShape::logistic(138), ..one.clone() },
            Lineage { shape: HeadShape::mlp16(137), ..one.clone() },
            Lineage { shape: HeadShape::softmax(137, 2), ..one.clone() },
        ];
        assert!(others.iter().all(|other| other.id() != one.id()));
        assert_eq!(Lineage { backbone: "AB".repeat(32), ..one.clone() }.id(), one.id());
        assert_eq!(one.id().to_string().parse(), Ok(one.id()));
        for text in ["", "0123456789abcde", "0123456789ABCDEF", "0123456789abcdeg"] {
            assert!(text.parse::<LineageId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_head_has_as_many_parameters_as_its_form_says_and_is_bounded() {
        assert_eq!(HeadShape::softmax(64, 10).parameters(), 650);
        assert_eq!(HeadShape::softmax(1000, 10).parameters(), 10_010);
        assert_eq!(HeadShape::logistic(137).parameters(), 138);
        assert_eq!(HeadShape::mlp16(137).parameters(), 137 * 16 + 33);
        for good in [HeadShape::softmax(64, 10), HeadShape::logistic(137), HeadShape::mlp16(137)] {
            assert_eq!(good.check(), Ok(()));
        }
        for bad in [
            HeadShape::softmax(0, 10),
            HeadShape::softmax(64, 1),
            HeadShape::softmax(u32::MAX, u32::MAX),
            HeadShape::softmax(4096, 256),
            HeadShape { classes: 3, ..HeadShape::logistic(5) },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        assert!(Lineage { backbone: "xy".into(), ..lineage() }.check().is_err());
        let beginning = HeadShape::mlp16(137).beginning();
        assert!(beginning[..137 * 16].iter().all(|weight| *weight != 0.0 && weight.abs() < 0.1));
        assert_eq!(HeadShape::logistic(3).beginning(), [0.0; 4]);
    }
}
