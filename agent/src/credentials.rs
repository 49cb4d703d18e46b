//! What this agent signs with and checks others by, and the files that keep both over a restart. It decides nothing about who
//! may say what; that is the verifier's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use picket_shared::calendar::unix_s;
use picket_shared::crypto::PublicKey;
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::{Boot, RequestId, SiteId};
use picket_shared::keyfile::{self, KeyfileError};
use picket_shared::topics::Topic;
use picket_shared::trust::identity::{Identity, Membership};
use picket_shared::trust::roster::Roster;
use picket_shared::trust::signer::Signer;
use picket_shared::trust::verifier::{Refusal, Verifier};

/// An agent's keys. One that is not enrolled signs nothing and takes everything.
pub struct Credentials {
    /// Signs what this node says.
    pub signer: Option<Arc<Signer>>,
    verifier: Verifier,
    files: Option<Files>,
}

/// What is on the disk, and changes.
struct Files {
    identity: Identity,
    membership: Membership,
    /// The number of the roster that is known; 0 before there is one.
    roster: u64,
    /// The last place heard of each kind of order, by the name of its file.
    places: BTreeMap<&'static str, (u64, u64)>,
}

/// Where the last place of an order is kept.
fn place_file(topic: &Topic) -> Option<&'static str> {
    match topic {
        Topic::Standby(_) => Some("standby-place.json"),
        Topic::PictureOrder(..) => Some("picture-place.json"),
        _ => None,
    }
}

impl Credentials {
    /// Those of an agent that is not enrolled.
    pub fn none(site: SiteId) -> Credentials {
        Credentials { signer: None, verifier: Verifier::open_to_all(site), files: None }
    }

    /// Those of the device in this folder, for a run that begins with `boot`.
    pub fn load(identity: Identity, site: SiteId, boot: Boot) -> Result<Credentials, Failure> {
        if !identity.is_enrolled() {
            return Ok(Credentials::none(site));
        }
        let failed = |error: KeyfileError| Failure::new(Exit::Config, error.to_string());
        let (key, membership) = (identity.key().map_err(failed)?, identity.membership().map_err(failed)?);
        let mut verifier = Verifier::closed(site.clone(), &membership.orders);
        let mut files = Files { identity, membership, roster: 0, places: BTreeMap::new() };
        if let Some(published) = files.read("roster.json").map_err(failed)? {
            match Roster::read(&site, &files.membership.orders, 0, published.as_bytes()) {
                Ok((roster, _)) => {
                    files.roster = roster.number;
                    verifier.admit(&roster);
                }
                Err(error) => {
                    tracing::warn!("{}: {error}; a new one is waited for", files.path("roster.json").display())
                }
            }
        }
        let (me, any) = (files.membership.node.clone(), RequestId::new("any").expect("a constant name"));
        for topic in [Topic::Standby(me.clone()), Topic::PictureOrder(me, any)] {
            let name = place_file(&topic).expect("both are kept");
            let text = files.read(name).map_err(failed)?;
            // Damaged, it is as if nothing had been heard: orders of before run out by themselves.
            if let Some(place) = text.and_then(|text| serde_json::from_str(&text).ok()) {
                files.places.insert(name, place);
                verifier.recall(topic, place);
            }
        }
        let signer = Some(Arc::new(Signer::new(key, site, boot.0)));
        Ok(Credentials { signer, verifier, files: Some(files) })
    }

    /// The key that signs the site's orders; none, where the device is not enrolled.
    pub fn orders(&self) -> Option<PublicKey> {
        self.files.as_ref().map(|files| files.membership.orders.key)
    }

    /// A message as it is published.
    pub fn sign(&self, topic: &Topic, payload: Vec<u8>) -> Vec<u8> {
        match &self.signer {
            Some(signer) => signer.sign(topic, payload, unix_s()),
            None => payload,
        }
    }

    /// The message itself, if its speaker may say it here and now.
    pub fn open(&mut self, topic: &Topic, payload: &[u8]) -> Result<Vec<u8>, Refusal> {
        let message = self.verifier.open(topic, payload, unix_s())?.into_owned();
        if let (Some(name), Some(files)) = (place_file(topic), &mut self.files)
            && let Some(place) = self.verifier.place(topic)
            && files.places.insert(name, place) != Some(place)
        {
            files.write(name, &serde_json::to_vec(&place).expect("two numbers"));
        }
        Ok(message)
    }

    /// The time by which orders end: this device's calendar, or the latest that the coordinator vouched for.
    pub fn time_s(&self) -> u64 {
        self.verifier.time_s(unix_s())
    }

    /// Whether it takes orders at all: one that knows no keys cannot tell whose they are.
    pub fn takes_orders(&self) -> bool {
        self.verifier.is_closed()
    }

    /// Takes a roster. True where it changed who may speak, so that what was refused before may be taken now.
    pub fn roster(&mut self, published: &[u8]) -> Result<bool, Refusal> {
        let Some(files) = &mut self.files else { return Ok(false) };
        let (site, known) = (&files.membership.site, &files.membership.orders);
        let (roster, newest) =
            Roster::read(site, known, files.roster, published).map_err(|error| (error.word(), error.to_string()))?;
        if roster.number == files.roster {
            return Ok(false);
        }
        if newest.number != known.number {
            tracing::info!("orders are signed by key {} ({}) from here on", newest.number, newest.key.id());
            files.membership.orders = newest;
            if let Err(error) = files.identity.keep(&files.membership) {
                tracing::error!("{error}; after a restart the key before is believed until the coordinator is heard");
            }
        }
        files.roster = roster.number;
        files.write("roster.json", published);
        self.verifier.admit(&roster);
        Ok(true)
    }
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.identity.dir().join(name)
    }

    fn read(&self, name: &str) -> Result<Option<String>, KeyfileError> {
        match keyfile::read_open(&self.path(name)) {
            Ok(text) => Ok(Some(text)),
            Err(KeyfileError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        if let Err(error) = keyfile::write_open(&self.path(name), bytes) {
            tracing::error!("{error}; it is not known after a restart");
        }
    }
}
