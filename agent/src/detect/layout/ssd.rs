//! SSD (Liu et al., 2016) as the network leaves it: for each anchor an offset and a logit for each class, the first of them
//! the background. Anchors are those of the published heads, told apart by how many there are.

use super::classes::Numbering;
use super::input::{Input, Scaling};
use super::sink::{Numbers, Sink, sigmoid};
use super::{Decoder, Element, Family, Reading, Signature, fits};

pub(super) const KNOWN: &str = "two outputs f32, offsets [1,A,4] and logits [1,A,1+classes], A anchors of TensorFlow's SSD-MobileNet, \
                                torchvision's SSDLite or SSD300";

/// Offsets are in these parts of an anchor's sides; logarithms of sides in those ("variances" 0.1 and 0.2).
const CENTRE_SCALE: f32 = 10.0;
const SIDE_SCALE: f32 = 5.0;

/// An anchor: centre and sides as parts of the picture.
type Anchor = [f32; 4];

/// What one published head does in its own way.
struct Head {
    name: &'static str,
    anchors: fn(u32, u32) -> Vec<Anchor>,
    /// Offsets come row first, and every class has its own probability; else column first, and classes share one.
    tensorflow: bool,
    scaling: Scaling,
}

/// SSD300 takes ImageNet's mean away, and does not divide.
const VGG: Scaling = Scaling { mean: [123.0, 117.0, 104.0], ..Scaling::BYTES };

const HEADS: [Head; 3] = [
    Head { name: "ssd-raw-tensorflow", anchors: tensorflow, tensorflow: true, scaling: Scaling::SIGNED },
    Head { name: "ssd-raw-lite", anchors: lite, tensorflow: false, scaling: Scaling::SIGNED },
    Head { name: "ssd-raw-300", anchors: ssd300, tensorflow: false, scaling: VGG },
];

pub(super) fn recognise(signature: &Signature, input: &Input) -> Vec<Reading> {
    HEADS.iter().filter_map(|head| read(signature, input, head)).collect()
}

fn read(signature: &Signature, input: &Input, head: &Head) -> Option<Reading> {
    if signature.inputs.len() != 1 || signature.outputs.len() != 2 {
        return None;
    }
    let shape = |at: usize| match signature.outputs[at].shape_of(Element::F32)? {
        [1, rows, columns] => Some((*rows, *columns)),
        _ => None,
    };
    let ((first, second), (rows, columns)) = (shape(0)?, shape(1)?);
    // Offsets have four columns. Where both have, the classes are three and the order is the usual one.
    let (boxes, count, columns) = if second == 4 { (0, first, columns) } else { (1, rows, second) };
    if first != rows || signature.outputs[boxes].shape[2] != 4 || columns < 2 {
        return None;
    }
    let anchors = (head.anchors)(input.width, input.height);
    if fits(count)? != anchors.len() {
        return None;
    }
    let classes = fits(columns)?;
    let outputs = [boxes, 1 - boxes].map(|at| signature.outputs[at].name.clone()).to_vec();
    Some(Reading {
        family: Family::SsdRaw,
        name: head.name,
        outputs,
        extras: Vec::new(),
        numbering: Numbering::CountWithBackground(classes),
        scaling: head.scaling,
        suppress: true,
        decoder: Decoder::Ssd(Ssd { anchors, classes, tensorflow: head.tensorflow }),
    })
}

/// One model of the family.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ssd {
    anchors: Vec<Anchor>,
    classes: usize,
    tensorflow: bool,
}

impl Ssd {
    pub(super) fn decode(&self, outputs: &[Numbers], person: usize, sink: &mut Sink) {
        let (offsets, logits) = (outputs[0].floats().as_chunks::<4>().0, outputs[1].floats());
        if offsets.len() != self.anchors.len() || logits.len() != self.anchors.len() * self.classes {
            return sink.missing(self.anchors.len(), 0);
        }
        let least = sink.score_min.ln();
        for ((offset, row), anchor) in offsets.iter().zip(logits.chunks_exact(self.classes)).zip(&self.anchors) {
            let score = if self.tensorflow { sigmoid(row[person]) } else { softmax(row, person, least) };
            if sink.wants(score) {
                sink.push(self.corners(*offset, *anchor), score);
            }
        }
    }

    fn corners(&self, offset: [f32; 4], [x, y, width, height]: Anchor) -> [f32; 4] {
        let [dx, dy, dw, dh] = if self.tensorflow { [offset[1], offset[0], offset[3], offset[2]] } else { offset };
        let (x, y) = (x + dx / CENTRE_SCALE * width, y + dy / CENTRE_SCALE * height);
        super::sink::corners_of([x, y, (dw / SIDE_SCALE).exp() * width, (dh / SIDE_SCALE).exp() * height])
    }
}

/// The softmax of one among logits; 0 where it is below `least` (a logarithm) in any case, which saves most exponentials.
fn softmax(logits: &[f32], at: usize, least: f32) -> f32 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if logits[at] - most < least {
        return 0.0;
    }
    (logits[at] - most).exp() / logits.iter().map(|logit| (logit - most).exp()).sum::<f32>()
}

