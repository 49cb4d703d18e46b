//! Heartbeats between neighbours over UDP, for when no broker can be reached: signed, hints only, off unless configured.
//!
//! Each says its own heartbeat to all, and nobody says another's: a station has a handful of neighbours, and at most 64, so
//! that a membership protocol would save no message worth saving, and would bring a second opinion on who is gone beside the
//! one rule of `duty/`. Nothing here decides who is gone, and nothing that comes in is more than a heartbeat.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use picket_shared::crypto::MacKey;
use picket_shared::exit::{Exit, Failure};
use picket_shared::gossip;
use picket_shared::ids::{NodeId, SiteId};
use picket_shared::limits::{GOSSIP_BYTES_MAX, NEIGHBOURS_MAX};
use serde::Deserialize;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

mod ear;

use ear::Ear;

/// Heartbeats that wait for the core: two of each neighbour.
const HEARD_MAX: usize = 2 * NEIGHBOURS_MAX;
/// A key is at least so long, and a file that is longer than the other is not one.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 32..=4096;

/// Who is spoken with, and how.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The site's key: a file that only the agent may read. Without it there is no gossip.
    pub key_file: Option<PathBuf>,
    /// Own address and port.
    pub listen: Option<SocketAddr>,
    /// The neighbours' addresses and ports.
    pub peers: Vec<SocketAddr>,
    /// A group that all of them have joined, in place of their addresses.
    pub multicast: Option<SocketAddr>,
}

impl Config {
    /// Checks the values.
    pub fn check(&self) -> Result<(), String> {
        if *self == Config::default() {
            return Ok(());
        }
        let wrong = |what: &str| Err(format!("gossip {what}"));
        let (Some(_), Some(listen)) = (&self.key_file, self.listen) else {
            return wrong(
                "needs both key_file and listen; make a key with `openssl rand -hex 32`, the same for all nodes",
            );
        };
        if listen.port() == 0 {
            return wrong("listen has no port; give it one, as in 0.0.0.0:7946");
        }
        if self.peers.is_empty() && self.multicast.is_none() {
            return wrong("has nobody to speak with; name the neighbours in peers, or a multicast group");
        }
        if self.peers.len() > NEIGHBOURS_MAX {
            return Err(format!("gossip.peers has {} addresses, of at most {NEIGHBOURS_MAX}", self.peers.len()));
        }
        if let Some(peer) = self.peers.iter().find(|peer| peer.port() == 0 || peer.is_ipv4() != listen.is_ipv4()) {
            return Err(format!(
                "gossip.peers has {peer}, which {listen} cannot speak with; give it a port, and the same kind of address"
            ));
        }
        match self.multicast {
            Some(group)
                if !group.ip().is_multicast()
                    || group.port() != listen.port()
                    || group.is_ipv4() != listen.is_ipv4() =>
            {
                wrong("multicast is no group, or has another port than listen; write it as in 239.255.77.77:7946")
            }
            _ => Ok(()),
        }
    }
}

/// Why what came in was refused, by a constant word and how often.
#[derive(Debug, Default)]
struct Refused {
    malformed: AtomicU64,
    signature: AtomicU64,
    replayed: AtomicU64,
    full: AtomicU64,
}

/// A conversation with the neighbours.
pub struct Gossip {
    socket: Arc<UdpSocket>,
    key: MacKey,
    site: SiteId,
    me: NodeId,
    to: Vec<SocketAddr>,
    heard: mpsc::Receiver<(NodeId, Vec<u8>)>,
    refused: Arc<Refused>,
    task: tokio::task::JoinHandle<()>,
}

impl Gossip {
    /// Begins it on the current tokio runtime; nothing where it is not configured.
    pub async fn start(config: &Config, site: &SiteId, me: &NodeId) -> Result<Option<Gossip>, Failure> {
        let (Some(key_file), Some(listen)) = (&config.key_file, config.listen) else { return Ok(None) };
        let key = read_key(key_file)?;
        let socket = open(listen, config.multicast).await.map_err(|error| {
            let sentence = format!("the address {listen} of gossip.listen cannot be used ({error}); choose another");
            Failure::new(Exit::System, sentence)
        })?;
        let (socket, refused) = (Arc::new(socket), Arc::new(Refused::default()));
        let (tell, heard) = mpsc::channel(HEARD_MAX);
        let ear = Ear::new(key.clone(), site.clone(), me.clone());
        let task = tokio::spawn(listen_to(Arc::clone(&socket), ear, Arc::clone(&refused), tell));
        let to = config.peers.iter().copied().chain(config.multicast).collect();
        Ok(Some(Gossip { socket, key, site: site.clone(), me: me.clone(), to, heard, refused, task }))
    }

    /// Says a heartbeat to all. What does not arrive is said anew with the next one.
    pub fn say(&self, heartbeat: &[u8]) {
        let datagram = gossip::seal(&self.key, &self.site, &self.me, heartbeat);
        for to in &self.to {
            if let Err(error) = self.socket.try_send_to(&datagram, *to) {
                tracing::debug!("gossip to {to}: {error}");
            }
        }
    }

