//! Ground truth: what people have marked in frames, in whatever format they keep it.
//!
//! Each format is a file with a pure parser; a fault is one sentence with its line. Nothing here opens a file or
//! compares anything with what a detector found.

pub mod csv;
pub mod mot;
pub mod towncentre;
pub mod voc;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use clap::ValueEnum;

use crate::frame::Area;

/// Largest truth file: the largest of MOT20 has about 30 MB.
pub const TRUTH_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Most boxes in one frame. Assigning boxes takes time with their cube; the fullest frame of MOT20 has 246.
pub const BOXES_PER_FRAME_MAX: usize = 1000;
/// Farthest that an edge may lie from the picture's corner, in pixels; beyond it a column was mistaken for another.
const COORDINATE_PX_MAX: f32 = 100_000.0;
/// Largest frame number: a week at 25 frames a second.
const FRAME_NUMBER_MAX: u64 = 16_000_000;

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// MOTChallenge: gt.txt, or the folder of a sequence
    Mot,
    /// Oxford Town Centre: `.top`
    Towncentre,
    /// Pascal VOC: a folder of XML files
    Voc,
    /// file,x1,y1,x2,y2,ignore
    Csv,
}

/// One person, as marked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TruthBox {
    /// Where; edges may lie outside the picture.
    pub area: Area,
    /// Who, over the frames of a sequence; absent in formats without identities.
    pub id: Option<u64>,
    /// Nobody has to find it, and finding something in it is not wrong.
    pub ignore: bool,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct TruthError {
    /// A line of the file, as `line 17`, or a file of the folder.
    pub place: String,
    /// What is wrong there, with what to do.
    pub what: String,
}

impl TruthError {
    fn line(number: usize, what: impl Into<String>) -> TruthError {
        TruthError { place: format!("line {number}"), what: what.into() }
    }
}

/// How a truth says which frame it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// By number; the first frame has this one. Frames without a line have nobody in them.
    Number { first: u64 },
    /// By the picture's file name. A picture that is not named was not looked at by anybody.
    File,
    /// The same, whatever the file name ends in.
    Stem,
}

#[derive(Debug, Clone, PartialEq)]
struct Labelled {
    /// Where the frame is named first.
    place: String,
    boxes: Vec<TruthBox>,
}

/// All that was marked of one source.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    naming: Naming,
    /// By the frame's index from 0, written with leading zeros, or by its name.
    frames: BTreeMap<String, Labelled>,
    /// Frames that were looked at, from the first on, where frames are numbered.
    count: u64,
    /// Boxes of other things than people, which were left out.
    pub others: u64,
}

impl Truth {
    fn new(naming: Naming) -> Truth {
        Truth { naming, frames: BTreeMap::new(), count: 0, others: 0 }
    }

    /// Adds a box to the frame of this number, which a line of the file names.
    fn add_numbered(&mut self, line: usize, number: u64, marked: TruthBox) -> Result<(), TruthError> {
        let Naming::Number { first } = self.naming else { unreachable!("only numbered formats add by number") };
        let Some(index) = number.checked_sub(first).filter(|_| number <= FRAME_NUMBER_MAX) else {
            let what = format!("frame {number} does not exist; frames are numbered from {first} to {FRAME_NUMBER_MAX}");
            return Err(TruthError::line(line, what));
        };
        self.count = self.count.max(index + 1);
        self.add(&key(index), || format!("line {line}"), Some(marked)).map_err(|what| TruthError::line(line, what))
    }

    /// Adds a box, or only that the frame was looked at.
    fn add(&mut self, frame: &str, place: impl Fn() -> String, marked: Option<TruthBox>) -> Result<(), String> {
        if !self.frames.contains_key(frame) {
            self.frames.insert(frame.to_owned(), Labelled { place: place(), boxes: Vec::new() });
        }
        let boxes = &mut self.frames.get_mut(frame).expect("it was put there").boxes;
        boxes.extend(marked);
        if boxes.len() > BOXES_PER_FRAME_MAX {
            return Err(format!("the frame has more than {BOXES_PER_FRAME_MAX} boxes; is it the right file?"));
        }
        Ok(())
    }

    /// Frames that were looked at although nobody stands in them: up to the sequence's length, as its maker gives it.
    pub fn extend_to(&mut self, frames: u64) {
        self.count = self.count.max(frames);
    }

    /// What was marked in a frame: its index from 0, and its file's name where it is a picture. `None` where nobody
    /// looked at it.
    pub fn of(&self, index: usize, name: &str) -> Option<&[TruthBox]> {
        let boxes = |key: &str| self.frames.get(key).map(|frame| &frame.boxes[..]);
        match self.naming {
            Naming::Number { .. } if (index as u64) < self.count => Some(boxes(&key(index as u64)).unwrap_or(&[])),
            Naming::Number { .. } => None,
            Naming::File => boxes(name),
            Naming::Stem => boxes(stem(name)),
        }
    }

    /// Whether frames are named by their pictures' files, so that a video cannot be meant.
    pub fn names_files(&self) -> bool {
        !matches!(self.naming, Naming::Number { .. })
    }

    /// Whether boxes carry identities, so that tracks can be judged.
    pub fn has_ids(&self) -> bool {
        self.boxes().any(|marked| marked.id.is_some())
    }

    /// All boxes, frame by frame.
    pub fn boxes(&self) -> impl Iterator<Item = &TruthBox> {
        self.frames.values().flat_map(|frame| &frame.boxes)
    }

