//! `picket-agent model expose`: gives a YOLOv8, v9 or 11 the form of the default detector, so that its head can be learned:
//! RGB bytes in, the best candidates out with what the class head saw of them, and a head as inputs, which is zero at first.
//!
//! Its class head is the last convolution of each level, which `graph::candidates` adds to. Other families are left
//! alone. YOLOX and YOLOv5 multiply two sigmoids, so there is no one logit to add to. SSD as ONNX mostly ends in its own
//! suppression, behind which no candidate knows its cell; `model import` does it from the frozen graph. End-to-end models and
//! transformers choose among classes inside. Pure.

use std::collections::{HashMap, HashSet};

use prost::Message;

use crate::graph::build::{Builder, entries, int};
use crate::graph::candidates::{Level, best, ports};
use crate::graph::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, element};
use crate::import::{planes, said};

/// Candidates that the model gives for each picture.
const CANDIDATES: usize = 100;
/// One cell of each level stands for so many pixels a side.
const STRIDES: [usize; 3] = [8, 16, 32];
/// The gray around a frame that such models were trained with.
const MARGIN: u8 = 114;
/// The oldest operators that the new part can stand beside.
const OPSET_MIN: i64 = 11;
/// Where names of the new part begin to count, beyond what exporters number.
const NAMES_FROM: usize = 1_000_000;

/// What was made.
#[derive(Debug)]
pub struct Exposed {
    /// The ONNX file.
    pub onnx: Vec<u8>,
    /// The factory values of its head: weights, then the bias.
    pub head: Vec<f32>,
}

/// Makes it. `person` is the number of the class. The error is the end of a sentence that begins with the model's name.
pub fn expose(bytes: &[u8], person: usize) -> Result<Exposed, String> {
    let mut model = ModelProto::decode(bytes).map_err(|e| format!("is no ONNX file that can be read ({e})"))?;
    let opset = model.opset_import.iter().find(|set| set.domain.as_deref().unwrap_or("").is_empty());
    if opset.and_then(|set| set.version).is_none_or(|version| version < OPSET_MIN) {
        return Err(format!("has operators older than version {OPSET_MIN}; export it with a newer opset"));
    }
    let mut graph = model.graph.take().ok_or("has no graph; export it anew")?;
    let found = Found::of(&graph, person)?;
    let mut before = Builder { count: NAMES_FROM, ..Builder::default() };
    let planes = planes(&mut before);
    let part = before.floats("c", &[1], vec![1.0 / 255.0]);
    before.named(&found.input, "Mul", &[&planes, &part], vec![]);
    let mut after = Builder { count: before.count, ..Builder::default() };
    let boxes = corners(&mut after, &found);
    let shape = after.integers("w", &[2], &[found.classes as i64, -1]);
    let rows = after.node("lr", "Reshape", &[&found.logits, &shape], vec![]);
    let row = after.integers("w", &[], &[person as i64]);
    let logits = after.node("lp", "Gather", &[&rows, &row], vec![int("axis", 0)]);
    let (channels, count) = best(&mut after, &found.levels, &boxes, &logits, CANDIDATES);
    let mut taken =
        graph.node.iter().flat_map(|node| &node.output).chain(graph.initializer.iter().filter_map(|t| t.name.as_ref()));
    let made: HashSet<&String> = before.nodes.iter().chain(&after.nodes).flat_map(|node| &node.output).collect();
    if let Some(name) = taken.find(|name| made.contains(name) || ["image", "cls_w", "cls_b"].contains(&name.as_str())) {
        return Err(format!("calls something {name}, which the new part needs; rename it"));
    }
    (graph.input, graph.output) = ports(found.width, found.height, channels, count);
    let nodes = std::mem::take(&mut graph.node);
    graph.node = needed(before.nodes.into_iter().chain(nodes).chain(after.nodes), &graph.output);
    graph.initializer.extend(before.constants.iter().chain(&after.constants).map(TensorProto::from));
    let read: HashSet<&str> = graph.node.iter().flat_map(|node| &node.input).map(String::as_str).collect();
    graph.initializer.retain(|tensor| tensor.name.as_deref().is_some_and(|name| read.contains(name)));
    graph.value_info.clear();
    // What its maker wrote of eighty classes is true no more; its gray margin is.
    model.metadata_props = entries(&said(found.width, found.height, "inside"));
    model.metadata_props.extend(entries(&[("margin", MARGIN.to_string())]));
    model.graph = Some(graph);
    Ok(Exposed { onnx: model.encode_to_vec(), head: vec![0.0; channels + 1] })
}

