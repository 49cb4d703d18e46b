//! What becomes of a candidate after what was seen of it: it is committed, given up with the reason, or looked at for longer.
//!
//! Pure. The measure is [`crate::detect::agreement`]; what must be reached the manifest's owner and the site say.

use picket_shared::model::{Floors, TrialTerms};

use crate::detect::agreement::{Agreement, BOXES_MIN, Judge};

/// How much longer than the active model a candidate may take for a frame. More would drop frames that are looked at now.
pub const SLOWER_MAX: f64 = 3.0;
/// A candidate that is as quick as this many milliseconds is never too slow, however quick the active one is.
pub const QUICK_MS: f64 = 20.0;

/// What was seen so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// How far both agree, of which the active one is the first.
    pub agreement: Agreement,
    /// Mean processor time of the candidate for a frame, in milliseconds.
    pub candidate_ms: f64,
    /// The same of the active one.
    pub active_ms: f64,
    /// Resident memory of the candidate's process.
    pub resident_bytes: u64,
}

impl Seen {
    /// Nothing was seen.
    pub fn nothing() -> Seen {
        Seen { agreement: Judge::default().verdict(), candidate_ms: 0.0, active_ms: 0.0, resident_bytes: 0 }
    }
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It has not been seen enough.
    Wait,
    /// It is as good as it must be.
    Pass,
    /// It is not: a constant word, and a sentence.
    Fail(&'static str, String),
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// The owner's part.
    pub floors: Floors,
    /// The site's part.
    pub trial: TrialTerms,
    /// Memory that the device can spare for it; 0 where nobody knows.
    pub memory_bytes: u64,
}

impl Terms {
    /// Least agreement: the higher of what both ask for.
    pub fn agreement_min(&self) -> f64 {
        self.trial.agreement_min.unwrap_or(0.0).max(self.floors.agreement_min)
    }

    /// Why a candidate is given up for what it did on stored frames; too few of them decide nothing.
    pub fn refuses_stored(&self, seen: &Agreement) -> Option<String> {
        let judged = seen.boxes_a >= BOXES_MIN;
        let refused = self.falls_short(seen).filter(|_| judged);
        refused.map(|(_, what)| format!("on {} stored frames, {what}", seen.frames))
    }

    /// In what it falls short of what is asked for. What is not a number reaches nothing.
    fn falls_short(&self, seen: &Agreement) -> Option<(&'static str, String)> {
        let Agreement { frames, agreement, ap50, count_off_mean, .. } = seen;
        let least = self.agreement_min();
        let short = |value: f64, least: f64| value.is_nan() || value < least;
        if short(*agreement, least) {
            let what = format!(
                "it agrees with the active model to {agreement:.3} in {frames} frames, and {least} is asked for"
            );
            return Some(("model_trial_agreement", what));
        }
        if let Some(least) = self.floors.ap50_min.filter(|least| short(*ap50, *least)) {
            let what = format!("its average precision beside the active model is {ap50:.3}, and {least} is asked for");
            return Some(("model_trial_agreement", what));
        }
        let most = self.floors.count_off_mean_max.filter(|most| short(-*count_off_mean, -*most))?;
        Some((
            "model_trial_counts",
            format!("its counts differ by {count_off_mean:.2} a frame, and at most {most} is asked for"),
        ))
    }

