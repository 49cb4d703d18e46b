//! Reads a model file just far enough to decide whether the runtime may see it.
//!
//! ONNX is a protocol buffer; this walks its messages without copying. It refuses whatever makes the runtime open
//! another file: a model may come from elsewhere, and the runtime reads any path that a tensor names. It refuses what
//! makes the runtime take memory that the file does not have, and operators that need code from elsewhere. Nothing here
//! understands the graph, and no bytes make it panic. Field numbers are those of `onnx.proto3`.

mod circle;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use circle::Feeds;
use picket_shared::event::Precision;
use wire::{Fields, Value};

/// Largest model file: the large members of the known families have about 100 MB.
pub const MODEL_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Graphs within graphs (`If`, `Loop`) that are followed.
const DEPTH_MAX: usize = 8;
/// Nodes of all graphs together: large detectors have some thousands. The runtime takes a kilobyte and more for each.
const NODES_MAX: usize = 100_000;
/// Operator sets that are shown.
const OPSETS_MAX: usize = 16;
/// Dimensions of a tensor.
const RANK_MAX: usize = 16;
/// Whose operators the runtime has inside: ONNX's own and its own.
const DOMAINS: [&[u8]; 5] = [b"", b"ai.onnx", b"ai.onnx.ml", b"com.microsoft", b"com.microsoft.nchwc"];
/// Characters of a text from the model that a sentence shows.
const SHOWN_CHARS_MAX: usize = 80;

/// Why a file is not given to the runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OnnxError {
    /// No bytes.
    #[error("is empty; copy it again")]
    Empty,
    /// More than [`MODEL_BYTES_MAX`].
    #[error("has more than {MODEL_BYTES_MAX} bytes; use a smaller model")]
    TooLarge,
    /// Fields that no ONNX file has.
    #[error("is not an ONNX file; export the model to ONNX")]
    NotOnnx,
    /// A length that goes beyond the end.
    #[error("is cut short, or is not an ONNX file; copy it again")]
    CutShort,
    /// The runtime's own format, which cannot be looked through.
    #[error("is in ORT format; give the ONNX file that it was made from")]
    OrtFormat,
    /// Weights in another file.
    #[error("keeps the tensor \"{0}\" in another file, which is refused; save it with all weights inside")]
    External(String),
    /// An engine built elsewhere, often in another file, and code as much as data.
    #[error("holds a ready-built engine (EPContext), which is refused; give the plain ONNX file")]
    Engine,
    /// A tensor whose dimensions and bytes do not belong together.
    #[error("has the tensor \"{0}\", whose size and bytes do not agree; copy it again")]
    TensorSize(String),
    /// More nodes than any detector has.
    #[error("has more than {NODES_MAX} nodes; use a smaller model")]
    TooManyNodes,
    /// Operators that are code from elsewhere.
    #[error("uses the operator {0}, which the runtime does not have; export it with standard operators")]
    Operator(String),
    /// Graphs within graphs beyond what is followed.
    #[error("nests graphs more than {DEPTH_MAX} deep; simplify the model")]
    TooDeep,
    /// A part that comes in pieces: the runtime puts together what is judged here one by one.
    #[error("has a graph or a tensor in pieces, where it should be whole; export the model again")]
    InPieces,
    /// Nodes, or functions, that wait for each other.
    #[error("has nodes that feed each other in a circle; export the model again")]
    Circle,
}

/// What a look through a model file shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// What its numbers are computed in.
    pub precision: Precision,
    /// The version of the file's format.
    pub ir_version: u64,
    /// The versions of the operator sets, by domain; ONNX's own is "".
    pub opsets: Vec<(String, u64)>,
    /// The program that wrote it.
    pub producer: String,
    /// Nodes of all graphs.
    pub nodes: usize,
}

/// Looks through a model file, and refuses what the runtime must not see.
pub fn scan(bytes: &[u8]) -> Result<Scan, OnnxError> {
    if bytes.is_empty() {
        return Err(OnnxError::Empty);
    }
    if bytes.len() > MODEL_BYTES_MAX {
        return Err(OnnxError::TooLarge);
    }
    // The runtime takes such bytes for its own format, whatever else they are.
    if bytes.get(4..8) == Some(b"ORTM") {
        return Err(OnnxError::OrtFormat);
    }
    let mut walk = Walk::default();
    walk.model(bytes)?;
    if walk.nodes == 0 {
        return Err(OnnxError::NotOnnx);
    }
    let opsets = walk.opsets.iter().map(|(domain, version)| (shown(domain), *version)).collect();
    Ok(Scan {
        precision: walk.precision(),
        ir_version: walk.ir_version,
        opsets,
        producer: shown(walk.producer),
        nodes: walk.nodes,
    })
}

/// A text from the model, fit for one line.
fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}

