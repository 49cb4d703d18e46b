//! The head at work on the frame path: it changes the scores of candidates, and keeps what it judged them by for whoever learns from
//! them. It decides by the head that it is given, and learns nothing itself.

use std::sync::{Arc, PoisonError, RwLock};

use picket_shared::learn::lineage::{HeadKind, HeadShape};
use picket_shared::learn::train::Trainer;

use super::features::{Rows, describe, inputs, moved};
use crate::detect::{Backbone, Rescore};
use crate::frame::{Area, Detection};

/// Candidates are looked at from this score of the network on: what is below no head should lift.
pub const CANDIDATE_SCORE_MIN: f32 = 0.05;

/// A head that a station judges by.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Of which network.
    pub backbone: Arc<Backbone>,
    /// Its form: one that says yes or no.
    pub shape: HeadShape,
    /// Its numbers, as many as the form says.
    pub numbers: Vec<f32>,
}

impl Head {
    /// Refuses what cannot judge this network's candidates.
    pub fn fits(backbone: &Backbone, shape: &HeadShape) -> bool {
        shape.kind != HeadKind::Softmax && shape.inputs as usize == inputs(backbone.features)
    }
}

/// Which head is judged by now; clones are the same. Whoever judges looks once for each frame.
#[derive(Debug, Clone, Default)]
pub struct Bench(Arc<RwLock<Option<Arc<Head>>>>);

impl Bench {
    /// Judges by this head from the next frame on; by the network alone where there is none.
    pub fn seat(&self, head: Option<Head>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = head.map(Arc::new);
    }

    /// The head that is judged by.
    pub fn head(&self) -> Option<Arc<Head>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A candidate of the last frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Where.
    pub area: Area,
    /// The score that it was judged to have.
    pub score: f32,
}

/// One camera's judge. It holds the candidates of the last frame.
pub struct Judge {
    bench: Bench,
    head: Option<Arc<Head>>,
    trainer: Option<Trainer>,
    /// The network that the last frame was looked at with.
    pub(super) backbone: Option<Arc<Backbone>>,
    /// The candidates of the last frame, by the network's own score, the surest first.
    pub(super) seen: Vec<Seen>,
    /// What each was judged by.
    pub(super) features: Vec<f32>,
    /// What the head added to each.
    corrections: Vec<f32>,
}

impl Judge {
    /// One that judges by the head of this bench.
    pub fn new(bench: Bench) -> Judge {
        let (seen, features, corrections) = Default::default();
        Judge { bench, head: None, trainer: None, backbone: None, seen, features, corrections }
    }

    /// Takes the head of now, where it is for this network.
    fn follow(&mut self, backbone: &Arc<Backbone>) {
        let fits = |head: &Arc<Head>| {
            head.backbone == *backbone
                && Head::fits(backbone, &head.shape)
                && head.numbers.len() == head.shape.parameters()
        };
        let now = self.bench.head().filter(fits);
        let same = match (&now, &self.head) {
            (Some(now), Some(before)) => Arc::ptr_eq(now, before),
            (None, None) => true,
            _ => false,
        };
        if !same {
            // All zero it says what the network says, and need not be asked.
            let says_something = now.as_ref().filter(|head| head.numbers.iter().any(|number| *number != 0.0));
            self.trainer = says_something.map(|head| Trainer::new(head.shape));
            self.head = now;
        }
    }
}

impl Rescore for Judge {
    fn rescore(
        &mut self,
        backbone: &Arc<Backbone>,
        size_px: (u32, u32),
        candidates: &mut [Detection],
        rows: &[usize],
        seen: &[f32],
    ) {
        self.follow(backbone);
        self.seen.clear();
        self.features.clear();
        self.backbone = Some(Arc::clone(backbone));
        let width = backbone.features;
        for (at, row) in rows.iter().enumerate().take(candidates.len()) {
            describe(candidates, at, size_px, Rows { numbers: seen, width }, *row, &mut self.features);
        }
        if let (Some(trainer), Some(head)) = (&mut self.trainer, &self.head) {
            self.corrections.clear();
            trainer.corrections(&head.numbers, &self.features, &mut self.corrections);
            for (candidate, by) in candidates.iter_mut().zip(&self.corrections) {
                candidate.score = moved(candidate.score, *by);
            }
        }
        self.seen.extend(candidates.iter().map(|candidate| Seen { area: candidate.area, score: candidate.score }));
    }

    fn score_min(&self) -> f32 {
        CANDIDATE_SCORE_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backbone() -> Arc<Backbone> {
        Arc::new(Backbone { sha256: "ab".repeat(32), features: 2 })
    }

    fn candidates() -> Vec<Detection> {
        let area = |x1: f32| Area { x1, y1: 10.0, x2: x1 + 20.0, y2: 70.0 };
        [(10.0, 0.9), (200.0, 0.5), (400.0, 0.2)].map(|(x1, score)| Detection { area: area(x1), score }).to_vec()
    }

    fn judged(judge: &mut Judge, seen: &[f32]) -> Vec<f32> {
        let mut found = candidates();
        judge.rescore(&backbone(), (640, 480), &mut found, &[0, 1, 2], seen);
        found.iter().map(|detection| detection.score).collect()
    }

    fn head(at: usize, weight: f32) -> Head {
        let shape = HeadShape::logistic(inputs(2) as u32);
        let mut numbers = vec![0.0; shape.parameters()];
        numbers[at] = weight;
        Head { backbone: backbone(), shape, numbers }
    }

    #[test]
    fn a_head_moves_whom_it_knows_and_without_one_or_a_zero_one_the_network_stands() {
        let (bench, seen) = (Bench::default(), [1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
        let mut judge = Judge::new(bench.clone());
        assert_eq!(judged(&mut judge, &seen), [0.9, 0.5, 0.2]);
        bench.seat(Some(head(0, 0.0)));
        assert_eq!(judged(&mut judge, &seen), [0.9, 0.5, 0.2]);
        // The second feature speaks against.
        bench.seat(Some(head(10, -2.0)));
        let scores = judged(&mut judge, &seen);
        assert_eq!(scores[0], 0.9);
        assert!(scores[1] < 0.03 && scores[2] < 0.01, "{scores:?}");
        assert_eq!(judge.seen.iter().map(|seen| seen.score).collect::<Vec<_>>(), scores);
        assert_eq!(judge.features.len(), 3 * inputs(2));
        // Another network's head says nothing here.
        let other = Arc::new(Backbone { sha256: "cd".repeat(32), features: 2 });
        bench.seat(Some(Head { backbone: other, ..head(10, -2.0) }));
        assert_eq!(judged(&mut judge, &seen), [0.9, 0.5, 0.2]);
    }

    #[test]
    fn a_network_that_shows_too_little_or_no_numbers_hurts_nobody() {
        let bench = Bench::default();
        bench.seat(Some(head(10, -2.0)));
        let mut judge = Judge::new(bench);
        for seen in [&[][..], &[1.0], &[f32::NAN; 6], &[f32::INFINITY; 6]] {
            assert_eq!(judged(&mut judge, seen), [0.9, 0.5, 0.2], "{seen:?}");
        }
    }
}
