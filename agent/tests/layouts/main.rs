//! Every family of layouts on the real runtime: models that these tests write themselves, which give known numbers for
//! any picture, and the boxes that a person works out from them.
//!
//! Where a test says nothing else, the model's picture is 64 x 64 and the frame 128 x 64: it lies in the picture at half
//! its size from row 16 on, so that a frame's coordinates are (2·x, 2·(y - 16)). Where there is no runtime library, the
//! tests fail and say what to do.

// The allowance for tests does not reach the helpers between them.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod fallback;
mod gate;
mod onnx;
mod outputs;
mod quantize;
mod wide;

use std::path::{Path, PathBuf};

use onnx::{Data, Kind, Model};
use picket_agent::detect::layout::{Colors, Family, InputOverride};
use picket_agent::detect::{Config, Detector, inspect};
use picket_agent::frame::{Detection, Frame};
use picket_shared::exit::Exit;

const NAMES: &str = "{0: 'car', 1: 'person'}";

/// A model on disk, as long as the directory lives.
fn saved(dir: &Path, model: &Model) -> Config {
    let path = dir.join("model.onnx");
    std::fs::write(&path, model.bytes()).unwrap();
    Config { model: path.to_str().unwrap().into(), ..Config::default() }
}

fn frame(width: u32, height: u32, color: [u8; 3]) -> Frame {
    Frame { taken_ms: 0, width, height, rgb: color.repeat(width as usize * height as usize) }
}

fn load(config: &Config) -> Detector {
    Detector::load(config).unwrap_or_else(|failure| panic!("{failure}"))
}

/// Rows of zeros but for the given ones.
fn rows(count: usize, columns: usize, fill: f32, given: &[(usize, &[f32])]) -> Data {
    let mut numbers = vec![fill; count * columns];
    for (row, values) in given {
        numbers[row * columns..row * columns + values.len()].copy_from_slice(values);
    }
    Data::F32(numbers)
}

/// The same numbers, columns as rows.
fn turned(data: Data, columns: usize) -> Data {
    let Data::F32(numbers) = data else { unreachable!() };
    let count = numbers.len() / columns;
    Data::F32((0..numbers.len()).map(|at| numbers[at % count * columns + at / count]).collect())
}

fn assert_finds(what: &str, found: &[Detection], expected: &[([f32; 4], f32)]) {
    let shown: Vec<_> = found.iter().map(|d| ([d.area.x1, d.area.y1, d.area.x2, d.area.y2], d.score)).collect();
    let near = |a: &([f32; 4], f32), b: &([f32; 4], f32)| {
        a.0.iter().zip(b.0).all(|(a, b)| (a - b).abs() < 0.01) && (a.1 - b.1).abs() < 1e-4
    };
    let same = shown.len() == expected.len() && shown.iter().zip(expected).all(|(a, b)| near(a, b));
    assert!(same, "{what}: found {shown:?}, expected {expected:?}");
}

/// A family's model, the frame's size, and what is in it.
struct Case {
    layout: &'static str,
    model: Model,
    size: (u32, u32),
    expected: Vec<([f32; 4], f32)>,
}

/// The box from 24 to 40 of the picture both ways, in the frame.
const MIDDLE: [f32; 4] = [48.0, 16.0, 80.0, 48.0];

fn case(layout: &'static str, model: Model, expected: &[([f32; 4], f32)]) -> Case {
    Case { layout, model, size: (128, 64), expected: expected.to_vec() }
}

