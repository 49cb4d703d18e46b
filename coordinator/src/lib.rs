//! Picket's coordinator: takes in what a site's agents saw, keeps it once and for good, and shows it.
//!
//! Modules stand in the order of two paths, `MQTT → intake → archive → ack and view` and `heartbeat → liveness → line (who
//! watches what) → leases`, beside that of `learn` (what all stations learn together). `coordinator` is the root state
//! machine; it and everything above `store` are pure: no clock, no threads, no files, no network. The rest are shells.

pub mod archive;
pub mod coordinator;
pub mod intake;
pub mod lead;
pub mod learn;
pub mod line;
pub mod liveness;
pub mod lossy;
pub mod namesake;
pub mod outgoing;
pub mod plan;
pub mod swarm;
pub mod view;

pub mod store;

pub mod leader;
pub mod leading;
pub mod writer;

pub mod model;

pub mod authority;
pub mod door;
pub mod heads;
pub mod operators;
pub mod pictures;

pub mod broker;
pub mod porch;
pub mod http;
pub mod watchdog;

pub mod clock;
pub mod credentials;
pub mod app;
pub mod config;
