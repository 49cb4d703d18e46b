//! An agent's disk in memory: what is synced survives a crash, what is not may or may not; there may be no room for all
//! that is owed, and a crash may cost a piece of what was synced.
//!
//! It does to the node what `picket_agent::store` and `recorder` do: in one step events become durable and what had to be
//! given up for them is noted; on opening, what is missing is a gap with its cause.

use std::collections::BTreeMap;

use fastrand::Rng;
use picket_agent::node::NewEvent;
use picket_agent::outbox::Lane;
use picket_shared::event::Class;
use picket_shared::ids::Boot;
use picket_shared::wire::{Gap, GapCause};

use crate::faults::Faults;

/// The disk of one agent.
#[derive(Debug, Default, Clone)]
pub struct AgentDisk {
    durable: BTreeMap<(Boot, u64), (Class, Vec<u8>)>,
    /// The last sequence of each boot that was ever durable or given up.
    ends: BTreeMap<Boot, u64>,
    /// What was given up, by sequence.
    given_up: BTreeMap<(Boot, u64), GapCause>,
    acked: BTreeMap<Boot, u64>,
    /// Watermarks are written and not synced.
    acked_unsynced: BTreeMap<Boot, u64>,
    /// Appended and not synced: consecutive within a boot.
    waiting: Vec<NewEvent>,
    boot: Option<Boot>,
}

/// What a sync did, in the order in which the node hears of it: first what was given up, then what is durable.
#[derive(Debug, Default)]
pub struct Synced {
    /// Events that are durable now.
    pub stored: Vec<NewEvent>,
    /// Sequences that are gone for good.
    pub given_up: Vec<(Boot, Gap)>,
    /// How far each boot is dealt with.
    pub upto: Vec<(Boot, u64)>,
}

impl AgentDisk {
    /// Begins a boot, as opening the store does.
    pub fn open(&mut self, now_s: u64, salt: u32) -> (Boot, Vec<(Boot, Lane)>) {
        let boot = Boot::after(self.boot, now_s, salt);
        self.boot = Some(boot);
        let owed = self.ends.iter().filter(|&(&boot, &end)| self.watermark(boot) < end);
        (boot, owed.map(|(&boot, &end)| (boot, self.lane(boot, end))).collect())
    }

    fn lane(&self, boot: Boot, end: u64) -> Lane {
        let acked = self.watermark(boot);
        let (mut gaps, mut expect) = (Vec::new(), acked + 1);
        let present = self.durable.range((boot, expect)..=(boot, end)).map(|((_, seq), _)| *seq);
        for seq in present.chain([end + 1]) {
            for missing in expect..seq {
                let cause = self.given_up.get(&(boot, missing)).copied().unwrap_or(GapCause::StoreLost);
                put(&mut gaps, missing, cause);
            }
            expect = seq + 1;
        }
        Lane { acked, stored: end, gaps }
    }

    fn watermark(&self, boot: Boot) -> u64 {
        let of = |rows: &BTreeMap<Boot, u64>| rows.get(&boot).copied().unwrap_or(0);
        of(&self.acked).max(of(&self.acked_unsynced))
    }

    /// Takes an event, not durable yet.
    pub fn append(&mut self, event: NewEvent) {
        self.waiting.push(event);
    }

    /// Makes everything durable for which there is room.
    pub fn sync(&mut self, faults: &Faults) -> Synced {
        self.acked.append(&mut self.acked_unsynced);
        let mut synced = Synced { stored: std::mem::take(&mut self.waiting), ..Synced::default() };
        for event in &synced.stored {
            self.ends.insert(event.boot, event.seq);
            self.boot = self.boot.max(Some(event.boot));
            match synced.upto.last_mut().filter(|(boot, _)| *boot == event.boot) {
                Some((_, upto)) => *upto = event.seq,
                None => synced.upto.push((event.boot, event.seq)),
            }
        }
        let gone = if faults.owed_max > 0 { self.make_room(&mut synced.stored, faults) } else { Vec::new() };
        for ((boot, seq), cause) in gone {
            self.given_up.insert((boot, seq), cause);
            match synced.given_up.last_mut().filter(|(of, gap)| (*of, gap.to + 1, gap.cause) == (boot, seq, cause)) {
                Some((_, gap)) => gap.to = seq,
                None => synced.given_up.push((boot, Gap { from: seq, to: seq, cause })),
            }
        }
        let kept = synced.stored.iter().map(|event| ((event.boot, event.seq), (event.class, event.bytes.clone())));
        self.durable.extend(kept);
        synced
    }

