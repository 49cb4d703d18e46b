//! The porch before the embedded broker's WebSocket port: whoever has said what he wants is passed on, byte by byte. The broker
//! itself shakes hands with one client after the other, so that a silent one would keep all others out. A shell; it knows no more
//! of HTTP than where a head ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Connections at once: pages and tools of one machine.
const CONNECTIONS_MAX: usize = 128;
/// A browser's head has less than a thousand bytes, with its cookies.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// From the connection to the end of the head.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// When the system lets none in (too many open files, most likely).
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);

/// Passes connections on to the broker until the task is dropped.
pub async fn serve(listener: TcpListener, broker: SocketAddr) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_AGAIN).await;
            continue;
        };
        // Who finds no place is shown out at once, and a page tries again.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        tokio::spawn(async move {
            let _ = pass(stream, broker).await;
            drop(place);
        });
    }
}

async fn pass(mut near: TcpStream, broker: SocketAddr) -> io::Result<()> {
    let head = timeout(HEAD_MAX, head(&mut near)).await??;
    let mut far = TcpStream::connect(broker).await?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
    }
    far.write_all(&head).await?;
    copy_bidirectional(&mut near, &mut far).await.map(drop)
}

/// All up to the end of the head, and what came with it.
async fn head(near: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if near.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}
