//! Which stored events go out next: a cursor per boot between what the archive has and what the store has.
//!
//! Pure. It holds no event, only numbers, so its memory does not grow with the backlog. Nothing counts as delivered but the
//! coordinator's ack watermark; on every new connection it begins again just above that. Sending twice is harmless, since
//! the coordinator takes each (boot, sequence) once.
//!
//! The current boot is live, every other is backlog. Both share one window, in which each has a place of its own: what is
//! new never waits behind what is old, and what is old always moves. The window grows and falls as TCP's does in slow
//! start (RFC 5681, section 3.1), counted in batches.

use std::collections::BTreeMap;

use picket_shared::backoff::scatter;
use picket_shared::ids::Boot;
use picket_shared::limits::{BATCH_EVENTS_MAX, WINDOW_EVENTS_MAX};
use picket_shared::status::Mode;
use picket_shared::wire::{Ack, Gap, GapCause};

mod lane;
#[cfg(test)]
mod tests;

use lane::Cursor;

/// Without progress for this long, what is on its way is taken for lost and sent again. Too small floods a slow link with
/// repeats; too large delays what a broker dropped. It doubles while nothing answers at all, and each node waits up to a
/// quarter longer, so that many whose broker forgot them do not all speak at once.
const RESEND_AFTER_MS: u64 = 3_000;
const RESEND_AFTER_MS_MAX: u64 = 60_000;
const RESEND_SPREAD: u64 = 4;
/// The client's queue was full: a short breath.
const BUSY_PAUSE_MS: u64 = 50;
/// The window on a new connection and after a time-out, and what it grows by with each ack that brings progress.
const WINDOW_STEP_EVENTS: u64 = BATCH_EVENTS_MAX as u64;
/// What the live boot may have on its way however much of the backlog is.
const LIVE_RESERVE_EVENTS: u64 = BATCH_EVENTS_MAX as u64;
/// What the backlog may have on its way however much of the live boot is.
const BACKLOG_RESERVE_EVENTS: u64 = BATCH_EVENTS_MAX as u64;
/// More than this waiting when the connection comes is a backlog, and the live boot begins anew. Too small makes a boot of
/// every short absence; too large lets what is new wait longer: this is a fraction of a second on a good link.
pub const LIVE_PENDING_MAX: u64 = 256;
/// Boots that may wait beside the live one before no new one is begun: a link that comes and goes must not use up the boots
/// that a coordinator tells apart.
pub const BACKLOG_BOOTS_MAX: usize = 64;

/// The store's account of one boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Everything up to here is in the archive.
    pub acked: u64,
    /// Everything up to here is durable on this device, but for the gaps.
    pub stored: u64,
    /// What lies above `acked` and can never be sent, lowest first and apart. One may end beyond `stored`: then `stored` is
    /// its end.
    pub gaps: Vec<Gap>,
}

/// Consecutive events to be read from the store and published as one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Send {
    /// Of which boot.
    pub boot: Boot,
    /// See [`picket_shared::wire::EventBatch::base`].
    pub base: u64,
    /// The first sequence.
    pub first: u64,
    /// How many; 0 where a gap goes in their place.
    pub count: u64,
    /// See [`picket_shared::wire::EventBatch::gap`].
    pub gap: Option<Gap>,
}

/// Why an ack was not believed. The outbox is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// It acknowledges more than was ever stored.
    #[error("an ack of {watermark} for boot {boot}, which has {stored} events")]
    Beyond {
        /// The boot.
        boot: Boot,
        /// What the ack says.
        watermark: u64,
        /// What there is.
        stored: u64,
    },
}

/// The outbox of one agent.
#[derive(Debug)]
pub struct Outbox {
    /// Tells this node's time-outs from those of others.
    spread: u64,
    current: Boot,
    lanes: BTreeMap<Boot, Cursor>,
    online: bool,
    window: u64,
    /// Time-outs since the last progress.
    attempts: u32,
    quiet_until_ms: u64,
    resent: u64,
    acked: u64,
    given_up: bool,
}

