//! The agent's configuration: one TOML file, or nothing but a source on the command line.
//!
//! Every key has a default but the source. Each part checks its own values; this file only puts them together and names
//! what is wrong.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use picket_shared::brokers::check_fallback;
use picket_shared::config::load;
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::{CameraId, NodeId, SiteId, StationId};
use picket_shared::keyfile::KeyfileError;
use picket_shared::limits::SOURCES_MAX;
use picket_shared::mqtt::BrokerUrl;
use picket_shared::trust::identity::{Identity, Membership};
use picket_shared::trust::tls::TlsFiles;
use serde::{Deserialize, Serialize};

use crate::capture::{self, Pace, SourceUrl};
use crate::observe::{Line, Lines, Scene, Zone, Zones};
use crate::sinks::{live, media, record, restream};
use crate::{cover, detect, gate, gossip, learn, mask, model, observe, platform, polygon, privacy, store, track};

/// The store's directory below the data directory.
const STORE: &str = "store";

/// One agent, as configured.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The site: agents of one site share a coordinator.
    pub site: SiteId,
    /// This device's name at the site; the machine's host name by default.
    pub node: NodeId,
    /// The place it watches; the node's name by default.
    pub station: Option<StationId>,
    /// Where it remembers.
    pub data_dir: PathBuf,
    /// The broker.
    pub mqtt: Mqtt,
    /// What is kept on the device.
    pub store: store::Config,
    /// The detector.
    pub detector: detect::Config,
    /// Models that are assigned to this device.
    pub model: model::Config,
    /// The tracker of every camera.
    pub track: track::Config,
    /// When something is worth telling.
    pub observe: observe::Config,
    /// Watching for others, and being watched for.
    pub cover: cover::Config,
    /// The live view.
    pub live: live::Config,
    /// Pictures and clips of events.
    pub media: media::Config,
    /// What leaves the device, and how people look in it.
    pub privacy: privacy::Config,
    /// How neighbours hear each other without a broker.
    pub gossip: gossip::Config,
    /// What moves this node.
    pub platform: platform::Config,
    /// Learning.
    pub learn: learn::Config,
    /// The cameras.
    #[serde(rename = "camera")]
    pub cameras: Vec<Camera>,
}

/// The broker's part of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mqtt {
    /// Where it is. Default: where the device was told when it was enrolled, or `mqtt://127.0.0.1:1883`.
    pub broker: Option<BrokerUrl>,
    /// Others, in the order in which they are used where that one cannot be reached. The same list for all of the site.
    pub fallback: Vec<BrokerUrl>,
    /// What connections by TLS (`mqtts://`) are made with. Default: what the device was given when it was enrolled.
    pub tls: Option<TlsFiles>,
    /// Speak to brokers of other machines in the clear, though the device is enrolled.
    pub plain: bool,
}

/// One camera, as configured. Others are told all of it but what only this device can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// Its name.
    pub name: CameraId,
    /// See [`capture::Config::source`].
    #[serde(serialize_with = "for_others")]
    pub source: SourceUrl,
    /// See [`capture::Config::pace`].
    #[serde(default)]
    pub pace: Pace,
    /// See [`capture::Config::start_s`].
    #[serde(default)]
    pub start_s: f64,
    /// See [`capture::Config::repeat`].
    #[serde(default)]
    pub repeat: bool,
    /// See [`capture::Config::crop`].
    pub crop: Option<[u32; 4]>,
    /// See [`capture::Config::stall_timeout_s`].
    #[serde(default = "capture::default_stall_timeout_s")]
    pub stall_timeout_s: f64,
    /// See [`capture::Config::frozen_timeout_s`].
    #[serde(default = "capture::default_frozen_timeout_s")]
    pub frozen_timeout_s: f64,
    /// See [`capture::Config::decoder`].
    #[serde(skip_serializing)]
    pub decoder: Option<Vec<String>>,
    /// The motion test.
    #[serde(default)]
    pub gate: gate::Config,
    /// Privacy zones: blacked out before anything else sees the picture.
    #[serde(default, rename = "mask")]
    pub masks: Vec<MaskZone>,
    /// Zones that events name.
    #[serde(default, rename = "zone")]
    pub zones: Vec<Zone>,
    /// Lines that people are counted over.
    #[serde(default, rename = "line")]
    pub lines: Vec<Line>,
    /// Whether a picture and a clip of each event are kept on the device.
    #[serde(default = "yes")]
    pub snapshots: bool,
    /// Where to record, if anywhere.
    #[serde(skip_serializing)]
    pub record: Option<record::Config>,
    /// Where to send the pictures on to, if anywhere.
    #[serde(skip_serializing)]
    pub restream: Option<restream::Config>,
}