    /// Gives up as much as does not fit: the oldest telemetry first, and then events of any kind.
    fn make_room(&mut self, new: &mut Vec<NewEvent>, faults: &Faults) -> Vec<((Boot, u64), GapCause)> {
        let owed: Vec<((Boot, u64), Class)> = self
            .ends
            .keys()
            .flat_map(|&boot| self.durable.range((boot, self.watermark(boot) + 1)..=(boot, u64::MAX)))
            .map(|(key, (class, _))| (*key, *class))
            .collect();
        let mut surplus = (owed.len() + new.len()).saturating_sub(faults.owed_max);
        let mut gone = Vec::new();
        for (key, _) in owed.iter().filter(|(_, class)| *class == Class::Telemetry).take(surplus) {
            self.durable.remove(key);
            gone.push((*key, GapCause::TelemetryDropped));
        }
        surplus -= gone.len();
        if faults.gives_up_newest {
            let refused = new.split_off(new.len() - surplus.min(new.len()));
            gone.extend(refused.into_iter().map(|event| ((event.boot, event.seq), GapCause::Full)));
        } else {
            let confirmed = owed.iter().filter(|(_, class)| *class == Class::Confirmed).take(surplus);
            for (key, _) in confirmed {
                self.durable.remove(key);
                gone.push((*key, GapCause::Full));
            }
        }
        gone.sort_unstable();
        gone
    }

    /// Remembers a watermark, not durably.
    pub fn acked(&mut self, boot: Boot, upto: u64) {
        self.acked_unsynced.insert(boot, upto);
    }

    /// Reads events back: all of them, or those before the first that was given up a moment ago, of which the node has not
    /// heard yet.
    pub fn read(&self, boot: Boot, first: u64, count: u64) -> Result<Vec<Vec<u8>>, String> {
        let mut events = Vec::new();
        for seq in first..first + count {
            match self.durable.get(&(boot, seq)) {
                Some((_, bytes)) => events.push(bytes.clone()),
                None if self.given_up.contains_key(&(boot, seq)) => break,
                None => return Err(format!("{seq} of boot {boot} is to be sent, and was never stored")),
            }
        }
        Ok(events)
    }

    /// The process dies: of what was not synced, some part from the front reached the disk all the same. That part is
    /// returned, because it is durable now though nobody was told; and what the disk lost with it.
    pub fn crash(&mut self, rng: &mut Rng, faults: &Faults) -> Synced {
        let survived = rng.usize(..=self.waiting.len());
        self.waiting.truncate(survived);
        if rng.bool() {
            self.acked_unsynced.clear();
        }
        let mut synced = self.sync(faults);
        if faults.forgets_acks {
            self.acked.clear();
        }
        if rng.f64() < faults.damage {
            synced.given_up.extend(self.damage(rng));
        }
        synced
    }

    /// Loses the tail or the middle of a boot.
    fn damage(&mut self, rng: &mut Rng) -> Option<(Boot, Gap)> {
        let &boot = self.ends.keys().nth(rng.usize(..self.ends.len().max(1)))?;
        let end = self.ends[&boot];
        let from = rng.u64(1..=end);
        let to = if rng.bool() { end } else { rng.u64(from..=end) };
        for seq in from..=to {
            self.durable.remove(&(boot, seq));
        }
        Some((boot, Gap { from, to, cause: GapCause::StoreLost }))
    }
}

/// Adds one more sequence to gaps that end before it.
fn put(gaps: &mut Vec<Gap>, seq: u64, cause: GapCause) {
    match gaps.last_mut().filter(|gap| (gap.to + 1, gap.cause) == (seq, cause)) {
        Some(gap) => gap.to = seq,
        None => gaps.push(Gap { from: seq, to: seq, cause }),
    }
}
