//! What is done with pictures, end to end: the real agent on the real video with the real detector, a client that reads
//! its live view, ffprobe over what it wrote, and a real RTSP server for what it sends on.

// Helpers of a test may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{LONG, Running, free_port, sample_video, skipped, wait_for};
use picket_agent::detect::{self, Detector};
use picket_agent::frame::Frame;
use picket_agent::report::Report;
use picket_shared::status::SinkStats;
use rustix::process::{Pid, Signal, kill_process};

/// The colour of a person's box.
const YELLOW: [u8; 3] = [255, 196, 0];

// ---- The agent -----------------------------------------------------------------------------------------------------

/// An agent in a folder of its own, with nobody to send events to.
struct Agent {
    dir: tempfile::TempDir,
    port: u16,
    running: Running,
}

impl Agent {
    /// Starts one with these cameras; `more` stands above them in the file.
    fn start(more: &str, cameras: &str, arguments: &[&str]) -> Agent {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let text = format!(
            "node = \"n\"\ndata_dir = \"{}/data\"\n[mqtt]\nbroker = \"mqtt://127.0.0.1:9\"\n[live]\n\
             listen = \"127.0.0.1:{port}\"\n{more}\n{}",
            dir.path().display(),
            cameras.replace("{dir}", &dir.path().display().to_string())
        );
        std::fs::write(dir.path().join("agent.toml"), text).unwrap();
        let agent = Command::new(env!("CARGO_BIN_EXE_picket-agent"))
            .args(["run", "--config"])
            .arg(dir.path().join("agent.toml"))
            .args(arguments)
            .arg("--report")
            .arg(dir.path().join("report.json"))
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn();
        Agent { port, running: Running(agent.unwrap()), dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.at("log")).unwrap()
    }

    fn said(&self, words: &str) {
        wait_for(words, || {
            assert!(!self.log().contains("panicked"), "{}", self.log());
            self.log().contains(words).then_some(())
        });
    }

    fn token(&self) -> String {
        self.said("live view at http://");
        std::fs::read_to_string(self.at("data/live.token")).unwrap().trim().to_owned()
    }

    /// Ends it in order, and gives what it did.
    fn stop(&mut self) -> Report {
        self.running.signal(Signal::TERM);
        self.ended()
    }

    fn ended(&mut self) -> Report {
        wait_for("the agent's end", || self.running.0.try_wait().unwrap());
        serde_json::from_slice(&std::fs::read(self.at("report.json")).unwrap()).unwrap()
    }

    fn request(&self, path: &str, header: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n").unwrap();
        BufReader::new(stream)
    }

    /// The status line and headers in lower case, and the body.
    fn get(&self, path: &str, header: &str) -> (String, Vec<u8>) {
        let mut stream = self.request(path, header);
        let head = read_head(&mut stream);
        let mut body = Vec::new();
        stream.read_to_end(&mut body).unwrap();
        (head, body)
    }
}

fn read_head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "cut off: {head}");
    }
    head.to_ascii_lowercase()
}

/// The next picture of a stream: a chunk of HTTP is a part of MIME here.
fn next_picture(stream: &mut BufReader<TcpStream>) -> Vec<u8> {
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream has ended");
        if let Some(bytes) = line.strip_prefix("Content-Length: ") {
            let mut jpeg = vec![0; bytes.trim().parse().unwrap()];
            stream.read_line(&mut String::new()).unwrap();
            stream.read_exact(&mut jpeg).unwrap();
            return jpeg;
        }
    }
}

fn camera(name: &str, more: &str) -> String {
    format!("[[camera]]\nname = \"{name}\"\nsource = \"file:{}\"\nrepeat = true\n{more}\n", sample_video().display())
}

fn sink<'a>(report: &'a Report, camera: &str, sink: &str) -> &'a SinkStats {
    let camera = report.cameras.iter().find(|stats| stats.camera.as_str() == camera).unwrap();
    camera.sinks.iter().find(|stats| stats.sink == sink).unwrap_or_else(|| panic!("no {sink}: {camera:?}"))
}

