//! Keeps pictures and clips of events on the device's disk, and never more of them than was said.
//!
//! Threads of its own write: one the pictures, one the clips. Who brings them never waits; what they cannot keep up with
//! is dropped and counted. Nothing here leaves the device.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use picket_shared::calendar::unix_ms;
use picket_shared::config::within;
use picket_shared::ids::{CameraId, EventId};
use serde::Deserialize;

pub(super) mod clip;
pub(super) mod moments;
pub(super) mod shelf;

use self::moments::{Bounds, Keep};
use self::shelf::{Room, Shelf};
use super::gauge::{Gauge, State};
use super::words::check_words;

/// What may wait for each of the two threads.
const JOBS_MAX: usize = 16;
/// Encoded pictures of one camera that wait for the end of their events.
const RING_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What the disk must have left: the memory of events needs it more.
const FREE_BYTES_MIN: u64 = 16 * MIB;
const MIB: u64 = 1024 * 1024;
const DAY_MS: f64 = 86_400_000.0;
/// What stands before the ending of a picture or clip in which people cannot be recognised. Without it they can, as in all
/// that was kept before there was this word; so what has lost its name is never taken for harmless.
const BLURRED: &str = "blurred";
/// How far from the moment that was asked for a picture may have been kept.
const NEAR_MS_MAX: u64 = 60_000;
/// The ending of what is not whole yet.
const PART: &str = "part";

/// What is kept of events.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Pictures and clips of all cameras together, in bytes. Too low forgets yesterday; the disk must have it.
    pub bytes_max: u64,
    /// How old they may become, in days.
    pub age_days_max: f64,
    /// Pictures a second of clips. More takes more of the processor whenever something moves.
    pub fps: f64,
    /// How long before an event a clip begins, in seconds. More takes more memory.
    pub before_s: f64,
    /// The longest clip, in seconds. More takes more memory and disk.
    pub clip_s_max: f64,
    /// Another encoder's command line, in place of ffmpeg's. It reads JPEG pictures, `{fps}` a second, from its standard
    /// input, and writes the clip to its standard output.
    pub encoder: Option<Vec<String>>,
}

impl Default for Config {
    fn default() -> Self {
        Config { bytes_max: 1024 * MIB, age_days_max: 7.0, fps: 4.0, before_s: 3.0, clip_s_max: 30.0, encoder: None }
    }
}

impl Config {
    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        within("media.bytes_max", self.bytes_max, MIB..=1 << 44)?;
        within("media.age_days_max", self.age_days_max, 0.001..=3650.0)?;
        within("media.fps", self.fps, 0.1..=30.0)?;
        within("media.before_s", self.before_s, 0.0..=30.0)?;
        within("media.clip_s_max", self.clip_s_max, 1.0..=120.0)?;
        check_words("media.encoder", self.encoder.as_deref())
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            before_ms: (self.before_s * 1000.0) as u64,
            clip_ms_max: (self.clip_s_max * 1000.0) as u64,
            ring_bytes_max: RING_BYTES_MAX,
        }
    }
}

/// Something to keep, of one camera.
struct Job(CameraId, Arc<Gauge>, Keep);

/// The folder, shared by all cameras.
pub(super) struct Media {
    config: Config,
    folder: PathBuf,
    /// People cannot be recognised in what is brought.
    blurred: bool,
    shelf: Mutex<Shelf>,
    /// Files that were refused because they are larger than everything may be.
    refused: AtomicU64,
}

/// The way to it.
#[derive(Clone)]
pub(super) struct Keeper {
    pub(super) media: Arc<Media>,
    pictures: SyncSender<Job>,
    clips: SyncSender<Job>,
}

