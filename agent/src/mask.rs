//! Privacy zones: blacks out parts of the picture before anything else sees the pixels.
//!
//! A pixel that a zone touches at all is black afterwards, also where the zone's edge only cuts it; every other pixel
//! is left alone. Nothing here remembers a picture.

use std::ops::Range;

use serde::Deserialize;

use crate::frame::Frame;
use crate::polygon::Polygon;

/// Privacy zones of one source.
pub const POLYGONS_MAX: usize = 32;

/// What to black out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The zones, each a list of `[x, y]` in fractions of the picture. Too large hides people who should be seen; too
    /// small shows what should be hidden.
    pub polygons: Vec<Polygon>,
}

impl Config {
    /// Refuses more zones than [`POLYGONS_MAX`]; each polygon was checked when it was read.
    pub fn check(&self) -> Result<(), String> {
        if self.polygons.len() > POLYGONS_MAX {
            let count = self.polygons.len();
            return Err(format!("mask.polygons has {count} zones; give it 0 to {POLYGONS_MAX}, and join some"));
        }
        Ok(())
    }
}

/// The zones of one source, with the bytes that they cover at its resolution.
#[derive(Debug, Clone)]
pub struct Mask {
    polygons: Vec<Polygon>,
    /// The resolution that `spans` are for.
    size: (u32, u32),
    /// Bytes to blacken, in ascending order and apart from each other.
    spans: Vec<Range<usize>>,
}

impl Mask {
    /// A mask of these zones; none leaves every frame as it is.
    pub fn new(polygons: &[Polygon]) -> Self {
        Self { polygons: polygons.to_vec(), size: (0, 0), spans: Vec::new() }
    }

    /// Blackens the zones. The zones are rasterised again only when the resolution changes. A frame whose bytes do not
    /// fit its size is blackened whole: what cannot be placed cannot be hidden otherwise.
    pub fn apply(&mut self, frame: &mut Frame) {
        if self.polygons.is_empty() {
            return;
        }
        if !frame.is_whole() {
            frame.rgb.fill(0);
            return;
        }
        if self.size != (frame.width, frame.height) {
            self.size = (frame.width, frame.height);
            rasterise(&self.polygons, frame.width as usize, frame.height as usize, &mut self.spans);
        }
        for span in &self.spans {
            frame.rgb[span.clone()].fill(0);
        }
    }
}

/// Writes the byte spans of every pixel that a polygon touches.
fn rasterise(polygons: &[Polygon], width: usize, height: usize, spans: &mut Vec<Range<usize>>) {
    spans.clear();
    let mut crossings = Vec::new();
    for polygon in polygons {
        for row in 0..height {
            let mut cover = |from: f64, to: f64| {
                // Float to integer saturates: what lies left of the picture becomes 0.
                let from = from.floor() as usize;
                let to = (to.ceil() as usize).min(width);
                if from < to {
                    spans.push((row * width + from) * 3..(row * width + to) * 3);
                }
            };
            cover_edges(polygon, row, width, height, &mut cover);
            cover_inside(polygon, row, width, height, &mut crossings, &mut cover);
        }
    }
    merge(spans);
}

/// The pixels of a row that an edge passes through.
fn cover_edges(polygon: &Polygon, row: usize, width: usize, height: usize, cover: &mut impl FnMut(f64, f64)) {
    let (top, bottom) = (row as f64, row as f64 + 1.0);
    for (a, b) in in_pixels(polygon, width, height) {
        let (upper, lower) = if a[1] <= b[1] { (a, b) } else { (b, a) };
        if upper[1] >= bottom || lower[1] <= top {
            continue;
        }
        let (from, to) = match lower[1] - upper[1] {
            0.0 => (a[0], b[0]),
            _ => (x_at(a, b, upper[1].max(top)), x_at(a, b, lower[1].min(bottom))),
        };
        cover(from.min(to), from.max(to));
    }
}

