//! Tries a candidate in a process of its own: what kills or hangs the runtime there harms no camera here, and its memory is
//! counted by itself.
//!
//! The process is this same program (`picket-agent model try`, [`candidate`]). It is given a model and frames on its standard
//! input and says what it found on its standard output, a line of JSON each ([`Said`]). What becomes of the candidate is decided
//! in [`super::Models`]; this file reports, and ends the process when it is told to.

pub mod candidate;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, setpriority_process};

use super::Trying;
use super::peek::Peek;
use super::verdict::Seen;
use crate::detect::agreement::Judge;
use crate::frame::{Area, Detection};
use candidate::{Said, Task};

/// This program, whatever has become of its file since it was started.
const MYSELF: &str = "/proc/self/exe";
/// What nice(1) calls 19: cameras go first.
const LOWEST_PRIORITY: i32 = 19;
/// How often it is looked whether the trial is to end, and how long a frame is waited for.
const LOOK: Duration = Duration::from_secs(1);
/// Longest line that a candidate says: the most boxes that there can be are about 64 KiB.
const LINE_BYTES_MAX: u64 = 256 * 1024;

/// A trial that runs. It ends when this is dropped, and says nothing afterwards.
pub struct Trial {
    running: Arc<Running>,
}

/// What a trial's thread shares with who may end it.
#[derive(Default)]
struct Running {
    stop: AtomicBool,
    child: Mutex<Option<Child>>,
}

impl Trial {
    /// Starts the thread that starts the process, and shows it frames from this window. `ready` says, from the thread, whether
    /// the candidate's files are what they should be; `tell` hears how it goes.
    pub fn start(
        task: Task,
        peek: Peek,
        ready: impl FnOnce() -> Result<(), String> + Send + 'static,
        tell: impl Fn(Trying) + Send + 'static,
    ) -> io::Result<Trial> {
        let running = Arc::<Running>::default();
        let watched = Arc::clone(&running);
        std::thread::Builder::new().name("trial".into()).spawn(move || {
            let tell = |trying| {
                if !watched.is_to_stop() {
                    tell(trying);
                }
            };
            let ended = ready().map_err(|sentence| Trying::Unfit("model_slot", sentence));
            let ended = ended.and_then(|()| watch(&task, &watched, &peek, &tell));
            watched.kill();
            let child = watched.child().take();
            let _ = child.map(|mut child| child.wait());
            if let Err(how) = ended {
                tell(how);
            }
        })?;
        Ok(Trial { running })
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.running.stop.store(true, Ordering::Relaxed);
        // Whatever waits for it is freed by its end.
        self.running.kill();
    }
}

