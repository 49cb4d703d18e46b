//! Which chunk of which blob is sent next: what many devices want is sent once, at a pace that leaves room for what they say.
//!
//! Pure. Devices ask again for what did not reach them, so nothing is owed here and nothing is kept over a restart. A blob is
//! known by the SHA-256 of its bytes; whether there is one, and what is in it, the shell knows.

use std::collections::BTreeMap;

use picket_shared::chunks::{Chunks, Range};
use picket_shared::crypto::Digest;
use picket_shared::ids::NodeId;

/// From the first request for a blob until it is sent: others will want it too, and one transmission serves them all.
pub const GATHER_MS: u64 = 1_500;
/// A chunk is sent again after this at the earliest: who asked for it meanwhile may have it on its way.
pub const REPEAT_MS_MIN: u64 = 1_000;
/// Blobs that are sent in turn. A site has one rollout or two, each with a few encodings.
pub const SERVED_MAX: usize = 16;
/// Blobs that one device may want at once; the oldest of its wants is forgotten for a newer one.
pub const SERVED_TO_ONE_MAX: usize = 2;
/// What nobody has asked for so long is forgotten.
const FORGET_MS: u64 = 10 * 60_000;

/// A blob, and the size of the pieces that it is asked for in. Who counts in others asks for others.
pub type Key = (Digest, u32);

/// Why a request is refused: a constant word, and a sentence.
pub type Refusal = (&'static str, String);

/// A chunk to be sent to everybody who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Of which blob, in which pieces.
    pub blob: Key,
    /// Which chunk of it.
    pub index: u32,
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it has.
    pub bytes: u32,
}

/// What has been done, for a page of metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Chunks that were sent.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Chunks that were asked for, by each device by itself, its repetitions too.
    pub chunks_asked: u64,
    /// Blobs that somebody waits for.
    pub blobs: u64,
}

/// All that is served.
#[derive(Debug)]
pub struct Blobs {
    bytes_per_s: u64,
    /// Until when what was sent takes up the pace.
    ready_ms: u64,
    serving: BTreeMap<Key, Serving>,
    /// The blob that was served last: the next one's turn comes after it.
    last: Key,
    served: Served,
}

#[derive(Debug)]
struct Serving {
    length: u64,
    wanted: Chunks,
    /// When each chunk was sent last; 0 where it never was.
    sent_ms: Vec<u64>,
    /// Where the sweep goes on.
    next: u32,
    not_before_ms: u64,
    /// Who asked, and when last.
    asked_ms: BTreeMap<NodeId, u64>,
}

impl Serving {
    /// The next chunk of the sweep that may be sent now; or when there will be one.
    fn due(&self, now_ms: u64) -> Result<u32, Option<u64>> {
        if now_ms < self.not_before_ms {
            return Err((self.wanted.held() > 0).then_some(self.not_before_ms));
        }
        let mut soonest: Option<u64> = None;
        let mut at = self.next;
        for _ in 0..self.wanted.held() {
            let index = self.wanted.next(at).expect("as many as are held are found");
            let free_ms = match self.sent_ms[index as usize] {
                0 => 0,
                sent_ms => sent_ms + REPEAT_MS_MIN,
            };
            if now_ms >= free_ms {
                return Ok(index);
            }
            soonest = Some(soonest.map_or(free_ms, |soonest| soonest.min(free_ms)));
            at = index + 1;
        }
        Err(soonest)
    }
}

impl Blobs {
    /// Sends at most so many bytes a second, of all blobs together.
    pub fn new(bytes_per_s: u64) -> Blobs {
        let (ready_ms, serving, served) = Default::default();
        Blobs { bytes_per_s: bytes_per_s.max(1), ready_ms, serving, last: (Digest([0; 32]), 0), served }
    }

    /// A device asks for these chunks of a blob of this length; for none of them, where it needs nothing more.
    pub fn want(
        &mut self,
        now_ms: u64,
        node: &NodeId,
        blob: Key,
        length: u64,
        ranges: &[Range],
    ) -> Result<(), Refusal> {
        let (_, chunk_bytes) = blob;
        let total = u32::try_from(length.div_ceil(u64::from(chunk_bytes.max(1)))).unwrap_or(u32::MAX);
        if let Some((from, to)) = ranges.iter().find(|(from, to)| from > to || *to >= total) {
            return Err(("model_want", format!("{node} wants the chunks {from} to {to} of {total}")));
        }
        if ranges.is_empty() {
            self.leave(node, &blob);
            return Ok(());
        }
        self.serving.retain(|_, serving| serving.asked_ms.values().any(|asked_ms| now_ms < asked_ms + FORGET_MS));
        self.forget_older(node, &blob);
        if self.serving.len() >= SERVED_MAX && !self.serving.contains_key(&blob) {
            return Err((
                "model_want",
                format!("{node} wants a blob more than the {SERVED_MAX} that are served at once"),
            ));
        }
        let serving = self.serving.entry(blob).or_insert_with(|| Serving {
            length,
            wanted: Chunks::none(total),
            sent_ms: vec![0; total as usize],
            next: 0,
            not_before_ms: now_ms + GATHER_MS,
            asked_ms: BTreeMap::new(),
        });
        serving.asked_ms.insert(node.clone(), now_ms);
        for index in ranges.iter().flat_map(|(from, to)| *from..=*to) {
            self.served.chunks_asked += 1;
            serving.wanted.add(index);
        }
        Ok(())
    }

