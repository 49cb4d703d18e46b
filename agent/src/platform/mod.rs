//! Tells the platform that carries this node to go and to leave: by a program, by MQTT, by MAVLink; any of them, or none.
//!
//! The duty core decides when; what an order means is the platform's to know. An order of an older lease is refused here,
//! before any of them hears of it. None of them can hold up the node: each works by itself, and what goes wrong is a sentence
//! in the node's health. An agent that stops leaves every station that it went to.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use picket_shared::config::within;
use picket_shared::ids::StationId;
use picket_shared::platform::{Action, PlatformOrder};
use serde::Deserialize;

use crate::duty::Order;

pub mod exec;
pub mod orders;
pub mod pilot;

use orders::Fence;
use pilot::{LinkUrl, OnLeave, Pilot};

/// Words of the program's command line.
const WORDS_MAX: usize = 64;
/// What a platform is given to hear its last orders, when the agent stops.
const LAST_ORDERS: Duration = Duration::from_secs(5);
/// How often it is looked whether they did.
const LOOK: Duration = Duration::from_millis(20);
/// Stations whose newest order is said over MQTT.
const COMMANDS_MAX: usize = 64;

/// How this node's platform is told.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A program and its arguments, started for each order; none where empty.
    pub exec: Vec<String>,
    /// Seconds after which it is killed.
    pub exec_timeout_s: f64,
    /// Say each order on `…/platform`.
    pub mqtt: bool,
    /// A vehicle that speaks MAVLink, as `udpout:host:port` or `udpin:address:port`.
    pub mavlink: Option<LinkUrl>,
    /// The vehicle's system id.
    pub vehicle: u8,
    /// Whether the vehicle may be armed.
    pub arm: bool,
    /// What the vehicle does when it may stay no longer.
    pub on_leave: OnLeave,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            exec: Vec::new(),
            exec_timeout_s: 30.0,
            mqtt: false,
            mavlink: None,
            vehicle: 1,
            arm: false,
            on_leave: OnLeave::Rtl,
        }
    }
}

impl Config {
    /// Checks the values.
    pub fn check(&self) -> Result<(), String> {
        within("platform.exec_timeout_s", self.exec_timeout_s, 0.1..=600.0)?;
        within("platform.vehicle", self.vehicle, 1..=u8::MAX)?;
        if self.exec.len() > WORDS_MAX {
            return Err(format!("platform.exec has {} words, of at most {WORDS_MAX}", self.exec.len()));
        }
        match self.exec.first() {
            Some(program) if !Path::new(program).is_absolute() => Err(format!(
                "platform.exec begins with \"{program}\"; name the program by its whole path, and its arguments one by one"
            )),
            _ => Ok(()),
        }
    }
}

/// Everything that moves this node.
#[derive(Default)]
pub struct Platform {
    fence: Fence,
    exec: Option<exec::Lane>,
    pilot: Option<Pilot>,
    /// The newest order of each station, and whether it is still to be said; nothing where it is not said at all.
    commands: Option<BTreeMap<StationId, (PlatformOrder, bool)>>,
    over: u64,
}

impl Platform {
    /// Starts what the configuration names, on the current tokio runtime.
    pub fn start(config: &Config) -> std::io::Result<Platform> {
        let limit = Duration::from_secs_f64(config.exec_timeout_s);
        let exec = match &config.exec[..] {
            [] => None,
            words => Some(exec::Lane::start(words.to_vec(), limit)?),
        };
        let fly = |link: &LinkUrl| Pilot::start(link.clone(), config.vehicle, config.arm, config.on_leave);
        let (pilot, commands) = (config.mavlink.as_ref().map(fly), config.mqtt.then(BTreeMap::new));
        Ok(Platform { fence: Fence::default(), exec, pilot, commands, over: 0 })
    }

    /// Performs [`Order::Go`] and [`Order::Leave`]; other orders move nothing.
    pub fn order(&mut self, unix_ms: u64, order: Order) {
        if let Some(task) = self.fence.admit(order) {
            self.perform(unix_ms, &task);
        }
    }

    /// Leaves every station that it went to; false where there is none.
    pub fn leave_all(&mut self, unix_ms: u64) -> bool {
        let tasks = self.fence.all_left();
        tasks.iter().for_each(|task| self.perform(unix_ms, task));
        !tasks.is_empty()
    }

    fn perform(&mut self, unix_ms: u64, task: &orders::Task) {
        if let Some(exec) = &self.exec {
            exec.order(task.clone());
        }
        if let Some(pilot) = &self.pilot {
            pilot.order(task);
        }
        if let Some(commands) = &mut self.commands {
            if commands.len() >= COMMANDS_MAX && !commands.contains_key(&task.station) {
                // Who was told to leave, and heard of it, needs not hear it for ever.
                let left = commands.iter().find(|(_, (order, due))| order.action == Action::Leave && !due);
                let Some(station) = left.map(|(station, _)| station.clone()) else {
                    self.over += 1;
                    return;
                };
                commands.remove(&station);
            }
            commands.insert(task.station.clone(), (task.said(unix_ms / 1000), true));
        }
    }

