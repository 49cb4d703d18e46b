//! Who gets what: the assignment of columns to rows with the greatest total benefit.
//!
//! The Hungarian method by shortest augmenting paths (Jonker and Volgenant, 1987), O(n³). Buffers are kept between
//! calls. Nothing here knows boxes or tracks.

/// The method's working memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Assigner {
    /// The answer of the last call.
    pairs: Vec<(usize, usize)>,
    short_potential: Vec<f64>,
    long_potential: Vec<f64>,
    /// For each long index, the short index that holds it.
    holder: Vec<usize>,
    /// For each long index, the one before it on the shortest path.
    came_from: Vec<usize>,
    distance: Vec<f64>,
    visited: Vec<bool>,
}

/// No short index: a long index that is free.
const NONE: usize = usize::MAX;

impl Assigner {
    /// Pairs rows with columns, each at most once, so that the sum of `benefit(row, column)` is greatest. Benefits are
    /// finite; a pair with none (0 or less) is never made. The pairs come in the order of the rows.
    pub(crate) fn solve(
        &mut self,
        rows: usize,
        columns: usize,
        benefit: impl Fn(usize, usize) -> f64,
    ) -> &[(usize, usize)] {
        let cost = |row, column| -benefit(row, column).max(0.0);
        // The method wants no more rows than columns: the shorter side is matched whole, the longer is picked from.
        if rows <= columns {
            self.match_short(rows, columns, cost);
        } else {
            self.match_short(columns, rows, |short, long| cost(long, short));
        }
        let pairs = self.holder.iter().take(rows.max(columns)).enumerate();
        let pairs = pairs.filter(|&(_, &short)| short != NONE);
        self.pairs.clear();
        self.pairs.extend(pairs.map(|(long, &short)| if rows <= columns { (short, long) } else { (long, short) }));
        self.pairs.retain(|&(row, column)| benefit(row, column) > 0.0);
        self.pairs.sort_unstable();
        &self.pairs
    }

    /// Gives each short index its long index at the least total cost. `holder[longs]` stands for the short index that is
    /// being placed: each path begins there and ends at a long index that is free.
    fn match_short(&mut self, shorts: usize, longs: usize, cost: impl Fn(usize, usize) -> f64) {
        reset(&mut self.short_potential, shorts, 0.0);
        reset(&mut self.long_potential, longs + 1, 0.0);
        reset(&mut self.holder, longs + 1, NONE);
        reset(&mut self.came_from, longs + 1, longs);
        for short in 0..shorts {
            self.holder[longs] = short;
            let mut end = self.shortest_path(longs, &cost);
            // Along the path everybody moves up by one.
            while end != longs {
                let before = self.came_from[end];
                self.holder[end] = self.holder[before];
                end = before;
            }
        }
    }

    /// Dijkstra's search, in reduced costs, from the virtual long index `longs` to the nearest free one.
    fn shortest_path(&mut self, longs: usize, cost: &impl Fn(usize, usize) -> f64) -> usize {
        reset(&mut self.distance, longs, f64::INFINITY);
        reset(&mut self.visited, longs + 1, false);
        let mut current = longs;
        while self.holder[current] != NONE {
            self.visited[current] = true;
            let short = self.holder[current];
            let (mut nearest, mut step) = (longs, f64::INFINITY);
            for long in (0..longs).filter(|&long| !self.visited[long]) {
                let reduced = cost(short, long) - self.short_potential[short] - self.long_potential[long];
                if reduced < self.distance[long] {
                    (self.distance[long], self.came_from[long]) = (reduced, current);
                }
                if self.distance[long] < step {
                    (nearest, step) = (long, self.distance[long]);
                }
            }
            for long in 0..=longs {
                if self.visited[long] {
                    self.short_potential[self.holder[long]] += step;
                    self.long_potential[long] -= step;
                } else {
                    self.distance[long] -= step;
                }
            }
            current = nearest;
        }
        current
    }
}

fn reset<T: Clone>(buffer: &mut Vec<T>, count: usize, value: T) {
    buffer.clear();
    buffer.resize(count, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn solved(table: &[Vec<f32>]) -> Vec<(usize, usize)> {
        let columns = table.first().map_or(0, Vec::len);
        Assigner::default().solve(table.len(), columns, |row, column| f64::from(table[row][column])).to_vec()
    }

    /// Every way there is, by recursion over the rows; a row may stay alone.
    fn best_by_force(table: &[Vec<f32>], taken: &mut Vec<usize>) -> f64 {
        let Some((row, rest)) = table.split_first() else { return 0.0 };
        let mut best = best_by_force(rest, taken);
        for (column, &benefit) in row.iter().enumerate() {
            if benefit > 0.0 && !taken.contains(&column) {
                taken.push(column);
                best = best.max(f64::from(benefit) + best_by_force(rest, taken));
                taken.pop();
            }
        }
        best
    }

    #[test]
    fn the_total_counts_and_not_the_first_best_pair() {
        for (table, expect) in [
            (vec![], vec![]),
            (vec![vec![], vec![]], vec![]),
            (vec![vec![0.0, -1.0]], vec![]),
            // Greedy would take 0.9 and be left with nothing for the second row.
            (vec![vec![0.9, 0.8], vec![0.7, 0.0]], vec![(0, 1), (1, 0)]),
            (vec![vec![0.1, 0.5, 0.3]], vec![(0, 1)]),
            (vec![vec![0.1], vec![0.5], vec![0.3]], vec![(1, 0)]),
        ] {
            assert_eq!(solved(&table), expect, "{table:?}");
        }
    }

    #[test]
    fn a_full_table_of_the_largest_size_is_solved() {
        const SIZE: usize = 100;
        let table: Vec<Vec<f32>> = (0..SIZE)
            .map(|row| (0..SIZE).map(|column| 1.0 / (1.0 + (row as f32 - (SIZE - 1 - column) as f32).abs())).collect())
            .collect();
        assert_eq!(solved(&table), (0..SIZE).map(|row| (row, SIZE - 1 - row)).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn no_assignment_is_better(
            (rows, columns) in (1usize..7, 1usize..7),
            // Few different values, so that ties and forbidden pairs are common.
            values in proptest::collection::vec(-3i8..8, 36),
        ) {
            let table: Vec<Vec<f32>> =
                (0..rows).map(|r| (0..columns).map(|c| f32::from(values[r * 6 + c]) / 8.0).collect()).collect();
            let pairs = solved(&table);
            let total: f64 = pairs.iter().map(|&(row, column)| f64::from(table[row][column])).sum();
            prop_assert!((total - best_by_force(&table, &mut Vec::new())).abs() < 1e-9, "{table:?} {pairs:?}");
            let mut used: Vec<_> = pairs.iter().map(|pair| pair.1).collect();
            used.sort_unstable();
            used.dedup();
            prop_assert_eq!(used.len(), pairs.len(), "a column was given twice");
        }
    }
}
