//! The thread that makes a camera's pictures presentable: it draws on each once, encodes it once, and hands it to every
//! sink that wants one.
//!
//! It stands between the frame path, which never waits for it, and the sinks, for which it never waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jpeg_encoder::{ColorType, Encoder, EncodingError, SamplingFactor};
use picket_shared::ids::{Boot, CameraId, EventId, NodeId};
use tokio::sync::watch;

use super::Shot;
use super::draw::draw;
use super::encoder::Raw;
use super::gauge::{Gauge, State};
use super::media::Keeper;
use super::media::moments::{Keep, Moments};
use super::pace::Pace;
use super::slot::{Empty, Slot};
use super::tap::{Picture, Wish};
use crate::frame::Frame;
use crate::observe::{Line, Zone};
use crate::privacy::{Given, blur};

const JPEG_QUALITY: u8 = 75;
/// A frame of a size that no JPEG can have is not shown.
const JPEG_SIDE_MAX: u32 = 65_535;
/// Where nothing moves, what waits for the next event needs no more than this.
const STILL_INTERVAL_MS: u64 = 1_000;
/// How often it looks up while nothing comes.
const IDLE: Duration = Duration::from_millis(500);

/// Pictures for whoever looks.
pub(super) struct Live {
    pub(super) shots: watch::Sender<Option<Arc<Shot>>>,
    pub(super) gauge: Arc<Gauge>,
    pub(super) interval_ms: u64,
}

/// Pictures of events.
pub(super) struct Events {
    pub(super) keeper: Keeper,
    pub(super) snapshots: Arc<Gauge>,
    pub(super) clips: Arc<Gauge>,
    pub(super) moments: Moments,
    pub(super) interval_ms: u64,
    /// People are made unrecognisable before anything is kept.
    pub(super) blurred: bool,
    pub(super) node: NodeId,
    pub(super) boot: Boot,
}

/// Raw pictures for one encoder.
pub(super) struct Feed {
    pub(super) slot: Raw,
    pub(super) interval_ms: u64,
}

/// All of one camera.
pub(super) struct Studio {
    pub(super) camera: CameraId,
    pub(super) zones: Vec<Zone>,
    pub(super) lines: Vec<Line>,
    pub(super) slot: Slot<Picture>,
    pub(super) wish: Arc<Wish>,
    pub(super) live: Option<Live>,
    pub(super) events: Option<Events>,
    pub(super) feeds: Vec<Feed>,
    /// A copy in which people are hidden, while others see the frame as it is.
    pub(super) hidden: Frame,
}

impl Studio {
    /// Works until the camera has gone; what was open then is kept as it is.
    pub(super) fn run(mut self) {
        let started = Instant::now();
        let mut paces = Paces { feeds: vec![Pace::default(); self.feeds.len()], ..Paces::default() };
        loop {
            match self.slot.take(IDLE) {
                Ok(mut picture) => {
                    let now_ms = started.elapsed().as_millis() as u64;
                    self.show(now_ms, &mut picture, &mut paces);
                    picture.news.clear();
                    self.slot.recycle(picture);
                }
                Err(Empty::TimedOut) => {}
                Err(Empty::Closed) => break,
            }
        }
        self.feeds.iter().for_each(|feed| feed.slot.close());
        if let Some(events) = &mut self.events {
            let mut keeps = Vec::new();
            events.moments.finish(&mut keeps);
            keeps.into_iter().for_each(|keep| events.keep(&self.camera, keep));
        }
    }

