//! Rewrites TensorFlow's operators as ONNX's, one by one, from the outputs that are wanted back to the picture.
//!
//! Pictures of features lie in memory as ONNX has them, channels first, whatever order TensorFlow thinks of: a transpose
//! there changes only how the next operator's axes are read. A number that is added to or multiplied with what a
//! convolution gives goes into its weights.

use std::collections::{HashMap, HashSet};

use super::ImportError;
use super::tensorflow::{Graph, Node, Tensor};
use crate::detect::layout::SIDE_MAX;
use crate::graph::build::{Builder, float, int, ints, word};

/// Channels of a picture of features.
const CHANNELS_MAX: usize = 64 * 1024;

/// A picture of features on its way.
#[derive(Debug, Clone)]
pub(super) struct Value {
    /// How the ONNX graph calls it.
    pub(super) name: String,
    /// Whether TensorFlow puts its channels before its rows.
    planar: bool,
    pub(super) channels: usize,
    /// Height and width.
    pub(super) size: (usize, usize),
    /// What they were for the size that the graph was made for.
    made_for: (usize, usize),
    /// Rows and columns to be added around it: above, left, below, right; and what they hold.
    pad: Option<([usize; 4], f32)>,
}

/// Where a convolution's numbers are.
#[derive(Debug, Clone)]
struct Conv {
    node: usize,
    weights: String,
    bias: Option<String>,
}

/// The graph that is read, and the one that grows.
pub(super) struct Converter<'a> {
    graph: &'a Graph,
    pub(super) out: Builder,
    values: HashMap<String, Value>,
    convs: HashMap<String, Conv>,
    /// How many nodes read a value.
    uses: HashMap<&'a str, usize>,
}

impl<'a> Converter<'a> {
    /// A conversion of `graph`, whose value `input` is the picture `name` of `size`.
    pub(super) fn new(graph: &'a Graph, out: Builder, input: &str, picture: Picture) -> Converter<'a> {
        let mut uses = HashMap::new();
        for node in &graph.nodes {
            for name in &node.inputs {
                *uses.entry(graph.through(name)).or_insert(0) += 1;
            }
        }
        let Picture { name, planar, size, made_for } = picture;
        let value = Value { name, planar, channels: 3, size, made_for, pad: None };
        let values = HashMap::from([(input.to_owned(), value)]);
        Converter { graph, out, values, convs: HashMap::new(), uses }
    }

    /// Rewrites what makes a value of the TensorFlow graph, and says what it is now.
    pub(super) fn value(&mut self, wanted: &str) -> Result<Value, ImportError> {
        let wanted = self.graph.through(wanted);
        // Depth first, and the last input first. A stack of its own, because a file may be deeper than ours.
        let mut stack = vec![(wanted, false)];
        let mut open = HashSet::new();
        while let Some((name, inputs_done)) = stack.pop() {
            if self.values.contains_key(name) || self.graph.constant(name).is_some() {
                continue;
            }
            let node = self.graph.maker(name).ok_or_else(|| {
                let name = super::tensorflow::shown(name);
                ImportError::new(format!("reads {name}, which is not there; copy it again"))
            })?;
            if inputs_done {
                let value = self.rewrite(node)?;
                self.values.insert(name.to_owned(), value);
                continue;
            }
            if !open.insert(name) {
                return Err(node.wrong("is part of a ring"));
            }
            stack.push((name, true));
            stack.extend(node.inputs.iter().map(|input| (self.graph.through(input), false)));
        }
        self.values.get(wanted).cloned().ok_or_else(|| ImportError::new("gives a constant where a picture is wanted"))
    }

    /// Where a convolution's numbers are: its weights and its bias, if a convolution makes this value.
    pub(super) fn conv_of(&self, value: &Value) -> Option<(String, Option<String>)> {
        self.convs.get(&value.name).map(|conv| (conv.weights.clone(), conv.bias.clone()))
    }

    fn rewrite(&mut self, node: &Node) -> Result<Value, ImportError> {
        match node.op.as_str() {
            "Conv2D" | "_FusedConv2D" => self.conv(node, false),
            "DepthwiseConv2dNative" | "FusedDepthwiseConv2dNative" => self.conv(node, true),
            "Add" | "AddV2" | "BiasAdd" => self.binary(node, "Add"),
            "Mul" => self.binary(node, "Mul"),
            "FusedBatchNorm" | "FusedBatchNormV2" | "FusedBatchNormV3" => self.batch_norm(node),
            "Relu" | "Relu6" | "LeakyRelu" => {
                let value = self.plain(node, 0)?;
                self.activation(node, &node.op, value)
            }
            "Sigmoid" => {
                let value = self.plain(node, 0)?;
                let name = self.out.node("sigmoid", "Sigmoid", &[&value.name], vec![]);
                Ok(Value { name, ..value })
            }
            "Mean" => self.mean(node),
            "MaxPool" => self.max_pool(node),
            "ResizeBilinear" => self.resize(node),
            "ConcatV2" => self.concat(node),
            "Pad" | "PadV2" => self.pad(node),
            "Transpose" => self.transpose(node),
            _ => Err(node.wrong("is an operator that the import does not know; export the model to ONNX instead")),
        }
    }

    /// An input that is a picture, whatever is to be added around it.
    fn picture(&self, node: &Node, at: usize) -> Result<Value, ImportError> {
        let name = self.graph.through(node.input(at)?);
        self.values.get(name).cloned().ok_or_else(|| node.wrong("needs a picture where a constant is"))
    }

    /// An input that is a picture with nothing to be added around it.
    fn plain(&self, node: &Node, at: usize) -> Result<Value, ImportError> {
        let value = self.picture(node, at)?;
        if value.pad.is_some() {
            Err(node.wrong("has padding before it that the import does not know"))
        } else {
            Ok(value)
        }
    }

    fn constant(&self, node: &Node, at: usize) -> Result<&'a Tensor, ImportError> {
        self.graph.constant(node.input(at)?).ok_or_else(|| node.wrong("needs a constant that is not there"))
    }

