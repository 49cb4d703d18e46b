//! Reads a frozen TensorFlow graph: a `GraphDef` whose variables are constants. Source: TensorFlow's `graph.proto`,
//! `node_def.proto`, `attr_value.proto`, `tensor.proto` (Apache-2.0).

use std::collections::HashMap;

use prost::Message;

use super::{Attribute, Graph, Node, Tensor, elements, floats, halves, integers, value_name};
use crate::import::ImportError;

#[derive(Clone, PartialEq, Message)]
struct GraphDef {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeDef>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeDef {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    op: String,
    #[prost(string, repeated, tag = "3")]
    input: Vec<String>,
    #[prost(map = "string, message", tag = "5")]
    attr: HashMap<String, AttrValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AttrValue {
    #[prost(message, optional, tag = "1")]
    list: Option<ListValue>,
    #[prost(bytes = "vec", optional, tag = "2")]
    s: Option<Vec<u8>>,
    #[prost(int64, optional, tag = "3")]
    i: Option<i64>,
    #[prost(float, optional, tag = "4")]
    f: Option<f32>,
    #[prost(bool, optional, tag = "5")]
    b: Option<bool>,
    #[prost(message, optional, tag = "7")]
    shape: Option<ShapeProto>,
    #[prost(message, optional, tag = "8")]
    tensor: Option<TensorProto>,
}

#[derive(Clone, PartialEq, Message)]
struct ListValue {
    #[prost(bytes = "vec", repeated, tag = "2")]
    s: Vec<Vec<u8>>,
    #[prost(int64, repeated, tag = "3")]
    i: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct ShapeProto {
    #[prost(message, repeated, tag = "2")]
    dim: Vec<Dim>,
}

#[derive(Clone, PartialEq, Message)]
struct Dim {
    #[prost(int64, tag = "1")]
    size: i64,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    tensor_shape: Option<ShapeProto>,
    #[prost(bytes = "vec", tag = "4")]
    tensor_content: Vec<u8>,
    #[prost(float, repeated, tag = "5")]
    float_val: Vec<f32>,
    #[prost(int32, repeated, tag = "7")]
    int_val: Vec<i32>,
    #[prost(int32, repeated, tag = "13")]
    half_val: Vec<i32>,
}

/// The graph of such a file.
pub(in crate::import) fn read(bytes: &[u8]) -> Result<Graph, ImportError> {
    let graph = GraphDef::decode(bytes)
        .map_err(|e| ImportError::new(format!("is no frozen TensorFlow graph ({e}); give its .pb, or a model.json")))?;
    let node = |def: NodeDef| Node {
        inputs: def.input.iter().filter_map(|name| value_name(name)).collect(),
        attributes: def.attr.into_iter().filter_map(|(name, value)| Some((name, attribute(value)?))).collect(),
        name: def.name,
        op: def.op,
    };
    Graph::new(graph.node.into_iter().map(node).collect())
}

fn attribute(value: AttrValue) -> Option<Attribute> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
    let sides = |shape: &ShapeProto| shape.dim.iter().map(|dim| dim.size).collect::<Vec<_>>();
    if let Some(tensor) = value.tensor {
        return constant(&tensor).map(Attribute::Tensor);
    }
    if let Some(list) = value.list {
        return Some(match list.s.is_empty() {
            true => Attribute::Integers(list.i),
            false => Attribute::Texts(list.s.into_iter().filter_map(text).collect()),
        });
    }
    let simple = value.i.map(|i| Attribute::Integers(vec![i])).or(value.f.map(Attribute::Float));
    let simple =
        simple.or(value.b.map(Attribute::Bool)).or(value.shape.as_ref().map(|shape| Attribute::Shape(sides(shape))));
    simple.or_else(|| Some(Attribute::Texts(vec![text(value.s?)?])))
}

/// A constant of numbers; texts and what is not known are left out, and then a node that needs them says so.
fn constant(tensor: &TensorProto) -> Option<Tensor> {
    let sides = tensor.tensor_shape.iter().flat_map(|shape| &shape.dim);
    let dims = sides.map(|dim| usize::try_from(dim.size).ok()).collect::<Option<Vec<_>>>()?;
    let elements = elements(&dims)?;
    let content = &tensor.tensor_content;
    let mut data = match tensor.dtype {
        1 if !content.is_empty() => floats(content),
        1 => tensor.float_val.clone(),
        3 if !content.is_empty() => integers(content),
        3 => tensor.int_val.iter().map(|number| *number as f32).collect(),
        19 if !content.is_empty() => halves(content),
        19 => tensor.half_val.iter().map(|bits| half::f16::from_bits(*bits as u16).to_f32()).collect(),
        _ => return None,
    };
    // A list that is too short goes on with its last number.
    if data.len() < elements && content.is_empty() {
        data.resize(elements, data.last().copied().unwrap_or(0.0));
    }
    (data.len() == elements).then_some(Tensor { dims, data })
}
