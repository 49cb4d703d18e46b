//! A heartbeat on its way between neighbours without a broker: one datagram, signed with the site's key.
//!
//! The signature covers everything before it: version, site, node, and the heartbeat's bytes, in which its boot and number
//! are. That these rise is for the receiver to see to. Nothing in here is secret, and nothing is more than a hint.

use crate::crypto::{MAC_BYTES, MacKey};
use crate::ids::{NodeId, SiteId};
use crate::limits::{GOSSIP_BYTES_MAX, HEARTBEAT_BYTES_MAX};

/// The first byte of every datagram.
const VERSION: u8 = 1;

/// Why a datagram is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GossipError {
    /// It is not of this form, or of another site.
    #[error("it is no heartbeat of this site")]
    Malformed,
    /// It was not signed with this key, or changed on its way.
    #[error("its signature is not the site's")]
    Signature,
}

/// The datagram of a heartbeat, whose bytes are an encoded [`crate::duty::Heartbeat`].
pub fn seal(key: &MacKey, site: &SiteId, node: &NodeId, heartbeat: &[u8]) -> Vec<u8> {
    let mut datagram = vec![VERSION];
    for name in [site.as_str(), node.as_str()] {
        datagram.push(name.len() as u8);
        datagram.extend(name.as_bytes());
    }
    datagram.extend(heartbeat);
    let mac = key.sign(&datagram);
    datagram.extend(mac);
    datagram
}

/// Who sent a datagram, and the heartbeat's bytes, which are still to be decoded.
pub fn open<'a>(key: &MacKey, site: &SiteId, datagram: &'a [u8]) -> Result<(NodeId, &'a [u8]), GossipError> {
    use GossipError::Malformed;
    if datagram.len() > GOSSIP_BYTES_MAX {
        return Err(Malformed);
    }
    let (signed, mac) = datagram.split_last_chunk::<MAC_BYTES>().ok_or(Malformed)?;
    let (&version, rest) = signed.split_first().ok_or(Malformed)?;
    let (named, rest) = name(rest).ok_or(Malformed)?;
    let (node, heartbeat) = name(rest).ok_or(Malformed)?;
    if version != VERSION || named != site.as_str() || heartbeat.is_empty() || heartbeat.len() > HEARTBEAT_BYTES_MAX {
        return Err(Malformed);
    }
    let node = NodeId::new(node).map_err(|_| Malformed)?;
    if !key.verify(signed, mac) {
        return Err(GossipError::Signature);
    }
    Ok((node, heartbeat))
}

fn name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(length))?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (SiteId, NodeId) {
        (SiteId::new("yard").unwrap(), NodeId::new("gate-3").unwrap())
    }

    #[test]
    fn a_datagram_has_the_form_of_the_page_and_is_read_again() {
        let ((site, node), key) = (names(), MacKey::new(&[7; 32]));
        let datagram = seal(&key, &site, &node, b"beat");
        assert!(datagram.starts_with(b"\x01\x04yard\x06gate-3beat"), "{datagram:?}");
        assert_eq!(datagram.len(), 1 + 1 + 4 + 1 + 6 + 4 + MAC_BYTES);
        assert_eq!(open(&key, &site, &datagram), Ok((node, &b"beat"[..])));
    }

    #[test]
    fn what_was_changed_cut_off_or_signed_by_somebody_else_is_refused() {
        let ((site, node), key) = (names(), MacKey::new(&[7; 32]));
        let datagram = seal(&key, &site, &node, b"beat");
        for at in 0..datagram.len() {
            let mut changed = datagram.clone();
            changed[at] ^= 1;
            assert!(open(&key, &site, &changed).is_err(), "byte {at}");
            assert!(open(&key, &site, &datagram[..at]).is_err(), "{at} bytes");
        }
        assert_eq!(open(&MacKey::new(&[8; 32]), &site, &datagram), Err(GossipError::Signature));
        assert_eq!(open(&key, &SiteId::new("mill").unwrap(), &datagram), Err(GossipError::Malformed));
        let large = seal(&key, &site, &node, &vec![0; HEARTBEAT_BYTES_MAX + 1]);
        assert_eq!(open(&key, &site, &large), Err(GossipError::Malformed));
        let empty = seal(&key, &site, &node, b"");
        assert_eq!(open(&key, &site, &empty), Err(GossipError::Malformed));
        for bytes in [&b""[..], &[0; 31], &[1; 32], &[255; 33], &[1; 9_000]] {
            assert_eq!(open(&key, &site, bytes), Err(GossipError::Malformed));
        }
    }
}
