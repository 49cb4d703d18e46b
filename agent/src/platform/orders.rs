//! Which orders a platform may still be given: an older lease's are refused, and of what waits only the newest of each station
//! is kept. Pure.

use std::collections::{BTreeMap, VecDeque};

use picket_shared::duty::{Epoch, StandbyDuty};
use picket_shared::ids::StationId;
use picket_shared::limits::HOLDINGS_MAX;
use picket_shared::platform::{Action, PlatformOrder};

use crate::duty::Order;

/// Orders that wait: one for each station that can be held at once, and as many that are left meanwhile.
pub const ORDERS_WAITING_MAX: usize = 2 * HOLDINGS_MAX;
/// Stations whose epochs are remembered. They change with the site's plan only.
const STATIONS_MAX: usize = 1024;

/// One order for the platform.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Go, or leave.
    pub action: Action,
    /// The station.
    pub station: StationId,
    /// Under which lease.
    pub epoch: Epoch,
    /// How the station is covered; absent where a station is left that this run never went to.
    pub duty: Option<StandbyDuty>,
}

impl Task {
    /// What the platform is told where to go.
    pub fn goal(&self) -> &str {
        self.duty.as_ref().and_then(|duty| duty.goal.as_deref()).unwrap_or_default()
    }

    /// As it is said to others.
    pub fn said(&self, unix_s: u64) -> PlatformOrder {
        let duty = self.duty.as_ref();
        PlatformOrder {
            time: unix_s,
            action: self.action,
            station: self.station.clone(),
            epoch: self.epoch.0,
            home: duty.map(|duty| duty.home.clone()),
            how: duty.map(|duty| duty.how),
            goal: duty.and_then(|duty| duty.goal.clone()),
        }
    }
}

/// What was ordered of each station last.
#[derive(Debug, Default)]
pub struct Fence {
    last: BTreeMap<StationId, Task>,
    refused: u64,
}

impl Fence {
    /// The task that an order of the core means. Nothing where it is of an older lease than one before, or moves nothing.
    pub fn admit(&mut self, order: Order) -> Option<Task> {
        let (action, station, epoch, duty) = match order {
            Order::Go(duty, epoch) => (Action::Go, duty.station.clone(), epoch, Some(*duty)),
            Order::Leave(station, epoch) => (Action::Leave, station, epoch, None),
            _ => return None,
        };
        let before = self.last.get(&station);
        let old = before.is_some_and(|before| epoch < before.epoch);
        if old || (before.is_none() && self.last.len() >= STATIONS_MAX) {
            self.refused += 1;
            return None;
        }
        let duty = duty.or_else(|| before.and_then(|before| before.duty.clone()));
        let task = Task { action, station: station.clone(), epoch, duty };
        self.last.insert(station, task.clone());
        Some(task)
    }

    /// Orders that were refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// What leaves every station that the platform was sent to last.
    pub fn all_left(&mut self) -> Vec<Task> {
        let out = self.last.values_mut().filter(|task| task.action == Action::Go);
        let leave = |task: &mut Task| {
            task.action = Action::Leave;
            task.clone()
        };
        out.map(leave).collect()
    }
}

/// Orders that wait for those before them.
#[derive(Debug, Default)]
pub struct Queue(VecDeque<Task>);

impl Queue {
    /// Puts one at the end, or in the place of an older one of its station. False where there is no room.
    pub fn push(&mut self, task: Task) -> bool {
        if let Some(waiting) = self.0.iter_mut().find(|waiting| waiting.station == task.station) {
            *waiting = task;
            return true;
        }
        let room = self.0.len() < ORDERS_WAITING_MAX;
        if room {
            self.0.push_back(task);
        }
        room
    }

    /// The first of them.
    pub fn pop(&mut self) -> Option<Task> {
        self.0.pop_front()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::duty::How;
    use picket_shared::ids::NodeId;

    fn station(name: &str) -> StationId {
        StationId::new(name).unwrap()
    }

    fn go(name: &str, count: u32) -> Order {
        let (home, ranks, how, cameras) = (NodeId::new("home").unwrap(), vec![], How::Flight, None);
        let duty = StandbyDuty { station: station(name), home, ranks, how, cameras, goal: Some("there".into()) };
        Order::Go(Box::new(duty), Epoch::new(1, count))
    }

    fn leave(name: &str, count: u32) -> Order {
        Order::Leave(station(name), Epoch::new(1, count))
    }

    #[test]
    fn an_order_of_an_older_lease_is_refused_and_counted() {
        let mut fence = Fence::default();
        for (order, taken, refused) in [
            (go("a", 5), true, 0),
            (go("a", 4), false, 1),
            (leave("a", 4), false, 2),
            // Another station has epochs of its own.
            (go("b", 1), true, 2),
            (leave("a", 5), true, 2),
            (go("a", 5), true, 2),
            (go("a", 6), true, 2),
            (leave("a", 5), false, 3),
            (Order::Uncover(station("a")), false, 3),
        ] {
            let what = format!("{order:?}");
            assert_eq!((fence.admit(order).is_some(), fence.refused()), (taken, refused), "{what}");
        }
    }

    #[test]
    fn leaving_knows_where_it_went_and_at_the_end_everything_is_left_once() {
        let mut fence = Fence::default();
        assert_eq!(fence.admit(leave("a", 1)).unwrap().duty, None);
        fence.admit(go("a", 2));
        fence.admit(go("b", 2));
        let left = fence.admit(leave("b", 2)).unwrap();
        assert_eq!((left.goal(), left.said(9).how), ("there", Some(How::Flight)));
        let all: Vec<_> = fence.all_left().into_iter().map(|task| (task.action, task.station.to_string())).collect();
        assert_eq!(all, [(Action::Leave, "a".to_owned())]);
        assert!(fence.all_left().is_empty());
    }

    #[test]
    fn the_newest_of_a_station_waits_in_the_place_of_the_older() {
        let mut fence = Fence::default();
        let mut queue = Queue::default();
        for order in [go("a", 1), go("b", 1), leave("a", 1), go("a", 2)] {
            assert!(queue.push(fence.admit(order).unwrap()));
        }
        let order = |task: Task| (task.station.to_string(), task.action.word(), task.epoch.0 as u32);
        assert_eq!(queue.pop().map(order), Some(("a".to_owned(), "go", 2)));
        assert_eq!(queue.pop().map(order), Some(("b".to_owned(), "go", 1)));
        assert!(queue.is_empty());
        for n in 0..ORDERS_WAITING_MAX {
            assert!(queue.push(fence.admit(go(&format!("s{n}"), 1)).unwrap()));
        }
        assert!(!queue.push(fence.admit(go("one-more", 1)).unwrap()));
        assert!(queue.push(fence.admit(leave("s0", 1)).unwrap()), "what waits already can always be left");
    }
}
