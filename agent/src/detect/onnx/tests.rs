//! Models that hide something, and bytes that are none.

use super::*;
use crate::detect::model::BUILTIN;
use proptest::prelude::*;

fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

/// A field of up to 16,383 bytes.
fn message(field: u32, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut bytes = Vec::new();
    for mut value in [(field << 3) | 2, body.len() as u32] {
        while value > 0x7f {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    }
    bytes.extend(body);
    bytes
}

fn node(kind: &str, inputs: &[&str], rest: &[u8]) -> Vec<u8> {
    let inputs: Vec<_> = inputs.iter().map(|name| message(1, &[name.as_bytes()])).collect();
    message(1, &[&inputs.concat(), &message(4, &[kind.as_bytes()]), rest])
}

fn model(graph: &[&[u8]]) -> Vec<u8> {
    [number(1, 8), message(7, graph)].concat()
}

#[test]
fn what_the_numbers_are_computed_in_is_seen_from_the_graph() {
    let half = |name: &str| message(5, &[&number(2, 10), &message(8, &[name.as_bytes()])]);
    for (graph, expect) in [
        (vec![node("Conv", &["x", "w"], &[])], Precision::Fp32),
        (vec![node("Conv", &["x", "w"], &[]), half("w")], Precision::Fp16),
        // Stored in 16 bits, and widened before use.
        (vec![node("Cast", &["w"], &[]), node("Conv", &["x", "wide"], &[]), half("w")], Precision::Fp32),
        // In a branch.
        (
            vec![node("If", &["c"], &message(5, &[&message(6, &[&node("Conv", &["x", "w"], &[])])])), half("w")],
            Precision::Fp16,
        ),
        (vec![node("QuantizeLinear", &["x", "s", "z"], &[]), node("Conv", &["x", "w"], &[])], Precision::Int8),
        (vec![node("DequantizeLinear", &["w", "s", "z"], &[]), node("Conv", &["x", "v"], &[])], Precision::Fp32),
    ] {
        let parts: Vec<&[u8]> = graph.iter().map(Vec::as_slice).collect();
        assert_eq!(scan(&model(&parts)).map(|scan| scan.precision), Ok(expect));
    }
    assert_eq!(scan(BUILTIN).map(|scan| scan.precision), Ok(Precision::Fp32));
}

#[test]
fn a_tensor_in_another_file_is_found_wherever_it_hides() {
    let conv = node("Conv", &["x", "w"], &[]);
    let named = message(8, &[b"w"]);
    let place = message(13, &[&message(1, &[b"location"]), &message(2, &[b"etc/passwd"])]);
    let padded = [vec![14 << 3], vec![0x81, 0x80, 0x00]].concat();
    for external in [[named.clone(), number(14, 1)].concat(), [named.clone(), place].concat(), [named, padded].concat()]
    {
        let within = |field: u32| message(field, &[&external]);
        let subgraph = |attribute: u32| message(5, &[&message(attribute, &[&within(5)])]);
        for (what, bytes) in [
            ("an initializer", model(&[&conv, &within(5)])),
            ("a sparse initializer's values", model(&[&conv, &message(15, &[&within(1)])])),
            ("a sparse initializer's indices", model(&[&conv, &message(15, &[&within(2)])])),
            ("a constant", model(&[&node("Constant", &[], &message(5, &[&within(5)]))])),
            ("a list of tensors", model(&[&node("Constant", &[], &message(5, &[&within(10)]))])),
            ("a sparse constant", model(&[&node("Constant", &[], &message(5, &[&message(22, &[&within(1)])]))])),
            ("a branch", model(&[&node("If", &["c"], &subgraph(6))])),
            ("a list of graphs", model(&[&node("If", &["c"], &subgraph(11))])),
            ("a second graph field", [model(&[&conv]), message(7, &[&within(5)])].concat()),
            ("training", [model(&[&conv]), message(20, &[&message(1, &[&within(5)])])].concat()),
            ("a function", [model(&[&conv]), message(25, &[&message(7, &[&message(5, &[&within(5)])])])].concat()),
            ("a function's default", [model(&[&conv]), message(25, &[&message(11, &[&within(5)])])].concat()),
        ] {
            assert_eq!(scan(&bytes), Err(OnnxError::External("w".into())), "in {what}");
        }
    }
}

/// The runtime merges what comes again: a circle, or a giant, of which each piece is harmless.
#[test]
fn what_should_be_whole_and_comes_in_pieces_is_refused() {
    let makes = |output: &str, input: &str| node("Neg", &[input], &message(2, &[output.as_bytes()]));
    let (one, other) = (makes("q", "p"), makes("p", "q"));
    assert_eq!(scan(&model(&[&one, &other])), Err(OnnxError::Circle));
    let side = message(5, &[&number(1, 8), &number(2, 1)]);
    let sparse = |field: u8| message(22, &[&[field << 3 | 2, 0].repeat(2)]);
    let of = |parts: &[&[u8]]| model(&[&node("Constant", &[], &message(5, parts))]);
    for (what, bytes) in [
        ("a graph", [model(&[&one]), message(7, &[&other])].concat()),
        ("a branch", of(&[&message(6, &[&one]), &message(6, &[&other])])),
        ("a constant", of(&[&side, &side])),
        ("a sparse constant", of(&[&message(22, &[]), &message(22, &[])])),
        ("a sparse constant's values", of(&[&sparse(1)])),
        ("a sparse constant's indices", of(&[&sparse(2)])),
        ("training", [model(&[&one]), message(20, &[&message(1, &[&one]), &message(1, &[&other])])].concat()),
    ] {
        assert_eq!(scan(&bytes), Err(OnnxError::InPieces), "{what}");
    }
    assert!(scan(&of(&[&side])).is_ok(), "whole, it is fine");
}

#[test]
fn what_is_not_a_plain_model_is_refused_with_its_reason() {
    let mut deep = message(5, &[]);
    for _ in 0..DEPTH_MAX + 2 {
        deep = node("If", &["c"], &message(5, &[&message(6, &[&deep])]));
    }
    for (bytes, expect) in [
        (vec![], OnnxError::Empty),
        (b"name: picket\nmodel: none\n".to_vec(), OnnxError::NotOnnx),
        (b"\x89PNG\r\n\x1a\n".to_vec(), OnnxError::CutShort),
        (b"\x1c\0\0\0ORTM and so on".to_vec(), OnnxError::OrtFormat),
        (model(&[&message(5, &[])]), OnnxError::NotOnnx),
        (vec![0xff; 20], OnnxError::NotOnnx),
        (model(&[&node("EPContext", &[], &[])]), OnnxError::Engine),
        (model(&[&deep]), OnnxError::TooDeep),
        (BUILTIN[..BUILTIN.len() / 2].to_vec(), OnnxError::CutShort),
    ] {
        assert_eq!(scan(&bytes), Err(expect));
    }
    assert_eq!(scan(&vec![0; MODEL_BYTES_MAX + 1]), Err(OnnxError::TooLarge));
}

/// A number of any size, in the field's lowest form.
fn long(field: u8, mut value: u64) -> Vec<u8> {
    let mut bytes = vec![field << 3];
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[test]
fn a_tensor_that_claims_more_than_it_has_is_refused_before_anybody_makes_room_for_it() {
    let tensor = |sides: &[u64], data_type: u8, data: Vec<u8>| {
        let sides: Vec<u8> = sides.iter().flat_map(|side| long(1, *side)).collect();
        message(5, &[&sides, &number(2, data_type), &message(8, &[b"w"]), &data])
    };
    let raw = |bytes: usize| message(9, &[&vec![0; bytes]]);
    let packed = |sides: &[u8]| message(5, &[&message(1, &[sides]), &number(2, 1), &message(8, &[b"w"]), &raw(4)]);
    let conv = node("Conv", &["x", "w"], &[]);
    for (tensor, fine) in [
        (tensor(&[2, 3], 1, raw(24)), true),
        (tensor(&[2, 3], 10, raw(12)), true),
        (tensor(&[], 1, raw(4)), true),
        (tensor(&[0, 3], 1, raw(0)), true),
        // Numbers in their own field; four bits each.
        (tensor(&[3], 1, message(4, &[&[0; 12]])), true),
        (tensor(&[3], 22, raw(2)), true),
        (packed(&[1]), true),
        (tensor(&[2, 3], 1, raw(20)), false),
        (tensor(&[2, 3], 1, raw(25)), false),
        (tensor(&[2, 3], 3, raw(24)), false),
        (tensor(&[1 << 40], 1, raw(4)), false),
        (tensor(&[1 << 32, 1 << 32], 1, raw(0)), false),
        (tensor(&[u64::MAX], 1, raw(4)), false),
        (tensor(&[0, 1 << 40], 1, raw(0)), false),
        (tensor(&[1 << 27], 1, vec![]), false),
        (tensor(&[1 << 27], 22, raw(2)), false),
        (tensor(&[1; RANK_MAX + 1], 1, raw(4)), false),
        (packed(&[0x80, 0x80, 0x80, 0x80, 0x40]), false),
    ] {
        let expect = if fine { Ok(()) } else { Err(OnnxError::TensorSize("w".into())) };
        assert_eq!(scan(&model(&[&conv, &tensor])).map(|_| ()), expect, "{tensor:?}");
    }
    let cut = message(5, &[&message(1, &[&[0x80]])]);
    assert_eq!(scan(&model(&[&conv, &cut])), Err(OnnxError::CutShort));
}

#[test]
fn operators_from_elsewhere_are_refused_unless_the_model_says_what_they_are() {
    let custom = |domain: &str| node("Evil", &[], &message(7, &[domain.as_bytes()]));
    let function = |domain: &str| {
        message(
            25,
            &[&message(1, &[b"Evil"]), &message(10, &[domain.as_bytes()]), &message(7, &[&node("Relu", &["x"], &[])])],
        )
    };
    for domain in ["", "ai.onnx", "com.microsoft"] {
        assert!(scan(&model(&[&custom(domain)])).is_ok());
    }
    let refused = Err(OnnxError::Operator("my.ops.Evil".into()));
    assert_eq!(scan(&model(&[&custom("my.ops")])).map(|_| ()), refused);
    assert_eq!(scan(&[model(&[&custom("my.ops")]), function("other")].concat()).map(|_| ()), refused);
    assert!(scan(&[model(&[&custom("my.ops")]), function("my.ops")].concat()).is_ok());
}

#[test]
fn more_nodes_than_any_detector_has_are_refused() {
    let nodes = node("Relu", &[], &[]).repeat(NODES_MAX + 1);
    let length = long(2, nodes.len() as u64)[1..].to_vec();
    let bytes = [vec![(7 << 3) | 2], length, nodes].concat();
    assert_eq!(scan(&bytes), Err(OnnxError::TooManyNodes));
}

#[test]
fn what_a_model_says_of_itself_is_shown() {
    let opset = |domain: &str, version| message(8, &[&message(1, &[domain.as_bytes()]), &number(2, version)]);
    let bytes =
        [model(&[&node("Relu", &[], &[])]), message(2, &[b"py\ntorch"]), opset("", 17), opset("com.microsoft", 1)];
    let seen = scan(&bytes.concat()).unwrap();
    assert_eq!((seen.ir_version, seen.nodes, &*seen.producer), (8, 1, "pytorch"));
    assert_eq!(seen.opsets, [("".to_owned(), 17), ("com.microsoft".to_owned(), 1)]);
}

/// A node with what it makes.
fn maker(kind: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    node(kind, inputs, &message(2, &[output.as_bytes()]))
}

/// A tensor whose weights are at a place of the model's choice.
fn external(location: &str) -> Vec<u8> {
    let place = message(13, &[&message(1, &[b"location"]), &message(2, &[location.as_bytes()])]);
    message(5, &[&message(8, &[b"w"]), &number(14, 1), &place])
}

/// What a signed model can still try, each by its name; whoever has stolen enough keys gets no further than here.
#[test]
fn what_a_hostile_model_reaches_for_is_refused_by_name() {
    let conv = node("Conv", &["x", "w"], &[]);
    let outside = || OnnxError::External("w".into());
    let sides = |sides: &[u64]| sides.iter().flat_map(|side| long(1, *side)).collect::<Vec<u8>>();
    let huge = message(5, &[&sides(&[1 << 20, 1 << 20]), &number(2, 1), &message(8, &[b"w"]), &message(9, &[&[0; 4]])]);
    let calls = |name: &str, called: &str| {
        // A function's nodes have another number than a graph's.
        let call = message(7, &[&message(4, &[called.as_bytes()]), &message(7, &[b"own"])]);
        message(25, &[&message(1, &[name.as_bytes()]), &message(10, &[b"own"]), &call])
    };
    let whole = model(&[&conv]);
    for (what, bytes, expect) in [
        ("external data in a folder above", model(&[&conv, &external("../../../etc/passwd")]), outside()),
        ("external data by an absolute path", model(&[&conv, &external("/etc/passwd")]), outside()),
        ("external data below the working directory", model(&[&conv, &external("etc/passwd")]), outside()),
        ("external data in a file of the kernel's", model(&[&conv, &external("/proc/self/environ")]), outside()),
        ("external data without a place", model(&[&conv, &external("")]), outside()),
        ("an allocation of 2^40 elements", model(&[&conv, &huge]), OnnxError::TensorSize("w".into())),
        ("a file that is cut short", whole[..whole.len() - 1].to_vec(), OnnxError::CutShort),
        ("a node that feeds itself", model(&[&maker("Relu", &["a"], "a")]), OnnxError::Circle),
        (
            "nodes in a circle",
            model(&[&maker("Relu", &["c"], "a"), &maker("Relu", &["a"], "b"), &maker("Relu", &["b"], "c")]),
            OnnxError::Circle,
        ),
        (
            "nodes in a circle within a branch",
            model(&[&node(
                "If",
                &["x"],
                &message(5, &[&message(6, &[&maker("Relu", &["b"], "a"), &maker("Relu", &["a"], "b")])]),
            )]),
            OnnxError::Circle,
        ),
        ("a function that calls itself", [whole.clone(), calls("f", "f")].concat(), OnnxError::Circle),
        ("functions in a circle", [whole.clone(), calls("f", "g"), calls("g", "f")].concat(), OnnxError::Circle),
    ] {
        assert_eq!(scan(&bytes).map(|_| ()), Err(expect), "{what}");
    }
    // In any order, and one way only.
    let line = model(&[&maker("Relu", &["b"], "c"), &maker("Relu", &["a"], "b"), &maker("Add", &["b", "c"], "d")]);
    assert!(scan(&line).is_ok());
    assert!(scan(&[whole, calls("f", "g"), calls("g", "h")].concat()).is_err(), "and h is of nobody");
}

#[test]
fn a_link_beside_a_model_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("secret"), b"what a model may not read").unwrap();
    std::os::unix::fs::symlink(at("secret"), at("symbolic")).unwrap();
    std::fs::hard_link(at("secret"), at("hard")).unwrap();
    for link in ["symbolic", "hard"] {
        let path = at("model.onnx");
        std::fs::write(&path, model(&[&node("Conv", &["x", "w"], &[]), &external(link)])).unwrap();
        let config = crate::detect::Config { model: path.display().to_string(), ..Default::default() };
        let file = crate::detect::model::file(&config).unwrap();
        let refused = crate::detect::model::read(&config, file).map(|_| ()).unwrap_err();
        assert!(refused.sentence.contains("keeps the tensor \"w\" in another file"), "{link}: {refused}");
    }
}

#[test]
fn a_long_chain_of_nodes_takes_no_stack() {
    let names: Vec<String> = (0..50_000).map(|n| format!("n{n}")).collect();
    let nodes: Vec<u8> = names.windows(2).rev().flat_map(|pair| maker("Relu", &[&pair[0]], &pair[1])).collect();
    let length = long(2, nodes.len() as u64)[1..].to_vec();
    assert!(scan(&[number(1, 8), vec![(7 << 3) | 2], length, nodes].concat()).is_ok());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = scan(&bytes);
        let _ = scan(&model(&[&bytes]));
        let _ = scan(&model(&[&node("If", &["c"], &bytes)]));
    }

    #[test]
    fn a_file_that_was_cut_or_hit_is_read_to_a_verdict(cut in 0..BUILTIN.len(), at in 0..BUILTIN.len(), bit in 0..8) {
        let _ = scan(&BUILTIN[..cut]);
        let mut bytes = BUILTIN.to_vec();
        bytes[at] ^= 1u8 << bit;
        let _ = scan(&bytes);
    }
}
