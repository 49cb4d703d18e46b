//! What a model shows of itself: its inputs, its outputs, and what its maker wrote into it.
//!
//! Plain data with bounded text; nothing here knows the runtime or judges a layout.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Ports and metadata that a refusal names, and characters of each: enough to recognise a model by.
const SHOWN_MAX: usize = 16;
const SHOWN_CHARS_MAX: usize = 64;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// Unsigned 8-bit integers.
    U8,
    /// 32-bit floating point numbers.
    F32,
    /// 16-bit floating point numbers, which no layout takes: give a model with 32-bit ports.
    F16,
    /// 32-bit integers.
    I32,
    /// 64-bit integers.
    I64,
    /// Anything that no known layout uses.
    Other,
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// The type of its elements.
    pub element: Element,
    /// Its dimensions, -1 where the model leaves one open.
    pub shape: Vec<i64>,
}

impl Port {
    /// The shape, where the elements are of this type.
    pub(super) fn shape_of(&self, element: Element) -> Option<&[i64]> {
        (self.element == element).then_some(&self.shape)
    }

    /// Takes the dimensions that a run showed for those that are open.
    pub fn settle(&mut self, shown: Vec<i64>) {
        if self.shape.is_empty() || self.shape.contains(&-1) {
            self.shape = shown;
        }
    }
}

/// What a model shows of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Signature {
    /// What it takes.
    pub inputs: Vec<Port>,
    /// What it gives.
    pub outputs: Vec<Port>,
    /// What its maker wrote into it.
    pub metadata: BTreeMap<String, String>,
}

impl Signature {
    /// Whether the model leaves a dimension of an output open; where there are none at all it does not even tell how many.
    pub fn has_open_outputs(&self) -> bool {
        self.outputs.iter().any(|port| port.shape.is_empty() || port.shape.contains(&-1))
    }

    pub(super) fn input(&self, name: &str) -> Option<&Port> {
        self.inputs.iter().find(|port| port.name == name)
    }

    /// An output by its name, whether or not TensorFlow's number of the output (`:0`) stands behind it.
    pub(super) fn output(&self, name: &str) -> Option<&Port> {
        self.outputs.iter().find(|port| port.name.strip_suffix(":0").unwrap_or(&port.name) == name)
    }

    /// The output, where there is only one.
    pub(super) fn only_output(&self) -> Option<&Port> {
        match &self.outputs[..] {
            [only] => Some(only),
            _ => None,
        }
    }
}

/// A text from a model, fit for one line of a log.
pub(super) fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Element::U8 => "u8",
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::I32 => "i32",
            Element::I64 => "i64",
            Element::Other => "another type",
        })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |side: &i64| if *side < 0 { "?".to_owned() } else { side.to_string() };
        let more = if self.shape.len() > SHOWN_MAX { ",…" } else { "" };
        let shape: Vec<_> = self.shape.iter().take(SHOWN_MAX).map(side).collect();
        write!(f, "{} {} [{}{more}]", short(&self.name), self.element, shape.join(","))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ports: &[Port]| {
            let more = if ports.len() > SHOWN_MAX { " and more" } else { "" };
            let shown: Vec<_> = ports.iter().take(SHOWN_MAX).map(Port::to_string).collect();
            format!("{}{more}", shown.join(", "))
        };
        write!(f, "inputs {}; outputs {}", list(&self.inputs), list(&self.outputs))
    }
}