    /// Refuses a truth that names a frame which a source of so many frames does not have.
    pub fn check_count(&self, count: usize) -> Result<(), TruthError> {
        let Naming::Number { first } = self.naming else { return Ok(()) };
        let beyond = self.frames.range(key(count as u64)..).next();
        beyond.map_or(Ok(()), |(index, frame)| {
            let number = index.parse::<u64>().expect("a key is a number") + first;
            let last = (count as u64 + first).saturating_sub(1);
            let what = format!(
                "frame {number} does not exist: the source has {count} frames, {first} to {last}; do the two belong \
                 together?"
            );
            Err(TruthError { place: frame.place.clone(), what })
        })
    }

    /// Refuses a truth that names a picture which is none of these.
    pub fn check_names<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<(), TruthError> {
        let known: BTreeSet<&str> = match self.naming {
            Naming::Number { .. } => return self.check_count(names.count()),
            Naming::File => names.collect(),
            Naming::Stem => names.map(stem).collect(),
        };
        let missing = self.frames.iter().find(|(name, _)| !known.contains(name.as_str()));
        missing.map_or(Ok(()), |(name, frame)| {
            let what = format!("the picture {name} does not exist in the source; do the two belong together?");
            Err(TruthError { place: frame.place.clone(), what })
        })
    }
}

/// Index as a key that sorts as the number does.
fn key(index: u64) -> String {
    format!("{index:020}")
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// The lines that say something, numbered from 1, cut at the commas.
fn rows(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    let said = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    said.map(|(at, line)| (at + 1, line.split(',').map(str::trim).collect()))
}

/// A column as a number of pixels.
fn pixels(name: impl fmt::Display, text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(number) if number.abs() <= COORDINATE_PX_MAX => Ok(number),
        Ok(_) => Err(format!("{name} is {text:.20}, and no picture is as large; check the columns' order")),
        Err(_) => Err(format!("{name} is \"{text:.20}\", which is no number; check the columns' order")),
    }
}

/// A column as a whole number from 0 on; `3.0` is one.
fn whole(name: impl fmt::Display, text: &str) -> Result<u64, String> {
    let number = text.parse::<f64>().ok().filter(|n| n.fract() == 0.0 && (0.0..=9e15).contains(n));
    number.map(|number| number as u64).ok_or_else(|| {
        format!("{name} is \"{text:.20}\", and must be a whole number from 0 on; check the columns' order")
    })
}

/// A rectangle by its corners; empty and crossed ones are refused.
fn corners([x1, y1, x2, y2]: [f32; 4]) -> Result<Area, String> {
    let sides = [("width", x2 - x1), ("height", y2 - y1)];
    match sides.into_iter().find(|(_, size)| *size <= 0.0) {
        Some((side, size)) => Err(format!("the box's {side} is {size}, and must be above 0; correct or remove it")),
        None => Ok(Area { x1, y1, x2, y2 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked() -> TruthBox {
        TruthBox { area: Area { x1: 0.0, y1: 0.0, x2: 1.0, y2: 1.0 }, id: None, ignore: false }
    }

    #[test]
    fn a_numbered_frame_without_a_line_has_nobody_and_one_after_the_last_was_not_looked_at() {
        let mut truth = Truth::new(Naming::Number { first: 1 });
        truth.add_numbered(1, 3, marked()).unwrap();
        let seen = |truth: &Truth, index| truth.of(index, "").map(<[_]>::len);
        assert_eq!([0, 1, 2, 3].map(|index| seen(&truth, index)), [Some(0), Some(0), Some(1), None]);
        truth.extend_to(4);
        assert_eq!(seen(&truth, 3), Some(0));
    }

    #[test]
    fn a_frame_that_does_not_exist_is_told_with_its_line() {
        let mut truth = Truth::new(Naming::Number { first: 1 });
        truth.add_numbered(1, 10, marked()).unwrap();
        truth.add_numbered(2, 9, marked()).unwrap();
        assert_eq!(truth.check_count(10), Ok(()));
        let refused = truth.check_count(8).unwrap_err().to_string();
        assert!(refused.starts_with("line 2: frame 9 does not exist: the source has 8 frames, 1 to 8"), "{refused}");
        let refused = truth.add_numbered(3, 0, marked()).unwrap_err().to_string();
        assert!(refused.starts_with("line 3: frame 0 does not exist; frames are numbered from 1"), "{refused}");
        assert!(truth.add_numbered(3, u64::MAX, marked()).is_err());
    }

    #[test]
    fn a_named_picture_is_found_by_file_or_stem() {
        for (naming, named, asked, found) in [
            (Naming::File, "a.jpg", "a.jpg", true),
            (Naming::File, "a.jpg", "a.png", false),
            (Naming::Stem, "a", "a.png", true),
            (Naming::Stem, "a.b", "a.b.png", true),
            (Naming::Stem, "a", "b.png", false),
        ] {
            let mut truth = Truth::new(naming);
            truth.add(named, || "line 7".into(), None).unwrap();
            assert_eq!(truth.of(0, asked), found.then_some(&[][..]), "{named} {asked}");
            let checked = truth.check_names([asked].into_iter()).map_err(|e| e.to_string());
            assert_eq!(checked.is_ok(), found, "{named} {asked}");
            let expect = format!("line 7: the picture {named} does not exist in the source");
            assert!(found || checked.unwrap_err().starts_with(&expect));
        }
    }

    #[test]
    fn a_frame_with_too_many_boxes_is_refused() {
        let mut truth = Truth::new(Naming::Number { first: 0 });
        (0..BOXES_PER_FRAME_MAX).for_each(|_| truth.add_numbered(1, 0, marked()).unwrap());
        assert!(truth.add_numbered(9, 0, marked()).unwrap_err().to_string().starts_with("line 9: the frame has more"));
    }
}
