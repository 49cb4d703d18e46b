//! The detector against a second one, written in Python: `make_reference.py` beside this file.
//!
//! What it proves: the letterbox lands every sampled pixel within one step of Pillow's; from a picture on disk to boxes,
//! scores agree to 1e-3 and boxes to one pixel for everything that scores at least 0.3. That holds with the same order
//! of passes in scaling; with Pillow's own order the same pictures differ by up to 3e-3 in score, from rounding alone.
//! The small models prove how odd outputs and unusable files end. Where there is no runtime library, the tests fail and
//! say what to do.

// The allowance for tests does not reach the helpers between them.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use picket_agent::annotate::detect_files;
use picket_agent::detect::layout::{Element, Layout, Numbers, Override, Port, Signature};
use picket_agent::detect::preprocess::{Letterbox, Preprocessor};
use picket_agent::detect::{Config, Detector, Provider, nms};
use picket_agent::frame::{Detection, Frame};
use picket_agent::pictures;
use picket_shared::event::Precision;
use picket_shared::exit::Exit;
use serde::Deserialize;

const PICTURE: (u32, u32) = (384, 288);

#[derive(Deserialize)]
struct Golden {
    pictures: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    file: String,
    /// Left, top, width, height of the frame in the letterbox.
    place: [u32; 4],
    /// x, y, red, green, blue of some pixels of the letterbox.
    points: Vec<[u32; 5]>,
    raw_boxes: Vec<f32>,
    raw_scores: Vec<f32>,
    detections: Vec<Found>,
}

#[derive(Debug, Deserialize)]
struct Found {
    #[serde(rename = "box")]
    corners: [f32; 4],
    score: f32,
}

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

fn golden() -> Vec<(Expected, Frame)> {
    let text = std::fs::read_to_string(here("golden.json")).unwrap();
    let golden: Golden = serde_json::from_str(&text).unwrap();
    let with_frame = |expected: Expected| {
        let frame = pictures::read(&here(&expected.file)).unwrap();
        (expected, frame)
    };
    golden.pictures.into_iter().map(with_frame).collect()
}

fn load(config: &Config) -> Detector {
    Detector::load(config).unwrap_or_else(|failure| panic!("{failure}"))
}

fn of(name: &str) -> Config {
    Config { model: here(name).to_str().unwrap().into(), ..Config::default() }
}

/// Each expected detection has its own near it, in whatever order equal scores come, and there are no others.
fn assert_agrees(file: &str, found: &[Detection], expected: &[Found], score_off_max: f32, box_off_max: f32) {
    assert_eq!(found.len(), expected.len(), "{file}: {found:?}");
    assert!(!expected.is_empty(), "{file} would prove nothing");
    for Found { corners, score } in expected {
        let agrees = |d: &&Detection| {
            let own = [d.area.x1, d.area.y1, d.area.x2, d.area.y2];
            (d.score - score).abs() <= score_off_max
                && own.iter().zip(corners).all(|(a, b)| (a - b).abs() <= box_off_max)
        };
        assert_eq!(found.iter().filter(agrees).count(), 1, "{file}: {corners:?} {score} in {found:?}");
    }
}

#[test]
fn the_same_raw_outputs_are_decoded_to_the_same_boxes() {
    let port = |name: &str, shape: &[i64], element| Port { name: name.into(), element, shape: shape.to_vec() };
    let signature = Signature {
        inputs: vec![port("image", &[1, 288, 384, 3], Element::U8)],
        outputs: vec![port("boxes", &[1, 100, 4], Element::F32), port("scores", &[1, 100], Element::F32)],
        ..Signature::default()
    };
    let layout = Layout::recognise(&signature, &Override::default()).unwrap();
    for (expected, frame) in golden() {
        let lies = Letterbox::fit((frame.width, frame.height), PICTURE);
        let mut found = vec![];
        let outputs = [Numbers::F32(&expected.raw_boxes), Numbers::F32(&expected.raw_scores)];
        assert_eq!(layout.decode(&outputs, &lies, 0.3, &mut found).rejected, 0);
        nms::suppress(&mut found, 0.5);
        // The golden numbers are rounded to six digits.
        assert_agrees(&expected.file, &found, &expected.detections, 2e-6, 2e-3);
    }
}