    /// Two sides of an attribute in TensorFlow's order, which is NHWC.
    fn two(node: &Node, name: &str) -> Result<(usize, usize), ImportError> {
        let (high, wide) = match node.integers(name) {
            None => (1, 1),
            Some([1, high, wide, 1]) => (*high, *wide),
            Some(_) => return Err(node.wrong(&format!("has {name} that the import does not know"))),
        };
        let fits = |side: i64| usize::try_from(side).ok().filter(|side| (1..=64).contains(side));
        fits(high).zip(fits(wide)).ok_or_else(|| node.wrong(&format!("has {name} that no detector has")))
    }

    /// The padding that an operator asks for and that stands before it, and the size after it.
    fn window(
        node: &Node,
        value: &Value,
        kernel: (usize, usize),
        strides: (usize, usize),
        dilations: (usize, usize),
        filler: impl Fn(f32) -> bool,
    ) -> Result<([usize; 4], Value), ImportError> {
        let same = match node.text("padding") {
            Some("SAME") => true,
            Some("VALID") => false,
            _ => return Err(node.wrong("has padding that the import does not know")),
        };
        let around = match value.pad {
            Some((around, held)) if filler(held) => around,
            None => [0; 4],
            Some(_) => return Err(node.wrong("has padding before it that the import does not know")),
        };
        let axis = |side: usize, before: usize, after: usize, kernel: usize, stride: usize, dilation: usize| {
            let reach = (kernel - 1) * dilation + 1;
            let side = side + before + after;
            if same {
                let out = side.div_ceil(stride);
                let more = ((out - 1) * stride + reach).saturating_sub(side);
                Some((before + more / 2, after + more - more / 2, out))
            } else {
                side.checked_sub(reach).map(|room| (before, after, room / stride + 1))
            }
        };
        let high = |side| axis(side, around[0], around[2], kernel.0, strides.0, dilations.0);
        let wide = |side| axis(side, around[1], around[3], kernel.1, strides.1, dilations.1);
        let fit = |(height, width)| high(height).zip(wide(width));
        let (now, then) =
            fit(value.size).zip(fit(value.made_for)).ok_or_else(|| node.wrong("is larger than its picture"))?;
        let pads = [now.0.0, now.1.0, now.0.1, now.1.1];
        let next = Value { size: (now.0.2, now.1.2), made_for: (then.0.2, then.1.2), pad: None, ..value.clone() };
        Ok((pads, next))
    }

