//! Remembers how far each node's audit log reached, and says so where it does not any more. Whoever checks such a log on the device
//! is told the head by `picket-coordinator audit heads`. What is remembered, and where, is `picket_shared::audit::heads`.

use std::path::Path;
use std::sync::Arc;

use picket_shared::audit::heads::{Heads as Remembered, Said};
use picket_shared::audit::{Act, AuditLog, Note};
use picket_shared::ids::NodeId;
use picket_shared::keyfile::KeyfileError;
use picket_shared::limits::NODES_MAX;
use picket_shared::status::{self, Health};

/// The heads of a site's nodes, beside the archive.
pub struct Heads {
    audit: Arc<AuditLog>,
    nodes: Remembered,
}

impl Heads {
    /// Those below this data directory.
    pub fn open(data_dir: &Path, audit: Arc<AuditLog>) -> Result<Heads, KeyfileError> {
        Ok(Heads { audit, nodes: Remembered::open(data_dir, NODES_MAX)? })
    }

    /// What a node's health says of its log.
    pub fn hear(&mut self, now_s: u64, node: &NodeId, health: &[u8]) {
        let Some(head) = status::read::<Health>(health).ok().and_then(|health| health.audit) else { return };
        // What nodes say of themselves is numbered: nothing of it comes again.
        if let Some(reached) = self.nodes.hear(node, Said { head: head.clone(), said_s: 0 }) {
            let note = Note::about(node).with(format!("it reached {reached}, and now {head}"));
            let _ = self.audit.record(now_s, Act::HeadLost, &note);
        }
    }

    /// What is wrong, in a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let problem = |(node, reached, now): (&NodeId, &picket_shared::audit::Head, &picket_shared::audit::Head)| {
            format!(
                "the audit log of {node} reached line {} and now says line {}: lines were cut off, or the device was set up \
                 anew; look into it, then `picket-coordinator audit accept {node}`",
                reached.number, now.number
            )
        };
        self.nodes.lost().map(problem).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::audit::heads;

    fn said(number: u64, digit: char) -> Vec<u8> {
        let digest = digit.to_string().repeat(64);
        let audit = serde_json::json!({ "number": number, "digest": digest });
        serde_json::to_vec(
            &serde_json::json!({ "status": "up", "pid": 1, "time": 1, "boot": 1, "epoch": 0, "audit": audit }),
        )
        .unwrap()
    }

    #[test]
    fn a_nodes_log_that_goes_back_is_told_and_written_down_until_somebody_takes_it_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Arc::new(AuditLog::open(dir.path(), 1).unwrap());
        let node = NodeId::new("gate-1").unwrap();
        let mut heads = Heads::open(dir.path(), Arc::clone(&audit)).unwrap();
        heads.hear(1, &node, &said(7, 'b'));
        assert!(heads.problems().is_empty());
        heads.hear(1, &node, &said(6, 'c'));
        assert!(heads.problems()[0].contains("audit accept gate-1"), "{:?}", heads.problems());
        let lines = audit.head().unwrap().number;
        heads.hear(1, &node, &said(6, 'c'));
        assert_eq!(audit.head().unwrap().number, lines, "it is written down once");
        assert!(heads::accept(dir.path(), &node).unwrap());
        heads.hear(1, &node, &said(2, 'f'));
        assert!(heads.problems().is_empty());
        assert!(lines >= 1);
    }
}
