//! What becomes of a candidate after what was seen of it: it is committed, given up with the reason, or looked at for longer.
//!
//! Pure. The measure is [`crate::detect::agreement`]; what must be reached the manifest's owner and the site say.

use picket_shared::model::{Floors, TrialTerms};

use crate::detect::agreement::{Agreement, BOXES_MIN};

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
