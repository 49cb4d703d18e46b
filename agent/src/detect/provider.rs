//! Which execution provider a model runs on: the configured ones in their order, and what became of each.
//!
//! Pure: building a session is an argument. A library says "available" of whatever it was compiled with, so only a
//! session that was built and ran once counts.

use std::collections::BTreeMap;
use std::fmt;

use picket_shared::event::Precision;
use picket_shared::exit::Failure;
use serde::{Deserialize, Serialize};

/// What carries out the model, in the words of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// Why an attempt gave no session.
pub(super) enum Refusal {
    /// This provider could not be registered.
    Registering(Provider, String),
    /// All were registered, and the session could not be built or did not run; `last` is what to say if nothing is left
    /// to try.
    Session {
        /// The reason, in a few words.
        why: String,
        /// The failure, where the processor was the only one.
        last: Failure,
    },
    /// The model itself will not do, on no provider.
    Fatal(Failure),
}

/// A session, and how it came about.
pub(super) struct Chosen<S> {
    pub(super) session: S,
    /// The provider in effect.
    pub(super) provider: Provider,
    /// Those before it, with the reason.
    pub(super) passed_over: BTreeMap<String, String>,
}

/// Tries providers in their order until one carries the model; the processor is the last resort in any case. An attempt
/// is given those that are left, the first to be preferred and the others for what it cannot do.
pub(super) fn choose<S>(
    configured: &[Provider],
    mut attempt: impl FnMut(&[Provider]) -> Result<S, Refusal>,
) -> Result<Chosen<S>, Failure> {
    let mut left: Vec<Provider> = configured.iter().copied().take_while(|p| *p != Provider::Cpu).collect();
    let mut passed_over = BTreeMap::new();
    loop {
        let (provider, why) = match attempt(&left) {
            Ok(session) => {
                let provider = left.first().copied().unwrap_or(Provider::Cpu);
                return Ok(Chosen { session, provider, passed_over });
            }
            Err(Refusal::Fatal(failure)) => return Err(failure),
            Err(Refusal::Session { last, .. }) if left.is_empty() => return Err(last),
            // It took, and cannot carry this model: go on with those behind it.
            Err(Refusal::Session { why, .. }) => (left[0], why),
            Err(Refusal::Registering(provider, why)) => (provider, why),
        };
        assert!(left.contains(&provider), "an attempt registers only what it was given");
        left.retain(|left| *left != provider);
        passed_over.insert(provider.to_string(), why);
    }
}

/// What a model's numbers are computed in, by what was asked of TensorRT where that is in effect.
pub(super) fn effective(model: Precision, provider: Provider, asked: Precision) -> Precision {
    match (provider, model) {
        // A quantised model stays one; what it does not quantise is of no account here.
        (_, Precision::Int8) => Precision::Int8,
        (Provider::Tensorrt, _) => asked,
        (_, model) => model,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::exit::Exit;

    use Provider::{Cpu, Cuda, Tensorrt};

    fn session(why: &str) -> Refusal {
        Refusal::Session { why: why.into(), last: Failure::new(Exit::Data, format!("the model: {why}")) }
    }

    /// What is wrong with a provider, in a script.
    type Script = fn(&[Provider]) -> Result<(), Refusal>;

    #[test]
    fn the_first_that_carries_the_model_is_taken_and_the_others_are_told_with_their_reason() {
        let all: Script = |_| Ok(());
        let none_registers: Script = |left| match left.first() {
            Some(first) => Err(Refusal::Registering(*first, "no library".into())),
            None => Ok(()),
        };
        // The second in line does not register: the first is tried again without it.
        let no_cuda: Script = |left| match left.contains(&Cuda) {
            true => Err(Refusal::Registering(Cuda, "no driver".into())),
            false => Ok(()),
        };
        let does_not_run: Script = |left| match left.first() {
            Some(first) => Err(session(&format!("{first} fails"))),
            None => Ok(()),
        };
        for (configured, script, provider, attempts, passed_over) in [
            (&[Tensorrt, Cuda, Cpu][..], all, Tensorrt, 1, &[][..]),
            (&[], all, Cpu, 1, &[]),
            (&[Cpu], all, Cpu, 1, &[]),
            (&[Cuda], all, Cuda, 1, &[]),
            (&[Tensorrt, Cuda], none_registers, Cpu, 3, &[("cuda", "no library"), ("tensorrt", "no library")]),
            (&[Tensorrt, Cuda], no_cuda, Tensorrt, 2, &[("cuda", "no driver")]),
            (&[Tensorrt, Cuda], does_not_run, Cpu, 3, &[("cuda", "cuda fails"), ("tensorrt", "tensorrt fails")]),
        ] {
            let mut tried = 0;
            let chosen = choose(configured, |left| {
                tried += 1;
                script(left)
            });
            let chosen = chosen.unwrap_or_else(|failure| panic!("{failure}"));
            let reasons: Vec<_> = chosen.passed_over.iter().map(|(name, why)| (&**name, &**why)).collect();
            assert_eq!((chosen.provider, tried, &reasons[..]), (provider, attempts, passed_over), "{configured:?}");
        }
    }

    #[test]
    fn what_no_provider_can_carry_is_told_once_and_what_is_no_model_is_not_tried_again() {
        let failure = choose::<()>(&[Cuda], |left| Err(session(if left.is_empty() { "bad" } else { "gpu" })));
        assert_eq!(failure.err().map(|failure| failure.sentence), Some("the model: bad".into()));
        let mut tried = 0;
        let failure = choose::<()>(&[Tensorrt, Cuda], |_| {
            tried += 1;
            Err(Refusal::Fatal(Failure::new(Exit::Data, "no model")))
        });
        assert_eq!((failure.err().map(|failure| failure.sentence), tried), (Some("no model".into()), 1));
    }

    #[test]
    fn the_precision_in_effect_is_the_providers_where_it_has_a_say() {
        use Precision::{Fp16, Fp32, Int8};
        for (model, provider, asked, expect) in [
            (Fp32, Cpu, Fp16, Fp32),
            (Fp32, Cuda, Fp16, Fp32),
            (Fp32, Tensorrt, Fp16, Fp16),
            (Fp32, Tensorrt, Int8, Int8),
            (Fp32, Tensorrt, Fp32, Fp32),
            (Int8, Tensorrt, Fp16, Int8),
            (Int8, Cpu, Fp16, Int8),
            (Fp16, Cpu, Fp32, Fp16),
        ] {
            assert_eq!(effective(model, provider, asked), expect, "{model:?} {provider} {asked:?}");
        }
    }
}
