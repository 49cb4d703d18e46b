//! The fault mix of one run, drawn from its seed. Each fault has its own dial, so that a failing seed can be read.

use fastrand::Rng;

/// How unkind a world is. Probabilities are per message or per effect; intervals are means.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// A message vanishes between publisher and broker: what a client library or a broker drops.
    pub loss: f64,
    /// A message arrives twice.
    pub duplication: f64,
    /// Longest time on the way.
    pub delay_ms_max: u64,
    /// Messages overtake each other within that time. MQTT promises that those of one publisher do not.
    pub reorder: bool,
    /// The broker forgets everything and all connections, this often. 0 is never.
    pub broker_amnesia_every_ms: u64,
    /// An agent or the coordinator is cut off from the broker, this often. 0 is never.
    pub cut_every_ms: u64,
    /// A process dies between two of its effects. Its unsynced writes may go with it.
    pub crash: f64,
    /// A commit fails (the disk is full for a moment).
    pub disk_failure: f64,
    /// An agent's disk has room for so many events that are owed; 0 is for all.
    pub owed_max: usize,
    /// Where there is no telemetry to give up, such a disk gives up the newest events, which it never stored; else the
    /// oldest.
    pub gives_up_newest: bool,
    /// A disk loses part of a boot when its process dies.
    pub damage: f64,
    /// A disk forgets what was acknowledged when its process dies.
    pub forgets_acks: bool,
    /// A machine's calendar clock is put forward or back by an hour, or right again, this often. 0 is never.
    pub clock_jump_every_ms: u64,
}

impl Faults {
    /// A world without faults: messages take a moment, and that is all.
    pub fn none() -> Self {
        Faults {
            loss: 0.0,
            duplication: 0.0,
            delay_ms_max: 20,
            reorder: false,
            broker_amnesia_every_ms: 0,
            cut_every_ms: 0,
            crash: 0.0,
            disk_failure: 0.0,
            owed_max: 0,
            gives_up_newest: false,
            damage: 0.0,
            forgets_acks: false,
            clock_jump_every_ms: 0,
        }
    }

    /// A mix for a seed: each fault is off in some worlds, so that no fault hides behind another. What loses events on
    /// purpose is off in most.
    pub fn draw(rng: &mut Rng) -> Self {
        let off = |rng: &mut Rng| rng.u8(..3) == 0;
        let mut share = |most: f64| if off(rng) { 0.0 } else { rng.f64() * most };
        let (loss, duplication, crash, disk_failure) = (share(0.3), share(0.5), share(0.01), share(0.1));
        let mut every = |least: u64, most: u64| if off(rng) { 0 } else { rng.u64(least..most) };
        let (broker_amnesia_every_ms, cut_every_ms) = (every(2_000, 20_000), every(1_000, 10_000));
        let seldom = |rng: &mut Rng| rng.u8(..4) == 0;
        Faults {
            loss,
            duplication,
            crash,
            disk_failure,
            broker_amnesia_every_ms,
            cut_every_ms,
            delay_ms_max: rng.u64(1..3_000),
            reorder: !off(rng),
            owed_max: if seldom(rng) { rng.usize(5..200) } else { 0 },
            gives_up_newest: rng.bool(),
            damage: if seldom(rng) { rng.f64() } else { 0.0 },
            forgets_acks: seldom(rng),
            clock_jump_every_ms: if seldom(rng) { rng.u64(1_000..20_000) } else { 0 },
        }
    }

    /// From here on nothing fails; what a disk has room for it keeps.
    pub fn healed(&self) -> Self {
        Faults { owed_max: self.owed_max, gives_up_newest: self.gives_up_newest, ..Faults::none() }
    }
}
