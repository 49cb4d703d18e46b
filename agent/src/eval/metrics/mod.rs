//! How good detections and tracks are, measured against a truth.
//!
//! [`boxes`] judges detections frame by frame, [`tracks`] judges identities over a sequence. Pure: the same input gives
//! the same figures, and no figure depends on how fast anything was.

pub mod boxes;
pub mod tracks;

use super::truth::TruthBox;
use crate::frame::Area;

/// Least overlap (IoU) of a box with a truth for the two to be the same person: that of Pascal VOC and MOTChallenge.
pub const IOU_MIN: f32 = 0.5;

/// Whether at least half of a box lies in a region where nothing is judged: COCO's rule for crowd regions, because a
/// region may be larger than the people in it.
fn in_ignored(truth: &[TruthBox], area: &Area) -> bool {
    let own = area.width() * area.height();
    truth.iter().filter(|marked| marked.ignore).any(|marked| {
        let other = &marked.area;
        let width = (area.x2.min(other.x2) - area.x1.max(other.x1)).max(0.0);
        let height = (area.y2.min(other.y2) - area.y1.max(other.y1)).max(0.0);
        width * height >= own * IOU_MIN
    })
}
