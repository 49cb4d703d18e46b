//! A table of boxes: `file,x1,y1,x2,y2,ignore`.
//!
//! Pictures go by their file's name. Edges are pixels, the right and lower ones exclusive; `ignore` is 0 or 1. A line
//! with nothing after the file says that nobody is in the picture. A first line with these names is a heading.

use super::{Naming, Truth, TruthBox, TruthError, corners, pixels, rows};

const COLUMNS: [&str; 6] = ["file", "x1", "y1", "x2", "y2", "ignore"];

/// Reads a table.
pub fn parse(text: &str) -> Result<Truth, TruthError> {
    let mut truth = Truth::new(Naming::File);
    for (at, fields) in rows(text) {
        if fields == COLUMNS && truth.frames.is_empty() {
            continue;
        }
        let added = line(&fields).and_then(|marked| truth.add(fields[0], || format!("line {at}"), marked));
        added.map_err(|what| TruthError::line(at, what))?;
    }
    Ok(truth)
}

fn line(fields: &[&str]) -> Result<Option<TruthBox>, String> {
    let [file, edges @ .., ignore] = fields else { return Err(columns(fields.len())) };
    if edges.len() != 4 {
        return Err(columns(fields.len()));
    }
    if file.is_empty() || file.contains(['/', '\\']) {
        return Err(format!("file is \"{file:.60}\"; give the name of a picture in the source's folder"));
    }
    if edges.iter().all(|edge| edge.is_empty()) {
        return Ok(None);
    }
    let mut numbers = [0.0; 4];
    for (at, number) in numbers.iter_mut().enumerate() {
        *number = pixels(COLUMNS[at + 1], edges[at])?;
    }
    let area = corners(numbers)?;
    match *ignore {
        "0" | "" => Ok(Some(TruthBox { area, id: None, ignore: false })),
        "1" => Ok(Some(TruthBox { area, id: None, ignore: true })),
        other => Err(format!("ignore is \"{other:.20}\", and must be 0 or 1; check the columns' order")),
    }
}

fn columns(count: usize) -> String {
    format!("it has {count} columns, and there must be 6 ({}); check the file", COLUMNS.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_read_by_picture() {
        let text = "file,x1,y1,x2,y2,ignore\na.jpg,1,2,3,4.5,0\nb.jpg,,,,,\n# a remark\n\na.jpg,10,20,30,40,1\n";
        let truth = parse(text).unwrap();
        let a = truth.of(0, "a.jpg").unwrap();
        assert_eq!(a.iter().map(|b| (b.area.y2, b.ignore)).collect::<Vec<_>>(), [(4.5, false), (40.0, true)]);
        assert_eq!(truth.of(5, "b.jpg"), Some(&[][..]));
        assert_eq!(truth.of(0, "c.jpg"), None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (line, expect) in [
            ("a.jpg,1,2,3,4", "line 2: it has 5 columns, and there must be 6 (file,x1,y1,x2,y2,ignore)"),
            ("a.jpg", "line 2: it has 1 columns"),
            ("a.jpg,1,2,1,4,0", "line 2: the box's width is 0"),
            ("a.jpg,1,9,3,4,0", "line 2: the box's height is -5"),
            ("a.jpg,1,2,,4,0", "line 2: x2 is \"\", which is no number"),
            ("a.jpg,1,2,inf,4,0", "line 2: x2 is inf, and no picture is as large"),
            ("a.jpg,1,2,3,4,yes", "line 2: ignore is \"yes\", and must be 0 or 1"),
            ("d/a.jpg,1,2,3,4,0", "line 2: file is \"d/a.jpg\"; give the name"),
            (",1,2,3,4,0", "line 2: file is \"\""),
        ] {
            let refused = parse(&format!("a.jpg,1,2,3,4,0\n{line}\n")).unwrap_err().to_string();
            assert!(refused.starts_with(expect), "{refused}");
        }
    }
}
