//! One run of a task: stations that train and send on the time line of the benchmark, and an aggregator. Simulated time: the same
//! seed gives the same run on every machine.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;

use picket_coordinator::learn::peers::{Aggregator, Arrival};
use picket_shared::ids::NodeId;
use picket_shared::learn::LOCAL_STEPS;
use picket_shared::learn::packed::{Feedback, Packed};
use picket_shared::learn::train::{Sample, Trainer};
use picket_shared::random::SplitMix64;

use super::attack::{self, Attack};
use super::task::Task;

/// Samples in a station's batch.
const BATCH: usize = 16;
/// Bytes of a message beside its change.
const HEADER_BYTES: f64 = 56.0;
/// Honest changes that colluding stations look at.
const SPIED: usize = 20;
/// Evaluations above the target, one after the other, that count as reached.
const STREAK: usize = 3;

/// How a run is made.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The seed of lost jobs and their times.
    pub run_seed: u64,
    /// The stations' learning rate.
    pub rate: f32,
    /// So many of the largest coordinates only, as small integers, with error feedback; nothing where all are sent as they are.
    pub sent_max: Option<usize>,
    /// What hostile stations do.
    pub attack: Attack,
    /// How many of the stations are hostile.
    pub hostile: f64,
    /// Rounds of so many stations, 1.3 times as many asked; nothing is asynchronous.
    pub round: Option<usize>,
    /// The run ends when the target is reached.
    pub to_target: bool,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Simulated seconds until the target was reached.
    pub reached_s: Option<f64>,
    /// Bytes that stations sent until then, or in all.
    pub bytes: f64,
    /// The mean of the last ten evaluations.
    pub accuracy: f64,
    /// Time and accuracy of each.
    pub curve: Vec<(f64, f64)>,
}

/// Work that a station has begun, with what it will say at the end.
struct Job {
    head: Rc<Vec<f32>>,
    base: u64,
    number: u64,
    change: Option<Vec<f32>>,
    bytes: f64,
}

/// Orders simulated times, which are finite.
struct Time(f64);

impl PartialEq for Time {
    fn eq(&self, other: &Time) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Time {}

impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Time) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Time {
    fn cmp(&self, other: &Time) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// A run under way.
struct Race<'a> {
    task: &'a Task,
    rules: Rules,
    /// The coordinator has confirmed samples.
    rooted: bool,
    trainer: Trainer,
    /// Times and losses of jobs, and who is asked.
    random: SplitMix64,
    hostile: Vec<bool>,
    compute_s: Vec<f64>,
    kept: Vec<Feedback>,
    /// Jobs that each station has begun.
    numbers: Vec<u64>,
    spied: VecDeque<Vec<f32>>,
    names: Vec<NodeId>,
    outcome: Outcome,
    sent: f64,
    streak: usize,
    judged_s: f64,
}

/// Runs a task to the end of its budget.
pub fn run(task: &Task, rules: Rules, rooted: bool, aggregator: &mut dyn Aggregator) -> Outcome {
    let stations = task.dealt.len();
    let (hostile, compute_s) = attack::chosen(task, rules.attack, rules.hostile);
    let stream = if rules.round.is_some() { 8 } else { 7 };
    let mut race = Race {
        task,
        rules,
        rooted,
        trainer: Trainer::new(task.shape),
        random: SplitMix64::stream(task.seed, stream, rules.run_seed),
        hostile,
        compute_s,
        kept: vec![Feedback::new(task.shape.parameters()); stations],
        numbers: vec![0; stations],
        spied: VecDeque::new(),
        names: (0..stations).map(|k| NodeId::new(format!("n{k:03}")).expect("a constant form")).collect(),
        outcome: Outcome::default(),
        sent: 0.0,
        streak: 0,
        judged_s: f64::NEG_INFINITY,
    };
    match rules.round {
        Some(round) => race.in_rounds(round, aggregator),
        None => race.at_once(aggregator),
    }
    let last = race.outcome.curve.iter().rev().take(10).map(|(_, accuracy)| *accuracy);
    race.outcome.accuracy = last.clone().sum::<f64>() / last.count().max(1) as f64;
    if race.outcome.reached_s.is_none() {
        race.outcome.bytes = race.sent;
    }
    race.outcome
}

