//! The network between an agent and the broker: it passes, swallows everything in silence, or is slow.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use picket_simulation::soak::site::free_port;

/// How soon a change is noticed.
const LOOK: Duration = Duration::from_millis(50);
const PASS: u64 = 0;
const SWALLOW: u64 = u64::MAX;

#[derive(Default)]
struct State {
    /// Bytes a second each way; [`PASS`] without limit, [`SWALLOW`] none.
    rate: AtomicU64,
    closed: AtomicBool,
}

/// A proxy on a port of its own.
pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
    listening: Option<JoinHandle<()>>,
}

impl Proxy {
    pub fn start(upstream: u16) -> Proxy {
        let port = free_port().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let listening = std::thread::spawn(move || {
            let mut pumps = Vec::new();
            while !shared.closed.load(SeqCst) {
                match listener.accept() {
                    Ok((near, _)) => pumps.extend(join(near, upstream, &shared)),
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
            pumps.into_iter().for_each(|pump| pump.join().unwrap());
        });
        Proxy { port, state, listening: Some(listening) }
    }

    /// From now on everything that is under way vanishes, and so does what comes; connections stand.
    pub fn swallow(&self) {
        self.state.rate.store(SWALLOW, SeqCst);
    }

    /// So many bytes a second each way.
    pub fn throttle(&self, bytes_per_s: u64) {
        self.state.rate.store(bytes_per_s, SeqCst);
    }

    /// New connections work, and so do old ones that were only slow.
    pub fn heal(&self) {
        self.state.rate.store(PASS, SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.closed.store(true, SeqCst);
        let _ = self.listening.take().unwrap().join();
    }
}

/// Two threads that carry bytes, one each way; none where the broker is away.
fn join(near: TcpStream, upstream: u16, state: &Arc<State>) -> Vec<JoinHandle<()>> {
    near.set_nonblocking(false).unwrap();
    let Ok(far) = TcpStream::connect(("127.0.0.1", upstream)) else { return Vec::new() };
    let dead = Arc::new(AtomicBool::new(false));
    let ways = [(near.try_clone(), far.try_clone()), (far.try_clone(), near.try_clone())];
    let pump = |(from, to): (std::io::Result<TcpStream>, std::io::Result<TcpStream>)| {
        let (from, to, state, dead) = (from.unwrap(), to.unwrap(), Arc::clone(state), Arc::clone(&dead));
        std::thread::spawn(move || carry(from, to, &state, &dead))
    };
    ways.map(pump).into()
}

fn carry(mut from: TcpStream, mut to: TcpStream, state: &State, dead: &AtomicBool) {
    from.set_read_timeout(Some(LOOK)).unwrap();
    let mut buffer = [0; 512];
    while !state.closed.load(SeqCst) {
        let rate = state.rate.load(SeqCst);
        // A connection that lost bytes never speaks sense again.
        dead.fetch_or(rate == SWALLOW, SeqCst);
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) if dead.load(SeqCst) => {}
            Ok(bytes) => {
                if rate != PASS && rate != SWALLOW {
                    std::thread::sleep(Duration::from_secs_f64(bytes as f64 / rate as f64));
                }
                if to.write_all(&buffer[..bytes]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
