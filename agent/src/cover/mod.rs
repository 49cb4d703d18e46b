//! Watching another's station: what it takes, and whether this device could.
//!
//! [`settings`] is what a station consists of, as text and back; [`models`] finds another's model on this device; [`standby`]
//! looks beforehand whether all of it can be had. When a station is covered is decided in `duty`, and the cameras are begun
//! and ended in `cameras`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use picket_shared::config::within;
use serde::Deserialize;

pub mod models;
pub mod settings;
pub mod standby;

/// What others' cameras may be opened by, unless the configuration says otherwise: what has the same meaning on every
/// device.
const NETWORK: [&str; 3] = ["rtsp", "http", "https"];
/// All that a source can begin with.
const SCHEMES: [&str; 7] = ["rtsp", "http", "https", "file", "images", "v4l", "synthetic"];
/// Logins of others' cameras.
const LOGINS_MAX: usize = 256;

/// Covering, as configured.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether others are told what this station consists of: its cameras' addresses without their logins, zones, masks
    /// and thresholds. Without it nobody can open them in this node's place.
    pub tell: bool,
    /// Sources of others that this device may open, by what they begin with. `file` and `images` are for demonstrations,
    /// where all agents run on one machine.
    pub sources: Vec<String>,
    /// `user:password` of others' cameras, by host or `host:port`. Logins of this node's own cameras are used where a host
    /// is the same.
    pub logins: BTreeMap<String, Login>,
    /// The decoder's command line for others' streams, where it is not ffmpeg's; see `decoder` of a camera.
    pub decoder: Option<Vec<String>>,
    /// Least frames a second of each camera, of this station's and others', that its tracks need. Too high covers fewer
    /// stations; too low loses people between two frames.
    pub fps_min: f64,
    /// A folder with others' models, as `.onnx` files of any names; `models` in the data directory by default.
    pub models: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            tell: true,
            sources: NETWORK.map(str::to_owned).to_vec(),
            logins: BTreeMap::new(),
            decoder: None,
            fps_min: 5.0,
            models: None,
        }
    }
}

impl Config {
    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        if let Some(unknown) = self.sources.iter().find(|scheme| !SCHEMES.contains(&scheme.as_str())) {
            return Err(format!("cover.sources names \"{unknown}\"; there are {}", SCHEMES.join(", ")));
        }
        if self.logins.len() > LOGINS_MAX {
            return Err(format!("cover.logins has {} hosts, and may have {LOGINS_MAX}", self.logins.len()));
        }
        if let Some((host, _)) = self.logins.iter().find(|(_, login)| !login.0.contains(':')) {
            return Err(format!("cover.logins of \"{host}\" is not user:password; write it so"));
        }
        if self.decoder.as_ref().is_some_and(|words| words.first().is_none_or(String::is_empty)) {
            return Err("cover.decoder is empty; give a command line as a list of words, or leave it out".into());
        }
        within("cover.fps_min", self.fps_min, 0.1..=240.0)
    }
}

/// A user's name and a password. It is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Login(String);

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"***\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_and_no_login_is_shown() {
        let read = |text: &str| picket_shared::config::parse::<Config>(text).unwrap();
        assert_eq!(Config::default().check(), Ok(()));
        for (text, expect) in [
            ("sources = [\"ftp\"]", "cover.sources names \"ftp\""),
            ("logins = { cam = \"secret\" }", "is not user:password"),
            ("decoder = []", "cover.decoder is empty"),
            ("fps_min = 0.0", "cover.fps_min is 0"),
        ] {
            assert!(read(text).check().unwrap_err().contains(expect), "{text}");
        }
        let config = read("logins = { cam = \"admin:hush\" }");
        assert!(!format!("{config:?}").contains("hush"));
    }
}