fn yolos() -> Vec<Case> {
    let small = || Model::of_picture(64, 64).says("names", NAMES);
    // Centre and sides, car, person. The second overlaps the first, the third is a car, the fourth is nobody.
    let v8 = rows(
        84,
        6,
        0.0,
        &[
            (10, &[32.0, 32.0, 16.0, 16.0, 0.1, 0.9]),
            (11, &[33.0, 32.0, 16.0, 16.0, 0.1, 0.8]),
            (12, &[20.0, 32.0, 16.0, 16.0, 0.95, 0.1]),
            (13, &[20.0, 32.0, 16.0, 16.0, 0.1, 0.29]),
        ],
    );
    // The same behind an objectness.
    let v5 = rows(
        252,
        7,
        0.0,
        &[(100, &[32.0, 32.0, 16.0, 16.0, 0.9, 0.1, 0.8]), (200, &[32.0, 32.0, 9.0, 9.0, 0.5, 0.0, 0.5])],
    );
    // Column 1, row 2 of the map of stride 16, which begins behind the 64 cells of stride 8: centre 24, 32; sides 16, 32.
    let yolox = rows(84, 7, 0.0, &[(64 + 2 * 4 + 1, &[0.5, 0.0, 0.0, 2f32.ln(), 0.9, 0.1, 0.8])]);
    // Column 4, row 4 of the map of stride 8: point 32, 32. Distances of 1, 1, 1.5 and 2 strides.
    let mut distances = vec![-40.0; 2 + 4 * 8];
    (distances[0], distances[1]) = (0.1, 0.8);
    for (side, bin) in [(0, 1), (1, 1), (2, 1), (2, 2), (3, 2)] {
        distances[2 + side * 8 + bin] = 40.0;
    }
    let nanodet = |cells: usize| rows(cells, 34, 0.0, &[(4 * 8 + 4, &distances)]);
    // Column 6, row 7, the second anchor of 3.42 x 4.41 cells; objectness 0.9; 171 parts of 190 for the person.
    let mut voc = vec![0.0; 125 * 169];
    let at = |channel: usize| (25 + channel) * 169 + 7 * 13 + 6;
    (voc[at(4)], voc[at(5 + 14)]) = (9f32.ln(), 171f32.ln());
    vec![
        case("yolov8", small().gives("output0", &[1, 6, 84], turned(v8.clone(), 6)), &[(MIDDLE, 0.9)]),
        case("yolov8-transposed", small().gives("output0", &[1, 84, 6], v8), &[(MIDDLE, 0.9)]),
        case("yolov5", small().gives("output", &[1, 252, 7], v5), &[(MIDDLE, 0.72)]),
        case("yolox", small().gives("output", &[1, 84, 7], yolox), &[([32.0, 0.0, 64.0, 64.0], 0.72)]),
        case("nanodet-plus", small().gives("output", &[1, 85, 34], nanodet(85)), &[([48.0, 16.0, 88.0, 64.0], 0.8)]),
        // The older one measures from the middle of the cell, half a stride farther down and right.
        case("nanodet", small().gives("output", &[1, 84, 34], nanodet(84)), &[([56.0, 24.0, 96.0, 72.0 - 8.0], 0.8)]),
        Case {
            layout: "tiny-yolov2",
            // Of the seed article: known by its shape alone.
            model: Model::default().input("image", Kind::F32, &[1, 3, 416, 416]).gives(
                "grid",
                &[1, 125, 13, 13],
                Data::F32(voc),
            ),
            // At half its size from row 104 on. Centre 208, 240; sides 109.44, 141.12.
            size: (832, 416),
            expected: vec![([306.56, 130.88, 525.44, 413.12], 0.81)],
        },
    ]
}