impl Media {
    /// Takes in what earlier runs left in the folder, deletes what is too much, and starts the threads. They end when the
    /// last [`Keeper`] has gone.
    pub(super) fn open(config: Config, folder: PathBuf, blurred: bool) -> io::Result<(Keeper, Vec<JoinHandle<()>>)> {
        let room = Room { bytes_max: config.bytes_max, age_ms_max: (config.age_days_max * DAY_MS) as u64 };
        let mut shelf = Shelf::new(room);
        fs::create_dir_all(&folder)?;
        for camera in fs::read_dir(&folder)?.flatten().filter(|entry| entry.path().is_dir()) {
            for entry in fs::read_dir(camera.path())?.flatten() {
                let path = entry.path();
                let Ok(meta) = entry.metadata() else { continue };
                if path.extension().is_some_and(|end| end == PART) {
                    // It was being written when the agent was killed.
                    let _ = fs::remove_file(&path);
                } else if meta.is_file() {
                    let at = meta.modified().unwrap_or(SystemTime::now()).duration_since(UNIX_EPOCH);
                    shelf.put(at.map_or(0, |since| since.as_millis() as u64), path, meta.len());
                }
            }
        }
        let media = Arc::new(Media { config, folder, blurred, shelf: Mutex::new(shelf), refused: AtomicU64::new(0) });
        media.make_room(&mut media.lock(), 0)?;
        let ((pictures, to_draw), (clips, to_clip)) = (sync_channel(JOBS_MAX), sync_channel(JOBS_MAX));
        let mut threads = Vec::new();
        for (name, jobs) in [("media-pictures", to_draw), ("media-clips", to_clip)] {
            let media = Arc::clone(&media);
            threads.push(std::thread::Builder::new().name(name.into()).spawn(move || media.work(&jobs))?);
        }
        Ok((Keeper { media, pictures, clips }, threads))
    }

    fn work(&self, jobs: &Receiver<Job>) {
        for Job(camera, gauge, keep) in jobs {
            let kept = match &keep {
                Keep::Best(id, shot) => self.write(&camera, id, "jpg", &shot.jpeg),
                Keep::Clip(id, shots) => clip::encode(shots, self.config.fps, self.config.encoder.as_deref())
                    .and_then(|bytes| self.write(&camera, id, "mp4", &bytes)),
            };
            let who =
                format!("camera {camera}, {}", if matches!(keep, Keep::Best(..)) { "snapshots" } else { "clips" });
            match kept {
                Ok(bytes) => {
                    gauge.took(bytes);
                    gauge.well(State::Running);
                }
                Err(sentence) => gauge.wrong(State::Failed, &who, &sentence),
            }
        }
    }

