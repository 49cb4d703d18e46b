//! The coordinator's task, as far as operators come to it: what they order at the page or say at the broker goes to the thread that
//! learns, where this coordinator leads. Nothing is decided here.

use picket_shared::audit::{Act, Note};
use picket_shared::ids::{NodeId, OperatorName};

use super::Shell;
use crate::learn::{learner, order};
use crate::swarm::Refusal;

impl Shell {
    /// Hands on what an operator orders; if not, why.
    pub(super) fn ordered(&self, order: learner::Order) -> Result<(), &'static str> {
        if self.study.is_none() {
            return Err("nothing is learned here; [learn] enabled says whether");
        }
        if self.core.leads_under().is_none() {
            return Err("this coordinator does not lead; order it at the one that does");
        }
        self.learn(learner::Input::Order(order)).then_some(()).ok_or("too much waits to be learned from; try again")
    }

    /// What an operator's program says of events at the broker: written down, and then handed on. Who does not lead passes it over.
    pub(super) fn operator_said(&self, name: &OperatorName, payload: &[u8]) -> Result<(), Refusal> {
        if self.core.leads_under().is_none() {
            return Ok(());
        }
        let now = self.clock.now();
        let last = |node: &NodeId, by_s| self.core.last_event_of(node, by_s);
        let order = order::said(name, payload, now.unix_ms as f64 / 1000.0, last)?;
        // A program may say much: what it says must not push all else out of the log.
        let note = Note::about("learn labels").by(name.as_str()).with("said at the broker");
        if let Err(error) = self.audit.record_damped(now.unix_ms / 1000, Act::OperatorOrdered, &note) {
            return Err(("operator_unwritten", format!("{error}; what {name} says is passed over")));
        }
        self.ordered(order).map_err(|sentence| ("operator_order", format!("labels by {name}: {sentence}")))
    }
}
