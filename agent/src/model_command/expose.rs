//! `picket-agent model expose`: writes the model with its class head exposed, and that head's factory values beside it.

use std::path::PathBuf;

use clap::Args;
use picket_shared::exit::{Exit, Failure};

use super::import::bounded;
use crate::detect::onnx::{self, MODEL_BYTES_MAX};
use crate::detect::quantize::write_whole;
use crate::surgery;

/// `model expose`.
#[derive(Debug, Args)]
pub struct Expose {
    /// An ONNX file of YOLOv8, v9 or 11 with a fixed size
    model: PathBuf,
    /// Where the new model goes; its head goes beside it
    #[arg(long)]
    out: PathBuf,
    /// The number of the class of people
    #[arg(long, default_value_t = 0)]
    person_class: usize,
}

/// Exposes the head, and says what was made.
pub(super) fn run(asked: &Expose) -> Result<String, Failure> {
    let failure = |what: String| Failure::new(Exit::Data, format!("the model {} {what}", asked.model.display()));
    let bytes = bounded(&asked.model, MODEL_BYTES_MAX)?;
    onnx::scan(&bytes).map_err(|e| failure(e.to_string()))?;
    let made = surgery::expose(&bytes, asked.person_class).map_err(failure)?;
    onnx::scan(&made.onnx).map_err(|e| Failure::new(Exit::Software, format!("the new model {e}")))?;
    let (out, beside) = (asked.out.display(), asked.out.with_extension("head.f32"));
    let head: Vec<u8> = made.head.iter().flat_map(|number| number.to_le_bytes()).collect();
    write_whole(&asked.out, &made.onnx)?;
    write_whole(&beside, &head)?;
    Ok(format!("{out}: {} bytes\n{}: its head, {} numbers", made.onnx.len(), beside.display(), made.head.len()))
}
