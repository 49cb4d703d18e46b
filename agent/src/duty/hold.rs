//! The right to a station for a while, on this node's own clock. It sends nothing and opens nothing. Pure.

use picket_shared::duty::{Epoch, Sight, StandbyDuty};

/// The right to a station, for a while.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hold {
    pub(super) epoch: Epoch,
    pub(super) until_ms: u64,
    pub(super) act_from_ms: u64,
    pub(super) sight: Sight,
    pub(super) acting: bool,
}

/// What is watched for another node.
pub(super) struct Cover {
    pub(super) hold: Hold,
    pub(super) standby: Option<StandbyDuty>,
    /// The first heartbeat that says that it is watched: earlier ones are answered without it.
    pub(super) claimed_in: u64,
    /// It was begun: its duty was known.
    pub(super) begun: bool,
}

impl Hold {
    pub(super) fn new(epoch: Epoch, sight: Sight) -> Hold {
        Hold { epoch, until_ms: 0, act_from_ms: 0, sight, acting: false }
    }

    pub(super) fn is_leased(&self, now_ms: u64) -> bool {
        now_ms < self.until_ms
    }

    /// Whether this leader granted what is held, however long ago.
    pub(super) fn was_leased_by(&self, leader: u32) -> bool {
        self.until_ms > 0 && self.epoch.leader() == leader
    }

    pub(super) fn may_act(&self, now_ms: u64) -> bool {
        self.is_leased(now_ms) && now_ms >= self.act_from_ms
    }
}
