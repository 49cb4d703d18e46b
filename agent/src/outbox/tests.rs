//! The outbox's rules one by one, and its promise under any order of loss, refusal, silence and given-up events.

use std::collections::BTreeSet;

use super::*;
use proptest::prelude::*;

const NOW: Boot = Boot(10);
const SPREAD: u64 = 1;

fn empty(found: impl IntoIterator<Item = (Boot, Lane)>) -> Outbox {
    let mut outbox = Outbox::new(SPREAD, NOW, found);
    outbox.connected();
    outbox
}

fn outbox(stored: u64) -> Outbox {
    let mut outbox = empty([]);
    outbox.stored(NOW, stored);
    outbox
}

/// An outbox whose window has grown to its end, with everything up to here acknowledged.
fn grown(acked: u64, stored: u64) -> Outbox {
    let mut outbox = outbox(stored);
    for watermark in acked - 4..=acked {
        while outbox.next(0).is_some() {}
        outbox.ack(0, &ack(watermark, &[])).unwrap();
    }
    outbox
}

fn gap(from: u64, to: u64, cause: GapCause) -> Gap {
    Gap { from, to, cause }
}

fn lane(boot: u64, acked: u64, stored: u64, gaps: &[(u64, u64)]) -> (Boot, Lane) {
    let gap = |&(from, to): &(u64, u64)| gap(from, to, GapCause::StoreLost);
    (Boot(boot), Lane { acked, stored, gaps: gaps.iter().map(gap).collect() })
}

fn ack(watermark: u64, holes: &[(u64, u64)]) -> Ack {
    ack_of(NOW.0, watermark, holes)
}

fn ack_of(boot: u64, watermark: u64, holes: &[(u64, u64)]) -> Ack {
    Ack { boot: Boot(boot), watermark, holes: holes.to_vec() }
}

fn events(boot: u64, base: u64, first: u64, count: u64) -> Send {
    Send { boot: Boot(boot), base, first, count, gap: None }
}

fn told(boot: u64, gap: Gap) -> Send {
    Send { boot: Boot(boot), base: gap.from, first: gap.from, count: 0, gap: Some(gap) }
}

fn drain(outbox: &mut Outbox, now_ms: u64) -> Vec<(u64, u64)> {
    std::iter::from_fn(|| outbox.next(now_ms)).map(|send| (send.first, send.first + send.count - 1)).collect()
}

#[test]
fn nothing_goes_out_without_a_connection_or_before_it_is_durable() {
    let mut outbox = empty([]);
    assert_eq!(outbox.next(0), None);
    outbox.stored(NOW, 1);
    outbox.disconnected();
    assert_eq!((outbox.next(0), outbox.next_wakeup_ms()), (None, None));
    outbox.connected();
    assert_eq!(outbox.next(0), Some(events(10, 1, 1, 1)));
}

#[test]
fn the_window_begins_with_a_batch_and_grows_by_one_with_each_progress_to_its_end() {
    let mut outbox = outbox(1000);
    assert_eq!(drain(&mut outbox, 0), [(1, 16)]);
    outbox.ack(0, &ack(0, &[])).unwrap();
    assert_eq!(drain(&mut outbox, 0), [], "no progress, no growth");
    for (watermark, in_flight) in [(16, 32), (32, 48), (48, 64), (64, 64), (100, 64)] {
        outbox.ack(1, &ack(watermark, &[])).unwrap();
        drain(&mut outbox, 1);
        assert_eq!(outbox.lanes[&NOW].in_flight(), in_flight, "at {watermark}");
    }
    assert_eq!(drain(&mut outbox, 1 + 2 * RESEND_AFTER_MS), [(101, 116)], "a time-out makes it small again");
    outbox.connected();
    assert_eq!(drain(&mut outbox, 2 * RESEND_AFTER_MS), [(101, 116)], "and so does a new connection");
}

