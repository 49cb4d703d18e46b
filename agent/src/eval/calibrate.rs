//! `picket-agent calibrate`: which threshold serves this station, from a labelled handful or from what the tracker can
//! follow.
//!
//! It says what it chose, how sure that is, and what to write into the configuration; with `--write` it writes it.
//! Thresholds do not transfer between scenes, which is why this is done at each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use picket_shared::exit::{Exit, Failure};

use super::command::{FPS_DEFAULT, Input};
use super::degrade::Degradation;
use super::files;
use super::metrics::boxes::FrameScores;
use super::pass::{self, Pass, Plan};
use super::persistence::{HITS_MIN, Persistence};
use super::settings::{self, Setting};
use super::source::Source;
use super::threshold::{Choice, Objective, choose};
use super::truth::Truth;
use crate::config::Config;
use crate::detect::{self, Detector};
use crate::track;

/// The least threshold that can come out.
const SCORE_FLOOR: f32 = 0.05;
/// Frames that are taken without labels, where not told otherwise: at ten a second, more than a minute and a half.
const UNLABELLED_FRAMES: usize = 1000;
/// Frames of a sequence that the bootstrap draws together: neighbours show the same people.
const RUN_FRAMES: usize = 25;
/// Fewer labelled frames or people than these are said to be few.
const FRAMES_FEW: usize = 20;
const PEOPLE_FEW: usize = 50;
/// From this share of draws on, the choice is said to be better than what was there.
const BETTER_SHARE_MIN: f64 = 0.9;

/// What `calibrate` was asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    input: Input,
    /// Labels of some of the frames, in any format that eval reads; without them the tracker decides what is a person
    #[arg(long)]
    truth: Option<PathBuf>,
    /// What is to be as high as can be
    #[arg(long, default_value = "f1")]
    objective: Objective,
    /// Put the values into this configuration file, and leave everything else in it as it is
    #[arg(long)]
    write: Option<PathBuf>,
}

/// Runs it.
pub fn run(options: &Options) -> Result<(), Failure> {
    let input = &options.input;
    let (detector_config, track_config) = input.configs()?;
    // Read before the work, so that a file which cannot take the values is told at once.
    let before = options.write.as_deref().map(read_configuration).transpose()?;
    let source = Source::open(&input.source)?;
    let labels = match &options.truth {
        Some(path) => Some((path, files::read_truth(path, input.format)?.truth)),
        None => None,
    };
    if let (Some((path, truth)), Some(names)) = (&labels, source.names()) {
        let refuse = |e| files::refuse(path, format!("has a fault in {e}"));
        truth.check_names(names.iter().map(String::as_str)).map_err(refuse)?;
    }
    if let (Some((path, truth)), None) = (&labels, source.names())
        && truth.names_files()
    {
        let what = "names pictures, and the source is a video; give the folder of the pictures".to_owned();
        return Err(files::refuse(path, what));
    }
    let labels = labels.as_ref().map(|(path, truth)| (path.as_path(), truth));
    let frames = match labels {
        Some((path, truth)) => labelled(options, &source, path, truth, &detector_config)?,
        None => unlabelled(options, &source, &detector_config, &track_config)?,
    };
    let run = if labels.is_some_and(|(_, truth)| truth.names_files()) { 1 } else { RUN_FRAMES };
    let used = f64::from(detector_config.score_min);
    let choice = choose(&frames, options.objective, used, f64::from(SCORE_FLOOR), run, input.seed);
    let choice = choice.ok_or_else(|| Failure::new(Exit::Unfinished, nobody(labels.is_some())))?;
    let settings = settings_of(choice.threshold, &track_config);
    let said = said(&choice, options.objective, used, &frames, labels.is_some());
    let agrees = agrees(choice.threshold, &settings);
    let text = format!("{said}\n{agrees}\n\n{}", settings::lines(&settings));
    // Whoever reads has seen enough where the pipe is closed.
    let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes());
    if let (Some(path), Some(before)) = (&options.write, before) {
        write(path, &before, &settings)?;
    }
    Ok(())
}

fn nobody(labelled: bool) -> String {
    if labelled {
        "nobody is marked in the frames that were looked at; label frames with people in them".into()
    } else {
        format!(
            "nobody could be followed over {HITS_MIN} frames and seen for sure once, so nothing was calibrated; give a sequence with people \
             walking, or a --truth"
        )
    }
}

fn pass_over(
    options: &Options,
    source: &Source,
    config: &detect::Config,
    frames_max: Option<usize>,
    wanted: &(dyn Fn(usize, &str) -> bool + Sync),
) -> Result<Pass, Failure> {
    let config = detect::Config { score_min: SCORE_FLOOR, ..config.clone() };
    let mut detectors = [Detector::load(&config)?];
    let plan = Plan {
        what: "calibrating",
        source,
        frames_max,
        wanted,
        delay: Duration::ZERO,
        degradation: Degradation::None,
        seed: options.input.seed,
    };
    pass::run(&plan, &mut detectors)
}

