//! Capture with real decoders: ffmpeg on small videos that it makes itself, and shell scripts that misbehave.
//!
//! One test process plays the agent where a whole process is needed, see [`agent_in_a_process`].

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::*;
use crate::frame::Frame;

/// Long enough never to pass in a test that works.
const LONG: Duration = Duration::from_secs(20);
/// A stream for decoders that never look at it.
const STREAM: &str = "http://127.0.0.1:9/";
/// One picture of 2x2 pixels.
const PICTURE: &str = "printf 'P6 2 2 255\\nabcdefghijkl'";

fn ffmpeg(arguments: &[&str]) {
    let output = Command::new("ffmpeg").args(["-nostdin", "-v", "error", "-y"]).args(arguments).output();
    let output = output.expect("these tests need ffmpeg: install it (on Debian: apt install ffmpeg)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A lossless video of RGB frames, each of which differs from the others.
fn video(dir: &TempDir, frames: u32, rate: u32) -> PathBuf {
    let path = dir.path().join("video.mkv");
    let scene = format!("color=size=64x48:rate={rate},format=gbrp,geq=r=N*5:g=X*4:b=Y*5");
    let count = frames.to_string();
    ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        &scene,
        "-frames:v",
        &count,
        "-c:v",
        "ffv1",
        "-pix_fmt",
        "bgr0",
        path.to_str().unwrap(),
    ]);
    path
}

fn at_max(path: &Path) -> Config {
    Config { pace: Pace::Max, ..Config::new(path.to_str().unwrap()) }
}

fn scripted(source: &str, script: &str) -> Config {
    let decoder = ["sh", "-c", script].map(String::from).to_vec();
    Config { decoder: Some(decoder), pace: Pace::Max, ..Config::new(source) }
}

fn started(config: Config, frames_max: Option<u64>) -> (Camera, Mailbox) {
    let mailbox = Mailbox::new(1);
    (start(0, CameraId::new("yard").unwrap(), config, frames_max, mailbox.clone()), mailbox)
}

/// Takes everything until the source is over.
fn play(config: Config, frames_max: Option<u64>) -> (Vec<Frame>, Camera) {
    let (camera, mailbox) = started(config, frames_max);
    let mut frames = Vec::new();
    loop {
        match mailbox.take(LONG) {
            Ok((_, frame)) => frames.push(frame),
            Err(end) => {
                assert_eq!(end, NoFrame::Ended, "{:?}", camera.snapshot());
                return (frames, camera);
            }
        }
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONG, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Living processes that have this path in their command line.
fn processes(path: &Path) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if let Some(pid) = pid
            && String::from_utf8_lossy(&words).contains(path.to_str().unwrap())
        {
            found.push(pid);
        }
    }
    found
}

fn outcome(camera: &Camera) -> (State, u64, u64, u64) {
    let snapshot = camera.snapshot();
    (snapshot.state, snapshot.frames, snapshot.frames_dropped, snapshot.errors)
}

#[test]
fn a_file_gives_each_of_its_frames_once_and_ends() {
    let dir = TempDir::new().unwrap();
    let (frames, camera) = play(at_max(&video(&dir, 30, 10)), None);
    assert_eq!(frames.len(), 30);
    assert!(frames.iter().all(|frame| (frame.width, frame.height, frame.rgb.len()) == (64, 48, 64 * 48 * 3)));
    assert!(frames.windows(2).all(|pair| pair[0].rgb != pair[1].rgb && pair[0].taken_ms <= pair[1].taken_ms));
    assert!(frames[0].taken_ms > 1_600_000_000_000, "a time since 1970");
    assert_eq!(outcome(&camera), (State::Ended, 30, 0, 0));
    assert_eq!(camera.snapshot().last_error, None);
    assert!(camera.failure().is_none());
}

#[test]
fn frames_are_neither_repeated_nor_left_out_where_the_rate_varies() {
    let dir = TempDir::new().unwrap();
    let even = video(&dir, 30, 10);
    let gap = dir.path().join("gap.mkv");
    let select = "select='not(between(n,5,14))'";
    ffmpeg(&[
        "-i",
        even.to_str().unwrap(),
        "-vf",
        select,
        "-fps_mode",
        "passthrough",
        "-c:v",
        "ffv1",
        gap.to_str().unwrap(),
    ]);
    assert_eq!(play(at_max(&gap), None).0.len(), 20);
}

