//! The keys that sign a site's orders, from the first to the present one: each after the first is announced by the one before
//! it. Pure.
//!
//! A device that was away for long follows the announcements from the key that it knows to the newest. From there on every
//! earlier key is refused: there is no way back to a lower number.

use serde::{Deserialize, Serialize};

use crate::crypto::{KeyId, PublicKey, SIGNATURE_BYTES, SecretKey, from_hex, hex};
use crate::ids::SiteId;

/// Keys of one chain: a site that changes its key every month has enough for five years.
pub const ORDERS_KEYS_MAX: usize = 64;
const CONTEXT: &str = "picket orders key v1";

/// A key that signs orders, or did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrdersKey {
    /// Its place in the chain, from 1, without gaps.
    pub number: u32,
    /// The key.
    pub key: PublicKey,
    /// Since when it signs, seconds since 1970. Told to people; nothing is decided by it.
    pub since_s: u64,
    /// The signature of the key before it over all of that and the site's name, in hexadecimal; of the first one, its own.
    pub announced: String,
}

/// The keys of a site in their order; the last one signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrdersChain(Vec<OrdersKey>);

/// Why keys are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrdersError {
    /// There is none, or more than [`ORDERS_KEYS_MAX`].
    #[error("a chain of orders keys has 1 to {ORDERS_KEYS_MAX} of them")]
    Length,
    /// Numbers that do not follow each other.
    #[error("the orders keys have a gap, or are out of order")]
    Order,
    /// A key that the one before it did not announce for this site.
    #[error("orders key {0} was not announced by the key before it")]
    NotAnnounced(u32),
    /// A chain in which the known key is not: another site's, or a forged one.
    #[error("the orders key that this device knows (number {0}) is not in the chain; enrol the device again")]
    Unknown(u32),
}

impl OrdersKey {
    fn message(&self, site: &SiteId) -> Vec<u8> {
        let Self { number, key, since_s, .. } = self;
        // Every part has one form, and the site's name no line break.
        format!("{CONTEXT}\n{site}\n{number}\n{}\n{since_s}\n", String::from(*key)).into_bytes()
    }

    fn is_announced_by(&self, by: &PublicKey, site: &SiteId) -> bool {
        from_hex::<SIGNATURE_BYTES>(&self.announced).is_some_and(|signed| by.verify(&self.message(site), &signed))
    }
}

impl OrdersChain {
    /// A chain of one key, announced by itself.
    pub fn begin(site: &SiteId, key: &SecretKey, now_s: u64) -> OrdersChain {
        OrdersChain(vec![announce(site, 1, key.public(), key, now_s)])
    }

    /// Adds a key that the present one announces. The oldest goes where there are more than [`ORDERS_KEYS_MAX`]: who knows no
    /// later one must enrol again.
    pub fn add(&mut self, site: &SiteId, present: &SecretKey, new: PublicKey, now_s: u64) {
        let number = self.newest().number + 1;
        self.0.push(announce(site, number, new, present, now_s));
        let surplus = self.0.len().saturating_sub(ORDERS_KEYS_MAX);
        self.0.drain(..surplus);
    }

    /// The key that signs.
    pub fn newest(&self) -> &OrdersKey {
        self.0.last().expect("a chain is checked to have one")
    }

    /// All of them, the newest last.
    pub fn keys(&self) -> &[OrdersKey] {
        &self.0
    }

    /// Whether each key was announced by the one before it. The first must be trusted for another reason: it came with the
    /// certificate, or follows from the known one.
    pub fn check(&self, site: &SiteId) -> Result<(), OrdersError> {
        if self.0.is_empty() || self.0.len() > ORDERS_KEYS_MAX {
            return Err(OrdersError::Length);
        }
        for pair in self.0.windows(2) {
            if Some(pair[1].number) != pair[0].number.checked_add(1) {
                return Err(OrdersError::Order);
            }
            if !pair[1].is_announced_by(&pair[0].key, site) {
                return Err(OrdersError::NotAnnounced(pair[1].number));
            }
        }
        Ok(())
    }

