//! The intake's rules as tables, and its promise under any order of arrival, commit, crash and loss.

use super::*;
use crate::archive::MemoryArchive;
use picket_shared::event::{EventKind, Precision};
use picket_shared::ids::{CameraId, EventId, StationId};
use picket_shared::limits::BATCH_EVENTS_MAX;
use proptest::prelude::*;
use serde_bytes::ByteBuf;

const BOOT: Boot = Boot(7);

fn node() -> NodeId {
    NodeId::new("gate-3").unwrap()
}

pub(crate) fn event_bytes(seq: u64) -> ByteBuf {
    let event = Event {
        id: EventId::of_track(&node(), BOOT, seq),
        kind: EventKind::New,
        station: StationId::new("gate").unwrap(),
        camera: CameraId::new("c").unwrap(),
        label: "person".into(),
        frame_time_ms: seq,
        start_time_ms: seq,
        end_time_ms: None,
        score: 0.5,
        top_score: 0.5,
        box_px: [0, 0, 1, 1],
        current_zones: vec![],
        entered_zones: vec![],
        stationary: false,
        model: "m".into(),
        precision: Precision::Int8,
        covering_for: None,
        epoch: 0,
        dwell_times_ms: vec![],
        loitering_zones: vec![],
        crossings: vec![],
        count: None,
    };
    ByteBuf::from(codec::encode(&event).unwrap())
}

fn batch(base: u64, sequences: std::ops::RangeInclusive<u64>) -> EventBatch {
    let first = *sequences.start();
    EventBatch { boot: BOOT, base, first, events: sequences.map(event_bytes).collect(), gap: None }
}

fn commit(intake: &mut Intake, archive: &mut MemoryArchive) -> Vec<Ack> {
    let mut acks = Vec::new();
    while let Some(commit) = intake.begin_commit(5) {
        archive.apply(&commit);
        acks.extend(intake.finish_commit().acks.into_iter().map(|(_, ack)| ack));
    }
    acks
}

fn ack(watermark: u64, holes: &[(u64, u64)]) -> Ack {
    Ack { boot: BOOT, watermark, holes: holes.to_vec() }
}

