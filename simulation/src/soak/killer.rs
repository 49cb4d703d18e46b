//! Who is hit next, how, and for how long: drawn from the seed alone.
//!
//! Pure: no clock and no processes. What is already down is not hit; the draw is spent all the same, so that a seed gives the
//! same blows whatever the machine's speed.

use fastrand::Rng;

/// Between two blows.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 500..=3_000;
/// A killed process stays away for so long.
const AWAY_MS: std::ops::RangeInclusive<u64> = 100..=3_000;
/// A frozen process stands for so long: the shorter ones are a slow peer, the longer ones a half-open link.
const FROZEN_MS: std::ops::RangeInclusive<u64> = 1_000..=12_000;

/// Somebody who can be hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The broker.
    Broker,
    /// The coordinator.
    Coordinator,
    /// An agent by its index.
    Agent(usize),
}

/// What is done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// Kill -9, and started again after `for_ms`.
    Kill,
    /// SIGSTOP, and SIGCONT after `for_ms`.
    Freeze,
}

/// One blow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blow {
    /// This long after the one before.
    pub after_ms: u64,
    /// Who.
    pub target: Target,
    /// What.
    pub deed: Deed,
    /// Until it is undone.
    pub for_ms: u64,
}

/// Draws blows.
#[derive(Debug, Clone)]
pub struct Killer {
    rng: Rng,
    agents: usize,
}

impl Killer {
    /// Of this seed, over so many agents.
    pub fn new(seed: u64, agents: usize) -> Killer {
        Killer { rng: Rng::with_seed(seed), agents }
    }
}

impl Iterator for Killer {
    type Item = Blow;

    fn next(&mut self) -> Option<Blow> {
        let rng = &mut self.rng;
        let target = match rng.u8(..6) {
            0 => Target::Broker,
            1 => Target::Coordinator,
            _ => Target::Agent(rng.usize(..self.agents)),
        };
        let deed = if rng.u8(..4) == 0 { Deed::Freeze } else { Deed::Kill };
        let range = if deed == Deed::Kill { AWAY_MS } else { FROZEN_MS };
        Some(Blow { after_ms: rng.u64(PAUSE_MS), target, deed, for_ms: rng.u64(range) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_blows_again_and_hits_everybody_in_both_ways() {
        let blows: Vec<Blow> = Killer::new(7, 3).take(300).collect();
        assert_eq!(blows, Killer::new(7, 3).take(300).collect::<Vec<_>>());
        assert_ne!(blows, Killer::new(8, 3).take(300).collect::<Vec<_>>());
        for target in [Target::Broker, Target::Coordinator, Target::Agent(0), Target::Agent(2)] {
            for deed in [Deed::Kill, Deed::Freeze] {
                assert!(blows.iter().any(|blow| blow.target == target && blow.deed == deed), "{target:?} {deed:?}");
            }
        }
    }
}
