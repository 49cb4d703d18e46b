//! The root state machine, input by input.

use super::*;
use picket_shared::duty::{Epoch, Heartbeat, Holding, Sight};
use picket_shared::ids::StationId;
use picket_shared::limits::{EVENT_ZONES_MAX, NODES_MAX, RECENT_EVENTS_MAX, STATUS_BYTES_MAX};
use picket_shared::view::Recent;
use serde_bytes::ByteBuf;

/// A coordinator with a clock, whose commits wait until the test lets them go.
struct Bench {
    core: Coordinator,
    now: Now,
    commits: Vec<Arc<Commit>>,
    published: Vec<(Topic, Vec<u8>)>,
    stopped: Option<usize>,
    outranked: Option<u32>,
}

fn site() -> SiteId {
    SiteId::new("yard").unwrap()
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

impl Bench {
    fn new() -> Bench {
        let now = Now { mono_ms: 0, unix_ms: 1_000_000 };
        let me = Identity { site: site(), pid: 1, boot: Boot(3), name: NodeId::new("main").unwrap() };
        let core = Coordinator::new(me, Rules::default(), Recovered::default(), now);
        let mut bench = Bench { core, now, commits: vec![], published: vec![], stopped: None, outranked: None };
        bench.put(Input::Lead { epoch: 1, until_ms: u64::MAX });
        bench.put(Input::LinkUp);
        bench.published.clear();
        bench
    }

    fn put(&mut self, input: Input) {
        let mut out = Vec::new();
        self.core.step(self.now, input, &mut out);
        for effect in out {
            match effect {
                Effect::Commit(commit) => self.commits.push(commit),
                Effect::Publish { topic, payload } => self.published.push((topic, payload)),
                Effect::Reject { .. } => {}
                Effect::Outranked(leader) => self.outranked = Some(leader),
                Effect::Stopped { unarchived } => self.stopped = Some(unarchived),
            }
        }
    }

    fn send(&mut self, topic: Topic, payload: impl Into<Vec<u8>>) {
        self.put(Input::Message { topic: topic.render(&site()), payload: payload.into() });
    }

    fn events(&mut self, name: &str, first: u64, count: usize) {
        let events = vec![ByteBuf::from(b"x".to_vec()); count];
        let batch = EventBatch { boot: Boot(9), base: 1, first, events, gap: None };
        self.send(Topic::Events(id(name)), codec::encode(&batch).unwrap());
    }

    /// Lets time pass as the shell does: waking when asked to.
    fn wait(&mut self, ms: u64) {
        let until = self.now.mono_ms + ms;
        while let Some(wakeup) = self.core.next_wakeup().filter(|wakeup| *wakeup <= until) {
            self.jump(wakeup.saturating_sub(self.now.mono_ms).max(1));
        }
        self.jump(until.saturating_sub(self.now.mono_ms));
    }

    /// Lets time pass while this process sleeps.
    fn jump(&mut self, ms: u64) {
        self.now = Now { mono_ms: self.now.mono_ms + ms, unix_ms: self.now.unix_ms + ms };
        self.put(Input::Tick);
    }

    fn acks(&mut self) -> Vec<u64> {
        let published = std::mem::take(&mut self.published);
        let acks = published.iter().filter(|(topic, _)| matches!(topic, Topic::Ack(_)));
        acks.map(|(_, payload)| codec::decode::<Ack>(payload).unwrap().watermark).collect()
    }

    fn liveness(&self, name: &str) -> Liveness {
        self.core.swarm.nodes()[&id(name)].pulse.liveness
    }

    fn last(&self, topic: &Topic) -> Option<serde_json::Value> {
        let of_topic = self.published.iter().rfind(|(have, _)| have == topic);
        of_topic.map(|(_, payload)| serde_json::from_slice(payload).unwrap())
    }
}

fn stats(boot: u64) -> String {
    format!(
        "{{\"time\":1,\"boot\":{boot},\"uptime_s\":1,\"resident_bytes\":1,\"events_stored\":1,\"events_acked\":1,\
         \"events_pending\":0,\"events_lost\":0,\"events_resent\":0,\"rejected\":{{}},\"connects\":1,\"cameras\":[]}}"
    )
}

#[test]
fn a_batch_is_committed_then_acknowledged_then_shown() {
    let mut bench = Bench::new();
    bench.events("a", 1, 2);
    assert_eq!((bench.commits.len(), bench.acks()), (1, vec![]));
    bench.put(Input::Committed);
    assert_eq!(bench.acks(), [2]);
    bench.events("a", 1, 2);
    assert_eq!((bench.commits.len(), bench.acks()), (1, vec![2]), "a pure duplicate is acknowledged at once");
}

#[test]
fn a_full_disk_acknowledges_nothing_is_told_and_is_tried_again_with_the_same_commit() {
    let mut bench = Bench::new();
    bench.events("a", 1, 2);
    bench.put(Input::CommitFailed("the disk is full".into()));
    let health = bench.last(&Topic::CoordinatorHealth).unwrap();
    assert_eq!((health["problems"][0].as_str(), bench.acks()), (Some("the disk is full"), vec![]));
    bench.events("a", 3, 1);
    assert_eq!(bench.commits.len(), 1);
    bench.wait(COMMIT_RETRY_MS);
    assert_eq!(bench.commits.len(), 2);
    assert_eq!(bench.commits[0], bench.commits[1]);
    bench.put(Input::CommitFailed("the disk is full".into()));
    assert_eq!(bench.last(&Topic::CoordinatorHealth), None, "the same problem is told once");
    bench.wait(COMMIT_RETRY_MS);
    bench.put(Input::Committed);
    let health = bench.last(&Topic::CoordinatorHealth).unwrap();
    assert_eq!((health["problems"].as_array().unwrap().len(), bench.acks()), (0, vec![2]));
    bench.put(Input::Committed);
    assert_eq!(bench.acks(), [3]);
    assert_eq!(bench.core.counters().commits_failed, 2);
}

#[test]
fn garbage_is_counted_by_reason_and_left() {
    let mut bench = Bench::new();
    let good = codec::encode(&EventBatch { boot: Boot(9), base: 1, first: 1, events: vec![ByteBuf::new()], gap: None })
        .unwrap();
    let newer = [&[codec::VERSION + 1][..], &good[1..]].concat();
    let big = vec![b' '; STATUS_BYTES_MAX + 1];
    let number = stats(1).replace("\"cameras\":[]", "\"cameras\":[{\"camera\":\"c\",\"state\":\"s\",\"frames\":0,\"frames_dropped\":0,\"frames_gated\":0,\"frames_detected\":0,\"detections\":0,\"tracks\":0,\"persons_now\":0,\"fps\":1e300,\"inference_ms\":0,\"restarts\":0,\"last_error\":null}]");
    let many = zones_in(&(0..=EVENT_ZONES_MAX).map(|n| format!("\"z{n}\":0")).collect::<Vec<_>>().join(","));
    for (topic, payload, reason) in [
        (Topic::Stats(id("a")), many.into_bytes(), "refused"),
        (Topic::Events(id("a")), b"garbage".to_vec(), "newer_version"),
        (Topic::Events(id("a")), b"\x01garbage".to_vec(), "malformed"),
        (Topic::Events(id("a")), newer, "newer_version"),
        (Topic::Events(id("a")), vec![], "empty"),
        (Topic::Events(id("a")), vec![1; picket_shared::limits::BATCH_BYTES_MAX + 1], "too_large"),
        (Topic::Health(id("a")), b"{}".to_vec(), "malformed"),
        (Topic::Health(id("a")), vec![], "empty"),
        (Topic::Twin(id("a")), b"[".repeat(STATUS_BYTES_MAX), "malformed"),
        (Topic::Stats(id("a")), big, "too_large"),
        (Topic::Stats(id("a")), number.into_bytes(), "refused"),
        (Topic::Ack(id("a")), good.clone(), "topic"),
    ] {
        let before = bench.core.counters().rejected.get(reason).copied().unwrap_or(0);
        bench.send(topic.clone(), payload);
        assert_eq!(bench.core.counters().rejected.get(reason), Some(&(before + 1)), "{topic:?} {reason}");
    }
    bench.put(Input::Message { topic: "picket/v1/mill/a/events".into(), payload: good });
    assert_eq!(bench.core.counters().rejected["topic"], 2);
    bench.send(Topic::CoordinatorHealth, b"an echo".to_vec());
    assert_eq!(bench.core.counters().rejected["topic"], 2);
    assert!(bench.core.swarm.nodes().is_empty() && bench.commits.is_empty(), "garbage makes no node known");
}

/// Statistics with one camera that counts people in these zones.
fn zones_in(zones: &str) -> String {
    let camera = format!(
        "{{\"camera\":\"c\",\"state\":\"s\",\"frames\":0,\"frames_dropped\":0,\"frames_gated\":0,\"frames_detected\":0,\
         \"detections\":0,\"tracks\":0,\"persons_now\":0,\"fps\":1,\"inference_ms\":0,\"restarts\":0,\"last_error\":null,\
         \"zones\":{{{zones}}}}}"
    );
    stats(1).replace("\"cameras\":[]", &format!("\"cameras\":[{camera}]"))
}

#[test]
fn the_cameras_of_a_node_that_is_down_are_no_longer_counted() {
    let mut bench = Bench::new();
    bench.send(Topic::Stats(id("a")), zones_in("\"door\":3"));
    let people = |bench: &Bench| {
        bench
            .core
            .stats()
            .flat_map(|(_, stats)| &stats.cameras)
            .flat_map(|c| c.zones.values().copied())
            .collect::<Vec<_>>()
    };
    assert_eq!(people(&bench), [3]);
    bench.wait(60_000);
    assert!(people(&bench).is_empty());
}

#[test]
fn one_node_too_many_is_refused_and_the_others_go_on() {
    let mut bench = Bench::new();
    for i in 0..=NODES_MAX {
        bench.events(&format!("n{i}"), 1, 1);
    }
    assert_eq!(bench.core.swarm.nodes().len(), NODES_MAX);
    assert_eq!(bench.core.counters().rejected["too_many_nodes"], 1);
    bench.events("n0", 2, 1);
    assert_eq!(bench.core.counters().rejected["too_many_nodes"], 1);
}

#[test]
fn silence_makes_a_node_suspect_and_down_but_not_while_this_side_is_deaf() {
    let mut bench = Bench::new();
    bench.send(Topic::Stats(id("a")), stats(1));
    bench.wait(2_500);
    assert_eq!(bench.liveness("a"), Liveness::Up);
    bench.put(Input::LinkDown("gone".into()));
    bench.wait(60_000);
    assert_eq!(bench.liveness("a"), Liveness::Up);
    bench.put(Input::LinkUp);
    bench.wait(6_400);
    assert_eq!(bench.liveness("a"), Liveness::Up, "it was away too, and has five seconds to come back");
    bench.wait(200);
    assert_eq!(bench.liveness("a"), Liveness::Suspect);
    bench.send(Topic::Stats(id("a")), stats(1));
    bench.jump(60_000);
    assert_eq!(bench.liveness("a"), Liveness::Up, "this process stood still, and that is no silence of the node");
    bench.wait(60_000);
    assert_eq!(bench.liveness("a"), Liveness::Down);
    assert_eq!(bench.core.counters().nodes[&Liveness::Down], 1);
}

#[test]
fn the_site_is_rewritten_when_it_changed_and_when_it_is_old_and_at_most_once_a_second() {
    let mut bench = Bench::new();
    let rewrites = |bench: &mut Bench| {
        std::mem::take(&mut bench.published).iter().filter(|(topic, _)| *topic == Topic::ViewSite).count()
    };
    for _ in 0..100 {
        bench.send(Topic::Stats(id("a")), stats(1));
        bench.wait(10);
    }
    assert_eq!(rewrites(&mut bench), 1, "the one of the link coming up was at 0");
    bench.wait(1_800);
    assert_eq!(rewrites(&mut bench), 0, "nothing changed, and it is not old");
    bench.wait(10_200);
    let rewritten = rewrites(&mut bench);
    assert!((5..=7).contains(&rewritten), "every two seconds, and once more for the suspect: {rewritten}");
    bench.put(Input::LinkUp);
    assert_eq!(rewrites(&mut bench), 1, "a broker that is new must be told");
}

#[test]
fn after_a_restart_each_node_is_told_where_it_stands() {
    let mut first = Bench::new();
    first.events("a", 1, 3);
    first.events("b", 2, 1);
    first.put(Input::Committed);
    first.put(Input::Committed);
    let mut archive = crate::archive::MemoryArchive::default();
    first.commits.iter().for_each(|commit| archive.apply(commit));

    let me = Identity { site: site(), pid: 1, boot: Boot(4), name: NodeId::new("main").unwrap() };
    let mut bench =
        Bench { core: Coordinator::new(me, Rules::default(), archive.recover(), first.now), ..Bench::new() };
    bench.put(Input::Lead { epoch: 2, until_ms: u64::MAX });
    bench.put(Input::LinkUp);
    assert_eq!(bench.liveness("a"), Liveness::Suspect, "known, and not yet heard");
    assert_eq!(bench.last(&Topic::ViewSite).unwrap()["events_archived"], 4);
    assert_eq!(bench.acks(), [3, 0]);
    bench.events("a", 2, 3);
    assert_eq!(bench.core.counters().events_duplicate, 2);
    assert_eq!(bench.commits.last().unwrap().first, 5);
}

#[test]
fn the_newest_events_are_kept_newest_first_and_unreadable_ones_are_not_shown() {
    let mut bench = Bench::new();
    bench.events("a", 1, 1);
    bench.put(Input::Committed);
    assert!(bench.last(&Topic::ViewEvent).is_none());
    assert_eq!(bench.core.counters().events_unreadable, 1);

    let event = crate::intake::tests::event_bytes(1);
    for seq in 2..2 + RECENT_EVENTS_MAX as u64 + 5 {
        let batch = EventBatch { boot: Boot(9), base: 1, first: seq, events: vec![event.clone()], gap: None };
        bench.send(Topic::Events(id("a")), codec::encode(&batch).unwrap());
        bench.put(Input::Committed);
    }
    bench.wait(VIEW_MS_MIN);
    let seen = bench.published.iter().filter(|(topic, _)| *topic == Topic::ViewEvent).count();
    assert_eq!(seen, RECENT_EVENTS_MAX + 5, "each event once");
    let recent: Recent = serde_json::from_value(bench.last(&Topic::ViewRecent).unwrap()).unwrap();
    let newest = 1 + RECENT_EVENTS_MAX as u64 + 5;
    let sequences: Vec<u64> = recent.events.iter().map(|event| event.seq).collect();
    assert_eq!(sequences, (6..=newest).rev().take(RECENT_EVENTS_MAX).collect::<Vec<_>>());
}

#[test]
fn two_agents_of_one_name_are_a_problem_of_that_node_in_the_view() {
    let mut bench = Bench::new();
    let problems = |bench: &mut Bench| {
        bench.wait(VIEW_MS_MIN);
        bench.last(&Topic::ViewSite).unwrap()["nodes"][0]["problems"].as_array().unwrap().len()
    };
    for boot in [1, 2, 3, 4, 5] {
        bench.send(Topic::Stats(id("a")), stats(boot));
        assert_eq!(problems(&mut bench), 0, "restarts");
    }
    for boot in [6, 5, 6] {
        bench.send(
            Topic::Health(id("a")),
            format!("{{\"status\":\"up\",\"pid\":1,\"time\":1,\"boot\":{boot},\"epoch\":0}}"),
        );
        bench.send(Topic::Stats(id("a")), stats(boot));
    }
    assert_eq!(problems(&mut bench), 0, "late messages look like this");
    bench.send(Topic::Stats(id("a")), stats(5));
    assert_eq!(problems(&mut bench), 1);
    bench.wait(70_000);
    assert_eq!(problems(&mut bench), 0, "and forgotten when it is over");
}

#[test]
fn what_never_came_is_told_of_its_node_and_by_cause() {
    use picket_shared::wire::{Gap, GapCause};
    let mut bench = Bench::new();
    bench.events("b", 1, 1);
    let gap = Some(Gap { from: 1, to: 70, cause: GapCause::TelemetryDropped });
    let batch = EventBatch { boot: Boot(9), base: 1, first: 1, events: vec![], gap };
    bench.send(Topic::Events(id("a")), codec::encode(&batch).unwrap());
    bench.put(Input::Committed);
    bench.put(Input::Committed);
    assert_eq!(bench.acks(), [1, 70], "a gap is acknowledged as events are");
    bench.wait(VIEW_MS_MIN);
    let site = bench.last(&Topic::ViewSite).unwrap();
    assert_eq!((&site["events_missed"], &site["nodes"][0]["events_missed"]), (&70.into(), &70.into()));
    assert_eq!(bench.core.counters().events_missed, [(GapCause::TelemetryDropped, 70)].into());
}

#[test]
fn stopping_commits_what_waits_and_says_goodbye() {
    let mut bench = Bench::new();
    bench.events("a", 1, 1);
    bench.put(Input::Stop);
    assert_eq!(bench.stopped, None);
    bench.events("a", 2, 1);
    bench.put(Input::Committed);
    assert_eq!((bench.stopped, bench.commits.len()), (Some(0), 1));
    assert_eq!(bench.last(&Topic::CoordinatorHealth).unwrap()["status"], "down");
    assert_eq!(bench.acks(), [1]);

    let mut bench = Bench::new();
    bench.events("a", 1, 2);
    bench.put(Input::CommitFailed("full".into()));
    bench.put(Input::Stop);
    assert_eq!(bench.stopped, Some(2), "a disk that is full is not waited for");
}

#[test]
fn the_same_inputs_give_the_same_effects() {
    let run = || {
        let mut bench = Bench::new();
        for i in 0..200u64 {
            bench.events(&format!("n{}", i * 7 % 13), 1 + i / 26, 1 + (i % 5) as usize);
            if i % 3 == 0 && bench.core.intake.in_flight().is_some() {
                bench.put(Input::Committed);
            }
            bench.wait(i % 97);
        }
        (bench.commits, bench.published)
    };
    assert_eq!(run(), run());
}

#[test]
fn a_lead_that_ended_is_not_taken_up_again_under_its_epoch() {
    let mut bench = Bench::new();
    // It stood still for longer than it may believe that it leads, and nobody else took the lead.
    bench.put(Input::Lead { epoch: 1, until_ms: 4_000 });
    bench.jump(60_000);
    assert_eq!(bench.core.swarm.leader(), 0);
    bench.put(Input::Lead { epoch: 1, until_ms: 64_000 });
    assert_eq!((bench.core.swarm.leader(), bench.outranked), (0, Some(1)), "its grants would begin at 1.1 again");
    bench.put(Input::Lead { epoch: 2, until_ms: 65_000 });
    assert_eq!(bench.core.swarm.leader(), 2);
}

#[test]
fn a_claim_by_an_epoch_that_this_leader_never_granted_makes_it_lead_under_a_higher_one() {
    let mut bench = Bench::new();
    let held = |station: &str, epoch| Holding {
        station: StationId::new(station).unwrap(),
        epoch,
        provisional: false,
        sight: Sight::Watching,
    };
    let detector = serde_json::json!({ "model": "m", "layout": "l", "provider": "cpu", "precision": "fp32", "workers": 1,
        "threads": 1, "runtime": "r", "passed_over": {} });
    let twin = serde_json::json!({ "version": "1", "arch": "a", "station": "n", "cameras": [], "detector": detector });
    bench.send(Topic::Twin(id("n")), twin.to_string());
    // Somebody else leads under epoch 1 too, and has granted more than this leader has.
    let (holdings, ready, unheard) = (vec![held("n", Epoch::new(1, 900))], vec![], vec![]);
    let beat = Heartbeat { boot: Boot(9), number: 1, leader: 1, capacity_fps: 0, holdings, ready, unheard };
    bench.send(Topic::Heartbeat(id("n")), codec::encode(&beat).unwrap());
    assert_eq!((bench.core.counters().rejected.get("future_epoch"), bench.outranked), (Some(&1), Some(1)));
}

#[test]
fn whoever_leads_below_what_a_node_has_heard_of_answers_nothing_and_asks_to_lead_above_it() {
    let mut bench = Bench::new();
    let (holdings, ready, unheard) = (vec![], vec![], vec![]);
    let beat = Heartbeat { boot: Boot(9), number: 1, leader: 7, capacity_fps: 0, holdings, ready, unheard };
    bench.send(Topic::Heartbeat(id("n")), codec::encode(&beat).unwrap());
    assert_eq!((bench.core.counters().rejected.get("outranked"), bench.outranked), (Some(&1), Some(7)));
    let answered = bench.published.iter().any(|(topic, _)| matches!(topic, Topic::Leases(_)));
    assert!(!answered, "the node would refuse it");
}
