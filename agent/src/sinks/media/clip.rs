//! Makes an MP4 clip of encoded pictures, through an encoder child that reads them and writes the clip to its output.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::moments::steady;
use crate::sinks::Shot;
use crate::sinks::child::{Child, Refused};
use crate::sinks::pace::interval_ms;
use crate::sinks::words::filled;

/// The largest clip: half a minute is a tenth of it.
pub(crate) const CLIP_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long making one may take.
const MAKE_MAX: Duration = Duration::from_secs(60);

/// Encodes a clip. The error is a sentence.
pub(crate) fn encode(shots: &[Arc<Shot>], fps: f64, encoder: Option<&[String]>) -> Result<Vec<u8>, String> {
    let fps_text = fps.to_string();
    let words = match encoder {
        Some(words) => filled(words, &[("fps", fps_text)]),
        None => {
            let words = format!(
                "ffmpeg -nostdin -hide_banner -loglevel repeat+error -f image2pipe -c:v mjpeg -framerate {fps_text} -i pipe:0 \
                 -an -vf crop=trunc(iw/2)*2:trunc(ih/2)*2:0:0 -c:v libx264 -preset ultrafast -crf 26 -pix_fmt yuv420p \
                 -threads 1 -movflags +frag_keyframe+empty_moov+default_base_moof -f mp4 pipe:1"
            );
            words.split_whitespace().map(String::from).collect()
        }
    };
    let program = words.first().map_or("", String::as_str);
    let cannot = |error: std::io::Error| {
        format!("no clip was made, because {program} cannot be run ({error}); install it, or correct media.encoder")
    };
    let deadline = Instant::now() + MAKE_MAX;
    let mut child = Child::start(&words, &[], CLIP_BYTES_MAX).map_err(cannot)?;
    child.yield_to_others();
    let taken_ms: Vec<u64> = shots.iter().map(|shot| shot.at_ms).collect();
    let mut refused = None;
    for index in steady(&taken_ms, interval_ms(fps)) {
        if let Err(error) = child.write(&shots[index].jpeg, deadline) {
            refused = Some(error);
            break;
        }
    }
    let grace = match refused {
        None | Some(Refused::Ended) => deadline.saturating_duration_since(Instant::now()),
        Some(_) => Duration::ZERO,
    };
    let ended = child.finish(grace).map_err(cannot)?;
    let last = ended.complaints.last().map_or(String::new(), |line| format!(", \"{line}\""));
    match refused {
        Some(Refused::TooMuch) => Err(format!("no clip was made: it has more than {CLIP_BYTES_MAX} bytes")),
        Some(Refused::Stalled) => Err(format!("no clip was made: {program} took too long{last}")),
        _ if !ended.status.success() => Err(format!("no clip was made: {program} ended with {}{last}", ended.status)),
        Some(Refused::System(error)) => Err(cannot(error)),
        _ if ended.output.is_empty() => Err(format!("no clip was made: {program} wrote nothing")),
        _ => Ok(ended.output),
    }
}
