//! Makes certificates and revocation lists with the site's CA key. What may be issued to whom is decided elsewhere; nothing is
//! read or written here.

use std::time::Duration;

use picket_shared::crypto::{PublicKey, SecretKey, random};
use picket_shared::ids::SiteId;
use picket_shared::trust::DAY_S;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData,
    RevokedCertParams, SerialNumber, SignatureAlgorithm, date_time_ymd,
};

/// How long the CA lasts. Its end is the end of every certificate: the site then enrols anew.
const CA_DAYS: u64 = 20 * 365;
/// A revocation list must say when the next one comes, and OpenSSL lets nobody in after that. Ours comes when somebody is
/// revoked, so it holds for as long as the CA.
const CRL_DAYS: u64 = CA_DAYS;
/// A clock that is a little behind must not refuse a new certificate.
const BEFORE_S: u64 = 60 * 60;

/// What a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// To connect: a device, a coordinator, a dashboard.
    Client,
    /// To be connected to, by these host names and addresses.
    Server(Vec<String>),
}

/// What cannot be made, with the library's reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no certificate can be made ({0}); please report this")]
pub struct IssueError(String);

fn failed(error: impl std::fmt::Display) -> IssueError {
    IssueError(error.to_string())
}

/// The CA's own certificate, in PEM.
pub fn make_ca(key: &SecretKey, site: &SiteId, now_s: u64) -> Result<String, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, ca_name(site));
    // It signs devices' certificates and no other CA's.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now_s, CA_DAYS);
    params.serial_number = Some(new_serial()?);
    Ok(params.self_signed(&pair(key)?).map_err(failed)?.pem())
}

/// The common name of a site's CA.
pub fn ca_name(site: &SiteId) -> String {
    format!("Picket CA of {site}")
}

/// A site's CA, ready to sign.
pub struct Ca<'a> {
    issuer: Issuer<'a, KeyPair>,
}

impl Ca<'_> {
    /// The CA of this certificate, in PEM, and its key.
    pub fn new(certificate: &str, key: &SecretKey) -> Result<Self, IssueError> {
        Ok(Ca { issuer: Issuer::from_ca_cert_pem(certificate, pair(key)?).map_err(failed)? })
    }

    /// A certificate, in PEM.
    pub fn issue(
        &self,
        name: &str,
        key: PublicKey,
        purpose: &Purpose,
        now_s: u64,
        days: u64,
    ) -> Result<String, IssueError> {
        let (hosts, usage) = match purpose {
            Purpose::Client => (vec![], ExtendedKeyUsagePurpose::ClientAuth),
            Purpose::Server(hosts) => (hosts.clone(), ExtendedKeyUsagePurpose::ServerAuth),
        };
        // Nothing of what the device asked for is in here but its key.
        let mut params = CertificateParams::new(hosts).map_err(failed)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, now_s, days);
        params.serial_number = Some(new_serial()?);
        Ok(params.signed_by(&Subject(key), &self.issuer).map_err(failed)?.pem())
    }

    /// The revocation list of these serial numbers, each with when it was revoked; in PEM.
    pub fn revocations(&self, revoked: &[(Vec<u8>, u64)], number: u64, now_s: u64) -> Result<String, IssueError> {
        let epoch = date_time_ymd(1970, 1, 1);
        let revoked_certs = revoked.iter().map(|(serial, at_s)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: epoch + Duration::from_secs(*at_s),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: epoch + Duration::from_secs(now_s.saturating_sub(BEFORE_S)),
            next_update: epoch + Duration::from_secs(now_s + CRL_DAYS * DAY_S),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(failed)
    }
}

/// The key of a certificate request in PEM, which proves that it has it; the error is a sentence.
pub fn key_of_request(csr: &str) -> Result<PublicKey, &'static str> {
    let request = CertificateSigningRequestParams::from_pem(csr)
        .map_err(|_| "the certificate request cannot be read, or its signature is wrong")?;
    let key = &request.public_key;
    match key.der_bytes().try_into() {
        Ok(bytes) if key.algorithm() == &PKCS_ED25519 => Ok(PublicKey(bytes)),
        _ => Err("the certificate request is for another kind of key than Ed25519"),
    }
}

struct Subject(PublicKey);

impl PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        &self.0.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

fn pair(key: &SecretKey) -> Result<KeyPair, IssueError> {
    // What exactly is wrong might show the key.
    KeyPair::from_pem(&key.to_pem()).map_err(|_| failed("the CA's key is not taken"))
}

fn valid(params: &mut CertificateParams, now_s: u64, days: u64) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now_s.saturating_sub(BEFORE_S));
    params.not_after = epoch + Duration::from_secs(now_s + days * DAY_S);
}

fn new_serial() -> Result<SerialNumber, IssueError> {
    let mut bytes: [u8; 16] = random().map_err(failed)?;
    // A positive number of all its bytes, so that it is written the same everywhere.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
