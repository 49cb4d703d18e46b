//! Pascal VOC: one XML file a picture (Everingham et al., "The Pascal Visual Object Classes Challenge", 2010).
//!
//! Objects named `person` or `pedestrian` are to be found, unless `difficult`, which makes them ignored; other objects
//! are left out, and so are an object's parts. Corners are whole pixels, counted from 1 and inclusive. A picture goes
//! by its XML file's name, because `<filename>` often names a file that was renamed since.

use roxmltree::{Document, Node, ParsingOptions};

use super::{Naming, Truth, TruthBox, TruthError, corners, pixels};

/// Elements of one file: a thousand boxes with a few parts each.
const NODES_MAX: u32 = 200_000;
const PEOPLE: [&str; 2] = ["person", "pedestrian"];

/// A truth that [`add`] fills.
pub fn empty() -> Truth {
    Truth::new(Naming::Stem)
}

/// Adds one file's content; `file` is its name.
pub fn add(truth: &mut Truth, file: &str, text: &str) -> Result<(), TruthError> {
    let failure = |line: u32, what: String| TruthError { place: format!("{file} line {line}"), what };
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options)
        .map_err(|e| failure(e.pos().row, format!("it is no XML that can be read ({e}); copy it again")))?;
    let root = document.root_element();
    if !root.has_tag_name("annotation") {
        let what = format!("it begins with <{:.40}> and not with <annotation>", root.tag_name().name());
        return Err(failure(1, format!("{what}; give a folder of Pascal VOC annotations")));
    }
    let stem = super::stem(file);
    let add = |truth: &mut Truth, marked| truth.add(stem, || file.to_owned(), marked);
    // Also a picture without objects was looked at.
    add(truth, None).map_err(|what| failure(1, what))?;
    for object in root.children().filter(|node| node.has_tag_name("object")) {
        let marked = read(object).and_then(|marked| {
            truth.others += u64::from(marked.is_none());
            add(truth, marked)
        });
        marked.map_err(|what| failure(document.text_pos_at(object.range().start).row, what))?;
    }
    Ok(())
}

fn read(object: Node) -> Result<Option<TruthBox>, String> {
    let name = text(object, "name").ok_or("an object has no <name>; correct it")?;
    if !PEOPLE.contains(&name.to_ascii_lowercase().as_str()) {
        return Ok(None);
    }
    let frame = child(object, "bndbox").ok_or("an object has no <bndbox>; correct it")?;
    let edge = |name: &str| {
        let text = text(frame, name).ok_or_else(|| format!("a <bndbox> has no <{name}>; correct it"))?;
        pixels(name, text)
    };
    // From 1 and inclusive to from 0 and exclusive.
    let area = corners([edge("xmin")? - 1.0, edge("ymin")? - 1.0, edge("xmax")?, edge("ymax")?])?;
    let ignore = text(object, "difficult").is_some_and(|difficult| difficult != "0");
    Ok(Some(TruthBox { area, id: None, ignore }))
}

fn child<'a, 'd>(node: Node<'a, 'd>, name: &str) -> Option<Node<'a, 'd>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn text<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name)?.text().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Area;

    const OBJECT: &str = "<object>\n<name>Person</name><difficult>0</difficult>\n\
        <part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>\n\
        <bndbox><xmin>11</xmin><ymin>21</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>\n</object>";

    fn parse(objects: &str) -> Result<Truth, String> {
        let mut truth = empty();
        let text = format!("<?xml version=\"1.0\"?>\n<annotation><filename>x.jpg</filename>\n{objects}\n</annotation>");
        add(&mut truth, "000012.xml", &text).map_err(|e| e.to_string())?;
        Ok(truth)
    }

    #[test]
    fn people_are_read_and_parts_and_cars_are_not() {
        let difficult = OBJECT.replace("difficult>0", "difficult>1");
        let truth = parse(&format!("{OBJECT}{difficult}{}", OBJECT.replace("Person", "car"))).unwrap();
        let boxes = truth.of(0, "000012.jpg").unwrap();
        assert_eq!(boxes.iter().map(|b| b.ignore).collect::<Vec<_>>(), [false, true]);
        assert_eq!(boxes[0].area, Area { x1: 10.0, y1: 20.0, x2: 30.0, y2: 40.0 });
        assert_eq!(truth.others, 1);
        assert_eq!(parse("").unwrap().of(0, "000012.png"), Some(&[][..]), "looked at, and nobody there");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_file_and_line() {
        for (objects, expect) in [
            ("<object>".to_owned(), "000012.xml line 4: it is no XML that can be read"),
            (OBJECT.replace("30<", "3<"), "000012.xml line 3: the box's width is -7"),
            (OBJECT.replace("11<", "eleven<"), "000012.xml line 3: xmin is \"eleven\", which is no number"),
            (format!("{OBJECT}\n{}", OBJECT.replace("ymax", "max")), "000012.xml line 8: a <bndbox> has no <ymax>"),
            ("<object></object>".to_owned(), "000012.xml line 3: an object has no <name>"),
        ] {
            let refused = parse(&objects).unwrap_err();
            assert!(refused.starts_with(expect), "{refused}");
        }
        let refused = add(&mut empty(), "a.xml", "<html/>").unwrap_err().to_string();
        assert!(refused.starts_with("a.xml line 1: it begins with <html>"), "{refused}");
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><annotation>&b;</annotation>";
        assert!(add(&mut empty(), "a.xml", bomb).unwrap_err().to_string().contains("no XML that can be read"));
    }
}
