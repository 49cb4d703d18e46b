//! Clients that take for ever (slowloris), at each port that listens: a request in drops. They take the places that one address
//! has and no more, somebody elsewhere is answered meanwhile, and all of them are shown out and counted.

use std::time::Duration;

use picket_tests::{sample_video, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::forged::{Tap, refused_by_agent};
use super::rig::{Rig, WITHIN};

/// Far more than one address may have anywhere.
const SLOW: usize = 80;
const DROP: Duration = Duration::from_millis(500);

/// Says a byte of a request every half second, until it is shown out.
async fn drip(port: u16, request: &'static [u8]) {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (mut read, mut write) = stream.into_split();
    let dripping = async {
        for byte in request.iter().cycle() {
            if write.write_all(&[*byte]).await.is_err() {
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

fn live_port(rig: &Rig) -> u16 {
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
