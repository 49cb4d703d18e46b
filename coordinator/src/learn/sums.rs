//! The sums of STAR-SGD, arranged so that a processor can make several at once without changing the order of any: products of one
//! row with eight others side by side, and means and sorted columns for a block of coordinates at a time. Pure.

/// Coordinates that are mixed at once: with a hundred rows what they need stays in a processor's second cache.
const BLOCK: usize = 64;

/// The length of a row.
pub fn norm(row: &[f32]) -> f64 {
    dots(row, [row])[0].sqrt()
}

/// The products of one row with some others, each summed in the order of the coordinates.
pub fn dots<const N: usize>(row: &[f32], others: [&[f32]; N]) -> [f64; N] {
    let mut sums = [0.0; N];
    for (at, x) in row.iter().enumerate() {
        let x = f64::from(*x);
        for (sum, other) in sums.iter_mut().zip(&others) {
            *sum += x * f64::from(other[at]);
        }
    }
    sums
}

/// How rows become one step.
pub struct Mixer<'a> {
    /// Each row and its factor.
    rows: Vec<(&'a [f32], f64)>,
    /// For each row those that it is mixed with, in order; nothing where the plain mean is asked for.
    nearest: Option<Vec<Vec<usize>>>,
    /// Of each coordinate so many lowest and highest are left out.
    trimmed: usize,
}

impl<'a> Mixer<'a> {
    /// The mean.
    pub fn mean(rows: Vec<(&'a [f32], f64)>) -> Mixer<'a> {
        Mixer { rows, nearest: None, trimmed: 0 }
    }

    /// Each row mixed with all but the `f` that are farthest from it, then the mean without the `f` extremes of each coordinate.
    /// `product` gives that of two rows, factors included; of equal distances the lower index is nearer.
    pub fn nearest(rows: Vec<(&'a [f32], f64)>, f: usize, product: impl Fn(usize, usize) -> f64) -> Mixer<'a> {
        let n = rows.len();
        let own: Vec<f64> = (0..n).map(|i| product(i, i)).collect();
        let nearest = |i: usize| {
            let distance = |j: usize| (own[i] + own[j] - 2.0 * product(i, j)).max(0.0);
            let mut others: Vec<(f64, usize)> = (0..n).map(|j| (distance(j), j)).collect();
            others.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let mut near: Vec<usize> = others[..n - f].iter().map(|(_, j)| *j).collect();
            near.sort_unstable();
            near
        };
        let trimmed = if 2 * f.max(1) >= n { (n - 1) / 2 } else { f.max(1) };
        Mixer { nearest: Some((0..n).map(nearest).collect()), rows, trimmed }
    }

    /// The step, as many coordinates as a row has.
    pub fn step(&self, parameters: usize) -> Vec<f64> {
        let mut step = vec![0.0; parameters];
        let mut scaled = vec![[0.0; BLOCK]; self.rows.len()];
        let mut mixed = scaled.clone();
        for (block, step) in step.chunks_mut(BLOCK).enumerate() {
            let (first, width) = (block * BLOCK, step.len());
            for ((row, factor), scaled) in self.rows.iter().zip(&mut scaled) {
                for (x, scaled) in row[first..first + width].iter().zip(scaled) {
                    *scaled = f64::from((f64::from(*x) * factor) as f32);
                }
            }
            match &self.nearest {
                None => self.mean_of(&scaled, 0, &mut step[..]),
                Some(nearest) => {
                    for (mixed, near) in mixed.iter_mut().zip(nearest) {
                        mixed.fill(0.0);
                        for other in near {
                            add(mixed, &scaled[*other]);
                        }
                        mixed.iter_mut().for_each(|x| *x /= near.len() as f64);
                    }
                    sort_columns(&mut mixed);
                    self.mean_of(&mixed, self.trimmed, step);
                }
            }
        }
        step
    }

    fn mean_of(&self, rows: &[[f64; BLOCK]], left_out: usize, step: &mut [f64]) {
        let mut sum = [0.0; BLOCK];
        let kept = rows.len().saturating_sub(2 * left_out);
        for row in &rows[left_out..left_out + kept] {
            add(&mut sum, row);
        }
        for (step, sum) in step.iter_mut().zip(sum) {
            *step = if kept > 0 { sum / kept as f64 } else { 0.0 };
        }
    }
}

fn add(sum: &mut [f64; BLOCK], row: &[f64; BLOCK]) {
    for (sum, x) in sum.iter_mut().zip(row) {
        *sum += x;
    }
}

/// Sorts each column, by Batcher's odd-even merging network (Knuth, volume 3, algorithm 5.2.2M): which two rows are compared does
/// not depend on what is in them, so a whole block of columns is compared at once.
fn sort_columns(rows: &mut [[f64; BLOCK]]) {
    let n = rows.len();
    let top = n.next_power_of_two() / 2;
    let mut p = top;
    while p > 0 {
        let (mut q, mut r, mut d) = (top, 0, p);
        loop {
            for i in (0..n.saturating_sub(d)).filter(|i| i & p == r) {
                let (low, high) = rows.split_at_mut(i + d);
                for (a, b) in low[i].iter_mut().zip(&mut high[0]) {
                    let swap = *b < *a;
                    (*a, *b) = if swap { (*b, *a) } else { (*a, *b) };
                }
            }
            if q == p {
                break;
            }
            (d, q, r) = (q - p, q / 2, p);
        }
        p /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::random::SplitMix64;

    #[test]
    fn columns_of_any_number_of_rows_are_sorted() {
        let mut random = SplitMix64::new(1);
        for n in 0..70 {
            let mut rows: Vec<[f64; BLOCK]> =
                (0..n).map(|_| std::array::from_fn(|_| random.below(20) as f64)).collect();
            let mut columns: Vec<Vec<f64>> = (0..BLOCK).map(|c| rows.iter().map(|row| row[c]).collect()).collect();
            columns.iter_mut().for_each(|column| column.sort_by(f64::total_cmp));
            sort_columns(&mut rows);
            for (c, column) in columns.iter().enumerate() {
                assert_eq!(&rows.iter().map(|row| row[c]).collect::<Vec<_>>(), column, "{n} rows");
            }
        }
    }

    #[test]
    fn products_are_summed_in_order() {
        let mut random = SplitMix64::new(2);
        let rows: Vec<Vec<f32>> = (0..8).map(|_| (0..1003).map(|_| random.normals()[0] as f32).collect()).collect();
        let all = dots(&rows[0], std::array::from_fn::<_, 8, _>(|n| &*rows[n]));
        for (row, product) in rows.iter().zip(all) {
            let one = rows[0].iter().zip(row).fold(0.0, |sum, (a, b)| sum + f64::from(*a) * f64::from(*b));
            assert_eq!(product.to_bits(), one.to_bits());
        }
    }
}
