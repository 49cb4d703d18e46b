//! The runtime: one session over one model, on the providers that it is told. Only this file knows ort.
//!
//! Providers are registered one at a time, and one that cannot be had is an error. Nothing here knows what the numbers
//! mean, or which provider to try.

use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::ep::{self, ExecutionProviderDispatch};
use ort::logging::LogLevel;
use ort::session::builder::SessionBuilder;
use ort::session::{SessionInputValue, SessionOutputs};
use ort::value::{DynValue, Outlet, PrimitiveTensorElementType, Tensor, TensorElementType};
use picket_shared::exit::{Exit, Failure};

use super::layout::{Element, Input, Numbers, Port, Signature};
use super::library::Runtime;
use super::provider::{Provider, Refusal};
use super::tensorrt;

/// ort allows one environment in the life of a process, so the first library that was opened stays.
static ENVIRONMENT: Mutex<Option<(Runtime, Environment)>> = Mutex::new(None);

/// Where the runtime looks for weights outside the model file, should any pass the scan: below a file nothing can be.
const WEIGHTS_ELSEWHERE: (&str, &str) = ("session.model_external_initializers_file_folder_path", "/dev/null");

/// A model in the runtime, with its inputs.
pub(super) struct Session {
    inner: ort::session::Session,
    /// In the order they were added; the picture is the first.
    inputs: Vec<(String, DynValue)>,
}

/// What one run gave.
pub(super) struct Outputs<'s>(SessionOutputs<'s>);