#[test]
fn a_new_connection_begins_above_the_watermark() {
    let mut outbox = outbox(16);
    drain(&mut outbox, 0);
    outbox.ack(1, &ack(5, &[])).unwrap();
    outbox.disconnected();
    outbox.connected();
    let first = outbox.next(2).unwrap();
    assert_eq!((first.base, first.first), (6, 6));
    assert_eq!(outbox.resent(), 11);
}

#[test]
fn silence_is_answered_by_sending_again_ever_more_rarely() {
    let mut outbox = outbox(3);
    let mut now_ms = 0;
    for attempt in 0..8 {
        assert_eq!(drain(&mut outbox, now_ms), [(1, 3)]);
        assert_eq!(drain(&mut outbox, now_ms), []);
        let due_ms = outbox.next_wakeup_ms().unwrap();
        let least = (RESEND_AFTER_MS << attempt).min(RESEND_AFTER_MS_MAX);
        assert!((least..least + least / RESEND_SPREAD).contains(&(due_ms - now_ms)), "{attempt}: {}", due_ms - now_ms);
        assert_eq!(drain(&mut outbox, due_ms - 1), []);
        now_ms = due_ms;
    }
    drain(&mut outbox, now_ms);
    outbox.ack(now_ms, &ack(2, &[])).unwrap();
    assert!(outbox.next_wakeup_ms().unwrap() < now_ms + 2 * RESEND_AFTER_MS, "an answer makes the wait short again");
    outbox.ack(now_ms, &ack(3, &[])).unwrap();
    assert_eq!((outbox.next_wakeup_ms(), outbox.pending()), (None, 0));
}

#[test]
fn nodes_that_were_forgotten_together_do_not_speak_again_together() {
    let wait = |spread| Outbox::new(spread, NOW, []).resend_after_ms(NOW);
    let waits: BTreeSet<u64> = (0..100).map(wait).collect();
    assert!(waits.len() > 80, "{waits:?}");
    assert_eq!(wait(7), wait(7));
}

#[test]
fn a_hole_is_filled_once_for_each_time_it_is_news() {
    let mut outbox = outbox(16);
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
    assert_eq!(outbox.ack(0, &ack_of(3, 99, &[])), Ok(None));
    assert_eq!(outbox.ack(0, &ack(11, &[])), Err(AckError::Beyond { boot: NOW, watermark: 11, stored: 10 }));
    assert_eq!((outbox.acked(), outbox.pending()), (5, 5));
}

#[test]
fn an_archive_that_has_more_of_an_earlier_boot_than_a_damaged_disk_ends_it() {
    let mut outbox = empty([lane(8, 2, 4, &[])]);
    assert_eq!(outbox.ack(0, &ack_of(8, 100, &[])), Ok(Some(4)));
    assert_eq!((outbox.pending(), outbox.lanes.len()), (0, 1));
}

#[test]
fn the_live_boot_goes_first_then_the_oldest_and_none_stays_when_it_is_done() {
    let mut outbox = empty([lane(8, 2, 4, &[]), lane(9, 3, 3, &[])]);
    outbox.stored(NOW, 1);
    assert_eq!(outbox.backlog(), 2);
    assert_eq!(outbox.next(0), Some(events(10, 1, 1, 1)));
    assert_eq!(outbox.next(0), Some(events(8, 3, 3, 2)));
    outbox.ack(0, &ack_of(8, 4, &[])).unwrap();
    assert_eq!((outbox.pending(), outbox.backlog()), (1, 0));
    assert!(!outbox.lanes.contains_key(&Boot(8)));
}

