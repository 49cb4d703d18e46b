//! The coordinator's configuration: one TOML file, a few flags over it, and what makes sense.
//!
//! Every key has a default that is fit for one machine. Unknown keys are refused.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use picket_shared::brokers::check_fallback;
use picket_shared::duty::How;
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::{NodeId, SiteId, StationId};
use picket_shared::learn::lineage::{HeadKind, HeadShape, Lineage};
use picket_shared::limits::NODES_MAX;
use picket_shared::mqtt::BrokerUrl;
use picket_shared::redact;
use picket_shared::trust::tls::TlsFiles;
use picket_shared::trust::token::Door;
use serde::Deserialize;

use crate::learn::agreement::{self, Overlap};
use crate::learn::learner::Terms;
use crate::model::fleet::Heads;
use crate::swarm::Rules;
use crate::{pictures, plan};

/// A slower pace than this is none.
const MODEL_BYTES_PER_S_MIN: u64 = 1024;

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The site: the topic level below `picket/v1`. Two coordinators of one site at one broker throw each other out.
    pub site: SiteId,
    /// Where the archive lives. It needs a disk that keeps what it was told to keep.
    pub data_dir: PathBuf,
    /// Where the authority of the site lies; by default `authority` below `data_dir`. Coordinators of one site share it.
    pub authority_dir: Option<PathBuf>,
    /// Where the registry of models lies; by default `models` below `data_dir`. Coordinators of one site share it.
    pub models_dir: Option<PathBuf>,
    /// The broker.
    pub mqtt: Mqtt,
    /// The web page.
    pub http: Http,
    /// Where new devices are admitted.
    pub enrolment: Enrolment,
    /// Pictures that were asked for and have come.
    pub pictures: pictures::Config,
    /// This coordinator among those of its site.
    pub leader: Leader,
    /// Models of the site's devices.
    pub model: Model,
    /// Who watches what where the plan says nothing.
    pub line: Line,
    /// What all stations learn together.
    pub learn: Learn,
    /// The site plan.
    #[serde(rename = "station")]
    pub stations: Vec<plan::Station>,
}

/// Where new devices are admitted, and old ones renew their certificates.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Enrolment {
    /// Address and port of the door. Without it there is none.
    pub listen: Option<SocketAddr>,
    /// Where devices reach it, as `host:port`: that is what tokens say.
    pub door: Option<String>,
    /// The brokers that devices are told of; by default those of `[mqtt]`.
    pub brokers: Vec<BrokerUrl>,
}

/// Which coordinator leads, where a site has a standby.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Leader {
    /// This coordinator's name; those of one site differ.
    pub name: NodeId,
    /// The file that they settle it in: one that all of them see. By default it lies beside the archive, for a coordinator
    /// without a standby.
    pub file: Option<PathBuf>,
}

/// Models of the site's devices.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// Most bytes a second of models on their way to devices, all of them together. Higher is done sooner; too high delays
    /// what devices say where the link is thin. Each device gets each byte, so a link of a device carries as much.
    pub bytes_per_s: u64,
    /// Tell Home Assistant, below its own prefix `homeassistant`, of an update entity for each node. Its broker must be the
    /// site's.
    pub home_assistant: bool,
}

impl Default for Model {
    fn default() -> Self {
        Model { bytes_per_s: 256 * 1024, home_assistant: false }
    }
}

/// Who watches what where the plan says nothing.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Line {
    /// Stations without a `[[station.cover]]` can be covered by every node in this way; `camera` is the only one that needs
    /// no more to be said.
    pub anyone: Option<How>,
}

