//! Cameras with the real libraries: those of this machine from a fake kernel device, and RTSP from a real server.
//!
//! Where the library must be run against the fake device, this test binary plays the source in a process of its own, see
//! [`a_player`]; the device is a folder that the test changes while it plays.

// Helpers of a test may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::{LONG, free_port, jpeg, skipped, started, until};
use picket_agent::capture::{self, Config, Mailbox, NoFrame, State};
use picket_shared::ids::CameraId;
use tempfile::TempDir;

// ---- The player ----------------------------------------------------------------------------------------------------

#[test]
#[ignore = "not a test: the other tests run it as a process of its own"]
fn a_player() {
    let Ok(text) = std::env::var("PICKET_TEST_CAMERA") else { return };
    let config: Config = picket_shared::config::parse(&text).unwrap();
    let mailbox = Mailbox::new(1);
    let camera = capture::start(0, CameraId::new("yard").unwrap(), config, None, mailbox.clone());
    let mut before = None;
    loop {
        let taken = mailbox.take(Duration::from_millis(20));
        let mut snapshot = camera.snapshot();
        if let Ok((index, frame)) = taken {
            let at = (frame.rgb.len() / 6) * 3;
            println!("frame {}x{} {:?}", frame.width, frame.height, &frame.rgb[at..at + 3]);
            mailbox.recycle(index, frame);
        } else if taken == Err(NoFrame::Ended) {
            println!("over {:?}", camera.failure());
            return;
        }
        // Only what changes seldom is told.
        (snapshot.frames, snapshot.frames_dropped, snapshot.retry_at) = (0, 0, None);
        (snapshot.frozen_ms, snapshot.frames_frozen) = (u64::from(camera.frozen().is_some()), 0);
        if before.as_ref() != Some(&snapshot) {
            println!("{snapshot:?}");
            before = Some(snapshot);
        }
        std::io::stdout().flush().unwrap();
    }
}

/// A player that is ended when it goes out of sight.
struct Player {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Player {
    fn start(camera: &str, device: &Path) -> Player {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_player", "--ignored", "--nocapture"])
            .env("PICKET_TEST_CAMERA", camera)
            .env("FAKE_V4L2", device)
            .env("LD_PRELOAD", fake_v4l2())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        let mut child = child.unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Player { child, lines }
    }

    /// Reads on until a line holds all of these words, and gives it.
    fn until(&mut self, words: &[&str]) -> String {
        let (began, mut last) = (Instant::now(), String::new());
        loop {
            let mut line = String::new();
            let bytes = self.lines.read_line(&mut line).unwrap();
            assert!(bytes > 0, "it ended before {words:?}; its last line was {last}");
            assert!(began.elapsed() < LONG, "waited too long for {words:?}; its last line was {line}");
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
            last = line;
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The fake device's library, compiled once for all tests of this process.
fn fake_v4l2() -> &'static Path {
    static LIBRARY: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = LIBRARY.get_or_init(|| {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("fake_v4l2.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake/v4l2.c");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&path).arg(source).arg("-ldl").output();
        let built = built.expect("Rust cannot link without cc, so it is there");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        (dir, path)
    });
    path
}

// ---- The fake device -----------------------------------------------------------------------------------------------

/// A folder that is a camera.
struct Device(TempDir);

impl Device {
    /// `offers` are lines of layout, width, height and rate. It has a few frames of each.
    fn plugged_in(offers: &str) -> Device {
        let device = Device(TempDir::new().unwrap());
        for offer in offers.lines() {
            let words: Vec<&str> = offer.split(' ').collect();
            let (width, height) = (words[1].parse().unwrap(), words[2].parse().unwrap());
            for number in 0..3 {
                device.frame(words[0], width, height, number, &pixels(words[0], width, height, number));
            }
        }
        device.plug_in(offers);
        device
    }

    fn frame(&self, fourcc: &str, width: u32, height: u32, number: u32, bytes: &[u8]) {
        std::fs::write(self.0.path().join(format!("{fourcc}-{width}x{height}.{number}")), bytes).unwrap();
    }

    /// The device's file appears whole: whoever reads it meanwhile finds the old one or the new one.
    fn plug_in(&self, offers: &str) {
        std::fs::write(self.0.path().join("device.new"), offers).unwrap();
        std::fs::rename(self.0.path().join("device.new"), self.0.path().join("device")).unwrap();
    }

