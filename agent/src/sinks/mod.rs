//! Sinks: what is done with pictures on the device itself. A live view in the browser, recordings, a stream to another
//! server, and pictures and clips of events.
//!
//! They hang on a [`Tap`] at the end of each camera's frame path, which never waits for them: a sink that is slow or broken
//! misses pictures, and says so. All of them see the masked frame and no other.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use picket_shared::audit::AuditLog;
use picket_shared::ids::{Boot, CameraId, NodeId};
use picket_shared::status::SinkStats;
use tokio::sync::watch;

mod asked;
pub(crate) mod child;
mod draw;
mod gauge;
mod give;
mod pace;
mod slot;
mod studio;
mod words;

mod encoder;
pub mod live;
pub mod media;
pub mod record;
pub mod restream;
mod tap;

pub use tap::Tap;

use encoder::Raw;
use gauge::{Gauge, State};
use live::Viewed;
use media::{Keeper, Media};
use pace::interval_ms;
use slot::Slot;
use studio::{Events, Feed, Live, Studio};
use tap::{Picture, Wish};

use crate::config::{Camera, Config};
use crate::frame::Frame;
use crate::privacy::{self, Keep, Requests};

/// How long the end of the agent waits for recordings and clips to end.
const FINISH_MAX: Duration = Duration::from_secs(5);
/// Pictures and clips of events lie here below the data directory.
const MEDIA_FOLDER: &str = "media";

/// One picture, drawn on and encoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shot {
    /// When, on a clock that never jumps.
    pub(crate) at_ms: u64,
    /// Pixels in a row, and rows.
    pub(crate) size: (u32, u32),
    /// The picture.
    pub(crate) jpeg: Bytes,
}

