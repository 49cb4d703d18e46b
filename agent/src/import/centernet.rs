//! CenterNet (Zhou, Wang, Krähenbühl, "Objects as Points", 2019): a map of scores whose peaks are picked, and of each cell
//! the distances to the four sides of its box, in pixels.

use super::convert::Picture;
use super::tensorflow::{Graph, Node};
use super::{CANDIDATES, Converter, ImportError, Imported, Options, picture, planes, said, side};
use crate::graph::build::{Builder, file, int, ints, node, port};
use crate::graph::passes::{fuse_hard_swish, prune, store_halves};
use crate::graph::proto::element;

/// What the picture is, where nothing else is said.
const PICTURE: (usize, usize) = (384, 288);
/// The coarsest map of the backbone has one cell for so many pixels a side.
const STRIDE: usize = 32;
/// People among the classes of COCO.
const PERSON: usize = 0;

/// Where the two maps are.
pub(super) struct CenterNet {
    /// The placeholder of the picture.
    input: String,
    /// The size that the graph was made for.
    made_for: (usize, usize),
    /// The class convolution, and what it reads.
    classes: String,
    features: String,
    /// The distances.
    sides: String,
}

/// Finds them: scores are what a sigmoid gives to a pooling of 3 by 3; distances come from a convolution with four outputs.
pub(super) fn find(graph: &Graph) -> Option<CenterNet> {
    let placeholder = graph.nodes.iter().find(|node| node.op == "Placeholder")?;
    let [_, height, width, 3] = placeholder.shape()? else { return None };
    let made_for = (side(*height)?, side(*width)?);
    let maker = |value: &str| graph.maker(graph.through(value));
    let sigmoid = graph.nodes.iter().filter(|node| node.op == "MaxPool").find_map(|pool| {
        maker(pool.inputs.first()?).filter(|node| node.op == "Sigmoid" && pool.integers("ksize") == Some(&[1, 3, 3, 1]))
    })?;
    let classes = maker(sigmoid.inputs.first()?)?;
    let dims = |node: &Node| graph.constant(node.inputs.get(1)?).map(|tensor| tensor.dims.clone());
    let conv = |node: &&Node| matches!(node.op.as_str(), "Conv2D" | "_FusedConv2D");
    let four = graph.nodes.iter().filter(conv).find(|node| matches!(dims(node).as_deref(), Some([1, 1, _, 4])))?;
    // Where they are multiplied by a number, that belongs to them.
    let scaled = graph.nodes.iter().find(|node| {
        node.op == "Mul"
            && node.inputs.first() == Some(&four.name)
            && node.inputs.get(1).is_some_and(|c| graph.constant(c).is_some())
    });
    Some(CenterNet {
        input: placeholder.name.clone(),
        made_for,
        features: classes.inputs.first()?.clone(),
        classes: classes.name.clone(),
        sides: scaled.unwrap_or(four).name.clone(),
    })
}

impl CenterNet {
    pub(super) fn import(self, graph: &Graph, options: &Options) -> Result<Imported, ImportError> {
        let (width, height) = picture(options, PICTURE, STRIDE)?;
        let mut builder = Builder::default();
        let name = planes(&mut builder);
        let picture = Picture { name, planar: false, size: (height, width), made_for: self.made_for };
        let mut converter = Converter::new(graph, builder, &self.input, picture);
        let classes = converter.value(&self.classes)?;
        let features = converter.value(&self.features)?;
        let sides = converter.value(&self.sides)?;
        let head = converter.conv_of(&classes);
        let mut out = converter.out;
        let head = head.and_then(|(weights, bias)| {
            let bias = bias.map_or(Some(0.0), |bias| out.floats_mut(&bias).map(|bias| bias[PERSON]))?;
            let weights =
                out.floats_mut(&weights).filter(|weights| weights.len() == classes.channels * features.channels)?;
            let row = weights[PERSON * features.channels..][..features.channels].iter().copied();
            Some(row.chain([bias]).collect::<Vec<f32>>())
        });
        let head = head.ok_or_else(|| ImportError::new("has a class head that is no convolution of 1 by 1"))?;
        if sides.size != classes.size || features.size != classes.size {
            return Err(ImportError::new("has maps of scores and of boxes that do not fit"));
        }
        tail(&mut out, &features.name, features.channels, &sides.name, sides.size, (height, width));
        fuse_hard_swish(&mut out);
        let outputs = ["boxes", "scores", "index", "features"];
        prune(&mut out, &outputs);
        store_halves(&mut out);
        let channels = features.channels;
        let count = CANDIDATES.min(sides.size.0 * sides.size.1);
        let inputs = vec![
            port("image", element::UINT8, &[1, height, width, 3]),
            port("cls_w", element::FLOAT, &[1, channels, 1, 1]),
            port("cls_b", element::FLOAT, &[1]),
        ];
        let outputs = vec![
            port("boxes", element::FLOAT, &[count, 4]),
            port("scores", element::FLOAT, &[count]),
            port("index", element::INT64, &[count]),
            port("features", element::FLOAT, &[count, channels]),
        ];
        let onnx = file(&out, "centernet_topk", inputs, outputs, &said(width, height, "none (0..255)"));
        Ok(Imported { family: "CenterNet", onnx, head })
    }
}

