//! What a station said and what becomes of it, as one trait over STAR-SGD and what others do: FedAvg (McMahan et al., AISTATS
//! 2017), FedAsync (Xie et al., 2019) and FedBuff (Nguyen et al., AISTATS 2022). The others are here to be compared with: nothing
//! that ships uses them. Pure.

use std::collections::BTreeSet;

use picket_shared::ids::NodeId;

use super::star::Star;

/// A station's change as it arrives.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Whose.
    pub station: &'a NodeId,
    /// Its number, within epoch 1.
    pub seq: u64,
    /// The version that it began from.
    pub base: u64,
    /// Samples behind it.
    pub samples: u32,
    /// The change.
    pub change: &'a [f32],
    /// The head that it began from.
    pub begun_from: &'a [f32],
}

/// Says where confirmed samples lead from a head; nothing where there are none.
pub type Direction<'a> = &'a mut dyn FnMut(&[f32]) -> Option<Vec<f32>>;

/// Makes one head of what arrives.
pub trait Aggregator {
    /// The head.
    fn head(&self) -> &[f32];
    /// Its version.
    fn version(&self) -> u64;
    /// Takes a change in, and makes the steps that are due. What is not finite or too long is refused.
    fn take(&mut self, arrival: &Arrival, direction: Direction);
}

impl Aggregator for Star {
    fn head(&self) -> &[f32] {
        Star::head(self)
    }

    fn version(&self) -> u64 {
        Star::version(self)
    }

    fn take(&mut self, arrival: &Arrival, direction: Direction) {
        let Arrival { station, seq, base, change, .. } = *arrival;
        let taken = Star::take(self, station, 1, seq, base, change.to_vec());
        if taken.is_ok() && self.is_ready(0) {
            let direction = direction(Star::head(self));
            self.flush(direction.as_deref(), &BTreeSet::new());
        }
    }
}

/// The weight of what is `age` versions old.
fn freshness(age: u64, exponent: f64) -> f64 {
    (1.0 + age as f64).powf(-exponent)
}

/// FedBuff, and with a weight for each sample FedAvg: so many changes, whoever's they are, make one step.
#[derive(Debug, Clone)]
pub struct Buffered {
    head: Vec<f32>,
    version: u64,
    sum: Vec<f64>,
    held: usize,
    weight: f64,
    /// How many make a step.
    pub full: usize,
    /// The length of the step, in means.
    pub eta: f64,
    /// How fast a change loses weight with its age.
    pub exponent: f64,
    /// Each counts by its samples.
    pub by_samples: bool,
}

impl Buffered {
    /// FedBuff.
    pub fn fedbuff(head: Vec<f32>, full: usize, eta: f64, exponent: f64) -> Buffered {
        let sum = vec![0.0; head.len()];
        Buffered { head, version: 0, sum, held: 0, weight: 0.0, full, eta, exponent, by_samples: false }
    }

    /// FedAvg over rounds of so many stations.
    pub fn fedavg(head: Vec<f32>, round: usize) -> Buffered {
        Buffered { by_samples: true, ..Buffered::fedbuff(head, round, 1.0, 0.0) }
    }
}

impl Aggregator for Buffered {
    fn head(&self) -> &[f32] {
        &self.head
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn take(&mut self, arrival: &Arrival, _: Direction) {
        let age = self.version.saturating_sub(arrival.base);
        let samples = if self.by_samples { f64::from(arrival.samples) } else { 1.0 };
        let weight = samples * freshness(age, self.exponent);
        self.sum.iter_mut().zip(arrival.change).for_each(|(sum, x)| *sum += weight * f64::from(*x));
        self.weight += samples;
        self.held += 1;
        if self.held >= self.full {
            let step = self.eta / self.weight;
            self.head.iter_mut().zip(&self.sum).for_each(|(w, sum)| *w = (f64::from(*w) + step * sum) as f32);
            self.sum.fill(0.0);
            (self.held, self.weight) = (0, 0.0);
            self.version += 1;
        }
    }
}

/// FedAsync with its polynomial weight: the head is drawn to each station's own head as it comes.
#[derive(Debug, Clone)]
pub struct Async {
    head: Vec<f32>,
    version: u64,
    /// How far, for a fresh one.
    pub alpha: f64,
    /// How fast that falls with its age.
    pub exponent: f64,
}

impl Async {
    /// Begins with this head.
    pub fn new(head: Vec<f32>, alpha: f64, exponent: f64) -> Async {
        Async { head, version: 0, alpha, exponent }
    }
}

impl Aggregator for Async {
    fn head(&self) -> &[f32] {
        &self.head
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn take(&mut self, arrival: &Arrival, _: Direction) {
        let share = self.alpha * freshness(self.version.saturating_sub(arrival.base), self.exponent);
        for (w, (begun, change)) in self.head.iter_mut().zip(arrival.begun_from.iter().zip(arrival.change)) {
            let theirs = f64::from(*begun) + f64::from(*change);
            *w = (f64::from(*w) * (1.0 - share) + theirs * share) as f32;
        }
        self.version += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival<'a>(station: &'a NodeId, samples: u32, change: &'a [f32], begun_from: &'a [f32]) -> Arrival<'a> {
        Arrival { station, seq: 1, base: 0, samples, change, begun_from }
    }

    #[test]
    fn the_others_do_what_their_papers_say() {
        let (node, zero) = (NodeId::new("a").unwrap(), [0.0f32]);
        let mut nowhere = |_: &[f32]| None;
        let mut average = Buffered::fedavg(vec![0.0], 2);
        average.take(&arrival(&node, 1, &[1.0], &zero), &mut nowhere);
        assert_eq!(average.version(), 0);
        average.take(&arrival(&node, 3, &[5.0], &zero), &mut nowhere);
        assert_eq!((average.version(), average.head()), (1, &[4.0f32][..]));

        let mut buffer = Buffered::fedbuff(vec![0.0], 2, 2.0, 0.5);
        buffer.take(&arrival(&node, 1, &[1.0], &zero), &mut nowhere);
        buffer.take(&arrival(&node, 9, &[3.0], &zero), &mut nowhere);
        assert_eq!((buffer.version(), buffer.head()), (1, &[4.0f32][..]));
        buffer.take(&arrival(&node, 1, &[1.0], &zero), &mut nowhere);
        buffer.take(&arrival(&node, 1, &[1.0], &zero), &mut nowhere);
        assert!((buffer.head()[0] - (4.0 + 2.0 * 0.5f32.sqrt())).abs() < 1e-6);

        let mut drawn = Async::new(vec![1.0], 0.5, 0.5);
        drawn.take(&arrival(&node, 1, &[2.0], &[1.0]), &mut nowhere);
        assert_eq!(drawn.head(), [2.0]);
    }
}