    fn unplug(&self) {
        std::fs::remove_file(self.0.path().join("device")).unwrap();
    }

    /// `stall`: no frame comes. `sulk`: the stream cannot be stopped.
    fn ails(&self, ailment: &str, does: bool) {
        let path = self.0.path().join(ailment);
        if does { std::fs::write(path, "").unwrap() } else { std::fs::remove_file(path).unwrap() }
    }
}

/// A red picture whose brightness depends a little on its number.
fn pixels(fourcc: &str, width: u32, height: u32, number: u32) -> Vec<u8> {
    let (count, y) = ((width * height) as usize, 81 + number as u8);
    match fourcc {
        "YUYV" => [y, 90, y, 240].repeat(count / 2),
        "NV12" => [vec![y; count], [90, 240].repeat(count / 4)].concat(),
        "GREY" => vec![y; count],
        _ => jpeg(width, height, [250 - number as u8, 0, 0]),
    }
}

/// Whether a player's frame line shows a red picture of this size.
fn is_red(line: &str, size: &str) -> bool {
    let numbers = line.split(&['[', ']', ','][..]).skip(1).map_while(|word| word.trim().parse().ok());
    let rgb: Vec<u8> = numbers.collect();
    line.contains(size) && rgb.len() == 3 && rgb[0] > 230 && rgb[1] < 25 && rgb[2] < 25
}

// ---- v4l -----------------------------------------------------------------------------------------------------------

#[cfg(feature = "v4l")]
#[test]
fn each_layout_is_captured_in_its_colours_and_told_in_health() {
    for (offers, wish, format) in [
        ("YUYV 64 48 30", "", "YUYV 64x48, 15/s"),
        ("NV12 64 48 30", "?fps=30", "NV12 64x48, 30/s"),
        ("MJPG 64 48 30\nYUYV 64 48 5", "", "MJPG 64x48, 15/s"),
        ("MJPG 64 48 30\nYUYV 64 48 5\nYUYV 32 24 30", "?format=yuyv&size=30x20", "YUYV 32x24, 15/s"),
    ] {
        let device = Device::plugged_in(offers);
        let mut player = Player::start(&format!("source = \"v4l:/dev/video0{wish}\""), device.0.path());
        let size = format.split([' ', ',']).nth(1).unwrap();
        let line = player.until(&["frame "]);
        assert!(is_red(&line, size), "{offers}: {line}");
        player.until(&["state: Running", format]);
    }
}

#[cfg(feature = "v4l")]
#[test]
fn a_camera_that_is_unplugged_stalls_or_changes_is_opened_again() {
    let device = Device::plugged_in("YUYV 64 48 30");
    let mut player = Player::start("source = \"v4l:/dev/video0\"\nstall_timeout_s = 0.4", device.0.path());
    player.until(&["frame 64x48"]);
    device.unplug();
    player.until(&["state: Retrying", "the device is gone; check the cable"]);
    player.until(&["state: Retrying", "there is no such device; check the cable, and its name with: ls /dev/video*"]);
    device.plug_in("YUYV 64 48 30");
    player.until(&["state: Running"]);
    device.ails("stall", true);
    player.until(&["state: Stalled", "no picture came within 0.4 s; check the camera and its cable"]);
    device.ails("stall", false);
    player.until(&["state: Running"]);
    device.unplug();
    player.until(&["state: Retrying"]);
    // Another camera in the same socket.
    for number in 0..3 {
        device.frame("NV12", 32, 24, number, &pixels("NV12", 32, 24, number));
    }
    device.plug_in("NV12 32 24 30");
    player.until(&["frame 32x24"]);
    player.until(&["state: Running", "NV12 32x24"]);
}

/// The v4l crate panics where a stream cannot be stopped.
#[cfg(feature = "v4l")]
#[test]
fn a_driver_at_which_the_library_gives_up_is_tried_again() {
    let device = Device::plugged_in("YUYV 64 48 30");
    let mut player = Player::start("source = \"v4l:/dev/video0\"\nstall_timeout_s = 0.3", device.0.path());
    player.until(&["frame "]);
    device.ails("sulk", true);
    device.ails("stall", true);
    player.until(&["state: Retrying", "the camera's library gave up on its driver"]);
    device.ails("sulk", false);
    device.ails("stall", false);
    player.until(&["state: Running"]);
}

#[cfg(feature = "v4l")]
#[test]
fn a_camera_that_is_not_there_at_first_is_waited_for() {
    let device = Device::plugged_in("YUYV 64 48 30");
    device.unplug();
    let mut player = Player::start("source = \"v4l:/dev/video0\"", device.0.path());
    player.until(&["state: Retrying", "ls /dev/video*"]);
    device.plug_in("YUYV 64 48 30");
    player.until(&["frame 64x48"]);
}

#[cfg(feature = "v4l")]
#[test]
fn a_truncated_jpeg_is_counted_and_passed_over() {
    let device = Device::plugged_in("MJPG 64 48 30");
    let whole = pixels("MJPG", 64, 48, 1);
    device.frame("MJPG", 64, 48, 1, &whole[..whole.len() / 2]);
    device.frame("MJPG", 64, 48, 2, b"no picture at all\xff\xd9");
    let mut player = Player::start("source = \"v4l:/dev/video0\"", device.0.path());
    let line = player.until(&["frames_bad: 6"]);
    assert!(line.contains("state: Running") && line.contains("restarts: 0"), "{line}");
    for _ in 0..3 {
        let line = player.until(&["frame 64x48"]);
        assert!(is_red(&line, "64x48"), "{line}");
    }
    player.until(&["a JPEG picture cut off after"]);
    player.until(&["a damaged JPEG picture"]);
}

#[cfg(feature = "v4l")]
#[test]
fn a_camera_without_a_form_that_we_read_is_refused_in_a_sentence() {
    for (offers, expect) in [
        ("H264 64 48 30", "it gives no NV12, YUYV, MJPG or GREY in a size that can be used, only H264"),
        ("MJPG 7680 4320 30", "in a size that can be used, only MJPG"),
    ] {
        let device = Device(TempDir::new().unwrap());
        device.plug_in(offers);
        let mut player = Player::start("source = \"v4l:/dev/video0\"", device.0.path());
        player.until(&["state: Retrying", expect]);
    }
}

#[cfg(feature = "v4l")]
#[test]
fn a_camera_that_gives_the_same_picture_for_ever_is_noticed() {
    let device = Device::plugged_in("YUYV 64 48 30");
    let mut player = Player::start("source = \"v4l:/dev/video0\"\nfrozen_timeout_s = 0.5", device.0.path());
    // Three different pictures in turn: alive.
    player.until(&["state: Running", "frozen_ms: 0"]);
    for number in 0..3 {
        device.frame("YUYV", 64, 48, number, &pixels("YUYV", 64, 48, 7));
    }
    player.until(&["state: Running", "frozen_ms: 1"]);
    device.frame("YUYV", 64, 48, 1, &pixels("YUYV", 64, 48, 9));
    player.until(&["state: Running", "frozen_ms: 0"]);
}

#[test]
fn the_decoder_child_captures_from_a_camera_too() {
    let device = Device::plugged_in("YUYV 64 48 30");
    let words = "ffmpeg -nostdin -v error -f v4l2 -i /dev/video0 -f image2pipe -c:v ppm pipe:1";
    let config = format!("source = \"http://unused/\"\ndecoder = {:?}", words.split(' ').collect::<Vec<_>>());
    let mut player = Player::start(&config, device.0.path());
    let line = player.until(&["frame "]);
    assert!(is_red(&line, "64x48"), "{line}");
    device.unplug();
    player.until(&["state: Retrying"]);
    device.plug_in("YUYV 64 48 30");
    player.until(&["frame "]);
}

// ---- nokhwa --------------------------------------------------------------------------------------------------------

#[cfg(feature = "camera")]
#[test]
fn nokhwa_captures_each_layout_and_comes_back_after_a_stall() {
    for (offers, format) in [
        ("YUYV 64 48 30", "YUYV 64x48, 30/s"),
        ("NV12 64 48 30", "NV12 64x48, 30/s"),
        ("MJPG 64 48 30", "MJPEG 64x48, 30/s"),
    ] {
        let device = Device::plugged_in(offers);
        let mut player = Player::start("source = \"camera:0\"\nstall_timeout_s = 0.5", device.0.path());
        let line = player.until(&["frame "]);
        assert!(is_red(&line, "64x48"), "{offers}: {line}");
        player.until(&["state: Running", format]);
        device.ails("stall", true);
        player.until(&["state: Stalled", "no picture came within 0.5 s"]);
        device.ails("stall", false);
        player.until(&["state: Running"]);
        device.unplug();
        player.until(&["state: Retrying"]);
        device.plug_in(offers);
        player.until(&["state: Running"]);
    }
}

// ---- HTTP ----------------------------------------------------------------------------------------------------------

/// A network camera of the simplest kind: one JPEG after the other over HTTP, and each `cut_every`'th of them cut off.
fn mjpeg_server(cut_every: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut peer = listener.accept().unwrap().0;
        let mut request = BufReader::new(peer.try_clone().unwrap()).lines().map_while(Result::ok);
        assert!(request.any(|line| line.is_empty()), "a request ends with an empty line");
        let head = "HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=next\r\n\r\n";
        let mut sent = peer.write_all(head.as_bytes());
        for number in 1.. {
            if sent.is_err() {
                return;
            }
            let mut picture = noise(number as u32);
            if number % cut_every == 0 {
                picture.truncate(picture.len() / 2);
            }
            let length = picture.len();
            let part = format!("--next\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n");
            sent = peer.write_all(&[part.as_bytes(), &picture, b"\r\n"].concat());
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    port
}

/// A picture in which half of the bytes are not half of nothing.
fn noise(seed: u32) -> Vec<u8> {
    let pixel = |x: u32, y: u32| (x.wrapping_mul(73_856_093) ^ y.wrapping_mul(19_349_663) ^ seed) as u8;
    let picture = image::GrayImage::from_fn(160, 120, |x, y| image::Luma([pixel(x, y)]));
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new(&mut bytes);
    image::DynamicImage::from(picture).to_rgb8().write_with_encoder(encoder).unwrap();
    bytes
}

#[test]
fn pictures_that_come_cut_off_over_http_are_counted_and_the_stream_goes_on() {
    for (cut_every, is_sound) in [(usize::MAX, true), (5, false)] {
        let (camera, mailbox) =
            started(Config::new(format!("http://127.0.0.1:{}/live", mjpeg_server(cut_every))), None);
        let mut taken = 0;
        until("thirty pictures", || {
            while let Ok((index, frame)) = mailbox.take(Duration::from_millis(20)) {
                assert_eq!((frame.width, frame.height), (160, 120));
                mailbox.recycle(index, frame);
                taken += 1;
            }
            taken >= 30 && (is_sound || camera.snapshot().frames_bad >= 3)
        });
        let snapshot = camera.snapshot();
        assert_eq!((snapshot.state, snapshot.restarts), (State::Running, 0), "{snapshot:?}");
        assert_eq!((snapshot.frames_bad == 0, snapshot.errors == 0), (is_sound, is_sound), "{snapshot:?}");
        assert!(snapshot.frames_bad * 3 < snapshot.frames, "only those that were cut: {snapshot:?}");
        if !is_sound {
            let error = snapshot.last_error.unwrap();
            assert!(error.starts_with("the video has errors") && error.contains("pictures come cut off"), "{error}");
        }
    }
}

// ---- RTSP ----------------------------------------------------------------------------------------------------------

/// A real server on a port of its own; `None`, said aloud, where Debian's packages for it are missing.
fn rtsp_server(port: u16, size: (u32, u32), login: &[&str]) -> Option<Player> {
    const PYTHON: &str = "/usr/bin/python3";
    let probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer";
    let found = Command::new(PYTHON).args(["-c", probe]).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        skipped("no RTSP server here; install python3-gi and gir1.2-gst-rtsp-server-1.0");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake/rtsp_server.py");
    let mut child = Command::new(PYTHON)
        .arg(script)
        .args([port.to_string(), size.0.to_string(), size.1.to_string()])
        .args(login)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    let mut server = Player { child, lines };
    server.until(&["ready"]);
    Some(server)
}

/// Takes frames until one has this size.
fn until_size(mailbox: &Mailbox, camera: &capture::Camera, size: (u32, u32)) {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < LONG, "waited too long for {size:?}: {:?}", camera.snapshot());
        if let Ok((index, frame)) = mailbox.take(Duration::from_millis(100)) {
            let got = (frame.width, frame.height);
            mailbox.recycle(index, frame);
            if got == size {
                return;
            }
        }
    }
}

/// What every user of the machine can read of the processes that this one started.
fn process_list() -> String {
    let mut shown = String::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        shown.push_str(&String::from_utf8_lossy(&words).replace('\0', " "));
        shown.push('\n');
    }
    shown
}

