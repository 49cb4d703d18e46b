//! Logging for every program: one line an event on standard error, filtered by `PICKET_LOG` (as `RUST_LOG`).

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Starts logging; a second call does nothing. A filter that cannot be read is replaced by `info`.
pub fn start() {
    let filter = EnvFilter::builder()
        .with_env_var("PICKET_LOG")
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy()
        // The embedded broker tells every packet at info, and each client that leaves as an error.
        .add_directive("rumqttd=off".parse().expect("a constant directive"))
        // What sled finds wrong comes as an error of the store, which says it once.
        .add_directive("sled=off".parse().expect("a constant directive"))
        // The runtime says nothing at info that a person could use.
        .add_directive("ort=warn".parse().expect("a constant directive"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
}
