//! The site plan: which stations there are, whose they are, and who can stand in for them and how. Pure.
//!
//! A site works without one: then each node watches what it says, and nobody covers anybody. What the plan leaves without
//! cover is named at the start.

use std::collections::{BTreeMap, BTreeSet};

use picket_shared::duty::How;
use picket_shared::ids::{NodeId, StationId};
use picket_shared::limits::{NODES_MAX, STANDBY_DUTIES_MAX};
use serde::Deserialize;

/// Longest `goal`: a few waypoints.
pub const GOAL_BYTES_MAX: usize = 2 * 1024;
/// Largest `[[station.cover.camera]]` tables of one cover.
pub const CAMERAS_BYTES_MAX: usize = 8 * 1024;

/// One station, as it stands in the configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Station {
    /// Its name.
    pub name: StationId,
    /// The node that it belongs to.
    pub node: NodeId,
    /// Where there is not room for all, those with a higher one are covered first.
    #[serde(default)]
    pub priority: i32,
    /// Metres east and north of any point that all stations share; for the picture of the site.
    #[serde(default)]
    pub position: Option<[f64; 2]>,
    /// Who can stand in.
    #[serde(default, rename = "cover")]
    pub covers: Vec<Cover>,
}

/// One way in which a station can be covered.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cover {
    /// By whom.
    pub node: NodeId,
    /// How; by default the node opens the station's own network cameras.
    #[serde(default = "by_camera")]
    pub how: How,
    /// The `[[camera]]` tables to watch it with, where they are not the station's own: needed but for `how = "camera"`.
    #[serde(default, rename = "camera")]
    pub cameras: Vec<toml::Table>,
    /// What the platform's hook is told: a preset, or waypoints.
    #[serde(default)]
    pub goal: Option<String>,
}

fn by_camera() -> How {
    How::Camera
}

impl Cover {
    /// The `[[camera]]` tables as the agent reads them; nothing where the station's own are used.
    pub fn cameras_text(&self) -> Option<String> {
        if self.cameras.is_empty() {
            return None;
        }
        let tables: BTreeMap<&str, &Vec<toml::Table>> = [("camera", &self.cameras)].into();
        Some(toml::to_string(&tables).expect("what was read from TOML can be written as TOML"))
    }
}

/// Whether the plan makes sense; the error is a sentence with the remedy.
pub fn check(stations: &[Station]) -> Result<(), String> {
    if stations.len() > NODES_MAX {
        return Err(format!("{} stations and at most {NODES_MAX}", stations.len()));
    }
    let mut names = BTreeSet::new();
    let mut homes: BTreeMap<&NodeId, &StationId> = BTreeMap::new();
    let mut standing_by: BTreeMap<&NodeId, usize> = BTreeMap::new();
    for station in stations {
        let name = &station.name;
        if !names.insert(name) {
            return Err(format!("station \"{name}\" stands in the plan twice; rename or remove one"));
        }
        if let Some(other) = homes.insert(&station.node, name) {
            let node = &station.node;
            return Err(format!("node \"{node}\" has two stations, \"{other}\" and \"{name}\"; an agent watches one"));
        }
        if station.position.is_some_and(|at| at.iter().any(|metres| !metres.is_finite())) {
            return Err(format!("station \"{name}\": position is not two numbers of metres"));
        }
        check_covers(station)?;
        station.covers.iter().for_each(|cover| *standing_by.entry(&cover.node).or_default() += 1);
    }
    for station in stations {
        for cover in &station.covers {
            if !homes.contains_key(&cover.node) {
                let (name, node) = (&station.name, &cover.node);
                return Err(format!(
                    "station \"{name}\" is to be covered by \"{node}\", which has no station in the plan; add one \
                     [[station]] with node = \"{node}\", or correct the name"
                ));
            }
        }
    }
    if let Some((node, count)) = standing_by.into_iter().find(|(_, count)| *count > STANDBY_DUTIES_MAX) {
        return Err(format!("node \"{node}\" is to stand by for {count} stations and can for {STANDBY_DUTIES_MAX}"));
    }
    Ok(())
}

fn check_covers(station: &Station) -> Result<(), String> {
    let name = &station.name;
    let mut nodes = BTreeSet::new();
    for cover in &station.covers {
        let node = &cover.node;
        if *node == station.node {
            return Err(format!(
                "station \"{name}\" is to be covered by \"{node}\", which is its own node; name others"
            ));
        }
        if !nodes.insert(node) {
            return Err(format!("station \"{name}\" names \"{node}\" twice; one way of covering is enough"));
        }
        if cover.how == How::Camera && !cover.cameras.is_empty() {
            return Err(format!(
                "station \"{name}\": \"{node}\" covers by the station's own cameras and has cameras of its own; \
                 remove them, or write how = \"view\""
            ));
        }
        if cover.how != How::Camera && cover.cameras.is_empty() {
            return Err(format!(
                "station \"{name}\": \"{node}\" needs [[station.cover.camera]] tables that say what it sees there"
            ));
        }
        if cover.how.moves() && cover.goal.is_none() {
            return Err(format!(
                "station \"{name}\": \"{node}\" must move and has no goal; name the preset or waypoints"
            ));
        }
        if cover.goal.as_ref().is_some_and(|goal| goal.len() > GOAL_BYTES_MAX) {
            return Err(format!("station \"{name}\": the goal of \"{node}\" is longer than {GOAL_BYTES_MAX} bytes"));
        }
        if cover.cameras_text().is_some_and(|text| text.len() > CAMERAS_BYTES_MAX) {
            return Err(format!(
                "station \"{name}\": the cameras of \"{node}\" take more than {CAMERAS_BYTES_MAX} bytes"
            ));
        }
    }
    Ok(())
}

