//! One round of training over a station's examples, and whether a head may take another's place. Pure: the same examples, heads and
//! seed give the same bits.

use picket_shared::learn::lineage::HeadShape;
use picket_shared::learn::train::{Sample, Trainer};
use picket_shared::learn::{LOCAL_STEPS, PERSONAL_PULL};
use picket_shared::random::SplitMix64;

use super::examples::{Example, Examples};

/// New examples in one batch, and as many from before: without those a station forgets what it knew.
pub const BATCH_HALF: usize = 8;
/// Newest examples that the loss before and after is said of.
const LOSS_OVER: usize = 32;
/// The examples of a label that are needed: what knows one answer alone learns to say nothing else.
pub const OF_LABEL_MIN: usize = 4;

/// What a round changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// The sum of the steps.
    pub delta: Vec<f32>,
    /// The mean loss over the newest examples before them.
    pub loss_before: f32,
    /// And after.
    pub loss_after: f32,
}

/// Two heads compared on the examples that neither was trained on.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Comparison {
    /// Examples.
    pub samples: usize,
    /// The mean loss of the head that is judged by.
    pub loss_before: f32,
    /// The mean of the new head's loss less that.
    pub difference: f32,
    /// The standard error of this mean.
    pub error: f32,
}

impl Comparison {
    /// Whether the new head may take the old one's place: it surely does not lose. Without the error a head that is no better passes
    /// every second time.
    pub fn accepts(&self) -> bool {
        self.difference + self.error <= 0.0
    }

    /// Whether the new head surely loses. Between the two, these examples do not tell.
    pub fn rejects(&self) -> bool {
        self.difference - self.error > 0.0
    }
}

/// The memory that rounds need; it holds no head.
pub struct Lesson {
    trainer: Trainer,
    inputs: usize,
    features: Vec<f32>,
    labels: Vec<(u8, f32)>,
}

impl Lesson {
    /// For heads of this form, which says yes or no.
    pub fn new(shape: HeadShape) -> Lesson {
        let (inputs, batch) = (shape.inputs as usize, 2 * BATCH_HALF);
        let (features, labels) = (Vec::with_capacity(batch * inputs), Vec::with_capacity(batch));
        Lesson { trainer: Trainer::new(shape), inputs, features, labels }
    }

    /// Whether enough is known to learn from.
    pub fn is_possible(examples: &Examples) -> bool {
        [false, true].into_iter().all(|person| examples.count(false, person) >= OF_LABEL_MIN)
    }

    /// Trains from the shared head on, by the `fresh` newest examples and others.
    pub fn shared(
        &mut self,
        examples: &Examples,
        shared: &[f32],
        fresh: usize,
        rate: f32,
        random: &mut SplitMix64,
    ) -> Learned {
        let loss_before = self.loss_over_newest(examples, shared);
        let mut delta = vec![0.0; shared.len()];
        for _ in 0..LOCAL_STEPS {
            self.draw(examples, fresh, random);
            self.with_batch(|trainer, batch| trainer.step(shared, &mut delta, batch, rate));
        }
        let after: Vec<f32> = shared.iter().zip(&delta).map(|(shared, delta)| shared + delta).collect();
        let loss_after = self.loss_over_newest(examples, &after);
        Learned { delta, loss_before, loss_after }
    }

    /// Trains the station's own part.
    pub fn own(
        &mut self,
        examples: &Examples,
        shared: &[f32],
        own: &mut [f32],
        fresh: usize,
        rate: f32,
        random: &mut SplitMix64,
    ) {
        for _ in 0..LOCAL_STEPS {
            self.draw(examples, fresh, random);
            self.with_batch(|trainer, batch| trainer.personal_step(shared, own, batch, rate, PERSONAL_PULL));
        }
    }

    /// Compares two heads on what was held out; nothing where nothing was.
    pub fn compare(&mut self, examples: &Examples, before: &[f32], after: &[f32]) -> Option<Comparison> {
        let (mut samples, mut old, mut sum, mut squares) = (0usize, 0.0, 0.0, 0.0);
        for example in examples.held_out() {
            let Some(sample) = self.fill(example) else { continue };
            let (label, weight) = sample;
            let sample = Sample { features: &self.features, label, weight };
            let loss = self.trainer.loss_of(before, &sample);
            let difference = self.trainer.loss_of(after, &sample) - loss;
            (samples, old) = (samples + 1, old + loss);
            (sum, squares) = (sum + difference, squares + difference * difference);
        }
        if samples < 2 {
            return None;
        }
        let n = samples as f64;
        let mean = sum / n;
        let variance = (squares - n * mean * mean).max(0.0) / (n - 1.0);
        let error = (variance / n).sqrt();
        Some(Comparison { samples, loss_before: (old / n) as f32, difference: mean as f32, error: error as f32 })
    }

    /// Leaves one example's features alone in the buffer. One of another network's is passed over.
    fn fill(&mut self, example: &Example) -> Option<(u8, f32)> {
        self.features.clear();
        example.numbers(&mut self.features);
        (self.features.len() == self.inputs).then_some((u8::from(example.person), example.source.weight()))
    }

