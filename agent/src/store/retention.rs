//! What is kept on the device, for how long and how much: the configuration and its limits as numbers.
//!
//! Pure. What the archive has is kept for looking up, each class within its days and its bytes. What it does not have is
//! owed, and has a limit of its own; beyond that the oldest telemetry is given up first, then the oldest confirmed events.

use picket_shared::config::within;
use picket_shared::event::Class;
use serde::Deserialize;

const MIB: u64 = 1024 * 1024;
const DAY_S: u64 = 24 * 3600;
const DAYS_MAX: u32 = 3650;
const MIB_MAX: u32 = 1024 * 1024;

/// What is kept on the device. An event takes about 400 bytes of these limits, and up to five times that of the disk.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Days that a `new` or `end` stays after the archive has it; 0 forgets it at once. Too long keeps what data protection
    /// may want gone, too short leaves nothing to look up. Time counts while the agent is in use.
    pub confirmed_days: u32,
    /// Most of them, in MiB.
    pub confirmed_mib: u32,
    /// Days that an `update` stays after the archive has it.
    pub telemetry_days: u32,
    /// Most of them, in MiB.
    pub telemetry_mib: u32,
    /// Most of what the archive does not have yet, in MiB: what a network may be away. Too much fills the disk; too little
    /// gives events up, which is told to the coordinator.
    pub owed_mib: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config { confirmed_days: 30, confirmed_mib: 64, telemetry_days: 7, telemetry_mib: 64, owed_mib: 256 }
    }
}

impl Config {
    /// Says which value is out of range.
    pub fn check(&self) -> Result<(), String> {
        within("store.confirmed_days", self.confirmed_days, 0..=DAYS_MAX)?;
        within("store.confirmed_mib", self.confirmed_mib, 0..=MIB_MAX)?;
        within("store.telemetry_days", self.telemetry_days, 0..=DAYS_MAX)?;
        within("store.telemetry_mib", self.telemetry_mib, 0..=MIB_MAX)?;
        within("store.owed_mib", self.owed_mib, 1..=MIB_MAX)
    }

    /// The same in bytes and seconds.
    pub(super) fn limits(&self) -> Limits {
        let of = |days: u32, mib: u32| Kept { bytes_max: u64::from(mib) * MIB, age_s_max: u64::from(days) * DAY_S };
        Limits {
            kept: [of(self.confirmed_days, self.confirmed_mib), of(self.telemetry_days, self.telemetry_mib)],
            owed_bytes_max: u64::from(self.owed_mib) * MIB,
        }
    }
}

/// The limits of one class, for what is acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) bytes_max: u64,
    pub(super) age_s_max: u64,
}

/// All limits; classes by [`index`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) kept: [Kept; 2],
    pub(super) owed_bytes_max: u64,
}

/// Both classes, in the order in which they are given up when there is no room for what is owed.
pub(super) const GIVEN_UP: [Class; 2] = [Class::Telemetry, Class::Confirmed];

/// A class as an index.
pub(super) fn index(class: Class) -> usize {
    class as usize
}

/// Events and the bytes that they take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    /// How many.
    pub events: u64,
    /// What they take of the limits.
    pub bytes: u64,
}

impl Total {
    pub(super) fn add(&mut self, bytes: u64) {
        self.events += 1;
        self.bytes += bytes;
    }

    pub(super) fn take(&mut self, bytes: u64) {
        self.events -= 1;
        self.bytes -= bytes;
    }
}
