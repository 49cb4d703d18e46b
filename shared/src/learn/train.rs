//! The local steps: the gradient of a head's loss over a few samples, and one step along it, in delta form.
//!
//! What is learned is the sum `delta` of the steps themselves. The difference of the heads after and before is not the same in
//! floats, and would lose what is small beside the weights.
//!
//! All sums are made in the order of their indices, and the exponential is made of sums and products alone, so that the same
//! samples give the same bits on every processor.

use super::lineage::{HIDDEN, HeadKind, HeadShape, LOGIT_UNIT};

/// A labelled candidate.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// Its features, as many as the head has inputs.
    pub features: &'a [f32],
    /// Its class, below the head's classes.
    pub label: u8,
    /// How sure the label is, above 0.
    pub weight: f32,
}

/// A head of one form at work. It holds the memory that its steps need, [`Trainer::scratch_bytes`], and no head.
#[derive(Debug, Clone)]
pub struct Trainer {
    shape: HeadShape,
    /// The head at which the gradient is taken.
    at: Vec<f32>,
    gradient: Vec<f32>,
    /// What a sample gives: each class's score, then what its error is.
    scores: Vec<f32>,
    hidden: [f32; HIDDEN],
}

impl Trainer {
    /// For heads of this form, which is checked.
    pub fn new(shape: HeadShape) -> Trainer {
        let (parameters, classes) = (shape.parameters(), shape.classes as usize);
        Trainer {
            shape,
            at: vec![0.0; parameters],
            gradient: vec![0.0; parameters],
            scores: vec![0.0; classes],
            hidden: [0.0; HIDDEN],
        }
    }

    /// Bytes that it holds.
    pub fn scratch_bytes(&self) -> usize {
        size_of::<Trainer>() + (self.at.len() + self.gradient.len() + self.scores.len()) * size_of::<f32>()
    }

    /// One step of stochastic gradient descent from `base + delta`: `delta -= rate · gradient`. Returns the loss before it.
    /// Nothing changes for a batch without samples.
    pub fn step(&mut self, base: &[f32], delta: &mut [f32], batch: &[Sample], rate: f32) -> f32 {
        let loss = self.differentiate(base, delta, batch);
        for (delta, slope) in delta.iter_mut().zip(&self.gradient) {
            *delta -= rate * slope;
        }
        loss
    }

    /// One step of a station's own part, in Ditto's form: `own -= rate · (gradient at shared + own  +  pull · own)`. The shared
    /// part stays as it is: trained with the own part's gradient, it would learn what only this station sees.
    pub fn personal_step(&mut self, shared: &[f32], own: &mut [f32], batch: &[Sample], rate: f32, pull: f32) -> f32 {
        let loss = self.differentiate(shared, own, batch);
        for (own, slope) in own.iter_mut().zip(&self.gradient) {
            *own -= rate * (slope + pull * *own);
        }
        loss
    }

    /// The mean loss of a head, the cross-entropy, each sample by its weight.
    pub fn loss(&mut self, head: &[f32], batch: &[Sample]) -> f32 {
        let total: f64 = batch.iter().map(|sample| f64::from(sample.weight)).sum();
        let losses = batch.iter().map(|sample| f64::from(sample.weight) * self.loss_of(head, sample));
        (losses.sum::<f64>() / total.max(f64::MIN_POSITIVE)) as f32
    }

    /// One sample's loss, without its weight.
    pub fn loss_of(&mut self, head: &[f32], sample: &Sample) -> f64 {
        self.score(head, sample.features);
        let (log_sum, max) = log_sum_exp(&self.scores);
        log_sum + f64::from(max) - f64::from(self.scores[usize::from(sample.label)])
    }

    /// The class that the head gives a candidate, the lowest of equals.
    pub fn class_of(&mut self, head: &[f32], features: &[f32]) -> u8 {
        self.score(head, features);
        let best = |best: usize, class: usize| if self.scores[class] > self.scores[best] { class } else { best };
        (1..self.scores.len()).fold(0, best) as u8
    }

    /// How sure a head that says yes or no is of yes, 0 to 1; of several classes, of the class 1.
    pub fn probability(&mut self, head: &[f32], features: &[f32]) -> f32 {
        self.score(head, features);
        let max = self.scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exps = self.scores.iter().map(|score| exp(f64::from(score - max)));
        (exp(f64::from(self.scores[1] - max)) / exps.sum::<f64>()) as f32
    }

