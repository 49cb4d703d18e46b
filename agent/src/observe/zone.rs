//! Named zones, and who is in them and for how long: with a small inertia, so that a box that trembles on a border is not
//! news.
//!
//! Nothing here knows tracks.

use picket_shared::config::within;
use picket_shared::ids::ZoneId;
use picket_shared::limits::EVENT_ZONES_MAX;
use serde::{Deserialize, Serialize};

use crate::polygon::Polygon;

/// A named part of the picture, and what is too much in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// Its name in events.
    pub name: ZoneId,
    /// Its corners, `[x, y]` in fractions of the picture.
    pub polygon: Polygon,
    /// Who stays in it for so long without leaving loiters; absent, nobody does. Too high is late; too low tells of
    /// everybody who walks through slowly.
    pub dwell_ms: Option<u64>,
    /// So many people at once are a crowd; absent, none are. Too high misses a crowd of which some are hidden; too low
    /// tells of a family.
    pub crowd_at: Option<u32>,
    /// For how long there must be so many before it is a crowd, and fewer before it is none. Too high is late and misses
    /// short ones; too low tells of people who pass each other.
    #[serde(default = "default_crowd_ms")]
    pub crowd_ms: u64,
}

fn default_crowd_ms() -> u64 {
    2_000
}

impl Zone {
    /// A zone in which nobody loiters or crowds.
    pub fn new(name: ZoneId, polygon: Polygon) -> Self {
        Self { name, polygon, dwell_ms: None, crowd_at: None, crowd_ms: default_crowd_ms() }
    }

    fn check(&self) -> Result<(), String> {
        let key = |key: &str| format!("zone \"{}\": {key}", self.name);
        within(&key("dwell_ms"), self.dwell_ms.unwrap_or(100), 100..=86_400_000)?;
        within(&key("crowd_at"), self.crowd_at.unwrap_or(1), 1..=500)?;
        within(&key("crowd_ms"), self.crowd_ms, 0..=3_600_000)
    }
}

/// The zones of one source: at most as many as an event may name, each name once.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(try_from = "Vec<Zone>")]
pub struct Zones(Vec<Zone>);

impl Zones {
    /// Checks the zones and takes them.
    pub fn new(zones: Vec<Zone>) -> Result<Self, String> {
        if zones.len() > EVENT_ZONES_MAX {
            return Err(format!("there are {} zones; give a source 0 to {EVENT_ZONES_MAX}", zones.len()));
        }
        for (n, zone) in zones.iter().enumerate() {
            if zones[..n].iter().any(|earlier| earlier.name == zone.name) {
                return Err(format!("two zones are named \"{}\"; give each its own name", zone.name));
            }
            zone.check()?;
        }
        Ok(Self(zones))
    }

    /// The zones, in the order of the configuration.
    pub fn as_slice(&self) -> &[Zone] {
        &self.0
    }
}

impl TryFrom<Vec<Zone>> for Zones {
    type Error = String;
    fn try_from(zones: Vec<Zone>) -> Result<Self, String> {
        Self::new(zones)
    }
}

/// The zones that one object is in and has been in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Presence {
    stays: [Stay; EVENT_ZONES_MAX],
    /// Zones in order of entry, each once.
    entered: Vec<usize>,
    /// When it was last seen to stand anywhere.
    stood_ms: Option<u64>,
}

/// One object in one zone. Time counts from the first frame inside to the last one inside, also where the frames between
/// say otherwise for shorter than the inertia.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Stay {
    inside: bool,
    /// For how many frames in a row the foot point has said otherwise, and the time that they stand for.
    against: u32,
    against_ms: u64,
    /// This visit, and all before it.
    visit_ms: u64,
    before_ms: u64,
    loitering: bool,
}

impl Presence {
    /// In no zone yet.
    pub(super) fn new(zones: &Zones) -> Self {
        let entered = Vec::with_capacity(zones.0.len());
        Self { stays: [Stay::default(); EVENT_ZONES_MAX], entered, stood_ms: None }
    }

    /// Takes in where the object stands in one frame. True where it entered or left a zone, which takes
    /// `inertia_frames` frames in a row, or stays in one for too long now.
    pub(super) fn stand(&mut self, now_ms: u64, zones: &Zones, foot: [f64; 2], inertia_frames: u32) -> bool {
        // A clock that was set back tells of no time.
        let elapsed_ms = now_ms.saturating_sub(self.stood_ms.replace(now_ms).unwrap_or(now_ms));
        let mut changed = false;
        for (n, (zone, stay)) in zones.0.iter().zip(&mut self.stays).enumerate() {
            if stay.stand(elapsed_ms, zone.polygon.contains(foot), inertia_frames) {
                changed = true;
                if stay.inside && !self.entered.contains(&n) {
                    self.entered.push(n);
                }
            }
            let loitering = stay.inside && zone.dwell_ms.is_some_and(|dwell_ms| stay.visit_ms >= dwell_ms);
            // It ends with the visit, which is news in itself.
            changed |= loitering && !stay.loitering;
            stay.loitering = loitering;
        }
        changed
    }

