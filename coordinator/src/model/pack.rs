//! Makes a release out of files, on any machine: its manifest, which the owner then signs. What a model is and needs, its owner
//! says; `picket-agent model inspect` says what the file shows.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use picket_shared::crypto::Digest;
use picket_shared::event::Precision;
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::ModelName;
use picket_shared::limits::{MODEL_BYTES_MAX, MODEL_PART_BYTES_MAX};
use picket_shared::model::decode::decode;
use picket_shared::model::{Artifact, Delegation, Encoding, Envelope, Floors, Manifest, Needs};
use picket_shared::trust::DAY_S;

/// What a release is made of.
#[derive(Debug, clap::Args)]
pub struct Contents {
    /// The ONNX file
    pub model: PathBuf,
    /// The model's name: the same for all its releases
    #[arg(long)]
    pub name: ModelName,
    /// Which release: higher than every one before
    #[arg(long)]
    pub counter: u64,
    /// Where the manifest goes
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The head that it starts with: little-endian 32-bit numbers
    #[arg(long, value_name = "FILE")]
    pub head: Option<PathBuf>,
    /// The calibration table for INT8 engines
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
    /// The labels, one a line
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Another way to get the ONNX file: what travels, and the file that it builds on
    #[arg(long = "as", value_name = "CODING=FILE[:FROM]")]
    pub encodings: Vec<String>,
    /// The same for the head
    #[arg(long = "head-as", value_name = "CODING=FILE[:FROM]")]
    pub head_encodings: Vec<String>,
    /// The family of its layout, where the file does not say it
    #[arg(long)]
    pub family: Option<String>,
    /// Width and height of its input
    #[arg(long, value_name = "WxH")]
    pub input: Option<String>,
    /// What its numbers are computed in: fp32, fp16 or int8
    #[arg(long, default_value = "fp32")]
    pub precision: String,
    /// Least agreement with the model that it replaces, 0 to 1
    #[arg(long, default_value_t = 0.85)]
    pub agreement: f64,
    /// Least average precision against it, 0 to 1
    #[arg(long)]
    pub ap50: Option<f64>,
    /// Largest mean difference of the counts in a frame
    #[arg(long)]
    pub count_off: Option<f64>,
    /// A processor that it runs on, as in x86_64 or aarch64; any where none is named
    #[arg(long)]
    pub arch: Vec<String>,
    /// An execution provider that it runs on: cpu, cuda, tensorrt; any where none is named
    #[arg(long)]
    pub provider: Vec<String>,
    /// Memory that a device must have
    #[arg(long, default_value_t = 0)]
    pub memory_mib: u64,
    /// The least minor version of ONNX Runtime: 20 is 1.20
    #[arg(long, default_value_t = 20)]
    pub runtime_api: u32,
    /// Let the site replace the head by one of no larger norm
    #[arg(long, value_name = "NORM")]
    pub delegate_head: Option<f64>,
    /// The size of the pieces that it travels in
    #[arg(long, default_value_t = 32)]
    pub chunk_kib: u32,
    /// For how many days it may be taken
    #[arg(long, default_value_t = 365)]
    pub days: u64,
}

fn wrong(sentence: String) -> Failure {
    Failure::new(Exit::Config, sentence)
}