fn suppressed() -> Vec<Case> {
    let small = || Model::of_picture(64, 64).says("names", NAMES);
    // Two of one place: what such a model gives is final. Then a car, and an empty row.
    let plain = rows(
        10,
        6,
        0.0,
        &[
            (0, &[24.0, 24.0, 40.0, 40.0, 0.9, 1.0]),
            (1, &[24.0, 24.0, 40.0, 40.0, 0.8, 1.0]),
            (2, &[4.0, 24.0, 20.0, 40.0, 0.7, 0.0]),
        ],
    );
    let v7 = rows(2, 7, 0.0, &[(0, &[0.0, 24.0, 24.0, 40.0, 40.0, 1.0, 0.9])]);
    let nas = rows(2, 7, 0.0, &[(0, &[0.0, 24.0, 24.0, 40.0, 40.0, 0.9, 1.0])]);
    let parts = rows(3, 4, 0.0, &[(0, &[0.375; 2]), (1, &[0.375, 0.375, 0.625, 0.625]), (2, &[0.0, 0.0, 1.0, 1.0])]);
    // Row first: the box is taller than it is wide only if its numbers are taken in that order.
    let row_first = rows(
        3,
        4,
        0.0,
        &[(0, &[0.25, 0.375, 0.75, 0.625]), (1, &[0.25, 0.375, 0.75, 0.625]), (2, &[0.0, 0.0, 1.0, 1.0])],
    );
    let f32s = |numbers: &[f32]| Data::F32(numbers.to_vec());
    let tensorflow = Model::default()
        .input("image_tensor:0", Kind::U8, &[1, 64, 64, 3])
        .says("names", NAMES)
        .gives("detection_boxes:0", &[1, 3, 4], row_first)
        .gives("detection_scores:0", &[1, 3], f32s(&[0.9, 0.8, 0.99]))
        .gives("detection_classes:0", &[1, 3], f32s(&[1.0, 0.0, 1.0]))
        // The third is beyond the count.
        .gives("num_detections:0", &[1], f32s(&[2.0]));
    let labelled = small().gives("bboxes", &[1, 3, 4], parts).gives("labels", &[1, 3], Data::I64(vec![0, 1, 0])).gives(
        "scores",
        &[1, 3],
        f32s(&[0.9, 0.8, 0.99]),
    );
    let pixels = small()
        .gives("boxes", &[1, 4], f32s(&[24.0, 24.0, 40.0, 40.0]))
        .gives("labels", &[1], Data::I64(vec![1]))
        .gives("scores", &[1], f32s(&[0.8]));
    vec![
        case("end2end", small().gives("output0", &[1, 10, 6], plain), &[(MIDDLE, 0.9), (MIDDLE, 0.8)]),
        case("end2end-yolov7", small().gives("output", &[2, 7], v7), &[(MIDDLE, 0.9)]),
        case("end2end-yolo-nas", small().gives("graph2_flat_predictions", &[2, 7], nas), &[(MIDDLE, 0.9)]),
        case("ssd-tensorflow", tensorflow, &[([48.0, 0.0, 80.0, 64.0], 0.9)]),
        case("ssd-labelled", labelled, &[(MIDDLE, 0.8)]),
        case("ssd-labelled", pixels, &[(MIDDLE, 0.8)]),
    ]
}

