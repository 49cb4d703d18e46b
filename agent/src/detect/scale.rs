//! Scales RGB pictures: each pixel of the result is the mean of the pixels around its place in the source, weighed by a
//! triangle as wide as two of its own kind (bilinear, as Pillow's `BILINEAR`), so that small things do not fall between.
//!
//! Rows first, where a processor takes many bytes at once, then columns of what is left. Weights are 256ths that sum up
//! to one, so that 16 bits hold every sum. They are kept for as long as the sizes stay; nothing is allocated meanwhile,
//! which the usual libraries do for each picture.

/// Bytes of a row that are summed up at once.
const LANES: usize = 32;
/// One, as a weight.
const ONE: u16 = 256;
/// Added before a sum is divided by [`ONE`], to round it. With it a sum is at most 255 * 256 + 128, and fits 16 bits.
const HALF: u16 = ONE / 2;
/// Numbers of a pixel.
const PIXEL: usize = 3;
/// Numbers that are loaded for two pixels: what a processor loads at once.
const LOADED: usize = 8;

/// Scales from one size to another.
#[derive(Debug, Default)]
pub(super) struct Scaler {
    from: (usize, usize),
    to: (usize, usize),
    columns: Windows,
    rows: Windows,
    /// For each column's pairs of pixels, the weights of their numbers.
    pairs: Vec<[u16; LOADED]>,
    /// One row of the result, as wide as the source, and some room behind it.
    line: Vec<u16>,
    /// The sums of one row of the result, and some room behind them.
    sums: Vec<u16>,
}

/// For each place of the result, which places of the source it is the mean of, and their weights: as many for each.
#[derive(Debug, Default)]
struct Windows {
    starts: Vec<usize>,
    length: usize,
    weights: Vec<u16>,
}

impl Windows {
    fn of(from: usize, to: usize) -> Windows {
        let scale = from as f64 / to as f64;
        let radius = scale.max(1.0);
        let centre = |place: usize| (place as f64 + 0.5) * scale;
        // Float to integer saturates: what lies left of the source becomes 0.
        let first = |place: usize| ((centre(place) - radius - 0.5).floor() + 1.0) as usize;
        let behind = |place: usize| ((centre(place) + radius - 0.5).ceil() as usize).min(from);
        let length = (0..to).map(|place| behind(place) - first(place)).max().unwrap_or(0);
        let mut windows = Windows { starts: Vec::with_capacity(to), length, weights: Vec::with_capacity(to * length) };
        for place in 0..to {
            let start = first(place).min(from - length);
            let weight = |at: usize| (1.0 - ((at as f64 + 0.5 - centre(place)) / radius).abs()).max(0.0);
            let all: f64 = (start..start + length).map(weight).sum();
            // Rounding the sums, not the weights, makes them sum up to one.
            let (mut sum, mut before) = (0.0, 0);
            for at in start..start + length {
                sum += weight(at);
                let now = (sum / all * f64::from(ONE)).round() as u16;
                windows.weights.push(now - before);
                before = now;
            }
            windows.starts.push(start);
        }
        windows
    }

    fn weights(&self, place: usize) -> &[u16] {
        &self.weights[place * self.length..][..self.length]
    }
}

impl Scaler {
    /// Scales `source`, of `from` pixels, into `rows` of the result, of `to` pixels. All sides are above 0, and the slices
    /// hold what the sizes say.
    pub(super) fn scale<'a>(
        &mut self,
        source: &[u8],
        from: (usize, usize),
        rows: impl Iterator<Item = &'a mut [u8]>,
        to: (usize, usize),
    ) {
        if (self.from, self.to) != (from, to) {
            self.prepare(from, to);
        }
        let row = from.0 * PIXEL;
        for (place, out) in rows.take(to.1).enumerate() {
            let start = self.rows.starts[place] * row;
            let rows = &source[start..start + self.rows.length * row];
            sum_rows(rows, row, self.rows.weights(place), &mut self.line[..row]);
            self.sum_columns(out);
        }
    }

    fn prepare(&mut self, from: (usize, usize), to: (usize, usize)) {
        (self.from, self.to) = (from, to);
        (self.columns, self.rows) = (Windows::of(from.0, to.0), Windows::of(from.1, to.1));
        // The last pair's second pixel may lie behind the row, and more is loaded and written than is used.
        self.line.clear();
        self.line.resize(from.0 * PIXEL + LOADED, 0);
        self.sums.clear();
        self.sums.resize(to.0 * PIXEL + LOADED, 0);
        self.pairs.clear();
        for place in 0..to.0 {
            for pair in self.columns.weights(place).chunks(2) {
                let (first, second) = (pair[0], pair.get(1).copied().unwrap_or(0));
                self.pairs.push([first, first, first, second, second, second, 0, 0]);
            }
        }
    }

    fn sum_columns(&mut self, out: &mut [u8]) {
        let pairs = self.columns.length.div_ceil(2);
        let windows = self.columns.starts.iter().zip(self.pairs.chunks_exact(pairs));
        for (place, (start, weights)) in windows.enumerate() {
            let mut sums = [0u16; LOADED];
            let window = &self.line[start * PIXEL..];
            for (pair, weights) in weights.iter().enumerate() {
                let numbers = window[pair * 2 * PIXEL..].first_chunk::<LOADED>().expect("the line has room behind it");
                for n in 0..LOADED {
                    sums[n] = sums[n].wrapping_add(numbers[n].wrapping_mul(weights[n]));
                }
            }
            // One more than a pixel has: the next pixel writes over it.
            let both = std::array::from_fn(|n| sums[n].wrapping_add(sums[n + PIXEL]));
            *self.sums[place * PIXEL..].first_chunk_mut::<4>().expect("the sums have room behind them") = both;
        }
        for (byte, sum) in out.iter_mut().zip(&self.sums) {
            *byte = (sum.wrapping_add(HALF) / ONE) as u8;
        }
    }
}

