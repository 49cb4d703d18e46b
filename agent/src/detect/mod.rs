//! Finds people in a frame: letterbox, runtime, layout, suppression.
//!
//! [`Detector`] is the shell around pure parts, each a file: [`preprocess`], [`layout`], [`nms`], [`onnx`]. One
//! detector serves all streams of an agent, a frame at a time. It decides nothing about tracks or events.

pub mod agreement;
pub mod inspect;
pub mod layout;
pub mod library;
pub mod nms;
pub mod onnx;
pub mod precision;
pub mod preprocess;
pub mod provider;
pub mod quantize;
pub mod tensorrt;

mod halve;
mod model;
mod rescore;
mod scale;
mod session;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_shared::config::within;
use picket_shared::event::Precision;
use picket_shared::exit::{Exit, Failure};
use picket_shared::status::DetectorTwin;
use serde::{Deserialize, Serialize};

use crate::frame::{Detection, Frame};
use layout::{Family, InputOverride, Layout, Numbers, Signature, Tally};
use preprocess::{FrameError, Preprocessor};
use provider::{Chosen, Refusal};
use session::{Builder, Picture, Session};

#[cfg(test)]
pub(crate) use model::BUILTIN;
pub(crate) use model::bytes_and_head;
pub use provider::Provider;
pub use rescore::{Backbone, Rescore};

/// The first 12 hexadecimal digits of the SHA-256 of the built-in model.
pub fn builtin_digest() -> &'static str {
    model::builtin_digest()
}

/// The first 12 hexadecimal digits of the SHA-256 of a model's file.
pub fn file_digest(path: &Path) -> Result<String, Failure> {
    model::file_digest(path)
}

/// The bytes of the model that a configuration names.
pub fn model_bytes(config: &Config) -> Result<Cow<'static, [u8]>, Failure> {
    model::file(config).map(|file| file.bytes)
}

/// The value of [`Config::model`] that needs no file.
pub const BUILTIN_NAME: &str = "builtin";
/// Most inference threads.
pub const THREADS_MAX: usize = 64;
/// Most workers: each has a session in memory.
pub const WORKERS_MAX: usize = 16;

/// The detector's part of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `builtin`, or the path of an ONNX file.
    pub model: String,
    /// The family of its layout, where it is not recognised or recognised wrongly.
    pub layout: Option<Family>,
    /// A file with its classes' names, one a line, or `number name` on each; else the model's metadata has them.
    pub labels: Option<PathBuf>,
    /// The number of the person's class, where no name tells it.
    pub person_class: Option<usize>,
    /// Its input, where it is not as its family has it.
    pub input: InputOverride,
    /// The class head, for a model that takes one: 32-bit little-endian numbers, the bias last.
    pub head: Option<PathBuf>,
    /// The ONNX Runtime library; searched for where absent.
    pub library: Option<PathBuf>,
    /// Tried in this order; the processor is the last resort in any case.
    pub providers: Vec<Provider>,
    /// What TensorRT is asked for, where it is among them.
    pub tensorrt: tensorrt::Config,
    /// Another model, `builtin` or a path, that `model` must agree with on this station's frames to be activated;
    /// without it `model` is activated as it is.
    pub reference: Option<String>,
    /// The folder of these frames: JPEG or PNG pictures.
    pub frames: Option<PathBuf>,
    /// Least agreement with the reference. Lower lets a model pass that has lost people; higher refuses sound ones for
    /// boxes near the threshold.
    pub agreement_min: f64,
    /// Inference threads of each worker. More are not always faster: they wait for each other.
    pub threads: usize,
    /// Frames of different cameras that are looked at at once, each in a session of its own. Too few leave processors
    /// idle while frames are dropped; too many take memory, and the decoders' processors. One camera uses one.
    pub workers: usize,
    /// Least score of a detection. Lower finds more people and more that are none.
    pub score_min: f32,
    /// Most overlap (intersection over union) of two detections. Lower merges people who stand close; higher leaves
    /// doubles.
    pub nms_iou: f32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            model: BUILTIN_NAME.into(),
            layout: None,
            labels: None,
            person_class: None,
            input: InputOverride::default(),
            head: None,
            library: None,
            providers: vec![Provider::Cpu],
            tensorrt: tensorrt::Config::default(),
            reference: None,
            frames: None,
            agreement_min: agreement::AGREEMENT_MIN,
            threads: 1,
            workers: 1,
            score_min: 0.3,
            nms_iou: 0.5,
        }
    }
}

