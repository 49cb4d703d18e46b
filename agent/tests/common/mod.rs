//! What this crate's tests share: the sample video, processes that end with the test, and waiting for what they do.
//!
//! Nothing here stands in for a part of the product. Each test binary takes what it needs.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use picket_agent::capture::{self, Config, Mailbox};
use picket_shared::ids::CameraId;
use rustix::process::{Pid, Signal, kill_process};

/// Long enough never to pass in a test that works.
pub(crate) const LONG: Duration = Duration::from_secs(90);

/// A process that is killed when the test is over, however it ends.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks until there is an answer.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < LONG, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Where `make test` keeps what it has prepared.
pub(crate) fn cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    cache.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache")).join("picket")
}

/// The sample video.
pub(crate) fn sample_video() -> PathBuf {
    let video = cache().join("sample/vtest.avi");
    assert!(video.is_file(), "{} is missing; run the tests by `make test`, which prepares it", video.display());
    video
}

/// Says aloud that something was not tested. Not by `eprintln!`, which the test harness keeps back of a test that passes.
pub(crate) fn skipped(what: &str) {
    let _ = std::io::stderr().write_all(format!("SKIPPED: {what}\n").as_bytes());
}

/// A camera that plays into a mailbox of its own.
pub(crate) fn started(config: Config, frames_max: Option<u64>) -> (capture::Camera, Mailbox) {
    let mailbox = Mailbox::new(1);
    (capture::start(0, CameraId::new("yard").unwrap(), config, frames_max, mailbox.clone()), mailbox)
}

/// A JPEG of one colour.
pub(crate) fn jpeg(width: u32, height: u32, pixel: [u8; 3]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let rgb = pixel.repeat((width * height) as usize);
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 90);
    image::ImageEncoder::write_image(encoder, &rgb, width, height, image::ExtendedColorType::Rgb8).unwrap();
    bytes
}

/// A broker of its own, which keeps nothing on disk: its port.
pub(crate) fn mosquitto(dir: &Path) -> (Running, u16) {
    let port = free_port();
    let config = dir.join("broker.conf");
    std::fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\n")).unwrap();
    let broker = Command::new("mosquitto").arg("-c").arg(config).stderr(Stdio::null()).spawn();
    let broker = Running(broker.expect("this test needs mosquitto: run it by `make test`, which installs it"));
    until("mosquitto", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    (broker, port)
}

/// Everything that is said on topics, line by line: topic, a blank, and the message.
pub(crate) fn heard(port: u16, topics: &[&str]) -> (Running, impl Iterator<Item = String> + use<>) {
    let mut command = Command::new("mosquitto_sub");
    command.args(["-p", &port.to_string(), "-v"]).stdout(Stdio::piped());
    for topic in topics {
        command.args(["-t", topic]);
    }
    let mut child = command.spawn().unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    (Running(child), lines)
}