/// The picture's tensor.
pub(super) enum Picture<'s> {
    /// Bytes of color.
    Bytes(&'s mut [u8]),
    /// Numbers made of them.
    Numbers(&'s mut [f32]),
}

/// The runtime with everything that a session of it is built by.
pub(super) struct Builder {
    environment: Environment,
    threads: usize,
    /// The library in effect.
    pub(super) runtime: Runtime,
}

impl Builder {
    /// Opens the library; the first one that a process opens stays.
    pub(super) fn open(runtime: &Runtime, threads: usize) -> Result<Builder, Failure> {
        let (runtime, environment) = environment(runtime).map_err(|e| unusable(runtime, &e))?;
        Ok(Builder { environment, threads, runtime })
    }

    /// Builds a session from a model's bytes, which must have been scanned, on the providers in their order. `model` is
    /// how sentences call it; `tensorrt` is asked for only where it is among the providers.
    pub(super) fn build(
        &self,
        model: &str,
        bytes: &[u8],
        providers: &[Provider],
        tensorrt: impl Fn() -> Result<tensorrt::Options, String>,
    ) -> Result<Session, Refusal> {
        let mut builder =
            builder(&self.environment, self.threads).map_err(|e| Refusal::Fatal(unusable(&self.runtime, &e)))?;
        let mut progress = None;
        for provider in providers {
            let refused = |why: String| Refusal::Registering(*provider, why);
            let dispatch = match provider {
                Provider::Tensorrt => {
                    let options = tensorrt().map_err(refused)?;
                    if !options.has_engine() {
                        tracing::info!(
                            "TensorRT builds an engine in {}; this takes minutes",
                            options.engine_dir.display()
                        );
                        progress = Some(tensorrt::Progress::tell("TensorRT builds an engine"));
                    }
                    of_tensorrt(&options)
                }
                Provider::Cuda => ep::CUDA::default().build(),
                Provider::Cpu => ep::CPU::default().build(),
            };
            builder = builder
                .with_execution_providers([dispatch.error_on_failure()])
                .map_err(|error| refused(line(&error)))?;
        }
        let inner = builder.commit_from_memory(bytes).map_err(|error| {
            let why = line(&error);
            let last = Failure::new(Exit::Data, format!("{model} is refused by the runtime ({why}); export it anew"));
            Refusal::Session { why, last }
        });
        drop(progress);
        Ok(Session { inner: inner?, inputs: Vec::new() })
    }
}

impl Session {
    /// What the model shows of itself.
    pub(super) fn signature(&self) -> Signature {
        let ports = |outlets: &[Outlet]| outlets.iter().map(port).collect();
        let metadata = self.inner.metadata().ok();
        let keys = metadata.as_ref().and_then(|metadata| metadata.custom_keys().ok()).unwrap_or_default();
        let values = keys.into_iter().filter_map(|key| Some((key.clone(), metadata.as_ref()?.custom(&key)?)));
        Signature {
            inputs: ports(self.inner.inputs()),
            outputs: ports(self.inner.outputs()),
            metadata: values.collect(),
        }
    }

    /// Adds the picture, all 0; before any other input.
    pub(super) fn add_picture(&mut self, input: &Input) -> Result<(), String> {
        let length = input.shape().iter().product::<i64>() as usize;
        match input.element {
            Element::U8 => self.add(&input.name, Tensor::from_array((input.shape().to_vec(), vec![0u8; length]))),
            _ => self.add(&input.name, Tensor::from_array((input.shape().to_vec(), vec![0f32; length]))),
        }
    }

    /// Adds an input of numbers.
    pub(super) fn add_numbers(&mut self, name: &str, shape: &[i64], numbers: &[f32]) -> Result<(), String> {
        self.add(name, Tensor::from_array((shape.to_vec(), numbers.to_vec())))
    }

    /// Adds an input of whole numbers.
    pub(super) fn add_whole(&mut self, name: &str, shape: &[i64], numbers: &[i64]) -> Result<(), String> {
        self.add(name, Tensor::from_array((shape.to_vec(), numbers.to_vec())))
    }

    fn add<T: PrimitiveTensorElementType + std::fmt::Debug>(
        &mut self,
        name: &str,
        tensor: ort::Result<Tensor<T>>,
    ) -> Result<(), String> {
        self.inputs.push((name.to_owned(), tensor.map_err(|e| line(&e))?.into_dyn()));
        Ok(())
    }

    /// Whether an input has been added.
    pub(super) fn has(&self, name: &str) -> bool {
        self.inputs.iter().any(|(added, _)| added == name)
    }

    /// The tensor of the first input, to be filled before a run.
    pub(super) fn picture(&mut self) -> Picture<'_> {
        let (_, first) = self.inputs.first_mut().expect("the picture was added");
        let is_bytes = first.dtype().tensor_type() == Some(TensorElementType::Uint8);
        if is_bytes {
            Picture::Bytes(first.try_extract_tensor_mut::<u8>().expect("the type was asked").1)
        } else {
            Picture::Numbers(first.try_extract_tensor_mut::<f32>().expect("the picture is of bytes or numbers").1)
        }
    }

    /// Runs the model over the inputs as they are.
    pub(super) fn run(&mut self) -> Result<Outputs<'_>, String> {
        let inputs: Vec<(&str, SessionInputValue)> =
            self.inputs.iter().map(|(name, value)| (name.as_str(), value.into())).collect();
        self.inner.run(inputs).map(Outputs).map_err(|e| line(&e))
    }
}

impl Outputs<'_> {
    /// The numbers of an output.
    pub(super) fn numbers(&self, name: &str) -> Result<Numbers<'_>, String> {
        let value = self.0.get(name).ok_or_else(|| format!("no output \"{name}\""))?;
        let refused = |e: ort::Error| line(&e);
        Ok(match value.dtype().tensor_type() {
            Some(TensorElementType::Int64) => Numbers::I64(value.try_extract_tensor::<i64>().map_err(refused)?.1),
            Some(TensorElementType::Int32) => Numbers::I32(value.try_extract_tensor::<i32>().map_err(refused)?.1),
            _ => Numbers::F32(value.try_extract_tensor::<f32>().map_err(refused)?.1),
        })
    }

    /// The dimensions that an output turned out to have.
    pub(super) fn shape(&self, name: &str) -> Option<Vec<i64>> {
        Some(self.0.get(name)?.dtype().tensor_shape()?.to_vec())
    }
}

