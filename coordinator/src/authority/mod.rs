//! Who belongs to the site: its CA, the key that signs orders, the tickets that admit devices, and what is on record of those
//! that were admitted. Everything lies in files of one folder, because the command line and the running
//! coordinator both work on them; a lock keeps them apart.
//!
//! Nothing here speaks to anybody: that is `door.rs` and `command.rs`.

pub mod command;
pub mod devices;
pub mod issue;
pub mod tickets;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use picket_shared::brokers::BrokerUrl;
use picket_shared::crypto::{NoRandom, PublicKey, SecretKey, from_hex};
use picket_shared::exit::{Exit, Failure};
use picket_shared::ids::{NodeId, SiteId};
use picket_shared::keyfile::{self, KeyfileError};
use picket_shared::topics::OPERATOR_PREFIX;
use picket_shared::trust::certificate::{Certificate, Standing};
use picket_shared::trust::door::{Admission, DOOR_NAME};
use picket_shared::trust::identity::Identity;
use picket_shared::trust::orders::{OrdersChain, OrdersError};
use picket_shared::trust::token::TOKEN_SECRET_BYTES;

use devices::Device;
use issue::{Ca, IssueError, Purpose};
use tickets::{Ticket, TicketError, Tickets};

/// How long a device's certificate lasts: a stolen device that nobody misses is out after that.
pub const DEVICE_DAYS: u64 = 90;
/// How long a broker's lasts: a person makes it.
pub const BROKER_DAYS: u64 = 730;
/// The coordinator's name in its certificate, and in the broker's access rules.
pub const COORDINATOR: &str = "coordinator";
/// Devices on record.
pub const DEVICES_MAX: usize = 4096;

