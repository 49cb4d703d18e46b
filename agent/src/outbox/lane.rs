//! The cursor in one boot: what the archive has, what is on its way, what the store has, and what is gone for good.
//!
//! It knows one boot and no window; `mod.rs` decides which boot's turn it is.

use picket_shared::ids::Boot;
use picket_shared::limits::BATCH_EVENTS_MAX;
use picket_shared::wire::{Ack, Gap};

use super::{AckError, Lane, Send};

/// One boot on its way to the archive.
#[derive(Debug)]
pub(super) struct Cursor {
    /// Everything up to here is in the archive, as an event or as a gap.
    pub(super) acked: u64,
    /// Everything up to here was handed over on this connection. It never reaches into a gap.
    pub(super) sent: u64,
    /// Everything up to here is durable here, or a gap.
    pub(super) stored: u64,
    /// The last sequence of a boot that has ended.
    pub(super) last: Option<u64>,
    /// Begun before this start: what it once stored is known from the disk only.
    pub(super) found: bool,
    /// What lies above `acked` and will never come, lowest first and apart.
    gaps: Vec<Gap>,
    /// The gap just above `acked` was handed over on this connection.
    told: bool,
    /// Holes that the coordinator reported, lowest first; all at or below `sent`.
    again: Vec<(u64, u64)>,
    /// The holes last asked for, so that a repeated ack does not repeat the answer.
    answered: Vec<(u64, u64)>,
    /// When what is on its way began to wait for an answer, or was last given one.
    pub(super) since_ms: u64,
}

impl Cursor {
    /// The cursor of a boot that begins.
    pub(super) fn begun() -> Self {
        Cursor {
            acked: 0,
            sent: 0,
            stored: 0,
            last: None,
            found: false,
            gaps: Vec::new(),
            told: false,
            again: Vec::new(),
            answered: Vec::new(),
            since_ms: 0,
        }
    }

    /// The cursor of a boot that the store found on opening.
    pub(super) fn found(Lane { acked, stored, gaps }: Lane) -> Self {
        let mut cursor = Cursor { acked, sent: acked, stored: stored.max(acked), found: true, ..Cursor::begun() };
        for gap in gaps {
            cursor.lose(gap);
        }
        let end = cursor.gaps.last().map_or(0, |gap| gap.to);
        cursor.stored = cursor.stored.max(end);
        cursor.last = Some(cursor.stored);
        cursor
    }

    /// The store made everything up to here durable.
    pub(super) fn stored(&mut self, upto: u64) {
        self.stored = self.stored.max(upto);
        self.close_up();
    }

    /// These will never come. What is acknowledged or a gap already stays what it is. Returns how many are new.
    pub(super) fn lose(&mut self, gap: Gap) -> u64 {
        let (mut from, mut lost) = (gap.from.max(self.acked + 1), 0);
        while from <= gap.to {
            let at = self.gaps.partition_point(|have| have.to < from);
            let next = self.gaps.get(at).copied();
            if let Some(have) = next.filter(|have| have.from <= from) {
                from = have.to + 1;
                continue;
            }
            let part = Gap { from, to: next.map_or(gap.to, |have| gap.to.min(have.from - 1)), cause: gap.cause };
            lost += part.width();
            self.put_gap(at, part);
            self.recall(from);
            from = part.to + 1;
        }
        self.close_up();
        lost
    }

    /// Puts in a gap that overlaps no other, as one with its neighbours where the cause is the same.
    fn put_gap(&mut self, at: usize, mut gap: Gap) {
        let same = |have: &Gap| have.cause == gap.cause;
        if let Some(after) = self.gaps.get(at).filter(|have| have.from == gap.to + 1 && same(have)) {
            gap.to = after.to;
            self.gaps.remove(at);
        }
        match at.checked_sub(1).and_then(|before| self.gaps.get_mut(before)) {
            Some(before) if before.to + 1 == gap.from && before.cause == gap.cause => before.to = gap.to,
            _ => self.gaps.insert(at, gap),
        }
    }

    /// What was handed over from here on is to be handed over anew: the store has lost some of it. What arrived of it all
    /// the same is acknowledged all the same.
    fn recall(&mut self, from: u64) {
        if self.sent >= from {
            self.sent = (from - 1).max(self.acked);
            self.again.clear();
            self.answered.clear();
        }
    }

