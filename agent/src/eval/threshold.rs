//! Which threshold serves a station best, and how sure that is.
//!
//! The threshold is searched on a grid of hundredths. How sure: the bootstrap (Efron, 1979) draws as many frames again
//! with replacement, a thousand times, and chooses anew each time; of a sequence it draws runs of frames (Künsch, 1989),
//! because neighbours show the same people. Pure; the same seed gives the same answer.

use clap::ValueEnum;
use serde::Serialize;

use super::metrics::boxes::{Counts, FrameScores};
use super::random::Random;

/// Steps of the grid: thresholds 0.01 to 0.99.
const STEPS: usize = 99;
/// Draws of the bootstrap.
const DRAWS: usize = 1000;
/// Two values this near are the same: what one detection in a million changes.
const SAME: f64 = 1e-6;

/// What is to be as high as can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// F1: the harmonic mean of precision and recall
    F1,
    /// Count accuracy by count error: 1 − Σ|n̂ − n| / Σn
    Count,
}

impl Objective {
    /// How good a sum of counts is; nothing found where nobody is counts as 0.
    fn value(self, counts: &Counts) -> f64 {
        let value = match self {
            Objective::F1 => counts.f1(),
            Objective::Count => counts.count_accuracy(),
        };
        value.unwrap_or(0.0)
    }
}

/// A range that holds 95 of 100 draws.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// 2.5 of 100 are below.
    pub low: f64,
    /// 2.5 of 100 are above.
    pub high: f64,
}

/// The choice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Choice {
    /// The threshold.
    pub threshold: f64,
    /// Where else it could have come out with other frames of the same kind.
    pub threshold_interval: Interval,
    /// The objective at it, on the frames that it was chosen by.
    pub value: f64,
    /// The same over the draws.
    pub value_interval: Interval,
    /// The objective at the threshold of before.
    pub value_before: f64,
    /// Share of draws in which the chosen threshold is better than the one of before on frames that were not drawn,
    /// when it is chosen by those that were: 0.5 is no better than a coin.
    pub better_share: f64,
}

/// One frame at each step of the grid: detections, and correct ones.
struct Row {
    people: usize,
    steps: Vec<(usize, usize)>,
}

/// Chooses by these frames. `before` is the threshold in use, `least` the score below which the detector was not asked,
/// `run` how many neighbouring frames show the same. None without frames or without people.
pub fn choose(
    frames: &[FrameScores],
    objective: Objective,
    before: f64,
    least: f64,
    run: usize,
    seed: u64,
) -> Option<Choice> {
    if frames.iter().all(|frame| frame.people == 0) {
        return None;
    }
    let row = |frame: &FrameScores| Row {
        people: frame.people,
        steps: (0..STEPS).map(|step| frame.counts(threshold(step) as f32)).collect(),
    };
    let rows: Vec<Row> = frames.iter().map(row).collect();
    let steps = step_of(least)..STEPS;
    let before = step_of(before);
    let whole = sums(rows.iter());
    let best = best(&whole, objective, steps.clone());

    let (mut thresholds, mut values, mut better) = (Vec::new(), Vec::new(), (0.0, 0usize));
    for draw in 0..DRAWS {
        let drawn = draw_runs(rows.len(), run, &mut Random::new(seed, draw as u64));
        let drawn_sums = sums(drawn.iter().map(|&at| &rows[at]));
        let chosen = self::best(&drawn_sums, objective, steps.clone());
        thresholds.push(threshold(chosen));
        values.push(objective.value(&drawn_sums[best]));
        let mut left = vec![true; rows.len()];
        drawn.iter().for_each(|&at| left[at] = false);
        let rest = sums(rows.iter().zip(left).filter(|(_, left)| *left).map(|(row, _)| row));
        if rest[0].people > 0 {
            let gain = objective.value(&rest[chosen]) - objective.value(&rest[before]);
            // Equal counts for half, so that the same threshold is no better than a coin.
            better.0 += if gain.abs() < SAME { 0.5 } else { f64::from(u8::from(gain > 0.0)) };
            better.1 += 1;
        }
    }
    Some(Choice {
        threshold: threshold(best),
        threshold_interval: interval(thresholds),
        value: objective.value(&whole[best]),
        value_interval: interval(values),
        value_before: objective.value(&whole[before]),
        better_share: if better.1 > 0 { better.0 / better.1 as f64 } else { 0.5 },
    })
}

fn threshold(step: usize) -> f64 {
    (step + 1) as f64 / 100.0
}

/// The step nearest to a threshold.
fn step_of(threshold: f64) -> usize {
    ((threshold * 100.0).round() as usize).clamp(1, STEPS) - 1
}

fn sums<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<Counts> {
    let mut sums = vec![Counts::default(); STEPS];
    for row in rows {
        for (sum, (found, correct)) in sums.iter_mut().zip(&row.steps) {
            sum.add(row.people, *found, *correct);
        }
    }
    sums
}

