//! Who watches what: grants each station to one node, takes it from one that is gone, and gives it back. Pure.
//!
//! Each grant is a lease with an epoch that is higher than all before it. A heartbeat renews what its node holds; the answer
//! names all of it. Watching may overlap, acting may not: a new holder acts only after the one before certainly takes its
//! own lease for ended. What a node is like (up, steady, down) is decided in `liveness`.

use std::collections::{BTreeMap, BTreeSet};

use picket_shared::clock::Now;
use picket_shared::duty::{Duty, Epoch, How, Lease, Leases, Sight, Standby};
use picket_shared::ids::{Boot, NodeId, StationId};
use picket_shared::limits::{HEARTBEAT_MS, HOLDINGS_MAX, LEASE_TTL_MS, NODES_MAX};
use picket_shared::view::{Change, ChangeKind, Guard, StationView};

use crate::plan;
use member::Member;

mod member;
mod rank;
mod standby;
#[cfg(test)]
mod tests;

/// After its beginning a leader only confirms what nodes say that they hold, until every lease of the leader before has
/// ended and every node has said something.
pub const SETTLE_MS: u64 = LEASE_TTL_MS + 2 * HEARTBEAT_MS;
/// A holder whose cameras give nothing for so long does not watch.
pub const BLIND_MS: u64 = 15_000;
/// A node that did not see a station is not asked again for so long.
pub const SHUNNED_MS: u64 = 60_000;
/// While something is not as it should be, it is looked at this often.
const UNSETTLED_LOOK_MS: u64 = 500;

/// What a node can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It is gone.
    Down,
    /// It may be gone: it keeps what it has, and gets nothing.
    Suspect,
    /// It lives, and fell not long ago: it gets only what nobody else has.
    Unsteady,
    /// It lives.
    Steady,
}

/// Says of a node what it can be given, and the evidence.
pub type Witnessed<'a> = &'a dyn Fn(&NodeId) -> (Standing, String);

/// What is to be said.
#[derive(Debug, Clone, PartialEq)]
pub enum Word {
    /// To one node: what it holds.
    Leases(Leases),
    /// To one node: what it stands by for.
    Standby(NodeId, Standby),
    /// To people.
    Change(Change),
}

