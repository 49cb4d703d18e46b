//! Gives pictures to whoever was allowed to ask for them: of a camera as it is now, or what is kept of an event. Only of this
//! device's own cameras: what another station allows is not known here.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use picket_shared::ids::{CameraId, EventId};
use picket_shared::limits::PICTURE_BYTES_MAX;

use super::media::Media;
use super::{Sinks, lock};
use crate::privacy::{Given, Refusal};

/// How long a frame is waited for that the detector looks at: where nothing moves there is one a minute at least.
const NOW_MAX: Duration = Duration::from_secs(65);

impl Sinks {
    /// A picture of a camera as it is now. Waits for it.
    pub fn picture_now(&self, camera: &CameraId, clear: bool) -> Result<Given, Refusal> {
        let wish = {
            let cameras = lock(&self.cameras);
            let watched = cameras.iter().find(|watched| watched.camera == *camera && watched.own);
            let watched = watched.filter(|watched| !watched.slot.is_closed());
            watched.and_then(|watched| watched.wish.clone()).ok_or_else(|| no_camera(camera))?
        };
        let waits = wish.asks.add(clear).ok_or(("busy", "too many wait for this camera; ask again".to_owned()))?;
        let none = "the camera gives no picture that the detector could look at; see the node's health";
        waits.recv_timeout(NOW_MAX).map_err(|_| ("no_picture", none.to_owned()))
    }

    /// What is kept of an event.
    pub fn kept_picture(&self, event: &EventId, clip: bool, clear: bool) -> Result<Given, Refusal> {
        let (end, kind) = if clip { ("mp4", "video/mp4") } else { ("jpg", "image/jpeg") };
        let media = self.media()?;
        let Some((folder, taken_ms, path)) = media.find_to_give(event, end, clear) else {
            let other = media.find_to_give(event, end, !clear).is_some();
            return Err(match (other, clear) {
                (true, false) => {
                    ("kept_clear", "it is kept clear here, and people cannot be hidden in it now".to_owned())
                }
                (true, true) => ("kept_blurred", "it is kept blurred here, and how it was before is gone".to_owned()),
                (false, _) => ("no_picture", "nothing is kept of this event, or no more".to_owned()),
            });
        };
        let folder = CameraId::new(folder).map_err(|_| ("no_picture", "its folder is no camera's".to_owned()))?;
        self.own(&folder)?;
        read(&path, kind, taken_ms, !clear)
    }

    /// The picture of a camera that was kept nearest to this moment.
    pub fn picture_near(&self, camera: &CameraId, moment_ms: u64, clear: bool) -> Result<Given, Refusal> {
        self.own(camera)?;
        let none = || ("no_picture", "no picture of this camera was kept within a minute of that moment".to_owned());
        let (taken_ms, path) = self.media()?.near(camera, moment_ms, clear).ok_or_else(none)?;
        read(&path, "image/jpeg", taken_ms, !clear)
    }

    fn own(&self, camera: &CameraId) -> Result<(), Refusal> {
        let own = lock(&self.cameras).iter().any(|watched| watched.camera == *camera && watched.own);
        if own { Ok(()) } else { Err(no_camera(camera)) }
    }

    fn media(&self) -> Result<Arc<Media>, Refusal> {
        let none = || ("no_picture", "no pictures of events are kept on this device".to_owned());
        self.keeper().map(|keeper| keeper.media).ok_or_else(none)
    }
}

fn no_camera(camera: &CameraId) -> Refusal {
    ("no_camera", format!("this device has no camera {camera} of its own that runs"))
}

/// A file, and one byte more than may be given where it is larger: whoever sends it refuses that.
fn read(path: &Path, media: &'static str, taken_ms: u64, blurred: bool) -> Result<Given, Refusal> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(PICTURE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| ("no_picture", format!("its file cannot be read ({error})")))?;
    Ok(Given { bytes, media, taken_ms, blurred })
}
