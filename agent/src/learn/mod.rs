//! Learning on the device: a head over the frozen network says of each candidate whether it is a person, and learns it from what
//! persons say of events and from what the tracker can tell, together with the other stations of the site.
//!
//! Modules stand in reading order: `features` (what a candidate is judged by), `judge` (the head at work on the frame path), `miner`
//! (labels that nobody had to give), `teacher` (labels that a second, heavier detector gives), `examples` (what is learned from, and
//! what is held out), `lesson` (a round of training, and which of two heads is the better one), `post` (what is said until the
//! coordinator has it), `student` (the core that puts them together), `released` (what became of heads that were released), `record`
//! (what of it is kept). Those are pure; `tap` is where the frame path hands over what it saw, `mailbox` where the courier hands over what
//! it heard, `teaching` the thread of a second detector, `study` the thread that does the rest, and `share` what such a thread may take.
//! `status` is what people see. Examples stay on the device, but for features that a person confirmed (`confirmed_leave`); pictures are
//! never kept here.

pub mod examples;
pub mod features;
pub mod judge;
pub mod lesson;
pub mod miner;
pub mod teacher;
pub mod post;
pub mod record;
pub mod released;
pub mod status;
pub mod student;

pub mod study;
pub mod tap;
pub mod teaching;

mod mailbox;
mod share;

use picket_shared::config::within;
use serde::{Deserialize, Serialize};

/// How a device learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether it does. Then the model's detections are judged by what was learned.
    pub enabled: bool,
    /// The learning rate; the coordinator's `learn.rate` should be the same. Too high forgets with each example; too low learns
    /// nothing in a life.
    pub rate: f32,
    /// Of a hundred events, so many are not learned from: heads are compared by them. Too few, and the comparison says nothing.
    pub held_out_percent: u8,
    /// Examples to compare heads by, a fifth of them of each label; with fewer the head that is judged by stays as it is. Too few let
    /// bad heads through.
    pub held_out_min: usize,
    /// Whether features of events that a person confirmed go to the coordinator, which finds liars by them. They are numbers and no
    /// picture.
    pub confirmed_leave: bool,
    /// Processor time that learning may take, in parts of a hundred of one processor.
    pub cpu_percent: f32,
    /// A second detector whose opinion is learned from; none by default.
    pub teacher: Option<teacher::Config>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            enabled: false,
            rate: 0.3,
            held_out_percent: 20,
            held_out_min: 50,
            confirmed_leave: true,
            cpu_percent: 5.0,
            teacher: None,
        }
    }
}

impl Config {
    /// Refuses values that cannot be meant, naming the key and its range.
    pub fn check(&self) -> Result<(), String> {
        within("learn.rate", self.rate, 0.001..=10.0)?;
        within("learn.held_out_percent", self.held_out_percent, 1..=90)?;
        within("learn.held_out_min", self.held_out_min, 4..=examples::HELD_OUT_MAX)?;
        within("learn.cpu_percent", self.cpu_percent, 0.1..=100.0)?;
        match &self.teacher {
            Some(_) if !self.enabled => Err(
                "learn.teacher is set and learn.enabled is not; set learn.enabled = true, or remove [learn.teacher]"
                    .into(),
            ),
            teacher => teacher.as_ref().map_or(Ok(()), teacher::Config::check),
        }
    }
}
