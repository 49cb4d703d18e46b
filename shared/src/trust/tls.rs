//! TLS with the site's CA: what a client brings, what a door asks for, and what a refusal means in words. Only this file and
//! `mqtt.rs` know how rustls is set up; ring is its only provider.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    self, AlertDescription, CertificateError, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};

pub use tokio_rustls::rustls::ClientConfig;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::certificate::{Certificate, Standing};
use crate::calendar::unix_s;
use crate::crypto::sha256;
use crate::keyfile::{self, KeyfileError};

/// How long a server has to say that it refuses a certificate.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The files that a connection is made with, in PEM. They are read anew for each one, so that a renewed certificate counts
/// without a restart.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificates of those who may have signed the other side's.
    pub ca: PathBuf,
    /// This side's certificate, with those between it and its CA.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// Its key. Only its owner may be able to read it.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

/// Why no connection can be made with these files, in a sentence with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or must not be as it is.
    #[error(transparent)]
    File(#[from] KeyfileError),
    /// The own certificate holds no more, or not yet.
    #[error("{0} {1}")]
    Standing(PathBuf, String),
}

impl TlsFiles {
    /// Whether they make sense together; the error is a sentence with the remedy.
    pub fn check(&self) -> Result<(), String> {
        match self.certificate.is_some() == self.key.is_some() {
            true => Ok(()),
            false => Err("mqtt.tls names one of certificate and key; name both, or none".into()),
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn content(path: &std::path::Path) -> impl Fn(&str) -> TlsError {
    let path = path.to_owned();
    move |what| TlsError::File(KeyfileError::Content(path.clone(), what.to_owned()))
}

fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = keyfile::read_open(path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    read.ok().filter(|read| !read.is_empty()).ok_or_else(|| content(path)("holds no certificate in PEM"))
}

fn roots(of: Vec<CertificateDer<'static>>) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(of);
    (!roots.is_empty()).then_some(roots)
}

/// How to connect with these files now.
pub fn client(files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let roots =
        roots(certificates(&files.ca)?).ok_or_else(|| content(&files.ca)("holds no certificate that can be read"))?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need")
        .with_root_certificates(roots);
    let (Some(certificate), Some(key)) = (&files.certificate, &files.key) else {
        return Ok(Arc::new(config.with_no_client_auth()));
    };
    let chain = certificates(certificate)?;
    let (own, now_s) = (Certificate::from_der(&chain[0]).map_err(content(certificate))?, unix_s());
    let sentence = match own.standing(now_s) {
        Standing::Expired => format!("{}; enrol this device again, or renew earlier", own.left(now_s)),
        Standing::Early => "does not hold yet; set this machine's clock".into(),
        Standing::Fresh | Standing::Late => String::new(),
    };
    if !sentence.is_empty() {
        return Err(TlsError::Standing(certificate.clone(), sentence));
    }
    let secret = keyfile::read_secret(key)?;
    let secret = PrivateKeyDer::from_pem_slice(secret.as_bytes()).map_err(|_| content(key)("holds no key in PEM"))?;
    let config = config.with_client_auth_cert(chain, secret);
    // What exactly is wrong might show the key.
    config
        .map(Arc::new)
        .map_err(|_| content(key)("holds a key that does not belong to the certificate, or of another kind"))
}

/// How to connect to a server of which only the CA's fingerprint is known. It must send its CA's certificate along.
pub fn pinned(fingerprint: [u8; 32]) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { fingerprint }))
        .with_no_client_auth();
    Arc::new(config)
}

/// How a server answers that shows this chain and asks for certificates of this CA. Who has none is let in too, and must be
/// asked for by the caller. All in PEM.
pub fn server(chain: &str, key: &str, ca: &str) -> Result<Arc<ServerConfig>, String> {
    let read = |text: &str| -> Vec<_> { CertificateDer::pem_slice_iter(text.as_bytes()).flatten().collect() };
    let roots = roots(read(ca)).ok_or("the CA's certificate cannot be read")?;
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).allow_unauthenticated();
    let clients = clients.build().map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| "the key cannot be read")?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need")
        .with_client_cert_verifier(clients)
        .with_single_cert(read(chain), key);
    config.map(Arc::new).map_err(|_| "the certificate and its key do not belong together".into())
}

/// Connects, and waits a moment for the other side's last word on the certificate: with TLS 1.3 it comes after all else.
pub async fn shake_hands(host: &str, port: u16, config: Arc<ClientConfig>) -> std::io::Result<()> {
    let odd = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "no host name that a certificate can have");
    let name = ServerName::try_from(host.to_owned()).map_err(|_| odd())?;
    let stream = TcpStream::connect((host, port)).await?;
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    let read = tokio::time::timeout(LAST_WORD, stream.read(&mut [0; 1])).await;
    // Silence is consent, and so is an end without an alert: nothing was said to it.
    read.map_or(Ok(()), |read| read.map(|_| ()))
}

/// What a TLS error means, as a clause after the other side's name with what to do; nothing where it says no more than that
/// there was one.
pub fn meaning(error: &rustls::Error) -> Option<&'static str> {
    use CertificateError as Theirs;
    Some(match error {
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRevoked => {
                "refuses this device: its certificate is revoked; enrol it again if that was a mistake"
            }
            AlertDescription::CertificateExpired => {
                "refuses this device: its certificate has expired; enrol it again, and check both clocks"
            }
            AlertDescription::UnknownCA => {
                "refuses this device: its certificate is of another CA; enrol it at this site"
            }
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => {
                "lets in only who shows a certificate of its CA; enrol this device"
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied => "refuses this device's certificate; enrol it at this site",
            _ => return None,
        },
        rustls::Error::InvalidCertificate(theirs) => match theirs {
            Theirs::Expired | Theirs::ExpiredContext { .. } => {
                "shows a certificate that has expired; make it a new one, and check this machine's clock"
            }
            Theirs::NotValidYet | Theirs::NotValidYetContext { .. } => {
                "shows a certificate that does not hold yet; set this machine's clock"
            }
            Theirs::UnknownIssuer | Theirs::BadSignature => {
                "shows a certificate that the known CA did not sign; it is another site's, or somebody stands between"
            }
            Theirs::NotValidForName | Theirs::NotValidForNameContext { .. } => {
                "shows a certificate for another host; make it one with the name by which it is reached"
            }
            Theirs::Revoked => "shows a certificate that is revoked; make it a new one",
            _ => "shows a certificate that is not right for it; make it a new one",
        },
        rustls::Error::InvalidMessage(_) | rustls::Error::PeerIncompatible(_) => {
            "does not speak TLS as we do; check the address and the port"
        }
        _ => return None,
    })
}

/// The TLS error in an IO error, if there is one.
pub fn within(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Takes a server whose chain holds the CA of the fingerprint, and is otherwise right.
#[derive(Debug)]
struct Pinned {
    fingerprint: [u8; 32],
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ca = intermediates.iter().find(|der| sha256(der) == self.fingerprint);
        let ca = ca.ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?.clone().into_owned();
        let roots = roots(vec![ca]).ok_or(rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