    /// The newest key that follows from `known`; `known` itself where the chain ends before it: an old chain said again
    /// changes nothing.
    pub fn follow(&self, site: &SiteId, known: &OrdersKey) -> Result<OrdersKey, OrdersError> {
        self.check(site)?;
        let newest = self.newest();
        if newest.number < known.number {
            return Ok(known.clone());
        }
        let there = self.0.iter().find(|key| key.number == known.number);
        match there {
            Some(there) if there.key == known.key => Ok(newest.clone()),
            _ => Err(OrdersError::Unknown(known.number)),
        }
    }
}

/// Whether a key may sign orders for who knows `known`: the present one and no other. The word is for a counter.
pub fn may_sign(known: &OrdersKey, key: KeyId) -> Result<(), &'static str> {
    if known.key.id() == key { Ok(()) } else { Err("orders_key") }
}

fn announce(site: &SiteId, number: u32, key: PublicKey, by: &SecretKey, since_s: u64) -> OrdersKey {
    let mut new = OrdersKey { number, key, since_s, announced: String::new() };
    new.announced = hex(&by.sign(&new.message(site)));
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> SiteId {
        SiteId::new("yard").unwrap()
    }

    fn chain(keys: &[SecretKey]) -> OrdersChain {
        let mut chain = OrdersChain::begin(&site(), &keys[0], 1);
        for (before, new) in keys.iter().zip(&keys[1..]) {
            chain.add(&site(), before, new.public(), 2);
        }
        chain
    }

    fn keys(count: usize) -> Vec<SecretKey> {
        (0..count).map(|_| SecretKey::generate().unwrap()).collect()
    }

    #[test]
    fn who_was_away_follows_to_the_newest_and_never_back() {
        let keys = keys(4);
        let whole = chain(&keys);
        for known in whole.keys() {
            assert_eq!(whole.follow(&site(), known).as_ref(), Ok(whole.newest()));
        }
        let newest = whole.newest();
        let old = chain(&keys[..2]);
        assert_eq!(old.follow(&site(), newest).as_ref(), Ok(newest), "an old chain said again");
        assert_eq!(may_sign(newest, keys[3].public().id()), Ok(()));
        assert_eq!(may_sign(newest, keys[2].public().id()), Err("orders_key"), "a retired key");
    }

    #[test]
    fn a_key_that_was_not_announced_is_refused() {
        let (keys, other) = (keys(3), SecretKey::generate().unwrap());
        let whole = chain(&keys);
        let first = &whole.keys()[0];
        let refused = |change: &dyn Fn(&mut OrdersChain)| {
            let mut changed = whole.clone();
            change(&mut changed);
            changed.follow(&site(), first).unwrap_err()
        };
        assert_eq!(refused(&|chain| chain.0[2].key = other.public()), OrdersError::NotAnnounced(3));
        assert_eq!(refused(&|chain| chain.0[1].since_s += 1), OrdersError::NotAnnounced(2));
        assert_eq!(refused(&|chain| chain.0[1].announced.clear()), OrdersError::NotAnnounced(2));
        assert_eq!(refused(&|chain| drop(chain.0.remove(1))), OrdersError::Order);
        assert_eq!(refused(&|chain| chain.0.clear()), OrdersError::Length);
        assert_eq!(refused(&|chain| chain.0 = vec![chain.0[0].clone(); ORDERS_KEYS_MAX + 1]), OrdersError::Length);
        assert_eq!(refused(&|chain| drop(chain.0.remove(0))), OrdersError::Unknown(1));
        let elsewhere = SiteId::new("mill").unwrap();
        assert_eq!(whole.follow(&elsewhere, first), Err(OrdersError::NotAnnounced(2)));
        let forged = chain(&[other, SecretKey::generate().unwrap()]);
        assert_eq!(forged.follow(&site(), first), Err(OrdersError::Unknown(1)));
    }

    #[test]
    fn a_long_chain_forgets_its_beginning() {
        let keys = keys(ORDERS_KEYS_MAX + 2);
        let whole = chain(&keys);
        assert_eq!(whole.check(&site()), Ok(()));
        assert_eq!((whole.keys().len(), whole.keys()[0].number), (ORDERS_KEYS_MAX, 3));
    }
}
