//! What a device has seen and never goes behind: the highest root, the highest assignment, and the highest release of each
//! model. It is kept durable, outside of the places that models lie in, so that no rollback of a model rolls it back. Pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::envelope::Document;
use super::root::Root;
use crate::crypto::{Digest, KeyId};
use crate::ids::ModelName;
use crate::limits::{MODEL_LEARNED_MAX, MODEL_NAMES_MAX, MODEL_TRUSTED_BYTES_MAX};
use crate::wire::Wire;

/// What was seen under one orders key. A new key begins anew: whoever stole the one before may have counted it to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrdersSeen {
    /// The key.
    pub key: KeyId,
    /// The highest number of an assignment.
    pub number: u64,
    /// The latest time that one was said at: it is not earlier now, whatever this device's clock says.
    pub issued_s: u64,
    /// Until when the newest assignment is fresh.
    pub fresh_until_s: u64,
}

/// The highest head of one model, and the orders key that signed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadSeen {
    /// The key.
    pub key: KeyId,
    /// The highest counter.
    pub counter: u64,
}

/// The highest learned head over one network, and the orders key that signed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedSeen {
    /// The network's file.
    pub backbone: Digest,
    /// The key.
    pub key: KeyId,
    /// The highest fleet epoch.
    pub fleet_epoch: u32,
    /// The highest counter in it.
    pub counter: u64,
    /// When it was said last, seconds since 1970.
    pub issued_s: u64,
}

/// Everything that a device remembers of what it was told of models. [`crate::codec`] writes and reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusted {
    /// The newest root.
    pub root: Root,
    /// The newest assignment.
    pub orders: Option<OrdersSeen>,
    /// The highest release of each model that the owner signed and this device was told of.
    pub counters: BTreeMap<ModelName, u64>,
    /// The highest head of each.
    pub heads: BTreeMap<ModelName, HeadSeen>,
    /// The highest learned head over each network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learned: Vec<LearnedSeen>,
}

impl Wire for Trusted {
    const BYTES_MAX: usize = MODEL_TRUSTED_BYTES_MAX;

    fn check(&self) -> Result<(), String> {
        self.root.check()?;
        if self.learned.len() > MODEL_LEARNED_MAX {
            return Err(format!("learned heads over {} networks, of at most {MODEL_LEARNED_MAX}", self.learned.len()));
        }
        let most = self.counters.len().max(self.heads.len());
        if most > MODEL_NAMES_MAX { Err(format!("{most} models, of at most {MODEL_NAMES_MAX}")) } else { Ok(()) }
    }
}

impl Trusted {
    /// Of a device that knows a root and has seen nothing.
    pub fn begin(root: Root) -> Trusted {
        Trusted { root, orders: None, counters: BTreeMap::new(), heads: BTreeMap::new(), learned: vec![] }
    }

    /// What is trusted by a device that kept `kept` and whose own configuration, or enrolment, names `anchor`. A newer root is
    /// taken because somebody with a right to this device put it there; an older one changes nothing. The error is a sentence.
    pub fn anchored(kept: Option<Trusted>, anchor: Root) -> Result<Trusted, String> {
        match kept {
            None => Ok(Trusted::begin(anchor)),
            Some(kept) if kept.root.version < anchor.version => Ok(Trusted { root: anchor, ..kept }),
            Some(kept) if kept.root.version == anchor.version && kept.root != anchor => Err(format!(
                "the root that is configured and the one that this device knows are both version {} and differ; one of them is \
                 not the owner's",
                anchor.version
            )),
            Some(kept) => Ok(kept),
        }
    }

    /// Whether the news has stopped: there was an assignment, and it is fresh no more. The device goes on with what it has.
    pub fn is_frozen(&self, now_s: u64) -> bool {
        self.orders.is_some_and(|orders| now_s.max(orders.issued_s) >= orders.fresh_until_s)
    }

    /// Takes in what an assignment under this key says of itself; whether it is older than one before.
    pub(super) fn hear(&mut self, key: KeyId, number: u64, issued_s: u64, expires_s: u64) -> Result<(), u64> {
        let heard = OrdersSeen { key, number, issued_s, fresh_until_s: expires_s };
        let Some(seen) = self.orders.as_mut().filter(|seen| seen.key == key) else {
            self.orders = Some(heard);
            return Ok(());
        };
        let before = *seen;
        let latest_s = before.issued_s.max(issued_s);
        match number.cmp(&before.number) {
            Ordering::Greater => *seen = heard,
            Ordering::Equal => seen.fresh_until_s = before.fresh_until_s.max(expires_s),
            Ordering::Less => {}
        }
        seen.issued_s = latest_s;
        if number < before.number { Err(before.number) } else { Ok(()) }
    }

    /// Takes in a learned head that this key signed, said at this time; the highest (epoch, counter) before it under the same key.
    pub(super) fn hear_learned(&mut self, heard: LearnedSeen) -> Option<(u32, u64)> {
        let rank = |seen: &LearnedSeen| (seen.fleet_epoch, seen.counter);
        let Some(seen) = self.learned.iter_mut().find(|seen| seen.backbone == heard.backbone) else {
            self.learned.push(heard);
            if self.learned.len() > MODEL_LEARNED_MAX {
                let oldest = (0..MODEL_LEARNED_MAX).min_by_key(|at| self.learned[*at].issued_s);
                self.learned.remove(oldest.expect("there are some"));
            }
            return None;
        };
        let before = Some(rank(seen)).filter(|_| seen.key == heard.key);
        let issued_s = seen.issued_s.max(heard.issued_s);
        if before.is_none_or(|before| before <= rank(&heard)) {
            *seen = heard;
        }
        seen.issued_s = issued_s;
        before
    }
}
