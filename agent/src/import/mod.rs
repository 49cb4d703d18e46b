//! `picket-agent model import`: makes a model of Picket's form out of a TensorFlow one, without TensorFlow.
//!
//! Reads a TensorFlow.js graph model or a frozen graph of the CenterNet, SSDLite and NanoDet families, and writes ONNX:
//! RGB bytes in, preparation inside; the best candidates out, each with its box, its score and what the class head saw of
//! it; the head as inputs. Pure: bytes in, bytes out. What it makes goes through the same look-over as every model.

mod centernet;
mod convert;
mod nanodet;
mod ssd;
mod tensorflow;

#[cfg(test)]
mod tests;

use convert::Converter;

use crate::detect::layout::SIDE_MAX;
use crate::graph::build::Builder;

pub use tensorflow::weight_files;

/// Candidates that a model gives for each picture.
const CANDIDATES: usize = 100;

/// Why a model cannot be imported; goes on after the model's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ImportError(String);

impl ImportError {
    fn new(sentence: impl Into<String>) -> ImportError {
        ImportError(sentence.into())
    }
}

/// A TensorFlow model, read.
pub enum Source {
    /// `model.json`, and its weights one after the other.
    Tfjs {
        /// The JSON.
        json: Vec<u8>,
        /// The weights.
        weights: Vec<u8>,
    },
    /// A frozen graph.
    Frozen(Vec<u8>),
}

/// What is asked of the import.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Width and height of the picture that the model takes; else its family's.
    pub input: Option<(usize, usize)>,
}

/// What was made.
pub struct Imported {
    /// The family that it is of.
    pub family: &'static str,
    /// The ONNX file.
    pub onnx: Vec<u8>,
    /// The factory values of its head: weights, then the bias.
    pub head: Vec<f32>,
}

/// Makes the model.
pub fn import(source: &Source, options: &Options) -> Result<Imported, ImportError> {
    let graph = match source {
        Source::Tfjs { json, weights } => tensorflow::read_tfjs(json, weights)?,
        Source::Frozen(bytes) => tensorflow::read_frozen(bytes)?,
    };
    if let Some(found) = ssd::find(&graph) {
        return found.import(&graph, options);
    }
    if let Some(found) = nanodet::find(&graph) {
        return found.import(&graph, options);
    }
    if let Some(found) = centernet::find(&graph) {
        return found.import(&graph, options);
    }
    Err(ImportError::new(
        "is of no family that can be imported; known are CenterNet with its peaks picked, SSD of the Object Detection API \
         (BoxPredictor_…), and NanoDet; for others export ONNX",
    ))
}

/// The sides of the picture that is asked for, or `otherwise`; whole strides only.
fn picture(options: &Options, otherwise: (usize, usize), stride: usize) -> Result<(usize, usize), ImportError> {
    let (width, height) = options.input.unwrap_or(otherwise);
    let fits = |side: usize| (stride..=SIDE_MAX as usize).contains(&side) && side.is_multiple_of(stride);
    if fits(width) && fits(height) {
        return Ok((width, height));
    }
    Err(ImportError::new(format!("cannot take pictures of {width}x{height}; choose multiples of {stride}")))
}

/// A side of the picture that a graph was made for.
fn side(side: i64) -> Option<usize> {
    usize::try_from(side).ok().filter(|side| (1..=SIDE_MAX as usize).contains(side))
}

/// What is written into the file about it.
pub(crate) fn said(width: usize, height: usize, norm: &str) -> [(&'static str, String); 3] {
    [("classes", "person".into()), ("input", format!("RGB u8 {width}x{height} letterbox")), ("norm", norm.into())]
}

/// Widens the bytes of the input `image` and puts its channels first.
pub(crate) fn planes(builder: &mut Builder) -> String {
    use crate::graph::build::{int, ints};
    use crate::graph::proto::element;
    let cast = builder.node("cast", "Cast", &["image"], vec![int("to", element::FLOAT.into())]);
    builder.node("nchw", "Transpose", &[&cast], vec![ints("perm", &[0, 3, 1, 2])])
}