    /// The next heartbeat of a neighbour, still encoded. Nothing is lost where this is not awaited to its end.
    pub async fn heard(&mut self) -> Option<(NodeId, Vec<u8>)> {
        self.heard.recv().await
    }

    /// What was refused, by a constant word.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let Refused { malformed, signature, replayed, full } = &*self.refused;
        let counts = [
            (ear::MALFORMED, malformed),
            (ear::SIGNATURE, signature),
            (ear::REPLAYED, replayed),
            ("gossip_full", full),
        ];
        counts.map(|(word, count)| (word, count.load(Ordering::Relaxed))).into_iter().filter(|(_, count)| *count > 0)
    }
}

impl Drop for Gossip {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen_to(socket: Arc<UdpSocket>, mut ear: Ear, refused: Arc<Refused>, tell: mpsc::Sender<(NodeId, Vec<u8>)>) {
    // One more than there may be: what is longer arrives cut, and is refused.
    let mut bytes = vec![0; GOSSIP_BYTES_MAX + 1];
    loop {
        let Ok((length, _)) = socket.recv_from(&mut bytes).await else {
            // An earlier datagram reached a host where nobody listens yet.
            tokio::task::yield_now().await;
            continue;
        };
        let counter = match ear.hear(&bytes[..length]) {
            Ok(None) => continue,
            Ok(Some(beat)) => match tell.try_send(beat) {
                Ok(()) => continue,
                Err(mpsc::error::TrySendError::Full(_)) => &refused.full,
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            },
            Err(ear::SIGNATURE) => &refused.signature,
            Err(ear::REPLAYED) => &refused.replayed,
            Err(_) => &refused.malformed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

async fn open(listen: SocketAddr, multicast: Option<SocketAddr>) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(listen).await?;
    match multicast.map(|group| group.ip()) {
        Some(IpAddr::V4(group)) => socket.join_multicast_v4(group, Ipv4Addr::UNSPECIFIED)?,
        Some(IpAddr::V6(group)) => socket.join_multicast_v6(&group, 0)?,
        None => {}
    }
    Ok(socket)
}

/// The site's key. Whoever reads it can pretend that a node lives, so the file must be nobody else's.
fn read_key(path: &Path) -> Result<MacKey, Failure> {
    let failure = |what: String| Failure::new(Exit::Config, format!("gossip.key_file {} {what}", path.display()));
    let cannot = |error: io::Error| failure(format!("cannot be read ({error}); check the path and its owner"));
    let mode = std::fs::metadata(path).map_err(cannot)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(failure(format!(
            "can be read by others (mode {mode:o}); run `chmod 600` on it, and change the key"
        )));
    }
    let bytes = std::fs::read(path).map_err(cannot)?;
    let key = bytes.trim_ascii();
    if !KEY_BYTES.contains(&key.len()) {
        let what = format!("has {} bytes, and a key has at least 32; make one with `openssl rand -hex 32`", key.len());
        return Err(failure(what));
    }
    Ok(MacKey::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_with_the_remedy() {
        let check = |text: &str| picket_shared::config::parse::<Config>(text).and_then(|config| config.check());
        let good = "key_file = \"/k\"\nlisten = \"0.0.0.0:7946\"\n";
        assert_eq!(check(""), Ok(()));
        assert_eq!(check(&format!("{good}peers = [\"10.0.0.2:7946\"]")), Ok(()));
        assert_eq!(check(&format!("{good}multicast = \"239.255.77.77:7946\"")), Ok(()));
        for (text, expect) in [
            ("listen = \"0.0.0.0:7946\"", "needs both key_file and listen"),
            (good, "nobody to speak with"),
            (&format!("{good}peers = [\"edge-2:7946\"]"), "socket address"),
            (&format!("{good}peers = [\"[::1]:7946\"]"), "the same kind of address"),
            (&format!("{good}multicast = \"10.0.0.255:7946\""), "is no group"),
            (&format!("{good}multicast = \"239.255.77.77:7947\""), "another port than listen"),
            ("key_file = \"/k\"\nlisten = \"0.0.0.0:0\"\npeers = [\"10.0.0.2:1\"]", "has no port"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(expect), "{text:?} gave {error:?}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_or_guess_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gossip.key");
        let read = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read_key(&path).map(drop).map_err(|failure| failure.sentence)
        };
        let key = "0123456789abcdef0123456789abcdef\n";
        assert_eq!(read(key, 0o600), Ok(()));
        assert_eq!(read(key, 0o400), Ok(()));
        assert!(read(key, 0o640).unwrap_err().contains("mode 640"));
        assert!(read("secret\n", 0o600).unwrap_err().contains("has 6 bytes"));
        assert!(read_key(&dir.path().join("none")).is_err());
    }
}
