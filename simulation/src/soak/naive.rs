//! The same work as a program usually does it: `publish()` at quality of service 1 returned Ok, so it is delivered. The client
//! library in its default use, against the same broker under the same kills.
//!
//! It is treated generously: the reader is never killed, subscribes again on every connection, and a publisher that stops
//! lets its client finish. Ids go into files, one a line: those that were said to be delivered, and those that came.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use picket_shared::calendar::unix_ms;
use picket_shared::event::Event;
use picket_shared::ids::{Boot, NodeId};
use rumqttc::{AsyncClient, EventLoop, Incoming, MqttOptions, QoS};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use crate::sensor;

/// After an error; without it the client tries as fast as it can.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// A client that had nothing to do for this long after the end has finished.
const IDLE: Duration = Duration::from_secs(2);
/// What the library's own examples use.
const REQUESTS_MAX: usize = 10;
const TOPIC: &str = "naive/events";

/// The command line of a naive publisher or reader.
#[derive(Debug, Clone, clap::Args)]
pub struct NaiveOptions {
    /// Where the ids go
    #[arg(long)]
    pub file: PathBuf,
    /// The broker's port on 127.0.0.1
    #[arg(long)]
    pub port: u16,
    /// The client's name
    #[arg(long)]
    pub name: NodeId,
    /// Events a second
    #[arg(long, default_value_t = 20)]
    pub rate_hz: u64,
    /// Read instead of publish
    #[arg(long)]
    pub read: bool,
}

/// Runs until SIGTERM.
pub async fn run(options: NaiveOptions) -> anyhow::Result<()> {
    let (client, eventloop) =
        AsyncClient::new(MqttOptions::new(options.name.as_str(), "127.0.0.1", options.port), REQUESTS_MAX);
    let file = append(&options.file)?;
    if options.read { read(client, eventloop, file).await } else { publish(&options, client, eventloop, file).await }
}

async fn publish(
    options: &NaiveOptions,
    client: AsyncClient,
    eventloop: EventLoop,
    mut file: File,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, stopped) = oneshot::channel();
    let polling = tokio::spawn(poll(eventloop, stopped, |_| Ok(())));
    tokio::select! {
        _ = terminate.recv() => {}
        failed = tell(options, &client, &mut file) => return failed,
    }
    let _ = stop.send(());
    polling.await?
}

/// Tells what it sees, for ever; a publish that returned Ok is written down as delivered.
async fn tell(options: &NaiveOptions, client: &AsyncClient, file: &mut File) -> anyhow::Result<()> {
    // A life of its own, so that no id comes twice.
    let (mut rng, life) = (fastrand::Rng::new(), Boot(unix_ms()));
    let mut sight = tokio::time::interval(Duration::from_nanos(1_000_000_000 / options.rate_hz.max(1)));
    sight.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 1.. {
        sight.tick().await;
        let event = sensor::event(&mut rng, &options.name, life, n, unix_ms());
        if client.publish(TOPIC, QoS::AtLeastOnce, false, serde_json::to_vec(&event)?).await.is_ok() {
            file.write_all(format!("{}\n", event.id).as_bytes())?;
        }
    }
    Ok(())
}

async fn read(client: AsyncClient, eventloop: EventLoop, mut file: File) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, stopped) = oneshot::channel();
    let polling = tokio::spawn(poll(eventloop, stopped, move |incoming| {
        match incoming {
            Incoming::ConnAck(_) => client.try_subscribe(TOPIC, QoS::AtLeastOnce)?,
            Incoming::Publish(publish) => {
                let event: Event = serde_json::from_slice(&publish.payload)?;
                file.write_all(format!("{}\n", event.id).as_bytes())?;
            }
            _ => {}
        }
        Ok(())
    }));
    let _ = terminate.recv().await;
    let _ = stop.send(());
    polling.await?
}

/// Polls until told to stop, and then until nothing more happens.
async fn poll(
    mut eventloop: EventLoop,
    mut stopped: oneshot::Receiver<()>,
    mut heard: impl FnMut(Incoming) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut idle_max = Duration::MAX;
    loop {
        let polled = tokio::select! {
            _ = &mut stopped, if idle_max == Duration::MAX => {
                idle_max = IDLE;
                continue;
            }
            polled = eventloop.poll() => polled,
            () = tokio::time::sleep(idle_max), if idle_max == IDLE => return Ok(()),
        };
        match polled {
            Ok(rumqttc::Event::Incoming(incoming)) => heard(incoming)?,
            Ok(_) => {}
            Err(_) => tokio::time::sleep(RETRY_AFTER).await,
        }
    }
}

fn append(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new().create(true).append(true).open(path).with_context(|| path.display().to_string())
}
