//! SSD (Liu et al., "SSD: Single Shot MultiBox Detector", 2016) as TensorFlow's Object Detection API freezes it: several
//! levels, each with a convolution for boxes and one for classes, and anchors of its own for each cell.
//!
//! The graph's own preparation of the picture and its suppression are left out: what they do is read off their constants.

use super::convert::{Picture, Value};
use super::tensorflow::{Graph, Node};
use super::{CANDIDATES, Converter, ImportError, Imported, Options, planes, said};
use crate::graph::build::{Builder, file, int, ints};
use crate::graph::candidates::{Level, best, ports};
use crate::graph::passes::{prune, store_halves};

/// The side of the picture; its anchors are parts of it, and the levels' sizes follow from it.
const SIDE: usize = 300;
/// Levels that are looked for.
const LEVELS_MAX: usize = 16;
/// The class of people, behind the background.
const PERSON: usize = 1;
/// What the box coder multiplied positions and sizes by: the API's `faster_rcnn_box_coder`.
const SCALE_XY: f32 = 10.0;
const SCALE_WH: f32 = 5.0;

/// Where the levels are.
pub(super) struct Ssd {
    levels: Vec<Found>,
}

/// One level: the values of boxes and classes, what the class convolution reads, and its anchors' widths and heights.
struct Found {
    boxes: String,
    classes: String,
    features: String,
    anchors: Vec<(f32, f32)>,
}

/// Finds them by the names that the API gives.
pub(super) fn find(graph: &Graph) -> Option<Ssd> {
    let named = |name: &str| graph.maker(name).map(|node| node.name.clone());
    let levels = (0..LEVELS_MAX).map_while(|at| {
        let classes = named(&format!("BoxPredictor_{at}/ClassPredictor/BiasAdd"))?;
        let conv = graph.maker(graph.maker(&classes)?.inputs.first()?)?;
        Some(Found {
            boxes: named(&format!("BoxPredictor_{at}/BoxEncodingPredictor/BiasAdd"))?,
            features: conv.inputs.first()?.clone(),
            anchors: anchors(graph, at).unwrap_or_default(),
            classes,
        })
    });
    let levels: Vec<_> = levels.collect();
    (!levels.is_empty()).then_some(Ssd { levels })
}

/// Widths and heights of a level's anchors: scales times and by the square roots of their ratios.
fn anchors(graph: &Graph, level: usize) -> Option<Vec<(f32, f32)>> {
    let root = match level {
        0 => "MultipleGridAnchorGenerator/Sqrt".to_owned(),
        _ => format!("MultipleGridAnchorGenerator/Sqrt_{level}"),
    };
    let ratios = &graph.constant(graph.maker(&root)?.inputs.first()?)?.data;
    let beside =
        |node: &Node| node.inputs.iter().find_map(|name| graph.constant(name)).filter(|_| node.inputs.contains(&root));
    let scales = &graph.nodes.iter().filter(|node| node.op == "Mul").find_map(beside)?.data;
    let size = |(scale, ratio): (&f32, &f32)| (scale * ratio.sqrt(), scale / ratio.sqrt());
    (scales.len() == ratios.len()).then(|| scales.iter().zip(ratios).map(size).collect())
}

