//! Models at a site: what its owner signed, which node runs what of it, and the files themselves.
//!
//! `registry` is the folder that the command line and the running coordinator both work on; `record` is what stands in it of
//! one node; `pack` makes a release out of files, on any machine; `desk` says to nodes what the registry has for them;
//! `blobs` decides which piece of which file is sent next, and `server` sends it. The owner's keys are never here: a coordinator checks by them, and cannot sign by them.

pub mod blobs;
pub mod command;
pub mod desk;
pub mod offline;
pub mod pack;
pub mod record;
pub mod registry;
pub mod server;

#[cfg(test)]
mod tests;
