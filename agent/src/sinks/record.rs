//! Records a camera's annotated pictures as MP4 segments, through an encoder child.
//!
//! Segments are fragmented, so that one whose writing was cut off still plays. The oldest are deleted before there are too
//! many or the disk is full: detection and the memory of events need it more.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use picket_shared::calendar::unix_ms;
use picket_shared::config::within;
use serde::Deserialize;

use super::encoder::{Halt, Invocation, Target};
use super::media::shelf::{Room, Shelf};
use super::words::{check_words, ffmpeg_reads_raw, filled, plain_or_table};

/// The share of the room that the open segment may take.
const SEGMENT_SHARE: u64 = 4;
const MIB: u64 = 1024 * 1024;
const DAY_S: f64 = 86_400.0;

/// Where and how to record. A plain path is enough.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The segments' name, which ends in `.mp4`: `/var/video/door.mp4` makes `/var/video/door-20261124T093000Z.mp4` and
    /// so on.
    pub path: PathBuf,
    /// Most pictures a second. More takes more of the processor and of the disk.
    pub fps: f64,
    /// The longest segment, in seconds. Too short makes many files; too long deletes in large steps.
    pub segment_s: f64,
    /// All segments together, in MiB.
    pub mib_max: u64,
    /// How old a segment may become, in days.
    pub age_days_max: f64,
    /// What the disk must have left, in MiB; below it, nothing is recorded.
    pub free_mib_min: u64,
    /// Another encoder's command line, in place of ffmpeg's. It reads raw RGB pictures, 8 bits a channel, as they come,
    /// from its standard input, and writes `{path}`; `{width}`, `{height}` and `{fps}` stand for what they are.
    pub encoder: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    path: PathBuf,
    #[serde(default = "default_fps")]
    fps: f64,
    #[serde(default = "default_segment_s")]
    segment_s: f64,
    #[serde(default = "default_mib_max")]
    mib_max: u64,
    #[serde(default = "default_age_days_max")]
    age_days_max: f64,
    #[serde(default = "default_free_mib_min")]
    free_mib_min: u64,
    #[serde(default)]
    encoder: Option<Vec<String>>,
}

fn default_fps() -> f64 {
    10.0
}

fn default_segment_s() -> f64 {
    600.0
}

fn default_mib_max() -> u64 {
    10 * 1024
}

fn default_age_days_max() -> f64 {
    7.0
}

fn default_free_mib_min() -> u64 {
    256
}

impl From<Table> for Config {
    fn from(table: Table) -> Config {
        let Table { path, fps, segment_s, mib_max, age_days_max, free_mib_min, encoder } = table;
        Config { path, fps, segment_s, mib_max, age_days_max, free_mib_min, encoder }
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        plain_or_table(deserializer, "a path or a table", |path| format!("path = {path}"))
            .map(|table: Table| table.into())
    }
}

impl Config {
    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        let path = self.path.display();
        if !self.path.is_absolute() || self.path.extension().is_none_or(|end| end != "mp4") {
            return Err(format!("record.path is {path}; give it a whole path that ends in .mp4"));
        }
        within("record.fps", self.fps, super::pace::FPS_MIN..=super::pace::FPS_MAX)?;
        within("record.segment_s", self.segment_s, 1.0..=DAY_S)?;
        within("record.mib_max", self.mib_max, 1..=1 << 24)?;
        within("record.age_days_max", self.age_days_max, 0.001..=3650.0)?;
        within("record.free_mib_min", self.free_mib_min, 1..=1 << 24)?;
        check_words("record.encoder", self.encoder.as_deref())
    }

    /// The folder and the beginning of each segment's name.
    fn place(&self) -> (PathBuf, String) {
        let folder = self.path.parent().unwrap_or(Path::new("/")).to_owned();
        (folder, self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
    }
}

/// The segments of one camera.
pub(super) struct Segments {
    config: Config,
    shelf: Shelf,
    /// The open one.
    open: Option<(PathBuf, Instant)>,
    found: bool,
}

impl Segments {
    /// Those of this configuration.
    pub(super) fn new(config: Config) -> Segments {
        let room = Room {
            // What is open is not on the shelf yet.
            bytes_max: config.mib_max * MIB / SEGMENT_SHARE * (SEGMENT_SHARE - 1),
            age_ms_max: (config.age_days_max * DAY_S * 1000.0) as u64,
        };
        Segments { config, shelf: Shelf::new(room), open: None, found: false }
    }