// ---- Pictures ------------------------------------------------------------------------------------------------------

fn decoded(jpeg: &[u8]) -> Frame {
    let rgb = image::load_from_memory(jpeg).unwrap().into_rgb8();
    Frame { taken_ms: 0, width: rgb.width(), height: rgb.height(), rgb: rgb.into_raw() }
}

fn pixel(frame: &Frame, x: i64, y: i64) -> Option<[u8; 3]> {
    let inside = (0..i64::from(frame.width)).contains(&x) && (0..i64::from(frame.height)).contains(&y);
    let at = (y * i64::from(frame.width) + x) as usize * 3;
    inside.then(|| [frame.rgb[at], frame.rgb[at + 1], frame.rgb[at + 2]])
}

fn is_yellow(frame: &Frame, x: i64, y: i64) -> bool {
    // The colours of a line are blurred by the encoder.
    pixel(frame, x, y).is_some_and(|rgb| rgb.iter().zip(YELLOW).all(|(a, b)| a.abs_diff(b) < 90))
}

/// How many people the detector itself finds in a picture that have a box drawn around them, and how many it finds.
fn boxed(detector: &mut Detector, frame: &Frame) -> (usize, usize) {
    let mut people = Vec::new();
    detector.detect(frame, &mut people).unwrap();
    people.retain(|person| person.score > 0.5);
    let near = |x: i64, y: i64, down: bool| {
        (-6..=6).any(|off| if down { is_yellow(frame, x, y + off) } else { is_yellow(frame, x + off, y) })
    };
    let around = people.iter().filter(|person| {
        let [x1, y1, x2, y2] = [person.area.x1, person.area.y1, person.area.x2, person.area.y2].map(|v| v as i64);
        let level = (x1..x2).flat_map(|x| [near(x, y1, true), near(x, y2, true)]);
        let upright = (y1..y2).flat_map(|y| [near(x1, y, false), near(x2, y, false)]);
        let edge: Vec<bool> = level.chain(upright).collect();
        edge.iter().filter(|hit| **hit).count() * 10 > edge.len() * 7
    });
    (around.count(), people.len())
}

/// What ffprobe says of the first video stream: codec, width, height, and pictures that it decodes.
fn probed(file: &Path) -> Option<(String, u32, u32, u32)> {
    let words = "-v error -count_frames -select_streams v:0 -show_entries stream=codec_name,width,height,nb_read_frames \
         -of default=noprint_wrappers=1:nokey=1";
    let output = Command::new("ffprobe").args(words.split_whitespace()).arg(file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines();
    let codec = lines.next()?.to_owned();
    let mut number = || lines.next()?.parse().ok();
    Some((codec, number()?, number()?, number()?))
}

/// The last picture of a video file.
fn last_picture(file: &Path) -> Frame {
    let words = ["-v", "error", "-i"];
    let ppm = "-fps_mode passthrough -f image2pipe -c:v ppm pipe:1";
    let output = Command::new("ffmpeg").args(words).arg(file).args(ppm.split(' ')).output().unwrap();
    let (mut frame, mut rest) = (None, &output.stdout[..]);
    while let Some(header) = rest.strip_prefix(b"P6\n") {
        let lines: Vec<&[u8]> = header.splitn(3, |byte| *byte == b'\n').collect();
        let size = String::from_utf8_lossy(lines[0]).into_owned();
        let (width, height) = size.split_once(' ').map(|(w, h)| (w.parse().unwrap(), h.parse().unwrap())).unwrap();
        let bytes = width as usize * height as usize * 3;
        frame = Some(Frame { taken_ms: 0, width, height, rgb: lines[2][..bytes].to_vec() });
        rest = &lines[2][bytes..];
    }
    frame.unwrap()
}

fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == end));
    files.sort();
    files
}

/// The process that writes a file.
fn encoder_of(file: &Path) -> Option<Pid> {
    let its = format!("file:{}", file.display());
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let words = std::fs::read(entry.path().join("cmdline")).ok()?;
        let id = entry.file_name().to_str()?.parse().ok()?;
        words.split(|byte| *byte == 0).any(|word| word == its.as_bytes()).then(|| Pid::from_raw(id))?
    })
}

