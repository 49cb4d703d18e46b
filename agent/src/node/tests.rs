//! The node, input by input.

use super::*;
use picket_shared::event::{EventKind, Precision};
use picket_shared::ids::{CameraId, EventId, StationId};
use picket_shared::status::DetectorTwin;

const BOOT: Boot = Boot(7);

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, unix_ms: 1_700_000_000_000 + mono_ms }
}

fn node() -> Node {
    let detector = DetectorTwin {
        model: "0123456789ab".into(),
        layout: "centernet".into(),
        provider: "cpu".into(),
        precision: Precision::Fp32,
        workers: 1,
        threads: 1,
        runtime: "1.24.4".into(),
        passed_over: BTreeMap::new(),
    };
    let station = StationId::new("gate").unwrap();
    let twin = Twin { version: "0".into(), arch: "x86_64".into(), station, cameras: vec![], detector };
    let duty = Duty { station: twin.station.clone(), settings: String::new(), model: String::new(), need_fps: 1 };
    Node::new(at(0), Identity { node: me(), boot: BOOT, salt: 5, pid: 1, twin, duty }, [])
}

fn me() -> NodeId {
    NodeId::new("n1").unwrap()
}

fn event() -> Input {
    Input::Observed(Box::new(seen()))
}

fn seen() -> Event {
    Event {
        id: EventId::new("n1-7-1").unwrap(),
        kind: EventKind::New,
        station: StationId::new("gate").unwrap(),
        camera: CameraId::new("front").unwrap(),
        label: "person".into(),
        frame_time_ms: 1,
        start_time_ms: 1,
        end_time_ms: None,
        score: 0.5,
        top_score: 0.5,
        box_px: [1, 2, 3, 4],
        current_zones: vec![],
        entered_zones: vec![],
        stationary: false,
        model: "0123456789ab".into(),
        precision: Precision::Fp32,
        covering_for: None,
        epoch: 0,
        dwell_times_ms: vec![],
        loitering_zones: vec![],
        crossings: vec![],
        count: None,
    }
}

fn acked(node: &mut Node, boot: Boot, watermark: u64) -> Vec<Effect> {
    let ack = codec::encode(&Ack { boot, watermark, holes: vec![] }).unwrap();
    step(node, 3, Input::Message(Topic::Ack(me()), ack))
}

fn stats(node: &mut Node) -> Stats {
    node.stats_due_ms = 0;
    let said = step(node, 3, Input::Facts(Box::default()));
    let stats = said.iter().find_map(|effect| match effect {
        Effect::Publish(Topic::Stats(_), payload) => Some(serde_json::from_slice(payload).unwrap()),
        _ => None,
    });
    stats.unwrap()
}

fn step(node: &mut Node, mono_ms: u64, input: Input) -> Vec<Effect> {
    let mut out = Vec::new();
    node.step(at(mono_ms), input, &mut out);
    out.retain(|effect| !matches!(effect, Effect::Heartbeat));
    out
}

#[test]
fn an_event_is_told_only_after_it_is_durable() {
    let mut node = node();
    step(&mut node, 0, Input::LinkUp);
    let stored = step(&mut node, 1, event());
    assert!(matches!(stored[..], [Effect::Store(NewEvent { seq: 1, .. })]), "{stored:?}");
    assert_eq!(node.owed(), 1);
    let sent = step(&mut node, 2, Input::Stored(BOOT, 1));
    assert_eq!(sent, [Effect::Send(Send { boot: BOOT, base: 1, first: 1, count: 1, gap: None })]);
    assert_eq!(acked(&mut node, BOOT, 1), [Effect::Acked { boot: BOOT, upto: 1 }]);
    assert_eq!(node.owed(), 0);
}

#[test]
fn a_stuck_disk_costs_the_newest_events_and_never_a_gap_in_the_sequence() {
    let mut node = node();
    for _ in 0..UNSTORED_EVENTS_MAX {
        assert_eq!(step(&mut node, 0, event()).len(), 1);
    }
    assert_eq!(step(&mut node, 0, event()), []);
    assert_eq!(node.lost(), 1);
    step(&mut node, 0, Input::Stored(BOOT, UNSTORED_EVENTS_MAX));
    let next = step(&mut node, 0, event());
    assert!(matches!(next[..], [Effect::Store(NewEvent { seq, .. })] if seq == UNSTORED_EVENTS_MAX + 1), "{next:?}");
}

#[test]
fn bad_messages_are_counted_by_reason_and_change_nothing() {
    let mut node = node();
    step(&mut node, 0, Input::LinkUp);
    let mine = Topic::Ack(NodeId::new("n1").unwrap());
    let other = Topic::Ack(NodeId::new("n2").unwrap());
    let beyond = codec::encode(&Ack { boot: BOOT, watermark: 5, holes: vec![] }).unwrap();
    for (topic, payload, reason) in [
        (&mine, vec![], "empty"),
        (&mine, b"\x01garbage".to_vec(), "malformed"),
        (&mine, vec![9; 10], "newer_version"),
        (&mine, vec![1; 100_000], "too_large"),
        (&other, beyond.clone(), "topic"),
        (&mine, beyond, "ack_beyond"),
        (&Topic::Health(me()), b"{}".to_vec(), "malformed"),
        (&Topic::Health(me()), vec![b' '; picket_shared::limits::STATUS_BYTES_MAX + 1], "too_large"),
    ] {
        let before = node.rejected.get(reason).copied().unwrap_or(0);
        let out = step(&mut node, 1, Input::Message(topic.clone(), payload));
        assert!(matches!(out[..], [Effect::Reject { reason: r, .. }] if r == reason), "{reason}: {out:?}");
        assert_eq!(node.rejected[reason], before + 1);
    }
}

