//! Notices that two agents go by one node's name: what is said in that name comes from two runs in turn. Pure.
//!
//! A restart brings a new run once, and the old one is never heard again; two agents come and go. It is a hint for people:
//! their events are kept apart by their boots, and none is refused.

use picket_shared::clock::Now;
use picket_shared::ids::{Boot, NodeId};

/// Returns to a run that another has followed, before it is said: a message that is late looks like one.
const RETURNS_MIN: u32 = 3;
/// Without a further return for this long, there is one agent again.
const FORGOTTEN_AFTER_MS: u64 = 60_000;

/// The runs that speak in one node's name.
#[derive(Debug, Clone, Default)]
pub struct Namesake {
    latest: Option<Boot>,
    /// The run that the latest one followed.
    before: Option<Boot>,
    returns: u32,
    /// The last return, on the monotonic clock.
    returned_ms: u64,
}

impl Namesake {
    /// A run said something of itself: its health, or its statistics.
    pub fn heard(&mut self, now: Now, boot: Boot) {
        if self.latest == Some(boot) {
            return;
        }
        if self.before == Some(boot) {
            let fresh = now.mono_ms.saturating_sub(self.returned_ms) < FORGOTTEN_AFTER_MS;
            self.returns = if fresh { self.returns.saturating_add(1) } else { 1 };
            self.returned_ms = now.mono_ms;
        }
        self.before = self.latest.replace(boot);
    }

    /// A sentence for the view, while there are two.
    pub fn problem(&self, now: Now, node: &NodeId) -> Option<String> {
        let fresh = now.mono_ms.saturating_sub(self.returned_ms) < FORGOTTEN_AFTER_MS;
        let (Some(one), Some(other)) = (self.before, self.latest) else { return None };
        (fresh && self.returns >= RETURNS_MIN).then(|| {
            format!("two agents call themselves {node} (boots {one} and {other}): give one of them another name")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether two are seen at the last of these moments in seconds, with what boot was heard at each.
    fn two(heard: &[(u64, u64)]) -> bool {
        let mut namesake = Namesake::default();
        let at = |s: u64| Now { mono_ms: 100_000 + s * 1000, unix_ms: 0 };
        for &(s, boot) in heard.iter().filter(|(_, boot)| *boot > 0) {
            namesake.heard(at(s), Boot(boot));
        }
        let last = heard.last().map_or(0, |(s, _)| *s);
        namesake.problem(at(last), &NodeId::new("n1").unwrap()).is_some()
    }

    #[test]
    fn two_runs_in_turn_are_two_agents_and_restarts_are_one() {
        for (heard, expect) in [
            (&[(0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 5)][..], false),
            (&[(0, 1), (1, 2), (2, 1), (3, 2)][..], false),
            (&[(0, 1), (1, 2), (2, 1), (3, 2), (4, 1)][..], true),
            (&[(0, 1), (50, 2), (100, 1), (150, 2), (200, 1)][..], true),
            (&[(0, 1), (100, 2), (200, 1), (300, 2), (400, 1)][..], false),
            (&[(0, 1), (1, 2), (2, 1), (3, 2), (4, 1), (64, 0)][..], false),
        ] {
            assert_eq!(two(heard), expect, "{heard:?}");
        }
    }
}
