//! Who watches what: heartbeats, leases, who is next in line, and what a duty consists of.
//!
//! A duty is a station to be covered. Who holds it is a lease with an epoch; a lower epoch is refused by whoever sees it.
//! These types are what is on the wire and nothing else: the rules are in `agent/src/duty` and `coordinator/src/line`.
//! Field numbers are the order of the fields: append only.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Boot, NodeId, StationId};
use crate::limits::{
    DUTY_BYTES_MAX, HEARTBEAT_BYTES_MAX, HOLDINGS_MAX, LEASE_TTL_MS, LEASES_BYTES_MAX, NEIGHBOURS_MAX, RANKS_MAX,
    STANDBY_BYTES_MAX, STANDBY_DUTIES_MAX,
};
use crate::wire::Wire;

/// Orders all grants of a station, over all coordinators: the leader's epoch in the upper bits, a count in the lower 32.
/// A leader's epoch begins higher than all before it, so that no counter needs to outlive a coordinator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// Leaders that a site may ever have: an epoch stays below 2^53, which JSON readers keep exactly.
pub const LEADER_MAX: u32 = (1 << 21) - 1;

impl Epoch {
    /// No lease was ever granted.
    pub const NONE: Epoch = Epoch(0);

    /// The `count`th grant of a leader.
    pub fn new(leader: u32, count: u32) -> Epoch {
        Epoch(u64::from(leader.min(LEADER_MAX)) << 32 | u64::from(count))
    }

    /// The epoch of the leader that granted it.
    pub fn leader(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.leader(), self.0 as u32)
    }
}

/// How far a holder is with watching its station.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sight {
    /// Its cameras are being started.
    Starting,
    /// Frames come.
    Watching,
    /// No camera of the station gives frames.
    Blind,
}

/// A station that a node watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The station.
    pub station: StationId,
    /// The epoch of the last lease that it had for it, or, where it never had one, of the last that it heard of.
    pub epoch: Epoch,
    /// It has no valid lease now, and watches all the same.
    pub provisional: bool,
    /// How far it is.
    pub sight: Sight,
}

/// What a node says every [`crate::limits::HEARTBEAT_MS`], and what leases are renewed by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The run of the agent.
    pub boot: Boot,
    /// Counts the heartbeats of this run from 1. An answer names it, so that both sides mean the same moment.
    pub number: u64,
    /// The highest leader's epoch that it has heard of.
    pub leader: u32,
    /// Frames a second that it could look at beside those of its own station, all covers included.
    pub capacity_fps: u16,
    /// What it watches.
    pub holdings: Vec<Holding>,
    /// Stations that it could cover at once: it has their duty, and understood it.
    pub ready: Vec<StationId>,
    /// Nodes that it should hear and does not.
    pub unheard: Vec<NodeId>,
}

/// One station granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The station.
    pub station: StationId,
    /// The grant.
    pub epoch: Epoch,
    /// For so long from when the answer comes, the holder before may still act: watch, and do not act.
    pub act_after_ms: u32,
}

/// The answer to one heartbeat: all that the node holds. What is not in it, it does not hold.
///
/// A lease lasts [`LEASE_TTL_MS`] from the moment that the answered heartbeat was sent, on the node's own monotonic clock;
/// the coordinator counts from when it came, which is later. So the two need not agree about the time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    /// To whom.
    pub node: NodeId,
    /// The leader's epoch.
    pub leader: u32,
    /// The run whose heartbeat is answered.
    pub boot: Boot,
    /// Its number.
    pub number: u64,
    /// Counts the answers to that heartbeat from 0: when something is granted or taken, it is answered again at once.
    pub turn: u32,
    /// What it holds.
    pub leases: Vec<Lease>,
}

/// How a node can cover a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// It opens the station's own network cameras.
    Camera,
    /// Its own camera sees the same ground.
    View,
    /// Its own camera can be turned there.
    Preset,
    /// It can fly there.
    Flight,
}

impl How {
    /// Whether the covering platform must move: then two at once could collide, or pull one camera two ways.
    pub fn moves(self) -> bool {
        matches!(self, How::Preset | How::Flight)
    }
}

/// A station that a node may have to cover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyDuty {
    /// The station.
    pub station: StationId,
    /// The node that it belongs to, and whose duty says what to watch.
    pub home: NodeId,
    /// Who covers it, the first that can; the node that this is said to is one of them.
    pub ranks: Vec<NodeId>,
    /// How.
    pub how: How,
    /// The `[[camera]]` tables to watch it with, where they are not the station's own.
    pub cameras: Option<String>,
    /// What the platform is told: a preset's name, or waypoints. Its words are the installer's.
    pub goal: Option<String>,
}

