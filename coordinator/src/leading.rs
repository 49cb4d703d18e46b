//! The task that asks again and again who leads, and tells the core. What is asked is a [`LeaderStore`]; what follows from the
//! answer is the core's.

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::coordinator::Input;
use crate::leader::{LEADER_LOOK, LEADER_MARGIN, LEADER_TTL, LeaderStore};

/// The task that settles who leads. It ends when the second half is dropped, and gives the lead back.
pub fn spawn(
    mut store: impl LeaderStore + 'static,
    clock: Clock,
    above: watch::Receiver<u32>,
    wanted: watch::Receiver<bool>,
) -> (mpsc::Receiver<Input>, oneshot::Sender<()>) {
    let (tell, told) = mpsc::channel(1);
    let (stop, mut stopped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let mut complained = String::new();
        loop {
            let asked_ms = clock.now().mono_ms;
            let outranking = *above.borrow();
            let lead = if *wanted.borrow() {
                store.lead(outranking).await
            } else {
                store.release().await;
                Ok(None)
            };
            let input = match lead {
                Ok(Some(epoch)) => {
                    Input::Lead { epoch, until_ms: asked_ms + (LEADER_TTL - LEADER_MARGIN).as_millis() as u64 }
                }
                Ok(None) => Input::Follow,
                Err(error) => {
                    let sentence = error.to_string();
                    if sentence != complained {
                        tracing::error!("{sentence}; without it this coordinator does not lead");
                        complained = sentence;
                    }
                    Input::Follow
                }
            };
            let told = tell.send(input);
            tokio::select! {
                _ = &mut stopped => break,
                sent = told => if sent.is_err() { break },
            }
            tokio::select! {
                _ = &mut stopped => break,
                () = tokio::time::sleep(LEADER_LOOK) => {}
            }
        }
        store.release().await;
    });
    (told, stop)
}
