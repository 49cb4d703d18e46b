//! Which stored events go out next: a cursor per boot between what the archive has and what the store has.
//!
//! Pure. It holds no event, only numbers, so its memory does not grow with the backlog. Nothing counts as delivered but the
//! coordinator's ack watermark; on every new connection it begins again just above that. Sending twice is harmless, since
//! the coordinator takes each (boot, sequence) once.

use std::collections::BTreeMap;

use picket_shared::ids::Boot;
use picket_shared::limits::{BATCH_EVENTS_MAX, WINDOW_EVENTS_MAX};
use picket_shared::wire::{Ack, Gap};

/// Without progress for this long, what is on its way is taken for lost and sent again. Too small floods a slow link with
/// repeats; too large delays what a broker dropped. It doubles while nothing answers at all.
const RESEND_AFTER_MS: u64 = 3_000;
const RESEND_AFTER_MS_MAX: u64 = 60_000;
/// The client's queue was full: a short breath.
const BUSY_PAUSE_MS: u64 = 50;

/// The store's account of one boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Everything up to here is in the archive.
    pub acked: u64,
    /// Everything up to here is durable on this device, but for the gaps.
    pub stored: u64,
    /// What lies above `acked` and can never be sent, lowest first and apart. One may end beyond `stored`: then `stored` is
    /// its end.
    pub gaps: Vec<Gap>,
}

/// Consecutive events to be read from the store and published as one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Send {
    /// Of which boot.
    pub boot: Boot,
    /// See [`picket_shared::wire::EventBatch::base`].
    pub base: u64,
    /// The first sequence.
    pub first: u64,
    /// How many; 0 where a gap goes in their place.
    pub count: u64,
    /// See [`picket_shared::wire::EventBatch::gap`].
    pub gap: Option<Gap>,
}

/// Why an ack was not believed. The outbox is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// It acknowledges more than was ever stored.
    #[error("an ack of {watermark} for boot {boot}, which has {stored} events")]
    Beyond {
        /// The boot.
        boot: Boot,
        /// What the ack says.
        watermark: u64,
        /// What there is.
        stored: u64,
    },
}

#[derive(Debug)]
struct Cursor {
    acked: u64,
    /// Everything up to here was handed over on this connection.
    sent: u64,
    stored: u64,
    gaps: Vec<Gap>,
    /// Holes that the coordinator reported, lowest first; all at or below `sent`.
    again: Vec<(u64, u64)>,
    /// The holes last asked for, so that a repeated ack does not repeat the answer.
    answered: Vec<(u64, u64)>,
}

impl Cursor {
    fn new(lane: Lane) -> Self {
        let Lane { acked, stored, gaps } = lane;
        let mut cursor = Cursor { acked, sent: acked, stored, gaps, again: Vec::new(), answered: Vec::new() };
        cursor.rise(acked);
        cursor
    }

    /// Takes in a watermark, and steps over a gap that begins just above it: the next batch's `base` then tells the
    /// coordinator what it will never get.
    fn rise(&mut self, watermark: u64) {
        self.acked = watermark;
        while let Some(gap) = self.gaps.first().filter(|gap| gap.from <= self.acked + 1) {
            self.acked = self.acked.max(gap.to);
            self.gaps.remove(0);
        }
        self.sent = self.sent.max(self.acked);
    }

    /// A batch never spans a gap, so that its `base` stays true.
    fn sendable(&self) -> u64 {
        self.gaps.first().map_or(self.stored, |gap| gap.from - 1)
    }
}

/// The outbox of one agent.
#[derive(Debug)]
pub struct Outbox {
    current: Boot,
    lanes: BTreeMap<Boot, Cursor>,
    online: bool,
    quiet_until_ms: u64,
    progress_ms: u64,
    resend_after_ms: u64,
    resent: u64,
}

impl Outbox {
    /// An outbox over what the store found on opening; `current` is the boot that now begins.
    pub fn new(current: Boot, found: impl IntoIterator<Item = (Boot, Lane)>) -> Self {
        let mut lanes: BTreeMap<_, _> = found
            .into_iter()
            .filter(|(boot, lane)| *boot != current && lane.acked < lane.stored)
            .map(|(boot, lane)| (boot, Cursor::new(lane)))
            .collect();
        lanes.insert(current, Cursor::new(Lane { acked: 0, stored: 0, gaps: Vec::new() }));
        Outbox {
            current,
            lanes,
            online: false,
            quiet_until_ms: 0,
            progress_ms: 0,
            resend_after_ms: RESEND_AFTER_MS,
            resent: 0,
        }
    }

