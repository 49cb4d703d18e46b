//! Fetches one blob in chunks over a line that loses them: what to ask for, when to ask again, and what is refused.
//!
//! Pure. A chunk counts only once it is written, so that what is said to be there is there after a crash too. Who sends, and
//! whether several are served by one transmission, is the coordinator's affair; so chunks come in any order, twice, and without
//! having been asked for.

use picket_shared::chunks::{Chunks, Range};
use picket_shared::limits::MODEL_WANT_RANGES_MAX;

/// How long nothing new comes before the rest is asked for again; twice as long after each time that nothing came of it, …
const QUIET_MS: u64 = 2_000;
/// … and at most this long: a coordinator that comes back is found soon, and one that is gone costs a message a minute.
const QUIET_MS_MAX: u64 = 60_000;
/// After the last chunk that was asked for, what was lost before it is asked for without more ado.
const SWEPT_MS: u64 = 250;
/// The first time of asking is spread over this long, so that what is wanted by many is wanted before it is sent.
const FIRST_MS: u64 = 1_000;
/// Nothing new for this long is a sender who is slow, whether on purpose or not (TUF's slow retrieval), and is told.
pub const SLOW_MS: u64 = 120_000;
/// Chunks that wait for the disk: 4 MiB of the largest. One more is let go, and asked for again.
pub const WRITING_MAX: u32 = 64;
/// Why a chunk is refused: a constant word, and a sentence.
pub type Refusal = (&'static str, String);

/// What is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    /// Its length in bytes.
    pub length: u64,
    /// Bytes of each chunk but the last, which has the rest.
    pub chunk_bytes: u32,
}

impl Size {
    /// How many chunks there are.
    pub fn chunks(&self) -> u32 {
        u32::try_from(self.length.div_ceil(u64::from(self.chunk_bytes.max(1)))).unwrap_or(u32::MAX)
    }

    /// Bytes of this chunk; nothing where there is no such chunk.
    pub fn bytes_of(&self, index: u32) -> Option<u64> {
        let begin = u64::from(index) * u64::from(self.chunk_bytes);
        (begin < self.length).then(|| (self.length - begin).min(u64::from(self.chunk_bytes)))
    }
}

/// One blob on its way.
#[derive(Debug, Clone)]
pub struct Fetch {
    size: Size,
    /// Those that are written.
    chunks: Chunks,
    /// Those that are on their way to the disk.
    writing: Chunks,
    /// The last chunk that was asked for.
    asked_to: u32,
    /// How often the same was asked for, and nothing came.
    in_vain: u32,
    ask_due_ms: u64,
    /// When something new came last.
    moved_ms: u64,
}

impl Fetch {
    /// Begins, or goes on where some chunks are there. `unit` is drawn evenly from 0 to below 1.
    pub fn new(now_ms: u64, size: Size, chunks: Chunks, unit: f64) -> Fetch {
        assert_eq!(chunks.total(), size.chunks(), "the chunks are those of this blob");
        Fetch {
            writing: Chunks::none(chunks.total()),
            asked_to: chunks.total(),
            chunks,
            size,
            in_vain: 0,
            ask_due_ms: now_ms + part(FIRST_MS, unit),
            moved_ms: now_ms,
        }
    }

    /// A chunk has come. True where it is to be written, and [`Fetch::written`] told afterwards.
    pub fn came(&mut self, now_ms: u64, index: u32, bytes: usize) -> Result<bool, Refusal> {
        let Some(right) = self.size.bytes_of(index) else {
            let chunks = self.size.chunks();
            return Err(("model_endless", format!("chunk {index} of a blob that has {chunks} of them")));
        };
        if bytes as u64 != right {
            return Err(("model_length", format!("chunk {index} has {bytes} bytes, and {right} are right")));
        }
        let new = !self.chunks.has(index) && !self.writing.has(index) && self.writing.held() < WRITING_MAX;
        if new {
            self.writing.add(index);
            (self.in_vain, self.moved_ms) = (0, now_ms);
            self.ask_due_ms = now_ms + if index == self.asked_to { SWEPT_MS } else { QUIET_MS };
        }
        Ok(new)
    }