#[test]
fn a_backlog_leaves_the_live_boot_its_place_and_keeps_its_own() {
    let mut outbox = empty([lane(8, 0, 10_000, &[])]);
    for watermark in 1..=10 {
        drain(&mut outbox, 0);
        outbox.ack(0, &ack_of(8, watermark, &[])).unwrap();
    }
    drain(&mut outbox, 0);
    assert_eq!(outbox.lanes[&Boot(8)].in_flight(), WINDOW_EVENTS_MAX - LIVE_RESERVE_EVENTS);
    outbox.stored(NOW, 1000);
    drain(&mut outbox, 0);
    assert_eq!(outbox.lanes[&NOW].in_flight(), LIVE_RESERVE_EVENTS, "at once, however much of the backlog waits");
    for watermark in 1..=20 {
        outbox.ack(0, &ack(watermark * 16, &[])).unwrap();
        outbox.ack(0, &ack_of(8, 10 + watermark, &[])).unwrap();
        drain(&mut outbox, 0);
    }
    let in_flight = |boot| outbox.lanes[&boot].in_flight();
    assert_eq!(in_flight(NOW) + in_flight(Boot(8)), WINDOW_EVENTS_MAX);
    assert!(in_flight(NOW) > 2 * LIVE_RESERVE_EVENTS, "otherwise live goes first");
    assert!(in_flight(Boot(8)) >= BACKLOG_RESERVE_EVENTS);
}

#[test]
fn many_pending_events_make_a_new_boot_and_a_flapping_link_does_not() {
    let mut outbox = outbox(LIVE_PENDING_MAX);
    assert!(!outbox.wants_new_boot());
    outbox.stored(NOW, LIVE_PENDING_MAX + 1);
    assert!(outbox.wants_new_boot());
    let later = Boot(11);
    outbox.begin(later, LIVE_PENDING_MAX + 3);
    assert!(!outbox.wants_new_boot(), "nothing waits in the new one");
    // What was on its way to the store belongs to the old boot still, and ends it.
    outbox.stored(NOW, LIVE_PENDING_MAX + 3);
    outbox.stored(later, 1);
    assert_eq!((outbox.pending(), outbox.backlog()), (LIVE_PENDING_MAX + 4, LIVE_PENDING_MAX + 3));
    outbox.ack(0, &ack(LIVE_PENDING_MAX + 1, &[])).unwrap();
    assert_eq!(outbox.lanes.len(), 2);
    outbox.ack(0, &ack(LIVE_PENDING_MAX + 3, &[])).unwrap();
    assert_eq!((outbox.lanes.len(), outbox.acked()), (1, LIVE_PENDING_MAX + 3));

    let many = (1..=BACKLOG_BOOTS_MAX as u64).map(|boot| lane(100 + boot, 0, 1, &[]));
    let mut outbox = Outbox::new(SPREAD, Boot(1000), many);
    outbox.stored(Boot(1000), LIVE_PENDING_MAX + 1);
    assert!(!outbox.wants_new_boot(), "there are boots enough");
}

#[test]
fn a_gap_is_told_when_all_before_it_has_arrived_and_nothing_passes_it() {
    let mut outbox = empty([lane(8, 2, 9, &[(3, 4), (6, 7)])]);
    let lost = |from, to| told(8, gap(from, to, GapCause::StoreLost));
    assert_eq!(outbox.pending(), 5, "5, 8 and 9, and two gaps to tell");
    assert_eq!((outbox.next(0), outbox.next(0)), (Some(lost(3, 4)), None));
    let due_ms = outbox.next_wakeup_ms().unwrap();
    assert_eq!(outbox.next(due_ms), Some(lost(3, 4)), "it is sent again as an event is");
    outbox.ack(due_ms, &ack_of(8, 4, &[])).unwrap();
    assert_eq!((outbox.next(due_ms), outbox.next(due_ms)), (Some(events(8, 5, 5, 1)), None));
    outbox.ack(due_ms, &ack_of(8, 5, &[])).unwrap();
    let second = outbox.next(due_ms).unwrap();
    assert_eq!(second, lost(6, 7));
    outbox.refused(due_ms, second);
    assert_eq!(outbox.next(due_ms + BUSY_PAUSE_MS), Some(lost(6, 7)));
    outbox.ack(due_ms, &ack_of(8, 7, &[])).unwrap();
    assert_eq!(outbox.next(due_ms + BUSY_PAUSE_MS), Some(events(8, 8, 8, 2)));
    outbox.ack(due_ms, &ack_of(8, 9, &[])).unwrap();
    assert_eq!((outbox.pending(), outbox.lanes.len()), (0, 1));
}

