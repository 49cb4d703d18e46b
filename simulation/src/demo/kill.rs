//! Kills an agent of the running demo, leaves it dead for a while, and tells what its neighbours do about it.
//!
//! It decides what to do and say from the view that everybody can read; it takes no part in the takeover.

use std::time::{Duration, Instant};

use picket_shared::duty::Sight;
use picket_shared::view::{Guard, Site, StationView};

/// All stations are watched for so long before anybody is killed, so that people see it.
const CALM: Duration = Duration::from_secs(5);
/// How long it stays dead.
const DEAD: Duration = Duration::from_secs(30);

/// What is to be done to the agent's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// SIGKILL, and it is not brought back.
    Kill,
    /// Start it again.
    Revive,
}

/// One killing, from the calm before to the calm after.
#[derive(Debug)]
pub struct Killing {
    agent: String,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Not everything is watched yet, or has been since then.
    Waiting(Option<Instant>),
    /// Nobody waits for anything.
    Asked,
    /// It is dead since then, and whether it was told that it is covered.
    Dead(Instant, bool),
    /// It lives again since then.
    Back(Instant),
    Over,
}

impl Killing {
    /// Of the agent of this name.
    pub fn new(agent: &str) -> Killing {
        Killing { agent: agent.to_owned(), phase: Phase::Waiting(None) }
    }

    /// The same without waiting for calm.
    pub fn now(agent: &str) -> Killing {
        Killing { agent: agent.to_owned(), phase: Phase::Asked }
    }

    /// The agent.
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// Looks at the site, and gives what is to be done now and what is to be said.
    pub fn look(&mut self, now: Instant, site: &Site) -> (Option<Deed>, Option<String>) {
        let Some(own) = site.stations.iter().find(|station| station.home.as_str() == self.agent) else {
            return (None, None);
        };
        let agent = &self.agent;
        let (deed, words) = match self.phase {
            Phase::Waiting(calm) => {
                let all = site.stations.iter().all(|station| is_home(station) && !station.ranks.is_empty());
                let since = calm.filter(|_| all).or(all.then_some(now));
                let calm = since.is_some_and(|since| now - since >= CALM);
                self.phase = if calm { Phase::Asked } else { Phase::Waiting(since) };
                return if calm { self.look(now, site) } else { (None, None) };
            }
            Phase::Asked => {
                self.phase = Phase::Dead(now, false);
                (Some(Deed::Kill), Some(format!("{agent} is killed; watch {} on the dashboard", own.station)))
            }
            Phase::Dead(since, told) => {
                let after_s = (now - since).as_secs_f32();
                let words = match &own.holder {
                    Some(holder) if !told && own.guard == Guard::Covered && own.sight == Some(Sight::Watching) => {
                        self.phase = Phase::Dead(since, true);
                        Some(format!(
                            "{holder} watches {} in its place after {after_s:.1} s ({})",
                            own.station, own.why
                        ))
                    }
                    _ => None,
                };
                if now - since >= DEAD {
                    self.phase = Phase::Back(now);
                    (Some(Deed::Revive), Some(format!("{agent} is started again")))
                } else {
                    (None, words)
                }
            }
            Phase::Back(since) if is_home(own) => {
                self.phase = Phase::Over;
                let after_s = (now - since).as_secs_f32();
                (None, Some(format!("{agent} has {} back after {after_s:.1} s ({})", own.station, own.why)))
            }
            Phase::Back(_) | Phase::Over => (None, None),
        };
        (deed, words)
    }
}

fn is_home(station: &StationView) -> bool {
    station.guard == Guard::Home && station.sight == Some(Sight::Watching)
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::ids::{NodeId, SiteId, StationId};

    fn site(guard: Guard, holder: &str) -> Site {
        let node = |name: &str| NodeId::new(name).unwrap();
        let station = StationView {
            station: StationId::new("gate").unwrap(),
            home: node("a"),
            guard,
            holder: Some(node(holder)),
            epoch: 1,
            how: None,
            sight: Some(Sight::Watching),
            since: 0.0,
            why: "so".into(),
            ranks: vec![node("b")],
        };
        Site {
            site: SiteId::new("s").unwrap(),
            time: 0.0,
            events_archived: 0,
            events_duplicate: 0,
            events_missed: 0,
            rejected: 0,
            nodes: vec![],
            leader: 1,
            stations: vec![station],
            changes: vec![],
        }
    }

    #[test]
    fn it_kills_in_calm_tells_who_stands_in_and_brings_back() {
        let (start, mut killing) = (Instant::now(), Killing::new("a"));
        let mut at = |s: u64, guard, holder| {
            let (deed, words) = killing.look(start + Duration::from_secs(s), &site(guard, holder));
            (deed, words.unwrap_or_default())
        };
        assert_eq!(at(0, Guard::Home, "a"), (None, String::new()));
        assert_eq!(at(4, Guard::Covered, "b"), (None, String::new()));
        assert_eq!(at(5, Guard::Home, "a"), (None, String::new()), "the calm begins anew");
        assert_eq!(at(10, Guard::Home, "a").0, Some(Deed::Kill));
        assert_eq!(at(11, Guard::Home, "a"), (None, String::new()), "nobody has noticed yet");
        assert_eq!(at(12, Guard::Covered, "b").1, "b watches gate in its place after 2.0 s (so)");
        assert_eq!(at(13, Guard::Covered, "b").1, "");
        assert_eq!(at(40, Guard::Covered, "b").0, Some(Deed::Revive));
        assert_eq!(at(52, Guard::Home, "a").1, "a has gate back after 12.0 s (so)");
        assert_eq!(at(99, Guard::Home, "a"), (None, String::new()));
    }
}
