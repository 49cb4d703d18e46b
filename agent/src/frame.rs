//! The two things that travel along the frame path: the frame, and the boxes found in it.
//!
//! Plain data; nothing here decides or reads a clock.

/// One picture: RGB, 8 bits a channel, rows from the top without padding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// When it was taken, in milliseconds since 1970.
    pub taken_ms: u64,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `width * height * 3` bytes.
    pub rgb: Vec<u8>,
}

impl Frame {
    /// Whether the bytes fit the size. Whoever indexes pixels asks this first.
    pub fn is_whole(&self) -> bool {
        (self.width as usize)
            .checked_mul(self.height as usize)
            .and_then(|pixels| pixels.checked_mul(3))
            .is_some_and(|bytes| bytes == self.rgb.len())
    }
}

/// One box in one frame, in pixels of the source, with its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Where.
    pub area: Area,
    /// How sure the detector is, 0 to 1.
    pub score: f32,
}

/// A rectangle in pixels of the source: left, top, right, bottom.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Area {
    /// Left edge.
    pub x1: f32,
    /// Upper edge.
    pub y1: f32,
    /// Right edge.
    pub x2: f32,
    /// Lower edge.
    pub y2: f32,
}

impl Area {
    /// Width; 0 where the edges are crossed.
    pub fn width(&self) -> f32 {
        (self.x2 - self.x1).max(0.0)
    }

    /// Height; 0 where the edges are crossed.
    pub fn height(&self) -> f32 {
        (self.y2 - self.y1).max(0.0)
    }

    /// Intersection over union, 0 to 1; 0 for empty rectangles.
    pub fn iou(&self, other: &Area) -> f32 {
        let inner = Area {
            x1: self.x1.max(other.x1),
            y1: self.y1.max(other.y1),
            x2: self.x2.min(other.x2),
            y2: self.y2.min(other.y2),
        };
        let common = inner.width() * inner.height();
        let union = self.width() * self.height() + other.width() * other.height() - common;
        if union > 0.0 { common / union } else { 0.0 }
    }

    /// The middle of the lower edge: where a person stands.
    pub fn foot(&self) -> (f32, f32) {
        ((self.x1 + self.x2) / 2.0, self.y2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(x1: f32, y1: f32, x2: f32, y2: f32) -> Area {
        Area { x1, y1, x2, y2 }
    }

    #[test]
    fn iou_of_known_rectangles() {
        let a = area(0.0, 0.0, 10.0, 10.0);
        for (other, expect) in [
            (a, 1.0),
            (area(5.0, 0.0, 15.0, 10.0), 1.0 / 3.0),
            (area(10.0, 0.0, 20.0, 10.0), 0.0),
            (area(7.0, 7.0, 3.0, 3.0), 0.0),
        ] {
            assert!((a.iou(&other) - expect).abs() < 1e-6);
        }
        assert_eq!(Area::default().iou(&Area::default()), 0.0);
    }
}
