//! Remembers how far each coordinator's audit log reached, as it says itself in its signed health, and says so where it does not any
//! more: whoever takes a coordinator's machine can cut off what he did there, and not what devices heard of it.
//!
//! It hinders nothing: a coordinator is followed all the same, because that a place is watched matters more.

use std::path::Path;
use std::sync::Arc;

use picket_shared::audit::heads::{Heads, Said};
use picket_shared::audit::{Act, AuditLog, Note};
use picket_shared::status::{self, Health};

/// Coordinators of one site that are remembered: those that lead in turn, and what they were called before.
const COORDINATORS_MAX: usize = 16;

/// The heads of a site's coordinators, beside the device's own log.
pub(super) struct Watched {
    audit: Arc<AuditLog>,
    /// Or why they cannot be read, in a sentence.
    heads: Result<Heads, String>,
}

impl Watched {
    /// Those below this data directory.
    pub(super) fn open(data_dir: &Path, audit: Arc<AuditLog>) -> Watched {
        let heads = Heads::open(data_dir, COORDINATORS_MAX);
        Watched { audit, heads: heads.map_err(|error| format!("{error}; no coordinator's audit log is remembered")) }
    }

    /// What a coordinator says of itself, and who signed it was checked. Of several each counts by itself, so a broker can say an
    /// earlier word again: by the coordinator's own clock it is known for one.
    pub(super) fn hear(&mut self, now_s: u64, health: &[u8]) {
        let Ok(Health { name: Some(name), audit: Some(head), time, .. }) = status::read(health) else { return };
        let Ok(heads) = &mut self.heads else { return };
        if let Some(reached) = heads.hear(&name, Said { head: head.clone(), said_s: time }) {
            let note = Note::about(format!("coordinator {name}")).with(format!("it reached {reached}, and now {head}"));
            let _ = self.audit.record(now_s, Act::HeadLost, &note);
        }
    }

    /// What is wrong, in a sentence each.
    pub(super) fn problems(&self) -> Vec<String> {
        match &self.heads {
            Err(sentence) => vec![sentence.clone()],
            Ok(heads) => heads
                .lost()
                .map(|(name, reached, now)| {
                    format!(
                        "the audit log of the coordinator {name} reached line {} and now says line {}: lines were cut off, or \
                         it was set up anew; look into it, then `picket-agent audit accept-coordinator {name}`",
                        reached.number, now.number
                    )
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(name: &str, number: u64, time: u64) -> Vec<u8> {
        let audit = serde_json::json!({ "number": number, "digest": "a".repeat(64) });
        let health = serde_json::json!({
            "status": "up", "pid": 1, "time": time, "boot": 1, "epoch": 1, "audit": audit, "name": name,
        });
        serde_json::to_vec(&health).unwrap()
    }

    #[test]
    fn a_coordinators_log_that_goes_back_is_told_by_its_name_and_an_earlier_word_is_not_taken_for_that() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Arc::new(AuditLog::open(dir.path(), 1).unwrap());
        let mut watched = Watched::open(dir.path(), Arc::clone(&audit));
        for (name, number, time) in [("main", 7, 100), ("standby", 2, 101), ("main", 9, 102), ("main", 7, 100)] {
            watched.hear(1, &health(name, number, time));
        }
        // A will says nothing of a log.
        watched.hear(
            1,
            &serde_json::to_vec(&serde_json::json!({ "status": "down", "pid": 1, "time": 9, "boot": 1, "epoch": 0 }))
                .unwrap(),
        );
        assert_eq!(watched.problems(), [""; 0]);
        let mut watched = Watched::open(dir.path(), Arc::clone(&audit));
        watched.hear(1, &health("main", 3, 110));
        let problems = watched.problems();
        assert!(problems[0].contains("coordinator main reached line 9 and now says line 3"), "{problems:?}");
        assert!(problems[0].contains("accept-coordinator main") && problems.len() == 1, "{problems:?}");
        assert!(audit.head().unwrap().number > 0, "it is written down");
        std::fs::write(dir.path().join("audit-heads.json"), "{").unwrap();
        assert!(Watched::open(dir.path(), audit).problems()[0].contains("is remembered"));
    }
}
