//! Recognises what a model's inputs and outputs mean, and turns its numbers into detections.
//!
//! Each family is a file with one recogniser, and `FAMILIES` is the table of them. A recogniser reads names, element
//! types, shapes and metadata. Where several read the same model, [`Layout::recognise`] has the rules; what they do not
//! settle is refused with how to say it. Pure: nothing here knows the runtime, and no number that a model gives makes it
//! panic.

mod classes;
mod grid;
mod input;
mod signature;
mod sink;

mod centernet;
mod detr;
mod end2end;
mod nanodet;
mod ssd;
mod ssd_nms;
mod tiny_yolov2;
mod yolov5;
mod yolov8;
mod yolox;

#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::preprocess::Letterbox;
use crate::frame::Detection;

pub use classes::{CLASSES_MAX, Names, Numbering};
pub use input::{Colors, Input, InputOverride, SIDE_MAX, Scaling};
pub use signature::{Element, Port, Signature};
use sink::Sink;
pub use sink::{Numbers, Tally};

/// Most boxes that a model may give for one picture.
pub const BOXES_MAX: i64 = 100_000;

/// Most outputs that a layout reads.
pub const OUTPUTS_MAX: usize = 4;
/// The input by which transformers ask for the size that boxes are wanted in.
pub const SIZES_INPUT: &str = "orig_target_sizes";

/// A family of layouts, in the words of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// CenterNet with its peaks picked: the default.
    #[serde(rename = "centernet")]
    CenterNet,
    /// SSD before suppression.
    SsdRaw,
    /// SSD, and other models with labels, after suppression.
    Ssd,
    /// Tiny YOLOv2.
    TinyYolov2,
    /// YOLOv5 and YOLOv7.
    #[serde(alias = "yolov7")]
    Yolov5,
    /// YOLOv8, YOLOv9, YOLO11.
    #[serde(alias = "yolov9", alias = "yolo11", alias = "yolov11")]
    Yolov8,
    /// YOLOv10, and others with suppression inside.
    #[serde(alias = "yolov10")]
    End2end,
    /// YOLOX.
    Yolox,
    /// NanoDet and NanoDet-Plus.
    Nanodet,
    /// RT-DETR, D-FINE, RF-DETR.
    #[serde(alias = "rt-detr", alias = "d-fine", alias = "rf-detr")]
    Detr,
}

/// One family's recogniser.
struct Recogniser {
    family: Family,
    /// How the configuration calls it.
    word: &'static str,
    /// What it looks for, for a refusal.
    known: &'static str,
    /// Every way in which it can read a model: none, one, or several that only the class count tells apart.
    read: fn(&Signature, &Input) -> Vec<Reading>,
}

/// The families, in the order in which a refusal names them.
#[rustfmt::skip]
const FAMILIES: [Recogniser; 10] = [
    Recogniser { family: Family::CenterNet, word: "centernet", known: centernet::KNOWN, read: centernet::recognise },
    Recogniser { family: Family::Yolov8, word: "yolov8", known: yolov8::KNOWN, read: yolov8::recognise },
    Recogniser { family: Family::Yolov5, word: "yolov5", known: yolov5::KNOWN, read: yolov5::recognise },
    Recogniser { family: Family::End2end, word: "end2end", known: end2end::KNOWN, read: end2end::recognise },
    Recogniser { family: Family::Yolox, word: "yolox", known: yolox::KNOWN, read: yolox::recognise },
    Recogniser { family: Family::Nanodet, word: "nanodet", known: nanodet::KNOWN, read: nanodet::recognise },
    Recogniser { family: Family::Detr, word: "detr", known: detr::KNOWN, read: detr::recognise },
    Recogniser { family: Family::Ssd, word: "ssd", known: ssd_nms::KNOWN, read: ssd_nms::recognise },
    Recogniser { family: Family::SsdRaw, word: "ssd-raw", known: ssd::KNOWN, read: ssd::recognise },
    Recogniser { family: Family::TinyYolov2, word: "tiny-yolov2", known: tiny_yolov2::KNOWN, read: tiny_yolov2::recognise },
];

/// One way to read a model.
#[derive(Debug, Clone, PartialEq)]
struct Reading {
    family: Family,
    /// A short name for health and logs: the family and its form.
    name: &'static str,
    /// The outputs that the decoder reads, in its order.
    outputs: Vec<String>,
    /// Inputs beside the picture.
    extras: Vec<Extra>,
    numbering: Numbering,
    /// The family's convention for its input.
    scaling: Scaling,
    /// Its boxes overlap until somebody suppresses the doubles.
    suppress: bool,
    decoder: Decoder,
}