/// The pixels of a row whose middles the polygon winds around. Together with the edges' pixels these are all that it
/// touches: a pixel without an edge in it is wholly inside or wholly outside.
fn cover_inside(
    polygon: &Polygon,
    row: usize,
    width: usize,
    height: usize,
    crossings: &mut Vec<(f64, i32)>,
    cover: &mut impl FnMut(f64, f64),
) {
    let middle = row as f64 + 0.5;
    crossings.clear();
    for (a, b) in in_pixels(polygon, width, height) {
        if (a[1] <= middle) != (b[1] <= middle) {
            crossings.push((x_at(a, b, middle), if a[1] < b[1] { 1 } else { -1 }));
        }
    }
    crossings.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut winding = 0;
    for pair in crossings.windows(2) {
        winding += pair[0].1;
        if winding != 0 {
            cover(pair[0].0, pair[1].0);
        }
    }
}

fn in_pixels(polygon: &Polygon, width: usize, height: usize) -> impl Iterator<Item = ([f64; 2], [f64; 2])> {
    let scale = move |p: [f64; 2]| [p[0] * width as f64, p[1] * height as f64];
    polygon.edges().map(move |(a, b)| (scale(a), scale(b)))
}

/// Where the line through `a` and `b`, which is not level, is at height `y`.
fn x_at(a: [f64; 2], b: [f64; 2], y: f64) -> f64 {
    a[0] + (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1])
}

