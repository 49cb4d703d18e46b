//! What is to happen at a site: how large it is, how bad the air, and who fails when. A file says it, or a seed draws it.
//!
//! Every number may be a range; then the seed draws from it. It only says; `acts` does.

use fastrand::Rng;
use picket_shared::limits::NODES_MAX;
use serde::Deserialize;

/// A number, or a range of which each seed draws one.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Span {
    /// Always this.
    One(f64),
    /// Between these.
    Between(f64, f64),
}

impl Span {
    /// One of them, in thousandths: seconds become milliseconds.
    pub fn draw_ms(self, rng: &mut Rng) -> u64 {
        let (low, high) = self.bounds();
        ((low + (high - low) * rng.f64()) * 1000.0).round() as u64
    }

    /// One of them.
    pub fn draw(self, rng: &mut Rng) -> u64 {
        let (low, high) = self.bounds();
        rng.u64(low as u64..=high as u64)
    }

    fn bounds(self) -> (f64, f64) {
        match self {
            Span::One(value) => (value, value),
            Span::Between(low, high) => (low, high),
        }
    }

    fn is_fine(self) -> bool {
        let (low, high) = self.bounds();
        (0.0..=1e6).contains(&low) && (low..=1e6).contains(&high)
    }
}

/// A scenario.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What happens, in a sentence.
    pub about: String,
    /// Nodes, each with a station of its own.
    #[serde(default = "Defaults::nodes")]
    pub nodes: usize,
    /// Coordinators: one, or one and a standby.
    #[serde(default = "Defaults::coordinators")]
    pub coordinators: usize,
    /// Each coordinator has a row of its own that says that it leads, as where two were given different files.
    #[serde(default)]
    pub own_rows: bool,
    /// How long it is unkind; then it heals. Acts that come back later come back then.
    pub seconds: u64,
    /// The part of the nodes that fly: they cover by moving.
    #[serde(default)]
    pub drones: f64,
    /// How many of its neighbours can cover a station; 0: anybody can, by the station's own camera.
    #[serde(default = "Defaults::reach")]
    pub reach: usize,
    /// Frames a second that each station needs.
    #[serde(default = "Defaults::need_fps")]
    pub need_fps: u16,
    /// Frames a second that each node has to spare.
    #[serde(default = "Defaults::capacity_fps")]
    pub capacity_fps: u16,
    /// There is not room for all: a station whose node is dead may stay unwatched.
    #[serde(default)]
    pub scarce: bool,
    /// People who walk about.
    #[serde(default = "Defaults::walkers")]
    pub walkers: usize,
    /// From the order to cover to the first frame.
    #[serde(default = "Defaults::start_s")]
    pub start_s: Span,
    /// What messages go through.
    #[serde(default)]
    pub air: Air,
    /// The machines' clocks.
    #[serde(default)]
    pub clocks: Clocks,
    /// Who fails, and when.
    #[serde(default, rename = "act")]
    pub acts: Vec<Act>,
    /// What must be reached.
    #[serde(default)]
    pub targets: Targets,
}

/// What messages go through between publisher and receiver.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Air {
    /// The part of messages at quality of service 0 that vanish. Those at 1 come late.
    pub loss: f64,
    /// The part of messages that arrive twice.
    pub duplication: f64,
    /// The part of messages of which a copy arrives once more, up to 20 s late and behind newer ones.
    pub replay: f64,
    /// The longest time for one of the two hops.
    pub delay_s: Span,
    /// The part of packets that TCP must send again: the message, and all behind it, come late by 200 ms, doubled each time.
    pub retransmission: f64,
    /// A node's connection breaks, and the node lives: on average this often for each node; 0 is never.
    pub drop_every_s: f64,
}

impl Default for Air {
    fn default() -> Air {
        let delay_s = Span::Between(0.002, 0.05);
        Air { loss: 0.0, duplication: 0.0, replay: 0.0, delay_s, retransmission: 0.0, drop_every_s: 0.0 }
    }
}

/// The machines' clocks.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clocks {
    /// How far a monotonic clock runs fast or slow at most, in millionths.
    pub drift_ppm: u32,
    /// How far a calendar is off at most.
    pub wrong_hours: u32,
}

impl Default for Clocks {
    fn default() -> Clocks {
        Clocks { drift_ppm: 200, wrong_hours: 0 }
    }
}