#[test]
fn start_crop_and_repeat_choose_the_frames() {
    let dir = TempDir::new().unwrap();
    let path = video(&dir, 30, 10);
    let (all, _) = play(at_max(&path), None);

    let (late, _) = play(Config { start_s: 1.0, ..at_max(&path) }, None);
    assert_eq!(late.len(), 20);
    assert!(late[0].rgb == all[10].rgb, "one second at ten frames a second");

    let (cut, _) = play(Config { crop: Some([3, 5, 31, 17]), ..at_max(&path) }, None);
    assert_eq!((cut.len(), cut[0].width, cut[0].height), (30, 31, 17));
    let expect: Vec<u8> = (5..22).flat_map(|y| &all[7].rgb[(y * 64 + 3) * 3..(y * 64 + 34) * 3]).copied().collect();
    assert!(cut[7].rgb == expect, "the same pixels as in the whole picture");

    let (long, camera) = play(Config { repeat: true, start_s: 1.0, ..at_max(&path) }, Some(75));
    assert_eq!((long.len(), camera.snapshot().restarts), (75, 0));
    assert!(long[19].rgb == all[29].rgb && long[20].rgb == all[0].rgb && long[74].rgb == all[24].rgb);
    assert_eq!(outcome(&camera), (State::Ended, 75, 0, 0));
}

#[test]
fn a_file_that_begins_anew_keeps_the_clocks_pace() {
    let dir = TempDir::new().unwrap();
    let path = video(&dir, 30, 10);
    let config = Config { repeat: true, start_s: 2.0, ..Config::new(path.to_str().unwrap()) };
    let (camera, mailbox) = started(config, None);
    for _ in 0..25 {
        let (index, frame) = mailbox.take(LONG).unwrap();
        mailbox.recycle(index, frame);
        // A third of the time between two frames: only a burst is too fast for it.
        std::thread::sleep(Duration::from_millis(30));
    }
    let dropped = camera.snapshot().frames_dropped;
    assert!(dropped <= 3, "{dropped} frames came in a burst");
}

#[test]
fn a_slow_taker_at_the_clocks_pace_gets_the_newest_frame_and_the_rest_is_counted() {
    let dir = TempDir::new().unwrap();
    let path = video(&dir, 25, 100);
    let (all, _) = play(at_max(&path), None);
    let (camera, mailbox) = started(Config::new(path.to_str().unwrap()), None);
    until("the file ends", || camera.snapshot().state == State::Ended);
    let (_, frame) = mailbox.take(LONG).unwrap();
    assert!(frame.rgb == all[24].rgb);
    assert_eq!(mailbox.take(LONG).map(|_| ()), Err(NoFrame::Ended));
    assert_eq!(outcome(&camera), (State::Ended, 25, 24, 0));
}

