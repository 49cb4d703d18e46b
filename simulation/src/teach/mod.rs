//! `picket-simulation teach`: what a few words of operators are worth on real pictures and with the real detector. Stations that see
//! nothing special, stations with a poster that the detector takes for a person, and one behind a bad lens learn together in
//! simulated time; then each counts people in pictures that nobody was asked about.

pub mod looked;
pub mod scene;
pub mod station;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use picket_agent::eval::chart::{self, Labels, Series};
use picket_agent::eval::files::read_truth;
use picket_agent::eval::metrics::boxes::Counts;
use picket_agent::pictures;
use picket_coordinator::learn::peers::{Aggregator, Arrival, Direction};
use picket_coordinator::learn::root::RootSet;
use picket_coordinator::learn::star::{Settings, Star};
use picket_shared::ids::NodeId;
use picket_shared::learn::lineage::HeadShape;
use picket_shared::learn::message::RootSample;
use picket_shared::learn::sent_max;
use picket_shared::random::SplitMix64;
use serde::Serialize;

use crate::learn::attack::{self, Attack};
use crate::learn::race::{self, Rules};
use crate::learn::task::{Set, Task};
use looked::Eye;
use scene::{Kind, Picture, Station};
use station::{Label, Look};

/// Stations with a poster.
const POSTERS: usize = 2;
/// Simulated seconds that stations learn for.
const BUDGET_S: f64 = 180.0;
/// Bytes a second of a station's link.
const LINK: f64 = 20_000.0;

/// What to run.
#[derive(Debug, Clone, clap::Args)]
pub struct TeachOptions {
    /// The folder of pictures
    #[arg(long)]
    pub source: PathBuf,
    /// Who is in them; any truth that `picket-agent eval` reads
    #[arg(long)]
    pub truth: PathBuf,
    /// Stations with nothing special, beside two with a poster and one with a bad lens
    #[arg(long, default_value_t = 8)]
    pub stations: usize,
    /// Detections that each operator confirms or rejects
    #[arg(long, default_value_t = 24)]
    pub labels: usize,
    /// How many of the operators lie, in the second table
    #[arg(long, default_value_t = 0.2)]
    pub liars: f64,
    /// Times that pictures are dealt anew; figures are of all of them
    #[arg(long, default_value_t = 5)]
    pub deals: u64,
    /// The stations' learning rate
    #[arg(long, default_value_t = 0.3)]
    pub rate: f32,
    /// Where candidates are kept, so that the detector looks once
    #[arg(long, default_value = "target/teach.candidates")]
    pub cache: PathBuf,
    /// Where the figures are drawn
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Where they go as JSON
    #[arg(long, default_value = "target/teach.json")]
    pub out: PathBuf,
}

/// By what a station judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The network as it is.
    Network,
    /// With the head that all learn.
    Shared,
    /// With what it learned alone.
    Own,
    /// With both.
    Both,
}

impl By {
    const ALL: [By; 4] = [By::Network, By::Shared, By::Own, By::Both];

    fn word(self) -> &'static str {
        match self {
            By::Network => "network alone",
            By::Shared => "shared head",
            By::Own => "own head",
            By::Both => "shared and own part",
        }
    }
}

/// How some stations count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
struct Figure {
    /// 1 − Σ|n̂ − n| / Σn.
    count_accuracy: f64,
    /// Of all people.
    recognised: f64,
    /// In a picture.
    false_alarms: f64,
}

impl Figure {
    fn of(counts: &Counts) -> Figure {
        Figure {
            count_accuracy: counts.count_accuracy().unwrap_or(f64::NAN),
            recognised: counts.recall().unwrap_or(f64::NAN),
            false_alarms: (counts.found - counts.correct) as f64 / counts.frames.max(1) as f64,
        }
    }
}

/// One row of a table: of each kind of station, and of all.
#[derive(Debug, Clone, Serialize)]
struct Row {
    by: &'static str,
    plain: Figure,
    poster: Figure,
    bad_lens: Figure,
    all: Figure,
}

