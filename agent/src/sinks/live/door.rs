//! The live view's listening socket: lets in so many connections at once, and closes those on which nothing moves.
//!
//! hyper itself waits for ever for a reader that does not read. Nothing here knows HTTP.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections at once: a browser opens six for a page.
const CONNECTIONS_MAX: usize = 64;
/// Connections that wait to be let in.
const BACKLOG: u32 = 64;
/// What the system keeps of what a viewer has not read: a few pictures. More would show a slow viewer the past.
const SEND_BUFFER_BYTES: u32 = 256 * 1024;
/// A connection on which nothing is read or written for so long is closed.
const STILL_MAX: Duration = Duration::from_secs(15);
/// When the system lets none in (too many open files, most likely).
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);

/// The listening socket.
pub(super) struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    still_max: Duration,
}

impl Door {
    /// Opens it.
    pub(super) fn open(address: SocketAddr) -> io::Result<Door> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        Ok(Door { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)), still_max: STILL_MAX })
    }
}

impl Listener for Door {
    type Io = Patient;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Patient, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let still = Box::pin(sleep(self.still_max));
                    return (Patient { stream, still, still_max: self.still_max, _place: place }, address);
                }
                Err(_) => sleep(ACCEPT_AGAIN).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection whose patience ends.
pub(super) struct Patient {
    stream: TcpStream,
    still: Pin<Box<Sleep>>,
    still_max: Duration,
    _place: OwnedSemaphorePermit,
}

impl Patient {
    /// What was done; where nothing was, whether that has lasted too long.
    fn watched<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            let until = Instant::now() + self.still_max;
            self.still.as_mut().reset(until);
            return done;
        }
        ready!(self.still.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watched(cx, done)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watched(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watched(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn pair(still_max: Duration) -> (Patient, TcpStream) {
        let mut door = Door { still_max, ..Door::open("127.0.0.1:0".parse().unwrap()).unwrap() };
        let client = TcpStream::connect(door.local_addr().unwrap()).await.unwrap();
        (door.accept().await.0, client)
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_given_up_and_one_that_is_slow_is_not() {
        let short = Duration::from_millis(300);
        let (mut ours, _client) = pair(short).await;
        let error = async {
            loop {
                if let Err(error) = ours.write_all(&[0; 65_536]).await {
                    return error;
                }
            }
        };
        assert_eq!(error.await.kind(), io::ErrorKind::TimedOut);

        let (mut ours, mut client) = pair(short).await;
        let writing = tokio::spawn(async move { ours.write_all(&vec![7; 20_000_000]).await });
        let mut read = 0;
        while read < 20_000_000 {
            let mut bytes = vec![0; 2_000_000];
            client.read_exact(&mut bytes).await.unwrap();
            read += bytes.len();
            tokio::time::sleep(short / 6).await;
        }
        writing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_closed() {
        let (mut ours, _client) = pair(Duration::from_millis(50)).await;
        assert_eq!(ours.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
