//! Every family against every recogniser, the rules that settle a doubt, and outputs that cannot be.

use proptest::prelude::*;

use super::*;

fn port(name: &str, element: Element, shape: &[i64]) -> Port {
    Port { name: name.into(), element, shape: shape.to_vec() }
}

/// A model with one picture of 32-bit numbers, 3 channels first.
fn planar(width: i64, height: i64, outputs: Vec<Port>) -> Signature {
    let inputs = vec![port("images", Element::F32, &[1, 3, height, width])];
    Signature { inputs, outputs, ..Signature::default() }
}

fn single(side: i64, shape: &[i64]) -> Signature {
    planar(side, side, vec![port("output", Element::F32, shape)])
}

fn centernet_top() -> Signature {
    let (u8, f32, i64) = (Element::U8, Element::F32, Element::I64);
    Signature {
        inputs: vec![
            port("image", u8, &[1, 288, 384, 3]),
            port("cls_w", f32, &[1, 128, 1, 1]),
            port("cls_b", f32, &[1]),
        ],
        outputs: vec![
            port("boxes", f32, &[100, 4]),
            port("scores", f32, &[100]),
            port("index", i64, &[100]),
            port("features", f32, &[100, 128]),
        ],
        ..Signature::default()
    }
}

fn centernet() -> Signature {
    Signature {
        inputs: vec![port("image", Element::U8, &[1, 288, 384, 3])],
        outputs: vec![port("boxes", Element::F32, &[1, 6912, 4]), port("scores", Element::F32, &[1, 6912])],
        ..Signature::default()
    }
}

fn tensorflow() -> Signature {
    let f32 = Element::F32;
    Signature {
        inputs: vec![port("image_tensor:0", Element::U8, &[-1, 300, 300, 3])],
        outputs: vec![
            port("num_detections:0", f32, &[1]),
            port("detection_boxes:0", f32, &[1, 100, 4]),
            port("detection_scores:0", f32, &[1, 100]),
            port("detection_classes:0", f32, &[1, 100]),
        ],
        ..Signature::default()
    }
}

fn labelled(shape: &[i64], rest: &[i64]) -> Signature {
    let outputs = vec![
        port("bboxes", Element::F32, shape),
        port("labels", Element::I64, rest),
        port("scores", Element::F32, rest),
    ];
    planar(1200, 1200, outputs)
}

fn d_fine() -> Signature {
    let outputs = vec![
        port("labels", Element::I64, &[1, 300]),
        port("boxes", Element::F32, &[1, 300, 4]),
        port("scores", Element::F32, &[1, 300]),
    ];
    let mut signature = planar(640, 640, outputs);
    signature.inputs.push(port("orig_target_sizes", Element::I64, &[1, 2]));
    signature
}

fn raw_ssd(side: i64, anchors: i64, classes: i64) -> Signature {
    let (boxes, scores) = ([1, anchors, 4], [1, anchors, classes]);
    planar(side, side, vec![port("scores", Element::F32, &scores), port("boxes", Element::F32, &boxes)])
}

fn rf_detr() -> Signature {
    planar(560, 560, vec![port("dets", Element::F32, &[1, 300, 4]), port("labels", Element::F32, &[1, 300, 91])])
}

fn yolo_nas() -> Signature {
    planar(640, 640, vec![port("graph2_flat_predictions", Element::F32, &[-1, 7])])
}

/// One model of each form: what it is, and the person's class (of names where it only has class numbers).
fn every_form() -> Vec<(Signature, Family, &'static str, usize)> {
    use Family::*;
    vec![
        (centernet_top(), CenterNet, "centernet-top", 0),
        (centernet(), CenterNet, "centernet", 0),
        (single(640, &[1, 84, 8400]), Yolov8, "yolov8", 0),
        (single(640, &[-1, 84, 8400]).first_batch(), Yolov8, "yolov8", 0),
        (single(640, &[1, 8400, 84]), Yolov8, "yolov8-transposed", 0),
        (single(1280, &[1, 84, 34_000]), Yolov8, "yolov8", 0),
        (single(640, &[1, 25_200, 85]), Yolov5, "yolov5", 0),
        (single(640, &[1, 300, 6]), End2end, "end2end", 2),
        (single(640, &[100, 6]), End2end, "end2end", 2),
        (single(640, &[-1, 7]), End2end, "end2end-yolov7", 2),
        (yolo_nas(), End2end, "end2end-yolo-nas", 2),
        (single(640, &[1, 8400, 85]), Yolox, "yolox", 0),
        (single(416, &[1, 3598, 112]), Nanodet, "nanodet-plus", 0),
        (single(320, &[1, 2100, 112]), Nanodet, "nanodet", 0),
        (single(416, &[1, 3549, 124]), Nanodet, "nanodet", 0),
        (d_fine(), Detr, "detr", 2),
        (rf_detr(), Detr, "rf-detr", 1),
        (single(640, &[1, 300, 84]), Detr, "rt-detr-flat", 0),
        (tensorflow(), Ssd, "ssd-tensorflow", 2),
        (labelled(&[1, -1, 4], &[1, -1]), Ssd, "ssd-labelled", 2),
        (labelled(&[-1, 4], &[-1]), Ssd, "ssd-labelled", 2),
        (raw_ssd(300, 1917, 91), SsdRaw, "ssd-raw-tensorflow", 1),
        (raw_ssd(320, 3234, 91), SsdRaw, "ssd-raw-lite", 1),
        (raw_ssd(300, 8732, 21), SsdRaw, "ssd-raw-300", 15),
        (single(416, &[1, 125, 13, 13]), TinyYolov2, "tiny-yolov2", 14),
        (single(608, &[1, 425, 19, 19]), TinyYolov2, "tiny-yolov2", 0),
    ]
}

