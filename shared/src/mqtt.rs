//! The MQTT shell around rumqttc: connects, listens, publishes, and connects again with a jittered back-off, to the next broker
//! where there are several.
//!
//! Each connection is a fresh client, because rumqttc drops what it holds when a session is lost and can stall on what it
//! keeps. So "published" means "handed over" here and nothing more: who needs delivery waits for the receiver's own ack.
//! Packet limits are explicit both ways: an oversize message is refused before it is sent, and one that comes in is cut to
//! where its reader refuses and counts it. So nothing is dropped here without a word. This file decides nothing about what
//! is said, nor which broker is used: that is `brokers.rs`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Packet, QoS, StateError, SubscribeFilter,
    TlsConfiguration, TlsError as TlsFailure, Transport,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use crate::brokers::BrokerUrl;
use crate::brokers::{Choice, LOOK_BACK};
use crate::limits::{KEEP_ALIVE_MS, MQTT_RECEIVED_MAX, MQTT_REQUESTS_MAX, PACKET_BYTES_MAX};
use crate::trust::tls::{self, TlsFiles};

/// Largest packet that is taken off the wire. The client must end the connection over a larger one, and over a retained one
/// again on every connection; so this is far above what anybody of us sends, and what lies between is read and cut. A broker
/// with `firmware-configs/mosquitto/mosquitto.conf` lets nothing of that size in.
pub const RECEIVED_PACKET_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A packet's bytes beside topic and payload: fixed header, lengths, packet id.
const PACKET_OVERHEAD_BYTES_MAX: usize = 16;
/// What an earlier broker is given to answer, and one that is left to hear of it.
const BRIEF: Duration = Duration::from_secs(2);
/// A half-open link is noticed by the broker after about one and a half of these.
const KEEP_ALIVE: Duration = Duration::from_millis(KEEP_ALIVE_MS);

/// Who connects where, and what the broker says when they are gone.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// Where.
    pub broker: BrokerUrl,
    /// Who: unique at the broker, or the two throw each other out.
    pub client_id: String,
    /// Topic and payload of the retained message that the broker publishes for a client that is lost.
    pub will: Option<Will>,
    /// Topic filters, subscribed at quality of service 1 on every connection.
    pub filters: Vec<String>,
    /// The most that any message of these filters may have. A longer one arrives cut to one byte more, so that its reader
    /// refuses it as too large, and a flood of them finds no memory.
    pub payload_bytes_max: usize,
    /// What a connection by TLS is made with. The files are read at each connection, so that a renewed certificate needs no
    /// restart.
    pub tls: Option<TlsFiles>,
}

/// Makes the message that the broker publishes for a client that is lost: its topic and payload. Each connection has one of
/// its own, because a signed one says which connection it is of.
#[derive(Clone)]
pub struct Will(Arc<dyn Fn() -> (String, Vec<u8>) + Send + Sync>);

impl Will {
    /// One that is made by this, just before a connection.
    pub fn new(make: impl Fn() -> (String, Vec<u8>) + Send + Sync + 'static) -> Will {
        Will(Arc::new(make))
    }
}

impl std::fmt::Debug for Will {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Will")
    }
}

/// What happens on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// Connected to this broker, and the subscriptions are on their way: everything that was published before may be lost.
    Up(BrokerUrl),
    /// No connection, with the reason. Said again at each failed attempt.
    Down(String),
    /// A message arrived.
    Message {
        /// Its topic.
        topic: String,
        /// Its bytes; one more than [`LinkOptions::payload_bytes_max`] where there were more.
        payload: Vec<u8>,
    },
}

/// Why a message was not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// There is no connection now.
    #[error("there is no connection to the broker")]
    Offline,
    /// The client's queue is full; try again soon.
    #[error("the client's queue is full")]
    Busy,
    /// The message exceeds the packet limit and is never sent.
    #[error("the message exceeds {PACKET_BYTES_MAX} bytes")]
    TooLarge,
}

