//! A child process that is killed, frozen and brought back. Nothing that it started outlives the soak.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use super::killer::Deed;

/// What to start.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What people call it.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Where its standard error goes.
    pub log: PathBuf,
}

/// A process that comes back.
pub struct Victim {
    plan: Plan,
    child: Child,
    /// Killed, and to be started again then.
    back_at: Option<Instant>,
    /// Frozen, and to go on then.
    thaw_at: Option<Instant>,
    memory_bytes_max: u64,
}

impl Victim {
    /// Starts it.
    pub fn start(plan: Plan) -> anyhow::Result<Victim> {
        let child = spawn(&plan)?;
        Ok(Victim { plan, child, back_at: None, thaw_at: None, memory_bytes_max: 0 })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Hits it, unless it is down already; whether it was hit.
    pub fn hit(&mut self, deed: Deed, until: Instant) -> anyhow::Result<bool> {
        if self.back_at.is_some() || self.thaw_at.is_some() {
            return Ok(false);
        }
        match deed {
            Deed::Kill => {
                self.memory_bytes_max = self.memory_bytes_max();
                self.child.kill()?;
                self.child.wait()?;
                self.back_at = Some(until);
            }
            Deed::Freeze => {
                self.signal(Signal::STOP)?;
                self.thaw_at = Some(until);
            }
        }
        Ok(true)
    }

    /// Brings it back when its time has come, and says so where it ended by itself.
    pub fn look(&mut self, now: Instant) -> anyhow::Result<()> {
        if self.back_at.is_some_and(|at| now >= at) {
            self.child = spawn(&self.plan)?;
            self.back_at = None;
        }
        if self.thaw_at.is_some_and(|at| now >= at) {
            self.signal(Signal::CONT)?;
            self.thaw_at = None;
        }
        match self.ended()? {
            Some(status) if self.back_at.is_none() => anyhow::bail!(
                "{} ended by itself ({status}): {}; its log is {}",
                self.plan.name,
                self.last_line(),
                self.plan.log.display()
            ),
            _ => Ok(()),
        }
    }

    /// Brings it back at once.
    pub fn revive(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let soon = |at: &mut Option<Instant>| *at = at.map(|_| now);
        soon(&mut self.back_at);
        soon(&mut self.thaw_at);
        self.look(now)
    }

    /// SIGTERM.
    pub fn ask_to_stop(&self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end after [`Victim::ask_to_stop`], which must be a good one; so is that of a process which did not yet
    /// listen for the signal.
    pub async fn wait(&mut self, within: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + within;
        loop {
            self.memory_bytes_max = self.memory_bytes_max();
            match self.ended()? {
                Some(status) if status.success() || status.signal() == Some(Signal::TERM.as_raw()) => return Ok(()),
                Some(status) => anyhow::bail!("{} ended with {status}: {}", self.plan.name, self.last_line()),
                None if Instant::now() > until => {
                    anyhow::bail!("{} did not stop within {within:?}: {}", self.plan.name, self.last_line())
                }
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// The most memory that it had in any of its lives, as far as it was looked at.
    pub fn memory_bytes_max(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
        self.memory_bytes_max.max(kib.unwrap_or(0) * 1024)
    }

    /// The last line of its log.
    pub fn last_line(&self) -> String {
        let log = std::fs::read_to_string(&self.plan.log).unwrap_or_default();
        log.lines().last().unwrap_or("it said nothing").to_owned()
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // A frozen process dies of it too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(plan: &Plan) -> anyhow::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(&plan.log);
    let log = log.with_context(|| format!("the log {}", plan.log.display()))?;
    let mut command = Command::new(&plan.program);
    command.args(&plan.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().with_context(|| format!("{} cannot be started; build or install it first", plan.program.display()))
}
