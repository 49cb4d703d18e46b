//! The thread around the store: gathers events into group commits, and publishes what the outbox asks for.
//!
//! It keeps the disk's waits away from the frame path and from the network. A commit that fails is tried again until it
//! succeeds: events wait in order and are never dropped here (`node.rs` bounds how many can wait).

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use picket_shared::calendar::unix_s;
use picket_shared::codec;
use picket_shared::ids::{Boot, NodeId, SiteId};
use picket_shared::limits::BATCH_EVENTS_MAX;
use picket_shared::mqtt::Link;
use picket_shared::store::StoreError;
use picket_shared::topics::Topic;
use picket_shared::trust::signer::Signer;
use picket_shared::wire::EventBatch;
use serde_bytes::ByteBuf;

use crate::duty::Memory;
use crate::node::{Input, NewEvent, UNSTORED_EVENTS_MAX};
use crate::outbox::Send;
use crate::store::AgentStore;

/// A commit is due at this many events …
const COMMIT_EVENTS_MAX: usize = 10;
/// … or this long after the last one, whichever is first: at most five waits for the disk a second when little happens.
const COMMIT_INTERVAL: Duration = Duration::from_millis(200);
/// After a commit that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Requests on their way to this thread: every waiting event, and some acks and batches.
const REQUESTS_MAX: usize = UNSTORED_EVENTS_MAX as usize + 512;

/// A request to the recorder.
#[derive(Debug)]
pub enum Request {
    /// See [`crate::node::Effect::Store`].
    Store(NewEvent),
    /// See [`crate::node::Effect::Acked`].
    Acked(Boot, u64),
    /// See [`crate::node::Effect::Send`].
    Send(Send),
    /// Keep what this node stands by for: see [`AgentStore::keep_standby`].
    Standby(Box<Memory>),
    /// Keep this for a person to see: see [`AgentStore::dead_letter`].
    DeadLetter {
        /// Why it could not be sent.
        reason: String,
        /// What it was.
        bytes: Vec<u8>,
    },
}

/// The handle on the thread.
pub struct Recorder {
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<AgentStore>>,
    problems: Arc<Mutex<Problems>>,
}

/// What is wrong, in a sentence each.
#[derive(Debug, Default)]
struct Problems {
    /// What the disk refuses now.
    now: Option<String>,
    /// What was lost since the store was opened.
    lasting: Vec<String>,
}

/// Where batches go.
pub struct Outlet {
    /// The connection.
    pub link: Link,
    /// The site.
    pub site: SiteId,
    /// This node.
    pub node: NodeId,
    /// Signs batches, where the device is enrolled.
    pub signer: Option<Arc<Signer>>,
}

impl Recorder {
    /// Starts the thread. `answer` is called from it with [`Input::Stored`] and [`Input::SendRefused`].
    pub fn start(
        store: AgentStore,
        outlet: Outlet,
        answer: impl Fn(Input) + std::marker::Send + 'static,
    ) -> std::io::Result<Recorder> {
        let (requests, received) = sync_channel(REQUESTS_MAX);
        let problems = Arc::new(Mutex::new(Problems { now: None, lasting: store.problems().to_vec() }));
        let topic = Topic::Events(outlet.node);
        let mut work = Work {
            store,
            link: outlet.link,
            text: topic.render(&outlet.site),
            topic,
            signer: outlet.signer,
            answer: Box::new(answer),
            problems: Arc::clone(&problems),
            waiting: Vec::new(),
            commit_due: Instant::now(),
            failing: false,
        };
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(move || {
            work.run(&received);
            work.store
        })?;
        Ok(Recorder { requests: Some(requests), thread: Some(thread), problems })
    }

    /// Hands a request over. Waits only when the disk has been stuck for longer than its queue lasts.
    pub fn request(&self, request: Request) {
        let requests = self.requests.as_ref().expect("requests end only when the recorder is dropped");
        // The thread ends only after this sender is gone.
        let _ = requests.send(request);
    }

    /// What is wrong with the disk, in a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let said = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        said.now.iter().chain(&said.lasting).cloned().collect()
    }

    /// Commits what waits, ends the thread and gives the store back.
    pub fn finish(mut self) -> Option<AgentStore> {
        self.requests = None;
        self.thread.take().and_then(|thread| thread.join().ok())
    }
}

struct Work {
    store: AgentStore,
    link: Link,
    topic: Topic,
    text: String,
    signer: Option<Arc<Signer>>,
    answer: Box<dyn Fn(Input) + std::marker::Send>,
    problems: Arc<Mutex<Problems>>,
    waiting: Vec<NewEvent>,
    commit_due: Instant,
    /// The last call into the store failed: it must be opened again, whether events wait or not.
    failing: bool,
}