/// What all stations learn together.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Learn {
    /// Whether anything is learned.
    pub enabled: bool,
    /// The SHA-256 of the file of the frozen network, whose features are learned from.
    pub backbone: String,
    /// What a head computes.
    pub kind: HeadKind,
    /// Features of a candidate.
    pub inputs: u32,
    /// Classes; 2 but for `softmax`.
    pub classes: u32,
    /// Counts the times that this fleet began to learn anew. A higher one forgets what was learned.
    pub fleet_epoch: u32,
    /// The stations' learning rate, which the gate's own steps take too.
    pub rate: f32,
    /// Every station is trusted: changes are cut and averaged, and none is left out.
    pub trusted: bool,
    /// What becomes of a head that is fit to be released.
    pub release: Releases,
    /// Stations that try a released head before the others do; where none of them learns, one of ten of those that do.
    pub canaries: Vec<StationId>,
    /// Cameras that see the same ground: what they say of each other's events is learned from.
    pub overlap: Vec<Overlap>,
}

/// What becomes of a head that is fit to be released.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Releases {
    /// Where there is a registry of models, it is brought to the stations, and they judge by released heads alone.
    #[default]
    Auto,
    /// It is laid out as a file, and stations judge by the head that is learned.
    Off,
}

impl Default for Learn {
    fn default() -> Self {
        let (kind, inputs, classes) = (HeadKind::Logistic, 137, 2);
        Learn {
            enabled: false,
            backbone: String::new(),
            kind,
            inputs,
            classes,
            fleet_epoch: 1,
            rate: 0.3,
            trusted: false,
            release: Releases::Auto,
            canaries: vec![],
            overlap: Vec::new(),
        }
    }
}

impl Learn {
    /// What the learner goes by; nothing where nothing is learned.
    pub fn terms(&self) -> Option<Terms> {
        let shape = HeadShape { kind: self.kind, inputs: self.inputs, classes: self.classes };
        let lineage = Lineage { fleet_epoch: self.fleet_epoch, backbone: self.backbone.clone(), shape };
        self.enabled.then_some(Terms { lineage, rate: self.rate, trusted: self.trusted })
    }

    /// How heads are released; nothing where they are not.
    pub fn heads(&self) -> Option<Heads> {
        let lineage = self.terms().filter(|_| self.release == Releases::Auto)?.lineage;
        Some(Heads { lineage, canaries: self.canaries.clone() })
    }

    fn check(&self) -> Result<(), String> {
        let Some(terms) = self.terms() else { return Ok(()) };
        if self.canaries.len() > NODES_MAX {
            return Err(format!("learn.canaries names {} stations, of at most {NODES_MAX}", self.canaries.len()));
        }
        terms.lineage.check().map_err(|sentence| format!("learn: {sentence}"))?;
        agreement::check(&self.overlap)?;
        match self.rate > 0.0 && self.rate <= 10.0 {
            true => Ok(()),
            false => Err(format!("learn.rate is {}; choose more than 0 and at most 10", self.rate)),
        }
    }
}

impl Default for Leader {
    fn default() -> Self {
        Leader { name: NodeId::new("main").expect("a constant name"), file: None }
    }
}

/// The broker: a real one, or one inside this process.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    /// Run a broker inside this process, on the loopback only: for one machine, without access rules.
    pub embedded: bool,
    /// The real broker, where none is embedded. Default: `mqtt://127.0.0.1:1883`.
    pub broker: Option<BrokerUrl>,
    /// Others, in the order in which they are used where that one cannot be reached. The same list for all of the site.
    pub fallback: Vec<BrokerUrl>,
    /// What connections by TLS (`mqtts://`) are made with; by default what the site's own authority gives this coordinator.
    pub tls: Option<TlsFiles>,
    /// Speak to brokers of other machines in the clear, though the site has an authority.
    pub plain: bool,
    /// The embedded broker's TCP port.
    pub port: u16,
    /// The embedded broker's WebSocket port.
    pub websocket_port: u16,
    /// Where a browser reaches the real broker by WebSocket, as `ws://host:port/path`. Without it the page shows no
    /// events.
    pub websocket_url: Option<String>,
}