/// Something that is done to somebody.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// When.
    pub at_s: Span,
    /// What.
    #[serde(rename = "do")]
    pub what: What,
    /// To whom.
    pub whom: Whom,
    /// To how many of them; 0 is to half.
    #[serde(default = "Defaults::once")]
    pub count: usize,
    /// For how long; for good where it is not said.
    #[serde(default)]
    pub for_s: Option<Span>,
    /// How often, to the same ones.
    #[serde(default = "Defaults::once")]
    pub times: usize,
    /// From one time to the next.
    #[serde(default = "Defaults::every_s")]
    pub every_s: Span,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// The process dies, its machine lives: the broker hears of it at once.
    Kill,
    /// The machine has no power: nobody hears anything.
    Power,
    /// A coordinator dies and its disk with it: it and the row that says who leads begin anew.
    Lose,
    /// SIGSTOP: nothing runs, what is sent to it waits.
    Pause,
    /// No packet either way.
    Cut,
    /// A coordinator is cut off from the broker, and not from the row that says who leads.
    Estrange,
    /// It hears, and is not heard.
    Mute,
    /// It is heard, and hears nothing.
    Deafen,
    /// Its connection breaks, and it can make another at once.
    Drop,
    /// A coordinator goes on believing that it leads, and cannot see the row.
    Delude,
    /// No camera that it has open gives a frame.
    Blind,
}

/// To whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whom {
    /// A node that nothing was done to yet.
    Node,
    /// Whoever covers the station of the first node that something was done to.
    Coverer,
    /// The coordinator that leads.
    Leader,
    /// One that does not.
    Standby,
    /// All coordinators.
    Coordinators,
    /// The broker; only to kill.
    Broker,
}

/// What a scenario promises, over all its seeds together.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Targets {
    /// A station is watched again after a crash, at most.
    pub crash_s: f64,
    /// After silence.
    pub silence_s: f64,
    /// With the coordinator dead too.
    pub coordinator_s: f64,
    /// Takeovers from a node that was there and watched, in an hour.
    pub false_per_hour: f64,
    /// Takeovers from a node that watched and could not be heard; nothing: as many as there are.
    pub unheard: Option<u64>,
}

impl Default for Targets {
    fn default() -> Targets {
        Targets { crash_s: 2.0, silence_s: 10.0, coordinator_s: 15.0, false_per_hour: 0.0, unheard: None }
    }
}

/// What is meant where nothing is said.
struct Defaults;

impl Defaults {
    fn nodes() -> usize {
        8
    }
    fn coordinators() -> usize {
        1
    }
    fn reach() -> usize {
        4
    }
    fn need_fps() -> u16 {
        5
    }
    fn capacity_fps() -> u16 {
        40
    }
    fn walkers() -> usize {
        12
    }
    fn start_s() -> Span {
        Span::Between(0.2, 1.0)
    }
    fn once() -> usize {
        1
    }
    fn every_s() -> Span {
        Span::One(0.0)
    }
}

/// Smallest and largest site, and the longest unkindness.
const NODES_MIN: usize = 2;
const COORDINATORS_MAX: usize = 4;
const SECONDS_MAX: u64 = 24 * 3600;
const WALKERS_MAX: usize = 1_000;
const ACTS_MAX: usize = 100;

impl Scenario {
    /// Reads a file's text. The error is a sentence with the remedy.
    pub fn read(text: &str) -> Result<Scenario, String> {
        let scenario: Scenario = toml::from_str(text).map_err(|error| error.to_string())?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
        let within = |value: usize, low: usize, high: usize, name: &str| match (low..=high).contains(&value) {
            true => Ok(()),
            false => Err(format!("{name} is {value}; it must be from {low} to {high}")),
        };
        within(self.nodes, NODES_MIN, NODES_MAX, "nodes")?;
        within(self.coordinators, 1, COORDINATORS_MAX, "coordinators")?;
        within(self.seconds as usize, 1, SECONDS_MAX as usize, "seconds")?;
        within(self.walkers, 0, WALKERS_MAX, "walkers")?;
        within(self.acts.len(), 0, ACTS_MAX, "the number of acts")?;
        let Air { loss, duplication, replay, retransmission, .. } = self.air;
        let parts = [("loss", loss), ("duplication", duplication), ("replay", replay), ("drones", self.drones)];
        for (name, part) in parts.into_iter().chain([("retransmission", retransmission)]) {
            if !(0.0..=0.9).contains(&part) && (name, part) != ("drones", 1.0) {
                return Err(format!("{name} is {part}; it is a part, from 0 to 0.9"));
            }
        }
        if self.clocks.drift_ppm > 50_000 {
            return Err("drift_ppm is above 50000; no oscillator is that bad".into());
        }
        let spans = [self.start_s, self.air.delay_s];
        let of_acts = self.acts.iter().flat_map(|act| [Some(act.at_s), act.for_s, Some(act.every_s)]).flatten();
        if !spans.into_iter().chain(of_acts).all(Span::is_fine) || !self.air.drop_every_s.is_finite() {
            return Err(
                "a number of seconds is negative, or a range is the wrong way round: write [least, most]".into()
            );
        }
        if self.acts.iter().any(|act| act.what == What::Lose && matches!(act.whom, Whom::Node | Whom::Coverer)) {
            return Err("only a coordinator has a row to lose; kill a node".into());
        }
        if let Some(act) = self.acts.iter().find(|act| act.whom == Whom::Broker && act.what != What::Kill) {
            return Err(format!("{:?} cannot be done to the broker; only kill can", act.what));
        }
        Ok(())
    }

