//! One child process, started again when it is killed, as systemd would; its log in a file.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// A process that dies more often than this is not brought back.
const RESTARTS_MAX: u32 = 20;
/// The pause before it is started again.
const RESTART_AFTER: Duration = Duration::from_millis(500);

/// What to start.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What people call it.
    pub name: String,
    /// A binary beside this one.
    pub program: &'static str,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Where its standard error goes.
    pub log: PathBuf,
}

/// Whether a process is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It runs, or will again in a moment.
    Running,
    /// It ended by itself, with this code.
    For(i32),
}

/// A process under care.
pub struct Supervised {
    /// What people call it.
    pub name: String,
    /// Its log.
    pub log: PathBuf,
    /// How often it was killed and came back.
    pub restarts: u32,
    plan: Plan,
    child: Child,
    due: Option<Instant>,
    /// It was killed, and stays dead until it is revived.
    held: bool,
    ended: Option<i32>,
}

impl Supervised {
    /// Starts it.
    pub fn start(plan: Plan) -> anyhow::Result<Supervised> {
        let child = spawn(&plan)?;
        let (name, log) = (plan.name.clone(), plan.log.clone());
        Ok(Supervised { name, log, restarts: 0, plan, child, due: None, held: false, ended: None })
    }

    /// Looks after it: a process that was killed by a signal is started again, one that ended by itself is not.
    pub fn look(&mut self) -> anyhow::Result<Ended> {
        if let Some(code) = self.ended {
            return Ok(Ended::For(code));
        }
        if self.held {
            return Ok(Ended::Running);
        }
        if let Some(due) = self.due {
            if Instant::now() >= due {
                self.child = spawn(&self.plan)?;
                self.due = None;
            }
            return Ok(Ended::Running);
        }
        match self.child.try_wait()? {
            None => {}
            Some(status) if status.signal().is_some() && self.restarts < RESTARTS_MAX => {
                self.restarts += 1;
                self.due = Some(Instant::now() + RESTART_AFTER);
            }
            Some(status) => self.ended = Some(status.code().unwrap_or(-1)),
        }
        Ok(self.ended.map_or(Ended::Running, Ended::For))
    }

    /// Kills it, and leaves it dead.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if self.ended.is_none() && !self.held {
            self.child.kill()?;
            self.child.wait()?;
            (self.held, self.due) = (true, None);
        }
        Ok(())
    }

    /// Starts it again where it was killed.
    pub fn revive(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.held) {
            self.child = spawn(&self.plan)?;
            self.restarts += 1;
        }
        Ok(())
    }

    /// Asks it to stop and waits; kills it when it takes too long.
    pub async fn stop(&mut self, within: Duration) -> anyhow::Result<()> {
        if self.ended.is_some() || self.held || self.due.is_some() || self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let deadline = Instant::now() + within;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                anyhow::bail!(
                    "{} did not stop within {} s; its log is {}",
                    self.name,
                    within.as_secs(),
                    self.log.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The last line of its log.
    pub fn last_line(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().last().unwrap_or("it said nothing").to_owned()
    }
}

impl Drop for Supervised {
    /// Nothing that the demo started outlives it.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a program of this project is: beside this one.
pub fn beside_us(program: &str) -> std::io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(program))
}

fn spawn(plan: &Plan) -> anyhow::Result<Child> {
    let program = beside_us(plan.program)?;
    let log = OpenOptions::new().create(true).append(true).open(&plan.log);
    let log = log.with_context(|| format!("the log {}", plan.log.display()))?;
    let mut command = Command::new(&program);
    command.args(&plan.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().with_context(|| format!("{} cannot be started; build it first: make build", program.display()))
}
