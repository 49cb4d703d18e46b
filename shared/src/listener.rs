//! A listening socket that slow clients cannot hold: so many connections at once, of one address and altogether, and none to
//! which nothing is said for a while. A shell; it knows no protocol.
//!
//! Only what is written counts as progress. A server answers whoever asks, so a client that is given nothing for so long has
//! not sent a whole request, however busily it sends pieces of one (slowloris), or does not read what it asked for.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, Sleep, sleep};

/// Connections that wait to be let in.
const BACKLOG: u32 = 64;
/// When the system lets none in (too many open files, most likely).
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);

/// Counted as this where there was no place.
pub const CROWDED: &str = "crowded";
/// Counted as this where a connection was closed before it had its answer, because nothing could be said on it.
pub const SLOW: &str = "slow";

/// What was refused at a port, counted by a constant word each. Whoever shares it sees the same.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Refusals {
    /// One more; how many there were of this word.
    pub fn count(&self, word: &'static str) -> u64 {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(word).or_default();
        *count += 1;
        *count
    }

    /// All that were counted.
    pub fn all(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The bounds of a port.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What listens, as the log calls it.
    pub name: &'static str,
    /// Connections at once.
    pub connections_max: usize,
    /// Connections at once from one address.
    pub of_one_max: usize,
    /// A connection on which nothing is written for so long is closed.
    pub quiet_max: Duration,
    /// What the system keeps of what a client has not read; as the system likes it, where there is nothing.
    pub send_buffer_bytes: Option<u32>,
}

/// The listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    limits: Limits,
    inside: Arc<Inside>,
    refusals: Refusals,
}

/// Who is being served.
#[derive(Debug, Default)]
struct Inside {
    of: Mutex<BTreeMap<IpAddr, usize>>,
}

/// One place inside, given back when it is dropped.
#[derive(Debug)]
struct Place(IpAddr, Arc<Inside>);

impl Inside {
    fn enter(self: &Arc<Self>, ip: IpAddr, limits: &Limits) -> Option<Place> {
        let mut of = self.counts();
        let (all, mine) = (of.values().sum::<usize>(), of.get(&ip).copied().unwrap_or(0));
        if all >= limits.connections_max || mine >= limits.of_one_max {
            return None;
        }
        of.insert(ip, mine + 1);
        Some(Place(ip, Arc::clone(self)))
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of = self.1.counts();
        match of.get_mut(&self.0) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(of.remove(&self.0)),
        }
    }
}

impl Listener {
    /// Opens it, on the current tokio runtime. What it refuses is counted there.
    pub fn open(address: SocketAddr, limits: Limits, refusals: Refusals) -> io::Result<Listener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        limits.send_buffer_bytes.map_or(Ok(()), |bytes| socket.set_send_buffer_size(bytes))?;
        socket.bind(address)?;
        Ok(Listener { socket: socket.listen(BACKLOG)?, limits, inside: Arc::default(), refusals })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next connection that there is a place for. Who finds none is shown out at once, so that nobody waits behind those
    /// who hold theirs.
    pub async fn accept(&self) -> (Patient, SocketAddr) {
        loop {
            let Ok((stream, from)) = self.socket.accept().await else {
                sleep(ACCEPT_AGAIN).await;
                continue;
            };
            match self.inside.enter(from.ip(), &self.limits) {
                Some(place) => {
                    let (quiet_max, refusals) = (self.limits.quiet_max, self.refusals.clone());
                    let quiet = Box::pin(sleep(quiet_max));
                    return (Patient { stream, quiet, quiet_max, answered: false, refusals, _place: place }, from);
                }
                None => {
                    let count = self.refusals.count(CROWDED);
                    // Whoever knocks without end must not fill the log.
                    if count.is_power_of_two() {
                        let name = self.limits.name;
                        tracing::warn!("{name} is crowded: {count} turned away so far, now {}", from.ip());
                    }
                }
            }
        }
    }
}

/// A connection whose patience ends.
#[derive(Debug)]
pub struct Patient {
    stream: TcpStream,
    quiet: Pin<Box<Sleep>>,
    quiet_max: Duration,
    /// Whether anything was ever said on it: one that is kept for the next request has had its answer.
    answered: bool,
    refusals: Refusals,
    _place: Place,
}

