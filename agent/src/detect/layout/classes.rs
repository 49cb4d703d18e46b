//! Which of a model's classes is the person, and whether its names fit its outputs.
//!
//! Names come from a labels file or from the model's metadata. Without names only the counts of the well-known data
//! sets are believed; anything else must be said. Pure.

use std::collections::BTreeMap;

use super::signature::short;

/// Most classes that a model may have: Objects365 and LVIS (1,203) fit.
pub const CLASSES_MAX: usize = 2048;
/// What a person is called in the data sets that detectors learn from.
const PERSON: [&str; 3] = ["person", "pedestrian", "people"];
/// COCO's 80 classes begin with the person; its original 90 numbers do so with 1; VOC's are in alphabetical order.
const COCO: (usize, usize) = (80, 0);
const VOC: (usize, usize) = (20, 14);
const COCO_WITH_BACKGROUND: (usize, usize) = (91, 1);
const VOC_WITH_BACKGROUND: (usize, usize) = (21, 15);

/// How a layout's outputs number their classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// A score for each of so many classes.
    Count(usize),
    /// The same, where class 0 is the background.
    CountWithBackground(usize),
    /// The outputs hold a class's number, and nothing tells how many there are.
    Named,
    /// There is one class and the family says which: the person.
    Person,
}

impl Numbering {
    /// Whether the count is that of a well-known data set.
    pub(super) fn is_well_known(self) -> bool {
        match self {
            Numbering::Count(count) => count == COCO.0 || count == VOC.0,
            Numbering::CountWithBackground(count) => count == COCO_WITH_BACKGROUND.0 || count == VOC_WITH_BACKGROUND.0,
            Numbering::Named | Numbering::Person => true,
        }
    }

    /// Whether names for so many classes fit.
    pub(super) fn fits(self, names: &Names) -> bool {
        let count = names.count();
        match self {
            Numbering::Count(classes) => count == classes || names.numbered && count < classes,
            Numbering::CountWithBackground(classes) => {
                count == classes || count + 1 == classes || names.numbered && count < classes
            }
            Numbering::Named => true,
            Numbering::Person => names.by_number.values().all(|name| is_person(name)),
        }
    }
}

/// The names of a model's classes by their number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    by_number: BTreeMap<usize, String>,
    /// The numbers were written down, and may have gaps.
    numbered: bool,
}

impl Names {
    /// One class a line, or `number name` on each line. Empty lines are passed over.
    pub fn of_lines(text: &str) -> Result<Names, String> {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let split = |line: &str| {
            let (number, name) = line.split_once(|c: char| c.is_whitespace() || c == ':')?;
            Some((number.parse::<usize>().ok()?, name.trim().to_owned()))
        };
        let numbered: Option<Vec<_>> = lines.iter().map(|line| split(line)).collect();
        let names = match numbered {
            Some(pairs) if !pairs.is_empty() => Names { by_number: pairs.into_iter().collect(), numbered: true },
            _ => Names { by_number: lines.iter().map(|line| line.to_string()).enumerate().collect(), numbered: false },
        };
        names.check(lines.len())
    }

    /// A list, the first with number 0.
    pub fn of_list(list: &[String]) -> Result<Names, String> {
        Names { by_number: list.iter().cloned().enumerate().collect(), numbered: false }.check(list.len())
    }

    /// What a model's metadata says: `names` as Ultralytics writes it, `classes` as our own models do.
    pub fn of_metadata(metadata: &BTreeMap<String, String>) -> Result<Option<Names>, String> {
        if let Some(text) = metadata.get("names") {
            let names = python_dict(text).ok_or_else(|| {
                format!(
                    "has names in its metadata that cannot be read ({}); set `labels` to a file of them",
                    short(text)
                )
            })?;
            let count = names.len();
            return Names { by_number: names, numbered: false }.check(count).map(Some);
        }
        let Some(text) = metadata.get("classes") else { return Ok(None) };
        Names::of_list(&text.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>()).map(Some)
    }

    fn check(self, given: usize) -> Result<Names, String> {
        if given == 0 {
            return Err("has names for no class at all; write one a line".into());
        }
        if self.by_number.len() < given {
            return Err("has two names for one class number; give each its own".into());
        }
        if self.count() > CLASSES_MAX {
            return Err(format!("has names for more than {CLASSES_MAX} classes; give those of the model"));
        }
        Ok(self)
    }

    /// One more than the highest number.
    pub fn count(&self) -> usize {
        self.by_number.keys().next_back().map_or(0, |last| last.saturating_add(1))
    }

    /// The names in the order of their numbers.
    pub fn list(&self) -> impl Iterator<Item = (usize, &str)> {
        self.by_number.iter().map(|(number, name)| (*number, name.as_str()))
    }

