//! The platform's program: started once for each order, one after the other, in a thread of its own.
//!
//! It is never a shell, it never outlives its time, and nobody waits for it but its own thread. What an order means is the
//! program's to know: it finds it in its environment.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use picket_shared::duty::How;
use picket_shared::ids::StationId;

use super::orders::{Queue, Task};
use crate::sinks::child::{Child, Ended};

/// Most that is told of what a program said.
const COMPLAINT_CHARS_MAX: usize = 160;
/// Stations of whose last order the failure is remembered.
const PROBLEMS_MAX: usize = 32;

#[derive(Default)]
struct State {
    queue: Queue,
    /// A program runs.
    busy: bool,
    over: bool,
    refused: u64,
    /// Why the last order of a station failed.
    problems: BTreeMap<StationId, String>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that runs the program.
pub struct Lane {
    shared: Arc<Shared>,
}

impl Lane {
    /// Starts the thread; `words` are the program and its arguments, each call of which may last for `limit`.
    pub fn start(words: Vec<String>, limit: Duration) -> std::io::Result<Lane> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let work = move || while perform_next(&of_thread, &words, limit) {};
        std::thread::Builder::new().name("platform".into()).spawn(work)?;
        Ok(Lane { shared })
    }

    /// Puts an order behind those that wait.
    pub fn order(&self, task: Task) {
        let mut state = self.shared.lock();
        if !state.queue.push(task) {
            state.refused += 1;
        }
        self.shared.changed.notify_all();
    }

    /// Orders for which there was no room.
    pub fn refused(&self) -> u64 {
        self.shared.lock().refused
    }

    /// What is wrong, in a sentence each.
    pub fn problems(&self) -> Vec<String> {
        self.shared.lock().problems.values().cloned().collect()
    }

    /// Whether everything that was ordered has been done.
    pub fn is_idle(&self) -> bool {
        let state = self.shared.lock();
        !state.busy && state.queue.is_empty()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
    }
}

/// Waits for an order and performs it; false where there will be none.
fn perform_next(shared: &Shared, words: &[String], limit: Duration) -> bool {
    let mut state = shared.lock();
    let task = loop {
        if state.over {
            return false;
        }
        if let Some(task) = state.queue.pop() {
            break task;
        }
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    };
    state.busy = true;
    drop(state);
    let problem = perform(words, &task, limit);
    let mut state = shared.lock();
    state.busy = false;
    match problem {
        None => {
            tracing::info!(station = task.station.as_str(), "the platform's program did {}", task.action.word());
            state.problems.remove(&task.station);
        }
        Some(problem) => {
            tracing::error!("{problem}");
            if state.problems.len() < PROBLEMS_MAX || state.problems.contains_key(&task.station) {
                state.problems.insert(task.station, problem);
            }
        }
    }
    true
}

/// Runs the program to its end, or kills it; why that was not well.
fn perform(words: &[String], task: &Task, limit: Duration) -> Option<String> {
    let (action, station, epoch) = (task.action.word(), task.station.as_str(), task.epoch.0.to_string());
    let home = task.duty.as_ref().map_or("", |duty| duty.home.as_str());
    let how = task.duty.as_ref().map_or("", |duty| how_word(duty.how));
    let env = [
        ("PICKET_ACTION", action),
        ("PICKET_STATION", station),
        ("PICKET_HOME", home),
        ("PICKET_HOW", how),
        ("PICKET_GOAL", task.goal()),
        ("PICKET_EPOCH", &epoch),
    ];
    let program = words.first().map_or("", String::as_str);
    let began = Instant::now();
    let ended = Child::start(words, &env, 0).and_then(|child| child.finish(limit));
    let why = match ended {
        Err(error) => format!("cannot be started ({error}); check platform.exec and that the agent's user may run it"),
        Ok(Ended { status, .. }) if status.success() => return None,
        Ok(Ended { status, .. }) if status.code().is_none() && began.elapsed() >= limit => {
            format!(
                "did not end within {} s and was killed; give it platform.exec_timeout_s, or make it faster",
                limit.as_secs_f64()
            )
        }
        Ok(Ended { status, complaints, .. }) => {
            let said: String =
                complaints.last().into_iter().flat_map(|line| line.chars()).take(COMPLAINT_CHARS_MAX).collect();
            format!("ended with {status}: {}", if said.is_empty() { "it said nothing" } else { &said })
        }
    };
    Some(format!("the platform was not told to {action} (station {station}): {program} {why}"))
}