    /// What becomes of a candidate of which this was seen in `for_s` seconds.
    pub fn verdict(&self, seen: &Seen, for_s: u64) -> Verdict {
        let Agreement { frames, boxes_a, .. } = seen.agreement;
        if self.memory_bytes > 0 && seen.resident_bytes > self.memory_bytes {
            let (takes, room) = (seen.resident_bytes >> 20, self.memory_bytes >> 20);
            return Verdict::Fail(
                "model_trial_memory",
                format!("it takes {takes} MiB of memory, and {room} can be spared"),
            );
        }
        let enough = frames >= u64::from(self.trial.shadow_frames) && (boxes_a >= BOXES_MIN || frames == 0);
        if !enough {
            return match for_s >= u64::from(self.trial.shadow_s_max) {
                false => Verdict::Wait,
                true => Verdict::Fail(
                    "model_trial_unseen",
                    format!("in {for_s} s both models saw {frames} frames with {boxes_a} people, too few to judge by"),
                ),
            };
        }
        if frames == 0 {
            return Verdict::Pass;
        }
        if let Some((word, what)) = self.falls_short(&seen.agreement) {
            return Verdict::Fail(word, what);
        }
        let slowest_ms = (SLOWER_MAX * seen.active_ms).max(QUICK_MS);
        if seen.candidate_ms > slowest_ms {
            let (candidate, active) = (seen.candidate_ms, seen.active_ms);
            let what = format!("it takes {candidate:.1} ms for a frame, the active model {active:.1}");
            return Verdict::Fail("model_trial_slow", what);
        }
        Verdict::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        let floors = Floors { agreement_min: 0.8, ap50_min: Some(0.7), count_off_mean_max: Some(0.5) };
        let trial = TrialTerms { shadow_frames: 100, shadow_s_max: 60, agreement_min: None, attempts: 3 };
        Terms { floors, trial, memory_bytes: 1 << 30 }
    }

    fn seen(frames: u64, people: u64, agreement: f64) -> Seen {
        let nothing = Seen::nothing();
        let of = Agreement { frames, boxes_a: people, agreement, ap50: 0.9, count_off_mean: 0.1, ..nothing.agreement };
        Seen { agreement: of, candidate_ms: 15.0, active_ms: 15.0, resident_bytes: 1 << 20 }
    }

    #[test]
    fn a_candidate_is_judged_once_enough_was_seen_of_it_and_by_what_was_asked_for() {
        let good = seen(100, 50, 0.9);
        let with = |change: &dyn Fn(&mut Seen)| {
            let mut seen = good;
            change(&mut seen);
            seen
        };
        for (seen, for_s, word, what) in [
            (good, 1, "pass", "all is well"),
            (seen(99, 50, 0.1), 59, "wait", "too few frames"),
            (seen(500, 19, 0.1), 59, "wait", "too few people"),
            (seen(500, 19, 0.1), 60, "model_trial_unseen", "too few people for too long"),
            (Seen::nothing(), 60, "model_trial_unseen", "no frame for too long"),
            (seen(100, 50, 0.79), 1, "model_trial_agreement", "the owner's floor"),
            (with(&|seen| seen.agreement.agreement = f64::NAN), 1, "model_trial_agreement", "no number"),
            (with(&|seen| seen.agreement.ap50 = 0.6), 1, "model_trial_agreement", "its average precision"),
            (with(&|seen| seen.agreement.count_off_mean = 0.6), 1, "model_trial_counts", "its counts"),
            (with(&|seen| seen.agreement.count_off_mean = f64::NAN), 1, "model_trial_counts", "counts that are none"),
            (with(&|seen| seen.candidate_ms = 46.0), 1, "model_trial_slow", "three times as slow"),
            (with(&|seen| (seen.candidate_ms, seen.active_ms) = (19.0, 2.0)), 1, "pass", "slower, and quick enough"),
            (with(&|seen| seen.resident_bytes = (1 << 30) + 1), 1, "model_trial_memory", "too large"),
        ] {
            let got = match terms().verdict(&seen, for_s) {
                Verdict::Wait => "wait",
                Verdict::Pass => "pass",
                Verdict::Fail(word, _) => word,
            };
            assert_eq!(got, word, "{what}");
        }
        let strict = Terms { trial: TrialTerms { agreement_min: Some(0.95), ..terms().trial }, ..terms() };
        assert!(
            matches!(strict.verdict(&good, 1), Verdict::Fail("model_trial_agreement", _)),
            "the site asks for more"
        );
        let lax = Terms { trial: TrialTerms { agreement_min: Some(0.1), ..terms().trial }, ..terms() };
        assert!(matches!(lax.verdict(&seen(100, 50, 0.79), 1), Verdict::Fail(..)), "and cannot ask for less");
        assert_eq!(terms().refuses_stored(&seen(5, 19, 0.1).agreement), None, "too few to judge by");
        assert!(terms().refuses_stored(&seen(5, 20, 0.1).agreement).is_some());
    }
}
