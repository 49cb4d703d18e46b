//! The duties of one node, message by message.

use super::*;
use Order::{Cover as Begin, Go, Leave, Listen, Prepare, Remember, Uncover};
use picket_shared::duty::How;
use picket_shared::limits::LINK_NOTICED_MS;

/// Node `b`, whose station is `sb`, and who is in line for `sa` of node `a`.
struct Bench {
    duties: Duties,
    now: Now,
    orders: Vec<Order>,
    beats: u64,
    /// When `a` was last heard, here and by all others.
    a_heard_ms: u64,
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn station(name: &str) -> StationId {
    StationId::new(name).unwrap()
}

fn standby(ranks: &[&str], how: How) -> Standby {
    let ranks = ranks.iter().map(|node| id(node)).collect();
    let (cameras, goal) = (None, Some("there".to_owned()));
    let duty = StandbyDuty { station: station("sa"), home: id("a"), ranks, how, cameras, goal };
    Standby { leader: 1, duties: vec![duty] }
}

fn duty() -> Duty {
    Duty { station: station("sa"), settings: "[[camera]]".into(), model: "m".into(), need_fps: 5 }
}

fn word(order: &Order) -> &'static str {
    match order {
        Listen(_) => "listen",
        Prepare(_) => "prepare",
        Begin(_) => "cover",
        Uncover(_) => "uncover",
        Go(..) => "go",
        Leave(..) => "leave",
        Remember(_) => "remember",
    }
}

impl Bench {
    /// In line at this place, ready, connected, and answered until now.
    fn ready(ranks: &[&str], how: How) -> Bench {
        let mut bench = Bench::new();
        bench.duties.online(bench.now, true);
        bench.told(ranks, how);
        bench.facts(20);
        bench.wait(1_000, &["a", "c"], true);
        bench.orders.clear();
        bench
    }

    fn new() -> Bench {
        let now = Now { mono_ms: 100_000, unix_ms: 1 };
        let duties = Duties::new(now, id("b"), station("sb"), Boot(7));
        Bench { duties, now, orders: vec![], beats: 0, a_heard_ms: 0 }
    }

    /// What it may have to cover, and what that is.
    fn told(&mut self, ranks: &[&str], how: How) {
        self.duties.standby(self.now, standby(ranks, how), &mut self.orders).unwrap();
        self.duties.peer_duty(&id("a"), duty(), &mut self.orders);
    }

    fn facts(&mut self, capacity_fps: u16) {
        let sights = [(station("sb"), Sight::Watching)].into();
        self.duties.facts(&sights, capacity_fps, &[station("sa")].into());
    }

    fn lease(&self, name: &str, count: u32) -> Lease {
        Lease { station: station(name), epoch: Epoch::new(1, count), act_after_ms: 0 }
    }

    fn answer(&self, leases: Vec<Lease>) -> Leases {
        Leases { node: id("b"), leader: 1, boot: Boot(7), number: self.duties.number, turn: 0, leases }
    }

    /// A heartbeat, and its answer.
    fn granted(&mut self, leases: Vec<Lease>) {
        self.duties.heartbeat(self.now);
        let answer = self.answer(leases);
        self.duties.leases(self.now, answer, &mut self.orders).unwrap();
    }

    /// Lets time pass while these are heard to watch their own, and the coordinator answers with nothing new, or does not.
    fn wait(&mut self, ms: u64, heard: &[&str], answered: bool) {
        for _ in 0..ms / 500 {
            self.now = Now { mono_ms: self.now.mono_ms + 500, unix_ms: 1 };
            if self.now.mono_ms.is_multiple_of(1_000) {
                heard.iter().for_each(|node| self.heard(node, &format!("s{node}"), true));
                if answered || !heard.is_empty() {
                    self.duties.heard(self.now);
                }
                self.duties.heartbeat(self.now);
                if answered {
                    let answer = self.answer(vec![]);
                    self.duties.leases(self.now, answer, &mut self.orders).unwrap();
                }
            }
            self.duties.move_on(self.now, &mut self.orders);
        }
    }

