//! The frame path of one agent on the sample video, against the raw limit of its own detector sessions.
//!
//! There are two limits. `session.run` in a tight loop, before and after, in the same process and threads, while no decoder
//! runs; and the same network for each frame of the same decoders and nothing else, in a process of its own. With one
//! worker on two processors the first is the harder one; where all processors infer, decoders take their share of them, and
//! only the second can be reached. Real processes, nothing left out: events are stored and delivered.

mod int8;
mod peer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use picket_agent::report::Report;
use serde::Serialize;
use toml::{Table, Value};

use crate::demo::process::{Ended, Supervised};
use crate::demo::stage::{self, Ports, Stage};
use int8::Int8;
use peer::Peer;

/// The frame path's part of the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct FramesOptions {
    /// Frames of each run, all cameras together
    #[arg(long, default_value_t = 600)]
    pub frames: u64,
    /// Runs of each row; medians are quoted
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Only this row, as STREAMSxWORKERS (2x1); may be given several times. INT8 and the Python loop are left out then
    #[arg(long = "shape", value_parser = shape)]
    pub shapes: Vec<(usize, usize)>,
    /// The video; by default the sample that `make demo` prepares
    #[arg(long)]
    pub video: Option<PathBuf>,
    /// Where the figures go, as JSON
    #[arg(long, default_value = "target/bench.json")]
    pub out: PathBuf,
}

/// One row of the table: cameras of one agent, and its workers. Figures are medians.
#[derive(Debug, Serialize)]
struct Row {
    streams: usize,
    workers: usize,
    /// Pictures and clips of events are kept too, as they are by default.
    pictures: bool,
    /// Frames a second through the whole path, all cameras together.
    path_fps: f64,
    /// `session.run` in a tight loop by as many workers, no decoder running.
    raw_fps: f64,
    /// By it.
    ratio_raw: f64,
    /// The network alone for each frame of the same decoders.
    bare_fps: f64,
    /// By it.
    ratio_bare: f64,
    /// See [`picket_agent::pipeline::Speed::own_cpu_ms`].
    own_cpu_ms: f64,
    first_detection_ms: f64,
    resident_bytes_max: u64,
    runs: Vec<Report>,
    bare_runs: Vec<Report>,
}

/// The figures.
#[derive(Debug, Serialize)]
struct Figures {
    frames: u64,
    rows: Vec<Row>,
    int8: Vec<Int8>,
    peer: Vec<Peer>,
}

/// Runs the bench, prints a table and writes the figures.
pub async fn run(options: FramesOptions) -> anyhow::Result<()> {
    let video = stage::video(options.video.as_deref())?;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // One worker, the other processors being the decoders'; then as many as there are.
    let (two, four) = (processors.min(2), processors.min(4));
    let all =
        [(1, 1, false), (2, 1, false), (4, 1, false), (2, two, false), (4, four, false), (1, 1, true), (4, four, true)];
    let asked: Vec<Shape> = options.shapes.iter().map(|(streams, workers)| (*streams, *workers, false)).collect();
    let whole = asked.is_empty();
    let shapes = if whole { all.to_vec() } else { asked };
    let mut rows = Vec::new();
    for (at, shape) in shapes.iter().enumerate() {
        if !shapes[..at].contains(shape) {
            rows.push(measure(&options, &video, *shape).await?);
        }
    }
    let int8 = if whole { measure_int8(&options, &video).await? } else { Vec::new() };
    let peer = if whole { measure_peer(&options, &video).await? } else { Vec::new() };
    print(&rows, &int8, &peer);
    let figures = Figures { frames: options.frames, rows, int8, peer };
    if let Some(parent) = options.out.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&options.out, serde_json::to_vec_pretty(&figures)?)
        .with_context(|| format!("the figures {}", options.out.display()))
}

