//! Remembers how far each node's audit log reached, as the node said in its signed health: a log that ends earlier later, or in
//! another line, has lost what somebody cut off. It cannot see such a log itself; whoever checks it on the device is told the
//! head by `picket-coordinator audit heads`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use picket_shared::audit::{Act, AuditLog, Head, Note};
use picket_shared::ids::NodeId;
use picket_shared::keyfile::{self, KeyfileError};
use picket_shared::limits::NODES_MAX;
use picket_shared::status::{self, Health};
use serde::{Deserialize, Serialize};

/// Where they are kept, below the data directory.
const FILE: &str = "audit-heads.json";

/// What is remembered of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The farthest that its log has reached.
    pub head: Head,
    /// What it said that cannot follow from that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Head>,
}

/// The heads of a site's nodes, beside the archive.
pub struct Heads {
    path: PathBuf,
    audit: Arc<AuditLog>,
    known: BTreeMap<NodeId, Remembered>,
    read: Option<SystemTime>,
}

impl Heads {
    /// Those below this data directory.
    pub fn open(data_dir: &Path, audit: Arc<AuditLog>) -> Result<Heads, KeyfileError> {
        let mut heads = Heads { path: data_dir.join(FILE), audit, known: BTreeMap::new(), read: None };
        heads.known = read(&heads.path)?;
        heads.read = heads.changed();
        Ok(heads)
    }

    /// What a node's health says of its log.
    pub fn hear(&mut self, now_s: u64, node: &NodeId, health: &[u8]) {
        let Some(head) = status::read::<Health>(health).ok().and_then(|health| health.audit) else { return };
        if self.changed() != self.read {
            // Somebody took a log as it is, by the command line.
            self.known = read(&self.path).unwrap_or_else(|_| std::mem::take(&mut self.known));
            self.read = self.changed();
        }
        let Some(remembered) = self.known.get_mut(node) else {
            if self.known.len() < NODES_MAX {
                self.known.insert(node.clone(), Remembered { head, lost: None });
                self.keep();
            }
            return;
        };
        if remembered.head == head || remembered.lost.as_ref() == Some(&head) {
            return;
        }
        if follows(&remembered.head, &head) {
            remembered.head = head;
        } else if remembered.lost.is_none() {
            let note = Note::about(node).with(format!("it reached {}, and now {head}", remembered.head));
            let _ = self.audit.record(now_s, Act::HeadLost, &note);
            remembered.lost = Some(head);
        } else {
            return;
        }
        self.keep();
    }

    /// What is wrong, in a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let lost =
            self.known.iter().filter_map(|(node, remembered)| Some((node, remembered, remembered.lost.as_ref()?)));
        lost.map(|(node, remembered, lost)| {
            format!(
                "the audit log of {node} reached line {} and now says line {}: lines were cut off, or the device was set up \
                 anew; look into it, then `picket-coordinator audit accept {node}`",
                remembered.head.number, lost.number
            )
        })
        .collect()
    }

    fn keep(&mut self) {
        if let Err(error) = write(&self.path, &self.known) {
            tracing::error!("{error}; how far audit logs reach is not known after a restart");
        }
        self.read = self.changed();
    }

    fn changed(&self) -> Option<SystemTime> {
        std::fs::metadata(&self.path).and_then(|file| file.modified()).ok()
    }
}

/// Whether a log that reached there may reach here later.
fn follows(before: &Head, after: &Head) -> bool {
    after.number > before.number || after == before
}

/// What is remembered below this data directory.
pub fn of(data_dir: &Path) -> Result<BTreeMap<NodeId, Remembered>, KeyfileError> {
    read(&data_dir.join(FILE))
}

/// Forgets what is remembered of a node: what it says next is taken as it is. False where nothing was.
pub fn accept(data_dir: &Path, node: &NodeId) -> Result<bool, KeyfileError> {
    let path = data_dir.join(FILE);
    let mut known = read(&path)?;
    let was = known.remove(node).is_some();
    write(&path, &known)?;
    Ok(was)
}

fn read(path: &Path) -> Result<BTreeMap<NodeId, Remembered>, KeyfileError> {
    match keyfile::read_secret(path) {
        Err(KeyfileError::Missing(_)) => Ok(BTreeMap::new()),
        text => serde_json::from_str(&text?)
            .map_err(|error| KeyfileError::Content(path.to_owned(), format!("is damaged ({error}); remove it"))),
    }
}

fn write(path: &Path, known: &BTreeMap<NodeId, Remembered>) -> Result<(), KeyfileError> {
    keyfile::write_secret(path, &serde_json::to_vec_pretty(known).expect("names, numbers and texts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(number: u64, digit: char) -> Vec<u8> {
        let digest = digit.to_string().repeat(64);
        let audit = serde_json::json!({ "number": number, "digest": digest });
        serde_json::to_vec(
            &serde_json::json!({ "status": "up", "pid": 1, "time": 1, "boot": 1, "epoch": 0, "audit": audit }),
        )
        .unwrap()
    }

    #[test]
    fn a_log_that_goes_back_is_told_until_somebody_takes_it_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Arc::new(AuditLog::open(dir.path(), 1).unwrap());
        let node = NodeId::new("gate-1").unwrap();
        let mut heads = Heads::open(dir.path(), Arc::clone(&audit)).unwrap();
        for (number, digit) in [(3, 'a'), (3, 'a'), (7, 'b')] {
            heads.hear(1, &node, &said(number, digit));
            assert!(heads.problems().is_empty());
        }
        // Cut off; or another line in the place of the last.
        for (number, digit) in [(6, 'c'), (7, 'd')] {
            let mut heads = Heads::open(dir.path(), Arc::clone(&audit)).unwrap();
            heads.hear(1, &node, &said(number, digit));
            let problems = heads.problems();
            assert!(problems[0].contains("audit accept gate-1"), "{problems:?}");
        }
        heads.hear(1, &node, &said(9, 'e'));
        assert!(!heads.problems().is_empty(), "that it grows again heals nothing");
        assert!(accept(dir.path(), &node).unwrap());
        let mut heads = Heads::open(dir.path(), Arc::clone(&audit)).unwrap();
        heads.hear(1, &node, &said(2, 'f'));
        assert!(heads.problems().is_empty());
        assert_eq!(of(dir.path()).unwrap()[&node].head.number, 2);
        assert!(audit.head().unwrap().number >= 1);
    }
}
