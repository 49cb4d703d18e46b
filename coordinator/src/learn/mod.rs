//! Learning at the coordinator: how the changes of many stations become one head.
//!
//! `star` is the method, over the sums of `sums`, and a `change` is what it is given; `root` are the samples that persons confirmed, and
//! `said` what they say of events, beside what `agreement` finds that neighbours agree on; `learner` is the core that puts them together,
//! whose changes are the records of `record`, and `voice` how it says the head. A log (`picket_shared::log`) keeps those, and `study` is the
//! thread that runs it all beside the coordinator; `command` is the command line's way to it. `peers` are what others do, behind the same
//! trait, to be compared with and for nothing else.

pub mod agreement;
pub mod change;
pub mod learner;
pub mod order;
pub mod peers;
pub mod record;
pub mod root;
pub mod said;
pub mod star;
pub mod sums;
pub mod voice;

pub mod command;
pub mod study;

pub use picket_shared::log;
