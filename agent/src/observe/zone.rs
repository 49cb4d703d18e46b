//! Named zones, and who is in them: with a small inertia, so that a box that trembles on a border is not news.
//!
//! Nothing here knows tracks or time.

use picket_shared::ids::ZoneId;
use picket_shared::limits::EVENT_ZONES_MAX;
use serde::Deserialize;

use crate::polygon::Polygon;

/// A named part of the picture.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// Its name in events.
    pub name: ZoneId,
    /// Its corners, `[x, y]` in fractions of the picture.
    pub polygon: Polygon,
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
        }
        Ok(Self(zones))
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
    /// Per zone: in it, and for how many frames in a row the foot point has said otherwise.
    inside: [(bool, u32); EVENT_ZONES_MAX],
    /// Zones in order of entry, each once.
    entered: Vec<usize>,
}

impl Presence {
    /// In no zone yet.
    pub(super) fn new(zones: &Zones) -> Self {
        Self { inside: [(false, 0); EVENT_ZONES_MAX], entered: Vec::with_capacity(zones.0.len()) }
    }

    /// Takes in where the object stands in one frame. True where it entered or left a zone, which takes
    /// `inertia_frames` frames in a row.
    pub(super) fn stand(&mut self, zones: &Zones, foot: [f64; 2], inertia_frames: u32) -> bool {
        let mut changed = false;
        for (n, zone) in zones.0.iter().enumerate() {
            let (inside, against) = &mut self.inside[n];
            if zone.polygon.contains(foot) == *inside {
                *against = 0;
                continue;
            }
            *against += 1;
            if *against < inertia_frames {
                continue;
            }
            (*inside, *against) = (!*inside, 0);
            changed = true;
            if *inside && !self.entered.contains(&n) {
                self.entered.push(n);
            }
        }
        changed
    }

    /// The names of the zones it is in, in the order of the configuration.
    pub(super) fn current(&self, zones: &Zones) -> Vec<ZoneId> {
        let within = zones.0.iter().zip(self.inside).filter(|(_, (inside, _))| *inside);
        within.map(|(zone, _)| zone.name.clone()).collect()
    }

    /// The names of the zones it has been in, in order of entry.
    pub(super) fn entered(&self, zones: &Zones) -> Vec<ZoneId> {
        self.entered.iter().map(|&n| zones.0[n].name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `left` is the left half, `right` the right half, `middle` overlaps both.
    fn halves() -> Zones {
        let zone = |name: &str, x1: f64, x2: f64| Zone {
            name: ZoneId::new(name).unwrap(),
            polygon: Polygon::new(vec![[x1, 0.0], [x2, 0.0], [x2, 1.0], [x1, 1.0]]).unwrap(),
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
                let changed = presence.stand(&zones, [*x, 0.5], inertia_frames);
                let now = format!("{}/{}", joined(presence.current(&zones)), joined(presence.entered(&zones)));
                assert_eq!(&now, expect, "{name}");
                assert_eq!(changed, now != before, "{name}");
                before = now;
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
        let many: Vec<_> = (0..=EVENT_ZONES_MAX).map(|n| zone(&format!("z{n}"))).collect();
        assert_eq!(parse(&many[1..]).unwrap().zones.0.len(), EVENT_ZONES_MAX);
        for (zones, expect) in [
            (many, "there are 17 zones; give a source 0 to 16"),
            (vec![zone("door"), zone("door")], "two zones are named \"door\""),
            (vec![zone("Front Door")], "has a character other than"),
            (vec!["{ name = \"a\", polygon = [[0, 0], [1, 1]] }".into()], "a polygon has 2 points"),
            (vec!["{ name = \"a\", points = [] }".into()], "did you mean \"polygon\""),
        ] {
            let error = parse(&zones).unwrap_err();
            assert!(error.contains(expect), "{error}");
        }
    }
}
