//! What of the neighbours' datagrams is believed: signed with the site's key, another node's, and newer than the last. Pure.

use std::collections::BTreeMap;

use picket_shared::codec;
use picket_shared::crypto::MacKey;
use picket_shared::duty::Heartbeat;
use picket_shared::gossip::{self, GossipError};
use picket_shared::ids::{Boot, NodeId, SiteId};
use picket_shared::limits::NODES_MAX;

/// Why a datagram is refused, as a counter's label.
pub(super) const MALFORMED: &str = "gossip_malformed";
pub(super) const SIGNATURE: &str = "gossip_signature";
pub(super) const REPLAYED: &str = "gossip_replayed";

/// Remembers the last of each node.
pub(super) struct Ear {
    key: MacKey,
    site: SiteId,
    me: NodeId,
    last: BTreeMap<NodeId, (Boot, u64)>,
}

impl Ear {
    pub(super) fn new(key: MacKey, site: SiteId, me: NodeId) -> Ear {
        Ear { key, site, me, last: BTreeMap::new() }
    }

    /// The heartbeat of a datagram, still encoded, and whose it is; nothing where it is our own, back from the group.
    pub(super) fn hear(&mut self, datagram: &[u8]) -> Result<Option<(NodeId, Vec<u8>)>, &'static str> {
        let (node, bytes) = gossip::open(&self.key, &self.site, datagram).map_err(|error| match error {
            GossipError::Malformed => MALFORMED,
            GossipError::Signature => SIGNATURE,
        })?;
        if node == self.me {
            return Ok(None);
        }
        let beat: Heartbeat = codec::decode(bytes).map_err(|_| MALFORMED)?;
        let now = (beat.boot, beat.number);
        match self.last.get(&node) {
            Some(last) if now <= *last => return Err(REPLAYED),
            None if self.last.len() >= NODES_MAX => return Err(MALFORMED),
            _ => {}
        }
        self.last.insert(node.clone(), now);
        Ok(Some((node, bytes.to_vec())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_signed_newer_and_another_nodes_is_heard() {
        let (site, key) = (SiteId::new("yard").unwrap(), MacKey::new(&[7; 32]));
        let id = |name: &str| NodeId::new(name).unwrap();
        let mut ear = Ear::new(key.clone(), site.clone(), id("me"));
        let sealed = |key: &MacKey, node: &str, boot, number| {
            let (leader, capacity_fps, holdings, ready, unheard) = (0, 0, vec![], vec![], vec![]);
            let beat = Heartbeat { boot: Boot(boot), number, leader, capacity_fps, holdings, ready, unheard };
            gossip::seal(key, &site, &id(node), &codec::encode(&beat).unwrap())
        };
        for (node, boot, number, expect) in [
            ("a", 5, 9, Ok(true)),
            ("a", 5, 9, Err(REPLAYED)),
            ("a", 5, 8, Err(REPLAYED)),
            ("a", 4, 99, Err(REPLAYED)),
            ("b", 1, 1, Ok(true)),
            ("a", 5, 11, Ok(true)),
            ("a", 6, 1, Ok(true)),
            ("a", 5, 12, Err(REPLAYED)),
            ("me", 1, 1, Ok(false)),
        ] {
            let heard = ear.hear(&sealed(&key, node, boot, number)).map(|heard| heard.is_some());
            assert_eq!(heard, expect, "{node} {boot} {number}");
        }
        assert_eq!(ear.hear(&sealed(&MacKey::new(&[8; 32]), "a", 7, 1)), Err(SIGNATURE));
        assert_eq!(ear.hear(&gossip::seal(&key, &site, &id("a"), b"no heartbeat")), Err(MALFORMED));
        assert!(ear.hear(&sealed(&key, "a", 7, 1)).is_ok(), "what was refused has not counted");
    }
}
