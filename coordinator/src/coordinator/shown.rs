//! What the coordinator shows of its site and says of itself. It changes nothing but when the next word is due. Pure.

use picket_shared::clock::Now;
use picket_shared::ids::NodeId;
use picket_shared::status::{Health, UpDown};
use picket_shared::topics::Topic;
use picket_shared::view::{NodeView, Site};

use super::{Coordinator, Effect};
use crate::lead::SAY_AGAIN_MS;
use crate::view::{self, NodeState, SITE_VIEW_MS_MAX, VIEW_MS_MIN};

impl Coordinator {
    /// Readers take an old site view for a dead coordinator, so it is said again even when nothing changed.
    pub(super) fn site_fresh_until_ms(&self) -> u64 {
        self.site_view.not_before_ms + (SITE_VIEW_MS_MAX - VIEW_MS_MIN)
    }

    pub(super) fn site_document(&mut self, now: Now) -> Vec<u8> {
        let site = Site {
            site: self.me.site.clone(),
            time: now.unix_ms as f64 / 1000.0,
            events_archived: self.intake.events_archived(),
            events_duplicate: self.intake.events_duplicate(),
            events_missed: self.intake.events_missed(),
            rejected: self.rejected.values().sum(),
            nodes: self.swarm.nodes().iter().map(|(id, node)| self.line(now, id, node)).collect(),
            leader: self.swarm.leader(),
            stations: self.swarm.stations(),
            changes: self.swarm.changes(),
        };
        let (document, trimmed) = view::site_document(site);
        if trimmed {
            *self.rejected.entry("view_too_large").or_default() += 1;
        }
        document
    }

    pub(super) fn line(&self, now: Now, id: &NodeId, node: &NodeState) -> NodeView {
        node.view(now, id, self.intake.events(id), self.intake.events_missed_of(id))
    }

    pub(super) fn say_health(&mut self, now: Now, status: UpDown, out: &mut Vec<Effect>) {
        let Some(leader) = self.lead.epoch() else { return };
        self.say_again_ms = now.mono_ms + SAY_AGAIN_MS;
        let goodbye = status == UpDown::Down;
        let audit = self.audit_head.clone();
        let health = Health { goodbye, audit, ..self.me.health(now, status, leader, self.problems()) };
        out.push(Effect::Publish { topic: Topic::CoordinatorHealth, payload: view::json(&health) });
    }
}
