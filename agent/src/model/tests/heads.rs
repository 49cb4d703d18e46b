//! A learned head on the assignment that a release comes on: each goes its own way, whatever becomes of the other.

use picket_shared::learn::lineage::{HeadShape, Lineage};
use picket_shared::model::{LearnedManifest, LearnedState, Learns};

use super::*;

fn head() -> Vec<u8> {
    [0.5f32, -1.0, 2.0, 0.0].iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn judge(backbone: Digest, version: u64, phase: ModelPhase) -> Option<(LearnedState, Learns)> {
    let (used, judges, samples) = (version, true, 0);
    let (reason, detail, difference, error) = Default::default();
    let state = LearnedState { backbone, version, phase, used, judges, reason, detail, samples, difference, error };
    Some((state, Learns { backbone, inputs: 3 }))
}

fn network() -> Digest {
    Digest::of(b"factory")
}

impl Bench {
    /// An assignment of a release, said under the number of before where there is one, and of a head.
    fn assign_both(&mut self, number: u64, release: (Option<&Manifest>, Option<u64>), counter: u64) {
        let lineage = Lineage { fleet_epoch: 1, backbone: network().to_string(), shape: HeadShape::logistic(3) };
        let (expires_s, chunk_bytes, revert_of) = (NOW_S + 10_000, 1024, None);
        let file = Artifact::plain(&head());
        let manifest = LearnedManifest { lineage, counter, expires_s, chunk_bytes, revert_of, file };
        let mut envelope = Envelope::of(&manifest).unwrap();
        envelope.sign::<LearnedManifest>(&self.orders);
        let assignment: Assignment = codec::decode(&self.assignment(number, release.0)).unwrap();
        let assignment = Assignment { learned: Some(envelope), release_number: release.1, ..assignment };
        let payload = codec::encode(&assignment).unwrap();
        self.act(|models, now, out| models.assignment(now, &payload, out).unwrap());
    }

    fn judged(&mut self, judge: Option<(LearnedState, Learns)>) {
        self.act(|models, now, out| models.learned(now, judge, out));
    }

    /// How far the device says that it is with which head.
    fn learned(&mut self) -> Option<(u64, ModelPhase)> {
        while self.one() {}
        let learned = self.said.as_ref()?.learned.as_ref()?;
        Some((learned.version, learned.phase))
    }

    fn piece(&mut self) -> Option<Vec<u8>> {
        let chunk = Chunk { index: 0, bytes: head().into() };
        self.act(|models, now, out| models.chunk(now, &Digest::of(&head()), chunk, out).unwrap());
        let handed = self.waiting.iter().find_map(|order| match order {
            Order::Learn(_, file) => Some(file.clone()),
            _ => None,
        });
        while self.one() {}
        handed
    }
}

#[test]
fn a_head_is_fetched_and_judged_while_a_release_is_tried_and_kept_when_that_fails() {
    let mut bench = Bench::new();
    bench.agrees = 0.1;
    bench.judged(judge(network(), 0, ModelPhase::Idle));
    bench.assign_both(5, (Some(&manifest(1, &file(1))), None), 7);
    assert_eq!(bench.learned(), Some((7, ModelPhase::Fetching)));
    assert_eq!(bench.piece(), Some(head()));
    bench.judged(judge(network(), 7, ModelPhase::Idle));
    bench.settle();
    assert_eq!((bench.word().as_deref(), bench.looks), (Some("model_trial_agreement"), Place::Factory));
    assert_eq!(bench.learned(), Some((7, ModelPhase::Idle)), "what became of the release is no matter of the head");
    // A restart: the same word is heard again, and what was decided is not fetched again.
    bench.restart();
    bench.judged(judge(network(), 7, ModelPhase::Idle));
    bench.assign_both(5, (Some(&manifest(1, &file(1))), None), 7);
    assert_eq!((bench.learned(), bench.piece()), (Some((7, ModelPhase::Idle)), None));
}

#[test]
fn a_release_that_was_refused_is_not_tried_again_because_a_head_is_new() {
    let mut bench = Bench::new();
    bench.agrees = 0.1;
    let release = manifest(1, &file(1));
    bench.assign(5, Some(&release)).unwrap();
    bench.settle();
    // As if its bytes had been wrong: that may have been mended when somebody says it again.
    bench.models.record.last.as_mut().unwrap().refused = true;
    bench.assign_both(6, (Some(&release), Some(5)), 7);
    assert!(bench.models.record.work.is_none(), "only the head is news");
    bench.assign_both(7, (Some(&release), None), 7);
    assert!(bench.models.record.work.is_some(), "it is said anew");
}

#[test]
fn a_head_that_did_not_fit_is_fetched_when_what_is_learned_over_is_known_and_dropped_when_that_changes() {
    let mut bench = Bench::new();
    bench.assign_both(5, (None, None), 7);
    assert_eq!(bench.learned(), None, "nobody learns here");
    bench.judged(judge(network(), 0, ModelPhase::Idle));
    assert_eq!(bench.learned(), Some((7, ModelPhase::Fetching)));
    bench.judged(judge(Digest::of(b"another"), 0, ModelPhase::Idle));
    assert_eq!(bench.learned(), Some((0, ModelPhase::Refused)));
    let learned = bench.said.as_ref().unwrap().learned.as_ref().unwrap();
    assert_eq!(learned.reason.as_deref(), Some("model_learned_network"));
    assert_eq!(bench.piece(), None, "it is wanted no more");
    bench.judged(judge(network(), 0, ModelPhase::Idle));
    assert_eq!(bench.piece(), Some(head()));
    // An assignment of before changes nothing of it.
    let payload = bench.assignment(4, None);
    bench.act(|models, now, out| assert_eq!(models.assignment(now, &payload, out).unwrap_err().0, "model_replayed"));
    assert_eq!(bench.learned(), Some((7, ModelPhase::Fetching)), "nothing is said of it yet");
    assert!(bench.disk.1.as_ref().unwrap().learned.iter().any(|seen| seen.counter == 7), "and it is remembered");
}
