//! `picket-agent model compress`: a release in few bytes, and a table of what that costs.
//!
//! Writes the release, which is an ordinary model, and beside it what travels: `.deep`, or `.delta` where it builds on
//! another file. `picket-coordinator model pack --as deep=FILE` offers it to the devices.

use std::path::PathBuf;

use clap::Args;
use picket_shared::exit::{Exit, Failure};

use super::check;
use super::import::bounded;
use crate::compress::{self, Compressed, Method, Settings};
use crate::config::Config;
use crate::detect::onnx::{self, MODEL_BYTES_MAX};
use crate::detect::precision::{self, Comparison};
use crate::detect::quantize::write_whole;
use crate::detect::{self, bytes_and_head};

/// `model compress`.
#[derive(Debug, Args)]
pub struct Compress {
    /// An ONNX file, "builtin", or a head (.f32)
    model: String,
    /// Where the release goes; what travels goes beside it, as .deep or .delta. Of several settings the last one stays
    #[arg(long)]
    out: PathBuf,
    /// Steps of the grid, in root mean squares of an output's weights; several give a table
    #[arg(long, value_delimiter = ',', default_value = "0.45", conflicts_with_all = ["clusters", "int8"])]
    step: Vec<f32>,
    /// Values for each tensor by k-means, in place of a grid; several give a table
    #[arg(long, value_delimiter = ',')]
    clusters: Vec<usize>,
    /// 255 steps for each output, in place of a grid
    #[arg(long, conflicts_with = "clusters")]
    int8: bool,
    /// The share of weights, the smallest, that become zero; of differences, those that stay as they were
    #[arg(long, default_value_t = 0.0)]
    prune: f32,
    /// The release that the devices have: what travels is the difference from it
    #[arg(long)]
    base: Option<PathBuf>,
    /// A folder of JPEG or PNG pictures: the table says how far the release agrees with the model on them
    #[arg(long)]
    frames: Option<PathBuf>,
    /// Take at most this many of them, at even distances
    #[arg(long, default_value_t = 512)]
    frames_max: usize,
    /// A configuration file whose [detector] says how to read the model
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Compresses by each of the settings, and prints a row for each.
pub(super) fn run(asked: &Compress, print: impl Fn(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    if !(0.0..=1.0).contains(&asked.prune) || asked.step.iter().any(|step| !(*step > 0.0 && *step <= 10.0)) {
        return Err(Failure::new(Exit::Config, "--prune is 0 to 1, and --step is above 0 and at most 10; change them"));
    }
    let base = asked.base.as_deref().map(|base| bounded(base, MODEL_BYTES_MAX)).transpose()?;
    let is_head = asked.model.ends_with(".f32");
    let config = detect::Config { model: asked.model.clone(), ..Config::detector(asked.config.as_deref())? };
    let (bytes, head) = if is_head {
        (bounded(asked.model.as_ref(), MODEL_BYTES_MAX)?.into(), None)
    } else {
        check(&config)?;
        bytes_and_head(&config)?
    };
    print(&format!(
        "{:<16} {:>10} {:>8} {:>8} {:>8} {:>8} {:>10} {:>8}",
        "", "bytes", "x file", "x f32", "SNR, dB", "zeros, %", "agreement", "AP@0.5"
    ))?;
    for (name, method) in methods(asked) {
        let settings = Settings { method, prune: asked.prune };
        let made = if is_head { compress::head } else { compress::model };
        let made = made(&bytes, base.as_deref(), settings)
            .map_err(|what| Failure::new(Exit::Data, format!("{} {what}", asked.model)))?;
        let travels = asked.out.with_extension(if base.is_some() { "delta" } else { "deep" });
        write_whole(&asked.out, &made.file)?;
        write_whole(&travels, &made.packed)?;
        if !is_head {
            onnx::scan(&made.file).map_err(|e| Failure::new(Exit::Software, format!("the compressed model {e}")))?;
        }
        if let Some(head) = &head {
            let numbers: Vec<u8> = head.iter().flat_map(|number| number.to_le_bytes()).collect();
            write_whole(&asked.out.with_extension("head.f32"), &numbers)?;
        }
        let seen = match asked.frames.as_deref().filter(|_| !is_head) {
            Some(frames) => {
                let out = asked.out.to_string_lossy();
                Some(precision::compare(&config, &asked.model, &out, frames, asked.frames_max)?)
            }
            None => None,
        };
        print(&row(&name, bytes.len(), &made, seen.as_ref()))?;
    }
    print(
        "x f32: against the same file with all weights in 32 bits; agreement and AP: against the model it is made from",
    )
}

fn methods(asked: &Compress) -> Vec<(String, Method)> {
    if asked.int8 {
        return vec![("int8".into(), Method::Int8)];
    }
    if asked.clusters.is_empty() {
        return asked.step.iter().map(|step| (format!("step {step}"), Method::Grid(*step))).collect();
    }
    asked.clusters.iter().map(|count| (format!("clusters {count}"), Method::Clusters(*count))).collect()
}

fn row(name: &str, bytes: usize, made: &Compressed, seen: Option<&Comparison>) -> String {
    let travels = made.packed.len() as f64;
    // Weights in 16 bits would take two bytes more each.
    let wide = (bytes + made.halves * 2) as f64;
    let shown = |figure: Option<f64>| figure.map_or("-".into(), |figure| format!("{figure:.3}"));
    let zeros = 100.0 * made.zeros as f64 / made.weights.max(1) as f64;
    format!(
        "{name:<16} {:>10} {:>8.2} {:>8.2} {:>8.1} {zeros:>8.1} {:>10} {:>8}",
        made.packed.len(),
        bytes as f64 / travels,
        wide / travels,
        made.snr_db,
        shown(seen.map(|seen| seen.agreement.agreement)),
        shown(seen.map(|seen| seen.agreement.ap50)),
    )
}
