//! One walk over everything in the store: what is there, what it takes, and what should be there and is not.
//!
//! It changes nothing. A row that cannot be read is an error: the caller decides what becomes of the store.

use std::collections::BTreeMap;

use picket_shared::ids::Boot;
use picket_shared::store::{Reach, Store, StoreError};
use picket_shared::wire::{Gap, GapCause};

use super::lane::Lane;
use super::life::Lived;
use super::rows::{self, EventRow, all, gap_of, number, pair_of};

/// What a store holds.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) lanes: BTreeMap<Boot, Lane>,
    /// Sequences that were stored and are neither here, nor acknowledged, nor a known gap.
    pub(super) missing: Vec<(Boot, Gap)>,
    pub(super) lived: Option<Lived>,
    /// The numbers of the first dead letter, and of the next.
    pub(super) letters: (u64, u64),
}

/// Walks over `store`. `reaches` is how far each boot is known to have reached, and the newest may have gone `slack`
/// further.
pub(super) fn survey(store: &Store, reaches: &BTreeMap<u64, Reach>, slack: u64) -> Result<Survey, StoreError> {
    let mut found = Survey::default();
    for item in store.range(all(rows::BOOT)) {
        let (key, value) = item?;
        let (boot, acked) = number(&key[1..]).zip(number(&value)).ok_or_else(|| store.damaged("a boot's row"))?;
        found.lanes.insert(Boot(boot), Lane { acked, ..Lane::default() });
    }
    for (&boot, reach) in reaches {
        let lane = found.lanes.entry(Boot(boot)).or_default();
        lane.acked = lane.acked.max(reach.acked);
    }
    for item in store.range(all(rows::GAP)) {
        let (key, value) = item?;
        let gap = pair_of(&key).and_then(|(boot, from)| Some((boot, gap_of(from, &value)?)));
        let (boot, gap) = gap.ok_or_else(|| store.damaged("a gap's row"))?;
        found.lanes.entry(boot).or_default().join(gap);
    }
    let mut newest = None;
    // The last event of each lane.
    let mut walked: BTreeMap<Boot, u64> = BTreeMap::new();
    for item in store.range(all(rows::EVENT)) {
        let (key, value) = item?;
        let (boot, seq) = pair_of(&key).ok_or_else(|| store.damaged("an event's key"))?;
        let row = EventRow::decode(&value).ok_or_else(|| store.damaged("an event's row"))?;
        let lane = found.lanes.entry(boot).or_default();
        let last = walked.insert(boot, seq).unwrap_or(0);
        // Below the watermark old events are removed on purpose; above it nothing may be missing.
        if seq > lane.acked {
            lost(&mut found.missing, boot, lane, last.max(lane.acked) + 1, seq - 1);
        }
        lane.count(seq, row.class, row.cost());
        if newest.is_none_or(|newest: Lived| newest.age_s <= row.age_s) {
            newest = Some(Lived { age_s: row.age_s, wall_s: row.stored_at_s });
        }
    }
    let last_boot = found.lanes.keys().next_back().copied();
    for (&boot, lane) in &found.lanes {
        let reached = reaches.get(&boot.0).map_or(0, |reach| reach.stored).max(lane.stored);
        let further = if Some(boot) == last_boot { slack } else { 0 };
        let here = walked.get(&boot).copied().unwrap_or(0).max(lane.acked);
        lost(&mut found.missing, boot, lane, here + 1, reached.saturating_add(further));
    }
    let lived = store.get(rows::LIFE)?.map(|value| Lived::decode(&value).ok_or_else(|| store.damaged("its age")));
    found.lived = lived.transpose()?.or(newest);
    let mut letters = store.range(all(rows::LETTER)).map(|item| Ok(number(&item?.0[1..]).unwrap_or(0)));
    let first = letters.next().transpose()?;
    let last: Option<u64> = letters.try_fold(first, |_, number| number.map(Some))?;
    found.letters = (first.unwrap_or(0), last.map_or(0, |last| last + 1));
    Ok(found)
}

fn lost(missing: &mut Vec<(Boot, Gap)>, boot: Boot, lane: &Lane, from: u64, to: u64) {
    let gap = |(from, to)| (boot, Gap { from, to, cause: GapCause::StoreLost });
    missing.extend(lane.unexplained(from, to).into_iter().map(gap));
}