/// One privacy zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskZone {
    /// Its corners, in fractions of the picture.
    pub polygon: polygon::Polygon,
}

/// What the command line may say in place of the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overrides {
    /// What to watch in place of the configured cameras: a video file, rtsp://…, http://…, v4l:/dev/video0,
    /// images:/folder, synthetic:
    #[arg(long)]
    pub source: Option<String>,
    /// This device's name at the site
    #[arg(long)]
    pub node: Option<NodeId>,
    /// The place it watches
    #[arg(long)]
    pub station: Option<StationId>,
    /// The site
    #[arg(long)]
    pub site: Option<SiteId>,
    /// The broker, as mqtt://host:1883
    #[arg(long)]
    pub broker: Option<String>,
    /// Where it remembers
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
}

/// No password leaves the device: who covers has its own.
fn for_others<S: serde::Serializer>(source: &SourceUrl, serializer: S) -> Result<S::Ok, S::Error> {
    source.for_others().secret().serialize(serializer)
}

fn yes() -> bool {
    true
}

impl Default for Config {
    fn default() -> Self {
        Config {
            site: SiteId::new("site").expect("a constant name"),
            node: host_name(),
            station: None,
            data_dir: default_data_dir(),
            mqtt: Mqtt::default(),
            store: store::Config::default(),
            detector: detect::Config::default(),
            model: model::Config::default(),
            track: track::Config::default(),
            observe: observe::Config::default(),
            cover: cover::Config::default(),
            live: live::Config::default(),
            media: media::Config::default(),
            privacy: privacy::Config::default(),
            gossip: gossip::Config::default(),
            platform: platform::Config::default(),
            learn: learn::Config::default(),
            cameras: Vec::new(),
        }
    }
}

impl Config {
    /// The configuration of a file, if one is given, under what the command line says.
    pub fn read(path: Option<&Path>, overrides: &Overrides) -> Result<Config, Failure> {
        let mut config = path.map_or_else(|| Ok(Config::default()), load::<Config>)?;
        let Overrides { source, node, station, site, broker, data_dir } = overrides.clone();
        if let Some(source) = source {
            config.cameras = vec![Camera::of_source(source)];
        }
        config.node = node.unwrap_or(config.node);
        config.station = station.or(config.station);
        config.site = site.unwrap_or(config.site);
        config.data_dir = data_dir.unwrap_or(config.data_dir);
        // Not by clap, which repeats what it refuses, with a password in it.
        let broker = broker.map(BrokerUrl::try_from).transpose().map_err(|what| Failure::new(Exit::Config, what))?;
        config.mqtt.broker = broker.or(config.mqtt.broker);
        config.belong().and_then(|()| config.check()).map_err(|what| {
            let from = path.map_or_else(|| "the command line".to_owned(), |path| path.display().to_string());
            Failure::new(Exit::Config, format!("configuration {from}: {what}"))
        })?;
        Ok(config)
    }

    /// The `[detector]` of a file, or the default.
    pub fn detector(path: Option<&Path>) -> Result<detect::Config, Failure> {
        Ok(path.map_or_else(|| Ok(Config::default()), load::<Config>)?.detector)
    }

