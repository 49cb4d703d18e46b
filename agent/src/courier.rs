//! Drives the core of one agent: carries in what the connection, the disk and the clock report, and carries out what the
//! core asks for.
//!
//! It knows no camera and no detector: what only the frame path can say comes in through [`Watcher`]. So an agent without
//! cameras runs on exactly this shell. It decides nothing about delivery; that is `node.rs`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use picket_shared::audit::AuditLog;
use picket_shared::brokers;
use picket_shared::calendar::unix_ms;
use picket_shared::clock::Now;
use picket_shared::codec;
use picket_shared::event::Event;
use picket_shared::ids::{Boot, NodeId, RequestId};
use picket_shared::limits::{ROSTER_BYTES_MAX, STANDBY_BYTES_MAX, STATUS_BYTES_MAX};
use picket_shared::mqtt::{self, BrokerUrl, Link, LinkEvent, LinkOptions, PublishError};
use picket_shared::picture::PictureOrder;
use picket_shared::status::DetectorTwin;
use picket_shared::topics::Topic;
use picket_shared::trust::seal::SEAL_JSON_BYTES_MAX;
use tokio::sync::mpsc;

use crate::credentials::Credentials;
use crate::duty::Order;
use crate::gossip::Gossip;
use crate::learn::study::Study;
use crate::model::record::Record;
use crate::model::steward::Steward;
use crate::model::{self, Models, News};
use crate::node::{Effect, Facts, Identity, Input, ModelInput, Node};
use crate::platform::Platform;
use crate::privacy::{Clerk, Job};
use crate::recorder::{Outlet, Recorder, Request};
use crate::store::{AgentStore, Found};

mod notes;
mod route;
mod watched;

pub use route::Route;
use route::{filters, will};
use watched::Watched;

/// What the disk may take for the last events, and the broker to hear the last words.
const GOODBYE: Duration = Duration::from_millis(500);
/// How soon to offer the last words again that the client had no room for: its queue empties in a few milliseconds.
const BUSY_RETRY: Duration = Duration::from_millis(5);

/// Knows what the core cannot: how the device does.
pub trait Watcher {
    /// Everything for one heartbeat.
    fn facts(&mut self, recorder: &Recorder, node: &Node) -> Facts;

    /// Changes what this device watches, as far as it can.
    fn order(&mut self, _order: Order) -> Option<Input> {
        // Without cameras nothing can be covered, and so nothing is asked for.
        None
    }

    /// Hears that the cameras are watched with another model from here on, before anybody else does.
    fn switched(&mut self, _detector: &DetectorTwin) {}

    /// Hears that the store made this boot durable up to this sequence, before anybody else does.
    fn stored(&mut self, _boot: Boot, _upto: u64) {}
}

/// The core with everything that its effects need.
pub struct Courier<W> {
    /// How the device does.
    pub watcher: W,
    node: Node,
    me: NodeId,
    recorder: Recorder,
    route: Route,
    started: Instant,
    link: Link,
    link_events: mpsc::Receiver<LinkEvent>,
    answers: mpsc::UnboundedReceiver<Input>,
    /// Where answers come from.
    answer: mpsc::UnboundedSender<Input>,
    /// To which there is a connection.
    broker: Option<BrokerUrl>,
    effects: Vec<Effect>,
    /// Retained words that the client had no room for; the newest of each topic, so as many as a node has such topics.
    unsaid: BTreeMap<Topic, Vec<u8>>,
    /// What moves this node.
    platform: Platform,
    /// How neighbours are heard without a broker.
    gossip: Option<Gossip>,
    /// What it signs with, and checks others by.
    credentials: Credentials,
    /// Where it is written down which orders are followed.
    audit: Option<Arc<AuditLog>>,
    /// How far coordinators' audit logs reach, where it can be told who says so.
    watched: Option<Watched>,
    /// Who answers orders for pictures.
    clerk: Option<Clerk>,
    /// Who learns.
    study: Option<Study>,
    /// What one of these two says next, while the client has no room for it.
    word: Option<(Topic, Vec<u8>)>,
    /// The digest of each order that it was given last.
    followed: BTreeMap<&'static str, String>,
    /// Carries out what models ask for, where there are any.
    steward: Option<Steward>,
    /// What of models was made durable last.
    models: Record,
    /// Neighbours that are heard, and the blobs that are fetched: of a model, and of a learned head.
    heard: (Vec<Topic>, [Option<Topic>; 2]),
}