    /// A chunk is on the disk, or was not taken by it.
    pub fn written(&mut self, index: u32, taken: bool) {
        if self.writing.remove(index) && taken {
            self.chunks.add(index);
        }
    }

    /// What is on the disk is not what it should be: all of it is fetched anew.
    pub fn begin_again(&mut self, now_ms: u64, unit: f64) {
        *self = Fetch::new(now_ms, self.size.clone(), Chunks::none(self.chunks.total()), unit);
    }

    /// There is a connection again: what was asked for may never have been heard.
    pub fn connected(&mut self, now_ms: u64, unit: f64) {
        self.in_vain = 0;
        self.ask_due_ms = self.ask_due_ms.min(now_ms + part(FIRST_MS, unit));
    }

    /// What to ask for, where it is time to. `unit` is drawn evenly from 0 to below 1.
    pub fn ask(&mut self, now_ms: u64, unit: f64) -> Option<Vec<Range>> {
        if now_ms < self.ask_due_ms || self.chunks.is_whole() {
            return None;
        }
        let mut there = self.chunks.clone();
        for index in (0..there.total()).filter(|index| self.writing.has(*index)) {
            there.add(index);
        }
        let wanted = there.missing(MODEL_WANT_RANGES_MAX);
        self.asked_to = wanted.last().map_or(self.asked_to, |(_, to)| *to);
        let quiet_ms = (QUIET_MS << self.in_vain.min(16)).min(QUIET_MS_MAX);
        self.in_vain += 1;
        // Between half of it and all of it, so that many who lost the same do not ask at once.
        self.ask_due_ms = now_ms + quiet_ms / 2 + part(quiet_ms / 2, unit);
        (!wanted.is_empty()).then_some(wanted)
    }

    /// When [`Fetch::ask`] is due.
    pub fn next_wakeup_ms(&self) -> Option<u64> {
        (!self.chunks.is_whole()).then_some(self.ask_due_ms)
    }

    /// What is fetched.
    pub fn size(&self) -> &Size {
        &self.size
    }

    /// Whether all is written.
    pub fn is_whole(&self) -> bool {
        self.chunks.is_whole()
    }

    /// Bytes that are written.
    pub fn bytes(&self) -> u64 {
        let whole = u64::from(self.chunks.held()) * u64::from(self.size.chunk_bytes);
        let last = self.chunks.total().checked_sub(1).filter(|last| self.chunks.has(*last));
        let short =
            last.and_then(|last| self.size.bytes_of(last)).map_or(0, |last| u64::from(self.size.chunk_bytes) - last);
        whole - short
    }

    /// For how long nothing new has come, where that is too long.
    pub fn slow_for_ms(&self, now_ms: u64) -> Option<u64> {
        let still_ms = now_ms.saturating_sub(self.moved_ms);
        (!self.chunks.is_whole() && still_ms >= SLOW_MS).then_some(still_ms)
    }
}