    /// Takes in the segments of earlier runs.
    fn find(&mut self, folder: &Path, stem: &str) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        for entry in std::fs::read_dir(folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(at_s) = name.strip_prefix(stem).and_then(|rest| read_stamp(rest.strip_suffix(".mp4")?)) else {
                continue;
            };
            self.shelf.put(at_s * 1000, entry.path(), entry.metadata()?.len());
        }
        self.found = true;
        Ok(())
    }

    /// Deletes what must go before anything more is written.
    fn make_room(&mut self, now_ms: u64) -> Result<(), Halt> {
        while let Some(path) = self.shelf.must_go(now_ms, 0).map(Path::to_owned) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    let path = path.display();
                    return Err(Halt::Full(format!(
                        "{path} cannot be deleted to make room ({error}); delete it, or check the folder's owner"
                    )));
                }
                _ => self.shelf.gone(&path),
            }
        }
        Ok(())
    }

    fn has_room(&self, folder: &Path) -> Result<(), Halt> {
        let Ok(disk) = rustix::fs::statvfs(folder) else { return Ok(()) };
        let (free, least) = (disk.f_bavail * disk.f_frsize / MIB, self.config.free_mib_min);
        if free >= least {
            return Ok(());
        }
        let folder = folder.display();
        Err(Halt::Full(format!(
            "recording has stopped, because the disk of {folder} has less than {least} MiB left; make room, or lower \
             record.mib_max"
        )))
    }
}

impl Target for Segments {
    fn begin(&mut self, (width, height): (u32, u32)) -> Result<Invocation, Halt> {
        let (folder, stem) = self.config.place();
        if !self.found {
            self.find(&folder, &stem).map_err(|error| {
                Halt::Wrong(format!("{} cannot be used ({error}); check its owner", folder.display()))
            })?;
        }
        let now_ms = unix_ms();
        self.make_room(now_ms)?;
        self.has_room(&folder)?;
        // Two that begin in one second do not write one file.
        let mut at_s = now_ms / 1000;
        let path = loop {
            let path = folder.join(format!("{stem}{}.mp4", stamp(at_s)));
            if !path.exists() {
                break path;
            }
            at_s += 1;
        };
        self.open = Some((path.clone(), Instant::now()));
        let target = path.to_string_lossy().into_owned();
        let fps = self.config.fps.to_string();
        let known =
            [("width", width.to_string()), ("height", height.to_string()), ("fps", fps), ("path", target.clone())];
        let words = match &self.config.encoder {
            Some(words) => filled(words, &known),
            None => {
                let mut words = ffmpeg_reads_raw(width, height, self.config.fps);
                // Nothing is held back, and a fragment is out each second: that is all that a crash can cost.
                let ours = "-preset veryfast -tune zerolatency -crf 25 -force_key_frames expr:gte(t,n_forced*2) \
                     -movflags +frag_keyframe+empty_moov+default_base_moof -frag_duration 1000000 -flush_packets 1 \
                     -f mp4 -n";
                words.extend(ours.split_whitespace().map(String::from));
                words.push(format!("file:{target}"));
                words
            }
        };
        Ok(Invocation { words, env: None })
    }

    fn check(&mut self) -> Result<(), Halt> {
        let Some((path, began)) = &self.open else { return Ok(()) };
        let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
        let full = bytes >= self.config.mib_max * MIB / SEGMENT_SHARE;
        let (folder, _) = self.config.place();
        self.has_room(&folder)?;
        if full || began.elapsed() >= Duration::from_secs_f64(self.config.segment_s) {
            return Err(Halt::Next);
        }
        self.make_room(unix_ms())
    }

    fn ended(&mut self) {
        let Some((path, _)) = self.open.take() else { return };
        match std::fs::metadata(&path) {
            Ok(file) if file.len() > 0 => {
                let at_s = path.to_string_lossy().strip_suffix(".mp4").and_then(|name| {
                    let (_, stem) = self.config.place();
                    read_stamp(name.rsplit('/').next()?.strip_prefix(&stem)?)
                });
                self.shelf.put(at_s.map_or_else(unix_ms, |at_s| at_s * 1000), path, file.len());
            }
            // Nothing was written: there is nothing to keep.
            _ => drop(std::fs::remove_file(&path)),
        }
    }

    fn explain(&self, what: &str, complaints: &[String]) -> Halt {
        let path = self.config.path.display();
        let last = complaints.last().map_or(String::new(), |line| format!(", \"{line}\""));
        if complaints.iter().any(|line| line.contains("No space left")) {
            return Halt::Full(format!("recording has stopped, because the disk of {path} is full; make room"));
        }
        Halt::Wrong(format!("{what}{last}; recording to {path} is tried again"))
    }
}