/// The sending half of a link.
#[derive(Clone, Default)]
pub struct Link {
    client: Arc<Mutex<Option<AsyncClient>>>,
    /// Filters beside those that the link was opened with; they change while it lives.
    more: Arc<Mutex<BTreeSet<String>>>,
    /// Those that it was opened with.
    always: Arc<[String]>,
}

impl Link {
    /// Hands a message to the client at quality of service 1, or 0 where `at_most_once`. Never waits.
    pub fn publish(&self, topic: &str, payload: Vec<u8>, retain: bool, at_most_once: bool) -> Result<(), PublishError> {
        if topic.len() + payload.len() + PACKET_OVERHEAD_BYTES_MAX > PACKET_BYTES_MAX {
            return Err(PublishError::TooLarge);
        }
        let qos = if at_most_once { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let client = client.as_ref().ok_or(PublishError::Offline)?;
        client.try_publish(topic, qos, retain, payload).map_err(|_| PublishError::Busy)
    }

    /// Listens to these filters too, and no more to those that an earlier call named and this one does not. They outlive a
    /// connection. Their number must stay below what one packet holds.
    pub fn listen(&self, filters: BTreeSet<String>) {
        let mut more = self.more.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *more, filters);
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a connection, the next one begins with all of them; so it does where this one has no room for the request.
        let Some(client) = client.as_ref() else { return };
        let new = subscriptions(more.difference(&before));
        let taken = new.is_empty() || client.try_subscribe_many(new).is_ok();
        let gone = before.difference(&more).all(|filter| client.try_unsubscribe(filter).is_ok());
        if !taken || !gone {
            let _ = client.try_disconnect();
        }
    }

    /// Hears again all that is retained under every filter: what was refused before may be taken now.
    pub fn hear_again(&self) {
        let more = self.more.lock().unwrap_or_else(PoisonError::into_inner);
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(client) = client.as_ref() else { return };
        if client.try_subscribe_many(subscriptions(self.always.iter().chain(more.iter()))).is_err() {
            // The next connection hears all of it.
            let _ = client.try_disconnect();
        }
    }

    /// Tells the broker goodbye, so that no will is sent. Publish the last words first.
    pub fn close(&self) {
        if let Some(client) = self.client.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            let _ = client.try_disconnect();
        }
    }

    /// Whether there is a connection.
    pub fn is_up(&self) -> bool {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn set(&self, client: Option<AsyncClient>) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }
}

/// Starts a link to one broker on the current tokio runtime. It lives until the receiver is dropped.
pub fn open(options: LinkOptions) -> (Link, mpsc::Receiver<LinkEvent>) {
    open_any(options, Vec::new())
}

/// Starts a link that has other brokers to go to, in this order, where that of `options` cannot be reached; see
/// [`crate::brokers`]. It lives until the receiver is dropped.
pub fn open_any(options: LinkOptions, fallback: Vec<BrokerUrl>) -> (Link, mpsc::Receiver<LinkEvent>) {
    let link = Link { always: options.filters.clone().into(), ..Link::default() };
    let (events, received) = mpsc::channel(MQTT_RECEIVED_MAX);
    tokio::spawn(run(options, fallback, link.clone(), events));
    (link, received)
}

async fn run(mut options: LinkOptions, fallback: Vec<BrokerUrl>, link: Link, events: mpsc::Sender<LinkEvent>) {
    let brokers: Vec<BrokerUrl> = std::iter::once(options.broker.clone()).chain(fallback).collect();
    let (mut choice, began) = (Choice::new(brokers.len()), Instant::now());
    let mut oversize = 0;
    while !events.is_closed() {
        options.broker = brokers[choice.at()].clone();
        let mut up = None;
        let ended = {
            let connection = run_once(&options, &link, &events, &mut oversize, &mut up);
            tokio::pin!(connection);
            tokio::select! {
                reason = &mut connection => Err(reason),
                () = look_back(&options, &brokers, &link, began, &mut choice) => {
                    // Without its goodbye the broker that is left would send the will.
                    link.close();
                    let _ = tokio::time::timeout(BRIEF, &mut connection).await;
                    Ok(())
                }
            }
        };
        link.set(None);
        let (reason, wait) = match ended {
            Ok(()) => {
                (format!("the broker {} answers again and is used from here on", brokers[choice.at()]), Duration::ZERO)
            }
            Err(reason) => (reason, choice.ended(up.map(|up: Instant| up.elapsed()), fastrand::f64())),
        };
        if events.send(LinkEvent::Down(reason)).await.is_err() {
            return;
        }
        tokio::time::sleep(wait).await;
    }
}

