//! Chooses, from what a camera offers, the size, rate and layout that serve detection best.
//!
//! Pure. The size comes first, because it decides who can be seen at all; then a rate that suffices; then the layout that
//! costs least to make into RGB.

use super::pixels::Layout;
use super::ppm::frame_bytes;

/// What a camera can give in one layout and size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Offer {
    pub(super) layout: Layout,
    pub(super) width: u32,
    pub(super) height: u32,
    /// The fastest that it goes, frames a second; absent where the camera does not say.
    pub(super) fps_max: Option<f64>,
}

/// What is wanted of a camera: what a source's URL says, or these.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wish {
    /// Width and height. A larger picture costs more and shows a detector of 384x288 little more.
    pub(super) size: (u32, u32),
    /// Frames a second.
    pub(super) fps: f64,
    /// Only this layout.
    pub(super) layout: Option<Layout>,
}

impl Default for Wish {
    fn default() -> Self {
        Wish { size: (1280, 720), fps: 15.0, layout: None }
    }
}

/// The best offer; `None` where no offer can be used.
pub(super) fn choose(wish: &Wish, offers: &[Offer]) -> Option<Offer> {
    let usable = offers.iter().filter(|offer| {
        frame_bytes(offer.width, offer.height).is_some() && wish.layout.is_none_or(|layout| layout == offer.layout)
    });
    let cost = |offer: &Offer| {
        let off_px = u64::from(offer.width.abs_diff(wish.size.0)) + u64::from(offer.height.abs_diff(wish.size.1));
        let late = offer.fps_max.map_or(0.0, |fps| (wish.fps - fps).max(0.0));
        (off_px, late, Layout::ALL.iter().position(|layout| *layout == offer.layout))
    };
    let compare = |a: &&Offer, b: &&Offer| {
        let (a, b) = (cost(a), cost(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2))
    };
    usable.min_by(compare).copied()
}

/// The size of a stepwise range, `(least, most, step)` for width and height, that is nearest to the one wanted.
pub(super) fn nearest_size(wish: (u32, u32), width: [u32; 3], height: [u32; 3]) -> (u32, u32) {
    let nearest = |wish: u32, [least, most, step]: [u32; 3]| {
        let inside = wish.clamp(least, most.max(least));
        inside - (inside - least) % step.max(1)
    };
    (nearest(wish.0, width), nearest(wish.1, height))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Layout::{Grey, Mjpeg, Nv12, Yuyv};

    fn offer(layout: Layout, width: u32, height: u32, fps: f64) -> Offer {
        Offer { layout, width, height, fps_max: (fps > 0.0).then_some(fps) }
    }

    #[test]
    fn the_size_comes_first_then_the_rate_then_the_cost() {
        let webcam = [
            offer(Yuyv, 640, 480, 30.0),
            offer(Yuyv, 1280, 720, 10.0),
            offer(Mjpeg, 1280, 720, 30.0),
            offer(Mjpeg, 1920, 1080, 30.0),
        ];
        let wish = Wish::default();
        for (wish, offers, expect) in [
            (wish, &webcam[..], Some(webcam[2])),
            (Wish { fps: 10.0, ..wish }, &webcam, Some(webcam[1])),
            (Wish { size: (600, 400), ..wish }, &webcam, Some(webcam[0])),
            (Wish { layout: Some(Yuyv), ..wish }, &webcam, Some(webcam[1])),
            (Wish { layout: Some(Nv12), ..wish }, &webcam, None),
            // Grey only where nothing else is; a rate that is not told is believed.
            (wish, &[offer(Grey, 1280, 720, 30.0), offer(Mjpeg, 1280, 720, 0.0)], Some(offer(Mjpeg, 1280, 720, 0.0))),
            (wish, &[offer(Yuyv, 1280, 720, 30.0), offer(Nv12, 1280, 720, 30.0)], Some(offer(Nv12, 1280, 720, 30.0))),
            // Never a size that no frame may have.
            (Wish { size: (7680, 4320), ..wish }, &[offer(Mjpeg, 7680, 4320, 30.0), webcam[0]], Some(webcam[0])),
            (wish, &[offer(Grey, 0, 0, 30.0)], None),
            (wish, &[], None),
        ] {
            assert_eq!(choose(&wish, offers), expect, "{wish:?} of {offers:?}");
        }
    }

    #[test]
    fn a_stepwise_size_lies_on_a_step_within_the_range() {
        for (wish, width, height, expect) in [
            ((1280, 720), [32, 2592, 2], [32, 1944, 2], (1280, 720)),
            ((1281, 725), [32, 2592, 16], [32, 1944, 16], (1280, 720)),
            ((4000, 10), [32, 2592, 1], [32, 1944, 1], (2592, 32)),
            ((640, 480), [640, 0, 0], [480, 480, 0], (640, 480)),
        ] {
            assert_eq!(nearest_size(wish, width, height), expect);
        }
    }
}
