//! A platform that speaks MAVLink: flown to a goal by a mission, and called back, over UDP.
//!
//! What is said is decided by `vehicle.rs`, which is pure; this file carries it over the socket. Only waypoints and what
//! starts and ends them are commanded, never a stick; a vehicle is armed only where the configuration says so. A serial
//! autopilot is reached through any MAVLink router. Messages are not signed: the link must be a trusted one.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mavlink::dialects::common::MavMessage;
use mavlink::{MavHeader, MavlinkReader};
use serde::Deserialize;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use super::orders::Task;

mod flight;
mod goal;
mod vehicle;
#[cfg(test)]
mod autopilot;
#[cfg(test)]
mod tests;

use vehicle::{OURS, SILENT_MS, Settings, Vehicle};

/// A datagram holds a few frames of at most 280 bytes.
const DATAGRAM_BYTES_MAX: usize = 2048;
/// How soon a socket that could not be opened is opened again.
const REOPEN: Duration = Duration::from_secs(5);

/// What a vehicle does when it may stay no longer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLeave {
    /// Returns to where it took off.
    #[default]
    Rtl,
    /// Stays where it is, until somebody else decides.
    Hold,
}

/// Where a vehicle is: `udpout:host:port` speaks first, `udpin:address:port` waits to be spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LinkUrl {
    /// Its host and port.
    Out(String),
    /// Our own address and port.
    In(SocketAddr),
}

impl TryFrom<String> for LinkUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wrong =
            || format!("the MAVLink address \"{text}\" is not of the form udpout:host:14550 or udpin:0.0.0.0:14550");
        if let Some(own) = text.strip_prefix("udpin:") {
            return own.parse().map(LinkUrl::In).map_err(|_| wrong());
        }
        let (host, port) = text.strip_prefix("udpout:").and_then(|to| to.rsplit_once(':')).ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| wrong())?;
        if host.is_empty() || host.contains(['/', ' ']) || port == 0 {
            return Err(wrong());
        }
        Ok(LinkUrl::Out(format!("{host}:{port}")))
    }
}

impl std::fmt::Display for LinkUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LinkUrl::Out(to) => write!(f, "udpout:{to}"),
            LinkUrl::In(own) => write!(f, "udpin:{own}"),
        }
    }
}

struct Cockpit {
    vehicle: Vehicle,
    /// To be sent.
    out: Vec<MavMessage>,
    /// Why there is no socket.
    socket_problem: Option<String>,
}

struct Shared {
    cockpit: Mutex<Cockpit>,
    ordered: Notify,
    began: Instant,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Cockpit> {
        self.cockpit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}

/// Flies one vehicle.
pub struct Pilot {
    shared: Arc<Shared>,
    name: String,
    task: tokio::task::JoinHandle<()>,
}

impl Pilot {
    /// Opens the link, on the current tokio runtime.
    pub fn start(link: LinkUrl, vehicle: u8, arm: bool, on_leave: OnLeave) -> Pilot {
        let name = format!("vehicle {vehicle} at {link}");
        let vehicle = Vehicle::new(0, Settings { vehicle, arm, on_leave });
        let cockpit = Cockpit { vehicle, out: Vec::new(), socket_problem: None };
        let (cockpit, ordered, began) = (Mutex::new(cockpit), Notify::new(), Instant::now());
        let shared = Arc::new(Shared { cockpit, ordered, began });
        let task = tokio::spawn(fly(Arc::clone(&shared), link));
        Pilot { shared, name, task }
    }

    /// Gives the vehicle an order.
    pub fn order(&self, task: &Task) {
        let now_ms = self.shared.now_ms();
        let cockpit = &mut *self.shared.lock();
        cockpit.vehicle.order(now_ms, task, &mut cockpit.out);
        self.shared.ordered.notify_one();
    }

