//! The runtime: one session over one model, on the best provider that works. Only this file knows ort.
//!
//! Providers are registered one at a time, and what took is measured, not assumed: a library that was built for a
//! GPU says "available" on a machine without one. Nothing here knows what the numbers mean.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::ep::{self, ExecutionProviderDispatch};
use ort::logging::LogLevel;
use ort::session::builder::SessionBuilder;
use ort::session::{SessionInputValue, SessionOutputs};
use ort::value::{DynValue, Outlet, Tensor, TensorElementType};
use picket_shared::exit::{Exit, Failure};

use super::Provider;
use super::layout::{Element, Port, Signature};
use super::library::Runtime;

/// ort allows one environment in the life of a process, so the first library that was opened stays.
static ENVIRONMENT: Mutex<Option<(Runtime, Environment)>> = Mutex::new(None);

/// Where the runtime looks for weights outside the model file, should any pass the scan: below a file nothing can be.
const WEIGHTS_ELSEWHERE: (&str, &str) = ("session.model_external_initializers_file_folder_path", "/dev/null");

/// A model in the runtime, with its inputs.
pub(super) struct Session {
    inner: ort::session::Session,
    /// In the order they were added; the picture is the first.
    inputs: Vec<(&'static str, DynValue)>,
    /// The provider in effect.
    pub(super) provider: Provider,
    /// Those before it in the configuration, with the reason.
    pub(super) passed_over: BTreeMap<String, String>,
    /// The library in effect.
    pub(super) runtime: Runtime,
}

/// What one run gave.
pub(super) struct Outputs<'s>(SessionOutputs<'s>);

impl Session {
    /// Builds a session from a model's bytes, which must have been scanned. `model` is how sentences call it.
    pub(super) fn open(
        runtime: &Runtime,
        model: &str,
        bytes: &[u8],
        providers: &[Provider],
        threads: usize,
    ) -> Result<Session, Failure> {
        let unusable = |e: String| {
            let path = runtime.path.display();
            Failure::new(Exit::Runtime, format!("the runtime library {path} cannot be used ({e}); install another"))
        };
        let (runtime, environment) = environment(runtime).map_err(unusable)?;
        let mut passed_over = BTreeMap::new();
        let mut wanted: Vec<Provider> = providers.iter().copied().take_while(|p| *p != Provider::Cpu).collect();
        loop {
            let mut builder = builder(&environment, threads).map_err(unusable)?;
            let mut took = Vec::new();
            for provider in wanted {
                builder = match builder.with_execution_providers(dispatch(provider)) {
                    Ok(builder) => {
                        took.push(provider);
                        builder
                    }
                    Err(error) => {
                        passed_over.insert(provider.to_string(), line(&error));
                        error.recover()
                    }
                };
            }
            match builder.commit_from_memory(bytes) {
                Ok(inner) => {
                    let provider = took.first().copied().unwrap_or(Provider::Cpu);
                    for (name, reason) in &passed_over {
                        tracing::warn!("the provider {name} cannot be had ({reason}); running on {provider}");
                    }
                    return Ok(Session { inner, inputs: Vec::new(), provider, passed_over, runtime });
                }
                Err(error) if took.is_empty() => {
                    let sentence = format!("{model} is refused by the runtime ({}); export it anew", line(&error));
                    return Err(Failure::new(Exit::Data, sentence));
                }
                // It took, and cannot carry this model: go on with those behind it.
                Err(error) => {
                    passed_over.insert(took.remove(0).to_string(), line(&error));
                    wanted = took;
                }
            }
        }
    }

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

    /// Adds an input of bytes, all 0.
    pub(super) fn add_bytes(&mut self, name: &'static str, shape: &[i64]) -> Result<(), String> {
        let length = shape.iter().product::<i64>() as usize;
        let tensor = Tensor::from_array((shape.to_vec(), vec![0u8; length])).map_err(|e| line(&e))?;
        self.inputs.push((name, tensor.into_dyn()));
        Ok(())
    }

    /// Adds an input of numbers.
    pub(super) fn add_numbers(&mut self, name: &'static str, shape: &[i64], numbers: &[f32]) -> Result<(), String> {
        let tensor = Tensor::from_array((shape.to_vec(), numbers.to_vec())).map_err(|e| line(&e))?;
        self.inputs.push((name, tensor.into_dyn()));
        Ok(())
    }

    /// The bytes of the first input, to be filled before a run.
    pub(super) fn picture(&mut self) -> &mut [u8] {
        let (_, first) = self.inputs.first_mut().expect("the picture was added");
        first.try_extract_tensor_mut::<u8>().expect("the picture is of bytes").1
    }

    /// Runs the model over the inputs as they are.
    pub(super) fn run(&mut self) -> Result<Outputs<'_>, String> {
        let inputs: Vec<(&str, SessionInputValue)> =
            self.inputs.iter().map(|(name, value)| (*name, value.into())).collect();
        self.inner.run(inputs).map(Outputs).map_err(|e| line(&e))
    }
}

impl Outputs<'_> {
    /// An output of numbers.
    pub(super) fn numbers(&self, name: &str) -> Result<&[f32], String> {
        let value = self.0.get(name).ok_or_else(|| format!("no output \"{name}\""))?;
        Ok(value.try_extract_tensor::<f32>().map_err(|e| line(&e))?.1)
    }
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

fn dispatch(provider: Provider) -> [ExecutionProviderDispatch; 1] {
    let dispatch = match provider {
        Provider::Tensorrt => ep::TensorRT::default().build(),
        Provider::Cuda => ep::CUDA::default().build(),
        Provider::Cpu => ep::CPU::default().build(),
    };
    [dispatch.error_on_failure()]
}

fn port(outlet: &Outlet) -> Port {
    let element = match outlet.dtype().tensor_type() {
        Some(TensorElementType::Uint8) => Element::U8,
        Some(TensorElementType::Float32) => Element::F32,
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
        let failure = Session::open(&runtime, "the model", model, &[], 1).err().expect("Cargo.toml was read");
        assert!(failure.sentence.contains("/dev/null"), "{failure}");
    }

    #[test]
    fn the_library_is_asked_for_the_interface_that_ort_needs() {
        assert_eq!(library::API, ort::MINOR_VERSION);
    }
}