/// The sinks of one agent.
pub struct Sinks {
    node: NodeId,
    boot: Boot,
    media_config: media::Config,
    media_folder: PathBuf,
    privacy: privacy::Config,
    /// Opened for the first camera that needs it.
    keeper: Mutex<Option<Keeper>>,
    live: Option<Arc<live::Hub>>,
    live_interval_ms: u64,
    /// What is wrong with all of them.
    broken: Mutex<Vec<String>>,
    cameras: Mutex<Vec<Watched>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Watched {
    camera: CameraId,
    /// Of this station, and not of one that is covered.
    own: bool,
    slot: Slot<Picture>,
    /// Who looks.
    wish: Option<Arc<Wish>>,
    sinks: Vec<(&'static str, Arc<Gauge>, Option<Raw>)>,
}

impl Sinks {
    /// Opens what all cameras share: the live view's port. What cannot be opened is told, and the agent goes on without it.
    /// Who looks is written down in `audit`.
    pub async fn open(config: &Config, boot: Boot, audit: Option<Arc<AuditLog>>) -> Sinks {
        let mut sinks = Sinks {
            node: config.node.clone(),
            boot,
            media_config: config.media.clone(),
            media_folder: config.data_dir.join(MEDIA_FOLDER),
            privacy: config.privacy.clone(),
            keeper: Mutex::default(),
            live: None,
            live_interval_ms: interval_ms(config.live.fps),
            broken: Mutex::default(),
            cameras: Mutex::default(),
            threads: Mutex::default(),
        };
        if config.live.enabled {
            match live::open(&config.live, &config.data_dir, audit).await {
                Ok(hub) => sinks.live = Some(hub),
                Err(sentence) => sinks.broke(format!("there is no live view: {sentence}")),
            }
        }
        sinks
    }

    fn broke(&self, sentence: String) {
        tracing::error!("{sentence}");
        lock(&self.broken).push(sentence);
    }

    /// The way to the folder of pictures, unless it cannot be used.
    fn keeper(&self) -> Option<Keeper> {
        let mut keeper = lock(&self.keeper);
        if keeper.is_none() {
            match Media::open(self.media_config.clone(), self.media_folder.clone(), self.privacy.keep == Keep::Blurred)
            {
                Ok((opened, threads)) => {
                    threads.into_iter().for_each(|thread| self.keep_thread(thread));
                    self.live.iter().for_each(|hub| hub.show(&opened.media));
                    *keeper = Some(opened);
                }
                Err(error) => self.broke(format!(
                    "no pictures of events are kept, because {} cannot be used ({error}); check its owner and the disk",
                    self.media_folder.display()
                )),
            }
        }
        keeper.clone()
    }

    /// Starts the sinks of a camera that begins, of this station's `own` or another's. They end when the tap is dropped.
    pub fn camera(&self, camera: &Camera, own: bool) -> Tap {
        let slot = Slot::<Picture>::default();
        let mut watched =
            Watched { camera: camera.name.clone(), own, slot: slot.clone(), wish: None, sinks: Vec::new() };
        let feeds = self.feeds(camera, &mut watched);
        let events = Some(camera).filter(|camera| camera.snapshots).and_then(|_| self.keeper()).map(|keeper| Events {
            keeper,
            snapshots: watched.gauge("snapshots"),
            clips: watched.gauge("clips"),
            moments: media::moments::Moments::new(self.media_config.bounds()),
            interval_ms: interval_ms(self.media_config.fps),
            blurred: self.privacy.keep == Keep::Blurred,
            node: self.node.clone(),
            boot: self.boot,
        });
        let may_be_asked = own && self.privacy.requests != Requests::Never;
        if feeds.is_empty() && events.is_none() && self.live.is_none() && !may_be_asked {
            return Tap::closed();
        }
        let intervals = feeds.iter().map(|feed| feed.interval_ms).chain(events.iter().map(|events| events.interval_ms));
        let wish = Arc::new(Wish {
            always_ms: intervals.min().unwrap_or(u64::MAX),
            live_ms: self.live_interval_ms,
            viewers: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            events: events.is_some(),
            asks: Default::default(),
        });
        watched.wish = Some(Arc::clone(&wish));
        let live = self.live.as_ref().map(|hub| {
            let (shots, shown) = watch::channel(None);
            hub.add(Viewed { camera: camera.name.clone(), wish: Arc::clone(&wish), shots: shown });
            Live { shots, gauge: watched.gauge("live"), interval_ms: self.live_interval_ms }
        });
        let studio = Studio {
            camera: camera.name.clone(),
            zones: camera.zones.clone(),
            lines: camera.lines.clone(),
            slot: slot.clone(),
            wish: Arc::clone(&wish),
            live,
            events,
            feeds,
            hidden: Frame::default(),
        };
        match std::thread::Builder::new().name("pictures".into()).spawn(move || studio.run()) {
            Ok(thread) => self.keep_thread(thread),
            // Without its thread nobody takes the pictures; that is seen in the counters.
            Err(error) => {
                tracing::error!(camera = %camera.name, "there are no pictures ({error}); free some resources")
            }
        }
        let mut cameras = lock(&self.cameras);
        cameras.retain(|other| other.camera != camera.name && !other.slot.is_closed());
        cameras.push(watched);
        Tap::open(slot, wish)
    }

    fn feeds(&self, camera: &Camera, watched: &mut Watched) -> Vec<Feed> {
        let mut feeds = Vec::new();
        let mut add = |started: io::Result<JoinHandle<()>>, slot: Raw, gauge: Arc<Gauge>, what, fps| {
            watched.sinks.push((what, Arc::clone(&gauge), Some(slot.clone())));
            match started {
                Ok(thread) => {
                    self.keep_thread(thread);
                    feeds.push(Feed { slot, interval_ms: interval_ms(fps) });
                }
                Err(error) => gauge.wrong(State::Failed, what, &format!("cannot be started ({error})")),
            }
        };
        let name = &camera.name;
        if let Some(config) = &camera.record {
            let (slot, gauge) = (Raw::default(), Arc::new(Gauge::default()));
            let target = record::Segments::new(config.clone());
            let who = format!("camera {name}, record");
            add(encoder::start(who, target, slot.clone(), Arc::clone(&gauge)), slot, gauge, "record", config.fps);
        }
        if let Some(config) = &camera.restream {
            if config.shows_password() {
                tracing::warn!(
                    "camera {name}: every user of this machine can see restream.url with its password in the list of \
                     processes; give a restream.encoder that reads PICKET_URL where that matters"
                );
            }
            let (slot, gauge) = (Raw::default(), Arc::new(Gauge::default()));
            let target = restream::Stream(config.clone());
            let who = format!("camera {name}, restream");
            add(encoder::start(who, target, slot.clone(), Arc::clone(&gauge)), slot, gauge, "restream", config.fps);
        }
        feeds
    }

    /// How the sinks of a camera do.
    pub fn stats(&self, camera: &CameraId) -> Vec<SinkStats> {
        let cameras = lock(&self.cameras);
        let Some(watched) = cameras.iter().find(|watched| watched.camera == *camera) else { return Vec::new() };
        let dropped = |raw: &Option<Raw>| raw.as_ref().map_or_else(|| watched.slot.dropped(), Slot::dropped);
        let looked_at = watched.wish.as_ref().is_some_and(|wish| wish.viewers.load(Ordering::Relaxed) > 0);
        if let Some((_, gauge, _)) = watched.sinks.iter().find(|(sink, ..)| *sink == "live" && !looked_at) {
            gauge.well(State::Idle);
        }
        watched.sinks.iter().map(|(sink, gauge, raw)| gauge.stats(sink, dropped(raw))).collect()
    }

    /// What is wrong, in a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let cameras = lock(&self.cameras);
        let there = cameras.iter().filter(|watched| !watched.slot.is_closed());
        let gauges = there.flat_map(|watched| watched.sinks.iter().map(|(_, gauge, _)| gauge));
        lock(&self.broken).iter().cloned().chain(gauges.filter_map(|gauge| gauge.problem())).collect()
    }

    /// The live view, where there is one.
    pub fn live(&self) -> Option<&Arc<live::Hub>> {
        self.live.as_ref()
    }

    /// Waits for recordings and clips to end. Every tap has been dropped.
    pub fn finish(&self) {
        let deadline = Instant::now() + FINISH_MAX;
        // The clips' thread ends when nobody can give it any more.
        drop(lock(&self.keeper).take());
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn keep_thread(&self, thread: JoinHandle<()>) {
        let mut threads = lock(&self.threads);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
    }
}

impl Watched {
    fn gauge(&mut self, sink: &'static str) -> Arc<Gauge> {
        let gauge = Arc::new(Gauge::default());
        self.sinks.push((sink, Arc::clone(&gauge), None));
        gauge
    }
}

/// Makes a clip of ten grey pictures, for the doctor; gives its bytes. The error is a sentence.
pub fn try_encoder(config: &media::Config) -> Result<usize, String> {
    let grey = crate::frame::Frame { taken_ms: 0, width: 320, height: 240, rgb: vec![128; 320 * 240 * 3] };
    let interval_ms = interval_ms(config.fps);
    let shots: Result<Vec<_>, _> = (0..10).map(|n| studio::encode(n * interval_ms, &grey)).collect();
    let shots = shots.map_err(|error| format!("a picture cannot be encoded ({error})"))?;
    media::clip::encode(&shots, config.fps, config.encoder.as_deref()).map(|clip| clip.len())
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
