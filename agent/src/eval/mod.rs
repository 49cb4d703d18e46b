//! Evaluation: how good and how fast a detector is on a station's own pictures, and which threshold serves it best.
//!
//! Pure parts first: the truth's formats, the figures, ways to make pictures worse, the choice of a threshold, plots.
//! Then the shell: where frames come from, workers over a queue of frames, and the commands `eval` and `calibrate`.
//! Nothing here is on the path of a running agent.

pub mod truth;

pub mod metrics;

pub mod random;
pub mod degrade;
pub mod threshold;
pub mod persistence;
pub mod chart;

pub mod score;
pub mod report;
pub mod settings;

pub mod source;
pub mod files;
pub mod pass;
pub mod command;
pub mod calibrate;
