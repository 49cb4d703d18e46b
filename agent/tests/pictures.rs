//! Folders of pictures, drawn scenes, and pictures that change or cannot be: played to their end in this process.

// Helpers of a test may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{LONG, jpeg, started, until};
use picket_agent::capture::{self, Config, Mailbox, NoFrame, Pace, Snapshot, State};
use picket_agent::frame::Frame;
use picket_shared::ids::CameraId;
use tempfile::TempDir;

/// Takes everything until the source is over.
fn play(config: Config, frames_max: Option<u64>) -> (Vec<Frame>, Snapshot, Option<String>) {
    let (camera, mailbox) = started(Config { pace: Pace::Max, ..config }, frames_max);
    let mut frames = Vec::new();
    loop {
        match mailbox.take(LONG) {
            Ok((_, frame)) => frames.push(frame),
            Err(end) => {
                assert_eq!(end, NoFrame::Ended);
                return (frames, camera.snapshot(), camera.failure().map(|failure| failure.sentence));
            }
        }
    }
}

fn png(path: &Path, width: u32, height: u32, level: u8) {
    image::RgbImage::from_pixel(width, height, image::Rgb([level, 0, 0])).save(path).unwrap();
}

#[test]
fn a_folder_is_played_in_the_order_of_names_and_bad_pictures_are_passed_over() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    png(&at("10.png"), 8, 6, 10);
    png(&at("02.PNG"), 8, 6, 2);
    png(&at("01.png"), 4, 3, 1);
    std::fs::write(at("03.jpg"), jpeg(16, 8, [255, 0, 0])).unwrap();
    let whole = jpeg(64, 64, [1, 2, 3]);
    std::fs::write(at("04.jpg"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(at("05.png"), b"\x89PNG and no more").unwrap();
    std::fs::write(at("notes.txt"), b"no picture").unwrap();
    let source = format!("images:{}?fps=4", dir.path().display());
    let (frames, snapshot, failure) = play(Config::new(source.as_str()), None);
    let seen: Vec<_> = frames.iter().map(|frame| (frame.width, frame.rgb[0])).collect();
    assert_eq!((&seen[..2], seen[2].0, seen[3]), (&[(4, 1), (8, 2)][..], 16, (8, 10)));
    assert_eq!((snapshot.state, snapshot.frames_bad, failure), (State::Ended, 2, None));
    assert!(snapshot.last_error.unwrap().contains("05.png"), "the last of the bad ones is named");
    // The time is the sequence's own, with room for the two that are missing.
    let times: Vec<_> = frames.iter().map(|frame| frame.taken_ms - frames[0].taken_ms).collect();
    assert_eq!(times, [0, 250, 500, 1250]);

    let crop = Config { crop: Some([1, 1, 2, 2]), repeat: true, ..Config::new(source) };
    let (frames, ..) = play(crop, Some(9));
    assert!(frames.len() == 9 && frames.iter().all(|frame| (frame.width, frame.height) == (2, 2)));
}

#[test]
fn a_mot_sequence_is_played_at_its_own_rate() {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("img1")).unwrap();
    std::fs::write(dir.path().join("seqinfo.ini"), "[Sequence]\nimDir=img1\nframeRate=20\n").unwrap();
    (1..=4).for_each(|number| png(&dir.path().join(format!("img1/{number:06}.png")), 8, 6, number));
    let (frames, snapshot, _) = play(Config::new(format!("images:{}", dir.path().display())), None);
    assert_eq!(frames.iter().map(|frame| frame.rgb[0]).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(frames[3].taken_ms - frames[0].taken_ms, 150);
    assert_eq!(snapshot.format.as_deref(), Some("4 pictures, 20/s"));
}

#[test]
fn a_folder_that_gives_nothing_fails_with_the_remedy() {
    let dir = TempDir::new().unwrap();
    let empty = format!("images:{}", dir.path().display());
    let bad = TempDir::new().unwrap();
    std::fs::write(bad.path().join("1.jpg"), b"no picture").unwrap();
    for (source, expect) in [
        (empty.as_str(), "holds no .jpg, .jpeg or .png file; name the folder that does"),
        ("images:/no/such/folder", "cannot be read"),
        (&format!("images:{}", bad.path().display()), "no picture of it can be read"),
    ] {
        let (frames, snapshot, failure) = play(Config::new(source), None);
        let failure = failure.unwrap();
        assert!(frames.is_empty() && snapshot.state == State::Failed && failure.contains(expect), "{failure}");
    }
}

#[test]
fn a_drawn_scene_moves_at_its_own_rate_and_is_the_same_every_time() {
    let config = || Config::new("synthetic:?people=2&seed=5&fps=20&size=160x120");
    let (frames, snapshot, _) = play(config(), Some(12));
    assert_eq!((frames.len(), snapshot.state), (12, State::Ended));
    assert!(frames.iter().all(|frame| (frame.width, frame.height) == (160, 120)));
    assert_eq!(frames[11].taken_ms - frames[0].taken_ms, 550);
    let different: HashSet<_> = frames.iter().map(|frame| frame.rgb.as_slice()).collect();
    assert_eq!(different.len(), 12);
    let (again, ..) = play(config(), Some(12));
    assert!(frames.iter().zip(&again).all(|(a, b)| a.rgb == b.rgb));
}

#[test]
fn one_camera_with_an_impossible_picture_leaves_the_other_unharmed() {
    let mailbox = Mailbox::new(3);
    let name = |text: &str| CameraId::new(text).unwrap();
    let decoder = |script: &str| Some(["sh", "-c", script].map(String::from).to_vec());
    let stream = || Config { pace: Pace::Max, ..Config::new("http://127.0.0.1:9/") };
    let huge = Config { decoder: decoder("printf 'P6 7680 4320 255\\n'; exec cat /dev/zero"), ..stream() };
    let none = Config { decoder: decoder("printf 'P6 0 0 255\\n'; exec cat /dev/zero"), ..stream() };
    let good = Config { pace: Pace::Max, ..Config::new("synthetic:?size=64x48") };
    let huge = capture::start(0, name("huge"), huge, None, mailbox.clone());
    let none = capture::start(1, name("none"), none, None, mailbox.clone());
    let good = capture::start(2, name("good"), good, Some(200), mailbox.clone());
    until("both are refused", || {
        while let Ok((index, frame)) = mailbox.take(Duration::ZERO) {
            assert_eq!(index, 2);
            mailbox.recycle(index, frame);
        }
        huge.snapshot().errors > 0 && none.snapshot().errors > 0 && good.snapshot().state == State::Ended
    });
    assert_eq!((good.snapshot().frames, good.snapshot().errors), (200, 0));
    for (camera, size) in [(&huge, "7680x4320"), (&none, "0x0")] {
        let error = camera.snapshot().last_error.unwrap();
        assert!(error.contains(&format!("a picture of {size}")) && error.contains("smaller"), "{error}");
        assert_eq!(camera.snapshot().state, State::Retrying);
    }
}

#[test]
fn a_stream_that_changes_its_resolution_goes_on() {
    let dir = TempDir::new().unwrap();
    let mut bytes = Vec::new();
    for size in ["320x240", "160x120"] {
        let path = dir.path().join(size);
        let scene = format!("testsrc2=size={size}:rate=10");
        let made = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", &scene, "-frames:v", "20", "-c:v", "mpeg2video"])
            .args(["-g", "5", "-f", "mpeg2video"])
            .arg(&path)
            .status();
        assert!(made.unwrap().success());
        bytes.extend(std::fs::read(path).unwrap());
    }
    let path = dir.path().join("both.m2v");
    std::fs::write(&path, bytes).unwrap();
    let (frames, snapshot, failure) = play(Config::new(path.to_str().unwrap()), None);
    assert!(frames.len() > 35 && failure.is_none(), "{} frames, {snapshot:?}", frames.len());
    // ffmpeg scales the later size to the first, so that boxes, zones and masks go on fitting.
    assert!(frames.iter().all(|frame| (frame.width, frame.height) == (320, 240)));
}
