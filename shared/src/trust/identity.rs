//! What a device keeps of who it is, in one folder that only its user may look into: its key, its certificate, the site's CA,
//! and what it was told when it was admitted.
//!
//! The certificate is written last, so a device is enrolled when it is there and not before. A key once made is kept: who
//! asks again after an answer was lost asks with the same one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::certificate::Certificate;
use super::door::Admission;
use super::orders::OrdersKey;
use super::tls::TlsFiles;
use super::token::Door;
use crate::brokers::BrokerUrl;
use crate::crypto::SecretKey;
use crate::ids::{NodeId, SiteId};
use crate::keyfile::{self, KeyfileError};
use crate::model::{Envelope, Root};

/// What a device was told when it was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The site.
    pub site: SiteId,
    /// The device's name there.
    pub node: NodeId,
    /// Where the door is, as `host:port`.
    pub door: String,
    /// The brokers, in their order.
    pub brokers: Vec<BrokerUrl>,
    /// The key that signs orders. Every other one is refused.
    pub orders: OrdersKey,
}

/// The folder of one identity. Nothing is read before it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    dir: PathBuf,
}

/// Why an admission is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// The disk, or a file.
    #[error(transparent)]
    File(#[from] KeyfileError),
    /// The answer is not for this device, or not what it knows.
    #[error("the answer of {0} is refused: {1}")]
    Answer(String, String),
}

impl Identity {
    /// The identity below an agent's data directory.
    pub fn below(data_dir: &Path) -> Identity {
        Identity::in_dir(data_dir.join("identity"))
    }

    /// The identity in this folder.
    pub fn in_dir(dir: PathBuf) -> Identity {
        Identity { dir }
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the device has been admitted. Who may not look must not take it for one that was not; below a file there is
    /// nothing to look at.
    pub fn is_enrolled(&self) -> bool {
        let absent = |error: std::io::Error| error.kind() != std::io::ErrorKind::NotADirectory;
        self.at("certificate.pem").try_exists().unwrap_or_else(absent)
    }

    /// What connections are made with.
    pub fn tls(&self) -> TlsFiles {
        let (certificate, key) = (Some(self.at("certificate.pem")), Some(self.at("key.pem")));
        TlsFiles { ca: self.at("ca.pem"), certificate, key }
    }

    /// The certificate.
    pub fn certificate(&self) -> Result<Certificate, KeyfileError> {
        let path = self.at("certificate.pem");
        Certificate::from_pem(&keyfile::read_open(&path)?)
            .map_err(|what| KeyfileError::Content(path, format!("{what}; enrol this device again")))
    }

    /// What the device was told.
    pub fn membership(&self) -> Result<Membership, KeyfileError> {
        let path = self.at("membership.json");
        serde_json::from_str(&keyfile::read_open(&path)?)
            .map_err(|error| KeyfileError::Content(path, format!("is damaged ({error}); enrol this device again")))
    }

    /// The device's key.
    pub fn key(&self) -> Result<SecretKey, KeyfileError> {
        let path = self.at("key.pem");
        SecretKey::from_pem(&keyfile::read_secret(&path)?)
            .map_err(|error| KeyfileError::Content(path, format!("{error}; enrol this device again")))
    }

    /// The device's key, which is made where there is none.
    pub fn key_or_new(&self) -> Result<SecretKey, KeyfileError> {
        match self.key() {
            Err(KeyfileError::Missing(path)) => {
                keyfile::make_dir(&self.dir)?;
                let random = |error: crate::crypto::NoRandom| KeyfileError::Content(path.clone(), error.to_string());
                let key = SecretKey::generate().map_err(random)?;
                keyfile::write_secret(&path, key.to_pem().as_bytes())?;
                Ok(key)
            }
            key => key,
        }
    }

    /// Keeps what the door answered, once it is for this key, of this CA, and its orders keys follow from what is known.
    pub fn admit(&self, door: &Door, fingerprint: &[u8; 32], told: &Admission) -> Result<Membership, AdmissionError> {
        let refused = |why: &str| AdmissionError::Answer(door.to_string(), why.to_owned());
        let certificate = Certificate::from_pem(&told.certificate).map_err(refused)?;
        let ca = Certificate::from_pem(&told.ca).map_err(refused)?;
        if ca.fingerprint != *fingerprint {
            return Err(refused("it comes with another CA than the known one"));
        }
        if certificate.key != Some(self.key()?.public()) {
            return Err(refused("its certificate is for another key"));
        }
        if certificate.name != told.node.as_str() {
            return Err(refused("its certificate is for another name"));
        }
        let of_orders = |error: super::orders::OrdersError| refused(&error.to_string());
        told.orders.check(&told.site).map_err(of_orders)?;
        let orders = match self.membership() {
            Ok(known) if self.is_enrolled() && known.site == told.site => {
                told.orders.follow(&told.site, &known.orders).map_err(of_orders)?
            }
            _ => told.orders.newest().clone(),
        };
        let (site, node, brokers) = (told.site.clone(), told.node.clone(), told.brokers.clone());
        let membership = Membership { site, node, door: door.to_string(), brokers, orders };
        self.keep_model_root(told.model_root.as_deref()).map_err(|why| refused(&why))?;
        self.keep(&membership)?;
        self.put_certificate(&told.certificate, &told.ca)?;
        Ok(membership)
    }

    /// Keeps what the device knows of its site.
    pub fn keep(&self, membership: &Membership) -> Result<(), KeyfileError> {
        let json = serde_json::to_vec_pretty(membership).expect("names, numbers and texts");
        keyfile::write_open(&self.at("membership.json"), &json)
    }

    /// The model root that the device was told when it was admitted; none where the site had none yet.
    pub fn model_root(&self) -> Result<Option<Envelope>, KeyfileError> {
        let path = self.at("model-root.json");
        match keyfile::read_open(&path) {
            Err(KeyfileError::Missing(_)) => Ok(None),
            text => Envelope::from_file::<Root>(&text?).map(Some).map_err(|what| KeyfileError::Content(path, what)),
        }
    }

    /// Keeps the first one and no other: later ones come as a chain from it, so that whoever has the door by then cannot put
    /// his own in its place. The error is a sentence.
    fn keep_model_root(&self, told: Option<&str>) -> Result<(), String> {
        let path = self.at("model-root.json");
        let Some(text) = told.filter(|_| !path.exists()) else { return Ok(()) };
        let envelope = Envelope::from_file::<Root>(text).map_err(|what| format!("its model root {what}"))?;
        Root::anchor(&envelope).map_err(|error| error.to_string())?;
        keyfile::write_open(&path, text.as_bytes()).map_err(|error| error.to_string())
    }

    /// Keeps a certificate and its CA, both in PEM, for whoever needs no more than to connect.
    pub fn put_certificate(&self, certificate: &str, ca: &str) -> Result<(), KeyfileError> {
        keyfile::write_open(&self.at("ca.pem"), ca.as_bytes())?;
        keyfile::write_open(&self.at("certificate.pem"), certificate.as_bytes())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}
