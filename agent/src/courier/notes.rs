//! What the courier writes into the device's audit log: which orders it follows, and which model runs from when on. It hinders nothing.

use picket_shared::audit::{Act, Note};
use picket_shared::calendar::unix_s;
use picket_shared::crypto::sha256_hex;
use picket_shared::topics::Topic;

use super::{Courier, Watcher};
use crate::model::change;
use crate::model::record::Record;

impl<W: Watcher> Courier<W> {
    /// Writes down which order it follows, where that says something else than before. It is followed in any case: that a station is
    /// watched matters more, and that the log cannot be written stands in the health.
    pub(super) fn note_order(&mut self, topic: &Topic, message: &[u8]) {
        let what = match topic {
            Topic::Standby(_) => "standby",
            Topic::ModelAssignment(_) => "model assignment",
            Topic::CoordinatorHealth => {
                return self.watched.iter_mut().for_each(|watched| watched.hear(unix_s(), message));
            }
            _ => return,
        };
        let (Some(audit), digest) = (&self.audit, sha256_hex(message)) else { return };
        if self.followed.get(what) != Some(&digest) {
            let note = Note::about(what).with(format!("SHA-256 {digest}"));
            let _ = audit.record(unix_s(), Act::OrderTaken, &note);
            self.followed.insert(what, digest);
        }
    }

    /// Writes down that another model runs from here on, or why one does not, before that is so. Like orders it is followed in any
    /// case.
    pub(super) fn note_models(&mut self, record: &Record) {
        if let (Some(change), Some(audit)) = (change::between(&self.models, record), &self.audit) {
            let note = Note::about(change.model).with(change.what);
            let _ = audit.record(unix_s(), Act::ModelChanged, &note);
        }
        self.models.clone_from(record);
    }
}
