//! A site of real processes that watch a real video: mosquitto, coordinators, three agents of which each can stand in for the
//! others, and an observer that hears what anybody at the broker can. Everything ends with it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use picket_coordinator::line::SETTLE_MS;
use picket_shared::codec;
use picket_shared::duty::{Heartbeat, Sight};
use picket_shared::event::Event;
use picket_shared::ids::{NodeId, SiteId, StationId};
use picket_shared::limits::PACKET_BYTES_MAX;
use picket_shared::mqtt::{self, BrokerUrl, LinkEvent, LinkOptions};
use picket_shared::status::Health;
use picket_shared::topics::Topic;
use picket_shared::view::{Change, ChangeKind, Guard, Site, StationView};
use picket_shared::wire::EventBatch;
use picket_simulation::soak::killer::Deed;
use picket_simulation::soak::site::{MOSQUITTO, free_port};
use picket_simulation::soak::victim::{Plan, Victim};
use picket_tests::{binary, sample_video, wait_for};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::cable;

/// For a machine that is busy with something else.
pub const WITHIN: Duration = Duration::from_secs(90);

/// Each node, its station, and who stands in, in the order of the plan.
pub const LINE: [(&str, &str, [&str; 2]); 3] =
    [("a", "gate", ["b", "c"]), ("b", "yard", ["c", "a"]), ("c", "dock", ["a", "b"])];

/// What was heard, and when.
#[derive(Debug, Default)]
pub struct Heard {
    pub site: Option<Site>,
    /// The last heartbeat of each node.
    pub beats: BTreeMap<String, (Instant, Heartbeat)>,
    pub changes: Vec<(Instant, Change)>,
    /// Events that were published for another's station: who, which, when.
    pub covered: Vec<(Instant, String, Event)>,
    /// When the pictures were taken of which each node told events of its own station, milliseconds since 1970.
    pub own_ms: BTreeMap<String, Vec<u64>>,
    /// What coordinators said of themselves.
    pub coordinators: Vec<Health>,
}

/// Where the site's processes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wires {
    /// All on this machine's loopback.
    Loopback,
    /// Each behind a cable of its own; only in a network of `cable`'s.
    Cables,
}

impl Wires {
    /// Where the broker is.
    fn host(self) -> &'static str {
        match self {
            Wires::Loopback => "127.0.0.1",
            Wires::Cables => cable::HOST,
        }
    }
}

pub struct Rig {
    pub broker: Victim,
    pub coordinators: Vec<Victim>,
    /// Where each coordinator has its page.
    pages: Vec<u16>,
    pub agents: BTreeMap<&'static str, Victim>,
    at: Place,
    heard: Arc<Mutex<Heard>>,
    dir: TempDir,
    // Ends the observer with it.
    _runtime: Runtime,
}

/// Where processes find the broker, and what else they share.
#[derive(Debug, Clone)]
struct Place {
    dir: PathBuf,
    wires: Wires,
    port: u16,
    websocket: u16,
}

/// Node a's model.
const MODEL: &str = "gate.onnx";

fn site() -> SiteId {
    SiteId::new("line").unwrap()
}

impl Rig {
    /// Starts a site with so many coordinators, and waits until each agent watches its own station and each has somebody
    /// that could cover it.
    pub fn start(coordinators: usize) -> Rig {
        Rig::wired(coordinators, Wires::Loopback)
    }

