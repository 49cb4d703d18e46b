//! What a device says of its learning, until the coordinator has it: one update at a time, and the samples that persons confirmed, in
//! their order. Pure.
//!
//! No number is ever used twice with another meaning: whatever is said here was made durable before under its number. Where the
//! coordinator knows a higher number than this device does, its disk was put back or lost, and a new epoch begins.

use std::collections::VecDeque;

use picket_shared::codec;
use picket_shared::learn::lineage::LineageId;
use picket_shared::learn::message::{HeadUpdate, LearnAck, RootSample, RootSamples};
use picket_shared::limits::{HEAD_INPUTS_MAX, ROOT_SAMPLES_BYTES_MAX, ROOT_SAMPLES_MAX};

/// Confirmed samples that wait to be acknowledged; of more the oldest are not sent.
pub const CONFIRMED_MAX: usize = 256;
/// How long an answer is waited for before something is said again; each time twice as long, up to the second.
const SAY_AGAIN_MS: (u64, u64) = (5_000, 60_000);

/// What became of something that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answered {
    /// The update was acknowledged.
    pub update: bool,
    /// Something changed that must be durable.
    pub changed: bool,
}

/// The post.
#[derive(Debug, Clone)]
pub struct Post {
    /// Of updates.
    pub epoch: u64,
    /// Of the newest one.
    pub seq: u64,
    /// The update that is not acknowledged.
    pub pending: Option<HeadUpdate>,
    /// Of confirmed samples.
    pub samples_epoch: u64,
    /// Those up to here were acknowledged.
    pub samples_acked: u64,
    /// Those that follow.
    pub(super) confirmed: VecDeque<RootSample>,
    /// When to say the update, and the samples, that were not answered.
    pub(super) again: [Again; 2],
}

/// When something is said again, and how often it was said.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Again {
    at_ms: u64,
    times: u32,
}

impl Again {
    /// Whether it is time to say it; then it is said.
    fn is_due(&mut self, now_ms: u64) -> bool {
        if self.times > 0 && now_ms < self.at_ms {
            return false;
        }
        let wait_ms = (SAY_AGAIN_MS.0 << self.times.min(8)).min(SAY_AGAIN_MS.1);
        *self = Again { at_ms: now_ms.saturating_add(wait_ms), times: self.times + 1 };
        true
    }
}

impl Post {
    /// One that never said anything. `epoch` is higher than any that this device used before, as far as anybody knows.
    pub fn new(epoch: u64) -> Post {
        let (samples_acked, confirmed) = (0, VecDeque::new());
        Post { epoch, seq: 0, pending: None, samples_epoch: epoch, samples_acked, confirmed, again: Default::default() }
    }

    /// The number of the newest confirmed sample.
    fn newest(&self) -> u64 {
        self.samples_acked + self.confirmed.len() as u64
    }

    /// Puts an update in the place of none: its epoch and number are given here. To be made durable before it is said.
    pub fn put(&mut self, update: HeadUpdate) {
        self.seq += 1;
        self.pending = Some(HeadUpdate { epoch: self.epoch, seq: self.seq, ..update }.closed());
        self.again[0] = Again::default();
    }

    /// Adds a confirmed sample, and gives its number. To be made durable before it is said.
    pub fn confirm(&mut self, sample: RootSample) -> Option<u64> {
        if self.confirmed.len() >= CONFIRMED_MAX {
            return None;
        }
        // What is on its way already is not said again for it.
        if self.confirmed.is_empty() {
            self.again[1] = Again::default();
        }
        self.confirmed.push_back(sample);
        Some(self.newest())
    }

    /// What an earlier run confirmed under this number.
    pub fn recall(&mut self, number: u64, sample: RootSample) {
        if number == self.newest() + 1 && self.confirmed.len() < CONFIRMED_MAX {
            self.confirmed.push_back(sample);
        }
    }

    /// Those that wait, each with its number.
    pub fn confirmed(&self) -> impl Iterator<Item = (u64, &RootSample)> {
        (self.samples_acked + 1..).zip(&self.confirmed)
    }

    /// The connection is new: what was said before may be lost.
    pub fn connected(&mut self) {
        self.again = Default::default();
    }

