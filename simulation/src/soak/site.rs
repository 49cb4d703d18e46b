//! A whole site on one machine: mosquitto with the shipped configuration, the coordinator, outboxes; where they live and how
//! they are started.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use picket_shared::ids::{NodeId, SiteId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::victim::Plan;

/// What a site is told to run.
pub const MOSQUITTO: &str = include_str!("../../../firmware-configs/mosquitto/mosquitto.conf");
/// Below the ports that the kernel gives to outgoing connections: one of those could take the port of a broker that is
/// down, even by connecting to itself.
const PORTS: std::ops::Range<u16> = 10_000..30_000;
/// An answer of the coordinator's page on this machine.
const ANSWER: Duration = Duration::from_secs(2);

/// Everything written, nothing started.
#[derive(Debug, Clone)]
pub struct Site {
    /// Its name.
    pub site: SiteId,
    /// Where everything is kept.
    pub dir: PathBuf,
    /// Where our programs are.
    pub programs: PathBuf,
    /// Where the broker listens.
    pub mqtt_port: u16,
    /// Where the coordinator's page is.
    pub http_port: u16,
}

impl Site {
    /// Writes the configurations into `dir`. `mosquitto` is the broker's, with the listeners of [`MOSQUITTO`].
    pub fn set(dir: &Path, programs: &Path, mosquitto: &str) -> anyhow::Result<Site> {
        let (mqtt_port, http_port, websocket_port) = (free_port()?, free_port()?, free_port()?);
        let site = SiteId::new("soak").expect("a constant name");
        let of = Site { site, dir: dir.to_owned(), programs: programs.to_owned(), mqtt_port, http_port };
        let listen = |port: u16| format!("listener {port} 127.0.0.1\n");
        let mosquitto = mosquitto
            .replace("listener 1883\n", &listen(mqtt_port))
            .replace("listener 9001\n", &listen(websocket_port));
        std::fs::write(dir.join("mosquitto.conf"), mosquitto)?;
        let coordinator = format!(
            "site = \"{}\"\ndata_dir = \"{}\"\n[mqtt]\nbroker = \"{}\"\n[http]\nlisten = \"127.0.0.1:{http_port}\"\n",
            of.site,
            of.archive().display(),
            of.broker(mqtt_port),
        );
        std::fs::write(dir.join("coordinator.toml"), coordinator)?;
        Ok(of)
    }

    /// The broker's address at a port of this machine.
    pub fn broker(&self, port: u16) -> String {
        format!("mqtt://127.0.0.1:{port}")
    }

    /// Mosquitto.
    pub fn mosquitto(&self) -> Plan {
        self.plan("mosquitto", "mosquitto".into(), ["-c".into(), self.dir.join("mosquitto.conf").into()])
    }

    /// The coordinator.
    pub fn coordinator(&self) -> Plan {
        let program = self.programs.join("picket-coordinator");
        self.plan("coordinator", program, ["run".into(), "--config".into(), self.dir.join("coordinator.toml").into()])
    }

    /// An outbox that reaches the broker at this port, and keeps its store in a directory of `name`.
    pub fn outbox(&self, name: &str, node: &NodeId, rate_hz: u64, mqtt_port: u16) -> Plan {
        let text = |text: String| OsString::from(text);
        let args = [
            "outbox".into(),
            "--dir".into(),
            self.outbox_dir(name).into(),
            "--site".into(),
            text(self.site.to_string()),
            "--node".into(),
            text(node.to_string()),
            "--rate-hz".into(),
            text(rate_hz.to_string()),
            "--broker".into(),
            text(self.broker(mqtt_port)),
        ];
        self.plan(name, self.programs.join("picket-simulation"), args)
    }

    /// A naive publisher, or the reader.
    pub fn naive(&self, name: &str, read: bool, rate_hz: u64) -> Plan {
        let args = [
            "naive",
            "--name",
            name,
            "--port",
            &self.mqtt_port.to_string(),
            "--rate-hz",
            &rate_hz.to_string(),
            "--file",
        ];
        let args = args.map(OsString::from).into_iter().chain([self.naive_file(name).into()]);
        let args = args.chain(read.then(|| "--read".into()));
        self.plan(name, self.programs.join("picket-simulation"), args)
    }

    /// Where an outbox keeps everything.
    pub fn outbox_dir(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The ids that a naive process wrote down.
    pub fn naive_file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.ids"))
    }

    /// Where the coordinator keeps everything.
    pub fn archive(&self) -> PathBuf {
        self.dir.join("coordinator")
    }

    /// The coordinator's metrics, if it answers.
    pub async fn metrics(&self) -> Option<Metrics> {
        let ask = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.http_port)).await?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
            let mut page = String::new();
            stream.take(1 << 20).read_to_string(&mut page).await?;
            std::io::Result::Ok(page)
        };
        let page = tokio::time::timeout(ANSWER, ask).await.ok()?.ok()?;
        page.starts_with("HTTP/1.1 200").then_some(Metrics(page))
    }

    fn plan(&self, name: &str, program: PathBuf, args: impl IntoIterator<Item = OsString>) -> Plan {
        let log = self.dir.join(format!("{name}.log"));
        Plan { name: name.to_owned(), program, args: args.into_iter().collect(), log }
    }
}

/// What the coordinator counts.
#[derive(Debug, Clone)]
pub struct Metrics(String);

impl Metrics {
    /// The value of a metric, without its prefix and with its labels; 0 where it is not.
    pub fn get(&self, name: &str) -> u64 {
        let line = self.0.lines().find_map(|line| line.strip_prefix("picket_")?.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

/// A port that nobody listens on.
pub fn free_port() -> anyhow::Result<u16> {
    let mut tries = std::iter::repeat_with(|| fastrand::u16(PORTS)).take(1000);
    tries.find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()).context("no free port on 127.0.0.1")
}
