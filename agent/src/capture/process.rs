//! The decoder: a child process that turns any video into PPM pictures on its standard output.
//!
//! It is a process and not a library, so that no codec is linked in, and a decoder that crashes, hangs or is taken over
//! does so alone. It gets a process group of its own, which is killed and reaped whenever a [`Decoder`] goes away, also
//! when the agent stops in an orderly way; when the agent is killed, the next write breaks the pipe and ends it. Whether
//! to start another one is not decided here.

use std::collections::VecDeque;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::source::Source;
use super::{Config, Pace};

/// The pipe's size. The default 64 KiB wakes both sides twenty times within a picture of 768x576; a pipe of 1 MiB falls
/// out of the processor's cache. This was the fastest of the three with a busy taker, and never the slowest.
#[cfg(target_os = "linux")]
const PIPE_BYTES: usize = 256 * 1024;
/// Lines of its errors that are kept, newest last.
const ERROR_LINES_MAX: usize = 16;
/// Longest line that is kept; what is longer is not cut, because half a URL cannot be made unreadable.
const ERROR_LINE_BYTES_MAX: usize = 2048;
/// How long a decoder that closed its output may take to exit.
const EXIT_GRACE: Duration = Duration::from_secs(1);
/// How often it is asked in that time; a process that closed its output is gone within a millisecond or two.
const EXIT_POLL: Duration = Duration::from_millis(2);

/// What ffmpeg may open to play a stream; the list it reads from its standard input counts as one thing more.
const PROTOCOLS: &str = "pipe,fd,rtsp,rtp,udp,tcp,http,https,httpproxy,tls,crypto,data";

/// How a decoder is called. Its words can be seen by every user of the machine, so that a stream's URL, which may hold a
/// password, is not among ffmpeg's: it goes through the standard input. A decoder of the user's own finds it in the
/// environment too, which only its own user and root can read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invocation {
    /// The program, and its arguments.
    pub(super) words: Vec<String>,
    /// What it reads from its standard input.
    input: String,
    /// The source, for the environment variable [`URL_VARIABLE`].
    url: String,
}

/// Where a decoder of the user's own finds the source's URL, or a file's path.
const URL_VARIABLE: &str = "PICKET_URL";

impl Invocation {
    /// How to play this source.
    pub(super) fn of(config: &Config, source: &Source) -> Invocation {
        let url = match source {
            Source::File(path) => path.to_string_lossy().into_owned(),
            _ => config.source.secret().to_owned(),
        };
        match &config.decoder {
            Some(words) => {
                let words = words.iter().map(|word| word.replace("{url}", &url)).collect();
                Invocation { words, input: String::new(), url }
            }
            None => ffmpeg(config, source, &url),
        }
    }
}

fn ffmpeg(config: &Config, source: &Source, url: &str) -> Invocation {
    // One decoding thread leaves the other cores to inference; it still decodes many times faster than we detect.
    let mut words: Vec<String> =
        "ffmpeg -nostdin -hide_banner -loglevel repeat+error -threads 1".split(' ').map(String::from).collect();
    let mut input = String::new();
    let mut add = |more: &[&str]| words.extend(more.iter().map(|word| String::from(*word)));
    if let Source::Stream(scheme) = source {
        // A playlist of one entry, as ffmpeg's concat demuxer reads it: https://ffmpeg.org/ffmpeg-formats.html#concat-1
        input = format!("ffconcat version 1.0\nfile '{}'\n", url.replace('\'', r"'\''"));
        if *scheme == "rtsp" {
            // Over UDP a lost packet is a smeared picture, and firewalls drop it.
            input.push_str("option rtsp_transport tcp\n");
        }
        add(&["-protocol_whitelist", PROTOCOLS, "-f", "concat", "-safe", "0", "-i", "pipe:0"]);
    } else {
        if config.pace == Pace::Realtime {
            add(&["-re"]);
        }
        if config.start_s > 0.0 {
            add(&["-ss", &config.start_s.to_string()]);
        }
        // Only from the beginning: after a start further on, ffmpeg's clock is wrong by it once the file begins anew,
        // and pictures come in a burst until it has caught up.
        if config.repeat && config.start_s == 0.0 {
            add(&["-stream_loop", "-1"]);
        }
        // With the protocol's name in front no file name is taken for an option or another protocol.
        add(&["-i", &format!("file:{url}")]);
    }
    // Without passthrough ffmpeg repeats and drops frames to keep a constant rate.
    add(&["-an", "-fps_mode", "passthrough"]);
    if let Some([x, y, width, height]) = config.crop {
        add(&["-vf", &format!("crop={width}:{height}:{x}:{y}:exact=1")]);
    }
    add(&["-f", "image2pipe", "-c:v", "ppm", "pipe:1"]);
    Invocation { words, input, url: String::new() }
}

