//! Heads: which of those that the coordinator says are for this device, and which one is judged by.

use std::sync::Arc;

use picket_shared::learn::lineage::Lineage;
use picket_shared::learn::message::{HeadDelta, HeadFull};
use picket_shared::learn::packed::Feedback;

use super::super::judge::Head;
use super::super::lesson::{Comparison, Lesson};
use super::super::released::Released;
use super::{Effect, Student};

impl Student {
    /// The whole head of a lineage.
    pub(super) fn whole(&mut self, full: HeadFull, effects: &mut Vec<Effect>) -> Result<(), (&'static str, String)> {
        self.for_this_device(&full.lineage)?;
        let head = full.head().map_err(|error| ("head", error.to_string()))?;
        self.adopt(&full.lineage);
        if self.wanted == full.frozen {
            effects.push(Effect::Tell(match full.frozen {
                true => "learning is frozen by the coordinator".into(),
                false => format!("learning with the site, from version {}", full.version),
            }));
        }
        self.wanted = !full.frozen;
        self.changed |= self.released.is_on != full.releases;
        self.released.is_on = full.releases;
        // What stands at the broker is heard again on each connection.
        if self.whole.as_ref().is_some_and(|(version, known)| *version == full.version && *known == head) {
            return Ok(());
        }
        self.whole = Some((full.version, head.clone()));
        self.follow(full.version, head, effects);
        Ok(())
    }

    /// Whether heads of a lineage can be judged by here at all.
    pub(super) fn for_this_device(&self, theirs: &Lineage) -> Result<(), (&'static str, String)> {
        let ours = &self.lineage;
        if !theirs.backbone.eq_ignore_ascii_case(&self.backbone.sha256) {
            return Err((
                "head_backbone",
                format!("a head for the network {}; this device has another", theirs.backbone),
            ));
        }
        // Before its first head a device counts 0.
        if theirs.fleet_epoch == 0 || !self.can_use(&theirs.shape) {
            let sentence = format!(
                "a head of {:?} in the fleet epoch {}; this device cannot use it",
                theirs.shape, theirs.fleet_epoch
            );
            return Err(("head_shape", sentence));
        }
        if theirs.fleet_epoch < ours.fleet_epoch {
            let sentence = format!("a head of the fleet epoch {}; {} has begun", theirs.fleet_epoch, ours.fleet_epoch);
            return Err(("head_old", sentence));
        }
        Ok(())
    }

    /// Goes on with heads of this lineage.
    pub(super) fn adopt(&mut self, theirs: &Lineage) {
        if theirs.id() != self.lineage.id() {
            self.begin_lineage(theirs.clone());
        }
    }

    /// A newer one, against the whole one.
    pub(super) fn newer(&mut self, delta: &HeadDelta, effects: &mut Vec<Effect>) -> Result<(), (&'static str, String)> {
        if delta.lineage != self.lineage.id() {
            return Err((
                "delta_lineage",
                format!("a change of the head {}; {} is learned", delta.lineage, self.lineage.id()),
            ));
        }
        let Some((version, whole)) = &self.whole else {
            return Err(("delta_base", "a change of a head that was not heard".into()));
        };
        if delta.base == *version && delta.version <= self.version {
            return Ok(());
        }
        let head = delta.head(*version, whole).map_err(|error| ("delta_base", error.to_string()))?;
        self.follow(delta.version, head, effects);
        Ok(())
    }

    /// Begins with other heads: what was learned of the ones before says nothing of these.
    fn begin_lineage(&mut self, lineage: Lineage) {
        let head = lineage.shape.beginning();
        if lineage.shape != self.lineage.shape {
            self.lesson = Lesson::new(lineage.shape);
            (self.own, self.used) = (vec![0.0; head.len()], head.clone());
        } else if self.lineage.fleet_epoch > 0 {
            // What it learned alone before it heard of any fleet stays its own.
            self.own = vec![0.0; head.len()];
        }
        self.feedback = Feedback::new(head.len());
        drop(self.post.withdraw());
        (self.whole, self.version, self.shared, self.lineage) = (None, 0, head, lineage);
        (self.released, self.refused, self.compare_at) = (Released::default(), None, 0);
        self.changed = true;
    }