#[test]
fn the_twin_is_said_again_when_other_cameras_are_watched() {
    let mut node = node();
    let cameras = |name: &str| Input::Cameras(vec![CameraId::new(name).unwrap()]);
    assert_eq!(step(&mut node, 0, cameras("a")), [], "nobody hears it");
    let twin = |out: Vec<Effect>| {
        let said = out.iter().find_map(|effect| match effect {
            Effect::Publish(Topic::Twin(_), payload) => Some(serde_json::from_slice::<Twin>(payload).unwrap()),
            _ => None,
        });
        said.unwrap_or_else(|| panic!("{out:?}"))
    };
    assert_eq!(twin(step(&mut node, 1, Input::LinkUp)).cameras[0].as_str(), "a");
    assert_eq!(twin(step(&mut node, 2, cameras("b"))).cameras[0].as_str(), "b");
}

#[test]
fn heartbeats_come_on_time_and_health_when_a_problem_is_new() {
    let mut node = node();
    step(&mut node, 0, Input::LinkUp);
    let mut out = Vec::new();
    node.step(at(node.next_wakeup_ms()), Input::Tick, &mut out);
    assert_eq!(out, [Effect::Heartbeat]);
    let facts = Facts { problems: vec!["the disk is full".into()], ..Facts::default() };
    let topics = |said: Vec<Effect>| -> Vec<Topic> {
        let topic = |effect| if let Effect::Publish(topic, _) = effect { topic } else { panic!("{effect:?}") };
        said.into_iter().map(topic).collect()
    };
    let (heartbeat, health, stats) = (Topic::Heartbeat(me()), Topic::Health(me()), Topic::Stats(me()));
    let said = topics(step(&mut node, 1, Input::Facts(Box::new(facts.clone()))));
    assert_eq!(said, [heartbeat.clone(), health, stats.clone()]);
    let beat_alone = topics(step(&mut node, 1_000, Input::Facts(Box::new(facts.clone()))));
    assert_eq!(beat_alone, std::slice::from_ref(&heartbeat));
    assert_eq!(
        topics(step(&mut node, 2_000, Input::Facts(Box::new(facts)))),
        [heartbeat, stats],
        "every other heartbeat"
    );
}

#[test]
fn a_long_absence_begins_a_boot_and_what_is_new_goes_out_at_once() {
    let mut node = node();
    for _ in 0..300 {
        step(&mut node, 0, event());
    }
    step(&mut node, 0, Input::Stored(BOOT, 290));
    step(&mut node, 1, Input::LinkUp);
    let stored = step(&mut node, 2, event());
    let [Effect::Store(NewEvent { boot, seq: 1, .. })] = stored[..] else { panic!("{stored:?}") };
    assert!(boot > BOOT);
    let sent = step(&mut node, 3, Input::Stored(boot, 1));
    assert_eq!(sent, [Effect::Send(Send { boot, base: 1, first: 1, count: 1, gap: None })]);
    // What was with the store already belongs to the old boot.
    step(&mut node, 3, Input::Stored(BOOT, 300));
    let said = stats(&mut node);
    assert_eq!((said.boot, said.outbox, said.events_stored), (BOOT, picket_shared::status::Mode::CatchingUp, 301));
    assert_eq!((said.events_pending, said.events_backlog), (301, 300));

    step(&mut node, 3, Input::LinkDown);
    step(&mut node, 3, Input::LinkUp);
    let stored = step(&mut node, 4, event());
    assert!(matches!(stored[..], [Effect::Store(NewEvent { boot: b, seq: 2, .. })] if b == boot), "a flap begins none");

    step(&mut node, 5, Input::Stored(boot, 2));
    for watermark in [100, 200, 300] {
        assert_eq!(acked(&mut node, BOOT, watermark)[0], Effect::Acked { boot: BOOT, upto: watermark });
    }
    acked(&mut node, boot, 2);
    let said = stats(&mut node);
    assert_eq!((node.owed(), said.events_acked, said.outbox), (0, 302, picket_shared::status::Mode::Live));
}

#[test]
fn two_nodes_that_begin_a_boot_in_the_same_second_begin_different_ones() {
    let begun = |salt| {
        let mut node = node();
        node.identity.salt = salt;
        (0..300).for_each(|_| drop(step(&mut node, 0, event())));
        step(&mut node, 0, Input::Stored(BOOT, 300));
        step(&mut node, 1, Input::LinkUp);
        node.boot
    };
    assert_ne!(begun(1), begun(2));
    assert_eq!(begun(1), begun(1));
}

