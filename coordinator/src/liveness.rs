//! Whether a node is up, suspect or down, and the evidence. Pure.
//!
//! Silence counts only while this side itself could have heard something; see [`Pulse::excuse`]. Where messages get lost, one
//! kind of evidence is not enough: a broker that cut a bad connection, or a few heartbeats that are late, would take a
//! station from a node that watches it well.

use picket_shared::clock::Now;
use picket_shared::ids::Boot;
use picket_shared::limits::HEARTBEAT_MS;
use picket_shared::status::{Health, UpDown};
use picket_shared::view::Liveness;

/// Heartbeats that may be missing: one lost to a reconnect is normal, three are not.
pub const SUSPECT_MS: u64 = 3 * HEARTBEAT_MS;
/// Silent for so long, a node is down where messages do not get lost, or somebody else confirms it.
pub const DOWN_MS: u64 = 6 * HEARTBEAT_MS;
/// Silent for so long, a node is down where messages get lost and a neighbour does not hear it either. What is lost on the
/// node's own way to the broker is lost for both: five answers of TCP in a row, at a loss of a fifth, take six seconds, and
/// happen a few times an hour.
pub const DOWN_WITNESSED_MS: u64 = 9 * HEARTBEAT_MS;
/// Silent for so long, a node is down, whatever the line is like: six answers of TCP to a loss of a fifth are in it.
pub const DOWN_LOSSY_MS: u64 = 20 * HEARTBEAT_MS;
/// Who was cut off and comes back within this was never gone.
pub const WILL_GRACE_MS: u64 = 500;
/// How long a node that was down must be up before it has its station back; doubled with each fall.
pub const HOLD_DOWN_MS: u64 = 10_000;
/// The longest of these.
pub const HOLD_DOWN_MS_MAX: u64 = 120_000;
/// A node that did not fall for so long starts with a clean sheet.
const FALLS_FORGOTTEN_MS: u64 = 600_000;

/// What the line is like, and what others say: evidence that is not the node's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Witness {
    /// Messages get lost or come late at this site now.
    pub lossy: bool,
    /// Neighbours that should hear the node and do not.
    pub unheard_by: usize,
}

/// What is known of one node's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulse {
    /// What to believe.
    pub liveness: Liveness,
    /// When that last changed, in milliseconds since 1970.
    pub since_ms: u64,
    /// Why, in a few words.
    pub why: String,
    /// The last sign of life, on the monotonic clock; in the future where it has time to come back.
    heard_ms: u64,
    /// The boot that the last sign of life came from.
    boot: Option<Boot>,
    /// The last health, to know a retained copy of it from news.
    told: Option<(UpDown, Boot, u64)>,
    /// The broker said in its name that it is gone, and nothing was heard since.
    will_ms: Option<u64>,
    /// When it last fell, and how often lately.
    fell_ms: Option<u64>,
    falls: u32,
    /// From when on it is to be trusted with its station again.
    steady_ms: u64,
}

impl Pulse {
    /// A node of which the archive has events and that has not been heard since the start.
    pub fn unheard(now: Now) -> Pulse {
        let why = "no health and no heartbeat since the coordinator started".into();
        let (heard_ms, since_ms) = (now.mono_ms, now.unix_ms);
        Pulse {
            liveness: Liveness::Suspect,
            since_ms,
            why,
            heard_ms,
            boot: None,
            told: None,
            will_ms: None,
            fell_ms: None,
            falls: 0,
            steady_ms: 0,
        }
    }