#[test]
fn a_file_that_gives_no_frame_fails_with_the_remedy() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    let good = video(&dir, 10, 10);
    std::fs::write(path("empty.avi"), b"").unwrap();
    std::fs::write(path("text.avi"), b"To whom it may concern: this is a letter.\n").unwrap();
    ffmpeg(&["-f", "lavfi", "-i", "sine=duration=0.1", path("sound.wav").to_str().unwrap()]);
    let scene = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=10", "-frames:v", "10", "-c:v", "mpeg4"];
    ffmpeg(&[&scene[..], &[path("whole.mp4").to_str().unwrap()]].concat());
    let whole = std::fs::read(path("whole.mp4")).unwrap();
    std::fs::write(path("cut.mp4"), &whole[..whole.len() / 2]).unwrap();
    ffmpeg(&[&scene[..], &[path("codec.avi").to_str().unwrap()]].concat());
    let mut bytes = std::fs::read(path("codec.avi")).unwrap();
    for at in 0..bytes.len() - 4 {
        if &bytes[at..at + 4] == b"FMP4" {
            bytes[at..at + 4].copy_from_slice(b"ZZZZ");
        }
    }
    std::fs::write(path("codec.avi"), bytes).unwrap();

    let named = |name: &str| at_max(&path(name));
    let script = scripted(good.to_str().unwrap(), "echo Setting pipeline to PAUSED ...");
    let silent = Config { stall_timeout_s: 0.2, ..scripted(good.to_str().unwrap(), "exec sleep 100") };
    for (config, expect) in [
        (named("missing.avi"), "it does not exist; check the path"),
        (named("empty.avi"), "it is empty; check that it was copied"),
        (named(""), "it is a directory; name a video file"),
        (named("text.avi"), "check that it plays with ffplay"),
        (named("cut.mp4"), "the file is cut off: copy it again"),
        (named("sound.wav"), "there is no video in it"),
        (named("codec.avi"), "this ffmpeg lacks the codec"),
        (Config { crop: Some([0, 0, 100, 100]), ..at_max(&good) }, "the crop does not lie within the picture"),
        (Config { start_s: 100.0, ..at_max(&good) }, "check the file, and that start_s is not beyond its end"),
        (script, "it must write PPM pictures and nothing else"),
        (silent, "no picture came within 0.2 s"),
    ] {
        let (frames, camera) = play(config, None);
        let failure = camera.failure().unwrap();
        assert!(frames.is_empty());
        assert_eq!((failure.exit, camera.snapshot().state), (Exit::Source, State::Failed), "{failure}");
        assert!(failure.sentence.contains(expect), "{failure} should say {expect:?}");
        assert!(failure.sentence.starts_with("camera yard, source "), "{failure}");
        assert_eq!(camera.snapshot().last_error, Some(failure.sentence));
    }
}

#[test]
fn a_file_that_breaks_after_some_frames_ends_with_its_error() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("cut.avi");
    let name = path.to_str().unwrap();
    ffmpeg(&["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=10", "-frames:v", "30", "-c:v", "mpeg4", name]);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let cut_picture = format!("{PICTURE}; printf 'P6 2 2 255\\nabc'");
    let garbage = format!("{PICTURE}; echo bye");
    let failing = format!("{PICTURE}; echo oh no >&2; exit 3");
    let killed = format!("{PICTURE}; kill -9 $$");
    for (config, expect) in [
        (at_max(&path), "the video has errors"),
        (scripted(name, &cut_picture), "cut off after 3 of a picture's 12 bytes"),
        (scripted(name, &garbage), "not a binary PPM picture (P6): \"bye\\n\""),
        (scripted(name, &failing), "exit status: 3, \"oh no\""),
        (scripted(name, &killed), "signal: 9"),
    ] {
        let (frames, camera) = play(config, None);
        assert_eq!(outcome(&camera), (State::Ended, frames.len() as u64, 0, 1));
        assert!(!frames.is_empty() && frames.len() < 30, "{} frames", frames.len());
        let error = camera.snapshot().last_error.unwrap();
        assert!(error.contains(expect), "{error:?} should say {expect:?}");
        assert!(camera.failure().is_none());
    }
}

#[test]
fn a_stream_whose_decoder_is_killed_ends_or_babbles_is_started_again() {
    for (last_words, expect) in [
        ("kill -9 $$", "signal: 9"),
        ("exit 0", ""),
        ("echo babble", "it must write PPM pictures"),
        ("echo connection lost >&2; exit 1", "\"connection lost\""),
    ] {
        let (mut camera, mailbox) = started(scripted(STREAM, &format!("{PICTURE}; {last_words}")), None);
        for _ in 0..3 {
            let (index, frame) = mailbox.take(LONG).unwrap();
            assert_eq!((frame.width, frame.rgb.as_slice()), (2, &b"abcdefghijkl"[..]));
            mailbox.recycle(index, frame);
        }
        camera.stop();
        let snapshot = camera.snapshot();
        assert!(snapshot.restarts >= 2, "{snapshot:?}");
        assert_eq!(snapshot.state, State::Ended);
        let error = snapshot.last_error.unwrap_or_default();
        assert!(error.contains(expect), "{error:?} should say {expect:?}");
    }
}

