//! What a device does about an assignment: takes it up, or knows it already, or refuses it by name.

use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::model::{Assignment, Facts, Outcome, Plan, Refusal, verify};

use super::models::{Models, Next};
use super::record::{Ended, Phase, Place, Release, Slot, Work};
use super::{Device, Order, Refused};
use crate::detect::layout::Family;

impl Models {
    /// An assignment has come. One that is refused changes nothing but what was seen, and is said.
    pub fn assignment(&mut self, now: Now, payload: &[u8], out: &mut Vec<Order>) -> Result<(), Refused> {
        let assignment =
            codec::decode::<Assignment>(payload).map_err(|error| (error.word(), format!("an assignment: {error}")));
        let judged = assignment.and_then(|assignment| self.judge(now, &assignment, out));
        self.changed = true;
        self.refused = judged.as_ref().err().cloned();
        if let Ok(plan) = judged.as_ref() {
            self.assign(plan.clone(), out);
        }
        self.move_on(now, out);
        judged.map(drop)
    }

    /// What comes of an assignment; nothing where no root is known. What was seen of it is kept.
    pub(super) fn verified(&mut self, now: Now, assignment: &Assignment, out: &mut Vec<Order>) -> Option<Outcome> {
        let Device { node, station, arch, providers, memory_bytes, runtime_api, .. } = &self.device;
        let facts = Facts {
            node,
            station,
            orders: self.orders.as_ref(),
            arch,
            providers,
            memory_bytes: *memory_bytes,
            runtime_api: *runtime_api,
            learns: self.learned.learns(),
        };
        let outcome = verify(self.trusted.as_ref()?, assignment, &facts, now.unix_ms / 1000);
        if self.trusted.as_ref() != Some(&outcome.trusted) {
            self.trusted = Some(outcome.trusted.clone());
            // Before anything follows from it, whatever the verdict is.
            self.keep_only(out);
        }
        Some(outcome)
    }

    fn judge(&mut self, now: Now, assignment: &Assignment, out: &mut Vec<Order>) -> Result<Plan, Refused> {
        let missing = Refusal::RootMissing;
        let outcome = self.verified(now, assignment, out);
        let Outcome { verdict, learned, .. } = outcome.ok_or_else(|| (missing.word(), missing.to_string()))?;
        let newest = self.trusted.as_ref().and_then(|trusted| trusted.orders).map(|seen| seen.number);
        let is_ours = (&assignment.node, &assignment.station) == (&self.device.node, &self.device.station);
        if is_ours && newest == Some(assignment.number) {
            let unit = self.unit();
            self.learned.assign(now.mono_ms, learned, unit, out);
            self.heard = Some(Box::new(assignment.clone()));
        }
        let plan = verdict.map_err(|refusal| (refusal.word(), refusal.to_string()))?;
        match plan.release.as_ref().and_then(|manifest| manifest.family.as_deref()) {
            Some(word) if Family::of_word(word).is_none() => Err((
                "model_family",
                format!("the release is of the family {word}, which this program does not know; upgrade it"),
            )),
            _ => Ok(plan),
        }
    }

    /// An assignment holds.
    fn assign(&mut self, plan: Plan, out: &mut Vec<Order>) {
        let Plan { number, release, head, trial, not_before_s } = plan;
        let release = release.map(|manifest| Release { manifest, head });
        if let Some(work) = self.record.work.as_mut().filter(|work| same(work.release.as_ref(), release.as_ref())) {
            let before = work.clone();
            // Only its time was renewed, or its terms.
            (work.number, work.not_before_s, work.trial) = (number, not_before_s, trial);
            if *work != before {
                self.keep_only(out);
            }
            return;
        }
        let runs = same(self.record.release(self.record.active), release.as_ref());
        if self.record.work.is_none() && (runs || self.was_given_up(number, release.as_ref())) {
            return self.nothing_to_do(number, release.as_ref(), runs, out);
        }
        self.drop_work(number, out);
        if same(self.record.release(self.record.active), release.as_ref()) {
            self.keep(Next::Nothing, out);
            return self.nothing_to_do(number, release.as_ref(), true, out);
        }
        let there =
            Slot::ALL.into_iter().find(|slot| release.is_some() && same(self.record.slots.get(slot), release.as_ref()));
        let (place, phase) = match (&release, there) {
            (None, _) => (Place::Factory, Phase::Trial),
            (Some(_), Some(slot)) => (Place::Slot(slot), Phase::Trial),
            (Some(_), None) => (Place::Slot(self.record.free()), Phase::Fetch),
        };
        match (place, phase, &release) {
            // What is written over is not there any more, from before the first byte.
            (Place::Slot(slot), Phase::Fetch, _) => drop(self.record.slots.remove(&slot)),
            // The same files, by the newer word.
            (Place::Slot(slot), _, Some(release)) => drop(self.record.slots.insert(slot, release.clone())),
            _ => {}
        }
        self.record.work = Some(Work { number, release, trial, not_before_s, place, phase, attempts: 0 });
        self.keep(if phase == Phase::Fetch { Next::Open } else { Next::Try }, out);
    }

    /// It runs already, or was given up; its number counts.
    fn nothing_to_do(&mut self, number: u64, release: Option<&Release>, runs: bool, out: &mut Vec<Order>) {
        let before = self.record.last.clone();
        if runs {
            let model = release.map(Release::running);
            self.record.last = Some(Ended { number, model, why: None, refused: false });
        } else if let Some(last) = &mut self.record.last {
            last.number = number;
        }
        if self.record.last != before {
            self.keep_only(out);
        }
    }

    /// The same was tried before, and is not tried again because somebody says it again; but what could not be tried is.
    fn was_given_up(&self, number: u64, release: Option<&Release>) -> bool {
        let Some(last) = &self.record.last else { return false };
        let Some((word, _)) = &last.why else { return false };
        let again = last.refused || word == "model_trial_unseen";
        last.number == number || !again && last.model.is_some() && last.model == release.map(Release::running)
    }

    /// What is under way is not wanted any more.
    fn drop_work(&mut self, by: u64, out: &mut Vec<Order>) {
        let Some(work) = &self.record.work else { return };
        match work.phase {
            Phase::Fetch => out.extend([Order::Listen(None), Order::Discard]),
            Phase::Trial => out.push(Order::StopTrial),
            // It runs; the next one is tried beside it, and replaces it or not.
            Phase::Probation => return self.record.commit(),
        }
        self.record.end("model_replaced", format!("another was assigned in its place, by number {by}"), false);
    }
}

/// Whether both would do the same; no release is what the configuration names.
fn same(one: Option<&Release>, other: Option<&Release>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_like(other),
        (one, other) => one.is_none() && other.is_none(),
    }
}
