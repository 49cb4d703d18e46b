//! What training anew buys when a network is to be small: pruning and weight sharing with and without it, and a small
//! network that a large one taught. The networks are ones that train on this machine in a minute, on the digits of the
//! learning tasks; the coder is the one that models travel through.
//!
//! Each figure is that of the network which decoding gives.

pub mod net;
pub mod train;

use std::fmt::Write as _;
use std::path::PathBuf;

use fastrand::Rng;
use picket_agent::eval::chart::{self, Labels, Series};
use picket_shared::compress::{self, Segment, Weights};
use serde::Serialize;

use crate::learn::task::{Set, Task, TaskName};
use net::Net;
use train::{Samples, Tied, prune, share, train};

/// The large network, and the small one that it teaches.
const LARGE: [usize; 4] = [64, 300, 100, 10];
const SMALL: [usize; 3] = [64, 16, 10];
/// Shares of weights that become zero, one after the other: who goes there in one step loses more.
const SHARES: [f64; 6] = [0.5, 0.8, 0.9, 0.95, 0.97, 0.98];
/// Values that a layer's weights share.
const VALUES: usize = 32;
/// Adam's rate for weights, and for values that many weights share.
const RATE: f32 = 2e-3;
const RATE_SHARED: f32 = 5e-4;

/// What to run.
#[derive(Debug, Clone, clap::Args)]
pub struct RetrainOptions {
    /// Times that the large network sees all samples; the steps after it are a quarter of it
    #[arg(long, default_value_t = 40)]
    pub epochs: usize,
    /// Of all that is drawn
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the figures go, as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// A picture of accuracy over how many times smaller, as SVG
    #[arg(long)]
    pub plot: Option<PathBuf>,
}

/// One network in few bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// How it was made.
    pub what: String,
    /// Of its weights, those that are not zero.
    pub weights: usize,
    /// What travels.
    pub bytes: usize,
    /// The large network's 32-bit numbers by that.
    pub times_smaller: f64,
    /// On samples that nothing was trained on.
    pub accuracy: f64,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// The large network as it is, in 32-bit numbers.
    pub large: Row,
    /// Pruned and shared, and nothing more: one row for each share.
    pub at_once: Vec<Row>,
    /// Trained anew after each step.
    pub retrained: Vec<Row>,
    /// The small network alone, with a teacher, and that one pruned and shared with its teacher.
    pub small: Vec<Row>,
}

/// Runs it, prints the table, and writes what was asked for.
pub fn run(options: &RetrainOptions) -> anyhow::Result<()> {
    let figures = measure(options.epochs.max(4), options.seed);
    print!("{}", table(&figures));
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec_pretty(&figures)?)?;
    }
    if let Some(path) = &options.plot {
        std::fs::write(path, plot(&figures))?;
    }
    Ok(())
}

/// Trains, prunes, shares, codes and judges.
pub fn measure(epochs: usize, seed: u64) -> Figures {
    let task = Task::of(TaskName::T1);
    let (rng, again) = (&mut Rng::with_seed(seed), epochs / 4);
    let samples = Samples { features: &task.train.features, classes: &task.train.labels, teacher: &[] };

    let mut large = Net::new(&LARGE, rng);
    train(&mut large, &mut free(&LARGE, false), samples, epochs, RATE, rng);
    let raw = bytes(&large).len();
    let (_, weights) = large.weights();
    let accuracy = judge(&large, &task.test);
    let mut figures = Figures {
        large: Row { what: format!("{LARGE:?}, 32-bit"), weights, bytes: raw, times_smaller: 1.0, accuracy },
        at_once: vec![],
        retrained: vec![],
        small: vec![],
    };
    let mut pruned = large.clone();
    for (at, zeros) in [0.0].into_iter().chain(SHARES).enumerate() {
        let what = |how: &str| format!("{:.0} % zero, {VALUES} values, {how}", zeros * 100.0);
        let mut once = large.clone();
        prune(&mut once, zeros);
        let ties = share(&mut once, VALUES);
        figures.at_once.push(row(what("not trained anew"), &once, &ties, raw, &task.test));

        eprintln!("retrain: {} of {}", at + 1, SHARES.len() + 1);
        prune(&mut pruned, zeros);
        train(&mut pruned, &mut free(&LARGE, true), samples, again, RATE, rng);
        let mut coded = pruned.clone();
        let mut ties = share(&mut coded, VALUES);
        train(&mut coded, &mut ties, samples, again, RATE_SHARED, rng);
        figures.retrained.push(row(what("trained anew"), &coded, &ties, raw, &task.test));
    }

    let teacher: Vec<Vec<f32>> = (0..task.train.labels.len()).map(|at| large.logits(task.train.features(at))).collect();
    let taught = Samples { teacher: &teacher, ..samples };
    let beginning = Net::new(&SMALL, rng);
    for (how, samples) in [("alone", samples), ("with a teacher", taught)] {
        let mut small = beginning.clone();
        train(&mut small, &mut free(&SMALL, false), samples, 2 * epochs, RATE, rng);
        let mut ties = share(&mut small, VALUES);
        train(&mut small, &mut ties, samples, again, RATE_SHARED, rng);
        figures.small.push(row(format!("{SMALL:?}, {VALUES} values, {how}"), &small, &ties, raw, &task.test));
    }
    figures
}

