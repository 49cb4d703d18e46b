//! The archive's thread: a commit waits for the disk, and nothing else of the coordinator waits with it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use picket_shared::store::StoreError;
use tokio::sync::mpsc;

use crate::archive::Commit;
use crate::clock::Clock;
use crate::store::Archive;

/// One commit is under way at a time, so neither channel ever holds more.
const COMMITS_MAX: usize = 1;

/// A commit's result, and the archive's size after it.
pub type Written = (Result<(), StoreError>, Option<u64>);

/// The thread that waits for the disk.
pub fn spawn(archive: Archive, clock: Clock) -> io::Result<(SyncSender<Arc<Commit>>, mpsc::Receiver<Written>)> {
    let (commits, orders) = sync_channel(COMMITS_MAX);
    let (results, answers) = mpsc::channel(COMMITS_MAX);
    let work = move || write(archive, clock, &orders, &results);
    std::thread::Builder::new().name("archive".into()).spawn(work)?;
    Ok((commits, answers))
}

/// Commits until nobody orders any more. After an error the archive is closed and opened again: sled does not go on by
/// itself, and what it believes to have written is not to be trusted.
fn write(mut archive: Archive, clock: Clock, orders: &Receiver<Arc<Commit>>, results: &mpsc::Sender<Written>) {
    let mut failed = false;
    while let Ok(commit) = orders.recv() {
        let opened = if failed { archive.reopen(clock.now().unix_ms / 1000) } else { Ok(()) };
        let written = opened.and_then(|()| archive.commit(&commit));
        failed = written.is_err();
        let bytes = (!failed).then(|| archive.size_bytes());
        if results.blocking_send((written, bytes)).is_err() {
            return;
        }
    }
}