    /// What is wrong, in a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let cockpit = self.shared.lock();
        if let Some(problem) = &cockpit.socket_problem {
            return vec![problem.clone()];
        }
        let name = |what| format!("{} {what}", self.name);
        cockpit.vehicle.problems(self.shared.now_ms()).into_iter().map(name).collect()
    }

    /// Whether the vehicle was told all that was ordered.
    pub fn is_told(&self) -> bool {
        self.shared.lock().vehicle.is_told()
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn fly(shared: Arc<Shared>, link: LinkUrl) {
    loop {
        if let Err(error) = converse(&shared, &link).await {
            let sentence = format!("the MAVLink socket {link} cannot be used ({error}); check platform.mavlink");
            tracing::error!("{sentence}");
            shared.lock().socket_problem = Some(sentence);
        }
        tokio::time::sleep(REOPEN).await;
    }
}

/// Carries messages until the socket fails.
async fn converse(shared: &Shared, link: &LinkUrl) -> io::Result<()> {
    let socket = open(link).await?;
    shared.lock().socket_problem = None;
    let mut bytes = [0; DATAGRAM_BYTES_MAX];
    // Of one that waits to be spoken to: by whom, and when it was last.
    let mut peer: Option<(SocketAddr, u64)> = None;
    let mut sequence: u8 = 0;
    loop {
        let wakeup = shared.began + Duration::from_millis(shared.lock().vehicle.next_wakeup_ms());
        let received = tokio::select! {
            received = socket.recv_from(&mut bytes) => Some(received),
            () = shared.ordered.notified() => None,
            () = tokio::time::sleep_until(wakeup.into()) => None,
        };
        let now_ms = shared.now_ms();
        let out = {
            let cockpit = &mut *shared.lock();
            match received {
                Some(Ok((length, from))) if is_peer(&mut peer, from, now_ms) => {
                    let mut reader = MavlinkReader::new(&bytes[..length]);
                    while let Ok((header, message)) = reader.read_any_message::<MavMessage>() {
                        cockpit.vehicle.heard(now_ms, header, &message, &mut cockpit.out);
                    }
                }
                // Nobody listens there yet; that it is not heard is said elsewhere.
                Some(Err(error)) if error.kind() != io::ErrorKind::ConnectionRefused => return Err(error),
                _ => {}
            }
            cockpit.vehicle.tick(now_ms, &mut cockpit.out);
            std::mem::take(&mut cockpit.out)
        };
        for message in out {
            sequence = sequence.wrapping_add(1);
            let system_id = u32::from(shared.lock().vehicle.system());
            let header = MavHeader { system_id, component_id: OURS, sequence };
            let mut frame = Vec::new();
            mavlink::write_v2_msg(&mut frame, header, &message).map_err(io::Error::other)?;
            // What is lost is said again, as over any radio.
            let _ = match (link, peer) {
                (LinkUrl::Out(_), _) => socket.send(&frame).await,
                (LinkUrl::In(_), Some((peer, _))) => socket.send_to(&frame, peer).await,
                (LinkUrl::In(_), None) => Ok(0),
            };
        }
    }
}

async fn open(link: &LinkUrl) -> io::Result<UdpSocket> {
    match link {
        LinkUrl::In(own) => UdpSocket::bind(own).await,
        LinkUrl::Out(to) => {
            let to = tokio::net::lookup_host(to).await?.next().ok_or(io::ErrorKind::NotFound)?;
            let any: SocketAddr = match to {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let socket = UdpSocket::bind(any).await?;
            // From here on the kernel lets in nobody else.
            socket.connect(to).await?;
            Ok(socket)
        }
    }
}

/// Whether this is who we speak with: the first who spoke, until silence.
fn is_peer(peer: &mut Option<(SocketAddr, u64)>, from: SocketAddr, now_ms: u64) -> bool {
    match peer {
        Some((known, heard_ms)) if *known != from && now_ms < *heard_ms + SILENT_MS => false,
        _ => {
            *peer = Some((from, now_ms));
            true
        }
    }
}