    /// Lets time pass without a broker, while these are heard to watch their own.
    fn neighbours(&mut self, ms: u64, heard: &[&str]) {
        for _ in 0..ms / 500 {
            self.now = Now { mono_ms: self.now.mono_ms + 500, unix_ms: 1 };
            if self.now.mono_ms.is_multiple_of(1_000) {
                for node in heard {
                    let beat = self.beat(node, &format!("s{node}"), true);
                    self.duties.neighbour_heartbeat(self.now, &id(node), beat);
                }
                self.duties.heartbeat(self.now);
            }
            self.duties.move_on(self.now, &mut self.orders);
        }
    }

    fn heard(&mut self, node: &str, name: &str, provisional: bool) {
        let beat = self.beat(node, name, provisional);
        self.duties.peer_heartbeat(self.now, &id(node), beat);
    }

    fn beat(&mut self, node: &str, name: &str, provisional: bool) -> Heartbeat {
        self.beats += 1;
        let held = Holding { station: station(name), epoch: Epoch::NONE, provisional, sight: Sight::Watching };
        if node == "a" {
            self.a_heard_ms = self.now.mono_ms;
        }
        let silent = self.now.mono_ms - self.a_heard_ms >= 6 * HEARTBEAT_MS;
        let (ready, unheard) = (vec![], if silent { vec![id("a")] } else { vec![] });
        let (boot, leader, capacity_fps) = (Boot(1), 1, 0);
        Heartbeat { boot, number: self.beats, leader, capacity_fps, holdings: vec![held], ready, unheard }
    }

    fn words(&mut self) -> Vec<&'static str> {
        let orders = std::mem::take(&mut self.orders);
        orders.iter().filter(|order| !matches!(order, Remember(_))).map(word).collect()
    }

    fn held(&mut self) -> Vec<(String, bool)> {
        // Looks at what the next heartbeat would say.
        let beat = self.duties.heartbeat(self.now);
        beat.holdings.into_iter().map(|held| (held.station.to_string(), held.provisional)).collect()
    }
}

fn own(provisional: bool) -> (String, bool) {
    ("sb".to_owned(), provisional)
}

fn other(provisional: bool) -> (String, bool) {
    ("sa".to_owned(), provisional)
}

#[test]
fn what_was_remembered_is_enough_to_stand_in_with_neither_coordinator_nor_broker() {
    let mut told = Bench::new();
    told.told(&["b", "c"], How::Camera);
    let kept = told.orders.iter().rev().find_map(|order| match order {
        Remember(kept) => Some((**kept).clone()),
        _ => None,
    });
    let mut again = Bench::new();
    again.duties.recall(again.now, kept.expect("each change is remembered"), &mut again.orders);
    assert!(!again.orders.iter().any(|order| matches!(order, Remember(_))), "it is on the disk already");
    assert_eq!(again.words(), ["listen", "prepare", "prepare"]);
    again.facts(20);
    again.neighbours(3_000, &["a", "c"]);
    again.neighbours(10_000, &["c"]);
    assert_eq!(again.words(), ["cover"]);
}

#[test]
fn a_lease_is_owned_for_its_time_counted_from_the_heartbeat_that_it_answers() {
    let mut bench = Bench::ready(&["b", "c"], How::Camera);
    bench.duties.heartbeat(bench.now);
    let answer = bench.answer(vec![bench.lease("sb", 1), bench.lease("sa", 2)]);
    // The answer takes two seconds.
    bench.now.mono_ms += 2_000;
    bench.duties.leases(bench.now, answer, &mut bench.orders).unwrap();
    assert_eq!(bench.words(), ["cover"]);
    assert_eq!(bench.held(), [own(false), other(false)]);
    bench.now.mono_ms += LEASE_TTL_MS - LEASE_MARGIN_MS - 2_000 - 1;
    assert_eq!(bench.held(), [own(false), other(false)]);
    bench.now.mono_ms += 1;
    assert_eq!(bench.held(), [own(true), other(true)], "it goes on watching, and owns nothing");
}