impl Config {
    /// The same runtime with another model: what is said of this one's layout is not said of that.
    pub fn for_other(&self, model: &str) -> Config {
        Config {
            model: model.to_owned(),
            library: self.library.clone(),
            providers: self.providers.clone(),
            tensorrt: self.tensorrt.clone(),
            threads: self.threads,
            score_min: self.score_min,
            nms_iou: self.nms_iou,
            ..Config::default()
        }
    }

    /// What of it belongs to the station.
    pub fn thresholds(&self) -> Thresholds {
        Thresholds { score_min: self.score_min, nms_iou: self.nms_iou }
    }

    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        self.thresholds().check()?;
        if self.model.is_empty() {
            return Err(format!("model is empty; write \"{BUILTIN_NAME}\" or the path of an ONNX file"));
        }
        within("agreement_min", self.agreement_min, 0.0..=1.0)?;
        if self.reference.is_some() && self.frames.is_none() {
            return Err("reference is set and frames is not; set frames to a folder of this station's pictures".into());
        }
        self.input.check()?;
        if !(1..=THREADS_MAX).contains(&self.threads) {
            return Err(format!("threads is {}, and may be 1 to {THREADS_MAX}", self.threads));
        }
        if !(1..=WORKERS_MAX).contains(&self.workers) {
            return Err(format!("workers is {}, and may be 1 to {WORKERS_MAX}", self.workers));
        }
        for (at, provider) in self.providers.iter().enumerate() {
            if self.providers[..at].contains(provider) {
                return Err(format!("providers names {provider} twice; name each once"));
            }
            if *provider == Provider::Cpu && at + 1 < self.providers.len() {
                return Err("providers names others after cpu, which is always there; put cpu last".into());
            }
        }
        Ok(())
    }
}

/// What of a detector belongs to a station and not to its model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// See [`Config::score_min`].
    pub score_min: f32,
    /// See [`Config::nms_iou`].
    pub nms_iou: f32,
}

impl Thresholds {
    /// What is wrong with them, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        let part = |key: &str, value: f32| {
            if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(format!("{key} is {value}, and may be 0 to 1")) }
        };
        part("score_min", self.score_min)?;
        part("nms_iou", self.nms_iou)
    }
}

/// Why one frame gave no detections.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// The frame cannot be used; the next one may.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The runtime failed.
    #[error("the runtime failed on a frame ({0}); if this goes on, try the provider cpu")]
    Run(String),
}

/// How long the steps of one detection took, and what became of the candidates that are no detections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// Letterbox.
    pub preprocess: Duration,
    /// `session.run`.
    pub run: Duration,
    /// The processor time of this thread in it. A model of one thread runs nowhere else.
    pub run_cpu: Duration,
    /// Layout and suppression.
    pub decode: Duration,
    /// What judging the candidates by a head took of that.
    pub rescore: Duration,
    /// What the model gave and nobody sees.
    pub tally: Tally,
}

/// A loaded model, ready for frames.
pub struct Detector {
    session: Session,
    layout: Layout,
    preprocessor: Preprocessor,
    /// The frame in its letterbox, for a model that does not take bytes as they are.
    scratch: Vec<u8>,
    thresholds: Thresholds,
    tally: Tally,
    twin: DetectorTwin,
    config: Config,
    backbone: Option<Arc<Backbone>>,
    /// Which of the model's candidates each detection is, while it is judged.
    rows: Vec<usize>,
}

impl Detector {
    /// Finds the runtime, loads the model and runs it once over a black picture, so that the first frame is not late
    /// and a model that cannot run is known now. Where a reference is configured, the precision gate decides which of
    /// the two it is.
    pub fn load(config: &Config) -> Result<Detector, Failure> {
        config.check().map_err(|what| Failure::new(Exit::Config, format!("detector: {what}")))?;
        match &config.reference {
            Some(reference) => precision::gated(config, reference),
            None => Detector::open(config),
        }
    }

    /// As many as are configured, all alike. The precision gate decides once.
    pub fn load_workers(config: &Config) -> Result<Vec<Detector>, Failure> {
        let first = Detector::load(config)?;
        let others = (1..config.workers).map(|_| Detector::open(&first.config)).collect::<Result<Vec<_>, _>>()?;
        Ok(std::iter::once(first).chain(others).collect())
    }

    /// Loads the model as it is, without the precision gate.
    fn open(config: &Config) -> Result<Detector, Failure> {
        let model = model::read(config, model::file(config)?)?;
        Detector::build(config, &model)
    }

