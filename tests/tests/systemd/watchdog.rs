//! What the real agent says to systemd's watchdog: nothing more once no camera's thread comes back, and all the while where
//! cameras are only gone.
//!
//! The test is systemd here: it listens at the other end of `NOTIFY_SOCKET`. That systemd then kills is systemd's affair.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use picket_tests::{Running, binary, run_within, text};
use tempfile::TempDir;

/// How long the agent may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than this between two words, which come once a second, and the watchdog is not fed any more.
const SILENCE: Duration = Duration::from_secs(8);
/// Words that are more than an agent says before it notices that a camera hangs.
const WORDS_WHILE_GONE: usize = 20;

/// An agent, and what it says to its service manager.
struct Heard {
    agent: Running,
    socket: UnixDatagram,
}

impl Heard {
    /// An agent with these cameras, and that in its environment.
    fn start(dir: &Path, cameras: &str, environment: &[(&str, &Path)]) -> Heard {
        let socket = UnixDatagram::bind(dir.join("notify")).unwrap();
        let config = dir.join("agent.toml");
        // No broker is there, and none is needed.
        let mqtt = "[mqtt]\nbroker = \"mqtt://127.0.0.1:9\"\n[media]\nbytes_max = 16777216\n";
        let text = format!("data_dir = {:?}\n{mqtt}{cameras}", dir.join("data"));
        fs::write(&config, text).unwrap();
        let mut command = Command::new(binary("picket-agent"));
        command.envs(environment.iter().copied());
        command.args(["run", "--config"]).arg(&config).stderr(Stdio::null());
        let agent = Running::start(command.env("NOTIFY_SOCKET", dir.join("notify")).env("WATCHDOG_USEC", "30000000"));
        Heard { agent, socket }
    }

    /// The next word, unless none comes within that time.
    fn word(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut said = [0; 256];
        match self.socket.recv(&mut said) {
            Ok(bytes) => Some(String::from_utf8_lossy(&said[..bytes]).trim().to_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until it has started.
    fn ready(&self) {
        while self.word(PATIENCE).expect("the agent starts") != "READY=1" {}
    }

    fn lives(&mut self) -> bool {
        self.agent.0.try_wait().unwrap().is_none()
    }
}

/// A disk that does not answer, as far as the agent can see: opening a picture of this name waits while that file is there.
/// No time-out of ours ends such a wait.
const HANGING_DISK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = va_arg(more, int);
    va_end(more);
    const char *hangs = getenv("PICKET_TEST_HANGS");
    while (hangs && strstr(path, "hanging.png") && access(hangs, F_OK) == 0) usleep(10000);
    return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64"))(path, flags, mode);
}
"#;

fn hanging_disk(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("disk.c"), dir.join("disk.so"));
    fs::write(&source, HANGING_DISK).unwrap();
    let mut compiler = Command::new("cc");
    let output = run_within(compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl"), PATIENCE);
    assert!(output.status.success(), "{}", text(&output));
    library
}

fn picture(path: &Path) {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-f", "lavfi", "-i", "color=gray:s=320x240", "-frames:v", "1"]).arg(path);
    let output = run_within(&mut ffmpeg, PATIENCE);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_camera_whose_thread_hangs_lets_the_watchdog_starve_until_it_comes_back() {
    let dir = TempDir::new().unwrap();
    let (pictures, hangs) = (dir.path().join("pictures"), dir.path().join("hangs"));
    fs::create_dir(&pictures).unwrap();
    picture(&pictures.join("at-once.png"));
    picture(&pictures.join("hanging.png"));
    fs::write(&hangs, "").unwrap();
    let camera =
        "[[camera]]\nname = \"still\"\nsource = \"images:PICTURES?fps=5\"\nrepeat = true\nstall_timeout_s = 1.0\n";
    let camera = camera.replace("PICTURES", &pictures.display().to_string());
    let disk = hanging_disk(dir.path());
    let environment = [("LD_PRELOAD", disk.as_path()), ("PICKET_TEST_HANGS", &hangs)];
    let mut heard = Heard::start(dir.path(), &camera, &environment);
    heard.ready();
    assert_eq!(heard.word(PATIENCE).as_deref(), Some("WATCHDOG=1"));
    let began = Instant::now();
    while let Some(word) = heard.word(SILENCE) {
        assert_eq!(word, "WATCHDOG=1");
        assert!(began.elapsed() < PATIENCE, "the watchdog is fed although nothing is captured");
    }
    assert!(heard.lives());
    // The disk is back.
    fs::remove_file(&hangs).unwrap();
    assert_eq!(heard.word(PATIENCE).as_deref(), Some("WATCHDOG=1"));
}

#[test]
fn cameras_that_are_only_gone_leave_the_watchdog_fed() {
    let dir = TempDir::new().unwrap();
    // One takes the connection and says nothing, one is not there.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let camera = |name: &str, port: u16| {
        format!("[[camera]]\nname = \"{name}\"\nsource = \"rtsp://127.0.0.1:{port}/\"\nstall_timeout_s = 1.0\n")
    };
    let cameras = camera("silent", silent.local_addr().unwrap().port()) + &camera("gone", 9);
    let mut heard = Heard::start(dir.path(), &cameras, &[]);
    heard.ready();
    for _ in 0..WORDS_WHILE_GONE {
        assert_eq!(heard.word(SILENCE).as_deref(), Some("WATCHDOG=1"));
    }
    assert!(heard.lives());
}

#[test]
fn the_coordinator_feeds_it_while_it_answers() {
    let dir = TempDir::new().unwrap();
    let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    let config = dir.path().join("coordinator.toml");
    // Without a broker it is never ready, and it moves all the same.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!("[mqtt]\nbroker = \"mqtt://127.0.0.1:9\"\n[http]\nlisten = \"{free}\"\n");
    fs::write(&config, format!("data_dir = {:?}\n{text}", dir.path().join("data"))).unwrap();
    let mut command = Command::new(binary("picket-coordinator"));
    command.args(["run", "--config"]).arg(&config).stderr(Stdio::null());
    let command = command.env("NOTIFY_SOCKET", dir.path().join("notify")).env("WATCHDOG_USEC", "3000000");
    let mut heard = Heard { agent: Running::start(command), socket };
    for _ in 0..3 {
        assert_eq!(heard.word(PATIENCE).as_deref(), Some("WATCHDOG=1"));
    }
    // One that is frozen has said its last word; one may be on its way.
    let signal =
        |name: &str, pid: u32| assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
    signal("-STOP", heard.agent.0.id());
    while heard.word(SILENCE).is_some() {}
    signal("-CONT", heard.agent.0.id());
    assert_eq!(heard.word(PATIENCE).as_deref(), Some("WATCHDOG=1"));
    assert!(heard.lives());
}
