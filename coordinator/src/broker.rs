//! The embedded broker: rumqttd on the loopback, for one machine that has no broker of its own.
//!
//! It has no access rules and keeps nothing over a restart; a site of more than one machine runs a real broker. At most
//! 100 retained messages reach a new subscriber, so it is for tens of nodes and not for hundreds.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use picket_shared::exit::{Exit, Failure};
use picket_shared::limits::PACKET_BYTES_MAX;
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

use crate::config::loopback;
use crate::porch;

/// Clients at one time: nodes, pages and tools of one machine.
const CONNECTIONS_MAX: usize = 256;
/// A client that connects and says nothing is thrown out after this.
const CONNECT_TIMEOUT_MS: u16 = 5_000;
/// The broker answers this many milliseconds after its start at the latest; normally within two.
const START_MS_MAX: u32 = 5_000;
/// Packets buffered for each connection. rumqttd has 100 in flight whatever is set here.
const CONNECTION_PACKETS_MAX: usize = 100;
/// Packets that one client is given in one turn.
const TURN_PACKETS_MAX: u64 = 200;
/// Each topic filter keeps a log in memory for slow readers: eight segments of 1 MiB. Who falls behind further misses
/// messages, which for events the acks make good.
const SEGMENT_BYTES_MAX: usize = 1024 * 1024;
const SEGMENTS_MAX: usize = 8;

/// Makes sure that a port can be bound; the error names the key to change.
pub fn check_port(address: SocketAddr, key: &str) -> Result<(), Failure> {
    TcpListener::bind(address).map(drop).map_err(|error| port_failure(address, key, &error))
}

/// What is said of a port that cannot be bound.
pub fn port_failure(address: SocketAddr, key: &str, error: &std::io::Error) -> Failure {
    let sentence = format!(
        "the port {address} cannot be bound ({error}); stop the program that has it (`ss -ltnp` names it) or change {key}"
    );
    Failure::new(Exit::System, sentence)
}

/// Starts the broker in threads of its own, and on the current tokio runtime the porch before its WebSocket port. It runs until
/// the process ends: rumqttd knows no other end.
pub fn start(port: u16, websocket_port: u16) -> Result<(), Failure> {
    let tcp = SocketAddr::new(loopback(), port);
    let websocket = SocketAddr::new(loopback(), websocket_port);
    check_port(tcp, "mqtt.port or --mqtt-port")?;
    let key = "mqtt.websocket_port or --websocket-port";
    let porch = TcpListener::bind(websocket).and_then(|porch| {
        porch.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(porch)
    });
    let porch = porch.map_err(|error| port_failure(websocket, key, &error))?;
    let behind = free_port().map_err(|error| port_failure(websocket, key, &error))?;
    let mut broker = Broker::new(configuration(tcp, behind));
    let run = move || {
        if let Err(error) = broker.start() {
            tracing::error!("the embedded broker ended: {error}");
        }
    };
    std::thread::Builder::new()
        .name("broker".into())
        .spawn(run)
        .map_err(|error| Failure::new(Exit::System, format!("no thread for the embedded broker ({error})")))?;
    wait_for(tcp)?;
    tokio::spawn(porch::serve(porch, behind));
    tracing::warn!(
        "embedded broker on {tcp}, WebSocket on {websocket}: for this machine only, no access rules, nothing kept over a restart"
    );
    Ok(())
}

/// A port of this machine that nobody has now.
fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind(SocketAddr::new(loopback(), 0))?.local_addr()
}

/// Returns once the port answers, so that the first connection is not refused.
fn wait_for(address: SocketAddr) -> Result<(), Failure> {
    for _ in 0..START_MS_MAX {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let sentence = format!("the embedded broker does not answer on {address}; try another port, or a real broker");
    Err(Failure::new(Exit::System, sentence))
}

fn configuration(tcp: SocketAddr, websocket: SocketAddr) -> Config {
    let server = |name: &str, listen| ServerSettings {
        name: name.into(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: CONNECT_TIMEOUT_MS,
            max_payload_size: PACKET_BYTES_MAX,
            max_inflight_count: CONNECTION_PACKETS_MAX,
            auth: None,
            external_auth: None,
            dynamic_filters: false,
        },
    };
    Config {
        router: RouterConfig {
            max_connections: CONNECTIONS_MAX,
            max_outgoing_packet_count: TURN_PACKETS_MAX,
            max_segment_size: SEGMENT_BYTES_MAX,
            max_segment_count: SEGMENTS_MAX,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("tcp".into(), server("mqtt", tcp))])),
        ws: Some(HashMap::from([("websocket".into(), server("mqtt-websocket", websocket))])),
        ..Config::default()
    }
}
