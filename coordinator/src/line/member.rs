//! A node as its heartbeats show it: takes them in, and refuses those that lie about the past or the future. Pure.

use std::collections::{BTreeMap, BTreeSet};

use picket_shared::clock::Now;
use picket_shared::duty::{Heartbeat, Holding, Sight};
use picket_shared::ids::{Boot, NodeId, StationId};
use picket_shared::limits::{HEARTBEAT_MS, NODES_MAX};

use super::{Line, Refusal};

/// A lower boot of a node is an earlier run that still speaks, unless the higher one was not heard for so long: then the
/// device was set up anew.
const EARLIER_RUN_MS: u64 = 20 * HEARTBEAT_MS;

/// A node, by its last heartbeat.
pub(super) struct Member {
    pub(super) boot: Boot,
    pub(super) number: u64,
    pub(super) turn: u32,
    pub(super) heard_ms: u64,
    pub(super) capacity_fps: u16,
    /// The capacity that it has in the ranks: it follows what was measured only where that is far from it.
    pub(super) weight_fps: u16,
    pub(super) holdings: BTreeMap<StationId, Holding>,
    pub(super) ready: BTreeSet<StationId>,
    pub(super) unheard: Vec<NodeId>,
    /// Since when it has not seen a station that it holds.
    pub(super) unseen_ms: BTreeMap<StationId, u64>,
}

impl Line {
    /// Takes a heartbeat. What it says of its quality is for the caller: how many numbers after the last one, and how many
    /// milliseconds; nothing where it is the first of its run.
    pub fn heartbeat(&mut self, now: Now, node: &NodeId, beat: Heartbeat) -> Result<Option<(u64, u64)>, Refusal> {
        let before = self.members.get(node);
        let same_run = before.filter(|member| member.boot == beat.boot);
        if let Some(member) = before
            && (beat.boot < member.boot && now.mono_ms - member.heard_ms < EARLIER_RUN_MS)
        {
            return Err((
                "earlier_run",
                format!("a heartbeat of boot {} of {node}, which is at {}", beat.boot, member.boot),
            ));
        }
        if let Some(member) = same_run.filter(|member| beat.number <= member.number) {
            return Err(("repeated", format!("heartbeat {} of {node} after {}", beat.number, member.number)));
        }
        if before.is_none() && self.members.len() >= NODES_MAX {
            return Err(("too_many_nodes", format!("{node} is one node more than {NODES_MAX}")));
        }
        let (quality, mut unseen_ms) = match same_run {
            Some(member) => {
                let steps = (beat.number - member.number, now.mono_ms.saturating_sub(member.heard_ms));
                (Some(steps), member.unseen_ms.clone())
            }
            None => (None, BTreeMap::new()),
        };
        let holdings: BTreeMap<_, _> = beat.holdings.into_iter().map(|held| (held.station.clone(), held)).collect();
        unseen_ms.retain(|station, _| holdings.get(station).is_some_and(|held| held.sight != Sight::Watching));
        for held in holdings.values().filter(|held| held.sight != Sight::Watching) {
            unseen_ms.entry(held.station.clone()).or_insert(now.mono_ms);
        }
        let member = Member {
            boot: beat.boot,
            number: beat.number,
            turn: 0,
            heard_ms: now.mono_ms,
            capacity_fps: beat.capacity_fps,
            weight_fps: followed(before.map(|member| member.weight_fps), beat.capacity_fps),
            holdings,
            ready: beat.ready.into_iter().collect(),
            unheard: beat.unheard,
            unseen_ms,
        };
        self.dirty |= before.is_none_or(|before| before.differs(&member));
        let stale = self.stale(node, &member);
        self.members.insert(node.clone(), member);
        match stale {
            Some(refusal) => Err(refusal),
            None => Ok(quality),
        }
    }

    /// A claim under an epoch that a later grant has ended, by somebody who should know: it is said, and answered with the
    /// truth. And an epoch of this leader's that it never granted, even one whose lease has ended: whoever knows of it would
    /// refuse every grant below.
    fn stale(&self, node: &NodeId, member: &Member) -> Option<Refusal> {
        member.holdings.values().find_map(|held| {
            let post = self.posts.get(&held.station)?;
            if held.epoch.leader() == self.leader && held.epoch > post.epoch {
                return Some((
                    "future_epoch",
                    format!("{node} claims {} by {}, never granted", held.station, held.epoch),
                ));
            }
            let foreign = post.holder.as_ref().is_some_and(|holder| holder.node != *node && holder.epoch > held.epoch);
            // Who was not answered yet cannot know.
            let knows = !held.provisional && held.epoch.leader() == self.leader;
            (foreign && knows && post.plan.node != *node).then(|| {
                ("stale_epoch", format!("{node} claims {} by {}, now {}", held.station, held.epoch, post.epoch))
            })
        })
    }

    /// How many nodes say that they should hear this one and do not.
    pub fn unheard_by(&self, node: &NodeId) -> usize {
        self.members.values().filter(|member| member.unheard.contains(node)).count()
    }
}

/// The capacity in the ranks after a measurement. What a busy device measures trembles, and who stands in should not.
fn followed(before: Option<u16>, measured_fps: u16) -> u16 {
    let near = |before: u16| {
        let (before, measured) = (u32::from(before), u32::from(measured_fps));
        measured * 2 > before && measured < before * 2
    };
    before.filter(|before| near(*before)).unwrap_or(measured_fps)
}

impl Member {
    /// Whether something may have to be decided because of this. Capacity counts as it does in the ranks.
    fn differs(&self, after: &Member) -> bool {
        let claims = |member: &Member| -> Vec<(StationId, bool, Sight)> {
            member.holdings.values().map(|held| (held.station.clone(), held.provisional, held.sight)).collect()
        };
        self.boot != after.boot
            || self.ready != after.ready
            || self.weight_fps != after.weight_fps
            || claims(self) != claims(after)
    }
}

#[cfg(test)]
mod tests {
    use super::followed;

    #[test]
    fn a_capacity_that_trembles_changes_no_rank_and_one_that_is_gone_does_at_once() {
        for (before, measured, expect) in [
            (None, 31, 31),
            (Some(31), 32, 31),
            (Some(32), 17, 32),
            (Some(32), 16, 16),
            (Some(32), 64, 64),
            (Some(9), 0, 0),
            (Some(0), 1, 1),
        ] {
            assert_eq!(followed(before, measured), expect, "{before:?} {measured}");
        }
    }
}