    /// Whether it is in the zone of this number.
    pub(super) fn is_in(&self, zone: usize) -> bool {
        self.stays[zone].inside
    }

    /// The names of the zones it is in, in the order of the configuration.
    pub(super) fn current(&self, zones: &Zones) -> Vec<ZoneId> {
        self.named(zones, |stay| stay.inside)
    }

    /// Of these, the ones in which it loiters.
    pub(super) fn loitering(&self, zones: &Zones) -> Vec<ZoneId> {
        self.named(zones, |stay| stay.loitering)
    }

    /// The names of the zones it has been in, in order of entry.
    pub(super) fn entered(&self, zones: &Zones) -> Vec<ZoneId> {
        self.entered.iter().map(|&n| zones.0[n].name.clone()).collect()
    }

    /// For how long it has been in each of them, all visits together.
    pub(super) fn dwell_times_ms(&self) -> Vec<u64> {
        self.entered.iter().map(|&n| self.stays[n].before_ms.saturating_add(self.stays[n].visit_ms)).collect()
    }

    fn named(&self, zones: &Zones, which: impl Fn(&Stay) -> bool) -> Vec<ZoneId> {
        let those = zones.0.iter().zip(&self.stays).filter(|(_, stay)| which(stay));
        those.map(|(zone, _)| zone.name.clone()).collect()
    }
}