/// Anchors of maps, map by map, cell by cell, shape by shape; shapes are widths and heights as parts.
fn over(maps: impl Iterator<Item = ((u32, u32), Vec<[f32; 2]>)>) -> Vec<Anchor> {
    let mut anchors = Vec::new();
    for ((columns, rows), shapes) in maps {
        for row in 0..rows {
            for column in 0..columns {
                let (x, y) = ((column as f32 + 0.5) / columns as f32, (row as f32 + 0.5) / rows as f32);
                anchors.extend(shapes.iter().map(|[width, height]| [x, y, *width, *height]));
            }
        }
    }
    anchors
}

/// Each map has half the sides of the one before it, rounded up; the first is the picture's by 16.
fn halved(width: u32, height: u32) -> impl Iterator<Item = (u32, u32)> {
    (0..6).map(move |map| (width.div_ceil(16 << map), height.div_ceil(16 << map)))
}

/// `ssd_anchor_generator` of TensorFlow's Object Detection API: six maps, scales 0.2 to 0.95, three shapes in the lowest.
fn tensorflow(width: u32, height: u32) -> Vec<Anchor> {
    let scale = |map: usize| if map < 6 { 0.2 + 0.15 * map as f32 } else { 1.0 };
    let shape = |scale: f32, ratio: f32| [scale * ratio.sqrt(), scale / ratio.sqrt()];
    over(halved(width, height).enumerate().map(|(map, cells)| {
        let own = scale(map);
        let shapes = if map == 0 {
            vec![shape(0.1, 1.0), shape(own, 2.0), shape(own, 0.5)]
        } else {
            let mut shapes: Vec<_> = [1.0, 2.0, 0.5, 3.0, 0.3333].map(|ratio| shape(own, ratio)).to_vec();
            shapes.push(shape((own * scale(map + 1)).sqrt(), 1.0));
            shapes
        };
        (cells, shapes)
    }))
}

/// torchvision's `DefaultBoxGenerator` of ssdlite320: six maps, scales 0.2 to 0.95, ratios 2 and 3 in each.
fn lite(width: u32, height: u32) -> Vec<Anchor> {
    let scale = |map: usize| if map < 6 { 0.2 + 0.15 * map as f32 } else { 1.0 };
    over(
        halved(width, height)
            .enumerate()
            .map(|(map, cells)| (cells, torchvision(scale(map), scale(map + 1), &[2.0, 3.0]))),
    )
}

/// torchvision's `ssd300_vgg16`: the scales, steps and ratios of the paper's Caffe model.
fn ssd300(width: u32, height: u32) -> Vec<Anchor> {
    if (width, height) != (300, 300) {
        return Vec::new();
    }
    const SCALES: [f32; 7] = [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05];
    const MAPS: [(u32, f32); 6] = [(38, 8.0), (19, 16.0), (10, 32.0), (5, 64.0), (3, 100.0), (1, 300.0)];
    let mut anchors = Vec::new();
    for (map, (cells, step)) in MAPS.into_iter().enumerate() {
        let ratios: &[f32] = if (1..=3).contains(&map) { &[2.0, 3.0] } else { &[2.0] };
        let shapes = torchvision(SCALES[map], SCALES[map + 1], ratios);
        let of = over(std::iter::once(((cells, cells), shapes)));
        // Its cells are a step apart, whatever the map's size.
        let stretch = cells as f32 * step / 300.0;
        anchors.extend(of.into_iter().map(|[x, y, width, height]| [x * stretch, y * stretch, width, height]));
    }
    anchors
}

/// The shapes of one map: square, square towards the next map, then each ratio lying and standing.
fn torchvision(own: f32, next: f32, ratios: &[f32]) -> Vec<[f32; 2]> {
    let between = (own * next).sqrt();
    let mut shapes = vec![[own, own], [between, between]];
    for ratio in ratios {
        let (long, short) = (own * ratio.sqrt(), own / ratio.sqrt());
        shapes.extend([[long, short], [short, long]]);
    }
    // torchvision cuts a default box's sides at the picture's.
    shapes.into_iter().map(|shape| shape.map(|side| side.min(1.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_heads_have_their_published_numbers_of_anchors() {
        for (anchors, expect) in [
            (tensorflow(300, 300), 1917),
            (tensorflow(320, 320), 2034),
            (lite(320, 320), 3234),
            (ssd300(300, 300), 8732),
            (ssd300(320, 320), 0),
        ] {
            assert_eq!(anchors.len(), expect);
        }
        // From the generators' own output.
        let near = |a: Anchor, b: Anchor| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(near(tensorflow(300, 300)[0], [0.5 / 19.0, 0.5 / 19.0, 0.1, 0.1]));
        assert!(near(tensorflow(300, 300)[1916], [0.5, 0.5, 0.974679, 0.974679]));
        assert!(near(lite(320, 320)[1], [0.025, 0.025, 0.264575, 0.264575]));
        assert!(near(ssd300(300, 300)[0], [4.0 / 300.0, 4.0 / 300.0, 0.07, 0.07]));
    }

    #[test]
    fn the_softmax_is_the_softmax_and_skips_only_what_is_too_low() {
        let logits = [2.0, 1.0, -1.0];
        let sum: f32 = logits.iter().map(|logit: &f32| logit.exp()).sum();
        for (at, logit) in logits.iter().enumerate() {
            assert!((softmax(&logits, at, f32::NEG_INFINITY) - logit.exp() / sum).abs() < 1e-6);
        }
        assert_eq!(softmax(&logits, 2, 0.3f32.ln()), 0.0);
        assert!(softmax(&[f32::NAN, 1.0], 0, -1.0).is_nan());
    }
}