    /// The same, over these wires.
    pub fn wired(coordinators: usize, wires: Wires) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let [port, websocket] = [(); 2].map(|()| free_port().unwrap());
        let at = Place { dir: dir.path().to_owned(), wires, port, websocket };
        let listen = |port: u16| format!("listener {port} {}\n", wires.host());
        let conf = MOSQUITTO.replace("listener 1883\n", &listen(port)).replace("listener 9001\n", &listen(websocket));
        let conf_path = dir.path().join("mosquitto.conf");
        std::fs::write(&conf_path, conf).unwrap();
        let plan = Plan {
            name: "mosquitto".into(),
            program: "mosquitto".into(),
            args: vec!["-c".into(), conf_path.into()],
            log: dir.path().join("mosquitto.log"),
        };
        let broker = Victim::start(plan).unwrap();
        let (coordinators, pages) = (0..coordinators).map(|n| coordinator(&at, n, "leader")).unzip();
        another_model(dir.path());
        let agents = LINE.iter().map(|(node, station, _)| (*node, agent(&at, node, station))).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let heard = Arc::default();
        runtime.spawn(listen_to(wires, port, Arc::clone(&heard)));
        let began = Instant::now();
        let rig = Rig { broker, coordinators, pages, agents, at, heard, dir, _runtime: runtime };
        rig.until("all to be watched at home", |heard| {
            let site = heard.site.as_ref()?;
            let settled = |view: &StationView| {
                view.guard == Guard::Home && view.sight == Some(Sight::Watching) && view.ranks.len() == 2
            };
            (site.stations.len() == LINE.len() && site.stations.iter().all(settled)).then_some(())
        });
        // A coordinator takes nothing from anybody at its beginning.
        std::thread::sleep(
            (began + Duration::from_millis(SETTLE_MS + 1_000)).saturating_duration_since(Instant::now()),
        );
        rig
    }

    /// Starts one coordinator more, with a leader's file of its own, so that nothing but the broker tells it of the others.
    pub fn stranger(&mut self) {
        let number = self.coordinators.len();
        let (coordinator, page) = coordinator(&self.at, number, &format!("leader-{number}"));
        self.coordinators.push(coordinator);
        self.pages.push(page);
    }

    /// A coordinator's page.
    pub fn page(&self, coordinator: usize) -> String {
        format!("http://127.0.0.1:{}/", self.pages[coordinator])
    }

    /// What is wrong with a coordinator, as it says itself.
    pub fn problems(&self, coordinator: usize) -> String {
        let mut page = std::net::TcpStream::connect(("127.0.0.1", self.pages[coordinator])).unwrap();
        page.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut said = String::new();
        page.read_to_string(&mut said).unwrap();
        said
    }

    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap()
    }

    /// Waits until what was heard is so.
    pub fn until<T>(&self, what: &str, mut ask: impl FnMut(&Heard) -> Option<T>) -> T {
        wait_for(&format!("{what}; the processes' logs are above"), WITHIN, || ask(&self.heard()))
    }

    pub fn kill(&mut self, node: &str) -> Instant {
        hit(self.agents.get_mut(node).unwrap(), Deed::Kill)
    }

    pub fn freeze(&mut self, node: &str) -> Instant {
        hit(self.agents.get_mut(node).unwrap(), Deed::Freeze)
    }

    pub fn revive(&mut self, node: &str) -> Instant {
        self.agents.get_mut(node).unwrap().revive().unwrap();
        Instant::now()
    }

    /// Waits until a node other than `home` says that it watches a station, and gives which, and when it did: the first
    /// picture came not later. Who is first in line depends on what each has to spare.
    pub fn until_covered(&self, station: &str, home: &str, since: Instant) -> (String, Instant) {
        self.until(&format!("another than {home} to watch {station}"), |heard| {
            heard.beats.iter().filter(|(node, (at, _))| *node != home && *at >= since).find_map(|(node, (at, beat))| {
                let held = beat.holdings.iter().find(|held| held.station.as_str() == station)?;
                (held.sight == Sight::Watching).then(|| (node.clone(), *at))
            })
        })
    }

    /// Waits until a node holds its own station only.
    pub fn until_home(&self, node: &str, since: Instant) {
        self.until(&format!("{node} to cover nothing"), |heard| {
            heard.beats.get(node).filter(|(at, beat)| *at >= since && beat.holdings.len() == 1).map(|_| ())
        });
    }

    /// Waits until the site's view says this of a station.
    pub fn until_seen(&self, station: &str, guard: Guard, holder: Option<&str>) -> StationView {
        self.until(&format!("{station} to be {guard:?} by {holder:?}"), |heard| {
            let view = heard.site.as_ref()?.stations.iter().find(|view| view.station.as_str() == station)?;
            let held = view.holder.as_ref().map(NodeId::as_str) == holder;
            (view.guard == guard && held).then(|| view.clone())
        })
    }

    /// Waits for an event that a node tells of a station that it covers.
    pub fn until_event(&self, node: &str, station: &str, since: Instant) -> Event {
        self.until(&format!("an event of {station} by {node}"), |heard| {
            let found = heard
                .covered
                .iter()
                .find(|(at, who, event)| *at >= since && who == node && event.station.as_str() == station);
            found.map(|(.., event)| event.clone())
        })
    }

    /// Changes of this kind since then.
    pub fn changes(&self, kind: ChangeKind, since: Instant) -> Vec<Change> {
        let heard = self.heard();
        let those = heard.changes.iter().filter(|(at, change)| *at >= since && change.change == kind);
        those.map(|(_, change)| change.clone()).collect()
    }

    /// The row that says who leads is gone, as with the disk of a coordinator.
    pub fn lose_the_row(&self) {
        std::fs::remove_file(self.dir.path().join("leader")).unwrap();
    }

    /// Which coordinator leads, as the row says that they share.
    pub fn leading(&self) -> usize {
        let row = std::fs::read_to_string(self.dir.path().join("leader")).unwrap();
        (0..self.coordinators.len()).find(|n| row.contains(&format!("coordinator-{n}"))).unwrap()
    }

    /// What a process has said.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["a", "b", "c", "coordinator-0", "coordinator-1"] {
                eprintln!("---- {name} ----\n{}", self.log(name));
            }
        }
    }
}