/// Where everything is.
struct Found {
    input: String,
    width: usize,
    height: usize,
    /// [1, 4, A]: centers and sizes in pixels.
    boxes: String,
    /// [1, classes, A].
    logits: String,
    classes: usize,
    levels: Vec<Level>,
}

impl Found {
    fn of(graph: &GraphProto, person: usize) -> Result<Found, String> {
        let other = "is no YOLOv8, v9 or 11 as it is exported; only their class heads can be exposed";
        let constants: HashSet<_> = graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref()).collect();
        let inputs: Vec<_> = graph
            .input
            .iter()
            .filter(|port| !port.name.as_deref().is_some_and(|name| constants.contains(name)))
            .collect();
        let ([input], [output]) = (inputs.as_slice(), graph.output.as_slice()) else { return Err(other.into()) };
        let ((kind, picture), (_, candidates)) = (port(input)?, port(output)?);
        let (element::FLOAT, [1, 3, height, width], [1, rows, cells]) =
            (kind, picture.as_slice(), candidates.as_slice())
        else {
            return Err(other.into());
        };
        let (height, width) = (*height as usize, *width as usize);
        let (classes, cells) = (rows.saturating_sub(4) as usize, *cells as usize);
        let levels = STRIDES.map(|stride| (height / stride) * (width / stride));
        if person >= classes || levels.iter().sum::<usize>() != cells {
            return Err(other.into());
        }
        let makers: HashMap<&str, &NodeProto> =
            graph.node.iter().flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node))).collect();
        let maker = |name: &str, op: &str| makers.get(name).copied().filter(|node| node.is(op));
        let joined = maker(output.name.as_deref().unwrap_or_default(), "Concat").ok_or(other)?;
        let [boxes, scores] = joined.input.as_slice() else { return Err(other.into()) };
        let logits = maker(scores, "Sigmoid").and_then(|sigmoid| sigmoid.input.first()).ok_or(other)?;
        let dims: HashMap<&str, &[i64]> =
            graph.initializer.iter().filter_map(|t| Some((t.name.as_deref()?, t.dims.as_slice()))).collect();
        // Back through what only moves numbers, in the order in which they are joined.
        let (mut stack, mut convs, mut seen) = (vec![logits.as_str()], Vec::new(), HashSet::new());
        while let Some(name) = stack.pop() {
            let Some(node) = makers.get(name).filter(|_| seen.insert(name)) else { continue };
            match node.op_type.as_deref() {
                Some("Concat") => stack.extend(node.input.iter().rev().map(String::as_str)),
                Some("Split" | "Slice" | "Reshape" | "Transpose" | "Identity") => {
                    stack.extend(node.input.first().map(String::as_str))
                }
                Some("Conv") => convs.push(*node),
                _ => {}
            }
        }
        let class_heads = convs.iter().filter_map(|conv| {
            let [outputs, channels, 1, 1] = dims.get(conv.input.get(1)?.as_str())? else { return None };
            (*outputs as usize == classes).then(|| (conv.input[0].clone(), *channels as usize))
        });
        let heads: Vec<_> = class_heads.collect();
        if heads.len() != STRIDES.len() {
            return Err(format!(
                "has {} class convolutions where {} levels should be; {other}",
                heads.len(),
                STRIDES.len()
            ));
        }
        let level = |((features, channels), cells)| Level { features, channels, cells, each: 1 };
        let levels = heads.into_iter().zip(levels).map(level).collect();
        let input = input.name.clone().unwrap_or_default();
        Ok(Found { input, width, height, boxes: boxes.clone(), logits: logits.clone(), classes, levels })
    }
}

/// Element type and sides of an input or output; each side is known.
fn port(port: &ValueInfoProto) -> Result<(i32, Vec<i64>), String> {
    let name = port.name.as_deref().unwrap_or_default();
    let tensor = port.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let sides = tensor.and_then(|tensor| tensor.shape.as_ref()).map(|shape| shape.dim.iter().map(|dim| dim.dim_value));
    let sides: Option<Vec<i64>> = sides.and_then(|sides| sides.collect());
    let kind = tensor.and_then(|tensor| tensor.elem_type);
    let (kind, sides) =
        kind.zip(sides).ok_or_else(|| format!("leaves sides of {name} open; export it with a fixed size"))?;
    Ok((kind, sides))
}