    /// Where the agent of a file, or of the defaults, remembers events; `data_dir` comes from the command line.
    pub fn memory_dir_of(path: Option<&Path>, data_dir: Option<PathBuf>) -> Result<PathBuf, Failure> {
        let config = path.map_or_else(|| Ok(Config::default()), load::<Config>)?;
        Ok(data_dir.unwrap_or(config.data_dir).join(STORE))
    }

    /// Where the agent of a file, or of the defaults, keeps everything; `data_dir` comes from the command line.
    pub fn data_dir_of(path: Option<&Path>, data_dir: Option<PathBuf>) -> Result<PathBuf, Failure> {
        let config = path.map_or_else(|| Ok(Config::default()), load::<Config>)?;
        Ok(data_dir.unwrap_or(config.data_dir))
    }

    /// Where the broker is.
    pub fn broker(&self) -> BrokerUrl {
        let local = || BrokerUrl { host: "127.0.0.1".into(), port: 1883, tls: false };
        self.mqtt.broker.clone().unwrap_or_else(local)
    }

    /// Takes what an enrolled device was told where the file says nothing, and refuses what does not fit it.
    fn belong(&mut self) -> Result<(), String> {
        let identity = Identity::below(&self.data_dir);
        let Membership { site, node, brokers, .. } = match identity.is_enrolled().then(|| identity.membership()) {
            None => return Ok(()),
            // Somebody else's device: whoever may not read its identity runs no agent with it.
            Some(Err(KeyfileError::Disk(path, why))) => {
                return Err(format!("{} cannot be read ({why})", path.display()));
            }
            Some(membership) => membership.map_err(|error| error.to_string())?,
        };
        if (&site, &node) != (&self.site, &self.node) {
            return Err(format!(
                "this device is enrolled as {node} of the site {site}, and is to run as {} of {}; set site = \"{site}\" and \
                 node = \"{node}\", or remove {} and enrol it anew",
                self.node,
                self.site,
                identity.dir().display()
            ));
        }
        if self.mqtt.broker.is_none() && self.mqtt.fallback.is_empty() {
            let mut brokers = brokers.into_iter();
            self.mqtt.broker = brokers.next();
            self.mqtt.fallback = brokers.collect();
        }
        self.mqtt.tls.get_or_insert_with(|| identity.tls());
        let broker = self.broker();
        let mut all = std::iter::once(&broker).chain(&self.mqtt.fallback);
        match all.find(|broker| !broker.tls && !broker.is_loopback()) {
            Some(plain) if !self.mqtt.plain => Err(format!(
                "{plain} is a broker of another machine without TLS, and this device is enrolled; write mqtts://, or set \
                 plain = true in [mqtt]"
            )),
            _ => Ok(()),
        }
    }

    /// Where it remembers events.
    pub fn memory_dir(&self) -> PathBuf {
        self.data_dir.join(STORE)
    }

    /// The place that is watched.
    pub fn station(&self) -> StationId {
        let of_node = || StationId::new(self.node.as_str()).expect("a node's name is a station's name");
        self.station.clone().unwrap_or_else(of_node)
    }

    fn check(&self) -> Result<(), String> {
        if self.cameras.is_empty() {
            return Err("no camera; add a [[camera]] with a name and a source, or give --source".into());
        }
        if self.cameras.len() > SOURCES_MAX {
            return Err(format!("{} cameras and at most {SOURCES_MAX}; run a second agent", self.cameras.len()));
        }
        let names: BTreeSet<_> = self.cameras.iter().map(|camera| &camera.name).collect();
        if names.len() < self.cameras.len() {
            return Err("two cameras have the same name; rename one".into());
        }
        if self.data_dir.as_os_str().is_empty() {
            return Err("data_dir is empty; name a directory that this program may write to".into());
        }
        check_fallback(&self.broker(), &self.mqtt.fallback)?;
        self.mqtt.tls.as_ref().map_or(Ok(()), TlsFiles::check)?;
        self.store.check()?;
        self.detector.check()?;
        self.model.check()?;
        self.track.check()?;
        self.observe.check()?;
        self.cover.check()?;
        self.live.check()?;
        self.media.check()?;
        self.privacy.check()?;
        self.gossip.check()?;
        self.platform.check()?;
        self.learn.check()?;
        for camera in &self.cameras {
            camera.check().map_err(|what| format!("camera \"{}\": {what}", camera.name))?;
        }
        Ok(())
    }
}