#[test]
fn a_stalled_decoder_is_killed_with_its_children_and_started_again() {
    let dir = TempDir::new().unwrap();
    let mark = dir.path().to_str().unwrap();
    // A grandchild that keeps the pipe open, and bytes that trickle without ever making a picture.
    let trickle = "printf \"P6 99 99 255 \"; while :; do printf x; sleep 0.02; done";
    let script = format!("{PICTURE}; sh -c '{trickle}' {mark}; :");
    let (mut camera, mailbox) = started(Config { stall_timeout_s: 0.3, ..scripted(STREAM, &script) }, None);
    mailbox.take(LONG).unwrap();
    until("it is seen as stalled", || camera.snapshot().state == State::Stalled);
    let error = camera.snapshot().last_error.unwrap();
    assert!(error.contains("no picture came within 0.3 s"), "{error}");
    mailbox.take(LONG).unwrap();
    assert!(camera.snapshot().restarts >= 1);
    camera.stop();
    until("its children are gone", || processes(dir.path()).is_empty());
}

#[test]
fn the_time_that_a_taker_needs_is_not_a_stall() {
    // Pictures so large that none is read ahead with the one before it.
    let picture = "printf 'P6 99 99 255\\n'; head -c 29403 /dev/zero";
    let script = format!("{picture}; {picture}; {picture}; exec sleep 100");
    let (camera, mailbox) = started(Config { stall_timeout_s: 0.5, ..scripted(STREAM, &script) }, Some(3));
    until("a frame waits in the slot and one before it", || camera.snapshot().frames == 2);
    std::thread::sleep(Duration::from_millis(700));
    while mailbox.take(LONG).is_ok() {}
    assert_eq!((outcome(&camera), camera.snapshot().restarts), ((State::Ended, 3, 0, 0), 0));
}

#[test]
fn a_stream_over_http_is_played_and_asked_for_again_when_the_connection_is_lost() {
    let dir = TempDir::new().unwrap();
    let bytes = std::fs::read(video(&dir, 10, 10)).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        use std::io::{BufRead, BufReader, Write};
        for _ in 0..2 {
            let (mut peer, _) = listener.accept().unwrap();
            let mut request = BufReader::new(peer.try_clone().unwrap()).lines().map_while(Result::ok);
            assert!(request.any(|line| line.is_empty()), "a request ends with an empty line");
            let _ = peer.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: video/x-matroska\r\n\r\n");
            let _ = peer.write_all(&bytes);
        }
    });
    let url = format!("http://user:secret@127.0.0.1:{port}/live");
    let (frames, camera) = play(Config { pace: Pace::Max, ..Config::new(url) }, Some(15));
    server.join().unwrap();
    assert!(frames.len() == 15 && frames[10].rgb == frames[0].rgb);
    assert_eq!((camera.snapshot().restarts, camera.snapshot().state), (1, State::Ended));
}

#[test]
fn ffmpeg_killed_in_the_middle_of_an_endless_file_is_replaced() {
    let dir = TempDir::new().unwrap();
    let path = video(&dir, 50, 50);
    let config = Config { repeat: true, ..Config::new(path.to_str().unwrap()) };
    let (mut camera, mailbox) = started(config, None);
    mailbox.take(LONG).unwrap();
    let [decoder] = processes(&path)[..] else { panic!("one decoder") };
    kill_process(decoder, Signal::KILL).unwrap();
    until("another one runs", || camera.snapshot().restarts == 1 && camera.snapshot().state == State::Running);
    let before = camera.snapshot().frames;
    until("it delivers", || camera.snapshot().frames > before);
    assert!(camera.snapshot().last_error.unwrap().contains("signal: 9"));
    assert_ne!(processes(&path), [decoder]);
    camera.stop();
    assert_eq!(processes(&path), []);
}

#[test]
fn stopping_is_possible_whatever_the_source_waits_for() {
    let dir = TempDir::new().unwrap();
    let mark = dir.path().to_str().unwrap();
    let path = video(&dir, 50, 10);
    let endless = Config { repeat: true, ..at_max(&path) };
    let silent = scripted(STREAM, &format!("sh -c 'sleep 100; :' {mark}; :"));
    let failing = scripted(STREAM, "exit 1");
    type Reached = fn(&Snapshot) -> bool;
    let cases: [(Config, Reached); 3] = [
        // The second frame waits for the first one to be taken.
        (endless, |s| s.frames == 2),
        (silent, |_| true),
        // Deep in its back-off.
        (failing, |s| s.errors == 3),
    ];
    for (config, reached) in cases {
        let (mut camera, mailbox) = started(config, None);
        until("it waits", || reached(&camera.snapshot()));
        camera.stop();
        camera.stop();
        assert_eq!(camera.snapshot().state, State::Ended);
        while mailbox.take(LONG).is_ok() {}
        assert_eq!(mailbox.take(LONG).map(|_| ()), Err(NoFrame::Ended));
        until("its children are gone", || processes(dir.path()).is_empty());
    }
}