/// Sums up rows of so many bytes by their weights.
fn sum_rows(rows: &[u8], row: usize, weights: &[u16], line: &mut [u16]) {
    let (blocks, rest) = line.as_chunks_mut::<LANES>();
    let whole = blocks.len() * LANES;
    for (block, line) in blocks.iter_mut().enumerate() {
        let mut sums = [HALF; LANES];
        for (row, weight) in rows.chunks_exact(row).zip(weights) {
            let bytes = &row[block * LANES..][..LANES];
            for (sum, byte) in sums.iter_mut().zip(bytes) {
                *sum = sum.wrapping_add(u16::from(*byte).wrapping_mul(*weight));
            }
        }
        *line = sums.map(|sum| sum / ONE);
    }
    for (at, number) in rest.iter_mut().enumerate() {
        let bytes = rows.chunks_exact(row).map(|row| u16::from(row[whole + at]));
        let sum = bytes.zip(weights).fold(HALF, |sum, (byte, weight)| sum.wrapping_add(byte.wrapping_mul(*weight)));
        *number = sum / ONE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same by its definition, in numbers that are never rounded.
    fn defined(source: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<f64> {
        let weights = |place: usize, from: usize, to: usize| {
            let scale = from as f64 / to as f64;
            let (centre, radius) = ((place as f64 + 0.5) * scale, scale.max(1.0));
            let weights = (0..from).map(|at| (1.0 - ((at as f64 + 0.5 - centre) / radius).abs()).max(0.0));
            let all: f64 = weights.clone().sum();
            weights.map(|weight| weight / all).collect::<Vec<f64>>()
        };
        let mut result = Vec::new();
        for y in 0..to.1 {
            let rows = weights(y, from.1, to.1);
            for x in 0..to.0 {
                let columns = weights(x, from.0, to.0);
                for channel in 0..3 {
                    let pixel = |x: usize, y: usize| f64::from(source[(y * from.0 + x) * 3 + channel]);
                    let along = |y: usize| columns.iter().enumerate().map(|(x, w)| w * pixel(x, y)).sum::<f64>();
                    result.push(rows.iter().enumerate().filter(|(_, w)| **w > 0.0).map(|(y, w)| w * along(y)).sum());
                }
            }
        }
        result
    }

    fn scaled(source: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
        let mut picture = vec![9; to.0 * to.1 * 3];
        Scaler::default().scale(source, from, picture.chunks_exact_mut(to.0 * PIXEL), to);
        picture
    }

    /// Noise: nothing is harder.
    fn noise(seed: u32, bytes: usize) -> Vec<u8> {
        (0..bytes as u32).map(|n| ((n ^ seed).wrapping_mul(2_654_435_761).rotate_left(7) >> 24) as u8).collect()
    }

    #[test]
    fn it_is_the_mean_by_a_triangle_at_any_ratio() {
        for (from, to, levels_max) in [
            ((48, 36), (24, 18), 1.01),
            ((48, 36), (48, 18), 1.01),
            ((40, 30), (12, 9), 2.5),
            ((160, 90), (48, 27), 2.5),
            ((200, 150), (19, 14), 3.5),
            ((10, 8), (24, 18), 2.0),
            ((7, 1), (3, 1), 2.5),
            ((1, 1), (5, 4), 0.51),
            ((2, 3), (1, 1), 1.5),
        ] {
            let source = noise(7, from.0 * from.1 * 3);
            let got = scaled(&source, from, to);
            let off = |(got, expect): (&u8, f64)| (f64::from(*got) - expect).abs();
            let farthest = got.iter().zip(defined(&source, from, to)).map(off).fold(0.0, f64::max);
            assert!(farthest <= levels_max, "{from:?} to {to:?}: {farthest} levels off");
        }
    }

    #[test]
    fn the_same_size_is_the_same_picture() {
        let source = noise(3, 8 * 5 * 3);
        assert_eq!(scaled(&source, (8, 5), (8, 5)), source);
    }

    #[test]
    fn one_scaler_takes_one_size_after_the_other() {
        let mut scaler = Scaler::default();
        for (from, to) in [((8, 6), (4, 3)), ((5, 9), (4, 3)), ((8, 6), (4, 3)), ((8, 6), (2, 2))] {
            let source = noise(1, from.0 * from.1 * 3);
            let mut picture = vec![0; to.0 * to.1 * 3];
            scaler.scale(&source, from, picture.chunks_exact_mut(to.0 * PIXEL), to);
            assert_eq!(picture, scaled(&source, from, to), "{from:?} to {to:?}");
        }
    }

    proptest! {
        #[test]
        fn one_colour_stays_that_colour(
            from in (1usize..300, 1usize..40), to in (1usize..60, 1usize..40), colour in any::<[u8; 3]>()
        ) {
            let got = scaled(&colour.repeat(from.0 * from.1), from, to);
            prop_assert!(got.chunks_exact(3).all(|pixel| pixel == colour), "{:?}", &got[..3]);
        }
    }
}
