//! What cameras that look at the same ground say of each other's events, with nobody asked: whom one saw hardly and its neighbour
//! surely was there; and whom one saw for a while, and a neighbour that watched all the time did not see at all, was nobody. It only
//! compares archived events and names the events that devices may learn from; it never hears a picture, and its word is no person's.
//! Pure.

use std::collections::VecDeque;

use picket_shared::clock::Now;
use picket_shared::ids::{CameraId, EventId, StationId, ZoneId};
use picket_shared::learn::label::Label;
use picket_shared::view::SeenEvent;
use serde::Deserialize;

use crate::archive::Commit;
use crate::view::seen;

/// Pairs of cameras that see the same ground.
pub const OVERLAPS_MAX: usize = 64;
/// So sure a neighbour must be, to vouch for somebody.
const SURE_MIN: f32 = 0.5;
/// Clocks of devices differ, and of one moment one camera says something a little later.
const SLACK_MS: u64 = 2_000;
/// For so long somebody must be seen there before it counts that nobody else saw him: a glance can be missed.
const STAY_MS_MIN: u64 = 3_000;
/// An event is judged so long after its end: what its neighbours saw has arrived by then.
const WAIT_MS: u64 = 10_000;
/// Neighbours are looked after so often.
const LOOK_MS: u64 = 1_000;
/// Who was not looked after for so long may have been blind meanwhile.
const GAP_MS: u64 = 5_000;
/// Stays in one zone that are remembered; the oldest go.
const STAYS_MAX: usize = 64;

/// A zone of one camera.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spot {
    /// The station that the camera belongs to.
    pub station: StationId,
    /// The camera.
    pub camera: CameraId,
    /// The zone.
    pub zone: ZoneId,
}

/// Two zones that are the same ground, seen by two cameras.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlap {
    /// As one sees it.
    pub one: Spot,
    /// As the other does.
    pub other: Spot,
}

/// Refuses pairs that cannot be meant, in a sentence.
pub fn check(overlaps: &[Overlap]) -> Result<(), String> {
    if overlaps.len() > OVERLAPS_MAX {
        return Err(format!("learn.overlap has {} pairs; at most {OVERLAPS_MAX} are compared", overlaps.len()));
    }
    let of_one = |Overlap { one, other }: &&Overlap| one.station == other.station && one.camera == other.camera;
    match overlaps.iter().find(of_one) {
        Some(Overlap { one, .. }) => Err(format!(
            "learn.overlap names the camera {} of {} twice in one pair; name two cameras that see the same ground",
            one.camera, one.station
        )),
        None => Ok(()),
    }
}

/// Somebody in a zone.
#[derive(Debug, Clone)]
struct Stay {
    event: EventId,
    /// He was seen in the zone from here to there, in milliseconds since 1970.
    seen_ms: (u64, u64),
    /// And surely, from here to there.
    sure_ms: Option<(u64, u64)>,
    /// The highest score of the whole event.
    top_score: f32,
    /// For how long he was there.
    dwell_ms: u64,
    /// The event ended.
    ended_ms: Option<u64>,
    judged: bool,
}

impl Stay {
    fn is_with(&self, (from_ms, to_ms): (u64, u64)) -> bool {
        touch(self.seen_ms, (from_ms, to_ms))
    }
}

fn touch(one: (u64, u64), other: (u64, u64)) -> bool {
    one.0 <= other.1.saturating_add(SLACK_MS) && other.0 <= one.1.saturating_add(SLACK_MS)
}

/// One side of an overlap.
#[derive(Debug)]
struct Side {
    spot: Spot,
    stays: VecDeque<Stay>,
    /// Who was here until then may be forgotten.
    forgot_ms: u64,
    /// Its camera watches since then, without a gap.
    watches_since_ms: Option<u64>,
}

impl Side {
    fn look(&mut self, event: &SeenEvent) {
        let Spot { station, camera, zone } = &self.spot;
        if event.station != *station || event.camera != *camera {
            return;
        }
        let frame_ms = ms(event.frame_time);
        let is_here = event.current_zones.contains(zone);
        let known = self.stays.iter().position(|stay| stay.event == event.id);
        if known.is_none() && is_here {
            self.stays.push_back(Stay {
                event: event.id.clone(),
                seen_ms: (frame_ms, frame_ms),
                sure_ms: None,
                top_score: 0.0,
                dwell_ms: 0,
                ended_ms: None,
                judged: false,
            });
            if self.stays.len() > STAYS_MAX
                && let Some(oldest) = self.stays.pop_front()
            {
                self.forgot_ms = self.forgot_ms.max(oldest.seen_ms.1);
            }
        }
        let Some(stay) = self.stays.iter_mut().find(|stay| stay.event == event.id) else { return };
        if is_here {
            let longer = |(from, to): (u64, u64)| (from.min(frame_ms), to.max(frame_ms));
            stay.seen_ms = longer(stay.seen_ms);
            if event.score >= SURE_MIN {
                stay.sure_ms = Some(longer(stay.sure_ms.unwrap_or((frame_ms, frame_ms))));
            }
        }
        stay.top_score = stay.top_score.max(event.top_score);
        let dwell = event.entered_zones.iter().zip(&event.dwell_times).find(|(entered, _)| *entered == zone);
        stay.dwell_ms = stay.dwell_ms.max(dwell.map_or(0, |(_, seconds)| ms(*seconds)));
        stay.ended_ms = event.end_time.map(ms).or(stay.ended_ms);
    }

