//! What people see of one device's learning: `picket-agent learn status` prints it. Derived, and never read back.

use std::collections::BTreeMap;

use picket_shared::learn::lineage::LineageId;
use picket_shared::status::LearnStats;
use serde::Serialize;

use super::examples::Counts;
use super::lesson::Comparison;
use super::teaching;

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    /// Of which heads; nothing before one was heard, when the station learns for itself.
    pub lineage: Option<LineageId>,
    /// The version of the shared head that is learned from.
    pub version: u64,
    /// The version of the shared head in what is judged by.
    pub used_version: u64,
    /// The site learns, and this device with it.
    pub learns: bool,
    /// What is learned from.
    pub examples: Counts,
    /// Words of persons that were taken in, in this run.
    pub labels: u64,
    /// The epoch of updates.
    pub epoch: u64,
    /// The number of the newest.
    pub seq: u64,
    /// It is not acknowledged yet.
    pub waits_for_ack: bool,
    /// Times that one was said, in this run.
    pub said: u64,
    /// Updates that were acknowledged, in this run.
    pub acked: u64,
    /// Heads that were heard, in this run.
    pub heads: u64,
    /// Times that a head was taken to judge by, in this run.
    pub taken: u64,
    /// Times that one was not, because it might have lost.
    pub kept: u64,
    /// Times that the one that was judged by was given up for the network alone.
    pub given_up: u64,
    /// Why the last one was not taken, or was given up, in a sentence; empty where it was.
    pub why: String,
    /// The last comparison.
    pub comparison: Option<Comparison>,
    /// The loss over the newest examples before the last update's steps.
    pub loss_before: f32,
    /// And after.
    pub loss_after: f32,
    /// What was refused in this run, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Frames that came while there was no time to learn from them.
    pub frames_passed_over: u64,
    /// Processor time that learning took in this run, in milliseconds.
    pub cpu_ms: u64,
    /// The second detector that is learned from; absent where there is none.
    pub teacher: Option<teaching::Status>,
}

impl Status {
    /// What of it everybody at the broker may know.
    pub fn stats(&self) -> LearnStats {
        let Counts {
            people_confirmed,
            nobody_confirmed,
            people_tracked,
            nobody_tracked,
            people_agreed,
            nobody_agreed,
            people_taught,
            nobody_taught,
            held_out,
        } = self.examples;
        LearnStats {
            version: self.version,
            used_version: self.used_version,
            confirmed: people_confirmed + nobody_confirmed,
            tracked: people_tracked + nobody_tracked,
            agreed: people_agreed + nobody_agreed,
            taught: people_taught + nobody_taught,
            held_out,
            acked: self.acked,
            taken: self.taken,
            kept: self.kept,
        }
    }
}
