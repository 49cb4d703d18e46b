//! `picket-agent eval`: how good and how fast the configured detector is on labelled frames.
//!
//! Everything that can be refused is refused before the first frame is looked at, and before anything is written.

use std::path::PathBuf;
use std::time::Duration;

use picket_shared::exit::{Exit, Failure};

use super::degrade::Degradation;
use super::files::{self, Loaded};
use super::metrics::IOU_MIN;
use super::metrics::boxes::{Point, curve};
use super::pass::{self, Pass, Plan};
use super::report::{DEFINITIONS, Degraded, Report, Speed};
use super::score::{Found, Scored, Sequence, score};
use super::source::Source;
use super::truth::Format;
use crate::config::Config;
use crate::detect::{self, Detector};
use crate::track;

/// The least score that the detector is asked for: what average precision needs, whatever the threshold is.
const SCORE_FLOOR: f32 = 0.01;
/// Frames a second of a sequence that does not say it: the tracker's nominal interval.
pub const FPS_DEFAULT: f64 = 10.0;
/// Most workers: each has the model in memory.
const WORKERS_MAX: usize = 64;
const DELAY_MS_MAX: u64 = 60_000;

/// Where frames and truth are.
#[derive(Debug, Clone, clap::Args)]
pub struct Input {
    /// A folder of pictures, the folder of a MOT sequence, or a video
    #[arg(long)]
    pub source: String,
    /// The truth's format; told by the name where absent: .txt, .top and .csv, or a folder for voc
    #[arg(long)]
    pub format: Option<Format>,
    /// A configuration file whose tables detector and track are used
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Look at the first so many frames only
    #[arg(long)]
    pub frames: Option<usize>,
    /// Frames a second of the sequence, where neither it nor its format says so
    #[arg(long)]
    pub fps: Option<f64>,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What `eval` was asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    input: Input,
    /// The truth: MOT gt.txt, TownCentre .top, CSV file,x1,y1,x2,y2,ignore, or a folder of Pascal VOC XML; by default the gt/gt.txt of a sequence's folder
    #[arg(long)]
    truth: Option<PathBuf>,
    /// Numbers of workers to measure the speed with
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8")]
    workers: Vec<usize>,
    /// Measure the speed also with a reader that takes so much longer a frame, in milliseconds; 0 leaves it out
    #[arg(long, default_value_t = 40)]
    delayed_reader_ms: u64,
    /// Frames to measure each speed over; 0 measures none
    #[arg(long, default_value_t = 200)]
    speed_frames: usize,
    /// Ways to make the pictures worse
    #[arg(long, value_delimiter = ',', default_value = "none,noise,blur,lowlight,jpeg20,half")]
    degrade: Vec<Degradation>,
    /// Write eval.json, plots and tracks into this folder
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs it: tells progress on the way, prints the table, writes the files.
pub fn run(options: &Options) -> Result<(), Failure> {
    let input = &options.input;
    options.check().map_err(|what| Failure::new(Exit::Config, what))?;
    let (detector_config, track_config) = input.configs()?;
    let source = Source::open(&input.source)?;
    let truth_path = options.truth.clone().unwrap_or_else(|| PathBuf::from(&input.source));
    let mut loaded = files::read_truth(&truth_path, input.format)?;
    let refuse = |e| files::refuse(&truth_path, format!("has a fault in {e}"));
    match source.names() {
        Some(names) => loaded.truth.check_names(names.iter().map(String::as_str)).map_err(refuse)?,
        None if loaded.truth.names_files() => {
            let what = "names pictures, and the source is a video; give the folder of the pictures".to_owned();
            return Err(files::refuse(&truth_path, what));
        }
        None => {}
    }
    if let Some(length) = source.length {
        loaded.truth.extend_to(length);
    }
    if let Some(out) = &options.out {
        files::make_folder(out)?;
    }
    let sequence = input.sequence(&source, &loaded, track_config)?;
    let evaluation = Evaluation {
        options,
        source: &source,
        loaded: &loaded,
        sequence,
        score_min: detector_config.score_min,
        truth: truth_path.display().to_string(),
    };
    let mut detectors = load(&detector_config, options.workers_needed())?;
    let report = evaluation.run(&mut detectors, &|e| refuse(e))?;
    // Whoever reads has seen enough where the pipe is closed; the files are written already.
    let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), report.table().as_bytes());
    Ok(())
}