/// What turns outputs into detections.
#[derive(Debug, Clone, PartialEq)]
enum Decoder {
    CenterNet(centernet::CenterNet),
    Detr(detr::Detr),
    End2end(end2end::End2end),
    Nanodet(nanodet::Nanodet),
    Ssd(ssd::Ssd),
    SsdNms(ssd_nms::SsdNms),
    TinyYolov2(tiny_yolov2::TinyYolov2),
    Yolov5(yolov5::Yolov5),
    Yolov8(yolov8::Yolov8),
    Yolox(yolox::Yolox),
}

/// An input beside the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// `cls_w`: so many weights of a class head from outside.
    HeadWeights(usize),
    /// `cls_b`: its bias.
    HeadBias,
    /// `orig_target_sizes`: the width and height that boxes are wanted in.
    Sizes,
}

/// What the configuration or a manifest says of a model, where recognition needs it or is wrong.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Override {
    /// The family.
    pub family: Option<Family>,
    /// Its classes' names.
    pub labels: Option<Names>,
    /// The number of the person's class.
    pub person_class: Option<usize>,
    /// The input, where it is not as the family has it.
    pub input: InputOverride,
}

/// A model's layout, ready to decode.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    reading: Reading,
    /// How the picture goes in.
    pub input: Input,
    /// The number of the person's class.
    pub person: usize,
    names: Option<Names>,
}

impl Layout {
    /// Recognises a layout, or says what was seen and what to do: the end of a sentence about the model.
    ///
    /// Where several families read it, the class count decides: that of the names, else a well-known one.
    pub fn recognise(signature: &Signature, said: &Override) -> Result<Layout, String> {
        if let Some(task) = signature.metadata.get("task").filter(|task| *task != "detect") {
            let task = signature::short(task);
            return Err(format!("is made for the task \"{task}\" by its metadata; export one for detection"));
        }
        let input = Input::find(signature, &said.input)?;
        let names = match &said.labels {
            Some(labels) => Some(labels.clone()),
            None => Names::of_metadata(&signature.metadata)?,
        };
        let wanted = FAMILIES.iter().filter(|family| said.family.is_none_or(|said| said == family.family));
        let mut readings: Vec<Reading> = wanted.flat_map(|family| (family.read)(signature, &input)).collect();
        if readings.is_empty() {
            return Err(unknown(signature, said.family));
        }
        // Each rule is asked only while there is a doubt, and only believed where it leaves something.
        narrow(&mut readings, |reading| names.as_ref().is_some_and(|names| reading.numbering.fits(names)));
        narrow(&mut readings, |reading| names.is_none() && reading.numbering.is_well_known());
        let reading = match readings.len() {
            1 => readings.swap_remove(0),
            _ => return Err(ambiguous(&readings, names.as_ref())),
        };
        let person = classes::person(reading.numbering, names.as_ref(), said.person_class)?;
        let input = input.scaled(reading.scaling, &said.input);
        Ok(Layout { reading, input, person, names })
    }

    /// The family.
    pub fn family(&self) -> Family {
        self.reading.family
    }

