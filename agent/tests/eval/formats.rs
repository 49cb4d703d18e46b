//! The same boxes in every format give the same figures.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use picket_agent::eval::files::read_truth;
use picket_agent::eval::score::{Figures, Found, score};
use picket_agent::frame::{Area, Detection};

/// Frames of whole-pixel boxes, because Pascal VOC has no others.
const FRAMES: [&[[u32; 4]]; 4] =
    [&[[10, 20, 50, 120], [60, 20, 90, 100]], &[], &[[12, 20, 52, 120]], &[[14, 20, 54, 120], [70, 30, 99, 99]]];

fn name(frame: usize) -> String {
    format!("p{frame:03}.jpg")
}

fn written(folder: &Path) -> Vec<PathBuf> {
    let (mut mot, mut top) = (String::new(), String::new());
    let mut csv = "file,x1,y1,x2,y2,ignore\n".to_owned();
    let voc = folder.join("voc");
    std::fs::create_dir(&voc).unwrap();
    for (frame, boxes) in FRAMES.iter().enumerate() {
        let mut objects = String::new();
        if boxes.is_empty() {
            writeln!(csv, "{},,,,,", name(frame)).unwrap();
        }
        for (id, [x1, y1, x2, y2]) in boxes.iter().enumerate() {
            let (w, h) = (x2 - x1, y2 - y1);
            writeln!(mot, "{},{id},{x1},{y1},{w},{h},1,1,1", frame + 1).unwrap();
            writeln!(top, "{id},{frame},1,1,{x1},{y1},{x2},{y2},{x1},{y1},{x2},{y2}").unwrap();
            writeln!(csv, "{},{x1},{y1},{x2},{y2},0", name(frame)).unwrap();
            let (xmin, ymin) = (x1 + 1, y1 + 1);
            write!(
                objects,
                "<object><name>person</name><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{x2}</xmax>\
                 <ymax>{y2}</ymax></bndbox></object>"
            )
            .unwrap();
        }
        let file = voc.join(name(frame)).with_extension("xml");
        std::fs::write(file, format!("<annotation>{objects}</annotation>")).unwrap();
    }
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    vec![write("gt.txt", mot), write("a.top", top), write("a.csv", csv), voc]
}

#[test]
fn the_same_boxes_in_every_format_give_the_same_figures() {
    let dir = tempfile::tempdir().unwrap();
    // A detector that is three pixels off, misses the last person, and sees somebody in the empty frame.
    let found: Vec<Vec<Detection>> = FRAMES
        .iter()
        .enumerate()
        .map(|(frame, boxes)| {
            let seen = boxes.iter().take(if frame == 3 { 1 } else { 2 });
            let ghost: &[[u32; 4]] = if frame == 1 { &[[200, 10, 230, 80]] } else { &[] };
            let area = |b: &[u32; 4]| {
                let [x1, y1, x2, y2] = b.map(|edge| edge as f32);
                Area { x1: x1 + 3.0, y1, x2: x2 + 3.0, y2 }
            };
            seen.chain(ghost).map(|b| Detection { area: area(b), score: 0.8 }).collect()
        })
        .collect();
    let names: Vec<String> = (0..FRAMES.len()).map(name).collect();
    let seen: Vec<Found> =
        (0..4).map(|index| Found { index, name: &names[index], detections: &found[index] }).collect();
    let figures = |path: &PathBuf| -> Figures {
        let truth = read_truth(path, None).unwrap_or_else(|failure| panic!("{failure}")).truth;
        truth.check_names(names.iter().map(String::as_str)).unwrap();
        score(&seen, &truth, 0.3, None).figures
    };
    let all: Vec<Figures> = written(dir.path()).iter().map(figures).collect();
    let counts = all[0].counts;
    assert_eq!((counts.frames, counts.people, counts.found, counts.correct, counts.count_error), (4, 5, 5, 4, 2));
    assert!(all.iter().all(|figures| *figures == all[0]), "{all:?}");
}
