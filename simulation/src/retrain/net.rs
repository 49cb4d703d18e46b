//! A dense network and its gradients: rows of samples through layers of weights, with ReLU between them. Pure.

use fastrand::Rng;

/// One layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Numbers that come in.
    pub inputs: usize,
    /// A row of `inputs` for each output.
    pub weights: Vec<f32>,
    /// One for each output.
    pub biases: Vec<f32>,
}

/// A network: the last layer's outputs are logits of classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Net {
    /// From the input on.
    pub layers: Vec<Layer>,
}

/// What a sample should have given.
#[derive(Debug, Clone, Copy)]
pub enum Lesson<'a> {
    /// Its class.
    Class(usize),
    /// Its class, and what a teacher's logits were: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network"
    /// (2015). The temperature, and the teacher's share of the loss.
    Taught(usize, &'a [f32], f32, f32),
}

impl Net {
    /// Of so many numbers in each stage, drawn as He et al. (2015) advise for ReLU.
    pub fn new(sizes: &[usize], rng: &mut Rng) -> Net {
        let layer = |ends: &[usize]| {
            let reach = (6.0 / ends[0] as f32).sqrt();
            let weights = (0..ends[0] * ends[1]).map(|_| (rng.f32() * 2.0 - 1.0) * reach).collect();
            Layer { inputs: ends[0], weights, biases: vec![0.0; ends[1]] }
        };
        Net { layers: sizes.windows(2).map(layer).collect() }
    }

    /// Weights without biases, and how many of them are not zero.
    pub fn weights(&self) -> (usize, usize) {
        let all = || self.layers.iter().flat_map(|layer| &layer.weights);
        (all().count(), all().filter(|weight| **weight != 0.0).count())
    }

    /// The logits of one sample.
    pub fn logits(&self, features: &[f32]) -> Vec<f32> {
        self.activations(features).pop().expect("a network has layers")
    }

    /// The part of samples whose highest logit is that of their class.
    pub fn accuracy<'a>(&self, samples: impl Iterator<Item = (&'a [f32], u8)>) -> f64 {
        let (mut all, mut right) = (0usize, 0usize);
        for (features, class) in samples {
            let logits = self.logits(features);
            let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
            all += 1;
            right += usize::from(best == Some(usize::from(class)));
        }
        right as f64 / all.max(1) as f64
    }

    /// Adds one sample's gradients, times `share`, to those of a network of the same shape.
    pub fn add_gradient(&self, features: &[f32], lesson: Lesson, share: f32, sum: &mut Net) {
        let activations = self.activations(features);
        let mut behind = slope(activations.last().expect("a network has layers"), lesson);
        for at in (0..self.layers.len()).rev() {
            let layer = &self.layers[at];
            let input = if at == 0 { features } else { &activations[at - 1] };
            let mut before = vec![0.0; layer.inputs];
            for (output, slope) in behind.iter().enumerate().filter(|(_, slope)| **slope != 0.0) {
                let row = output * layer.inputs..(output + 1) * layer.inputs;
                let added = slope * share;
                sum.layers[at].biases[output] += added;
                sum.layers[at].weights[row.clone()].iter_mut().zip(input).for_each(|(sum, x)| *sum += added * x);
                before.iter_mut().zip(&layer.weights[row]).for_each(|(before, weight)| *before += slope * weight);
            }
            // Nothing flows back through what ReLU had cut off.
            before.iter_mut().zip(input).filter(|(_, x)| at > 0 && **x <= 0.0).for_each(|(before, _)| *before = 0.0);
            behind = before;
        }
    }

    /// What each layer gives; ReLU is done in all but the last.
    fn activations(&self, features: &[f32]) -> Vec<Vec<f32>> {
        let mut all: Vec<Vec<f32>> = Vec::with_capacity(self.layers.len());
        for (at, layer) in self.layers.iter().enumerate() {
            let input = all.last().map_or(features, Vec::as_slice);
            let output = layer.weights.chunks_exact(layer.inputs).zip(&layer.biases).map(|(row, bias)| {
                let sum = bias + row.iter().zip(input).map(|(weight, x)| weight * x).sum::<f32>();
                if at + 1 < self.layers.len() { sum.max(0.0) } else { sum }
            });
            let output = output.collect();
            all.push(output);
        }
        all
    }
}

/// The loss's slope at the logits: cross-entropy, and that to the teacher's softened answer.
fn slope(logits: &[f32], lesson: Lesson) -> Vec<f32> {
    let mut slope = softmax(logits, 1.0);
    match lesson {
        Lesson::Class(class) => slope[class] -= 1.0,
        Lesson::Taught(class, teacher, temperature, share) => {
            slope[class] -= 1.0;
            let (own, taught) = (softmax(logits, temperature), softmax(teacher, temperature));
            for ((slope, own), taught) in slope.iter_mut().zip(own).zip(taught) {
                *slope = (1.0 - share) * *slope + share * temperature * (own - taught);
            }
        }
    }
    slope
}

fn softmax(logits: &[f32], temperature: f32) -> Vec<f32> {
    let most = logits.iter().copied().fold(f32::MIN, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| ((logit - most) / temperature).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_the_slopes_of_the_loss() {
        let mut rng = Rng::with_seed(5);
        let net = Net::new(&[4, 6, 5, 3], &mut rng);
        let (features, teacher) = ([0.3, -0.7, 1.1, 0.2], [2.0, -1.0, 0.5]);
        let cross = |of: &[f32], to: &[f32]| -> f32 { of.iter().zip(to).map(|(p, q)| -p * q.ln()).sum() };
        for lesson in [Lesson::Class(1), Lesson::Taught(2, &teacher, 3.0, 0.7)] {
            let loss = |net: &Net| {
                let logits = net.logits(&features);
                let own = softmax(&logits, 1.0);
                match lesson {
                    Lesson::Class(class) => -own[class].ln(),
                    Lesson::Taught(class, teacher, t, share) => {
                        let soft = cross(&softmax(teacher, t), &softmax(&logits, t));
                        (1.0 - share) * -own[class].ln() + share * t * t * soft
                    }
                }
            };
            let mut sum = net.clone();
            sum.layers.iter_mut().for_each(|layer| {
                layer.weights.fill(0.0);
                layer.biases.fill(0.0);
            });
            net.add_gradient(&features, lesson, 2.0, &mut sum);
            for at in 0..net.layers.len() {
                for weight in 0..net.layers[at].weights.len() {
                    let mut moved = [net.clone(), net.clone()];
                    moved[0].layers[at].weights[weight] -= 1e-2;
                    moved[1].layers[at].weights[weight] += 1e-2;
                    let slope = (loss(&moved[1]) - loss(&moved[0])) / 2e-2;
                    let found = sum.layers[at].weights[weight] / 2.0;
                    assert!((slope - found).abs() < 5e-3, "{at} {weight}: {slope} {found}");
                }
            }
        }
    }
}