fn how_word(how: How) -> &'static str {
    match how {
        How::Camera => "camera",
        How::View => "view",
        How::Preset => "preset",
        How::Flight => "flight",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::duty::{Epoch, StandbyDuty};
    use picket_shared::ids::NodeId;
    use picket_shared::platform::Action;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    const LONG: Duration = Duration::from_secs(30);

    fn program(dir: &Path, script: &str) -> Vec<String> {
        let path: PathBuf = dir.join("hook");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        vec![path.display().to_string(), dir.join("out").display().to_string(), "$(touch no)".into()]
    }

    fn task(action: Action, name: &str, count: u32) -> Task {
        let station = StationId::new(name).unwrap();
        let (home, ranks, goal) = (NodeId::new("edge-1").unwrap(), vec![], Some("52.1,4.3,30; rm -rf".to_owned()));
        let duty = StandbyDuty { station: station.clone(), home, ranks, how: How::Preset, cameras: None, goal };
        Task { action, station, epoch: Epoch::new(1, count), duty: Some(duty) }
    }

    fn until(what: &str, done: impl Fn() -> bool) {
        let deadline = Instant::now() + LONG;
        while !done() {
            assert!(Instant::now() < deadline, "waited for {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn done(lane: &Lane) -> Vec<String> {
        until("the orders", || lane.is_idle());
        lane.problems()
    }

    #[test]
    fn each_order_reaches_the_program_in_its_environment_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let script = "echo \"$#|$2|$PICKET_ACTION|$PICKET_STATION|$PICKET_HOME|$PICKET_HOW|$PICKET_GOAL|$PICKET_EPOCH\" >>\"$1\"";
        let lane = Lane::start(program(dir.path(), script), LONG).unwrap();
        lane.order(task(Action::Go, "gate", 1));
        assert_eq!(done(&lane), Vec::<String>::new());
        lane.order(task(Action::Leave, "gate", 2));
        assert_eq!(done(&lane), Vec::<String>::new());
        let out = std::fs::read_to_string(dir.path().join("out")).unwrap();
        let line = |action: &str, epoch: u64| {
            format!("2|$(touch no)|{action}|gate|edge-1|preset|52.1,4.3,30; rm -rf|{epoch}\n")
        };
        assert_eq!(out, line("go", Epoch::new(1, 1).0) + &line("leave", Epoch::new(1, 2).0));
    }

    #[test]
    fn what_goes_wrong_is_a_problem_of_its_station_until_it_goes_well() {
        let dir = tempfile::tempdir().unwrap();
        let script = "[ $PICKET_ACTION = leave ] && exit 0; echo 'no such preset' >&2; exit 3";
        let lane = Lane::start(program(dir.path(), script), LONG).unwrap();
        lane.order(task(Action::Go, "gate", 1));
        let problems = done(&lane);
        assert!(
            problems[0].contains("go (station gate)") && problems[0].contains("exit status: 3: no such preset"),
            "{problems:?}"
        );
        lane.order(task(Action::Leave, "gate", 1));
        assert_eq!(done(&lane), Vec::<String>::new());

        let lane = Lane::start(vec!["/nonexistent/hook".into()], LONG).unwrap();
        lane.order(task(Action::Go, "gate", 1));
        assert!(done(&lane)[0].contains("cannot be started"), "{:?}", lane.problems());
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_with_its_children_and_the_next_order_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let script = "if [ $PICKET_ACTION = leave ]; then echo left >>\"$1\"; exit 0; fi; sleep 611 & sleep 612";
        let lane = Lane::start(program(dir.path(), script), Duration::from_millis(300)).unwrap();
        lane.order(task(Action::Go, "gate", 1));
        lane.order(task(Action::Leave, "yard", 1));
        let problems = done(&lane);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("did not end within 0.3 s and was killed"), "{problems:?}");
        assert_eq!(std::fs::read_to_string(dir.path().join("out")).unwrap(), "left\n");
        let gone = |entry: std::io::Result<std::fs::DirEntry>| {
            let words = std::fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
            !words.starts_with(b"sleep\x00611\0") && !words.starts_with(b"sleep\x00612\0")
        };
        until("its children to be gone", || std::fs::read_dir("/proc").unwrap().all(gone));
    }
}
