//! The live view's pages. Reads only; nothing can be changed here, and nothing is seen without the token.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use picket_shared::audit::Act;
use picket_shared::ids::EventId;
use tokio::time::timeout;

use super::range::{self, Wanted};
use super::token::Given;
use super::viewer::{BOUNDARY, Demand, Place, stream};
use super::{Hub, lock};

/// How long a snapshot is waited for: a camera that gives none in this time gives none now.
const SNAPSHOT_MAX: Duration = Duration::from_secs(4);
/// Events that the page lists.
const EVENTS_SHOWN: usize = 24;

/// Answers to everything that is not for you.
const DENIED: &str = "A token is needed: the agent's log names the file that holds it.\n\
    Send it as \"Authorization: Bearer TOKEN\", or open /?token=TOKEN in a browser.\n";

pub(super) fn routes(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/", get(|| file("text/html; charset=utf-8", include_str!("page.html"))))
        .route("/page.css", get(|| file("text/css; charset=utf-8", include_str!("page.css"))))
        .route("/page.js", get(|| file("text/javascript; charset=utf-8", include_str!("page.js"))))
        .route("/icon.svg", get(|| file("image/svg+xml", include_str!("icon.svg"))))
        .route("/state.json", get(state))
        .route("/cameras/{camera}/live.mjpeg", get(live))
        .route("/cameras/{camera}/snapshot.jpg", get(snapshot))
        .route("/events/{event}/snapshot.jpg", get(event_snapshot))
        .route("/events/{event}/clip.mp4", get(event_clip))
        .fallback(nothing)
        .layer(from_fn_with_state(Arc::clone(&hub), guard))
        .with_state(hub)
}

/// Nobody gets past without the token; everybody gets the same headers.
async fn guard(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    let mut response = match hub.token.given(request.uri(), request.headers()) {
        Given::Right => next.run(request).await,
        Given::InAddress if !hub.note(Act::LiveLogin, "live view".into()).await => unwritten(),
        Given::InAddress => remember(&hub, request.uri().path()),
        Given::Wrong => {
            hub.denied.fetch_add(1, Ordering::Relaxed);
            hub.note(Act::LiveRefused, "live view".into()).await;
            // A stranger does not keep a place for his next try.
            let stranger = [(header::WWW_AUTHENTICATE, "Bearer"), (header::CONNECTION, "close")];
            (StatusCode::UNAUTHORIZED, stranger, DENIED).into_response()
        }
    };
    response.headers_mut().extend(headers());
    response
}

/// What is not written down is not shown.
fn unwritten() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "The audit log cannot be written; the agent's log says why.\n").into_response()
}

