//! The commands as a person runs them: on a sequence cut out of the sample video, whose truth is our own tracker's
//! output made wrong in known ways, so that every figure is known beforehand; and on what is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use picket_agent::eval::degrade::Degradation;
use picket_agent::eval::score::{Found, Sequence, score};
use picket_agent::eval::source::Source;
use picket_agent::eval::truth::mot;
use picket_agent::track;
use serde_json::Value;

use crate::common::sample_video;
use crate::{cut_sequence, load, look};

const FRAMES: usize = 40;
/// Every so many lines of the tracker's output are left out of the truth, and are then false positives.
const DROPPED_EVERY: usize = 10;

fn agent(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_picket-agent")).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What the tracker gives on a sequence, line by line.
fn tracks_of(folder: &Path) -> Vec<Vec<f64>> {
    let source = Source::open(folder.to_str().unwrap()).unwrap();
    let pass = look(&source, Degradation::None, &mut [load(0.01)]);
    let seen: Vec<Found> = pass.seen.iter().map(Found::of).collect();
    let any = mot::parse(&format!("{FRAMES},1,0,0,9,9,1,-1,-1,-1")).unwrap();
    let sequence = Sequence { track: track::Config::default(), fps: 10.0 };
    let result = score(&seen, &any, 0.3, Some(&sequence)).result;
    result.lines().map(|line| line.split(',').map(|field| field.parse().unwrap()).collect()).collect()
}

/// What is to come out.
struct Known {
    boxes: u64,
    misses: u64,
    false_positives: u64,
}

/// Writes a sequence whose truth follows the tracker, but for three known errors: some boxes are left out; somebody
/// stands outside the picture in every frame; two people change places in the middle.
fn sequence(folder: &Path) -> Known {
    cut_sequence(folder, FRAMES);
    std::fs::write(folder.join("seqinfo.ini"), format!("[Sequence]\nimDir=img1\nframeRate=10\nseqLength={FRAMES}\n"))
        .unwrap();
    let lines = tracks_of(folder);
    let mut spans: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for line in &lines {
        spans.entry(line[1] as u64).or_default().insert(line[0] as u64);
    }
    let middle = FRAMES as u64 / 2;
    // Seen right before and after, whatever is left out.
    let steady = |frames: &BTreeSet<u64>| (middle - 5..middle + 5).all(|frame| frames.contains(&frame));
    let pair: Vec<u64> = spans.iter().filter(|(_, frames)| steady(frames)).map(|(id, _)| *id).take(2).collect();
    let [one, other] = pair[..] else { panic!("the sample has two people who walk on for a while") };
    let mut truth = String::new();
    let mut boxes = 0;
    for (at, line) in lines.iter().enumerate() {
        let (frame, track) = (line[0] as u64, line[1] as u64);
        if at % DROPPED_EVERY == 0 {
            continue;
        }
        let person = match track {
            track if frame < middle => track,
            track if track == one => other,
            track if track == other => one,
            track => track,
        };
        boxes += 1;
        writeln!(truth, "{frame},{person},{},{},{},{},1,-1,-1,-1", line[2], line[3], line[4], line[5]).unwrap();
    }
    for frame in 1..=FRAMES {
        boxes += 1;
        writeln!(truth, "{frame},9999,-500,-500,50,100,1,-1,-1,-1").unwrap();
    }
    std::fs::create_dir(folder.join("gt")).unwrap();
    std::fs::write(folder.join("gt/gt.txt"), truth).unwrap();
    Known { boxes, misses: FRAMES as u64, false_positives: lines.len().div_ceil(DROPPED_EVERY) as u64 }
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {path} in {value}"))
}

#[test]
fn every_figure_of_a_sequence_with_known_errors_comes_out_as_known() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("sequence");
    let known = sequence(&folder);
    let (source, out) = (folder.to_str().unwrap(), dir.path().join("out"));
    let output = agent(&[
        "eval",
        "--source",
        source,
        "--degrade",
        "none,half",
        "--workers",
        "1,3",
        "--delayed-reader-ms",
        "20",
        "--speed-frames",
        "8",
        "--out",
        out.to_str().unwrap(),
    ]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&std::fs::read(out.join("eval.json")).unwrap()).unwrap();
    let none = &report["degradations"][0];
    let Known { boxes, misses, false_positives } = known;
    for (path, expect) in [
        ("/tracks/boxes", boxes),
        ("/tracks/misses", misses),
        ("/tracks/false_positives", false_positives),
        ("/tracks/switches", 2),
        ("/tracks/fragmentations", 0),
        ("/counts/people", boxes),
        ("/counts/correct", boxes - misses),
    ] {
        assert_eq!(number(none, path), expect as f64, "{path}: {said}");
    }
    let errors = (misses + false_positives + 2) as f64;
    assert!((number(none, "/tracks/mota") - (1.0 - errors / boxes as f64)).abs() < 1e-9, "{said}");
    assert!(number(none, "/tracks/motp") > 0.999, "{said}");
    assert!((number(none, "/recall") - (boxes - misses) as f64 / boxes as f64).abs() < 1e-9, "{said}");
    // The tracks are those of before, so half the resolution, which has others, was another pass.
    assert_ne!(report["degradations"][1]["counts"], none["counts"]);

    let speed = report["speed"].as_array().unwrap();
    let arrangements: Vec<_> = speed.iter().map(|s| (s["workers"].as_u64(), s["delay_ms"].as_u64())).collect();
    assert_eq!(arrangements, [0, 20].map(|delay| [0, 1, 3].map(|workers| (Some(workers), Some(delay)))).concat());
    for arrangement in speed {
        assert_eq!(arrangement["frames"], 8);
        // Eight times twenty milliseconds pass in any case.
        let fps_max = if arrangement["delay_ms"] == 20 { 50.0 } else { f64::INFINITY };
        assert!((f64::MIN_POSITIVE..=fps_max).contains(&number(arrangement, "/fps")), "{arrangement}");
    }
    let tracks = std::fs::read_to_string(out.join("tracks.txt")).unwrap();
    assert_eq!(tracks.lines().count() as u64, boxes - misses + false_positives);
    for plot in ["precision-recall.svg", "accuracy-by-degradation.svg", "fps-by-workers.svg", "count-over-time.svg"] {
        assert!(std::fs::read_to_string(out.join(plot)).unwrap().ends_with("</svg>\n"), "{plot}");
    }
    for defined in ["count_accuracy_recognised: people correctly", "count_accuracy_error: 1 - sum", "mota, motp:"] {
        assert!(said.contains(defined), "{said}");
    }
    calibrated(source, &folder, dir.path());
}