    /// A short name for health and logs.
    pub fn name(&self) -> &'static str {
        self.reading.name
    }

    /// Width and height of the model's picture.
    pub fn picture(&self) -> (u32, u32) {
        (self.input.width, self.input.height)
    }

    /// The outputs that [`Layout::decode`] wants, in its order.
    pub fn outputs(&self) -> &[String] {
        &self.reading.outputs
    }

    /// Inputs beside the picture.
    pub fn extras(&self) -> &[Extra] {
        &self.reading.extras
    }

    /// Weights of the head that the model takes as inputs, without the bias; `None` where it has its own.
    pub fn head(&self) -> Option<usize> {
        self.reading.extras.iter().find_map(|extra| match extra {
            Extra::HeadWeights(weights) => Some(*weights),
            _ => None,
        })
    }

    /// The output that shows what the network saw of each candidate, and how many features that are; `None` where none does.
    pub fn features(&self) -> Option<(&str, usize)> {
        match &self.reading.decoder {
            Decoder::CenterNet(_) => self.head().map(|features| ("features", features)),
            _ => None,
        }
    }

    /// As [`Layout::decode`], with the number that each of the candidates has among all that the model gave. Only where there are
    /// [`Layout::features`] of them; else nobody is found.
    pub fn candidates(
        &self,
        outputs: &[Numbers],
        lies: &Letterbox,
        score_min: f32,
        found: &mut Vec<Detection>,
        rows: &mut Vec<usize>,
    ) -> Tally {
        rows.clear();
        let mut sink = Sink { lies, score_min, found, tally: Tally::default() };
        if let (Decoder::CenterNet(family), [boxes, scores]) = (&self.reading.decoder, outputs) {
            family.decode(*boxes, *scores, &mut sink, |row| rows.push(row));
        }
        sink.tally
    }

    /// Whether boxes of one person overlap until somebody suppresses the doubles.
    pub fn suppresses(&self) -> bool {
        self.reading.suppress
    }

    /// Its classes' names, where they are known.
    pub fn labels(&self) -> Option<&Names> {
        self.names.as_ref()
    }

    /// How its outputs number their classes.
    pub fn numbering(&self) -> Numbering {
        self.reading.numbering
    }

    /// Adds the people who score at least `score_min` to `found`, in pixels of the frame and cut at its edges, and says
    /// what became of the other candidates. `outputs` are those of [`Layout::outputs`].
    pub fn decode(&self, outputs: &[Numbers], lies: &Letterbox, score_min: f32, found: &mut Vec<Detection>) -> Tally {
        let mut sink = Sink { lies, score_min, found, tally: Tally::default() };
        if outputs.len() != self.reading.outputs.len() {
            sink.missing(self.reading.outputs.len(), outputs.len());
            return sink.tally;
        }
        match &self.reading.decoder {
            Decoder::CenterNet(family) => family.decode(outputs[0], outputs[1], &mut sink, |_| {}),
            Decoder::Detr(family) => family.decode(outputs, self.person, &mut sink),
            Decoder::End2end(family) => family.decode(outputs[0], self.person, &mut sink),
            Decoder::Nanodet(family) => family.decode(outputs[0], self.person, &mut sink),
            Decoder::Ssd(family) => family.decode(outputs, self.person, &mut sink),
            Decoder::SsdNms(family) => family.decode(outputs, self.person, &mut sink),
            Decoder::TinyYolov2(family) => family.decode(outputs[0], self.person, &mut sink),
            Decoder::Yolov5(family) => family.decode(outputs[0], self.person, &mut sink),
            Decoder::Yolov8(family) => family.decode(outputs[0], self.person, &mut sink),
            Decoder::Yolox(family) => family.decode(outputs[0], self.person, &mut sink),
        }
        sink.tally
    }
}

impl Family {
    /// The family that the configuration calls so.
    pub fn of_word(word: &str) -> Option<Family> {
        FAMILIES.iter().find(|family| family.word == word).map(|family| family.family)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FAMILIES.iter().find(|family| family.family == *self).map_or("", |family| family.word))
    }
}

/// Keeps what a rule prefers, where there is more than one reading and it prefers any.
fn narrow(readings: &mut Vec<Reading>, preferred: impl Fn(&Reading) -> bool) {
    if readings.len() > 1 && readings.iter().any(&preferred) {
        readings.retain(preferred);
    }
}

fn unknown(signature: &Signature, said: Option<Family>) -> String {
    match FAMILIES.iter().find(|family| Some(family.family) == said) {
        Some(family) => format!(
            "is not a {} model: {signature}; such a one has {}; remove `layout`, or export the model anew",
            family.word, family.known
        ),
        None => {
            let known: Vec<_> = FAMILIES.iter().map(|family| format!("{} ({})", family.word, family.known)).collect();
            format!("has a layout that is not known: {signature}; known, one picture at a time: {}", known.join("; "))
        }
    }
}

fn ambiguous(readings: &[Reading], names: Option<&Names>) -> String {
    let named = names.map_or(String::new(), |names| format!("has {} names for its classes, and ", names.count()));
    let ways: Vec<_> = readings.iter().map(|reading| format!("{} with {}", reading.name, reading.numbering)).collect();
    let mut words: Vec<_> = readings.iter().map(|reading| format!("layout = \"{}\"", reading.family)).collect();
    words.dedup();
    let labels = if names.is_some() { "give the labels that belong to it" } else { "give `labels`" };
    let set = if words.len() > 1 { format!(", or set {}", words.join(" or ")) } else { String::new() };
    format!("{named}can be read as {}; {labels}{set}", ways.join(" or as "))
}

impl fmt::Display for Numbering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Numbering::Count(1) => f.write_str("1 class"),
            Numbering::Count(count) => write!(f, "{count} classes"),
            Numbering::CountWithBackground(count) => write!(f, "{} classes and a background", count - 1),
            Numbering::Named => f.write_str("class numbers"),
            Numbering::Person => f.write_str("people alone"),
        }
    }
}

/// A dimension as a size: 1 to [`BOXES_MAX`].
fn fits(side: i64) -> Option<usize> {
    usize::try_from(side).ok().filter(|_| (1..=BOXES_MAX).contains(&side))
}