    fn person(&self) -> Option<usize> {
        self.by_number.iter().find(|(_, name)| is_person(name)).map(|(number, _)| *number)
    }
}

fn is_person(name: &str) -> bool {
    PERSON.iter().any(|person| name.eq_ignore_ascii_case(person))
}

/// The number of the person's class in the outputs, or why it cannot be told: the end of a sentence about the model.
pub(super) fn person(numbering: Numbering, names: Option<&Names>, said: Option<usize>) -> Result<usize, String> {
    let (Numbering::Count(count) | Numbering::CountWithBackground(count)) = numbering else {
        return person_by_name(numbering, names, said);
    };
    if let Some(names) = names.filter(|names| !numbering.fits(names)) {
        let named = names.count();
        return Err(format!("has {count} classes in its outputs and {named} names; give the labels that belong to it"));
    }
    if let Some(said) = said {
        return if said < count {
            Ok(said)
        } else {
            Err(format!("has classes 0 to {} and person_class is {said}; give one of them", count - 1))
        };
    }
    if let Some(names) = names {
        // Names without one for the background are one short.
        let behind_background = matches!(numbering, Numbering::CountWithBackground(_)) && !names.numbered;
        let shift = usize::from(behind_background && names.count() < count);
        return names.person().map(|number| number + shift).ok_or_else(|| nobody(names));
    }
    let known = match numbering {
        Numbering::CountWithBackground(_) => [COCO_WITH_BACKGROUND, VOC_WITH_BACKGROUND],
        _ => [COCO, VOC],
    };
    known.iter().find(|(classes, _)| *classes == count).map(|(_, person)| *person).ok_or_else(|| {
        let classes = if count == 1 { "class" } else { "classes" };
        format!("has {count} {classes} and no names for them; set `person_class` to the person's, or `labels` to the file that came with it")
    })
}

fn person_by_name(numbering: Numbering, names: Option<&Names>, said: Option<usize>) -> Result<usize, String> {
    match (numbering, names, said) {
        // Another class would be reported as a person without anybody noticing.
        (Numbering::Person, Some(names), _) if !numbering.fits(names) => Err(nobody(names)),
        (Numbering::Person, _, None | Some(0)) => Ok(0),
        (Numbering::Person, _, Some(said)) => {
            Err(format!("has one class, number 0, and person_class is {said}; remove it"))
        }
        (_, Some(names), Some(said)) if said >= names.count() => {
            Err(format!("has names for {} classes and person_class is {said}; give one of them", names.count()))
        }
        (_, _, Some(said)) => Ok(said),
        (_, Some(names), None) => names.person().ok_or_else(|| nobody(names)),
        (_, None, None) => Err("gives class numbers and no names for them; set `person_class` to the person's, or \
                                `labels` to the file that came with it"
            .into()),
    }
}

fn nobody(names: &Names) -> String {
    let shown: Vec<_> = names.list().take(5).map(|(_, name)| format!("\"{}\"", short(name))).collect();
    let more = if names.by_number.len() > 5 { " and more" } else { "" };
    format!("finds {}{more}, and no person by name; set `person_class`, or use a model of people", shown.join(", "))
}

/// `{0: 'person', 1: "driver's seat"}`: the repr of a Python dict of numbers to strings, or of a list of strings.
fn python_dict(text: &str) -> Option<BTreeMap<usize, String>> {
    let mut names = BTreeMap::new();
    let mut rest = text.trim();
    let (open, close, listed) = if rest.starts_with('[') { ('[', ']', true) } else { ('{', '}', false) };
    rest = rest.strip_prefix(open)?.trim_start();
    while !rest.starts_with(close) {
        let mut number = names.len();
        if !listed {
            let (digits, value) = rest.split_once(':')?;
            number = digits.trim().trim_matches(['\'', '"']).parse().ok()?;
            rest = value.trim_start();
        }
        let (name, behind) = python_string(rest)?;
        if names.len() >= CLASSES_MAX || names.insert(number, name).is_some() {
            return None;
        }
        rest = behind.trim_start();
        rest = rest.strip_prefix(',').map_or(rest, str::trim_start);
    }
    rest.strip_prefix(close).filter(|rest| rest.trim().is_empty()).map(|_| names)
}