/// On the same sequence, because cutting it takes a while.
fn calibrated(source: &str, folder: &Path, dir: &Path) {
    let config = dir.join("agent.toml");
    std::fs::write(&config, "# ours\n[detector]\nthreads = 1 # one is enough\n").unwrap();
    let (written, truth) = (config.to_str().unwrap(), folder.join("gt/gt.txt"));
    let labelled = ["calibrate", "--source", source, "--truth", truth.to_str().unwrap(), "--write", written];
    let output = agent(&labelled);
    let said = text(&output);
    assert!(output.status.success() && said.contains("[detector]\nscore_min = "), "{said}");
    assert!(said.contains("labelled people") && said.contains("of 100 draws"), "{said}");
    assert!(said.contains("which is detector.score_min: ") && said.contains("observe.score_start"), "{said}");
    let text_after = std::fs::read_to_string(&config).unwrap();
    assert!(text_after.starts_with("# ours\n[detector]\nscore_min = 0."), "{text_after}");
    assert!(text_after.contains("threads = 1 # one is enough"), "{text_after}");
    // What was written is read, and the same choice is now the one in use.
    let output = agent(&[&labelled[..], &["--config", written]].concat());
    assert!(text(&output).contains("it is the one in use"), "{}", text(&output));
    assert_eq!(std::fs::read_to_string(&config).unwrap(), text_after);

    let output = agent(&["calibrate", "--source", source]);
    let said = text(&output);
    assert!(output.status.success() && said.contains("no labels"), "{said}");
}