#[test]
fn no_buffer_is_allocated_once_all_are_in_use() {
    let dir = TempDir::new().unwrap();
    let (_camera, mailbox) = started(at_max(&video(&dir, 60, 10)), None);
    let mut capacities = Vec::new();
    while let Ok((camera, mut frame)) = mailbox.take(LONG) {
        capacities.push(frame.rgb.capacity());
        // A buffer that comes back is known by its capacity, which no new one would have.
        frame.rgb.reserve(100_000);
        mailbox.recycle(camera, frame);
    }
    assert_eq!(capacities.len(), 60);
    let new = capacities.iter().filter(|&&capacity| capacity < 100_000).count();
    assert!(new <= 3, "{new} buffers for source, slot and taker");
}

#[test]
fn a_decoder_that_is_not_there_fails_a_stream_too() {
    let nowhere = Config { decoder: Some(vec!["/no/such/decoder".into()]), ..Config::new(STREAM) };
    let (_, camera) = play(nowhere, None);
    let failure = camera.failure().unwrap();
    assert_eq!((failure.exit, camera.snapshot().restarts), (Exit::System, 0));
    assert!(failure.sentence.contains("/no/such/decoder cannot be started"), "{failure}");
    assert!(failure.sentence.contains("correct the first word of decoder"), "{failure}");
}

#[test]
fn a_wrong_configuration_is_refused_in_a_sentence() {
    let good = || Config::new("/v.avi");
    assert_eq!(good().check(), Ok(()));
    for (config, expect) in [
        (Config::new("dvb:/dev/dvb0"), "\"dvb:\", which is not known; there are file:/path"),
        (Config { start_s: -1.0, ..good() }, "start_s is -1"),
        (Config { start_s: f64::NAN, ..good() }, "start_s is NaN"),
        (Config { start_s: 1e300, ..good() }, "must be 0 to 604800"),
        (Config { stall_timeout_s: 0.0, ..good() }, "stall_timeout_s is 0 and must be 0.1 to 3600"),
        (Config { stall_timeout_s: f64::INFINITY, ..good() }, "stall_timeout_s is inf"),
        (Config { crop: Some([0, 0, 0, 10]), ..good() }, "crop is [0, 0, 0, 10]"),
        (Config { crop: Some([0, u32::MAX, 10, 10]), ..good() }, "not empty, within 8192 pixels"),
        (Config { decoder: Some(vec![]), ..good() }, "decoder is empty"),
        (Config { decoder: Some(vec!["x".into()]), start_s: 1.0, ..good() }, "write them into its command line"),
        (Config { repeat: true, ..Config::new("rtsp://u:secret@h/") }, "the source rtsp://***@h/ does not end"),
        (Config { start_s: 1.0, ..Config::new("images:/p") }, "start_s is for files"),
        (Config { frozen_timeout_s: -1.0, ..good() }, "frozen_timeout_s is -1"),
        (Config { decoder: Some(vec!["x".into()]), ..Config::new("synthetic:") }, "needs none"),
    ] {
        let sentence = config.check().unwrap_err();
        assert!(sentence.contains(expect), "{sentence:?} should say {expect:?}");
        let (_, camera) = play(config, None);
        assert_eq!(camera.failure().unwrap().exit, Exit::Config);
    }
}

