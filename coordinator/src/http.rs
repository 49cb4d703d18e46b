//! The web shell: the dashboard's files, the page's configuration, metrics, health, for whoever reaches it: it listens on the loopback
//! unless told otherwise. Nothing can be changed here but through [`orders`], which asks for an operator's token.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::connect_info::Connected;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::map_response_with_state;
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use axum::serve::IncomingStream;
use picket_shared::ids::{NodeId, SiteId};
use picket_shared::learn::view::Learning;
use picket_shared::listener::{Limits, Listener, Patient, Refusals};
use picket_shared::model::rollouts::Course;
use picket_shared::status::{CameraStats, LearnStats};
use picket_shared::view::{Guard, Liveness};
use picket_shared::wire::GapCause;
use tokio::sync::{mpsc, oneshot};

use crate::coordinator::Counters;
use crate::learn::order::Order;
use crate::model::blobs::Served;
use crate::watchdog;

mod learning;
pub mod orders;

/// Questions that wait for the coordinator.
pub const QUESTIONS_MAX: usize = 16;
/// Browsers open six connections for a page, and a proxy in front of many of them comes from one address.
const LIMITS: Limits = Limits {
    name: "the page's port",
    connections_max: 128,
    of_one_max: 64,
    quiet_max: Duration::from_secs(15),
    send_buffer_bytes: None,
};

/// The dashboard as Vite built it; empty in a build without it.
#[derive(rust_embed::RustEmbed)]
#[folder = "dashboard/dist"]
#[allow_missing = true]
struct Dashboard;

/// What is served in place of a dashboard that was not built.
const NO_DASHBOARD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Picket</title>\
    <h1>Picket coordinator</h1><p>This program was built without the dashboard; <code>make</code> builds it with it. \
    <p>Meanwhile: <a href=\"/metrics\">metrics</a>, <a href=\"/healthz\">health</a>.</html>";

/// What the coordinator answers when asked for its state.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The core's counters.
    pub counters: Counters,
    /// The cameras of the nodes that are not down.
    pub cameras: Vec<(NodeId, CameraStats)>,
    /// Messages that the queue to the broker dropped.
    pub outgoing_dropped: u64,
    /// The archive's size.
    pub archive_bytes: u64,
    /// What those of these nodes that learn say of it.
    pub learners: Vec<(NodeId, LearnStats)>,
    /// What was sent of models.
    pub models: Served,
    /// How many rollouts go how; those that are over too, as far as they are shown.
    pub rollouts: BTreeMap<Course, u64>,
    /// What is learned, where anything is.
    pub learning: Option<Learning>,
}

