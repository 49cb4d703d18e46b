//! Orders at the page's port: whoever shows an operator's token may order what the command line may. Everything is asked of a request
//! before its body is read, everything is written down before it is done, and nothing is decided here: learning's orders go to the
//! thread that learns, those of rollouts into the registry.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Extension, Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use picket_shared::audit::{Act, AuditLog, Note};
use picket_shared::calendar::unix_s;
use picket_shared::ids::{EventId, NodeId, OperatorName, StationId};
use picket_shared::limits::LABELS_BYTES_MAX;
use picket_shared::listener::Refusals;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Peer, Question};
use crate::learn::order::{self, Order};
use crate::model::ledger::Order as RolloutOrder;
use crate::model::registry::Registry;
use crate::operators::Operators;

/// The body of one request: as many labels as fit one message.
pub const ORDER_BYTES_MAX: usize = LABELS_BYTES_MAX;
/// A wrong token is answered after this long.
const WRONG_PAUSE: Duration = Duration::from_millis(500);
/// Wrong tokens that wait for their answer; more are turned away at once. Who shows a right one waits for nobody.
const WRONG_AT_ONCE_MAX: usize = 8;
/// Bytes of a header that is looked at.
const HEADER_BYTES_MAX: usize = 512;

/// What the door needs to know.
#[derive(Clone)]
pub struct Door(Arc<Inside>);

struct Inside {
    data_dir: PathBuf,
    models_dir: PathBuf,
    audit: Arc<AuditLog>,
    anywhere: bool,
    questions: mpsc::Sender<Question>,
    refusals: Refusals,
    wrong: Semaphore,
}

impl Door {
    /// A door for the operators of this data directory. `anywhere`: also for those who come from other machines.
    pub fn new(
        (data_dir, models_dir): (PathBuf, PathBuf),
        audit: Arc<AuditLog>,
        anywhere: bool,
        questions: mpsc::Sender<Question>,
        refusals: Refusals,
    ) -> Door {
        let wrong = Semaphore::new(WRONG_AT_ONCE_MAX);
        Door(Arc::new(Inside { data_dir, models_dir, audit, anywhere, questions, refusals, wrong }))
    }

    /// What stands behind it.
    pub fn routes<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        Router::new()
            .route("/api/operator", get(me))
            .route("/api/learn", post(learn))
            .route("/api/labels", post(labels))
            .route("/api/rollout", post(rollout))
            .layer(DefaultBodyLimit::max(ORDER_BYTES_MAX))
            .layer(from_fn_with_state(self.clone(), guard))
            .with_state(self)
    }
}

/// What is answered in place of what was asked for, and the word it is counted by.
type Refusal = (StatusCode, &'static str, String);

fn refuse<T>(status: StatusCode, word: &'static str, sentence: impl Into<String>) -> Result<T, Refusal> {
    Err((status, word, sentence.into()))
}

impl Door {
    fn answer(&self, answered: Result<Response, Refusal>) -> Response {
        answered.unwrap_or_else(|(status, word, sentence)| {
            let count = self.0.refusals.count(word);
            // Whoever knocks without end must not fill the log.
            if count.is_power_of_two() {
                tracing::warn!("an order at the page is refused ({word}, {count} so far): {sentence}");
            }
            let mut response = (status, format!("{sentence}.\n")).into_response();
            if status == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            }
            response
        })
    }

    /// Whose token this is.
    async fn who(&self, token: String) -> Result<OperatorName, Refusal> {
        let data_dir = self.0.data_dir.clone();
        let known = tokio::task::spawn_blocking(move || {
            Operators::read(&data_dir).map(|operators| operators.who(&token).cloned())
        });
        match known.await {
            Ok(Ok(Some(name))) => return Ok(name),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::error!("{error}; no operator is let in");
                let sentence = "the list of operators cannot be read; the coordinator's log says why";
                return refuse(StatusCode::INTERNAL_SERVER_ERROR, "operator_broken", sentence);
            }
            Err(_) => return refuse(StatusCode::SERVICE_UNAVAILABLE, "operator_broken", "the coordinator stops"),
        }
        let Ok(_place) = self.0.wrong.try_acquire() else {
            let sentence = "too many wrong tokens were shown at once; try again in a second";
            return refuse(StatusCode::TOO_MANY_REQUESTS, "operator_crowded", sentence);
        };
        tokio::time::sleep(WRONG_PAUSE).await;
        let sentence = "this is no operator's token; open the link that `picket-coordinator operator add NAME` printed";
        refuse(StatusCode::UNAUTHORIZED, "operator_token", sentence)
    }

    /// Writes down what is about to be done; without that it is not.
    async fn note(&self, who: &OperatorName, about: String) -> Result<(), Refusal> {
        let (audit, note) = (Arc::clone(&self.0.audit), Note::about(about).by(who.as_str()));
        let record = move || audit.record(unix_s(), Act::OperatorOrdered, &note);
        match tokio::task::spawn_blocking(record).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                tracing::error!("{error}; nothing is done for operators");
                let sentence = "the audit log cannot be written, so nothing is done; the coordinator's log says why";
                refuse(StatusCode::SERVICE_UNAVAILABLE, "operator_unwritten", sentence)
            }
            Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "operator_unwritten", "the coordinator stops"),
        }
    }

    /// Hands an order to the thread that learns.
    async fn hand(&self, order: Order, said: &str) -> Result<Response, Refusal> {
        let (done, answer) = oneshot::channel();
        let busy =
            || (StatusCode::SERVICE_UNAVAILABLE, "operator_busy", "the coordinator is busy; try again".to_owned());
        self.0.questions.try_send(Question::Learn(order, done)).map_err(|_| busy())?;
        match answer.await.map_err(|_| busy())? {
            Ok(()) => Ok(done_response(said)),
            Err(sentence) => refuse(StatusCode::CONFLICT, "operator_order", sentence),
        }
    }
}