impl Work {
    fn run(&mut self, received: &Receiver<Request>) {
        loop {
            let request = if self.waiting.is_empty() && !self.failing {
                received.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                received.recv_timeout(self.commit_due.saturating_duration_since(Instant::now()))
            };
            match request {
                Ok(Request::Store(event)) => self.waiting.push(event),
                Ok(Request::Acked(boot, upto)) => {
                    if let Err(error) = self.store.acked(boot, upto) {
                        self.failed(&error);
                    }
                }
                Ok(Request::Send(send)) => self.send(send),
                Ok(Request::Standby(memory)) => {
                    if let Err(error) = self.store.keep_standby(&memory) {
                        // It is told again on the next change, and by the coordinator after a restart.
                        tracing::warn!("what to stand by for is not kept over a restart: {error}");
                    }
                }
                Ok(Request::DeadLetter { reason, bytes }) => {
                    tracing::warn!("{reason}; it is kept: picket-agent store export --dead-letters");
                    if let Err(error) = self.store.dead_letter(unix_s(), &reason, &bytes) {
                        // It is for a person to see, and not worth holding up events for.
                        tracing::error!("it is not kept: {error}");
                        self.failed(&error);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    if !self.waiting.is_empty() {
                        self.commit();
                    }
                    return;
                }
            }
            let full = self.waiting.len() >= COMMIT_EVENTS_MAX && !self.failing;
            let something_to_do = self.failing || !self.waiting.is_empty();
            if something_to_do && (full || Instant::now() >= self.commit_due) {
                self.commit();
            }
        }
    }

    fn commit(&mut self) {
        let opened = if self.failing { self.store.reopen() } else { Ok(()) };
        match opened.and_then(|()| self.store.append(unix_s(), &self.waiting)) {
            Ok(given_up) => {
                self.failing = false;
                self.commit_due = Instant::now() + COMMIT_INTERVAL;
                self.report(None);
                for (boot, gap) in given_up {
                    (self.answer)(Input::Lost(boot, gap));
                }
                let mut waiting = self.waiting.drain(..).peekable();
                while let Some(event) = waiting.next() {
                    if waiting.peek().is_none_or(|next| next.boot != event.boot) {
                        (self.answer)(Input::Stored(event.boot, event.seq));
                    }
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &StoreError) {
        self.failing = true;
        self.commit_due = Instant::now() + RETRY_AFTER;
        self.report(Some(format!("{} events wait to be stored: {error}", self.waiting.len())));
    }

    fn send(&mut self, send: Send) {
        assert!(send.count as usize <= BATCH_EVENTS_MAX, "the outbox keeps to the batch's bound");
        let events: Vec<_> = match self.store.read(send.boot, send.first, send.count) {
            Ok(events) => events.into_iter().map(ByteBuf::from).collect(),
            Err(error) => return self.failed(&error),
        };
        if events.is_empty() && send.gap.is_none() {
            // The store has given them up since the core asked; the core hears of it before it asks again.
            return;
        }
        let batch = EventBatch { boot: send.boot, base: send.base, first: send.first, events, gap: send.gap };
        let bytes = match codec::encode(&batch) {
            Ok(bytes) => bytes,
            // The disk answers, and not with what was put there: the outbox will ask again, and this will be said again.
            Err(error) => return tracing::error!("boot {} from event {}: {error}", send.boot, send.first),
        };
        let bytes = self.signer.iter().fold(bytes, |bytes, signer| signer.sign(&self.topic, bytes, unix_s()));
        if self.link.publish(&self.text, bytes, false, true).is_err() {
            (self.answer)(Input::SendRefused(send));
        }
    }

    fn report(&self, problem: Option<String>) {
        let mut said = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if said.lasting.len() != self.store.problems().len() {
            said.lasting = self.store.problems().to_vec();
        }
        if said.now != problem {
            match &problem {
                Some(sentence) => tracing::error!("{sentence}"),
                None => tracing::info!("the disk takes events again"),
            }
            said.now = problem;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Config;
    use picket_shared::event::Class;
    use picket_shared::mqtt::{self, LinkOptions};

    const WITHIN: Duration = Duration::from_secs(20);

    fn recorder(store: AgentStore) -> (Recorder, std::sync::mpsc::Receiver<Input>) {
        let (link, _) = mqtt::open(LinkOptions {
            broker: "mqtt://127.0.0.1:9".to_owned().try_into().unwrap(),
            client_id: "recorder".into(),
            will: None,
            filters: vec![],
            payload_bytes_max: 0,
            tls: None,
        });
        let outlet = Outlet { link, site: "site".parse().unwrap(), node: "n1".parse().unwrap(), signer: None };
        let (answer, answers) = std::sync::mpsc::channel();
        (Recorder::start(store, outlet, move |input| drop(answer.send(input))).unwrap(), answers)
    }

    fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + WITHIN;
        while !is_so() {
            assert!(Instant::now() < deadline, "waited for {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[tokio::test]
    async fn a_store_that_failed_is_opened_again_though_no_event_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let (mut store, found) = AgentStore::open(&path, &Config::default(), 1, 0).unwrap();
        let event = |seq| NewEvent { boot: found.boot, seq, class: Class::Confirmed, bytes: vec![1] };
        store.append(1, &(1..=5).map(event).collect::<Vec<_>>()).unwrap();
        store.break_down();
        let (recorder, answers) = recorder(store);
        recorder.request(Request::Acked(found.boot, 3));
        wait_for("the problem", || !recorder.problems().is_empty());
        wait_for("its end", || recorder.problems().is_empty());
        // It works as before.
        recorder.request(Request::Acked(found.boot, 4));
        recorder.request(Request::Store(event(6)));
        assert!(matches!(answers.recv_timeout(WITHIN), Ok(Input::Stored(boot, 6)) if boot == found.boot));
        recorder.request(Request::DeadLetter { reason: "too large".into(), bytes: vec![1, 2] });
        let store = recorder.finish().unwrap();
        assert_eq!(store.dead_letters().count(), 1);
        drop(store);
        let (_, again) = AgentStore::open(&path, &Config::default(), 2, 0).unwrap();
        let lane = &again.lanes[0].1;
        assert_eq!((lane.acked, lane.stored, again.problems), (4, 6, vec![]));
    }
}