#[test]
fn a_boot_that_is_only_a_gap_is_told_too() {
    let mut outbox = empty([lane(8, 0, 0, &[(1, 50)])]);
    assert_eq!(outbox.pending(), 1);
    assert_eq!(outbox.next(0), Some(told(8, gap(1, 50, GapCause::StoreLost))));
    outbox.ack(0, &ack_of(8, 50, &[])).unwrap();
    assert_eq!((outbox.pending(), outbox.lanes.len()), (0, 1));
}

#[test]
fn what_the_store_gives_up_becomes_a_gap_whatever_had_become_of_it() {
    use GapCause::{Full, TelemetryDropped};
    // Of 20 events, 4 acknowledged and the next 16 on their way.
    let fresh = || {
        let mut outbox = grown(4, 20);
        drain(&mut outbox, 0);
        assert_eq!(outbox.lanes[&NOW].sent, 20);
        outbox
    };
    // The gaps lost, one after the other; how many are new; how far the next batches go, and the gap after them.
    type Case<'a> = (&'a [Gap], u64, (u64, u64), Gap);
    let cases: &[Case] = &[
        (&[gap(8, 9, Full)], 2, (5, 7), gap(8, 9, Full)),
        (&[gap(3, 6, Full), gap(8, 9, Full)], 4, (0, 0), gap(5, 6, Full)),
        (&[gap(8, 9, Full), gap(10, 12, Full)], 5, (5, 7), gap(8, 12, Full)),
        (&[gap(10, 12, Full), gap(8, 9, Full)], 5, (5, 7), gap(8, 12, Full)),
        (&[gap(8, 9, Full), gap(12, 12, Full), gap(10, 11, Full)], 5, (5, 7), gap(8, 12, Full)),
        (&[gap(8, 9, Full), gap(10, 12, TelemetryDropped)], 5, (5, 7), gap(8, 9, Full)),
        (&[gap(8, 9, Full), gap(7, 12, TelemetryDropped)], 6, (5, 6), gap(7, 7, TelemetryDropped)),
        (&[gap(8, 9, Full), gap(8, 9, TelemetryDropped)], 2, (5, 7), gap(8, 9, Full)),
        (&[gap(5, 20, Full)], 16, (0, 0), gap(5, 20, Full)),
        (&[gap(19, 25, Full)], 7, (5, 18), gap(19, 25, Full)),
    ];
    for (lost, new, sends, head) in cases {
        let mut outbox = fresh();
        let counted: u64 = lost.iter().map(|gap| outbox.lost(NOW, *gap)).sum();
        assert_eq!((counted, outbox.mode()), (*new, Mode::Full), "{lost:?}");
        outbox.connected();
        if sends.1 > 0 {
            assert_eq!(drain(&mut outbox, 0), [*sends], "{lost:?}");
            outbox.ack(0, &ack(sends.1, &[])).unwrap();
        }
        assert_eq!(outbox.next(0), Some(told(NOW.0, *head)), "{lost:?}");
        // All of it had arrived after all: nothing is left to tell of it.
        outbox.ack(0, &ack(20, &[])).unwrap();
        assert_eq!(outbox.lanes[&NOW].in_flight(), 0);
        assert_eq!(outbox.pending(), u64::from(head.to > 20), "{lost:?}");
        assert_eq!(outbox.mode(), Mode::Live);
    }
    let mut outbox = fresh();
    assert_eq!(outbox.lost(NOW, gap(1, 4, Full)), 0, "the archive has those");
    assert_eq!(outbox.lost(Boot(3), gap(1, 4, Full)), 0, "and all of a boot that is not here");
    assert_eq!(outbox.mode(), Mode::Live);
}

