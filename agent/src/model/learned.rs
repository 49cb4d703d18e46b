//! A learned head on its way to who judges by it: assigned, fetched by its digest like any file of a release, and handed over until
//! that says what came of it, and kept for the next one that is told as a step from it. It is small and lies in memory: what a crash
//! takes of it is fetched again, and what was decided about it stands in the log of learning. Pure. It judges no head, and waits for no model that is on its way.

use picket_shared::chunks::Chunks;
use picket_shared::crypto::Digest;
use picket_shared::model::decode::{choose, decode};
use picket_shared::model::{Chunk, Encoding, LearnedManifest, LearnedState, Learns, ModelPhase, Refusal, Want};

use super::fetch::{Fetch, Size};
use super::{Order, Refused};

/// How soon a head that nothing was said of is handed over again.
const AGAIN_MS: u64 = 5_000;
/// How often a file whose bytes are wrong in the end is fetched.
const FETCHES_MAX: u8 = 2;

/// Where the assigned one is.
#[derive(Debug, Clone, Default)]
enum Course {
    /// There is nothing to do.
    #[default]
    Idle,
    /// It is fetched.
    Fetching(Encoding, Box<Fetch>, Vec<u8>),
    /// It is whole, and handed over, and is again then.
    Handed(u64),
}

/// The learned head of one device.
#[derive(Debug, Clone, Default)]
pub struct Learned {
    /// What whoever judges says of himself.
    judge: Option<(LearnedState, Learns)>,
    assigned: Option<LearnedManifest>,
    refused: Option<(u64, Refused)>,
    course: Course,
    /// The last one that came whole: the next may be told as a step from it. A program that begins anew fetches the next one whole.
    whole: Option<(Digest, Vec<u8>)>,
    /// Steps that did not lead to what they should.
    avoid: Vec<Digest>,
    fetches: u8,
}

impl Learned {
    /// What is learned over.
    pub fn learns(&self) -> Option<Learns> {
        self.judge.as_ref().map(|(_, learns)| *learns)
    }

    /// Whoever judges says how it is; whether what is learned over is another network now, and so other heads fit.
    pub fn says(
        &mut self,
        now_ms: u64,
        judge: Option<(LearnedState, Learns)>,
        unit: f64,
        out: &mut Vec<Order>,
    ) -> bool {
        let before = self.learns();
        self.judge = judge;
        self.go_on(now_ms, unit, out);
        before != self.learns()
    }

    /// A head is assigned, or was refused; nothing where there is none.
    pub fn assign(
        &mut self,
        now_ms: u64,
        verdict: Option<Result<LearnedManifest, Refusal>>,
        unit: f64,
        out: &mut Vec<Order>,
    ) {
        let same_file = |one: &LearnedManifest, other: &LearnedManifest| {
            (one.counter, one.file.sha256, &one.lineage) == (other.counter, other.file.sha256, &other.lineage)
        };
        match verdict {
            Some(Ok(manifest)) if self.assigned.as_ref().is_some_and(|known| same_file(known, &manifest)) => {}
            Some(Ok(manifest)) => {
                self.leave(out);
                (self.assigned, self.refused) = (Some(manifest), None);
            }
            Some(Err(refusal)) => {
                self.leave(out);
                self.refused = Some((0, (refusal.word(), refusal.to_string())));
            }
            None => {
                self.leave(out);
                self.refused = None;
            }
        }
        self.go_on(now_ms, unit, out);
    }

    fn leave(&mut self, out: &mut Vec<Order>) {
        if matches!(self.course, Course::Fetching(..)) {
            out.push(Order::ListenHead(None));
        }
        (self.assigned, self.course, self.fetches) = (None, Course::Idle, 0);
        self.avoid.clear();
    }

    /// Begins to fetch where there is a head that nothing is known of.
    fn go_on(&mut self, now_ms: u64, unit: f64, out: &mut Vec<Order>) {
        let (Some(manifest), Some((state, _))) = (&self.assigned, &self.judge) else { return };
        if state.version >= manifest.counter {
            if matches!(self.course, Course::Fetching(..)) {
                out.push(Order::ListenHead(None));
            }
            self.course = Course::Idle;
            return;
        }
        if !matches!(self.course, Course::Idle) || self.refused.is_some() {
            return;
        }
        let has = |from: &Digest| self.whole.as_ref().is_some_and(|(digest, _)| digest == from);
        let Some(encoding) = choose(&manifest.file, &self.avoid, has).cloned() else {
            let what = "the learned head is offered in no form that this device can use".to_owned();
            self.refused = Some((manifest.counter, ("model_encoding", what)));
            return;
        };
        let size = Size { length: encoding.length, chunk_bytes: manifest.chunk_bytes };
        let bytes = vec![0; size.length as usize];
        out.push(Order::ListenHead(Some(encoding.sha256)));
        let fetch = Fetch::new(now_ms, size.clone(), Chunks::none(size.chunks()), unit);
        self.course = Course::Fetching(encoding, Box::new(fetch), bytes);
    }