/// What the coordinator is asked.
#[derive(Debug)]
pub enum Question {
    /// How it does.
    State(oneshot::Sender<Answer>),
    /// To have an operator's order of learning done; if not, why, in a sentence.
    Learn(Order, oneshot::Sender<Result<(), &'static str>>),
}

/// What the pages need to know.
#[derive(Clone)]
pub struct Pages {
    /// The site's name.
    pub site: SiteId,
    /// Where a browser finds the broker, if it can.
    pub mqtt_websocket_url: Option<String>,
    /// Where the coordinator is asked.
    pub questions: mpsc::Sender<Question>,
    /// What was refused at each port, before anybody was asked.
    pub refusals: [(&'static str, Refusals); 2],
    /// Where operators order.
    pub door: orders::Door,
}

/// The listening socket, as axum takes it.
pub struct Port(Listener);

/// Opens it, on the current tokio runtime; what it refuses is counted there.
pub fn listen(address: SocketAddr, refusals: Refusals) -> io::Result<Port> {
    Listener::open(address, LIMITS, refusals).map(Port)
}

impl axum::serve::Listener for Port {
    type Io = Patient;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Patient, SocketAddr) {
        self.0.accept().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
struct Peer(SocketAddr);

impl Connected<IncomingStream<'_, Port>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Port>) -> Peer {
        Peer(*stream.remote_addr())
    }
}

/// Serves until the task is dropped, and feeds the watchdog by the same door: without pages the coordinator is not whole.
pub async fn serve(listener: Port, pages: Pages) -> io::Result<()> {
    let questions = pages.questions.clone();
    tokio::select! {
        ended = axum::serve(listener, routes(pages).into_make_service_with_connect_info::<Peer>()) => ended,
        () = watchdog::feed(questions) => Ok(()),
    }
}

fn routes(pages: Pages) -> Router {
    Router::new()
        .route("/config.json", get(config))
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .merge(pages.door.clone().routes())
        .fallback_service(get(file))
        .layer(map_response_with_state(security_headers(&pages), add_headers))
        .with_state(pages)
}

/// The page may load its own files and talk to its own server and the broker, and nothing may frame it.
fn security_headers(pages: &Pages) -> HeaderMap {
    let broker = pages.mqtt_websocket_url.as_deref().unwrap_or("");
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
         connect-src 'self' {broker}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let policy = HeaderValue::try_from(policy).expect("the configuration lets only plain addresses through");
    let constant = HeaderValue::from_static;
    HeaderMap::from_iter([
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, constant("nosniff")),
        (header::REFERRER_POLICY, constant("no-referrer")),
        (header::CACHE_CONTROL, constant("no-cache")),
        (HeaderName::from_static("cross-origin-resource-policy"), constant("same-origin")),
    ])
}

async fn add_headers(State(headers): State<HeaderMap>, mut response: Response) -> Response {
    response.headers_mut().extend(headers);
    response
}

async fn file(uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    let path = if path.is_empty() { "index.html" } else { path };
    match Dashboard::get(path) {
        Some(file) => ([(header::CONTENT_TYPE, file.metadata.mimetype().to_owned())], file.data).into_response(),
        None if path == "index.html" => Html(NO_DASHBOARD).into_response(),
        None => (StatusCode::NOT_FOUND, "There is no such page.\n").into_response(),
    }
}

async fn config(State(pages): State<Pages>) -> impl IntoResponse {
    Json(serde_json::json!({ "site": pages.site, "mqtt_websocket_url": pages.mqtt_websocket_url }))
}

async fn metrics(State(pages): State<Pages>) -> Response {
    match ask(&pages).await {
        Some(answer) => {
            let refused = pages.refusals.iter().flat_map(|(port, refusals)| {
                let sample = |(reason, count)| (format!("{{port=\"{port}\",reason=\"{reason}\"}}"), count);
                refusals.all().into_iter().map(sample).collect::<Vec<_>>()
            });
            let text = metrics_text(&answer, &refused.collect::<Vec<_>>());
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
        }
        None => busy(),
    }
}

async fn health(State(pages): State<Pages>) -> Response {
    let Some(answer) = ask(&pages).await else { return busy() };
    let Counters { link_up, problems, .. } = answer.counters;
    let well = link_up && problems.is_empty();
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(serde_json::json!({ "well": well, "broker_reached": link_up, "problems": problems }))).into_response()
}

async fn ask(pages: &Pages) -> Option<Answer> {
    let (question, answer) = oneshot::channel();
    pages.questions.try_send(Question::State(question)).ok()?;
    answer.await.ok()
}

fn busy() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "The coordinator is busy or stopping; ask again.\n").into_response()
}

