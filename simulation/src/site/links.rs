//! How the processes of a site come by connections and lose them, and what waits for one that stands still.

use std::time::Duration;

use super::net::{Unreachable, Who};
use super::{Due, Happening, World, body};

/// An attempt to connect that nobody answers ends after this.
const CONNECT_MS: u64 = 5_000;

impl World {
    /// A message or the end of a connection comes to a process: at once, or when it goes on.
    pub(super) fn arrive(&mut self, who: Who, what: body::Waiting) -> Result<(), String> {
        let body = self.body_mut(who);
        if body.paused {
            body.inbox.push_back(what);
            return Ok(());
        }
        match (who, what) {
            (Who::Agent(index), Some((topic, payload))) => self.message_to_agent(index, topic, &payload),
            (Who::Coordinator(index), Some((topic, payload))) => self.message_to_coordinator(index, &topic, &payload),
            (_, None) => self.link_is_down(who),
        }
    }

    pub(super) fn link_lost(&mut self, who: Who, number: u64) -> Result<(), String> {
        if self.net.session(who) != Some(number) {
            return Ok(());
        }
        self.arrive(who, None)
    }

    /// The process notices that its connection is over.
    pub(super) fn link_is_down(&mut self, who: Who) -> Result<(), String> {
        let Some(number) = self.net.session(who) else { return Ok(()) };
        let mut due = Due::new();
        self.net.lose(self.now_ms, who, number, &mut due);
        self.set(due);
        self.is_there(who);
        let (backoff, began_ms) = self.links.entry(who).or_default();
        backoff.ended(Duration::from_millis(self.now_ms - *began_ms));
        self.try_again(who, 0);
        match who {
            Who::Agent(index) => self.agent_link(index, false),
            Who::Coordinator(index) => self.coordinator_link(index, false),
        }
    }

    pub(super) fn try_again(&mut self, who: Who, after_ms: u64) {
        let unit = self.rng.f64();
        let pause_ms = self.links.entry(who).or_default().0.next(unit).as_millis() as u64;
        let life = self.body(who).life;
        self.after(after_ms + pause_ms, Happening::Connect(who, life));
    }

    pub(super) fn connect(&mut self, who: Who, life: u64) -> Result<(), String> {
        let body = self.body(who);
        if body.life != life || !body.alive || self.net.session(who).is_some() {
            return Ok(());
        }
        if body.paused {
            self.body_mut(who).connects = true;
            return Ok(());
        }
        let introduction = match who {
            Who::Agent(index) => self.agents[index].introduction(&self.names[index]),
            Who::Coordinator(index) => self.coordinators[index].introduction(self.now_ms),
        };
        let mut due = Due::new();
        let made = self.net.connect(self.now_ms, who, introduction, &mut due);
        self.set(due);
        match made {
            Err(Unreachable::Refused) => self.try_again(who, 0),
            Err(Unreachable::Silent) => self.try_again(who, CONNECT_MS),
            Ok(()) => {
                self.links.entry(who).or_default().1 = self.now_ms;
                self.is_there(who);
                return match who {
                    Who::Agent(index) => self.agent_link(index, true),
                    Who::Coordinator(index) => self.coordinator_link(index, true),
                };
            }
        }
        Ok(())
    }
}
