//! What a station consists of: told to those who stand in for its node, and understood by them. Pure.
//!
//! It is the same TOML as a configuration has: `[[camera]]`, `[track]`, `[observe]` and the detector's thresholds. No
//! password is in it. What a neighbour says is not trusted further than a configuration file would be: everything is checked
//! again, and only what this device's own configuration allows is opened.

use std::collections::{BTreeMap, BTreeSet};

use picket_shared::codec::{self, toml_is_crowded};
use picket_shared::duty::{Duty, How};
use picket_shared::ids::CameraId;
use picket_shared::limits::{DUTY_ITEMS_MAX, NAME_CHARS_MAX, SOURCES_MAX};
use serde::{Deserialize, Serialize};

use crate::capture::SourceUrl;
use crate::config::{Camera, Config};
use crate::detect::Thresholds;
use crate::duty::Assignment;
use crate::{observe, track};

/// What is on the wire, as text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    detector: Thresholds,
    track: track::Config,
    observe: observe::Config,
    #[serde(rename = "camera")]
    cameras: Vec<Camera>,
}

/// The cameras that a plan gives for one way of covering.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Planned {
    #[serde(rename = "camera")]
    cameras: Vec<Camera>,
}

/// Another's station, as this device would watch it.
#[derive(Debug, Clone, PartialEq)]
pub struct Station {
    /// Its cameras.
    pub cameras: Vec<Borrowed>,
    /// Its tracker.
    pub track: track::Config,
    /// When something is worth telling there.
    pub observe: observe::Config,
    /// What its detector is asked for.
    pub thresholds: Thresholds,
    /// The first 12 hexadecimal digits of its model's SHA-256.
    pub model: String,
}

/// A camera of another's station.
#[derive(Debug, Clone, PartialEq)]
pub struct Borrowed {
    /// Its name at its station, which events have.
    pub told: CameraId,
    /// As it would be configured here, under its own name.
    pub camera: Camera,
    /// This node's own camera that gives the frames, where it is the same source.
    pub shared: Option<CameraId>,
}

/// What this station is to those who stand in for this node; and a problem, where they cannot be told. `model` is the first
/// 12 hexadecimal digits of the SHA-256 of its model.
pub fn tell(config: &Config, model: &str) -> (Duty, Option<String>) {
    let need = (config.cameras.len() as f64 * config.cover.fps_min).ceil().clamp(1.0, f64::from(u16::MAX));
    let bare =
        Duty { station: config.station(), settings: String::new(), model: model.to_owned(), need_fps: need as u16 };
    if !config.cover.tell {
        return (bare, None);
    }
    let settings = Settings {
        detector: config.detector.thresholds(),
        track: config.track.clone(),
        observe: config.observe.clone(),
        cameras: config.cameras.clone(),
    };
    let crowded = |settings: String| match toml_is_crowded(&settings, DUTY_ITEMS_MAX) {
        true => Err(format!("they have more than {DUTY_ITEMS_MAX} values")),
        false => Ok(settings),
    };
    let told = picket_shared::config::text(&settings)
        .and_then(crowded)
        .map(|settings| Duty { settings, ..bare.clone() })
        .and_then(|duty| codec::encode(&duty).map_err(|error| error.to_string()).map(|_| duty));
    match told {
        Ok(duty) => (duty, None),
        Err(why) => {
            let problem = format!(
                "nobody can cover this station, because its cameras cannot be told to others ({why}); simplify their zones"
            );
            (bare, Some(problem))
        }
    }
}

/// What it takes to cover a station, on the device of `own`; the error is a sentence.
pub fn understand(assignment: &Assignment, own: &Config) -> Result<Station, String> {
    let (duty, standby) = (&assignment.duty, &assignment.standby);
    if duty.settings.is_empty() {
        return Err("its node does not say what it consists of; set cover.tell = true there".into());
    }
    if toml_is_crowded(&duty.settings, DUTY_ITEMS_MAX) {
        return Err(format!("its node says more than {DUTY_ITEMS_MAX} values of it; simplify its zones"));
    }
    let settings: Settings = picket_shared::config::parse(&duty.settings)
        .map_err(|what| format!("what its node says of it is not understood ({what}); is there a newer agent?"))?;
    settings.track.check()?;
    settings.observe.check()?;
    settings.detector.check()?;
    let cameras = match (&standby.cameras, standby.how) {
        (Some(text), _) => {
            if toml_is_crowded(text, DUTY_ITEMS_MAX) {
                return Err(format!(
                    "its cameras in the site plan have more than {DUTY_ITEMS_MAX} values; simplify them"
                ));
            }
            let planned: Result<Planned, String> = picket_shared::config::parse(text);
            planned
                .map_err(|what| format!("its cameras in the site plan are not understood ({what}); correct them"))?
                .cameras
        }
        (None, How::Camera) => settings.cameras,
        (None, _) => {
            return Err("the site plan does not say what this node sees there; add cameras to the cover".into());
        }
    };
    if cameras.is_empty() || cameras.len() > SOURCES_MAX {
        return Err(format!("it has {} cameras, and may have 1 to {SOURCES_MAX}", cameras.len()));
    }
    let cameras = cameras.into_iter().map(|camera| {
        let name = camera.name.clone();
        borrow(camera, own).map_err(|what| format!("its camera \"{name}\": {what}"))
    });
    let cameras: Vec<Borrowed> = cameras.collect::<Result<_, String>>()?;
    let names: BTreeSet<_> = cameras.iter().map(|borrowed| &borrowed.told).collect();
    if names.len() < cameras.len() {
        return Err("two of its cameras have the same name; rename one".into());
    }
    let Settings { track, observe, detector: thresholds, .. } = settings;
    Ok(Station { cameras, track, observe, thresholds, model: duty.model.clone() })
}