impl Stay {
    /// One frame in which the foot point was inside or not, `elapsed_ms` after the last. True where it entered or left.
    fn stand(&mut self, elapsed_ms: u64, inside: bool, inertia_frames: u32) -> bool {
        if inside != self.inside {
            // The way in is not inside yet; the way out is, if it comes back before the inertia is over.
            let counts = self.inside || self.against > 0;
            self.against += 1;
            self.against_ms = self.against_ms.saturating_add(if counts { elapsed_ms } else { 0 });
            if self.against < inertia_frames {
                return false;
            }
            self.before_ms = self.before_ms.saturating_add(self.visit_ms);
            self.visit_ms = if inside { self.against_ms } else { 0 };
            (self.inside, self.against, self.against_ms) = (inside, 0, 0);
            return true;
        }
        if inside {
            self.visit_ms = self.visit_ms.saturating_add(self.against_ms).saturating_add(elapsed_ms);
        }
        (self.against, self.against_ms) = (0, 0);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `left` is the left half, `right` the right half, `middle` overlaps both.
    fn halves() -> Zones {
        let zone = |name: &str, x1: f64, x2: f64| {
            let polygon = Polygon::new(vec![[x1, 0.0], [x2, 0.0], [x2, 1.0], [x1, 1.0]]).unwrap();
            Zone::new(ZoneId::new(name).unwrap(), polygon)
        };
        Zones::new(vec![zone("left", 0.0, 0.5), zone("right", 0.5, 1.0), zone("middle", 0.4, 0.6)]).unwrap()
    }

    #[test]
    fn entering_and_leaving_takes_frames_in_a_row() {
        let zones = halves();
        let joined = |names: Vec<ZoneId>| names.iter().map(ZoneId::as_str).collect::<Vec<_>>().join("+");
        for (name, inertia_frames, walk, expect) in [
            ("at once", 1, &[0.1, 0.9][..], &["left/left", "right/left+right"][..]),
            ("the second frame counts", 2, &[0.1, 0.1, 0.9, 0.9], &["/", "left/left", "left/left", "right/left+right"]),
            (
                "a tremble does not",
                2,
                &[0.1, 0.1, 0.9, 0.1, 0.9, 0.1],
                &["/", "left/left", "left/left", "left/left", "left/left", "left/left"],
            ),
            (
                "back again is no second entry",
                1,
                &[0.1, 0.9, 0.1],
                &["left/left", "right/left+right", "left/left+right"],
            ),
            ("two at once", 1, &[0.45], &["left+middle/left+middle"]),
            ("out of the picture", 1, &[0.1, 1.5], &["left/left", "/left"]),
        ] {
            let mut presence = Presence::new(&zones);
            let mut before = "/".to_owned();
            for (x, expect) in walk.iter().zip(expect) {
                let changed = presence.stand(0, &zones, [*x, 0.5], inertia_frames);
                let now = format!("{}/{}", joined(presence.current(&zones)), joined(presence.entered(&zones)));
                assert_eq!(&now, expect, "{name}");
                assert_eq!(changed, now != before, "{name}");
                before = now;
            }
        }
    }

    #[test]
    fn dwelling_counts_from_the_first_frame_inside_to_the_last_and_over_visits() {
        let mut zones = halves();
        zones.0[0].dwell_ms = Some(300);
        // Frames 100 ms apart, at `x`; after each, the milliseconds in `left`, and `L` where it loiters.
        for (name, inertia_frames, walk, expect) in [
            ("stays", 1, &[0.1, 0.1, 0.1, 0.1, 0.1][..], &["0", "100", "200", "300L", "400L"][..]),
            ("the frames that made sure count", 3, &[0.1, 0.1, 0.1, 0.1], &["-", "-", "200", "300L"]),
            ("walks in from outside", 1, &[0.9, 0.1, 0.1], &["-", "0", "100"]),
            ("a tremble out is no leave", 2, &[0.1, 0.1, 0.1, 0.9, 0.1], &["-", "100", "200", "200", "400L"]),
            ("a tremble in is no visit", 2, &[0.9, 0.1, 0.9, 0.1, 0.1], &["-", "-", "-", "-", "100"]),
            ("leaves at its last frame inside", 2, &[0.1, 0.1, 0.9, 0.9, 0.9], &["-", "100", "100", "100", "100"]),
            (
                "two visits add up, and each loiters anew",
                1,
                &[0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1],
                &["0", "100", "200", "200", "200", "300", "400", "500L"],
            ),
        ] {
            let mut presence = Presence::new(&zones);
            let mut loitered = false;
            for (n, (x, expect)) in walk.iter().zip(expect).enumerate() {
                let changed = presence.stand(1_000 + n as u64 * 100, &zones, [*x, 0.2], inertia_frames);
                let loitering = !presence.loitering(&zones).is_empty();
                assert!(changed || loitering <= loitered, "{name}: to loiter is news");
                loitered = loitering;
                let entered = presence.entered(&zones);
                let left = entered.iter().position(|zone| zone.as_str() == "left");
                let time = left.map_or("-".to_owned(), |n| presence.dwell_times_ms()[n].to_string());
                assert_eq!(format!("{time}{}", if loitering { "L" } else { "" }), *expect, "{name}, frame {n}");
            }
        }
    }

    #[test]
    fn a_clock_set_back_takes_no_time_away_and_adds_none() {
        let zones = halves();
        let mut presence = Presence::new(&zones);
        for now_ms in [5_000, 5_100, 100, 200] {
            presence.stand(now_ms, &zones, [0.1, 0.5], 1);
        }
        assert_eq!(presence.dwell_times_ms(), [200]);
    }

    proptest! {
        /// However it walks and whatever the clock does, no zone holds it for longer than it was seen, and two zones that
        /// do not overlap not together either.
        #[test]
        fn nobody_dwells_longer_than_they_live(
            walk in proptest::collection::vec((prop_oneof![9 => 0u64..5_000, 1 => any::<u64>()], 0.0f64..1.0), 1..60),
            inertia_frames in 1u32..4,
        ) {
            let zones = halves();
            let (mut presence, mut life_ms, mut before_ms) = (Presence::new(&zones), 0u64, None);
            for (now_ms, x) in walk {
                life_ms = life_ms.saturating_add(now_ms.saturating_sub(before_ms.unwrap_or(now_ms)));
                before_ms = Some(now_ms);
                presence.stand(now_ms, &zones, [x, 0.5], inertia_frames);
                let (entered, times_ms) = (presence.entered(&zones), presence.dwell_times_ms());
                prop_assert_eq!(entered.len(), times_ms.len());
                prop_assert!(times_ms.iter().all(|&dwelt_ms| dwelt_ms <= life_ms));
                let apart = entered.iter().zip(&times_ms).filter(|(zone, _)| zone.as_str() != "middle");
                prop_assert!(apart.fold(0u64, |sum, (_, &ms)| sum.saturating_add(ms)) <= life_ms);
            }
        }
    }

    #[test]
    fn zones_are_checked_where_they_enter() {
        #[derive(Debug, Deserialize)]
        struct Source {
            zones: Zones,
        }
        let parse =
            |zones: &[String]| picket_shared::config::parse::<Source>(&format!("zones = [{}]", zones.join(",")));
        let zone = |name: &str| format!("{{ name = \"{name}\", polygon = [[0, 0], [1, 0], [0, 1]] }}");
        let with = |more: &str| vec![format!("{{ name = \"a\", polygon = [[0, 0], [1, 0], [0, 1]], {more} }}")];
        let many: Vec<_> = (0..=EVENT_ZONES_MAX).map(|n| zone(&format!("z{n}"))).collect();
        assert_eq!(parse(&many[1..]).unwrap().zones.0.len(), EVENT_ZONES_MAX);
        for (zones, expect) in [
            (many, "there are 17 zones; give a source 0 to 16"),
            (vec![zone("door"), zone("door")], "two zones are named \"door\""),
            (vec![zone("Front Door")], "has a character other than"),
            (vec!["{ name = \"a\", polygon = [[0, 0], [1, 1]] }".into()], "a polygon has 2 points"),
            (vec!["{ name = \"a\", points = [] }".into()], "did you mean \"polygon\""),
            (with("dwell_ms = 5"), "zone \"a\": dwell_ms is 5; give it 100 to 86400000"),
            (with("crowd_at = 0"), "zone \"a\": crowd_at is 0; give it 1 to 500"),
            (with("crowd_ms = 99999999"), "zone \"a\": crowd_ms is 99999999; give it 0 to 3600000"),
            (with("crowd = 3"), "did you mean \"crowd_"),
        ] {
            let error = parse(&zones).unwrap_err();
            assert!(error.contains(expect), "{error}");
        }
    }
}
