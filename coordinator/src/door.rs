//! The door of enrolment: HTTPS on a port of its own, one small request a connection. Whoever can reach it may knock, so
//! everything about a connection has a limit: its time, its bytes, and how many there are at once, from one address and
//! altogether.
//!
//! Who is admitted is decided by `authority`; this file carries the question in and the answer out, and counts who was
//! refused, and why.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use picket_shared::audit::{Act, AuditLog, Note};
use picket_shared::brokers::BrokerUrl;
use picket_shared::calendar::unix_s;
use picket_shared::crypto::from_hex;
use picket_shared::exit::Failure;
use picket_shared::listener::{Limits, Listener, Patient, Refusals, SLOW};
use picket_shared::model::Root;
use picket_shared::trust::DAY_S;
use picket_shared::trust::certificate::Certificate;
use picket_shared::trust::door::{Admission, ENROL_PATH, EnrolRequest, RENEW_PATH, REQUEST_BYTES_MAX, RenewRequest};
use picket_shared::trust::tls;
use serde::de::DeserializeOwned;
use tokio_rustls::TlsAcceptor;

use crate::authority::tickets::TicketError;
use crate::authority::{Authority, AuthorityError};
use crate::model::registry::Registry;

/// Connections at once.
pub const CONNECTIONS_MAX: usize = 64;
/// Connections at once from one address: a site behind one router enrols a few devices at a time.
pub const CONNECTIONS_OF_ONE_MAX: usize = 8;
/// From the connection to the end of the answer. A device on the worst radio link needs three.
pub const CONNECTION_MAX: Duration = Duration::from_secs(10);
const LIMITS: Limits = Limits {
    name: "the door of enrolment",
    connections_max: CONNECTIONS_MAX,
    of_one_max: CONNECTIONS_OF_ONE_MAX,
    quiet_max: CONNECTION_MAX,
    send_buffer_bytes: None,
};
/// Request line and headers. What hyper takes at least.
const HEAD_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 32;

/// A door that stands open.
pub struct Door {
    authority: Authority,
    audit: Arc<AuditLog>,
    brokers: Vec<BrokerUrl>,
    models: PathBuf,
    refusals: Refusals,
    acceptor: TlsAcceptor,
    /// When its certificate was made.
    since_s: u64,
}

impl Door {
    /// A door of this authority, that tells devices of these brokers and of the model root in this folder's registry, and writes
    /// down whom it admits. Who is refused is counted there.
    pub fn new(
        authority: Authority,
        brokers: Vec<BrokerUrl>,
        models: PathBuf,
        audit: Arc<AuditLog>,
        refusals: Refusals,
    ) -> Result<Door, Failure> {
        let acceptor = acceptor(&authority)?;
        Ok(Door { authority, audit, brokers, models, refusals, acceptor, since_s: unix_s() })
    }

    /// Opens it at this address, on the current tokio runtime.
    pub fn listen(&self, address: SocketAddr) -> std::io::Result<Listener> {
        Listener::open(address, LIMITS, self.refusals.clone())
    }

    /// Serves until the task is dropped.
    pub async fn serve(mut self, listener: Listener) {
        loop {
            let (stream, from) = listener.accept().await;
            if unix_s().abs_diff(self.since_s) > DAY_S {
                match acceptor(&self.authority) {
                    Ok(acceptor) => (self.acceptor, self.since_s) = (acceptor, unix_s()),
                    Err(failure) => tracing::error!("{failure}"),
                }
            }
            let (authority, brokers, models) = (self.authority.clone(), self.brokers.clone(), self.models.clone());
            let refusals = self.refusals.clone();
            let knock =
                Knock { authority, audit: Arc::clone(&self.audit), brokers, models, from, refusals: refusals.clone() };
            let acceptor = self.acceptor.clone();
            tokio::spawn(async move {
                if tokio::time::timeout(CONNECTION_MAX, knock.serve(acceptor, stream)).await.is_err() {
                    refusals.count(SLOW);
                }
            });
        }
    }
}

fn acceptor(authority: &Authority) -> Result<TlsAcceptor, Failure> {
    let shown = authority.door(unix_s())?;
    let broken =
        |what: String| Failure::new(picket_shared::exit::Exit::Software, format!("the door's certificate: {what}"));
    let config = tls::server(&shown.chain, &shown.key, &authority.ca_pem()?).map_err(broken)?;
    Ok(TlsAcceptor::from(config))
}

/// One connection.
#[derive(Clone)]
struct Knock {
    authority: Authority,
    audit: Arc<AuditLog>,
    brokers: Vec<BrokerUrl>,
    models: PathBuf,
    from: SocketAddr,
    refusals: Refusals,
}

