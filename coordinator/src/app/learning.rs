//! The coordinator's task, as far as learning comes to it: it hands on what nodes say to the thread that learns, and says what that
//! thread answers, where this coordinator leads. Nothing is decided here.

use super::Shell;
use crate::coordinator::Input;
use crate::learn::{learner, voice};

impl Shell {
    /// Hands something to the thread that learns; false where too much waits there.
    pub(super) fn learn(&self, input: learner::Input) -> bool {
        self.study.as_ref().is_none_or(|study| study.hand(input))
    }

    /// Hands over what neighbours agree on, where this coordinator leads.
    pub(super) fn agree(&mut self) {
        let now = self.clock.now();
        let labels = self.agreement.tick(now, |spot| self.core.watches(now, &spot.station, &spot.camera));
        if !labels.is_empty() && self.core.leads_under().is_some() {
            // Where too much waits there, these few are lost.
            self.learn(learner::Input::Agreed(labels));
        }
    }

    /// What the thread that learns says, where this coordinator leads.
    pub(super) fn learned(&mut self, effect: learner::Effect) -> Input {
        let said = voice::message(&effect);
        match effect {
            learner::Effect::Release(release) if self.core.leads_under().is_some() => self.fleet.release(release),
            learner::Effect::Refused(word, detail) => return Input::Refused(word, detail),
            learner::Effect::View(view) => self.learning = Some(view),
            _ => {}
        }
        if let Some((topic, payload)) = said.filter(|_| self.core.leads_under().is_some() && self.core.link_is_up()) {
            self.outgoing.push(topic, payload);
        }
        Input::Tick
    }
}
