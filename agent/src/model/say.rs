//! What a device says of its models, made of what is durable and what is under way.

use std::collections::BTreeMap;

use picket_shared::clock::Now;
use picket_shared::model::{ModelPhase, ModelState, RunningModel, SlotState, TrialFigures};

use super::files;
use super::models::{Course, Models, Next, Stage};
use super::record::{Phase, Place, Release, Slot};
use super::verdict::Seen;

impl Models {
    /// All that there is to say.
    pub(super) fn state(&self, now: Now) -> ModelState {
        let work = self.record.work.as_ref();
        let given_up = self.record.last.as_ref().and_then(|last| last.why.clone()).filter(|_| work.is_none());
        let slow = self.slow_for_ms(now).map(|slow_ms| {
            ("model_slow".to_owned(), format!("nothing new has come for {} s; it is asked for again", slow_ms / 1000))
        });
        let refused = self.refused.as_ref().map(|(word, what)| ((*word).to_owned(), what.clone()));
        let (reason, detail) = refused.or(slow).or(given_up).unzip();
        let (bytes, bytes_wanted) = self.bytes();
        ModelState {
            time: now.unix_ms / 1000,
            phase: self.phase(),
            active: self.running(self.record.active),
            candidate: work.and_then(|work| match &work.release {
                Some(release) => Some(release.running()),
                None => self.running(Place::Factory),
            }),
            bytes,
            bytes_wanted,
            slots: Slot::ALL.map(|slot| self.slot(slot)).to_vec(),
            trial: self.seen.map(|seen| self.figures(&seen)),
            swap_gap_ms: self.swap_gap_ms,
            reason,
            detail,
            root: self.trusted.as_ref().map_or(0, |trusted| trusted.root.version),
            assignment: self.trusted.as_ref().and_then(|trusted| trusted.orders).map_or(0, |orders| orders.number),
            counters: self.trusted.as_ref().map_or_else(BTreeMap::new, |trusted| trusted.counters.clone()),
            learned: self.learned.state(),
        }
    }

    fn phase(&self) -> ModelPhase {
        let phase = self.record.work.as_ref().map(|work| work.phase);
        let last = self.record.last.as_ref().filter(|last| last.why.is_some());
        match (&self.course, phase, last) {
            (Course::Opening | Course::Fetching(..) | Course::Keeping(Next::Open), ..) => ModelPhase::Fetching,
            (Course::Checking, ..) => ModelPhase::Checking,
            (Course::Waiting, ..) => ModelPhase::Waiting,
            (Course::Trying(trial), ..) if trial.stage == Stage::Loading => ModelPhase::Loading,
            (Course::Trying(_), ..) => ModelPhase::Trial,
            (Course::Switching, ..) => ModelPhase::Switching,
            (_, Some(Phase::Probation), _) => ModelPhase::Probation,
            (_, Some(Phase::Trial), _) => ModelPhase::Loading,
            (_, Some(Phase::Fetch), _) => ModelPhase::Fetching,
            _ if self.refused.is_some() => ModelPhase::Refused,
            (_, None, Some(last)) if last.refused => ModelPhase::Refused,
            (_, None, Some(_)) => ModelPhase::RolledBack,
            (_, None, None) => ModelPhase::Idle,
        }
    }

    fn running(&self, place: Place) -> Option<RunningModel> {
        let own = |sha256| RunningModel { name: None, counter: 0, sha256, head: None };
        self.record.release(place).map(Release::running).or_else(|| self.device.factory.map(own))
    }

    fn slot(&self, slot: Slot) -> SlotState {
        let work = self.record.work.as_ref().filter(|work| work.place == Place::Slot(slot));
        let state = match work.map(|work| work.phase) {
            _ if self.record.active == Place::Slot(slot) => "active",
            Some(Phase::Fetch) => "fetching",
            Some(Phase::Trial) if matches!(self.course, Course::Trying(_)) => "trial",
            Some(Phase::Trial | Phase::Probation) => "staged",
            None if !self.record.slots.contains_key(&slot) => "empty",
            None if self.record.previous == Place::Slot(slot) => "previous",
            None => "staged",
        };
        let fetched = work.and_then(|work| work.release.as_ref());
        let model = self.record.slots.get(&slot).or(fetched).map(Release::running);
        SlotState {
            slot: slot.word().into(),
            state: state.into(),
            model,
            attempts: work.map_or(0, |work| work.attempts),
        }
    }

    /// Bytes of the candidate that are here, as they are in the end, and that it has.
    fn bytes(&self) -> (u64, u64) {
        let Some(work) = &self.record.work else { return (0, 0) };
        let Some((release, Place::Slot(slot))) = work.release.as_ref().map(|release| (release, work.place)) else {
            return (0, 0);
        };
        let all: u64 =
            files(slot, &release.manifest, release.head.as_ref()).iter().map(|file| file.artifact.length).sum();
        let part = match &self.course {
            // In proportion: what travels may be smaller than what it becomes.
            Course::Fetching(encoding, fetch) => {
                let length = self.wanted().map_or(0, |wanted| wanted.artifact.length);
                (u128::from(fetch.bytes()) * u128::from(length) / u128::from(encoding.length.max(1))) as u64
            }
            _ => 0,
        };
        if work.phase == Phase::Fetch { (self.bytes_before + part, all) } else { (all, all) }
    }

    fn figures(&self, seen: &Seen) -> TrialFigures {
        let wanted = self.record.work.as_ref().map_or(0, |work| work.trial.shadow_frames);
        TrialFigures {
            frames: seen.agreement.frames,
            frames_wanted: u64::from(wanted),
            agreement: seen.agreement.agreement,
            count_off_mean: seen.agreement.count_off_mean,
            inference_ms: seen.candidate_ms,
            inference_ms_before: seen.active_ms,
        }
    }
}