    fn conv(&mut self, node: &Node, depthwise: bool) -> Result<Value, ImportError> {
        let value = self.picture(node, 0)?;
        if value.planar || node.text("data_format").is_some_and(|format| format != "NHWC") {
            return Err(node.wrong("reads channels first; convert it with channels last"));
        }
        let kernel = self.constant(node, 1)?;
        let &[high, wide, deep, out] = kernel.dims.as_slice() else {
            return Err(node.wrong("has weights that are not of four dimensions"));
        };
        let (outputs, within) = if depthwise { (deep * out, 1) } else { (out, deep) };
        if high * wide * within * outputs == 0
            || outputs > CHANNELS_MAX
            || value.channels % within != 0
            || (depthwise && deep != value.channels)
        {
            return Err(node.wrong("has weights that do not fit its picture"));
        }
        let group = value.channels / within;
        // From [high, wide, in, out] to [out, in, high, wide]; of a depthwise kernel each input has its own outputs.
        let mut weights = vec![0.0; kernel.data.len()];
        for (at, number) in kernel.data.iter().enumerate() {
            let (pixel, i, o) = (at / (deep * out), at / out % deep, at % out);
            let (row, column) = if depthwise { (i * out + o, 0) } else { (o, i) };
            weights[(row * within + column) * high * wide + pixel] = *number;
        }
        let (strides, dilations) = (Self::two(node, "strides")?, Self::two(node, "dilations")?);
        let (pads, mut next) = Self::window(node, &value, (high, wide), strides, dilations, |held| held == 0.0)?;
        next.channels = outputs;
        let weights = self.out.floats("W", &[outputs, within, high, wide], weights);
        let fused = node.texts("fused_ops");
        let bias = match fused.first().map(String::as_str) {
            None => None,
            Some("BiasAdd") => {
                let bias = self.constant(node, 2)?;
                if bias.data.len() != outputs {
                    return Err(node.wrong("has a bias that does not fit"));
                }
                Some(self.out.floats("B", &[outputs], bias.data.clone()))
            }
            Some(_) => return Err(node.wrong("does more than the import knows")),
        };
        let pair = |(high, wide): (usize, usize)| [high as i64, wide as i64];
        let inputs: Vec<&str> = [value.name.as_str(), &weights].into_iter().chain(bias.as_deref()).collect();
        let attributes = vec![
            ints("dilations", &pair(dilations)),
            int("group", group as i64),
            ints("kernel_shape", &pair((high, wide))),
            ints("pads", &pads.map(|side| side as i64)),
            ints("strides", &pair(strides)),
        ];
        next.name = self.out.node("conv", "Conv", &inputs, attributes);
        self.convs.insert(next.name.clone(), Conv { node: self.out.nodes.len() - 1, weights, bias });
        match fused.get(1) {
            Some(op) => self.activation(node, op, next),
            None => Ok(next),
        }
    }

    fn activation(&mut self, node: &Node, op: &str, value: Value) -> Result<Value, ImportError> {
        let name = match op {
            "Relu" => self.out.node("relu", "Relu", &[&value.name], vec![]),
            "Relu6" => {
                let (lo, hi) = (self.out.floats("lo", &[1], vec![0.0]), self.out.floats("hi", &[1], vec![6.0]));
                self.out.node("relu6", "Clip", &[&value.name, &lo, &hi], vec![])
            }
            "LeakyRelu" => {
                let alpha = node.float("alpha").or(node.float("leakyrelu_alpha")).unwrap_or(0.2);
                self.out.node("leaky", "LeakyRelu", &[&value.name], vec![float("alpha", alpha)])
            }
            _ => return Err(node.wrong("has an activation that the import does not know")),
        };
        Ok(Value { name, ..value })
    }

    /// One number for each channel, if that is what a constant is.
    fn by_channel(value: &Value, tensor: &Tensor, bias: bool) -> Option<Vec<f32>> {
        if let [number] = tensor.data.as_slice() {
            return Some(vec![*number; value.channels]);
        }
        let behind = if value.planar && !bias { 2 } else { 0 };
        let at = tensor.dims.len().checked_sub(behind + 1)?;
        let others = tensor.dims.iter().enumerate().all(|(n, side)| n == at || *side == 1);
        (others && tensor.dims[at] == value.channels).then(|| tensor.data.clone())
    }

    fn binary(&mut self, node: &Node, op: &str) -> Result<Value, ImportError> {
        let sides = [node.input(0)?, node.input(1)?].map(|name| self.graph.constant(name));
        let what = if op == "Add" { "add" } else { "mul" };
        let (at, tensor) = match sides {
            [None, None] => {
                let (a, b) = (self.plain(node, 0)?, self.plain(node, 1)?);
                if a.planar != b.planar || a.channels != b.channels {
                    return Err(node.wrong("joins pictures that do not fit"));
                }
                let name = self.out.node(what, op, &[&a.name, &b.name], vec![]);
                return Ok(Value { name, ..if a.size.0 * a.size.1 >= b.size.0 * b.size.1 { a } else { b } });
            }
            [None, Some(tensor)] => (0, tensor),
            [Some(tensor), None] => (1, tensor),
            [Some(_), Some(_)] => return Err(node.wrong("joins two constants")),
        };
        let value = self.plain(node, at)?;
        let numbers = Self::by_channel(&value, tensor, node.op == "BiasAdd");
        let numbers = numbers.ok_or_else(|| node.wrong("has a constant that is not one number a channel"))?;
        if self.alone(node, at) && self.convs.contains_key(&value.name) {
            match op {
                "Add" => self.fold(&value, &vec![1.0; numbers.len()], &numbers),
                _ => self.fold(&value, &numbers, &vec![0.0; numbers.len()]),
            }
            return Ok(value);
        }
        let constant = match tensor.data.len() {
            1 => self.out.floats("c", &[1], tensor.data.clone()),
            channels => self.out.floats("c", &[1, channels, 1, 1], numbers),
        };
        let inputs = if at == 0 { [&value.name, &constant] } else { [&constant, &value.name] };
        let name = self.out.node(what, op, &inputs.map(String::as_str), vec![]);
        Ok(Value { name, ..value })
    }