    /// A piece of a file has come; nothing where it is of another file.
    pub fn chunk(
        &mut self,
        now_ms: u64,
        digest: &Digest,
        chunk: &Chunk,
        unit: f64,
        out: &mut Vec<Order>,
    ) -> Option<Result<(), Refused>> {
        let Course::Fetching(encoding, fetch, bytes) = &mut self.course else { return None };
        if encoding.sha256 != *digest {
            return None;
        }
        match fetch.came(now_ms, chunk.index, chunk.bytes.len()) {
            Err(refused) => return Some(Err(refused)),
            Ok(false) => {}
            Ok(true) => {
                let begin = chunk.index as usize * fetch.size().chunk_bytes as usize;
                bytes[begin..begin + chunk.bytes.len()].copy_from_slice(&chunk.bytes);
                fetch.written(chunk.index, true);
            }
        }
        if fetch.is_whole() {
            self.is_whole(now_ms, unit, out);
        }
        Some(Ok(()))
    }

    fn is_whole(&mut self, now_ms: u64, unit: f64, out: &mut Vec<Order>) {
        let (Some(manifest), Course::Fetching(encoding, _, bytes)) =
            (&self.assigned, std::mem::replace(&mut self.course, Course::Idle))
        else {
            return;
        };
        out.push(Order::ListenHead(None));
        if Digest::of(&bytes) != encoding.sha256 {
            self.fetches += 1;
            if self.fetches >= FETCHES_MAX {
                let what = format!("the learned head has another digest than it should, {FETCHES_MAX} times");
                self.refused = Some((manifest.counter, ("model_digest", what)));
            }
            return self.go_on(now_ms, unit, out);
        }
        let here =
            |from: &Digest| self.whole.as_ref().filter(|(digest, _)| digest == from).map(|(_, file)| file.clone());
        let file = decode(&manifest.file, &encoding, bytes, here);
        let file = file.map_err(|what| ("model_encoding", format!("the learned head {what}")));
        let whole = |file: Vec<u8>| match manifest.numbers(&file) {
            Ok(_) => Ok(file),
            Err(refusal) => Err((refusal.word(), refusal.to_string())),
        };
        match file.and_then(whole) {
            // The head may be good all the same: who told the step erred.
            Err(_) if encoding.from.is_some() => {
                self.avoid.push(encoding.sha256);
                self.go_on(now_ms, unit, out);
            }
            Err(refused) => self.refused = Some((manifest.counter, refused)),
            Ok(file) => {
                out.push(Order::Learn(Box::new(manifest.clone()), file.clone()));
                (self.whole, self.course) = (Some((manifest.file.sha256, file)), Course::Handed(now_ms + AGAIN_MS));
            }
        }
    }

    /// There is a connection again: what was asked for may never have been heard.
    pub fn connected(&mut self, now_ms: u64, unit: f64, out: &mut Vec<Order>) {
        if let Course::Fetching(encoding, fetch, _) = &mut self.course {
            out.push(Order::ListenHead(Some(encoding.sha256)));
            fetch.connected(now_ms, unit);
        }
    }

    /// Does what time asks for.
    pub fn move_on(&mut self, now_ms: u64, online: bool, unit: f64, out: &mut Vec<Order>) {
        match (&mut self.course, &self.assigned, &self.whole) {
            (Course::Fetching(encoding, fetch, _), ..) => {
                if let Some(ranges) = fetch.ask(now_ms, unit).filter(|_| online) {
                    let chunk_bytes = fetch.size().chunk_bytes;
                    out.push(Order::Want(Want { sha256: encoding.sha256, chunk_bytes, ranges }));
                }
            }
            (Course::Handed(again_ms), Some(manifest), Some((_, file))) if now_ms >= *again_ms => {
                *again_ms = now_ms + AGAIN_MS;
                out.push(Order::Learn(Box::new(manifest.clone()), file.clone()));
            }
            _ => {}
        }
    }

    /// When [`Learned::move_on`] is due.
    pub fn next_wakeup_ms(&self) -> Option<u64> {
        match &self.course {
            Course::Idle => None,
            Course::Fetching(_, fetch, _) => fetch.next_wakeup_ms(),
            Course::Handed(again_ms) => Some(*again_ms),
        }
    }

    /// How it is, for the coordinator: what whoever judges says, and what has not come to him.
    pub fn state(&self) -> Option<LearnedState> {
        let (state, _) = self.judge.as_ref()?;
        let unjudged = |version, phase, reason: Option<&str>, detail| LearnedState {
            version,
            phase,
            reason: reason.map(Into::into),
            detail,
            samples: 0,
            difference: None,
            error: None,
            ..state.clone()
        };
        match (&self.refused, &self.course, &self.assigned) {
            (Some((version, (word, what))), ..) => {
                Some(unjudged(*version, ModelPhase::Refused, Some(word), Some(what.clone())))
            }
            (None, Course::Fetching(..) | Course::Handed(..), Some(manifest)) => {
                Some(unjudged(manifest.counter, ModelPhase::Fetching, None, None))
            }
            _ => Some(state.clone()),
        }
    }

    /// Why an assigned head does not come to be judged, in a sentence.
    pub fn problem(&self) -> Option<String> {
        let (_, (word, what)) = self.refused.as_ref().filter(|_| self.judge.is_some())?;
        Some(format!("the assigned head is refused ({word}): {what}"))
    }
}

#[cfg(test)]
#[path = "learned_tests.rs"]
mod tests;