/// Returns when an earlier broker than the one in use has answered for long enough; never, where there is none.
async fn look_back(options: &LinkOptions, brokers: &[BrokerUrl], link: &Link, began: Instant, choice: &mut Choice) {
    loop {
        tokio::time::sleep(LOOK_BACK.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        // Who has no connection goes round the list anyway.
        let before = if link.is_up() { choice.at() } else { 0 };
        for (earlier, broker) in brokers[..before].iter().enumerate() {
            let answers = answers(options, broker).await;
            if choice.looked(began.elapsed().as_millis() as u64, earlier, answers) {
                return;
            }
        }
    }
}

/// Whether a broker takes a connection now, under a name of its own: the link's would throw out whoever has it there.
async fn answers(options: &LinkOptions, broker: &BrokerUrl) -> bool {
    let client_id = format!("{}-look", options.client_id);
    let to = LinkOptions { broker: broker.clone(), client_id, will: None, ..options.clone() };
    let Ok((client, mut eventloop)) = connect(&to) else { return false };
    let taken = async {
        loop {
            match eventloop.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    };
    let taken = tokio::time::timeout(BRIEF, taken).await.unwrap_or(false);
    if taken && client.try_disconnect().is_ok() {
        let gone = async { while eventloop.poll().await.is_ok() {} };
        let _ = tokio::time::timeout(BRIEF, gone).await;
    }
    taken
}

/// One connection, from the attempt to its end; the reason is returned. Counts messages that were too large, and notes when
/// the broker took it.
async fn run_once(
    options: &LinkOptions,
    link: &Link,
    events: &mpsc::Sender<LinkEvent>,
    oversize: &mut u64,
    up: &mut Option<Instant>,
) -> String {
    let (client, mut eventloop) = match connect(options) {
        Ok(connecting) => connecting,
        Err(sentence) => return sentence,
    };
    loop {
        let packet = match eventloop.poll().await {
            Ok(Event::Incoming(packet)) => packet,
            Ok(Event::Outgoing(_)) => continue,
            Err(error) => return said(options, up.is_some(), &error),
        };
        let event = match packet {
            Packet::ConnAck(_) => {
                // Held until the client is set, lest a filter that is added meanwhile be neither here nor there.
                let more = link.more.lock().unwrap_or_else(PoisonError::into_inner);
                let filters = subscriptions(options.filters.iter().chain(more.iter()));
                // Who listens to nothing asks for nothing: an empty request is refused.
                if !filters.is_empty() && client.try_subscribe_many(filters).is_err() {
                    return "the client's queue has no room for its first request".into();
                }
                *up = Some(Instant::now());
                link.set(Some(client.clone()));
                drop(more);
                LinkEvent::Up(options.broker.clone())
            }
            Packet::SubAck(ack) if ack.return_codes.contains(&rumqttc::SubscribeReasonCode::Failure) => {
                let LinkOptions { broker, client_id, filters, .. } = options;
                let filters = filters.join(", ");
                return format!("the broker {broker} lets {client_id} not listen to {filters}; check its access rules");
            }
            Packet::Publish(publish) => received(options, publish, oversize),
            Packet::Disconnect => return "the broker closed the connection".into(),
            _ => continue,
        };
        if events.send(event).await.is_err() {
            return "nobody listens any more".into();
        }
    }
}

fn subscriptions<'a>(filters: impl Iterator<Item = &'a String>) -> Vec<SubscribeFilter> {
    filters.map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce)).collect()
}

