//! The time, as the pure cores are given it. No clock is read here.

/// A moment, on both clocks that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// A clock that never goes back, for intervals.
    pub mono_ms: u64,
    /// Milliseconds since 1970, for what people read.
    pub unix_ms: u64,
}