    /// There is a new connection: what was said over the last may be lost.
    pub fn connected(&mut self) {
        self.commands.iter_mut().flat_map(BTreeMap::values_mut).for_each(|(_, due)| *due = true);
    }

    /// Hands over what is to be said over MQTT; `publish` says whether it was taken.
    pub fn say(&mut self, mut publish: impl FnMut(&PlatformOrder) -> bool) {
        for (order, due) in self.commands.iter_mut().flat_map(BTreeMap::values_mut) {
            *due = *due && !publish(order);
        }
    }

    /// Whether all has been said that can be.
    pub fn is_said(&self) -> bool {
        self.commands.iter().flat_map(BTreeMap::values).all(|(_, due)| !due)
    }

    /// What is wrong, in a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let exec = self.exec.iter().flat_map(exec::Lane::problems);
        exec.chain(self.pilot.iter().flat_map(Pilot::problems)).collect()
    }

    /// Orders that were refused, by a constant word.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let full = self.over + self.exec.as_ref().map_or(0, exec::Lane::refused);
        [("platform_old_epoch", self.fence.refused()), ("platform_full", full)]
            .into_iter()
            .filter(|(_, count)| *count > 0)
    }

    /// Waits, for a bounded time, until the platform has heard all that it was ordered.
    pub async fn drain(&self) {
        let until = Instant::now() + LAST_ORDERS;
        let heard =
            || self.exec.as_ref().is_none_or(exec::Lane::is_idle) && self.pilot.as_ref().is_none_or(Pilot::is_told);
        while !heard() && Instant::now() < until {
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::duty::{Epoch, How, StandbyDuty};
    use picket_shared::ids::NodeId;

    fn go(name: &str, count: u32) -> Order {
        let (station, home) = (StationId::new(name).unwrap(), NodeId::new("home").unwrap());
        let (ranks, how, cameras, goal) = (vec![], How::Preset, None, Some("gate".into()));
        Order::Go(Box::new(StandbyDuty { station, home, ranks, how, cameras, goal }), Epoch::new(1, count))
    }

    fn said(platform: &mut Platform, taken: bool) -> Vec<(&'static str, String)> {
        let mut said = Vec::new();
        platform.say(|order| {
            said.push((order.action.word(), order.station.to_string()));
            taken
        });
        said
    }

    #[test]
    fn orders_are_said_until_they_are_taken_and_again_on_every_connection() {
        let mut platform = Platform::start(&Config { mqtt: true, ..Config::default() }).unwrap();
        platform.order(1_000, go("a", 1));
        platform.order(1_000, go("b", 1));
        let both = vec![("go", "a".to_owned()), ("go", "b".to_owned())];
        assert_eq!((said(&mut platform, false), platform.is_said()), (both.clone(), false));
        assert_eq!((said(&mut platform, true), platform.is_said()), (both.clone(), true));
        assert_eq!(said(&mut platform, true), []);
        platform.connected();
        assert_eq!(said(&mut platform, true), both);
        platform.order(1_000, Order::Leave(StationId::new("a").unwrap(), Epoch::new(1, 0)));
        assert_eq!(said(&mut platform, true), [], "an old order");
        assert_eq!(platform.refused().collect::<Vec<_>>(), [("platform_old_epoch", 1)]);
        assert!(platform.leave_all(2_000) && !platform.leave_all(3_000));
        assert_eq!(said(&mut platform, true), [("leave", "a".to_owned()), ("leave", "b".to_owned())]);
    }

    #[test]
    fn nothing_is_said_where_it_was_not_asked_for() {
        let mut platform = Platform::default();
        platform.order(1_000, go("a", 1));
        assert_eq!((said(&mut platform, true), platform.is_said()), (vec![], true));
    }

    #[test]
    fn stations_that_were_left_make_room_and_others_do_not() {
        let mut platform = Platform::start(&Config { mqtt: true, ..Config::default() }).unwrap();
        for n in 0..COMMANDS_MAX {
            platform.order(1_000, go(&format!("s{n}"), 1));
        }
        platform.order(1_000, go("more", 1));
        assert_eq!(platform.refused().collect::<Vec<_>>(), [("platform_full", 1)]);
        platform.order(1_000, Order::Leave(StationId::new("s1").unwrap(), Epoch::new(1, 1)));
        said(&mut platform, true);
        platform.order(1_000, go("other", 1));
        assert_eq!(said(&mut platform, true), [("go", "other".to_owned())]);
    }
}