    /// What a head that says yes or no adds to the network's own logit; of several classes, nothing.
    pub fn correction(&mut self, head: &[f32], features: &[f32]) -> f32 {
        let inputs = self.shape.inputs as usize;
        match self.shape.kind {
            HeadKind::Softmax => 0.0,
            HeadKind::Logistic => {
                let (weights, bias) = head.split_at(inputs);
                bias[0] + dot(weights, features)
            }
            HeadKind::Mlp16 => {
                let (inner, outer) = head.split_at((inputs + 1) * HIDDEN);
                [self.hidden] = hidden(inner, [features]);
                outer[HIDDEN] + dot(&outer[..HIDDEN], &self.hidden)
            }
        }
    }

    /// Appends to `out` what [`Trainer::correction`] gives for each of many candidates, to the last bit; `features` holds them one
    /// after the other. Two hidden layers go side by side, since the sums of one wait for each other.
    pub fn corrections(&mut self, head: &[f32], features: &[f32], out: &mut Vec<f32>) {
        let inputs = self.shape.inputs as usize;
        let mut rest = features;
        if self.shape.kind == HeadKind::Mlp16 {
            let mut pairs = features.chunks_exact(2 * inputs);
            let (inner, outer) = head.split_at((inputs + 1) * HIDDEN);
            for pair in &mut pairs {
                let (first, second) = pair.split_at(inputs);
                let both = hidden(inner, [first, second]);
                out.extend(both.map(|hidden| outer[HIDDEN] + dot(&outer[..HIDDEN], &hidden)));
            }
            rest = pairs.remainder();
        }
        out.extend(rest.chunks_exact(inputs).map(|features| self.correction(head, features)));
    }

    /// Leaves the gradient at `base + delta` in `self.gradient`, and returns the loss there.
    fn differentiate(&mut self, base: &[f32], delta: &[f32], batch: &[Sample]) -> f32 {
        let mut at = std::mem::take(&mut self.at);
        for ((at, base), delta) in at.iter_mut().zip(base).zip(delta) {
            *at = base + delta;
        }
        self.gradient.fill(0.0);
        let total: f64 = batch.iter().map(|sample| f64::from(sample.weight)).sum();
        let mut loss = 0.0;
        for sample in batch {
            loss += f64::from(sample.weight) * self.loss_of(&at, sample);
            let (_, max) = log_sum_exp(&self.scores);
            let sum: f64 = self.scores.iter().map(|score| exp(f64::from(score - max))).sum();
            let share = f64::from(sample.weight) / total;
            for (class, score) in self.scores.iter_mut().enumerate() {
                let hit = if class == usize::from(sample.label) { 1.0 } else { 0.0 };
                *score = ((exp(f64::from(*score - max)) / sum - hit) * share) as f32;
            }
            self.descend(&at, sample.features);
        }
        self.at = at;
        (loss / total.max(f64::MIN_POSITIVE)) as f32
    }

    /// Leaves each class's score of a candidate in `self.scores`.
    fn score(&mut self, head: &[f32], features: &[f32]) {
        let inputs = self.shape.inputs as usize;
        match self.shape.kind {
            HeadKind::Softmax => {
                let classes = self.scores.len();
                let (weights, biases) = head.split_at(inputs * classes);
                self.scores.copy_from_slice(biases);
                for (feature, row) in features.iter().zip(weights.chunks_exact(classes)) {
                    add_scaled(&mut self.scores, *feature, row);
                }
            }
            HeadKind::Logistic | HeadKind::Mlp16 => {
                let correction = self.correction(head, features);
                self.scores.copy_from_slice(&[0.0, LOGIT_UNIT * features[0] + correction]);
            }
        }
    }

    /// Adds a candidate's part to the gradient; `self.scores` holds the errors, and `self.hidden` what [`Trainer::score`] left.
    fn descend(&mut self, head: &[f32], features: &[f32]) {
        let inputs = self.shape.inputs as usize;
        match self.shape.kind {
            HeadKind::Softmax => {
                let classes = self.scores.len();
                let (weights, biases) = self.gradient.split_at_mut(inputs * classes);
                for (feature, row) in features.iter().zip(weights.chunks_exact_mut(classes)) {
                    add_scaled(row, *feature, &self.scores);
                }
                add_scaled(biases, 1.0, &self.scores);
            }
            HeadKind::Logistic => {
                add_scaled(&mut self.gradient[..inputs], self.scores[1], features);
                self.gradient[inputs] += self.scores[1];
            }
            HeadKind::Mlp16 => {
                let error = self.scores[1];
                let outer = inputs * HIDDEN + HIDDEN;
                let mut inner = [0.0; HIDDEN];
                for ((inner, weight), unit) in inner.iter_mut().zip(&head[outer..outer + HIDDEN]).zip(&self.hidden) {
                    *inner = if *unit > 0.0 { error * weight } else { 0.0 };
                }
                let (weights, rest) = self.gradient.split_at_mut(inputs * HIDDEN);
                for (feature, row) in features.iter().zip(weights.chunks_exact_mut(HIDDEN)) {
                    add_scaled(row, *feature, &inner);
                }
                add_scaled(&mut rest[..HIDDEN], 1.0, &inner);
                add_scaled(&mut rest[HIDDEN..2 * HIDDEN], error, &self.hidden);
                rest[2 * HIDDEN] += error;
            }
        }
    }
}

