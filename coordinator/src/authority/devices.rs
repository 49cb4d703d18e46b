//! What is on record of one device: the certificates that it was given, and which of them were taken back. Pure.

use picket_shared::crypto::PublicKey;
use picket_shared::ids::NodeId;
use picket_shared::trust::certificate::Certificate;
use serde::{Deserialize, Serialize};

/// Certificates of one device that hold at the same time: the present one, and those whose answer was lost.
pub const CERTIFICATES_MAX: usize = 8;

/// A certificate that was given out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// The device's key.
    pub key: PublicKey,
    /// Until when it holds, seconds since 1970.
    pub not_after_s: u64,
    /// When it was taken back, if it was.
    pub revoked_s: Option<u64>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name: the one in its certificates.
    pub node: NodeId,
    /// Its certificates, the newest last. Those that hold no more by the calendar are forgotten at the next one.
    pub certificates: Vec<Given>,
}

/// How a device stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its newest certificate holds.
    Active,
    /// Its newest certificate holds no more: it must be enrolled again.
    Expired,
    /// It was taken back.
    Revoked,
}

impl Device {
    /// A device that has nothing yet.
    pub fn new(node: NodeId) -> Device {
        Device { node, certificates: Vec::new() }
    }

    /// Notes a certificate that is to be given out. A device has one key: what an earlier one was given is taken back. True
    /// where that was so. Refused, with a sentence, where it has too many already.
    pub fn give(&mut self, certificate: &Certificate, key: PublicKey, now_s: u64) -> Result<bool, String> {
        self.certificates.retain(|given| given.not_after_s > now_s);
        let mut taken_back = false;
        for given in self.certificates.iter_mut().filter(|given| given.key != key && given.revoked_s.is_none()) {
            given.revoked_s = Some(now_s);
            taken_back = true;
        }
        let same = self.certificates.iter().filter(|given| given.key == key && given.revoked_s.is_none()).count();
        if same >= CERTIFICATES_MAX {
            return Err(format!("{} has {same} certificates that hold, which is more than anybody needs", self.node));
        }
        let (serial, not_after_s) = (certificate.serial.clone(), certificate.not_after_s);
        self.certificates.push(Given { serial, key, not_after_s, revoked_s: None });
        Ok(taken_back)
    }

    /// Takes everything back; how many certificates that were not yet.
    pub fn revoke(&mut self, now_s: u64) -> usize {
        let holding = self.certificates.iter_mut().filter(|given| given.revoked_s.is_none());
        holding.map(|given| given.revoked_s = Some(now_s)).count()
    }

    /// Whether this certificate was given to this device and not taken back; the error is a sentence.
    pub fn admits(&self, serial: &str) -> Result<(), String> {
        match self.certificates.iter().find(|given| given.serial == serial) {
            Some(Given { revoked_s: None, .. }) => Ok(()),
            Some(_) => {
                Err(format!("the certificate of {} is revoked; enrol it again if that was a mistake", self.node))
            }
            None => Err(format!("the certificate of {} is not on record here; enrol it again", self.node)),
        }
    }

    /// How it stands.
    pub fn state(&self, now_s: u64) -> State {
        match self.certificates.last() {
            Some(newest) if newest.revoked_s.is_some() => State::Revoked,
            Some(newest) if newest.not_after_s > now_s => State::Active,
            _ => State::Expired,
        }
    }

    /// Certificates that were taken back and would otherwise still hold, with when.
    pub fn revoked(&self, now_s: u64) -> impl Iterator<Item = (&str, u64)> {
        let holding = self.certificates.iter().filter(move |given| given.not_after_s > now_s);
        holding.filter_map(|given| Some((given.serial.as_str(), given.revoked_s?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(serial: u32, not_after_s: u64) -> Certificate {
        let (name, serial) = ("edge".into(), format!("{serial:02x}"));
        Certificate { name, serial, not_before_s: 0, not_after_s, key: None, fingerprint: [0; 32] }
    }

    const KEY: PublicKey = PublicKey([1; 32]);

    #[test]
    fn a_new_key_takes_back_what_the_old_one_has() {
        let mut device = Device::new(NodeId::new("edge").unwrap());
        assert_eq!(device.state(0), State::Expired);
        assert_eq!(device.give(&certificate(1, 100), KEY, 1), Ok(false));
        assert_eq!(device.give(&certificate(2, 110), KEY, 2), Ok(false), "a renewal");
        assert!(device.admits("01").is_ok() && device.admits("02").is_ok());
        assert_eq!(device.give(&certificate(3, 120), PublicKey([2; 32]), 3), Ok(true));
        assert!(device.admits("02").unwrap_err().contains("revoked"));
        assert!(device.admits("03").is_ok() && device.admits("04").unwrap_err().contains("not on record"));
        assert_eq!(device.revoked(50).collect::<Vec<_>>(), [("01", 3), ("02", 3)]);
        assert_eq!(device.revoked(105).collect::<Vec<_>>(), [("02", 3)], "what has expired needs no list");
        assert_eq!(device.state(50), State::Active);
        assert_eq!((device.revoke(60), device.revoke(61)), (1, 0));
        assert_eq!(device.state(61), State::Revoked);
    }

    #[test]
    fn nobody_collects_certificates() {
        let mut device = Device::new(NodeId::new("edge").unwrap());
        for n in 0..CERTIFICATES_MAX as u32 {
            device.give(&certificate(n, 100), KEY, 1).unwrap();
        }
        assert!(device.give(&certificate(99, 100), KEY, 1).unwrap_err().contains("8 certificates"));
        device.give(&certificate(99, 200), KEY, 100).unwrap();
        assert_eq!(device.certificates.len(), 1, "what has expired is forgotten");
        assert_eq!(device.state(200), State::Expired);
    }
}
