//! How a device becomes one of its site, and stays it: `picket-agent enrol` makes its key and asks the coordinator's door for a
//! certificate, `picket-agent renew` asks for the next one.
//!
//! The key never leaves the device, and a token is never told to anybody but the door that it names, once that has proved to
//! be the right one. Each refusal ends in one sentence.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use picket_shared::calendar::unix_s;
use picket_shared::crypto::{SecretKey, hex};
use picket_shared::exit::{Exit, Failure};
use picket_shared::keyfile::KeyfileError;
use picket_shared::trust::certificate::{Certificate, Standing};
use picket_shared::trust::door::{
    ANSWER_BYTES_MAX, Admission, DOOR_NAME, ENROL_PATH, EnrolRequest, RENEW_PATH, RenewRequest,
};
use picket_shared::trust::identity::{AdmissionError, Identity, Membership};
use picket_shared::trust::tls;
use picket_shared::trust::token::{Door, Token};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// A door that does not answer within this does not answer.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// What came of a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// There is a new certificate: the one before would have lasted so long.
    New(Membership),
    /// More than a third of its life is left.
    NotYet(Certificate),
}

/// Admits this device by a token. What it already is stays untouched where it is one already.
pub async fn enrol(token: &str, data_dir: &Path) -> Result<Membership, Failure> {
    let token = Token::parse(token).map_err(|error| Failure::new(Exit::Data, error.to_string()))?;
    let identity = Identity::below(data_dir);
    if identity.is_enrolled() {
        let sentence = format!(
            "this device is enrolled already ({}); to enrol it anew remove {}",
            standing(&identity),
            identity.dir().display()
        );
        return Err(Failure::new(Exit::Denied, sentence));
    }
    let key = identity.key_or_new().map_err(disk)?;
    let request = EnrolRequest { secret: hex(&token.secret), csr: request_of(&key)? };
    let told = ask(&token.door, tls::pinned(token.fingerprint), ENROL_PATH, &request).await?;
    identity.admit(&token.door, &token.fingerprint, &told).map_err(not_taken)
}

/// Asks for the next certificate where the present one is in the last third of its life, or where `now` is set.
pub async fn renew(data_dir: &Path, now: bool) -> Result<Renewed, Failure> {
    let identity = Identity::below(data_dir);
    if !identity.is_enrolled() {
        let sentence = format!("{} holds no identity; enrol this device: picket-agent enrol", data_dir.display());
        return Err(Failure::new(Exit::Config, sentence));
    }
    let (certificate, known) = (identity.certificate().map_err(disk)?, identity.membership().map_err(disk)?);
    if certificate.standing(unix_s()) == Standing::Fresh && !now {
        return Ok(Renewed::NotYet(certificate));
    }
    let door = Door::parse(&known.door).ok_or_else(|| {
        Failure::new(Exit::Data, "the identity does not say where its door is; enrol this device again".to_string())
    })?;
    let config = tls::client(&identity.tls()).map_err(|error| match error {
        tls::TlsError::File(error) => disk(error),
        expired @ tls::TlsError::Standing(..) => Failure::new(Exit::Denied, expired.to_string()),
    })?;
    let request = RenewRequest { csr: request_of(&identity.key().map_err(disk)?)? };
    let told = ask(&door, config, RENEW_PATH, &request).await?;
    if (&told.site, &told.node) != (&known.site, &known.node) {
        let sentence = format!("the answer of {door} makes another device of this one; it is refused");
        return Err(Failure::new(Exit::Denied, sentence));
    }
    let ca = Certificate::from_pem(&picket_shared::keyfile::read_open(&identity.tls().ca).map_err(disk)?)
        .map_err(|what| Failure::new(Exit::Disk, format!("{} {what}", identity.tls().ca.display())))?;
    identity.admit(&door, &ca.fingerprint, &told).map(Renewed::New).map_err(not_taken)
}

/// How this device's certificate stands, for people.
pub fn standing(identity: &Identity) -> String {
    match identity.certificate() {
        Ok(certificate) => format!("{}, its certificate {}", certificate.name, certificate.left(unix_s())),
        Err(error) => error.to_string(),
    }
}

