//! What operators say at stations, what is learned of it, and how well a station then counts. Pure.

use picket_agent::eval::metrics::boxes::{Counts, FrameScores};
use picket_agent::eval::truth::TruthBox;
use picket_agent::frame::Detection;
use picket_agent::learn::features::moved;
use picket_shared::learn::PERSONAL_PULL;
use picket_shared::learn::lineage::HeadShape;
use picket_shared::learn::train::{Sample, Trainer};
use picket_shared::random::SplitMix64;

use super::looked::Candidate;

/// Detections from this score on are what a station says, as in the agent's default configuration.
pub const SCORE_MIN: f32 = 0.3;
/// Of two that overlap more, the surer one stays.
const OVERLAP_MAX: f32 = 0.5;
/// An operator is also asked about what the network was less sure of, from here on.
const ASKED_SCORE_MIN: f32 = 0.15;
/// Samples of one of a station's own steps.
const BATCH: usize = 16;
/// Its own steps.
const OWN_STEPS: usize = 300;

/// A picture with what was found in it.
#[derive(Debug, Clone)]
pub struct Look {
    /// Candidates, the surest first.
    pub candidates: Vec<Candidate>,
    /// Who is there.
    pub people: Vec<TruthBox>,
}

/// What an operator said of a detection.
#[derive(Debug, Clone)]
pub struct Label {
    /// What a head judges it by.
    pub inputs: Vec<f32>,
    /// It is a person.
    pub person: bool,
}

/// The places of those candidates that stay, by these scores from `score_min` on, the surest first.
fn kept(candidates: &[Candidate], scores: &[f32], score_min: f32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).filter(|at| scores[*at] >= score_min).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    let mut kept: Vec<usize> = Vec::new();
    for at in order {
        let area = candidates[at].detection.area;
        if kept.iter().all(|surer| candidates[*surer].detection.area.iou(&area) <= OVERLAP_MAX) {
            kept.push(at);
        }
    }
    kept
}

/// What an operator says of `count` detections of these pictures, drawn by chance.
pub fn labels(looks: &[Look], count: usize, random: &mut SplitMix64) -> Vec<Label> {
    let mut labels = Vec::new();
    for look in looks {
        let scores: Vec<f32> = look.candidates.iter().map(|candidate| candidate.detection.score).collect();
        let found = kept(&look.candidates, &scores, ASKED_SCORE_MIN);
        let detections: Vec<Detection> = found.iter().map(|at| look.candidates[*at].detection).collect();
        let judged = FrameScores::of(&look.people, &detections).judged;
        // In ignored regions nothing is judged, and then nobody can say which is which.
        if judged.len() == found.len() {
            let label = |(at, person): (&usize, bool)| Label { inputs: look.candidates[*at].inputs.clone(), person };
            labels.extend(found.iter().zip(judged.iter().map(|judged| judged.correct)).map(label));
        }
    }
    for at in (1..labels.len()).rev() {
        labels.swap(at, random.below(at + 1));
    }
    labels.truncate(count);
    labels
}

/// What a station learns for itself on top of a head: its sum with that is what it judges by. `pull` draws it back.
pub fn own(shape: HeadShape, shared: &[f32], labels: &[Label], rate: f32, random: &mut SplitMix64) -> Vec<f32> {
    let (mut trainer, mut own) = (Trainer::new(shape), vec![0.0; shared.len()]);
    if labels.is_empty() {
        return shared.to_vec();
    }
    for _ in 0..OWN_STEPS {
        let draw = |_| {
            let label = &labels[random.below(labels.len())];
            Sample { features: &label.inputs, label: label.person.into(), weight: 1.0 }
        };
        let batch: Vec<Sample> = (0..BATCH).map(draw).collect();
        trainer.personal_step(shared, &mut own, &batch, rate, PERSONAL_PULL);
    }
    shared.iter().zip(&own).map(|(shared, own)| shared + own).collect()
}

/// How a head counts people in these pictures.
pub fn count(shape: HeadShape, head: &[f32], looks: &[Look]) -> Counts {
    let (mut trainer, mut counts) = (Trainer::new(shape), Counts::default());
    for look in looks {
        let score =
            |candidate: &Candidate| moved(candidate.detection.score, trainer.correction(head, &candidate.inputs));
        let scores: Vec<f32> = look.candidates.iter().map(score).collect();
        let found = kept(&look.candidates, &scores, SCORE_MIN);
        let detection = |at: &usize| Detection { score: scores[*at], ..look.candidates[*at].detection };
        let judged = FrameScores::of(&look.people, &found.iter().map(detection).collect::<Vec<_>>());
        let (found, correct) = judged.counts(SCORE_MIN);
        counts.add(judged.people, found, correct);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_agent::frame::Area;

    const SHAPE: HeadShape =
        HeadShape { kind: picket_shared::learn::lineage::HeadKind::Logistic, inputs: 3, classes: 2 };

    fn candidate(x: f32, score: f32, poster: bool) -> Candidate {
        let area = Area { x1: x, y1: 0.0, x2: x + 10.0, y2: 30.0 };
        let logit = (score / (1.0 - score)).ln() / picket_shared::learn::lineage::LOGIT_UNIT;
        let inputs = vec![logit, if poster { 1.0 } else { 0.0 }, 0.5];
        Candidate { detection: Detection { area, score }, inputs }
    }

    /// A person who is found twice, and a poster that is found.
    fn look() -> Look {
        let person = TruthBox { area: candidate(10.0, 0.5, false).detection.area, id: None, ignore: false };
        let candidates = vec![
            candidate(10.0, 0.8, false),
            candidate(80.0, 0.7, true),
            candidate(11.0, 0.4, false),
            candidate(50.0, 0.1, false),
        ];
        Look { candidates, people: vec![person] }
    }

    #[test]
    fn an_operator_is_asked_about_what_was_found_and_says_what_is_true() {
        let labels = labels(&[look(), look()], 9, &mut SplitMix64::new(1));
        // Of one person once, and not of what nobody would have seen.
        assert_eq!(labels.len(), 4);
        assert!(labels.iter().all(|label| label.person == (label.inputs[1] == 0.0)));
    }

    #[test]
    fn a_station_learns_to_pass_its_poster_over() {
        let looks = vec![look(); 4];
        let before = count(SHAPE, &[0.0; 4], &looks);
        assert_eq!((before.people, before.found, before.correct), (4, 8, 4));
        let mut random = SplitMix64::new(2);
        let labels = labels(&looks, 8, &mut random);
        let after = count(SHAPE, &own(SHAPE, &[0.0; 4], &labels, 0.3, &mut random), &looks);
        assert_eq!((after.people, after.found, after.correct), (4, 4, 4));
    }
}