/// The Prometheus text format, version 0.0.4.
fn metrics_text(answer: &Answer, refused: &[(String, u64)]) -> String {
    let counters = &answer.counters;
    let mut text = String::new();
    for (name, kind, help, value) in [
        ("events_archived_total", "counter", "Events in the archive.", counters.events_archived),
        (
            "events_unreadable_total",
            "counter",
            "Archived events that this build cannot read.",
            counters.events_unreadable,
        ),
        (
            "events_duplicate_total",
            "counter",
            "Events that came again and were not archived again.",
            counters.events_duplicate,
        ),
        ("archive_entries_lost_total", "counter", "Archive entries that the disk lost.", counters.entries_lost),
        ("archive_commits_total", "counter", "Group commits made durable.", counters.commits),
        ("archive_commits_failed_total", "counter", "Attempts at a commit that failed.", counters.commits_failed),
        ("archive_waiting", "gauge", "Entries that wait to become durable.", counters.entries_waiting),
        ("archive_bytes", "gauge", "Size of the archive on disk.", answer.archive_bytes),
        ("model_chunks_sent_total", "counter", "Pieces of models sent, each to all who listen.", answer.models.chunks),
        ("model_chunks_asked_total", "counter", "Pieces of models that devices asked for.", answer.models.chunks_asked),
        ("model_sent_bytes_total", "counter", "Bytes of models sent, each once for all.", answer.models.bytes),
        ("model_blobs_wanted", "gauge", "Files of models that some device waits for.", answer.models.blobs),
        ("outgoing_dropped_total", "counter", "Messages dropped before the broker took them.", answer.outgoing_dropped),
        ("broker_up", "gauge", "1 where the broker can be reached.", u64::from(counters.link_up)),
        ("problems", "gauge", "Problems that a person should look at.", counters.problems.len() as u64),
    ] {
        metric(&mut text, name, kind, help, &[(String::new(), value)]);
    }
    let courses = [Course::Running, Course::Paused, Course::Halted].map(|course| {
        let count = answer.rollouts.get(&course).copied().unwrap_or(0);
        (format!("{{course=\"{}\"}}", course.word()), count)
    });
    metric(
        &mut text,
        "model_rollouts",
        "gauge",
        "Rollouts of models that are open; one that has halted waits for a person.",
        &courses,
    );
    learning::metrics(&mut text, answer.learning.as_ref(), &answer.learners);
    let missed = GapCause::ALL.map(|cause| {
        let count = counters.events_missed.get(&cause).copied().unwrap_or(0);
        (format!("{{cause=\"{}\"}}", cause.word()), count)
    });
    metric(&mut text, "events_missed_total", "counter", "Events that never came and never will.", &missed);
    let rejected: Vec<_> =
        counters.rejected.iter().map(|(reason, count)| (format!("{{reason=\"{reason}\"}}"), *count)).collect();
    metric(&mut text, "messages_rejected_total", "counter", "Messages refused, in whole or in part.", &rejected);
    metric(&mut text, "requests_refused_total", "counter", "Connections and requests refused at a port.", refused);
    let nodes: Vec<_> = counters.nodes.iter().map(|(liveness, count)| (label(*liveness), *count)).collect();
    metric(&mut text, "nodes", "gauge", "Nodes by what is believed of them.", &nodes);
    let guards = [(Guard::Home, "home"), (Guard::Covered, "covered"), (Guard::Uncovered, "uncovered")];
    let stations = guards.map(|(guard, word)| {
        let count = counters.stations.iter().filter(|station| station.guard == guard).count();
        (format!("{{guard=\"{word}\"}}"), count as u64)
    });
    metric(&mut text, "stations", "gauge", "Stations by who watches them: their own node, another, nobody.", &stations);
    let uncovered = counters
        .stations
        .iter()
        .map(|station| (format!("{{station=\"{}\"}}", station.station), u64::from(station.guard == Guard::Uncovered)));
    metric(
        &mut text,
        "station_uncovered",
        "gauge",
        "1 where nobody watches a station.",
        &uncovered.collect::<Vec<_>>(),
    );
    let Scenes { persons, zones, lines } = Scenes::of(&answer.cameras);
    metric(&mut text, "camera_persons", "gauge", "People in a camera's picture.", &persons);
    metric(&mut text, "zone_persons", "gauge", "People in a zone.", &zones);
    metric(&mut text, "line_crossings_total", "counter", "Crossings of a line since the agent started.", &lines);
    text
}

/// Appends one metric: its samples are labels and a value.
fn metric(text: &mut String, name: &str, kind: &str, help: &str, samples: &[(String, impl Display)]) {
    let _ = writeln!(text, "# HELP picket_{name} {help}\n# TYPE picket_{name} {kind}");
    for (labels, value) in samples {
        let _ = writeln!(text, "picket_{name}{labels} {value}");
    }
}

/// Samples of what cameras count, with their labels. Names are of letters, digits and `-_.`, so that none needs escaping.
#[derive(Default)]
struct Scenes {
    persons: Vec<(String, u64)>,
    zones: Vec<(String, u64)>,
    lines: Vec<(String, u64)>,
}