fn labelled(
    options: &Options,
    source: &Source,
    path: &Path,
    truth: &Truth,
    config: &detect::Config,
) -> Result<Vec<FrameScores>, Failure> {
    let frames_max = options.input.frames;
    let wanted = |index: usize, name: &str| truth.of(index, name).is_some();
    let pass = pass_over(options, source, config, frames_max, &wanted)?;
    if frames_max.is_none_or(|frames| pass.passed < frames) {
        truth.check_count(pass.passed).map_err(|e| files::refuse(path, format!("has a fault in {e}")))?;
    }
    let marked = |seen: &pass::Seen| Some(FrameScores::of(truth.of(seen.index, &seen.name)?, &seen.found));
    Ok(pass.seen.iter().filter_map(marked).collect())
}

fn unlabelled(
    options: &Options,
    source: &Source,
    config: &detect::Config,
    track: &track::Config,
) -> Result<Vec<FrameScores>, Failure> {
    let frames_max = options.input.frames.unwrap_or(UNLABELLED_FRAMES);
    let pass = pass_over(options, source, config, Some(frames_max), &|_, _| true)?;
    let fps = options.input.fps.or(source.fps).unwrap_or(FPS_DEFAULT);
    let mut persistence = Persistence::new(track, SCORE_FLOOR);
    for seen in &pass.seen {
        let by_rate = 1_000 + (seen.index as f64 * 1_000.0 / fps).round() as u64;
        persistence.frame(if source.is_live() { seen.taken_ms } else { by_rate }, &seen.found);
    }
    Ok(persistence.judge())
}

/// What the configuration needs so that whoever scores the threshold counts: the detector's least score, and, where the
/// tracker asks for more to begin a track, the tracker's.
fn settings_of(threshold: f64, track: &track::Config) -> Vec<Setting> {
    let mut settings = vec![Setting { table: "detector", key: "score_min", value: threshold }];
    let scores = [("score_new", track.score_new), ("score_high", track.score_high), ("score_low", track.score_low)];
    for (key, used) in scores {
        // Rounding of 32-bit scores is no difference.
        if threshold < f64::from(used) - 1e-6 {
            settings.push(Setting { table: "track", key, value: threshold });
        }
    }
    settings
}

/// How the detector's least score and the tracker's thresholds go together, once these are set. What was measured is
/// detections, so the detector gives none below the threshold, and none of those above it may be lost behind it.
fn agrees(threshold: f64, settings: &[Setting]) -> String {
    let lowered: Vec<_> = settings.iter().filter(|set| set.table == "track").map(|set| set.key).collect();
    let tracker = match &lowered[..] {
        [] => "each of them can begin a track as the tracker is set, so track.* stays as it is".to_owned(),
        keys => format!(
            "{} of [track] come down to it, or some of them could begin no track (score_low <= score_high <= score_new)",
            keys.join(", ")
        ),
    };
    format!(
        "a detection counts from {threshold:.2} on, which is detector.score_min: {tracker}; the tracker's second look at \
         weak detections has none to look at then, and an event still needs observe.score_start once"
    )
}

fn said(choice: &Choice, objective: Objective, used: f64, frames: &[FrameScores], labelled: bool) -> String {
    let people: usize = frames.iter().map(|frame| frame.people).sum();
    let by = match objective {
        Objective::F1 => "F1",
        Objective::Count => "count accuracy (1 - count error)",
    };
    let Choice { threshold, threshold_interval, value, value_interval, value_before, better_share } = choice;
    let evidence = if labelled {
        format!("{people} labelled people")
    } else {
        format!(
            "{people} detections of tracks that were seen in {HITS_MIN} frames or more, and once for sure, taken for \
             people, against those of all other tracks (no labels: whatever the tracker takes for a person is one)"
        )
    };
    let mut lines = vec![
        format!(
            "chosen: threshold {threshold:.2} (95 of 100 draws: {:.2} to {:.2}), by {by} over {} frames with {evidence}",
            threshold_interval.low,
            threshold_interval.high,
            frames.len()
        ),
        format!(
            "{by} at it {value:.4} (95 of 100 draws: {:.4} to {:.4}); at the {used:.2} in use {value_before:.4}",
            value_interval.low, value_interval.high
        ),
        format!(
            "better than {used:.2} on frames it was not chosen by in {:.0} of 100 draws: {}",
            better_share * 100.0,
            if *better_share >= BETTER_SHARE_MIN {
                if labelled { "sure" } else { "sure, as far as the tracker is right; labels would tell" }
            } else if (threshold - used).abs() < 0.005 {
                "it is the one in use"
            } else {
                "not sure; more frames would tell"
            }
        ),
    ];
    if frames.len() < FRAMES_FEW || people < PEOPLE_FEW {
        lines.push(format!("few frames or people: {FRAMES_FEW} frames and {PEOPLE_FEW} people or more are better"));
    }
    lines.join("\n")
}