#[test]
fn the_letterbox_is_the_references_to_one_step_of_color() {
    for (expected, frame) in golden() {
        let mut picture = vec![1; 384 * 288 * 3];
        let lies = Preprocessor::default().letterbox(&frame, PICTURE, 0, &mut picture).unwrap();
        assert_eq!([lies.offset.0, lies.offset.1, lies.inner.0, lies.inner.1], expected.place);
        for [x, y, expect @ ..] in expected.points {
            for (channel, expect) in expect.into_iter().enumerate() {
                let value = u32::from(picture[(y as usize * 384 + x as usize) * 3 + channel]);
                assert!(value.abs_diff(expect) <= 1, "{} at {x}, {y}: {value}, expected {expect}", expected.file);
            }
        }
    }
}

#[test]
fn from_a_picture_on_disk_to_boxes_it_agrees_with_the_reference() {
    let mut detector = load(&Config::default());
    let mut found = vec![];
    for (expected, frame) in golden() {
        detector.detect(&frame, &mut found).unwrap();
        let same_tensor = (frame.width, frame.height) == PICTURE;
        // Where nothing is scaled, the model sees the very bytes that the reference saw.
        let (score_off_max, box_off_max) = if same_tensor { (1e-4, 0.02) } else { (1e-3, 1.0) };
        assert_agrees(&expected.file, &found, &expected.detections, score_off_max, box_off_max);
    }
    assert_eq!(detector.rejected_outputs(), 0);
    let twin = detector.twin();
    assert_eq!((&*twin.layout, &*twin.provider, twin.precision), ("centernet-top", "cpu", Precision::Fp32));
    assert_eq!((twin.model.len(), twin.threads, twin.passed_over.len()), (12, 1, 0));
    assert!(twin.runtime.starts_with("1."), "{}", twin.runtime);
}

#[test]
fn a_frame_that_cannot_be_used_is_an_error_and_the_next_one_works() {
    let mut detector = load(&of("plain.onnx"));
    let mut found = vec![];
    let frame = Frame { taken_ms: 0, width: 192, height: 128, rgb: vec![0; 192 * 128 * 3] };
    assert!(detector.detect(&Frame { width: 0, ..frame.clone() }, &mut found).is_err());
    assert!(detector.detect(&Frame { width: 191, ..frame.clone() }, &mut found).is_err());
    detector.detect(&frame, &mut found).unwrap();
    // Of two boxes that overlap the surer one; the whole picture scores too little.
    let expected = [
        Found { corners: [0.26 * 192.0, 32.0, 96.0, 96.0], score: 0.75 },
        Found { corners: [96.0, 64.0, 192.0, 128.0], score: 0.625 },
    ];
    assert_agrees("plain.onnx", &found, &expected, 1e-6, 1e-3);
    assert!(detector.run_raw().unwrap().run_cpu.as_nanos() > 0);
    assert_eq!(detector.twin().layout, "centernet");
}

#[test]
fn numbers_that_cannot_be_are_counted_and_never_detections() {
    let mut detector = load(&of("not_numbers.onnx"));
    let mut found = vec![];
    let frame = Frame { taken_ms: 0, width: 96, height: 64, rgb: vec![0; 96 * 64 * 3] };
    for frames in 1..=2 {
        detector.detect(&frame, &mut found).unwrap();
        assert_eq!((found.len(), detector.rejected_outputs()), (1, 2 * frames));
    }
}

