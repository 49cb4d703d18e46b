//! Notices a camera that gives the same picture again and again.
//!
//! Pure. A sensor's noise changes some pixels of every picture, so a live camera whose pictures are equal byte for byte
//! hangs somewhere before its encoder. Only a sample of each picture is looked at and kept.

use crate::frame::Frame;

/// Bytes looked at in each picture. Of these, noise changes some hundred.
const SAMPLES: usize = 4096;

/// What is known of one source's pictures.
#[derive(Debug, Default)]
pub(super) struct Frozen {
    sample: Vec<u8>,
    size: (u32, u32),
    /// When the picture that is still there came first.
    since_ms: u64,
}

impl Frozen {
    /// Takes a frame in. `now_ms` is monotonic. Gives since how many milliseconds the picture is the same; absent where
    /// this one differs from the last.
    pub(super) fn look(&mut self, now_ms: u64, frame: &Frame) -> Option<u64> {
        // One that three does not divide visits all three channels.
        let stride = (frame.rgb.len() / SAMPLES).max(1);
        let stride = if stride.is_multiple_of(3) { stride + 1 } else { stride };
        let sampled = frame.rgb.iter().step_by(stride);
        let size = (frame.width, frame.height);
        if size == self.size && sampled.clone().eq(self.sample.iter()) {
            return Some(now_ms.saturating_sub(self.since_ms));
        }
        self.sample.clear();
        self.sample.extend(sampled);
        (self.size, self.since_ms) = (size, now_ms);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8) -> Frame {
        Frame { taken_ms: 0, width: 320, height: 240, rgb: vec![byte; 320 * 240 * 3] }
    }

    #[test]
    fn only_the_same_picture_again_counts_and_its_age_is_told() {
        let mut frozen = Frozen::default();
        assert_eq!(frozen.look(1_000, &frame(1)), None);
        assert_eq!(frozen.look(1_100, &frame(1)), Some(100));
        assert_eq!(frozen.look(61_000, &frame(1)), Some(60_000));
        assert_eq!(frozen.look(61_100, &frame(2)), None);
        assert_eq!(frozen.look(61_200, &frame(2)), Some(100));
        // The same bytes in another size are another picture.
        let turned = Frame { width: 240, height: 320, ..frame(2) };
        assert_eq!(frozen.look(61_300, &turned), None);
    }

    #[test]
    fn noise_anywhere_is_life() {
        let mut frozen = Frozen::default();
        frozen.look(0, &frame(100));
        let mut noisy = frame(100);
        // One byte of a hundred trembles: far less than a sensor's noise.
        noisy.rgb.iter_mut().step_by(101).for_each(|byte| *byte += 1);
        assert_eq!(frozen.look(100, &noisy), None);
        assert!(frozen.sample.len() <= 2 * SAMPLES, "a sample is small");
    }

    #[test]
    fn a_change_in_any_channel_is_seen_at_any_size() {
        for side in [10, 64, 100, 111, 160] {
            for channel in 0..3 {
                let mut frozen = Frozen::default();
                let picture = |level: u8| {
                    let mut rgb = vec![200; side * side * 3];
                    rgb.iter_mut().skip(channel).step_by(3).for_each(|byte| *byte = level);
                    Frame { taken_ms: 0, width: side as u32, height: side as u32, rgb }
                };
                frozen.look(0, &picture(1));
                assert_eq!(frozen.look(1, &picture(2)), None, "side {side}, channel {channel}");
            }
        }
    }
}