fn disk(error: KeyfileError) -> Failure {
    Failure::new(Exit::Disk, error.to_string())
}

fn not_taken(error: AdmissionError) -> Failure {
    let exit = if matches!(error, AdmissionError::File(_)) { Exit::Disk } else { Exit::Denied };
    Failure::new(exit, error.to_string())
}

/// A certificate request in PEM: it proves that this device has the key, and says nothing else that counts.
pub fn request_of(key: &SecretKey) -> Result<String, Failure> {
    let made = || {
        let pair = KeyPair::from_pem(&key.to_pem())?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "picket device");
        params.serialize_request(&pair)?.pem()
    };
    // What exactly is wrong might show the key.
    made().map_err(|_: rcgen::Error| {
        Failure::new(Exit::Software, "no certificate request can be made of the device's key; please report this")
    })
}

/// Asks the door one thing.
async fn ask(
    door: &Door,
    config: std::sync::Arc<ClientConfig>,
    path: &str,
    request: &impl Serialize,
) -> Result<Admission, Failure> {
    let body = serde_json::to_vec(request).expect("texts");
    let answered = tokio::time::timeout(ANSWER_MAX, exchange(door, config, path, body)).await;
    let late = || {
        let sentence =
            format!("{door} does not answer within {} s; check the network, and try again", ANSWER_MAX.as_secs());
        Failure::new(Exit::Unreachable, sentence)
    };
    let (status, body) = answered.map_err(|_| late())??;
    let odd = || {
        Failure::new(
            Exit::Unreachable,
            format!("{door} gives no answer that can be read; is it a Picket coordinator of this version?"),
        )
    };
    match status {
        StatusCode::OK => serde_json::from_slice(&body).map_err(|_| odd()),
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
            Err(Failure::new(Exit::Denied, format!("{door} refuses: {}", sentence_of(&body))))
        }
        StatusCode::INTERNAL_SERVER_ERROR => {
            Err(Failure::new(Exit::Unreachable, format!("{door} says: {}", sentence_of(&body))))
        }
        _ => Err(odd()),
    }
}

/// What a door says, as a line that nobody can break.
fn sentence_of(body: &[u8]) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    String::from_utf8_lossy(body).chars().take(300).map(plain).collect()
}

async fn exchange(
    door: &Door,
    config: std::sync::Arc<ClientConfig>,
    path: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, Bytes), Failure> {
    let unreachable = |why: &dyn std::fmt::Display| {
        let sentence =
            format!("{door} cannot be reached ({why}); check that the coordinator runs with [enrolment] listen");
        Failure::new(Exit::Unreachable, sentence)
    };
    let stream = TcpStream::connect(door.to_string()).await.map_err(|error| unreachable(&error))?;
    let name = ServerName::try_from(DOOR_NAME).expect("a constant name");
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|error| of_tls(door, &error))?;
    let over = |error: hyper::Error| match source_of(&error) {
        Some(tls) => of_tls(door, tls),
        None => unreachable(&"it ended the connection"),
    };
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(over)?;
    let request = Request::post(path)
        .header(header::HOST, DOOR_NAME)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .expect("constant headers");
    // The connection ends with this task.
    let driven = tokio::spawn(connection);
    let response = send.send_request(request).await.map_err(over)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    driven.abort();
    let body = body.map_err(|_| unreachable(&"its answer was cut off or too long"))?;
    Ok((status, body.to_bytes()))
}

fn source_of(error: &hyper::Error) -> Option<&std::io::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// A connection that ended over certificates is a refusal, of theirs or of ours.
fn of_tls(door: &Door, error: &std::io::Error) -> Failure {
    match tls::within(error).and_then(tls::meaning) {
        Some(clause) => Failure::new(Exit::Denied, format!("{door} {clause}")),
        None => {
            let sentence = format!("{door} does not speak TLS with us ({error}); check the port of [enrolment] listen");
            Failure::new(Exit::Unreachable, sentence)
        }
    }
}
