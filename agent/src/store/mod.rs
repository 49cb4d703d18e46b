//! What this device remembers: events by (boot, sequence), and for each boot how far the archive has them.
//!
//! Nothing that was stored and is not acknowledged goes missing in silence: what the disk loses, and what is given up for
//! want of room, becomes a gap that is kept and told until it is acknowledged (see `survey.rs`, `retention.rs`). It holds
//! no thread and no policy of when to write: see `recorder.rs`.

mod inspect;
mod lane;
mod life;
mod retention;
mod rows;
mod standby;
mod survey;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use picket_shared::event::Class;
use picket_shared::ids::Boot;
use picket_shared::keyfile::KeyfileError;
use picket_shared::store::{Batch, Extent, Reach, Store, StoreError};
use picket_shared::wire::{Gap, GapCause};

pub use inspect::{BootReport, compact, export, verify};
use lane::{Joined, Lane};
use life::Life;
pub use retention::{Config, Total};
use retention::{GIVEN_UP, Limits, index};
pub use rows::Letter;
use rows::{EventRow, GAP_COST_BYTES, all, boot_key, cost, event_key, gap_key, gap_value, letter_key, pair_of};
use survey::{Survey, survey};

use crate::duty::Memory;
use crate::node::NewEvent;
use crate::outbox;

/// Dead letters that are kept: the newest.
pub const DEAD_LETTERS_MAX: u64 = 100;
/// Events that one batch removes.
const REMOVED_MAX: usize = 512;
/// How often age is looked at while events come.
const AGED_EVERY: Duration = Duration::from_secs(60);
/// A database this many times larger than what stands in it is written anew when it is opened …
const COMPACT_FACTOR: u64 = 4;
/// … but not for less than this: sled takes its room in large steps.
const COMPACT_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// What stands for a loss that cannot be counted.
const UNCOUNTED: Gap = Gap { from: 1, to: 1, cause: GapCause::StoreLostUncounted };

/// The device's memory.
pub struct AgentStore {
    store: Store,
    standby_file: PathBuf,
    extent: Extent,
    limits: Limits,
    lanes: BTreeMap<Boot, Lane>,
    life: Life,
    /// The numbers of the first dead letter, and of the next.
    letters: (u64, u64),
    /// Gaps that nobody was told of yet.
    untold: Vec<(Boot, Gap)>,
    problems: Vec<String>,
    /// The last time that a caller gave, in seconds since 1970.
    now_s: u64,
    age_due: Instant,
    /// A call into the database failed: it must be opened anew.
    broken: Cell<bool>,
}

/// What opening found.
#[derive(Debug)]
pub struct Found {
    /// The boot that now begins, durable already.
    pub boot: Boot,
    /// Every earlier boot that still has events here, or owes a gap.
    pub lanes: Vec<(Boot, outbox::Lane)>,
    /// What was lost and what could not be relied on, in a sentence each.
    pub problems: Vec<String>,
    /// What this node stood by for when it was last told.
    pub standby: Option<Memory>,
}

/// One event as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// The boot.
    pub boot: Boot,
    /// The sequence in it.
    pub seq: u64,
    /// What it is worth when room is short.
    pub class: Class,
    /// Seconds since 1970 when it was stored, by the device's clock of then.
    pub stored_at_s: u64,
    /// The encoded event.
    pub bytes: Vec<u8>,
}

/// An event that is to go.
struct Victim {
    boot: Boot,
    seq: u64,
    class: Class,
    cost: u64,
}