/// The manifest of these contents, which nobody has signed yet.
pub fn pack(contents: &Contents, now_s: u64) -> Result<Envelope, Failure> {
    let part = |path: &Option<PathBuf>| path.as_deref().map(|path| artifact(path, MODEL_PART_BYTES_MAX)).transpose();
    let (mut file, mut head) = (artifact(&contents.model, MODEL_BYTES_MAX)?, part(&contents.head)?);
    for text in &contents.encodings {
        file.encodings.push(encoding(text, &file, MODEL_BYTES_MAX)?);
    }
    for text in &contents.head_encodings {
        let of = head.as_mut().ok_or_else(|| wrong("--head-as is for a head; name it by --head".into()))?;
        of.encodings.push(encoding(text, of, MODEL_PART_BYTES_MAX)?);
    }
    let delegation = match (contents.delegate_head, &head) {
        (None, _) => None,
        (Some(norm_max), Some(head)) => Some(Delegation { numbers: head.length / 4, norm_max }),
        (Some(_), None) => return Err(wrong("--delegate-head is for a head; name it by --head".into())),
    };
    let quoted = format!("\"{}\"", contents.precision);
    let precision: Precision = serde_json::from_str(&quoted)
        .map_err(|_| wrong(format!("--precision is {}; give it fp32, fp16 or int8", contents.precision)))?;
    if !(1..=3_650).contains(&contents.days) {
        return Err(wrong(format!("--days is {}; give it 1 to 3650", contents.days)));
    }
    let manifest = Manifest {
        name: contents.name.clone(),
        counter: contents.counter,
        expires_s: now_s + contents.days * DAY_S,
        chunk_bytes: contents.chunk_kib.saturating_mul(1024),
        file,
        head,
        calibration: part(&contents.calibration)?,
        labels: part(&contents.labels)?,
        family: contents.family.clone(),
        input: contents.input.as_deref().map(sides).transpose()?,
        precision,
        floors: Floors {
            agreement_min: contents.agreement,
            ap50_min: contents.ap50,
            count_off_mean_max: contents.count_off,
        },
        needs: Needs {
            arch: contents.arch.clone(),
            providers: contents.provider.clone(),
            memory_bytes: contents.memory_mib.saturating_mul(1 << 20),
            runtime_api: contents.runtime_api,
        },
        delegation,
    };
    Envelope::of(&manifest).map_err(|what| wrong(format!("these contents make {what}")))
}

fn sides(text: &str) -> Result<[u32; 2], Failure> {
    let parsed = text.split_once('x').and_then(|(width, height)| Some([width.parse().ok()?, height.parse().ok()?]));
    parsed.ok_or_else(|| wrong(format!("--input is {text}; give it width and height, as in 384x288")))
}

/// `CODING=FILE[:FROM]`, once it has been seen to become the file that it is another form of: what does not is found out here, and not
/// by every device.
fn encoding(text: &str, of: &Artifact, bytes_max: usize) -> Result<Encoding, Failure> {
    let form = || wrong(format!("\"{text}\" is not of the form CODING=FILE[:FROM]"));
    let (coding, files) = text.split_once('=').ok_or_else(form)?;
    let (file, from) = match files.split_once(':') {
        Some((file, from)) => (file, Some(bytes(Path::new(from), bytes_max)?)),
        None => (files, None),
    };
    let bytes = bytes(Path::new(file), bytes_max)?;
    let (sha256, length) = (Digest::of(&bytes), bytes.len() as u64);
    let encoding = Encoding { coding: coding.to_owned(), from: from.as_deref().map(Digest::of), sha256, length };
    let decoded = decode(of, &encoding, bytes, |_| from.clone());
    let is_it =
        decoded.and_then(|decoded| of.admits("file", &decoded).map_err(|why| format!("becomes another file: {why}")));
    is_it.map_err(|what| {
        Failure::new(Exit::Data, format!("{file} {what}; make it again, of the file that is packed"))
    })?;
    Ok(encoding)
}

fn artifact(path: &Path, bytes_max: usize) -> Result<Artifact, Failure> {
    Ok(Artifact::plain(&bytes(path, bytes_max)?))
}

/// A file's bytes, and no more than there may be.
pub fn bytes(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let failure = |what: String| Failure::new(Exit::Data, format!("{} {what}", path.display()));
    let unreadable = |error: std::io::Error| failure(format!("cannot be read ({error}); check its name"));
    // Asked before it is opened: opening a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(failure("is not a file; check its name".into()));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    match bytes.len() {
        0 => Err(failure("is empty; copy it again".into())),
        many if many > bytes_max => Err(failure(format!("has more than {bytes_max} bytes, which is the most"))),
        _ => Ok(bytes),
    }
}
