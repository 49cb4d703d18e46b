//! What a person orders of learning, as the command line leaves it for the coordinator.

use picket_shared::ids::NodeId;
use picket_shared::learn::label::Label;

/// What a person orders.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Learn nothing more.
    Freeze,
    /// Learn again.
    Unfreeze,
    /// Go back to the release before, as a new version, and learn nothing more.
    Revert,
    /// Take a station out.
    Out(NodeId),
    /// Take it in again.
    In(NodeId),
    /// Tell devices what persons say of their events.
    Label(Vec<Label>),
}
