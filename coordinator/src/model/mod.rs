//! Models of the site: what is sent to devices, and how.

pub mod blobs;
pub mod server;