/// Why a heartbeat was refused, in a constant word and a sentence.
pub type Refusal = (&'static str, String);

/// All stations and who watches them.
pub struct Line {
    leader: u32,
    granted: u32,
    began_ms: u64,
    /// Where the plan names nobody, anybody can cover in this way.
    anyone: Option<How>,
    posts: BTreeMap<StationId, Post>,
    /// Stations in the order in which capacity is given out.
    order: Vec<StationId>,
    members: BTreeMap<NodeId, Member>,
    said: BTreeMap<NodeId, Standby>,
    /// Two nodes that both say that a station is theirs.
    disputed: BTreeMap<StationId, NodeId>,
    dirty: bool,
    ranks_due_ms: u64,
    /// When to look again though nothing was said.
    look_ms: Option<u64>,
}

/// One station.
struct Post {
    plan: plan::Station,
    /// As the plan says, whatever nodes say.
    planned: bool,
    need_fps: u16,
    holder: Option<Holder>,
    epoch: Epoch,
    /// Until when a holder before this one may act, by our clock.
    acts_until_ms: u64,
    shunned: BTreeMap<NodeId, u64>,
    ranks: Vec<NodeId>,
    since_unix_ms: u64,
    why: String,
}

struct Holder {
    node: NodeId,
    boot: Boot,
    epoch: Epoch,
    /// Its lease ends, by our clock; by its own, earlier.
    until_ms: u64,
    act_from_ms: u64,
}

/// What one look at a station came to.
enum Choice {
    Keep,
    Grant(NodeId, ChangeKind, String),
    Nobody(String),
}

impl Line {
    /// The line of a coordinator that begins to lead.
    pub fn new(now: Now, leader: u32, stations: &[plan::Station], anyone: Option<How>) -> Line {
        let mut line = Line {
            leader,
            granted: 0,
            began_ms: now.mono_ms,
            anyone,
            posts: BTreeMap::new(),
            order: Vec::new(),
            members: BTreeMap::new(),
            said: BTreeMap::new(),
            disputed: BTreeMap::new(),
            dirty: true,
            ranks_due_ms: 0,
            look_ms: None,
        };
        stations.iter().for_each(|station| line.post(now, station.clone(), true));
        line
    }

    /// The leader's epoch.
    pub fn leader(&self) -> u32 {
        self.leader
    }

    fn post(&mut self, now: Now, plan: plan::Station, planned: bool) {
        let name = plan.name.clone();
        let post = Post {
            plan,
            planned,
            need_fps: 1,
            holder: None,
            epoch: Epoch::NONE,
            acts_until_ms: now.mono_ms,
            shunned: BTreeMap::new(),
            ranks: Vec::new(),
            since_unix_ms: now.unix_ms,
            why: "its node has not been heard since the coordinator started".into(),
        };
        self.posts.insert(name, post);
        self.order = self.posts.keys().cloned().collect();
        self.order.sort_by_key(|name| (-i64::from(self.posts[name].plan.priority), name.clone()));
        self.dirty = true;
    }

    /// A node says which station is its own. Where no plan does, that makes the station.
    pub fn belongs(&mut self, now: Now, station: &StationId, node: &NodeId) {
        // What it said before, it says no more.
        self.disputed.retain(|_, claimant| claimant != node);
        match self.posts.get(station) {
            Some(post) if post.plan.node == *node => {}
            Some(_) => {
                self.disputed.insert(station.clone(), node.clone());
            }
            None if self.posts.len() >= NODES_MAX => {}
            None => {
                // Whoever watched another station before watches this one now.
                self.posts.retain(|_, post| post.planned || post.plan.node != *node);
                let (name, node) = (station.clone(), node.clone());
                let plan = plan::Station { name, node, priority: 0, position: None, covers: Vec::new() };
                self.post(now, plan, false);
            }
        }
    }

    /// A station's own node says what its duty is.
    pub fn duty(&mut self, node: &NodeId, duty: &Duty) {
        if let Some(post) = self.posts.get_mut(&duty.station).filter(|post| post.plan.node == *node) {
            self.dirty |= post.need_fps != duty.need_fps;
            post.need_fps = duty.need_fps;
        }
    }

    /// For `deaf_ms` until now nothing could be heard. Who had not heard enough before that begins to listen only now.
    pub fn excuse(&mut self, now: Now, deaf_ms: u64) {
        if deaf_ms > 0 && now.mono_ms.saturating_sub(deaf_ms) < self.began_ms + SETTLE_MS {
            self.began_ms = now.mono_ms;
            self.dirty = true;
        }
    }

    /// Something outside changed: a node's liveness.
    pub fn stir(&mut self) {
        self.dirty = true;
    }

    /// Looks at all stations where something may have changed, and says what follows.
    pub fn decide(&mut self, now: Now, witnessed: Witnessed<'_>, out: &mut Vec<Word>) {
        if !self.dirty && self.next_wakeup().is_none_or(|at_ms| now.mono_ms < at_ms) {
            return;
        }
        self.dirty = false;
        let mut spare_fps: BTreeMap<NodeId, i64> =
            self.members.iter().map(|(node, member)| (node.clone(), i64::from(member.capacity_fps))).collect();
        let mut held: BTreeMap<NodeId, usize> = BTreeMap::new();
        for post in self.posts.values() {
            *held.entry(post.plan.node.clone()).or_default() += 1;
        }
        let mut told = BTreeSet::new();
        let claimants = self.claimants(witnessed);
        for name in self.order.clone() {
            let choice = self.choose(now, &name, witnessed, claimants.get(&name), (&spare_fps, &held));
            told.extend(self.follow(now, &name, choice, out));
            let post = &self.posts[&name];
            if let Some(holder) = post.holder.as_ref().filter(|holder| holder.node != post.plan.node) {
                *spare_fps.entry(holder.node.clone()).or_default() -= i64::from(post.need_fps);
                *held.entry(holder.node.clone()).or_default() += 1;
            }
        }
        told.iter().for_each(|node| out.extend(self.answer(now, node).map(Word::Leases)));
        self.line_up(now, witnessed, out);
        self.look_ms = self.look_again(now);
    }

    /// When to look again at the latest, on the monotonic clock.
    pub fn next_wakeup(&self) -> Option<u64> {
        self.look_ms
    }

    /// When something that nobody says would change something.
    fn look_again(&self, now: Now) -> Option<u64> {
        let settled = Some(self.began_ms + SETTLE_MS).filter(|at_ms| *at_ms > now.mono_ms);
        let at_home = |post: &Post| post.holder.as_ref().is_some_and(|holder| holder.node == post.plan.node);
        let blind = || self.members.values().any(|member| !member.unseen_ms.is_empty());
        let amiss = self.posts.values().any(|post| !at_home(post)) || blind();
        let look = amiss.then_some(now.mono_ms + UNSETTLED_LOOK_MS);
        let ranks = (self.ranks_due_ms > now.mono_ms).then_some(self.ranks_due_ms);
        settled.into_iter().chain(look).chain(ranks).min()
    }

    fn choose(
        &self,
        now: Now,
        name: &StationId,
        witnessed: Witnessed<'_>,
        claimant: Option<&NodeId>,
        (spare_fps, held): (&BTreeMap<NodeId, i64>, &BTreeMap<NodeId, usize>),
    ) -> Choice {
        let post = &self.posts[name];
        let home = &post.plan.node;
        let (standing, evidence) = witnessed(home);
        let holder = post.holder.as_ref().filter(|holder| self.is_of_this_run(holder));
        let at_home = holder.is_some_and(|holder| holder.node == *home);
        let cover = holder.filter(|holder| holder.node != *home && witnessed(&holder.node).0 > Standing::Down);
        let sees = |node: &NodeId| !self.is_blind(now, node, name);
        let room = |node: &NodeId, fps: i64| {
            let holds = held.get(node).copied().unwrap_or(0);
            spare_fps.get(node).copied().unwrap_or(0) >= fps && holds < HOLDINGS_MAX
        };
        let need_fps = i64::from(post.need_fps);
        // Half of what it needs is enough to keep it: a measured number that sways must not pass a station around.
        let keep_fps = i64::from(post.need_fps.div_ceil(2));

        let home_lives = self.members.contains_key(home) && standing > Standing::Suspect;
        let home_sees = sees(home);
        if home_lives && home_sees && (standing == Standing::Steady || cover.is_none()) {
            return match (at_home, cover) {
                (true, _) => Choice::Keep,
                (false, Some(cover)) => {
                    let why = format!("{home} is back and steady; {} covered it", cover.node);
                    Choice::Grant(home.clone(), ChangeKind::HandBack, why)
                }
                (false, None) => Choice::Grant(home.clone(), ChangeKind::Granted, format!("{home} watches its own")),
            };
        }
        if standing == Standing::Suspect && cover.is_none() {
            let doubt = || Choice::Nobody(format!("{home} {evidence}, and is only suspected to be gone"));
            return if at_home { Choice::Keep } else { doubt() };
        }
        if let Some(cover) = cover
            && sees(&cover.node)
            && room(&cover.node, keep_fps)
        {
            return Choice::Keep;
        }
        let why = match (home_lives, home_sees) {
            (true, false) => format!("{home} is up and no camera of it gives frames"),
            _ => format!("{home} {evidence}"),
        };
        if let Some(claimant) = claimant {
            return Choice::Grant(
                claimant.clone(),
                ChangeKind::Takeover,
                format!("{why}; {claimant} watches it already"),
            );
        }
        if now.mono_ms < self.began_ms + SETTLE_MS {
            return if holder.is_some() {
                Choice::Keep
            } else {
                Choice::Nobody("the coordinator has just begun".into())
            };
        }
        let fit = |node: &NodeId| {
            let member = &self.members[node];
            let shunned = post.shunned.get(node).is_some_and(|until_ms| now.mono_ms < *until_ms);
            member.ready.contains(name) && !shunned && sees(node)
        };
        let able: Vec<&NodeId> = self
            .candidates(post)
            .filter(|node| self.members.contains_key(*node) && witnessed(node).0 == Standing::Steady)
            .collect();
        let fit: Vec<&NodeId> = able.iter().copied().filter(|node| fit(node)).collect();
        let ranked = rank::rank(name, fit.iter().map(|node| (*node, self.members[*node].weight_fps)));
        if let Some(first) = ranked.iter().find(|node| room(node, need_fps)) {
            return Choice::Grant((*first).clone(), ChangeKind::Takeover, why);
        }
        // Nobody is better than one that cannot see.
        if cover.is_some_and(|cover| room(&cover.node, keep_fps)) || (at_home && home_lives) {
            return Choice::Keep;
        }
        let nobody = match (able.is_empty(), fit.is_empty()) {
            (true, _) => "nobody who could cover it is up",
            (false, true) => "nobody who is up knows how to cover it yet",
            (false, false) => "nobody who could cover it has capacity to spare",
        };
        Choice::Nobody(format!("{why}; {nobody}"))
    }

    /// Who watches what though nobody here granted it: under the leader before, or in its absence. The best claim of each
    /// station.
    fn claimants(&self, witnessed: Witnessed<'_>) -> BTreeMap<StationId, NodeId> {
        let mut best = BTreeMap::new();
        for (node, member) in &self.members {
            for (station, held) in &member.holdings {
                let by_us = held.epoch.leader() == self.leader && !held.provisional;
                let at_home = self.posts.get(station).is_none_or(|post| post.plan.node == *node);
                if at_home || by_us || witnessed(node).0 <= Standing::Suspect {
                    continue;
                }
                let claim = (!held.provisional, held.epoch, held.sight == Sight::Watching);
                if best.get(station).is_none_or(|(before, _)| *before < claim) {
                    best.insert(station.clone(), (claim, node.clone()));
                }
            }
        }
        best.into_iter().map(|(station, (_, node))| (station, node)).collect()
    }

    fn candidates<'a>(&'a self, post: &'a Post) -> Box<dyn Iterator<Item = &'a NodeId> + 'a> {
        let others = self.members.keys().filter(|node| **node != post.plan.node);
        match self.anyone {
            Some(_) if post.plan.covers.is_empty() => Box::new(others),
            _ => Box::new(post.plan.covers.iter().map(|cover| &cover.node)),
        }
    }

    /// Does what was chosen; gives the nodes whose leases changed.
    fn follow(&mut self, now: Now, name: &StationId, choice: Choice, out: &mut Vec<Word>) -> Vec<NodeId> {
        let settled_ms = self.began_ms + LEASE_TTL_MS;
        let (leader, blind) = (self.leader, {
            let post = &self.posts[name];
            post.holder.as_ref().is_some_and(|holder| self.is_blind(now, &holder.node, name))
        });
        let post = self.posts.get_mut(name).expect("only stations of the line are looked at");
        let (to, kind, why) = match choice {
            Choice::Keep => return Vec::new(),
            Choice::Nobody(why) if post.holder.is_none() => {
                if post.why != why {
                    post.why = why;
                }
                return Vec::new();
            }
            Choice::Nobody(why) => (None, ChangeKind::Uncovered, why),
            Choice::Grant(node, kind, why) => (Some(node), kind, why),
        };
        let mut told = Vec::new();
        if let Some(old) = post.holder.take() {
            post.acts_until_ms = post.acts_until_ms.max(old.until_ms);
            if blind && old.node != post.plan.node {
                post.shunned.insert(old.node.clone(), now.mono_ms + SHUNNED_MS);
            }
            told.push(old.node);
        }
        if let Some(node) = &to {
            let member = &self.members[node];
            self.granted += 1;
            let epoch = Epoch::new(leader, self.granted);
            // Of two that hold a lease of the leader before, one is provisional; the other may go on acting.
            let held_on = member.holdings.get(name).is_some_and(|held| !held.provisional);
            let act_from_ms = if held_on && post.epoch == Epoch::NONE {
                now.mono_ms
            } else {
                let others = if post.epoch == Epoch::NONE { settled_ms } else { 0 };
                post.acts_until_ms.max(others)
            };
            post.epoch = epoch;
            post.holder =
                Some(Holder { node: node.clone(), boot: member.boot, epoch, until_ms: now.mono_ms, act_from_ms });
            told.push(node.clone());
        }
        (post.since_unix_ms, post.why) = (now.unix_ms, why.clone());
        out.push(Word::Change(Change {
            time: now.unix_ms as f64 / 1000.0,
            change: kind,
            node: to,
            station: Some(name.clone()),
            epoch: post.epoch.0,
            why,
        }));
        told
    }

    /// The answer to a node's last heartbeat: all that it holds. Nothing where it has not been heard.
    pub fn answer(&mut self, now: Now, node: &NodeId) -> Option<Leases> {
        let member = self.members.get_mut(node)?;
        let turn = member.turn;
        member.turn = member.turn.saturating_add(1);
        let (boot, number, heard_ms) = (member.boot, member.number, member.heard_ms);
        let mine = self.posts.iter_mut().filter_map(|(station, post)| {
            let holder = post.holder.as_mut().filter(|holder| holder.node == *node && holder.boot == boot)?;
            holder.until_ms = holder.until_ms.max(heard_ms + LEASE_TTL_MS);
            let act_after_ms = holder.act_from_ms.saturating_sub(now.mono_ms).min(LEASE_TTL_MS) as u32;
            Some(Lease { station: station.clone(), epoch: holder.epoch, act_after_ms })
        });
        let leases = mine.take(HOLDINGS_MAX).collect();
        Some(Leases { node: node.clone(), leader: self.leader, boot, number, turn, leases })
    }

    /// Every station, by name.
    pub fn view(&self) -> Vec<StationView> {
        let seconds = |ms: u64| ms as f64 / 1000.0;
        self.posts
            .iter()
            .map(|(name, post)| {
                let holder = post.holder.as_ref();
                let home = holder.is_some_and(|holder| holder.node == post.plan.node);
                let held = holder.and_then(|holder| self.members.get(&holder.node)?.holdings.get(name));
                StationView {
                    station: name.clone(),
                    home: post.plan.node.clone(),
                    guard: match (holder, home) {
                        (None, _) => Guard::Uncovered,
                        (Some(_), true) => Guard::Home,
                        (Some(_), false) => Guard::Covered,
                    },
                    holder: holder.map(|holder| holder.node.clone()),
                    epoch: post.epoch.0,
                    how: holder.filter(|_| !home).map(|holder| self.standby_duty(post, &holder.node, &[]).how),
                    sight: held.map(|held| held.sight),
                    since: seconds(post.since_unix_ms),
                    why: post.why.clone(),
                    ranks: post.ranks.clone(),
                }
            })
            .collect()
    }

    /// What is wrong with the line, in a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let disputed = self.disputed.iter().filter_map(|(station, node)| {
            // Its home may have left it for another station meanwhile.
            let home = &self.posts.get(station)?.plan.node;
            Some(format!(
                "{node} says that {station} is its station, and it is {home}'s; correct the station of one of them"
            ))
        });
        disputed.collect()
    }

    fn is_of_this_run(&self, holder: &Holder) -> bool {
        self.members.get(&holder.node).is_some_and(|member| member.boot == holder.boot)
    }

    fn is_blind(&self, now: Now, node: &NodeId, station: &StationId) -> bool {
        let unseen_ms = self.members.get(node).and_then(|member| member.unseen_ms.get(station));
        unseen_ms.is_some_and(|since_ms| now.mono_ms - since_ms >= BLIND_MS)
    }
}