fn unusable(runtime: &Runtime, e: &str) -> Failure {
    let path = runtime.path.display();
    Failure::new(Exit::Runtime, format!("the runtime library {path} cannot be used ({e}); install another"))
}

fn environment(runtime: &Runtime) -> Result<(Runtime, Environment), String> {
    let mut environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((first, environment)) = &*environment {
        if first.path != runtime.path {
            tracing::warn!("the runtime library {} stays in use until a restart", first.path.display());
        }
        return Ok((first.clone(), environment.clone()));
    }
    let builder = ort::init_from(&runtime.path).map_err(|e| e.to_string())?;
    let made = builder.with_name("picket").with_telemetry(false).build().map_err(|e| line(&e))?;
    *environment = Some((runtime.clone(), made.clone()));
    Ok((runtime.clone(), made))
}

fn builder(environment: &Environment, threads: usize) -> Result<SessionBuilder, String> {
    let said = |error: ort::Error<SessionBuilder>| line(&error);
    SessionBuilder::new(environment)
        .map_err(|e| line(&e))?
        .with_log_level(LogLevel::Warning)
        .map_err(said)?
        .with_intra_threads(threads)
        .map_err(said)?
        .with_inter_threads(1)
        .map_err(said)?
        // A thread that spins takes the core from the decoder and the other streams.
        .with_intra_op_spinning(false)
        .map_err(said)?
        .with_config_entry(WEIGHTS_ELSEWHERE.0, WEIGHTS_ELSEWHERE.1)
        .map_err(said)
}

fn of_tensorrt(options: &tensorrt::Options) -> ExecutionProviderDispatch {
    let mut asked = ep::TensorRT::default()
        .with_fp16(options.fp16)
        .with_int8(options.int8)
        .with_engine_cache(true)
        .with_engine_cache_path(options.engine_dir.display())
        .with_timing_cache(true)
        .with_timing_cache_path(options.timing_dir.display());
    if let Some((name, of_tensorrt)) = &options.calibration {
        asked = asked.with_int8_calibration_table_name(name).with_int8_use_native_calibration_table(*of_tensorrt);
    }
    if let Some(core) = options.dla_core {
        asked = asked.with_dla(true).with_dla_core(core);
    }
    asked.build()
}

fn port(outlet: &Outlet) -> Port {
    let element = match outlet.dtype().tensor_type() {
        Some(TensorElementType::Uint8) => Element::U8,
        Some(TensorElementType::Float32) => Element::F32,
        Some(TensorElementType::Float16) => Element::F16,
        Some(TensorElementType::Int32) => Element::I32,
        Some(TensorElementType::Int64) => Element::I64,
        _ => Element::Other,
    };
    let shape = outlet.dtype().tensor_shape().map(|shape| shape.to_vec()).unwrap_or_default();
    Port { name: outlet.name().to_owned(), element, shape }
}

/// The runtime's errors run over lines and give the source of its own code; the first words are what a person can use.
fn line<T>(error: &ort::Error<T>) -> String {
    error.message().split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::library;

    #[test]
    fn weights_in_another_file_are_out_of_reach_even_for_a_model_that_was_not_scanned() {
        // It names Cargo.toml, which lies in the directory that tests run in.
        let model = include_bytes!("../../tests/reference/external.onnx");
        let runtime = library::find(None).unwrap_or_else(|failure| panic!("{failure}"));
        let builder = Builder::open(&runtime, 1).unwrap_or_else(|failure| panic!("{failure}"));
        let built = builder.build("the model", model, &[], || Err("it was not asked for".into()));
        let Err(Refusal::Session { last, .. }) = built else { panic!("Cargo.toml was read") };
        assert!(last.sentence.contains("/dev/null"), "{last}");
    }

    #[test]
    fn the_library_is_asked_for_the_interface_that_ort_needs() {
        assert_eq!(library::API, ort::MINOR_VERSION);
    }
}
