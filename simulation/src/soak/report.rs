//! The soak's report: a table for people, JSON for machines.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

/// Everything that a soak showed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// What the blows were drawn from.
    pub seed: u64,
    /// Agents, and as many naive publishers.
    pub agents: usize,
    /// Events a second of each.
    pub rate_hz: u64,
    /// How long there were faults.
    pub fault_seconds: f64,
    /// Blows by what they were.
    pub blows: BTreeMap<String, u64>,
    /// Ours.
    pub picket: Picket,
    /// The naive publishers by how they were treated.
    pub naive: BTreeMap<String, Naive>,
}

/// What became of the agents' events.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Picket {
    /// Events on the agents' disks.
    pub stored: u64,
    /// Of these, in the archive with the same bytes.
    pub archived: u64,
    /// Of these, in the archive more than once.
    pub doubles: u64,
    /// Of these, not in the archive.
    pub lost: u64,
    /// Of these, in the archive with other bytes.
    pub changed: u64,
    /// Entries of the archive that no agent has.
    pub foreign: u64,
    /// Gaps that the archive notes.
    pub gaps: u64,
    /// Events that the ledgers saw durable.
    pub witnessed: u64,
    /// Of these, not in the archive.
    pub witnessed_lost: u64,
    /// Events that the disk took too long for, and that were therefore never stored.
    pub not_stored: u64,
    /// Events sent again, as counted up to each life's last heartbeat.
    pub resent: u64,
    /// Events that the archive refused because it had them, as counted up to the last look at each life.
    pub duplicates_refused: u64,
    /// From the end of the faults until every agent had delivered everything and had ended.
    pub drain_seconds: f64,
    /// Half of the events took at most this long from being seen to the archive, outages included.
    pub latency_p50_ms: u64,
    /// 99 of 100 events took at most this long.
    pub latency_p99_ms: u64,
    /// The most memory of any agent's process.
    pub agent_memory_bytes_max: u64,
    /// The most memory of the coordinator's process.
    pub coordinator_memory_bytes_max: u64,
    /// The most memory of the broker's process.
    pub broker_memory_bytes_max: u64,
}

/// What became of the naive publishers' events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Naive {
    /// Publishers.
    pub publishers: u64,
    /// Events whose `publish()` returned Ok.
    pub said_delivered: u64,
    /// Of these, those that the reader got.
    pub received: u64,
    /// Of these, those that it never got.
    pub lost: u64,
    /// Events that it got more than once.
    pub twice: u64,
}

impl Report {
    /// Whether every stored event is in the archive exactly once, and nothing else is.
    pub fn balances(&self) -> bool {
        let picket = &self.picket;
        let wrong =
            picket.lost + picket.doubles + picket.changed + picket.foreign + picket.gaps + picket.witnessed_lost;
        picket.stored > 0 && picket.witnessed > 0 && picket.archived == picket.stored && wrong == 0
    }

    /// Events that a naive publisher was told were delivered, and that nobody got.
    pub fn naive_lost(&self) -> u64 {
        self.naive.values().map(|naive| naive.lost).sum()
    }

    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        std::fs::write(path, text).with_context(|| format!("the report {}", path.display()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (picket, mib) = (&self.picket, |bytes: u64| bytes as f64 / 1_048_576.0);
        let blows: Vec<String> = self.blows.iter().map(|(what, times)| format!("{what} {times}")).collect();
        writeln!(
            f,
            "\nseed {}: {} agents of {} events/s, {:.0} s of faults: {}",
            self.seed,
            self.agents,
            self.rate_hz,
            self.fault_seconds,
            blows.join(", ")
        )?;
        write!(f, "\n{:<34}{:>12}", "", "picket")?;
        self.naive.keys().try_for_each(|kind| write!(f, "{kind:>26}"))?;
        writeln!(f)?;
        let mut row = |what: &str, ours: u64, theirs: Option<fn(&Naive) -> u64>| {
            write!(f, "{what:<34}{ours:>12}")?;
            if let Some(theirs) = theirs {
                self.naive.values().try_for_each(|naive| write!(f, "{:>26}", theirs(naive)))?;
            }
            writeln!(f)
        };
        row("publishers", self.agents as u64, Some(|naive| naive.publishers))?;
        row("events stored / said delivered", picket.stored, Some(|naive| naive.said_delivered))?;
        row("of these, archived / received", picket.archived, Some(|naive| naive.received))?;
        row("lost", picket.lost, Some(|naive| naive.lost))?;
        row("seen durable and lost", picket.witnessed_lost, None)?;
        row("twice", picket.doubles, Some(|naive| naive.twice))?;
        row("changed, foreign, gaps", picket.changed + picket.foreign + picket.gaps, None)?;
        row("seen and never stored", picket.not_stored, None)?;
        row("sent again", picket.resent, None)?;
        row("duplicates refused", picket.duplicates_refused, None)?;
        writeln!(
            f,
            "\ndrained in {:.1} s; from being seen to the archive, outages included: p50 {} ms, p99 {} ms\n\
             memory at most: agent {:.0} MiB, coordinator {:.0} MiB, broker {:.0} MiB",
            picket.drain_seconds,
            picket.latency_p50_ms,
            picket.latency_p99_ms,
            mib(picket.agent_memory_bytes_max),
            mib(picket.coordinator_memory_bytes_max),
            mib(picket.broker_memory_bytes_max)
        )?;
        if self.balances() {
            writeln!(f, "every stored event is in the archive exactly once")
        } else {
            writeln!(f, "NOT BALANCED: {picket:?}")
        }
    }
}
