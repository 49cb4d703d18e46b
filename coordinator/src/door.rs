//! The door of enrolment: HTTPS on a port of its own, one small request a connection. Whoever can reach it may knock, so
//! everything about a connection has a limit: its time, its bytes, and how many there are at once, from one address and
//! altogether.
//!
//! Who is admitted is decided by `authority`; this file carries the question in and the answer out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use picket_shared::brokers::BrokerUrl;
use picket_shared::crypto::from_hex;
use picket_shared::exit::Failure;
use picket_shared::model::Root;
use picket_shared::trust::DAY_S;
use picket_shared::trust::certificate::Certificate;
use picket_shared::trust::door::{Admission, ENROL_PATH, EnrolRequest, RENEW_PATH, REQUEST_BYTES_MAX, RenewRequest};
use picket_shared::trust::tls::{self, now_s};
use serde::de::DeserializeOwned;
use tokio::net::{TcpListener, TcpStream};
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
/// Request line and headers. What hyper takes at least.
const HEAD_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 32;
/// How long not to accept when the system has no room for another connection.
const BREATH: Duration = Duration::from_millis(100);

/// A door that stands open.
pub struct Door {
    authority: Authority,
    brokers: Vec<BrokerUrl>,
    models: PathBuf,
    inside: Arc<Inside>,
    acceptor: TlsAcceptor,
    /// When its certificate was made.
    since_s: u64,
}

/// Who is being served.
#[derive(Default)]
struct Inside {
    of: Mutex<BTreeMap<IpAddr, usize>>,
}

/// One place inside, given back when it is dropped.
struct Place(IpAddr, Arc<Inside>);

impl Inside {
    fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, mine) = (of.values().sum::<usize>(), of.get(&ip).copied().unwrap_or(0));
        if all >= CONNECTIONS_MAX || mine >= CONNECTIONS_OF_ONE_MAX {
            return None;
        }
        of.insert(ip, mine + 1);
        Some(Place(ip, Arc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of = self.1.of.lock().unwrap_or_else(PoisonError::into_inner);
        match of.get_mut(&self.0) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(of.remove(&self.0)),
        }
    }
}

impl Door {
    /// A door of this authority, that tells devices of these brokers, and of the model root in this folder's registry.
    pub fn new(authority: Authority, brokers: Vec<BrokerUrl>, models: PathBuf) -> Result<Door, Failure> {
        let acceptor = acceptor(&authority)?;
        Ok(Door { authority, brokers, models, inside: Arc::default(), acceptor, since_s: now_s() })
    }

    /// Serves until the task is dropped.
    pub async fn serve(mut self, listener: TcpListener) {
        let mut turned_away: u64 = 0;
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                tokio::time::sleep(BREATH).await;
                continue;
            };
            let Some(place) = self.inside.enter(from.ip()) else {
                turned_away += 1;
                if turned_away.is_power_of_two() {
                    tracing::warn!(
                        "the door of enrolment is crowded: {turned_away} turned away so far, now {}",
                        from.ip()
                    );
                }
                continue;
            };
            if now_s().abs_diff(self.since_s) > DAY_S {
                match acceptor(&self.authority) {
                    Ok(acceptor) => (self.acceptor, self.since_s) = (acceptor, now_s()),
                    Err(failure) => tracing::error!("{failure}"),
                }
            }
            let (authority, brokers, models) = (self.authority.clone(), self.brokers.clone(), self.models.clone());
            let knock = Knock { authority, brokers, models, from };
            let acceptor = self.acceptor.clone();
            tokio::spawn(async move {
                let served = tokio::time::timeout(CONNECTION_MAX, knock.serve(acceptor, stream)).await;
                if served.is_err() {
                    tracing::debug!("{}: not finished in time", from.ip());
                }
                drop(place);
            });
        }
    }
}

fn acceptor(authority: &Authority) -> Result<TlsAcceptor, Failure> {
    let shown = authority.door(now_s())?;
    let broken =
        |what: String| Failure::new(picket_shared::exit::Exit::Software, format!("the door's certificate: {what}"));
    let config = tls::server(&shown.chain, &shown.key, &authority.ca_pem()?).map_err(broken)?;
    Ok(TlsAcceptor::from(config))
}

/// One connection.
#[derive(Clone)]
struct Knock {
    authority: Authority,
    brokers: Vec<BrokerUrl>,
    models: PathBuf,
    from: SocketAddr,
}

/// What is answered in place of an admission.
type Refusal = (StatusCode, String);