#[test]
fn a_reported_hole_is_not_filled_with_what_the_store_has_given_up() {
    let mut outbox = grown(4, 20);
    drain(&mut outbox, 0);
    outbox.ack(0, &ack(4, &[(5, 10)])).unwrap();
    outbox.lost(NOW, gap(8, 9, GapCause::Full));
    assert_eq!(drain(&mut outbox, 0), [], "5 to 7 are on their way still, and the rest waits behind the gap");
    outbox.ack(0, &ack(4, &[(5, 11)])).unwrap();
    assert_eq!(drain(&mut outbox, 0), [(5, 7)]);
}

#[test]
fn the_mode_says_what_holds_events_up() {
    let mut outbox = Outbox::new(SPREAD, NOW, []);
    assert_eq!(outbox.mode(), Mode::Offline);
    outbox.connected();
    assert_eq!(outbox.mode(), Mode::Live);
    outbox.stored(NOW, LIVE_PENDING_MAX + 1);
    assert_eq!(outbox.mode(), Mode::CatchingUp);
    outbox.ack(0, &ack(1, &[])).unwrap();
    assert_eq!(outbox.mode(), Mode::Live);
    outbox.lost(NOW, gap(2, 3, GapCause::StoreLost));
    assert_eq!(outbox.mode(), Mode::Live, "a damaged store is not full");
    outbox.lost(NOW, gap(4, 5, GapCause::TelemetryDropped));
    assert_eq!(outbox.mode(), Mode::Full);
    outbox.disconnected();
    assert_eq!(outbox.mode(), Mode::Full);
    outbox.ack(0, &ack(3, &[])).unwrap();
    assert_eq!(outbox.mode(), Mode::Offline, "the archive made progress");
    assert_eq!(empty([lane(8, 0, 1, &[])]).mode(), Mode::CatchingUp);
}

#[test]
fn progress_in_one_boot_does_not_hide_that_another_stands_still() {
    let mut outbox = empty([lane(8, 0, 1, &[])]);
    outbox.stored(NOW, 1000);
    assert_eq!(outbox.next(0).unwrap().boot, NOW);
    assert_eq!(outbox.next(0), Some(events(8, 1, 1, 1)));
    let mut again = false;
    for second in 1..=8 {
        outbox.ack(second * 1000, &ack(second, &[])).unwrap();
        again |= std::iter::from_fn(|| outbox.next(second * 1000)).any(|send| send == events(8, 1, 1, 1));
    }
    assert!(again, "the one event of the backlog was lost, and the live boot goes on");
}

#[test]
fn a_full_client_is_left_alone_for_a_moment() {
    let mut outbox = grown(20, 200);
    outbox.ack(0, &ack(60, &[])).unwrap();
    let first = outbox.next(0).unwrap();
    let second = outbox.next(0).unwrap();
    outbox.refused(0, second);
    assert_eq!(outbox.next(0), None);
    assert_eq!(outbox.next_wakeup_ms(), Some(BUSY_PAUSE_MS));
    assert_eq!(outbox.next(BUSY_PAUSE_MS).unwrap().first, first.first + first.count);
}

/// The archive as the outbox may believe it, by boot.
#[derive(Default)]
struct Archive(BTreeMap<Boot, BTreeSet<u64>>);

impl Archive {
    fn take(&mut self, send: Send) {
        let has = self.0.entry(send.boot).or_default();
        match send.gap {
            Some(gap) => has.extend(gap.from..=gap.to),
            None => has.extend(send.first..send.first + send.count),
        }
    }

    fn watermark(&self, boot: Boot) -> u64 {
        self.0.get(&boot).map_or(0, |has| (1..).take_while(|seq| has.contains(seq)).count() as u64)
    }

    fn acks(&self) -> Vec<Ack> {
        self.0.keys().map(|&boot| ack_of(boot.0, self.watermark(boot), &[])).collect()
    }
}