#[test]
fn what_the_store_gives_up_is_counted_by_cause_and_told() {
    let mut node = node();
    step(&mut node, 0, Input::LinkUp);
    for _ in 0..5 {
        step(&mut node, 0, event());
    }
    let gap = |from, to, cause| Gap { from, to, cause };
    step(&mut node, 1, Input::Lost(BOOT, gap(1, 2, GapCause::TelemetryDropped)));
    let told = step(&mut node, 1, Input::Lost(BOOT, gap(4, 5, GapCause::Full)));
    assert_eq!(told, [], "the first gap is on its way");
    step(&mut node, 2, Input::Stored(BOOT, 5));
    let next = acked(&mut node, BOOT, 2);
    assert_eq!(next[1], Effect::Send(Send { boot: BOOT, base: 3, first: 3, count: 1, gap: None }));
    let next = acked(&mut node, BOOT, 3);
    let full = Some(gap(4, 5, GapCause::Full));
    assert_eq!(next[1], Effect::Send(Send { boot: BOOT, base: 4, first: 4, count: 0, gap: full }));
    acked(&mut node, BOOT, 5);
    let given_up = [("full".to_owned(), 2), ("telemetry_dropped".to_owned(), 2)].into();
    assert_eq!((node.owed(), stats(&mut node).events_given_up), (0, given_up));
}

#[test]
fn an_event_that_does_not_fit_goes_to_the_dead_letters_and_holds_up_nothing() {
    let mut node = node();
    let zone = |i| picket_shared::ids::ZoneId::new(format!("{i:0>48}")).unwrap();
    let zones: Vec<_> = (0..picket_shared::limits::EVENT_ZONES_MAX).map(zone).collect();
    let long = Event { current_zones: vec![zones[0].clone(); 500], ..seen() };
    let out = step(&mut node, 0, Input::Observed(Box::new(long)));
    let [Effect::DeadLetter { reason: "refused", bytes }] = &out[..] else { panic!("{out:?}") };
    assert_eq!(bytes.len(), DEAD_LETTER_BYTES_MAX);
    assert!(bytes.starts_with(b"{\"id\":\"n1-7-1\""), "{:?}", String::from_utf8_lossy(&bytes[..40]));
    let next = step(&mut node, 0, event());
    assert!(matches!(next[..], [Effect::Store(NewEvent { seq: 1, .. })]), "{next:?}");
    step(&mut node, 0, Input::LinkUp);
    assert_eq!((stats(&mut node).events_dead, node.lost()), (1, 0));
}

#[test]
fn another_agent_of_the_same_name_is_named_and_an_earlier_run_of_ours_is_not() {
    use UpDown::{Down, Up};
    // Who says what: pid, boot, up or down. We are pid 1, boot 7.
    type Case<'a> = (&'a str, &'a [(u32, u64, UpDown)], Option<u32>);
    let cases: &[Case] = &[
        ("our echo", &[(1, 7, Up), (1, 7, Up), (1, 7, Down)], None),
        ("an earlier run, retained", &[(9, 6, Up), (1, 7, Up)], None),
        ("an earlier run's will, in time and late", &[(9, 6, Down), (1, 7, Up), (9, 6, Down)], None),
        ("a later boot", &[(9, 8, Up)], Some(9)),
        ("a later boot's will", &[(9, 8, Down)], Some(9)),
        ("a copy started with us", &[(9, 7, Up)], Some(9)),
        ("an earlier boot after our own words", &[(1, 7, Up), (9, 6, Up)], Some(9)),
        ("an earlier boot's wills, again and again", &[(1, 7, Up), (9, 6, Down), (1, 7, Up), (9, 6, Down)], Some(9)),
    ];
    for (name, said, other) in cases {
        let mut node = node();
        step(&mut node, 0, Input::LinkUp);
        let mut problems = Vec::new();
        let mut hear = |node: &mut Node, mono_ms, input| {
            for effect in step(node, mono_ms, input) {
                if let Effect::Publish(Topic::Health(_), payload) = effect {
                    problems.push(serde_json::from_slice::<Health>(&payload).unwrap().problems);
                }
            }
            problems.clone()
        };
        for &(pid, boot, status) in *said {
            let health = Health {
                status,
                pid,
                time: 1,
                boot: Boot(boot),
                epoch: 0,
                problems: vec![],
                goodbye: false,
                audit: None,
                name: None,
            };
            hear(&mut node, 1, Input::Message(Topic::Health(me()), to_json(&health)));
        }
        let sentence =
            |pid| vec![format!("another agent with pid {pid} calls itself n1: give one of them another name")];
        let expect: Vec<_> = other.iter().map(|pid| sentence(*pid)).collect();
        assert_eq!(hear(&mut node, 2, Input::Facts(Box::default())), expect, "{name}: told once");
        let expect: Vec<_> = expect.into_iter().chain(other.map(|_| vec![])).collect();
        assert_eq!(hear(&mut node, 90_000, Input::Facts(Box::default())), expect, "{name}: and forgotten");
    }
}