/// A camera of another's, as far as this device may open it.
fn borrow(mut camera: Camera, own: &Config) -> Result<Borrowed, String> {
    (camera.record, camera.restream, camera.decoder) = (None, None, None);
    let scheme = camera.source.scheme()?;
    let same = own.cameras.iter().find(|mine| mine.source.is_like(&camera.source));
    if let Some(mine) = same.filter(|mine| mine.crop == camera.crop && mine.start_s == camera.start_s) {
        camera.check()?;
        return Ok(Borrowed { told: camera.name.clone(), camera, shared: Some(mine.name.clone()) });
    }
    if !own.cover.sources.iter().any(|allowed| allowed == scheme) {
        return Err(format!(
            "this device may not open \"{scheme}\" for others; add it to cover.sources where that is right"
        ));
    }
    if matches!(scheme, "v4l" | "camera") && same.is_some() {
        return Err("it is open here with another crop, and cannot be opened twice; give it the same one".into());
    }
    if camera.source.login().is_none()
        && let Some(login) = login(&camera.source, own)
    {
        camera.source = camera.source.with_login(Some(&login));
    }
    if camera.capture().needs_decoder() && camera.crop.is_none() && camera.start_s == 0.0 {
        camera.decoder.clone_from(&own.cover.decoder);
    }
    camera.check()?;
    Ok(Borrowed { told: camera.name.clone(), camera, shared: None })
}

/// The login for a host: as configured, or of this node's own cameras there.
fn login(source: &SourceUrl, own: &Config) -> Option<String> {
    let (host, port) = source.host()?;
    let logins: &BTreeMap<_, _> = &own.cover.logins;
    if let Some(login) = logins.get(&format!("{host}:{port}")).or_else(|| logins.get(&host)) {
        return Some(login.0.clone());
    }
    let there = |camera: &&Camera| camera.source.host() == Some((host.clone(), port));
    own.cameras.iter().filter(there).find_map(|camera| camera.source.login().map(str::to_owned))
}

