//! A site with certificates: mosquitto with the shipped site.conf and access rules, a coordinator with its authority and door,
//! and clients of any identity. Everything ends with it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_coordinator::authority::Authority;
use picket_shared::calendar::unix_s;
use picket_shared::ids::{NodeId, SiteId};
use picket_shared::limits::PACKET_BYTES_MAX;
use picket_shared::mqtt::{self, BrokerUrl, Link, LinkEvent, LinkOptions};
use picket_shared::trust::identity::Identity;
use picket_shared::trust::tls::{self, ClientConfig, TlsFiles};
use picket_shared::trust::token::Token;
use picket_simulation::soak::killer::Deed;
use picket_simulation::soak::site::free_port;
use picket_simulation::soak::victim::{Plan, Victim};
use picket_tests::{binary, run_within, text, wait_for};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// For a machine that is busy with something else.
pub const WITHIN: Duration = Duration::from_secs(90);
const CONF: &str = include_str!("../../../firmware-configs/mosquitto/site.conf");
const SITE_ACL: &str = include_str!("../../../firmware-configs/mosquitto/site.acl");
const PAGE_ACL: &str = include_str!("../../../firmware-configs/mosquitto/page.acl");
/// Hears and says everything: in these tests only.
pub const OBSERVER: &str = "coordinator-observer";

pub struct Rig {
    pub broker: Victim,
    pub coordinator: Victim,
    pub mqtt_port: u16,
    pub page_port: u16,
    pub web_port: u16,
    pub door_port: u16,
    pub http_port: u16,
    pub runtime: Runtime,
    pub dir: TempDir,
}

pub fn site() -> SiteId {
    SiteId::new("yard").unwrap()
}

pub fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

impl Rig {
    /// Starts the broker and the coordinator of a new site.
    pub fn start() -> Rig {
        Rig::start_with("")
    }

    /// The same with these tables in the coordinator's configuration.
    pub fn start_with(tables: &str) -> Rig {
        Rig::saying("info", tables)
    }