fn anchored_and_queried() -> Vec<Case> {
    let names = |model: Model| model.says("names", NAMES);
    // Map 1 of 10 x 10 begins behind 19 x 19 x 3 anchors; column 5, row 5, first of six: centre 0.55, side 0.35. Row first:
    // dy 0, dx 2, height halved, width kept. So 0.445 to 0.795 by 0.4625 to 0.6375 of 300.
    let first = 1083 + (5 * 10 + 5) * 6;
    let offsets = rows(1917, 4, 0.0, &[(first, &[0.0, 2.0, 5.0 * 0.5f32.ln(), 0.0])]);
    let logits = rows(1917, 3, -10.0, &[(first, &[0.0, 0.0, 9f32.ln()])]);
    let tensorflow = names(Model::of_picture(300, 300)).gives("boxes", &[1, 1917, 4], offsets).gives(
        "scores",
        &[1, 1917, 3],
        logits,
    );
    // Column 10, row 10 of 20 x 20, first of six: centre 0.525, side 0.2; a tenth of it to the right. 8 parts of 10.
    let first = (10 * 20 + 10) * 6;
    let offsets = rows(3234, 4, 0.0, &[(first, &[1.0])]);
    let mut logits = vec![0.0; 3234 * 3];
    logits.chunks_exact_mut(3).for_each(|row| row[2] = -10.0);
    logits[first * 3 + 2] = 8f32.ln();
    let lite = names(Model::of_picture(320, 320)).gives("scores", &[1, 3234, 3], Data::F32(logits)).gives(
        "boxes",
        &[1, 3234, 4],
        offsets,
    );

    let two = rows(10, 4, 0.0, &[(3, &[24.0, 24.0, 40.0, 40.0]), (4, &[24.0, 24.0, 40.0, 40.0])]);
    let mut scores = vec![0.0; 10];
    (scores[3], scores[4]) = (0.9, 0.8);
    let mut labels = vec![0; 10];
    labels[3] = 1;
    let d_fine = names(Model::of_picture(64, 64))
        .input("orig_target_sizes", Kind::I64, &[1, 2])
        .gives("labels", &[1, 10], Data::I64(labels))
        .gives("boxes", &[1, 10, 4], two)
        .gives("scores", &[1, 10], Data::F32(scores));
    let centred = [0.5, 0.5, 0.25, 0.25];
    let rf_detr = names(Model::of_picture(64, 64))
        .gives("dets", &[1, 10, 4], rows(10, 4, 0.0, &[(3, &centred)]))
        .gives("labels", &[1, 10, 3], rows(10, 3, -10.0, &[(3, &[0.0, 0.0, 9f32.ln()])]));
    let eight = "{0: 'a', 1: 'b', 2: 'c', 3: 'person', 4: 'd', 5: 'e', 6: 'f', 7: 'g'}";
    let flat = rows(100, 12, 0.0, &[(3, &[0.5, 0.5, 0.25, 0.25, 0.0, 0.0, 0.0, 0.9])]);
    let flat = Model::of_picture(64, 64).says("names", eight).gives("output0", &[1, 100, 12], flat);
    let centernet = Model::default()
        .input("image", Kind::U8, &[1, 64, 64, 3])
        .gives("boxes", &[1, 2, 4], rows(2, 4, 0.0, &[(0, &[0.375, 0.375, 0.625, 0.625])]))
        .gives("scores", &[1, 2], Data::F32(vec![0.9, 0.1]));
    vec![
        Case {
            layout: "ssd-raw-tensorflow",
            model: tensorflow,
            size: (600, 300),
            expected: vec![([267.0, 127.5, 477.0, 232.5], 0.9)],
        },
        Case {
            layout: "ssd-raw-lite",
            model: lite,
            size: (640, 320),
            expected: vec![([284.8, 112.0, 412.8, 240.0], 0.8)],
        },
        case("detr", d_fine, &[(MIDDLE, 0.9)]),
        case("rf-detr", rf_detr, &[(MIDDLE, 0.9)]),
        case("rt-detr-flat", flat, &[(MIDDLE, 0.9)]),
        case("centernet", centernet, &[(MIDDLE, 0.9)]),
    ]
}

#[test]
fn each_familys_numbers_become_the_boxes_that_were_worked_out_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let mut found = Vec::new();
    for Case { layout, model, size, expected } in [yolos(), suppressed(), anchored_and_queried()].into_iter().flatten()
    {
        let mut detector = load(&saved(dir.path(), &model));
        assert_eq!(detector.twin().layout, layout);
        for _ in 0..2 {
            detector.detect(&frame(size.0, size.1, [7; 3]), &mut found).unwrap();
            assert_finds(layout, &found, &expected);
        }
        assert_eq!(detector.rejected_outputs(), 0, "{layout}");
    }
}

/// A model of one row, whose score is the mean of the first channel of what it was given.
fn mean_of_first_channel() -> Model {
    Model::of_picture(64, 64)
        .says("names", NAMES)
        .constant("first", &[1], Data::I64(vec![0]))
        .constant("corners", &[1, 4], Data::F32(vec![24.0, 24.0, 40.0, 40.0]))
        .constant("class", &[1, 1], Data::F32(vec![1.0]))
        .node("GlobalAveragePool", &["images"], "pooled", &[])
        .node("Flatten", &["pooled"], "means", &[("axis", 1)])
        .node("Gather", &["means", "first"], "mean", &[("axis", 1)])
        .node("Concat", &["corners", "mean", "class"], "output", &[("axis", 1)])
        .output("output", 1, &[1, 6])
}

#[test]
fn the_picture_reaches_the_model_in_the_colors_and_numbers_of_its_family_or_as_configured() {
    let dir = tempfile::tempdir().unwrap();
    let config = saved(dir.path(), &mean_of_first_channel());
    let (mean, std) = (Some([54.0, 0.0, 0.0]), Some([250.0, 1.0, 1.0]));
    let none = InputOverride::default;
    for (input, score) in [
        (none(), 204.0 / 255.0),
        (InputOverride { colors: Some(Colors::Bgr), ..none() }, 102.0 / 255.0),
        (InputOverride { mean, std, ..none() }, (204.0 - 54.0) / 250.0),
    ] {
        let mut found = Vec::new();
        let mut detector = load(&Config { input: input.clone(), ..config.clone() });
        detector.detect(&frame(64, 64, [204, 153, 102]), &mut found).unwrap();
        assert_eq!(found.len(), 1, "{input:?}");
        assert!((found[0].score - score).abs() < 1e-3, "{input:?}: {}, expected {score}", found[0].score);
    }
}