impl Camera {
    /// A camera with everything but its source at its default.
    fn of_source(source: String) -> Camera {
        let capture::Config { source, pace, start_s, repeat, crop, stall_timeout_s, frozen_timeout_s, decoder } =
            capture::Config::new(source);
        let name = CameraId::new("main").expect("a constant name");
        let (gate, masks, zones, lines, record, restream) = Default::default();
        Camera {
            name,
            source,
            pace,
            start_s,
            repeat,
            crop,
            stall_timeout_s,
            frozen_timeout_s,
            decoder,
            gate,
            masks,
            zones,
            lines,
            snapshots: true,
            record,
            restream,
        }
    }

    /// The capture stage's part.
    pub fn capture(&self) -> capture::Config {
        capture::Config {
            source: self.source.clone(),
            pace: self.pace,
            start_s: self.start_s,
            repeat: self.repeat,
            crop: self.crop,
            stall_timeout_s: self.stall_timeout_s,
            frozen_timeout_s: self.frozen_timeout_s,
            decoder: self.decoder.clone(),
        }
    }

    /// The mask stage's part.
    pub fn mask(&self) -> mask::Config {
        mask::Config { polygons: self.masks.iter().map(|zone| zone.polygon.clone()).collect() }
    }

    /// The zones and lines, checked.
    pub fn scene(&self) -> Result<Scene, String> {
        Ok(Scene { zones: Zones::new(self.zones.clone())?, lines: Lines::new(self.lines.clone())? })
    }

    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        self.capture().check()?;
        self.gate.check()?;
        self.mask().check()?;
        self.record.as_ref().map_or(Ok(()), record::Config::check)?;
        self.restream.as_ref().map_or(Ok(()), restream::Config::check)?;
        self.scene().map(|_| ())
    }
}

/// The machine's name where it is one of ours, and `node` otherwise.
fn host_name() -> NodeId {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let plain = named.and_then(|name| NodeId::new(name.trim().to_ascii_lowercase()).ok());
    plain.unwrap_or_else(|| NodeId::new("node").expect("a constant name"))
}