impl AgentStore {
    /// Opens the memory in `dir` and begins a boot at `now_s` seconds since 1970; see [`Boot::after`] for `salt`.
    ///
    /// A damaged store is set aside and a new one begun with what can still be read; what is missing becomes gaps.
    pub fn open(dir: &Path, config: &Config, now_s: u64, salt: u32) -> Result<(AgentStore, Found), StoreError> {
        let mut memory = AgentStore {
            store: Store::claim(dir, rows::STEPS)?,
            standby_file: standby::path(dir),
            extent: Extent::open(dir),
            limits: config.limits(),
            lanes: BTreeMap::new(),
            life: Life::go_on(None, now_s),
            letters: (0, 0),
            untold: Vec::new(),
            problems: Vec::new(),
            now_s,
            age_due: Instant::now(),
            broken: Cell::new(false),
        };
        // A new store's extent is made before its database, so that one without the other is a loss and no beginning.
        let mut blind = memory.store.exists() && memory.extent.is_lost();
        if !memory.store.exists() && memory.extent.is_lost() {
            memory.note(0)?;
        }
        let (reaches, slack) = (memory.extent.lanes().clone(), memory.extent.slack());
        let seen = memory.enter(&reaches, slack, blind)?;
        memory.life = Life::go_on(seen.lived, now_s);
        memory.take(seen);
        // Before there were extents there was none to lose.
        blind &= !memory.store.upgraded();
        memory.doubt_extent(blind);
        memory.compact_if_loose()?;

        // The extent names the newest boot too, so it is a lane even where the database lost it.
        let next = |memory: &Self| Boot::after(memory.lanes.keys().next_back().copied(), now_s, salt);
        let mut batch = Batch::default();
        if blind {
            let (boot, mut lane) = (next(&memory), Lane::default());
            batch.put(&boot_key(boot), &0u64.to_be_bytes());
            put_join(&mut batch, boot, &lane.join(UNCOUNTED));
            memory.lanes.insert(boot, lane);
        }
        let boot = next(&memory);
        let lanes = memory.lanes.iter().filter(|(_, lane)| !lane.is_empty());
        let lanes = lanes.map(|(boot, lane)| (*boot, lane.to_outbox())).collect();
        memory.begin(boot, batch)?;
        // They are in the lanes that are handed out.
        memory.untold.clear();
        memory.retain(true)?;
        let standby = standby::read(&memory.standby_file).unwrap_or_else(|sentence| {
            memory.problems.push(sentence);
            None
        });
        let problems = memory.problems.clone();
        Ok((memory, Found { boot, lanes, problems, standby }))
    }

    /// Keeps what this node stands by for over a restart.
    pub fn keep_standby(&self, memory: &Memory) -> Result<(), KeyfileError> {
        standby::write(&self.standby_file, memory)
    }

    /// Opens the memory in `dir` to read it, without beginning a boot.
    pub fn look(dir: &Path) -> Result<AgentStore, StoreError> {
        Ok(AgentStore {
            store: Store::open(dir, rows::STEPS, 0)?,
            standby_file: standby::path(dir),
            extent: Extent::open(dir),
            limits: Config::default().limits(),
            lanes: BTreeMap::new(),
            life: Life::go_on(None, 0),
            letters: (0, 0),
            untold: Vec::new(),
            problems: Vec::new(),
            now_s: 0,
            age_due: Instant::now(),
            broken: Cell::new(false),
        })
    }

    /// Opens the store and walks over it. Where it is damaged, or less than it reached, it is set aside, and its successor
    /// with what could be saved is walked over instead.
    /// `blind` says that `reaches` is not known.
    fn enter(&mut self, reaches: &BTreeMap<u64, Reach>, slack: u64, blind: bool) -> Result<Survey, StoreError> {
        let seen = self.store.reopen(self.now_s).and_then(|()| survey(&self.store, reaches, 0));
        let why = match seen {
            Ok(seen) if seen.missing.is_empty() => return Ok(seen),
            Ok(_) => "it ends, or has holes, where it did not before".to_owned(),
            Err(StoreError::Damaged(_, why)) => why,
            Err(other) => return Err(other),
        };
        let settle = |new: &mut Store| {
            let mut seen = survey(new, reaches, slack)?;
            let mut batch = Batch::default();
            for (boot, gap) in &seen.missing {
                let lane = seen.lanes.get_mut(boot).expect("what is missing is missing from a lane");
                put_join(&mut batch, *boot, &lane.join(*gap));
            }
            for (boot, lane) in &seen.lanes {
                batch.put(&boot_key(*boot), &lane.acked.to_be_bytes());
            }
            new.write(batch)?;
            Ok(seen)
        };
        let (salvage, seen) = self.store.set_aside(self.now_s, settle)?;
        let lost: u64 = seen.missing.iter().map(|(_, gap)| gap.to - gap.from + 1).sum();
        let lost = match lost {
            _ if blind => "nobody knows how many events that were owed are lost; a gap says so".to_owned(),
            0 => "no event that was owed is lost".to_owned(),
            lost => format!("up to {lost} events that were owed are lost and told as gaps"),
        };
        let (dir, at) = (self.store.dir().display(), salvage.kept_at.display());
        let sentence = format!("the store {dir} was damaged ({why}): {lost}; the damaged one is kept as {at}");
        tracing::error!("{sentence}");
        self.problems.push(sentence);
        Ok(seen)
    }