// ---- Live view and pictures of events ------------------------------------------------------------------------------

#[test]
fn the_live_view_shows_boxes_to_whoever_has_the_token_and_masked_pixels_to_nobody() {
    let mask = "[[camera.mask]]\npolygon = [[0.0, 0.7], [0.3, 0.7], [0.3, 1.0], [0.0, 1.0]]\n\
        [[camera.zone]]\nname = \"all\"\npolygon = [[0.5, 0.5], [0.95, 0.5], [0.95, 0.95], [0.5, 0.95]]";
    let mut agent = Agent::start("[privacy]\nkeep = \"clear\"", &camera("yard", mask), &[]);
    let token = agent.token();
    assert!(!agent.log().contains(&token), "the log never holds the token");
    let bearer = format!("Authorization: Bearer {token}\r\n");

    // Nobody gets anything without it.
    for path in ["/", "/page.js", "/state.json", "/cameras/yard/live.mjpeg", "/cameras/yard/snapshot.jpg", "/none"] {
        for header in ["", "Authorization: Bearer wrong\r\n", "Cookie: picket-live=x\r\n"] {
            let (head, body) = agent.get(path, header);
            assert!(head.starts_with("http/1.1 401"), "{path} {header}: {head}");
            assert!(head.contains("cache-control: no-store"), "{head}");
            assert!(String::from_utf8_lossy(&body).starts_with("A token is needed"));
        }
        assert!(agent.get(&format!("{path}?token={}", &token[1..]), "").0.starts_with("http/1.1 401"));
    }
    // From the address it goes into a cookie, which is enough.
    let (head, _) = agent.get(&format!("/state.json?token={token}"), "");
    assert!(head.starts_with("http/1.1 303") && head.contains("location: /state.json\r\n"), "{head}");
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.ends_with("; path=/; httponly; samesite=strict"), "{cookie}");
    let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    let (head, body) = agent.get("/", &cookie);
    assert!(head.starts_with("http/1.1 200") && body.starts_with(b"<!doctype html>"), "{head}");
    for expect in ["cache-control: no-store", "x-content-type-options: nosniff", "default-src 'none'"] {
        assert!(head.contains(expect), "{expect} is not in {head}");
    }
    assert!(!head.contains("access-control"), "{head}");
    assert!(agent.get("/cameras/none/live.mjpeg", &bearer).0.starts_with("http/1.1 404"));
    for path in ["/events/none/clip.mp4", "/events/..%2f..%2flive.token/snapshot.jpg"] {
        assert!(agent.get(path, &bearer).0.starts_with("http/1.1 404"), "{path}");
    }

    // Pictures that differ, with a box around whom the detector finds, and black where the mask is.
    let mut detector = Detector::load(&detect::Config::default()).unwrap();
    let mut stream = agent.request("/cameras/yard/live.mjpeg", &bearer);
    assert!(read_head(&mut stream).contains("multipart/x-mixed-replace; boundary=picket-frame"));
    let (mut around, mut found, mut pictures) = (0, 0, Vec::new());
    while around < 10 {
        let jpeg = next_picture(&mut stream);
        let frame = decoded(&jpeg);
        assert_eq!((frame.width, frame.height), (768, 576));
        let dark = |x: i64, y: i64| pixel(&frame, x, y).is_some_and(|rgb| rgb.iter().all(|part| *part < 40));
        let masked = (0..220).step_by(5).flat_map(|x| (415..570).step_by(5).map(move |y| (x, y)));
        let (black, all) = masked.fold((0, 0), |(black, all), (x, y)| (black + usize::from(dark(x, y)), all + 1));
        // Somebody's box may reach over the mask, and people are not seen through it.
        assert!(black * 100 > all * 90, "{black} of {all}");
        let (one, all) = boxed(&mut detector, &frame);
        (around, found) = (around + one, found + all);
        pictures.push(jpeg);
        assert!(pictures.len() < 200, "{around} boxes around {found} people");
    }
    assert!(around * 2 > found, "{around} boxes around {found} people");
    assert!(pictures.windows(2).any(|pair| pair[0] != pair[1]), "they move");
    drop(stream);

    let (head, body) = agent.get("/cameras/yard/snapshot.jpg", &bearer);
    assert!(head.contains("content-type: image/jpeg"), "{head}");
    assert_eq!(decoded(&body).width, 768);

    // An event's picture and clip.
    let media = agent.at("data/media/yard");
    let clip = wait_for("a clip", || files(&media, "mp4").pop());
    let (codec, width, height, frames) = probed(&clip).unwrap();
    assert_eq!((codec.as_str(), width, height), ("h264", 768, 576));
    assert!(frames > 4, "{frames}");
    let snapshot = clip.with_extension("jpg");
    let (around, found) = boxed(&mut detector, &decoded(&std::fs::read(&snapshot).unwrap()));
    assert!(around > 0, "none of {found} people in {} has a box", snapshot.display());
    let event = clip.file_stem().unwrap().to_str().unwrap();
    let (head, body) = agent.get(&format!("/events/{event}/clip.mp4"), &bearer);
    let whole = std::fs::read(&clip).unwrap();
    assert!(head.contains("content-type: video/mp4") && head.contains("accept-ranges: bytes"), "{head}");
    assert_eq!(body, whole);
    // A player seeks by asking for parts.
    let of = whole.len();
    for (range, status, told, expect) in [
        ("bytes=0-1", 206, format!("content-range: bytes 0-1/{of}"), &whole[..2]),
        ("bytes=100-", 206, format!("content-range: bytes 100-{}/{of}", of - 1), &whole[100..]),
        ("bytes=-7", 206, format!("content-range: bytes {}-{}/{of}", of - 7, of - 1), &whole[of - 7..]),
        ("bytes=99999999-", 416, format!("content-range: bytes */{of}"), &[]),
        ("bytes=0-1,4-5", 200, "accept-ranges: bytes".into(), &whole),
        ("bytes=0-1\r\nIf-Range: \"x\"", 200, "accept-ranges: bytes".into(), &whole),
    ] {
        let (head, body) = agent.get(&format!("/events/{event}/clip.mp4"), &format!("{bearer}Range: {range}\r\n"));
        assert!(head.starts_with(&format!("http/1.1 {status}")) && head.contains(&told), "{range}: {head}");
        assert!(body == expect, "{range}: {} bytes", body.len());
    }
    assert!(agent.get(&format!("/events/{event}/clip.mp4"), "Range: bytes=0-1\r\n").0.starts_with("http/1.1 401"));
    let (head, body) = agent.get(&format!("/events/{event}/snapshot.jpg"), &bearer);
    assert!(head.contains("content-type: image/jpeg") && !body.is_empty(), "{head}");
    let (_, body) = agent.get("/state.json", &bearer);
    assert!(String::from_utf8_lossy(&body).contains(event));

    // Who looked and who might not is written down, a few times however often; and nobody's token or address.
    let written = std::fs::read_to_string(agent.at("data/audit.log")).unwrap();
    let lines = |what: &str| written.lines().filter(|line| line.contains(what)).count();
    assert!((20..70).contains(&lines("\"live_refused\"")), "{written}");
    assert_eq!(
        [lines("\"live_login\""), lines("camera yard"), lines(&format!("event {event}"))],
        [1, 1, 1],
        "{written}"
    );
    assert!(!written.contains(&token) && !written.contains("127.0.0.1"));

    let report = agent.stop();
    assert!(sink(&report, "yard", "live").pictures >= pictures.len() as u64);
    assert!(sink(&report, "yard", "snapshots").pictures > 0 && sink(&report, "yard", "clips").pictures > 0);
    assert!(files(&media, "part").is_empty());
}