/// What is left of a courier that has stopped.
pub struct Finished<W> {
    /// The core, with its counters.
    pub node: Node,
    /// As it was given.
    pub watcher: W,
}

impl<W: Watcher> Courier<W> {
    /// Starts the disk's thread and the connection, on the current tokio runtime. `started` is when the monotonic clock
    /// began.
    pub fn start(
        started: Instant,
        route: Route,
        identity: Identity,
        credentials: Credentials,
        (store, found): (AgentStore, Found),
        watcher: W,
    ) -> anyhow::Result<Self> {
        let (site, me) = (&route.site, &identity.node);
        let options = LinkOptions {
            broker: route.broker.clone(),
            client_id: format!("picket-{site}-{me}"),
            will: Some(will(site, &identity, &credentials)),
            filters: filters(site, me, &credentials),
            payload_bytes_max: STANDBY_BYTES_MAX.max(STATUS_BYTES_MAX).max(ROSTER_BYTES_MAX) + SEAL_JSON_BYTES_MAX,
            tls: route.tls.clone(),
        };
        let (link, link_events) = mqtt::open_any(options, route.fallback.clone());
        // Not bounded by itself: the recorder answers each of its bounded requests at most once.
        let (answer, answers) = mpsc::unbounded_channel();
        let recorded = answer.clone();
        let signer = credentials.signer.clone();
        let outlet = Outlet { link: link.clone(), site: site.clone(), node: me.clone(), signer };
        let recorder =
            Recorder::start(store, outlet, move |input| drop(recorded.send(input))).context("the recorder's thread")?;
        let me = me.clone();
        let mut courier = Courier {
            watcher,
            me,
            node: Node::new(now(started), identity, found.lanes),
            recorder,
            route,
            started,
            link,
            link_events,
            answers,
            answer,
            broker: None,
            effects: Vec::new(),
            unsaid: BTreeMap::new(),
            platform: Platform::default(),
            gossip: None,
            credentials,
            audit: None,
            watched: None,
            clerk: None,
            study: None,
            word: None,
            followed: BTreeMap::new(),
            steward: None,
            models: Record::default(),
            heard: (Vec::new(), [None, None]),
        };
        if let Some(memory) = found.standby {
            courier.step(Input::Recalled(Box::new(memory)));
        }
        Ok(courier)
    }

    /// Says heartbeats to the neighbours themselves too, and hears theirs.
    pub fn speaks_with_neighbours(&mut self, gossip: Gossip) {
        self.node.speaks_with_neighbours();
        self.gossip = Some(gossip);
    }

    /// Takes models from who may assign them, and goes on with what an earlier run left: `recorded`, as its disk had it. `begin`
    /// starts what carries orders out; what that reports comes back to the core.
    pub fn runs_models(
        &mut self,
        models: Models,
        recorded: Record,
        begin: impl FnOnce(Box<dyn Fn(News) + Send + Sync>) -> io::Result<Steward>,
    ) -> io::Result<()> {
        let answer = self.answer.clone();
        let report = move |news| drop(answer.send(Input::Model(ModelInput::News(news))));
        self.steward = Some(begin(Box::new(report))?);
        self.models = recorded;
        // What could not be loaded at this start was given up before there was anybody to write it down.
        self.note_models(models.record());
        self.step(Input::Model(ModelInput::Begin(Box::new(models))));
        self.step(Input::Model(ModelInput::OrdersBy(self.credentials.orders())));
        Ok(())
    }

    /// Has this platform told to go and to leave.
    pub fn carried_by(&mut self, platform: Platform) {
        self.platform = platform;
    }

    /// Writes down which orders are followed, tells others how far that log reaches, and remembers below this data directory how
    /// far coordinators' logs do.
    pub fn audited_by(&mut self, audit: Arc<AuditLog>, data_dir: &Path) {
        self.watched = self.credentials.takes_orders().then(|| Watched::open(data_dir, Arc::clone(&audit)));
        self.audit = Some(audit);
    }

    /// Has orders for pictures answered.
    pub fn answered_by(&mut self, clerk: Clerk) {
        self.clerk = Some(clerk);
    }

    /// Learns with the others of the site.
    pub fn learns(&mut self, study: Study) {
        self.study = Some(study);
        self.listen();
    }

    /// The core.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Whether there is a connection to a broker.
    pub fn is_online(&self) -> bool {
        self.broker.is_some()
    }

