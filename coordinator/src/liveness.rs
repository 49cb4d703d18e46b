//! Whether a node is up, suspect or down, and the evidence. Pure.
//!
//! This is a hint for people: nothing is taken from a node because of it. Silence counts only while this side itself could
//! have heard something; see [`Pulse::excuse`].

use picket_shared::clock::Now;
use picket_shared::ids::Boot;
use picket_shared::limits::HEARTBEAT_MS;
use picket_shared::status::{Health, UpDown};
use picket_shared::view::Liveness;

/// Heartbeats that may be missing: one lost to a reconnect is normal, three are not.
pub const SUSPECT_HEARTBEATS: u64 = 3;
/// Missing for so long, a node is down, whatever it last said.
pub const DOWN_HEARTBEATS: u64 = 10;

const SUSPECT_MS: u64 = SUSPECT_HEARTBEATS * HEARTBEAT_MS;
const DOWN_MS: u64 = DOWN_HEARTBEATS * HEARTBEAT_MS;

/// What is known of one node's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulse {
    /// What to believe.
    pub liveness: Liveness,
    /// When that last changed, in milliseconds since 1970.
    pub since_ms: u64,
    /// Why, in a few words.
    pub why: String,
    /// The last sign of life, on the monotonic clock.
    heard_ms: u64,
    /// The boot that the last sign of life came from.
    boot: Option<Boot>,
    /// The last health, to know a retained copy of it from news.
    told: Option<(UpDown, Boot, u64)>,
}

impl Pulse {
    /// A node of which the archive has events and that has not been heard since the start.
    pub fn unheard(now: Now) -> Pulse {
        let why = "no health and no heartbeat since the coordinator started".into();
        let (heard_ms, since_ms) = (now.mono_ms, now.unix_ms);
        Pulse { liveness: Liveness::Suspect, since_ms, why, heard_ms, boot: None, told: None }
    }

    /// Statistics came.
    pub fn heartbeat(&mut self, now: Now, boot: Boot) {
        self.boot = Some(boot);
        self.heard_ms = now.mono_ms;
        self.become_(now, Liveness::Up, "heartbeats come");
    }

    /// A health message came: from the node, from the broker in its name, or a retained copy of either.
    pub fn health(&mut self, now: Now, health: &Health) {
        let told = (health.status, health.boot, health.time);
        if self.told.replace(told) == Some(told) {
            return;
        }
        match health.status {
            UpDown::Up => {
                self.boot = Some(health.boot);
                self.heard_ms = now.mono_ms;
                self.become_(now, Liveness::Up, "says that it is up");
            }
            // The will of a connection that an agent's later boot has replaced says nothing of the agent.
            UpDown::Down if self.boot.is_some_and(|boot| health.boot < boot) => {}
            UpDown::Down => self.become_(now, Liveness::Down, "says that it is down, or the broker does for it"),
        }
    }

    /// Time has passed. True where that changed what to believe.
    pub fn tick(&mut self, now: Now) -> bool {
        let silent_ms = now.mono_ms.saturating_sub(self.heard_ms);
        let before = self.liveness;
        if before == Liveness::Down || silent_ms < SUSPECT_MS {
            return false;
        }
        if silent_ms < DOWN_MS {
            self.become_(now, Liveness::Suspect, &format!("no heartbeat for {} s", SUSPECT_MS / 1000));
        } else {
            self.become_(now, Liveness::Down, &format!("no heartbeat for {} s", DOWN_MS / 1000));
        }
        self.liveness != before
    }

    /// When silence alone would change something next, on the monotonic clock.
    pub fn next_wakeup(&self) -> Option<u64> {
        match self.liveness {
            Liveness::Up => Some(self.heard_ms + SUSPECT_MS),
            Liveness::Suspect => Some(self.heard_ms + DOWN_MS),
            Liveness::Down => None,
        }
    }

    /// For `deaf_ms` until now nothing could be heard here: the link was down, or this process stood still. One heartbeat
    /// more is granted, for what is still on its way.
    pub fn excuse(&mut self, now: Now, deaf_ms: u64) {
        self.heard_ms = self.heard_ms.saturating_add(deaf_ms + HEARTBEAT_MS).min(now.mono_ms);
    }

    fn become_(&mut self, now: Now, liveness: Liveness, why: &str) {
        if self.liveness != liveness {
            self.liveness = liveness;
            self.since_ms = now.unix_ms;
        }
        if self.why != why {
            self.why = why.to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Liveness::{Down, Suspect, Up};

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, unix_ms: 1_000_000 + mono_ms }
    }

    fn health(status: UpDown, boot: u64, time: u64) -> Health {
        Health { status, pid: 1, time, boot: Boot(boot), epoch: 0, problems: vec![] }
    }

    enum Sign {
        Beat(u64),
        Says(UpDown, u64, u64),
        Tick,
        Excuse(u64),
    }
    use Sign::*;

    fn check(name: &str, signs: &[(u64, Sign, Liveness)]) {
        let mut pulse = Pulse::unheard(at(0));
        for (ms, sign, expect) in signs {
            match *sign {
                Beat(boot) => pulse.heartbeat(at(*ms), Boot(boot)),
                Says(status, boot, time) => pulse.health(at(*ms), &health(status, boot, time)),
                Tick => drop(pulse.tick(at(*ms))),
                Excuse(deaf_ms) => pulse.excuse(at(*ms), deaf_ms),
            }
            assert_eq!(pulse.liveness, *expect, "{name} at {ms}: {}", pulse.why);
        }
    }

    #[test]
    fn liveness_follows_the_evidence() {
        use UpDown::{Down as SaysDown, Up as SaysUp};
        check(
            "silence",
            &[
                (0, Beat(5), Up),
                (5_999, Tick, Up),
                (6_000, Tick, Suspect),
                (19_999, Tick, Suspect),
                (20_000, Tick, Down),
                (21_000, Beat(5), Up),
            ],
        );
        check("never heard", &[(1, Tick, Suspect), (20_000, Tick, Down)]);
        check("goodbye", &[(0, Says(SaysUp, 5, 1), Up), (9, Says(SaysDown, 5, 2), Down), (99_999, Tick, Down)]);
        check("the will of an older boot", &[(0, Says(SaysUp, 6, 1), Up), (9, Says(SaysDown, 5, 2), Up)]);
        check("a beat after the will", &[(0, Beat(5), Up), (9, Says(SaysDown, 5, 2), Down), (10, Beat(5), Up)]);
        check(
            "a retained copy is no sign of life",
            &[
                (0, Says(SaysUp, 5, 1), Up),
                (20_000, Tick, Down),
                (20_001, Says(SaysUp, 5, 1), Down),
                (20_002, Says(SaysUp, 6, 2), Up),
            ],
        );
        check("a clock set back", &[(0, Beat(5), Up), (9, Says(SaysUp, 2, 1), Up), (10, Says(SaysDown, 2, 1), Down)]);
        check(
            "deaf, not silent",
            &[(0, Beat(5), Up), (35_000, Excuse(30_000), Up), (35_001, Tick, Up), (38_000, Tick, Suspect)],
        );
    }

    #[test]
    fn since_tells_when_it_changed_and_not_when_it_was_last_seen() {
        let mut pulse = Pulse::unheard(at(0));
        pulse.heartbeat(at(10), Boot(1));
        pulse.heartbeat(at(2_010), Boot(1));
        assert!(!pulse.tick(at(2_011)));
        assert_eq!((pulse.since_ms, pulse.why.as_str()), (1_000_010, "heartbeats come"));
        assert_eq!(pulse.next_wakeup(), Some(8_010));
    }
}