impl Signature {
    /// As the shell settles an open batch: by a first run.
    fn first_batch(mut self) -> Signature {
        self.outputs.iter_mut().for_each(|port| port.shape[0] = 1);
        self
    }
}

fn named(names: &str) -> Override {
    Override { labels: Some(Names::of_lines(names).unwrap()), ..Override::default() }
}

/// What is said of a model that has class numbers and no names: nothing of those that need nothing.
fn said(signature: &Signature) -> Override {
    match Layout::recognise(signature, &Override::default()) {
        Err(refusal) if refusal.starts_with("gives class numbers") => named("a\nb\nperson"),
        _ => Override::default(),
    }
}

#[test]
fn every_form_is_recognised_for_what_it_is() {
    for (signature, family, name, person) in every_form() {
        let layout = Layout::recognise(&signature, &said(&signature)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((layout.family(), layout.name(), layout.person), (family, name, person), "{signature}");
        assert!(!layout.outputs().is_empty());
        assert!(layout.outputs().iter().all(|name| signature.outputs.iter().any(|port| port.name == *name)));
    }
    let mut turned = centernet_top();
    turned.outputs.reverse();
    turned.metadata.insert("classes".into(), "person".into());
    let [turned, straight] = [turned, centernet_top()].map(|s| Layout::recognise(&s, &Override::default()).unwrap());
    assert_eq!(turned.outputs(), straight.outputs(), "whatever the order");
    assert_eq!((turned.head(), straight.head()), (Some(128), Some(128)));
}

/// Pairs that are alike in shape, where only the class count tells: what this family's model also looks like.
fn look_alike(form: &str) -> &'static [Family] {
    match form {
        "yolov8-transposed" => &[Family::Yolox, Family::Nanodet],
        "yolox" => &[Family::Yolov8, Family::Nanodet],
        "nanodet" => &[Family::Yolov8, Family::Yolox],
        _ => &[],
    }
}

#[test]
fn every_recogniser_refuses_the_shapes_of_its_neighbours() {
    for (signature, family, name, _) in every_form() {
        for recogniser in &FAMILIES {
            let input = Input::find(&signature, &InputOverride::default()).unwrap();
            let reads = !(recogniser.read)(&signature, &input).is_empty();
            let may = recogniser.family == family || look_alike(name).contains(&recogniser.family);
            // A look-alike reads it or not, as its own numbers allow: NanoDet needs 32 columns for its distances.
            if recogniser.family == family || !may {
                assert_eq!(reads, may, "{} on {name}: {signature}", recogniser.word);
            }
            // The word of the configuration does not make a model what it is not.
            let forced = Override { family: Some(recogniser.family), ..named("a\nb\nperson") };
            if !reads {
                let refusal = Layout::recognise(&signature, &forced).unwrap_err();
                assert!(refusal.starts_with(&format!("is not a {} model", recogniser.word)), "{refusal}");
            }
        }
    }
}

