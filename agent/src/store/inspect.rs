//! `picket-agent store verify|export|compact`: a person's look into a store whose agent does not run.
//!
//! Verifying and exporting work on a copy, because opening a store changes it, a damaged one above all.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use picket_shared::codec;
use picket_shared::event::{Class, Event};
use picket_shared::ids::Boot;
use picket_shared::store::{Extent, Store, StoreError, inspect};
use picket_shared::wire::Gap;
use serde::Serialize;

use super::retention::{Total, index};
use super::rows::{self, Letter, STEPS, all};
use super::{event_of, survey};

/// What stands in the store of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootReport {
    /// The boot.
    pub boot: Boot,
    /// Events that can be read.
    pub events: u64,
    /// Events in the bytes of an older or newer program, which are sent all the same.
    pub undecodable: u64,
    /// The archive has everything up to here.
    pub acked: u64,
    /// The last sequence.
    pub stored: u64,
    /// Gaps that are known and not yet acknowledged.
    pub gaps: Vec<Gap>,
    /// Sequences that should be here and are not: what the next start would report as lost.
    pub missing: Vec<Gap>,
    /// Bytes of `new` and `end` events, of the limits in the configuration.
    pub confirmed_bytes: u64,
    /// Bytes of `update` events.
    pub telemetry_bytes: u64,
}

/// Reads everything, changes nothing, and says what is there by boot. A store that cannot be read whole is an error.
pub fn verify(dir: &Path) -> Result<Vec<BootReport>, StoreError> {
    inspect(dir, STEPS, |store| {
        let extent = Extent::open(dir);
        let seen = survey::survey(store, extent.lanes(), 0)?;
        let mut undecodable: BTreeMap<Boot, u64> = BTreeMap::new();
        for event in events(store) {
            let event = event?;
            if codec::decode::<Event>(&event.bytes).is_err() {
                *undecodable.entry(event.boot).or_default() += 1;
            }
        }
        let report = |(boot, lane): (&Boot, &super::Lane)| {
            let sum = |class: Class| {
                let (kept, owed) = (lane.kept[index(class)], lane.owed[index(class)]);
                Total { events: kept.events + owed.events, bytes: kept.bytes + owed.bytes }
            };
            let (confirmed, telemetry) = (sum(Class::Confirmed), sum(Class::Telemetry));
            BootReport {
                boot: *boot,
                events: confirmed.events + telemetry.events,
                undecodable: undecodable.get(boot).copied().unwrap_or(0),
                acked: lane.acked,
                stored: lane.stored,
                gaps: lane.gaps.values().copied().collect(),
                missing: seen.missing.iter().filter(|(of, _)| of == boot).map(|(_, gap)| *gap).collect(),
                confirmed_bytes: confirmed.bytes,
                telemetry_bytes: telemetry.bytes,
            }
        };
        Ok(seen.lanes.iter().map(report).collect())
    })
}

/// Writes every event, or every dead letter, as one JSON object a line. The outer error is the store's, the inner one the
/// writer's.
pub fn export(dir: &Path, dead_letters: bool, out: &mut impl Write) -> Result<io::Result<()>, StoreError> {
    inspect(dir, STEPS, |store| if dead_letters { export_letters(store, out) } else { export_events(store, out) })
}

/// Writes the store anew without the room that forgotten events still take; its size before and after.
pub fn compact(dir: &Path, now_s: u64) -> Result<(u64, u64), StoreError> {
    let mut store = Store::claim(dir, STEPS)?;
    if !dir.exists() {
        return Err(StoreError::Denied(dir.to_owned(), "there is no store".into()));
    }
    store.reopen(now_s)?;
    let before = store.size_on_disk_bytes();
    store.compact(now_s)?;
    Ok((before, store.size_on_disk_bytes()))
}

#[derive(Serialize)]
struct EventLine {
    boot: Boot,
    seq: u64,
    class: Class,
    /// Seconds since 1970.
    stored_at: u64,
    /// Absent where this build cannot read it.
    event: Option<Event>,
}

#[derive(Serialize)]
struct LetterLine {
    stored_at: u64,
    reason: String,
    bytes_hex: String,
}

fn export_events(store: &Store, out: &mut impl Write) -> Result<io::Result<()>, StoreError> {
    for event in events(store) {
        let super::StoredEvent { boot, seq, class, stored_at_s: stored_at, bytes } = event?;
        let line = EventLine { boot, seq, class, stored_at, event: codec::decode(&bytes).ok() };
        if let Err(error) = put(out, &line) {
            return Ok(Err(error));
        }
    }
    Ok(out.flush())
}

fn export_letters(store: &Store, out: &mut impl Write) -> Result<io::Result<()>, StoreError> {
    for item in store.range(all(rows::LETTER)) {
        let letter = Letter::decode(&item?.1).ok_or_else(|| store.damaged("a dead letter"))?;
        let bytes_hex = letter.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = LetterLine { stored_at: letter.stored_at_s, reason: letter.reason, bytes_hex };
        if let Err(error) = put(out, &line) {
            return Ok(Err(error));
        }
    }
    Ok(out.flush())
}

fn put(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string(line).expect("a line has string keys and no failing serialiser");
    writeln!(out, "{text}")
}

fn events(store: &Store) -> impl Iterator<Item = Result<super::StoredEvent, StoreError>> + '_ {
    store.range(all(rows::EVENT)).map(|item| {
        let (key, value) = item?;
        event_of(&key, &value).ok_or_else(|| store.damaged("an event's row"))
    })
}