/// The figures.
#[derive(Debug, Serialize)]
struct Figures {
    pictures: usize,
    stations: usize,
    labels: usize,
    deals: u64,
    score_min: f32,
    /// Every operator tells the truth.
    honest: Vec<Row>,
    /// The same of those stations alone whose operators tell the truth below.
    honest_of_these: Vec<Row>,
    /// Some lie, and are not counted.
    lied_to: Vec<Row>,
}

/// Sums by what is judged by, and by kind.
type Sums = [[Counts; 3]; 4];

/// Teaches, prints tables, and writes the figures.
pub fn run(options: &TeachOptions) -> anyhow::Result<()> {
    anyhow::ensure!((0.0..0.5).contains(&options.liars), "--liars is a share, 0 or more and below 0.5");
    anyhow::ensure!(
        options.deals > 0 && options.stations > 0 && options.labels > 0,
        "--deals, --stations and --labels are above 0"
    );
    if !options.source.is_dir() {
        println!("teach: SKIPPED: there are no pictures at {}", options.source.display());
        return Ok(());
    }
    let pictures = labelled(&options.source, &options.truth)?;
    let mut eye = Eye::open(&options.cache)?;
    let stations = options.stations + POSTERS + 1;
    let [mut honest, mut of_these, mut lied_to] = [Sums::default(); 3];
    for deal in 0..options.deals {
        eprintln!("teach: deal {} of {}", deal + 1, options.deals);
        let dealt = scene::deal(&pictures, options.stations, POSTERS, deal);
        anyhow::ensure!(dealt.len() == stations, "{} pictures are too few for {stations} stations", pictures.len());
        let classes = Class::of(&dealt, &pictures, &mut eye, options.labels, deal)?;
        let shape = HeadShape::logistic(eye.inputs() as u32);
        let nobody = BTreeSet::new();
        let truthful = taught(&classes, shape, options, deal, 0.0, &mut honest, &nobody);
        let liars = taught(&classes, shape, options, deal, options.liars, &mut lied_to, &truthful);
        taught(&classes, shape, options, deal, 0.0, &mut of_these, &liars);
    }
    eye.keep()?;
    let rows = |sums: &Sums| By::ALL.iter().zip(sums).map(|(by, kinds)| row(*by, kinds)).collect::<Vec<_>>();
    let figures = Figures {
        pictures: pictures.len(),
        stations,
        labels: options.labels,
        deals: options.deals,
        score_min: station::SCORE_MIN,
        honest: rows(&honest),
        honest_of_these: rows(&of_these),
        lied_to: rows(&lied_to),
    };
    show(&figures, options.liars);
    if let Some(path) = &options.plot {
        std::fs::write(path, draw(&figures, options.liars)).with_context(|| path.display().to_string())?;
        println!("drawn in {}", path.display());
    }
    if let Some(parent) = options.out.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&options.out, serde_json::to_vec_pretty(&figures)?)
        .with_context(|| format!("the figures {}", options.out.display()))
}

fn labelled(folder: &Path, truth: &Path) -> anyhow::Result<Vec<Picture>> {
    let said = |failure: picket_shared::exit::Failure| anyhow::anyhow!(failure.sentence);
    let truth = read_truth(truth, None).map_err(said)?.truth;
    let mut found = Vec::new();
    for (index, path) in pictures::in_folder(folder)?.iter().enumerate() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(people) = truth.of(index, name) {
            let frame =
                pictures::read(path).map_err(|what| anyhow::anyhow!("the picture {} {what}", path.display()))?;
            found.push(Picture { frame, people: people.to_vec() });
        }
    }
    Ok(found)
}

/// A station with what it is taught, and what it is then asked.
struct Class {
    kind: Kind,
    labels: Vec<Label>,
    exam: Vec<Look>,
}

