//! MOTChallenge: ground truth (`gt/gt.txt`), and results in the same columns.
//!
//! Frames count from 1; boxes are left, top, width, height. Ten columns are MOT15's (the seventh says whether a line is
//! to be considered); nine are MOT16's and later (considered, class, visibility). As the benchmark's rules have it
//! (Milan et al., "MOT16: A Benchmark for Multi-Object Tracking", 2016), only pedestrians are to be found; people on
//! vehicles, static people, distractors, reflections and lines that are not to be considered are ignored; other classes
//! are left out. Edges are taken as they stand (as TrackEval does; motmetrics subtracts one pixel from left and top).

use std::collections::HashSet;
use std::fmt::Write as _;

use super::{Naming, Truth, TruthBox, TruthError, corners, pixels, rows, whole};
use crate::frame::Area;

const COLUMNS: &str = "a MOT truth has 10 columns (frame,id,left,top,width,height,consider,x,y,z) or 9 \
                       (frame,id,left,top,width,height,consider,class,visibility)";
const PEDESTRIAN: u64 = 1;
/// Person on vehicle, static person, distractor, reflection.
const LIKE_PEOPLE: [u64; 4] = [2, 7, 8, 12];

/// Reads a gt.txt.
pub fn parse(text: &str) -> Result<Truth, TruthError> {
    let mut truth = Truth::new(Naming::Number { first: 1 });
    let mut seen = HashSet::new();
    let mut columns = None;
    for (at, fields) in rows(text) {
        let wrong = |what: String| TruthError::line(at, what);
        let count = *columns.get_or_insert(fields.len());
        if !matches!(count, 9 | 10) || fields.len() != count {
            return Err(wrong(format!("it has {} columns, and {COLUMNS}; check the file", fields.len())));
        }
        let (frame, marked) = line(&fields).map_err(wrong)?;
        let Some(marked) = marked else {
            truth.others += 1;
            continue;
        };
        if !seen.insert((frame, marked.id)) {
            let id = marked.id.unwrap_or_default();
            return Err(wrong(format!("id {id} stands twice in frame {frame}; remove one")));
        }
        truth.add_numbered(at, frame, marked)?;
    }
    Ok(truth)
}

/// The frame and the box of one line; no box where it is something else than a person.
fn line(fields: &[&str]) -> Result<(u64, Option<TruthBox>), String> {
    let frame = whole("frame", fields[0])?;
    if fields[1] == "-1" {
        return Err("id is -1, so these are detections and no truth; give the gt.txt".into());
    }
    let id = whole("id", fields[1])?;
    let (left, top) = (pixels("left", fields[2])?, pixels("top", fields[3])?);
    let (width, height) = (pixels("width", fields[4])?, pixels("height", fields[5])?);
    let area = corners([left, top, left + width, top + height])?;
    let considered = pixels("consider", fields[6])? != 0.0;
    let class = if fields.len() == 9 { whole("class", fields[7])? } else { PEDESTRIAN };
    let ignore = !considered || LIKE_PEOPLE.contains(&class);
    let person = class == PEDESTRIAN || LIKE_PEOPLE.contains(&class);
    Ok((frame, person.then_some(TruthBox { area, id: Some(id), ignore })))
}

/// Adds one line of a result: the tracker's boxes in MOTChallenge's ten columns. `frame` counts from 1.
pub fn write_result(out: &mut String, frame: u64, id: u64, area: &Area, score: f32) {
    let Area { x1, y1, .. } = area;
    let (width, height) = (area.width(), area.height());
    writeln!(out, "{frame},{id},{x1:.2},{y1:.2},{width:.2},{height:.2},{score:.4},-1,-1,-1")
        .expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(truth: &Truth, frame: usize) -> Vec<(u64, [f32; 4], bool)> {
        let boxes = truth.of(frame, "").unwrap_or(&[]);
        boxes.iter().map(|b| (b.id.unwrap(), [b.area.x1, b.area.y1, b.area.x2, b.area.y2], b.ignore)).collect()
    }

    #[test]
    fn both_generations_of_columns_are_read() {
        let old = parse("1,3,794.2,47.5,71.2,174.8,1,-1,-1,-1\r\n1, 4, 10, 20, 30, 40, 0, -1, -1, -1\n").unwrap();
        assert_eq!(shown(&old, 0), [(3, [794.2, 47.5, 865.4, 222.3], false), (4, [10.0, 20.0, 40.0, 60.0], true)]);
        let new =
            parse("2,1,10,20,30,40,1,1,0.9\n2,2,10,20,30,40,1,8,1\n2,3,10,20,30,40,1,3,1\n2,4,10,20,30,40,0,1,1\n");
        let new = new.unwrap();
        assert_eq!(shown(&new, 1).iter().map(|b| (b.0, b.2)).collect::<Vec<_>>(), [(1, false), (2, true), (4, true)]);
        assert_eq!((new.others, shown(&new, 0).len(), new.of(2, "")), (1, 0, None));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let fine = "1,1,10,20,30,40,1,-1,-1,-1\n";
        for (line, expect) in [
            ("1,2,10,20,30,40", "line 3: it has 6 columns, and a MOT truth has 10"),
            ("1,2,10,20,30,40,1,1,1", "line 3: it has 9 columns"),
            ("1,2,10,20,-30,40,1,-1,-1,-1", "line 3: the box's width is -30, and must be above 0"),
            ("1,2,10,20,30,0,1,-1,-1,-1", "line 3: the box's height is 0"),
            ("1,2,x,20,30,40,1,-1,-1,-1", "line 3: left is \"x\", which is no number"),
            ("1,2,nan,20,30,40,1,-1,-1,-1", "line 3: left is nan, and no picture is as large"),
            ("1,2,1e9,20,30,40,1,-1,-1,-1", "line 3: left is 1e9, and no picture is as large"),
            ("0,2,10,20,30,40,1,-1,-1,-1", "line 3: frame 0 does not exist"),
            ("-4,2,10,20,30,40,1,-1,-1,-1", "line 3: frame is \"-4\", and must be a whole number"),
            ("1.5,2,10,20,30,40,1,-1,-1,-1", "line 3: frame is \"1.5\""),
            ("1,-1,10,20,30,40,1,-1,-1,-1", "line 3: id is -1, so these are detections"),
            ("1,1,10,20,30,40,1,-1,-1,-1", "line 3: id 1 stands twice in frame 1"),
        ] {
            let refused = parse(&format!("{fine}\n{line}\n{fine}")).unwrap_err().to_string();
            assert!(refused.starts_with(expect), "{refused}");
        }
    }

    #[test]
    fn a_written_result_reads_back() {
        let mut text = String::new();
        let area = Area { x1: 1.25, y1: -2.0, x2: 11.5, y2: 30.0 };
        write_result(&mut text, 7, 3, &area, 0.5);
        assert_eq!(text, "7,3,1.25,-2.00,10.25,32.00,0.5000,-1,-1,-1\n");
        assert_eq!(shown(&parse(&text).unwrap(), 6), [(3, [1.25, -2.0, 11.5, 30.0], false)]);
    }
}