    /// Whether nobody else reads an input of this node.
    fn alone(&self, node: &Node, at: usize) -> bool {
        node.inputs.get(at).and_then(|name| self.uses.get(self.graph.through(name))) == Some(&1)
    }

    /// Multiplies what a convolution gives, and adds to it, inside its weights.
    fn fold(&mut self, value: &Value, scale: &[f32], shift: &[f32]) {
        let Some(conv) = self.convs.get(&value.name).cloned() else { return };
        let bias = conv.bias.unwrap_or_else(|| {
            let bias = self.out.floats("B", &[scale.len()], vec![0.0; scale.len()]);
            self.out.nodes[conv.node].input.push(bias.clone());
            if let Some(conv) = self.convs.get_mut(&value.name) {
                conv.bias = Some(bias.clone());
            }
            bias
        });
        if let Some(weights) = self.out.floats_mut(&conv.weights) {
            let row = weights.len() / scale.len();
            weights.chunks_mut(row).zip(scale).for_each(|(row, scale)| row.iter_mut().for_each(|w| *w *= scale));
        }
        if let Some(bias) = self.out.floats_mut(&bias) {
            bias.iter_mut().zip(scale.iter().zip(shift)).for_each(|(b, (scale, shift))| *b = *b * scale + shift);
        }
    }

    fn batch_norm(&mut self, node: &Node) -> Result<Value, ImportError> {
        let value = self.plain(node, 0)?;
        let mut rows = Vec::new();
        for at in 1..=4 {
            rows.push(&self.constant(node, at)?.data);
        }
        let fits = rows.iter().all(|row| row.len() == value.channels);
        if !fits || node.bool("is_training") || !self.alone(node, 0) || !self.convs.contains_key(&value.name) {
            return Err(
                node.wrong("is a normalisation that stands behind no convolution, or still learns; freeze the graph")
            );
        }
        let epsilon = node.float("epsilon").unwrap_or(1e-3);
        let scale: Vec<f32> = rows[0].iter().zip(rows[3]).map(|(gamma, var)| gamma / (var + epsilon).sqrt()).collect();
        let shift = rows[1].iter().zip(rows[2]).zip(&scale).map(|((beta, mean), scale)| beta - mean * scale);
        let shift: Vec<f32> = shift.collect();
        self.fold(&value, &scale, &shift);
        Ok(value)
    }

    fn mean(&mut self, node: &Node) -> Result<Value, ImportError> {
        let value = self.plain(node, 0)?;
        let rows: &[f32] = if value.planar { &[2.0, 3.0] } else { &[1.0, 2.0] };
        if self.constant(node, 1)?.data != rows || !node.bool("keep_dims") {
            return Err(node.wrong("takes a mean of other sides than rows and columns"));
        }
        let name = self.out.node("mean", "ReduceMean", &[&value.name], vec![ints("axes", &[2, 3]), int("keepdims", 1)]);
        Ok(Value { name, size: (1, 1), made_for: (1, 1), ..value })
    }

    fn max_pool(&mut self, node: &Node) -> Result<Value, ImportError> {
        let value = self.picture(node, 0)?;
        if value.planar {
            return Err(node.wrong("reads channels first; convert it with channels last"));
        }
        let (kernel, strides) = (Self::two(node, "ksize")?, Self::two(node, "strides")?);
        let (pads, next) = Self::window(node, &value, kernel, strides, (1, 1), |held| held <= -1e30)?;
        let pair = |(high, wide): (usize, usize)| [high as i64, wide as i64];
        let attributes = vec![
            ints("kernel_shape", &pair(kernel)),
            ints("pads", &pads.map(|side| side as i64)),
            ints("strides", &pair(strides)),
        ];
        let name = self.out.node("pool", "MaxPool", &[&value.name], attributes);
        Ok(Value { name, ..next })
    }

