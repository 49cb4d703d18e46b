//! Clients that take for ever (slowloris), at each port that listens: a request in drops. They take the places that one address
//! has and no more, somebody elsewhere is answered meanwhile, and all of them are shown out and counted.

use std::time::Duration;

use picket_coordinator::door::{CONNECTION_MAX, CONNECTIONS_OF_ONE_MAX};
use picket_shared::limits::PACKET_BYTES_MAX;
use picket_shared::mqtt::{self, LinkEvent, LinkOptions};
use picket_shared::trust::door::ENROL_PATH;
use picket_simulation::soak::site::free_port;
use picket_tests::{binary, sample_video, wait_for};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::forged::{Tap, refused_by_agent};
use super::knock::{posted, raw_from, shaken};
use super::rig::{Rig, WITHIN, page, start};

/// Far more than one address may have anywhere.
const SLOW: usize = 80;
const DROP: Duration = Duration::from_millis(500);

/// Says a byte of a request every half second, until it is shown out.
async fn drip(port: u16, request: &'static [u8]) {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    drip_on(stream, request).await;
}

async fn drip_on<S: AsyncRead + AsyncWrite>(stream: S, request: &'static [u8]) {
    let (mut read, mut write) = tokio::io::split(stream);
    let dripping = async {
        for byte in request.iter().cycle() {
            if write.write_all(&[*byte]).await.is_err() || write.flush().await.is_err() {
                return;
            }
            tokio::time::sleep(DROP).await;
        }
    };
    let mut answer = [0; 256];
    tokio::select! {
        () = dripping => {}
        _ = read.read(&mut answer) => {}
    }
}

/// Asks for a page from another address of this machine.
async fn ask_from_elsewhere(port: u16, path: &str) -> std::io::Result<String> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 2], 0).into())?;
    let mut stream = socket.connect(([127, 0, 0, 1], port).into()).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}

/// Where the agent's live view is, as its log says.
pub fn live_port(rig: &Rig) -> u16 {
    wait_for("the live view", WITHIN, || {
        let log = rig.log("edge");
        let rest = log.split_once("live view at http://127.0.0.1:")?.1;
        rest.split_once('/')?.0.parse().ok()
    })
}

#[test]
fn slow_clients_hold_no_port() {
    let rig = Rig::start();
    rig.device("edge");
    let mut tap = Tap::on(&rig);
    let _agent = rig.start_agent("edge", &["--source", sample_video().to_str().unwrap()]);
    let live = live_port(&rig);

    // Never a whole head: the header that begins does not end.
    let head =
        b"GET / HTTP/1.1\r\nHost: h\r\nX-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let mut slow = JoinSet::new();
    for port in [rig.http_port, live, rig.door_port] {
        (0..SLOW).for_each(|_| drop(slow.spawn_on(drip(port, head), rig.runtime.handle())));
    }
    std::thread::sleep(4 * DROP);
    let elsewhere = |port, path| rig.runtime.block_on(ask_from_elsewhere(port, path)).unwrap();
    let metrics = elsewhere(rig.http_port, "/metrics");
    assert!(metrics.contains("requests_refused_total{port=\"http\",reason=\"crowded\"}"), "{metrics}");
    assert!(metrics.contains("requests_refused_total{port=\"enrolment\",reason=\"crowded\"}"), "{metrics}");
    // Who has no token is answered too, and told so.
    assert!(elsewhere(live, "/").starts_with("HTTP/1.1 401"));
    // The door is spoken to by TLS: from elsewhere a handshake can be begun.
    assert!(!slow.is_empty(), "they are still at it");

    let all_gone = async { while slow.join_next().await.is_some() {} };
    rig.runtime.block_on(async { tokio::time::timeout(WITHIN, all_gone).await }).expect("all are shown out");
    wait_for("the slow ones to be counted at the page", WITHIN, || {
        (rig.metric("requests_refused_total{port=\"http\",reason=\"slow\"}") >= 32).then_some(())
    });
    wait_for("the slow ones to be counted at the live view", WITHIN, || {
        (refused_by_agent(&mut tap, "live_slow") >= 16 && refused_by_agent(&mut tap, "live_crowded") > 0).then_some(())
    });
    // At the door they speak no TLS, which is found out sooner.
    assert!(rig.metric("requests_refused_total{port=\"enrolment\",reason=\"no_tls\"}") > 0, "{}", rig.metrics());
    rig.device("late");
}

