//! A learned head comes to who judges by it whatever is lost on the way, and what is no head does not.

use picket_shared::compress::{self, Segment, Weights};
use picket_shared::learn::lineage::{HeadShape, Lineage};
use picket_shared::model::{Artifact, Document, coding};

use super::*;

const CHUNK_BYTES: usize = 1024;

fn head() -> Vec<u8> {
    (0..600).flat_map(|n| (n as f32 / 100.0).to_le_bytes()).collect()
}

fn learns() -> Learns {
    Learns { backbone: Digest([7; 32]), inputs: 599 }
}

fn manifest(counter: u64, file: &[u8]) -> LearnedManifest {
    let Learns { backbone, inputs } = learns();
    let lineage = Lineage { fleet_epoch: 1, backbone: backbone.to_string(), shape: HeadShape::logistic(inputs) };
    let (expires_s, chunk_bytes, revert_of) = (9, CHUNK_BYTES as u32, None);
    LearnedManifest { lineage, counter, expires_s, chunk_bytes, revert_of, file: Artifact::plain(file) }
}

fn judge(version: u64, phase: ModelPhase) -> Option<(LearnedState, Learns)> {
    let state = LearnedState {
        backbone: learns().backbone,
        version,
        phase,
        used: version,
        judges: true,
        reason: None,
        detail: None,
        samples: 0,
        difference: None,
        error: None,
    };
    Some((state, learns()))
}

/// A device and the one who sends pieces to it.
struct Bench {
    learned: Learned,
    now_ms: u64,
    listens: Option<Digest>,
    wants: Vec<Want>,
    handed: Vec<(u64, Vec<u8>)>,
}

impl Bench {
    fn new() -> Bench {
        Bench { learned: Learned::default(), now_ms: 0, listens: None, wants: vec![], handed: vec![] }
    }

    fn take(&mut self, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::ListenHead(digest) => self.listens = digest,
                Order::Want(want) => self.wants.push(want),
                Order::Learn(manifest, file) => self.handed.push((manifest.counter, file)),
                other => panic!("{other:?}"),
            }
        }
    }

    fn assign(&mut self, verdict: Option<Result<LearnedManifest, Refusal>>) {
        let mut orders = vec![];
        self.learned.assign(self.now_ms, verdict, 0.0, &mut orders);
        self.take(orders);
    }

    fn says(&mut self, judge: Option<(LearnedState, Learns)>) -> bool {
        let mut orders = vec![];
        let other = self.learned.says(self.now_ms, judge, 0.0, &mut orders);
        self.take(orders);
        other
    }

    fn later(&mut self, ms: u64) {
        self.now_ms += ms;
        let mut orders = vec![];
        self.learned.move_on(self.now_ms, true, 0.0, &mut orders);
        self.take(orders);
    }

    fn piece(&mut self, file: &[u8], index: usize) -> Option<Result<(), Refused>> {
        let bytes = file.chunks(CHUNK_BYTES).nth(index).unwrap_or(&[1]).to_vec();
        let mut orders = vec![];
        let digest = Digest::of(&head());
        let chunk = Chunk { index: index as u32, bytes: bytes.into() };
        let taken = self.learned.chunk(self.now_ms, &digest, &chunk, 0.0, &mut orders);
        self.take(orders);
        taken
    }

    /// All pieces of a file that is listened for.
    fn send(&mut self, file: &[u8]) {
        for (index, bytes) in file.chunks(CHUNK_BYTES).enumerate() {
            let mut orders = vec![];
            let chunk = Chunk { index: index as u32, bytes: bytes.to_vec().into() };
            let taken = self.learned.chunk(self.now_ms, &Digest::of(file), &chunk, 0.0, &mut orders);
            assert_eq!(taken, Some(Ok(())));
            self.take(orders);
        }
    }

    fn phase(&self) -> (u64, ModelPhase) {
        let state = self.learned.state().unwrap();
        (state.version, state.phase)
    }
}

#[test]
fn a_head_is_fetched_and_handed_over_until_something_is_said_of_it() {
    let mut bench = Bench::new();
    bench.assign(Some(Ok(manifest(7, &head()))));
    assert!(bench.listens.is_none() && bench.learned.state().is_none(), "nobody is there who would judge it");
    assert!(bench.says(judge(0, ModelPhase::Idle)), "who judges is there, and other heads fit");
    assert_eq!((bench.listens, bench.phase()), (Some(Digest::of(&head())), (7, ModelPhase::Fetching)));
    bench.later(0);
    assert_eq!(bench.wants.last().unwrap().ranges, [(0, 2)]);
    assert_eq!(bench.piece(&head(), 2), Some(Ok(())));
    assert_eq!(bench.piece(&head(), 9).unwrap().unwrap_err().0, "model_endless");
    assert_eq!(bench.piece(&head(), 0), Some(Ok(())));
    bench.later(60_000);
    assert_eq!(bench.wants.last().unwrap().ranges, [(1, 1)], "what was lost is asked for again");
    bench.piece(&head(), 1);
    assert_eq!((bench.listens, bench.handed.clone()), (None, vec![(7, head())]));
    assert_eq!(bench.piece(&head(), 1), None, "it is wanted no more");
    bench.later(AGAIN_MS);
    assert_eq!(bench.handed.len(), 2, "nothing was said of it");
    assert!(!bench.says(judge(7, ModelPhase::RolledBack)));
    bench.later(10 * AGAIN_MS);
    assert_eq!((bench.handed.len(), bench.phase()), (2, (7, ModelPhase::RolledBack)));
    // The same word again, with more time: nothing is fetched anew.
    bench.assign(Some(Ok(LearnedManifest { expires_s: 99, ..manifest(7, &head()) })));
    assert_eq!((bench.listens, bench.learned.next_wakeup_ms()), (None, None));
}