/// A quoted string at the head of a text, and what is behind it. A backslash takes the next character as it is.
fn python_string(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut name = String::new();
    let mut chars = text[1..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.push(chars.next()?.1),
            c if c == quote => return Some((name, &text[1 + at + 1..])),
            c => name.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(list: &[&str]) -> Names {
        Names::of_list(&list.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_person_is_found_by_name_by_word_or_by_a_well_known_count() {
        let two = names(&["car", "Person"]);
        let of_idx = |text| Names::of_lines(text).unwrap();
        use Numbering::{Count, CountWithBackground as Behind, Named, Person};
        for (numbering, names, said, expect) in [
            (Count(80), None, None, Ok(0)),
            (Count(20), None, None, Ok(14)),
            (Behind(91), None, None, Ok(1)),
            (Behind(21), None, None, Ok(15)),
            (Count(2), Some(two.clone()), None, Ok(1)),
            (Behind(3), Some(two.clone()), None, Ok(2)),
            (Behind(3), Some(names(&["background", "person", "car"])), None, Ok(1)),
            (Behind(91), Some(of_idx("1 person\n2 bicycle\n90 toothbrush")), None, Ok(1)),
            (Count(7), None, Some(6), Ok(6)),
            (Named, Some(two.clone()), None, Ok(1)),
            (Named, None, Some(1), Ok(1)),
            (Person, None, None, Ok(0)),
            (Person, Some(names(&["person"])), None, Ok(0)),
            (Count(1), None, None, Err("has 1 class and no names")),
            (Count(90), None, None, Err("has 90 classes and no names")),
            (Count(3), Some(two.clone()), None, Err("has 3 classes in its outputs and 2 names")),
            (Count(80), Some(two.clone()), Some(0), Err("has 80 classes in its outputs and 2 names")),
            (Behind(4), Some(two.clone()), None, Err("has 4 classes in its outputs and 2 names")),
            (Count(2), Some(of_idx("1 person\n2 car")), None, Err("has 2 classes in its outputs and 3 names")),
            (Count(7), None, Some(7), Err("has classes 0 to 6 and person_class is 7")),
            (Count(2), Some(names(&["car", "bus"])), None, Err("finds \"car\", \"bus\", and no person")),
            (Named, Some(names(&["car"])), None, Err("finds \"car\", and no person")),
            (Named, Some(two), Some(2), Err("has names for 2 classes and person_class is 2")),
            (Named, None, None, Err("gives class numbers and no names")),
            (Person, Some(names(&["car"])), None, Err("finds \"car\"")),
            (Person, None, Some(3), Err("has one class, number 0, and person_class is 3")),
        ] {
            match (person(numbering, names.as_ref(), said), expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect, "{numbering:?} {names:?}"),
                (Err(refusal), Err(expect)) => assert!(refusal.starts_with(expect), "{expect}: {refusal}"),
                (found, expect) => panic!("{numbering:?} {names:?} {said:?}: {found:?}, expected {expect:?}"),
            }
        }
    }

    #[test]
    fn labels_are_read_as_lines_or_as_numbered_lines() {
        let plain = Names::of_lines("person\r\n\n traffic light \n").unwrap();
        assert_eq!(plain.list().collect::<Vec<_>>(), [(0, "person"), (1, "traffic light")]);
        let numbered = Names::of_lines("1 person\n3: car\n").unwrap();
        assert_eq!(numbered.list().collect::<Vec<_>>(), [(1, "person"), (3, "car")]);
        // One line without a number: then none is one.
        assert_eq!(Names::of_lines("1 person\ncar").unwrap().count(), 2);
        for (text, expect) in [
            ("", "for no class"),
            ("\n\n", "for no class"),
            ("1 a\n1 b", "two names for one class number"),
            ("18446744073709551615 a", "more than 2048"),
            (&"x\n".repeat(CLASSES_MAX + 1), "more than 2048"),
        ] {
            assert!(Names::of_lines(text).unwrap_err().contains(expect), "{text:.20}");
        }
    }

    #[test]
    fn a_python_dict_is_read_as_python_writes_it_and_json_is_not_assumed() {
        let read = |text: &str| {
            let metadata = [("names".to_owned(), text.to_owned())].into();
            Names::of_metadata(&metadata).map(|names| names.unwrap().list().map(|(n, s)| (n, s.to_owned())).collect())
        };
        let pairs = |list: &[(usize, &str)]| Ok(list.iter().map(|(n, s)| (*n, s.to_string())).collect::<Vec<_>>());
        assert_eq!(read("{0: 'person', 1: 'bicycle'}"), pairs(&[(0, "person"), (1, "bicycle")]));
        assert_eq!(read(r#"{0: "driver's, seat", 1: 'a\'b:c'}"#), pairs(&[(0, "driver's, seat"), (1, "a'b:c")]));
        assert_eq!(read(r#"{"0": "person"}"#), pairs(&[(0, "person")]));
        assert_eq!(read("['person', 'car']"), pairs(&[(0, "person"), (1, "car")]));
        for text in
            ["", "{", "{}", "{0: person}", "{0: 'person'", "{0: 'a', 0: 'b'}", "{x: 'a'}", "{0: 'a} ", "{0: 'a'} b"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}0-9:,'\"\\\\ a-zé]{0,60}") {
            let _ = python_dict(&text);
            let _ = Names::of_lines(&text);
        }
    }
}
