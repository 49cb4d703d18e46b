//! `picket-agent model …`: looks into models, compares them, makes smaller ones.
//!
//! Prints what [`crate::detect`] says of them; decides nothing.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use picket_shared::exit::{Exit, Failure};
use serde::Serialize;

use crate::config::Config;
use crate::detect::precision::Comparison;
use crate::detect::{self, inspect, precision, quantize};
use crate::model::record::{Phase, Place, Release};
use crate::model::shelf::Shelf;
use crate::model::trial::candidate;

/// What to do with models.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what a model is, what it needs, and whether and why it would be refused
    Inspect(Inspect),
    /// Compare two models on a folder of frames; fails where the second would not be activated beside the first
    Compare(Compare),
    /// Make a smaller and faster INT8 model from a folder of this station's frames
    Quantize(Quantize),
    /// Say which model this device runs, which it may run next, and why not
    Status(Status),
    /// What the agent starts to try a model by itself
    #[command(hide = true)]
    Try,
}

/// `model inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// An ONNX file, or "builtin"
    model: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// A configuration file whose [detector] says how to read it
    #[arg(long)]
    config: Option<PathBuf>,
}

/// `model compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// The reference: an ONNX file, or "builtin"
    reference: String,
    /// The model that is to agree with it
    model: String,
    /// A folder of JPEG or PNG pictures
    #[arg(long)]
    frames: PathBuf,
    /// Take at most this many of them, at even distances
    #[arg(long, default_value_t = 512)]
    frames_max: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// A configuration file with a [detector]; what it says of its own model holds for that one
    #[arg(long)]
    config: Option<PathBuf>,
}

/// `model quantize`.
#[derive(Debug, Args)]
pub struct Quantize {
    /// An ONNX file, or "builtin"
    model: String,
    /// A folder of JPEG or PNG pictures of this station
    #[arg(long)]
    frames: PathBuf,
    /// Where the new model goes
    #[arg(long)]
    out: PathBuf,
    /// A configuration file whose [detector] says how to read the model
    #[arg(long)]
    config: Option<PathBuf>,
}

/// `model status`.
#[derive(Debug, Args)]
pub struct Status {
    /// The configuration file of the agent
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where it remembers
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Carries it out.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Inspect(asked) => {
            let config = detect::Config { model: asked.model, ..Config::detector(asked.config.as_deref())? };
            check(&config)?;
            let seen = inspect::inspect(&config)?;
            let text = if asked.json { json(&seen)? } else { seen.to_string() };
            print(text.trim_end())?;
            seen.failure.map_or(Ok(()), Err)
        }
        Command::Compare(asked) => {
            let config = Config::detector(asked.config.as_deref())?;
            check(&config)?;
            let Compare { reference, model, frames, frames_max, .. } = &asked;
            let seen = precision::compare(&config, reference, model, frames, *frames_max)?;
            print(&if asked.json { json(&seen)? } else { table(&asked, &seen) })?;
            seen.refused.map_or(Ok(()), |refused| Err(Failure::new(Exit::Data, refused)))
        }
        Command::Status(asked) => status(&asked),
        Command::Try => candidate::run(),
        Command::Quantize(asked) => {
            let config = detect::Config { model: asked.model, ..Config::detector(asked.config.as_deref())? };
            check(&config)?;
            let made = quantize::quantize(&config, &asked.frames, &asked.out)?;
            let (out, source, frames) = (asked.out.display(), &config.model, asked.frames.display());
            let head = made.head.map_or(String::new(), |head| format!(", its head {}", head.display()));
            print(&format!(
                "{out}: {} bytes, of {} before, by {} frames{head}\nnow see whether it can be used: picket-agent model \
                 compare {source} {out} --frames {frames}",
                made.bytes, made.bytes_before, made.frames
            ))
        }
    }
}

/// What is durable on the device; an agent that runs may be further.
fn status(asked: &Status) -> Result<(), Failure> {
    let data_dir = Config::data_dir_of(asked.config.as_deref(), asked.data_dir.clone())?;
    let shelf = Shelf::at(&data_dir);
    let disk = |sentence: String| Failure::new(Exit::Disk, sentence);
    let (record, trusted) = (shelf.record().map_err(disk)?, shelf.trusted().map_err(disk)?);
    if asked.json {
        return print(&json(&serde_json::json!({ "record": record, "trusted": trusted }))?);
    }
    let called = |place: Place| match (place, record.release(place)) {
        (Place::Slot(slot), Some(Release { manifest, .. })) => {
            format!(
                "{} release {} ({}, slot {})",
                manifest.name,
                manifest.counter,
                manifest.file.sha256.short(),
                slot.word()
            )
        }
        _ => "the configuration's own".to_owned(),
    };
    let mut lines = vec![format!("{:<12} {}", "runs", called(record.active))];
    for (slot, Release { manifest, .. }) in &record.slots {
        let (name, counter, digest) = (&manifest.name, manifest.counter, manifest.file.sha256.short());
        lines.push(format!("{:<12} {name} release {counter} ({digest})", format!("slot {}", slot.word())));
    }
    if let Some(work) = &record.work {
        let phase = match work.phase {
            Phase::Fetch => "being fetched",
            Phase::Trial => "on trial",
            Phase::Probation => "on probation",
        };
        let what = match &work.release {
            Some(Release { manifest, .. }) => format!("{} release {}", manifest.name, manifest.counter),
            None => "the configuration's own".to_owned(),
        };
        lines.push(format!("{:<12} {what}, {phase}, attempt {} of {}", "next", work.attempts, work.trial.attempts));
    }
    if let Some((word, what)) = record.last.as_ref().and_then(|last| last.why.as_ref()) {
        lines.push(format!("{:<12} {word}: {what}", "given up"));
    }
    match trusted {
        Some(trusted) => lines.push(format!(
            "{:<12} root {}, {} models known",
            "believes",
            trusted.root.version,
            trusted.counters.len()
        )),
        None => lines.push(format!("{:<12} nobody: no root is known; name one by root in [model]", "believes")),
    }
    print(&lines.join("\n"))
}

fn check(config: &detect::Config) -> Result<(), Failure> {
    config.check().map_err(|what| Failure::new(Exit::Config, format!("detector: {what}")))
}

fn table(asked: &Compare, seen: &Comparison) -> String {
    let seen_of = &seen.agreement;
    let row = |name: &str, a: String, b: String| format!("{name:<28} {a:>14} {b:>14}\n");
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let mut text = row("", seen.model_a.clone(), seen.model_b.clone());
    text += &row("session.run, ms", format!("{:.2}", seen.ms_a), format!("{:.2}", seen.ms_b));
    text += &row("boxes", seen_of.boxes_a.to_string(), seen_of.boxes_b.to_string());
    text += &row("of them found by the other", percent(seen_of.share_a), percent(seen_of.share_b));
    text += &format!("agreement {:.3}, AP@0.5 {:.3}, ", seen_of.agreement, seen_of.ap50);
    text += &format!(
        "counts differ by {:.2} a frame, {} frames of {}",
        seen_of.count_off_mean,
        seen_of.frames,
        asked.frames.display()
    );
    text
}

fn json(seen: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(seen).map_err(|e| Failure::new(Exit::Software, e.to_string()))
}

fn print(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Disk, format!("standard output cannot be written ({e}); check where it goes")))
        }
        _ => Ok(()),
    }
}