fn received(options: &LinkOptions, publish: rumqttc::Publish, oversize: &mut u64) -> LinkEvent {
    let (topic, bytes, max) = (publish.topic, publish.payload.len(), options.payload_bytes_max);
    if bytes > max {
        *oversize += 1;
        // A flood of them must not become a flood of log lines.
        if oversize.is_power_of_two() {
            tracing::warn!(
                "a message of {bytes} bytes on {topic} is refused ({oversize} so far): at most {max} can be right"
            );
        }
    }
    LinkEvent::Message { topic, payload: publish.payload[..bytes.min(max + 1)].to_vec() }
}

/// A client on its way; the error is a sentence.
fn connect(options: &LinkOptions) -> Result<(AsyncClient, EventLoop), String> {
    let mut mqtt = MqttOptions::new(&options.client_id, &options.broker.host, options.broker.port);
    mqtt.set_keep_alive(KEEP_ALIVE)
        .set_clean_session(true)
        .set_max_packet_size(RECEIVED_PACKET_BYTES_MAX, PACKET_BYTES_MAX);
    if let Some(Will(make)) = &options.will {
        let (topic, payload) = make();
        mqtt.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, true));
    }
    if options.broker.tls {
        let config = client_config(&options.broker, options.tls.as_ref())?;
        mqtt.set_transport(Transport::Tls(TlsConfiguration::Rustls(config)));
    }
    let (client, mut eventloop) = AsyncClient::new(mqtt, MQTT_REQUESTS_MAX);
    let mut network = rumqttc::NetworkOptions::new();
    network.set_connection_timeout(5);
    network.set_tcp_nodelay(true);
    eventloop.set_network_options(network);
    Ok((client, eventloop))
}

/// Connects to a broker by TLS and says nothing: whether both sides take each other's certificates. The error is a sentence.
pub async fn shake_hands(broker: &BrokerUrl, files: Option<&TlsFiles>) -> Result<(), String> {
    let config = client_config(broker, files)?;
    let io = |error: std::io::Error| match tls::within(&error).and_then(tls::meaning) {
        Some(clause) => format!("the broker {broker} {clause}"),
        None => format!("the broker {broker} cannot be reached by TLS ({error}); check the address and the port"),
    };
    match tls::shake_hands(&broker.host, broker.port, config).await {
        Ok(()) => Ok(()),
        Err(error) => Err(io(error)),
    }
}

fn client_config(broker: &BrokerUrl, files: Option<&TlsFiles>) -> Result<Arc<tls::ClientConfig>, String> {
    let files = files.ok_or_else(|| {
        format!(
            "the broker {broker} wants certificates and there are none; enrol this device, or name them in [mqtt.tls]"
        )
    })?;
    tls::client(files).map_err(|error| format!("the broker {broker} is not connected to: {error}"))
}

/// What was wrong with the certificates, where that is why a connection ended. With TLS 1.3 a client hears of a refusal only
/// after it takes the connection for made, so it may come as any error.
fn of_tls(error: &ConnectionError) -> Option<&'static str> {
    match error {
        ConnectionError::Tls(TlsFailure::TLS(error)) => tls::meaning(error),
        ConnectionError::Tls(TlsFailure::DNSName(_)) => {
            Some("has a host name that no certificate can have; correct it")
        }
        ConnectionError::Tls(TlsFailure::Io(error))
        | ConnectionError::Io(error)
        | ConnectionError::MqttState(StateError::Io(error) | StateError::Deserialization(rumqttc::Error::Io(error))) => {
            tls::meaning(tls::within(error)?)
        }
        _ => None,
    }
}