#[test]
fn a_batch_that_is_left_open_is_settled_by_a_first_run() {
    let dir = tempfile::tempdir().unwrap();
    let row = rows(84, 6, 0.0, &[(10, &[32.0, 32.0, 16.0, 16.0, 0.1, 0.9])]);
    let model = Model::default()
        .input("images", Kind::F32, &[-1, 3, 64, 64])
        .says("names", NAMES)
        .constant("numbers", &[1, 6, 84], turned(row, 6))
        .constant("ones", &[2], Data::I64(vec![1, 1]))
        .node("Shape", &["images"], "batch", &[("start", 0), ("end", 1)])
        .node("Concat", &["batch", "ones"], "shape", &[("axis", 0)])
        .node("Expand", &["numbers", "shape"], "output0", &[])
        .output("output0", 1, &[-1, 6, 84]);
    let mut found = Vec::new();
    load(&saved(dir.path(), &model)).detect(&frame(128, 64, [7; 3]), &mut found).unwrap();
    assert_finds("open batch", &found, &[(MIDDLE, 0.9)]);
}

#[test]
fn what_does_not_fit_is_refused_at_load_and_inspect_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let labels = dir.path().join("labels.txt");
    std::fs::write(&labels, "car\nperson\n").unwrap();
    let grid = |columns: usize| {
        Model::of_picture(64, 64).gives("output0", &[1, 84, columns as i64], rows(84, columns, 0.0, &[]))
    };
    let coco = Model::of_picture(96, 96).gives("output0", &[1, 84, 189], rows(84, 189, 0.0, &[]));
    let with_labels = |config: Config| Config { labels: Some(labels.clone()), ..config };
    type Change<'a> = &'a dyn Fn(Config) -> Config;
    let as_is: Change = &|config| config;
    let labelled: Change = &with_labels;
    let yolov8: Change = &|config| Config { layout: Some(Family::Yolov8), ..config };
    let tiny: Change = &|config| Config { layout: Some(Family::TinyYolov2), ..config };
    let sized: Change =
        &|config| Config { input: InputOverride { size: Some([32, 32]), ..InputOverride::default() }, ..config };
    let open = Model::default().input("images", Kind::F32, &[1, 3, -1, -1]).gives(
        "output0",
        &[1, 84, 84],
        rows(84, 84, 0.0, &[]),
    );
    for (model, change, expect) in [
        (coco.clone(), labelled, "has 80 classes in its outputs and 2 names"),
        (
            grid(6),
            as_is,
            "can be read as yolov8-transposed with 2 classes or as yolox with 1 class; give `labels`, or set layout",
        ),
        (grid(6), yolov8, "has 2 classes and no names for them; set `person_class`"),
        (
            grid(84),
            tiny,
            "is not a tiny-yolov2 model: inputs images f32 [1,3,64,64]; outputs output0 f32 [1,84,84]; such a one has",
        ),
        (grid(84), labelled, "has 2 names for its classes, and can be read as yolov8 with 80 classes or as"),
        (coco, sized, "and input.size says 32"),
        (open, as_is, "leaves the size of its picture open (input images)"),
        (grid(6).says("task", "pose"), as_is, "is made for the task \"pose\""),
        (grid(6).node("Sort", &["images"], "sorted", &[]), as_is, "is refused by the runtime"),
    ] {
        let config = change(saved(dir.path(), &model));
        let failure = Detector::load(&config).err().expect(expect);
        assert_eq!(failure.exit, Exit::Data, "{failure}");
        assert!(failure.sentence.contains(expect) && !failure.sentence.contains('\n'), "{expect}: {failure}");
        let seen = inspect::inspect(&config).unwrap();
        assert_eq!(seen.refused.as_ref(), Some(&failure.sentence));
        assert!(seen.graph.is_some() && seen.to_string().contains("refused: "), "{seen}");
    }
    // What was said makes it one.
    assert_eq!(load(&with_labels(saved(dir.path(), &grid(6)))).twin().layout, "yolov8-transposed");
    let said = Config { layout: Some(Family::Yolox), person_class: Some(0), ..saved(dir.path(), &grid(6)) };
    assert_eq!(load(&said).twin().layout, "yolox");
}