/// systemd's state directory where it made one, else the user's.
fn default_data_dir() -> PathBuf {
    if let Some(given) = std::env::var_os("STATE_DIRECTORY") {
        return given.into();
    }
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share"));
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).or_else(home);
    base.map_or_else(|| "/var/lib/picket-agent".into(), |base| base.join("picket-agent"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(Some(&path), &Overrides::default())
    }

    const CAMERA: &str = "[[camera]]\nname = \"front\"\nsource = \"file:/v.mp4\"\n";

    #[test]
    fn a_source_on_the_command_line_is_enough() {
        let broker = Overrides { broker: Some("mqtt://me:hush@h".into()), ..Overrides::default() };
        let refused = Config::read(None, &broker).unwrap_err().to_string();
        assert!(refused.contains("mqtt://***@h") && refused.contains("has a login"), "{refused}");
        let config = Config::read(None, &Overrides { source: Some("/v.mp4".into()), ..Overrides::default() }).unwrap();
        assert_eq!(config.cameras.len(), 1);
        assert_eq!(config.station().as_str(), config.node.as_str());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_remedy() {
        for (text, expect) in [
            ("", "add a [[camera]]"),
            ("nod = \"a\"", "unknown key \"nod\"; did you mean \"node\"?"),
            ("node = \"A B\"", "a-z 0-9"),
            ("[mqtt]\nbroker = \"broker:1883\"", "mqtt://host:1883"),
            (&format!("[mqtt]\nfallback = [\"mqtt://127.0.0.1\"]\n{CAMERA}"), "name each broker once"),
            ("[detector]\nthreads = -1", "expected usize"),
            (&format!("{CAMERA}{CAMERA}"), "the same name"),
            (&format!("{CAMERA}start_s = -2.0"), "camera \"front\": start_s is -2"),
            (&format!("{CAMERA}crop = [0, 0, 0, 5]"), "crop is"),
            (&format!("{CAMERA}sauce = 1"), "did you mean \"source\"?"),
            (&format!("{CAMERA}[camera.gate]\nthreshold = nan"), "gate.threshold is NaN"),
            (&format!("{CAMERA}[[camera.mask]]\npolygon = [[0.0, 0.0]]"), "a polygon has 1 points"),
            (
                &format!("{CAMERA}[[camera.zone]]\nname = \"a\"\npolygon = [[0, 0], [1, 0], [0, 1]]\ndwell_ms = 1"),
                "zone \"a\": dwell_ms is 1; give it 100",
            ),
            (
                &format!("{CAMERA}[[camera.line]]\nname = \"l\"\nfrom = [0, 0]\nto = [0, 0]"),
                "line \"l\": from and to are the same",
            ),
            ("[store]\nowed_mib = 0\n[[camera]]\nname = \"a\"\nsource = \"/v\"", "store.owed_mib is 0; give it 1 to"),
            (&format!("[live]\nlisten = \"0.0.0.0:8091\"\n{CAMERA}"), "add live.allow_other_machines = true"),
            (&format!("[media]\nbytes_max = 7\n{CAMERA}"), "media.bytes_max is 7"),
            (&format!("[privacy]\nrequests = \"always\"\n{CAMERA}"), "unknown variant"),
            (&format!("[privacy]\nrequests_per_hour = 0\n{CAMERA}"), "privacy.requests_per_hour is 0"),
            (&format!("{CAMERA}record = \"v.mp4\""), "camera \"front\": record.path is v.mp4"),
            (&format!("{CAMERA}[camera.restream]\nurl = \"http://h/\""), "camera \"front\": restream.url is"),
            (&format!("[platform]\nexec = [\"hook.sh\"]\n{CAMERA}"), "name the program by its whole path"),
            (&format!("[platform]\nvehicle = 0\n{CAMERA}"), "platform.vehicle is 0; give it 1 to 255"),
            (&format!("[platform]\nmavlink = \"udp:h:1\"\n{CAMERA}"), "udpout:host:14550 or udpin:0.0.0.0:14550"),
            (
                &format!("[learn.teacher]\nmodel = \"builtin\"\n{CAMERA}"),
                "set learn.enabled = true, or remove [learn.teacher]",
            ),
            (
                &format!("[learn]\nenabled = true\n[learn.teacher]\nmodel = \"builtin\"\nevery_s = 0\n{CAMERA}"),
                "learn.teacher.every_s is 0; give it 1 to 3600",
            ),
            (&format!("[learn.teacher]\nmodel = \"builtin\"\nshure = 0.5\n{CAMERA}"), "did you mean \"sure\"?"),
            (&format!("[platform]\non_leave = \"land\"\n{CAMERA}"), "unknown variant"),
            ("data_dir = \"\"\n[[camera]]\nname = \"a\"\nsource = \"/v\"", "data_dir is empty"),
        ] {
            let failure = read(text).unwrap_err();
            assert_eq!(failure.exit, Exit::Config);
            assert!(failure.sentence.contains(expect), "{text:?} gave {:?}", failure.sentence);
        }
    }
}