/// Corners [4, A] as parts of the picture.
fn corners(out: &mut Builder, found: &Found) -> String {
    let shape = out.integers("w", &[2], &[4, -1]);
    let rows = out.node("br", "Reshape", &[&found.boxes, &shape], vec![]);
    let pick = |out: &mut Builder, rows_of: [i64; 2]| {
        let at = out.integers("w", &[2], &rows_of);
        out.node("bp", "Gather", &[&rows, &at], vec![int("axis", 0)])
    };
    let (middle, size) = (pick(out, [0, 1]), pick(out, [2, 3]));
    let half = out.floats("c", &[1], vec![0.5]);
    let half = out.node("bh", "Mul", &[&size, &half], vec![]);
    let low = out.node("bl", "Sub", &[&middle, &half], vec![]);
    let high = out.node("bu", "Add", &[&middle, &half], vec![]);
    let pixels = out.node("bc", "Concat", &[&low, &high], vec![int("axis", 0)]);
    let (width, height) = (1.0 / found.width as f32, 1.0 / found.height as f32);
    let part = out.floats("c", &[4, 1], vec![width, height, width, height]);
    out.node("bx", "Mul", &[&pixels, &part], vec![])
}

/// The nodes that the outputs need.
fn needed(nodes: impl Iterator<Item = NodeProto>, outputs: &[ValueInfoProto]) -> Vec<NodeProto> {
    let mut wanted: HashSet<String> = outputs.iter().filter_map(|port| port.name.clone()).collect();
    let nodes: Vec<NodeProto> = nodes.collect();
    let mut kept: Vec<NodeProto> = Vec::new();
    for node in nodes.into_iter().rev() {
        if node.output.iter().any(|name| wanted.contains(name)) {
            wanted.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &[u8] = include_bytes!("../tests/import/yolov8.onnx");

    fn margin_of(onnx: &[u8]) -> Option<String> {
        let said = ModelProto::decode(onnx).ok()?.metadata_props;
        said.into_iter().find(|entry| entry.key.as_deref() == Some("margin"))?.value
    }

    #[test]
    fn the_head_of_each_level_is_found_and_the_form_is_the_default_models() {
        let made = expose(SMALL, 0).unwrap();
        assert_eq!(made.head.len(), 6, "five channels and a bias");
        assert_eq!(margin_of(&made.onnx).as_deref(), Some("114"), "gray, as it was trained");
        crate::detect::onnx::scan(&made.onnx).unwrap();
        let graph = ModelProto::decode(made.onnx.as_slice()).unwrap().graph.unwrap();
        let names = |ports: &[ValueInfoProto]| ports.iter().filter_map(|port| port.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&graph.input), ["image", "cls_w", "cls_b"]);
        assert_eq!(names(&graph.output), ["boxes", "scores", "index", "features"]);
        assert!(
            !graph.node.iter().any(|node| node.output.contains(&"output0".to_owned())),
            "what nobody reads is gone"
        );
    }

    #[test]
    fn what_has_another_end_is_left_alone() {
        let changed = |change: &dyn Fn(&mut ModelProto)| {
            let mut model = ModelProto::decode(SMALL).unwrap();
            change(&mut model);
            expose(&model.encode_to_vec(), 0).map(|made| made.head).unwrap_err()
        };
        fn node<'a>(model: &'a mut ModelProto, output: &str) -> &'a mut NodeProto {
            let nodes = &mut model.graph.as_mut().unwrap().node;
            nodes.iter_mut().find(|node| node.output[0] == output).unwrap()
        }
        for (expect, said) in [
            ("no YOLOv8", expose(crate::detect::BUILTIN, 0).map(|made| made.head).unwrap_err()),
            ("no YOLOv8", expose(SMALL, 3).map(|made| made.head).unwrap_err()),
            ("no ONNX file", expose(b"name: picket", 0).map(|made| made.head).unwrap_err()),
            ("older than version", changed(&|model| model.opset_import[0].version = Some(10))),
            ("no YOLOv8", changed(&|model| node(model, "likely").op_type = Some("HardSigmoid".into()))),
            ("2 class convolutions", changed(&|model| node(model, "cls1").op_type = Some("ConvInteger".into()))),
            ("which the new part needs", changed(&|model| node(model, "stem.relu").output.push("cls_w".into()))),
        ] {
            assert!(said.contains(expect), "{said:?} has no {expect:?}");
        }
    }
}