    /// What is to be said now of heads of this lineage.
    pub fn due(&mut self, now_ms: u64, lineage: LineageId) -> (Option<HeadUpdate>, Option<RootSamples>) {
        let update = match &self.pending {
            Some(update) if self.again[0].is_due(now_ms) => Some(update.clone()),
            _ => None,
        };
        if self.confirmed.is_empty() || !self.again[1].is_due(now_ms) {
            return (update, None);
        }
        // With the longest names, and what a list has around its items.
        let widest = ROOT_SAMPLES_BYTES_MAX / ROOT_SAMPLES_MAX;
        let fits = |sample: &&RootSample| sample.features.len() <= (4 * HEAD_INPUTS_MAX).min(widest - 128);
        let samples: Vec<RootSample> = self.confirmed.iter().take(ROOT_SAMPLES_MAX).take_while(fits).cloned().collect();
        let (epoch, first) = (self.samples_epoch, self.samples_acked + 1);
        let samples = (!samples.is_empty()).then_some(RootSamples { lineage, epoch, first, samples });
        (update, samples)
    }

    /// When [`Post::due`] has something.
    pub fn next_wakeup_ms(&self) -> Option<u64> {
        let waits = [self.pending.is_some(), !self.confirmed.is_empty()];
        let due = waits.into_iter().zip(&self.again).filter(|(waits, _)| *waits).map(|(_, again)| again.at_ms);
        due.min()
    }

    /// Takes the coordinator's word.
    pub fn ack(&mut self, ack: &LearnAck) -> Answered {
        let mut answered = Answered::default();
        let ours = (self.epoch, self.seq);
        match (ack.epoch, ack.seq).cmp(&ours) {
            std::cmp::Ordering::Equal if self.pending.is_some() => {
                self.pending = None;
                answered = Answered { update: true, changed: true };
            }
            std::cmp::Ordering::Greater => {
                // Beyond the last number there is none: such an ack is somebody's mistake.
                let Some(epoch) = self.epoch.max(ack.epoch).checked_add(1) else { return answered };
                (self.epoch, self.seq) = (epoch, 0);
                if let Some(update) = self.pending.take() {
                    self.put(update);
                }
                answered.changed = true;
            }
            _ => {}
        }
        match ack.samples_epoch.cmp(&self.samples_epoch) {
            std::cmp::Ordering::Equal if ack.samples > self.newest() => self.count_anew(ack.samples_epoch),
            std::cmp::Ordering::Equal if ack.samples > self.samples_acked => {
                self.confirmed.drain(..(ack.samples - self.samples_acked) as usize);
                self.samples_acked = ack.samples;
                // The next ones follow at once.
                self.again[1] = Again::default();
            }
            std::cmp::Ordering::Greater => self.count_anew(ack.samples_epoch),
            // It knows none of what it acknowledged: it has lost them.
            std::cmp::Ordering::Less if self.samples_acked > 0 => self.count_anew(self.samples_epoch),
            _ => return answered,
        }
        Answered { changed: true, ..answered }
    }

    fn count_anew(&mut self, epoch: u64) {
        (self.samples_epoch, self.samples_acked) = (epoch.saturating_add(1), 0);
        self.again[1] = Again::default();
    }

    /// What was put is not said any more, and given back.
    pub fn withdraw(&mut self) -> Option<HeadUpdate> {
        self.pending.take()
    }