#[test]
fn what_is_not_in_the_answer_is_not_held_but_an_older_answer_takes_nothing() {
    let mut bench = Bench::ready(&["b", "c"], How::Camera);
    bench.granted(vec![bench.lease("sa", 2)]);
    bench.words();
    bench.granted(vec![]);
    assert_eq!(bench.words(), ["uncover"]);

    // It begins by itself, and the answer to a heartbeat of before says nothing of that.
    let before = bench.answer(vec![]);
    bench.wait(7_000, &["c"], false);
    assert_eq!(bench.words(), ["cover"]);
    let before = Leases { turn: 1, ..before };
    assert!(bench.duties.leases(bench.now, before, &mut bench.orders).is_ok());
    assert_eq!(bench.words(), Vec::<&str>::new());
    bench.granted(vec![]);
    assert_eq!(bench.words(), ["uncover"], "the coordinator has heard of it, and says no");
}

#[test]
fn leases_for_others_from_before_and_from_nowhere_are_refused_by_name() {
    let mut bench = Bench::ready(&["b"], How::Camera);
    bench.granted(vec![Lease { epoch: Epoch::new(1, 9), ..bench.lease("sa", 0) }]);
    bench.duties.heartbeat(bench.now);
    let fine = bench.answer(vec![]);
    let mut refused = |change: &dyn Fn(&mut Leases)| {
        let mut leases = fine.clone();
        change(&mut leases);
        bench.duties.leases(bench.now, leases, &mut bench.orders).err().map(|(word, _)| word)
    };
    assert_eq!(refused(&|leases| leases.node = id("c")), Some("lease_not_ours"));
    assert_eq!(refused(&|leases| leases.boot = Boot(6)), Some("lease_of_another_run"));
    assert_eq!(refused(&|leases| leases.leader = 0), Some("lease_of_an_old_leader"));
    assert_eq!(refused(&|leases| leases.number += 1), Some("lease_from_the_future"));
    let old = Lease { station: station("sa"), epoch: Epoch::new(1, 8), act_after_ms: 0 };
    assert_eq!(refused(&|leases| leases.leases = vec![old.clone()]), Some("lease_of_an_old_epoch"));
    assert_eq!(refused(&|leases| leases.turn = 1), None);
    let number = bench.duties.number - 1;
    for _ in 0..UNANSWERED_MAX {
        bench.duties.heartbeat(bench.now);
    }
    let late = Leases { leader: 2, number, ..fine };
    assert_eq!(bench.duties.leases(bench.now, late, &mut bench.orders).unwrap_err().0, "lease_too_late");
}

#[test]
fn leases_of_more_stations_than_a_site_has_are_refused() {
    let mut bench = Bench::ready(&["b"], How::Camera);
    let mut refused = None;
    for n in 0..=NODES_MAX as u32 {
        bench.duties.heartbeat(bench.now);
        let answer = bench.answer(vec![bench.lease(&format!("s{n}"), 1)]);
        refused = bench.duties.leases(bench.now, answer, &mut bench.orders).err();
        assert_eq!(refused.is_some(), n == NODES_MAX as u32, "{n}");
    }
    assert_eq!(refused.unwrap().0, "lease_of_too_many");
    bench.granted(vec![bench.lease("s0", 2)]);
    assert_eq!(bench.held(), [own(true), ("s0".to_owned(), false)], "those that it knows go on");
}

#[test]
fn a_platform_moves_only_under_a_lease_and_only_when_the_one_before_cannot() {
    let mut bench = Bench::ready(&["b"], How::Flight);
    let lease = Lease { act_after_ms: 1_500, ..bench.lease("sa", 2) };
    bench.granted(vec![lease.clone()]);
    assert_eq!(bench.words(), ["cover"]);
    bench.now.mono_ms += 1_500;
    bench.granted(vec![Lease { act_after_ms: 0, ..lease.clone() }]);
    assert_eq!(bench.words(), ["go"]);
    // Nobody answers any more: it watches on, and leaves.
    bench.now.mono_ms += LEASE_TTL_MS - LEASE_MARGIN_MS;
    bench.duties.move_on(bench.now, &mut bench.orders);
    assert_eq!(bench.words(), ["leave"]);
    bench.granted(vec![Lease { act_after_ms: 0, ..lease }]);
    assert_eq!(bench.words(), ["go"]);
    bench.granted(vec![]);
    assert_eq!(bench.words(), ["leave", "uncover"]);
}