/// Pictures are kept nowhere on their way, and the page may load what is its own and nothing else.
fn headers() -> HeaderMap {
    let constant = HeaderValue::from_static;
    let policy = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'self'; script-src 'self'; \
        connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    HeaderMap::from_iter([
        (header::CACHE_CONTROL, constant("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, constant("nosniff")),
        (header::REFERRER_POLICY, constant("no-referrer")),
        (header::CONTENT_SECURITY_POLICY, constant(policy)),
        (HeaderName::from_static("cross-origin-resource-policy"), constant("same-origin")),
    ])
}

/// From the address into a cookie, so that the token stays in no history.
fn remember(hub: &Hub, path: &str) -> Response {
    // A path that begins with two slashes would be another machine's address.
    let path = path.trim_start_matches(['/', '\\']);
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.".contains(c));
    let place = format!("/{}", if plain { path } else { "" });
    (StatusCode::SEE_OTHER, [(header::SET_COOKIE, hub.token.cookie()), (header::LOCATION, place)]).into_response()
}

async fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn nothing() -> Response {
    (StatusCode::NOT_FOUND, "There is no such page.\n").into_response()
}

/// What the page shows beside pictures.
async fn state(State(hub): State<Arc<Hub>>) -> Response {
    let names: Vec<String> = {
        let mut cameras = lock(&hub.cameras);
        cameras.retain(|viewed| viewed.shots.has_changed().is_ok());
        cameras.iter().map(|viewed| viewed.camera.to_string()).collect()
    };
    let stats = lock(&hub.stats).clone();
    let camera = |name: String| {
        let stats = stats.iter().find(|stats| stats.camera.as_str() == name);
        serde_json::json!({
            "camera": name,
            "state": stats.map_or("starting", |stats| stats.state.as_str()),
            "persons_now": stats.map_or(0, |stats| stats.persons_now),
            "fps": stats.map_or(0.0, |stats| stats.fps_in),
            "last_error": stats.and_then(|stats| stats.last_error.as_deref()),
        })
    };
    let newest = hub.media.get().map(|media| media.newest(EVENTS_SHOWN)).unwrap_or_default();
    let event = |(at_s, camera, id, clip): (u64, String, String, bool)| serde_json::json!({ "event": id, "camera": camera, "time": at_s, "clip": clip });
    Json(serde_json::json!({
        "cameras": names.into_iter().map(camera).collect::<Vec<_>>(),
        "events": newest.into_iter().map(event).collect::<Vec<_>>(),
    }))
    .into_response()
}

async fn live(State(hub): State<Arc<Hub>>, Path(name): Path<String>) -> Response {
    let found = lock(&hub.cameras)
        .iter()
        .find(|viewed| viewed.camera.as_str() == name)
        .map(|viewed| (viewed.shots.clone(), Arc::clone(&viewed.wish)));
    let Some((mut shots, wish)) = found else { return nothing().await };
    if !hub.note(Act::LiveViewed, format!("camera {name}")).await {
        return unwritten();
    }
    let Some(place) = Place::take(&hub) else {
        hub.turned_away.fetch_add(1, Ordering::Relaxed);
        let text = "There are as many viewers as may be (live.viewers_max); close one, or wait.\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], text).into_response();
    };
    // What somebody saw before is not what there is now.
    shots.mark_unchanged();
    let kind = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
    ([(header::CONTENT_TYPE, kind)], stream(shots, place, Demand::on(&wish))).into_response()
}

async fn snapshot(State(hub): State<Arc<Hub>>, Path(name): Path<String>) -> Response {
    let found = lock(&hub.cameras)
        .iter()
        .find(|viewed| viewed.camera.as_str() == name)
        .map(|viewed| (viewed.shots.clone(), Demand::on(&viewed.wish)));
    let Some((mut shots, _demand)) = found else { return nothing().await };
    if !hub.note(Act::LiveViewed, format!("camera {name}")).await {
        return unwritten();
    }
    shots.mark_unchanged();
    let came = timeout(SNAPSHOT_MAX, shots.changed()).await;
    let shot = came.ok().and_then(Result::ok).and_then(|()| shots.borrow().clone());
    match shot {
        Some(shot) => ([(header::CONTENT_TYPE, "image/jpeg")], shot.jpeg.clone()).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "The camera gives no picture now.\n").into_response(),
    }
}

async fn event_snapshot(hub: State<Arc<Hub>>, event: Path<String>, headers: HeaderMap) -> Response {
    kept(hub, event, &headers, "jpg", "image/jpeg").await
}

async fn event_clip(hub: State<Arc<Hub>>, event: Path<String>, headers: HeaderMap) -> Response {
    kept(hub, event, &headers, "mp4", "video/mp4").await
}

/// A file of an event, or the part of it that was asked for. A name that is none never becomes a path.
async fn kept(
    State(hub): State<Arc<Hub>>,
    Path(event): Path<String>,
    headers: &HeaderMap,
    end: &'static str,
    kind: &'static str,
) -> Response {
    let Some((media, id)) = hub.media.get().cloned().zip(EventId::new(event).ok()) else { return nothing().await };
    if media.find(&id, end).is_some() && !hub.note(Act::LiveViewed, format!("event {id}")).await {
        return unwritten();
    }
    // What was meant by a condition on a version is not known here, so all of it is sent.
    let asked = headers.get(header::RANGE).filter(|_| !headers.contains_key(header::IF_RANGE));
    let asked = asked.and_then(|range| range.to_str().ok()).unwrap_or_default().to_owned();
    let read = tokio::task::spawn_blocking(move || read_part(&media.find(&id, end)?, &asked).ok()).await;
    let Ok(Some(part)) = read else {
        return (StatusCode::NOT_FOUND, "Nothing is kept of this event, or no more.\n").into_response();
    };
    let accepts = (header::ACCEPT_RANGES, "bytes".to_owned());
    let range = |range: String| (header::CONTENT_RANGE, format!("bytes {range}"));
    match part {
        (Wanted::Whole, _, bytes) => ([(header::CONTENT_TYPE, kind.to_owned()), accepts], bytes).into_response(),
        (Wanted::Part(part), of, bytes) => {
            let range = range(format!("{}-{}/{of}", part.start(), part.end()));
            (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_TYPE, kind.to_owned()), accepts, range], bytes)
                .into_response()
        }
        (Wanted::Nothing, of, _) => {
            (StatusCode::RANGE_NOT_SATISFIABLE, [accepts, range(format!("*/{of}"))]).into_response()
        }
    }
}

/// What is to be sent of a file, its length, and these bytes. It has a bound when it is written.
fn read_part(path: &std::path::Path, asked: &str) -> io::Result<(Wanted, u64, Vec<u8>)> {
    let mut file = File::open(path)?;
    let of = file.metadata()?.len();
    let wanted = range::wanted(asked, of);
    let mut bytes = Vec::new();
    match &wanted {
        Wanted::Whole => drop(file.read_to_end(&mut bytes)?),
        Wanted::Part(part) => {
            file.seek(SeekFrom::Start(*part.start()))?;
            file.take(part.end() - part.start() + 1).read_to_end(&mut bytes)?;
        }
        Wanted::Nothing => {}
    }
    Ok((wanted, of, bytes))
}