impl Patient {
    /// What is still waited for; or that nothing could be said for too long.
    fn waits<T>(&mut self, cx: &mut Context<'_>, owes: bool) -> Poll<io::Result<T>> {
        ready!(self.quiet.as_mut().poll(cx));
        if owes || !self.answered {
            self.refusals.count(SLOW);
            // It is counted once, whatever its owner asks of it after this.
            self.answered = true;
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn wrote(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if done.is_pending() {
            return self.waits(cx, true);
        }
        let until = Instant::now() + self.quiet_max;
        self.quiet.as_mut().reset(until);
        self.answered = true;
        done
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Also where something was read: what trickles in is no reason to wait longer.
        if let Poll::Ready(ended) = self.waits(cx, false) {
            return Poll::Ready(ended);
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(cx, done)
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

    const SHORT: Duration = Duration::from_millis(300);
    /// Nothing here takes so long, on whatever machine.
    const LONG: Duration = Duration::from_secs(60);

    /// What must come about. Whoever waits for a connection that nothing ends waits for ever, and would fail by no name.
    async fn soon<T>(what: &str, comes: impl Future<Output = T>) -> T {
        tokio::time::timeout(LONG, comes).await.unwrap_or_else(|_| panic!("{what} did not come about"))
    }

    fn limits(quiet_max: Duration) -> Limits {
        let send_buffer_bytes = Some(256 * 1024);
        Limits { name: "a port", connections_max: 12, of_one_max: 4, quiet_max, send_buffer_bytes }
    }

    async fn pair(quiet_max: Duration) -> (Patient, TcpStream, Refusals) {
        let refusals = Refusals::default();
        let listener = Listener::open("127.0.0.1:0".parse().unwrap(), limits(quiet_max), refusals.clone()).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.0, client, refusals)
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_given_up_and_one_that_is_slow_is_not() {
        let (mut ours, _client, refusals) = pair(SHORT).await;
        let error = async {
            loop {
                if let Err(error) = ours.write_all(&[0; 65_536]).await {
                    return error;
                }
            }
        };
        assert_eq!(soon("the end of patience", error).await.kind(), io::ErrorKind::TimedOut);
        assert_eq!(refusals.all(), [(SLOW, 1)].into());

        let (mut ours, mut client, _) = pair(SHORT).await;
        let writing = tokio::spawn(async move { ours.write_all(&vec![7; 20_000_000]).await });
        let mut read = 0;
        while read < 20_000_000 {
            let mut bytes = vec![0; 2_000_000];
            soon("what was written", client.read_exact(&mut bytes)).await.unwrap();
            read += bytes.len();
            tokio::time::sleep(SHORT / 6).await;
        }
        writing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_request_that_comes_in_drops_is_cut_off_and_counted() {
        let (mut ours, mut client, refusals) = pair(SHORT).await;
        let dripping = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                sleep(SHORT / 10).await
            }
        });
        let error = async {
            loop {
                if let Err(error) = ours.read_u8().await {
                    return error;
                }
            }
        };
        let error = soon("the end of patience with drops", error).await;
        assert_eq!((error.kind(), refusals.all()), (io::ErrorKind::TimedOut, [(SLOW, 1)].into()));
        drop(ours);
        dripping.await.unwrap();
    }

    #[tokio::test]
    async fn one_that_has_had_its_answer_is_closed_in_silence_and_nobody_is_blamed() {
        let (mut ours, _client, refusals) = pair(Duration::from_millis(50)).await;
        ours.write_all(b"here").await.unwrap();
        let ended = soon("the end of a connection that was served", ours.read_u8()).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(refusals.all().is_empty());
    }

    #[tokio::test]
    async fn who_finds_no_place_is_shown_out_at_once() {
        let refusals = Refusals::default();
        let listener = Listener::open("127.0.0.1:0".parse().unwrap(), limits(SHORT * 100), refusals.clone()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push((TcpStream::connect(address).await.unwrap(), listener.accept().await));
        }
        let mut fifth = TcpStream::connect(address).await.unwrap();
        let shown_out = async {
            tokio::select! {
                _ = listener.accept() => panic!("there was no place"),
                ended = fifth.read_u8() => assert!(ended.is_err()),
            }
        };
        soon("to be shown out", shown_out).await;
        assert_eq!(refusals.all(), [(CROWDED, 1)].into());
        held.pop();
        let _sixth = TcpStream::connect(address).await.unwrap();
        soon("a place that was given back", listener.accept()).await;
    }

    #[test]
    fn one_address_has_few_places_and_all_have_their_bound() {
        let (inside, limits) = (Arc::new(Inside::default()), limits(SHORT));
        let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
        let enter = |n: u8| inside.enter(ip(n), &limits);
        let mut places: Vec<_> = (0..4).map(|_| enter(1).unwrap()).collect();
        assert!(enter(1).is_none());
        places.extend((0..8).map(|n| enter(2 + n / 4).unwrap()));
        assert!(enter(99).is_none(), "full");
        places.truncate(1);
        assert_eq!(inside.of.lock().unwrap().len(), 1, "what is given back leaves nothing behind");
        assert!(enter(99).is_some());
    }
}
