//! What is done to a graph after it was put together: fewer nodes, and weights in 16 bits.

use std::collections::{HashMap, HashSet};

use super::build::{Builder, Constant, Data, float, int, node};
use super::proto::{NodeProto, element};

/// Constants of more elements than this are stored in 16 bits; in smaller ones nothing would be saved.
const HALF_ELEMENTS_MIN: usize = 257;

/// Writes x · min(max(x + 3, 0), 6) / 6 as x · HardSigmoid(x), for which runtimes have a kernel. It moves a score by less
/// than 1e-3: the file's sixth is rounded to 16 bits, this one is not.
pub(crate) fn fuse_hard_swish(builder: &mut Builder) {
    let makers: HashMap<&str, &NodeProto> =
        builder.nodes.iter().filter_map(|node| Some((node.output.first()?.as_str(), node))).collect();
    let constants: HashMap<&str, &Constant> =
        builder.constants.iter().map(|constant| (constant.name.as_str(), constant)).collect();
    let is = |name: &str, wanted: f32| matches!(constants.get(name).map(|found| &found.data), Some(Data::Floats(n)) if n.len() == 1 && (n[0] - wanted).abs() < 1e-3);
    let swished = |mul: &NodeProto| -> Option<String> {
        let of = |op: &str, at: usize| makers.get(mul.input[at].as_str()).copied().filter(|node| node.is(op));
        let (sixth, clip) = [(0, 1), (1, 0)].iter().find_map(|(a, b)| Some((of("Mul", *a)?, of("Clip", *b)?)))?;
        let add = makers.get(clip.input[0].as_str()).filter(|node| node.is("Add"))?;
        let clipped = is(clip.input.get(1)?, 0.0) && is(clip.input.get(2)?, 6.0);
        let x = add.other(|name| is(name, 3.0))?;
        let same = sixth.other(|name| is(name, 1.0 / 6.0))? == x;
        (clipped && same).then(|| x.to_owned())
    };
    let found: Vec<Option<String>> =
        builder.nodes.iter().map(|node| node.is("Mul").then(|| swished(node)).flatten()).collect();
    let nodes = std::mem::take(&mut builder.nodes);
    for (mut mul, x) in nodes.into_iter().zip(found) {
        if let Some(x) = x {
            let gate = builder.node("hs", "HardSigmoid", &[&x], vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)]);
            mul.input = vec![x, gate];
        }
        builder.nodes.push(mul);
    }
}

/// Removes what no output needs.
pub(crate) fn prune(builder: &mut Builder, outputs: &[&str]) {
    let mut needed: HashSet<String> = outputs.iter().map(|name| (*name).to_owned()).collect();
    let mut kept = Vec::new();
    for node in std::mem::take(&mut builder.nodes).into_iter().rev() {
        if node.output.iter().any(|name| needed.contains(name)) {
            needed.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    builder.nodes = kept;
    builder.constants.retain(|constant| needed.contains(&constant.name));
}

/// Stores large constants in 16 bits, and widens them before use: half the bytes and the same speed, because the runtime
/// does it once, while it loads.
pub(crate) fn store_halves(builder: &mut Builder) {
    let large = |constant: &Constant| matches!(&constant.data, Data::Floats(n) if n.len() >= HALF_ELEMENTS_MIN);
    let (large, mut constants): (Vec<_>, Vec<_>) = std::mem::take(&mut builder.constants).into_iter().partition(large);
    let mut nodes = Vec::new();
    for Constant { name, dims, data } in large {
        let Data::Floats(numbers) = data else { continue };
        let stored = format!("{name}_h");
        nodes.push(node(&format!("w_{name}"), "Cast", &[&stored], &[&name], vec![int("to", element::FLOAT.into())]));
        constants.push(Constant { name: stored, dims, data: Data::Halves(numbers) });
    }
    nodes.append(&mut builder.nodes);
    builder.nodes = nodes;
    builder.constants = constants;
}

impl NodeProto {
    /// Whether it is such a node.
    pub(crate) fn is(&self, op: &str) -> bool {
        self.op_type.as_deref() == Some(op)
    }

    /// Of two inputs the one beside the one that is meant.
    fn other(&self, meant: impl Fn(&str) -> bool) -> Option<&str> {
        match self.input.as_slice() {
            [a, b] if meant(a) => Some(b),
            [a, b] if meant(b) => Some(a),
            _ => None,
        }
    }
}
