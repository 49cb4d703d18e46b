//! What the runs of a scenario showed together, as one table, and whether that is what the scenario promises.

use std::fmt;

use super::coverage::{Cause, Takeover};
use super::net::Traffic;
use super::scenario::{Scenario, Targets};
use super::{COUNTS_FROM_MS, Outcome};

/// Stations that the table names.
const WORST: usize = 5;
const HOUR_MS: f64 = 3_600_000.0;

/// Runs, put together.
#[derive(Debug, Clone, Default)]
pub struct Report {
    runs: u64,
    steps: u64,
    counted_ms: u64,
    lived_ms: u64,
    healing_ms_max: u64,
    takeovers: Vec<Takeover>,
    /// Of each station, its number, and for how long nobody watched it.
    uncovered: Vec<(usize, u64)>,
    walked_s: u64,
    unseen_s: u64,
    false_takeovers: u64,
    unheard_takeovers: u64,
    covers: u64,
    acts: u64,
    stale_refused: u64,
    leaders: u64,
    /// Messages and bytes, both ways.
    agents: [u64; 2],
    coordinators: [u64; 2],
    node_s: f64,
}

impl Report {
    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        let Outcome { coverage, .. } = outcome;
        self.runs += 1;
        self.steps += outcome.steps;
        self.lived_ms += outcome.lived_ms;
        self.counted_ms += outcome.lived_ms - COUNTS_FROM_MS.min(outcome.lived_ms);
        self.healing_ms_max = self.healing_ms_max.max(outcome.healing_ms);
        self.takeovers.extend(&coverage.takeovers);
        self.uncovered.resize(self.uncovered.len().max(coverage.stations.len()), (0, 0));
        for (number, station) in coverage.stations.iter().enumerate() {
            self.uncovered[number] = (number, self.uncovered[number].1 + station.uncovered_ms());
        }
        self.walked_s += coverage.walked_s;
        self.unseen_s += coverage.unseen_s;
        self.false_takeovers += outcome.false_takeovers;
        self.unheard_takeovers += outcome.unheard_takeovers;
        self.covers += outcome.covers;
        self.acts += outcome.acts;
        self.stale_refused += outcome.stale_refused;
        self.leaders += outcome.leaders;
        let both =
            |(sent, received): (Traffic, Traffic)| [sent.messages + received.messages, sent.bytes + received.bytes];
        let (agents, coordinators) = (both(outcome.agents), both(outcome.coordinators));
        self.agents = [self.agents[0] + agents[0], self.agents[1] + agents[1]];
        self.coordinators = [self.coordinators[0] + coordinators[0], self.coordinators[1] + coordinators[1]];
        self.node_s += outcome.lived_ms as f64 / 1000.0 * coverage.stations.len() as f64;
    }

    /// Runs so far.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// How long holes of this cause were that others filled, the shortest first, in milliseconds.
    pub fn holes_ms(&self, cause: Cause) -> Vec<u64> {
        let of_cause = self.takeovers.iter().filter(|takeover| takeover.cause == cause);
        let mut holes: Vec<u64> = of_cause.map(|takeover| takeover.after_ms).collect();
        holes.sort_unstable();
        holes
    }

    /// Takeovers from nodes that were there and watched, in an hour of a site.
    pub fn false_per_hour(&self) -> f64 {
        self.false_takeovers as f64 * HOUR_MS / (self.counted_ms as f64).max(1.0)
    }

    /// How often somebody began to cover.
    pub fn covers(&self) -> u64 {
        self.covers
    }

    /// What is promised and was not reached, in a sentence each.
    pub fn missed(&self, targets: &Targets) -> Vec<String> {
        let of_causes = causes(targets).into_iter().filter_map(|(cause, name, target_s)| {
            let worst_s = *self.holes_ms(cause).last()? as f64 / 1000.0;
            (worst_s > target_s).then(|| format!("{name}: covered after {worst_s:.1} s, and {target_s} s are promised"))
        });
        let (wrong, most) = (self.false_per_hour(), targets.false_per_hour);
        let wrong = (wrong > most).then(|| format!("{wrong:.2} false takeovers in an hour, and {most} are promised"));
        let unheard = targets.unheard.filter(|most| self.unheard_takeovers > *most).map(|most| {
            format!(
                "{} takeovers from nodes that watched and could not be heard, and {most} are promised",
                self.unheard_takeovers
            )
        });
        of_causes.chain(wrong).chain(unheard).collect()
    }

    /// The table, for people.
    pub fn table(&self, scenario: &Scenario) -> String {
        let mut rows = vec![["what".to_owned(), "figure".to_owned(), "promised".to_owned()]];
        let mut row = |what: &str, figure: String, promised: String| rows.push([what.to_owned(), figure, promised]);
        let seconds = |ms: u64| ms as f64 / 1000.0;
        row(
            "simulated",
            format!("{:.0} s in {} runs, {} steps", seconds(self.lived_ms), self.runs, self.steps),
            String::new(),
        );
        row("station-seconds that nobody watched: all", format!("{:.1}", seconds(self.uncovered_ms())), String::new());
        let mut worst: Vec<(usize, u64)> = self.uncovered.iter().copied().filter(|(_, ms)| *ms > 0).collect();
        worst.sort_by_key(|(number, ms)| (std::cmp::Reverse(*ms), *number));
        let named = |(number, ms): &(usize, u64)| format!("n{number} {:.1}", seconds(*ms));
        let named: Vec<String> = worst.iter().take(WORST).map(named).collect();
        row("  the worst", if named.is_empty() { "none".into() } else { named.join(", ") }, String::new());
        row(
            "person-seconds unseen, of those that cameras could see",
            format!("{} of {}", self.unseen_s, self.walked_s),
            String::new(),
        );
        for (cause, name, target_s) in causes(&scenario.targets) {
            let holes = self.holes_ms(cause);
            let figure = match holes.len() {
                0 => "none".into(),
                n => format!("{:.2}, {:.2}, {:.2} s of {n}", at(&holes, 50), at(&holes, 99), at(&holes, 100)),
            };
            let promised = if target_s < 1e6 { format!("at most {target_s} s") } else { String::new() };
            row(&format!("takeover, {name}: p50, p99, most"), figure, promised);
        }
        let holes = self.holes_ms(Cause::NoBroker);
        if let Some(most_ms) = holes.last() {
            row("takeover, no broker: most", format!("{:.1} s of {}", seconds(*most_ms), holes.len()), String::new());
        }
        let most = scenario.targets.false_per_hour;
        let promised = if most < 1e6 { format!("at most {most}") } else { String::new() };
        row(
            "false takeovers in an hour",
            format!("{:.2} ({} of {} covers)", self.false_per_hour(), self.false_takeovers, self.covers),
            promised,
        );
        let promised = scenario.targets.unheard.map_or(String::new(), |most| format!("at most {most}"));
        row("  from nodes that watched and could not be heard", self.unheard_takeovers.to_string(), promised);
        row("stale-epoch writes accepted; refused", format!("0; {}", self.stale_refused), "0".into());
        row("overlapping acts; acts", format!("0; {}", self.acts), "0".into());
        row("leaders", self.leaders.to_string(), String::new());
        let per = |sum: u64| sum as f64 / self.node_s.max(1.0);
        row(
            "messages, bytes of a node in a second, both ways",
            format!("{:.1}, {:.0}", per(self.agents[0]), per(self.agents[1])),
            String::new(),
        );
        row(
            "  of the coordinators, for each node",
            format!("{:.1}, {:.0}", per(self.coordinators[0]), per(self.coordinators[1])),
            String::new(),
        );
        row(
            "from the healing until all was right, at most",
            format!("{:.1} s", seconds(self.healing_ms_max)),
            String::new(),
        );
        layout(&rows)
    }

    fn uncovered_ms(&self) -> u64 {
        self.uncovered.iter().map(|(_, ms)| ms).sum()
    }
}

fn causes(targets: &Targets) -> [(Cause, &'static str, f64); 3] {
    [
        (Cause::Crash, "crash", targets.crash_s),
        (Cause::Silence, "silence", targets.silence_s),
        (Cause::NoCoordinator, "coordinator dead too", targets.coordinator_s),
    ]
}

/// The value below which so many in a hundred lie, in seconds; of numbers that are sorted.
fn at(sorted_ms: &[u64], percent: usize) -> f64 {
    let rank = (sorted_ms.len() * percent).div_ceil(100).max(1);
    sorted_ms.get(rank - 1).map_or(0.0, |ms| *ms as f64 / 1000.0)
}

fn layout(rows: &[[String; 3]]) -> String {
    let wide = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (wide(0), wide(1));
    let line = |row: &[String; 3]| format!("{:first$}  {:second$}  {}", row[0], row[1], row[2]).trim_end().to_owned();
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { seed, trace_hash, steps, coverage, .. } = self;
        let uncovered_s = coverage.uncovered_ms() as f64 / 1000.0;
        write!(f, "seed {seed}: trace {trace_hash:016x}, {steps} steps, {uncovered_s:.1} station-seconds uncovered")
    }
}