    /// The store made the current boot durable up to `upto`.
    pub fn stored(&mut self, upto: u64) {
        let lane = self.lanes.get_mut(&self.current).expect("the current boot always has a lane");
        assert!(upto >= lane.stored, "durable events do not become fewer");
        lane.stored = upto;
    }

    /// A new connection: whatever the old one carried may be lost.
    pub fn connected(&mut self, now_ms: u64) {
        self.online = true;
        self.resend_after_ms = RESEND_AFTER_MS;
        self.rewind(now_ms);
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.online = false;
    }

    /// The coordinator's word on a boot. Returns the new watermark where it rose.
    pub fn ack(&mut self, now_ms: u64, ack: &Ack) -> Result<Option<u64>, AckError> {
        // A boot that is not here is finished: an old ack, retained or repeated.
        let Some(lane) = self.lanes.get_mut(&ack.boot) else { return Ok(None) };
        if ack.watermark > lane.stored {
            let (boot, watermark, stored) = (ack.boot, ack.watermark, lane.stored);
            return Err(AckError::Beyond { boot, watermark, stored });
        }
        if ack.watermark < lane.acked {
            return Ok(None);
        }
        let risen = ack.watermark > lane.acked;
        lane.rise(ack.watermark);
        lane.again.retain(|&(_, to)| to > ack.watermark);
        if ack.holes.is_empty() {
            lane.answered.clear();
        } else if ack.holes != lane.answered {
            lane.answered = ack.holes.clone();
            let sent = lane.sent;
            lane.again = ack.holes.iter().filter(|(from, _)| *from <= sent).map(|&(a, b)| (a, b.min(sent))).collect();
        }
        if risen {
            self.progress_ms = now_ms;
            self.resend_after_ms = RESEND_AFTER_MS;
        }
        if ack.boot != self.current && lane.acked == lane.stored {
            self.lanes.remove(&ack.boot);
        }
        Ok(risen.then_some(ack.watermark))
    }

    /// The next batch to hand over, if the window has room: reported holes first, then the oldest boot.
    pub fn next(&mut self, now_ms: u64) -> Option<Send> {
        if !self.online || now_ms < self.quiet_until_ms {
            return None;
        }
        if self.in_flight() > 0 && now_ms >= self.progress_ms.saturating_add(self.resend_after_ms) {
            let after = (self.resend_after_ms * 2).min(RESEND_AFTER_MS_MAX);
            self.rewind(now_ms);
            self.resend_after_ms = after;
        }
        let room = WINDOW_EVENTS_MAX.saturating_sub(self.in_flight());
        let idle = self.in_flight() == 0;
        for (&boot, lane) in &mut self.lanes {
            let batch = |first: u64, to: u64| {
                let count = (to - first + 1).min(BATCH_EVENTS_MAX as u64);
                Send { boot, base: lane.acked + 1, first, count, gap: None }
            };
            if let Some(hole) = lane.again.first_mut() {
                let send = batch(hole.0.max(lane.acked + 1), hole.1);
                hole.0 = send.first + send.count;
                if hole.0 > hole.1 {
                    lane.again.remove(0);
                }
                self.resent += send.count;
                return Some(send);
            }
            if room > 0 && lane.sent < lane.sendable() {
                let send = batch(lane.sent + 1, lane.sendable().min(lane.sent + room));
                lane.sent += send.count;
                if idle {
                    self.progress_ms = now_ms;
                }
                return Some(send);
            }
        }
        None
    }

    /// The client would not take this batch: it was not sent.
    pub fn refused(&mut self, now_ms: u64, send: Send) {
        self.quiet_until_ms = now_ms + BUSY_PAUSE_MS;
        if let Some(lane) = self.lanes.get_mut(&send.boot) {
            lane.sent = lane.sent.min(send.first - 1).max(lane.acked);
            lane.again.retain(|&(from, _)| from <= lane.sent);
        }
    }

    /// When [`Outbox::next`] may have something without any other call in between.
    pub fn next_wakeup_ms(&self) -> Option<u64> {
        if !self.online {
            return None;
        }
        let resend = (self.in_flight() > 0).then(|| self.progress_ms.saturating_add(self.resend_after_ms));
        let unsent = self.lanes.values().any(|lane| lane.sent < lane.sendable() || !lane.again.is_empty());
        let quiet = (unsent && self.in_flight() < WINDOW_EVENTS_MAX).then_some(self.quiet_until_ms);
        resend.into_iter().chain(quiet).min()
    }

    /// Stored and not yet in the archive, over all boots.
    pub fn pending(&self) -> u64 {
        self.lanes.values().map(|lane| lane.stored - lane.acked).sum()
    }

