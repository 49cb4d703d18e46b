//! Who may speak at a site: the keys of its devices, and the chain of keys that sign its orders. The coordinator publishes it,
//! and everybody checks by it who says what. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::orders::{OrdersChain, OrdersError, OrdersKey};
use super::seal::{self, Mark, SealError};
use crate::codec::json_is_crowded;
use crate::crypto::{KeyId, PublicKey, SecretKey};
use crate::ids::{NodeId, SiteId};
use crate::limits::{NODES_MAX, ROSTER_BYTES_MAX, ROSTER_ITEMS_MAX};
use crate::topics::Topic;

/// A device of the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The key that it signs with; none where it was taken back, so that its name is spoken for by nobody.
    pub key: Option<PublicKey>,
    /// Keys that were taken back, for the reason that is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<KeyId>,
}

/// Everybody who may speak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Grows with every change. A lower one is refused.
    pub number: u64,
    /// The keys that sign orders; the newest signs this too.
    pub orders: OrdersChain,
    /// The devices.
    pub devices: BTreeMap<NodeId, Member>,
}

/// Why a roster is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// It is no roster.
    #[error("the roster cannot be read: {0}")]
    Malformed(String),
    /// Its keys do not follow from the known one.
    #[error(transparent)]
    Orders(#[from] OrdersError),
    /// It was not signed by its newest orders key.
    #[error("the roster is refused: {0}")]
    Seal(#[from] SealError),
    /// An old one.
    #[error("the roster is number {0}, and there has been {1}")]
    Old(u64, u64),
}

impl RosterError {
    /// A constant word, for a counter.
    pub fn word(&self) -> &'static str {
        match self {
            RosterError::Malformed(_) => "roster_malformed",
            RosterError::Orders(_) => "roster_orders_key",
            RosterError::Seal(_) => "roster_signature",
            RosterError::Old(..) => "roster_old",
        }
    }
}

impl Roster {
    /// The roster as it is published, signed by the key that signs orders now.
    pub fn publish(&self, site: &SiteId, key: &SecretKey, now_s: u64) -> Vec<u8> {
        let object = serde_json::to_vec(self).expect("keys and names are strings");
        let mark = Mark { run: self.number, seq: 0, issued_s: now_s, expires_s: None };
        seal::seal_json(key, &Topic::Roster.render(site), &mark, &object)
    }

    /// Reads a roster for who knows this orders key and a roster of this number, and gives the newest orders key with it.
    ///
    /// Its keys must be read before its signature can be checked; they prove themselves.
    pub fn read(
        site: &SiteId,
        known: &OrdersKey,
        number: u64,
        bytes: &[u8],
    ) -> Result<(Roster, OrdersKey), RosterError> {
        let malformed = |what: String| RosterError::Malformed(what);
        if bytes.len() > ROSTER_BYTES_MAX {
            return Err(malformed(format!("it has {} bytes, of at most {ROSTER_BYTES_MAX}", bytes.len())));
        }
        if json_is_crowded(bytes, ROSTER_ITEMS_MAX) {
            return Err(malformed(format!("it has more than {ROSTER_ITEMS_MAX} values")));
        }
        let roster: Roster = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        if roster.devices.len() > NODES_MAX {
            return Err(malformed(format!("{} devices, of at most {NODES_MAX}", roster.devices.len())));
        }
        let newest = roster.orders.follow(site, known)?;
        let by = |id: KeyId| (id == newest.key.id()).then_some(newest.key);
        let opened = seal::open(by, &Topic::Roster.render(site), bytes)?;
        // What was signed is the text without the seal; serde passed over that member.
        debug_assert_eq!(serde_json::from_slice::<Roster>(&opened.payload).ok().as_ref(), Some(&roster));
        if roster.number < number {
            return Err(RosterError::Old(roster.number, number));
        }
        Ok((roster, newest))
    }
}
