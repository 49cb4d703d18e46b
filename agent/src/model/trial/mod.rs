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
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
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

/// A trial that runs.
pub struct Trial {
    stop: Arc<AtomicBool>,
    child: Arc<Mutex<Child>>,
    thread: Option<JoinHandle<()>>,
}

impl Trial {
    /// Starts the process, and the thread that shows it frames from this window. `tell` hears how it goes.
    pub fn start(task: &Task, peek: Peek, tell: impl Fn(Trying) + Send + 'static) -> io::Result<Trial> {
        let mut child = Command::new(MYSELF)
            .args(["model", "try"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // Neither is allowed everywhere, and both are a matter of manners.
        let _ = setpriority_process(Some(Pid::from_child(&child)), LOWEST_PRIORITY);
        let _ = fs::write(format!("/proc/{}/oom_score_adj", child.id()), "1000");
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
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
        let (stop, child) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(child)));
        let watch = Watch { said, stop: Arc::clone(&stop), child: Arc::clone(&child), score_min: task.active.score_min };
        let thread = std::thread::Builder::new().name("trial".into()).spawn(move || {
            if let Err(how) = watch.run(stdin, &peek, &tell) {
                tell(how);
            }
        })?;
        Ok(Trial { stop, child, thread: Some(thread) })
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Whatever waits for it is freed by its end.
        let _ = lock(&self.child).kill();
        let _ = self.thread.take().map(JoinHandle::join);
        let _ = lock(&self.child).wait();
    }
}

/// The thread's side.
struct Watch {
    said: Receiver<Said>,
    stop: Arc<AtomicBool>,
    child: Arc<Mutex<Child>>,
    score_min: f32,
}

impl Watch {
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
                Some(Said::Found { .. }) => return Err(self.ended("it spoke out of turn")),
            }
        }
        let (mut judge, mut candidate, mut active) = (Judge::default(), Duration::ZERO, Duration::ZERO);
        while !self.stop.load(Ordering::Relaxed) {
            let Some(look) = peek.take(LOOK) else {
                tell(Trying::Idle);
                continue;
            };
            let began = Instant::now();
            candidate::write_frame(&mut stdin, &look.frame).map_err(|_| self.ended("it takes no frames"))?;
            let found = match self.hear()? {
                None => return Ok(()),
                Some(Said::Found { boxes, cpu_us }) => {
                    candidate += Duration::from_micros(cpu_us);
                    boxes.into_iter().map(|[x1, y1, x2, y2, score]| Detection { area: Area { x1, y1, x2, y2 }, score })
                }
                Some(Said::Unfit { what }) => return Err(Trying::Unfit("model_trial_failing", what)),
                Some(_) => return Err(self.ended("it spoke out of turn")),
            };
            let found: Vec<Detection> = found.collect();
            active += look.run_cpu;
            judge.add(&look.found, &found, self.score_min);
            let agreement = judge.clone().verdict();
            let mean_ms = |of: Duration| of.as_secs_f64() * 1000.0 / agreement.frames.max(1) as f64;
            let (candidate_ms, active_ms) = (mean_ms(candidate), mean_ms(active));
            tell(Trying::Seen(Seen { agreement, candidate_ms, active_ms, resident_bytes: self.resident_bytes() }));
            // Half of the time is for others, on a device that has no processor to spare.
            std::thread::sleep(began.elapsed().min(LOOK));
        }
        Ok(())
    }

    /// The next thing that it says; nothing, where the trial is to end.
    fn hear(&self) -> Result<Option<Said>, Trying> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            match self.said.recv_timeout(LOOK) {
                Ok(said) => return Ok(Some(said)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended("it said nothing that is understood")),
            }
        }
    }

    fn ended(&self, otherwise: &str) -> Trying {
        let mut child = lock(&self.child);
        // A moment, because its output ends before it does.
        for _ in 0..20 {
            if let Ok(Some(status)) = child.try_wait() {
                return Trying::Crashed(format!("its process ended by itself ({status})"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Trying::Crashed(otherwise.to_owned())
    }

    fn resident_bytes(&self) -> u64 {
        let pid = lock(&self.child).id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }
}

fn lock(child: &Mutex<Child>) -> std::sync::MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}
