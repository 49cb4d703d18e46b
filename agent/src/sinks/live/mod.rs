//! The live view: what the cameras see now, in a browser, to whoever has the token.
//!
//! It listens on this machine only, unless the configuration says otherwise in so many words. Pictures are drawn and
//! encoded only while somebody looks, and a viewer that reads slowly gets fewer of them and in the end none.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use picket_shared::audit::{Act, AuditLog, Note};
use picket_shared::calendar::unix_s;
use picket_shared::config::within;
use picket_shared::ids::CameraId;
use picket_shared::listener::{CROWDED, Refusals, SLOW};
use picket_shared::status::CameraStats;
use serde::Deserialize;
use tokio::sync::watch;

mod door;
mod pages;
mod range;
mod token;
mod viewer;

use self::door::Door;
use self::token::Token;
use super::media::Media;
use super::tap::Wish;
use super::{Shot, pace};

/// The default port, and the first of those that are tried where the configuration names none.
const PORT: u16 = 8091;
/// Several agents on one machine take one after the other.
const PORTS_TRIED: u16 = 16;
/// Looking at the same thing again within so many seconds is one look: a page that is open asks for its pictures many times.
const LOOK_S: u64 = 600;
/// Things whose last look is remembered.
const NOTED_MAX: usize = 256;
/// Most viewers that may be configured.
const VIEWERS_MAX: usize = 32;

/// Who may look, and where.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether there is a live view.
    pub enabled: bool,
    /// Where it listens: `127.0.0.1:8091`. Left out it is that port of this machine, or the next one that is free.
    pub listen: Option<SocketAddr>,
    /// Whether other machines may connect, which an address in `listen` alone does not allow. Nothing is encrypted: the
    /// token and the pictures can be read on the way.
    pub allow_other_machines: bool,
    /// Most pictures a second and camera. More takes more of the processor while somebody looks.
    pub fps: f64,
    /// Most viewers at once: each costs a connection, and the network its pictures.
    pub viewers_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { enabled: true, listen: None, allow_other_machines: false, fps: 10.0, viewers_max: 8 }
    }
}

impl Config {
    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        within("live.fps", self.fps, pace::FPS_MIN..=pace::FPS_MAX)?;
        within("live.viewers_max", self.viewers_max, 1..=VIEWERS_MAX)?;
        match self.listen {
            Some(listen) if !listen.ip().is_loopback() && !self.allow_other_machines => Err(format!(
                "live.listen is {listen}, which other machines can reach, and nothing is encrypted; write 127.0.0.1:{}, or \
                 add live.allow_other_machines = true",
                listen.port()
            )),
            _ => Ok(()),
        }
    }

    /// Where to listen, in this order.
    fn addresses(&self) -> Vec<SocketAddr> {
        let of_port = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.listen.map_or_else(|| (PORT..PORT + PORTS_TRIED).map(of_port).collect(), |listen| vec![listen])
    }
}

/// A camera that can be looked at.
pub(super) struct Viewed {
    pub(super) camera: CameraId,
    pub(super) wish: Arc<Wish>,
    pub(super) shots: watch::Receiver<Option<Arc<Shot>>>,
}

/// What the pages need to know.
pub struct Hub {
    token: Token,
    viewers_max: usize,
    media: OnceLock<Arc<Media>>,
    cameras: Mutex<Vec<Viewed>>,
    stats: Mutex<Vec<CameraStats>>,
    viewers: AtomicUsize,
    denied: AtomicU64,
    turned_away: AtomicU64,
    slow: AtomicU64,
    /// Connections.
    refusals: Refusals,
    audit: Option<Arc<AuditLog>>,
    /// What was looked at, and when that was written down last, in seconds since 1970.
    noted: Mutex<BTreeMap<String, u64>>,
}

/// Begins to serve, on the current tokio runtime, as long as that runs. Who looks is written down in
/// `audit`. The error is a sentence.
pub(super) async fn open(config: &Config, data_dir: &Path, audit: Option<Arc<AuditLog>>) -> Result<Arc<Hub>, String> {
    let (addresses, refusals) = (config.addresses(), Refusals::default());
    let open = |address: &SocketAddr| Door::open(*address, refusals.clone());
    let opened = addresses.iter().find_map(|address| open(address).ok());
    let door = opened.ok_or_else(|| match (open(&addresses[0]).err(), addresses[0]) {
        (Some(error), address) => format!("{address} cannot be listened on ({error}); set live.listen to another port"),
        (None, address) => format!("{address} cannot be listened on; set live.listen to another port"),
    })?;
    let address = axum::serve::Listener::local_addr(&door).map_err(|error| error.to_string())?;
    let (token, path) = Token::open(data_dir, address.port())?;
    let hub = Arc::new(Hub {
        token,
        viewers_max: config.viewers_max,
        media: OnceLock::new(),
        cameras: Mutex::default(),
        stats: Mutex::default(),
        viewers: AtomicUsize::new(0),
        denied: AtomicU64::new(0),
        turned_away: AtomicU64::new(0),
        slow: AtomicU64::new(0),
        refusals,
        audit,
        noted: Mutex::default(),
    });
    let routes = pages::routes(Arc::clone(&hub));
    tokio::spawn(async move { axum::serve(door, routes).await });
    tracing::info!("live view at http://{address}/, for whoever has the token in {}", path.display());
    if !address.ip().is_loopback() {
        tracing::warn!("the live view can be reached from other machines, and is not encrypted");
    }
    Ok(hub)
}