    /// The pending update as bytes.
    pub fn encoded(&self) -> Option<Vec<u8>> {
        self.pending.as_ref().map(|update| codec::encode(update).expect("an update of ours keeps its own bounds"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::learn::packed::Packed;

    const LINEAGE: LineageId = LineageId([7; 8]);

    fn update(samples: u32) -> HeadUpdate {
        let change = Packed::of(&[0.5, 0.25], 2).unwrap();
        let (loss_before, loss_after, crc) = (0.7, 0.6, 0);
        HeadUpdate { lineage: LINEAGE, epoch: 0, seq: 0, base: 3, samples, change, loss_before, loss_after, crc }
    }

    fn sample(n: u8) -> RootSample {
        RootSample { features: vec![n; 8].into(), label: 1, operator: "anna".into() }
    }

    fn ack(update: (u64, u64), samples: (u64, u64)) -> LearnAck {
        LearnAck { lineage: LINEAGE, epoch: update.0, seq: update.1, samples_epoch: samples.0, samples: samples.1 }
    }

    #[test]
    fn an_update_is_said_until_it_is_acknowledged_and_less_often_with_time() {
        let mut post = Post::new(5);
        assert_eq!(post.next_wakeup_ms(), None);
        post.put(update(9));
        let mut said = Vec::new();
        for now_ms in (0..100_000).step_by(1_000) {
            if let (Some(update), None) = post.due(now_ms, LINEAGE) {
                assert_eq!((update.epoch, update.seq, update.crc), (5, 1, update.checksum()));
                said.push(now_ms);
            }
        }
        assert_eq!(said, [0, 5_000, 15_000, 35_000, 75_000]);
        post.connected();
        assert!(post.due(100_000, LINEAGE).0.is_some());
        assert_eq!(post.ack(&ack((5, 0), (0, 0))), Answered::default());
        assert_eq!(post.ack(&ack((5, 1), (0, 0))), Answered { update: true, changed: true });
        assert_eq!((post.due(999_999, LINEAGE), post.next_wakeup_ms()), ((None, None), None));
        assert_eq!(post.ack(&ack((5, 1), (0, 0))), Answered::default(), "it comes again");
    }

    #[test]
    fn a_device_that_forgot_its_numbers_begins_a_new_epoch_and_says_the_same_again() {
        for known in [(5, 7), (9, 1)] {
            let mut post = Post::new(5);
            post.put(update(9));
            let answered = post.ack(&ack(known, (0, 0)));
            assert_eq!(answered, Answered { update: false, changed: true });
            let pending = post.pending.clone().unwrap();
            assert_eq!((pending.epoch, pending.seq, pending.samples), (known.0 + 1, 1, 9));
            assert_eq!(pending.crc, pending.checksum());
        }
    }

    #[test]
    fn an_ack_of_the_last_number_there_is_hurts_nobody() {
        let mut post = Post::new(5);
        post.put(update(9));
        assert_eq!(post.ack(&ack((u64::MAX, u64::MAX), (0, 0))), Answered::default());
        post.ack(&ack((5, 0), (u64::MAX, u64::MAX)));
        post.ack(&ack((5, 0), (u64::MAX, u64::MAX)));
        assert!(post.due(0, LINEAGE).0.is_some(), "the update is still said");
    }

    #[test]
    fn confirmed_samples_are_said_in_order_and_counted_anew_where_either_side_forgot() {
        let mut post = Post::new(5);
        (1..=20).for_each(|n| assert_eq!(post.confirm(sample(n)), Some(u64::from(n))));
        let due = |post: &mut Post| {
            post.connected();
            let samples = post.due(1_000, LINEAGE).1.unwrap();
            (samples.epoch, samples.first, samples.samples.len(), samples.samples[0].features[0])
        };
        assert_eq!(due(&mut post), (5, 1, 16, 1));
        assert!(post.ack(&ack((0, 0), (5, 16))).changed);
        assert_eq!(due(&mut post), (5, 17, 4, 17));
        // The coordinator has lost them all; what it acknowledged is gone here too.
        assert!(post.ack(&ack((0, 0), (0, 0))).changed);
        assert_eq!(due(&mut post), (6, 1, 4, 17));
        // What it said before is old news.
        assert!(!post.ack(&ack((0, 0), (5, 16))).changed);
        // It knows more than was said here.
        assert!(post.ack(&ack((0, 0), (6, 30))).changed);
        assert_eq!(due(&mut post), (7, 1, 4, 17));
        assert!(post.ack(&ack((0, 0), (7, 4))).changed);
        post.connected();
        assert_eq!(post.due(1_000, LINEAGE), (None, None));
    }

    #[test]
    fn an_earlier_runs_samples_go_on_where_they_were() {
        let mut post = Post { samples_acked: 4, ..Post::new(5) };
        for n in [3, 5, 6, 8] {
            post.recall(n, sample(n as u8));
        }
        assert_eq!(post.confirmed().map(|(number, _)| number).collect::<Vec<_>>(), [5, 6]);
        for n in 0..CONFIRMED_MAX {
            post.confirm(sample(n as u8));
        }
        assert_eq!((post.confirm(sample(1)), post.confirmed().count()), (None, CONFIRMED_MAX));
    }
}