fn free(sizes: &[usize], pruned: bool) -> Vec<Tied> {
    vec![Tied::Each { pruned }; sizes.len() - 1]
}

fn judge(net: &Net, set: &Set) -> f64 {
    net.accuracy((0..set.labels.len()).map(|at| (set.features(at), set.labels[at])))
}

/// Its numbers as they are: each layer's weights, then its biases.
fn bytes(net: &Net) -> Vec<u8> {
    let numbers = net.layers.iter().flat_map(|layer| layer.weights.iter().chain(&layer.biases));
    numbers.flat_map(|number| number.to_le_bytes()).collect()
}

/// Codes a network, and judges what decoding gives.
fn row(what: String, net: &Net, ties: &[Tied], raw: usize, test: &Set) -> Row {
    let biases: Vec<Vec<u8>> =
        net.layers.iter().map(|layer| layer.biases.iter().flat_map(|bias| bias.to_le_bytes()).collect()).collect();
    let mut segments = Vec::new();
    for (tied, biases) in ties.iter().zip(&biases) {
        let Tied::Shared { values, numbers } = tied else { unreachable!("only networks that share values are coded") };
        let weights = Weights { values: values.clone(), numbers: numbers.clone(), ..Weights::default() };
        segments.extend([Segment::Weights(weights), Segment::Literal(biases)]);
    }
    let packed = compress::encode(&segments).expect("so few values may be shared");
    let decoded = compress::decode(&packed, None, raw).expect("what was just coded decodes");
    let mut came = decoded.chunks_exact(4).map(|b| f32::from_le_bytes(*b.first_chunk().expect("a chunk of four")));
    let mut arrived = net.clone();
    for layer in &mut arrived.layers {
        layer.weights.iter_mut().chain(&mut layer.biases).zip(&mut came).for_each(|(number, came)| *number = came);
    }
    let (_, weights) = arrived.weights();
    let bytes = packed.len();
    Row { what, weights, bytes, times_smaller: raw as f64 / bytes as f64, accuracy: judge(&arrived, test) }
}

/// The table, for people.
pub fn table(figures: &Figures) -> String {
    let mut text = format!("{:<44} {:>8} {:>8} {:>8} {:>9}\n", "network", "weights", "bytes", "smaller", "accuracy");
    let rows = [std::slice::from_ref(&figures.large), &figures.at_once, &figures.retrained, &figures.small];
    for row in rows.into_iter().flatten() {
        let Row { what, weights, bytes, times_smaller, accuracy } = row;
        let (smaller, percent) = (format!("{times_smaller:.1}"), accuracy * 100.0);
        writeln!(text, "{what:<44} {weights:>8} {bytes:>8} {smaller:>8} {percent:>7.1} %").expect("a string takes all");
    }
    text
}

/// Accuracy in percent over how many times smaller.
fn plot(figures: &Figures) -> String {
    let series = |name: &str, rows: &[Row]| Series {
        name: name.to_owned(),
        points: rows.iter().map(|row| (row.times_smaller, row.accuracy * 100.0)).collect(),
    };
    let lines = [series("not trained anew", &figures.at_once), series("trained anew", &figures.retrained)];
    let labels = Labels { title: "Smaller networks", x: "times smaller", y: "accuracy, %" };
    chart::lines(labels, &lines, [None, Some((0.0, 100.0))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_anew_keeps_what_pruning_alone_loses() {
        let figures = measure(24, 1);
        println!("{}", table(&figures));
        let (once, retrained) = (&figures.at_once[3], &figures.retrained[3]);
        assert!(once.what.starts_with("90 %") && retrained.what.starts_with("90 %"));
        assert!(figures.large.accuracy > 0.94, "{}", figures.large.accuracy);
        assert!(retrained.accuracy > figures.large.accuracy - 0.02, "{retrained:?}");
        assert!(retrained.accuracy > once.accuracy + 0.1, "{once:?} {retrained:?}");
        assert!(retrained.times_smaller > 20.0, "{retrained:?}");
        assert!(figures.retrained.windows(2).all(|rows| rows[1].bytes < rows[0].bytes));
        assert!(plot(&figures).starts_with("<svg"));
    }
}