#[test]
fn the_configuration_is_read_from_toml_and_shown_without_secrets() {
    let parse = picket_shared::config::parse::<Config>;
    assert_eq!(parse("source = \"/v.avi\""), Ok(Config::new("/v.avi")));
    let full = "source = \"/v.avi\"\npace = \"max\"\nstart_s = 2\nrepeat = true\ncrop = [1, 2, 3, 4]";
    let expect =
        Config { pace: Pace::Max, start_s: 2.0, repeat: true, crop: Some([1, 2, 3, 4]), ..Config::new("/v.avi") };
    assert_eq!(parse(full), Ok(expect));
    for (text, expect) in [
        ("source = \"/v.avi\"\ncrops = [1]", "did you mean \"crop\"?"),
        ("source = \"/v.avi\"\ncrop = [1, 2, 3, -4]", "integer `-4`"),
        ("source = \"/v.avi\"\npace = \"slow\"", "slow"),
        ("pace = \"max\"", "missing field `source`"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(expect), "{error:?} should say {expect:?}");
    }
    let shown = format!("{:?}", Config::new("rtsp://admin:hunter22@camera/"));
    assert!(!shown.contains("hunter22") && !shown.contains("admin"), "{shown}");
}

/// This test binary as another process, in which [`agent_in_a_process`] plays `source`.
fn agent(source: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "capture::tests::agent_in_a_process", "--ignored", "--nocapture"]);
    command.env("PICKET_TEST_SOURCE", source).env("PICKET_LOG", "trace").stdin(Stdio::null());
    command
}

#[test]
#[ignore = "not a test: the other tests run it as a process of its own"]
fn agent_in_a_process() {
    let Ok(source) = std::env::var("PICKET_TEST_SOURCE") else { return };
    picket_shared::telemetry::start();
    let (camera, mailbox) = started(Config::new(source.as_str()), None);
    eprintln!("{:?}", camera.board.lock().snapshot);
    while !matches!(mailbox.take(Duration::from_millis(50)), Err(NoFrame::Ended)) && camera.snapshot().errors < 2 {}
    eprintln!("{:?} {:?}", camera.snapshot(), camera.failure());
}

#[test]
fn no_decoder_outlives_an_agent_that_is_killed() {
    let dir = TempDir::new().unwrap();
    // Paced at two frames a second: most of the time the decoder sleeps.
    let path = video(&dir, 200, 2);
    let mut agent = agent(path.to_str().unwrap()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("a decoder runs", || processes(&path).len() == 1);
    std::thread::sleep(Duration::from_millis(300));
    agent.kill().unwrap();
    agent.wait().unwrap();
    until("the decoder is gone", || processes(&path).is_empty());
}

#[test]
fn a_machine_without_ffmpeg_is_told_to_install_it() {
    let output = agent(STREAM).env("PATH", "").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("exit: System") && text.contains("install it (on Debian: apt install ffmpeg)"), "{text}");
}

#[test]
fn secrets_of_a_url_reach_neither_log_nor_error() {
    let output = agent("rtsp://admin:hunter22@127.0.0.1:1/live?token=abcdef").output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("check that the camera is on") && text.contains("rtsp://***@127.0.0.1:1/live"), "{text}");
    for secret in ["admin", "hunter22", "abcdef"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn a_source_that_is_shared_gives_each_frame_twice_and_is_opened_once() {
    let mailbox = Mailbox::new(2);
    let config = Config::new("synthetic:?fps=50&size=64x48&people=1");
    let mut camera = start(0, CameraId::new("own").unwrap(), config, None, mailbox.clone());
    let mut shared = camera.share(1);
    let mut seen = [false; 2];
    let until = Instant::now() + Duration::from_secs(20);
    while seen != [true; 2] && Instant::now() < until {
        if let Ok((slot, frame)) = mailbox.take(Duration::from_millis(100)) {
            assert_eq!((frame.width, frame.height, frame.is_whole()), (64, 48, true));
            seen[slot] = true;
        }
    }
    assert_eq!(seen, [true; 2]);
    shared.stop();
    let before = camera.snapshot().frames;
    while camera.snapshot().frames < before + 3 && Instant::now() < until {
        let _ = mailbox.take(Duration::from_millis(100));
    }
    assert!(camera.snapshot().frames >= before + 3, "the own camera goes on without the other");
    let _again = camera.share(mailbox.open());
    camera.stop();
    while mailbox.take(Duration::from_millis(10)) != Err(NoFrame::Ended) {
        assert!(Instant::now() < until, "what is shared ends with its source");
    }
}
