//! Released heads at the student: only a release is judged by where the site releases, and only one that surely does not lose; what
//! the examples do not tell waits for more.

use super::*;
use picket_shared::model::Artifact;

/// A head that knows people by the first feature, or takes the others for them.
fn knows(people: f32) -> Vec<f32> {
    let mut head = zero();
    (head[9], head[10]) = (people, -people);
    head
}

/// An own part that does the same.
fn part(people: f32) -> Vec<f32> {
    let mut own = vec![0.0; zero().len()];
    (own[9], own[10]) = (people, -people);
    own
}

impl Bench {
    fn release(&mut self, version: u64, head: &[f32], revert_of: Option<u64>) {
        let file = bytes_of(head).into_vec();
        let manifest = LearnedManifest {
            lineage: lineage(),
            counter: version,
            expires_s: 1,
            chunk_bytes: 1024,
            revert_of,
            file: Artifact::plain(&file),
        };
        self.step(Input::Released(Box::new(manifest), file));
    }

    /// What the coordinator is told: the version, how far it is, which one is judged by.
    fn learned(&self) -> (u64, ModelPhase, u64) {
        let (state, learns) = self.student.learned().unwrap();
        assert_eq!(learns.inputs as usize, inputs(FEATURES));
        (state.version, state.phase, state.used)
    }

    /// The head at the broker of a site that releases.
    fn working(&mut self, version: u64, head: &[f32], frozen: bool) {
        let full = HeadFull { releases: true, ..HeadFull::of(lineage(), version, head, None, frozen) };
        self.hear(Topic::LearnHead(lineage().id()), &full);
    }
}

#[test]
fn where_the_site_releases_only_a_release_is_judged_by_and_only_one_that_does_not_lose() {
    let mut bench = Bench::new(10);
    bench.working(3, &zero(), true);
    bench.see(100);
    bench.seated = None;
    bench.working(4, &knows(1.5), true);
    assert!(bench.seated.is_none(), "it is learned from, and judged by it is not");
    bench.release(4, &knows(1.5), None);
    assert_eq!(bench.learned(), (4, ModelPhase::Idle, 4));
    assert_eq!(bench.seated.as_ref().unwrap().numbers, knows(1.5));
    let (state, _) = bench.student.learned().unwrap();
    assert!(state.samples >= 10 && state.difference.unwrap() < 0.0 && state.error.is_some(), "{state:?}");
    // One that was poisoned, signed as it should be.
    bench.release(5, &knows(-1.5), None);
    let (state, _) = bench.student.learned().unwrap();
    assert_eq!(bench.learned(), (5, ModelPhase::RolledBack, 4));
    assert_eq!(state.reason.as_deref(), Some("model_learned_lost"));
    assert!(state.difference.unwrap() > 0.0);
    assert_eq!(bench.seated.as_ref().unwrap().numbers, knows(1.5));
    // What was decided is so after power was cut, and is not asked again.
    let before = bench.student.learned();
    bench.crash();
    assert_eq!(bench.student.learned(), before);
    assert_eq!(bench.seated.as_ref().unwrap().numbers, knows(1.5));
    bench.release(5, &knows(1.5), None);
    assert_eq!(bench.learned(), (5, ModelPhase::RolledBack, 4), "the same number again");
    bench.release(4, &knows(-1.5), None);
    assert_eq!(bench.learned(), (5, ModelPhase::RolledBack, 4), "one of before");
}

#[test]
fn a_release_waits_for_examples_and_is_decided_when_they_are_there() {
    let mut bench = Bench::new(10);
    bench.working(3, &zero(), true);
    bench.see(6);
    bench.release(4, &knows(1.5), None);
    assert_eq!(bench.learned(), (4, ModelPhase::Waiting, 0));
    bench.later(6_000);
    bench.crash();
    bench.working(3, &zero(), true);
    assert_eq!(bench.learned(), (4, ModelPhase::Waiting, 0));
    bench.see(100);
    assert_eq!(bench.learned(), (4, ModelPhase::Idle, 4));
}

