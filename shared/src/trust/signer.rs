//! Signs what this side says, each message with its place in all that is said on its topic. It holds a key and a counter;
//! what is said, and when, is decided elsewhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::DAY_S;
use super::seal::{self, Mark};
use crate::crypto::SecretKey;
use crate::ids::SiteId;
use crate::topics::{Form, Topic};

/// For how long an order stands that changes what a device does. A coordinator says it again long before.
pub const ORDER_LIFE_S: u64 = 30 * DAY_S;

/// For how long one saying of an order for a picture stands; who asks says it again. So much may two clocks differ.
pub const PICTURE_ORDER_LIFE_S: u64 = 5 * 60;

/// A speaker's key, and how far it has counted. Whoever speaks for this side shares it.
#[derive(Debug)]
pub struct Signer {
    site: SiteId,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    key: Arc<SecretKey>,
    run: u64,
    connection: u32,
    message: u32,
}

/// With which key, in which run, and which message of it.
type Place = (Arc<SecretKey>, u64, u64);

impl State {
    fn place(&self, message: u32) -> Place {
        (Arc::clone(&self.key), self.run, u64::from(self.connection) << 32 | u64::from(message))
    }
}

impl Signer {
    /// Signs with this key at this site. `run` is higher than in every run before: a node's boot, a coordinator's epoch.
    pub fn new(key: SecretKey, site: SiteId, run: u64) -> Signer {
        Signer { site, state: Mutex::new(State { key: Arc::new(key), run, connection: 0, message: 0 }) }
    }

    /// Another run begins: a coordinator leads under another epoch. The count goes on, so that no place comes twice.
    pub fn run(&self, run: u64) {
        self.lock().run = run;
    }

    /// Signs with another key from here on.
    pub fn rekey(&self, key: SecretKey) {
        self.lock().key = Arc::new(key);
    }

    /// The message as it is published; as it is, where nobody checks who said it.
    pub fn sign(&self, topic: &Topic, payload: Vec<u8>, now_s: u64) -> Vec<u8> {
        let mut state = self.lock();
        state.message += 1;
        if state.message == u32::MAX {
            // That place is the will's.
            (state.connection, state.message) = (state.connection + 1, 0);
        }
        let place = state.place(state.message);
        drop(state);
        self.seal(topic, payload, place, now_s)
    }

    /// The will of a connection that is about to be made. The broker says it after all that was said on that connection, and
    /// before all that is said on the next one; so that is its place.
    pub fn will(&self, topic: &Topic, payload: Vec<u8>, now_s: u64) -> Vec<u8> {
        let mut state = self.lock();
        (state.connection, state.message) = (state.connection + 1, 0);
        let place = state.place(u32::MAX);
        drop(state);
        self.seal(topic, payload, place, now_s)
    }

    fn seal(&self, topic: &Topic, payload: Vec<u8>, (key, run, seq): Place, issued_s: u64) -> Vec<u8> {
        let Some(form) = topic.sealed() else { return payload };
        let life_s = if matches!(topic, Topic::PictureOrder(..)) { PICTURE_ORDER_LIFE_S } else { ORDER_LIFE_S };
        let expires_s = topic.is_order().then_some(issued_s + life_s);
        let mark = Mark { run, seq, issued_s, expires_s };
        let text = topic.render(&self.site);
        match form {
            Form::Cbor => seal::seal(&key, &text, &mark, &payload),
            Form::Json => seal::seal_json(&key, &text, &mark, &payload),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