fn done_response(said: &str) -> Response {
    Json(serde_json::json!({ "said": said })).into_response()
}

/// Nobody gets past who shows no operator's token, comes from another page, or shows the token where others could read it.
async fn guard(
    State(door): State<Door>,
    ConnectInfo(Peer(from)): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let (headers, posts) = (request.headers().clone(), request.method() == Method::POST);
    let admitted = async {
        near(from.ip(), door.0.anywhere)?;
        own_page(&headers)?;
        let who = door.who(token(&headers)?).await?;
        if posts {
            json(&headers)?;
        }
        Ok::<_, Refusal>(who)
    };
    match admitted.await {
        Ok(who) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        Err(refusal) => {
            let mut response = door.answer(Err(refusal));
            // A stranger does not keep a place for his next try.
            response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
            response
        }
    }
}

/// This server speaks no TLS: on a wire the token could be read.
fn near(from: IpAddr, anywhere: bool) -> Result<(), Refusal> {
    if anywhere || from.to_canonical().is_loopback() {
        return Ok(());
    }
    let sentence = "orders are taken from this machine only, because a token would travel in the clear; put a proxy with TLS \
        here, come through `ssh -L`, or set operators_anywhere = true in [http]";
    refuse(StatusCode::FORBIDDEN, "operator_far", sentence)
}

/// A browser says which page it asks for: another one's scripts have nothing to order here.
fn own_page(headers: &HeaderMap) -> Result<(), Refusal> {
    let foreign = || refuse(StatusCode::FORBIDDEN, "operator_page", "orders are taken from this page only");
    let site = HeaderName::from_static("sec-fetch-site");
    if headers.get_all(site).iter().any(|site| site != "same-origin") {
        return foreign();
    }
    let host = one(headers, &header::HOST);
    for origin in headers.get_all(header::ORIGIN) {
        let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
        if authority.is_none() || authority != host {
            return foreign();
        }
    }
    Ok(())
}

/// A header's value, where it stands there once and is short.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    (values.next().is_none() && value.len() <= HEADER_BYTES_MAX).then_some(value)
}

fn token(headers: &HeaderMap) -> Result<String, Refusal> {
    let shown = one(headers, &header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    shown.map(str::to_owned).ok_or_else(|| {
        let sentence = "an operator's token is needed: `picket-coordinator operator add NAME` prints a link with one";
        (StatusCode::UNAUTHORIZED, "operator_token", sentence.to_owned())
    })
}

fn json(headers: &HeaderMap) -> Result<(), Refusal> {
    let kind = one(headers, &header::CONTENT_TYPE).and_then(|kind| kind.split(';').next());
    match kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        true => Ok(()),
        false => refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "operator_form", "an order is application/json"),
    }
}

type Body = Result<Bytes, BytesRejection>;

fn read<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let body = body.or_else(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let sentence = format!("an order has at most {ORDER_BYTES_MAX} bytes");
            refuse(StatusCode::PAYLOAD_TOO_LARGE, "operator_form", sentence)
        }
        _ => refuse(StatusCode::BAD_REQUEST, "operator_form", "the order ended early"),
    })?;
    serde_json::from_slice(&body)
        .or_else(|error| refuse(StatusCode::BAD_REQUEST, "operator_form", format!("this is no order: {error}")))
}

