//! Whether this coordinator leads its site: what the row gave it and for how long, what another coordinator says of itself,
//! and whether it hears the site at all. Pure; it knows no station.
//!
//! The row settles who leads. Two that were given a row each would both lead; so each also listens to the other, and the
//! lower one, by epoch and then by boot, stands back for as long as it hears the higher one.

use picket_shared::clock::Now;
use picket_shared::ids::Boot;
use picket_shared::status::{Health, UpDown};

/// A leader that hears no broker for this long gives the lead back: a standby may hear one.
pub const DEAF_MS_MAX: u64 = 10_000;
/// Another leader that has not said so again for this long is gone. A leader says it at least every [`SAY_AGAIN_MS`].
pub const RIVAL_MS_MAX: u64 = 20_000;
/// How often a leader says that it is there, where nothing else makes it do so.
pub const SAY_AGAIN_MS: u64 = 5_000;

/// The lead, as far as this coordinator knows.
#[derive(Debug)]
pub struct Lead {
    me: Boot,
    /// The epoch that it leads under, and until when it may believe so.
    held: Option<(u32, u64)>,
    /// The last epoch that it led under.
    last: u32,
    rival: Option<Rival>,
    /// The row gives it the lead, and it stands back for the rival.
    yields: bool,
    /// Since when it hears no broker.
    deaf_since_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Rival {
    epoch: u32,
    boot: Boot,
    heard_ms: u64,
}

/// What follows from what the row gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// It leads as before.
    Same,
    /// It leads from now on.
    Anew,
    /// It does not lead: another does, and says so.
    Yield,
    /// It does not lead under that epoch: ask for one above this.
    Outranked(u32),
}

/// What follows from what the site's coordinator is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing.
    Nothing,
    /// Whoever leads must say again that it does: what stands there is wrong.
    SayAgain,
    /// This one leads no longer.
    Yield,
}

impl Lead {
    /// It follows until the row gives it the lead.
    pub fn new(now: Now, me: Boot) -> Lead {
        Lead { me, held: None, last: 0, rival: None, yields: false, deaf_since_ms: Some(now.mono_ms) }
    }

    /// The epoch that it leads under.
    pub fn epoch(&self) -> Option<u32> {
        self.held.map(|(epoch, _)| epoch)
    }

    /// Whether it leads.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// When it must have been given the lead again.
    pub fn until_ms(&self) -> Option<u64> {
        self.held.map(|(_, until_ms)| until_ms)
    }

    /// The row gave the lead under this epoch, until then.
    pub fn give(&mut self, now: Now, epoch: u32, until_ms: u64) -> Given {
        self.yields = self.rival.is_some_and(|rival| self.is_above(rival, epoch) && self.hears(now, rival));
        if self.yields {
            self.held = None;
            return Given::Yield;
        }
        // A lead that ended is not taken up again: with it went the count of its grants, and no epoch may come twice, not
        // from a rival that is gone or gives way either.
        let ended = if self.held.is_none() { self.last } else { 0 };
        let taken = self.rival.map_or(ended, |rival| rival.epoch.max(ended));
        if epoch <= taken {
            self.held = None;
            return Given::Outranked(taken);
        }
        let before = self.held.replace((epoch, until_ms));
        self.last = epoch;
        if before.is_some_and(|(led, _)| led == epoch) { Given::Same } else { Given::Anew }
    }

    /// Another has the lead, or nobody.
    pub fn follow(&mut self) {
        (self.held, self.yields) = (None, false);
    }

    /// Ends a lead that was not given again in time: whoever leads now need not have told this one, it may have stood still.
    pub fn lapse(&mut self, now: Now) -> bool {
        self.held.take_if(|(_, until_ms)| now.mono_ms >= *until_ms).is_some()
    }

    /// What stands where the site's coordinator says how it does.
    pub fn health(&mut self, now: Now, health: &Health) -> Heard {
        let epoch = u32::try_from(health.epoch).unwrap_or(u32::MAX);
        if health.boot == self.me {
            // An echo; or its will, where the broker lost an earlier connection of it.
            return if health.status == UpDown::Down && !health.goodbye { Heard::SayAgain } else { Heard::Nothing };
        }
        match health.status {
            UpDown::Up => {
                // The highest counts: two lower ones settle it between them.
                let heard = Rival { epoch, boot: health.boot, heard_ms: now.mono_ms };
                let higher = |known: &Rival| (known.epoch, known.boot) > (epoch, health.boot);
                if !self.rival.as_ref().is_some_and(|known| higher(known) && self.hears(now, *known)) {
                    self.rival = Some(heard);
                }
                match self.held {
                    Some((held, _)) if self.is_above(heard, held) => {
                        (self.held, self.yields) = (None, true);
                        Heard::Yield
                    }
                    Some(_) => Heard::SayAgain,
                    None => Heard::Nothing,
                }
            }
            UpDown::Down => {
                // Its epoch is remembered, so that none is led under twice.
                for rival in self.rival.iter_mut().filter(|rival| rival.boot == health.boot) {
                    rival.heard_ms = 0;
                }
                // A goodbye is what the leader before left; this one has said since that it is there.
                if health.goodbye { Heard::Nothing } else { Heard::SayAgain }
            }
        }
    }

