//! How a head is said: whole, or, where it is large, as what is different from the whole one that was said before; and not more often
//! than it moves. Pure. Beside it, which topic each thing belongs on.

use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::learn::lineage::Lineage;
use picket_shared::learn::message::{HeadDelta, HeadFull};
use picket_shared::learn::packed::Packed;
use picket_shared::learn::{SENT_ONE_OF_SMALL, SPARSE_PARAMETERS_MIN};
use picket_shared::topics::Topic;

use super::learner::{Effect, Input};
use super::sums::norm;

/// The head is said when it moved by this share of its length.
pub const SAY_SHARE: f64 = 0.01;
/// Or when it was not said for so long.
pub const SAY_MS_MAX: u64 = 30_000;
/// A large head is said whole this often; between, only its largest differences are.
pub const SAY_WHOLE_MS: u64 = 300_000;

/// A head as it is to be said.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    /// Of which heads.
    pub lineage: &'a Lineage,
    /// Its version.
    pub version: u64,
    /// Its numbers.
    pub head: &'a [f32],
    /// The version that was taken back to.
    pub revert_of: Option<u64>,
    /// Nothing is learned.
    pub frozen: bool,
    /// Devices judge by what is released, and by nothing else.
    pub releases: bool,
}

/// What was said.
#[derive(Debug, Clone, Default)]
pub struct Voice(Option<Said>);

#[derive(Debug, Clone)]
struct Said {
    whole: Vec<f32>,
    whole_version: u64,
    whole_ms: u64,
    newest: Vec<f32>,
    version: u64,
    at_ms: u64,
    /// The last version that it was compared with. A large head costs more to compare than an update to take in.
    compared: u64,
}

impl Voice {
    /// Nothing that was said is certain to stand.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// When something that is not said yet must be.
    pub fn next_wakeup(&self, version: u64) -> Option<u64> {
        self.0.as_ref().filter(|said| said.version != version).map(|said| said.at_ms + SAY_MS_MAX)
    }

    /// What is to be said now.
    pub fn say(&mut self, now: Now, words: Words) -> Option<Effect> {
        let Words { lineage, version, head, revert_of, frozen, releases } = words;
        let moved = match &mut self.0 {
            None => true,
            Some(said) if said.version == version => false,
            Some(said) if now.mono_ms >= said.at_ms + SAY_MS_MAX => true,
            Some(said) if said.compared == version => false,
            Some(said) => {
                said.compared = version;
                let change: Vec<f32> = head.iter().zip(&said.newest).map(|(now, then)| now - then).collect();
                norm(&change) > SAY_SHARE * norm(head)
            }
        };
        if !moved {
            return None;
        }
        if let Some(said) = self.0.as_mut().filter(|said| now.mono_ms < said.whole_ms + SAY_WHOLE_MS)
            && head.len() >= SPARSE_PARAMETERS_MIN
            && let Some((delta, newest)) = said.delta(lineage, version, head)
        {
            (said.newest, said.version, said.at_ms) = (newest, version, now.mono_ms);
            return Some(Effect::Delta(delta));
        }
        let full = HeadFull { releases, ..HeadFull::of(lineage.clone(), version, head, revert_of, frozen) };
        if let Ok(whole) = full.head() {
            let (newest, whole_version, at_ms) = (whole.clone(), version, now.mono_ms);
            let compared = version;
            self.0 = Some(Said { whole, whole_version, whole_ms: at_ms, newest, version, at_ms, compared });
        }
        Some(Effect::Full(full))
    }
}

impl Said {
    /// What is different from the whole one, and what comes out of it.
    fn delta(&self, lineage: &Lineage, version: u64, head: &[f32]) -> Option<(HeadDelta, Vec<f32>)> {
        if version <= self.whole_version {
            return None;
        }
        let change: Vec<f32> = head.iter().zip(&self.whole).map(|(now, then)| now - then).collect();
        let change = Packed::of(&change, head.len() / SENT_ONE_OF_SMALL).ok()?;
        let delta = HeadDelta::of(lineage.id(), self.whole_version, &self.whole, version, change)?;
        let newest = delta.head(self.whole_version, &self.whole).ok()?;
        Some((delta, newest))
    }
}

/// What a message has for the learner; nothing where it is no matter of learning.
pub fn heard(topic: &Topic, payload: &[u8]) -> Option<Input> {
    match topic {
        Topic::LearnUpdate(node) => Some(Input::Update(node.clone(), payload.to_vec())),
        Topic::LearnSamples(node) => Some(Input::Samples(node.clone(), payload.to_vec())),
        Topic::LearnHead(_) => Some(Input::Head(payload.to_vec())),
        _ => None,
    }
}

/// Where something is said, and its bytes; nothing where it is no message.
pub fn message(effect: &Effect) -> Option<(Topic, Vec<u8>)> {
    let encoded = "the learner keeps the bounds of what it says";
    match effect {
        Effect::Ack(node, ack) => Some((Topic::LearnAck(node.clone()), codec::encode(ack).expect(encoded))),
        Effect::Labels(node, labels) => Some((Topic::LearnLabels(node.clone()), crate::view::json(labels))),
        Effect::Full(full) => Some((Topic::LearnHead(full.lineage.id()), codec::encode(full).expect(encoded))),
        Effect::Delta(delta) => Some((Topic::LearnDelta(delta.lineage), codec::encode(delta).expect(encoded))),
        Effect::View(view) => Some((Topic::ViewLearning, crate::view::json(view))),
        Effect::Log(_) | Effect::Release(_) | Effect::Refused(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::learn::lineage::HeadShape;

    fn at(ms: u64) -> Now {
        Now { mono_ms: ms, unix_ms: 0 }
    }

    #[test]
    fn a_large_head_is_said_whole_and_then_by_what_is_different() {
        let lineage = Lineage { fleet_epoch: 1, backbone: "ab".repeat(32), shape: HeadShape::softmax(299, 10) };
        let (mut head, mut voice) = (vec![0.5f32; 3_000], Voice::default());
        let say = |voice: &mut Voice, ms, version, head: &[f32]| {
            let words = Words { lineage: &lineage, version, head, revert_of: None, frozen: false, releases: false };
            voice.say(at(ms), words)
        };
        let Some(Effect::Full(full)) = say(&mut voice, 0, 1, &head) else { panic!() };
        assert_eq!(say(&mut voice, 1, 1, &head), None);
        head[7] += 0.001;
        assert_eq!(say(&mut voice, 2, 2, &head), None);
        assert_eq!(voice.next_wakeup(2), Some(SAY_MS_MAX));
        head[7] += 5.0;
        let Some(Effect::Delta(delta)) = say(&mut voice, 3, 3, &head) else { panic!() };
        let newest = delta.head(1, &full.head().unwrap()).unwrap();
        assert!((newest[7] - head[7]).abs() < 0.05);
        head[8] += 5.0;
        assert!(matches!(say(&mut voice, SAY_WHOLE_MS, 4, &head), Some(Effect::Full(full)) if full.version == 4));
        voice.forget();
        assert!(matches!(say(&mut voice, SAY_WHOLE_MS, 4, &head), Some(Effect::Full(_))));
    }
}