fn part(of_ms: u64, unit: f64) -> u64 {
    (of_ms as f64 * unit.clamp(0.0, 1.0)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(length: u64) -> Size {
        Size { length, chunk_bytes: 10 }
    }

    fn fetch(length: u64) -> Fetch {
        let size = size(length);
        let chunks = Chunks::none(size.chunks());
        Fetch::new(0, size, chunks, 0.0)
    }

    fn take(fetch: &mut Fetch, now_ms: u64, index: u32) {
        let bytes = fetch.size.bytes_of(index).unwrap() as usize;
        assert_eq!(fetch.came(now_ms, index, bytes), Ok(true));
        fetch.written(index, true);
    }

    #[test]
    fn chunks_have_the_length_and_the_last_the_rest() {
        for (length, chunks, last) in [(1, 1, 1), (9, 1, 9), (10, 1, 10), (11, 2, 1), (25, 3, 5)] {
            let size = size(length);
            assert_eq!((size.chunks(), size.bytes_of(chunks - 1)), (chunks, Some(last)));
            assert_eq!(size.bytes_of(chunks), None);
        }
    }

    #[test]
    fn what_is_no_chunk_of_it_is_refused_by_name_and_changes_nothing() {
        let mut fetch = fetch(25);
        for (index, bytes, word) in [
            (3, 10, "model_endless"),
            (u32::MAX, 10, "model_endless"),
            (0, 9, "model_length"),
            (0, 11, "model_length"),
            (2, 10, "model_length"),
            (2, 0, "model_length"),
        ] {
            assert_eq!(fetch.came(0, index, bytes).unwrap_err().0, word, "{index} {bytes}");
        }
        assert_eq!((fetch.bytes(), fetch.ask(0, 0.0)), (0, Some(vec![(0, 2)])));
    }

    #[test]
    fn only_what_is_written_is_there_and_what_the_disk_refused_is_asked_for_again() {
        let mut fetch = fetch(25);
        assert_eq!(fetch.came(0, 2, 5), Ok(true));
        assert_eq!(fetch.came(0, 2, 5), Ok(false), "it is on its way to the disk");
        assert_eq!(fetch.bytes(), 0);
        assert_eq!(fetch.ask(QUIET_MS, 0.0), Some(vec![(0, 1)]));
        fetch.written(2, false);
        assert_eq!(fetch.ask(9 * QUIET_MS, 0.0), Some(vec![(0, 2)]));
        (0..3).for_each(|index| take(&mut fetch, 9 * QUIET_MS, index));
        assert_eq!((fetch.bytes(), fetch.is_whole(), fetch.next_wakeup_ms()), (25, true, None));
        assert_eq!(fetch.came(0, 1, 10), Ok(false), "said again for somebody else");
    }

    #[test]
    fn a_disk_that_is_slow_bounds_what_waits_for_it() {
        let mut fetch = fetch(10 * u64::from(WRITING_MAX + 5));
        for index in 0..WRITING_MAX + 5 {
            assert_eq!(fetch.came(0, index, 10), Ok(index < WRITING_MAX));
        }
        assert_eq!(fetch.ask(QUIET_MS, 0.0), Some(vec![(WRITING_MAX, WRITING_MAX + 4)]));
    }

    #[test]
    fn who_gets_no_answer_asks_less_and_less_often_and_who_does_asks_soon() {
        let mut fetch = fetch(100);
        let mut asked = Vec::new();
        for now_ms in 0..400_000 {
            if fetch.ask(now_ms, 1.0).is_some() {
                asked.push(now_ms);
            }
        }
        let pauses: Vec<u64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses[..7], [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(fetch.slow_for_ms(SLOW_MS - 1), None);
        assert_eq!(fetch.slow_for_ms(SLOW_MS), Some(SLOW_MS), "and it is told");
        take(&mut fetch, 400_000, 4);
        assert_eq!(fetch.next_wakeup_ms(), Some(400_000 + QUIET_MS), "more may be on its way");
        take(&mut fetch, 400_001, 9);
        assert_eq!(fetch.next_wakeup_ms(), Some(400_001 + SWEPT_MS), "that was the last that was asked for");
        assert_eq!(fetch.ask(400_001 + SWEPT_MS, 0.0), Some(vec![(0, 3), (5, 8)]));
        fetch.connected(500_000, 0.5);
        assert!(fetch.next_wakeup_ms() <= Some(500_000 + FIRST_MS / 2));
    }

    #[test]
    fn it_goes_on_where_it_was_and_begins_again_where_that_was_wrong() {
        let mut chunks = Chunks::none(3);
        chunks.add(1);
        let mut fetch = Fetch::new(0, size(25), chunks, 0.0);
        assert_eq!((fetch.bytes(), fetch.ask(0, 0.0)), (10, Some(vec![(0, 0), (2, 2)])));
        fetch.begin_again(5, 0.0);
        assert_eq!((fetch.bytes(), fetch.ask(5, 0.0)), (0, Some(vec![(0, 2)])));
    }
}
