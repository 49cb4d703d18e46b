//! Whole swarms in one process: the real agent and coordinator cores in a seeded world, and the demo with real processes.
//!
//! `world` (delivery), `site` (who watches what) and what they use hold no clock, no files and no sockets: the same seed
//! gives the same trace, byte for byte.
//! `demo`, `bench` and `soak` start the real binaries and only watch them, or kill them.

pub mod bus;
pub mod check;
pub mod schedule;
pub mod sensor;
pub mod disk;
pub mod faults;
pub mod world;
pub mod site;
pub mod swarm;
pub mod scenarios;

pub mod learn;
pub mod teach;
pub mod retrain;

pub mod bench;
pub mod demo;
pub mod soak;