    fn show(&mut self, now_ms: u64, picture: &mut Picture, paces: &mut Paces) {
        let mut keeps = Vec::new();
        let seen = self.events.as_mut().map(|events| events.hear(now_ms, picture, &mut keeps)).unwrap_or_default();
        let Some(frame) = picture.frame.as_mut().filter(|frame| frame.is_whole() && !frame.rgb.is_empty()) else {
            return;
        };
        let live = self.live.is_some() && self.wish.viewers.load(Ordering::Relaxed) > 0;
        let live = live && paces.live.lets(now_ms, self.live.as_ref().map_or(u64::MAX, |live| live.interval_ms));
        let kept = self.events.as_ref().is_some_and(|events| {
            let interval_ms =
                if picture.still { STILL_INTERVAL_MS.max(events.interval_ms) } else { events.interval_ms };
            paces.events.lets(now_ms, interval_ms) || events.moments.is_better(&seen)
        });
        let fed: Vec<bool> =
            self.feeds.iter().zip(&mut paces.feeds).map(|(feed, pace)| pace.lets(now_ms, feed.interval_ms)).collect();
        // Only a frame that the detector has looked at shows where people are.
        let asks = if picture.still { Vec::new() } else { self.wish.asks.take() };
        let (clear, blurred): (Vec<_>, Vec<_>) = asks.into_iter().partition(|ask| ask.clear);
        let kept_blurred = kept && self.events.as_ref().is_some_and(|events| events.blurred);
        if kept_blurred || !blurred.is_empty() {
            self.hidden.rgb.clone_from(&frame.rgb);
            (self.hidden.width, self.hidden.height) = (frame.width, frame.height);
            blur::hide(&mut self.hidden, &picture.people);
            draw(&mut self.hidden, &self.zones, &self.lines, &picture.marks);
            if let Some(shot) = self.encoded(now_ms, &self.hidden) {
                self.hand_out(now_ms, &shot, false, kept_blurred.then_some(&seen), &mut keeps);
                blurred.into_iter().for_each(|ask| ask.answer(given(&shot, frame.taken_ms, true)));
            }
        }
        let kept = kept && !kept_blurred;
        if live || kept || !clear.is_empty() || fed.contains(&true) {
            draw(frame, &self.zones, &self.lines, &picture.marks);
        }
        for (feed, _) in self.feeds.iter().zip(fed).filter(|(_, fed)| *fed) {
            feed.slot.offer(false, |copy| {
                copy.rgb.clone_from(&frame.rgb);
                (copy.taken_ms, copy.width, copy.height) = (frame.taken_ms, frame.width, frame.height);
            });
        }
        if (live || kept || !clear.is_empty())
            && let Some(shot) = self.encoded(now_ms, frame)
        {
            self.hand_out(now_ms, &shot, live, kept.then_some(&seen), &mut keeps);
            clear.into_iter().for_each(|ask| ask.answer(given(&shot, frame.taken_ms, false)));
        }
        if let Some(events) = &self.events {
            keeps.into_iter().for_each(|keep| events.keep(&self.camera, keep));
        }
    }

    fn encoded(&self, now_ms: u64, frame: &Frame) -> Option<Arc<Shot>> {
        let encoded = encode(now_ms, frame);
        encoded.inspect_err(|error| tracing::debug!(camera = %self.camera, "a picture was not encoded: {error}")).ok()
    }

    fn hand_out(
        &mut self,
        now_ms: u64,
        shot: &Arc<Shot>,
        live: bool,
        seen: Option<&Vec<(EventId, f32)>>,
        keeps: &mut Vec<Keep>,
    ) {
        if let Some(to) = self.live.as_ref().filter(|_| live) {
            to.gauge.took(shot.jpeg.len());
            to.gauge.well(State::Running);
            to.shots.send_replace(Some(Arc::clone(shot)));
        }
        if let Some((events, seen)) = self.events.as_mut().zip(seen) {
            let cut = events.moments.cut();
            events.moments.take(now_ms, shot, seen, keeps);
            events.clips.dropped.fetch_add(events.moments.cut() - cut, Ordering::Relaxed);
        }
    }
}

fn given(shot: &Shot, taken_ms: u64, blurred: bool) -> Given {
    Given { bytes: shot.jpeg.to_vec(), media: "image/jpeg", taken_ms, blurred }
}

#[derive(Default)]
struct Paces {
    live: Pace,
    events: Pace,
    feeds: Vec<Pace>,
}

impl Events {
    fn keep(&self, camera: &CameraId, keep: Keep) {
        let gauge = if matches!(keep, Keep::Best(..)) { &self.snapshots } else { &self.clips };
        self.keeper.keep(camera, gauge, keep);
    }

    /// Takes in what is told with a picture; gives the events of those who are seen in it.
    fn hear(&mut self, now_ms: u64, picture: &Picture, keeps: &mut Vec<Keep>) -> Vec<(EventId, f32)> {
        for news in &picture.news {
            self.moments.hear(now_ms, &news.id, news.ended, keeps);
        }
        if !self.moments.anything_open() {
            return Vec::new();
        }
        let of_track = |track: u64| EventId::of_track(&self.node, self.boot, track);
        let mut seen: Vec<(EventId, f32)> =
            picture.marks.iter().map(|mark| (of_track(mark.track), mark.score)).collect();
        // What is no one track's, as a crowd is, is only told of.
        for news in picture.news.iter().filter(|news| !news.ended) {
            if !seen.iter().any(|(id, _)| *id == news.id) {
                seen.push((news.id.clone(), news.score));
            }
        }
        seen
    }
}

