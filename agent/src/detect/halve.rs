//! Halves RGB pictures, as often as they are wanted: the first and the largest part of fitting a frame into a model's input.
//!
//! Each pixel of the result is the mean of four by four, weighed 1 3 3 1 both ways: what a triangle gives at this ratio, by
//! means of two that processors take of many bytes at once. A mean of two rounds up. The way down rounds up and is
//! measured from white, so that it rounds down; so picture and result are equally bright. Pixels beyond the edge are as
//! those at it. Nothing is allocated while the size stays.

/// Halves pictures of one size after the other.
#[derive(Debug, Default)]
pub(super) struct Halver {
    /// A row of the result, as wide as the source, with a pixel more on its left and two on its right.
    line: Vec<u8>,
    /// The same after the way across; every other pixel is one of the result.
    across: Vec<u8>,
}

/// Bytes of a pixel.
const PIXEL: usize = 3;

impl Halver {
    /// Whether a picture of this size can be halved.
    pub(super) fn can(size: (usize, usize)) -> bool {
        size.0 > 0 && size.1 > 0 && size.0.is_multiple_of(2) && size.1.is_multiple_of(2)
    }

    /// Halves `source`, of `size` pixels, which are even, into `rows` of the result. What is behind a row's pixels is left
    /// alone.
    pub(super) fn halve<'a>(&mut self, source: &[u8], size: (usize, usize), rows: impl Iterator<Item = &'a mut [u8]>) {
        let row = size.0 * PIXEL;
        self.line.resize(row + 3 * PIXEL, 0);
        self.across.resize(row, 0);
        let at = |y: usize| &source[y.min(size.1 - 1) * row..][..row];
        for (y, out) in rows.take(size.1 / 2).enumerate() {
            let four = [at((2 * y).saturating_sub(1)), at(2 * y), at(2 * y + 1), at(2 * y + 2)];
            means(four, &mut self.line[PIXEL..PIXEL + row], |a, b, c, d| !mean(!a, !b, !c, !d));
            self.line.copy_within(PIXEL..2 * PIXEL, 0);
            self.line.copy_within(row..row + PIXEL, row + PIXEL);
            let line = &self.line;
            means([0, 1, 2, 3].map(|n| &line[n * PIXEL..][..row]), &mut self.across, mean);
            let pairs = self.across.as_chunks::<{ 2 * PIXEL }>().0;
            for (pixel, pair) in out.as_chunks_mut::<PIXEL>().0.iter_mut().zip(pairs) {
                pixel.copy_from_slice(&pair[..PIXEL]);
            }
        }
    }
}

/// The mean of four bytes each. All have the same length.
fn means([a, b, c, d]: [&[u8]; 4], out: &mut [u8], mean: impl Fn(u8, u8, u8, u8) -> u8) {
    let four = a.iter().zip(b).zip(c.iter().zip(d));
    for (out, ((a, b), (c, d))) in out.iter_mut().zip(four) {
        *out = mean(*a, *b, *c, *d);
    }
}

/// By 1 3 3 1.
fn mean(a: u8, b: u8, c: u8, d: u8) -> u8 {
    // Every processor has an instruction for this.
    let of_two = |a: u8, b: u8| ((u16::from(a) + u16::from(b) + 1) >> 1) as u8;
    let middle = of_two(b, c);
    of_two(of_two(of_two(a, d), middle), middle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn halved(source: &[u8], size: (usize, usize)) -> Vec<u8> {
        let mut out = vec![0; source.len() / 4];
        Halver::default().halve(source, size, out.chunks_exact_mut(size.0 / 2 * PIXEL));
        out
    }

    /// By its definition, in whole numbers of 64ths.
    fn defined(source: &[u8], size: (usize, usize)) -> Vec<f64> {
        let at = |x: isize, y: isize, channel: usize| {
            let inside = |at: isize, side: usize| at.clamp(0, side as isize - 1) as usize;
            u32::from(source[(inside(y, size.1) * size.0 + inside(x, size.0)) * PIXEL + channel])
        };
        let weights = [1, 3, 3, 1];
        let mut out = Vec::new();
        for y in (0..size.1 as isize).step_by(2) {
            for x in (0..size.0 as isize).step_by(2) {
                for channel in 0..PIXEL {
                    let all = (0..16).map(|n| {
                        weights[n / 4]
                            * weights[n % 4]
                            * at(x + (n % 4) as isize - 1, y + (n / 4) as isize - 1, channel)
                    });
                    out.push(f64::from(all.sum::<u32>()) / 64.0);
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn each_pixel_is_the_mean_of_those_around_its_place(
            size in (1usize..40, 1usize..20), bytes in proptest::collection::vec(any::<u8>(), 80 * 40 * PIXEL)
        ) {
            let size = (size.0 * 2, size.1 * 2);
            let source = &bytes[..size.0 * size.1 * PIXEL];
            let off = halved(source, size).into_iter().zip(defined(source, size)).map(|(got, expect)| f64::from(got) - expect);
            let farthest = off.map(f64::abs).fold(0.0, f64::max);
            prop_assert!(farthest <= 2.0, "{} levels off", farthest);
        }
    }

    #[test]
    fn one_colour_stays_and_noise_becomes_neither_brighter_nor_darker() {
        for colour in [[0, 0, 0], [255, 255, 255], [1, 128, 254]] {
            assert!(halved(&colour.repeat(16 * 8), (16, 8)).chunks(3).all(|pixel| pixel == colour));
        }
        let noise: Vec<u8> =
            (0..256 * 256 * 3u32).map(|n| (n.wrapping_mul(2_654_435_761).rotate_left(9) >> 24) as u8).collect();
        let mean = |bytes: &[u8]| bytes.iter().map(|byte| f64::from(*byte)).sum::<f64>() / bytes.len() as f64;
        let off = mean(&halved(&noise, (256, 256))) - mean(&noise);
        assert!(off.abs() < 0.3, "{off} levels brighter");
    }

    #[test]
    fn what_cannot_be_halved_is_said() {
        for (size, expect) in [((2, 2), true), ((768, 576), true), ((3, 2), false), ((2, 3), false), ((0, 2), false)] {
            assert_eq!(Halver::can(size), expect, "{size:?}");
        }
    }
}
