//! An encoder child: a process that reads pictures on its standard input, and is never waited for longer than was said.
//!
//! It has a process group of its own, which is killed and reaped whenever a [`Child`] goes away. When the agent is killed
//! its input ends, and with that it ends by itself. Whether to start another one is not decided here.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group, setpriority_process};

use crate::capture::{Complaints, wait};

/// How often a child that is asked to end is looked at.
const EXIT_POLL: Duration = Duration::from_millis(5);
/// What nice(1) calls 19.
const LOWEST_PRIORITY: i32 = 19;

/// Why a child takes no more.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It took nothing for too long.
    Stalled,
    /// It has ended, or closed its input.
    Ended,
    /// It wrote more than may be taken.
    TooMuch,
    /// The system does not let us.
    System(io::Error),
}

/// How a child ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit status; that of a killed process where it did not end by itself.
    pub(crate) status: ExitStatus,
    /// The newest lines of its standard error, the very newest last.
    pub(crate) complaints: Vec<String>,
    /// What it wrote to its standard output, where that was asked for.
    pub(crate) output: Vec<u8>,
}

/// A running child.
pub(crate) struct Child {
    process: std::process::Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    complaints: Complaints,
    output: Vec<u8>,
    output_bytes_max: usize,
    reaped: bool,
}

impl Child {
    /// Starts it. Up to `output_bytes_max` bytes of its standard output are kept; 0 leaves that closed. `env` are
    /// variables that others on this machine do not see.
    pub(crate) fn start(words: &[String], env: &[(&str, &str)], output_bytes_max: usize) -> io::Result<Child> {
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut process = Command::new(program)
            .args(arguments)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(if output_bytes_max > 0 { Stdio::piped() } else { Stdio::null() })
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (stdin, stdout, stderr) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let (complaints, output, reaped) = (Complaints::default(), Vec::new(), false);
        let child = Child { process, stdin, stdout, stderr, complaints, output, output_bytes_max, reaped };
        fcntl_setfl(child.stdin.as_ref().expect("standard input is piped"), OFlags::NONBLOCK)?;
        Ok(child)
    }

    /// Gives it only what of the processor nobody else wants: for work that can wait.
    pub(crate) fn yield_to_others(&self) {
        // Refused to a unit that may not change priorities, and only a matter of manners.
        let _ = setpriority_process(Some(Pid::from_child(&self.process)), LOWEST_PRIORITY);
    }

    /// Hands it all of these bytes by `deadline`.
    pub(crate) fn write(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), Refused> {
        while !bytes.is_empty() {
            match self.stdin.as_mut().ok_or(Refused::Ended)?.write(bytes) {
                Ok(0) => return Err(Refused::Ended),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.hear(true, deadline)?,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(Refused::Ended),
                Err(error) => return Err(Refused::System(error)),
            }
        }
        Ok(())
    }

    /// Closes its input and waits for its end up to `grace`; then it is killed.
    pub(crate) fn finish(mut self, grace: Duration) -> io::Result<Ended> {
        self.stdin = None;
        let deadline = Instant::now() + grace;
        while self.stdout.is_some() || self.stderr.is_some() {
            if self.hear(false, deadline).is_err() {
                break;
            }
        }
        while self.process.try_wait()?.is_none() && Instant::now() < deadline {
            std::thread::sleep(EXIT_POLL);
        }
        let status = self.kill()?;
        let complaints = std::mem::take(&mut self.complaints).into_lines();
        Ok(Ended { status, complaints, output: std::mem::take(&mut self.output) })
    }

    /// Waits until it says something or, where `to_write`, takes something; what it says is kept.
    fn hear(&mut self, to_write: bool, deadline: Instant) -> Result<(), Refused> {
        let (stdin, stdout, stderr) = (self.stdin.as_ref(), self.stdout.as_ref(), self.stderr.as_ref());
        let mut ends = Vec::with_capacity(3);
        ends.extend(stdout.map(|end| PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN)));
        ends.extend(stderr.map(|end| PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN)));
        ends.extend(stdin.filter(|_| to_write).map(|end| PollFd::from_borrowed_fd(end.as_fd(), PollFlags::OUT)));
        if !wait(&mut ends, deadline).map_err(Refused::System)? {
            return Err(Refused::Stalled);
        }
        let ready: Vec<bool> = ends.iter().map(|end| !end.revents().is_empty()).collect();
        let (output, complaint) = (stdout.is_some(), stderr.is_some());
        let mut bytes = [0; 16 * 1024];
        if output && ready[0] {
            match self.stdout.as_mut().map(|stdout| stdout.read(&mut bytes)) {
                Some(Ok(count)) if count > 0 => {
                    if self.output.len() + count > self.output_bytes_max {
                        return Err(Refused::TooMuch);
                    }
                    self.output.extend_from_slice(&bytes[..count]);
                }
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => self.stdout = None,
            }
        }
        if complaint && ready[usize::from(output)] {
            match self.stderr.as_mut().map(|stderr| stderr.read(&mut bytes)) {
                Some(Ok(count)) if count > 0 => self.complaints.push(&bytes[..count]),
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => {
                    self.complaints.push(b"\n");
                    self.stderr = None;
                }
            }
        }
        Ok(())
    }

    /// Kills whoever is left of the process group, and reaps the child.
    fn kill(&mut self) -> io::Result<ExitStatus> {
        if !self.reaped {
            // Fails where nobody is left, which is as good.
            let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
            self.reaped = true;
        }
        self.process.wait()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn shell(script: &str, output_bytes_max: usize) -> Child {
        Child::start(&["sh", "-c", script].map(String::from), &[("SECRET", "x7")], output_bytes_max).unwrap()
    }

    #[test]
    fn what_a_child_writes_while_it_reads_is_taken_and_its_last_words_too() {
        // More than two pipes hold, so that neither side may wait for the other.
        let mut child = shell("cat; echo \"no room for $SECRET\" >&2; exit 3", 2_000_000);
        let sent = vec![7; 1_000_000];
        child.write(&sent, Instant::now() + LONG).unwrap();
        let ended = child.finish(LONG).unwrap();
        assert_eq!((ended.output, ended.status.code()), (sent, Some(3)));
        assert_eq!(ended.complaints, ["no room for x7"]);
    }

    #[test]
    fn a_child_that_takes_nothing_ends_early_or_says_too_much_is_refused() {
        let soon = || Instant::now() + Duration::from_millis(200);
        let bytes = vec![0; 1_000_000];
        let stuck = shell("sleep 600", 0).write(&bytes, soon());
        assert!(matches!(stuck, Err(Refused::Stalled)), "{stuck:?}");
        let gone = shell("exit 1", 0).write(&bytes, Instant::now() + LONG);
        assert!(matches!(gone, Err(Refused::Ended)), "{gone:?}");
        let much = shell("cat", 1000).write(&bytes, Instant::now() + LONG);
        assert!(matches!(much, Err(Refused::TooMuch)), "{much:?}");
    }

    #[test]
    fn a_child_that_does_not_end_is_killed_with_its_children() {
        let child = shell("sleep 601 & sleep 602", 0);
        let ended = child.finish(Duration::from_millis(100)).unwrap();
        assert!(!ended.status.success());
        let alive = || {
            std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
                let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                words.starts_with(b"sleep\x00601\0") || words.starts_with(b"sleep\x00602\0")
            })
        };
        let deadline = Instant::now() + LONG;
        while alive() {
            assert!(Instant::now() < deadline, "they live on");
            std::thread::sleep(EXIT_POLL);
        }
    }
}