    /// The same with so much in the coordinator's log.
    pub fn saying(level: &str, tables: &str) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let [mqtt_port, page_port, web_port, door_port, http_port] = [(); 5].map(|()| free_port().unwrap());
        let at = |name: &str| dir.path().join(name);
        let config = format!(
            "site = \"yard\"\ndata_dir = \"{}\"\n[mqtt]\nbroker = \"mqtts://127.0.0.1:{mqtt_port}\"\n\
             websocket_url = \"ws://127.0.0.1:{web_port}/mqtt\"\n\
             [http]\nlisten = \"127.0.0.1:{http_port}\"\n\
             [enrolment]\nlisten = \"127.0.0.1:{door_port}\"\ndoor = \"127.0.0.1:{door_port}\"\n{tables}",
            at("coordinator").display(),
        );
        fs::write(at("coordinator.toml"), config).unwrap();
        let mut make = Command::new(binary("picket-coordinator"));
        make.args(["authority", "broker", "127.0.0.1", "localhost", "--config"]).arg(at("coordinator.toml"));
        let made = run_within(make.arg("--out").arg(at("broker")), WITHIN);
        assert!(made.status.success(), "{}", text(&made));
        let conf = CONF
            .replace("/etc/mosquitto/picket/", &format!("{}/", at("broker").display()))
            .replace("/etc/mosquitto/", &format!("{}/", dir.path().display()))
            .replace("listener 8883\n", &format!("listener {mqtt_port} 127.0.0.1\n"))
            .replace("listener 9001 127.0.0.1\nprotocol websockets\n", &format!("listener {page_port} 127.0.0.1\n"));
        // Whoever runs the test owns the files. A test speaks no WebSocket, and a browser nothing else; the rules are the same.
        let web = format!(
            "listener {web_port} 127.0.0.1\nprotocol websockets\nallow_anonymous true\nacl_file {}\n",
            at("page.acl").display()
        );
        fs::write(at("mosquitto.conf"), format!("{conf}user root\n{web}")).unwrap();
        let yard = |acl: &str| acl.replace("/v1/site/", "/v1/yard/");
        fs::write(at("site.acl"), format!("{}\nuser {OBSERVER}\ntopic readwrite #\n", yard(SITE_ACL))).unwrap();
        fs::write(at("page.acl"), yard(PAGE_ACL)).unwrap();
        let broker = start(dir.path(), "mosquitto", "mosquitto".into(), ["-c".into(), at("mosquitto.conf").into()]);
        let run = [OsString::from("run"), "--config".into(), at("coordinator.toml").into()];
        let coordinator = start_saying(level, dir.path(), "coordinator", binary("picket-coordinator"), run);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let rig = Rig { broker, coordinator, mqtt_port, page_port, web_port, door_port, http_port, runtime, dir };
        wait_for("the coordinator at the broker", WITHIN, || (rig.metric("broker_up") == 1).then_some(()));
        rig
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs the coordinator's program beside the running coordinator.
    pub fn command(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary("picket-coordinator"));
        run_within(command.args(args).arg("--config").arg(self.at("coordinator.toml")), WITHIN)
    }

    /// A token for this name.
    pub fn token(&self, name: &str) -> String {
        let made = self.command(&["enrol", name]);
        assert!(made.status.success(), "{}", text(&made));
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    }

    /// Runs `picket-agent enrol` in this data directory, with the token on its standard input.
    pub fn enrol(&self, data_dir: &str, token: &str) -> Output {
        let mut command = Command::new(binary("picket-agent"));
        command.arg("enrol").arg("--data-dir").arg(self.at(data_dir)).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), format!("{token}\n").as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// A device of this name, whose data directory has it too.
    pub fn device(&self, name: &str) -> Identity {
        let enrolled = self.enrol(name, &self.token(name));
        assert!(enrolled.status.success(), "{}", text(&enrolled));
        Identity::below(&self.at(name))
    }

    pub fn renew(&self, data_dir: &str, now: bool) -> Output {
        let mut command = Command::new(binary("picket-agent"));
        command.arg("renew").arg("--data-dir").arg(self.at(data_dir));
        run_within(command.args(now.then_some("--now")), WITHIN)
    }

    /// Files of somebody who connects and is no device.
    pub fn client(&self, name: &str) -> TlsFiles {
        let out = self.at("clients");
        let made = self.command(&["authority", "client", name, "--out", out.to_str().unwrap()]);
        assert!(made.status.success(), "{}", text(&made));
        files(&out, "ca.crt", name)
    }

    /// The coordinator's own authority, as its program sees it.
    pub fn authority(&self) -> Authority {
        Authority::open(&self.at("coordinator/authority"), &site(), unix_s()).unwrap()
    }

    pub fn url(&self) -> BrokerUrl {
        format!("mqtts://127.0.0.1:{}", self.mqtt_port).try_into().unwrap()
    }

    /// Connects with these files, and with these filters.
    pub fn connect(&self, client_id: &str, tls: Option<TlsFiles>, filters: &[&str]) -> Peer {
        self.connect_to(self.url(), client_id, tls, filters)
    }

    pub fn connect_to(&self, broker: BrokerUrl, client_id: &str, tls: Option<TlsFiles>, filters: &[&str]) -> Peer {
        self.connect_by(LinkOptions {
            broker,
            client_id: client_id.into(),
            will: None,
            filters: filters.iter().map(|&filter| filter.to_owned()).collect(),
            payload_bytes_max: PACKET_BYTES_MAX,
            tls,
        })
    }

    pub fn connect_by(&self, options: LinkOptions) -> Peer {
        let _in = self.runtime.enter();
        let (link, events) = mqtt::open(options);
        Peer { link, events, handle: self.runtime.handle().clone() }
    }

    /// Why a connection with these files does not come about.
    pub fn refusal(&self, tls: Option<TlsFiles>) -> String {
        let mut peer = self.connect("refused", tls, &[]);
        // With TLS 1.3 a client may take itself for connected before it is told.
        loop {
            if let LinkEvent::Down(reason) = peer.next() {
                return reason;
            }
        }
    }

    /// Kills the broker and starts it again.
    pub fn restart_broker(&mut self) {
        assert!(self.broker.hit(Deed::Kill, Instant::now()).unwrap());
        self.broker.revive().unwrap();
    }

    /// How to knock at the door: knowing it by its fingerprint, with no certificate.
    pub fn stranger(&self) -> Arc<ClientConfig> {
        tls::pinned(self.authority().ca_certificate().unwrap().fingerprint)
    }

    pub fn metric(&self, name: &str) -> u64 {
        let line =
            self.metrics().lines().find_map(|line| line.strip_prefix(&format!("picket_{name} ")).map(str::to_owned));
        line.and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// All that the coordinator counts; empty where it does not answer.
    pub fn metrics(&self) -> String {
        page(self.http_port, "/metrics", "")
    }

    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.at(&format!("{name}.log"))).unwrap_or_default()
    }

    pub fn start_agent(&self, name: &str, args: &[&str]) -> Victim {
        let data = self.at(name).into_os_string();
        let fixed = ["run", "--site", "yard", "--node", name].map(OsString::from);
        let all = fixed.into_iter().chain(["--data-dir".into(), data]).chain(args.iter().map(OsString::from));
        start(self.dir.path(), name, binary("picket-agent"), all)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["mosquitto", "coordinator", "edge"] {
                eprintln!("---- {name} ----\n{}", self.log(name));
            }
        }
    }
}

