//! Who somebody is at a site, and how others know it: what a new device is told (token, door), the certificate and the keys
//! that it keeps (identity, orders), and how connections are made with them (tls).
//!
//! Making certificates is the coordinator's work, and asking for one the agent's; both are elsewhere.

pub mod certificate;
pub mod door;
pub mod identity;
pub mod orders;
pub mod roster;
pub mod seal;
pub mod signer;
pub mod tls;
pub mod token;
pub mod verifier;

/// Seconds of a day.
pub const DAY_S: u64 = 24 * 60 * 60;
