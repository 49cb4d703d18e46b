//! The fault mix of one run, drawn from its seed. Each fault has its own dial, so that a failing seed can be read.

use fastrand::Rng;

/// How unkind a world is. Probabilities are per message or per effect; intervals are means.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// A message vanishes between publisher and broker: what a client library or a broker drops.
    pub loss: f64,
    /// A message arrives twice.
    pub duplication: f64,
    /// Longest time on the way. Messages overtake each other within it.
    pub delay_ms_max: u64,
    /// The broker forgets everything and all connections, this often. 0 is never.
    pub broker_amnesia_every_ms: u64,
    /// An agent or the coordinator is cut off from the broker, this often. 0 is never.
    pub cut_every_ms: u64,
    /// A process dies between two of its effects. Its unsynced writes may go with it.
    pub crash: f64,
    /// A commit fails (the disk is full for a moment).
    pub disk_failure: f64,
}

impl Faults {
    /// A world without faults: messages take a moment, and that is all.
    pub fn none() -> Self {
        Faults {
            loss: 0.0,
            duplication: 0.0,
            delay_ms_max: 20,
            broker_amnesia_every_ms: 0,
            cut_every_ms: 0,
            crash: 0.0,
            disk_failure: 0.0,
        }
    }

    /// A mix for a seed: each fault is off in some worlds, so that no fault hides behind another.
    pub fn draw(rng: &mut Rng) -> Self {
        let off = |rng: &mut Rng| rng.u8(..3) == 0;
        let mut share = |most: f64| if off(rng) { 0.0 } else { rng.f64() * most };
        let (loss, duplication, crash, disk_failure) = (share(0.3), share(0.5), share(0.01), share(0.1));
        let mut every = |least: u64, most: u64| if off(rng) { 0 } else { rng.u64(least..most) };
        Faults {
            loss,
            duplication,
            crash,
            disk_failure,
            broker_amnesia_every_ms: every(2_000, 20_000),
            cut_every_ms: every(1_000, 10_000),
            delay_ms_max: rng.u64(1..3_000),
        }
    }
}