#[test]
fn a_release_that_nothing_speaks_for_any_more_is_undecided_again() {
    let mut bench = Bench::new(10);
    bench.working(3, &zero(), true);
    bench.see(100);
    bench.release(4, &knows(1.5), None);
    assert_eq!(bench.learned(), (4, ModelPhase::Idle, 4));
    let (people, others) = (held_out(&bench, true), held_out(&bench, false));
    bench.label_all(&people, false);
    assert_eq!(bench.learned(), (4, ModelPhase::Waiting, 0));
    assert_eq!(bench.seated.as_ref().unwrap().numbers, zero());
    bench.later(6_000);
    bench.crash();
    bench.working(3, &zero(), true);
    assert_eq!(bench.learned(), (4, ModelPhase::Waiting, 0));
    bench.label_all(&people, true);
    assert_eq!(bench.learned(), (4, ModelPhase::Idle, 4));
    // What surely loses is decided at once, and against it.
    bench.label_all(&others, true);
    bench.label_all(&people, false);
    assert_eq!(bench.learned(), (4, ModelPhase::RolledBack, 0));
    assert_eq!(bench.seated.as_ref().unwrap().numbers, zero());
}

#[test]
fn what_a_person_went_back_to_stays_whatever_is_held_out() {
    let mut bench = Bench::new(10);
    bench.working(3, &zero(), true);
    bench.see(100);
    bench.release(4, &knows(0.5), None);
    bench.release(5, &knows(2.5), None);
    bench.release(6, &knows(0.5), Some(4));
    let people = held_out(&bench, true);
    bench.label_all(&people, false);
    assert_eq!(bench.learned(), (6, ModelPhase::Idle, 6));
    assert_eq!((bench.seated.as_ref().unwrap().numbers[9], bench.student.status().given_up), (0.5, 0));
}

#[test]
fn a_release_that_is_undecided_again_is_compared_as_soon_as_it_can_be() {
    let mut bench = Bench::new(10);
    bench.working(3, &zero(), true);
    bench.see(60);
    for _ in 0..60 {
        let event = bench.pass(false);
        bench.label(&event, false);
    }
    bench.release(4, &knows(1.5), None);
    let (people, others) = (held_out(&bench, true), held_out(&bench, false));
    assert!(bench.learned() == (4, ModelPhase::Idle, 4) && others.len() > 2 * people.len());
    bench.label_all(&people, false);
    assert_eq!(bench.learned(), (4, ModelPhase::Waiting, 0));
    assert_eq!(bench.student.learned().unwrap().0.samples, 0);
    // Fewer have come than it would wait for if the examples had only not told.
    bench.label_all(&people[..2], true);
    assert!(bench.student.learned().unwrap().0.samples > 10);
}

#[test]
fn going_back_to_a_head_that_was_good_here_needs_no_verdict_and_to_one_that_never_was_does() {
    let mut bench = Bench::new(10);
    bench.working(3, &zero(), true);
    bench.see(100);
    bench.release(4, &knows(0.5), None);
    bench.release(5, &knows(2.5), None);
    assert_eq!(bench.learned(), (5, ModelPhase::Idle, 5));
    // On what is held out here it is the worse one; a person saw what that does not show.
    bench.release(6, &knows(0.5), Some(4));
    assert_eq!(bench.learned(), (6, ModelPhase::Idle, 6));
    assert_eq!(bench.seated.as_ref().unwrap().numbers[9], 0.5);
    bench.release(7, &knows(-1.5), Some(4));
    assert_eq!(bench.learned(), (7, ModelPhase::RolledBack, 6), "nobody goes back to what was never judged good");
}

#[test]
fn the_own_part_is_learned_for_the_release_and_with_it_judged_by() {
    let mut bench = Bench::new(10);
    bench.working(3, &knows(-3.0), false);
    bench.release(3, &knows(0.2), None);
    bench.see(120);
    for _ in 0..20 {
        bench.later(20_000);
        bench.ack();
    }
    let (base, own) = (bench.student.base(), bench.student.own.clone());
    assert_eq!(base, knows(0.2), "not the one that is learned from");
    assert!(own[9] > 0.0 && own[10] < 0.0, "{own:?}");
    let seated = bench.seated.as_ref().unwrap().numbers.clone();
    assert!(seated[9] > 0.2 && bench.student.status().used_version == 3, "{seated:?}");
    // A site that releases no more is followed as one that never did.
    bench.head(9, &knows(1.0), false);
    assert!((bench.student.base()[9] - 1.0).abs() < 0.02);
}

