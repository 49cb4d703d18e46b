//! Values that a tensor's weights share: k-means in one dimension, begun at even distances, which keeps the large weights
//! (Han, Mao, Dally, "Deep Compression", 2016, section 3.2). Zero, if there is any, keeps a value of its own.

use picket_shared::compress::SHARED_VALUES_MAX;

/// Rounds after which nothing moves much.
const ROUNDS: usize = 25;

/// At most `count` values, and for each number which of them it has.
pub fn cluster(numbers: &[f32], count: usize) -> (Vec<f32>, Vec<i32>) {
    let count = count.clamp(1, SHARED_VALUES_MAX - 1);
    let others: Vec<f32> = numbers.iter().copied().filter(|number| *number != 0.0).collect();
    let (low, high) = others.iter().fold((f32::MAX, f32::MIN), |(low, high), n| (low.min(*n), high.max(*n)));
    let mut values: Vec<f32> = match others.is_empty() {
        true => vec![],
        false => (0..count).map(|at| low + (high - low) * at as f32 / (count - 1).max(1) as f32).collect(),
    };
    for _ in 0..ROUNDS {
        let mut sums = vec![(0f64, 0u32); values.len()];
        for number in &others {
            let sum = &mut sums[nearest(&values, *number)];
            *sum = (sum.0 + f64::from(*number), sum.1 + 1);
        }
        values
            .iter_mut()
            .zip(sums)
            .filter(|(_, (_, n))| *n > 0)
            .for_each(|(v, (sum, n))| *v = (sum / f64::from(n)) as f32);
        values.sort_by(f32::total_cmp);
    }
    let zero = (others.len() < numbers.len()).then_some(values.len() as i32);
    let of = |number: &f32| zero.filter(|_| *number == 0.0).unwrap_or_else(|| nearest(&values, *number) as i32);
    let chosen = numbers.iter().map(of).collect();
    values.extend(zero.map(|_| 0.0));
    (values, chosen)
}

/// The nearest of values that go up.
fn nearest(values: &[f32], number: f32) -> usize {
    let above = values.partition_point(|value| *value < number);
    match above.checked_sub(1) {
        Some(below) if above == values.len() || number - values[below] <= values[above] - number => below,
        _ => above,
    }
}
