//! Reads a model file just far enough to decide whether the runtime may see it.
//!
//! ONNX is a protocol buffer; this walks its messages without copying. It refuses whatever makes the runtime open
//! another file: a model may come from elsewhere, and the runtime reads any path that a tensor names. Nothing here
//! understands the graph, and no bytes make it panic. Field numbers are those of `onnx.proto3`.

use std::collections::HashSet;

use picket_shared::event::Precision;

/// Largest model file: the large members of the known families have about 100 MB.
pub const MODEL_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Graphs within graphs (`If`, `Loop`) that are followed.
const DEPTH_MAX: usize = 8;

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
    /// Graphs within graphs beyond what is followed.
    #[error("nests graphs more than {DEPTH_MAX} deep; simplify the model")]
    TooDeep,
}

/// Looks through a model file; the result is what its numbers are computed in.
pub fn scan(bytes: &[u8]) -> Result<Precision, OnnxError> {
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
    Ok(walk.precision())
}

/// What was seen on the way.
#[derive(Default)]
struct Walk<'a> {
    nodes: usize,
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
        for field in Fields(bytes) {
            match field? {
                (7, Value::Bytes(graph)) => self.graph(graph, 0)?,
                (20, Value::Bytes(training)) => {
                    for field in Fields(training) {
                        if let (1 | 2, Value::Bytes(graph)) = field? {
                            self.graph(graph, 0)?;
                        }
                    }
                }
                (25, Value::Bytes(function)) => {
                    for field in Fields(function) {
                        match field? {
                            (7, Value::Bytes(node)) => self.node(node, 0)?,
                            (11, Value::Bytes(attribute)) => self.attribute(attribute, 0)?,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn graph(&mut self, bytes: &'a [u8], depth: usize) -> Result<(), OnnxError> {
        if depth > DEPTH_MAX {
            return Err(OnnxError::TooDeep);
        }
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(node)) => self.node(node, depth)?,
                (5, Value::Bytes(tensor)) => self.tensor(tensor)?,
                (15, Value::Bytes(sparse)) => self.sparse(sparse)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn node(&mut self, bytes: &'a [u8], depth: usize) -> Result<(), OnnxError> {
        self.nodes += 1;
        let mut inputs = Vec::new();
        let mut kind: &[u8] = b"";
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(input)) => inputs.push(input),
                (4, Value::Bytes(op_type)) => kind = op_type,
                (5, Value::Bytes(attribute)) => self.attribute(attribute, depth)?,
                _ => {}
            }
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
        Ok(())
    }

    fn attribute(&mut self, bytes: &'a [u8], depth: usize) -> Result<(), OnnxError> {
        for field in Fields(bytes) {
            match field? {
                (5 | 10, Value::Bytes(tensor)) => self.tensor(tensor)?,
                (6 | 11, Value::Bytes(graph)) => self.graph(graph, depth + 1)?,
                (22 | 23, Value::Bytes(sparse)) => self.sparse(sparse)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn sparse(&mut self, bytes: &'a [u8]) -> Result<(), OnnxError> {
        for field in Fields(bytes) {
            if let (1 | 2, Value::Bytes(tensor)) = field? {
                self.tensor(tensor)?;
            }
        }
        Ok(())
    }

    fn tensor(&mut self, bytes: &'a [u8]) -> Result<(), OnnxError> {
        let (mut name, mut external, mut half): (&[u8], _, _) = (b"", false, false);
        for field in Fields(bytes) {
            match field? {
                (2, Value::Number(data_type)) => half = data_type == 10,
                (8, Value::Bytes(text)) => name = text,
                // The list of places, whatever data_location says of it.
                (13, _) => external = true,
                (14, Value::Number(location)) => external |= location != 0,
                _ => {}
            }
        }
        if external {
            let shown = |c: char| if c.is_control() { '?' } else { c };
            return Err(OnnxError::External(String::from_utf8_lossy(name).chars().take(80).map(shown).collect()));
        }
        if half {
            self.halves.insert(name);
        }
        Ok(())
    }
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of one message in order; after an error there are none.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, OnnxError> {
        let mut value = 0;
        for (at, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Ok(value);
            }
        }
        Err(if self.0.len() < 10 { OnnxError::CutShort } else { OnnxError::NotOnnx })
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], OnnxError> {
        let length = usize::try_from(length).map_err(|_| OnnxError::CutShort)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(OnnxError::CutShort)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), OnnxError> {
        let tag = u32::try_from(self.varint()?).map_err(|_| OnnxError::NotOnnx)?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // 3 and 4 are groups, which ONNX never had.
            _ => return Err(OnnxError::NotOnnx),
        };
        match tag >> 3 {
            0 => Err(OnnxError::NotOnnx),
            number => Ok((number, value)),
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), OnnxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::model::BUILTIN;
    use proptest::prelude::*;

    fn number(field: u8, value: u8) -> Vec<u8> {
        vec![field << 3, value]
    }

    /// A field of up to 16,383 bytes.
    fn message(field: u32, parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        let mut bytes = Vec::new();
        for mut value in [(field << 3) | 2, body.len() as u32] {
            while value > 0x7f {
                bytes.push(value as u8 | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
        }
        bytes.extend(body);
        bytes
    }

    fn node(kind: &str, inputs: &[&str], rest: &[u8]) -> Vec<u8> {
        let inputs: Vec<_> = inputs.iter().map(|name| message(1, &[name.as_bytes()])).collect();
        message(1, &[&inputs.concat(), &message(4, &[kind.as_bytes()]), rest])
    }

    fn model(graph: &[&[u8]]) -> Vec<u8> {
        [number(1, 8), message(7, graph)].concat()
    }

    #[test]
    fn what_the_numbers_are_computed_in_is_seen_from_the_graph() {
        let half = |name: &str| message(5, &[&number(2, 10), &message(8, &[name.as_bytes()])]);
        for (graph, expect) in [
            (vec![node("Conv", &["x", "w"], &[])], Precision::Fp32),
            (vec![node("Conv", &["x", "w"], &[]), half("w")], Precision::Fp16),
            // Stored in 16 bits, and widened before use.
            (vec![node("Cast", &["w"], &[]), node("Conv", &["x", "wide"], &[]), half("w")], Precision::Fp32),
            // In a branch.
            (
                vec![node("If", &["c"], &message(5, &[&message(6, &[&node("Conv", &["x", "w"], &[])])])), half("w")],
                Precision::Fp16,
            ),
            (vec![node("QuantizeLinear", &["x", "s", "z"], &[]), node("Conv", &["x", "w"], &[])], Precision::Int8),
            (vec![node("DequantizeLinear", &["w", "s", "z"], &[]), node("Conv", &["x", "v"], &[])], Precision::Fp32),
        ] {
            let parts: Vec<&[u8]> = graph.iter().map(Vec::as_slice).collect();
            assert_eq!(scan(&model(&parts)), Ok(expect));
        }
        assert_eq!(scan(BUILTIN), Ok(Precision::Fp32));
    }

    #[test]
    fn a_tensor_in_another_file_is_found_wherever_it_hides() {
        let conv = node("Conv", &["x", "w"], &[]);
        let named = message(8, &[b"w"]);
        let place = message(13, &[&message(1, &[b"location"]), &message(2, &[b"etc/passwd"])]);
        let padded = [vec![14 << 3], vec![0x81, 0x80, 0x00]].concat();
        for external in
            [[named.clone(), number(14, 1)].concat(), [named.clone(), place].concat(), [named, padded].concat()]
        {
            let within = |field: u32| message(field, &[&external]);
            let subgraph = |attribute: u32| message(5, &[&message(attribute, &[&within(5)])]);
            for (what, bytes) in [
                ("an initializer", model(&[&conv, &within(5)])),
                ("a sparse initializer's values", model(&[&conv, &message(15, &[&within(1)])])),
                ("a sparse initializer's indices", model(&[&conv, &message(15, &[&within(2)])])),
                ("a constant", model(&[&node("Constant", &[], &message(5, &[&within(5)]))])),
                ("a list of tensors", model(&[&node("Constant", &[], &message(5, &[&within(10)]))])),
                ("a sparse constant", model(&[&node("Constant", &[], &message(5, &[&message(22, &[&within(1)])]))])),
                ("a branch", model(&[&node("If", &["c"], &subgraph(6))])),
                ("a list of graphs", model(&[&node("If", &["c"], &subgraph(11))])),
                ("a second graph field", [model(&[&conv]), message(7, &[&within(5)])].concat()),
                ("training", [model(&[&conv]), message(20, &[&message(1, &[&within(5)])])].concat()),
                ("a function", [model(&[&conv]), message(25, &[&message(7, &[&message(5, &[&within(5)])])])].concat()),
                ("a function's default", [model(&[&conv]), message(25, &[&message(11, &[&within(5)])])].concat()),
            ] {
                assert_eq!(scan(&bytes), Err(OnnxError::External("w".into())), "in {what}");
            }
        }
    }

    #[test]
    fn what_is_not_a_plain_model_is_refused_with_its_reason() {
        let mut deep = message(5, &[]);
        for _ in 0..DEPTH_MAX + 2 {
            deep = node("If", &["c"], &message(5, &[&message(6, &[&deep])]));
        }
        for (bytes, expect) in [
            (vec![], OnnxError::Empty),
            (b"name: picket\nmodel: none\n".to_vec(), OnnxError::NotOnnx),
            (b"\x89PNG\r\n\x1a\n".to_vec(), OnnxError::CutShort),
            (b"\x1c\0\0\0ORTM and so on".to_vec(), OnnxError::OrtFormat),
            (model(&[&message(5, &[])]), OnnxError::NotOnnx),
            (vec![0xff; 20], OnnxError::NotOnnx),
            (model(&[&node("EPContext", &[], &[])]), OnnxError::Engine),
            (model(&[&deep]), OnnxError::TooDeep),
            (BUILTIN[..BUILTIN.len() / 2].to_vec(), OnnxError::CutShort),
        ] {
            assert_eq!(scan(&bytes), Err(expect));
        }
        assert_eq!(scan(&vec![0; MODEL_BYTES_MAX + 1]), Err(OnnxError::TooLarge));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = scan(&bytes);
            let _ = scan(&model(&[&bytes]));
            let _ = scan(&model(&[&node("If", &["c"], &bytes)]));
        }

        #[test]
        fn a_file_that_was_cut_or_hit_is_read_to_a_verdict(cut in 0..BUILTIN.len(), at in 0..BUILTIN.len(), bit in 0..8) {
            let _ = scan(&BUILTIN[..cut]);
            let mut bytes = BUILTIN.to_vec();
            bytes[at] ^= 1u8 << bit;
            let _ = scan(&bytes);
        }
    }
}
