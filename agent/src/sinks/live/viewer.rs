//! One viewer of one camera: turns pictures into a stream of JPEG parts, at the viewer's own speed.
//!
//! A viewer is always given the newest picture. It is a demand for pictures as long as it is there.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Hub;
use crate::sinks::Shot;
use crate::sinks::tap::Wish;

/// What stands between pictures.
pub(super) const BOUNDARY: &str = "picket-frame";
/// A viewer that takes longer for one picture is no viewer.
const TAKE_MAX: Duration = Duration::from_secs(10);
/// A picture is sent again while no new one comes, so that the connection is known to live.
const AGAIN: Duration = Duration::from_secs(5);

/// Somebody wants pictures of a camera.
pub(super) struct Demand(Arc<Wish>);

impl Demand {
    pub(super) fn on(wish: &Arc<Wish>) -> Demand {
        wish.viewers.fetch_add(1, Ordering::Relaxed);
        Demand(Arc::clone(wish))
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A viewer's place.
pub(super) struct Place(Arc<Hub>);

impl Place {
    /// A place, if there is one.
    pub(super) fn take(hub: &Arc<Hub>) -> Option<Place> {
        let more = |viewers: usize| (viewers < hub.viewers_max).then_some(viewers + 1);
        let taken = hub.viewers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Place(Arc::clone(hub)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Viewer {
    shots: watch::Receiver<Option<Arc<Shot>>>,
    place: Place,
    _demand: Demand,
    /// When it was given the last picture.
    given: Option<Instant>,
}

/// The stream of a viewer.
pub(super) fn stream(shots: watch::Receiver<Option<Arc<Shot>>>, place: Place, demand: Demand) -> Body {
    let viewer = Viewer { shots, place, _demand: demand, given: None };
    Body::from_stream(stream::unfold(viewer, next))
}

async fn next(mut viewer: Viewer) -> Option<(Result<Bytes, Infallible>, Viewer)> {
    let first = viewer.given.is_none();
    if viewer.given.is_some_and(|given| too_slow(given.elapsed(), &viewer.place.0.slow)) {
        return None;
    }
    loop {
        if let Ok(Err(_)) = timeout(AGAIN, viewer.shots.changed()).await {
            // The camera has gone.
            return None;
        }
        let shot = viewer.shots.borrow_and_update().clone();
        if let Some(shot) = shot {
            viewer.given = Some(Instant::now());
            return Some((Ok(part(&shot.jpeg, first)), viewer));
        }
    }
}

/// Whether a viewer took too long for what it was given; counted.
fn too_slow(took: Duration, slow: &AtomicU64) -> bool {
    let too_slow = took > TAKE_MAX;
    slow.fetch_add(u64::from(too_slow), Ordering::Relaxed);
    too_slow
}

/// A picture as a part of `multipart/x-mixed-replace` (RFC 2046 with the newer part in place of the older). The boundary
/// after it says at once that it is whole: browsers show it then.
fn part(jpeg: &[u8], first: bool) -> Bytes {
    let opening = if first { format!("--{BOUNDARY}\r\n") } else { String::new() };
    let head = format!("{opening}Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len());
    let tail = format!("\r\n--{BOUNDARY}\r\n");
    [head.as_bytes(), jpeg, tail.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_its_length_and_ends_with_the_next_boundary() {
        assert_eq!(
            part(b"xyz", true),
            "--picket-frame\r\nContent-Type: image/jpeg\r\nContent-Length: 3\r\n\r\nxyz\r\n--picket-frame\r\n"
        );
        assert_eq!(
            part(b"xyz", false),
            "Content-Type: image/jpeg\r\nContent-Length: 3\r\n\r\nxyz\r\n--picket-frame\r\n"
        );
    }

    #[test]
    fn only_a_viewer_that_took_too_long_is_too_slow() {
        let slow = AtomicU64::new(0);
        assert!(!too_slow(Duration::ZERO, &slow) && !too_slow(TAKE_MAX, &slow));
        assert!(too_slow(TAKE_MAX + Duration::from_millis(1), &slow));
        assert_eq!(slow.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_viewer_that_took_too_long_for_a_picture_is_given_no_other_and_its_place_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let config = super::super::Config { listen: Some("127.0.0.1:0".parse().unwrap()), ..Default::default() };
        let hub = super::super::open(&config, dir.path(), None).await.unwrap();
        for (ago, expect) in [(Duration::ZERO, true), (TAKE_MAX + Duration::from_secs(1), false)] {
            let (send, mut shots) = watch::channel(None);
            shots.mark_unchanged();
            let place = Place::take(&hub).unwrap();
            let wish = Arc::new(Wish {
                always_ms: u64::MAX,
                live_ms: 100,
                viewers: Default::default(),
                taken: Default::default(),
                events: false,
                asks: Default::default(),
            });
            let given = Instant::now().checked_sub(ago);
            let viewer = Viewer { shots, place, _demand: Demand::on(&wish), given };
            send.send_replace(Some(Arc::new(Shot { at_ms: 1, size: (1, 1), jpeg: Bytes::from_static(b"x") })));
            assert_eq!(next(viewer).await.is_some(), expect);
            assert_eq!((hub.viewers.load(Ordering::Relaxed), wish.viewers.load(Ordering::Relaxed)), (0, 0));
        }
        assert_eq!(hub.slow.load(Ordering::Relaxed), 1);
    }
}
