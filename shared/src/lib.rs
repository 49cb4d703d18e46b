//! The language that Picket's agent and coordinator both speak.
//!
//! Modules stand in reading order: the bounds, the names, what is said (events and messages), how it is written
//! (codec, topics), what may run (model), where it is kept (store) and who did what (audit), who says it (trust), how it travels (mqtt),
//! and what both binaries need at start-up.
//! Nothing here decides anything: deciding is the cores' work in `picket-agent` and `picket-coordinator`.

pub mod limits;

pub mod calendar;
pub mod clock;
pub mod ids;

pub mod duty;
pub mod event;
pub mod picture;
pub mod platform;
pub mod status;
pub mod view;
pub mod wire;

pub mod chunks;
pub mod codec;
pub mod topics;

pub mod audit;
pub mod crypto;
pub mod gossip;
pub mod keyfile;
pub mod model;
pub mod compress;
pub mod store;
pub mod log;

pub mod learn;
pub mod random;

pub mod backoff;
pub mod brokers;
pub mod trust;
pub mod mqtt;
pub mod listener;

pub mod config;
pub mod exit;
pub mod redact;
pub mod telemetry;
