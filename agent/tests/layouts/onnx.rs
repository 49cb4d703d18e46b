//! Writes small ONNX files by hand: protocol buffer fields, field numbers as in `onnx.proto3`. Only what tests need.

/// A tensor's elements.
#[derive(Clone)]
pub(crate) enum Data {
    F32(Vec<f32>),
    I64(Vec<i64>),
}

impl Data {
    fn kind(&self) -> u64 {
        match self {
            Data::F32(_) => 1,
            Data::I64(_) => 7,
        }
    }

    fn raw(&self) -> Vec<u8> {
        match self {
            Data::F32(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
            Data::I64(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
        }
    }
}

/// An input's elements.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    F32 = 1,
    U8 = 2,
    I64 = 7,
}

/// A model in the making.
#[derive(Default, Clone)]
pub(crate) struct Model {
    graph: Vec<u8>,
    metadata: Vec<u8>,
}

impl Model {
    /// With one picture of 32-bit numbers, channel by channel, named `images`.
    pub(crate) fn of_picture(width: i64, height: i64) -> Model {
        Model::default().input("images", Kind::F32, &[1, 3, height, width])
    }

    pub(crate) fn input(mut self, name: &str, kind: Kind, shape: &[i64]) -> Model {
        self.graph.extend(message(11, &[&port(name, kind as u64, shape)]));
        self
    }

    /// An output that is always the same.
    pub(crate) fn gives(self, name: &str, shape: &[i64], data: Data) -> Model {
        let value = format!("{name}_value");
        let kind = data.kind();
        self.constant(&value, shape, data).node("Identity", &[&value], name, &[]).output(name, kind, shape)
    }

    pub(crate) fn output(mut self, name: &str, kind: u64, shape: &[i64]) -> Model {
        self.graph.extend(message(12, &[&port(name, kind, shape)]));
        self
    }

    pub(crate) fn constant(mut self, name: &str, shape: &[i64], data: Data) -> Model {
        let sides: Vec<u8> = shape.iter().flat_map(|side| number(1, *side as u64)).collect();
        let tensor = [sides, number(2, data.kind()), text(8, name), message(9, &[&data.raw()])].concat();
        self.graph.extend(message(5, &[&tensor]));
        self
    }

    /// A node with whole-numbered attributes.
    pub(crate) fn node(mut self, kind: &str, inputs: &[&str], output: &str, attributes: &[(&str, i64)]) -> Model {
        self.graph.extend(message(1, &[&node(kind, inputs, output, attributes)]));
        self
    }

    pub(crate) fn says(mut self, key: &str, value: &str) -> Model {
        self.metadata.extend(message(14, &[&text(1, key), &text(2, value)]));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let opset = message(8, &[&number(2, 17)]);
        [number(1, 8), message(7, &[&self.graph, &text(2, "test")]), opset, self.metadata.clone()].concat()
    }
}

/// One node's message.
pub(crate) fn node(kind: &str, inputs: &[&str], output: &str, attributes: &[(&str, i64)]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| text(1, name)).collect();
    let attributes = attributes.iter();
    let attributes =
        attributes.map(|(name, value)| message(5, &[&text(1, name), &number(3, *value as u64), &number(20, 2)]));
    [inputs, text(2, output), text(4, kind), attributes.collect::<Vec<_>>().concat()].concat()
}

fn port(name: &str, kind: u64, shape: &[i64]) -> Vec<u8> {
    let side = |side: &i64| if *side < 0 { text(2, "open") } else { number(1, *side as u64) };
    let sides: Vec<u8> = shape.iter().flat_map(|of| message(1, &[&side(of)])).collect();
    let tensor = [number(1, kind), message(2, &[&sides])].concat();
    [text(1, name), message(2, &[&message(1, &[&tensor])])].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

pub(crate) fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

pub(crate) fn message(field: u64, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [varint((field << 3) | 2), varint(body.len() as u64), body].concat()
}

pub(crate) fn text(field: u64, value: &str) -> Vec<u8> {
    message(field, &[value.as_bytes()])
}

/// The fields of a message that holds only strings, bytes, messages and whole numbers: number, whole field, and what it
/// holds (empty for a whole number).
pub(crate) fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8], &[u8])> {
    fn take(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for at in 0.. {
            let byte = bytes[at];
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                *bytes = &bytes[at + 1..];
                return value;
            }
        }
        unreachable!()
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let mut rest = bytes;
        let tag = take(&mut rest);
        let mut body: &[u8] = &[];
        match tag & 7 {
            0 => drop(take(&mut rest)),
            2 => {
                let length = take(&mut rest) as usize;
                (body, rest) = rest.split_at(length);
            }
            5 => rest = &rest[4..],
            kind => panic!("field of kind {kind}"),
        }
        fields.push((tag >> 3, &bytes[..bytes.len() - rest.len()], body));
        bytes = rest;
    }
    fields
}
