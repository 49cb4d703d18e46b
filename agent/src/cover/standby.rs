//! Looks beforehand whether what this node stands by for can be had here: cameras answer, models run.
//!
//! A thread of its own asks, because a host that is gone answers late; what it found is read without waiting. It opens
//! connections and closes them; it takes no picture.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use picket_shared::ids::StationId;

use super::models::{Models, Own, Place};
use super::settings::Station;
use crate::detect::{self, Detector};

/// How often everything is looked at again. A camera that went is found when it is needed at the latest.
const EVERY: Duration = Duration::from_secs(30);
/// Where something is missing it is looked for more often.
const EVERY_IF_MISSING: Duration = Duration::from_secs(5);
/// How long a camera's host may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What was found of one station.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    place: Place,
    /// Why it cannot be covered, where it cannot.
    missing: Option<String>,
}

/// The stations that this node stands by for, and what was found of them.
pub struct Lookout {
    orders: Sender<List>,
    board: Arc<Mutex<Board>>,
    own: Own,
}

/// What is looked at, and which list that is.
type List = (u64, BTreeMap<StationId, Station>);

/// The newest list, and what was found of it.
#[derive(Default)]
struct Board {
    list: u64,
    stations: BTreeMap<StationId, Station>,
    found: BTreeMap<StationId, Found>,
}

impl Lookout {
    /// Starts the thread; it ends when this is dropped.
    pub fn start(models: Models, detector: detect::Config) -> io::Result<Lookout> {
        let (orders, ordered) = channel();
        let (board, own) = (Arc::default(), models.own());
        let scout = Scout { models, detector, tried: BTreeMap::new(), board: Arc::clone(&board) };
        std::thread::Builder::new().name("standby".into()).spawn(move || scout.run(&ordered))?;
        Ok(Lookout { orders, board, own })
    }

    /// Looks at these from now on, and at no others.
    pub fn look_at(&self, stations: BTreeMap<StationId, Station>) {
        let mut board = lock(&self.board);
        let Board { list, stations: before, found } = std::mem::take(&mut *board);
        // What has changed or gone is unknown until it was looked at.
        let same = |station: &StationId| before.get(station) == stations.get(station);
        let found = found.into_iter().filter(|(station, _)| same(station)).collect();
        *board = Board { list: list + 1, stations: stations.clone(), found };
        // The thread ends with us.
        let _ = self.orders.send((board.list, stations));
    }

    /// This agent's own model is another from here on.
    pub fn own_is(&self, model: &str) {
        self.own.set(model);
        // What was found before was found beside the model before.
        lock(&self.board).found.retain(|_, found| found.place != Place::Own);
    }

    /// Those that could be covered at once.
    pub fn ready(&self) -> BTreeSet<StationId> {
        let board = lock(&self.board);
        board.found.iter().filter(|(_, found)| found.missing.is_none()).map(|(station, _)| station.clone()).collect()
    }

    /// Where a station's model is, as far as that is known yet.
    pub fn place(&self, station: &StationId) -> Option<Place> {
        lock(&self.board).found.get(station).map(|found| found.place.clone())
    }
}

/// The thread's side.
struct Scout {
    models: Models,
    detector: detect::Config,
    /// Models that were loaded once, and how that went.
    tried: BTreeMap<std::path::PathBuf, Result<(), String>>,
    board: Arc<Mutex<Board>>,
}

impl Scout {
    fn run(mut self, ordered: &Receiver<List>) {
        let (mut list, mut stations) = List::default();
        let mut due = Instant::now() + EVERY;
        loop {
            match ordered.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(newer) => (list, stations) = newer,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Only the newest list counts.
            while let Ok(newer) = ordered.try_recv() {
                (list, stations) = newer;
            }
            let mut missing = false;
            for (name, station) in &stations {
                let seen = self.look(station);
                missing |= seen.missing.is_some();
                self.tell(list, name, seen);
            }
            due = Instant::now() + if missing { EVERY_IF_MISSING } else { EVERY };
        }
    }

    fn tell(&self, list: u64, name: &StationId, seen: Found) {
        let mut board = lock(&self.board);
        if board.list != list {
            return;
        }
        let before = board.found.insert(name.clone(), seen.clone());
        if before.as_ref() == Some(&seen) {
            return;
        }
        match &seen.missing {
            None => tracing::info!("station {name} could be covered from here"),
            Some(why) => tracing::warn!("station {name} could not be covered from here: {why}"),
        }
    }

    fn look(&mut self, station: &Station) -> Found {
        let place = self.models.find(&station.model);
        let model = match &place {
            Place::File(path) => self.try_model(path),
            _ => Ok(()),
        };
        // A dead camera among several is dead for its own node too.
        let mut refused = Vec::new();
        let answers = station.cameras.iter().any(|borrowed| match borrowed.camera.source.host() {
            Some((host, port)) if borrowed.shared.is_none() => match answers(&host, port) {
                Ok(()) => true,
                Err(error) => {
                    refused.push(format!("{host}:{port} does not answer ({error}); check the network"));
                    false
                }
            },
            _ => true,
        });
        let cameras = if answers { Ok(()) } else { Err(refused.join("; ")) };
        Found { place, missing: model.and(cameras).err() }
    }

    /// Loads a model once, so that it is known to run, and so that what the runtime builds for it is there.
    fn try_model(&mut self, path: &std::path::Path) -> Result<(), String> {
        if let Some(tried) = self.tried.get(path) {
            return tried.clone();
        }
        let tried = Detector::load(&self.detector.for_other(&path.to_string_lossy()))
            .map(drop)
            .map_err(|failure| failure.sentence);
        self.tried.insert(path.to_owned(), tried.clone());
        tried
    }
}

fn answers(host: &str, port: u16) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, ANSWER_MAX) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
