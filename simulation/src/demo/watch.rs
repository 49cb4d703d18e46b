//! Listens at the broker like anybody may, and shows a line for each agent.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use picket_shared::ids::SiteId;
use picket_shared::limits::PACKET_BYTES_MAX;
use picket_shared::mqtt::{self, BrokerUrl, LinkEvent, LinkOptions};
use picket_shared::topics::Topic;
use picket_shared::view::{Liveness, NodeView, Site};
use tokio::sync::mpsc;

use super::stage::SITE;

/// Without a terminal, lines are printed this often.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// What the demo sees.
pub struct Watch {
    events: mpsc::Receiver<LinkEvent>,
    site: SiteId,
    names: Vec<&'static str>,
    nodes: BTreeMap<String, NodeView>,
    view: Option<Site>,
    terminal: bool,
    drawn: bool,
    plain_due: Instant,
}

impl Watch {
    /// Starts to listen.
    pub fn open(mqtt_port: u16, names: Vec<&'static str>) -> Watch {
        let site = SiteId::new(SITE).expect("a constant name");
        let (_, events) = mqtt::open(LinkOptions {
            broker: BrokerUrl { host: "127.0.0.1".into(), port: mqtt_port, tls: false },
            client_id: format!("picket-{site}-demo-watch"),
            will: None,
            filters: vec![Topic::ViewSite.render(&site)],
            payload_bytes_max: PACKET_BYTES_MAX,
            tls: None,
        });
        let terminal = std::io::stdout().is_terminal();
        Watch {
            events,
            site,
            names,
            nodes: BTreeMap::new(),
            view: None,
            terminal,
            drawn: false,
            plain_due: Instant::now() + PLAIN_EVERY,
        }
    }

    /// Takes in one message. Never returns when nothing more comes, so that it can stand in a `select!`.
    pub async fn listen(&mut self) {
        match self.events.recv().await {
            Some(LinkEvent::Message { topic, payload }) if topic == Topic::ViewSite.render(&self.site) => {
                if let Ok(view) = serde_json::from_slice::<Site>(&payload) {
                    self.nodes = view.nodes.iter().map(|node| (node.node.to_string(), node.clone())).collect();
                    self.view = Some(view);
                }
            }
            Some(_) => {}
            None => std::future::pending().await,
        }
    }

    /// Draws the lines: over the old ones on a terminal, below them now and then elsewhere.
    pub fn draw(&mut self) {
        if !self.terminal {
            if Instant::now() >= self.plain_due {
                self.plain_due += PLAIN_EVERY;
                self.names.iter().for_each(|name| println!("{}", self.line(name)));
            }
            return;
        }
        let mut out = std::io::stdout().lock();
        if self.drawn {
            let _ = write!(out, "\x1b[{}A", self.names.len());
        }
        for name in &self.names {
            let _ = writeln!(out, "\x1b[2K{}", self.line(name));
        }
        let _ = out.flush();
        self.drawn = true;
    }

    /// The last view of the site.
    pub fn view(&self) -> Option<&Site> {
        self.view.as_ref()
    }

    /// Says something above the lines.
    pub fn say(&mut self, what: &str) {
        println!("{what}");
        self.drawn = false;
    }

    /// Leaves the last lines standing.
    pub fn rest(&mut self) {
        if !self.terminal {
            self.names.iter().for_each(|name| println!("{}", self.line(name)));
        }
    }

    fn line(&self, name: &str) -> String {
        let Some(node) = self.nodes.get(name) else { return format!("{name:<8} … starting") };
        let (mark, word) = match node.liveness {
            Liveness::Up => ('●', "up"),
            Liveness::Suspect => ('◐', "suspect"),
            Liveness::Down => ('○', "down"),
        };
        let station = node.station.as_ref().map_or("", |station| station.as_str());
        let Some(stats) = &node.stats else { return format!("{name:<8} {mark} {word:<7} {station}") };
        let frames: u64 = stats.cameras.iter().map(|camera| camera.frames_detected).sum();
        let dropped: u64 = stats.cameras.iter().map(|camera| camera.frames_dropped).sum();
        let fps: f32 = stats.cameras.iter().map(|camera| camera.fps).sum();
        let persons: u32 = stats.cameras.iter().map(|camera| camera.persons_now).sum();
        let inference_ms = stats.cameras.first().map_or(0.0, |camera| camera.inference_ms);
        let memory_mib = stats.resident_bytes / (1024 * 1024);
        format!(
            "{name:<8} {mark} {word:<7} {station:<8} {persons:>2} people  {fps:>5.1} fps  {inference_ms:>5.1} ms  {frames:>6} \
             frames ({dropped} dropped)  {:>5} events, {:>5} archived  {memory_mib:>4} MiB",
            stats.events_stored, node.events_archived
        )
    }
}