    /// Takes a head of this lineage.
    fn follow(&mut self, version: u64, head: Vec<f32>, effects: &mut Vec<Effect>) {
        (self.version, self.shared) = (version, head);
        self.changed = true;
        // From a head that the coordinator does not know nothing would ever be taken.
        if self.post.pending.as_ref().is_some_and(|pending| pending.base > version)
            && let Some(unsaid) = self.post.withdraw()
        {
            let kept = self.feedback.take_back(&unsaid.change);
            kept.expect("an update of ours is of the head that it was made of");
        }
        self.status.heads += 1;
        self.consider(effects);
    }

    /// The head of the site that the own part is learned for, and judged with: the released one where the site releases.
    pub(super) fn base(&self) -> Vec<f32> {
        match self.released.is_on {
            true => self.released.base(self.lineage.shape.beginning()),
            false => self.shared.clone(),
        }
    }

    /// Held-out examples of nobody and of somebody.
    pub(super) fn held_out(&self) -> [usize; 2] {
        [false, true].map(|person| self.examples.count(true, person))
    }

    /// Whether there are enough of them to compare heads by.
    pub(super) fn can_compare(&self) -> bool {
        let (least, of_label) = (self.terms.held_out_min, self.held_out());
        of_label.iter().sum::<usize>() >= least && of_label.iter().all(|count| *count >= least.div_ceil(5))
    }

    /// Goes back to the network alone where too little is held out any more to tell that what is judged by is better: persons said of what
    /// spoke for it that it was something else. A station that judges by a wrong head may see nobody at all; then nothing new comes that
    /// heads could be compared by, and it would stay blind.
    pub(super) fn doubt(&mut self, effects: &mut Vec<Effect>) {
        let network = self.lineage.shape.beginning();
        // To a head that was good enough once a person may go back without a verdict, and so it stays.
        if self.can_compare() || self.used == network || self.released.is_ordered() {
            return;
        }
        self.released.give_up();
        self.compare_at = 0;
        self.status.given_up += 1;
        self.status.comparison = None;
        let version = self.used_version;
        self.status.why = format!("the head of version {version} is judged by no more: {}", self.too_few());
        effects.push(Effect::Tell(self.status.why.clone()));
        (self.used, self.used_version) = (network, 0);
        (self.changed, self.urgent) = (true, true);
        self.seat(effects);
    }

    /// What is held out, where that is too little to compare heads by.
    fn too_few(&self) -> String {
        let ([nobody, people], least) = (self.held_out(), self.terms.held_out_min);
        format!(
            "{people} people and {nobody} others are held out; {least} are needed to compare heads, {} of each at least",
            least.div_ceil(5)
        )
    }

    /// Judges by the site's head and the own part from now on, where that surely does not lose.
    pub(super) fn consider(&mut self, effects: &mut Vec<Effect>) {
        let version = if self.released.is_on { self.released.version } else { self.version };
        let new: Vec<f32> = self.base().iter().zip(&self.own).map(|(shared, own)| shared + own).collect();
        if new == self.used {
            return;
        }
        let enough = self.can_compare();
        let comparison = enough.then(|| self.lesson.compare(&self.examples, &self.used, &new)).flatten();
        self.status.comparison = comparison;
        let Some(comparison) = comparison else {
            self.status.why = self.too_few();
            return;
        };
        if !comparison.accepts() {
            let Comparison { samples, difference, error, .. } = comparison;
            self.status.kept += 1;
            self.status.why = format!(
                "the head of version {} stays: on {samples} examples the one of version {} loses {difference:.4} ± {error:.4}",
                self.used_version, version
            );
            return;
        }
        let Comparison { samples, difference, .. } = comparison;
        if self.used_version != version || self.status.taken == 0 {
            effects.push(Effect::Tell(format!(
                "judging by the head of version {}: better by {:.4} on {samples} examples",
                version, -difference
            )));
        }
        (self.used, self.used_version) = (new, version);
        self.status.taken += 1;
        self.status.why = String::new();
        self.changed = true;
        self.seat(effects);
    }

    /// Asks for what is judged by to be judged by.
    pub(super) fn seat(&self, effects: &mut Vec<Effect>) {
        let (backbone, shape, numbers) = (Arc::clone(&self.backbone), self.lineage.shape, self.used.clone());
        effects.push(Effect::Seat(Head { backbone, shape, numbers }));
    }
}