    /// A gap just above what is stored needs no storing.
    fn close_up(&mut self) {
        let beyond = self.gaps.partition_point(|gap| gap.to <= self.stored);
        for gap in &self.gaps[beyond..] {
            if gap.from > self.stored + 1 {
                break;
            }
            self.stored = gap.to;
        }
    }

    /// The coordinator's word. Returns by how much the watermark rose.
    pub(super) fn ack(&mut self, now_ms: u64, ack: &Ack) -> Result<u64, AckError> {
        let mut watermark = ack.watermark;
        if watermark > self.stored {
            if !self.found {
                return Err(AckError::Beyond { boot: ack.boot, watermark, stored: self.stored });
            }
            // The archive has more of an earlier boot than a damaged disk remembers: nothing is owed of it.
            watermark = self.stored;
        }
        let Some(risen) = watermark.checked_sub(self.acked) else { return Ok(0) };
        if risen > 0 {
            self.acked = watermark;
            self.told = false;
            self.since_ms = now_ms;
            let done = self.gaps.partition_point(|gap| gap.to <= watermark);
            self.gaps.drain(..done);
            if let Some(gap) = self.gaps.first_mut() {
                gap.from = gap.from.max(watermark + 1);
            }
            self.sent = self.sent.max(watermark);
            self.again.retain(|&(_, to)| to > watermark);
        }
        if ack.holes.is_empty() {
            self.answered.clear();
        } else if ack.holes != self.answered {
            self.answered.clone_from(&ack.holes);
            let sent = self.sent;
            self.again = ack.holes.iter().filter(|(from, _)| *from <= sent).map(|&(a, b)| (a, b.min(sent))).collect();
        }
        Ok(risen)
    }

    /// Whether there is something to hand over now, and whether that needs room in the window.
    pub(super) fn ready(&self, room: u64) -> bool {
        !self.again.is_empty() || (room > 0 && (self.untold_gap().is_some() || self.sent < self.sendable()))
    }

    /// The next batch or gap, of a cursor that is ready; true where it was handed over before.
    pub(super) fn next(&mut self, boot: Boot, room: u64) -> (Send, bool) {
        let base = self.acked + 1;
        let batch = |first: u64, to: u64| {
            let count = (to - first + 1).min(BATCH_EVENTS_MAX as u64);
            Send { boot, base, first, count, gap: None }
        };
        if let Some(hole) = self.again.first_mut() {
            let send = batch(hole.0.max(base), hole.1);
            hole.0 = send.first + send.count;
            if hole.0 > hole.1 {
                self.again.remove(0);
            }
            return (send, true);
        }
        if let Some(gap) = self.untold_gap() {
            self.told = true;
            return (Send { boot, base, first: gap.from, count: 0, gap: Some(gap) }, false);
        }
        let send = batch(self.sent + 1, self.sendable().min(self.sent.saturating_add(room)));
        self.sent += send.count;
        (send, false)
    }

    /// This was not handed over after all.
    pub(super) fn refused(&mut self, send: &Send) {
        self.told &= send.gap.is_none();
        self.sent = self.sent.min(send.first - 1).max(self.acked);
        self.again.retain(|&(from, _)| from <= self.sent);
    }

    /// Whatever is on its way is taken for lost.
    pub(super) fn rewind(&mut self) {
        self.sent = self.acked;
        self.told = false;
        self.again.clear();
        self.answered.clear();
    }

    /// Events on their way; a gap counts as one.
    pub(super) fn in_flight(&self) -> u64 {
        self.sent - self.acked + u64::from(self.told)
    }

    /// Events stored and not in the archive; a gap that the archive does not know of counts as one.
    pub(super) fn pending(&self) -> u64 {
        let within = self.gaps.iter().filter(|gap| gap.to <= self.stored);
        (self.stored - self.acked + self.gaps.len() as u64).saturating_sub(within.map(Gap::width).sum())
    }

    /// Nothing more will ever be handed over.
    pub(super) fn is_done(&self) -> bool {
        self.last.is_some_and(|last| self.acked >= last)
    }

    /// Nothing beyond a gap goes out until the archive knows of it, so that what it holds stays in order.
    fn sendable(&self) -> u64 {
        self.gaps.first().map_or(self.stored, |gap| self.stored.min(gap.from - 1))
    }

    fn untold_gap(&self) -> Option<Gap> {
        self.gaps.first().filter(|gap| gap.from == self.acked + 1 && !self.told).copied()
    }
}
