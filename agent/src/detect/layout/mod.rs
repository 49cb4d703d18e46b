//! Recognises what a model's inputs and outputs mean, and turns its numbers into detections.
//!
//! A layout is known by names, element types, shapes and metadata; one that is not known is refused with what was
//! seen. Pure: nothing here knows the runtime, and no number that a model gives makes it panic. Each family is a file.

mod centernet;

use std::collections::BTreeMap;
use std::fmt;

use super::preprocess::Letterbox;
use crate::frame::Detection;

pub use centernet::CenterNet;

/// Longest side of a model's picture, in pixels.
pub const SIDE_MAX: i64 = 4096;
/// Most boxes that a model may give for one picture.
pub const BOXES_MAX: i64 = 100_000;
/// Ports and metadata that a refusal names, and characters of each: enough to recognise a model by.
const SHOWN_MAX: usize = 16;
const SHOWN_CHARS_MAX: usize = 64;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Unsigned 8-bit integers.
    U8,
    /// 32-bit floating point numbers.
    F32,
    /// 64-bit integers.
    I64,
    /// Anything that no known layout uses.
    Other,
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// The type of its elements.
    pub element: Element,
    /// Its dimensions, -1 where the model leaves one open.
    pub shape: Vec<i64>,
}

/// What a model shows of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signature {
    /// What it takes.
    pub inputs: Vec<Port>,
    /// What it gives.
    pub outputs: Vec<Port>,
    /// What its maker wrote into it.
    pub metadata: BTreeMap<String, String>,
}

impl Signature {
    fn input(&self, name: &str) -> Option<&Port> {
        self.inputs.iter().find(|port| port.name == name)
    }

    fn output(&self, name: &str) -> Option<&Port> {
        self.outputs.iter().find(|port| port.name == name)
    }
}

/// The layouts that are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// CenterNet, with peaks already picked.
    CenterNet(CenterNet),
}

/// The outputs that a layout reads.
#[derive(Debug, Clone, Copy)]
pub struct Outputs<'a> {
    /// Four numbers a box.
    pub boxes: &'a [f32],
    /// One number a box.
    pub scores: &'a [f32],
}

impl Layout {
    /// Recognises a layout, or says what was seen and what is known.
    pub fn recognise(signature: &Signature) -> Result<Layout, String> {
        // Another class would be reported as a person without anybody noticing.
        if let Some(classes) = signature.metadata.get("classes").filter(|classes| *classes != "person") {
            return Err(format!(
                "finds \"{}\" by its metadata, and only models cut to \"person\" are known",
                short(classes)
            ));
        }
        centernet::recognise(signature).map(Layout::CenterNet).ok_or_else(|| {
            format!("has a layout that is not known: {signature}; known, with fixed sizes: {}", centernet::KNOWN)
        })
    }

