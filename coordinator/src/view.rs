//! What people see, derived from what the archive and the nodes say: the site, the newest events, each event. Pure.
//!
//! Everything here can be made again at any time. An event is seen only once it is durable.

use std::collections::VecDeque;

use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::duty::Duty;
use picket_shared::event::Event;
use picket_shared::ids::{CameraId, EventId, NodeId, StationId};
use picket_shared::limits::{PACKET_BYTES_MAX, RECENT_EVENTS_MAX};
use picket_shared::status::{CameraStats, Mode, Stats, Twin};
use picket_shared::view::{Liveness, NodeView, Recent, SeenEvent, Site};
use serde::Serialize;

use crate::archive::{Entry, What};
use crate::liveness::Pulse;
use crate::namesake::Namesake;

/// Retained views are rewritten at most this often: a person sees no more, and the broker keeps only the last.
pub const VIEW_MS_MIN: u64 = 1_000;
/// The view of the site is rewritten at least this often: its age tells readers whether the coordinator lives.
pub const SITE_VIEW_MS_MAX: u64 = 2_000;
/// A camera's state is known for so long after its node said it; with what may be between two clocks.
const STATS_AGE_S_MAX: u64 = 10;
/// How often a suspect is looked at.
const SUSPECT_LOOK_MS: u64 = 500;
/// Largest view: one packet, less its topic and header.
const VIEW_BYTES_MAX: usize = PACKET_BYTES_MAX - 1024;

/// What a node said of itself, and whether it lives.
#[derive(Debug, Clone)]
pub struct NodeState {
    /// Its life.
    pub pulse: Pulse,
    /// What it is.
    pub twin: Option<Twin>,
    /// What is wrong with it.
    pub problems: Vec<String>,
    /// How it does.
    pub stats: Option<Stats>,
    /// What it says of its station.
    pub duty: Option<Duty>,
    /// Whether it is one.
    pub namesake: Namesake,
    /// Its liveness as people were last told.
    pub shown: Option<Liveness>,
}

impl NodeState {
    /// A node of which nothing has been heard yet.
    pub fn unheard(now: Now) -> NodeState {
        let (pulse, namesake) = (Pulse::unheard(now), Namesake::default());
        NodeState { pulse, twin: None, problems: Vec::new(), stats: None, duty: None, namesake, shown: None }
    }

    /// When to look at it again: at once where people have not been told what it is now.
    pub fn due_ms(&self, now: Now) -> u64 {
        let untold = self.shown != Some(self.pulse.liveness);
        let by_itself = self.pulse.next_wakeup(now).unwrap_or(u64::MAX);
        match self.pulse.liveness {
            _ if untold => now.mono_ms,
            // What its neighbours say comes with their heartbeats.
            Liveness::Suspect => by_itself.min(now.mono_ms + SUSPECT_LOOK_MS),
            Liveness::Up | Liveness::Down => by_itself,
        }
    }

    /// Whether this camera of this station looks, and the node has said so just now and owes nothing that it saw.
    pub fn watches(&self, now: Now, station: &StationId, camera: &CameraId) -> bool {
        let (Some(twin), Some(stats)) = (&self.twin, &self.stats) else { return false };
        let fresh =
            self.pulse.liveness == Liveness::Up && stats.time.saturating_add(STATS_AGE_S_MAX) >= now.unix_ms / 1000;
        let looks = |of: &CameraStats| of.camera == *camera && of.state == "running";
        twin.station == *station && fresh && stats.outbox == Mode::Live && stats.cameras.iter().any(looks)
    }

    /// Its line in the view, with its events in the archive and those that never came.
    pub fn view(&self, now: Now, node: &NodeId, events_archived: u64, events_missed: u64) -> NodeView {
        NodeView {
            node: node.clone(),
            liveness: self.pulse.liveness,
            since: self.pulse.since_ms as f64 / 1000.0,
            why: self.pulse.why.clone(),
            station: self.twin.as_ref().map(|twin| twin.station.clone()),
            problems: self.problems.iter().cloned().chain(self.namesake.problem(now, node)).collect(),
            detector: self.twin.as_ref().map(|twin| twin.detector.clone()),
            stats: self.stats.clone(),
            events_archived,
            events_missed,
        }
    }
}

/// The public form of an archived event; nothing for gaps and for bytes that this build cannot read.
pub fn seen(entry: &Entry) -> Option<SeenEvent> {
    let What::Event { seq, bytes } = &entry.what else { return None };
    let event = codec::decode::<Event>(bytes).ok()?;
    Some(SeenEvent::of(event, entry.node.clone(), entry.boot, *seq, entry.archive_time_ms))
}

/// The newest events.
#[derive(Debug, Default)]
pub struct Newest(VecDeque<SeenEvent>);

impl Newest {
    /// Takes in an event that is newer than all before.
    pub fn push(&mut self, event: SeenEvent) {
        self.0.truncate(RECENT_EVENTS_MAX - 1);
        self.0.push_front(event);
    }

    /// The newest event of one person that this node told of, and that had begun by then, in seconds since 1970.
    pub fn last_of(&self, node: &NodeId, by_s: f64) -> Option<EventId> {
        let of_person = |event: &&SeenEvent| event.id.node().is_some_and(|of| of == *node);
        self.0.iter().filter(of_person).find(|event| event.start_time <= by_s).map(|event| event.id.clone())
    }

    /// The document, newest first.
    pub fn document(&self) -> Vec<u8> {
        json(&Recent { events: self.0.iter().cloned().collect() })
    }
}