impl Class {
    fn of(
        dealt: &[Station],
        pictures: &[Picture],
        eye: &mut Eye,
        labels: usize,
        seed: u64,
    ) -> anyhow::Result<Vec<Class>> {
        let one = |(n, station): (usize, &Station)| {
            let mut look = |number: &usize| {
                let candidates = eye.look(&station.frame(pictures, *number))?;
                Ok(Look { candidates, people: pictures[*number].people.clone() })
            };
            let looks = station.pictures.iter().map(&mut look).collect::<anyhow::Result<Vec<Look>>>()?;
            let (lesson, exam) = looks.split_at(looks.len() / 2);
            let labels = station::labels(lesson, labels, &mut SplitMix64::stream(seed, 2, n as u64));
            Ok(Class { kind: station.kind, labels, exam: exam.to_vec() })
        };
        dealt.iter().enumerate().map(one).collect()
    }
}

/// Lets stations learn with such a share of liars, and adds how they count to the sums, but for those who lie and those of `out`.
/// Returns who lied.
fn taught(
    classes: &[Class],
    shape: HeadShape,
    options: &TeachOptions,
    seed: u64,
    liars: f64,
    sums: &mut Sums,
    out: &BTreeSet<usize>,
) -> BTreeSet<usize> {
    let task = task(classes, shape, seed);
    let attack = if liars > 0.0 { Attack::Labelflip } else { Attack::None };
    let hostile = attack::chosen(&task, attack, liars).0;
    let lies: BTreeSet<usize> = (0..classes.len()).filter(|n| hostile[*n]).collect();
    let said = |n: usize| {
        let turned = |label: &Label| Label { person: label.person != lies.contains(&n), ..label.clone() };
        classes[n].labels.iter().map(turned).collect::<Vec<_>>()
    };
    let mut site = Site::new(shape, options, classes.len());
    (0..classes.len()).for_each(|n| site.confirm(n, &said(n)));
    let rules = Rules {
        run_seed: seed,
        rate: options.rate,
        sent_max: Some(sent_max(shape.parameters())),
        attack,
        hostile: liars,
        round: None,
        to_target: false,
    };
    race::run(&task, rules, false, &mut site);
    let (nothing, shared) = (shape.beginning(), site.star.head().to_vec());
    for (n, class) in classes.iter().enumerate().filter(|(n, _)| !lies.contains(n) && !out.contains(n)) {
        let own = |base: &[f32]| {
            station::own(shape, base, &class.labels, options.rate, &mut SplitMix64::stream(seed, 3, n as u64))
        };
        let heads = [nothing.clone(), shared.clone(), own(&nothing), own(&shared)];
        for (head, kinds) in heads.iter().zip(sums.iter_mut()) {
            add(&mut kinds[class.kind as usize], &station::count(shape, head, &class.exam));
        }
    }
    lies
}

fn add(sum: &mut Counts, counts: &Counts) {
    sum.frames += counts.frames;
    sum.people += counts.people;
    sum.found += counts.found;
    sum.correct += counts.correct;
    sum.count_error += counts.count_error;
}

/// The stations as a task of the race: their speeds are as different as those of the benchmark's.
fn task(classes: &[Class], shape: HeadShape, seed: u64) -> Task {
    let (mut train, mut dealt) =
        (Set { inputs: shape.inputs as usize, features: Vec::new(), labels: Vec::new() }, Vec::new());
    for class in classes {
        let begin = train.labels.len();
        class.labels.iter().for_each(|label| {
            train.features.extend(&label.inputs);
            train.labels.push(label.person.into());
        });
        dealt.push((begin..train.labels.len()).collect());
    }
    let mut random = SplitMix64::stream(seed, 4, 0);
    let compute_s = classes.iter().map(|_| (0.5 + random.normals()[0].abs()).min(16.0)).collect();
    let link = vec![LINK; classes.len()];
    Task {
        shape,
        seed,
        latency_s: 0.05,
        lost: 0.02,
        target: 1.0,
        budget_s: BUDGET_S,
        test: train.clone(),
        train,
        dealt,
        root: Vec::new(),
        compute_s,
        uplink: link.clone(),
        downlink: link,
    }
}

