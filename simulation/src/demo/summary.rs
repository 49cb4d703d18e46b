//! The report of `demo --once`: a table for people, JSON for machines.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use picket_agent::report::Report;
use serde::Serialize;

use super::audit::Audit;
use super::stage::{AREAS, Stage};

/// Everything that a finished run showed.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Each agent's own figures, of its last life where it was killed.
    pub runs: BTreeMap<String, Report>,
    /// What the agents stored against what the archive has.
    pub audit: Audit,
    /// Half of the events took at most this long from the frame to the archive.
    pub latency_p50_ms: u64,
    /// 99 of 100 events took at most this long.
    pub latency_p99_ms: u64,
    /// Processes that were killed and came back.
    pub restarts: u32,
    /// From the start to the end of everything.
    pub seconds: f64,
}

impl Summary {
    /// Collects the agents' reports.
    pub fn of(stage: &Stage, audit: Audit, restarts: u32, took: Duration) -> anyhow::Result<Summary> {
        let mut runs = BTreeMap::new();
        for area in AREAS {
            let path = stage.agent_report(area.node);
            let text = std::fs::read(&path).with_context(|| format!("the report {}", path.display()))?;
            runs.insert(area.node.to_owned(), serde_json::from_slice(&text)?);
        }
        let (latency_p50_ms, latency_p99_ms) = (audit.latency_ms(0.5), audit.latency_ms(0.99));
        Ok(Summary { runs, audit, latency_p50_ms, latency_p99_ms, restarts, seconds: took.as_secs_f64() })
    }

    /// Whether every stored event reached the archive exactly once.
    pub fn balances(&self) -> bool {
        self.audit.balances()
    }

    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        std::fs::write(path, text).with_context(|| format!("the report {}", path.display()))
    }

    fn row(
        &self,
        f: &mut fmt::Formatter<'_>,
        what: &str,
        value: impl Fn(&str) -> f64,
        total: bool,
        digits: usize,
    ) -> fmt::Result {
        write!(f, "{what:<26}")?;
        let values = AREAS.map(|area| value(area.node));
        values.iter().try_for_each(|value| write!(f, "{value:>12.digits$}"))?;
        if total { writeln!(f, "{:>12.digits$}", values.iter().sum::<f64>()) } else { writeln!(f) }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{:<26}", "")?;
        AREAS.iter().try_for_each(|area| write!(f, "{:>12}", area.station))?;
        writeln!(f, "{:>12}", "total")?;
        let run = |node: &str| &self.runs[node];
        let sum = |node: &str, count: fn(&picket_shared::status::CameraStats) -> u64| {
            run(node).cameras.iter().map(count).sum::<u64>() as f64
        };
        self.row(f, "frames", |node| sum(node, |c| c.frames), true, 0)?;
        self.row(f, "dropped frames", |node| sum(node, |c| c.frames_dropped), true, 0)?;
        self.row(f, "gated frames", |node| sum(node, |c| c.frames_gated), true, 0)?;
        self.row(f, "detections", |node| sum(node, |c| c.detections), true, 0)?;
        self.row(f, "tracks", |node| sum(node, |c| c.tracks), true, 0)?;
        self.row(f, "events stored", |node| self.audit.agents[node].stored as f64, true, 0)?;
        self.row(f, "events delivered", |node| self.audit.agents[node].delivered as f64, true, 0)?;
        self.row(f, "events duplicated", |node| self.audit.agents[node].duplicated as f64, true, 0)?;
        self.row(f, "end-to-end frames/s", |node| run(node).speed.path_fps, true, 1)?;
        self.row(f, "raw session.run/s", |node| run(node).speed.raw_fps, false, 1)?;
        self.row(f, "ratio", |node| run(node).speed.ratio, false, 3)?;
        self.row(f, "memory at most, MiB", |node| run(node).resident_bytes_max as f64 / 1_048_576.0, true, 0)?;
        writeln!(f, "\nfrom the frame to the archive: p50 {} ms, p99 {} ms", self.latency_p50_ms, self.latency_p99_ms)?;
        writeln!(f, "three agents share the cores here, so their ratios say little: `make bench` has one on its own")?;
        if self.restarts > 0 {
            writeln!(
                f,
                "{} processes were killed and came back; counters but the events' are of the last life",
                self.restarts
            )?;
        }
        let (foreign, gaps) = (self.audit.foreign, self.audit.gaps);
        if self.balances() {
            writeln!(f, "every stored event is in the archive exactly once; {:.1} s", self.seconds)
        } else {
            writeln!(f, "NOT BALANCED: {foreign} entries of no agent, {gaps} gaps, and see the events above")
        }
    }
}
