//! Training of a network whose weights may be pruned or may share values. Pure but for the draws of its random numbers.
//!
//! Adam (Kingma and Ba, 2015). Pruned weights stay zero, and weights that share a value move together by the sum of their
//! gradients: Han, Mao and Dally, "Deep Compression" (2016), sections 2 and 3.3.

use fastrand::Rng;
use picket_agent::compress::cluster;

use super::net::{Lesson, Net};

/// Samples of one step.
const BATCH: usize = 32;
const DECAY: (f32, f32) = (0.9, 0.999);

/// How one layer's weights may move.
#[derive(Debug, Clone, PartialEq)]
pub enum Tied {
    /// Each for itself, but those that are zero stay so where this is true.
    Each {
        /// Zeros stay.
        pruned: bool,
    },
    /// All that share a value together; a value of zero stays.
    Shared {
        /// The values.
        values: Vec<f32>,
        /// Which of them each weight has.
        numbers: Vec<i32>,
    },
}

/// What is learned from: a row of features for each sample, its class, and a teacher's logits where there is one.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    /// Row by row.
    pub features: &'a [f32],
    /// One for each row.
    pub classes: &'a [u8],
    /// One for each row, or none at all.
    pub teacher: &'a [Vec<f32>],
}

/// The teacher's temperature, and its share of the loss.
const TEMPERATURE: f32 = 4.0;
const TAUGHT: f32 = 0.7;

impl<'a> Samples<'a> {
    fn features(&self, at: usize) -> &'a [f32] {
        let width = self.features.len() / self.classes.len();
        &self.features[at * width..(at + 1) * width]
    }

    fn lesson(&self, at: usize) -> Lesson<'a> {
        let class = usize::from(self.classes[at]);
        match self.teacher.get(at) {
            Some(logits) => Lesson::Taught(class, logits, TEMPERATURE, TAUGHT),
            None => Lesson::Class(class),
        }
    }
}

/// Sets the smallest weights of each layer to zero until this share of them is. The last layer keeps three times as many:
/// it is small, and each of its weights counts for more.
pub fn prune(net: &mut Net, share: f64) {
    let last = net.layers.len() - 1;
    for (at, layer) in net.layers.iter_mut().enumerate() {
        let share = if at == last { 1.0 - (3.0 * (1.0 - share)).min(1.0) } else { share };
        let mut sizes: Vec<f32> = layer.weights.iter().map(|weight| weight.abs()).collect();
        sizes.sort_by(f32::total_cmp);
        let Some(most) = ((share * sizes.len() as f64) as usize).checked_sub(1).map(|at| sizes[at]) else { continue };
        layer.weights.iter_mut().filter(|weight| weight.abs() <= most).for_each(|weight| *weight = 0.0);
    }
}

/// Gives each layer's weights at most so many values beside zero.
pub fn share(net: &mut Net, count: usize) -> Vec<Tied> {
    let tie = |weights: &mut Vec<f32>| {
        let (values, numbers) = cluster(weights, count);
        weights.iter_mut().zip(&numbers).for_each(|(weight, number)| *weight = values[*number as usize]);
        Tied::Shared { values, numbers }
    };
    net.layers.iter_mut().map(|layer| tie(&mut layer.weights)).collect()
}