/// Why the authority does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// A file or the disk.
    #[error(transparent)]
    File(#[from] KeyfileError),
    /// A certificate cannot be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The system gives no random bytes.
    #[error(transparent)]
    Random(#[from] NoRandom),
    /// The chain of orders keys is damaged.
    #[error("{0} is damaged: {1}")]
    Orders(PathBuf, OrdersError),
    /// A ticket does not admit.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// The other side asks for what it may not have; a sentence with what to do.
    #[error("{0}")]
    Refused(String),
}

impl From<AuthorityError> for Failure {
    fn from(error: AuthorityError) -> Failure {
        let exit = match &error {
            AuthorityError::File(_) | AuthorityError::Orders(..) | AuthorityError::Ticket(TicketError::File(_)) => {
                Exit::Disk
            }
            AuthorityError::Issue(_) => Exit::Software,
            AuthorityError::Random(_) => Exit::System,
            AuthorityError::Ticket(_) | AuthorityError::Refused(_) => Exit::Denied,
        };
        Failure::new(exit, error.to_string())
    }
}

/// A site's authority.
#[derive(Clone)]
pub struct Authority {
    dir: PathBuf,
    site: SiteId,
}

/// A certificate with its chain and key, in PEM.
pub struct Issued {
    /// The certificate, and the CA's behind it.
    pub chain: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// The authority of a site in this folder; it is made where there is none.
    pub fn open(dir: &Path, site: &SiteId, now_s: u64) -> Result<Authority, AuthorityError> {
        let authority = Authority { dir: dir.to_owned(), site: site.clone() };
        keyfile::make_dir(&authority.dir)?;
        let _lock = authority.lock()?;
        if !authority.at("orders.json").exists() {
            authority.make(now_s)?;
        }
        let ca = authority.ca_certificate()?;
        if ca.name != issue::ca_name(site) {
            return Err(AuthorityError::Refused(format!(
                "{} is the \"{}\" and this coordinator's site is {site}; correct site, or data_dir",
                authority.at("ca.pem").display(),
                ca.name
            )));
        }
        Ok(authority)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// When its devices and its orders keys changed last: whoever has seen that has seen all.
    pub fn state(&self) -> [Option<SystemTime>; 2] {
        ["devices", "orders.json"].map(|name| fs::metadata(self.at(name)).and_then(|file| file.modified()).ok())
    }

    /// Whether there is one in this folder.
    pub fn exists(dir: &Path) -> bool {
        dir.join("orders.json").exists()
    }

    /// Makes what an authority consists of. The list of orders keys comes last: where it is, everything is.
    fn make(&self, now_s: u64) -> Result<(), AuthorityError> {
        let key = SecretKey::generate()?;
        keyfile::write_secret(&self.at("ca.key.pem"), key.to_pem().as_bytes())?;
        keyfile::write_open(&self.at("ca.pem"), issue::make_ca(&key, &self.site, now_s)?.as_bytes())?;
        self.write_revocations(now_s)?;
        let orders = SecretKey::generate()?;
        keyfile::write_secret(&self.orders_path(1), orders.to_pem().as_bytes())?;
        self.write_orders(&OrdersChain::begin(&self.site, &orders, now_s))
    }

    // ---- The CA -----------------------------------------------------------------------------------------------------

    /// The CA's certificate, in PEM.
    pub fn ca_pem(&self) -> Result<String, AuthorityError> {
        Ok(keyfile::read_open(&self.at("ca.pem"))?)
    }

    /// The CA's certificate.
    pub fn ca_certificate(&self) -> Result<Certificate, AuthorityError> {
        let content = |what: &str| KeyfileError::Content(self.at("ca.pem"), what.to_owned());
        Ok(Certificate::from_pem(&self.ca_pem()?).map_err(content)?)
    }

    fn ca(&self) -> Result<Ca<'static>, AuthorityError> {
        Ok(Ca::new(&self.ca_pem()?, &secret(&self.at("ca.key.pem"))?)?)
    }

    /// The list of certificates that were taken back, in PEM, as brokers read it.
    pub fn revocations(&self, now_s: u64) -> Result<String, AuthorityError> {
        let _lock = self.lock()?;
        // Anew: a crash may have left it behind what is on record.
        self.write_revocations(now_s)?;
        Ok(keyfile::read_open(&self.at("crl.pem"))?)
    }

    fn write_revocations(&self, now_s: u64) -> Result<(), AuthorityError> {
        let devices = self.devices()?;
        let revoked = devices.iter().flat_map(|device| device.revoked(now_s));
        // A serial number that we wrote has sixteen bytes.
        let revoked: Vec<_> =
            revoked.filter_map(|(serial, at_s)| Some((from_hex::<16>(serial)?.to_vec(), at_s))).collect();
        // Numbers must grow; nobody revokes twice in a millisecond, and a clock that is set back only repeats them.
        let list = self.ca()?.revocations(&revoked, now_s, now_s)?;
        Ok(keyfile::write_open(&self.at("crl.pem"), list.as_bytes())?)
    }

    /// A new key with a certificate of this name: for a broker, by these hosts; or for somebody who connects.
    pub fn issue(&self, name: &str, purpose: &Purpose, now_s: u64) -> Result<Issued, AuthorityError> {
        if let Purpose::Server(hosts) = purpose
            && name != DOOR_NAME
            && hosts.iter().any(|host| host == DOOR_NAME)
        {
            return Err(AuthorityError::Refused(format!(
                "{DOOR_NAME} is the door's own name; name the broker's hosts"
            )));
        }
        let key = SecretKey::generate()?;
        let certificate = self.ca()?.issue(name, key.public(), purpose, now_s, BROKER_DAYS)?;
        Ok(Issued { chain: certificate + &self.ca_pem()?, key: key.to_pem() })
    }

    // ---- Orders -----------------------------------------------------------------------------------------------------

    /// The keys that sign orders, the present one last.
    pub fn orders(&self) -> Result<OrdersChain, AuthorityError> {
        let path = self.at("orders.json");
        let damaged = |error: serde_json::Error| KeyfileError::Content(path.clone(), format!("is damaged ({error})"));
        let chain: OrdersChain = serde_json::from_str(&keyfile::read_open(&path)?).map_err(damaged)?;
        chain.check(&self.site).map_err(|error| AuthorityError::Orders(path.clone(), error))?;
        Ok(chain)
    }

    /// The key that signs orders now.
    pub fn orders_key(&self) -> Result<SecretKey, AuthorityError> {
        secret(&self.orders_path(self.orders()?.newest().number))
    }

    /// Makes a new orders key that the present one announces, and forgets the present one. Every device refuses it as soon as
    /// it has heard of the new one.
    pub fn rotate(&self, now_s: u64) -> Result<OrdersChain, AuthorityError> {
        let _lock = self.lock()?;
        let (mut chain, present, new) = (self.orders()?, self.orders_key()?, SecretKey::generate()?);
        let before = chain.newest().number;
        chain.add(&self.site, &present, new.public(), now_s);
        keyfile::write_secret(&self.orders_path(before + 1), new.to_pem().as_bytes())?;
        self.write_orders(&chain)?;
        keyfile::remove(&self.orders_path(before))?;
        Ok(chain)
    }

    fn write_orders(&self, chain: &OrdersChain) -> Result<(), AuthorityError> {
        let json = serde_json::to_vec_pretty(chain).expect("numbers and texts");
        Ok(keyfile::write_open(&self.at("orders.json"), &json)?)
    }

    fn orders_path(&self, number: u32) -> PathBuf {
        self.at(&format!("orders-{number}.key.pem"))
    }

    // ---- Devices ----------------------------------------------------------------------------------------------------

    /// A ticket that makes one device of this name; its secret is kept nowhere.
    pub fn invite(&self, node: &NodeId, minutes: u64, now_s: u64) -> Result<[u8; TOKEN_SECRET_BYTES], AuthorityError> {
        let commands = [COORDINATOR, OPERATOR_PREFIX];
        if let Some(begin) = commands.iter().find(|begin| node.as_str().starts_with(*begin)) {
            let sentence =
                format!("the name {node} begins with \"{begin}\", which brokers let command; choose another");
            return Err(AuthorityError::Refused(sentence));
        }
        let _lock = self.lock()?;
        let ticket = Ticket { node: node.clone(), expires_s: now_s + minutes * 60, key: None };
        Ok(self.tickets()?.write(&ticket, now_s)?)
    }

    /// Admits whoever shows this secret, under the ticket's name.
    pub fn enrol(
        &self,
        secret: &[u8; TOKEN_SECRET_BYTES],
        csr: &str,
        brokers: Vec<BrokerUrl>,
        now_s: u64,
    ) -> Result<Admission, AuthorityError> {
        let key = issue::key_of_request(csr).map_err(|what| AuthorityError::Refused(what.into()))?;
        let _lock = self.lock()?;
        let node = self.tickets()?.spend(secret, key, now_s)?;
        self.admit(node, key, brokers, now_s)
    }

    /// Gives the owner of this certificate its next one. Whether the certificate is genuine and holds, TLS has found out.
    pub fn renew(
        &self,
        present: &Certificate,
        csr: &str,
        brokers: Vec<BrokerUrl>,
        now_s: u64,
    ) -> Result<Admission, AuthorityError> {
        let refused = |what: &str| AuthorityError::Refused(what.to_owned());
        let key = issue::key_of_request(csr).map_err(refused)?;
        if present.key != Some(key) {
            return Err(refused(
                "the certificate request is for another key than the certificate; enrol the device again",
            ));
        }
        let node = NodeId::new(&*present.name).map_err(|_| refused("the certificate is not a device's"))?;
        let _lock = self.lock()?;
        let device = self.device(&node)?.ok_or_else(|| refused("this device is not on record here; enrol it again"))?;
        device.admits(&present.serial).map_err(AuthorityError::Refused)?;
        self.admit(node, key, brokers, now_s)
    }

    fn admit(
        &self,
        node: NodeId,
        key: PublicKey,
        brokers: Vec<BrokerUrl>,
        now_s: u64,
    ) -> Result<Admission, AuthorityError> {
        let certificate = self.ca()?.issue(node.as_str(), key, &Purpose::Client, now_s, DEVICE_DAYS)?;
        let read = Certificate::from_pem(&certificate).expect("it was made a line above");
        let mut device = match self.device(&node)? {
            Some(device) => device,
            None if self.devices()?.len() >= DEVICES_MAX => {
                return Err(AuthorityError::Refused(format!("{DEVICES_MAX} devices are on record, which is the most")));
            }
            None => Device::new(node.clone()),
        };
        let taken_back = device.give(&read, key, now_s).map_err(AuthorityError::Refused)?;
        self.write_device(&device)?;
        if taken_back {
            tracing::warn!("{node} has a new key: what its old one was given is revoked; brokers need the new list");
            self.write_revocations(now_s)?;
        }
        let (site, ca, orders) = (self.site.clone(), self.ca_pem()?, self.orders()?);
        Ok(Admission { site, node, certificate, ca, brokers, orders, model_root: None })
    }

    /// Takes back everything that a device was given, and the tickets of its name. How many certificates were taken back.
    pub fn revoke(&self, node: &NodeId, now_s: u64) -> Result<usize, AuthorityError> {
        let _lock = self.lock()?;
        let withdrawn = self.tickets()?.withdraw(node)?;
        let Some(mut device) = self.device(node)? else {
            let sentence =
                format!("no device {node} was ever admitted; `picket-coordinator authority list` names them");
            return if withdrawn > 0 { Ok(0) } else { Err(AuthorityError::Refused(sentence)) };
        };
        let revoked = device.revoke(now_s);
        self.write_device(&device)?;
        self.write_revocations(now_s)?;
        Ok(revoked)
    }

    /// All devices on record, by name.
    pub fn devices(&self) -> Result<Vec<Device>, AuthorityError> {
        let dir = self.at("devices");
        keyfile::make_dir(&dir)?;
        let denied = |error: std::io::Error| KeyfileError::Disk(dir.clone(), error.to_string());
        let mut names = Vec::new();
        for file in fs::read_dir(&dir).map_err(denied)? {
            let name = file.map_err(denied)?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(".json").and_then(|name| NodeId::new(name).ok()));
        }
        names.sort_unstable();
        names.iter().filter_map(|node| self.device(node).transpose()).collect()
    }

    /// What is on record of one device.
    pub fn device(&self, node: &NodeId) -> Result<Option<Device>, AuthorityError> {
        let path = self.at(&format!("devices/{node}.json"));
        match keyfile::read_open(&path) {
            Err(KeyfileError::Missing(_)) => Ok(None),
            text => serde_json::from_str(&text?)
                .map(Some)
                .map_err(|error| KeyfileError::Content(path, format!("is damaged ({error})")).into()),
        }
    }

    /// Tickets that are out.
    pub fn tickets_out(&self) -> Result<Vec<Ticket>, AuthorityError> {
        Ok(self.tickets()?.list()?.into_iter().map(|(_, ticket)| ticket).collect())
    }

    fn write_device(&self, device: &Device) -> Result<(), AuthorityError> {
        keyfile::make_dir(&self.at("devices"))?;
        let json = serde_json::to_vec_pretty(device).expect("names, numbers and texts");
        Ok(keyfile::write_open(&self.at(&format!("devices/{}.json", device.node)), &json)?)
    }

    fn tickets(&self) -> Result<Tickets, AuthorityError> {
        Ok(Tickets::in_dir(self.at("tickets"))?)
    }

    // ---- The coordinator itself -------------------------------------------------------------------------------------

    /// The coordinator's own identity, with a certificate that is made anew in the last third of its life.
    pub fn coordinator(&self, now_s: u64) -> Result<Identity, AuthorityError> {
        let _lock = self.lock()?;
        let own = Identity::in_dir(self.at("coordinator"));
        let key = own.key_or_new()?;
        let fresh = own.certificate().is_ok_and(|certificate| certificate.standing(now_s) == Standing::Fresh);
        if !fresh {
            let certificate = self.ca()?.issue(COORDINATOR, key.public(), &Purpose::Client, now_s, DEVICE_DAYS)?;
            own.put_certificate(&certificate, &self.ca_pem()?)?;
        }
        Ok(own)
    }

    /// What the door shows: a new certificate each time, and its key, which is kept nowhere.
    pub fn door(&self, now_s: u64) -> Result<Issued, AuthorityError> {
        self.issue(DOOR_NAME, &Purpose::Server(vec![DOOR_NAME.to_owned()]), now_s)
    }

    fn lock(&self) -> Result<File, KeyfileError> {
        let path = self.at("lock");
        let open = || {
            let file = File::options().create(true).append(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        open().map_err(|error: std::io::Error| KeyfileError::Disk(path.clone(), error.to_string()))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn secret(path: &Path) -> Result<SecretKey, AuthorityError> {
    let content = |error: picket_shared::crypto::KeyError| KeyfileError::Content(path.to_owned(), error.to_string());
    Ok(SecretKey::from_pem(&keyfile::read_secret(path)?).map_err(content)?)
}