    /// Takes over what a walk has found, and notes the gaps that are news.
    fn take(&mut self, seen: Survey) {
        for (boot, lane) in &seen.lanes {
            let known = self.lanes.get(boot);
            for gap in lane.gaps.values() {
                let news = known.map_or(vec![(gap.from, gap.to)], |known| known.unexplained(gap.from, gap.to));
                self.untold.extend(news.into_iter().map(|(from, to)| (*boot, Gap { from, to, cause: gap.cause })));
            }
        }
        self.lanes = seen.lanes;
        self.letters = seen.letters;
    }

    /// An extent that is damaged in part costs nothing while the database is whole, and must be known for the day it is
    /// not. Where nothing of it can be read, a database that looks whole may have lost its end.
    fn doubt_extent(&mut self, blind: bool) {
        let doubted = blind || (!self.lanes.is_empty() && !self.store.upgraded());
        if let Some(problem) = self.extent.problem().filter(|_| doubted) {
            let sentence = match blind {
                true => format!(
                    "{problem}: whether the database lost its end, nobody knows; a gap says so, and it is begun anew"
                ),
                false => format!("{problem}; it is written anew"),
            };
            tracing::warn!("{sentence}");
            self.problems.push(sentence);
        }
    }

    fn compact_if_loose(&mut self) -> Result<(), StoreError> {
        let live: u64 = self.lanes.values().map(|lane| lane.owed_bytes() + kept_bytes(lane)).sum();
        if self.store.size_on_disk_bytes() <= live * COMPACT_FACTOR + COMPACT_BYTES_MIN {
            return Ok(());
        }
        match self.store.compact(self.now_s) {
            // There is no room to do it in, and the store is as it was.
            Err(StoreError::Full(_)) => self.store.reopen(self.now_s),
            other => other,
        }
    }

    fn begin(&mut self, boot: Boot, mut batch: Batch) -> Result<(), StoreError> {
        // A boot without anything owes nothing; its row would only grow the list.
        for empty in self.lanes.extract_if(.., |_, lane| lane.is_empty()) {
            batch.remove(&boot_key(empty.0));
        }
        self.lanes.insert(boot, Lane::default());
        batch.put(&boot_key(boot), &0u64.to_be_bytes());
        batch.put(rows::LIFE, &self.life.encode(self.now_s));
        self.store.write(batch)?;
        self.store.sync()?;
        self.note(0)?;
        self.extent.sync()
    }

    /// Appends events, all or none, and makes them durable. Within a boot they are consecutive. What had to be given up to
    /// make room for them is returned, with what was found lost since the last call.
    pub fn append(&mut self, now_s: u64, events: &[NewEvent]) -> Result<Vec<(Boot, Gap)>, StoreError> {
        self.store.make_room()?;
        self.now_s = now_s;
        let appended = self.append_all(now_s, events);
        self.heed(appended)
    }