/// The web page and the metrics.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address and port. Whoever reaches it can look: outside the loopback put a proxy in front that asks who it is.
    pub listen: SocketAddr,
    /// Take operators' orders from other machines too. Their tokens travel in the clear unless something in between has TLS.
    pub operators_anywhere: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            site: SiteId::new("site").expect("a constant name"),
            data_dir: "/var/lib/picket-coordinator".into(),
            authority_dir: None,
            models_dir: None,
            mqtt: Mqtt::default(),
            http: Http::default(),
            enrolment: Enrolment::default(),
            pictures: pictures::Config::default(),
            leader: Leader::default(),
            model: Model::default(),
            line: Line::default(),
            learn: Learn::default(),
            stations: Vec::new(),
        }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Mqtt {
            embedded: false,
            broker: None,
            fallback: vec![],
            tls: None,
            plain: false,
            port: 1883,
            websocket_port: 9001,
            websocket_url: None,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Http { listen: SocketAddr::new(loopback(), 8080), operators_anywhere: false }
    }
}

/// Flags that stand over the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Configuration file (TOML); without it every key has its default
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The site's name
    #[arg(long)]
    pub site: Option<SiteId>,
    /// Where the archive lives
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Embed a broker, with this TCP port on the loopback
    #[arg(long, value_name = "PORT")]
    pub mqtt_port: Option<u16>,
    /// Embed a broker, with this WebSocket port on the loopback
    #[arg(long, value_name = "PORT")]
    pub websocket_port: Option<u16>,
    /// The web page's port
    #[arg(long, value_name = "PORT")]
    pub http_port: Option<u16>,
}

impl Config {
    /// Reads the file, puts the flags over it, and checks the whole.
    pub fn read(flags: &Flags) -> Result<Config, Failure> {
        let mut config = match &flags.config {
            Some(path) => picket_shared::config::load(path)?,
            None => Config::default(),
        };
        config.put(flags);
        config.check().map_err(|sentence| {
            let file = flags.config.as_deref().unwrap_or(Path::new("(defaults and flags)"));
            Failure::new(Exit::Config, format!("configuration {}: {sentence}", file.display()))
        })?;
        Ok(config)
    }

    fn put(&mut self, flags: &Flags) {
        let flags = flags.clone();
        self.mqtt.embedded |= flags.mqtt_port.is_some() || flags.websocket_port.is_some();
        self.site = flags.site.unwrap_or_else(|| self.site.clone());
        self.data_dir = flags.data_dir.unwrap_or_else(|| self.data_dir.clone());
        self.mqtt.port = flags.mqtt_port.unwrap_or(self.mqtt.port);
        self.mqtt.websocket_port = flags.websocket_port.unwrap_or(self.mqtt.websocket_port);
        self.http.listen.set_port(flags.http_port.unwrap_or(self.http.listen.port()));
    }