/// Loads as many detectors as there are workers; scores from [`SCORE_FLOOR`] on come out of them.
fn load(config: &detect::Config, count: usize) -> Result<Vec<Detector>, Failure> {
    let config = detect::Config { score_min: config.score_min.min(SCORE_FLOOR), ..config.clone() };
    (0..count).map(|_| Detector::load(&config)).collect()
}

impl Input {
    /// The detector's and the tracker's part of the configuration.
    pub(super) fn configs(&self) -> Result<(detect::Config, track::Config), Failure> {
        let config = match &self.config {
            Some(path) => picket_shared::config::load::<Config>(path)?,
            None => Config::default(),
        };
        let checked = config.detector.check().and_then(|()| config.track.check());
        checked.map_err(|what| Failure::new(Exit::Config, format!("configuration: {what}")))?;
        if self.frames == Some(0) {
            return Err(Failure::new(Exit::Config, "--frames is 0; give it 1 or more, or leave it out"));
        }
        if let Some(fps) = self.fps.filter(|fps| !(0.01..=1000.0).contains(fps)) {
            return Err(Failure::new(Exit::Config, format!("--fps is {fps}; give it 0.01 to 1000")));
        }
        Ok((config.detector, config.track))
    }

    fn sequence(&self, source: &Source, loaded: &Loaded, track: track::Config) -> Result<Option<Sequence>, Failure> {
        if !loaded.truth.has_ids() {
            return Ok(None);
        }
        let known = self.fps.or(source.fps).or(loaded.fps);
        if known.is_none() {
            tracing::warn!("the frame rate is not known, and {FPS_DEFAULT} a second is taken; --fps gives another");
        }
        Ok(Some(Sequence { track, fps: known.unwrap_or(FPS_DEFAULT) }))
    }
}

impl Options {
    fn check(&self) -> Result<(), String> {
        if self.workers.is_empty() || self.workers.iter().any(|workers| !(1..=WORKERS_MAX).contains(workers)) {
            return Err(format!("--workers has a number outside 1 to {WORKERS_MAX}; each worker holds the model"));
        }
        if self.delayed_reader_ms > DELAY_MS_MAX {
            return Err(format!("--delayed-reader-ms is above {DELAY_MS_MAX}; give less"));
        }
        let twice = |degradation| self.degrade.iter().filter(|other| *other == degradation).count() > 1;
        if self.degrade.is_empty() || self.degrade.iter().any(twice) {
            return Err("--degrade names nothing, or something twice; name each once".into());
        }
        Ok(())
    }

    /// Detectors that serve both the figures, on all cores, and the speeds.
    fn workers_needed(&self) -> usize {
        let asked = self.workers.iter().copied().filter(|_| self.speed_frames > 0).max().unwrap_or(1);
        asked.max(cores())
    }
}

/// The points at which recall rises; the others say nothing that these do not.
fn rising(points: Vec<Point>) -> Vec<Point> {
    let mut recall = 0.0;
    points.into_iter().filter(|point| point.recall > std::mem::replace(&mut recall, point.recall)).collect()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(WORKERS_MAX)
}

/// An evaluation that can begin.
struct Evaluation<'a> {
    options: &'a Options,
    source: &'a Source,
    loaded: &'a Loaded,
    sequence: Option<Sequence>,
    score_min: f32,
    truth: String,
}

