//! The line, grant by grant: a few nodes by hand, whose standing the test says.

use super::*;
use Standing::{Down, Steady, Suspect, Unsteady};
use picket_shared::duty::{Heartbeat, Holding};

/// Three nodes that cover each other, and a leader.
struct Bench {
    line: Line,
    now: Now,
    standing: BTreeMap<NodeId, Standing>,
    beats: BTreeMap<NodeId, Heartbeat>,
    words: Vec<Word>,
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn station(name: &str) -> StationId {
    StationId::new(name).unwrap()
}

fn plan(name: &str, node: &str, priority: i32, covers: &[&str]) -> plan::Station {
    let cover = |node: &&str| plan::Cover { node: id(node), how: How::Camera, cameras: vec![], goal: None };
    let covers = covers.iter().map(cover).collect();
    plan::Station { name: station(name), node: id(node), priority, position: None, covers }
}

impl Bench {
    fn new(stations: &[plan::Station]) -> Bench {
        Bench::led_by(1, stations)
    }

    fn led_by(leader: u32, stations: &[plan::Station]) -> Bench {
        let now = Now { mono_ms: 50_000, unix_ms: 1_000_000 };
        let line = Line::new(now, leader, stations, None);
        Bench { line, now, standing: BTreeMap::new(), beats: BTreeMap::new(), words: vec![] }
    }

    /// Three that are up, watch their own, and are settled.
    fn three() -> Bench {
        let mut bench = Bench::new(&[
            plan("sa", "a", 0, &["b", "c"]),
            plan("sb", "b", 0, &["a", "c"]),
            plan("sc", "c", 0, &["a", "b"]),
        ]);
        for (node, own) in [("a", "sa"), ("b", "sb"), ("c", "sc")] {
            bench.join(node, own, &["sa", "sb", "sc"], 50);
        }
        bench.wait(SETTLE_MS + 1_000);
        bench
    }

    fn join(&mut self, node: &str, own: &str, ready: &[&str], capacity_fps: u16) {
        self.standing.insert(id(node), Steady);
        let ready = ready.iter().filter(|name| **name != own).map(|name| station(name)).collect();
        let held = Holding { station: station(own), epoch: Epoch::NONE, provisional: true, sight: Sight::Watching };
        let (boot, leader, unheard) = (Boot(7), self.line.leader(), vec![]);
        let beat = Heartbeat { boot, number: 0, leader, capacity_fps, holdings: vec![held], ready, unheard };
        self.beats.insert(id(node), beat);
        self.beat(node);
    }

    /// One heartbeat of a node, and what it says; it takes up what it is granted, as an agent does.
    fn beat(&mut self, node: &str) {
        let beat = self.beats.get_mut(&id(node)).unwrap();
        beat.number += 1;
        let beat = beat.clone();
        self.line.heartbeat(self.now, &id(node), beat).unwrap();
        self.decide();
        let answer = self.line.answer(self.now, &id(node)).unwrap();
        self.take_up(&answer);
    }

    fn take_up(&mut self, answer: &Leases) {
        let Some(beat) = self.beats.get_mut(&answer.node) else { return };
        let own = beat.holdings[0].clone();
        let sights: BTreeMap<_, _> = beat.holdings.iter().map(|held| (held.station.clone(), held.sight)).collect();
        let held = |lease: &Lease| Holding {
            station: lease.station.clone(),
            epoch: lease.epoch,
            provisional: false,
            sight: sights.get(&lease.station).copied().unwrap_or(Sight::Watching),
        };
        beat.holdings = answer.leases.iter().map(held).collect();
        if beat.holdings.iter().all(|held| held.station != own.station) {
            beat.holdings.insert(0, Holding { provisional: true, ..own.clone() });
        }
        beat.holdings.sort_by_key(|held| held.station != own.station);
    }

    fn decide(&mut self) {
        let standing = self.standing.clone();
        let witnessed = |node: &NodeId| (standing.get(node).copied().unwrap_or(Down), "is as the test says".to_owned());
        let mut words = Vec::new();
        self.line.decide(self.now, &witnessed, &mut words);
        for word in &words {
            if let Word::Leases(leases) = word {
                let living = self.standing.get(&leases.node).is_some_and(|standing| *standing > Down);
                if living {
                    self.take_up(leases);
                }
            }
        }
        self.words.extend(words);
    }