    /// The watermark of the current boot.
    pub fn acked(&self) -> u64 {
        self.lanes[&self.current].acked
    }

    /// Events sent again, because no ack came or a hole was reported.
    pub fn resent(&self) -> u64 {
        self.resent
    }

    fn in_flight(&self) -> u64 {
        self.lanes.values().map(|lane| lane.sent - lane.acked).sum()
    }

    fn rewind(&mut self, now_ms: u64) {
        self.resent += self.in_flight();
        self.progress_ms = now_ms;
        self.quiet_until_ms = 0;
        for lane in self.lanes.values_mut() {
            lane.sent = lane.acked;
            lane.again.clear();
            lane.answered.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::wire::GapCause;
    use proptest::prelude::*;

    const NOW: Boot = Boot(10);

    fn outbox(stored: u64) -> Outbox {
        let mut outbox = Outbox::new(NOW, []);
        outbox.stored(stored);
        outbox.connected(0);
        outbox
    }

    fn lane(boot: u64, acked: u64, stored: u64, gaps: &[(u64, u64)]) -> (Boot, Lane) {
        let gap = |&(from, to): &(u64, u64)| Gap { from, to, cause: GapCause::StoreLost };
        (Boot(boot), Lane { acked, stored, gaps: gaps.iter().map(gap).collect() })
    }

    fn ack(watermark: u64, holes: &[(u64, u64)]) -> Ack {
        Ack { boot: NOW, watermark, holes: holes.to_vec() }
    }

    fn drain(outbox: &mut Outbox, now_ms: u64) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| outbox.next(now_ms)).map(|send| (send.first, send.first + send.count - 1)).collect()
    }

    #[test]
    fn nothing_goes_out_without_a_connection_or_before_it_is_durable() {
        let mut outbox = Outbox::new(NOW, []);
        outbox.connected(0);
        assert_eq!(outbox.next(0), None);
        outbox.stored(1);
        outbox.disconnected();
        assert_eq!(outbox.next(0), None);
        outbox.connected(0);
        assert_eq!(outbox.next(0), Some(Send { boot: NOW, base: 1, first: 1, count: 1, gap: None }));
    }

    #[test]
    fn the_window_bounds_what_is_on_its_way() {
        let mut outbox = outbox(1000);
        assert_eq!(drain(&mut outbox, 0), [(1, 16), (17, 32), (33, 48), (49, 64)]);
        assert_eq!(outbox.ack(1, &ack(10, &[])), Ok(Some(10)));
        assert_eq!(drain(&mut outbox, 1), [(65, 74)]);
    }

    #[test]
    fn a_new_connection_begins_above_the_watermark() {
        let mut outbox = outbox(20);
        drain(&mut outbox, 0);
        outbox.ack(1, &ack(5, &[])).unwrap();
        outbox.disconnected();
        outbox.connected(2);
        let first = outbox.next(2).unwrap();
        assert_eq!((first.base, first.first), (6, 6));
        assert_eq!(outbox.resent(), 15);
    }

    #[test]
    fn silence_is_answered_by_sending_again_ever_more_rarely() {
        let mut outbox = outbox(3);
        assert_eq!(drain(&mut outbox, 0), [(1, 3)]);
        assert_eq!(outbox.next_wakeup_ms(), Some(RESEND_AFTER_MS));
        assert_eq!(drain(&mut outbox, RESEND_AFTER_MS - 1), []);
        assert_eq!(drain(&mut outbox, RESEND_AFTER_MS), [(1, 3)]);
        assert_eq!(drain(&mut outbox, 2 * RESEND_AFTER_MS), []);
        assert_eq!(drain(&mut outbox, 3 * RESEND_AFTER_MS), [(1, 3)]);
        outbox.ack(3 * RESEND_AFTER_MS, &ack(3, &[])).unwrap();
        assert_eq!(outbox.next_wakeup_ms(), None);
        assert_eq!(outbox.pending(), 0);
    }

    #[test]
    fn a_hole_is_filled_once_for_each_time_it_is_news() {
        let mut outbox = outbox(30);
        drain(&mut outbox, 0);
        outbox.ack(1, &ack(4, &[(5, 6), (9, 9)])).unwrap();
        assert_eq!(drain(&mut outbox, 1), [(5, 6), (9, 9)]);
        outbox.ack(2, &ack(4, &[(5, 6), (9, 9)])).unwrap();
        assert_eq!(drain(&mut outbox, 2), [], "the same ack again is no news");
        outbox.ack(3, &ack(8, &[(9, 9)])).unwrap();
        assert_eq!(drain(&mut outbox, 3), [(9, 9)]);
    }