/// The site's document. Where many nodes with many cameras would not fit one packet, their statistics are left out, and
/// then what else can be; true tells that something was.
pub fn site_document(mut site: Site) -> (Vec<u8>, bool) {
    let whole = json(&site);
    if whole.len() <= VIEW_BYTES_MAX {
        return (whole, false);
    }
    site.nodes.iter_mut().for_each(|node| node.stats = None);
    let without_stats = json(&site);
    if without_stats.len() <= VIEW_BYTES_MAX {
        return (without_stats, true);
    }
    for node in &mut site.nodes {
        node.detector = None;
        node.problems.clear();
    }
    (json(&site), true)
}

/// A document as JSON.
pub fn json<T: Serialize>(document: &T) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents have text keys only, and writing to memory does not fail")
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::event::Precision;
    use picket_shared::ids::{Boot, SiteId, StationId};
    use picket_shared::limits::{NAME_CHARS_MAX, NODES_MAX};
    use picket_shared::status::{CameraStats, DetectorTwin};

    fn at_the_end_of_time() -> Now {
        Now { mono_ms: 0, unix_ms: u64::MAX / 1024 }
    }

    fn state(problem_chars: usize, error_chars: usize) -> NodeState {
        let camera = CameraStats {
            camera: picket_shared::ids::CameraId::new("c").unwrap(),
            state: "running".into(),
            frames: 1,
            frames_dropped: 0,
            frames_gated: 0,
            frames_detected: 1,
            detections: 1,
            tracks: 1,
            persons_now: 1,
            fps: 10.0,
            inference_ms: 15.0,
            restarts: 0,
            last_error: Some("e".repeat(error_chars)),
            fps_in: 10.0,
            format: None,
            frames_bad: 0,
            frames_frozen: 0,
            retry_in_s: None,
            zones: Default::default(),
            lines: Default::default(),
            bad_input: Default::default(),
            sinks: vec![],
        };
        let stats = Stats {
            time: 1,
            boot: Boot(1),
            uptime_s: 1,
            resident_bytes: 1,
            events_stored: 1,
            events_acked: 1,
            events_pending: 0,
            events_lost: 0,
            events_resent: 0,
            rejected: Default::default(),
            connects: 1,
            cameras: vec![camera],
            outbox: Default::default(),
            events_backlog: 0,
            events_given_up: Default::default(),
            events_dead: 0,
            broker: None,
            learn: None,
        };
        let detector = DetectorTwin {
            model: "0123456789ab".into(),
            layout: "centernet".into(),
            provider: "cpu".into(),
            precision: Precision::Int8,
            workers: 1,
            threads: 1,
            runtime: "1.24.4".into(),
            passed_over: Default::default(),
        };
        let station = StationId::new("s".repeat(NAME_CHARS_MAX)).unwrap();
        let twin = Twin { version: "0".into(), arch: "x".into(), station, cameras: vec![], detector };
        let unheard = NodeState::unheard(at_the_end_of_time());
        NodeState { twin: Some(twin), problems: vec!["p".repeat(problem_chars)], stats: Some(stats), ..unheard }
    }

    fn site(nodes: usize, problem_chars: usize, error_chars: usize) -> Site {
        let state = state(problem_chars, error_chars);
        let name = |i| NodeId::new(format!("{i:0>width$}", width = NAME_CHARS_MAX)).unwrap();
        Site {
            site: SiteId::new("yard").unwrap(),
            time: 1.5,
            events_archived: u64::MAX,
            events_duplicate: 0,
            events_missed: 0,
            rejected: 0,
            leader: 1,
            stations: vec![],
            changes: vec![],
            nodes: (0..nodes).map(|i| state.view(at_the_end_of_time(), &name(i), u64::MAX, u64::MAX)).collect(),
        }
    }

    #[test]
    fn a_camera_watches_only_where_its_node_says_so_now_and_owes_nothing() {
        let now = Now { mono_ms: 50_000, unix_ms: 1_800_000_050_000 };
        let (station, camera) = (StationId::new("s".repeat(NAME_CHARS_MAX)).unwrap(), CameraId::new("c").unwrap());
        let watches = |change: fn(&mut NodeState, &mut Stats)| {
            let mut node = state(1, 1);
            let mut stats = node.stats.take().unwrap();
            node.pulse.heartbeat(now, Boot(1));
            stats.time = now.unix_ms / 1000 - STATS_AGE_S_MAX;
            change(&mut node, &mut stats);
            node.stats = Some(stats);
            node.watches(now, &station, &camera)
        };
        assert!(watches(|_, _| {}));
        assert!(!watches(|_, stats| stats.time -= 1), "that was long ago");
        assert!(!watches(|_, stats| stats.outbox = Mode::CatchingUp), "what it saw is still to come");
        assert!(!watches(|_, stats| stats.cameras[0].state = "stalled".into()));
        assert!(!watches(|_, stats| stats.cameras[0].camera = CameraId::new("d").unwrap()));
        assert!(!watches(|node, _| node.pulse.liveness = Liveness::Suspect));
        assert!(!watches(|node, _| node.twin = None));
    }

    #[test]
    fn the_site_always_fits_a_packet_and_drops_the_least_needed_first() {
        for (nodes, problem_chars, error_chars, stats, detector) in [
            (1, 10_000, 10_000, true, true),
            (300, 10, 10, true, true),
            (NODES_MAX, 10, 1000, false, true),
            (NODES_MAX, 15_000, 1000, false, false),
        ] {
            let (bytes, trimmed) = site_document(site(nodes, problem_chars, error_chars));
            assert!(bytes.len() <= VIEW_BYTES_MAX);
            assert_eq!(trimmed, !stats);
            let read: Site = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(read.nodes.len(), nodes);
            assert_eq!((read.nodes[0].stats.is_some(), read.nodes[0].detector.is_some()), (stats, detector));
        }
    }
}