/// The hidden layer of each of some candidates: each sum in the order of the features, whoever else is beside it. `inner` is the
/// weights, a row for each feature, and the biases.
fn hidden<const N: usize>(inner: &[f32], features: [&[f32]; N]) -> [[f32; HIDDEN]; N] {
    let (rows, _) = inner.as_chunks::<HIDDEN>();
    let (biases, weights) = rows.split_last().expect("a head has biases");
    let features = features.map(|features| &features[..weights.len()]);
    let mut sums = [*biases; N];
    for (at, row) in weights.iter().enumerate() {
        for (sums, features) in sums.iter_mut().zip(features) {
            add_scaled(sums, features[at], row);
        }
    }
    sums.map(|sums| sums.map(|sum| sum.max(0.0)))
}

/// The logarithm of the sum of the exponentials above the largest score, and that score.
fn log_sum_exp(scores: &[f32]) -> (f64, f32) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = scores.iter().map(|score| exp(f64::from(score - max))).sum();
    (sum.ln(), max)
}

fn add_scaled(sums: &mut [f32], factor: f32, terms: &[f32]) {
    for (sum, term) in sums.iter_mut().zip(terms) {
        *sum += factor * term;
    }
}

/// The sum of the products: eight sums side by side, which a processor adds at once, and then these in their order.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (mut a8, mut b8) = (a.chunks_exact(8), b.chunks_exact(8));
    for (a, b) in (&mut a8).zip(&mut b8) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