impl Hub {
    /// A camera that can be looked at from now on; one of that name, and those that have gone, cannot any more.
    pub(super) fn add(&self, viewed: Viewed) {
        let mut cameras = lock(&self.cameras);
        cameras.retain(|other| other.camera != viewed.camera && other.shots.has_changed().is_ok());
        cameras.push(viewed);
    }

    /// Pictures of events are kept here.
    pub(super) fn show(&self, media: &Arc<Media>) {
        // There is one such folder; a second time changes nothing.
        let _ = self.media.set(Arc::clone(media));
    }

    /// What the page shows of the cameras' state.
    pub fn tell(&self, stats: &[CameraStats]) {
        *lock(&self.stats) = stats.to_vec();
    }

    /// Writes down that somebody showed the token, or did not, or looked at something; false where that cannot be written down,
    /// and so must not be. Nobody's address is kept.
    async fn note(self: &Arc<Self>, act: Act, what: String) -> bool {
        let Some(audit) = self.audit.clone() else { return true };
        let (now_s, hub) = (unix_s(), Arc::clone(self));
        if act == Act::LiveViewed && lock(&self.noted).get(&what).is_some_and(|then_s| now_s < then_s + LOOK_S) {
            return true;
        }
        let work = move || {
            let note = Note::about(&what);
            let written = match act {
                Act::LiveRefused => audit.record_damped(now_s, act, &note),
                _ => audit.record(now_s, act, &note).map(drop),
            };
            if let Err(error) = &written {
                tracing::error!("{error}; nobody may look meanwhile");
            } else if act == Act::LiveViewed {
                let mut noted = lock(&hub.noted);
                noted.retain(|_, then_s| now_s < *then_s + LOOK_S);
                if noted.len() < NOTED_MAX {
                    noted.insert(what, now_s);
                }
            }
            written.is_ok()
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(false)
    }

    /// Requests that were refused, by a constant word.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let connections = self.refusals.all();
        let of = |word| connections.get(word).copied().unwrap_or(0);
        [
            ("live_token", read(&self.denied)),
            ("live_viewers", read(&self.turned_away)),
            ("live_slow_viewer", read(&self.slow)),
            ("live_crowded", of(CROWDED)),
            ("live_slow", of(SLOW)),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_are_let_in_only_where_that_was_said() {
        for (text, expect) in [
            ("", Ok(())),
            ("listen = \"127.0.0.1:1\"", Ok(())),
            ("listen = \"[::1]:1\"", Ok(())),
            ("listen = \"0.0.0.0:8091\"", Err("add live.allow_other_machines = true")),
            ("listen = \"[::]:8091\"", Err("add live.allow_other_machines = true")),
            ("listen = \"192.168.0.7:80\"", Err("write 127.0.0.1:80")),
            ("listen = \"192.168.0.7:80\"\nallow_other_machines = true", Ok(())),
            ("viewers_max = 0", Err("live.viewers_max is 0")),
            ("fps = nan", Err("live.fps is NaN")),
            ("listen = \"somewhere\"", Err("invalid socket address")),
        ] {
            let checked = picket_shared::config::parse::<Config>(text).and_then(|config| config.check());
            match (&checked, expect) {
                (Ok(()), Ok(())) => {}
                (Err(refused), Err(expect)) => assert!(refused.contains(expect), "{text}: {refused}"),
                _ => panic!("{text}: {checked:?}"),
            }
        }
    }

    #[tokio::test]
    async fn the_second_agent_of_a_machine_takes_the_next_port_unless_one_was_named() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let config = Config::default();
        for dir in &dirs {
            assert!(open(&config, dir.path(), None).await.is_ok());
        }
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let named = Config { listen: Some(taken.local_addr().unwrap()), ..config };
        let refused = open(&named, dirs[0].path(), None).await.err().unwrap();
        assert!(refused.contains("set live.listen to another port"), "{refused}");
    }
}