/// What is answered in place of an admission, and the word it is counted by.
type Refusal = (StatusCode, &'static str, String);

impl Knock {
    async fn serve(self, acceptor: TlsAcceptor, stream: Patient) {
        let stream = match acceptor.accept(stream).await {
            Ok(stream) => stream,
            Err(error) => {
                self.refusals.count("no_tls");
                tracing::debug!("{}: no TLS ({error})", self.from.ip());
                return;
            }
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let shown = shown.and_then(|der| Certificate::from_der(der).ok());
        let (asked, refusals) = (Arc::new(AtomicBool::new(false)), self.refusals.clone());
        let has_asked = Arc::clone(&asked);
        let answer = hyper::service::service_fn(move |request| {
            let (knock, shown) = (self.clone(), shown.clone());
            has_asked.store(true, Ordering::Relaxed);
            async move { Ok::<_, std::convert::Infallible>(knock.answer(request, shown).await) }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.keep_alive(false).max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
        let served = http.serve_connection(TokioIo::new(stream), answer).await;
        // Whose head never came to its end was not answered, and so not counted.
        if served.is_err_and(|error| took_too_long(&error)) && !asked.load(Ordering::Relaxed) {
            refusals.count(SLOW);
        }
    }

    /// Writes down that somebody is admitted, before he is told; false where that is not possible.
    async fn written(&self, admission: &Admission) -> bool {
        let certificate = Certificate::from_pem(&admission.certificate);
        let serial = certificate.map(|certificate| certificate.serial).unwrap_or_default();
        let (audit, note) =
            (Arc::clone(&self.audit), Note::about(&admission.node).with(format!("certificate {serial}")));
        let record = move || audit.record(unix_s(), Act::DeviceAdmitted, &note);
        match tokio::task::spawn_blocking(record).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::error!("{error}; nobody is admitted");
                false
            }
            Err(_) => false,
        }
    }

    async fn answer(self, request: Request<Incoming>, shown: Option<Certificate>) -> Response<Full<Bytes>> {
        let (from, refusals) = (self.from.ip(), self.refusals.clone());
        match self.clone().admit(request, shown).await {
            Ok(admission) if !self.written(&admission).await => {
                refusals.count("broken");
                let sentence = "the audit log cannot be written, so nobody is admitted; the coordinator's log says why";
                response(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", sentence.as_bytes().to_vec())
            }
            Ok(admission) => {
                tracing::info!("{} of {from} was given a certificate", admission.node);
                let body = serde_json::to_vec(&admission).expect("names, numbers and texts");
                response(StatusCode::OK, "application/json", body)
            }
            Err((status, word, sentence)) => {
                let count = refusals.count(word);
                // Whoever knocks without end must not fill the log.
                if count.is_power_of_two() {
                    tracing::warn!("enrolment refused to {from} ({word}, {count} so far): {sentence}");
                }
                response(status, "text/plain; charset=utf-8", sentence.into_bytes())
            }
        }
    }

    async fn admit(self, request: Request<Incoming>, shown: Option<Certificate>) -> Result<Admission, Refusal> {
        let renews = match request.uri().path() {
            ENROL_PATH => false,
            RENEW_PATH => true,
            _ => return Err((StatusCode::NOT_FOUND, "no_such_path", "there is nothing here but enrolment".into())),
        };
        if request.method() != Method::POST {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "no_post", "enrolment is asked for by POST".into()));
        }
        let Self { authority, brokers, models, .. } = self;
        let admitted = if renews {
            let shown = shown.ok_or_else(|| {
                let sentence = "a certificate is renewed by showing the present one".to_owned();
                (StatusCode::UNAUTHORIZED, "no_certificate", sentence)
            })?;
            let RenewRequest { csr } = read(request).await?;
            tokio::task::spawn_blocking(move || authority.renew(&shown, &csr, brokers, unix_s())).await
        } else {
            let EnrolRequest { secret, csr } = read(request).await?;
            // A secret of another form cannot be one of ours, and is refused in the same words.
            let unknown = || (StatusCode::FORBIDDEN, TicketError::Unknown.word(), TicketError::Unknown.to_string());
            let secret = from_hex(&secret).ok_or_else(unknown)?;
            tokio::task::spawn_blocking(move || authority.enrol(&secret, &csr, brokers, unix_s())).await
        };
        let broken = |what: &dyn std::fmt::Display| {
            tracing::error!("the authority cannot admit anybody: {what}");
            let sentence = "the authority cannot do it now; its log says why".to_owned();
            (StatusCode::INTERNAL_SERVER_ERROR, "broken", sentence)
        };
        match admitted {
            Ok(Ok(admission)) => Ok(Admission { model_root: model_root(&models), ..admission }),
            Ok(Err(AuthorityError::Ticket(TicketError::File(error)))) => Err(broken(&error)),
            Ok(Err(AuthorityError::Ticket(refused))) => {
                Err((StatusCode::FORBIDDEN, refused.word(), refused.to_string()))
            }
            Ok(Err(AuthorityError::Refused(sentence))) => Err((StatusCode::FORBIDDEN, "refused", sentence)),
            Ok(Err(error)) => Err(broken(&error)),
            Err(error) => Err(broken(&error)),
        }
    }
}

/// Whether it was the connection's patience that ended.
fn took_too_long(error: &(dyn std::error::Error + 'static)) -> bool {
    let is_timeout = |error: &&(dyn std::error::Error + 'static)| {
        error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut)
    };
    std::iter::successors(Some(error), |error| error.source()).any(|error| is_timeout(&error))
}

/// The site's newest model root. Where it cannot be read the device is admitted all the same, and is given it by hand.
fn model_root(models: &Path) -> Option<String> {
    let registry = Registry::exists(models).then(|| Registry::open(models))?;
    let newest = registry.and_then(|registry| registry.anchor());
    newest.inspect_err(|error| tracing::error!("{error}")).ok()?.map(|envelope| envelope.to_file::<Root>())
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refusal> {
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let sentence = format!("a request has at most {REQUEST_BYTES_MAX} bytes");
            (StatusCode::PAYLOAD_TOO_LARGE, "too_large", sentence)
        } else if took_too_long(&*error) {
            (StatusCode::REQUEST_TIMEOUT, SLOW, "the request took too long".to_owned())
        } else {
            (StatusCode::BAD_REQUEST, "malformed", "the request ended early".to_owned())
        }
    })?;
    // What serde says might repeat the secret.
    serde_json::from_slice(&body.to_bytes()).map_err(|_| {
        let sentence = "the request is not what this version of the door reads".to_owned();
        (StatusCode::BAD_REQUEST, "malformed", sentence)
    })
}

fn response(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