    /// A short name for health and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Layout::CenterNet(CenterNet { head: Some(_), .. }) => "centernet-top",
            Layout::CenterNet(CenterNet { head: None, .. }) => "centernet",
        }
    }

    /// Width and height of the model's picture.
    pub fn picture(&self) -> (u32, u32) {
        match self {
            Layout::CenterNet(layout) => layout.picture,
        }
    }

    /// Weights of the head that the model takes as inputs, without the bias; `None` where it has its own.
    pub fn head(&self) -> Option<usize> {
        match self {
            Layout::CenterNet(layout) => layout.head,
        }
    }

    /// Adds the boxes that score at least `score_min` to `found`, in pixels of the frame and cut at its edges.
    ///
    /// Gives back the number of boxes that were dropped because a number in them cannot be: not finite, a score that
    /// is no probability, edges that are crossed or far outside the picture, boxes announced and not there.
    pub fn decode(&self, outputs: Outputs, lies: &Letterbox, score_min: f32, found: &mut Vec<Detection>) -> u64 {
        match self {
            Layout::CenterNet(layout) => layout.decode(outputs, lies, score_min, found),
        }
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let element = match self.element {
            Element::U8 => "u8",
            Element::F32 => "f32",
            Element::I64 => "i64",
            Element::Other => "another type",
        };
        let shape: Vec<_> =
            self.shape.iter().map(|side| if *side < 0 { "?".to_owned() } else { side.to_string() }).collect();
        write!(f, "{} {element} [{}]", short(&self.name), shape.join(","))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, element: Element, shape: &[i64]) -> Port {
        Port { name: name.into(), element, shape: shape.to_vec() }
    }

    fn signature(inputs: Vec<Port>, outputs: Vec<Port>) -> Signature {
        Signature { inputs, outputs, metadata: BTreeMap::new() }
    }

    fn top() -> Signature {
        let (u8, f32, i64) = (Element::U8, Element::F32, Element::I64);
        signature(
            vec![port("image", u8, &[1, 288, 384, 3]), port("cls_w", f32, &[1, 128, 1, 1]), port("cls_b", f32, &[1])],
            vec![
                port("boxes", f32, &[100, 4]),
                port("scores", f32, &[100]),
                port("index", i64, &[100]),
                port("features", f32, &[100, 128]),
            ],
        )
    }

    fn plain() -> Signature {
        let boxes = port("boxes", Element::F32, &[1, 6912, 4]);
        signature(
            vec![port("image", Element::U8, &[1, 288, 384, 3])],
            vec![boxes, port("scores", Element::F32, &[1, 6912])],
        )
    }

    #[test]
    fn known_layouts_are_recognised() {
        for (signature, name, head) in [(top(), "centernet-top", Some(128)), (plain(), "centernet", None)] {
            let layout = Layout::recognise(&signature).unwrap();
            assert_eq!((layout.name(), layout.picture(), layout.head()), (name, (384, 288), head));
        }
        let mut turned = top();
        turned.outputs.reverse();
        turned.metadata.insert("classes".into(), "person".into());
        assert_eq!(Layout::recognise(&turned), Layout::recognise(&top()), "by name, whatever the order");
    }

    /// A change to a model's ports.
    type Change = fn(&mut Signature);

    #[test]
    fn anything_else_is_refused_with_what_was_seen() {
        let changes: [(Change, &str); 12] = [
            (|s| s.inputs[0].element = Element::F32, "image f32 [1,288,384,3]"),
            (|s| s.inputs[0].shape = vec![1, 3, 288, 384], "image u8 [1,3,288,384]"),
            (|s| s.inputs[0].shape[0] = 2, "image u8 [2,288,384,3]"),
            (|s| s.inputs[0].shape[1] = -1, "image u8 [1,?,384,3]"),
            (|s| s.inputs[0].shape[2] = SIDE_MAX + 1, "[1,288,4097,3]"),
            (|s| s.inputs[0].shape[2] = 0, "[1,288,0,3]"),
            (|s| s.inputs[0].name = "images".into(), "inputs images u8"),
            (|s| s.inputs.push(port("sizes", Element::I64, &[1, 2])), "sizes i64 [1,2]"),
            (|s| s.outputs[0].shape = vec![6912, 5], "boxes f32 [6912,5]"),
            (|s| s.outputs[1].element = Element::Other, "scores another type"),
            (|s| s.outputs[1].shape[0] = 99, "scores f32 [99"),
            (|s| s.outputs.clear(), "outputs ; known"),
        ];
        for (change, expect) in changes {
            for mut signature in [top(), plain()] {
                change(&mut signature);
                let refusal = Layout::recognise(&signature).unwrap_err();
                assert!(refusal.contains(expect), "{expect}: {refusal}");
                assert!(refusal.contains("known, with fixed sizes: CenterNet"), "{refusal}");
            }
        }
        let changes: [Change; 4] = [
            |s| s.inputs[1].shape[1] = -1,
            |s| s.inputs[2].shape[0] = 2,
            |s| drop(s.inputs.pop()),
            |s| s.outputs[3].shape[1] = 64,
        ];
        for change in changes {
            let mut signature = top();
            change(&mut signature);
            assert!(Layout::recognise(&signature).is_err(), "{signature}");
        }
    }

    #[test]
    fn a_model_of_another_class_is_not_taken_for_one_of_people() {
        let mut cars = top();
        cars.metadata.insert("classes".into(), "car".into());
        assert!(Layout::recognise(&cars).unwrap_err().contains("finds \"car\""));
    }

    #[test]
    fn a_refusal_is_one_line_of_bounded_length_whatever_the_model_says() {
        let mut wide = plain();
        wide.inputs = (0..1000).map(|_| port(&"x\n".repeat(1000), Element::Other, &[1; 8])).collect();
        let refusal = Layout::recognise(&wide).unwrap_err();
        assert!(refusal.len() < 4000 && !refusal.contains('\n') && refusal.contains(" and more"), "{refusal}");
    }
}