    /// Lets time pass: each living node's heart beats once a second.
    fn wait(&mut self, ms: u64) {
        let until_ms = self.now.mono_ms + ms;
        while self.now.mono_ms < until_ms {
            let step = 500.min(until_ms - self.now.mono_ms);
            self.now = Now { mono_ms: self.now.mono_ms + step, unix_ms: self.now.unix_ms + step };
            if self.now.mono_ms.is_multiple_of(HEARTBEAT_MS) {
                let living: Vec<NodeId> =
                    self.beats.keys().filter(|node| self.standing[node] > Suspect).cloned().collect();
                living.iter().for_each(|node| self.beat(node.as_str()));
            }
            self.decide();
        }
    }

    fn becomes(&mut self, node: &str, standing: Standing) {
        self.standing.insert(id(node), standing);
        self.line.stir();
        self.decide();
    }

    fn holder(&self, name: &str) -> Option<String> {
        self.line.posts[&station(name)].holder.as_ref().map(|holder| holder.node.to_string())
    }

    fn epoch(&self, name: &str) -> Epoch {
        self.line.posts[&station(name)].epoch
    }

    fn sight(&mut self, node: &str, name: &str, sight: Sight) {
        let beat = self.beats.get_mut(&id(node)).unwrap();
        beat.holdings.iter_mut().filter(|held| held.station == station(name)).for_each(|held| held.sight = sight);
    }

