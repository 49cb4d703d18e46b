//! Picket's agent: one device that sees, remembers and tells.
//!
//! Modules stand in the order of a frame's path: from the camera to the store and out to the coordinator.

pub mod frame;

pub mod capture;
pub mod detect;
pub mod gate;
pub mod mask;
pub mod observe;
pub mod track;

pub mod annotate;