/// What of the plan is no error and should be known, a sentence each: stations that nobody can cover, and those that can
/// cover only each other, so that both fall where both nodes do.
pub fn gaps(stations: &[Station]) -> Vec<String> {
    let covers: BTreeMap<&NodeId, BTreeSet<&NodeId>> = stations
        .iter()
        .map(|station| (&station.node, station.covers.iter().map(|cover| &cover.node).collect()))
        .collect();
    let mut sentences = Vec::new();
    for station in stations {
        let (name, node) = (&station.name, &station.node);
        match &covers[node] {
            by if by.is_empty() => sentences.push(format!("station {name} is an island: nobody covers it")),
            by if by.len() == 1 => {
                let other = by.iter().next().expect("there is one");
                let mutual = covers.get(*other).is_some_and(|back| back.len() == 1 && back.contains(node));
                // Said once of the two.
                if mutual && node < *other {
                    sentences.push(format!(
                        "{node} and {other} can cover only each other: where both fall, nobody covers their stations"
                    ));
                }
            }
            _ => {}
        }
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        station: Vec<Station>,
    }

    fn read(text: &str) -> Vec<Station> {
        toml::from_str::<File>(text).unwrap().station
    }

    fn station(name: &str, node: &str, rest: &str) -> String {
        format!("[[station]]\nname = \"{name}\"\nnode = \"{node}\"\n{rest}\n")
    }

    fn by(node: &str) -> String {
        format!("[[station.cover]]\nnode = \"{node}\"\n")
    }

    #[test]
    fn a_plan_that_makes_no_sense_is_refused_with_the_remedy() {
        let b = station("b", "nb", "");
        for (text, expect) in [
            (station("a", "na", &by("nx")) + &b, "which has no station in the plan"),
            (station("a", "na", &by("na")), "is its own node"),
            (station("a", "na", "") + &station("a", "nb", ""), "twice"),
            (station("a", "na", "") + &station("c", "na", ""), "has two stations"),
            (station("a", "na", &(by("nb") + &by("nb"))) + &b, "names \"nb\" twice"),
            (station("a", "na", &(by("nb") + "how = \"view\"")) + &b, "needs [[station.cover.camera]]"),
            (
                station("a", "na", &(by("nb") + "[[station.cover.camera]]\nname = \"c\"\nsource = \"rtsp://h/\"")) + &b,
                "write how = \"view\"",
            ),
            (
                station(
                    "a",
                    "na",
                    &(by("nb")
                        + "how = \"flight\"\n[[station.cover.camera]]\nname = \"c\"\nsource = \"v4l:/dev/video0\""),
                ) + &b,
                "has no goal",
            ),
            (station("a", "na", "position = [nan, 0.0]"), "two numbers of metres"),
        ] {
            let error = check(&read(&text)).unwrap_err();
            assert!(error.contains(expect), "{text}\ngave {error}");
        }
    }

    #[test]
    fn a_circle_of_cover_is_fine_and_islands_are_named() {
        let circle = station("a", "na", &by("nb")) + &station("b", "nb", &by("nc")) + &station("c", "nc", &by("na"));
        assert_eq!((check(&read(&circle)), gaps(&read(&circle))), (Ok(()), vec![]));
        let pair = station("a", "na", &by("nb")) + &station("b", "nb", &by("na")) + &station("c", "nc", "");
        let sentences = gaps(&read(&pair));
        assert!(sentences[0].contains("na and nb can cover only each other"), "{sentences:?}");
        assert!(sentences[1].contains("station c is an island"), "{sentences:?}");
        assert_eq!(sentences.len(), 2);
    }

    #[test]
    fn cameras_of_a_cover_travel_as_the_agent_reads_them() {
        let text = station(
            "a",
            "na",
            &(by("nb")
                + "how = \"view\"\n[[station.cover.camera]]\nname = \"c\"\nsource = \"v4l:/dev/video0\"\n[[station.cover.camera.zone]]\nname = \"z\"\npolygon = [[0, 0], [1, 0], [1, 1]]"),
        ) + &station("b", "nb", "");
        let stations = read(&text);
        assert_eq!(check(&stations), Ok(()));
        let cameras = stations[0].covers[0].cameras_text().unwrap();
        assert!(cameras.starts_with("[[camera]]") && cameras.contains("[[camera.zone]]"), "{cameras}");
    }
}