impl Evaluation<'_> {
    fn run(
        &self,
        detectors: &mut [Detector],
        refuse: &dyn Fn(super::truth::TruthError) -> Failure,
    ) -> Result<Report, Failure> {
        let mut degradations = Vec::new();
        let mut first: Option<(Pass, Scored)> = None;
        for &degradation in &self.options.degrade {
            let pass = self.pass(degradation.name(), degradation, &mut detectors[..cores()])?;
            if first.is_none() && self.options.input.frames.is_none_or(|frames| pass.passed < frames) {
                self.loaded.truth.check_count(pass.passed).map_err(refuse)?;
            }
            let scored = self.score(&pass);
            if scored.frames.is_empty() {
                let why = pass.refused.first().map_or("the source has no frame that is labelled", String::as_str);
                return Err(Failure::new(Exit::Source, format!("nothing could be judged: {why}")));
            }
            let (name, meaning) = (degradation.name().into(), degradation.meaning());
            degradations.push(Degraded { name, meaning, figures: scored.figures.clone() });
            first.get_or_insert((pass, scored));
        }
        let speed = self.speeds(detectors)?;
        let (pass, scored) = first.expect("at least one degradation was asked for");
        let twin = detectors[0].twin();
        let report = Report {
            source: self.options.input.source.clone(),
            truth: self.truth.clone(),
            format: format!("{:?}", self.loaded.format).to_lowercase(),
            model: twin.model,
            layout: twin.layout,
            provider: twin.provider,
            threads: twin.threads,
            score_min: self.score_min,
            iou_min: IOU_MIN,
            frames_judged: scored.frames.len(),
            frames_unlabelled: pass.passed - scored.frames.len() - pass.refused.len(),
            frames_refused: pass.refused,
            truth_others: self.loaded.truth.others,
            sequence_fps: self.sequence.as_ref().map(|sequence| sequence.fps),
            seed: self.options.input.seed,
            definitions: DEFINITIONS.into_iter().collect(),
            degradations,
            speed,
            curve: rising(curve(&scored.frames)),
            heads: scored.heads.clone(),
        };
        self.write(&report, &scored)?;
        Ok(report)
    }

    fn plan<'p>(&'p self, what: &'p str, wanted: &'p (dyn Fn(usize, &str) -> bool + Sync)) -> Plan<'p> {
        let input = &self.options.input;
        Plan {
            what,
            source: self.source,
            frames_max: input.frames,
            wanted,
            delay: Duration::ZERO,
            degradation: Degradation::None,
            seed: input.seed,
        }
    }

    fn pass(&self, what: &str, degradation: Degradation, detectors: &mut [Detector]) -> Result<Pass, Failure> {
        let wanted = |index: usize, name: &str| self.loaded.truth.of(index, name).is_some();
        pass::run(&Plan { degradation, ..self.plan(what, &wanted) }, detectors)
    }

    fn score(&self, pass: &Pass) -> Scored {
        let seen: Vec<Found> = pass.seen.iter().map(Found::of).collect();
        score(&seen, &self.loaded.truth, self.score_min, self.sequence.as_ref())
    }

    /// Reading alone, then each number of workers, without and with the delay.
    fn speeds(&self, detectors: &mut [Detector]) -> Result<Vec<Speed>, Failure> {
        let Options { speed_frames, delayed_reader_ms, workers, input, .. } = self.options;
        let frames_max = (*speed_frames).min(input.frames.unwrap_or(usize::MAX));
        let delays = [0, *delayed_reader_ms];
        let mut speeds = Vec::new();
        if frames_max == 0 {
            return Ok(speeds);
        }
        for delay_ms in delays.into_iter().take(if *delayed_reader_ms == 0 { 1 } else { 2 }) {
            for workers in std::iter::once(0).chain(workers.iter().copied()) {
                let what = format!("{workers} workers, reading + {delay_ms} ms");
                let plan = Plan {
                    frames_max: Some(frames_max),
                    delay: Duration::from_millis(delay_ms),
                    ..self.plan(&what, &|_, _| true)
                };
                let pass = pass::run(&plan, &mut detectors[..workers])?;
                let (frames, fps) = (pass.seen.len(), pass.fps());
                let Pass { reader_waited, workers_waited, .. } = pass;
                speeds.push(Speed { workers, delay_ms, frames, fps, reader_waited, workers_waited });
            }
        }
        Ok(speeds)
    }

    fn write(&self, report: &Report, scored: &Scored) -> Result<(), Failure> {
        let Some(out) = &self.options.out else { return Ok(()) };
        let json = serde_json::to_string_pretty(report).expect("figures have string keys and no failing serialiser");
        files::write(&out.join("eval.json"), &(json + "\n"))?;
        for (name, svg) in report.plots() {
            files::write(&out.join(name), &svg)?;
        }
        if self.sequence.is_some() {
            files::write(&out.join("tracks.txt"), &scored.result)?;
        }
        tracing::info!("written to {}", out.display());
        Ok(())
    }
}
