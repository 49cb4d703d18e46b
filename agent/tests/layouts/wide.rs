//! Pictures that are wider than they are high, as cameras' are: what lies on a grid, in parts of the picture or in the size
//! that the model was told keeps its two sides apart.
//!
//! The model's picture is 128 x 64 and the frame 256 x 128, so that a frame's coordinates are twice the picture's.

use picket_agent::frame::Detection;

use crate::onnx::{Data, Kind, Model};
use crate::{NAMES, assert_finds, frame, load, rows, saved};

const WIDTH: i64 = 128;
const HEIGHT: i64 = 64;
/// Cells of strides 8, 16 and 32.
const CELLS: usize = 16 * 8 + 8 * 4 + 4 * 2;

/// From a quarter to a half of the width, and from a quarter to three quarters of the height.
const QUARTER: [f32; 4] = [0.25, 0.25, 0.5, 0.75];
const QUARTER_IN_FRAME: [f32; 4] = [64.0, 32.0, 128.0, 96.0];

fn gridded() -> Vec<(&'static str, Model, [f32; 4], f32)> {
    let wide = || Model::of_picture(WIDTH, HEIGHT).says("names", NAMES);
    // Column 5, row 2 of the map of stride 16, which has 8 columns: centre 88, 32; sides 16, 32.
    let yolox = rows(CELLS, 7, 0.0, &[(16 * 8 + 2 * 8 + 5, &[0.5, 0.0, 0.0, 2f32.ln(), 0.9, 0.1, 0.8])]);
    // Column 9, row 4 of the map of stride 8, which has 16 columns: point 72, 32. Distances of 1, 1, 1.5 and 2 strides.
    let mut distances = vec![-40.0; 2 + 4 * 8];
    (distances[0], distances[1]) = (0.1, 0.8);
    for (side, bin) in [(0, 1), (1, 1), (2, 1), (2, 2), (3, 2)] {
        distances[2 + side * 8 + bin] = 40.0;
    }
    // The larger one has a map of stride 64 too, of two columns.
    let nanodet = rows(CELLS + 2, 34, 0.0, &[(4 * 16 + 9, &distances)]);
    vec![
        ("yolox", wide().gives("output", &[1, CELLS as i64, 7], yolox), [160.0, 32.0, 192.0, 96.0], 0.72),
        ("nanodet-plus", wide().gives("output", &[1, CELLS as i64 + 2, 34], nanodet), [128.0, 48.0, 168.0, 96.0], 0.8),
    ]
}

fn in_parts() -> Vec<(&'static str, Model, [f32; 4], f32)> {
    let planar = || Model::of_picture(WIDTH, HEIGHT).says("names", NAMES);
    let [x1, y1, x2, y2] = QUARTER;
    let centred = [(x1 + x2) / 2.0, (y1 + y2) / 2.0, x2 - x1, y2 - y1];
    let f32s = |numbers: &[f32]| Data::F32(numbers.to_vec());
    let mut scores = vec![0.0; 10];
    scores[3] = 0.9;
    let mut labels = vec![0; 10];
    labels[3] = 1;
    // As the published ones end: the parts times the width and the height that they were told.
    let d_fine = planar()
        .input("orig_target_sizes", Kind::I64, &[1, 2])
        .constant("parts", &[1, 10, 4], rows(10, 4, 0.0, &[(3, &QUARTER)]))
        .node("Cast", &["orig_target_sizes"], "sizes", &[("to", 1)])
        .node("Concat", &["sizes", "sizes"], "sides", &[("axis", 1)])
        .node("Mul", &["parts", "sides"], "boxes", &[])
        .output("boxes", 1, &[1, 10, 4])
        .gives("labels", &[1, 10], Data::I64(labels))
        .gives("scores", &[1, 10], Data::F32(scores));
    let rf_detr = planar().gives("dets", &[1, 10, 4], rows(10, 4, 0.0, &[(3, &centred)])).gives(
        "labels",
        &[1, 10, 3],
        rows(10, 3, -10.0, &[(3, &[0.0, 0.0, 9f32.ln()])]),
    );
    let centernet = Model::default()
        .input("image", Kind::U8, &[1, HEIGHT, WIDTH, 3])
        .gives("boxes", &[1, 2, 4], rows(2, 4, 0.0, &[(0, &QUARTER)]))
        .gives("scores", &[1, 2], f32s(&[0.9, 0.1]));
    let tensorflow = Model::default()
        .input("image_tensor:0", Kind::U8, &[1, HEIGHT, WIDTH, 3])
        .says("names", NAMES)
        .gives("detection_boxes:0", &[1, 1, 4], f32s(&[y1, x1, y2, x2]))
        .gives("detection_scores:0", &[1, 1], f32s(&[0.9]))
        .gives("detection_classes:0", &[1, 1], f32s(&[1.0]))
        .gives("num_detections:0", &[1], f32s(&[1.0]));
    [("detr", d_fine), ("rf-detr", rf_detr), ("centernet", centernet), ("ssd-tensorflow", tensorflow)]
        .map(|(layout, model)| (layout, model, QUARTER_IN_FRAME, 0.9))
        .into()
}

#[test]
fn width_and_height_are_not_taken_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut found: Vec<Detection> = Vec::new();
    for (layout, model, area, score) in gridded().into_iter().chain(in_parts()) {
        let mut detector = load(&saved(dir.path(), &model));
        assert_eq!(detector.twin().layout, layout);
        detector.detect(&frame(256, 128, [7; 3]), &mut found).unwrap();
        assert_finds(layout, &found, &[(area, score)]);
    }
}