#[test]
fn what_is_wrong_ends_in_a_sentence_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let pictures = dir.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/same.png");
    std::fs::copy(example, pictures.join("1.png")).unwrap();
    let video = dir.path().join("short.avi");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-loglevel", "error", "-i"]).arg(sample_video()).args(["-frames:v", "5"]).arg(&video);
    assert!(ffmpeg.status().unwrap().success());
    let (pictures, video) = (pictures.to_str().unwrap(), video.to_str().unwrap());
    let out = dir.path().join("out");
    let fine = file("fine.txt", "1,1,0,0,50,90,1,-1,-1,-1\n");
    for (source, truth, more, code, expect) in [
        (pictures, file("cut.txt", "1,1,0,0,50,90,1,-1,-1,-1\n1,2,0,0\n"), &[][..], 65, "line 2: it has 4 columns"),
        (pictures, file("minus.txt", "1,1,0,0,-50,90,1,-1,-1,-1\n"), &[], 65, "line 1: the box's width is -50"),
        (
            pictures,
            file("beyond.txt", "1,1,0,0,5,9,1,-1,-1,-1\n7,1,0,0,5,9,1,-1,-1,-1\n"),
            &[],
            65,
            "line 2: frame 7 does not exist",
        ),
        (
            video,
            file("late.txt", "4,1,0,0,5,9,1,-1,-1,-1\n900,1,0,0,5,9,1,-1,-1,-1\n"),
            &[],
            65,
            "line 2: frame 900 does not exist",
        ),
        (pictures, file("other.csv", "2.jpg,0,0,5,9,0\n"), &[], 65, "line 1: the picture 2.jpg does not exist"),
        (video, file("names.csv", "2.jpg,0,0,5,9,0\n"), &[], 65, "the source is a video"),
        (pictures, "/nope.txt".into(), &[], 65, "cannot be read"),
        (pictures, file("a.json", "{}"), &[], 65, "add --format"),
        ("/nope.avi", fine.clone(), &[], 66, "nope.avi"),
        (pictures, fine.clone(), &["--workers", "0"], 78, "--workers has a number outside 1 to 64"),
        (pictures, fine.clone(), &["--degrade", "none,none"], 78, "something twice"),
        (pictures, fine.clone(), &["--frames", "0"], 78, "--frames is 0"),
        (pictures, fine.clone(), &["--degrade", "fog"], 2, "fog"),
    ] {
        let speed = ["--speed-frames", "0", "--degrade", "none"];
        let speed = if more.contains(&"--degrade") { &speed[..2] } else { &speed[..] };
        let fixed = ["eval", "--source", source, "--truth", &truth, "--out", out.to_str().unwrap()];
        let output = agent(&[&fixed[..], speed, more].concat());
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{truth}: {said}");
        assert!(said.contains(expect) && !said.contains("panicked"), "{truth}: {said}");
        assert!(std::fs::read_dir(&out).map_or(0, Iterator::count) == 0, "{truth} left something behind");
    }
}

#[test]
fn a_picture_that_is_damaged_is_told_and_the_others_are_judged() {
    let dir = tempfile::tempdir().unwrap();
    cut_sequence(dir.path(), 3);
    std::fs::write(dir.path().join("img1/000002.jpg"), b"\xff\xd8\xff\xe0 and no more").unwrap();
    let truth = dir.path().join("gt.txt");
    std::fs::write(&truth, "1,1,0,0,50,90,1,-1,-1,-1\n2,1,0,0,50,90,1,-1,-1,-1\n3,1,0,0,50,90,1,-1,-1,-1\n").unwrap();
    let (source, truth) = (dir.path().to_str().unwrap(), truth.to_str().unwrap());
    let output = agent(&["eval", "--source", source, "--truth", truth, "--degrade", "none", "--speed-frames", "0"]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("000002.jpg is damaged") && said.contains("it is left out"), "{said}");
    assert!(said.contains("2 frames judged, 0 left out as unlabelled, 1 refused"), "{said}");
}