    fn append_all(&mut self, now_s: u64, events: &[NewEvent]) -> Result<Vec<(Boot, Gap)>, StoreError> {
        let mut batch = Batch::default();
        let age_s = self.life.age_s();
        for NewEvent { boot, seq, class, bytes } in events {
            if !self.lanes.contains_key(boot) {
                self.lanes.insert(*boot, Lane::default());
                batch.put(&boot_key(*boot), &0u64.to_be_bytes());
            }
            batch.put(&event_key(*boot, *seq), &EventRow { class: *class, stored_at_s: now_s, age_s, bytes }.encode());
        }
        batch.put(rows::LIFE, &self.life.encode(now_s));
        let coming: u64 = events.iter().map(|event| cost(&event.bytes)).sum();
        let victims = self.beyond_owed(coming)?;
        let joined = self.give_up(&victims, &mut batch);
        if let Err(error) = self.store.write(batch).and_then(|()| self.store.sync()) {
            self.part(&joined);
            return Err(error);
        }
        for victim in &victims {
            let lane = self.lanes.get_mut(&victim.boot).expect("it was found in a lane");
            lane.owed[index(victim.class)].take(victim.cost);
            lane.owed_from[index(victim.class)] = victim.seq + 1;
        }
        self.untold.extend(told(&victims));
        for event in events {
            let lane = self.lanes.get_mut(&event.boot).expect("it was put there above");
            // After an error it may be there already.
            if event.seq > lane.stored {
                lane.count(event.seq, event.class, cost(&event.bytes));
            }
        }
        self.note(events.len() as u64)?;
        self.retain(false)?;
        Ok(std::mem::take(&mut self.untold))
    }

    /// The oldest of what is owed that finds no room beside what is coming.
    fn beyond_owed(&self, coming: u64) -> Result<Vec<Victim>, StoreError> {
        let owed: u64 = self.lanes.values().map(Lane::owed_bytes).sum();
        let mut excess = (owed + coming).saturating_sub(self.limits.owed_bytes_max);
        let mut victims = Vec::new();
        for class in GIVEN_UP {
            for (&boot, lane) in self.lanes.iter().filter(|(_, lane)| lane.owed[index(class)].events > 0) {
                let from = lane.owed_from[index(class)].max(lane.acked + 1);
                for item in self.store.range(event_key(boot, from)..=event_key(boot, lane.stored)) {
                    if excess == 0 || victims.len() >= REMOVED_MAX {
                        return Ok(victims);
                    }
                    let victim = self.victim(item?)?;
                    if victim.class == class {
                        // Its gap may need a row of its own.
                        excess = excess.saturating_sub(victim.cost - GAP_COST_BYTES.min(victim.cost));
                        victims.push(victim);
                    }
                }
            }
        }
        Ok(victims)
    }

    fn give_up(&mut self, victims: &[Victim], batch: &mut Batch) -> Vec<(Boot, Joined)> {
        victims.iter().for_each(|victim| batch.remove(&event_key(victim.boot, victim.seq)));
        let join = |(boot, gap): (Boot, Gap)| {
            let joined = self.lanes.get_mut(&boot).expect("it was found in a lane").join(gap);
            put_join(batch, boot, &joined);
            (boot, joined)
        };
        told(victims).into_iter().map(join).collect()
    }

    fn part(&mut self, joined: &[(Boot, Joined)]) {
        for (boot, joined) in joined.iter().rev() {
            self.lanes.get_mut(boot).expect("it was joined in a lane").part(joined);
        }
    }

    /// The way back after an error: see [`Store::reopen`]. What the disk turns out to have lost is returned by the next
    /// [`AgentStore::append`]. Where the disk was only found full before anything was written, there is nothing to do.
    pub fn reopen(&mut self) -> Result<(), StoreError> {
        if !self.broken.get() {
            return Ok(());
        }
        let reaches = self.lanes.iter().map(|(boot, lane)| (boot.0, lane.reach())).collect();
        let seen = self.enter(&reaches, 0, false)?;
        self.take(seen);
        self.broken.set(false);
        Ok(())
    }

    /// Closes the database, as sled closes itself after a failed write.
    #[cfg(test)]
    pub(crate) fn break_down(&mut self) {
        self.store.close();
    }

    fn heed<T>(&self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        self.broken.set(self.broken.get() || done.is_err());
        done
    }

    /// The encoded events `first..first + count` of a boot; shorter where some are missing.
    pub fn read(&self, boot: Boot, first: u64, count: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        self.heed(self.read_all(boot, first, count))
    }

