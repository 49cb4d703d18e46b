//! Where in a model's file its weights lie, and what they are for.

use std::collections::HashMap;
use std::ops::Range;

use prost::Message;

use super::proto::{GraphProto, ModelProto, element};
use crate::detect::onnx::wire::{Fields, Value};

/// What weights are for. It says how much a change of them costs: found on the default detector, by trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Of a convolution with one input for each output: few, and each counts.
    Depthwise,
    /// Of the two convolutions that weigh channels by their means (squeeze and excitation).
    Gate,
    /// Any others.
    Plain,
}

/// Weights in a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) dims: Vec<usize>,
    /// Whether each has 16 bits, not 32.
    pub(crate) halves: bool,
    pub(crate) role: Role,
    /// Their bytes.
    pub(crate) at: Range<usize>,
}

/// The weights of a model's convolutions and products, in the order of the file.
pub(crate) fn places(bytes: &[u8]) -> Option<Vec<Place>> {
    let roles = roles(&ModelProto::decode(bytes).ok()?.graph?);
    let mut places = Vec::new();
    for field in Fields(bytes) {
        let (7, Value::Bytes(graph)) = field.ok()? else { continue };
        for field in Fields(graph) {
            let (5, Value::Bytes(tensor)) = field.ok()? else { continue };
            places.extend(place(bytes, tensor, &roles));
        }
    }
    Some(places)
}

fn place(file: &[u8], tensor: &[u8], roles: &HashMap<String, Role>) -> Option<Place> {
    let (mut dims, mut kind, mut name, mut raw): (Vec<usize>, _, &[u8], Option<&[u8]>) = (vec![], 0, b"", None);
    for field in Fields(tensor) {
        match field.ok()? {
            (1, Value::Number(side)) => dims.push(usize::try_from(side).ok()?),
            (2, Value::Number(number)) => kind = number,
            (8, Value::Bytes(text)) => name = text,
            (9, Value::Bytes(data)) => raw = Some(data),
            _ => {}
        }
    }
    let (raw, name) = (raw?, std::str::from_utf8(name).ok()?);
    let halves = kind == element::FLOAT16 as u64;
    let width = if halves { 2 } else { 4 };
    let elements = dims.iter().try_fold(1usize, |product, side| product.checked_mul(*side))?;
    let whole = (halves || kind == element::FLOAT as u64) && elements > 0 && elements.checked_mul(width)? == raw.len();
    let role = *roles.get(name).filter(|_| whole)?;
    // The slice is a part of the file's, so the difference of their addresses is where it begins.
    let from = raw.as_ptr().addr() - file.as_ptr().addr();
    Some(Place { name: name.to_owned(), dims, halves, role, at: from..from + raw.len() })
}

/// What the constants of a graph are for, as far as they are weights: the second operand of what computes, through casts.
fn roles(graph: &GraphProto) -> HashMap<String, Role> {
    let makers: HashMap<&str, _> =
        graph.node.iter().flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node))).collect();
    let dims: HashMap<&str, &[i64]> =
        graph.initializer.iter().filter_map(|tensor| Some((tensor.name.as_deref()?, tensor.dims.as_slice()))).collect();
    let maker = |name: &str, op: &str| makers.get(name).copied().filter(|node| node.is(op));
    let mean = |name: &str| maker(name, "ReduceMean").or_else(|| maker(name, "GlobalAveragePool")).is_some();
    let mut roles = HashMap::new();
    for node in &graph.node {
        let (true, [read, operand, ..]) =
            (["Conv", "MatMul", "Gemm"].iter().any(|op| node.is(op)), node.input.as_slice())
        else {
            continue;
        };
        let stored = maker(operand, "Cast").and_then(|cast| cast.input.first()).unwrap_or(operand);
        let Some(dims) = dims.get(stored.as_str()) else { continue };
        let behind_mean = mean(read)
            || maker(read, "Relu")
                .and_then(|relu| maker(relu.input.first()?, "Conv"))
                .is_some_and(|conv| conv.input.first().is_some_and(|name| mean(name)));
        let role = match dims {
            [outputs, 1, ..] if node.is("Conv") && *outputs > 1 => Role::Depthwise,
            _ if behind_mean => Role::Gate,
            _ => Role::Plain,
        };
        roles.insert(stored.clone(), role);
    }
    roles
}