    /// The broker can be reached, or cannot.
    pub fn link(&mut self, now: Now, up: bool) {
        match (up, self.deaf_since_ms) {
            (true, _) => self.deaf_since_ms = None,
            (false, None) => self.deaf_since_ms = Some(now.mono_ms),
            (false, Some(_)) => {}
        }
    }

    /// Whether it should have the lead, where it can: whoever hears nothing can lead nobody.
    pub fn is_wanted(&self, now: Now) -> bool {
        self.deaf_since_ms.is_none_or(|since_ms| now.mono_ms < since_ms + DEAF_MS_MAX)
    }

    /// Why it does not lead although the row is its own, in a sentence.
    pub fn problem(&self) -> Option<String> {
        let rival = self.rival.filter(|_| self.yields)?;
        Some(format!(
            "another coordinator leads this site under epoch {} by a row of its own; give both the same leader.file",
            rival.epoch
        ))
    }

    fn is_above(&self, rival: Rival, epoch: u32) -> bool {
        (rival.epoch, rival.boot) > (epoch, self.me)
    }

    fn hears(&self, now: Now, rival: Rival) -> bool {
        now.mono_ms < rival.heard_ms + RIVAL_MS_MAX && rival.heard_ms > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Now {
        Now { mono_ms: 1 + s * 1000, unix_ms: 0 }
    }

    fn lead(boot: u64) -> Lead {
        Lead::new(at(0), Boot(boot))
    }

    fn said(boot: u64, epoch: u64, status: UpDown, goodbye: bool) -> Health {
        Health { status, pid: 1, time: 0, boot: Boot(boot), epoch, problems: vec![], goodbye, audit: None, name: None }
    }

    fn up(boot: u64, epoch: u64) -> Health {
        said(boot, epoch, UpDown::Up, false)
    }

    #[test]
    fn a_lead_that_ended_is_not_taken_up_again() {
        let mut lead = lead(7);
        assert_eq!(lead.give(at(0), 3, 4_000), Given::Anew);
        assert_eq!(lead.give(at(1), 3, 5_000), Given::Same);
        assert!(!lead.lapse(at(4)) && lead.lapse(at(5)));
        assert_eq!(lead.give(at(6), 3, 10_000), Given::Outranked(3));
        assert_eq!(lead.give(at(7), 4, 11_000), Given::Anew);
    }

    #[test]
    fn of_two_rows_the_lower_leader_stands_back_and_says_why() {
        let mut lead = lead(7);
        lead.give(at(0), 3, 4_000);
        assert_eq!(lead.health(at(1), &up(6, 2)), Heard::SayAgain, "a lower one is told again who leads");
        assert!(lead.is_held());
        assert_eq!(lead.health(at(2), &up(6, 4)), Heard::Yield);
        assert_eq!((lead.epoch(), lead.give(at(2), 3, 6_000)), (None, Given::Yield));
        assert!(lead.problem().unwrap().contains("leader.file"));
        // Its goodbye, or its will, or that nothing is heard of it any more.
        let mut gone = lead;
        assert_eq!(gone.give(at(2 + 20), 3, 9_000), Given::Outranked(4));
        assert_eq!((gone.give(at(23), 5, 9_000), gone.problem()), (Given::Anew, None));
    }

    #[test]
    fn a_rival_that_says_goodbye_or_is_lost_is_not_waited_for() {
        for goodbye in [true, false] {
            let mut lead = lead(7);
            lead.give(at(0), 3, 4_000);
            lead.health(at(1), &up(6, 4));
            let heard = lead.health(at(2), &said(6, 0, UpDown::Down, goodbye));
            assert_eq!(heard, if goodbye { Heard::Nothing } else { Heard::SayAgain });
            assert_eq!(lead.give(at(3), 3, 7_000), Given::Outranked(4));
        }
    }

    #[test]
    fn of_two_with_one_epoch_the_later_run_leads_and_neither_under_that_epoch_twice() {
        let (mut one, mut other) = (lead(6), lead(7));
        one.give(at(0), 1, 4_000);
        other.give(at(0), 1, 4_000);
        assert_eq!(one.health(at(0), &up(7, 1)), Heard::Yield);
        assert_eq!(other.health(at(0), &up(6, 1)), Heard::SayAgain);
        assert_eq!(other.give(at(1), 1, 5_000), Given::Outranked(1));
        assert_eq!(other.give(at(2), 2, 6_000), Given::Anew);
        assert_eq!(one.give(at(2), 1, 6_000), Given::Yield);
    }

    #[test]
    fn a_standby_with_the_same_row_is_no_rival_to_complain_about() {
        let mut lead = lead(7);
        lead.give(at(0), 3, 4_000);
        lead.health(at(6), &up(8, 4));
        lead.follow();
        assert_eq!(lead.problem(), None);
    }

    #[test]
    fn whoever_hears_no_broker_gives_the_lead_back_after_a_while() {
        let mut lead = lead(7);
        assert!(lead.is_wanted(at(9)) && !lead.is_wanted(at(10)), "none was ever reached");
        lead.link(at(20), true);
        assert!(lead.is_wanted(at(100)));
        lead.link(at(100), false);
        lead.link(at(105), false);
        assert!(lead.is_wanted(at(109)) && !lead.is_wanted(at(110)), "each failed attempt is no new beginning");
    }
}
