//! Tells those next in line beforehand what they may have to do, so that it works with the coordinator gone. Pure.

use std::collections::{BTreeMap, BTreeSet};

use picket_shared::clock::Now;
use picket_shared::duty::{How, Standby, StandbyDuty};
use picket_shared::ids::NodeId;
use picket_shared::limits::{HEARTBEAT_MS, RANKS_MAX, STANDBY_BYTES_MAX, STANDBY_DUTIES_MAX};

use super::{Line, Post, Standing, Witnessed, Word, rank};
use crate::plan;

/// Whatever the plan says, what one node stands by for fits a message: names and envelope take less than 512 bytes.
const _: () = assert!(STANDBY_DUTIES_MAX * (plan::GOAL_BYTES_MAX + plan::CAMERAS_BYTES_MAX + 512) <= STANDBY_BYTES_MAX);

impl Line {
    /// Says to those next in line what they stand by for.
    pub(super) fn line_up(&mut self, now: Now, witnessed: Witnessed<'_>, out: &mut Vec<Word>) {
        if now.mono_ms < self.ranks_due_ms {
            return;
        }
        let mut standby: BTreeMap<NodeId, Vec<StandbyDuty>> =
            self.members.keys().map(|node| (node.clone(), Vec::new())).collect();
        let mut ranked = Vec::new();
        for name in &self.order {
            let post = &self.posts[name];
            let living = self.candidates(post).filter_map(|node| {
                let member = self.members.get(node).filter(|_| witnessed(node).0 > Standing::Down)?;
                Some((node, member.weight_fps))
            });
            let ranks: Vec<NodeId> = rank::rank(name, living).into_iter().take(RANKS_MAX).cloned().collect();
            // Whoever covers it now must go on knowing how, and so must all that the plan names.
            let holder = post.holder.as_ref().map(|holder| &holder.node).filter(|node| **node != post.plan.node);
            let planned = post.plan.covers.iter().map(|cover| &cover.node);
            let knowing: BTreeSet<&NodeId> = ranks.iter().chain(holder).chain(planned).collect();
            for node in knowing {
                if let Some(duties) = standby.get_mut(node).filter(|duties| duties.len() < STANDBY_DUTIES_MAX) {
                    duties.push(self.standby_duty(post, node, &ranks));
                }
            }
            ranked.push(ranks);
        }
        let leader = self.leader;
        for (name, ranks) in self.order.iter().zip(ranked) {
            self.posts.get_mut(name).expect("the order names the stations").ranks = ranks;
        }
        for (node, duties) in standby {
            let document = Standby { leader, duties };
            let nothing = document.duties.is_empty() && !self.said.contains_key(&node);
            if nothing || self.said.get(&node) == Some(&document) {
                continue;
            }
            self.said.insert(node.clone(), document.clone());
            out.push(Word::Standby(node, document));
        }
        // Of a thousand nodes that come one by one, each would line all up anew.
        self.ranks_due_ms = now.mono_ms + HEARTBEAT_MS;
    }

    pub(super) fn standby_duty(&self, post: &Post, node: &NodeId, ranks: &[NodeId]) -> StandbyDuty {
        let cover = post.plan.covers.iter().find(|cover| cover.node == *node);
        StandbyDuty {
            station: post.plan.name.clone(),
            home: post.plan.node.clone(),
            ranks: ranks.to_vec(),
            how: cover.map(|cover| cover.how).or(self.anyone).unwrap_or(How::Camera),
            cameras: cover.and_then(plan::Cover::cameras_text),
            goal: cover.and_then(|cover| cover.goal.clone()),
        }
    }

    /// After a connection is made nothing that was said before is certain to have arrived.
    pub fn say_again(&mut self) {
        self.said.clear();
        self.ranks_due_ms = 0;
        self.dirty = true;
    }
}