#[test]
fn a_doubt_is_settled_by_names_then_by_a_well_known_count_and_else_refused() {
    let say = |family| Override { family: Some(family), person_class: Some(0), ..Override::default() };
    let six = single(64, &[1, 84, 6]);
    for (signature, said, expect) in [
        // 84 cells of a picture of 64 x 64, and rows of six: one class of YOLOX, two of YOLOv8, or suppressed rows?
        (
            six.clone(),
            Override::default(),
            Err("can be read as yolov8-transposed with 2 classes or as yolox with 1 class"),
        ),
        (six.clone(), named("person"), Ok("yolox")),
        (six.clone(), named("person\ncar"), Ok("yolov8-transposed")),
        (six.clone(), say(Family::Yolox), Ok("yolox")),
        (six.clone(), say(Family::Yolov8), Ok("yolov8-transposed")),
        (single(96, &[1, 189, 85]), Override::default(), Ok("yolox")),
        (single(96, &[1, 189, 84]), Override::default(), Ok("yolov8-transposed")),
        // A toy whose two sides are both counts of cells, and both readings have COCO's classes.
        (single(64, &[1, 84, 85]), Override::default(), Err("as yolov8 with 80 classes or as yolox with 80 classes")),
        // 80 classes of NanoDet are 107 of YOLOX.
        (single(320, &[1, 2100, 112]), Override::default(), Ok("nanodet")),
        (single(320, &[1, 2100, 112]), say(Family::Yolox), Ok("yolox")),
        // 36 columns and more: one class of NanoDet, 31 of YOLOX.
        (single(320, &[1, 2100, 33]), named("person"), Ok("nanodet")),
        (
            single(320, &[1, 2100, 33]),
            Override::default(),
            Err("or as nanodet with 1 class; give `labels`, or set layout"),
        ),
        // The large axis: 8 classes by 84 cells, or the other way.
        (single(64, &[1, 12, 84]), say(Family::Yolov8), Ok("yolov8")),
    ] {
        match (Layout::recognise(&signature, &said), expect) {
            (Ok(layout), Ok(expect)) => assert_eq!(layout.name(), expect, "{signature}"),
            (Err(refusal), Err(expect)) => assert!(refusal.contains(expect), "{expect}: {refusal}"),
            (found, expect) => panic!("{signature}: {found:?}, expected {expect:?}"),
        }
    }
    let mut ended = six;
    ended.metadata.insert("end2end".into(), "True".into());
    assert_eq!(Layout::recognise(&ended, &say(Family::End2end)).unwrap().name(), "end2end");
}

#[test]
fn classes_that_do_not_fit_are_refused_at_once() {
    let mut eighty = single(640, &[1, 84, 8400]);
    for (names, expect) in [
        ("{0: 'person'}", "has 80 classes in its outputs and 1 names"),
        ("not a dict", "has names in its metadata that cannot be read"),
    ] {
        eighty.metadata.insert("names".into(), names.into());
        let refusal = Layout::recognise(&eighty, &Override::default()).unwrap_err();
        assert!(refusal.contains(expect), "{refusal}");
    }
    // The configuration has the last word over the metadata.
    let said = Override { labels: Some(Names::of_lines(&"x\n".repeat(79)).unwrap()), ..Override::default() };
    assert!(Layout::recognise(&eighty, &said).unwrap_err().contains("and 79 names"));
    eighty.metadata.insert("task".into(), "segment".into());
    assert!(Layout::recognise(&eighty, &said).unwrap_err().contains("task \"segment\""));
    let mut cars = centernet_top();
    cars.metadata.insert("classes".into(), "car".into());
    assert!(Layout::recognise(&cars, &Override::default()).unwrap_err().contains("finds \"car\""));
}

/// A change to a model's ports.
type Change = fn(&mut Signature);

#[test]
fn anything_else_is_refused_with_what_was_seen() {
    let changes: [(Change, &str); 12] = [
        (|s| s.inputs[0].element = Element::F32, "image f32 [1,288,384,3]"),
        (|s| s.inputs[0].shape = vec![1, 3, 288, 384], "image u8 [1,3,288,384]"),
        (|s| s.inputs[0].shape[0] = 2, "image u8 [2,288,384,3]"),
        (|s| s.inputs[0].shape[1] = -1, "leaves the size of its picture open (input image)"),
        (|s| s.inputs[0].shape[2] = 4097, "a side of 4097"),
        (|s| s.inputs[0].shape[2] = 0, "a side of 0"),
        (|s| s.inputs[0].name = "images".into(), "inputs images u8"),
        (|s| s.inputs.push(port("sizes", Element::I64, &[1, 2])), "sizes i64 [1,2]"),
        (|s| s.outputs[0].shape = vec![6912, 5], "boxes f32 [6912,5]"),
        (|s| s.outputs[1].element = Element::Other, "scores another type"),
        (|s| s.outputs[1].shape[0] = 99, "scores f32 [99"),
        (|s| s.outputs.clear(), "outputs ; known"),
    ];
    for (change, expect) in changes {
        for mut signature in [centernet_top(), centernet()] {
            change(&mut signature);
            let refusal = Layout::recognise(&signature, &Override::default()).unwrap_err();
            assert!(refusal.contains(expect), "{expect}: {refusal}");
        }
    }
    let changes: [Change; 4] = [
        |s| s.inputs[1].shape[1] = -1,
        |s| s.inputs[2].shape[0] = 2,
        |s| drop(s.inputs.pop()),
        |s| s.outputs[3].shape[1] = 64,
    ];
    for change in changes {
        let mut signature = centernet_top();
        change(&mut signature);
        assert!(Layout::recognise(&signature, &Override::default()).is_err(), "{signature}");
    }
}