#[test]
fn rtsp_is_played_with_a_password_that_nobody_sees_and_the_server_may_die_and_come_back_otherwise() {
    let port = free_port();
    let Some(server) = rtsp_server(port, (320, 240), &["admin", "it's7secret"]) else { return };
    let url = |login: &str| format!("rtsp://{login}@127.0.0.1:{port}/live");

    let (wrong, _) = started(Config::new(url("admin:wrong8secret")), None);
    until("it is refused", || wrong.snapshot().errors > 0);
    let error = wrong.snapshot().last_error.unwrap();
    assert!(error.contains("check user name and password in the URL"), "{error}");
    assert!(!error.contains("wrong8secret") && !error.contains("admin"), "{error}");
    drop(wrong);

    let (mut camera, mailbox) = started(Config::new(url("admin:it's7secret")), None);
    until_size(&mailbox, &camera, (320, 240));
    assert_eq!(camera.snapshot().format.as_deref(), Some("320x240 from ffmpeg"));
    let list = process_list();
    assert!(list.contains("-f concat -safe 0 -i pipe:0"), "the decoder runs: {list}");
    let seen: Vec<_> = list.lines().filter(|line| line.contains("7secret") && !line.contains("rtsp_server")).collect();
    assert!(seen.is_empty(), "{seen:?}");

    // kill -9, and another resolution when it is back.
    drop(server);
    until("its absence is seen", || matches!(camera.snapshot().state, State::Retrying | State::Stalled));
    until("a second try has failed", || camera.snapshot().restarts >= 1 && camera.snapshot().errors >= 2);
    let snapshot = camera.snapshot();
    assert!(!format!("{snapshot:?}").contains("7secret"), "{snapshot:?}");
    let _server = rtsp_server(port, (160, 120), &["admin", "it's7secret"]);
    until_size(&mailbox, &camera, (160, 120));
    assert_eq!(camera.snapshot().format.as_deref(), Some("160x120 from ffmpeg"));
    camera.stop();
}

