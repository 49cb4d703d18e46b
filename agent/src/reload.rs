//! What a changed configuration changes in a running agent: which cameras go on, begin and end.
//!
//! Pure. A camera is known by its name; one whose table is the same goes on untouched, with its tracks. What belongs to the
//! whole agent takes effect at its next start, and is named.

use picket_shared::ids::CameraId;

use crate::config::{Camera, Config};

/// What to do. A camera that changed both ends and begins.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Cameras that end.
    pub end: Vec<CameraId>,
    /// Cameras that begin.
    pub begin: Vec<Camera>,
    /// How many go on.
    pub kept: usize,
    /// Parts that changed and wait for the next start, by their names in the file.
    pub waiting: Vec<&'static str>,
}

/// The way from one configuration to another.
pub fn plan(old: &Config, new: &Config) -> Plan {
    let stays = |camera: &Camera, others: &[Camera]| others.contains(camera);
    let ending = old.cameras.iter().filter(|camera| !stays(camera, &new.cameras));
    let beginning = new.cameras.iter().filter(|camera| !stays(camera, &old.cameras));
    let parts = [
        ("site", old.site == new.site),
        ("node", old.node == new.node),
        ("station", old.station == new.station),
        ("data_dir", old.data_dir == new.data_dir),
        ("mqtt", old.mqtt == new.mqtt),
        ("store", old.store == new.store),
        ("detector", old.detector == new.detector),
        ("model", old.model == new.model),
        ("track", old.track == new.track),
        ("observe", old.observe == new.observe),
        ("cover", old.cover == new.cover),
        ("live", old.live == new.live),
        ("media", old.media == new.media),
        ("privacy", old.privacy == new.privacy),
        ("gossip", old.gossip == new.gossip),
        ("platform", old.platform == new.platform),
        ("learn", old.learn == new.learn),
    ];
    Plan {
        end: ending.map(|camera| camera.name.clone()).collect(),
        begin: beginning.cloned().collect(),
        kept: old.cameras.iter().filter(|camera| stays(camera, &new.cameras)).count(),
        waiting: parts.into_iter().filter(|(_, same)| !same).map(|(part, _)| part).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        picket_shared::config::parse(text).unwrap()
    }

    fn camera(name: &str, rest: &str) -> String {
        format!("[[camera]]\nname = \"{name}\"\n{rest}\n")
    }

    #[test]
    fn only_what_changed_ends_or_begins() {
        let (a, b) = (camera("a", "source = \"/a\""), camera("b", "source = \"rtsp://u:one@h/\""));
        let zone = "[[camera.zone]]\nname = \"door\"\npolygon = [[0, 0], [1, 0], [1, 1]]";
        for (old, new, end, begin, kept) in [
            (format!("{a}{b}"), format!("{a}{b}"), "", "", 2),
            // The order in the file means nothing.
            (format!("{a}{b}"), format!("{b}{a}"), "", "", 2),
            (a.clone(), format!("{a}{b}"), "", "b", 1),
            (format!("{a}{b}"), b.clone(), "a", "", 1),
            (a.clone(), camera("c", "source = \"/a\""), "a", "c", 0),
            // A password is a change like any other, though nobody sees it.
            (format!("{a}{b}"), format!("{a}{}", b.replace("one", "two")), "b", "b", 1),
            (a.clone(), format!("{a}{zone}"), "a", "a", 0),
            (a.clone(), format!("{a}[camera.gate]\nthreshold = 20.0"), "a", "a", 0),
        ] {
            let plan = plan(&config(&old), &config(&new));
            let names = |names: Vec<&str>| names.join(" ");
            assert_eq!(names(plan.end.iter().map(CameraId::as_str).collect()), end, "{new}");
            assert_eq!(names(plan.begin.iter().map(|camera| camera.name.as_str()).collect()), begin, "{new}");
            assert_eq!((plan.kept, plan.waiting), (kept, vec![]), "{new}");
        }
    }

    #[test]
    fn what_waits_for_the_next_start_is_named() {
        let old = "node = \"n\"\n";
        for (new, expect) in [
            ("node = \"m\"", vec!["node"]),
            ("node = \"n\"\n[mqtt]\nbroker = \"mqtt://b:1883\"\n[detector]\nthreads = 7", vec!["mqtt", "detector"]),
            ("node = \"n\"\n[track]\nlost_ms = 1\n[observe]\ninertia_frames = 9", vec!["track", "observe"]),
        ] {
            assert_eq!(plan(&config(old), &config(new)).waiting, expect);
        }
    }
}