#[test]
fn a_connection_that_asks_for_nothing_is_closed_and_its_place_is_free() {
    let agent = Agent::start("", &camera("yard", "snapshots = false"), &[]);
    agent.said("live view at http://");
    let mut silent = TcpStream::connect(("127.0.0.1", agent.port)).unwrap();
    silent.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0, "it is not held for ever");
}

#[test]
fn nothing_is_encoded_or_kept_where_nobody_looks_and_nothing_is_to_be_kept() {
    let more = "pace = \"max\"\nsnapshots = false";
    let mut agent = Agent::start("", &camera("yard", more), &["--frames", "60", "--drain-timeout-s", "0"]);
    let report = agent.ended();
    assert_eq!(sink(&report, "yard", "live").pictures, 0);
    assert!(report.cameras[0].sinks.iter().all(|sink| sink.sink == "live"), "{report:?}");
    assert!(!agent.at("data/media").exists());
}

#[test]
fn too_many_viewers_are_turned_away_and_one_that_reads_nothing_costs_detection_no_frame() {
    const FRAMES: u64 = 250;
    let more = "pace = \"max\"\nsnapshots = false";
    let arguments = ["--frames", &FRAMES.to_string(), "--drain-timeout-s", "0"];
    let mut agent = Agent::start("viewers_max = 2\nfps = 30.0", &camera("yard", more), &arguments);
    let bearer = format!("Authorization: Bearer {}\r\n", agent.token());
    let look = || {
        let mut stream = agent.request("/cameras/yard/live.mjpeg", &bearer);
        let head = read_head(&mut stream);
        (head.lines().next().unwrap_or_default().to_owned(), stream)
    };
    // They read the headers and not one picture.
    let first = look();
    let second = look();
    assert!(first.0.ends_with("200 ok") && second.0.ends_with("200 ok"), "{} {}", first.0, second.0);
    let (third, _) = look();
    assert!(third.contains(" 503 "), "{third}");
    drop(first);
    wait_for("a place that was given up", || look().0.ends_with("200 ok").then_some(()));

    let report = agent.ended();
    let stats = &report.cameras[0];
    assert_eq!((stats.frames, stats.frames_dropped), (FRAMES, 0));
    assert_eq!(stats.frames_gated + stats.frames_detected, FRAMES, "{stats:?}");
    drop(second);
}