    /// Whether the values make sense together; the error is a sentence with the remedy.
    pub fn check(&self) -> Result<(), String> {
        let mqtt = &self.mqtt;
        plan::check(&self.stations)?;
        self.learn.check()?;
        if self.line.anyone.is_some_and(|how| how != How::Camera) {
            return Err("line.anyone can only be \"camera\"; for the other ways each [[station.cover]] says what is \
                        seen or done there"
                .into());
        }
        if self.model.bytes_per_s < MODEL_BYTES_PER_S_MIN {
            return Err(format!("model.bytes_per_s is below {MODEL_BYTES_PER_S_MIN}: one piece would take a minute"));
        }
        if self.data_dir.as_os_str().is_empty() {
            return Err("data_dir is empty; name a directory for the archive".into());
        }
        if mqtt.embedded && mqtt.broker.is_some() {
            return Err("mqtt.broker names a broker and another one is to be embedded; remove mqtt.broker, or set \
                        mqtt.embedded = false and give no --mqtt-port or --websocket-port"
                .into());
        }
        if mqtt.embedded && !mqtt.fallback.is_empty() {
            return Err(
                "mqtt.fallback names brokers beside one that is embedded, and agents of other machines do not reach \
                        that; remove it, or set mqtt.embedded = false"
                    .into(),
            );
        }
        self.pictures.check()?;
        check_fallback(&self.broker(), &mqtt.fallback)?;
        mqtt.tls.as_ref().map_or(Ok(()), TlsFiles::check)?;
        if let Some((first, others)) = self.enrolment.brokers.split_first() {
            check_fallback(first, others).map_err(|what| what.replace("mqtt.fallback", "enrolment.brokers"))?;
        }
        if let Some(door) = self.enrolment.door.as_ref().filter(|door| Door::parse(door).is_none()) {
            return Err(format!("enrolment.door \"{}\" is not of the form host:port", redact::text(door)));
        }
        let ports = [
            ("mqtt.port", mqtt.port, mqtt.embedded),
            ("mqtt.websocket_port", mqtt.websocket_port, mqtt.embedded),
            ("the port of http.listen", self.http.listen.port(), true),
            (
                "the port of enrolment.listen",
                self.enrolment.listen.map_or(0, |listen| listen.port()),
                self.enrolment.listen.is_some(),
            ),
        ];
        let mut used = ports.iter().filter(|(.., in_use)| *in_use).peekable();
        while let Some((name, port, _)) = used.next() {
            if *port == 0 {
                return Err(format!("{name} is 0; choose a port from 1 to 65535"));
            }
            if let Some((other, ..)) = used.clone().find(|(_, other, _)| other == port) {
                return Err(format!("{name} and {other} are both {port}; choose different ports"));
            }
        }
        match &mqtt.websocket_url {
            Some(_) if mqtt.embedded => {
                Err("mqtt.websocket_url is for a real broker; remove it, or set mqtt.embedded = false".into())
            }
            Some(url) if !is_websocket_url(url) => {
                Err(format!("mqtt.websocket_url \"{}\" is not of the form ws://host:port/path", redact::text(url)))
            }
            _ => Ok(()),
        }
    }

    /// Where the authority lies.
    pub fn authority_dir(&self) -> PathBuf {
        self.authority_dir.clone().unwrap_or_else(|| self.data_dir.join("authority"))
    }

    /// Where the registry of models lies.
    pub fn models_dir(&self) -> PathBuf {
        self.models_dir.clone().unwrap_or_else(|| self.data_dir.join("models"))
    }

    /// Where coordinators settle who leads.
    pub fn leader_file(&self) -> PathBuf {
        self.leader.file.clone().unwrap_or_else(|| self.data_dir.join("leader"))
    }

    /// The site plan and what is assumed without one.
    pub fn rules(&self) -> Rules {
        Rules { stations: self.stations.clone(), anyone: self.line.anyone }
    }

    /// Where this coordinator finds its broker.
    pub fn broker(&self) -> BrokerUrl {
        let local = BrokerUrl { host: loopback().to_string(), port: self.mqtt.port, tls: false };
        self.mqtt.broker.clone().unwrap_or(local)
    }

    /// This coordinator's brokers, in the order in which they are used.
    pub fn brokers(&self) -> Vec<BrokerUrl> {
        std::iter::once(self.broker()).chain(self.mqtt.fallback.iter().cloned()).collect()
    }

    /// The brokers that devices are told of.
    pub fn brokers_told(&self) -> Vec<BrokerUrl> {
        if self.enrolment.brokers.is_empty() { self.brokers() } else { self.enrolment.brokers.clone() }
    }

    /// Where a browser finds the broker.
    pub fn websocket_url(&self) -> Option<String> {
        let embedded = || format!("ws://{}:{}/mqtt", loopback(), self.mqtt.websocket_port);
        if self.mqtt.embedded { Some(embedded()) } else { self.mqtt.websocket_url.clone() }
    }
}