    /// The next chunk, where it is time for one; it counts as sent.
    pub fn next(&mut self, now_ms: u64) -> Option<Due> {
        if now_ms < self.ready_ms {
            return None;
        }
        let after = self.serving.range((std::ops::Bound::Excluded(self.last), std::ops::Bound::Unbounded));
        let (blob, index) = after
            .chain(self.serving.range(..=self.last))
            .find_map(|(blob, serving)| Some((*blob, serving.due(now_ms).ok()?)))?;
        let (_, chunk_bytes) = blob;
        let serving = self.serving.get_mut(&blob).expect("it was just found");
        serving.wanted.remove(index);
        // A chunk that was sent at the very beginning of time was sent too.
        serving.sent_ms[index as usize] = now_ms.max(1);
        serving.next = index + 1;
        let offset = u64::from(index) * u64::from(chunk_bytes);
        let bytes = (serving.length - offset).min(u64::from(chunk_bytes)) as u32;
        self.last = blob;
        self.ready_ms = now_ms + (u64::from(bytes) * 1_000).div_ceil(self.bytes_per_s);
        (self.served.chunks, self.served.bytes) = (self.served.chunks + 1, self.served.bytes + u64::from(bytes));
        Some(Due { blob, index, offset, bytes })
    }

    /// A chunk was not sent after all: the client had no room for it, or its file could not be read.
    pub fn not_sent(&mut self, due: Due) {
        if let Some(serving) = self.serving.get_mut(&due.blob) {
            serving.wanted.add(due.index);
            (serving.sent_ms[due.index as usize], serving.next) = (0, due.index);
        }
        (self.served.chunks, self.served.bytes) = (self.served.chunks - 1, self.served.bytes - u64::from(due.bytes));
    }

    /// Nobody is served any more: another coordinator does it, or the blob is not to be had.
    pub fn forget(&mut self, blob: Option<&Key>) {
        match blob {
            Some(blob) => drop(self.serving.remove(blob)),
            None => self.serving.clear(),
        }
    }

    /// When [`Blobs::next`] may have something, where anything is wanted.
    pub fn next_wakeup_ms(&self, now_ms: u64) -> Option<u64> {
        let due = |serving: &Serving| match serving.due(now_ms) {
            Ok(_) => Some(now_ms),
            Err(later_ms) => later_ms,
        };
        self.serving.values().filter_map(due).min().map(|due_ms| due_ms.max(self.ready_ms))
    }

    /// What has been done.
    pub fn served(&self) -> Served {
        let blobs = self.serving.values().filter(|serving| serving.wanted.held() > 0).count() as u64;
        Served { blobs, ..self.served }
    }

    /// A device wants a few blobs at once and no more: it has gone on from what it wanted before.
    fn forget_older(&mut self, node: &NodeId, wanted: &Key) {
        let asked = |serving: &Serving| serving.asked_ms.get(node).copied();
        let others = self.serving.iter().filter(|(blob, _)| *blob != wanted);
        let mut of_node: Vec<(u64, Key)> =
            others.filter_map(|(blob, serving)| Some((asked(serving)?, *blob))).collect();
        of_node.sort_unstable();
        let surplus = (of_node.len() + 1).saturating_sub(SERVED_TO_ONE_MAX);
        of_node.drain(..surplus).for_each(|(_, blob)| self.leave(node, &blob));
    }

