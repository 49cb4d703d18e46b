//! What a node stands by for, as it outlives a restart: so it can stand in though neither coordinator nor broker is there
//! when it starts. Pure; the file is `store/standby.rs`.

use std::collections::BTreeMap;

use picket_shared::clock::Now;
use picket_shared::duty::{Duty, Standby};
use picket_shared::ids::NodeId;
use picket_shared::wire::Wire;
use serde::{Deserialize, Serialize};

use super::{Duties, Order};

/// What was said of it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// By the coordinator.
    pub standby: Standby,
    /// By the homes of its stations, as far as they were heard.
    pub duties: BTreeMap<NodeId, Duty>,
}

impl Memory {
    /// Whether it keeps the bounds of what it was made from. The error says which it breaks.
    pub fn check(&self) -> Result<(), String> {
        self.standby.check()?;
        self.duties.values().try_for_each(Wire::check)
    }
}

impl Duties {
    /// What was remembered, before anything is heard. Whatever is said later counts more.
    pub fn recall(&mut self, now: Now, memory: Memory, out: &mut Vec<Order>) {
        let from = out.len();
        // A node that was renamed is told anew.
        let Ok(()) = self.standby(now, memory.standby, out) else { return };
        for (node, duty) in memory.duties {
            self.peer_duty(&node, duty, out);
        }
        let recalled = out.split_off(from);
        out.extend(recalled.into_iter().filter(|order| !matches!(order, Order::Remember(_))));
    }

    pub(super) fn remember(&self, out: &mut Vec<Order>) {
        let standby = Standby { leader: self.leader, duties: self.standby.values().cloned().collect() };
        let homes = self.peers.iter().filter_map(|(node, peer)| Some((node.clone(), peer.duty.clone()?)));
        out.push(Order::Remember(Box::new(Memory { standby, duties: homes.collect() })));
    }
}