// ---- Recordings ----------------------------------------------------------------------------------------------------

#[test]
fn recordings_are_segments_that_play_whatever_ends_them() {
    let record = "snapshots = false\nrecord = { path = \"{dir}/video/yard.mp4\", segment_s = 5.0 }";
    let lame = "snapshots = false\nrecord = { path = \"{dir}/lame/yard.mp4\", encoder = [\"/nonexistent/enc\"] }";
    let mut agent = Agent::start("", &format!("{}{}", camera("yard", record), camera("lame", lame)), &[]);
    agent.said("camera lame, record: the encoder /nonexistent/enc cannot be started (No such file");
    let videos = || files(&agent.at("video"), "mp4");
    wait_for("a second segment", || (videos().len() >= 2).then_some(()));
    let whole = &videos()[0];
    let (codec, width, height, frames) = probed(whole).unwrap();
    assert_eq!((codec.as_str(), width, height), ("h264", 768, 576));
    assert!(frames > 4, "{frames}");
    let mut detector = Detector::load(&detect::Config::default()).unwrap();
    let (around, found) = boxed(&mut detector, &last_picture(whole));
    assert!(around > 0, "none of {found} people has a box");

    // kill -9 of the encoder: the file plays as far as it went, and another is begun.
    let before = videos().len();
    let (last, encoder) = wait_for("something in the last segment", || {
        let last = videos().pop()?;
        probed(&last).filter(|probe| probe.3 > 0)?;
        let encoder = encoder_of(&last)?;
        Some((last, encoder))
    });
    kill_process(encoder, Signal::KILL).unwrap();
    agent.said("camera yard, record: the encoder ended with signal: 9 (SIGKILL)");
    wait_for("another segment", || (videos().len() > before).then_some(()));
    assert!(probed(&last).unwrap().3 > 0);

    // kill -9 of the agent: the last file plays.
    let last = videos().pop().unwrap();
    wait_for("something in it", || probed(&last).filter(|probe| probe.3 > 0));
    agent.running.signal(Signal::KILL);
    wait_for("its end", || agent.running.0.try_wait().unwrap());
    assert!(probed(&last).unwrap().3 > 0);
}