impl Outbox {
    /// An outbox over what the store found on opening; `current` is the boot that now begins. `spread` is any number that
    /// other nodes do not have.
    pub fn new(spread: u64, current: Boot, found: impl IntoIterator<Item = (Boot, Lane)>) -> Self {
        let found = found.into_iter().filter(|(boot, _)| *boot != current);
        let cursors = found.map(|(boot, lane)| (boot, Cursor::found(lane))).filter(|(_, cursor)| !cursor.is_done());
        let mut lanes: BTreeMap<_, _> = cursors.collect();
        lanes.insert(current, Cursor::begun());
        Outbox {
            spread,
            current,
            lanes,
            online: false,
            window: WINDOW_STEP_EVENTS,
            attempts: 0,
            quiet_until_ms: 0,
            resent: 0,
            acked: 0,
            given_up: false,
        }
    }

    /// Whether enough waits that what is new should not wait behind it, and there is room for one boot more.
    pub fn wants_new_boot(&self) -> bool {
        self.lanes[&self.current].pending() > LIVE_PENDING_MAX && self.lanes.len() <= BACKLOG_BOOTS_MAX
    }

    /// Begins a boot. The one before ends at the sequence `last`, stored or still on its way to the store.
    pub fn begin(&mut self, boot: Boot, last: u64) {
        assert!(boot > self.current, "boots grow");
        self.lanes.get_mut(&self.current).expect("the current boot always has a lane").last = Some(last);
        self.lanes.retain(|_, lane| !lane.is_done());
        self.lanes.insert(boot, Cursor::begun());
        self.current = boot;
    }

    /// The store made a boot durable up to `upto`.
    pub fn stored(&mut self, boot: Boot, upto: u64) {
        if let Some(lane) = self.lanes.get_mut(&boot) {
            lane.stored(upto);
        }
    }

    /// The store gave these up. Returns how many of them the archive did not have, as far as is known here.
    pub fn lost(&mut self, boot: Boot, gap: Gap) -> u64 {
        // A boot that is not here is in the archive to its end.
        let lost = self.lanes.get_mut(&boot).map_or(0, |lane| lane.lose(gap));
        self.given_up |= lost > 0 && matches!(gap.cause, GapCause::TelemetryDropped | GapCause::Full);
        lost
    }

    /// A new connection: whatever the old one carried may be lost.
    pub fn connected(&mut self) {
        self.online = true;
        self.attempts = 0;
        self.window = WINDOW_STEP_EVENTS;
        self.quiet_until_ms = 0;
        self.resent += self.lanes.values().map(Cursor::in_flight).sum::<u64>();
        self.lanes.values_mut().for_each(Cursor::rewind);
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.online = false;
    }

    /// The coordinator's word on a boot. Returns the new watermark where it rose.
    pub fn ack(&mut self, now_ms: u64, ack: &Ack) -> Result<Option<u64>, AckError> {
        // A boot that is not here is finished: an old ack, retained or repeated. Or it is another agent's of this name.
        let Some(lane) = self.lanes.get_mut(&ack.boot) else { return Ok(None) };
        let risen = lane.ack(now_ms, ack)?;
        let (acked, found, done) = (lane.acked, lane.found, lane.is_done());
        if risen == 0 {
            return Ok(None);
        }
        if !found {
            self.acked += risen;
        }
        if done {
            self.lanes.remove(&ack.boot);
        }
        self.attempts = 0;
        self.given_up = false;
        self.window = (self.window + WINDOW_STEP_EVENTS).min(WINDOW_EVENTS_MAX);
        Ok(Some(acked))
    }

    /// The next batch or gap to hand over, if the window has room: the live boot first, then the oldest.
    pub fn next(&mut self, now_ms: u64) -> Option<Send> {
        if !self.online || now_ms < self.quiet_until_ms {
            return None;
        }
        self.time_out(now_ms);
        let (boot, room) = self.choose()?;
        let lane = self.lanes.get_mut(&boot).expect("the choice is among these");
        if lane.in_flight() == 0 {
            lane.since_ms = now_ms;
        }
        let (send, again) = lane.next(boot, room);
        self.resent += if again { send.count } else { 0 };
        Some(send)
    }

