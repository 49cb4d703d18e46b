//! What is on record of one node: what it was assigned, and when that was last said. Pure.

use picket_shared::ids::{ModelName, NodeId, StationId};
use picket_shared::learn::lineage::LineageId;
use picket_shared::limits::MODEL_ASSIGNMENT_LIFE_S;
use picket_shared::model::TrialTerms;
use serde::{Deserialize, Serialize};

/// An assignment is said anew when a third of its time is over: two days of a coordinator that does not run are no news to a
/// device.
const RENEW_AFTER_S: u64 = MODEL_ASSIGNMENT_LIFE_S / 3;

/// A release, by what it is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRef {
    /// The model.
    pub name: ModelName,
    /// Which of its releases.
    pub counter: u64,
}

impl std::fmt::Display for ReleaseRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.counter)
    }
}

/// A head that the site learned, by what it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnedRef {
    /// Of which heads.
    pub lineage: LineageId,
    /// Its version.
    pub version: u64,
}

impl std::fmt::Display for LearnedRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the learned head {}", self.version)
    }
}

/// What a person asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wish {
    /// The station that the node watches.
    pub station: StationId,
    /// The release; none where the node runs what its own configuration says.
    pub release: Option<ReleaseRef>,
    /// A head of the site's own in the place of the release's.
    pub head: Option<u64>,
    /// How it is tried.
    pub trial: TrialTerms,
    /// Not to be begun before then, seconds since 1970.
    pub not_before_s: u64,
}

/// What is on record of one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The node.
    pub node: NodeId,
    /// What it shall run.
    #[serde(flatten)]
    pub wish: Wish,
    /// The assignment's number.
    pub number: u64,
    /// When it was said last, seconds since 1970.
    pub issued_s: u64,
    /// The newest root that was said with it.
    pub root: u64,
    /// The learned head that it shall judge by: apart from the wish, because whoever asks for a release says nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<LearnedRef>,
    /// The number that the wish was said under, where only the learned head is news since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish_number: Option<u64>,
}

impl Record {
    /// From when on it is old news.
    pub fn expires_s(&self) -> u64 {
        self.issued_s + MODEL_ASSIGNMENT_LIFE_S
    }

    /// Whether it is to be said anew, under a new number: its time runs out, there is a newer root, or the clock was set back.
    pub fn is_stale(&self, root: u64, now_s: u64) -> bool {
        self.root != root || !(self.issued_s..self.issued_s + RENEW_AFTER_S).contains(&now_s)
    }
}

/// The number of the next assignment. Where the last one is not known any more, the time is higher than any count.
pub fn next_number(last: u64, now_s: u64) -> u64 {
    now_s.max(last.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_said_anew_long_before_it_is_old_news() {
        let wish = Wish {
            station: StationId::new("gate").unwrap(),
            release: None,
            head: None,
            trial: TrialTerms::default(),
            not_before_s: 0,
        };
        let record = Record {
            node: NodeId::new("n").unwrap(),
            wish,
            number: 1,
            issued_s: 1_000_000,
            root: 2,
            learned: None,
            wish_number: None,
        };
        let stale = |root, now_s| record.is_stale(root, now_s);
        assert!(!stale(2, 1_000_000) && !stale(2, 1_000_000 + RENEW_AFTER_S - 1));
        assert!(stale(2, 1_000_000 + RENEW_AFTER_S) && stale(3, 1_000_000) && stale(2, 999_999));
        assert!(record.expires_s() > 1_000_000 + 2 * RENEW_AFTER_S);
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }

    #[test]
    fn numbers_grow_whatever_was_lost() {
        assert_eq!((next_number(0, 100), next_number(100, 100), next_number(500, 100)), (100, 101, 501));
    }
}