    /// A device wants nothing more of a blob; what nobody wants any more is not sent.
    fn leave(&mut self, node: &NodeId, blob: &Key) {
        if let Some(serving) = self.serving.get_mut(blob) {
            serving.asked_ms.remove(node);
            if serving.asked_ms.is_empty() {
                self.serving.remove(blob);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Key = (Digest([1; 32]), 100);
    const B: Key = (Digest([2; 32]), 100);
    /// 10 chunks of 100 bytes.
    const LENGTH: u64 = 1_000;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn blobs() -> Blobs {
        // A chunk takes 100 ms.
        Blobs::new(1_000)
    }

    /// All that is sent until then: when, of what, which.
    fn sent(blobs: &mut Blobs, from_ms: u64, to_ms: u64) -> Vec<(u64, u8, u32)> {
        let mut sent = Vec::new();
        for now_ms in from_ms..to_ms {
            while let Some(due) = blobs.next(now_ms) {
                assert_eq!(due.offset, u64::from(due.index) * 100);
                sent.push((now_ms, due.blob.0.0[0], due.index));
            }
        }
        sent
    }

    fn indexes(sent: &[(u64, u8, u32)]) -> Vec<u32> {
        sent.iter().map(|(.., index)| *index).collect()
    }

    #[test]
    fn what_several_want_is_sent_once_and_at_the_pace() {
        let mut blobs = blobs();
        for (at_ms, name) in [(0, "a"), (400, "b"), (1_400, "c")] {
            blobs.want(at_ms, &node(name), A, LENGTH, &[(0, 9)]).unwrap();
        }
        assert_eq!(blobs.next_wakeup_ms(0), Some(GATHER_MS));
        let sent = sent(&mut blobs, 0, 60_000);
        assert_eq!(indexes(&sent), (0..10).collect::<Vec<_>>());
        assert_eq!((sent[0].0, sent[9].0), (GATHER_MS, GATHER_MS + 900), "a chunk each 100 ms");
        let served = blobs.served();
        assert_eq!((served.chunks, served.bytes, served.chunks_asked, served.blobs), (10, 1_000, 30, 0));
        assert_eq!(blobs.next_wakeup_ms(60_000), None);
    }

    #[test]
    fn who_comes_late_joins_the_sweep_and_gets_its_beginning_afterwards() {
        let mut blobs = blobs();
        blobs.want(0, &node("a"), A, LENGTH, &[(0, 9)]).unwrap();
        let mut all = sent(&mut blobs, 0, GATHER_MS + 450);
        assert_eq!(indexes(&all), [0, 1, 2, 3, 4]);
        blobs.want(GATHER_MS + 450, &node("b"), A, LENGTH, &[(0, 9)]).unwrap();
        all.extend(sent(&mut blobs, GATHER_MS + 450, 60_000));
        assert_eq!(indexes(&all), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4]);
    }

    #[test]
    fn what_is_asked_again_is_sent_again_but_not_at_once() {
        let mut blobs = blobs();
        blobs.want(0, &node("a"), A, LENGTH, &[(3, 3)]).unwrap();
        let first = sent(&mut blobs, 0, GATHER_MS + 1);
        assert_eq!(first, [(GATHER_MS, 1, 3)]);
        blobs.want(GATHER_MS + 10, &node("b"), A, LENGTH, &[(3, 3)]).unwrap();
        assert_eq!(blobs.next_wakeup_ms(GATHER_MS + 10), Some(GATHER_MS + REPEAT_MS_MIN));
        assert_eq!(sent(&mut blobs, GATHER_MS + 10, 9_000), [(GATHER_MS + REPEAT_MS_MIN, 1, 3)]);
    }

    #[test]
    fn blobs_take_turns_and_none_waits_for_another() {
        let mut blobs = blobs();
        blobs.want(0, &node("a"), A, LENGTH, &[(0, 9)]).unwrap();
        blobs.want(0, &node("b"), B, 300, &[(0, 2)]).unwrap();
        let sent = sent(&mut blobs, 0, 60_000);
        let of: Vec<u8> = sent.iter().map(|(_, of, _)| *of).collect();
        assert_eq!(of, [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn a_chunk_that_was_not_taken_is_the_next_one_again() {
        let mut blobs = blobs();
        blobs.want(0, &node("a"), A, 250, &[(0, 2)]).unwrap();
        let due = blobs.next(GATHER_MS).unwrap();
        blobs.not_sent(due);
        assert_eq!(blobs.served().chunks, 0);
        let sent = sent(&mut blobs, GATHER_MS, 60_000);
        assert_eq!(indexes(&sent), [0, 1, 2]);
        assert_eq!(blobs.served().bytes, 250, "the last chunk has the rest");
    }

    #[test]
    fn what_cannot_be_wanted_is_refused_and_a_device_cannot_want_the_world() {
        let mut blobs = blobs();
        for ranges in [&[(0, 10)][..], &[(3, 2)], &[(0, 1), (10, 10)], &[(u32::MAX, u32::MAX)]] {
            assert_eq!(blobs.want(0, &node("a"), A, LENGTH, ranges).unwrap_err().0, "model_want");
        }
        for digest in 1..=40 {
            blobs.want(u64::from(digest), &node("greedy"), (Digest([digest; 32]), 100), LENGTH, &[(0, 9)]).unwrap();
        }
        assert_eq!(blobs.served().blobs, SERVED_TO_ONE_MAX as u64, "the newest of what it wants");
        for digest in 1..=40u8 {
            let _ = blobs.want(100, &node(&format!("n{digest}")), (Digest([digest; 32]), 100), LENGTH, &[(0, 9)]);
        }
        assert_eq!(blobs.served().blobs, SERVED_MAX as u64);
        // All of it is forgotten once nobody asks any more.
        blobs.want(101 + FORGET_MS, &node("late"), (Digest([99; 32]), 100), LENGTH, &[(0, 0)]).unwrap();
        assert_eq!(blobs.served().blobs, 1);
        blobs.forget(None);
        assert_eq!(blobs.served().blobs, 0);
    }
}
