//! Makes an INT8 model from a station's own frames, by onnxruntime's quantiser in a Python of its own.
//!
//! The frames are prepared here, by the very code that prepares them for detection, so that the ranges are those of the
//! station. The Python packages are pinned by hash and installed on demand into the cache; nothing of them is needed to
//! run a model. Whether the result is any good is the precision gate's question.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use picket_shared::crypto::sha256_hex;
use picket_shared::exit::{Exit, Failure};
use serde_json::{Value, json};

use super::layout::Element;
use super::precision::frames_of;
use super::session::Picture;
use super::{Config, Detector, Provider, library, model, onnx};
use crate::pictures;

const SCRIPT: &str = include_str!("../../quantizer/quantize.py");
const REQUIREMENTS: &str = include_str!("../../quantizer/requirements.txt");

/// Frames that ranges are measured on. More cost time, and widen the ranges by their oddest pixel.
pub const CALIBRATION_FRAMES_MAX: usize = 64;
/// Frames below which ranges would be those of a few pictures.
pub const CALIBRATION_FRAMES_MIN: usize = 8;

/// What was made.
#[derive(Debug)]
pub struct Quantized {
    /// Frames that ranges were measured on.
    pub frames: usize,
    /// The length of the model that it was made from.
    pub bytes_before: usize,
    /// Its own length.
    pub bytes: usize,
    /// Where its class head lies, if it takes one.
    pub head: Option<PathBuf>,
}

/// Quantises the configured model with frames of a folder, and writes it to `out`, with its head beside it.
pub fn quantize(config: &Config, frames: &Path, out: &Path) -> Result<Quantized, Failure> {
    let config = Config { providers: vec![Provider::Cpu], reference: None, ..config.clone() };
    let source = model::read(&config, model::file(&config)?)?;
    let refuse = |what: &str| Failure::new(Exit::Data, format!("{} {what}", source.name));
    if source.scan.precision == picket_shared::event::Precision::Int8 {
        return Err(refuse("is quantised already; give the model that it was made from"));
    }
    let mut detector = Detector::build(&config, &source)?;
    let files = frames_of(frames, CALIBRATION_FRAMES_MAX)?;
    if files.len() < CALIBRATION_FRAMES_MIN {
        let (there, folder) = (files.len(), frames.display());
        let sentence = format!(
            "{folder} has {there} frames, and ranges need {CALIBRATION_FRAMES_MIN} or more; store some more there"
        );
        return Err(Failure::new(Exit::Source, sentence));
    }
    let cache = library::cache_dir(|name| std::env::var_os(name)).unwrap_or_else(std::env::temp_dir);
    let python = python(&cache)?;
    let work = Work::new(&cache).map_err(|e| unwritable(&cache, &e))?;
    let head = source.head.as_deref();
    let write =
        |name: &str, bytes: &[u8]| std::fs::write(work.0.join(name), bytes).map_err(|e| unwritable(&work.0, &e));
    write("model.onnx", &source.bytes)?;
    write("quantize.py", SCRIPT.as_bytes())?;
    write("job.json", job(&detector, head).to_string().as_bytes())?;
    for (number, file) in files.iter().enumerate() {
        let failure = |what: String| Failure::new(Exit::Source, format!("the frame {} {what}", file.display()));
        let frame = pictures::read(file).map_err(failure)?;
        detector.show(&frame).map_err(|e| failure(format!("cannot be used: {e}")))?;
        let mut bytes = Vec::new();
        match detector.session.picture() {
            Picture::Bytes(tensor) => bytes.extend_from_slice(tensor),
            Picture::Numbers(tensor) => tensor.iter().for_each(|number| bytes.extend(number.to_le_bytes())),
        }
        write(&format!("frame-{number:04}.bin"), &bytes)?;
    }
    tracing::info!("measuring ranges on {} frames", files.len());
    let said = run(Command::new(&python).arg(work.0.join("quantize.py")).arg(&work.0))?;
    let made = std::fs::read(work.0.join("quantized.onnx")).ok().filter(|_| said.status.success());
    let made = made.ok_or_else(|| refuse(&format!("cannot be quantised ({}); use it as it is", last_line(&said))))?;
    onnx::scan(&made).map_err(|e| Failure::new(Exit::Software, format!("the quantised model {e}")))?;
    write_whole(out, &made)?;
    let beside = head.map(|head| -> Result<PathBuf, Failure> {
        let path = out.with_extension("head.f32");
        let bytes: Vec<u8> = head.iter().flat_map(|number| number.to_le_bytes()).collect();
        write_whole(&path, &bytes)?;
        Ok(path)
    });
    let head = beside.transpose()?;
    Ok(Quantized { frames: files.len(), bytes_before: source.bytes.len(), bytes: made.len(), head })
}

