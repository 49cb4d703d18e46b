//! What leaves the device, and how people look in it: orders for pictures are judged by the `desk`, answered by the `clerk`, and
//! people are made unrecognisable by `blur`. Nobody is identified anywhere here.

pub mod blur;
mod clerk;
pub mod desk;
mod settings;

pub use clerk::{Clerk, Job};
pub use settings::describe;

use picket_shared::config::within;
use serde::Deserialize;

/// Most requests an hour that may be configured.
const REQUESTS_PER_HOUR_MAX: u32 = 3_600;

/// What this device allows. No order changes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which requests for pictures are answered: `never`, `blurred` (people cannot be recognised), or `clear`, which gives
    /// people as they are to who asks for that in so many words.
    pub requests: Requests,
    /// How pictures and clips of events lie on the device: `blurred`, or `clear`. Clear ones are for the live view, and are
    /// given to nobody but who may have clear ones.
    pub keep: Keep,
    /// Most requests that are answered in an hour. Too few keep an operator from his work; too many are surveillance.
    pub requests_per_hour: u32,
}

/// Which requests are answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Requests {
    /// None.
    Never,
    /// Those for pictures in which nobody can be recognised.
    #[default]
    Blurred,
    /// Also those that ask for clear ones.
    Clear,
}

/// How pictures are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// People cannot be recognised.
    #[default]
    Blurred,
    /// As the camera saw it, but for the masks.
    Clear,
}

impl Default for Config {
    fn default() -> Self {
        Config { requests: Requests::default(), keep: Keep::default(), requests_per_hour: 12 }
    }
}

impl Config {
    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        within("privacy.requests_per_hour", self.requests_per_hour, 1..=REQUESTS_PER_HOUR_MAX)
    }
}

/// A picture or clip that may leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Its file's bytes.
    pub bytes: Vec<u8>,
    /// `image/jpeg` or `video/mp4`.
    pub media: &'static str,
    /// When it was taken, milliseconds since 1970; of a clip, when it was written.
    pub taken_ms: u64,
    /// People in it cannot be recognised.
    pub blurred: bool,
}

/// Why there is none: a constant word, and a sentence.
pub type Refusal = (&'static str, String);