    /// What this side's events were, by what the other side saw.
    fn judge(&mut self, now: Now, other: &Side, labels: &mut Vec<Label>) {
        let due =
            |stay: &Stay| !stay.judged && stay.ended_ms.is_some_and(|end| now.unix_ms >= end.saturating_add(WAIT_MS));
        for at in 0..self.stays.len() {
            if !due(&self.stays[at]) {
                continue;
            }
            self.stays[at].judged = true;
            let stay = &self.stays[at];
            // Whoever else was here may be the one whom the neighbour saw.
            let alone = self.stays.iter().filter(|of_here| of_here.is_with(stay.seen_ms)).count() == 1;
            let vouches = |theirs: &Stay| theirs.sure_ms.is_some_and(|sure_ms| touch(sure_ms, stay.seen_ms));
            let mut theirs = other.stays.iter().filter(|theirs| theirs.is_with(stay.seen_ms)).peekable();
            let person = match theirs.peek() {
                Some(_) => (stay.top_score < SURE_MIN && alone && theirs.any(vouches)).then_some(true),
                None => (stay.dwell_ms >= STAY_MS_MIN && other.watched(stay.seen_ms)).then_some(false),
            };
            labels.extend(person.map(|person| Label {
                event: stay.event.clone(),
                person,
                who: other.spot.station.to_string(),
            }));
        }
    }

    /// Whether it watched from before then on, and everybody whom it saw since is remembered.
    fn watched(&self, (from_ms, _): (u64, u64)) -> bool {
        self.watches_since_ms.is_some_and(|since_ms| since_ms.max(self.forgot_ms).saturating_add(SLACK_MS) <= from_ms)
    }
}

/// The overlaps of a site, and who is where in them.
#[derive(Debug, Default)]
pub struct Agreement {
    overlaps: Vec<[Side; 2]>,
    looked_ms: Option<u64>,
}

impl Agreement {
    /// Nobody is anywhere yet.
    pub fn new(overlaps: &[Overlap]) -> Agreement {
        let side =
            |spot: &Spot| Side { spot: spot.clone(), stays: VecDeque::new(), forgot_ms: 0, watches_since_ms: None };
        let overlaps = overlaps.iter().map(|Overlap { one, other }| [side(one), side(other)]).collect();
        Agreement { overlaps, looked_ms: None }
    }

    /// Takes in what is on its way to the archive; what comes again changes nothing.
    pub fn archived(&mut self, commit: &Commit) {
        if !self.overlaps.is_empty() {
            commit.entries.iter().filter_map(seen).for_each(|event| self.look(&event));
        }
    }

    /// Takes in one event. What a node saw on another's duty says nothing of its own cameras, a crowd is nobody, and nobody speaks of
    /// another's events.
    pub fn look(&mut self, event: &SeenEvent) {
        let its_own = event.covering_for.is_none() && event.id.node().as_ref() == Some(&event.node);
        if event.label == "person" && its_own {
            self.overlaps.iter_mut().flatten().for_each(|side| side.look(event));
        }
    }

    /// Time passed: what can be said now. `watches` says whether a spot's camera sees what is there, and tells it at once.
    pub fn tick(&mut self, now: Now, watches: impl Fn(&Spot) -> bool) -> Vec<Label> {
        let mut labels = Vec::new();
        let since_ms = self.looked_ms.map(|looked_ms| now.mono_ms.saturating_sub(looked_ms));
        if self.overlaps.is_empty() || since_ms.is_some_and(|since_ms| since_ms < LOOK_MS) {
            return labels;
        }
        self.looked_ms = Some(now.mono_ms);
        let slept = since_ms.is_some_and(|since_ms| since_ms > GAP_MS);
        for side in self.overlaps.iter_mut().flatten() {
            let before = side.watches_since_ms.filter(|_| !slept);
            side.watches_since_ms = watches(&side.spot).then(|| before.unwrap_or(now.unix_ms));
        }
        for [one, other] in &mut self.overlaps {
            one.judge(now, other, &mut labels);
            other.judge(now, one, &mut labels);
        }
        labels
    }
}

/// Seconds, as what is public says them; none before 1970.
fn ms(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

#[cfg(test)]
#[path = "agreement_tests.rs"]
mod tests;
