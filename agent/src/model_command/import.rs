//! `picket-agent model import`: reads the files, has them rewritten, and writes the model with its head beside it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use picket_shared::exit::{Exit, Failure};

use crate::detect::onnx::{self, MODEL_BYTES_MAX};
use crate::detect::quantize::write_whole;
use crate::import::{self, Options, Source};

/// Largest `model.json`.
const JSON_BYTES_MAX: usize = 32 * 1024 * 1024;

/// `model import`.
#[derive(Debug, Args)]
pub struct Import {
    /// The model.json of a TensorFlow.js graph model, with its weights beside it, or a frozen graph (.pb)
    model: PathBuf,
    /// Where the ONNX file goes; its head goes beside it
    #[arg(long)]
    out: PathBuf,
    /// Width and height of the picture that the model takes: 384x288
    #[arg(long, value_parser = size)]
    input: Option<(usize, usize)>,
}

/// Imports a model, and says what was made.
pub(super) fn run(asked: &Import) -> Result<String, Failure> {
    let name = asked.model.display();
    let source = read(&asked.model)?;
    let made = import::import(&source, &Options { input: asked.input })
        .map_err(|e| Failure::new(Exit::Data, format!("{name} {e}")))?;
    onnx::scan(&made.onnx).map_err(|e| Failure::new(Exit::Software, format!("the imported model {e}")))?;
    let head: Vec<u8> = made.head.iter().flat_map(|number| number.to_le_bytes()).collect();
    let beside = asked.out.with_extension("head.f32");
    write_whole(&asked.out, &made.onnx)?;
    write_whole(&beside, &head)?;
    let (out, bytes, sha256) = (asked.out.display(), made.onnx.len(), picket_shared::crypto::sha256_hex(&made.onnx));
    let (beside, numbers) = (beside.display(), made.head.len());
    Ok(format!("{out}: {}, {bytes} bytes, sha256 {sha256}\n{beside}: its head, {numbers} numbers", made.family))
}

fn size(text: &str) -> Result<(usize, usize), String> {
    let sides = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    sides.ok_or_else(|| "give width and height, as 384x288".into())
}

fn read(path: &Path) -> Result<Source, Failure> {
    if path.extension().is_none_or(|extension| extension != "json") {
        return Ok(Source::Frozen(bounded(path, MODEL_BYTES_MAX)?));
    }
    let json = bounded(path, JSON_BYTES_MAX)?;
    let names = import::weight_files(&json).map_err(|e| Failure::new(Exit::Data, format!("{} {e}", path.display())))?;
    let mut weights = Vec::new();
    for name in names {
        weights.extend(bounded(&path.with_file_name(name), MODEL_BYTES_MAX - weights.len())?);
    }
    Ok(Source::Tfjs { json, weights })
}

pub(super) fn bounded(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let failure = |what: String| Failure::new(Exit::Data, format!("{} {what}", path.display()));
    let unreadable = |e: std::io::Error| failure(format!("cannot be read ({e}); check the path"));
    // Asked before it is opened: opening a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(failure("is not a file; check the path".into()));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() > bytes_max {
        return Err(failure(format!("has more than {bytes_max} bytes; use a smaller model")));
    }
    Ok(bytes)
}
