//! The live view's listening socket, as axum takes it. Nothing here knows HTTP, and the bounds are kept by
//! [`picket_shared::listener`].

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve;
use picket_shared::listener::{Limits, Listener, Patient, Refusals};

/// A browser opens six connections for a page. What the system keeps of what a viewer has not read is a few pictures: more
/// would show a slow viewer the past. A stream is said something every five seconds.
const LIMITS: Limits = Limits {
    name: "the live view",
    connections_max: 64,
    of_one_max: 32,
    quiet_max: Duration::from_secs(15),
    send_buffer_bytes: Some(256 * 1024),
};

/// The listening socket.
pub(super) struct Door(Listener);

impl Door {
    /// Opens it; what it refuses is counted there.
    pub(super) fn open(address: SocketAddr, refusals: Refusals) -> io::Result<Door> {
        Listener::open(address, LIMITS, refusals).map(Door)
    }
}

impl serve::Listener for Door {
    type Io = Patient;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Patient, SocketAddr) {
        self.0.accept().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