#[test]
fn an_ack_says_what_is_durable_and_what_is_missing() {
    // Batches as (base, first, last), then the last ack's watermark and holes, then archived, duplicate, missed.
    type Case<'a> = (&'a str, &'a [(u64, u64, u64)], u64, &'a [(u64, u64)], [u64; 3]);
    let cases: &[Case] = &[
        ("in order", &[(1, 1, 3), (1, 4, 4)], 4, &[], [4, 0, 0]),
        ("out of order", &[(1, 4, 5), (1, 1, 1)], 1, &[(2, 3)], [3, 0, 0]),
        ("holes close", &[(1, 4, 5), (1, 1, 1), (1, 2, 3)], 5, &[], [5, 0, 0]),
        ("sent again", &[(1, 1, 3), (1, 2, 4), (1, 1, 4)], 4, &[], [4, 6, 0]),
        ("again while ahead", &[(1, 3, 4), (1, 3, 5)], 0, &[(1, 2)], [3, 2, 0]),
        ("a base that moved with the watermark", &[(1, 1, 3), (4, 4, 5)], 5, &[], [5, 0, 0]),
        ("an archive that was lost", &[(501, 501, 502)], 502, &[], [2, 0, 500]),
        ("a gap around what came", &[(1, 1, 1), (1, 3, 3), (1, 6, 6), (5, 8, 8)], 4, &[(5, 5), (7, 7)], [4, 0, 2]),
        ("a gap that reaches what came", &[(1, 4, 5), (4, 4, 4)], 5, &[], [2, 1, 3]),
        ("far ahead", &[(1, AHEAD_EVENTS_MAX + 1, AHEAD_EVENTS_MAX + 1)], 0, &[], [0, 0, 0]),
        ("just ahead", &[(1, AHEAD_EVENTS_MAX, AHEAD_EVENTS_MAX)], 0, &[(1, AHEAD_EVENTS_MAX - 1)], [1, 0, 0]),
        (
            "the highest there is",
            &[(u64::MAX - 1, u64::MAX - 1, u64::MAX - 1)],
            u64::MAX - 1,
            &[],
            [1, 0, u64::MAX - 2],
        ),
    ];
    for (name, batches, watermark, holes, counts) in cases {
        let (mut intake, mut archive, mut last) = (Intake::default(), MemoryArchive::default(), None);
        for &(base, from, to) in *batches {
            let taken = intake.take(&node(), batch(base, from..=to));
            last = commit(&mut intake, &mut archive).pop().or(taken.ack).or(last);
        }
        assert_eq!(last, Some(ack(*watermark, holes)), "{name}");
        let counted = [intake.events_archived(), intake.events_duplicate(), intake.events_missed()];
        assert_eq!(counted, *counts, "{name}");
        let again = Intake::new(&archive.recover());
        assert_eq!([again.events_archived(), again.events_missed()], [counts[0], counts[2]], "{name}, recovered");
        assert_eq!(archive.recover().problems, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_gap_is_archived_with_its_cause_for_exactly_what_never_came() {
    use GapCause::{Full, StoreLost, Unknown};
    enum Came {
        /// Base, first, last.
        Events(u64, u64, u64),
        /// Base, from, to.
        Gap(u64, u64, u64, GapCause),
    }
    use Came::{Events, Gap as Told};
    const WIDE: u64 = 1 << 62;
    // What came; the last ack's watermark and holes; the archived gaps; archived, duplicate, missed; the last refusal.
    type Case<'a> = (&'a str, &'a [Came], u64, &'a [(u64, u64)], &'a [(u64, u64, GapCause)], [u64; 3], &'a str);
    let cases: &[Case] = &[
        ("at the start", &[Told(1, 1, 5, Full)], 5, &[], &[(1, 5, Full)], [0, 0, 5], ""),
        ("after events", &[Events(1, 1, 3), Told(4, 4, 5, StoreLost)], 5, &[], &[(4, 5, StoreLost)], [3, 0, 2], ""),
        ("told again", &[Told(1, 1, 5, Full), Told(1, 1, 5, Full)], 5, &[], &[(1, 5, Full)], [0, 0, 5], ""),
        (
            "grown meanwhile",
            &[Told(1, 1, 5, Full), Told(1, 1, 9, Full)],
            9,
            &[],
            &[(1, 5, Full), (6, 9, Full)],
            [0, 0, 9],
            "",
        ),
        ("all of it had come", &[Events(1, 1, 6), Told(1, 1, 5, Full)], 6, &[], &[], [6, 0, 0], ""),
        (
            "some of it had come, and more after it",
            &[Events(1, 3, 3), Events(1, 6, 7), Told(1, 1, 4, Full)],
            4,
            &[(5, 5)],
            &[(1, 2, Full), (4, 4, Full)],
            [3, 0, 3],
            "",
        ),
        ("it closes up to what came", &[Events(1, 5, 6), Told(1, 1, 4, Full)], 6, &[], &[(1, 4, Full)], [2, 0, 4], ""),
        ("ahead of what is on its way", &[Events(1, 1, 2), Told(3, 4, 9, Full)], 2, &[], &[], [2, 0, 0], "ahead"),
        (
            "an archive that was lost",
            &[Told(501, 501, 503, StoreLost)],
            503,
            &[],
            &[(1, 500, Unknown), (501, 503, StoreLost)],
            [0, 0, 503],
            "",
        ),
        (
            "wider than can be counted through",
            &[Told(1, 1, WIDE, Full)],
            WIDE,
            &[],
            &[(1, WIDE, Full)],
            [0, 0, WIDE],
            "",
        ),
    ];
    for (name, came, watermark, holes, gaps, counts, refusal) in cases {
        let (mut intake, mut archive) = (Intake::default(), MemoryArchive::default());
        let (mut last, mut refused) = (None, "");
        for what in *came {
            let batch = match *what {
                Events(base, first, to) => batch(base, first..=to),
                Told(base, from, to, cause) => {
                    let gap = Some(Gap { from, to, cause });
                    EventBatch { boot: BOOT, base, first: from, events: vec![], gap }
                }
            };
            let taken = intake.take(&node(), batch);
            refused = taken.refused.map_or("", |(word, _)| word);
            last = commit(&mut intake, &mut archive).pop().or(taken.ack).or(last);
        }
        assert_eq!((last, refused), (Some(ack(*watermark, holes)), *refusal), "{name}");
        let archived: Vec<_> = archive
            .entries
            .values()
            .filter_map(|entry| match entry.what {
                What::Gap { from, to, cause } => Some((from, to, cause)),
                _ => None,
            })
            .collect();
        assert_eq!(archived, *gaps, "{name}");
        let again = Intake::new(&archive.recover());
        for intake in [&intake, &again] {
            assert_eq!([intake.events_archived(), intake.events_missed()], [counts[0], counts[2]], "{name}");
            assert_eq!(intake.missed().values().sum::<u64>(), intake.events_missed_of(&node()), "{name}");
        }
        assert_eq!(intake.events_duplicate(), counts[1], "{name}");
        assert_eq!(archive.recover().problems, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn nothing_is_acknowledged_before_it_is_durable() {
    let mut intake = Intake::default();
    assert_eq!(intake.take(&node(), batch(1, 1..=3)).ack, None);
    let first = intake.begin_commit(5).unwrap();
    // What comes meanwhile waits for the next commit, and is known all the same.
    assert_eq!(intake.take(&node(), batch(1, 4..=4)).ack, None);
    assert_eq!(intake.take(&node(), batch(1, 1..=4)).ack, Some(ack(0, &[])));
    assert_eq!(intake.begin_commit(6), None);
    assert_eq!(intake.finish_commit().acks, [(node(), ack(3, &[]))]);
    let second = intake.begin_commit(7).unwrap();
    assert_eq!((first.first, first.entries.len(), second.first, second.entries.len()), (1, 3, 4, 1));
    assert_eq!(second.lanes[0].1.watermark, 4);
    assert_eq!(intake.finish_commit().acks, [(node(), ack(4, &[]))]);
    assert_eq!(intake.waiting(), 0);
}

#[test]
fn the_whole_history_sent_again_doubles_nothing() {
    const HISTORY: u64 = 5_000;
    let (mut intake, mut archive) = (Intake::default(), MemoryArchive::default());
    let all = (1..=HISTORY).step_by(BATCH_EVENTS_MAX).map(|first| {
        let last = (first + BATCH_EVENTS_MAX as u64 - 1).min(HISTORY);
        batch(1, first..=last)
    });
    for round in 0..3 {
        for batch in all.clone() {
            let taken = intake.take(&node(), batch);
            let acks = commit(&mut intake, &mut archive);
            assert_eq!(taken.ack.is_some(), round > 0, "what is known is answered at once");
            assert!(round == 0 || taken.ack == Some(ack(HISTORY, &[])) && acks.is_empty());
        }
        assert_eq!((intake.events_archived(), archive.entries.len() as u64), (HISTORY, HISTORY));
        intake = Intake::new(&archive.recover());
    }
}

#[test]
fn bytes_that_cannot_be_read_are_kept_and_block_nothing() {
    let mut intake = Intake::default();
    let mut archive = MemoryArchive::default();
    let mut mixed = batch(1, 1..=3);
    mixed.events[1] = ByteBuf::from(b"\x01garbage".to_vec());
    intake.take(&node(), mixed);
    assert_eq!(commit(&mut intake, &mut archive), [ack(3, &[])]);
    assert!(matches!(&archive.entries[&2].what, What::Unreadable { seq: 2, bytes } if bytes[..] == b"\x01garbage"[..]));
    assert_eq!(archive.recover().unreadable, 1);
}

#[test]
fn every_bound_is_refused_by_name_and_nothing_of_the_batch_is_half_taken() {
    let mut intake = Intake::default();
    let mut first = 1;
    while intake.waiting() + BATCH_EVENTS_MAX <= PENDING_EVENTS_MAX {
        let name = NodeId::new(format!("n{first}")).unwrap();
        assert_eq!(intake.take(&name, batch(1, 1..=BATCH_EVENTS_MAX as u64)), Taken::default());
        first += 1;
    }
    assert_eq!(intake.take(&node(), batch(1, 1..=1)).refused.unwrap().0, "busy");
    let mut archive = MemoryArchive::default();
    assert_eq!(commit(&mut intake, &mut archive).len(), first as usize - 1);
    assert_eq!(intake.take(&node(), batch(1, 1..=1)).refused, None);

    let reach = batch(1, AHEAD_EVENTS_MAX + 1..=AHEAD_EVENTS_MAX + 2);
    let taken = intake.take(&node(), reach);
    assert_eq!(taken.refused.unwrap().0, "ahead", "the watermark is 1, so the second one is in reach and no more");
}

#[test]
fn the_oldest_boot_makes_room_and_stays_counted_and_closed() {
    let (mut intake, mut archive) = (Intake::default(), MemoryArchive::default());
    let boots = BOOTS_PER_NODE_MAX as u64 + 2;
    for boot in 10..10 + boots {
        intake.take(&node(), EventBatch { boot: Boot(boot), ..batch(2, 2..=3) });
        commit(&mut intake, &mut archive);
    }
    assert_eq!(archive.lanes.len(), BOOTS_PER_NODE_MAX);
    for mut intake in [Intake::new(&archive.recover()), intake] {
        assert_eq!((intake.events_archived(), intake.events_missed()), (2 * boots, boots));
        for closed in [9, 10, 11] {
            let late = EventBatch { boot: Boot(closed), ..batch(1, 1..=1) };
            assert_eq!(intake.take(&node(), late).refused.unwrap().0, "boot_too_old");
        }
        let open = EventBatch { boot: Boot(12), ..batch(1, 3..=3) };
        assert!(intake.take(&node(), open).ack.is_some(), "an open boot is still known");
    }
    assert_eq!(archive.recover().problems, Vec::<String>::new());

    // Closed is closed, also for a build that has room for more boots.
    archive.lanes.retain(|id, _| id.boot > Boot(100));
    let late = EventBatch { boot: Boot(11), ..batch(2, 2..=3) };
    assert_eq!(Intake::new(&archive.recover()).take(&node(), late).refused.unwrap().0, "boot_too_old");
}

/// What can happen to the intake of two lanes.
#[derive(Debug, Clone)]
enum Step {
    /// The agent sends events that it still has: any, in any order, any number of times.
    Send { lane: usize, from: u64, count: u64 },
    /// A commit begins, if one can.
    Begin,
    /// The commit under way is done.
    Finish,
    /// Kill -9: the commit under way reached the disk, or did not.
    Crash { reached: bool },
}

const EVENTS: u64 = 40;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let send = (0usize..2, 1..=EVENTS, 1..=BATCH_EVENTS_MAX as u64);
    let step = prop_oneof![
        6 => send.prop_map(|(lane, from, count)| Step::Send { lane, from, count }),
        2 => Just(Step::Begin),
        2 => Just(Step::Finish),
        1 => any::<bool>().prop_map(|reached| Step::Crash { reached }),
    ];
    proptest::collection::vec(step, 0..60)
}

/// Two agents' lanes, the coordinator's intake and its disk.
struct World {
    intake: Intake,
    archive: MemoryArchive,
    /// The highest watermark that each agent was given; it has forgotten everything up to there.
    given: [u64; 2],
}

impl World {
    fn lane(lane: usize) -> LaneId {
        LaneId { node: NodeId::new(["a", "b"][lane]).unwrap(), boot: BOOT }
    }

    fn send(&mut self, lane: usize, from: u64, count: u64) {
        let base = self.given[lane] + 1;
        let first = from.max(base);
        let last = (first + count - 1).min(EVENTS);
        if first > last {
            return;
        }
        let id = World::lane(lane).node;
        let events = (first..=last).map(|seq| ByteBuf::from(seq.to_be_bytes().to_vec())).collect();
        let taken = self.intake.take(&id, EventBatch { boot: BOOT, base, first, events, gap: None });
        if let Some(ack) = taken.ack {
            self.hear(&id, &ack);
        }
    }

    /// An agent hears an ack. It must be true of the disk at this moment.
    fn hear(&mut self, node: &NodeId, ack: &Ack) {
        let stored = self.sequences(node);
        for seq in 1..=ack.watermark {
            assert!(stored.contains(&seq), "{node}: {seq} was acknowledged and is not durable");
        }
        for &(from, to) in &ack.holes {
            assert!((from..=to).all(|seq| !stored.contains(&seq)), "{node}: {from}..={to} is no hole");
        }
        picket_shared::wire::Wire::check(ack).unwrap();
        let lane = usize::from(node.as_str() == "b");
        self.given[lane] = self.given[lane].max(ack.watermark);
    }

    fn finish(&mut self) {
        if let Some(commit) = self.intake.in_flight() {
            self.archive.apply(&commit);
            for (node, ack) in self.intake.finish_commit().acks {
                self.hear(&node, &ack);
            }
        }
    }

    fn sequences(&self, node: &NodeId) -> Vec<u64> {
        let of_node = self.archive.entries.values().filter(|entry| entry.node == *node);
        of_node
            .map(|entry| match &entry.what {
                What::Event { seq, .. } | What::Unreadable { seq, .. } => *seq,
                What::Gap { .. } => panic!("nothing was lost, and a gap stands in the archive"),
            })
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_event_is_archived_exactly_once_whatever_happens(steps in steps()) {
        let mut world = World { intake: Intake::default(), archive: MemoryArchive::default(), given: [0, 0] };
        for step in steps {
            match step {
                Step::Send { lane, from, count } => world.send(lane, from, count),
                Step::Begin => drop(world.intake.begin_commit(1)),
                Step::Finish => world.finish(),
                Step::Crash { reached } => {
                    if let Some(commit) = world.intake.in_flight().filter(|_| reached) {
                        world.archive.apply(&commit);
                    }
                    world.intake = Intake::new(&world.archive.recover());
                }
            }
        }
        // Everything heals: what is not acknowledged is sent in order until it is.
        for _ in 0..EVENTS {
            for lane in 0..2 {
                let from = world.given[lane] + 1;
                world.send(lane, from, BATCH_EVENTS_MAX as u64);
            }
            world.finish();
            world.intake.begin_commit(1);
            world.finish();
        }
        prop_assert_eq!(world.given, [EVENTS, EVENTS]);
        for lane in 0..2 {
            let mut stored = world.sequences(&World::lane(lane).node);
            stored.sort_unstable();
            prop_assert_eq!(stored, (1..=EVENTS).collect::<Vec<_>>());
        }
        prop_assert_eq!(world.archive.recover().problems, Vec::<String>::new());
    }

    #[test]
    fn any_batch_that_decodes_is_taken_without_a_panic(
        batches in proptest::collection::vec(
            (0u64..3, any::<u64>(), 0u64..300, 1usize..=BATCH_EVENTS_MAX, any::<bool>()),
            1..20,
        ),
        near in any::<bool>(),
    ) {
        let (mut intake, mut archive) = (Intake::default(), MemoryArchive::default());
        for (boot, base, above, events, told) in batches {
            let base = if near { base % 200 + 1 } else { base.max(1) };
            let events = vec![ByteBuf::new(); events];
            let first = base.saturating_add(above);
            let gap = Gap { from: first, to: first.saturating_add(boot << (above % 63)), cause: GapCause::Full };
            let (events, gap) = if told { (vec![], Some(gap)) } else { (events, None) };
            let batch = EventBatch { boot: Boot(boot), base, first, events, gap };
            if picket_shared::wire::Wire::check(&batch).is_ok() {
                intake.take(&node(), batch);
                for ack in commit(&mut intake, &mut archive) {
                    prop_assert!(codec::encode(&ack).is_ok());
                }
                prop_assert!(archive.lanes.values().all(|row| codec::encode(row).is_ok()));
            }
        }
        prop_assert_eq!(archive.recover().problems, Vec::<String>::new());
    }
}