    /// Writes a file whole or not at all.
    fn write(&self, camera: &CameraId, id: &EventId, end: &str, bytes: &[u8]) -> Result<usize, String> {
        let mut shelf = self.lock();
        if !shelf.could_hold(bytes.len() as u64) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(format!("{id}.{end} is larger than media.bytes_max; raise that"));
        }
        if let Ok(disk) = rustix::fs::statvfs(&self.folder)
            && disk.f_bavail * disk.f_frsize < FREE_BYTES_MIN + bytes.len() as u64
        {
            let least = FREE_BYTES_MIN / MIB;
            return Err(format!("none are kept, because the disk has less than {least} MiB left; make room"));
        }
        let folder = self.folder.join(camera.as_str());
        let name = named(id.as_str(), end, !self.blurred);
        let (part, path) = (folder.join(format!("{name}.{PART}")), folder.join(&name));
        self.make_room(&mut shelf, bytes.len() as u64)
            .and_then(|()| fs::create_dir_all(&folder))
            .and_then(|()| fs::write(&part, bytes))
            .and_then(|()| fs::rename(&part, &path))
            .map_err(|error| {
                let _ = fs::remove_file(&part);
                format!("{} cannot be written ({error}); check the disk and the folder's owner", path.display())
            })?;
        shelf.put(unix_ms(), path, bytes.len() as u64);
        Ok(bytes.len())
    }

    /// Deletes until so many bytes more may be written.
    fn make_room(&self, shelf: &mut Shelf, bytes: u64) -> io::Result<()> {
        while let Some(path) = shelf.must_go(unix_ms(), bytes).map(Path::to_owned) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => shelf.gone(&path),
            }
        }
        Ok(())
    }

    /// The file of an event, if it is there: `jpg` or `mp4`.
    pub(super) fn find(&self, id: &EventId, end: &str) -> Option<PathBuf> {
        let names = [format!("{id}.{end}"), format!("{id}.{BLURRED}.{end}")];
        let is_its = |path: &Path| names.iter().any(|name| path.ends_with(name));
        self.lock().newest().map(|(_, path)| path).find(|path| is_its(path)).map(Path::to_owned)
    }

    /// The file of an event as it may be given away: its camera's folder, when it was written, and where it is.
    pub(super) fn find_to_give(&self, id: &EventId, end: &str, clear: bool) -> Option<(String, u64, PathBuf)> {
        let name = named(id.as_str(), end, clear);
        let shelf = self.lock();
        let found = shelf.newest().find(|(_, path)| path.ends_with(&name));
        found.and_then(|(at_ms, path)| Some((camera_of(path)?, at_ms, path.to_owned())))
    }

    /// The picture of a camera that was kept nearest to this moment, as it may be given away.
    pub(super) fn near(&self, camera: &CameraId, moment_ms: u64, clear: bool) -> Option<(u64, PathBuf)> {
        let shelf = self.lock();
        let of_camera = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_blurred = name.ends_with(&named("", "jpg", false));
            path.parent().is_some_and(|folder| folder.ends_with(camera.as_str()))
                && name.ends_with(".jpg")
                && is_blurred != clear
        };
        let near = shelf.newest().filter(|(at_ms, path)| at_ms.abs_diff(moment_ms) <= NEAR_MS_MAX && of_camera(path));
        near.min_by_key(|(at_ms, _)| at_ms.abs_diff(moment_ms)).map(|(at_ms, path)| (at_ms, path.to_owned()))
    }

    /// The newest events that there is a picture of: seconds since 1970, camera, id, and whether there is a clip.
    pub(super) fn newest(&self, count: usize) -> Vec<(u64, String, String, bool)> {
        let shelf = self.lock();
        let of = |(at_ms, path): (u64, &Path)| {
            let id = path.file_name()?.to_str()?.strip_suffix(".jpg")?;
            let id = id.strip_suffix(&format!(".{BLURRED}")).unwrap_or(id).to_owned();
            let camera = path.parent()?.file_name()?.to_str()?.to_owned();
            Some((at_ms / 1000, camera, id, path.with_extension("mp4")))
        };
        let newest = shelf.newest().filter_map(of).take(count);
        newest.map(|(at_s, camera, id, clip)| (at_s, camera, id, shelf.has(&clip))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn named(id: &str, end: &str, clear: bool) -> String {
    if clear { format!("{id}.{end}") } else { format!("{id}.{BLURRED}.{end}") }
}

fn camera_of(path: &Path) -> Option<String> {
    Some(path.parent()?.file_name()?.to_str()?.to_owned())
}

impl Keeper {
    /// Keeps something of a camera, if there is time for it.
    pub(super) fn keep(&self, camera: &CameraId, gauge: &Arc<Gauge>, keep: Keep) {
        let jobs = if matches!(keep, Keep::Best(..)) { &self.pictures } else { &self.clips };
        if jobs.try_send(Job(camera.clone(), Arc::clone(gauge), keep)).is_err() {
            gauge.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::Shot;

    fn camera() -> CameraId {
        CameraId::new("door").unwrap()
    }

    fn id(number: usize) -> EventId {
        EventId::new(format!("n-1-{number}")).unwrap()
    }

    fn best(number: usize, bytes: usize) -> Keep {
        Keep::Best(id(number), Arc::new(Shot { at_ms: 0, size: (8, 8), jpeg: vec![7; bytes].into() }))
    }

    /// Everything in a folder, in bytes.
    fn bytes_in(folder: &Path) -> u64 {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                if path.is_dir() { bytes_in(&path) } else { path.metadata().unwrap().len() }
            })
            .sum()
    }

    /// Keeps these, and waits until they are.
    fn kept(config: &Config, folder: &Path, keeps: Vec<Keep>) -> (Arc<Media>, Arc<Gauge>) {
        let (keeper, threads) = Media::open(config.clone(), folder.to_owned(), false).unwrap();
        let gauge = Arc::new(Gauge::default());
        for keep in keeps {
            // As patient as no camera is.
            keeper.pictures.send(Job(camera(), Arc::clone(&gauge), keep)).unwrap();
        }
        let media = Arc::clone(&keeper.media);
        drop(keeper);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        (media, gauge)
    }

    #[test]
    fn there_is_never_more_than_may_be_also_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("media");
        let config = Config { bytes_max: MIB, ..Config::default() };
        let (media, _) = kept(&config, &folder, (0..40).map(|number| best(number, 40_000)).collect());
        assert!(bytes_in(&folder) <= MIB && bytes_in(&folder) > MIB / 2, "{}", bytes_in(&folder));
        assert!(media.find(&id(39), "jpg").is_some() && media.find(&id(0), "jpg").is_none(), "the oldest went");
        // Killed while it wrote, and far too much put there meanwhile.
        fs::write(folder.join("door/n-1-41.jpg.part"), [1; 10]).unwrap();
        fs::write(folder.join("door/n-1-42.jpg"), vec![1; MIB as usize]).unwrap();
        // A disk keeps a file's time to a few milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(30));
        kept(&config, &folder, vec![best(50, 40_000)]);
        assert!(bytes_in(&folder) <= MIB, "{}", bytes_in(&folder));
        assert!(!folder.join("door/n-1-41.jpg.part").exists());
        let (media, gauge) = kept(&config, &folder, vec![best(51, 2 * MIB as usize)]);
        assert!(gauge.problem().unwrap().contains("larger than media.bytes_max"));
        assert_eq!(media.newest(1)[0].2, "n-1-50");
    }

    #[test]
    fn what_is_too_old_goes_at_the_start_and_a_better_picture_takes_the_place_of_a_worse_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("media");
        let config = Config { age_days_max: 1.0, ..Config::default() };
        kept(&config, &folder, vec![best(1, 100), best(2, 100), best(2, 200)]);
        assert_eq!(bytes_in(&folder), 300);
        let old = SystemTime::now() - std::time::Duration::from_secs(2 * 86_400);
        fs::File::options().append(true).open(folder.join("door/n-1-1.jpg")).unwrap().set_modified(old).unwrap();
        kept(&config, &folder, vec![]);
        assert_eq!(bytes_in(&folder), 200);
    }

    #[test]
    fn only_what_says_that_it_is_blurred_is_given_as_that() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("media");
        kept(&Config::default(), &folder, vec![best(1, 100)]);
        let (keeper, threads) = Media::open(Config::default(), folder.clone(), true).unwrap();
        keeper.pictures.send(Job(camera(), Arc::default(), best(2, 100))).unwrap();
        let media = Arc::clone(&keeper.media);
        drop(keeper);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let given = |number, clear| media.find_to_give(&id(number), "jpg", clear).is_some();
        assert_eq!([given(1, false), given(1, true), given(2, false), given(2, true)], [false, true, true, false]);
        // On the device itself both can be looked at, each under its event's name.
        assert!(media.find(&id(1), "jpg").is_some() && media.find(&id(2), "jpg").is_some());
        assert_eq!(media.newest(9).iter().map(|(_, _, id, _)| id.as_str()).collect::<Vec<_>>().len(), 2);
        assert!(media.newest(9).iter().all(|(_, _, id, _)| !id.contains("blurred")));
        let near = |moment_ms, clear| media.near(&camera(), moment_ms, clear).map(|(_, path)| path);
        assert_eq!(near(unix_ms(), false).unwrap(), folder.join("door/n-1-2.blurred.jpg"));
        assert_eq!(near(unix_ms(), true).unwrap(), folder.join("door/n-1-1.jpg"));
        assert_eq!(near(unix_ms() - 2 * NEAR_MS_MAX, false), None);
    }

    #[test]
    fn a_clip_that_cannot_be_made_is_a_sentence_with_its_remedy() {
        let shots: Vec<_> = (0..3u64)
            .map(|n| Arc::new(Shot { at_ms: n * 250, size: (8, 8), jpeg: vec![n as u8; 100_000].into() }))
            .collect();
        for (words, expect) in [
            (&["/nonexistent/enc"][..], "cannot be run (No such file"),
            (&["sh", "-c", "echo no codec >&2; exit 3"], "ended with exit status: 3, \"no codec\""),
            (&["true"], "wrote nothing"),
            (&["cat", "/dev/zero"], "more than 33554432 bytes"),
        ] {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let refused = clip::encode(&shots, 4.0, Some(&words)).unwrap_err();
            assert!(refused.contains(expect), "{refused}");
        }
        let words = ["cat".to_owned()];
        assert_eq!(clip::encode(&shots, 4.0, Some(&words)).unwrap().len(), 300_000);
    }
}
