//! What a model file is, what it needs, and why it would be refused: as much of it as can be known of any file.

use std::fmt;

use picket_shared::event::Precision;
use picket_shared::exit::Failure;
use serde::Serialize;

use super::layout::{Family, Input, Signature};
use super::library;
use super::model::{self, ModelFile};
use super::provider::Refusal;
use super::session::Builder;
use super::{Config, Detector};

/// Everything that was seen. What a refusal cut off is absent.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// The file as it was named.
    pub file: String,
    /// Its length.
    pub bytes: usize,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// What the file says of itself.
    pub graph: Option<Graph>,
    /// What it takes and gives.
    pub signature: Option<Signature>,
    /// How it is read, and where it runs.
    pub reading: Option<Reading>,
    /// Why it would not be activated, in a sentence.
    pub refused: Option<String>,
    /// The refusal with its exit code.
    #[serde(skip)]
    pub failure: Option<Failure>,
}

/// What the file says of itself.
#[derive(Debug, Clone, Serialize)]
pub struct Graph {
    /// The version of the file's format.
    pub ir_version: u64,
    /// The versions of the operator sets, by domain.
    pub opsets: Vec<(String, u64)>,
    /// The program that wrote it.
    pub producer: String,
    /// Nodes of all graphs.
    pub nodes: usize,
    /// What its numbers are computed in.
    pub precision: Precision,
}

/// How a model is read, and where it runs.
#[derive(Debug, Clone, Serialize)]
pub struct Reading {
    /// The family, as the configuration calls it.
    pub family: Family,
    /// The family's form.
    pub layout: &'static str,
    /// The classes that its outputs have.
    pub classes: String,
    /// The number of the person's class.
    pub person_class: usize,
    /// The names of the first classes, where names are known.
    pub labels: Vec<String>,
    /// How the picture goes in.
    pub input: Input,
    /// Weights of the class head that it takes from outside.
    pub head_weights: Option<usize>,
    /// Whether doubles are suppressed outside the model.
    pub suppresses: bool,
    /// The provider in effect on this machine.
    pub provider: String,
    /// Providers that were configured before it, with the reason.
    pub passed_over: std::collections::BTreeMap<String, String>,
}

/// Ports that are listed.
const PORTS_SHOWN_MAX: usize = 16;
/// Names that are listed.
const LABELS_SHOWN_MAX: usize = 10;

/// Inspects the configured model. An error is a file that cannot be read; whatever else is wrong is in the inspection.
pub fn inspect(config: &Config) -> Result<Inspection, Failure> {
    let file = model::file(config)?;
    let mut seen = Inspection {
        file: config.model.clone(),
        bytes: file.bytes.len(),
        sha256: file.sha256.clone(),
        graph: None,
        signature: None,
        reading: None,
        refused: None,
        failure: None,
    };
    if let Err(failure) = look(config, file, &mut seen) {
        seen.refused = Some(failure.sentence.clone());
        seen.failure = Some(failure);
    }
    Ok(seen)
}

fn look(config: &Config, file: ModelFile, seen: &mut Inspection) -> Result<(), Failure> {
    let model = model::read(config, file)?;
    let scan = &model.scan;
    seen.graph = Some(Graph {
        ir_version: scan.ir_version,
        opsets: scan.opsets.clone(),
        producer: scan.producer.clone(),
        nodes: scan.nodes,
        precision: scan.precision,
    });
    // First without any provider: what the model shows does not depend on one.
    let builder = Builder::open(&library::find(config.library.as_deref())?, config.threads)?;
    let built = builder.build(&model.name, &model.bytes, &[], || Err("is not asked for".into()));
    let session = built.map_err(|refusal| match refusal {
        Refusal::Fatal(failure) | Refusal::Session { last: failure, .. } => failure,
        Refusal::Registering(..) => unreachable!("no provider was given"),
    })?;
    seen.signature = Some(session.signature());
    drop(session);
    let detector = Detector::build(config, &model)?;
    let layout = &detector.layout;
    seen.reading = Some(Reading {
        family: layout.family(),
        layout: layout.name(),
        classes: layout.numbering().to_string(),
        person_class: layout.person,
        labels: layout
            .labels()
            .iter()
            .flat_map(|names| names.list())
            .map(|(_, name)| name.into())
            .take(LABELS_SHOWN_MAX)
            .collect(),
        input: layout.input.clone(),
        head_weights: layout.head(),
        suppresses: layout.suppresses(),
        provider: detector.twin.provider.clone(),
        passed_over: detector.twin.passed_over.clone(),
    });
    Ok(())
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: String| writeln!(f, "{name:<12} {value}");
        line("file", format!("{}, {} bytes", self.file, self.bytes))?;
        line("sha256", self.sha256.clone())?;
        if let Some(graph) = &self.graph {
            let domain = |domain: &str| if domain.is_empty() { "ai.onnx".to_owned() } else { domain.to_owned() };
            let opsets: Vec<_> = graph.opsets.iter().map(|(of, version)| format!("{} {version}", domain(of))).collect();
            line(
                "format",
                format!(
                    "ONNX, IR version {}, opset {}, {} nodes, by {}",
                    graph.ir_version,
                    opsets.join(", "),
                    graph.nodes,
                    graph.producer
                ),
            )?;
            line("precision", format!("{:?}", graph.precision).to_lowercase())?;
        }
        if let Some(signature) = &self.signature {
            for (name, ports) in [("input", &signature.inputs), ("output", &signature.outputs)] {
                for port in ports.iter().take(PORTS_SHOWN_MAX) {
                    line(name, port.to_string())?;
                }
            }
        }
        if let Some(reading) = &self.reading {
            let Input { width, height, planar, element, scaling, .. } = &reading.input;
            line("layout", format!("{} (family {})", reading.layout, reading.family))?;
            let named =
                if reading.labels.is_empty() { String::new() } else { format!(": {}", reading.labels.join(", ")) };
            line("classes", format!("{}, the person is number {}{named}", reading.classes, reading.person_class))?;
            let order = if *planar { "channel by channel" } else { "pixel by pixel" };
            let colors = scaling.colors;
            let scaling = format!("(byte - {:?}) / {:?}", scaling.mean, scaling.std);
            line("needs", format!("a picture of {width} x {height} as {element}, {colors:?}, {order}, {scaling}"))?;
            if let Some(weights) = reading.head_weights {
                line("needs", format!("a head of {weights} weights and a bias"))?;
            }
            line("runs on", reading.provider.clone())?;
            for (name, why) in &reading.passed_over {
                line("not on", format!("{name}: {why}"))?;
            }
        }
        line("verdict", self.refused.as_ref().map_or("would be taken".into(), |why| format!("refused: {why}")))
    }
}