/// Why a connection ended, or did not begin, in a sentence with what to do.
fn said(options: &LinkOptions, up: bool, error: &ConnectionError) -> String {
    let LinkOptions { broker, client_id, .. } = options;
    if let Some(clause) = of_tls(error) {
        return format!("the broker {broker} {clause}");
    }
    match error {
        ConnectionError::Tls(TlsFailure::Io(io)) => {
            format!("the broker {broker} does not speak TLS with us ({io}); check the port, and the broker's log")
        }
        ConnectionError::MqttState(StateError::Deserialization(rumqttc::Error::PayloadSizeLimitExceeded(bytes))) => {
            format!(
                "the broker {broker} sent a message of {bytes} bytes, and at most {RECEIVED_PACKET_BYTES_MAX} are taken; find who \
             publishes it, clear it if it is retained, and set max_packet_size in the broker's configuration"
            )
        }
        ConnectionError::MqttState(StateError::AwaitPingResp) | ConnectionError::FlushTimeout => {
            format!(
                "the broker {broker} answers no more, though the connection stands; it hangs, or the network is cut"
            )
        }
        ConnectionError::Io(_)
        | ConnectionError::MqttState(
            StateError::Io(_) | StateError::ConnectionAborted | StateError::Deserialization(rumqttc::Error::Io(_)),
        ) if up => {
            format!(
                "the broker {broker} closed the connection; it stopped, or it refuses what {client_id} does, or another \
                 client took that name"
            )
        }
        ConnectionError::Io(io) => {
            format!("the broker {broker} cannot be reached ({io}); check that it runs and that the address is right")
        }
        ConnectionError::ConnectionRefused(code) => {
            format!("the broker {broker} refuses this client ({code:?}); check its access rules and the client id")
        }
        ConnectionError::NetworkTimeout => {
            format!("the broker {broker} does not answer; check the address and any firewall")
        }
        other => format!("the connection to the broker {broker} ended ({other})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> LinkOptions {
        let broker = BrokerUrl { host: "hill".into(), port: 1883, tls: false };
        LinkOptions { broker, client_id: "me".into(), will: None, filters: vec![], payload_bytes_max: 10, tls: None }
    }

    #[test]
    fn a_message_that_is_too_large_arrives_one_byte_too_large_and_no_more() {
        let mut oversize = 0;
        for (bytes, arrives, counted) in [(0, 0, 0), (10, 10, 0), (11, 11, 1), (1_000_000, 11, 2)] {
            let publish = rumqttc::Publish::new("t", QoS::AtMostOnce, vec![7; bytes]);
            let LinkEvent::Message { payload, .. } = received(&options(), publish, &mut oversize) else { panic!() };
            assert_eq!((payload.len(), oversize), (arrives, counted), "{bytes} bytes");
        }
    }

    #[test]
    fn the_end_of_a_connection_is_told_apart_from_one_that_never_was() {
        let closed = || ConnectionError::MqttState(StateError::ConnectionAborted);
        let io = || ConnectionError::Io(std::io::ErrorKind::ConnectionRefused.into());
        let large = rumqttc::Error::PayloadSizeLimitExceeded(99_000_000);
        for (up, error, expect) in [
            (false, io(), "cannot be reached"),
            (true, io(), "another client took that name"),
            (true, closed(), "another client took that name"),
            (false, ConnectionError::NetworkTimeout, "does not answer"),
            (true, ConnectionError::FlushTimeout, "answers no more"),
            (true, ConnectionError::MqttState(StateError::AwaitPingResp), "answers no more"),
            (true, ConnectionError::MqttState(StateError::Deserialization(large)), "clear it if it is retained"),
        ] {
            let sentence = said(&options(), up, &error);
            assert!(sentence.contains(expect) && sentence.contains("mqtt://hill:1883"), "{sentence}");
        }
    }

    #[test]
    fn a_message_beyond_the_packet_limit_is_refused_before_it_is_sent() {
        let link = Link::default();
        assert_eq!(link.publish("t", vec![0; PACKET_BYTES_MAX], false, false), Err(PublishError::TooLarge));
        assert_eq!(link.publish("t", vec![0; 10], false, false), Err(PublishError::Offline));
    }
}
