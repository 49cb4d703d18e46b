//! Signs what this side says, each message with its place in all that is said on its topic. It holds a key and a counter;
//! what is said, and when, is decided elsewhere. Pure.

use super::DAY_S;
use super::seal::{self, Mark};
use crate::crypto::SecretKey;
use crate::ids::SiteId;
use crate::topics::{Form, Topic};

/// For how long an order stands that changes what a device does. A coordinator says it again long before.
pub const ORDER_LIFE_S: u64 = 30 * DAY_S;

/// A speaker's key, and how far it has counted.
#[derive(Debug)]
pub struct Signer {
    key: SecretKey,
    site: SiteId,
    run: u64,
    seq: u64,
}

impl Signer {
    /// Signs with this key at this site. `run` is higher than in every run before: a node's boot, a coordinator's epoch.
    pub fn new(key: SecretKey, site: SiteId, run: u64) -> Signer {
        Signer { key, site, run, seq: 0 }
    }

    /// Another run begins: a coordinator leads under another epoch. The count goes on, so that no place comes twice.
    pub fn run(&mut self, run: u64) {
        self.run = run;
    }

    /// The message as it is published; as it is, where nobody checks who said it.
    pub fn sign(&mut self, topic: &Topic, payload: Vec<u8>, now_s: u64) -> Vec<u8> {
        let Some(form) = topic.sealed() else { return payload };
        self.seq += 1;
        let expires_s = topic.is_order().then_some(now_s + ORDER_LIFE_S);
        let mark = Mark { run: self.run, seq: self.seq, issued_s: now_s, expires_s };
        let text = topic.render(&self.site);
        match form {
            Form::Cbor => seal::seal(&self.key, &text, &mark, &payload),
            Form::Json => seal::seal_json(&self.key, &text, &mark, &payload),
        }
    }
}
