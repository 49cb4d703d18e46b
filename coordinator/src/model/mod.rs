//! Models at a site: what its owner signed, which node runs what of it, and the files themselves.
//!
//! `registry` is the folder that the command line and the running coordinator both work on, `files` what it has of files, and
//! `learned` what it has of heads that the site learned, each as a `step` from the one before; `record` is what stands in it of one node; `pack` makes a release out of
//! files, on any machine; `desk` says to nodes what the registry has for them; `rollout` brings a `goal`, a release or a learned
//! head, to many of them, group after group, `ledger` keeps that on the disk, and `fleet` lets it go on while the coordinator
//! runs; `reports` is what nodes say, and `view` what is shown of it all.
//! `blobs` decides which piece of which file is sent next, and `server` sends it. The owner's keys are never here: a
//! coordinator checks by them, and cannot sign by them.

pub mod blobs;
pub mod command;
pub mod desk;
pub mod files;
pub mod fleet;
pub mod goal;
pub mod learned;
pub mod ledger;
pub mod offline;
pub mod pack;
pub mod record;
pub mod registry;
pub mod reports;
pub mod rollout;
pub mod rollout_command;
pub mod server;
pub mod step;
pub mod view;

#[cfg(test)]
mod tests;
