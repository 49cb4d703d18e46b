//! Puts a graph together node by node. Each value is called after what makes it, with a number that counts up.

use prost::Message;

use super::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, element, kind,
};

/// The version of ONNX's operators that is written.
const OPSET: i64 = 13;
/// The version of ONNX's format that is written.
const IR_VERSION: i64 = 8;
/// Who says that it wrote the file. The default model says the same, and its bytes must not change.
const PRODUCER: &str = "tf2onnx_lite";

/// A graph that grows.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    /// The number of the newest name.
    pub(crate) count: usize,
    pub(crate) nodes: Vec<NodeProto>,
    pub(crate) constants: Vec<Constant>,
}

/// A constant of a graph that grows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Constant {
    pub(crate) name: String,
    pub(crate) dims: Vec<usize>,
    pub(crate) data: Data,
}

/// Numbers of a tensor, by what they are stored in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    Floats(Vec<f32>),
    /// Floats that the file holds in 16 bits.
    Halves(Vec<f32>),
    Integers(Vec<i64>),
}

impl Builder {
    /// A name that nobody has.
    pub(crate) fn fresh(&mut self, what: &str) -> String {
        self.count += 1;
        format!("{what}_{}", self.count)
    }

    /// A constant of floats under a fresh name.
    pub(crate) fn floats(&mut self, what: &str, dims: &[usize], numbers: Vec<f32>) -> String {
        self.constant(what, dims, Data::Floats(numbers))
    }

    /// A constant of integers under a fresh name.
    pub(crate) fn integers(&mut self, what: &str, dims: &[usize], numbers: &[i64]) -> String {
        self.constant(what, dims, Data::Integers(numbers.to_vec()))
    }

    fn constant(&mut self, what: &str, dims: &[usize], data: Data) -> String {
        let name = self.fresh(what);
        self.constants.push(Constant { name: name.clone(), dims: dims.to_vec(), data });
        name
    }

    /// A node with one output, under a fresh name that is its output's too.
    pub(crate) fn node(&mut self, what: &str, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let name = self.fresh(what);
        self.named(&name, op, inputs, attributes);
        name
    }

    /// A node with one output of that name.
    pub(crate) fn named(&mut self, name: &str, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) {
        self.nodes.push(node(name, op, inputs, &[name], attributes));
    }

    /// The floats of a constant, to be changed.
    pub(crate) fn floats_mut(&mut self, name: &str) -> Option<&mut Vec<f32>> {
        let found = self.constants.iter_mut().rfind(|constant| constant.name == name)?;
        match &mut found.data {
            Data::Floats(numbers) => Some(numbers),
            _ => None,
        }
    }
}

/// A node.
pub(crate) fn node(
    name: &str,
    op: &str,
    inputs: &[&str],
    outputs: &[&str],
    mut attribute: Vec<AttributeProto>,
) -> NodeProto {
    attribute.sort_by(|a, b| a.name.cmp(&b.name));
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        input: owned(inputs),
        output: owned(outputs),
        name: Some(name.to_owned()),
        op_type: Some(op.to_owned()),
        attribute,
        ..NodeProto::default()
    }
}

/// An attribute that is an integer.
pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: Some(name.into()), i: Some(value), r#type: Some(kind::INT), ..AttributeProto::default() }
}

/// An attribute that is a list of integers.
pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    let ints = values.to_vec();
    AttributeProto { name: Some(name.into()), ints, r#type: Some(kind::INTS), ..AttributeProto::default() }
}

/// An attribute that is a float.
pub(crate) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: Some(name.into()), f: Some(value), r#type: Some(kind::FLOAT), ..AttributeProto::default() }
}

/// An attribute that is a word.
pub(crate) fn word(name: &str, value: &str) -> AttributeProto {
    let s = Some(value.as_bytes().to_vec());
    AttributeProto { name: Some(name.into()), s, r#type: Some(kind::STRING), ..AttributeProto::default() }
}

/// An input or output of a graph.
pub(crate) fn port(name: &str, elem_type: i32, dims: &[usize]) -> ValueInfoProto {
    let dim = |side: &usize| DimensionProto { dim_value: i64::try_from(*side).ok(), ..DimensionProto::default() };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type: Some(elem_type), shape });
    let r#type = Some(TypeProto { tensor_type, ..TypeProto::default() });
    ValueInfoProto { name: Some(name.into()), r#type, ..ValueInfoProto::default() }
}

impl From<&Constant> for TensorProto {
    fn from(constant: &Constant) -> TensorProto {
        let (data_type, raw_data) = match &constant.data {
            Data::Floats(numbers) => (element::FLOAT, numbers.iter().flat_map(|n| n.to_le_bytes()).collect()),
            Data::Halves(numbers) => {
                (element::FLOAT16, numbers.iter().flat_map(|n| half::f16::from_f32(*n).to_le_bytes()).collect())
            }
            Data::Integers(numbers) => (element::INT64, numbers.iter().flat_map(|n| n.to_le_bytes()).collect()),
        };
        TensorProto {
            dims: constant.dims.iter().map(|side| *side as i64).collect(),
            data_type: Some(data_type),
            name: Some(constant.name.clone()),
            raw_data: Some(raw_data),
            ..TensorProto::default()
        }
    }
}

/// The file: the graph as it is now, with what is said of it.
pub(crate) fn file(
    builder: &Builder,
    name: &str,
    input: Vec<ValueInfoProto>,
    output: Vec<ValueInfoProto>,
    said: &[(&str, String)],
) -> Vec<u8> {
    let graph = GraphProto {
        node: builder.nodes.clone(),
        name: Some(name.to_owned()),
        initializer: builder.constants.iter().map(TensorProto::from).collect(),
        input,
        output,
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some(PRODUCER.to_owned()),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
        metadata_props: entries(said),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

/// What is said of a model, as it stands in its file.
pub(crate) fn entries(said: &[(&str, String)]) -> Vec<StringStringEntryProto> {
    let entry = |(key, value): &(&str, String)| StringStringEntryProto {
        key: Some((*key).to_owned()),
        value: Some(value.clone()),
    };
    said.iter().map(entry).collect()
}