#[test]
fn an_unusable_model_or_head_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let whole = std::fs::read(here("plain.onnx")).unwrap();
    let model = |path: PathBuf| Config { model: path.to_str().unwrap().into(), ..Config::default() };
    let head = |path: PathBuf| Config { head: Some(path), ..Config::default() };
    let builtin = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/centernet_u8_384x288_top100_w16.onnx");
    let mut wrong_op = whole.clone();
    let at = wrong_op.windows(8).position(|bytes| bytes == b"Identity").unwrap();
    wrong_op[at] = b'J';
    for (config, expect) in [
        (
            model(dir.path().join("none.onnx")),
            "none.onnx cannot be read (No such file or directory (os error 2)); check `model`",
        ),
        (model(dir.path().to_owned()), "is not a file"),
        (model(file("empty.onnx", b"")), "is empty"),
        (model(file("cut.onnx", &whole[..whole.len() / 2])), "is cut short"),
        (model(file("text.onnx", b"this is not a model\n")), "is not an ONNX file"),
        (model(file("wrong_op.onnx", &wrong_op)), "is refused by the runtime"),
        (of("external.onnx"), "keeps the tensor \"boxes_value\" in another file"),
        (
            of("unknown.onnx"),
            "has a layout that is not known: inputs images f32 [1,3,64,96]; outputs output0 f32 [1,6,125]; known",
        ),
        (of("other_class.onnx"), "finds \"car\""),
        (model(builtin), "takes its head from outside; set `head`"),
        (Config { head: Some(file("h", &[0; 516])), ..of("plain.onnx") }, "has its head inside; remove `head`"),
        (
            head(dir.path().join("none.f32")),
            "none.f32 cannot be read (No such file or directory (os error 2)); check `head`",
        ),
        (head(file("short.f32", &[0; 512])), "takes a head of 128 weights and a bias, and the head has 128 numbers"),
        (head(file("odd.f32", &[0; 515])), "has 515 bytes, which are no 32-bit numbers"),
        (head(file("zero.f32", &[])), "has 0 bytes"),
        (head(file("nan.f32", &f32::NAN.to_le_bytes().repeat(129))), "holds a number that is none"),
        (head(file("long.f32", &vec![0; 1024 * 1024 + 1])), "has more than 1048576 bytes"),
    ] {
        let failure = Detector::load(&config).err().expect(expect);
        assert_eq!(failure.exit, Exit::Data, "{failure}");
        assert!(failure.sentence.contains(expect), "{expect}: {failure}");
        assert!(!failure.sentence.contains('\n'), "{failure}");
    }
}

#[test]
fn without_a_library_or_with_a_bad_configuration_the_exit_code_says_so() {
    let missing = Config { library: Some("/nowhere/libonnxruntime.so".into()), ..Config::default() };
    let failure = Detector::load(&missing).err().unwrap();
    assert_eq!(failure.exit, Exit::Runtime);
    assert!(failure.sentence.contains("/nowhere/libonnxruntime.so cannot be opened"), "{failure}");
    let wrong = Config { threads: 0, ..Config::default() };
    assert_eq!(Detector::load(&wrong).err().unwrap().exit, Exit::Config);
}

#[test]
fn a_provider_that_is_not_there_is_passed_over_with_its_reason() {
    let providers = vec![Provider::Tensorrt, Provider::Cuda];
    let mut detector = load(&Config { providers, ..of("plain.onnx") });
    let twin = detector.twin();
    let frame = Frame { taken_ms: 0, width: 96, height: 64, rgb: vec![0; 96 * 64 * 3] };
    let mut found = vec![];
    detector.detect(&frame, &mut found).unwrap();
    assert_eq!(found.len(), 2);
    if twin.provider != "cpu" {
        eprintln!("this machine has {}: what is passed over cannot be seen here", twin.provider);
        return;
    }
    for name in ["tensorrt", "cuda"] {
        let reason = twin.passed_over.get(name).unwrap_or_else(|| panic!("{name} in {:?}", twin.passed_over));
        assert!(!reason.is_empty() && !reason.contains('\n'), "{reason}");
    }
}

#[test]
fn files_are_detected_in_and_a_bad_one_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let bad = dir.path().join("bad.jpg");
    std::fs::write(&bad, b"no picture").unwrap();
    let failure = detect_files(&[here("tall.png"), bad, here("wide.png")], &out, &Config::default(), true).unwrap_err();
    assert_eq!(failure.exit, Exit::Source);
    assert!(failure.sentence.contains("1 of 3 pictures could not be used; the first: the picture"), "{failure}");
    for (expected, before) in golden().into_iter().skip(1) {
        let name = expected.file.replace(".png", ".detected.png");
        let after = pictures::read(&out.join(name)).unwrap();
        assert_eq!((after.width, after.height), (before.width, before.height));
        // Each box left its corner on the picture.
        for Found { corners: [x1, y1, ..], .. } in expected.detections {
            let at = (y1.round() as usize * after.width as usize + x1.round() as usize) * 3;
            assert_ne!(after.rgb[at..at + 3], before.rgb[at..at + 3], "{} at {x1}, {y1}", expected.file);
        }
    }
    let file = dir.path().join("a-file");
    std::fs::write(&file, b"").unwrap();
    let failure = detect_files(&[here("wide.png")], &file, &Config::default(), false).unwrap_err();
    assert_eq!(failure.exit, Exit::Disk, "{failure}");
}