#[test]
fn a_full_disk_stops_the_recording_and_not_the_detection() {
    let disk = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(disk.path()).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return skipped("a tmpfs cannot be mounted here (root may)");
    }
    struct Unmount<'a>(&'a Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0).status();
        }
    }
    let _unmount = Unmount(disk.path());
    let record = format!(
        "pace = \"max\"\nsnapshots = false\nrecord = {{ path = \"{}/yard.mp4\", free_mib_min = 1, fps = 50.0 }}",
        disk.path().display()
    );
    let mut agent = Agent::start("enabled = false", &camera("yard", &record), &["--drain-timeout-s", "0"]);
    agent.said("watching");
    // Most of the disk is somebody else's from the start.
    std::fs::write(disk.path().join("other"), vec![0; 1_500_000]).unwrap();
    agent.said("camera yard, record: recording has stopped, because the disk of");
    let times = || agent.log().matches("recording has stopped").count();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(times(), 1, "it is said once: {}", agent.log());
    let report = agent.stop();
    let (record, camera) = (sink(&report, "yard", "record"), &report.cameras[0]);
    assert_eq!(record.state, "full");
    assert!(record.errors >= 1 && record.pictures_dropped > 0, "{record:?}");
    // One may wait to be taken and one be on its way.
    assert!(camera.frames_gated + camera.frames_detected + 2 >= camera.frames && camera.frames > 50, "{camera:?}");
    assert!(files(disk.path(), "mp4").iter().all(|file| probed(file).is_some()), "what there is plays");
}

// ---- Restream ------------------------------------------------------------------------------------------------------

/// A server that takes a stream; `None`, said aloud, where Debian's packages for it are missing.
fn rtsp_recorder(port: u16, file: &Path, login: &[&str]) -> Option<Running> {
    const PYTHON: &str = "/usr/bin/python3";
    let probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer";
    let found = Command::new(PYTHON).args(["-c", probe]).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        skipped("no RTSP server here; install python3-gi and gir1.2-gst-rtsp-server-1.0");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake/rtsp_recorder.py");
    let mut server = Command::new(PYTHON)
        .arg(script)
        .arg(port.to_string())
        .arg(file)
        .args(login)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    Some(Running(server))
}

#[test]
fn a_stream_is_sent_on_with_boxes_and_again_when_its_server_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let login = ["sender", "sesame7"];
    let (one, two) = (dir.path().join("one.ts"), dir.path().join("two.ts"));
    let Some(server) = rtsp_recorder(port, &one, &login) else { return };
    let restream = format!("snapshots = false\nrestream = {{ url = \"rtsp://sender:sesame7@127.0.0.1:{port}/live\" }}");
    let mut agent = Agent::start("enabled = false", &camera("yard", &restream), &[]);
    agent.said("can see restream.url with its password");
    let came = |file: &Path, frames: u32| probed(file).filter(|probe| probe.3 >= frames);
    let (codec, width, height, _) = wait_for("the stream", || came(&one, 30));
    assert_eq!((codec.as_str(), width, height), ("h264", 768, 576));
    let mut detector = Detector::load(&detect::Config::default()).unwrap();
    // The newest picture may be half there while it is written.
    wait_for("a person with a box", || (boxed(&mut detector, &last_picture(&one)).0 > 0).then_some(()));

    drop(server);
    agent.said("camera yard, restream: rtsp://***@127.0.0.1");
    let _server = rtsp_recorder(port, &two, &login);
    wait_for("the stream again", || came(&two, 10));
    assert!(!agent.log().contains("sesame7"), "{}", agent.log());
    let report = agent.stop();
    let restream = sink(&report, "yard", "restream");
    assert!(restream.restarts >= 1 && restream.errors >= 1, "{restream:?}");
}
