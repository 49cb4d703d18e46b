//! Detection transformers, which need no suppression: RT-DETR and D-FINE with their labels, RF-DETR with its logits, and
//! RT-DETR as Ultralytics exports it.

use super::classes::Numbering;
use super::grid;
use super::input::{Input, Scaling};
use super::sink::{Numbers, Sink, corners_of, sigmoid};
use super::{Decoder, Element, Extra, Family, Reading, Signature, fits};

pub(super) const KNOWN: &str = "outputs labels i64 [1,N], boxes f32 [1,N,4] and scores f32 [1,N] with an input \
                                orig_target_sizes i64 [1,2]; or dets [1,N,4] and labels [1,N,classes]; or one output f32 \
                                [1,N,4+classes], N no count of cells";

/// Queries of a transformer: 100 to 900 in the published ones.
const QUERIES_MAX: i64 = 1000;
/// Fewer rows than this, or rows longer than there are rows, are something else with three dimensions.
const FLAT_QUERIES_MIN: i64 = 100;

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    /// Corners in pixels of the size that was given, scores, and a class's number.
    Labelled,
    /// Centre and sides as parts, and a logit for each class.
    Logits { classes: usize },
    /// The same in one row, with probabilities.
    Flat { classes: usize },
}

pub(super) fn recognise(signature: &Signature, input: &Input) -> Vec<Reading> {
    labelled(signature).or_else(|| logits(signature)).or_else(|| flat(signature, input)).into_iter().collect()
}

fn labelled(signature: &Signature) -> Option<Reading> {
    let sizes = signature.input(super::SIZES_INPUT).filter(|_| signature.inputs.len() == 2)?;
    let [1, 2] = sizes.shape_of(Element::I64)?[..] else { return None };
    let (boxes, scores) = (signature.output("boxes")?, signature.output("scores")?);
    let labels = signature.output("labels")?;
    match (boxes.shape_of(Element::F32)?, scores.shape_of(Element::F32)?, labels.shape_of(Element::I64)?) {
        ([1, n, 4], [1, m], [1, k]) if n == m && n == k => {}
        _ => return None,
    }
    let outputs = [boxes, scores, labels].map(|port| port.name.clone()).to_vec();
    let form = Form::Labelled;
    Some(reading("detr", outputs, vec![Extra::Sizes], Numbering::Named, Scaling::UNIT, form, fits(boxes.shape[1])?))
}

fn logits(signature: &Signature) -> Option<Reading> {
    let (boxes, labels) = (signature.output("dets")?, signature.output("labels")?);
    let ([1, n, 4], [1, m, classes]) = (boxes.shape_of(Element::F32)?, labels.shape_of(Element::F32)?) else {
        return None;
    };
    if n != m || *n > QUERIES_MAX || signature.inputs.len() != 1 {
        return None;
    }
    let outputs = [boxes, labels].map(|port| port.name.clone()).to_vec();
    // COCO's own numbers begin with 1: class 0 is there and never used.
    let (classes, queries) = (fits(*classes)?, fits(*n)?);
    let numbering = Numbering::CountWithBackground(classes);
    Some(reading("rf-detr", outputs, Vec::new(), numbering, Scaling::IMAGENET, Form::Logits { classes }, queries))
}

fn flat(signature: &Signature, input: &Input) -> Option<Reading> {
    let output = signature.only_output().filter(|_| signature.inputs.len() == 1)?;
    let [1, queries, columns] = *output.shape_of(Element::F32)? else { return None };
    let size = (input.width, input.height);
    let is_cells = |side: i64| grid::is_yolo(size, side) || side % 3 == 0 && grid::is_yolo(size, side / 3);
    // Rows of six and seven are those of end-to-end models; a class count of 2 or 3 must be said.
    if !(FLAT_QUERIES_MIN..=QUERIES_MAX).contains(&queries)
        || columns >= queries
        || columns <= 7
        || is_cells(queries)
        || is_cells(columns)
    {
        return None;
    }
    let (classes, queries) = (fits(columns - 4)?, fits(queries)?);
    let numbering = Numbering::Count(classes);
    let outputs = vec![output.name.clone()];
    Some(reading("rt-detr-flat", outputs, Vec::new(), numbering, Scaling::UNIT, Form::Flat { classes }, queries))
}

fn reading(
    name: &'static str,
    outputs: Vec<String>,
    extras: Vec<Extra>,
    numbering: Numbering,
    scaling: Scaling,
    form: Form,
    queries: usize,
) -> Reading {
    let decoder = Decoder::Detr(Detr { form, queries });
    Reading { family: Family::Detr, name, outputs, extras, numbering, scaling, suppress: false, decoder }
}

/// One model of the family.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Detr {
    form: Form,
    queries: usize,
}

impl Detr {
    pub(super) fn decode(&self, outputs: &[Numbers], person: usize, sink: &mut Sink) {
        match self.form {
            Form::Labelled => self.labelled(outputs, person, sink),
            Form::Logits { classes } => {
                let (boxes, logits) = (outputs[0].floats().as_chunks::<4>().0, outputs[1].floats());
                let rows = logits.chunks_exact(classes);
                sink.missing(self.queries, boxes.len().min(rows.len()));
                for (centred, logits) in boxes.iter().zip(rows).take(self.queries) {
                    let score = sigmoid(logits[person]);
                    if sink.wants(score) {
                        sink.push(corners_of(*centred), score);
                    }
                }
            }
            Form::Flat { classes } => {
                let rows = outputs[0].floats().chunks_exact(4 + classes);
                sink.missing(self.queries, rows.len());
                for row in rows.take(self.queries) {
                    if sink.wants(row[4 + person]) {
                        sink.push(corners_of([row[0], row[1], row[2], row[3]]), row[4 + person]);
                    }
                }
            }
        }
    }

    fn labelled(&self, outputs: &[Numbers], person: usize, sink: &mut Sink) {
        let (boxes, scores, labels) = (outputs[0].floats().as_chunks::<4>().0, outputs[1].floats(), outputs[2]);
        let there = boxes.len().min(scores.len()).min(labels.len());
        sink.missing(self.queries, there);
        for (at, (corners, &score)) in boxes.iter().zip(scores).take(there.min(self.queries)).enumerate() {
            match labels.whole(at) {
                None => sink.missing(1, 0),
                Some(class) if class == person && sink.wants(score) => sink.push_px(*corners, score),
                Some(_) => {}
            }
        }
    }
}
