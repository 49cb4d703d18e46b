//! What waits to be published while the MQTT client is busy or away. Pure.
//!
//! Acks go first, because agents wait for them; of a retained view only the newest counts; events for the live view are
//! told in order, and when too many wait the oldest are dropped and counted. Nothing here is a record: agents ask again
//! for an ack by sending again, views are rewritten, and the archive has every event.

use std::collections::{BTreeMap, VecDeque};

use picket_shared::mqtt::PublishError;
use picket_shared::topics::Topic;

/// Acks that wait: eight for each of the most nodes there can be.
pub const ACKS_WAITING_MAX: usize = 4096;
/// Events for the live view that wait: two seconds of 2,000 events each.
pub const EVENTS_WAITING_MAX: usize = 4096;

/// The queue.
#[derive(Debug, Default)]
pub struct Outgoing {
    acks: VecDeque<(Topic, Vec<u8>)>,
    newest: BTreeMap<Topic, Vec<u8>>,
    events: VecDeque<(Topic, Vec<u8>)>,
    dropped: u64,
}

impl Outgoing {
    /// Takes in a message.
    pub fn push(&mut self, topic: Topic, payload: Vec<u8>) {
        let (queue, waiting_max) = match topic {
            Topic::Ack(_) | Topic::LearnAck(_) => (&mut self.acks, ACKS_WAITING_MAX),
            Topic::ViewEvent | Topic::ViewChange => (&mut self.events, EVENTS_WAITING_MAX),
            _ => return drop(self.newest.insert(topic, payload)),
        };
        if queue.len() == waiting_max {
            queue.pop_front();
            self.dropped += 1;
        }
        queue.push_back((topic, payload));
    }

    /// The broker was away: acks and views are said anew when it is back, and what waits of them is old.
    pub fn link_lost(&mut self) {
        self.acks.clear();
        self.newest.clear();
    }

    /// Hands over as much as is taken. A message that is refused for good is dropped and counted.
    pub fn flush(&mut self, mut publish: impl FnMut(&Topic, &[u8]) -> Result<(), PublishError>) {
        let mut taken = |topic: &Topic, payload: &[u8]| match publish(topic, payload) {
            Ok(()) => true,
            Err(PublishError::TooLarge) => {
                self.dropped += 1;
                true
            }
            Err(PublishError::Busy | PublishError::Offline) => false,
        };
        while let Some((topic, payload)) = self.acks.front() {
            if !taken(topic, payload) {
                return;
            }
            self.acks.pop_front();
        }
        while let Some((topic, payload)) = self.newest.first_key_value() {
            if !taken(topic, payload) {
                return;
            }
            self.newest.pop_first();
        }
        while let Some((topic, payload)) = self.events.front() {
            if !taken(topic, payload) {
                return;
            }
            self.events.pop_front();
        }
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.acks.is_empty() && self.newest.is_empty() && self.events.is_empty()
    }

    /// Messages that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::ids::NodeId;

    fn ack() -> Topic {
        Topic::Ack(NodeId::new("a").unwrap())
    }

    /// What is handed over when `room` messages are taken.
    fn flushed(outgoing: &mut Outgoing, room: usize) -> Vec<(Topic, u8)> {
        let mut taken = Vec::new();
        outgoing.flush(|topic, payload| {
            if taken.len() == room {
                return Err(PublishError::Busy);
            }
            taken.push((topic.clone(), payload[0]));
            Ok(())
        });
        taken
    }

    #[test]
    fn acks_go_first_views_are_replaced_and_events_keep_their_order() {
        let mut outgoing = Outgoing::default();
        for (topic, byte) in [
            (Topic::ViewEvent, 1),
            (Topic::ViewSite, 2),
            (Topic::ViewEvent, 3),
            (ack(), 4),
            (Topic::ViewSite, 5),
            (ack(), 6),
        ] {
            outgoing.push(topic, vec![byte]);
        }
        assert_eq!(flushed(&mut outgoing, 1), [(ack(), 4)]);
        assert_eq!(flushed(&mut outgoing, 2), [(ack(), 6), (Topic::ViewSite, 5)]);
        assert_eq!(flushed(&mut outgoing, 9), [(Topic::ViewEvent, 1), (Topic::ViewEvent, 3)]);
        assert!(outgoing.is_empty() && outgoing.dropped() == 0);
    }

    #[test]
    fn a_long_absence_costs_the_oldest_events_of_the_view_and_is_counted() {
        let mut outgoing = Outgoing::default();
        for i in 0..EVENTS_WAITING_MAX + 2 {
            outgoing.push(Topic::ViewEvent, vec![u8::from(i == 2)]);
        }
        outgoing.push(ack(), vec![0]);
        outgoing.link_lost();
        let taken = flushed(&mut outgoing, usize::MAX);
        assert_eq!((taken.len(), taken[0].1, outgoing.dropped()), (EVENTS_WAITING_MAX, 1, 2));
    }

    #[test]
    fn a_message_that_never_fits_does_not_block_the_others() {
        let mut outgoing = Outgoing::default();
        outgoing.push(Topic::ViewSite, vec![1]);
        outgoing.push(Topic::ViewEvent, vec![2]);
        let mut taken = 0;
        outgoing.flush(|topic, _| match topic {
            Topic::ViewSite => Err(PublishError::TooLarge),
            _ => {
                taken += 1;
                Ok(())
            }
        });
        assert_eq!((taken, outgoing.dropped()), (1, 1));
    }
}