fn shape(text: &str) -> Result<(usize, usize), String> {
    let parts =
        text.split_once('x').and_then(|(streams, workers)| Some((streams.parse().ok()?, workers.parse().ok()?)));
    parts
        .filter(|(streams, workers)| (1..=16).contains(streams) && (1..=16).contains(workers))
        .ok_or_else(|| format!("{text:?} is not STREAMSxWORKERS, from 1x1 to 16x16"))
}

/// Cameras of one agent, its workers, and whether pictures and clips of events are kept.
type Shape = (usize, usize, bool);

async fn measure(options: &FramesOptions, video: &Path, shape: Shape) -> anyhow::Result<Row> {
    let (streams, workers, pictures) = shape;
    let (mut runs, mut bare_runs) = (Vec::new(), Vec::new());
    for number in 1..=options.runs.max(1) {
        eprintln!("frames: {streams} stream(s), {workers} worker(s), run {number}");
        // In turn, so that what else this machine does meets both.
        runs.push(agent(video, options.frames, shape, false).await?);
        bare_runs.push(agent(video, options.frames, shape, true).await?);
    }
    let (path_fps, bare_fps) = (median(&runs, |run| run.speed.path_fps), median(&bare_runs, |run| run.speed.path_fps));
    Ok(Row {
        streams,
        workers,
        pictures,
        path_fps,
        raw_fps: median(&runs, |run| run.speed.raw_fps),
        ratio_raw: median(&runs, |run| run.speed.ratio),
        bare_fps,
        ratio_bare: if bare_fps > 0.0 { path_fps / bare_fps } else { 0.0 },
        own_cpu_ms: median(&runs, |run| run.speed.own_cpu_ms),
        first_detection_ms: median(&runs, |run| run.speed.first_detection_ms),
        resident_bytes_max: runs.iter().map(|run| run.resident_bytes_max).max().unwrap_or(0),
        runs,
        bare_runs,
    })
}

/// One agent beside a coordinator, from start to end.
async fn agent(video: &Path, frames: u64, shape: Shape, bare: bool) -> anyhow::Result<Report> {
    let dir = tempfile::Builder::new().prefix("picket-bench-").tempdir()?;
    let frames = frames.div_ceil(shape.0 as u64);
    let stage = Stage::set(dir.path(), video, Ports::free()?, stage::Mode::Bench { frames })?;
    let mut coordinator = Supervised::start(stage.coordinator())?;
    stage.wait_for_dashboard(&mut coordinator).await?;
    let node = stage::AREAS[0].node;
    spread(&stage.agent_dir(node).join("agent.toml"), shape)?;
    let mut plan = stage.agents().swap_remove(0);
    if bare {
        plan.args.push("--bare".into());
    }
    let mut agent = Supervised::start(plan)?;
    loop {
        match agent.look()? {
            Ended::Running => tokio::time::sleep(Duration::from_millis(50)).await,
            Ended::For(0) => break,
            Ended::For(code) => anyhow::bail!("the agent ended with code {code}: {}", agent.last_line()),
        }
    }
    coordinator.stop(Duration::from_secs(10)).await?;
    Ok(serde_json::from_slice(&std::fs::read(stage.agent_report(node))?)?)
}

/// Makes of one camera so many, each at another time of the video.
fn spread(config: &Path, (streams, workers, pictures): Shape) -> anyhow::Result<()> {
    let mut table: Table = toml::from_str(&std::fs::read_to_string(config)?)?;
    let camera = table.get("camera").and_then(|cameras| cameras.get(0)).and_then(Value::as_table).cloned();
    let camera = camera.context("the profile has a [[camera]]")?;
    let nth = |n: usize| {
        let mut camera = camera.clone();
        camera.insert("name".into(), Value::String(format!("camera-{n}")));
        camera.insert("snapshots".into(), Value::Boolean(pictures));
        camera.insert("start_s".into(), Value::Float(n as f64 * 15.0));
        Value::Table(camera)
    };
    table.insert("camera".into(), Value::Array((0..streams).map(nth).collect()));
    let detector = table.entry("detector").or_insert_with(|| Value::Table(Table::new()));
    let detector = detector.as_table_mut().context("[detector] is a table")?;
    detector.insert("workers".into(), Value::Integer(workers as i64));
    std::fs::write(config, toml::to_string(&table)?)?;
    Ok(())
}

