//! Feeds systemd's watchdog, as long as the coordinator answers.
//!
//! The question is the one that the page asks: whoever is answered has seen the core take its turn. What the core answers is
//! not looked at. The disk may take its time: nothing is acknowledged meanwhile, and starting again would not hurry it.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot};

use crate::http::Question;

/// Feeds between two deadlines of systemd's: one that comes late must not end the coordinator.
const FEEDS: u32 = 3;

/// Asks and feeds, for ever; where nobody set a watchdog, it does nothing for ever.
pub async fn feed(questions: mpsc::Sender<Question>) {
    let Some(deadline) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    feed_every(deadline / FEEDS, questions, || drop(sd_notify::notify(&[NotifyState::Watchdog]))).await;
}

async fn feed_every(pause: Duration, questions: mpsc::Sender<Question>, feed: impl Fn()) {
    loop {
        let (question, answer) = oneshot::channel();
        if questions.send(Question::State(question)).await.is_ok() && answer.await.is_ok() {
            feed();
        }
        tokio::time::sleep(pause).await;
    }
}