impl Ssd {
    pub(super) fn import(self, graph: &Graph, options: &Options) -> Result<Imported, ImportError> {
        if options.input.is_some_and(|asked| asked != (SIDE, SIDE)) {
            return Err(ImportError::new(format!(
                "takes pictures of {SIDE}x{SIDE} and no others; leave `--input` out"
            )));
        }
        let mut out = Builder::default();
        let picture = prepared(graph, &mut out)?;
        let picture = Picture { name: picture, planar: false, size: (SIDE, SIDE), made_for: (SIDE, SIDE) };
        let mut converter = Converter::new(graph, out, "Preprocessor/sub", picture);
        let mut levels = Vec::new();
        for found in &self.levels {
            let (boxes, classes) = (converter.value(&found.boxes)?, converter.value(&found.classes)?);
            let features = converter.value(&found.features)?;
            let head = converter.conv_of(&classes);
            levels.push((found, boxes, classes, features, head));
        }
        let mut out = converter.out;
        let (mut encodings, mut logits, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        let mut places: [Vec<f32>; 4] = Default::default();
        for (found, boxes, classes, features, head) in levels {
            let each = found.anchors.len();
            let kinds = classes.channels.checked_div(each).unwrap_or(0);
            let fits = boxes.channels == 4 * each && classes.channels == kinds * each && kinds > PERSON;
            if !fits || boxes.size != features.size || classes.size != features.size {
                return Err(ImportError::new("has anchors that do not fit its box predictors"));
            }
            // Of each anchor's classes only people are computed.
            let only = |numbers: &mut Vec<f32>| {
                let row = numbers.len() / classes.channels;
                let kept = (0..each).flat_map(|anchor| &numbers[(anchor * kinds + PERSON) * row..][..row]);
                *numbers = kept.copied().collect();
            };
            let (weights, bias) =
                head.ok_or_else(|| ImportError::new("has a class predictor that is no convolution"))?;
            for name in [Some(weights), bias].into_iter().flatten() {
                out.floats_mut(&name).map(only);
                if let Some(constant) = out.constants.iter_mut().find(|constant| constant.name == name) {
                    constant.dims[0] = each;
                }
            }
            let cells = features.size.0 * features.size.1;
            let rows = |out: &mut Builder, value: &Value, shape: &[i64]| {
                let last = out.node("last", "Transpose", &[&value.name], vec![ints("perm", &[0, 2, 3, 1])]);
                let shape = out.integers("w", &[shape.len()], shape);
                out.node("row", "Reshape", &[&last, &shape], vec![])
            };
            encodings.push(rows(&mut out, &boxes, &[-1, 4]));
            logits.push(rows(&mut out, &classes, &[-1]));
            for cell in 0..cells {
                let (row, column) = (cell / features.size.1, cell % features.size.1);
                for (width, height) in &found.anchors {
                    places[0].push((column as f32 + 0.5) / features.size.1 as f32);
                    places[1].push((row as f32 + 0.5) / features.size.0 as f32);
                    places[2].push(*width);
                    places[3].push(*height);
                }
            }
            parts.push(Level { features: features.name, channels: features.channels, cells, each });
        }
        let joined = |out: &mut Builder, names: &[String]| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            out.node("all", "Concat", &names, vec![int("axis", 0)])
        };
        let (encodings, logits) = (joined(&mut out, &encodings), joined(&mut out, &logits));
        let boxes = decoded(&mut out, &encodings, &places);
        let (channels, count) = best(&mut out, &parts, &boxes, &logits, CANDIDATES);
        prune(&mut out, &["boxes", "scores", "index", "features"]);
        store_halves(&mut out);
        let (inputs, outputs) = ports(SIDE, SIDE, channels, count);
        let onnx = file(&out, "ssd_topk", inputs, outputs, &said(SIDE, SIDE, "inside"));
        Ok(Imported { family: "SSD", onnx, head: vec![0.0; channels + 1] })
    }
}

/// The picture as the graph's preparation makes it, by its two constants.
fn prepared(graph: &Graph, out: &mut Builder) -> Result<String, ImportError> {
    let number = |name: &str, at: usize| -> Option<f32> {
        let tensor = graph.constant(graph.maker(name)?.inputs.get(at)?)?;
        (tensor.data.len() == 1).then(|| tensor.data[0])
    };
    let found = number("Preprocessor/mul", 0).zip(number("Preprocessor/sub", 1));
    let (scale, shift) = found.ok_or_else(|| ImportError::new("prepares its picture in a way that is not known"))?;
    let planes = planes(out);
    let scale = out.floats("c", &[1], vec![scale]);
    let shift = out.floats("c", &[1], vec![shift]);
    let scaled = out.node("mul", "Mul", &[&planes, &scale], vec![]);
    Ok(out.node("sub", "Sub", &[&scaled, &shift], vec![]))
}

/// Corners [4, A] of encodings [A, 4] (y, x, height, width) by the anchors' x, y, widths and heights.
fn decoded(out: &mut Builder, encodings: &str, places: &[Vec<f32>; 4]) -> String {
    let anchors = places[0].len();
    let turned = out.node("bt", "Transpose", &[encodings], vec![ints("perm", &[1, 0])]);
    let pick = |out: &mut Builder, rows: [i64; 2]| {
        let rows = out.integers("w", &[2], &rows);
        out.node("bp", "Gather", &[&turned, &rows], vec![int("axis", 0)])
    };
    let pair = |out: &mut Builder, from: usize, factor: f32| {
        let numbers = places[from].iter().chain(&places[from + 1]).map(|number| number * factor).collect();
        out.floats("anchor", &[2, anchors], numbers)
    };
    let (moved, grown) = (pick(out, [1, 0]), pick(out, [3, 2]));
    let (reach, middle) = (pair(out, 2, 1.0 / SCALE_XY), pair(out, 0, 1.0));
    let moved = out.node("bm", "Mul", &[&moved, &reach], vec![]);
    let middle = out.node("bc", "Add", &[&moved, &middle], vec![]);
    let fifth = out.floats("c", &[1], vec![1.0 / SCALE_WH]);
    let grown = out.node("bs", "Mul", &[&grown, &fifth], vec![]);
    let grown = out.node("be", "Exp", &[&grown], vec![]);
    let half = pair(out, 2, 0.5);
    let half = out.node("bh", "Mul", &[&grown, &half], vec![]);
    let low = out.node("bl", "Sub", &[&middle, &half], vec![]);
    let high = out.node("bu", "Add", &[&middle, &half], vec![]);
    out.node("bx", "Concat", &[&low, &high], vec![int("axis", 0)])
}