/// The text of a configuration that is there, or nothing for one that will be made.
fn read_configuration(path: &Path) -> Result<String, Failure> {
    if !path.exists() {
        return Ok(String::new());
    }
    picket_shared::config::load::<Config>(path)?;
    files::read_text("the configuration", path)
}

/// Writes the values in, once the text that comes out has been read back and says just that.
fn write(path: &Path, before: &str, settings: &[Setting]) -> Result<(), Failure> {
    let text = settings::put(before, settings);
    let says = picket_shared::config::parse::<Config>(&text).is_ok_and(|config| {
        settings.iter().all(|Setting { table, key, value }| {
            let found = match (*table, *key) {
                ("detector", "score_min") => config.detector.score_min,
                ("track", "score_new") => config.track.score_new,
                ("track", "score_high") => config.track.score_high,
                ("track", "score_low") => config.track.score_low,
                _ => f32::NAN,
            };
            (f64::from(found) - value).abs() < 1e-4
        }) && config.detector.check().and_then(|()| config.track.check()).is_ok()
    });
    if !says {
        let what = "is written in a way that the values cannot be put into; paste the lines above by hand";
        return Err(Failure::new(Exit::Config, format!("the configuration {} {what}", path.display())));
    }
    files::write(path, &text)?;
    tracing::info!("written to {}; start the agent again to use it", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_scores_the_threshold_can_begin_a_track() {
        let keys = |threshold| {
            let settings = settings_of(threshold, &track::Config::default());
            settings.iter().map(|setting| setting.key).collect::<Vec<_>>()
        };
        assert_eq!(keys(0.5), ["score_min"]);
        assert_eq!(keys(0.45), ["score_min"]);
        assert_eq!(keys(0.42), ["score_min", "score_new"]);
        assert_eq!(keys(0.3), ["score_min", "score_new", "score_high"]);
        assert_eq!(keys(0.07), ["score_min", "score_new", "score_high", "score_low"]);
    }

    #[test]
    fn the_thresholds_agree_whatever_was_set_before() {
        let tracker =
            |score_low, score_high, score_new| track::Config { score_low, score_high, score_new, ..Default::default() };
        let before =
            [track::Config::default(), tracker(0.05, 0.05, 0.05), tracker(0.2, 0.454, 0.455), tracker(0.3, 0.6, 0.9)];
        for before in before {
            for step in 5..100u32 {
                let threshold = f64::from(step) / 100.0;
                let settings = settings_of(threshold, &before);
                let mut after = before.clone();
                for Setting { key, value, .. } in &settings {
                    match *key {
                        "score_new" => after.score_new = *value as f32,
                        "score_high" => after.score_high = *value as f32,
                        "score_low" => after.score_low = *value as f32,
                        _ => assert_eq!((*key, *value), ("score_min", threshold)),
                    }
                }
                assert_eq!(after.check(), Ok(()), "{threshold} after {before:?}");
                // Somebody who stands there and scores just that.
                let mut tracker = track::Tracker::new(after);
                let area = crate::frame::Area { x1: 100.0, y1: 100.0, x2: 140.0, y2: 200.0 };
                let seen = crate::frame::Detection { area, score: threshold as f32 };
                let confirmed = (0..5).any(|frame| {
                    let tracks = tracker.step(frame * 100, &[seen]);
                    tracks.iter().any(|track| track.state == track::State::Confirmed)
                });
                assert!(confirmed, "{threshold} after {before:?}");
                let said = agrees(threshold, &settings);
                assert_eq!(said.contains("track.* stays"), settings.len() == 1, "{said}");
                assert!(settings[1..].iter().all(|set| said.contains(set.key)), "{said}");
            }
        }
    }

    #[test]
    fn values_are_written_into_a_file_or_it_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let settings = settings_of(0.3, &track::Config::default());
        write(&path, "", &settings).unwrap();
        let made = read_configuration(&path).unwrap();
        let config: Config = picket_shared::config::parse(&made).unwrap();
        assert_eq!((config.detector.score_min, config.track.score_new, config.track.score_high), (0.3, 0.3, 0.3));
        // Lines that the simple reading of a text does not follow: refused, and nothing is lost.
        for clever in ["detector.threads = 2\n", "detector = { threads = 2 }\n", "[track]\nscore_low = 0.35\n"] {
            std::fs::write(&path, clever).unwrap();
            let before = read_configuration(&path).unwrap();
            let failure = write(&path, &before, &settings).unwrap_err();
            assert!(failure.sentence.contains("paste the lines above by hand"), "{failure}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), clever);
        }
        std::fs::write(&path, "[detector]\nscore_mon = 1\n").unwrap();
        assert!(read_configuration(&path).unwrap_err().sentence.contains("did you mean \"score_min\"?"));
    }
}
