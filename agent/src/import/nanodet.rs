//! NanoDet (RangiLyu, 2020): several levels, each with one convolution that gives a cell's classes and, for each side of its
//! box, how likely each of a few distances is (Li et al., "Generalized Focal Loss", 2020).

use super::convert::Picture;
use super::tensorflow::Graph;
use super::{CANDIDATES, Converter, ImportError, Imported, Options, picture, planes, said, side};
use crate::graph::build::{Builder, file, int, ints};
use crate::graph::candidates::{Level, best, ports};
use crate::graph::passes::{prune, store_halves};

/// What the picture is, where nothing else is said.
const PICTURE: (usize, usize) = (416, 416);
/// The coarsest level has one cell for so many pixels a side.
const STRIDE: usize = 32;
/// People among the classes of COCO.
const PERSON: usize = 0;
/// More than any such model has.
const CLASSES_MAX: usize = 10_000;
const DISTANCES_MAX: usize = 1_000;
/// Means and deviations of blue, green and red that it was trained with.
const MEAN_BGR: [f32; 3] = [103.53, 116.28, 123.675];
const DEVIATION_BGR: [f32; 3] = [57.375, 57.12, 58.395];

/// Where the levels are.
pub(super) struct NanoDet {
    input: String,
    planar: bool,
    made_for: (usize, usize),
    /// Classes of each cell, and the distances that each side chooses among.
    classes: usize,
    distances: usize,
    /// For each level what is split into classes and distances.
    joint: Vec<String>,
}

/// Finds them: what is split into classes and four sides.
pub(super) fn find(graph: &Graph) -> Option<NanoDet> {
    let placeholder = graph.nodes.iter().find(|node| node.op == "Placeholder")?;
    let (planar, made_for) = match placeholder.shape()? {
        [_, 3, height, width] => (true, (side(*height)?, side(*width)?)),
        [_, height, width, 3] => (false, (side(*height)?, side(*width)?)),
        _ => return None,
    };
    let mut sizes = None;
    let mut joint = Vec::new();
    for split in graph.nodes.iter().filter(|node| node.op == "SplitV") {
        let parts = &graph.constant(split.inputs.get(1)?)?.data;
        let &[classes, sides] = parts.as_slice() else { return None };
        let found = (classes as usize, sides as usize / 4);
        let few = (1..=CLASSES_MAX).contains(&found.0) && (2..=DISTANCES_MAX).contains(&found.1);
        if !few || !(sides as usize).is_multiple_of(4) || *sizes.get_or_insert(found) != found {
            return None;
        }
        joint.push(split.inputs.first()?.clone());
    }
    let (classes, distances) = sizes?;
    Some(NanoDet { input: placeholder.name.clone(), planar, made_for, classes, distances, joint })
}