/// The address that only this machine can reach.
pub fn loopback() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// Plain enough to stand in a header of the web page.
fn is_websocket_url(url: &str) -> bool {
    let rest = url.strip_prefix("ws://").or_else(|| url.strip_prefix("wss://"));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:/[]".contains(c);
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && rest.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATE: &str = "station = \"gate\", camera = \"main\", zone = \"door\"";

    fn check(text: &str) -> Result<Config, String> {
        let config: Config = picket_shared::config::parse(text)?;
        config.check().map(|()| config)
    }

    #[test]
    fn defaults_fit_one_machine_and_stay_on_it() {
        let config = check("").unwrap();
        assert_eq!(config.broker().to_string(), "mqtt://127.0.0.1:1883");
        assert!(config.http.listen.ip().is_loopback() && !config.mqtt.embedded);
        assert_eq!(config.websocket_url(), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_remedy() {
        for (text, expect) in [
            ("sites = \"yard\"", "did you mean \"site\"?"),
            ("[mqtt]\nports = 1", "did you mean \"port\"?"),
            ("[pictures]\nbytes_max = 7", "pictures.bytes_max is 7"),
            ("[http]\nlisten = \"8080\"", "socket address"),
            ("site = \"Yard\"", "a character other than"),
            ("[enrolment]\ndoor = \"hill\"", "host:port"),
            ("[enrolment]\nlisten = \"0.0.0.0:8080\"", "choose different ports"),
            (
                "[enrolment]\nbrokers = [\"mqtts://a\", \"mqtts://a:8883\"]",
                "enrolment.brokers names mqtts://a:8883 again",
            ),
            ("[mqtt.tls]\nca = \"/ca\"\nkey = \"/key\"", "name both, or none"),
            ("[line]\nanyone = \"flight\"", "can only be \"camera\""),
            ("[[station]]\nname = \"a\"\nnode = \"n\"\n[[station.cover]]\nnode = \"n\"", "its own node"),
            ("data_dir = \"\"", "name a directory"),
            ("[mqtt]\nport = -1", "expected u16"),
            ("[mqtt]\nport = 70000", "expected u16"),
            ("[mqtt]\nembedded = true\nport = 0", "mqtt.port is 0"),
            ("[mqtt]\nembedded = true\nport = 8080", "both 8080"),
            ("[mqtt]\nembedded = true\nwebsocket_port = 1883", "both 1883"),
            ("[mqtt]\nembedded = true\nbroker = \"mqtt://b\"", "remove mqtt.broker"),
            ("[mqtt]\nembedded = true\nfallback = [\"mqtt://b\"]", "remove it, or set mqtt.embedded = false"),
            ("[mqtt]\nbroker = \"mqtt://b\"\nfallback = [\"mqtt://b:1883\"]", "name each broker once"),
            ("[mqtt]\nbroker = \"b:1883\"", "write it as mqtt://host:1883"),
            ("[mqtt]\nembedded = true\nwebsocket_url = \"ws://b:1/\"", "is for a real broker"),
            ("[mqtt]\nwebsocket_url = \"http://b\"", "ws://host:port/path"),
            (
                &*format!(
                    "[learn]\nenabled = true\nbackbone = \"{}\"\n[[learn.overlap]]\none = {{ {GATE} }}\nother = {{ {GATE} }}",
                    "ab".repeat(32)
                ),
                "name two cameras that see the same ground",
            ),
            ("[mqtt]\nwebsocket_url = \"ws://b; script-src *\"", "ws://host:port/path"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(expect), "{text:?} gave {error:?}");
        }
    }

    #[test]
    fn flags_stand_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "site = \"yard\"\n[mqtt]\nport = 11\n[http]\nlisten = \"127.0.0.1:12\"").unwrap();
        let flags = Flags { config: Some(path), websocket_port: Some(13), http_port: Some(14), ..Flags::default() };
        let config = Config::read(&flags).unwrap();
        assert_eq!((config.site.as_str(), config.mqtt.port, config.http.listen.port()), ("yard", 11, 14));
        assert_eq!(config.websocket_url().as_deref(), Some("ws://127.0.0.1:13/mqtt"));
    }
}
