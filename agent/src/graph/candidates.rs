//! The last part of a graph: the best candidates, with what the class head saw of them, and a head that comes in as inputs.
//!
//! For families whose class head is several convolutions of different widths, of which each level of the picture has its
//! own. The head that comes in is what is added to their logits: weights for the widest level's features (narrower ones go
//! on with zeros) and a bias, all of them zero when it leaves the factory. So every family gives what CenterNet gives:
//! `boxes` [N,4], `scores` [N] from the highest down, `index` [N], `features` [N,C], of `cls_w` [1,C,1,1] and `cls_b` [1].

use super::build::{Builder, int, ints, node, port};
use super::proto::{ValueInfoProto, element};

/// One level of the picture.
pub(crate) struct Level {
    /// What its class head reads: [1, channels, rows, columns].
    pub(crate) features: String,
    pub(crate) channels: usize,
    /// Rows times columns.
    pub(crate) cells: usize,
    /// Candidates of one cell, which follow each other.
    pub(crate) each: usize,
}

/// Adds it, and says how many channels there are and how many candidates. `boxes` is [4, A]: x1, y1, x2, y2 as parts of the
/// picture; `logits` is [A]; level by level, cell by cell.
pub(crate) fn best(out: &mut Builder, levels: &[Level], boxes: &str, logits: &str, count_max: usize) -> (usize, usize) {
    let channels = levels.iter().map(|level| level.channels).max().unwrap_or(0);
    let count = count_max.min(levels.iter().map(|level| level.cells * level.each).sum());
    let mut rows = Vec::new();
    for level in levels {
        let shape = out.integers("w", &[2], &[level.channels as i64, level.cells as i64]);
        let mut flat = out.node("ff", "Reshape", &[&level.features, &shape], vec![]);
        if level.channels < channels {
            let more = [channels - level.channels, level.cells];
            let zeros = out.floats("zero", &more, vec![0.0; more[0] * more[1]]);
            flat = out.node("fw", "Concat", &[&flat, &zeros], vec![int("axis", 0)]);
        }
        rows.push(flat);
    }
    let names: Vec<&str> = rows.iter().map(String::as_str).collect();
    let features = out.node("fa", "Concat", &names, vec![int("axis", 1)]);
    let shape = out.integers("w", &[2], &[1, channels as i64]);
    let head = out.node("hw", "Reshape", &["cls_w", &shape], vec![]);
    let moved = out.node("hm", "MatMul", &[&head, &features], vec![]);
    let flat = out.integers("w", &[1], &[-1]);
    let mut moved = out.node("hf", "Reshape", &[&moved, &flat], vec![]);
    // Of each candidate its cell, where a cell has several.
    let several = levels.iter().any(|level| level.each != 1);
    let mut cell_of = Vec::new();
    let mut first = 0;
    for level in levels {
        cell_of.extend((0..level.cells * level.each).map(|at| (first + at / level.each) as i64));
        first += level.cells;
    }
    let cell_of = several.then(|| out.integers("cell", &[cell_of.len()], &cell_of));
    if let Some(cell_of) = &cell_of {
        moved = out.node("hc", "Gather", &[&moved, cell_of], vec![int("axis", 0)]);
    }
    let moved = out.node("hb", "Add", &[&moved, "cls_b"], vec![]);
    let logits = out.node("lg", "Add", &[logits, &moved], vec![]);
    let wanted = out.integers("w", &[1], &[count as i64]);
    let (top, index) = (out.fresh("tk"), out.fresh("tk"));
    let highest = vec![int("axis", 0), int("largest", 1), int("sorted", 1)];
    out.nodes.push(node(&top, "TopK", &[&logits, &wanted], &[&top, &index], highest));
    out.named("scores", "Sigmoid", &[&top], vec![]);
    out.named("index", "Identity", &[&index], vec![]);
    let cells = cell_of.map(|cell_of| out.node("ci", "Gather", &[&cell_of, &index], vec![int("axis", 0)]));
    for (what, values, at, name) in
        [("bg", boxes, &index, "boxes"), ("fg", features.as_str(), cells.as_ref().unwrap_or(&index), "features")]
    {
        let chosen = out.node(what, "Gather", &[values, at], vec![int("axis", 1)]);
        out.named(name, "Transpose", &[&chosen], vec![ints("perm", &[1, 0])]);
    }
    (channels, count)
}

/// The inputs and outputs of such a model.
pub(crate) fn ports(
    width: usize,
    height: usize,
    channels: usize,
    count: usize,
) -> (Vec<ValueInfoProto>, Vec<ValueInfoProto>) {
    let inputs = vec![
        port("image", element::UINT8, &[1, height, width, 3]),
        port("cls_w", element::FLOAT, &[1, channels, 1, 1]),
        port("cls_b", element::FLOAT, &[1]),
    ];
    let outputs = vec![
        port("boxes", element::FLOAT, &[count, 4]),
        port("scores", element::FLOAT, &[count]),
        port("index", element::INT64, &[count]),
        port("features", element::FLOAT, &[count, channels]),
    ];
    (inputs, outputs)
}