impl Race<'_> {
    /// Every station begins again as soon as it has sent.
    fn at_once(&mut self, aggregator: &mut dyn Aggregator) {
        let stations = self.task.dealt.len();
        let mut head = Rc::new(aggregator.head().to_vec());
        let mut due = BinaryHeap::new();
        let mut jobs = Vec::new();
        for k in 0..stations {
            let (job, ends_s) = self.begin(k, 0.0, &head, aggregator.version());
            due.push(Reverse((Time(ends_s), k, job.number)));
            jobs.push(job);
        }
        while let Some(Reverse((Time(now_s), k, _))) = due.pop().filter(|Reverse((at, ..))| at.0 <= self.task.budget_s)
        {
            if self.is_over() {
                return;
            }
            if self.arrive(k, &jobs[k], aggregator) {
                head = Rc::new(aggregator.head().to_vec());
                self.judge(now_s, aggregator.head());
            }
            let (job, ends_s) = self.begin(k, now_s, &head, aggregator.version());
            due.push(Reverse((Time(ends_s), k, job.number)));
            jobs[k] = job;
        }
    }

    fn is_over(&self) -> bool {
        self.rules.to_target && self.outcome.reached_s.is_some()
    }

    /// Some stations are asked, the first of them count, and then the next are asked. What is lost is noticed at once.
    fn in_rounds(&mut self, round: usize, aggregator: &mut dyn Aggregator) {
        let stations = self.task.dealt.len();
        let asked = ((round as f64 * 1.3).ceil() as usize).min(stations);
        let mut now_s = 0.0;
        while now_s <= self.task.budget_s && !self.is_over() {
            let mut order: Vec<usize> = (0..stations).collect();
            for at in (1..stations).rev() {
                order.swap(at, self.random.below(at + 1));
            }
            let head = Rc::new(aggregator.head().to_vec());
            let mut jobs: Vec<(f64, usize, Job)> = Vec::new();
            for &k in &order[..asked] {
                let (job, ends_s) = self.begin(k, now_s, &head, aggregator.version());
                if job.change.is_some() {
                    jobs.push((ends_s, k, job));
                }
            }
            jobs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let enough = jobs.len() >= round;
            for (ends_s, k, job) in jobs.iter().take(round) {
                now_s = *ends_s;
                if now_s <= self.task.budget_s && self.arrive(*k, job, aggregator) {
                    self.judge(now_s, aggregator.head());
                }
            }
            if !enough {
                // Too many were lost: the round waits for nothing more, and a second goes by.
                now_s += 1.0;
            }
        }
    }

    /// What a station will say of this head, and when that arrives; or when it notices that it is lost.
    fn begin(&mut self, k: usize, now_s: f64, head: &Rc<Vec<f32>>, base: u64) -> (Job, f64) {
        self.numbers[k] += 1;
        let number = self.numbers[k];
        let u = self.random.unit();
        let lost = self.random.unit() < self.task.lost;
        let parameters = head.len() as f64;
        let download_s = self.task.latency_s + (HEADER_BYTES + 4.0 * parameters) / self.task.downlink[k];
        let trained_s = now_s + download_s + self.compute_s[k] * (0.5 + u);
        let mut job = Job { head: head.clone(), base, number, change: None, bytes: HEADER_BYTES + 4.0 * parameters };
        if lost {
            return (job, trained_s);
        }
        let learned = self.learn(k, number, head);
        if let Some(sent_max) = self.rules.sent_max {
            let packed = self.kept[k].pack(&learned, sent_max).ok();
            job.bytes = HEADER_BYTES + packed.as_ref().map_or(0, said_bytes) as f64;
            job.change = packed.and_then(|packed| packed.to_dense(head.len()).ok());
        } else {
            job.change = Some(learned);
        }
        let upload_s = self.task.latency_s + job.bytes / self.task.uplink[k];
        (job, trained_s + upload_s)
    }

    /// The local steps of one job.
    fn learn(&mut self, k: usize, number: u64, head: &[f32]) -> Vec<f32> {
        let (task, own) = (self.task, &self.task.dealt[k]);
        let mut random = SplitMix64::stream(task.seed, 1000 + k as u64, number);
        let mut delta = vec![0.0; head.len()];
        let lies = self.hostile[k] && self.rules.attack == Attack::Labelflip;
        let top = (task.shape.classes - 1) as u8;
        for _ in 0..LOCAL_STEPS {
            let batch: Vec<Sample> = (0..BATCH)
                .map(|_| {
                    let at = own[random.below(own.len())];
                    let label = task.train.labels[at];
                    Sample {
                        features: task.train.features(at),
                        label: if lies { top - label } else { label },
                        weight: 1.0,
                    }
                })
                .collect();
            self.trainer.step(head, &mut delta, &batch, self.rules.rate);
        }
        if self.hostile[k] {
            attack::twist(self.rules.attack, &mut delta, &mut random);
        }
        delta
    }

    /// True where the head changed.
    fn arrive(&mut self, k: usize, job: &Job, aggregator: &mut dyn Aggregator) -> bool {
        let Some(change) = &job.change else { return false };
        self.sent += job.bytes;
        let mut change = change.clone();
        if !self.hostile[k] {
            self.spied.truncate(SPIED - 1);
            self.spied.push_front(change.clone());
        } else {
            attack::collude(self.rules.attack, &mut change, &self.spied);
        }
        let (task, before) = (self.task, aggregator.version());
        let trainer = &mut self.trainer;
        let (rate, rooted) = (self.rules.rate, self.rooted);
        let root: Vec<Sample> = task
            .root
            .iter()
            .map(|&at| Sample { features: task.train.features(at), label: task.train.labels[at], weight: 1.0 })
            .collect();
        let mut direction = |head: &[f32]| {
            let mut delta = vec![0.0; head.len()];
            for _ in 0..LOCAL_STEPS {
                trainer.step(head, &mut delta, &root, rate);
            }
            rooted.then_some(delta)
        };
        let arrival = Arrival {
            station: &self.names[k],
            seq: job.number,
            base: job.base,
            samples: task.dealt[k].len() as u32,
            change: &change,
            begun_from: &job.head,
        };
        aggregator.take(&arrival, &mut direction);
        aggregator.version() != before
    }

    /// At most once a simulated second.
    fn judge(&mut self, now_s: f64, head: &[f32]) {
        if now_s < self.judged_s + 1.0 {
            return;
        }
        self.judged_s = now_s;
        let test = &self.task.test;
        let right =
            (0..test.labels.len()).filter(|&at| self.trainer.class_of(head, test.features(at)) == test.labels[at]);
        let accuracy = right.count() as f64 / test.labels.len() as f64;
        self.outcome.curve.push((now_s, accuracy));
        self.streak = if accuracy >= self.task.target { self.streak + 1 } else { 0 };
        if self.streak == STREAK && self.outcome.reached_s.is_none() {
            self.outcome.reached_s = Some(self.outcome.curve[self.outcome.curve.len() - STREAK].0);
            self.outcome.bytes = self.sent;
        }
    }
}

/// Bytes of a packed change on the wire, beside the header.
fn said_bytes(packed: &Packed) -> usize {
    packed.places.len() + packed.values.len() + size_of::<f32>()
}
