//! `make bench`: what Picket costs, against the raw limit of the machine and against others, in one run.

pub mod frames;
pub mod storage;

use clap::ValueEnum;

/// The command line of the bench.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchOptions {
    /// Only this part
    #[arg(value_enum)]
    pub part: Option<Part>,
    /// The frame path's options.
    #[command(flatten)]
    pub frames: frames::FramesOptions,
    /// The store's options.
    #[command(flatten)]
    pub storage: storage::StorageOptions,
}

/// A part of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The frame path of one agent against the raw limit of its detector
    Frames,
    /// Stores and messages against those of others
    Storage,
}

/// Runs the bench: one part, or one after the other.
pub async fn run(options: BenchOptions) -> anyhow::Result<()> {
    if options.part != Some(Part::Storage) {
        frames::run(options.frames).await?;
    }
    if options.part != Some(Part::Frames) {
        storage::run(&options.storage)?;
    }
    Ok(())
}
