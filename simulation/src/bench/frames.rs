//! The frame path of one agent on the sample video, against the raw limit of its own detector session.
//!
//! The limit is `session.run` in a tight loop, in the same process and thread, before and after; so the ratio says what
//! everything around the network costs. Real processes, nothing left out: events are stored and delivered.

use std::path::PathBuf;

use anyhow::Context;
use picket_agent::report::Report;
use serde::Serialize;

use crate::demo::process::{Ended, Supervised};
use crate::demo::stage::{self, Ports, Stage};

/// The frame path's part of the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct FramesOptions {
    /// Frames of each run
    #[arg(long, default_value_t = 600)]
    pub frames: u64,
    /// Runs; the median is quoted
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// The video; by default the sample that `make demo` prepares
    #[arg(long)]
    pub video: Option<PathBuf>,
    /// Where the figures go, as JSON
    #[arg(long, default_value = "target/bench.json")]
    pub out: PathBuf,
}

/// The figures.
#[derive(Debug, Serialize)]
struct Figures {
    streams: usize,
    frames: u64,
    ratio_median: f64,
    path_fps_median: f64,
    raw_fps_median: f64,
    first_detection_ms_median: f64,
    resident_bytes_max: u64,
    runs: Vec<Report>,
}

/// Runs the bench, prints a table and writes the figures.
pub async fn run(options: FramesOptions) -> anyhow::Result<()> {
    let video = stage::video(options.video.as_deref())?;
    let mut runs = Vec::new();
    println!(
        "{:>5} {:>12} {:>12} {:>8} {:>16} {:>10}",
        "run", "path fps", "raw fps", "ratio", "first frame, ms", "MiB"
    );
    for number in 1..=options.runs.max(1) {
        let report = one_stream(&video, options.frames).await?;
        let speed = &report.speed;
        let memory_mib = report.resident_bytes_max as f64 / 1_048_576.0;
        println!(
            "{number:>5} {:>12.1} {:>12.1} {:>8.3} {:>16.0} {memory_mib:>10.0}",
            speed.path_fps, speed.raw_fps, speed.ratio, speed.first_detection_ms
        );
        runs.push(report);
    }
    let figures = Figures {
        streams: 1,
        frames: options.frames,
        ratio_median: median(&runs, |run| run.speed.ratio),
        path_fps_median: median(&runs, |run| run.speed.path_fps),
        raw_fps_median: median(&runs, |run| run.speed.raw_fps),
        first_detection_ms_median: median(&runs, |run| run.speed.first_detection_ms),
        resident_bytes_max: runs.iter().map(|run| run.resident_bytes_max).max().unwrap_or(0),
        runs,
    };
    println!("median ratio {:.3}", figures.ratio_median);
    if let Some(parent) = options.out.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&options.out, serde_json::to_vec_pretty(&figures)?)
        .with_context(|| format!("the figures {}", options.out.display()))
}

async fn one_stream(video: &std::path::Path, frames: u64) -> anyhow::Result<Report> {
    let dir = tempfile::Builder::new().prefix("picket-bench-").tempdir()?;
    let stage = Stage::set(dir.path(), video, Ports::free()?, stage::Mode::Bench { frames })?;
    let mut coordinator = Supervised::start(stage.coordinator())?;
    stage.wait_for_dashboard(&mut coordinator).await?;
    let plan = stage.agents().swap_remove(0);
    let mut agent = Supervised::start(plan)?;
    loop {
        match agent.look()? {
            Ended::Running => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            Ended::For(0) => break,
            Ended::For(code) => anyhow::bail!("the agent ended with code {code}: {}", agent.last_line()),
        }
    }
    coordinator.stop(std::time::Duration::from_secs(10)).await?;
    Ok(serde_json::from_slice(&std::fs::read(stage.agent_report(stage::AREAS[0].node))?)?)
}

fn median(runs: &[Report], figure: impl Fn(&Report) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