    fn loss_over_newest(&mut self, examples: &Examples, head: &[f32]) -> f32 {
        let (mut sum, mut weights) = (0.0, 0.0);
        for example in examples.newest().take(LOSS_OVER) {
            let Some((label, weight)) = self.fill(example) else { continue };
            let sample = Sample { features: &self.features, label, weight };
            sum += self.trainer.loss_of(head, &sample) * f64::from(weight);
            weights += f64::from(weight);
        }
        if weights > 0.0 { (sum / weights) as f32 } else { 0.0 }
    }

    /// Half of a batch is new where anything is; of the rest each label has as many.
    fn draw(&mut self, examples: &Examples, fresh: usize, random: &mut SplitMix64) {
        self.features.clear();
        self.labels.clear();
        for place in 0..2 * BATCH_HALF {
            let new = place < BATCH_HALF && fresh > 0;
            let drawn = match new {
                true => examples.draw_new(fresh, random),
                false => examples.draw(place % 2 == 0, random),
            };
            let Some(example) = drawn else { continue };
            let before = self.features.len();
            example.numbers(&mut self.features);
            match self.features.len() - before == self.inputs {
                true => self.labels.push((u8::from(example.person), example.source.weight())),
                false => self.features.truncate(before),
            }
        }
    }

    fn with_batch<T>(&mut self, work: impl FnOnce(&mut Trainer, &[Sample]) -> T) -> T {
        let samples = self.features.chunks_exact(self.inputs).zip(&self.labels);
        let batch: Vec<Sample> =
            samples.map(|(features, (label, weight))| Sample { features, label: *label, weight: *weight }).collect();
        work(&mut self.trainer, &batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::examples::Source;
    use picket_shared::ids::EventId;

    /// Events of two kinds, told apart by their third number; the network itself has no opinion.
    fn examples(count: usize, swapped: bool) -> Examples {
        let (mut examples, mut random) = (Examples::new(30), SplitMix64::new(3));
        for n in 0..count {
            let person = n % 2 == 0;
            let side = if person == swapped { -1.0 } else { 1.0 };
            let features = [0.0, random.unit() as f32 - 0.5, side + random.unit() as f32 - 0.5];
            let event = EventId::new(format!("n-1-{n}")).unwrap();
            examples.take(Example::new(event, person, Source::Operator, "anna", &features));
        }
        examples
    }

    fn lesson() -> (Lesson, HeadShape) {
        let shape = HeadShape::logistic(3);
        (Lesson::new(shape), shape)
    }

    #[test]
    fn rounds_lower_the_loss_and_what_they_made_is_accepted_by_what_was_held_out() {
        let (mut lesson, shape) = lesson();
        let (examples, mut random) = (examples(200, false), SplitMix64::new(1));
        let mut shared = shape.beginning();
        for _ in 0..10 {
            let learned = lesson.shared(&examples, &shared, 32, 0.3, &mut random);
            assert!(learned.loss_after < learned.loss_before);
            shared.iter_mut().zip(&learned.delta).for_each(|(shared, delta)| *shared += delta);
        }
        let better = lesson.compare(&examples, &shape.beginning(), &shared).unwrap();
        assert!(better.accepts() && better.samples > 30, "{better:?}");
        assert!(!lesson.compare(&examples, &shared, &shape.beginning()).unwrap().accepts());
        // The same again from the same seed.
        let round = |lesson: &mut Lesson| lesson.shared(&examples, &shared, 32, 0.3, &mut SplitMix64::new(9));
        assert_eq!(round(&mut lesson), round(&mut lesson));
    }

    #[test]
    fn a_station_that_is_different_learns_so_beside_the_shared_head() {
        let (mut lesson, shape) = lesson();
        let (examples, mut random) = (examples(200, true), SplitMix64::new(1));
        // What the others learned is the contrary of what is here.
        let (shared, mut own) = (vec![0.0, 0.0, 3.0, 0.0], vec![0.0; shape.parameters()]);
        (0..40).for_each(|_| lesson.own(&examples, &shared, &mut own, 0, 0.3, &mut random));
        let head: Vec<f32> = shared.iter().zip(&own).map(|(shared, own)| shared + own).collect();
        let better = lesson.compare(&examples, &shared, &head).unwrap();
        assert!(better.accepts() && better.difference < -1.0, "{better:?}");
    }

    #[test]
    fn one_label_alone_and_another_networks_examples_teach_nothing() {
        let (mut lesson, shape) = lesson();
        let mut examples = Examples::new(0);
        for n in 0..20 {
            let event = EventId::new(format!("n-1-{n}")).unwrap();
            examples.take(Example::new(event, true, Source::Tracker, "", &[0.0; 7]));
        }
        assert!(!Lesson::is_possible(&examples));
        let learned = lesson.shared(&examples, &shape.beginning(), 8, 0.3, &mut SplitMix64::new(1));
        assert_eq!(learned.delta, vec![0.0; 4]);
        assert_eq!(lesson.compare(&examples, &shape.beginning(), &shape.beginning()), None);
    }
}
