//! Finds people in a frame: letterbox, runtime, layout, suppression.
//!
//! [`Detector`] is the shell around pure parts, each a file: [`preprocess`], [`layout`], [`nms`], [`onnx`]. One
//! detector serves all streams of an agent, a frame at a time. It decides nothing about tracks or events.

pub mod layout;
pub mod library;
pub mod nms;
pub mod onnx;
pub mod preprocess;

mod model;
mod session;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use picket_shared::exit::{Exit, Failure};
use picket_shared::status::DetectorTwin;
use serde::Deserialize;

use crate::frame::{Detection, Frame};
use layout::{Layout, Outputs};
use preprocess::{FrameError, Preprocessor};
use session::Session;

/// The value of [`Config::model`] that needs no file.
pub const BUILTIN_NAME: &str = "builtin";
/// Most inference threads.
pub const THREADS_MAX: usize = 64;

/// What carries out the model, in the words of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// NVIDIA TensorRT.
    Tensorrt,
    /// NVIDIA CUDA.
    Cuda,
    /// The processor; always there.
    Cpu,
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Provider::Tensorrt => "tensorrt",
            Provider::Cuda => "cuda",
            Provider::Cpu => "cpu",
        })
    }
}

/// The detector's part of the configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `builtin`, or the path of an ONNX file.
    pub model: String,
    /// The class head, for a model that takes one: 32-bit little-endian numbers, the bias last.
    pub head: Option<PathBuf>,
    /// The ONNX Runtime library; searched for where absent.
    pub library: Option<PathBuf>,
    /// Tried in this order; the processor is the last resort in any case.
    pub providers: Vec<Provider>,
    /// Inference threads. More are not always faster: they wait for each other.
    pub threads: usize,
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
            head: None,
            library: None,
            providers: vec![Provider::Cpu],
            threads: 1,
            score_min: 0.3,
            nms_iou: 0.5,
        }
    }
}

impl Config {
    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        let part = |key: &str, value: f32| {
            if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(format!("{key} is {value}, and may be 0 to 1")) }
        };
        part("score_min", self.score_min)?;
        part("nms_iou", self.nms_iou)?;
        if self.model.is_empty() {
            return Err(format!("model is empty; write \"{BUILTIN_NAME}\" or the path of an ONNX file"));
        }
        if !(1..=THREADS_MAX).contains(&self.threads) {
            return Err(format!("threads is {}, and may be 1 to {THREADS_MAX}", self.threads));
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

/// How long the steps of one detection took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// Letterbox.
    pub preprocess: Duration,
    /// `session.run`.
    pub run: Duration,
    /// Layout and suppression.
    pub decode: Duration,
}

/// A loaded model, ready for frames.
pub struct Detector {
    session: Session,
    layout: Layout,
    preprocessor: Preprocessor,
    score_min: f32,
    nms_iou: f32,
    rejected_outputs: u64,
    twin: DetectorTwin,
}

impl Detector {
    /// Finds the runtime, loads the model and runs it once over a black picture, so that the first frame is not late
    /// and a model that cannot run is known now.
    pub fn load(config: &Config) -> Result<Detector, Failure> {
        config.check().map_err(|what| Failure::new(Exit::Config, format!("detector: {what}")))?;
        let model = model::read(config)?;
        let runtime = library::find(config.library.as_deref())?;
        let mut session = Session::open(&runtime, &model.name, &model.bytes, &config.providers, config.threads)?;
        let refuse = |what: String| Failure::new(Exit::Data, format!("{} {what}", model.name));
        let layout = Layout::recognise(&session.signature()).map_err(refuse)?;
        add_inputs(&mut session, &layout, model.head.as_deref()).map_err(refuse)?;
        session.run().map_err(|e| Failure::new(Exit::Runtime, DetectError::Run(e).to_string()))?;
        let twin = DetectorTwin {
            model: model.digest,
            layout: layout.name().into(),
            provider: session.provider.to_string(),
            precision: model.precision,
            threads: config.threads,
            runtime: session.runtime.version.to_string(),
            passed_over: session.passed_over.clone(),
        };
        Ok(Detector {
            session,
            layout,
            preprocessor: Preprocessor::default(),
            score_min: config.score_min,
            nms_iou: config.nms_iou,
            rejected_outputs: 0,
            twin,
        })
    }

    /// Replaces what is in `found` by the detections in a frame, the surest first.
    pub fn detect(&mut self, frame: &Frame, found: &mut Vec<Detection>) -> Result<Timing, DetectError> {
        found.clear();
        let begun = Instant::now();
        let lies = self.preprocessor.letterbox(frame, self.layout.picture(), self.session.picture())?;
        let prepared = Instant::now();
        let outputs = self.session.run().map_err(DetectError::Run)?;
        let ran = Instant::now();
        let boxes = outputs.numbers("boxes").map_err(DetectError::Run)?;
        let scores = outputs.numbers("scores").map_err(DetectError::Run)?;
        self.rejected_outputs += self.layout.decode(Outputs { boxes, scores }, &lies, self.score_min, found);
        nms::suppress(found, self.nms_iou);
        Ok(Timing { preprocess: prepared - begun, run: ran - prepared, decode: ran.elapsed() })
    }

    /// Runs the model alone, once more over the last picture: the raw limit that a bench compares with.
    pub fn run_raw(&mut self) -> Result<Duration, DetectError> {
        let begun = Instant::now();
        self.session.run().map_err(DetectError::Run)?;
        Ok(begun.elapsed())
    }

    /// What was loaded, and on what it runs.
    pub fn twin(&self) -> DetectorTwin {
        self.twin.clone()
    }

    /// The bytes of the picture that the model was last shown.
    #[cfg(test)]
    pub(crate) fn shown(&mut self) -> Vec<u8> {
        self.session.picture().to_vec()
    }

    /// Boxes that the model gave and that cannot be, so far; a sound model gives none.
    pub fn rejected_outputs(&self) -> u64 {
        self.rejected_outputs
    }
}

fn add_inputs(session: &mut Session, layout: &Layout, head: Option<&[f32]>) -> Result<(), String> {
    let (width, height) = layout.picture();
    session.add_bytes("image", &[1, height.into(), width.into(), 3])?;
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
            (
                Config { model: String::new(), ..base() },
                "model is empty; write \"builtin\" or the path of an ONNX file",
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
