//! Keeps frames that are hard to judge, as pictures in a folder with a bound: candidates are tried by them, whatever the weather
//! is on the day of the trial.
//!
//! They have been through the privacy masks, and leave the device in no way. A frame is hard where somebody is expected who was
//! not found, or somebody was found who might have been missed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::Config;
use super::peek::{Look, Peek};
use crate::frame::{Detection, Frame};
use crate::track::{State, Track};

/// So near to the threshold a score could be on its other side.
const NEAR: f32 = 0.15;
/// Nearly nothing is lost at it, and a frame has about 100 KiB.
const JPEG_QUALITY: u8 = 92;
/// How long a frame is waited for at once; so long the end of the agent waits at most.
const LOOK: Duration = Duration::from_millis(500);

/// Whether a frame is worth keeping: what was found in it, and what is followed after it.
pub fn is_hard(found: &[Detection], tracks: &[Track], score_min: f32) -> bool {
    let near = found.iter().any(|detection| detection.score < score_min + NEAR);
    near || tracks.iter().any(|track| track.state == State::Lost)
}

/// The thread that keeps them, as heard from outside.
pub struct Frames {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    problem: Arc<Mutex<Option<String>>>,
}

impl Frames {
    /// Keeps frames from this window in this folder; nothing, where no room is given.
    pub fn start(folder: PathBuf, config: &Config, peek: Peek) -> io::Result<Option<Frames>> {
        if config.frames_bytes_max == 0 {
            return Ok(None);
        }
        let (stop, problem) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Option<String>>>::default());
        let (stopped, said) = (Arc::clone(&stop), Arc::clone(&problem));
        let (bytes_max, interval) = (config.frames_bytes_max, Duration::from_secs_f64(config.frames_interval_s));
        let thread = std::thread::Builder::new().name("hard-frames".into()).spawn(move || {
            let mut due = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                if Instant::now() < due {
                    std::thread::sleep(LOOK.min(due.saturating_duration_since(Instant::now())));
                    continue;
                }
                let Some(Look { frame, .. }) = peek.take(LOOK) else { continue };
                let kept = keep(&folder, &frame, bytes_max);
                let sentence = kept.err().map(|error| {
                    let folder = folder.display();
                    format!("frames to try models by are not kept in {folder} ({error}); check its owner and the disk")
                });
                *said.lock().unwrap_or_else(PoisonError::into_inner) = sentence;
                due = Instant::now() + interval;
            }
        })?;
        Ok(Some(Frames { stop, thread: Some(thread), problem }))
    }

    /// What is wrong, in a sentence.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Keeps a frame, and removes the oldest for which there is no room any more.
fn keep(folder: &Path, frame: &Frame, bytes_max: u64) -> io::Result<()> {
    if !frame.is_whole() || frame.rgb.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY)
        .write_image(&frame.rgb, frame.width, frame.height, ExtendedColorType::Rgb8)
        .map_err(io::Error::other)?;
    // By its time, so that the order of names is that of age.
    let name = format!("{:015}", frame.taken_ms);
    let part = folder.join(format!("{name}.part"));
    fs::write(&part, &jpeg)?;
    fs::rename(&part, folder.join(format!("{name}.jpg")))?;
    let mut there: Vec<(PathBuf, u64)> = fs::read_dir(folder)?
        .flatten()
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.len())))
        .collect();
    there.sort_unstable();
    let mut bytes: u64 = there.iter().map(|(_, bytes)| bytes).sum();
    for (path, length) in there {
        if bytes <= bytes_max {
            break;
        }
        fs::remove_file(path)?;
        bytes -= length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Area;

    fn found(score: f32) -> Detection {
        Detection { area: Area::default(), score }
    }

    fn track(state: State) -> Track {
        let (area, score, hits, start_ms, last_seen_ms) = Default::default();
        Track { id: 1, area, score, state, hits, start_ms, last_seen_ms }
    }

    #[test]
    fn hard_is_who_is_expected_and_not_found_and_who_was_nearly_missed() {
        for (found, tracks, hard, what) in [
            (vec![], vec![], false, "nobody"),
            (vec![found(0.9)], vec![track(State::Confirmed)], false, "somebody, surely"),
            (vec![found(0.9), found(0.4)], vec![], true, "somebody, hardly"),
            (vec![], vec![track(State::Lost)], true, "somebody who was there"),
            (vec![found(0.9)], vec![track(State::Tentative)], false, "somebody new"),
        ] {
            assert_eq!(is_hard(&found, &tracks, 0.3), hard, "{what}");
        }
    }

    #[test]
    fn the_folder_keeps_the_newest_within_its_room() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("frames");
        let frame = |taken_ms: u64| {
            let rgb = (0..64 * 48 * 3).map(|n| (n as u64 * 31 + taken_ms) as u8).collect();
            Frame { taken_ms, width: 64, height: 48, rgb }
        };
        keep(&folder, &frame(1), u64::MAX).unwrap();
        let one = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().metadata().unwrap().len();
        (2..9).for_each(|n| keep(&folder, &frame(n), one * 7 / 2).unwrap());
        let files = crate::pictures::in_folder(&folder).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.file_stem().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["000000000000006", "000000000000007", "000000000000008"]);
        assert_eq!(crate::pictures::read(&files[0]).map(|frame| (frame.width, frame.height)), Ok((64, 48)));
        keep(&folder, &Frame { rgb: vec![0], ..frame(99) }, 0).unwrap();
    }
}
