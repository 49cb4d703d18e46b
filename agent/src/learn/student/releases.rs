//! Released heads: the newest is judged by, or is not, by this station's own held-out examples alone.

use picket_shared::model::LearnedManifest;

use super::super::lesson::Comparison;
use super::{Effect, Student};

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
            (self.changed, self.refused, self.compared_on) = (true, None, None);
            self.try_release(effects);
        }
        Ok(())
    }

    /// Decides about the newest release, where something is held out that it was not compared on in vain.
    pub(super) fn try_release(&mut self, effects: &mut Vec<Effect>) {
        if !self.released.is_undecided() {
            return;
        }
        let held_out = Some(self.held_out().iter().sum());
        if std::mem::replace(&mut self.compared_on, held_out) == held_out {
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
        let taken = known || by.is_some_and(|by| by.accepts());
        self.released.decide(taken, by);
        (self.changed, self.urgent, self.status.comparison) = (true, true, by.or(self.status.comparison));
        let version = self.released.trial.as_ref().map_or(0, |trial| trial.version);
        let state = by.map_or_else(String::new, |by| {
            format!(": {:+.4} ± {:.4} on {} held-out examples", by.difference, by.error, by.samples)
        });
        if !taken {
            self.status.kept += 1;
            self.status.why = format!("the release {version} is not judged by, because it loses{state}");
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