impl Scenes {
    fn of(cameras: &[(NodeId, CameraStats)]) -> Scenes {
        let mut scenes = Scenes::default();
        for (node, stats) in cameras {
            let of = format!("node=\"{node}\",camera=\"{}\"", stats.camera);
            scenes.persons.push((format!("{{{of}}}"), stats.persons_now.into()));
            let zones = stats.zones.iter();
            scenes.zones.extend(zones.map(|(zone, count)| (format!("{{{of},zone=\"{zone}\"}}"), u64::from(*count))));
            for (line, crossed) in &stats.lines {
                let ways = [("left_to_right", crossed.left_to_right), ("right_to_left", crossed.right_to_left)];
                let way = |(way, count)| (format!("{{{of},line=\"{line}\",direction=\"{way}\"}}"), count);
                scenes.lines.extend(ways.map(way));
            }
        }
        scenes
    }
}

fn label(liveness: Liveness) -> String {
    let word = match liveness {
        Liveness::Up => "up",
        Liveness::Suspect => "suspect",
        Liveness::Down => "down",
    };
    format!("{{liveness=\"{word}\"}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_in_the_prometheus_text_format() {
        let station = serde_json::json!({
            "station": "gate", "home": "gate-3", "guard": "uncovered", "holder": null, "epoch": 1, "how": null, "sight": null,
            "since": 0.0, "why": "so", "ranks": [],
        });
        let counters = Counters {
            events_archived: 3,
            rejected: [("malformed", 2)].into(),
            events_missed: [(GapCause::Full, 7)].into(),
            nodes: [(Liveness::Up, 1)].into(),
            stations: vec![serde_json::from_value(station).unwrap()],
            link_up: true,
            ..Counters::default()
        };
        let camera = serde_json::json!({
            "camera": "north", "state": "running", "frames": 1, "frames_dropped": 0, "frames_gated": 0, "frames_detected": 1,
            "detections": 1, "tracks": 1, "persons_now": 4, "fps": 1.0, "inference_ms": 1.0, "restarts": 0,
            "last_error": null, "zones": {"door": 3},
            "lines": {"kerb": {"left_to_right": 5, "right_to_left": 2}},
        });
        let cameras = vec![(NodeId::new("gate-3").unwrap(), serde_json::from_value(camera).unwrap())];
        let answer = Answer {
            counters,
            cameras,
            learners: Vec::new(),
            outgoing_dropped: 0,
            archive_bytes: 4096,
            models: Served::default(),
            rollouts: [(Course::Halted, 1)].into(),
            learning: None,
        };
        let refused = [("{port=\"enrolment\",reason=\"token_spent\"}".to_owned(), 3)];
        let text = metrics_text(&answer, &refused);
        for line in [
            "# TYPE picket_events_archived_total counter",
            "picket_events_archived_total 3",
            "picket_messages_rejected_total{reason=\"malformed\"} 2",
            "picket_nodes{liveness=\"up\"} 1",
            "picket_stations{guard=\"home\"} 0",
            "picket_stations{guard=\"uncovered\"} 1",
            "picket_station_uncovered{station=\"gate\"} 1",
            "picket_events_missed_total{cause=\"full\"} 7",
            "picket_events_missed_total{cause=\"store_lost\"} 0",
            "picket_requests_refused_total{port=\"enrolment\",reason=\"token_spent\"} 3",
            "picket_archive_bytes 4096",
            "picket_broker_up 1",
            "picket_model_rollouts{course=\"halted\"} 1",
            "picket_model_rollouts{course=\"running\"} 0",
            "picket_camera_persons{node=\"gate-3\",camera=\"north\"} 4",
            "# TYPE picket_zone_persons gauge",
            "picket_zone_persons{node=\"gate-3\",camera=\"north\",zone=\"door\"} 3",
            "# TYPE picket_line_crossings_total counter",
            "picket_line_crossings_total{node=\"gate-3\",camera=\"north\",line=\"kerb\",direction=\"left_to_right\"} 5",
            "picket_line_crossings_total{node=\"gate-3\",camera=\"north\",line=\"kerb\",direction=\"right_to_left\"} 2",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
    }
}