/// The best step: the middle of the first run of equally good ones, so that it is as far from both falls as can be.
fn best(sums: &[Counts], objective: Objective, steps: std::ops::Range<usize>) -> usize {
    let value = |step: usize| objective.value(&sums[step]);
    let highest = steps.clone().map(value).fold(f64::NEG_INFINITY, f64::max);
    let as_good = |step: &usize| value(*step) >= highest - SAME;
    let first = steps.clone().find(as_good).expect("the highest of some values is among them");
    let last = (first..steps.end).take_while(as_good).last().expect("the first is as good as itself");
    (first + last) / 2
}

/// Indices of frames, in runs of neighbours, as many as there are.
fn draw_runs(frames: usize, run: usize, random: &mut Random) -> Vec<usize> {
    let run = run.clamp(1, frames);
    let mut drawn = Vec::with_capacity(frames + run);
    while drawn.len() < frames {
        let first = random.below(frames - run + 1);
        drawn.extend(first..first + run);
    }
    drawn.truncate(frames);
    drawn
}

fn interval(mut values: Vec<f64>) -> Interval {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    Interval { low: at(0.025), high: at(0.975) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::metrics::boxes::Judged;

    fn frame(people: usize, judged: &[(f32, bool)]) -> FrameScores {
        let mut judged: Vec<Judged> = judged.iter().map(|&(score, correct)| Judged { score, correct }).collect();
        judged.sort_by(|a, b| b.score.total_cmp(&a.score));
        FrameScores { people, judged }
    }

    /// People score 0.5 to 0.9, clutter 0.2 to 0.35.
    fn scene(frames: usize) -> Vec<FrameScores> {
        let mut random = Random::new(5, 0);
        let mut score = |from: f64, to: f64| (from + (to - from) * random.unit()) as f32;
        (0..frames)
            .map(|_| frame(2, &[(score(0.5, 0.9), true), (score(0.5, 0.9), true), (score(0.2, 0.35), false)]))
            .collect()
    }

    fn chosen(frames: &[FrameScores], objective: Objective, before: f64) -> Choice {
        choose(frames, objective, before, 0.05, 1, 1).unwrap()
    }

    #[test]
    fn it_lies_between_people_and_clutter_and_says_that_it_is_better() {
        for objective in [Objective::F1, Objective::Count] {
            let choice = chosen(&scene(60), objective, 0.1);
            assert!((0.40..=0.46).contains(&choice.threshold), "{choice:?}");
            assert_eq!(choice.value, 1.0, "{choice:?}");
            assert!(choice.value_before < 0.9 && choice.better_share > 0.99, "{choice:?}");
            let Interval { low, high } = choice.threshold_interval;
            assert!(low <= choice.threshold && choice.threshold <= high && high - low < 0.05, "{choice:?}");
        }
    }

    #[test]
    fn few_frames_are_less_sure_than_many() {
        let noisy = |frames: usize| {
            let mut random = Random::new(9, 1);
            let mut score = |middle: f64| (middle + 0.15 * random.normals()[0]).clamp(0.0, 1.0) as f32;
            (0..frames).map(|_| frame(1, &[(score(0.6), true), (score(0.35), false)])).collect::<Vec<_>>()
        };
        let width = |choice: Choice| choice.value_interval.high - choice.value_interval.low;
        let (few, many) = (chosen(&noisy(8), Objective::F1, 0.3), chosen(&noisy(400), Objective::F1, 0.3));
        assert!(width(few) > 2.0 * width(many), "{few:?} {many:?}");
    }

    #[test]
    fn counting_wants_as_many_as_there_are_and_f1_wants_the_right_ones() {
        // At 0.5 three of four people and one false alarm: the count is right. At 0.7 two, and no false alarm.
        let frames = vec![frame(4, &[(0.8, true), (0.75, true), (0.55, true), (0.52, false), (0.3, false)]); 3];
        assert!((0.36..0.52).contains(&chosen(&frames, Objective::Count, 0.3).threshold));
        let frames = vec![frame(2, &[(0.8, true), (0.75, true), (0.6, false)]); 3];
        assert!(chosen(&frames, Objective::F1, 0.3).threshold > 0.6);
    }

    #[test]
    fn the_threshold_of_before_is_no_better_than_itself() {
        let choice = chosen(&scene(40), Objective::F1, 0.43);
        assert!((choice.better_share - 0.5).abs() < 0.1, "{choice:?}");
    }

    #[test]
    fn nothing_is_chosen_where_nobody_is_and_nothing_below_what_was_asked() {
        assert_eq!(choose(&[], Objective::F1, 0.3, 0.05, 1, 1), None);
        assert_eq!(choose(&[frame(0, &[(0.9, false)])], Objective::F1, 0.3, 0.05, 1, 1), None);
        let all_low = vec![frame(1, &[(0.02, true)]); 4];
        assert!(choose(&all_low, Objective::F1, 0.3, 0.05, 1, 1).unwrap().threshold >= 0.05);
    }

    #[test]
    fn a_sequence_is_drawn_in_runs() {
        let drawn = draw_runs(100, 25, &mut Random::new(1, 1));
        assert_eq!(drawn.len(), 100);
        assert!(drawn.chunks(25).all(|run| run.windows(2).all(|pair| pair[1] == pair[0] + 1)));
        assert_eq!(draw_runs(3, 25, &mut Random::new(1, 1)).len(), 3);
    }
}