    fn resize(&mut self, node: &Node) -> Result<Value, ImportError> {
        let value = self.plain(node, 0)?;
        let wanted = &self.constant(node, 1)?.data;
        // The size that is asked for is that of the picture the graph was made for: what counts is the ratio.
        let side = |wanted: Option<&f32>, made_for: usize, now: usize| {
            let wanted = wanted.map_or(0, |wanted| *wanted as usize);
            let whole = (1..=SIDE_MAX as usize).contains(&wanted) && (now * wanted).is_multiple_of(made_for);
            let now = now * if whole { wanted } else { 0 } / made_for;
            (1..=SIDE_MAX as usize).contains(&now).then(|| (wanted as f32 / made_for as f32, now, wanted))
        };
        let sides = side(wanted.first(), value.made_for.0, value.size.0).zip(side(
            wanted.get(1),
            value.made_for.1,
            value.size.1,
        ));
        let (high, wide) = sides.ok_or_else(|| node.wrong("resizes to a size that is none for this picture"))?;
        if node.bool("align_corners") || value.planar {
            return Err(node.wrong("resizes by corners or with channels first, which the import does not know"));
        }
        let mode = if node.bool("half_pixel_centers") { "half_pixel" } else { "asymmetric" };
        let scales = self.out.floats("sc", &[4], vec![1.0, 1.0, high.0, wide.0]);
        let attributes = vec![word("coordinate_transformation_mode", mode), word("mode", "linear")];
        let name = self.out.node("rsz", "Resize", &[&value.name, "", &scales], attributes);
        Ok(Value { name, size: (high.1, wide.1), made_for: (high.2, wide.2), ..value })
    }

    fn concat(&mut self, node: &Node) -> Result<Value, ImportError> {
        let count = node.inputs.len().saturating_sub(1);
        let axis = self.constant(node, count)?.data.first().copied();
        let mut values = Vec::new();
        for at in 0..count {
            values.push(self.plain(node, at)?);
        }
        let first = values.first().cloned().ok_or_else(|| node.wrong("joins nothing"))?;
        let axes = if first.planar { [1.0, -3.0] } else { [3.0, -1.0] };
        let channels: usize = values.iter().map(|value| value.channels).sum();
        let alike = values.iter().all(|value| value.planar == first.planar && value.size == first.size);
        if !alike || channels > CHANNELS_MAX || !axis.is_some_and(|axis| axes.contains(&axis)) {
            return Err(node.wrong("joins other sides than channels, or too many"));
        }
        let names: Vec<&str> = values.iter().map(|value| value.name.as_str()).collect();
        let name = self.out.node("cat", "Concat", &names, vec![int("axis", 1)]);
        Ok(Value { name, channels, ..first })
    }

    fn pad(&mut self, node: &Node) -> Result<Value, ImportError> {
        let value = self.plain(node, 0)?;
        let held = if node.op == "PadV2" { self.constant(node, 2)?.data.first().copied().unwrap_or(0.0) } else { 0.0 };
        let sides: Vec<usize> = self.constant(node, 1)?.data.iter().map(|side| *side as usize).collect();
        let (rows, columns) = if value.planar { (4, 6) } else { (2, 4) };
        let outside = sides.iter().enumerate().all(|(at, side)| (rows..columns + 2).contains(&at) || *side == 0);
        if sides.len() != 8 || !outside || sides.iter().any(|side| *side > 64) {
            return Err(node.wrong("pads other sides than rows and columns"));
        }
        let pad = [sides[rows], sides[columns], sides[rows + 1], sides[columns + 1]];
        Ok(Value { pad: (pad != [0; 4]).then_some((pad, held)), ..value })
    }

    fn transpose(&mut self, node: &Node) -> Result<Value, ImportError> {
        let value = self.picture(node, 0)?;
        let planar = match (self.constant(node, 1)?.data.as_slice(), value.planar) {
            ([0.0, 2.0, 3.0, 1.0], true) => false,
            ([0.0, 3.0, 1.0, 2.0], false) => true,
            _ => return Err(node.wrong("puts sides into an order that the import does not know")),
        };
        Ok(Value { planar, ..value })
    }
}

/// The picture that a conversion begins with.
pub(super) struct Picture {
    /// How the ONNX graph calls it: channels first.
    pub(super) name: String,
    /// Whether TensorFlow puts its channels before its rows.
    pub(super) planar: bool,
    /// Height and width.
    pub(super) size: (usize, usize),
    /// What they were for the size that the graph was made for.
    pub(super) made_for: (usize, usize),
}