    /// The client would not take this batch: it was not sent.
    pub fn refused(&mut self, now_ms: u64, send: Send) {
        self.quiet_until_ms = now_ms + BUSY_PAUSE_MS;
        if let Some(lane) = self.lanes.get_mut(&send.boot) {
            lane.refused(&send);
        }
    }

    /// When [`Outbox::next`] may have something without any other call in between.
    pub fn next_wakeup_ms(&self) -> Option<u64> {
        if !self.online {
            return None;
        }
        let waiting = self.lanes.iter().filter(|(_, lane)| lane.in_flight() > 0);
        let resend = waiting.map(|(&boot, lane)| lane.since_ms.saturating_add(self.resend_after_ms(boot)));
        let unsent = self.choose().map(|_| self.quiet_until_ms);
        resend.map(|due_ms| due_ms.max(self.quiet_until_ms)).chain(unsent).min()
    }

    /// What it is at.
    pub fn mode(&self) -> Mode {
        match self.online {
            _ if self.given_up => Mode::Full,
            false => Mode::Offline,
            true if self.backlog() > 0 || self.lanes[&self.current].pending() > LIVE_PENDING_MAX => Mode::CatchingUp,
            true => Mode::Live,
        }
    }

    /// Stored and not yet in the archive, over all boots; a gap that is still to be told counts as one.
    pub fn pending(&self) -> u64 {
        self.lanes.values().map(Cursor::pending).sum()
    }

    /// Of [`Outbox::pending`], what is not of the live boot.
    pub fn backlog(&self) -> u64 {
        self.pending() - self.lanes[&self.current].pending()
    }

    /// How far the watermarks of the boots that began in this run have risen, together.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Events sent again, because no ack came or a hole was reported.
    pub fn resent(&self) -> u64 {
        self.resent
    }

    /// Whose turn it is, and for how many events there is room.
    fn choose(&self) -> Option<(Boot, u64)> {
        let live = self.lanes[&self.current].in_flight();
        let backlog = self.lanes.values().map(Cursor::in_flight).sum::<u64>() - live;
        // Without a backlog nothing needs to be kept free for it; the next one begins with an empty window.
        let kept_free = if self.lanes.len() > 1 { BACKLOG_RESERVE_EVENTS } else { 0 };
        let live_max = self.window.saturating_sub(backlog.max(kept_free)).max(LIVE_RESERVE_EVENTS);
        let backlog_max = self.window.saturating_sub(live.max(LIVE_RESERVE_EVENTS)).max(BACKLOG_RESERVE_EVENTS);
        let (live, backlog) = (live_max.saturating_sub(live), backlog_max.saturating_sub(backlog));
        if self.lanes[&self.current].ready(live) {
            return Some((self.current, live));
        }
        let mut older = self.lanes.iter().filter(|(boot, _)| **boot != self.current);
        older.find(|(_, lane)| lane.ready(backlog)).map(|(&boot, _)| (boot, backlog))
    }

    /// Takes for lost what has waited for too long. Each boot waits by itself, or progress in one would hide that another
    /// stands still.
    fn time_out(&mut self, now_ms: u64) {
        let due = |boot: Boot, lane: &Cursor| {
            lane.in_flight() > 0 && now_ms >= lane.since_ms.saturating_add(self.resend_after_ms(boot))
        };
        let late: Vec<Boot> =
            self.lanes.iter().filter(|(boot, lane)| due(**boot, lane)).map(|(&boot, _)| boot).collect();
        for boot in &late {
            let lane = self.lanes.get_mut(boot).expect("it was just seen");
            self.resent += lane.in_flight();
            lane.rewind();
        }
        if !late.is_empty() {
            self.attempts = self.attempts.saturating_add(1);
            self.window = WINDOW_STEP_EVENTS;
        }
    }

    fn resend_after_ms(&self, boot: Boot) -> u64 {
        let after_ms = (RESEND_AFTER_MS << self.attempts.min(8)).min(RESEND_AFTER_MS_MAX);
        after_ms + scatter([self.spread, boot.0, u64::from(self.attempts)]) % (after_ms / RESEND_SPREAD)
    }
}
