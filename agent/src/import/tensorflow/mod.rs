//! A TensorFlow graph as far as inference needs it, whichever kind of file it was read from. Pure.

mod frozen;
mod tfjs;

use std::collections::HashMap;

use super::ImportError;

pub(super) use frozen::read as read_frozen;
pub(super) use tfjs::read as read_tfjs;
pub use tfjs::weight_files;

/// Nodes of a graph; the largest detectors have some thousands.
const NODES_MAX: usize = 50_000;
/// Dimensions of a tensor.
const RANK_MAX: usize = 8;
/// Elements of a tensor: as many as fit into the largest model.
const ELEMENTS_MAX: usize = 64 * 1024 * 1024;

/// A graph: nodes, by name.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    index: HashMap<String, usize>,
}

/// One operator.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) op: String,
    /// Names of what it reads: without control inputs, and without the number of a first output.
    pub(super) inputs: Vec<String>,
    pub(super) attributes: HashMap<String, Attribute>,
}

/// What an attribute holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Attribute {
    Integers(Vec<i64>),
    Texts(Vec<String>),
    Float(f32),
    Bool(bool),
    /// -1 where a side is open.
    Shape(Vec<i64>),
    Tensor(Tensor),
}

/// A constant. Integers are held as floats too: sizes and axes are small.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub(super) dims: Vec<usize>,
    pub(super) data: Vec<f32>,
}

impl Graph {
    /// A graph of these nodes.
    pub(super) fn new(nodes: Vec<Node>) -> Result<Graph, ImportError> {
        if nodes.len() > NODES_MAX {
            return Err(ImportError::new(format!("has more than {NODES_MAX} nodes; use a smaller model")));
        }
        let mut index = HashMap::new();
        for (at, node) in nodes.iter().enumerate() {
            if index.insert(node.name.clone(), at).is_some() {
                return Err(ImportError::new(format!("has two nodes called {}; copy it again", shown(&node.name))));
            }
        }
        Ok(Graph { nodes, index })
    }

    /// The node that makes a value.
    pub(super) fn maker(&self, value: &str) -> Option<&Node> {
        let name = value.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        self.index.get(name.map_or(value, |(name, _)| name)).map(|at| &self.nodes[*at])
    }

    /// The constant behind a value, through nodes that only pass it on.
    pub(super) fn constant(&self, value: &str) -> Option<&Tensor> {
        let node = self.maker(self.through(value))?;
        match node.attributes.get("value") {
            Some(Attribute::Tensor(tensor)) if node.op == "Const" => Some(tensor),
            _ => None,
        }
    }

    /// The value that identities pass on.
    pub(super) fn through<'a>(&'a self, mut value: &'a str) -> &'a str {
        // A ring of identities would have no end.
        for _ in 0..self.nodes.len() {
            match self.maker(value) {
                Some(node) if matches!(node.op.as_str(), "Identity" | "StopGradient") && !node.inputs.is_empty() => {
                    value = &node.inputs[0];
                }
                _ => break,
            }
        }
        value
    }
}

impl Node {
    /// An input, or a sentence that says which node lacks it.
    pub(super) fn input(&self, at: usize) -> Result<&str, ImportError> {
        self.inputs.get(at).map(String::as_str).ok_or_else(|| self.wrong("lacks an input"))
    }

    /// What is wrong with this node.
    pub(super) fn wrong(&self, what: &str) -> ImportError {
        ImportError::new(format!("has the node {} ({}), which {what}", shown(&self.name), shown(&self.op)))
    }

    pub(super) fn integers(&self, name: &str) -> Option<&[i64]> {
        match self.attributes.get(name)? {
            Attribute::Integers(values) => Some(values),
            _ => None,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.attributes.get(name)? {
            Attribute::Texts(texts) => texts.first().map(String::as_str),
            _ => None,
        }
    }

    pub(super) fn texts(&self, name: &str) -> &[String] {
        match self.attributes.get(name) {
            Some(Attribute::Texts(texts)) => texts,
            _ => &[],
        }
    }

    pub(super) fn float(&self, name: &str) -> Option<f32> {
        match self.attributes.get(name)? {
            Attribute::Float(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn bool(&self, name: &str) -> bool {
        self.attributes.get(name) == Some(&Attribute::Bool(true))
    }

    pub(super) fn shape(&self) -> Option<&[i64]> {
        match self.attributes.get("shape")? {
            Attribute::Shape(sides) => Some(sides),
            _ => None,
        }
    }
}

/// How many elements a tensor of these sides has, if it may have so many.
fn elements(dims: &[usize]) -> Option<usize> {
    let product = dims.iter().try_fold(1usize, |product, side| product.checked_mul(*side));
    product.filter(|elements| dims.len() <= RANK_MAX && *elements <= ELEMENTS_MAX)
}

/// A text from the file, fit for one line.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// The name of a value without what only the file needs: `^` of control inputs is left out, `:0` is the node itself.
fn value_name(name: &str) -> Option<String> {
    (!name.starts_with('^')).then(|| name.strip_suffix(":0").unwrap_or(name).to_owned())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn halves(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<2>().0.iter().map(|bytes| half::f16::from_le_bytes(*bytes).to_f32()).collect()
}

fn integers(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes) as f32).collect()
}