#[test]
fn the_wait_for_the_next_try_is_told() {
    let (camera, _mailbox) = started(Config::new(format!("rtsp://127.0.0.1:{}/live", free_port())), None);
    until("it waits", || camera.snapshot().retry_at.is_some());
    until("it tries again", || camera.snapshot().restarts >= 1);
}

/// The command line of the Jetson's profile, with this machine's decoder in place of the Jetson's.
#[test]
fn the_jetsons_line_plays_rtsp_with_a_decoder_of_this_machine() {
    let port = free_port();
    let Some(_server) = rtsp_server(port, (320, 240), &[]) else { return };
    if !Command::new("gst-launch-1.0").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return skipped("no gst-launch-1.0 here; install gstreamer1.0-tools");
    }
    let profile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-configs/jetson-orin-nano/agent.toml");
    let profile = picket_agent::config::Config::read(Some(&profile), &Default::default()).unwrap();
    let words = profile.cameras[0].decoder.clone().expect("the profile has a line for GStreamer").join(" ");
    let hardware = "nvv4l2decoder ! nvvidconv ! video/x-raw,format=BGRx !";
    assert!(words.contains(hardware), "{words}");
    let words = words.replace(hardware, "openh264dec !");
    let decoder = words.split(' ').map(String::from).collect();
    let config = Config { decoder: Some(decoder), ..Config::new(format!("rtsp://127.0.0.1:{port}/live")) };
    let (camera, mailbox) = started(config, None);
    until_size(&mailbox, &camera, (320, 240));
    until("more frames come", || camera.snapshot().frames > 5);
    assert_eq!(camera.snapshot().format.as_deref(), Some("320x240 from gst-launch-1.0"));
}