#[test]
fn a_release_that_is_not_for_this_device_is_refused_by_name() {
    let mut bench = Bench::new(10);
    let file = bytes_of(&knows(1.0)).into_vec();
    let of = |lineage: Lineage, file: &[u8]| LearnedManifest {
        lineage,
        counter: 4,
        expires_s: 1,
        chunk_bytes: 1024,
        revert_of: None,
        file: Artifact::plain(file),
    };
    for (manifest, word) in [
        (of(Lineage { backbone: "cd".repeat(32), ..lineage() }, &file), "head_backbone"),
        (of(Lineage { shape: HeadShape::logistic(4), ..lineage() }, &file), "head_shape"),
        (of(lineage(), &file[4..]), "model_length"),
        (of(lineage(), &[0; 48]), "model_digest"),
    ] {
        bench.step(Input::Released(Box::new(manifest), file.clone()));
        assert_eq!(bench.refused.last(), Some(&word));
        assert_eq!(bench.learned(), (4, ModelPhase::Refused, 0));
    }
    assert!(bench.student.released.trial.is_none());
    // A good one is heard all the same, and begins a lineage of which no head was said.
    bench.release(5, &knows(1.0), None);
    assert_eq!((bench.learned(), bench.student.lineage.fleet_epoch), ((5, ModelPhase::Waiting, 0), 1));
}

#[test]
fn what_the_examples_do_not_tell_is_neither_taken_nor_refused() {
    let mut bench = Bench::new(10);
    bench.working(3, &zero(), true);
    // Of either kind some are said to be the other: a head that trusts the first feature is right and wrong in turn.
    for n in 0..100 {
        let event = bench.pass(n % 2 == 0);
        bench.label(&event, n % 4 < 2);
    }
    bench.release(4, &knows(0.1), None);
    let (state, _) = bench.student.learned().unwrap();
    assert_eq!(bench.learned(), (4, ModelPhase::Waiting, 0));
    let (difference, error) = (state.difference.unwrap(), state.error.unwrap());
    assert!(difference.abs() < error && state.detail.unwrap().contains("do not tell"), "{difference} ± {error}");
    // A few more are not asked: each look at the same ones is another chance to be wrong.
    let samples = state.samples;
    bench.see(10);
    assert!(bench.student.held_out().iter().sum::<usize>() as u64 > samples);
    assert_eq!(bench.student.learned().unwrap().0.samples, samples);
    // Half as many more tell.
    bench.see(200);
    assert_eq!(bench.learned(), (4, ModelPhase::Idle, 4));
}

#[test]
fn an_own_part_that_a_release_makes_worse_begins_anew_and_one_that_fits_stays() {
    for (own, stays) in [(part(-1.0), false), (part(1.0), true)] {
        let mut bench = Bench::new(10);
        bench.working(3, &zero(), true);
        bench.see(100);
        bench.student.own = own.clone();
        bench.release(4, &knows(1.5), None);
        assert_eq!(bench.learned(), (4, ModelPhase::Idle, 4));
        let (left, judged) = if stays { (own, knows(2.5)) } else { (part(0.0), knows(1.5)) };
        assert_eq!((&bench.student.own, &bench.seated.as_ref().unwrap().numbers), (&left, &judged));
    }
}

#[test]
fn a_station_that_knows_better_by_itself_speaks_against_no_release_that_is_better_than_the_last() {
    let mut bench = Bench::new(10);
    bench.working(3, &zero(), true);
    // One word of five is wrong, so that too much trust in a feature costs.
    for n in 0..600 {
        let event = bench.pass(n % 2 == 0);
        bench.label(&event, (n % 2 == 0) != (n % 5 == 0));
    }
    (bench.student.own, bench.student.used) = (part(0.7), knows(0.7));
    bench.release(4, &knows(1.4), None);
    let (state, _) = bench.student.learned().unwrap();
    assert_eq!(bench.learned(), (4, ModelPhase::Waiting, 0));
    assert!(state.difference.unwrap() > state.error.unwrap(), "here it loses: {state:?}");
    assert!(state.detail.as_ref().unwrap().contains("of its own"), "{state:?}");
    assert_eq!((&bench.student.own, &bench.student.used), (&part(0.7), &knows(0.7)));
    // One that is worse than what all begin with.
    bench.release(5, &knows(-1.2), None);
    assert_eq!(bench.learned(), (5, ModelPhase::RolledBack, 0));
}