    /// Datagrams of neighbours that were refused.
    pub fn gossip_refused(&self) -> u64 {
        self.gossip.iter().flat_map(Gossip::refused).map(|(_, count)| count).sum()
    }

    /// Waits for the next thing that concerns the core, and lets it act. Nothing is lost where this is not awaited to its
    /// end.
    pub async fn turn(&mut self) -> anyhow::Result<()> {
        let wakeup = self.started + Duration::from_millis(self.node.next_wakeup_ms());
        let input = tokio::select! {
            event = self.link_events.recv() => match event {
                Some(event) => self.of_link(event),
                None => anyhow::bail!("the connection's task ended"),
            },
            Some(input) = self.answers.recv() => Some(input),
            Some((node, beat)) = heard(&mut self.gossip) => Some(Input::Neighbour(node, beat)),
            Some(word) = answered(&mut self.clerk, &mut self.study), if self.word.is_none() => {
                self.word = Some(word);
                self.say_word();
                return Ok(());
            }
            () = tokio::time::sleep(BUSY_RETRY), if self.word.is_some() => {
                self.say_word();
                return Ok(());
            }
            () = tokio::time::sleep_until(wakeup.into()) => None,
        };
        self.step(input.unwrap_or(Input::Tick));
        Ok(())
    }

    /// Gives the core an event to keep and to tell.
    pub fn observed(&mut self, event: Event) {
        self.step(Input::Observed(Box::new(event)));
    }

    /// Gives the core news of its own device.
    pub fn news(&mut self, news: Vec<Input>) {
        news.into_iter().for_each(|input| self.step(input));
    }

    fn of_link(&mut self, event: LinkEvent) -> Option<Input> {
        match event {
            LinkEvent::Up(broker) => {
                tracing::info!("connected to {broker}");
                self.broker = Some(broker);
                self.platform.connected();
                self.study.iter().for_each(|study| study.online(true));
                Some(Input::LinkUp)
            }
            LinkEvent::Down(reason) => {
                tracing::warn!("{reason}; events are stored and sent later");
                self.broker = None;
                self.unsaid.clear();
                self.study.iter().for_each(|study| study.online(false));
                Some(Input::LinkDown)
            }
            LinkEvent::Message { topic, payload } => match Topic::parse(&self.route.site, &topic) {
                Ok(topic) => self.said(topic, payload),
                Err(error) => Some(Input::Refused("topic", error.to_string())),
            },
        }
    }

    /// What somebody says, if he may.
    fn said(&mut self, topic: Topic, payload: Vec<u8>) -> Option<Input> {
        if topic == Topic::Roster {
            return match self.credentials.roster(&payload) {
                Ok(true) => {
                    self.link.hear_again();
                    Some(Input::Model(ModelInput::OrdersBy(self.credentials.orders())))
                }
                Ok(false) => None,
                Err((reason, detail)) => Some(Input::Refused(reason, detail)),
            };
        }
        let taken = match &topic {
            // Somebody has cleared what was retained.
            _ if payload.is_empty() => Ok(payload),
            _ => self.credentials.open(&topic, &payload),
        };
        match (taken, topic) {
            (Ok(message), Topic::PictureOrder(_, id)) => self.picture_order(id, &message),
            (
                Ok(message),
                topic @ (Topic::LearnAck(_) | Topic::LearnLabels(_) | Topic::LearnHead(_) | Topic::LearnDelta(_)),
            ) => {
                self.study.iter().for_each(|study| study.hear(topic.clone(), message.clone()));
                None
            }
            (Ok(message), topic) => {
                self.note_order(&topic, &message);
                Some(Input::Message(topic, message))
            }
            (Err((reason, detail)), topic) => {
                if let Some(clerk) = self.clerk.as_ref().filter(|_| topic.is_order()) {
                    clerk.give(Job::Refused(reason, detail.clone()));
                }
                Some(Input::Refused(reason, detail))
            }
        }
    }

    /// An order for a picture that the coordinator signed.
    fn picture_order(&mut self, id: RequestId, message: &[u8]) -> Option<Input> {
        // Without an authority nobody can tell whose order it is, and it is not listened to; this is for whoever changes that.
        if !self.credentials.takes_orders() {
            return Some(Input::Refused("unsigned", "an order for a picture, and this device is not enrolled".into()));
        }
        match codec::decode::<PictureOrder>(message) {
            Ok(order) => {
                let job = Job::Order(id, Box::new(order), self.credentials.time_s());
                self.clerk.iter().for_each(|clerk| clerk.give(job.clone()));
                None
            }
            Err(error) => Some(Input::Refused(error.word(), format!("an order for a picture: {error}"))),
        }
    }

