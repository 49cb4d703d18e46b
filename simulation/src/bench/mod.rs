//! `make bench`: what Picket costs, against the raw limit of the machine and against others, in one run.

pub mod frames;
pub mod learn;
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
    /// The learning's options.
    #[command(flatten)]
    pub learn: learn::LearnOptions,
}

/// A part of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The frame path of one agent against the raw limit of its detector
    Frames,
    /// Stores and messages against those of others
    Storage,
    /// Updates of learners against those of another server
    Learn,
}

/// Runs the bench: one part, or one after the other.
pub async fn run(options: BenchOptions) -> anyhow::Result<()> {
    let wanted = |part| options.part.is_none_or(|only| only == part);
    if wanted(Part::Frames) {
        frames::run(options.frames).await?;
    }
    if wanted(Part::Storage) {
        storage::run(&options.storage)?;
    }
    if wanted(Part::Learn) {
        // It waits for threads, which nothing that runs others may do.
        tokio::task::spawn_blocking(move || learn::run(&options.learn)).await??;
    }
    Ok(())
}
