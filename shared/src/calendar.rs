//! What this machine's calendar says, for the shells. No core asks it: a core is handed its time, as [`crate::clock::Now`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn since_1970() -> Duration {
    // A calendar before 1970 is one that was never set.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    since_1970().as_millis() as u64
}

/// Seconds since 1970.
pub fn unix_s() -> u64 {
    since_1970().as_secs()
}