/// What a port of this machine answers to a request for this page, with these header lines; empty where it does not answer.
pub fn page(port: u16, path: &str, headers: &str) -> String {
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(WITHIN)).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut page = Vec::new();
        stream.read_to_end(&mut page).ok()?;
        Some(String::from_utf8_lossy(&page).into_owned())
    };
    ask().unwrap_or_default()
}

/// Files of this name below a directory.
pub fn files(dir: &Path, ca: &str, name: &str) -> TlsFiles {
    let at = |suffix: &str| Some(dir.join(format!("{name}.{suffix}")));
    TlsFiles { ca: dir.join(ca), certificate: at("crt"), key: at("key") }
}

/// The secret of a token, as it must not be found anywhere.
pub fn secret_of(token: &str) -> String {
    picket_shared::crypto::hex(&Token::parse(token).unwrap().secret)
}

pub fn start(dir: &Path, name: &str, program: PathBuf, args: impl IntoIterator<Item = OsString>) -> Victim {
    let log = dir.join(format!("{name}.log"));
    Victim::start(Plan { name: name.into(), program, args: args.into_iter().collect(), log }).unwrap()
}

/// The same with so much in its log.
pub fn start_saying(
    level: &str,
    dir: &Path,
    name: &str,
    program: PathBuf,
    args: impl IntoIterator<Item = OsString>,
) -> Victim {
    let before = [format!("PICKET_LOG={level}").into(), program.into_os_string()];
    start(dir, name, "env".into(), before.into_iter().chain(args))
}

/// A client at the broker.
pub struct Peer {
    pub link: Link,
    pub events: mpsc::Receiver<LinkEvent>,
    pub handle: tokio::runtime::Handle,
}

impl Peer {
    pub fn next(&mut self) -> LinkEvent {
        let event = async { tokio::time::timeout(WITHIN, self.events.recv()).await };
        self.handle.block_on(event).expect("an event in time").expect("a link that lives")
    }

    /// What has arrived by now.
    pub fn pending(&mut self) -> Option<LinkEvent> {
        self.events.try_recv().ok()
    }

    pub fn until_up(&mut self) {
        loop {
            match self.next() {
                LinkEvent::Up(_) => return,
                LinkEvent::Down(reason) => panic!("{reason}"),
                LinkEvent::Message { .. } => {}
            }
        }
    }

    pub fn say(&self, topic: &str, payload: &str) {
        self.link.publish(topic, payload.as_bytes().to_vec(), false, false).unwrap();
    }

    /// Topics of messages with this payload that came before the one on `last`.
    pub fn heard_until(&mut self, payload: &str, last: &str) -> BTreeSet<String> {
        let mut heard = BTreeSet::new();
        loop {
            match self.next() {
                LinkEvent::Message { topic, payload: bytes } if bytes == payload.as_bytes() => {
                    if topic == last {
                        return heard;
                    }
                    heard.insert(topic);
                }
                LinkEvent::Down(reason) => panic!("{reason}"),
                _ => {}
            }
        }
    }
}
