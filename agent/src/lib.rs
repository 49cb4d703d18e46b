//! Picket's agent: one device that sees, remembers and tells.
//!
//! Modules stand in the order of a frame's path, from the camera to the store and out to the coordinator; what is around
//! it comes last.

pub mod frame;
pub mod polygon;
pub mod steady;
pub mod pictures;

pub mod capture;
pub mod mask;
pub mod gate;
pub mod detect;
pub mod track;
pub mod observe;
pub mod learn;
pub mod pipeline;
pub mod sinks;
pub mod privacy;

pub mod store;
pub mod outbox;
pub mod duty;
pub mod cover;
pub mod model;
pub mod node;
pub mod platform;
pub mod gossip;
pub mod credentials;
pub mod recorder;
pub mod courier;

pub mod config;
pub mod reload;
pub mod cameras;
pub mod app;
pub mod watchdog;
pub mod facts;
pub mod report;

pub mod annotate;
pub mod eval;
pub mod doctor;
pub mod enrol;
mod graph;
pub mod import;
pub mod compress;
pub mod surgery;
pub mod model_command;