    /// A site and a fault mix that only the seed decides.
    pub fn draw(seed: u64) -> Scenario {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let off = |rng: &mut Rng| rng.u8(..3) > 0;
        let share = |rng: &mut Rng, most: f64| if off(rng) { 0.0 } else { rng.f64() * most };
        let air = Air {
            loss: share(rng, 0.2),
            duplication: share(rng, 0.2),
            replay: share(rng, 0.1),
            delay_s: Span::Between(0.001, 0.002 + rng.f64() * 0.3),
            retransmission: share(rng, 0.15),
            drop_every_s: if off(rng) { 0.0 } else { 20.0 + rng.f64() * 200.0 },
        };
        let acts = (0..rng.usize(1..=8)).map(|_| Act::draw(rng)).collect();
        Scenario {
            about: "a fault mix that the seed draws".into(),
            nodes: rng.usize(3..=10),
            coordinators: rng.usize(1..=2),
            own_rows: rng.u8(..8) == 0,
            seconds: 120,
            drones: [0.0, 0.5, 1.0][rng.usize(..3)],
            reach: [0, 2, 3, 4][rng.usize(..4)],
            need_fps: Defaults::need_fps(),
            capacity_fps: 40,
            scarce: false,
            walkers: 8,
            start_s: Defaults::start_s(),
            air,
            clocks: Clocks { drift_ppm: [200, 1_000, 10_000][rng.usize(..3)], wrong_hours: rng.u32(..24) },
            acts,
            targets: Targets {
                crash_s: f64::MAX,
                silence_s: f64::MAX,
                coordinator_s: f64::MAX,
                false_per_hour: f64::MAX,
                unheard: None,
            },
        }
    }
}

impl Act {
    fn draw(rng: &mut Rng) -> Act {
        use What::{Blind, Cut, Deafen, Delude, Drop, Estrange, Kill, Mute, Pause, Power};
        let whom = match rng.u8(..12) {
            0 => Whom::Broker,
            1 | 2 => Whom::Leader,
            3 => Whom::Coordinators,
            4 => Whom::Standby,
            5 | 6 => Whom::Coverer,
            _ => Whom::Node,
        };
        let mut what = [Kill, Power, Pause, Cut, Mute, Deafen, Drop, Delude, Blind, Estrange][rng.usize(..10)];
        let misplaced = what == Delude && !matches!(whom, Whom::Leader | Whom::Standby);
        if whom == Whom::Broker || misplaced {
            what = Kill;
        }
        Act {
            at_s: Span::Between(20.0, 100.0),
            what,
            whom,
            count: 1,
            for_s: Some(Span::Between(0.2, 60.0)),
            times: if rng.u8(..4) == 0 { rng.usize(2..5) } else { 1 },
            every_s: Span::Between(2.0, 30.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_that_makes_no_sense_is_refused_with_the_remedy() {
        for (text, expect) in [
            ("about = \"x\"\nseconds = 9\nnodes = 1", "from 2 to 1024"),
            ("about = \"x\"\nseconds = 9\nfoo = 1", "foo"),
            ("about = \"x\"\nseconds = 9\n[air]\nloss = 2.0", "from 0 to 0.9"),
            ("about = \"x\"\nseconds = 9\nstart_s = [2.0, 1.0]", "[least, most]"),
            ("about = \"x\"\nseconds = 9\n[[act]]\nat_s = 1\ndo = \"cut\"\nwhom = \"broker\"", "only kill"),
            ("about = \"x\"\nseconds = 9\n[[act]]\nat_s = 1\ndo = \"lose\"\nwhom = \"node\"", "only a coordinator"),
        ] {
            let error = Scenario::read(text).unwrap_err();
            assert!(error.contains(expect), "{text}\ngave {error}");
        }
    }

    #[test]
    fn what_a_seed_draws_is_always_sound() {
        (0..1_000).for_each(|seed| Scenario::draw(seed).check().unwrap());
    }
}