    fn changes(&mut self) -> Vec<(ChangeKind, Option<String>)> {
        let words = std::mem::take(&mut self.words);
        let change = |word| match word {
            Word::Change(change) => Some((change.change, change.node.map(|node| node.to_string()))),
            _ => None,
        };
        words.into_iter().filter_map(change).collect()
    }
}

fn named(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[test]
fn who_falls_is_covered_at_once_and_has_its_station_back_when_it_is_steady() {
    let mut bench = Bench::three();
    assert_eq!((bench.holder("sa"), bench.holder("sb"), bench.holder("sc")), (named("a"), named("b"), named("c")));
    let (before, _) = (bench.epoch("sa"), bench.changes());

    bench.becomes("a", Down);
    let cover = bench.holder("sa").unwrap();
    assert!(["b", "c"].contains(&cover.as_str()) && bench.epoch("sa") > before);
    assert_eq!(bench.changes(), [(ChangeKind::Takeover, named(&cover))]);

    bench.wait(5_000);
    bench.becomes("a", Unsteady);
    bench.beat("a");
    bench.wait(5_000);
    assert_eq!(bench.holder("sa").unwrap(), cover, "held down");
    bench.becomes("a", Steady);
    assert_eq!(bench.holder("sa"), named("a"));
    assert_eq!(bench.changes(), [(ChangeKind::HandBack, named("a"))]);
    let kept: Vec<_> = ["sa", "sb", "sc"].map(|name| bench.epoch(name)).into();
    bench.wait(10_000);
    assert_eq!(["sa", "sb", "sc"].map(|name| bench.epoch(name)).to_vec(), kept, "nothing is granted without need");
}

#[test]
fn a_suspect_keeps_what_it_has_and_gets_nothing() {
    let mut bench = Bench::three();
    bench.becomes("a", Suspect);
    assert_eq!(bench.holder("sa"), named("a"));
    bench.becomes("b", Suspect);
    bench.becomes("c", Down);
    assert_eq!(bench.holder("sc"), None, "both that could are in doubt");
    bench.becomes("b", Steady);
    assert_eq!(bench.holder("sc"), named("b"));
}

#[test]
fn when_the_cover_falls_too_the_next_stands_in_and_without_one_it_is_said() {
    let mut bench = Bench::three();
    bench.becomes("a", Down);
    let first = bench.holder("sa").unwrap();
    bench.wait(3_000);
    bench.becomes(&first, Down);
    let second = bench.holder("sa").unwrap();
    assert_ne!(first, second);
    assert_eq!(bench.holder(&format!("s{first}")), named(&second));
    bench.changes();
    bench.becomes(&second, Down);
    assert!(bench.changes().iter().all(|(change, node)| (*change, node) == (ChangeKind::Uncovered, &None)));
    assert!(bench.line.view().iter().all(|view| view.guard == Guard::Uncovered));
    let why = &bench.line.view()[0].why;
    assert!(why.contains("nobody who could cover it is up"), "{why}");
}

#[test]
fn the_next_holder_acts_only_after_the_one_before_cannot() {
    let mut bench = Bench::three();
    bench.wait(2_500);
    // Its last heartbeat came half a second ago.
    bench.becomes("a", Down);
    let cover = id(&bench.holder("sa").unwrap());
    let act_after_ms = |bench: &mut Bench| {
        let leases = bench.line.answer(bench.now, &cover).unwrap().leases;
        leases.iter().find(|lease| lease.station == station("sa")).unwrap().act_after_ms
    };
    assert_eq!(act_after_ms(&mut bench), (LEASE_TTL_MS - 500) as u32);
    bench.wait(LEASE_TTL_MS);
    assert_eq!(act_after_ms(&mut bench), 0);
}

#[test]
fn half_the_site_is_covered_by_priority_as_far_as_capacity_goes() {
    let names: Vec<(String, String)> = (0..6).map(|n| (format!("s{n}"), format!("n{n}"))).collect();
    let stations: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(n, (name, node))| {
            let others: Vec<&str> = names.iter().map(|(_, node)| node.as_str()).filter(|other| other != node).collect();
            plan(name, node, n as i32, &others)
        })
        .collect();
    let mut bench = Bench::new(&stations);
    let ready: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
    for (name, node) in &names {
        bench.join(node, name, &ready, 8);
        let need = Duty { station: station(name), settings: String::new(), model: String::new(), need_fps: 6 };
        bench.line.duty(&id(node), &need);
    }
    bench.wait(SETTLE_MS + 1_000);
    for node in ["n0", "n1", "n2", "n3"] {
        bench.becomes(node, Down);
    }
    bench.wait(2_000);
    // Two are left with room for one each: the two most important of the four have them.
    assert_eq!((bench.holder("s0"), bench.holder("s1")), (None, None));
    assert!(bench.holder("s2").is_some() && bench.holder("s3").is_some());
    assert_ne!(bench.holder("s2"), bench.holder("s3"));
    let why = bench.line.view()[0].why.clone();
    assert!(why.contains("capacity to spare"), "{why}");
}

#[test]
fn a_cover_that_sees_nothing_is_relieved_and_a_home_that_sees_nothing_is_covered() {
    let mut bench = Bench::three();
    bench.becomes("a", Down);
    let first = bench.holder("sa").unwrap();
    bench.wait(2_000);
    bench.sight(&first, "sa", Sight::Blind);
    bench.wait(BLIND_MS + 2_000);
    let second = bench.holder("sa").unwrap();
    assert_ne!(first, second);
    bench.wait(10_000);
    assert_eq!(bench.holder("sa").unwrap(), second, "and it is not asked again soon");

    bench.sight("b", "sb", Sight::Blind);
    bench.wait(BLIND_MS + 2_000);
    assert_eq!(bench.holder("sb"), named("c"), "it is up, and its cameras are not");
    bench.sight("b", "sb", Sight::Watching);
    bench.wait(2_000);
    assert_eq!(bench.holder("sb"), named("b"));
}

#[test]
fn a_new_leader_finds_things_as_they_are_and_takes_nothing_from_anybody_before_it_knows() {
    let mut old = Bench::three();
    old.becomes("a", Down);
    old.wait(2_000);
    let cover = old.holder("sa").unwrap();
    let plans = [plan("sa", "a", 0, &["b", "c"]), plan("sb", "b", 0, &["a", "c"]), plan("sc", "c", 0, &["a", "b"])];
    let mut new = Bench::led_by(2, &plans);
    for node in ["b", "c"] {
        new.standing.insert(id(node), Steady);
        new.beats.insert(id(node), old.beats[&id(node)].clone());
    }
    new.wait(2_000);
    assert_eq!((new.holder("sa"), new.holder("sb"), new.holder("sc")), (named(&cover), named("b"), named("c")));
    assert!(["sa", "sb", "sc"].iter().all(|name| new.epoch(name) > old.epoch(name)));
    let lease = new.line.answer(new.now, &id(&cover)).unwrap().leases;
    assert!(lease.iter().all(|lease| lease.act_after_ms == 0), "who acted goes on acting: {lease:?}");

    // One that nobody claims waits until all have had time to speak.
    let mut alone = Bench::led_by(3, &plans);
    alone.join("b", "sb", &["sa", "sc"], 50);
    alone.wait(SETTLE_MS - 1_000);
    assert_eq!(alone.holder("sa"), None);
    alone.wait(1_500);
    assert_eq!(alone.holder("sa"), named("b"));
}

#[test]
fn who_begins_to_lead_without_a_connection_listens_first() {
    let plans = [plan("sa", "a", 0, &["b"]), plan("sb", "b", 0, &["a"])];
    let mut bench = Bench::led_by(1, &plans);
    bench.wait(20_000);
    bench.line.excuse(bench.now, 20_000);
    bench.join("b", "sb", &["sa"], 50);
    bench.wait(SETTLE_MS - 1_000);
    assert_eq!(bench.holder("sa"), None, "its node has had no time to say that it is there");
    // Once it has heard enough, a moment without a connection changes nothing.
    bench.wait(1_500);
    assert_eq!(bench.holder("sa"), named("b"));
    bench.line.excuse(bench.now, 400);
    bench.becomes("b", Down);
    assert_eq!(bench.holder("sb"), None);
}

#[test]
fn heartbeats_that_lie_about_the_past_or_the_future_are_refused_by_name() {
    let mut bench = Bench::three();
    bench.becomes("a", Down);
    bench.wait(3_000);
    let cover = bench.holder("sa").unwrap();
    let other = if cover == "b" { "c" } else { "b" };
    let now = bench.now;
    let mut word = |node: &str, change: &dyn Fn(&mut Heartbeat)| {
        let mut beat = bench.beats[&id(node)].clone();
        beat.number += 1;
        change(&mut beat);
        bench.line.heartbeat(now, &id(node), beat).err().map(|(word, _)| word)
    };
    let claim = |epoch| Holding { station: station("sa"), epoch, provisional: false, sight: Sight::Watching };
    assert_eq!(word(other, &|beat| beat.holdings.push(claim(Epoch::new(1, 1)))), Some("stale_epoch"));
    assert_eq!(
        word(other, &|beat| (beat.number, beat.holdings) = (beat.number + 1, vec![claim(Epoch::new(1, 99))])),
        Some("future_epoch")
    );
    let ended = Holding { provisional: true, ..claim(Epoch::new(1, 99)) };
    assert_eq!(
        word(other, &|beat| (beat.number, beat.holdings) = (beat.number + 2, vec![ended.clone()])),
        Some("future_epoch"),
        "it would refuse whatever is granted below"
    );
    assert_eq!(word(&cover, &|beat| beat.number = 1), Some("repeated"));
    assert_eq!(word(&cover, &|beat| beat.boot = Boot(6)), Some("earlier_run"));
    assert_eq!(word(&cover, &|_| ()), None);
}

#[test]
fn a_node_that_restarts_holds_nothing_from_before() {
    let mut bench = Bench::three();
    bench.becomes("a", Down);
    let cover = bench.holder("sa").unwrap();
    bench.wait(2_000);
    let before = bench.epoch("sa");
    let beat = bench.beats.get_mut(&id(&cover)).unwrap();
    (beat.boot, beat.number) = (Boot(8), 0);
    beat.holdings.truncate(1);
    bench.beat(&cover);
    bench.wait(1_000);
    assert!(bench.epoch("sa") > before, "whoever has it now was granted it anew");
}

#[test]
fn those_in_line_are_told_what_they_may_have_to_do_and_only_when_it_changed() {
    let mut bench = Bench::three();
    let told: Vec<_> = bench
        .words
        .iter()
        .filter_map(|word| match word {
            Word::Standby(node, standby) => Some((node.clone(), standby.clone())),
            _ => None,
        })
        .collect();
    let last: BTreeMap<NodeId, Standby> = told.into_iter().collect();
    let for_b: Vec<&str> = last[&id("b")].duties.iter().map(|duty| duty.station.as_str()).collect();
    assert_eq!(for_b, ["sa", "sc"]);
    let duty = &last[&id("b")].duties[0];
    assert_eq!((duty.home.as_str(), duty.how, duty.ranks.len()), ("a", How::Camera, 2));
    bench.words.clear();
    bench.wait(10_000);
    assert!(bench.words.iter().all(|word| !matches!(word, Word::Standby(..))));
    bench.line.say_again();
    bench.decide();
    assert_eq!(bench.words.iter().filter(|word| matches!(word, Word::Standby(..))).count(), 3);
}

#[test]
fn without_a_plan_each_watches_what_it_says_and_two_of_one_station_are_named() {
    let mut bench = Bench::new(&[]);
    for (node, own) in [("a", "sa"), ("b", "sb"), ("c", "sb")] {
        bench.line.belongs(bench.now, &station(own), &id(node));
        bench.join(node, own, &[], 50);
    }
    bench.wait(1_000);
    assert_eq!((bench.holder("sa"), bench.holder("sb")), (named("a"), named("b")));
    assert!(bench.line.problems()[0].contains("c says that sb is its station, and it is b's"));
    bench.line.belongs(bench.now, &station("sd"), &id("b"));
    assert_eq!(bench.line.problems(), Vec::<String>::new(), "b has left what both said was theirs");
    bench.line.belongs(bench.now, &station("sa"), &id("c"));
    bench.line.belongs(bench.now, &station("sc"), &id("c"));
    assert_eq!(bench.line.problems(), Vec::<String>::new(), "c says something else now");
    bench.becomes("a", Down);
    bench.wait(SETTLE_MS);
    assert_eq!(bench.holder("sa"), None);
}