    /// A heartbeat or statistics came.
    pub fn heartbeat(&mut self, now: Now, boot: Boot) {
        self.boot = Some(boot);
        self.rise(now, "heartbeats come");
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
                self.rise(now, "says that it is up");
            }
            // The will of a connection that an agent's later boot has replaced says nothing of the agent.
            UpDown::Down if self.boot.is_some_and(|boot| health.boot < boot) => {}
            UpDown::Down if health.goodbye => self.fall(now, "stopped, and said so"),
            UpDown::Down => self.will_ms = self.will_ms.or(Some(now.mono_ms)),
        }
    }

    /// Time has passed. True where that changed what to believe.
    pub fn tick(&mut self, now: Now, witness: Witness) -> bool {
        let before = self.liveness;
        if before == Liveness::Down {
            return false;
        }
        let silent_ms = now.mono_ms.saturating_sub(self.heard_ms);
        let cut = self.will_ms.is_some_and(|will_ms| now.mono_ms >= will_ms + WILL_GRACE_MS);
        let neighbours = || format!("{} of its neighbours hear nothing of it", witness.unheard_by);
        let silence = || format!("no heartbeat for {} s", silent_ms / 1000);
        const CUT: &str = "the broker lost its connection";
        if cut && !witness.lossy {
            self.fall(now, CUT);
        } else if cut && silent_ms >= SUSPECT_MS {
            self.fall(now, &format!("{CUT}, and {}", silence()));
        } else if silent_ms >= DOWN_MS && !witness.lossy || silent_ms >= DOWN_LOSSY_MS {
            self.fall(now, &silence());
        } else if silent_ms >= DOWN_WITNESSED_MS && witness.unheard_by > 0 {
            self.fall(now, &format!("{}, and {}", silence(), neighbours()));
        } else if cut {
            self.doubt(now, CUT);
        } else if silent_ms >= SUSPECT_MS {
            self.doubt(now, &format!("no heartbeat for {} s", SUSPECT_MS / 1000));
        }
        self.liveness != before
    }

    /// When time alone would change something next, on the monotonic clock.
    pub fn next_wakeup(&self, now: Now) -> Option<u64> {
        let steps = [SUSPECT_MS, DOWN_MS, DOWN_WITNESSED_MS, DOWN_LOSSY_MS].map(|after_ms| self.heard_ms + after_ms);
        let cut = self.will_ms.map(|will_ms| will_ms + WILL_GRACE_MS);
        let falling = steps.into_iter().chain(cut).filter(|_| self.liveness != Liveness::Down);
        falling.chain([self.steady_ms]).filter(|at_ms| *at_ms > now.mono_ms).min()
    }

    /// Whether nothing was heard for longer than is normal.
    pub fn is_silent(&self, now: Now) -> bool {
        now.mono_ms.saturating_sub(self.heard_ms) >= SUSPECT_MS
    }

    /// Whether it is up, and has been for long enough after it fell.
    pub fn is_steady(&self, now: Now) -> bool {
        self.liveness == Liveness::Up && now.mono_ms >= self.steady_ms
    }

    /// For `deaf_ms` until now nothing could be heard here: the link was down, or this process stood still. One heartbeat
    /// more is granted, for what is still on its way, and `return_ms` for who has to connect again.
    pub fn excuse(&mut self, now: Now, deaf_ms: u64, return_ms: u64) {
        self.heard_ms = self.heard_ms.saturating_add(deaf_ms + HEARTBEAT_MS).min(now.mono_ms) + return_ms;
    }

    fn rise(&mut self, now: Now, why: &str) {
        self.heard_ms = now.mono_ms;
        self.will_ms = None;
        if self.liveness == Liveness::Down && self.falls > 0 {
            let hold_ms = HOLD_DOWN_MS << (self.falls - 1).min(8);
            self.steady_ms = now.mono_ms + hold_ms.min(HOLD_DOWN_MS_MAX);
        }
        self.become_(now, Liveness::Up, why);
    }

    fn doubt(&mut self, now: Now, why: &str) {
        self.become_(now, Liveness::Suspect, why);
    }

    fn fall(&mut self, now: Now, why: &str) {
        if self.liveness != Liveness::Down && self.boot.is_some() {
            let lately = self.fell_ms.is_some_and(|fell_ms| now.mono_ms - fell_ms < FALLS_FORGOTTEN_MS);
            self.falls = if lately { self.falls.saturating_add(1) } else { 1 };
            self.fell_ms = Some(now.mono_ms);
        }
        self.become_(now, Liveness::Down, why);
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

    fn health(status: UpDown, boot: u64, time: u64, goodbye: bool) -> Health {
        Health { status, pid: 1, time, boot: Boot(boot), epoch: 0, problems: vec![], goodbye, audit: None, name: None }
    }

    enum Sign {
        Beat(u64),
        Says(UpDown, u64, u64),
        Leaves(u64),
        Tick,
        Lossy,
        Neighbours,
        Excuse(u64),
        Returns(u64, u64),
    }
    use Sign::*;

    fn check(name: &str, signs: &[(u64, Sign, Liveness)]) {
        let mut pulse = Pulse::unheard(at(0));
        let (clear, lossy) = (Witness::default(), Witness { lossy: true, unheard_by: 0 });
        for (ms, sign, expect) in signs {
            match *sign {
                Beat(boot) => pulse.heartbeat(at(*ms), Boot(boot)),
                Says(status, boot, time) => pulse.health(at(*ms), &health(status, boot, time, false)),
                Leaves(boot) => pulse.health(at(*ms), &health(UpDown::Down, boot, *ms, true)),
                Tick => drop(pulse.tick(at(*ms), clear)),
                Lossy => drop(pulse.tick(at(*ms), lossy)),
                Neighbours => drop(pulse.tick(at(*ms), Witness { unheard_by: 1, ..lossy })),
                Excuse(deaf_ms) => pulse.excuse(at(*ms), deaf_ms, 0),
                Returns(deaf_ms, return_ms) => pulse.excuse(at(*ms), deaf_ms, return_ms),
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
                (2_999, Tick, Up),
                (3_000, Tick, Suspect),
                (5_999, Tick, Suspect),
                (6_000, Tick, Down),
                (7_000, Beat(5), Up),
            ],
        );
        check("never heard", &[(1, Tick, Suspect), (6_000, Tick, Down)]);
        check("goodbye", &[(0, Says(SaysUp, 5, 1), Up), (9, Leaves(5), Down), (99_999, Tick, Down)]);
        check(
            "the will",
            &[(0, Beat(5), Up), (9, Says(SaysDown, 5, 2), Up), (508, Tick, Up), (509, Tick, Down), (600, Beat(5), Up)],
        );
        check(
            "cut off and back at once",
            &[(0, Beat(5), Up), (9, Says(SaysDown, 5, 2), Up), (200, Says(SaysUp, 5, 3), Up), (900, Tick, Up)],
        );
        check(
            "the will of an older boot",
            &[(0, Says(SaysUp, 6, 1), Up), (9, Says(SaysDown, 5, 2), Up), (900, Tick, Up)],
        );
        check(
            "a retained copy is no sign of life",
            &[
                (0, Says(SaysUp, 5, 1), Up),
                (6_000, Tick, Down),
                (6_001, Says(SaysUp, 5, 1), Down),
                (6_002, Says(SaysUp, 6, 2), Up),
            ],
        );
        check("a clock set back", &[(0, Beat(5), Up), (9, Says(SaysUp, 2, 1), Up), (10, Leaves(2), Down)]);
        check(
            "deaf, not silent",
            &[(0, Beat(5), Up), (35_000, Excuse(30_000), Up), (35_001, Tick, Suspect), (37_000, Tick, Down)],
        );
        check(
            "the broker was away, and not everybody is back yet",
            &[
                (0, Beat(5), Up),
                (9_000, Returns(9_000, 5_000), Up),
                (16_999, Tick, Up),
                (17_000, Tick, Suspect),
                (19_999, Tick, Suspect),
                (20_000, Tick, Down),
            ],
        );
    }

    #[test]
    fn where_messages_get_lost_two_kinds_of_evidence_are_needed() {
        use UpDown::Down as SaysDown;
        check("the will alone", &[(0, Beat(5), Up), (9, Says(SaysDown, 5, 2), Up), (509, Lossy, Suspect)]);
        check("silence alone", &[(0, Beat(5), Up), (6_000, Lossy, Suspect), (19_999, Lossy, Suspect)]);
        check("the will and silence", &[(0, Beat(5), Up), (9, Says(SaysDown, 5, 2), Up), (3_000, Lossy, Down)]);
        check("silence and a neighbour", &[(0, Beat(5), Up), (8_999, Neighbours, Suspect), (9_000, Neighbours, Down)]);
        check("silence for very long", &[(0, Beat(5), Up), (20_000, Lossy, Down)]);
    }

    #[test]
    fn who_fell_is_steady_again_after_a_while_that_grows_with_each_fall() {
        let mut pulse = Pulse::unheard(at(0));
        pulse.heartbeat(at(0), Boot(1));
        assert!(pulse.is_steady(at(0)), "the first time there is nothing to hold down");
        let mut ms = 0;
        for hold_ms in [10_000, 20_000, 40_000, 80_000, 120_000, 120_000] {
            ms += 6_000;
            assert!(pulse.tick(at(ms), Witness::default()));
            pulse.heartbeat(at(ms), Boot(1));
            assert!(!pulse.is_steady(at(ms + hold_ms - 1)), "{hold_ms}");
            assert!(pulse.is_steady(at(ms + hold_ms)));
        }
        // Ten quiet minutes later it begins anew.
        ms += FALLS_FORGOTTEN_MS;
        pulse.heartbeat(at(ms), Boot(1));
        pulse.tick(at(ms + 6_000), Witness::default());
        pulse.heartbeat(at(ms + 6_000), Boot(1));
        assert!(pulse.is_steady(at(ms + 16_000)));
    }

    #[test]
    fn since_tells_when_it_changed_and_not_when_it_was_last_seen() {
        let mut pulse = Pulse::unheard(at(0));
        pulse.heartbeat(at(10), Boot(1));
        pulse.heartbeat(at(1_010), Boot(1));
        assert!(!pulse.tick(at(1_011), Witness::default()));
        assert_eq!((pulse.since_ms, pulse.why.as_str()), (1_000_010, "heartbeats come"));
        assert_eq!(pulse.next_wakeup(at(1_011)), Some(4_010));
    }
}