/// Hits a process until it is revived.
pub fn hit(victim: &mut Victim, deed: Deed) -> Instant {
    let never = Instant::now() + Duration::from_secs(3600);
    assert!(victim.hit(deed, never).unwrap());
    Instant::now()
}

/// Starts one of our programs with a configuration, behind its cable where there is one.
fn start(at: &Place, name: &str, program: &str, config: &str) -> Victim {
    let path = at.dir.join(format!("{name}.toml"));
    std::fs::write(&path, config).unwrap();
    let run: [OsString; 4] = [binary(program).into(), "run".into(), "--config".into(), path.into()];
    let words = match at.wires {
        Wires::Loopback => run.to_vec(),
        Wires::Cables => cable::behind(name).into_iter().map(OsString::from).chain(run).collect(),
    };
    let (program, args) = words.split_first().expect("a program and its arguments");
    let log = at.dir.join(format!("{name}.log"));
    Victim::start(Plan { name: name.into(), program: program.into(), args: args.to_vec(), log }).unwrap()
}

fn coordinator(at: &Place, number: usize, leader: &str) -> (Victim, u16) {
    let page = free_port().unwrap();
    let (name, host, dir) = (format!("coordinator-{number}"), at.wires.host(), &at.dir);
    let stations = LINE.iter().map(|(node, station, covers)| {
        let covers: String = covers.iter().map(|by| format!("[[station.cover]]\nnode = \"{by}\"\n")).collect();
        format!("[[station]]\nname = \"{station}\"\nnode = \"{node}\"\n{covers}")
    });
    let config = format!(
        "site = \"{}\"\ndata_dir = \"{}\"\n[mqtt]\nbroker = \"mqtt://{host}:{}\"\nwebsocket_url = \"ws://{host}:{}\"\n\
         [http]\nlisten = \"127.0.0.1:{page}\"\n[leader]\nname = \"{name}\"\nfile = \"{}\"\n{}",
        site(),
        dir.join(&name).display(),
        at.port,
        at.websocket,
        dir.join(leader).display(),
        stations.collect::<String>(),
    );
    (start(at, &name, "picket-coordinator", &config), page)
}