/// Goes over all samples so many times, in a drawn order. `rate` is Adam's, and falls to a tenth of it on the way.
pub fn train(net: &mut Net, ties: &mut [Tied], samples: Samples, epochs: usize, rate: f32, rng: &mut Rng) {
    let mut order: Vec<usize> = (0..samples.classes.len()).collect();
    let mut zero = net.clone();
    clear(&mut zero);
    let sizes = net.layers.iter().zip(ties.iter()).map(|(layer, tied)| match tied {
        Tied::Each { .. } => layer.weights.len(),
        Tied::Shared { values, .. } => values.len(),
    });
    let mut weights: Vec<Adam> = sizes.map(Adam::new).collect();
    let mut biases: Vec<Adam> = net.layers.iter().map(|layer| Adam::new(layer.biases.len())).collect();
    let mut sum = zero.clone();
    for epoch in 0..epochs {
        rng.shuffle(&mut order);
        let rate = rate * 0.1f32.powf(epoch as f32 / epochs as f32);
        for batch in order.chunks(BATCH) {
            clear(&mut sum);
            for at in batch {
                net.add_gradient(samples.features(*at), samples.lesson(*at), 1.0 / batch.len() as f32, &mut sum);
            }
            for (at, layer) in net.layers.iter_mut().enumerate() {
                biases[at].step(&mut layer.biases, &sum.layers[at].biases, rate, false);
                let slopes = &sum.layers[at].weights;
                match &mut ties[at] {
                    Tied::Each { pruned } => weights[at].step(&mut layer.weights, slopes, rate, *pruned),
                    Tied::Shared { values, numbers } => {
                        let mut sums = vec![0.0; values.len()];
                        numbers.iter().zip(slopes).for_each(|(number, slope)| sums[*number as usize] += slope);
                        weights[at].step(values, &sums, rate, true);
                        layer
                            .weights
                            .iter_mut()
                            .zip(numbers)
                            .for_each(|(weight, number)| *weight = values[*number as usize]);
                    }
                }
            }
        }
    }
}

fn clear(net: &mut Net) {
    for layer in &mut net.layers {
        layer.weights.fill(0.0);
        layer.biases.fill(0.0);
    }
}

struct Adam {
    steps: i32,
    means: Vec<f32>,
    squares: Vec<f32>,
}

impl Adam {
    fn new(size: usize) -> Adam {
        Adam { steps: 0, means: vec![0.0; size], squares: vec![0.0; size] }
    }

    fn step(&mut self, numbers: &mut [f32], slopes: &[f32], rate: f32, zeros_stay: bool) {
        self.steps += 1;
        let unbiased = (1.0 - DECAY.0.powi(self.steps), 1.0 - DECAY.1.powi(self.steps));
        let moments = self.means.iter_mut().zip(&mut self.squares);
        for ((number, slope), (mean, square)) in numbers.iter_mut().zip(slopes).zip(moments) {
            *mean += (1.0 - DECAY.0) * (slope - *mean);
            *square += (1.0 - DECAY.1) * (slope * slope - *square);
            if !(zeros_stay && *number == 0.0) {
                *number -= rate * (*mean / unbiased.0) / ((*square / unbiased.1).sqrt() + 1e-8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> (Vec<f32>, Vec<u8>) {
        let mut rng = Rng::with_seed(3);
        let rows: Vec<[f32; 2]> = (0..200).map(|_| [rng.f32() - 0.5, rng.f32() - 0.5]).collect();
        let classes = rows.iter().map(|[x, y]| u8::from(x * y > 0.0)).collect();
        (rows.concat(), classes)
    }

    #[test]
    fn pruned_weights_stay_zero_and_shared_ones_stay_shared_while_they_learn() {
        let (features, classes) = samples();
        let samples = Samples { features: &features, classes: &classes, teacher: &[] };
        let judge = |net: &Net| net.accuracy(features.chunks_exact(2).zip(classes.iter().copied()));
        let mut rng = Rng::with_seed(1);
        let mut net = Net::new(&[2, 24, 2], &mut rng);
        train(&mut net, &mut [Tied::Each { pruned: false }, Tied::Each { pruned: false }], samples, 60, 1e-2, &mut rng);
        assert!(judge(&net) > 0.95, "{}", judge(&net));

        prune(&mut net, 0.5);
        let zeros = |net: &Net| -> Vec<usize> { (0..48).filter(|at| net.layers[0].weights[*at] == 0.0).collect() };
        let were = zeros(&net);
        assert_eq!(were.len(), 24);
        let before = net.clone();
        train(&mut net, &mut [Tied::Each { pruned: true }, Tied::Each { pruned: true }], samples, 20, 1e-2, &mut rng);
        assert_eq!(zeros(&net), were);
        assert_ne!(net, before);

        let mut ties = share(&mut net, 4);
        let shared = judge(&net);
        train(&mut net, &mut ties, samples, 20, 1e-2, &mut rng);
        assert!(judge(&net) >= shared);
        let mut values = net.layers[0].weights.clone();
        values.sort_by(f32::total_cmp);
        values.dedup();
        assert!(values.len() <= 5 && values.contains(&0.0), "{values:?}");
        assert_eq!(zeros(&net), were);
    }
}