/// What was seen on the way.
#[derive(Default)]
struct Walk<'a> {
    nodes: usize,
    ir_version: u64,
    producer: &'a [u8],
    opsets: Vec<(&'a [u8], u64)>,
    /// Operators that the model itself is made of, by domain and name.
    functions: HashSet<(&'a [u8], &'a [u8])>,
    /// Operators of domains that the runtime does not have; fine only if a function is what they mean.
    foreign: Vec<(&'a [u8], &'a [u8])>,
    /// Which function calls which.
    calls: Feeds<(&'a [u8], &'a [u8])>,
    quantized: bool,
    /// Tensors stored in 16 bits. Many models only store them so, and compute in 32.
    halves: HashSet<&'a [u8]>,
    /// What goes straight into the nodes that do the work.
    operands: Vec<&'a [u8]>,
}

impl<'a> Walk<'a> {
    fn precision(&self) -> Precision {
        if self.quantized {
            Precision::Int8
        } else if self.operands.iter().any(|name| self.halves.contains(name)) {
            Precision::Fp16
        } else {
            Precision::Fp32
        }
    }

    fn model(&mut self, bytes: &'a [u8]) -> Result<(), OnnxError> {
        let mut whole = Whole::default();
        for field in Fields(bytes) {
            match field? {
                (1, Value::Number(version)) => self.ir_version = version,
                (2, Value::Bytes(producer)) => self.producer = producer,
                (7, Value::Bytes(graph)) => {
                    self.graph(graph, 0)?;
                    whole.has(7)?;
                }
                (8, Value::Bytes(opset)) => self.opset(opset)?,
                (20, Value::Bytes(training)) => {
                    let mut whole = Whole::default();
                    for field in Fields(training) {
                        if let (number @ (1 | 2), Value::Bytes(graph)) = field? {
                            self.graph(graph, 0)?;
                            whole.has(number)?;
                        }
                    }
                }
                (25, Value::Bytes(function)) => {
                    let (mut name, mut domain): (&[u8], &[u8]) = (b"", b"");
                    let (mut feeds, mut called) = (Feeds::default(), Vec::new());
                    for field in Fields(function) {
                        match field? {
                            (1, Value::Bytes(text)) => name = text,
                            (10, Value::Bytes(text)) => domain = text,
                            (7, Value::Bytes(node)) => called.push(self.node(node, 0, &mut feeds)?),
                            (11, Value::Bytes(attribute)) => self.attribute(attribute, 0)?,
                            _ => {}
                        }
                    }
                    if feeds.is_circle() {
                        return Err(OnnxError::Circle);
                    }
                    self.functions.insert((domain, name));
                    self.calls.add(&[(domain, name)], &called);
                }
                _ => {}
            }
        }
        if self.calls.is_circle() {
            return Err(OnnxError::Circle);
        }
        match self.foreign.iter().find(|operator| !self.functions.contains(*operator)) {
            Some((domain, name)) => Err(OnnxError::Operator(format!("{}.{}", shown(domain), shown(name)))),
            None => Ok(()),
        }
    }