pub(super) fn encode(now_ms: u64, frame: &Frame) -> Result<Arc<Shot>, EncodingError> {
    let mut jpeg = Vec::with_capacity(frame.rgb.len() / 12);
    let mut encoder = Encoder::new(&mut jpeg, JPEG_QUALITY);
    // Colours at half the resolution, as cameras have them: a third of the work less, and nobody sees it.
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    let side = |px: u32| px.min(JPEG_SIDE_MAX) as u16;
    encoder.encode(&frame.rgb, side(frame.width), side(frame.height), ColorType::Rgb)?;
    Ok(Arc::new(Shot { at_ms: now_ms, size: (frame.width, frame.height), jpeg: jpeg.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_encoded_as_it_is_also_of_an_odd_size() {
        for (width, height) in [(64, 48), (33, 17), (1, 1)] {
            let pixels = [20, 90, 200].repeat((width * height) as usize);
            let shot = encode(7, &Frame { taken_ms: 0, width, height, rgb: pixels.clone() }).unwrap();
            let decoded = image::load_from_memory(&shot.jpeg).unwrap().into_rgb8();
            assert_eq!((decoded.width(), decoded.height(), shot.size), (width, height, (width, height)));
            assert!(decoded.into_raw().iter().zip(pixels).all(|(a, b)| a.abs_diff(b) < 8));
        }
    }

    /// A camera with one event open, and what its thread keeps, asks answered on the way.
    fn shown(blurred: bool, clear: bool) -> (Vec<u8>, Vec<u8>) {
        use crate::frame::Area;
        use crate::sinks::media::{Config, Media};
        use crate::sinks::tap::News;
        use std::sync::atomic::{AtomicU64, AtomicUsize};
        let dir = tempfile::tempdir().unwrap();
        let (keeper, threads) = Media::open(Config::default(), dir.path().to_owned(), blurred).unwrap();
        let media = Arc::clone(&keeper.media);
        let (viewers, taken) = (AtomicUsize::new(0), AtomicU64::new(0));
        let wish = Arc::new(Wish { always_ms: 1, live_ms: 1, viewers, taken, events: true, asks: Default::default() });
        let (node, id) = (NodeId::new("n").unwrap(), EventId::new("n-1-1").unwrap());
        let events = Events {
            keeper,
            snapshots: Arc::default(),
            clips: Arc::default(),
            moments: Moments::new(Config::default().bounds()),
            interval_ms: 1,
            blurred,
            node,
            boot: Boot(1),
        };
        let mut studio = Studio {
            camera: CameraId::new("door").unwrap(),
            zones: vec![],
            lines: vec![],
            slot: Slot::default(),
            wish: Arc::clone(&wish),
            live: None,
            events: Some(events),
            feeds: vec![],
            hidden: Frame::default(),
        };
        // A canary: stripes of two pixels where the person is, and all around.
        let rgb: Vec<u8> = (0..160 * 120).flat_map(|n| [if n % 4 < 2 { 255 } else { 0 }; 3]).collect();
        let area = Area { x1: 40.0, y1: 20.0, x2: 80.0, y2: 100.0 };
        let mut picture = Picture {
            frame: Some(Frame { taken_ms: 7, width: 160, height: 120, rgb }),
            people: vec![area],
            news: vec![News { id: id.clone(), ended: false, score: 0.9 }],
            ..Picture::default()
        };
        let asked = wish.asks.add(clear).unwrap();
        studio.show(1, &mut picture, &mut Paces::default());
        let given = asked.try_recv().unwrap();
        assert_eq!((given.blurred, given.taken_ms), (!clear, 7));
        drop(studio);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        (std::fs::read(media.find(&id, "jpg").unwrap()).unwrap(), given.bytes)
    }

    /// By how much neighbours differ, within the person's box and far from it.
    fn contrast(jpeg: &[u8]) -> (u32, u32) {
        let image = image::load_from_memory(jpeg).unwrap().into_luma8();
        let most = |x: std::ops::Range<u32>, y: std::ops::Range<u32>| {
            let of = |x, y| image.get_pixel(x + 2, y).0[0].abs_diff(image.get_pixel(x, y).0[0]);
            let all = y.flat_map(|y| x.clone().map(move |x| (x, y)));
            all.map(|(x, y)| u32::from(of(x, y))).max().unwrap()
        };
        (most(48..70, 30..90), most(110..150, 30..90))
    }

    #[test]
    fn nothing_of_a_person_reaches_the_disk_or_who_asks_unless_both_were_told_so() {
        for (blurred, clear) in [(true, false), (true, true), (false, false), (false, true)] {
            let (kept, given) = shown(blurred, clear);
            for (jpeg, hidden) in [(kept, blurred), (given, !clear)] {
                let (person, around) = contrast(&jpeg);
                assert!(around > 150, "{around}");
                assert_eq!(person < 60, hidden, "kept blurred: {blurred}, asked clear: {clear}: {person}");
            }
        }
    }

    #[test]
    #[ignore = "a measurement: what one picture costs"]
    fn what_encoding_costs() {
        let file = format!("{}/tests/reference/wide.png", env!("CARGO_MANIFEST_DIR"));
        let rgb = image::open(file).unwrap().resize_exact(768, 576, image::imageops::FilterType::Triangle).into_rgb8();
        let frame = Frame { taken_ms: 0, width: 768, height: 576, rgb: rgb.into_raw() };
        let began = Instant::now();
        let bytes: usize = (0..100).map(|_| encode(0, &frame).unwrap().jpeg.len()).sum();
        println!("{} ms and {} bytes a picture", began.elapsed().as_secs_f64() * 10.0, bytes / 100);
    }
}