/// What the script is told of the model's inputs.
fn job(detector: &Detector, head: Option<&[f32]>) -> Value {
    let input = &detector.layout.input;
    let kind = if input.element == Element::U8 { "uint8" } else { "<f4" };
    let mut fixed = Vec::new();
    if let Some((bias, weights)) = head.and_then(<[f32]>::split_last) {
        fixed.push(json!({ "name": "cls_w", "shape": [1, weights.len(), 1, 1], "type": "<f4", "values": weights }));
        fixed.push(json!({ "name": "cls_b", "shape": [1], "type": "<f4", "values": [bias] }));
    }
    if detector.session.has(super::layout::SIZES_INPUT) {
        let size = [input.width, input.height];
        fixed.push(json!({ "name": super::layout::SIZES_INPUT, "shape": [1, 2], "type": "<i8", "values": size }));
    }
    json!({ "picture": { "name": input.name, "shape": input.shape(), "type": kind }, "fixed": fixed })
}

/// The quantiser's own Python, made on first use: a virtual environment named by what is in it.
fn python(cache: &Path) -> Result<PathBuf, Failure> {
    let home = cache.join(format!("quantizer-{}", &sha256_hex(REQUIREMENTS.as_bytes())[..12]));
    let (python, ready) = (home.join("bin/python"), home.join("ready"));
    if ready.is_file() {
        return Ok(python);
    }
    tracing::info!("preparing the quantiser in {}, once; this takes a minute", home.display());
    // What an interrupted attempt left.
    let _ = std::fs::remove_dir_all(&home);
    std::fs::create_dir_all(cache).map_err(|e| unwritable(cache, &e))?;
    let made = run(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
    if !made.status.success() {
        let sentence =
            format!("python3 cannot make a virtual environment ({}); install python3-venv", last_line(&made));
        return Err(Failure::new(Exit::System, sentence));
    }
    let list = home.join("requirements.txt");
    std::fs::write(&list, REQUIREMENTS).map_err(|e| unwritable(&home, &e))?;
    let pip = ["-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps", "--only-binary=:all:"];
    let installed = run(Command::new(&python).args(pip).args(["--require-hashes", "-r"]).arg(&list))?;
    if !installed.status.success() {
        let said = last_line(&installed);
        let sentence = format!(
            "the quantiser's Python packages cannot be installed ({said}); it needs the network once, and CPython 3.11 or 3.13 \
             on x86_64 or aarch64"
        );
        return Err(Failure::new(Exit::System, sentence));
    }
    std::fs::write(&ready, b"").map_err(|e| unwritable(&home, &e))?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<Output, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.output().map_err(|e| {
        let sentence =
            format!("{program} cannot be started ({e}); quantising needs it: install python3 and python3-venv");
        Failure::new(Exit::System, sentence)
    })
}

/// The last thing that a program said, which with Python's is the error.
fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it said nothing");
    last.chars().take(300).collect()
}

/// A file appears whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let part = path.with_extension("part");
    let written = std::fs::File::create(&part)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| std::fs::rename(&part, path));
    written.map_err(|e| {
        let _ = std::fs::remove_file(&part);
        unwritable(path, &e)
    })
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::new(Exit::Disk, format!("{path} cannot be written ({error}); choose another directory or free some space"))
}

/// A directory of its own, gone with its scope.
struct Work(PathBuf);

impl Work {
    fn new(cache: &Path) -> io::Result<Work> {
        let path = cache.join(format!("quantize-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Work(path))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
