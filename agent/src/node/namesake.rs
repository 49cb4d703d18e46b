//! Notices another agent that has this one's name. Both would throw each other off the broker for ever, and nobody would
//! know why.
//!
//! The sign of it is a health message on our own topic that neither we nor an earlier run of ours can have written. It
//! decides nothing: the two send events of boots that differ, so both deliver.

use picket_shared::ids::{Boot, NodeId};
use picket_shared::status::{Health, UpDown};

/// Without a further sign of it for this long, it is gone: the two meet again within the longest back-off.
const FORGOTTEN_AFTER_MS: u64 = 60_000;
/// Wills of an earlier boot that may come late: a crashed run of ours leaves one.
const LATE_WILLS: u32 = 1;

/// What is known of another agent with our name.
#[derive(Debug, Default)]
pub(super) struct Namesake {
    /// Our own health came back to us in this run: from here on our topic holds nothing of an earlier run.
    echoed: bool,
    /// Wills of an earlier boot since then.
    wills: u32,
    /// Its process, and when it was last heard of.
    other: Option<(u32, u64)>,
}

impl Namesake {
    /// Takes in a health message on our own topic; we are this process and boot. True where the problem is news.
    pub(super) fn heard(&mut self, now_ms: u64, me: (u32, Boot), health: &Health) -> bool {
        if (health.pid, health.boot) == me {
            self.echoed = true;
            return false;
        }
        let earlier = health.boot < me.1;
        if earlier && health.status == UpDown::Down && self.echoed {
            self.wills += 1;
        }
        let ours = match health.status {
            // An earlier run of ours has an earlier boot, and its words are replaced by our first.
            UpDown::Up => earlier && !self.echoed,
            UpDown::Down => earlier && self.wills <= LATE_WILLS,
        };
        if ours {
            return false;
        }
        let before = self.other.replace((health.pid, now_ms));
        before.map(|(pid, _)| pid) != Some(health.pid)
    }

    /// True where it has just been forgotten.
    pub(super) fn expired(&mut self, now_ms: u64) -> bool {
        let silent = self.other.is_some_and(|(_, heard_ms)| now_ms - heard_ms >= FORGOTTEN_AFTER_MS);
        if silent {
            self.other = None;
        }
        silent
    }

    /// A sentence for the node's health.
    pub(super) fn problem(&self, node: &NodeId) -> Option<String> {
        let (pid, _) = self.other?;
        Some(format!("another agent with pid {pid} calls itself {node}: give one of them another name"))
    }
}