    #[test]
    fn acks_that_are_old_foreign_or_too_good_change_nothing() {
        let mut outbox = outbox(10);
        drain(&mut outbox, 0);
        outbox.ack(0, &ack(5, &[])).unwrap();
        assert_eq!(outbox.ack(0, &ack(4, &[])), Ok(None));
        assert_eq!(outbox.ack(0, &Ack { boot: Boot(3), watermark: 99, holes: vec![] }), Ok(None));
        assert_eq!(outbox.ack(0, &ack(11, &[])), Err(AckError::Beyond { boot: NOW, watermark: 11, stored: 10 }));
        assert_eq!((outbox.acked(), outbox.pending()), (5, 5));
    }

    #[test]
    fn earlier_boots_go_first_and_are_forgotten_when_done() {
        let mut outbox = Outbox::new(NOW, [lane(8, 2, 4, &[]), lane(9, 3, 3, &[])]);
        outbox.stored(1);
        outbox.connected(0);
        assert_eq!(outbox.next(0), Some(Send { boot: Boot(8), base: 3, first: 3, count: 2, gap: None }));
        assert_eq!(outbox.next(0), Some(Send { boot: NOW, base: 1, first: 1, count: 1, gap: None }));
        outbox.ack(0, &Ack { boot: Boot(8), watermark: 4, holes: vec![] }).unwrap();
        assert_eq!(outbox.pending(), 1);
        assert!(!outbox.lanes.contains_key(&Boot(8)));
    }

    #[test]
    fn a_gap_on_the_disk_is_told_by_the_base_of_what_follows() {
        let mut outbox = Outbox::new(NOW, [lane(8, 2, 9, &[(3, 4), (6, 7)])]);
        outbox.connected(0);
        assert_eq!(outbox.next(0), Some(Send { boot: Boot(8), base: 5, first: 5, count: 1, gap: None }));
        assert_eq!(outbox.next(0), None, "nothing beyond the gap until what is before it has arrived");
        outbox.ack(0, &Ack { boot: Boot(8), watermark: 5, holes: vec![] }).unwrap();
        assert_eq!(outbox.next(0), Some(Send { boot: Boot(8), base: 8, first: 8, count: 2, gap: None }));
        outbox.ack(0, &Ack { boot: Boot(8), watermark: 9, holes: vec![] }).unwrap();
        assert_eq!(outbox.pending(), 0);
    }

    #[test]
    fn a_full_client_is_left_alone_for_a_moment() {
        let mut outbox = outbox(40);
        let first = outbox.next(0).unwrap();
        let second = outbox.next(0).unwrap();
        outbox.refused(0, second);
        assert_eq!(outbox.next(0), None);
        assert_eq!(outbox.next_wakeup_ms(), Some(BUSY_PAUSE_MS));
        assert_eq!(outbox.next(BUSY_PAUSE_MS).unwrap().first, first.first + first.count);
    }

    proptest! {
        /// Whatever is lost, refused, acknowledged late or cut off: all of it arrives once the line is good.
        #[test]
        fn everything_arrives_in_the_end(stored in 1u64..300, faults in proptest::collection::vec(0u8..6, 0..400)) {
            let mut outbox = outbox(stored);
            let mut archive = std::collections::BTreeSet::new();
            let watermark = |archive: &std::collections::BTreeSet<u64>| (1..).take_while(|seq| archive.contains(seq)).count() as u64;
            let mut now_ms = 0;
            for fault in faults {
                now_ms += 40;
                let sent = outbox.next(now_ms);
                match (fault, sent) {
                    (0, _) => { outbox.disconnected(); outbox.connected(now_ms); }
                    (1, Some(send)) => outbox.refused(now_ms, send),
                    (2, Some(_)) => {}
                    (_, Some(send)) => archive.extend(send.first..send.first + send.count),
                    (_, None) => {}
                }
                if fault == 5 {
                    prop_assert!(outbox.ack(now_ms, &ack(watermark(&archive), &[])).is_ok());
                }
                prop_assert!(outbox.in_flight() <= WINDOW_EVENTS_MAX);
            }
            for _ in 0..10_000 {
                if outbox.pending() == 0 { break; }
                now_ms += 1_000;
                while let Some(send) = outbox.next(now_ms) {
                    archive.extend(send.first..send.first + send.count);
                }
                prop_assert!(outbox.ack(now_ms, &ack(watermark(&archive), &[])).is_ok());
            }
            prop_assert_eq!(outbox.pending(), 0);
            prop_assert_eq!(archive.len() as u64, stored);
        }
    }
}