#[test]
fn with_the_coordinator_gone_the_first_in_line_stands_in_and_never_moves_its_platform() {
    let mut bench = Bench::ready(&["b", "c"], How::Flight);
    bench.wait(20_000, &["a"], false);
    assert_eq!(bench.words(), Vec::<&str>::new(), "its own node is there");
    bench.wait(20_000, &[], true);
    assert_eq!(bench.words(), Vec::<&str>::new(), "the coordinator decides");
    bench.wait(5_500, &["c"], false);
    assert_eq!(bench.words(), ["cover"]);
    assert_eq!(bench.held(), [own(true), other(true)]);
    bench.wait(10_000, &["c"], false);
    assert_eq!(bench.words(), Vec::<&str>::new());
    bench.wait(4_500, &["a"], false);
    assert_eq!(bench.words(), Vec::<&str>::new(), "it must be back for good");
    bench.wait(2_000, &["a"], false);
    assert_eq!(bench.words(), ["uncover"]);
}

#[test]
fn the_second_in_line_gives_the_first_time_and_steps_back_for_it() {
    let mut bench = Bench::ready(&["c", "b", "d"], How::Camera);
    bench.wait(6_000 + RANK_STEP_MS - 500, &["d"], false);
    assert_eq!(bench.words(), Vec::<&str>::new());
    bench.wait(1_000, &["d"], false);
    assert_eq!(bench.words(), ["cover"]);
    bench.heard("c", "sa", true);
    bench.wait(500, &["d"], false);
    assert_eq!(bench.words(), ["uncover"]);

    let mut bench = Bench::ready(&["c", "b"], How::Camera);
    for _ in 0..20 {
        bench.heard("c", "sa", true);
        bench.wait(1_000, &[], false);
    }
    assert_eq!(bench.words(), Vec::<&str>::new(), "the first has it");
}

#[test]
fn the_will_of_a_home_and_of_the_coordinator_are_believed_after_a_moment() {
    let down = |goodbye| Health {
        status: UpDown::Down,
        pid: 1,
        time: 1,
        boot: Boot(1),
        epoch: 0,
        problems: vec![],
        goodbye,
        audit: None,
        name: None,
    };
    let mut bench = Bench::ready(&["b"], How::Camera);
    bench.duties.coordinator_health(bench.now, &down(false));
    bench.duties.peer_health(bench.now, &id("a"), &down(false));
    bench.duties.move_on(bench.now, &mut bench.orders);
    assert_eq!(bench.words(), Vec::<&str>::new());
    bench.now.mono_ms += 500;
    bench.duties.move_on(bench.now, &mut bench.orders);
    assert_eq!(bench.words(), ["cover"]);
}

#[test]
fn without_a_connection_nobody_is_missed() {
    let mut bench = Bench::ready(&["b", "c"], How::Camera);
    bench.duties.online(bench.now, false);
    bench.wait(60_000, &[], false);
    assert_eq!((bench.words(), bench.held()), (vec![], vec![own(true)]));
    bench.duties.online(bench.now, true);
    bench.wait(10_500, &["c"], false);
    assert_eq!(bench.words(), Vec::<&str>::new(), "and then they have time to connect and to be heard");
    bench.wait(1_000, &["c"], false);
    assert_eq!(bench.words(), ["cover"]);
}

#[test]
fn without_a_connection_neighbours_are_missed_who_were_heard_without_one() {
    // The one neighbour there is falls silent.
    let mut bench = Bench::ready(&["b"], How::Camera);
    bench.duties.online(bench.now, false);
    bench.neighbours(20_000, &["a"]);
    assert_eq!(bench.words(), Vec::<&str>::new(), "it is there");
    bench.neighbours(9_000, &[]);
    assert_eq!(bench.words(), Vec::<&str>::new());
    bench.neighbours(1_500, &[]);
    assert_eq!((bench.words(), bench.held()), (vec!["cover"], vec![own(true), other(true)]));
    bench.neighbours(3_000, &["a"]);
    assert_eq!(bench.words(), Vec::<&str>::new(), "it must be back for good");
    bench.neighbours(4_000, &["a"]);
    assert_eq!(bench.words(), ["uncover"]);

    // The home falls silent, and somebody else is still heard.
    let mut bench = Bench::ready(&["b", "c"], How::Camera);
    bench.duties.online(bench.now, false);
    bench.neighbours(10_000, &["a", "c"]);
    bench.neighbours(6_500, &["c"]);
    assert_eq!(bench.words(), ["cover"]);
}