impl Running {
    fn is_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self) {
        if let Some(child) = self.child().as_mut() {
            let _ = child.kill();
        }
    }

    /// How the process ended.
    fn ended(&self, otherwise: &str) -> Trying {
        // A moment, because its output ends before it does.
        for _ in 0..20 {
            if let Some(Ok(Some(status))) = self.child().as_mut().map(Child::try_wait) {
                return Trying::Crashed(format!("its process ended by itself ({status})"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Trying::Crashed(otherwise.to_owned())
    }

    fn resident_bytes(&self) -> u64 {
        let pid = self.child().as_ref().map_or(0, Child::id);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }
}

/// Starts the process and watches it until the trial is to end; an error is how it ended by itself.
fn watch(task: &Task, running: &Arc<Running>, peek: &Peek, tell: &impl Fn(Trying)) -> Result<(), Trying> {
    let (stdin, said) =
        start(task, running).map_err(|error| Trying::Crashed(format!("it cannot be started: {error}")))?;
    Watch { said, running, score_min: task.active.score_min }.run(stdin, peek, tell)
}

/// Starts the process; gives its input, and what it says.
fn start(task: &Task, running: &Running) -> io::Result<(ChildStdin, Receiver<Said>)> {
    let mut child = Command::new(MYSELF).args(["model", "try"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    // Neither is allowed everywhere, and both are a matter of manners.
    let _ = setpriority_process(Some(Pid::from_child(&child)), LOWEST_PRIORITY);
    let _ = fs::write(format!("/proc/{}/oom_score_adj", child.id()), "1000");
    let pipes = (child.stdin.take(), child.stdout.take());
    *running.child() = Some(child);
    let (Some(mut stdin), Some(stdout)) = pipes else { return Err(io::ErrorKind::BrokenPipe.into()) };
    if running.is_to_stop() {
        running.kill();
    }
    let mut header = serde_json::to_vec(task)?;
    header.push(b'\n');
    stdin.write_all(&header)?;
    let (say, said) = channel();
    // It ends with the process, whose end of the pipe goes then.
    std::thread::Builder::new().name("trial-ear".into()).spawn(move || {
        let mut stdout = BufReader::new(stdout);
        loop {
            let mut line = String::new();
            match (&mut stdout).take(LINE_BYTES_MAX).read_line(&mut line) {
                Ok(count) if count > 0 => {}
                _ => return,
            }
            // What is no word of ours is as if it had ended.
            let Ok(word) = serde_json::from_str::<Said>(&line) else { return };
            if say.send(word).is_err() {
                return;
            }
        }
    })?;
    Ok((stdin, said))
}

/// The thread's side.
struct Watch<'a> {
    said: Receiver<Said>,
    running: &'a Running,
    score_min: f32,
}

impl Watch<'_> {
    /// Until it is told to stop; an error is how the trial ended by itself.
    fn run(&self, mut stdin: ChildStdin, peek: &Peek, tell: &impl Fn(Trying)) -> Result<(), Trying> {
        tell(Trying::Loading);
        loop {
            match self.hear()? {
                None => return Ok(()),
                Some(Said::Loaded) => tell(Trying::Loaded),
                Some(Said::Stored { agreement }) => {
                    tell(Trying::Stored(agreement));
                    break;
                }
                Some(Said::Unfit { what }) => return Err(Trying::Unfit("model_load", what)),
                Some(Said::Found { .. }) => return Err(self.running.ended("it spoke out of turn")),
            }
        }
        let (mut judge, mut candidate, mut active) = (Judge::default(), Duration::ZERO, Duration::ZERO);
        while !self.running.is_to_stop() {
            let Some(look) = peek.take(LOOK) else {
                tell(Trying::Idle);
                continue;
            };
            let began = Instant::now();
            candidate::write_frame(&mut stdin, &look.frame).map_err(|_| self.running.ended("it takes no frames"))?;
            let found = match self.hear()? {
                None => return Ok(()),
                Some(Said::Found { boxes, cpu_us }) => {
                    candidate += Duration::from_micros(cpu_us);
                    boxes.into_iter().map(|[x1, y1, x2, y2, score]| Detection { area: Area { x1, y1, x2, y2 }, score })
                }
                Some(Said::Unfit { what }) => return Err(Trying::Unfit("model_trial_failing", what)),
                Some(_) => return Err(self.running.ended("it spoke out of turn")),
            };
            let found: Vec<Detection> = found.collect();
            active += look.run_cpu;
            judge.add(&look.found, &found, self.score_min);
            let agreement = judge.clone().verdict();
            let mean_ms = |of: Duration| of.as_secs_f64() * 1000.0 / agreement.frames.max(1) as f64;
            let (candidate_ms, active_ms) = (mean_ms(candidate), mean_ms(active));
            tell(Trying::Seen(Seen {
                agreement,
                candidate_ms,
                active_ms,
                resident_bytes: self.running.resident_bytes(),
            }));
            // Half of the time is for others, on a device that has no processor to spare.
            std::thread::sleep(began.elapsed().min(LOOK));
        }
        Ok(())
    }

    /// The next thing that it says; nothing, where the trial is to end.
    fn hear(&self) -> Result<Option<Said>, Trying> {
        loop {
            if self.running.is_to_stop() {
                return Ok(None);
            }
            match self.said.recv_timeout(LOOK) {
                Ok(said) => return Ok(Some(said)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.running.ended("it said nothing that is understood"));
                }
            }
        }
    }
}
