//! The precision gate: a model is activated only where it agrees with its reference on this station's own frames.
//!
//! Models of low precision may collapse without a word: they load, run, and find nobody. The measure is
//! [`super::agreement`]; this file reads the frames and runs both models over them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use picket_shared::exit::{Exit, Failure};
use serde::Serialize;

use super::agreement::{Agreement, Judge, RANKED_SCORE_MIN};
use super::layout::InputOverride;
use super::{Config, Detector};
use crate::frame::Detection;
use crate::pictures;

/// Frames that the gate looks at when an agent starts: two models, some milliseconds each.
pub const GATE_FRAMES_MAX: usize = 64;

/// Two models over the same frames.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// First digits of the reference's SHA-256.
    pub model_a: String,
    /// First digits of the other's.
    pub model_b: String,
    /// How far they agree.
    #[serde(flatten)]
    pub agreement: Agreement,
    /// Mean of `session.run` of the reference.
    pub ms_a: f64,
    /// Mean of `session.run` of the other.
    pub ms_b: f64,
    /// Why the other would not be activated.
    pub refused: Option<String>,
}

/// Runs two models over the pictures of a folder, of which at most `frames_max` are taken, evenly. What `config` says of
/// its own model holds for that one only; the other is recognised by itself.
pub fn compare(config: &Config, a: &str, b: &str, frames: &Path, frames_max: usize) -> Result<Comparison, Failure> {
    let mut compared = between(&of_model(config, a), &of_model(config, b), frames, frames_max)?;
    compared.refused = compared.agreement.refusal(config.agreement_min).map(|why| format!("the model {b} {why}"));
    Ok(compared)
}

/// The same of two configurations, of which each says of its model what there is to say; nothing is refused.
pub fn between(a: &Config, b: &Config, frames: &Path, frames_max: usize) -> Result<Comparison, Failure> {
    let files = frames_of(frames, frames_max)?;
    let score_min = a.score_min;
    let mut first = Detector::open(a)?;
    let mut second = Detector::open(&Config { score_min: score_min.min(RANKED_SCORE_MIN), ..b.clone() })?;
    let mut judge = Judge::default();
    let (mut found_a, mut found_b): (Vec<Detection>, Vec<Detection>) = (Vec::new(), Vec::new());
    let (mut took_a, mut took_b) = (Duration::ZERO, Duration::ZERO);
    for file in &files {
        let failure = |what: String| Failure::new(Exit::Source, format!("the frame {} {what}", file.display()));
        let frame = pictures::read(file).map_err(failure)?;
        let of_detector = |e: super::DetectError| failure(format!("was not detected: {e}"));
        took_a += first.detect(&frame, &mut found_a).map_err(of_detector)?.run;
        took_b += second.detect(&frame, &mut found_b).map_err(of_detector)?.run;
        judge.add(&found_a, &found_b, score_min);
    }
    let mean_ms = |took: Duration| (took.as_secs_f64() * 1e5 / files.len() as f64).round() / 1e2;
    let (model_a, model_b) = (first.twin.model, second.twin.model);
    let (agreement, ms_a, ms_b) = (judge.verdict(), mean_ms(took_a), mean_ms(took_b));
    Ok(Comparison { model_a, model_b, agreement, ms_a, ms_b, refused: None })
}

/// Loads the configured model if it passes, and otherwise the reference, with the reason in its twin: a station that
/// watches with an older model is better off than one that does not watch.
pub(super) fn gated(config: &Config, reference: &str) -> Result<Detector, Failure> {
    let frames = config.frames.as_deref().unwrap_or(Path::new("."));
    let began = std::time::Instant::now();
    let refused = match compare(config, reference, &config.model, frames, GATE_FRAMES_MAX) {
        Ok(Comparison { refused: Some(refused), .. }) => refused,
        Ok(comparison) => {
            let agreement = comparison.agreement.agreement;
            tracing::info!(
                agreement,
                frames = comparison.agreement.frames,
                took_ms = began.elapsed().as_millis() as u64,
                "precision gate passed"
            );
            return Detector::open(config);
        }
        // Without a runtime there is no reference either.
        Err(failure) if failure.exit == Exit::Runtime => return Err(failure),
        Err(failure) => failure.sentence,
    };
    tracing::error!("{refused}; running the reference {reference}");
    let mut detector = Detector::open(&of_model(config, reference))?;
    detector.twin.passed_over.insert(format!("model {}", config.model), refused);
    Ok(detector)
}

/// The configuration for a model: what is said of the configured one is not said of another.
fn of_model(config: &Config, model: &str) -> Config {
    if model == config.model {
        return Config { reference: None, ..config.clone() };
    }
    let input = InputOverride::default();
    let (model, reference) = (model.to_owned(), None);
    Config { model, reference, layout: None, labels: None, person_class: None, input, head: None, ..config.clone() }
}

/// The pictures of a folder of frames, or so many of them at even distances.
pub fn frames_of(folder: &Path, most: usize) -> Result<Vec<PathBuf>, Failure> {
    let files = pictures::in_folder(folder)?;
    Ok(evenly(files.len(), most).map(|at| files[at].clone()).collect())
}

/// At most `most` of so many places, at even distances, the first among them.
fn evenly(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let taken = count.min(most.max(1));
    (0..taken).map(move |at| at * count / taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_at_even_distances() {
        for (count, most, expect) in [
            (3, 10, vec![0, 1, 2]),
            (10, 5, vec![0, 2, 4, 6, 8]),
            (10, 3, vec![0, 3, 6]),
            (2, 0, vec![0]),
            (0, 5, vec![]),
        ] {
            assert_eq!(evenly(count, most).collect::<Vec<_>>(), expect);
        }
    }

    #[test]
    fn what_is_said_of_one_model_is_not_said_of_the_other() {
        let config = Config {
            model: "/m.onnx".into(),
            person_class: Some(3),
            head: Some("/h".into()),
            reference: Some("builtin".into()),
            ..Config::default()
        };
        let own = of_model(&config, "/m.onnx");
        assert_eq!((own.person_class, own.reference), (Some(3), None));
        let other = of_model(&config, "builtin");
        assert_eq!((&*other.model, other.person_class, other.head), ("builtin", None, None));
    }
}