/// Scores by a head that comes in as inputs, picks peaks, and gives the best with their boxes and features.
fn tail(
    out: &mut Builder,
    features: &str,
    channels: usize,
    sides: &str,
    cells: (usize, usize),
    picture: (usize, usize),
) {
    let (rows, columns) = cells;
    let (height, width) = (picture.0 as f32, picture.1 as f32);
    let logits = out.node("clsdyn", "Conv", &[features, "cls_w", "cls_b"], vec![ints("kernel_shape", &[1, 1])]);
    let scores = out.node("sig", "Sigmoid", &[&logits], vec![]);
    let three = vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1, 1, 1, 1]), ints("strides", &[1, 1])];
    let highest = out.node("mp", "MaxPool", &[&scores], three);
    let equal = out.node("eq", "Equal", &[&scores, &highest], vec![]);
    let zero = out.floats("zero", &[1], vec![0.0]);
    let peaks = out.node("peak", "Where", &[&equal, &scores, &zero], vec![]);
    let part = out.floats("w", &[1, 4, 1, 1], vec![-1.0 / width, -1.0 / height, 1.0 / width, 1.0 / height]);
    let distances = out.node("d", "Mul", &[sides, &part], vec![]);
    // The corner of each cell, as a part of the picture.
    let (down, across) = (picture.0 / rows, picture.1 / columns);
    let cell = |at: usize| (at / columns, at % columns);
    let x = (0..rows * columns).map(|at| (cell(at).1 * across) as f32 / width);
    let y = (0..rows * columns).map(|at| (cell(at).0 * down) as f32 / height);
    let corners: Vec<f32> = x.clone().chain(y.clone()).chain(x).chain(y).collect();
    let corners = out.floats("w", &[1, 4, rows, columns], corners);
    let boxes = out.node("bx", "Add", &[&distances, &corners], vec![]);
    let flat = out.integers("w", &[1], &[-1]);
    let peaks = out.node("sf", "Reshape", &[&peaks, &flat], vec![]);
    let count = out.integers("w", &[1], &[CANDIDATES.min(rows * columns) as i64]);
    let (best, index) = (out.fresh("tk"), out.fresh("tk"));
    let top = vec![int("axis", 0), int("largest", 1), int("sorted", 1)];
    out.nodes.push(node(&best, "TopK", &[&peaks, &count], &[&best, &index], top));
    out.named("scores", "Identity", &[&best], vec![]);
    out.named("index", "Identity", &[&index], vec![]);
    for (what, values, channels, name) in [("b", boxes.as_str(), 4, "boxes"), ("f", features, channels, "features")] {
        let shape = out.integers("w", &[2], &[channels as i64, -1]);
        let rows = out.node(&format!("{what}f"), "Reshape", &[values, &shape], vec![]);
        let chosen = out.node(&format!("{what}g"), "Gather", &[&rows, &index], vec![int("axis", 1)]);
        out.named(name, "Transpose", &[&chosen], vec![ints("perm", &[1, 0])]);
    }
}
