//! Whether an object stays where it is.

use super::Config;

/// A place, since when it is kept, and whether that is long enough.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stillness {
    /// Where the object was when it last moved, and when. Absent before the first frame.
    anchor: Option<((f32, f32), u64)>,
    /// Frames in a row in which it was elsewhere.
    elsewhere_frames: u32,
    stationary: bool,
}

impl Stillness {
    /// Takes in where the object stands in one frame, in pixels, and how high its box is. True where it became or stopped
    /// being stationary. Elsewhere counts after `inertia_frames` frames in a row: the lower edge of a box jumps when
    /// somebody passes in front.
    pub(super) fn stand(&mut self, now_ms: u64, foot: (f32, f32), height: f32, config: &Config) -> bool {
        let before = self.stationary;
        let (place, since_ms) = *self.anchor.get_or_insert((foot, now_ms));
        let moved = (foot.0 - place.0).hypot(foot.1 - place.1) > config.stationary_fraction * height;
        self.elsewhere_frames = if moved { self.elsewhere_frames + 1 } else { 0 };
        if self.elsewhere_frames >= config.inertia_frames {
            *self = Self { anchor: Some((foot, now_ms)), ..Self::default() };
        } else if now_ms < since_ms {
            // The clock was set back: time is counted anew, and what is stationary stays so.
            self.anchor = Some((place, now_ms));
        } else if now_ms - since_ms >= config.stationary_ms {
            self.stationary = true;
        }
        self.stationary != before
    }

    /// The last word.
    pub(super) fn stationary(&self) -> bool {
        self.stationary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stationary_is_staying_long_enough_and_a_jump_of_one_frame_is_no_movement() {
        // Frames are 100 ms apart, the box is 100 pixels high: up to 20 pixels away is the same place.
        let config = Config { stationary_ms: 300, inertia_frames: 2, stationary_fraction: 0.2, ..Config::default() };
        for (name, walk, expect) in [
            ("stays", &[0.0, 0.0, 0.0, 0.0][..], "...S"),
            ("trembles", &[0.0, 15.0, -15.0, 19.0, -19.0], "...SS"),
            ("walks", &[0.0, 12.0, 24.0, 36.0, 48.0, 60.0, 72.0], "......."),
            ("jumps for one frame", &[0.0, 0.0, 0.0, 0.0, 60.0, 0.0, 0.0], "...SSSS"),
            ("goes away", &[0.0, 0.0, 0.0, 0.0, 60.0, 60.0, 60.0], "...SS.."),
            ("goes and stays there", &[0.0, 60.0, 60.0, 60.0, 60.0, 60.0], ".....S"),
        ] {
            let mut stillness = Stillness::default();
            let mut before = false;
            let mut said = String::new();
            for (n, &x) in walk.iter().enumerate() {
                let changed = stillness.stand(1_000 + n as u64 * 100, (x, 0.0), 100.0, &config);
                assert_eq!(changed, stillness.stationary() != before, "{name}");
                before = stillness.stationary();
                said.push(if before { 'S' } else { '.' });
            }
            assert_eq!(said, expect, "{name}");
        }
    }

    #[test]
    fn a_clock_set_back_counts_anew_and_forgets_nothing() {
        let config = Config { stationary_ms: 300, ..Config::default() };
        let mut stillness = Stillness::default();
        let mut stand = |now_ms| {
            stillness.stand(now_ms, (5.0, 5.0), 100.0, &config);
            stillness.stationary()
        };
        assert_eq!(
            [10_000, 10_200, 500, 700, 800, 100, 200].map(&mut stand),
            [false, false, false, false, true, true, true]
        );
    }
}