/// A name for another's camera on this device, which none of `taken` has.
pub fn local_name(station: &str, told: &CameraId, taken: &BTreeSet<CameraId>) -> CameraId {
    let whole = format!("{station}.{told}");
    let names = (0..).map(|n: u32| match n {
        0 => whole.clone(),
        _ => {
            let tail = format!("-{n}");
            format!("{}{tail}", &whole[..whole.len().min(NAME_CHARS_MAX - tail.len())])
        }
    });
    names
        .filter_map(|name| CameraId::new(name).ok())
        .find(|name| !taken.contains(name))
        .expect("there are more numbers than cameras")
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::duty::StandbyDuty;
    use picket_shared::ids::{NodeId, StationId};

    const HOME: &str = "node = \"a\"\nstation = \"gate\"\n[detector]\nscore_min = 0.45\n[track]\nlost_ms = 777\n\
        [[camera]]\nname = \"front\"\nsource = \"rtsp://admin:hush@10.0.0.7/live?channel=1\"\ndecoder = [\"mine\"]\n\
        record = \"/rec\"\n[[camera.mask]]\npolygon = [[0, 0], [1, 0], [0, 1]]\n[[camera.line]]\nname = \"door\"\n\
        from = [0, 0]\nto = [1, 1]\n";

    fn config(text: &str) -> Config {
        picket_shared::config::parse(text).unwrap()
    }

    fn assignment(home: &str, how: How, cameras: Option<&str>) -> Assignment {
        let (duty, problem) = tell(&config(home), "0123456789ab");
        assert_eq!(problem, None);
        let (station, home) = (StationId::new("gate").unwrap(), NodeId::new("a").unwrap());
        let (ranks, goal) = (vec![], None);
        Assignment {
            duty,
            standby: StandbyDuty { station, home, ranks, how, cameras: cameras.map(str::to_owned), goal },
        }
    }

    #[test]
    fn who_covers_watches_with_the_stations_own_masks_lines_and_thresholds_and_with_a_login_of_its_own() {
        let told = assignment(HOME, How::Camera, None);
        assert!(!told.duty.settings.contains("hush") && !told.duty.settings.contains("/rec"), "{}", told.duty.settings);
        let own = config("node = \"b\"\n[cover]\nlogins = { \"10.0.0.7\" = \"guest:word\" }\ndecoder = [\"theirs\"]\n");
        let station = understand(&told, &own).unwrap();
        let home = config(HOME);
        let [Borrowed { told, camera, shared: None }] = &station.cameras[..] else { panic!("{station:?}") };
        assert_eq!(told.as_str(), "front");
        assert_eq!(camera.source.secret(), "rtsp://guest:word@10.0.0.7/live?channel=1");
        assert_eq!((&camera.masks, &camera.lines), (&home.cameras[0].masks, &home.cameras[0].lines));
        assert_eq!((&camera.decoder, &camera.record), (&Some(vec!["theirs".to_owned()]), &None));
        assert_eq!((station.track.lost_ms, station.thresholds.score_min), (777, 0.45));
        // The recorder in the middle of a yard has one login for all of its channels.
        let own = config("[[camera]]\nname = \"c\"\nsource = \"rtsp://u:p@10.0.0.7/live?channel=2\"");
        let station = understand(&assignment(HOME, How::Camera, None), &own).unwrap();
        assert_eq!(station.cameras[0].camera.source.secret(), "rtsp://u:p@10.0.0.7/live?channel=1");
    }

    #[test]
    fn only_what_this_device_allows_is_opened_for_others() {
        let home = |source: &str| format!("[[camera]]\nname = \"c\"\nsource = \"{source}\"");
        for source in ["file:/etc/passwd", "v4l:/dev/video0", "images:/", "synthetic:"] {
            let refused = understand(&assignment(&home(source), How::Camera, None), &config("")).unwrap_err();
            assert!(refused.contains("may not open"), "{source}: {refused}");
        }
        let demo = config("[cover]\nsources = [\"file\"]");
        assert!(understand(&assignment(&home("file:/v.avi"), How::Camera, None), &demo).is_ok());
        assert!(understand(&assignment(&home("rtsp://h/"), How::Camera, None), &demo).is_err());
    }

    #[test]
    fn an_own_camera_that_sees_the_ground_is_shared_and_not_opened_twice() {
        let own = config("[[camera]]\nname = \"wide\"\nsource = \"v4l:/dev/video0\"");
        let plan = "[[camera]]\nname = \"left\"\nsource = \"v4l:/dev/video0\"\n[[camera.zone]]\nname = \"gate\"\n\
                    polygon = [[0, 0], [1, 0], [0, 1]]";
        let station = understand(&assignment(HOME, How::View, Some(plan)), &own).unwrap();
        assert_eq!(station.cameras[0].shared.as_ref().map(CameraId::as_str), Some("wide"));
        assert_eq!(station.cameras[0].camera.zones.len(), 1);
        assert_eq!(station.track.lost_ms, 777, "what is worth telling there is still the station's own");
        let cropped = "[[camera]]\nname = \"left\"\nsource = \"v4l:/dev/video0\"\ncrop = [0, 0, 9, 9]";
        let refused = understand(&assignment(HOME, How::View, Some(cropped)), &own).unwrap_err();
        assert!(refused.contains("may not open"), "{refused}");
    }

    #[test]
    fn what_cannot_be_understood_is_refused_in_a_sentence() {
        let fine = assignment(HOME, How::Camera, None);
        let refused = |change: &dyn Fn(&mut Assignment)| {
            let mut assignment = fine.clone();
            change(&mut assignment);
            understand(&assignment, &config("")).unwrap_err()
        };
        assert!(refused(&|all| all.duty.settings.clear()).contains("set cover.tell = true"));
        assert!(refused(&|all| all.duty.settings.push_str("[[")).contains("not understood (line"));
        let newer = |all: &mut Assignment| all.duty.settings = format!("hue = 1\n{}", all.duty.settings);
        assert!(refused(&newer).contains("is there a newer agent?"));
        let wrong =
            |all: &mut Assignment| all.duty.settings = all.duty.settings.replace("score_min = 0.4", "score_min = 4.4");
        assert!(refused(&wrong).contains("score_min is 4.4"));
        assert!(refused(&|all| all.standby.how = How::View).contains("what this node sees there"));
        assert!(refused(&|all| all.standby.cameras = Some("camera = []".into())).contains("it has 0 cameras"));
        let told = tell(
            &config(&format!("[cover]\ntell = false\n{HOME}").replace("node = \"a\"\nstation = \"gate\"\n", "")),
            "",
        );
        assert_eq!((told.0.settings.as_str(), told.1), ("", None));
    }

    #[test]
    fn names_of_others_cameras_are_names_and_each_is_there_once() {
        let (long, front) = ("s".repeat(NAME_CHARS_MAX), CameraId::new("front").unwrap());
        let mut taken = BTreeSet::new();
        for (station, expect) in
            [("gate", "gate.front"), ("gate", "gate.front-1"), (&long, &format!("{}-1", &long[..NAME_CHARS_MAX - 2]))]
        {
            let name = local_name(station, &front, &taken);
            assert_eq!(name.as_str(), expect);
            taken.insert(name);
        }
    }
}