#[test]
fn who_hears_nobody_any_more_is_cut_off_and_misses_nobody() {
    let mut bench = Bench::ready(&["b", "c"], How::Camera);
    bench.duties.online(bench.now, false);
    bench.neighbours(10_000, &["a", "c"]);
    // They do not speak at the same moment, so that one is silent for longer than the other.
    bench.neighbours(500, &[]);
    let beat = bench.beat("c", "sc", true);
    bench.duties.neighbour_heartbeat(bench.now, &id("c"), beat);
    bench.neighbours(60_000, &[]);
    assert_eq!((bench.words(), bench.held()), (vec![], vec![own(true)]));
}

#[test]
fn who_was_never_heard_but_over_the_broker_is_not_missed_without_one() {
    let mut bench = Bench::ready(&["b", "c"], How::Camera);
    bench.duties.online(bench.now, false);
    bench.neighbours(60_000, &["c"]);
    assert_eq!(bench.words(), Vec::<&str>::new());
}

#[test]
fn attempts_that_fail_excuse_nobody() {
    let mut bench = Bench::ready(&["b"], How::Camera);
    bench.duties.online(bench.now, false);
    bench.neighbours(2_000, &["a"]);
    for _ in 0..11 {
        bench.neighbours(1_000, &[]);
        bench.duties.online(bench.now, false);
    }
    assert_eq!(bench.words(), ["cover"]);
}

#[test]
fn the_second_in_line_gives_the_first_time_without_a_broker_too() {
    let mut bench = Bench::ready(&["c", "b"], How::Camera);
    bench.duties.online(bench.now, false);
    bench.neighbours(10_000, &["a", "c"]);
    bench.neighbours(6_000 + RANK_STEP_MS - 500, &["c"]);
    assert_eq!(bench.words(), Vec::<&str>::new());
    bench.neighbours(1_500, &["c"]);
    assert_eq!(bench.words(), ["cover"]);
}

#[test]
fn a_station_that_this_node_knows_nothing_of_is_held_blind_until_its_duty_comes() {
    let mut bench = Bench::ready(&["b"], How::Camera);
    bench.duties.peers.get_mut(&id("a")).unwrap().duty = None;
    bench.granted(vec![bench.lease("sa", 2)]);
    assert_eq!(bench.words(), Vec::<&str>::new());
    assert_eq!(bench.duties.heartbeat(bench.now).holdings[1].sight, Sight::Blind);
    bench.duties.peer_duty(&id("a"), duty(), &mut bench.orders);
    assert!(bench.words().contains(&"cover"));
    assert_eq!(bench.duties.heartbeat(bench.now).holdings[1].sight, Sight::Starting);
}

#[test]
fn it_does_not_stand_in_beyond_what_it_can_do() {
    let mut bench = Bench::ready(&["b"], How::Camera);
    bench.facts(4);
    bench.wait(20_000, &["c"], false);
    assert_eq!(bench.words(), Vec::<&str>::new());
    bench.facts(5);
    bench.wait(1_000, &["c"], false);
    assert_eq!(bench.words(), ["cover"]);
}

#[test]
fn what_a_leader_granted_it_takes_by_any_later_answer() {
    let mut bench = Bench::ready(&["b"], How::Camera);
    bench.duties.heartbeat(bench.now);
    let granted = bench.answer(vec![bench.lease("sa", 2)]);
    // Heartbeats go on, and none of them is heard.
    bench.duties.heartbeat(bench.now);
    bench.duties.leases(bench.now, granted.clone(), &mut bench.orders).unwrap();
    bench.duties.heartbeat(bench.now);
    assert_eq!(bench.words(), ["cover"]);
    let taken = Leases { turn: 1, leases: vec![], ..granted };
    bench.duties.leases(bench.now, taken, &mut bench.orders).unwrap();
    assert_eq!(bench.words(), ["uncover"]);
}

