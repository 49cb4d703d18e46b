//! Sets the stage: three areas of one video as three stations, their configuration files, ports and command lines.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use picket_shared::brokers::BrokerUrl;
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::{NodeId, SiteId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use toml::{Table, Value};

use super::audit::Stored;
use super::members;
use super::process::{Ended, Plan, Supervised};

/// The profile that every agent of the demo starts from.
const PROFILE: &str = include_str!("../../../firmware-configs/demo/agent.toml");
/// The coordinator opens its archive and binds its ports within this.
const COORDINATOR_START: Duration = Duration::from_secs(20);

/// One station of the demo.
#[derive(Debug, Clone, Copy)]
pub struct Area {
    /// The agent's name.
    pub node: &'static str,
    /// The place.
    pub station: &'static str,
    /// Where in the video it begins.
    pub start_s: f64,
    /// The part of the picture it sees.
    pub crop: Option<[i64; 4]>,
}

/// One sees all, one is at another time, one sees a part.
pub const AREAS: [Area; 3] = [
    Area { node: "agent-1", station: "plaza", start_s: 0.0, crop: None },
    Area { node: "agent-2", station: "arcade", start_s: 40.0, crop: None },
    Area { node: "agent-3", station: "corner", start_s: 0.0, crop: Some([256, 96, 512, 384]) },
];

/// The site's name.
pub const SITE: &str = "demo";

/// How the agents run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As a camera would: in real time, for ever.
    Live,
    /// As fast as it goes, for so many frames each.
    Once {
        /// Frames of each agent.
        frames: u64,
    },
    /// As [`Mode::Once`], and every frame is detected whether anything moves or not.
    Bench {
        /// Frames of each agent.
        frames: u64,
    },
}

/// Three ports on the loopback address.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// The dashboard.
    pub http: u16,
    /// MQTT.
    pub mqtt: u16,
    /// MQTT over WebSocket.
    pub websocket: u16,
}

impl Ports {
    /// Three in a row.
    pub fn from(first: u16) -> anyhow::Result<Ports> {
        let port = |offset| first.checked_add(offset).filter(|_| first > 0);
        let ports = port(2).zip(port(1)).map(|(websocket, mqtt)| Ports { http: first, mqtt, websocket });
        ports.context("--port must be 1 to 65533")
    }

    /// Three that nobody uses at this moment.
    pub fn free() -> anyhow::Result<Ports> {
        let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
        let [http, mqtt, websocket] = held.map(|listener| listener.and_then(|l| Ok(l.local_addr()?.port())));
        Ok(Ports { http: http?, mqtt: mqtt?, websocket: websocket? })
    }
}

/// The video to play: the one given, or the sample in the cache.
pub fn video(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let cache = || {
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
        cache.unwrap_or_default().join("picket/sample/vtest.avi")
    };
    let video = given.map_or_else(cache, Path::to_owned);
    if video.is_file() {
        return Ok(video);
    }
    let sentence =
        format!("the video {} is missing; `make demo` prepares the sample, --video names another", video.display());
    Err(Failure::new(Exit::Source, sentence).into())
}

/// Everything written, nothing started.
pub struct Stage {
    /// Where everything is kept.
    pub dir: PathBuf,
    /// Where everybody listens.
    pub ports: Ports,
    mode: Mode,
}

impl Stage {
    /// Writes the agents' configuration into `dir`.
    pub fn set(dir: &Path, video: &Path, ports: Ports, mode: Mode) -> anyhow::Result<Stage> {
        let stage = Stage { dir: dir.to_owned(), ports, mode };
        for area in AREAS {
            std::fs::create_dir_all(stage.agent_dir(area.node))?;
            let text = profile(&area, video, &stage)?;
            std::fs::write(stage.agent_dir(area.node).join("agent.toml"), text)?;
            let (site, node) = (SiteId::new(SITE)?, NodeId::new(area.node)?);
            let broker = BrokerUrl::try_from(stage.broker()).map_err(anyhow::Error::msg)?;
            members::admit(&stage.coordinator_dir(), &stage.agent_dir(area.node), &site, &node, &broker)?;
        }
        std::fs::write(stage.coordinator_config(), plan())?;
        Ok(stage)
    }

    /// The coordinator's command line.
    pub fn coordinator(&self) -> Plan {
        let data = self.coordinator_dir();
        let config = self.coordinator_config().into_os_string();
        let args = ["run".into(), "--config".into(), config, "--site".into(), SITE.into(), "--data-dir".into()];
        let args = args.into_iter().chain([
            data.clone().into_os_string(),
            "--mqtt-port".into(),
            self.ports.mqtt.to_string().into(),
            "--websocket-port".into(),
            self.ports.websocket.to_string().into(),
            "--http-port".into(),
            self.ports.http.to_string().into(),
        ]);
        Plan {
            name: "coordinator".into(),
            program: "picket-coordinator",
            args: args.collect(),
            log: self.dir.join("coordinator.log"),
        }
    }

