//! An evaluation's results: as JSON, as a table for people, and as plots.
//!
//! Each figure is defined in what is written, so that a table without this program still says what it means.

use std::fmt::Write as _;

use serde::Serialize;

use super::chart::{self, Labels, Series};
use super::metrics::boxes::Point;
use super::score::{Figures, Heads};

/// How each figure is defined; they stand in the output.
pub const DEFINITIONS: [(&str, &str); 7] = [
    (
        "count_accuracy_recognised",
        "people correctly recognised: truth boxes matched by a detection at IoU >= 0.5, as a share of all truth boxes \
         (this is recall; false alarms do not lower it)",
    ),
    (
        "count_accuracy_error",
        "1 - sum over frames |detections - people| / sum over frames people (a miss and a false alarm in one frame \
         cancel; below 0 where the errors are more than the people)",
    ),
    ("precision, recall", "of detections that are people; of people that were found; at the threshold"),
    ("ap50", "area under the interpolated precision-recall curve at IoU 0.5, all points, all scores (Pascal VOC 2010)"),
    (
        "mota, motp",
        "1 - (misses + false positives + switches) / people; mean IoU of people with their tracks (Bernardin and \
         Stiefelhagen 2008)",
    ),
    ("idf1", "2 x agreeing / (truth boxes + track boxes), people and tracks assigned once (Ristani et al. 2016)"),
    ("ignored", "truth marked ignore: need not be found, and detections with half of their area in it are not judged"),
];

/// The figures under one degradation.
#[derive(Debug, Clone, Serialize)]
pub struct Degraded {
    /// Its name.
    pub name: String,
    /// What it does.
    pub meaning: String,
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// The speed of one arrangement.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Speed {
    /// Workers, each with its own session; 0 only reads.
    pub workers: usize,
    /// How much longer each frame took to read, in milliseconds.
    pub delay_ms: u64,
    /// Frames that were measured.
    pub frames: usize,
    /// Frames a second.
    pub fps: f64,
    /// Part of the time that the reader waited for room in the queue.
    pub reader_waited: f64,
    /// Part of their time that the workers waited for a frame.
    pub workers_waited: f64,
}

/// Everything that an evaluation found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where frames came from.
    pub source: String,
    /// What they were compared with.
    pub truth: String,
    /// The truth's format.
    pub format: String,
    /// The model: the first digits of its SHA-256.
    pub model: String,
    /// Its layout.
    pub layout: String,
    /// What it ran on.
    pub provider: String,
    /// Threads of each session.
    pub threads: usize,
    /// The least score that counts.
    pub score_min: f32,
    /// The least overlap that counts.
    pub iou_min: f32,
    /// Frames that were judged.
    pub frames_judged: usize,
    /// Frames that nobody had looked at, and that were left out.
    pub frames_unlabelled: usize,
    /// Frames that could not be used, with the reasons.
    pub frames_refused: Vec<String>,
    /// Boxes of other things than people in the truth, which were left out.
    pub truth_others: u64,
    /// Frames a second of the sequence; none where the frames are none.
    pub sequence_fps: Option<f64>,
    /// Seed of everything random.
    pub seed: u64,
    /// What each figure means.
    pub definitions: std::collections::BTreeMap<&'static str, &'static str>,
    /// The figures under each degradation.
    pub degradations: Vec<Degraded>,
    /// The speeds.
    pub speed: Vec<Speed>,
    /// The precision-recall curve under the first degradation, at each person found.
    pub curve: Vec<Point>,
    /// People, detections and tracks by frame, under the first degradation.
    pub heads: Vec<Heads>,
}