async fn measure_int8(options: &FramesOptions, video: &Path) -> anyhow::Result<Vec<Int8>> {
    let dir = tempfile::Builder::new().prefix("picket-bench-").tempdir()?;
    int8::measure(dir.path(), video, options.runs).await.or_else(|error| {
        eprintln!("frames: SKIPPED: there is no INT8 model to compare with: {error:#}");
        Ok(Vec::new())
    })
}

async fn measure_peer(options: &FramesOptions, video: &Path) -> anyhow::Result<Vec<Peer>> {
    let Some(python) = peer::python() else {
        eprintln!(
            "frames: SKIPPED: the Python peer's libraries are not here; simulation/prepare/prepare.sh bench brings them"
        );
        return Ok(Vec::new());
    };
    let mut runs = Vec::new();
    for number in 1..=options.runs.max(1) {
        eprintln!("frames: the same in Python, run {number}");
        let dir = tempfile::Builder::new().prefix("picket-bench-").tempdir()?;
        let stage = Stage::set(dir.path(), video, Ports::free()?, stage::Mode::Bench { frames: options.frames })?;
        let mut coordinator = Supervised::start(stage.coordinator())?;
        stage.wait_for_dashboard(&mut coordinator).await?;
        runs.push(peer::run(&python, dir.path(), video, stage.ports.mqtt, options.frames).await?);
        coordinator.stop(Duration::from_secs(10)).await?;
    }
    Ok(runs)
}

fn print(rows: &[Row], int8: &[Int8], peer: &[Peer]) {
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    println!(
        "{:<22} {:>8} {:>8} {:>7} {:>10} {:>7} {:>11} {:>9} {:>5}",
        "streams, workers", "path fps", "raw fps", "ratio", "decoding", "ratio", "own cpu ms", "first ms", "MiB"
    );
    for row in rows {
        println!(
            "{:<22} {:>8.1} {:>8.1} {:>7.3} {:>10.1} {:>7.3} {:>11.2} {:>9.0} {:>5.0}",
            format!("{}, {}{}", row.streams, row.workers, if row.pictures { ", with pictures" } else { "" }),
            row.path_fps,
            row.raw_fps,
            row.ratio_raw,
            row.bare_fps,
            row.ratio_bare,
            row.own_cpu_ms,
            row.first_detection_ms,
            mib(row.resident_bytes_max)
        );
    }
    if !peer.is_empty() {
        println!(
            "{:<22} {:>8.1} {:>8.1} {:>7.3} {:>10} {:>7} {:>11.2} {:>9.0} {:>5.0}",
            "1, in Python",
            median(peer, |run| run.path_fps),
            median(peer, |run| run.raw_fps),
            median(peer, |run| run.ratio),
            "-",
            "-",
            median(peer, |run| run.cpu_ms_outside_inference),
            median(peer, |run| run.first_detection_ms),
            mib(peer.iter().map(|run| run.resident_bytes_max).max().unwrap_or(0))
        );
        println!("(the Python loop decodes in its own process: its processor time outside of inference includes that)");
    }
    if let Some(one) = int8.first() {
        let (fp32_ms, int8_ms) = (median(int8, |run| run.ms_a), median(int8, |run| run.ms_b));
        println!(
            "session.run of the built-in model: FP32 {fp32_ms:.2} ms, INT8 {int8_ms:.2} ms; they agree by {:.3} on {} \
             frames, AP {:.3}{}",
            one.agreement,
            one.frames,
            one.ap50,
            if one.refused.is_some() { "; INT8 would not be activated" } else { "" }
        );
    }
}

fn median<T>(runs: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
