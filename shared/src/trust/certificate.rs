//! Reads what matters of an X.509 certificate: whose it is, of which key, and how long it holds. Whether it is genuine is for
//! the TLS library to say.

use x509_parser::prelude::{FromDer, X509Certificate};

use super::DAY_S;
use crate::crypto::{PublicKey, hex, sha256};

/// A certificate, as far as we look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The common name of its subject.
    pub name: String,
    /// Its serial number, in hexadecimal, as its issuer wrote it.
    pub serial: String,
    /// From when it holds, seconds since 1970.
    pub not_before_s: u64,
    /// Until when it holds, seconds since 1970.
    pub not_after_s: u64,
    /// Its key, where that is an Ed25519 one.
    pub key: Option<PublicKey>,
    /// The SHA-256 of all of it.
    pub fingerprint: [u8; 32],
}

/// How a certificate stands at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does not hold yet: the clock is wrong here, or was there.
    Early,
    /// More than a third of its life is left.
    Fresh,
    /// The last third of its life: time to renew.
    Late,
    /// It holds no more.
    Expired,
}

impl Certificate {
    /// The first certificate of a PEM text; the error is a clause about it.
    pub fn from_pem(text: &str) -> Result<Certificate, &'static str> {
        const NONE: &str = "holds no certificate in PEM";
        let blocks = pem::parse_many(text).map_err(|_| NONE)?;
        let block = blocks.iter().find(|block| block.tag() == "CERTIFICATE").ok_or(NONE)?;
        Certificate::from_der(block.contents())
    }

    /// The certificate of these bytes; the error is a clause about it.
    pub fn from_der(der: &[u8]) -> Result<Certificate, &'static str> {
        const DAMAGED: &str = "holds a damaged certificate";
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| DAMAGED)?;
        if !rest.is_empty() {
            return Err(DAMAGED);
        }
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
        Ok(Certificate {
            name: name.unwrap_or_default().to_owned(),
            serial: hex(parsed.raw_serial()),
            not_before_s: seconds(parsed.validity().not_before.timestamp()),
            not_after_s: seconds(parsed.validity().not_after.timestamp()),
            key: parsed.public_key().subject_public_key.data.as_ref().try_into().ok().map(PublicKey),
            fingerprint: sha256(der),
        })
    }

    /// How it stands now.
    pub fn standing(&self, now_s: u64) -> Standing {
        let Self { not_before_s, not_after_s, .. } = *self;
        match now_s {
            _ if now_s < not_before_s => Standing::Early,
            _ if now_s >= not_after_s => Standing::Expired,
            _ if not_after_s - now_s > (not_after_s - not_before_s) / 3 => Standing::Fresh,
            _ => Standing::Late,
        }
    }

    /// How long it holds yet, or since when it does not, for people.
    pub fn left(&self, now_s: u64) -> String {
        let (word, s) = match self.not_after_s.checked_sub(now_s) {
            Some(left_s) => ("expires in", left_s),
            None => ("expired", now_s - self.not_after_s),
        };
        let ago = if word == "expired" { " ago" } else { "" };
        match s {
            0..7_200 => format!("{word} {} minutes{ago}", s / 60),
            7_200..172_800 => format!("{word} {} hours{ago}", s / 3_600),
            _ => format!("{word} {} days{ago}", s / DAY_S),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_third_of_its_life_is_the_time_to_renew() {
        let certificate = Certificate {
            name: "edge".into(),
            serial: "01".into(),
            not_before_s: 1_000,
            not_after_s: 1_000 + 90 * DAY_S,
            key: None,
            fingerprint: [0; 32],
        };
        for (day, standing) in [
            (0, Standing::Fresh),
            (59, Standing::Fresh),
            (60, Standing::Late),
            (89, Standing::Late),
            (90, Standing::Expired),
        ] {
            assert_eq!(certificate.standing(1_000 + day * DAY_S), standing, "day {day}");
        }
        assert_eq!(certificate.standing(999), Standing::Early);
        assert_eq!(certificate.left(1_000), "expires in 90 days");
        assert_eq!(certificate.left(1_000 + 91 * DAY_S), "expired 24 hours ago");
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let other = pem::encode(&pem::Pem::new("PRIVATE KEY", vec![1]));
        let damaged = pem::encode(&pem::Pem::new("CERTIFICATE", vec![0x30, 0x03, 1, 2, 3]));
        for (text, expect) in [("", "no certificate"), (&*other, "no certificate"), (&*damaged, "damaged certificate")]
        {
            assert!(Certificate::from_pem(text).unwrap_err().contains(expect), "{text}");
        }
    }
}