    /// Hands over what the clerk or the student says; what the client has no room for waits. Without a connection it is lost, and
    /// asked for, or said, again.
    fn say_word(&mut self) {
        let Some((topic, payload)) = self.word.take() else { return };
        let signed = self.credentials.sign(&topic, payload.clone());
        match self.link.publish(&topic.render(&self.route.site), signed, false, false) {
            Err(PublishError::Busy) => self.word = Some((topic, payload)),
            Ok(()) | Err(PublishError::Offline) => {}
            Err(error @ PublishError::TooLarge) => tracing::error!("{topic:?}: {error}"),
        }
    }

    fn step(&mut self, input: Input) {
        match &input {
            Input::Stored(boot, upto) => self.watcher.stored(*boot, *upto),
            Input::Model(ModelInput::News(News::Switched(twin))) => self.watcher.switched(twin),
            _ => {}
        }
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let mut effects = std::mem::take(&mut self.effects);
            self.node.step(now(self.started), input, &mut effects);
            for effect in effects.drain(..) {
                next = self.perform(effect).or(next);
            }
            self.effects = effects;
        }
        self.say_unsaid();
    }

    fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Store(event) => self.recorder.request(Request::Store(event)),
            Effect::Acked { boot, upto } => self.recorder.request(Request::Acked(boot, upto)),
            Effect::Send(send) => self.recorder.request(Request::Send(send)),
            // A retained word stands until the next one, so the newest must get there. It waits for its turn below.
            Effect::Publish(topic, payload) if topic.retained() => drop(self.unsaid.insert(topic, payload)),
            Effect::Publish(topic, payload) => {
                if let (Topic::Heartbeat(_), Some(gossip)) = (&topic, &self.gossip) {
                    gossip.say(&payload);
                }
                let text = topic.render(&self.route.site);
                let payload = self.credentials.sign(&topic, payload);
                if let Err(error) = self.link.publish(&text, payload, false, true) {
                    // Statistics are said anew at the next heartbeat.
                    tracing::debug!("{text}: {error}");
                }
            }
            Effect::Heartbeat => {
                let mut facts = self.watcher.facts(&self.recorder, &self.node);
                facts.broker = self.broker.as_ref().map(BrokerUrl::to_string);
                facts.problems.extend(
                    self.broker.as_ref().and_then(|broker| brokers::fallback_problem(&self.route.broker, broker)),
                );
                facts.problems.extend(self.platform.problems());
                facts.problems.extend(self.steward.as_ref().and_then(Steward::problem));
                facts.problems.extend(self.study.iter().flat_map(Study::problems));
                if let Some(status) = self.study.as_ref().map(Study::status) {
                    facts.learned = self.study.as_ref().and_then(Study::learned);
                    facts.learn = Some(status.stats());
                    facts.refused.extend(status.refused.into_iter().map(|(word, count)| (word.to_owned(), count)));
                }
                facts.refused.extend(self.platform.refused().map(|(word, count)| (word.to_owned(), count)));
                facts.audit = self.audit.as_ref().and_then(|audit| audit.head());
                facts.problems.extend(self.audit.iter().flat_map(|audit| audit.problems()));
                facts.problems.extend(self.watched.iter().flat_map(Watched::problems));
                let gossip = self.gossip.iter().flat_map(Gossip::refused);
                facts.refused.extend(gossip.map(|(word, count)| (word.to_owned(), count)));
                return Some(Input::Facts(Box::new(facts)));
            }
            Effect::Duty(Order::Listen(nodes)) => {
                let topics = nodes
                    .into_iter()
                    .flat_map(|node| [Topic::Health(node.clone()), Topic::Heartbeat(node.clone()), Topic::Duty(node)]);
                self.heard.0 = topics.collect();
                self.listen();
            }
            Effect::Model(model::Order::Listen(digest)) => {
                self.heard.1[0] = digest.map(Topic::Blob);
                self.listen();
            }
            Effect::Model(model::Order::ListenHead(digest)) => {
                self.heard.1[1] = digest.map(Topic::Blob);
                self.listen();
            }
            Effect::Model(model::Order::Learn(manifest, file)) => {
                self.study.iter().for_each(|study| study.release(manifest.clone(), file.clone()));
            }
            Effect::Model(order) => {
                if let model::Order::Keep(_, record, _) = &order {
                    self.note_models(record);
                }
                if let Some(steward) = &mut self.steward {
                    steward.order(order);
                }
            }
            Effect::Duty(Order::Remember(memory)) => self.recorder.request(Request::Standby(memory)),
            Effect::Duty(order @ (Order::Go(..) | Order::Leave(..))) => self.platform.order(unix_ms(), order),
            Effect::Duty(order) => return self.watcher.order(order),
            Effect::DeadLetter { reason, bytes } => {
                tracing::error!(reason, "an event can never be sent; it is kept as a dead letter");
                self.recorder.request(Request::DeadLetter { reason: reason.to_owned(), bytes });
            }
            // A flood of garbage must not become a flood of log lines.
            Effect::Reject { reason, detail, count } if count.is_power_of_two() => {
                tracing::warn!(reason, "refused ({count} so far): {detail}");
            }
            Effect::Reject { .. } => {}
        }
        None
    }

    fn listen(&self) {
        let topics =
            self.heard.0.iter().chain(self.heard.1.iter().flatten()).map(|topic| topic.render(&self.route.site));
        let learned = self.study.iter().flat_map(|_| Topic::learner_filters(&self.route.site, &self.me));
        self.link.listen(topics.chain(learned).collect());
    }

    /// Hands over what waits; what the client has no room for waits on.
    fn say_unsaid(&mut self) {
        let (link, site) = (&self.link, &self.route.site);
        let (topic, credentials) = (Topic::Platform(self.me.clone()), &self.credentials);
        self.platform.say(|order| {
            let order = serde_json::to_vec(order).expect("an order has string keys and no failing serialiser");
            let order = credentials.sign(&topic, order);
            link.publish(&topic.render(site), order, false, false).is_ok()
        });
        while let Some((topic, payload)) = self.unsaid.pop_first() {
            let text = topic.render(&self.route.site);
            match self.link.publish(&text, self.credentials.sign(&topic, payload.clone()), true, false) {
                Ok(()) => {}
                Err(PublishError::Busy) => {
                    self.unsaid.insert(topic, payload);
                    return;
                }
                // All of them are said anew on the next connection.
                Err(PublishError::Offline) => {}
                Err(error @ PublishError::TooLarge) => tracing::error!("{text}: {error}"),
            }
        }
    }

    /// Leaves where its platform was sent, makes durable what was observed last, and only then says goodbye.
    pub async fn finish(mut self) -> Finished<W> {
        if self.platform.leave_all(unix_ms()) {
            self.say_unsaid();
            self.platform.drain().await;
        }
        let deadline = tokio::time::Instant::now() + GOODBYE;
        while self.node.stored() < self.node.observed() {
            match tokio::time::timeout_at(deadline, self.answers.recv()).await {
                Ok(Some(input)) => self.step(input),
                Ok(None) | Err(_) => break,
            }
        }
        self.step(Input::Stop);
        let last_words = async {
            while !(self.unsaid.is_empty() && self.platform.is_said()) {
                tokio::time::sleep(BUSY_RETRY).await;
                self.say_unsaid();
            }
            self.link.close();
            while let Some(LinkEvent::Message { .. } | LinkEvent::Up(_)) = self.link_events.recv().await {}
        };
        let _ = tokio::time::timeout(GOODBYE, last_words).await;
        drop(self.steward);
        drop(self.study);
        drop(self.recorder.finish());
        Finished { node: self.node, watcher: self.watcher }
    }
}

/// The next heartbeat of a neighbour; never, where neighbours are not spoken with.
async fn heard(gossip: &mut Option<Gossip>) -> Option<(NodeId, Vec<u8>)> {
    match gossip {
        Some(gossip) => gossip.heard().await,
        None => std::future::pending().await,
    }
}

/// What the clerk or the student says next; never, where there is neither.
async fn answered(clerk: &mut Option<Clerk>, study: &mut Option<Study>) -> Option<(Topic, Vec<u8>)> {
    let clerk = async {
        match clerk {
            Some(clerk) => clerk.words.recv().await,
            None => std::future::pending().await,
        }
    };
    let study = async {
        match study {
            Some(study) => study.words.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        Some(word) = clerk => Some(word),
        Some(word) = study => Some(word),
        else => None,
    }
}

fn now(started: Instant) -> Now {
    Now { mono_ms: started.elapsed().as_millis() as u64, unix_ms: unix_ms() }
}

#[cfg(test)]
mod tests;
