//! Builds ONNX graphs, and changes them: for the commands that make models, never for the way of a model to the runtime.
//!
//! What comes from elsewhere goes through [`crate::detect::onnx`] before the runtime sees it, and so does what is made
//! here. Pure: bytes in, bytes out.

pub(crate) mod build;
pub(crate) mod candidates;
pub(crate) mod passes;
pub(crate) mod proto;
pub(crate) mod tensors;