#[test]
fn ten_thousand_candidates_and_numbers_that_cannot_be_are_bounded_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    // 160 x 160 has 525 cells, so three times as many boxes: all of them people; then a picture of 640.
    let all = |width: i64, row: &[f32]| {
        let cells = (width * width * 3 / 64 + width * width * 3 / 256 + width * width * 3 / 1024) as usize;
        let given: Vec<(usize, &[f32])> = (0..cells).map(|at| (at, row)).collect();
        let data = rows(cells, 6, 0.0, &given);
        Model::of_picture(width, width).says("names", "{0: 'person'}").gives("output", &[1, cells as i64, 6], data)
    };
    let fine: &[f32] = &[320.0, 320.0, 32.0, 32.0, 0.9, 0.9];
    for (width, row, found_count, rejected, cut) in [
        (640, fine, 1, false, true),
        (160, &[f32::NAN, 64.0, 32.0, 32.0, 0.9, 0.9], 0, true, false),
        (160, &[64.0, 64.0, f32::INFINITY, 32.0, 0.9, 0.9], 0, true, false),
        (160, &[64.0, 64.0, 1e9, 1e9, 0.9, 0.9], 0, true, false),
        (160, &[64.0, 64.0, 32.0, 32.0, f32::NAN, 0.9], 0, true, false),
        (160, &[64.0, 64.0, 32.0, 32.0, 0.9, 7.0], 0, true, false),
    ] {
        let mut detector = load(&saved(dir.path(), &all(width, row)));
        let mut found = Vec::new();
        detector.detect(&frame(640, 480, [7; 3]), &mut found).unwrap();
        let counted = (found.len(), detector.rejected_outputs() > 0, detector.candidates_cut() > 0);
        assert_eq!(counted, (found_count, rejected, cut), "{width} {row:?}");
        if cut {
            // 25,200 boxes went through a list of two thousand.
            assert!(detector.candidates_cut() > 20_000 && found.capacity() < 5000, "{}", found.capacity());
        }
    }
}

#[test]
fn inspect_tells_what_a_sound_model_is_and_needs() {
    let dir = tempfile::tempdir().unwrap();
    let data = rows(84, 6, 0.0, &[]);
    let model = Model::of_picture(64, 64).says("names", NAMES).gives("output0", &[1, 84, 6], data);
    let seen = inspect::inspect(&saved(dir.path(), &model)).unwrap();
    assert_eq!(seen.refused, None);
    let reading = seen.reading.as_ref().unwrap();
    assert_eq!((reading.family, reading.person_class, &*reading.provider), (Family::Yolov8, 1, "cpu"));
    assert_eq!(reading.labels, ["car", "person"]);
    let text = seen.to_string();
    for part in [
        "yolov8-transposed (family yolov8)",
        "2 classes, the person is number 1: car, person",
        "64 x 64 as f32",
        "would be taken",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = serde_json::to_value(&seen).unwrap();
    assert_eq!(json["bytes"], model.bytes().len());
    assert_eq!(json["graph"]["opsets"][0][1], 17);
    assert_eq!(json["signature"]["outputs"][0]["shape"][2], 6);
    // Refused before the runtime sees it: what the bytes alone tell is told all the same.
    let external: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/external.onnx");
    let seen = inspect::inspect(&Config { model: external.to_str().unwrap().into(), ..Config::default() }).unwrap();
    assert!(seen.refused.unwrap().contains("in another file") && seen.sha256.len() == 64 && seen.signature.is_none());
    let missing = inspect::inspect(&Config { model: "/nowhere.onnx".into(), ..Config::default() }).unwrap_err();
    assert_eq!(missing.exit, Exit::Data);
}