/// Sorts the spans and joins those that touch.
fn merge(spans: &mut Vec<Range<usize>>) {
    spans.sort_by_key(|span| span.start);
    spans.dedup_by(|next, kept| {
        let touch = next.start <= kept.end;
        if touch {
            kept.end = kept.end.max(next.end);
        }
        touch
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CANARY: u8 = 0xa5;

    fn polygon(points: &[[f64; 2]]) -> Polygon {
        Polygon::new(points.to_vec()).unwrap()
    }

    fn canary(width: u32, height: u32) -> Frame {
        Frame { taken_ms: 0, width, height, rgb: vec![CANARY; (width * height * 3) as usize] }
    }

    /// The blackened pixels; every other byte must be the canary's.
    fn black(mask: &mut Mask, width: u32, height: u32) -> Vec<bool> {
        let mut frame = canary(width, height);
        mask.apply(&mut frame);
        let pixel = |rgb: &[u8]| match rgb {
            [0, 0, 0] => true,
            [CANARY, CANARY, CANARY] => false,
            other => panic!("a pixel is neither black nor untouched: {other:?}"),
        };
        frame.rgb.chunks(3).map(pixel).collect()
    }

    fn drawn(mask: &mut Mask, width: u32, height: u32) -> Vec<String> {
        let black = black(mask, width, height);
        black.chunks(width as usize).map(|row| row.iter().map(|&b| if b { '#' } else { '.' }).collect()).collect()
    }

    #[test]
    fn exactly_the_pixels_that_a_zone_touches_are_black() {
        let rectangle = |x1: f64, y1: f64, x2: f64, y2: f64| polygon(&[[x1, y1], [x2, y1], [x2, y2], [x1, y2]]);
        for (name, polygons, expect) in [
            (
                "on pixel borders",
                vec![rectangle(0.25, 0.25, 0.75, 0.5)],
                ["........", "..####..", "........", "........"],
            ),
            ("cutting pixels", vec![rectangle(0.3, 0.3, 0.7, 0.51)], ["........", "..####..", "..####..", "........"]),
            ("over the edge", vec![rectangle(0.75, -0.5, 1.5, 0.5)], ["......##", "......##", "........", "........"]),
            ("all of it", vec![rectangle(-1.0, -1.0, 2.0, 2.0)], ["########"; 4]),
            ("outside", vec![rectangle(1.1, 0.0, 1.9, 1.0)], ["........"; 4]),
            ("thin as a hair", vec![rectangle(0.3, 0.0, 0.301, 1.0)], ["..#....."; 4]),
            (
                "two, overlapping",
                vec![rectangle(0.0, 0.0, 0.5, 0.5), rectangle(0.25, 0.25, 0.75, 0.75)],
                ["####....", "######..", "..####..", "........"],
            ),
            (
                "a triangle",
                vec![polygon(&[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])],
                ["########", "######..", "####....", "##......"],
            ),
            (
                "a notch",
                vec![polygon(&[
                    [0.0, 0.0],
                    [1.0, 0.0],
                    [1.0, 1.0],
                    [0.75, 1.0],
                    [0.75, 0.5],
                    [0.25, 0.5],
                    [0.25, 1.0],
                    [0.0, 1.0],
                ])],
                ["########", "########", "##....##", "##....##"],
            ),
        ] {
            assert_eq!(drawn(&mut Mask::new(&polygons), 8, 4), expect, "{name}");
        }
    }

    #[test]
    fn the_spans_follow_the_resolution_and_are_kept_while_it_stays() {
        let mut mask = Mask::new(&[polygon(&[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]])]);
        for (width, height) in [(8, 4), (8, 4), (4, 8), (1, 1), (8, 4)] {
            let black = black(&mut mask, width, height);
            let expect = (width.div_ceil(2) * height) as usize;
            assert_eq!(black.iter().filter(|&&b| b).count(), expect, "{width}x{height}");
        }
        let kept = mask.spans.as_ptr();
        mask.apply(&mut canary(8, 4));
        assert_eq!(mask.spans.as_ptr(), kept);
        assert_eq!(mask.spans.len(), 4, "one span a row");
    }

    #[test]
    fn a_frame_that_cannot_be_placed_is_black_and_no_zone_means_no_change() {
        let mut torn = canary(8, 4);
        torn.rgb.pop();
        Mask::new(&[polygon(&[[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]])]).apply(&mut torn);
        assert!(torn.rgb.iter().all(|&b| b == 0));
        let mut untouched = canary(8, 4);
        Mask::new(&[]).apply(&mut untouched);
        assert_eq!(untouched, canary(8, 4));
        Mask::new(&[polygon(&[[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]])]).apply(&mut canary(0, 0));
    }

    #[test]
    fn the_configuration_refuses_degenerate_polygons_and_too_many() {
        let parse = |text: &str| picket_shared::config::parse::<Config>(text);
        assert!(parse("polygons = [[[0, 0], [1, 0], [0.5, 1.5]]]").unwrap().check().is_ok());
        for (text, expect) in [
            ("polygons = [[[0, 0], [1, 0]]]", "a polygon has 2 points"),
            ("polygons = [[[0, 0], [1, nan], [1, 1]]]", "the coordinate NaN"),
            ("polygon = []", "did you mean \"polygons\""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expect), "{error}");
        }
        let many = Config { polygons: vec![polygon(&[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]); POLYGONS_MAX + 1] };
        assert!(many.check().unwrap_err().contains("0 to 32"));
    }

    proptest! {
        /// Checked against points sampled in each pixel: a pixel with a point inside is black, and a black pixel has a
        /// point inside in itself or, where the zone touches only its rim, in a neighbour.
        #[test]
        fn any_polygon_blackens_what_it_touches_and_no_more(
            points in proptest::collection::vec([-0.5f64..1.5, -0.5f64..1.5], 3..7),
            width in 1u32..24,
            height in 1u32..24,
        ) {
            const SAMPLES: u32 = 6;
            let Ok(polygon) = Polygon::new(points) else { return Ok(()) };
            let black = black(&mut Mask::new(std::slice::from_ref(&polygon)), width, height);
            let sampled = |x: i64, y: i64| (0..SAMPLES * SAMPLES).any(|i| {
                let inside = |n: u32| (f64::from(n) + 0.5) / f64::from(SAMPLES);
                let point = [x as f64 + inside(i % SAMPLES), y as f64 + inside(i / SAMPLES)];
                polygon.contains([point[0] / f64::from(width), point[1] / f64::from(height)])
            });
            let near_edge = |x: i64, y: i64| polygon.edges().any(|(a, b)| {
                (0..=1000).any(|i| {
                    let t = f64::from(i) / 1000.0;
                    let at = |axis: usize, size: u32| (a[axis] + (b[axis] - a[axis]) * t) * f64::from(size);
                    let (dx, dy) = (at(0, width) - x as f64 - 0.5, at(1, height) - y as f64 - 0.5);
                    dx.abs() < 0.6 && dy.abs() < 0.6
                })
            });
            for (i, &is_black) in black.iter().enumerate() {
                let (x, y) = ((i as u32 % width) as i64, (i as u32 / width) as i64);
                if sampled(x, y) {
                    prop_assert!(is_black, "pixel {x},{y} is inside and shown");
                } else if is_black {
                    prop_assert!(near_edge(x, y), "pixel {x},{y} is outside and hidden");
                }
            }
        }
    }
}
