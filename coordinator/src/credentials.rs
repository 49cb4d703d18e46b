//! What this coordinator signs with and checks nodes by: the authority beside its archive, read again while it runs, because
//! the command line changes it. It decides nothing about who may say what; that is the verifier's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use picket_shared::clock::Now;
use picket_shared::crypto::SecretKey;
use picket_shared::ids::SiteId;
use picket_shared::keyfile;
use picket_shared::topics::Topic;
use picket_shared::trust::roster::{Member, Roster};
use picket_shared::trust::signer::Signer;
use picket_shared::trust::verifier::{Refusal, Verifier};

use crate::authority::{Authority, AuthorityError};

/// How often the authority is looked at, in milliseconds.
pub const LOOK_MS: u64 = 5_000;
/// After a stranger spoke it is looked at sooner: that may be a device that was just enrolled.
const LOOK_AGAIN_MS: u64 = 1_000;
/// What may be so because the authority has changed.
const PERHAPS_NEW: [&str; 2] = ["not_enrolled", "foreign_key"];

/// A coordinator's keys. One without an authority signs nothing and takes everything.
pub struct Credentials {
    /// Signs what the coordinator says.
    pub signer: Option<Arc<Signer>>,
    verifier: Verifier,
    authority: Option<Known>,
}

struct Known {
    authority: Authority,
    site: SiteId,
    roster: Roster,
    /// The roster as it is published.
    published: Vec<u8>,
    looked_ms: u64,
    /// What the authority's files looked like then, and in which hour that was.
    state: ([Option<SystemTime>; 2], u64),
    complained: String,
}

impl Credentials {
    /// Those of a site without an authority.
    pub fn none(site: SiteId) -> Credentials {
        Credentials { signer: None, verifier: Verifier::open_to_all(site), authority: None }
    }

    /// Those of this authority.
    pub fn of(authority: Authority, site: SiteId, now_s: u64) -> Result<Credentials, AuthorityError> {
        let orders = authority.orders()?;
        let signer = Arc::new(Signer::new(authority.orders_key()?, site.clone(), 0));
        let mut verifier = Verifier::closed(site.clone(), orders.newest());
        let (roster, published) = roster(&authority, &site, now_s)?;
        verifier.admit(&roster);
        let known = Known {
            authority,
            site,
            roster,
            published,
            looked_ms: 0,
            state: ([None; 2], 0),
            complained: String::new(),
        };
        Ok(Credentials { signer: Some(signer), verifier, authority: Some(known) })
    }

    /// The roster as it is published; nothing without an authority.
    pub fn published(&self) -> Option<&[u8]> {
        self.authority.as_ref().map(|known| &*known.published)
    }

    /// The key that signs orders now; the error is a sentence.
    pub fn orders_key(&self) -> Result<SecretKey, String> {
        let Some(known) = &self.authority else {
            return Err(
                "this site has no authority, so no node could know who assigns it a model; enrol its devices".into()
            );
        };
        known.authority.orders_key().map_err(|error| error.to_string())
    }

    /// A message as it is published.
    pub fn sign(&self, topic: &Topic, payload: Vec<u8>, now_s: u64) -> Vec<u8> {
        match &self.signer {
            Some(signer) => signer.sign(topic, payload, now_s),
            None => payload,
        }
    }

    /// Looks at the authority where it is time to. True where it has changed: then there is a new roster to publish.
    pub fn look(&mut self, now: Now) -> bool {
        self.look_after(LOOK_MS, now)
    }

    /// The message itself, if its speaker may say it here and now; and whether the authority has changed.
    pub fn open(&mut self, topic: &Topic, payload: &[u8], now: Now) -> (Result<Vec<u8>, Refusal>, bool) {
        let open = |this: &mut Self| this.verifier.open(topic, payload, now.unix_ms / 1000).map(Cow::into_owned);
        match open(self) {
            Err((word, _)) if PERHAPS_NEW.contains(&word) && self.look_after(LOOK_AGAIN_MS, now) => (open(self), true),
            taken => (taken, false),
        }
    }

    fn look_after(&mut self, pause_ms: u64, now: Now) -> bool {
        let Some(known) = &mut self.authority else { return false };
        let (now_s, state) = (now.unix_ms / 1000, known.authority.state());
        if now.mono_ms < known.looked_ms + pause_ms {
            return false;
        }
        known.looked_ms = now.mono_ms;
        // Certificates also run out; that may be noticed within the hour.
        if std::mem::replace(&mut known.state, (state, now_s / 3_600)) == (state, now_s / 3_600) {
            return false;
        }
        let before = known.roster.clone();
        let looked = roster(&known.authority, &known.site, now_s).and_then(|(roster, published)| {
            if roster.orders != before.orders {
                let signer = self.signer.as_ref().expect("who has an authority has a signer");
                signer.rekey(known.authority.orders_key()?);
            }
            (known.roster, known.published) = (roster, published);
            Ok(())
        });
        if looked.is_err() {
            // It may have been in the middle of a change: what it looked like then is not what was understood.
            known.state = ([None; 2], 0);
        }
        let said = looked.err().map(|error| error.to_string()).unwrap_or_default();
        if said != known.complained {
            if !said.is_empty() {
                tracing::error!("{said}; who was enrolled or revoked since is not known");
            }
            known.complained = said;
        }
        let changed = known.roster != before;
        if changed {
            self.verifier.admit(&known.roster);
        }
        changed
    }
}

/// What the authority says now, and as it is published: numbered one higher than before where it differs from that.
fn roster(authority: &Authority, site: &SiteId, now_s: u64) -> Result<(Roster, Vec<u8>), AuthorityError> {
    let (orders, mut devices) = (authority.orders()?, BTreeMap::new());
    for device in authority.devices()? {
        let revoked = device.certificates.iter().filter(|given| given.revoked_s.is_some());
        let mut revoked: Vec<_> = revoked.map(|given| given.key.id()).collect();
        let key = device.certificates.iter().rev().find(|given| given.revoked_s.is_none() && given.not_after_s > now_s);
        let key = key.map(|given| given.key);
        revoked.retain(|id| key.is_none_or(|key| key.id() != *id));
        revoked.dedup();
        if key.is_some() || device.revoked(now_s).next().is_some() {
            devices.insert(device.node, Member { key, revoked });
        }
    }
    let path = authority.dir().join("roster.json");
    let first = orders.keys()[0].clone();
    let before = keyfile::read_open(&path).ok();
    let before = before.and_then(|text| Some((Roster::read(site, &first, 0, text.as_bytes()).ok()?.0, text)));
    if let Some((known, text)) = before.as_ref().filter(|(known, _)| known.orders == orders && known.devices == devices)
    {
        return Ok((known.clone(), text.clone().into_bytes()));
    }
    // Where the last one is lost, the time is higher than any count.
    let number = before.map_or(now_s, |(known, _)| known.number + 1);
    let roster = Roster { number, orders, devices };
    let published = roster.publish(site, &authority.orders_key()?, now_s);
    keyfile::write_open(&path, &published)?;
    Ok((roster, published))
}