#[test]
fn what_was_decided_before_a_restart_is_not_fetched_again_and_a_newer_one_takes_the_place_of_one_on_its_way() {
    let mut bench = Bench::new();
    bench.says(judge(7, ModelPhase::Idle));
    bench.assign(Some(Ok(manifest(7, &head()))));
    assert_eq!((bench.listens, bench.phase()), (None, (7, ModelPhase::Idle)));
    bench.assign(Some(Ok(manifest(8, &head()))));
    bench.piece(&head(), 0);
    bench.assign(Some(Ok(manifest(9, &head()))));
    assert_eq!(bench.phase(), (9, ModelPhase::Fetching));
    (0..3).for_each(|index| drop(bench.piece(&head(), index)));
    assert_eq!(bench.handed, [(9, head())]);
    // Nothing is assigned any more.
    bench.assign(None);
    bench.later(AGAIN_MS);
    assert_eq!((bench.handed.len(), bench.phase()), (1, (7, ModelPhase::Idle)));
}

#[test]
fn what_is_no_head_is_refused_by_name_and_judged_by_nobody() {
    let mut bench = Bench::new();
    bench.says(judge(0, ModelPhase::Idle));
    bench.assign(Some(Ok(manifest(7, &head()))));
    let mut changed = head();
    changed[100] ^= 1;
    (0..3).for_each(|index| drop(bench.piece(&changed, index)));
    assert_eq!(bench.phase(), (7, ModelPhase::Fetching), "it is fetched once more");
    (0..3).for_each(|index| drop(bench.piece(&changed, index)));
    let state = bench.learned.state().unwrap();
    assert_eq!((state.phase, state.reason.as_deref()), (ModelPhase::Refused, Some("model_digest")));
    assert!(bench.handed.is_empty() && bench.listens.is_none() && bench.learned.problem().is_some());
    // One that was refused by its document; and then a good one.
    bench.assign(Some(Err(Refusal::LearnsNothing)));
    assert_eq!(bench.learned.state().unwrap().reason.as_deref(), Some("model_learned_off"));
    bench.assign(Some(Ok(manifest(8, &head()))));
    (0..3).for_each(|index| drop(bench.piece(&head(), index)));
    assert_eq!(bench.handed, [(8, head())]);
}

#[test]
fn a_head_comes_as_a_step_from_the_one_before_and_whole_where_that_is_not_here_or_leads_elsewhere() {
    let weights = Weights { from: Some(0), scales: vec![160], numbers: vec![1; 600], ..Weights::default() };
    let delta = compress::encode(&[Segment::Weights(weights)]).unwrap();
    let next = compress::decode(&delta, Some(&head()), head().len()).unwrap();
    assert!(next != head() && delta.len() < CHUNK_BYTES);
    let stepped = |counter: u64, delta: &[u8]| {
        let mut manifest = manifest(counter, &next);
        manifest.file.encodings.push(Encoding {
            coding: coding::DELTA.into(),
            from: Some(Digest::of(&head())),
            sha256: Digest::of(delta),
            length: delta.len() as u64,
        });
        manifest.check().unwrap();
        manifest
    };
    // Who has nothing, and who has another one, fetches it whole.
    let mut fresh = Bench::new();
    fresh.says(judge(0, ModelPhase::Idle));
    fresh.assign(Some(Ok(stepped(8, &delta))));
    assert_eq!(fresh.listens, Some(Digest::of(&next)));
    let mut other = head();
    other[0] ^= 1;
    fresh.assign(Some(Ok(manifest(9, &other))));
    fresh.send(&other);
    fresh.assign(Some(Ok(LearnedManifest { counter: 10, ..stepped(8, &delta) })));
    assert_eq!(fresh.listens, Some(Digest::of(&next)));

    let mut bench = Bench::new();
    bench.says(judge(0, ModelPhase::Idle));
    bench.assign(Some(Ok(manifest(7, &head()))));
    bench.send(&head());
    // Also where that one was not taken.
    bench.says(judge(7, ModelPhase::RolledBack));
    bench.assign(Some(Ok(stepped(8, &delta))));
    assert_eq!(bench.listens, Some(Digest::of(&delta)));
    bench.send(&delta);
    assert_eq!(bench.handed.last(), Some(&(8, next.clone())));
    bench.later(AGAIN_MS);
    assert_eq!((bench.handed.len(), bench.handed.last()), (3, Some(&(8, next.clone()))), "nothing was said of it");

    // Whole and in order, but it leads to another head than the signed one; or it is no step at all.
    let other = Weights { from: Some(0), scales: vec![160], numbers: vec![2; 600], ..Weights::default() };
    let other = compress::encode(&[Segment::Weights(other)]).unwrap();
    for wrong in [other, vec![7; 20]] {
        let mut bench = Bench::new();
        bench.says(judge(0, ModelPhase::Idle));
        bench.assign(Some(Ok(manifest(7, &head()))));
        bench.send(&head());
        bench.assign(Some(Ok(stepped(8, &wrong))));
        assert_eq!(bench.listens, Some(Digest::of(&wrong)));
        bench.send(&wrong);
        assert_eq!(
            (bench.handed.len(), bench.listens),
            (1, Some(Digest::of(&next))),
            "the signed one is fetched whole"
        );
        bench.send(&next);
        assert_eq!(bench.handed.last(), Some(&(8, next.clone())));
    }
}