    fn build(config: &Config, model: &model::Model) -> Result<Detector, Failure> {
        let builder = Builder::open(&library::find(config.library.as_deref())?, config.threads)?;
        let runtime = builder.runtime.version.to_string();
        let tensorrt = || config.tensorrt.prepare(&model.digest, model.scan.precision, &runtime);
        let Chosen { session: (session, layout), provider, passed_over } =
            provider::choose(&config.providers, |providers| {
                let session = builder.build(&model.name, &model.bytes, providers, tensorrt)?;
                prepare(session, model)
            })?;
        for (name, reason) in &passed_over {
            tracing::warn!("the provider {name} cannot be had ({reason}); running on {provider}");
        }
        let twin = DetectorTwin {
            model: model.digest.clone(),
            layout: layout.name().into(),
            provider: provider.to_string(),
            precision: provider::effective(model.scan.precision, provider, config.tensorrt.precision),
            threads: config.threads,
            workers: config.workers,
            runtime,
            passed_over,
        };
        let (width, height) = layout.picture();
        let features = layout.features().map(|(_, features)| features);
        let backbone = features.map(|features| Arc::new(Backbone { sha256: model.sha256.clone(), features }));
        let scratch = if layout.input.is_plain() { 0 } else { width as usize * height as usize * 3 };
        Ok(Detector {
            session,
            layout,
            preprocessor: Preprocessor::default(),
            scratch: vec![0; scratch],
            thresholds: config.thresholds(),
            tally: Tally::default(),
            twin,
            config: config.clone(),
            backbone,
            rows: Vec::new(),
        })
    }

    /// The network whose features can be learned from; nothing where the model does not show them.
    pub fn backbone(&self) -> Option<&Arc<Backbone>> {
        self.backbone.as_ref()
    }