impl Report {
    /// For people, on a terminal.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let mut line = |text: String| {
            out.push_str(text.trim_end());
            out.push('\n');
        };
        line(format!(
            "source    {}: {} frames judged, {} left out as unlabelled, {} refused",
            self.source,
            self.frames_judged,
            self.frames_unlabelled,
            self.frames_refused.len()
        ));
        let people = self.degradations.first().map_or(0, |first| first.figures.counts.people);
        line(format!(
            "truth     {} ({}): {people} people to be found, {} other things left out",
            self.truth, self.format, self.truth_others
        ));
        line(format!(
            "detector  model {} ({}) on {}, {} thread a session, threshold {:.2}",
            self.model, self.layout, self.provider, self.threads, self.score_min
        ));
        line(String::new());
        line("degradation  recognised  count   precision  recall  f1      ap50".into());
        for Degraded { name, figures, .. } in &self.degradations {
            let Figures { count_accuracy_recognised, count_accuracy_error, precision, recall, f1, ap50, .. } = figures;
            line(format!(
                "{name:<12} {:>10}  {:>6}  {:>9}  {:>6}  {:>6}  {:>6}",
                percent(*count_accuracy_recognised),
                percent(*count_accuracy_error),
                percent(*precision),
                percent(*recall),
                percent(*f1),
                places(*ap50)
            ));
        }
        let tracked: Vec<_> = self.degradations.iter().filter_map(|d| Some((&d.name, d.figures.tracks?))).collect();
        line(String::new());
        if tracked.is_empty() {
            line("tracks       not judged: the truth has no identities".into());
        } else {
            let fps = self.sequence_fps.unwrap_or_default();
            line(format!("degradation  mota    motp    idf1    switches  fragments  misses  false   ({fps} frames/s)"));
        }
        for (name, t) in tracked {
            line(format!(
                "{name:<12} {:>6}  {:>6}  {:>6}  {:>8}  {:>9}  {:>6}  {:>5}",
                places(t.mota),
                places(t.motp),
                places(t.idf1),
                t.switches,
                t.fragmentations,
                t.misses,
                t.false_positives
            ));
        }
        if !self.speed.is_empty() {
            line(String::new());
            line("workers  delay ms  frames/s  reader waited  workers waited  slowed by".into());
        }
        for s in &self.speed {
            line(match s.workers {
                0 => format!("   none  {:>8}  {:>8.1}  (only reads: the ceiling)", s.delay_ms, s.fps),
                workers => format!(
                    "{workers:>7}  {:>8}  {:>8.1}  {:>13}  {:>14}  {}",
                    s.delay_ms,
                    s.fps,
                    percent(Some(s.reader_waited)),
                    percent(Some(s.workers_waited)),
                    s.slowed_by()
                ),
            });
        }
        line(String::new());
        for (name, meaning) in DEFINITIONS {
            line(format!("{name}: {meaning}"));
        }
        for Degraded { name, meaning, .. } in &self.degradations {
            line(format!("{name}: {meaning}"));
        }
        out
    }

    /// File names and contents of the plots that there is something to show in.
    pub fn plots(&self) -> Vec<(&'static str, String)> {
        let share = Some((0.0, 1.0));
        let mut plots = Vec::new();
        let points = self.curve.iter().map(|point| (point.recall, point.precision)).collect();
        let labels = Labels { title: "Precision and recall at IoU 0.5", x: "recall", y: "precision" };
        let first = self.degradations.first().map_or(String::new(), |first| first.name.clone());
        plots.push(("precision-recall.svg", chart::lines(labels, &[Series { name: first, points }], [share; 2])));

        let names: Vec<String> = self.degradations.iter().map(|degraded| degraded.name.clone()).collect();
        let series = |name: &str, of: fn(&Figures) -> Option<f64>| Series {
            name: name.into(),
            points: self.degradations.iter().map(|d| (0.0, of(&d.figures).unwrap_or(f64::NAN))).collect(),
        };
        let bars = [
            series("recognised", |f| f.count_accuracy_recognised),
            series("count (1 - error)", |f| f.count_accuracy_error),
            series("AP at 0.5", |f| f.ap50),
        ];
        let labels = Labels { title: "Accuracy by degradation", x: "degradation", y: "share" };
        plots.push(("accuracy-by-degradation.svg", chart::bars(labels, &names, &bars, share)));

        if !self.speed.is_empty() {
            let mut delays: Vec<u64> = self.speed.iter().map(|speed| speed.delay_ms).collect();
            delays.sort_unstable();
            delays.dedup();
            let at = |delay| self.speed.iter().filter(move |speed| speed.delay_ms == delay && speed.workers > 0);
            let groups: Vec<String> =
                delays.first().map(|&delay| at(delay).map(|s| s.workers.to_string()).collect()).unwrap_or_default();
            let series: Vec<Series> = delays
                .iter()
                .map(|&delay| Series {
                    name: format!("reading + {delay} ms"),
                    points: at(delay).map(|speed| (0.0, speed.fps)).collect(),
                })
                .collect();
            let labels = Labels { title: "Frames a second by workers", x: "workers", y: "frames/s" };
            plots.push(("fps-by-workers.svg", chart::bars(labels, &groups, &series, None)));
        }

        let line = |name: &str, of: fn(&Heads) -> Option<usize>| {
            let points = self.heads.iter().map(|h| (h.frame as f64, of(h).map_or(f64::NAN, |count| count as f64)));
            Series { name: name.into(), points: points.collect() }
        };
        let mut series = vec![line("people", |h| Some(h.people)), line("detections", |h| Some(h.found))];
        if self.heads.iter().any(|heads| heads.tracked.is_some()) {
            series.push(line("tracks", |h| h.tracked));
        }
        let labels = Labels { title: "Count over time", x: "frame", y: "people" };
        plots.push(("count-over-time.svg", chart::lines(labels, &series, [None, None])));
        plots
    }
}

impl Speed {
    /// Whether frames or hands were scarce.
    fn slowed_by(&self) -> &'static str {
        // Where neither waits for the other much, both are as fast.
        if (self.workers_waited - self.reader_waited).abs() < 0.1 {
            "both alike"
        } else if self.workers_waited > self.reader_waited {
            "reading"
        } else {
            "inference"
        }
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".into(), |share| format!("{:.1}%", share * 100.0))
}

fn places(value: Option<f64>) -> String {
    let mut out = String::new();
    match value {
        Some(value) => write!(out, "{value:.4}").expect("writing to a string does not fail"),
        None => out.push('-'),
    }
    out
}