/// e to the power of x, by sums and products alone: x = k·ln 2 + r, the series of e^r up to its fourteenth power, and 2^k by the
/// exponent's bits. Exact to about one unit in the last place, and the same on every processor, which a system's library is not.
fn exp(x: f64) -> f64 {
    // ln 2 in two parts, the first with zeros at its end, so that k times it is exact (Cody and Waite, 1980).
    const LN2_HIGH: f64 = f64::from_bits(0x3FE6_2E42_FEE0_0000);
    const LN2_LOW: f64 = f64::from_bits(0x3DEA_39EF_3579_3C76);
    // Beyond these the result would be no normal number.
    let x = x.clamp(-708.0, 709.0);
    let k = (x * std::f64::consts::LOG2_E + 0.5).floor();
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    let mut sum = 1.0;
    for n in (1..=14).rev() {
        sum = 1.0 + r / f64::from(n) * sum;
    }
    sum * f64::from_bits(((k as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix64;
    use proptest::prelude::*;

    fn normals(random: &mut SplitMix64, n: usize, width: f64) -> Vec<f32> {
        (0..n).map(|_| (random.normals()[0] * width) as f32).collect()
    }

    proptest! {
        #[test]
        fn the_exponential_is_the_librarys_to_the_last_digits(x in -700.0f64..700.0) {
            prop_assert!((exp(x) / x.exp() - 1.0).abs() < 4.0 * f64::EPSILON, "{} {}", exp(x), x.exp());
        }
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        for shape in [HeadShape::softmax(7, 4), HeadShape::logistic(19), HeadShape::mlp16(6)] {
            let mut random = SplitMix64::stream(1, shape.inputs.into(), 0);
            let head = normals(&mut random, shape.parameters(), 0.5);
            let features: Vec<Vec<f32>> = (0..5).map(|_| normals(&mut random, shape.inputs as usize, 1.0)).collect();
            let label = |n: usize| (n as u32 % shape.classes) as u8;
            let batch: Vec<Sample> = features
                .iter()
                .enumerate()
                .map(|(n, features)| Sample { features, label: label(n), weight: 0.5 + n as f32 })
                .collect();
            let mut trainer = Trainer::new(shape);
            let mut delta = vec![0.0; shape.parameters()];
            let loss = trainer.step(&head, &mut delta, &batch, 1.0);
            assert!((loss - trainer.loss(&head, &batch)).abs() < 1e-5);
            for (at, slope) in delta.iter().map(|delta| -delta).enumerate() {
                let shifted = |by: f32| {
                    let mut head = head.clone();
                    head[at] += by;
                    head
                };
                let rise = trainer.loss(&shifted(0.001), &batch) - trainer.loss(&shifted(-0.001), &batch);
                assert!((rise / 0.002 - slope).abs() < 3e-3, "{shape:?} {at}: {} {slope}", rise / 0.002);
            }
        }
    }

    #[test]
    fn each_form_learns_what_it_can() {
        for shape in [HeadShape::softmax(2, 2), HeadShape::logistic(2), HeadShape::mlp16(2)] {
            let mut random = SplitMix64::new(5);
            // Yes is inside a ring: only the hidden layer can say that; a line can say which side of an axis.
            let ring = shape.kind == HeadKind::Mlp16;
            let points: Vec<[f32; 2]> = (0..200).map(|_| random.normals().map(|x| x as f32)).collect();
            let label = |p: &[f32; 2]| if ring { p[0] * p[0] + p[1] * p[1] < 1.0 } else { p[0] > p[1] };
            let batch: Vec<Sample> =
                points.iter().map(|p| Sample { features: p, label: label(p).into(), weight: 1.0 }).collect();
            let (base, mut trainer) = (shape.beginning(), Trainer::new(shape));
            let mut delta = vec![0.0; shape.parameters()];
            (0..1000).for_each(|_| {
                trainer.step(&base, &mut delta, &batch, 0.5);
            });
            let head: Vec<f32> = base.iter().zip(&delta).map(|(base, delta)| base + delta).collect();
            let right = batch.iter().filter(|s| trainer.class_of(&head, s.features) == s.label).count();
            assert!(right >= 190, "{shape:?}: {right}");
            let sure =
                batch.iter().filter(|s| (trainer.probability(&head, s.features) > 0.5) == (s.label == 1)).count();
            assert!(sure.abs_diff(right) <= 1);
            assert!(trainer.scratch_bytes() < 1024);
        }
    }

    #[test]
    fn the_own_part_learns_and_is_drawn_back_while_the_shared_part_stays() {
        // The network itself has no opinion.
        let shape = HeadShape::logistic(2);
        let (shared, mut own, mut trainer) = (vec![0.0, -1.0, 0.0], vec![0.0; 3], Trainer::new(shape));
        let batch = [
            Sample { features: &[0.0, 1.0], label: 1, weight: 1.0 },
            Sample { features: &[0.0, -1.0], label: 0, weight: 1.0 },
        ];
        let own_after = |own: &mut Vec<f32>, trainer: &mut Trainer, pull| {
            (0..500).for_each(|_| {
                trainer.personal_step(&shared, own, &batch, 0.5, pull);
            });
            own[1]
        };
        let free = own_after(&mut own, &mut trainer, 0.003);
        assert!(trainer.probability(&[own[0], shared[1] + own[1], own[2]], &[0.0, 1.0]) > 0.9);
        assert!(own_after(&mut own, &mut trainer, 0.3) < free);
    }

    #[test]
    fn where_learning_begins_the_answer_is_the_networks_own() {
        for shape in [HeadShape::logistic(5), HeadShape::mlp16(5)] {
            let (head, mut trainer) = (shape.beginning(), Trainer::new(shape));
            for logit in [-3.0f32, 0.0, 1.5] {
                let features = [logit / LOGIT_UNIT, 0.3, -0.8, 1.0, 0.1];
                assert_eq!(trainer.correction(&head, &features), 0.0);
                let own = 1.0 / (1.0 + (-logit).exp());
                assert!((trainer.probability(&head, &features) - own).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn many_candidates_are_judged_as_each_alone_to_the_last_bit() {
        for shape in [HeadShape::softmax(5, 3), HeadShape::logistic(13), HeadShape::mlp16(13)] {
            let (mut random, mut trainer) = (SplitMix64::new(8), Trainer::new(shape));
            let head = normals(&mut random, shape.parameters(), 1.0);
            for candidates in 0..6 {
                let features = normals(&mut random, candidates * shape.inputs as usize, 1.0);
                let mut together = vec![9.0];
                trainer.corrections(&head, &features, &mut together);
                let alone = features.chunks_exact(shape.inputs as usize).map(|one| trainer.correction(&head, one));
                assert_eq!(together, [9.0].into_iter().chain(alone).collect::<Vec<f32>>(), "{shape:?} {candidates}");
            }
        }
    }

    #[test]
    fn an_empty_batch_changes_nothing() {
        let shape = HeadShape::softmax(3, 2);
        let mut delta = vec![1.0; shape.parameters()];
        assert_eq!(Trainer::new(shape).step(&shape.beginning(), &mut delta, &[], 1.0), 0.0);
        assert_eq!(delta, [1.0; 8]);
    }
}
