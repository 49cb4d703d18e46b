//! Oxford Town Centre's `.top` (Benfold and Reid, "Stable Multi-Target Tracking in Real-Time Surveillance Video", 2011).
//!
//! Twelve columns, by the data set's own page: personNumber, frameNumber, headValid, bodyValid, headLeft, headTop,
//! headRight, headBottom, bodyLeft, bodyTop, bodyRight, bodyBottom. Frames count from 0, at 25 a second. The body is
//! what is to be found; a body that is marked as not valid is ignored where it has an extent, and left out where not.

use std::collections::HashSet;

use super::{Naming, Truth, TruthBox, TruthError, corners, pixels, rows, whole};

/// Frames a second of the published video.
pub const FPS: f64 = 25.0;

const COLUMNS: [&str; 12] = [
    "personNumber",
    "frameNumber",
    "headValid",
    "bodyValid",
    "headLeft",
    "headTop",
    "headRight",
    "headBottom",
    "bodyLeft",
    "bodyTop",
    "bodyRight",
    "bodyBottom",
];

/// Reads a `.top`.
pub fn parse(text: &str) -> Result<Truth, TruthError> {
    let mut truth = Truth::new(Naming::Number { first: 0 });
    let mut seen = HashSet::new();
    for (at, fields) in rows(text) {
        let wrong = |what: String| TruthError::line(at, what);
        if fields.len() != COLUMNS.len() {
            let (count, columns) = (fields.len(), COLUMNS.join(","));
            return Err(wrong(format!("it has {count} columns, and a .top has 12 ({columns}); check the file")));
        }
        let (frame, marked) = line(&fields).map_err(wrong)?;
        let Some(marked) = marked else {
            truth.others += 1;
            continue;
        };
        if !seen.insert((frame, marked.id)) {
            let person = marked.id.unwrap_or_default();
            return Err(wrong(format!("person {person} stands twice in frame {frame}; remove one")));
        }
        truth.add_numbered(at, frame, marked)?;
    }
    Ok(truth)
}

fn line(fields: &[&str]) -> Result<(u64, Option<TruthBox>), String> {
    let (person, frame) = (whole(COLUMNS[0], fields[0])?, whole(COLUMNS[1], fields[1])?);
    let valid = |at: usize| match fields[at] {
        "0" => Ok(false),
        "1" => Ok(true),
        other => Err(format!("{} is \"{other:.20}\", and must be 0 or 1; check the columns' order", COLUMNS[at])),
    };
    let (_, body_valid) = (valid(2)?, valid(3)?);
    let mut body = [0.0; 4];
    for (at, edge) in (8..12).zip(&mut body) {
        *edge = pixels(COLUMNS[at], fields[at])?;
    }
    let marked = |area| TruthBox { area, id: Some(person), ignore: !body_valid };
    match corners(body) {
        Ok(area) => Ok((frame, Some(marked(area)))),
        Err(_) if !body_valid => Ok((frame, None)),
        Err(what) => Err(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_from_frame_0_on() {
        let text = "0,0,1,1,1364.2,98.2,1385.2,126.1,1350.1,92.1,1398.7,227.0\n\
                    1,0,1,0,0,0,1,1,10,20,30,40\n2,0,1,0,5,5,6,6,0,0,0,0\n0,1,0,1,0,0,0,0,1350,92,1398,227\n";
        let truth = parse(text).unwrap();
        let first = truth.of(0, "").unwrap();
        assert_eq!(first.iter().map(|b| (b.id, b.ignore)).collect::<Vec<_>>(), [(Some(0), false), (Some(1), true)]);
        assert_eq!((first[0].area.x1, first[0].area.y2), (1350.1, 227.0));
        assert_eq!((truth.of(1, "").unwrap().len(), truth.others), (1, 1));
        assert!(truth.of(2, "").is_none());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (line, expect) in [
            ("0,0,1,1,0,0,1,1,10,20,30", "line 2: it has 11 columns, and a .top has 12 (personNumber,"),
            ("0,0,1,1,0,0,1,1,30,20,10,40", "line 2: the box's width is -20"),
            ("0,0,1,2,0,0,1,1,10,20,30,40", "line 2: bodyValid is \"2\""),
            ("0,0,1,1,0,0,1,1,10,twenty,30,40", "line 2: bodyTop is \"twenty\", which is no number"),
            ("9,9,1,1,0,0,1,1,10,20,30,40", "line 2: person 9 stands twice in frame 9"),
        ] {
            let refused = parse(&format!("9,9,1,1,0,0,1,1,10,20,30,40\n{line}")).unwrap_err().to_string();
            assert!(refused.starts_with(expect), "{refused}");
        }
    }
}
