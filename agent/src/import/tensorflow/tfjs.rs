//! Reads a TensorFlow.js graph model: `model.json` with the graph, and the files with its weights that it names.
//!
//! Source of the format: tfjs-converter's `GraphDef` in JSON, and tfjs-core's `WeightsManifestConfig`.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::{Attribute, Graph, Node, Tensor, elements, floats, halves, integers, shown, value_name};
use crate::import::ImportError;

/// The names of the files with the weights, in their order. Each is a plain name beside the JSON.
pub fn weight_files(json: &[u8]) -> Result<Vec<String>, ImportError> {
    let mut names = Vec::new();
    for group in manifest(&parsed(json)?)? {
        for path in list(group, "paths") {
            let name = path.as_str().unwrap_or_default();
            if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', ':', '\0']) {
                let name = shown(name);
                return Err(ImportError::new(format!("names the file \"{name}\", which is no plain name beside it")));
            }
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The graph, of the JSON and of the weights: all files one after the other.
pub(in crate::import) fn read(json: &[u8], weights: &[u8]) -> Result<Graph, ImportError> {
    let model = parsed(json)?;
    let mut tensors = HashMap::new();
    let mut rest = weights;
    for group in manifest(&model)? {
        for weight in list(group, "weights") {
            let name = weight["name"].as_str().unwrap_or_default();
            tensors.insert(name.to_owned(), tensor(weight, name, &mut rest)?);
        }
    }
    if !rest.is_empty() {
        return Err(ImportError::new(format!("has {} bytes of weights that it does not name", rest.len())));
    }
    let nodes = model["modelTopology"]["node"].as_array();
    let nodes =
        nodes.ok_or_else(|| ImportError::new("has no modelTopology.node; give a graph model, not a layers model"))?;
    let nodes = nodes.iter().map(|node| {
        let text = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
        let inputs = list(node, "input").filter_map(|input| value_name(input.as_str()?)).collect();
        let mut made = Node { name: text("name"), op: text("op"), inputs, attributes: HashMap::new() };
        for (name, value) in node["attr"].as_object().into_iter().flatten() {
            if let Some(attribute) = attribute(value) {
                made.attributes.insert(name.clone(), attribute);
            }
        }
        if let Some(tensor) = tensors.remove(&made.name).filter(|_| made.op == "Const") {
            made.attributes.insert("value".into(), Attribute::Tensor(tensor));
        }
        made
    });
    Graph::new(nodes.collect())
}

fn parsed(json: &[u8]) -> Result<Value, ImportError> {
    let model: Value = serde_json::from_slice(json).map_err(|e| {
        ImportError::new(format!("is no JSON ({e}); give the model.json of a TensorFlow.js graph model"))
    })?;
    if model["format"].as_str().is_some_and(|format| format != "graph-model") {
        return Err(ImportError::new("is no graph model; convert it with tensorflowjs_converter"));
    }
    Ok(model)
}

fn manifest(model: &Value) -> Result<&[Value], ImportError> {
    let groups = model["weightsManifest"].as_array();
    groups
        .map(Vec::as_slice)
        .ok_or_else(|| ImportError::new("has no weightsManifest; give a TensorFlow.js graph model"))
}

fn list<'a>(of: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    of[key].as_array().into_iter().flatten()
}

/// Takes a tensor from the front of the weights.
fn tensor(weight: &Value, name: &str, rest: &mut &[u8]) -> Result<Tensor, ImportError> {
    let wrong = |what: &str| ImportError::new(format!("has the weights {}, whose {what}", shown(name)));
    let sides: Option<Vec<usize>> =
        list(weight, "shape").map(|side| side.as_u64().and_then(|side| usize::try_from(side).ok())).collect();
    let dims = sides.ok_or_else(|| wrong("shape is none"))?;
    let elements = elements(&dims).ok_or_else(|| wrong("shape is too large"))?;
    let quantization = &weight["quantization"];
    let stored = quantization["dtype"].as_str().or_else(|| weight["dtype"].as_str()).unwrap_or_default();
    let width = match stored {
        "float32" | "int32" => 4,
        "float16" | "uint16" => 2,
        "uint8" | "bool" => 1,
        _ => return Err(wrong("type is not known; convert the model with float32 or float16 weights")),
    };
    let bytes = elements.checked_mul(width).and_then(|bytes| rest.split_at_checked(bytes));
    let (bytes, behind) = bytes.ok_or_else(|| wrong("bytes are missing; copy the weights again"))?;
    *rest = behind;
    // Whole numbers of 8 and 16 bits stand for `scale` times themselves, counted from `min`.
    let affine = |number: f32| {
        let of = |key: &str, otherwise| quantization[key].as_f64().map_or(otherwise, |number| number as f32);
        number * of("scale", 1.0) + of("min", 0.0)
    };
    let data = match stored {
        "float32" => floats(bytes),
        "int32" => integers(bytes),
        "float16" => halves(bytes),
        "uint16" => bytes.as_chunks::<2>().0.iter().map(|b| affine(u16::from_le_bytes(*b).into())).collect(),
        _ => bytes.iter().map(|b| affine((*b).into())).collect(),
    };
    Ok(Tensor { dims, data })
}

/// An attribute as protobuf's JSON form has it: 64-bit integers are texts, bytes are base64.
fn attribute(value: &Value) -> Option<Attribute> {
    let integer = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
    let text = |value: &Value| String::from_utf8(BASE64.decode(value.as_str()?).ok()?).ok();
    let shape = |value: &Value| -> Option<Vec<i64>> { list(value, "dim").map(|dim| integer(&dim["size"])).collect() };
    let (kind, value) = value.as_object()?.iter().next()?;
    match kind.as_str() {
        "i" => Some(Attribute::Integers(vec![integer(value)?])),
        "f" => Some(Attribute::Float(value.as_f64()? as f32)),
        "b" => Some(Attribute::Bool(value.as_bool()?)),
        "s" => Some(Attribute::Texts(vec![text(value)?])),
        "shape" => Some(Attribute::Shape(shape(value)?)),
        "list" if value["i"].is_array() => Some(Attribute::Integers(list(value, "i").filter_map(integer).collect())),
        "list" if value["s"].is_array() => Some(Attribute::Texts(list(value, "s").filter_map(text).collect())),
        _ => None,
    }
}
