//! The row that says which coordinator leads, and what one coordinator makes of it at each look. Pure.
//!
//! No two clocks are compared: a row that has not changed for a while on the looker's own clock is a dead leader's.

use picket_shared::duty::LEADER_MAX;
use serde::{Deserialize, Serialize};

use super::LEADER_TTL;

/// The row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    epoch: u32,
    /// Changes each time that the leader says that it leads.
    turn: u64,
    /// The leader's name; empty where it gave the lead back.
    leader: String,
}

/// No epoch is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted;

/// A coordinator that leads or would.
#[derive(Debug)]
pub struct Candidate {
    me: String,
    /// The epoch that it leads under.
    mine: Option<u32>,
    /// What another's row was, and since when it has been that.
    seen: Option<(Row, u64)>,
}

impl Candidate {
    /// One of this name. Names of a site's coordinators differ.
    pub fn new(me: &str) -> Candidate {
        Candidate { me: me.to_owned(), mine: None, seen: None }
    }

    /// What the row must become now, for this one to lead under an epoch above `above`; nothing where another leads. Say
    /// [`Candidate::led`] once it has.
    pub fn look(&mut self, row: &Row, above: u32, now_ms: u64) -> Result<Option<Row>, Exhausted> {
        let next = |epoch: u32| {
            let epoch = epoch.max(above).checked_add(1).filter(|epoch| *epoch <= LEADER_MAX).ok_or(Exhausted)?;
            Ok(Some(Row { epoch, turn: 0, leader: self.me.clone() }))
        };
        if self.mine.is_some_and(|epoch| epoch == row.epoch && row.leader == self.me) && row.epoch > above {
            return Ok(Some(Row { turn: row.turn + 1, ..row.clone() }));
        }
        // An earlier run of this coordinator is gone, or this one would not have the archive.
        if row.leader.is_empty() || row.leader == self.me {
            return next(row.epoch);
        }
        match &self.seen {
            Some((seen, since_ms)) if seen == row && now_ms - since_ms >= LEADER_TTL.as_millis() as u64 => {
                next(row.epoch)
            }
            Some((seen, _)) if seen == row => Ok(None),
            _ => {
                self.seen = Some((row.clone(), now_ms));
                Ok(None)
            }
        }
    }

    /// The row is this now, or stayed another's. The epoch that this one leads under.
    pub fn led(&mut self, row: Option<&Row>) -> Option<u32> {
        self.mine = row.map(|row| row.epoch);
        self.mine
    }

    /// Gives the lead back: what the row becomes, where it is this one's.
    pub fn release(&mut self, row: &Row) -> Option<Row> {
        let mine = self.mine.take()?;
        (row.epoch == mine && row.leader == self.me).then(|| Row { leader: String::new(), ..row.clone() })
    }

    /// Whether it leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.mine.is_some()
    }
}