impl NanoDet {
    pub(super) fn import(self, graph: &Graph, options: &Options) -> Result<Imported, ImportError> {
        let (width, height) = picture(options, PICTURE, STRIDE)?;
        let mut out = Builder::default();
        let name = prepared(&mut out);
        let picture = Picture { name, planar: self.planar, size: (height, width), made_for: self.made_for };
        let mut converter = Converter::new(graph, out, &self.input, picture);
        let mut joints = Vec::new();
        for joint in &self.joint {
            let value = converter.value(joint)?;
            let head = converter.conv_of(&value);
            joints.push((value, head));
        }
        // The finest first, as its decoder would have it.
        joints.sort_by_key(|(value, _)| std::cmp::Reverse(value.size));
        let mut out = converter.out;
        let (mut levels, mut logits, mut sides) = (Vec::new(), Vec::new(), Vec::new());
        let (mut corners, mut reach): ([Vec<f32>; 2], [Vec<f32>; 2]) = Default::default();
        for (value, head) in joints {
            let (rows, columns) = value.size;
            let rows_of = [PERSON..PERSON + 1, self.classes..self.classes + 4 * self.distances];
            let split = head.and_then(|(weights, bias)| split(&mut out, &value.name, &weights, &bias?, rows_of));
            let (features, channels, [score, distances]) =
                split.ok_or_else(|| ImportError::new("has a head that is no convolution of 1 by 1"))?;
            let flat = out.integers("w", &[1], &[-1]);
            logits.push(out.node("row", "Reshape", &[&score, &flat], vec![]));
            let shape = out.integers("w", &[3], &[4, self.distances as i64, -1]);
            let likely = out.node("df", "Reshape", &[&distances, &shape], vec![]);
            let likely = out.node("dl", "Softmax", &[&likely], vec![int("axis", 1)]);
            let numbers = (0..self.distances).map(|number| number as f32).collect();
            let numbers = out.floats("c", &[1, self.distances, 1], numbers);
            let weighed = out.node("dm", "Mul", &[&likely, &numbers], vec![]);
            let axis = out.integers("w", &[1], &[1]);
            sides.push(out.node("ds", "ReduceSum", &[&weighed, &axis], vec![int("keepdims", 0)]));
            for cell in 0..rows * columns {
                corners[0].push(((cell % columns) as f32 + 0.5) / columns as f32);
                corners[1].push(((cell / columns) as f32 + 0.5) / rows as f32);
                reach[0].push(1.0 / columns as f32);
                reach[1].push(1.0 / rows as f32);
            }
            levels.push(Level { features, channels, cells: rows * columns, each: 1 });
        }
        let joined = |out: &mut Builder, names: &[String], axis| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            out.node("all", "Concat", &names, vec![int("axis", axis)])
        };
        let (logits, sides) = (joined(&mut out, &logits, 0), joined(&mut out, &sides, 1));
        let both = |[x, y]: &[Vec<f32>; 2], sign: f32| -> Vec<f32> {
            let less = x.iter().chain(y).map(|number| sign * number);
            less.chain(x.iter().chain(y).copied()).collect()
        };
        let cells = corners[0].len();
        let reach = out.floats("reach", &[4, cells], both(&reach, -1.0));
        let corners = out.floats("corner", &[4, cells], both(&corners, 1.0));
        let sides = out.node("bd", "Mul", &[&sides, &reach], vec![]);
        let boxes = out.node("bx", "Add", &[&sides, &corners], vec![]);
        let (channels, count) = best(&mut out, &levels, &boxes, &logits, CANDIDATES);
        prune(&mut out, &["boxes", "scores", "index", "features"]);
        store_halves(&mut out);
        let (inputs, outputs) = ports(width, height, channels, count);
        let onnx = file(&out, "nanodet_topk", inputs, outputs, &said(width, height, "inside"));
        Ok(Imported { family: "NanoDet", onnx, head: vec![0.0; channels + 1] })
    }
}

/// The picture as it was trained with: blue first, each color by its mean and deviation.
fn prepared(out: &mut Builder) -> String {
    let planes = planes(out);
    let turned = out.integers("bgr", &[3], &[2, 1, 0]);
    let planes = out.node("turn", "Gather", &[&planes, &turned], vec![int("axis", 1)]);
    let mean = out.floats("mean", &[1, 3, 1, 1], MEAN_BGR.to_vec());
    let scale = out.floats("scale", &[1, 3, 1, 1], DEVIATION_BGR.map(|number| 1.0 / number).to_vec());
    let centered = out.node("sub", "Sub", &[&planes, &mean], vec![]);
    out.node("mul", "Mul", &[&centered, &scale], vec![])
}

/// Two convolutions in place of one: each with some of its rows. Says what they read, and how many channels that has.
fn split(
    out: &mut Builder,
    conv: &str,
    weights: &str,
    bias: &str,
    rows: [std::ops::Range<usize>; 2],
) -> Option<(String, usize, [String; 2])> {
    let features =
        out.nodes.iter().find(|node| node.is("Conv") && node.name.as_deref() == Some(conv))?.input[0].clone();
    let bias = out.floats_mut(bias)?.clone();
    let weights = out.floats_mut(weights)?.clone();
    let channels = weights.len().checked_div(bias.len())?;
    let parts = rows.map(|rows| {
        let (some, of) = (weights.get(rows.start * channels..rows.end * channels)?, bias.get(rows.clone())?);
        let weights = out.floats("W", &[rows.len(), channels, 1, 1], some.to_vec());
        let bias = out.floats("B", &[rows.len()], of.to_vec());
        Some(out.node("part", "Conv", &[&features, &weights, &bias], vec![ints("kernel_shape", &[1, 1])]))
    });
    let [score, distances] = parts;
    Some((features, channels, [score?, distances?]))
}