/// The coordinator's part: STAR-SGD, with the gate of what operators confirmed, once that is enough, and releases of heads that are
/// no worse by it.
struct Site {
    star: Star,
    root: RootSet,
    released: Vec<f32>,
    rate: f32,
}

impl Site {
    fn new(shape: HeadShape, options: &TeachOptions, stations: usize) -> Site {
        let settings = Settings { fresh: stations.div_ceil(2), ..Settings::default() };
        let (star, root) = (Star::new(settings, shape.beginning(), 0), RootSet::new(shape));
        Site { star, root, released: shape.beginning(), rate: options.rate }
    }

    fn confirm(&mut self, n: usize, labels: &[Label]) {
        let node = NodeId::new(format!("n{n:03}")).expect("a constant form");
        for label in labels {
            let features = label.inputs.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into();
            let sample = RootSample { features, label: label.person.into(), operator: format!("operator {n}") };
            // What it does not take, as a class that is full, is not confirmed.
            let _ = self.root.take(&node, &sample);
        }
    }
}

impl Aggregator for Site {
    fn head(&self) -> &[f32] {
        self.star.head()
    }

    fn version(&self) -> u64 {
        self.star.version()
    }

    fn take(&mut self, arrival: &Arrival, _: Direction) {
        let Site { star, root, released, rate } = self;
        let before = star.version();
        Aggregator::take(star, arrival, &mut |head: &[f32]| root.direction(head, released, *rate));
        if star.version() > before && root.is_no_worse(star.head(), released) == Some(true) {
            *released = star.head().to_vec();
        }
    }
}

fn row(by: By, kinds: &[Counts; 3]) -> Row {
    let mut all = Counts::default();
    kinds.iter().for_each(|counts| add(&mut all, counts));
    let [plain, poster, bad_lens] = Kind::ALL.map(|kind| Figure::of(&kinds[kind as usize]));
    Row { by: by.word(), plain, poster, bad_lens, all: Figure::of(&all) }
}

fn show(figures: &Figures, liars: f64) {
    println!(
        "{} pictures, {} stations, {} labels of each, {} deals; count accuracy, and false alarms in a picture",
        figures.pictures, figures.stations, figures.labels, figures.deals
    );
    let kinds = Kind::ALL.map(Kind::word);
    println!("{:<22} {:>16} {:>16} {:>16} {:>16}", "", kinds[0], kinds[1], kinds[2], "all");
    let lied = format!("{:.0} % of the operators lie; of the others", 100.0 * liars);
    for (what, rows) in [
        ("every operator is honest", &figures.honest),
        ("the same of those who are honest below", &figures.honest_of_these),
        (&*lied, &figures.lied_to),
    ] {
        println!("{what}:");
        for row in rows {
            print!("  {:<20}", row.by);
            for figure in [row.plain, row.poster, row.bad_lens, row.all] {
                print!(" {:>8.1} % {:>5.2}", 100.0 * figure.count_accuracy, figure.false_alarms);
            }
            println!();
        }
    }
}

fn draw(figures: &Figures, liars: f64) -> String {
    let lied = format!("all, {:.0} % lie", 100.0 * liars);
    let groups: Vec<String> =
        Kind::ALL.iter().map(|kind| kind.word()).chain(["all", &lied]).map(str::to_owned).collect();
    let series: Vec<Series> = figures
        .honest
        .iter()
        .zip(&figures.lied_to)
        .map(|(row, lied)| {
            let values = [row.plain, row.poster, row.bad_lens, row.all, lied.all];
            let points = values.iter().map(|figure| (0.0, (100.0 * figure.count_accuracy).max(0.0))).collect();
            Series { name: row.by.to_owned(), points }
        })
        .collect();
    let labels = Labels { title: "what operators' words are worth", x: "stations", y: "count accuracy, %" };
    chart::bars(labels, &groups, &series, Some((0.0, 100.0)))
}