proptest! {
    /// Whatever is lost, refused, given up, acknowledged late or cut off: all of it arrives or is told as a gap once the
    /// line is good, no sequence that was given up is read from the store, and the window is kept.
    #[test]
    fn everything_arrives_or_is_told_in_the_end(
        stored in 1u64..600,
        old in 0u64..300,
        faults in proptest::collection::vec((0u8..8, 1u64..600, 1u64..20), 0..300),
    ) {
        let mut outbox = Outbox::new(SPREAD, NOW, [lane(8, 0, old, &[])]);
        outbox.stored(NOW, stored);
        outbox.connected();
        let (mut archive, mut gone, mut current, mut now_ms) = (Archive::default(), BTreeSet::new(), NOW, 0);
        let check = |outbox: &Outbox, sent: Option<Send>, gone: &BTreeSet<(Boot, u64)>| {
            assert!(outbox.lanes.values().map(Cursor::in_flight).sum::<u64>() <= WINDOW_EVENTS_MAX);
            if let Some(send) = sent {
                assert!((send.first..send.first + send.count).all(|seq| !gone.contains(&(send.boot, seq))), "{send:?}");
            }
        };
        for (fault, from, width) in faults {
            now_ms += 40;
            let sent = outbox.next(now_ms);
            check(&outbox, sent, &gone);
            match (fault, sent) {
                (0, _) => {
                    outbox.disconnected();
                    outbox.connected();
                    if outbox.wants_new_boot() {
                        current = Boot(current.0 + 1);
                        outbox.begin(current, outbox.lanes[&Boot(current.0 - 1)].stored);
                        outbox.stored(current, stored);
                    }
                }
                (1, Some(send)) => outbox.refused(now_ms, send),
                (2, Some(_)) => {}
                (3, _) => {
                    let to = (from + width - 1).min(stored);
                    for boot in [NOW, current] {
                        outbox.lost(boot, gap(from, to, if width % 2 == 0 { GapCause::Full } else { GapCause::TelemetryDropped }));
                        gone.extend((from..=to).map(|seq| (boot, seq)));
                    }
                }
                (_, Some(send)) => archive.take(send),
                (_, None) => {}
            }
            if fault == 5 {
                for ack in archive.acks() {
                    prop_assert!(outbox.ack(now_ms, &ack).is_ok());
                }
            }
        }
        for _ in 0..10_000 {
            if outbox.pending() == 0 { break; }
            now_ms += 1_000;
            while let Some(send) = outbox.next(now_ms) {
                check(&outbox, Some(send), &gone);
                archive.take(send);
            }
            for ack in archive.acks() {
                prop_assert!(outbox.ack(now_ms, &ack).is_ok());
            }
        }
        prop_assert_eq!(outbox.pending(), 0);
        prop_assert_eq!(archive.watermark(NOW), stored);
        prop_assert_eq!(archive.watermark(Boot(8)), old);
        prop_assert_eq!(archive.watermark(current), stored);
        prop_assert_eq!(outbox.next_wakeup_ms(), None);
    }

    /// Neither what is new nor what is old waits for the other, however fast what is new comes and whatever is lost.
    #[test]
    fn neither_live_nor_backlog_starves(
        rate in 0u64..200,
        losses in proptest::collection::vec(any::<bool>(), 40..80),
    ) {
        let mut outbox = empty([lane(8, 0, 100_000, &[]), lane(9, 0, 100_000, &[])]);
        let (mut archive, mut stored, mut now_ms) = (Archive::default(), 0, 0);
        for lost in losses {
            now_ms += 2 * RESEND_AFTER_MS_MAX;
            stored += rate;
            outbox.stored(NOW, stored);
            let before = [archive.watermark(NOW), archive.watermark(Boot(8))];
            let owed = before[0] < stored;
            while let Some(send) = outbox.next(now_ms) {
                if !lost {
                    archive.take(send);
                }
            }
            if !lost {
                prop_assert!(archive.watermark(Boot(8)) >= before[1] + BACKLOG_RESERVE_EVENTS);
                prop_assert!(!owed || archive.watermark(NOW) >= stored.min(before[0] + LIVE_RESERVE_EVENTS));
            }
            for ack in archive.acks() {
                prop_assert!(outbox.ack(now_ms, &ack).is_ok());
            }
        }
    }
}
