//! Who watched what and when, as it really was: the spans of each station, the holes in between, and what ended them.
//!
//! It knows nothing of leases: a station is watched where somebody's frames come from it.

use std::collections::BTreeSet;

/// Why a station lost its last watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Its process died, and the broker said so.
    Crash,
    /// Nobody said anything.
    Silence,
    /// Either, with no coordinator there to decide, at the beginning or at the end.
    NoCoordinator,
    /// Either, with no broker there.
    NoBroker,
    /// Its camera gave nothing, or whoever covered it was told to stop.
    Other,
}

/// A hole that somebody who is not at home there filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takeover {
    /// Why it was there.
    pub cause: Cause,
    /// How long it was.
    pub after_ms: u64,
    /// It was filled by moving there, which takes as long as a lease may still be held.
    pub moved: bool,
}

/// Who watched a station, from when until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The agent.
    pub agent: usize,
    /// From.
    pub from_ms: u64,
    /// Until.
    pub to_ms: u64,
}

/// One station.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Station {
    /// Those who watch it now.
    pub watchers: BTreeSet<usize>,
    /// Who watched it.
    pub spans: Vec<Span>,
    /// When nobody did.
    pub holes: Vec<(u64, u64)>,
    /// Seconds that somebody walked there unseen.
    pub unseen_s: u64,
    began_ms: Vec<(usize, u64)>,
    hole: Option<(u64, Cause)>,
}

impl Station {
    /// For how long nobody watched it.
    pub fn uncovered_ms(&self) -> u64 {
        self.holes.iter().map(|(from_ms, to_ms)| to_ms - from_ms).sum()
    }
}

/// All stations. A station has the number of the agent that is at home there.
#[derive(Debug, Clone, PartialEq)]
pub struct Coverage {
    /// By number.
    pub stations: Vec<Station>,
    /// The holes that others filled.
    pub takeovers: Vec<Takeover>,
    /// Seconds that somebody walked where a station's camera could have seen it, and unseen.
    pub walked_s: u64,
    /// Of them, unseen.
    pub unseen_s: u64,
    /// Holes count from here on: at the start everything is one.
    counts_from_ms: u64,
}

impl Coverage {
    /// So many stations that nobody watches yet.
    pub fn new(stations: usize, counts_from_ms: u64) -> Coverage {
        let unwatched = Station { hole: Some((0, Cause::Other)), ..Station::default() };
        let stations = vec![unwatched; stations];
        Coverage { stations, takeovers: Vec::new(), walked_s: 0, unseen_s: 0, counts_from_ms }
    }

    /// An agent watches a station from now on. `without` is who else is not there now.
    pub fn begins(&mut self, now_ms: u64, station: usize, agent: usize, without: Option<Cause>, moved: bool) {
        let counts_from_ms = self.counts_from_ms;
        let it = &mut self.stations[station];
        if !it.watchers.insert(agent) {
            return;
        }
        it.began_ms.push((agent, now_ms));
        if let Some((from_ms, cause)) = it.hole.take().filter(|_| now_ms > counts_from_ms) {
            let from_ms = from_ms.max(counts_from_ms);
            it.holes.push((from_ms, now_ms));
            if agent != station && cause != Cause::Other {
                self.takeovers.push(Takeover { cause: without.unwrap_or(cause), after_ms: now_ms - from_ms, moved });
            }
        }
    }

    /// An agent watches a station no more.
    pub fn ends(&mut self, now_ms: u64, station: usize, agent: usize, cause: Cause) {
        let it = &mut self.stations[station];
        if !it.watchers.remove(&agent) {
            return;
        }
        if let Some(index) = it.began_ms.iter().position(|(who, _)| *who == agent) {
            let (_, from_ms) = it.began_ms.swap_remove(index);
            it.spans.push(Span { agent, from_ms, to_ms: now_ms });
        }
        if it.watchers.is_empty() {
            it.hole = Some((now_ms, cause));
        }
    }

    /// A second of people: of each whom cameras could see, the stations of those.
    pub fn second(&mut self, now_ms: u64, people: impl Iterator<Item = Vec<usize>>) {
        if now_ms < self.counts_from_ms {
            return;
        }
        for stations in people {
            self.walked_s += 1;
            if stations.iter().all(|station| self.stations[*station].watchers.is_empty()) {
                self.unseen_s += 1;
                self.stations[stations[0]].unseen_s += 1;
            }
        }
    }

    /// The end: what goes on ends now.
    pub fn close(&mut self, now_ms: u64) {
        for it in &mut self.stations {
            let going_on = std::mem::take(&mut it.began_ms);
            it.spans.extend(going_on.into_iter().map(|(agent, from_ms)| Span { agent, from_ms, to_ms: now_ms }));
            let hole = it.hole.filter(|_| now_ms > self.counts_from_ms);
            it.holes.extend(hole.map(|(from_ms, _)| (from_ms.max(self.counts_from_ms), now_ms)));
        }
    }

    /// For how long stations were watched by nobody, all together.
    pub fn uncovered_ms(&self) -> u64 {
        self.stations.iter().map(Station::uncovered_ms).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_from_the_last_watcher_to_the_next_and_counts_as_a_takeover_where_another_fills_it() {
        let mut coverage = Coverage::new(2, 1_000);
        coverage.begins(500, 0, 0, None, false);
        coverage.ends(2_000, 0, 0, Cause::Crash);
        coverage.second(2_500, [vec![0], vec![1], vec![0, 1]].into_iter());
        coverage.begins(3_500, 0, 1, None, false);
        coverage.begins(4_000, 0, 0, None, false);
        coverage.ends(4_500, 0, 1, Cause::Other);
        coverage.ends(5_000, 0, 0, Cause::Silence);
        coverage.begins(6_000, 0, 0, None, false);
        coverage.close(7_000);
        let it = &coverage.stations[0];
        assert_eq!((it.uncovered_ms(), it.holes.clone()), (2_500, vec![(2_000, 3_500), (5_000, 6_000)]));
        assert_eq!(coverage.takeovers, [Takeover { cause: Cause::Crash, after_ms: 1_500, moved: false }]);
        assert_eq!((coverage.walked_s, coverage.unseen_s, it.spans.len()), (3, 3, 4));
        assert_eq!(coverage.stations[1].uncovered_ms(), 6_000, "nobody ever watched it");
    }
}