/// Why reading was given up before the decoder's output ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The agent stops.
    Stopped,
    /// No picture was completed in time.
    Stalled,
}

/// A running decoder. Reading gives its output; the stream also ends when [`Decoder::cut`] says why.
pub(super) struct Decoder<'a> {
    child: Child,
    reaped: bool,
    stdout: ChildStdout,
    stderr: Option<ChildStderr>,
    complaints: Complaints,
    /// Becomes readable, by hanging up, when the agent stops.
    stop: &'a PipeReader,
    deadline: Instant,
    cut: Option<Cut>,
}

/// How a decoder ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit status; that of a killed process where it did not end by itself.
    pub(super) status: ExitStatus,
    /// What it wrote to its standard error: the newest lines, the very newest last.
    pub(super) complaints: Vec<String>,
}

impl<'a> Decoder<'a> {
    /// Starts it; the first picture is due at `deadline`.
    pub(super) fn start(invocation: &Invocation, stop: &'a PipeReader, deadline: Instant) -> io::Result<Self> {
        let (program, arguments) = invocation.words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        if !invocation.url.is_empty() {
            command.env(URL_VARIABLE, &invocation.url);
        }
        let mut child = command
            .args(arguments)
            .stdin(if invocation.input.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        // Far less than a pipe holds, so it does not wait for a reader; one that is gone says so by its exit.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(invocation.input.as_bytes()));
        let stdout = child.stdout.take().expect("standard output is piped");
        let stderr = child.stderr.take();
        // Only a matter of speed, and refused when a user has many large pipes already.
        #[cfg(target_os = "linux")]
        let _ = rustix::pipe::fcntl_setpipe_size(&stdout, PIPE_BYTES);
        Ok(Self { child, reaped: false, stdout, stderr, complaints: Complaints::default(), stop, deadline, cut: None })
    }

    /// Sets when the next picture must be complete.
    pub(super) fn expect_by(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// The newest complaint that came since this was asked the last time. What was given here is not told at its end again.
    pub(super) fn complaint(&mut self) -> Option<String> {
        let newest = self.complaints.lines.pop_back();
        self.complaints.lines.clear();
        newest
    }

    /// Why reading was given up, if it was.
    pub(super) fn cut(&self) -> Option<Cut> {
        self.cut
    }

    /// Ends the decoder and tells how it went. One whose output has ended gets a little time to exit by itself.
    pub(super) fn finish(mut self, output_ended: bool) -> io::Result<Ended> {
        if output_ended {
            self.await_exit()?;
        }
        let status = self.kill()?;
        Ok(Ended { status, complaints: std::mem::take(&mut self.complaints).into_lines() })
    }

    /// Hears the last words and waits for the exit, both within [`EXIT_GRACE`].
    fn await_exit(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + EXIT_GRACE;
        while let Some(stderr) = &self.stderr
            && wait(&mut [PollFd::new(stderr, PollFlags::IN)], deadline)?
        {
            self.hear();
        }
        // Not reaped here: until the group is killed its number must stay taken.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        while waitid(WaitId::Pid(self.pid()), options)?.is_none() && Instant::now() < deadline {
            std::thread::sleep(EXIT_POLL);
        }
        Ok(())
    }

    /// Kills whoever is left of the process group, and reaps the child.
    fn kill(&mut self) -> io::Result<ExitStatus> {
        if !self.reaped {
            // Fails where nobody is left, which is as good.
            let _ = kill_process_group(self.pid(), Signal::KILL);
            self.reaped = true;
        }
        self.child.wait()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn hear(&mut self) {
        let mut bytes = [0; 1024];
        match self.stderr.as_mut().map(|stderr| stderr.read(&mut bytes)) {
            Some(Ok(count)) if count > 0 => self.complaints.push(&bytes[..count]),
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => {
                self.complaints.push(b"\n");
                self.stderr = None;
            }
        }
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let stderr = self.stderr.as_ref().map_or(self.stdout.as_fd(), |stderr| stderr.as_fd());
            let mut ends = [self.stop.as_fd(), stderr, self.stdout.as_fd()]
                .map(|end| PollFd::from_borrowed_fd(end, PollFlags::IN));
            let in_time = wait(&mut ends, self.deadline)?;
            let [stop, complaint, output] = ends.map(|end| !end.revents().is_empty());
            if stop || !in_time {
                self.cut = Some(if stop { Cut::Stopped } else { Cut::Stalled });
                return Ok(0);
            }
            if complaint && self.stderr.is_some() {
                self.hear();
            }
            if output {
                return self.stdout.read(buffer);
            }
        }
    }
}

impl Drop for Decoder<'_> {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Waits until one of these can be read or has hung up; false when the deadline has passed.
pub(crate) fn wait(ends: &mut [PollFd<'_>], deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(ends, Some(&timeout)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(!left.is_zero()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The newest lines of a decoder's standard error.
#[derive(Default)]
pub(crate) struct Complaints {
    lines: VecDeque<String>,
    unfinished: Vec<u8>,
}

impl Complaints {
    /// The lines, the newest last.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }

    /// Takes in what was read.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte != b'\n' && byte != b'\r' {
                // One byte more than is kept shows that the line was too long.
                if self.unfinished.len() <= ERROR_LINE_BYTES_MAX {
                    self.unfinished.push(byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.unfinished).trim().to_owned();
            if self.unfinished.len() <= ERROR_LINE_BYTES_MAX && !line.is_empty() {
                self.lines.push_back(line);
            }
            if self.lines.len() > ERROR_LINES_MAX {
                self.lines.pop_front();
            }
            self.unfinished.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_says_what_was_configured_and_nothing_else() {
        let head = "ffmpeg -nostdin -hide_banner -loglevel repeat+error -threads 1";
        let tail = "-f image2pipe -c:v ppm pipe:1";
        let plain = |source: &str| Config::new(source);
        let crop = Some([1, 2, 30, 40]);
        let words = ["play", "{url}", "--at={url}"].map(String::from).to_vec();
        for (config, expect) in [
            (plain("/v.avi"), format!("{head} -re -i file:/v.avi -an -fps_mode passthrough {tail}")),
            (
                Config { pace: Pace::Max, start_s: 1.5, repeat: true, crop, ..plain("file:///v.avi") },
                format!("{head} -ss 1.5 -i file:/v.avi -an -fps_mode passthrough -vf crop=30:40:1:2:exact=1 {tail}"),
            ),
            (
                Config { repeat: true, ..plain("/v.avi") },
                format!("{head} -re -stream_loop -1 -i file:/v.avi -an -fps_mode passthrough {tail}"),
            ),
            (Config { decoder: Some(words), ..plain("file:/v.avi") }, "play /v.avi --at=/v.avi".to_owned()),
        ] {
            let source = config.source.kind().unwrap();
            let invocation = Invocation::of(&config, &source);
            assert_eq!((invocation.words.join(" "), invocation.input.as_str()), (expect, ""));
        }
    }

    #[test]
    fn a_streams_url_is_read_from_the_input_and_not_seen_among_the_words() {
        let words = "-protocol_whitelist {P} -f concat -safe 0 -i pipe:0 -an -fps_mode passthrough -f image2pipe";
        for (url, expect) in [
            ("rtsp://u:it's@camera/1", "file 'rtsp://u:it'\\''s@camera/1'\noption rtsp_transport tcp\n"),
            ("http://camera/1?token=x", "file 'http://camera/1?token=x'\n"),
        ] {
            let config = Config::new(url);
            let Invocation { words: got, input, url } = Invocation::of(&config, &config.source.kind().unwrap());
            assert_eq!(input, format!("ffconcat version 1.0\n{expect}"));
            let got = got.join(" ");
            assert!(got.contains(&words.replace("{P}", PROTOCOLS)), "{got}");
            assert!(!got.contains("camera") && url.is_empty(), "{got}");
        }
        let own = Config { decoder: Some(vec!["play".into()]), ..Config::new("rtsp://u:p@camera/1") };
        let invocation = Invocation::of(&own, &own.source.kind().unwrap());
        assert_eq!((invocation.words, invocation.url.as_str()), (vec!["play".to_owned()], "rtsp://u:p@camera/1"));
    }

    #[test]
    fn complaints_are_whole_lines_and_bounded() {
        let mut complaints = Complaints::default();
        let long = "x".repeat(ERROR_LINE_BYTES_MAX + 1);
        complaints.push(format!("first\r\n\n{long}\nsec").as_bytes());
        complaints.push(b"ond\nunfinished");
        assert_eq!(complaints.lines, ["first", "second"]);
        (0..100).for_each(|number| complaints.push(format!("{number}\n").as_bytes()));
        assert_eq!((complaints.lines.len(), complaints.lines.back().unwrap().as_str()), (ERROR_LINES_MAX, "99"));
        complaints.push(&vec![b'y'; 1_000_000]);
        assert!(complaints.unfinished.len() <= ERROR_LINE_BYTES_MAX + 1);
    }
}