    /// Looks with these from now on, in place of the configured ones.
    pub fn look_with(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    /// Replaces what is in `found` by the detections in a frame, the surest first.
    pub fn detect(&mut self, frame: &Frame, found: &mut Vec<Detection>) -> Result<Timing, DetectError> {
        self.look(frame, None, found)
    }

    /// The same, with scores as somebody judges them. A model that does not show what it saw judges alone.
    pub fn detect_judged(
        &mut self,
        frame: &Frame,
        judge: &mut dyn Rescore,
        found: &mut Vec<Detection>,
    ) -> Result<Timing, DetectError> {
        self.look(frame, Some(judge), found)
    }

    fn look(
        &mut self,
        frame: &Frame,
        judge: Option<&mut dyn Rescore>,
        found: &mut Vec<Detection>,
    ) -> Result<Timing, DetectError> {
        found.clear();
        let begun = Instant::now();
        let lies = self.show(frame)?;
        let (prepared, cpu) = (Instant::now(), thread_cpu());
        let outputs = self.session.run().map_err(DetectError::Run)?;
        let (ran, run_cpu) = (Instant::now(), thread_cpu().saturating_sub(cpu));
        // As many as any layout reads.
        let mut numbers = [Numbers::F32(&[]); layout::OUTPUTS_MAX];
        let names = self.layout.outputs();
        for (name, numbers) in names.iter().zip(&mut numbers) {
            *numbers = outputs.numbers(name).map_err(DetectError::Run)?;
        }
        let (numbers, score_min, mut rescore) = (&numbers[..names.len()], self.thresholds.score_min, Duration::ZERO);
        let mut tally = match (judge, &self.backbone, self.layout.features()) {
            (Some(judge), Some(backbone), Some((features, _))) => {
                let Numbers::F32(seen) = outputs.numbers(features).map_err(DetectError::Run)? else {
                    return Err(DetectError::Run(format!("{features} are no numbers")));
                };
                let floor = judge.score_min().min(score_min);
                let tally = self.layout.candidates(numbers, &lies, floor, found, &mut self.rows);
                let begun = Instant::now();
                judge.rescore(backbone, (frame.width, frame.height), found, &self.rows, seen);
                found.retain(|detection| detection.score >= score_min);
                rescore = begun.elapsed();
                tally
            }
            _ => self.layout.decode(numbers, &lies, score_min, found),
        };
        // Both below keep no more than these.
        tally.cut += found.len().saturating_sub(nms::CANDIDATES_MAX) as u64;
        if self.layout.suppresses() {
            nms::suppress(found, self.thresholds.nms_iou);
        } else {
            nms::sort(found);
        }
        drop(outputs);
        self.count(tally);
        Ok(Timing { preprocess: prepared - begun, run: ran - prepared, run_cpu, decode: ran.elapsed(), rescore, tally })
    }

    /// Fits a frame into the model's input.
    fn show(&mut self, frame: &Frame) -> Result<preprocess::Letterbox, FrameError> {
        let (target, margin) = (self.layout.picture(), self.layout.input.scaling.margin);
        match self.session.picture() {
            Picture::Bytes(tensor) if self.layout.input.is_plain() => {
                self.preprocessor.letterbox(frame, target, margin, tensor)
            }
            Picture::Bytes(tensor) => {
                let lies = self.preprocessor.letterbox(frame, target, margin, &mut self.scratch)?;
                self.layout.input.fill_bytes(&self.scratch, tensor);
                Ok(lies)
            }
            Picture::Numbers(tensor) => {
                let lies = self.preprocessor.letterbox(frame, target, margin, &mut self.scratch)?;
                self.layout.input.fill_numbers(&self.scratch, tensor);
                Ok(lies)
            }
        }
    }

    fn count(&mut self, tally: Tally) {
        let before = self.tally.rejected;
        self.tally.rejected += tally.rejected;
        self.tally.cut += tally.cut;
        // Once for each doubling: a broken model must not flood the log.
        if tally.rejected > 0 && before.checked_ilog2() != self.tally.rejected.checked_ilog2() {
            let rejected = self.tally.rejected;
            tracing::warn!(
                "the model gave {rejected} boxes so far whose numbers cannot be; check it with model inspect"
            );
        }
    }

    /// Runs the model alone, once more over the last picture: the raw limit that a bench compares with.
    pub fn run_raw(&mut self) -> Result<Timing, DetectError> {
        let (begun, cpu) = (Instant::now(), thread_cpu());
        self.session.run().map_err(DetectError::Run)?;
        let run_cpu = thread_cpu().saturating_sub(cpu);
        Ok(Timing { run: begun.elapsed(), run_cpu, ..Timing::default() })
    }

    /// What was loaded, and on what it runs.
    pub fn twin(&self) -> DetectorTwin {
        self.twin.clone()
    }

    /// The first digits of the model's SHA-256, and what its numbers are computed in: what events name it by.
    pub fn named(&self) -> (&str, Precision) {
        (&self.twin.model, self.twin.precision)
    }

    /// The bytes of the picture that the model was last shown.
    #[cfg(test)]
    pub(crate) fn shown(&mut self) -> Vec<u8> {
        match self.session.picture() {
            Picture::Bytes(bytes) => bytes.to_vec(),
            Picture::Numbers(_) => panic!("the built-in model takes bytes"),
        }
    }

    /// Boxes that the model gave and that cannot be, so far; a sound model gives none.
    pub fn rejected_outputs(&self) -> u64 {
        self.tally.rejected
    }

    /// Candidates that were dropped so far because there were too many surer ones.
    pub fn candidates_cut(&self) -> u64 {
        self.tally.cut
    }
}

/// The processor time that this thread has taken.
fn thread_cpu() -> Duration {
    let taken = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(taken).unwrap_or_default()
}

/// Recognises a session's layout, gives it its inputs, and runs it once.
fn prepare(mut session: Session, model: &model::Model) -> Result<(Session, Layout), Refusal> {
    let fatal = |what: String| Refusal::Fatal(Failure::new(Exit::Data, format!("{} {what}", model.name)));
    let does_not_run = |why: String| {
        let last = Failure::new(Exit::Runtime, DetectError::Run(why.clone()).to_string());
        Refusal::Session { why, last }
    };
    let mut signature = session.signature();
    let input = layout::Input::find(&signature, &model.said.input).map_err(fatal)?;
    session.add_picture(&input).map_err(fatal)?;
    if signature.inputs.iter().any(|port| port.name == layout::SIZES_INPUT) {
        let size = [i64::from(input.width), i64::from(input.height)];
        session.add_whole(layout::SIZES_INPUT, &[1, 2], &size).map_err(fatal)?;
    }
    if signature.has_open_outputs() && signature.inputs.iter().all(|port| session.has(&port.name)) {
        settle(&mut session, &mut signature).map_err(does_not_run)?;
    }
    let layout = Layout::recognise(&signature, &model.said).map_err(fatal)?;
    add_head(&mut session, &layout, model.head.as_deref()).map_err(fatal)?;
    session.run().map_err(does_not_run)?;
    Ok((session, layout))
}

/// Fills in the dimensions that a model leaves open, such as that of the batch, as a first run shows them.
fn settle(session: &mut Session, signature: &mut Signature) -> Result<(), String> {
    let outputs = session.run()?;
    for port in &mut signature.outputs {
        if let Some(shape) = outputs.shape(&port.name) {
            port.settle(shape);
        }
    }
    Ok(())
}

fn add_head(session: &mut Session, layout: &Layout, head: Option<&[f32]>) -> Result<(), String> {
    match (layout.head(), head) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err("has its head inside; remove `head`".into()),
        (Some(_), None) => Err("takes its head from outside; set `head` to the file that came with it".into()),
        (Some(weights), Some(head)) => match head.split_last() {
            Some((bias, head)) if head.len() == weights => {
                session.add_numbers("cls_w", &[1, weights as i64, 1, 1], head)?;
                session.add_numbers("cls_b", &[1], &[*bias])
            }
            _ => Err(format!(
                "takes a head of {weights} weights and a bias, and the head has {} numbers; use the one that came with it",
                head.len()
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fine_and_what_is_not_is_said() {
        assert_eq!(Config::default().check(), Ok(()));
        let base = Config::default;
        for (config, expect) in [
            (Config { score_min: 1.5, ..base() }, "score_min is 1.5, and may be 0 to 1"),
            (Config { score_min: f32::NAN, ..base() }, "score_min is NaN, and may be 0 to 1"),
            (Config { nms_iou: -0.1, ..base() }, "nms_iou is -0.1, and may be 0 to 1"),
            (Config { threads: 0, ..base() }, "threads is 0, and may be 1 to 64"),
            (Config { threads: 65, ..base() }, "threads is 65, and may be 1 to 64"),
            (Config { workers: 0, ..base() }, "workers is 0, and may be 1 to 16"),
            (
                Config { model: String::new(), ..base() },
                "model is empty; write \"builtin\" or the path of an ONNX file",
            ),
            (Config { agreement_min: 1.5, ..base() }, "agreement_min is 1.5; give it 0 to 1"),
            (
                Config { reference: Some("builtin".into()), ..base() },
                "reference is set and frames is not; set frames to a folder of this station's pictures",
            ),
            (
                Config { input: InputOverride { size: Some([0, 1]), ..InputOverride::default() }, ..base() },
                "input.size is [0, 1]; give a width and a height of 1 to 4096",
            ),
            (
                Config { providers: vec![Provider::Cuda, Provider::Cuda], ..base() },
                "providers names cuda twice; name each once",
            ),
            (
                Config { providers: vec![Provider::Cpu, Provider::Cuda], ..base() },
                "providers names others after cpu, which is always there; put cpu last",
            ),
        ] {
            assert_eq!(config.check().unwrap_err(), expect);
        }
        assert_eq!(Config { providers: vec![], ..base() }.check(), Ok(()));
    }

    #[test]
    fn the_configuration_is_read_and_an_unknown_key_is_refused() {
        let read = picket_shared::config::parse::<Config>;
        assert_eq!(read("").unwrap(), Config::default());
        let config = read("providers = [\"tensorrt\", \"cuda\", \"cpu\"]\nthreads = 2").unwrap();
        assert_eq!(config.providers, [Provider::Tensorrt, Provider::Cuda, Provider::Cpu]);
        let other = "layout = \"yolov8\"\nperson_class = 3\ninput = { size = [640, 480], colors = \"bgr\" }\n\
                     [tensorrt]\nprecision = \"int8\"";
        let config = read(other).unwrap();
        assert_eq!((config.layout, config.person_class), (Some(Family::Yolov8), Some(3)));
        assert_eq!(config.input.colors, Some(layout::Colors::Bgr));
        assert_eq!(config.tensorrt.precision, picket_shared::event::Precision::Int8);
        assert!(read("layout = \"yolo99\"").unwrap_err().contains("unknown variant `yolo99`"));
        assert!(read("input = { sise = [1, 1] }").unwrap_err().contains("did you mean \"size\""));
        assert!(read("score_mim = 0.5").unwrap_err().contains("did you mean \"score_min\""));
        assert!(read("providers = [\"gpu\"]").unwrap_err().contains("unknown variant `gpu`"));
        assert!(read("threads = -1").is_err());
    }

    #[test]
    fn a_detector_may_move_to_another_thread() {
        fn assert_send<T: Send>() {}
        assert_send::<Detector>();
    }
}