    /// The agents' command lines.
    pub fn agents(&self) -> Vec<Plan> {
        let plan = |area: Area| {
            let dir = self.agent_dir(area.node);
            let mut args = vec!["run".into(), "--config".into(), dir.join("agent.toml").into_os_string()];
            args.extend(["--report".into(), self.agent_report(area.node).into_os_string()]);
            if let Mode::Once { frames } | Mode::Bench { frames } = self.mode {
                let once = ["--frames", &frames.to_string(), "--raw-runs", "100", "--drain-timeout-s", "120"];
                args.extend(once.map(Into::into));
            }
            let log = self.dir.join(format!("{}.log", area.node));
            Plan { name: area.node.into(), program: "picket-agent", args, log }
        };
        AREAS.map(plan).into()
    }

    /// Where an agent keeps everything.
    pub fn agent_dir(&self, node: &str) -> PathBuf {
        self.dir.join(node)
    }

    /// The agents' stores.
    pub fn stores(&self) -> Vec<Stored> {
        let store = |area: Area| Stored {
            name: area.node.to_owned(),
            node: NodeId::new(area.node).expect("a constant name"),
            dir: self.agent_dir(area.node).join("store"),
        };
        AREAS.map(store).into()
    }

    /// Where an agent writes what it did.
    pub fn agent_report(&self, node: &str) -> PathBuf {
        self.agent_dir(node).join("report.json")
    }

    /// Where the coordinator keeps everything.
    pub fn coordinator_dir(&self) -> PathBuf {
        self.dir.join("coordinator")
    }

    fn broker(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.ports.mqtt)
    }

    fn coordinator_config(&self) -> PathBuf {
        self.dir.join("coordinator.toml")
    }

    /// Where the dashboard is.
    pub fn dashboard_url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.ports.http)
    }

    /// Waits until the coordinator answers, or says why it does not.
    pub async fn wait_for_dashboard(&self, coordinator: &mut Supervised) -> anyhow::Result<()> {
        let deadline = Instant::now() + COORDINATOR_START;
        while Instant::now() < deadline {
            if let Ended::For(code) = coordinator.look()? {
                bail!("the coordinator ended with code {code}: {}", coordinator.last_line());
            }
            if self.is_healthy().await {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!(
            "the coordinator did not start within {} s; its log is {}",
            COORDINATOR_START.as_secs(),
            coordinator.log.display()
        )
    }

    async fn is_healthy(&self) -> bool {
        let ask = async {
            let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.ports.http)).await?;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
            let mut answer = Vec::new();
            stream.take(4096).read_to_end(&mut answer).await?;
            std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200"))
        };
        tokio::time::timeout(Duration::from_secs(2), ask).await.is_ok_and(|answer| answer.unwrap_or(false))
    }
}

/// The site plan: each agent can stand in for each other.
fn plan() -> String {
    let cover = |of: &Area| {
        let others = AREAS.iter().filter(|other| other.node != of.node);
        others.map(|other| format!("[[station.cover]]\nnode = \"{}\"\n", other.node)).collect::<String>()
    };
    AREAS
        .iter()
        .map(|area| format!("[[station]]\nname = \"{}\"\nnode = \"{}\"\n{}", area.station, area.node, cover(area)))
        .collect()
}

/// The demo's profile, made into one agent's own.
fn profile(area: &Area, video: &Path, stage: &Stage) -> anyhow::Result<String> {
    let mut table: Table = toml::from_str(PROFILE).context("firmware-configs/demo/agent.toml")?;
    let text = |text: &str| Value::String(text.to_owned());
    let path = |path: &Path| path.to_str().map(text).with_context(|| format!("{} is not UTF-8", path.display()));
    table.insert("site".into(), text(SITE));
    table.insert("node".into(), text(area.node));
    table.insert("station".into(), text(area.station));
    table.insert("data_dir".into(), path(&stage.agent_dir(area.node))?);
    let broker = text(&stage.broker());
    table.insert("mqtt".into(), Value::Table(Table::from_iter([("broker".to_owned(), broker)])));
    if stage.mode == Mode::Live {
        // All agents are on one machine, and a file is the same for each.
        let cover =
            [("sources".to_owned(), Value::Array(vec![text("file")])), ("fps_min".to_owned(), Value::Float(2.0))];
        table.insert("cover".into(), Value::Table(Table::from_iter(cover)));
    }
    let camera = table.get_mut("camera").and_then(|cameras| cameras.get_mut(0)).and_then(Value::as_table_mut);
    let camera = camera.context("firmware-configs/demo/agent.toml has no [[camera]]")?;
    camera.insert("source".into(), path(video)?);
    camera.insert("start_s".into(), Value::Float(area.start_s));
    camera.insert("repeat".into(), Value::Boolean(true));
    camera.insert("pace".into(), text(if stage.mode == Mode::Live { "realtime" } else { "max" }));
    if matches!(stage.mode, Mode::Bench { .. }) {
        let off = Table::from_iter([("enabled".to_owned(), Value::Boolean(false))]);
        camera.insert("gate".into(), Value::Table(off));
    }
    if let Some(crop) = area.crop {
        camera.insert("crop".into(), Value::Array(crop.map(Value::Integer).to_vec()));
    }
    Ok(toml::to_string(&table)?)
}
