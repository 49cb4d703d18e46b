//! Released heads: the newest is judged by, or is not, by this station's own held-out examples alone.

use picket_shared::model::LearnedManifest;

use super::super::lesson::Comparison;
use super::super::released::Verdict;
use super::{Effect, Student};

/// Held-out examples that must come before a release is compared again, at least.
const COMPARE_AGAIN_MIN: u64 = 4;

impl Student {
    /// A release has come, whose signature was checked.
    pub(super) fn release(
        &mut self,
        manifest: &LearnedManifest,
        bytes: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), (&'static str, String)> {
        self.for_this_device(&manifest.lineage)?;
        let head = manifest.numbers(bytes).map_err(|refusal| (refusal.word(), refusal.to_string()))?;
        self.adopt(&manifest.lineage);
        if self.released.hear(manifest.counter, &head, manifest.revert_of.is_some()) {
            (self.changed, self.refused, self.compare_at) = (true, None, 0);
            self.try_release(effects);
        }
        Ok(())
    }

    /// Decides about the newest release, where something is held out that it was not compared on in vain.
    pub(super) fn try_release(&mut self, effects: &mut Vec<Effect>) {
        if !self.released.is_undecided() {
            return;
        }
        // Each look at the same examples is another chance to be wrong: they are looked at again when there are half as many more.
        if !self.released.is_known_revert() && (!self.can_compare() || self.held_out_taken < self.compare_at) {
            return;
        }
        let Some(head) = self.released.candidate(self.used.len()) else { return };
        // The own part was learned for the head before; where it does not fit this one it begins anew.
        let with_own: Vec<f32> = head.iter().zip(&self.own).map(|(head, own)| head + own).collect();
        let lesson = |student: &mut Student, new: &[f32]| {
            let enough = student.can_compare();
            enough.then(|| student.lesson.compare(&student.examples, &student.used, new)).flatten()
        };
        let (kept, alone) = (lesson(self, &with_own), lesson(self, &head));
        let better = |(kept, alone): (Comparison, Comparison)| kept.difference <= alone.difference;
        let keeps_own = kept.zip(alone).is_some_and(better);
        let by = if keeps_own { kept } else { alone };
        let known = self.released.is_known_revert();
        if by.is_none() && !known {
            return;
        }
        // What a station learned of its own may be better here than any head that is for all: that speaks against a release only
        // where the release loses to the one before it as well.
        let last = self.base();
        let loses = by.is_some_and(|by| by.rejects())
            && self.lesson.compare(&self.examples, &last, &head).is_some_and(|by| by.rejects());
        let verdict = match by {
            _ if known => Verdict::Taken,
            Some(by) if by.accepts() => Verdict::Taken,
            _ if loses => Verdict::Lost,
            _ => Verdict::Waits,
        };
        self.compare_at = self.held_out_taken + by.map_or(0, |by| by.samples as u64 / 2).max(COMPARE_AGAIN_MIN);
        self.released.decide(verdict, by);
        (self.changed, self.urgent, self.status.comparison) = (true, true, by.or(self.status.comparison));
        let version = self.released.trial.as_ref().map_or(0, |trial| trial.version);
        let state = by.map_or_else(String::new, |by| {
            format!(": {:+.4} ± {:.4} on {} held-out examples", by.difference, by.error, by.samples)
        });
        if verdict != Verdict::Taken {
            self.status.kept += u64::from(verdict == Verdict::Lost);
            let why = match by {
                _ if verdict == Verdict::Lost => "it loses",
                Some(by) if by.rejects() => "what this station learned of its own is better here",
                _ => "that is not sure yet",
            };
            self.status.why = format!("the release {version} is not judged by, because {why}{state}");
            effects.push(Effect::Tell(self.status.why.clone()));
            return;
        }
        if !keeps_own {
            self.own.fill(0.0);
        }
        (self.used, self.used_version) = (if keeps_own { with_own } else { head }, version);
        self.status.taken += 1;
        self.status.why = String::new();
        let back = if known { "gone back to" } else { "judging by" };
        effects.push(Effect::Tell(format!("{back} the release {version} of the head{state}")));
        self.seat(effects);
    }
}