    fn read_all(&self, boot: Boot, first: u64, count: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let keys = event_key(boot, first)..event_key(boot, first.saturating_add(count));
        let mut events = Vec::new();
        for (expect, item) in (first..).zip(self.store.range(keys)) {
            let event = self.event(item?)?;
            if event.seq != expect {
                break;
            }
            events.push(event.bytes);
        }
        Ok(events)
    }

    /// Remembers a watermark, and forgets what the archive now has and nobody here needs. Not made durable: a watermark
    /// that is forgotten is told again.
    pub fn acked(&mut self, boot: Boot, upto: u64) -> Result<(), StoreError> {
        let remembered = self.remember(boot, upto);
        self.heed(remembered)
    }

    fn remember(&mut self, boot: Boot, upto: u64) -> Result<(), StoreError> {
        let Some(lane) = self.lanes.get(&boot).filter(|lane| upto > lane.acked) else { return Ok(()) };
        let mut batch = Batch::default();
        batch.put(&boot_key(boot), &upto.to_be_bytes());
        let mut over = Vec::new();
        for item in self.store.range(event_key(boot, lane.acked + 1)..=event_key(boot, upto)) {
            over.push(self.victim(item?)?);
        }
        let told: Vec<u64> =
            lane.gaps.range(..=upto).filter(|(_, gap)| gap.to <= upto).map(|(from, _)| *from).collect();
        told.iter().for_each(|from| batch.remove(&gap_key(boot, *from)));
        self.store.write(batch)?;
        let lane = self.lanes.get_mut(&boot).expect("it was there");
        lane.acked = upto;
        lane.gaps.retain(|_, gap| gap.to > upto);
        for Victim { class, cost, .. } in over {
            lane.owed[index(class)].take(cost);
            lane.kept[index(class)].add(cost);
        }
        self.note(0)?;
        self.retain(false)
    }

    /// Removes what is acknowledged and too old, or too much: one batch of it, or all.
    fn retain(&mut self, all: bool) -> Result<(), StoreError> {
        loop {
            let victims = self.surplus(all)?;
            let mut batch = Batch::default();
            for victim in &victims {
                batch.remove(&event_key(victim.boot, victim.seq));
                let lane = self.lanes.get_mut(&victim.boot).expect("it was found in a lane");
                lane.kept[index(victim.class)].take(victim.cost);
                lane.kept_from[index(victim.class)] = victim.seq + 1;
            }
            let newest = self.lanes.keys().next_back().copied();
            let empty = self.lanes.extract_if(.., |boot, lane| lane.is_empty() && Some(*boot) != newest);
            let empty: Vec<Boot> = empty.map(|(boot, _)| boot).collect();
            empty.iter().for_each(|boot| batch.remove(&boot_key(*boot)));
            if victims.is_empty() && empty.is_empty() {
                return Ok(());
            }
            self.store.write(batch)?;
            if !all {
                return Ok(());
            }
        }
    }