    fn opset(&mut self, bytes: &'a [u8]) -> Result<(), OnnxError> {
        let (mut domain, mut version): (&[u8], u64) = (b"", 0);
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(text)) => domain = text,
                (2, Value::Number(number)) => version = number,
                _ => {}
            }
        }
        if self.opsets.len() < OPSETS_MAX {
            self.opsets.push((domain, version));
        }
        Ok(())
    }

    fn graph(&mut self, bytes: &'a [u8], depth: usize) -> Result<(), OnnxError> {
        if depth > DEPTH_MAX {
            return Err(OnnxError::TooDeep);
        }
        let mut feeds = Feeds::default();
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(node)) => {
                    self.node(node, depth, &mut feeds)?;
                }
                (5, Value::Bytes(tensor)) => self.tensor(tensor)?,
                (15, Value::Bytes(sparse)) => self.sparse(sparse)?,
                _ => {}
            }
        }
        if feeds.is_circle() { Err(OnnxError::Circle) } else { Ok(()) }
    }

    /// Which operator the node is, by domain and name.
    fn node(
        &mut self,
        bytes: &'a [u8],
        depth: usize,
        feeds: &mut Feeds<&'a [u8]>,
    ) -> Result<(&'a [u8], &'a [u8]), OnnxError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(OnnxError::TooManyNodes);
        }
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        let (mut kind, mut domain): (&[u8], &[u8]) = (b"", b"");
        for field in Fields(bytes) {
            match field? {
                // Without a name it is none.
                (1, Value::Bytes(input)) if !input.is_empty() => inputs.push(input),
                (2, Value::Bytes(output)) if !output.is_empty() => outputs.push(output),
                (4, Value::Bytes(op_type)) => kind = op_type,
                (5, Value::Bytes(attribute)) => self.attribute(attribute, depth)?,
                (7, Value::Bytes(text)) => domain = text,
                _ => {}
            }
        }
        feeds.add(&outputs, &inputs);
        if !DOMAINS.contains(&domain) {
            self.foreign.push((domain, kind));
        }
        match kind {
            b"EPContext" => return Err(OnnxError::Engine),
            b"Conv" | b"ConvTranspose" | b"MatMul" | b"Gemm" => self.operands.extend(inputs),
            // DequantizeLinear alone would be weights that are only stored in 8 bits.
            b"QuantizeLinear"
            | b"DynamicQuantizeLinear"
            | b"QLinearConv"
            | b"QLinearMatMul"
            | b"ConvInteger"
            | b"MatMulInteger" => self.quantized = true,
            _ => {}
        }
        Ok((domain, kind))
    }

    fn attribute(&mut self, bytes: &'a [u8], depth: usize) -> Result<(), OnnxError> {
        let mut whole = Whole::default();
        for field in Fields(bytes) {
            let (number, value) = field?;
            match (number, value) {
                (5 | 10, Value::Bytes(tensor)) => self.tensor(tensor)?,
                (6 | 11, Value::Bytes(graph)) => self.graph(graph, depth + 1)?,
                (22 | 23, Value::Bytes(sparse)) => self.sparse(sparse)?,
                _ => continue,
            }
            if matches!(number, 5 | 6 | 22) {
                whole.has(number)?;
            }
        }
        Ok(())
    }

    fn sparse(&mut self, bytes: &'a [u8]) -> Result<(), OnnxError> {
        let mut whole = Whole::default();
        for field in Fields(bytes) {
            if let (number @ (1 | 2), Value::Bytes(tensor)) = field? {
                self.tensor(tensor)?;
                whole.has(number)?;
            }
        }
        Ok(())
    }

    fn tensor(&mut self, bytes: &'a [u8]) -> Result<(), OnnxError> {
        let (mut name, mut external, mut data_type): (&[u8], _, _) = (b"", false, 0);
        let (mut size, mut raw) = (Size::default(), None);
        for field in Fields(bytes) {
            match field? {
                (1, Value::Number(side)) => size.add(side),
                (1, Value::Bytes(packed)) => {
                    let mut sides = Fields(packed);
                    while !sides.0.is_empty() {
                        size.add(sides.varint()?);
                    }
                }
                (2, Value::Number(number)) => data_type = number,
                (8, Value::Bytes(text)) => name = text,
                (9, Value::Bytes(data)) => raw = Some(data),
                // The list of places, whatever data_location says of it.
                (13, _) => external = true,
                (14, Value::Number(location)) => external |= location != 0,
                _ => {}
            }
        }
        if external {
            return Err(OnnxError::External(shown(name)));
        }
        if !size.fits(data_type, raw.map(<[u8]>::len), bytes.len()) {
            return Err(OnnxError::TensorSize(shown(name)));
        }
        if data_type == FLOAT16 {
            self.halves.insert(name);
        }
        Ok(())
    }
}

/// Which messages were seen in another that has one of each at most. A reader of protocol buffers merges those that come again, so
/// what is refused as a whole could come in pieces of which each is fine.
#[derive(Default)]
struct Whole(u32);

impl Whole {
    fn has(&mut self, number: u32) -> Result<(), OnnxError> {
        let bit = 1 << number;
        if self.0 & bit != 0 {
            return Err(OnnxError::InPieces);
        }
        self.0 |= bit;
        Ok(())
    }
}

/// `TensorProto.DataType.FLOAT16`.
const FLOAT16: u64 = 10;

/// How many elements a tensor says that it has.
struct Size {
    rank: usize,
    /// `None` where there are more than any file holds.
    elements: Option<usize>,
}

impl Default for Size {
    fn default() -> Self {
        Size { rank: 0, elements: Some(1) }
    }
}

impl Size {
    fn add(&mut self, side: u64) {
        self.rank += 1;
        let side = usize::try_from(side).ok();
        let product = self.elements.zip(side).and_then(|(elements, side)| elements.checked_mul(side));
        // A side of 0 must not hide a giant beside it.
        self.elements = product.filter(|_| side.is_some_and(|side| side <= MODEL_BYTES_MAX));
    }

    /// Whether a tensor of this size may have so many raw bytes, or, where its numbers stand in other fields (`None`), so
    /// many bytes altogether: nothing has more than eight elements in a byte.
    fn fits(&self, data_type: u64, raw: Option<usize>, bytes: usize) -> bool {
        let Some(elements) = self.elements.filter(|elements| self.rank <= RANK_MAX && *elements / 8 <= bytes) else {
            return false;
        };
        let width = match data_type {
            // Bytes: UINT8, INT8, BOOL, and the four FLOAT8.
            2 | 3 | 9 | 17..=20 => 1,
            // UINT16, INT16, FLOAT16, BFLOAT16.
            4 | 5 | FLOAT16 | 16 => 2,
            // FLOAT, INT32, UINT32.
            1 | 6 | 12 => 4,
            // INT64, DOUBLE, UINT64, COMPLEX64.
            7 | 11 | 13 | 14 => 8,
            // Two elements and more in a byte, and what is not known: the bound above is all.
            _ => return true,
        };
        raw.is_none_or(|raw| elements.checked_mul(width) == Some(raw))
    }
}