#[test]
fn a_refusal_is_one_line_of_bounded_length_whatever_the_model_says() {
    let mut wide = centernet();
    wide.inputs.extend((0..1000).map(|_| port(&"x\n".repeat(1000), Element::Other, &[1; 1000])));
    wide.outputs.extend((0..1000).map(|_| port(&"y\n".repeat(1000), Element::Other, &[1; 1000])));
    let refusal = Layout::recognise(&wide, &Override::default()).unwrap_err();
    assert!(refusal.len() < 8000 && !refusal.contains('\n') && refusal.contains(" and more"), "{refusal}");
}

#[test]
fn the_words_of_the_configuration_are_the_families_own() {
    for recogniser in &FAMILIES {
        let family: Family = serde_json::from_str(&format!("\"{}\"", recogniser.word)).unwrap();
        assert_eq!((family, family.to_string()), (recogniser.family, recogniser.word.to_owned()));
    }
    for (alias, family) in [("yolov7", Family::Yolov5), ("yolo11", Family::Yolov8), ("d-fine", Family::Detr)] {
        assert_eq!(serde_json::from_str::<Family>(&format!("\"{alias}\"")).unwrap(), family);
    }
}

/// How many numbers each output of a form has, with 5 where the model leaves it open.
fn sizes(layout: &Layout, signature: &Signature) -> Vec<(usize, Element)> {
    let port = |name: &String| signature.outputs.iter().find(|port| port.name == *name).unwrap();
    let size = |port: &Port| port.shape.iter().map(|side| if *side < 0 { 5 } else { *side as usize }).product();
    layout.outputs().iter().map(|name| (size(port(name)), port(name).element)).collect()
}

#[test]
fn outputs_that_cannot_be_are_counted_and_never_boxes_nor_a_panic() {
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, f32::MIN_POSITIVE, -1.0, 0.5];
    for (signature, _, name, _) in every_form() {
        let layout = Layout::recognise(&signature, &said(&signature)).unwrap();
        let lies = Letterbox::fit((1920, 1080), layout.picture());
        let decode = |value: f32, length: fn(usize) -> usize| {
            let sizes = sizes(&layout, &signature);
            let floats: Vec<Vec<f32>> = sizes.iter().map(|(size, _)| vec![value; length(*size)]).collect();
            let whole: Vec<Vec<i64>> =
                sizes.iter().map(|(size, _)| vec![layout.person as i64; length(*size)]).collect();
            let numbers = sizes.iter().enumerate().map(|(at, (_, element))| match element {
                Element::I64 => Numbers::I64(&whole[at]),
                _ => Numbers::F32(&floats[at]),
            });
            let mut found = Vec::new();
            let tally = layout.decode(&numbers.collect::<Vec<_>>(), &lies, 0.3, &mut found);
            for Detection { area, score } in &found {
                assert!((0.3..=1.0).contains(score), "{name} {value}: {score}");
                assert!(area.x1 >= 0.0 && area.x2 <= 1920.0 && area.y1 >= 0.0 && area.y2 <= 1080.0, "{name}: {area:?}");
                assert!(area.width() > 0.0 && area.height() > 0.0, "{name}: {area:?}");
            }
            assert!(found.len() <= 2 * crate::detect::nms::CANDIDATES_MAX, "{name}");
            tally
        };
        for value in odd {
            decode(value, |size| size);
            decode(value, |size| size / 2);
            decode(value, |size| size + 1);
        }
        assert!(decode(f32::NAN, |size| size).rejected > 0, "{name} takes a NaN for nothing at all");
        // Fewer numbers than announced, unless there may be any number of them.
        if !signature.outputs.iter().any(|port| port.shape.contains(&-1)) {
            assert!(decode(0.0, |_| 0).rejected > 0 || name == "end2end", "{name}");
        }
        assert_eq!(layout.decode(&[], &lies, 0.3, &mut vec![]).rejected, layout.outputs().len() as u64);
    }
}

proptest! {
    #[test]
    fn no_shape_makes_a_recogniser_panic(
        shape in prop::collection::vec(prop_oneof![Just(-1i64), 0i64..10, any::<i64>()], 0..6),
        names in prop::collection::vec(prop_oneof!["boxes", "scores", "labels", "dets", "detection_boxes"], 0..5),
    ) {
        let mut outputs: Vec<_> = names.iter().map(|name| port(name, Element::F32, &shape)).collect();
        outputs.push(port("output", Element::F32, &shape));
        for mut signature in [single(64, &shape), planar(300, 300, outputs)] {
            let _ = Layout::recognise(&signature, &Override::default());
            signature.inputs[0].shape = shape.clone();
            let _ = Layout::recognise(&signature, &Override::default());
        }
    }
}