    fn surplus(&mut self, all: bool) -> Result<Vec<Victim>, StoreError> {
        let look_at_age = all || Instant::now() >= self.age_due;
        let age_s = self.life.age_s();
        let mut victims = Vec::new();
        for class in GIVEN_UP {
            let limit = self.limits.kept[index(class)];
            let kept: u64 = self.lanes.values().map(|lane| lane.kept[index(class)].bytes).sum();
            let mut excess = kept.saturating_sub(limit.bytes_max);
            let lanes = self.lanes.iter().filter(|(_, lane)| lane.kept[index(class)].events > 0);
            'class: for (&boot, lane) in lanes {
                if excess == 0 && !look_at_age {
                    break;
                }
                let from = lane.kept_from[index(class)];
                for item in self.store.range(event_key(boot, from)..=event_key(boot, lane.acked)) {
                    let (key, value) = item?;
                    let row = EventRow::decode(&value).ok_or_else(|| self.store.damaged("an event's row"))?;
                    if row.class != class {
                        continue;
                    }
                    let old = look_at_age && age_s.saturating_sub(row.age_s) >= limit.age_s_max;
                    if victims.len() >= REMOVED_MAX || (excess == 0 && !old) {
                        break 'class;
                    }
                    let (_, seq) = pair_of(&key).ok_or_else(|| self.store.damaged("an event's key"))?;
                    excess = excess.saturating_sub(row.cost());
                    victims.push(Victim { boot, seq, class, cost: row.cost() });
                }
            }
        }
        if look_at_age && victims.len() < REMOVED_MAX {
            self.age_due = Instant::now() + AGED_EVERY;
        }
        Ok(victims)
    }

    /// Keeps something that could not be sent as it was, for a person to see: durable, the newest [`DEAD_LETTERS_MAX`].
    pub fn dead_letter(&mut self, now_s: u64, reason: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.store.make_room()?;
        let (first, next) = self.letters;
        let keep_from = (next + 1).saturating_sub(DEAD_LETTERS_MAX).max(first);
        let mut batch = Batch::default();
        batch.put(&letter_key(next), &Letter::encode(now_s, reason, bytes));
        (first..keep_from).for_each(|number| batch.remove(&letter_key(number)));
        let written = self.store.write(batch).and_then(|()| self.store.sync());
        self.heed(written)?;
        self.letters = (keep_from, next + 1);
        Ok(())
    }

    /// Every dead letter, oldest first.
    pub fn dead_letters(&self) -> impl Iterator<Item = Result<Letter, StoreError>> + '_ {
        self.store.range(all(rows::LETTER)).map(|item| {
            let (_, value) = item?;
            Letter::decode(&value).ok_or_else(|| self.store.damaged("a dead letter"))
        })
    }

    /// Every event here, oldest first.
    pub fn events(&self) -> impl Iterator<Item = Result<StoredEvent, StoreError>> + '_ {
        self.store.range(all(rows::EVENT)).map(|item| self.event(item?))
    }

    /// What was found wrong since the store was opened, in a sentence each.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    fn event(&self, (key, value): (Vec<u8>, Vec<u8>)) -> Result<StoredEvent, StoreError> {
        event_of(&key, &value).ok_or_else(|| self.store.damaged("an event's row"))
    }

    fn victim(&self, item: (Vec<u8>, Vec<u8>)) -> Result<Victim, StoreError> {
        let StoredEvent { boot, seq, class, bytes, .. } = self.event(item)?;
        Ok(Victim { boot, seq, class, cost: cost(&bytes) })
    }

    fn note(&mut self, events: u64) -> Result<(), StoreError> {
        let highest = self.lanes.keys().next_back().map_or(0, |boot| boot.0).max(self.extent.highest());
        self.extent.note(highest, self.lanes.iter().map(|(boot, lane)| (boot.0, lane.reach())), events)
    }
}

fn event_of(key: &[u8], value: &[u8]) -> Option<StoredEvent> {
    let ((boot, seq), row) = (pair_of(key)?, EventRow::decode(value)?);
    Some(StoredEvent { boot, seq, class: row.class, stored_at_s: row.stored_at_s, bytes: row.bytes.to_vec() })
}

fn kept_bytes(lane: &Lane) -> u64 {
    lane.kept.iter().map(|total| total.bytes).sum()
}

/// The gaps that these leave, those that touch as one.
fn told(victims: &[Victim]) -> Vec<(Boot, Gap)> {
    let mut gaps: Vec<(Boot, Gap)> = Vec::new();
    for victim in victims {
        let cause = match victim.class {
            Class::Telemetry => GapCause::TelemetryDropped,
            Class::Confirmed => GapCause::Full,
        };
        match gaps.last_mut() {
            Some((boot, gap)) if *boot == victim.boot && gap.to + 1 == victim.seq && gap.cause == cause => {
                gap.to = victim.seq;
            }
            _ => gaps.push((victim.boot, Gap { from: victim.seq, to: victim.seq, cause })),
        }
    }
    gaps
}

fn put_join(batch: &mut Batch, boot: Boot, joined: &Joined) {
    joined.gone.iter().for_each(|gap| batch.remove(&gap_key(boot, gap.from)));
    batch.put(&gap_key(boot, joined.come.from), &gap_value(&joined.come));
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod damage_tests;
