//! What a node tells the platform that carries it: go there, or stay there no longer.
//!
//! JSON, so that any controller reads it. It is an order and not a state: who obeys it must do so once for each epoch and
//! action, refuse a lower epoch of the same station, and go home by itself where the node is down.

use serde::{Deserialize, Serialize};

use crate::duty::How;
use crate::ids::{NodeId, StationId};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Be where the station can be seen.
    Go,
    /// Stay there no longer.
    Leave,
}

impl Action {
    /// A constant word; the same as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Action::Go => "go",
            Action::Leave => "leave",
        }
    }
}

/// On `…/platform`: one order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformOrder {
    /// Seconds since 1970 when the order was given.
    pub time: u64,
    /// Go, or leave.
    pub action: Action,
    /// The station that it is about.
    pub station: StationId,
    /// The epoch of the lease. A lower one than before is an old order that came late.
    pub epoch: u64,
    /// The node that the station belongs to; null where this node never went there.
    pub home: Option<NodeId>,
    /// How the station is covered; null where this node never went there.
    pub how: Option<How>,
    /// Where to, in the installer's words: a preset's name, or waypoints.
    pub goal: Option<String>,
}