#[test]
fn who_dawdles_after_the_handshake_is_shown_out_of_the_door_too() {
    let rig = Rig::start();
    // A head that does not end; and a whole head, whose body does not come to its end.
    let head = b"POST /v1/enrol HTTP/1.1\r\nHost: door\r\nX-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let mut slow = JoinSet::new();
    for number in 0..CONNECTIONS_OF_ONE_MAX {
        let shaken = rig.runtime.block_on(shaken([127, 0, 0, 1], rig.door_port, rig.stranger()));
        let mut stream = shaken.expect("a place, and the handshake");
        let dawdle = async move {
            if number % 2 == 0 {
                return drip_on(stream, head).await;
            }
            let begun = b"POST /v1/enrol HTTP/1.1\r\nHost: door\r\nContent-Length: 4000\r\n\r\n{\"secret\": \"";
            let _ = stream.write_all(begun).await;
            drip_on(stream, b"0").await;
        };
        slow.spawn_on(dawdle, rig.runtime.handle());
    }
    // They have all the places of their address, and nobody else's.
    let ask = posted(ENROL_PATH, br#"{"secret": "00000000000000000000000000000000", "csr": ""}"#);
    let from = |address| rig.runtime.block_on(raw_from(address, rig.door_port, rig.stranger(), &ask));
    assert!(from([127, 0, 0, 1]).is_err(), "there is no place for another of that address");
    let answer = from([127, 0, 0, 2]).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let all_gone = async { while slow.join_next().await.is_some() {} };
    let within = CONNECTION_MAX + WITHIN;
    rig.runtime.block_on(async { tokio::time::timeout(within, all_gone).await }).expect("all are shown out");
    wait_for("each of them to be counted", WITHIN, || {
        let count = rig.metric("requests_refused_total{port=\"enrolment\",reason=\"slow\"}");
        (count >= CONNECTIONS_OF_ONE_MAX as u64).then_some(())
    });
    rig.device("late");
}

#[test]
fn slow_clients_hold_no_port_of_the_embedded_broker() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let [mqtt_port, websocket_port, http_port] = [(); 3].map(|()| free_port().unwrap());
    let ports = [("--mqtt-port", mqtt_port), ("--websocket-port", websocket_port), ("--http-port", http_port)];
    let ports = ports.into_iter().flat_map(|(flag, port)| [flag.to_owned(), port.to_string()]);
    let args = ["run".to_owned(), "--data-dir".into(), dir.path().join("data").to_str().unwrap().into()];
    let args = args.into_iter().chain(ports).map(Into::into);
    let _coordinator = start(dir.path(), "coordinator", binary("picket-coordinator"), args);
    let answers = |path| page(http_port, path, "").starts_with("HTTP/1.1 200").then_some(());
    wait_for("the coordinator at its own broker", WITHIN, || answers("/healthz"));

    // A connection of MQTT that never comes to its end, the same of a WebSocket, and many that say nothing at all.
    let connect = b"\x10\xff\xff\xff\x01\x00\x04MQTT\x04\x02\x00\x05\x00\x01";
    let upgrade =
        b"GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nX-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let mut slow = JoinSet::new();
    for _ in 0..SLOW {
        slow.spawn_on(drip(mqtt_port, connect), runtime.handle());
        slow.spawn_on(drip(websocket_port, upgrade), runtime.handle());
    }
    let silent = |port| (0..SLOW / 2).map(move |_| std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
    let _silent: Vec<_> = silent(mqtt_port).chain(silent(websocket_port)).collect();
    std::thread::sleep(4 * DROP);
    let _in = runtime.enter();
    let (link, mut events) = mqtt::open(LinkOptions {
        broker: format!("mqtt://127.0.0.1:{mqtt_port}").try_into().unwrap(),
        client_id: "somebody".into(),
        will: None,
        filters: vec!["word".into()],
        payload_bytes_max: PACKET_BYTES_MAX,
        tls: None,
    });
    let next = |events: &mut tokio::sync::mpsc::Receiver<LinkEvent>| {
        runtime.block_on(async { tokio::time::timeout(WITHIN, events.recv()).await }).expect("in time").unwrap()
    };
    let first = next(&mut events);
    assert!(matches!(first, LinkEvent::Up(_)), "{first:?}");
    wait_for("a word to come back", WITHIN, || {
        let _ = link.publish("word", b"hello".to_vec(), false, false);
        matches!(next(&mut events), LinkEvent::Message { payload, .. } if payload == b"hello").then_some(())
    });
    assert!(!slow.is_empty(), "they are still at it");
    assert_eq!(answers("/healthz"), Some(()), "the coordinator is at its broker all the while");
    // A page finds its way too, as soon as those have lost their places that have them.
    wait_for("a page at the WebSocket", WITHIN, || {
        let wants = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        upgraded(websocket_port, wants).then_some(())
    });
    // The broker shows them out by itself.
    let all_gone = async { while slow.join_next().await.is_some() {} };
    runtime.block_on(async { tokio::time::timeout(WITHIN, all_gone).await }).expect("all are shown out");
}

/// Whether a port takes a connection for a WebSocket.
fn upgraded(port: u16, wants: &str) -> bool {
    use std::io::{Read, Write};
    let ask = || {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(10 * DROP)).ok()?;
        stream.write_all(format!("GET /mqtt HTTP/1.1\r\nHost: h\r\n{wants}\r\n").as_bytes()).ok()?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).ok()?;
        Some(status)
    };
    ask().is_some_and(|status| &status == b"HTTP/1.1 101")
}