fn agent(at: &Place, node: &str, station: &str) -> Victim {
    let dir = &at.dir;
    let config = format!(
        "site = \"{}\"\nnode = \"{node}\"\nstation = \"{station}\"\ndata_dir = \"{}\"\n\
         [mqtt]\nbroker = \"mqtt://{}:{}\"\n[live]\nenabled = false\n\
         [cover]\nsources = [\"file\"]\nfps_min = 2.0\nmodels = \"{}\"\n{}\
         [[camera]]\nname = \"main\"\nsource = \"file:{}\"\nrepeat = true\nsnapshots = false\nstart_s = {}.0\n",
        site(),
        dir.join(node).display(),
        at.wires.host(),
        at.port,
        dir.display(),
        if node == "a" { format!("[detector]\nmodel = \"{}\"\n", dir.join(MODEL).display()) } else { String::new() },
        sample_video().display(),
        // So that no two stations show the same, and people are there.
        node.as_bytes()[0] - b'a',
    );
    start(at, node, "picket-agent", &config)
}

/// A model that works as the built-in one does and is another file, with its head: node a has it.
fn another_model(dir: &Path) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/models");
    let mut model = std::fs::read(models.join("centernet_u8_384x288_top100_w16.onnx")).unwrap();
    // The field doc_string of an ONNX file, again.
    model.extend(b"\x32\x05gate!");
    std::fs::write(dir.join(MODEL), model).unwrap();
    std::fs::copy(models.join("centernet_person.head.f32"), dir.join("gate.head.f32")).unwrap();
}

/// The first digits of its SHA-256, as events tell them.
pub fn digest_of_a(rig: &Rig) -> String {
    picket_shared::crypto::sha256_hex(&std::fs::read(rig.dir.path().join(MODEL)).unwrap())[..12].to_owned()
}

/// Hears everything that is said of who watches what.
async fn listen_to(wires: Wires, port: u16, heard: Arc<Mutex<Heard>>) {
    let site = site();
    let nodes = LINE.map(|(node, ..)| NodeId::new(node).unwrap());
    let of_nodes = nodes.iter().flat_map(|node| [Topic::Heartbeat(node.clone()), Topic::Events(node.clone())]);
    let of_coordinators = [Topic::CoordinatorHealth, Topic::ViewSite, Topic::ViewChange];
    let topics = of_nodes.chain(of_coordinators).map(|topic| topic.render(&site)).collect();
    let (_link, mut events) = mqtt::open(LinkOptions {
        broker: BrokerUrl::try_from(format!("mqtt://{}:{port}", wires.host())).unwrap(),
        client_id: "observer".into(),
        will: None,
        filters: topics,
        payload_bytes_max: PACKET_BYTES_MAX,
        tls: None,
    });
    while let Some(event) = events.recv().await {
        let LinkEvent::Message { topic, payload } = event else { continue };
        let now = Instant::now();
        let mut heard = heard.lock().unwrap();
        match Topic::parse(&site, &topic) {
            Ok(Topic::Heartbeat(node)) => {
                let beat = codec::decode(&payload).unwrap();
                heard.beats.insert(node.to_string(), (now, beat));
            }
            Ok(Topic::Events(node)) => {
                let batch: EventBatch = codec::decode(&payload).unwrap();
                for bytes in batch.events {
                    let event: Event = codec::decode(&bytes).unwrap();
                    if event.covering_for.is_some() {
                        heard.covered.push((now, node.to_string(), event));
                    } else {
                        heard.own_ms.entry(node.to_string()).or_default().push(event.frame_time_ms);
                    }
                }
            }
            Ok(Topic::CoordinatorHealth) => heard.coordinators.extend(serde_json::from_slice::<Health>(&payload).ok()),
            Ok(Topic::ViewSite) => heard.site = serde_json::from_slice(&payload).ok(),
            Ok(Topic::ViewChange) => heard.changes.push((now, serde_json::from_slice(&payload).unwrap())),
            _ => {}
        }
    }
}

/// The station of this name.
pub fn station(name: &str) -> StationId {
    StationId::new(name).unwrap()
}