#[test]
fn a_new_leader_says_nothing_of_a_cover_that_no_heartbeat_has_told_it_of() {
    let mut bench = Bench::ready(&["b"], How::Camera);
    bench.duties.heartbeat(bench.now);
    let granted = bench.answer(vec![bench.lease("sa", 2)]);
    bench.duties.leases(bench.now, granted.clone(), &mut bench.orders).unwrap();
    let new = Leases { leader: 2, leases: vec![], ..granted };
    bench.duties.leases(bench.now, new, &mut bench.orders).unwrap();
    assert_eq!(bench.words(), ["cover"]);
    bench.duties.heartbeat(bench.now);
    let heard = Leases { leader: 2, ..bench.answer(vec![]) };
    bench.duties.leases(bench.now, heard, &mut bench.orders).unwrap();
    assert_eq!(bench.words(), ["uncover"]);
}

#[test]
fn who_hears_nobody_at_all_stands_in_only_when_its_own_link_is_sure() {
    let mut bench = Bench::ready(&["b", "c"], How::Camera);
    bench.wait(LINK_NOTICED_MS, &[], false);
    assert_eq!(bench.words(), Vec::<&str>::new(), "a dead link would not have been noticed yet");
    bench.wait(1_000, &[], false);
    assert_eq!(bench.words(), ["cover"], "the link stands, and nobody is there");

    let mut bench = Bench::ready(&["b", "c"], How::Camera);
    bench.wait(9_000, &[], false);
    bench.wait(5_000, &["c"], false);
    assert_eq!(bench.words(), Vec::<&str>::new(), "the link was dead; now it has time to bring what waited");
    bench.wait(2_500, &["c"], false);
    assert_eq!(bench.words(), ["cover"]);
}

#[test]
fn a_silence_that_may_be_chance_is_believed_where_another_hears_nothing_either() {
    let mut bench = Bench::ready(&["b", "c"], How::Camera);
    for _ in 0..9 {
        bench.a_heard_ms = bench.now.mono_ms;
        bench.wait(1_000, &["c"], false);
    }
    assert_eq!(bench.words(), Vec::<&str>::new(), "c hears it");
    bench.a_heard_ms = 0;
    bench.wait(1_000, &["c"], false);
    assert_eq!(bench.words(), ["cover"]);

    let mut bench = Bench::ready(&["b", "c"], How::Camera);
    for _ in 0..11 {
        bench.a_heard_ms = bench.now.mono_ms;
        bench.wait(1_000, &["c"], false);
    }
    assert_eq!(bench.words(), ["cover"], "so many are not lost by chance");
}

#[test]
fn who_stood_still_has_missed_nobody() {
    let mut bench = Bench::ready(&["b", "c"], How::Camera);
    bench.now.mono_ms += 60_000;
    bench.wait(500, &["c"], false);
    assert_eq!(bench.words(), Vec::<&str>::new());
    bench.wait(5_000, &["a", "c"], false);
    assert_eq!(bench.words(), Vec::<&str>::new());
}

#[test]
fn a_new_leaders_first_answer_is_taken_though_its_standby_came_before() {
    let mut bench = Bench::ready(&["b"], How::Camera);
    bench.granted(vec![bench.lease("sa", 2)]);
    assert_eq!(bench.words(), ["cover"]);
    bench.wait(1_000, &["a"], false);
    let again = bench.answer(vec![bench.lease("sa", 2)]);
    bench.duties.leases(bench.now, Leases { turn: 1, ..again.clone() }, &mut bench.orders).unwrap();
    bench.duties.standby(bench.now, Standby { leader: 2, ..standby(&["b"], How::Camera) }, &mut bench.orders).unwrap();
    bench.duties.leases(bench.now, Leases { leader: 2, leases: vec![], ..again }, &mut bench.orders).unwrap();
    assert_eq!(bench.words(), ["uncover"]);
}