/// What a node may have to cover, said beforehand, so that it works with the coordinator gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standby {
    /// The leader's epoch.
    pub leader: u32,
    /// The stations.
    pub duties: Vec<StandbyDuty>,
}

/// What a station's own node says of it, so that others can stand in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duty {
    /// The station.
    pub station: StationId,
    /// The tables of the agent's configuration that make the station: `[[camera]]`, `[track]`, `[observe]`.
    pub settings: String,
    /// The model: the first 12 hexadecimal digits of the file's SHA-256.
    pub model: String,
    /// Frames a second that it takes to watch it.
    pub need_fps: u16,
}

fn at_most(count: usize, max: usize, what: &str) -> Result<(), String> {
    if count > max { Err(format!("{count} {what} and at most {max}")) } else { Ok(()) }
}

fn is_a_leader(leader: u32) -> Result<(), String> {
    if leader > LEADER_MAX { Err(format!("leader {leader} and at most {LEADER_MAX}")) } else { Ok(()) }
}

/// Whether no station is named twice.
fn once<'a>(stations: impl Iterator<Item = &'a StationId>) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    for station in stations {
        if !seen.insert(station) {
            return Err(format!("station {station} twice"));
        }
    }
    Ok(())
}

impl Wire for Heartbeat {
    const BYTES_MAX: usize = HEARTBEAT_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        at_most(self.holdings.len(), HOLDINGS_MAX, "holdings")?;
        at_most(self.ready.len(), STANDBY_DUTIES_MAX, "stations ready for")?;
        at_most(self.unheard.len(), NEIGHBOURS_MAX, "nodes unheard")?;
        is_a_leader(self.leader)?;
        if self.number == 0 {
            return Err("a heartbeat without a number".into());
        }
        once(self.holdings.iter().map(|holding| &holding.station))
    }
}

impl Wire for Leases {
    const BYTES_MAX: usize = LEASES_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        at_most(self.leases.len(), HOLDINGS_MAX, "leases")?;
        is_a_leader(self.leader)?;
        for Lease { station, epoch, act_after_ms } in &self.leases {
            if epoch.leader() != self.leader {
                return Err(format!(
                    "a lease of {station} from leader {} in leader {}'s name",
                    epoch.leader(),
                    self.leader
                ));
            }
            if u64::from(*act_after_ms) > LEASE_TTL_MS {
                return Err(format!("{station} is not to be acted on for {act_after_ms} ms"));
            }
        }
        once(self.leases.iter().map(|lease| &lease.station))
    }
}

impl Wire for Standby {
    const BYTES_MAX: usize = STANDBY_BYTES_MAX;
    /// Each of 32 duties has about twenty.
    const ITEMS_MAX: usize = 1024;

    fn check(&self) -> Result<(), String> {
        at_most(self.duties.len(), STANDBY_DUTIES_MAX, "stations to stand by for")?;
        is_a_leader(self.leader)?;
        for duty in &self.duties {
            at_most(duty.ranks.len(), RANKS_MAX, "ranks")?;
        }
        once(self.duties.iter().map(|duty| &duty.station))
    }
}

impl Wire for Duty {
    const BYTES_MAX: usize = DUTY_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        at_most(self.model.len(), crate::limits::NAME_CHARS_MAX, "characters of a model's name")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaders_grants_are_above_those_of_all_before() {
        assert!(Epoch::new(2, 0) > Epoch::new(1, u32::MAX));
        assert_eq!((Epoch::new(7, 3).leader(), Epoch::new(7, 3).to_string().as_str()), (7, "7.3"));
        assert!(Epoch::new(u32::MAX, u32::MAX).0 < 1 << 53, "JavaScript keeps it");
    }

    #[test]
    fn leases_speak_for_their_own_leader_and_name_a_station_once() {
        let lease = |station: &str, leader| Lease {
            station: StationId::new(station).unwrap(),
            epoch: Epoch::new(leader, 1),
            act_after_ms: 0,
        };
        let node = NodeId::new("n").unwrap();
        let leases = |leases| Leases { node: node.clone(), leader: 2, boot: Boot(1), number: 1, turn: 0, leases };
        assert_eq!(leases(vec![lease("a", 2), lease("b", 2)]).check(), Ok(()));
        assert!(leases(vec![lease("a", 3)]).check().unwrap_err().contains("in leader 2's name"));
        assert!(leases(vec![lease("a", 2), lease("a", 2)]).check().unwrap_err().contains("twice"));
        let late = Lease { act_after_ms: LEASE_TTL_MS as u32 + 1, ..lease("a", 2) };
        assert!(leases(vec![late]).check().is_err());
    }
}
