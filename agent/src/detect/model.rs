//! Reads a model and its head from disk, or takes the built-in ones, and looks them over before anybody uses them.
//!
//! The file's bytes are bounded before they are read. Nothing here knows the runtime.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;

use picket_shared::exit::{Exit, Failure};

use super::layout::{Names, Override};
use super::onnx::{self, MODEL_BYTES_MAX, Scan};
use super::{BUILTIN_NAME, Config};

/// The model that needs no file: CenterNet-MobileNetV3 from `@vladmandic/human` (MIT, © Vladimir Mandic), cut to people.
pub(crate) const BUILTIN: &[u8] = include_bytes!("../../models/centernet_u8_384x288_top100_w16.onnx");
const BUILTIN_HEAD: &[u8] = include_bytes!("../../models/centernet_person.head.f32");

/// A head is a few hundred numbers.
const HEAD_BYTES_MAX: usize = 1024 * 1024;
/// Labels are a name a line.
const LABELS_BYTES_MAX: usize = 256 * 1024;

/// A model's file, before anybody has looked into it.
pub(super) struct ModelFile {
    /// How sentences call it.
    pub(super) name: String,
    /// The ONNX file.
    pub(super) bytes: Cow<'static, [u8]>,
    /// Its SHA-256 in hexadecimal.
    pub(super) sha256: String,
}

/// A model that may be shown to the runtime.
pub(super) struct Model {
    /// How sentences call it.
    pub(super) name: String,
    /// The ONNX file.
    pub(super) bytes: Cow<'static, [u8]>,
    /// Its SHA-256 in hexadecimal.
    pub(super) sha256: String,
    /// The first 12 digits of that.
    pub(super) digest: String,
    /// What was seen on the way through it.
    pub(super) scan: Scan,
    /// The head's weights and bias, where one was given.
    pub(super) head: Option<Vec<f32>>,
    /// What the configuration says of its layout.
    pub(super) said: Override,
}

/// The first 12 hexadecimal digits of the SHA-256 of the built-in model.
pub(super) fn builtin_digest() -> &'static str {
    static DIGEST: LazyLock<String> = LazyLock::new(|| short(&picket_shared::crypto::sha256_hex(BUILTIN)));
    &DIGEST
}

/// The same of a file.
pub(super) fn file_digest(path: &Path) -> Result<String, Failure> {
    let bytes = bounded(&format!("the model {}", path.display()), "model", path, MODEL_BYTES_MAX)?;
    Ok(short(&picket_shared::crypto::sha256_hex(&bytes)))
}

fn short(sha256: &str) -> String {
    sha256[..12].to_owned()
}

/// Reads the model's bytes, and no more.
pub(super) fn file(config: &Config) -> Result<ModelFile, Failure> {
    let (name, bytes) = if config.model == BUILTIN_NAME {
        ("the built-in model".to_owned(), Cow::Borrowed(BUILTIN))
    } else {
        let name = format!("the model {}", config.model);
        let bytes = bounded(&name, "model", Path::new(&config.model), MODEL_BYTES_MAX)?;
        (name, Cow::Owned(bytes))
    };
    let sha256 = picket_shared::crypto::sha256_hex(&bytes);
    Ok(ModelFile { name, bytes, sha256 })
}

/// Looks through the bytes, and reads what else the configuration names.
pub(super) fn read(config: &Config, file: ModelFile) -> Result<Model, Failure> {
    let ModelFile { name, bytes, sha256 } = file;
    let scan = onnx::scan(&bytes).map_err(|e| Failure::new(Exit::Data, format!("{name} {e}")))?;
    let head = match &config.head {
        Some(path) => {
            let name = format!("the head {}", path.display());
            Some(numbers(&name, &bounded(&name, "head", path, HEAD_BYTES_MAX)?)?)
        }
        None if config.model == BUILTIN_NAME => Some(numbers("the built-in head", BUILTIN_HEAD)?),
        None => beside(&config.model)?,
    };
    let labels = config.labels.as_deref().map(labels).transpose()?;
    let (family, person_class, input) = (config.layout, config.person_class, config.input.clone());
    let said = Override { family, labels, person_class, input };
    Ok(Model { name, bytes, digest: short(&sha256), sha256, scan, head, said })
}

/// A model's bytes, and the numbers of its head where that is an input.
type Parts = (Cow<'static, [u8]>, Option<Vec<f32>>);

/// The configured model's bytes, looked through, and its head: for commands that make another model of it.
pub(crate) fn bytes_and_head(config: &Config) -> Result<Parts, Failure> {
    read(config, file(config)?).map(|model| (model.bytes, model.head))
}

/// The head that lies beside a model: `model.head.f32` beside `model.onnx`, where there is one.
fn beside(model: &str) -> Result<Option<Vec<f32>>, Failure> {
    let path = Path::new(model).with_extension("head.f32");
    if !path.is_file() {
        return Ok(None);
    }
    let name = format!("the head {}", path.display());
    numbers(&name, &bounded(&name, "head", &path, HEAD_BYTES_MAX)?).map(Some)
}

fn labels(path: &Path) -> Result<Names, Failure> {
    let name = format!("the labels {}", path.display());
    let failure = |what: String| Failure::new(Exit::Data, format!("{name} {what}"));
    let bytes = bounded(&name, "labels", path, LABELS_BYTES_MAX)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| failure("is no UTF-8 text; write one class a line".into()))?;
    Names::of_lines(text).map_err(|what| failure(what.replacen("has names", "has", 1)))
}

/// Reads a file of at most `bytes_max`; `key` is what names it in the configuration.
fn bounded(name: &str, key: &str, path: &Path, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let failure = |what: String| Failure::new(Exit::Data, format!("{name} {what}"));
    let unreadable = |e: std::io::Error| failure(format!("cannot be read ({e}); check `{key}`"));
    // Asked before it is opened: opening a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(failure(format!("is not a file; check `{key}`")));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() > bytes_max {
        return Err(failure(format!("has more than {bytes_max} bytes; check `{key}`")));
    }
    Ok(bytes)
}

/// Little-endian 32-bit floating point numbers, one after the other.
fn numbers(name: &str, bytes: &[u8]) -> Result<Vec<f32>, Failure> {
    let failure = |what: &str| Failure::new(Exit::Data, format!("{name} {what}; copy it again"));
    let (chunks, rest) = bytes.as_chunks::<4>();
    if chunks.is_empty() || !rest.is_empty() {
        return Err(failure(&format!("has {} bytes, which are no 32-bit numbers", bytes.len())));
    }
    let numbers: Vec<f32> = chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if numbers.iter().all(|number| number.is_finite()) {
        Ok(numbers)
    } else {
        Err(failure("holds a number that is none"))
    }
}