/// `GET /api/operator`: who somebody is.
async fn me(Extension(who): Extension<OperatorName>) -> Response {
    Json(serde_json::json!({ "operator": who })).into_response()
}

/// `POST /api/learn`.
#[derive(Debug, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
enum LearnAsked {
    Freeze,
    Unfreeze,
    Revert,
    Out { node: NodeId },
    In { node: NodeId },
}

async fn learn(State(door): State<Door>, Extension(who): Extension<OperatorName>, body: Body) -> Response {
    let done = async {
        let (about, order) = match read(body)? {
            LearnAsked::Freeze => ("learn freeze".to_owned(), Order::Freeze),
            LearnAsked::Unfreeze => ("learn unfreeze".into(), Order::Unfreeze),
            LearnAsked::Revert => ("learn revert".into(), Order::Revert),
            LearnAsked::Out { node } => (format!("learn out {node}"), Order::Out(node)),
            LearnAsked::In { node } => (format!("learn in {node}"), Order::In(node)),
        };
        door.note(&who, about).await?;
        door.hand(order, "it is ordered; the page shows what comes of it").await
    };
    door.answer(done.await)
}

/// `POST /api/labels`. Who says it is whose token it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelsAsked {
    person: bool,
    events: Vec<EventId>,
}

async fn labels(State(door): State<Door>, Extension(who): Extension<OperatorName>, body: Body) -> Response {
    let done = async {
        let LabelsAsked { person, events } = read(body)?;
        let order = order::label(&events, person, who.as_str())
            .or_else(|sentence| refuse(StatusCode::BAD_REQUEST, "operator_form", sentence))?;
        let word = if person { "confirm" } else { "reject" };
        let more = match events.len() {
            1 => String::new(),
            events => format!(" and {} more", events - 1),
        };
        door.note(&who, format!("learn {word} {}{more}", events[0])).await?;
        door.hand(order, "said; the device learns from it").await
    };
    door.answer(done.await)
}

/// `POST /api/rollout`.
#[derive(Debug, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
enum RolloutAsked {
    Pause { rollout: u64 },
    Resume { rollout: u64 },
    Abort { rollout: u64 },
    Pin { station: StationId },
    Unpin { station: StationId },
}

async fn rollout(State(door): State<Door>, Extension(who): Extension<OperatorName>, body: Body) -> Response {
    let done = async {
        let asked: RolloutAsked = read(body)?;
        let about = match &asked {
            RolloutAsked::Pause { rollout } => format!("rollout pause {rollout}"),
            RolloutAsked::Resume { rollout } => format!("rollout resume {rollout}"),
            RolloutAsked::Abort { rollout } => format!("rollout abort {rollout}"),
            RolloutAsked::Pin { station } => format!("rollout pin {station}"),
            RolloutAsked::Unpin { station } => format!("rollout unpin {station}"),
        };
        door.note(&who, about).await?;
        let models_dir = door.0.models_dir.clone();
        match tokio::task::spawn_blocking(move || order_rollout(&models_dir, &asked)).await {
            Ok(Ok(said)) => Ok(done_response(&said)),
            Ok(Err(sentence)) => refuse(StatusCode::CONFLICT, "operator_order", sentence),
            Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "operator_busy", "the coordinator stops"),
        }
    };
    door.answer(done.await)
}

/// Writes into the registry, as the command line does; who gives rollouts their turn sees it.
fn order_rollout(models_dir: &std::path::Path, asked: &RolloutAsked) -> Result<String, String> {
    if !Registry::exists(models_dir) {
        return Err("this site has no registry of models".into());
    }
    let registry = Registry::open(models_dir).map_err(|error| error.to_string())?;
    let course = |number: &u64, order| -> Result<String, String> {
        let rollout = registry.order_rollout(*number, order).map_err(|error| error.to_string())?;
        Ok(format!("rollout {number} is {}", rollout.course.word()))
    };
    let pin = |station: &StationId, held| -> Result<String, String> {
        registry.pin(station, held).map_err(|error| error.to_string())?;
        Ok(format!("{station} is {}", if held { "pinned" } else { "not pinned" }))
    };
    match asked {
        RolloutAsked::Pause { rollout } => course(rollout, RolloutOrder::Pause),
        RolloutAsked::Resume { rollout } => course(rollout, RolloutOrder::Resume),
        RolloutAsked::Abort { rollout } => course(rollout, RolloutOrder::Abort),
        RolloutAsked::Pin { station } => pin(station, true),
        RolloutAsked::Unpin { station } => pin(station, false),
    }
}

#[cfg(test)]
#[path = "orders_tests.rs"]
mod tests;