impl Knock {
    async fn serve(self, acceptor: TlsAcceptor, stream: TcpStream) {
        let stream = match acceptor.accept(stream).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!("{}: no TLS ({error})", self.from.ip());
                return;
            }
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let shown = shown.and_then(|der| Certificate::from_der(der).ok());
        let answer = hyper::service::service_fn(move |request| {
            let (knock, shown) = (self.clone(), shown.clone());
            async move { Ok::<_, std::convert::Infallible>(knock.answer(request, shown).await) }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.keep_alive(false).max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
        let _ = http.serve_connection(TokioIo::new(stream), answer).await;
    }

    async fn answer(self, request: Request<Incoming>, shown: Option<Certificate>) -> Response<Full<Bytes>> {
        let from = self.from.ip();
        match self.admit(request, shown).await {
            Ok(admission) => {
                tracing::info!("{} of {from} was given a certificate", admission.node);
                let body = serde_json::to_vec(&admission).expect("names, numbers and texts");
                response(StatusCode::OK, "application/json", body)
            }
            Err((status, sentence)) => {
                tracing::warn!("enrolment refused to {from}: {sentence}");
                response(status, "text/plain; charset=utf-8", sentence.into_bytes())
            }
        }
    }

    async fn admit(self, request: Request<Incoming>, shown: Option<Certificate>) -> Result<Admission, Refusal> {
        let renews = match request.uri().path() {
            ENROL_PATH => false,
            RENEW_PATH => true,
            _ => return Err((StatusCode::NOT_FOUND, "there is nothing here but enrolment".into())),
        };
        if request.method() != Method::POST {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "enrolment is asked for by POST".into()));
        }
        let Self { authority, brokers, models, .. } = self;
        let admitted = if renews {
            let shown = shown.ok_or_else(|| {
                (StatusCode::UNAUTHORIZED, "a certificate is renewed by showing the present one".to_owned())
            })?;
            let RenewRequest { csr } = read(request).await?;
            tokio::task::spawn_blocking(move || authority.renew(&shown, &csr, brokers, now_s())).await
        } else {
            let EnrolRequest { secret, csr } = read(request).await?;
            // A secret of another form cannot be one of ours, and is refused in the same words.
            let unknown = || (StatusCode::FORBIDDEN, TicketError::Unknown.to_string());
            let secret = from_hex(&secret).ok_or_else(unknown)?;
            tokio::task::spawn_blocking(move || authority.enrol(&secret, &csr, brokers, now_s())).await
        };
        let broken = |what: &dyn std::fmt::Display| {
            tracing::error!("the authority cannot admit anybody: {what}");
            (StatusCode::INTERNAL_SERVER_ERROR, "the authority cannot do it now; its log says why".to_owned())
        };
        match admitted {
            Ok(Ok(admission)) => Ok(Admission { model_root: model_root(&models), ..admission }),
            Ok(Err(AuthorityError::Ticket(TicketError::File(error)))) => Err(broken(&error)),
            Ok(Err(refused @ (AuthorityError::Ticket(_) | AuthorityError::Refused(_)))) => {
                Err((StatusCode::FORBIDDEN, refused.to_string()))
            }
            Ok(Err(error)) => Err(broken(&error)),
            Err(error) => Err(broken(&error)),
        }
    }
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
            (StatusCode::PAYLOAD_TOO_LARGE, format!("a request has at most {REQUEST_BYTES_MAX} bytes"))
        } else {
            (StatusCode::BAD_REQUEST, "the request ended early".to_owned())
        }
    })?;
    // What serde says might repeat the secret.
    serde_json::from_slice(&body.to_bytes())
        .map_err(|_| (StatusCode::BAD_REQUEST, "the request is not what this version of the door reads".to_owned()))
}

fn response(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_few_places_and_all_have_their_bound() {
        let inside = Arc::new(Inside::default());
        let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
        let mut places: Vec<_> = (0..CONNECTIONS_OF_ONE_MAX).map(|_| inside.enter(ip(1)).unwrap()).collect();
        assert!(inside.enter(ip(1)).is_none());
        places.extend((1..CONNECTIONS_MAX / CONNECTIONS_OF_ONE_MAX).flat_map(|n| {
            let inside = &inside;
            (0..CONNECTIONS_OF_ONE_MAX).map(move |_| inside.enter(ip(1 + n as u8)).unwrap())
        }));
        assert!(inside.enter(ip(99)).is_none(), "full");
        places.truncate(1);
        assert_eq!(inside.of.lock().unwrap().len(), 1, "what is given back leaves nothing behind");
        assert!(inside.enter(ip(99)).is_some());
    }
}
