//! Learning in simulated time: STAR-SGD against what others do, on one task, with and without hostile stations. The real
//! aggregator, the real local steps and the real packing run; only time and the stations' samples are made up.

pub mod attack;
pub mod race;
pub mod task;

use std::fmt::Write as _;
use std::path::PathBuf;

use picket_agent::eval::chart::{self, Labels, Series};
use picket_coordinator::learn::peers::{Aggregator, Async, Buffered};
use picket_coordinator::learn::star::{FRESH_MAX, FRESH_MIN, Settings, Star};
use picket_shared::learn::SENT_ONE_OF;
use picket_shared::learn::view::Mixing;

use attack::Attack;
use race::{Outcome, Rules};
use task::{Task, TaskName};

/// Who makes one head of what all say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
#[value(rename_all = "lower")]
pub enum Which {
    /// STAR-SGD with the gate of confirmed samples.
    Star,
    /// The same with changes packed as on the wire.
    StarPacked,
    /// Without confirmed samples.
    StarNoRoot,
    /// Only cut and aged.
    StarClip,
    /// FedBuff, eta 2, half the weight after three versions.
    Fedbuff,
    /// FedAsync, alpha 0.6, polynomial.
    Fedasync,
    /// FedAvg in rounds of a quarter of the stations.
    Fedavg,
}

impl Which {
    const ALL: [Which; 7] = [
        Which::Star,
        Which::StarPacked,
        Which::StarNoRoot,
        Which::StarClip,
        Which::Fedbuff,
        Which::Fedasync,
        Which::Fedavg,
    ];

    fn word(self) -> &'static str {
        match self {
            Which::Star => "star",
            Which::StarPacked => "star, int8 top 10 %",
            Which::StarNoRoot => "star, no root",
            Which::StarClip => "star, clip only",
            Which::Fedbuff => "fedbuff",
            Which::Fedasync => "fedasync",
            Which::Fedavg => "fedavg",
        }
    }
}

/// What to run.
#[derive(Debug, Clone, clap::Args)]
pub struct LearnOptions {
    /// The task
    #[arg(long, default_value = "T2")]
    pub task: TaskName,
    /// Who aggregates; without it, each of them
    #[arg(long)]
    pub aggregator: Option<Which>,
    /// What hostile stations do; without it, nobody is hostile
    #[arg(long, default_value = "none")]
    pub attack: Attack,
    /// Every attack, one after the other
    #[arg(long, conflicts_with = "attack")]
    pub all_attacks: bool,
    /// How many of the stations are hostile
    #[arg(long, default_value_t = 0.2)]
    pub hostile: f64,
    /// Seeds, of which the median is told
    #[arg(long, default_value_t = 3)]
    pub seeds: u64,
    /// The stations' learning rate
    #[arg(long, default_value_t = 1.0)]
    pub rate: f32,
    /// The step, in means
    #[arg(long)]
    pub eta: Option<f64>,
    /// Changes, or stations, that make a step
    #[arg(long)]
    pub fresh: Option<usize>,
    /// How fast an old change loses weight, for FedBuff and FedAsync
    #[arg(long, default_value_t = 0.5)]
    pub exponent: f64,
    /// End each run where its target is reached
    #[arg(long)]
    pub to_target: bool,
    /// Where the curves are drawn
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

/// Runs what was asked for and prints one line for each.
pub fn run(options: &LearnOptions) -> anyhow::Result<()> {
    anyhow::ensure!((0.0..1.0).contains(&options.hostile), "--hostile is a share, 0 or more and below 1");
    let task = Task::of(options.task);
    let attacks = if options.all_attacks { Attack::ALL.to_vec() } else { vec![options.attack] };
    let whom = options.aggregator.map_or(Which::ALL.to_vec(), |one| vec![one]);
    println!("{:<20} {:<10} {:>9} {:>10} {:>9}", "aggregator", "attack", "target s", "kB until", "accuracy");
    let mut series = Vec::new();
    for which in whom {
        for attack in &attacks {
            let mut outcomes: Vec<Outcome> =
                (0..options.seeds).map(|seed| one(&task, options, which, *attack, seed)).collect();
            println!("{}", line(which, *attack, &outcomes));
            if let Some(first) = outcomes.first_mut() {
                let name = if attacks.len() > 1 { format!("{} {attack:?}", which.word()) } else { which.word().into() };
                series.push(Series { name, points: std::mem::take(&mut first.curve) });
            }
        }
    }
    if let Some(path) = &options.plot {
        let title = format!("{}, {:?}, {:.0} % hostile", options.task, options.attack, 100.0 * options.hostile);
        let labels = Labels { title: &title, x: "simulated seconds", y: "accuracy" };
        std::fs::write(path, chart::lines(labels, &series, [Some((0.0, task.budget_s)), Some((0.0, 1.0))]))?;
        println!("drawn in {}", path.display());
    }
    Ok(())
}

/// One run of one aggregator.
pub fn one(task: &Task, options: &LearnOptions, which: Which, attack: Attack, run_seed: u64) -> Outcome {
    let stations = task.dealt.len();
    let round = (which == Which::Fedavg).then_some(options.fresh.unwrap_or(stations.div_ceil(4)));
    let head = task.shape.beginning();
    let rules = Rules {
        run_seed,
        rate: options.rate,
        sent_max: (which == Which::StarPacked).then_some(head.len() / SENT_ONE_OF),
        attack,
        hostile: options.hostile,
        round,
        to_target: options.to_target,
    };
    let star = |mixing| {
        let fresh = options.fresh.unwrap_or(stations.div_ceil(2).clamp(FRESH_MIN, FRESH_MAX));
        let settings = Settings { mixing, fresh, ..Settings::default() };
        Star::new(Settings { eta: options.eta.unwrap_or(settings.eta), ..settings }, head.clone(), 0)
    };
    let full = options.fresh.unwrap_or(if stations < 20 { 4 } else { 10 });
    let eta = options.eta.unwrap_or(2.0);
    let mut aggregator: Box<dyn Aggregator> = match which {
        Which::Star | Which::StarPacked => Box::new(star(Mixing::NnmGate)),
        Which::StarNoRoot => Box::new(star(Mixing::Nnm)),
        Which::StarClip => Box::new(star(Mixing::Clip)),
        Which::Fedbuff => Box::new(Buffered::fedbuff(head, full, eta, options.exponent)),
        Which::Fedasync => Box::new(Async::new(head, 0.6, options.exponent)),
        Which::Fedavg => Box::new(Buffered::fedavg(head, rules.round.unwrap_or(1))),
    };
    let rooted = matches!(which, Which::Star | Which::StarPacked);
    race::run(task, rules, rooted, &mut *aggregator)
}

fn line(which: Which, attack: Attack, outcomes: &[Outcome]) -> String {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let reached = median(outcomes.iter().map(|outcome| outcome.reached_s.unwrap_or(f64::INFINITY)).collect());
    let bytes = median(outcomes.iter().map(|outcome| outcome.bytes).collect());
    let accuracy = outcomes.iter().map(|outcome| outcome.accuracy).sum::<f64>() / outcomes.len().max(1) as f64;
    let mut text = format!("{:<20} {:<10} ", which.word(), format!("{attack:?}").to_lowercase());
    let reached = if reached.is_finite() { format!("{reached:.1}") } else { "never".into() };
    let _ = write!(text, "{reached:>9} {:>10.1} {:>8.1}%", bytes / 1000.0, 100.0 * accuracy);
    text
}