/// `-20261124T093000Z`: when a segment began, in UTC. By Howard Hinnant's `civil_from_days`.
fn stamp(unix_s: u64) -> String {
    let (days, second) = ((unix_s / 86_400) as i64 + 719_468, unix_s % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("-{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// The other way; none where it is no such stamp. By Howard Hinnant's `days_from_civil`.
fn read_stamp(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(1, 5)?, number(5, 7)?, number(7, 9)?);
    let (hour, minute, second) = (number(10, 12)?, number(12, 14)?, number(14, 16)?);
    let year_ = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year_ / 400, year_ % 400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let unix_s = u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second).ok()?;
    (stamp(unix_s) == text).then_some(unix_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config, String> {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Camera {
            record: Config,
        }
        picket_shared::config::parse::<Camera>(text).map(|camera| camera.record)
    }

    #[test]
    fn a_path_is_enough_and_what_is_wrong_is_named() {
        let plain = config("record = \"/v/door.mp4\"").unwrap();
        assert_eq!((plain.path.as_path(), plain.fps), (Path::new("/v/door.mp4"), 10.0));
        assert_eq!(config("[record]\npath = \"/v/door.mp4\"").unwrap(), plain);
        assert_eq!(plain.check(), Ok(()));
        for (text, expect) in [
            ("record = \"door.mp4\"", "a whole path that ends in .mp4"),
            ("record = \"/v/door.avi\"", "a whole path that ends in .mp4"),
            ("[record]\npath = \"/v/d.mp4\"\nfps = 0.0", "record.fps is 0; give it"),
            ("[record]\npath = \"/v/d.mp4\"\nmib_max = 0", "record.mib_max is 0"),
            ("[record]\npath = \"/v/d.mp4\"\nencoder = []", "record.encoder is empty"),
            ("[record]\npath = \"/v/d.mp4\"\nfsp = 1.0", "did you mean \"fps\""),
            ("record = 7", "a path or a table"),
        ] {
            let refused = config(text).and_then(|config| config.check()).unwrap_err();
            assert!(refused.contains(expect), "{text}: {refused}");
        }
    }

    #[test]
    fn a_stamp_is_the_time_in_utc_and_reads_back() {
        for (unix_s, expect) in [
            (0, "-19700101T000000Z"),
            (951_782_400, "-20000229T000000Z"),
            (1_700_000_000, "-20231114T221320Z"),
            (4_102_444_799, "-20991231T235959Z"),
        ] {
            assert_eq!(stamp(unix_s), expect);
            assert_eq!(read_stamp(expect), Some(unix_s));
        }
        for text in ["", "-x", "-20231314T221320Z", "-20231114T221320", "-2023111412213200Z", "-20230230T000000Z"] {
            assert_eq!(read_stamp(text), None, "{text}");
        }
    }

    #[test]
    fn segments_of_earlier_runs_count_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&format!("record = \"{}/door.mp4\"", dir.path().display())).unwrap();
        (config.mib_max, config.free_mib_min) = (4, 1);
        let now_s = unix_ms() / 1000;
        for ago_s in [10, 20, 30, 40] {
            std::fs::write(dir.path().join(format!("door{}.mp4", stamp(now_s - ago_s))), vec![0; MIB as usize])
                .unwrap();
        }
        // Somebody else's.
        std::fs::write(dir.path().join("doorbell.mp4"), vec![0; 3 * MIB as usize]).unwrap();
        let mut segments = Segments::new(config);
        let Invocation { words, .. } = segments.begin((64, 48)).unwrap();
        let path = words.last().unwrap().strip_prefix("file:").unwrap().to_owned();
        std::fs::write(&path, vec![0; MIB as usize]).unwrap();
        assert_eq!(segments.check(), Err(Halt::Next), "a quarter of the room is full");
        segments.ended();
        segments.begin((64, 48)).unwrap();
        let mut left: Vec<String> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        left.sort();
        let expect = [20, 10].map(|ago_s| format!("door{}.mp4", stamp(now_s - ago_s)));
        assert_eq!(left[..2], expect, "the three youngest are left, beside what is not ours");
        assert_eq!((left.len(), left[3].as_str()), (4, "doorbell.mp4"));
    }

    #[test]
    fn a_disk_without_room_is_a_sentence_and_nothing_is_started() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&format!("record = \"{}/door.mp4\"", dir.path().display())).unwrap();
        config.free_mib_min = 1 << 24;
        let Err(Halt::Full(sentence)) = Segments::new(config).begin((64, 48)) else { panic!("it was begun") };
        assert!(sentence.contains("recording has stopped, because the disk of"), "{sentence}");
    }

    #[test]
    fn what_ffmpeg_says_of_a_full_disk_is_understood_and_anything_else_is_tried_again() {
        let mut ffmpeg = std::process::Command::new("ffmpeg");
        ffmpeg.args("-hide_banner -loglevel error -f lavfi -i color=s=64x48:d=1 -f mp4 -y".split(' '));
        // A device on which every write finds the disk full.
        let said = ffmpeg.arg("file:/dev/full").output().expect("this test needs ffmpeg: run it by `make test`").stderr;
        let complaints: Vec<String> = String::from_utf8_lossy(&said).lines().map(String::from).collect();
        let segments = Segments::new(config("record = \"/v/door.mp4\"").unwrap());
        let Halt::Full(sentence) = segments.explain("the encoder ended", &complaints) else { panic!("{complaints:?}") };
        assert_eq!(sentence, "recording has stopped, because the disk of /v/door.mp4 is full; make room");
        let other = segments.explain("the encoder ended", &["Unknown encoder 'libx264'".into()]);
        let again = "the encoder ended, \"Unknown encoder 'libx264'\"; recording to /v/door.mp4 is tried again";
        assert_eq!(other, Halt::Wrong(again.into()));
    }
}
